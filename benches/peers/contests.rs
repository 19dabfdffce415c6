//! Who is compared with whom, doing what, and what libmq has promised of it. Bodies have 100 bytes where nothing else is said.

use crate::contest::{Contest, Figure, RATE};
use crate::player::{Player, node, ours, python, rust};
use crate::server::Kind;

/// What an answered message survives, in the words of the report.
const NOTHING: &str = "nothing";
const KILL: &str = "a kill";
const POWER: &str = "a power cut";
/// Of those that sync now and then. Redis answers what it has not written while it syncs in the background, for up to 2 s.
const ALL_BUT_A_SECOND: &str = "a kill, power but 1 to 2 s";
const ALL_BUT_50_MS: &str = "a kill, power but 50 ms";
const ALL_BUT_2_MIN: &str = "a kill, power but 2 min";
const ALL_BUT_250: &str = "a kill but 250 acks";
/// libmq at `os`: a handler's end is written after 64 of them, or 5 ms.
const ALL_BUT_64: &str = "a kill but 64 ends, power but 50 ms";
/// A commit is synced, but not the end of its rollback journal.
const ALL_BUT_ONE: &str = "power but the last";

const fn less(key: &'static str, unit: &'static str) -> Figure {
    Figure { key, unit, is_more_better: false }
}
const P50: Figure = less("p50", "us");
const P99: Figure = less("p99", "us");
const P999: Figure = less("p999", "us");
const MEGABYTES: Figure = less("megabytes", "MB");
const BYTES: Figure = less("bytes", "B a message");
const SPEED: Figure = Figure { key: "megabytes", unit: "MB/s", is_more_better: true };

/// All of them, in the order of the report.
pub(crate) fn all() -> Vec<Contest> {
    let categories =
        [enqueue(), checkout(), persistence(), end_to_end(), latency(), recovery(), scale()];
    categories.into_iter().flatten().collect()
}

/// One of ours that enqueues at a level, so many at a time.
fn puts(peer: &str, level: &str, messages: u32, batch: u32) -> Player {
    ours(format!("{peer} enqueue level={level} messages={messages} batch={batch} body=100"))
}

/// One of ours with so many threads, each of which waits for each of its messages.
fn threads(work: &str, level: &str, count: u32, timed: bool) -> Player {
    ours(format!("{work} level={level} count={count} seconds=1 timed={timed} body=100"))
}

/// One of those that others have written in Rust.
fn others(peer: &str, work: &str, messages: u32, batch: u32) -> Player {
    rust(format!("{peer} {work} messages={messages} batch={batch} body=100"))
}

/// Messages in, and not further than the kernel.
fn enqueue() -> Vec<Contest> {
    let new = |name| Contest::new("enqueue", name, RATE);
    vec![
        new("os, 1 producer, one by one")
            .with("libmq", ALL_BUT_50_MS, puts("libmq", "os", 200_000, 1))
            .with("bare write", KILL, puts("bare", "os", 200_000, 1))
            .with("SQLite NORMAL", KILL, puts("sqlite", "NORMAL", 20_000, 1))
            .with("fjall", KILL, others("fjall", "enqueue", 500_000, 1))
            .with("redb, no sync", NOTHING, others("redb-none", "enqueue", 100_000, 1))
            .with("yaque", KILL, others("yaque", "enqueue", 1_000_000, 1))
            .with("effectum", ALL_BUT_ONE, others("effectum", "enqueue", 5_000, 1))
            .with(
                "beanstalkd, binlog",
                ALL_BUT_50_MS,
                others("beanstalkd", "enqueue", 20_000, 1).beside(Kind::Beanstalkd),
            )
            .with(
                "Redis stream, everysec",
                ALL_BUT_A_SECOND,
                others("redis", "enqueue", 20_000, 1).beside(Kind::RedisEverysec),
            )
            .with(
                "NATS JetStream",
                ALL_BUT_2_MIN,
                others("nats", "enqueue", 20_000, 1).beside(Kind::Nats),
            )
            .at_least("rate", 1.0 / 1.3, Some(("bare write", "rate")))
            .at_least("rate", 12.0, Some(("SQLite NORMAL", "rate")))
            .ahead_of_servers(),
        new("os, 1 producer, batches of 100")
            .with("libmq", ALL_BUT_50_MS, puts("libmq", "os", 1_000_000, 100))
            .with("bare write", KILL, puts("bare", "os", 1_000_000, 100))
            .with("SQLite NORMAL", KILL, puts("sqlite", "NORMAL", 200_000, 100))
            .with("fjall", KILL, others("fjall", "enqueue", 1_000_000, 100))
            .with("redb, no sync", NOTHING, others("redb-none", "enqueue", 400_000, 100))
            .with("yaque", KILL, others("yaque", "enqueue", 2_000_000, 100))
            .with("effectum", ALL_BUT_ONE, others("effectum", "enqueue", 50_000, 100))
            .with(
                "beanstalkd, binlog",
                ALL_BUT_50_MS,
                others("beanstalkd", "enqueue", 100_000, 100).beside(Kind::Beanstalkd),
            )
            .with(
                "Redis stream, everysec",
                ALL_BUT_A_SECOND,
                others("redis", "enqueue", 200_000, 100).beside(Kind::RedisEverysec),
            )
            .with(
                "NATS JetStream",
                ALL_BUT_2_MIN,
                others("nats", "enqueue", 100_000, 100).beside(Kind::Nats),
            )
            .at_least("rate", 8.0, Some(("SQLite NORMAL", "rate")))
            .at_least("rate", 1.0 / 2.5, Some(("bare write", "rate")))
            .ahead_of_servers(),
        new("memory, producers on two cores")
            .with("libmq", NOTHING, threads("libmq threads", "memory", 2, false))
            .with("libmq, 1 producer", NOTHING, threads("libmq threads", "memory", 1, false))
            .at_least("rate", 0.6, Some(("libmq, 1 producer", "rate"))),
        new("memory, 64 producers")
            .with("libmq", NOTHING, threads("libmq threads", "memory", 64, false))
            .with("libmq, 1 producer", NOTHING, threads("libmq threads", "memory", 1, false))
            .at_least("rate", 0.5, Some(("libmq, 1 producer", "rate"))),
        new("Python, os, one by one")
            .with("libmq", ALL_BUT_50_MS, python("libmq enqueue messages=100000 body=100"))
            .with("queue.Queue", NOTHING, python("queue enqueue messages=100000 body=100"))
            .with("huey, SQLite", POWER, python("huey enqueue messages=5000 body=100"))
            .with("litequeue", KILL, python("litequeue enqueue messages=10000 body=100"))
            .with("persist-queue", POWER, python("persistqueue enqueue messages=5000 body=100"))
            .with("honker", KILL, python("honker enqueue messages=5000 body=100"))
            .with("sqlite3 NORMAL", KILL, python("sqlite enqueue messages=20000 body=100"))
            .at_least("rate", 8.0, Some(("sqlite3 NORMAL", "rate"))),
        new("Node, os, one by one")
            .with("libmq", ALL_BUT_50_MS, node("libmq enqueue messages=50000 body=100"))
            .with("fastq", NOTHING, node("fastq enqueue messages=50000 body=100"))
            .with("plainjob", KILL, node("plainjob enqueue messages=20000 body=100"))
            .with("better-queue", NOTHING, node("better-queue enqueue messages=5000 body=100"))
            .with(
                "BullMQ, everysec",
                ALL_BUT_A_SECOND,
                node("bullmq enqueue messages=5000 body=100").beside(Kind::RedisEverysec),
            )
            .with("better-sqlite3 NORMAL", KILL, node("sqlite enqueue messages=20000 body=100"))
            .at_least("rate", 2.0, Some(("better-sqlite3 NORMAL", "rate"))),
    ]
}

/// Messages out: taken and acked, one at a time.
fn checkout() -> Vec<Contest> {
    let new = |name| Contest::new("checkout", name, RATE);
    let takes = |peer: &str, work: &str, level: &str, messages: u32| {
        ours(format!("{peer} {work} level={level} messages={messages} body=100"))
    };
    vec![
        new("memory, enqueue + take + ack, 1 thread")
            .with("libmq", NOTHING, ours("libmq pass level=memory messages=500000 body=100"))
            .with("ArrayQueue, push + pop", NOTHING, ours("ring pass messages=2000000 body=100"))
            .at_least("rate", 1.0 / 18.0, Some(("ArrayQueue, push + pop", "rate"))),
        new("os, take + ack")
            .with("libmq", ALL_BUT_50_MS, takes("libmq", "checkout", "os", 100_000))
            .with(
                "SQLite NORMAL, take + delete",
                KILL,
                takes("sqlite", "checkout", "NORMAL", 10_000),
            )
            .with(
                "SQLite NORMAL, delete at once",
                KILL,
                takes("sqlite", "checkout-at-once", "NORMAL", 10_000),
            )
            .with("fjall", KILL, others("fjall", "checkout", 50_000, 1))
            .with("redb, no sync", NOTHING, others("redb-none", "checkout", 10_000, 1))
            .with(
                "yaque, acks saved by 250",
                ALL_BUT_250,
                others("yaque", "checkout", 1_000_000, 1),
            )
            .with("yaque, each ack saved", KILL, others("yaque-each", "checkout", 20_000, 1))
            .with(
                "beanstalkd, binlog",
                ALL_BUT_50_MS,
                others("beanstalkd", "checkout", 20_000, 1).beside(Kind::Beanstalkd),
            )
            .with(
                "Redis stream, everysec",
                ALL_BUT_A_SECOND,
                others("redis", "checkout", 20_000, 1).beside(Kind::RedisEverysec),
            )
            .with(
                "NATS JetStream",
                ALL_BUT_2_MIN,
                others("nats", "checkout", 10_000, 1).beside(Kind::Nats),
            )
            .ahead_of_servers(),
        new("Python, os, take + ack")
            .with("libmq", ALL_BUT_50_MS, python("libmq checkout messages=20000 body=100"))
            .with("queue.Queue", NOTHING, python("queue checkout messages=100000 body=100"))
            .with("litequeue", KILL, python("litequeue checkout messages=5000 body=100"))
            .with("persist-queue", POWER, python("persistqueue checkout messages=2000 body=100"))
            .with("honker", KILL, python("honker checkout messages=2000 body=100")),
        new("Python, os, handled")
            .with("libmq", ALL_BUT_64, python("libmq handled messages=50000 body=100"))
            .with(
                "queue.Queue and a thread",
                NOTHING,
                python("queue handled messages=100000 body=100"),
            )
            .with("sqlite3, take + delete", KILL, python("sqlite checkout messages=10000 body=100"))
            .at_least("rate", 8.0, Some(("sqlite3, take + delete", "rate"))),
        new("Node, os, handled")
            .with("libmq", ALL_BUT_64, node("libmq handled messages=50000 parallelism=8 body=100"))
            .with("libmq, one by one", ALL_BUT_64, node("libmq handled messages=50000 body=100"))
            .with("fastq, 8", NOTHING, node("fastq handled messages=50000 parallelism=8 body=100"))
            .with(
                "better-sqlite3, take + delete",
                KILL,
                node("sqlite checkout messages=10000 body=100"),
            )
            .at_least("rate", 10.0, Some(("better-sqlite3, take + delete", "rate"))),
        new("Node, os, take + ack")
            .with("libmq", ALL_BUT_50_MS, node("libmq checkout messages=20000 body=100"))
            .with(
                "better-sqlite3, take + delete",
                KILL,
                node("sqlite checkout messages=10000 body=100"),
            ),
    ]
}

/// Messages in, and on the disk when they are answered.
fn persistence() -> Vec<Contest> {
    let new = |name| Contest::new("persistence", name, RATE);
    let fdatasync = "bare pwrite + fdatasync";
    vec![
        new("sync, 1 producer, one by one")
            .with("libmq", POWER, puts("libmq", "sync", 4_000, 1))
            .with(fdatasync, POWER, puts("bare", "sync", 4_000, 1))
            .with("SQLite FULL", POWER, puts("sqlite", "FULL", 2_000, 1))
            .with("fjall, sync", POWER, others("fjall-sync", "enqueue", 2_000, 1))
            .with("redb", POWER, others("redb", "enqueue", 500, 1))
            .with(
                "beanstalkd, binlog always",
                POWER,
                others("beanstalkd", "enqueue", 1_000, 1).beside(Kind::BeanstalkdAlways),
            )
            .with(
                "Redis stream, always",
                POWER,
                others("redis", "enqueue", 1_000, 1).beside(Kind::RedisAlways),
            )
            .at_least("rate", 0.9, Some((fdatasync, "rate")))
            .at_least("rate", 1.0, Some(("SQLite FULL", "rate")))
            .ahead_of_servers(),
        new("sync, 64 producers")
            .with("libmq", POWER, threads("libmq threads", "sync", 64, true))
            .with("libmq, 1 producer", POWER, threads("libmq threads", "sync", 1, true))
            .with("bare group commit", POWER, threads("group threads", "sync", 64, true))
            .with(fdatasync, POWER, puts("bare", "sync", 4_000, 1))
            .with(
                "SQLite FULL, one connection",
                POWER,
                threads("sqlite threads-shared", "FULL", 64, true),
            )
            .with(
                "SQLite FULL, a connection each",
                POWER,
                threads("sqlite threads-apart", "FULL", 64, true),
            )
            .with(
                "beanstalkd, binlog always",
                POWER,
                rust("beanstalkd threads count=64 seconds=1 timed=true body=100")
                    .beside(Kind::BeanstalkdAlways),
            )
            .with(
                "Redis stream, always",
                POWER,
                rust("redis threads count=64 seconds=1 timed=true body=100")
                    .beside(Kind::RedisAlways),
            )
            .at_least("rate", 15.0, Some(("libmq, 1 producer", "rate")))
            .at_least("rate", 0.8, Some(("bare group commit", "rate")))
            .at_most("p99", 8.0, Some((fdatasync, "p50")))
            .ahead_of_servers(),
        new("sync, asynchronous, 1,000 in flight on one thread")
            .with(
                "libmq",
                POWER,
                ours("libmq async level=sync messages=500000 in_flight=1000 body=100"),
            )
            .with("libmq, one by one", POWER, puts("libmq", "sync", 4_000, 1))
            .at_least("rate", 200.0, Some(("libmq, one by one", "rate"))),
        new("sync, batches of 100")
            .with("libmq", POWER, puts("libmq", "sync", 200_000, 100))
            .with(fdatasync, POWER, puts("bare", "sync", 200_000, 100))
            .with("SQLite FULL", POWER, puts("sqlite", "FULL", 100_000, 100))
            .with("fjall, sync", POWER, others("fjall-sync", "enqueue", 100_000, 100))
            .with("redb", POWER, others("redb", "enqueue", 20_000, 100))
            .with(
                "beanstalkd, binlog always",
                POWER,
                others("beanstalkd", "enqueue", 10_000, 100).beside(Kind::BeanstalkdAlways),
            )
            .with(
                "Redis stream, always",
                POWER,
                others("redis", "enqueue", 50_000, 100).beside(Kind::RedisAlways),
            )
            .at_least("rate", 2.5, Some(("SQLite FULL", "rate")))
            .at_least("rate", 0.85, Some((fdatasync, "rate")))
            .ahead_of_servers(),
    ]
}

/// Messages in, handled, and acked.
fn end_to_end() -> Vec<Contest> {
    let new = |name| Contest::new("end-to-end", name, RATE);
    let ways = |messages: u32, batch: u32| {
        ours(format!("libmq end-to-end level=os messages={messages} batch={batch} body=100"))
    };
    let sqlite = "SQLite NORMAL, take + delete";
    let take_and_delete = || ours("sqlite checkout level=NORMAL messages=10000 body=100");
    vec![
        new("os, fed one by one")
            .with("libmq", ALL_BUT_64, ways(200_000, 1))
            .with("bare write", KILL, puts("bare", "os", 200_000, 1))
            .with(sqlite, KILL, take_and_delete())
            .with("effectum", ALL_BUT_ONE, others("effectum", "end-to-end", 2_000, 1))
            .with(
                "yaque, acks saved by 250",
                ALL_BUT_250,
                others("yaque", "end-to-end", 200_000, 1),
            )
            .with("yaque, each ack saved", KILL, others("yaque-each", "end-to-end", 20_000, 1))
            .with(
                "beanstalkd, binlog",
                ALL_BUT_50_MS,
                others("beanstalkd", "end-to-end", 20_000, 1).beside(Kind::Beanstalkd),
            )
            .with(
                "Redis stream, everysec",
                ALL_BUT_A_SECOND,
                others("redis", "end-to-end", 20_000, 1).beside(Kind::RedisEverysec),
            )
            .with(
                "NATS JetStream",
                ALL_BUT_2_MIN,
                others("nats", "end-to-end", 10_000, 1).beside(Kind::Nats),
            )
            .at_least("rate", 1.0 / 2.6, Some(("bare write", "rate")))
            .at_least("rate", 25.0, Some((sqlite, "rate")))
            .ahead_of_servers(),
        new("os, fed in batches of 100")
            .with("libmq", ALL_BUT_64, ways(300_000, 100))
            .with(sqlite, KILL, take_and_delete())
            .at_least("rate", 50.0, Some((sqlite, "rate"))),
        new("Python, os, fed one by one")
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
        new("Node, os, fed one by one")
            .with("libmq", ALL_BUT_64, node("libmq end-to-end messages=30000 body=100"))
            .with("fastq", NOTHING, node("fastq end-to-end messages=100000 body=100"))
            .with("plainjob", KILL, node("plainjob end-to-end messages=5000 body=100"))
            .with("better-queue", NOTHING, node("better-queue end-to-end messages=5000 body=100"))
            .with(
                "BullMQ, everysec",
                ALL_BUT_A_SECOND,
                node("bullmq end-to-end messages=2000 body=100").beside(Kind::RedisEverysec),
            ),
    ]
}

/// How long it takes until a handler that had nothing to do is entered, and the tail of a synced enqueue.
fn latency() -> Vec<Contest> {
    let new = |name, figure| Contest::new("latency", name, figure);
    let idle = "libmq idle level=os messages=2000 body=100";
    let wake = "bare wake of a thread";
    vec![
        new("from an enqueue to an idle handler, os", P50)
            .with("libmq", ALL_BUT_64, ours(idle))
            .with(wake, NOTHING, ours("wake idle messages=2000"))
            .with("effectum", ALL_BUT_ONE, rust("effectum idle messages=200 body=100"))
            .with("yaque", KILL, rust("yaque idle messages=500 body=100"))
            .with(
                "beanstalkd, binlog",
                ALL_BUT_50_MS,
                rust("beanstalkd idle messages=1000 body=100").beside(Kind::Beanstalkd),
            )
            .with(
                "Redis stream, everysec",
                ALL_BUT_A_SECOND,
                rust("redis idle messages=1000 body=100").beside(Kind::RedisEverysec),
            )
            .with(
                "NATS JetStream",
                ALL_BUT_2_MIN,
                rust("nats idle messages=1000 body=100").beside(Kind::Nats),
            )
            .at_most("p50", 2.0, Some((wake, "p50")))
            .at_most("p99", 1.5, Some((wake, "p99"))),
        new("enqueue sync, 64 producers, tail", P99)
            .with("libmq", POWER, threads("libmq threads", "sync", 64, true))
            .with("bare group commit", POWER, threads("group threads", "sync", 64, true))
            .with(
                "SQLite FULL, one connection",
                POWER,
                threads("sqlite threads-shared", "FULL", 64, true),
            ),
        new("os, one by one beside snapshots of 1,000,000 messages", P999)
            .with(
                "libmq",
                ALL_BUT_50_MS,
                ours("libmq snapshot level=os messages=1000000 snapshots=10 body=100"),
            )
            .at_most("p999", 1_000.0, None)
            .at_most("max", 20_000.0, None),
        new("Python, from an enqueue to an idle handler", P50)
            .with("libmq", ALL_BUT_64, python("libmq idle messages=300 body=100"))
            .with("queue.Queue and a thread", NOTHING, python("queue idle messages=300 body=100"))
            .with("huey, SQLite", POWER, python("huey idle messages=30 body=100"))
            .with("honker", KILL, python("honker idle messages=100 body=100"))
            .at_most("p50", 200.0, None),
        new("Node, from an enqueue to an idle handler", P50)
            .with("libmq", ALL_BUT_64, node("libmq idle messages=300 body=100"))
            .with("fastq", NOTHING, node("fastq idle messages=300 body=100"))
            .with("plainjob", KILL, node("plainjob idle messages=30 body=100"))
            .with(
                "BullMQ, everysec",
                ALL_BUT_A_SECOND,
                node("bullmq idle messages=300 body=100").beside(Kind::RedisEverysec),
            )
            .at_most("p50", 200.0, None),
    ]
}

/// How fast a directory opens.
fn recovery() -> Vec<Contest> {
    let new = |name, figure| Contest::new("recovery", name, figure);
    let opens = |after: &str, messages: u32, body: u32| {
        ours(format!("libmq open level=os after={after} messages={messages} body={body}"))
    };
    vec![
        new("1,000,000 messages", RATE)
            .with("libmq, from its log after a kill", ALL_BUT_50_MS, opens("kill", 1_000_000, 100))
            .with("libmq, from a snapshot", ALL_BUT_50_MS, opens("snapshot", 1_000_000, 100))
            .at_least("rate", 3e6, None),
        new("10,000 messages of 64 KiB", SPEED)
            .with("libmq", ALL_BUT_50_MS, opens("kill", 10_000, 65_536))
            .with(
                "bare read of the same bytes",
                NOTHING,
                ours("bare read messages=10000 body=65536"),
            )
            .at_least("megabytes", 0.5, Some(("bare read of the same bytes", "megabytes"))),
    ]
}

/// What much costs: large bodies, and many messages.
fn scale() -> Vec<Contest> {
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
