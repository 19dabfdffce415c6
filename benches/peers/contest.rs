//! A contest: several ways to do the same work, run in turns, and what libmq has promised to reach in it.
//!
//! Rates on one machine drift by a factor of two within minutes, so a single figure says little. Each round runs all
//! contenders of a contest one after another, in an order that rotates, and compares them within the round; what is
//! reported is the median over the rounds of figures and of ratios.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Why a run could not be made.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What a run answers: a figure in the contest's unit.
pub(crate) type Figure = Result<f64, Failure>;

type Run<'a> = Box<dyn FnMut(&Path) -> Figure + 'a>;

/// What the figures of a contest are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Messages a second: more is better.
    Rate,
    /// Megabytes of memory: less is better.
    Megabytes,
}

/// What has been promised of libmq's own figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    None,
    AtLeast(f64),
    LessThan(f64),
}

/// One way to do the work, with the figures it reached.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    /// How many times this one's rate libmq has promised.
    pub(crate) promised: Option<f64>,
    pub(crate) figures: Vec<f64>,
    run: Run<'a>,
}

/// Several ways to do the same work. The first is libmq.
pub(crate) struct Contest<'a> {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) goal: Goal,
    pub(crate) contenders: Vec<Contender<'a>>,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(name: &'static str, unit: Unit, goal: Goal) -> Self {
        Self { name, unit, goal, contenders: Vec::new() }
    }

    /// Adds libmq, or a peer that nothing was promised against.
    pub(crate) fn with(self, name: &'static str, run: impl FnMut(&Path) -> Figure + 'a) -> Self {
        self.add(name, None, run)
    }

    /// Adds a peer of which libmq has promised to reach `times` the rate.
    pub(crate) fn against(
        self,
        name: &'static str,
        times: f64,
        run: impl FnMut(&Path) -> Figure + 'a,
    ) -> Self {
        self.add(name, Some(times), run)
    }

    fn add(
        mut self,
        name: &'static str,
        promised: Option<f64>,
        run: impl FnMut(&Path) -> Figure + 'a,
    ) -> Self {
        self.contenders.push(Contender { name, promised, figures: Vec::new(), run: Box::new(run) });
        self
    }

    /// Runs each contender once, each in an empty directory of its own.
    pub(crate) fn run(&mut self, round: usize, scratch: &Path) -> Result<(), Failure> {
        let count = self.contenders.len();
        for turn in 0..count {
            let Some(contender) = self.contenders.get_mut((turn + round) % count) else { continue };
            clear(scratch)?;
            let figure = (contender.run)(scratch)
                .map_err(|error| format!("{}, {}: {error}", self.name, contender.name))?;
            contender.figures.push(figure);
        }
        clear(scratch)
    }

    /// The median over the rounds of libmq's figure over this contender's.
    pub(crate) fn ratio(&self, contender: &Contender<'_>) -> f64 {
        let own = self.contenders.first().map_or(&[] as &[f64], |libmq| &libmq.figures);
        median(own.iter().zip(&contender.figures).map(|(own, other)| own / other))
    }
}

impl Contender<'_> {
    pub(crate) fn median(&self) -> f64 {
        median(self.figures.iter().copied())
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => f64::NAN,
        Some(high) if values.len() % 2 == 1 => *high,
        Some(high) => values.get(middle - 1).map_or(*high, |low| f64::midpoint(*low, *high)),
    }
}

/// Empties the directory and lets the disk come to rest, so that nobody pays for what another has left.
fn clear(scratch: &Path) -> Result<(), Failure> {
    if scratch.exists() {
        fs::remove_dir_all(scratch)?;
    }
    fs::create_dir_all(scratch)?;
    Command::new("sync").status()?;
    Ok(())
}
