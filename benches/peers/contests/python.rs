//! The package for Python beside what Python has: in one process, with one thread that enqueues.

use super::durability::{ALL_BUT_50_MS, ALL_BUT_64, KILL, NOTHING, POWER};
use crate::contest::{Contest, P50, RATE};
use crate::player::{handled, puts, python};

pub(super) fn all() -> Vec<Contest> {
    [enqueue(), checkout(), persistence(), end_to_end(), latency()].concat()
}

fn enqueue() -> Vec<Contest> {
    let new = |name| Contest::new("enqueue", name, RATE);
    vec![
        new("Python, os, one by one")
            .with("libmq", ALL_BUT_50_MS, python("libmq enqueue messages=100000 body=100"))
            .with("queue.Queue", NOTHING, python("queue enqueue messages=100000 body=100"))
            .with("huey, SQLite", POWER, python("huey enqueue messages=5000 body=100"))
            .with("litequeue", KILL, python("litequeue enqueue messages=10000 body=100"))
            .with("persist-queue", POWER, python("persistqueue enqueue messages=5000 body=100"))
            .with("honker", KILL, python("honker enqueue messages=5000 body=100"))
            .with("sqlite3 NORMAL", KILL, python("sqlite enqueue messages=20000 body=100"))
            .at_least("rate", 8.0, Some(("sqlite3 NORMAL", "rate")))
            .at_least("rate", 12.0, Some(("litequeue", "rate"))),
        new("Python, os, 1,000 at a time")
            .with("libmq", ALL_BUT_50_MS, python("libmq enqueue-many messages=500000 body=100"))
            .with(
                "libmq, one by one",
                ALL_BUT_50_MS,
                python("libmq enqueue messages=100000 body=100"),
            )
            .with("libmq in Rust", ALL_BUT_50_MS, puts("libmq", "os", 1_000_000, 1000))
            .with("litequeue", KILL, python("litequeue enqueue-many messages=20000 body=100"))
            .with("honker", KILL, python("honker enqueue-many messages=20000 body=100"))
            .with("sqlite3 NORMAL", KILL, python("sqlite enqueue-many messages=200000 body=100"))
            .at_least("rate", 5.0, Some(("libmq, one by one", "rate"))),
        new("Python, memory, one by one")
            .with("libmq", NOTHING, python("libmq enqueue level=memory messages=100000 body=100"))
            .with("queue.Queue", NOTHING, python("queue enqueue messages=100000 body=100"))
            .at_least("rate", 0.8, Some(("queue.Queue", "rate"))),
    ]
}

fn checkout() -> Vec<Contest> {
    let new = |name| Contest::new("checkout", name, RATE);
    vec![
        new("Python, os, take + ack")
            .with("libmq", ALL_BUT_50_MS, python("libmq checkout messages=20000 body=100"))
            .with("queue.Queue", NOTHING, python("queue checkout messages=100000 body=100"))
            .with("litequeue", KILL, python("litequeue checkout messages=5000 body=100"))
            .with("persist-queue", POWER, python("persistqueue checkout messages=2000 body=100"))
            .with("honker", KILL, python("honker checkout messages=2000 body=100")),
        new("Python, os, handled")
            .with("libmq", ALL_BUT_64, python("libmq handled messages=50000 body=100"))
            .with("libmq in Rust", ALL_BUT_64, handled())
            .with(
                "queue.Queue and a thread",
                NOTHING,
                python("queue handled messages=100000 body=100"),
            )
            .with("huey, SQLite", POWER, python("huey handled messages=1000 body=100"))
            .with("honker", KILL, python("honker handled messages=1000 body=100"))
            .with("sqlite3, take + delete", KILL, python("sqlite checkout messages=10000 body=100"))
            .at_least("rate", 8.0, Some(("sqlite3, take + delete", "rate")))
            .at_least("rate", 40.0, Some(("huey, SQLite", "rate")))
            .at_least("rate", 20.0, Some(("honker", "rate"))),
        new("Python, os, handled by coroutines")
            .with("libmq", ALL_BUT_64, python("libmq handled-async messages=50000 body=100"))
            .with("create_task", NOTHING, python("tasks handled-async messages=100000 body=100"))
            .at_least("rate", 0.5, Some(("create_task", "rate"))),
    ]
}

fn persistence() -> Vec<Contest> {
    let new = |name| Contest::new("persistence", name, RATE);
    vec![
        new("Python, sync, one by one")
            .with("libmq", POWER, python("libmq enqueue level=sync messages=3000 body=100"))
            .with("sqlite3 FULL", POWER, python("sqlite enqueue level=FULL messages=2000 body=100"))
            .with("huey, SQLite", POWER, python("huey enqueue messages=2000 body=100"))
            .with("persist-queue", POWER, python("persistqueue enqueue messages=2000 body=100"))
            .at_least("rate", 1.1, Some(("sqlite3 FULL", "rate"))),
        new("Python, sync, 1,000 aenqueue at once")
            .with(
                "libmq",
                POWER,
                python("libmq enqueue-at-once level=sync messages=100000 body=100"),
            )
            .with(
                "libmq, aenqueue one by one",
                POWER,
                python("libmq aenqueue level=sync messages=2000 body=100"),
            )
            .at_least("rate", 20.0, Some(("libmq, aenqueue one by one", "rate"))),
    ]
}

fn end_to_end() -> Vec<Contest> {
    vec![
        Contest::new("end-to-end", "Python, os, fed one by one", RATE)
            .with("libmq", ALL_BUT_64, python("libmq end-to-end messages=30000 body=100"))
            .with(
                "queue.Queue and a thread",
                NOTHING,
                python("queue end-to-end messages=100000 body=100"),
            )
            .with("huey, SQLite", POWER, python("huey end-to-end messages=1000 body=100"))
            .with("litequeue", KILL, python("litequeue end-to-end messages=3000 body=100"))
            .with("persist-queue", POWER, python("persistqueue end-to-end messages=1000 body=100"))
            .with("honker", KILL, python("honker end-to-end messages=1000 body=100")),
    ]
}

fn latency() -> Vec<Contest> {
    vec![
        Contest::new("latency", "Python, from an enqueue to an idle handler", P50)
            .with("libmq", ALL_BUT_64, python("libmq idle messages=300 body=100"))
            .with("queue.Queue and a thread", NOTHING, python("queue idle messages=300 body=100"))
            .with("huey, SQLite", POWER, python("huey idle messages=30 body=100"))
            .with("honker", KILL, python("honker idle messages=100 body=100"))
            .at_most("p50", 150.0, None),
    ]
}
