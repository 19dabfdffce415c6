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
    floor("brief", 300, 300),
    floor("mixed", 300, 300),
    floor("dying", 300, 300),
    floor("unsynced", 300, 300),
    floor("copied", 300, 300),
    floor("handled", 300, 300),
    floor("choosy", 300, 300),
    floor("guarding", 300, 300),
    floor("grouped", 300, 300),
    floor("buried", 300, 300),
    floor("timed", 300, 300),
    floor("rolling", 300, 300),
    floor("batched", 300, 300),
    floor("crowded", 300, 300),
    floor("full", 300, 300),
];

/// The floor of a workload.
pub(crate) fn of_workload(name: &str) -> Floor {
    *WORKLOADS.iter().find(|floor| floor.name == name).unwrap()
}

/// Images of the sequences, part by part.
const SEQUENCES: [Floor; 4] = [
    floor("part 0 of the sequences", 300, 300),
    floor("part 1 of the sequences", 300, 300),
    floor("part 2 of the sequences", 300, 300),
    floor("part 3 of the sequences", 300, 300),
];

/// The floor of a part of the sequences.
pub(crate) fn of_sequences(part: usize) -> Floor {
    SEQUENCES[part]
}

/// Runs of the workload that is tried whole each time, in which a call to the disk fails.
pub(crate) const ERRORS_BRIEFLY: Floor = floor("errors, briefly", 1800, 1800);

/// Runs of the workloads in which a call to the disk fails.
pub(crate) const ERRORS_IN_WORKLOADS: Floor = floor("errors in the workloads", 300, 300);

/// Runs of the sequences in which one fails, part by part.
const ERRORS_IN_SEQUENCES: [Floor; 4] = [
    floor("errors in part 0 of the sequences", 300, 300),
    floor("errors in part 1 of the sequences", 300, 300),
    floor("errors in part 2 of the sequences", 300, 300),
    floor("errors in part 3 of the sequences", 300, 300),
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
    let errors = || [ERRORS_BRIEFLY, ERRORS_IN_WORKLOADS].into_iter().chain(ERRORS_IN_SEQUENCES);
    assert!(images().map(|floor| floor.full).sum::<usize>() >= IMAGES_FULL);
    assert!(images().map(|floor| floor.share).sum::<usize>() >= IMAGES_SHARE);
    assert!(errors().map(|floor| floor.full).sum::<usize>() >= ERRORS_FULL);
}
