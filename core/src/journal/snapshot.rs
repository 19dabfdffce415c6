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
//!     64         blocks: length (4), CRC-32 of number and content (4), number (8), content
//!                a block of length 0 ends the file; its number is the count of the blocks before it
//! ```
//!
//! A content is a run of entries, each behind its length (4). One that begins with 255 is the journal's: it names a segment
//! there was, by its number (8) and its salt (4). A snapshot is written under a temporary name, synced,
//! read again and checked, and only then given its name; so a snapshot with its name that does not check is damage.

use std::io;

use super::allowance::{Allowance, Live};
use super::files::{create_temporary, is_snapshot};
use super::segment::{BrokerId, POSITION_MAX, SegmentHeader};
use crate::codec::Reader;
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
        Ok(Self { storage, allowance, live, file, size, content, blocks: 0 })
    }

    /// Adds an entry; `write` appends it to what it is given.
    pub(crate) fn entry(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.size.entries += 1;
        let start = self.content.len();
        self.content.extend_from_slice(&[0; 4]);
        write(&mut self.content);
        let length = u32::try_from(self.content.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.content.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
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
        let number = self.blocks.to_le_bytes();
        let length = u32::try_from(self.content.len()).unwrap_or(u32::MAX);
        let mut block = Vec::with_capacity(BLOCK_HEADER_BYTES + self.content.len());
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&block_crc(&number, &self.content).to_le_bytes());
        block.extend_from_slice(&number);
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
        let (Some(length), Some(crc), Some(found)) = (reader.u32(), reader.u32(), reader.u64())
        else {
            return Err(damaged("a block has no header"));
        };
        if length as usize > BLOCK_BYTES_MAX || found != number {
            return Err(damaged("a block's header makes no sense"));
        }
        let mut content = vec![0; length as usize];
        fill(&mut content, offset + BLOCK_HEADER_BYTES as u64)?;
        if block_crc(&number.to_le_bytes(), &content) != crc {
            return Err(damaged("a block does not match its checksum"));
        }
        if length == 0 {
            break;
        }
        let mut entries = Reader::new(&content);
        while !entries.is_empty() {
            count += 1;
            entries
                .u32()
                .and_then(|length| entries.bytes(length as usize))
                .and_then(&mut entry)
                .ok_or_else(|| damaged("an entry makes no sense"))?;
        }
        offset += (BLOCK_HEADER_BYTES + content.len()) as u64;
    }
    let size = Size { bytes: offset + BLOCK_HEADER_BYTES as u64, entries: count };
    Ok(Snapshot { header, size, segments })
}

fn block_crc(number: &[u8; 8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(number);
    hasher.update(content);
    hasher.finalize()
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
