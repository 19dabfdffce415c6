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

impl Lsn {
    /// Each by its name.
    pub(super) fn marks(self) -> [(&'static str, u64); 4] {
        [
            ("reserved", self.reserved),
            ("written", self.written),
            ("durable", self.durable),
            ("shown", self.shown),
        ]
    }
}

/// What is to be known of a figure: of a queue, or of the broker.
pub(super) struct Figure<M = QueueMetrics> {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) kind: Kind,
    pub(super) of: fn(&M) -> u64,
}

/// What is to be known of each figure that only the broker has, but the marks of the log.
pub(super) const OWN_FIGURES: &[Figure<Metrics>] = &[
    Figure {
        name: "journal_bytes",
        meaning: "Bytes of the journal and the snapshot.",
        kind: Kind::Gauge,
        of: |metrics| metrics.journal_bytes,
    },
    Figure {
        name: "segments",
        meaning: "Segments of the journal.",
        kind: Kind::Gauge,
        of: |metrics| metrics.segments,
    },
    Figure {
        name: "memory_bytes",
        meaning: "Bytes held for messages and recent journal.",
        kind: Kind::Gauge,
        of: |metrics| metrics.memory_bytes,
    },
    Figure {
        name: "snapshots",
        meaning: "Snapshots taken.",
        kind: Kind::Counter,
        of: |metrics| metrics.snapshots,
    },
    Figure {
        name: "syncs",
        meaning: "Syncs of the journal.",
        kind: Kind::Counter,
        of: |metrics| metrics.syncs,
    },
];

/// What the figures mean that have a form of their own.
pub(super) const OLDEST_READY_AGE: &str = "How long the first ready message has been ready.";
pub(super) const LSN: &str = "The marks of the log, each a position.";

/// Whether a figure only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
}

/// Declares the figures of a queue with their documentation.
macro_rules! queue_metrics {
    ($(#[doc = $doc:literal] $kind:ident $name:ident,)*) => {
        /// The figures of a queue: gauges, then counters since open.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct QueueMetrics {
            /// How long the first ready message has been ready.
            pub oldest_ready_age: Option<Duration>,
            $(#[doc = $doc] pub $name: u64,)*
        }

        /// What is to be known of each figure but the age.
        pub(super) const FIGURES: &[Figure] = &[
            $(Figure {
                name: stringify!($name),
                meaning: $doc,
                kind: Kind::$kind,
                of: |metrics| metrics.$name,
            },)*
        ];

        impl QueueMetrics {
            fn read(queue: &Queue, oldest_ready_age: Option<Duration>) -> Self {
                Self { oldest_ready_age, $($name: queue.figures.$name(),)* }
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
    Gauge ready,
    /// Messages that are held.
    Gauge in_flight,
    /// Messages that are not due yet, retries too.
    Gauge delayed,
    /// Dead letters.
    Gauge dead,
    /// The handler's `max_parallelism`, 0 without one.
    Gauge parallelism,
    /// Messages enqueued, replacements too.
    Counter enqueued,
    /// Attempts begun.
    Counter delivered,
    /// Attempts that ended with an ack.
    Counter acked,
    /// Attempts that failed, timed out, or lost a pulled lease.
    Counter retried,
    /// Attempts that were given back.
    Counter released,
    /// Attempts that ended with a reject.
    Counter rejected,
    /// Messages that became dead letters.
    Counter dead_lettered,
    /// Messages that a newer one of their key took the place of.
    Counter replaced,
    /// Enqueues answered with a message that was there.
    Counter duplicates,
    /// Messages that expired.
    Counter expired,
    /// Messages that were cancelled.
    Counter cancelled,
    /// Settles that came too late.
    Counter stale_settles,
    /// Attempts that the handler failed.
    Counter handler_errors,
    /// Attempts that ran beyond their timeout.
    Counter timeouts,
    /// Attempts in which the process died, found at open.
    Counter crashes,
    /// Handlers that ran on beyond their grace.
    Counter stuck,
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
