//! A small shop: orders in, payments out. The same program as `orders.c`.
//!
//! Run it with `cargo run --example orders`, and again: the directory stays, and so does what is in it.

use std::time::Duration;

use libmq::{Backoff, Broker, Context, HandlerError, HandlerOptions, Message, Options};

fn main() -> libmq::Result<()> {
    let broker = Broker::open("target/orders-data", Options::new())?;

    // A handler takes one message at a time, unless told otherwise. An error is a failed attempt, tried again later.
    let quick = Backoff::fixed(Duration::from_millis(100));
    broker.handle("orders", HandlerOptions::new().max_parallelism(4).backoff(quick), take_order)?;
    broker.handle("payments", HandlerOptions::new().timeout(Duration::from_secs(10)), pay)?;
    broker.start()?;

    // When `enqueue` has returned, the order survives a crash and a power loss. Its key makes it one of its kind: an
    // order sent again before it is handled takes the place of the first.
    for number in 1..=5 {
        let (key, body) = (format!("ORD-{number:03}"), format!("{number} books"));
        let receipt = broker.enqueue(Message::new("orders", body).dedup_key(key))?;
        println!("order {number}: {} as message {}", receipt.status.name(), receipt.id);
    }

    broker.wait_idle(Duration::from_secs(10))?;
    for letter in broker.dead_letters().list(None, 10, None)? {
        println!("dead letter {} of {}: {}", letter.id(), letter.queue(), letter.reason());
    }
    let total = broker.metrics()?.broker;
    println!("{} acked, {} retried, {} dead", total.acked, total.retried, total.dead);
    broker.close(Duration::from_secs(5))
}

/// Fails once for one order, to be tried again; passes each order on to `payments`.
fn take_order(ctx: &Context) -> Result<(), HandlerError> {
    let order = std::str::from_utf8(ctx.body())?;
    if order.starts_with('3') && ctx.attempt() == 1 {
        return Err(HandlerError::failed("the stock is being counted"));
    }
    println!("  took the order of {order}, attempt {}", ctx.attempt());
    // The payment exists if and only if this attempt is acked: both are one record in the journal.
    ctx.enqueue(Message::new("payments", ctx.body()))?;
    Ok(())
}

/// Refuses one payment for good: it becomes a dead letter, to be looked at by somebody.
fn pay(ctx: &Context) -> Result<(), HandlerError> {
    if ctx.body().starts_with(b"5") {
        return Err(HandlerError::reject("the card has expired"));
    }
    println!("  paid {}", String::from_utf8_lossy(ctx.body()));
    Ok(())
}
