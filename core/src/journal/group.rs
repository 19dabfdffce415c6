//! Groups: large or many records on their way into the journal, made ready outside the tail's lock.

use super::record::{self, Record};
use crate::error::Result;
use crate::memory;

/// Records that are appended together, copied and checksummed before the tail is locked for them; of their headers, only what
/// depends on their place is still missing.
#[derive(Debug)]
pub(crate) struct Group {
    bytes: Vec<u8>,
    records: u64,
    /// Where the last record begins.
    last: usize,
    /// So many bytes of records have the checksums of their bodies.
    summed: usize,
}

/// So many bytes of records wait for those at most, or they would have left the fastest cache.
const SUM_BYTES_MAX: usize = 16 << 10;

impl Group {
    /// An empty one, with room for records that take so many bytes together.
    ///
    /// # Errors
    /// `NO_MEMORY`: it is the one piece of memory that is as large as a caller likes.
    pub(crate) fn with_room(bytes: usize) -> Result<Self> {
        Ok(Self { bytes: memory::with_room(bytes)?, records: 0, last: 0, summed: 0 })
    }

    /// Copies one more record, for which there is room.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        self.last = self.bytes.len();
        record.copy_to(&mut self.bytes);
        self.pushed();
    }

    /// Copies one more record, which is as the last one but for its last part: this instead of that, which had so many bytes.
    #[inline]
    pub(crate) fn push_alike(&mut self, part: &[u8], last_part_len: usize) {
        let last = std::mem::replace(&mut self.last, self.bytes.len());
        record::copy_alike(&mut self.bytes, last, part, last_part_len);
        self.pushed();
    }

    fn pushed(&mut self) {
        self.records += 1;
        if self.bytes.len() - self.summed >= SUM_BYTES_MAX {
            self.sum();
        }
    }

    /// Gives the records the checksums of their bodies, which [`Group::finish`] takes for granted.
    pub(super) fn sum(&mut self) {
        record::sum_bodies(self.bytes.get_mut(self.summed..).unwrap_or_default());
        self.summed = self.bytes.len();
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Bytes that its records take in a segment.
    pub(crate) fn space(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Completes the headers of the records, now that their place is known; answers their bytes.
    pub(super) fn finish(mut self, start: u64, durable: u64, salt: u32) -> Vec<u8> {
        debug_assert_eq!(self.summed, self.bytes.len(), "a body has no checksum");
        record::place_group(&mut self.bytes, start, durable, salt);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::KIND_USER_MIN;

    /// Whatever their last parts are, and wherever checksums are made: the same bytes as of records that are copied each by itself.
    #[test]
    fn what_is_alike_is_copied_as_it_is_by_itself() {
        let lengths = [7, 0, 1, 8, 300, 9_000, 9_000, 3, 20_000, 0, 0, 5];
        let parts: Vec<Vec<u8>> =
            lengths.iter().zip(1..).map(|(length, byte)| vec![byte; *length]).collect();
        let bodies: Vec<[&[u8]; 3]> = parts.iter().map(|part| [&b"head"[..], b"", part]).collect();
        let records: Vec<Record<'_>> =
            bodies.iter().map(|body| Record::new(KIND_USER_MIN, body)).collect();
        let bytes = records.iter().map(Record::space).sum();
        let [mut each, mut alike] = [(); 2].map(|()| Group::with_room(bytes).unwrap());
        records.iter().for_each(|record| each.push(record));
        for (index, part) in parts.iter().enumerate() {
            match index.checked_sub(1).and_then(|before| parts.get(before)) {
                None => alike.push(&records[index]),
                Some(before) => alike.push_alike(part, before.len()),
            }
        }
        each.sum();
        alike.sum();
        assert_eq!((alike.records(), alike.space()), (lengths.len() as u64, bytes as u64));
        assert_eq!(alike.finish(8192, 4096, 42), each.finish(8192, 4096, 42));
    }
}
