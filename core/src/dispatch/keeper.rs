//! The keepers: threads for what is due, and for what is better done ahead of time.
//!
//! - The *timekeeper* sleeps until the next message or flight is due.
//! - The *keeper of the disk* syncs what was written within `sync_interval`, and at once where messages wait for a sync
//!   that nobody else asks for; it writes what handlers have acked and nobody has written yet; and it makes the next
//!   spare segment. While the disk has no room for what handlers have answered, it asks again every second.
//! - The *keeper of snapshots* takes them when they are due.
//!
//! None of them polls: each sleeps until it is rung or until the moment it knows of.

use std::time::{Duration, Instant};

use super::engine::{Engine, TRY_AGAIN};
use crate::buffer::Alarm;
use crate::error::Result;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// What nobody waits to see written is written within this time.
const WRITE_DELAY: Duration = Duration::from_millis(5);

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
    records: u64,
    position: u64,
    bytes: u64,
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
    /// `bytes` is the size of the snapshot that recovery found.
    pub(crate) fn new(options: KeeperOptions, bytes: u64) -> Self {
        let last = LastSnapshot { at: Instant::now(), records: 0, position: 0, bytes };
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

    /// Takes a snapshot now.
    pub(crate) fn take(&self, engine: &Engine) -> Result<()> {
        let _turn = lock(&self.taking);
        let (records, marks) = (engine.buffer.journal.records(), engine.buffer.journal.marks());
        let bytes = engine.buffer.snapshot()?;
        *lock(&self.last) =
            LastSnapshot { at: Instant::now(), records, position: marks.reserved, bytes };
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Returns when nobody takes one any more. The journal was poisoned, so nobody begins to.
    pub(crate) fn rest(&self) {
        drop(lock(&self.taking));
    }

    /// How long until a snapshot is due; none while too little was written since the last one.
    fn due_in(&self, engine: &Engine) -> Option<Duration> {
        let last = *lock(&self.last);
        let records = engine.buffer.journal.records().saturating_sub(last.records);
        let bytes = engine.buffer.journal.marks().reserved.saturating_sub(last.position);
        if records == 0 || bytes < last.bytes {
            None
        } else if records >= self.options.snapshot_threshold {
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
            timer.alarm.wait(seen, None);
            // A failure poisons the journal, and everybody hears of it from there; without room, the next ring helps.
            let _ = engine.buffer.run_expired(engine.now());
            continue;
        }
        timer.awake();
        let next = engine.run_due();
        timer.asleep_until(next);
        timer.alarm.wait(seen, next.map(|next| next.since(engine.now())));
    }
}

/// Syncs, writes and makes spares until the engine is closed.
pub(crate) fn keep_disk(engine: &Engine, options: KeeperOptions, snapshots: &Snapshots) {
    let state = &engine.buffer.state;
    let journal = &engine.buffer.journal;
    let (mut sync_by, mut write_by, mut owed_by): (
        Option<Instant>,
        Option<Instant>,
        Option<Instant>,
    ) = (None, None, None);
    loop {
        let seen = state.disk.count();
        if engine.is_closed() {
            return;
        }
        if journal.lacks_spare() {
            // No room: it is tried again when room is asked for.
            let _ = journal.make_spare(0);
        }
        let now = Instant::now();
        let is_due = |by: Option<Instant>| by.is_some_and(|by| by <= now);
        if journal.awaits_sync() || is_due(sync_by) {
            (sync_by, write_by) = (None, None);
            state.sync_wish.hear();
            state.write_wish.hear();
            // A failure poisons the journal, and everybody hears of it from there.
            let _ = journal.sync();
            if snapshots.due_in(engine).is_some() {
                snapshots.alarm.ring_if_heard();
            }
        } else if is_due(write_by) {
            write_by = None;
            state.write_wish.hear();
            let _ = journal.write();
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
        let next = [sync_by, write_by, owed_by].into_iter().flatten().min();
        state.disk.wait(seen, next.map(|next| next.saturating_duration_since(Instant::now())));
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
    snapshots.alarm.ring();
}

/// Starts the keepers.
pub(crate) fn start(
    engine: &Arc<Engine>,
    snapshots: &Arc<Snapshots>,
    options: KeeperOptions,
) -> std::io::Result<Vec<std::thread::JoinHandle<()>>> {
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.into()).spawn(run)
    };
    let time = Arc::clone(engine);
    let (disk, disk_snapshots) = (Arc::clone(engine), Arc::clone(snapshots));
    let (snapshot, snapshots) = (Arc::clone(engine), Arc::clone(snapshots));
    Ok(vec![
        spawn("libmq-time", Box::new(move || keep_time(&time, options)))?,
        spawn("libmq-disk", Box::new(move || keep_disk(&disk, options, &disk_snapshots)))?,
        spawn("libmq-snapshot", Box::new(move || keep_snapshots(&snapshot, &snapshots)))?,
    ])
}
