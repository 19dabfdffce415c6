//! Dead letters: messages that will not be tried again.

use std::ffi::{c_char, c_void};
use std::ptr;

use libmq::{DeadLetter, Error, ErrorKind, limits};

use crate::boundary;
use crate::delivery::{address, since_epoch_ms};
use crate::from_c::from_c;
use crate::handles::{Handle, ListedLetter, libmq_broker, libmq_dead_letters, libmq_error};
use crate::message::libmq_receipt;
use crate::status::libmq_status;
use crate::texts::Texts;

/// Lists up to `limit` dead letters of a queue, or with NULL of all, with ids above `after_id` (0: from the first), in the
/// order of their ids.
///
/// Any thread. The caller frees the list, which is a copy: it stays as it is. Answers `LIBMQ_E_INVALID` for a name that is
/// none, `LIBMQ_E_CLOSED`, `LIBMQ_E_IO`, `LIBMQ_E_CORRUPT`. On failure `*out` is NULL.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_dead_letters_list(
    broker: *mut libmq_broker,
    queue_or_null: *const c_char,
    limit: usize,
    after_id: u64,
    out: *mut *mut libmq_dead_letters,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.emptied("out", out, ptr::null_mut());
    boundary::broker(&c, broker, err, |open| {
        let out = out?;
        let queue = c.queue_or_all(queue_or_null)?;
        let letters = open.broker.dead_letters().list(queue, limit, Some(after_id))?;
        out.write(libmq_dead_letters::give(listed(letters))?);
        Ok(())
    })
}

/// Frees a list. Does nothing for NULL, or for what was freed before.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letters_free(letters: *mut libmq_dead_letters) {
    boundary::free(letters);
}

/// How many there are in the list. 0 if this is none.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letters_len(letters: *const libmq_dead_letters) -> usize {
    boundary::value(letters, 0, |letters| Some(letters.len()))
}

/// The message's id. 0 if there is none at `i`.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letter_id(letters: *const libmq_dead_letters, i: usize) -> u64 {
    boundary::value(letters, 0, |letters| Some(letters.get(i)?.letter.id()))
}

/// Its queue. NULL if there is none at `i`.
///
/// Any thread. Valid until the list is freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letter_queue(
    letters: *const libmq_dead_letters,
    i: usize,
) -> *const c_char {
    text(letters, i, QUEUE)
}

/// The text given to a reject, or "max_retries", "crashed", "expired", "decode" or "corrupt". NULL if there is none at `i`.
///
/// Any thread. Valid until the list is freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letter_reason(
    letters: *const libmq_dead_letters,
    i: usize,
) -> *const c_char {
    text(letters, i, REASON)
}

/// The last failure's text, which may be empty. NULL if there is none at `i`.
///
/// Any thread. Valid until the list is freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letter_error(
    letters: *const libmq_dead_letters,
    i: usize,
) -> *const c_char {
    text(letters, i, ERROR)
}

/// How often a handler was entered and did not give it back; crashes count here. 0 if there is none at `i`.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letter_attempts(letters: *const libmq_dead_letters, i: usize) -> u32 {
    boundary::value(letters, 0, |letters| Some(letters.get(i)?.letter.attempts()))
}

/// The body; `*len`, which may be NULL, is its length. An empty body is an address all the same, with a NUL there. NULL if
/// there is none at `i`, with a length of 0.
///
/// Any thread. Valid until the list is freed.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_dead_letter_body(
    letters: *const libmq_dead_letters,
    i: usize,
    len: *mut usize,
) -> *const c_void {
    let body = boundary::value(letters, (ptr::null(), 0), |letters| {
        Some(address(letters.get(i)?.letter.body()))
    });
    let c = from_c!();
    if let Some(len) = c.place(len) {
        len.write(body.1);
    }
    body.0
}

/// When it became a dead letter, in milliseconds since 1970-01-01 UTC. -1 if there is none at `i`.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letter_failed_at_ms(
    letters: *const libmq_dead_letters,
    i: usize,
) -> i64 {
    boundary::value(letters, -1, |letters| Some(since_epoch_ms(letters.get(i)?.letter.failed_at())))
}

/// Finds one dead letter by its id: a list of one.
///
/// Any thread. The caller frees the list. Answers `LIBMQ_E_NOT_FOUND`, and what `libmq_dead_letters_list` answers. On
/// failure `*out` is NULL.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_dead_letters_get(
    broker: *mut libmq_broker,
    id: u64,
    out: *mut *mut libmq_dead_letters,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.emptied("out", out, ptr::null_mut());
    boundary::broker(&c, broker, err, |open| {
        let out = out?;
        let letter = open.broker.dead_letters().get(id)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}"))
        })?;
        out.write(libmq_dead_letters::give(listed(vec![letter]))?);
        Ok(())
    })
}

/// The id that follows the work from message to message. NULL if there is none.
///
/// Any thread. Valid until the list is freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_dead_letter_correlation_id(
    letters: *const libmq_dead_letters,
    i: usize,
) -> *const c_char {
    text(letters, i, CORRELATION_ID)
}

/// The value of the first header of this name. NULL if there is none.
///
/// Any thread. Valid until the list is freed.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_dead_letter_header(
    letters: *const libmq_dead_letters,
    i: usize,
    name: *const c_char,
) -> *const c_char {
    let c = from_c!();
    boundary::value(letters, ptr::null(), |letters| {
        let name = c.text("name", name, limits::HEADER_NAME_BYTES_MAX).ok()??;
        let listed = letters.get(i)?;
        let index = listed.letter.headers().position(|(found, _)| found == name)?;
        Some(listed.texts.header(index)?.1)
    })
}

/// Enqueues a dead letter again, under a new id, with no attempts, its old key and `LIBMQ_DEDUP_KEEP`. Where the key is
/// taken, the receipt says `LIBMQ_DUPLICATE` and the dead letter stays.
///
/// Any thread. `out` may be NULL. Answers `LIBMQ_E_NOT_FOUND`, and what `libmq_enqueue` answers.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_dead_letter_replay(
    broker: *mut libmq_broker,
    id: u64,
    out: *mut libmq_receipt,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.optional_emptied("out", out, libmq_receipt::NONE);
    boundary::broker(&c, broker, err, |open| {
        let out = out?;
        let receipt = open.broker.dead_letters().replay(id)?;
        if let Some(out) = out {
            out.write(receipt.into());
        }
        Ok(())
    })
}

/// Replays the dead letters of a queue, or with NULL all; `*out_n` is how many are dead letters no more, 0 on
/// failure.
///
/// Any thread. `out_n` may be NULL. Answers `LIBMQ_E_INVALID` for a name that is none, and as
/// `libmq_dead_letter_replay`; what was replayed before a failure stays so.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_dead_letters_replay_all(
    broker: *mut libmq_broker,
    queue_or_null: *const c_char,
    out_n: *mut u64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out_n = c.optional_emptied("out_n", out_n, 0);
    boundary::broker(&c, broker, err, |open| {
        let out_n = out_n?;
        let replayed = open.broker.dead_letters().replay_all(c.queue_or_all(queue_or_null)?)?;
        if let Some(out_n) = out_n {
            out_n.write(replayed);
        }
        Ok(())
    })
}

/// Removes the dead letters of a queue, or with NULL all; `*out_n` is how many, 0 on failure.
///
/// Any thread. `out_n` may be NULL. Answers `LIBMQ_E_INVALID` for a name that is none, `LIBMQ_E_STORAGE_FULL`,
/// `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_dead_letters_purge(
    broker: *mut libmq_broker,
    queue_or_null: *const c_char,
    out_n: *mut u64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out_n = c.optional_emptied("out_n", out_n, 0);
    boundary::broker(&c, broker, err, |open| {
        let out_n = out_n?;
        let purged = open.broker.dead_letters().purge(c.queue_or_all(queue_or_null)?)?;
        if let Some(out_n) = out_n {
            out_n.write(purged);
        }
        Ok(())
    })
}

/// Places of the fixed texts.
const QUEUE: usize = 0;
const REASON: usize = 1;
const ERROR: usize = 2;
const CORRELATION_ID: usize = 3;

fn listed(letters: Vec<DeadLetter>) -> Vec<ListedLetter> {
    letters.into_iter().map(ListedLetter::new).collect()
}

impl ListedLetter {
    fn new(letter: DeadLetter) -> Self {
        let fixed = [
            Some(letter.queue()),
            Some(letter.reason()),
            Some(letter.error()),
            letter.correlation_id(),
        ];
        let texts = Texts::new(&fixed, || letter.headers());
        Self { letter, texts }
    }
}

fn text(letters: *const libmq_dead_letters, i: usize, place: usize) -> *const c_char {
    boundary::value(letters, ptr::null(), |letters| letters.get(i)?.texts.fixed(place))
}
