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
    source: Source,
}

/// Where memory is from, and goes to.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// There is none.
    Nowhere,
    /// The allocator.
    Heap(Layout),
    /// The system itself: so many bytes, which were zeros.
    System(usize),
}

// SAFETY: it owns its values as a `Box<[T]>` does: shared it gives out `&T`, and `T` alone with it.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T> Pages<T> {
    /// So many values. Where there is no memory for them the process ends.
    pub(crate) fn new(count: usize, value: impl Fn() -> T) -> Self {
        let layout = Layout::array::<T>(count).unwrap_or(Layout::new::<T>());
        let mut pages = Self::with_room(count).unwrap_or_else(|| handle_alloc_error(layout));
        for place in 0..count {
            // SAFETY: there is room for `count` values, and what is written over is none yet.
            unsafe { pages.first.add(place).write(value()) };
            // One by one, so that those that are there are dropped should the next one panic.
            pages.count = place + 1;
        }
        pages
    }

    /// Room for so many values, of which none is there; none where there is no memory for them.
    fn with_room(count: usize) -> Option<Self> {
        let layout = Layout::array::<T>(count).ok()?;
        let (first, source) = take(layout)?;
        let pages = Self { first: first.cast(), count: 0, source };
        // SAFETY: the memory was just given, for that many values, which may be anything so far.
        let room = unsafe {
            std::slice::from_raw_parts_mut(pages.first.as_ptr().cast::<MaybeUninit<T>>(), count)
        };
        populate(room);
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
        if !matches!(pages.source, Source::System(_)) {
            // SAFETY: there is room for `count` bytes.
            unsafe { pages.first.write_bytes(0, count) };
        }
        pages.count = count;
        Some(pages)
    }
}

impl<T> From<Vec<T>> for Pages<T> {
    /// The values where they are.
    fn from(values: Vec<T>) -> Self {
        let values = Box::leak(values.into_boxed_slice());
        let layout = Layout::for_value(values);
        let source = if layout.size() == 0 { Source::Nowhere } else { Source::Heap(layout) };
        Self { first: NonNull::from(&mut *values).cast(), count: values.len(), source }
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
        match self.source {
            Source::Nowhere => {}
            // SAFETY: the allocator gave the memory for this layout, be it in `take` or for a box.
            Source::Heap(layout) => unsafe { dealloc(self.first.as_ptr().cast(), layout) },
            // SAFETY: `map` gave that much, and nobody looks at it any more.
            Source::System(bytes) => unsafe { unmap(self.first.cast(), bytes) },
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

/// Memory of this layout, none of a size of zero, and what it is from; none where there is none.
fn take(layout: Layout) -> Option<(NonNull<u8>, Source)> {
    if layout.size() == 0 {
        return Some((
            NonNull::without_provenance(layout.align().try_into().ok()?),
            Source::Nowhere,
        ));
    }
    if cfg!(target_os = "linux") && layout.size() >= LARGE_BYTES && layout.align() <= LARGE_BYTES {
        let bytes = layout.size().checked_next_multiple_of(GRANULE_BYTES)?;
        return Some((map(bytes)?, Source::System(bytes)));
    }
    // SAFETY: the layout's size is not zero.
    Some((NonNull::new(unsafe { alloc(layout) })?, Source::Heap(layout)))
}

/// A multiple of the ordinary pages of any system.
const GRANULE_BYTES: usize = 64 << 10;

/// So many bytes of zeros, a multiple of [`GRANULE_BYTES`], that begin where a large page may; none where there is no memory.
/// An allocator would keep as much again to itself, for the place that it has to find.
#[cfg(target_os = "linux")]
fn map(bytes: usize) -> Option<NonNull<u8>> {
    let whole = bytes.checked_add(LARGE_BYTES)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: memory that nobody has, wherever the system has room for it.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let start = NonNull::new(start.cast::<u8>())?;
    // The last place that will do: the system lays the next one right below it, as one part of the process's memory map.
    let behind = start.addr().get() % LARGE_BYTES;
    let before = LARGE_BYTES - behind;
    // SAFETY: `before` and `behind` are a large page together, which is what was asked for beside the bytes; both are whole pages,
    // and nobody has them yet.
    unsafe {
        let first = start.add(before);
        unmap(start, before);
        unmap(first.add(bytes), behind);
        Some(first)
    }
}

/// Gives whole pages back to the system.
///
/// # Safety
/// They were mapped, and nobody looks at them any more.
#[cfg(target_os = "linux")]
unsafe fn unmap(first: NonNull<u8>, bytes: usize) {
    if bytes > 0 {
        // SAFETY: as the caller says.
        unsafe { libc::munmap(first.as_ptr().cast(), bytes) };
    }
}

/// All memory is the allocator's.
#[cfg(not(target_os = "linux"))]
fn map(_bytes: usize) -> Option<NonNull<u8>> {
    None
}

/// All memory is the allocator's.
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "linux"))]
unsafe fn unmap(_first: NonNull<u8>, _bytes: usize) {}

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
        let pages = Pages::new(LARGE_BYTES, || 1_u64);
        assert!(pages.len() == LARGE_BYTES && pages.iter().all(|value| *value == 1));
    }

    /// Each one split the memory map in two, of which a process may have no more than some ten thousand parts.
    #[test]
    #[cfg(target_os = "linux")]
    fn large_ones_take_few_parts_of_the_memory_map() {
        let parts = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let before = parts();
        let pages: Vec<_> = (0..50).map(|_| Pages::zeros(LARGE_BYTES).unwrap()).collect();
        let more = parts() - before;
        assert!(more < 25, "{more} for {} pieces", pages.len());
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
