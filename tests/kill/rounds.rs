//! The rounds: start, let work, kill, and again; then drain and judge.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libmq::{Broker, Options};

use crate::ledger::Ledger;
use crate::point::{Lookout, Met, Point, calls_are_told};
use crate::process::{Heard, Program, SIGKILL, SILENCE_MAX, Transcript, Worker};
use crate::protocol::Line;
use crate::random::Random;
use crate::verdict::{Report, judge};

/// From when a worker is busy to its death, in microseconds.
const LIFE: std::ops::Range<u64> = 1_000..40_000;

/// From a worker's start to its death where it is killed while it opens, in microseconds.
const YOUTH: u64 = 8_000;

/// Of a hundred rounds, those that end at a named point.
const NAMED: u64 = 40;

/// How long a worker may take to come to one.
const POINT_MAX: Duration = Duration::from_secs(3);

/// With so many rounds, every point was met.
const ROUNDS_OF_ALL_POINTS: u64 = 100;

/// Starts that a run may need for each round that counts.
const STARTS_MAX: u64 = 5;

/// How long a drain may take.
const DRAIN_MAX: Duration = Duration::from_secs(400);

/// A seed of the run takes so many values, times so many starts: the numbers made of them stay below 2^53, which every
/// language can count to.
const SEEDS: u64 = 5_000;
const STARTS: u64 = 100_000;

/// A run under way.
struct Run<'a> {
    program: &'a Program,
    directory: PathBuf,
    seed: u64,
    starts: u64,
    ledger: Ledger,
    transcript: Transcript,
}

/// Runs so many rounds that count in a directory that does not exist yet, and judges them.
///
/// # Panics
/// With everything that is known, where a promise was broken. The directory and the transcript stay.
pub fn run(program: &Program, directory: &Path, seed: u64, rounds: u64) -> Report {
    let transcript = Transcript::beside(directory);
    let directory = directory.to_owned();
    let ledger = Ledger::default();
    let mut run = Run { program, directory, seed: seed % SEEDS, starts: 0, ledger, transcript };
    let mut random = Random::new(seed);
    let (mut counted, mut other, mut met) = (0, 0, Met::default());
    let mut untold = false;
    while counted < rounds {
        assert!(run.starts < rounds * STARTS_MAX + 20, "{counted} rounds of {} count", run.starts);
        if random.percent(12) {
            run.kill_young(Duration::from_micros(random.below(YOUTH)));
            other += 1;
        }
        let counts = if random.percent(NAMED) {
            let point = Point::any(&mut random);
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
        } else {
            other += 1;
        }
    }
    run.drain();
    let mut missing = met.missing();
    missing.retain(|point| !(untold && *point == Point::Syncing));
    assert!(
        rounds < ROUNDS_OF_ALL_POINTS || missing.is_empty(),
        "no kill fell at {missing:?}: {met}"
    );
    match judge(&run.ledger) {
        Ok(report) => Report { rounds: counted, named: met, uncounted: other, ..report },
        Err(why) => run.fail(&why, ""),
    }
}

impl Run<'_> {
    fn start(&mut self, mode: &[&str]) -> Worker {
        self.starts += 1;
        assert!(self.starts < STARTS);
        self.ledger.started();
        let seed = self.seed * STARTS + self.starts;
        self.transcript.note(&format!("== start {}, seed {seed} {mode:?}", self.starts));
        Worker::start(self.program, &self.directory, seed, mode)
    }

    /// A worker that is killed while it opens.
    fn kill_young(&mut self, age: Duration) {
        let mut worker = self.start(&[]);
        std::thread::sleep(age);
        self.kill(&mut worker);
    }

    /// A worker that is killed while it is busy; answers whether the round counts.
    fn round(&mut self, life: Duration) -> bool {
        let mut worker = self.start(&[]);
        while self.ledger.busy() != (true, true) {
            self.hear(&mut worker, Instant::now() + SILENCE_MAX);
        }
        let end = Instant::now() + life;
        while self.next(&mut worker, end) {}
        self.kill(&mut worker)
    }

    /// A worker that is killed at a named point, as far as that can be seen here; answers whether it came there.
    fn round_to(&mut self, point: Point, passes: u64) -> Option<bool> {
        std::fs::create_dir_all(&self.directory).unwrap();
        let mut lookout = Lookout::new(&self.directory);
        let mut worker = self.start(&[]);
        let is_told = point != Point::Syncing || calls_are_told(worker.id());
        let is_met =
            is_told && lookout.wait(point, passes, worker.id(), Instant::now() + POINT_MAX);
        self.transcript.note(&format!("== at {point:?} after {passes}: {is_met}"));
        self.kill(&mut worker);
        is_told.then_some(is_met)
    }

    /// Kills a worker and hears what it had said; answers whether an enqueue and a handler were under way.
    fn kill(&mut self, worker: &mut Worker) -> bool {
        let end = worker.kill();
        while self.next(worker, Instant::now() + SILENCE_MAX) {}
        let busy = self.ledger.busy();
        self.transcript.note(&format!("== killed, {busy:?}"));
        if end.signal() != Some(SIGKILL) {
            let errors = worker.stacks();
            self.fail(&format!("the worker was to be killed, and ended by itself: {end}"), &errors);
        }
        if let Err(why) = self.ledger.died() {
            self.fail(&why, "");
        }
        busy == (true, true)
    }

    /// A worker that handles everything that is left, and closes.
    fn drain(&mut self) {
        let mut worker = self.start(&["drain"]);
        let end = Instant::now() + DRAIN_MAX;
        while self.hear(&mut worker, end.min(Instant::now() + SILENCE_MAX)) != Some(Line::Drained) {
        }
        let end = worker.end();
        if !end.success() {
            let stacks = worker.stacks();
            self.fail(&format!("the worker drained, and ended so: {end}"), &stacks);
        }
        if let Err(why) = self.ledger.ended() {
            self.fail(&why, "");
        }
        self.look_again();
    }

    /// The directory itself says the same as the worker did.
    fn look_again(&mut self) {
        let broker = match Broker::open(&self.directory, Options::new().segment_bytes(64 << 10)) {
            Ok(broker) => broker,
            Err(error) => self.fail(&format!("the drained directory does not open: {error}"), ""),
        };
        let found = *broker.recovery();
        let letters = broker.dead_letters().list(None, usize::MAX, None).unwrap();
        let is_told = letters.len() == self.ledger.letters.len();
        if (found.messages, found.suspects, found.dropped_bytes) != (0, 0, 0) || !is_told {
            self.fail(&format!("the drained directory holds {found:?}, and {letters:?}"), "");
        }
        broker.close(Duration::from_secs(5)).unwrap();
    }

    /// Hears a line of a worker that must say one until `end`.
    fn hear(&mut self, worker: &mut Worker, end: Instant) -> Option<Line> {
        match worker.hear(end) {
            Heard::Line(text) => Some(self.apply(&text)),
            Heard::Nothing => {
                let stacks = worker.stacks();
                worker.kill();
                self.fail("the worker hangs", &stacks);
            }
            Heard::End => {
                let end = worker.end();
                let errors = worker.stacks();
                self.fail(&format!("the worker ended by itself: {end}"), &errors);
            }
        }
    }

    /// Hears a line, if one comes until `end`; answers whether there may be another one.
    fn next(&mut self, worker: &mut Worker, end: Instant) -> bool {
        match worker.hear(end) {
            Heard::Line(text) => {
                self.apply(&text);
                true
            }
            Heard::Nothing | Heard::End => false,
        }
    }

    fn apply(&mut self, text: &str) -> Line {
        self.transcript.note(text);
        let Some(line) = Line::parse(text) else {
            self.fail(&format!("the worker says what is no line: {text:?}"), "");
        };
        if let Err(why) = self.ledger.line(line.clone()) {
            self.fail(&format!("{why}\nat: {text}"), "");
        }
        line
    }

    fn fail(&mut self, why: &str, stacks: &str) -> ! {
        let words: Vec<&str> = why.split(|char: char| !char.is_ascii_alphanumeric()).collect();
        let words: Vec<&str> = words
            .into_iter()
            .filter(|word| word.starts_with(|char: char| char.is_ascii_digit()))
            .collect();
        let about = self.transcript.about(&words);
        panic!(
            "{} worker, start {} of seed {}: {why}\n{about}\n{stacks}\nthe directory is {}, every line is in {}",
            self.program.language,
            self.starts,
            self.seed,
            self.directory.display(),
            self.transcript.path.display(),
        );
    }
}
