//! Handlers on a disk that fails: each call to it fails with each error, once and from there on for ever, while they
//! work.
//!
//! Whatever fails, no message that was accepted is lost and none comes from nowhere, a child is there once its parent is
//! gone and not before, and nothing is gone that no handler has seen. Once the disk is mended the handlers go on to the end, or
//! the broker is poisoned, and those of the next one do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libmq::Durability::{Os, Sync};
use libmq::{Backoff, Broker, Durability, Error, ErrorKind, HandlerError, HandlerOptions, Message};
use libmq_suite::{Pages, Platter, SimDisk, Tearing};

use crate::enumeration::watch;
use crate::errors::{Fault, faults};
use crate::extent::Extent;
use crate::faulty::loses;
use crate::floors;
use crate::run::options;

/// One of so many cases is in a share.
const SHARE: u64 = 30;
/// And one of so many where all is tried but this: ends that find no room are tried again every second, so it takes long.
const FULL_SHARE: u64 = 3;
/// Of the images that a case leaves, one of so many is opened, besides those of a killed process and of a disk that lost all
/// it could.
const IMAGES_SHARE: u64 = 16;
/// How long handlers are waited for while the disk fails.
const WHILE_IT_FAILS: Duration = Duration::from_millis(20);
/// And once it does not.
const LONG: Duration = Duration::from_secs(20);
/// So large that a few of them fill a segment.
const LARGE: usize = 18_000;
/// So many messages are rejected, with so long a reason each, that their ends fill some segments.
const WRONG: u32 = 40;
const REASON: usize = 4_000;

/// What is known of a message that somebody enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Answered with `Ok`, and synced or not.
    Accepted(Durability),
    /// Answered with `POISONED`: it may be there.
    Unknown,
}

/// The names of the messages that a handler was entered with.
type Entered = BTreeSet<String>;

/// The names of the messages that a directory has.
#[derive(Debug, Default)]
struct Found {
    /// In `jobs`.
    parents: Vec<String>,
    /// In `mail`: each is called as its parent was.
    children: Vec<String>,
    /// Parents that are dead letters.
    dead: Vec<String>,
}

/// A broker with handlers, and what it was asked for and has answered.
struct Life {
    disk: SimDisk,
    broker: Option<Broker>,
    fates: BTreeMap<String, Fate>,
    entered: Arc<Mutex<Entered>>,
    errors: Vec<(&'static str, Error)>,
}

/// The name of a message, with which its body begins.
fn name_of(body: &[u8]) -> String {
    let name: Vec<u8> = body.iter().copied().take_while(|byte| *byte != b' ').collect();
    String::from_utf8(name).unwrap()
}

/// Has `jobs` worked off: each message brings a child, one after it has failed once, or is rejected.
fn handle(broker: &Broker, entered: &Arc<Mutex<Entered>>) -> libmq::Result<()> {
    let entered = Arc::clone(entered);
    let options =
        HandlerOptions::new().backoff(Backoff::fixed(Duration::ZERO)).cancel_grace(WHILE_IT_FAILS);
    broker.handle("jobs", options, move |context| {
        let name = name_of(context.body());
        entered.lock().unwrap().insert(name.clone());
        match &*name {
            "fails" if context.attempt() == 1 => Err(HandlerError::failed("not now")),
            wrong if wrong.starts_with("wrong") => Err(HandlerError::reject("x".repeat(REASON))),
            _ => Ok(context.enqueue(Message::new("mail", name.as_bytes()).durability(Os))?),
        }
    })?;
    broker.start()
}

impl Life {
    fn new(disk: SimDisk) -> Self {
        Self {
            disk,
            broker: None,
            fates: BTreeMap::new(),
            entered: Arc::default(),
            errors: Vec::new(),
        }
    }

    fn call<T>(
        &mut self,
        what: &'static str,
        call: impl FnOnce(&Broker) -> libmq::Result<T>,
    ) -> Option<T> {
        match call(self.broker.as_ref()?) {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.errors.push((what, error));
                None
            }
        }
    }

    fn enqueue(&mut self, durability: Durability, name: &str, bytes: usize) {
        let body = format!("{name} {}", "x".repeat(bytes));
        let message = Message::new("jobs", body.as_bytes()).durability(durability);
        let before = self.errors.len();
        let fate = match self.call("enqueue", |broker| broker.enqueue(message)) {
            Some(_) => Fate::Accepted(durability),
            None if self.errors.get(before).is_some_and(is_poisoned) => Fate::Unknown,
            None => return,
        };
        self.fates.insert(name.to_owned(), fate);
    }

    /// Everything that may meet the fault.
    fn work(&mut self) {
        match Broker::open_on(self.disk.storage(), options()) {
            Ok(broker) => self.broker = Some(broker),
            Err(error) => self.errors.push(("open", error)),
        }
        self.enqueue(Os, "one", 10);
        self.enqueue(Sync, "fails", 10);
        let entered = Arc::clone(&self.entered);
        self.call("handle", |broker| handle(broker, &entered));
        self.enqueue(Os, "two", LARGE);
        self.enqueue(Sync, "three", LARGE);
        self.settle();
        (0..WRONG).for_each(|number| self.enqueue(Os, &format!("wrong{number}"), 10));
        self.settle();
        self.call("snapshot", Broker::snapshot);
        self.enqueue(Os, "four", LARGE);
        self.enqueue(Sync, "five", LARGE);
        self.settle();
        self.call("stop", |broker| broker.stop(WHILE_IT_FAILS));
        self.enqueue(Os, "six", 10);
        self.call("start", Broker::start);
        self.settle();
    }

    /// Gives the handlers a moment.
    fn settle(&mut self) {
        self.call("wait_idle", |broker| broker.wait_idle(WHILE_IT_FAILS));
    }

    fn is_poisoned(&self) -> bool {
        self.errors.iter().any(is_poisoned)
    }

    /// Sees that what was answered is what may be answered.
    fn judge(&mut self, fault: Fault) -> Result<(), String> {
        let must_be = self.disk.faulted().iter().any(loses);
        if must_be && self.broker.is_some() {
            let refused = self.call("probe", |broker| {
                broker.enqueue(Message::new("mail", b"probe").durability(Sync))
            });
            if refused.is_some() || !self.is_poisoned() {
                return Err("what cannot know its disk goes on".to_owned());
            }
        }
        let kinds = [ErrorKind::StorageFull, ErrorKind::Poisoned, ErrorKind::Io];
        let kinds = if fault.is_full() { &kinds[..1] } else { &kinds[..] };
        let may_be = |what, kind| {
            // What there is no room for now has not ended.
            kinds.contains(&kind) || (what, kind) == ("stop", ErrorKind::Timeout)
        };
        match self.errors.iter().find(|(what, error)| !may_be(*what, error.kind())) {
            Some((what, error)) => Err(format!("{what} answered {:?}: {error}", error.kind())),
            None => Ok(()),
        }
    }

    /// With the disk mended, has everything worked off: by this broker, or by another one where it is poisoned or could not
    /// be opened.
    fn end(&mut self) -> Result<(), String> {
        if self.is_poisoned() || self.broker.is_none() {
            let closed = self.broker.take().map_or(Ok(()), |broker| broker.close(LONG));
            if closed.is_err_and(|error| error.kind() != ErrorKind::Poisoned) {
                return Err("a poisoned broker does not close".to_owned());
            }
            let failed = |error| format!("the next broker: {error}");
            let next = Broker::open_on(self.disk.storage(), options()).map_err(failed)?;
            handle(&next, &self.entered).map_err(failed)?;
            self.broker = Some(next);
        }
        let failed = |error| format!("with the disk mended: {error}");
        let broker = self.broker.take().unwrap();
        if !broker.wait_idle(LONG).map_err(failed)? {
            return Err(format!("nothing goes on: {:?}", broker.metrics()));
        }
        broker.close(LONG).map_err(failed)
    }

    /// Whether what is on some disk is legal. `is_all` where nothing is lost but what the process had not written, `is_done`
    /// where everything has been worked off besides.
    fn allows(&self, found: &Found, entered: &Entered, is_all: bool, is_done: bool) -> bool {
        let gone = || found.children.iter().chain(&found.dead);
        let is_right = |(name, fate): (&String, &Fate)| {
            let places = found.parents.iter().chain(gone()).filter(|found| *found == name).count();
            let must_be = match fate {
                Fate::Accepted(level) => is_all || *level == Sync,
                Fate::Unknown => false,
            };
            places == 1 || (places == 0 && !must_be)
        };
        found.parents.iter().chain(gone()).all(|name| self.fates.contains_key(name))
            && gone().all(|name| entered.contains(name))
            && self.fates.iter().all(is_right)
            && (!is_done || found.parents.is_empty())
    }

    /// Opens what this disk may hold now, when handlers had been entered with these.
    fn images(
        &self,
        disk: &Platter,
        entered: &Entered,
        pages: Pages,
        is_done: bool,
        extent: &Extent,
    ) -> Result<usize, String> {
        let mut opened = 0;
        for (number, image) in (0..).zip(disk.images(extent.seed, Tearing::SomeEdges)) {
            let is_drawn = image.killed || image.name == "none kept";
            if !is_drawn && !extent.draws(number, IMAGES_SHARE) {
                continue;
            }
            opened += 1;
            let found = look(image.platter).map_err(|error| format!("{}: {error}", image.name))?;
            let is_all = image.killed && pages == Pages::Wait;
            if !self.allows(&found, entered, is_all, is_done) {
                return Err(format!(
                    "{}: found is\n{found:?}\nknown is\n{:?}\nentered {entered:?}, faults {:?}, errors {:?}",
                    image.name,
                    self.fates,
                    self.disk.faulted(),
                    self.errors
                ));
            }
        }
        Ok(opened)
    }
}

fn is_poisoned((_, error): &(&str, Error)) -> bool {
    error.kind() == ErrorKind::Poisoned
}

/// What is on a disk.
fn look(platter: Platter) -> libmq::Result<Found> {
    let broker = Broker::open_on(SimDisk::new(platter).storage(), options())?;
    let mut found = Found::default();
    for letter in broker.dead_letters().list(None, usize::MAX, None)? {
        found.dead.push(name_of(letter.body()));
    }
    while let Some(delivery) = broker.receive("jobs", Duration::ZERO, None)? {
        found.parents.push(name_of(delivery.body()));
        delivery.ack()?;
    }
    while let Some(delivery) = broker.receive("mail", Duration::ZERO, None)? {
        found.children.push(name_of(delivery.body()));
        delivery.ack()?;
    }
    Ok(found)
}

/// The calls to the disk that are made when nothing fails.
fn calls() -> u64 {
    let disk = SimDisk::default();
    let mut life = Life::new(disk.clone());
    life.work();
    assert!(life.errors.is_empty(), "{:?}", life.errors);
    life.end().unwrap();
    disk.calls()
}

/// One fault; answers how many images were opened.
fn case(fault: Fault, extent: &Extent) -> Result<usize, String> {
    let pages = fault.way.pages;
    let disk = SimDisk::default();
    disk.set_pages(pages);
    disk.fail_at(fault.at, fault.way.code, fault.times);
    let mut life = Life::new(disk.clone());
    life.work();
    disk.note_marks();
    // In this order: what is gone from the disk has been entered before.
    let platter = disk.platter();
    let entered = life.entered.lock().unwrap().clone();
    let mut opened = life.images(&platter, &entered, pages, false, extent)?;
    life.judge(fault)?;
    disk.mend();
    life.end()?;
    let entered = life.entered.lock().unwrap().clone();
    opened += life.images(&disk.platter(), &entered, pages, true, extent)?;
    Ok(opened)
}

#[test]
fn handlers_on_a_failing_disk_lose_nothing_and_go_on() {
    let extent = Extent::of_environment();
    let calls = calls();
    let share = if extent.full { FULL_SHARE } else { SHARE };
    let (mut cases, mut images, mut problems) = (0, 0, Vec::new());
    for (_, fault) in faults(0..calls).filter(|(number, _)| extent.draws(*number, share)) {
        watch(&format!("handlers, {fault:?}"));
        cases += 1;
        match case(fault, &extent) {
            Ok(opened) => images += opened,
            Err(problem) => problems.push(format!("{fault:?}, seed {}: {problem}", extent.seed)),
        }
        if problems.len() > 7 {
            break;
        }
    }
    println!("handlers on a failing disk: {calls} calls, {cases} cases, {images} images");
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    floors::hold(floors::ERRORS_UNDER_HANDLERS, cases, &extent);
}
