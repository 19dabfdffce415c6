//! Queues: a name, its ready messages, its figures, and the bell for those who wait.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{OnceLock, RwLock, RwLockReadGuard};
use std::time::Duration;

use super::acks::Acks;
use super::doorbell::Doorbell;
use super::figures::Figures;
use super::lane::Lanes;
use super::turns::Turns;
use crate::error::{Error, Result};
use crate::limits;
use crate::patience::Patience;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, CachePadded, Condvar, Mutex, MutexGuard, lock, wait, wait_for};
use crate::table::Table;

/// A named lane of a broker.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Arc<str>,
    pub(crate) number: u32,
    ready: CachePadded<Mutex<Ready>>,
    arrival: Condvar,
    pub(crate) figures: Figures,
    pub(crate) acks: Acks,
    /// [`NO_HANDLER`], or what [`Queue::max_retries`] answers.
    max_retries: AtomicU32,
}

/// More than can be asked for.
const NO_HANDLER: u32 = u32::MAX;

/// What is ready, and how many wait for something to be.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) lanes: Lanes,
    pub(crate) turns: Turns,
    /// Nothing is handed out for now.
    pub(crate) paused: bool,
    waiting: u32,
    /// How many of those have been rung for and are not back yet.
    rung: u32,
    /// Those who cannot wait. They are told of everything, whoever else was woken for it.
    doorbells: Vec<Arc<Doorbell>>,
}

impl Queue {
    fn new(name: &str, number: u32) -> Self {
        Self {
            name: name.into(),
            number,
            ready: CachePadded::new(Mutex::new(Ready {
                lanes: Lanes::new(),
                turns: Turns::default(),
                paused: false,
                waiting: 0,
                rung: 0,
                doorbells: Vec::new(),
            })),
            arrival: Condvar::new(),
            figures: Figures::default(),
            acks: Acks::default(),
            max_retries: AtomicU32::new(NO_HANDLER),
        }
    }

    pub(crate) fn ready(&self) -> ReadyGuard<'_> {
        self.guard(lock(&self.ready))
    }

    /// Its handler has a message tried again so often; none where it has no handler.
    pub(crate) fn set_max_retries(&self, max: Option<u32>) {
        self.max_retries.store(max.unwrap_or(NO_HANDLER), Ordering::Relaxed);
    }

    /// How often its handler has a message tried again, if it has one. For those who take messages without it.
    pub(crate) fn max_retries(&self) -> Option<u32> {
        Some(self.max_retries.load(Ordering::Relaxed)).filter(|max| *max != NO_HANDLER)
    }

    /// Tells somebody who cannot wait of everything that comes, until it is forgotten.
    pub(crate) fn tell(&self, doorbell: &Arc<Doorbell>) {
        self.ready().doorbells.push(Arc::clone(doorbell));
    }

    /// Tells that one no more.
    pub(crate) fn forget(&self, doorbell: &Arc<Doorbell>) {
        self.ready().doorbells.retain(|other| !Arc::ptr_eq(other, doorbell));
    }

    fn guard<'a>(&'a self, ready: MutexGuard<'a, Ready>) -> ReadyGuard<'a> {
        ReadyGuard { ready, calls: Calls { arrival: &self.arrival, for_one: 0, for_all: false } }
    }

    /// Wakes one of those who wait, if there are any.
    pub(crate) fn ring(&self, ready: &mut ReadyGuard<'_>) {
        ready.doorbells.iter().for_each(|doorbell| doorbell.ring());
        if ready.waiting > ready.rung {
            ready.rung += 1;
            ready.calls.for_one += 1;
        }
    }

    /// Wakes another one, by who was woken and cannot take what came.
    pub(crate) fn pass_on(&self) {
        let mut ready = self.ready();
        if !ready.lanes.is_empty() {
            self.ring(&mut ready);
        }
    }

    /// Wakes all who wait: something else than a message has changed. Whoever looks for that under the lock before it
    /// waits, cannot miss it.
    pub(crate) fn ring_all(&self) {
        let mut ready = self.ready();
        ready.rung = ready.waiting;
        ready.calls.for_all = true;
        ready.doorbells.iter().for_each(|doorbell| doorbell.ring());
    }

    /// Has nothing handed out, or things again.
    pub(crate) fn pause(&self, paused: bool) {
        self.ready().paused = paused;
        if !paused {
            self.ring_all();
        }
    }

    /// Looks for a moment whether something becomes ready. Before a wait: what comes right now meets somebody who is awake, and
    /// whoever brings it makes no system call.
    pub(crate) fn look_out(&self) -> bool {
        Patience::OF_A_MESSAGE.finds(|| self.figures.ready() > 0)
    }

    /// Waits until rung, at most for `time`.
    pub(crate) fn wait<'a>(
        &'a self,
        mut ready: ReadyGuard<'a>,
        time: Option<Duration>,
    ) -> ReadyGuard<'a> {
        ready.waiting += 1;
        let ReadyGuard { ready, calls } = ready;
        drop(calls);
        let mut ready = self.guard(match time {
            Some(time) => wait_for(&self.arrival, ready, time),
            None => wait(&self.arrival, ready),
        });
        // It may be another one that was woken; then that one finds out that there is nothing left for it.
        ready.waiting -= 1;
        ready.rung = ready.rung.saturating_sub(1);
        ready
    }
}

/// A queue that is locked.
#[derive(Debug)]
pub(crate) struct ReadyGuard<'a> {
    ready: MutexGuard<'a, Ready>,
    // Dropped last, when the lock has been given back: who is woken needs it, and would go to sleep again.
    calls: Calls<'a>,
}

impl Deref for ReadyGuard<'_> {
    type Target = Ready;

    fn deref(&self) -> &Ready {
        &self.ready
    }
}

impl DerefMut for ReadyGuard<'_> {
    fn deref_mut(&mut self) -> &mut Ready {
        &mut self.ready
    }
}

/// Calls that wake those who wait, made when it is dropped.
#[derive(Debug)]
struct Calls<'a> {
    arrival: &'a Condvar,
    for_one: u32,
    for_all: bool,
}

impl Drop for Calls<'_> {
    fn drop(&mut self) {
        if self.for_all {
            self.arrival.notify_all();
        } else {
            (0..self.for_one).for_each(|_| self.arrival.notify_one());
        }
    }
}

thread_local! {
    /// The number of the queue that this thread named last, in whichever broker: a guess, which is checked.
    static LAST_NAMED: Cell<u32> = const { Cell::new(0) };
}

/// The queues of a broker. A queue is made when it is first named, and stays.
#[derive(Debug)]
pub(crate) struct Queues {
    by_name: RwLock<HashMap<Arc<str>, u32>>,
    by_number: Table<OnceLock<Arc<Queue>>>,
}

impl Queues {
    pub(crate) fn new() -> Self {
        Self { by_name: RwLock::default(), by_number: Table::new(limits::QUEUES_MAX) }
    }

    /// The queue of this name, which is known to be a name.
    ///
    /// # Errors
    /// `INVALID` where there would be too many.
    pub(crate) fn named(&self, name: &str) -> Result<&Arc<Queue>> {
        if let Some(queue) = self.find(name) {
            return Ok(queue);
        }
        let mut by_name = self.by_name.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(number) = by_name.get(name) {
            return Ok(self.numbered(*number));
        }
        let number = by_name.len();
        check_count(number + 1)?;
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let queue = Arc::new(Queue::new(name, number));
        by_name.insert(Arc::clone(&queue.name), number);
        if let Some(place) = self.by_number.get_or_make(number) {
            // One queue a number: the names are locked.
            let _ = place.set(queue);
        }
        Ok(self.numbered(number))
    }

    /// Refuses so many queues that are not there, if there would be too many.
    pub(crate) fn check_new(&self, count: usize) -> Result<()> {
        check_count(self.read().len() + count)
    }

    /// The queue of this name, if there is one.
    #[inline]
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Queue>> {
        match self.last_named(name) {
            Some(queue) => Some(queue),
            None => self.look_up(name),
        }
    }

    fn look_up(&self, name: &str) -> Option<&Arc<Queue>> {
        let number = *self.read().get(name)?;
        LAST_NAMED.set(number);
        Some(self.numbered(number))
    }

    /// The queue that this thread named last, if it is that again: then it is a name.
    pub(crate) fn last_named(&self, name: &str) -> Option<&Arc<Queue>> {
        self.by_number.get(LAST_NAMED.get())?.get().filter(|queue| &*queue.name == name)
    }

    /// The queue of a number that a slot holds.
    pub(crate) fn numbered(&self, number: u32) -> &Arc<Queue> {
        match self.by_number.get(number).and_then(OnceLock::get) {
            Some(queue) => queue,
            None => panic!("queue {number} was never made"),
        }
    }

    /// All queues, in the order they were made.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Queue>> {
        (0..).map_while(|number| self.by_number.get(number)?.get())
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Arc<str>, u32>> {
        self.by_name.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn check_count(queues: usize) -> Result<()> {
    if queues > limits::QUEUES_MAX {
        let most = limits::QUEUES_MAX;
        return Err(Error::invalid(format!("queue would be one more than {most}")));
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::interrupt::Interrupt;
    use crate::stress::rounds;
    use crate::sync::atomic::AtomicU64;

    /// Messages come one by one to three that wait, of whom one is interrupted again and again: all are taken, and nobody
    /// sleeps on when there are no more.
    #[test]
    fn stress_nobody_sleeps_beside_a_message() {
        let (queue, all) = (Queue::new("q", 0), rounds(50_000));
        let (messages, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        let interrupt = Mutex::new(Arc::new(Interrupt::new()));
        let is_over = || taken.load(Ordering::Relaxed) == u64::from(all);
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (queue, messages, taken) = (&queue, &messages, &taken);
                let (interrupt, is_over) = (&interrupt, &is_over);
                scope.spawn(move || {
                    while !is_over() {
                        let own = Arc::clone(&lock(interrupt));
                        let mut ready = queue.ready();
                        while messages.load(Ordering::Relaxed) == 0 && !is_over() {
                            if number == 0 && own.is_set() {
                                break;
                            }
                            ready = queue.wait(ready, None);
                        }
                        if messages.load(Ordering::Relaxed) > 0 {
                            messages.fetch_sub(1, Ordering::Relaxed);
                            taken.fetch_add(1, Ordering::Relaxed);
                            drop(ready);
                            if is_over() {
                                queue.ring_all();
                            }
                        }
                    }
                });
            }
            for number in 0..all {
                let mut ready = queue.ready();
                messages.fetch_add(1, Ordering::Relaxed);
                queue.ring(&mut ready);
                drop(ready);
                if number % 50 == 0 {
                    let old = std::mem::take(&mut *lock(&interrupt));
                    old.set();
                    queue.ring_all();
                    queue.pass_on();
                }
            }
        });
        assert_eq!(queue.ready().waiting, 0);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::interrupt::Interrupt;
    use crate::sync::atomic::AtomicU64;
    use crate::sync::explore;

    /// Two wait for two messages, which come one by one: nobody sleeps on beside one, also where the one that was woken is
    /// not the one that was counted.
    #[test]
    fn loom_nobody_sleeps_beside_a_message() {
        explore(2, || {
            let queue = Arc::new(Queue::new("q", 0));
            // Changed under the lock of what is ready, as the lanes are.
            let messages = Arc::new(AtomicU64::new(0));
            let others = [(); 2].map(|()| {
                let (queue, messages) = (Arc::clone(&queue), Arc::clone(&messages));
                thread::spawn(move || {
                    let mut ready = queue.ready();
                    while messages.load(Ordering::Relaxed) == 0 {
                        ready = queue.wait(ready, None);
                    }
                    messages.fetch_sub(1, Ordering::Relaxed);
                })
            });
            for _ in 0..2 {
                let mut ready = queue.ready();
                messages.fetch_add(1, Ordering::Relaxed);
                queue.ring(&mut ready);
            }
            others.into_iter().for_each(|other| other.join().unwrap());
            let ready = queue.ready();
            assert_eq!((ready.waiting, ready.rung), (0, 0));
        });
    }

    /// A wait that is interrupted ends, whether it has begun or not; and the other one sleeps on until a message comes.
    #[test]
    fn loom_an_interrupt_ends_its_wait_alone() {
        explore(2, || {
            let queue = Arc::new(Queue::new("q", 0));
            let messages = Arc::new(AtomicU64::new(0));
            let interrupt = Arc::new(Interrupt::new());
            let wait = |interrupt: Arc<Interrupt>| {
                let (queue, messages) = (Arc::clone(&queue), Arc::clone(&messages));
                thread::spawn(move || {
                    let mut ready = queue.ready();
                    while !interrupt.is_set() && messages.load(Ordering::Relaxed) == 0 {
                        ready = queue.wait(ready, None);
                    }
                    interrupt.is_set()
                })
            };
            let (ended, other) = (wait(Arc::clone(&interrupt)), wait(Arc::default()));
            interrupt.set();
            queue.ring_all();
            assert!(ended.join().unwrap());
            let mut ready = queue.ready();
            messages.fetch_add(1, Ordering::Relaxed);
            queue.ring(&mut ready);
            drop(ready);
            assert!(!other.join().unwrap());
        });
    }
}
