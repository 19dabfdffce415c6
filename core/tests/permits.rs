//! How many handlers run at once on the broker's own threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{Broker, HandlerOptions, Message, Options};

const LONG: Duration = Duration::from_secs(20);

/// A worker that has handled a message keeps its permit for the next one; where fewer are to run, it gives it back.
#[test]
fn those_that_go_on_are_fewer_after_a_scale() {
    let broker = Broker::open(":memory:", Options::new()).unwrap();
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let options = HandlerOptions::new().max_parallelism(4);
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let handler = move |_: &_| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_micros(200));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    };
    broker.handle("q", options, handler).unwrap();
    for _ in 0..100_000 {
        broker.enqueue(Message::new("q", "")).unwrap();
    }
    let figures = || broker.metrics().unwrap().queues["q"];
    let wait_until = |what: &dyn Fn() -> bool| {
        let end = Instant::now() + LONG;
        while !what() {
            assert!(Instant::now() < end && figures().ready > 0, "it did not come to that");
        }
    };
    broker.start().unwrap();
    wait_until(&|| most.load(Ordering::SeqCst) == 4);
    for parallelism in [1, 3, 2] {
        broker.scale("q", parallelism).unwrap();
        // Those that run, run on, and so do those that are about to.
        loop {
            most.store(0, Ordering::SeqCst);
            let (done, count) = (figures().acked, u64::from(parallelism) * 50);
            wait_until(&|| figures().acked >= done + count);
            if most.load(Ordering::SeqCst) == parallelism {
                break;
            }
        }
    }
    broker.purge("q").unwrap();
    broker.close(LONG).unwrap();
}
