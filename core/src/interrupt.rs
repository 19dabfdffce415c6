//! Interrupts: waits that end early because their caller has something else to attend to, as a signal.
//!
//! An interrupt belongs to one call. It is set once, by [`Broker::interrupt`](crate::Broker::interrupt), which wakes
//! whoever waits; those that find it unset sleep on.

use crate::sync::atomic::{AtomicBool, Ordering};

/// Ends one call's wait early: for the bindings. The call answers as if its time had run out.
#[doc(hidden)]
#[derive(Debug)]
pub struct Interrupt(AtomicBool);

impl Interrupt {
    /// One that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Set before anybody waits: what is given it does not wait at all.
    #[must_use]
    pub fn at_once() -> Self {
        Self(AtomicBool::new(true))
    }

    /// To be followed by waking whoever may wait with it.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Default for Interrupt {
    fn default() -> Self {
        Self::new()
    }
}
