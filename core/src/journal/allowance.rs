//! The allowance: how many bytes the directory may take, by `max_bytes`.
//!
//! What grows asks first. A segment that is made ahead leaves room behind it: for the snapshot that will free segments,
//! beside the one there is, and for the segment of the next opening. So a directory that has come to its limit can still
//! be drained, cleaned, and opened again. An opening's own segment does not ask: else nobody could drain what is there.
//!
//! The directory is measured whenever somebody asks, once a segment and once a block of a snapshot, so there is no
//! account that could be wrong.

use std::io;

use super::snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::sync::{Arc, Mutex, lock};

/// Kept free for a snapshot, and for the marks, where there is no larger snapshot yet.
const SNAPSHOT_BYTES_MIN: u64 = 64 << 10;

/// The next snapshot may become so many times as large as the one there is.
const SNAPSHOT_GROWTH: u64 = 2;

/// What the directory may take.
#[derive(Debug)]
pub(crate) struct Allowance {
    storage: Arc<dyn Storage>,
    bytes_max: Option<u64>,
    /// Held by who has asked until the file has grown.
    turn: Mutex<()>,
}

impl Allowance {
    pub(crate) fn new(storage: Arc<dyn Storage>, bytes_max: Option<u64>) -> Self {
        Self { storage, bytes_max, turn: Mutex::new(()) }
    }

    /// Has a segment of so many bytes made, if it leaves room for what has to come; `next_bytes` is the size of the next
    /// opening's.
    ///
    /// # Errors
    /// `STORAGE_FULL`; what `make` answers.
    pub(crate) fn segment<T>(
        &self,
        bytes: u64,
        next_bytes: u64,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(bytes_max) = self.bytes_max else { return make() };
        let _turn = lock(&self.turn);
        self.check(bytes, next_bytes + self.for_snapshot()?, bytes_max)?;
        make()
    }

    /// Has so many bytes more of a snapshot written, of which so many are there.
    ///
    /// # Errors
    /// `STORAGE_FULL`; what `write` answers.
    pub(crate) fn snapshot(
        &self,
        written: u64,
        bytes: u64,
        write: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let Some(bytes_max) = self.bytes_max else { return write() };
        let _turn = lock(&self.turn);
        // What was kept for it is its own, also in a directory that is beyond a limit it was given later.
        if written + bytes > self.for_snapshot()? {
            self.check(bytes, 0, bytes_max)?;
        }
        write()
    }

    /// Bytes that are kept for a snapshot.
    fn for_snapshot(&self) -> Result<u64> {
        let newest =
            snapshot::newest_bytes(&*self.storage).map_err(|cause| self.unmeasured(&cause))?;
        Ok((newest * SNAPSHOT_GROWTH).max(SNAPSHOT_BYTES_MIN))
    }

    /// Whether so many bytes more leave so many.
    fn check(&self, bytes: u64, kept: u64, bytes_max: u64) -> Result<()> {
        let taken = self.storage.bytes().map_err(|cause| self.unmeasured(&cause))?;
        if taken.saturating_add(bytes).saturating_add(kept) <= bytes_max {
            return Ok(());
        }
        let path = self.storage.path();
        Err(Error::new(
            ErrorKind::StorageFull,
            format!(
                "max_bytes is {bytes_max}: {} takes {taken} bytes, {kept} are kept for snapshots and the next open, \
                 and {bytes} more are asked for",
                path.display()
            ),
        )
        .at(path))
    }

    fn unmeasured(&self, cause: &io::Error) -> Error {
        Error::io("measure", self.storage.path(), cause)
    }
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    const KIB: u64 = 1 << 10;

    /// Of a directory that takes 100 KiB, so many of them in its newest snapshot.
    fn allowance(kib_max: u64, snapshot_kib: u64) -> Allowance {
        let storage = MemoryStorage::new();
        storage.create(&snapshot::file_name(1), 10 * KIB).unwrap();
        storage.create(&snapshot::file_name(2), snapshot_kib * KIB).unwrap();
        storage.create("00000001.segment", (90 - snapshot_kib) * KIB).unwrap();
        Allowance::new(Arc::new(storage), Some(kib_max * KIB))
    }

    #[test]
    fn a_segment_leaves_room_for_a_snapshot_and_the_next_one() {
        let asked = |kib_max: u64, snapshot_kib: u64| {
            allowance(kib_max, snapshot_kib).segment(64 * KIB, 64 * KIB, || Ok(()))
        };
        assert!(asked(292, 0).is_ok());
        assert_eq!(asked(291, 0).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(asked(292, 32).is_ok());
        assert!(asked(292, 33).is_err());
    }

    #[test]
    fn a_snapshot_may_take_what_was_kept_for_it_and_what_is_free() {
        let asked = |kib_max: u64, written_kib: u64, kib: u64| {
            allowance(kib_max, 0).snapshot(written_kib * KIB, kib * KIB, || Ok(()))
        };
        assert!(asked(200, 64, 100).is_ok());
        assert_eq!(asked(200, 64, 101).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(asked(50, 0, 64).is_ok());
        assert!(asked(50, 1, 64).is_err());
    }
}
