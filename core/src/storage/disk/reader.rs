//! A directory that is only read: no byte of it is changed, and nothing is made, so it may lie on a disk that cannot be
//! written.
//!
//! Its lock is the owner's, taken together with others that read and without a word in the file. Where there is no such
//! file, as in a copy that nobody has opened yet, there is nothing to lock.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{DiskFile, DiskStorage, empty, lock, marks, not_a_directory, open_regular, refused};
use crate::error::{Error, Result};
use crate::storage::{Marks, Storage, StorageFile};

/// A directory on disk that is only read.
#[derive(Debug)]
pub(crate) struct DiskReader {
    directory: DiskStorage,
}

impl DiskReader {
    pub(crate) fn new(path: &Path) -> Self {
        Self { directory: DiskStorage::new(path) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path.join(name)
    }
}

impl Storage for DiskReader {
    fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Refuses what is not there, or is not a directory.
    fn prepare(&self) -> Result<()> {
        let path = self.path();
        if path.as_os_str().is_empty() {
            return Err(empty());
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(not_a_directory(path)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                Err(Error::invalid(format!("there is no {}", path.display())).at(path))
            }
            Err(cause) => Err(refused(path, &cause)),
        }
    }

    fn lock(&self, _: Duration) -> Result<Box<dyn Send + Sync>> {
        Ok(Box::new(lock::share(self.path())?))
    }

    fn marks(&self, _: usize) -> Result<Arc<Marks>> {
        Ok(Arc::new(marks::read(self.path())?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn bytes(&self) -> io::Result<u64> {
        self.directory.bytes()
    }

    fn create(&self, _: &str, _: u64) -> io::Result<Arc<dyn StorageFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = open_regular(&self.at(name), &mut OpenOptions::new())?;
        Ok(Arc::new(DiskFile::new(file)?))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_only_read_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "precious").unwrap();
        let reader = DiskReader::new(dir.path());
        reader.prepare().unwrap();
        let file = reader.open("file").unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.truncate(1).is_err());
        for refused in [
            reader.create("new", 1).map(drop),
            reader.rename("file", "new"),
            reader.remove("file"),
            reader.sync_dir(),
        ] {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        drop(reader.lock(Duration::ZERO).unwrap());
        assert_eq!(reader.marks(10).unwrap().all(), []);
        assert_eq!(reader.list().unwrap(), ["file"]);
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"precious");
    }

    #[test]
    fn a_directory_that_is_not_there_is_invalid_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nothing");
        let error = DiskReader::new(&path).prepare().unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Invalid, Some(path.as_path())));
        assert!(!path.exists());
        fs::write(&path, "a file").unwrap();
        assert_eq!(DiskReader::new(&path).prepare().unwrap_err().kind(), ErrorKind::Invalid);
        for path in ["", "nul\0in/it"] {
            let error = DiskReader::new(Path::new(path)).prepare().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }
}
