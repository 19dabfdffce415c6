//! Anything, on a disk without much room: whatever was done, what only settles goes on to the end, and nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use libmq::storage::Storage;
use libmq::{Broker, Delivery, Durability, ErrorKind, Message};
use libmq_suite::{Rng, SimDisk};

use crate::crowded::{BYTES_MAX, Crowded};
use crate::extent::Extent;
use crate::run::options;
use crate::waiting::wait_until;

/// Lives that are tried, of which the default run tries a share.
const LIVES: u64 = 400;
const SHARE: u64 = 40;

/// What is done in a life.
const STEPS: u64 = 1_000;

/// How often there may be no room for what only settles, with a snapshot in between.
const FRUITLESS_MAX: u32 = 10;

/// A broker and what it should have.
struct Life {
    rng: Rng,
    disk: SimDisk,
    storage: Arc<Crowded>,
    /// None while nobody has the directory.
    owner: Option<Broker>,
    /// What the directory may take, and whether it is `max_bytes` that says so.
    bytes_max: u64,
    is_limited: bool,
    /// How large bodies are.
    body_bytes_max: u64,
    /// How many in a hundred settles have children.
    children_share: u64,
    messages: u64,
    dead: u64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::default();
        let bytes_max = (1 + rng.below(4)) * BYTES_MAX;
        let is_limited = rng.coin();
        let storage = Crowded::new(&disk, if is_limited { u64::MAX } else { bytes_max });
        Self {
            owner: Some(open(&storage, is_limited.then_some(bytes_max))),
            disk,
            storage,
            bytes_max,
            is_limited,
            body_bytes_max: [200, 4_000, 100_000][rng.below(3) as usize],
            children_share: rng.below(60),
            messages: 0,
            dead: 0,
            rng,
        }
    }

    fn broker(&self) -> &Broker {
        self.owner.as_ref().unwrap()
    }

    fn message(&mut self) -> Message<'static> {
        // Small ones among the large ones.
        let most = if self.rng.below(3) == 0 { 200 } else { self.body_bytes_max };
        Message::new("jobs", vec![1; self.rng.below(most) as usize]).durability(Durability::Os)
    }

    /// Enqueues some at once; answers whether there was room.
    fn enqueue(&mut self) -> bool {
        let most = if self.rng.below(20) == 0 { 30 } else { 2 };
        let count = 1 + self.rng.below(most);
        let batch: Vec<_> = (0..count).map(|_| self.message()).collect();
        let enqueued = has_room(self.broker().enqueue_batch(&batch).map(drop));
        self.messages += if enqueued { count } else { 0 };
        enqueued
    }

    /// Settles one of some, in any way, and gives the others back.
    fn settle(&mut self) {
        let most = 1 + self.rng.below(50) as usize;
        let found = self.broker().receive_batch("jobs", most, Duration::ZERO, None);
        let Ok(mut found) = found else { return };
        if found.is_empty() {
            return;
        }
        let delivery = found.swap_remove(self.rng.below(found.len() as u64) as usize);
        drop(found);
        if self.rng.below(100) < self.children_share {
            let count = 1 + self.rng.below(3);
            (0..count).for_each(|_| delivery.enqueue(self.message()).unwrap());
            self.messages += if has_room(delivery.ack()) { count - 1 } else { 0 };
            return;
        }
        let text = "n".repeat(self.rng.below(200) as usize);
        match self.rng.below(10) {
            0..3 => self.messages -= u64::from(has_room(delivery.ack())),
            3..7 => drop(has_room(delivery.retry(Duration::ZERO))),
            7 => drop(has_room(delivery.retry_because(Duration::ZERO, &text))),
            _ => {
                let died = u64::from(has_room(delivery.reject(&text)));
                self.messages -= died;
                self.dead += died;
            }
        }
    }

    /// Its owner dies, and another one finds all there is.
    fn die(&mut self) {
        self.owner = None;
        self.owner = Some(open(&self.storage, self.is_limited.then_some(self.bytes_max)));
        let found = self.broker().recovery();
        assert_eq!((found.messages, found.dead_letters), (self.messages, self.dead));
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => drop(self.enqueue()),
            40..92 => self.settle(),
            92..97 => drop(has_room(self.broker().snapshot())),
            97 => self.die(),
            98 => while self.enqueue() {},
            _ => {
                let purged = self.broker().dead_letters().purge(None);
                self.dead -= *purged.as_ref().unwrap_or(&0);
                has_room(purged.map(drop));
            }
        }
        if self.is_limited {
            assert!(self.disk.bytes().unwrap() <= self.bytes_max);
        }
    }

    /// Settles so many in this way, one after the other, with a snapshot where there is no room.
    fn settle_all(&self, count: u64, settle: fn(Delivery) -> libmq::Result<()>) {
        let (mut done, mut fruitless) = (0, 0);
        while done < count {
            let found = self.broker().receive("jobs", Duration::from_secs(5), None);
            match found.and_then(|found| settle(found.unwrap())) {
                Ok(()) => (done, fruitless) = (done + 1, 0),
                Err(full) => {
                    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
                    assert!(fruitless < FRUITLESS_MAX, "{done} of {count}: {full}");
                    fruitless += 1;
                    has_room(self.broker().snapshot());
                }
            }
        }
    }

    /// What was given back for want of room is there again soon.
    fn end(mut self) {
        let ready = || self.broker().metrics().unwrap().broker.ready;
        wait_until(|| ready() == self.messages);
        if self.messages > 0 {
            // Several times what is kept for settles.
            self.settle_all(self.bytes_max / 800, |found| found.retry(Duration::ZERO));
        }
        self.settle_all(self.messages, Delivery::ack);
        self.messages = 0;
        self.die();
    }
}

/// Opens what may take so much, on a disk.
fn open(storage: &Arc<Crowded>, bytes_max: Option<u64>) -> Broker {
    let options = options().capacity(1_000_000).default_max_retries(1_000_000).max_bytes(bytes_max);
    Broker::open_on(Arc::clone(storage) as Arc<dyn Storage>, options).unwrap()
}

/// Whether a call found room; it fails for no other reason.
fn has_room(called: libmq::Result<()>) -> bool {
    called.map_or_else(
        |full| {
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
            false
        },
        |()| true,
    )
}

#[test]
fn whatever_was_done_on_a_full_disk_settles_go_on_to_the_end() {
    let extent = Extent::of_environment();
    let mut lives = 0;
    for seed in (0..LIVES).filter(|seed| extent.takes(*seed, SHARE)) {
        let seed = extent.seed << 16 | seed;
        println!("life {seed}");
        let mut life = Life::new(seed);
        (0..STEPS).for_each(|_| life.step());
        life.end();
        lives += 1;
    }
    println!("{lives} lives on full disks");
    assert!(lives > 0);
}
