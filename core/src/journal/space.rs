//! Space: which segments hold the log, and where its recent bytes are in memory.
//!
//! Reads find a record in a recent chunk, without a copy, or read it back from its segment and check it. The newest
//! chunk is always kept, however small the cache.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use smallvec::SmallVec;

use super::chunk::{Bytes, Chunk};
use super::log::JournalOptions;
use super::readback::ReadBack;
use super::record::{HEADER_BYTES, Header};
use super::segment::Segment;
use crate::error::{Error, Result};
use crate::latch::Latch;
use crate::pages::Pages;
use crate::stock::Stock;
use crate::storage::Storage;
use crate::sync::{Arc, Mutex, lock};

/// The segments of an open journal and its cache.
#[derive(Debug)]
pub(crate) struct Space {
    storage: Arc<dyn Storage>,
    cache_bytes: u64,
    /// Ordered by position; the last one is being appended to.
    segments: Mutex<Vec<Arc<Segment>>>,
    cache: Latch<Cache>,
    readback: ReadBack,
    stock: Arc<Stock>,
}

#[derive(Debug, Default)]
struct Cache {
    /// Ordered by position.
    chunks: VecDeque<Arc<Chunk>>,
    bytes: u64,
}

impl Space {
    /// The space of a journal that goes on in `active`, after these segments.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
        mut segments: Vec<Arc<Segment>>,
        active: Arc<Segment>,
        stock: Arc<Stock>,
    ) -> Self {
        segments.push(active);
        Self {
            storage,
            cache_bytes: options.cache_bytes,
            segments: Mutex::new(segments),
            cache: Latch::default(),
            readback: ReadBack::default(),
            stock,
        }
    }

    /// Notes that the log goes on in this segment.
    pub(crate) fn began(&self, segment: &Arc<Segment>) {
        lock(&self.segments).push(Arc::clone(segment));
    }

    /// Bytes of recent chunks that are kept.
    pub(crate) fn cache_bytes(&self) -> usize {
        usize::try_from(self.cache_bytes).unwrap_or(usize::MAX)
    }

    /// A new chunk of so many bytes, kept for readers. The oldest ones beyond the cache's size go; the memory of one of them
    /// is its own, if nobody has it any more: a page that the system has to find and to clear costs more than what is copied there.
    pub(crate) fn chunk(&self, segment: &Arc<Segment>, start: u64, bytes: usize) -> Arc<Chunk> {
        let left = self.let_go(bytes as u64).and_then(Chunk::into_memory);
        let memory = left.filter(|memory| memory.len() == bytes);
        // Where there is no memory the process ends, as it would have for a vector.
        let new = || Pages::zeros(bytes).unwrap_or_else(|| Pages::new(bytes, || 0));
        let memory = memory.or_else(|| self.stock.take(bytes)).unwrap_or_else(new);
        self.remember(Chunk::new(Arc::clone(segment), start, memory))
    }

    /// A new chunk of bytes that are there already, kept for readers.
    pub(crate) fn filled(&self, segment: &Arc<Segment>, start: u64, bytes: Vec<u8>) -> Arc<Chunk> {
        self.let_go(bytes.len() as u64);
        self.remember(Chunk::new(Arc::clone(segment), start, bytes.into()))
    }

    /// Lets go of the oldest chunks, as there are to be so many bytes more; answers the last one of which nobody reads.
    fn let_go(&self, more: u64) -> Option<Chunk> {
        let mut gone = SmallVec::<[_; 4]>::new();
        let mut cache = self.cache.take();
        while cache.bytes + more > self.cache_bytes {
            let Some(oldest) = cache.chunks.pop_front() else { break };
            cache.bytes -= oldest.end() - oldest.start();
            gone.push(oldest);
        }
        drop(cache);
        gone.into_iter().filter_map(Arc::into_inner).last()
    }

    fn remember(&self, chunk: Chunk) -> Arc<Chunk> {
        let chunk = Arc::new(chunk);
        let mut cache = self.cache.take();
        cache.bytes += chunk.end() - chunk.start();
        cache.chunks.push_back(Arc::clone(&chunk));
        chunk
    }

    /// The body of the record at this position, and its kind. The caller knows that it was shown, so it was written.
    ///
    /// # Errors
    /// `CORRUPT` where the bytes on disk are not that record any more; `IO`.
    pub(crate) fn read(&self, position: u64) -> Result<(u8, Bytes)> {
        match self.cached(position) {
            Some(found) => Ok(found),
            None => self.read_back(position),
        }
    }

    /// Bytes that the segments take on disk.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.segments).iter().map(|segment| segment.header.capacity).sum()
    }

    /// Bytes that the cache holds.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cache.take().bytes
    }

    pub(crate) fn segment_count(&self) -> usize {
        lock(&self.segments).len()
    }

    /// The segments that end at or before a position, but for the one being appended to.
    pub(crate) fn before(&self, position: u64) -> Vec<Arc<Segment>> {
        let segments = lock(&self.segments);
        let sealed = segments.len().saturating_sub(1);
        segments.iter().take(sealed).filter(|segment| segment.end() <= position).cloned().collect()
    }

    /// The segments that begin before a position, oldest first.
    pub(crate) fn below(&self, position: u64) -> Vec<Arc<Segment>> {
        let segments = lock(&self.segments);
        segments.iter().filter(|segment| segment.header.start < position).cloned().collect()
    }

    /// The segments that this opening has made, oldest first.
    pub(crate) fn made_in(&self, opening: u64) -> Vec<Arc<Segment>> {
        let segments = lock(&self.segments);
        segments.iter().filter(|segment| segment.header.opening == opening).cloned().collect()
    }

    /// Removes a segment that nothing refers to any more. A reader that has it open keeps its bytes; the cache must not, or
    /// the disk would not have their room, nor the process their descriptors.
    pub(crate) fn discard(&self, segment: &Arc<Segment>) -> io::Result<()> {
        lock(&self.segments).retain(|other| !Arc::ptr_eq(other, segment));
        self.forget(segment.first()..segment.end());
        self.storage.remove(&segment.name())
    }

    /// Lets go of all files: the broker is closed. What was read before stays.
    pub(crate) fn close(&self) {
        lock(&self.segments).clear();
        self.forget(0..u64::MAX);
    }

    /// Takes the chunks that begin there out of the cache.
    fn forget(&self, positions: Range<u64>) {
        let mut cache = self.cache.take();
        let before = |end: u64| cache.chunks.partition_point(|chunk| chunk.start() < end);
        let places = before(positions.start)..before(positions.end);
        let gone: Vec<_> = cache.chunks.drain(places).collect();
        cache.bytes -= gone.iter().map(|chunk| chunk.end() - chunk.start()).sum::<u64>();
        drop(cache);
        drop(gone);
    }

    fn cached(&self, position: u64) -> Option<(u8, Bytes)> {
        let chunk = {
            let cache = self.cache.take();
            let after = cache.chunks.partition_point(|chunk| chunk.start() <= position);
            let chunk = cache.chunks.get(after.checked_sub(1)?)?;
            Arc::clone(chunk)
        };
        let body = position + HEADER_BYTES as u64;
        if body > chunk.end() {
            return None;
        }
        // SAFETY: the record was shown, so its fill happened before the commit that showed it, and that before this.
        let header = unsafe { chunk.bytes(position..body) }.first_chunk()?;
        let header = Header::of_our_own(header);
        let range = body..body + u64::from(header.body_len);
        (range.end <= chunk.end()).then(|| (header.kind, Bytes::Shared(chunk, range)))
    }

    fn read_back(&self, position: u64) -> Result<(u8, Bytes)> {
        let segment = {
            let segments = lock(&self.segments);
            if segments.is_empty() {
                return Err(Error::closed());
            }
            let after = segments.partition_point(|segment| segment.header.start <= position);
            after.checked_sub(1).and_then(|index| segments.get(index)).cloned()
        };
        let Some(segment) = segment.filter(|segment| position < segment.end()) else {
            return Err(Error::corrupt(
                self.storage.path(),
                position,
                "the segment of this position is missing",
            ));
        };
        self.readback.read(&*self.storage, &segment, position)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::journal::by_hand::first_segment;
    use crate::storage::MemoryStorage;

    /// The chunk's address.
    fn place(chunk: &Chunk) -> *const u8 {
        // SAFETY: of no bytes, which nobody fills.
        unsafe { chunk.bytes(chunk.start()..chunk.start()) }.as_ptr()
    }

    #[test]
    fn the_memory_of_what_leaves_the_cache_is_used_again_once_nobody_reads_in_it() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let segment = first_segment(&*storage, 1 << 20);
        let options = JournalOptions { segment_bytes: 1 << 20, cache_bytes: 2 << 10 };
        let space = Space::new(storage, options, Vec::new(), Arc::clone(&segment), Arc::default());
        let first = place(&space.chunk(&segment, 0, 1 << 10));
        let second = space.chunk(&segment, 1 << 10, 1 << 10);
        let third = space.chunk(&segment, 2 << 10, 1 << 10);
        assert_eq!(place(&third), first);
        let fourth = space.chunk(&segment, 3 << 10, 1 << 10);
        assert_ne!(place(&fourth), place(&second), "somebody has the second one");
        assert_eq!(space.cached_bytes(), 2 << 10);
        // Of another size, it is of no use.
        drop(third);
        space.chunk(&segment, 4 << 10, 512);
        assert_eq!(space.cached_bytes(), 1536);
    }
}
