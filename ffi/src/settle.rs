//! Settling: what becomes of a message that is held. Each but the first two ends the handle, whatever it answers.

use std::ffi::c_char;
use std::time::Duration;

use libmq::{HandlerError, Result};

use crate::boundary;
use crate::callback::is_handling;
use crate::from_c::{from_c, invalid};
use crate::handles::{libmq_delivery, libmq_error};
use crate::message::{libmq_message, time};
use crate::status::{LIBMQ_NONE, libmq_status};

/// Moves the deadline to `ms` milliseconds from now, if that is later; up to 24 hours. The handle stays.
///
/// Any thread. Answers `LIBMQ_E_STALE_LEASE` once the lease is lost, or the attempt was cancelled with "shutdown";
/// `LIBMQ_E_UNSUPPORTED` where the handler does not allow it; `LIBMQ_E_INVALID` out of range; `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_extend(
    delivery: *mut libmq_delivery,
    ms: i64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::delivery(&from_c!(), delivery, err, |delivery| {
        let ms = u64::try_from(ms).map_err(|_| invalid(format!("ms is {ms}, but goes from 0")))?;
        delivery.extend(Duration::from_millis(ms))
    })
}

/// Enqueues a message together with the ack of this one, or not at all. It inherits the correlation id and the header
/// `traceparent` unless it has its own. The handle stays; everything is checked, and room taken, now.
///
/// Any thread. Answers as `libmq_enqueue_batch` for all of them together, without waiting for room;
/// `LIBMQ_E_STALE_LEASE` once the lease is lost.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_enqueue(
    delivery: *mut libmq_delivery,
    queue: *const c_char,
    message: *const libmq_message,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    boundary::delivery(&c, delivery, err, |delivery| {
        let queue = c.queue(queue)?;
        c.with_structure("message", message, |message| delivery.enqueue(message.read(&c, queue)?))
    })
}

/// Done. What was enqueued with the delivery is enqueued by the same record. Returns when that is in the kernel.
///
/// Any thread. Answers `LIBMQ_E_STALE_LEASE` if the lease was lost, `LIBMQ_E_CLOSED`: nothing changed.
/// `LIBMQ_E_STORAGE_FULL`: the disk has no room for the record, and the message is released when it has.
/// `LIBMQ_E_POISONED`: unknown. The handle is gone in any case, and `LIBMQ_E_BAD_HANDLE` is what a delivery answers that was
/// settled before.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_ack(
    delivery: *mut libmq_delivery,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::settle(&from_c!(), delivery, err, |delivery| delivery.settle(Ok(())))
}

/// Failed: tried again after `delay_ms` (0: now, `LIBMQ_NONE`: the backoff), up to `max_retries` times; then a dead letter
/// "max_retries" that keeps `why`. `why` may be NULL; of it 4 KiB are kept, and what is not UTF-8 in it is replaced. Once the
/// attempt was cancelled with "shutdown" it is a release without a delay.
///
/// Any thread. Answers as `libmq_delivery_ack`; for a delay out of range `LIBMQ_E_INVALID`, and the message is released.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_retry(
    delivery: *mut libmq_delivery,
    delay_ms: i64,
    why: *const c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    boundary::settle(&c, delivery, err, |delivery| {
        let delay = if delay_ms == i64::from(LIBMQ_NONE) { None } else { Some(wait(delay_ms)?) };
        let why = c.remark(why).unwrap_or_default();
        delivery.settle(Err(HandlerError::retry_because(delay, why)))
    })
}

/// Failed by itself, as by an exception: as `libmq_delivery_retry` with the backoff, but counted as the handler's error, unless the
/// attempt was cancelled. `why` may be NULL; of it 4 KiB are kept, and what is not UTF-8 in it is replaced.
///
/// Any thread. Answers as `libmq_delivery_ack`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_fail(
    delivery: *mut libmq_delivery,
    why: *const c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    boundary::settle(&c, delivery, err, |delivery| {
        let why = c.remark(why).unwrap_or_default();
        delivery.settle(Err(HandlerError::failed(why)))
    })
}

/// To the dead letters, for this reason; "rejected" for NULL. Of it 4 KiB are kept, and what is not UTF-8 is replaced. Once the
/// attempt was cancelled with "shutdown" it is a release without a delay.
///
/// Any thread. Answers as `libmq_delivery_ack`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_reject(
    delivery: *mut libmq_delivery,
    why: *const c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    boundary::settle(&c, delivery, err, |delivery| {
        let why = c.remark(why).unwrap_or("rejected".into());
        delivery.settle(Err(HandlerError::reject(why)))
    })
}

/// Given back, and ready again after `delay_ms` (0 or `LIBMQ_NONE`: at once); not counted as an attempt. Whoever releases
/// without a delay what cannot be done yet is handed it again at once, as fast as the machine goes: give a delay then.
///
/// Any thread. Answers as `libmq_delivery_ack`; for a delay out of range `LIBMQ_E_INVALID`, and it is ready at once.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_release(
    delivery: *mut libmq_delivery,
    delay_ms: i64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::settle(&from_c!(), delivery, err, |delivery| {
        let delay = time("delay_ms", delay_ms)?.unwrap_or_default();
        delivery.settle(Err(HandlerError::release(delay)))
    })
}

/// Frees a delivery; one that was not settled is released. In its own handler this does nothing: there the answer settles.
/// Does nothing either for NULL, or for what was settled or freed before.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_free(delivery: *mut libmq_delivery) {
    if !is_handling(delivery.addr()) {
        boundary::free(delivery);
    }
}

fn wait(ms: i64) -> Result<Duration> {
    let ms = u64::try_from(ms).map_err(|_| {
        invalid(format!("delay_ms is {ms}, but goes from 0, or is LIBMQ_NONE for the backoff"))
    })?;
    Ok(Duration::from_millis(ms))
}
