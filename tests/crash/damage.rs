//! Damage at rest: bits flip, files are cut, sectors and whole files are lost, in directories small enough for all of it.
//!
//! A directory that was closed is refused, or has exactly what it had. One that a crash left may also have lost the end
//! of its log, as a torn write would, but nothing that some other part of it says was durable. Nobody panics, and what
//! is refused is left alone. Verifying says the same, of everything at once. Contents from before the newest snapshot are not read at open: damage there is refused by
//! whatever call reads them.
//!
//! `LIBMQ_CRASH=full` tries every bit, every length and every sector.

use std::collections::BTreeSet;
use std::ops::Range;

use libmq::ErrorKind;
use libmq_suite::{Op, Platter, Rng, SimDisk};

use crate::extent::Extent;
use crate::run::Run;
use crate::verdict;
use crate::view::View;
use crate::workloads;

const SECTOR_BYTES: usize = 512;
/// Cases of a kind and a file in the default run.
const SAMPLE: u64 = 3000;

/// What a file has lost.
#[derive(Clone, Debug)]
enum Damage {
    /// All of it, its name too.
    Missing,
    Flip(usize),
    Cut(usize),
    Zeros(usize),
    Garbage(usize),
    /// Two sectors stand in each other's place.
    Swapped(usize, usize),
    /// The first sector stands in the second one's place too.
    Doubled(usize, usize),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, seed: u64) {
        let sector = |bytes: &mut Vec<u8>, at: usize| {
            at.min(bytes.len())..bytes.len().min(at + SECTOR_BYTES)
        };
        match *self {
            Self::Missing => {}
            Self::Flip(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
            Self::Cut(length) => bytes.truncate(length),
            Self::Zeros(at) => {
                let range = sector(bytes, at);
                bytes[range].fill(0);
            }
            Self::Garbage(at) => {
                let range = sector(bytes, at);
                let garbage = Rng::new(seed ^ at as u64).bytes(range.len());
                bytes[range].copy_from_slice(&garbage);
            }
            Self::Swapped(first, second) => {
                let end = bytes.len();
                let (head, tail) = bytes.split_at_mut(second.min(end));
                let length = tail.len().min(SECTOR_BYTES);
                head[first..first + length].swap_with_slice(&mut tail[..length]);
            }
            Self::Doubled(from, to) => {
                let length = bytes.len().saturating_sub(from.max(to)).min(SECTOR_BYTES);
                if length > 0 {
                    bytes.copy_within(from..from + length, to);
                }
            }
        }
    }

    /// Which bytes it concerns: one range of them, or two.
    fn ranges(&self) -> [Range<usize>; 2] {
        let sector = |at: usize| at..at + SECTOR_BYTES;
        let one = |range: Range<usize>| [range.clone(), range];
        match *self {
            Self::Missing => one(0..usize::MAX),
            Self::Flip(bit) => one(bit / 8..bit / 8 + 1),
            Self::Cut(length) => one(length..usize::MAX),
            Self::Zeros(at) | Self::Garbage(at) | Self::Doubled(_, at) => one(sector(at)),
            Self::Swapped(first, second) => [sector(first), sector(second)],
        }
    }
}

/// Everything that can be done to a file that has so many bytes which are not zeros at its end, kind by kind.
fn all_damage(used: usize) -> Vec<Vec<Damage>> {
    // One sector of what was never written is enough.
    let reach = used + SECTOR_BYTES;
    let sectors = || (0..reach).step_by(SECTOR_BYTES);
    let pairs = || sectors().flat_map(move |a| sectors().map(move |b| (a, b)));
    let swapped = pairs().filter(|(a, b)| a < b).map(|(a, b)| Damage::Swapped(a, b));
    let doubled = pairs().filter(|(a, b)| a != b).map(|(a, b)| Damage::Doubled(a, b));
    vec![
        vec![Damage::Missing],
        (0..used * 8).map(Damage::Flip).collect(),
        (0..reach).map(Damage::Cut).collect(),
        sectors().map(Damage::Zeros).collect(),
        sectors().map(Damage::Garbage).collect(),
        swapped.collect(),
        doubled.collect(),
    ]
}

/// A place that says that the log was durable up to a position.
#[derive(Debug)]
struct Mark {
    file: String,
    range: Range<usize>,
    durable: u64,
}

/// A directory that is damaged.
struct Directory {
    name: &'static str,
    closed: bool,
    platter: Platter,
    files: Vec<(String, Vec<u8>)>,
    marks: Vec<Mark>,
    /// Before this position nothing is read until somebody asks for it.
    snapshot_begin: u64,
    /// The legal states, and where in the log each is complete.
    states: Vec<(View, u64)>,
}

impl Directory {
    fn new(name: &'static str, run: &Run, platter: Platter, closed: bool) -> Self {
        let files = platter.contents();
        let marks = files.iter().flat_map(|(file, bytes)| marks(file, bytes)).collect();
        let is_snapshot = |(file, _): &&(String, Vec<u8>)| file.ends_with(".snapshot");
        let snapshots = files.iter().filter(is_snapshot).map(|(_, bytes)| field(bytes, 32));
        let snapshot_begin = snapshots.max().unwrap_or(0);
        let end = |state: usize| {
            let call = run.calls.iter().find(|call| call.state >= state);
            call.map_or(u64::MAX, |call| call.log_end)
        };
        let states = run.states.iter().enumerate();
        // The marks of what was being handled are no part of the directory here.
        let unmarked = |model| View::expected(model, &BTreeSet::new());
        let states = states.map(|(number, model)| (unmarked(model), end(number))).collect();
        Self { name, closed, platter, files, marks, snapshot_begin, states }
    }

    /// The first state that may be found after this damage.
    fn first_legal(&self, file: &str, damage: &Damage) -> usize {
        let last = self.states.len() - 1;
        let is_told = match damage {
            Damage::Missing => self.is_named(file),
            _ => self.closed,
        };
        if is_told {
            return last;
        }
        let hits = damage.ranges();
        let misses = |range: &Range<usize>, hit: &Range<usize>| {
            range.end <= hit.start || hit.end <= range.start
        };
        let intact =
            |mark: &&Mark| mark.file != file || hits.iter().all(|hit| misses(&mark.range, hit));
        let durable = self.marks.iter().filter(intact).map(|mark| mark.durable).max().unwrap_or(0);
        self.states.iter().rposition(|(_, end)| *end <= durable).unwrap_or(0)
    }

    /// Whether others tell that a file is there: a segment that names it as the one before, or one whose log goes on in it.
    /// Of the last opening's only segment nothing tells; a snapshot has nothing that is not in the log, if that is whole.
    fn is_named(&self, file: &str) -> bool {
        let segments = || self.files.iter().filter(|(name, _)| name.ends_with(".segment"));
        let Some((_, bytes)) = segments().find(|(name, _)| name == file) else { return true };
        let (number, previous) = (field(bytes, 32), field(bytes, 64));
        segments().any(|(_, other)| {
            field(other, 64) == number || field(other, 32) == previous && rolls(other)
        })
    }

    /// Whether the damage is to contents that recovery leaves to whoever asks for them.
    fn is_read_late(&self, file: &str, damage: &Damage) -> bool {
        let start =
            self.files.iter().find(|(name, _)| name == file).map(|(_, bytes)| field(bytes, 40));
        let offset = self.snapshot_begin.checked_sub(start.unwrap_or(0));
        file.ends_with(".segment")
            && offset.is_some_and(|begin| {
                damage.ranges().iter().any(|range| (range.start as u64) < begin)
            })
    }

    /// Why the outcome of this damage is not legal, if it is not.
    fn judge(&self, file: &str, damage: &Damage, seed: u64) -> Option<String> {
        let platter = match damage {
            Damage::Missing => self.platter.without(file),
            _ => self.platter.damaged(file, |bytes| damage.apply(bytes, seed)),
        };
        let disk = SimDisk::new(platter.clone());
        let looked = verdict::look(&disk);
        let says = verified(platter, &looked, disk.is_changed());
        if says.is_some() {
            return says;
        }
        match looked {
            Err(panic) => Some(panic),
            Ok(Err(error)) => {
                let refused = [ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::Invalid]
                    .contains(&error.kind());
                let late = disk.is_changed() && !self.is_read_late(file, damage);
                (!refused || late).then(|| format!("refused, late {late}: {error}"))
            }
            Ok(Ok(view)) => {
                let first = self.first_legal(file, damage);
                let legal = self.states[first..].iter().any(|(legal, _)| *legal == view);
                let found = self.states.iter().rposition(|(state, _)| *state == view);
                let last = self.states.len() - 1;
                (!legal).then(|| format!("opened as state {found:?}, legal are {first} to {last}"))
            }
        }
    }

    /// Tries all damage, or a sample of it; answers how much that was.
    fn damage(&self, extent: &Extent) -> usize {
        let mut cases = 0;
        let mut problems = Vec::new();
        for (file, bytes) in &self.files {
            let mut rng = Rng::new(extent.seed);
            for kind in all_damage(bytes.len()) {
                let share = if extent.full { 1 } else { (kind.len() as u64).div_ceil(SAMPLE) };
                for damage in kind.into_iter().filter(|_| rng.below(share) == 0) {
                    cases += 1;
                    if let Some(problem) = self.judge(file, &damage, extent.seed) {
                        problems.push(format!("{} {file} {damage:?}: {problem}", self.name));
                    }
                }
            }
        }
        println!("{}: {cases} cases of damage in {} files", self.name, self.files.len());
        problems.truncate(20);
        assert!(problems.is_empty(), "seed {}\n{}", extent.seed, problems.join("\n"));
        cases
    }
}

/// Why verifying a disk does not say what came of opening it and looking at everything, if it does not.
pub(crate) fn verified(
    platter: Platter,
    looked: &Result<libmq::Result<View>, String>,
    late: bool,
) -> Option<String> {
    let disk = SimDisk::new(platter);
    let report = std::panic::catch_unwind(|| libmq::verify_on(&disk));
    let Ok(report) = report else { return Some("verify panicked".into()) };
    if disk.position() > 0 {
        return Some("verify has changed the disk".into());
    }
    let agrees = match (&report, looked) {
        (Ok(report), Ok(Ok(_))) => report.sound(),
        (Ok(report), Ok(Err(error))) => {
            let first = report.problems.first();
            first.is_some_and(|first| late || first.text == error.to_string())
        }
        (Err(told), Ok(Err(error))) => told.to_string() == error.to_string(),
        _ => false,
    };
    (!agrees).then(|| format!("verify says {report:?}, and looking came to {looked:?}"))
}

fn field(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// What a file says about what is durable: a snapshot its end, a segment where the log before it ends, a record its
/// durable-up-to.
fn marks(file: &str, bytes: &[u8]) -> Vec<Mark> {
    const SEGMENT_HEADER_BYTES: usize = 4096;
    const RECORD_HEADER_BYTES: usize = 32;
    let mark = |range, durable| Mark { file: file.to_owned(), range, durable };
    if file.ends_with(".snapshot") {
        return vec![mark(0..64, field(bytes, 40))];
    }
    let mut marks = vec![mark(0..84, field(bytes, 72))];
    let start = field(bytes, 40);
    let mut at = SEGMENT_HEADER_BYTES;
    while at + RECORD_HEADER_BYTES <= bytes.len() && field(bytes, at + 8) == start + at as u64 {
        marks.push(mark(at..at + RECORD_HEADER_BYTES, field(bytes, at + 16)));
        let length = (field(bytes, at) & u64::from(u32::MAX)) as usize;
        at = (at + RECORD_HEADER_BYTES + length).next_multiple_of(8);
    }
    marks
}

/// Whether the last record of a segment says that the log goes on in the next one.
fn rolls(bytes: &[u8]) -> bool {
    const KIND_ROLL: u8 = 1;
    let last = marks("", bytes).pop().map(|mark| mark.range.start);
    last.is_some_and(|at| at > 0 && bytes[at + 4] == KIND_ROLL)
}

fn damage(name: &'static str, run: &Run, closed: bool) {
    damage_to(name, run, run.disk.platter(), closed);
}

fn damage_to(name: &'static str, run: &Run, platter: Platter, closed: bool) {
    let directory = Directory::new(name, run, platter, closed);
    assert!(directory.marks.len() > 10, "{:?}", directory.marks);
    let whole = SimDisk::new(directory.platter.clone());
    assert_eq!(verdict::look(&whole).unwrap().unwrap(), directory.states.last().unwrap().0);
    let cases = directory.damage(&Extent::of_environment());
    assert!(cases > 1000);
}

#[test]
fn damage_in_a_small_directory_that_a_crash_left_loses_nothing_durable() {
    let mut run = workloads::small();
    run.die();
    damage("small and crashed", &run, false);
}

#[test]
fn damage_in_a_small_directory_that_was_closed_and_no_crash_left_is_harmless_or_refused() {
    let mut run = workloads::small();
    run.close();
    damage("small and closed", &run, true);
}

#[test]
fn damage_in_a_directory_of_many_openings_that_a_crash_left_loses_nothing_durable() {
    damage("dying", &workloads::named("dying"), false);
}

#[test]
fn damage_in_a_directory_of_many_segments_that_no_crash_left_is_harmless_or_refused() {
    damage("rolling", &workloads::named("rolling"), true);
}

/// Whoever opens a directory cuts the file in which the log ended before. A power failure soon after may take that back.
#[test]
fn damage_in_a_directory_that_was_closed_and_opened_again_loses_nothing_durable() {
    let run = workloads::reopened();
    let mut uncut = run.disk.began();
    for op in run.disk.trace().iter().filter(|op| !matches!(op, Op::Truncate { .. })) {
        uncut.apply(op);
    }
    damage_to("reopened", &run, uncut, false);
}
