//! The power fails at every moment of a workload, and whatever the disk may hold then is opened.
//!
//! `LIBMQ_CRASH=full` takes recovery itself through the same for every image, and tears long writes at every sector.
//! `LIBMQ_CRASH_SEED` sets what is random; `LIBMQ_CRASH_ONLY=workload:boundary:image` repeats one image alone, as a
//! failure names it.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use libmq_suite::{Image, Platter, Rng, Tearing};

use crate::order;
use crate::run::Run;
use crate::verdict::{self, Opened};
use crate::view::View;
use crate::workloads::{self, PATIENCE};

/// Of so many images, recovery from one is cut at every boundary too, unless all are.
const NESTED_SHARE: u64 = 6;

/// What a run covers.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) full: bool,
    pub(crate) seed: u64,
    only: Option<(String, usize, String)>,
}

impl Extent {
    /// As the environment says.
    pub(crate) fn of_environment() -> Self {
        let read = |name: &str| std::env::var(name).ok();
        let only = read("LIBMQ_CRASH_ONLY").map(|only| {
            let mut parts = only.splitn(3, ':').map(str::to_owned);
            let mut part = || parts.next().expect("LIBMQ_CRASH_ONLY is workload:boundary:image");
            let (workload, boundary, image) = (part(), part(), part());
            // An image alone is taken through all cuts of its recovery, so the one that failed is among them.
            let image = image.split(" (then ").next().unwrap_or_default().to_owned();
            (workload, boundary.parse().expect("a boundary is a number"), image)
        });
        Self {
            full: read("LIBMQ_CRASH").is_some_and(|extent| extent == "full"),
            seed: read("LIBMQ_CRASH_SEED")
                .map_or(1, |seed| seed.parse().expect("a seed is a number")),
            only,
        }
    }

    fn tearing(&self) -> Tearing {
        if self.full { Tearing::EveryEdge } else { Tearing::SomeEdges }
    }

    /// Whether recovery from the image of this number is cut too.
    fn is_nested(&self, image: usize) -> bool {
        self.full || Rng::new(self.seed ^ (image as u64) << 8).below(NESTED_SHARE) == 0
    }
}

/// How much was tried.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    boundaries: usize,
    images: usize,
    nested_boundaries: usize,
    nested_images: usize,
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
    label: String,
    boundary: usize,
    image: &'a Image,
    legal: &'a Legal,
    opened: Opened,
    found: Vec<Found>,
}

struct Enumeration<'a> {
    name: &'a str,
    run: &'a Run,
    /// What states look like, as far as that was asked.
    expected: RefCell<HashMap<Found, Rc<View>>>,
    extent: Extent,
    tally: Tally,
    failures: Vec<String>,
}

impl Enumeration<'_> {
    fn run(&mut self) {
        let trace = self.run.disk.trace();
        let mut platter = self.run.disk.began();
        for boundary in 0..=trace.len() {
            if boundary > 0 {
                platter.apply(&trace[boundary - 1]);
            }
            self.tally.boundaries += 1;
            let legal = Legal::at(self.run, boundary);
            let seed = self.extent.seed ^ (boundary as u64) << 20;
            for image in platter.images(seed, self.extent.tearing()) {
                if let Some((_, at, name)) = &self.extent.only
                    && (*at, name) != (boundary, &image.name)
                {
                    continue;
                }
                self.tally.images += 1;
                self.image(boundary, &image, &legal);
                if self.failures.len() > 4 {
                    return;
                }
            }
        }
    }

    fn image(&mut self, boundary: usize, image: &Image, legal: &Legal) {
        let label = format!("{}:{boundary}:{}", self.name, image.name);
        watch(&label);
        let opened = match verdict::open(&image.platter) {
            Ok(opened) => opened,
            Err(problem) => return self.fail(&label, boundary, &problem),
        };
        let known = if image.killed { Known::All } else { Known::Some(marked(image)) };
        let found = match self.judge(&opened.view, legal, image.killed, &known) {
            Ok(found) => found,
            Err(problem) => return self.fail(&label, boundary, &problem),
        };
        if self.extent.only.is_some() || self.extent.is_nested(self.tally.images) {
            let outer = Outer { label, boundary, image, legal, opened, found };
            self.recovery(&outer);
        }
    }

    /// Cuts the power at every boundary of a recovery that ended well.
    fn recovery(&mut self, outer: &Outer<'_>) {
        let trace = outer.opened.disk.trace();
        let mut platter: Platter = outer.opened.disk.began();
        for inside in 0..=outer.opened.opened_at {
            if inside > 0 {
                platter.apply(&trace[inside - 1]);
            }
            self.tally.nested_boundaries += 1;
            let seed = self.extent.seed ^ (outer.boundary as u64) << 20 ^ (inside as u64) << 40;
            for image in platter.images(seed, self.extent.tearing()) {
                self.tally.nested_images += 1;
                let label = format!("{} (then {inside}: {})", outer.label, image.name);
                watch(&label);
                let judged = verdict::open(&image.platter)
                    .and_then(|opened| self.judge_second(outer, inside, &image, &opened.view));
                if let Err(problem) = judged {
                    let problem = format!("{problem}\nrecovery: {trace:?}");
                    return self.fail(&label, outer.boundary, &problem);
                }
            }
        }
    }

    /// Whether what a second recovery has found is legal after a first one that was cut.
    fn judge_second(
        &self,
        outer: &Outer<'_>,
        inside: usize,
        image: &Image,
        view: &View,
    ) -> Result<(), String> {
        let killed = outer.image.killed && image.killed;
        let known = if killed { Known::All } else { Known::Some(marked(outer.image)) };
        let found = self.judge(view, outer.legal, killed, &known)?;
        // What an opening has served from cannot be lost any more, but for what it knew of those in flight.
        let same = |(state, _): &Found| outer.found.iter().any(|(first, _)| first == state);
        if inside == outer.opened.opened_at && !found.iter().any(same) {
            let first = &outer.opened.view;
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
        let trace = self.run.disk.trace();
        let before = &trace[boundary.saturating_sub(12)..boundary];
        self.failures.push(format!(
            "LIBMQ_CRASH_ONLY='{label}' LIBMQ_CRASH_SEED={}\n{problem}\nlast calls: {last:?}\n\
             last of the trace: {before:?}",
            self.extent.seed
        ));
    }
}

/// Takes a workload through every power failure.
fn enumerate(name: &str) {
    let extent = Extent::of_environment();
    if extent.only.as_ref().is_some_and(|(workload, ..)| workload != name) {
        return;
    }
    let run = workloads::named(name);
    order::check(&run);
    let expected = RefCell::default();
    let whole = extent.only.is_none();
    let failures = Vec::new();
    let tally = Tally::default();
    let mut enumeration = Enumeration { name, run: &run, expected, extent, tally, failures };
    let began = Instant::now();
    enumeration.run();
    *NOW.lock().unwrap() = None;
    let Tally { boundaries, images, nested_boundaries, nested_images } = enumeration.tally;
    let opened = images + nested_images;
    let each = began.elapsed() / u32::try_from(opened.max(1)).unwrap();
    println!(
        "{name}: {} calls, {boundaries} boundaries, {images} images; {nested_boundaries} boundaries \
         of recoveries, {nested_images} images; {each:?} an image",
        run.calls.len()
    );
    let failures = enumeration.failures;
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(!whole || images > 300, "only {images} images");
}

/// Since when which image is being looked at.
static NOW: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// Ends the process where one image takes too long: a hang would else say nothing.
fn watch(label: &str) {
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

#[test]
fn after_a_crash_every_image_of_the_mixed_workload_recovers() {
    enumerate("mixed");
}

#[test]
fn after_a_crash_every_image_of_the_rolling_workload_recovers() {
    enumerate("rolling");
}

#[test]
fn after_a_crash_every_image_of_the_dying_workload_recovers() {
    enumerate("dying");
}

#[test]
fn after_a_crash_every_image_of_the_choosy_workload_recovers() {
    enumerate("choosy");
}

/// Two images with the same bytes must be judged alike, so it says something that all were opened.
#[test]
fn a_crash_image_comes_again_with_its_seed() {
    let run = workloads::small();
    let prints = |seed| {
        let platter = run.disk.platter();
        let images = platter.images(seed, Tearing::EveryEdge);
        let prints = images.into_iter().map(|image| (image.name, image.platter.fingerprint()));
        prints.collect::<HashMap<_, _>>()
    };
    assert_eq!(prints(1), prints(1));
}
