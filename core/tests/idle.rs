//! What `wait_idle` answers for.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libmq::{Backoff, Broker, Durability, HandlerError, HandlerOptions, Message, Options};

const LONG: Duration = Duration::from_secs(20);

fn open(directory: &tempfile::TempDir) -> Broker {
    Broker::open(directory.path(), Options::new().durability(Durability::Os)).unwrap()
}

/// A settled message was in flight no more, while what the settle led to was not to be seen yet: the broker looked idle
/// between the two.
#[test]
fn what_a_settle_leads_to_is_there_when_the_wait_ends() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory);
    let retried = HandlerOptions::new().backoff(Backoff::fixed(Duration::from_millis(2)));
    let attempts = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&attempts);
    broker
        .handle("retried", retried, move |ctx| {
            count.fetch_add(1, Ordering::Relaxed);
            if ctx.attempt() == 1 { Err(HandlerError::failed("once")) } else { Ok(()) }
        })
        .unwrap();
    broker
        .handle("parent", HandlerOptions::new(), |ctx| Ok(ctx.enqueue(Message::new("child", ""))?))
        .unwrap();
    let children = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&children);
    broker
        .handle("child", HandlerOptions::new(), move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    for round in 1..=200 {
        for queue in ["retried", "parent"] {
            broker.enqueue(Message::new(queue, "")).unwrap();
        }
        assert!(broker.wait_idle(LONG).unwrap());
        assert_eq!(attempts.load(Ordering::Relaxed), 2 * round);
        assert_eq!(children.load(Ordering::Relaxed), round);
    }
    broker.close(LONG).unwrap();
}

#[test]
fn a_dead_letter_is_there_when_the_wait_ends() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory);
    let refuse = |_: &libmq::Context| Err(HandlerError::reject("why"));
    broker.handle("q", HandlerOptions::new(), refuse).unwrap();
    broker.start().unwrap();
    for round in 1..=200 {
        broker.enqueue(Message::new("q", "")).unwrap();
        assert!(broker.wait_idle(LONG).unwrap());
        assert_eq!(broker.dead_letters().count().unwrap(), round);
    }
    broker.close(LONG).unwrap();
}

/// Nobody was told when the last message in hand was settled, as long as others lay ready that no handler would take.
#[test]
fn a_backlog_without_a_handler_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory);
    broker.start().unwrap();
    for _ in 0..2 {
        broker.enqueue(Message::new("q", "")).unwrap();
    }
    let held = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
    let waiting = broker.clone();
    let began = Instant::now();
    let wait = std::thread::spawn(move || waiting.wait_idle(LONG).unwrap());
    std::thread::sleep(Duration::from_millis(100));
    held.ack().unwrap();
    assert!(wait.join().unwrap());
    assert!(began.elapsed() < LONG / 2);
    broker.close(LONG).unwrap();
}
