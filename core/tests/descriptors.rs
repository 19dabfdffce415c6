//! How many files a broker has open.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::path::Path;
use std::time::Duration;

use libmq::{Broker, Durability, Message, Options};

/// The files of a directory that this process has open: those that are there, and those that were removed.
fn open_files(directory: &Path) -> (usize, usize) {
    let directory = directory.to_str().unwrap();
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|file| {
        let link = std::fs::read_link(file.unwrap().path()).ok()?;
        link.to_str().map(str::to_owned)
    });
    let (gone, there): (Vec<_>, Vec<_>) = links
        .filter(|link| link.starts_with(directory))
        .partition(|link| link.ends_with(" (deleted)"));
    (there.len(), gone.len())
}

/// What was read last was kept in memory with the file that it was read from: removed segments stayed open, up to
/// `cache_bytes` of them. Their room was not to be had by anybody, so that a full disk stayed full; and a process ran out of
/// descriptors, though its queues were always empty.
#[test]
fn a_segment_that_is_removed_is_not_kept_open() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(64 << 10).durability(Durability::Os);
    let broker = Broker::open(dir.path(), options).unwrap();
    let body = vec![b'x'; 4000];
    for round in 0..2000 {
        broker.enqueue(Message::new("q", &*body)).unwrap();
        broker.receive("q", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
        if round % 100 == 99 {
            broker.snapshot().unwrap();
        }
    }
    let (there, gone) = open_files(dir.path());
    assert!(there < 20 && gone < 20, "{there} are there, {gone} were removed");
    let waits = broker.enqueue(Message::new("q", &*body)).unwrap();
    let delivery = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
    for _ in 0..500 {
        broker.enqueue(Message::new("q", &*body)).unwrap();
    }
    // Closed, it has hardly any, though its handle is still there; and what was handed out can be read.
    broker.close(Duration::ZERO).unwrap();
    let (there, gone) = open_files(dir.path());
    assert!(there + gone < 8, "{there} are there, {gone} were removed");
    assert_eq!((delivery.id(), delivery.body()), (waits.id, &*body));
}

/// It kept its last segment and the file of its marks as long as anybody had a handle, which in a language that collects garbage
/// is until it does: a program that opened brokers again and again ran out of descriptors.
#[test]
fn a_broker_that_is_closed_has_no_file_open() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    broker.enqueue(Message::new("q", "body")).unwrap();
    let delivery = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
    drop(delivery);
    broker.close(Duration::ZERO).unwrap();
    assert_eq!(open_files(dir.path()), (0, 0));
    drop(broker);
}
