//! Messages out: taken and acked, one at a time.

use super::durability::{
    ALL_BUT_2_MIN, ALL_BUT_50_MS, ALL_BUT_250, ALL_BUT_A_SECOND, KILL, NOTHING,
};
use crate::contest::{Contest, RATE};
use crate::player::{others, ours};
use crate::server::Kind;

pub(super) fn all() -> Vec<Contest> {
    let new = |name| Contest::new("checkout", name, RATE);
    let takes = |peer: &str, work: &str, level: &str, messages: u32| {
        ours(format!("{peer} {work} level={level} messages={messages} body=100"))
    };
    vec![
        new("memory, enqueue + take + ack, 1 thread")
            .with("libmq", NOTHING, ours("libmq pass level=memory messages=500000 body=100"))
            .with("ArrayQueue, push + pop", NOTHING, ours("ring pass messages=2000000 body=100"))
            .with(
                "crossbeam-channel, send + recv",
                NOTHING,
                ours("channel pass messages=2000000 body=100"),
            )
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
    ]
}
