//! Bugs that the enumerations found, or that they are too coarse for: each with its story.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use libmq::{Broker, Dedup, Durability, ErrorKind, Message, OnFull};
use libmq_suite::model::MAX_CRASHES;
use libmq_suite::{Call, Op, Platter, SimDisk, Times};

use crate::run::options;
use crate::waiting::{comes, wait_until};

/// `advance` and the timekeeper looked at what was due at the same time. What the timekeeper had just taken out of the
/// schedule was in no place for a moment, and a receive after `advance` came back empty-handed, with nothing delayed.
#[test]
fn after_advance_what_is_due_is_ready() {
    let broker = Broker::open_on(SimDisk::default().storage(), options()).unwrap();
    for round in 0..3000 {
        for body in ["one", "two"] {
            broker.enqueue(Message::new("jobs", body).delay(Duration::from_secs(10))).unwrap();
        }
        broker.advance(Duration::from_secs(10)).unwrap();
        for _ in 0..2 {
            let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap();
            delivery.unwrap_or_else(|| panic!("round {round}: nothing was ready")).ack().unwrap();
        }
    }
}

/// What had expired when it was given back was ended by the timekeeper. A call of `advance` meanwhile found it in no table any
/// more, and returned before it was gone: figures still had it, and after a death of the process it was found once more.
#[test]
fn after_advance_what_has_expired_is_gone() {
    const SECOND: Duration = Duration::from_secs(1);
    let broker = Broker::open_on(SimDisk::default().storage(), options()).unwrap();
    for round in 1..3000 {
        let message = Message::new("jobs", "brief").expires_in(SECOND);
        broker.enqueue(message.durability(Durability::Os)).unwrap();
        let delivery = broker.receive("jobs", Duration::ZERO, 10 * SECOND).unwrap().unwrap();
        broker.advance(SECOND).unwrap();
        delivery.release(Duration::ZERO).unwrap();
        broker.advance(Duration::ZERO).unwrap();
        assert_eq!(broker.metrics().unwrap().broker.expired, round);
    }
}

/// A disk that had swapped the sectors of the two records which close a log, each 4 KiB from the other, left neither in its
/// place. Neither was looked at elsewhere, so the log looked as if its tail were torn, and what the second sector of its last
/// message had held was dropped.
#[test]
fn a_sound_header_in_the_place_of_another_tells_as_much_as_in_its_own() {
    const SECTOR: usize = 512;
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", vec![b'x'; 700])).unwrap();
    broker.close(Duration::ZERO).unwrap();
    let name = "00000001.segment";
    let (_, bytes) = disk.contents().into_iter().find(|(found, _)| found == name).unwrap();
    // The last record of all: it has no body.
    let last = (bytes.len() - 1) / SECTOR * SECTOR;
    let first = last - 4096;
    let swapped = disk.platter().damaged(name, |bytes| {
        let (low, high) = bytes.split_at_mut(last);
        low[first..first + SECTOR].swap_with_slice(&mut high[..SECTOR]);
    });
    let error = Broker::open_on(SimDisk::new(swapped).storage(), options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// A replay read its dead letter before it asked whether the broker was poisoned. On a disk that could not be read either it
/// answered `IO`, as if it was worth another try.
#[test]
fn a_poisoned_broker_says_so_to_whoever_replays() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    let id = broker.enqueue(Message::new("jobs", "one")).unwrap().id;
    broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap().reject("no").unwrap();
    // Nothing of it is in memory any more.
    broker.enqueue(Message::new("jobs", vec![1; 70_000])).unwrap();
    disk.fail_at(disk.calls(), libc::EIO, Times::ForEver);
    let error = broker.enqueue(Message::new("jobs", "two")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    let error = broker.dead_letters().replay(id).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
}

/// A process was killed between giving a segment its name and syncing the directory. The next opening made a segment
/// that names that one as its predecessor. When the power then failed, a file system that does not keep the order of
/// renames had the second name and not the first, and the directory was refused as `CORRUPT`.
#[test]
fn a_name_that_recovery_builds_on_is_durable_before_anything_refers_to_it() {
    let named = |op: &Op, number: u32| matches!(op, Op::Rename { to, .. } if *to == format!("{number:08}.segment"));
    let disk = SimDisk::default();
    drop(Broker::open_on(disk.storage(), options()).unwrap());
    let mut killed = Platter::default();
    for op in disk.trace() {
        killed.apply(&op);
        if named(&op, 1) {
            break;
        }
    }
    let next = SimDisk::new(killed);
    drop(Broker::open_on(next.storage(), options()).unwrap());
    let trace = next.trace();
    let renamed = trace.iter().position(|op| named(op, 2)).unwrap();
    assert!(trace[..renamed].contains(&Op::SyncDir), "{trace:?}");
}

/// A message whose crashes were used up became a dead letter when its queue was next received from; but where nothing
/// else was there to be taken, the record that says so was left unwritten, and the message was in no list at all until
/// something else was written.
#[test]
fn a_message_that_is_a_dead_letter_instead_of_a_delivery_is_listed_at_once() {
    let disk = SimDisk::default();
    let mut id = 0;
    for crash in 0..MAX_CRASHES {
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        if crash == 0 {
            id = broker.enqueue(Message::new("jobs", "killer")).unwrap().id;
        }
        let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap();
        drop(broker);
        drop(delivery);
    }
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert!(broker.receive("jobs", Duration::ZERO, None).unwrap().is_none());
    let letters = broker.dead_letters().list(None, 10, None).unwrap();
    assert_eq!(letters.iter().map(|letter| letter.id()).collect::<Vec<_>>(), [id]);
}

/// Dropping a broker gave the directory up while its own threads were still at work there. One of them made the next
/// spare segment; whoever opened the directory meanwhile had just begun a segment of the same number, and lost it to
/// the spare's rename, with everything that was enqueued after.
#[test]
fn a_dropped_broker_keeps_the_directory_until_its_threads_have_left_it() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", vec![1; 40_000])).unwrap();
    disk.hold(Call::Create, ".segment.tmp");
    // The log rolls into the spare segment, and the keeper of supplies makes the next one, once it is woken.
    broker.enqueue(Message::new("jobs", vec![2; 40_000]).durability(Durability::Os)).unwrap();
    let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
    delivery.enqueue(Message::new("mail", "child")).unwrap();
    delivery.ack().unwrap();
    wait_until(|| disk.held() > 0);
    std::thread::scope(|scope| {
        let dropping = scope.spawn(move || drop(broker));
        let until = Instant::now() + Duration::from_millis(100);
        let mut locked = true;
        while Instant::now() < until {
            locked &= disk.storage().lock(Duration::ZERO).is_err();
        }
        disk.release();
        dropping.join().unwrap();
        assert!(locked, "the directory was given up before its threads had left it");
    });
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert_eq!(broker.recovery().messages, 2);
}

/// A message in flight became a dead letter after a snapshot had looked at it and before the segment with its content
/// was cleaned. Its slot was free by then, so nothing seemed to refer to the content, and it was removed: the dead
/// letter could not be listed any more, and the directory not be opened.
#[test]
fn a_message_that_dies_while_its_segment_is_cleaned_keeps_its_content() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    let id = broker.enqueue(Message::new("jobs", "old")).unwrap().id;
    let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
    for _ in 0..2 {
        broker.enqueue(Message::new("mail", vec![1; 50_000])).unwrap();
        broker.receive("mail", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
    }
    disk.hold(Call::Rename, ".snapshot");
    std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| broker.snapshot());
        wait_until(|| disk.held() > 0);
        delivery.reject("unwanted").unwrap();
        disk.release();
        snapshot.join().unwrap().unwrap();
    });
    let segments = disk.contents().into_iter().filter(|(name, _)| name.ends_with("1.segment"));
    assert_eq!(segments.count(), 0, "the segment was cleaned");
    let letter = broker.dead_letters().get(id).unwrap().unwrap();
    assert_eq!(letter.body(), b"old");
    drop(broker);
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert_eq!(broker.dead_letters().get(id).unwrap().unwrap().body(), b"old");
}

/// In a batch, a message that is kept out by one before it of the same batch was answered `duplicate` when that one had
/// reached its own level, and not the one that the second had asked for.
#[test]
fn a_duplicate_of_its_own_batch_has_reached_the_level_that_was_asked_for() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    let message = || Message::new("jobs", "once").dedup_key("k").dedup(Dedup::Keep);
    let weak = message().durability(Durability::Os);
    let strong = message().durability(Durability::Sync);
    broker.enqueue_batch(&[weak, strong]).unwrap();
    assert!(matches!(disk.trace().last(), Some(Op::Sync { .. })), "{:?}", disk.trace().last());
}

/// A dead letter that was being replayed left the list of those that leave before it left the list of those that are
/// there, and in between it could be replayed once more.
#[test]
fn a_dead_letter_is_replayed_once() {
    let broker = Broker::open(":memory:", options()).unwrap();
    for _ in 0..30_000 {
        let id = broker.enqueue(Message::new("jobs", "once")).unwrap().id;
        broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap().reject("no").unwrap();
        let replay = || {
            let receipts = std::iter::from_fn(|| broker.dead_letters().replay(id).ok());
            receipts.count()
        };
        let replayed = std::thread::scope(|scope| {
            let other = scope.spawn(replay);
            replay() + other.join().unwrap()
        });
        assert_eq!(replayed, 1);
        broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
    }
}

/// The keeper of the disk syncs at once where messages wait for a sync that nobody else asks for. It was rung only if it
/// listened, and it had ceased to: a message that was enqueued with an ack was held back for `sync_interval`.
#[test]
fn a_sync_message_that_came_with_an_ack_is_there_without_waiting_for_the_sync_interval() {
    let broker = Broker::open_on(SimDisk::default().storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "parent")).unwrap();
    let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
    delivery.enqueue(Message::new("mail", "child").durability(Durability::Sync)).unwrap();
    delivery.ack().unwrap();
    let child = broker.receive("mail", Duration::from_secs(10), None).unwrap();
    assert_eq!(child.unwrap().body(), b"child");
}

/// A poisoned broker went on handing messages out. None of them could be settled, so each was handled again after the
/// next open, as a message that the process had died with.
#[test]
fn a_poisoned_broker_hands_nothing_out() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "waits")).unwrap();
    disk.fail_at(disk.calls(), libc::EIO, Times::Once);
    let error = broker.enqueue(Message::new("jobs", "is lost")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    let error = broker.receive("jobs", Duration::ZERO, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    drop(broker);
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert_eq!(broker.recovery().suspects, 0);
}

/// Whoever keeps the disk asked after each sync whether a snapshot was due, and was answered when the one under way was
/// done. Until then nothing was synced within `sync_interval`, and no handler's end was written; nor did `metrics` answer.
#[test]
fn what_is_written_is_synced_while_a_snapshot_is_taken() {
    let disk = SimDisk::default();
    let options = options().sync_interval(Duration::from_millis(5));
    let broker = Broker::open_on(disk.storage(), options).unwrap();
    disk.hold(Call::Rename, ".snapshot");
    std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| broker.snapshot());
        wait_until(|| disk.held() > 0);
        let synced = (0..3).all(|_| {
            let before = disk.position();
            broker.enqueue(Message::new("jobs", "one").durability(Durability::Os)).unwrap();
            comes(|| disk.trace().iter().skip(before).any(|op| matches!(op, Op::Sync { .. })))
        });
        let metrics = scope.spawn(|| broker.metrics().unwrap().journal_bytes);
        let told = comes(|| metrics.is_finished());
        disk.release();
        snapshot.join().unwrap().unwrap();
        assert!(synced && told, "synced: {synced}, told: {told}");
    });
}

/// A close gave the directory up while another thread was still taking a snapshot there. Had somebody else opened it by
/// then, the two would have written under the same temporary name, and either's snapshot could have got the other's name.
#[test]
fn a_closed_broker_keeps_the_directory_until_its_snapshot_is_taken() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    disk.hold(Call::Rename, ".snapshot");
    std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| broker.snapshot());
        wait_until(|| disk.held() > 0);
        let closing = scope.spawn(|| broker.close(Duration::from_secs(10)));
        let until = Instant::now() + Duration::from_millis(100);
        let mut locked = true;
        while Instant::now() < until {
            locked &= disk.storage().lock(Duration::ZERO).is_err();
        }
        disk.release();
        closing.join().unwrap().unwrap();
        let _ = snapshot.join().unwrap();
        assert!(locked, "the directory was given up before its snapshot was taken");
    });
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert_eq!(broker.recovery().messages, 1);
}

/// A close gives back what is handed out, but on a poisoned journal it cannot say so there, and the marks stayed: what
/// had been in flight were suspects after the next open, as if the process had died with them.
#[test]
fn what_a_poisoned_broker_had_handed_out_is_no_suspect_once_it_is_closed() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "held")).unwrap();
    let _held = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
    disk.fail_at(disk.calls(), libc::EIO, Times::Once);
    let error = broker.enqueue(Message::new("jobs", "is lost")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    assert_eq!(broker.close(Duration::ZERO).unwrap_err().kind(), ErrorKind::Poisoned);
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert_eq!((broker.recovery().messages, broker.recovery().suspects), (1, 0));
}

/// A receive that was just taking a message when the broker was closed was not seen by the close. It came back with a
/// delivery that nobody could settle, whose message was a suspect after the next open.
#[test]
fn what_is_received_while_the_broker_closes_is_no_suspect() {
    for round in 0..3000_u32 {
        let disk = SimDisk::default();
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        broker.enqueue(Message::new("jobs", "one")).unwrap();
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                barrier.wait();
                (0..round % 50).for_each(|_| std::hint::spin_loop());
                broker.receive("jobs", Duration::ZERO, None)
            });
            barrier.wait();
            broker.close(Duration::ZERO).unwrap();
            drop(receiving.join().unwrap());
        });
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        let recovery = broker.recovery();
        assert_eq!((recovery.messages, recovery.suspects), (1, 0), "round {round}");
    }
}

/// A snapshot that was under way when the broker was closed ended behind the records that close the log. The next open
/// found the log to end before the snapshot did, and the directory was `CORRUPT` for ever.
#[test]
fn a_snapshot_never_ends_behind_the_close() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    disk.hold(Call::Create, "snapshot.tmp");
    std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| broker.snapshot());
        wait_until(|| disk.held() > 0);
        let closing = scope.spawn(|| broker.close(Duration::from_secs(10)));
        // A close removes the spare segment when the log is closed.
        let removed = Op::Remove { name: "00000002.segment".into() };
        wait_until(|| disk.trace().contains(&removed));
        disk.release();
        closing.join().unwrap().unwrap();
        assert_eq!(snapshot.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
    for _ in 0..2 {
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        assert_eq!(broker.recovery().messages, 1);
        broker.close(Duration::ZERO).unwrap();
    }
}

/// As above, whatever moment of the snapshot the close comes at: also one that begins behind the records of the close.
#[test]
fn snapshots_and_a_close_at_any_moment_leave_what_can_be_opened() {
    let disk = SimDisk::default();
    for round in 0..300_u32 {
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        assert_eq!(broker.recovery().messages as u32, round);
        broker.enqueue(Message::new("jobs", "one").durability(Durability::Os)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| while broker.snapshot().is_ok() {});
            }
            std::thread::sleep(Duration::from_micros(u64::from(round % 7) * 100));
            broker.close(Duration::from_secs(1)).unwrap();
        });
    }
}

/// A wrong path was locked before anybody looked what is there: a file named `lock` was left behind, and one of somebody
/// else's was overwritten.
#[test]
fn a_directory_of_somebody_else_is_left_as_it_was() {
    let files = |dir: &Path| -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let lock_of_ours = "pid=7\ncommand=x\nsince_ms=1\ninstance=0123456789abcdef\n";
    for (theirs, is_ours) in [
        (vec![("readme", "hi")], false),
        (vec![("lock", "precious")], false),
        (vec![("readme", "hi"), ("lock", "precious")], false),
        (vec![("readme", "hi"), ("lock", lock_of_ours)], false),
        (vec![("lock", lock_of_ours)], true),
        (vec![("lock", "")], true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in &theirs {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let before = files(dir.path());
        match Broker::open(dir.path(), libmq::Options::new()) {
            Ok(_) => assert!(is_ours, "{theirs:?}"),
            Err(error) => {
                assert!(!is_ours, "{theirs:?}: {error}");
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
                assert_eq!(files(dir.path()), before);
            }
        }
    }
}

/// Every opening left one more segment: a program that ran for a moment, again and again, came to as many files as it had
/// runs, and could not open them all one day.
#[test]
fn a_program_that_comes_and_goes_leaves_few_segments() {
    let disk = SimDisk::default();
    let segments = || disk.contents().iter().filter(|(name, _)| name.ends_with(".segment")).count();
    for run in 0..30 {
        let broker = Broker::open_on(disk.storage(), options()).unwrap();
        broker.enqueue(Message::new("jobs", "one")).unwrap();
        if run == 0 {
            broker.enqueue(Message::new("kept", "kept")).unwrap();
        }
        broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
        broker.close(Duration::ZERO).unwrap();
        assert!(segments() <= 3, "{} after run {run}", segments());
    }
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert_eq!(broker.receive("kept", Duration::ZERO, None).unwrap().unwrap().body(), b"kept");
}

/// As above where the broker is never closed, but snapshots are taken: what they have freed goes at the next open.
#[test]
fn an_open_removes_segments_in_which_nothing_lives() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("kept", vec![1; 40_000])).unwrap();
    for _ in 0..3 {
        broker.enqueue(Message::new("mail", vec![1; 50_000])).unwrap();
    }
    let held = broker.receive_batch("mail", 10, Duration::ZERO, None).unwrap();
    broker.snapshot().unwrap();
    held.into_iter().for_each(|delivery| delivery.ack().unwrap());
    drop(broker);
    drop(Broker::open_on(disk.storage(), options()).unwrap());
    let has = |name: &str| disk.contents().iter().any(|(found, _)| found == name);
    assert!(has("00000001.segment"), "a message lives there");
    assert!(!has("00000002.segment") && !has("00000003.segment"), "nothing lives there");
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    assert_eq!(broker.recovery().messages, 1);
}

/// Each open that was refused for something after it had made its segment left that one behind.
#[test]
fn an_open_that_is_refused_leaves_no_segment() {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    drop(broker);
    let names = |disk: &SimDisk| -> Vec<String> {
        let names = disk.contents().into_iter().map(|(name, _)| name);
        names.filter(|name| name.ends_with(".segment")).collect()
    };
    let before = names(&disk);
    let mut refused = 0;
    for at in 0.. {
        let disk = SimDisk::new(disk.platter());
        disk.fail_at(at, libc::EIO, Times::Once);
        let opened = Broker::open_on(disk.storage(), options());
        let faulted = disk.faulted();
        if faulted.is_empty() {
            break;
        }
        if let Err(error) = opened {
            refused += 1;
            assert_eq!(names(&disk), before, "{error} at {faulted:?}");
            disk.mend();
            let broker = Broker::open_on(disk.storage(), options()).unwrap();
            assert_eq!(broker.recovery().messages, 1);
        }
    }
    assert!(refused > 5, "{refused}");
}

/// An enqueue that waited for room did not hear that the broker was poisoned: it waited on, and was answered `FULL`.
#[test]
fn an_enqueue_that_waits_for_room_hears_that_the_broker_is_poisoned() {
    let disk = SimDisk::default();
    let options = options().capacity(1).on_full(OnFull::Block);
    let broker =
        Broker::open_on(disk.storage(), options.block_timeout(Duration::from_secs(60))).unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| broker.enqueue(Message::new("jobs", "two")));
        // Time to begin its wait; where that was too short, the test shows less, and nothing false.
        std::thread::sleep(Duration::from_millis(50));
        disk.fail_at(disk.calls(), libc::EIO, Times::Once);
        assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::Poisoned);
        let began = Instant::now();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
        assert!(began.elapsed() < Duration::from_secs(20));
    });
}

/// A `run_at` in a thousand years was taken, where a `delay` of as long is refused.
#[test]
fn run_at_goes_as_far_as_delay() {
    let broker = Broker::open(":memory:", libmq::Options::new()).unwrap();
    let year = Duration::from_secs(365 * 24 * 3600);
    let at = |years: u32| Message::new("jobs", "").run_at(SystemTime::now() + year * years);
    let error = broker.enqueue(at(11)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("run_at"), "{error}");
    broker.enqueue(at(9)).unwrap();
    broker.enqueue(Message::new("jobs", "").run_at(SystemTime::UNIX_EPOCH)).unwrap();
}
