//! Gauges: whether something that is looked at again and again grows.
//!
//! The first third of what was seen is held against the last: their means, so that what goes up and down is no growth.

use std::fmt;
use std::fs;
use std::path::Path;

/// More than so many are thinned out.
const SEEN_MAX: usize = 6_000;

/// Fewer say nothing.
const SEEN_MIN: usize = 3;

/// One thing that is not to grow.
#[derive(Clone, Debug)]
pub struct Gauge {
    what: &'static str,
    /// What the last third may have more than the first: a tenth, and this.
    slack: u64,
    seen: Vec<u64>,
    /// Of so many looks one is kept, since the gauge was thinned out.
    every: usize,
    looks: usize,
}

impl Gauge {
    pub fn new(what: &'static str, slack: u64) -> Self {
        Self { what, slack, seen: Vec::new(), every: 1, looks: 0 }
    }

    pub fn look(&mut self, value: u64) {
        self.looks += 1;
        if !self.looks.is_multiple_of(self.every) {
            return;
        }
        self.seen.push(value);
        if self.seen.len() > SEEN_MAX {
            self.every *= 2;
            let mut keep = false;
            self.seen.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// The means of the first third and of the last.
    fn thirds(&self) -> (u64, u64) {
        let third = (self.seen.len() / 3).max(1);
        let mean = |values: &[u64]| values.iter().sum::<u64>() / values.len().max(1) as u64;
        let last = self.seen.len().saturating_sub(third);
        (mean(&self.seen[..third.min(self.seen.len())]), mean(&self.seen[last..]))
    }

    /// Whether it has not grown; where too little was seen, that is no answer, and an error.
    pub fn flat(&self) -> Result<(), String> {
        let (first, last) = self.thirds();
        if self.seen.len() < SEEN_MIN {
            return Err(format!("{} was seen only {} times", self.what, self.seen.len()));
        }
        if last > first + first / 10 + self.slack {
            return Err(format!("{} grew: {self}", self.what));
        }
        Ok(())
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.thirds();
        write!(f, "{} {first} -> {last}", self.what)
    }
}

/// KiB of memory that a process has in use.
pub fn memory_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Descriptors, with `fd`, or threads, with `task`, that a process has.
pub fn entries(process: u32, what: &str) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{process}/{what}")).ok()?.count() as u64)
}

/// KiB that the files of a directory have; what goes while it is looked at is gone.
pub fn disk_kib(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum::<u64>() >> 10
}

#[test]
fn kill_a_gauge_tells_growth_from_going_up_and_down() {
    let gauge = |values: &mut dyn Iterator<Item = u64>| {
        let mut gauge = Gauge::new("it", 5);
        values.for_each(|value| gauge.look(value));
        gauge
    };
    assert!(gauge(&mut (0..300).map(|at| 100 + at % 7 * 10)).flat().is_ok());
    assert!(gauge(&mut (0..300).map(|at| 100 + at / 10)).flat().is_err());
    assert!(gauge(&mut (0..100_000).map(|at| 1000 + at / 1000)).flat().is_ok());
    let long = gauge(&mut (0..100_000).map(|at| 1000 + at / 100));
    assert!(long.flat().is_err() && long.seen.len() <= SEEN_MAX, "{long}");
    assert!(gauge(&mut (0..2)).flat().is_err());
}
