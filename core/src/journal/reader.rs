//! A thread that reads what comes next of a segment, while what came before is walked through.
//!
//! From the disk itself the system reads nothing ahead, and to wait for each piece would be a quarter of a recovery.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::segment::Segment;
use super::stretch::{Stretch, pages_for_a_disk, suit_a_disk};
use crate::pages::Pages;
use crate::storage::{DIRECT_BYTES, StorageFile};
use crate::sync::Arc;
use crate::thread::spawn_quiet;

/// Bytes that are read at once.
pub(super) const PIECE_BYTES: usize = 2 << 20;

/// So much room is before a piece, for what is still asked for of the one before: then that one's pages are free.
const ROOM_BYTES: usize = 2 << 20;

/// Pieces that are on their way: the disk has another one to read while somebody wakes for the last one.
const PIECES_AHEAD: usize = 2;

/// Reads pieces of a segment, one behind the other.
#[derive(Default)]
pub(super) struct Reader {
    /// Started when the first piece is asked for.
    thread: Option<Thread>,
    /// How many pieces are on their way.
    coming: usize,
    /// The position behind the last of them.
    end: u64,
    /// What can be read into, some of it by a disk.
    free: Vec<Pages<u8>>,
}

/// A thread, and the ways to it.
struct Thread {
    /// None once it is to end.
    requests: Option<Sender<Request>>,
    answers: Receiver<(Stretch, io::Result<()>)>,
    handle: Option<JoinHandle<()>>,
}

/// So many bytes of a file, to be read behind a stretch.
struct Request {
    file: Arc<dyn StorageFile>,
    offset: u64,
    count: usize,
    stretch: Stretch,
}

impl Reader {
    /// Pages that were given back last, or none.
    pub(super) fn pages(&mut self) -> Pages<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// Takes pages back. Those that had to be longer than a piece for one large record are let go of.
    pub(super) fn give_back(&mut self, pages: Pages<u8>) {
        if pages.len() <= ROOM_BYTES + PIECE_BYTES {
            self.free.push(pages);
        }
    }

    /// Lets go of all memory that it has.
    pub(super) fn let_go(&mut self) {
        self.forget();
        self.free.clear();
    }

    /// Has read what comes behind all that is on its way, or at `position`, and before `until`; as much as there are pages for.
    /// Where no thread is to be had it reads nothing, and whoever wants it does.
    pub(super) fn read_ahead(&mut self, segment: &Segment, position: u64, until: u64) {
        if self.coming == 0 {
            self.end = position;
        }
        while self.coming < PIECES_AHEAD && self.end < until {
            if self.thread.is_none() {
                self.thread = Thread::start().ok();
            }
            let requests = self.thread.as_ref().and_then(|thread| thread.requests.clone());
            let Some(requests) = requests else { return };
            let Some(pages) = self.pages_for_a_disk() else { return };
            let count = usize::try_from(until - self.end).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let request = Request {
                file: Arc::clone(&segment.file),
                offset: segment.offset(self.end),
                count: count.next_multiple_of(DIRECT_BYTES),
                stretch: Stretch::new(pages, ROOM_BYTES, self.end),
            };
            if requests.send(request).is_err() {
                return;
            }
            self.coming += 1;
            self.end += count as u64;
        }
    }

    /// What was read at `position`; what is on its way before that, or all if that is not, is wanted no more.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn piece(&mut self, position: u64) -> io::Result<Option<Stretch>> {
        while let Some((stretch, read)) = self.answer() {
            if stretch.start() == position {
                return read.map(|()| Some(stretch));
            }
            self.free.push(stretch.into_pages());
        }
        Ok(None)
    }

    /// Waits for all that is on its way, for nothing.
    pub(super) fn forget(&mut self) {
        while let Some((stretch, _)) = self.answer() {
            self.free.push(stretch.into_pages());
        }
    }

    /// The first of what is on its way.
    fn answer(&mut self) -> Option<(Stretch, io::Result<()>)> {
        self.coming = self.coming.checked_sub(1)?;
        self.thread.as_ref()?.answers.recv().ok()
    }

    /// Bytes of what it has to read into.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.free.iter().map(|pages| pages.len()).sum()
    }

    /// Pages that a piece has room in.
    fn pages_for_a_disk(&mut self) -> Option<Pages<u8>> {
        let length = ROOM_BYTES + PIECE_BYTES;
        let suits = |pages: &Pages<u8>| pages.len() >= length && suit_a_disk(pages);
        match self.free.iter().position(suits) {
            Some(found) => Some(self.free.swap_remove(found)),
            None => pages_for_a_disk(length),
        }
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let (requests, asked) = channel();
        let (answer, answers) = channel();
        let work = move || {
            for Request { file, offset, count, mut stretch } in asked {
                let read = stretch.read(count, |place| file.read_at(place, offset));
                if answer.send((stretch, read)).is_err() {
                    return;
                }
            }
        };
        let handle = Some(spawn_quiet("libmq-read", work)?);
        Ok(Self { requests: Some(requests), answers, handle })
    }
}

impl Drop for Thread {
    /// No file is read any more behind whoever had it read.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(handle) = self.handle.take() {
            // Had it panicked, what it has not read would have been read by who wants it.
            let _ = handle.join();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::journal::by_hand::first_header;
    use crate::sync::{Mutex, lock};

    const MIB: u64 = 1 << 20;

    /// A file whose bytes tell their offset, but from some offset on, where it cannot be read.
    #[derive(Debug, Default)]
    struct Counting {
        damaged_from: Option<u64>,
        /// Where it was read.
        asked: Mutex<Vec<(u64, usize)>>,
    }

    impl StorageFile for Counting {
        fn len(&self) -> io::Result<u64> {
            Ok(u64::MAX)
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            lock(&self.asked).push((offset, buffer.len()));
            if self.damaged_from.is_some_and(|from| offset >= from) {
                return Err(io::Error::other("the disk is damaged"));
            }
            buffer.fill(told_at(offset));
            Ok(buffer.len())
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told_at(offset: u64) -> u8 {
        u8::try_from(offset / 4096 % 251).unwrap_or(0)
    }

    fn segment(file: &Arc<Counting>) -> Segment {
        Segment::new(first_header(64 * MIB), Arc::clone(file) as _)
    }

    #[test]
    fn pieces_come_in_order_each_read_once_and_none_beyond_what_was_asked() {
        let file = Arc::new(Counting::default());
        let segment = segment(&file);
        let (first, piece) = (segment.first(), PIECE_BYTES as u64);
        let until = first + 4 * piece + 5;
        let mut reader = Reader::default();
        let mut at = first;
        while at < until {
            reader.read_ahead(&segment, at, until);
            let read = reader.piece(at).unwrap().unwrap();
            assert_eq!(read.get(at, 1), Some(&[told_at(segment.offset(at))][..]));
            at += piece;
            assert_eq!(read.end(), at.min(first + 4 * piece + DIRECT_BYTES as u64));
            reader.give_back(read.into_pages());
        }
        reader.read_ahead(&segment, at, until);
        assert!(reader.piece(at).unwrap().is_none());
        // It takes no more memory than it has on its way: 2 MiB each, and as much room before them.
        assert_eq!(reader.kept_bytes(), 2 * (4 << 20));
        let asked = lock(&file.asked).clone();
        let whole = (0..4).map(|number| (segment.offset(first) + number * piece, PIECE_BYTES));
        let last = (segment.offset(first) + 4 * piece, DIRECT_BYTES);
        assert_eq!(asked, whole.chain([last]).collect::<Vec<_>>());
    }

    /// What came back may be an allocator's, as it is for a large record that is read by way of the system's memory.
    #[test]
    fn a_disk_reads_into_pages_of_its_own_kind() {
        let segment = segment(&Arc::default());
        let mut reader = Reader::default();
        reader.give_back(vec![0; 4 << 20].into());
        reader.read_ahead(&segment, segment.first(), segment.end());
        let read = reader.piece(segment.first()).unwrap().unwrap();
        assert_eq!(read.into_pages().as_ptr().addr() % DIRECT_BYTES, 0);
    }

    #[test]
    fn what_nobody_goes_on_to_is_let_go_of() {
        let file = Arc::new(Counting::default());
        let segment = segment(&file);
        let (first, piece) = (segment.first(), PIECE_BYTES as u64);
        let mut reader = Reader::default();
        reader.read_ahead(&segment, first, segment.end());
        // The second one is there, too; the first one is passed over.
        assert_eq!(reader.piece(first + piece).unwrap().unwrap().start(), first + piece);
        reader.read_ahead(&segment, first, segment.end());
        assert!(reader.piece(first + 1).unwrap().is_none());
        reader.read_ahead(&segment, first + 8 * piece, segment.end());
        reader.forget();
        assert!(reader.piece(first + 8 * piece).unwrap().is_none());
        assert!(reader.kept_bytes() > 0);
        reader.read_ahead(&segment, first, segment.end());
        reader.let_go();
        assert_eq!((reader.kept_bytes(), reader.coming), (0, 0));
        drop(reader);
        assert_eq!(Arc::strong_count(&file), 2, "its thread has ended");
    }

    /// A disk that is damaged behind the end of a log refuses nobody who reads the log.
    #[test]
    fn what_cannot_be_read_is_told_to_who_wants_it() {
        let from = 4096 + PIECE_BYTES as u64;
        let file = Arc::new(Counting { damaged_from: Some(from), ..Counting::default() });
        let segment = segment(&file);
        let first = segment.first();
        let mut reader = Reader::default();
        reader.read_ahead(&segment, first, segment.end());
        let read = reader.piece(first).unwrap().unwrap();
        assert_eq!(segment.offset(read.end()), from);
        let error = reader.piece(read.end()).err().unwrap();
        assert_eq!(error.to_string(), "the disk is damaged");
        reader.read_ahead(&segment, first, segment.end());
        reader.forget();
    }
}
