//! Workloads about segments, snapshots, and the room for them.

use libmq::Durability::{Os, Sync};
use libmq::OnFull;
use libmq_suite::new;

use super::large;
use crate::step::Step::{self, *};
use crate::step::steps::*;

/// Segments that fill, snapshots that free them, what little lives in them moved.
pub(super) fn rolling() -> Vec<Step> {
    let mut steps = vec![
        os(new("slow", "old and alive").key("k")),
        os(new("jobs", "old and dead")),
        receive("jobs"),
        reject("old"),
        os(new("mail", "held").key("k")),
        receive("mail"),
        os(new("slow", "old and delayed").delay(50)),
    ];
    for (round, (first, second)) in
        [("os-0", "sync-0"), ("os-1", "sync-1"), ("os-2", "sync-2"), ("os-3", "sync-3")]
            .into_iter()
            .enumerate()
    {
        steps.extend([
            os(large("jobs", first, 20_000)),
            sync(large("jobs", second, 6_000)),
            receive("jobs"),
            ack(first),
            receive("jobs"),
            if round < 3 { ack(second) } else { retry(second, None) },
        ]);
        if round % 2 == 1 {
            steps.push(Snapshot);
        }
    }
    steps.extend([
        os(new("mail", "behind").key("k")),
        Snapshot,
        ack("held"),
        Snapshot,
        Close,
        Open,
        sync(new("jobs", "after")),
        Snapshot,
        Close,
    ]);
    steps
}

/// A batch larger than a segment, and so than the memory that records are copied into: it gets both to itself, among small ones.
pub(super) fn batched() -> Vec<Step> {
    vec![
        sync(new("jobs", "before").key("k")),
        batch(
            Sync,
            [
                large("jobs", "one", 40_000),
                new("jobs", "between").key("k"),
                large("mail", "two", 30_000),
            ],
        ),
        receive("jobs"),
        batch(Os, [new("jobs", "small").key("k"), new("mail", "small too").delay(10)]),
        ack("between"),
        receive("jobs"),
        reject("one"),
        receive("mail"),
        ack("two"),
        Snapshot,
        Die,
        Open,
        batch(Sync, [new("slow", "the end"), new("slow", "of all").key("k")]),
        Close,
    ]
}

/// A broker that is full: what is refused, what is let in all the same, and what waits until there is room.
pub(super) fn crowded() -> Vec<Step> {
    vec![
        Options(|options| options.capacity(3)),
        Close,
        Open,
        sync(new("jobs", "one")),
        batch(Os, [new("jobs", "two"), new("jobs", "three").key("k")]),
        Refused(Sync, new("mail", "refused")),
        // What replaces takes no more room, nor does what stays out.
        sync(new("jobs", "three again").key("k")),
        os(new("jobs", "kept out").key("k").keep()),
        receive("jobs"),
        Refused(Os, new("jobs", "refused")),
        ack("one"),
        sync(new("mail", "four")),
        receive("jobs"),
        reject("two"),
        os(new("mail", "five").delay(10)),
        Refused(Os, new("jobs", "refused")),
        Snapshot,
        Options(|options| options.capacity(3).on_full(OnFull::Block)),
        Die,
        Open,
        receive("jobs"),
        Blocked(new("slow", "waited"), "three"),
        receive("mail"),
        Blocked(new("slow", "waited too").key("k"), "four"),
        Options(|options| options.capacity(1)),
        Die,
        Open,
        Refused(Sync, new("slow", "refused")),
        Close,
    ]
}

/// A disk without room for a segment more, and then one with a limit: both are filled, drained, and have room again. Owners of
/// the second die while it is full.
pub(super) fn full() -> Vec<Step> {
    vec![
        os(new("slow", "old").key("k")),
        Full,
        Fill("jobs", 20_000),
        Drain("jobs"),
        receive("slow"),
        retry("old", 10),
        Room,
        Snapshot,
        sync(new("jobs", "between")),
        Options(|options| options.max_bytes(512 << 10)),
        Die,
        Open,
        Fill("mail", 25_000),
        receive("jobs"),
        Die,
        Open,
        receive("jobs"),
        retry("between", 0),
        Die,
        Open,
        receive("jobs"),
        ack("between"),
        Drain("mail"),
        Snapshot,
        sync(large("mail", "room again", 30_000)),
        Close,
    ]
}
