//! Enqueues of callers that cannot wait: futures, and callbacks.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use libmq::{Broker, Durability, Enqueueing, ErrorKind, Message, OnFull, Options, Receipt};

const LONG: Duration = Duration::from_secs(20);

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// The smallest executor.
fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, waker) = (pin!(future), waker());
    let end = Instant::now() + LONG;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park_timeout(end.saturating_duration_since(Instant::now()));
        assert!(Instant::now() < end, "it was not woken");
    }
}

fn poll(future: &mut Enqueueing<'_>) -> Poll<libmq::Result<Receipt>> {
    Pin::new(future).poll(&mut Context::from_waker(&waker()))
}

fn memory(options: Options) -> Broker {
    Broker::open(":memory:", options).unwrap()
}

fn kind<T>(outcome: libmq::Result<T>) -> ErrorKind {
    outcome.err().unwrap().kind()
}

#[test]
fn what_needs_no_sync_is_done_when_it_is_first_polled() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new().durability(Durability::Os)).unwrap();
    let mut future = broker.enqueue_async(Message::new("q", "body"));
    assert!(broker.receive("q", Duration::ZERO, None).unwrap().is_none(), "it was not polled");
    let Poll::Ready(receipt) = poll(&mut future) else { panic!("it waits") };
    let delivery = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
    assert_eq!((delivery.id(), delivery.body()), (receipt.unwrap().id, &b"body"[..]));
    let Poll::Ready(again) = poll(&mut future) else { panic!("it waits") };
    assert_eq!(kind(again), ErrorKind::Invalid);
}

#[test]
fn a_thousand_in_flight_share_syncs_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    let before = broker.metrics().unwrap().syncs;
    let mut futures: Vec<_> =
        (0..1000).map(|_| broker.enqueue_async(Message::new("q", "body"))).collect();
    let polled: Vec<_> = futures.iter_mut().map(poll).collect();
    let ids: Vec<u64> = polled
        .into_iter()
        .zip(futures)
        .map(|(polled, future)| match polled {
            Poll::Ready(receipt) => receipt.unwrap().id,
            Poll::Pending => block_on(future).unwrap().id,
        })
        .collect();
    assert!(ids.is_sorted());
    let syncs = broker.metrics().unwrap().syncs - before;
    assert!(syncs < 500, "{syncs} syncs");
    broker.close(LONG).unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    assert_eq!(broker.recovery().messages, 1000);
}

/// Counts how often it is woken.
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn those_of_one_task_wake_it_once_a_sync_and_another_one_that_asks_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    let (count, other) = (Arc::new(Count(AtomicU32::new(0))), Arc::new(Count(AtomicU32::new(0))));
    let wakers = [&count, &other].map(|count| Waker::from(Arc::clone(count)));
    let before = broker.metrics().unwrap().syncs;
    let mut futures: Vec<_> =
        (0..1000).map(|_| broker.enqueue_async(Message::new("q", "body"))).collect();
    let mut poll_all = |waker: &Waker| {
        let mut context = Context::from_waker(waker);
        futures.retain_mut(|future| Pin::new(future).poll(&mut context).is_pending());
        futures.len()
    };
    let left = poll_all(&wakers[0]);
    assert!(left > 0);
    // Asked again, it is not told more often.
    poll_all(&wakers[0]);
    let moved = poll_all(&wakers[1]) > 0;
    let end = Instant::now() + LONG;
    while poll_all(&wakers[1]) > 0 {
        assert!(Instant::now() < end, "they do not end");
        thread::yield_now();
    }
    let syncs = broker.metrics().unwrap().syncs - before;
    broker.close(LONG).unwrap();
    let woken = [count, other].map(|count| count.0.load(Ordering::Relaxed));
    assert!(woken[0] >= 1 && u64::from(woken[0]) <= syncs + 1, "{woken:?}, {syncs} syncs");
    assert!(!moved || woken[1] >= 1, "{woken:?}");
}

/// Where nothing is shown because the broker syncs from time to time.
fn unkept() -> Options {
    Options::new().sync_interval(180 * LONG)
}

/// What is synced is shown by whoever polls for it.
#[test]
fn what_nobody_polls_any_more_is_there_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), unkept()).unwrap();
    all_are_there(&broker, 10);
}

/// Polls so many once, and takes all of them.
fn all_are_there(broker: &Broker, count: usize) {
    let mut futures: Vec<_> =
        (0..count).map(|_| broker.enqueue_async(Message::new("q", "body"))).collect();
    futures.iter_mut().for_each(|future| _ = poll(future));
    for _ in 0..count {
        let delivery = broker.receive("q", LONG, None).unwrap();
        delivery.unwrap_or_else(|| panic!("it is not shown")).ack().unwrap();
    }
    broker.close(LONG).unwrap();
}

/// Begins one more whenever it is woken, and polls none again.
struct Again {
    broker: Broker,
    /// How many were there, at each time.
    there: Mutex<Vec<u64>>,
    begun: Mutex<Vec<Enqueueing<'static>>>,
}

impl Again {
    const TIMES: usize = 50;

    fn begin(self: &Arc<Self>) {
        let mut future = self.broker.enqueue_async(Message::new("q", "body"));
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&self.waker())).is_pending());
        self.begun.lock().unwrap().push(future);
    }

    fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        let there = self.broker.metrics().unwrap().broker.ready;
        let mut all = self.there.lock().unwrap();
        all.push(there);
        if all.len() < Self::TIMES {
            self.begin();
        }
    }
}

/// The clerk has always more to sync.
#[test]
fn what_nobody_polls_is_shown_behind_the_next_sync() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), unkept()).unwrap();
    let again = Arc::new(Again {
        broker: broker.clone(),
        there: Mutex::new(Vec::new()),
        begun: Mutex::new(Vec::new()),
    });
    again.begin();
    let end = Instant::now() + LONG;
    while again.there.lock().unwrap().len() < Again::TIMES {
        assert!(Instant::now() < end, "it is not woken");
        thread::yield_now();
    }
    let there = again.there.lock().unwrap().clone();
    assert!((0..).zip(&there).all(|(time, there)| there + 2 > time), "{there:?}");
    broker.close(LONG).unwrap();
}

/// The clerk waited for room, and had not shown those that had it: nobody could take them, and make some.
#[test]
fn what_nobody_polls_is_shown_before_the_clerk_waits_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = unkept().capacity(4).on_full(OnFull::Block).block_timeout(3 * LONG);
    let broker = Broker::open(dir.path(), options).unwrap();
    all_are_there(&broker, 5);
}

/// It waited for what had been synced with its own, and was not shown before it returned.
#[test]
fn what_nobody_polls_is_shown_before_a_callback_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), unkept()).unwrap();
    let (told, tells) = channel();
    for _ in 0..20 {
        let mut future = broker.enqueue_async(Message::new("q", "body"));
        let _ = poll(&mut future);
        let (told, inner) = (told.clone(), broker.clone());
        let message = Message::new("other", "").durability(Durability::Os);
        let done = move |_| {
            let taken = inner.receive("q", LONG, None).unwrap();
            told.send(taken.map(|delivery| delivery.ack().unwrap()).is_some()).unwrap();
        };
        broker.enqueue_then(message, done).unwrap();
        assert!(tells.recv_timeout(2 * LONG).unwrap(), "it is not shown");
    }
    broker.close(LONG).unwrap();
}

/// Drops what may be the last handle, before whoever it wakes can look.
struct Dropping(Mutex<Option<Broker>>, Thread);

impl Wake for Dropping {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
        self.1.unpark();
    }
}

/// It was told `CLOSED`, which means "not enqueued": the broker had ended behind the sync, and before anybody looked.
#[test]
fn what_was_synced_is_enqueued_where_the_broker_ends_before_anybody_looks() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(dir.path(), unkept()).unwrap();
        let mut future = Box::pin(broker.enqueue_async(Message::new("q", "body")));
        let dropping = Arc::new(Dropping(Mutex::new(Some(broker)), thread::current()));
        let waker = Waker::from(Arc::clone(&dropping));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let end = Instant::now() + LONG;
        while dropping.0.lock().unwrap().is_some() {
            assert!(Instant::now() < end, "it is not woken");
            thread::park_timeout(LONG);
        }
        block_on(future).unwrap();
        let broker = Broker::open(dir.path(), unkept().lock_timeout(LONG)).unwrap();
        assert_eq!(broker.recovery().messages, 1);
        broker.close(LONG).unwrap();
    }
}

/// Once one could not begin without waiting for the next segment, each of those behind it had a sync of its own, and never did
/// the others catch up.
#[test]
fn those_in_flight_share_syncs_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(64 << 10);
    let broker = Broker::open(dir.path(), options).unwrap();
    let before = broker.metrics().unwrap().syncs;
    let mut under_way = VecDeque::new();
    let mut ids = [0; 4_000];
    for number in 0..ids.len() {
        let mut future = broker.enqueue_async(Message::new("q", [7; 100]));
        // One that is synced at once may come to its end before those that began before it.
        if let Poll::Ready(receipt) = poll(&mut future) {
            ids[number] = receipt.unwrap().id;
        } else {
            under_way.push_back((number, future));
        }
        if under_way.len() == 1_000
            && let Some((number, future)) = under_way.pop_front()
        {
            ids[number] = block_on(future).unwrap().id;
        }
    }
    for (number, future) in under_way {
        ids[number] = block_on(future).unwrap().id;
    }
    assert!(ids.is_sorted());
    let syncs = broker.metrics().unwrap().syncs - before;
    assert!(syncs < 1_000, "{syncs} syncs");
    broker.close(LONG).unwrap();
}

#[test]
fn a_bad_message_is_refused_and_a_full_broker_answers_at_once() {
    let broker = memory(Options::new().capacity(1));
    let refused = block_on(broker.enqueue_async(Message::new("no name", "")));
    assert_eq!(kind(refused), ErrorKind::Invalid);
    block_on(broker.enqueue_async(Message::new("q", ""))).unwrap();
    assert_eq!(kind(block_on(broker.enqueue_async(Message::new("q", "")))), ErrorKind::Full);
    broker.close(LONG).unwrap();
    assert_eq!(kind(block_on(broker.enqueue_async(Message::new("q", "")))), ErrorKind::Closed);
}

#[test]
fn who_waits_for_room_is_not_overtaken() {
    let broker = memory(Options::new().capacity(1).on_full(OnFull::Block));
    block_on(broker.enqueue_async(Message::new("q", "0"))).unwrap();
    let mut futures: Vec<_> =
        (1..5).map(|number| broker.enqueue_async(Message::new("q", number.to_string()))).collect();
    for future in &mut futures {
        assert!(poll(future).is_pending());
    }
    for number in 0..5 {
        let delivery = broker.receive("q", LONG, None).unwrap().unwrap();
        assert_eq!(delivery.body(), number.to_string().as_bytes());
        delivery.ack().unwrap();
    }
    let ids: Vec<u64> = futures.into_iter().map(|future| block_on(future).unwrap().id).collect();
    assert!(ids.is_sorted());
}

/// The time of each began when its turn had come: the last of fifty would have heard after half an hour that it was full.
#[test]
fn the_time_to_wait_for_room_runs_from_the_call() {
    let time = Duration::from_millis(200);
    let options = Options::new().capacity(1).on_full(OnFull::Block).block_timeout(time);
    let broker = memory(options);
    block_on(broker.enqueue_async(Message::new("q", "0"))).unwrap();
    let began = Instant::now();
    let mut futures: Vec<_> =
        (0..200).map(|_| broker.enqueue_async(Message::new("q", ""))).collect();
    assert!(futures.iter_mut().all(|future| poll(future).is_pending()));
    for future in futures {
        assert_eq!(kind(block_on(future)), ErrorKind::Full);
    }
    // Of 40 seconds, in their turns.
    assert!(began.elapsed() < LONG);
}

/// A program whose language had ended waited for them as long as `block_timeout` says.
#[test]
fn waits_for_room_are_ended_and_do_not_begin_again() {
    let broker = memory(Options::new().capacity(1).on_full(OnFull::Block).block_timeout(LONG * 2));
    block_on(broker.enqueue_async(Message::new("q", "0"))).unwrap();
    let mut waits = broker.enqueue_async(Message::new("q", "1"));
    assert!(poll(&mut waits).is_pending());
    broker.end_waits_for_room();
    assert_eq!(kind(block_on(waits)), ErrorKind::Full);
    assert_eq!(kind(block_on(broker.enqueue_async(Message::new("q", "2")))), ErrorKind::Full);
    broker.receive("q", LONG, None).unwrap().unwrap().ack().unwrap();
    block_on(broker.enqueue_async(Message::new("q", "3"))).unwrap();
}

#[test]
fn in_a_handler_nobody_waits_for_room() {
    let broker = memory(Options::new().capacity(1).on_full(OnFull::Block));
    let (told, answers) = channel();
    let inner = broker.clone();
    broker
        .handle("q", libmq::HandlerOptions::new(), move |_| {
            told.send(kind(block_on(inner.enqueue_async(Message::new("q", ""))))).unwrap();
            Ok(())
        })
        .unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    broker.start().unwrap();
    assert_eq!(answers.recv_timeout(LONG).unwrap(), ErrorKind::Full);
    broker.close(LONG).unwrap();
}

/// It waited for room behind those that may: its own ack was what would have made some.
#[test]
fn in_a_handler_nobody_waits_behind_who_waits_for_room() {
    let broker = memory(Options::new().capacity(1).on_full(OnFull::Block).block_timeout(LONG * 2));
    let (told, answers) = channel();
    let inner = broker.clone();
    broker
        .handle("q", libmq::HandlerOptions::new(), move |_| {
            told.send(kind(block_on(inner.enqueue_async(Message::new("q", ""))))).unwrap();
            Ok(())
        })
        .unwrap();
    broker.enqueue(Message::new("q", "")).unwrap();
    let mut waits = broker.enqueue_async(Message::new("other", ""));
    assert!(poll(&mut waits).is_pending());
    broker.start().unwrap();
    assert_eq!(answers.recv_timeout(LONG).unwrap(), ErrorKind::Full);
    block_on(waits).unwrap();
    broker.close(LONG).unwrap();
}

#[test]
fn a_close_tells_everybody() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().capacity(50).on_full(OnFull::Block);
        let broker = Broker::open(dir.path(), options).unwrap();
        let mut futures: Vec<_> =
            (0..60).map(|_| broker.enqueue_async(Message::new("q", "body"))).collect();
        let polled: Vec<_> = futures.iter_mut().map(poll).collect();
        broker.close(LONG).unwrap();
        let outcomes = polled.into_iter().zip(futures).map(|(polled, future)| match polled {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => block_on(future),
        });
        let (done, refused): (Vec<_>, Vec<_>) = outcomes.partition(|outcome| outcome.is_ok());
        assert!(refused.into_iter().all(|outcome| kind(outcome) == ErrorKind::Closed));
        let broker = Broker::open(dir.path(), Options::new()).unwrap();
        assert_eq!(broker.recovery().messages, done.len() as u64);
        assert_eq!(done.len(), 50);
    }
}

#[test]
fn a_future_that_is_dropped_bothers_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    for _ in 0..10 {
        let mut future = broker.enqueue_async(Message::new("q", ""));
        let _ = poll(&mut future);
    }
    block_on(broker.enqueue_async(Message::new("q", ""))).unwrap();
    broker.close(LONG).unwrap();
}

#[test]
fn callbacks_come_in_order_on_one_thread_and_may_call_anything_but_close() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    let (told, tells) = channel();
    for number in 0..100 {
        let (told, inner) = (told.clone(), broker.clone());
        let level = if number % 2 == 0 { Durability::Os } else { Durability::Sync };
        let message = Message::new("q", "").durability(level);
        let done = move |receipt: libmq::Result<Receipt>| {
            assert_eq!(kind(inner.close(LONG)), ErrorKind::Deadlock);
            inner.enqueue(Message::new("other", "")).unwrap();
            inner.start().unwrap();
            inner.stop(LONG).unwrap();
            told.send((receipt.unwrap().id, thread::current().name().map(str::to_owned))).unwrap();
            assert!(number != 50, "as a callback may");
        };
        broker.enqueue_then(message, done).unwrap();
    }
    let tells: Vec<_> = (0..100).map(|_| tells.recv_timeout(LONG).unwrap()).collect();
    assert!(tells.is_sorted());
    assert!(tells.iter().all(|(_, thread)| thread.as_deref() == Some("libmq-callback")));
    broker.close(LONG).unwrap();
    assert_eq!(kind(broker.enqueue_then(Message::new("q", ""), |_| {})), ErrorKind::Closed);
}

/// A callback that waited for its turn while a close had it would have kept the close waiting for the callback.
#[test]
fn a_close_and_a_callback_that_stops_do_not_wait_for_each_other() {
    for _ in 0..20 {
        let broker = memory(Options::new());
        let inner = broker.clone();
        broker
            .enqueue_then(Message::new("q", ""), move |_| {
                let _ = inner.start();
                let _ = inner.stop(LONG);
            })
            .unwrap();
        broker.close(LONG).unwrap();
    }
}

/// Only the first to close waited for them: whoever closed beside it freed what they were still using.
#[test]
fn every_close_returns_when_all_have_been_told() {
    let broker = memory(Options::new());
    let (entered, enters) = channel();
    let calls = Arc::new(AtomicU32::new(0));
    for _ in 0..3 {
        let (entered, calls) = (entered.clone(), Arc::clone(&calls));
        let done = move |_| {
            let _ = entered.send(());
            thread::sleep(Duration::from_millis(100));
            calls.fetch_add(1, Ordering::SeqCst);
        };
        broker.enqueue_then(Message::new("q", ""), done).unwrap();
    }
    enters.recv_timeout(LONG).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                broker.close(LONG).unwrap();
                assert_eq!(calls.load(Ordering::SeqCst), 3);
            });
        }
    });
}

#[test]
fn a_broker_that_nobody_holds_any_more_ends_with_its_callbacks() {
    let dir = tempfile::tempdir().unwrap();
    let (told, tells) = channel();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    let inner = broker.clone();
    broker
        .enqueue_then(Message::new("q", ""), move |receipt| {
            // Perhaps the last handle.
            drop(inner);
            told.send(receipt.is_ok()).unwrap();
        })
        .unwrap();
    drop(broker);
    tells.recv_timeout(LONG).unwrap();
    let options = Options::new().lock_timeout(LONG);
    Broker::open(dir.path(), options).unwrap();
}

/// Of a thousand that were asked for in time, those were told `CLOSED` for which the next segment had to be made first.
#[test]
fn a_close_waits_for_those_that_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(64 << 10);
    let broker = Broker::open(dir.path(), options).unwrap();
    let (told, tells) = channel();
    for _ in 0..1000 {
        let told = told.clone();
        broker.enqueue_then(Message::new("q", [7; 500]), move |done| _ = told.send(done)).unwrap();
    }
    broker.close(LONG).unwrap();
    let done: Vec<_> = tells.try_iter().collect();
    assert_eq!(done.len(), 1000);
    assert_eq!(done.iter().filter(|done| done.is_err()).count(), 0);
}

/// What waits for room waits for what a close prevents.
#[test]
fn a_close_does_not_wait_for_those_that_wait_for_room() {
    let options = Options::new().capacity(1).on_full(OnFull::Block).block_timeout(10 * LONG);
    let broker = memory(options);
    broker.enqueue(Message::new("q", "")).unwrap();
    let (told, tells) = channel();
    for _ in 0..3 {
        let told = told.clone();
        broker.enqueue_then(Message::new("q", ""), move |done| _ = told.send(kind(done))).unwrap();
    }
    let began = Instant::now();
    broker.close(10 * LONG).unwrap();
    assert!(began.elapsed() < LONG);
    assert_eq!(tells.try_iter().collect::<Vec<_>>(), [ErrorKind::Closed; 3]);
}
