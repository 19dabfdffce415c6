//! How long it takes until a handler that had nothing to do is entered, and the tail of a synced enqueue.

use super::durability::{
    ALL_BUT_2_MIN, ALL_BUT_50_MS, ALL_BUT_64, ALL_BUT_A_SECOND, ALL_BUT_ONE, KILL, NOTHING, POWER,
};
use crate::contest::{Contest, P50, P99, P999};
use crate::player::{ours, rust, threads};
use crate::server::Kind;

pub(super) fn all() -> Vec<Contest> {
    let new = |name, figure| Contest::new("latency", name, figure);
    let idle = "libmq idle level=os messages=2000 body=100";
    let wake = "bare wake of a thread";
    let beside = |snapshots: u32| {
        ours(format!("libmq snapshot level=os messages=1000000 snapshots={snapshots} body=100"))
    };
    vec![
        new("from an enqueue to an idle handler, os", P50)
            .with("libmq", ALL_BUT_64, ours(idle))
            .with(wake, NOTHING, ours("wake idle messages=2000"))
            .with(
                "bare write and wake",
                ALL_BUT_50_MS,
                ours("wake write-idle messages=2000 body=100"),
            )
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
            .at_most("p99", 1.5, Some((wake, "p99")))
            .ahead_of_servers(),
        new("enqueue sync, 64 producers, tail", P99)
            .with("libmq", POWER, threads("libmq threads", "sync", 64, true))
            .with("bare group commit", POWER, threads("group threads", "sync", 64, true))
            .with(
                "SQLite FULL, one connection",
                POWER,
                threads("sqlite threads-shared", "FULL", 64, true),
            ),
        new("os, one by one beside snapshots of 1,000,000 messages", P999)
            .with("libmq", ALL_BUT_50_MS, beside(10))
            .with("libmq, without snapshots", ALL_BUT_50_MS, beside(0))
            .at_most("p999", 1_000.0, None)
            .at_most("max", 20_000.0, None),
    ]
}
