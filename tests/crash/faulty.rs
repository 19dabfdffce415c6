//! Steps on a disk that fails: what was answered, and so what may be on the disk.
//!
//! What was answered with `Ok` is there. What was answered with `POISONED` may be there, and whatever was answered else has
//! changed nothing. Where a call that may stop half way was refused, nothing more is called, and all it may have come to is
//! legal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libmq::{Broker, Delivery, Durability, Error, ErrorKind, Receipt, ReceiptStatus};
use libmq_suite::model::Model;
use libmq_suite::{Call, Faulted, New, Op, SimDisk, new};

use crate::enumeration::subsets;
use crate::run::options;
use crate::step::{self, Body, Step};
use crate::view::View;

/// Far longer than what it bounds takes.
const LONG: Duration = Duration::from_secs(20);
/// How long a held message is held; no workload moves its clock as far.
const LEASE: Duration = Duration::from_secs(3600);

/// A workload that goes on after errors, and knows what may be on the disk.
pub(crate) struct Faulty {
    pub(crate) disk: SimDisk,
    pub(crate) broker: Option<Broker>,
    held: BTreeMap<u64, Delivery>,
    /// Held ids in the order they were taken.
    order: Vec<u64>,
    /// What all answers so far come to.
    model: Model,
    /// The ids that somebody was told.
    told: BTreeSet<u64>,
    /// What may be there besides, because an answer was "unknown".
    maybe: Vec<Model>,
    /// What power failures may leave: all states since the last one that was promised to be durable.
    since_durable: Vec<Model>,
    pub(crate) errors: Vec<(&'static str, Error)>,
    /// Faults and errors that there were before this broker was open.
    before: (usize, usize),
    /// What was wrong at once: brokers that went on although they were beyond use, and answers that no rule allows.
    wrong: Vec<String>,
}

impl Faulty {
    /// On a disk that holds this, and that nobody has open.
    pub(crate) fn new(disk: SimDisk, model: Model) -> Self {
        Self {
            disk,
            broker: None,
            held: BTreeMap::new(),
            order: Vec::new(),
            told: told_of(&model),
            since_durable: vec![model.clone()],
            model,
            maybe: Vec::new(),
            errors: Vec::new(),
            before: (0, 0),
            wrong: Vec::new(),
        }
    }

    /// Whether it can do a step at all.
    pub(crate) fn knows(step: &Step) -> bool {
        !matches!(
            step,
            Step::Refused(..)
                | Step::Blocked(..)
                | Step::Fill(..)
                | Step::Drain(_)
                | Step::Handle(..)
                | Step::Full
                | Step::Room
                | Step::Options(_)
        )
    }

    /// Makes a call; none where it makes no sense to go on.
    pub(crate) fn step(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Open => return self.open(),
            Step::Enqueue(durability, new) => self.enqueue(*durability, new),
            Step::Batch(durability, news) => self.batch(*durability, news),
            Step::Receive(queue) => return self.receive(queue),
            Step::Ack(body) => self.settle("ack", body, Delivery::ack, Model::ack),
            Step::AckWith(body, durability, child) => self.ack_with(body, *durability, child),
            Step::Retry(body, seconds) => {
                let delay = seconds.map(Duration::from_secs);
                let delay_us = seconds.map(|seconds| seconds * 1_000_000);
                let retry = |delivery: Delivery| delivery.retry_because(delay, "not now");
                self.settle("retry", body, retry, |model, id| model.retry(id, delay_us));
            }
            Step::Reject(body, why) => {
                let model = |model: &mut Model, id| model.reject(id, why);
                self.settle("reject", body, |delivery| delivery.reject(why), model);
            }
            Step::Release(body, seconds) => {
                let time = Duration::from_secs(*seconds);
                let model = |model: &mut Model, id| model.release(id, seconds * 1_000_000);
                self.settle("release", body, |delivery| delivery.release(time), model);
            }
            Step::Cancel(body) => return self.cancel(body),
            Step::Purge(queue) => return self.purge(queue),
            Step::Letters => self.letters(),
            Step::Replay(body) => self.replay(body),
            Step::PurgeLetters(queue) => return self.purge_letters(queue),
            Step::Advance(seconds) => return self.advance(*seconds),
            Step::Snapshot => self.snapshot(),
            Step::Backup => self.backup(),
            Step::Close => self.close(),
            Step::Die => self.die(),
            other => panic!("a failing disk is not for {other:?}"),
        }
        Some(())
    }

    pub(crate) fn open(&mut self) -> Option<()> {
        let hook = Arc::new(());
        let held = Arc::clone(&hook);
        let options = options().log(move |_| drop(Arc::clone(&held)));
        match Broker::open_on(self.disk.storage(), options) {
            Ok(broker) => {
                if !self.maybe.is_empty() || self.has_forgotten() {
                    // Which of the states it was is not known; it is looked at in the end.
                    return None;
                }
                // What was found is durable, what was known of those in flight is not.
                let found = self.model.clone();
                self.model.crash(&found.taken());
                self.since_durable = vec![found, self.model.clone()];
                while self.model.expire_next() {
                    self.state();
                }
                self.broker = Some(broker);
                self.before = (self.disk.faulted().len(), self.errors.len());
                Some(())
            }
            Err(error) => {
                // The thread that tells it would wait for more that nobody tells.
                let end = Instant::now() + LONG;
                while Arc::strong_count(&hook) > 1 {
                    assert!(Instant::now() < end, "the log hook is kept after {error}");
                    std::thread::sleep(Duration::from_millis(1));
                }
                self.errors.push(("open", error));
                None
            }
        }
    }

    /// Whether a sync has failed after which the kernel tries no more to write what was written before.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.disk.trace().iter().any(|op| matches!(op, Op::Forget { .. }))
    }

    /// Sees that a broker is poisoned that cannot know what is on its disk.
    pub(crate) fn check_poison(&mut self) {
        let Some(broker) = &self.broker else { return };
        let faults = self.disk.faulted().split_off(self.before.0);
        // What cannot be read can be neither handed out nor dropped.
        let unread =
            |(what, error): &(&str, Error)| *what == "receive" && error.kind() == ErrorKind::Io;
        let unread = self.errors[self.before.1..].iter().any(unread).then(|| faults.first());
        let Some(fault) = faults.iter().find(|fault| loses(fault)).or(unread.flatten()) else {
            return;
        };
        let message = new("jobs", "x").message(Durability::Sync);
        let kind = broker.enqueue(message).map_err(|error| error.kind());
        if kind != Err(ErrorKind::Poisoned) {
            self.wrong.push(format!("after {fault:?} an enqueue answered {kind:?}"));
        }
    }

    fn die(&mut self) {
        self.check_poison();
        self.broker = None;
        self.held.clear();
        self.order.clear();
    }

    fn close(&mut self) {
        self.check_poison();
        let Some(broker) = self.broker.take() else { return };
        let mut before = vec![self.model.clone()];
        self.held.clear();
        for id in std::mem::take(&mut self.order) {
            self.model.release(id, 0);
            before.push(self.model.clone());
        }
        match broker.close(Duration::ZERO) {
            Ok(()) => self.since_durable = vec![self.model.clone()],
            Err(error) => {
                self.since_durable.extend(before.iter().cloned());
                self.maybe.extend(before);
                self.errors.push(("close", error));
            }
        }
    }

    pub(crate) fn enqueue(&mut self, durability: Durability, new: &New) {
        let Some(broker) = &self.broker else { return };
        let answer = broker.enqueue(new.message(durability)).map(|receipt| vec![receipt]);
        self.enqueued("enqueue", durability, std::slice::from_ref(new), answer);
    }

    fn batch(&mut self, durability: Durability, news: &[New]) {
        let Some(broker) = &self.broker else { return };
        let messages: Vec<_> = news.iter().map(|new| new.message(durability)).collect();
        let answer = broker.enqueue_batch(&messages);
        self.enqueued("batch", durability, news, answer);
    }

    /// Some messages were to be enqueued, all or none.
    fn enqueued(
        &mut self,
        what: &'static str,
        durability: Durability,
        news: &[New],
        answer: libmq::Result<Vec<Receipt>>,
    ) {
        match answer {
            Ok(receipts) => {
                news.iter()
                    .zip(&receipts)
                    .for_each(|(new, receipt)| self.model.enqueue(new, *receipt));
                self.told.extend(receipts.iter().map(|receipt| receipt.id));
                self.state();
                let is_new = |receipt: &Receipt| receipt.status != ReceiptStatus::Duplicate;
                if durability == Durability::Sync && receipts.iter().any(is_new) {
                    self.since_durable = vec![self.model.clone()];
                }
            }
            Err(error) => {
                let mut maybe = self.model.clone();
                news.iter().for_each(|new| enqueue_untold(&mut maybe, new));
                self.unknown(&error, maybe);
                self.errors.push((what, error));
            }
        }
    }

    fn receive(&mut self, queue: &str) -> Option<()> {
        let broker = self.broker.as_ref()?;
        let mut taken = vec![self.model.clone()];
        let last = |taken: &[Model]| taken.last().cloned().unwrap();
        loop {
            // Whose crashes are used up is a dead letter instead.
            let mut buried = last(&taken);
            if !buried.bury_next(queue) {
                break;
            }
            taken.push(buried);
        }
        let mut received = last(&taken);
        let expected = received.receive(queue, LEASE.as_micros() as u64);
        taken.push(received);
        match broker.receive(queue, Duration::ZERO, LEASE) {
            Ok(delivery) => {
                let found = delivery.as_ref().map(Delivery::id);
                if found != expected {
                    self.wrong.push(format!("received was {found:?} instead of {expected:?}"));
                    return None;
                }
                for state in taken {
                    self.model = state;
                    self.state();
                }
                if let Some(delivery) = delivery {
                    self.order.push(delivery.id());
                    self.held.insert(delivery.id(), delivery);
                }
                Some(())
            }
            Err(error) => {
                // Handed to nobody, but its attempt may have been written.
                self.half_way("receive", error, taken)
            }
        }
    }

    /// The delivery that is called so, for its end.
    fn take(&mut self, name: Body) -> Option<(u64, Delivery)> {
        let id = step::held(&self.model, name).filter(|id| self.held.contains_key(id))?;
        self.order.retain(|held| *held != id);
        self.held.remove(&id).map(|delivery| (id, delivery))
    }

    fn settle(
        &mut self,
        what: &'static str,
        name: Body,
        settle: impl FnOnce(Delivery) -> libmq::Result<()>,
        model: impl FnOnce(&mut Model, u64),
    ) {
        let Some((id, delivery)) = self.take(name) else { return };
        let mut settled = self.model.clone();
        model(&mut settled, id);
        self.settled(what, settle(delivery), settled);
    }

    fn ack_with(&mut self, name: Body, durability: Durability, child: &New) {
        let Some((id, delivery)) = self.take(name) else { return };
        if let Err(error) = delivery.enqueue(child.message(durability)) {
            self.errors.push(("child", error));
            return;
        }
        let before = self.broker.as_ref().and_then(|broker| broker.metrics().ok());
        let before = before.map_or(0, |metrics| metrics.lsn.reserved);
        let answer = delivery.ack();
        let mut settled = self.model.clone();
        settled.ack(id);
        match settled.predict(child) {
            _ if answer.is_err() => enqueue_untold(&mut settled, child),
            // The child's id is where its record stands: behind the ack's, whose body is 32 bytes.
            (status, known) => {
                let id = known.unwrap_or(before + 64);
                settled.enqueue(child, Receipt { id, status });
                self.told.insert(id);
            }
        }
        self.settled("ack_with", answer, settled);
    }

    fn settled(&mut self, what: &'static str, answer: libmq::Result<()>, settled: Model) {
        match answer {
            Ok(()) => {
                self.model = settled;
                self.state();
            }
            Err(error) => {
                self.unknown(&error, settled);
                self.errors.push((what, error));
            }
        }
    }

    fn replay(&mut self, name: Body) {
        let Some(broker) = &self.broker else { return };
        let Some(id) = step::dead(&self.model, name) else { return };
        match broker.dead_letters().replay(id) {
            Ok(receipt) => {
                self.model.replay(id, receipt);
                self.told.insert(receipt.id);
                self.state();
                if receipt.status != ReceiptStatus::Duplicate {
                    self.since_durable = vec![self.model.clone()];
                }
            }
            Err(error) => {
                let mut replayed = self.model.clone();
                let letter = replayed.dead[&id].clone();
                let new =
                    New { queue: letter.queue, key: letter.key, keep: true, ..New::default() };
                if self.model.predict(&new).0 == ReceiptStatus::Accepted {
                    let status = ReceiptStatus::Accepted;
                    replayed.replay(id, Receipt { id: untold(0), status });
                    self.unknown(&error, replayed);
                }
                self.errors.push(("replay", error));
            }
        }
    }

    fn cancel(&mut self, name: Body) -> Option<()> {
        let broker = self.broker.as_ref()?;
        let Some(id) = step::waiting(&self.model, name) else { return Some(()) };
        let answer = broker.cancel(id);
        let mut cancelled = self.model.clone();
        cancelled.cancel(id);
        self.half_way_unless("cancel", answer.map(|found| u64::from(found) == 1), vec![cancelled])
    }

    fn purge(&mut self, queue: &str) -> Option<()> {
        let broker = self.broker.as_ref()?;
        let waiting: BTreeSet<u64> = self.model.waiting(queue).into_iter().collect();
        let answer = broker.purge(queue);
        if waiting.is_empty() {
            return Some(());
        }
        let states = subsets(&waiting).into_iter().skip(1).map(|removed| {
            let mut purged = self.model.clone();
            removed.into_iter().for_each(|id| assert!(purged.cancel(id)));
            purged
        });
        let states = states.collect();
        let all = waiting.len() as u64;
        self.half_way_unless("purge", answer.map(|count| count == all), states)
    }

    fn purge_letters(&mut self, queue: &str) -> Option<()> {
        let broker = self.broker.as_ref()?;
        let answer = broker.dead_letters().purge(Some(queue));
        let of_queue = self.model.dead.iter().filter(|(_, letter)| letter.queue == queue);
        let letters: BTreeSet<u64> = of_queue.map(|(id, _)| *id).collect();
        let states = subsets(&letters).into_iter().map(|removed| {
            let mut purged = self.model.clone();
            purged.dead.retain(|id, _| !removed.contains(id));
            purged
        });
        let states = states.collect();
        let all = letters.len() as u64;
        self.half_way_unless("purge_letters", answer.map(|count| count == all), states)
    }

    fn advance(&mut self, seconds: u64) -> Option<()> {
        let broker = self.broker.as_ref()?;
        let answer = broker.advance(Duration::from_secs(seconds));
        let mut moved = self.model.clone();
        moved.now += seconds * 1_000_000;
        let mut states = vec![moved.clone()];
        while moved.expire_next() {
            states.push(moved.clone());
        }
        self.half_way_unless("advance", answer.map(|()| true), states)
    }

    fn letters(&mut self) {
        let Some(broker) = &self.broker else { return };
        match broker.dead_letters().list(None, usize::MAX, None) {
            Ok(letters) => {
                if !self.model.dead.keys().copied().eq(letters.iter().map(libmq::DeadLetter::id)) {
                    self.wrong.push(format!("listed were {letters:?}"));
                }
            }
            Err(error) => self.errors.push(("letters", error)),
        }
    }

    fn snapshot(&mut self) {
        let Some(broker) = &self.broker else { return };
        match broker.snapshot() {
            Ok(()) => self.since_durable = vec![self.model.clone()],
            Err(error) => self.errors.push(("snapshot", error)),
        }
    }

    /// A copy is whole, or the caller hears that it is not. Whether there was a snapshot first is not said.
    fn backup(&mut self) {
        let Some(broker) = &self.broker else { return };
        let copy = SimDisk::default();
        match broker.backup_on(&copy) {
            Ok(()) => {
                let report = libmq::verify_on(&copy).unwrap();
                let mut copied = self.model.clone();
                copied.crash(&BTreeSet::new());
                let there = (report.messages, report.dead_letters);
                let expected = (copied.live.len() as u64, copied.dead.len() as u64);
                if !report.sound() || there != expected {
                    self.wrong.push(format!("copied was {report:?} instead of {expected:?}"));
                }
            }
            Err(error) => self.errors.push(("backup", error)),
        }
    }

    fn state(&mut self) {
        self.since_durable.push(self.model.clone());
    }

    /// A call failed. What it would have done may be there if that is unknown, and is not there else.
    fn unknown(&mut self, error: &Error, model: Model) {
        if error.kind() == ErrorKind::Poisoned {
            self.since_durable.push(model.clone());
            self.maybe.push(model);
        }
    }

    /// A call went through these states, or it failed and may have stopped in any of them. `answer` is whether it answered
    /// what it should.
    fn half_way_unless(
        &mut self,
        what: &'static str,
        answer: libmq::Result<bool>,
        states: Vec<Model>,
    ) -> Option<()> {
        match answer {
            Ok(right) => {
                if !right {
                    self.wrong.push(format!("{what} answered something else"));
                }
                for state in states {
                    self.model = state;
                    self.state();
                }
                Some(())
            }
            Err(error) => self.half_way(what, error, states),
        }
    }

    /// A call failed, and may have stopped in any of these states.
    fn half_way(&mut self, what: &'static str, error: Error, states: Vec<Model>) -> Option<()> {
        self.since_durable.extend(states.iter().cloned());
        self.maybe.extend(states);
        let goes_on = error.kind() == ErrorKind::Poisoned;
        self.errors.push((what, error));
        goes_on.then_some(())
    }

    /// What is wrong with the answers so far, if anything is. `full` where the disk had no room, and nothing else.
    pub(crate) fn judge(&self, full: bool) -> Result<(), String> {
        let poisoned = self.errors.iter().position(|(_, e)| e.kind() == ErrorKind::Poisoned);
        for (number, (what, error)) in self.errors.iter().enumerate() {
            let kinds = match poisoned {
                _ if *what == "open" => &[ErrorKind::Io, ErrorKind::StorageFull][..],
                // What was written can still be read, or not.
                Some(_) if *what == "letters" => &[ErrorKind::Poisoned, ErrorKind::Io],
                Some(since) if number > since => &[ErrorKind::Poisoned],
                _ => &[ErrorKind::Poisoned, ErrorKind::Io, ErrorKind::StorageFull],
            };
            if !kinds.contains(&error.kind()) {
                return Err(format!("{what} answered {:?}: {error}", error.kind()));
            }
        }
        let other = |(_, error): &&(&str, Error)| error.kind() != ErrorKind::StorageFull;
        if full && let Some((what, error)) = self.errors.iter().find(other) {
            return Err(format!("{what} on a full disk answered {:?}: {error}", error.kind()));
        }
        self.wrong.first().cloned().map_or(Ok(()), Err)
    }

    /// Whether a view is what may be there, after the death of the process or after a power failure.
    pub(crate) fn allows(&self, view: &View, killed: bool) -> bool {
        let told = |id| self.told.contains(&id);
        let view = view.with_untold(told, untold);
        let states: Vec<&Model> = if killed {
            self.maybe.iter().chain([&self.model]).collect()
        } else {
            self.since_durable.iter().chain([&self.model]).collect()
        };
        // What was in flight may or may not be known to have been; and marks outlive what of the log is lost.
        let marked: BTreeSet<u64> = states.iter().flat_map(|model| model.taken()).collect();
        let is_view = |model: &&Model| {
            let known = if killed {
                model.taken()
            } else {
                marked.iter().copied().filter(|id| model.live.contains_key(id)).collect()
            };
            subsets(&known).iter().rev().any(|held| View::expected(model, held) == view)
        };
        states.iter().rev().any(is_view)
    }

    /// All that may be there, for a failure's text.
    pub(crate) fn legal(&self, killed: bool) -> Vec<View> {
        let states = if killed { &self.maybe } else { &self.since_durable };
        let unmarked = |model| View::expected(model, &BTreeSet::new());
        states.iter().chain([&self.model]).map(unmarked).collect()
    }
}

/// Whether what is on the disk of the log is not known any more.
pub(crate) fn loses(fault: &Faulted) -> bool {
    matches!(fault.call, Call::Write | Call::Sync)
        && fault.name.as_ref().is_some_and(|name| name.ends_with(".segment"))
}

/// The ids in a model.
fn told_of(model: &Model) -> BTreeSet<u64> {
    let guards = model.guarded.values().map(|(id, _)| id);
    model.live.keys().chain(model.dead.keys()).chain(guards).copied().collect()
}

/// Stands for the id of a message of which nobody was told that it is there: above all others, and in their order.
fn untold(number: u64) -> u64 {
    (1 << 60) + number
}

/// A message may have been enqueued, and nobody was told its id.
fn enqueue_untold(model: &mut Model, new: &New) {
    let (status, id) = model.predict(new);
    let before = model.live.range(untold(0)..).count() as u64;
    model.enqueue(new, Receipt { id: id.unwrap_or(untold(before)), status });
}
