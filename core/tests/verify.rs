//! Verifying directories on a real disk: what is found, and that nothing is changed by looking.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test's helpers are the test's own"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use libmq::{Broker, ErrorKind, Message, Options, limits, verify};

const LONG: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options::new().segment_bytes(64 << 10)
}

/// All entries: name, when it was changed, content.
fn all(directory: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        let bytes = fs::read(&path).unwrap();
        (path, changed, bytes)
    };
    let mut all: Vec<_> = entries.map(read).collect();
    all.sort();
    all
}

/// A directory of some segments, closed: one dead letter and so many messages, whose bodies begin with `body` and a number,
/// all from before the snapshot. Answers the first one's id.
fn closed(path: &Path, messages: usize) -> u64 {
    let broker = Broker::open(path, options()).unwrap();
    broker.enqueue(Message::new("jobs", "the body of a dead letter")).unwrap();
    broker.receive("jobs", None, None).unwrap().unwrap().reject("no").unwrap();
    let enqueued = (0..messages).map(|number| {
        broker.enqueue(Message::new("jobs", format!("body {number};{:700}", ""))).unwrap().id
    });
    let first = enqueued.min().unwrap();
    broker.snapshot().unwrap();
    broker.close(LONG).unwrap();
    first
}

/// Changes one byte of what is found in one of the segments.
fn damage(directory: &Path, what: &str) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(what.len()).position(|bytes| bytes == what.as_bytes()) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("{what} was not found");
}

#[test]
fn what_is_there_is_told_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path(), 100);
    let before = all(dir.path());
    let report = verify(dir.path()).unwrap();
    assert!(report.sound() && report.closed, "{report:?}");
    assert_eq!((report.messages, report.dead_letters, report.suspects), (100, 1, 0));
    assert_eq!(report.dropped_bytes, 0);
    assert!(report.segments >= 2 && report.snapshot.is_some(), "{report:?}");
    let bytes: u64 = before.iter().map(|(_, _, bytes)| bytes.len() as u64).sum();
    assert_eq!(report.bytes, bytes);
    assert_eq!(all(dir.path()), before);

    let broker = Broker::open(dir.path(), options()).unwrap();
    let found = broker.recovery();
    assert_eq!((found.messages, found.dead_letters), (report.messages, report.dead_letters));
    assert_eq!((found.records, found.snapshot), (report.records, report.snapshot));
}

#[test]
fn what_a_crash_left_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), options()).unwrap();
    for body in ["one", "two"] {
        broker.enqueue(Message::new("jobs", body)).unwrap();
    }
    let held = broker.receive("jobs", None, None).unwrap().unwrap();
    // Without a close, as a crash.
    drop(broker);
    drop(held);
    let before = all(dir.path());
    let report = verify(dir.path()).unwrap();
    assert!(report.sound() && !report.closed, "{report:?}");
    assert_eq!((report.messages, report.suspects, report.snapshot), (2, 1, None));
    assert_eq!(all(dir.path()), before);
    assert_eq!(Broker::open(dir.path(), options()).unwrap().recovery().suspects, 1);
}

#[test]
fn every_damaged_body_is_found_that_an_open_does_not_read() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path(), 100);
    for what in ["body 3;", "the body of a dead letter", "body 77;"] {
        damage(dir.path(), what);
    }
    let before = all(dir.path());
    let report = verify(dir.path()).unwrap();
    assert!(!report.sound());
    assert_eq!((report.messages, report.dead_letters), (100, 1));
    assert_eq!(report.problems.len(), 3, "{:?}", report.problems);
    let mut last = 0;
    for problem in &report.problems {
        assert_eq!(problem.kind, ErrorKind::Corrupt);
        assert!(problem.path.starts_with(dir.path()) && problem.path.is_file());
        let offset = problem.offset.unwrap();
        assert!(
            offset >= 4096 && problem.text.contains(&format!("offset {offset}")),
            "{problem:?}"
        );
        let number: u64 = problem.path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        assert!(number << 32 | offset > last, "in the order of the log");
        last = number << 32 | offset;
    }
    assert_eq!(all(dir.path()), before);
    Broker::open(dir.path(), options()).unwrap();
}

/// A body from before the snapshot that does not check is handed to nobody; it can be given up unread.
#[test]
fn a_damaged_body_poisons_when_its_turn_comes_and_can_be_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let first = closed(dir.path(), 3);
    damage(dir.path(), "body 0;");
    damage(dir.path(), "the body of a dead letter");
    let broker = Broker::open(dir.path(), options()).unwrap();
    let letter = broker.dead_letters().list(None, 10, None).unwrap_err();
    assert_eq!(letter.kind(), ErrorKind::Corrupt);
    let error = broker.receive("jobs", Duration::ZERO, None).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Poisoned), "{error}");
    let error = broker.receive("jobs", Duration::ZERO, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    let error = broker.enqueue(Message::new("jobs", "more")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    drop(broker);

    let broker = Broker::open(dir.path(), options()).unwrap();
    assert_eq!(broker.recovery().messages, 3, "nothing was lost by that");
    assert!(broker.cancel(first).unwrap());
    assert_eq!(broker.dead_letters().purge(None).unwrap(), 1);
    for number in [1, 2] {
        let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
        assert!(delivery.body().starts_with(format!("body {number};").as_bytes()));
        delivery.ack().unwrap();
    }
    broker.close(LONG).unwrap();
    assert!(verify(dir.path()).unwrap().sound());
}

/// How many segments are left of a directory in which one message of twenty lives, and what a snapshot of it answers.
fn cleaned(is_damaged: bool) -> (u64, libmq::Result<()>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let options = options().cache_bytes(0);
    let broker = Broker::open(dir.path(), options.clone()).unwrap();
    for number in 0..2_000 {
        let queue = if number % 20 == 0 { "kept" } else { "done" };
        broker.enqueue(Message::new(queue, format!("body {number};{:500}", ""))).unwrap();
    }
    broker.snapshot().unwrap();
    broker.close(LONG).unwrap();
    if is_damaged {
        damage(dir.path(), "body 100;");
    }
    let is_told = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_told);
    let options = options.log(move |event| {
        if event.name == "not_cleaned" {
            told.store(true, Ordering::SeqCst);
        }
    });
    let broker = Broker::open(dir.path(), options).unwrap();
    while let Some(delivery) = broker.receive("done", Duration::ZERO, None).unwrap() {
        delivery.ack().unwrap();
    }
    let answer = broker.snapshot();
    let segments = broker.metrics().unwrap().segments;
    broker.close(LONG).unwrap();
    (segments, answer, is_told.load(Ordering::SeqCst))
}

/// One body that could not be read ended all cleaning, for good and without a word.
#[test]
fn a_damaged_body_keeps_its_own_segment_alone() {
    let (sound, answer, is_told) = cleaned(false);
    answer.unwrap();
    assert!(!is_told);
    let (damaged, answer, is_told) = cleaned(true);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(is_told);
    assert!(damaged <= sound + 1, "{damaged} segments are left, and {sound} of a sound one");
}

#[test]
fn problems_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let count = limits::PROBLEMS_MAX + 5;
    closed(dir.path(), count);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let bodies: Vec<usize> = bytes
            .windows(5)
            .enumerate()
            .filter_map(|(at, bytes)| (bytes == b"body ").then_some(at))
            .collect();
        for at in bodies {
            bytes[at] ^= 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.problems.len(), limits::PROBLEMS_MAX);
}

/// What an open would say first is the first problem, in damage of all kinds of files.
#[test]
fn a_flipped_bit_in_a_head_is_what_an_open_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broker");
    closed(&path, 5);
    drop(Broker::open(&path, options()).unwrap());
    for (name, _, sound) in all(&path) {
        for bit in 0..16 * 8 {
            let mut damaged = sound.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&name, &damaged).unwrap();
            let report = verify(&path).unwrap();
            assert_eq!(fs::read(&name).unwrap(), damaged);
            if name.ends_with("lock") {
                assert!(report.sound(), "{report:?}");
                continue;
            }
            let refused = Broker::open(&path, options()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
            assert_eq!(report.problems[0].text, refused.to_string());
            // Who was refused may have left a word in the lock.
        }
        fs::write(&name, sound).unwrap();
    }
    assert!(verify(&path).unwrap().sound());
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path(), 5);
    fs::create_dir(dir.path().join("00000099.segment")).unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!((report.problems[0].kind, report.problems[0].offset), (ErrorKind::Io, None));
    assert!(report.problems[0].path.ends_with("00000099.segment"));
}

#[test]
fn what_nobody_can_look_at_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("foreign")).unwrap();
    fs::write(at("foreign/file"), "precious").unwrap();
    fs::create_dir(at("locked")).unwrap();
    fs::write(at("locked/lock"), "somebody else's").unwrap();
    for name in ["missing", "empty", "foreign", "foreign/file", "foreign/file/below", "locked"] {
        let error = verify(at(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}: {error}");
    }
    assert_eq!(verify("").unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!at("missing").exists());
    assert_eq!(fs::read_dir(at("empty")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(at("foreign")).unwrap().count(), 1);

    let broker = Broker::open(at("broker"), options()).unwrap();
    let error = verify(at("broker")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert_eq!(error.owner().unwrap().pid, std::process::id());
    broker.close(LONG).unwrap();
    assert!(verify(at("broker")).unwrap().sound());
}

/// Neither reads a directory in which this file is of another version.
fn assert_unsupported(directory: &Path, file: &Path) {
    for error in [verify(directory).unwrap_err(), Broker::open(directory, options()).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(error.path(), Some(file), "{error}");
    }
}

#[test]
fn another_version_is_unsupported() {
    // A file, and where the checksum of its header lies.
    for (kind, checksum) in [("segment", 80), ("snapshot", 56)] {
        let dir = tempfile::tempdir().unwrap();
        closed(dir.path(), 5);
        let mut names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let path = names.find(|path| path.extension().is_some_and(|found| found == kind)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] += 1;
        let crc = crc32fast::hash(&bytes[..checksum]).to_le_bytes();
        bytes[checksum..checksum + 4].copy_from_slice(&crc);
        fs::write(&path, bytes).unwrap();
        assert_unsupported(dir.path(), &path);
        // The same where nothing else is left: an open said of a snapshot that there was no segment.
        let others = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        others.filter(|other| *other != path).for_each(|other| fs::remove_file(other).unwrap());
        assert_unsupported(dir.path(), &path);
    }
}
