//! A broker and the reference queue side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libmq::{
    Broker, Delivery, Durability, ErrorKind, HandlerError, HandlerOptions, Message, Options,
    Receipt, ReceiptStatus,
};
use libmq_suite::model::{self, Dead, Live, Model};
use libmq_suite::{New, SimDisk};
use proptest::sample::Index;

use crate::op::{Answer, Draft, Op, QUEUES, STEP_S};

/// Few, so that sequences come to the limits.
const CAPACITY: usize = 12;
const DEAD_LETTERS_MAX: usize = 2;
const REASON: &str = "no";

/// How long the broker's own threads are waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// An ack's record, and that of a dead letter that is none any more: what comes with them stands behind.
const ACK_BYTES: u64 = 64;
const UNDEAD_BYTES: u64 = 40;

/// How many turns a drain takes at most: every message that has used up nothing is taken a few times.
const DRAIN_TURNS: usize = 100;

/// Something that both do.
#[derive(Debug)]
pub(crate) struct Machine {
    disk: SimDisk,
    broker: Option<Broker>,
    model: Model,
    /// What was received and not settled, in that order.
    held: Vec<Delivery>,
    /// Those of them whose leases have ended.
    stale: Vec<Delivery>,
    /// The ids there ever were.
    ids: Vec<u64>,
    paused: BTreeSet<usize>,
    /// Messages that were made so far.
    made: usize,
}

/// What is to be seen of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gauges {
    ready: u64,
    delayed: u64,
    in_flight: u64,
    dead: u64,
}

fn options() -> Options {
    model::options().segment_bytes(256 << 10).capacity(CAPACITY).max_dead_letters(DEAD_LETTERS_MAX)
}

fn time(steps: u64) -> Duration {
    Duration::from_secs(STEP_S * steps)
}

fn us(steps: u64) -> u64 {
    STEP_S * steps * 1_000_000
}

impl Machine {
    /// Both, empty.
    pub(crate) fn start() -> Self {
        let mut machine = Self {
            disk: SimDisk::default(),
            broker: None,
            model: Model::default(),
            held: Vec::new(),
            stale: Vec::new(),
            ids: Vec::new(),
            paused: BTreeSet::new(),
            made: 0,
        };
        machine.open();
        machine
    }

    /// Calls both, and compares.
    pub(crate) fn call(&mut self, op: &Op) {
        match op {
            Op::Enqueue(draft, level) => self.enqueue(std::slice::from_ref(draft), *level, false),
            Op::Batch(drafts, level) => self.enqueue(drafts, *level, true),
            Op::Receive { queue, most, lease } => self.receive(*queue, *most, *lease),
            Op::Ack(index) => self.settle(index, Delivery::ack, Model::ack),
            Op::AckWith(index, child) => self.ack_with(index, child),
            Op::Retry(index, delay) => self.settle(
                index,
                |delivery| delivery.retry_because(delay.map(time), "not now"),
                |model, id| model.retry(id, delay.map(us)),
            ),
            Op::Reject(index) => self.settle(
                index,
                |delivery| delivery.reject(REASON),
                |model, id| model.reject(id, REASON),
            ),
            Op::Release(index, delay) => self.settle(
                index,
                |delivery| delivery.release(time(*delay)),
                |model, id| model.release(id, us(*delay)),
            ),
            Op::Extend(index, by) => {
                let Some(delivery) = pick(index, &self.held) else { return };
                delivery.extend(time(*by)).unwrap();
                self.model.extend(delivery.id(), us(*by));
            }
            Op::SettleAgain(index) => {
                let Some(delivery) = taken_out(index, &mut self.stale) else { return };
                assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::StaleLease);
            }
            Op::Cancel(index) => {
                let Some(id) = pick(index, &self.ids).copied() else { return };
                assert_eq!(self.broker().cancel(id).unwrap(), self.model.cancel(id));
            }
            Op::Purge(queue) => {
                let waiting = self.model.waiting(QUEUES[*queue]);
                let purged = self.broker().purge(QUEUES[*queue]).unwrap();
                assert_eq!(purged, waiting.len() as u64);
                waiting.into_iter().for_each(|id| _ = self.model.cancel(id));
            }
            Op::Replay(index) => self.replay(index),
            Op::PurgeLetters(queue) => {
                let names: Vec<&str> = queue.map_or(QUEUES.to_vec(), |queue| vec![QUEUES[queue]]);
                let expected: u64 = names.iter().map(|name| self.model.purge(name)).sum();
                let letters = self.broker().dead_letters();
                assert_eq!(letters.purge(queue.map(|queue| QUEUES[queue])).unwrap(), expected);
            }
            Op::Work(answer, parallelism) => self.work(*answer, *parallelism),
            Op::Pause(queue) => {
                if self.broker().pause(QUEUES[*queue]).is_ok() {
                    self.paused.insert(*queue);
                }
            }
            Op::Resume(queue) => {
                let resumed = self.broker().resume(QUEUES[*queue]);
                assert!(resumed.is_ok() || !self.paused.contains(queue));
                self.paused.remove(queue);
            }
            Op::Advance(steps) => self.advance(*steps),
            Op::Snapshot => self.broker().snapshot().unwrap(),
            Op::Copy => {
                let copy = SimDisk::default();
                self.broker().backup_on(&copy).unwrap();
                // Nobody in the copy holds anything, and nobody is suspected.
                self.model.crash(&BTreeSet::new());
                self.disk = copy;
                self.end();
            }
            Op::Reopen => {
                for delivery in &self.held {
                    self.model.release(delivery.id(), 0);
                }
                self.broker().close(Duration::ZERO).unwrap();
                if let Some(delivery) = self.held.pop() {
                    assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::Closed);
                }
                self.end();
            }
            Op::Die => self.end(),
        }
        while self.model.expire_next() {}
        self.compare();
    }

    /// Takes everything there is, until there is nothing.
    pub(crate) fn drain(&mut self) {
        for _ in 0..DRAIN_TURNS {
            for queue in 0..QUEUES.len() {
                self.call(&Op::Resume(queue));
                self.call(&Op::Receive { queue, most: CAPACITY, lease: 100 });
            }
            while !self.held.is_empty() {
                self.settle_first();
            }
            if self.model.live.is_empty() {
                return;
            }
            self.call(&Op::Advance(1));
        }
        panic!("there is no end to {:?}", self.model.live);
    }

    fn settle_first(&mut self) {
        let delivery = self.held.remove(0);
        let id = delivery.id();
        delivery.ack().unwrap();
        self.model.ack(id);
        self.compare();
    }

    fn open(&mut self) {
        let held = self.model.taken();
        self.model.crash(&held);
        let broker = Broker::open_on(self.disk.storage(), options()).unwrap();
        let found = *broker.recovery();
        assert_eq!(found.messages, self.model.live.len() as u64);
        assert_eq!(found.dead_letters, self.model.dead.len() as u64);
        self.broker = Some(broker);
    }

    /// The broker is no more, closed or not, and another one goes on.
    fn end(&mut self) {
        self.broker = None;
        self.held.clear();
        self.stale.clear();
        self.paused.clear();
        self.open();
    }

    fn enqueue(&mut self, drafts: &[Draft], level: Durability, batch: bool) {
        let news: Vec<New> = drafts.iter().map(|draft| self.make(draft)).collect();
        let messages: Vec<Message<'_>> = news.iter().map(|new| new.message(level)).collect();
        let answer = match &messages[..] {
            [message] if !batch => self.broker().enqueue(message.clone()).map(|one| vec![one]),
            _ => self.broker().enqueue_batch(&messages),
        };
        match answer {
            Ok(receipts) => {
                assert!(self.fit(&news), "there was no room");
                assert_eq!(receipts.len(), news.len());
                news.iter().zip(receipts).for_each(|(new, receipt)| self.enqueued(new, receipt));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                assert!(!self.fit(&news), "there was room");
            }
        }
    }

    fn receive(&mut self, queue: usize, most: usize, lease: u64) {
        let name = QUEUES[queue];
        let got = self.broker().receive_batch(name, most, Duration::ZERO, time(lease)).unwrap();
        let mut expected = Vec::new();
        while expected.len() < most && !self.paused.contains(&queue) {
            while self.model.bury_next(name) {}
            let Some(id) = self.model.receive(name, us(lease)) else { break };
            expected.push(id);
        }
        assert_eq!(got.iter().map(Delivery::id).collect::<Vec<_>>(), expected);
        for delivery in &got {
            let live = &self.model.live[&delivery.id()];
            assert_eq!(delivery.body(), live.body.as_bytes());
            assert_eq!(delivery.attempt(), live.attempts + 1);
        }
        self.held.extend(got);
    }

    fn settle(
        &mut self,
        index: &Index,
        settle: impl FnOnce(Delivery) -> libmq::Result<()>,
        model: impl FnOnce(&mut Model, u64),
    ) {
        let Some(delivery) = taken_out(index, &mut self.held) else { return };
        let id = delivery.id();
        settle(delivery).unwrap();
        model(&mut self.model, id);
    }

    fn ack_with(&mut self, index: &Index, child: &Draft) {
        let Some(delivery) = taken_out(index, &mut self.held) else { return };
        let (id, child) = (delivery.id(), self.make(child));
        delivery.enqueue(child.message(Durability::Os)).unwrap();
        let before = self.lsn().reserved;
        delivery.ack().unwrap();
        self.model.ack(id);
        let (status, id) = self.model.predict(&child);
        self.enqueued(&child, Receipt { id: id.unwrap_or(before + ACK_BYTES), status });
    }

    fn replay(&mut self, index: &Index) {
        let dead: Vec<u64> = self.model.dead.keys().copied().collect();
        let Some(id) = pick(index, &dead).copied() else { return };
        let before = self.lsn().reserved;
        match self.broker().dead_letters().replay(id) {
            Ok(receipt) => {
                if receipt.status == ReceiptStatus::Accepted {
                    assert!(self.parked() > 0 || self.room() > 0, "there was no room");
                    assert_eq!(receipt.id, before + UNDEAD_BYTES);
                    self.ids.push(receipt.id);
                }
                self.model.replay(id, receipt);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                assert!(self.parked() == 0 && self.room() == 0, "there was room");
            }
        }
    }

    /// Has a handler do all there is to do in the first queue.
    fn work(&mut self, answer: Answer, parallelism: u32) {
        let suspects = self.model.live.values().any(|message| message.crashes > 0);
        if suspects && (parallelism > 1 || !self.model.taken().is_empty()) {
            // Who may begin is a matter of who asks first: others show that.
            return;
        }
        // Whose turn comes with the end of another one: a worker may look before that end is written, and take the one after it.
        let depends =
            self.model.live.values().any(|message| message.group.is_some() || message.behind);
        let name = QUEUES[0];
        let handled = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&handled);
        let options = HandlerOptions::new().max_parallelism(1);
        let handler = move |delivery: &libmq::Context| {
            seen.lock().unwrap().push(delivery.id());
            match answer {
                Answer::Ack => Ok(()),
                Answer::Fail => Err(HandlerError::failed("no")),
                Answer::Retry(delay) => Err(HandlerError::retry(time(delay))),
                Answer::Reject => Err(HandlerError::reject(REASON)),
            }
        };
        self.broker().handle(name, options, handler).unwrap();
        self.broker().scale(name, parallelism).unwrap();
        self.broker().start().unwrap();
        let mut expected = Vec::new();
        while !self.paused.contains(&0) {
            while self.model.bury_next(name) {}
            let Some(id) = self.model.receive(name, us(1)) else { break };
            expected.push(id);
            match answer {
                Answer::Ack => self.model.ack(id),
                Answer::Fail => self.model.retry(id, None),
                Answer::Retry(delay) => self.model.retry(id, Some(us(delay))),
                Answer::Reject => self.model.reject(id, REASON),
            }
        }
        let end = Instant::now() + PATIENCE;
        while handled.lock().unwrap().len() < expected.len() && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(50));
        }
        self.compare();
        if self.model.live.is_empty() {
            assert!(self.broker().wait_idle(PATIENCE).unwrap());
        }
        self.broker().stop(PATIENCE).unwrap();
        let mut handled = handled.lock().unwrap().clone();
        if parallelism > 1 || depends {
            handled.sort_unstable();
            expected.sort_unstable();
        }
        assert_eq!(handled, expected);
    }

    fn advance(&mut self, steps: u64) {
        self.broker().advance(time(steps)).unwrap();
        self.model.now += us(steps);
        while self.model.expire_next() {}
        while self.model.lapse_next() {}
        let model = &self.model;
        let is_held = |delivery: &Delivery| {
            model.live.get(&delivery.id()).is_some_and(|message| message.taken)
        };
        let (held, stale): (Vec<_>, Vec<_>) = self.held.drain(..).partition(is_held);
        self.held = held;
        self.stale.extend(stale);
    }

    fn make(&mut self, draft: &Draft) -> New {
        self.made += 1;
        New {
            queue: QUEUES[draft.queue].into(),
            body: format!("message {}", self.made),
            key: draft.key.map(|key| format!("key {key}")),
            keep: draft.keep,
            delay_us: us(draft.delay),
            priority: draft.priority,
            group: draft.group.map(|group| format!("group {group}")),
            expires_us: draft.expires.map(|expires| us(draft.delay + expires)),
            window_us: us(draft.window),
        }
    }

    fn enqueued(&mut self, new: &New, receipt: Receipt) {
        self.model.enqueue(new, receipt);
        if receipt.status == ReceiptStatus::Accepted {
            self.ids.push(receipt.id);
        }
    }

    /// Whether there is room for all of these.
    fn fit(&self, news: &[New]) -> bool {
        let mut model = self.model.clone();
        let mut room = self.room();
        news.iter().zip(1 << 60..).all(|(new, fresh)| {
            let (status, id) = model.predict(new);
            if status == ReceiptStatus::Accepted && room == 0 {
                return false;
            }
            room -= usize::from(status == ReceiptStatus::Accepted);
            model.enqueue(new, Receipt { id: id.unwrap_or(fresh), status });
            true
        })
    }

    /// Dead letters beyond their limit, which take room.
    fn parked(&self) -> usize {
        self.model.dead.len().saturating_sub(DEAD_LETTERS_MAX)
    }

    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.model.live.len() + self.parked())
    }

    /// Compares all there is to see, once the broker's own threads have done what they have to.
    fn compare(&self) {
        let (end, expected) = (Instant::now() + PATIENCE, self.expected_gauges());
        loop {
            let (lsn, gauges) = (self.lsn(), self.gauges());
            if lsn.shown == lsn.reserved && gauges == expected {
                break;
            }
            assert!(Instant::now() < end, "{lsn:?}\n{gauges:?}\n{expected:?}");
            std::thread::sleep(Duration::from_micros(100));
        }
        let letters = self.broker().dead_letters().list(None, usize::MAX, None).unwrap();
        let found: Vec<_> = letters
            .iter()
            .map(|letter| {
                let (queue, reason) = (letter.queue().to_owned(), letter.reason().to_owned());
                (letter.id(), queue, letter.body().to_vec(), reason, letter.attempts())
            })
            .collect();
        let expected = |(id, letter): (&u64, &Dead)| {
            let Dead { queue, body, reason, attempts, .. } = letter.clone();
            (*id, queue, body.into_bytes(), reason, attempts)
        };
        assert_eq!(found, self.model.dead.iter().map(expected).collect::<Vec<_>>());
    }

    fn gauges(&self) -> BTreeMap<&'static str, Gauges> {
        let queues = self.broker().metrics().unwrap().queues;
        let gauges = |name: &'static str| {
            let figures = queues.get(name).copied().unwrap_or_default();
            let (ready, delayed) = (figures.ready, figures.delayed);
            (name, Gauges { ready, delayed, in_flight: figures.in_flight, dead: figures.dead })
        };
        QUEUES.into_iter().map(gauges).collect()
    }

    fn expected_gauges(&self) -> BTreeMap<&'static str, Gauges> {
        let mut all: BTreeMap<&str, Gauges> =
            QUEUES.into_iter().map(|name| (name, Gauges::default())).collect();
        for Live { queue, taken, behind, due, .. } in self.model.live.values() {
            let gauges = all.get_mut(queue.as_str()).unwrap();
            match (taken, behind) {
                (true, _) => gauges.in_flight += 1,
                (false, true) => {}
                (false, false) if *due > self.model.now => gauges.delayed += 1,
                (false, false) => gauges.ready += 1,
            }
        }
        for Dead { queue, .. } in self.model.dead.values() {
            all.get_mut(queue.as_str()).unwrap().dead += 1;
        }
        all
    }

    fn lsn(&self) -> libmq::Lsn {
        self.broker().metrics().unwrap().lsn
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }
}

/// One of these, if there are any.
fn pick<'a, T>(index: &Index, all: &'a [T]) -> Option<&'a T> {
    (!all.is_empty()).then(|| index.get(all))
}

/// As [`pick`], and takes it out.
fn taken_out<T>(index: &Index, all: &mut Vec<T>) -> Option<T> {
    (!all.is_empty()).then(|| all.remove(index.index(all.len())))
}
