//! How often a large body is copied: each copy of it would need memory of its own, which is counted.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libmq::{Broker, Durability, HandlerOptions, Message, Options};

const LONG: Duration = Duration::from_secs(20);
const BODY: usize = 1 << 20;
const MESSAGES: usize = 8;
/// What has this size could be a body.
const LARGE: usize = 512 << 10;

/// Counts the bytes of what is large.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    if bytes >= LARGE {
        ASKED.fetch_add(bytes, Ordering::SeqCst);
    }
}

// SAFETY: everything is the system's allocator's.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as above.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
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
        count(size);
        // SAFETY: as the caller says; it was the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests share their allocator.
static TURN: Mutex<()> = Mutex::new(());

/// How many bytes were asked for in large pieces meanwhile, over those of all bodies.
fn copies(run: impl FnOnce()) -> f64 {
    let before = ASKED.load(Ordering::SeqCst);
    run();
    (ASKED.load(Ordering::SeqCst) - before) as f64 / (MESSAGES * BODY) as f64
}

/// Runs something with a broker of each level.
fn with_each_level(run: impl Fn(&Broker, &[u8])) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let body: Vec<u8> = (0..=250).cycle().take(BODY).collect();
    for level in [Durability::Sync, Durability::Os, Durability::Memory] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().durability(level);
        let broker = match level {
            Durability::Memory => Broker::open(":memory:", options),
            _ => Broker::open(dir.path(), options),
        };
        let broker = broker.unwrap();
        run(&broker, &body);
        broker.close(LONG).unwrap();
    }
}

fn enqueue_all(broker: &Broker, body: &[u8]) {
    for _ in 0..MESSAGES {
        broker.enqueue(Message::new("q", body)).unwrap();
    }
}

#[test]
fn a_large_body_is_copied_once_on_its_way_in() {
    with_each_level(|broker, body| {
        let copies = copies(|| enqueue_all(broker, body));
        assert!((1.0..1.5).contains(&copies), "copied {copies} times");
    });
}

#[test]
fn a_large_body_is_not_copied_on_its_way_to_a_handler() {
    with_each_level(|broker, body| {
        enqueue_all(broker, body);
        let body = body.to_vec();
        let handle = move |delivery: &libmq::Context| {
            assert!(delivery.body() == body);
            Ok(())
        };
        broker.handle("q", HandlerOptions::new(), handle).unwrap();
        let copies = copies(|| {
            broker.start().unwrap();
            assert!(broker.wait_idle(LONG).unwrap());
        });
        assert!(copies == 0.0, "copied {copies} times");
        assert_eq!(broker.metrics().unwrap().broker.acked, MESSAGES as u64);
    });
}

#[test]
fn a_large_body_that_is_received_again_lies_where_it_lay() {
    with_each_level(|broker, body| {
        broker.enqueue(Message::new("q", body)).unwrap();
        let receive = || broker.receive("q", LONG, None).unwrap().unwrap();
        let copies = copies(|| {
            let first = receive();
            let place = first.body().as_ptr();
            first.release(Duration::ZERO).unwrap();
            let again = receive();
            assert_eq!(again.body().as_ptr(), place);
            assert!(again.body() == body);
            again.ack().unwrap();
        });
        assert!(copies == 0.0, "copied {copies} times");
    });
}
