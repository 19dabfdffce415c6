//! Pages: memory in pieces as large as their use has become.
//!
//! Memory costs most the first time it is touched: the system has to find each page of it and to clear it, which takes about
//! as long as all that is done with the messages in that page. So the pages of a piece are asked for together, and those of
//! a large one ahead of time where there is a [stock](crate::stock).
//!
//! They are not asked for as large ones, of 2 MiB each: with these an opening was up to a tenth quicker, and an enqueue in memory
//! took twice as long or more in a virtual machine that gives free ones back to its host. What a disk writes into again and again
//! is asked for so.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

/// Bytes of a large piece.
pub(crate) const LARGE_BYTES: usize = 2 << 20;

/// Bytes of the smallest pages there are.
const PAGE_BYTES: usize = 4 << 10;

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

// SAFETY: it owns its values as a `Box<[T]>` does, and they go where it goes.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: it owns its values as a `Box<[T]>` does, and shared it gives out `&T` alone.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T> Pages<T> {
    /// So many values. Where there is no memory for them the process ends.
    pub(crate) fn new(count: usize, value: impl Fn() -> T) -> Self {
        let layout = Layout::array::<T>(count).unwrap_or(Layout::new::<T>());
        let pages = Self::with_room(count).unwrap_or_else(|| handle_alloc_error(layout));
        // SAFETY: it has room for so many, and none of them.
        unsafe { pages.filled(count, value) }
    }

    /// So many values, whose bytes are zeros; none where there is no memory for them.
    ///
    /// # Safety
    /// Such zeros are a value.
    pub(crate) unsafe fn zeroed(count: usize) -> Option<Self> {
        let mut pages = Self::with_room(count)?;
        if !pages.is_mapped() {
            // SAFETY: there is room for `count` values.
            unsafe { pages.first.write_bytes(0, count) };
        }
        pages.count = count;
        Some(pages)
    }

    /// As [`Pages::zeroed`], in memory that is zeros and has room for so many.
    ///
    /// # Safety
    /// As there; and they are zeros.
    ///
    /// # Panics
    /// Where they have no room for that.
    pub(crate) unsafe fn zeroed_in(zeros: Pages<u8>, count: usize) -> Self {
        let first = zeros.first.cast::<T>();
        let bytes = size_of::<T>().checked_mul(count);
        assert!(
            bytes.is_some_and(|bytes| bytes <= zeros.count) && first.is_aligned(),
            "no room for {count} values in {zeros:?}"
        );
        let pages = Self { first, count, source: zeros.source };
        std::mem::forget(zeros);
        pages
    }

    /// It, with so many values.
    ///
    /// # Safety
    /// It has room for them, and none of them yet.
    unsafe fn filled(mut self, count: usize, value: impl Fn() -> T) -> Self {
        for place in 0..count {
            // SAFETY: there is room for `count` values, and what is written over is none yet.
            unsafe { self.first.add(place).write(value()) };
            // One by one, so that those that are there are dropped should the next one panic.
            self.count = place + 1;
        }
        self
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

    /// Whether the memory is a part of its own of the process's memory map, which goes back to the system at once.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.source, Source::System(_))
    }

    /// Where the values are, for who sees to it that nobody reads what somebody writes.
    pub(crate) fn as_raw(&self) -> NonNull<[T]> {
        NonNull::slice_from_raw_parts(self.first, self.count)
    }
}

impl Pages<u8> {
    /// Some of the places, for who sees to it that nobody reads what somebody writes.
    ///
    /// # Panics
    /// Where there are none of these numbers.
    pub(crate) fn part(&self, places: Range<usize>) -> NonNull<[u8]> {
        assert!(places.start <= places.end && places.end <= self.count, "{places:?} of {self:?}");
        // SAFETY: `places.start` is not beyond the end of the memory.
        let first = unsafe { self.first.add(places.start) };
        NonNull::slice_from_raw_parts(first, places.end - places.start)
    }

    /// So many zeros; none where there is no memory for them.
    pub(crate) fn zeros(count: usize) -> Option<Self> {
        // SAFETY: a byte may be zero.
        unsafe { Self::zeroed(count) }
    }
}

impl Pages<u8> {
    /// So many zeros, in pages of 2 MiB where the system has such: a disk needs a part of its request for each page. None where
    /// there is no memory for them.
    #[cfg(target_os = "linux")]
    pub(crate) fn huge(count: usize) -> Option<Self> {
        let bytes = count.checked_next_multiple_of(LARGE_BYTES)?;
        let mapped = map(bytes.checked_add(LARGE_BYTES)?)?;
        let before = mapped.as_ptr().align_offset(LARGE_BYTES);
        // SAFETY: both parts beside those that are kept were just mapped, as whole pages, and nobody knows of them.
        let first = unsafe {
            let first = mapped.add(before);
            unmap(mapped, before);
            unmap(first.add(bytes), LARGE_BYTES - before);
            first
        };
        // A kernel may have none, or have been told to give none. And a process that is forked while a disk writes there might have
        // the bytes come to the wrong one of the two.
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_DONTFORK] {
            // SAFETY: the range is all of what was just mapped, and its bytes stay as they are.
            unsafe { libc::madvise(first.as_ptr().cast(), bytes, advice) };
        }
        Some(Self { first, count, source: Source::System(bytes) })
    }

    /// There is no way to ask for them.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn huge(_: usize) -> Option<Self> {
        None
    }
}

impl<T> Default for Pages<T> {
    /// None.
    fn default() -> Self {
        Vec::new().into()
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
    if cfg!(target_os = "linux") && layout.size() >= LARGE_BYTES && layout.align() <= PAGE_BYTES {
        let bytes = layout.size().checked_next_multiple_of(GRANULE_BYTES)?;
        return Some((map(bytes)?, Source::System(bytes)));
    }
    // SAFETY: the layout's size is not zero.
    Some((NonNull::new(unsafe { alloc(layout) })?, Source::Heap(layout)))
}

/// A multiple of the ordinary pages of any system.
const GRANULE_BYTES: usize = 64 << 10;

/// So many bytes of zeros, a multiple of [`GRANULE_BYTES`]; none where there is no memory. They go back to the system when they
/// are let go of, as those of an allocator may not.
#[cfg(target_os = "linux")]
fn map(bytes: usize) -> Option<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: memory that nobody has, wherever the system has room for it.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
}

/// Gives whole pages, or none, back to the system.
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
/// them one by one at the first touch of each.
#[cfg(target_os = "linux")]
fn populate<T>(memory: &mut [T]) {
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(PAGE_BYTES);
    let bytes = size_of_val(memory).saturating_sub(skipped) / PAGE_BYTES * PAGE_BYTES;
    if bytes > 0 {
        let start = start.wrapping_add(skipped).cast();
        // Kernels before 5.14 do not know this, and then the pages come one by one.
        // SAFETY: the range is inside `memory`, which is borrowed for writing, and whose bytes this leaves as they are.
        unsafe { libc::madvise(start, bytes, libc::MADV_POPULATE_WRITE) };
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
    fn large_ones_are_memory_like_any_other() {
        for bytes in [LARGE_BYTES, 3 * LARGE_BYTES + 5] {
            let mut pages = Pages::zeros(bytes).unwrap();
            assert!(pages.len() == bytes && pages.iter().all(|byte| *byte == 0));
            pages.fill(7);
            assert!(pages.iter().all(|byte| *byte == 7));
        }
        let pages = Pages::new(LARGE_BYTES, || 1_u64);
        assert!(pages.len() == LARGE_BYTES && pages.iter().all(|value| *value == 1));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn huge_ones_begin_where_the_system_has_them_begin() {
        for bytes in [1, LARGE_BYTES, 3 * LARGE_BYTES + 5] {
            let mut pages = Pages::huge(bytes).unwrap();
            assert_eq!(pages.as_ptr().addr() % LARGE_BYTES, 0);
            assert!(pages.len() == bytes && pages.iter().all(|byte| *byte == 0));
            pages.fill(7);
            assert!(pages.iter().all(|byte| *byte == 7));
        }
        assert!(Pages::huge(usize::MAX / 4).is_none());
        assert!(Pages::huge(usize::MAX).is_none());
    }

    #[test]
    fn zeros_serve_for_something_else() {
        let zeros = Pages::zeros(LARGE_BYTES).unwrap();
        let place = zeros.as_ptr().addr();
        // SAFETY: zeros are a number.
        let pages: Pages<u64> = unsafe { Pages::zeroed_in(zeros, 1000) };
        assert_eq!((pages.as_ptr().addr(), pages.len()), (place, 1000));
        assert!(pages.iter().all(|value| *value == 0));
        for too_many in [26, usize::MAX / 4 + 2] {
            let zeros = Pages::zeros(100).unwrap();
            // SAFETY: zeros are a number.
            let make = || unsafe { Pages::<u32>::zeroed_in(zeros, too_many) };
            catch_unwind(AssertUnwindSafe(make)).unwrap_err();
        }
    }

    /// Where each one is a part of its own of the memory map, a process that may have some ten thousand parts has none left.
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
