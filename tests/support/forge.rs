//! Files with right checksums, whatever they say: a checksum is no secret.
//!
//! What [`docs/format.md`](../../docs/format.md) says of checksums, said once more from outside: nothing here is the engine's.

use std::ops::Range;

use crc32fast::hash;
use twox_hash::XxHash3_64;

/// Bytes before a segment's first record, and of those the ones that say something, their checksum included.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
/// Bytes of a segment's header that say something, its checksum included.
pub const SEGMENT_FIELDS_BYTES: usize = 92;
/// Bytes before a record's body.
pub const RECORD_HEADER_BYTES: usize = 32;
/// Bytes before a snapshot's first block.
pub const SNAPSHOT_HEADER_BYTES: usize = 64;
/// Bytes before a block's content.
pub const BLOCK_HEADER_BYTES: usize = 16;

/// The number that stands there, and zero beyond the end.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |field| u32::from_le_bytes(field.try_into().unwrap()))
}

/// The number that stands there, and zero beyond the end.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |field| u64::from_le_bytes(field.try_into().unwrap()))
}

/// Writes bytes over others, as far as there are any.
pub fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

fn put_low_half(bytes: &mut [u8], at: usize, hash: u64) {
    put(bytes, at, &hash.to_le_bytes()[..4]);
}

/// Gives a segment's header its checksums: of what all versions say, and of all of it.
pub fn mend_segment_header(bytes: &mut [u8]) {
    for end in [80, SEGMENT_FIELDS_BYTES - 4] {
        let crc = bytes.get(..end).map_or(0, hash);
        put(bytes, end, &crc.to_le_bytes());
    }
}

/// Where the records of a segment lie, each with its body: from the first one on, as long as one follows another.
#[must_use]
pub fn records(segment: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    let is_header = |header: &[u8]| header[4] != 0;
    while segment.get(at..at + RECORD_HEADER_BYTES).is_some_and(is_header) {
        let end = at + RECORD_HEADER_BYTES + u32_at(segment, at) as usize;
        found.push(at..end.min(segment.len()));
        at = end.next_multiple_of(8);
    }
    found
}

/// Gives every record of a segment the position at which it stands, and its checksums.
pub fn mend_records(segment: &mut [u8]) {
    let (salt, start) = (u32_at(segment, 12), u64_at(segment, 40));
    for record in records(segment) {
        mend_record(&mut segment[record.clone()], start.wrapping_add(record.start as u64), salt);
    }
}

/// Gives a record a position, and its checksums.
pub fn mend_record(record: &mut [u8], position: u64, salt: u32) {
    put(record, 8, &position.to_le_bytes());
    let body = XxHash3_64::oneshot(record.get(RECORD_HEADER_BYTES..).unwrap_or_default());
    put_low_half(record, 24, body);
    put(record, 28, &[0; 4]);
    let header = record.get(..RECORD_HEADER_BYTES).unwrap_or_default();
    let header = XxHash3_64::oneshot_with_seed(salt.into(), header);
    put_low_half(record, 28, header);
}

/// Where the contents of a snapshot's blocks lie, that of the last one too, which has none.
#[must_use]
pub fn blocks(snapshot: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = SNAPSHOT_HEADER_BYTES;
    while at + BLOCK_HEADER_BYTES <= snapshot.len() {
        let start = at + BLOCK_HEADER_BYTES;
        let end = (start + u32_at(snapshot, at) as usize).min(snapshot.len());
        found.push(start..end);
        if end == start {
            break;
        }
        at = end;
    }
    found
}

/// The entries of a snapshot whose blocks can be taken apart, each without the length before it.
#[must_use]
pub fn entries(snapshot: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for block in blocks(snapshot) {
        let mut content = &snapshot[block];
        while let Some(last) = content.iter().position(|byte| *byte < 0x80) {
            let (length, rest) = content.split_at(last + 1);
            let bits = length.iter().map(|byte| usize::from(byte & 0x7f)).enumerate();
            let length = bits.fold(0, |all, (place, bits)| all | bits << (7 * place));
            let (entry, rest) = rest.split_at(length.min(rest.len()));
            found.push(entry.to_vec());
            content = rest;
        }
    }
    found
}

/// Gives a snapshot's header and blocks their checksums, and the blocks their numbers.
pub fn mend_snapshot(snapshot: &mut [u8]) {
    let crc = snapshot.get(..56).map_or(0, hash);
    put(snapshot, 56, &crc.to_le_bytes());
    for (number, content) in blocks(snapshot).into_iter().enumerate() {
        let number = number as u64;
        let hash = XxHash3_64::oneshot_with_seed(number, &snapshot[content.clone()]);
        put_low_half(snapshot, content.start - 12, hash);
        put(snapshot, content.start - 8, &number.to_le_bytes());
    }
}

/// What a segment with this header is called.
#[must_use]
pub fn segment_name(header: &[u8]) -> String {
    format!("{:08}.segment", u64_at(header, 32))
}

/// What a snapshot with this header is called.
#[must_use]
pub fn snapshot_name(header: &[u8]) -> String {
    format!("{:016x}.snapshot", u64_at(header, 40))
}
