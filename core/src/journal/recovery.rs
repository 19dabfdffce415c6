//! Recovery: what a directory holds, read without changing a byte.
//!
//! Recovery loads the newest snapshot, walks the log from the snapshot's *begin*, and hands every record to a
//! [`Replay`]. Where a record does not check, the log ends; what is left to decide is why:
//!
//! - **a torn tail**: nothing shows that the missing bytes were ever synced, so nobody was promised them. The log ends
//!   before them, and what lay behind is counted as dropped;
//! - **damage**: a later header, a snapshot, or the first segment of a later opening says that the log was durable
//!   beyond this place. The directory is refused, and the bytes are left alone.
//!
//! For the second it looks through the bytes behind the gap for sound headers, whose checksum is seeded with the
//! segment's salt. Such a header is evidence only: nothing behind a gap is ever replayed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::files::Files;
use super::record::{
    self, ALIGNMENT, BODY_BYTES_MAX, HEADER_BYTES, Header, KIND_CLOSE, KIND_ROLL, KIND_USER_MIN,
};
use super::segment::{self, BrokerId, Segment, SegmentHeader};
use super::snapshot::{self, Size, Snapshot, SnapshotHeader};
use crate::error::{Error, Result};
use crate::memory;
use crate::storage::Storage;
use crate::sync::Arc;

/// Bytes that the walk and the look ahead read at once.
const READ_BYTES: usize = 1 << 20;

/// Bytes that the look ahead passes over at once where all are zero.
const PAGE_BYTES: usize = 4096;

/// Receives what the log and its snapshot hold, in order. Answers none where a body makes no sense.
pub(crate) trait Replay {
    /// An entry of the snapshot.
    fn entry(&mut self, entry: &[u8]) -> Option<()>;

    /// A record of the log, complete with its group.
    fn record(&mut self, position: u64, kind: u8, body: &[u8]) -> Option<()>;
}

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

/// Has a segment read as the disk holds it: what a killed owner has written becomes durable, and what an owner could not
/// write, whose sync has failed, is not taken for the log although the kernel may have it in memory and call it clean.
fn settle(storage: &dyn Storage, segment: &Segment) -> Result<()> {
    let path = || storage.path().join(segment.name());
    segment.file.sync().map_err(|cause| Error::io("sync", path(), &cause))?;
    segment.file.drop_cached();
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
    if files.segments.is_empty() && !files.snapshots.is_empty() {
        unsound(Error::corrupt(storage.path(), 0, "there is a snapshot, but no segment"))?;
    }
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
    }
    let broker = one_log(storage, &segments, snapshot.as_ref(), &mut unsound)?;
    in_order(storage, &segments, &mut unsound)?;
    let (snapshot, snapshot_size) = match snapshot {
        Some(read) => (Some(read.header), read.size),
        None => (None, Size::default()),
    };
    let durable = snapshot.map_or(0, |snapshot| snapshot.end);
    segments.values().filter(|segment| segment.end() > durable).try_for_each(|s| settle(s))?;
    let mut walk = Walk {
        storage,
        segments: &segments,
        replay,
        records: 0,
        replayed_bytes: 0,
        dropped_bytes: 0,
        closed: None,
    };
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

/// Where the walk through a segment came to.
#[derive(Debug)]
enum Stop {
    /// At a roll record; the log goes on in the next segment.
    Rolled,
    /// At the end that a later opening has set.
    Ended(u64),
    /// Behind a close record, which begins there.
    Closed { begin: u64, end: u64 },
    /// At bytes that are no record.
    Gap(u64),
}

/// The walk along the log.
struct Walk<'a> {
    storage: &'a dyn Storage,
    segments: &'a BTreeMap<u64, Arc<Segment>>,
    replay: &'a mut dyn Replay,
    records: u64,
    replayed_bytes: u64,
    dropped_bytes: u64,
    closed: Option<u64>,
}

impl Walk<'_> {
    /// Walks from the snapshot's begin, or from the first segment, to the end; answers where that is.
    fn run(&mut self, snapshot: Option<&SnapshotHeader>) -> Result<Option<(Arc<Segment>, u64)>> {
        let Some((mut segment, mut position)) = self.first(snapshot)? else { return Ok(None) };
        loop {
            let number = segment.header.number;
            // The next opening's first segment says where the log before it ends.
            let later = self.segments.range(number + 1..);
            let cut = later
                .map(|(_, later)| later)
                .find(|later| later.header.previous_end.is_some())
                .cloned();
            self.check_names(number, cut.as_deref())?;
            let until = cut.as_ref().filter(|cut| cut.header.previous == number);
            let stop =
                self.segment(&segment, position, until.and_then(|cut| cut.header.previous_end))?;
            let next = match (stop, until) {
                (Stop::Ended(_) | Stop::Closed { .. }, Some(cut)) => Arc::clone(cut),
                (Stop::Gap(at) | Stop::Ended(at) | Stop::Closed { end: at, .. }, _)
                    if cut.is_some() =>
                {
                    return Err(self.damage(
                        &segment,
                        at,
                        "a later opening of the broker begins behind it",
                    ));
                }
                (Stop::Rolled, _) => match self.segments.get(&(number + 1)) {
                    Some(next) if next.header.start == segment.end() => Arc::clone(next),
                    _ => {
                        let path = self.storage.path().join(segment::file_name(number + 1));
                        return Err(Error::corrupt(
                            path,
                            0,
                            format!("segment {number} goes on in it, and it is missing"),
                        ));
                    }
                },
                (Stop::Closed { begin, end }, None) => {
                    self.closed = Some(begin);
                    return self.ended(segment, end, snapshot);
                }
                (Stop::Gap(end) | Stop::Ended(end), _) => {
                    self.look_ahead(&segment, end)?;
                    return self.ended(segment, end, snapshot);
                }
            };
            segment = next;
            position = segment.first();
        }
    }

    fn first(&self, snapshot: Option<&SnapshotHeader>) -> Result<Option<(Arc<Segment>, u64)>> {
        let Some(snapshot) = snapshot else {
            let Some(first) = self.segments.values().next() else { return Ok(None) };
            if first.header.previous != 0 {
                let path = self.storage.path().join(segment::file_name(first.header.previous));
                return Err(Error::corrupt(path, 0, "it is missing, and no snapshot replaces it"));
            }
            return Ok(Some((Arc::clone(first), first.first())));
        };
        let holds = |segment: &&Arc<Segment>| {
            segment.header.start <= snapshot.begin && snapshot.begin < segment.end()
        };
        let Some(segment) = self.segments.values().find(holds) else {
            let what =
                format!("no segment holds position {}, where the snapshot begins", snapshot.begin);
            return Err(Error::corrupt(self.storage.path(), snapshot.begin, what));
        };
        Ok(Some((Arc::clone(segment), snapshot.begin.max(segment.first()))))
    }

    /// Refuses a log in which a segment is missing behind the one of this number, although another names it. The log of an
    /// opening goes on in one segment after the other up to that which `cut`, the first one of the next opening, names, and
    /// what was made ahead behind that is removed in no order. Nothing of the last opening's is removed but by the next.
    fn check_names(&self, number: u64, cut: Option<&Segment>) -> Result<()> {
        let check = |segment: &Segment| match self.segments.get(&segment.header.previous) {
            Some(previous) => Ok(previous),
            None => {
                let path = self.storage.path().join(segment::file_name(segment.header.previous));
                let what = format!("it is missing, and segment {} names it", segment.header.number);
                Err(Error::corrupt(path, 0, what))
            }
        };
        let Some(mut last) = cut else {
            let mut later = self.segments.range(number + 1..);
            return later.try_for_each(|(_, later)| check(later).map(drop));
        };
        while last.header.previous > number {
            last = check(last)?;
        }
        Ok(())
    }

    fn ended(
        &self,
        segment: Arc<Segment>,
        end: u64,
        snapshot: Option<&SnapshotHeader>,
    ) -> Result<Option<(Arc<Segment>, u64)>> {
        if snapshot.is_some_and(|snapshot| end < snapshot.end) {
            return Err(self.damage(&segment, end, "a snapshot was taken behind it"));
        }
        Ok(Some((segment, end)))
    }

    /// Replays a segment's records from `position`, at most up to `until`.
    fn segment(
        &mut self,
        segment: &Arc<Segment>,
        mut position: u64,
        until: Option<u64>,
    ) -> Result<Stop> {
        let mut window = Window::new(self.storage, segment);
        let length =
            segment.file.len().map_err(|cause| Error::io("measure", window.path(), &cause))?;
        let needed = until.map_or(segment.header.capacity, |until| segment.offset(until));
        if length < needed {
            return Err(Error::corrupt(
                window.path(),
                length,
                format!("it has lost {} bytes", needed - length),
            ));
        }
        let limit = until.unwrap_or(segment.end());
        // Read once more when it is complete: together its bodies may be as large as the segment.
        let mut group: Vec<Header> = Vec::new();
        let mut group_start = position;
        loop {
            if until == Some(position) && group.is_empty() {
                return Ok(Stop::Ended(position));
            }
            let Some((header, body)) = window.record(position, limit)? else {
                return Ok(Stop::Gap(group_start));
            };
            position += header.space();
            match header.kind {
                KIND_ROLL if group.is_empty() => return Ok(Stop::Rolled),
                KIND_CLOSE if group.is_empty() => {
                    return Ok(Stop::Closed { begin: header.position, end: position });
                }
                kind if kind < KIND_USER_MIN => {
                    return Err(self.damage(
                        segment,
                        header.position,
                        "the record's kind makes no sense there",
                    ));
                }
                _ if header.more || !group.is_empty() => {
                    group.push(header);
                    if !header.more {
                        for header in group.drain(..) {
                            let body = window.body(&header)?.unwrap_or_default();
                            self.replay_record(segment, header.position, header.kind, body)?;
                        }
                        group_start = position;
                    }
                }
                kind => {
                    self.replay_record(segment, header.position, kind, body)?;
                    group_start = position;
                }
            }
        }
    }

    fn replay_record(&mut self, segment: &Segment, at: u64, kind: u8, body: &[u8]) -> Result<()> {
        self.records += 1;
        self.replayed_bytes += record::space(body.len()) as u64;
        self.replay
            .record(at, kind, body)
            .ok_or_else(|| self.damage(segment, at, "the record makes no sense"))
    }

    /// Looks for a sign that what follows a gap was durable once, and counts what is dropped.
    fn look_ahead(&mut self, segment: &Arc<Segment>, gap: u64) -> Result<()> {
        let mut found = Ahead { gap, marked: false, last: gap };
        Window::new(self.storage, segment).look(gap, &mut found)?;
        self.dropped_bytes += found.last - gap;
        for later in self.segments.range(segment.header.number + 1..).map(|(_, later)| later) {
            let mut there = Ahead { gap, marked: false, last: later.first() };
            Window::new(self.storage, later).look(later.first(), &mut there)?;
            self.dropped_bytes += there.last - later.first();
            found.marked |= there.marked;
        }
        if found.marked {
            return Err(self.damage(segment, gap, "a later record says that it was durable"));
        }
        Ok(())
    }

    fn damage(&self, segment: &Segment, position: u64, what: &str) -> Error {
        let path = self.storage.path().join(segment.name());
        Error::corrupt(
            path,
            segment.offset(position),
            format!("a record is missing or damaged, and {what}"),
        )
    }
}

/// What lies behind a gap.
#[derive(Debug)]
struct Ahead {
    gap: u64,
    /// A sound header says that the log was durable beyond the gap.
    marked: bool,
    /// The position behind the last byte that is not zero.
    last: u64,
}

/// Reads a segment through a buffer that moves along it.
struct Window<'a> {
    storage: &'a dyn Storage,
    segment: &'a Segment,
    buffer: Vec<u8>,
    /// The position of the buffer's first byte.
    start: u64,
}

impl<'a> Window<'a> {
    fn new(storage: &'a dyn Storage, segment: &'a Segment) -> Self {
        Self { storage, segment, buffer: Vec::new(), start: segment.header.start }
    }

    fn path(&self) -> PathBuf {
        self.storage.path().join(self.segment.name())
    }

    /// The record at `position`, if a whole and sound one is there that ends at or before `limit`.
    fn record(&mut self, position: u64, limit: u64) -> Result<Option<(Header, &[u8])>> {
        let salt = self.segment.header.salt;
        let Some(bytes) = self.bytes(position, HEADER_BYTES)? else { return Ok(None) };
        let header = bytes.first_chunk().and_then(|bytes| Header::decode(bytes, position, salt));
        // The length is held against what is left before anything of that size is read.
        let Some(header) = header.filter(|header| position + header.space() <= limit) else {
            return Ok(None);
        };
        if header.body_len as usize > BODY_BYTES_MAX {
            let offset = self.segment.offset(position);
            let what = format!("a record says that it has {} bytes", header.body_len);
            return Err(Error::corrupt(self.path(), offset, what));
        }
        let body = self.body(&header)?;
        Ok(body.filter(|body| crc32fast::hash(body) == header.body_crc).map(|body| (header, body)))
    }

    /// The body of a record that is there.
    fn body(&mut self, header: &Header) -> Result<Option<&[u8]>> {
        self.bytes(header.position + HEADER_BYTES as u64, header.body_len as usize)
    }

    /// The bytes at `position`; none where the file ends before them.
    fn bytes(&mut self, position: u64, count: usize) -> Result<Option<&[u8]>> {
        let held = |window: &Self| {
            let at = usize::try_from(position.checked_sub(window.start)?).ok()?;
            let range = at..at.checked_add(count)?;
            window.buffer.get(range.clone()).map(|_| range)
        };
        if held(self).is_none() {
            self.start = position;
            memory::lengthen(&mut self.buffer, count.max(READ_BYTES))?;
            let offset = self.segment.offset(position);
            let got = self.segment.file.read_at(&mut self.buffer, offset);
            let got = got.map_err(|cause| Error::io("read", self.path(), &cause))?;
            self.buffer.truncate(got);
        }
        Ok(held(self).and_then(|range| self.buffer.get(range)))
    }

    /// Looks at every place behind `from` where a record may begin.
    fn look(&mut self, from: u64, ahead: &mut Ahead) -> Result<()> {
        let salt = self.segment.header.salt;
        let positions = self.segment.header.start..self.segment.end();
        let mut position = from;
        // A header may lie across two windows, so each window begins with the last places of the one before. None begins
        // in what never was written, because its first word is not zero.
        while let Some(data) = self.data_from(position)? {
            position = data;
            let Some(window) = self.window(position)? else { break };
            let places = (window.len() - HEADER_BYTES) / ALIGNMENT + 1;
            let untouched = |page: &[u8]| page.iter().fold(0, |sum, byte| sum | byte) == 0;
            for (page, bytes) in window.chunks(PAGE_BYTES).enumerate() {
                // Nearly everything behind a gap is zeros, which are passed over a page at a time.
                if untouched(bytes) {
                    continue;
                }
                for (index, word) in
                    bytes.chunks(ALIGNMENT).enumerate().filter(|(_, word)| !untouched(word))
                {
                    let offset = page * PAGE_BYTES + index * ALIGNMENT;
                    let at = position + offset as u64;
                    ahead.last = ahead.last.max(at + word.len() as u64);
                    let bytes = window.get(offset..).and_then(|bytes| bytes.first_chunk());
                    // A sector that a disk has put elsewhere tells as much as one that stands in its place.
                    let header = bytes
                        .and_then(|bytes| Header::decode_anywhere(bytes, positions.clone(), salt));
                    ahead.marked |= header.is_some_and(|header| header.durable > ahead.gap);
                }
            }
            position += (places * ALIGNMENT) as u64;
        }
        Ok(())
    }

    /// The first place at `position` or behind it where a record may begin that was ever written.
    fn data_from(&self, position: u64) -> Result<Option<u64>> {
        let offset = self.segment.offset(position);
        let data = self.segment.file.data_from(offset);
        let data = data.map_err(|cause| Error::io("look through", self.path(), &cause))?;
        Ok(data.map(|data| position + (data - offset) / ALIGNMENT as u64 * ALIGNMENT as u64))
    }

    /// As many bytes from `position` on as are read at once; none at the file's end.
    fn window(&mut self, position: u64) -> Result<Option<&[u8]>> {
        if position + HEADER_BYTES as u64 > self.segment.end() {
            return Ok(None);
        }
        self.start = position;
        self.buffer.resize(READ_BYTES, 0);
        let got = self.segment.file.read_at(&mut self.buffer, self.segment.offset(position));
        let got = got.map_err(|cause| Error::io("read", self.path(), &cause))?;
        self.buffer.truncate(got);
        Ok((got >= HEADER_BYTES).then_some(self.buffer.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broker_has_an_id_of_its_own() {
        let (one, other) = (new_broker_id(), new_broker_id());
        for half in [0..8, 8..16] {
            assert_ne!(one[half.clone()], other[half.clone()]);
            assert_ne!(one[half], [0; 8]);
        }
    }
}
