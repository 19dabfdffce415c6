//! Every call to the disk fails once, and from there on for ever, with each of the errors that a disk has.
//!
//! Whatever fails, nothing panics, what was answered with `Ok` is there after the process has died and after the power
//! has failed, and what was answered with an error other than `POISONED` has changed nothing. A failed write or sync
//! inside a segment poisons the broker; a full disk is `STORAGE_FULL` and nothing worse, and over when there is room.
//!
//! After a sync that failed, a kernel may keep what it could not write and call it clean, or may have dropped it. Whoever
//! opens next finds what the disk holds, and nothing of that is lost in a power failure after it.
//!
//! So it is for the workloads, and for the last call of every sequence of up to three. Of short and interrupted calls the
//! journal never hears: for them see [`syscalls`](crate::syscalls).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use libmq::Durability::Sync;
use libmq::ErrorKind;
use libmq_suite::model::Model;
use libmq_suite::{Pages, SimDisk, Tearing, Times, new};

use crate::enumeration::watch;
use crate::extent::Extent;
use crate::faulty::Faulty;
use crate::floors;
use crate::sequences::{FIRST, Prepared, Sequence, sequences};
use crate::step::Step::{self, *};
use crate::step::steps::*;
use crate::verdict::{self, Opened, Then};
use crate::workloads::WORKLOADS;

/// A way to fail.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) code: i32,
    /// Of a sync: what becomes of what it should have written.
    pub(crate) pages: Pages,
}

const fn way(name: &'static str, code: i32, pages: Pages) -> Way {
    Way { name, code, pages }
}

/// What a disk answers: it is broken, after which the kernel does one of three things; it is full in one of three ways, or must
/// not be written; and the process has no more files.
const WAYS: [Way; 8] = [
    way("EIO", libc::EIO, Pages::Wait),
    way("EIO and pages kept", libc::EIO, Pages::Keep),
    way("EIO and pages dropped", libc::EIO, Pages::Drop),
    way("ENOSPC", libc::ENOSPC, Pages::Wait),
    way("EDQUOT", libc::EDQUOT, Pages::Wait),
    way("EFBIG", libc::EFBIG, Pages::Wait),
    way("EROFS", libc::EROFS, Pages::Wait),
    way("EMFILE", libc::EMFILE, Pages::Wait),
];
/// Those that say that there is no room.
const FULL: [i32; 3] = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG];

/// One of so many cases is in a share.
const SHARE: u64 = 24;
/// One of so many of the longest sequences is, of which then all cases are tried.
const SEQUENCES_SHARE: u64 = 300;
/// And one of so many where all is tried but this, which is as much again as all the rest.
const SEQUENCES_FULL_SHARE: u64 = 4;
/// Of the images that a case leaves, one of so many is opened, besides those of a killed process and of a disk that lost all
/// it could.
const IMAGES_SHARE: u64 = 16;

/// A workload that goes through all there is, with as few calls to the disk as that takes; every case of it is tried always.
fn briefly() -> Vec<Step> {
    vec![
        sync(new("jobs", "one")),
        os(new("jobs", "two").key("k")),
        receive("jobs"),
        os(new("jobs", &"three ".repeat(4000))),
        ack("one"),
        receive("jobs"),
        sync(new("jobs", "behind").key("k")),
        reject("two"),
        Snapshot,
        sync(new("mail", &"four ".repeat(5000))),
        receive("jobs"),
        retry("three", None),
        Replay("two"),
        os(new("jobs", &"five ".repeat(6000))),
        receive("mail"),
        ack("four"),
        Snapshot,
        sync(new("slow", "six")),
        receive("slow"),
        Die,
        Open,
        sync(new("slow", "seven")),
        receive("slow"),
        Close,
        Open,
        sync(new("mail", "eight")),
    ]
}

/// Some steps on some disk.
struct Subject<'a> {
    name: &'a str,
    disk: &'a dyn Fn() -> SimDisk,
    model: &'a Model,
    /// Steps that meet no fault, and those that do.
    before: &'a [Step],
    steps: &'a [Step],
}

/// What fails.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// The number of the call.
    pub(crate) at: u64,
    pub(crate) way: Way,
    pub(crate) times: Times,
}

impl Fault {
    /// Whether the disk is full from there on.
    pub(crate) fn is_full(self) -> bool {
        FULL.contains(&self.way.code) && self.times == Times::ForEver
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {}, {}, {:?}", self.at, self.way.name, self.times)
    }
}

/// Each call fails in each way, once and for ever; each with a number of its own.
pub(crate) fn faults(calls: Range<u64>) -> impl Iterator<Item = (u64, Fault)> {
    let ways = || {
        (0..)
            .zip(WAYS)
            .flat_map(|(number, way)| [(number, way, Times::Once), (number, way, Times::ForEver)])
    };
    calls.flat_map(move |at| {
        ways().map(move |(number, way, times)| {
            let number = (at << 8 | number << 1) + u64::from(times == Times::Once);
            (number, Fault { at, way, times })
        })
    })
}

/// What all cases came to.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    cases: usize,
    images: usize,
    answers: BTreeMap<(&'static str, &'static str), usize>,
}

impl Subject<'_> {
    /// The calls to the disk that the steps make when nothing fails: from which number on, and to which.
    fn calls(&self) -> (u64, u64) {
        let mut faulty = Faulty::new((self.disk)(), self.model.clone());
        let mut play = |steps: &[Step]| {
            steps.iter().for_each(|step| faulty.step(step).unwrap());
            assert!(faulty.errors.is_empty() && faulty.judge(true).is_ok(), "{:?}", faulty.errors);
            faulty.disk.calls()
        };
        let before = if self.before.is_empty() { 0 } else { play(self.before) };
        (before, play(self.steps))
    }

    /// Makes the steps with one fault, and judges what comes of it.
    fn case(&self, fault: Fault, extent: &Extent, tally: &mut Tally) -> Result<(), String> {
        let Fault { at, way: Way { code, pages, .. }, times } = fault;
        let disk = (self.disk)();
        disk.set_pages(pages);
        disk.fail_at(at, code, times);
        let mut faulty = Faulty::new(disk.clone(), self.model.clone());
        let _ = self.before.iter().chain(self.steps).try_for_each(|step| faulty.step(step));
        faulty.check_poison();
        disk.mend();
        let full = fault.is_full();
        faulty.judge(full)?;
        if full && faulty.broker.is_some() {
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
        if pages != Pages::Wait && !faulty.has_forgotten() {
            // No sync of a file was to fail, so this is a case that there was already.
            return Ok(());
        }
        tally.cases += 1;
        self.images(&faulty, pages, extent, tally)
    }

    /// Opens what the disk may hold in the end.
    fn images(
        &self,
        faulty: &Faulty,
        pages: Pages,
        extent: &Extent,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut seen = HashSet::new();
        for image in faulty.disk.platter().images(extent.seed, Tearing::SomeEdges) {
            let number = (tally.cases as u64) << 20 ^ seen.len() as u64;
            let is_drawn = image.killed || image.name == "none kept";
            if !seen.insert((image.platter.fingerprint(), image.killed))
                || !(is_drawn || extent.draws(number, IMAGES_SHARE))
            {
                continue;
            }
            tally.images += 1;
            let found = verdict::open(&image.platter, Then::Verify);
            let found = found.map_err(|error| format!("{}: {error}", image.name))?;
            let is_all_there = image.killed && pages == Pages::Wait;
            if !faulty.allows(&found.view, is_all_there) {
                return Err(format!(
                    "{}: found is\n{:?}\nlegal are\n{:?}\nfaults {:?}, errors {:?}",
                    image.name,
                    found.view,
                    faulty.legal(is_all_there),
                    faulty.disk.faulted(),
                    faulty.errors
                ));
            }
            if image.killed && pages != Pages::Wait {
                served_is_durable(&found, extent.seed, tally)
                    .map_err(|problem| format!("{}: {problem}", image.name))?;
            }
        }
        Ok(())
    }

    /// Makes each call fail with each error, or a share of them.
    fn cases(&self, extent: &Extent, share: u64, tally: &mut Tally) -> Vec<String> {
        let (begin, end) = self.calls();
        let mut problems = Vec::new();
        tally.calls += end - begin;
        for (_, fault) in faults(begin..end).filter(|(number, _)| extent.takes(*number, share)) {
            let label = format!("{}, {fault:?}", self.name);
            watch(&label);
            if let Err(problem) = self.case(fault, extent, tally) {
                problems.push(format!("{label}, seed {}: {problem}", extent.seed));
            }
            if problems.len() > 7 {
                break;
            }
        }
        problems
    }
}

/// What an opening has found is there after the power has failed.
fn served_is_durable(opened: &Opened, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut platter = opened.disk.began();
    opened.disk.trace()[..opened.opened_at].iter().for_each(|op| platter.apply(op));
    for image in platter.images(seed, Tearing::SomeEdges).iter().filter(|image| !image.killed) {
        tally.images += 1;
        let again = verdict::open(&image.platter, Then::Verify)
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

/// Takes a workload through every error.
fn fail(name: &str, steps: &[Step], share: u64, tally: &mut Tally) -> Vec<String> {
    let (disk, model) = (SimDisk::default, Model::default());
    let steps = [&[Open], steps].concat();
    let subject = Subject { name, disk: &disk, model: &model, before: &[], steps: &steps };
    subject.cases(&Extent::of_environment(), share, tally)
}

/// Panics with what was wrong.
fn tell(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn a_failing_disk_makes_no_crash_and_no_lie() {
    let mut tally = Tally::default();
    let problems = fail("briefly", &briefly(), 1, &mut tally);
    println!("errors: {tally:?}");
    tell(&problems);
    floors::hold(floors::ERRORS_BRIEFLY, tally.cases, &Extent::of_environment());
    for answer in [("enqueue", "POISONED"), ("enqueue", "STORAGE_FULL"), ("receive", "IO")] {
        assert!(tally.answers.contains_key(&answer), "{answer:?} never came");
    }
}

#[test]
fn a_failing_disk_makes_no_crash_and_no_lie_in_the_workloads() {
    let mut tally = Tally::default();
    let (mut workloads, mut problems) = (0, Vec::new());
    for workload in WORKLOADS {
        let steps = (workload.steps)();
        if steps.iter().all(Faulty::knows) {
            workloads += 1;
            problems.extend(fail(workload.name, &steps, SHARE, &mut tally));
        }
    }
    println!("errors in {workloads} workloads: {tally:?}");
    tell(&problems);
    floors::hold(floors::ERRORS_IN_WORKLOADS, tally.cases, &Extent::of_environment());
}

/// Takes the last call of each sequence of a part through every error.
fn fail_in_sequences(part: usize) {
    let extent = Extent::of_environment();
    let prepared = Prepared::new();
    let mut tally = Tally::default();
    let share = if extent.full { SEQUENCES_FULL_SHARE } else { SEQUENCES_SHARE };
    let all = sequences(&extent, part, share);
    let is_drawn = |(number, sequence): &(u64, Sequence)| {
        sequence.letters.len() > 2 || extent.takes(*number, SHARE)
    };
    let mut problems = Vec::new();
    for (_, sequence) in (0..).zip(all).filter(is_drawn) {
        problems.extend(last_call(&prepared, &sequence, &extent, &mut tally).unwrap_or_default());
        if problems.len() > 7 {
            break;
        }
    }
    println!("errors in part {part} of the sequences: {tally:?}");
    tell(&problems);
    floors::hold(floors::of_errors_in_sequences(part), tally.cases, &extent);
}

/// What is wrong in the last call of a sequence, whatever fails in it; none where it is no sequence.
fn last_call(
    prepared: &Prepared,
    sequence: &Sequence,
    extent: &Extent,
    tally: &mut Tally,
) -> Option<Vec<String>> {
    prepared.play(sequence)?;
    let (last, first) = sequence.letters.split_last()?;
    let mut before = vec![Open, FIRST];
    before.extend(first.iter().flat_map(|letter| letter.steps.clone()));
    let subject = Subject {
        name: &sequence.name,
        disk: &|| SimDisk::new(prepared.platter.clone()),
        model: &prepared.model,
        before: &before,
        steps: &last.steps,
    };
    Some(subject.cases(extent, 1, tally))
}

#[test]
fn a_failing_disk_makes_no_crash_and_no_lie_in_the_first_part_of_all_sequences() {
    fail_in_sequences(0);
}

#[test]
fn a_failing_disk_makes_no_crash_and_no_lie_in_the_second_part_of_all_sequences() {
    fail_in_sequences(1);
}

#[test]
fn a_failing_disk_makes_no_crash_and_no_lie_in_the_third_part_of_all_sequences() {
    fail_in_sequences(2);
}

#[test]
fn a_failing_disk_makes_no_crash_and_no_lie_in_the_fourth_part_of_all_sequences() {
    fail_in_sequences(3);
}
