//! A contest: several ways to do the same work, run in turns, and what libmq has promised to reach in it.
//!
//! Rates on one machine drift by a factor of two within minutes, so a single figure says little. Each round runs all
//! contenders of a contest one after another, in an order that rotates, and compares them within the round; what is
//! reported is the median over the rounds of figures and of ratios, and how far the figures lie apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::player::Player;

/// The figures of one run, by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// The figure that a contest is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figure {
    /// As players call it.
    pub(crate) key: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) is_more_better: bool,
}

pub(crate) const RATE: Figure = Figure { key: "rate", unit: "/s", is_more_better: true };
pub(crate) const P50: Figure = less("p50", "us, p50");
pub(crate) const P99: Figure = less("p99", "us, p99");
pub(crate) const P999: Figure = less("p999", "us, p99.9");
pub(crate) const MEGABYTES: Figure = less("megabytes", "MB");
pub(crate) const BYTES: Figure = less("bytes", "B a message");
pub(crate) const SPEED: Figure = Figure { key: "megabytes", unit: "MB/s", is_more_better: true };

const fn less(key: &'static str, unit: &'static str) -> Figure {
    Figure { key, unit, is_more_better: false }
}

/// One way to do the work, with what came of it in each round.
#[derive(Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// What a message that was answered survives.
    pub(crate) survives: &'static str,
    player: Player,
    /// One of each round; empty where it died.
    pub(crate) rounds: Vec<Figures>,
    /// Why it does not take part.
    pub(crate) missing: Option<String>,
}

/// Something that libmq has promised of one of its figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) key: &'static str,
    pub(crate) bound: Bound,
    /// Of which contender's figure it is a multiple; of none where it is a figure itself.
    pub(crate) of: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Several ways to do the same work. The first is libmq.
#[derive(Clone)]
pub(crate) struct Contest {
    pub(crate) category: &'static str,
    pub(crate) name: String,
    pub(crate) figure: Figure,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) promises: Vec<Promise>,
}

impl Contest {
    pub(crate) fn new(category: &'static str, name: impl Into<String>, figure: Figure) -> Self {
        Self { category, name: name.into(), figure, contenders: Vec::new(), promises: Vec::new() }
    }

    /// Adds libmq, a bound or a peer.
    #[must_use]
    pub(crate) fn with(
        mut self,
        name: &'static str,
        survives: &'static str,
        player: Player,
    ) -> Self {
        let (rounds, missing) = (Vec::new(), None);
        self.contenders.push(Contender { name, survives, player, rounds, missing });
        self
    }

    /// Promises that a figure of libmq's is at least so much, or at least so many times that of another.
    #[must_use]
    pub(crate) fn at_least(
        self,
        key: &'static str,
        least: f64,
        of: Option<(&'static str, &'static str)>,
    ) -> Self {
        self.promise(Promise { key, bound: Bound::AtLeast(least), of })
    }

    /// Promises that a figure of libmq's is at most so much, or at most so many times that of another.
    #[must_use]
    pub(crate) fn at_most(
        self,
        key: &'static str,
        most: f64,
        of: Option<(&'static str, &'static str)>,
    ) -> Self {
        self.promise(Promise { key, bound: Bound::AtMost(most), of })
    }

    /// Promises to be faster than every server.
    #[must_use]
    pub(crate) fn ahead_of_servers(self) -> Self {
        let beside = |contender: &&Contender| contender.player.is_beside_a_server();
        let servers: Vec<_> = self.contenders.iter().filter(beside).map(|its| its.name).collect();
        let Figure { key, is_more_better, .. } = self.figure;
        servers.into_iter().fold(self, |contest, name| {
            let of = Some((name, key));
            if is_more_better {
                contest.at_least(key, 1.0, of)
            } else {
                contest.at_most(key, 1.0, of)
            }
        })
    }

    /// Whether it is of the category that somebody asks for, or has that in its name.
    pub(crate) fn is_asked_for(&self, part: &str) -> bool {
        let part = part.to_lowercase();
        self.category == part || self.name.to_lowercase().contains(&part)
    }

    fn promise(mut self, promise: Promise) -> Self {
        self.promises.push(promise);
        self
    }

    /// Runs each contender once, each in an empty directory of its own. One that is not there is left out from then on; a peer
    /// that dies has no figures in this round, and libmq does not die.
    pub(crate) fn run(&mut self, round: usize, scratch: &Path) -> Result<(), Failure> {
        let count = self.contenders.len();
        for turn in 0..count {
            let index = (turn + round) % count;
            let Some(contender) = self.contenders.get_mut(index) else { continue };
            if contender.missing.is_some() {
                continue;
            }
            clear(scratch)?;
            match contender.player.run(scratch) {
                Ok(Ok(figures)) => contender.rounds.push(figures),
                Ok(Err(missing)) => contender.missing = Some(missing),
                Err(error) if index == 0 => {
                    return Err(format!("{}, {}: {error}", self.name, contender.name).into());
                }
                Err(error) => {
                    eprintln!("{} has died: {error}", contender.name);
                    contender.rounds.push(Figures::new());
                }
            }
        }
        clear(scratch)
    }

    /// Those that took part.
    pub(crate) fn played(&self) -> impl Iterator<Item = &Contender> {
        let took_part = |contender: &&Contender| contender.deaths() < contender.rounds.len();
        self.contenders.iter().filter(took_part)
    }

    /// The median over the rounds of what a promise is about; none where whom it names did not take part.
    pub(crate) fn measured(&self, promise: &Promise) -> Option<f64> {
        let own = self.contenders.first()?.each(promise.key);
        let Some((name, key)) = promise.of else { return Some(median(own)) };
        let other = self.played().find(|contender| contender.name == name)?.each(key);
        Some(median(own.zip(other).map(|(own, other)| own / other)))
    }

    /// The median over the rounds of libmq's figure over this contender's.
    pub(crate) fn ratio(&self, contender: &Contender) -> f64 {
        let own = self.contenders.first().into_iter().flat_map(|own| own.each(self.figure.key));
        median(own.zip(contender.each(self.figure.key)).map(|(own, other)| own / other))
    }

    /// Whether all that was promised and could be looked at was reached.
    pub(crate) fn is_reached(&self) -> bool {
        self.promises.iter().all(|promise| {
            self.measured(promise).is_none_or(|measured| promise.bound.holds(measured))
        })
    }
}

impl Bound {
    pub(crate) fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        }
    }
}

impl Contender {
    /// A figure of each round.
    pub(crate) fn each(&self, key: &str) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(move |figures| figures.get(key).copied().unwrap_or(f64::NAN))
    }

    /// Rounds in which it died.
    pub(crate) fn deaths(&self) -> usize {
        self.rounds.iter().filter(|figures| figures.is_empty()).count()
    }

    /// The least, the middle and the largest of a figure.
    pub(crate) fn spread(&self, key: &str) -> [f64; 3] {
        let least = self.each(key).fold(f64::INFINITY, f64::min);
        let largest = self.each(key).fold(f64::NEG_INFINITY, f64::max);
        [least, median(self.each(key)), largest]
    }
}

/// The middle value, or the mean of the two in the middle, of those that are there.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
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
