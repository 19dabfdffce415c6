//! The works, the same for every peer, made from the two things that each does in its own way.
//!
//! A producer waits for the answer to what it puts in before it puts in more. What comes out has to be what went in.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::job::{Answer, Failure, Figures, Job};
use crate::threads;

/// How long whoever is to be woken has had nothing to do.
const IDLE: Duration = Duration::from_millis(1);

/// Messages that are put in together where nobody times it.
const BATCH: u32 = 100;

/// Whoever puts messages in.
pub(crate) trait Producer: Send {
    /// Puts so many in, together where that is possible, and returns when each is answered.
    fn put(&mut self, count: u32) -> Result<(), Failure>;
}

/// Whoever takes messages out.
pub(crate) trait Consumer: Send + 'static {
    /// Waits for a message where a peer can wait, does the work with its body, and acks it.
    fn handle(&mut self, work: impl FnOnce(&[u8]) -> Result<(), Failure>) -> Result<(), Failure>;
}

/// When a message came to its consumer, or why none comes any more.
pub(crate) type Entry = Result<Instant, Failure>;

/// What every message has inside.
pub(crate) fn body(job: &Job) -> Result<Vec<u8>, Failure> {
    Ok(vec![0x2a; job.get("body")?])
}

/// Holds what came out against what went in.
pub(crate) fn compare(found: &[u8], expected: &[u8]) -> Result<(), Failure> {
    if found != expected {
        return Err("a body changed on its way".into());
    }
    Ok(())
}

fn put_all(producer: &mut impl Producer, messages: u32, batch: u32) -> Result<(), Failure> {
    let mut left = messages;
    while left > 0 {
        let count = batch.clamp(1, left);
        producer.put(count)?;
        left -= count;
    }
    Ok(())
}

/// Messages in, one by one or a `batch` at a time.
pub(crate) fn enqueue(job: &Job, producer: &mut impl Producer) -> Answer {
    let (messages, batch) = (job.get("messages")?, job.get("batch")?);
    let began = Instant::now();
    put_all(producer, messages, batch)?;
    Ok(Figures::rate(messages, began.elapsed()))
}

/// Messages out that have been put in before, one at a time.
pub(crate) fn checkout(
    job: &Job,
    producer: &mut impl Producer,
    consumer: &mut impl Consumer,
) -> Answer {
    let (messages, body) = (job.get("messages")?, body(job)?);
    put_all(producer, messages, BATCH)?;
    let began = Instant::now();
    for _ in 0..messages {
        consumer.handle(|found| compare(found, &body))?;
    }
    Ok(Figures::rate(messages, began.elapsed()))
}

/// Messages in, and out on another thread, until all are acked.
pub(crate) fn end_to_end(
    job: &Job,
    producer: &mut impl Producer,
    mut consumer: impl Consumer,
) -> Answer {
    let (messages, batch) = (job.get("messages")?, job.get("batch")?);
    let body = body(job)?;
    let began = Instant::now();
    // It is not joined where the producer fails: it would wait for ever.
    let handler = thread::spawn(move || {
        (0..messages).try_for_each(|_| consumer.handle(|found| compare(found, &body)))
    });
    put_all(producer, messages, batch)?;
    handler.join().map_err(|_| "the consumer panicked")??;
    Ok(Figures::rate(messages, began.elapsed()))
}

/// From the call that puts a message in to the entry of a consumer that waited for one.
pub(crate) fn idle(job: &Job, producer: &mut impl Producer, mut consumer: impl Consumer) -> Answer {
    let (messages, body): (u32, _) = (job.get("messages")?, body(job)?);
    let (entered, entries) = channel();
    thread::spawn(move || {
        for _ in 0..messages {
            let handled = consumer.handle(|found| {
                let now = Instant::now();
                compare(found, &body)?;
                Ok(entered.send(Ok(now))?)
            });
            if let Err(error) = handled {
                let _ = entered.send(Err(error));
                break;
            }
        }
    });
    wakes(messages, producer, &entries)
}

/// The same, whoever sends the entries.
pub(crate) fn wakes(
    messages: u32,
    producer: &mut impl Producer,
    entries: &Receiver<Entry>,
) -> Answer {
    let mut times = Vec::new();
    for _ in 0..messages {
        thread::sleep(IDLE);
        let began = Instant::now();
        producer.put(1)?;
        times.push(entries.recv()??.duration_since(began));
    }
    Ok(Figures::new().with_times(times))
}

/// Many producers that `open` makes, each waiting for each of its messages.
pub(crate) fn producers<P: Producer>(
    job: &Job,
    open: impl Fn(&Job) -> Result<P, Failure>,
) -> Answer {
    threads::play(job, || {
        let mut producer = open(job)?;
        Ok(move || producer.put(1))
    })
}
