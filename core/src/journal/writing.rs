//! Writing: what whoever leads a write has to put into files, and to show behind that.

use std::io;
use std::ops::Range;

use super::chunk::Chunk;
use super::effects::{Level, Showing};
use super::segment::Segment;
use crate::storage::{Gain, ahead};
use crate::sync::Arc;

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
    /// At least up to this position its file was written to, or made ready.
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

    /// Writes all of it, for what is to reach that level; fails with the segment that could not be written to.
    ///
    /// # Safety
    /// All ranges were filled before this.
    pub(super) unsafe fn write(&mut self, level: Level) -> Result<(), (Arc<Segment>, io::Error)> {
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
                if range.end > self.ready && last.segment().gain >= least_gain(level) {
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

/// What a file has to gain by zeros for a write that is to reach this level to be worth them.
fn least_gain(level: Level) -> Gain {
    match level {
        Level::Os => Gain::All,
        Level::Sync => Gain::Synced,
    }
}

/// Makes a segment ready for a range that is about to be written, and for what comes behind it; answers up to where it is.
fn make_ready(segment: &Segment, range: &Range<u64>, ready: u64) -> u64 {
    let next = segment.offset(range.start)..segment.offset(range.end);
    // What was made ready last may lie in the segment before.
    let ready = ready.saturating_sub(segment.header.start);
    // All that was written so far lies below the range, and who leads is the only one who writes.
    let ahead = ahead(&next, ready, segment.header.capacity);
    segment.file.make_ready(ahead.start, ahead.end - ahead.start);
    segment.header.start + ahead.end
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
