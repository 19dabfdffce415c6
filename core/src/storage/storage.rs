//! The two traits of a storage: a directory and its files.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::lasting::Lasting;
use super::marks::Marks;
use crate::error::Result;

/// A flat directory of files.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The directory's path, for error texts.
    fn path(&self) -> &Path;

    /// Whether its files are in this process's memory, so that a write is a copy at most, and no call of the system.
    fn is_memory(&self) -> bool {
        false
    }

    /// Makes the directory where there is none, and refuses what is not a directory. First call on a storage.
    fn prepare(&self) -> Result<()>;

    /// Takes the owner's lock, waiting at most `timeout`; held until the guard is dropped or the process dies.
    ///
    /// # Errors
    /// `LOCKED`, naming the owner.
    fn lock(&self, timeout: Duration) -> Result<Box<dyn Send + Sync>>;

    /// Sees that the directory is where it was when it was locked, and that the lock is still what the next owner would meet.
    fn check_place(&self) -> io::Result<()> {
        Ok(())
    }

    /// The table of what is being handled, for at most `count` messages at once, with what its last owner left in it.
    fn marks(&self, count: usize) -> Result<Arc<Marks>>;

    /// The names of all entries, in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Bytes that all files have together.
    fn bytes(&self) -> io::Result<u64> {
        let lengths = self.list()?.into_iter().map(|name| match self.open(&name) {
            Ok(file) => file.len(),
            // It went, or got another name, since it was listed.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        });
        lengths.sum()
    }

    /// Bytes that files may grow by; none where that is not known.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Makes a new file of `bytes` bytes, all zero, its space allocated. A file that could not be made whole is
    /// removed again.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Gives a file another name, replacing what has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// Which writes take less in a part of a file that zeros were written to than in one that was only allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gain {
    /// None that is known.
    #[default]
    None,
    /// Those that a sync follows.
    Synced,
    /// All.
    All,
}

/// An open file. Reads and writes are positioned, so one file serves many threads.
#[expect(clippy::len_without_is_empty, reason = "whether a file is empty is never asked")]
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;

    /// Reads into `buffer` from `offset`; fewer bytes than asked for only at the file's end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// From where on, at `offset` or behind it, there may be bytes that are not zero; none where there are none up to the
    /// file's end. What never was written is passed over without being read, where the storage knows of it.
    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }

    /// Where, at `offset` or behind it, begins what never was written; where the file ends if that is not known, or nothing is there.
    fn hole_from(&self, _offset: u64) -> io::Result<u64> {
        self.len()
    }

    /// Writes all of `bytes` at `offset`, however many calls that takes.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// As `write_at`, of bytes that never change again, which a storage may keep instead of a copy.
    fn write_lasting_at(&self, bytes: &Lasting<'_>, offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }

    /// What [`StorageFile::make_ready`] is good for.
    fn gain(&self) -> Gain {
        Gain::None
    }

    /// Makes ready for what is written soon a part of the file in which nothing was written so far, and nobody writes meanwhile: it
    /// stays zeros. Only advice: does nothing where no write gains by it, and what fails is told by who writes there.
    fn make_ready(&self, _offset: u64, _bytes: u64) {}

    /// Cuts the file to `bytes`, giving back what lies beyond.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Makes all bytes written so far durable. An error, too, where nobody could find them again.
    fn sync(&self) -> io::Result<()>;

    /// After a sync: has later reads ask the disk. Where an earlier sync has failed, perhaps another process's, a kernel may
    /// keep in memory what it could not write, and call it clean.
    fn drop_cached(&self) {}

    /// Has reads come from the disk itself, past what the system keeps in memory, or no more; answers whether they do. By who opens
    /// the file, before anybody shares it. What cannot be read so is read as ever, and from then on.
    fn set_direct(&self, _direct: bool) -> bool {
        false
    }

    /// Whether they do.
    fn is_direct(&self) -> bool {
        false
    }

    /// These bytes are read soon.
    fn will_read(&self, _offset: u64, _bytes: u64) {}

    /// Whether a read may bring more into memory than it asks for, as it does where nothing is said. What never was written and
    /// was brought into memory so is told of as if it had been written.
    fn read_ahead(&self, _ahead: bool) {}
}

/// A direct read begins at a multiple of this, in its file and in memory, and is as long as one.
pub(crate) const DIRECT_BYTES: usize = 4096;

/// In the place of a file that was let go.
#[derive(Debug)]
pub(crate) struct NoFile;

impl StorageFile for NoFile {
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn truncate(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}
