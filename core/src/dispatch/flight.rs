//! Flights: messages that somebody holds.
//!
//! A flight is born when a message is taken and ends once: by a settle, or by the end of its lease.

use std::time::Duration;

use super::lease::Lease;
use super::station::Station;
use crate::buffer::{MessageEntry, Queue, Taken};
use crate::clock::Moment;
use crate::journal::Bytes;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The place of a flight whose handler has been entered, or is as soon as it is taken.
const ENTERED: u64 = 0;

/// The place of one that its loop has put off: no gate comes that far.
const PUT_OFF: u64 = u64::MAX;

/// A message that is held.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) taken: Taken,
    pub(crate) lease: Lease,
    pub(super) holder: Holder,
    pub(super) content: Bytes,
    /// Where it stands among what its loop was given, and [`ENTERED`] or [`PUT_OFF`]; any of them follows any other, by the loop
    /// alone. Relaxed: whether it is entered or taken back is decided under the lease's lock, and this only says which of
    /// them is tried.
    place: AtomicU64,
    /// Its permit stays with the worker that ends it. Set by that worker, before it does; relaxed.
    permit_stays: AtomicBool,
    /// Where its loop was when its time was over last. The timekeeper's alone; relaxed.
    seen: AtomicU64,
}

/// Where a flight stands whose time is over, as far as its loop has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its handler was entered, and has had its time.
    Entered,
    /// The loop has not come to it.
    Waits,
    /// The loop has entered it and others, one after another, and has had no time to hear of any end.
    Passed,
}

/// Who holds a message, and so where it came from and how it is tried again.
#[derive(Debug)]
pub(super) enum Holder {
    Handler(Arc<Station>),
    /// Somebody who received it.
    Puller {
        queue: Arc<Queue>,
        max_retries: u32,
    },
}

impl Flight {
    /// In the memory of the one `before`, which has the same holder, if nobody else has that.
    pub(super) fn new(
        before: Option<Arc<Self>>,
        taken: Taken,
        lease: Lease,
        content: Bytes,
        holder: impl FnOnce() -> Holder,
    ) -> Arc<Self> {
        if let Some(mut before) = before
            && let Some(flight) = Arc::get_mut(&mut before)
        {
            (flight.taken, flight.lease, flight.content) = (taken, lease, content);
            flight.place.store(ENTERED, Ordering::Relaxed);
            flight.permit_stays.store(false, Ordering::Relaxed);
            flight.seen.store(0, Ordering::Relaxed);
            return before;
        }
        Arc::new(Self {
            taken,
            lease,
            holder: holder(),
            content,
            place: AtomicU64::new(ENTERED),
            permit_stays: AtomicBool::new(false),
            seen: AtomicU64::new(0),
        })
    }

    /// It was given to a loop with others, and is entered when the loop's gate says this number, or a later one.
    pub(crate) fn stand_at(&self, place: u64) {
        self.place.store(place, Ordering::Relaxed);
    }

    /// Whether its permit stays with the worker that ends it.
    pub(crate) fn keep_permit(&self, stays: bool) {
        self.permit_stays.store(stays, Ordering::Relaxed);
    }

    pub(super) fn permit_stays(&self) -> bool {
        self.permit_stays.load(Ordering::Relaxed)
    }

    /// Its loop turns to something else before it: only [`Flight::enter`] enters it now.
    pub(crate) fn put_off(&self) {
        self.place.store(PUT_OFF, Ordering::Relaxed);
    }

    /// Its handler is entered, and has until this deadline; false where the lease is lost.
    pub(crate) fn enter(&self, deadline: Moment) -> bool {
        let is_held = self.lease.renew(deadline);
        if is_held {
            self.place.store(ENTERED, Ordering::Relaxed);
        }
        is_held
    }

    /// Whether its handler was entered, as far as its loop has said.
    pub(super) fn is_entered(&self) -> bool {
        self.standing() != Standing::Waits
    }

    pub(super) fn standing(&self) -> Standing {
        let place = self.place.load(Ordering::Relaxed);
        if place == ENTERED {
            return Standing::Entered;
        }
        match self.station().and_then(|station| station.progress()) {
            Some(it) if it.entered < place => Standing::Waits,
            // The loop is still in the first one, which it entered as soon as it was taken.
            Some(it) if it.entered == place && it.passed.saturating_add(1) == place => {
                Standing::Entered
            }
            Some(it) if it.passed < place => Standing::Passed,
            _ => Standing::Entered,
        }
    }

    /// Whether its loop has entered another one since this was asked last.
    pub(super) fn sees_progress(&self) -> bool {
        let entered = self.station().and_then(|station| station.progress());
        let entered = entered.map_or(0, |it| it.entered);
        self.seen.swap(entered, Ordering::Relaxed) != entered
    }

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

    /// How often it is tried again, as it was when it was taken.
    pub(crate) fn max_retries(&self) -> u32 {
        match &self.holder {
            Holder::Handler(station) => station.settings.retries.max,
            Holder::Puller { max_retries, .. } => *max_retries,
        }
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
