//! Writing: what whoever leads a write has to put into files, and to show behind that.

use std::io;
use std::ops::Range;

use super::chunk::Chunk;
use super::effects::Showing;
use super::segment::Segment;
use crate::sync::Arc;

/// A file is made ready for so many times as much as is written to it, in bytes at least and at most. Once in some eight times a write
/// takes longer for that, and a sync behind it.
const READY_TIMES: u64 = 8;
const READY_MIN: u64 = 16 << 10;
const READY_MAX: u64 = 256 << 10;

/// What a write fills of such a piece, it need not find ready.
const PIECE_BYTES: u64 = 64 << 10;

/// What lies behind the gate of what is written.
#[derive(Debug)]
pub(crate) struct Writing<E> {
    pub(super) showing: Showing<E>,
    /// Ranges of chunks that are full, oldest first.
    full: Vec<(Arc<Chunk>, Range<u64>)>,
    /// The chunk that was being filled when somebody last wrote, which the tail has as long. Kept from one write to the next: to
    /// share it anew for each would cost two locked instructions.
    last: Option<Arc<Chunk>>,
    /// What of it is to be written.
    range: Range<u64>,
    /// Up to this position its file was written to, or made ready.
    ready: u64,
}

impl<E> Writing<E> {
    pub(super) fn new() -> Self {
        Self { showing: Showing::new(), full: Vec::new(), last: None, range: 0..0, ready: 0 }
    }

    /// Adds a range of a chunk that nothing is added to any more.
    pub(super) fn add_full(&mut self, chunk: Arc<Chunk>, range: Range<u64>) {
        self.full.push((chunk, range));
    }

    /// Adds a range of the chunk that is being filled.
    pub(super) fn add_last(&mut self, chunk: &Arc<Chunk>, range: Range<u64>) {
        if !self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, chunk)) {
            self.last = Some(Arc::clone(chunk));
        }
        self.range = range;
    }

    /// Writes all of it; fails with the segment that could not be written to.
    ///
    /// # Safety
    /// All ranges were filled before this.
    pub(super) unsafe fn write(&mut self) -> Result<(), (Arc<Segment>, io::Error)> {
        // Mostly there is none, and a drain of nothing has its price.
        if !self.full.is_empty() {
            for (chunk, range) in self.full.drain(..) {
                // SAFETY: as the caller says.
                unsafe { write(&chunk, range)? };
            }
        }
        let range = std::mem::take(&mut self.range);
        match &self.last {
            Some(last) if !range.is_empty() => {
                if range.end > self.ready {
                    self.ready = make_ready(last.segment(), &range, self.ready);
                }
                // SAFETY: as the caller says.
                unsafe { write(last, range) }
            }
            _ => Ok(()),
        }
    }

    /// Lets go of chunks and their files: nobody writes any more.
    pub(super) fn let_go(&mut self) {
        self.full.clear();
        self.last = None;
    }
}

/// Makes a segment ready for what comes behind a range that is about to be written, and for its end where that begins a piece.
/// Nothing that was written so far lies in the range or behind it. Answers up to where the segment is ready then.
fn make_ready(segment: &Segment, range: &Range<u64>, ready: u64) -> u64 {
    let bytes = range.end - range.start;
    if bytes > READY_MAX {
        return range.end;
    }
    let end = segment.offset(range.end);
    let ahead = (READY_TIMES * bytes).clamp(READY_MIN, READY_MAX);
    let to = ((end + ahead) / READY_MIN * READY_MIN).min(segment.header.capacity);
    let from = segment.offset(range.start.max(ready)).max(end / PIECE_BYTES * PIECE_BYTES);
    segment.file.make_ready(from, to - from);
    segment.header.start + to
}

/// Writes a range of a chunk.
///
/// # Safety
/// It was filled before this.
unsafe fn write(chunk: &Chunk, range: Range<u64>) -> Result<(), (Arc<Segment>, io::Error)> {
    let segment = chunk.segment();
    let offset = segment.offset(range.start);
    // SAFETY: as the caller says.
    let bytes = unsafe { chunk.lasting(range) };
    let written = segment.file.write_lasting_at(&bytes, offset);
    written.map_err(|cause| (Arc::clone(segment), cause))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::journal::by_hand::first_header;
    use crate::storage::{MemoryStorage, Storage, StorageFile};
    use crate::sync::{Mutex, lock};

    const SEGMENT: u64 = 4 << 20;

    /// Notes what is made ready.
    #[derive(Debug)]
    struct Noting {
        file: Arc<dyn StorageFile>,
        ready: Mutex<Vec<Range<u64>>>,
    }

    impl StorageFile for Noting {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.file.read_at(buffer, offset)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.file.write_at(bytes, offset)
        }

        fn make_ready(&self, offset: u64, bytes: u64) {
            // Behind it, too, there is nothing yet.
            let mut there = vec![1; 512 << 10];
            let got = self.file.read_at(&mut there, offset).unwrap_or_default();
            there.truncate(got);
            assert!(bytes <= got as u64);
            assert!(there.iter().all(|byte| *byte == 0), "something is written at {offset}");
            lock(&self.ready).push(offset..offset + bytes);
        }

        fn truncate(&self, bytes: u64) -> io::Result<()> {
            self.file.truncate(bytes)
        }

        fn sync(&self) -> io::Result<()> {
            self.file.sync()
        }
    }

    /// What is made ready of a segment that is filled by writes of such lengths, one after the other, over and over.
    fn ready(lengths: &[u64]) -> io::Result<Vec<Range<u64>>> {
        let file = MemoryStorage::new().create("segment", SEGMENT)?;
        let file = Arc::new(Noting { file, ready: Mutex::default() });
        let segment = Segment::new(first_header(SEGMENT), Arc::clone(&file) as Arc<_>);
        let (mut position, mut until) = (segment.first(), 0);
        for length in lengths.iter().cycle() {
            let range = position..(position + length).min(segment.end());
            if range.is_empty() {
                break;
            }
            if range.end > until {
                until = make_ready(&segment, &range, until);
                assert!(until >= range.end);
            }
            let bytes = vec![7; usize::try_from(range.end - range.start).unwrap_or_default()];
            segment.file.write_at(&bytes, segment.offset(range.start))?;
            position = range.end;
        }
        Ok(std::mem::take(&mut *lock(&file.ready)))
    }

    /// That nothing was written there before is seen by the file.
    #[test]
    fn no_byte_is_made_ready_twice() {
        for lengths in [
            &[164][..],
            &[16_400],
            &[PIECE_BYTES],
            &[70_001],
            &[READY_MAX],
            &[164, 16_400, 3, 70_001, 300_000, 200],
            &[4096, 1 << 20, 12_288],
        ] {
            let ready = ready(lengths).unwrap();
            let in_order = |two: &[Range<u64>]| two[0].end <= two[1].start;
            assert!(ready.windows(2).all(in_order), "{lengths:?}: {ready:?}");
            assert!(ready.iter().all(|range| range.start <= range.end && range.end <= SEGMENT));
        }
    }

    #[test]
    fn what_is_made_ready_is_enough_for_some_writes() {
        let made = |length| {
            let ready = ready(&[length]).unwrap();
            let most = ready.iter().map(|range| range.end - range.start).max();
            (ready.len() as u64, most.unwrap_or(0))
        };
        assert_eq!(made(164), (SEGMENT / READY_MIN, READY_MIN));
        let (times, most) = made(16_400);
        assert!(times < SEGMENT / 16_400 / 6 && most <= 9 * 16_400, "{times}, {most}");
        let (times, most) = made(READY_MAX);
        assert!(times > 7 && most <= READY_MAX + PIECE_BYTES, "{times}, {most}");
        // But for what is left at the end.
        let (times, _) = made(READY_MAX + 1);
        assert!(times <= 1, "{times}");
    }
}
