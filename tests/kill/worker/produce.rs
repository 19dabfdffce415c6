//! Producers: threads that enqueue until the process is killed.

use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use libmq::{Broker, Dedup, Durability, Error, Message, Receipt};

use crate::numbers::{Numbers, body};
use crate::random::Random;
use crate::say::say;
use crate::trouble;

pub const PRODUCERS: u64 = 4;

/// Keys of the producer that uses keys.
const KEYS: u64 = 12;

/// Most messages of a batch.
const BATCH: u64 = 6;

/// The first two enqueue singly, one with `sync` and one with `os`; the third uses keys; the fourth makes batches.
pub fn run(broker: &Broker, numbers: &Numbers, producer: u64) -> libmq::Result<()> {
    let mut random = numbers.random(producer);
    let pace = pace();
    loop {
        match producer {
            0 => single(broker, numbers, &mut random, Durability::Sync)?,
            1 => single(broker, numbers, &mut random, Durability::Os)?,
            2 => keyed(broker, numbers, &mut random)?,
            _ => batch(broker, numbers, &mut random)?,
        }
        let pause = if producer == 1 { 1500 } else { 900 };
        thread::sleep(Duration::from_micros(random.below(pause) * pace));
    }
}

/// How many times as long producers pause, as `LIBMQ_KILL_PACE` says.
pub fn pace() -> u64 {
    std::env::var("LIBMQ_KILL_PACE").map_or(1, |pace| pace.parse().unwrap())
}

fn queue(random: &mut Random) -> &'static str {
    if random.percent(25) { "pulled" } else { "work" }
}

fn size(random: &mut Random) -> u64 {
    // Now and then one that takes a good part of a segment.
    if random.percent(2) { random.below(30_000) } else { random.below(800) }
}

fn level(durability: Durability) -> &'static str {
    if durability == Durability::Sync { "sync" } else { "os" }
}

fn enqueued(number: u64, durability: Durability, receipt: Receipt) {
    let (level, status) = (level(durability), receipt.status.name());
    say(&format!("enqueued {number} {} {level} {status}", receipt.id));
}

fn refused(numbers: RangeInclusive<u64>, error: Error) -> libmq::Result<()> {
    let kind = trouble::tolerated(error)?;
    numbers.for_each(|number| say(&format!("refused {number} {kind}")));
    thread::sleep(trouble::PAUSE);
    Ok(())
}

fn single(
    broker: &Broker,
    numbers: &Numbers,
    random: &mut Random,
    durability: Durability,
) -> libmq::Result<()> {
    let (number, queue) = (numbers.take(1), queue(random));
    let mut message = Message::new(queue, body(number, size(random))).durability(durability);
    let mut options = "";
    if random.percent(10) {
        message = message.delay(Duration::from_millis(1 + random.below(30)));
        options = " delayed";
    }
    say(&format!("enqueuing {number} {queue} {}{options}", level(durability)));
    match broker.enqueue(message) {
        Ok(receipt) => enqueued(number, durability, receipt),
        Err(error) => refused(number..=number, error)?,
    }
    Ok(())
}

fn keyed(broker: &Broker, numbers: &Numbers, random: &mut Random) -> libmq::Result<()> {
    let (number, key) = (numbers.take(1), format!("key-{}", random.below(KEYS)));
    let durability = if random.percent(50) { Durability::Sync } else { Durability::Os };
    let mut message = Message::new("work", body(number, size(random)))
        .durability(durability)
        .dedup_key(key.clone());
    let mut options = "";
    if random.percent(30) {
        message = message.dedup(Dedup::Keep);
        options = " keep";
    }
    if random.percent(30) {
        // So that it is still waiting when the next one of its key comes.
        message = message.delay(Duration::from_millis(1 + random.below(20)));
    }
    say(&format!("enqueuing {number} work {} key={key}{options} delayed", level(durability)));
    match broker.enqueue(message) {
        Ok(receipt) => enqueued(number, durability, receipt),
        Err(error) => refused(number..=number, error)?,
    }
    Ok(())
}

fn batch(broker: &Broker, numbers: &Numbers, random: &mut Random) -> libmq::Result<()> {
    let count = 2 + random.below(BATCH - 1);
    let first = numbers.take(count);
    let mut messages = Vec::new();
    let mut levels = Vec::new();
    for number in first..first + count {
        let queue = queue(random);
        let durability = if random.percent(70) { Durability::Sync } else { Durability::Os };
        say(&format!("enqueuing {number} {queue} {} batch={first}", level(durability)));
        messages.push(Message::new(queue, body(number, size(random))).durability(durability));
        levels.push(durability);
    }
    let receipts = match broker.enqueue_batch(&messages) {
        Ok(receipts) => receipts,
        Err(error) => return refused(first..=first + count - 1, error),
    };
    for (number, (receipt, durability)) in (first..).zip(receipts.into_iter().zip(levels)) {
        enqueued(number, durability, receipt);
    }
    Ok(())
}
