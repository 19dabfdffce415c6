//! The package for Node beside what Node has: in one process, on its loop.

use super::durability::{ALL_BUT_50_MS, ALL_BUT_64, ALL_BUT_A_SECOND, KILL, NOTHING, POWER};
use crate::contest::{Contest, P50, RATE};
use crate::player::{self, Player, node};
use crate::server::Kind;

pub(super) fn all() -> Vec<Contest> {
    [enqueue(), checkout(), persistence(), end_to_end(), latency()].concat()
}

fn bullmq(ask: &str) -> Player {
    node(format!("bullmq {ask} body=100")).beside(Kind::RedisEverysec)
}

fn enqueue() -> Vec<Contest> {
    let new = |name| Contest::new("enqueue", name, RATE);
    vec![
        new("Node, os, one by one")
            .with("libmq", ALL_BUT_50_MS, node("libmq enqueue messages=50000 body=100"))
            .with("fastq", NOTHING, node("fastq enqueue messages=50000 body=100"))
            .with("plainjob", KILL, node("plainjob enqueue messages=20000 body=100"))
            .with("better-queue", NOTHING, node("better-queue enqueue messages=5000 body=100"))
            .with("BullMQ, everysec", ALL_BUT_A_SECOND, bullmq("enqueue messages=5000"))
            .with("better-sqlite3 NORMAL", KILL, node("sqlite enqueue messages=20000 body=100"))
            .at_least("rate", 2.0, Some(("better-sqlite3 NORMAL", "rate")))
            .at_least("rate", 5.0, Some(("plainjob", "rate")))
            .at_least("rate", 30.0, Some(("BullMQ, everysec", "rate"))),
        new("Node, os, 1,000 in flight")
            .with("libmq", ALL_BUT_50_MS, node("libmq enqueue-at-once messages=200000 body=100"))
            .with("plainjob", KILL, node("plainjob enqueue-at-once messages=20000 body=100"))
            .with("BullMQ, everysec", ALL_BUT_A_SECOND, bullmq("enqueue-at-once messages=20000"))
            .at_least("rate", 10.0, Some(("plainjob", "rate"))),
    ]
}

fn checkout() -> Vec<Contest> {
    let new = |name| Contest::new("checkout", name, RATE);
    let handled = |peer: &str, messages: u32| {
        node(format!("{peer} handled messages={messages} parallelism=8 body=100"))
    };
    let sqlite = || node("sqlite checkout messages=10000 body=100");
    vec![
        new("Node, os, handled")
            .with("libmq", ALL_BUT_64, handled("libmq", 50_000))
            .with("libmq, one by one", ALL_BUT_64, node("libmq handled messages=50000 body=100"))
            .with("libmq in Rust", ALL_BUT_64, player::handled())
            .with("fastq, 8", NOTHING, handled("fastq", 50_000))
            .with("plainjob", KILL, handled("plainjob", 5_000))
            .with(
                "BullMQ, everysec, 8",
                ALL_BUT_A_SECOND,
                bullmq("handled messages=5000 parallelism=8"),
            )
            .with("better-sqlite3, take + delete", KILL, sqlite())
            .at_least("rate", 10.0, Some(("better-sqlite3, take + delete", "rate")))
            .at_least("rate", 15.0, Some(("plainjob", "rate")))
            .at_least("rate", 20.0, Some(("BullMQ, everysec, 8", "rate")))
            .at_least("rate", 0.5, Some(("fastq, 8", "rate"))),
        new("Node, os, take + ack")
            .with("libmq", ALL_BUT_50_MS, node("libmq checkout messages=20000 body=100"))
            .with("better-sqlite3, take + delete", KILL, sqlite()),
    ]
}

fn persistence() -> Vec<Contest> {
    vec![
        Contest::new("persistence", "Node, sync, 1,000 in flight", RATE)
            .with("libmq", POWER, node("libmq enqueue-at-once level=sync messages=100000 body=100"))
            .with(
                "libmq, one by one",
                POWER,
                node("libmq enqueue level=sync messages=2000 body=100"),
            )
            .at_least("rate", 20.0, Some(("libmq, one by one", "rate"))),
    ]
}

fn end_to_end() -> Vec<Contest> {
    vec![
        Contest::new("end-to-end", "Node, os, fed one by one", RATE)
            .with("libmq", ALL_BUT_64, node("libmq end-to-end messages=30000 body=100"))
            .with("fastq", NOTHING, node("fastq end-to-end messages=100000 body=100"))
            .with("plainjob", KILL, node("plainjob end-to-end messages=5000 body=100"))
            .with("better-queue", NOTHING, node("better-queue end-to-end messages=5000 body=100"))
            .with("BullMQ, everysec", ALL_BUT_A_SECOND, bullmq("end-to-end messages=2000")),
    ]
}

fn latency() -> Vec<Contest> {
    vec![
        Contest::new("latency", "Node, from an enqueue to an idle handler", P50)
            .with("libmq", ALL_BUT_64, node("libmq idle messages=300 body=100"))
            .with("fastq", NOTHING, node("fastq idle messages=300 body=100"))
            .with("plainjob", KILL, node("plainjob idle messages=30 body=100"))
            .with("BullMQ, everysec", ALL_BUT_A_SECOND, bullmq("idle messages=300"))
            .at_most("p50", 200.0, None),
    ]
}
