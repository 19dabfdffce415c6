//! A workload under way: the broker, the model beside it, and what is legal to find after every call.
//!
//! Each call notes the place in the disk's trace where it began and where it returned, and the model's states it went
//! through. A call is one thread's, one after the other; what the broker's own threads do to the disk is waited for
//! before the next call, so that a workload makes the same trace each time, nearly always.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libmq::{
    Broker, Delivery, Durability, ErrorKind, HandlerOptions, Options, Receipt, ReceiptStatus,
};
use libmq_suite::model::{self, Model};
use libmq_suite::{New, Op, SimDisk, Times};

use crate::enumeration::subsets;
use crate::step::{self, Step};

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

/// A handler was entered with a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    pub(crate) id: u64,
    pub(crate) attempt: u32,
    /// Where the trace was then.
    pub(crate) at: usize,
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
    /// The handlers that were entered.
    pub(crate) entered: Vec<Entered>,
    /// The copies that were asked for.
    pub(crate) copies: Vec<Copied>,
    broker: Option<Broker>,
    held: BTreeMap<u64, Delivery>,
    /// Held ids in the order they were taken.
    order: Vec<u64>,
    /// Where a message was enqueued last: the number of the state.
    enqueued: BTreeMap<u64, usize>,
    /// What the next opening is told besides.
    options: fn(Options) -> Options,
}

impl Run {
    /// An empty disk, a broker just opened on it.
    pub(crate) fn start() -> Self {
        Self::start_on(SimDisk::default(), Model::default())
    }

    /// A disk that holds this, and a broker just opened on it.
    pub(crate) fn start_on(disk: SimDisk, model: Model) -> Self {
        let mut run = Self {
            disk,
            states: vec![model.clone()],
            model,
            calls: Vec::new(),
            entered: Vec::new(),
            copies: Vec::new(),
            broker: None,
            held: BTreeMap::new(),
            order: Vec::new(),
            enqueued: BTreeMap::new(),
            options: std::convert::identity,
        };
        run.disk.note_marks();
        run.open();
        run
    }

    /// All steps of a workload, on an empty disk.
    pub(crate) fn of(steps: &[Step]) -> Self {
        let mut run = Self::start();
        for step in steps {
            assert!(run.step(step), "there is nothing to {step:?}");
        }
        run
    }

    /// Makes the call that a step says. False where there is nothing that it could be about.
    pub(crate) fn step(&mut self, step: &Step) -> bool {
        let is_open = self.broker.is_some();
        match step {
            Step::Open if !is_open => self.open(),
            Step::Options(options) => self.options = *options,
            _ if !is_open => return false,
            Step::Enqueue(durability, new) => drop(self.enqueue(*durability, new)),
            Step::Batch(durability, news) => self.batch(*durability, news),
            Step::Refused(durability, new) => self.refused(*durability, new),
            Step::Fill(queue, bytes) => self.fill(queue, *bytes),
            Step::Drain(queue) => self.drain(queue),
            Step::Receive(queue) => drop(self.try_receive(queue)),
            Step::Handle(queue, child) => self.handle(queue, child.as_ref()),
            Step::Letters => self.letters(),
            Step::PurgeLetters(queue) => self.purge(queue),
            Step::Purge(queue) => {
                if self.model.waiting(queue).is_empty() {
                    return false;
                }
                self.purge_queue(queue);
            }
            Step::Advance(seconds) => self.advance(*seconds),
            Step::Snapshot => self.snapshot(),
            Step::Backup => self.backup(),
            Step::Full => self.disk.fail_at(self.disk.calls(), libc::ENOSPC, Times::ForEver),
            Step::Room => self.disk.mend(),
            Step::Close => self.close(),
            Step::Die => self.die(),
            Step::Open => return false,
            _ => return self.step_about_one(step),
        }
        true
    }

    /// As [`Run::step`], of a step that is about one message.
    fn step_about_one(&mut self, step: &Step) -> bool {
        let id = match step {
            Step::Cancel(body) => step::waiting(&self.model, body),
            Step::Replay(body) => step::dead(&self.model, body),
            Step::Ack(body)
            | Step::AckWith(body, ..)
            | Step::Blocked(_, body)
            | Step::Retry(body, _)
            | Step::Reject(body, _)
            | Step::Release(body, _) => step::held(&self.model, body),
            _ => None,
        };
        let Some(id) = id else { return false };
        match step {
            Step::Cancel(_) => self.cancel(id),
            Step::Replay(_) => drop(self.replay(id)),
            Step::Ack(_) => self.ack(id),
            Step::AckWith(_, durability, child) => drop(self.ack_with(id, *durability, child)),
            Step::Blocked(new, _) => self.blocked(new, id),
            Step::Retry(_, seconds) => self.retry(id, *seconds),
            Step::Reject(_, reason) => self.reject(id, reason),
            Step::Release(_, seconds) => self.release(id, *seconds),
            _ => return false,
        }
        true
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
        let broker = Broker::open_on(self.disk.storage(), (self.options)(options())).unwrap();
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

    /// Enqueues a message for which there is no room, and which is not there then.
    pub(crate) fn refused(&mut self, durability: Durability, new: &New) {
        self.begin(format!("no room to enqueue {durability:?} {}", new.brief()));
        let error = self.broker().enqueue(new.message(durability)).unwrap_err();
        let no_room = [ErrorKind::Full, ErrorKind::StorageFull];
        assert!(no_room.contains(&error.kind()), "{error}");
        self.end(0, Shown::Nothing);
    }

    /// Enqueues messages of so many bytes until there is no room.
    fn fill(&mut self, queue: &str, bytes: usize) {
        const MESSAGES_MAX: usize = 40;
        for number in 0..MESSAGES_MAX {
            let mut body = format!("filler {number} ");
            body.extend(std::iter::repeat_n('f', bytes));
            let new = libmq_suite::new(queue, &body);
            self.begin(format!("enqueue filler {number}"));
            match self.broker().enqueue(new.message(Durability::Sync)) {
                Ok(receipt) => {
                    self.model.enqueue(&new, receipt);
                    self.enqueued_as(Durability::Sync, &[(&new, receipt)]);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                    assert!(number > 1, "there was no room at all");
                    return self.end(0, Shown::Nothing);
                }
            }
        }
        panic!("{MESSAGES_MAX} messages have found room");
    }

    /// Acks all that a queue has.
    fn drain(&mut self, queue: &str) {
        while let Some(id) = self.try_receive(queue) {
            self.ack(id);
        }
    }

    /// Enqueues a message that has to wait until another one is acked.
    pub(crate) fn blocked(&mut self, new: &New, id: u64) {
        self.begin(format!("room from {id} for {}", new.brief()));
        let (broker, message) = (self.broker(), new.message(Durability::Sync));
        let waiting = std::thread::spawn(move || broker.enqueue(message));
        // It may come too late to wait at all, which is as good.
        std::thread::sleep(Duration::from_millis(5));
        assert!(!waiting.is_finished(), "there was room");
        self.take(id).ack().unwrap();
        self.model.ack(id);
        self.state();
        let receipt = waiting.join().unwrap().unwrap();
        self.model.enqueue(new, receipt);
        self.enqueued_as(Durability::Sync, &[(new, receipt)]);
    }

    /// Has a handler take all that is ready in a queue, one after the other, each with a child if one is given.
    pub(crate) fn handle(&mut self, queue: &'static str, child: Option<&New>) {
        self.begin(format!("handle {queue}"));
        let before = self.lsn().reserved;
        let entered = self.serve(queue, child);
        let count = entered.len();
        assert!(count > 0, "nothing was ready in {queue}");
        // Each child's record stands behind the record of its parent's ack, whose body is 32 bytes.
        let each = (self.lsn().reserved - before) / count as u64;
        for (number, one) in entered.iter().enumerate() {
            // The ends of handlers are written later, and together; who runs meanwhile is marked.
            for later in &entered[number..] {
                let mut runs = self.model.clone();
                runs.live.get_mut(&later.id).unwrap().taken = true;
                self.states.push(runs);
            }
            assert_eq!(self.model.receive(queue, LEASE.as_micros() as u64), Some(one.id));
            self.model.ack(one.id);
            if let Some(child) = child {
                let id = before + number as u64 * each + 64;
                self.model.enqueue(child, Receipt { id, status: ReceiptStatus::Accepted });
            }
            self.state();
        }
        self.entered.extend(entered);
        self.end(0, Shown::Nothing);
    }

    /// Runs a queue's handler until nothing is left for it to do; answers what it was entered with.
    fn serve(&self, queue: &str, child: Option<&New>) -> Vec<Entered> {
        let (disk, entered) = (self.disk.clone(), Arc::new(Mutex::new(Vec::new())));
        let (noted, child) = (Arc::clone(&entered), child.cloned());
        let broker = self.broker();
        broker
            .handle(queue, HandlerOptions::new(), move |context| {
                disk.note_marks();
                let (id, attempt, at) = (context.id(), context.attempt(), disk.position());
                noted.lock().unwrap().push(Entered { id, attempt, at });
                if let Some(child) = &child {
                    context.enqueue(child.message(Durability::Os))?;
                }
                Ok(())
            })
            .unwrap();
        broker.start().unwrap();
        assert!(broker.wait_idle(MUST_COME).unwrap(), "the handler of {queue} does not end");
        broker.stop(MUST_COME).unwrap();
        self.wait(MUST_COME, |run| run.lsn().written == run.lsn().reserved);
        std::mem::take(&mut entered.lock().unwrap())
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
            ReceiptStatus::Duplicate => self.enqueued_in(receipt.id),
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

    /// Removes what waits in a queue, in whatever order.
    pub(crate) fn purge_queue(&mut self, queue: &str) {
        self.begin(format!("purge {queue}"));
        let waiting: BTreeSet<u64> = self.model.waiting(queue).into_iter().collect();
        assert_eq!(self.broker().purge(queue).unwrap(), waiting.len() as u64);
        let before = self.model.clone();
        // All of them come last.
        for removed in subsets(&waiting).iter().skip(1) {
            self.model = before.clone();
            removed.iter().for_each(|id| assert!(self.model.cancel(*id)));
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

    /// Copies the broker, which takes a snapshot first.
    pub(crate) fn backup(&mut self) {
        self.begin("backup".into());
        let copied = self.copied("a backup");
        self.copies.push(copied);
        self.end(self.states.len() - 1, Shown::Nothing);
    }

    /// Lists the dead letters, page by page.
    pub(crate) fn letters(&mut self) {
        self.begin("list the dead letters".into());
        let mut found = Vec::new();
        loop {
            let last = found.last().copied();
            let page = self.broker().dead_letters().list(None, 2, last).unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page.iter().map(libmq::DeadLetter::id));
        }
        assert!(self.model.dead.keys().eq(&found), "{found:?}");
        self.end(0, Shown::Nothing);
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
        let expired = |run: &Self| run.broker().metrics().unwrap().broker.expired;
        let before = expired(self);
        settle(self.take(id)).unwrap();
        model(&mut self.model);
        self.state();
        let back = self.states.len();
        self.expire();
        // What comes back after its time is ended by the broker's own thread, at once.
        let gone = (self.states.len() - back) as u64;
        self.wait(MUST_COME, |run| expired(run) == before + gone);
        self.end(0, Shown::Nothing);
    }

    /// The state in which a message was enqueued last. What an opening has found was durable when it was open.
    fn enqueued_in(&self, id: u64) -> usize {
        self.enqueued.get(&id).copied().unwrap_or(0)
    }

    /// Notes what the enqueues of a call came to.
    fn enqueued_as(&mut self, durability: Durability, all: &[(&New, Receipt)]) {
        self.state();
        let last = self.states.len() - 1;
        for (_, receipt) in all.iter().filter(|(_, r)| r.status != ReceiptStatus::Duplicate) {
            self.enqueued.insert(receipt.id, last);
        }
        let reached = all.iter().map(|(_, receipt)| self.enqueued_in(receipt.id)).max();
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
            copies.push(self.copied(&self.calls.last().unwrap().what));
        });
    }

    fn copied(&self, after: &str) -> Copied {
        let copy = SimDisk::default();
        self.broker().backup_on(&copy).unwrap();
        Copied { after: after.to_owned(), model: self.model.clone(), copy }
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
