//! How much of all there is to try is tried: everything, a share that another one follows tomorrow, or one thing alone.

use std::time::SystemTime;

use libmq_suite::{Rng, Tearing};

/// What a run covers.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) full: bool,
    /// Decides what is random, and which share is taken.
    pub(crate) seed: u64,
    pub(crate) only: Option<Only>,
}

/// One image alone: of which run, at which boundary, under which name.
#[derive(Clone, Debug)]
pub(crate) struct Only {
    pub(crate) run: String,
    pub(crate) boundary: usize,
    pub(crate) image: String,
}

impl Extent {
    /// As the environment says. Without a seed it is the day's, so that each day takes another share, and all days together
    /// everything.
    pub(crate) fn of_environment() -> Self {
        let read = |name: &str| std::env::var(name).ok();
        let only = read("LIBMQ_CRASH_ONLY").map(|only| {
            let mut parts = only.splitn(3, ':').map(str::to_owned);
            let mut part = || parts.next().expect("LIBMQ_CRASH_ONLY is run:boundary:image");
            let (run, boundary, image) = (part(), part(), part());
            // An image alone is taken through all cuts of its recovery, so the one that failed is among them.
            let image = image.split(" (then ").next().unwrap_or_default().to_owned();
            Only { run, boundary: boundary.parse().expect("a boundary is a number"), image }
        });
        Self {
            full: read("LIBMQ_CRASH").is_some_and(|extent| extent == "full"),
            seed: read("LIBMQ_CRASH_SEED")
                .map_or_else(today, |seed| seed.parse().expect("a seed is a number")),
            only,
        }
    }

    /// As this one, with nothing left out.
    pub(crate) fn whole(&self) -> Self {
        Self { full: true, ..self.clone() }
    }

    pub(crate) fn tearing(&self) -> Tearing {
        if self.full { Tearing::EveryEdge } else { Tearing::SomeEdges }
    }

    /// Whether what has this number is tried, where one of so many is unless all are.
    pub(crate) fn takes(&self, number: u64, share: u64) -> bool {
        self.full || self.draws(number, share)
    }

    /// Whether what has this number is among one of so many. As many seeds in a row draw everything once.
    pub(crate) fn draws(&self, number: u64, share: u64) -> bool {
        Rng::new(number).number().wrapping_add(self.seed).is_multiple_of(share)
    }

    /// Whether this run is to be looked at.
    pub(crate) fn has(&self, run: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.run == run)
    }
}

/// The number of this day.
fn today() -> u64 {
    const DAY_S: u64 = 24 * 60 * 60;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs() / DAY_S)
}

/// Shares follow each other, and leave nothing out.
#[test]
fn seeds_in_a_row_take_everything_once() {
    let extent = |seed| Extent { full: false, seed, only: None };
    for number in 0..1000 {
        let taken = (0..20).filter(|day| extent(20_000 + day).takes(number, 20)).count();
        assert_eq!(taken, 1, "{number}");
    }
}
