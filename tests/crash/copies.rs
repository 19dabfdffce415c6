//! Copies of a broker, made after every call of the workloads: each is whole to that moment.
//!
//! What is found in one is what a crash at that moment, which nobody's handler caused, would have left: what was in flight
//! is ready again, and nothing is suspected. Its power may fail as soon as it was made.

use std::collections::BTreeSet;
use std::time::Duration;

use libmq::{Broker, ErrorKind, Message};
use libmq_suite::{Platter, SimDisk, Tearing, Times};

use crate::damage::verified;
use crate::run::{Copied, options, with_copies};
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
    judge_all(name, &copies);
}

/// Panics where a copy is not what it should be.
pub(crate) fn judge_all(name: &str, copies: &[Copied]) {
    for copied in copies {
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

/// Every bit of a small copy, but that of what was never written each fiftieth alone. A flipped bit is found, or changes
/// nothing, and verifying says what opening it and looking at everything comes to.
#[test]
fn a_flipped_bit_of_a_copy_is_found_or_harmless() {
    const SAMPLE: usize = 50;
    let mut run = workloads::small();
    let copy = SimDisk::default();
    run.broker().backup_on(&copy).unwrap();
    run.die();
    let platter = copy.platter();
    let whole = verdict::look(&SimDisk::new(platter.clone())).unwrap().unwrap();
    let (mut found, mut harmless) = (0, 0);
    for (name, bytes) in platter.contents() {
        let near = |bit: usize| {
            let byte = bit / 8;
            bytes[byte.saturating_sub(8)..bytes.len().min(byte + 8)].iter().any(|byte| *byte != 0)
        };
        for bit in (0..bytes.len() * 8).filter(|bit| near(*bit) || bit % SAMPLE == 0) {
            let damaged = platter.damaged(&name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let disk = SimDisk::new(damaged.clone());
            let looked = verdict::look(&disk);
            assert_eq!(verified(damaged, &looked, disk.is_changed()), None, "{name}, bit {bit}");
            match looked.unwrap() {
                Err(_) => found += 1,
                Ok(view) => {
                    assert_eq!(view, whole, "{name}, bit {bit}");
                    harmless += 1;
                }
            }
        }
    }
    println!("{found} bits were found, {harmless} were of no account");
    assert!(found > 5000, "{found} of {}", found + harmless);
}

/// A disk that is full cannot take a snapshot; its broker can be copied to another one.
#[test]
fn a_broker_whose_disk_is_full_can_be_copied() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "before")).unwrap();
    broker.snapshot().unwrap();
    disk.fail_at(disk.calls(), libc::ENOSPC, Times::ForEver);
    while broker.enqueue(Message::new("jobs", vec![b'x'; 10_000])).is_ok() {}
    assert_eq!(broker.snapshot().unwrap_err().kind(), ErrorKind::StorageFull);
    let copy = SimDisk::default();
    broker.backup_on(&copy).unwrap();
    let there = broker.metrics().unwrap().broker.ready;
    let report = libmq::verify_on(&SimDisk::new(copy.platter())).unwrap();
    assert!(report.sound() && report.snapshot.is_some(), "{report:?}");
    assert_eq!(report.messages, there);
    let copied = Broker::open_on(copy.storage(), options()).unwrap();
    let first = copied.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
    assert_eq!(first.body(), b"before");
}
