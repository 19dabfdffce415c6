//! Files in RAM, in whose reads a test does something, and that tell what was made ready; and a disk whose room is measured.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::{Gain, Marks, MemoryStorage, Storage, StorageFile};
use crate::error::Result;
use crate::sync::{Arc, Mutex, lock};

/// A directory of such files.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    memory: MemoryStorage,
    meanwhile: Arc<Meanwhile>,
    ready: Arc<Mutex<Vec<Range<u64>>>>,
    gain: Gain,
    /// What it can take; none if nobody knows.
    room: Option<u64>,
    measured: Arc<Meanwhile>,
}

/// What happens in the next read, or the next measuring, between what was found and its answer.
#[derive(Default)]
pub(crate) struct Meanwhile(Mutex<Option<Box<dyn FnOnce() + Send>>>);

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn StorageFile>,
    meanwhile: Arc<Meanwhile>,
    ready: Arc<Mutex<Vec<Range<u64>>>>,
    gain: Gain,
}

impl Watched {
    /// Of files that gain so much by what is made ready.
    pub(crate) fn that_gain(gain: Gain) -> Self {
        Self { gain, ..Self::default() }
    }

    /// On a disk that can take so many bytes.
    pub(crate) fn with_room(bytes: u64) -> Self {
        Self { room: Some(bytes), ..Self::default() }
    }

    /// What happens in the next measuring.
    pub(crate) fn measured(&self) -> Arc<Meanwhile> {
        Arc::clone(&self.measured)
    }

    pub(crate) fn meanwhile(&self) -> Arc<Meanwhile> {
        Arc::clone(&self.meanwhile)
    }

    /// What was made ready, of whichever files, in that order.
    pub(crate) fn ready(&self) -> Arc<Mutex<Vec<Range<u64>>>> {
        Arc::clone(&self.ready)
    }

    fn watch(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        let (meanwhile, ready) = (self.meanwhile(), self.ready());
        Arc::new(WatchedFile { file, meanwhile, ready, gain: self.gain })
    }
}

impl Meanwhile {
    pub(crate) fn set(&self, happens: impl FnOnce() + Send + 'static) {
        *lock(&self.0) = Some(Box::new(happens));
    }

    fn happen(&self) {
        let happens = lock(&self.0).take();
        if let Some(happens) = happens {
            happens();
        }
    }

    /// Whether nobody has read since it was set.
    pub(crate) fn is_to_come(&self) -> bool {
        lock(&self.0).is_some()
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Storage for Watched {
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

    fn free_bytes(&self) -> Option<u64> {
        let room = self.room?;
        let free = room.saturating_sub(self.memory.bytes().unwrap_or(room));
        self.measured.happen();
        Some(free)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
        self.memory.create(name, bytes).map(|file| self.watch(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.memory.open(name).map(|file| self.watch(file))
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

impl StorageFile for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let got = self.file.read_at(buffer, offset);
        self.meanwhile.happen();
        got
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn gain(&self) -> Gain {
        self.gain
    }

    fn make_ready(&self, offset: u64, bytes: u64) {
        self.file.make_ready(offset, bytes);
        lock(&self.ready).push(offset..offset + bytes);
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}
