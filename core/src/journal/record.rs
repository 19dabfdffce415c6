//! Records: how entries stand in a segment.
//!
//! ```text
//! offset  bytes
//!      0      4  length of the body
//!      4      1  kind: what the body is; the journal's own kinds are below 16, the buffer's above
//!      5      1  flags: bit 0 = the next record belongs to the same group
//!      6      2  zero
//!      8      8  position of this record in the log
//!     16      8  durable-up-to: everything below this position was synced when the record was made
//!     24      4  checksum of the body
//!     28      4  checksum of bytes 0..32 with zeros here, seeded with the segment's salt
//!     32         body, then zeros up to the next multiple of 8
//! ```
//!
//! The header's checksum is seeded with the segment's random salt and covers the position, so neither stale bytes of an
//! earlier file nor bytes a producer chose can pass for a record. A *group* is a run of records that are applied
//! together or not at all: a batch, or an ack with what its handler enqueued.

use std::ops::Range;

use super::checksum::{checksum, seeded};
use crate::codec::array_at;

/// Bytes before a record's body.
pub(crate) const HEADER_BYTES: usize = 32;

/// No body is larger: a message's is the largest there is, and what is said of it beside that is far less than this.
pub(super) const BODY_BYTES_MAX: usize = crate::limits::MESSAGE_BYTES_MAX + (1 << 20);

/// Records start at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

/// The last record of a segment that was filled: the log goes on in the next one.
pub(crate) const KIND_ROLL: u8 = 1;

/// The last record of a broker that was closed: nothing comes after it but the same once more, at a distance.
pub(crate) const KIND_CLOSE: u8 = 2;

/// Kinds from here on belong to the journal's user.
pub(crate) const KIND_USER_MIN: u8 = 16;

const FLAG_MORE: u8 = 1;

/// What lies between the record that closes the log and the one that says so again: more than a disk loses at once.
const CLOSE_PADDING: [u8; 4096] = [0; 4096];

/// The records that close a log. The close record comes twice, far enough apart that what damages the end of the log
/// leaves one of them to say so.
pub(super) const CLOSING: [Record<'static>; 2] = [
    Record { kind: KIND_CLOSE, parts: &[&CLOSE_PADDING], body_len: CLOSE_PADDING.len() },
    Record { kind: KIND_CLOSE, parts: &[], body_len: 0 },
];

/// Bytes that the closing records take in a segment.
pub(super) const CLOSING_BYTES: usize = space(CLOSE_PADDING.len()) + space(0);

/// A record on its way into the journal: a kind and its body in pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    kind: u8,
    parts: &'a [&'a [u8]],
    body_len: usize,
}

impl<'a> Record<'a> {
    pub(crate) fn new(kind: u8, parts: &'a [&'a [u8]]) -> Self {
        // Asked for again and again.
        let body_len = parts.iter().map(|part| part.len()).sum();
        Self { kind, parts, body_len }
    }

    /// Bytes the record takes in a segment.
    pub(crate) fn space(&self) -> usize {
        space(self.body_len)
    }

    /// Writes the body into `target`, which holds as many bytes as it and zeros behind it; answers our copy.
    fn copy_body<'t>(&self, target: &'t mut [u8]) -> &'t [u8] {
        // First, and as many as there can be, since that is one store.
        if let Some(last) = target.last_chunk_mut::<ALIGNMENT>() {
            last.fill(0);
        }
        let mut rest = &mut *target;
        for part in self.parts.iter().filter(|part| !part.is_empty()) {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        target.get(..self.body_len).unwrap_or_default()
    }

    /// Appends the record to `target`, but for its place and its checksums.
    pub(super) fn copy_to(&self, target: &mut Vec<u8>) {
        let end = target.len() + self.space();
        target.extend_from_slice(&bytes_of(self.header().words()));
        for part in self.parts.iter().filter(|part| !part.is_empty()) {
            target.extend_from_slice(part);
        }
        pad(target, end);
    }

    /// Its header, but for its place and its checksums.
    fn header(&self) -> Header {
        // Lengths are checked against the limits of a message long before a record is made of it.
        let body_len = u32::try_from(self.body_len).unwrap_or(u32::MAX);
        Header { body_len, kind: self.kind, more: false, position: 0, durable: 0, body_checksum: 0 }
    }
}

/// Appends to `records` one that is as that which begins at `like`, the last one there, but for its last part: this one instead of
/// that, which had so many bytes.
#[inline]
pub(super) fn copy_alike(records: &mut Vec<u8>, like: usize, part: &[u8], like_part_len: usize) {
    let Some(header) = records.get(like..).and_then(|record| record.first_chunk()) else { return };
    let like_header = Header::of_our_own(header);
    let before = like_header.body_len as usize - like_part_len;
    let body_len = before + part.len();
    let start = records.len();
    records.extend_from_within(like..like + HEADER_BYTES + before);
    records.extend_from_slice(part);
    pad(records, start + space(body_len));
    if part.len() != like_part_len
        && let Some(header) = records.get_mut(start..).and_then(|record| record.first_chunk_mut())
    {
        let body_len = u32::try_from(body_len).unwrap_or(u32::MAX);
        *header = bytes_of(Header { body_len, ..like_header }.words());
    }
}

/// Appends zeros up to where the next record begins.
#[inline]
fn pad(records: &mut Vec<u8>, end: usize) {
    if records.capacity() - records.len() < ALIGNMENT {
        // The last one, in memory that has room for no more.
        return records.resize(end, 0);
    }
    // As many as there can be, since that is one store.
    records.extend_from_slice(&[0; ALIGNMENT]);
    records.truncate(end);
}

/// Writes a group of records, one behind the other, into `target`, which has room for them and begins at the position `start`.
pub(super) fn write_group(
    records: &[Record<'_>],
    target: &mut [u8],
    start: u64,
    durable: u64,
    salt: u32,
) {
    let (mut position, mut left, mut rest) = (start, records.len(), target);
    for record in records {
        left -= 1;
        let (place, after) = rest.split_at_mut(record.space());
        if let Some((place, body)) = place.split_first_chunk_mut() {
            let body_checksum = checksum(record.copy_body(body));
            let more = left > 0;
            let header = Header { more, position, durable, body_checksum, ..record.header() };
            *place = header.encode(salt);
        }
        position += record.space() as u64;
        rest = after;
    }
}

/// Gives records the checksums of their bodies: of our copy, so that a caller's change of its bytes meanwhile cannot make the two
/// differ. Best some time after they were copied: who reads what was written a moment ago, by other pieces than those it was
/// written by, waits until it has come to the cache, which takes as long as the checksum.
pub(super) fn sum_bodies(records: &mut [u8]) {
    each(records, |header, body| header[24..28].copy_from_slice(&checksum(body).to_le_bytes()));
}

/// Tells the records of a group, which have the checksums of their bodies, where they stand.
pub(super) fn place_group(group: &mut [u8], start: u64, durable: u64, salt: u32) {
    let (mut position, end) = (start, start + group.len() as u64);
    each(group, |place, _| {
        let header = Header::of_our_own(place);
        let next = position + header.space();
        *place = Header { more: next < end, position, durable, ..header }.encode(salt);
        position = next;
    });
}

/// Does `work` with the header and the body of each of these records, which lie one behind the other.
fn each(mut records: &mut [u8], mut work: impl FnMut(&mut [u8; HEADER_BYTES], &mut [u8])) {
    while let Some((header, behind)) = records.split_first_chunk_mut() {
        let body_len = Header::of_our_own(header).body_len as usize;
        let (record, after) = behind.split_at_mut(space(body_len) - HEADER_BYTES);
        work(header, record.get_mut(..body_len).unwrap_or_default());
        records = after;
    }
}

/// Bytes that a record with a body of this length takes in a segment.
pub(crate) const fn space(body_len: usize) -> usize {
    // A power of two: asked for again and again, for each message.
    (HEADER_BYTES + body_len + ALIGNMENT - 1) & !(ALIGNMENT - 1)
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) body_len: u32,
    pub(crate) kind: u8,
    /// Whether the next record belongs to the same group.
    pub(crate) more: bool,
    pub(crate) position: u64,
    pub(crate) durable: u64,
    pub(crate) body_checksum: u32,
}

impl Header {
    /// The header with its checksum: made whole before it is stored, since who reads together what was stored in pieces a moment ago
    /// waits for that.
    pub(crate) fn encode(&self, salt: u32) -> [u8; HEADER_BYTES] {
        let [first, position, durable, last] = self.words();
        let checksum = seeded(salt.into(), &bytes_of([first, position, durable, last]));
        bytes_of([first, position, durable, last | u64::from(checksum) << 32])
    }

    /// The header without its own checksum.
    fn words(&self) -> [u64; 4] {
        let flags = if self.more { FLAG_MORE } else { 0 };
        let first = u64::from(self.body_len) | u64::from(self.kind) << 32 | u64::from(flags) << 40;
        [first, self.position, self.durable, self.body_checksum.into()]
    }

    /// The header that was encoded into these bytes, which have never left our memory.
    pub(crate) fn of_our_own(bytes: &[u8; HEADER_BYTES]) -> Self {
        Self {
            body_len: u32::from_le_bytes(array_at(bytes, 0)),
            kind: bytes[4],
            more: bytes[5] & FLAG_MORE != 0,
            position: u64::from_le_bytes(array_at(bytes, 8)),
            durable: u64::from_le_bytes(array_at(bytes, 16)),
            body_checksum: u32::from_le_bytes(array_at(bytes, 24)),
        }
    }

    /// Reads the header that should stand at `position`; none if these bytes are not it.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], position: u64, salt: u32) -> Option<Self> {
        let header = Self::of_our_own(bytes);
        // The position is compared first: it is cheap, and nearly always enough to see that this is no record.
        let sound = header.position == position
            && header.kind != 0
            && header.durable <= position
            && header.encode(salt) == *bytes;
        sound.then_some(header)
    }

    /// Reads the header of a record of these positions, wherever it stands. No other file has its salt, so what it says of the
    /// log is true all the same.
    pub(crate) fn decode_anywhere(
        bytes: &[u8; HEADER_BYTES],
        positions: Range<u64>,
        salt: u32,
    ) -> Option<Self> {
        let position = Self::of_our_own(bytes).position;
        positions.contains(&position).then(|| Self::decode(bytes, position, salt)).flatten()
    }

    /// Bytes the whole record takes in a segment.
    pub(crate) fn space(&self) -> u64 {
        (HEADER_BYTES as u64 + u64::from(self.body_len)).next_multiple_of(ALIGNMENT as u64)
    }
}

fn bytes_of(words: [u64; 4]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::group::Group;

    const HEADER: Header = Header {
        body_len: 77,
        kind: 20,
        more: true,
        position: 4096,
        durable: 4000,
        body_checksum: 0xdead_beef,
    };

    #[test]
    fn a_header_survives_the_round_trip() {
        let bytes = HEADER.encode(42);
        assert_eq!(Header::decode(&bytes, 4096, 42), Some(HEADER));
    }

    #[test]
    fn a_header_is_refused_elsewhere_under_another_salt_and_with_any_bit_flipped() {
        let bytes = HEADER.encode(42);
        assert_eq!(Header::decode(&bytes, 4104, 42), None);
        assert_eq!(Header::decode(&bytes, 4096, 43), None);
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&damaged, 4096, 42), None, "bit {bit}");
        }
    }

    /// A disk may have put it elsewhere; what is of another file is none.
    #[test]
    fn a_header_is_known_wherever_it_stands_in_its_segment() {
        let bytes = HEADER.encode(42);
        assert_eq!(Header::decode_anywhere(&bytes, 0..4097, 42), Some(HEADER));
        assert_eq!(Header::decode_anywhere(&bytes, 0..4096, 42), None);
        assert_eq!(Header::decode_anywhere(&bytes, 0..4097, 43), None);
    }

    #[test]
    fn a_header_knows_what_its_record_takes() {
        assert_eq!(HEADER.space(), space(77) as u64);
        assert_eq!((space(0), space(77), space(80)), (32, 112, 112));
    }

    #[test]
    fn zeros_are_no_header() {
        assert_eq!(Header::decode(&[0; HEADER_BYTES], 0, 0), None);
    }

    /// Each stands where it says, behind the one before, and knows whether another one follows in its group.
    #[test]
    fn a_group_is_read_as_it_was_written() {
        let bodies: [&[&[u8]]; 3] = [&[b"first"], &[], &[b"the ", b"third"]];
        let records = [16, 17, 18].into_iter().zip(bodies);
        let records: Vec<Record<'_>> =
            records.map(|(kind, body)| Record::new(kind, body)).collect();
        let bytes: usize = records.iter().map(Record::space).sum();
        let mut target = vec![0xff; bytes];
        write_group(&records, &mut target, 8192, 4096, 42);
        let mut at = 0;
        for (index, record) in records.iter().enumerate() {
            let header = target[at..].first_chunk().unwrap();
            let header = Header::decode(header, 8192 + at as u64, 42).unwrap();
            let body = &target[at + HEADER_BYTES..][..header.body_len as usize];
            assert_eq!((header.kind, header.more), (record.kind, index < 2));
            assert_eq!((header.durable, header.body_checksum), (4096, checksum(body)));
            assert_eq!(body, record.parts.concat());
            at += record.space();
        }
        assert_eq!(at, bytes);
        // The same, whether it is copied there or made beforehand.
        let mut group = Group::with_room(bytes).unwrap();
        records.iter().for_each(|record| group.push(record));
        group.sum();
        assert_eq!((group.records(), group.space()), (3, bytes as u64));
        assert_eq!(group.finish(8192, 4096, 42), target);
    }

    #[test]
    fn a_header_without_a_flag_is_the_last_of_its_group() {
        let header = Header { more: false, ..HEADER };
        assert_eq!(Header::decode(&header.encode(42), 4096, 42), Some(header));
    }

    #[test]
    fn sizes_are_those_of_what_they_are_kept_for() {
        assert_eq!(CLOSING_BYTES, CLOSING.iter().map(Record::space).sum::<usize>());
        // A message's record has more in it than its body and headers.
        assert_eq!(BODY_BYTES_MAX - crate::limits::MESSAGE_BYTES_MAX, 1 << 20);
    }

    #[test]
    fn a_body_is_gathered_padded_and_checksummed() {
        let record = Record::new(16, &[b"hel", b"", b"lo"]);
        assert_eq!(record.space(), 40);
        let mut place = [0xff; 40];
        write_group(&[record], &mut place, 64, 0, 42);
        assert_eq!(&place[32..], b"hello\0\0\0");
        let header = Header::of_our_own(place.first_chunk().unwrap());
        assert_eq!(header.body_checksum, checksum(b"hello"));
    }
}
