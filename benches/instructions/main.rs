//! Does so many of one thing, to have its instructions counted: `instructions WORK COUNT`. What the opening and the close
//! cost is the difference to a run with another count; `scripts/instructions.sh` does that.

use std::time::Duration;

use libmq::{Broker, Durability, HandlerError, HandlerOptions, Message, Options};

/// Messages in the air at once.
const BATCH: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let work = arguments.next().unwrap_or_default();
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    let dir = std::env::temp_dir().join(format!("libmq-instructions-{}", std::process::id()));
    // No snapshot and no keeper comes into it.
    let options = Options::new()
        .durability(Durability::Os)
        .snapshot_interval(Duration::from_secs(3600))
        .snapshot_threshold(u64::MAX)
        .sync_interval(Duration::from_secs(3600));
    let broker = Broker::open(&dir, options)?;
    let body = [b'x'; 100];
    if work == "handle" {
        broker.handle("jobs", HandlerOptions::new(), |context| match context.body().len() {
            100 => Ok(()),
            _ => Err(HandlerError::reject("another length")),
        })?;
    }
    for start in (0..count).step_by(BATCH) {
        let batch = BATCH.min(count - start);
        for number in 0..batch {
            let message = Message::new("jobs", &body[..]);
            let message = match work.as_str() {
                "keyed" => message.dedup_key(format!("key-{}", start + number)),
                _ => message,
            };
            broker.enqueue(message)?;
        }
        if work == "enqueue" || work == "handle" {
            continue;
        }
        for _ in 0..batch {
            let delivery = broker.receive("jobs", Duration::ZERO, None)?;
            delivery.ok_or("one is missing")?.ack()?;
        }
    }
    if work == "handle" {
        broker.start()?;
        broker.wait_idle(None)?;
    }
    broker.close(Duration::from_secs(10))?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
