//! A process in which there is no memory for anything large.

#![expect(unsafe_code, reason = "an allocator that refuses")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libmq::{Broker, ErrorKind, Message, Options};

const LONG: Duration = Duration::from_secs(20);
const LARGE: usize = 4 << 20;

/// Refuses what is as large as this.
struct Refusing;

static REFUSED_FROM: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: everything is the system's allocator's, or is refused, which any allocation may be.
unsafe impl GlobalAlloc for Refusing {
    // SAFETY: as above.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= REFUSED_FROM.load(Ordering::SeqCst) {
            return ptr::null_mut();
        }
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as above.
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller says; it was the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    // SAFETY: as above.
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size >= REFUSED_FROM.load(Ordering::SeqCst) {
            return ptr::null_mut();
        }
        // SAFETY: as the caller says; it was the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Runs something in want of memory.
fn poor<R>(run: impl FnOnce() -> R) -> R {
    REFUSED_FROM.store(LARGE, Ordering::SeqCst);
    let answer = run();
    REFUSED_FROM.store(usize::MAX, Ordering::SeqCst);
    answer
}

/// A message whose content there was no memory for had its broker poisoned, or ended the process.
#[test]
fn what_there_is_no_memory_for_is_refused_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().cache_bytes(0).max_message_bytes(16 << 20);
    let broker = Broker::open(dir.path(), options.clone()).unwrap();
    let body = vec![7; LARGE + 1];
    let refused = poor(|| broker.enqueue(Message::new("jobs", &body[..])).unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::NoMemory, "{refused}");
    assert_eq!(broker.metrics().unwrap().broker.ready, 0);
    broker.enqueue(Message::new("jobs", &body[..])).unwrap();
    // The newest chunk is always kept.
    broker.enqueue(Message::new("jobs", "small")).unwrap();
    broker.close(LONG).unwrap();

    let refused = poor(|| Broker::open(dir.path(), options.clone()).unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::NoMemory, "{refused}");
    let broker = Broker::open(dir.path(), options).unwrap();
    let refused = poor(|| broker.receive("jobs", None, None).unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::NoMemory, "{refused}");
    let figures = broker.metrics().unwrap().broker;
    assert_eq!((figures.ready, figures.in_flight, figures.delivered), (2, 0, 0));
    let large = broker.receive("jobs", None, None).unwrap().unwrap();
    assert_eq!((large.body().len(), large.attempt()), (body.len(), 1));
    large.ack().unwrap();
    assert_eq!(broker.receive("jobs", None, None).unwrap().unwrap().body(), b"small");
    broker.close(LONG).unwrap();
}
