//! Who waits is woken: by what ends a wait, at once, and not by its timeout.
//!
//! Conformance scenarios do one thing after another; here is what takes two threads.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

use libmq::{Broker, ClockMode, Durability, ErrorKind, HandlerOptions, Message, Options};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

fn broker() -> Broker {
    let options = Options::new().durability(Durability::Memory).clock(ClockMode::Manual);
    Broker::open(":memory:", options).unwrap()
}

/// Gives the thread time to fall asleep; where it has not, the test shows less, and nothing false.
fn let_it_sleep<T>(waiter: &ScopedJoinHandle<'_, T>) {
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiter.is_finished(), "it did not wait");
}

fn ends_at_once<T>(waiter: ScopedJoinHandle<'_, T>) -> T {
    let began = Instant::now();
    let answer = waiter.join().unwrap();
    assert!(began.elapsed() < LONG / 2, "woken by its timeout alone");
    answer
}

#[test]
fn wait_idle_ends_when_a_retry_comes_due_where_no_handler_is() {
    let broker = broker();
    broker.enqueue(Message::new("q", "x")).unwrap();
    let delivery = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
    delivery.retry(HOUR).unwrap();
    scope(|scope| {
        let waiter = scope.spawn(|| broker.wait_idle(LONG).unwrap());
        let_it_sleep(&waiter);
        broker.advance(HOUR).unwrap();
        assert!(ends_at_once(waiter));
    });
}

#[test]
fn wait_idle_ends_when_a_retry_is_replaced() {
    let broker = broker();
    let message = || Message::new("q", "x").dedup_key("k");
    broker.enqueue(message()).unwrap();
    let delivery = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
    delivery.retry(HOUR).unwrap();
    scope(|scope| {
        let waiter = scope.spawn(|| broker.wait_idle(LONG).unwrap());
        let_it_sleep(&waiter);
        broker.enqueue(message()).unwrap();
        assert!(ends_at_once(waiter));
    });
}

#[test]
fn wait_idle_ends_when_the_one_behind_a_key_is_all_that_is_left() {
    let broker = broker();
    let message = || Message::new("q", "x").dedup_key("k");
    broker.enqueue(message()).unwrap();
    let delivery = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
    broker.enqueue(message()).unwrap();
    scope(|scope| {
        let waiter = scope.spawn(|| broker.wait_idle(LONG).unwrap());
        let_it_sleep(&waiter);
        delivery.release(HOUR).unwrap();
        assert!(ends_at_once(waiter), "it is ready, and no handler takes it");
    });
}

/// `wait_idle` once answered between a handler's ack and the moment its children were shown, which is when the disk has
/// them.
#[test]
fn wait_idle_does_not_look_past_the_children_of_an_ack() {
    let directory = std::env::temp_dir().join(format!("libmq-waiting-{}", std::process::id()));
    let broker = Broker::open(&directory, Options::new()).unwrap();
    let handled = Arc::new(AtomicU32::new(0));
    for (queue, next) in [("a", "b"), ("b", "c"), ("c", "d")] {
        broker
            .handle(queue, HandlerOptions::new(), move |context| {
                context.enqueue(Message::new(next, "x"))?;
                Ok(())
            })
            .unwrap();
    }
    let count = Arc::clone(&handled);
    let last = move |_: &libmq::Context| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    broker.handle("d", HandlerOptions::new(), last).unwrap();
    broker.start().unwrap();
    for round in 1..=50 {
        broker.enqueue(Message::new("a", "x")).unwrap();
        assert!(broker.wait_idle(LONG).unwrap());
        assert_eq!(handled.load(Ordering::SeqCst), round);
    }
    broker.close(LONG).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn receive_ends_when_a_lease_of_the_queue_runs_out() {
    let broker = broker();
    broker.enqueue(Message::new("q", "x")).unwrap();
    let held = broker.receive("q", Duration::ZERO, HOUR).unwrap();
    scope(|scope| {
        let waiter = scope.spawn(|| broker.receive("q", LONG, None).unwrap());
        let_it_sleep(&waiter);
        broker.advance(HOUR).unwrap();
        assert_eq!(ends_at_once(waiter).unwrap().attempt(), 2);
    });
    drop(held);
}

#[test]
fn receive_ends_when_a_delay_runs_out() {
    let broker = broker();
    broker.enqueue(Message::new("q", "x").delay(HOUR)).unwrap();
    scope(|scope| {
        let waiter = scope.spawn(|| broker.receive("q", LONG, None).unwrap());
        let_it_sleep(&waiter);
        broker.advance(HOUR).unwrap();
        assert!(ends_at_once(waiter).is_some());
    });
}

#[test]
fn receive_ends_when_the_broker_closes() {
    let broker = broker();
    scope(|scope| {
        let waiter = scope.spawn(|| broker.receive("q", None, None).map(|_| ()));
        let_it_sleep(&waiter);
        broker.close(LONG).unwrap();
        assert_eq!(ends_at_once(waiter).unwrap_err().kind(), libmq::ErrorKind::Closed);
    });
}

#[test]
fn each_of_two_that_receive_gets_one_of_two_messages() {
    let broker = broker();
    scope(|scope| {
        let waiters: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| broker.receive("q", LONG, None).unwrap().unwrap()))
            .collect();
        waiters.iter().for_each(let_it_sleep);
        let messages = [Message::new("q", "x"), Message::new("q", "y")];
        broker.enqueue_batch(&messages).unwrap();
        let deliveries: Vec<_> = waiters.into_iter().map(ends_at_once).collect();
        assert_ne!(deliveries[0].id(), deliveries[1].id());
    });
}

#[test]
fn a_handler_that_waits_for_its_cancellation_wakes_at_its_timeout() {
    let broker = broker();
    let (entered, was_entered) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    let options = HandlerOptions::new().timeout(HOUR);
    broker
        .handle("q", options, move |context| {
            entered.send(()).unwrap();
            ended.send(context.wait_cancelled(LONG)).unwrap();
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "x")).unwrap();
    was_entered.recv_timeout(LONG).unwrap();
    broker.advance(HOUR).unwrap();
    assert!(has_ended.recv_timeout(LONG / 2).unwrap());
    assert!(broker.wait_idle(LONG).unwrap());
}

/// An attempt that was refused room for a child is a release; but once it was cancelled, it ends as that says.
#[test]
fn a_timeout_counts_also_where_there_was_no_room_for_a_child() {
    let options = Options::new().durability(Durability::Memory).clock(ClockMode::Manual);
    let broker = Broker::open(":memory:", options.capacity(1)).unwrap();
    let (refused, was_refused) = mpsc::channel();
    let options = HandlerOptions::new().timeout(HOUR).max_retries(0);
    broker
        .handle("q", options, move |context| {
            context.enqueue(Message::new("r", "x"))?;
            let error = context.enqueue(Message::new("r", "y")).unwrap_err();
            refused.send(error.kind()).unwrap();
            assert!(context.wait_cancelled(LONG));
            Err(error.into())
        })
        .unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "x")).unwrap();
    assert_eq!(was_refused.recv_timeout(LONG).unwrap(), libmq::ErrorKind::Full);
    broker.advance(HOUR).unwrap();
    assert!(broker.wait_idle(LONG).unwrap());
    let metrics = broker.metrics().unwrap().broker;
    assert_eq!((metrics.released, metrics.retried, metrics.dead), (0, 1, 1));
}

/// Who slept when the broker was poisoned slept on, though nothing could come any more.
#[test]
fn a_poisoned_broker_lets_nobody_sleep() {
    let broker = broker();
    broker.enqueue(Message::new("held", "x")).unwrap();
    let _held = broker.receive("held", Duration::ZERO, None).unwrap().unwrap();
    scope(|scope| {
        let receiver = scope.spawn(|| broker.receive("q", LONG, None).unwrap_err().kind());
        let waiter = scope.spawn(|| broker.wait_idle(LONG).map_err(|error| error.kind()));
        let_it_sleep(&receiver);
        let_it_sleep(&waiter);
        broker.poison("a test");
        assert_eq!(ends_at_once(receiver), ErrorKind::Poisoned);
        assert_eq!(ends_at_once(waiter), Err(ErrorKind::Poisoned));
    });
}

/// A stop waited without an end for handlers that had settled their delivery and ran on.
#[test]
fn a_stop_ends_with_its_time_where_a_handler_runs_on_after_its_settle() {
    let broker = broker();
    let (go_on, may_end) = mpsc::channel::<()>();
    let (settled, is_settled) = mpsc::channel();
    let may_end = std::sync::Mutex::new(may_end);
    broker
        .handle_delivery("q", HandlerOptions::new(), move |delivery| {
            delivery.ack().unwrap();
            settled.send(()).unwrap();
            let _ = may_end.lock().unwrap().recv();
        })
        .unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "x")).unwrap();
    is_settled.recv().unwrap();
    scope(|scope| {
        let stopper =
            scope.spawn(|| broker.stop(Duration::from_millis(10)).map_err(|error| error.kind()));
        let began = Instant::now();
        while !stopper.is_finished() && began.elapsed() < LONG / 2 {
            std::thread::yield_now();
        }
        let in_time = stopper.is_finished();
        go_on.send(()).unwrap();
        assert_eq!((in_time, stopper.join().unwrap()), (true, Err(ErrorKind::Timeout)));
    });
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "x")).unwrap();
    is_settled.recv_timeout(LONG).unwrap();
    go_on.send(()).unwrap();
    broker.stop(LONG).unwrap();
}
