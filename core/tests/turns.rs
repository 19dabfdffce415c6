//! Calls that wait for their turn: starts, stops, closes and the registering of handlers.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use libmq::{Broker, ErrorKind, HandlerOptions, Interrupt, Message, Options, Result};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

type Call = fn(&Broker) -> Result<()>;

/// Calls that wait for a handler without an end, and have the turn meanwhile.
const HOLDERS: [(&str, Call); 3] = [
    ("replace", |broker| broker.handle("q", HandlerOptions::new(), |_| Ok(()))),
    ("stop", |broker| broker.stop(Duration::MAX)),
    ("close", |broker| broker.close(Duration::MAX)),
];

/// A broker whose handler runs, until it is cancelled or, if it is stuck, until it is let go.
fn open(is_stuck: bool) -> (Broker, Arc<AtomicBool>) {
    let broker = Broker::open(":memory:", Options::new()).unwrap();
    let (let_go, (entered, enters)) = (Arc::new(AtomicBool::new(false)), channel());
    let free = Arc::clone(&let_go);
    let options = HandlerOptions::new().cancel_grace(SHORT);
    broker
        .handle("q", options, move |context| {
            entered.send(()).unwrap();
            while !free.load(Ordering::SeqCst) && (is_stuck || !context.cancelled()) {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    enters.recv_timeout(LONG).unwrap();
    (broker, let_go)
}

/// Has `last` wait behind each holder of the turn; answers what it and the holder answered.
fn behind_each(
    is_stuck: bool,
    last: impl Fn(&Broker) -> Result<()>,
    judge: impl Fn(&str, Result<()>, Result<()>),
) {
    for (name, holder) in HOLDERS {
        let (broker, let_go) = open(is_stuck);
        thread::scope(|scope| {
            let holds = scope.spawn(|| holder(&broker));
            // Time to get the turn; where it was too short, the test shows less, and nothing false.
            thread::sleep(SHORT);
            let began = Instant::now();
            let answer = last(&broker);
            assert!(began.elapsed() < LONG / 2, "{name}: it waited for {:?}", began.elapsed());
            let_go.store(true, Ordering::SeqCst);
            judge(name, answer, holds.join().unwrap());
        });
    }
}

fn kind(answer: Result<()>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

/// A stop's or close's time did not run while somebody else had the turn: behind one that waited for a handler without an
/// end, it waited without an end.
#[test]
fn the_time_of_a_stop_and_a_close_runs_while_they_wait_for_their_turn() {
    for is_stuck in [false, true] {
        behind_each(
            is_stuck,
            |broker| broker.stop(SHORT),
            |name, stop, _| assert_eq!(kind(stop), Some(ErrorKind::Timeout), "{name}"),
        );
        behind_each(
            is_stuck,
            |broker| broker.close(SHORT),
            |name, close, _| assert_eq!(kind(close), Some(ErrorKind::Timeout), "{name}"),
        );
    }
}

#[test]
fn an_interrupt_ends_the_time_of_a_close_that_waits_for_its_turn() {
    behind_each(
        true,
        |broker| {
            let interrupt = Interrupt::new();
            thread::scope(|scope| {
                let closes = scope.spawn(|| broker.close_until(Duration::MAX, &interrupt));
                thread::sleep(SHORT);
                broker.interrupt(&interrupt);
                closes.join().unwrap()
            })
        },
        |name, close, _| assert_eq!(kind(close), Some(ErrorKind::Timeout), "{name}"),
    );
}

#[test]
fn who_is_cut_off_for_another_says_so_unless_it_cancels_nobody() {
    behind_each(
        true,
        |broker| broker.close(SHORT),
        |name, _, held| match name {
            // The handler that was to be replaced has not ended, and the new one is registered.
            "replace" => assert_eq!(kind(held), None),
            _ => assert_eq!(kind(held), Some(ErrorKind::Timeout), "{name}"),
        },
    );
}

#[test]
fn after_a_stop_that_cut_a_replacement_off_the_new_handler_is_started() {
    let (broker, let_go) = open(true);
    let (handled, handles) = channel();
    thread::scope(|scope| {
        let replaces = scope.spawn(|| {
            broker.handle("q", HandlerOptions::new(), move |_| {
                handled.send(()).unwrap();
                Ok(())
            })
        });
        thread::sleep(SHORT);
        let stopped = broker.stop(Duration::ZERO);
        assert_eq!(kind(stopped), Some(ErrorKind::Timeout));
        replaces.join().unwrap().unwrap();
        assert!(handles.try_recv().is_err(), "it was stopped");
        broker.start().unwrap();
        handles.recv_timeout(LONG).unwrap();
        let_go.store(true, Ordering::SeqCst);
    });
    broker.close(LONG).unwrap();
}

#[test]
fn closing_at_the_same_time_is_no_timeout_where_nobody_was_cancelled() {
    for _ in 0..20 {
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        broker.handle("q", HandlerOptions::new(), |_| Ok(())).unwrap();
        broker.start().unwrap();
        thread::scope(|scope| {
            let closes = [(); 3].map(|()| scope.spawn(|| broker.close(Duration::ZERO)));
            for close in closes {
                close.join().unwrap().unwrap();
            }
        });
    }
}

/// A handler that had returned, and whose end the poisoned broker could not write any more, was waited for as if it still
/// ran: a stop and a close took all their time, and said that they had to cancel it.
#[test]
fn what_a_poisoned_broker_cannot_end_is_not_waited_for() {
    let calls: [Call; 2] = [|broker| broker.stop(LONG), |broker| broker.close(LONG)];
    for call in calls {
        let (broker, let_go) = open(true);
        broker.poison("for a test");
        thread::scope(|scope| {
            let holds = scope.spawn(|| call(&broker));
            // Time to begin to wait; where it was too short, the test shows less, and nothing false.
            thread::sleep(SHORT);
            assert!(!holds.is_finished(), "a handler's code that runs is waited for");
            let_go.store(true, Ordering::SeqCst);
            assert_ne!(kind(holds.join().unwrap()), Some(ErrorKind::Timeout));
        });
    }
}
