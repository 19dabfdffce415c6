//! The keepers: threads for what is due, and for what is better done ahead of time.
//!
//! - The *timekeeper* sleeps until the next message or flight is due.
//! - The *keeper of the disk* syncs what was written within `sync_interval`, and at once where messages wait for a sync
//!   that nobody else asks for; it writes what handlers have acked and nobody has written yet. While the disk has no
//!   room for what handlers have answered, it asks again every second; so it does where a worker was lost that the system
//!   had no thread for.
//! - The *keeper of supplies* makes the next spare segment, asks for room before what was granted is used up, and makes the next
//!   pieces of memory. It is another one, since a sync of much takes as long as a segment takes to be filled.
//! - The *keeper of snapshots* takes them when they are due.
//!
//! None of them polls: each sleeps until it is rung or until the moment it knows of.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Engine, TRY_AGAIN};
use crate::alarm::Alarm;
use crate::error::Result;
use crate::events::event;
use crate::journal::{Image, Need, Show};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock};
use crate::thread::spawn_quiet;

/// What nobody waits to see written is written within this time.
const WRITE_DELAY: Duration = Duration::from_millis(5);

/// A snapshot is taken when so many times as much as the last one has was written to the log, or as one of now would have, if that
/// is less. Where messages of a hundred bytes wait, that is about as many records as the last one has messages.
const LOG_SHARE: u64 = 4;

/// An entry counts for so many bytes at least: most take less, but to find one takes as long as to write these.
const ENTRY_BYTES_MIN: u64 = 50;

/// As long as the disk is full, a snapshot is taken that may make room: after this time, and at most for one part in so many
/// of the time.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);
const NO_ROOM_SHARE: u32 = 20;

/// When snapshots and syncs are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeeperOptions {
    pub(crate) sync_interval: Duration,
    pub(crate) snapshot_interval: Duration,
    pub(crate) snapshot_threshold: u64,
    /// Time moves by itself; else only what is rung for is done.
    pub(crate) time_moves: bool,
}

/// What was known at the last snapshot.
#[derive(Clone, Copy, Debug)]
struct LastSnapshot {
    at: Instant,
    took: Duration,
    operations: u64,
    position: u64,
    bytes: u64,
    /// What lived then.
    entries: u64,
}

impl LastSnapshot {
    /// What one of now counts for, where so much lives; no more than this one does.
    fn bytes_with(&self, entries: u64) -> u64 {
        let bytes = self.bytes.max(self.entries.saturating_mul(ENTRY_BYTES_MIN));
        if entries >= self.entries {
            return bytes;
        }
        let share = u128::from(bytes) * u128::from(entries) / u128::from(self.entries);
        u64::try_from(share).unwrap_or(bytes)
    }
}

/// Takes snapshots, one at a time, and knows when the next one is due.
#[derive(Debug)]
pub(crate) struct Snapshots {
    options: KeeperOptions,
    /// Held by who takes one.
    taking: Mutex<()>,
    /// Never held for long: whoever keeps the disk asks what is due, and has other things to do.
    last: Mutex<LastSnapshot>,
    taken: AtomicU64,
    alarm: Alarm,
}

impl Snapshots {
    /// `bytes` and `entries` are the size of the snapshot that recovery found, and `position` that from which on the journal is as
    /// long as what was written since, and what is written now.
    pub(crate) fn new(options: KeeperOptions, bytes: u64, entries: u64, position: u64) -> Self {
        let (at, took) = (Instant::now(), Duration::ZERO);
        let last = LastSnapshot { at, took, operations: 0, position, bytes, entries };
        Self {
            options,
            taking: Mutex::new(()),
            last: Mutex::new(last),
            taken: AtomicU64::new(0),
            alarm: Alarm::default(),
        }
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Bytes of the last one.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.last).bytes
    }

    /// Takes a snapshot now. What could not be cleaned after it is tried again with the next one.
    pub(crate) fn take(&self, engine: &Engine) -> Result<()> {
        let _turn = lock(&self.taking);
        self.take_in_turn(engine)
    }

    /// The log and a snapshot of now. Nothing is cleaned while the two are looked for.
    pub(crate) fn image(&self, engine: &Engine) -> Result<Image> {
        let _turn = lock(&self.taking);
        // It makes the image small. Without one, as on a disk that is full, the last one does.
        let _ = self.take_in_turn(engine);
        engine.buffer.journal.image()
    }

    fn take_in_turn(&self, engine: &Engine) -> Result<()> {
        let journal = &engine.buffer.journal;
        let (began, operations, position) =
            (Instant::now(), journal.operations(), journal.marks().reserved);
        let entries = engine.buffer.state.live().entries();
        let (bytes, cleaned) = engine.buffer.snapshot()?;
        let (at, took) = (Instant::now(), began.elapsed());
        *lock(&self.last) = LastSnapshot { at, took, operations, position, bytes, entries };
        self.taken.fetch_add(1, Ordering::Relaxed);
        let (events, took) = (&engine.buffer.state.events, began.elapsed().as_millis());
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        event!(events, Debug, "snapshot", bytes = bytes, duration_ms = took);
        if let Err(error) = &cleaned
            && journal.poisoned().is_none()
        {
            // Whoever keeps snapshots has nobody to answer to.
            event!(events, Warn, "not_cleaned", error = error.to_string().as_str());
        }
        if journal.lacks_room() {
            // There may be some now.
            engine.buffer.state.supplies.ring();
        }
        cleaned
    }

    /// Returns when nobody takes one any more. The journal was poisoned, so nobody begins to.
    pub(crate) fn rest(&self) {
        drop(lock(&self.taking));
    }

    /// How long until a snapshot is due; none while too little was written since the last one.
    fn due_in(&self, engine: &Engine) -> Option<Duration> {
        let last = *lock(&self.last);
        let wanted = last.bytes_with(engine.buffer.state.live().entries());
        let operations = engine.buffer.journal.operations().saturating_sub(last.operations);
        let bytes = engine.buffer.journal.marks().reserved.saturating_sub(last.position);
        if operations > 0 && engine.buffer.journal.lacks_room() {
            // It may make some. Soon, but not all the time.
            let pause = NO_ROOM_PAUSE.max(last.took.saturating_mul(NO_ROOM_SHARE));
            Some(pause.saturating_sub(last.at.elapsed()))
        } else if operations == 0 || bytes < wanted.saturating_mul(LOG_SHARE) {
            None
        } else if operations >= self.options.snapshot_threshold {
            Some(Duration::ZERO)
        } else {
            Some(self.options.snapshot_interval.saturating_sub(last.at.elapsed()))
        }
    }
}

/// Runs what is due until the engine is closed.
pub(crate) fn keep_time(engine: &Arc<Engine>, options: KeeperOptions) {
    let timer = &engine.buffer.state.timer;
    loop {
        let seen = timer.alarm.count();
        if engine.is_closed() {
            return;
        }
        if !options.time_moves {
            // Whoever advances the clock does what is due then. What has expired already when it comes back rings.
            timer.stand_still();
            // A failure poisons the journal, and everybody hears of it from there; without room, the next ring helps.
            let _ = engine.buffer.run_expired(engine.now());
            timer.alarm.wait(seen, None);
            continue;
        }
        timer.awake();
        let next = engine.run_due();
        timer.asleep_until(next);
        timer.alarm.wait(seen, next.map(|next| next.since(engine.now())));
    }
}

/// Makes spares and memory until the engine is closed.
pub(crate) fn keep_supplies(engine: &Arc<Engine>, snapshots: &Snapshots) {
    let state = &engine.buffer.state;
    let journal = &engine.buffer.journal;
    loop {
        let seen = state.supplies.count();
        if engine.is_closed() {
            return;
        }
        state.stock.fill();
        if journal.lacks_reserve() {
            // Without room it is tried again when some is asked for, or was made, or behind the next sync.
            let _ = journal.make_spare(Need::Grow, 0);
            if journal.lacks_room() {
                snapshots.alarm.ring_if_heard();
            }
        }
        if journal.lacks_second_spare() && !engine.is_closed() {
            let _ = journal.make_second_spare();
        }
        state.supplies.wait(seen, None);
    }
}

/// Syncs and writes until the engine is closed.
pub(crate) fn keep_disk(engine: &Arc<Engine>, options: KeeperOptions, snapshots: &Snapshots) {
    let state = &engine.buffer.state;
    let journal = &engine.buffer.journal;
    let (mut sync_by, mut write_by) = (None::<Instant>, None::<Instant>);
    let (mut owed_by, mut hire_by) = (None::<Instant>, None::<Instant>);
    let mut was_full = false;
    loop {
        let seen = state.disk.count();
        if engine.is_closed() {
            return;
        }
        if was_full != journal.lacks_room() {
            was_full = !was_full;
            tell_of_room(engine, was_full);
        }
        let now = Instant::now();
        let is_due = |by: Option<Instant>| by.is_some_and(|by| by <= now);
        // Not whenever something waits for a sync: nearly always somebody is about to make one.
        if state.sync_now_wish.is_asked() || is_due(sync_by) {
            (sync_by, write_by) = (None, None);
            state.sync_now_wish.hear();
            state.sync_wish.hear();
            state.write_wish.hear();
            // A failure poisons the journal, and everybody hears of it from there.
            let _ = engine.buffer.sync();
            if journal.lacks_reserve() {
                // It may have failed to make one.
                state.supplies.ring();
            }
            if snapshots.due_in(engine).is_some() {
                snapshots.alarm.ring_if_heard();
            }
        } else if is_due(write_by) {
            write_by = None;
            state.write_wish.hear();
            let _ = engine.buffer.write();
        }
        if state.sync_wish.is_asked() {
            sync_by.get_or_insert_with(|| Instant::now() + options.sync_interval);
        }
        if state.write_wish.is_asked() {
            write_by.get_or_insert_with(|| Instant::now() + WRITE_DELAY);
        }
        match owed_by {
            _ if !engine.owes() => owed_by = None,
            Some(by) if now < by => {}
            _ => {
                engine.settle_owed();
                owed_by = engine.owes().then(|| Instant::now() + TRY_AGAIN);
            }
        }
        if is_due(hire_by) {
            hire_by = None;
            engine.hire_wish.hear();
            engine.hire_again();
        }
        if engine.hire_wish.is_asked() {
            hire_by.get_or_insert_with(|| Instant::now() + TRY_AGAIN);
        }
        let next = [sync_by, write_by, owed_by, hire_by].into_iter().flatten().min();
        state.disk.wait(seen, next.map(|next| next.saturating_duration_since(Instant::now())));
    }
}

fn tell_of_room(engine: &Engine, is_full: bool) {
    let events = &engine.buffer.state.events;
    let bytes = engine.buffer.journal.space().bytes();
    if is_full {
        event!(events, Warn, "storage_full", journal_bytes = bytes);
    } else {
        event!(events, Info, "storage_room", journal_bytes = bytes);
    }
}

/// Takes snapshots until the engine is closed.
pub(crate) fn keep_snapshots(engine: &Engine, snapshots: &Snapshots) {
    let alarm = &snapshots.alarm;
    let _listener = alarm.listen();
    loop {
        let seen = alarm.count();
        if engine.is_closed() || engine.buffer.journal.poisoned().is_some() {
            return;
        }
        let due = snapshots.due_in(engine);
        if due.is_some_and(|due| due.is_zero()) && snapshots.take(engine).is_err() {
            // Not now: no room, or poisoned. The next sync asks again.
            alarm.wait(seen, None);
            continue;
        }
        alarm.wait(seen, due.filter(|due| !due.is_zero()));
    }
}

/// Wakes all keepers, so that they see that the engine is closed.
pub(crate) fn dismiss(engine: &Engine, snapshots: &Snapshots) {
    engine.buffer.state.timer.alarm.ring();
    engine.buffer.state.disk.ring();
    engine.buffer.state.supplies.ring();
    snapshots.alarm.ring();
}

/// Starts the keepers.
pub(crate) fn start(
    engine: &Arc<Engine>,
    snapshots: &Arc<Snapshots>,
    options: KeeperOptions,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    start_by(engine, snapshots, options, spawn_quiet)
}

/// What a keeper does.
type Keep = Box<dyn FnOnce() + Send>;

/// Starts the keepers on threads that `spawn` makes: all, or none that goes on.
fn start_by(
    engine: &Arc<Engine>,
    snapshots: &Arc<Snapshots>,
    options: KeeperOptions,
    spawn: impl Fn(&str, Keep) -> std::io::Result<JoinHandle<()>>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let time = Arc::clone(engine);
    let (disk, disk_snapshots) = (Arc::clone(engine), Arc::clone(snapshots));
    let (supplies, supplies_snapshots) = (Arc::clone(engine), Arc::clone(snapshots));
    let (snapshot, snapshot_snapshots) = (Arc::clone(engine), Arc::clone(snapshots));
    let keep: [(&str, Keep); 4] = [
        ("libmq-time", Box::new(move || keep_time(&time, options))),
        ("libmq-disk", Box::new(move || keep_disk(&disk, options, &disk_snapshots))),
        ("libmq-supply", Box::new(move || keep_supplies(&supplies, &supplies_snapshots))),
        ("libmq-snapshot", Box::new(move || keep_snapshots(&snapshot, &snapshot_snapshots))),
    ];
    let mut keepers = Vec::new();
    for (name, run) in keep {
        match spawn(name, run) {
            Ok(keeper) => keepers.push(keeper),
            Err(cause) => {
                engine.closed.store(true, Ordering::Release);
                dismiss(engine, snapshots);
                for keeper in keepers {
                    let _ = keeper.join();
                }
                return Err(cause);
            }
        }
    }
    Ok(keepers)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::{Broker, Message, Options};

    const LONG: Duration = Duration::from_secs(3600);

    /// Else many small messages would be looked through again for a few that have come.
    #[test]
    fn a_message_counts_for_no_less_than_it_takes_to_find_it() {
        let last = |bytes, entries| {
            let at = Instant::now();
            LastSnapshot { at, took: Duration::ZERO, operations: 0, position: 0, bytes, entries }
        };
        for (bytes, entries, live, counts) in [
            (15_000, 1000, 1000, 50_000),
            (15_000, 1000, 2000, 50_000),
            (15_000, 1000, 100, 5_000),
            (80_000, 1000, 1000, 80_000),
            (80_000, 1000, 500, 40_000),
            (80, 0, 0, 80),
        ] {
            assert_eq!(last(bytes, entries).bytes_with(live), counts, "{bytes} of {entries}");
        }
    }

    /// While a backlog was drained no snapshot came, since what was written for that was less than four times the last one; and so
    /// its segments stayed.
    #[test]
    fn a_backlog_that_was_drained_gives_its_room_back() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options::new().segment_bytes(64 << 10).snapshot_interval(Duration::from_millis(50));
        let broker = Broker::open(dir.path(), options).unwrap();
        let body = [7; 2_000];
        for _ in 0..500 {
            broker.enqueue(Message::new("jobs", &body[..])).unwrap();
        }
        broker.snapshot().unwrap();
        assert!(broker.metrics().unwrap().segments > 10);
        while let Some(job) = broker.receive("jobs", Duration::ZERO, None).unwrap() {
            job.ack().unwrap();
        }
        let end = Instant::now() + Duration::from_secs(20);
        while broker.metrics().unwrap().segments > 3 {
            assert!(Instant::now() < end, "{:?}", broker.metrics().unwrap().segments);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where the system had no more threads, those that had been started went on for ever, with the directory.
    #[test]
    fn keepers_go_where_one_of_them_cannot_be_started() {
        let ended = Arc::new(AtomicUsize::new(0));
        let options = KeeperOptions {
            sync_interval: LONG,
            snapshot_interval: LONG,
            snapshot_threshold: u64::MAX,
            time_moves: true,
        };
        for most in 0..4 {
            ended.store(0, Ordering::SeqCst);
            let broker = Broker::open(":memory:", Options::new()).unwrap();
            broker.enqueue(Message::new("jobs", "")).unwrap();
            let held = broker.receive("jobs", None, None).unwrap().unwrap();
            let shared = &held.shared;
            let started = AtomicUsize::new(0);
            let outcome = start_by(&shared.engine, &shared.snapshots, options, |_, run| {
                if started.fetch_add(1, Ordering::SeqCst) == most {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let ended = Arc::clone(&ended);
                Ok(std::thread::spawn(move || {
                    run();
                    ended.fetch_add(1, Ordering::SeqCst);
                }))
            });
            assert!(outcome.is_err());
            assert_eq!(ended.load(Ordering::SeqCst), most);
        }
    }
}
