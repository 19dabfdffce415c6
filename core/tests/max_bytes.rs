//! `max_bytes` on a real directory: it is never passed, and what came to it can be drained, cleaned and opened again.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::path::Path;
use std::time::{Duration, Instant};

use libmq::{Broker, Durability, ErrorKind, Message, Options};

const BYTES_MAX: u64 = 1 << 20;

/// Far longer than what it bounds takes.
const LONG: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options::new().max_bytes(BYTES_MAX).durability(Durability::Os)
}

fn message() -> Message<'static> {
    Message::new("jobs", vec![7; 3_000])
}

fn bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    // A file may get another name between the listing and the look.
    files.filter_map(|file| file.unwrap().metadata().ok()).map(|file| file.len()).sum()
}

/// Enqueues until there is no room; answers how many that were.
fn fill(broker: &Broker, dir: &Path) -> usize {
    for count in 0.. {
        match broker.enqueue(message()) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                assert!(error.is_retryable(), "{error}");
                return count;
            }
        }
        let taken = bytes(dir);
        assert!(taken <= BYTES_MAX, "{taken} bytes after {count} messages");
    }
    0
}

fn drain(broker: &Broker) -> usize {
    let mut count = 0;
    while let Some(delivery) = broker.receive("jobs", Duration::ZERO, None).unwrap() {
        delivery.ack().unwrap();
        count += 1;
    }
    count
}

fn wait_for_room(broker: &Broker) {
    let began = Instant::now();
    while broker.enqueue(message()).is_err() {
        assert!(began.elapsed() < LONG, "no room came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_directory_that_came_to_its_limit_has_room_again_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), options()).unwrap();
    for _ in 0..3 {
        let count = fill(&broker, dir.path());
        assert!(count > 100, "{count}");
        assert!(drain(&broker) >= count);
        wait_for_room(&broker);
        assert!(bytes(dir.path()) <= BYTES_MAX);
    }
}

#[test]
fn a_directory_that_came_to_its_limit_opens_after_a_crash_and_after_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let mut left = 0;
    for round in 0..6 {
        let broker = Broker::open(dir.path(), options()).unwrap();
        assert_eq!(broker.recovery().messages, left as u64);
        left += fill(&broker, dir.path());
        let taken = bytes(dir.path());
        assert!(taken <= BYTES_MAX, "{taken} bytes in round {round}");
        if round % 2 == 0 {
            broker.close(LONG).unwrap();
        }
    }
    let broker = Broker::open(dir.path(), options()).unwrap();
    assert_eq!(drain(&broker), left);
    wait_for_room(&broker);
}

#[test]
fn a_smaller_limit_than_what_is_there_is_one_for_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new().segment_bytes(64 << 10)).unwrap();
    broker.enqueue_batch(&vec![message(); 1_000]).unwrap();
    broker.close(LONG).unwrap();

    let broker = Broker::open(dir.path(), options()).unwrap();
    assert_eq!(broker.enqueue(message()).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(drain(&broker), 1_000);
    wait_for_room(&broker);
    assert!(bytes(dir.path()) <= BYTES_MAX);
}
