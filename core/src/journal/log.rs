//! The journal: reserve, copy, commit, show.
//!
//! An append takes the tail's lock for as long as it takes to give the records their positions and copy them into the
//! current chunk; the caller's `finish` runs under the same lock, so whatever it makes of the positions happens in the
//! order of the records. (Who writes at once, and has nobody beside it, may do that behind the write instead.) Nothing is on
//! disk yet. A commit then writes everything there is ([`Level::Os`]), or writes and syncs it ([`Level::Sync`]), and *shows*
//! the effects that were waiting for that, in the order of the records.
//!
//! Invariants:
//! - positions only grow, and no position is given twice, in this run or any later one;
//! - an effect is shown once, after every record at or below it has reached the effect's level;
//! - a failed write or sync inside allocated space poisons the journal: nothing is appended or committed any more;
//! - the records of a group lie in one segment, one behind the other.
//!
//! It does not know what records mean; it gives up segments and takes snapshots only when told to.

use super::allowance::Allowance;
use super::chunk::Bytes;
use super::commit::Gate;
use super::effects::{Level, Queue, Show, Showing};
use super::files::Files;
use super::image::Image;
use super::record;
use super::segment::{BrokerId, Segment};
use super::snapshot::{SnapshotHeader, SnapshotWriter};
use super::space::Space;
use super::tail::Tail;
use super::writing::Writing;
use crate::error::{Error, ErrorKind, Result};
use crate::patience::Patience;
use crate::storage::{LOCK, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// Bytes that may be appended and not yet written; who is about to append more, writes first.
pub(super) const BACKLOG_MAX: u64 = 8 << 20;

/// The marks of the log, each a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) reserved: u64,
    pub(crate) written: u64,
    pub(crate) durable: u64,
    pub(crate) shown: u64,
}

/// How a journal is laid out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JournalOptions {
    pub(crate) segment_bytes: u64,
    pub(crate) cache_bytes: u64,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal<S: Show> {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) options: JournalOptions,
    pub(super) allowance: Allowance,
    pub(super) show: Arc<S>,
    pub(super) tail: Mutex<Tail<S::Effect>>,
    /// The tail's position, for those who only look. Stored under the tail's lock; release, so that who sees it and
    /// then takes the lock sees what was appended.
    pub(super) reserved: AtomicU64,
    /// Held by who makes the next spare.
    pub(super) making: Mutex<()>,
    pub(super) written: Gate<Writing<S::Effect>>,
    pub(super) durable: Gate<()>,
    /// How far what waited for a sync is shown. A gate of its own, so that the next sync need not wait for that.
    shown: Gate<Showing<S::Effect>>,
    /// Where the effects being shown begin, at either level.
    showing_from: [Arc<AtomicU64>; 2],
    space: Space,
    syncs: AtomicU64,
    /// Whether the tail is poisoned, for those who only look. Release on store, acquire on load.
    is_poisoned: AtomicBool,
    broker: BrokerId,
    opening: u64,
}

impl<S: Show> Journal<S> {
    /// Begins to append to a segment that was just made for this opening.
    pub(crate) fn begin(
        storage: Arc<dyn Storage>,
        show: Arc<S>,
        options: JournalOptions,
        allowance: Allowance,
        segments: Vec<Arc<Segment>>,
        first: Arc<Segment>,
    ) -> Self {
        let position = first.first();
        let header = first.header;
        let tail = Tail::new(Arc::clone(&first));
        let (writing, showing) = (Writing::new(), Showing::new());
        let patience = match storage.is_memory() {
            true => Patience::OF_A_COPY,
            false => Patience::OF_A_WRITE,
        };
        let froms = [&writing.showing.from, &showing.from];
        Self {
            showing_from: froms.map(Arc::clone),
            space: Space::new(Arc::clone(&storage), options, segments, first, show.stock()),
            storage,
            options,
            allowance,
            show,
            tail: Mutex::new(tail),
            reserved: AtomicU64::new(position),
            making: Mutex::new(()),
            written: Gate::new(position, patience, writing),
            durable: Gate::new(position, Patience::NONE, ()),
            shown: Gate::new(position, patience, showing),
            syncs: AtomicU64::new(0),
            is_poisoned: AtomicBool::new(false),
            broker: header.broker,
            opening: header.opening,
        }
    }

    /// Which opening of the broker this is.
    pub(crate) fn opening(&self) -> u64 {
        self.opening
    }

    /// Bytes of an ordinary segment.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Begins a snapshot.
    pub(crate) fn begin_snapshot(&self) -> Result<SnapshotWriter<'_>> {
        SnapshotWriter::create(&self.storage, &self.allowance, self.show.live())
    }

    /// Completes a snapshot of what was shown from `begin` on; the log is synced to `end`. Answers its bytes. Older snapshots
    /// are gone then.
    pub(crate) fn finish_snapshot(
        &self,
        mut snapshot: SnapshotWriter<'_>,
        begin: u64,
        end: u64,
    ) -> Result<u64> {
        for segment in self.space.below(end) {
            snapshot.segment(&segment.header)?;
        }
        let size = snapshot.finish(SnapshotHeader { broker: self.broker, begin, end })?;
        super::snapshot::remove_before(&*self.storage, end);
        Ok(size.bytes)
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Writes what is appended if it has grown too much: called by who is about to append, before it locks anything
    /// that showing effects needs.
    pub(crate) fn relieve(&self) -> Result<()> {
        let backlog = self.reserved().saturating_sub(self.written.reached());
        if backlog > BACKLOG_MAX { self.write() } else { Ok(()) }
    }

    /// Returns when everything below `position` has reached the level, and what waited for that is shown.
    pub(crate) fn commit(&self, level: Level, position: u64) -> Result<()> {
        match level {
            Level::Os => self.reach_written(position, level),
            Level::Sync => {
                self.make_durable(position)?;
                self.show_synced(position)
            }
        }
    }

    /// As [`Journal::commit`] at level sync, for who is to know of the sync alone: what is synced stays so where the journal ends
    /// before it is shown.
    pub(crate) fn sync_to(&self, position: u64) -> Result<()> {
        self.make_durable(position)?;
        let _ = self.show_synced(position);
        Ok(())
    }

    /// Returns when everything below `position` is synced. What waited for that is still to be shown.
    pub(crate) fn make_durable(&self, position: u64) -> Result<()> {
        self.heed(self.durable.reach(position, |()| self.sync_round()))
    }

    /// Returns when everything below `position` is shown, which is synced.
    fn show_synced(&self, position: u64) -> Result<()> {
        self.heed(self.shown.reach(position, |showing| self.show_round(showing)))
    }

    /// Returns when everything below `position` is written, for what is to reach that level.
    fn reach_written(&self, position: u64, level: Level) -> Result<()> {
        self.heed(self.written.reach(position, |writing| self.write_round(writing, level)))
    }

    /// Poisons the journal where a round has failed.
    pub(super) fn heed(&self, reached: Result<()>) -> Result<()> {
        reached.inspect_err(|failure| {
            // Else a round whose leader panicked would be known to those alone who commit.
            if !self.is_poisoned.load(Ordering::Acquire) {
                self.poison(failure.clone());
            }
        })
    }

    /// Writes everything there is.
    pub(crate) fn write(&self) -> Result<()> {
        self.commit(Level::Os, self.reserved())
    }

    /// Writes and syncs everything there is; does nothing where nothing is unsynced.
    pub(crate) fn sync(&self) -> Result<()> {
        self.commit(Level::Sync, self.reserved())
    }

    fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Acquire)
    }

    /// How far the log is synced.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.reached()
    }

    /// Where a snapshot may end that has seen all effects there are. Everything below it is synced when this returns.
    ///
    /// # Errors
    /// `CLOSED` where the log has ended meanwhile: a snapshot that ends behind the records which close the log would be
    /// taken for a sign that the log has lost its end.
    pub(crate) fn snapshot_end(&self) -> Result<u64> {
        let end = {
            let tail = lock(&self.tail);
            tail.check()?;
            tail.position
        };
        self.commit(Level::Sync, end)?;
        Ok(end)
    }

    /// The log and its newest snapshot as they are now, synced. Nobody cleans until this returns: the caller sees to that.
    ///
    /// # Errors
    /// `CLOSED`, `POISONED`; `IO` where the snapshot cannot be opened.
    pub(crate) fn image(&self) -> Result<Image> {
        let end = self.snapshot_end()?;
        let snapshot = super::snapshot::newest(&*self.storage);
        let snapshot = snapshot
            .map_err(|cause| Error::io("open the snapshot in", self.storage.path(), &cause))?;
        Ok(Image::new(self.storage.path(), snapshot, self.space.below(end), end))
    }

    pub(crate) fn marks(&self) -> Marks {
        let tail = lock(&self.tail);
        Marks {
            reserved: tail.position,
            written: self.written.reached(),
            durable: self.durable.reached(),
            shown: self.lowest_unshown(&tail),
        }
    }

    /// Operations logged so far: a record each, but for those that are logged together.
    pub(crate) fn operations(&self) -> u64 {
        lock(&self.tail).operations
    }

    /// Whether effects wait for a sync.
    pub(crate) fn awaits_sync(&self) -> bool {
        lock(&self.tail).sync.oldest().is_some()
    }

    /// The body of the record at this position, and its kind. The caller knows that it was shown.
    ///
    /// # Errors
    /// `CORRUPT` where the bytes on disk are not that record any more; `IO`.
    pub(crate) fn read(&self, position: u64) -> Result<(u8, Bytes)> {
        // Before the bytes: who writes them meanwhile moves the mark.
        let written = self.written.reached();
        self.space.read(position).or_else(|missing| {
            // What was written again may have left the cache before it came to its file.
            if position < written {
                return Err(missing);
            }
            self.write()?;
            self.space.read(position)
        })
    }

    /// Refuses everything from now on.
    pub(crate) fn poison(&self, cause: Error) {
        let (is_first, cause) = {
            let mut tail = lock(&self.tail);
            (tail.poison.is_none(), tail.poison.get_or_insert(cause).clone())
        };
        self.is_poisoned.store(true, Ordering::Release);
        self.written.fail(cause.clone());
        self.durable.fail(cause.clone());
        self.shown.fail(cause.clone());
        if is_first {
            self.show.poisoned(&cause);
        }
    }

    /// Returns when nobody writes, syncs, shows or makes a segment any more. It was poisoned, so nobody begins to.
    pub(crate) fn rest(&self) {
        drop(lock(&self.making));
        self.written.rest(Writing::let_go);
        self.durable.rest(|()| ());
        self.shown.rest(|_| ());
    }

    /// Lets go of all files. Nobody writes any more.
    pub(crate) fn let_go(&self) {
        self.space.close();
        lock(&self.tail).let_go();
    }

    pub(crate) fn poisoned(&self) -> Option<Error> {
        lock(&self.tail).poison.clone()
    }

    /// Refuses a poisoned journal, at the price of a load.
    pub(crate) fn check(&self) -> Result<()> {
        let poisoned = self.is_poisoned.load(Ordering::Acquire);
        poisoned.then(|| self.poisoned()).flatten().map_or(Ok(()), Err)
    }

    /// Ends the log with a close record, synced; nothing can be appended after it.
    ///
    /// Everything before it is synced first, so that it vouches for all of it: whatever is missing from a log that ends
    /// in a close record was durable once.
    pub(crate) fn close(&self) -> Result<()> {
        loop {
            self.sync()?;
            let mut tail = lock(&self.tail);
            tail.check()?;
            let durable = self.durable.reached();
            if durable < tail.position {
                // A call that was under way has appended something meanwhile.
                continue;
            }
            // The footer's room is kept free in every segment, so this always fits.
            for record in record::CLOSING {
                tail.copy(&[record], durable, &self.space);
            }
            self.reserved.store(tail.position, Ordering::Release);
            tail.closed = true;
            break;
        }
        self.sync()?;
        // Spares that are left behind are removed at the next open.
        let spares = std::mem::take(&mut lock(&self.tail).spares);
        self.remove_newest_first(spares.iter().rev(), |spare| self.space.discard(spare));
        Ok(())
    }

    /// Removes the segments of this opening, of which nobody was told: the log is as it was found. It was poisoned, and
    /// nobody writes any more.
    pub(crate) fn take_back(&self) {
        let Some(first) = self.space.made_in(self.opening).into_iter().next() else { return };
        let first = first.name();
        let names = self.storage.list().unwrap_or_default();
        let files = Files::sort(&*self.storage, names).unwrap_or_default();
        let made = |name: &&String| (name.len(), name.as_str()) >= (first.len(), first.as_str());
        let newest_first = files.segments.iter().rev().take_while(made);
        self.remove_newest_first(newest_first, |name| self.storage.remove(name));
    }

    /// Removes segments of the log's end, also for a power failure: each names the one before it, which has to be there as long.
    /// What is left of them where that cannot be had is a log.
    fn remove_newest_first<T>(
        &self,
        segments: impl Iterator<Item = T>,
        remove: impl Fn(T) -> std::io::Result<()>,
    ) {
        for segment in segments {
            // What was removed before is so for good, be it by somebody who could not make it.
            if self.storage.sync_dir().and_then(|()| remove(segment)).is_err() {
                return;
            }
        }
    }

    /// Writes all that was appended so far and shows what waited for it; answers how far that was.
    fn write_round(&self, writing: &mut Writing<S::Effect>, level: Level) -> Result<u64> {
        let end = lock(&self.tail).unwritten(self.written.reached(), writing);
        self.write_and_show(writing, level)?;
        Ok(end)
    }

    /// Writes what the tail has handed out, and shows what waited for it.
    pub(super) fn write_and_show(
        &self,
        writing: &mut Writing<S::Effect>,
        level: Level,
    ) -> Result<()> {
        self.write_out(writing, level)?;
        writing.showing.show(&*self.show);
        // Behind the show: it may wake a keeper, and whoever waits for a message need not wait for that.
        self.show.unsynced();
        Ok(())
    }

    /// Writes what the tail has handed out, for what is to reach that level.
    pub(super) fn write_out(&self, writing: &mut Writing<S::Effect>, level: Level) -> Result<()> {
        // SAFETY: the ranges lie below the tail's position, which was read under the tail's lock that every fill below it was
        // done under.
        unsafe { writing.write(level) }
            .map_err(|(segment, cause)| self.io_failed("write to", &segment.name(), &cause))
    }

    /// Syncs all that was appended so far; answers how far that was.
    fn sync_round(&self) -> Result<u64> {
        self.reach_written(self.reserved(), Level::Sync)?;
        // Everything below this is in its file.
        let end = self.written.reached();
        self.durable.cover(end);
        let segments = lock(&self.tail).written_and_unsynced(end);
        for segment in &segments {
            if let Err(cause) = segment.file.sync() {
                return Err(self.io_failed("sync", &segment.name(), &cause));
            }
        }
        if let Err(cause) = self.storage.check_place() {
            return Err(self.io_failed("find", LOCK, &cause));
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if segments.iter().any(|segment| segment.end() <= end) {
            lock(&self.tail).unsynced.retain(|segment| segment.end() > end);
        }
        Ok(end)
    }

    /// Shows what waited for what is synced by now; answers how far that is.
    fn show_round(&self, showing: &mut Showing<S::Effect>) -> Result<u64> {
        let end = self.durable.reached();
        lock(&self.tail).sync.take_below(end, showing);
        showing.show(&*self.show);
        Ok(end)
    }

    /// The lowest position whose effect is not shown yet.
    fn lowest_unshown(&self, tail: &Tail<S::Effect>) -> u64 {
        let showing = self.showing_from.iter().map(|from| from.load(Ordering::Acquire));
        let waiting = [&tail.os, &tail.sync].into_iter().filter_map(Queue::oldest);
        showing.chain(waiting).fold(tail.position, u64::min)
    }

    fn io_failed(&self, doing: &str, name: &str, cause: &std::io::Error) -> Error {
        let path = self.storage.path().join(name);
        let error = Error::io(doing, path, cause).with_kind(ErrorKind::Poisoned);
        self.poison(error.clone());
        error
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::journal::allowance::{Live, Need};
    use crate::journal::by_hand::first_segment;
    use crate::journal::effects::Pending;
    use crate::journal::record::Record;
    use crate::storage::{Gain, MemoryStorage, Watched};

    /// Panics when it is to show something.
    struct Faulty;

    impl Show for Faulty {
        type Effect = ();

        fn show(&self, mut effects: impl Iterator<Item = ()>) {
            assert!(effects.next().is_none(), "a bug");
        }

        fn shown(&self) {}

        fn unsynced(&self) {}

        fn live(&self) -> Live {
            Live::default()
        }

        fn poisoned(&self, _cause: &Error) {}
    }

    /// Counts how often it is told that nothing will be shown any more.
    #[derive(Default)]
    struct Told(AtomicU64);

    impl Show for Told {
        type Effect = ();

        fn show(&self, effects: impl Iterator<Item = ()>) {
            effects.for_each(drop);
        }

        fn shown(&self) {}

        fn unsynced(&self) {}

        fn live(&self) -> Live {
            Live::default()
        }

        fn poisoned(&self, _cause: &Error) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does something else before it shows the first thing.
    #[derive(Default)]
    struct Busy(Mutex<Option<Box<dyn FnOnce() + Send>>>);

    impl Show for Busy {
        type Effect = ();

        fn show(&self, effects: impl Iterator<Item = ()>) {
            let first = lock(&self.0).take();
            if let Some(first) = first {
                first();
            }
            effects.for_each(drop);
        }

        fn shown(&self) {}

        fn unsynced(&self) {}

        fn live(&self) -> Live {
            Live::default()
        }

        fn poisoned(&self, _cause: &Error) {}
    }

    /// A journal without a cache, in its first segment.
    fn journal<S: Show>(storage: Arc<dyn Storage>, show: Arc<S>) -> Journal<S> {
        let options = JournalOptions { segment_bytes: 1 << 20, ..JournalOptions::default() };
        let segment = first_segment(&*storage, options.segment_bytes);
        let allowance = Allowance::without_limit(&storage);
        Journal::begin(storage, show, options, allowance, Vec::new(), segment)
    }

    /// Appends what a sync is to show; answers where it ends.
    fn append_for_sync<S: Show<Effect = ()>>(journal: &Journal<S>) -> Result<u64> {
        let record = Record::new(record::KIND_USER_MIN, &[b"body"]);
        let finish = |_, pending: &mut Pending<'_, ()>| pending.at(Level::Sync, ());
        journal.append(Need::Settle, &[record], finish).map(|appended| appended.end)
    }

    /// What was written again is referred to before it is in its file. It had left the cache; who read it back met zeros
    /// there, and by then somebody else had written it: so the zeros were taken for damage, and the broker was poisoned.
    #[test]
    fn what_is_written_while_it_is_read_back_is_not_damaged() {
        let storage = Watched::default();
        let meanwhile = storage.meanwhile();
        let journal = Arc::new(journal(Arc::new(storage), Arc::new(Told::default())));
        let append = |body: &[u8]| {
            let body = [body];
            let record = Record::new(record::KIND_USER_MIN, &body);
            journal.append(Need::Settle, &[record], |_, _| {}).unwrap().start
        };
        let moved = append(b"moved");
        // In another chunk, which takes the cache alone.
        append(&[7; 100_000]);
        let other = Arc::clone(&journal);
        meanwhile.set(move || other.write().unwrap());
        let (_, content) = journal.read(moved).unwrap();
        assert_eq!(&*content, b"moved");
        assert!(!meanwhile.is_to_come(), "it was read back");
    }

    /// The disk was idle while what it had synced was shown.
    #[test]
    fn the_next_sync_does_not_wait_for_what_the_last_one_shows() {
        let busy = Arc::new(Busy::default());
        let journal = Arc::new(journal(Arc::new(MemoryStorage::new()), Arc::clone(&busy)));
        let (first, second) =
            (append_for_sync(&journal).unwrap(), append_for_sync(&journal).unwrap());
        let other = Arc::clone(&journal);
        *lock(&busy.0) = Some(Box::new(move || {
            let (told, tells) = std::sync::mpsc::channel();
            let third = append_for_sync(&other).unwrap();
            std::thread::spawn(move || told.send(other.make_durable(third)));
            let waits = std::time::Duration::from_secs(20);
            tells.recv_timeout(waits).expect("it waits for what is shown").unwrap();
        }));
        journal.commit(Level::Sync, first).unwrap();
        let marks = journal.marks();
        assert!(marks.durable > second);
        assert_eq!(marks.shown, second, "what came behind the first sync is not shown yet");
        journal.sync().unwrap();
        assert_eq!(journal.marks().shown, journal.marks().durable);
    }

    #[test]
    fn what_is_synced_stays_so_where_the_journal_ends_before_it_is_shown() {
        let journal = journal(Arc::new(MemoryStorage::new()), Arc::new(Told::default()));
        let (synced, unsynced) =
            (append_for_sync(&journal).unwrap(), append_for_sync(&journal).unwrap());
        journal.durable.reach(synced, |()| Ok(synced)).unwrap();
        journal.poison(Error::closed());
        journal.sync_to(synced).unwrap();
        assert_eq!(journal.sync_to(unsynced).unwrap_err().kind(), ErrorKind::Closed);
        let shown = journal.commit(Level::Sync, synced);
        assert_eq!(shown.unwrap_err().kind(), ErrorKind::Closed);
    }

    /// That nothing was written there is seen by the files. Each write is small; the rest of that is `ahead`'s.
    #[test]
    fn each_segment_is_made_ready_ahead_of_what_is_written() {
        let storage = Watched::that_gain(Gain::All);
        let ready = storage.ready();
        let journal = journal(Arc::new(storage), Arc::new(Told::default()));
        let record = Record::new(record::KIND_USER_MIN, &[&[7; 1000]]);
        while journal.space().segment_count() == 1 {
            journal.append(Need::Grow, &[record], |_, _| {}).unwrap();
            journal.write().unwrap();
        }
        journal.write().unwrap();
        let ready = std::mem::take(&mut *lock(&ready));
        let (last, first) = ready.split_last().unwrap();
        assert_eq!(first.first(), Some(&(4096..16 << 10)));
        let (most, left) = (16 << 10, |end| (1 << 20) - end);
        assert!(first.windows(2).all(|two| two[0].end == two[1].start));
        assert!(first.iter().all(|range| range.end - range.start <= most));
        assert!(first.last().is_some_and(|range| left(range.end) < most), "{first:?}");
        assert_eq!(last, &(4096..16 << 10), "of the second segment");
    }

    /// On XFS a large write that nobody syncs took longer for that.
    #[test]
    fn what_gains_where_a_sync_follows_is_made_ready_for_those_writes_alone() {
        let storage = Watched::that_gain(Gain::Synced);
        let ready = storage.ready();
        let journal = journal(Arc::new(storage), Arc::new(Told::default()));
        let record = Record::new(record::KIND_USER_MIN, &[&[7; 1000]]);
        let commit = |level| {
            let appended = journal.append(Need::Grow, &[record], |_, _| {}).unwrap();
            journal.commit(level, appended.end).unwrap();
            std::mem::take(&mut *lock(&ready))
        };
        assert_eq!((commit(Level::Os), commit(Level::Os)), (vec![], vec![]));
        let [made] = &commit(Level::Sync)[..] else { panic!("it is not made ready once") };
        assert_eq!(made.end, 16 << 10);
        assert_eq!((commit(Level::Sync), commit(Level::Os)), (vec![], vec![]), "there is enough");
    }

    /// A group that the segment has no room for, and that does not begin its last quarter either, since the end of a small
    /// segment is kept free: that there was room was answered, and found wrong, without end.
    #[test]
    fn what_does_not_fit_beside_the_footer_gets_another_segment() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let options = JournalOptions { segment_bytes: 64 << 10, ..JournalOptions::default() };
        let segment = first_segment(&*storage, 16 << 10);
        let allowance = Allowance::without_limit(&storage);
        let told = Arc::new(Told::default());
        let journal = Journal::begin(storage, told, options, allowance, Vec::new(), segment);
        let body = [&[0; 8192 - 32][..]];
        let record = Record::new(record::KIND_USER_MIN, &body);
        let appended = journal.append(Need::Clean, &[record], |_, _| {}).unwrap();
        assert!(appended.start > 16 << 10);
    }

    /// A broker that was poisoned told so once more when it was closed, and whoever counts failures counted two.
    #[test]
    fn that_it_is_poisoned_is_told_once() {
        let told = Arc::new(Told::default());
        let journal = journal(Arc::new(MemoryStorage::new()), Arc::clone(&told));
        journal.poison(Error::new(ErrorKind::Poisoned, "the disk is gone"));
        journal.poison(Error::closed());
        assert_eq!(journal.check().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(told.0.load(Ordering::Relaxed), 1);
    }

    /// A panic of who led a commit failed all commits to come, but nobody looked at those before a message was handed
    /// out: a queue would have been worked off whose ends nobody could write.
    #[test]
    fn a_commit_that_panicked_poisons_the_journal() {
        let journal = journal(Arc::new(MemoryStorage::new()), Arc::new(Faulty));
        let record = Record::new(record::KIND_USER_MIN, &[b"body"]);
        let append =
            || journal.append(Need::Settle, &[record], |_, pending| pending.at(Level::Os, ()));
        append().unwrap();
        let commit = std::panic::AssertUnwindSafe(|| journal.write());
        assert!(std::panic::catch_unwind(commit).is_err());
        assert_eq!(journal.write().unwrap_err().kind(), ErrorKind::Panic);
        assert_eq!(journal.check().unwrap_err().kind(), ErrorKind::Panic);
        assert_eq!(append().unwrap_err().kind(), ErrorKind::Panic);
    }
}
