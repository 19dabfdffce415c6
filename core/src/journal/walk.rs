//! The walk along the log, from a snapshot's *begin* to where the log ends.
//!
//! Every record is handed to a [`Replay`]. Where a record does not check, the log ends; what is left to decide is why:
//!
//! - **a torn tail**: nothing shows that the missing bytes were ever synced, so nobody was promised them. The log ends
//!   before them, and what lay behind is counted as dropped;
//! - **damage**: a later header, a snapshot, or the first segment of a later opening says that the log was durable
//!   beyond this place. The directory is refused, and the bytes are left alone.
//!
//! For the second it looks through the bytes behind the gap for sound headers, whose checksum is seeded with the
//! segment's salt. Such a header is evidence only: nothing behind a gap is ever replayed.

use std::collections::BTreeMap;

use super::reader::Reader;
use super::record::{self, Header, KIND_CLOSE, KIND_ROLL, KIND_USER_MIN};
use super::segment::{self, Segment};
use super::snapshot::SnapshotHeader;
use super::window::{Ahead, Window};
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::sync::Arc;

/// Receives what the log and its snapshot hold, in order. Answers none where a body makes no sense.
pub(crate) trait Replay {
    /// An entry of the snapshot.
    fn entry(&mut self, entry: &[u8]) -> Option<()>;

    /// A record of the log, complete with its group.
    fn record(&mut self, position: u64, kind: u8, body: &[u8]) -> Option<()>;
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

/// The walk, and what it has met so far.
pub(super) struct Walk<'a> {
    storage: &'a dyn Storage,
    segments: &'a BTreeMap<u64, Arc<Segment>>,
    replay: &'a mut dyn Replay,
    /// Reads one segment after another.
    reader: Reader,
    /// Records that were replayed.
    pub(super) records: u64,
    /// Bytes of them in the log.
    pub(super) replayed_bytes: u64,
    /// Bytes behind the end of the log that were never promised to anybody.
    pub(super) dropped_bytes: u64,
    /// Where the record begins that closes the log, if one does.
    pub(super) closed: Option<u64>,
}

impl<'a> Walk<'a> {
    /// A walk along the log in these segments, by their numbers.
    pub(super) fn new(
        storage: &'a dyn Storage,
        segments: &'a BTreeMap<u64, Arc<Segment>>,
        replay: &'a mut dyn Replay,
    ) -> Self {
        Self {
            storage,
            segments,
            replay,
            reader: Reader::default(),
            records: 0,
            replayed_bytes: 0,
            dropped_bytes: 0,
            closed: None,
        }
    }

    /// Walks from the snapshot's begin, or from the first segment, to the end; answers where that is.
    ///
    /// # Errors
    /// `CORRUPT` for damage, `IO`.
    pub(super) fn run(
        &mut self,
        snapshot: Option<&SnapshotHeader>,
    ) -> Result<Option<(Arc<Segment>, u64)>> {
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
    /// what was made ahead behind that is removed in no order. Of the last opening's nothing is removed but by its own close, the
    /// newest first.
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
        position: u64,
        until: Option<u64>,
    ) -> Result<Stop> {
        let mut window = Window::over(self.storage, segment, std::mem::take(&mut self.reader));
        let stop = self.records_in(&mut window, segment, position, until);
        self.reader = window.into_reader();
        stop
    }

    fn records_in(
        &mut self,
        window: &mut Window<'_>,
        segment: &Segment,
        mut position: u64,
        until: Option<u64>,
    ) -> Result<Stop> {
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
        // Looked at once more when it is complete: together its bodies may be as large as the segment.
        let mut group: Vec<Header> = Vec::new();
        let mut group_start = position;
        loop {
            window.keep(group_start);
            if until == Some(position) && group.is_empty() {
                return Ok(Stop::Ended(position));
            }
            let Some((header, body)) = window.record(position, limit)? else {
                return Ok(Stop::Gap(group_start));
            };
            position += header.space();
            let is_of_group = header.more || !group.is_empty();
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
                _ if is_of_group => {
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
        self.look(segment, gap, &mut found)?;
        self.dropped_bytes += found.last - gap;
        let segments = self.segments;
        for later in segments.range(segment.header.number + 1..).map(|(_, later)| later) {
            let mut there = Ahead { gap, marked: false, last: later.first() };
            self.look(later, later.first(), &mut there)?;
            self.dropped_bytes += there.last - later.first();
            found.marked |= there.marked;
        }
        if found.marked {
            return Err(self.damage(segment, gap, "a later record says that it was durable"));
        }
        Ok(())
    }

    fn look(&mut self, segment: &Segment, from: u64, ahead: &mut Ahead) -> Result<()> {
        let mut window = Window::over(self.storage, segment, std::mem::take(&mut self.reader));
        let looked = window.look(from, ahead);
        self.reader = window.into_reader();
        looked
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::journal::by_hand::{Pen, first_header, following, reopened};
    use crate::journal::segment::SegmentHeader;
    use crate::storage::MemoryStorage;

    const CAPACITY: u64 = 64 << 10;
    const KIND: u8 = KIND_USER_MIN;

    /// A log in RAM.
    #[derive(Default)]
    struct Log {
        storage: MemoryStorage,
        segments: BTreeMap<u64, Arc<Segment>>,
    }

    /// What a walk through it has come to.
    #[derive(Debug)]
    struct Walked {
        end: Result<Option<(u64, u64)>>,
        bodies: Vec<String>,
        records: u64,
        replayed_bytes: u64,
        dropped_bytes: u64,
        closed: Option<u64>,
    }

    /// Notes all bodies, of whatever kind.
    #[derive(Default)]
    struct Bodies(Vec<String>);

    impl Replay for Bodies {
        fn entry(&mut self, _: &[u8]) -> Option<()> {
            None
        }

        fn record(&mut self, _: u64, _: u8, body: &[u8]) -> Option<()> {
            self.0.push(String::from_utf8(body.to_vec()).ok()?);
            Some(())
        }
    }

    impl Log {
        fn segment(&mut self, header: SegmentHeader) -> Arc<Segment> {
            let segment = Segment::create(&self.storage, header).unwrap();
            self.segments.insert(header.number, Arc::clone(&segment));
            segment
        }

        /// The first one.
        fn first(&mut self) -> Arc<Segment> {
            self.segment(first_header(CAPACITY))
        }

        fn walk(&self, snapshot: Option<(u64, u64)>) -> Walked {
            let snapshot =
                snapshot.map(|(begin, end)| SnapshotHeader { broker: [1; 16], begin, end });
            let mut bodies = Bodies::default();
            let mut walk = Walk::new(&self.storage, &self.segments, &mut bodies);
            let end = walk.run(snapshot.as_ref());
            let end = end.map(|end| end.map(|(segment, at)| (segment.header.number, at)));
            let Walk { records, replayed_bytes, dropped_bytes, closed, .. } = walk;
            Walked { end, bodies: bodies.0, records, replayed_bytes, dropped_bytes, closed }
        }

        /// Sees that the log is damaged in the segment of this number.
        fn assert_damaged(&self, snapshot: Option<(u64, u64)>, number: u64, text: &str) {
            let error = self.walk(snapshot).end.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let path = self.storage.path().join(segment::file_name(number));
            assert_eq!(error.path(), Some(path.as_path()), "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn records_are_replayed_up_to_the_gap_and_counted() {
        let mut log = Log::default();
        let mut pen = Pen::new(&log.first());
        for body in ["one", "two", "three"] {
            pen.record(KIND, body.as_bytes());
        }
        let end = pen.at;
        let walked = log.walk(None);
        assert_eq!(walked.end.unwrap(), Some((1, end)));
        assert_eq!(walked.bodies, ["one", "two", "three"]);
        assert_eq!((walked.records, walked.replayed_bytes), (3, 3 * 40));
        assert_eq!((walked.dropped_bytes, walked.closed), (0, None));
    }

    #[test]
    fn a_group_is_replayed_whole_or_not_at_all() {
        let mut log = Log::default();
        let segment = log.first();
        let mut pen = Pen::new(&segment);
        pen.record(KIND, b"alone");
        pen.part(KIND, b"a", true);
        pen.part(KIND, b"b", true);
        pen.part(KIND, b"c", false);
        let begin = pen.at;
        pen.part(KIND, b"d", true);
        assert_eq!(log.walk(None).bodies, ["alone", "a", "b", "c"]);
        assert_eq!(log.walk(None).end.unwrap(), Some((1, begin)));
        assert_eq!(log.walk(None).dropped_bytes, 40);
        pen.part(KIND, b"e", false);
        let end = pen.at;
        assert_eq!(log.walk(None).bodies, ["alone", "a", "b", "c", "d", "e"]);
        assert_eq!(log.walk(None).end.unwrap(), Some((1, end)));
    }

    #[test]
    fn what_ends_a_segment_or_the_log_is_in_no_group_and_no_kind_is_unknown() {
        for (kind, more) in [(KIND_ROLL, true), (KIND_CLOSE, true), (3, true), (3, false)] {
            let mut log = Log::default();
            let mut pen = Pen::new(&log.first());
            if more {
                pen.part(KIND, b"a", true);
            }
            pen.record(kind, b"");
            log.assert_damaged(None, 1, "kind makes no sense");
        }
    }

    #[test]
    fn a_record_of_which_nobody_makes_sense_is_damage() {
        let mut log = Log::default();
        Pen::new(&log.first()).record(KIND, &[0xff]);
        log.assert_damaged(None, 1, "the record makes no sense");
    }

    #[test]
    fn a_log_rolls_into_the_segment_that_begins_where_the_last_one_ends() {
        let mut log = Log::default();
        let first = log.first();
        let mut pen = Pen::new(&first);
        pen.record(KIND, b"one");
        pen.record(KIND_ROLL, b"");
        log.assert_damaged(None, 2, "segment 1 goes on in it, and it is missing");
        let next = following(&first.header);
        log.segment(SegmentHeader { start: next.start + 4096, ..next });
        log.assert_damaged(None, 2, "segment 1 goes on in it, and it is missing");
        let mut pen = Pen::new(&log.segment(next));
        pen.record(KIND, b"two");
        let end = pen.at;
        let walked = log.walk(None);
        assert_eq!((walked.end.unwrap(), walked.records), (Some((2, end)), 2));
        assert_eq!(walked.bodies, ["one", "two"]);
    }

    #[test]
    fn a_close_record_ends_the_log_and_is_remembered() {
        let mut log = Log::default();
        let mut pen = Pen::new(&log.first());
        pen.record(KIND, b"one");
        let begin = pen.at;
        pen.record(KIND_CLOSE, b"");
        let end = pen.at;
        pen.record(KIND, b"behind");
        let walked = log.walk(None);
        assert_eq!((walked.end.unwrap(), walked.closed), (Some((1, end)), Some(begin)));
        assert_eq!(walked.bodies, ["one"]);
    }

    #[test]
    fn the_next_opening_says_where_the_log_before_it_ends() {
        let mut log = Log::default();
        let first = log.first();
        let mut pen = Pen::new(&first);
        pen.record(KIND, b"one");
        let cut = pen.at;
        pen.record(KIND, b"cut off");
        let mut pen = Pen::new(&log.segment(reopened(&first.header, cut)));
        pen.record(KIND, b"two");
        let end = pen.at;
        let walked = log.walk(None);
        assert_eq!((walked.end.unwrap(), walked.dropped_bytes), (Some((2, end)), 0));
        assert_eq!(walked.bodies, ["one", "two"]);
        // What is before that place was there.
        first.file.write_at(&[0; 8], first.offset(cut - 40)).unwrap();
        log.assert_damaged(None, 1, "a later opening of the broker begins behind it");
    }

    #[test]
    fn the_log_of_an_opening_does_not_end_before_the_segment_that_the_next_one_names() {
        for closes in [false, true] {
            let mut log = Log::default();
            let first = log.first();
            let second = log.segment(following(&first.header));
            log.segment(reopened(&second.header, second.first()));
            let mut pen = Pen::new(&first);
            pen.record(KIND, b"one");
            if closes {
                pen.record(KIND_CLOSE, b"");
            }
            log.assert_damaged(None, 1, "a later opening of the broker begins behind it");
        }
    }

    #[test]
    fn a_segment_that_another_one_names_is_there() {
        let mut log = Log::default();
        let first = log.first();
        let mut pen = Pen::new(&first);
        pen.record(KIND, b"one");
        let second = log.segment(following(&first.header));
        let third = log.segment(following(&second.header));
        log.segments.remove(&2);
        log.assert_damaged(None, 2, "it is missing, and segment 3 names it");
        // Of an opening that another one followed, what was made ahead is removed in no order.
        log.segment(SegmentHeader {
            number: 4,
            start: third.end(),
            ..reopened(&first.header, pen.at)
        });
        assert_eq!(log.walk(None).end.unwrap().unwrap().0, 4);
        // But what its log went on in is there.
        log.segments.remove(&4);
        log.segment(reopened(&third.header, third.first()));
        log.assert_damaged(None, 2, "it is missing, and segment 3 names it");
    }

    #[test]
    fn a_log_without_its_beginning_needs_a_snapshot() {
        let mut log = Log::default();
        assert_eq!(log.walk(None).end.unwrap(), None);
        let first = log.first();
        let second = log.segment(following(&first.header));
        let mut pen = Pen::new(&second);
        pen.record(KIND, b"two");
        let end = pen.at;
        log.segments.remove(&1);
        log.assert_damaged(None, 1, "it is missing, and no snapshot replaces it");
        let walked = log.walk(Some((second.header.start, end)));
        assert_eq!((walked.end.unwrap(), walked.bodies), (Some((2, end)), vec!["two".to_owned()]));
    }

    #[test]
    fn a_walk_begins_where_the_snapshot_does() {
        let mut log = Log::default();
        let first = log.first();
        let mut pen = Pen::new(&first);
        pen.record(KIND, b"one");
        let middle = pen.at;
        pen.record(KIND, b"two");
        pen.record(KIND_ROLL, b"");
        let second = log.segment(following(&first.header));
        let mut pen = Pen::new(&second);
        pen.record(KIND, b"three");
        let end = pen.at;
        for (begin, bodies) in [
            (0, &["one", "two", "three"][..]),
            (first.first(), &["one", "two", "three"]),
            (middle, &["two", "three"]),
            (second.header.start, &["three"]),
            (second.first(), &["three"]),
            (end, &[]),
        ] {
            let walked = log.walk(Some((begin, end)));
            assert_eq!((walked.end.unwrap(), &*walked.bodies), (Some((2, end)), &own(bodies)[..]));
        }
        for begin in [second.end(), second.end() + 1] {
            let error = log.walk(Some((begin, begin))).end.unwrap_err();
            assert!(error.to_string().contains("no segment holds position"), "{error}");
        }
    }

    fn own(bodies: &[&str]) -> Vec<String> {
        bodies.iter().map(|body| (*body).to_owned()).collect()
    }

    #[test]
    fn no_log_ends_before_its_snapshot_does() {
        let mut log = Log::default();
        let first = log.first();
        let mut pen = Pen::new(&first);
        pen.record(KIND, b"one");
        let end = pen.at;
        assert_eq!(log.walk(Some((0, end))).end.unwrap(), Some((1, end)));
        log.assert_damaged(Some((0, end + 1)), 1, "a snapshot was taken behind it");
        pen.record(KIND_CLOSE, b"");
        let end = pen.at;
        assert_eq!(log.walk(Some((0, end))).end.unwrap(), Some((1, end)));
        log.assert_damaged(Some((0, end + 1)), 1, "a snapshot was taken behind it");
    }

    #[test]
    fn a_segment_is_as_long_as_it_was_made_or_as_the_next_opening_needs_it() {
        let mut log = Log::default();
        let first = log.first();
        let mut pen = Pen::new(&first);
        pen.record(KIND, b"one");
        let end = pen.at;
        first.file.truncate(end).unwrap();
        log.assert_damaged(None, 1, &format!("it has lost {} bytes", CAPACITY - end));
        log.segment(reopened(&first.header, end));
        assert_eq!(log.walk(None).records, 1);
        first.file.truncate(end - 1).unwrap();
        log.assert_damaged(None, 1, "it has lost 1 bytes");
    }

    #[test]
    fn what_lies_behind_a_gap_is_dropped_or_shows_that_it_is_damage() {
        for (in_the_next, is_mark) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut log = Log::default();
            let first = log.first();
            let second = log.segment(following(&first.header));
            let mut pen = Pen::new(&first);
            pen.record(KIND, b"one");
            let gap = pen.at;
            let mut far = Pen::new(&first);
            far.at = gap + 80;
            far.record(KIND, b"dropped");
            let mut next = Pen::new(&second);
            next.record(KIND, b"dropped, too");
            let pen = if in_the_next { &mut next } else { &mut far };
            pen.durable = gap + u64::from(is_mark);
            pen.record(KIND, b"");
            let dropped = far.at - gap + (next.at - second.first());
            if is_mark {
                log.assert_damaged(None, 1, "a later record says that it was durable");
            } else {
                let walked = log.walk(None);
                assert_eq!(walked.end.unwrap(), Some((1, gap)));
                assert_eq!((walked.dropped_bytes, walked.records), (dropped, 1));
            }
        }
    }
}
