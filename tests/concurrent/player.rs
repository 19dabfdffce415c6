//! The player: makes a history by calling a broker from a few threads at once, as a seed says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libmq::{Delivery, ReceiptStatus};
use libmq_suite::{New, Rng};

use crate::bench::Bench;
use crate::call::{Answer, Call, End, Event, History, QUEUE};

/// Times are multiples of this, in microseconds.
const STEP: u64 = 10_000_000;
/// Longer than anything is delayed or held.
const LONG: u64 = 1000 * STEP;

/// What one thread has, and what it did.
struct Hand<'a> {
    bench: &'a Bench,
    rng: Rng,
    number: usize,
    made: usize,
    moves_clock: bool,
    /// What it may settle, also what others settle beside it.
    held: Vec<Arc<Delivery>>,
    /// What it may cancel.
    ids: Vec<u64>,
    events: Vec<Event>,
}

/// Plays a history.
pub(crate) fn play(bench: &mut Bench, seed: u64) -> History {
    bench.next();
    let bench = &*bench;
    let mut rng = Rng::new(seed);
    let threads = 3 + rng.below(4) as usize / 3;
    let mut main = Hand::new(bench, seed, 0);
    main.moves_clock = true;
    for _ in 0..2 + main.rng.below(4) {
        main.prepare();
    }
    let gate = AtomicUsize::new(threads);
    let (held, ids) = (main.held.clone(), main.ids.clone());
    let hand = |number: usize| {
        let mut hand = Hand::new(bench, seed, number);
        (hand.held, hand.ids) = (held.clone(), ids.clone());
        // The clock is one thread's: two moves at once do each other's work, and either may return before it is done.
        hand.moves_clock = number == 1;
        hand
    };
    let mut others: Vec<_> = std::thread::scope(|scope| {
        let play = |number: usize| {
            let (mut hand, gate) = (hand(number), &gate);
            scope.spawn(move || {
                gate.fetch_sub(1, Ordering::SeqCst);
                while gate.load(Ordering::SeqCst) > 0 {
                    std::thread::yield_now();
                }
                for _ in 0..3 + hand.rng.below(3) {
                    hand.dawdle();
                    hand.act();
                }
                hand
            })
        };
        let all: Vec<_> = (1..=threads).map(play).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    main.drain();
    let mut histories = vec![main.events];
    histories.extend(others.iter_mut().map(|hand| std::mem::take(&mut hand.events)));
    drop((main.held, others, held));
    bench.clear();
    History { threads: histories }
}

impl<'a> Hand<'a> {
    fn new(bench: &'a Bench, seed: u64, number: usize) -> Self {
        Self {
            bench,
            rng: Rng::new(seed ^ (number as u64) << 56),
            number,
            made: 0,
            moves_clock: false,
            held: Vec::new(),
            ids: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Gives the others a chance, or not.
    fn dawdle(&mut self) {
        match self.rng.below(8) {
            0..4 => {}
            4..6 => (0..self.rng.below(400)).for_each(|_| std::hint::spin_loop()),
            _ => (0..1 + self.rng.below(3)).for_each(|_| std::thread::yield_now()),
        }
    }

    /// A call with which a history begins.
    fn prepare(&mut self) {
        match self.rng.below(10) {
            0..6 => self.enqueue(),
            6..9 => self.receive(),
            _ => self.settle(),
        }
    }

    /// A call beside those of others.
    fn act(&mut self) {
        match self.rng.below(20) {
            0..6 => self.enqueue(),
            6..10 => self.receive(),
            10..15 => self.settle(),
            15..17 => self.cancel(),
            17 => _ = self.call(Call::Purge, None),
            _ if self.moves_clock => {
                let time = STEP * (1 + self.rng.below(3));
                self.call(Call::Advance(time), None);
            }
            _ => self.receive(),
        }
    }

    /// All that is left is taken and ended, and seen to be.
    fn drain(&mut self) {
        self.call(Call::Look, None);
        for _ in 0..2 {
            self.call(Call::Advance(LONG), None);
            while let Some(delivery) = self.receive_for(LONG) {
                self.end(&delivery, End::Ack);
            }
        }
        self.call(Call::Look, None);
    }

    fn enqueue(&mut self) {
        self.made += 1;
        let rng = &mut self.rng;
        let key = [None, Some("a"), Some("a"), Some("b")][rng.below(4) as usize];
        let (keep, delayed, urgent) = (rng.below(3) == 0, rng.below(5) == 0, rng.below(5) == 0);
        let (expires, guards) = (rng.below(6) == 0, rng.below(4) == 0);
        let delay_us = if delayed { STEP * (1 + rng.below(2)) } else { 0 };
        let expires_us = expires.then(|| delay_us + STEP * (1 + rng.below(2)));
        let new = New {
            queue: QUEUE.into(),
            body: format!("{}.{}", self.number, self.made),
            key: key.map(Into::into),
            keep: keep && key.is_some(),
            delay_us,
            priority: u8::from(urgent),
            group: None,
            expires_us,
            window_us: if guards && key.is_some() { STEP * 2 } else { 0 },
        };
        if let Answer::Enqueued(receipt) = self.call(Call::Enqueue(new), None)
            && receipt.status == ReceiptStatus::Accepted
        {
            self.ids.push(receipt.id);
        }
    }

    fn receive(&mut self) {
        let lease = STEP * (1 + self.rng.below(3));
        self.receive_for(lease);
    }

    fn receive_for(&mut self, lease_us: u64) -> Option<Arc<Delivery>> {
        let called = self.bench.moment();
        let call = Call::Receive { lease_us };
        let (answer, delivery) = self.bench.call(&call, None);
        self.note(called, call, answer);
        let delivery = Arc::new(delivery?);
        self.held.push(Arc::clone(&delivery));
        Some(delivery)
    }

    fn settle(&mut self) {
        if self.held.is_empty() {
            return self.receive();
        }
        // What it received last, or anything.
        let index = if self.rng.coin() {
            self.held.len() - 1
        } else {
            self.rng.below(self.held.len() as u64) as usize
        };
        let delivery = Arc::clone(&self.held[index]);
        let end = match self.rng.below(10) {
            0..4 => End::Ack,
            4 => End::Retry(None),
            5 => End::Retry(Some(0)),
            6 => End::Reject,
            7 => End::Release(STEP),
            _ => End::Release(0),
        };
        self.end(&delivery, end);
    }

    fn end(&mut self, delivery: &Delivery, end: End) {
        let (id, token) = (delivery.id(), delivery.token());
        self.call(Call::Settle { id, token, end }, Some(delivery));
    }

    fn cancel(&mut self) {
        if self.ids.is_empty() {
            return self.enqueue();
        }
        let id = self.ids[self.rng.below(self.ids.len() as u64) as usize];
        self.call(Call::Cancel(id), None);
    }

    fn call(&mut self, call: Call, delivery: Option<&Delivery>) -> Answer {
        let called = self.bench.moment();
        let (answer, _) = self.bench.call(&call, delivery);
        self.note(called, call, answer.clone());
        answer
    }

    fn note(&mut self, called: u64, call: Call, answer: Answer) {
        let returned = self.bench.moment();
        self.events.push(Event { called, returned, call, answer });
    }
}
