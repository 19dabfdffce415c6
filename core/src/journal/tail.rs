//! The tail: the growing end of the log, under one lock.
//!
//! Invariants:
//! - `position` only grows, and every byte below it is filled, in this segment or an earlier one;
//! - the last chunk is being filled; those before it are full, and dropped here when they have been written.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::allowance::Need;
use super::chunk::Chunk;
use super::effects::{Pending, Queue};
use super::group::Group;
use super::record::{KIND_ROLL, Record, write_group};
use super::segment::{FOOTER_BYTES, Segment, room_in};
use super::space::Space;
use super::writing::Writing;
use crate::error::{Error, ErrorKind, Result};
use crate::pages::LARGE_BYTES;
use crate::sync::Arc;

/// Bytes of the first chunk, and of one behind large records.
const CHUNK_BYTES_MIN: usize = 64 << 10;

/// Bytes of an ordinary chunk: one large piece.
const CHUNK_BYTES_MAX: usize = LARGE_BYTES;

/// A record that was copied beforehand and is larger than this becomes a chunk as it is, and is not copied again.
const RECORD_OF_ITS_OWN_MIN: u64 = 64 << 10;

/// So do many small ones that are larger than this together: to copy fewer takes less time than pages of their own do.
const GROUP_OF_ITS_OWN_MIN: u64 = 256 << 10;

/// The growing end of the log.
#[derive(Debug)]
pub(super) struct Tail<E> {
    /// Where the next record goes.
    pub(super) position: u64,
    pub(super) segment: Arc<Segment>,
    /// Segments that were rolled and that no sync has covered to their ends, oldest first.
    pub(super) unsynced: VecDeque<Arc<Segment>>,
    /// Chunks with bytes that are not written yet, oldest first; the last one is being filled.
    chunks: VecDeque<Filled>,
    /// Bytes of the next ordinary chunk, twice those of the one before.
    chunk_bytes: usize,
    /// Segments that are made ahead, the next one first.
    pub(super) spares: VecDeque<Arc<Segment>>,
    /// When the segment was begun, and the position at which it is asked how long ago that is.
    pace: Pace,
    /// What there was no room for when it was last asked: the least of that.
    pub(super) refused: Option<Need>,
    /// What the segment, and the spare that is there, have room for beside settles.
    pub(super) granted: Need,
    /// Entries that have come to live.
    grown: u64,
    grant: Grant,
    pub(super) os: Queue<E>,
    pub(super) sync: Queue<E>,
    pub(super) operations: u64,
    pub(super) poison: Option<Error>,
    pub(super) closed: bool,
}

impl<E> Tail<E> {
    /// The beginning of a segment in which nothing is yet.
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self {
            position: segment.first(),
            pace: Pace::of(&segment),
            segment,
            unsynced: VecDeque::new(),
            chunks: VecDeque::new(),
            chunk_bytes: CHUNK_BYTES_MIN,
            spares: VecDeque::new(),
            refused: None,
            granted: Need::Settle,
            grown: 0,
            grant: Grant::default(),
            os: Queue::new(),
            sync: Queue::new(),
            operations: 0,
            poison: None,
            closed: false,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match &self.poison {
            Some(cause) => Err(cause.clone()),
            None if self.closed => Err(Error::closed()),
            None => Ok(()),
        }
    }

    /// Whether what needs that may be appended without asking for room first.
    pub(super) fn may(&self, need: Need) -> bool {
        need == Need::Settle || self.granted >= need && self.grown < self.grant.end
    }

    /// Whether what grows may be appended, and much is left of what was granted to it: else it is time to ask for more, before
    /// somebody has to wait for that.
    pub(super) fn has_much_to_grow(&self) -> bool {
        self.may(Need::Grow) && self.grown < self.grant.ask_at
    }

    /// Entries that have come to live so far.
    pub(super) fn grown(&self) -> u64 {
        self.grown
    }

    /// Grants room for what needs that, and for so many entries more than there were when it was asked for.
    pub(super) fn grant(&mut self, need: Need, grown: u64, growth: u64) {
        let end = grown + growth;
        self.granted = need;
        self.grant = Grant { end, ask_at: end - growth / 2, is_told: false };
    }

    /// Notes that so many entries have come to live; answers, once a grant, whether it is time to ask for more.
    pub(super) fn grow(&mut self, entries: u64) -> bool {
        self.grown += entries;
        let is_low = self.grown >= self.grant.ask_at;
        is_low && !std::mem::replace(&mut self.grant.is_told, true)
    }

    /// Whether so many bytes more have room in the segment.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.position + bytes + FOOTER_BYTES <= self.segment.end()
    }

    /// Notes how far the segment is filled; answers, once a segment, whether it is being filled so fast that a second spare is
    /// wanted.
    pub(super) fn note_pace(&mut self) -> bool {
        self.position >= self.pace.ask_at && self.pace.ask()
    }

    /// Whether the segment is filled so fast that a second spare is wanted, and there is one spare.
    pub(super) fn wants_second_spare(&self) -> bool {
        self.pace.is_fast && self.spares.len() == 1
    }

    /// Whether so many bytes more would begin the last quarter of the segment. Without a spare that quarter is for what
    /// settles: somebody has to see first whether there is room for a spare.
    pub(super) fn is_nearly_full(&self, bytes: u64) -> bool {
        self.position + bytes > self.segment.end() - self.segment.header.capacity / 4
    }

    /// Whether the spare that comes next is too small for so many bytes.
    pub(super) fn has_small_spare(&self, bytes: u64) -> bool {
        self.spares.front().is_some_and(|spare| room_in(spare.header.capacity) < bytes)
    }

    /// Notes that a segment could not be made for what needs it.
    pub(super) fn was_refused(&mut self, need: Need, error: &Error) {
        if error.kind() == ErrorKind::StorageFull {
            self.refused = Some(self.refused.map_or(need, |refused| refused.min(need)));
            self.granted = self.granted.min(need.less());
        } else {
            self.refused = None;
        }
    }

    /// Copies records to the end of the log, for which the segment has room.
    pub(super) fn copy(&mut self, records: &[Record<'_>], durable: u64, space: &Space) {
        let bytes: usize = records.iter().map(Record::space).sum();
        let start = self.position;
        self.fill(bytes, space, |place, segment| {
            write_group(records, place, start, durable, segment.header.salt);
        });
    }

    /// Takes records that were copied beforehand, for which the segment has room.
    pub(super) fn place(&mut self, group: Group, durable: u64, space: &Space) {
        let (space_of_all, records) = (group.space(), group.records());
        let is_small = space_of_all <= GROUP_OF_ITS_OWN_MIN.min(records * RECORD_OF_ITS_OWN_MIN);
        let bytes = group.finish(self.position, durable, self.segment.header.salt);
        if is_small {
            return self.fill(bytes.len(), space, |place, _| place.copy_from_slice(&bytes));
        }
        let chunk = space.filled(&self.segment, self.position, bytes);
        #[cfg(loom)]
        chunk.note_fill(chunk.start()..chunk.end());
        self.position = chunk.end();
        self.chunks.push_back(Filled { end: chunk.end(), chunk, came_as_it_is: true });
    }

    /// Has the next bytes of the log written, in a chunk with room for them.
    fn fill(&mut self, bytes: usize, space: &Space, write: impl FnOnce(&mut [u8], &Segment)) {
        let Self { position, segment, chunks, chunk_bytes, .. } = self;
        let end = *position + bytes as u64;
        let fits = |filled: &Filled| {
            Arc::ptr_eq(filled.chunk.segment(), segment) && end <= filled.chunk.end()
        };
        if !chunks.back().is_some_and(fits) {
            // Behind what has a chunk of its own comes mostly more of that.
            let is_after_large = chunks.back().is_some_and(|last| last.came_as_it_is);
            let most = if is_after_large {
                CHUNK_BYTES_MIN
            } else {
                let most = *chunk_bytes;
                *chunk_bytes = CHUNK_BYTES_MAX.min(2 * most);
                most.min(space.cache_bytes().max(CHUNK_BYTES_MIN))
            };
            let room = usize::try_from(segment.end() - *position).unwrap_or(CHUNK_BYTES_MAX);
            let size = most.max(bytes).min(room);
            let chunk = space.chunk(segment, *position, size);
            chunks.push_back(Filled { chunk, end: *position, came_as_it_is: false });
        }
        let Some(filled) = chunks.back_mut() else { return };
        // SAFETY: `self` is only reached through the tail's lock, and `position` only grows, so no two fills are given
        // the same place.
        unsafe { filled.chunk.fill(*position..end, |place| write(place, segment)) };
        *position = end;
        filled.end = end;
    }

    /// Collects the effects of an append at this position.
    pub(super) fn pending(&mut self, position: u64) -> Pending<'_, E> {
        let Self { os, sync, operations, .. } = self;
        Pending { os, sync, operations, position }
    }

    /// Ends the segment and goes on in the next one.
    pub(super) fn roll(&mut self, next: Arc<Segment>, durable: u64, space: &Space) {
        let record = Record::new(KIND_ROLL, &[]);
        self.copy(&[record], durable, space);
        space.began(&next);
        self.position = next.first();
        self.pace = Pace::of(&next);
        self.unsynced.push_back(std::mem::replace(&mut self.segment, next));
    }

    /// Lets go of all files, and of what was to be written: nobody appends or writes any more.
    pub(super) fn let_go(&mut self) {
        self.segment = self.segment.without_file();
        self.unsynced.clear();
        self.chunks.clear();
        self.spares.clear();
    }

    /// The segments that have bytes below `end` which no sync may have covered.
    pub(super) fn written_and_unsynced(&self, end: u64) -> SmallVec<[Arc<Segment>; 2]> {
        let all = self.unsynced.iter().chain([&self.segment]);
        all.filter(|segment| segment.first() < end).cloned().collect()
    }

    /// Moves out what is not written yet, and the effects that wait for it to be; forgets chunks that are full. Answers how far
    /// that goes.
    // Out of line, which compilers choose or not for no reason of ours, this costs an enqueue some 1 %.
    #[inline]
    pub(super) fn unwritten(&mut self, written: u64, writing: &mut Writing<E>) -> u64 {
        // Mostly there is one, and a drain of nothing has its price.
        while self.chunks.len() > 1 {
            let Some(Filled { chunk, end, .. }) = self.chunks.pop_front() else { break };
            let start = chunk.start().max(written);
            if start < end {
                writing.add_full(chunk, start..end);
            }
        }
        if let Some(Filled { chunk, end, .. }) = self.chunks.back() {
            writing.add_last(chunk, chunk.start().max(written)..*end);
        }
        self.os.take_below(self.position, &mut writing.showing);
        self.position
    }
}

/// How fast a segment is filled.
#[derive(Clone, Copy, Debug)]
struct Pace {
    began: Instant,
    /// With a quarter of it filled it is asked.
    ask_at: u64,
    is_fast: bool,
}

/// A segment that would be filled within this time is filled fast. While the disk takes so much, it takes it as long to make the
/// next one.
// A test's machine may stop for a while.
const FAST: Duration = Duration::from_millis(if cfg!(test) { 1_000_000 } else { 500 });

/// Of smaller ones none is: it takes much less time to fill them than to make one, whatever is done about it.
const FAST_BYTES_MIN: u64 = 8 << 20;

impl Pace {
    /// That of a segment which begins.
    fn of(segment: &Segment) -> Self {
        let capacity = segment.header.capacity;
        let is_asked = capacity >= FAST_BYTES_MIN;
        let ask_at = if is_asked { segment.header.start + capacity / 4 } else { u64::MAX };
        Self { began: Instant::now(), ask_at, is_fast: false }
    }

    /// Asks, and not again.
    #[cold]
    fn ask(&mut self) -> bool {
        self.ask_at = u64::MAX;
        self.is_fast = self.began.elapsed() < FAST / 4;
        self.is_fast
    }
}

/// How far what lives may grow.
#[derive(Clone, Copy, Debug)]
struct Grant {
    /// So many entries may have come to live before room has to be asked for again.
    end: u64,
    /// With so many it is asked for ahead of time.
    ask_at: u64,
    /// Somebody was told that it is time for that.
    is_told: bool,
}

impl Default for Grant {
    /// None, which nobody need be told.
    fn default() -> Self {
        Self { end: 0, ask_at: 0, is_told: true }
    }
}

/// A chunk and the position behind its last record.
#[derive(Debug)]
struct Filled {
    chunk: Arc<Chunk>,
    end: u64,
    /// It is a large record, or many small ones, and there is no room behind it.
    came_as_it_is: bool,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::journal::by_hand::{first_segment, following};
    use crate::journal::log::JournalOptions;
    use crate::storage::{MemoryStorage, Storage};

    const KIB: u64 = 1 << 10;
    const SEGMENT: u64 = 4 << 20;

    struct Ends {
        storage: Arc<dyn Storage>,
        space: Space,
        tail: Tail<()>,
        /// The sizes of the chunks that were made, in KiB.
        sizes: Vec<u64>,
    }

    fn ends(cache_bytes: u64) -> Ends {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let segment = first_segment(&*storage, SEGMENT);
        let options = JournalOptions { segment_bytes: SEGMENT, cache_bytes };
        let space = Space::new(
            Arc::clone(&storage),
            options,
            Vec::new(),
            Arc::clone(&segment),
            Arc::default(),
        );
        Ends { storage, space, tail: Tail::new(segment), sizes: Vec::new() }
    }

    #[expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]
    impl Ends {
        /// Appends records of so many bytes each until there were as many more chunks.
        fn append(&mut self, bytes: usize, chunks: usize) {
            self.append_groups(1, bytes, chunks);
        }

        /// As that, so many of them at a time.
        fn append_groups(&mut self, records: usize, bytes: usize, chunks: usize) {
            let (body, aim) = (vec![7; bytes], self.sizes.len() + chunks);
            let parts = [&body[..]];
            let record = Record::new(crate::journal::record::KIND_USER_MIN, &parts);
            while self.sizes.len() < aim {
                let before = self.tail.chunks.len();
                let space = records * record.space();
                if !self.tail.fits(space as u64) {
                    let header = following(&self.tail.segment.header);
                    let next = Segment::create(&*self.storage, header).unwrap();
                    self.tail.roll(next, 0, &self.space);
                }
                if space > 4096 {
                    let mut group = Group::with_room(space).unwrap();
                    (0..records).for_each(|_| group.push(&record));
                    group.sum();
                    self.tail.place(group, 0, &self.space);
                } else {
                    self.tail.copy(&[record], 0, &self.space);
                }
                let made = self.tail.chunks.iter().skip(before);
                self.sizes.extend(made.map(|it| (it.chunk.end() - it.chunk.start()) / KIB));
            }
        }
    }

    /// After a segment's end they began with twice of what had been left there, and were of odd sizes from then on.
    #[test]
    fn chunks_become_large_and_stay_so_from_segment_to_segment() {
        let mut ends = ends(64 << 20);
        ends.append(1000, 11);
        let sizes = ends.sizes.iter().copied();
        let (whole, cut): (Vec<u64>, Vec<u64>) = sizes.partition(|size| size.is_power_of_two());
        assert_eq!(whole, [64, 128, 256, 512, 1024, 2048, 2048, 2048], "{:?}", ends.sizes);
        assert!(cut.len() == 3 && cut.iter().all(|size| *size < 2048), "{:?}", ends.sizes);
    }

    #[test]
    fn chunks_behind_large_records_are_small_and_the_others_are_not() {
        let mut ends = ends(64 << 20);
        ends.append(1000, 3);
        for _ in 0..2 {
            ends.append(100_000, 1);
            ends.append(1000, 1);
        }
        ends.append(1000, 1);
        assert_eq!(ends.sizes, [64, 128, 256, 97, 64, 97, 64, 512]);
    }

    /// A chunk that such a batch filled to its end was taken for a large record, and the next one was as small again.
    #[test]
    fn chunks_become_large_where_batches_are_larger_than_the_first_one() {
        let mut ends = ends(64 << 20);
        ends.append_groups(100, 1000, 6);
        assert_eq!(ends.sizes, [100, 128, 256, 512, 1024, 2048]);
    }

    #[test]
    fn no_ordinary_chunk_is_larger_than_the_cache_but_the_smallest_there_are() {
        for (cache, largest) in [(0, 64), (256 * KIB, 256)] {
            let mut ends = ends(cache);
            ends.append(1000, 5);
            assert_eq!(ends.sizes.iter().max(), Some(&largest), "{:?}", ends.sizes);
        }
    }

    /// Where half of a grant had come before it was made, nobody was told, and where more than the last one had come, only that
    /// was counted.
    #[test]
    fn what_comes_while_room_is_asked_for_counts() {
        let Ends { mut tail, .. } = ends(0);
        assert!(!tail.grow(1), "nothing was granted");
        tail.grant(Need::Grow, tail.grown(), 16);
        assert_eq!([tail.grow(7), tail.grow(1), tail.grow(1)], [false, true, false]);
        let asked = tail.grown();
        assert!(!tail.grow(8));
        tail.grant(Need::Grow, asked, 16);
        assert!(tail.may(Need::Grow) && !tail.has_much_to_grow());
        assert_eq!([tail.grow(1), tail.grow(1)], [true, false]);
        let asked = tail.grown();
        tail.grow(1000);
        tail.grant(Need::Grow, asked, 16);
        assert!(!tail.may(Need::Grow) && tail.may(Need::Settle));
        tail.grant(Need::Grow, tail.grown(), 16);
        assert!(tail.has_much_to_grow() && tail.may(Need::Replace));
    }
}
