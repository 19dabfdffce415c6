//! A stretch of a segment, in memory.

use std::io;
use std::ops::Range;

use crate::error::Result;
use crate::memory;
use crate::pages::{LARGE_BYTES, Pages};
use crate::storage::DIRECT_BYTES;

/// Pages are at least so much longer than they have to be.
const SPARE_BYTES: usize = 65_536;

/// Bytes of a segment, one behind the other.
pub(super) struct Stretch {
    pages: Pages<u8>,
    /// Where in the pages they are; what is beside them means nothing.
    place: Range<usize>,
    /// The position of the first one.
    start: u64,
}

impl Stretch {
    /// None yet: they are to begin at this position, in these pages behind so much room.
    pub(super) fn new(pages: Pages<u8>, room: usize, start: u64) -> Self {
        Self { pages, place: room..room, start }
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The position behind the last one.
    pub(super) fn end(&self) -> u64 {
        self.start + self.place.len() as u64
    }

    /// Its pages, for another one.
    pub(super) fn into_pages(self) -> Pages<u8> {
        self.pages
    }

    /// So many bytes at `position`, if all of them are there.
    pub(super) fn get(&self, position: u64, count: usize) -> Option<&[u8]> {
        self.pages.get(self.find(position, count)?)
    }

    /// All bytes from `position` on.
    pub(super) fn get_from(&self, position: u64) -> Option<&[u8]> {
        self.pages.get(self.find(position, 0)?.start..self.place.end)
    }

    /// Where in the pages so many bytes at `position` are.
    pub(super) fn find(&self, position: u64, count: usize) -> Option<Range<usize>> {
        let from = usize::try_from(position.checked_sub(self.start)?).ok()?;
        let at = self.place.start.checked_add(from)?;
        let end = at.checked_add(count)?;
        (end <= self.place.end).then_some(at..end)
    }

    /// Lets go of what is before `position`; where that is not there, of all, and it is to begin there.
    pub(super) fn begin_at(&mut self, position: u64) {
        match self.find(position, 0) {
            Some(found) => (self.place.start, self.start) = (found.start, position),
            None => self.restart(position),
        }
    }

    /// Lets go of all; it is to begin at `position`.
    pub(super) fn restart(&mut self, position: u64) {
        (self.place, self.start) = (0..0, position);
    }

    /// Goes on with what comes right behind it, and answers the pages that are left over.
    ///
    /// # Errors
    /// `NO_MEMORY`.
    pub(super) fn go_on(&mut self, mut next: Self) -> Result<Pages<u8>> {
        debug_assert_eq!(self.end(), next.start, "a stretch in between is missing");
        if let Some(room) = next.place.start.checked_sub(self.place.len()) {
            let before = next.pages.get_mut(room..next.place.start).unwrap_or_default();
            before.copy_from_slice(self.pages.get(self.place.clone()).unwrap_or_default());
            (next.place.start, next.start) = (room, self.start);
            std::mem::swap(self, &mut next);
        } else {
            let count = next.place.len();
            // A group is put together piece by piece, and is not to be moved for each.
            let room = count.max(self.place.len() / 2);
            if !self.make_room_for_a_disk(room) {
                self.make_room(count)?;
            }
            let behind = self.place.end..self.place.end + count;
            let behind = self.pages.get_mut(behind).unwrap_or_default();
            behind.copy_from_slice(next.pages.get(next.place.clone()).unwrap_or_default());
            self.place.end += count;
        }
        Ok(next.pages)
    }

    /// Has so many bytes behind it read, for which there is room; takes as many as there were.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn read(
        &mut self,
        count: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let behind = self.place.end..self.place.end + count;
        self.place.end += read(self.pages.get_mut(behind).unwrap_or_default())?.min(count);
        Ok(())
    }

    /// Puts so many zeros behind it.
    ///
    /// # Errors
    /// `NO_MEMORY`.
    pub(super) fn add_zeros(&mut self, count: usize) -> Result<()> {
        self.make_room(count)?;
        let behind = self.place.end..self.place.end + count;
        self.pages.get_mut(behind).unwrap_or_default().fill(0);
        self.place.end += count;
        Ok(())
    }

    /// Makes room for so many bytes behind it.
    ///
    /// # Errors
    /// `NO_MEMORY`.
    pub(super) fn make_room(&mut self, count: usize) -> Result<()> {
        self.move_to_front();
        let length = self.place.len() + count;
        if self.pages.len() < length {
            let longer = memory::zeros(length + SPARE_BYTES)?;
            self.move_to(longer.into());
        }
        Ok(())
    }

    /// Makes room for so many bytes behind it, such as a disk may write into; answers whether there is that.
    pub(super) fn make_room_for_a_disk(&mut self, count: usize) -> bool {
        self.move_to_front();
        let length = self.place.len() + count;
        if self.pages.len() < length || !suit_a_disk(&self.pages) {
            let Some(longer) = pages_for_a_disk(length) else { return false };
            self.move_to(longer);
        }
        true
    }

    fn move_to_front(&mut self) {
        if self.place.start > 0 {
            self.pages.copy_within(self.place.clone(), 0);
            self.place = 0..self.place.len();
        }
    }

    /// Moves what is at the front to the front of other pages.
    fn move_to(&mut self, mut pages: Pages<u8>) {
        let there = self.pages.get(self.place.clone()).unwrap_or_default();
        pages.get_mut(..there.len()).unwrap_or_default().copy_from_slice(there);
        self.pages = pages;
    }
}

/// Pages of at least so many bytes that a disk may write into; none where there are none.
pub(super) fn pages_for_a_disk(bytes: usize) -> Option<Pages<u8>> {
    Pages::huge(bytes.checked_next_multiple_of(LARGE_BYTES)?)
}

/// Whether a disk may write to where these pages begin.
pub(super) fn suit_a_disk(pages: &Pages<u8>) -> bool {
    pages.as_ptr().addr().is_multiple_of(DIRECT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One with these bytes, behind so much room in so many bytes of pages.
    fn stretch(pages: usize, room: usize, start: u64, bytes: &[u8]) -> Stretch {
        let mut stretch = Stretch::new(vec![0xff; pages].into(), room, start);
        let read = |place: &mut [u8]| {
            place.copy_from_slice(bytes);
            Ok(bytes.len())
        };
        stretch.read(bytes.len(), read).unwrap();
        stretch
    }

    #[test]
    fn bytes_are_found_by_their_position() {
        let stretch = stretch(16, 4, 100, b"abcdef");
        assert_eq!((stretch.start(), stretch.end(), stretch.place.len()), (100, 106, 6));
        assert_eq!(stretch.get(100, 6), Some(&b"abcdef"[..]));
        assert_eq!(stretch.get(103, 2), Some(&b"de"[..]));
        assert_eq!(stretch.get(106, 0), Some(&b""[..]));
        for (position, count) in [(99, 1), (100, 7), (106, 1), (107, 0), (100, usize::MAX)] {
            assert_eq!(stretch.get(position, count), None, "{count} at {position}");
        }
    }

    #[test]
    fn it_begins_where_it_is_told_with_what_is_there() {
        let mut stretch = stretch(16, 4, 100, b"abcdef");
        stretch.begin_at(102);
        assert_eq!((stretch.get(102, 4), stretch.get(101, 1)), (Some(&b"cdef"[..]), None));
        stretch.begin_at(106);
        assert_eq!((stretch.start(), stretch.place.len()), (106, 0));
        for elsewhere in [107, 90] {
            stretch.begin_at(elsewhere);
            assert_eq!((stretch.start(), stretch.end()), (elsewhere, elsewhere));
        }
    }

    #[test]
    fn it_goes_on_in_the_pages_of_what_comes_where_these_have_room_before_it() {
        for (room, is_swapped) in [(0, false), (5, false), (6, true), (7, true)] {
            let mut one = stretch(16, 4, 100, b"abcdef");
            let next = stretch(16, room, 106, b"ghi");
            let (old, new) = (one.pages.as_ptr(), next.pages.as_ptr());
            let left = one.go_on(next).unwrap();
            assert_eq!((one.start(), one.get(100, 9)), (100, Some(&b"abcdefghi"[..])), "{room}");
            assert_eq!(left.as_ptr(), if is_swapped { old } else { new }, "{room}");
        }
    }

    #[test]
    fn room_is_made_behind_what_is_there() {
        for count in [3, 10, 11, 100_000] {
            let mut one = stretch(16, 4, 100, b"abcdef");
            one.make_room(count).unwrap();
            one.read(count, |place| Ok(place.len())).unwrap();
            assert_eq!((one.get(100, 6), one.place.len()), (Some(&b"abcdef"[..]), 6 + count));
        }
    }

    /// There were other bytes in the pages before.
    #[test]
    fn zeros_are_put_behind_what_is_there() {
        let mut one = stretch(16, 4, 100, b"abcdef");
        one.add_zeros(3).unwrap();
        assert_eq!((one.end(), one.get(100, 9)), (109, Some(&b"abcdef\0\0\0"[..])));
    }

    /// A short read brings what there was.
    #[test]
    fn no_more_is_there_than_was_read() {
        let mut one = stretch(16, 0, 100, b"abc");
        one.read(4, |_| Ok(1)).unwrap();
        assert_eq!(one.end(), 104);
        assert!(one.read(4, |_| Err(io::Error::other("no disk"))).is_err());
        assert_eq!(one.end(), 104);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_disk_is_given_pages_of_its_own_kind() {
        let mut one = stretch(1 << 20, 8, 4096, &[7; 512]);
        assert!(one.make_room_for_a_disk(2 * LARGE_BYTES));
        assert!(suit_a_disk(&one.pages) && one.place == (0..512));
        assert_eq!(one.get(4096, 512), Some(&[7; 512][..]));
        let pages = one.pages.as_ptr();
        assert!(one.make_room_for_a_disk(2 * LARGE_BYTES));
        assert_eq!(one.pages.as_ptr(), pages, "they have room");
        let mut one = stretch(2 * LARGE_BYTES, 0, 4096, &[7; 512]);
        assert!(one.make_room_for_a_disk(512));
        assert_eq!(one.pages.as_ptr().addr() % DIRECT_BYTES, 0);
    }

    /// What is put together piece by piece is not moved for each of them: there is half as much room again behind it.
    #[test]
    #[cfg(target_os = "linux")]
    fn it_goes_on_with_room_for_more() {
        const MIB: usize = 1 << 20;
        let mut one = stretch(6 * MIB, 0, 4096, &vec![7; 6 * MIB]);
        let next = one.end();
        one.go_on(stretch(MIB, 0, next, &vec![8; MIB])).unwrap();
        assert_eq!((one.place.clone(), one.pages.len()), (0..7 * MIB, 10 * MIB));
        assert_eq!(one.get(next - 1, 2), Some(&[7, 8][..]));
    }
}
