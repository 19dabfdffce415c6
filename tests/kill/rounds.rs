//! The rounds: start, let work, kill, and again; then drain and judge.

use std::path::Path;
use std::time::Duration;

use crate::point::{Met, Point};
use crate::process::Program;
use crate::random::Random;
use crate::run::Run;
use crate::verdict::Report;

/// From when a worker is busy to its death, in microseconds.
const LIFE: std::ops::Range<u64> = 1_000..40_000;

/// From a worker's start to its death where it is killed while it opens, in microseconds.
const YOUTH: u64 = 8_000;

/// Of a hundred rounds, those that end at a named point.
const NAMED: u64 = 40;

/// With so many rounds, every point was met.
const ROUNDS_OF_ALL_POINTS: u64 = 100;

/// Behind so many everything is drained and judged, and it is told how many there were: dead letters, and what kills left
/// open, make each round longer than the last.
const ACCOUNT: u64 = 500;

/// Starts that a run may need for each round that counts.
const STARTS_MAX: u64 = 5;

/// Runs so many rounds that count in a directory that does not exist yet, and judges them.
///
/// # Panics
/// With everything that is known, where a promise was broken. The directory and the transcript stay.
pub fn run(program: &Program, directory: &Path, seed: u64, rounds: u64) -> Report {
    let mut run = Run::new(program, directory, seed);
    let mut random = Random::new(seed);
    let (mut counted, mut other, mut met) = (0, 0, Met::default());
    let mut report = Report::default();
    let mut untold = false;
    while counted < rounds {
        let starts = run.starts();
        assert!(starts < rounds * STARTS_MAX + 20, "{counted} rounds of {starts} count");
        if random.percent(12) {
            run.kill_young(Duration::from_micros(random.below(YOUTH)));
            other += 1;
        }
        let counts = if random.percent(NAMED) {
            // One that no kill fell at yet, if there is one: so that none is left out by chance.
            let mut wanted = met.missing();
            wanted.retain(|point| !(untold && *point == Point::Syncing));
            let point = match wanted[..] {
                [] => Point::any(&mut random),
                _ => wanted[usize::try_from(random.below(wanted.len() as u64)).unwrap()],
            };
            match run.round_to(point, point.passed(&mut random)) {
                Some(is_met) => {
                    if is_met {
                        met.note(point);
                    }
                    is_met
                }
                None => {
                    untold = true;
                    false
                }
            }
        } else {
            let life = LIFE.start + random.below(LIFE.end - LIFE.start);
            run.round(Duration::from_micros(life))
        };
        if counts {
            counted += 1;
            if counted % ACCOUNT == 0 || counted == rounds {
                report.add(&run.settle_accounts());
                println!("{}: {counted} of {rounds} rounds", program.language);
            }
        } else {
            other += 1;
        }
    }
    let mut missing = met.missing();
    missing.retain(|point| !(untold && *point == Point::Syncing));
    assert!(
        rounds < ROUNDS_OF_ALL_POINTS || missing.is_empty(),
        "no kill fell at {missing:?}: {met}"
    );
    Report { rounds: counted, named: met, uncounted: other, ..report }
}
