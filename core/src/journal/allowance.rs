//! The allowance: how many bytes the directory may take, by `max_bytes` and by what its disk has left.
//!
//! What grows asks first, and leaves room for what comes out of a full directory again. From the last to the first to be used:
//!
//! - *For the next opening*, one small segment, with room for the settles of all that may live then. An opening that finds
//!   less than is kept writes a snapshot of what it has read, which leaves nothing but the segments in which something lives
//!   and the one that the log ends in, and makes its own segment small. So however many owners die, and wherever, a directory
//!   that has come to its limit can be opened, drained and cleaned. The opening's segment itself does not ask: else nobody
//!   could drain a directory that is beyond a limit it was given later.
//! - *For settles*, two of those. They go on in one after the other: while the log is in the second, a snapshot makes the
//!   first one needless, whatever was settled how, so there is room for a third. That is so as long as the snapshots do not
//!   grow and nothing comes to live in those segments, so both ask.
//! - *For cleaning*, an ordinary segment, and a small one for that which the log is in. Whatever is in a segment that is
//!   written again fits into it, and the room of that one is there again then.
//! - *For what comes in the place of what is done*, children and what is said of failures: as much as one part in so many of
//!   the log, so that in some segment about as much is done when all of it is used up; and a small one, again.
//! - And for two snapshots, one of which is being written while the other is there. When more lives, it asks again.
//!
//! The directory and the disk are measured whenever somebody asks, once a segment and once a block of a snapshot, so there
//! is no account that could be wrong. What others write to the disk meanwhile is theirs to see to.

use super::record::Record;
use super::segment::least_capacity;
use super::snapshot::Size;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// Kept free for a snapshot, however little lives.
const SNAPSHOT_BYTES_MIN: u64 = 8 << 10;

/// An entry of a snapshot takes as much as those of the newest one do, but for a first guess; and no less than that, and what
/// names take that came since. Long texts of failures come on top.
const ENTRY_BYTES_GUESS: u64 = 100;
const ENTRY_BYTES_MIN: u64 = 64;

/// What a record takes that settles, but for the texts of a failure; and bytes of a segment for them, however little lives.
const SETTLE_BYTES: u64 = 100;
const SMALL_BYTES_MIN: u64 = 16 << 10;

/// Who says no more than that of a failure need not ask: it is counted with the message.
pub(crate) const SHORT_TEXT_BYTES_MAX: usize = 64;

/// What is kept for what comes in the place of something: one part in so many of the log, and half a segment at least.
const REPLACE_SHARE: u64 = 12;

/// There is plenty where there is so many times as much as is kept.
const PLENTY: u64 = 2;

/// What may live more before it is asked again: as many as one part in so many of what lives, and as one for so many bytes of
/// a segment.
const GROWTH_SHARE: u64 = 8;
const GROWTH_BYTES: u64 = 4 << 10;

/// What an append is for, where there may be no room for another segment. Who needs more is refused first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// It settles what is there: goes on in the room that is left.
    Settle,
    /// It writes again what is there, so that its old segment can go.
    Clean,
    /// It settles what is there, and puts something in its place.
    Replace,
    /// It adds to what is kept: refused, so that there is room for what frees.
    Grow,
}

impl Need {
    /// What is still granted where this was refused.
    pub(crate) fn less(self) -> Self {
        match self {
            Self::Settle | Self::Clean => Self::Settle,
            Self::Replace => Self::Clean,
            Self::Grow => Self::Replace,
        }
    }
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
    /// The most bytes that a queue's name and a key take together, of what came since the newest snapshot.
    pub(crate) name_bytes_max: u64,
}

impl Live {
    /// Messages, and keys that are guarded.
    pub(crate) fn entries(self) -> u64 {
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

/// What becomes of who asks in a directory that is beyond a limit it was given later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beyond {
    Refused,
    /// It has to free what is there.
    LetIn,
}

/// A segment that is asked for, or room to go on in those that are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) need: Need,
    /// None is to be made.
    pub(crate) is_there: bool,
    /// Bytes that it has to have at least.
    pub(crate) least: u64,
    /// Bytes of an ordinary one.
    pub(crate) ordinary: u64,
    /// Bytes of all that are there.
    pub(crate) log: u64,
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

    /// Has a segment made, if that leaves room for what has to come.
    ///
    /// # Errors
    /// `STORAGE_FULL`; what `make` answers.
    pub(crate) fn segment<T>(&self, wanted: Wanted, make: impl Fn(u64) -> Result<T>) -> Result<T> {
        let _turn = self.turn();
        let Wanted { need, is_there, least, ordinary, log, live } = wanted;
        let ask = |bytes: u64, kept: u64, beyond: Beyond| {
            self.check(if is_there { 0 } else { bytes }, kept, beyond)?;
            make(bytes)
        };
        let kept = self.kept(need, ordinary, log, live);
        let made = ask(ordinary.max(least), kept, Beyond::Refused);
        // Who does not grow takes what there is.
        let small = small(live, ordinary);
        let (kept, beyond) = match need {
            Need::Settle => (small + self.snapshots_of(live), Beyond::LetIn),
            Need::Clean => (kept, Beyond::LetIn),
            Need::Replace => (kept, Beyond::Refused),
            Need::Grow => return made,
        };
        match made {
            Err(full) if full.kind() == ErrorKind::StorageFull => {
                ask(small.max(least), kept, beyond)
            }
            made => made,
        }
    }

    /// Has an ordinary segment made that nobody needs, if that leaves far more room than has to be left. None where `max_bytes` is
    /// set, which leaves nothing for what nobody needs.
    ///
    /// # Errors
    /// `STORAGE_FULL`; what `make` answers.
    pub(crate) fn plenty<T>(
        &self,
        wanted: Wanted,
        make: impl Fn(u64) -> Result<T>,
    ) -> Result<Option<T>> {
        let Wanted { need, ordinary, log, live, .. } = wanted;
        if self.bytes_max.is_some() {
            return Ok(None);
        }
        let kept = self.kept(need, ordinary, log, live).saturating_mul(PLENTY);
        self.check(ordinary, kept, Beyond::Refused)?;
        make(ordinary).map(Some)
    }

    /// Whether an opening's own segment may be an ordinary one, and leaves enough for what has to come.
    pub(crate) fn has_room_to_open(&self, ordinary: u64, live: Live) -> bool {
        self.check(ordinary, self.kept(Need::Settle, ordinary, 0, live), Beyond::Refused).is_ok()
    }

    /// Bytes to be left by who makes an ordinary segment, or goes on in what is there.
    fn kept(&self, need: Need, ordinary: u64, log: u64, live: Live) -> u64 {
        let log = log.min(self.bytes_max.unwrap_or(u64::MAX));
        let replacing = (ordinary / 2).max(log / REPLACE_SHARE);
        let (segments, small_ones, live) = match need {
            Need::Clean => (0, 3, live),
            Need::Settle => (ordinary, 4, live),
            Need::Replace => (ordinary, 4, live.grown(ordinary)),
            // What was granted may have come by the time that something comes in its place.
            Need::Grow => (replacing + ordinary, 5, live.grown(ordinary).grown(ordinary)),
        };
        segments + small_ones * small(live, ordinary) + self.snapshots_of(live)
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
            self.check(bytes, 0, Beyond::Refused)?;
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
        let mean = mean.max(ENTRY_BYTES_MIN + live.name_bytes_max);
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
    fn check(&self, bytes: u64, kept: u64, beyond: Beyond) -> Result<()> {
        let needed = bytes.saturating_add(kept);
        let path = self.storage.path();
        let refuse = |what: String| {
            let mut text = format!(
                "{what}, {kept} are kept for settling, for snapshots and for the next open"
            );
            if bytes > 0 {
                text += &format!(", and {bytes} more are asked for");
            }
            Err(Error::new(ErrorKind::StorageFull, text).at(path))
        };
        if let Some(bytes_max) = self.bytes_max {
            let taken = self.storage.bytes();
            let taken = taken.map_err(|cause| Error::io("measure", path, &cause))?;
            let is_beyond = taken > bytes_max && beyond == Beyond::LetIn;
            if taken.saturating_add(needed) > bytes_max && !is_beyond {
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

/// How many entries of a snapshot these count for, the first of which settles, and may say much: contents are in none.
pub(crate) fn entries_of(records: &[Record<'_>]) -> u64 {
    let settle = records.first().map_or(0, |settle| settle.space() as u64);
    settle.div_ceil(ENTRY_BYTES_MIN) + records.len() as u64
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
        Wanted { need, is_there: false, least: 0, ordinary: ordinary_kib * KIB, log: 0, live }
    }

    /// The directory that has room for it, in KiB.
    fn least(newest: Size, wanted: Wanted) -> u64 {
        (100..).find(|kib| ask(*kib, newest, wanted).is_ok()).unwrap()
    }

    #[test]
    fn a_settle_leaves_room_for_the_next_opening_and_two_snapshots() {
        let none = Size::default();
        let refused = ask(100 + 2 * 16 + 2 * 8 - 1, none, wanted(Need::Settle, 64, live(0)));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::StorageFull);
        let least = |newest: Size, live: Live| least(newest, wanted(Need::Settle, 64, live));
        assert_eq!(least(none, live(0)), 100 + 2 * 16 + 2 * 8);
        // Of the guessed size, with short texts.
        assert_eq!(least(none, live(1024)), 100 + 2 * 64 + 2 * 164);
        // Of the size that those have which are there, one of which is there.
        let newest = Size { bytes: 200 * KIB, entries: 1024 };
        assert_eq!(least(newest, live(1024)), 100 + 2 * 64 + 2 * 264 - 200);
        let guarded = Live { guards: 1024, ..live(0) };
        assert_eq!(least(newest, guarded), 100 + 2 * 16 + 200);
        let said = Live { text_bytes: 500 * KIB, ..live(0) };
        assert_eq!(least(newest, said), 100 + 2 * 16 + 2 * 500 - 200);
    }

    /// What a snapshot takes was guessed by the last one, or without one. With long names its entries are several times as large:
    /// when it was there and showed that, no room was left for settles any more until the directory was opened again.
    #[test]
    fn names_that_came_since_the_last_snapshot_count() {
        let named = Live { name_bytes_max: 360, ..live(1024) };
        let least = |newest: Size| least(newest, wanted(Need::Settle, 64, named));
        let entry = 64 + 360 + 64;
        assert_eq!(least(Size::default()), 100 + 2 * 64 + 2 * entry);
        let newest = Size { bytes: 64 * KIB, entries: 1024 };
        assert_eq!(least(newest), 100 + 2 * 64 + 2 * entry - 64);
    }

    #[test]
    fn who_needs_more_is_refused_first() {
        let newest = Size { bytes: 200 * KIB, entries: 1024 };
        let least_of = |need: Need| least(newest, wanted(need, 128, live(1024)));
        let snapshots = |messages: u64| (2 * messages * 264).div_ceil(KIB) - 200;
        // A small one, and three more.
        assert_eq!(least_of(Need::Clean), 100 + 4 * 112 + snapshots(1024));
        // As much as may come until it asks again.
        let grown = 1024 + 128 + 32;
        assert_eq!(least_of(Need::Replace), 100 + 112 + 5 * 128 + snapshots(grown));
        let grown_twice = grown + grown / 8 + 32;
        assert_eq!(least_of(Need::Grow), 100 + 64 + 7 * 128 + snapshots(grown_twice));
    }

    #[test]
    fn room_in_what_is_there_is_worth_a_segment() {
        let least = |need: Need, is_there: bool| {
            let few = wanted(need, 1024, live(9));
            least(Size::default(), Wanted { is_there, ..few })
        };
        let snapshots = |entries: u64| (2 * entries * 164).div_ceil(KIB);
        let (grown, twice) = (9 + 1 + 256, 9 + 1 + 256 + 33 + 256);
        assert_eq!(least(Need::Clean, true), 100 + 3 * 16 + 2 * 8);
        assert_eq!(least(Need::Clean, false), 100 + 4 * 16 + 2 * 8);
        assert_eq!(least(Need::Replace, true), 100 + 1024 + 4 * 48 + snapshots(grown));
        assert_eq!(least(Need::Replace, false), 100 + 1024 + 16 + 4 * 48 + snapshots(grown));
        assert_eq!(least(Need::Grow, true), 100 + 512 + 1024 + 5 * 64 + snapshots(twice));
        assert_eq!(least(Need::Grow, false), 100 + 512 + 2 * 1024 + 5 * 64 + snapshots(twice));
        // Of a large log, a twelfth of what the directory may take.
        let large = Wanted { log: u64::MAX, ..wanted(Need::Grow, 64, live(1024)) };
        let grown_twice = (1024 + 128 + 16) + (146 + 16);
        let without = 100 + 64 + 64 + 5 * 64 + snapshots(grown_twice);
        assert_eq!(super::tests::least(Size::default(), large), without * 12 / 11);
    }

    /// A large segment of settles, and nothing left to go on in when it was full: it was never left, and so never freed.
    #[test]
    fn what_frees_takes_an_ordinary_segment_where_that_leaves_enough() {
        let made = |need: Need, kib_max: u64, least: u64| {
            ask(kib_max, Size::default(), Wanted { least, ..wanted(need, 1024, live(9)) })
        };
        // What cleaning may need has to be left.
        let whole = 100 + 2 * 1024 + 4 * 16 + 2 * 8;
        assert_eq!(made(Need::Settle, whole, 0).unwrap(), 1024 * KIB);
        assert_eq!(made(Need::Settle, whole - 1, 0).unwrap(), 16 * KIB);
        assert_eq!(made(Need::Settle, 148, 0).unwrap(), 16 * KIB);
        assert!(made(Need::Settle, 147, 0).is_err());
        // A group that is larger.
        assert_eq!(made(Need::Settle, whole - 1, 100 * KIB).unwrap(), 100 * KIB);
        assert!(made(Need::Settle, 148, 17 * KIB).is_err());
        let opening = |kib_max: u64| {
            allowance(kib_max, Size::default()).has_room_to_open(1024 * KIB, live(9))
        };
        assert!(opening(whole) && !opening(whole - 1));

        let whole = 100 + 1024 + 3 * 16 + 2 * 8;
        assert_eq!(made(Need::Clean, whole, 0).unwrap(), 1024 * KIB);
        assert_eq!(made(Need::Clean, whole - 1, 0).unwrap(), 16 * KIB);
        assert_eq!(made(Need::Clean, 180, 0).unwrap(), 16 * KIB);
        assert!(made(Need::Clean, 179, 0).is_err());
    }

    /// A directory was given a smaller limit than what it took: what had been settled when the opening's segment was full was
    /// too little to come below the limit, and nothing more could be.
    #[test]
    fn what_frees_goes_on_beyond_a_limit_that_was_given_later() {
        let made =
            |need: Need, kib_max: u64| ask(kib_max, Size::default(), wanted(need, 64, live(9)));
        for need in [Need::Settle, Need::Clean] {
            assert_eq!(made(need, 99).unwrap(), 16 * KIB);
            assert!(made(need, 100).is_err());
        }
        for need in [Need::Replace, Need::Grow] {
            assert!(made(need, 99).is_err());
        }
    }

    #[test]
    fn a_snapshot_may_take_what_was_kept_for_it_and_what_is_free() {
        let ask = |kib_max: u64, written_kib: u64, kib: u64| {
            let allowance = allowance(kib_max, Size::default());
            allowance.snapshot(live(10), written_kib * KIB, kib * KIB, || Ok(()))
        };
        assert!(ask(200, 64, 100).is_ok());
        assert_eq!(ask(200, 64, 101).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(ask(50, 0, 8).is_ok());
        assert!(ask(50, 1, 8).is_err());
    }
}
