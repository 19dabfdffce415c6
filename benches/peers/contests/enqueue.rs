//! Messages in, and not further than the kernel.

use super::durability::{
    ALL_BUT_2_MIN, ALL_BUT_50_MS, ALL_BUT_A_SECOND, ALL_BUT_ONE, KILL, NOTHING,
};
use crate::contest::{Contest, RATE};
use crate::player::{many, others, ours, puts, threads};
use crate::server::Kind;

pub(super) fn all() -> Vec<Contest> {
    let new = |name| Contest::new("enqueue", name, RATE);
    vec![
        new("os, 1 producer, one by one")
            .with("libmq", ALL_BUT_50_MS, puts("libmq", "os", 200_000, 1))
            .with("bare write", KILL, puts("bare", "os", 200_000, 1))
            .with("bare write, made ready", KILL, puts("bare-ready", "os", 200_000, 1))
            .with("plain log", KILL, puts("log", "os", 200_000, 1))
            .with(
                "libmq in memory, and a bare write",
                NOTHING,
                ours("libmq enqueue-and-write level=memory messages=200000 body=100"),
            )
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
            .with("bare write, made ready", KILL, puts("bare-ready", "os", 1_000_000, 100))
            .with("plain log", KILL, puts("log", "os", 1_000_000, 100))
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
        new("os, 64 producers")
            .with("libmq", ALL_BUT_50_MS, threads("libmq threads", "os", 64, false))
            .with("plain log", KILL, threads("log threads", "os", 64, false))
            .with(
                "SQLite NORMAL, one connection",
                KILL,
                threads("sqlite threads-shared", "NORMAL", 64, false),
            )
            .with("beanstalkd, binlog", ALL_BUT_50_MS, many("beanstalkd").beside(Kind::Beanstalkd))
            .with(
                "Redis stream, everysec",
                ALL_BUT_A_SECOND,
                many("redis").beside(Kind::RedisEverysec),
            )
            .with("NATS JetStream", ALL_BUT_2_MIN, many("nats").beside(Kind::Nats))
            .ahead_of_servers(),
        new("memory, producers on two cores")
            .with("libmq", NOTHING, threads("libmq threads", "memory", 2, false))
            .with("libmq, 1 producer", NOTHING, threads("libmq threads", "memory", 1, false))
            .with("plain log, 2 producers", NOTHING, threads("log threads", "memory", 2, false))
            .with("plain log, 1 producer", NOTHING, threads("log threads", "memory", 1, false))
            .with("a line of memory, there and back", NOTHING, ours("line pass messages=1000000"))
            .at_least("rate", 0.6, Some(("libmq, 1 producer", "rate"))),
        new("memory, 64 producers")
            .with("libmq", NOTHING, threads("libmq threads", "memory", 64, false))
            .with("libmq, 1 producer", NOTHING, threads("libmq threads", "memory", 1, false))
            .with("plain log, 64 producers", NOTHING, threads("log threads", "memory", 64, false))
            .with("plain log, 1 producer", NOTHING, threads("log threads", "memory", 1, false))
            .with("a line of memory, there and back", NOTHING, ours("line pass messages=1000000"))
            .at_least("rate", 0.5, Some(("libmq, 1 producer", "rate"))),
    ]
}
