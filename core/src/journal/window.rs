//! A segment, read through a buffer that moves along it.
//!
//! Who goes from one record to the next has each byte read once, unless groups are large, and the storage is told in time what comes
//! next. What never was written is not read, but for a header's bytes: it lies behind the end of every log that was killed, and most
//! of a segment may be that.

use std::path::PathBuf;

use super::checksum::checksum;
use super::reader::{PIECE_BYTES, Reader};
use super::record::{ALIGNMENT, BODY_BYTES_MAX, HEADER_BYTES, Header};
use super::segment::Segment;
use super::stretch::Stretch;
use crate::error::{Error, Result};
use crate::storage::{DIRECT_BYTES, Storage};

/// Bytes that are read at once, but from the disk itself.
const READ_BYTES: usize = 1 << 20;

/// So far from what never was written a system may read by itself, in larger pieces than it is asked for: no further ahead.
const NEAR_BYTES: u64 = 16 << 20;

/// Nearer, it is told what is read soon, and so far ahead.
const AHEAD_BYTES: u64 = 8 << 20;

/// As much of a group is kept until it is complete; what is larger is read once more then.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// Bytes that are passed over at once where all are zero, in looking ahead.
const PAGE_BYTES: usize = 4096;

/// What lies behind a gap.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) gap: u64,
    /// A sound header says that the log was durable beyond the gap.
    pub(super) marked: bool,
    /// The position behind the last byte that is not zero.
    pub(super) last: u64,
}

/// Reads a segment through a buffer that moves along it.
pub(super) struct Window<'a> {
    storage: &'a dyn Storage,
    segment: &'a Segment,
    /// What it has read last.
    held: Stretch,
    /// Reads what comes next from the disk itself.
    reader: Reader,
    /// What was read from here on is asked for again.
    kept: u64,
    /// Where what was written where it read last ends, as far as the storage knows.
    written: u64,
    /// How far the storage was told what is read soon.
    told: u64,
}

impl<'a> Window<'a> {
    #[cfg(test)]
    fn new(storage: &'a dyn Storage, segment: &'a Segment) -> Self {
        Self::over(storage, segment, Reader::default())
    }

    /// One that has this reader, and reads into what that has.
    pub(super) fn over(storage: &'a dyn Storage, segment: &'a Segment, mut reader: Reader) -> Self {
        let held = Stretch::new(reader.pages(), 0, segment.header.start);
        let (kept, written, told) = (u64::MAX, 0, 0);
        Self { storage, segment, held, reader, kept, written, told }
    }

    /// Its reader, for the next one.
    pub(super) fn into_reader(mut self) -> Reader {
        self.reader.forget();
        self.reader.give_back(self.held.into_pages());
        self.reader
    }

    /// What is read from `position` on may be asked for again.
    pub(super) fn keep(&mut self, position: u64) {
        self.kept = position;
    }

    pub(super) fn path(&self) -> PathBuf {
        self.storage.path().join(self.segment.name())
    }

    /// The record at `position`, if a whole and sound one is there that ends at or before `limit`.
    pub(super) fn record(&mut self, position: u64, limit: u64) -> Result<Option<(Header, &[u8])>> {
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
        Ok(body.filter(|body| checksum(body) == header.body_checksum).map(|body| (header, body)))
    }

    /// The body of a record that is there.
    pub(super) fn body(&mut self, header: &Header) -> Result<Option<&[u8]>> {
        self.bytes(header.position + HEADER_BYTES as u64, header.body_len as usize)
    }

    /// The bytes at `position`; none where the file ends before them.
    fn bytes(&mut self, position: u64, count: usize) -> Result<Option<&[u8]>> {
        if self.held.find(position, count).is_none() {
            self.read(position, count)?;
        }
        Ok(self.held.get(position, count))
    }

    /// Moves along, to hold so many bytes at `position` if there are.
    #[cold]
    fn read(&mut self, position: u64, count: usize) -> Result<()> {
        let back = position.checked_sub(self.kept);
        let is_kept = back.is_some_and(|back| back <= KEPT_BYTES_MAX);
        let start = self.floor(if is_kept { self.kept } else { position });
        // What is there is not read again.
        let is_there = self.held.find(start, 0).is_some();
        self.held.begin_at(if is_there { start } else { self.floor(position) });
        let end = position + count as u64;
        while self.held.end() < end {
            let piece = self.reader.piece(self.held.end());
            let Some(piece) = piece.map_err(|cause| self.not_read(&cause))? else { break };
            let left = self.held.go_on(piece)?;
            self.reader.give_back(left);
        }
        let from = self.held.end();
        if from < end {
            self.fill(from, usize::try_from(end - from).unwrap_or(count))?;
        }
        self.have_next_read()?;
        self.tell_what_comes();
        Ok(())
    }

    /// The last position at or before this one from which it can be read.
    fn floor(&self, position: u64) -> u64 {
        let piece = if self.is_direct() { DIRECT_BYTES as u64 } else { 1 };
        position - self.segment.offset(position) % piece
    }

    /// Reads behind what is there, which ends at `from`: at least what is `missing`, if the file has it.
    fn fill(&mut self, from: u64, missing: usize) -> Result<()> {
        let mut count = missing.max(self.at_once(from)?);
        if self.is_direct() {
            count = count.next_multiple_of(DIRECT_BYTES);
            if !self.held.make_room_for_a_disk(count) {
                self.reader.let_go();
                self.segment.file.drop_cached();
                self.segment.file.set_direct(false);
                return self.fill(from, missing);
            }
        } else {
            self.held.make_room(count)?;
        }
        if self.is_near_hole(from) {
            self.segment.file.read_ahead(false);
        }
        let (file, offset) = (&self.segment.file, self.segment.offset(from));
        let read = self.held.read(count, |place| file.read_at(place, offset));
        read.map_err(|cause| self.not_read(&cause))
    }

    /// Whether the segment is read from the disk itself, which then need not be told anything.
    fn is_direct(&self) -> bool {
        self.segment.file.is_direct()
    }

    /// Whether the storage would bring in what never was written, reading ahead from this position; unless that is little.
    fn is_near_hole(&self, position: u64) -> bool {
        let is_large = self.written + (READ_BYTES as u64) < self.segment.end();
        is_large && !self.is_direct() && position + NEAR_BYTES >= self.written
    }

    /// Has the reader read what comes next, where nobody else does.
    fn have_next_read(&mut self) -> Result<()> {
        if self.is_direct() {
            let next = self.held.end();
            let until = self.written_from(next)?.min(self.segment.end());
            self.reader.read_ahead(self.segment, next, until);
        }
        Ok(())
    }

    /// Tells the storage what is read next, some of it at a time.
    fn tell_what_comes(&mut self) {
        let next = self.held.end();
        if !self.is_near_hole(next) {
            return;
        }
        let from = self.told.max(next);
        let end = (next + AHEAD_BYTES).min(self.written).min(self.segment.end());
        if from <= next + AHEAD_BYTES / 2 && from < end {
            self.segment.file.will_read(self.segment.offset(from), end - from);
            self.told = end;
        }
    }

    /// Looks at every place behind `from` where a record may begin.
    pub(super) fn look(&mut self, from: u64, ahead: &mut Ahead) -> Result<()> {
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
        let data = data.map_err(|cause| self.not_looked(&cause))?;
        Ok(data.map(|data| position + (data - offset) / ALIGNMENT as u64 * ALIGNMENT as u64))
    }

    /// How many bytes from `position` on are read at once: none behind the segment, nor what never was written, for which memory
    /// would be cleared in vain. A disk is asked for whole pieces.
    fn at_once(&mut self, position: u64) -> Result<usize> {
        let left = self.written_from(position)?.min(self.segment.end()).saturating_sub(position);
        let most = if self.is_direct() { PIECE_BYTES } else { READ_BYTES };
        Ok(usize::try_from(left).map_or(most, |left| left.min(most)))
    }

    /// Where what was written at `position`, if it was, ends.
    fn written_from(&mut self, position: u64) -> Result<u64> {
        if self.written <= position {
            let offset = self.segment.offset(position);
            let hole = self.segment.file.hole_from(offset);
            let hole =
                hole.map_err(|cause| self.not_looked(&cause))?.min(self.segment.header.capacity);
            self.written =
                position + hole.saturating_sub(offset).next_multiple_of(ALIGNMENT as u64);
        }
        Ok(self.written)
    }

    fn not_looked(&self, cause: &std::io::Error) -> Error {
        Error::io("look through", self.path(), cause)
    }

    fn not_read(&self, cause: &std::io::Error) -> Error {
        Error::io("read", self.path(), cause)
    }

    /// As many bytes from `position` on as are read at once; none where no header has room before the segment's end. What never
    /// was written begins with as many zeros as a header may have there.
    fn window(&mut self, position: u64) -> Result<Option<&[u8]>> {
        let segment = self.segment;
        let left = |from| segment.end().saturating_sub(from);
        if left(position) < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let start = self.floor(position);
        self.held.restart(start);
        let skipped = usize::try_from(position - start).unwrap_or(0);
        self.fill(start, skipped + HEADER_BYTES)?;
        let end = self.held.end();
        // Where the storage says otherwise now, the header is read.
        if end == self.written && self.data_from(end)? != Some(end) {
            let room = usize::try_from(left(end)).unwrap_or(usize::MAX);
            self.held.add_zeros(room.min(HEADER_BYTES - ALIGNMENT))?;
        }
        Ok(self.held.get_from(position).filter(|window| window.len() >= HEADER_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::Range;

    use super::*;
    use crate::error::ErrorKind;
    use crate::journal::by_hand::{Pen, first_header, first_segment};
    use crate::journal::record::{KIND_USER_MIN, space};
    use crate::journal::segment::SegmentHeader;
    use crate::storage::{MemoryStorage, StorageFile};
    use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use crate::sync::{Arc, Mutex, lock};

    /// Room for a little more than two windows.
    const CAPACITY: u64 = 2 * READ_BYTES as u64 + 8192;
    const GAP: u64 = 4096;

    /// What is seen of a segment from `from` on, behind a gap at `GAP`.
    fn look(segment: &Segment, from: u64) -> Ahead {
        let mut ahead = Ahead { gap: GAP, marked: false, last: from };
        Window::new(&MemoryStorage::new(), segment).look(from, &mut ahead).unwrap();
        ahead
    }

    /// Writes the header of an empty record.
    fn write_header(segment: &Arc<Segment>, at: u64, durable: u64) {
        let mut pen = Pen::new(segment);
        (pen.at, pen.durable) = (at, durable);
        pen.record(KIND_USER_MIN, b"");
    }

    #[test]
    fn a_header_is_seen_wherever_it_stands() {
        let window = READ_BYTES as u64;
        let edges = [GAP + window, GAP + 2 * window - HEADER_BYTES as u64, CAPACITY];
        let near = |edge: u64| (edge - 48..=edge + 16).step_by(ALIGNMENT);
        let places = edges.into_iter().flat_map(near).chain([GAP + 8, 2 * GAP, 3 * GAP + 808]);
        for at in places.filter(|at| at + HEADER_BYTES as u64 <= CAPACITY) {
            let segment = first_segment(&MemoryStorage::new(), CAPACITY);
            write_header(&segment, at, GAP + 1);
            let ahead = look(&segment, GAP);
            assert!(ahead.marked, "at {at}");
            assert_eq!(ahead.last, at + HEADER_BYTES as u64);
        }
    }

    #[test]
    fn only_what_says_that_the_log_was_durable_beyond_the_gap_tells_anything() {
        for (durable, is_mark) in [(0, false), (GAP, false), (GAP + 1, true), (GAP + 800, true)] {
            let segment = first_segment(&MemoryStorage::new(), CAPACITY);
            write_header(&segment, GAP + 800, durable);
            assert_eq!(look(&segment, GAP).marked, is_mark, "{durable}");
            // Nor does what comes behind it change that.
            write_header(&segment, GAP + 840, 0);
            assert_eq!(look(&segment, GAP).marked, is_mark, "{durable}");
        }
    }

    #[test]
    fn a_page_and_a_word_are_looked_at_even_where_their_bytes_cancel_out() {
        let segment = first_segment(&MemoryStorage::new(), CAPACITY);
        assert_eq!(look(&segment, GAP).last, GAP);
        segment.file.write_at(&[5, 5], GAP + 400).unwrap();
        assert_eq!(look(&segment, GAP).last, GAP + 408);
    }

    #[test]
    fn nothing_behind_the_segment_is_looked_at() {
        let segment = first_segment(&MemoryStorage::new(), CAPACITY);
        segment.file.write_at(&[5; 64], CAPACITY).unwrap();
        assert_eq!(look(&segment, GAP).last, GAP);
    }

    /// A file of which is known where something was written, how much is read, and what it was told to be read soon.
    #[derive(Debug)]
    struct Sparse {
        file: Arc<dyn StorageFile>,
        written: Vec<Range<u64>>,
        read: AtomicU64,
        told: Mutex<Vec<Range<u64>>>,
        /// It was told to bring in no more than it is asked for.
        is_exact: AtomicBool,
    }

    impl Sparse {
        fn new(
            file: &Arc<dyn StorageFile>,
            written: impl IntoIterator<Item = Range<u64>>,
        ) -> Arc<Self> {
            let (file, written) = (Arc::clone(file), written.into_iter().collect());
            let (read, told, is_exact) =
                (AtomicU64::new(0), Mutex::default(), AtomicBool::new(false));
            Arc::new(Self { file, written, read, told, is_exact })
        }

        /// The segment with this file instead of its own.
        fn segment(self: &Arc<Self>, made: &Segment) -> Segment {
            Segment::new(made.header, Arc::clone(self) as Arc<dyn StorageFile>)
        }

        fn read(&self) -> u64 {
            self.read.load(Ordering::Relaxed)
        }
    }

    impl StorageFile for Sparse {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let got = self.file.read_at(buffer, offset)?;
            self.read.fetch_add(got as u64, Ordering::Relaxed);
            Ok(got)
        }

        fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
            let run = self.written.iter().find(|run| offset < run.end);
            Ok(run.map(|run| run.start.max(offset)))
        }

        fn hole_from(&self, offset: u64) -> io::Result<u64> {
            let run = self.written.iter().find(|run| run.contains(&offset));
            Ok(run.map_or(offset, |run| run.end))
        }

        fn read_ahead(&self, ahead: bool) {
            self.is_exact.store(!ahead, Ordering::Relaxed);
        }

        fn will_read(&self, offset: u64, bytes: u64) {
            lock(&self.told).push(offset..offset + bytes);
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.file.write_at(bytes, offset)
        }

        fn truncate(&self, bytes: u64) -> io::Result<()> {
            self.file.truncate(bytes)
        }

        fn sync(&self) -> io::Result<()> {
            self.file.sync()
        }
    }

    #[test]
    fn what_never_was_written_is_passed_over_to_where_a_record_may_begin() {
        let made = first_segment(&MemoryStorage::new(), CAPACITY);
        let header = SegmentHeader { start: 1 << 30, ..made.header };
        let start = header.start;
        for (written, data) in [(GAP, GAP), (5 * GAP, 5 * GAP), (5 * GAP + 3, 5 * GAP)] {
            let file = Sparse::new(&made.file, Some(written..written + 1));
            let segment = Segment::new(header, file);
            let storage = MemoryStorage::new();
            let window = Window::new(&storage, &segment);
            assert_eq!(window.data_from(start + GAP).unwrap(), Some(start + data));
            assert_eq!(window.data_from(start + 9 * GAP).unwrap(), None);
        }
    }

    /// A read of what never was written had the kernel keep zeros there and tell of them as of something written; so the rest of
    /// every segment was read whose owner was killed, and a log of some records took as long to open as one of 64 MiB.
    #[test]
    fn what_never_was_written_is_not_read() {
        let made = first_segment(&MemoryStorage::new(), CAPACITY);
        let first = made.first();
        write_header(&made, first, 0);
        let file = Sparse::new(&made.file, [0..2 * GAP, CAPACITY - GAP..CAPACITY]);
        let segment = file.segment(&made);
        let storage = MemoryStorage::new();
        let mut window = Window::new(&storage, &segment);
        assert!(window.record(first, CAPACITY).unwrap().is_some());
        assert!(window.record(first + HEADER_BYTES as u64, CAPACITY).unwrap().is_none());
        assert_eq!(file.read(), 2 * GAP - first);
        let mut ahead = Ahead { gap: first, marked: false, last: first };
        window.look(first, &mut ahead).unwrap();
        assert_eq!(file.read(), 2 * (2 * GAP - first) + GAP);
    }

    /// Where the second page of a header was lost, it may be whole all the same: its last bytes were zeros.
    #[test]
    fn a_header_is_seen_before_a_hole_and_behind_one() {
        let hole = 3 * GAP;
        for at in (hole - 48..=hole + 16).step_by(ALIGNMENT) {
            let made = first_segment(&MemoryStorage::new(), CAPACITY);
            write_header(&made, at, GAP + 1);
            let is_behind = at >= hole;
            let written = if is_behind { at..at + 2 * GAP } else { GAP..hole };
            if !is_behind {
                made.file.write_at(&[0; HEADER_BYTES], hole).unwrap();
            }
            let whole = {
                let mut bytes = [0; HEADER_BYTES];
                made.file.read_at(&mut bytes, at).unwrap();
                Header::decode_anywhere(&bytes, 0..CAPACITY, made.header.salt).is_some()
            };
            let segment = Sparse::new(&made.file, Some(written)).segment(&made);
            assert_eq!(look(&segment, GAP).marked, whole, "at {at}");
            assert!(whole || at + HEADER_BYTES as u64 > hole, "at {at}");
        }
    }

    /// However short a hole is: a header stands right behind one of a word.
    #[test]
    fn a_header_behind_a_hole_of_any_length_is_seen() {
        for length in [8, 16, 24, 32, GAP] {
            let made = first_segment(&MemoryStorage::new(), CAPACITY);
            let behind = 2 * GAP + length;
            write_header(&made, behind, GAP + 1);
            let file = Sparse::new(&made.file, [GAP..2 * GAP, behind..behind + GAP]);
            let segment = file.segment(&made);
            assert!(look(&segment, GAP).marked, "{length}");
        }
    }

    #[test]
    fn a_header_that_fills_the_end_of_the_segment_is_seen() {
        let segment = first_segment(&MemoryStorage::new(), CAPACITY);
        let last = CAPACITY - HEADER_BYTES as u64;
        write_header(&segment, last, GAP + 1);
        assert!(look(&segment, last).marked);
    }

    #[test]
    fn the_storage_is_told_what_comes_some_of_it_at_a_time_and_no_more_than_was_written() {
        let storage = MemoryStorage::new();
        let mib = READ_BYTES as u64;
        let made = first_segment(&storage, 24 * mib);
        let first = made.first();
        let end = first + 15 * mib + GAP;
        let file = Sparse::new(&made.file, Some(0..end));
        let segment = file.segment(&made);
        let mut window = Window::new(&storage, &segment);
        for read in 0..16 {
            window.bytes(first + read * mib, 1).unwrap().unwrap();
        }
        let at = |mibs: u64| first + mibs * mib;
        assert_eq!(*lock(&file.told), [at(1)..at(9), at(9)..at(13), at(13)..end]);
        assert_eq!(file.read(), end - first);
    }

    #[test]
    fn far_from_what_never_was_written_a_storage_reads_as_it_likes() {
        let storage = MemoryStorage::new();
        let mib = READ_BYTES as u64;
        let made = first_segment(&storage, 24 * mib);
        // With a hole of that size at its end, is what lies so far before it read exactly?
        let is_exact = |hole, before| {
            let end = 24 * mib - hole;
            let file = Sparse::new(&made.file, Some(0..end));
            let segment = file.segment(&made);
            let mut window = Window::new(&storage, &segment);
            window.bytes(end - before, 1).unwrap().unwrap();
            file.is_exact.load(Ordering::Relaxed)
        };
        assert!(!is_exact(mib, mib) && is_exact(mib + 1, mib));
        assert!(is_exact(2 * mib, 16 * mib) && !is_exact(2 * mib, 16 * mib + 8));
    }

    /// Where a storage says that something never was written, and also that it was, nothing is passed over.
    #[test]
    fn a_header_is_seen_where_a_storage_contradicts_itself() {
        let edge = 3 * GAP;
        for at in (edge - 48..=edge + 16).step_by(ALIGNMENT) {
            let made = first_segment(&MemoryStorage::new(), CAPACITY);
            write_header(&made, at, GAP + 1);
            let file = Sparse::new(&made.file, [0..edge, edge..CAPACITY]);
            let segment = file.segment(&made);
            assert!(look(&segment, GAP).marked, "at {at}");
        }
    }

    /// A group that lay across the end of what was read at once was read twice, and as much behind it.
    #[test]
    fn who_goes_back_to_where_a_group_begins_has_each_byte_read_once() {
        let storage = MemoryStorage::new();
        let made = first_segment(&storage, CAPACITY);
        let mut pen = Pen::new(&made);
        let body = [7; 1000];
        let starts: Vec<u64> = std::iter::from_fn(|| {
            let at = pen.at;
            (at + 1_100 < CAPACITY).then(|| pen.record(KIND_USER_MIN, &body))?;
            Some(at)
        })
        .collect();
        let file = Sparse::new(&made.file, Some(0..CAPACITY));
        let segment = file.segment(&made);
        let mut window = Window::new(&storage, &segment);
        for group in starts.chunks(100) {
            window.keep(group[0]);
            let mut headers = Vec::new();
            for at in group {
                headers.push(window.record(*at, CAPACITY).unwrap().unwrap().0);
            }
            for header in headers {
                assert_eq!(window.body(&header).unwrap().unwrap(), body);
            }
        }
        assert_eq!(file.read(), CAPACITY - made.first());
    }

    /// A file that is read from the disk itself, as strictly as any disk wants it; and how many bytes were.
    #[derive(Debug)]
    struct Strict(Arc<dyn StorageFile>, AtomicU64);

    impl StorageFile for Strict {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let place = (buffer.as_ptr().addr() % DIRECT_BYTES, offset % DIRECT_BYTES as u64);
            assert_eq!((place, buffer.len() % DIRECT_BYTES), ((0, 0), 0));
            self.1.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            self.0.read_at(buffer, offset)
        }

        fn is_direct(&self) -> bool {
            true
        }

        fn read_ahead(&self, _: bool) {
            panic!("nothing is read ahead there");
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.0.write_at(bytes, offset)
        }

        fn truncate(&self, bytes: u64) -> io::Result<()> {
            self.0.truncate(bytes)
        }

        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_read_from_a_disk_begins_and_ends_where_that_can_be_asked() {
        let (storage, mib) = (MemoryStorage::new(), READ_BYTES);
        let made = first_segment(&storage, 32 * mib as u64);
        let mut pen = Pen::new(&made);
        let sizes = (0..3000).map(|number| match number {
            1000 => 9 * mib,
            2000 => 3 * mib + 5,
            number => number * 7919 % 5000,
        });
        let records: Vec<(u64, Vec<u8>)> = sizes
            .enumerate()
            .map(|(number, size)| {
                let (at, body) = (pen.at, vec![u8::try_from(number % 251).unwrap(); size]);
                pen.record(KIND_USER_MIN, &body);
                (at, body)
            })
            .collect();
        let file = Arc::new(Strict(Arc::clone(&made.file), AtomicU64::new(0)));
        let segment = Segment::new(made.header, Arc::clone(&file) as Arc<dyn StorageFile>);
        // In small groups, and in such as are not kept whole.
        for count in [1, 100, 2500] {
            // Over a buffer that was made for something else, and is no place for a disk to write to.
            let mut reader = Reader::default();
            reader.give_back(vec![0; 20 * mib].into());
            let mut window = Window::over(&storage, &segment, reader);
            let before = file.1.load(Ordering::Relaxed);
            for group in records.chunks(count) {
                window.keep(group[0].0);
                let mut headers = Vec::new();
                for (at, _) in group {
                    headers.push(window.record(*at, made.end()).unwrap().unwrap().0);
                }
                for (header, (_, body)) in headers.iter().zip(group) {
                    assert!(window.body(header).unwrap().unwrap() == body, "{header:?}");
                }
            }
            assert!(window.record(pen.at, made.end()).unwrap().is_none());
            // What one large record took is not kept for those that follow.
            let kept = window.into_reader().kept_bytes();
            assert!(kept <= 16 * mib, "{kept} bytes are kept");
            let read = file.1.load(Ordering::Relaxed) - before;
            // What was ever written there reaches to the segment's end, as far as this file knows.
            let all = made.end() - made.first();
            assert!(count == 2500 || read <= all, "{read} bytes of {all} were read");
        }
        let last = records[2999].0;
        let mut ahead = Ahead { gap: records[5].0, marked: false, last: 0 };
        Window::new(&storage, &segment).look(records[6].0, &mut ahead).unwrap();
        assert!(ahead.last > last && ahead.last <= pen.at);
    }

    #[test]
    fn records_are_read_one_by_one_and_nothing_else_is_a_record() {
        let storage = MemoryStorage::new();
        let segment = first_segment(&storage, CAPACITY);
        let mut pen = Pen::new(&segment);
        let bodies = [vec![1; 3], vec![2; READ_BYTES + 5], vec![], vec![4; 100]];
        for body in &bodies {
            pen.record(KIND_USER_MIN, body);
        }
        let mut window = Window::new(&storage, &segment);
        let mut position = segment.first();
        for body in &bodies {
            let end = position + space(body.len()) as u64;
            assert!(window.record(position, end - 8).unwrap().is_none(), "beyond the limit");
            assert!(window.record(position + 8, CAPACITY).unwrap().is_none());
            let (header, read) = window.record(position, end).unwrap().unwrap();
            assert_eq!(
                (header.position, header.space(), read),
                (position, end - position, &**body)
            );
            position = end;
        }
        assert!(window.record(position, CAPACITY).unwrap().is_none());
        segment.file.truncate(position - 8).unwrap();
        let mut window = Window::new(&storage, &segment);
        let last = position - space(100) as u64;
        assert!(window.record(last, CAPACITY).unwrap().is_none(), "its body is cut off");
    }

    #[test]
    fn a_body_that_is_not_the_one_of_its_header_is_no_record() {
        let storage = MemoryStorage::new();
        let segment = first_segment(&storage, CAPACITY);
        Pen::new(&segment).record(KIND_USER_MIN, b"body");
        segment.file.write_at(b"B", segment.first() + HEADER_BYTES as u64).unwrap();
        let mut window = Window::new(&storage, &segment);
        assert!(window.record(segment.first(), CAPACITY).unwrap().is_none());
    }

    #[test]
    fn a_record_of_which_there_can_be_none_is_damage_and_named_before_it_is_read() {
        let storage = MemoryStorage::new();
        let segment = Segment::create(&storage, first_header(4 << 30)).unwrap();
        let pen = Pen::new(&segment);
        let body_len = u32::try_from(BODY_BYTES_MAX + 1).unwrap();
        let header = Header { body_len, ..pen.header(KIND_USER_MIN, b"", false) };
        let bytes = header.encode(segment.header.salt);
        segment.file.write_at(&bytes, segment.offset(pen.at)).unwrap();
        let mut window = Window::new(&storage, &segment);
        let error = window.record(pen.at, segment.end()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(error.path(), Some(storage.path().join(segment.name()).as_path()));
    }
}
