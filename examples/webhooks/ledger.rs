//! Turns routed events into the lines of a ledger: the Rust half of the demo.
//!
//! Usage: `ledger DIRECTORY LEDGER_TSV`
//!
//! Opens the directory that the C program left, whatever state that was in. The handler of `events` writes one line a
//! payload, as a message to `ledger` that commits with its ack: a line exists if and only if its event is done. One kind
//! of event fails on purpose until it is "fixed"; its messages are retried, become dead letters, and are replayed. The
//! ledger is drained by pulling: receive, write, ack.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libmq::{Backoff, Broker, Context, HandlerError, HandlerOptions, Message, Options};

/// The kind of event that fails until it is fixed.
const BROKEN: &str = "security_advisory";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, ledger] = arguments.as_slice() else {
        return Err("usage: ledger DIRECTORY LEDGER_TSV".into());
    };

    let broker = Broker::open(directory, Options::new())?;
    let found = broker.recovery();
    println!("ledger: recovered {} messages from {} records", found.messages, found.records);
    println!("        {} suspects, {} dead letters", found.suspects, found.dead_letters);
    println!(
        "        {} bytes of a torn tail dropped, {:.1?}",
        found.dropped_bytes, found.duration
    );

    let fixed = Arc::new(AtomicBool::new(false));
    let options = HandlerOptions::new()
        .max_parallelism(4)
        .max_retries(2)
        .backoff(Backoff::fixed(Duration::from_millis(50)));
    let switch = Arc::clone(&fixed);
    broker.handle("events", options, move |ctx| write_line(ctx, switch.load(Ordering::Relaxed)))?;
    broker.start()?;
    wait(&broker)?;

    let events = queue(&broker, "events")?;
    println!("ledger: {} attempts, {} acked", events.delivered, events.acked);
    println!("        {} failed, {} are dead letters now:", events.retried, events.dead_lettered);
    for letter in broker.dead_letters().list(Some("events"), 3, None)? {
        let delivery = letter.header("X-GitHub-Delivery").unwrap_or("?");
        println!("        {delivery}, {}: {}", letter.reason(), letter.error());
    }

    fixed.store(true, Ordering::Relaxed);
    let replayed = broker.dead_letters().replay_all(Some("events"))?;
    println!("ledger: fixed the handler and replayed {replayed} dead letters");
    if replayed == 0 {
        return Err("the events that fail on purpose did not fail".into());
    }
    wait(&broker)?;
    broker.stop(Duration::from_secs(5))?;

    let totals = drain(&broker, ledger)?;
    println!("ledger: drained {} lines on {} routes", totals.values().sum::<u64>(), totals.len());
    broker.close(Duration::from_secs(5))?;
    Ok(())
}

/// The handler of `events`: one line for the ledger, with the ack or not at all.
fn write_line(ctx: &Context, fixed: bool) -> Result<(), HandlerError> {
    let event = ctx.header("X-GitHub-Event").ok_or(HandlerError::reject("no event's name"))?;
    let delivery = ctx.header("X-GitHub-Delivery").ok_or(HandlerError::reject("no delivery id"))?;
    let route = ctx.header("Route").unwrap_or("other");
    if event == BROKEN && !fixed {
        return Err(HandlerError::failed(format!("{event} is not understood yet")));
    }
    let (bytes, crc) = (ctx.body().len(), crc32fast::hash(ctx.body()));
    let line = format!("{route}\t{delivery}\t{event}\t{bytes}\t{crc:08x}\n");
    ctx.enqueue(Message::new("ledger", line).content_type("text/plain").header("Route", route))?;
    Ok(())
}

/// Waits until nothing is left to do, and says how far it is.
fn wait(broker: &Broker) -> Result<(), Box<dyn Error>> {
    for _ in 0..60 {
        if broker.wait_idle(Duration::from_millis(500))? {
            return Ok(());
        }
        println!("ledger: {} lines so far", queue(broker, "ledger")?.ready);
    }
    Err("the handlers did not come to an end within 30 s".into())
}

/// Pulls every line, writes it, and only then acks it. Returns the lines of each route.
fn drain(broker: &Broker, path: &str) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut totals = BTreeMap::new();
    while let Some(delivery) = broker.receive("ledger", Duration::ZERO, Duration::from_secs(30))? {
        file.write_all(delivery.body())?;
        *totals.entry(delivery.header("Route").unwrap_or("other").to_owned()).or_default() += 1;
        file.flush()?;
        delivery.ack()?;
    }
    Ok(totals)
}

fn queue(broker: &Broker, name: &str) -> libmq::Result<libmq::QueueMetrics> {
    Ok(broker.metrics()?.queues.remove(name).unwrap_or_default())
}
