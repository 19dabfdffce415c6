//! The boundary: what every exported function goes through on its way in and out.
//!
//! On the way in the handle is looked up, before any other argument is looked at. On the way out an error becomes a
//! status, and an error object where one is asked for. A panic becomes `PANIC` and poisons the broker: what it left half
//! done is for the next open to put right, from the disk.

use std::borrow::Borrow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use libmq::{Delivery, Error, ErrorKind, Result};

use crate::error;
use crate::from_c::{FromC, Out};
use crate::handles::{Handle, HeldDelivery, OpenBroker, libmq_broker, libmq_delivery, libmq_error};
use crate::names;
use crate::slab::Found;
use crate::status::{LIBMQ_OK, libmq_status};

/// Why a broker is poisoned by a panic.
const CAUGHT: &str = "a bug in libmq was caught in an earlier call; close and open again";

/// A call on no handle.
pub(crate) fn plain(
    c: &FromC,
    err: *mut *mut libmq_error,
    work: impl FnOnce() -> Result<()>,
) -> libmq_status {
    answer(c, err, guarded(work, || {}))
}

/// A call on a broker.
#[inline]
pub(crate) fn broker(
    c: &FromC,
    handle: *const libmq_broker,
    err: *mut *mut libmq_error,
    work: impl FnOnce(&OpenBroker) -> Result<()>,
) -> libmq_status {
    let result = libmq_broker::find(handle)
        .and_then(|open| guarded(|| work(&open), || open.broker.poison(CAUGHT)));
    answer(c, err, result)
}

/// A call on a delivery, which stays what it is.
#[inline]
pub(crate) fn delivery(
    c: &FromC,
    handle: *const libmq_delivery,
    err: *mut *mut libmq_error,
    work: impl FnOnce(&Delivery) -> Result<()>,
) -> libmq_status {
    let result = libmq_delivery::find(handle).and_then(|held| on(&held.delivery, work));
    answer(c, err, result)
}

/// A call that ends a delivery, and consumes its handle whatever it answers: what it did not settle is given back by the last
/// that lets go of it.
#[inline]
pub(crate) fn settle(
    c: &FromC,
    handle: *const libmq_delivery,
    err: *mut *mut libmq_error,
    work: impl FnOnce(&Delivery) -> Result<()>,
) -> libmq_status {
    let result = libmq_delivery::take(handle).and_then(|held| on(&held.delivery, work));
    answer(c, err, result)
}

#[inline]
fn on(delivery: &Delivery, work: impl FnOnce(&Delivery) -> Result<()>) -> Result<()> {
    guarded(|| work(delivery), || delivery.poison(CAUGHT))
}

/// A function that answers a value: the default for a handle that is none, and for a panic.
#[inline]
pub(crate) fn value<H: Handle, R>(
    handle: *const H,
    default: R,
    read: impl FnOnce(&H::Value) -> Option<R>,
) -> R {
    let found = H::slab().find(handle.addr());
    let read = found.and_then(|value| guarded(|| Ok(read(&value)), || {}).ok().flatten());
    read.unwrap_or(default)
}

/// Frees a handle; what is none is let be.
pub(crate) fn free<H: Handle>(handle: *const H) {
    drop(H::slab().take(handle.addr()));
}

/// Runs `work`, and answers `PANIC` for a panic.
#[inline]
pub(crate) fn guarded<R>(work: impl FnOnce() -> Result<R>, on_panic: impl FnOnce()) -> Result<R> {
    // What a panic leaves half changed is not looked at again: the broker is poisoned, or the value is gone.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| caught(on_panic))
}

#[cold]
fn caught<R>(on_panic: impl FnOnce()) -> Result<R> {
    let _ = catch_unwind(AssertUnwindSafe(on_panic));
    Err(Error::new(ErrorKind::Panic, "a bug in libmq was caught: please report it"))
}

#[inline]
fn answer(c: &FromC, err: *mut *mut libmq_error, result: Result<()>) -> libmq_status {
    let place = c.place(err);
    match result {
        Ok(()) => {
            if let Some(place) = place {
                place.write(std::ptr::null_mut());
            }
            LIBMQ_OK
        }
        Err(error) => refused(place, error),
    }
}

#[cold]
fn refused(place: Option<Out<'_, *mut libmq_error>>, error: Error) -> libmq_status {
    let status = error.kind().code();
    if let Some(place) = place {
        place.write(error::report(names::in_c(error)));
    }
    status
}

impl HeldDelivery {
    pub(crate) fn new(delivery: Delivery) -> Self {
        Self { delivery, texts: OnceLock::new() }
    }
}

impl Borrow<Delivery> for Found<'_, HeldDelivery> {
    fn borrow(&self) -> &Delivery {
        &self.delivery
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::time::Duration;

    use libmq::{Broker, Message, Options};

    use super::*;
    use crate::error::{libmq_error_code, libmq_error_free};
    use crate::from_c::from_c;
    use crate::settings::BackoffParts;
    use crate::status::{LIBMQ_E_BAD_HANDLE, LIBMQ_E_PANIC, LIBMQ_E_POISONED};

    fn open() -> *mut libmq_broker {
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        libmq_broker::give(OpenBroker::new(broker, BackoffParts::default())).unwrap()
    }

    fn enqueue(broker: *mut libmq_broker) -> libmq_status {
        super::broker(&from_c!(), broker, ptr::null_mut(), |open| {
            open.broker.enqueue(Message::new("q", "x")).map(drop)
        })
    }

    #[test]
    fn a_panic_poisons_the_broker_and_is_answered() {
        let handle = open();
        let mut error = ptr::null_mut();
        let status = broker(&from_c!(), handle, &raw mut error, |_| panic!("as a bug would"));
        assert_eq!(status, LIBMQ_E_PANIC);
        assert_eq!(libmq_error_code(error), LIBMQ_E_PANIC);
        assert_eq!(enqueue(handle), LIBMQ_E_POISONED);
        libmq_error_free(error);
        free(handle);
        assert_eq!(enqueue(handle), LIBMQ_E_BAD_HANDLE);
    }

    #[test]
    fn a_panic_in_a_deliverys_call_poisons_its_broker() {
        let handle = open();
        assert_eq!(enqueue(handle), LIBMQ_OK);
        let open = libmq_broker::find(handle).unwrap();
        let received = open.broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
        let held = libmq_delivery::give(HeldDelivery::new(received)).unwrap();
        let status = delivery(&from_c!(), held, ptr::null_mut(), |_| panic!("as a bug would"));
        assert_eq!(status, LIBMQ_E_PANIC);
        assert_eq!(enqueue(handle), LIBMQ_E_POISONED);
        free(held);
        free(handle);
    }

    /// The broker went on, with whatever the settle had left half done.
    #[test]
    fn a_panic_in_a_settle_poisons_its_broker() {
        let handle = open();
        assert_eq!(enqueue(handle), LIBMQ_OK);
        let open = libmq_broker::find(handle).unwrap();
        let received = open.broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
        let held = libmq_delivery::give(HeldDelivery::new(received)).unwrap();
        let status = settle(&from_c!(), held, ptr::null_mut(), |_| panic!("as a bug would"));
        assert_eq!(status, LIBMQ_E_PANIC);
        assert_eq!(enqueue(handle), LIBMQ_E_POISONED);
        free(handle);
    }

    #[test]
    fn a_panic_in_what_answers_a_value_is_its_default() {
        let handle = open();
        assert_eq!(value(handle, 7, |_| panic!("as a bug would")), 7);
        assert_eq!(value(handle, 7, |_| Some(8)), 8);
        free(handle);
        assert_eq!(value(handle, 7, |_| Some(8)), 7);
    }
}
