//! Logs that tests write by hand, one record after the other.

use super::checksum::checksum;
use super::record::{Header, space};
use super::segment::{Segment, SegmentHeader};
use crate::storage::Storage;
use crate::sync::Arc;

/// The header of a log's first segment, of so many bytes.
pub(super) fn first_header(capacity: u64) -> SegmentHeader {
    SegmentHeader {
        salt: 7,
        broker: [1; 16],
        number: 1,
        start: 0,
        capacity,
        opening: 1,
        previous: 0,
        previous_end: None,
        previous_salt: 0,
    }
}

/// Makes the first segment of a log, of so many bytes.
pub(crate) fn first_segment(storage: &dyn Storage, capacity: u64) -> Arc<Segment> {
    Segment::create(storage, first_header(capacity)).unwrap()
}

/// The header of the segment in which the log goes on behind the roll record of this one.
pub(crate) fn following(before: &SegmentHeader) -> SegmentHeader {
    SegmentHeader {
        salt: before.salt + 1,
        number: before.number + 1,
        start: before.start + before.capacity,
        previous: before.number,
        previous_end: None,
        previous_salt: before.salt,
        ..*before
    }
}

/// The header of the first segment of the next opening, which found that the log ends at `end` in this one.
pub(super) fn reopened(before: &SegmentHeader, end: u64) -> SegmentHeader {
    SegmentHeader { opening: before.opening + 1, previous_end: Some(end), ..following(before) }
}

/// Writes records into a segment.
pub(super) struct Pen {
    segment: Arc<Segment>,
    /// Where the next record begins.
    pub(super) at: u64,
    /// What the next record says to be durable.
    pub(super) durable: u64,
}

impl Pen {
    /// One that begins with the segment's first record.
    pub(super) fn new(segment: &Arc<Segment>) -> Self {
        Self { segment: Arc::clone(segment), at: segment.first(), durable: 0 }
    }

    /// Writes a record, and whether the next one is of its group.
    pub(super) fn part(&mut self, kind: u8, body: &[u8], more: bool) {
        let header = self.header(kind, body, more);
        let bytes = [&header.encode(self.segment.header.salt)[..], body].concat();
        self.segment.file.write_at(&bytes, self.segment.offset(self.at)).unwrap();
        self.at += space(body.len()) as u64;
    }

    /// Writes a record that is a group by itself.
    pub(super) fn record(&mut self, kind: u8, body: &[u8]) {
        self.part(kind, body, false);
    }

    /// The header of a record with this body that is next.
    pub(super) fn header(&self, kind: u8, body: &[u8], more: bool) -> Header {
        Header {
            body_len: u32::try_from(body.len()).unwrap(),
            kind,
            more,
            position: self.at,
            durable: self.durable,
            body_checksum: checksum(body),
        }
    }
}
