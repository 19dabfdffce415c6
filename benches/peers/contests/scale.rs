//! What much costs: large bodies, and many messages.

use super::durability::{ALL_BUT_50_MS, KILL};
use crate::contest::{BYTES, Contest, MEGABYTES, RATE};
use crate::player::ours;

pub(super) fn all() -> Vec<Contest> {
    let waits = "libmq waiting level=os messages=10000000 probe=20000 cache=67108864 body=100";
    let mut contests = vec![
        Contest::new("scale", "10,000,000 waiting, memory beside the cache", BYTES)
            .with("libmq", ALL_BUT_50_MS, ours(waits))
            .at_most("bytes", 100.0, None)
            .at_least("flat", 0.8, None),
        Contest::new("scale", "a new broker with defaults", MEGABYTES)
            .with("libmq", ALL_BUT_50_MS, ours("libmq fresh level=os"))
            .at_most("megabytes", 8.0, None),
    ];
    let backlog = |waiting: u32| {
        ours(format!("libmq backlog level=os messages=20000 waiting={waiting} body=100"))
    };
    contests.push(
        Contest::new("scale", "enqueue + take + ack, os, beside a backlog", RATE)
            .with("libmq, 10,000,000 waiting", ALL_BUT_50_MS, backlog(10_000_000))
            .with("libmq, 1,000,000 waiting", ALL_BUT_50_MS, backlog(1_000_000))
            .with("libmq, 100,000 waiting", ALL_BUT_50_MS, backlog(100_000))
            .with("libmq, 10,000 waiting", ALL_BUT_50_MS, backlog(10_000))
            .with("libmq, 1,000 waiting", ALL_BUT_50_MS, backlog(1_000))
            .at_least("rate", 0.8, Some(("libmq, 1,000 waiting", "rate"))),
    );
    for (bytes, name, messages) in [
        (100, "100 B", 200_000),
        (1 << 10, "1 KiB", 100_000),
        (10 << 10, "10 KiB", 40_000),
        (100 << 10, "100 KiB", 5_000),
        (1 << 20, "1 MiB", 500),
    ] {
        let puts = |peer: &str, level: &str| {
            ours(format!("{peer} enqueue level={level} messages={messages} batch=1 body={bytes}"))
        };
        contests.push(
            Contest::new("scale", format!("enqueue os, one by one, bodies of {name}"), RATE)
                .with("libmq", ALL_BUT_50_MS, puts("libmq", "os"))
                .with("bare write", KILL, puts("bare", "os"))
                .with("SQLite NORMAL", KILL, puts("sqlite", "NORMAL")),
        );
    }
    contests
}
