//! Arguments as a careless C program gives them: what an input says, within what the header forbids to nobody.
//!
//! An address is null, misaligned, or leads to what is there: about any other the library can know nothing.

use std::ffi::{CString, c_char};
use std::ptr;

use mq::{LIBMQ_NONE, libmq_handler, libmq_header, libmq_message};

use super::callbacks;
use crate::input::Input;

/// Texts for queues, keys, and everything else.
const TEXTS: &[&[u8]] = &[
    b"jobs",
    b"mail",
    b"k",
    b"",
    b"a b",
    b"\xff\xfe",
    b"line\nbreak",
    b".",
    b":memory:",
    b"text/plain",
    b"traceparent",
    b"/proc/none/at/all",
];

/// Numbers at which something changes.
const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    5,
    9,
    10,
    64,
    1000,
    65536,
    1 << 30,
    1 << 40,
    -2,
    i64::MAX,
    i64::MIN,
    316_224_000_000,
    316_224_000_001,
];

/// Words and names of options.
pub(super) const OPTIONS: &[&[u8]] = &[
    b"capacity",
    b"max_bytes",
    b"max_message_bytes",
    b"max_batch_bytes",
    b"max_dead_letters",
    b"block_timeout_ms",
    b"snapshot_interval_ms",
    b"snapshot_threshold",
    b"segment_bytes",
    b"cache_bytes",
    b"sync_interval_ms",
    b"default_timeout_ms",
    b"default_max_retries",
    b"max_crashes",
    b"default_backoff_base_ms",
    b"default_backoff_cap_ms",
    b"default_backoff_factor_permille",
    b"default_backoff_jitter_permille",
    b"durability",
    b"on_full",
    b"on_corruption",
    b"clock",
    b"no such",
];

/// What options are set to by word.
pub(super) const WORDS: &[&[u8]] =
    &[b"sync", b"os", b"memory", b"fail", b"refuse", b"quarantine", b"system", b"manual", b"no"];

/// What arguments point to: kept until the sequence has ended.
#[derive(Debug, Default)]
pub(super) struct Arena {
    texts: Vec<CString>,
    bodies: Vec<Box<[u8]>>,
    headers: Vec<Box<[libmq_header]>>,
}

impl Arena {
    fn keep(&mut self, text: &[u8]) -> *const c_char {
        let text = CString::new(text).expect("no text has a NUL");
        // A string's bytes stay where they are when the list grows.
        self.texts.push(text);
        self.texts.last().map_or(ptr::null(), |text| text.as_ptr())
    }

    /// One of some texts.
    pub(super) fn of(&mut self, input: &mut Input<'_>, texts: &[&[u8]]) -> *const c_char {
        match usize::from(input.u8()) {
            0xff => ptr::null(),
            0xfe => self.keep(&[b'x'; 4200]),
            0xfd => self.keep(&[b'x'; 257]),
            number => self.keep(texts[number % texts.len()]),
        }
    }

    pub(super) fn text(&mut self, input: &mut Input<'_>) -> *const c_char {
        self.of(input, TEXTS)
    }

    /// A text, or more often none.
    fn seldom(&mut self, input: &mut Input<'_>) -> *const c_char {
        if input.u8() < 160 { ptr::null() } else { self.text(input) }
    }

    fn body(&mut self, input: &mut Input<'_>) -> (*const u8, usize) {
        match input.u8() {
            0xff => (ptr::null(), 3),
            0xfe => (ptr::null(), 0),
            // Beyond every limit, so that nothing is read.
            0xfd => (ptr::without_provenance(8), usize::MAX),
            length => {
                self.bodies.push(vec![length; length.into()].into());
                (self.bodies.last().map_or(ptr::null(), |body| body.as_ptr()), length.into())
            }
        }
    }

    pub(super) fn message(&mut self, input: &mut Input<'_>) -> libmq_message {
        let struct_size = size(input, size_of::<libmq_message>());
        let (body, body_len) = self.body(input);
        let small = |input: &mut Input<'_>| i32::from(input.u8().cast_signed() / 16);
        let headers: Box<[libmq_header]> = (0..input.u8() / 64)
            .map(|_| libmq_header { name: self.text(input), value: self.text(input) })
            .collect();
        self.headers.push(headers);
        let headers = self.headers.last().map_or(&[][..], |headers| headers);
        let (headers, headers_len) = (headers.as_ptr(), headers.len());
        libmq_message {
            struct_size,
            dedup: small(input),
            priority: small(input),
            durability: small(input),
            body: body.cast(),
            body_len,
            content_type: self.seldom(input),
            dedup_key: self.seldom(input),
            correlation_id: self.seldom(input),
            group: self.seldom(input),
            headers,
            headers_len,
            delay_ms: seldom(input),
            run_at_ms: seldom(input),
            expires_in_ms: seldom(input),
            dedup_window_ms: seldom(input),
        }
    }
}

/// A struct's size as it says: right, or anything that can be read there or is refused before.
pub(super) fn size(input: &mut Input<'_>, right: usize) -> u32 {
    let right = u32::try_from(right).expect("structs are small");
    match input.u8() {
        0xff => 0,
        0xfe => 8,
        0xfd => u32::MAX,
        0xfc => right - 8,
        0xfb => 7,
        _ => right,
    }
}

pub(super) fn number(input: &mut Input<'_>) -> i64 {
    match usize::from(input.u8()) {
        0xff => input.u64().cast_signed(),
        number => NUMBERS[number % NUMBERS.len()],
    }
}

/// A number, or more often zero.
fn seldom(input: &mut Input<'_>) -> i64 {
    if input.u8() < 160 { 0 } else { number(input) }
}

/// A time to wait that is over soon, or is none: nobody would end a longer one.
pub(super) fn soon(input: &mut Input<'_>) -> i64 {
    match input.u8() {
        0xff => -2,
        0xfe => i64::MIN,
        number => i64::from(number % 2),
    }
}

pub(super) fn small(input: &mut Input<'_>) -> i32 {
    number(input).clamp(i32::MIN.into(), i32::MAX.into()).try_into().expect("clamped")
}

/// A handler whose calls end soon, whatever else it says.
pub(super) fn handler(input: &mut Input<'_>) -> libmq_handler {
    let struct_size = size(input, size_of::<libmq_handler>());
    let told = input.u8();
    libmq_handler {
        struct_size,
        // Threads are not what is looked for here.
        max_parallelism: i32::from(input.u8() % 4) - 1,
        min_parallelism: i32::from(input.u8() % 4) - 1,
        max_retries: small(input),
        no_lease_extension: (input.u8() % 2).into(),
        timeout_ms: seldom(input),
        cancel_grace_ms: LIBMQ_NONE.into(),
        backoff_base_ms: seldom(input),
        backoff_cap_ms: seldom(input),
        backoff_factor_permille: seldom(input).clamp(-1, 2_000_000).try_into().expect("clamped"),
        backoff_jitter_permille: seldom(input).clamp(-2, 2000).try_into().expect("clamped"),
        ctx: ptr::without_provenance_mut(told.into()),
        handle: (told != 0xff).then_some(callbacks::handle),
        drop: (told & 1 == 1).then_some(callbacks::dropped),
    }
}
