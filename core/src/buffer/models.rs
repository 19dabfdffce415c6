//! Models of the buffer over its journal: every interleaving of a few operations, each ending in the question whether
//! the replayed journal ends in the live state.

use std::collections::BTreeMap;
use std::time::Duration;

use loom::thread;

use super::buffer::{Buffer, Enqueued, Limits, Taken};
use super::envelope::{Envelope, NewRare};
use super::new_message::NewMessage;
use super::queue::Queue;
use super::remove::Removed;
use super::replay::Replayed;
use super::settle::{Outcome, Write};
use super::slot::State as SlotState;
use super::state::Bounds;
use crate::clock::{BrokerClock, ManualClock, Moment};
use crate::error::{ErrorKind, Result};
use crate::events::Events;
use crate::interrupt::Interrupt;
use crate::journal::{Allowance, Journal, JournalOptions, Level, Segment, SegmentHeader, recover};
use crate::storage::{MemoryStorage, Storage};
use crate::sync::{Arc, explore};

const SEGMENT_BYTES: u64 = 16 << 10;
const PLACES: usize = 4;
const NOW: Moment = Moment(1_000_000);
const LIMITS: Limits = Limits { max_retries: 5, max_crashes: 3 };

pub(crate) fn open(storage: &Arc<dyn Storage>) -> Buffer {
    let mut replayed = Replayed::default();
    let recovered = recover(&**storage, false, &mut replayed).unwrap();
    let marks = storage.marks(PLACES).unwrap();
    marks.clear_all();
    replayed.reopen(&[]);
    let opening = replayed.next_opening(recovered.next.opening);
    let source = Box::new(Arc::new(ManualClock::default()));
    let clock = BrokerClock::start_at(source, NOW);
    let bounds = Bounds { slots: PLACES, capacity: PLACES, max_dead_letters: PLACES };
    let (state, _) = replayed.into_state(clock, marks, bounds, Events::default()).unwrap();
    let header = SegmentHeader { capacity: SEGMENT_BYTES, opening, ..recovered.next };
    let first = Segment::create(&**storage, header).unwrap();
    let options = JournalOptions { segment_bytes: SEGMENT_BYTES, ..JournalOptions::default() };
    let segments = recovered.segments;
    let state = Arc::new(state);
    let allowance = Allowance::without_limit(storage);
    let journal = Journal::begin(
        Arc::clone(storage),
        Arc::clone(&state),
        options,
        allowance,
        segments,
        first,
    );
    let buffer = Buffer::new(state, journal);
    buffer.log_open(Vec::new()).unwrap();
    // As of one that has a handler.
    queue(&buffer).acks.make_room();
    buffer
}

pub(crate) fn queue(buffer: &Buffer) -> &Arc<Queue> {
    buffer.state.queues.named("q").unwrap()
}

pub(crate) fn enqueue(buffer: &Buffer, key: Option<&str>) -> Enqueued {
    enqueue_due(buffer, key, NOW)
}

fn enqueue_due(buffer: &Buffer, key: Option<&str>, due: Moment) -> Enqueued {
    try_enqueue(buffer, key, due).unwrap()
}

fn try_enqueue(buffer: &Buffer, key: Option<&str>, due: Moment) -> Result<Enqueued> {
    let envelope = envelope(buffer, key, due);
    let message = NewMessage { envelope: &envelope, body: b"body" };
    buffer.enqueue_one(&message, || Duration::ZERO, &Interrupt::new())
}

/// Enqueues a message, and leaves it to somebody else to write it.
pub(crate) fn begin(buffer: &Buffer) {
    let envelope = envelope(buffer, None, NOW);
    let message = NewMessage { envelope: &envelope, body: b"body" };
    buffer.begin(&[message], Duration::ZERO, &Interrupt::new()).unwrap();
}

fn envelope<'a>(buffer: &'a Buffer, key: Option<&'a str>, due: Moment) -> Envelope<'a> {
    Envelope {
        queue: queue(buffer),
        content_type: None,
        priority: 0,
        enqueued_at: NOW,
        due,
        level: Level::Os,
        rare: key.map(|key| Box::new(NewRare { key: Some(key), ..NewRare::default() })),
    }
}

fn take(buffer: &Buffer) -> Taken {
    buffer.take(queue(buffer), LIMITS).unwrap().unwrap()
}

fn settle(buffer: &Buffer, taken: &Taken, outcome: Outcome<'_>) -> bool {
    settle_by(buffer, taken, outcome, Write::Now)
}

fn settle_by(buffer: &Buffer, taken: &Taken, outcome: Outcome<'_>, write: Write) -> bool {
    match buffer.settle(queue(buffer), taken, outcome, write, || ()) {
        Ok(settled) => {
            buffer.journal.commit(Level::Os, settled.end).unwrap();
            if write == Write::Later {
                buffer.write_acks(queue(buffer)).unwrap();
            }
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::StaleLease);
            false
        }
    }
}

const ACK: Outcome<'static> = Outcome::Ack { children: &[], places: 0, window: Duration::ZERO };
const EXPIRY: Outcome<'static> = Outcome::Fail { due: Moment(0), max_retries: 5, error: "late" };

/// The live messages by id, with where their content is and the attempts that have ended, and the dead letters.
fn state_of(buffer: &Buffer) -> (BTreeMap<u64, (u64, u32)>, Vec<u64>) {
    let state = &buffer.state;
    let live = state.slots.claimed().filter_map(|slot| {
        let guard = state.slots.find(slot)?.lock();
        let gone = matches!(guard.state(), SlotState::Free | SlotState::Settled);
        (!gone).then(|| (guard.id(), (guard.version, guard.attempts)))
    });
    (live.collect(), state.letters.list(None, 100, 0).iter().map(|letter| letter.id).collect())
}

/// What is found by who opens the directory now, as after the death of the process.
fn assert_replay_ends_in(buffer: &Buffer, storage: &Arc<dyn Storage>) {
    let live = state_of(buffer);
    assert_eq!(state_of(&open(storage)), live);
}

/// An ack and the end of the lease, at the same time: one of them is decided, and the journal says the same.
#[test]
fn loom_ack_against_expiry() {
    ack_against_expiry(Write::Now);
    ack_against_expiry(Write::Later);
}

fn ack_against_expiry(write: Write) {
    explore(2, move || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        enqueue(&buffer, None);
        let taken = take(&buffer);
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || settle(&buffer, &taken, EXPIRY))
        };
        let acked = settle_by(&buffer, &taken, ACK, write);
        let expired = other.join().unwrap();
        assert!(acked != expired, "one of the two");
        assert_eq!(state_of(&buffer).0.len(), usize::from(expired));
        assert_replay_ends_in(&buffer, &storage);
    });
}

/// Two handlers ack, one of them more than is logged together, while somebody writes: each ack is logged once, and none is left.
#[test]
fn loom_acks_are_logged_together_and_once() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        let taken = [(); 3].map(|()| {
            enqueue(&buffer, None);
            take(&buffer)
        });
        let ack = |buffer: &Buffer, taken: &[Taken]| {
            for taken in taken {
                buffer.settle(queue(buffer), taken, ACK, Write::Later, || ()).unwrap();
            }
        };
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || ack(&buffer, &taken[1..]))
        };
        ack(&buffer, &taken[..1]);
        buffer.write().unwrap();
        other.join().unwrap();
        assert_eq!(queue(&buffer).figures.acked(), 3);
        buffer.write().unwrap();
        assert!(queue(&buffer).acks.is_empty());
        // The opening, each message, and each ack.
        assert_eq!(buffer.journal.operations(), 1 + 3 + 3);
        assert_eq!((buffer.state.room.taken(), state_of(&buffer).0.len()), (0, 0));
        assert_replay_ends_in(&buffer, &storage);
    });
}

/// A snapshot, while a message ends and another comes: neither is lost, and none comes back.
#[test]
fn loom_snapshot_against_append() {
    snapshot_against_append(Write::Now);
    snapshot_against_append(Write::Later);
}

fn snapshot_against_append(write: Write) {
    explore(2, move || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        enqueue(&buffer, None);
        let taken = take(&buffer);
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || {
                assert!(settle_by(&buffer, &taken, ACK, write));
                enqueue(&buffer, None);
            })
        };
        let (_, cleaned) = buffer.snapshot().unwrap();
        cleaned.unwrap();
        other.join().unwrap();
        assert_eq!(state_of(&buffer).0.len(), 1);
        assert_replay_ends_in(&buffer, &storage);
    });
}

/// A snapshot, while a batch comes and somebody else writes, who may be the one to show it: it is there once, and in order.
#[test]
fn loom_snapshot_against_a_batch() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || {
                let envelopes = [NOW, Moment(NOW.0 + 1)].map(|due| envelope(&buffer, None, due));
                let batch =
                    envelopes.each_ref().map(|envelope| NewMessage { envelope, body: b"body" });
                buffer.enqueue(&batch, Duration::ZERO, &Interrupt::new()).unwrap();
                let ready = queue(&buffer).figures.ready();
                assert_eq!(ready, 1, "the other one is delayed");
            })
        };
        let (_, cleaned) = buffer.snapshot().unwrap();
        cleaned.unwrap();
        other.join().unwrap();
        assert_eq!(state_of(&buffer).0.len(), 2);
        assert_replay_ends_in(&buffer, &storage);
    });
}

/// A replace, while the message is taken: it changes the waiting message, or waits behind the one in flight.
#[test]
fn loom_replace_against_take() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        enqueue(&buffer, Some("k"));
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.take(queue(&buffer), LIMITS).unwrap())
        };
        let replaced = matches!(enqueue(&buffer, Some("k")), Enqueued::Replaced(_));
        let taken = other.join().unwrap();
        assert_eq!(state_of(&buffer).0.len(), if replaced { 1 } else { 2 });
        if let Some(taken) = taken {
            assert!(settle(&buffer, &taken, ACK));
        } else {
            assert!(replaced, "taken in the moment in which it was replaced, it is not there");
        }
        let left = if replaced && taken.is_some() { 0 } else { 1 };
        assert_eq!(state_of(&buffer).0.len(), left);
        assert_replay_ends_in(&buffer, &storage);
    });
}

/// A message is enqueued while the index of ids is made: the index has it afterwards.
#[test]
fn loom_index_of_ids_misses_none() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        let Enqueued::Accepted(first) = enqueue(&buffer, None) else { panic!("it is new") };
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || enqueue(&buffer, None))
        };
        assert!(buffer.state.find(first).is_some());
        let Enqueued::Accepted(second) = other.join().unwrap() else { panic!("it is new") };
        assert!(buffer.state.find(second).is_some());
    });
}

/// A delayed message is replaced by one that is due at the same moment, while somebody else commits, and so may show
/// the new one before the old one's place in the schedule is given up. That gave up the new one's, which then never
/// became ready.
#[test]
fn loom_replace_of_a_delayed_message_by_one_that_is_due_with_it() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        let due = NOW.after(Duration::from_secs(10));
        enqueue_due(&buffer, Some("k"), due);
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.journal.write().unwrap())
        };
        assert!(matches!(enqueue_due(&buffer, Some("k"), due), Enqueued::Replaced(_)));
        other.join().unwrap();
        assert_eq!(buffer.state.run_due(NOW), Some(due));
        assert_eq!(buffer.state.run_due(due), None);
        let taken = take(&buffer);
        assert!(settle(&buffer, &taken, ACK));
    });
}

/// An enqueue while the log is closed: it is refused and nowhere, or it is there when the directory is opened again.
#[test]
fn loom_close_against_enqueue() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || match try_enqueue(&buffer, None, NOW) {
                Ok(_) => 1,
                Err(refused) => {
                    assert_eq!(refused.kind(), ErrorKind::Closed);
                    0
                }
            })
        };
        buffer.journal.close().unwrap();
        let enqueued = other.join().unwrap();
        assert_eq!(state_of(&open(&storage)).0.len(), enqueued);
    });
}

/// A replace, while the message in flight is acked: the new one waits behind it and is freed, or nothing is there any more
/// that it could wait for. It is ready in either case.
#[test]
fn loom_replace_against_ack() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        enqueue(&buffer, Some("k"));
        let taken = take(&buffer);
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || assert!(settle(&buffer, &taken, ACK)))
        };
        assert!(matches!(enqueue(&buffer, Some("k")), Enqueued::Accepted(_)));
        other.join().unwrap();
        assert_eq!(state_of(&buffer).0.len(), 1);
        assert_replay_ends_in(&buffer, &storage);
        let newer = take(&buffer);
        assert!(newer.id != taken.id && settle(&buffer, &newer, ACK));
    });
}

/// A message is cancelled while it is taken: it is gone, or it is dropped when whoever has it gives it back.
#[test]
fn loom_cancel_against_take() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        let Enqueued::Accepted(id) = enqueue(&buffer, None) else { panic!("it is new") };
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.take(queue(&buffer), LIMITS).unwrap())
        };
        let removed = buffer.cancel(id).unwrap();
        match (removed, other.join().unwrap()) {
            (Removed::Gone(_), None) => {}
            (Removed::InFlight, Some(taken)) => {
                assert!(settle(&buffer, &taken, Outcome::Release { due: NOW }));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(state_of(&buffer).0.len(), 0);
        assert_replay_ends_in(&buffer, &storage);
    });
}

/// A message becomes a dead letter while a snapshot reads the slots and then the dead letters: it is in one of the two.
#[test]
fn loom_snapshot_against_a_death() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        enqueue(&buffer, None);
        let taken = take(&buffer);
        let other = {
            let buffer = Arc::clone(&buffer);
            let reject = Outcome::Reject { reason: "no", error: "" };
            thread::spawn(move || assert!(settle(&buffer, &taken, reject)))
        };
        let (_, cleaned) = buffer.snapshot().unwrap();
        cleaned.unwrap();
        other.join().unwrap();
        let (live, dead) = state_of(&buffer);
        assert_eq!((live.len(), dead.len()), (0, 1));
        assert_replay_ends_in(&buffer, &storage);
    });
}

/// A message comes back while a snapshot begins: it has its attempt there, or the log says so behind the snapshot.
#[test]
fn loom_snapshot_against_a_retry() {
    explore(2, || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let buffer = Arc::new(open(&storage));
        enqueue(&buffer, None);
        let taken = take(&buffer);
        let other = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || assert!(settle(&buffer, &taken, EXPIRY)))
        };
        let (_, cleaned) = buffer.snapshot().unwrap();
        cleaned.unwrap();
        other.join().unwrap();
        assert_eq!(state_of(&buffer).0.values().next().unwrap().1, 1);
        assert_replay_ends_in(&buffer, &storage);
    });
}
