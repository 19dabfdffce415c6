//! The power fails at every moment of a workload, and whatever the disk may hold then is opened.
//!
//! `LIBMQ_CRASH=full` takes the recovery of every image through the same, and tears long writes at every sector; else a
//! share of the recoveries is, which is another one each day, and of the smallest workload all are. `LIBMQ_CRASH_SEED` sets
//! what is random, and the share; `LIBMQ_CRASH_ONLY=workload:boundary:image` repeats one image alone, as a failure names it.

use std::collections::HashMap;

use libmq_suite::Tearing;

use crate::copies;
use crate::enumeration::{Enumeration, Tally};
use crate::extent::Extent;
use crate::floors;
use crate::order;
use crate::workloads::{self, SMALLEST, WORKLOADS};

/// Of so many images, recovery from one is cut at every boundary too, unless all are.
const NESTED_SHARE: u64 = 6;

/// Takes a workload through every power failure.
fn enumerate(name: &'static str) {
    let extent = Extent::of_environment();
    if !extent.has(name) {
        return;
    }
    let extent = if name == SMALLEST { extent.whole() } else { extent };
    let run = workloads::named(name);
    order::check(&run);
    copies::judge_all(name, &run.copies);
    let mut tally = Tally::default();
    let nested_share = if extent.full { 1 } else { NESTED_SHARE };
    let mut enumeration = Enumeration::new(name, &run, &extent, nested_share);
    enumeration.boundaries(0..=run.disk.position());
    enumeration.end(&mut tally);
    println!("{name}: {} calls, {tally}", run.calls.len());
    if extent.only.is_none() {
        floors::hold(floors::of_workload(name), tally.opened(), &extent);
    }
}

#[test]
fn after_a_crash_every_image_of_the_brief_workload_recovers() {
    enumerate("brief");
}

#[test]
fn after_a_crash_every_image_of_the_mixed_workload_recovers() {
    enumerate("mixed");
}

#[test]
fn after_a_crash_every_image_of_the_dying_workload_recovers() {
    enumerate("dying");
}

#[test]
fn after_a_crash_every_image_of_the_unsynced_workload_recovers() {
    enumerate("unsynced");
}

#[test]
fn after_a_crash_every_image_of_the_copied_workload_recovers() {
    enumerate("copied");
}

#[test]
fn after_a_crash_every_image_of_the_handled_workload_recovers() {
    enumerate("handled");
}

#[test]
fn after_a_crash_every_image_of_the_choosy_workload_recovers() {
    enumerate("choosy");
}

#[test]
fn after_a_crash_every_image_of_the_guarding_workload_recovers() {
    enumerate("guarding");
}

#[test]
fn after_a_crash_every_image_of_the_grouped_workload_recovers() {
    enumerate("grouped");
}

#[test]
fn after_a_crash_every_image_of_the_buried_workload_recovers() {
    enumerate("buried");
}

#[test]
fn after_a_crash_every_image_of_the_timed_workload_recovers() {
    enumerate("timed");
}

#[test]
fn after_a_crash_every_image_of_the_rolling_workload_recovers() {
    enumerate("rolling");
}

#[test]
fn after_a_crash_every_image_of_the_batched_workload_recovers() {
    enumerate("batched");
}

#[test]
fn after_a_crash_every_image_of_the_crowded_workload_recovers() {
    enumerate("crowded");
}

#[test]
fn after_a_crash_every_image_of_the_full_workload_recovers() {
    enumerate("full");
}

/// Two images with the same bytes must be judged alike, so it says something that all were looked at.
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

/// The workload of which nothing is ever left out is the one with the fewest calls.
#[test]
fn the_smallest_workload_is_the_one_that_is_taken_whole() {
    let smallest = WORKLOADS.iter().min_by_key(|workload| (workload.steps)().len()).unwrap();
    assert_eq!(smallest.name, SMALLEST);
}
