//! Calls that have begun: what they do has its place in the log, and its durability is still to come.

use super::message::Receipt;
use super::shared::Shared;
use crate::buffer;
use crate::error::Result;
use crate::sync::Arc;

/// Messages that were enqueued, or a delivery that was settled, and what of it has not reached its durability yet. Nobody
/// is to be told before [`Begun::reach`] has returned; without it all is written the same, some time.
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

    /// A settle whose record ends there.
    pub(super) fn settled(shared: Arc<Shared>, end: u64) -> Self {
        let owed = buffer::Owed::written(end);
        Self { shared, inner: buffer::Begun { enqueued: buffer::Few::new(), owed } }
    }

    /// Whether [`Begun::reach`] need not wait for a sync, neither its own nor one that holds up its write.
    #[must_use]
    pub fn is_soon_reached(&self) -> bool {
        self.shared.engine.buffer.is_soon_reached(self.inner.owed)
    }

    /// Returns when it has reached its durability.
    ///
    /// # Errors
    /// `POISONED`: whether they are there is unknown.
    pub fn reach(&self) -> Result<()> {
        self.shared.engine.buffer.reach(self.inner.owed)
    }

    /// The receipts, in the order of the messages.
    pub fn receipts(&self) -> impl ExactSizeIterator<Item = Receipt> {
        self.inner.enqueued.iter().copied().map(Receipt::from)
    }
}
