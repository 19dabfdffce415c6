//! Messages in, handled, and acked.

use super::durability::{
    ALL_BUT_2_MIN, ALL_BUT_50_MS, ALL_BUT_64, ALL_BUT_250, ALL_BUT_A_SECOND, ALL_BUT_ONE, KILL,
};
use crate::contest::{Contest, RATE};
use crate::player::{handled, others, ours, puts};
use crate::server::Kind;

pub(super) fn all() -> Vec<Contest> {
    let new = |name| Contest::new("end-to-end", name, RATE);
    let ways = |messages: u32, batch: u32| {
        ours(format!("libmq end-to-end level=os messages={messages} batch={batch} body=100"))
    };
    let sqlite = "SQLite NORMAL, take + delete";
    let take_and_delete = || ours("sqlite checkout level=NORMAL messages=10000 body=100");
    vec![
        new("os, fed one by one")
            .with("libmq", ALL_BUT_64, ways(200_000, 1))
            .with("libmq, handled by nobody", ALL_BUT_50_MS, puts("libmq", "os", 200_000, 1))
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
            // An attempt costs no write, and an end shares one with others.
            .at_least("rate", 1.0 / 1.6, Some(("bare write", "rate")))
            .at_least("rate", 25.0, Some((sqlite, "rate")))
            .ahead_of_servers(),
        new("os, fed in batches of 100")
            .with("libmq", ALL_BUT_64, ways(300_000, 100))
            .with("libmq, what is there already", ALL_BUT_64, handled())
            .with(sqlite, KILL, take_and_delete())
            .with(
                "yaque, acks saved by 250",
                ALL_BUT_250,
                others("yaque", "end-to-end", 400_000, 100),
            )
            .with("yaque, each ack saved", KILL, others("yaque-each", "end-to-end", 20_000, 100))
            .with(
                "beanstalkd, binlog",
                ALL_BUT_50_MS,
                others("beanstalkd", "end-to-end", 20_000, 100).beside(Kind::Beanstalkd),
            )
            .with(
                "Redis stream, everysec",
                ALL_BUT_A_SECOND,
                others("redis", "end-to-end", 20_000, 100).beside(Kind::RedisEverysec),
            )
            .with(
                "NATS JetStream",
                ALL_BUT_2_MIN,
                others("nats", "end-to-end", 10_000, 100).beside(Kind::Nats),
            )
            .at_least("rate", 50.0, Some((sqlite, "rate")))
            .ahead_of_servers(),
    ]
}
