//! Flights: messages that somebody holds.
//!
//! A flight is born when a message is taken and ends once: by a settle, or by the end of its lease.

use std::time::Duration;

use super::engine::Retries;
use super::lease::Lease;
use super::station::Station;
use crate::buffer::{MessageEntry, Queue, Taken};
use crate::journal::Bytes;
use crate::sync::Arc;

/// A message that is held.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) taken: Taken,
    pub(crate) queue: Arc<Queue>,
    /// Its handler; none if it was pulled.
    pub(crate) station: Option<Arc<Station>>,
    pub(crate) retries: Arc<Retries>,
    pub(crate) may_extend: bool,
    pub(crate) lease: Lease,
    pub(super) content: Bytes,
}

impl Flight {
    /// How long its key is guarded when it is done.
    pub(crate) fn dedup_window(&self) -> Duration {
        if self.taken.has_key() { MessageEntry::window(&self.content) } else { Duration::ZERO }
    }

    /// The message's body, and nothing of the rest: what every handler asks for.
    pub(crate) fn body(&self) -> &[u8] {
        MessageEntry::body(&self.content).unwrap_or_default()
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        MessageEntry::content_type(&self.content)
    }

    /// The message; none if its bytes make no sense, which the log's checksums exclude.
    pub(crate) fn entry(&self) -> Option<MessageEntry<'_>> {
        MessageEntry::decode(&self.content)
    }
}
