//! All sequences of up to three calls on a broker that has a little of everything, each with the power cut at every boundary
//! of its last call.
//!
//! What a sequence begins with is what a process left that died: a dead letter, a key that is held and one that is guarded, a
//! group, a delayed message, a snapshot. A sequence one of whose calls has nothing to be about is left out: a shorter one is
//! the same. In the default run all sequences of two are tried, and a share of those of three.

use libmq::Durability::{Os, Sync};
use libmq_suite::model::Model;
use libmq_suite::{New, Platter, SimDisk, new};

use crate::enumeration::{Enumeration, Tally};
use crate::extent::Extent;
use crate::floors;
use crate::run::Run;
use crate::step::Step::{self, *};
use crate::step::steps::*;

/// Calls of a sequence at most.
const CALLS_MAX: usize = 3;
/// One of so many of the longest sequences is in a share.
const SHARE: u64 = 8;
/// Of so many images, recovery from one is cut as well where everything is tried.
const NESTED_SHARE: u64 = 600;
/// As many tests share the sequences, by their first calls.
const PARTS: usize = 4;

/// Calls that count as one, under a name.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    name: &'static str,
    pub(crate) steps: Vec<Step>,
}

/// The calls that sequences are made of.
fn alphabet() -> Vec<Letter> {
    let letter = |name, steps: &[Step]| Letter { name, steps: steps.to_vec() };
    let large = format!("large {}", "l".repeat(60_000));
    vec![
        letter("sync", &[sync(new("jobs", "synced").group("g"))]),
        letter("replace", &[os(new("jobs", "replaces").key("k"))]),
        letter("keep", &[sync(new("jobs", "stays out").key("k").keep())]),
        letter("guard", &[os(new("mail", "guarded").key("k").keep().window(20))]),
        letter("delay", &[os(new("mail", "delayed").delay(10).priority(3).expires(20))]),
        letter("large", &[os(new("slow", &large))]),
        letter(
            "batch",
            &[batch(Sync, [new("jobs", "both").group("g"), new("mail", "of").key("k")])],
        ),
        letter("receive", &[receive("jobs")]),
        letter("mail", &[receive("mail")]),
        letter("ack", &[ack("")]),
        letter("child", &[AckWith("", Os, new("mail", "child"))]),
        letter("retry", &[retry("", 10)]),
        letter("reject", &[reject("")]),
        letter("release", &[release("", 0)]),
        letter("cancel", &[Cancel("grouped")]),
        letter("purge", &[Purge("mail")]),
        letter("replay", &[Replay("dead")]),
        letter("forget", &[PurgeLetters("jobs")]),
        letter("advance", &[advance(10)]),
        letter("snapshot", &[Snapshot]),
        letter("close", &[Close, Open]),
        letter("die", &[Die, Open]),
    ]
}

/// What all sequences begin with.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) platter: Platter,
    pub(crate) model: Model,
}

impl Prepared {
    pub(crate) fn new() -> Self {
        let of_group = |body: &str| -> New { new("jobs", body).group("g") };
        let run = Run::of(&[
            os(new("jobs", "dead").key("k")),
            receive("jobs"),
            reject("dead"),
            sync(new("jobs", "keyed").key("k").priority(1)),
            batch(Os, [of_group("grouped"), of_group("behind")]),
            os(new("mail", "guards").key("k").window(30)),
            receive("mail"),
            ack("guards"),
            Snapshot,
            os(new("mail", "later").delay(10)),
            Die,
        ]);
        Self { platter: run.disk.platter(), model: run.model }
    }

    /// Makes the calls of a sequence; none where one of them has nothing to be about. Answers where the last one began.
    pub(crate) fn play(&self, sequence: &Sequence) -> Option<(Run, usize)> {
        let mut run = Run::start_on(SimDisk::new(self.platter.clone()), self.model.clone());
        run.step(&FIRST);
        let mut began = 0;
        for letter in &sequence.letters {
            began = run.disk.position();
            if !letter.steps.iter().all(|step| run.step(step)) {
                return None;
            }
        }
        Some((run, began))
    }
}

/// What a sequence finds done.
pub(crate) const FIRST: Step = Receive("jobs");

/// A sequence of calls, under the names of them.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) name: String,
    pub(crate) letters: Vec<Letter>,
}

/// All sequences of a part that this run tries.
pub(crate) fn sequences(extent: &Extent, part: usize, share: u64) -> Vec<Sequence> {
    let alphabet = alphabet();
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    let mut sequences = Vec::new();
    for length in 1..=CALLS_MAX {
        let longer = |sequence: &Vec<usize>| {
            let sequence = sequence.clone();
            (0..alphabet.len()).map(move |letter| [&*sequence, &[letter]].concat())
        };
        all = all.iter().flat_map(longer).collect();
        let is_mine = |sequence: &&Vec<usize>| sequence[0] % PARTS == part;
        for sequence in all.iter().filter(is_mine) {
            let number = sequence.iter().fold(1, |sum, letter| sum * 64 + *letter as u64);
            if length < CALLS_MAX || extent.only.is_some() || extent.draws(number, share) {
                let letters: Vec<Letter> =
                    sequence.iter().map(|letter| alphabet[*letter].clone()).collect();
                let names: Vec<_> = letters.iter().map(|letter| letter.name).collect();
                sequences.push(Sequence { name: names.join("."), letters });
            }
        }
    }
    sequences
}

fn enumerate(part: usize) {
    let extent = Extent::of_environment();
    let prepared = Prepared::new();
    let (mut tally, mut played) = (Tally::default(), 0);
    let nested_share = if extent.full { NESTED_SHARE } else { 0 };
    let share = if extent.full { 1 } else { SHARE };
    for sequence in sequences(&extent, part, share) {
        if !extent.has(&sequence.name) {
            continue;
        }
        let Some((run, began)) = prepared.play(&sequence) else { continue };
        played += 1;
        crate::order::check(&run);
        let mut enumeration = Enumeration::new(&sequence.name, &run, &extent, nested_share);
        enumeration.boundaries(began + 1..=run.disk.position());
        enumeration.end(&mut tally);
    }
    println!("part {part} of the sequences: {played} of up to {CALLS_MAX} calls, {tally}");
    if extent.only.is_none() {
        floors::hold(floors::of_sequences(part), tally.opened(), &extent);
    }
}

#[test]
fn after_a_crash_every_image_of_the_last_call_recovers_in_the_first_part_of_all_sequences() {
    enumerate(0);
}

#[test]
fn after_a_crash_every_image_of_the_last_call_recovers_in_the_second_part_of_all_sequences() {
    enumerate(1);
}

#[test]
fn after_a_crash_every_image_of_the_last_call_recovers_in_the_third_part_of_all_sequences() {
    enumerate(2);
}

#[test]
fn after_a_crash_every_image_of_the_last_call_recovers_in_the_fourth_part_of_all_sequences() {
    enumerate(3);
}
