//! A process in which there is no memory for anything large.

#![expect(unsafe_code, reason = "an allocator that refuses")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libmq::{Broker, ErrorKind, Message, Options};

const LONG: Duration = Duration::from_secs(20);
const LARGE: usize = 4 << 20;

/// Refuses what is as large as this.
struct Refusing;

static REFUSED_FROM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Large ones that are granted all the same, before the first is refused.
static GRANTED: AtomicUsize = AtomicUsize::new(0);

fn is_refused(bytes: usize) -> bool {
    bytes >= REFUSED_FROM.load(Ordering::SeqCst)
        && GRANTED
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_err()
}

// SAFETY: everything is the system's allocator's, or is refused, which any allocation may be.
unsafe impl GlobalAlloc for Refusing {
    // SAFETY: as above.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
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
        if is_refused(size) {
            return ptr::null_mut();
        }
        // SAFETY: as the caller says; it was the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// The tests share their allocator.
static TURN: Mutex<()> = Mutex::new(());

/// Runs something in want of memory.
fn poor<R>(run: impl FnOnce() -> R) -> R {
    poor_but_for(0, run)
}

/// Runs something for which there is memory so many times, and then no more.
fn poor_but_for<R>(granted: usize, run: impl FnOnce() -> R) -> R {
    GRANTED.store(granted, Ordering::SeqCst);
    REFUSED_FROM.store(LARGE, Ordering::SeqCst);
    let answer = run();
    REFUSED_FROM.store(usize::MAX, Ordering::SeqCst);
    answer
}

/// A message whose content there was no memory for had its broker poisoned, or ended the process.
#[test]
fn what_there_is_no_memory_for_is_refused_and_nothing_is_lost() {
    let _turn = TURN.lock().unwrap();
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

/// Tries a call with memory for none of what is large in it, then for one, and so on; answers what it came to in the end.
fn until_it_has_enough<R>(mut call: impl FnMut() -> libmq::Result<R>) -> R {
    for granted in 0..8 {
        match poor_but_for(granted, &mut call) {
            Ok(answer) => return answer,
            Err(refused) => assert_eq!(refused.kind(), ErrorKind::NoMemory, "{refused}"),
        }
    }
    panic!("it takes ever more");
}

/// What was read back was copied once more, for which nobody could refuse the memory: the process ended, and after three of
/// these its message was a dead letter that nobody had seen.
#[test]
fn whatever_is_refused_of_what_a_call_takes_it_is_refused_as_a_whole() {
    let _turn = TURN.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().cache_bytes(0).max_message_bytes(16 << 20);
    let open = || Broker::open(dir.path(), options.clone());
    let broker = open().unwrap();
    let body = vec![7; LARGE + 1];
    until_it_has_enough(|| broker.enqueue(Message::new("jobs", &body[..])));
    until_it_has_enough(|| broker.enqueue_batch(&[Message::new("jobs", &body[..])]));
    broker.enqueue(Message::new("jobs", "small")).unwrap();
    broker.close(LONG).unwrap();
    let broker = until_it_has_enough(open);
    let large = until_it_has_enough(|| broker.receive("jobs", None, None)).unwrap();
    assert_eq!((large.body(), large.attempt()), (&body[..], 1));
    large.reject("for a test").unwrap();
    let letters = broker.dead_letters();
    let listed = until_it_has_enough(|| letters.list(None, 10, None));
    let letter = until_it_has_enough(|| letters.get(listed[0].id())).unwrap();
    assert_eq!(letter.body(), body);
    until_it_has_enough(|| letters.replay(letter.id()));
    let taken = until_it_has_enough(|| broker.receive("jobs", None, None)).unwrap();
    assert_eq!(taken.body(), body);
    let target = tempfile::tempdir().unwrap();
    until_it_has_enough(|| broker.backup(target.path().join("copy")));
    taken.ack().unwrap();
    until_it_has_enough(|| broker.snapshot());
    broker.close(LONG).unwrap();
}
