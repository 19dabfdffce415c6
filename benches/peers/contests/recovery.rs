//! How fast a directory opens.

use super::durability::{ALL_BUT_50_MS, NOTHING};
use crate::contest::{Contest, RATE, SPEED};
use crate::player::ours;

pub(super) fn all() -> Vec<Contest> {
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
