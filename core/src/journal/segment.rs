//! Segments: the files of the log.
//!
//! ```text
//! offset  bytes
//!      0      8  magic "libmq\0sg"
//!      8      4  format version
//!     12      4  salt of the record headers, random
//!     16     16  broker id, random, the same in all files of a directory
//!     32      8  number, counted from 1
//!     40      8  start: the position of the file's first byte
//!     48      8  capacity: bytes of the file
//!     56      8  opening: which opening of the broker made it, a number that grows from one to the next
//!     64      8  previous: the number of the segment the log before this one ends in, 0 = none
//!     72      8  previous end: the position it ends at; 0 = at its roll record
//!     80      4  CRC-32 of bytes 0..80; up to here the same in every version
//!     84      4  previous salt: that of the previous segment, 0 = none
//!     88      4  CRC-32 of bytes 0..88
//!     92         zeros up to 4096; then records
//! ```
//!
//! A segment has its final name only when its header and its space are durable, so a file with that name and an
//! unreadable header is damage, never a beginning. *Previous end* is what makes a cut durable: once the first segment
//! of an opening exists, nothing behind the end it names is ever read again, and its positions, which lie beyond
//! those of every segment there was, are new. *Previous salt* tells the segment that was there from one of the same number
//! that a copy of the directory has made.

use std::io;

use super::files::create_temporary;
use super::record::CLOSING_BYTES;
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::limits::FORMAT_VERSION;
use crate::storage::{Gain, NoFile, Storage, StorageFile};
use crate::sync::Arc;

/// Bytes before a segment's first record: a page of its own, so that no later write touches it.
pub(crate) const HEADER_BYTES: u64 = 4096;

/// Kept free at a segment's end for the record that ends it, or those that close the log, which take more.
pub(super) const FOOTER_BYTES: u64 = CLOSING_BYTES as u64;

const MAGIC: [u8; 8] = *b"libmq\0sg";
/// Bytes that say what all versions say, and all bytes, each without the checksum behind them.
const COMMON_BYTES: usize = 80;
const FIELDS_BYTES: usize = 88;

/// No position lies beyond, nor is any number as large: so sums of a few of them have no overflow.
pub(super) const POSITION_MAX: u64 = 1 << 62;

/// Identifies a broker's directory.
pub(crate) type BrokerId = [u8; 16];

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) salt: u32,
    pub(crate) broker: BrokerId,
    pub(crate) number: u64,
    pub(crate) start: u64,
    pub(crate) capacity: u64,
    pub(crate) opening: u64,
    pub(crate) previous: u64,
    pub(crate) previous_end: Option<u64>,
    pub(crate) previous_salt: u32,
}

/// A segment: its header and its open file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn StorageFile>,
    /// What its file gains by zeros that are written ahead: asked for at each write.
    pub(super) gain: Gain,
}

impl Segment {
    pub(super) fn new(header: SegmentHeader, file: Arc<dyn StorageFile>) -> Self {
        Self { header, gain: file.gain(), file }
    }

    /// Makes a segment durable under its final name.
    ///
    /// # Errors
    /// `STORAGE_FULL` where there is no room; `CORRUPT` where a header cannot say such numbers; `IO` else. Nothing is left
    /// behind but a temporary file at worst.
    pub(crate) fn create(storage: &dyn Storage, header: SegmentHeader) -> Result<Arc<Self>> {
        let name = file_name(header.number);
        if !header.is_possible() {
            let what = "the log behind which it is to begin has numbers that none comes to";
            return Err(Error::corrupt(storage.path().join(name), 0, what));
        }
        let temporary = format!("{name}.tmp");
        let mut named = false;
        let mut made = || -> io::Result<Arc<dyn StorageFile>> {
            let file = create_temporary(storage, &temporary, header.capacity)?;
            file.write_at(&header.encode(), 0)?;
            file.sync()?;
            storage.rename(&temporary, &name)?;
            named = true;
            storage.sync_dir()?;
            Ok(file)
        };
        match made() {
            Ok(file) => Ok(Arc::new(Self::new(header, file))),
            Err(cause) => {
                let made = if named { &name } else { &temporary };
                // What cannot be removed now is removed at the next open.
                let _ = storage.remove(made);
                Err(Error::storage("make", storage.path().join(made), &cause))
            }
        }
    }

    /// The same without its file, for who keeps it when the broker is closed and nobody reads or writes any more.
    pub(super) fn without_file(&self) -> Arc<Self> {
        Arc::new(Self::new(self.header, Arc::new(NoFile)))
    }

    /// Opens a segment that is there.
    ///
    /// # Errors
    /// `CORRUPT` where the header is damaged, `UNSUPPORTED` where it is sound and of another version.
    pub(crate) fn open(storage: &dyn Storage, name: &str) -> Result<Arc<Self>> {
        let path = storage.path().join(name);
        let read = || -> io::Result<(Arc<dyn StorageFile>, Vec<u8>)> {
            let file = storage.open(name)?;
            let mut bytes = vec![0; FIELDS_BYTES + 4];
            let got = file.read_at(&mut bytes, 0)?;
            bytes.truncate(got);
            Ok((file, bytes))
        };
        let (file, bytes) = read().map_err(|cause| Error::io("read", &path, &cause))?;
        let header = SegmentHeader::decode(&bytes).map_err(|problem| match problem {
            HeaderProblem::Damaged => {
                Error::corrupt(&path, 0, "the segment's header does not match its checksum")
            }
            HeaderProblem::Impossible => {
                Error::corrupt(&path, 0, "the segment's header says what cannot be")
            }
            HeaderProblem::Version(version) => Error::other_version(&path, version),
        })?;
        if file_name(header.number) != name {
            return Err(Error::corrupt(
                &path,
                32,
                format!("it says it is segment {}", header.number),
            ));
        }
        Ok(Arc::new(Self::new(header, file)))
    }

    /// The position of the first record.
    pub(crate) fn first(&self) -> u64 {
        self.header.start + HEADER_BYTES
    }

    /// The position behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.header.start + self.header.capacity
    }

    /// Where in the file a position is.
    pub(crate) fn offset(&self, position: u64) -> u64 {
        position - self.header.start
    }

    pub(crate) fn name(&self) -> String {
        file_name(self.header.number)
    }
}

/// Bytes of records that a segment of so many has room for.
pub(crate) fn room_in(capacity: u64) -> u64 {
    capacity.saturating_sub(HEADER_BYTES + FOOTER_BYTES)
}

/// Bytes of a segment that has room for records of so many.
pub(crate) fn least_capacity(bytes: u64) -> u64 {
    (HEADER_BYTES + bytes + FOOTER_BYTES).next_multiple_of(HEADER_BYTES)
}

/// A segment's name.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:08}.segment")
}

/// Why bytes are not a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderProblem {
    Damaged,
    /// Its checksum is right, and no broker writes such a one.
    Impossible,
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIELDS_BYTES + 4);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.broker);
        let previous_end = self.previous_end.unwrap_or(0);
        for field in
            [self.number, self.start, self.capacity, self.opening, self.previous, previous_end]
        {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.extend_from_slice(&self.previous_salt.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Whether a broker may have written it. A checksum is no secret, and what follows counts with these numbers.
    fn is_possible(&self) -> bool {
        let Self { number, start, capacity, opening, previous, previous_end, .. } = *self;
        let is_number = |number| (1..=POSITION_MAX).contains(&number);
        is_number(number)
            && is_number(opening)
            && previous < number
            && capacity > HEADER_BYTES
            && start.checked_add(capacity).is_some_and(|end| end <= POSITION_MAX)
            && previous_end.is_none_or(|end| end <= start)
    }

    /// Whether there are numbers left for what an opening makes that begins with this one. It is not to make what the next
    /// one refuses.
    pub(super) fn leaves_numbers(&self) -> bool {
        const LEFT: u64 = 1 << 40;
        [self.number, self.start, self.opening].iter().all(|number| *number <= POSITION_MAX - LEFT)
    }

    pub(super) fn decode(bytes: &[u8]) -> std::result::Result<Self, HeaderProblem> {
        let damaged = || HeaderProblem::Damaged;
        let sound = |fields: usize| {
            let (fields, rest) = bytes.split_at_checked(fields).ok_or_else(damaged)?;
            let crc = crc32fast::hash(fields).to_le_bytes();
            if rest.starts_with(&crc) { Ok(Reader::new(fields)) } else { Err(damaged()) }
        };
        let mut common = sound(COMMON_BYTES)?;
        if common.bytes(8) != Some(&MAGIC) {
            return Err(damaged());
        }
        match common.u32().ok_or_else(damaged)? {
            FORMAT_VERSION => {}
            version => return Err(HeaderProblem::Version(version)),
        }
        let mut reader = sound(FIELDS_BYTES)?;
        let mut read = || -> Option<Self> {
            reader.bytes(12)?;
            let salt = reader.u32()?;
            let broker = reader.bytes(16)?.try_into().ok()?;
            let (number, start, capacity) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let (opening, previous) = (reader.u64()?, reader.u64()?);
            let previous_end = Some(reader.u64()?).filter(|end| *end != 0);
            reader.bytes(4)?;
            let previous_salt = reader.u32()?;
            Some(Self {
                salt,
                broker,
                number,
                start,
                capacity,
                opening,
                previous,
                previous_end,
                previous_salt,
            })
        };
        read().ok_or_else(damaged).and_then(|header| {
            if header.is_possible() { Ok(header) } else { Err(HeaderProblem::Impossible) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::storage::MemoryStorage;

    fn header() -> SegmentHeader {
        SegmentHeader {
            salt: 7,
            broker: [9; 16],
            number: 3,
            start: 1 << 20,
            capacity: 65_536,
            opening: 2,
            previous: 1,
            previous_end: Some(77_777),
            previous_salt: 5,
        }
    }

    #[test]
    fn a_header_survives_the_round_trip() {
        assert_eq!(SegmentHeader::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn any_flipped_bit_is_damage() {
        let bytes = header().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&damaged), Err(HeaderProblem::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn another_version_with_a_sound_checksum_is_named() {
        let mut bytes = header().encode();
        bytes[8] = 9;
        let crc = crc32fast::hash(&bytes[..80]).to_le_bytes();
        bytes[80..84].copy_from_slice(&crc);
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderProblem::Version(9)));
    }

    #[test]
    fn a_segment_is_made_and_found_under_its_number_and_knows_where_it_lies() {
        let storage = MemoryStorage::new();
        let made = Segment::create(&storage, header()).unwrap();
        assert_eq!(made.name(), "00000003.segment");
        let found = Segment::open(&storage, &made.name()).unwrap();
        assert_eq!(found.header, header());
        assert_eq!(found.file.len().unwrap(), 65_536);
        assert_eq!(found.first(), (1 << 20) + HEADER_BYTES);
        assert_eq!(found.end(), (1 << 20) + 65_536);
        assert_eq!(found.offset((1 << 20) + 5_000), 5_000);
        storage.rename(&made.name(), "00000004.segment").unwrap();
        let error = Segment::open(&storage, "00000004.segment").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let impossible = SegmentHeader { number: 0, ..header() };
        let error = Segment::create(&storage, impossible).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }

    #[test]
    fn an_opening_leaves_numbers_for_those_to_come() {
        let last = POSITION_MAX - (1 << 40);
        assert!(
            SegmentHeader { number: last, start: last, opening: last, ..header() }.leaves_numbers()
        );
        for header in [
            SegmentHeader { number: last + 1, ..header() },
            SegmentHeader { start: last + 1, ..header() },
            SegmentHeader { opening: last + 1, ..header() },
        ] {
            assert!(!header.leaves_numbers());
        }
    }

    #[test]
    fn a_segment_has_room_for_what_it_was_made_for() {
        for bytes in [1, 8_192, 100_000] {
            let capacity = least_capacity(bytes);
            assert!(room_in(capacity) >= bytes, "{bytes}");
            assert!(room_in(capacity) < bytes + HEADER_BYTES, "{bytes}");
            assert_eq!(capacity % HEADER_BYTES, 0);
        }
        assert_eq!(room_in(HEADER_BYTES), 0);
    }

    /// A number of 2^64 − 1 made an open look at the same segment for ever, and a segment whose end has no number had ids
    /// begin anew.
    #[test]
    fn what_no_broker_writes_is_refused_though_its_checksum_is_right() {
        let change = |change: &dyn Fn(&mut SegmentHeader)| {
            let mut header = header();
            change(&mut header);
            SegmentHeader::decode(&header.encode())
        };
        for large in [u64::MAX, u64::MAX - 1, POSITION_MAX + 1] {
            for result in [
                change(&|header| header.number = large),
                change(&|header| header.start = large),
                change(&|header| header.capacity = large),
                change(&|header| header.opening = large),
                change(&|header| header.previous = large),
                change(&|header| header.previous_end = Some(large)),
                change(&|header| header.start = POSITION_MAX - header.capacity + 1),
            ] {
                assert_eq!(result, Err(HeaderProblem::Impossible));
            }
        }
        for result in [
            change(&|header| header.number = 0),
            change(&|header| header.opening = 0),
            change(&|header| header.capacity = HEADER_BYTES),
            change(&|header| header.previous = header.number),
            change(&|header| header.previous_end = Some(header.start + 1)),
        ] {
            assert_eq!(result, Err(HeaderProblem::Impossible));
        }
    }
}
