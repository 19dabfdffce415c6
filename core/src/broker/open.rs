//! Opening: lock, recover, begin a new segment, and only then serve.

use std::path::Path;
use std::time::Instant;

use super::clerk::Clerk;
use super::ground::Ground;
use super::options::{ClockMode, Durability, OnCorruption, Options};
use super::recovery::Recovery;
use super::shared::Shared;
use crate::buffer::{Bounds, Buffer, Replayed};
use crate::clock::{BrokerClock, ManualClock, Moment, SystemClock};
use crate::dispatch::{Engine, EngineOptions, KeeperOptions, Retries, Snapshots, start};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Events, event};
use crate::journal::{
    Allowance, Journal, JournalOptions, Need, Recovered, record_space, recover, refuse_foreign,
};
use crate::limits;
use crate::storage::{Storage, forks};
use crate::sync::{Arc, Mutex};

/// Opens the broker on a storage.
pub(crate) fn open(storage: Arc<dyn Storage>, options: Options) -> Result<Arc<Shared>> {
    options.check()?;
    refuse_unsupported(&options)?;
    storage.prepare()?;
    refuse_foreign(&*storage)?;
    let owner_lock = storage.lock(options.lock_timeout)?;
    let started = Instant::now();

    let mut replayed = Replayed::default();
    // What is served from must not vanish in a power failure after somebody has seen it.
    let served = options.durability != Durability::Memory;
    let mut recovered = recover(&*storage, served, &mut replayed)?;
    missing(&*storage, &recovered, &replayed).next().map_or(Ok(()), Err)?;
    let found_snapshot = recovered.snapshot.map(|snapshot| snapshot.begin);
    let live = replayed.live();
    let allowance =
        Allowance::new(Arc::clone(&storage), options.max_bytes, recovered.snapshot_size, live);
    let ordinary = options.segment_size(small_disk(&*storage, options.segment_bytes)?);
    if served {
        // A process that was killed may not have lived to sync the last segment's name, and what is made next says that the log
        // ends there.
        storage.sync_dir().map_err(|cause| Error::io("sync", storage.path(), &cause))?;
    }
    let ground = Ground::prepare(&storage, &allowance, ordinary, &mut recovered, &replayed, live)?;
    // What is there keeps its slot, whatever the capacity is now.
    let slots = options.capacity.max(replayed.len());
    let marks = storage.marks(slots)?;
    let held = replayed.held(&marks.all());
    replayed.reopen(&held);
    let opening = replayed.next_opening(recovered.next.opening);
    let (clock, manual_clock) = clock(&options, replayed.last_seen());
    let bounds =
        Bounds { slots, capacity: options.capacity, max_dead_letters: options.max_dead_letters };
    let events = Events::new(options.log.0.clone());
    let (state, found) = replayed.into_state(clock, Arc::clone(&marks), bounds, events)?;
    state.note_names(live.name_bytes_max);
    let state = Arc::new(state);

    let journal_options =
        JournalOptions { segment_bytes: ordinary, cache_bytes: options.cache_bytes };
    // What was held is in the first record, which has little else.
    let record = record_space(64 + size_of_val(&*held));
    let first = ground.begin(&*storage, &recovered, opening, record as u64)?;
    // As if what was replayed had been written by this opening.
    let since_snapshot = first.first().saturating_sub(recovered.replayed_bytes);
    let journal = Journal::begin(
        Arc::clone(&storage),
        Arc::clone(&state),
        journal_options,
        allowance,
        recovered.segments.clone(),
        first,
    );
    let engine = Arc::new(Engine::new(
        Buffer::new(state, journal),
        EngineOptions {
            capacity: slots,
            default_retries: Retries {
                max: options.default_max_retries,
                backoff: options.default_backoff.clone(),
            },
            max_crashes: options.max_crashes,
        },
    ));
    let keeper_options = KeeperOptions {
        sync_interval: options.sync_interval,
        snapshot_interval: options.snapshot_interval,
        snapshot_threshold: options.snapshot_threshold,
        time_moves: options.clock == ClockMode::System,
    };
    let newest = recovered.snapshot_size;
    let snapshots = Snapshots::new(keeper_options, newest.bytes, newest.entries, since_snapshot);
    let snapshots = Arc::new(snapshots);
    let keepers = begin(&engine, held)
        .and_then(|()| {
            start(&engine, &snapshots, keeper_options)
                .map_err(|cause| Error::io("start the threads of", storage.path(), &cause))
        })
        .inspect_err(|_| {
            // As if nobody had tried.
            engine.buffer.journal.poison(Error::closed());
            engine.buffer.journal.rest();
            engine.buffer.journal.take_back();
            engine.buffer.state.events.dismiss();
        })?;
    // Logged; and nothing is held yet in this opening.
    marks.clear_all();
    ground.clear_away(&*storage, &recovered);
    let recovery = Recovery {
        messages: found.messages,
        dead_letters: found.dead_letters,
        suspects: found.suspects,
        records: recovered.records,
        dropped_bytes: recovered.dropped_bytes,
        snapshot: found_snapshot,
        duration: started.elapsed(),
    };
    tell_of_opening(&engine.buffer.state.events, storage.path(), &recovery);
    Ok(Arc::new(Shared {
        engine,
        snapshots,
        path: storage.path().to_owned(),
        options,
        recovery,
        manual_clock,
        forks: forks(),
        owner_lock: Mutex::new(Some(owner_lock)),
        keepers: Mutex::new(keepers),
        turn: Mutex::new(()),
        clerk: Clerk::default(),
        #[cfg(feature = "opentelemetry")]
        telemetry: super::telemetry::Telemetry::new(),
    }))
}

/// Bytes that a disk has for the directory in all, where that is not many segments of so many bytes.
fn small_disk(storage: &dyn Storage, segment_bytes: u64) -> Result<Option<u64>> {
    let small = |free: &u64| free / limits::SEGMENTS_MIN < segment_bytes;
    let Some(free) = storage.free_bytes().filter(small) else { return Ok(None) };
    let taken = storage.bytes().map_err(|cause| Error::io("measure", storage.path(), &cause))?;
    Ok(Some(free.saturating_add(taken)))
}

/// Logs the opening, makes the spare, and does what came due or expired while nobody had it open: that has been done by the
/// time anybody looks.
fn begin(engine: &Arc<Engine>, held: Vec<u64>) -> Result<()> {
    let buffer = &engine.buffer;
    // There is no broker yet that could be closed and opened again: the disk has refused.
    buffer.log_open(held).map_err(|error| match error.kind() {
        ErrorKind::Poisoned => error.with_kind(ErrorKind::Io),
        _ => error,
    })?;
    // Without room for a spare the broker can still settle; enqueues will say that there is none.
    match buffer.journal.make_spare(Need::Grow, 0) {
        Err(error) if error.kind() != ErrorKind::StorageFull => return Err(error),
        _ => {}
    }
    engine.run_due();
    Ok(())
}

fn tell_of_opening(events: &Events, path: &Path, recovery: &Recovery) {
    let path = &*path.to_string_lossy();
    if recovery.dropped_bytes > 0 {
        let dropped = recovery.dropped_bytes;
        event!(events, Warn, "torn_tail", path = path, dropped_bytes = dropped);
    }
    let took = u64::try_from(recovery.duration.as_millis()).unwrap_or(u64::MAX);
    event!(
        events,
        Info,
        "open",
        path = path,
        messages = recovery.messages,
        dead_letters = recovery.dead_letters,
        suspects = recovery.suspects,
        records = recovery.records,
        duration_ms = took
    );
}

fn refuse_unsupported(options: &Options) -> Result<()> {
    match options.on_corruption {
        OnCorruption::Refuse => Ok(()),
        OnCorruption::Quarantine => Err(Error::new(
            ErrorKind::Unsupported,
            "on_corruption quarantine is not supported by this version",
        )),
    }
}

/// The segments that are missing although a live message's content is in them, each as an error that says so.
pub(super) fn missing<'a>(
    storage: &'a dyn Storage,
    recovered: &'a Recovered,
    replayed: &'a Replayed,
) -> impl Iterator<Item = Error> {
    let is_missing = |version: &u64| recovered.segment_of(*version).is_none();
    replayed.versions().filter(is_missing).map(|version| {
        let what = "the segment of this position is missing, and a message's content is in it";
        Error::corrupt(storage.path(), version, what)
    })
}

fn clock(options: &Options, last_seen: Moment) -> (BrokerClock, Option<Arc<ManualClock>>) {
    match options.clock {
        ClockMode::System => (BrokerClock::start(Box::new(SystemClock), last_seen), None),
        ClockMode::Manual => {
            let clock = Arc::new(ManualClock::default());
            let source = Box::new(Arc::clone(&clock));
            let start = if last_seen == Moment::default() {
                BrokerClock::start(source, last_seen)
            } else {
                BrokerClock::start_at(source, last_seen)
            };
            (start, Some(clock))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::{Broker, Durability, Message, Options};

    /// A broker forgot at open that there was a snapshot: its bytes were in no figure, and the whole state was written once
    /// more after the first interval, though nothing had happened.
    #[test]
    fn an_open_knows_of_the_snapshot_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options::new().segment_bytes(64 << 10).snapshot_interval(Duration::from_secs(3600));
        let broker = Broker::open(dir.path(), options.clone()).unwrap();
        let body = [7; 100];
        for _ in 0..20 {
            let messages: Vec<_> = (0..100).map(|_| Message::new("jobs", &body[..])).collect();
            broker.enqueue_batch(&messages).unwrap();
        }
        broker.snapshot().unwrap();
        let figures = |broker: &Broker| {
            let metrics = broker.metrics().unwrap();
            (metrics.journal_bytes - metrics.segments * (64 << 10), metrics.snapshots)
        };
        let (bytes, _) = figures(&broker);
        assert!(bytes > 10_000, "{bytes}");
        broker.close(Duration::from_secs(5)).unwrap();

        let options = options
            .snapshot_interval(Duration::from_millis(1))
            .sync_interval(Duration::from_millis(1));
        let broker = Broker::open(dir.path(), options).unwrap();
        assert_eq!(figures(&broker), (bytes, 0));
        broker.enqueue(Message::new("jobs", "one more")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(figures(&broker), (bytes, 0));
        // As much as the snapshot is worth another one.
        let end = Instant::now() + Duration::from_secs(20);
        while figures(&broker).1 == 0 {
            assert!(Instant::now() < end, "no snapshot comes");
            let message = Message::new("jobs", vec![7; 10_000]).durability(Durability::Os);
            broker.enqueue(message).unwrap();
        }
    }
}
