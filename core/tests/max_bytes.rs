//! `max_bytes` on a real directory: it is never passed, and what came to it can be drained, cleaned and opened again.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
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
        let mut count = fill(&broker, dir.path());
        // What was settled before takes its room until the next snapshot, and there may have been a little without it.
        while count <= 100 {
            wait_for_room(&broker);
            count += fill(&broker, dir.path());
        }
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

/// Each try used up the segment that had been made ahead, which the message did not fit into: others were refused, too.
#[test]
fn what_has_no_room_takes_none_from_others() {
    for (max_mib, kept, large_mib) in [(1, 0, 2), (4, 0, 8), (16, 0, 15), (16, 8, 8)] {
        let dir = tempfile::tempdir().unwrap();
        let options = options().max_bytes(max_mib << 20);
        let broker = Broker::open(dir.path(), options).unwrap();
        for _ in 0..kept {
            broker.enqueue(Message::new("kept", vec![7; 900 << 10])).unwrap();
        }
        let large = Message::new("jobs", vec![7; large_mib << 20]);
        for _ in 0..100 {
            let refused = broker.enqueue(large.clone()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::StorageFull, "{refused}");
            broker.enqueue(Message::new("jobs", "small")).unwrap();
            broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
        }
        broker.close(LONG).unwrap();
    }
}

/// Their acks are more than half of what they take themselves, and a snapshot of them nearly as much: what was kept was too
/// little for either, and neither an ack nor a purge nor a snapshot could ever be written again.
#[test]
fn small_messages_that_came_to_the_limit_can_be_drained_and_purged() {
    let small = Message::new("jobs", "1");
    let options = options().max_bytes(8 * BYTES_MAX).capacity(1_000_000);
    for (purged, crashes) in [(false, 0), (false, 2), (true, 0), (true, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let mut broker = Broker::open(dir.path(), options.clone()).unwrap();
        let batch = vec![small.clone(); 100];
        while broker.enqueue_batch(&batch).is_ok() {
            assert!(bytes(dir.path()) <= 8 * BYTES_MAX);
        }
        let full = broker.enqueue_batch(&batch).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        for _ in 0..crashes {
            // Without a close: as if the process had died.
            drop(broker);
            broker = Broker::open(dir.path(), options.clone()).unwrap();
        }
        let began = Instant::now();
        let left = || {
            let figures = broker.metrics().unwrap().broker;
            figures.ready + figures.in_flight
        };
        while left() > 0 {
            assert!(began.elapsed() < LONG, "{} are left", left());
            let done = match purged {
                true => broker.purge("jobs").map(drop),
                false => broker
                    .receive_batch("jobs", 100, Duration::ZERO, None)
                    .and_then(|found| found.into_iter().try_for_each(|delivery| delivery.ack())),
            };
            if let Err(full) = done {
                assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        wait_for_room(&broker);
    }
}

/// One message was refused while others had filled the directory, which told the keeper of the disk; that there was room again was
/// seen by another keeper, which told nobody.
#[test]
fn who_was_told_that_there_is_no_room_is_told_that_there_is_some_again() {
    let dir = tempfile::tempdir().unwrap();
    let (hook, told) = mpsc::channel();
    let options =
        Options::new().durability(Durability::Os).segment_bytes(64 << 10).max_bytes(10 << 20).log(
            move |event| {
                if event.name.starts_with("storage_") {
                    hook.send(event.name).unwrap();
                }
            },
        );
    let broker = Broker::open(dir.path(), options).unwrap();
    broker.enqueue(Message::new("jobs", "first")).unwrap();
    let held = broker.receive("jobs", None, None).unwrap().unwrap();
    let others = dir.path().join("others");
    File::create(&others).unwrap().set_len(20 << 20).unwrap();
    let large = || broker.enqueue(Message::new("jobs", vec![7; 100_000]));
    assert_eq!(large().unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(told.recv_timeout(LONG).unwrap(), "storage_full");
    std::fs::remove_file(&others).unwrap();
    // Behind the sync of this it is asked whether there is some.
    held.ack().unwrap();
    assert_eq!(told.recv_timeout(LONG).unwrap(), "storage_room");
    large().unwrap();
}

/// A batch that no ordinary segment has room for goes on behind the spare, in one that is made for it. Who made the next ordinary one
/// came between again and again, and the log went on in that as well, until there was no room for the large one.
#[test]
fn a_batch_larger_than_a_segment_has_room_whoever_makes_ordinary_ones() {
    for round in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().max_bytes(768 << 10).segment_bytes(64 << 10);
        let broker = Broker::open(dir.path(), options.durability(Durability::Os)).unwrap();
        let batch: Vec<Message<'_>> =
            (0..4).map(|_| Message::new("jobs", vec![7; 60_000])).collect();
        let enqueued = broker.enqueue_batch(&batch);
        assert!(enqueued.is_ok(), "round {round}: {enqueued:?}");
        assert_eq!(broker.enqueue_batch(&batch).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(drain(&broker), 4);
        broker.snapshot().unwrap();
        let enqueued = broker.enqueue_batch(&batch);
        assert!(enqueued.is_ok(), "round {round}, when all was done: {enqueued:?}");
    }
}
