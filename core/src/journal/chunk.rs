//! Chunks: the memory that records are copied into, written out of, and read from while they are recent.
//!
//! A chunk covers a run of positions of one segment. It is filled from the front by whoever holds the tail's lock and
//! never changed again, so a range that was filled once can be shared freely: with the committer that writes it, and
//! with every handler that reads a body out of it.
//!
//! Invariants:
//! - only `fill` writes, only into bytes no `fill` was given before, and only one `fill` runs at a time;
//! - `bytes` is asked only for ranges whose `fill` happened before (through the tail's lock or the commit gates);
//! - memory is filled anew, as another chunk's, only when neither a reader nor a file has it any more.
//!
//! This is one of the few places with `unsafe`: the rules above are what the borrow checker cannot see.

use std::fmt;
use std::ops::{Deref, Range};

use super::segment::Segment;
use crate::pages::Pages;
use crate::storage::Lasting;
use crate::sync::Arc;

/// Memory for the records of a run of positions.
pub(crate) struct Chunk {
    segment: Arc<Segment>,
    start: u64,
    memory: Arc<Pages<u8>>,
    #[cfg(loom)]
    fills: std::sync::Mutex<Vec<(Range<u64>, loom::cell::UnsafeCell<()>)>>,
}

impl Chunk {
    /// A chunk at this position of this segment, in memory of which nothing is known.
    pub(crate) fn new(segment: Arc<Segment>, start: u64, memory: Pages<u8>) -> Self {
        Self {
            segment,
            start,
            memory: Arc::new(memory),
            #[cfg(loom)]
            fills: std::sync::Mutex::default(),
        }
    }

    /// The memory of a chunk that nobody looks at any more, unless its file keeps that.
    pub(crate) fn into_memory(self) -> Option<Pages<u8>> {
        Arc::into_inner(self.memory)
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The position behind the last byte there is room for.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.memory.as_raw().len() as u64
    }

    /// Writes a range of positions that is not in use yet.
    ///
    /// # Safety
    /// The caller holds the lock of the tail this chunk belongs to, and no call was given any of these positions
    /// before.
    pub(crate) unsafe fn fill<R>(
        &self,
        range: Range<u64>,
        write: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        #[cfg(loom)]
        self.note_fill(range.clone());
        // SAFETY: the bytes are the chunk's own; by this function's contract nobody else reads or writes them until the lock is
        // given back.
        write(unsafe { self.memory.part(self.places(range)).as_mut() })
    }

    /// The bytes of a range of positions that was filled.
    ///
    /// # Safety
    /// The `fill` of every byte of the range happened before this call.
    pub(crate) unsafe fn bytes(&self, range: Range<u64>) -> &[u8] {
        #[cfg(loom)]
        self.note_look(&range);
        // SAFETY: the bytes are the chunk's own, and live as long as it; by this function's contract they were filled, and
        // nothing is filled twice.
        unsafe { self.memory.part(self.places(range)).as_ref() }
    }

    /// As [`Chunk::bytes`], for who may keep them.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn lasting(&self, range: Range<u64>) -> Lasting<'_> {
        #[cfg(loom)]
        self.note_look(&range);
        // SAFETY: as there; the memory is filled anew only once nobody shares it.
        unsafe { Lasting::new(&self.memory, self.places(range)) }
    }

    /// Has loom see that a range was written. The list of ranges orders nothing: its lock is not loom's.
    #[cfg(loom)]
    pub(super) fn note_fill(&self, range: Range<u64>) {
        let mut fills = self.fills.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let overlaps =
            |(other, _): &(Range<u64>, _)| other.start < range.end && range.start < other.end;
        assert!(!fills.iter().any(overlaps), "{range:?} is filled twice");
        let witness = loom::cell::UnsafeCell::new(());
        witness.with_mut(|_| ());
        fills.push((range, witness));
    }

    /// Has loom see that a range is read: what filled it has to have happened before.
    #[cfg(loom)]
    fn note_look(&self, range: &Range<u64>) {
        let fills = self.fills.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut filled = 0;
        for (other, witness) in fills.iter() {
            let common = other.end.min(range.end).saturating_sub(other.start.max(range.start));
            if common > 0 {
                witness.with(|_| ());
            }
            filled += common;
        }
        assert_eq!(filled, range.end - range.start, "{range:?} is not filled");
    }

    /// Where a range of positions lies in the memory, of which no reference is ever made to the whole: some of it is being
    /// written.
    fn places(&self, range: Range<u64>) -> Range<usize> {
        let place = |position: u64| {
            position.checked_sub(self.start).and_then(|place| usize::try_from(place).ok())
        };
        match place(range.start).zip(place(range.end)) {
            Some((start, end)) => start..end,
            None => panic!("positions {range:?} are not in the chunk at {}", self.start),
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({}..{})", self.start, self.end())
    }
}

/// Bytes of the log: shared with a recent chunk, or read back from a segment.
#[derive(Clone)]
pub(crate) enum Bytes {
    /// A filled range of a chunk.
    Shared(Arc<Chunk>, Range<u64>),
    /// Bytes of their own: as they were read, since a copy of them might find no memory.
    Owned(Arc<Vec<u8>>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // Of a record below the written mark it is known by the mark, which is stored after the fill and read before.
            // Content that was written again may be read above it: where it is now is read under the guard of its slot or
            // of the dead letters, under which it was put there after the fill.
            // SAFETY: `Shared` is made by `Journal::read` alone, for records whose fill happened before, as said above.
            Self::Shared(chunk, range) => unsafe { chunk.bytes(range.clone()) },
            Self::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}
