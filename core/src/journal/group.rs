//! Large or many records on their way into the journal: made ready outside the tail's lock.

use super::record::{Record, write_group};
use crate::error::Result;
use crate::memory;

/// Records, copied and checksummed before the tail is locked for them; only their headers are still missing.
#[derive(Debug)]
pub(super) struct Prepared {
    bytes: Vec<u8>,
    body_crcs: Vec<u32>,
}

impl Prepared {
    /// Copies these records, which take `space` bytes together.
    ///
    /// # Errors
    /// `NO_MEMORY`: it is the one piece of memory that is as large as a caller likes.
    pub(super) fn new(records: &[Record<'_>], space: usize) -> Result<Self> {
        let mut bytes = memory::zeros(space)?;
        let mut rest = bytes.as_mut_slice();
        let mut body_crcs = Vec::with_capacity(records.len());
        for record in records {
            let (place, after) = rest.split_at_mut(record.space());
            body_crcs.push(record.copy_body(place));
            rest = after;
        }
        Ok(Self { bytes, body_crcs })
    }

    /// Gives the records their headers, now that their place is known; answers their bytes.
    pub(super) fn finish(
        mut self,
        records: &[Record<'_>],
        start: u64,
        durable: u64,
        salt: u32,
    ) -> Vec<u8> {
        // One for each of them.
        let mut body_crcs = self.body_crcs.iter().copied();
        write_group(records, &mut self.bytes, start, durable, salt, |_, _| {
            body_crcs.next().unwrap_or_default()
        });
        self.bytes
    }
}
