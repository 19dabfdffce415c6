//! The allowance: how many bytes the directory may take, by `max_bytes` and by what its disk has left.
//!
//! What grows asks first, and leaves room for what comes out of a full directory again: a segment for the settles of all that
//! may live then, the segment of the next opening, and two snapshots, one of which is being written while the other is
//! there. When more lives, it asks again. A segment for settles leaves room for the next opening and a snapshot, since it
//! makes nothing larger; where there is no room for an ordinary one, it is as small as what lives allows. So a directory that
//! has come to its limit can still be drained, cleaned, and opened again. An opening's own segment does not ask: else nobody
//! could drain what is there.
//!
//! A segment of settles is enough where messages go roughly in the order they came: a record that settles is shorter than
//! any that it settles, so that before a segment is full of them, one is empty that was full of messages.
//!
//! The directory and the disk are measured whenever somebody asks, once a segment and once a block of a snapshot, so there
//! is no account that could be wrong. What others write to the disk meanwhile is theirs to see to.

use super::snapshot::Size;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::SEGMENT_BYTES_MIN;
use crate::storage::Storage;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// Kept free for snapshots, and for the marks, however little lives.
const SNAPSHOTS_BYTES_MIN: u64 = 64 << 10;

/// An entry of a snapshot takes as much as those of the newest one do, but for a first guess; and no less than that.
const ENTRY_BYTES_GUESS: u64 = 100;
const ENTRY_BYTES_MIN: u64 = 64;

/// What a record takes that settles, but for the texts of a failure.
const SETTLE_BYTES: u64 = 100;

/// What may live more before it is asked again: as many as one part in so many of what lives, and as one for so many bytes of
/// a segment.
const GROWTH_SHARE: u64 = 8;
const GROWTH_BYTES: u64 = 1 << 10;

/// What an append is for, where there may be no room for another segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It adds to what is kept: refused, so that there is room for what frees.
    Grow,
    /// It settles what is there: goes on in the room that is left.
    Settle,
}

/// What the directory may take.
#[derive(Debug)]
pub(crate) struct Allowance {
    storage: Arc<dyn Storage>,
    bytes_max: Option<u64>,
    /// What the newest snapshot takes.
    newest: Mutex<Size>,
    /// Held by who has asked until the file has grown.
    turn: Mutex<()>,
}

/// A segment that is asked for, or room to grow in one that is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) need: Need,
    /// Its bytes; none where it is there already.
    pub(crate) bytes: u64,
    /// Bytes of an ordinary one.
    pub(crate) ordinary: u64,
    /// What lives, and would be in a snapshot of now.
    pub(crate) live: u64,
}

impl Allowance {
    pub(crate) fn new(storage: Arc<dyn Storage>, bytes_max: Option<u64>, newest: Size) -> Self {
        Self { storage, bytes_max, newest: Mutex::new(newest), turn: Mutex::new(()) }
    }

    /// Has a segment made, if it leaves room for what has to come.
    ///
    /// # Errors
    /// `STORAGE_FULL`; what `make` answers.
    pub(crate) fn segment<T>(&self, wanted: Wanted, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let _turn = self.turn();
        let Wanted { need, bytes, ordinary, live } = wanted;
        let kept = match need {
            Need::Settle => ordinary + self.snapshot_of(live).max(SNAPSHOTS_BYTES_MIN),
            Need::Grow => {
                let most = live + growth(live, ordinary);
                let missing = (2 * self.snapshot_of(most)).saturating_sub(lock(&self.newest).bytes);
                ordinary + settles(most).min(ordinary) + missing.max(SNAPSHOTS_BYTES_MIN)
            }
        };
        self.check(bytes, kept)?;
        make()
    }

    /// Has so many bytes more of a snapshot of so many entries written, of which so many bytes are there.
    ///
    /// # Errors
    /// `STORAGE_FULL`; what `write` answers.
    pub(crate) fn snapshot(
        &self,
        written: Size,
        bytes: u64,
        write: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _turn = self.turn();
        // What was kept for it is its own, also in a directory that is beyond a limit it was given later.
        if written.bytes + bytes > self.snapshot_of(written.entries).max(SNAPSHOTS_BYTES_MIN) {
            self.check(bytes, 0)?;
        }
        write()
    }

    /// Only where the directory is measured: a disk has others on it, too, and nobody waits for what they write.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.bytes_max.map(|_| lock(&self.turn))
    }

    /// There is a newer snapshot.
    pub(crate) fn snapshot_was_taken(&self, size: Size) {
        *lock(&self.newest) = size;
    }

    /// Bytes of a snapshot of so many entries.
    fn snapshot_of(&self, entries: u64) -> u64 {
        let newest = *lock(&self.newest);
        let mean = newest.bytes.checked_div(newest.entries).unwrap_or(ENTRY_BYTES_GUESS);
        entries * mean.max(ENTRY_BYTES_MIN)
    }

    /// Whether so many bytes more leave so many.
    fn check(&self, bytes: u64, kept: u64) -> Result<()> {
        let needed = bytes.saturating_add(kept);
        let path = self.storage.path();
        let refuse = |what: String| {
            let text = format!(
                "{what}, {kept} are kept for settling, for snapshots and for the next open, and {bytes} more are asked for"
            );
            Err(Error::new(ErrorKind::StorageFull, text).at(path))
        };
        if let Some(bytes_max) = self.bytes_max {
            let taken = self.storage.bytes();
            let taken = taken.map_err(|cause| Error::io("measure", path, &cause))?;
            if taken.saturating_add(needed) > bytes_max {
                return refuse(format!(
                    "max_bytes is {bytes_max}: {} takes {taken} bytes",
                    path.display()
                ));
            }
        }
        match self.storage.free_bytes() {
            Some(free) if free < needed => {
                refuse(format!("the disk of {} has {free} bytes left", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes of a segment that has room for so many settles.
pub(crate) fn settles(live: u64) -> u64 {
    (live * SETTLE_BYTES).next_multiple_of(SEGMENT_BYTES_MIN)
}

/// How many entries more a snapshot may get that has so many, before room for them has to be asked for again.
pub(crate) fn growth(live: u64, segment_bytes: u64) -> u64 {
    live / GROWTH_SHARE + segment_bytes / GROWTH_BYTES
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    const KIB: u64 = 1 << 10;

    /// Of a directory that takes 100 KiB.
    fn allowance(kib_max: u64, newest: Size) -> Allowance {
        let storage = MemoryStorage::new();
        storage.create("00000001.segment", 100 * KIB).unwrap();
        Allowance::new(Arc::new(storage), Some(kib_max * KIB), newest)
    }

    #[test]
    fn a_segment_leaves_room_for_settles_snapshots_and_the_next_one() {
        let ask = |kib_max: u64, need: Need, newest: Size, live: u64| {
            let wanted = Wanted { need, bytes: 64 * KIB, ordinary: 64 * KIB, live };
            allowance(kib_max, newest).segment(wanted, || Ok(()))
        };
        let least = |need: Need, newest: Size, live: u64| {
            (100..).find(|kib| ask(*kib, need, newest, live).is_ok()).unwrap()
        };
        let refused = ask(291, Need::Settle, Size::default(), 0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        assert_eq!(least(Need::Settle, Size::default(), 0), 100 + 64 + 64 + 64);
        // Of the guessed size.
        assert_eq!(least(Need::Settle, Size::default(), 1024), 100 + 64 + 64 + 100);
        // Of the size that those have which are there.
        let newest = Size { bytes: 200 * KIB, entries: 1024 };
        assert_eq!(least(Need::Settle, newest, 512), 100 + 64 + 64 + 100);
        // Twice those that live and those that may come, one of which is there for the most part.
        let snapshots = 2 * (1024 + 128 + 64) * 200 - 200 * KIB;
        let expected = 100 + 64 + 2 * 64 + snapshots.div_ceil(KIB);
        assert_eq!(least(Need::Grow, newest, 1024), expected);
        // The settles of few are less than a segment.
        let wanted = Wanted { need: Need::Grow, bytes: 0, ordinary: 1024 * KIB, live: 0 };
        let ask = |kib_max| allowance(kib_max, Size::default()).segment(wanted, || Ok(()));
        let snapshots = (2 * 1024 * ENTRY_BYTES_GUESS).div_ceil(KIB);
        let expected = 100 + 1024 + settles(1024) / KIB + snapshots;
        assert!(settles(1024) < 1024 * KIB && ask(expected).is_ok() && ask(expected - 1).is_err());
    }

    #[test]
    fn a_snapshot_may_take_what_was_kept_for_it_and_what_is_free() {
        let ask = |kib_max: u64, written_kib: u64, kib: u64| {
            let written = Size { bytes: written_kib * KIB, entries: 10 };
            allowance(kib_max, Size::default()).snapshot(written, kib * KIB, || Ok(()))
        };
        assert!(ask(200, 64, 100).is_ok());
        assert_eq!(ask(200, 64, 101).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(ask(50, 0, 64).is_ok());
        assert!(ask(50, 1, 64).is_err());
    }
}
