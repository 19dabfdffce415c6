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
    pub(crate) lease: Lease,
    pub(super) holder: Holder,
    pub(super) content: Bytes,
}

/// Who holds a message, and so where it came from and how it is tried again.
#[derive(Debug)]
pub(super) enum Holder {
    Handler(Arc<Station>),
    /// Somebody who received it.
    Puller {
        queue: Arc<Queue>,
        retries: Arc<Retries>,
    },
}

impl Holder {
    pub(super) fn retries(&self) -> &Retries {
        match self {
            Self::Handler(station) => &station.settings.retries,
            Self::Puller { retries, .. } => retries,
        }
    }
}

impl Flight {
    pub(crate) fn queue(&self) -> &Queue {
        match &self.holder {
            Holder::Handler(station) => &station.queue,
            Holder::Puller { queue, .. } => queue,
        }
    }

    /// Its handler; none if it was pulled.
    pub(crate) fn station(&self) -> Option<&Arc<Station>> {
        match &self.holder {
            Holder::Handler(station) => Some(station),
            Holder::Puller { .. } => None,
        }
    }

    pub(crate) fn retries(&self) -> &Retries {
        self.holder.retries()
    }

    pub(crate) fn may_extend(&self) -> bool {
        self.station().is_none_or(|station| station.settings.may_extend)
    }

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
