//! Enqueues that have begun: their messages have places in the log, and their durability is still to come.

use std::task::Waker;

use super::message::Receipt;
use super::shared::Shared;
use crate::buffer;
use crate::error::{Error, Result};
use crate::sync::Arc;

/// Messages that were enqueued and have not reached their durability yet. Nobody is to be told of them before
/// [`Begun::reach`] has returned; without it they are written all the same, some time.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Begun {
    shared: Arc<Shared>,
    inner: buffer::Begun,
}

impl Begun {
    pub(super) fn new(shared: Arc<Shared>, inner: buffer::Begun) -> Self {
        Self { shared, inner }
    }

    /// Whether [`Begun::reach`] waits for no sync: it writes at most, and shows what is synced.
    #[must_use]
    pub fn needs_no_sync(&self) -> bool {
        self.shared.engine.buffer.needs_no_sync(self.inner.owed)
    }

    /// Returns when the messages have reached their durability.
    ///
    /// # Errors
    /// `POISONED`: whether they are there is unknown.
    pub fn reach(&self) -> Result<()> {
        self.shared.engine.buffer.reach(self.inner.owed)
    }

    /// What has become of the messages, once that is known.
    pub(super) fn outcome(&self) -> Option<Result<()>> {
        if self.needs_no_sync() {
            return Some(self.reach());
        }
        self.shared.engine.buffer.journal.check().err().map(Err)
    }

    /// Has somebody woken when that is known. Who asks for many, one after the other, is woken for many at once.
    pub fn wake(&self, waker: &Waker) {
        self.shared.clerk.wake(&self.shared, self.inner.owed, waker);
    }

    /// Has [`Begun::reach`] return when that other one has been reached, too.
    pub fn wait_for(&mut self, other: &Self) {
        self.inner.owed.add_all(other.inner.owed);
    }

    /// The receipts, in the order of the messages.
    pub fn receipts(&self) -> impl ExactSizeIterator<Item = Receipt> {
        self.inner.enqueued.iter().copied().map(Receipt::from)
    }
}

/// Waits for the durability of a message that has begun.
pub(super) fn reached(shared: &Shared, begun: &buffer::Begun) -> Result<Receipt> {
    shared.engine.buffer.reach(begun.owed)?;
    begun.enqueued.first().copied().map(Receipt::from).ok_or_else(Error::closed)
}
