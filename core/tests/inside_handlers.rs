//! What a handler may call, and when it is let go of.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use libmq::{Backoff, Broker, ErrorKind, HandlerError, HandlerOptions, Message, Options};

const LONG: Duration = Duration::from_secs(20);

fn open() -> Broker {
    Broker::open(":memory:", Options::new()).unwrap()
}

/// Runs `call` in a handler of the queue `q`, and sends what it answers.
fn in_handler(
    broker: &Broker,
    answers: Sender<libmq::Result<()>>,
    call: impl Fn() -> libmq::Result<()> + Send + Sync + 'static,
) {
    broker
        .handle("q", HandlerOptions::new(), move |_| {
            answers.send(call()).unwrap();
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
}

/// A stop that came between the taking of a message and its entry among the flights saw no handler at work, cancelled
/// none, and then waited for that one without an end.
#[test]
fn a_stop_cancels_a_handler_that_is_just_being_handed_its_message() {
    let broker = open();
    broker
        .handle("q", HandlerOptions::new(), |context| {
            assert!(context.wait_cancelled(LONG));
            Ok(())
        })
        .unwrap();
    for _ in 0..200 {
        broker.enqueue(Message::new("q", "")).unwrap();
        broker.start().unwrap();
        while broker.metrics().unwrap().broker.in_flight == 0 {
            std::hint::spin_loop();
        }
        let began = std::time::Instant::now();
        let _ = broker.stop(Duration::ZERO);
        assert!(began.elapsed() < LONG / 2);
    }
    broker.close(LONG).unwrap();
}

/// A worker told that it had left while it still held the handler, so that a context in it could be dropped after close
/// had returned, and what it pointed to was gone.
#[test]
fn a_handler_is_gone_when_close_returns() {
    struct Context(Arc<AtomicBool>);

    impl Drop for Context {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_micros(200));
            self.0.store(true, Ordering::SeqCst);
        }
    }

    for _ in 0..50 {
        let broker = open();
        let dropped = Arc::new(AtomicBool::new(false));
        let context = Context(Arc::clone(&dropped));
        broker
            .handle("q", HandlerOptions::new(), move |_| {
                let _in_use = &context;
                Ok(())
            })
            .unwrap();
        broker.start().unwrap();
        broker.enqueue(Message::new("q", "")).unwrap();
        assert!(broker.wait_idle(LONG).unwrap());
        broker.close(LONG).unwrap();
        assert!(dropped.load(Ordering::SeqCst));
    }
}

/// It waited for its own call to end.
#[test]
fn a_handler_that_replaces_itself_is_refused() {
    let broker = open();
    let (answers, answered) = channel();
    let inside = broker.clone();
    in_handler(&broker, answers, move || inside.handle("q", HandlerOptions::new(), |_| Ok(())));
    let error = answered.recv_timeout(LONG).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    broker.close(LONG).unwrap();
}

#[test]
fn a_handler_may_register_one_for_another_queue() {
    let broker = open();
    let (answers, answered) = channel();
    let inside = broker.clone();
    in_handler(&broker, answers, move || inside.handle("other", HandlerOptions::new(), |_| Ok(())));
    answered.recv_timeout(LONG).unwrap().unwrap();
    broker.enqueue(Message::new("other", "")).unwrap();
    assert!(broker.wait_idle(LONG).unwrap());
    broker.close(LONG).unwrap();
}

/// A stop waits for handlers, and those waited for the stop.
#[test]
fn a_handler_does_not_wait_for_a_stop_that_waits_for_it() {
    let broker = open();
    let (answers, answered) = channel();
    let inside = broker.clone();
    let (entered, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (here, then) = (Arc::clone(&entered), Arc::clone(&go_on));
    in_handler(&broker, answers, move || {
        here.wait();
        then.wait();
        // The stop has its turn by then.
        std::thread::sleep(Duration::from_millis(50));
        inside.start()
    });
    entered.wait();
    let stopping = broker.clone();
    let stop = std::thread::spawn(move || stopping.stop(LONG));
    go_on.wait();
    let error = answered.recv_timeout(LONG).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    stop.join().unwrap().unwrap();
    broker.close(LONG).unwrap();
}

/// The keeper of time took the lease at the end of the grace, while the stop, which found that done, went ahead before
/// the message was back; and later, when it was back, and not counted yet as released.
#[test]
fn what_a_stop_took_back_is_there_when_it_returns() {
    for _ in 0..100 {
        let broker = open();
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        let options = HandlerOptions::new().cancel_grace(Duration::from_millis(2));
        let (entered, was_entered) = channel();
        broker
            .handle_delivery("q", options, move |delivery| {
                *keep.lock().unwrap() = Some(delivery);
                entered.send(()).unwrap();
            })
            .unwrap();
        broker.start().unwrap();
        broker.enqueue(Message::new("q", "")).unwrap();
        was_entered.recv_timeout(LONG).unwrap();
        let error = broker.stop(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let figures = broker.metrics().unwrap().broker;
        assert_eq!((figures.ready, figures.in_flight, figures.released), (1, 0, 1));
        drop(kept.lock().unwrap().take());
        broker.close(LONG).unwrap();
    }
}

/// A worker that was about to leave was counted as one that stays, and a queue had nobody after the start.
#[test]
fn a_start_right_after_a_stop_that_cut_off_finds_workers() {
    let broker = open();
    let options = HandlerOptions::new().backoff(Backoff::fixed(Duration::ZERO));
    let (entered, was_entered) = channel();
    broker
        .handle("q", options, move |ctx| {
            entered.send(()).unwrap();
            match ctx.wait_cancelled(LONG) {
                true => Err(HandlerError::failed("cancelled")),
                false => Ok(()),
            }
        })
        .unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    for round in 0..300 {
        broker.start().unwrap();
        was_entered.recv_timeout(LONG).unwrap_or_else(|_| panic!("nobody came in round {round}"));
        assert_eq!(broker.stop(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
    }
    broker.close(LONG).unwrap();
}

/// The end of the wait was reckoned with a sum that overflowed.
#[test]
fn the_longest_wait_is_for_ever() {
    let broker = open();
    assert!(broker.wait_idle(Duration::MAX).unwrap());
    broker.close(Duration::MAX).unwrap();
}

/// A child of one queue too many was found by the ack, which then did not end the message.
#[test]
fn a_child_of_a_queue_too_many_is_refused_at_once() {
    let broker = open();
    for queue in 0..libmq::limits::QUEUES_MAX {
        broker.enqueue(Message::new(format!("q{queue}"), "")).unwrap();
    }
    let delivery = broker.receive("q0", Duration::ZERO, None).unwrap().unwrap();
    let error = delivery.enqueue(Message::new("one_more", "")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    delivery.ack().unwrap();
}

/// It answered that there was no such message, though it was what had ended it: the attempt failed between two looks.
#[test]
fn a_cancel_that_ends_a_message_says_so() {
    let broker = Broker::open(
        ":memory:",
        Options::new().default_backoff(Backoff::fixed(Duration::from_secs(3600))),
    )
    .unwrap();
    broker.handle("q", HandlerOptions::new(), |_| Err(HandlerError::failed("meant to"))).unwrap();
    broker.start().unwrap();
    for _ in 0..2000 {
        let before = broker.metrics().unwrap().broker.cancelled;
        let id = broker.enqueue(Message::new("q", "")).unwrap().id;
        let existed = broker.cancel(id).unwrap();
        assert!(broker.wait_idle(Duration::ZERO).is_ok());
        let gone = broker.metrics().unwrap().broker.cancelled > before;
        assert!(existed || !gone);
    }
    broker.close(LONG).unwrap();
}

/// Each start hired as if the stuck ones were nobody: a program that restarted its broker to get rid of them got one more
/// thread each time.
#[test]
fn substitutes_are_held_to_their_limit_over_restarts() {
    let broker = open();
    let short = Duration::from_millis(10);
    let (entered, enters) = channel();
    let (free, freed) = channel::<()>();
    let freed = Mutex::new(freed);
    let options = HandlerOptions::new().timeout(short).cancel_grace(short).max_retries(0);
    broker
        .handle("q", options, move |_| {
            entered.send(()).unwrap();
            let _ = freed.lock().unwrap().recv();
            Ok(())
        })
        .unwrap();
    for _ in 0..20 {
        broker.enqueue(Message::new("q", "")).unwrap();
    }
    broker.start().unwrap();
    for _ in 0..2 {
        enters.recv_timeout(LONG).unwrap();
    }
    for _ in 0..10 {
        let _ = broker.stop(Duration::ZERO);
        broker.start().unwrap();
    }
    assert!(enters.recv_timeout(Duration::from_millis(200)).is_err(), "one and its substitute");
    drop(free);
    for _ in 0..18 {
        enters.recv_timeout(LONG).unwrap();
    }
    broker.close(LONG).unwrap();
}

/// A panic of any payload is a failed attempt, whose text is kept, and the worker goes on.
#[test]
fn a_handler_that_panics_has_failed_an_attempt() {
    let broker = open();
    let calls = Arc::new(Mutex::new(0));
    let count = Arc::clone(&calls);
    let options = HandlerOptions::new().max_retries(0);
    broker
        .handle("q", options, move |context| {
            *count.lock().unwrap() += 1;
            match context.body() {
                b"text" => panic!("a text"),
                b"made" => panic!("made of {}", "parts"),
                b"other" => std::panic::panic_any(7),
                _ => Ok(()),
            }
        })
        .unwrap();
    for body in ["text", "made", "other", "none"] {
        broker.enqueue(Message::new("q", body)).unwrap();
    }
    broker.start().unwrap();
    assert!(broker.wait_idle(LONG).unwrap());
    assert_eq!(*calls.lock().unwrap(), 4);
    let letters = broker.dead_letters().list(None, 10, None).unwrap();
    let errors: Vec<&str> = letters.iter().map(|letter| letter.error()).collect();
    assert!(errors[0].contains("a text") && errors[1].contains("made of parts"), "{errors:?}");
    assert_eq!(errors.len(), 3);
    assert!(letters.iter().all(|letter| letter.reason() == "max_retries"));
    let figures = broker.metrics().unwrap().broker;
    assert_eq!((figures.handler_errors, figures.acked), (3, 1));
    broker.close(LONG).unwrap();
}
