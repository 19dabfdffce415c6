//! Handlers on an event loop: an inbox rings, and deliveries are taken from it and finished without ever waiting.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{
    Backoff, Broker, CancelReason, ClockMode, Delivery, Durability, ErrorKind, HandlerError,
    HandlerOptions, Inbox, Interrupt, Left, Message, OnFull, Options, Progress,
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

fn open() -> Broker {
    let backoff = Backoff::fixed(Duration::ZERO);
    Broker::open(":memory:", Options::new().default_backoff(backoff)).unwrap()
}

/// Registers a handler of `q` on a loop, whose bell arrives in the answer.
fn inbox(broker: &Broker, options: HandlerOptions) -> (Inbox, Receiver<()>) {
    let (sender, rings) = channel();
    // Whoever has dropped the other end does not listen any more.
    let inbox = broker.handle_on_loop("q", options, move || _ = sender.send(())).unwrap();
    (inbox.unwrap(), rings)
}

fn taken(inbox: &Inbox) -> Option<Delivery> {
    let mut taken = Vec::new();
    let left = inbox.take(1, &mut taken);
    let expected = if taken.is_empty() { Left::Nothing } else { Left::Perhaps };
    assert_eq!(left, expected);
    taken.pop()
}

/// What a loop does: waits for the bell, and takes.
fn next(inbox: &Inbox, rings: &Receiver<()>) -> Delivery {
    loop {
        if let Some(delivery) = taken(inbox) {
            return delivery;
        }
        rings.recv_timeout(LONG).unwrap();
    }
}

/// Waits for the bell and takes until something is so.
fn turn_until(inbox: &Inbox, rings: &Receiver<()>, what: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < end, "it did not come to that");
        assert!(taken(inbox).is_none());
        let _ = rings.recv_timeout(SHORT);
    }
}

#[test]
fn an_inbox_gives_messages_in_order_and_settles_them_by_their_answer() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new().max_retries(0));
    for body in ["a", "b", "c"] {
        broker.enqueue(Message::new("q", body)).unwrap();
    }
    assert!(taken(&inbox).is_none(), "given before the start");
    broker.start().unwrap();
    for (body, answer) in [
        ("a", Ok(())),
        ("b", Err(HandlerError::failed("meant to"))),
        ("c", Err(HandlerError::reject("no"))),
    ] {
        let delivery = next(&inbox, &rings);
        assert_eq!(delivery.body(), body.as_bytes());
        assert!(taken(&inbox).is_none(), "one at a time");
        inbox.finish(&delivery, answer).unwrap();
    }
    assert!(taken(&inbox).is_none());
    assert!(broker.wait_idle(LONG).unwrap());
    let figures = broker.metrics().unwrap().queues.remove("q").unwrap();
    assert_eq!((figures.acked, figures.retried, figures.rejected), (1, 1, 1));
    drop(inbox);
    broker.close(LONG).unwrap();
}

/// Only the take is an attempt: what a busy loop does not get round to is ready, for it or for anybody.
#[test]
fn what_the_loop_did_not_ask_for_is_not_held() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new().max_parallelism(3));
    broker.start().unwrap();
    for _ in 0..3 {
        broker.enqueue(Message::new("q", "")).unwrap();
    }
    rings.recv_timeout(LONG).unwrap();
    let figures = broker.metrics().unwrap().broker;
    assert_eq!((figures.ready, figures.in_flight, figures.delivered), (3, 0, 0));
    broker.receive("q", LONG, None).unwrap().unwrap().ack().unwrap();
    drop(inbox);
    assert_eq!(broker.metrics().unwrap().broker.ready, 2);
    broker.close(LONG).unwrap();
}

#[test]
fn as_many_run_at_once_as_max_parallelism_and_the_bell_rings_for_the_next() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new().max_parallelism(3));
    broker.start().unwrap();
    for _ in 0..5 {
        broker.enqueue(Message::new("q", "")).unwrap();
    }
    let running: Vec<Delivery> = (0..3).map(|_| next(&inbox, &rings)).collect();
    assert!(taken(&inbox).is_none());
    assert_eq!(broker.metrics().unwrap().broker.in_flight, 3);
    for delivery in running.iter().rev() {
        inbox.finish(delivery, Ok(())).unwrap();
    }
    for _ in 0..2 {
        let delivery = next(&inbox, &rings);
        inbox.finish(&delivery, Ok(())).unwrap();
    }
    assert!(taken(&inbox).is_none());
    assert!(broker.wait_idle(LONG).unwrap());
    drop(inbox);
    broker.close(LONG).unwrap();
}

/// A loop takes what there is at once, in order, never more than may run; and acks at once what has ended, of which one that
/// was lost meanwhile does not keep the others.
#[test]
fn what_is_taken_together_is_acked_together() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new().max_parallelism(12));
    broker.start().unwrap();
    for number in 0..30 {
        broker.enqueue(Message::new("q", number.to_string())).unwrap();
    }
    rings.recv_timeout(LONG).unwrap();
    let mut taken = vec![];
    assert_eq!(inbox.take(5, &mut taken), Left::Perhaps);
    assert_eq!(taken.len(), 5);
    assert_eq!(inbox.take(20, &mut taken), Left::Nothing);
    assert_eq!(taken.len(), 12, "as many as may run");
    for (number, delivery) in taken.iter().enumerate() {
        assert_eq!(delivery.body(), number.to_string().as_bytes());
    }

    inbox.finish(&taken[3], Err(HandlerError::release(LONG))).unwrap();
    let mut failed = vec![];
    inbox.ack_all(&taken, |error| failed.push(error.kind()));
    assert_eq!(failed, [ErrorKind::StaleLease]);
    taken.clear();
    assert_eq!(inbox.take(100, &mut taken), Left::Nothing);
    assert_eq!((taken.len(), taken[0].body()), (12, &b"12"[..]), "all workers are back");
    inbox.ack_all(&taken, |error| panic!("{error}"));
    taken.clear();
    assert_eq!(inbox.take(100, &mut taken), Left::Nothing);
    assert_eq!(taken.len(), 6);
    inbox.ack_all(&taken, |error| panic!("{error}"));
    let figures = broker.metrics().unwrap().queues.remove("q").unwrap();
    assert_eq!((figures.acked, figures.released, figures.in_flight), (29, 1, 0));
    drop(inbox);
    broker.close(LONG).unwrap();
}

#[test]
fn the_bell_is_silent_until_the_loop_has_looked() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new());
    broker.start().unwrap();
    while rings.recv_timeout(SHORT).is_ok() {
        assert!(taken(&inbox).is_none());
    }
    for _ in 0..100 {
        broker.enqueue(Message::new("q", "")).unwrap();
    }
    rings.recv_timeout(LONG).unwrap();
    assert!(rings.recv_timeout(SHORT).is_err(), "it rang twice");
    for _ in 0..100 {
        inbox.finish(&taken(&inbox).unwrap(), Ok(())).unwrap();
    }
    assert!(taken(&inbox).is_none());
    broker.enqueue(Message::new("q", "")).unwrap();
    rings.recv_timeout(LONG).unwrap();
    inbox.finish(&taken(&inbox).unwrap(), Ok(())).unwrap();
    drop(inbox);
    broker.close(LONG).unwrap();
}

#[test]
fn a_cancellation_rings_and_a_stuck_handler_gets_a_substitute() {
    let broker = open();
    let options = HandlerOptions::new()
        .timeout(Duration::from_millis(20))
        .cancel_grace(Duration::from_millis(20))
        .max_retries(1);
    let (inbox, rings) = inbox(&broker, options);
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let late = next(&inbox, &rings);
    turn_until(&inbox, &rings, || inbox.hear_cancelled());
    assert_eq!(late.cancel_reason(), Some(CancelReason::Timeout));
    let again = next(&inbox, &rings);
    assert_eq!((again.id(), again.attempt()), (late.id(), 2));
    assert_eq!(inbox.finish(&late, Ok(())).unwrap_err().kind(), ErrorKind::StaleLease);
    assert!(taken(&inbox).is_none(), "its place was given to the substitute");
    inbox.finish(&again, Ok(())).unwrap();
    assert_eq!(broker.metrics().unwrap().broker.stuck, 1);
    drop(inbox);
    broker.close(LONG).unwrap();
}

#[test]
fn a_stop_waits_for_what_the_loop_runs_and_a_start_goes_on() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new());
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "1")).unwrap();
    broker.enqueue(Message::new("q", "2")).unwrap();
    let delivery = next(&inbox, &rings);
    let stopping = thread::spawn({
        let broker = broker.clone();
        move || broker.stop(LONG)
    });
    turn_until(&inbox, &rings, || {
        broker.handle_on_loop("other", HandlerOptions::new(), || {}).unwrap().is_none()
    });
    inbox.finish(&delivery, Ok(())).unwrap();
    turn_until(&inbox, &rings, || stopping.is_finished());
    stopping.join().unwrap().unwrap();
    broker.start().unwrap();
    let delivery = next(&inbox, &rings);
    assert_eq!(delivery.body(), b"2");
    inbox.finish(&delivery, Ok(())).unwrap();
    drop(inbox);
    broker.close(LONG).unwrap();
}

/// A loop was told `DEADLOCK`, as if it had a handler of its own there, where another thread started, stopped or registered
/// one, which is over in a moment.
#[test]
fn a_registration_that_does_not_wait_for_its_turn_is_none() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new());
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "1")).unwrap();
    let delivery = next(&inbox, &rings);
    let other = |interrupt: Interrupt| {
        broker.handle_on_loop_until("other", HandlerOptions::new(), &interrupt, || {}).unwrap()
    };
    thread::scope(|scope| {
        let stopping = scope.spawn(|| broker.stop(LONG));
        let end = Instant::now() + LONG;
        while broker.handle_on_loop("other", HandlerOptions::new(), || {}).unwrap().is_some() {
            assert!(Instant::now() < end, "the stop does not begin");
        }
        let waiting = scope.spawn(|| other(Interrupt::new()));
        assert!(other(Interrupt::at_once()).is_none(), "an interrupt ends the wait");
        inbox.finish(&delivery, Ok(())).unwrap();
        turn_until(&inbox, &rings, || stopping.is_finished() && waiting.is_finished());
        stopping.join().unwrap().unwrap();
        assert!(waiting.join().unwrap().is_some());
    });
    let refused = broker.handle_on_loop_until("q", HandlerOptions::new(), &Interrupt::new(), || {});
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Deadlock, "it waits for no handler");
    drop(inbox);
    broker.close(LONG).unwrap();
}

/// A program that ends does not wait until it would be written by itself.
#[test]
fn what_a_loop_was_answered_is_written_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new().durability(Durability::Os)).unwrap();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new());
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let delivery = next(&inbox, &rings);
    inbox.finish(&delivery, Ok(())).unwrap();
    broker.write_settled();
    let lsn = broker.metrics().unwrap().lsn;
    assert_eq!((lsn.written, lsn.shown), (lsn.reserved, lsn.reserved));
    drop(inbox);
    broker.close(LONG).unwrap();
}

/// Whoever left a broker that others have open, too, cancelled none of its handlers, and gave them no grace.
#[test]
fn inboxes_that_retire_end_as_by_a_stop_and_others_go_on() {
    let broker = open();
    let grace = Duration::from_millis(20);
    let (quick, quick_rings) = inbox(&broker, HandlerOptions::new().cancel_grace(grace));
    let staying = broker.handle_on_loop("staying", HandlerOptions::new(), || {}).unwrap().unwrap();
    broker.start().unwrap();
    for queue in ["q", "staying"] {
        broker.enqueue(Message::new(queue, "")).unwrap();
    }
    let held = next(&quick, &quick_rings);
    let stays = taken(&staying).unwrap();
    let quick = [Arc::new(quick)];
    let retired = broker.retire_until(&quick, Duration::ZERO, &Interrupt::new());
    assert_eq!(retired.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(held.cancelled() && !stays.cancelled());
    let late = quick[0].finish(&held, Ok(())).unwrap_err().kind();
    assert_eq!(late, ErrorKind::StaleLease, "its grace is over");
    let figures = broker.metrics().unwrap().broker;
    assert_eq!((figures.released, figures.stuck, figures.ready), (1, 1, 1));
    broker.stop(Duration::ZERO).unwrap_err();
    broker.start().unwrap();
    assert!(taken(&quick[0]).is_none(), "no start opens it again");
    drop((stays, staying));

    let (slow, slow_rings) = inbox(&broker, HandlerOptions::new());
    let held = next(&slow, &slow_rings);
    let slow = [Arc::new(slow)];
    thread::scope(|scope| {
        let retiring = scope.spawn(|| broker.retire_until(&slow, LONG, &Interrupt::new()));
        slow[0].finish(&held, Ok(())).unwrap();
        turn_until(&slow[0], &slow_rings, || retiring.is_finished());
        retiring.join().unwrap().unwrap();
    });
    broker.close(LONG).unwrap();
}

/// A queue whose handler was being replaced had none for a moment, and whoever waited for idleness then waited no more.
#[test]
fn an_inbox_that_has_retired_is_replaced_without_a_gap() {
    let broker = open();
    let (first, rings) = inbox(&broker, HandlerOptions::new());
    broker.start().unwrap();
    for body in ["a", "b"] {
        broker.enqueue(Message::new("q", body)).unwrap();
    }
    let held = next(&first, &rings);
    first.retire();
    let again = || broker.handle_on_loop("q", HandlerOptions::new(), || {});
    assert_eq!(again().unwrap_err().kind(), ErrorKind::Deadlock, "it runs still");
    first.finish(&held, Ok(())).unwrap();
    first.retire();
    assert!(!broker.wait_idle(SHORT).unwrap(), "the other one is left for the next handler");
    broker.stop(LONG).unwrap();
    broker.start().unwrap();
    assert!(taken(&first).is_none(), "no start opens it again");
    let second = again().unwrap().unwrap();
    drop(first);
    let delivery = taken(&second).unwrap();
    second.finish(&delivery, Ok(())).unwrap();
    assert!(broker.wait_idle(LONG).unwrap());
    drop(second);
    broker.close(LONG).unwrap();
}

#[test]
fn a_stop_that_runs_out_of_time_cancels_what_the_loop_runs() {
    let broker = open();
    let options = HandlerOptions::new().cancel_grace(Duration::from_millis(20));
    let (inbox, rings) = inbox(&broker, options);
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let delivery = next(&inbox, &rings);
    assert_eq!(broker.stop(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
    assert!(taken(&inbox).is_none());
    assert!(inbox.hear_cancelled());
    assert!(delivery.cancelled());
    assert_eq!(inbox.finish(&delivery, Ok(())).unwrap_err().kind(), ErrorKind::StaleLease);
    assert_eq!(broker.metrics().unwrap().broker.ready, 1);
    drop(inbox);
    broker.close(LONG).unwrap();
}

/// A loop that ends, ends its handlers, whatever they run; nobody who stops the broker waits for them, and another loop
/// may take over.
#[test]
fn an_inbox_that_is_dropped_gives_its_queue_up() {
    let broker = open();
    let (first, rings) = inbox(&broker, HandlerOptions::new().max_parallelism(2));
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let held = next(&first, &rings);
    let refused = broker.handle_on_loop("q", HandlerOptions::new(), || {}).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Deadlock, "a loop does not wait for its own handlers");
    drop(first);
    drop(held);
    assert!(broker.wait_idle(LONG).unwrap(), "a queue without a handler is at rest");
    let (second, rings) = inbox(&broker, HandlerOptions::new());
    let delivery = next(&second, &rings);
    assert_eq!(delivery.attempt(), 1, "what was dropped was given back");
    second.finish(&delivery, Ok(())).unwrap();
    drop(second);
    broker.stop(LONG).unwrap();
    broker.close(LONG).unwrap();
}

#[test]
fn a_broker_that_nobody_holds_gives_its_loops_nothing() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new());
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    rings.recv_timeout(LONG).unwrap();
    drop(broker);
    assert!(taken(&inbox).is_none());
}

/// How far a loop has come, as it says itself.
#[derive(Default)]
struct Places {
    entered: AtomicU64,
    passed: AtomicU64,
}

/// A broker with a manual clock whose loop has taken three messages of `q`, of which it says how far it has come with them.
fn three_taken(options: HandlerOptions) -> (Broker, Inbox, Arc<Places>, Vec<Delivery>) {
    let options = options.timeout(SHORT).cancel_grace(SHORT).max_parallelism(3);
    let backoff = Backoff::fixed(Duration::ZERO);
    let init = Options::new().clock(ClockMode::Manual).default_backoff(backoff);
    let broker = Broker::open(":memory:", init).unwrap();
    let inbox = broker.handle_on_loop("q", options, || {}).unwrap().unwrap();
    let places = Arc::new(Places::default());
    let loops = Arc::clone(&places);
    inbox.put_gate(move || Progress {
        entered: loops.entered.load(Ordering::SeqCst),
        passed: loops.passed.load(Ordering::SeqCst),
    });
    broker.start().unwrap();
    for body in ["a", "b", "c"] {
        broker.enqueue(Message::new("q", body)).unwrap();
    }
    let mut taken = Vec::new();
    while inbox.take(3, &mut taken) == Left::Perhaps && taken.len() < 3 {}
    assert_eq!(taken.len(), 3);
    for (place, delivery) in (1..).zip(&taken) {
        delivery.stand_at(place);
    }
    (broker, inbox, places, taken)
}

/// A loop that was busy with the first of several messages lost the leases of all: each had failed, though none of the
/// others had been begun, and with handlers that took long enough all ended as dead letters.
#[test]
fn what_a_loop_has_not_come_to_when_its_time_is_over_is_given_back_uncounted() {
    let (broker, inbox, places, taken) = three_taken(HandlerOptions::new());
    places.entered.store(1, Ordering::SeqCst);
    broker.advance(SHORT).unwrap();
    let reasons: Vec<_> = taken.iter().map(Delivery::cancel_reason).collect();
    let lost = Some(CancelReason::LeaseLost);
    assert_eq!(reasons, [Some(CancelReason::Timeout), lost, lost]);
    let figures = broker.metrics().unwrap().broker;
    assert_eq!((figures.released, figures.retried, figures.timeouts, figures.stuck), (2, 0, 1, 0));
    assert_eq!((figures.ready, figures.in_flight), (2, 1));
    assert!(!taken[1].enter() && !taken[2].enter(), "they are in other hands");
    taken[1..].iter().for_each(|delivery| inbox.abandon(delivery));
    places.entered.store(3, Ordering::SeqCst);
    places.passed.store(3, Ordering::SeqCst);
    inbox.finish(&taken[0], Ok(())).unwrap();
    let mut again = Vec::new();
    while inbox.take(2, &mut again) == Left::Perhaps && again.len() < 2 {}
    let found: Vec<_> =
        again.iter().map(|delivery| (delivery.body(), delivery.attempt())).collect();
    assert_eq!(found, [(&b"b"[..], 1), (&b"c"[..], 1)]);
    inbox.ack_all(&again, |error| panic!("{error}"));
    assert!(broker.wait_idle(LONG).unwrap());
    broker.close(LONG).unwrap();
}

#[test]
fn what_a_loop_puts_off_has_its_time_from_when_it_is_entered() {
    let (broker, inbox, places, taken) = three_taken(HandlerOptions::new());
    // It may go on with those of others meanwhile.
    places.entered.store(9, Ordering::SeqCst);
    places.passed.store(9, Ordering::SeqCst);
    inbox.finish(&taken[0], Ok(())).unwrap();
    taken[1..].iter().for_each(Delivery::put_off);
    broker.advance(SHORT / 2).unwrap();
    assert!(taken[1].enter());
    broker.advance(SHORT / 2).unwrap();
    assert_eq!(taken[1].cancel_reason(), None, "its time is not over");
    assert_eq!(taken[2].cancel_reason(), Some(CancelReason::LeaseLost), "it was given back");
    broker.advance(SHORT / 2).unwrap();
    assert_eq!(taken[1].cancel_reason(), Some(CancelReason::Timeout));
    let figures = broker.metrics().unwrap().broker;
    assert_eq!((figures.released, figures.timeouts, figures.stuck), (1, 1, 0));
    drop(inbox);
    broker.close(Duration::ZERO).unwrap_err();
}

/// What had ended was lost, since its loop could not say so before others had ended that it took at the same time.
#[test]
fn what_a_loop_went_on_from_has_more_time_as_long_as_it_goes_on() {
    let (broker, inbox, places, taken) = three_taken(HandlerOptions::new());
    for entered in 2..=3 {
        places.entered.store(entered, Ordering::SeqCst);
        broker.advance(SHORT - Duration::from_millis(1)).unwrap();
        taken[..2].iter().for_each(|delivery| assert_eq!(delivery.cancel_reason(), None));
        broker.advance(Duration::from_millis(1)).unwrap();
    }
    assert_eq!(taken[0].cancel_reason(), None);
    broker.advance(SHORT).unwrap();
    assert_eq!(taken[0].cancel_reason(), Some(CancelReason::Timeout), "the loop stands still");
    drop(inbox);
    broker.close(Duration::ZERO).unwrap_err();
}

#[test]
fn a_loop_and_threads_of_others_handle_everything_once() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new().max_parallelism(4));
    broker.start().unwrap();
    let handled = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&handled);
    let looping = thread::spawn(move || {
        while rings.recv_timeout(LONG).is_ok() {
            let mut running = Vec::new();
            while let Some(delivery) = taken(&inbox) {
                running.push(delivery);
                if running.len() == 3 {
                    for delivery in running.drain(..) {
                        inbox.finish(&delivery, Ok(())).unwrap();
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
            for delivery in running.drain(..) {
                inbox.finish(&delivery, Ok(())).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
            let all_done = count.load(Ordering::SeqCst) >= 1500;
            while let Some(delivery) = taken(&inbox) {
                inbox.finish(&delivery, Ok(())).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
            if all_done {
                break;
            }
        }
    });
    let puller = thread::spawn({
        let (broker, handled) = (broker.clone(), Arc::clone(&handled));
        move || {
            while let Some(delivery) = broker.receive("q", SHORT, None).unwrap() {
                delivery.ack().unwrap();
                handled.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    for _ in 0..2000 {
        broker.enqueue(Message::new("q", "")).unwrap();
    }
    assert!(broker.wait_idle(LONG).unwrap());
    puller.join().unwrap();
    assert_eq!(broker.metrics().unwrap().broker.acked, 2000);
    broker.close(LONG).unwrap();
    looping.join().unwrap();
}

#[test]
fn an_enqueue_that_has_begun_is_in_order_and_reaches_its_durability() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    let safe = broker.begin_enqueue(&Message::new("q", "1"), false).unwrap().unwrap();
    let quick = Message::new("q", "2").durability(Durability::Os);
    let quick = broker.begin_enqueue(&quick, false).unwrap().unwrap();
    assert!(!safe.needs_no_sync());
    assert!(broker.receive("q", Duration::ZERO, None).unwrap().is_none(), "shown too early");
    safe.reach().unwrap();
    assert!(safe.needs_no_sync());
    quick.reach().unwrap();
    let ids: Vec<u64> =
        [&safe, &quick].iter().map(|begun| begun.receipts().next().unwrap().id).collect();
    assert!(ids[0] < ids[1]);
    assert_eq!(broker.receive("q", LONG, None).unwrap().unwrap().id(), ids[0]);
    broker.close(LONG).unwrap();
    let again = broker.begin_enqueue(&Message::new("q", "3"), false).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Closed);
}

#[test]
fn an_enqueue_that_would_wait_for_room_does_not_begin() {
    let options = Options::new().capacity(1).on_full(OnFull::Block);
    let broker = Broker::open(":memory:", options).unwrap();
    assert!(broker.begin_enqueue(&Message::new("q", "1"), false).unwrap().is_some());
    assert!(broker.begin_enqueue(&Message::new("q", "2"), false).unwrap().is_none());
    let broker = Broker::open(":memory:", Options::new().capacity(1)).unwrap();
    assert!(broker.begin_enqueue(&Message::new("q", "1"), false).unwrap().is_some());
    let full = broker.begin_enqueue(&Message::new("q", "2"), false).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Full);
}

/// The segment that was made ahead is all that an enqueue may count on that must not wait for another one.
#[test]
fn an_enqueue_that_needs_a_segment_of_its_own_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new().segment_bytes(64 << 10)).unwrap();
    let big = vec![0; 200 << 10];
    assert!(broker.begin_enqueue(&Message::new("q", &big), false).unwrap().is_none());
    broker.enqueue(Message::new("q", &big)).unwrap();
    broker.close(LONG).unwrap();
}

#[test]
fn a_watch_rings_for_messages_and_for_the_close() {
    let broker = open();
    let (sender, rings) = channel();
    let watch = broker.watch("q", move || sender.send(()).unwrap()).unwrap();
    broker.enqueue(Message::new("other", "")).unwrap();
    assert!(rings.try_recv().is_err());
    broker.enqueue(Message::new("q", "")).unwrap();
    rings.recv_timeout(LONG).unwrap();
    watch.listen();
    broker.close(LONG).unwrap();
    rings.recv_timeout(LONG).unwrap();
    drop(watch);
    assert!(rings.recv_timeout(LONG).is_err(), "forgotten with its watch");
}

/// A stop and a close waited for workers that were idle, on a loop that never asked again, whatever their time was.
#[test]
fn a_stop_and_a_close_do_not_wait_for_a_loop_that_never_looks() {
    let broker = open();
    let (inbox, rings) = inbox(&broker, HandlerOptions::new().cancel_grace(SHORT));
    broker.start().unwrap();
    rings.recv_timeout(LONG).unwrap();
    broker.stop(LONG).unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let delivery = next(&inbox, &rings);
    // One that runs a handler is waited for, and for as long as was said.
    let stopped = broker.stop(Duration::ZERO).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Timeout);
    assert_eq!(delivery.cancel_reason(), Some(CancelReason::LeaseLost));
    assert!(inbox.finish(&delivery, Ok(())).is_err());
    broker.start().unwrap();
    let delivery = next(&inbox, &rings);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(SHORT);
            inbox.finish(&delivery, Ok(())).unwrap();
        });
        broker.close(LONG).unwrap();
    });
}

/// A loop heard that the lease was lost while the handler was not yet counted among the stuck: it went on with the next one,
/// and a reader of the metrics found none.
#[test]
fn a_loop_that_hears_of_a_lost_lease_finds_its_handler_counted() {
    let broker = Broker::open(":memory:", Options::new().clock(ClockMode::Manual)).unwrap();
    let (sender, rings) = channel();
    // Slow enough that whoever is woken looks before the caller goes on.
    let ring = move || {
        let _ = sender.send(());
        thread::sleep(SHORT);
    };
    let options = HandlerOptions::new().timeout(SHORT).cancel_grace(SHORT).max_retries(0);
    let inbox = broker.handle_on_loop("q", options, ring).unwrap().unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let delivery = next(&inbox, &rings);
    thread::scope(|scope| {
        scope.spawn(|| {
            broker.advance(SHORT).unwrap();
            broker.advance(SHORT).unwrap();
        });
        while delivery.cancel_reason() != Some(CancelReason::LeaseLost) {
            assert!(taken(&inbox).is_none());
            rings.recv_timeout(LONG).unwrap();
        }
        assert_eq!(broker.metrics().unwrap().broker.stuck, 1);
    });
    inbox.finish(&delivery, Ok(())).unwrap_err();
    drop(inbox);
    broker.close(LONG).unwrap();
}
