//! Holds: a number for every message that is held, and under that number its mark.
//!
//! The mark is what tells the next opening of the broker that the message was being handled when this process died. It
//! is set before anybody sees the message, and cleared when its attempt has ended.

use super::slot::NONE;
use crate::error::{Error, Result};
use crate::storage::{Mark, Marks};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, CachePadded, Mutex, lock};

/// The numbers of held messages.
#[derive(Debug)]
pub(crate) struct Holds {
    marks: Arc<Marks>,
    /// The number that was given back last, or [`NONE`]: mostly it is wanted next. Acquire and release, so that who takes it
    /// comes behind who gave it.
    last: CachePadded<AtomicU32>,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    free: Vec<u32>,
    /// Numbers from here on were never given.
    fresh: u32,
}

impl Holds {
    pub(crate) fn new(marks: Arc<Marks>) -> Self {
        let last = CachePadded::new(AtomicU32::new(NONE));
        Self { marks, last, numbers: Mutex::default() }
    }

    /// A number for this message, its mark set.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO`: the marks have no room for one more.
    pub(crate) fn take(&self, mark: Mark) -> Result<u32> {
        let number = match self.last.swap(NONE, Ordering::AcqRel) {
            NONE => self.number(),
            last => last,
        };
        self.marks.set(number, mark).map_err(|cause| {
            // Those that were given before have their room, so they are given first.
            lock(&self.numbers).free.insert(0, number);
            Error::storage("make room for the marks in", self.marks.path(), &cause)
        })?;
        Ok(number)
    }

    /// The message of this number is held no more.
    pub(crate) fn give(&self, number: u32) {
        self.marks.clear(number);
        match self.last.swap(number, Ordering::AcqRel) {
            NONE => {}
            before => lock(&self.numbers).free.push(before),
        }
    }

    /// A number that is not in use, and that nobody gave back just now.
    fn number(&self) -> u32 {
        let mut numbers = lock(&self.numbers);
        numbers.free.pop().unwrap_or_else(|| {
            numbers.fresh += 1;
            numbers.fresh - 1
        })
    }

    /// The message of this number is in nobody's hands, though it was not given back: nobody is to suspect it.
    pub(crate) fn unmark(&self, number: u32) {
        self.marks.clear(number);
    }

    /// As [`Holds::unmark`], for all there are.
    pub(crate) fn unmark_all(&self) {
        self.marks.clear_all();
    }

    /// Lets go of the marks' file: nothing is held any more.
    pub(crate) fn let_go(&self) {
        self.marks.let_go();
    }

    /// All numbers that were ever given.
    pub(crate) fn given(&self) -> std::ops::Range<u32> {
        0..lock(&self.numbers).fresh
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::storage::{DiskStorage, Storage};

    /// The error named `:memory:`, whatever directory it was about.
    #[test]
    fn where_there_is_no_room_for_a_mark_the_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let storage = DiskStorage::new(dir.path());
        let holds = Holds::new(storage.marks(1).unwrap());
        let mark = Mark { token: 1 << 40 | 1, id: 4096, attempt: 1 };
        let error = (0..10_000).find_map(|_| holds.take(mark).err()).unwrap();
        assert_eq!(error.path(), Some(dir.path().join("marks").as_path()));
        assert!(holds.take(mark).is_err());
        holds.give(7);
        assert_eq!(holds.take(mark).unwrap(), 7, "there is room for that one");
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::storage::{MemoryStorage, Storage};
    use crate::sync::explore;

    const MARK: Mark = Mark { token: 1 << 40 | 1, id: 4096, attempt: 1 };

    /// Of those that hold something at once each has a number of its own, and no number is lost.
    #[test]
    fn loom_no_two_hold_one_number() {
        explore(3, || {
            let holds = Arc::new(Holds::new(MemoryStorage::new().marks(4).unwrap()));
            let held: Arc<[AtomicU32; 3]> = Arc::new(std::array::from_fn(|_| AtomicU32::new(0)));
            let holder = || {
                let (holds, held) = (Arc::clone(&holds), Arc::clone(&held));
                move || {
                    for _ in 0..2 {
                        let number = holds.take(MARK).unwrap();
                        assert_eq!(held[number as usize].fetch_add(1, Ordering::Relaxed), 0);
                        held[number as usize].fetch_sub(1, Ordering::Relaxed);
                        holds.give(number);
                    }
                }
            };
            let other = thread::spawn(holder());
            holder()();
            other.join().unwrap();
            let given = holds.given().len();
            assert!(given <= 2);
            let all = [(); 2].map(|()| holds.take(MARK).unwrap());
            assert!(all[0] != all[1] && holds.given().len() == 2);
        });
    }
}
