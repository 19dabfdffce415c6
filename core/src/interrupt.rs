//! Interrupts: waits that end early because their caller has something else to attend to, as a signal.
//!
//! An interrupt belongs to one call. It is set by [`Broker::interrupt`](crate::Broker::interrupt), which wakes whoever
//! waits; those that find it unset sleep on. Set a second time it is urgent: a stop then gives no grace any more.

use crate::sync::atomic::{AtomicU32, Ordering};

/// Ends one call's wait early: for the bindings. The call answers as if its time had run out.
#[doc(hidden)]
#[derive(Debug)]
pub struct Interrupt(AtomicU32);

impl Interrupt {
    /// One that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Set before anybody waits: what is given it does not wait at all.
    #[must_use]
    pub fn at_once() -> Self {
        Self(AtomicU32::new(1))
    }

    /// To be followed by waking whoever may wait with it.
    pub(crate) fn set(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// Whether it was set more than once.
    pub(crate) fn is_urgent(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }
}

impl Default for Interrupt {
    fn default() -> Self {
        Self::new()
    }
}
