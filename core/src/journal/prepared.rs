//! Large records on their way into the journal: made ready outside the tail's lock.

use super::chunk::Chunk;
use super::record::Record;
use super::segment::Segment;
use crate::sync::Arc;

/// Large records, copied and checksummed before the tail is locked for them; only their headers are still missing.
#[derive(Debug)]
pub(super) struct Prepared {
    bytes: Vec<u8>,
    body_crcs: Vec<u32>,
}

impl Prepared {
    /// Copies these records, which take `space` bytes together.
    pub(super) fn new(records: &[Record<'_>], space: usize) -> Self {
        let mut bytes = vec![0; space];
        let mut rest = bytes.as_mut_slice();
        let mut body_crcs = Vec::with_capacity(records.len());
        for record in records {
            let (place, after) = rest.split_at_mut(record.space());
            body_crcs.push(record.copy_body(place));
            rest = after;
        }
        Self { bytes, body_crcs }
    }

    /// Gives the records their headers, now that their place is known.
    pub(super) fn into_chunk(
        mut self,
        segment: &Arc<Segment>,
        start: u64,
        records: &[Record<'_>],
        durable: u64,
    ) -> Arc<Chunk> {
        let mut rest = self.bytes.as_mut_slice();
        let mut position = start;
        for (index, (record, body_crc)) in records.iter().zip(&self.body_crcs).enumerate() {
            let (place, after) = rest.split_at_mut(record.space());
            let more = index + 1 < records.len();
            record.write_header(place, more, position, durable, *body_crc, segment.header.salt);
            position += record.space() as u64;
            rest = after;
        }
        Arc::new(Chunk::filled(Arc::clone(segment), start, self.bytes))
    }
}
