//! Workloads about what decides which message is next, and which is none any more.

use libmq::Durability::{Os, Sync};
use libmq_suite::new;

use crate::step::Step::{self, *};
use crate::step::steps::*;

/// Priorities, groups, what expires, windows, and what is removed.
pub(super) fn choosy() -> Vec<Step> {
    let (first, second) = (new("jobs", "first").group("g"), new("jobs", "second").group("g"));
    vec![
        os(new("jobs", "low").expires(30)),
        batch(
            Sync,
            [first.priority(1), second.priority(3), new("jobs", "third").group("g").expires(60)],
        ),
        os(new("jobs", "high").priority(9).key("k").window(40)),
        sync(new("jobs", "higher").priority(8).key("k").group("h").window(40)),
        receive("jobs"),
        ack("higher"),
        os(new("jobs", "kept out").key("k").keep()),
        os(new("mail", "guarded").key("k").window(20)),
        receive("mail"),
        ack("guarded"),
        Snapshot,
        // The group waits for what came back, not for what is only delayed.
        os(new("jobs", "delayed").group("g").delay(10)),
        receive("jobs"),
        receive("jobs"),
        retry("first", 20),
        receive("jobs"),
        advance(10),
        os(new("mail", "guard ended").key("k")),
        Snapshot,
        Die,
        Open,
        advance(10),
        receive("jobs"),
        ack("first"),
        // What was low was attempted when the process died, so it ends as a dead letter.
        advance(10),
        receive("jobs"),
        os(new("mail", "cancelled").group("g").expires(20)),
        Cancel("cancelled"),
        os(new("slow", "purged").key("k")),
        os(new("slow", "purged too").delay(10)),
        Purge("slow"),
        release("second", 10),
        advance(30),
        sync(new("jobs", "the end").key("k").keep()),
        Close,
        Open,
        sync(new("slow", "after all").key("k").keep()),
        Close,
    ]
}

/// Keys that are guarded after the ack: over snapshots, over deaths, to their end, and to whoever replaces.
pub(super) fn guarding() -> Vec<Step> {
    vec![
        os(new("jobs", "first").key("k").window(40)),
        receive("jobs"),
        ack("first"),
        sync(new("jobs", "kept out").key("k").keep()),
        Snapshot,
        Die,
        Open,
        os(new("jobs", "kept out too").key("k").keep()),
        os(new("mail", "other").key("k").window(20)),
        receive("mail"),
        ack("other"),
        advance(10),
        Snapshot,
        // A message that replaces is let through, and ends the window.
        os(new("jobs", "let through").key("k").window(30)),
        receive("jobs"),
        retry("let", 10),
        Die,
        Open,
        advance(10),
        receive("jobs"),
        Snapshot,
        ack("let"),
        Die,
        Open,
        sync(new("mail", "guard ended").key("k").keep()),
        advance(20),
        sync(new("jobs", "still out").key("k").keep()),
        advance(10),
        os(new("jobs", "again").key("k").keep().window(20)),
        receive("jobs"),
        AckWith("again", Os, new("jobs", "own child").key("k")),
        Close,
        Open,
        receive("jobs"),
        sync(new("slow", "the end")),
        Die,
    ]
}

/// A group whose first message is tried again and again, over a snapshot and a death, and what waits behind it.
pub(super) fn grouped() -> Vec<Step> {
    let of_group = |body: &str| new("jobs", body).group("g");
    vec![
        batch(Sync, [of_group("first"), of_group("second"), of_group("third")]),
        os(new("jobs", "other").group("h")),
        receive("jobs"),
        receive("jobs"),
        retry("first", 10),
        Snapshot,
        receive("jobs"),
        os(of_group("fourth").priority(5)),
        advance(10),
        receive("jobs"),
        retry("first", None),
        Die,
        Open,
        // The other group's message was in flight, and is a suspect.
        receive("jobs"),
        release("other", 10),
        Snapshot,
        advance(20),
        receive("jobs"),
        // It has to wait until nothing else is in flight.
        receive("jobs"),
        // For the last time: it is a dead letter, and its group goes on.
        retry("first", 0),
        receive("jobs"),
        reject(""),
        receive("jobs"),
        ack(""),
        receive("jobs"),
        Die,
        Open,
        Snapshot,
        receive("jobs"),
        ack(""),
        Replay("first"),
        receive("jobs"),
        release("", 0),
        receive("jobs"),
        Close,
    ]
}

/// Dead letters that are listed, replayed and purged, over snapshots and deaths, and messages that are removed.
pub(super) fn buried() -> Vec<Step> {
    vec![
        batch(Sync, [new("jobs", "one"), new("jobs", "two").key("k"), new("jobs", "three")]),
        os(new("mail", "four")),
        receive("jobs"),
        receive("jobs"),
        receive("jobs"),
        receive("mail"),
        reject("one"),
        reject("two"),
        reject("three"),
        reject("four"),
        Letters,
        Snapshot,
        sync(new("jobs", "holder").key("k")),
        // Its key is held by another one, so it stays.
        Replay("two"),
        Replay("one"),
        Letters,
        Die,
        Open,
        PurgeLetters("mail"),
        receive("jobs"),
        reject("holder"),
        Snapshot,
        Replay("two"),
        Replay("three"),
        Cancel("three"),
        receive("jobs"),
        Die,
        Open,
        Letters,
        PurgeLetters("jobs"),
        os(new("slow", "waits").key("k")),
        os(new("slow", "later").delay(10)),
        os(new("slow", "taken").priority(1)),
        receive("slow"),
        Purge("slow"),
        Letters,
        Snapshot,
        Close,
    ]
}

/// Time that is moved, and what comes due and expires by it, also while nobody has the broker open.
pub(super) fn timed() -> Vec<Step> {
    vec![
        os(new("jobs", "short").expires(10)),
        os(new("jobs", "tried").expires(30)),
        sync(new("jobs", "long").delay(20).expires(60)),
        os(new("mail", "later").delay(40).key("k")),
        receive("jobs"),
        receive("jobs"),
        retry("tried", 20),
        // It is over while somebody has it, and only then ends.
        advance(10),
        release("short", 0),
        advance(10),
        Snapshot,
        Die,
        Open,
        receive("jobs"),
        receive("jobs"),
        release("long", 10),
        advance(10),
        os(new("slow", "short too").expires(10).group("g")),
        sync(new("slow", "behind it").group("g")),
        Close,
        Open,
        advance(10),
        receive("slow"),
        receive("mail"),
        Die,
        Open,
        advance(20),
        sync(new("slow", "the end").expires(20)),
        Die,
    ]
}
