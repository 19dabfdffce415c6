//! The journal: reserve, copy, commit, show.
//!
//! An append takes the tail's lock for as long as it takes to give the records their positions and copy them into the
//! current chunk; the caller's `finish` runs under the same lock, so whatever it makes of the positions happens in the
//! order of the records. Nothing is on disk yet. A commit then writes everything there is ([`Level::Os`]), or writes
//! and syncs it ([`Level::Sync`]), and *shows* the effects that were waiting for that, in the order of the records.
//!
//! Invariants:
//! - positions only grow, and no position is given twice, in this run or any later one;
//! - an effect is shown once, after every record at or below it has reached the effect's level;
//! - a failed write or sync inside allocated space poisons the journal: nothing is appended or committed any more;
//! - the records of a group lie in one segment, one behind the other.
//!
//! It does not know what records mean; it gives up segments and takes snapshots only when told to.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::chunk::{Bytes, Chunk};
use super::commit::Gate;
use super::prepared::Prepared;
use super::record::{self, KIND_CLOSE, KIND_ROLL, Record};
use super::segment::{BrokerId, HEADER_BYTES, Segment, SegmentHeader};
use super::space::Space;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// Bytes of an ordinary chunk.
const CHUNK_BYTES: usize = 1 << 20;

/// Records together larger than this, or more than so many, are copied and checksummed before the tail is locked.
const COPY_INSIDE_MAX: usize = 2 << 10;
const COPY_INSIDE_RECORDS_MAX: usize = 4;

/// Records that were copied beforehand and are larger than this become a chunk as they are, and are not copied again.
const CHUNK_OF_ITS_OWN_MIN: usize = 64 << 10;

/// Bytes that may be appended and not yet written; who is about to append more, writes first.
const BACKLOG_MAX: u64 = 8 << 20;

/// What lies between the record that closes the log and the one that says so again: more than a disk loses at once.
const CLOSE_PADDING: [u8; 4096] = [0; 4096];

/// Bytes of the record that ends a segment.
const ROLL_BYTES: u64 = record::space(0) as u64;

/// Kept free at a segment's end for the records that end it, or the log.
const FOOTER_BYTES: u64 = record::space(CLOSE_PADDING.len()) as u64 + ROLL_BYTES;

/// Looks at the mark before a caller sleeps: a write takes about a microsecond, a sync far longer.
const WRITE_SPINS: u32 = 200;

/// How far a record has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Its bytes are in the kernel.
    Os,
    /// A sync covers it.
    Sync,
}

/// What an append may do when the disk has no room for another spare segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It adds to what is kept: refused, so that there is room for what frees.
    Grow,
    /// It settles what is there: goes on in the room that is left.
    Settle,
}

/// Makes the effects of records visible.
pub(crate) trait Show: Send + Sync {
    /// What a record does once it has reached its level.
    type Effect: Send;

    /// Shows these effects, in order. Never called by two threads for one level at once.
    fn show(&self, effects: &mut Vec<Self::Effect>);

    /// Something was shown, and the mark tells so.
    fn shown(&self);

    /// Something was written that no sync covers.
    fn unsynced(&self);
}

/// Collects the effects of an append.
#[derive(Debug)]
pub(crate) struct Pending<'a, E> {
    os: &'a mut Queue<E>,
    sync: &'a mut Queue<E>,
    position: u64,
}

impl<E> Pending<'_, E> {
    /// Shows this when the append has reached the level.
    pub(crate) fn at(&mut self, level: Level, effect: E) {
        let queue = match level {
            Level::Os => &mut self.os,
            Level::Sync => &mut self.sync,
        };
        queue.effects.push_back((self.position, effect));
    }
}

/// Effects that wait for a level.
#[derive(Debug)]
struct Queue<E> {
    effects: VecDeque<(u64, E)>,
}

impl<E> Queue<E> {
    fn new() -> Self {
        Self { effects: VecDeque::new() }
    }

    /// Moves out the effects of records below `end`.
    fn take_below(&mut self, end: u64, showing: &mut Showing<E>) {
        showing.from.store(self.oldest().unwrap_or(NOTHING), Ordering::Release);
        while self.effects.front().is_some_and(|(position, _)| *position < end) {
            showing.effects.extend(self.effects.pop_front().map(|(_, effect)| effect));
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.effects.front().map(|(position, _)| *position)
    }
}

/// The position of no effect.
const NOTHING: u64 = u64::MAX;

/// Effects that are being shown by who leads a round, and the position of the oldest. It is set under the tail's lock,
/// before they leave their queue, and cleared when they are shown: so whoever has that lock knows of each in one of the
/// two places.
#[derive(Debug)]
struct Showing<E> {
    effects: Vec<E>,
    from: Arc<AtomicU64>,
}

impl<E> Showing<E> {
    fn new() -> Self {
        Self { effects: Vec::new(), from: Arc::new(AtomicU64::new(NOTHING)) }
    }

    fn show<S: Show<Effect = E>>(&mut self, show: &S) {
        let any = !self.effects.is_empty();
        show.show(&mut self.effects);
        self.from.store(NOTHING, Ordering::Release);
        if any {
            show.shown();
        }
    }
}

/// Where an append ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The position of its first record.
    pub(crate) start: u64,
    /// The position behind its last record.
    pub(crate) end: u64,
}

/// The marks of the log, each a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) reserved: u64,
    pub(crate) written: u64,
    pub(crate) durable: u64,
    pub(crate) shown: u64,
}

/// How a journal is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalOptions {
    pub(crate) segment_bytes: u64,
    pub(crate) cache_bytes: u64,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal<S: Show> {
    storage: Arc<dyn Storage>,
    options: JournalOptions,
    show: Arc<S>,
    tail: Mutex<Tail<S::Effect>>,
    /// The tail's position, for those who only look. Stored under the tail's lock; release, so that who sees it and
    /// then takes the lock sees what was appended.
    reserved: AtomicU64,
    /// Held by who makes the next spare.
    making: Mutex<()>,
    written: Gate,
    durable: Gate,
    /// Held by who leads a round of the gate of this level.
    showing_os: Mutex<Showing<S::Effect>>,
    showing_sync: Mutex<Showing<S::Effect>>,
    /// Where the effects being shown begin, at either level.
    showing_from: [Arc<AtomicU64>; 2],
    space: Space,
    syncs: AtomicU64,
    /// Whether the tail is poisoned, for those who only look. Release on store, acquire on load.
    is_poisoned: AtomicBool,
    broker: BrokerId,
    opens: u64,
}

/// The growing end of the log.
#[derive(Debug)]
struct Tail<E> {
    /// Where the next record goes.
    position: u64,
    segment: Arc<Segment>,
    /// Segments that were rolled and that no sync has covered to their ends, oldest first.
    unsynced: VecDeque<Arc<Segment>>,
    /// Chunks with bytes that are not written yet, oldest first; the last one is being filled.
    chunks: VecDeque<Filled>,
    spare: Option<Arc<Segment>>,
    /// The last attempt to make a spare failed for want of room.
    spare_refused: bool,
    os: Queue<E>,
    sync: Queue<E>,
    records: u64,
    poison: Option<Error>,
    closed: bool,
}

/// A chunk and the position behind its last record.
#[derive(Debug)]
struct Filled {
    chunk: Arc<Chunk>,
    end: u64,
}

impl<S: Show> Journal<S> {
    /// Begins to append to a segment that was just made for this opening.
    pub(crate) fn begin(
        storage: Arc<dyn Storage>,
        show: Arc<S>,
        options: JournalOptions,
        segments: Vec<Arc<Segment>>,
        first: Arc<Segment>,
    ) -> Self {
        let position = first.first();
        let header = first.header;
        let tail = Tail {
            position,
            segment: Arc::clone(&first),
            unsynced: VecDeque::new(),
            chunks: VecDeque::new(),
            spare: None,
            spare_refused: false,
            os: Queue::new(),
            sync: Queue::new(),
            records: 0,
            poison: None,
            closed: false,
        };
        let (showing_os, showing_sync) = (Showing::new(), Showing::new());
        Self {
            showing_from: [Arc::clone(&showing_os.from), Arc::clone(&showing_sync.from)],
            showing_os: Mutex::new(showing_os),
            showing_sync: Mutex::new(showing_sync),
            space: Space::new(Arc::clone(&storage), options, segments, first),
            storage,
            options,
            show,
            tail: Mutex::new(tail),
            reserved: AtomicU64::new(position),
            making: Mutex::new(()),
            written: Gate::new(position, WRITE_SPINS),
            durable: Gate::new(position, 0),
            syncs: AtomicU64::new(0),
            is_poisoned: AtomicBool::new(false),
            broker: header.broker,
            opens: header.opens,
        }
    }

    /// Which opening of the broker this is, counted from 1.
    pub(crate) fn opens(&self) -> u64 {
        self.opens
    }

    pub(crate) fn broker_id(&self) -> BrokerId {
        self.broker
    }

    /// Bytes of an ordinary segment.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }

    /// Removes the snapshots that a newer one, which ends at `end`, has made useless.
    pub(crate) fn forget_snapshots_before(&self, end: u64) {
        let newest = super::snapshot::file_name(end);
        for name in self.storage.list().unwrap_or_default() {
            if name.ends_with(".snapshot") && name < newest {
                // What cannot be removed now is removed at the next open.
                let _ = self.storage.remove(&name);
            }
        }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
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

    /// Gives the records their positions and copies them; several are one group. `finish` learns the first position,
    /// under the tail's lock. Shows nothing, so it may be called under any lock but the tail's.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `POISONED`, `CLOSED`: then nothing was appended and `finish` did not run.
    pub(crate) fn append(
        &self,
        need: Need,
        records: &[Record<'_>],
        finish: impl FnOnce(u64, &mut Pending<'_, S::Effect>),
    ) -> Result<Appended> {
        let bytes: usize = records.iter().map(Record::space).sum();
        let is_long = bytes > COPY_INSIDE_MAX || records.len() > COPY_INSIDE_RECORDS_MAX;
        let prepared = is_long.then(|| Prepared::new(records, bytes));
        let bytes = bytes as u64;
        loop {
            let mut tail = lock(&self.tail);
            tail.check()?;
            if need == Need::Grow && tail.spare.is_none() && tail.spare_refused {
                drop(tail);
                self.make_spare(0)?;
                continue;
            }
            if tail.position + bytes + FOOTER_BYTES <= tail.segment.end() {
                let durable = self.durable.reached();
                let start = tail.position;
                match prepared {
                    Some(prepared) => tail.place(prepared, records, durable, &self.space),
                    None => tail.copy(records, durable, &self.space),
                }
                tail.records += records.len() as u64;
                self.reserved.store(start + bytes, Ordering::Release);
                let Tail { os, sync, .. } = &mut *tail;
                finish(start, &mut Pending { os, sync, position: start });
                return Ok(Appended { start, end: start + bytes });
            }
            match tail.spare.take() {
                Some(next) => tail.roll(next, self.durable.reached(), &self.space),
                None => {
                    drop(tail);
                    self.make_spare(bytes)?;
                }
            }
        }
    }

    /// Returns when everything below `position` has reached the level.
    pub(crate) fn commit(&self, level: Level, position: u64) -> Result<()> {
        match level {
            Level::Os => self.written.reach(position, || self.write_round()),
            Level::Sync => self.durable.reach(position, || self.sync_round()),
        }
    }

    /// Writes everything there is.
    pub(crate) fn write(&self) -> Result<()> {
        self.commit(Level::Os, self.reserved())
    }

    /// Writes and syncs everything there is; answers at once where nothing is unsynced.
    pub(crate) fn sync(&self) -> Result<()> {
        self.commit(Level::Sync, self.reserved())
    }

    fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Acquire)
    }

    pub(crate) fn marks(&self) -> Marks {
        let tail = lock(&self.tail);
        Marks {
            reserved: tail.position,
            written: self.written.reached(),
            durable: self.durable.reached(),
            shown: self.shown(&tail),
        }
    }

    /// Records appended so far.
    pub(crate) fn records(&self) -> u64 {
        lock(&self.tail).records
    }

    /// Whether effects wait for a sync.
    pub(crate) fn awaits_sync(&self) -> bool {
        !lock(&self.tail).sync.effects.is_empty()
    }

    /// The body of the record at this position, and its kind. The caller knows that it was shown.
    ///
    /// # Errors
    /// `CORRUPT` where the bytes on disk are not that record any more; `IO`.
    pub(crate) fn read(&self, position: u64) -> Result<(u8, Bytes)> {
        self.space.read(position)
    }

    /// Makes the spare segment, if there is none, with room for a group of this many bytes.
    ///
    /// # Errors
    /// `STORAGE_FULL` where the disk has no room for it; asked again, it is tried again.
    pub(crate) fn make_spare(&self, group_bytes: u64) -> Result<()> {
        // One at a time. Without a spare the tail cannot roll, so the segment it is in stays the last one.
        let _turn = lock(&self.making);
        let last = {
            let tail = lock(&self.tail);
            tail.check()?;
            if tail.spare.is_some() {
                return Ok(());
            }
            tail.segment.header
        };
        let wanted = (HEADER_BYTES + group_bytes + FOOTER_BYTES).next_multiple_of(HEADER_BYTES);
        let header = SegmentHeader {
            salt: crate::random::u32(),
            number: last.number + 1,
            start: last.start + last.capacity,
            capacity: self.options.segment_bytes.max(wanted),
            previous: last.number,
            previous_end: None,
            ..last
        };
        let made = Segment::create(&*self.storage, header);
        let mut tail = lock(&self.tail);
        match made {
            Ok(segment) => {
                tail.spare = Some(segment);
                tail.spare_refused = false;
                Ok(())
            }
            Err(error) => {
                tail.spare_refused = error.kind() == ErrorKind::StorageFull;
                Err(error)
            }
        }
    }

    pub(crate) fn lacks_spare(&self) -> bool {
        let tail = lock(&self.tail);
        tail.spare.is_none() && !tail.closed && tail.poison.is_none()
    }

    /// Refuses everything from now on.
    pub(crate) fn poison(&self, cause: Error) {
        let cause = lock(&self.tail).poison.get_or_insert(cause).clone();
        self.is_poisoned.store(true, Ordering::Release);
        self.written.fail(cause.clone());
        self.durable.fail(cause);
    }

    /// Returns when nobody writes, syncs or makes a segment any more. It was poisoned, so nobody begins to.
    pub(crate) fn rest(&self) {
        drop(lock(&self.making));
        self.written.rest();
        self.durable.rest();
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
    /// in a close record was durable once. The record comes twice, far enough apart that what damages the end of the
    /// log leaves one of them to say so.
    pub(crate) fn close(&self) -> Result<()> {
        let padding: [&[u8]; 1] = [&CLOSE_PADDING];
        let parts: [&[&[u8]]; 2] = [&padding, &[]];
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
            for parts in parts {
                let record = Record { kind: KIND_CLOSE, parts };
                tail.copy(&[record], durable, &self.space);
            }
            self.reserved.store(tail.position, Ordering::Release);
            tail.closed = true;
            break;
        }
        self.sync()?;
        if let Some(spare) = lock(&self.tail).spare.take() {
            // A spare that is left behind is removed at the next open.
            let _ = self.space.discard(&spare);
        }
        Ok(())
    }

    /// Writes all that was appended so far and shows what waited for it; answers how far that was.
    fn write_round(&self) -> Result<u64> {
        let mut showing = lock(&self.showing_os);
        let written = self.written.reached();
        let (end, chunks) = lock(&self.tail).unwritten(written, &mut showing);
        for (chunk, range) in chunks {
            let segment = chunk.segment();
            // SAFETY: the range lies below the tail's position, which was read under the tail's lock that every fill
            // below it was done under.
            let bytes = unsafe { chunk.bytes(range.clone()) };
            if let Err(cause) = segment.file.write_at(bytes, segment.offset(range.start)) {
                return Err(self.io_failed("write to", segment, &cause));
            }
        }
        self.show.unsynced();
        showing.show(&*self.show);
        Ok(end)
    }

    /// Syncs all that was appended so far and shows what waited for it; answers how far that was.
    fn sync_round(&self) -> Result<u64> {
        self.write()?;
        // Everything below this is in its file.
        let end = self.written.reached();
        self.durable.cover(end);
        let segments = lock(&self.tail).written_and_unsynced(end);
        for segment in segments {
            if let Err(cause) = segment.file.sync() {
                return Err(self.io_failed("sync", &segment, &cause));
            }
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let mut showing = lock(&self.showing_sync);
        let mut tail = lock(&self.tail);
        tail.unsynced.retain(|segment| segment.end() > end);
        tail.sync.take_below(end, &mut showing);
        drop(tail);
        showing.show(&*self.show);
        Ok(end)
    }

    /// The lowest position whose effect is not shown yet.
    fn shown(&self, tail: &Tail<S::Effect>) -> u64 {
        let showing = self.showing_from.iter().map(|from| from.load(Ordering::Acquire));
        let waiting = [tail.os.oldest(), tail.sync.oldest()].into_iter().flatten();
        showing.chain(waiting).fold(tail.position, u64::min)
    }

    fn io_failed(&self, doing: &str, segment: &Segment, cause: &std::io::Error) -> Error {
        let path = self.storage.path().join(segment.name());
        let error = Error::io(doing, path, cause).with_kind(ErrorKind::Poisoned);
        self.poison(error.clone());
        error
    }
}

impl<E> Tail<E> {
    fn check(&self) -> Result<()> {
        match &self.poison {
            Some(cause) => Err(cause.clone()),
            None if self.closed => Err(Error::closed()),
            None => Ok(()),
        }
    }

    /// Copies records to the end of the log, for which the segment has room.
    fn copy(&mut self, records: &[Record<'_>], durable: u64, space: &Space) {
        let bytes: usize = records.iter().map(Record::space).sum();
        let (start, salt) = (self.position, self.segment.header.salt);
        self.fill(bytes, space, |mut rest| {
            let mut position = start;
            for (index, record) in records.iter().enumerate() {
                let (place, after) = rest.split_at_mut(record.space());
                let more = index + 1 < records.len();
                let body_crc = record.copy_body(place);
                record.write_header(place, more, position, durable, body_crc, salt);
                position += record.space() as u64;
                rest = after;
            }
        });
    }

    /// Takes records that were copied beforehand, for which the segment has room.
    fn place(&mut self, prepared: Prepared, records: &[Record<'_>], durable: u64, space: &Space) {
        let bytes = prepared.finish(records, self.position, durable, self.segment.header.salt);
        if bytes.len() <= CHUNK_OF_ITS_OWN_MIN {
            return self.fill(bytes.len(), space, |place| place.copy_from_slice(&bytes));
        }
        let chunk = Arc::new(Chunk::filled(Arc::clone(&self.segment), self.position, bytes));
        space.remember(&chunk);
        self.position = chunk.end();
        self.chunks.push_back(Filled { end: chunk.end(), chunk });
    }

    /// Has the next bytes of the log written, in a chunk with room for them.
    fn fill(&mut self, bytes: usize, space: &Space, write: impl FnOnce(&mut [u8])) {
        let Self { position, segment, chunks, .. } = self;
        let end = *position + bytes as u64;
        let fits = |filled: &Filled| {
            Arc::ptr_eq(filled.chunk.segment(), segment) && end <= filled.chunk.end()
        };
        if !chunks.back().is_some_and(fits) {
            // Behind large records, which have chunks of their own, come mostly more of them.
            let is_after_large = chunks.back().is_some_and(|last| last.end == last.chunk.end());
            let most = if is_after_large { CHUNK_OF_ITS_OWN_MIN } else { CHUNK_BYTES };
            let room = usize::try_from(segment.end() - *position).unwrap_or(CHUNK_BYTES);
            let size = most.max(bytes).min(room);
            let chunk = Arc::new(Chunk::new(Arc::clone(segment), *position, size));
            space.remember(&chunk);
            chunks.push_back(Filled { chunk, end: *position });
        }
        let Some(filled) = chunks.back_mut() else { return };
        // SAFETY: `self` is only reached through the tail's lock, and `position` only grows, so no two fills are given
        // the same place.
        unsafe { filled.chunk.fill(*position..end, write) };
        *position = end;
        filled.end = end;
    }

    /// Ends the segment and goes on in the next one.
    fn roll(&mut self, next: Arc<Segment>, durable: u64, space: &Space) {
        let record = Record { kind: KIND_ROLL, parts: &[] };
        self.copy(&[record], durable, space);
        space.began(&next);
        self.position = next.first();
        self.unsynced.push_back(std::mem::replace(&mut self.segment, next));
    }

    /// The segments that have bytes below `end` which no sync may have covered.
    fn written_and_unsynced(&self, end: u64) -> SmallVec<[Arc<Segment>; 2]> {
        let all = self.unsynced.iter().chain([&self.segment]);
        all.filter(|segment| segment.first() < end).cloned().collect()
    }

    /// The ranges that are not written yet, and the effects that wait for them to be; forgets chunks that are full.
    fn unwritten(&mut self, written: u64, showing: &mut Showing<E>) -> (u64, Unwritten) {
        let ranges = self
            .chunks
            .iter()
            .map(|Filled { chunk, end }| (Arc::clone(chunk), chunk.start().max(written)..*end))
            .filter(|(_, range)| !range.is_empty())
            .collect();
        let full = self.chunks.len().saturating_sub(1);
        self.chunks.drain(..full);
        self.os.take_below(self.position, showing);
        (self.position, ranges)
    }
}

/// The ranges of chunks that are not in their files yet.
type Unwritten = SmallVec<[(Arc<Chunk>, std::ops::Range<u64>); 1]>;

/// "Nothing is shown before it is written, everything is shown in order, and a commit returns when its own is":
/// appends and commits of three threads, every interleaving.
#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::super::record::Header;
    use super::*;
    use crate::storage::MemoryStorage;

    /// Remembers what was shown, and looks into the file whether it is there.
    struct Witness {
        segment: Arc<Segment>,
        shown: std::sync::Mutex<Vec<u64>>,
    }

    impl Show for Witness {
        type Effect = u64;

        fn show(&self, effects: &mut Vec<u64>) {
            for position in effects.drain(..) {
                let mut header = [0; record::HEADER_BYTES];
                let offset = self.segment.offset(position);
                self.segment.file.read_at(&mut header, offset).unwrap();
                assert!(Header::decode(&header, position, self.segment.header.salt).is_some());
                self.shown.lock().unwrap().push(position);
            }
        }

        fn unsynced(&self) {}

        fn shown(&self) {}
    }

    fn journal() -> (Arc<Journal<Witness>>, Arc<Witness>) {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let header = SegmentHeader {
            salt: 7,
            broker: [1; 16],
            number: 1,
            start: 0,
            capacity: 16 << 10,
            opens: 1,
            previous: 0,
            previous_end: None,
        };
        let segment = Segment::create(&*storage, header).unwrap();
        let witness = Witness { segment: Arc::clone(&segment), shown: Default::default() };
        let show = Arc::new(witness);
        let options = JournalOptions { segment_bytes: 16 << 10, cache_bytes: 0 };
        let journal = Journal::begin(storage, Arc::clone(&show), options, Vec::new(), segment);
        (Arc::new(journal), show)
    }

    fn append(journal: &Journal<Witness>, level: Level) -> Appended {
        let record = Record { kind: record::KIND_USER_MIN, parts: &[b"body"] };
        let finish = |position, pending: &mut Pending<'_, u64>| pending.at(level, position);
        journal.append(Need::Settle, &[record], finish).unwrap()
    }

    fn commit_and_look(journal: &Journal<Witness>, show: &Witness, level: Level) {
        let appended = append(journal, level);
        journal.commit(level, appended.end).unwrap();
        assert!(show.shown.lock().unwrap().contains(&appended.start));
        assert!(journal.marks().written >= appended.end);
    }

    #[test]
    fn loom_reserve_and_publish() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(1);
        model.max_branches = 20_000;
        model.check(|| {
            let (journal, show) = journal();
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (journal, show) = (Arc::clone(&journal), Arc::clone(&show));
                    thread::spawn(move || commit_and_look(&journal, &show, Level::Os))
                })
                .collect();
            commit_and_look(&journal, &show, Level::Os);
            for thread in threads {
                thread.join().unwrap();
            }
            let shown = show.shown.lock().unwrap().clone();
            assert_eq!(shown.len(), 3);
            assert!(shown.is_sorted(), "{shown:?}");
            let marks = journal.marks();
            assert_eq!((marks.shown, marks.written), (marks.reserved, marks.reserved));
        });
    }

    #[test]
    fn loom_two_levels_at_once() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.max_branches = 20_000;
        model.check(|| {
            let (journal, show) = journal();
            let other = {
                let (journal, show) = (Arc::clone(&journal), Arc::clone(&show));
                thread::spawn(move || commit_and_look(&journal, &show, Level::Os))
            };
            commit_and_look(&journal, &show, Level::Sync);
            other.join().unwrap();
            let marks = journal.marks();
            assert_eq!(show.shown.lock().unwrap().len(), 2);
            assert_eq!((marks.shown, marks.written), (marks.reserved, marks.reserved));
        });
    }
}
