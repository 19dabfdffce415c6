//! A run under way: a directory, the workers that are started there one after the other, and what the ledger says of them.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libmq::{Broker, Options};

use crate::ledger::Ledger;
use crate::point::{Lookout, Point, calls_are_told};
use crate::process::{Heard, Program, SIGKILL, SILENCE_MAX, Transcript, Worker};
use crate::protocol::Line;
use crate::verdict::{Report, judge};

/// How long a drain may take.
const DRAIN_MAX: Duration = Duration::from_secs(400);

/// A seed of the run takes so many values, times so many starts: the numbers made of them stay below 2^53, which every
/// language can count to.
const SEEDS: u64 = 5_000;
const STARTS: u64 = 100_000;

/// How long a worker may take to come to one.
const POINT_MAX: Duration = Duration::from_secs(3);

/// A run under way.
pub struct Run<'a> {
    program: &'a Program,
    beside: PathBuf,
    directory: PathBuf,
    seed: u64,
    starts: u64,
    ledger: Ledger,
    transcript: Transcript,
}

impl<'a> Run<'a> {
    /// In a directory that does not exist yet.
    pub fn new(program: &'a Program, directory: &Path, seed: u64) -> Self {
        Self::beside(directory, program, directory, seed)
    }

    /// The same; what is noted lies beside another path.
    pub fn beside(beside: &Path, program: &'a Program, directory: &Path, seed: u64) -> Self {
        let (ledger, transcript) = (Ledger::default(), Transcript::beside(beside));
        let (beside, directory, seed) = (beside.to_owned(), directory.to_owned(), seed % SEEDS);
        Self { program, beside, directory, seed, starts: 0, ledger, transcript }
    }

    /// How many workers were started.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Has workers of another language go on.
    pub fn go_on_in(&mut self, program: &'a Program) {
        self.program = program;
    }

    /// Drains the directory, judges the ledger, and begins a new one with what must stay known.
    pub fn settle_accounts(&mut self) -> Report {
        self.drain();
        let report = match judge(&self.ledger) {
            Ok(report) => report,
            Err(why) => self.fail(&why, ""),
        };
        self.ledger = self.ledger.next();
        self.transcript = Transcript::beside(&self.beside);
        report
    }

    fn start(&mut self, mode: &[&str]) -> Worker {
        self.starts += 1;
        assert!(self.starts < STARTS);
        self.ledger.started();
        let seed = self.seed * STARTS + self.starts;
        self.transcript.note(&format!("== start {}, seed {seed} {mode:?}", self.starts));
        Worker::start_beside(&self.beside, self.program, &self.directory, seed, mode)
    }

    /// A worker that is killed while it opens.
    pub fn kill_young(&mut self, age: Duration) {
        let mut worker = self.start(&[]);
        std::thread::sleep(age);
        self.kill(&mut worker);
    }

    /// A worker that is killed while it is busy; answers whether the round counts.
    pub fn round(&mut self, life: Duration) -> bool {
        let mut worker = self.start(&[]);
        while self.ledger.busy() != (true, true) {
            self.hear(&mut worker, Instant::now() + SILENCE_MAX);
        }
        self.live(&mut worker, life);
        self.kill(&mut worker)
    }

    /// A worker that is killed after so long.
    pub fn life(&mut self, life: Duration) {
        let mut worker = self.start(&[]);
        self.live(&mut worker, life);
        self.kill(&mut worker);
    }

    /// A worker that has trouble before it is killed: `trouble` is told its id, and how it is heard for so long. Where the
    /// trouble kills it, that is as good.
    pub fn troubled_life(&mut self, trouble: impl FnOnce(u32, &mut dyn FnMut(Duration))) {
        let mut worker = self.start(&["troubled"]);
        let id = worker.id();
        trouble(id, &mut |time| self.live(&mut worker, time));
        self.put_to_death(&mut worker, &[SIGKILL, libc::SIGXFSZ]);
    }

    /// Hears a worker for so long, and no longer though there be more to hear.
    fn live(&mut self, worker: &mut Worker, life: Duration) {
        let end = Instant::now() + life;
        while Instant::now() < end && self.next(worker, end) {}
    }

    /// A worker that is killed at a named point, as far as that can be seen here; answers whether it came there.
    pub fn round_to(&mut self, point: Point, passes: u64) -> Option<bool> {
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
        self.put_to_death(worker, &[SIGKILL])
    }

    /// The same, where it may have died before, of one of these signals.
    fn put_to_death(&mut self, worker: &mut Worker, signals: &[i32]) -> bool {
        let end = worker.kill();
        while self.next(worker, Instant::now() + SILENCE_MAX) {}
        let busy = self.ledger.busy();
        self.transcript.note(&format!("== killed, {busy:?}"));
        if !end.signal().is_some_and(|signal| signals.contains(&signal)) {
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
        broker.dead_letters().purge(None).unwrap();
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
            "{} worker, start {} of seed {}: {why}\n{about}\n{stacks}\nthe directory is {}, every line since the last account is in {}",
            self.program.language,
            self.starts,
            self.seed,
            self.directory.display(),
            self.transcript.path.display(),
        );
    }
}
