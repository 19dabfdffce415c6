//! Models of the dispatcher: what somebody takes, owes or cancels in the moment in which another one closes or takes.

use std::time::Duration;

use loom::thread;

use super::engine::{Engine, EngineOptions, Retries};
use super::flight::Flight;
use crate::broker::Backoff;
use crate::buffer::models::{begin, enqueue, open, queue};
use crate::buffer::{Few, Outcome, Write};
use crate::error::{ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::storage::{MemoryStorage, Storage};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, explore};

const LONG: Duration = Duration::from_secs(3600);

/// An engine over an empty directory.
pub(crate) fn engine() -> Arc<Engine> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let default_retries = Retries { max: 5, backoff: Backoff::fixed(LONG) };
    let options = EngineOptions { capacity: 4, default_retries, max_crashes: 3 };
    Arc::new(Engine::new(open(&storage), options))
}

fn receive(engine: &Arc<Engine>) -> Result<Few<Arc<Flight>>> {
    let queue = queue(&engine.buffer);
    engine.receive(queue, 1, Some(Duration::ZERO), LONG, &Interrupt::new())
}

/// What a close does before it ends the log.
fn close(engine: &Arc<Engine>) {
    engine.closed.store(true, Ordering::Release);
    queue(&engine.buffer).ring_all();
    engine.forget_owed();
    for flight in engine.all_flights() {
        engine.lose(&flight, Outcome::Release { due: engine.now() });
    }
}

/// A message is received while the broker is closed: it is given back, by the one who closes or by the one who finds it closed.
#[test]
fn loom_close_against_receive() {
    explore(2, || {
        let engine = engine();
        enqueue(&engine.buffer, None);
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || match receive(&engine) {
                Ok(got) => got.len(),
                Err(refused) => {
                    assert_eq!(refused.kind(), ErrorKind::Closed);
                    0
                }
            })
        };
        close(&engine);
        other.join().unwrap();
        let figures = &queue(&engine.buffer).figures;
        assert_eq!((figures.ready(), figures.in_flight()), (1, 0));
    });
}

/// Somebody sleeps in a receive while the broker is closed, or is about to: the sleep ends.
#[test]
fn loom_close_ends_a_receive_that_waits() {
    explore(2, || {
        let engine = engine();
        // Before the other thread: a lock that loom does not know hands it on.
        queue(&engine.buffer);
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let queue = queue(&engine.buffer);
                let got = engine.receive(queue, 1, None, LONG, &Interrupt::new());
                assert_eq!(got.unwrap_err().kind(), ErrorKind::Closed);
            })
        };
        close(&engine);
        other.join().unwrap();
    });
}

/// The end of a delivery is owed while the broker is closed: nobody keeps it beyond the close.
#[test]
fn loom_close_against_owing() {
    explore(2, || {
        let engine = engine();
        enqueue(&engine.buffer, None);
        let flight = receive(&engine).unwrap().remove(0);
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.owe(&flight, Box::new(|| Ok(0))))
        };
        close(&engine);
        other.join().unwrap();
        assert!(!engine.owes());
    });
}

/// A message is cancelled while it is received: it is gone, or whoever has it is told. In the moment in which it is held and
/// no flight is there yet, which takes three preemptions to come to, too.
#[test]
fn loom_cancel_against_receive() {
    explore(3, || {
        let engine = engine();
        let crate::buffer::Enqueued::Accepted(id) = enqueue(&engine.buffer, None) else {
            panic!("it is new")
        };
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || receive(&engine).unwrap())
        };
        assert!(engine.cancel_message(id).unwrap());
        for flight in other.join().unwrap() {
            assert!(flight.lease.term().reason.is_some());
        }
        assert_eq!(queue(&engine.buffer).figures.ready(), 0);
    });
}

/// A delivery is settled while its lease is taken away: one of the two counts, and its permit and number are given back once.
#[test]
fn loom_settle_against_the_end_of_the_lease() {
    settle_against_the_end_of_the_lease(Write::Now);
    settle_against_the_end_of_the_lease(Write::Later);
}

fn settle_against_the_end_of_the_lease(write: Write) {
    explore(2, move || {
        let engine = engine();
        enqueue(&engine.buffer, None);
        let flight = receive(&engine).unwrap().remove(0);
        let other = {
            let (engine, flight) = (Arc::clone(&engine), Arc::clone(&flight));
            thread::spawn(move || engine.lose(&flight, Outcome::Release { due: engine.now() }))
        };
        let ack = Outcome::Ack { children: &[], places: 0, window: Duration::ZERO };
        let acked = engine.settle(&flight, ack, write).is_ok();
        assert!(other.join().unwrap() != acked, "one of the two");
        assert!(engine.all_flights().is_empty());
        engine.buffer.write().unwrap();
        let left = u64::from(!acked);
        assert_eq!(queue(&engine.buffer).figures.ready(), left);
        assert_eq!(receive(&engine).unwrap().len() as u64, left);
        // Of a number that was given back twice, two that are taken now would have the same.
        for _ in 0..2 {
            enqueue(&engine.buffer, None);
            assert_eq!(receive(&engine).unwrap().len(), 1);
        }
        assert_eq!(engine.all_flights().len() as u64, left + 2);
    });
}

/// Acks are logged while somebody else writes, who may so be the one to show them, and a third one waits for the broker to come to
/// rest: it hears of that. An ack was logged, and shown, before it was no more among those that are not; who was rung for that saw
/// it there, and slept on.
#[test]
fn loom_who_waits_for_rest_hears_of_the_last_ack() {
    explore(2, || {
        let engine = engine();
        enqueue(&engine.buffer, None);
        let flight = receive(&engine).unwrap().remove(0);
        let ack = Outcome::Ack { children: &[], places: 0, window: Duration::ZERO };
        engine.settle(&flight, ack, Write::Later).unwrap();
        drop(flight);
        // Else there is nothing to write but acks.
        begin(&engine.buffer);
        let others = [true, false].map(|logs| {
            let engine = Arc::clone(&engine);
            thread::spawn(move || match logs {
                true => engine.buffer.write_acks(queue(&engine.buffer)).unwrap(),
                false => engine.buffer.journal.write().unwrap(),
            })
        });
        let rest = &engine.buffer.state.rest;
        loop {
            let _listener = rest.listen();
            let seen = rest.count();
            if engine.is_idle() {
                break;
            }
            rest.wait(seen, None);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}
