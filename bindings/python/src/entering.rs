//! The door to the core: how it is called from a thread of Python.
//!
//! It is entered without the interpreter's lock, but for what is over sooner than that could be given back, and whoever
//! panics in there, which is a bug, comes out with an error: the broker is poisoned, since something may have been left half
//! done.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libmq::{Broker, Delivery, Error, ErrorKind, Inbox, Worker};
use pyo3::prelude::*;

use crate::error::OrRaise;
use crate::outside::outside;

/// Why a broker is poisoned by a panic.
pub(crate) const CAUGHT: &str = "a bug in libmq was caught";

/// What has a broker that can be poisoned.
pub(crate) trait OfBroker: Sync {
    fn poison(&self, why: &str);
}

macro_rules! of_broker {
    ($($kind:ty),*) => {$(
        impl OfBroker for $kind {
            fn poison(&self, why: &str) {
                Self::poison(self, why);
            }
        }
    )*};
}

of_broker!(Broker, Delivery, Inbox, Worker);

/// No broker is open yet.
#[derive(Debug)]
pub(crate) struct Nobody;

impl OfBroker for Nobody {
    fn poison(&self, _: &str) {}
}

/// Calls the core.
pub(crate) fn entered<R: Send>(
    py: Python<'_>,
    whose: &impl OfBroker,
    call: impl FnOnce() -> libmq::Result<R> + Send,
) -> PyResult<R> {
    outside(py, || caught(whose, call)).or_raise(py)
}

/// Calls the core, where the interpreter's lock was given back before or need not be.
pub(crate) fn caught<R>(
    whose: &impl OfBroker,
    call: impl FnOnce() -> libmq::Result<R>,
) -> libmq::Result<R> {
    // What a panic leaves half changed is not looked at again: the broker is poisoned.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        // It may panic of the same.
        let _ = catch_unwind(AssertUnwindSafe(|| whose.poison(CAUGHT)));
        Err(Error::new(ErrorKind::Panic, format!("{CAUGHT}; the broker is poisoned")))
    })
}

/// Does without the interpreter's lock what a drop does, where nobody can be told of a panic.
pub(crate) fn away(work: impl FnOnce() + Send) {
    Python::attach(|py| outside(py, || _ = catch_unwind(AssertUnwindSafe(work))));
}

/// Drops what may have to wait then, for threads or for the disk.
pub(crate) fn dropped<T: Send>(value: T) {
    away(|| drop(value));
}
