//! A workload under way: the broker, the model beside it, and what is legal to find after every call.
//!
//! Each call notes the place in the disk's trace where it began and where it returned, and the model's states it went
//! through. A call is one thread's, one after the other; what the broker's own threads do to the disk is waited for
//! before the next call, so that a workload makes the same trace each time, nearly always.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libmq::{Broker, Delivery, Durability, Options, Receipt, ReceiptStatus};
use libmq_suite::model::{self, Model};
use libmq_suite::{New, Op, SimDisk};

/// How long a held message is held; no workload moves its clock as far.
const LEASE: Duration = Duration::from_secs(3600);
/// How long the broker's own threads are waited for where something must come.
const MUST_COME: Duration = Duration::from_secs(20);
/// How long they are waited for where something may come.
const MAY_COME: Duration = Duration::from_millis(10);

/// The options of every broker under test: those of the model, and small files.
pub(crate) fn options() -> Options {
    model::options().segment_bytes(64 << 10).capacity(1000)
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) what: String,
    /// Where in the trace it began.
    pub(crate) begun: usize,
    /// Where in the trace it returned.
    pub(crate) returned: usize,
    /// The number of the state it ended in.
    pub(crate) state: usize,
    /// The number of the state that a power failure cannot take any more once it has returned.
    pub(crate) durable: usize,
    /// Where in the log it ended.
    pub(crate) log_end: u64,
    /// What it has shown to somebody, for the checks of order.
    pub(crate) shown: Shown,
}

/// What a call's return tells the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Nothing,
    /// A message with this body is there for good.
    Durable {
        body: String,
    },
    /// A message was handed out.
    Delivered {
        id: u64,
        attempt: u32,
    },
}

/// A copy that was made after a call.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) after: String,
    pub(crate) model: Model,
    pub(crate) copy: SimDisk,
}

thread_local! {
    /// The copies of this thread's run, where it makes some.
    static COPIES: RefCell<Option<Vec<Copied>>> = const { RefCell::new(None) };
}

/// Runs a workload that makes a copy of the broker after every call.
pub(crate) fn with_copies(work: impl FnOnce() -> Run) -> Vec<Copied> {
    COPIES.set(Some(Vec::new()));
    work();
    COPIES.take().unwrap()
}

/// A workload under way, or done.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) model: Model,
    /// The legal states, in order.
    pub(crate) states: Vec<Model>,
    pub(crate) calls: Vec<Called>,
    broker: Option<Broker>,
    held: BTreeMap<u64, Delivery>,
    /// Held ids in the order they were taken.
    order: Vec<u64>,
    /// Where a message was enqueued last: the number of the state.
    enqueued: BTreeMap<u64, usize>,
}

impl Run {
    /// An empty disk, a broker just opened on it.
    pub(crate) fn start() -> Self {
        let mut run = Self {
            disk: SimDisk::default(),
            model: Model::default(),
            states: vec![Model::default()],
            calls: Vec::new(),
            broker: None,
            held: BTreeMap::new(),
            order: Vec::new(),
            enqueued: BTreeMap::new(),
        };
        run.disk.note_marks();
        run.open();
        run
    }

    pub(crate) fn broker(&self) -> Broker {
        self.broker.clone().unwrap()
    }

    /// Opens the broker.
    pub(crate) fn open(&mut self) {
        self.begin("open".into());
        // What an opening has found is durable before it serves anything; what it knew of those in flight is not.
        let durable = self.states.len() - 1;
        let held = self.model.taken();
        self.model.crash(&held);
        self.state();
        let broker = Broker::open_on(self.disk.storage(), options()).unwrap();
        let found = *broker.recovery();
        assert_eq!(found.messages, self.model.live.len() as u64);
        assert_eq!(found.dead_letters, self.model.dead.len() as u64);
        self.broker = Some(broker);
        self.expire();
        self.end(durable, Shown::Nothing);
    }

    /// What has expired ends, one after the other.
    fn expire(&mut self) {
        while self.model.expire_next() {
            self.state();
        }
    }

    /// Ends the process, as far as the broker can tell. What follows from that is for the next opening to find.
    pub(crate) fn die(&mut self) {
        self.begin("die".into());
        self.broker = None;
        self.held.clear();
        self.order.clear();
        self.end(0, Shown::Nothing);
    }

    /// Closes the broker.
    pub(crate) fn close(&mut self) {
        self.begin("close".into());
        for id in std::mem::take(&mut self.order) {
            self.model.release(id, 0);
            self.state();
        }
        self.broker().close(Duration::ZERO).unwrap();
        self.broker = None;
        self.held.clear();
        self.end(self.states.len() - 1, Shown::Nothing);
    }

    pub(crate) fn enqueue(&mut self, durability: Durability, new: &New) -> Receipt {
        self.begin(format!("enqueue {durability:?} {}", new.brief()));
        let receipt = self.broker().enqueue(new.message(durability)).unwrap();
        self.model.enqueue(new, receipt);
        self.enqueued_as(durability, &[(new, receipt)]);
        receipt
    }

    pub(crate) fn sync(&mut self, new: &New) -> Receipt {
        self.enqueue(Durability::Sync, new)
    }

    pub(crate) fn os(&mut self, new: &New) -> Receipt {
        self.enqueue(Durability::Os, new)
    }

    pub(crate) fn batch(&mut self, durability: Durability, news: &[New]) {
        self.begin(format!("enqueue {durability:?} a batch of {}", news.len()));
        let messages: Vec<_> = news.iter().map(|new| new.message(durability)).collect();
        let receipts = self.broker().enqueue_batch(&messages).unwrap();
        let all: Vec<_> = news.iter().zip(receipts).collect();
        all.iter().for_each(|(new, receipt)| self.model.enqueue(new, *receipt));
        self.enqueued_as(durability, &all);
    }

    /// Receives from a queue, which has a message; answers its id.
    pub(crate) fn receive(&mut self, queue: &str) -> u64 {
        self.try_receive(queue).unwrap()
    }

    /// Receives from a queue what is there.
    pub(crate) fn try_receive(&mut self, queue: &str) -> Option<u64> {
        self.begin(format!("receive from {queue}"));
        while self.model.bury_next(queue) {
            self.state();
        }
        let expected = self.model.receive(queue, LEASE.as_micros() as u64);
        let delivery = self.broker().receive(queue, Duration::ZERO, LEASE).unwrap();
        assert_eq!(delivery.as_ref().map(Delivery::id), expected);
        if expected.is_some() {
            self.state();
        }
        let mut shown = Shown::Nothing;
        if let Some(delivery) = delivery {
            let live = &self.model.live[&delivery.id()];
            assert_eq!(delivery.body(), live.body.as_bytes());
            assert_eq!(delivery.attempt(), live.attempts + 1);
            shown = Shown::Delivered { id: delivery.id(), attempt: delivery.attempt() };
            self.order.push(delivery.id());
            self.held.insert(delivery.id(), delivery);
        }
        self.end(0, shown);
        expected
    }

    pub(crate) fn ack(&mut self, id: u64) {
        self.settle(id, "ack", |model| model.ack(id), |delivery| delivery.ack());
    }

    /// Acks a message together with one it brings; answers that one's id.
    pub(crate) fn ack_with(&mut self, id: u64, durability: Durability, child: &New) -> u64 {
        self.begin(format!("ack {id} with {durability:?} {}", child.brief()));
        let delivery = self.take(id);
        delivery.enqueue(child.message(durability)).unwrap();
        let before = self.lsn().reserved;
        delivery.ack().unwrap();
        self.model.ack(id);
        // The child's id is where its record stands: behind the ack's, whose body is 32 bytes.
        let receipt = match self.model.predict(child) {
            (status, Some(id)) => Receipt { id, status },
            (status, None) => Receipt { id: before + 64, status },
        };
        self.model.enqueue(child, receipt);
        self.state();
        self.end(0, Shown::Nothing);
        if durability == Durability::Sync {
            // Nobody waits for the child, so the broker's own thread syncs it, at once.
            self.wait(MUST_COME, |run| run.lsn().durable == run.lsn().reserved);
            assert_eq!(self.lsn().durable, self.lsn().reserved);
        }
        receipt.id
    }

    pub(crate) fn retry(&mut self, id: u64, seconds: Option<u64>) {
        let delay = seconds.map(Duration::from_secs);
        let delay_us = seconds.map(|seconds| seconds * 1_000_000);
        self.settle(
            id,
            &format!("retry after {seconds:?}"),
            |model| model.retry(id, delay_us),
            |delivery| delivery.retry_because(delay, "not now"),
        );
    }

    pub(crate) fn reject(&mut self, id: u64, reason: &str) {
        self.settle(id, "reject", |model| model.reject(id, reason), |d| d.reject(reason));
    }

    pub(crate) fn release(&mut self, id: u64, seconds: u64) {
        let delay = Duration::from_secs(seconds);
        self.settle(
            id,
            &format!("release for {seconds} s"),
            |model| model.release(id, seconds * 1_000_000),
            |delivery| delivery.release(delay),
        );
    }

    /// Replays a dead letter; the rules of durability are those of an enqueue.
    pub(crate) fn replay(&mut self, id: u64) -> Receipt {
        self.begin(format!("replay {id}"));
        let receipt = self.broker().dead_letters().replay(id).unwrap();
        self.model.replay(id, receipt);
        self.state();
        let last = self.states.len() - 1;
        let durable = match receipt.status {
            ReceiptStatus::Duplicate => self.enqueued[&receipt.id],
            _ => last,
        };
        self.enqueued.entry(receipt.id).or_insert(last);
        self.end(durable, Shown::Nothing);
        receipt
    }

    pub(crate) fn purge(&mut self, queue: &str) {
        self.begin(format!("purge the dead letters of {queue}"));
        let purged = self.broker().dead_letters().purge(Some(queue)).unwrap();
        assert_eq!(purged, self.model.purge(queue));
        self.state();
        self.end(0, Shown::Nothing);
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        self.begin(format!("advance by {seconds} s"));
        self.broker().advance(Duration::from_secs(seconds)).unwrap();
        self.model.now += seconds * 1_000_000;
        self.state();
        self.expire();
        self.end(0, Shown::Nothing);
    }

    /// Cancels a message that waits.
    pub(crate) fn cancel(&mut self, id: u64) {
        self.begin(format!("cancel {id}"));
        assert!(self.broker().cancel(id).unwrap());
        assert!(self.model.cancel(id));
        self.state();
        self.end(0, Shown::Nothing);
    }

    /// Removes what waits in a queue; slots are used anew, so what is removed first is not said.
    pub(crate) fn purge_queue(&mut self, queue: &str, slots: &[u64]) {
        self.begin(format!("purge {queue}"));
        assert_eq!(self.broker().purge(queue).unwrap(), slots.len() as u64);
        for id in slots {
            assert!(self.model.cancel(*id));
            self.state();
        }
        assert!(self.model.waiting(queue).is_empty());
        self.end(0, Shown::Nothing);
    }

    pub(crate) fn snapshot(&mut self) {
        self.begin("snapshot".into());
        self.broker().snapshot().unwrap();
        // A snapshot stands on a journal that is synced to its end.
        self.end(self.states.len() - 1, Shown::Nothing);
    }

    fn take(&mut self, id: u64) -> Delivery {
        self.order.retain(|held| *held != id);
        self.held.remove(&id).unwrap()
    }

    fn settle(
        &mut self,
        id: u64,
        what: &str,
        model: impl FnOnce(&mut Model),
        settle: impl FnOnce(Delivery) -> libmq::Result<()>,
    ) {
        self.begin(format!("{what} {id}"));
        settle(self.take(id)).unwrap();
        model(&mut self.model);
        self.state();
        self.end(0, Shown::Nothing);
    }

    /// Notes what the enqueues of a call came to.
    fn enqueued_as(&mut self, durability: Durability, all: &[(&New, Receipt)]) {
        self.state();
        let last = self.states.len() - 1;
        for (_, receipt) in all.iter().filter(|(_, r)| r.status != ReceiptStatus::Duplicate) {
            self.enqueued.insert(receipt.id, last);
        }
        let reached = all.iter().map(|(_, receipt)| self.enqueued[&receipt.id]).max();
        let is_new = |(_, receipt): &&(&New, Receipt)| receipt.status != ReceiptStatus::Duplicate;
        let (durable, shown) = match (durability, all.iter().rfind(is_new)) {
            (Durability::Sync, Some((new, _))) => {
                (reached, Shown::Durable { body: new.body.clone() })
            }
            (Durability::Sync, None) => (reached, Shown::Nothing),
            _ => (None, Shown::Nothing),
        };
        self.end(durable.unwrap_or(0), shown);
    }

    fn begin(&mut self, what: String) {
        let begun = self.disk.position();
        let state = self.states.len() - 1;
        let (durable, log_end, shown) = (0, 0, Shown::Nothing);
        let returned = usize::MAX;
        self.calls.push(Called { what, begun, returned, state, durable, log_end, shown });
    }

    /// Notes the model's state as one that a crash may leave.
    fn state(&mut self) {
        self.states.push(self.model.clone());
    }

    fn end(&mut self, durable: usize, shown: Shown) {
        self.disk.note_marks();
        // Without a broker nothing is logged.
        let before = self.calls.iter().rev().nth(1).map_or(0, |call| call.log_end);
        let log_end = self.broker.as_ref().map_or(before, |_| self.lsn().reserved);
        let call = self.calls.last_mut().unwrap();
        call.returned = self.disk.position();
        call.state = self.states.len() - 1;
        call.durable = durable;
        call.log_end = log_end;
        call.shown = shown;
        if self.broker.is_some() {
            self.wait(MAY_COME, Self::has_spare);
            self.copy();
        }
    }

    fn copy(&self) {
        COPIES.with_borrow_mut(|copies| {
            let Some(copies) = copies else { return };
            let copy = SimDisk::default();
            self.broker().backup_on(&copy).unwrap();
            let after = self.calls.last().unwrap().what.clone();
            copies.push(Copied { after, model: self.model.clone(), copy });
        });
    }

    fn lsn(&self) -> libmq::Lsn {
        self.broker().metrics().unwrap().lsn
    }

    /// Whether the last segment has nothing in it yet: the spare one.
    fn has_spare(&self) -> bool {
        let mut last = None;
        let mut used = false;
        for op in self.disk.trace() {
            match op {
                Op::Rename { to, inode, .. } if to.ends_with(".segment") => {
                    last = Some(inode);
                    used = false;
                }
                Op::Write { inode, offset, .. } if Some(inode) == last => used |= offset > 0,
                _ => {}
            }
        }
        !used
    }

    fn wait(&self, time: Duration, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + time;
        while !done(self) && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
