//! Copies of a broker, made after every call of the workloads: each is whole to that moment.
//!
//! What is found in one is what a crash at that moment, which nobody's handler caused, would have left: what was in flight
//! is ready again, and nothing is suspected. Its power may fail as soon as it was made.

use std::collections::BTreeSet;

use libmq_suite::{Platter, SimDisk, Tearing};

use crate::run::{Copied, with_copies};
use crate::verdict;
use crate::view::View;
use crate::workloads;

/// Why a copy is not what it should be, if it is not.
fn judge(copied: &Copied, copy: &Platter) -> Option<String> {
    let mut model = copied.model.clone();
    model.crash(&BTreeSet::new());
    let report = match libmq::verify_on(&SimDisk::new(copy.clone())) {
        Ok(report) => report,
        Err(error) => return Some(format!("verify: {error}")),
    };
    let found = (report.messages, report.dead_letters, report.suspects, report.dropped_bytes);
    let expected = (model.live.len() as u64, model.dead.len() as u64, 0, 0);
    if !report.sound() || !report.closed || found != expected {
        return Some(format!("{report:?} instead of {expected:?}"));
    }
    let view = match verdict::look(&SimDisk::new(copy.clone())) {
        Ok(Ok(view)) => view,
        other => return Some(format!("open: {other:?}")),
    };
    let expected = View::expected(&copied.model, &BTreeSet::new());
    (view != expected).then(|| format!("found is\n{view:?}\ninstead of\n{expected:?}"))
}

fn judge_copies_of(name: &str) {
    let copies = with_copies(|| workloads::named(name));
    assert!(copies.len() > 15, "only {} copies", copies.len());
    for copied in &copies {
        // All of it was synced, so this is the same in every image of a power failure.
        for image in copied.copy.platter().images(1, Tearing::EveryEdge) {
            let problem = judge(copied, &image.platter);
            assert_eq!(problem, None, "{name}, after {}, image {}", copied.after, image.name);
        }
    }
}

#[test]
fn a_copy_after_every_call_of_the_mixed_workload_is_whole() {
    judge_copies_of("mixed");
}

#[test]
fn a_copy_after_every_call_of_the_rolling_workload_is_whole() {
    judge_copies_of("rolling");
}

#[test]
fn a_copy_after_every_call_of_the_dying_workload_is_whole() {
    judge_copies_of("dying");
}

#[test]
fn a_copy_after_every_call_of_the_choosy_workload_is_whole() {
    judge_copies_of("choosy");
}
