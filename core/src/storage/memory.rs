//! Files in RAM, for brokers without a directory.
//!
//! A file is a row of blocks, and a block takes memory from its first write on, so a large segment costs nothing until
//! it is used. Blocks are locked one by one: threads that write in different places do not meet there. What never changes
//! again is not copied there if it fills a large piece of memory, but lent by who wrote it: that is most of a log of small
//! messages.
//!
//! Invariants:
//! - what was never written reads as zero;
//! - what is lent counts instead of what blocks have in its place, and goes there when some of it is written over, or when it has
//!   come to its end and most of its memory is of no use to it;
//! - a removed or replaced file lives on for those who have it open.
//!
//! Nothing here survives the storage, so syncs do nothing.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
    RwLockWriteGuard,
};
use std::time::Duration;

#[cfg(all(test, not(loom)))]
use super::Gain;
use super::lasting::Lent;
use super::{Lasting, Marks, Storage, StorageFile};
use crate::error::{Error, ErrorKind, Result};
use crate::pages::{LARGE_BYTES, Pages, Spread};

/// The path a storage in RAM goes by.
const PATH: &str = ":memory:";
/// Which bytes come into being together.
const SPREAD: Spread = Spread { small: 64 << 10, large: LARGE_BYTES };

/// A directory in RAM.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    files: Mutex<HashMap<String, Arc<MemoryFile>>>,
    marks: OnceLock<Arc<Marks>>,
    lock: Arc<MemoryLock>,
}

impl MemoryStorage {
    /// An empty directory, unlike any other.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn files(&self) -> MutexGuard<'_, HashMap<String, Arc<MemoryFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn path(&self) -> &Path {
        Path::new(PATH)
    }

    fn is_memory(&self) -> bool {
        true
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn lock(&self, timeout: Duration) -> Result<Box<dyn Send + Sync>> {
        let held = self.lock.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut held, _) = self
            .lock
            .freed
            .wait_timeout_while(held, timeout, |held| *held)
            .unwrap_or_else(PoisonError::into_inner);
        if *held {
            return Err(
                Error::new(ErrorKind::Locked, format!("{PATH} is open in this process")).at(PATH)
            );
        }
        *held = true;
        Ok(Box::new(MemoryGuard(Arc::clone(&self.lock))))
    }

    fn marks(&self, count: usize) -> Result<Arc<Marks>> {
        if let Some(marks) = self.marks.get() {
            return Ok(Arc::clone(marks));
        }
        let marks = Marks::in_memory(count).map_err(|cause| Error::io("make", PATH, &cause))?;
        Ok(Arc::clone(self.marks.get_or_init(|| Arc::new(marks))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
        match self.files().entry(name.to_owned()) {
            Entry::Occupied(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Entry::Vacant(entry) => {
                let file = Arc::new(MemoryFile::default());
                file.grow(bytes)?;
                Ok(Arc::clone(entry.insert(file)) as Arc<dyn StorageFile>)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        match self.files().get(name) {
            Some(file) => Ok(Arc::clone(file) as Arc<dyn StorageFile>),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether somebody holds the directory.
#[derive(Debug, Default)]
struct MemoryLock {
    held: Mutex<bool>,
    freed: Condvar,
}

struct MemoryGuard(Arc<MemoryLock>);

impl Drop for MemoryGuard {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
    }
}

/// The bytes of a block; none before the first write.
type Block = RwLock<Option<Pages<u8>>>;

/// A file in RAM.
#[derive(Debug, Default)]
struct MemoryFile {
    contents: RwLock<Contents>,
}

/// Shared by readers and writers alike; held alone to grow, and to be lent something.
#[derive(Debug, Default)]
struct Contents {
    bytes: u64,
    /// As many as `bytes` needs.
    blocks: Vec<Block>,
    /// What is lent, by its offset; no two of them overlap.
    lent: BTreeMap<u64, Lent>,
}

impl Contents {
    /// Makes it at least `bytes` long.
    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        let places = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let missing = SPREAD.blocks(places).saturating_sub(self.blocks.len());
        self.blocks.try_reserve(missing)?;
        self.blocks.extend(std::iter::repeat_with(Block::default).take(missing));
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }

    /// Reads what blocks have at `offset`, of which there is that much.
    fn read_blocks(&self, mut buffer: &mut [u8], offset: u64) {
        let (mut number, mut start) = place(offset);
        while let Some(block) = self.blocks.get(number).filter(|_| !buffer.is_empty()) {
            let (part, rest) = buffer.split_at_mut((SPREAD.size(number) - start).min(buffer.len()));
            match &*block.read().unwrap_or_else(PoisonError::into_inner) {
                Some(block) => {
                    part.copy_from_slice(block.get(start..start + part.len()).unwrap_or_default())
                }
                None => part.fill(0),
            }
            (number, buffer, start) = (number + 1, rest, 0);
        }
    }

    /// Writes to blocks at `offset`, where there are as many as it takes.
    fn write_blocks(&self, mut bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut number, mut start) = place(offset);
        while let Some(block) = self.blocks.get(number).filter(|_| !bytes.is_empty()) {
            let (part, rest) = bytes.split_at((SPREAD.size(number) - start).min(bytes.len()));
            let mut block = block.write().unwrap_or_else(PoisonError::into_inner);
            if block.is_none() {
                let zeros = Pages::zeros(SPREAD.size(number));
                *block = Some(zeros.ok_or(io::ErrorKind::OutOfMemory)?);
            }
            if let Some(place) =
                block.as_mut().and_then(|block| block.get_mut(start..start + part.len()))
            {
                place.copy_from_slice(part);
            }
            (number, bytes, start) = (number + 1, rest, 0);
        }
        Ok(())
    }

    /// What is lent of a range, the last one first.
    fn lent(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Lent)> {
        let before_its_end =
            self.lent.range(..range.end).rev().map(|(offset, lent)| (*offset, lent));
        before_its_end.take_while(move |(offset, lent)| offset + lent.len() as u64 > range.start)
    }

    /// Has blocks have what is lent of a range.
    fn take_over(&mut self, range: Range<u64>) -> io::Result<()> {
        let offsets: Vec<u64> = self.lent(range).map(|(offset, _)| offset).collect();
        for offset in offsets {
            if let Some(lent) = self.lent.get(&offset) {
                self.write_blocks(lent, offset)?;
                self.lent.remove(&offset);
            }
        }
        Ok(())
    }
}

impl MemoryFile {
    /// Makes the file at least `bytes` long.
    fn grow(&self, bytes: u64) -> io::Result<()> {
        self.alone().grow(bytes)
    }

    fn alone(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_end(offset: u64, bytes: usize) -> io::Result<u64> {
        offset.checked_add(bytes as u64).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
    }
}

impl StorageFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.shared().bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let contents = self.shared();
        let left = usize::try_from(contents.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = buffer.len().min(left);
        let buffer = buffer.get_mut(..bytes).unwrap_or_default();
        contents.read_blocks(buffer, offset);
        for (start, lent) in contents.lent(offset..offset.saturating_add(bytes as u64)) {
            copy_common(lent, start, buffer, offset);
        }
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = Self::check_end(offset, bytes.len())?;
        if bytes.is_empty() {
            return self.grow(end);
        }
        loop {
            let contents = self.shared();
            if end <= contents.bytes && contents.lent(offset..end).next().is_none() {
                return contents.write_blocks(bytes, offset);
            }
            drop(contents);
            let mut contents = self.alone();
            contents.grow(end)?;
            contents.take_over(offset..end)?;
        }
    }

    /// None; but tests hold whoever makes ready to what they promise.
    #[cfg(all(test, not(loom)))]
    fn gain(&self) -> Gain {
        Gain::All
    }

    #[cfg(all(test, not(loom)))]
    fn make_ready(&self, offset: u64, bytes: u64) {
        let mut there = vec![1; usize::try_from(bytes).unwrap_or_default()];
        assert_eq!(self.read_at(&mut there, offset).unwrap_or_default(), there.len());
        assert!(there.iter().all(|byte| *byte == 0), "something is written at {offset}");
    }

    fn write_lasting_at(&self, bytes: &Lasting<'_>, offset: u64) -> io::Result<()> {
        let end = Self::check_end(offset, bytes.len())?;
        if bytes.is_empty() {
            return self.grow(end);
        }
        let mut contents = self.alone();
        // Mostly it goes on where the last of all that is lent ends, so that it concerns nothing else.
        if end <= contents.bytes
            && let Some((start, last)) = contents.lent.iter_mut().next_back()
            && *start + last.len() as u64 == offset
            && last.join(bytes)
        {
            return Ok(());
        }
        contents.grow(end)?;
        contents.take_over(offset..end)?;
        let before = contents.lent.range_mut(..offset).next_back();
        let before = before.filter(|(start, lent)| **start + lent.len() as u64 == offset);
        if let Some((start, lent)) = before {
            if lent.join(bytes) {
                return Ok(());
            }
            if lent.is_wasteful() {
                let start = *start;
                contents.take_over(start..offset)?;
            }
        }
        if bytes.may_be_lent() {
            contents.lent.insert(offset, bytes.lend());
            return Ok(());
        }
        contents.write_blocks(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut contents = self.alone();
        if bytes >= contents.bytes {
            return Ok(());
        }
        contents.bytes = bytes;
        contents.lent.split_off(&bytes);
        if let Some((start, last)) = contents.lent.range_mut(..bytes).next_back() {
            last.truncate(usize::try_from(bytes - start).unwrap_or(usize::MAX));
        }
        let (full, part) = place(bytes);
        contents.blocks.truncate(full + usize::from(part > 0));
        // What is cut off must read as zero should the file grow again.
        let last = contents
            .blocks
            .get_mut(full)
            .map(|block| block.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(Some(last)) = last {
            last.get_mut(part..).unwrap_or_default().fill(0);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies those of the bytes at `from_offset` whose place is in the buffer, which is at `to_offset`.
fn copy_common(from: &[u8], from_offset: u64, to: &mut [u8], to_offset: u64) {
    let behind = |here: u64, there: u64| usize::try_from(here.saturating_sub(there));
    let (Ok(skip), Ok(start)) = (behind(to_offset, from_offset), behind(from_offset, to_offset))
    else {
        return;
    };
    let (from, to) =
        (from.get(skip..).unwrap_or_default(), to.get_mut(start..).unwrap_or_default());
    let common = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..common), to.get_mut(..common)) {
        to.copy_from_slice(from);
    }
}

/// The number of the block that `offset` lies in, and its place there.
fn place(offset: u64) -> (usize, usize) {
    SPREAD.find(usize::try_from(offset).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const BLOCK_BYTES: usize = SPREAD.small;
    const BLOCK: u64 = BLOCK_BYTES as u64;

    /// A large piece, which may be lent, full of this byte.
    fn lasting_memory(byte: u8) -> Arc<Pages<u8>> {
        let mut memory = Pages::zeros(LARGE_BYTES).unwrap();
        memory.fill(byte);
        Arc::new(memory)
    }

    /// Writes some bytes of the memory whose first one belongs at `start`.
    fn write_lasting(
        file: &dyn StorageFile,
        memory: &Arc<Pages<u8>>,
        places: Range<usize>,
        start: usize,
    ) {
        let offset = (start + places.start) as u64;
        // SAFETY: they were filled when the memory was made, and nobody writes there.
        let bytes = unsafe { Lasting::new(memory, places) };
        file.write_lasting_at(&bytes, offset).unwrap();
    }

    fn blocks_in_use(storage: &MemoryStorage, name: &str) -> usize {
        let file = Arc::clone(&storage.files()[name]);
        let contents = file.contents.read().unwrap();
        contents.blocks.iter().filter(|block| block.read().unwrap().is_some()).count()
    }

    #[test]
    fn a_segment_costs_nothing_until_it_is_used() {
        let storage = MemoryStorage::new();
        let file = storage.create("segment", 64 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 64 << 20);
        assert_eq!(blocks_in_use(&storage, "segment"), 0);
        let mut bytes = vec![1; 3 * BLOCK_BYTES];
        assert_eq!(file.read_at(&mut bytes, BLOCK / 2).unwrap(), bytes.len());
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert_eq!(blocks_in_use(&storage, "segment"), 0);
        file.write_at(b"ab", 3 * BLOCK - 1).unwrap();
        assert_eq!(blocks_in_use(&storage, "segment"), 2);
    }

    #[test]
    fn writes_are_read_back_across_blocks() {
        let storage = MemoryStorage::new();
        let file = storage.create("file", 4 * BLOCK).unwrap();
        let written: Vec<u8> = (0..=250).cycle().take(2 * BLOCK_BYTES + 77).collect();
        file.write_at(&written, BLOCK - 40).unwrap();
        let mut read = vec![9; written.len() + 80];
        assert_eq!(file.read_at(&mut read, BLOCK - 80).unwrap(), read.len());
        assert_eq!(read[..40], [0; 40]);
        assert_eq!(read[40..40 + written.len()], written);
        assert_eq!(read[40 + written.len()..], [0; 40]);
    }

    #[test]
    fn files_grow_and_reads_end_at_their_end() {
        let storage = MemoryStorage::new();
        let file = storage.create("file", 0).unwrap();
        let mut buffer = [b'.'; 8];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 0);
        file.write_at(b"0123456789", BLOCK).unwrap();
        assert_eq!(file.len().unwrap(), BLOCK + 10);
        assert_eq!(file.read_at(&mut buffer, BLOCK + 6).unwrap(), 4);
        assert_eq!(&buffer, b"6789....");
        assert_eq!(file.read_at(&mut buffer, BLOCK + 10).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, u64::MAX).unwrap(), 0);
        assert!(file.write_at(b"x", u64::MAX).is_err());
        assert_eq!(file.len().unwrap(), BLOCK + 10);
    }

    #[test]
    fn what_is_cut_off_is_gone() {
        let storage = MemoryStorage::new();
        let file = storage.create("file", 3 * BLOCK).unwrap();
        file.write_at(&vec![7; 3 * BLOCK_BYTES], 0).unwrap();
        file.truncate(BLOCK + 10).unwrap();
        assert_eq!(file.len().unwrap(), BLOCK + 10);
        assert_eq!(blocks_in_use(&storage, "file"), 2);
        file.truncate(2 * BLOCK).unwrap();
        assert_eq!(file.len().unwrap(), BLOCK + 10);
        file.write_at(b"x", 2 * BLOCK).unwrap();
        let mut bytes = vec![1; BLOCK_BYTES];
        file.read_at(&mut bytes, BLOCK).unwrap();
        assert_eq!(bytes[..10], [7; 10]);
        assert!(bytes[10..].iter().all(|byte| *byte == 0));
        file.truncate(BLOCK).unwrap();
        assert_eq!(blocks_in_use(&storage, "file"), 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_lasts_is_not_copied_until_it_is_written_over() {
        let storage = MemoryStorage::new();
        let file = storage.create("file", 4 << 20).unwrap();
        file.write_at(&[9; 10], 95).unwrap();
        let memory = lasting_memory(1);
        let part = LARGE_BYTES / 8;
        for start in (0..LARGE_BYTES).step_by(part) {
            write_lasting(&*file, &memory, start..start + part, 100);
        }
        write_lasting(&*file, &memory, 5..5, 5 << 20);
        let lent = || storage.files()["file"].shared().lent.len();
        let counts = (lent(), Arc::strong_count(&memory), blocks_in_use(&storage, "file"));
        assert_eq!(counts, (1, 2, 1));
        assert_eq!(file.len().unwrap(), (5 << 20) + 5);
        let mut bytes = vec![0; LARGE_BYTES + 100];
        file.read_at(&mut bytes, 0).unwrap();
        assert!(bytes[95..100] == [9; 5] && bytes[100..].iter().all(|byte| *byte == 1));
        // Beside memory that is not its continuation, and cut off in the middle.
        write_lasting(&*file, &memory, 0..100, LARGE_BYTES + 100);
        assert_eq!(lent(), 2);
        file.truncate(500).unwrap();
        file.write_at(&[], 300).unwrap();
        file.write_at(&[], 1100).unwrap();
        let mut bytes = [0; 1100];
        file.read_at(&mut bytes, 0).unwrap();
        assert!(lent() == 1 && bytes[100..500] == [1; 400] && bytes[500..] == [0; 600]);
        file.write_at(&[7], 499).unwrap();
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!((lent(), Arc::strong_count(&memory)), (0, 1));
        assert!(bytes[100..499] == [1; 399] && bytes[499] == 7 && bytes[500..] == [0; 600]);
    }

    /// A file kept the whole of each chunk that a large record had ended, however little of it was in use: twelve times its log.
    /// And what it kept of an allocator's memory did not go back to the system.
    #[test]
    #[cfg(target_os = "linux")]
    fn memory_of_which_little_is_used_is_not_kept() {
        let storage = MemoryStorage::new();
        let file = storage.create("file", 0).unwrap();
        let lent = || storage.files()["file"].shared().lent.len();
        let (piece, record) = (lasting_memory(1), Arc::new(vec![2; 70_000].into()));
        write_lasting(&*file, &piece, 0..LARGE_BYTES / 2 - 1, 0);
        assert_eq!(lent(), 1);
        write_lasting(&*file, &record, 0..70_000, LARGE_BYTES / 2 - 1);
        assert_eq!((lent(), Arc::strong_count(&piece), Arc::strong_count(&record)), (0, 1, 1));
        let mut bytes = vec![0; LARGE_BYTES / 2 + 69_999];
        file.read_at(&mut bytes, 0).unwrap();
        let (small, large) = bytes.split_at(LARGE_BYTES / 2 - 1);
        assert!(small.iter().all(|byte| *byte == 1) && large.iter().all(|byte| *byte == 2));
        // Half of it or more is.
        write_lasting(&*file, &piece, 0..LARGE_BYTES / 2, 3 << 20);
        write_lasting(&*file, &record, 0..70_000, (3 << 20) + LARGE_BYTES / 2);
        assert_eq!(lent(), 1);
    }

    #[test]
    fn small_blocks_and_large_ones_are_one_file() {
        let (small, large) = (SPREAD.small, SPREAD.large);
        let places =
            [0, 1, small - 1, small, large - small, large - 3, large, 2 * large - 2, 3 * large];
        let storage = MemoryStorage::new();
        let file = storage.create("file", 0).unwrap();
        let (mut model, mut state) = (Vec::new(), 7_usize);
        let mut below = |limit: usize| {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
            (state >> 12) % limit
        };
        for step in 0..=250 {
            let start = places[below(places.len())];
            let count = [1, 7, small, large / 2][below(4)];
            let end = start + count;
            match below(5) {
                0 => {
                    file.truncate(start as u64).unwrap();
                    model.truncate(start);
                }
                1 => {
                    let mut found = vec![9; count];
                    let bytes = file.read_at(&mut found, start as u64).unwrap();
                    let there = model.get(start..end.min(model.len())).unwrap_or_default();
                    assert!(found[..bytes] == *there, "step {step}: {count} bytes at {start}");
                }
                2 => {
                    // In two parts, which are one mostly.
                    let memory = lasting_memory(step);
                    let middle = below(count + 1);
                    write_lasting(&*file, &memory, 0..middle, start);
                    write_lasting(&*file, &memory, middle..count, start);
                    model.resize(model.len().max(end), 0);
                    model[start..end].fill(step);
                }
                _ => {
                    file.write_at(&vec![step; count], start as u64).unwrap();
                    model.resize(model.len().max(end), 0);
                    model[start..end].fill(step);
                }
            }
            assert_eq!(file.len().unwrap(), model.len() as u64, "step {step}");
        }
    }

    #[test]
    fn names_work_as_on_disk() {
        let storage = MemoryStorage::new();
        let old = storage.create("old", 1).unwrap();
        old.write_at(b"o", 0).unwrap();
        assert_eq!(storage.create("old", 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        storage.create("new", 1).unwrap().write_at(b"n", 0).unwrap();
        storage.rename("new", "old").unwrap();
        assert_eq!(storage.list().unwrap(), ["old"]);
        let mut byte = [0];
        storage.open("old").unwrap().read_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"n");
        old.read_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"o");
        storage.remove("old").unwrap();
        for error in [
            storage.open("old").unwrap_err(),
            storage.remove("old").unwrap_err(),
            storage.rename("old", "new").unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
        assert!(storage.list().unwrap().is_empty());
    }

    #[test]
    fn the_lock_has_one_owner() {
        let storage = MemoryStorage::new();
        let guard = storage.lock(Duration::ZERO).unwrap();
        let error = storage.lock(Duration::from_millis(1)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert_eq!(error.path(), Some(Path::new(":memory:")));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| storage.lock(Duration::from_secs(60)).map(drop));
            thread::sleep(Duration::from_millis(10));
            drop(guard);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn many_threads_write_one_file() {
        let storage = MemoryStorage::new();
        let file = storage.create("file", 0).unwrap();
        thread::scope(|scope| {
            for thread in 0..4_u8 {
                let file = &file;
                scope.spawn(move || {
                    for n in 0..2000_u64 {
                        file.write_at(&[thread + 1; 100], (n * 4 + u64::from(thread)) * 100)
                            .unwrap();
                    }
                });
            }
        });
        let mut bytes = vec![0; 800_000];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 800_000);
        for (n, part) in bytes.chunks(100).enumerate() {
            assert!(part.iter().all(|byte| usize::from(*byte) == n % 4 + 1), "{n}");
        }
    }
}
