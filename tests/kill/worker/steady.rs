//! A worker that nobody kills: a constant load, and its own account of that.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{Broker, Dedup, Durability, HandlerError, HandlerOptions, Message};

use crate::numbers::{Numbers, body};
use crate::say::say;

const QUEUE: &str = "steady";

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(3);

/// How long the end may take.
const END_MAX: Duration = Duration::from_secs(60);

/// Numbers that are there and not handled.
type Open = Arc<Mutex<BTreeSet<u64>>>;

/// Works for so long, and says `steady ENQUEUED` every second; then waits until all of it is handled. Each number is
/// handled once: nothing here is a reason to do so twice.
pub fn run(broker: &Broker, numbers: &Numbers, time: Duration) -> libmq::Result<()> {
    let open = Open::default();
    let mine = Arc::clone(&open);
    let options = HandlerOptions::new().max_parallelism(3);
    broker.handle(QUEUE, options, move |context| {
        let number = crate::numbers::number(context.body()).unwrap();
        // Every so often an attempt fails, and another message is enqueued with the ack.
        if number.is_multiple_of(50) && context.attempt() == 1 {
            return Err(HandlerError::failed("meant to fail"));
        }
        if number.is_multiple_of(20) {
            context.enqueue(Message::new("chained", "").dedup_key("only").dedup(Dedup::Keep))?;
        }
        if !mine.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
            say(&format!("error {number} was handled twice, or never enqueued"));
        }
        Ok(())
    })?;
    broker.handle("chained", HandlerOptions::new(), |_| Ok(()))?;
    broker.start()?;
    let (end, mut told, mut enqueued) = (Instant::now() + time, Instant::now(), 0);
    let mut random = numbers.random(7);
    let mut number = 0;
    while Instant::now() < end {
        number += 1;
        open.lock().unwrap().insert(number);
        let level = if number.is_multiple_of(8) { Durability::Sync } else { Durability::Os };
        let mut message = Message::new(QUEUE, body(number, random.below(1500))).durability(level);
        if number.is_multiple_of(11) {
            message = message.delay(Duration::from_millis(random.below(100)));
        }
        broker.enqueue(message)?;
        enqueued += 1;
        if told.elapsed() > Duration::from_secs(1) {
            say(&format!("steady {enqueued}"));
            told = Instant::now();
        }
        thread::sleep(PAUSE);
    }
    let end = Instant::now() + END_MAX;
    while !open.lock().unwrap().is_empty() && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    let left = open.lock().unwrap().len();
    if left > 0 {
        say(&format!("error {left} of {enqueued} were never handled"));
    }
    broker.close(Duration::from_secs(10))?;
    say(&format!("drained {enqueued}"));
    Ok(())
}
