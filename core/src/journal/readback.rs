//! Reading back: records that have left the cache, from their segments, and checked.
//!
//! What waits longest is mostly taken in its order. Whoever reads behind where somebody has read before reads ahead, so
//! that one call of the system brings hundreds of small records. Several go through the log at once, each along a *track*.
//!
//! A track is believed only where it checks: it may have been read before a record was written there. Else the file is
//! asked.

use super::checksum::checksum;
use super::chunk::Bytes;
use super::record::{BODY_BYTES_MAX, HEADER_BYTES, Header};
use super::segment::Segment;
use crate::error::{Error, Result};
use crate::memory;
use crate::storage::Storage;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, try_lock};

/// Tracks that there are.
const TRACKS: usize = 4;

/// Bytes that are read where nobody has read before it.
const FIRST_BYTES: usize = 4 << 10;

/// Bytes that are read ahead, and how far from the last ones counts as behind them.
const AHEAD_BYTES: usize = 64 << 10;

/// Reads records back.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    /// Each is held by who reads along it. Nobody waits for one.
    tracks: [Mutex<Track>; TRACKS],
    /// Which track is given up next. Relaxed: any will do.
    turn: AtomicUsize,
}

/// Bytes of a segment from a position on, as they were when they were read.
#[derive(Debug, Default)]
struct Track {
    start: u64,
    bytes: Vec<u8>,
}

impl ReadBack {
    /// The body of the record at this position of this segment, and its kind.
    ///
    /// # Errors
    /// `CORRUPT` where the bytes on disk are not that record; `IO`.
    pub(super) fn read(
        &self,
        storage: &dyn Storage,
        segment: &Segment,
        position: u64,
    ) -> Result<(u8, Bytes)> {
        let found = self.along_a_track(segment, position);
        found.map_or_else(|| read_record(storage, segment, position), Ok)
    }

    fn along_a_track(&self, segment: &Segment, position: u64) -> Option<(u8, Bytes)> {
        for mut track in self.tracks.iter().filter_map(try_lock) {
            if let Some(found) = track.record(segment, position) {
                return Some(found);
            }
            if track.leads_to(position) {
                track.read(segment, position, AHEAD_BYTES);
                return track.record(segment, position);
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % TRACKS;
        let mut track = self.tracks.get(turn).and_then(try_lock)?;
        track.read(segment, position, FIRST_BYTES);
        track.record(segment, position)
    }
}

impl Track {
    /// Whether a position is in what was read, or not far behind it.
    fn leads_to(&self, position: u64) -> bool {
        let end = self.start + self.bytes.len() as u64;
        (self.start..end + AHEAD_BYTES as u64).contains(&position) && end > 0
    }

    /// Reads so many bytes at `position`, if there are. What cannot be read is asked for again, by who tells of it.
    fn read(&mut self, segment: &Segment, position: u64, count: usize) {
        self.start = position;
        let left = usize::try_from(segment.end().saturating_sub(position)).unwrap_or(count);
        self.bytes.resize(count.min(left), 0);
        let got = segment.file.read_at(&mut self.bytes, segment.offset(position)).unwrap_or(0);
        self.bytes.truncate(got);
    }

    /// The record at `position`, if it is here whole and checks.
    fn record(&self, segment: &Segment, position: u64) -> Option<(u8, Bytes)> {
        let at = usize::try_from(position.checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get(at..)?;
        let header = Header::decode(bytes.first_chunk()?, position, segment.header.salt)?;
        let body = bytes.get(HEADER_BYTES..)?.get(..usize::try_from(header.body_len).ok()?)?;
        if checksum(body) != header.body_checksum {
            return None;
        }
        let mut own = memory::with_room(body.len()).ok()?;
        own.extend_from_slice(body);
        Some((header.kind, Bytes::Owned(Arc::new(own))))
    }
}

/// Reads a record from its segment and checks it.
pub(crate) fn read_record(
    storage: &dyn Storage,
    segment: &Segment,
    position: u64,
) -> Result<(u8, Bytes)> {
    let path = || storage.path().join(segment.name());
    let offset = segment.offset(position);
    let fill = |bytes: &mut [u8], offset: u64| match segment.file.read_at(bytes, offset) {
        Ok(got) if got == bytes.len() => Ok(()),
        Ok(_) => Err(Error::corrupt(path(), offset, "the file ends inside a record")),
        Err(cause) => Err(Error::io("read", path(), &cause)),
    };
    let mut header = [0; HEADER_BYTES];
    fill(&mut header, offset)?;
    let header = Header::decode(&header, position, segment.header.salt)
        .filter(|header| offset + header.space() <= segment.header.capacity)
        .filter(|header| header.body_len as usize <= BODY_BYTES_MAX)
        .ok_or_else(|| {
            Error::corrupt(path(), offset, "a record's header does not match its checksum")
        })?;
    let mut body = memory::zeros(header.body_len as usize)?;
    fill(&mut body, offset + HEADER_BYTES as u64)?;
    if checksum(&body) != header.body_checksum {
        return Err(Error::corrupt(path(), offset, "a record's body does not match its checksum"));
    }
    Ok((header.kind, Bytes::Owned(Arc::new(body))))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::journal::by_hand::{Pen, first_segment};
    use crate::journal::record::{KIND_USER_MIN, space};
    use crate::storage::{MemoryStorage, StorageFile};

    const CAPACITY: u64 = 8 << 20;

    /// A file that counts how often it is read.
    #[derive(Debug)]
    struct Counted {
        file: Arc<dyn StorageFile>,
        reads: AtomicU64,
    }

    impl StorageFile for Counted {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.file.read_at(buffer, offset)
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

    /// A segment with records in it, and where they are.
    struct Log {
        storage: MemoryStorage,
        file: Arc<Counted>,
        segment: Arc<Segment>,
        readback: ReadBack,
    }

    impl Log {
        fn new() -> Self {
            let storage = MemoryStorage::new();
            let made = first_segment(&storage, CAPACITY);
            let file = Arc::new(Counted { file: Arc::clone(&made.file), reads: AtomicU64::new(0) });
            let opened = Arc::clone(&file) as Arc<dyn StorageFile>;
            let segment = Arc::new(Segment::new(made.header, opened));
            Self { storage, file, segment, readback: ReadBack::default() }
        }

        /// The body at a position, and how many reads that took.
        fn read(&self, position: u64) -> Result<(Vec<u8>, u64)> {
            let before = self.file.reads.load(Ordering::Relaxed);
            let (kind, body) = self.readback.read(&self.storage, &self.segment, position)?;
            assert_eq!(kind, KIND_USER_MIN);
            Ok((body.to_vec(), self.file.reads.load(Ordering::Relaxed) - before))
        }
    }

    fn body(number: u64) -> Vec<u8> {
        format!("{number:0100}").into_bytes()
    }

    #[test]
    fn what_comes_in_order_is_read_ahead_along_several_tracks() {
        let log = Log::new();
        let mut pen = Pen::new(&log.segment);
        let first = pen.at;
        (0..20_000).for_each(|number| pen.record(KIND_USER_MIN, &body(number)));
        let place = |number: u64| first + number * space(100) as u64;
        let mut reads = 0;
        for number in 0..5_000 {
            // Each track skips some.
            for number in [number, 5_000 + number, 10_000 + 2 * number] {
                let (read, took) = log.read(place(number)).unwrap();
                assert_eq!(read, body(number));
                reads += took;
            }
        }
        assert!(reads < 100, "{reads}");
    }

    #[test]
    fn who_jumps_about_reads_little_and_once() {
        let log = Log::new();
        let mut pen = Pen::new(&log.segment);
        let first = pen.at;
        (0..40_000).for_each(|number| pen.record(KIND_USER_MIN, &body(number)));
        for number in (0..40).rev() {
            let number = number * 1000;
            assert_eq!(log.read(first + number * space(100) as u64).unwrap(), (body(number), 1));
        }
    }

    #[test]
    fn large_bodies_are_read_whole() {
        let log = Log::new();
        let mut pen = Pen::new(&log.segment);
        let bodies = [5_000, 200_000, 100, 70_000, 0].map(|bytes| vec![7; bytes]);
        let places = bodies.each_ref().map(|body| {
            let at = pen.at;
            pen.record(KIND_USER_MIN, body);
            at
        });
        for _ in 0..2 {
            for (body, place) in bodies.iter().zip(places) {
                assert_eq!(log.read(place).unwrap().0, *body);
            }
        }
    }

    #[test]
    fn what_was_written_since_is_found() {
        let log = Log::new();
        let mut pen = Pen::new(&log.segment);
        let first = pen.at;
        pen.record(KIND_USER_MIN, &body(0));
        assert_eq!(log.read(first).unwrap().0, body(0));
        let second = pen.at;
        pen.record(KIND_USER_MIN, &body(1));
        assert_eq!(log.read(second).unwrap().0, body(1));
    }

    #[test]
    fn what_is_no_record_is_corrupt_whoever_has_read_there() {
        let log = Log::new();
        let mut pen = Pen::new(&log.segment);
        let first = pen.at;
        pen.record(KIND_USER_MIN, &body(0));
        let second = pen.at;
        pen.record(KIND_USER_MIN, &body(1));
        log.segment.file.write_at(b"x", second + HEADER_BYTES as u64).unwrap();
        assert_eq!(log.read(first).unwrap().0, body(0));
        let error = log.read(second).unwrap_err();
        assert!(error.to_string().contains("a record's body does not match"), "{error}");
        let error = log.read(second + 8).unwrap_err();
        assert!(error.to_string().contains("a record's header does not match"), "{error}");
    }
}
