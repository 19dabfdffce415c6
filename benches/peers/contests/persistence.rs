//! Messages in, and on the disk when they are answered.

use super::durability::POWER;
use crate::contest::{Contest, RATE};
use crate::player::{many, others, ours, puts, threads};
use crate::server::Kind;

pub(super) fn all() -> Vec<Contest> {
    let new = |name| Contest::new("persistence", name, RATE);
    let fdatasync = "bare pwrite + fdatasync";
    let in_flight = |snapshots: bool| {
        let work = "libmq async level=sync messages=500000 in_flight=1000";
        ours(format!("{work} snapshots={snapshots} body=100"))
    };
    vec![
        new("sync, 1 producer, one by one")
            .with("libmq", POWER, puts("libmq", "sync", 4_000, 1))
            .with(fdatasync, POWER, puts("bare-ready", "sync", 4_000, 1))
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
            .with(fdatasync, POWER, puts("bare-ready", "sync", 4_000, 1))
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
                many("beanstalkd").beside(Kind::BeanstalkdAlways),
            )
            .with("Redis stream, always", POWER, many("redis").beside(Kind::RedisAlways))
            .at_least("rate", 15.0, Some(("libmq, 1 producer", "rate")))
            .at_least("rate", 0.8, Some(("bare group commit", "rate")))
            .at_most("p99", 8.0, Some((fdatasync, "p50")))
            .ahead_of_servers(),
        new("sync, asynchronous, 1,000 in flight on one thread")
            .with("libmq", POWER, in_flight(true))
            .with("libmq, without snapshots", POWER, in_flight(false))
            .with("libmq, one by one", POWER, puts("libmq", "sync", 4_000, 1))
            // While one half is synced, the other is made.
            .with(
                "bare pwrite + fdatasync, 500 at a time",
                POWER,
                puts("bare-ready", "sync", 500_000, 500),
            )
            .with(
                "beanstalkd, binlog always",
                POWER,
                others("beanstalkd", "enqueue", 20_000, 1_000).beside(Kind::BeanstalkdAlways),
            )
            .with(
                "Redis stream, always",
                POWER,
                others("redis", "enqueue", 200_000, 1_000).beside(Kind::RedisAlways),
            )
            .at_least("rate", 200.0, Some(("libmq, one by one", "rate")))
            .ahead_of_servers(),
        new("sync, batches of 100")
            .with("libmq", POWER, puts("libmq", "sync", 200_000, 100))
            .with(fdatasync, POWER, puts("bare-ready", "sync", 200_000, 100))
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
