//! Calls of several threads, with what they were answered and when: a history.

use std::fmt;

use libmq::Receipt;
use libmq_suite::New;

/// What the queue of a history is called there. Each has one of its own in its broker.
pub(crate) const QUEUE: &str = "q";

/// How somebody ends a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ack,
    /// Absent is the backoff.
    Retry(Option<u64>),
    Reject,
    Release(u64),
}

/// A call. Times are in microseconds.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Enqueue(New),
    Receive {
        lease_us: u64,
    },
    Settle {
        id: u64,
        token: u64,
        end: End,
    },
    Cancel(u64),
    Purge,
    Advance(u64),
    /// All there is to see when nothing is under way.
    Look,
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) id: u64,
    pub(crate) body: String,
    pub(crate) attempt: u32,
    pub(crate) token: u64,
    pub(crate) deadline: u64,
}

/// What there was to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) in_flight: u64,
    /// Dead letters: id, body, reason, attempts.
    pub(crate) dead: Vec<(u64, String, String, u32)>,
}

/// What a call was answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Enqueued(Receipt),
    Received(Option<Got>),
    /// Whether it counted; else the lease was stale.
    Settled(bool),
    Cancelled(bool),
    Purged(u64),
    Advanced,
    Seen(Seen),
}

/// A call that has returned. Its effect lies somewhere between the two moments, of a clock that counts such moments.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) called: u64,
    pub(crate) returned: u64,
    pub(crate) call: Call,
    pub(crate) answer: Answer,
}

/// What each thread did, in its order. The first one was alone before the others began, and after they had ended.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) threads: Vec<Vec<Event>>,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.threads.iter().enumerate();
        let mut all: Vec<(usize, &Event)> =
            events.flat_map(|(thread, all)| all.iter().map(move |event| (thread, event))).collect();
        all.sort_by_key(|(_, event)| event.called);
        for (thread, Event { called, returned, call, answer }) in all {
            writeln!(f, "  {called:>4}..{returned:<4} thread {thread}: {call:?} -> {answer:?}")?;
        }
        Ok(())
    }
}
