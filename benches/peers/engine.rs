//! libmq's side of every contest, through its public face.

use std::path::Path;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{Broker, Durability, HandlerOptions, Message, Options};

use crate::contest::{Failure, Figure};

/// The body of every message but those of the memory rows.
pub(crate) const BODY: [u8; 100] = [0x2a; 100];

/// Messages in a batch.
pub(crate) const BATCH: u32 = 100;

const QUEUE: &str = "bench";
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

fn options(durability: Durability) -> Options {
    Options::new().durability(durability)
}

fn close(broker: &Broker) -> libmq::Result<()> {
    broker.close(Duration::from_secs(30))
}

/// Bytes of the log that a message with [`BODY`] takes.
pub(crate) fn record_bytes() -> Result<usize, Failure> {
    let broker = Broker::open(":memory:", Options::new())?;
    broker.enqueue(Message::new(QUEUE, &BODY[..]))?;
    let before = broker.metrics()?.lsn.reserved;
    broker.enqueue(Message::new(QUEUE, &BODY[..]))?;
    Ok(usize::try_from(broker.metrics()?.lsn.reserved - before)?)
}

/// One producer that waits for each message.
pub(crate) fn one_by_one(directory: &Path, durability: Durability, messages: u32) -> Figure {
    let broker = Broker::open(directory, options(durability))?;
    let began = Instant::now();
    for _ in 0..messages {
        broker.enqueue(Message::new(QUEUE, &BODY[..]))?;
    }
    let rate = f64::from(messages) / began.elapsed().as_secs_f64();
    close(&broker)?;
    Ok(rate)
}

/// Many producers, each waiting for each of its messages.
pub(crate) fn threads(directory: &Path, count: u32, time: Duration) -> Figure {
    let broker = Broker::open(directory, options(Durability::Sync))?;
    let rate = for_a_while(count, time, || {
        let broker = broker.clone();
        Ok(move || Ok(broker.enqueue(Message::new(QUEUE, &BODY[..])).map(drop)?))
    })?;
    close(&broker)?;
    Ok(rate)
}

/// Runs work that `make` makes for each thread, over and over, on `count` threads at once; answers the calls a second.
pub(crate) fn for_a_while<W>(
    count: u32,
    time: Duration,
    make: impl Fn() -> Result<W, Failure>,
) -> Figure
where
    W: FnMut() -> Result<(), Failure> + Send,
{
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let ready = Barrier::new(count as usize + 1);
    let works = (0..count).map(|_| make()).collect::<Result<Vec<W>, _>>()?;
    thread::scope(|scope| {
        let threads: Vec<_> = works
            .into_iter()
            .map(|mut work| {
                let (stop, done, ready) = (&stop, &done, &ready);
                scope.spawn(move || {
                    ready.wait();
                    while !stop.load(Ordering::Relaxed) {
                        work()?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<(), Failure>(())
                })
            })
            .collect();
        ready.wait();
        let began = Instant::now();
        thread::sleep(time);
        let calls = done.load(Ordering::Relaxed);
        let elapsed = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a producer panicked")??;
        }
        Ok(count_of(calls) / elapsed.as_secs_f64())
    })
}

/// Batches in, one Rust handler, each message acked.
pub(crate) fn end_to_end(directory: &Path, messages: u32) -> Figure {
    let broker = Broker::open(directory, options(Durability::Os))?;
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    broker.handle(QUEUE, HandlerOptions::new(), move |ctx| {
        counter.fetch_add(ctx.body().len() as u64, Ordering::Relaxed);
        Ok(())
    })?;
    broker.start()?;
    let batch: Vec<Message<'_>> = (0..BATCH).map(|_| Message::new(QUEUE, &BODY[..])).collect();
    let began = Instant::now();
    for _ in 0..messages / BATCH {
        broker.enqueue_batch(&batch)?;
    }
    broker.wait_idle(None::<Duration>)?;
    let rate = f64::from(messages) / began.elapsed().as_secs_f64();
    if seen.load(Ordering::Relaxed) != u64::from(messages) * BODY.len() as u64 {
        return Err("the handler did not see every byte once".into());
    }
    close(&broker)?;
    Ok(rate)
}

/// Fills a directory with waiting messages and closes it; with a snapshot of them at the end, or with none at all.
pub(crate) fn fill(directory: &Path, messages: u32, snapshot: bool) -> Result<(), Failure> {
    let broker = Broker::open(directory, unsnapped())?;
    enqueue(&broker, messages, &BODY)?;
    if snapshot {
        broker.snapshot()?;
    }
    Ok(close(&broker)?)
}

/// Opens a filled directory; answers the messages recovered a second, by the time `open` took.
pub(crate) fn recover(directory: &Path, messages: u32) -> Figure {
    let began = Instant::now();
    let broker = Broker::open(directory, unsnapped())?;
    let rate = f64::from(messages) / began.elapsed().as_secs_f64();
    if broker.recovery().messages != u64::from(messages) {
        return Err("recovery did not find every message".into());
    }
    close(&broker)?;
    Ok(rate)
}

fn unsnapped() -> Options {
    options(Durability::Os).snapshot_threshold(u64::MAX).snapshot_interval(NEVER)
}

/// Fills a new broker with waiting messages of 1 KiB. For a process of its own, whose memory is then looked at.
pub(crate) fn waiting(directory: &Path, messages: u32) -> Result<Broker, Failure> {
    let broker = Broker::open(directory, options(Durability::Os))?;
    enqueue(&broker, messages, &[0x2a; 1024])?;
    Ok(broker)
}

/// A new broker with defaults, started.
pub(crate) fn fresh(directory: &Path) -> Result<Broker, Failure> {
    let broker = Broker::open(directory, Options::new())?;
    broker.start()?;
    Ok(broker)
}

fn enqueue(broker: &Broker, messages: u32, body: &[u8]) -> Result<(), Failure> {
    let batch: Vec<Message<'_>> = (0..BATCH).map(|_| Message::new(QUEUE, body)).collect();
    for _ in 0..messages / BATCH {
        broker.enqueue_batch(&batch)?;
    }
    Ok(())
}

/// A count as a figure. Exact far beyond anything counted here.
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^52")]
fn count_of(calls: u64) -> f64 {
    calls as f64
}
