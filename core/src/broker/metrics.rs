//! What a broker counts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::shared::Shared;
use crate::buffer::Queue;

/// The figures of a broker and of each queue. Counters count since open.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The sums over all queues.
    pub broker: QueueMetrics,
    /// Each queue by name.
    pub queues: BTreeMap<String, QueueMetrics>,
    /// Bytes of the journal's segments and the snapshot.
    pub journal_bytes: u64,
    /// Segments of the journal.
    pub segments: u64,
    /// Snapshots taken since open.
    pub snapshots: u64,
    /// Syncs of the journal since open.
    pub syncs: u64,
    /// The marks of the log.
    pub lsn: Lsn,
    /// Bytes of memory that the broker holds for messages and recent journal.
    pub memory_bytes: u64,
}

/// The marks of the log, each a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lsn {
    /// Given to records.
    pub reserved: u64,
    /// In the kernel.
    pub written: u64,
    /// Synced.
    pub durable: u64,
    /// Visible.
    pub shown: u64,
}

/// Declares the figures of a queue with their documentation.
macro_rules! queue_metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The figures of a queue: gauges, then counters since open.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct QueueMetrics {
            /// How long the first ready message has been ready.
            pub oldest_ready_age: Option<Duration>,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl QueueMetrics {
            fn read(queue: &Queue, oldest_ready_age: Option<Duration>) -> Self {
                Self { oldest_ready_age, $($name: queue.figures.$name.value(),)* }
            }

            fn add(&mut self, other: &Self) {
                self.oldest_ready_age = self.oldest_ready_age.max(other.oldest_ready_age);
                $(self.$name += other.$name;)*
            }
        }
    };
}

queue_metrics! {
    /// Messages that could run now.
    ready,
    /// Messages that are held.
    in_flight,
    /// Messages that are not due yet, retries too.
    delayed,
    /// Dead letters.
    dead,
    /// The handler's `max_parallelism`, 0 without one.
    parallelism,
    /// Messages enqueued, replacements too.
    enqueued,
    /// Attempts begun.
    delivered,
    /// Attempts that ended with an ack.
    acked,
    /// Attempts that failed, timed out, or lost a pulled lease.
    retried,
    /// Attempts that were given back.
    released,
    /// Attempts that ended with a reject.
    rejected,
    /// Messages that became dead letters.
    dead_lettered,
    /// Messages that a newer one of their key took the place of.
    replaced,
    /// Enqueues answered with a message that was there.
    duplicates,
    /// Messages that expired.
    expired,
    /// Messages that were cancelled.
    cancelled,
    /// Settles that came too late.
    stale_settles,
    /// Attempts that the handler failed.
    handler_errors,
    /// Attempts that ran beyond their timeout.
    timeouts,
    /// Attempts in which the process died, found at open.
    crashes,
    /// Handlers that ran on beyond their grace.
    stuck,
}

impl Metrics {
    pub(crate) fn read(shared: &Shared) -> Self {
        let buffer = &shared.engine.buffer;
        let marks = buffer.journal.marks();
        let space = buffer.journal.space();
        let mut metrics = Self {
            journal_bytes: space.bytes() + shared.snapshots.bytes(),
            segments: space.segment_count() as u64,
            snapshots: shared.snapshots.taken(),
            syncs: buffer.journal.syncs(),
            lsn: Lsn {
                reserved: marks.reserved,
                written: marks.written,
                durable: marks.durable,
                shown: marks.shown,
            },
            memory_bytes: buffer.state.slots.bytes() as u64 + space.cached_bytes(),
            ..Self::default()
        };
        for queue in buffer.state.queues.all() {
            let figures = QueueMetrics::read(queue, buffer.state.oldest_ready_age(queue));
            metrics.broker.add(&figures);
            metrics.queues.insert(queue.name.to_string(), figures);
        }
        metrics
    }
}
