//! Memory: how much is asked for meanwhile, by all threads together, and that it is no more than an input justifies.
//!
//! The counts belong to the process, so one input at a time is measured in it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The allocator of the system, which counts what is held. For `#[global_allocator]` of what runs targets: without it
/// nothing is held against anything.
#[derive(Debug)]
pub struct Counting;

/// What is held, and the most that has been. Relaxed: they are sums, and order nothing.
static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it came; beside that there are only sums.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait asks of the caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as the trait asks of the caller.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: as the trait asks of the caller.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(place, layout) }
    }

    // SAFETY: as the trait asks of the caller.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there at once while one is copied to the other.
        took(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.realloc(place, layout, size) }
    }
}

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

/// Does some work, and holds the most memory it had at once against a bound.
///
/// # Panics
/// Where that was more.
pub(crate) fn bounded<R>(bytes_max: usize, work: impl FnOnce() -> R) -> R {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let result = work();
    let more = MOST.load(Ordering::Relaxed).saturating_sub(before);
    assert!(more <= bytes_max, "{more} bytes were asked for, and {bytes_max} are justified");
    result
}
