//! Contexts of handlers that are tasks.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use crate::Delivery;

/// A message as its handler sees it: everything of a [`Delivery`] but the settling, which is the handler's return. Cloned,
/// it is the same one; of use until the handler has ended.
#[derive(Clone, Debug)]
pub struct AsyncContext {
    attempt: Arc<Attempt>,
}

impl AsyncContext {
    pub(super) fn new(attempt: Arc<Attempt>) -> Self {
        Self { attempt }
    }

    /// Cancelled when the attempt is: because of its timeout, a stop, or [`Broker::cancel`](crate::Broker::cancel). What
    /// for, [`Delivery::cancel_reason`] says. A handler that does not end within its grace is dropped where it waits.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.attempt.cancellation.clone()
    }

    /// A clone of what [`Options::state`](crate::Options::state) was given of this type, if it was.
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.attempt.states.get()
    }
}

impl std::ops::Deref for AsyncContext {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.attempt.delivery
    }
}
