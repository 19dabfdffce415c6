//! Marks: which messages are being handled right now, in memory that outlives the process.
//!
//! A mark is set before a handler is entered and cleared when its attempt has ended, a million times a second if need
//! be, so it costs a few stores and no system call: on disk the table is a file mapped into memory, whose pages are the
//! kernel's and survive the process. They need not survive the machine, because a handler can kill its process and not
//! the kernel.
//!
//! ```text
//! offset  bytes
//!      0      8  token of the lease
//!      8      8  id of the message
//!     16      4  number of the attempt
//!     20      4  zero
//!     24      8  check: the three above, mixed; anything else means that the mark is not set
//! ```
//!
//! Setting a mark clears the check first and writes it last, so a mark cut off in the middle is not set, which is right:
//! the handler was not entered yet. The same holds for whatever else a disk may make of the bytes. A mark that is lost
//! costs a suspicion, never a message.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a mark.
const MARK_BYTES: usize = 32;
const MARK_WORDS: usize = MARK_BYTES / size_of::<u64>();

/// Marks that come into being together.
pub(super) const CHUNK_MARKS: usize = 2048;

/// Bytes of that many.
pub(super) const CHUNK_BYTES: usize = CHUNK_MARKS * MARK_BYTES;

/// Memory of one chunk: `CHUNK_BYTES` of it, zero where nothing was written.
pub type MarkMemory = Box<dyn Deref<Target = [AtomicU64]> + Send + Sync>;

/// Where marks have their memory from.
pub(super) trait Ground: Send + Sync {
    /// The memory of a chunk.
    fn chunk(&self, number: usize) -> io::Result<MarkMemory>;

    /// Lets go of what that takes: none is asked for any more.
    fn let_go(&self) {}
}

impl<F: Fn(usize) -> io::Result<MarkMemory> + Send + Sync> Ground for F {
    fn chunk(&self, number: usize) -> io::Result<MarkMemory> {
        self(number)
    }
}

/// A message that is being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The token of its lease.
    pub token: u64,
    /// Its id.
    pub id: u64,
    /// The number of the attempt.
    pub attempt: u32,
}

/// A table of marks by number. Who sets and clears a mark is the only one to use its number.
pub struct Marks {
    path: PathBuf,
    chunks: Box<[OnceLock<MarkMemory>]>,
    ground: Box<dyn Ground>,
}

impl Marks {
    /// A table of at most `count` marks, which `ground` gives memory, chunk by chunk; the chunks that are `there` are made at
    /// once, and count on top. `path` is what errors name.
    pub(super) fn new(
        path: impl Into<PathBuf>,
        count: usize,
        there: &[usize],
        ground: impl Ground + 'static,
    ) -> io::Result<Self> {
        let last = there.iter().max().map_or(0, |last| last + 1);
        let chunks = count.div_ceil(CHUNK_MARKS).max(last);
        let marks = Self {
            path: path.into(),
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            ground: Box::new(ground),
        };
        for number in there {
            marks.chunk(*number)?;
        }
        Ok(marks)
    }

    /// A table of at most `count` marks in plain memory.
    pub fn in_memory(count: usize) -> io::Result<Self> {
        Self::new(":memory:", count, &[], |_| {
            let words: Vec<AtomicU64> =
                (0..CHUNK_MARKS * MARK_WORDS).map(|_| AtomicU64::new(0)).collect();
            Ok(Box::new(words) as MarkMemory)
        })
    }

    /// The file, for error texts.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets a mark. In order: whoever reads the table after the death of this process finds it set.
    ///
    /// # Errors
    /// Where the table has no room for this number, and can be given none.
    pub fn set(&self, number: u32, mark: Mark) -> io::Result<()> {
        let number = number as usize;
        let chunk = self.chunk(number / CHUNK_MARKS)?;
        if let Some([token, id, attempt, check]) = words(chunk, number % CHUNK_MARKS) {
            // Release: the kernel's pages take stores in the order of the program, and the compiler must keep it.
            check.store(0, Ordering::Release);
            token.store(mark.token.to_le(), Ordering::Release);
            id.store(mark.id.to_le(), Ordering::Release);
            attempt.store(u64::from(mark.attempt).to_le(), Ordering::Release);
            check.store(mark.check().to_le(), Ordering::Release);
        }
        Ok(())
    }

    /// Clears a mark that was set.
    pub fn clear(&self, number: u32) {
        let number = number as usize;
        let chunk = self.chunks.get(number / CHUNK_MARKS).and_then(OnceLock::get);
        if let Some([.., check]) = chunk.and_then(|chunk| words(chunk, number % CHUNK_MARKS)) {
            check.store(0, Ordering::Release);
        }
    }

    /// All marks that are set.
    pub fn all(&self) -> Vec<Mark> {
        let chunks = self.chunks.iter().filter_map(OnceLock::get);
        chunks
            .flat_map(|chunk| (0..CHUNK_MARKS).filter_map(move |place| read(words(chunk, place)?)))
            .collect()
    }

    /// Clears all marks.
    pub fn clear_all(&self) {
        for chunk in self.chunks.iter().filter_map(OnceLock::get) {
            for [.., check] in (0..CHUNK_MARKS).filter_map(|place| words(chunk, place)) {
                check.store(0, Ordering::Release);
            }
        }
    }

    /// Lets go of the file, if there is one: the table grows no more. What is marked stays so, and can be cleared.
    pub fn let_go(&self) {
        self.ground.let_go();
    }

    fn chunk(&self, number: usize) -> io::Result<&MarkMemory> {
        let chunk = self.chunks.get(number).ok_or(io::ErrorKind::OutOfMemory)?;
        if let Some(memory) = chunk.get() {
            return Ok(memory);
        }
        // Two threads may both make it: the second one's memory is the same file's, and is let go.
        let memory = self.ground.chunk(number)?;
        Ok(chunk.get_or_init(|| memory))
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.chunks.iter().filter(|chunk| chunk.get().is_some()).count();
        write!(f, "Marks({made} chunks)")
    }
}

impl Mark {
    /// Never zero, and hardly ever what other bytes happen to hold.
    fn check(&self) -> u64 {
        let mix =
            |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        [self.token, self.id, self.attempt.into()].into_iter().fold(0x006c_6962_6d71, mix) | 1
    }
}

fn words(chunk: &MarkMemory, place: usize) -> Option<&[AtomicU64; MARK_WORDS]> {
    chunk.get(place * MARK_WORDS..)?.first_chunk()
}

fn read(words: &[AtomicU64; MARK_WORDS]) -> Option<Mark> {
    // Nearly all are clear, and a check is never zero.
    if words.last()?.load(Ordering::Acquire) == 0 {
        return None;
    }
    let [token, id, attempt, check] =
        words.each_ref().map(|word| u64::from_le(word.load(Ordering::Acquire)));
    let mark = Mark { token, id, attempt: attempt.try_into().ok()? };
    (mark.check() == check).then_some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { token: 7 << 40 | 3, id: 4096, attempt: 2 };

    #[test]
    fn marks_are_set_found_and_cleared() {
        let marks = Marks::in_memory(10_000).unwrap();
        assert_eq!(marks.all(), []);
        marks.set(0, MARK).unwrap();
        marks.set(5000, Mark { id: 9, ..MARK }).unwrap();
        assert_eq!(marks.all(), [MARK, Mark { id: 9, ..MARK }]);
        marks.clear(0);
        assert_eq!(marks.all(), [Mark { id: 9, ..MARK }]);
        marks.clear_all();
        assert_eq!(marks.all(), []);
    }

    #[test]
    fn any_changed_bit_unsets_a_mark() {
        let marks = Marks::in_memory(1).unwrap();
        for bit in 0..MARK_BYTES * 8 {
            marks.set(0, MARK).unwrap();
            let words = words(marks.chunk(0).unwrap(), 0).unwrap();
            words[bit / 64].fetch_xor(1 << (bit % 64), Ordering::Relaxed);
            assert_eq!(marks.all(), [], "bit {bit}");
        }
    }

    #[test]
    fn there_is_no_mark_beyond_the_table() {
        let marks = Marks::in_memory(CHUNK_MARKS).unwrap();
        let beyond = u32::try_from(CHUNK_MARKS).unwrap();
        assert!(marks.set(beyond, MARK).is_err());
        marks.clear(beyond);
        marks.clear(u32::MAX);
    }
}
