//! Groups: large or many records on their way into the journal, made ready outside the tail's lock.

use super::record::{Header, Record};
use crate::error::Result;
use crate::memory;

/// Records that are appended together, copied and checksummed before the tail is locked for them; of their headers, only what
/// depends on their place is still missing.
#[derive(Debug)]
pub(crate) struct Group {
    bytes: Vec<u8>,
    records: u64,
}

impl Group {
    /// An empty one, with room for records that take so many bytes together.
    ///
    /// # Errors
    /// `NO_MEMORY`: it is the one piece of memory that is as large as a caller likes.
    pub(crate) fn with_room(bytes: usize) -> Result<Self> {
        Ok(Self { bytes: memory::with_room(bytes)?, records: 0 })
    }

    /// Copies one more record, for which there is room.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        record.copy_to(&mut self.bytes);
        self.records += 1;
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Bytes that its records take in a segment.
    pub(crate) fn space(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Gives the records their headers, now that their place is known; answers their bytes.
    pub(super) fn finish(mut self, start: u64, durable: u64, salt: u32) -> Vec<u8> {
        let (mut rest, mut position) = (self.bytes.as_mut_slice(), start);
        for left in (0..self.records).rev() {
            let Some(header) = rest.first_chunk_mut() else { break };
            Header::place(header, left > 0, position, durable, salt);
            let space = Header::of_our_own(header).space();
            position += space;
            rest = usize::try_from(space)
                .ok()
                .and_then(|space| rest.get_mut(space..))
                .unwrap_or_default();
        }
        self.bytes
    }
}
