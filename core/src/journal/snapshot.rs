//! Snapshot files: the live state at a place in the log, as entries the journal does not read.
//!
//! ```text
//! offset  bytes
//!      0      8  magic "libmq\0sn"
//!      8      4  format version
//!     12      4  zero
//!     16     16  broker id
//!     32      8  begin: replay starts at the record at this position
//!     40      8  end: the journal was synced up to here before the snapshot got its name
//!     48      8  zero
//!     56      4  CRC-32 of bytes 0..56; up to here the same in every version
//!     60      4  zero
//!     64         blocks: length (4), checksum of content, seeded with number (4), number (8), content
//!                a block of length 0 ends the file; its number is the count of the blocks before it
//! ```
//!
//! A content is a run of entries, each behind its length, as a varint. One that begins with 255 is the journal's: it names a
//! segment there was, by its number (8) and its salt (4). A snapshot is written under a temporary name, synced,
//! read again and checked, and only then given its name; so a snapshot with its name that does not check is damage.

use std::io;

use super::allowance::{Allowance, Live};
use super::checksum::seeded;
use super::files::{create_temporary, is_snapshot};
use super::segment::{BrokerId, POSITION_MAX, SegmentHeader};
use crate::codec::{Reader, put_varint};
use crate::error::{Error, Result};
use crate::limits::FORMAT_VERSION;
use crate::storage::{Storage, StorageFile};
use crate::sync::Arc;

const MAGIC: [u8; 8] = *b"libmq\0sn";
const HEADER_BYTES: usize = 64;
const FIELDS_BYTES: usize = 56;
/// What an entry of the journal's own begins with.
const TAG_SEGMENT: u8 = 255;
const BLOCK_HEADER_BYTES: usize = 16;
/// A block is written when its content has grown to this.
const BLOCK_BYTES: usize = 256 << 10;
/// No content is larger: an entry is small, and one may pass `BLOCK_BYTES`.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// What a snapshot's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    pub(crate) broker: BrokerId,
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

/// What was read of a snapshot, beside its entries.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) header: SnapshotHeader,
    pub(crate) size: Size,
    /// Numbers and salts of the segments that there were.
    pub(crate) segments: Vec<(u64, u32)>,
}

/// A snapshot's name: by its end, which no other snapshot has.
pub(crate) fn file_name(end: u64) -> String {
    format!("{end:016x}.snapshot")
}

/// The newest snapshot, by its name, open.
pub(crate) fn newest(storage: &dyn Storage) -> io::Result<Option<(String, Arc<dyn StorageFile>)>> {
    let newest = storage.list()?.into_iter().filter(|name| is_snapshot(name)).max();
    newest.map(|name| Ok((name.clone(), storage.open(&name)?))).transpose()
}

/// Removes the snapshots that a newer one, which ends at `end`, has made useless.
pub(super) fn remove_before(storage: &dyn Storage, end: u64) {
    let newest = file_name(end);
    for name in storage.list().unwrap_or_default() {
        if is_snapshot(&name) && name < newest {
            // What cannot be removed now is removed at the next open.
            let _ = storage.remove(&name);
        }
    }
}

/// What a snapshot takes, and what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// A snapshot being written under a temporary name.
#[derive(Debug)]
pub(crate) struct SnapshotWriter<'a> {
    storage: &'a Arc<dyn Storage>,
    allowance: &'a Allowance,
    /// What lives in it.
    live: Live,
    file: Arc<dyn StorageFile>,
    /// Of what is in the file, but for the entries that are not yet.
    size: Size,
    content: Vec<u8>,
    /// The entry that is being added; empty but then.
    entry: Vec<u8>,
    blocks: u64,
}

const TEMPORARY: &str = "snapshot.tmp";

impl<'a> SnapshotWriter<'a> {
    /// Begins a snapshot. What an earlier one left under the temporary name is removed.
    pub(crate) fn create(
        storage: &'a Arc<dyn Storage>,
        allowance: &'a Allowance,
        live: Live,
    ) -> Result<Self> {
        let file = create_temporary(&**storage, TEMPORARY, 0)
            .map_err(|cause| failed(&**storage, &cause))?;
        let content = Vec::with_capacity(BLOCK_BYTES);
        let size = Size { bytes: HEADER_BYTES as u64, entries: 0 };
        Ok(Self { storage, allowance, live, file, size, content, entry: Vec::new(), blocks: 0 })
    }

    /// Adds an entry; `write` appends it to what it is given.
    pub(crate) fn entry(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.size.entries += 1;
        write(&mut self.entry);
        put_varint(&mut self.content, self.entry.len() as u64);
        self.content.append(&mut self.entry);
        if self.content.len() >= BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    /// Names a segment that the log is in.
    pub(super) fn segment(&mut self, segment: &SegmentHeader) -> Result<()> {
        self.entry(|out| {
            out.push(TAG_SEGMENT);
            out.extend_from_slice(&segment.number.to_le_bytes());
            out.extend_from_slice(&segment.salt.to_le_bytes());
        })
    }

    /// Completes the file, makes it durable, reads it again, and gives it its name. Answers what it takes. The journal must
    /// be synced to `header.end`. Where that fails, nothing is left of it, or a snapshot that is whole.
    pub(super) fn finish(mut self, header: SnapshotHeader) -> Result<Size> {
        match self.complete(header) {
            Ok(()) => Ok(self.size),
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    fn complete(&mut self, header: SnapshotHeader) -> Result<()> {
        if !self.content.is_empty() {
            self.write_block()?;
        }
        self.write_block()?;
        let storage = &**self.storage;
        let io_failed = |cause: io::Error| failed(storage, &cause);
        self.file.write_at(&header.encode(), 0).map_err(io_failed)?;
        self.file.sync().map_err(io_failed)?;
        let path = storage.path().join(TEMPORARY);
        let read = read_file(&path, &*self.file, |_| Some(()))?;
        if read.header != header {
            return Err(Error::corrupt(path, 0, "it does not read as it was written"));
        }
        storage.rename(TEMPORARY, &file_name(header.end)).map_err(io_failed)?;
        storage.sync_dir().map_err(io_failed)?;
        self.allowance.snapshot_was_taken(self.size, self.live);
        Ok(())
    }

    /// Gives the snapshot up.
    pub(crate) fn abandon(self) {
        // It is removed at the next open if it cannot be now.
        let _ = self.storage.remove(TEMPORARY);
    }

    fn write_block(&mut self) -> Result<()> {
        let length = u32::try_from(self.content.len()).unwrap_or(u32::MAX);
        let mut block = Vec::with_capacity(BLOCK_HEADER_BYTES + self.content.len());
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&seeded(self.blocks, &self.content).to_le_bytes());
        block.extend_from_slice(&self.blocks.to_le_bytes());
        block.extend_from_slice(&self.content);
        let offset = self.size.bytes;
        self.allowance.snapshot(self.live, offset, block.len() as u64, || {
            self.file.write_at(&block, offset).map_err(|cause| failed(&**self.storage, &cause))
        })?;
        self.size.bytes += block.len() as u64;
        self.blocks += 1;
        self.content.clear();
        Ok(())
    }
}

/// Reads a snapshot and hands every entry that is not the journal's to `entry`, which answers none where it makes no sense.
///
/// # Errors
/// `CORRUPT` wherever a byte is not as it was written; `UNSUPPORTED` for another version.
pub(crate) fn read(
    storage: &dyn Storage,
    name: &str,
    entry: impl FnMut(&[u8]) -> Option<()>,
) -> Result<Snapshot> {
    let path = storage.path().join(name);
    let file = storage.open(name).map_err(|cause| Error::io("open", &path, &cause))?;
    let read = read_file(&path, &*file, entry)?;
    let end = read.header.end;
    if file_name(end) != name {
        return Err(Error::corrupt(path, 40, format!("it ends at position {end}")));
    }
    Ok(read)
}

fn read_file(
    path: &std::path::Path,
    file: &dyn StorageFile,
    mut entry: impl FnMut(&[u8]) -> Option<()>,
) -> Result<Snapshot> {
    let fill = |bytes: &mut [u8], offset: u64| match file.read_at(bytes, offset) {
        Ok(got) if got == bytes.len() => Ok(()),
        Ok(_) => Err(Error::corrupt(path, offset, "the snapshot ends early")),
        Err(cause) => Err(Error::io("read", path, &cause)),
    };
    let mut header = [0; HEADER_BYTES];
    fill(&mut header, 0)?;
    let header = SnapshotHeader::decode(path, &header)?;
    let (mut offset, mut count) = (HEADER_BYTES as u64, 0);
    let mut segments = Vec::new();
    let mut entry = |bytes: &[u8]| match bytes.split_first() {
        Some((&TAG_SEGMENT, segment)) => {
            let mut reader = Reader::new(segment);
            segments.push((reader.u64()?, reader.u32()?));
            reader.is_empty().then_some(())
        }
        _ => entry(bytes),
    };
    for number in 0_u64.. {
        let damaged = |what: &str| Error::corrupt(path, offset, what);
        let mut block = [0; BLOCK_HEADER_BYTES];
        fill(&mut block, offset)?;
        let mut reader = Reader::new(&block);
        let (Some(length), Some(checksum), Some(found)) =
            (reader.u32(), reader.u32(), reader.u64())
        else {
            return Err(damaged("a block has no header"));
        };
        if length as usize > BLOCK_BYTES_MAX || found != number {
            return Err(damaged("a block's header makes no sense"));
        }
        let mut content = vec![0; length as usize];
        fill(&mut content, offset + BLOCK_HEADER_BYTES as u64)?;
        if seeded(number, &content) != checksum {
            return Err(damaged("a block does not match its checksum"));
        }
        if length == 0 {
            break;
        }
        let mut entries = Reader::new(&content);
        while !entries.is_empty() {
            count += 1;
            entries
                .varint()
                .and_then(|length| entries.bytes(usize::try_from(length).ok()?))
                .and_then(&mut entry)
                .ok_or_else(|| damaged("an entry makes no sense"))?;
        }
        offset += (BLOCK_HEADER_BYTES + content.len()) as u64;
    }
    let size = Size { bytes: offset + BLOCK_HEADER_BYTES as u64, entries: count };
    Ok(Snapshot { header, size, segments })
}

fn failed(storage: &dyn Storage, cause: &io::Error) -> Error {
    Error::storage("write the snapshot in", storage.path(), cause)
}

impl SnapshotHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.broker);
        for field in [self.begin, self.end, 0] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }

    fn decode(path: &std::path::Path, bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let corrupt = |what| Error::corrupt(path, 0, what);
        let damaged = || corrupt("the snapshot's header does not match its checksum");
        let (fields, rest) = bytes.split_at(FIELDS_BYTES);
        let sound = rest == [&crc32fast::hash(fields).to_le_bytes()[..], &[0; 4]].concat();
        let mut reader = Reader::new(fields);
        let mut read = || {
            let magic = reader.bytes(8)?;
            let version = reader.u32()?;
            let unused = reader.u32()?;
            let broker = reader.bytes(16)?.try_into().ok()?;
            let header = Self { broker, begin: reader.u64()?, end: reader.u64()? };
            let is_possible = header.begin <= header.end && header.end <= POSITION_MAX;
            let is_possible = is_possible && unused == 0 && reader.u64()? == 0;
            (magic == MAGIC).then_some((version, header, is_possible))
        };
        match read().filter(|_| sound).ok_or_else(damaged)? {
            (FORMAT_VERSION, header, true) => Ok(header),
            (FORMAT_VERSION, ..) => Err(corrupt("the snapshot's header says what cannot be")),
            (version, ..) => Err(Error::other_version(path, version)),
        }
    }
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::storage::MemoryStorage;

    const HEADER: SnapshotHeader = SnapshotHeader { broker: [9; 16], begin: 5_000, end: 9_000 };

    fn storage() -> Arc<dyn Storage> {
        Arc::new(MemoryStorage::new())
    }

    fn segment(number: u64) -> SegmentHeader {
        SegmentHeader {
            salt: 7,
            broker: HEADER.broker,
            number,
            start: 1 << 20,
            capacity: 65_536,
            opening: 2,
            previous: 0,
            previous_end: None,
            previous_salt: 0,
        }
    }

    /// Writes a snapshot of these entries; answers its name and what it takes.
    fn write(storage: &Arc<dyn Storage>, entries: &[Vec<u8>]) -> (String, Size) {
        let allowance = Allowance::without_limit(storage);
        let mut writer = SnapshotWriter::create(storage, &allowance, Live::default()).unwrap();
        writer.segment(&segment(3)).unwrap();
        for entry in entries {
            writer.entry(|out| out.extend_from_slice(entry)).unwrap();
        }
        (file_name(HEADER.end), writer.finish(HEADER).unwrap())
    }

    fn entries_of(storage: &dyn Storage, name: &str) -> Result<(Snapshot, Vec<Vec<u8>>)> {
        let mut entries = Vec::new();
        let snapshot = read(storage, name, |entry| {
            entries.push(entry.to_vec());
            Some(())
        })?;
        Ok((snapshot, entries))
    }

    /// What is said of a snapshot whose bytes were changed.
    fn told(bytes: &[u8]) -> Option<(ErrorKind, String)> {
        let (storage, name) = (storage(), file_name(HEADER.end));
        let file = storage.create(&name, bytes.len() as u64).unwrap();
        file.write_at(bytes, 0).unwrap();
        let error = entries_of(&*storage, &name).err()?;
        Some((error.kind(), error.to_string()))
    }

    fn bytes_of(storage: &dyn Storage, name: &str) -> Vec<u8> {
        let file = storage.open(name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    #[test]
    fn what_was_written_is_read_in_its_order() {
        let few = vec![vec![1; 10], vec![], vec![2; 300]];
        let many = (0..50_u8).map(|number| vec![number; 30_000]).collect();
        let large = vec![vec![3; BLOCK_BYTES_MAX - 3 - 14]];
        for (entries, blocks) in [(few, 1), (many, 6), (large, 1)] {
            let storage = storage();
            let (name, size) = write(&storage, &entries);
            let (snapshot, found) = entries_of(&*storage, &name).unwrap();
            assert!(found == entries);
            assert_eq!((snapshot.header, snapshot.segments), (HEADER, vec![(3, 7)]));
            let spaced = |length: usize| match length {
                0..0x80 => 1 + length,
                0x80..0x4000 => 2 + length,
                _ => 3 + length,
            };
            let content: usize = entries.iter().map(|entry| spaced(entry.len())).sum();
            let bytes = HEADER_BYTES + (blocks + 1) * BLOCK_HEADER_BYTES + spaced(13) + content;
            let expected = Size { bytes: bytes as u64, entries: entries.len() as u64 + 1 };
            assert_eq!((size, snapshot.size), (expected, expected));
            assert_eq!(storage.open(&name).unwrap().len().unwrap(), bytes as u64);
            assert_eq!(storage.list().unwrap(), [name], "nothing temporary");
        }
    }

    #[test]
    fn the_newest_is_found_and_those_before_it_are_removed() {
        let storage = storage();
        assert!(newest(&*storage).unwrap().is_none());
        let others = ["00000009.segment", "marks", TEMPORARY];
        let ends = [5, 0x20, 0x100].map(file_name);
        for name in others.into_iter().chain(ends.iter().map(String::as_str)) {
            storage.create(name, 1).unwrap();
        }
        assert_eq!(newest(&*storage).unwrap().unwrap().0, ends[2]);
        remove_before(&*storage, 0x20);
        let mut left = storage.list().unwrap();
        left.sort();
        let mut expected = [&others[..], &[&ends[1], &ends[2]]].concat();
        expected.sort_unstable();
        assert_eq!(left, expected);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let storage = storage();
        let allowance = Allowance::without_limit(&storage);
        let mut writer = SnapshotWriter::create(&storage, &allowance, Live::default()).unwrap();
        writer.entry(|out| out.push(1)).unwrap();
        assert_eq!(storage.list().unwrap(), [TEMPORARY]);
        writer.abandon();
        assert!(storage.list().unwrap().is_empty());
    }

    #[test]
    fn any_flipped_bit_and_any_end_too_early_is_damage() {
        let storage = storage();
        let (name, _) = write(&storage, &[vec![1; 10], vec![2; 20]]);
        let bytes = bytes_of(&*storage, &name);
        assert_eq!(told(&bytes), None);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (kind, text) = told(&damaged).unwrap_or_else(|| panic!("bit {bit} is not seen"));
            assert_eq!(kind, ErrorKind::Corrupt, "bit {bit}: {text}");
        }
        for length in 0..bytes.len() {
            let (kind, text) = told(&bytes[..length]).unwrap();
            assert!(kind == ErrorKind::Corrupt && text.contains("ends early"), "{length}: {text}");
        }
    }

    /// What a block's header says is looked at before anything of that size is asked for.
    #[test]
    fn a_block_that_cannot_be_is_refused_by_its_header() {
        let storage = storage();
        let (name, _) = write(&storage, &[vec![1; 10]]);
        let bytes = bytes_of(&*storage, &name);
        let with = |at: usize, field: &[u8]| {
            let mut changed = bytes.clone();
            changed[at..at + field.len()].copy_from_slice(field);
            told(&changed).unwrap().1
        };
        let too_long = u32::try_from(BLOCK_BYTES_MAX + 1).unwrap().to_le_bytes();
        for text in [with(HEADER_BYTES, &too_long), with(HEADER_BYTES + 8, &1_u64.to_le_bytes())] {
            assert!(text.contains("a block's header makes no sense"), "{text}");
        }
    }

    #[test]
    fn a_snapshot_under_another_name_is_damage() {
        let storage = storage();
        let (name, _) = write(&storage, &[]);
        storage.rename(&name, &file_name(HEADER.end + 1)).unwrap();
        let error = entries_of(&*storage, &file_name(HEADER.end + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }

    #[test]
    fn a_header_that_says_what_cannot_be_is_refused_though_its_checksum_is_right() {
        let path = std::path::Path::new("x");
        let decoded = |header: SnapshotHeader| {
            let bytes: [u8; HEADER_BYTES] = header.encode().try_into().unwrap();
            SnapshotHeader::decode(path, &bytes).map_err(|error| error.to_string())
        };
        let ends = |begin, end| SnapshotHeader { begin, end, ..HEADER };
        for header in [HEADER, ends(7, 7), ends(POSITION_MAX, POSITION_MAX)] {
            assert_eq!(decoded(header), Ok(header));
        }
        for header in [ends(8, 7), ends(0, POSITION_MAX + 1)] {
            assert!(decoded(header).unwrap_err().contains("says what cannot be"));
        }
        for unused in [12, 48] {
            let mut bytes = HEADER.encode();
            bytes[unused] = 1;
            let checksum = crc32fast::hash(&bytes[..FIELDS_BYTES]).to_le_bytes();
            bytes[FIELDS_BYTES..FIELDS_BYTES + 4].copy_from_slice(&checksum);
            let error = SnapshotHeader::decode(path, &bytes.try_into().unwrap()).unwrap_err();
            assert!(error.to_string().contains("says what cannot be"), "{unused}: {error}");
        }
    }
}
