//! Files in RAM, for brokers without a directory.
//!
//! A file is a row of blocks, and a block takes memory from its first write on, so a large segment costs nothing until
//! it is used. Blocks are locked one by one: threads that write in different places do not meet.
//!
//! Invariants:
//! - what was never written reads as zero;
//! - a removed or replaced file lives on for those who have it open.
//!
//! Nothing here survives the storage, so syncs do nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use super::{Marks, Storage, StorageFile};
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

/// Shared by readers and writers alike; held alone only to grow.
#[derive(Debug, Default)]
struct Contents {
    bytes: u64,
    /// As many as `bytes` needs.
    blocks: Vec<Block>,
}

impl MemoryFile {
    /// Makes the file at least `bytes` long.
    fn grow(&self, bytes: u64) -> io::Result<()> {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let places = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let missing = SPREAD.blocks(places).saturating_sub(contents.blocks.len());
        contents.blocks.try_reserve(missing)?;
        contents.blocks.extend(std::iter::repeat_with(Block::default).take(missing));
        contents.bytes = contents.bytes.max(bytes);
        Ok(())
    }

    fn check_end(offset: u64, bytes: usize) -> io::Result<u64> {
        offset.checked_add(bytes as u64).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
    }
}

impl StorageFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.contents.read().unwrap_or_else(PoisonError::into_inner).bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        let left = usize::try_from(contents.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = buffer.len().min(left);
        let mut rest = buffer.get_mut(..bytes).unwrap_or_default();
        let (mut number, mut start) = place(offset);
        while let Some(block) = contents.blocks.get(number).filter(|_| !rest.is_empty()) {
            let (part, more) = rest.split_at_mut((SPREAD.size(number) - start).min(rest.len()));
            match &*block.read().unwrap_or_else(PoisonError::into_inner) {
                Some(block) => {
                    part.copy_from_slice(block.get(start..start + part.len()).unwrap_or_default())
                }
                None => part.fill(0),
            }
            (number, rest, start) = (number + 1, more, 0);
        }
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = Self::check_end(offset, bytes.len())?;
        let mut contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        if end > contents.bytes {
            drop(contents);
            self.grow(end)?;
            contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        }
        let mut rest = bytes;
        let (mut number, mut start) = place(offset);
        while let Some(block) = contents.blocks.get(number).filter(|_| !rest.is_empty()) {
            let (part, more) = rest.split_at((SPREAD.size(number) - start).min(rest.len()));
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
            (number, rest, start) = (number + 1, more, 0);
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        if bytes >= contents.bytes {
            return Ok(());
        }
        contents.bytes = bytes;
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
            match below(4) {
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
