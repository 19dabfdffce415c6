//! Calls that signals interrupt all the time, in a host that asked for that: no `SA_RESTART`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libmq::{Broker, Durability, HandlerOptions, Message, Options, verify};

use crate::bare;
use crate::promises::{Promises, body, number};

/// How often the timer goes off.
const EVERY_US: i64 = 200;

const MESSAGES: u64 = 600;

static TAKEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn take(_: i32) {
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

fn timer(every_us: i64) {
    let every = libc::timeval { tv_sec: 0, tv_usec: every_us };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the timer is a live itimerval of this frame, and the old one is not asked for.
    let done =
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

/// On the disk, and where the first word says: in memory.
pub fn run(place: &Path, words: &[String]) {
    bare::on_signal(libc::SIGALRM, take);
    timer(EVERY_US);
    let mut counts = Vec::new();
    let shared = words.first().map(Path::new);
    for (place, segment_bytes) in [(Some(place), 64 << 10), (shared, 64 << 20)] {
        let Some(place) = place else { continue };
        let before = TAKEN.load(Ordering::Relaxed);
        work(&place.join("queue"), segment_bytes);
        let taken = TAKEN.load(Ordering::Relaxed) - before;
        assert!(taken > 50, "{taken} signals interrupted nothing");
        counts.push(taken);
    }
    timer(0);
    println!("{MESSAGES} messages each time, beside {counts:?} signals: nothing failed, 0 lost");
}

/// All of it on this thread, which the kernel prefers for a signal to the process, and beside it handlers.
fn work(directory: &Path, segment_bytes: u64) {
    let options = || Options::new().segment_bytes(segment_bytes);
    let broker = Broker::open(directory, options()).unwrap();
    let handled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&handled);
    broker
        .handle("handled", HandlerOptions::new().max_parallelism(2), move |context| {
            number(context.body());
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    let mut promises = Promises::default();
    for round in 0..MESSAGES {
        let levels = [Durability::Sync, Durability::Os];
        let message = Message::new("handled", body(round, 500));
        broker.enqueue(message.durability(levels[usize::from(round % 8 > 0)])).unwrap();
        promises.enqueue(&broker, 3000).unwrap();
        if round % 100 == 50 {
            broker.snapshot().unwrap();
            promises.hold(&broker);
        }
    }
    let copy = directory.with_extension("copy");
    broker.backup(&copy).unwrap();
    assert!(verify(&copy).unwrap().sound());
    std::fs::remove_dir_all(copy).unwrap();
    assert!(broker.wait_idle(Duration::ZERO).is_ok());
    promises.hold(&broker);
    assert!(broker.wait_idle(Duration::from_secs(30)).unwrap());
    assert_eq!(handled.load(Ordering::Relaxed), MESSAGES);
    broker.close(Duration::from_secs(30)).unwrap();
    let broker = Broker::open(directory, options()).unwrap();
    assert_eq!(broker.recovery().messages, 0);
    broker.close(Duration::from_secs(30)).unwrap();
}
