//! Handlers, the thread that pulls, and the end: everything handled and told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{Broker, Context, Delivery, Durability, HandlerError, HandlerOptions, Message};

use crate::die::die;
use crate::numbers::{Numbers, body, is_innocent, number};
use crate::random::Random;
use crate::say::say;
use crate::trouble;

/// Messages that are pulled at once, at most.
const PULLED: usize = 4;

/// How long the end waits for everything to be handled.
const DRAIN_MAX: Duration = Duration::from_secs(300);

thread_local! {
    static LANE: u64 = {
        static LANES: AtomicU64 = AtomicU64::new(0);
        LANES.fetch_add(1, Ordering::Relaxed)
    };
}

type Handled = Result<(), HandlerError>;

/// Registers the handlers of both queues that have one.
pub fn register(broker: &Broker, numbers: &Arc<Numbers>) -> libmq::Result<()> {
    let mine = Arc::clone(numbers);
    let options = HandlerOptions::new().max_parallelism(3);
    broker.handle("work", options, move |context| on_work(context, &mine))?;
    let mine = Arc::clone(numbers);
    let options = HandlerOptions::new().max_parallelism(2);
    broker.handle("children", options, move |context| on_child(context, &mine))
}

/// Says that a delivery is in hand, and answers its number and choices for it.
fn enter(delivery: &Delivery, numbers: &Numbers) -> Option<(u64, Random)> {
    let Some(number) = number(delivery.body()) else {
        say(&format!("aborting {}", delivery.id()));
        thread::sleep(Duration::from_millis(3));
        die(delivery.body());
    };
    let (id, attempt, token) = (delivery.id(), delivery.attempt(), delivery.token());
    // In trouble, the ends of a lane are written when that is possible.
    let lane = LANE.with(|lane| *lane).to_string();
    let lane = if trouble::is_expected() { "-" } else { &lane };
    say(&format!("entered {id} {attempt} {token} {number} {} {lane}", delivery.queue()));
    Some((number, numbers.random(token)))
}

fn on_work(context: &Context, numbers: &Numbers) -> Handled {
    let Some((number, mut random)) = enter(context, numbers) else { return Ok(()) };
    let id = context.id();
    let longest = if random.percent(3) { 4000 } else { 500 };
    thread::sleep(Duration::from_micros(random.below(longest)));
    if is_innocent(context.body()) {
        say(&format!("acking {id}"));
        return Ok(());
    }
    let fails = number % 97 == 0 || random.percent(12);
    let chains = number % 3 == 0;
    if fails && random.percent(50) {
        return fail(id);
    }
    if number % 89 == 0 && number % 97 != 0 {
        say(&format!("rejecting {id}"));
        return Err(HandlerError::reject("rejected"));
    }
    if random.percent(4) {
        say(&format!("releasing {id}"));
        return Err(HandlerError::release(Duration::from_millis(random.below(5))));
    }
    if chains {
        let child = numbers.take(1);
        let (level, durability) = match random.percent(50) {
            true => ("sync", Durability::Sync),
            false => ("os", Durability::Os),
        };
        say(&format!("child {id} {child} {level}"));
        let message = Message::new("children", body(child, random.below(300)));
        context.enqueue(message.durability(durability))?;
    }
    if fails {
        return fail(id);
    }
    say(&format!("acking {id}"));
    Ok(())
}

fn on_child(context: &Context, numbers: &Numbers) -> Handled {
    let Some((number, mut random)) = enter(context, numbers) else { return Ok(()) };
    thread::sleep(Duration::from_micros(random.below(300)));
    if number % 97 == 0 || random.percent(8) {
        return fail(context.id());
    }
    say(&format!("acking {}", context.id()));
    Ok(())
}

fn fail(id: u64) -> Handled {
    say(&format!("failing {id}"));
    Err(HandlerError::failed("meant to fail"))
}

/// Pulls and acks; for ever, or until told to stop.
pub fn pull(broker: &Broker, numbers: &Numbers, stop: Option<&AtomicBool>) -> libmq::Result<()> {
    let is_stopped = || stop.is_some_and(|stop| stop.load(Ordering::Acquire));
    while !is_stopped() {
        let wait = Duration::from_millis(20);
        let deliveries = match broker.receive_batch("pulled", PULLED, wait, None) {
            Ok(deliveries) => deliveries,
            Err(error) => {
                trouble::tolerated(error)?;
                thread::sleep(trouble::PAUSE);
                continue;
            }
        };
        let mut entered = Vec::new();
        for delivery in deliveries {
            if let Some((number, random)) = enter(&delivery, numbers) {
                entered.push((delivery, number, random));
            }
        }
        for (delivery, number, mut random) in entered {
            thread::sleep(Duration::from_micros(random.below(300)));
            let id = delivery.id();
            if number % 97 == 0 || random.percent(5) {
                say(&format!("failing {id}"));
                settled(id, delivery.retry(None))?;
            } else {
                say(&format!("acking {id}"));
                if settled(id, delivery.ack())? {
                    say(&format!("acked {id}"));
                }
            }
        }
    }
    Ok(())
}

/// Whether a settle was written; one that was refused has given the message back.
fn settled(id: u64, outcome: libmq::Result<()>) -> libmq::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) => {
            let kind = trouble::tolerated(error)?;
            say(&format!("kept {id} {kind}"));
            Ok(false)
        }
    }
}

/// Handles what is there until nothing is left, lists the dead letters, and closes.
pub fn drain(broker: &Broker, numbers: &Numbers) -> libmq::Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let puller = scope.spawn(|| pull(broker, numbers, Some(&stop)));
        let end = Instant::now() + DRAIN_MAX;
        let idle = loop {
            // A message that is delayed and was never tried keeps nobody from being idle.
            let idle = broker.wait_idle(Duration::from_secs(1));
            let left = broker.metrics().map(|metrics| {
                metrics.broker.ready + metrics.broker.delayed + metrics.broker.in_flight
            });
            match (idle, left) {
                (Ok(true), Ok(0)) => break Ok(()),
                (Ok(_), Ok(_)) if Instant::now() < end => {}
                (Ok(_), Ok(left)) => {
                    say(&format!("error {left} messages are left"));
                    break Ok(());
                }
                (Err(error), _) | (_, Err(error)) => break Err(error),
            }
            thread::sleep(Duration::from_millis(2));
        };
        stop.store(true, Ordering::Release);
        puller.join().unwrap()?;
        idle
    })?;
    for letter in broker.dead_letters().list(None, usize::MAX, None)? {
        let reason = if letter.reason().is_empty() { "-" } else { letter.reason() };
        let number = number(letter.body()).map_or("-".into(), |number| number.to_string());
        say(&format!("dead {} {reason} {} {number}", letter.id(), letter.attempts()));
    }
    broker.close(Duration::from_secs(10))?;
    say("drained");
    Ok(())
}
