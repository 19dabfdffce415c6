//! Piles: work for one thread, which the first who has some starts. The bindings have some, too.
//!
//! A pile that is closed takes nothing more. Whoever joins it then knows that all that was on it has been dealt with, whoever
//! else joins it at the same time.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::thread::JoinHandle;

use crate::sync::{Bell, Condvar, Mutex, MutexGuard, lock, wait};

/// What waits for a thread, in order.
pub struct Pile<T> {
    inner: Mutex<Inner<T>>,
    /// How much may wait.
    most: usize,
    /// Something was put there, or the pile was closed.
    more: Bell,
    /// Nobody works here any more.
    left: Condvar,
}

struct Inner<T> {
    waiting: VecDeque<T>,
    closed: bool,
    /// Somebody works here, or is about to.
    manned: bool,
    thread: Option<JoinHandle<()>>,
}

/// Why something was not put on a pile.
#[derive(Debug)]
pub enum Refused<T> {
    /// It was closed.
    Closed(T),
    /// As much waits as may.
    Full,
}

/// Works on a pile, until it is dropped.
struct Hand<'a, T>(&'a Pile<T>);

impl<T> Pile<T> {
    /// One that has no room for more than this.
    #[must_use]
    pub fn of_at_most(most: usize) -> Self {
        let inner = Inner { waiting: VecDeque::new(), closed: false, manned: false, thread: None };
        Self { inner: Mutex::new(inner), most, more: Bell::new(), left: Condvar::new() }
    }

    /// Puts something there for the thread, which is to call [`Pile::work`] and is started by `start` if there is none.
    /// Where there can be none, this one deals with it as `deal` does.
    ///
    /// # Errors
    /// It was closed, or has no room.
    pub fn put(
        &self,
        item: T,
        start: impl FnOnce() -> io::Result<JoinHandle<()>>,
        deal: impl FnMut(VecDeque<T>),
    ) -> Result<(), Refused<T>> {
        {
            let mut inner = self.lock();
            if inner.closed {
                return Err(Refused::Closed(item));
            }
            if inner.waiting.len() >= self.most {
                return Err(Refused::Full);
            }
            inner.waiting.push_back(item);
            if inner.manned {
                self.more.ring();
                return Ok(());
            }
            inner.manned = true;
        }
        match start() {
            Ok(thread) => self.lock().thread = Some(thread),
            Err(_) => Hand(self).deal_with_what_is_there(deal),
        }
        Ok(())
    }

    /// Has the last of what waits changed by `change`, which says whether it did.
    pub fn amend(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        self.lock().waiting.back_mut().is_some_and(change)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// What the thread does: has everything dealt with until the pile is closed and empty.
    pub fn work(&self, mut deal: impl FnMut(VecDeque<T>)) {
        let hand = Hand(self);
        while let Some(items) = hand.next() {
            deal(items);
        }
    }

    /// Takes nothing more. The thread ends when all is dealt with.
    pub fn close(&self) {
        self.lock().closed = true;
        self.more.ring();
    }

    /// Returns when all is dealt with. It was closed.
    pub fn join(&self) {
        let mut inner = self.lock();
        while inner.manned {
            inner = wait(&self.left, inner);
        }
        let thread = inner.thread.take();
        drop(inner);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        lock(&self.inner)
    }
}

impl<T> Default for Pile<T> {
    /// One that has room for everything.
    fn default() -> Self {
        Self::of_at_most(usize::MAX)
    }
}

impl<T> fmt::Debug for Pile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pile({} waiting)", self.lock().waiting.len())
    }
}

impl<T> Hand<'_, T> {
    /// Waits for something to do; none when there will be nothing more.
    fn next(&self) -> Option<VecDeque<T>> {
        let mut inner = self.0.lock();
        while inner.waiting.is_empty() {
            if inner.closed {
                return None;
            }
            inner = self.0.more.wait(inner, None);
        }
        Some(std::mem::take(&mut inner.waiting))
    }

    fn deal_with_what_is_there(self, mut deal: impl FnMut(VecDeque<T>)) {
        loop {
            let items = {
                let mut inner = self.0.lock();
                if inner.waiting.is_empty() {
                    // Under this lock, so that what comes next finds nobody here and starts a thread; which a drop must
                    // not undo.
                    inner.manned = false;
                    self.0.left.notify_all();
                    std::mem::forget(self);
                    return;
                }
                std::mem::take(&mut inner.waiting)
            };
            deal(items);
        }
    }
}

impl<T> Drop for Hand<'_, T> {
    fn drop(&mut self) {
        self.0.lock().manned = false;
        self.0.left.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::stress::rounds;

    fn none() -> io::Result<JoinHandle<()>> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn what_is_there_is_dealt_with_in_order_before_anybody_who_joins_comes_back() {
        let pile = Arc::new(Pile::default());
        let dealt = Arc::new(Mutex::new(Vec::new()));
        for number in 0..1000 {
            let start = || {
                let (pile, dealt) = (Arc::clone(&pile), Arc::clone(&dealt));
                Ok(thread::spawn(move || {
                    pile.work(|numbers| dealt.lock().unwrap().extend(numbers));
                }))
            };
            assert!(pile.put(number, start, |_| unreachable!("there are threads")).is_ok());
        }
        pile.close();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pile.join();
                    assert!(dealt.lock().unwrap().iter().copied().eq(0..1000));
                });
            }
        });
        assert!(matches!(pile.put(7, none, drop), Err(Refused::Closed(7))));
    }

    #[test]
    fn where_there_is_no_thread_whoever_comes_first_does_the_work() {
        let pile = Pile::default();
        let mut dealt = Vec::new();
        let put = pile.put(1, none, |numbers| {
            dealt.extend(numbers);
            // What comes meanwhile is for whoever is at work.
            if dealt.len() < 3 {
                let other = pile.put(dealt.len() + 1, none, |_| unreachable!("somebody is"));
                assert!(other.is_ok());
            }
        });
        assert!(put.is_ok());
        assert_eq!(dealt, [1, 2, 3]);
        // The next one finds nobody there.
        let started = Mutex::new(false);
        let start = || {
            *started.lock().unwrap() = true;
            none()
        };
        assert!(pile.put(4, start, drop).is_ok());
        assert!(*started.lock().unwrap());
        pile.close();
        pile.join();
    }

    /// Many put things there while it is closed and joined: what was taken has been dealt with then.
    #[test]
    fn stress_what_was_taken_is_dealt_with_before_a_join_comes_back() {
        for _ in 0..rounds(600) {
            let (pile, dealt) = (Arc::new(Pile::default()), Arc::new(Mutex::new(0)));
            let put = || {
                let start = || {
                    let (pile, dealt) = (Arc::clone(&pile), Arc::clone(&dealt));
                    Ok(thread::spawn(move || {
                        pile.work(|all| *lock(&dealt) += all.iter().sum::<u32>());
                    }))
                };
                let never = |_| unreachable!("there are threads");
                (0..20).filter(|_| pile.put(1, start, never).is_ok()).count()
            };
            thread::scope(|scope| {
                let others = [(); 2].map(|()| scope.spawn(put));
                thread::yield_now();
                pile.close();
                pile.join();
                let before = *lock(&dealt);
                let taken: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
                assert_eq!(before as usize, taken);
            });
        }
    }

    #[test]
    fn a_full_pile_takes_no_more() {
        let pile = Pile::of_at_most(1);
        let never = || Ok(thread::spawn(|| {}));
        assert!(pile.put(1, never, drop).is_ok());
        assert!(matches!(pile.put(2, never, drop), Err(Refused::Full)));
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::sync::{Arc, explore};

    type Threads = std::sync::Mutex<Vec<thread::JoinHandle<()>>>;

    /// Two put something there, the first of them starts the thread, and it is closed and joined meanwhile: what was taken has
    /// been dealt with then, and what was refused has not.
    #[test]
    fn loom_what_was_taken_is_dealt_with_before_a_join_comes_back() {
        explore(2, || {
            let pile = Arc::new(Pile::default());
            let (dealt, threads) = (Arc::new(Mutex::new(0)), Arc::new(Threads::default()));
            let put = |pile: &Arc<Pile<u32>>, dealt: &Arc<Mutex<u32>>, threads: &Arc<Threads>| {
                let start = || {
                    let (pile, dealt) = (Arc::clone(pile), Arc::clone(dealt));
                    let work = move || pile.work(|all| *lock(&dealt) += all.iter().sum::<u32>());
                    threads.lock().unwrap().push(thread::spawn(work));
                    // The pile joins a thread of the system's, which this stands for.
                    Ok(std::thread::spawn(|| {}))
                };
                u32::from(pile.put(1, start, |_| unreachable!("there are threads")).is_ok())
            };
            let other = {
                let (pile, dealt) = (Arc::clone(&pile), Arc::clone(&dealt));
                let threads = Arc::clone(&threads);
                thread::spawn(move || put(&pile, &dealt, &threads))
            };
            let mine = put(&pile, &dealt, &threads);
            pile.close();
            pile.join();
            let before = *lock(&dealt);
            let taken = mine + other.join().unwrap();
            assert_eq!((mine, before), (1, taken));
            let started = std::mem::take(&mut *threads.lock().unwrap());
            started.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
