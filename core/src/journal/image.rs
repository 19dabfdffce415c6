//! Images: the log and its newest snapshot as they were at one moment, to be copied while the broker goes on.
//!
//! An image holds the files open, so whoever cleans may take their names away meanwhile: their bytes stay until it is
//! dropped. Nothing below its end changes any more, and what was appended behind that is left out.
//!
//! A copy of it is a directory that was closed at that moment: the records that close a log are put behind the last one.
//! Without them whatever takes the end of the copy would look like a torn tail.

use std::path::{Path, PathBuf};

use super::record;
use super::segment::Segment;
use crate::error::{Error, Result};
use crate::storage::{Storage, StorageFile};
use crate::sync::Arc;

/// Bytes that are copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// The files of a moment.
#[derive(Debug)]
pub(crate) struct Image {
    /// The directory, for error texts.
    path: PathBuf,
    snapshot: Option<(String, Arc<dyn StorageFile>)>,
    /// In the order of the log, which ends in the last one.
    segments: Vec<Arc<Segment>>,
    end: u64,
}

impl Image {
    pub(super) fn new(
        path: &Path,
        snapshot: Option<(String, Arc<dyn StorageFile>)>,
        segments: Vec<Arc<Segment>>,
        end: u64,
    ) -> Self {
        Self { path: path.to_owned(), snapshot, segments, end }
    }

    /// Writes a copy to an empty directory, and makes it durable. `go_on` is asked before every part of it.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO`; `CORRUPT` where a file has lost bytes; what `go_on` answers. What was written by then is
    /// left for the caller to remove.
    pub(crate) fn copy(&self, target: &dyn Storage, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
        let (last, before) = match self.segments.split_last() {
            Some((last, before)) => (Some(last), before),
            None => (None, &[][..]),
        };
        for segment in before {
            // What was cut at its end is no longer than its log.
            let bytes = self.measure(&segment.name(), &*segment.file)?;
            self.copy_file(&segment.name(), &*segment.file, bytes, target, go_on)?.sync()?;
        }
        if let Some(segment) = last {
            let end = segment.offset(self.end);
            let mut copy = self.copy_file(&segment.name(), &*segment.file, end, target, go_on)?;
            copy.write(&closing(self.end, segment.header.salt), end)?;
            copy.lengthen(segment.header.capacity)?;
            copy.sync()?;
        }
        if let Some((name, file)) = &self.snapshot {
            let bytes = self.measure(name, &**file)?;
            self.copy_file(name, &**file, bytes, target, go_on)?.sync()?;
        }
        target.sync_dir().map_err(|cause| Error::storage("sync", target.path(), &cause))
    }

    fn measure(&self, name: &str, file: &dyn StorageFile) -> Result<u64> {
        file.len().map_err(|cause| Error::io("measure", self.path.join(name), &cause))
    }

    /// Copies the first bytes of a file, but for zeros, which are not written.
    fn copy_file<'a>(
        &self,
        name: &str,
        file: &dyn StorageFile,
        bytes: u64,
        target: &'a dyn Storage,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<CopiedFile<'a>> {
        let path = || self.path.join(name);
        let unread = |cause: &std::io::Error| Error::io("read", path(), cause);
        let mut copy = CopiedFile::create(target, name)?;
        let mut buffer = Vec::new();
        let mut at = 0;
        loop {
            go_on()?;
            let data = file.data_from(at).map_err(|cause| unread(&cause))?;
            let Some(data) = data.filter(|data| *data < bytes) else { break };
            let wanted = usize::try_from(COPY_BYTES.min(bytes - data)).unwrap_or(0);
            buffer.resize(wanted, 0);
            let got = file.read_at(&mut buffer, data).map_err(|cause| unread(&cause))?;
            if got < wanted {
                return Err(Error::corrupt(path(), data + got as u64, "the file ends early"));
            }
            if buffer.iter().any(|byte| *byte != 0) {
                copy.write(&buffer, data)?;
            }
            at = data + wanted as u64;
        }
        copy.lengthen(bytes)?;
        Ok(copy)
    }
}

/// A file that is being written.
struct CopiedFile<'a> {
    target: &'a dyn Storage,
    name: String,
    file: Arc<dyn StorageFile>,
    bytes: u64,
}

impl<'a> CopiedFile<'a> {
    fn create(target: &'a dyn Storage, name: &str) -> Result<Self> {
        let file = target
            .create(name, 0)
            .map_err(|cause| Error::storage("make", target.path().join(name), &cause))?;
        Ok(Self { target, name: name.to_owned(), file, bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_at(bytes, offset).map_err(|cause| self.failed("write to", &cause))?;
        self.bytes = self.bytes.max(offset + bytes.len() as u64);
        Ok(())
    }

    /// Makes the file so long at least; what was not written takes no space where the storage knows of holes.
    fn lengthen(&mut self, bytes: u64) -> Result<()> {
        if self.bytes < bytes { self.write(&[0], bytes - 1) } else { Ok(()) }
    }

    fn sync(&self) -> Result<()> {
        self.file.sync().map_err(|cause| self.failed("sync", &cause))
    }

    fn failed(&self, doing: &str, cause: &std::io::Error) -> Error {
        Error::storage(doing, self.target.path().join(&self.name), cause)
    }
}

/// The bytes of the records that close a log at this position, everything before which is synced.
fn closing(end: u64, salt: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(record::CLOSING_BYTES);
    for record in record::CLOSING {
        let mut one = vec![0; record.space()];
        let position = end + bytes.len() as u64;
        record::write_group(&[record], &mut one, position, end, salt);
        bytes.append(&mut one);
    }
    bytes
}
