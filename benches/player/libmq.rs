//! libmq's side of every contest, through its public face.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{Broker, Durability, HandlerOptions, Message, Options};

use crate::BATCH;
use crate::bare::Pen;
use crate::job::{Answer, Failure, Figures, Job};
use crate::{memory, threads};

/// How long whoever is to be woken has had nothing to do.
pub(crate) const IDLE: Duration = Duration::from_millis(1);

const QUEUE: &str = "bench";
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const SOON: Duration = Duration::from_secs(30);
/// How long what snapshots may disturb is measured without any.
const UNSNAPPED: Duration = Duration::from_secs(2);

pub(crate) fn play(job: &Job) -> Answer {
    match &*job.work {
        "enqueue" => enqueue(job),
        "enqueue-and-write" => enqueue_and_write(job),
        "threads" => producers(job),
        "async" => in_flight(job),
        "pass" => pass(job),
        "checkout" => checkout(job),
        "handled" => handled(job),
        "end-to-end" => end_to_end(job),
        "idle" => idle(job),
        "open" => open(job),
        "fill" => fill_and_wait(job),
        "waiting" => waiting(job),
        "fresh" => fresh(job),
        "backlog" => backlog(job),
        "snapshot" => snapshot(job),
        _ => job.unknown(),
    }
}

/// The broker of a job: on disk, or in memory for that `level`.
fn broker(job: &Job, options: Options) -> Result<Broker, Failure> {
    let durability = match job.word("level")? {
        "sync" => Durability::Sync,
        "os" => Durability::Os,
        "memory" => Durability::Memory,
        level => return Err(format!("there is no level {level}").into()),
    };
    let options = options.durability(durability);
    Ok(match durability {
        Durability::Memory => Broker::open(":memory:", options)?,
        _ => Broker::open(&job.directory, options)?,
    })
}

/// Of whose snapshots nobody is to wonder.
fn unsnapped() -> Options {
    Options::new().snapshot_threshold(u64::MAX).snapshot_interval(NEVER)
}

fn body(job: &Job) -> Result<Vec<u8>, Failure> {
    Ok(vec![0x2a; job.get("body")?])
}

fn batch_of(count: u32, body: &[u8]) -> Vec<Message<'_>> {
    (0..count).map(|_| Message::new(QUEUE, body)).collect()
}

/// Enqueues messages a `batch` at a time; of one, one by one.
fn put(broker: &Broker, messages: u32, batch: u32, body: &[u8]) -> Result<(), Failure> {
    if batch == 1 {
        for _ in 0..messages {
            broker.enqueue(Message::new(QUEUE, body))?;
        }
        return Ok(());
    }
    let batched = batch_of(batch, body);
    for _ in 0..messages / batch {
        broker.enqueue_batch(&batched)?;
    }
    Ok(())
}

/// Enqueues messages that nobody times.
fn fill(broker: &Broker, messages: u32, body: &[u8]) -> Result<(), Failure> {
    put(broker, messages, BATCH, body)
}

/// Has all done that what was enqueued so far leaves to do: a sync, and a snapshot. What those cost is a contest of its own.
fn rest(broker: &Broker) -> Result<(), Failure> {
    Ok(broker.snapshot()?)
}

/// Bytes of the log that so many messages take that are enqueued together.
pub(crate) fn record_bytes(count: u32, body: usize) -> Result<usize, Failure> {
    let broker = Broker::open(":memory:", Options::new())?;
    let body = vec![0x2a; body];
    let batch = batch_of(count, &body);
    // The first of a queue says its name besides.
    broker.enqueue(Message::new(QUEUE, &body[..]))?;
    let before = broker.metrics()?.lsn.reserved;
    broker.enqueue_batch(&batch)?;
    Ok(usize::try_from(broker.metrics()?.lsn.reserved - before)?)
}

/// One producer that waits for each message, or for each `batch`.
fn enqueue(job: &Job) -> Answer {
    let (messages, batch): (u32, u32) = (job.get("messages")?, job.get("batch")?);
    let broker = broker(job, Options::new())?;
    let body = body(job)?;
    let began = Instant::now();
    put(&broker, messages, batch, &body)?;
    let figures = Figures::rate(messages, began.elapsed());
    broker.close(SOON)?;
    Ok(figures)
}

/// An enqueue in memory and a bare write in turns: what one at `os` does, by two that know nothing of each other.
fn enqueue_and_write(job: &Job) -> Answer {
    let messages: u32 = job.get("messages")?;
    let (broker, body) = (broker(job, Options::new())?, body(job)?);
    let bytes = vec![0x5a; record_bytes(1, body.len())?];
    let mut pen = Pen::new(&job.directory)?;
    let began = Instant::now();
    for _ in 0..messages {
        broker.enqueue(Message::new(QUEUE, &body[..]))?;
        pen.write(&bytes)?;
    }
    Ok(Figures::rate(messages, began.elapsed()))
}

/// Many producers, each waiting for each of its messages.
fn producers(job: &Job) -> Answer {
    let broker = broker(job, Options::new().capacity(10_000_000))?;
    let body = body(job)?;
    let figures = threads::play(job, || {
        let (broker, body) = (broker.clone(), body.clone());
        Ok(move || Ok(broker.enqueue(Message::new(QUEUE, &body[..])).map(drop)?))
    })?;
    broker.close(SOON)?;
    Ok(figures)
}

/// Wakes one thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// One thread with `in_flight` enqueues under way; snapshots sync files of their own meanwhile.
fn in_flight(job: &Job) -> Answer {
    let (messages, most): (u32, usize) = (job.get("messages")?, job.get("in_flight")?);
    let is_snapped = job.get("snapshots")?;
    let broker = broker(job, if is_snapped { Options::new() } else { unsnapped() })?;
    let body = body(job)?;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let began = Instant::now();
    let (mut begun, mut done) = (0, 0);
    let mut under_way = VecDeque::new();
    while done < messages {
        while begun < messages && under_way.len() < most {
            let mut future = broker.enqueue_async(Message::new(QUEUE, &body[..]));
            begun += 1;
            match pin!(&mut future).poll(&mut context) {
                Poll::Ready(receipt) => {
                    receipt?;
                    done += 1;
                }
                Poll::Pending => under_way.push_back(future),
            }
        }
        // They end in their order, or nearly so.
        while let Some(future) = under_way.front_mut() {
            match pin!(future).poll(&mut context) {
                Poll::Ready(receipt) => {
                    receipt?;
                    done += 1;
                    under_way.pop_front();
                }
                Poll::Pending => break,
            }
        }
        if done < messages && (under_way.len() == most || begun == messages) {
            thread::park();
        }
    }
    let figures = Figures::rate(messages, began.elapsed());
    broker.close(SOON)?;
    Ok(figures)
}

/// Enqueue, take and ack of one message after the other, on one thread.
fn pass(job: &Job) -> Answer {
    let messages = job.get("messages")?;
    let broker = broker(job, Options::new())?;
    let body = body(job)?;
    let began = Instant::now();
    (0..messages).try_for_each(|_| turn(&broker, &body))?;
    Ok(Figures::rate(messages, began.elapsed()))
}

fn turn(broker: &Broker, body: &[u8]) -> Result<(), Failure> {
    broker.enqueue(Message::new(QUEUE, body))?;
    take(broker)
}

fn take(broker: &Broker) -> Result<(), Failure> {
    let delivery = broker.receive(QUEUE, Duration::ZERO, None)?.ok_or("a message is missing")?;
    Ok(delivery.ack()?)
}

/// Take and ack of what has been put in before.
fn checkout(job: &Job) -> Answer {
    let messages = job.get("messages")?;
    let broker = broker(job, Options::new())?;
    fill(&broker, messages, &body(job)?)?;
    let began = Instant::now();
    (0..messages).try_for_each(|_| take(&broker))?;
    let figures = Figures::rate(messages, began.elapsed());
    broker.close(SOON)?;
    Ok(figures)
}

/// One handler, of what has been put in before.
fn handled(job: &Job) -> Answer {
    let broker = broker(job, Options::new())?;
    fill(&broker, job.get("messages")?, &body(job)?)?;
    handle(job, &broker, || Ok(()))
}

/// Messages in, one by one or a `batch` at a time, one handler, each acked.
fn end_to_end(job: &Job) -> Answer {
    let (messages, batch): (u32, u32) = (job.get("messages")?, job.get("batch")?);
    let broker = broker(job, Options::new())?;
    let body = body(job)?;
    handle(job, &broker, || put(&broker, messages, batch, &body))
}

/// Until one handler has had all messages of a job, some of which may come `meanwhile`.
fn handle(job: &Job, broker: &Broker, meanwhile: impl FnOnce() -> Result<(), Failure>) -> Answer {
    let (messages, bytes): (u32, u64) = (job.get("messages")?, job.get("body")?);
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    broker.handle(QUEUE, HandlerOptions::new(), move |ctx| {
        counter.fetch_add(ctx.body().len() as u64, Ordering::Relaxed);
        Ok(())
    })?;
    let began = Instant::now();
    broker.start()?;
    meanwhile()?;
    broker.wait_idle(None::<Duration>)?;
    let figures = Figures::rate(messages, began.elapsed());
    if seen.load(Ordering::Relaxed) != u64::from(messages) * bytes {
        return Err("the handler did not see every byte once".into());
    }
    broker.close(SOON)?;
    Ok(figures)
}

/// From the call of an enqueue to the entry of a handler that had nothing to do.
fn idle(job: &Job) -> Answer {
    let messages: u32 = job.get("messages")?;
    let broker = broker(job, Options::new())?;
    let body = body(job)?;
    let (entered, entries) = channel();
    let entered = Mutex::new(entered);
    broker.handle(QUEUE, HandlerOptions::new(), move |_| {
        let now = Instant::now();
        let _ = entered.lock().unwrap_or_else(PoisonError::into_inner).send(now);
        Ok(())
    })?;
    broker.start()?;
    let mut times = Vec::new();
    for _ in 0..messages {
        thread::sleep(IDLE);
        let began = Instant::now();
        broker.enqueue(Message::new(QUEUE, &body[..]))?;
        times.push(entries.recv()?.duration_since(began));
    }
    broker.close(SOON)?;
    Ok(Figures::new().with_times(times))
}

/// Opens a directory with messages that an owner has left who closed it, wrote a snapshot first, or was killed.
fn open(job: &Job) -> Answer {
    let messages: u32 = job.get("messages")?;
    let after = job.word("after")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["libmq", "fill"])
        .arg(&job.directory)
        .args(
            ["messages", "body", "after"]
                .map(|key| format!("{key}={}", job.word(key).unwrap_or_default())),
        )
        .args(["level=os"])
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    if after == "kill" {
        child.kill()?;
        child.wait()?;
    } else if !child.wait()?.success() {
        return Err("the directory could not be filled".into());
    }
    let began = Instant::now();
    let broker = broker(job, unsnapped())?;
    let time = began.elapsed();
    if broker.recovery().messages != u64::from(messages) {
        return Err("recovery did not find every message".into());
    }
    broker.close(SOON)?;
    let bytes = f64::from(messages) * job.get::<f64>("body")?;
    let figures = Figures::rate(messages, time).with("seconds", time.as_secs_f64());
    Ok(figures.with("megabytes", bytes / 1e6 / time.as_secs_f64()))
}

/// The inside of the process that fills such a directory.
fn fill_and_wait(job: &Job) -> Answer {
    let broker = broker(job, unsnapped())?;
    fill(&broker, job.get("messages")?, &body(job)?)?;
    match job.word("after")? {
        "kill" => {
            println!("ready");
            thread::sleep(SOON);
        }
        "snapshot" => broker.snapshot()?,
        _ => {}
    }
    broker.close(SOON)?;
    Ok(Figures::new())
}

/// So many messages wait: what each takes, and what one more costs.
fn waiting(job: &Job) -> Answer {
    let (messages, probe): (u32, u32) = (job.get("messages")?, job.get("probe")?);
    let cache: u64 = job.get("cache")?;
    let options = Options::new().capacity(messages as usize * 2).cache_bytes(cache);
    let broker = broker(job, options)?;
    let body = body(job)?;
    let cost = || {
        rest(&broker)?;
        let began = Instant::now();
        for _ in 0..probe {
            broker.enqueue(Message::new(QUEUE, &body[..]))?;
        }
        Ok::<_, Failure>(f64::from(probe) / began.elapsed().as_secs_f64())
    };
    fill(&broker, 1_000, &body)?;
    let few = cost()?;
    let before = memory::resident()?;
    let began = Instant::now();
    fill(&broker, messages, &body)?;
    let figures = Figures::rate(messages, began.elapsed());
    let taken = memory::resident()? - before;
    let many = cost()?;
    let disk = directory_bytes(&job.directory)?;
    broker.close(SOON)?;
    let figures = figures.with("bytes", (taken - cache as f64) / f64::from(messages));
    let figures = figures.with("few", few).with("many", many).with("flat", many / few);
    Ok(figures.with("disk", disk / f64::from(messages)))
}

fn directory_bytes(directory: &Path) -> Result<f64, Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes as f64)
}

/// What a new broker takes, in megabytes.
fn fresh(job: &Job) -> Answer {
    let broker = broker(job, Options::new())?;
    broker.start()?;
    let figures = Figures::new().with("megabytes", memory::resident()? / 1e6);
    broker.close(SOON)?;
    Ok(figures)
}

/// Enqueue, take and ack of a message while `waiting` others do.
fn backlog(job: &Job) -> Answer {
    let (messages, waiting): (u32, u32) = (job.get("messages")?, job.get("waiting")?);
    let broker = broker(job, Options::new().capacity(waiting as usize + 1_000_000))?;
    let body = body(job)?;
    fill(&broker, waiting, &body)?;
    rest(&broker)?;
    let began = Instant::now();
    (0..messages).try_for_each(|_| turn(&broker, &body))?;
    let figures = Figures::rate(messages, began.elapsed());
    broker.close(SOON)?;
    Ok(figures)
}

/// Enqueues beside snapshots of so many waiting messages, `snapshots` of them; for a while where that is none.
fn snapshot(job: &Job) -> Answer {
    let (messages, snapshots): (u32, u32) = (job.get("messages")?, job.get("snapshots")?);
    let broker = broker(job, unsnapped().capacity(20_000_000))?;
    let body = body(job)?;
    fill(&broker, messages, &body)?;
    let is_running = AtomicBool::new(true);
    let (times, took) = thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let mut times = Vec::new();
            while is_running.load(Ordering::Relaxed) {
                let began = Instant::now();
                broker.enqueue(Message::new(QUEUE, &body[..]))?;
                times.push(began.elapsed());
            }
            Ok::<_, Failure>(times)
        });
        let began = Instant::now();
        let taken = match snapshots {
            0 => {
                thread::sleep(UNSNAPPED);
                Ok(())
            }
            _ => (0..snapshots).try_for_each(|_| broker.snapshot()),
        };
        let took = began.elapsed();
        is_running.store(false, Ordering::Relaxed);
        let times = producer.join().map_err(|_| "the producer panicked")??;
        taken?;
        Ok::<_, Failure>((times, took))
    })?;
    let count = u32::try_from(times.len())?;
    broker.close(SOON)?;
    Ok(Figures::rate(count, took).with_times(times))
}
