//! A directory that is moved, replaced or taken apart while a broker has it open.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libmq::{Broker, Durability, ErrorKind, Message, Options};

const LONG: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options::new().segment_bytes(64 << 10).sync_interval(Duration::from_millis(10))
}

/// A broker with one message, and its directory.
fn opened(dir: &Path) -> (Broker, PathBuf) {
    let path = dir.join("queue");
    let broker = Broker::open(&path, options()).unwrap();
    broker.enqueue(Message::new("jobs", "before")).unwrap();
    (broker, path)
}

fn is_poisoned(broker: &Broker) {
    let error = broker.enqueue(Message::new("jobs", "after")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    let _ = broker.close(LONG);
}

/// The bodies in a directory.
fn bodies(path: &Path) -> Vec<String> {
    let broker = Broker::open(path, options()).unwrap();
    let mut bodies = Vec::new();
    while let Some(delivery) = broker.receive("jobs", Duration::ZERO, None).unwrap() {
        bodies.push(String::from_utf8(delivery.body().to_vec()).unwrap());
        delivery.ack().unwrap();
    }
    broker.close(LONG).unwrap();
    bodies
}

/// Whoever opens the directory next would have had it to themselves, beside this broker.
#[test]
fn a_broker_whose_lock_was_removed_is_poisoned() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = opened(dir.path());
    fs::remove_file(path.join("lock")).unwrap();
    is_poisoned(&broker);
    assert_eq!(bodies(&path)[0], "before");
}

#[test]
fn a_broker_whose_directory_was_moved_is_poisoned_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = opened(dir.path());
    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    is_poisoned(&broker);
    assert!(!path.exists());
    assert_eq!(bodies(&dir.path().join("elsewhere"))[0], "before");
}

/// The next segment was made in the directory that had come to its place.
#[test]
fn nothing_is_made_in_a_directory_that_has_come_to_the_place_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = opened(dir.path());
    let (other, other_path) = (dir.path().join("other"), dir.path().join("elsewhere"));
    drop(Broker::open(&other, options()).unwrap());
    fs::rename(&path, &other_path).unwrap();
    fs::rename(&other, &path).unwrap();
    let names = || {
        let names = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let before = names();
    // More than the segments hold that are there.
    let body = vec![b'x'; 30_000];
    let message = || Message::new("jobs", &body[..]).durability(Durability::Os);
    let refused = (0..20).find_map(|_| broker.enqueue(message()).err()).unwrap();
    assert!([ErrorKind::Poisoned, ErrorKind::Io].contains(&refused.kind()), "{refused}");
    assert!(broker.snapshot().is_err());
    is_poisoned(&broker);
    assert_eq!(names(), before);
    assert_eq!(bodies(&other_path)[0], "before");
}

#[test]
fn a_broker_whose_segment_was_removed_is_poisoned() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = opened(dir.path());
    fs::remove_file(path.join("00000001.segment")).unwrap();
    is_poisoned(&broker);
}

/// A sync was answered well although most of the log was gone from the file.
#[test]
fn a_broker_whose_segment_was_cut_is_poisoned() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = opened(dir.path());
    let segment = fs::File::options().write(true).open(path.join("00000001.segment")).unwrap();
    segment.set_len(4096).unwrap();
    is_poisoned(&broker);
}

/// The text named the segment, which was not there.
#[test]
fn what_is_in_the_way_of_a_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("00000001.segment.tmp")).unwrap();
    let error = Broker::open(dir.path(), options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("00000001.segment.tmp"), "{error}");
}

/// Nobody waits for a sync there.
#[test]
fn who_asks_for_no_sync_hears_of_it_at_the_next_one_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    let broker = Broker::open(&path, options().durability(Durability::Os)).unwrap();
    broker.enqueue(Message::new("jobs", "before")).unwrap();
    fs::remove_dir_all(&path).unwrap();
    let end = Instant::now() + LONG;
    while broker.enqueue(Message::new("jobs", "x")).is_ok() {
        assert!(Instant::now() < end, "nobody noticed");
        std::thread::sleep(Duration::from_millis(5));
    }
    is_poisoned(&broker);
}

#[test]
fn a_directory_that_everybody_may_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Broker::open(&path, options()).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Invalid, Some(&*path)), "{error}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o775)).unwrap();
    Broker::open(&path, options()).unwrap().close(LONG).unwrap();
}

/// Its text was overwritten by that of the owner.
#[test]
fn a_lock_that_has_another_name_is_locked_and_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (path, precious) = (dir.path().join("queue"), dir.path().join("precious"));
    Broker::open(&path, options()).unwrap().close(LONG).unwrap();
    fs::write(&precious, "precious").unwrap();
    fs::remove_file(path.join("lock")).unwrap();
    fs::hard_link(&precious, path.join("lock")).unwrap();
    let broker = Broker::open(&path, options()).unwrap();
    assert_eq!(Broker::open(&path, options()).unwrap_err().kind(), ErrorKind::Locked);
    broker.close(LONG).unwrap();
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}
