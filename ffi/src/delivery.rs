//! Deliveries: reading a message that is held.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

use libmq::{CancelReason, Delivery, limits};

use crate::boundary;
use crate::from_c::from_c;
use crate::handles::{HeldDelivery, libmq_delivery};
use crate::message::libmq_header;
use crate::texts::Texts;

/// The body; `*len`, which may be NULL, is its length. An empty body is an address all the same, with a NUL there.
/// NULL if this is no delivery, with a length of 0. It is aligned for bytes alone.
///
/// Any thread. Valid until the delivery is settled or freed.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_body(
    delivery: *const libmq_delivery,
    len: *mut usize,
) -> *const c_void {
    let body = read(delivery, (ptr::null(), 0), |delivery| Some(address(delivery.body())));
    let c = from_c!();
    if let Some(len) = c.place(len) {
        len.write(body.1);
    }
    body.0
}

/// The message's id, the same for every attempt. 0 if this is no delivery.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_id(delivery: *const libmq_delivery) -> u64 {
    read(delivery, 0, |delivery| Some(delivery.id()))
}

/// A number that is larger for every later lease and never comes again, for fencing outside effects. 0 if this is no
/// delivery.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_token(delivery: *const libmq_delivery) -> u64 {
    read(delivery, 0, |delivery| Some(delivery.token()))
}

/// The number of this attempt, from 1. 0 if this is no delivery.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_attempt(delivery: *const libmq_delivery) -> u32 {
    read(delivery, 0, |delivery| Some(delivery.attempt()))
}

/// Retries after the first attempt. 0 if this is no delivery.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_max_retries(delivery: *const libmq_delivery) -> u32 {
    read(delivery, 0, |delivery| Some(delivery.max_retries()))
}

/// The queue it came from. NULL if this is no delivery.
///
/// Any thread. Valid until the delivery is settled or freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_queue(delivery: *const libmq_delivery) -> *const c_char {
    text(delivery, QUEUE)
}

/// What the body is; "application/octet-stream" unless said otherwise. NULL if this is no delivery.
///
/// Any thread. Valid until the delivery is settled or freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_content_type(delivery: *const libmq_delivery) -> *const c_char {
    boundary::value(delivery, ptr::null(), |held| {
        Some(held.texts().fixed(CONTENT_TYPE).unwrap_or(DEFAULT_TYPE.as_ptr()))
    })
}

/// The id that follows the work from message to message. NULL if there is none.
///
/// Any thread. Valid until the delivery is settled or freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_correlation_id(delivery: *const libmq_delivery) -> *const c_char {
    text(delivery, CORRELATION_ID)
}

/// The value of the first header of this name. NULL if there is none.
///
/// Any thread. Valid until the delivery is settled or freed.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_delivery_header(
    delivery: *const libmq_delivery,
    name: *const c_char,
) -> *const c_char {
    let c = from_c!();
    boundary::value(delivery, ptr::null(), |held| {
        let name = c.text("name", name, limits::HEADER_NAME_BYTES_MAX).ok()??;
        let index = held.delivery.headers().position(|(found, _)| found == name)?;
        Some(held.texts().header(index)?.1)
    })
}

/// How many headers there are. 0 if this is no delivery.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_headers_len(delivery: *const libmq_delivery) -> usize {
    boundary::value(delivery, 0, |held| Some(held.delivery.headers().count()))
}

/// A header by its place, from 0, in the order they were given. Two NULLs if there is none.
///
/// Any thread. Valid until the delivery is settled or freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_header_at(
    delivery: *const libmq_delivery,
    index: usize,
) -> libmq_header {
    boundary::value(delivery, libmq_header::NONE, |held| {
        let (name, value) = held.texts().header(index)?;
        Some(libmq_header { name, value })
    })
}

/// When it was enqueued, or replaced, in milliseconds since 1970-01-01 UTC. -1 if this is no delivery.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_enqueued_at_ms(delivery: *const libmq_delivery) -> i64 {
    read(delivery, -1, |delivery| Some(since_epoch_ms(delivery.enqueued_at())))
}

/// Until when it is held, in milliseconds since 1970-01-01 UTC. -1 if this is no delivery.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_deadline_ms(delivery: *const libmq_delivery) -> i64 {
    read(delivery, -1, |delivery| Some(since_epoch_ms(delivery.deadline())))
}

/// Why the attempt was cancelled: "timeout", "shutdown", "cancelled" or "lease_lost". NULL while it is not. A long handler
/// looks at it now and then, and comes back when it is set.
///
/// Any thread. A constant: not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_delivery_cancel_reason(delivery: *const libmq_delivery) -> *const c_char {
    read(delivery, ptr::null(), |delivery| {
        let reason = match delivery.cancel_reason()? {
            CancelReason::Timeout => c"timeout",
            CancelReason::Shutdown => c"shutdown",
            CancelReason::LeaseLost => c"lease_lost",
            _ => c"cancelled",
        };
        Some(reason.as_ptr())
    })
}

/// What a body is of which nothing was said.
const DEFAULT_TYPE: &CStr = c"application/octet-stream";

/// Places of the fixed texts.
const QUEUE: usize = 0;
const CONTENT_TYPE: usize = 1;
const CORRELATION_ID: usize = 2;

impl HeldDelivery {
    fn texts(&self) -> &Texts {
        self.texts.get_or_init(|| {
            let delivery = &self.delivery;
            let content_type = Some(delivery.content_type())
                .filter(|text| text.as_bytes() != DEFAULT_TYPE.to_bytes());
            let fixed = [Some(delivery.queue()), content_type, delivery.correlation_id()];
            Texts::new(&fixed, || delivery.headers())
        })
    }
}

fn read<R>(
    delivery: *const libmq_delivery,
    default: R,
    read: impl FnOnce(&Delivery) -> Option<R>,
) -> R {
    boundary::value(delivery, default, |held| read(&held.delivery))
}

fn text(delivery: *const libmq_delivery, place: usize) -> *const c_char {
    boundary::value(delivery, ptr::null(), |held| held.texts().fixed(place))
}

/// Bytes as C sees them: never null.
pub(crate) fn address(bytes: &[u8]) -> (*const c_void, usize) {
    const EMPTY: &[u8] = &[0];
    let start = if bytes.is_empty() { EMPTY } else { bytes };
    (start.as_ptr().cast(), bytes.len())
}

/// A moment as C sees it.
pub(crate) fn since_epoch_ms(moment: SystemTime) -> i64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
