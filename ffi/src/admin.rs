//! Administration: what is done to a broker while it works.

use std::ffi::{CString, c_char};
use std::ptr;
use std::time::Duration;

use libmq::{Error, ErrorKind, limits};

use crate::boundary;
use crate::broker::PATH_BYTES_MAX;
use crate::from_c::{from_c, invalid};
use crate::handles::{libmq_broker, libmq_error};
use crate::report;
use crate::status::libmq_status;

/// Sets how many of a queue's handler run at once, 1 to 1024, until its next registration or the close. Those that run
/// already, run on.
///
/// Any thread. Answers `LIBMQ_E_INVALID` out of range, `LIBMQ_E_NOT_FOUND` for a queue without a handler, `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_scale(
    broker: *mut libmq_broker,
    queue: *const c_char,
    n: i32,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let (c, given) = (from_c!(), n);
    boundary::broker(&c, broker, err, |open| {
        open.broker.check_open()?;
        let most = limits::PARALLELISM_MAX;
        let n = u32::try_from(n).ok().filter(|n| (1..=most).contains(n));
        let n = n.ok_or_else(|| invalid(format!("n is {given}, but goes from 1 to {most}")))?;
        open.broker.scale(c.queue(queue)?, n)
    })
}

/// Has nothing handed out from a queue, to its handler or to a receive, until `libmq_resume` or the close. What is in
/// flight is not touched; an enqueue goes on.
///
/// Any thread. Answers `LIBMQ_E_INVALID` for a name that is none, `LIBMQ_E_NOT_FOUND` for a queue that nobody has used,
/// `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_pause(
    broker: *mut libmq_broker,
    queue: *const c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    boundary::broker(&c, broker, err, |open| open.broker.pause(c.queue(queue)?))
}

/// Ends a `libmq_pause`, if there is one.
///
/// Any thread. Answers `LIBMQ_E_INVALID` for a name that is none, `LIBMQ_E_NOT_FOUND` for a queue that nobody has used,
/// `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_resume(
    broker: *mut libmq_broker,
    queue: *const c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    boundary::broker(&c, broker, err, |open| open.broker.resume(c.queue(queue)?))
}

/// Ends a message: one that waits is gone, one that somebody holds is cancelled and does not come back, unless it is
/// acked all the same.
///
/// Any thread. Answers `LIBMQ_E_NOT_FOUND` where there is no such message; dead letters are none. `LIBMQ_E_STORAGE_FULL`,
/// `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_cancel(
    broker: *mut libmq_broker,
    id: u64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::broker(&from_c!(), broker, err, |open| {
        if open.broker.cancel(id)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("there is no message {id}")))
    })
}

/// Removes all messages of a queue that nobody holds; `*out_n` is how many, 0 on failure. Dead letters stay.
///
/// Any thread. `out_n` may be NULL. Answers `LIBMQ_E_INVALID` for a name that is none, `LIBMQ_E_POISONED`,
/// `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_CLOSED`; a name that nobody has used is an empty queue.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_purge(
    broker: *mut libmq_broker,
    queue: *const c_char,
    out_n: *mut u64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out_n = c.optional_emptied("out_n", out_n, 0);
    boundary::broker(&c, broker, err, |open| {
        let out_n = out_n?;
        let purged = open.broker.purge(c.queue(queue)?)?;
        if let Some(out_n) = out_n {
            out_n.write(purged);
        }
        Ok(())
    })
}

/// Takes a snapshot now, so that the next open has less to read.
///
/// Any thread. Answers `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_IO`, `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_snapshot(
    broker: *mut libmq_broker,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::broker(&from_c!(), broker, err, |open| open.broker.snapshot())
}

/// Writes a copy of the broker to a directory that is not there yet, or is empty, while work goes on. The copy is complete
/// with everything that was answered before the call, whole to one moment not before it, and can be opened like any
/// directory, also beside this one: as after a close at that moment, but that what was in flight is ready again,
/// uncounted. Of a broker without files it is an ordinary directory.
///
/// Any thread; it takes as long as writing and syncing the copy does. The directory above `to` has to be there. What fails
/// leaves nothing behind. A close meanwhile ends it. Answers `LIBMQ_E_INVALID` for a `to` that is empty, is something else
/// than an empty directory, lies in the broker's own, or is ":memory:"; `LIBMQ_E_STORAGE_FULL` and `LIBMQ_E_IO`, naming the
/// path; `LIBMQ_E_CORRUPT` where the broker's own files have lost bytes; `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_backup(
    broker: *mut libmq_broker,
    to: *const c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    boundary::broker(&c, broker, err, |open| {
        open.broker.check_open()?;
        open.broker.backup(c.required_text("to", to, PATH_BYTES_MAX)?)
    })
}

/// Reads and checks all of a directory that no broker has open: what an open would read, and every body and dead letter,
/// which an open does not. Changes and makes nothing. `*out_report_json` is an object with `sound` (no problem), and, with
/// problems as far as could be told, `messages`, `dead_letters`, `suspects`, `records` (that an open would replay),
/// `dropped_bytes` (of a torn tail, which is no problem), `segments`, `bytes` (of all files), `snapshot` (the position it
/// begins at, or null), `closed` (it was closed in order), and `problems`: a list, of at most 1000, of objects with `kind`
/// (`"CORRUPT"` for damage, `"IO"` for a file that cannot be read), `path`, `offset` (in the file, or null) and `text`.
///
/// Any thread. Damage is in the report, and the call succeeds. Meanwhile an open of the directory is `LIBMQ_E_LOCKED`. The
/// caller frees `*out_report_json` with `libmq_string_free`; on failure it is NULL. Answers `LIBMQ_E_INVALID` for what is no
/// directory of libmq, and for ":memory:"; `LIBMQ_E_LOCKED` while a broker has it open, `LIBMQ_E_UNSUPPORTED` for another version of the
/// format, `LIBMQ_E_IO`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_verify(
    path: *const c_char,
    out_report_json: *mut *mut c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.emptied("out_report_json", out_report_json, ptr::null_mut());
    boundary::plain(&c, err, || {
        let out = out?;
        let report = libmq::verify(c.required_text("path", path, PATH_BYTES_MAX)?)?;
        out.write(CString::new(report::json(&report)).unwrap_or_default().into_raw());
        Ok(())
    })
}

/// Moves a manual clock by `ms` milliseconds, up to ten years, and does what is due then.
///
/// Any thread. Answers `LIBMQ_E_INVALID` on a system clock, or out of range; `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_POISONED`,
/// `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_advance(
    broker: *mut libmq_broker,
    ms: i64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::broker(&from_c!(), broker, err, |open| {
        let ms = u64::try_from(ms).map_err(|_| invalid(format!("ms is {ms}, but goes from 0")))?;
        open.broker.advance(Duration::from_millis(ms))
    })
}
