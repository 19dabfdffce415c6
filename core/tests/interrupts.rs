//! Waits that are ended early, for callers who have signals to attend to.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::thread;
use std::time::{Duration, Instant};

use libmq::{
    Broker, CancelReason, ErrorKind, HandlerError, HandlerOptions, Interrupt, Message, OnFull,
    Options,
};

const LONG: Duration = Duration::from_secs(20);

fn open(options: Options) -> Broker {
    Broker::open(":memory:", options).unwrap()
}

/// Runs a call that would wait for long, and interrupts it at some moment before or in its wait.
fn interrupted<R: Send>(broker: &Broker, call: impl Fn(&Interrupt) -> R + Sync) -> Vec<R> {
    let began = Instant::now();
    let answers = (0..20)
        .map(|pause| {
            let interrupt = Interrupt::new();
            thread::scope(|scope| {
                let waits = scope.spawn(|| call(&interrupt));
                thread::sleep(Duration::from_micros(pause * 100));
                broker.interrupt(&interrupt);
                waits.join().unwrap()
            })
        })
        .collect();
    assert!(began.elapsed() < LONG);
    answers
}

#[test]
fn an_interrupted_receive_has_received_nothing() {
    let broker = open(Options::new());
    let answers = interrupted(&broker, |interrupt| {
        broker.receive_batch_until("q", 1, None, None, interrupt).unwrap().len()
    });
    assert!(answers.iter().all(|received| *received == 0));
    broker.enqueue(Message::new("q", "")).unwrap();
    let received = broker.receive_batch_until("q", 1, None, None, &Interrupt::at_once()).unwrap();
    assert_eq!(received.len(), 1, "what is there is taken without a wait");
}

#[test]
fn an_interrupted_wait_for_idleness_says_that_it_is_not_idle() {
    let broker = open(Options::new());
    broker.enqueue(Message::new("q", "")).unwrap();
    let _held = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
    let answers =
        interrupted(&broker, |interrupt| broker.wait_idle_until(None, interrupt).unwrap());
    assert!(answers.iter().all(|idle| !idle));
}

#[test]
fn an_interrupted_wait_for_room_has_enqueued_nothing() {
    let broker = open(Options::new().capacity(1).on_full(OnFull::Block).block_timeout(LONG));
    broker.enqueue(Message::new("q", "")).unwrap();
    let answers = interrupted(&broker, |interrupt| {
        broker.enqueue_batch_until(&[Message::new("q", "")], interrupt).unwrap_err().kind()
    });
    assert!(answers.iter().all(|kind| *kind == ErrorKind::Full));
    assert_eq!(broker.metrics().unwrap().broker.enqueued, 1);
}

#[test]
fn an_interrupted_stop_cancels_at_once() {
    let broker = open(Options::new());
    let (entered, enters) = std::sync::mpsc::channel();
    let enters = std::sync::Mutex::new(enters);
    broker
        .handle("q", HandlerOptions::new(), move |context| {
            entered.send(()).unwrap();
            assert!(context.wait_cancelled(LONG));
            assert_eq!(context.cancel_reason(), Some(CancelReason::Shutdown));
            Ok(())
        })
        .unwrap();
    let answers = interrupted(&broker, |interrupt| {
        broker.start().unwrap();
        broker.enqueue(Message::new("q", "")).unwrap();
        enters.lock().unwrap().recv_timeout(LONG).unwrap();
        broker.stop_until(LONG, interrupt).unwrap_err().kind()
    });
    assert!(answers.iter().all(|kind| *kind == ErrorKind::Timeout));
    broker.close(LONG).unwrap();
}

/// A second interrupt changed nothing: whoever pressed Ctrl-C twice waited for the grace all the same.
#[test]
fn a_stop_that_is_interrupted_twice_gives_no_grace() {
    let broker = open(Options::new());
    let (entered, enters) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let goes = std::sync::Mutex::new(goes);
    broker
        .handle("q", HandlerOptions::new().cancel_grace(30 * LONG), move |_| {
            entered.send(()).unwrap();
            let _ = goes.lock().unwrap().recv();
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    enters.recv_timeout(LONG).unwrap();
    let interrupt = Interrupt::new();
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| broker.stop_until(30 * LONG, &interrupt).unwrap_err().kind());
        broker.interrupt(&interrupt);
        broker.interrupt(&interrupt);
        assert_eq!(stop.join().unwrap(), ErrorKind::Timeout);
    });
    assert_eq!(broker.metrics().unwrap().broker.released, 1);
    go.send(()).unwrap();
    broker.close(LONG).unwrap();
}

/// A delivery that a language's garbage collector drops says nothing about the message.
#[test]
fn a_delivery_that_is_let_lapse_is_held_until_its_lease_runs_out() {
    let broker = open(Options::new());
    broker.enqueue(Message::new("q", "")).unwrap();
    let lease = Duration::from_millis(30);
    let delivery = broker.receive("q", Duration::ZERO, lease).unwrap().unwrap();
    delivery.enqueue(Message::new("children", "")).unwrap();
    delivery.enqueue(Message::new("children", "")).unwrap();
    delivery.let_lapse();
    assert!(broker.receive("q", Duration::ZERO, None).unwrap().is_none());
    let again = broker.receive("q", LONG, None).unwrap().unwrap();
    assert_eq!(again.attempt(), 2, "a lapsed lease is a failed attempt");
    again.settle(Ok(())).unwrap();
    assert_eq!(again.body(), b"", "readable as before");
    for late in [again.enqueue(Message::new("children", "")), again.settle(Ok(()))] {
        assert_eq!(late.unwrap_err().kind(), ErrorKind::StaleLease);
    }
    assert!(broker.wait_idle(LONG).unwrap());
    assert!(broker.receive("children", Duration::ZERO, None).unwrap().is_none());
}

#[test]
fn a_body_that_does_not_decode_is_a_dead_letter_that_says_so() {
    let broker = open(Options::new());
    broker.enqueue(Message::new("q", "{").content_type("application/json")).unwrap();
    broker
        .receive("q", LONG, None)
        .unwrap()
        .unwrap()
        .settle(Err(HandlerError::undecodable("not JSON")))
        .unwrap();
    let letters = broker.dead_letters().list(None, 10, None).unwrap();
    assert_eq!((letters[0].reason(), letters[0].error()), ("decode", "not JSON"));
    assert_eq!(letters[0].attempts(), 1);
}
