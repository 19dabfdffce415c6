//! Holds what a call from C allocates against what the same call from Rust does: the boundary allocates nothing.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libmq::{Broker, HandlerOptions, Message, Options};
use mq::*;

/// The system's allocator, with a count.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Rounds of which the allocations are counted, after as many that fill what grows.
const ROUNDS: u64 = 1000;
const BODY: [u8; 100] = [b'x'; 100];

/// Allocations of `work` in so many rounds: of the whole process, whose only test this is.
fn allocations(mut work: impl FnMut()) -> u64 {
    (0..ROUNDS).for_each(|_| work());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..ROUNDS).for_each(|_| work());
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

fn message() -> libmq_message {
    // SAFETY: all bytes zero are a message.
    let mut message: libmq_message = unsafe { std::mem::zeroed() };
    message.struct_size = u32::try_from(size_of::<libmq_message>()).unwrap();
    message.body = BODY.as_ptr().cast();
    message.body_len = BODY.len();
    message
}

fn ok(status: libmq_status) {
    assert_eq!(status, LIBMQ_OK);
}

/// A broker in memory, which nothing wakes up while allocations are counted.
fn options() -> Options {
    let long = Duration::from_secs(3600);
    Options::new().snapshot_interval(long).snapshot_threshold(u64::MAX)
}

fn open() -> *mut libmq_broker {
    let mut broker = ptr::null_mut();
    let options = libmq_options_new();
    // SAFETY: all that is passed is there.
    unsafe {
        ok(libmq_options_set_int(
            options,
            c"snapshot_interval_ms".as_ptr(),
            3_600_000,
            ptr::null_mut(),
        ));
        ok(libmq_options_set_int(
            options,
            c"snapshot_threshold".as_ptr(),
            i64::MAX,
            ptr::null_mut(),
        ));
        ok(libmq_broker_open(c":memory:".as_ptr(), options, &raw mut broker, ptr::null_mut()));
    }
    libmq_options_free(options);
    broker
}

/// Reads what a consumer reads of most messages.
fn read(delivery: *const libmq_delivery) {
    let mut len = 0;
    // SAFETY: all that is passed is there.
    assert!(!unsafe { libmq_delivery_body(delivery, &raw mut len) }.is_null() && len == BODY.len());
    assert!(libmq_delivery_id(delivery) > 0 && libmq_delivery_token(delivery) > 0);
    assert!(libmq_delivery_attempt(delivery) == 1 && libmq_delivery_max_retries(delivery) > 0);
    assert!(!libmq_delivery_queue(delivery).is_null());
    assert!(!libmq_delivery_content_type(delivery).is_null());
    assert!(libmq_delivery_correlation_id(delivery).is_null());
    assert!(libmq_delivery_headers_len(delivery) == 0);
    assert!(libmq_delivery_enqueued_at_ms(delivery) > 0);
    assert!(libmq_delivery_deadline_ms(delivery) > 0);
    assert!(libmq_delivery_cancel_reason(delivery).is_null());
}

extern "C" fn read_and_ack(_: *mut c_void, delivery: *mut libmq_delivery) -> i32 {
    read(delivery);
    LIBMQ_ACK
}

/// Enqueues, receives and acks, with an address for errors and without one; and looks where there is nothing.
fn cycles_in_c(broker: *mut libmq_broker) -> u64 {
    let message = message();
    let (mut error, mut receipt) = (ptr::null_mut(), libmq_receipt { id: 0, status: 0 });
    let mut delivery = ptr::null_mut();
    let mut cycle = |err: *mut *mut libmq_error| {
        // SAFETY: all that is passed is there, for as long as it is used.
        unsafe {
            let queue = c"jobs".as_ptr();
            ok(libmq_enqueue(broker, queue, &raw const message, &raw mut receipt, err));
            ok(libmq_receive(broker, queue, 0, 0, &raw mut delivery, err));
            read(delivery);
            ok(libmq_delivery_ack(delivery, err));
            libmq_delivery_free(delivery);
        }
        let nothing = ptr::null_mut();
        // SAFETY: as above.
        let status =
            unsafe { libmq_receive(broker, c"jobs".as_ptr(), 0, 0, &raw mut delivery, nothing) };
        assert_eq!(status, LIBMQ_E_EMPTY);
    };
    allocations(|| cycle(&raw mut error)) + allocations(|| cycle(ptr::null_mut()))
}

fn cycles_in_rust(broker: &Broker) -> u64 {
    let cycle = || {
        broker.enqueue(Message::new("jobs", &BODY)).unwrap();
        broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
        assert!(broker.receive("jobs", Duration::ZERO, None).unwrap().is_none());
    };
    allocations(cycle) + allocations(cycle)
}

fn dispatches_in_c(broker: *mut libmq_broker) -> u64 {
    // SAFETY: all bytes zero are a handler.
    let mut handler: libmq_handler = unsafe { std::mem::zeroed() };
    handler.struct_size = u32::try_from(size_of::<libmq_handler>()).unwrap();
    handler.handle = Some(read_and_ack);
    let message = message();
    let (queue, err) = (c"handled".as_ptr(), ptr::null_mut());
    // SAFETY: all that is passed is there.
    unsafe { ok(libmq_handle(broker, queue, &raw const handler, err)) };
    allocations(|| {
        // SAFETY: as above.
        unsafe {
            (0..100).for_each(|_| {
                ok(libmq_enqueue(broker, queue, &raw const message, ptr::null_mut(), err))
            });
            ok(libmq_broker_start(broker, err));
            ok(libmq_broker_wait_idle(broker, -1, err));
            ok(libmq_broker_stop(broker, -1, err));
        }
    })
}

fn dispatches_in_rust(broker: &Broker) -> u64 {
    broker.handle("handled", HandlerOptions::new(), |_| Ok(())).unwrap();
    allocations(|| {
        for _ in 0..100 {
            broker.enqueue(Message::new("handled", &BODY)).unwrap();
        }
        broker.start().unwrap();
        broker.wait_idle(None).unwrap();
        broker.stop(Duration::MAX).unwrap();
    })
}

/// Each call without an address for an error put into words that there was none, and threw the words away; a delivery's
/// handle was an allocation, and its queue's name five.
#[test]
fn a_call_from_c_allocates_what_the_same_call_from_rust_does() {
    let (c, rust) = (open(), Broker::open(":memory:", options()).unwrap());
    let (in_c, in_rust) = (cycles_in_c(c), cycles_in_rust(&rust));
    // What a thread of the broker does now and then falls on one or the other.
    assert!(in_c <= in_rust + ROUNDS / 100, "cycles: {in_c} from C, {in_rust} from Rust");
    let (in_c, in_rust) = (dispatches_in_c(c), dispatches_in_rust(&rust));
    assert!(
        in_c <= in_rust + ROUNDS,
        "dispatches of {} messages: {in_c} from C, {in_rust} from Rust",
        ROUNDS * 100
    );
    // SAFETY: there is nothing but a handle.
    ok(unsafe { libmq_broker_close(c, -1, ptr::null_mut()) });
    libmq_broker_free(c);
    rust.close(Duration::MAX).unwrap();
}
