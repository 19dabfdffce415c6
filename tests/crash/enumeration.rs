//! The enumeration of a run: at every boundary all that the disk may hold, opened, judged, and its recovery cut as well.
//!
//! Images that hold the same are opened once and judged at each of their boundaries, since what is legal there differs. The
//! tally tells the two apart.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use libmq_suite::{Image, Op, Platter};

use crate::extent::Extent;
use crate::run::Run;
use crate::verdict::{self, Opened, Then};
use crate::view::View;
use crate::workloads::PATIENCE;

/// How much was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) boundaries: usize,
    /// Images that were held against what is legal where the power failed.
    judged: usize,
    /// Of these, those that are not the same as another one of the run.
    pub(crate) images: usize,
    nested_boundaries: usize,
    nested_judged: usize,
    pub(crate) nested_images: usize,
    took: Duration,
}

impl Tally {
    /// Images that were opened.
    pub(crate) fn opened(&self) -> usize {
        self.images + self.nested_images
    }

    fn add(&mut self, other: &Self) {
        self.boundaries += other.boundaries;
        self.judged += other.judged;
        self.images += other.images;
        self.nested_boundaries += other.nested_boundaries;
        self.nested_judged += other.nested_judged;
        self.nested_images += other.nested_images;
        self.took += other.took;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boundaries, judged, images, nested_boundaries, nested_judged, .. } = self;
        let each = self.took / u32::try_from(self.opened().max(1)).unwrap_or(u32::MAX);
        write!(
            f,
            "{boundaries} boundaries, {judged} images judged, {images} opened; {nested_boundaries} \
             boundaries of recoveries, {nested_judged} images judged, {} opened; {} opened in all, \
             {each:?} each",
            self.nested_images,
            self.opened()
        )
    }
}

/// Which states are legal to find: from the last one that must have survived to the last one that was begun.
#[derive(Clone, Debug)]
struct Legal {
    killed_min: usize,
    power_min: usize,
    max: usize,
    /// The messages whose delivery is being settled: the process may or may not be known to have died with them.
    settling: BTreeSet<u64>,
}

/// What an image knows of the messages that were in flight.
#[derive(Clone, Debug)]
enum Known {
    /// All, but perhaps those that were being settled.
    All,
    /// Any of these.
    Some(BTreeSet<u64>),
}

/// A state, and the messages that the process is known to have died with.
type Found = (usize, BTreeSet<u64>);

impl Legal {
    fn at(run: &Run, boundary: usize) -> Self {
        let returned = || run.calls.iter().filter(|call| call.returned <= boundary);
        let begun = || run.calls.iter().filter(|call| call.begun < boundary);
        let killed_min = returned().map(|call| call.state).max().unwrap_or(0);
        let max = begun().map(|call| call.state).max().unwrap_or(0).max(killed_min);
        let (before, after) = (run.states[killed_min].taken(), run.states[max].taken());
        Self {
            killed_min,
            power_min: returned().map(|call| call.durable).max().unwrap_or(0),
            max,
            settling: before.difference(&after).copied().collect(),
        }
    }

    fn min(&self, killed: bool) -> usize {
        if killed { self.killed_min } else { self.power_min }
    }
}

/// The ids that an image's marks name, or may come to name.
fn marked(image: &Image) -> BTreeSet<u64> {
    image.platter.marks().map(|mark| mark.id).collect()
}

/// All sets that have some of these.
pub(crate) fn subsets(all: &BTreeSet<u64>) -> Vec<BTreeSet<u64>> {
    all.iter().fold(vec![BTreeSet::new()], |mut sets, id| {
        let with = sets.iter().map(|set| set.iter().copied().chain([*id]).collect());
        let with: Vec<_> = with.collect();
        sets.extend(with);
        sets
    })
}

/// An image that was opened and found to be sound, whose recovery is cut next.
struct Outer<'a> {
    label: &'a str,
    boundary: usize,
    image: &'a Image,
    legal: &'a Legal,
    found: Vec<Found>,
    view: Rc<View>,
}

/// What a second recovery has found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Second {
    view: Rc<View>,
    /// The second disk was left by the death of the process.
    killed: bool,
    /// The first recovery had ended.
    ended: bool,
}

/// The enumeration of one run.
pub(crate) struct Enumeration<'a> {
    name: &'a str,
    run: &'a Run,
    trace: Vec<Op>,
    extent: &'a Extent,
    /// Of so many images, recovery from one is cut at every boundary too; zero for of none.
    nested_share: u64,
    /// What states look like, as far as that was asked.
    expected: RefCell<HashMap<Found, Rc<View>>>,
    /// What was found on disks that were opened, by their fingerprints.
    opened: HashMap<u64, Rc<View>>,
    /// And what second recoveries found after the first one was cut.
    seconds: HashMap<u64, HashSet<Second>>,
    tally: Tally,
    began: Instant,
    failures: Vec<String>,
}

impl<'a> Enumeration<'a> {
    pub(crate) fn new(name: &'a str, run: &'a Run, extent: &'a Extent, nested_share: u64) -> Self {
        Self {
            name,
            run,
            trace: run.disk.trace(),
            extent,
            nested_share,
            expected: RefCell::default(),
            opened: HashMap::new(),
            seconds: HashMap::new(),
            tally: Tally::default(),
            began: Instant::now(),
            failures: Vec::new(),
        }
    }

    /// Cuts the power at each of these places in the trace.
    pub(crate) fn boundaries(&mut self, boundaries: RangeInclusive<usize>) {
        let mut platter = self.run.disk.began();
        for boundary in 0..=*boundaries.end() {
            if boundary > 0 {
                platter.apply(&self.trace[boundary - 1]);
            }
            if boundary < *boundaries.start() {
                continue;
            }
            self.tally.boundaries += 1;
            let legal = Legal::at(self.run, boundary);
            let seed = self.extent.seed ^ (boundary as u64) << 20;
            for image in platter.images(seed, self.extent.tearing()) {
                if let Some(only) = &self.extent.only
                    && (only.boundary, &only.image) != (boundary, &image.name)
                {
                    continue;
                }
                self.image(boundary, &image, &legal);
                if self.failures.len() > 4 {
                    return;
                }
            }
        }
    }

    /// Panics with what was wrong, and else adds what was tried.
    pub(crate) fn end(mut self, tally: &mut Tally) {
        *NOW.lock().unwrap() = None;
        self.tally.took = self.began.elapsed();
        tally.add(&self.tally);
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n\n"));
    }

    fn image(&mut self, boundary: usize, image: &Image, legal: &Legal) {
        self.tally.judged += 1;
        let label = format!("{}:{boundary}:{}", self.name, image.name);
        let print = image.platter.fingerprint();
        let number = (boundary as u64) << 32 ^ self.tally.judged as u64;
        let is_nested = self.extent.only.is_some()
            || self.nested_share > 0 && self.extent.draws(number, self.nested_share);
        // What the death of a process left may still be lost, so its recovery is like no other.
        let is_known = self.opened.contains_key(&print)
            && !(is_nested && (image.killed || !self.seconds.contains_key(&print)));
        let opened = if is_known {
            None
        } else {
            watch(&label);
            match verdict::open(&image.platter, Then::OpenAgain) {
                Ok(opened) => Some(opened),
                Err(problem) => return self.fail(&label, boundary, &problem),
            }
        };
        if let Some(opened) = &opened
            && self.opened.insert(print, Rc::new(opened.view.clone())).is_none()
        {
            self.tally.images += 1;
        }
        let view = Rc::clone(&self.opened[&print]);
        let known = if image.killed { Known::All } else { Known::Some(marked(image)) };
        let found = match self.judge(&view, legal, image.killed, &known) {
            Ok(found) => found,
            Err(problem) => return self.fail(&label, boundary, &problem),
        };
        if !is_nested {
            return;
        }
        let outer = Outer { label: &label, boundary, image, legal, found, view };
        match opened {
            Some(opened) => self.recovery(&outer, &opened, print),
            None => self.recovery_again(&outer, print),
        }
    }

    /// Cuts the power at every boundary of a recovery that ended well.
    fn recovery(&mut self, outer: &Outer<'_>, opened: &Opened, print: u64) {
        let trace = opened.disk.trace();
        let mut platter: Platter = opened.disk.began();
        let mut views: HashMap<u64, Rc<View>> = HashMap::new();
        let mut seconds = HashSet::new();
        for inside in 0..=opened.opened_at {
            if inside > 0 {
                platter.apply(&trace[inside - 1]);
            }
            self.tally.nested_boundaries += 1;
            let seed = self.extent.seed ^ (outer.boundary as u64) << 20 ^ (inside as u64) << 40;
            for image in platter.images(seed, self.extent.tearing()) {
                self.tally.nested_judged += 1;
                let label = format!("{} (then {inside}: {})", outer.label, image.name);
                let print = image.platter.fingerprint();
                let view = match views.get(&print) {
                    Some(view) => Ok(Rc::clone(view)),
                    None => {
                        self.tally.nested_images += 1;
                        watch(&label);
                        let opened = verdict::open(&image.platter, Then::Verify);
                        opened.map(|opened| Rc::new(opened.view))
                    }
                };
                let ended = inside == opened.opened_at;
                let judged = view.and_then(|view| {
                    views.insert(print, Rc::clone(&view));
                    let second = Second { view, killed: image.killed, ended };
                    self.judge_second(outer, &second).map(|()| seconds.insert(second))
                });
                if let Err(problem) = judged {
                    let problem = format!("{problem}\nrecovery: {trace:?}");
                    return self.fail(&label, outer.boundary, &problem);
                }
            }
        }
        if !outer.image.killed {
            self.seconds.insert(print, seconds);
        }
    }

    /// Holds what cuts of the same recovery came to against what is legal here.
    fn recovery_again(&mut self, outer: &Outer<'_>, print: u64) {
        let seconds = &self.seconds[&print];
        self.tally.nested_judged += seconds.len();
        let problem = seconds.iter().find_map(|second| self.judge_second(outer, second).err());
        if let Some(problem) = problem {
            self.fail(outer.label, outer.boundary, &problem);
        }
    }

    /// Whether what a second recovery has found is legal after a first one that was cut.
    fn judge_second(&self, outer: &Outer<'_>, second: &Second) -> Result<(), String> {
        let Second { view, killed, ended } = second;
        let killed = outer.image.killed && *killed;
        let known = if killed { Known::All } else { Known::Some(marked(outer.image)) };
        let found = self.judge(view, outer.legal, killed, &known)?;
        // What an opening has served from cannot be lost any more, but for what it knew of those in flight.
        let same = |(state, _): &Found| outer.found.iter().any(|(first, _)| first == state);
        if *ended && !found.iter().any(same) {
            let first = &outer.view;
            return Err(format!("the first recovery has shown\n{first:?}, the second\n{view:?}"));
        }
        Ok(())
    }

    /// The legal states that a view is one of.
    fn judge(
        &self,
        view: &View,
        legal: &Legal,
        killed: bool,
        known: &Known,
    ) -> Result<Vec<Found>, String> {
        let min = legal.min(killed);
        let mut candidates = Vec::new();
        for state in min..=legal.max {
            let sets = match known {
                Known::Some(held) => subsets(held),
                Known::All => {
                    let taken = self.run.states[state].taken();
                    let unsure = subsets(&taken.intersection(&legal.settling).copied().collect());
                    unsure.iter().map(|unknown| &taken - unknown).collect()
                }
            };
            candidates.extend(sets.into_iter().map(|held| (state, held)));
        }
        let found: Vec<Found> =
            candidates.iter().filter(|found| *self.expected(found) == *view).cloned().collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let all = 0..self.run.states.len();
        let other =
            all.into_iter().find(|state| *self.expected(&(*state, BTreeSet::new())) == *view);
        let first = self.expected(&candidates[0]);
        Err(format!(
            "found is (state {other:?})\n{view:?}\nlegal are {min} to {}, of those in flight {known:?}:\n\
             {first:?}",
            legal.max
        ))
    }

    fn expected(&self, found: &Found) -> Rc<View> {
        let mut expected = self.expected.borrow_mut();
        let view = || Rc::new(View::expected(&self.run.states[found.0], &found.1));
        Rc::clone(expected.entry(found.clone()).or_insert_with(view))
    }

    fn fail(&mut self, label: &str, boundary: usize, problem: &str) {
        let calls = self.run.calls.iter().filter(|call| call.begun <= boundary).collect::<Vec<_>>();
        let last = &calls[calls.len().saturating_sub(3)..];
        let before = &self.trace[boundary.saturating_sub(12)..boundary];
        self.failures.push(format!(
            "LIBMQ_CRASH_ONLY='{label}' LIBMQ_CRASH_SEED={}\n{problem}\nlast calls: {last:?}\n\
             last of the trace: {before:?}",
            self.extent.seed
        ));
    }
}

/// Since when which image is being looked at.
static NOW: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// Ends the process where one image takes too long: a hang would else say nothing.
pub(crate) fn watch(label: &str) {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                if let Some((since, label)) = &*NOW.lock().unwrap()
                    && since.elapsed() > PATIENCE
                {
                    eprintln!("{label} has taken {PATIENCE:?}");
                    std::process::abort();
                }
            }
        });
    });
    *NOW.lock().unwrap() = Some((Instant::now(), label.to_owned()));
}
