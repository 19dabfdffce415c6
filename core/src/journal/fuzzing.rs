//! What fuzzing reaches of the journal: its codecs, each as *take these bytes apart, and put together what they say*.
//!
//! Nothing is decided here. What has to be true of the answers, the targets in `fuzz/` say.

use super::record::{HEADER_BYTES, Header};
use super::segment::SegmentHeader;
use super::snapshot;
use crate::storage::Storage;

/// A record's header that should stand at `position`; none where these bytes are not it.
#[must_use]
pub fn record_header(
    bytes: &[u8; HEADER_BYTES],
    position: u64,
    salt: u32,
) -> Option<[u8; HEADER_BYTES]> {
    Header::decode(bytes, position, salt).map(|header| header.encode(salt))
}

/// A segment's header; none where it is refused.
#[must_use]
pub fn segment_header(bytes: &[u8]) -> Option<Vec<u8>> {
    SegmentHeader::decode(bytes).ok().map(|header| header.encode())
}

/// What a snapshot file says.
#[derive(Debug)]
pub struct Snapshot {
    /// The bytes of its header.
    pub header: Vec<u8>,
    /// Those of its entries, but for the journal's own.
    pub entries: Vec<Vec<u8>>,
    /// Numbers and salts of the segments that there were.
    pub segments: Vec<(u64, u32)>,
}

/// A snapshot file; none where it is refused.
pub fn snapshot(storage: &dyn Storage, name: &str) -> Option<Snapshot> {
    let mut entries = Vec::new();
    let entry = |entry: &[u8]| {
        entries.push(crate::buffer::fuzzing::snapshot_entry(entry)?);
        Some(())
    };
    let read = snapshot::read(storage, name, entry).ok()?;
    Some(Snapshot { header: read.header.encode(), entries, segments: read.segments })
}
