//! The crew: threads that produce, consume, cancel and take snapshots, as long as their broker is open.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libmq::{
    Broker, Context, Dedup, Delivery, Error, ErrorKind, HandlerError, HandlerOptions, Message,
    ReceiptStatus,
};
use libmq_suite::Rng;

use crate::tally::{CHILD, Delivered, End, Tally};

/// Its messages are pulled, or handled.
pub(crate) const QUEUES: [&str; 2] = ["pulled", "handled"];

/// Longer than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// Keys of each queue, and groups.
const KEYS: u64 = 6;
const GROUPS: u64 = 8;
/// Messages that a producer enqueues together at most.
const BATCH: u64 = 20;
/// How long whoever takes snapshots waits between two.
const PAUSE: Duration = Duration::from_millis(3);

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    seed: u64,
    /// Numbers that were given so far, and how many there are to be.
    given: AtomicU64,
    most: u64,
    /// A clock of calls and answers.
    moments: AtomicU64,
    /// Messages and groups that are in somebody's hands.
    held: Mutex<(HashSet<u64>, HashSet<String>)>,
    /// Ids that somebody may cancel.
    recent: Mutex<Vec<u64>>,
    /// What handlers have done.
    pub(crate) handled: Mutex<Tally>,
    /// Something was wrong that no answer shows.
    pub(crate) wrong: Mutex<Vec<String>>,
}

impl Shared {
    pub(crate) fn new(seed: u64, most: u64) -> Self {
        Self {
            seed,
            given: AtomicU64::new(0),
            most,
            moments: AtomicU64::new(1),
            held: Mutex::default(),
            recent: Mutex::default(),
            handled: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// How many of the messages were made.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed).min(self.most)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.given() == self.most
    }

    /// Enqueues until all there are to be were, or the broker is closed.
    pub(crate) fn produce(&self, broker: &Broker, thread: u64) -> Tally {
        let mut rng = self.rng(thread);
        let mut tally = Tally::default();
        loop {
            let count = if rng.below(4) == 0 { 1 + rng.below(BATCH) } else { 1 };
            let first = self.given.fetch_add(count, Ordering::Relaxed);
            let numbers = first..(first + count).min(self.most);
            if numbers.is_empty() {
                return tally;
            }
            let drafts: Vec<_> = numbers.map(|number| self.message(&mut rng, number)).collect();
            let messages: Vec<Message<'_>> =
                drafts.iter().map(|(_, _, message)| message.clone()).collect();
            let answer = match &messages[..] {
                [message] => broker.enqueue(message.clone()).map(|receipt| vec![receipt]),
                _ => broker.enqueue_batch(&messages),
            };
            tally.calls += 1;
            match answer {
                Ok(receipts) => {
                    for ((number, key, _), receipt) in drafts.iter().zip(receipts) {
                        match receipt.status {
                            ReceiptStatus::Duplicate => tally.refused.push(*number),
                            _ => tally.enqueued.push((receipt.id, *number, *key)),
                        }
                        if rng.below(50) == 0 {
                            self.recent.lock().unwrap().push(receipt.id);
                        }
                    }
                }
                Err(error) => {
                    tally.refused.extend(drafts.iter().map(|(number, ..)| number));
                    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                    return tally;
                }
            }
        }
    }

    /// Pulls and settles until the broker is closed.
    pub(crate) fn consume(&self, broker: &Broker, thread: u64) -> Tally {
        let mut rng = self.rng(thread);
        let mut tally = Tally::default();
        loop {
            let (asked, most) = (self.moment(), 1 + rng.below(4) as usize);
            let got = match broker.receive_batch(QUEUES[0], most, LONG, LONG) {
                Ok(got) => got,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                    return tally;
                }
            };
            tally.calls += 1 + got.len() as u64;
            got.iter().for_each(|delivery| self.take(delivery));
            for delivery in got {
                let (id, token) = (delivery.id(), delivery.token());
                let number = number_of(&delivery);
                let end = self.settle(&mut rng, &delivery);
                let asked = Some(asked);
                tally.delivered.push(Delivered { id, number, token, asked, end });
            }
        }
    }

    /// Cancels now and then, and takes snapshots, until the broker is closed.
    pub(crate) fn meddle(&self, broker: &Broker) -> Tally {
        let mut tally = Tally::default();
        loop {
            for id in std::mem::take(&mut *self.recent.lock().unwrap()) {
                match broker.cancel(id) {
                    Ok(true) => tally.cancelled.push((id, self.moment())),
                    Ok(false) => {}
                    Err(error) => return closed(&error, tally),
                }
            }
            if let Err(error) = broker.snapshot() {
                return closed(&error, tally);
            }
            tally.calls += 1;
            std::thread::sleep(PAUSE);
        }
    }

    /// Has the handled queue's messages handled.
    pub(crate) fn handle(self: &Arc<Self>, broker: &Broker) {
        let shared = Arc::clone(self);
        let calls = AtomicU64::new(0);
        let options = HandlerOptions::new().max_parallelism(3).timeout(LONG);
        let handler = move |context: &Context| {
            let mut rng = shared.rng(1000 + calls.fetch_add(1, Ordering::Relaxed));
            shared.take(context);
            let number = number_of(context);
            let (end, answer) = shared.decide(&mut rng, context);
            let (id, token) = (context.id(), context.token());
            let delivered = Delivered { id, number, token, asked: None, end };
            let mut tally = shared.handled.lock().unwrap();
            tally.delivered.push(delivered);
            tally.calls += 1;
            drop(tally);
            shared.give(context);
            answer
        };
        broker.handle(QUEUES[1], options, handler).unwrap();
    }

    fn rng(&self, number: u64) -> Rng {
        Rng::new(self.seed ^ number << 32)
    }

    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    fn message(&self, rng: &mut Rng, number: u64) -> (u64, Option<u8>, Message<'static>) {
        let queue = rng.below(2);
        let mut message = Message::new(QUEUES[queue as usize], number.to_string());
        let mut key = None;
        match rng.below(10) {
            0..2 => {
                let chosen = (queue * KEYS + rng.below(KEYS)) as u8;
                message = message.dedup_key(format!("key {chosen}"));
                if rng.coin() {
                    message = message.dedup(Dedup::Keep);
                }
                key = Some(chosen);
            }
            2 => {
                let group = rng.below(GROUPS);
                let body = format!("{number} {group}");
                message = Message::new(QUEUES[queue as usize], body).group(group.to_string());
            }
            3 => message = message.priority(rng.below(10) as u8),
            4 => message = message.delay(Duration::from_millis(rng.below(20))),
            _ => {}
        }
        (number, key, message)
    }

    /// How a delivery is to end, and what its handler answers.
    fn decide(&self, rng: &mut Rng, delivery: &Delivery) -> (End, Result<(), HandlerError>) {
        let number = number_of(delivery);
        match rng.below(20) {
            0 => (End::Back, Err(HandlerError::retry(Duration::ZERO))),
            1 => (End::Back, Err(HandlerError::release(Duration::ZERO))),
            2 => (End::Rejected, Err(HandlerError::reject("no"))),
            3..6 if number & CHILD == 0 => {
                let queue = QUEUES[rng.below(2) as usize];
                let child = Message::new(queue, (number | CHILD).to_string());
                // A broker that is being closed refuses it.
                match delivery.enqueue(child) {
                    Ok(()) => (End::AckedWith, Ok(())),
                    Err(_) => (End::Acked, Ok(())),
                }
            }
            _ => (End::Acked, Ok(())),
        }
    }

    fn settle(&self, rng: &mut Rng, delivery: &Delivery) -> End {
        let (end, answer) = self.decide(rng, delivery);
        self.give(delivery);
        match delivery.settle(answer) {
            Ok(()) => end,
            Err(error) => {
                let late = [ErrorKind::StaleLease, ErrorKind::Closed];
                assert!(late.contains(&error.kind()), "{error}");
                End::Stale
            }
        }
    }

    /// It is in somebody's hands: in nobody else's, and no other of its group is.
    fn take(&self, delivery: &Delivery) {
        let mut held = self.held.lock().unwrap();
        let is_new = held.0.insert(delivery.id());
        if !is_new || group_of(delivery).is_some_and(|group| !held.1.insert(group)) {
            self.wrong.lock().unwrap().push(format!("{delivery:?} is held beside another"));
        }
    }

    fn give(&self, delivery: &Delivery) {
        let mut held = self.held.lock().unwrap();
        held.0.remove(&delivery.id());
        if let Some(group) = group_of(delivery) {
            held.1.remove(&group);
        }
    }
}

fn closed(error: &Error, tally: Tally) -> Tally {
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    tally
}

/// A body is its message's number, and its group.
fn number_of(delivery: &Delivery) -> u64 {
    let body = String::from_utf8_lossy(delivery.body());
    body.split(' ').next().unwrap_or_default().parse().unwrap()
}

fn group_of(delivery: &Delivery) -> Option<String> {
    let body = String::from_utf8_lossy(delivery.body()).into_owned();
    body.split_once(' ').map(|(_, group)| format!("{} {group}", delivery.queue()))
}
