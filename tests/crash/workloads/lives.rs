//! Workloads about what becomes of messages, and of the processes that have them.

use libmq::Durability::{Os, Sync};
use libmq_suite::new;

use super::large;
use crate::step::Step::{self, *};
use crate::step::steps::*;

/// A message's whole life and another one's beginning: as little as there can be.
pub(super) fn brief() -> Vec<Step> {
    vec![
        sync(new("jobs", "one")),
        os(new("jobs", "two").key("k")),
        receive("jobs"),
        ack("one"),
        Snapshot,
        Die,
        Open,
        Close,
    ]
}

/// Everything a message can go through, once.
pub(super) fn mixed() -> Vec<Step> {
    vec![
        sync(new("jobs", "one")),
        os(new("jobs", "two")),
        receive("jobs"),
        os(new("mail", "three").delay(20)),
        ack("one"),
        batch(Sync, [new("jobs", "four"), new("mail", "five"), new("jobs", "six").key("k")]),
        // Replaced while it waits, kept, and then one behind it while it is in flight.
        os(new("jobs", "six again").key("k")),
        sync(new("jobs", "kept out").key("k").keep()),
        receive("jobs"),
        receive("jobs"),
        receive("jobs"),
        os(new("jobs", "behind").key("k")),
        sync(new("jobs", "behind again").key("k")),
        sync(new("jobs", "kept out").key("k").keep()),
        retry("two", 10),
        reject("four"),
        retry("six", None),
        receive("jobs"),
        os(new("jobs", "last of its key").key("k")),
        AckWith("behind", Sync, new("mail", "child")),
        advance(10),
        receive("jobs"),
        release("two", 10),
        Replay("four"),
        receive("mail"),
        reject("five"),
        receive("mail"),
        PurgeLetters("mail"),
        advance(20),
        sync(new("slow", "the end")),
        Close,
    ]
}

/// A process that dies with messages in flight, more than once, until the killer has used its crashes up.
pub(super) fn dying() -> Vec<Step> {
    vec![
        os(new("jobs", "killer")),
        sync(new("jobs", "innocent")),
        os(new("mail", "older").key("k")),
        receive("jobs"),
        receive("jobs"),
        receive("mail"),
        os(new("mail", "newer").key("k")),
        Die,
        Open,
        receive("jobs"),
        // Suspects run one at a time.
        receive("jobs"),
        Die,
        Open,
        Snapshot,
        // The killer is a dead letter instead of a delivery.
        receive("jobs"),
        os(new("jobs", "late")),
        retry("innocent", 0),
        Die,
        Open,
        receive("jobs"),
        release("innocent", 10),
        receive("jobs"),
        Close,
        Open,
        receive("jobs"),
        ack("late"),
        advance(10),
        receive("jobs"),
        Die,
        Open,
        receive("jobs"),
        sync(new("slow", "the end")),
        Die,
    ]
}

/// Nothing but what the kernel is trusted with: no sync is asked for, and the log goes on in the next segment.
pub(super) fn unsynced() -> Vec<Step> {
    vec![
        os(new("jobs", "one")),
        os(new("mail", "two").key("k")),
        receive("jobs"),
        ack("one"),
        os(large("jobs", "three", 30_000)),
        receive("jobs"),
        retry("three", 10),
        os(new("mail", "two again").key("k")),
        os(large("jobs", "four", 30_000)),
        receive("mail"),
        reject("two"),
        receive("jobs"),
        os(new("mail", "five").key("k").keep()),
        release("four", 10),
        Die,
        Open,
        os(new("jobs", "six")),
        advance(10),
        receive("jobs"),
        Die,
        Open,
        receive("jobs"),
        os(new("slow", "the end")),
        Die,
    ]
}

/// Openings that were closed in order, and backups of all of them, also of what is in flight.
pub(super) fn copied() -> Vec<Step> {
    vec![
        sync(new("jobs", "one")),
        os(new("jobs", "two").key("k")),
        Backup,
        receive("jobs"),
        os(new("mail", "later").delay(20)),
        receive("jobs"),
        os(new("jobs", "behind").key("k")),
        Backup,
        ack("one"),
        reject("two"),
        Backup,
        Close,
        Open,
        sync(new("jobs", "three")),
        Close,
        Open,
        Backup,
        receive("jobs"),
        Replay("two"),
        Close,
        Open,
        receive("jobs"),
        Die,
        Open,
        Backup,
        os(new("slow", "the end")),
        Close,
    ]
}

/// Handlers, whose ends are written later and together, and what they enqueue with their acks; one child is brought by a
/// delivery that was pulled.
pub(super) fn handled() -> Vec<Step> {
    vec![
        batch(Os, [new("jobs", "one"), new("jobs", "two"), new("jobs", "three")]),
        Handle("jobs", None),
        sync(new("jobs", "four").key("k")),
        os(new("jobs", "five")),
        Handle("jobs", Some(new("mail", "child"))),
        Snapshot,
        receive("mail"),
        AckWith("child", Os, new("slow", "grandchild").key("k")),
        Handle("mail", None),
        os(new("jobs", "six").key("k")),
        receive("jobs"),
        Die,
        Open,
        // It is a suspect now, and is handled as one.
        Handle("jobs", Some(new("mail", "child"))),
        receive("mail"),
        AckWith("child", Sync, new("jobs", "last").key("k")),
        Close,
    ]
}
