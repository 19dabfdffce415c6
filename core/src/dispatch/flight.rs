//! Flights: messages that somebody holds.
//!
//! A flight is born when a message is taken and ends once: by a settle, or by the end of its lease. Which of the two
//! it was is decided in the message's slot, under the lease's number; a flight only knows what to tell whoever holds
//! it: until when, and whether it was cancelled.

use std::time::{Duration, Instant};

use super::station::Station;
use crate::broker::Backoff;
use crate::buffer::{MessageEntry, Queue, Taken};
use crate::clock::Moment;
use crate::journal::Bytes;
use crate::sync::{Arc, Condvar, Mutex, lock, wait_for};

/// Why an attempt was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// It ran longer than its handler's timeout.
    Timeout,
    /// The broker is stopping.
    Shutdown,
    /// The message was cancelled.
    Cancelled,
    /// The lease ran out.
    LeaseLost,
}

impl CancelReason {
    /// The name used in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
            Self::Cancelled => "cancelled",
            Self::LeaseLost => "lease_lost",
        }
    }
}

/// A message that is held.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) taken: Taken,
    pub(crate) queue: Arc<Queue>,
    /// Its handler; none if it was pulled.
    pub(crate) station: Option<Arc<Station>>,
    pub(crate) token: u64,
    pub(crate) max_retries: u32,
    pub(crate) backoff: Backoff,
    pub(crate) may_extend: bool,
    content: Bytes,
    held: Mutex<Held>,
    cancelled: Condvar,
}

/// What changes while a message is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) deadline: Moment,
    /// When the lease is lost, once the attempt was cancelled.
    pub(crate) grace_ends: Option<Moment>,
    pub(crate) reason: Option<CancelReason>,
    pub(crate) over: bool,
    /// Its handler's code is running.
    pub(crate) running: bool,
    /// Its lease was lost while its handler ran, and the handler runs on.
    pub(crate) stuck: bool,
}

impl Held {
    /// When something is due next.
    pub(crate) fn due(&self) -> Moment {
        self.grace_ends.unwrap_or(self.deadline)
    }
}

impl Flight {
    #[expect(
        clippy::too_many_arguments,
        reason = "made in one place, from parts that have no other home"
    )]
    pub(crate) fn new(
        taken: Taken,
        queue: Arc<Queue>,
        station: Option<Arc<Station>>,
        token: u64,
        max_retries: u32,
        backoff: Backoff,
        may_extend: bool,
        content: Bytes,
        deadline: Moment,
    ) -> Self {
        let held = Held {
            deadline,
            grace_ends: None,
            reason: None,
            over: false,
            running: false,
            stuck: false,
        };
        Self {
            taken,
            queue,
            station,
            token,
            max_retries,
            backoff,
            may_extend,
            content,
            held: Mutex::new(held),
            cancelled: Condvar::new(),
        }
    }

    /// The message; none if its bytes make no sense, which the log's checksums exclude.
    pub(crate) fn entry(&self) -> Option<MessageEntry<'_>> {
        MessageEntry::decode(&self.content)
    }

    pub(crate) fn held(&self) -> Held {
        *lock(&self.held)
    }

    /// Changes what is known of the hold.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut Held) -> R) -> R {
        change(&mut lock(&self.held))
    }

    /// Cancels the attempt, if it was not cancelled before; answers whether this did it.
    pub(crate) fn cancel(&self, reason: CancelReason, grace_ends: Moment) -> bool {
        let mut held = lock(&self.held);
        if held.over || held.reason.is_some() {
            return false;
        }
        held.reason = Some(reason);
        held.grace_ends = Some(grace_ends);
        self.cancelled.notify_all();
        true
    }

    /// Notes that the hold has ended; whoever still sleeps in it wakes.
    pub(crate) fn end(&self, reason: Option<CancelReason>) {
        let mut held = lock(&self.held);
        held.over = true;
        held.reason = reason.or(held.reason);
        self.cancelled.notify_all();
    }

    /// Sleeps until cancelled, at most for `time`; answers whether it is.
    pub(crate) fn wait_cancelled(&self, time: Duration) -> bool {
        let end = Instant::now().checked_add(time);
        let mut held = lock(&self.held);
        while held.reason.is_none() {
            let left =
                end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            held = wait_for(&self.cancelled, held, left.min(Duration::from_secs(3600)));
        }
        true
    }
}
