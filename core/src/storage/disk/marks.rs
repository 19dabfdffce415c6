//! The file of the marks: a header, and the table of [`Marks`] mapped chunk by chunk.
//!
//! ```text
//! offset  bytes
//!      0      8  magic "libmq\0mk"
//!      8      4  version of the format
//!     12      4  CRC-32 of bytes 0..12
//!     16         zeros up to 65536; then chunks of 65536 bytes, which every page size divides
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use super::{open_file, open_regular, sync_directory};
use crate::error::{Error, Result};
use crate::limits::{CAPACITY_MAX, FORMAT_VERSION};
use crate::storage::marks::{CHUNK_BYTES, CHUNK_MARKS, Ground, MarkMemory, Marks};
use crate::storage::sys::{self, Mapping};
use crate::sync::{Mutex, lock};

const FILE_NAME: &str = "marks";
const TEMPORARY: &str = "marks.tmp";
const MAGIC: [u8; 8] = *b"libmq\0mk";
const HEADER_BYTES: usize = 16;
const CHUNK: u64 = CHUNK_BYTES as u64;
/// With a mark for each message that there can be.
const LENGTH_MAX: u64 = (CAPACITY_MAX.div_ceil(CHUNK_MARKS) as u64 + 1) * CHUNK;

/// Opens a directory's marks, and makes the file where there is none.
pub(super) fn open(directory: &Path, count: usize) -> Result<Marks> {
    let path = directory.join(FILE_NAME);
    let refused = |cause: io::Error| Error::storage("open", &path, &cause);
    let file = match open_file(&path, &mut OpenOptions::new()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(directory).map_err(refused)?
        }
        other => other.map_err(refused)?,
    };
    check(&path, &file)?;
    // The first of them have their room from the beginning: what is there is handed out on a full disk, too.
    let mut there = written(&path, &file)?;
    if there.first() != Some(&0) {
        there.insert(0, 0);
    }
    Marks::new(&path, count, &there, Mapped(Mutex::new(Some(file))))
        .map_err(|cause| Error::storage("make room for the marks in", &path, &cause))
}

/// A file that is mapped as it grows; none when it was let go, with what is mapped of it still there.
struct Mapped(Mutex<Option<File>>);

impl Ground for Mapped {
    fn chunk(&self, number: usize) -> io::Result<MarkMemory> {
        let file = lock(&self.0);
        let file = file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let offset = (number as u64 + 1) * CHUNK;
        sys::extend(file, offset, CHUNK)?;
        Ok(Box::new(Mapping::new(file, offset, CHUNK_BYTES)?))
    }

    fn let_go(&self) {
        lock(&self.0).take();
    }
}

/// Reads a directory's marks, and makes and changes nothing; no marks where there is no such file.
pub(super) fn read(directory: &Path) -> Result<Marks> {
    let path = directory.join(FILE_NAME);
    let unread = |cause: io::Error| Error::io("read", &path, &cause);
    let file = match open_regular(&path, &mut OpenOptions::new()) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            return Marks::in_memory(0).map_err(unread);
        }
        other => other.map_err(unread)?,
    };
    check(&path, &file)?;
    let there = written(&path, &file)?;
    Marks::new(&path, 0, &there, move |number| {
        let mut bytes = vec![0; CHUNK_BYTES];
        file.read_exact_at(&mut bytes, (number as u64 + 1) * CHUNK)?;
        let (words, _) = bytes.as_chunks();
        let words = words.iter().map(|word| AtomicU64::new(u64::from_ne_bytes(*word)));
        Ok(Box::new(words.collect::<Vec<_>>()) as MarkMemory)
    })
    .map_err(unread)
}

/// The chunks in which something was written. A file may be far longer than that, and take as little room: what it says of its
/// length is no reason to make anything.
fn written(path: &Path, file: &File) -> Result<Vec<usize>> {
    let measured = file.metadata().map_err(|cause| Error::io("measure", path, &cause));
    let length = measured?.len();
    if length > LENGTH_MAX {
        return Err(Error::corrupt(path, LENGTH_MAX, "no broker makes it that long"));
    }
    let mut chunks = Vec::new();
    let mut next = CHUNK;
    while next + CHUNK <= length
        && let Some(data) = sys::data_from(file, next)
    {
        let number = (data / CHUNK).saturating_sub(1);
        next = (number + 2) * CHUNK;
        if next <= length {
            chunks.extend(usize::try_from(number));
        }
    }
    Ok(chunks)
}

fn make(directory: &Path) -> io::Result<File> {
    sys::check_length(CHUNK)?;
    let temporary = directory.join(TEMPORARY);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = open_file(&temporary, OpenOptions::new().create_new(true))?;
    file.write_all_at(&header(FORMAT_VERSION), 0)?;
    file.set_len(CHUNK)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(FILE_NAME))?;
    sync_directory(directory)?;
    Ok(file)
}

fn header(version: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let (fields, crc) = bytes.split_at_mut(12);
    let (magic, number) = fields.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    number.copy_from_slice(&version.to_le_bytes());
    crc.copy_from_slice(&crc32fast::hash(fields).to_le_bytes());
    bytes
}

fn check(path: &Path, file: &File) -> Result<()> {
    let mut found = [0; HEADER_BYTES];
    file.read_exact_at(&mut found, 0).map_err(|cause| match cause.kind() {
        io::ErrorKind::UnexpectedEof => Error::corrupt(path, 0, "its header is cut off"),
        _ => Error::io("read", path, &cause),
    })?;
    let [.., a, b, c, d, _, _, _, _] = found;
    match u32::from_le_bytes([a, b, c, d]) {
        version if found != header(version) => {
            Err(Error::corrupt(path, 0, "its header does not match its checksum"))
        }
        FORMAT_VERSION => Ok(()),
        version => Err(Error::other_version(path, version)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::error::ErrorKind;
    use crate::storage::Mark;

    const MARK: Mark = Mark { token: 1 << 40 | 1, id: 4096, attempt: 1 };

    #[test]
    fn what_was_set_is_found_by_the_next_who_opens() {
        let dir = tempfile::tempdir().unwrap();
        let far = u32::try_from(CHUNK_MARKS + 5).unwrap();
        let marks = open(dir.path(), 10_000).unwrap();
        marks.set(0, MARK).unwrap();
        marks.set(far, Mark { id: 7, ..MARK }).unwrap();
        drop(marks);
        let before = fs::read(dir.path().join(FILE_NAME)).unwrap();
        assert_eq!(read(dir.path()).unwrap().all(), [MARK, Mark { id: 7, ..MARK }]);
        assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), before);
        let marks = open(dir.path(), 1).unwrap();
        assert_eq!(marks.all(), [MARK, Mark { id: 7, ..MARK }]);
        marks.clear_all();
        assert_eq!(open(dir.path(), 1).unwrap().all(), []);
    }

    /// The room for the first marks was asked for when the first message was handed out. On a disk that had become full
    /// meanwhile nothing could be handed out, so nothing could be settled, and it stayed full.
    #[test]
    fn the_first_marks_have_their_room_from_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), 10_000).unwrap());
        let file = fs::metadata(dir.path().join(FILE_NAME)).unwrap();
        assert_eq!(file.len(), 2 * CHUNK);
        assert!(file.blocks() * 512 >= CHUNK, "{} blocks", file.blocks());
    }

    /// A file that somebody had only made longer was given all its space by an open, and read whole by a `verify`.
    #[test]
    fn what_was_never_written_is_neither_read_nor_given_space() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let far = u32::try_from(1000 * CHUNK_MARKS).unwrap();
        let marks = open(dir.path(), 10_000_000).unwrap();
        marks.set(far, MARK).unwrap();
        drop(marks);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(LENGTH_MAX).unwrap();
        assert_eq!(
            written(&path, &open_file(&path, &mut OpenOptions::new()).unwrap()).unwrap(),
            [1000]
        );
        assert_eq!(read(dir.path()).unwrap().all(), [MARK]);
        assert_eq!(open(dir.path(), 1).unwrap().all(), [MARK]);
        assert!(file.metadata().unwrap().blocks() * 512 < 10 * CHUNK);
        file.set_len(LENGTH_MAX + 1).unwrap();
        assert_eq!(read(dir.path()).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(open(dir.path(), 1).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_damaged_header_is_corrupt_and_another_version_unsupported() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), 1).unwrap());
        let path = dir.path().join(FILE_NAME);
        let sound = fs::read(&path).unwrap();
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = sound.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(dir.path()).unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
            assert_eq!(open(dir.path(), 1).unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        fs::write(&path, b"libmq").unwrap();
        assert_eq!(open(dir.path(), 1).unwrap_err().kind(), ErrorKind::Corrupt);
        fs::write(&path, [&header(FORMAT_VERSION + 1)[..], &[0; 100]].concat()).unwrap();
        assert_eq!(open(dir.path(), 1).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
