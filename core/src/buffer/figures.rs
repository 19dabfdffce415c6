//! Figures: what a queue counts.
//!
//! Most are counted by a locked instruction. Those that tell what is enqueued, ready, in flight and acked are not: each of them has
//! a lock under which alone it is counted, and which whoever counts has anyway. (But what comes or leaves otherwise, which is rare,
//! is.)
//!
//! Counting releases and a look acquires, and a look begins with what lessens its answer. So who sees a message leave one place
//! also sees it in the next, and no answer is less than none.

use super::acks::Ack;
use super::effect::Effect;
use super::queue::Ready;
use crate::journal::Pending;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Declares the other figures of a queue: gauges first, counters after them.
macro_rules! figures {
    ($($name:ident),* $(,)?) => {
        /// What a queue counts.
        #[derive(Debug, Default)]
        pub(crate) struct Figures {
            /// Messages that have become ready, and those of them that were taken. Counted under the queue's lock.
            came: Tally,
            taken: Tally,
            /// Those of them that are in flight no more, and that were acked. Counted under the lock of the log's tail.
            landed: Tally,
            acked: Tally,
            /// Those that were acked and are in flight no more, and came to the log with others. Counted under the latch of the
            /// queue's acks.
            noted: Tally,
            /// Messages that were enqueued: counted under the lock of the log's tail where their record is appended, under the
            /// queue's where they are shown, and without one where a plan was made.
            appended: Tally,
            shown: Tally,
            planned: Figure,
            /// Messages that were taken and are ready again, as if they had not been.
            put_back: Figure,
            /// Messages that are ready no more, and that nobody took.
            left: Figure,
            $(pub(crate) $name: Figure,)*
        }

        impl Figures {
            $(pub(crate) fn $name(&self) -> u64 {
                self.$name.value()
            })*
        }
    };
}

figures! {
    delayed, dead, parallelism,
    delivered, retried, released, rejected, dead_lettered, replaced, duplicates,
    expired, cancelled, stale_settles, handler_errors, timeouts, crashes, stuck,
}

impl Figures {
    pub(crate) fn ready(&self) -> u64 {
        let gone = self.taken.value() + self.left.value();
        self.came.value() + self.put_back.value() - gone
    }

    pub(crate) fn in_flight(&self) -> u64 {
        let over = self.landed.value() + self.noted.value() + self.put_back.value();
        self.taken.value() - over
    }

    /// How often what was taken became ready again, as if it had not been.
    pub(crate) fn was_put_back(&self) -> u64 {
        self.put_back.value()
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked.value() + self.noted.value()
    }

    pub(crate) fn enqueued(&self) -> u64 {
        self.appended.value() + self.shown.value() + self.planned.value()
    }

    /// A message is enqueued whose record is being appended.
    pub(super) fn was_appended(&self, _locked: &Pending<'_, Effect>) {
        self.appended.up();
    }

    /// A message is enqueued that is being shown, and was not counted before.
    pub(super) fn was_shown(&self, _locked: &Ready) {
        self.shown.up();
    }

    /// A message is enqueued by a plan.
    pub(super) fn was_planned(&self) {
        self.planned.up();
    }

    /// A message has become ready.
    pub(super) fn came(&self, _locked: &Ready) {
        self.came.up();
    }

    /// What was ready was taken.
    pub(super) fn took(&self, _locked: &Ready) {
        self.taken.up();
    }

    /// What was taken is in flight no more.
    pub(super) fn landed(&self, _locked: &Pending<'_, Effect>) {
        self.landed.up();
    }

    /// What was taken was acked.
    pub(super) fn was_acked(&self, _locked: &Pending<'_, Effect>) {
        self.acked.up();
    }

    /// What was taken was acked and is in flight no more, and its ack is noted.
    pub(super) fn was_noted(&self, _locked: &[Ack]) {
        self.noted.up();
    }

    /// What was taken is ready again, as if it had not been.
    pub(super) fn put_back(&self) {
        self.put_back.up();
    }

    /// What was ready is so no more, and nobody took it.
    pub(super) fn left(&self) {
        self.left.up();
    }
}

/// One number that is counted up and down.
#[derive(Debug, Default)]
pub(crate) struct Figure(AtomicU64);

impl Figure {
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// One number that only grows, counted by one thread at a time.
#[derive(Debug, Default)]
struct Tally(AtomicU64);

impl Tally {
    fn up(&self) {
        // Relaxed: the lock that it is counted under orders that.
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
