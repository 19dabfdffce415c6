//! Handlers whose number changes, that are paused, stopped and started, while messages come: each message is handled once, and
//! none lies there while somebody could handle it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libmq::{Broker, Durability, HandlerOptions, Message, Options};
use libmq_suite::Rng;

use crate::number;

const MESSAGES: u64 = 4_000;
const MOST: u32 = 4;
/// Longer than anything takes; who is not woken is found by it.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn handlers_that_come_and_go_leave_nothing_behind() {
    let messages = MESSAGES * number("LIBMQ_STRESS", 1);
    let options = Options::new().durability(Durability::Memory);
    let broker = Broker::open(":memory:", options).unwrap();
    let handled = Arc::new(Mutex::new(HashSet::new()));
    let running = Arc::new(AtomicU64::new(0));
    let (all, at_once) = (Arc::clone(&handled), Arc::clone(&running));
    let options = HandlerOptions::new().max_parallelism(MOST).min_parallelism(0);
    let handler = move |context: &libmq::Context| {
        assert!(at_once.fetch_add(1, Ordering::SeqCst) < u64::from(MOST));
        assert!(all.lock().unwrap().insert(context.id()), "it is handled twice");
        at_once.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    };
    broker.handle("jobs", options, handler).unwrap();
    broker.start().unwrap();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for producer in 0..2 {
            let (broker, done) = (&broker, &done);
            scope.spawn(move || {
                for number in 0..messages / 2 {
                    broker.enqueue(Message::new("jobs", "")).unwrap();
                    // Now and then all come to rest, and have to be woken.
                    if number % 64 == producer {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let mut rng = Rng::new(number("LIBMQ_CONCURRENT_SEED", 1));
        while done.load(Ordering::SeqCst) < 2 {
            match rng.below(6) {
                0..3 => broker.scale("jobs", 1 + rng.below(u64::from(MOST)) as u32).unwrap(),
                3 => {
                    broker.pause("jobs").unwrap();
                    broker.resume("jobs").unwrap();
                }
                4 => {
                    broker.stop(LONG).unwrap();
                    broker.start().unwrap();
                }
                _ => std::thread::sleep(Duration::from_micros(rng.below(300))),
            }
        }
    });
    assert!(broker.wait_idle(LONG).unwrap(), "{:?}", broker.metrics().unwrap().broker);
    assert_eq!(handled.lock().unwrap().len() as u64, messages);
    broker.close(LONG).unwrap();
}
