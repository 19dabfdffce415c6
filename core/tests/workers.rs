//! Handlers on threads of somebody else: workers are handed out and asked for messages.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{
    Backoff, Broker, CancelReason, Delivery, ErrorKind, HandlerError, HandlerOptions, Message,
    Options, Worker,
};

const LONG: Duration = Duration::from_secs(20);

fn open() -> Broker {
    let backoff = Backoff::fixed(Duration::ZERO);
    Broker::open(":memory:", Options::new().default_backoff(backoff)).unwrap()
}

/// Registers a handler of `q` whose workers arrive in the answer.
fn hire(broker: &Broker, options: HandlerOptions) -> Receiver<Worker> {
    let (sender, workers) = channel();
    broker.handle_on_threads("q", options, move |worker| sender.send(worker).unwrap()).unwrap();
    workers
}

fn wait_until(what: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < end, "it did not come to that");
        thread::yield_now();
    }
}

#[test]
fn a_worker_takes_messages_in_order_and_settles_them_by_its_answer() {
    let broker = open();
    let workers = hire(&broker, HandlerOptions::new().max_retries(0));
    for body in ["a", "b", "c", "d"] {
        broker.enqueue(Message::new("q", body)).unwrap();
    }
    assert!(workers.try_recv().is_err(), "hired before the start");
    broker.start().unwrap();
    let mut worker = workers.recv_timeout(LONG).unwrap();
    let thread = thread::spawn(move || {
        for (body, answer) in [
            ("a", Ok(())),
            ("b", Err(HandlerError::failed("meant to"))),
            ("c", Err(HandlerError::reject("no"))),
        ] {
            let delivery = worker.take().unwrap();
            assert_eq!(delivery.body(), body.as_bytes());
            worker.finish(&delivery, answer).unwrap();
        }
        // Settled by itself; a worker that asks again has come back from it.
        worker.take().unwrap().ack().unwrap();
        assert!(worker.take().is_none());
    });
    assert!(broker.wait_idle(LONG).unwrap());
    broker.stop(LONG).unwrap();
    thread.join().unwrap();
    let figures = broker.metrics().unwrap().queues.remove("q").unwrap();
    assert_eq!((figures.acked, figures.retried, figures.rejected), (2, 1, 1));
    assert_eq!((figures.delivered, figures.handler_errors), (4, 1));
    broker.close(LONG).unwrap();
}

#[test]
fn there_are_as_many_workers_as_max_parallelism_and_no_more() {
    let broker = open();
    let workers = hire(&broker, HandlerOptions::new().max_parallelism(3));
    broker.start().unwrap();
    for _ in 0..5 {
        broker.enqueue(Message::new("q", "")).unwrap();
    }
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut worker = workers.recv_timeout(LONG).unwrap();
        let delivery = worker.take().unwrap();
        busy.push((worker, delivery));
    }
    assert!(workers.recv_timeout(Duration::from_millis(50)).is_err());
    assert_eq!(broker.metrics().unwrap().broker.in_flight, 3);
    drop(busy);
    // All three left without being told to, and gave their messages back: somebody new is needed.
    broker.stop(LONG).unwrap();
    broker.start().unwrap();
    let mut worker = workers.recv_timeout(LONG).unwrap();
    for _ in 0..5 {
        let delivery = worker.take().unwrap();
        worker.finish(&delivery, Ok(())).unwrap();
    }
    drop(worker);
    assert!(broker.wait_idle(LONG).unwrap());
    // Those that were hired beside it and never asked for anything.
    drop(workers);
    broker.close(LONG).unwrap();
}

#[test]
fn a_stuck_worker_gets_a_substitute_and_its_late_answer_changes_nothing() {
    let broker = open();
    let options = HandlerOptions::new()
        .timeout(Duration::from_millis(20))
        .cancel_grace(Duration::from_millis(20))
        .max_retries(1);
    let workers = hire(&broker, options);
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let mut stuck = workers.recv_timeout(LONG).unwrap();
    let late = stuck.take().unwrap();
    assert!(late.wait_cancelled(LONG));
    assert_eq!(late.cancel_reason(), Some(CancelReason::Timeout));
    let mut substitute = workers.recv_timeout(LONG).unwrap();
    let again = substitute.take().unwrap();
    assert_eq!((again.id(), again.attempt()), (late.id(), 2));
    assert_eq!(stuck.finish(&late, Ok(())).unwrap_err().kind(), ErrorKind::StaleLease);
    substitute.finish(&again, Ok(())).unwrap();
    assert!(stuck.take().is_none(), "its place was given to the substitute");
    drop(substitute);
    assert_eq!(broker.metrics().unwrap().broker.stuck, 1);
    broker.close(LONG).unwrap();
}

/// Whoever stops waits for workers to leave, and a worker that was hired and never given a thread must not keep it.
#[test]
fn a_worker_that_nobody_runs_is_dropped_and_keeps_nobody() {
    let broker = open();
    broker.handle_on_threads("q", HandlerOptions::new(), drop).unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    broker.stop(LONG).unwrap();
    broker.close(LONG).unwrap();
}

#[test]
fn a_thread_that_runs_a_handler_is_in_it_until_it_asks_again() {
    let broker = open();
    let workers = hire(&broker, HandlerOptions::new());
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let mut worker = workers.recv_timeout(LONG).unwrap();
    let delivery = worker.take().unwrap();
    assert_eq!(broker.close(LONG).unwrap_err().kind(), ErrorKind::Deadlock);
    worker.finish(&delivery, Ok(())).unwrap();
    drop(worker);
    broker.close(LONG).unwrap();
}

#[test]
fn a_broker_that_nobody_holds_ends_its_workers() {
    let broker = open();
    let workers = hire(&broker, HandlerOptions::new());
    broker.start().unwrap();
    let mut worker = workers.recv_timeout(LONG).unwrap();
    let next = thread::spawn(move || worker.take().is_none());
    drop(broker);
    assert!(next.join().unwrap());
    assert!(workers.recv_timeout(LONG).is_err(), "what hires is dropped");
}

#[test]
fn threads_that_come_and_go_handle_everything_once() {
    let broker = open();
    let (sender, workers) = channel::<Worker>();
    let handled = Arc::new(AtomicU32::new(0));
    let options = HandlerOptions::new().max_parallelism(4);
    let sender = Mutex::new(sender);
    broker
        .handle_on_threads("q", options, move |worker| {
            sender.lock().unwrap().send(worker).unwrap();
        })
        .unwrap();
    let count = Arc::clone(&handled);
    let foreman = thread::spawn(move || {
        let threads: Vec<_> = workers
            .iter()
            .map(|mut worker| {
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    while let Some(delivery) = worker.take() {
                        count.fetch_add(1, Ordering::Relaxed);
                        worker.finish(&delivery, Ok(())).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    for round in 1..=20 {
        broker.start().unwrap();
        for _ in 0..50 {
            broker.enqueue(Message::new("q", "")).unwrap();
        }
        wait_until(|| handled.load(Ordering::Relaxed) == round * 50);
        broker.stop(LONG).unwrap();
    }
    broker.close(LONG).unwrap();
    foreman.join().unwrap();
}

/// Where the system had no thread for the only worker, its queue was without one until the broker was stopped and
/// started again, and nobody was told.
#[test]
fn a_worker_that_is_lost_is_replaced_a_second_later() {
    let broker = open();
    let (sender, workers) = channel();
    let left = AtomicU32::new(2);
    let hire = move |worker: Worker| {
        if left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_err()
        {
            sender.send(worker).unwrap();
        }
    };
    broker.handle_on_threads("q", HandlerOptions::new(), hire).unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let mut worker = workers.recv_timeout(LONG).unwrap();
    let delivery = worker.take().unwrap();
    worker.finish(&delivery, Ok(())).unwrap();
    drop(delivery);
    // One that leaves while it should not is replaced as well.
    drop(worker);
    broker.enqueue(Message::new("q", "")).unwrap();
    let mut worker = workers.recv_timeout(LONG).unwrap();
    let delivery = worker.take().unwrap();
    worker.finish(&delivery, Ok(())).unwrap();
    drop((delivery, worker, workers));
    broker.close(LONG).unwrap();
}

/// A stop of a poisoned broker returned at once where nothing but what was deferred was under way: it was neither waited for
/// nor told. Before, it was waited for even when its end had been refused.
#[test]
fn what_is_deferred_on_a_poisoned_broker_is_waited_for_until_its_end_is_refused() {
    for is_cut_off in [false, true] {
        let broker = open();
        let workers = hire(&broker, HandlerOptions::new().cancel_grace(LONG));
        broker.start().unwrap();
        broker.enqueue(Message::new("q", "")).unwrap();
        let mut worker = workers.recv_timeout(LONG).unwrap();
        let deferred = worker.take().unwrap();
        broker.poison("for a test");
        let free = thread::spawn(move || assert!(worker.take().is_none()));
        let time = if is_cut_off { Duration::from_millis(50) } else { LONG };
        thread::scope(|scope| {
            let stop = scope.spawn(|| broker.stop(time));
            if is_cut_off {
                assert!(deferred.wait_cancelled(LONG));
                assert_eq!(deferred.cancel_reason(), Some(CancelReason::Shutdown));
            } else {
                // Time to begin to wait; where it was too short, the test shows less, and nothing false.
                thread::sleep(Duration::from_millis(50));
                assert!(!stop.is_finished());
            }
            let began = Instant::now();
            assert_eq!(deferred.ack().unwrap_err().kind(), ErrorKind::Poisoned);
            assert_eq!(stop.join().unwrap().is_err(), is_cut_off);
            assert!(began.elapsed() < LONG / 2, "it waited for {:?}", began.elapsed());
        });
        free.join().unwrap();
    }
}

#[test]
fn what_a_stop_has_cancelled_is_released_at_once_also_where_it_is_rejected_or_retried() {
    let ends: [fn(Delivery) -> libmq::Result<()>; 2] =
        [|delivery| delivery.reject("poison"), |delivery| delivery.retry(LONG)];
    for end in ends {
        let broker = open();
        let workers = hire(&broker, HandlerOptions::new().cancel_grace(LONG));
        broker.start().unwrap();
        broker.enqueue(Message::new("q", "")).unwrap();
        let mut worker = workers.recv_timeout(LONG).unwrap();
        let delivery = worker.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| broker.stop(Duration::ZERO).unwrap_err());
            assert!(delivery.wait_cancelled(LONG));
            end(delivery).unwrap();
            drop(worker);
        });
        let figures = broker.metrics().unwrap().broker;
        assert_eq!((figures.released, figures.ready, figures.delayed, figures.dead), (1, 1, 0, 0));
        broker.close(LONG).unwrap();
    }
}

/// Between being shut and giving no permit any more, a station had its workers take messages and give them back, again and
/// again: hundreds of records for one stop, each of them written.
#[test]
fn a_stop_gives_back_no_more_than_may_run() {
    let broker = open();
    let options = HandlerOptions::new().max_parallelism(4).min_parallelism(4);
    broker.handle("q", options, |_| Ok(())).unwrap();
    let figures = || broker.metrics().unwrap().queues["q"];
    for _ in 0..400 {
        while figures().ready < 2_000 {
            broker.enqueue_batch(&vec![Message::new("q", ""); 2_000]).unwrap();
        }
        let before = figures().released;
        broker.start().unwrap();
        thread::sleep(Duration::from_micros(500));
        broker.stop(LONG).unwrap();
        assert!(figures().released - before <= 4);
    }
}
