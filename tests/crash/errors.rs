//! Every call to the disk fails once, and from there on for ever, with each of three errors.
//!
//! Whatever fails, nothing panics, what was answered with `Ok` is there after the process has died and after the power
//! has failed, and what was answered with an error other than `POISONED` has changed nothing. A failed write or sync
//! inside a segment poisons the broker; a full disk is `STORAGE_FULL` and nothing worse, and over when there is room.
//!
//! After a sync that failed, a kernel may keep what it could not write and call it clean, or may have dropped it. Whoever
//! opens next finds what the disk holds, and nothing of that is lost in a power failure after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libmq::Durability::{Os, Sync};
use libmq::{Broker, Delivery, Durability, Error, ErrorKind, Receipt, ReceiptStatus};
use libmq_suite::model::Model;
use libmq_suite::{Call, Faulted, New, Op, Pages, SimDisk, Tearing, Times, new};

use crate::power::subsets;
use crate::run::options;
use crate::verdict::{self, Opened};
use crate::view::View;

const SEGMENT_BYTES: u64 = 64 << 10;
const SEGMENT_HEADER_BYTES: u64 = 4096;

/// Far longer than what it bounds takes.
const LONG: Duration = Duration::from_secs(20);

/// A workload that goes on after errors, and knows what may be on the disk.
struct Faulty {
    disk: SimDisk,
    broker: Option<Broker>,
    held: BTreeMap<u64, Delivery>,
    /// What all answers so far come to.
    model: Model,
    /// What may be there besides, because an answer was "unknown".
    maybe: Vec<Model>,
    /// What power failures may leave: all states since the last one that was promised to be durable.
    since_durable: Vec<Model>,
    errors: Vec<(&'static str, Error)>,
    /// Faults and errors that there were before this broker was open.
    before: (usize, usize),
    /// Brokers that went on although they were beyond use.
    unpoisoned: Vec<String>,
}

impl Faulty {
    fn new(disk: SimDisk) -> Self {
        Self {
            disk,
            broker: None,
            held: BTreeMap::new(),
            model: Model::default(),
            maybe: Vec::new(),
            since_durable: vec![Model::default()],
            errors: Vec::new(),
            before: (0, 0),
            unpoisoned: Vec::new(),
        }
    }

    /// Makes calls that cover the engine; stops where the broker is beyond use.
    fn work(&mut self) -> Option<()> {
        self.open()?;
        self.enqueue(Sync, &new("jobs", "one"));
        self.enqueue(Os, &new("jobs", "two").key("k"));
        let one = self.receive("jobs");
        self.enqueue(Os, &new("jobs", &"three ".repeat(4000)));
        self.settle(one, "ack", Delivery::ack, Model::ack);
        let two = self.receive("jobs");
        self.enqueue(Sync, &new("jobs", "behind").key("k"));
        self.settle(two, "reject", |d| d.reject("no"), |m, id| m.reject(id, "no"));
        self.snapshot();
        self.enqueue(Sync, &new("mail", &"four ".repeat(5000)));
        let three = self.receive("jobs");
        self.settle(three, "retry", |d| d.retry(None), |m, id| m.retry(id, None));
        self.replay(two);
        self.enqueue(Os, &new("jobs", &"five ".repeat(6000)));
        let four = self.receive("mail");
        self.settle(four, "ack", Delivery::ack, Model::ack);
        self.snapshot();
        self.enqueue(Sync, &new("slow", "six"));
        self.receive("slow");
        self.die();
        self.open()?;
        self.enqueue(Sync, &new("slow", "seven"));
        self.receive("slow");
        self.close();
        self.open()?;
        self.enqueue(Sync, &new("mail", "eight"));
        Some(())
    }

    fn open(&mut self) -> Option<()> {
        let hook = Arc::new(());
        let held = Arc::clone(&hook);
        let options = options().log(move |_| drop(Arc::clone(&held)));
        match Broker::open_on(self.disk.storage(), options) {
            Ok(broker) => {
                // What was found is durable, what was known of those in flight is not.
                let found = self.model.clone();
                self.model.crash(&found.taken());
                if !self.maybe.is_empty() {
                    // Which of the states it was is not known; it is looked at in the end.
                    return None;
                }
                self.since_durable = vec![found, self.model.clone()];
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

    /// Sees that a broker is poisoned that cannot know what is on its disk.
    fn check_poison(&mut self) {
        let Some(broker) = &self.broker else { return };
        let faults = self.disk.faulted().split_off(self.before.0);
        let lost = |fault: &&Faulted| {
            matches!(fault.call, Call::Write | Call::Sync)
                && fault.name.as_ref().is_some_and(|name| name.ends_with(".segment"))
        };
        // What cannot be read can be neither handed out nor dropped.
        let unread =
            |(what, error): &(&str, Error)| *what == "receive" && error.kind() == ErrorKind::Io;
        let unread = self.errors[self.before.1..].iter().any(unread).then(|| faults.first());
        let Some(fault) = faults.iter().find(lost).or(unread.flatten()) else { return };
        let kind = broker.enqueue(new("jobs", "x").message(Sync)).map_err(|error| error.kind());
        if kind != Err(ErrorKind::Poisoned) {
            self.unpoisoned.push(format!("after {fault:?} an enqueue answered {kind:?}"));
        }
    }

    fn die(&mut self) {
        self.check_poison();
        self.broker = None;
        self.held.clear();
    }

    fn close(&mut self) {
        self.check_poison();
        let Some(broker) = self.broker.take() else { return };
        let mut before = vec![self.model.clone()];
        for id in std::mem::take(&mut self.held).into_keys() {
            self.model.release(id, 0);
            before.push(self.model.clone());
        }
        match broker.close(Duration::ZERO) {
            Ok(()) => {
                self.since_durable = vec![self.model.clone()];
            }
            Err(error) => {
                self.since_durable.extend(before.iter().cloned());
                self.maybe.extend(before);
                self.errors.push(("close", error));
            }
        }
    }

    fn enqueue(&mut self, durability: Durability, new: &New) {
        let Some(broker) = &self.broker else { return };
        let place = broker.metrics().map_or(0, |metrics| metrics.lsn.reserved);
        match broker.enqueue(new.message(durability)) {
            Ok(receipt) => {
                self.model.enqueue(new, receipt);
                self.state();
                if durability == Sync && receipt.status != ReceiptStatus::Duplicate {
                    self.since_durable = vec![self.model.clone()];
                }
            }
            Err(error) => {
                let (status, id) = self.model.predict(new);
                let next = place.next_multiple_of(SEGMENT_BYTES) + SEGMENT_HEADER_BYTES;
                for id in id.map_or(vec![place, next], |id| vec![id]) {
                    let mut maybe = self.model.clone();
                    maybe.enqueue(new, Receipt { id, status });
                    self.unknown(&error, maybe);
                }
                self.errors.push(("enqueue", error));
            }
        }
    }

    fn receive(&mut self, queue: &str) -> Option<u64> {
        let broker = self.broker.as_ref()?;
        let mut taken = self.model.clone();
        let expected = taken.receive(queue, 3_600_000_000);
        match broker.receive(queue, Duration::ZERO, Duration::from_secs(3600)) {
            Ok(Some(delivery)) => {
                let id = delivery.id();
                assert_eq!(Some(id), expected);
                self.model = taken;
                self.state();
                self.held.insert(id, delivery);
                Some(id)
            }
            Ok(None) => {
                assert_eq!(expected, None);
                None
            }
            Err(error) => {
                // Handed to nobody, but its attempt may have been written.
                self.maybe.push(taken);
                self.since_durable.extend(self.maybe.last().cloned());
                self.errors.push(("receive", error));
                None
            }
        }
    }

    fn settle(
        &mut self,
        id: Option<u64>,
        what: &'static str,
        settle: impl FnOnce(Delivery) -> libmq::Result<()>,
        model: impl FnOnce(&mut Model, u64),
    ) {
        let Some(id) = id else { return };
        let Some(delivery) = self.held.remove(&id) else { return };
        let mut settled = self.model.clone();
        model(&mut settled, id);
        match settle(delivery) {
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

    fn replay(&mut self, id: Option<u64>) {
        let Some(broker) = &self.broker else { return };
        let Some(id) = id.filter(|id| self.model.dead.contains_key(id)) else { return };
        // The record of the dead letter's end comes first.
        let place = broker.metrics().map_or(0, |metrics| metrics.lsn.reserved) + 40;
        match broker.dead_letters().replay(id) {
            Ok(receipt) => {
                self.model.replay(id, receipt);
                self.state();
                if receipt.status != ReceiptStatus::Duplicate {
                    self.since_durable = vec![self.model.clone()];
                }
            }
            Err(error) => {
                let mut replayed = self.model.clone();
                let held = replayed.dead[&id].clone();
                let new = New {
                    queue: held.queue,
                    body: held.body,
                    key: held.key,
                    keep: true,
                    delay_us: 0,
                    ..New::default()
                };
                if self.model.predict(&new).0 == ReceiptStatus::Accepted {
                    replayed.replay(id, Receipt { id: place, status: ReceiptStatus::Accepted });
                    self.unknown(&error, replayed);
                }
                self.errors.push(("replay", error));
            }
        }
    }

    fn snapshot(&mut self) {
        let Some(broker) = &self.broker else { return };
        match broker.snapshot() {
            Ok(()) => self.since_durable = vec![self.model.clone()],
            Err(error) => self.errors.push(("snapshot", error)),
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

    /// What is wrong with the answers so far, if anything is.
    fn judge(&self, code: i32, times: Times) -> Result<(), String> {
        let poisoned = self.errors.iter().position(|(_, e)| e.kind() == ErrorKind::Poisoned);
        for (number, (what, error)) in self.errors.iter().enumerate() {
            let kinds = match poisoned {
                _ if *what == "open" => &[ErrorKind::Io, ErrorKind::StorageFull][..],
                Some(since) if number > since => &[ErrorKind::Poisoned],
                _ => &[ErrorKind::Poisoned, ErrorKind::Io, ErrorKind::StorageFull],
            };
            if !kinds.contains(&error.kind()) {
                return Err(format!("{what} answered {:?}: {error}", error.kind()));
            }
        }
        if code == libc::ENOSPC
            && times == Times::ForEver
            && let Some((what, error)) =
                self.errors.iter().find(|(_, error)| error.kind() != ErrorKind::StorageFull)
        {
            return Err(format!("{what} on a full disk answered {:?}: {error}", error.kind()));
        }
        match self.unpoisoned.first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
struct Fault {
    code: i32,
    times: Times,
    /// Of a sync: what becomes of what it should have written.
    pages: Pages,
}

/// What all cases came to.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    images: usize,
    answers: BTreeMap<(&'static str, &'static str), usize>,
}

/// Runs the workload with one fault, and judges what comes of it.
fn case(at: u64, fault: Fault, tally: &mut Tally) -> Result<(), String> {
    let Fault { code, times, pages } = fault;
    let disk = SimDisk::default();
    disk.set_pages(pages);
    disk.fail_at(at, code, times);
    let mut faulty = Faulty::new(disk.clone());
    faulty.work();
    faulty.check_poison();
    disk.mend();
    faulty.judge(code, times)?;
    if code == libc::ENOSPC && times == Times::ForEver && faulty.broker.is_some() {
        // There is room again, so there is nothing left of it.
        let before = faulty.errors.len();
        faulty.enqueue(Sync, &new("mail", "room again"));
        if let Some((_, error)) = faulty.errors.get(before) {
            return Err(format!("with room again: {error}"));
        }
    }
    for (what, error) in &faulty.errors {
        *tally.answers.entry((*what, error.kind().name())).or_default() += 1;
    }
    let poisoned = faulty.errors.iter().any(|(_, error)| error.kind() == ErrorKind::Poisoned);
    if !poisoned && faulty.broker.is_none() {
        let before = faulty.errors.len();
        faulty.open();
        if let Some((_, error)) = faulty.errors.get(before) {
            return Err(format!("with the disk mended, opening answers {error}"));
        }
    }
    faulty.broker = None;
    faulty.held.clear();
    let forgets = |op: &Op| matches!(op, Op::Forget { .. });
    if pages != Pages::Wait && !disk.trace().iter().any(forgets) {
        // No sync of a file was to fail, so this is a case that there was already.
        return Ok(());
    }
    tally.cases += 1;

    // What was in flight may or may not be known to have been.
    let held = |model: &Model| {
        let known = subsets(&model.taken());
        known.into_iter().map(|held| View::expected(model, &held)).collect::<Vec<_>>()
    };
    let views = |models: &mut dyn Iterator<Item = &Model>| models.flat_map(held).collect();
    let now: Vec<View> = views(&mut faulty.maybe.iter().chain([&faulty.model]));
    let lost: Vec<View> = views(&mut faulty.since_durable.iter().chain([&faulty.model]));
    for image in disk.platter().images(at, Tearing::SomeEdges) {
        tally.images += 1;
        let found = verdict::open(&image.platter).map_err(|e| format!("{}: {e}", image.name))?;
        let legal = if image.killed && pages == Pages::Wait { &now } else { &lost };
        if !legal.contains(&found.view) {
            return Err(format!(
                "{}: found is\n{:?}\nlegal are\n{legal:?}\nfaults {:?}, errors {:?}",
                image.name,
                found.view,
                disk.faulted(),
                faulty.errors
            ));
        }
        if image.killed && pages != Pages::Wait {
            served_is_durable(&found, at)
                .map_err(|problem| format!("{}: {problem}", image.name))?;
        }
    }
    Ok(())
}

/// What an opening has found is there after the power has failed.
fn served_is_durable(opened: &Opened, seed: u64) -> Result<(), String> {
    let mut platter = opened.disk.began();
    opened.disk.trace()[..opened.opened_at].iter().for_each(|op| platter.apply(op));
    for image in platter.images(seed, Tearing::SomeEdges).iter().filter(|image| !image.killed) {
        let again = verdict::open(&image.platter)
            .map_err(|e| format!("was opened, and then {}: {e}", image.name))?;
        if again.view.messages() != opened.view.messages() {
            let (first, second) = (&opened.view, &again.view);
            let name = &image.name;
            return Err(format!(
                "was opened, and then {name}: found was\n{first:?}, is\n{second:?}"
            ));
        }
    }
    Ok(())
}

#[test]
fn a_failing_disk_makes_no_crash_and_no_lie() {
    let disk = SimDisk::default();
    let mut whole = Faulty::new(disk.clone());
    assert!(whole.work().is_some() && whole.errors.is_empty(), "{:?}", whole.errors);
    let calls = disk.calls();
    let (mut tally, mut problems) = (Tally::default(), Vec::new());
    for at in 0..calls {
        let codes = [libc::EIO, libc::ENOSPC, libc::EROFS].map(|code| (code, Pages::Wait));
        let kept = [Pages::Keep, Pages::Drop].map(|pages| (libc::EIO, pages));
        for (code, pages) in codes.into_iter().chain(kept) {
            for times in [Times::Once, Times::ForEver] {
                let fault = Fault { code, times, pages };
                if let Err(problem) = case(at, fault, &mut tally) {
                    problems.push(format!("call {at}, {fault:?}: {problem}"));
                }
            }
        }
    }
    println!("errors: {calls} calls, {tally:?}");
    problems.truncate(8);
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    for answer in [("enqueue", "POISONED"), ("enqueue", "STORAGE_FULL"), ("receive", "IO")] {
        assert!(tally.answers.contains_key(&answer), "{answer:?} never came");
    }
}
