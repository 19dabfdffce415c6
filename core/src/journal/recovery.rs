//! Recovery: what a directory holds, read without changing a byte.
//!
//! Recovery loads the newest snapshot, sees that all files are of one log, and [walks](super::walk) that log from the
//! snapshot's *begin*. What is behind the log's end, and what no opening needs any more, it names for removal.

use std::collections::BTreeMap;

use super::files::Files;
use super::segment::{BrokerId, Segment, SegmentHeader};
use super::snapshot::{self, Size, Snapshot, SnapshotHeader};
use super::walk::{Replay, Walk};
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::sync::Arc;

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The segments that hold the log, in order.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Files that hold nothing of it any more.
    pub(crate) leftovers: Vec<String>,
    /// Where the log ends, and the segment that is in.
    pub(crate) end: Option<(Arc<Segment>, u64)>,
    pub(crate) snapshot: Option<SnapshotHeader>,
    pub(crate) snapshot_size: Size,
    /// Records that were replayed.
    pub(crate) records: u64,
    /// Bytes of them in the log.
    pub(crate) replayed_bytes: u64,
    /// Bytes behind the end of the log that were never promised to anybody.
    pub(crate) dropped_bytes: u64,
    /// Where the record begins that closes the log, if one does.
    pub(crate) closed: Option<u64>,
    /// The header of the segment to go on in, but for its capacity; the opening it names is the last one.
    pub(crate) next: SegmentHeader,
}

impl Recovered {
    /// The segment that holds a position.
    pub(crate) fn segment_of(&self, position: u64) -> Option<&Arc<Segment>> {
        let after = self.segments.partition_point(|segment| segment.header.start <= position);
        let segment = after.checked_sub(1).and_then(|index| self.segments.get(index));
        segment.filter(|segment| position < segment.end())
    }
}

/// Reads a directory. Where it is `served` from, what is found of the log is durable first.
///
/// # Errors
/// `INVALID` for a directory of somebody else, `CORRUPT` for damage, `UNSUPPORTED` for another version, `IO`.
pub(crate) fn recover(
    storage: &dyn Storage,
    served: bool,
    replay: &mut dyn Replay,
) -> Result<Recovered> {
    let settle = |segment: &Segment| if served { settle(storage, segment) } else { Ok(()) };
    read(storage, replay, &mut Err, &settle)
}

/// Reads a directory, and hands every problem to `problem`, which answers whether to go on with what is sound. Behind a
/// damaged header, and behind the place where the log breaks off, there is nothing that could be told.
///
/// # Errors
/// As [`recover`], of problems those that `problem` answers.
pub(crate) fn recover_what_is_sound(
    storage: &dyn Storage,
    replay: &mut dyn Replay,
    problem: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<Recovered> {
    read(storage, replay, problem, &|_| Ok(()))
}

/// What is at least so large is read from the disk itself.
const DIRECT_BYTES_MIN: u64 = 8 << 20;

/// Has a segment read as the disk holds it: what a killed owner has written becomes durable, and what an owner could not
/// write, whose sync has failed, is not taken for the log although the kernel may have it in memory and call it clean.
fn settle(storage: &dyn Storage, segment: &Segment) -> Result<()> {
    let path = || storage.path().join(segment.name());
    let file = &segment.file;
    file.sync().map_err(|cause| Error::io("sync", path(), &cause))?;
    let is_large = file.hole_from(0).is_ok_and(|hole| hole >= DIRECT_BYTES_MIN);
    if !(is_large && file.set_direct(true)) {
        file.drop_cached();
    }
    Ok(())
}

/// As [`recover_what_is_sound`]. Every segment is given to `settle` that may hold what no snapshot knows to be durable.
fn read(
    storage: &dyn Storage,
    replay: &mut dyn Replay,
    problem: &mut dyn FnMut(Error) -> Result<()>,
    settle: &dyn Fn(&Segment) -> Result<()>,
) -> Result<Recovered> {
    let names = storage.list().map_err(|cause| Error::io("list", storage.path(), &cause))?;
    let files = Files::sort(storage, names)?;
    let mut is_sound = true;
    let mut unsound = |error| {
        is_sound = false;
        problem(error)
    };
    let mut segments = BTreeMap::new();
    for name in &files.segments {
        match Segment::open(storage, name) {
            Ok(segment) => drop(segments.insert(segment.header.number, segment)),
            Err(error) => unsound(error)?,
        }
    }
    let mut snapshot = None;
    if let Some(name) = files.snapshots.last() {
        match snapshot::read(storage, name, |entry| replay.entry(entry)) {
            Ok(read) => snapshot = Some(read),
            Err(error) => unsound(error)?,
        }
        // Said last: who reads no further is told first that all is of another version.
        if files.segments.is_empty() {
            unsound(Error::corrupt(storage.path(), 0, "there is a snapshot, but no segment"))?;
        }
    }
    let broker = one_log(storage, &segments, snapshot.as_ref(), &mut unsound)?;
    in_order(storage, &segments, &mut unsound)?;
    let (snapshot, snapshot_size) = match snapshot {
        Some(read) => (Some(read.header), read.size),
        None => (None, Size::default()),
    };
    let durable = snapshot.map_or(0, |snapshot| snapshot.end);
    segments.values().filter(|segment| segment.end() > durable).try_for_each(|s| settle(s))?;
    let mut walk = Walk::new(storage, &segments, replay);
    let mut end = None;
    if is_sound {
        match walk.run(snapshot.as_ref()) {
            Ok(found) => end = found,
            Err(error) => {
                problem(error)?;
            }
        }
    }
    let Walk { records, replayed_bytes, dropped_bytes, closed, .. } = walk;
    // For the walk they may have been read directly, or just what it asks for.
    for segment in segments.values() {
        segment.file.set_direct(false);
        segment.file.read_ahead(true);
    }

    let last = segments.last_key_value().map(|(_, segment)| segment.header);
    let opening = segments.values().map(|segment| segment.header.opening).max();
    let next = SegmentHeader {
        salt: crate::random::u32(),
        broker: broker.unwrap_or_else(new_broker_id),
        number: last.map_or(1, |last| last.number + 1),
        start: last.map_or(0, |last| last.start + last.capacity),
        capacity: 0,
        opening: opening.unwrap_or(0),
        previous: end.as_ref().map_or(0, |(segment, _)| segment.header.number),
        previous_end: end.as_ref().map(|(_, position)| *position),
        previous_salt: end.as_ref().map_or(0, |(segment, _)| segment.header.salt),
    };
    if !next.leaves_numbers() {
        let what = "a segment has numbers beyond which there are none for the next";
        problem(Error::corrupt(storage.path(), 0, what))?;
    }
    let mut leftovers = files.leftovers;
    leftovers.extend(files.snapshots.iter().rev().skip(1).cloned());
    let mut kept = Vec::new();
    for segment in segments.values() {
        match &end {
            Some((last, _)) if segment.header.number > last.header.number => {
                leftovers.push(segment.name())
            }
            _ => kept.push(Arc::clone(segment)),
        }
    }
    Ok(Recovered {
        segments: kept,
        leftovers,
        end,
        snapshot,
        snapshot_size,
        records,
        replayed_bytes,
        dropped_bytes,
        closed,
        next,
    })
}

fn new_broker_id() -> BrokerId {
    let mut id = BrokerId::default();
    for half in id.chunks_exact_mut(size_of::<u64>()) {
        half.copy_from_slice(&crate::random::u64().to_le_bytes());
    }
    id
}

/// Sees that all files are of one log: of one broker, and each the one that those beside it name. Of a directory that was
/// copied, both may go on, and give other segments the same numbers. Answers whose log it is.
fn one_log(
    storage: &dyn Storage,
    segments: &BTreeMap<u64, Arc<Segment>>,
    snapshot: Option<&Snapshot>,
    unsound: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<Option<BrokerId>> {
    let mut broker = snapshot.map(|snapshot| snapshot.header.broker);
    for segment in segments.values() {
        if *broker.get_or_insert(segment.header.broker) != segment.header.broker {
            let path = storage.path().join(segment.name());
            unsound(Error::corrupt(path, 16, "it belongs to another broker"))?;
        }
    }
    let by_segments = segments.values().map(|segment| segment.header);
    let by_segments = by_segments.map(|header| (header.previous, header.previous_salt));
    let by_snapshot = snapshot.into_iter().flat_map(|snapshot| snapshot.segments.iter().copied());
    for (number, salt) in by_segments.chain(by_snapshot) {
        if let Some(segment) = segments.get(&number).filter(|found| found.header.salt != salt) {
            let path = storage.path().join(segment.name());
            let what = "it is not the one that was there: another copy of the directory made it";
            unsound(Error::corrupt(path, 12, what))?;
        }
    }
    Ok(broker)
}

/// Refuses segments of which a later one begins before an earlier one ends: an opening begins beyond all that there are.
fn in_order(
    storage: &dyn Storage,
    segments: &BTreeMap<u64, Arc<Segment>>,
    unsound: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<()> {
    for (earlier, later) in segments.values().zip(segments.values().skip(1)) {
        if later.header.start < earlier.end() {
            let what = format!("it begins before segment {} ends", earlier.header.number);
            unsound(Error::corrupt(storage.path().join(later.name()), 40, what))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::error::ErrorKind;
    use crate::journal::allowance::{Allowance, Live};
    use crate::journal::by_hand::{Pen, first_header, following, reopened};
    use crate::journal::record::{KIND_ROLL, KIND_USER_MIN};
    use crate::journal::segment;
    use crate::journal::snapshot::SnapshotWriter;
    use crate::storage::{MemoryStorage, StorageFile};

    const CAPACITY: u64 = 64 << 10;

    /// Counts records and entries.
    #[derive(Debug, Default)]
    struct Counts {
        entries: u32,
        records: u32,
    }

    impl Replay for Counts {
        fn entry(&mut self, _: &[u8]) -> Option<()> {
            self.entries += 1;
            Some(())
        }

        fn record(&mut self, _: u64, _: u8, _: &[u8]) -> Option<()> {
            self.records += 1;
            Some(())
        }
    }

    fn directory() -> Arc<dyn Storage> {
        Arc::new(MemoryStorage::new())
    }

    /// Makes a segment with this many records and, if it `rolls`, one that says so; answers where they end.
    fn write(storage: &dyn Storage, header: SegmentHeader, records: u32, rolls: bool) -> u64 {
        let mut pen = Pen::new(&Segment::create(storage, header).unwrap());
        (0..records).for_each(|_| pen.record(KIND_USER_MIN, b"body"));
        if rolls {
            pen.record(KIND_ROLL, b"");
        }
        pen.at
    }

    /// Writes a snapshot of two entries, which knows of these segments.
    fn snapshot(storage: &Arc<dyn Storage>, header: SnapshotHeader, segments: &[SegmentHeader]) {
        let allowance = Allowance::without_limit(storage);
        let mut writer = SnapshotWriter::create(storage, &allowance, Live::default()).unwrap();
        segments.iter().for_each(|segment| writer.segment(segment).unwrap());
        for _ in 0..2 {
            writer.entry(|out| out.extend_from_slice(b"entry")).unwrap();
        }
        writer.finish(header).unwrap();
    }

    fn numbers(segments: &[Arc<Segment>]) -> Vec<u64> {
        segments.iter().map(|segment| segment.header.number).collect()
    }

    /// What is wrong with a directory, and whether anything was replayed of its log all the same.
    fn problems(storage: &dyn Storage) -> (Vec<String>, u32) {
        let (mut problems, mut counts) = (Vec::new(), Counts::default());
        let note = &mut |error: Error| {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            problems.push(error.to_string());
            Ok(())
        };
        recover_what_is_sound(storage, &mut counts, note).unwrap();
        (problems, counts.records)
    }

    #[test]
    fn every_broker_has_an_id_of_its_own() {
        let (one, other) = (new_broker_id(), new_broker_id());
        for half in [0..8, 8..16] {
            assert_ne!(one[half.clone()], other[half.clone()]);
            assert_ne!(one[half], [0; 8]);
        }
    }

    #[test]
    fn an_empty_directory_begins_with_the_first_segment() {
        let recovered = recover(&*directory(), true, &mut Counts::default()).unwrap();
        let next = recovered.next;
        assert_eq!((next.number, next.start, next.opening, next.previous), (1, 0, 0, 0));
        assert_eq!((next.previous_end, next.previous_salt), (None, 0));
        assert!(recovered.segments.is_empty() && recovered.end.is_none());
    }

    #[test]
    fn what_is_found_says_where_all_is_and_where_to_go_on() {
        let storage = directory();
        let first = first_header(CAPACITY);
        write(&*storage, first, 3, true);
        let second = following(&first);
        let end = write(&*storage, second, 2, false);
        // Made ahead, by an opening whose number says so.
        let ahead = SegmentHeader { opening: 9, ..following(&second) };
        write(&*storage, ahead, 0, false);
        let old = SnapshotHeader { broker: first.broker, begin: 0, end: CAPACITY - 4096 };
        let new = SnapshotHeader { end: second.start + 4096, ..old };
        snapshot(&storage, old, &[first]);
        snapshot(&storage, new, &[first, second]);
        let mut counts = Counts::default();
        let recovered = recover(&*storage, true, &mut counts).unwrap();
        assert_eq!((counts.entries, counts.records, recovered.records), (2, 5, 5));
        assert_eq!(numbers(&recovered.segments), [1, 2]);
        assert_eq!(recovered.snapshot.unwrap().end, new.end);
        assert_eq!(recovered.end.as_ref().unwrap().1, end);
        let mut leftovers = recovered.leftovers.clone();
        leftovers.sort();
        assert_eq!(leftovers, [snapshot::file_name(old.end), segment::file_name(ahead.number)]);
        let next = recovered.next;
        assert_eq!((next.number, next.start, next.opening), (4, ahead.start + CAPACITY, 9));
        assert_eq!((next.previous, next.previous_end), (2, Some(end)));
        assert_eq!((next.previous_salt, next.broker), (second.salt, first.broker));
        for (position, number) in [
            (0, Some(1)),
            (CAPACITY - 1, Some(1)),
            (CAPACITY, Some(2)),
            (2 * CAPACITY - 1, Some(2)),
            (2 * CAPACITY, None),
        ] {
            let segment = recovered.segment_of(position);
            assert_eq!(segment.map(|segment| segment.header.number), number, "{position}");
        }
    }

    #[test]
    fn what_no_snapshot_knows_to_be_durable_is_settled_before_it_is_read() {
        let storage = directory();
        let first = first_header(CAPACITY);
        write(&*storage, first, 1, true);
        let second = following(&first);
        write(&*storage, second, 1, true);
        let third = following(&second);
        write(&*storage, third, 1, false);
        let settled = RefCell::new(Vec::new());
        let settle = |segment: &Segment| {
            settled.borrow_mut().push(segment.header.number);
            Ok(())
        };
        for (durable, expected) in [
            (0, &[1, 2, 3][..]),
            (CAPACITY, &[2, 3]),
            (2 * CAPACITY - 8, &[2, 3]),
            (2 * CAPACITY, &[3]),
        ] {
            if durable > 0 {
                let header = SnapshotHeader { broker: first.broker, begin: 0, end: durable };
                snapshot(&storage, header, &[first]);
            }
            read(&*storage, &mut Counts::default(), &mut Err, &settle).unwrap();
            assert_eq!(settled.take(), expected, "{durable}");
        }
    }

    /// A file that counts what settles it.
    #[derive(Debug, Default)]
    struct Settling {
        syncs: AtomicU32,
        drops: AtomicU32,
        /// Bytes that were written.
        written: u64,
        /// It can be read directly.
        can: bool,
        direct: AtomicBool,
    }

    impl StorageFile for Settling {
        fn len(&self) -> io::Result<u64> {
            Ok(CAPACITY)
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            assert_eq!(self.drops.load(Ordering::Relaxed), 0, "what is not written yet is dropped");
            self.syncs.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn drop_cached(&self) {
            self.drops.fetch_add(1, Ordering::Relaxed);
        }

        fn hole_from(&self, _: u64) -> io::Result<u64> {
            Ok(self.written)
        }

        fn set_direct(&self, direct: bool) -> bool {
            self.direct.store(direct && self.can, Ordering::Relaxed);
            self.can
        }
    }

    #[test]
    fn to_settle_is_to_sync_and_then_to_have_the_disk_asked() {
        for (written, can) in [
            (0, true),
            (DIRECT_BYTES_MIN - 1, true),
            (DIRECT_BYTES_MIN, false),
            (DIRECT_BYTES_MIN, true),
        ] {
            let file = Arc::new(Settling { written, can, ..Settling::default() });
            let segment = Segment::new(first_header(CAPACITY), Arc::clone(&file) as _);
            settle(&*directory(), &segment).unwrap();
            let direct = can && written == DIRECT_BYTES_MIN;
            assert_eq!(file.syncs.load(Ordering::Relaxed), 1);
            // What is read directly is what the disk has.
            assert_eq!(file.direct.load(Ordering::Relaxed), direct);
            assert_eq!(file.drops.load(Ordering::Relaxed), u32::from(!direct));
        }
    }

    #[test]
    fn files_that_are_not_of_one_log_are_told_apart() {
        let first = first_header(CAPACITY);
        let second = following(&first);
        let third = following(&second);
        for (wrong, text) in [
            (SegmentHeader { broker: [2; 16], ..second }, "it belongs to another broker"),
            (SegmentHeader { salt: 99, ..second }, "another copy of the directory made it"),
            (
                SegmentHeader { previous_salt: 99, ..second },
                "another copy of the directory made it",
            ),
            (
                SegmentHeader { start: second.start - 4096, ..second },
                "begins before segment 1 ends",
            ),
            (SegmentHeader { capacity: CAPACITY + 4096, ..second }, "begins before segment 2 ends"),
        ] {
            let storage = directory();
            write(&*storage, first, 1, true);
            write(&*storage, wrong, 1, true);
            write(&*storage, third, 1, false);
            let (problems, records) = problems(&*storage);
            assert_eq!((problems.len(), records), (1, 0), "{problems:?}");
            assert!(problems[0].contains(text), "{problems:?}");
            assert!(recover(&*storage, true, &mut Counts::default()).is_err());
        }
    }

    #[test]
    fn a_snapshot_knows_the_segments_that_there_were() {
        let first = first_header(CAPACITY);
        for (known, broker, text) in [
            (SegmentHeader { salt: 99, ..first }, first.broker, "another copy of the directory"),
            (first, [2; 16], "it belongs to another broker"),
        ] {
            let storage = directory();
            let end = write(&*storage, first, 1, false);
            snapshot(&storage, SnapshotHeader { broker, begin: 0, end }, &[known]);
            let (problems, records) = problems(&*storage);
            assert_eq!((problems.len(), records), (1, 0), "{problems:?}");
            assert!(problems[0].contains(text), "{problems:?}");
        }
    }

    #[test]
    fn each_file_that_cannot_be_read_is_a_problem() {
        let storage = directory();
        let first = first_header(CAPACITY);
        let end = write(&*storage, first, 1, false);
        snapshot(&storage, SnapshotHeader { broker: first.broker, begin: 0, end }, &[first]);
        for name in storage.list().unwrap() {
            storage.open(&name).unwrap().write_at(&[0xff; 4], 0).unwrap();
        }
        let (found, records) = problems(&*storage);
        assert_eq!((found.len(), records), (2, 0), "{found:?}");
        let storage = directory();
        snapshot(&storage, SnapshotHeader { broker: first.broker, begin: 0, end }, &[first]);
        let (found, _) = problems(&*storage);
        assert!(found[0].contains("there is a snapshot, but no segment"), "{found:?}");
    }

    #[test]
    fn a_log_behind_which_there_are_no_numbers_is_a_problem() {
        let storage = directory();
        let first = SegmentHeader { opening: 1 << 62, ..first_header(CAPACITY) };
        write(&*storage, first, 1, false);
        let (problems, records) = problems(&*storage);
        assert_eq!(records, 1);
        assert!(problems[0].contains("numbers beyond which there are none"), "{problems:?}");
    }

    #[test]
    fn what_a_later_opening_cut_off_is_not_kept() {
        let storage = directory();
        let first = first_header(CAPACITY);
        let cut = write(&*storage, first, 1, false);
        write(&*storage, reopened(&first, cut), 1, false);
        let recovered = recover(&*storage, true, &mut Counts::default()).unwrap();
        assert_eq!(numbers(&recovered.segments), [1, 2]);
        assert!(recovered.leftovers.is_empty());
    }
}
