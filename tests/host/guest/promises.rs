//! Promises: what was enqueued, held against what comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use libmq::{Broker, Error, ErrorKind, Message};

/// The queue that all of it goes through.
pub const QUEUE: &str = "promised";

/// Deliveries that are asked for at once.
const TAKEN: usize = 64;

/// Every message is a number, and filled up to its size with that.
#[derive(Debug, Default)]
pub struct Promises {
    next: u64,
    /// What is there.
    made: BTreeSet<u64>,
    /// What may be there: its enqueue, or its end, was answered `POISONED`.
    open: BTreeSet<u64>,
    /// What has been acked, and must not come again.
    pub acked: u64,
}

impl Promises {
    /// Enqueues a message of so many bytes.
    pub fn enqueue(&mut self, broker: &Broker, bytes: usize) -> Result<(), Error> {
        let number = self.next;
        self.next += 1;
        match broker.enqueue(Message::new(QUEUE, body(number, bytes))) {
            Ok(_) => _ = self.made.insert(number),
            Err(error) => {
                if error.kind() == ErrorKind::Poisoned {
                    self.open.insert(number);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Enqueues until that is refused, and answers why.
    pub fn fill(&mut self, broker: &Broker, bytes: usize) -> Error {
        for _ in 0..1_000_000 {
            if let Err(error) = self.enqueue(broker, bytes) {
                return error;
            }
        }
        panic!("a million messages found their room");
    }

    /// A message is there that somebody else says was enqueued.
    pub fn add(&mut self, number: u64) {
        self.made.insert(number);
        self.next = self.next.max(number + 1);
    }

    /// Acks what there is; answers how many, and the error that ended it, if one did.
    pub fn settle(&mut self, broker: &Broker) -> (u64, Option<Error>) {
        let mut settled = 0;
        loop {
            let deliveries = match broker.receive_batch(QUEUE, TAKEN, Duration::ZERO, None) {
                Ok(deliveries) if deliveries.is_empty() => return (settled, None),
                Ok(deliveries) => deliveries,
                Err(error) => return (settled, Some(error)),
            };
            for delivery in deliveries {
                let number = number(delivery.body());
                let known = self.made.contains(&number) || self.open.contains(&number);
                assert!(known, "{number} came, which was acked or never enqueued");
                match delivery.ack() {
                    Ok(_) => {
                        self.made.remove(&number);
                        self.open.remove(&number);
                        self.acked += 1;
                        settled += 1;
                    }
                    Err(error) => {
                        if error.kind() == ErrorKind::Poisoned && self.made.remove(&number) {
                            self.open.insert(number);
                        }
                        return (settled, Some(error));
                    }
                }
            }
        }
    }

    /// Everything that was promised is there, once, and nothing else.
    pub fn hold(&mut self, broker: &Broker) {
        let (_, error) = self.settle(broker);
        assert!(error.is_none(), "{error:?}");
        assert!(self.made.is_empty(), "lost: {:?}", self.made);
    }

    pub fn left(&self) -> usize {
        self.made.len()
    }
}

pub fn body(number: u64, bytes: usize) -> Vec<u8> {
    let mut body = number.to_string().into_bytes();
    body.push(b' ');
    body.resize(bytes.max(body.len()), u8::try_from(number % 251).unwrap());
    body
}

/// The number of a body, which is whole.
pub fn number(found: &[u8]) -> u64 {
    let word = found.split(|byte| *byte == b' ').next().unwrap();
    let number = std::str::from_utf8(word).unwrap().parse().unwrap();
    assert_eq!(found, body(number, found.len()), "the body of {number} is another one");
    number
}
