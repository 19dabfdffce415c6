//! The calls themselves: a byte says which, those behind it with what.

use std::ffi::c_int;
use std::{ptr, slice};

use mq::*;

use super::arguments::{Arena, OPTIONS, WORDS, handler, number, size, small, soon};
use super::callbacks;
use super::world::{Kind, World, free, text};
use crate::input::Input;

/// More would only make an input slow.
const CALLS_MAX: usize = 64;
const BROKERS_MAX: usize = 3;
const RECEIVED_MAX: usize = 4;

/// Makes a call that can fail, and holds its answer against what every call answers.
macro_rules! call {
    ($world:expr, $input:expr, $function:ident($($argument:expr),*)) => {
        // SAFETY: every address is null, misaligned, or of what is there until the call returns.
        $world.call($input, |err| unsafe { $function($($argument,)* err) })
    };
}

/// A sequence of calls.
pub(crate) fn calls(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mut world, mut arena) = (World::default(), Arena::default());
    for _ in 0..CALLS_MAX {
        if input.is_empty() {
            break;
        }
        call(&mut world, &mut arena, &mut input);
    }
    world.free();
}

/// Makes the next call.
fn call(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    match input.u8() % 8 {
        0 => open(world, arena, input),
        1 => configure(world, arena, input),
        2 | 3 => enqueue(world, arena, input),
        4 => receive(world, arena, input),
        5 => settle(world, arena, input),
        6 => administer(world, arena, input),
        _ => read(world, arena, input),
    }
}

fn open(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    let what = input.u8() % 8;
    if what > 3 && world.opened < BROKERS_MAX {
        world.opened += 1;
        let mut out = ptr::without_provenance_mut(1);
        let options = world.handle(input, Kind::Options);
        let path = if what == 7 { arena.text(input) } else { c":memory:".as_ptr() };
        // A relative path would make a directory where the program was started.
        let path =
            if text_is(path, &[":memory:", "/proc/none/at/all", ""]) { path } else { ptr::null() };
        let status = call!(world, input, libmq_broker_open(path, options, &raw mut out));
        assert_eq!(out.is_null(), status != LIBMQ_OK);
        world.gave(Kind::Broker, out);
        return;
    }
    let broker = world.handle(input, Kind::Broker);
    let time = soon(input);
    match what {
        0 => _ = call!(world, input, libmq_broker_start(broker)),
        1 => _ = call!(world, input, libmq_broker_stop(broker, time)),
        2 => _ = call!(world, input, libmq_broker_close(broker, time)),
        3 => _ = call!(world, input, libmq_broker_wait_idle(broker, time)),
        _ => {
            let kinds = [Kind::Broker, Kind::Delivery, Kind::Error, Kind::Options, Kind::Letters];
            let kind = kinds[usize::from(input.u8()) % kinds.len()];
            free(kind, world.handle::<u8>(input, kind).addr());
        }
    }
}

fn text_is(path: *const std::ffi::c_char, wanted: &[&str]) -> bool {
    // SAFETY: null, or a string of the arena's.
    !path.is_null()
        && unsafe { std::ffi::CStr::from_ptr(path) }
            .to_str()
            .is_ok_and(|path| wanted.contains(&path))
}

fn configure(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    let options = world.handle(input, Kind::Options);
    match input.u8() % 5 {
        0 => world.gave(Kind::Options, libmq_options_new()),
        1 | 2 => {
            let (name, value) = (arena.of(input, OPTIONS), number(input));
            // What a program asks for itself is its own affair, and would only be slow here.
            let value = if value > 1 << 20 { value.max(1 << 50) } else { value };
            call!(world, input, libmq_options_set_int(options, name, value));
        }
        3 => {
            let (name, word) = (arena.of(input, OPTIONS), arena.of(input, WORDS));
            call!(world, input, libmq_options_set_str(options, name, word));
        }
        _ => {
            let hook: libmq_log_fn = (input.u8() < 200).then_some(callbacks::log);
            call!(world, input, libmq_options_set_log(options, hook, ptr::null_mut()));
        }
    }
}

fn enqueue(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    let broker = world.handle(input, Kind::Broker);
    let queue = arena.text(input);
    let none = libmq_receipt { id: 7, status: 7 };
    match input.u8() % 8 {
        0 => {
            let handler = handler(input);
            call!(world, input, libmq_handle(broker, queue, &raw const handler));
        }
        1 => {
            let batch: Vec<libmq_message> =
                (0..input.u8() % 4).map(|_| arena.message(input)).collect();
            let mut out = [none; 4];
            let (place, count) = match input.u8() {
                0xff => (ptr::null(), batch.len()),
                0xfe => (batch.as_ptr(), usize::MAX),
                0xfd => (batch.as_ptr().wrapping_byte_add(1), batch.len()),
                _ => (batch.as_ptr(), batch.len()),
            };
            let status = call!(
                world,
                input,
                libmq_enqueue_batch(broker, queue, place, count, out.as_mut_ptr())
            );
            if count <= batch.len() {
                for receipt in &out[..count] {
                    assert_eq!(receipt.id == 0 && receipt.status == 0, status != LIBMQ_OK);
                    world.gave_id(receipt.id);
                }
            }
        }
        2 => {
            let message = arena.message(input);
            let done: libmq_enqueued_fn = (input.u8() < 240).then_some(callbacks::enqueued);
            call!(
                world,
                input,
                libmq_enqueue_async(broker, queue, &raw const message, done, ptr::null_mut())
            );
        }
        3 => {
            let (delivery, message) = (world.handle(input, Kind::Delivery), arena.message(input));
            call!(world, input, libmq_delivery_enqueue(delivery, queue, &raw const message));
        }
        _ => {
            let (message, mut out) = (arena.message(input), none);
            let place = if input.u8() < 240 { &raw const message } else { ptr::null() };
            let status = call!(world, input, libmq_enqueue(broker, queue, place, &raw mut out));
            assert_eq!(out.id == 0 && out.status == 0, status != LIBMQ_OK);
            world.gave_id(out.id);
        }
    }
}

fn receive(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    let broker = world.handle(input, Kind::Broker);
    let (queue, time, lease) = (arena.text(input), soon(input), number(input));
    if input.u8() < 200 {
        let mut out = ptr::without_provenance_mut(1);
        let status = call!(world, input, libmq_receive(broker, queue, time, lease, &raw mut out));
        assert_eq!(out.is_null(), status != LIBMQ_OK);
        world.gave(Kind::Delivery, out);
        return;
    }
    let (mut out, mut count) = ([ptr::without_provenance_mut(1); RECEIVED_MAX], 7);
    let max =
        if input.u8() < 240 { usize::from(input.u8()) % (RECEIVED_MAX + 1) } else { usize::MAX };
    let status = call!(
        world,
        input,
        libmq_receive_batch(broker, queue, max, time, lease, out.as_mut_ptr(), &raw mut count)
    );
    assert_eq!(count == 0, status != LIBMQ_OK);
    out[..count].iter().for_each(|delivery| world.gave(Kind::Delivery, *delivery));
}

fn settle(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    let delivery = world.handle(input, Kind::Delivery);
    let (time, why) = (number(input), arena.text(input));
    match input.u8() % 6 {
        0 => _ = call!(world, input, libmq_delivery_extend(delivery, time)),
        1 => _ = call!(world, input, libmq_delivery_retry(delivery, time, why)),
        2 => _ = call!(world, input, libmq_delivery_reject(delivery, why)),
        3 => _ = call!(world, input, libmq_delivery_release(delivery, time)),
        4 => libmq_delivery_free(delivery),
        _ => _ = call!(world, input, libmq_delivery_ack(delivery)),
    }
}

fn administer(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    let broker = world.handle(input, Kind::Broker);
    let (queue, id) = (arena.text(input), world.id(input));
    let mut count = 7;
    match input.u8() % 14 {
        0 => {
            // Each is a thread.
            let many = small(input).min(3);
            call!(world, input, libmq_scale(broker, queue, many));
        }
        1 => _ = call!(world, input, libmq_pause(broker, queue)),
        2 => _ = call!(world, input, libmq_resume(broker, queue)),
        3 => _ = call!(world, input, libmq_cancel(broker, id)),
        4 => {
            let status = call!(world, input, libmq_purge(broker, queue, &raw mut count));
            assert!(status == LIBMQ_OK || count == 0);
        }
        5 => _ = call!(world, input, libmq_snapshot(broker)),
        6 => {
            let to = if input.u8() < 200 { c"/proc/none/at/all".as_ptr() } else { ptr::null() };
            let status = call!(world, input, libmq_backup(broker, to));
            assert_ne!(status, LIBMQ_OK);
        }
        7 => {
            let mut report = ptr::without_provenance_mut(1);
            let path = c"/proc/none/at/all".as_ptr();
            call!(world, input, libmq_verify(path, &raw mut report));
            assert!(report.is_null());
        }
        8 => {
            let time = number(input);
            call!(world, input, libmq_advance(broker, time));
        }
        9 => {
            let (limit, mut out) = (usize::from(input.u8()), ptr::without_provenance_mut(1));
            let status = call!(
                world,
                input,
                libmq_dead_letters_list(broker, queue, limit, id, &raw mut out)
            );
            assert_eq!(out.is_null(), status != LIBMQ_OK);
            world.gave(Kind::Letters, out);
        }
        10 => {
            let mut out = ptr::without_provenance_mut(1);
            let status = call!(world, input, libmq_dead_letters_get(broker, id, &raw mut out));
            assert_eq!(out.is_null(), status != LIBMQ_OK);
            world.gave(Kind::Letters, out);
        }
        11 => {
            let mut out = libmq_receipt { id: 7, status: 7 };
            let status = call!(world, input, libmq_dead_letter_replay(broker, id, &raw mut out));
            assert_eq!(out.id == 0, status != LIBMQ_OK);
            world.gave_id(out.id);
        }
        12 => {
            call!(world, input, libmq_dead_letters_replay_all(broker, queue, &raw mut count));
        }
        _ => _ = call!(world, input, libmq_dead_letters_purge(broker, queue, &raw mut count)),
    }
}

fn read(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    match input.u8() % 7 {
        0 => world.read_error(input),
        1 => read_delivery(world, arena, input),
        2 => read_letters(world, arena, input),
        3 => {
            let (broker, queue) = (world.handle(input, Kind::Broker), arena.text(input));
            // SAFETY: numbers may be zero.
            let mut figures: libmq_metrics = unsafe { std::mem::zeroed() };
            figures.struct_size = size(input, size_of::<libmq_metrics>());
            if figures.struct_size as usize <= size_of::<libmq_metrics>() {
                call!(world, input, libmq_metrics_read(broker, queue, &raw mut figures));
            }
        }
        4 | 5 => {
            let broker = world.handle(input, Kind::Broker);
            let figures = input.u8().is_multiple_of(2);
            let mut out = ptr::without_provenance_mut(1);
            let status = match figures {
                true => call!(world, input, libmq_metrics_text(broker, &raw mut out)),
                false => call!(world, input, libmq_recovery_json(broker, &raw mut out)),
            };
            assert_eq!(text(out).is_none(), status != LIBMQ_OK);
            // SAFETY: once for each.
            unsafe { libmq_string_free(out) };
        }
        _ => {
            let (broker, queue) = (world.handle(input, Kind::Broker), arena.text(input));
            let mut descriptor: c_int = 7;
            let status = call!(world, input, libmq_wakeup_open(broker, queue, &raw mut descriptor));
            assert_eq!(descriptor == -1, status != LIBMQ_OK);
            let closed = if input.u8() < 200 { descriptor } else { small(input) };
            call!(world, input, libmq_wakeup_close(broker, closed));
        }
    }
}

fn read_delivery(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    let delivery: *const libmq_delivery = world.handle(input, Kind::Delivery);
    let mut length = 7;
    // SAFETY: the length has its place.
    let body = unsafe { libmq_delivery_body(delivery, &raw mut length) };
    let (id, token) = (libmq_delivery_id(delivery), libmq_delivery_token(delivery));
    read_bytes(body, length);
    assert!(
        body.is_null() == (id == 0)
            && body.is_null() == (token == 0)
            && (!body.is_null() || length == 0)
    );
    assert_eq!(libmq_delivery_attempt(delivery) == 0, body.is_null());
    libmq_delivery_max_retries(delivery);
    text(libmq_delivery_queue(delivery));
    text(libmq_delivery_content_type(delivery));
    text(libmq_delivery_correlation_id(delivery));
    text(libmq_delivery_cancel_reason(delivery));
    // SAFETY: the name is null or a string.
    text(unsafe { libmq_delivery_header(delivery, arena.text(input)) });
    for index in [0, libmq_delivery_headers_len(delivery), usize::MAX] {
        let header = libmq_delivery_header_at(delivery, index);
        assert_eq!(text(header.name).is_some(), text(header.value).is_some());
    }
    libmq_delivery_enqueued_at_ms(delivery);
    libmq_delivery_deadline_ms(delivery);
}

fn read_letters(world: &mut World, arena: &mut Arena, input: &mut Input<'_>) {
    let letters: *const libmq_dead_letters = world.handle(input, Kind::Letters);
    let count = libmq_dead_letters_len(letters);
    for index in [0, count.wrapping_sub(1), count, usize::MAX] {
        let mut length = 7;
        // SAFETY: the length has its place.
        let body = unsafe { libmq_dead_letter_body(letters, index, &raw mut length) };
        let is_there = index < count;
        assert!(body.is_null() != is_there && (is_there || length == 0));
        read_bytes(body, length);
        assert_eq!(libmq_dead_letter_id(letters, index) != 0, is_there);
        assert_eq!(text(libmq_dead_letter_queue(letters, index)).is_some(), is_there);
        assert_eq!(text(libmq_dead_letter_reason(letters, index)).is_some(), is_there);
        text(libmq_dead_letter_error(letters, index));
        text(libmq_dead_letter_correlation_id(letters, index));
        // SAFETY: the name is null or a string.
        text(unsafe { libmq_dead_letter_header(letters, index, arena.text(input)) });
        libmq_dead_letter_attempts(letters, index);
        libmq_dead_letter_failed_at_ms(letters, index);
    }
}

/// Reads all of a body.
fn read_bytes(body: *const std::ffi::c_void, length: usize) {
    if !body.is_null() {
        // SAFETY: from the library, which says that it is so long.
        let bytes = unsafe { slice::from_raw_parts(body.cast::<u8>(), length) };
        std::hint::black_box(bytes.iter().fold(0, |sum, byte| sum ^ byte));
    }
}
