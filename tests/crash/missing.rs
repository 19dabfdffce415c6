//! Segments that are missing although others name them, and those that an opening that fails takes back.

use std::time::{Duration, Instant};

use libmq::{Broker, ErrorKind, Message};
use libmq_suite::{Op, Platter, SimDisk, Tearing, Times};

use crate::run::options;

/// Opens a broker on a disk and enqueues a message of so many bytes.
fn opened(disk: &SimDisk, bytes: usize) -> Broker {
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", vec![7; bytes])).unwrap();
    broker
}

/// Refuses a disk without one of its files, and names that. Whoever opens the broker anew cuts the file in which the log ended
/// before; that may have come to the disk, or not yet.
fn is_missed(disk: &SimDisk, name: &str) {
    let mut uncut = disk.began();
    for op in disk.trace().iter().filter(|op| !matches!(op, Op::Truncate { .. })) {
        uncut.apply(op);
    }
    for platter in [uncut, disk.platter()] {
        let left = SimDisk::new(platter.without(name));
        let error = Broker::open_on(left.storage(), options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!left.is_changed(), "what is refused is left alone");
    }
}

/// A segment was lost that an earlier opening had begun. The one before it ends in a close record, and where it had not been
/// cut yet the log was taken to end there; the segments behind it were taken for leftovers, and removed with all that was
/// in them.
#[test]
fn a_segment_that_is_missing_between_two_openings_is_damage() {
    let disk = SimDisk::default();
    for _ in 0..2 {
        opened(&disk, 1).close(Duration::ZERO).unwrap();
    }
    drop(opened(&disk, 1));
    is_missed(&disk, "00000002.segment");
}

/// The same of the last opening's first segment, which those behind it name: one that was filled, or a spare one.
#[test]
fn a_segment_that_is_missing_behind_the_last_close_is_damage() {
    for bodies in [1, 3] {
        let disk = SimDisk::default();
        opened(&disk, 1).close(Duration::ZERO).unwrap();
        let broker = opened(&disk, 30_000);
        for _ in 1..bodies {
            broker.enqueue(Message::new("jobs", vec![7; 30_000])).unwrap();
        }
        drop(broker);
        is_missed(&disk, "00000002.segment");
    }
}

/// The same behind a log that a crash has cut, where the look ahead found nothing in the spare segment.
#[test]
fn a_segment_that_is_missing_behind_a_crash_is_damage() {
    let disk = SimDisk::default();
    for _ in 0..2 {
        drop(opened(&disk, 1));
    }
    let names: Vec<String> = disk.contents().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"00000004.segment".to_owned()), "{names:?}");
    is_missed(&disk, "00000003.segment");
}

/// A segment under another one's name, or from another broker's directory, is none of this log.
#[test]
fn a_segment_that_is_another_one_is_damage() {
    let made = || {
        let disk = SimDisk::default();
        opened(&disk, 1).close(Duration::ZERO).unwrap();
        drop(opened(&disk, 1));
        disk.platter()
    };
    let (ours, theirs) = (made(), made());
    let segments = |platter: &Platter| {
        let mut contents = platter.contents();
        contents.retain(|(name, _)| name.ends_with(".segment"));
        contents
    };
    assert_eq!(segments(&ours).len(), 3);
    for (name, _) in segments(&ours) {
        let others = segments(&ours).into_iter().filter(|(other, _)| *other != name);
        for (other, bytes) in others.chain(segments(&theirs)) {
            let disk = SimDisk::new(ours.damaged(&name, |there| *there = bytes));
            let error = Broker::open_on(disk.storage(), options()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{other} as {name}: {error}");
            assert!(!disk.is_changed(), "what is refused is left alone");
        }
    }
}

/// An opening that fails takes its segments back, the newest first. The power failed meanwhile, and what came back of the
/// directory was the spare one, behind one that is not there: such a directory is as it was before that opening.
#[test]
fn an_opening_that_takes_its_segments_back_may_be_cut_short_by_the_power() {
    let disk = SimDisk::default();
    opened(&disk, 1).close(Duration::ZERO).unwrap();
    let whole = disk.platter();
    let calls = {
        let disk = SimDisk::new(whole.clone());
        drop(Broker::open_on(disk.storage(), options()).unwrap());
        disk.calls()
    };
    let mut taken_back = 0;
    for call in 0..calls {
        let disk = SimDisk::new(whole.clone());
        disk.fail_at(call, libc::EIO, Times::Once);
        if Broker::open_on(disk.storage(), options()).is_ok() {
            continue;
        }
        let mut platter = whole.clone();
        for op in disk.trace() {
            platter.apply(&op);
            taken_back += usize::from(matches!(op, Op::Remove { .. }));
            for image in platter.images(1, Tearing::SomeEdges) {
                let broker = Broker::open_on(SimDisk::new(image.platter).storage(), options());
                let broker = broker.unwrap_or_else(|error| {
                    panic!("call {call} failed, image {}: {error}", image.name)
                });
                assert_eq!(broker.recovery().messages, 1);
            }
        }
    }
    assert!(taken_back > 0);
}

/// A broker to which three messages of a megabyte came so fast that two spare segments were made, its disk, and how many changes
/// that had seen before the second one.
fn with_two_spares() -> (Broker, SimDisk, usize) {
    // Whoever fills a segment may be stopped for a while.
    for _ in 0..20 {
        let disk = SimDisk::default();
        let broker = Broker::open_on(disk.storage(), options().segment_bytes(8 << 20)).unwrap();
        let before = disk.trace().len();
        (0..3).for_each(|_| _ = broker.enqueue(Message::new("jobs", vec![7; 1 << 20])).unwrap());
        let is_there = || disk.contents().iter().any(|(name, _)| name == "00000003.segment");
        let end = Instant::now() + Duration::from_secs(1);
        while !is_there() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        if is_there() {
            return (broker, disk, before);
        }
    }
    panic!("there never was a second spare");
}

/// Two spare segments whose owner died, or of which the power took one or both, are none of the log.
#[test]
fn two_spares_that_are_left_behind_are_none_of_the_log() {
    let (broker, disk, before) = with_two_spares();
    drop(broker);
    let trace = disk.trace();
    let made = |op: &Op| matches!(op, Op::Rename { to, .. } if to == "00000003.segment");
    assert!(trace[before..].iter().any(made));
    let mut platter = disk.began();
    for (index, op) in trace.iter().enumerate() {
        platter.apply(op);
        if index < before {
            continue;
        }
        for image in platter.images(1, Tearing::SomeEdges) {
            let disk = SimDisk::new(image.platter);
            let broker = Broker::open_on(disk.storage(), options().segment_bytes(8 << 20));
            let broker = broker.unwrap_or_else(|error| panic!("image {}: {error}", image.name));
            assert!(broker.recovery().messages <= 3);
            broker.close(Duration::ZERO).unwrap();
        }
    }
    let disk = SimDisk::new(disk.platter());
    let broker = Broker::open_on(disk.storage(), options().segment_bytes(8 << 20)).unwrap();
    assert_eq!(broker.recovery().messages, 3);
    broker.close(Duration::ZERO).unwrap();
    let names: Vec<String> = disk.contents().into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| ["00000002.segment", "00000003.segment"].contains(&&**name)));
}

/// The second spare names the first one, which was removed before the removal of the second was durable: behind a power failure a
/// log that had been closed was refused, since a segment was missing that another one names.
#[test]
fn two_spares_that_a_close_removes_are_none_of_the_log_whatever_the_power_leaves_of_them() {
    let (broker, disk, _) = with_two_spares();
    let before = disk.trace().len();
    broker.close(Duration::ZERO).unwrap();
    drop(broker);
    let mut platter = disk.began();
    let mut removed = 0;
    for (index, op) in disk.trace().iter().enumerate() {
        platter.apply(op);
        if index < before {
            continue;
        }
        removed += usize::from(matches!(op, Op::Remove { .. }));
        for image in platter.images(1, Tearing::SomeEdges) {
            let storage = SimDisk::new(image.platter).storage();
            let broker = Broker::open_on(storage, options().segment_bytes(8 << 20));
            let broker = broker.unwrap_or_else(|error| panic!("image {}: {error}", image.name));
            broker.close(Duration::ZERO).unwrap();
        }
    }
    assert!(removed >= 2, "{removed}");
}

/// One that could not be removed was left, and the one that it names was not.
#[test]
fn two_spares_of_which_a_close_cannot_remove_one_are_none_of_the_log() {
    let mut failed = 0;
    for call in 0.. {
        let (broker, disk, _) = with_two_spares();
        disk.fail_at(disk.calls() + call, libc::EIO, Times::Once);
        let _ = broker.close(Duration::ZERO);
        drop(broker);
        if disk.faulted().is_empty() {
            break;
        }
        failed += 1;
        disk.mend();
        let broker = Broker::open_on(disk.storage(), options().segment_bytes(8 << 20));
        let broker = broker.unwrap_or_else(|error| panic!("call {call} failed: {error}"));
        assert_eq!(broker.recovery().messages, 3);
        broker.close(Duration::ZERO).unwrap();
    }
    assert!(failed >= 4, "{failed}");
}
