//! Pages: memory in pieces as large as their use has become.
//!
//! Memory costs most the first time it is touched: the system has to find each page of it and to clear it, which takes about
//! as long as all that is done with the messages in that page. A piece of [`LARGE_BYTES`] or more is laid so that the system
//! may give it pages of that size, one instead of five hundred; and the pages of any piece are asked for together.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a large page, and where one may begin: that of most processors with ordinary pages of 4 KiB.
pub(crate) const LARGE_BYTES: usize = 2 << 20;

/// A row of values that never moves, in memory of its own.
pub(crate) struct Pages<T> {
    first: NonNull<T>,
    /// Values that are there.
    count: usize,
    /// What the memory was asked for as.
    layout: Layout,
}

// SAFETY: it owns its values as a `Box<[T]>` does: shared it gives out `&T`, and `T` alone with it.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T> Pages<T> {
    /// So many values. Where there is no memory for them the process ends.
    pub(crate) fn new(count: usize, value: impl Fn() -> T) -> Self {
        let layout = Self::layout(count).unwrap_or(Layout::new::<T>());
        let mut pages = Self::with_room(count).unwrap_or_else(|| handle_alloc_error(layout));
        for place in 0..count {
            // SAFETY: there is room for `count` values, and what is written over is none yet.
            unsafe { pages.first.add(place).write(value()) };
            // One by one, so that those that are there are dropped should the next one panic.
            pages.count = place + 1;
        }
        pages
    }

    /// What the memory of so many values is asked for as.
    fn layout(count: usize) -> Option<Layout> {
        let layout = Layout::array::<T>(count).ok()?;
        if layout.size() < LARGE_BYTES { Some(layout) } else { layout.align_to(LARGE_BYTES).ok() }
    }

    /// Room for so many values, of which none is there; none where there is no memory for them.
    fn with_room(count: usize) -> Option<Self> {
        let layout = Self::layout(count)?;
        if layout.size() == 0 {
            return Some(Self { first: NonNull::dangling(), count: 0, layout });
        }
        // SAFETY: the layout's size is not zero.
        let first: NonNull<T> = NonNull::new(unsafe { alloc(layout) })?.cast();
        let pages = Self { first, count: 0, layout };
        // SAFETY: the memory was just given, for that many values, which may be anything so far.
        populate(unsafe {
            std::slice::from_raw_parts_mut(first.as_ptr().cast::<MaybeUninit<T>>(), count)
        });
        Some(pages)
    }

    /// Where the values are, for who sees to it that nobody reads what somebody writes.
    pub(crate) fn as_raw(&self) -> NonNull<[T]> {
        NonNull::slice_from_raw_parts(self.first, self.count)
    }
}

impl Pages<u8> {
    /// So many zeros; none where there is no memory for them.
    pub(crate) fn zeros(count: usize) -> Option<Self> {
        let mut pages = Self::with_room(count)?;
        // SAFETY: there is room for `count` bytes.
        unsafe { pages.first.write_bytes(0, count) };
        pages.count = count;
        Some(pages)
    }
}

impl<T> From<Vec<T>> for Pages<T> {
    /// The values where they are.
    fn from(values: Vec<T>) -> Self {
        let values = Box::leak(values.into_boxed_slice());
        let layout = Layout::for_value(values);
        Self { first: NonNull::from(&mut *values).cast(), count: values.len(), layout }
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many values are there, and are its own.
        unsafe { self.as_raw().as_ref() }
    }
}

impl<T> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: so many values are there, and are its own.
        unsafe { self.as_raw().as_mut() }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: so many values are there, are its own, and are looked at no more.
        unsafe { self.as_raw().drop_in_place() };
        if self.layout.size() > 0 {
            // SAFETY: `alloc` gave the memory for this layout, be it that of `with_room` or a box's.
            unsafe { dealloc(self.first.as_ptr().cast(), self.layout) };
        }
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({} values)", self.count)
    }
}

/// How places are spread over blocks that are made when they are needed: as many small ones as a large one has room for, and large
/// ones behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    /// Places of a small block.
    pub(crate) small: usize,
    /// Places of a large one, a multiple of that.
    pub(crate) large: usize,
}

impl Spread {
    /// The block that a place lies in, and its place there.
    pub(crate) const fn find(self, place: usize) -> (usize, usize) {
        if place < self.large {
            (place / self.small, place % self.small)
        } else {
            (self.large / self.small - 1 + place / self.large, place % self.large)
        }
    }

    /// Places of a block.
    pub(crate) const fn size(self, block: usize) -> usize {
        if block < self.large / self.small { self.small } else { self.large }
    }

    /// Blocks that so many places take.
    pub(crate) const fn blocks(self, places: usize) -> usize {
        match places.checked_sub(1) {
            Some(last) => self.find(last).0 + 1,
            None => 0,
        }
    }
}

/// Has memory that was just allocated and never touched given its pages now, together, which costs a tenth of giving
/// them one by one at the first touch of each; large pages, where it has room for some.
#[cfg(target_os = "linux")]
fn populate<T>(memory: &mut [T]) {
    // The first advice is for nothing where the system has no large pages to give. The second one kernels before 5.14 do not
    // know, and then the pages come one by one.
    advise(memory, LARGE_BYTES, libc::MADV_HUGEPAGE);
    advise(memory, 4096, libc::MADV_POPULATE_WRITE);
}

/// Tells the system about all pages of this size that lie in memory as a whole, of which it changes no byte.
#[cfg(target_os = "linux")]
fn advise<T>(memory: &mut [T], page: usize, advice: libc::c_int) {
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(page);
    let bytes = size_of_val(memory).saturating_sub(skipped) / page * page;
    if bytes > 0 {
        // SAFETY: the range is inside `memory`, which is borrowed for writing; both advices leave its bytes as they are.
        unsafe { libc::madvise(start.add(skipped).cast(), bytes, advice) };
    }
}

/// Pages come one by one.
#[cfg(not(target_os = "linux"))]
fn populate<T>(_memory: &mut [T]) {}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::*;

    #[test]
    fn values_are_there_until_they_are_dropped() {
        let value = Rc::new(());
        let pages = Pages::new(1000, || Rc::clone(&value));
        assert_eq!((pages.len(), Rc::strong_count(&value)), (1000, 1001));
        drop(pages);
        assert_eq!(Rc::strong_count(&value), 1);
        let pages: Pages<_> = vec![Rc::clone(&value); 3].into();
        assert_eq!((pages.len(), Rc::strong_count(&value)), (3, 4));
        drop(pages);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn what_was_made_before_a_panic_is_dropped() {
        let (value, made) = (Rc::new(()), Cell::new(0));
        let make = || {
            made.set(made.get() + 1);
            assert!(made.get() < 5, "meant to");
            Rc::clone(&value)
        };
        catch_unwind(AssertUnwindSafe(|| Pages::new(10, make))).unwrap_err();
        assert_eq!((made.get(), Rc::strong_count(&value)), (5, 1));
    }

    #[test]
    fn large_ones_lie_where_a_large_page_may_begin() {
        for bytes in [LARGE_BYTES, 3 * LARGE_BYTES + 5] {
            let mut pages = Pages::zeros(bytes).unwrap();
            assert_eq!(pages.as_ptr().addr() % LARGE_BYTES, 0);
            assert!(pages.len() == bytes && pages.iter().all(|byte| *byte == 0));
            pages.fill(7);
            assert!(pages.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn what_there_is_no_memory_for_is_none() {
        assert!(Pages::zeros(usize::MAX / 4).is_none());
    }

    #[test]
    fn none_takes_nothing() {
        assert!(Pages::zeros(0).unwrap().is_empty());
        assert!(Pages::from(Vec::<u64>::new()).is_empty());
        assert_eq!(Pages::new(5, || ()).len(), 5);
    }

    #[test]
    fn every_place_is_in_one_block() {
        let spread = Spread { small: 4, large: 12 };
        let (mut block, mut place) = (0, 0);
        for number in 0..100 {
            assert_eq!(spread.find(number), (block, place), "{number}");
            assert_eq!(spread.blocks(number + 1), block + 1, "{number}");
            place += 1;
            if place == spread.size(block) {
                (block, place) = (block + 1, 0);
            }
        }
        assert_eq!((0..4).map(|block| spread.size(block)).collect::<Vec<_>>(), [4, 4, 4, 12]);
        assert_eq!(spread.blocks(0), 0);
    }

    #[test]
    fn populated_memory_is_as_it_was() {
        for length in [0, 100, 5000, 1 << 20, 5 << 20] {
            let mut memory = vec![0; length];
            populate(&mut memory);
            assert!(memory.iter().all(|byte| *byte == 0));
        }
    }
}
