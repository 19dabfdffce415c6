//! Receiving: messages out, without a handler.

use std::ffi::c_char;
use std::ptr;
use std::time::Duration;

use libmq::{Error, ErrorKind, Result};

use crate::boundary;
use crate::broker::waiting;
use crate::from_c::{from_c, invalid};
use crate::handles::{Handle, HeldDelivery, OpenBroker, libmq_broker, libmq_delivery, libmq_error};
use crate::status::{LIBMQ_E_EMPTY, libmq_status};

/// Takes the next message of a queue, waiting for one at most for `timeout_ms` (0: looks once, -1: for ever). It is held for
/// `lease_ms` (0: 30,000), which is not renewed by itself: when it runs out, that is a failed attempt.
///
/// Any thread. The caller settles or frees the delivery. Answers `LIBMQ_E_EMPTY` when nothing came; `LIBMQ_E_INVALID` for a
/// name that is none, or a time out of range; `LIBMQ_E_CLOSED`, also to who waits when the broker is closed or freed;
/// `LIBMQ_E_STORAGE_FULL` where the disk has no room for what handing out has to write; `LIBMQ_E_CORRUPT` or
/// `LIBMQ_E_IO` where its bytes are damaged or cannot be read, which poisons the broker; `LIBMQ_E_POISONED`. On failure
/// `*out` is NULL.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_receive(
    broker: *mut libmq_broker,
    queue: *const c_char,
    timeout_ms: i64,
    lease_ms: i64,
    out: *mut *mut libmq_delivery,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.emptied("out", out, ptr::null_mut());
    let mut nothing = false;
    let status = boundary::broker(&c, broker, err, |open| {
        let out = out?;
        let queue = c.queue(queue)?;
        let timeout = waiting("timeout_ms", timeout_ms)?;
        let lease = lease(lease_ms)?;
        let look = |timeout| open.broker.receive_until(queue, timeout, lease, &open.freed);
        let found = match look(timeout)? {
            None => {
                open.wakeups.look_again(queue, || look(Some(Duration::ZERO)), Option::is_none)?
            }
            found => found,
        };
        match found {
            Some(delivery) => out.write(libmq_delivery::give(HeldDelivery::new(delivery))?),
            None => nothing = found_nothing(open, err)?,
        }
        Ok(())
    });
    if nothing { LIBMQ_E_EMPTY } else { status }
}

/// Takes up to `max` messages (1 to 10,000) that are there, waiting for the first one as `libmq_receive` does.
///
/// Any thread. `out` has room for `max`; `*out_n` is how many came, 0 on failure. Answers as `libmq_receive`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_receive_batch(
    broker: *mut libmq_broker,
    queue: *const c_char,
    max: usize,
    timeout_ms: i64,
    lease_ms: i64,
    out: *mut *mut libmq_delivery,
    out_n: *mut usize,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out_n = c.emptied("out_n", out_n, 0);
    let mut nothing = false;
    let status = boundary::broker(&c, broker, err, |open| {
        let out_n = out_n?;
        let out = c.out("out", out)?;
        let queue = c.queue(queue)?;
        let timeout = waiting("timeout_ms", timeout_ms)?;
        let lease = lease(lease_ms)?;
        let look =
            |timeout| open.broker.receive_batch_until(queue, max, timeout, lease, &open.freed);
        let mut deliveries = look(timeout)?;
        if deliveries.is_empty() {
            let look = || look(Some(Duration::ZERO));
            deliveries = open.wakeups.look_again(queue, look, Vec::is_empty)?;
        }
        if deliveries.is_empty() {
            nothing = found_nothing(open, err)?;
        }
        for (index, delivery) in deliveries.into_iter().enumerate() {
            match libmq_delivery::give(HeldDelivery::new(delivery)) {
                Ok(delivery) => out.write_at(index, delivery),
                Err(error) if index == 0 => return Err(error),
                // Those that have a handle are handed out; the rest is released, and may be received again.
                Err(_) => break,
            }
            out_n.write(index + 1);
        }
        Ok(())
    });
    if nothing { LIBMQ_E_EMPTY } else { status }
}

/// How long a delivery is held: none for the default.
fn lease(ms: i64) -> Result<Option<Duration>> {
    match u64::try_from(ms) {
        Ok(0) => Ok(None),
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) => Err(invalid(format!("lease_ms is {ms}, but goes from 0, which is the default"))),
    }
}

/// Says that nothing came: by an error, and just so to who asked for none. A loop that looks once has that most of the time.
fn found_nothing(open: &OpenBroker, err: *mut *mut libmq_error) -> Result<bool> {
    open.check_not_freed()?;
    if err.is_null() { Ok(true) } else { Err(Error::new(ErrorKind::Empty, "nothing came in time")) }
}
