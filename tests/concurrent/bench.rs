//! The bench: a broker with a manual clock, in which histories are played one after another, each in a queue of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use libmq::storage::MemoryStorage;
use libmq::{Broker, Delivery, Durability, HandlerError, Message};
use libmq_suite::model;

use crate::call::{Answer, Call, End, Got, QUEUE, Seen};
use crate::slow_disk::SlowDisk;

/// Longer than a history takes by its clock.
const LONG: Duration = Duration::from_secs(3600);

/// Where a broker has its files, and how durable what it answers is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Memory,
    Os,
    /// Every other message waits for a sync.
    Mixed,
}

/// A broker on which histories are played.
#[derive(Debug)]
pub(crate) struct Bench {
    broker: Broker,
    place: Place,
    /// The clock, where the broker began.
    began: SystemTime,
    /// How far it was moved since, in microseconds.
    moved: AtomicU64,
    /// A clock of calls and returns.
    moments: AtomicU64,
    histories: u64,
    /// Where the clock was when this history began.
    began_at: u64,
}

impl Bench {
    pub(crate) fn open(place: Place) -> Self {
        let options = model::options().segment_bytes(256 << 10).durability(match place {
            Place::Memory => Durability::Memory,
            Place::Os => Durability::Os,
            Place::Mixed => Durability::Sync,
        });
        let broker = match place {
            Place::Memory => Broker::open_on(Arc::new(MemoryStorage::new()), options),
            _ => Broker::open_on(Arc::new(SlowDisk::default()), options),
        };
        let broker = broker.unwrap();
        broker.enqueue(Message::new("clock", "")).unwrap();
        let delivery = broker.receive("clock", Duration::ZERO, LONG).unwrap().unwrap();
        let began = delivery.deadline() - LONG;
        delivery.ack().unwrap();
        let (moved, moments) = (AtomicU64::new(0), AtomicU64::new(1));
        Self { broker, place, began, moved, moments, histories: 0, began_at: 0 }
    }

    /// The next history is about a queue of its own, and its clock begins at zero.
    pub(crate) fn next(&mut self) {
        self.histories += 1;
        self.began_at = *self.moved.get_mut();
    }

    /// How many histories there were.
    pub(crate) fn histories(&self) -> u64 {
        self.histories
    }

    /// The next moment.
    pub(crate) fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    /// Calls the broker. What was received comes beside the answer.
    pub(crate) fn call(
        &self,
        call: &Call,
        delivery: Option<&Delivery>,
    ) -> (Answer, Option<Delivery>) {
        let (broker, queue) = (&self.broker, self.queue());
        let answer = match call {
            Call::Enqueue(new) => {
                let new = libmq_suite::New { queue, ..new.clone() };
                let number = new.body.bytes().last().unwrap_or_default();
                let level = match self.place {
                    Place::Mixed if number.is_multiple_of(2) => Durability::Sync,
                    _ => Durability::Os,
                };
                Answer::Enqueued(broker.enqueue(new.message(level)).unwrap())
            }
            Call::Receive { lease_us } => {
                let lease = Duration::from_micros(*lease_us);
                let delivery = broker.receive(&queue, Duration::ZERO, lease).unwrap();
                return (Answer::Received(delivery.as_ref().map(|it| self.got(it))), delivery);
            }
            Call::Settle { end, .. } => {
                let result = match end {
                    End::Ack => Ok(()),
                    End::Retry(delay) => Err(HandlerError::retry(delay.map(Duration::from_micros))),
                    End::Reject => Err(HandlerError::reject("no")),
                    End::Release(delay) => {
                        Err(HandlerError::release(Duration::from_micros(*delay)))
                    }
                };
                let settled = delivery.unwrap().settle(result);
                if let Err(error) = &settled {
                    assert_eq!(error.kind(), libmq::ErrorKind::StaleLease, "{error}");
                }
                Answer::Settled(settled.is_ok())
            }
            Call::Cancel(id) => Answer::Cancelled(broker.cancel(*id).unwrap()),
            Call::Purge => Answer::Purged(broker.purge(&queue).unwrap()),
            Call::Advance(time) => {
                broker.advance(Duration::from_micros(*time)).unwrap();
                self.moved.fetch_add(*time, Ordering::SeqCst);
                Answer::Advanced
            }
            Call::Look => Answer::Seen(self.seen(&queue)),
        };
        (answer, None)
    }

    /// Takes away what a history has left of itself.
    pub(crate) fn clear(&self) {
        self.broker.dead_letters().purge(Some(&self.queue())).unwrap();
    }

    fn queue(&self) -> String {
        format!("{QUEUE}{}", self.histories)
    }

    fn got(&self, delivery: &Delivery) -> Got {
        let deadline = delivery.deadline().duration_since(self.began).unwrap();
        Got {
            id: delivery.id(),
            body: String::from_utf8_lossy(delivery.body()).into_owned(),
            attempt: delivery.attempt(),
            token: delivery.token(),
            deadline: deadline.as_micros() as u64 - self.began_at,
        }
    }

    /// All there is to see, at a moment in which everything that was decided is shown: what has expired ends on a thread of
    /// the broker's.
    fn seen(&self, queue: &str) -> Seen {
        loop {
            let before = self.broker.metrics().unwrap().lsn;
            let seen = self.look(queue);
            let after = self.broker.metrics().unwrap().lsn;
            if before.shown == after.reserved {
                return seen;
            }
            std::thread::yield_now();
        }
    }

    fn look(&self, queue: &str) -> Seen {
        let letters = self.broker.dead_letters().list(Some(queue), usize::MAX, None).unwrap();
        let dead = letters.iter().map(|letter| {
            let body = String::from_utf8_lossy(letter.body()).into_owned();
            (letter.id(), body, letter.reason().to_owned(), letter.attempts())
        });
        let figures = self.broker.metrics().unwrap().queues.get(queue).copied().unwrap_or_default();
        let (ready, delayed, in_flight) = (figures.ready, figures.delayed, figures.in_flight);
        Seen { ready, delayed, in_flight, dead: dead.collect() }
    }
}
