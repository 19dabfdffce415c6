//! A disk in memory whose writes and syncs give other threads a chance, so that what is decided and not shown yet is met
//! more often than on one that answers at once.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libmq::Result;
use libmq::storage::{Marks, MemoryStorage, Storage, StorageFile};

/// A directory of files that take their time.
#[derive(Debug, Default)]
pub(crate) struct SlowDisk {
    memory: MemoryStorage,
    calls: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SlowFile {
    file: Arc<dyn StorageFile>,
    calls: Arc<AtomicU64>,
}

impl SlowDisk {
    fn slow(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(SlowFile { file, calls: Arc::clone(&self.calls) })
    }
}

impl SlowFile {
    /// Every other call waits for a moment, one in eight for several.
    fn dawdle(&self) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let times = [0, 1, 0, 2, 0, 1, 0, 8][(call % 8) as usize];
        (0..times).for_each(|_| std::thread::yield_now());
    }
}

impl StorageFile for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.dawdle();
        self.file.write_at(bytes, offset)?;
        self.dawdle();
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.dawdle();
        self.file.sync()?;
        self.dawdle();
        Ok(())
    }
}

impl Storage for SlowDisk {
    fn path(&self) -> &Path {
        self.memory.path()
    }

    fn prepare(&self) -> Result<()> {
        self.memory.prepare()
    }

    fn lock(&self, timeout: Duration) -> Result<Box<dyn Send + Sync>> {
        self.memory.lock(timeout)
    }

    fn marks(&self, count: usize) -> Result<Arc<Marks>> {
        self.memory.marks(count)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.memory.list()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
        self.memory.create(name, bytes).map(|file| self.slow(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.memory.open(name).map(|file| self.slow(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.memory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.memory.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.memory.sync_dir()
    }
}
