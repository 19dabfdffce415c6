//! How much is tried at least: what the whole of it, and a day's share, must not fall below.
//!
//! Each enumeration holds its own number, and the numbers are held against what is promised of all of them together, so
//! nobody has to add up what tests have printed.

use crate::extent::Extent;

/// Images opened, or runs made, at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    name: &'static str,
    full: usize,
    share: usize,
}

const fn floor(name: &'static str, full: usize, share: usize) -> Floor {
    Floor { name, full, share }
}

/// Images of the workloads.
const WORKLOADS: [Floor; 15] = [
    floor("brief", 6_200, 6_200),
    floor("mixed", 10_000, 1_700),
    floor("dying", 24_000, 3_700),
    floor("unsynced", 70_000, 5_600),
    floor("copied", 22_000, 4_700),
    floor("handled", 9_000, 2_000),
    floor("choosy", 35_000, 6_500),
    floor("guarding", 26_000, 4_400),
    floor("grouped", 24_000, 4_900),
    floor("buried", 28_000, 5_000),
    floor("timed", 24_000, 4_800),
    floor("rolling", 50_000, 7_500),
    floor("batched", 10_000, 2_100),
    floor("crowded", 15_000, 3_200),
    floor("full", 75_000, 8_500),
];

/// The floor of a workload.
pub(crate) fn of_workload(name: &str) -> Floor {
    *WORKLOADS.iter().find(|floor| floor.name == name).unwrap()
}

/// Images of the sequences, part by part.
const SEQUENCES: [Floor; 4] = [
    floor("part 0 of the sequences", 150_000, 7_900),
    floor("part 1 of the sequences", 280_000, 10_500),
    floor("part 2 of the sequences", 120_000, 8_900),
    floor("part 3 of the sequences", 130_000, 8_500),
];

/// The floor of a part of the sequences.
pub(crate) fn of_sequences(part: usize) -> Floor {
    SEQUENCES[part]
}

/// Runs of the workload that is tried whole each time, in which a call to the disk fails.
pub(crate) const ERRORS_BRIEFLY: Floor = floor("errors, briefly", 1_800, 1_800);

/// Runs of the workloads in which a call to the disk fails.
pub(crate) const ERRORS_IN_WORKLOADS: Floor = floor("errors in the workloads", 23_000, 900);

/// Runs in which one fails while handlers work.
pub(crate) const ERRORS_UNDER_HANDLERS: Floor = floor("errors under handlers", 650, 30);

/// Runs of the sequences in which one fails, part by part. Each day takes a quarter of the longest ones, and this is what there is
/// in that with the fewest: held by one day's own, two days of four were said to try too little.
const ERRORS_IN_SEQUENCES: [Floor; 4] = [
    floor("errors in part 0 of the sequences", 54_000, 50),
    floor("errors in part 1 of the sequences", 55_500, 50),
    floor("errors in part 2 of the sequences", 43_000, 50),
    floor("errors in part 3 of the sequences", 44_000, 50),
];

/// The floor of the errors in a part of the sequences.
pub(crate) fn of_errors_in_sequences(part: usize) -> Floor {
    ERRORS_IN_SEQUENCES[part]
}

/// Panics where less was tried.
pub(crate) fn hold(floor: Floor, tried: usize, extent: &Extent) {
    let least = if extent.full { floor.full } else { floor.share };
    assert!(tried >= least, "{}: only {tried} of {least}", floor.name);
}

/// What is promised of all of it: images of power failures, and runs on a disk that fails.
const IMAGES_FULL: usize = 1_000_000;
const IMAGES_SHARE: usize = 100_000;
const ERRORS_FULL: usize = 200_000;

#[test]
fn what_is_tried_adds_up_to_what_is_promised() {
    let images = || WORKLOADS.iter().chain(&SEQUENCES);
    let errors = || {
        let few = [ERRORS_BRIEFLY, ERRORS_IN_WORKLOADS, ERRORS_UNDER_HANDLERS];
        few.into_iter().chain(ERRORS_IN_SEQUENCES)
    };
    assert!(images().map(|floor| floor.full).sum::<usize>() >= IMAGES_FULL);
    assert!(images().map(|floor| floor.share).sum::<usize>() >= IMAGES_SHARE);
    assert!(errors().map(|floor| floor.full).sum::<usize>() >= ERRORS_FULL);
}
