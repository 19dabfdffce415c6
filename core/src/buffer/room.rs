//! Room: how many live messages there may be, first come first served for those that wait.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::interrupt::Interrupt;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, CachePadded, Condvar, Mutex, lock, wait_for};

/// The places of a broker.
#[derive(Debug)]
pub(crate) struct Room {
    capacity: usize,
    taken: CachePadded<AtomicUsize>,
    /// Callers that wait; while there are any, nobody takes a place past them.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<Arc<Waiter>>>,
    closed: AtomicBool,
    /// Nobody gives a place back any more.
    dead: AtomicBool,
}

#[derive(Debug)]
struct Waiter {
    places: usize,
    granted: Mutex<bool>,
    grant: Condvar,
}

impl Room {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            taken: CachePadded::new(AtomicUsize::new(0)),
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(VecDeque::new()),
            closed: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        }
    }

    /// Takes places if there are that many, and nobody waits for some.
    pub(crate) fn take(&self, places: usize) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0 && self.try_take(places)
    }

    /// Whether so many places could not be taken now.
    pub(crate) fn lacks(&self, places: usize) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
            || self.taken().saturating_add(places) > self.capacity
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Whether so many places are never there.
    pub(crate) fn is_less_than(&self, places: usize) -> bool {
        places > self.capacity
    }

    /// What is answered where there is no room for so many messages.
    pub(crate) fn full(&self, messages: usize) -> Error {
        let (taken, capacity) = (self.taken(), self.capacity);
        let why = if messages > 1 {
            format!(
                "no room for {messages} messages, as {taken} are live and its capacity is {capacity}"
            )
        } else if taken == capacity {
            format!("{taken} messages are live, which is its capacity")
        } else {
            format!("{taken} messages are live, and its capacity is {capacity}")
        };
        Error::new(ErrorKind::Full, format!("the broker is full: {why}"))
    }

    /// Takes places whether they are there or not: for what recovery finds.
    pub(crate) fn force(&self, places: usize) {
        self.taken.fetch_add(places, Ordering::SeqCst);
    }

    /// Takes places, waiting behind those who came before for at most `timeout`.
    pub(crate) fn wait(&self, places: usize, timeout: Duration, interrupt: &Interrupt) -> bool {
        if self.is_less_than(places) {
            return false;
        }
        let waiter = Arc::new(Waiter { places, granted: Mutex::new(false), grant: Condvar::new() });
        {
            // Under the lock: who grants it counts it off again.
            let mut queue = lock(&self.queue);
            self.waiting.fetch_add(1, Ordering::SeqCst);
            queue.push_back(Arc::clone(&waiter));
        }
        // A place may have become free between the look that failed and the lines above.
        self.serve();
        let end = Instant::now() + timeout;
        let mut granted = lock(&waiter.granted);
        while !*granted {
            let over = [&self.closed, &self.dead].iter().any(|over| over.load(Ordering::SeqCst));
            if over || interrupt.is_set() {
                drop(granted);
                return self.leave(&waiter);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(granted);
                return self.leave(&waiter);
            }
            granted = wait_for(&waiter.grant, granted, left);
        }
        true
    }

    /// Ends all waits, and those to come.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Ends all waits, and those to come: the journal is poisoned, so nobody gives a place back any more.
    pub(crate) fn poison(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Has everybody who waits look whether that has been ended.
    pub(crate) fn ring(&self) {
        for waiter in lock(&self.queue).iter() {
            // Under the waiter's lock, so that it has either seen what ends its wait or sleeps.
            let _granted = lock(&waiter.granted);
            waiter.grant.notify_one();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Gives places back.
    pub(crate) fn free(&self, places: usize) {
        self.taken.fetch_sub(places, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.serve();
        }
    }

    /// Ends a wait whose time ran out; true if the places were granted meanwhile.
    fn leave(&self, waiter: &Arc<Waiter>) -> bool {
        let mut queue = lock(&self.queue);
        if *lock(&waiter.granted) {
            return true;
        }
        queue.retain(|other| !Arc::ptr_eq(other, waiter));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(queue);
        self.serve();
        false
    }

    /// Grants places to those who wait, in order, as far as they go.
    fn serve(&self) {
        let mut queue = lock(&self.queue);
        while let Some(first) = queue.front() {
            if !self.try_take(first.places) {
                return;
            }
            *lock(&first.granted) = true;
            first.grant.notify_one();
            queue.pop_front();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn try_take(&self, places: usize) -> bool {
        self.taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
                let sum = taken.checked_add(places)?;
                (sum <= self.capacity).then_some(sum)
            })
            .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::stress::rounds;
    use crate::{Broker, Message, OnFull, Options};

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn no_more_places_than_there_are() {
        let room = Room::new(3);
        assert!(room.take(2));
        assert!(!room.take(2));
        assert!(room.take(1));
        room.free(3);
        assert!(room.take(3));
    }

    #[test]
    fn a_wait_ends_with_a_place_or_with_its_time() {
        let room = Room::new(1);
        assert!(room.take(1));
        assert!(!room.wait(1, Duration::from_millis(10), &Interrupt::new()));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| room.wait(1, LONG, &Interrupt::new()));
            while room.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            room.free(1);
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn who_waits_is_served_in_order_and_nobody_passes() {
        let room = Room::new(1);
        assert!(room.take(1));
        let served = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in 0..5_usize {
                let (room, served) = (&room, &served);
                scope.spawn(move || {
                    assert!(room.wait(1, LONG, &Interrupt::new()));
                    lock(served).push(number);
                    room.free(1);
                });
                while room.waiting.load(Ordering::SeqCst) <= number {
                    std::thread::yield_now();
                }
            }
            assert!(!room.take(1));
            room.free(1);
        });
        assert_eq!(served.into_inner().unwrap(), [0, 1, 2, 3, 4]);
    }

    /// 64 producers in line, each behind the one before, on a broker with one place: they are served in that order, whatever
    /// comes beside them.
    #[test]
    fn sixty_four_producers_are_served_in_the_order_they_came() {
        const PRODUCERS: usize = 64;
        let options = Options::new().capacity(1).on_full(OnFull::Block).block_timeout(LONG);
        let broker = Broker::open(":memory:", options).unwrap();
        broker.enqueue(Message::new("q", "first")).unwrap();
        let first = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
        let shared = Arc::clone(&first.shared);
        let room = &shared.engine.buffer.state.room;
        std::thread::scope(|scope| {
            let broker = &broker;
            let producers: Vec<_> = (0..PRODUCERS)
                .map(|number| {
                    let body = number.to_string();
                    let producer = scope.spawn(move || broker.enqueue(Message::new("q", body)));
                    while room.waiting.load(Ordering::SeqCst) <= number {
                        std::thread::yield_now();
                    }
                    producer
                })
                .collect();
            first.ack().unwrap();
            for number in 0..PRODUCERS {
                let delivery = broker.receive("q", LONG, None).unwrap().unwrap();
                assert_eq!(delivery.body(), number.to_string().as_bytes());
                // Who does not wait finds no room, as long as others do.
                assert!(!room.take(1));
                delivery.ack().unwrap();
            }
            for producer in producers {
                producer.join().unwrap().unwrap();
            }
        });
    }

    /// What a busy handler had acked, and others had written, counted as live until it had acked sixty-four or had nothing to do.
    #[test]
    fn what_was_acked_makes_room_before_an_enqueue_is_refused() {
        let broker = Broker::open(":memory:", Options::new().capacity(24)).unwrap();
        for _ in 0..20 {
            broker.enqueue(Message::new("moves", "")).unwrap();
        }
        let own = broker.clone();
        broker
            .handle("moves", crate::HandlerOptions::new(), move |_| {
                own.enqueue(Message::new("moved", ""))?;
                Ok(())
            })
            .unwrap();
        broker.start().unwrap();
        assert!(broker.wait_idle(LONG).unwrap());
        let queues = broker.metrics().unwrap().queues;
        let retried: u64 = queues.values().map(|queue| queue.retried + queue.released).sum();
        assert_eq!(retried, 0, "{queues:?}");
        broker.close(LONG).unwrap();
    }

    /// Many want more places than there are, some with little patience: never are more given than there are, none is lost, and
    /// nobody waits for ever.
    #[test]
    fn stress_places_are_given_once_and_come_back() {
        let (room, given) = (Room::new(3), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for number in 0..6_usize {
                let (room, given) = (&room, &given);
                scope.spawn(move || {
                    let places = 1 + number % 3;
                    let time = if number == 5 { Duration::from_micros(50) } else { LONG };
                    for _ in 0..rounds(10_000) {
                        if !room.take(places) && !room.wait(places, time, &Interrupt::new()) {
                            assert_eq!(number, 5, "it waited for ever");
                            continue;
                        }
                        assert!(given.fetch_add(places, Ordering::SeqCst) + places <= 3);
                        given.fetch_sub(places, Ordering::SeqCst);
                        room.free(places);
                    }
                });
            }
        });
        assert_eq!((room.taken(), room.waiting.load(Ordering::SeqCst)), (0, 0));
    }

    #[test]
    fn more_places_than_there_ever_are_is_no_wait() {
        assert!(!Room::new(2).wait(3, LONG, &Interrupt::new()));
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::sync::explore;

    const LONG: Duration = Duration::from_secs(3600);

    /// Room for one, which somebody has. Loom orders sequentially consistent stores alone, so what is there first is one.
    fn full() -> Arc<Room> {
        let room = Room::new(1);
        room.waiting.store(0, Ordering::SeqCst);
        room.closed.store(false, Ordering::SeqCst);
        room.dead.store(false, Ordering::SeqCst);
        assert!(room.take(1));
        Arc::new(room)
    }

    /// A place that becomes free while somebody begins to wait for one is granted, and is nobody else's.
    #[test]
    fn loom_a_place_is_granted_to_who_waits() {
        explore(3, || {
            let room = full();
            let waiters = [(); 2].map(|()| {
                let room = Arc::clone(&room);
                thread::spawn(move || {
                    assert!(room.wait(1, LONG, &Interrupt::new()));
                    assert_eq!(room.taken(), 1);
                    room.free(1);
                })
            });
            room.free(1);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!((room.taken(), room.waiting.load(Ordering::SeqCst)), (0, 0));
        });
    }

    /// Who stops waiting in the moment in which a place is granted has it, or it is free.
    #[test]
    fn loom_who_leaves_has_a_place_or_none() {
        explore(3, || {
            let (room, interrupt) = (full(), Arc::new(Interrupt::new()));
            let waiter = {
                let (room, interrupt) = (Arc::clone(&room), Arc::clone(&interrupt));
                thread::spawn(move || room.wait(1, LONG, &interrupt))
            };
            let freed = {
                let room = Arc::clone(&room);
                thread::spawn(move || room.free(1))
            };
            interrupt.set();
            room.ring();
            freed.join().unwrap();
            let granted = waiter.join().unwrap();
            assert_eq!(room.taken(), usize::from(granted));
            assert_eq!(room.waiting.load(Ordering::SeqCst), 0);
        });
    }

    /// A close ends every wait, also one that is about to begin.
    #[test]
    fn loom_a_close_ends_every_wait() {
        explore(3, || {
            let room = full();
            let waiters = [(); 2].map(|()| {
                let room = Arc::clone(&room);
                thread::spawn(move || assert!(!room.wait(1, LONG, &Interrupt::new())))
            });
            room.close();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!(room.waiting.load(Ordering::SeqCst), 0);
        });
    }
}
