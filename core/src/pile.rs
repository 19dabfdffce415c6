//! Piles: work for one thread, which the first who has some starts. The bindings have some, too.
//!
//! A pile that is closed takes nothing more. Whoever joins it then knows that all that was on it has been dealt with, whoever
//! else joins it at the same time. It is no part of what loom looks at, so its locks are the standard library's.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What waits for a thread, in order.
pub struct Pile<T> {
    inner: Mutex<Inner<T>>,
    /// How much may wait.
    most: usize,
    /// Something was put there, or the pile was closed.
    more: Condvar,
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
        Self { inner: Mutex::new(inner), most, more: Condvar::new(), left: Condvar::new() }
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
                self.more.notify_one();
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
        self.more.notify_one();
    }

    /// Returns when all is dealt with. It was closed.
    pub fn join(&self) {
        let mut inner = self.lock();
        while inner.manned {
            inner = self.left.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let thread = inner.thread.take();
        drop(inner);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
            inner = self.0.more.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut inner.waiting))
    }

    fn deal_with_what_is_there(self, mut deal: impl FnMut(VecDeque<T>)) {
        loop {
            let items = {
                let mut inner = self.0.lock();
                if inner.waiting.is_empty() {
                    // Under this lock, so that what comes next finds nobody here and starts a thread.
                    inner.manned = false;
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
