//! Disks without room, and processes without files: bugs, each with its story.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libmq::storage::Storage;
use libmq::{Broker, Delivery, Durability, ErrorKind, HandlerOptions, Message};
use libmq_suite::model::MAX_CRASHES;
use libmq_suite::{Op, SimDisk, Times};

use crate::crowded::Crowded;
use crate::run::options;
use crate::waiting::{comes, wait_until};

/// Where the disk had no room for the record that makes a message a dead letter instead of a delivery, the message
/// stayed leased to nobody: neither ready nor dead until the broker was opened again.
#[test]
fn a_message_that_cannot_become_a_dead_letter_on_a_full_disk_becomes_one_later() {
    let disk = SimDisk::default();
    for crash in 0..MAX_CRASHES {
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        if crash == 0 {
            broker.enqueue(Message::new("jobs", "killer")).unwrap();
        }
        let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap();
        drop(broker);
        drop(delivery);
    }
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    disk.fail_at(disk.calls(), libc::ENOSPC, Times::ForEver);
    // What only keeps a record goes on in the room that was made ahead, until that is used up as well.
    let full = (0..5000).find_map(|_| broker.advance(Duration::ZERO).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    let full = broker.receive("jobs", Duration::ZERO, None).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    disk.mend();
    assert!(broker.receive("jobs", Duration::ZERO, None).unwrap().is_none());
    assert_eq!(broker.dead_letters().count().unwrap(), 1);
}

/// Cleaning wrote again what little lived in the oldest segments, and only then removed those in which nothing did. On a
/// disk without room for the former the latter stayed too, snapshot after snapshot, though their room was all it took.
#[test]
fn segments_in_which_nothing_lives_go_first() {
    let disk = SimDisk::default();
    let storage = Crowded::new(&disk, u64::MAX);
    let options = options().capacity(10_000);
    let broker =
        Broker::open_on(Arc::clone(&storage) as Arc<dyn Storage>, options.clone()).unwrap();
    let garbage = |bytes: usize| {
        broker.enqueue(Message::new("mail", vec![1; bytes])).unwrap();
        broker.receive("mail", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
    };
    let last = || {
        let number = broker.metrics().unwrap().lsn.reserved / (64 << 10) + 1;
        format!("{number:08}.segment")
    };
    // For the settles and snapshots of so many more room is kept than there will be.
    for _ in 0..2_000 {
        broker.enqueue(Message::new("many", "1")).unwrap();
    }
    let old = [(); 5].map(|()| {
        broker.enqueue(Message::new("old", vec![2; 20_000])).unwrap();
        let segment = last();
        garbage(32_000);
        segment
    });
    let old = &old[4];
    garbage(50_000);
    let empty = last();
    garbage(50_000);
    assert!(*old < empty && empty < last());
    let has = |name: &str| disk.contents().iter().any(|(found, _)| found == name);
    storage.leave(256 << 10);
    broker.snapshot().unwrap();
    assert!(has(old), "what lives there has no other place yet");
    assert!(!has(&empty), "nothing lives there");
    storage.leave(1 << 40);
    broker.snapshot().unwrap();
    assert!(!has(old));
    drop(broker);
    let broker = Broker::open_on(disk.storage(), options).unwrap();
    assert_eq!(broker.recovery().messages, 2_005);
}

/// Their acks are more than half of what they take themselves, and a snapshot of them nearly as much: on a disk that they had
/// filled nothing could be acked any more, nor a snapshot taken, nor the directory opened again.
#[test]
fn a_disk_that_small_messages_have_filled_can_be_drained() {
    const BYTES_MAX: u64 = 3 << 20;
    for crashes in 0..3 {
        let disk = SimDisk::default();
        let storage = Crowded::new(&disk, BYTES_MAX);
        let open = || {
            let storage = Arc::clone(&storage) as Arc<dyn Storage>;
            Broker::open_on(storage, options().capacity(1_000_000)).unwrap()
        };
        let mut broker = open();
        let batch = vec![Message::new("jobs", "1"); 100];
        let full = (0..1000).find_map(|_| broker.enqueue_batch(&batch).err()).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        for _ in 0..crashes {
            drop(broker);
            broker = open();
        }
        wait_until(|| {
            let found = broker.receive_batch("jobs", 100, Duration::ZERO, None);
            let acked = found.and_then(|found| found.into_iter().try_for_each(Delivery::ack));
            assert!(storage.bytes().unwrap() <= BYTES_MAX);
            if let Err(full) = acked {
                assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
                broker.snapshot().unwrap();
            }
            let left = broker.metrics().unwrap().broker;
            left.ready + left.in_flight == 0
        });
        broker.snapshot().unwrap();
        wait_until(|| broker.enqueue_batch(&batch).is_ok());
    }
}

/// Where a message fitted neither into what was left of a segment nor into the spare, and the disk had no room for a
/// larger one, the log had gone on in the spare without saying so to who syncs. A close looped for ever.
#[test]
fn a_close_on_a_full_disk_ends() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    disk.fail_at(disk.calls(), libc::ENOSPC, Times::ForEver);
    let full = broker.enqueue(Message::new("jobs", vec![1; 100_000])).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    let closing = std::thread::spawn(move || broker.close(Duration::ZERO));
    assert!(comes(|| closing.is_finished()), "it never ends");
    closing.join().unwrap().unwrap();
    disk.mend();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert_eq!(broker.recovery().messages, 1);
}

/// Why there is no room for a record: none on the disk, or no file to be had from the system.
const NO_ROOM: [(i32, ErrorKind); 2] =
    [(libc::ENOSPC, ErrorKind::StorageFull), (libc::EMFILE, ErrorKind::Io)];

/// Uses up what a disk without room has left for settles.
fn fill(broker: &Broker, disk: &SimDisk, (code, kind): (i32, ErrorKind)) {
    disk.fail_at(disk.calls(), code, Times::ForEver);
    // What only keeps a record goes on in the room that was made ahead.
    let full = (0..5000).find_map(|_| broker.advance(Duration::ZERO).err()).unwrap();
    assert_eq!(full.kind(), kind, "{full}");
}

/// What a handler had answered was forgotten where the disk had no room for the record. Its message stayed in flight, and
/// its permit in use, until the timeout; then it was handled once more, and counted as if the handler had been too slow. Where
/// the process had no more files, so it was for longer.
#[test]
fn what_a_handler_answered_on_a_full_disk_is_written_when_there_is_room() {
    NO_ROOM.into_iter().for_each(what_a_handler_answered_is_written);
}

fn what_a_handler_answered_is_written(no_room: (i32, ErrorKind)) {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    broker
        .handle("jobs", HandlerOptions::new(), move |context| {
            context.enqueue(Message::new("mail", "child"))?;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    fill(&broker, &disk, no_room);
    broker.start().unwrap();
    wait_until(|| calls.load(Ordering::SeqCst) == 1);
    assert!(!broker.wait_idle(Duration::from_millis(200)).unwrap());
    // Far beyond the timeout and its grace.
    assert_eq!(broker.advance(Duration::from_secs(3600)).unwrap_err().kind(), no_room.1);
    disk.mend();
    broker.advance(Duration::ZERO).unwrap();
    assert!(broker.wait_idle(Duration::from_secs(20)).unwrap());
    let metrics = broker.metrics().unwrap();
    let jobs = &metrics.queues["jobs"];
    assert_eq!((jobs.delivered, jobs.acked, jobs.timeouts, jobs.retried), (1, 1, 0, 0));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(broker.receive("mail", Duration::ZERO, None).unwrap().unwrap().body(), b"child");
}

/// What a handler has acked is logged together, and noted before: on a full disk as many are noted as are logged together, and the
/// next one is kept with its permit, so no handler runs on without end. All are logged when there is room, and handled once.
#[test]
fn what_a_handler_acks_on_a_full_disk_is_noted_up_to_a_bound_and_logged_when_there_is_room() {
    const MESSAGES: u32 = 100;
    const NOTED: u32 = 64;
    for no_room in NO_ROOM {
        let disk = SimDisk::default();
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let options_of_one = HandlerOptions::new().max_parallelism(1);
        broker
            .handle("jobs", options_of_one, move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        for _ in 0..MESSAGES {
            broker.enqueue(Message::new("jobs", "")).unwrap();
        }
        fill(&broker, &disk, no_room);
        broker.start().unwrap();
        wait_until(|| calls.load(Ordering::SeqCst) > NOTED);
        assert!(!broker.wait_idle(Duration::from_millis(200)).unwrap());
        assert_eq!(calls.load(Ordering::SeqCst), NOTED + 1);
        disk.mend();
        assert!(broker.wait_idle(Duration::from_secs(20)).unwrap());
        let metrics = broker.metrics().unwrap();
        assert_eq!(metrics.queues["jobs"].acked, u64::from(MESSAGES));
        assert_eq!(calls.load(Ordering::SeqCst), MESSAGES);
        drop(broker);
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        assert!(broker.receive("jobs", Duration::ZERO, None).unwrap().is_none());
    }
}

/// Few were acked, and no worker had more to do: nobody but the keeper of the disk could log them when there was room.
#[test]
fn the_last_acks_on_a_full_disk_are_logged_when_there_is_room() {
    for no_room in NO_ROOM {
        let disk = SimDisk::default();
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        broker.handle("jobs", HandlerOptions::new(), |_| Ok(())).unwrap();
        for _ in 0..3 {
            broker.enqueue(Message::new("jobs", "")).unwrap();
        }
        fill(&broker, &disk, no_room);
        broker.start().unwrap();
        wait_until(|| broker.metrics().unwrap().queues["jobs"].acked == 3);
        assert!(!broker.wait_idle(Duration::from_millis(200)).unwrap());
        disk.mend();
        assert!(broker.wait_idle(Duration::from_secs(20)).unwrap());
    }
}

/// Handlers had answered, and pulled deliveries were refused their acks, on a full disk; then the process died. Whoever opened
/// the directory next suspected all of their messages, which were in nobody's hands any more: three such deaths, and they
/// were dead letters `crashed`.
#[test]
fn what_has_ended_on_a_full_disk_is_no_suspect_after_a_crash() {
    for no_room in NO_ROOM {
        let disk = SimDisk::default();
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        broker
            .handle("jobs", HandlerOptions::new(), move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        for queue in ["jobs", "pulled", "held"] {
            broker.enqueue(Message::new(queue, "one")).unwrap();
        }
        let pulled = broker.receive("pulled", Duration::ZERO, None).unwrap().unwrap();
        let held = broker.receive("held", Duration::ZERO, None).unwrap().unwrap();
        fill(&broker, &disk, no_room);
        broker.start().unwrap();
        wait_until(|| calls.load(Ordering::SeqCst) == 1);
        assert_eq!(pulled.ack().unwrap_err().kind(), no_room.1);
        assert!(!broker.wait_idle(Duration::from_millis(200)).unwrap());
        drop(broker);
        drop(held);
        disk.mend();
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        // What was still being handled, and nothing else.
        assert_eq!(broker.recovery().suspects, 1);
    }
}

/// A delivery whose ack was answered `STORAGE_FULL` was gone, and its message held by nobody until the lease ran out; that
/// counted as an attempt.
#[test]
fn a_delivery_that_the_full_disk_did_not_let_settle_is_given_back_when_there_is_room() {
    NO_ROOM.into_iter().for_each(a_delivery_that_could_not_be_settled_is_given_back);
}

fn a_delivery_that_could_not_be_settled_is_given_back(no_room: (i32, ErrorKind)) {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
    fill(&broker, &disk, no_room);
    assert_eq!(delivery.ack().unwrap_err().kind(), no_room.1);
    disk.mend();
    let again = broker.receive("jobs", Duration::from_secs(20), None).unwrap().unwrap();
    assert_eq!(again.attempt(), 1);
    // A settle that does not end its delivery leaves it as it was.
    again.enqueue(Message::new("mail", "child")).unwrap();
    fill(&broker, &disk, no_room);
    assert_eq!(again.settle(Ok(())).unwrap_err().kind(), no_room.1);
    disk.mend();
    again.settle(Ok(())).unwrap();
    // It is of level sync, and the settle is not.
    let child = broker.receive("mail", Duration::from_secs(20), None).unwrap();
    assert_eq!(child.unwrap().body(), b"child");
}

/// A worker that found no file to write to left for good, as if nothing could be had any more; with the last one the queue
/// was without a handler, on a broker that was sound.
#[test]
fn a_worker_that_finds_no_room_stays() {
    for no_room in NO_ROOM {
        let disk = SimDisk::default();
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        broker.enqueue(Message::new("jobs", "old").expires_in(Duration::from_secs(1))).unwrap();
        broker.enqueue(Message::new("jobs", "new")).unwrap();
        fill(&broker, &disk, no_room);
        // Over, and the record that says so finds no room.
        assert_eq!(broker.advance(Duration::from_secs(2)).unwrap_err().kind(), no_room.1);
        broker.handle("jobs", HandlerOptions::new(), |_| Ok(())).unwrap();
        broker.start().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        disk.mend();
        wait_until(|| broker.metrics().unwrap().broker.acked == 1);
    }
}

/// Where nobody had looked yet whether there is room for the next spare, enqueues filled the last segment to its end, and
/// nothing was left for settles: the disk was full and could not be drained.
#[test]
fn a_full_disk_keeps_room_for_settles() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    disk.fail_at(disk.calls(), libc::ENOSPC, Times::ForEver);
    let message = || Message::new("jobs", vec![1; 500]).durability(Durability::Os);
    let enqueued = (0..1000).take_while(|_| broker.enqueue(message()).is_ok()).count();
    assert_eq!(broker.enqueue(message()).unwrap_err().kind(), ErrorKind::StorageFull);
    // What the first segment holds, at least: the broker's own thread may find right behind its end that there is no room
    // for the next spare, and from then on nothing grows.
    assert!(enqueued >= 99, "{enqueued}");
    for _ in 0..enqueued {
        broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
    }
}

/// Segments whose messages were all done went with the next snapshot, but none was due for that the disk was full. So it
/// stayed full after everything had been acked, until enough else was written, for which there was no room.
#[test]
fn a_full_disk_has_room_again_when_what_filled_it_is_done() {
    let disk = SimDisk::default();
    let storage = Crowded::new(&disk, 640 << 10);
    let options = options().sync_interval(Duration::from_millis(5));
    let broker = Broker::open_on(storage, options).unwrap();
    let message = || Message::new("jobs", vec![1; 5000]).durability(Durability::Os);
    let enqueued = (0..1000).take_while(|_| broker.enqueue(message()).is_ok()).count();
    assert!(enqueued > 30, "{enqueued}");
    for _ in 0..enqueued {
        broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
    }
    wait_until(|| broker.enqueue(message()).is_ok());
}

/// A snapshot after which not everything could be cleaned was not counted as taken. The next one was due at the next
/// sync, and so on: the whole state was written again and again.
#[test]
fn a_snapshot_counts_though_not_all_could_be_cleaned() {
    // In four segments lives a message of 7000 bytes each, and the disk has no room for another segment.
    let fill = |threshold: u64, records: usize| {
        let disk = SimDisk::default();
        let storage = Crowded::new(&disk, u64::MAX);
        let options = options().sync_interval(Duration::from_millis(5));
        let options = options.snapshot_threshold(threshold);
        let broker = Broker::open_on(Arc::clone(&storage) as Arc<dyn Storage>, options).unwrap();
        for _ in 0..4 {
            broker.enqueue(Message::new("old", vec![2; 7_000])).unwrap();
            broker.enqueue(Message::new("mail", vec![1; 50_000])).unwrap();
            broker.receive("mail", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
        }
        wait_until(|| broker.metrics().unwrap().segments == 4);
        storage.leave(32 << 10);
        let done = (0..records).take_while(|_| broker.advance(Duration::ZERO).is_ok()).count();
        (disk, broker, done)
    };
    let (.., most) = fill(u64::MAX, usize::MAX);
    // There is room for forty records, and for none of the messages.
    let (disk, broker, _) = fill(most as u64 - 40, most - 40);
    let snapshots = || {
        let is_one = |op: &&Op| matches!(op, Op::Rename { to, .. } if to.ends_with(".snapshot"));
        disk.trace().iter().filter(is_one).count()
    };
    wait_until(|| snapshots() > 0);
    let began = Instant::now();
    for _ in 0..10 {
        broker.advance(Duration::ZERO).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    // That the disk is full is a reason for another one, once a second.
    let most = 1 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(snapshots() <= most, "{} snapshots", snapshots());
}
