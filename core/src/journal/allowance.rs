//! The allowance: how many bytes the directory may take, by `max_bytes` and by what its disk has left.
//!
//! What grows asks first, and leaves room for what comes out of a full directory again: four small segments, each for the
//! settles of all that may live then, and two snapshots, one of which is being written while the other is there. When more
//! lives, it asks again.
//!
//! Two of the small segments are for settles. They go on in one after the other: while the log is in the second, a snapshot
//! makes the first one needless, whatever was settled how, so there is room for a third. That is so only as long as the
//! snapshots do not grow: so what says much of a failure, which stays, asks as well, and leaves three. It gets further than
//! what grows, and takes nothing from those who only settle. Contents that come to live in those segments, children and what
//! is written again, are let in without: each comes in the place of another, whose segment empties for it sooner or later.
//!
//! The last small segment is for the next opening. An opening that finds less than what is kept writes a snapshot of what it
//! has read, which leaves nothing but the segments in which something lives and the one that the log ends in, and makes its
//! own segment small. So however many owners die, and wherever, a directory that has come to its limit can be opened, drained
//! and cleaned. The opening's segment itself does not ask: else nobody could drain a directory that is beyond a limit it was
//! given later.
//!
//! The directory and the disk are measured whenever somebody asks, once a segment and once a block of a snapshot, so there
//! is no account that could be wrong. What others write to the disk meanwhile is theirs to see to.

use super::segment::least_capacity;
use super::snapshot::Size;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// Kept free for a snapshot, however little lives.
const SNAPSHOT_BYTES_MIN: u64 = 32 << 10;

/// An entry of a snapshot takes as much as those of the newest one do, but for a first guess; and no less than that. Long texts
/// of failures come on top.
const ENTRY_BYTES_GUESS: u64 = 100;
const ENTRY_BYTES_MIN: u64 = 64;

/// What a record takes that settles, but for the texts of a failure; and bytes of a segment for them, however little lives.
const SETTLE_BYTES: u64 = 100;
const SMALL_BYTES_MIN: u64 = 32 << 10;

/// Who says no more than that of a failure need not ask: it is counted with the message.
pub(crate) const SHORT_TEXT_BYTES_MAX: usize = 64;

/// What may live more before it is asked again: as many as one part in so many of what lives, and as one for so many bytes of
/// a segment.
const GROWTH_SHARE: u64 = 8;
const GROWTH_BYTES: u64 = 1 << 10;

/// What an append is for, where there may be no room for another segment. Who needs more is refused first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// It settles what is there: goes on in the room that is left.
    Settle,
    /// It settles what is there, and says much of it that stays.
    Tell,
    /// It adds to what is kept: refused, so that there is room for what frees.
    Grow,
}

/// What lives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Live {
    /// Messages and dead letters: what a settle may end.
    pub(crate) messages: u64,
    /// Keys that are guarded by messages which are done. A snapshot has them, too.
    pub(crate) guards: u64,
    /// Bytes of what is said of failures.
    pub(crate) text_bytes: u64,
}

impl Live {
    fn entries(self) -> u64 {
        self.messages + self.guards
    }

    /// With all that may be added before room has to be asked for again.
    fn grown(self, ordinary: u64) -> Self {
        Self { messages: self.messages + growth(self.messages, ordinary), ..self }
    }
}

/// What the directory may take.
#[derive(Debug)]
pub(crate) struct Allowance {
    storage: Arc<dyn Storage>,
    bytes_max: Option<u64>,
    newest: Mutex<Newest>,
    /// Held by who has asked until the file has grown.
    turn: Mutex<()>,
}

/// What the newest snapshot takes, and how much of that are texts.
#[derive(Clone, Copy, Debug)]
struct Newest {
    size: Size,
    text_bytes: u64,
}

/// A segment that is asked for, or room to grow in one that is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) need: Need,
    /// It is there already.
    pub(crate) is_there: bool,
    /// Bytes that it has to have at least.
    pub(crate) least: u64,
    /// Bytes of an ordinary one.
    pub(crate) ordinary: u64,
    pub(crate) live: Live,
}

impl Allowance {
    /// Of a directory whose newest snapshot is so large, and in which that lives.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        bytes_max: Option<u64>,
        size: Size,
        live: Live,
    ) -> Self {
        let newest = Mutex::new(Newest { size, text_bytes: live.text_bytes });
        Self { storage, bytes_max, newest, turn: Mutex::new(()) }
    }

    /// Of a directory that may take what the disk has, and has no snapshot.
    #[cfg(test)]
    pub(crate) fn without_limit(storage: &Arc<dyn Storage>) -> Self {
        Self::new(Arc::clone(storage), None, Size::default(), Live::default())
    }

    /// Has a segment of so many bytes made, if it leaves room for what has to come.
    ///
    /// # Errors
    /// `STORAGE_FULL`; what `make` answers.
    pub(crate) fn segment<T>(&self, wanted: Wanted, make: impl Fn(u64) -> Result<T>) -> Result<T> {
        let _turn = self.turn();
        let Wanted { need, is_there, least, ordinary, live } = wanted;
        let ask = |bytes: u64, kept: u64| {
            self.check(if is_there { 0 } else { bytes }, kept)?;
            make(bytes)
        };
        if need > Need::Settle {
            let most = live.grown(ordinary);
            let count = if need == Need::Grow { 4 } else { 3 };
            let kept = count * small(most, ordinary) + self.snapshots_of(most);
            return ask(ordinary.max(least), kept);
        }
        let (small, snapshots) = (small(live, ordinary), self.snapshots_of(live));
        match ask(ordinary.max(least), 2 * small + snapshots) {
            Err(full) if full.kind() == ErrorKind::StorageFull => {
                ask(small.max(least), small + snapshots)
            }
            made => made,
        }
    }

    /// Whether an opening's own segment may be an ordinary one, and leaves enough for what has to come.
    pub(crate) fn has_room_to_open(&self, ordinary: u64, live: Live) -> bool {
        self.check(ordinary, 2 * small(live, ordinary) + self.snapshots_of(live)).is_ok()
    }

    /// Has so many bytes more of a snapshot written, of which so many are there.
    ///
    /// # Errors
    /// `STORAGE_FULL`; what `write` answers.
    pub(crate) fn snapshot(
        &self,
        live: Live,
        written: u64,
        bytes: u64,
        write: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _turn = self.turn();
        // What was kept for it is its own, also in a directory that is beyond a limit it was given later.
        if written + bytes > self.snapshot_of(live) {
            self.check(bytes, 0)?;
        }
        write()
    }

    /// Only where the directory is measured: a disk has others on it, too, and nobody waits for what they write.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.bytes_max.map(|_| lock(&self.turn))
    }

    /// There is a newer snapshot.
    pub(crate) fn snapshot_was_taken(&self, size: Size, live: Live) {
        *lock(&self.newest) = Newest { size, text_bytes: live.text_bytes };
    }

    /// Bytes of a snapshot of what lives.
    fn snapshot_of(&self, live: Live) -> u64 {
        let Newest { size, text_bytes } = *lock(&self.newest);
        let without_texts = size.bytes.saturating_sub(text_bytes);
        let mean = match size.entries {
            0 => ENTRY_BYTES_GUESS,
            entries => without_texts.div_ceil(entries).max(ENTRY_BYTES_MIN),
        };
        // A short text comes with a settle that asks nobody.
        let short = live.messages * SHORT_TEXT_BYTES_MAX as u64;
        (live.entries() * mean + short + live.text_bytes).max(SNAPSHOT_BYTES_MIN)
    }

    /// Bytes that two snapshots take more than the one that is there; enough for another one at any rate.
    fn snapshots_of(&self, live: Live) -> u64 {
        let (one, newest) = (self.snapshot_of(live), lock(&self.newest).size.bytes);
        (2 * one).saturating_sub(newest).max(one)
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

/// Bytes of a segment that has room for the settles of so many, and is no larger than an ordinary one.
pub(crate) fn small(live: Live, ordinary: u64) -> u64 {
    let bytes = least_capacity(live.messages * SETTLE_BYTES);
    bytes.next_multiple_of(SMALL_BYTES_MIN).min(ordinary)
}

/// How many entries of a snapshot what takes so many bytes counts for.
pub(crate) fn entries_of(bytes: u64) -> u64 {
    bytes.div_ceil(ENTRY_BYTES_MIN)
}

/// How many messages may be added to so many before room for them has to be asked for again.
pub(crate) fn growth(messages: u64, segment_bytes: u64) -> u64 {
    messages / GROWTH_SHARE + segment_bytes / GROWTH_BYTES
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
        Allowance::new(Arc::new(storage), Some(kib_max * KIB), newest, Live::default())
    }

    /// So many messages, and nothing else.
    fn live(messages: u64) -> Live {
        Live { messages, ..Live::default() }
    }

    /// Bytes of the segment that there is room for.
    fn ask(kib_max: u64, newest: Size, wanted: Wanted) -> Result<u64> {
        allowance(kib_max, newest).segment(wanted, Ok)
    }

    fn wanted(need: Need, ordinary_kib: u64, live: Live) -> Wanted {
        Wanted { need, is_there: false, least: 0, ordinary: ordinary_kib * KIB, live }
    }

    /// The directory that has room for it, in KiB.
    fn least(newest: Size, wanted: Wanted) -> u64 {
        (100..).find(|kib| ask(*kib, newest, wanted).is_ok()).unwrap()
    }

    #[test]
    fn a_settle_leaves_room_for_the_next_opening_and_two_snapshots() {
        let none = Size::default();
        let refused = ask(100 + 2 * 32 + 2 * 32 - 1, none, wanted(Need::Settle, 64, live(0)));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::StorageFull);
        let least = |newest: Size, live: Live| least(newest, wanted(Need::Settle, 64, live));
        assert_eq!(least(none, live(0)), 100 + 2 * 32 + 2 * 32);
        // Of the guessed size, with short texts.
        assert_eq!(least(none, live(1024)), 100 + 2 * 64 + 2 * 164);
        // Of the size that those have which are there, one of which is there.
        let newest = Size { bytes: 200 * KIB, entries: 1024 };
        assert_eq!(least(newest, live(1024)), 100 + 2 * 64 + 2 * 264 - 200);
        let guarded = Live { guards: 1024, ..live(0) };
        assert_eq!(least(newest, guarded), 100 + 2 * 32 + 200);
        let said = Live { text_bytes: 500 * KIB, ..live(0) };
        assert_eq!(least(newest, said), 100 + 2 * 32 + 2 * 500 - 200);
    }

    #[test]
    fn what_grows_leaves_more_than_what_says_much_and_that_more_than_what_settles() {
        let newest = Size { bytes: 200 * KIB, entries: 1024 };
        // Of those that live and those that may come.
        let snapshots = 2 * (1024 + 128 + 64) * 264 - 200 * KIB;
        let least_of = |need: Need| least(newest, wanted(need, 64, live(1024)));
        assert_eq!(least_of(Need::Grow), 100 + 64 + 4 * 64 + snapshots.div_ceil(KIB));
        assert_eq!(least_of(Need::Tell), 100 + 64 + 3 * 64 + snapshots.div_ceil(KIB));
        // The settles of few are less than a segment.
        let to_grow = Wanted { is_there: true, ..wanted(Need::Grow, 1024, live(0)) };
        assert_eq!(small(live(1024), 1024 * KIB), 128 * KIB);
        assert_eq!(least(Size::default(), to_grow), 100 + 4 * 128 + 2 * 164);
    }

    /// A large segment of settles, and nothing left to go on in when it was full: it was never left, and so never freed.
    #[test]
    fn settles_go_on_in_an_ordinary_segment_where_another_small_one_fits_behind_it() {
        let settle = |kib_max: u64, least: u64| {
            ask(kib_max, Size::default(), Wanted { least, ..wanted(Need::Settle, 1024, live(9)) })
        };
        let whole = 100 + 1024 + 2 * 32 + 2 * 32;
        assert_eq!(settle(whole, 0).unwrap(), 1024 * KIB);
        assert_eq!(settle(whole - 1, 0).unwrap(), 32 * KIB);
        assert_eq!(settle(228, 0).unwrap(), 32 * KIB);
        assert!(settle(227, 0).is_err());
        // A group that is larger.
        assert_eq!(settle(whole - 1, 100 * KIB).unwrap(), 100 * KIB);
        assert!(settle(228, 33 * KIB).is_err());
        let opening = |kib_max: u64| {
            allowance(kib_max, Size::default()).has_room_to_open(1024 * KIB, live(9))
        };
        assert!(opening(whole) && !opening(whole - 1));
    }

    #[test]
    fn a_snapshot_may_take_what_was_kept_for_it_and_what_is_free() {
        let ask = |kib_max: u64, written_kib: u64, kib: u64| {
            let allowance = allowance(kib_max, Size::default());
            allowance.snapshot(live(10), written_kib * KIB, kib * KIB, || Ok(()))
        };
        assert!(ask(200, 64, 100).is_ok());
        assert_eq!(ask(200, 64, 101).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(ask(50, 0, 32).is_ok());
        assert!(ask(50, 1, 32).is_err());
    }
}
