//! Locks and atomics, in one place so that loom can stand in for them.
//!
//! A lock whose holder panicked is entered all the same: the panic is caught at the C boundary or ends the thread's
//! owner, and either of them poisons the broker.

/// What one thread changes all the time lies apart from what others read or change meanwhile: processors share memory by the
/// line, and each change takes the line away from all others.
pub(crate) use crossbeam_utils::CachePadded;
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
pub(crate) use std::sync::{Arc, Weak};
#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};

use std::sync::TryLockError;
use std::time::Duration;

/// Locks, whatever became of the last holder.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Locks if nobody else does, whatever became of the last holder.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits until notified; may wake without a reason.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Waits until notified or until `time` has passed; may wake without a reason.
pub(crate) fn wait_for<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    time: Duration,
) -> MutexGuard<'a, T> {
    condvar.wait_timeout(guard, time).unwrap_or_else(|poisoned| poisoned.into_inner()).0
}

/// Lets another thread have the processor.
pub(crate) fn yield_now() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// A condition variable that costs no system call while nobody waits for it.
///
/// Who rings has changed, under the lock the waiters wait with, what they look at. So whoever was asleep before that
/// change is counted by then, and whoever comes later sees the change.
#[derive(Debug)]
pub(crate) struct Bell {
    condvar: Condvar,
    /// Changed under the waiters' lock, which orders it; so relaxed.
    waiting: atomic::AtomicU32,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { condvar: Condvar::new(), waiting: atomic::AtomicU32::new(0) }
    }

    /// Waits until rung, at most for `time`; may wake without a reason.
    pub(crate) fn wait<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        time: Option<Duration>,
    ) -> MutexGuard<'a, T> {
        self.waiting.fetch_add(1, atomic::Ordering::Relaxed);
        let guard = match time {
            Some(time) => wait_for(&self.condvar, guard, time),
            None => wait(&self.condvar, guard),
        };
        self.waiting.fetch_sub(1, atomic::Ordering::Relaxed);
        guard
    }

    /// Wakes all who wait.
    pub(crate) fn ring(&self) {
        if self.waiting.load(atomic::Ordering::Relaxed) > 0 {
            self.condvar.notify_all();
        }
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}

/// How long whoever has waited long sleeps before it looks again.
#[cfg(not(loom))]
const LONG_PAUSE: Duration = Duration::from_micros(50);

/// A short pause while another thread finishes a few instructions.
pub(crate) struct Pause(#[cfg(not(loom))] crossbeam_utils::Backoff);

impl Pause {
    pub(crate) fn new() -> Self {
        Self(
            #[cfg(not(loom))]
            crossbeam_utils::Backoff::new(),
        )
    }

    pub(crate) fn snooze(&self) {
        // Who has waited long sleeps: a thread that the system prefers to all others would else keep out for ever whom it waits for.
        #[cfg(not(loom))]
        if self.0.is_completed() {
            std::thread::sleep(LONG_PAUSE);
        } else {
            self.0.snooze();
        }
        #[cfg(loom)]
        yield_now();
    }
}

/// A cell that is reached by address, under rules the compiler cannot see.
#[derive(Debug)]
pub(crate) struct Cell<T> {
    value: std::cell::UnsafeCell<T>,
    #[cfg(loom)]
    witness: loom::cell::UnsafeCell<()>,
}

impl<T> Cell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: std::cell::UnsafeCell::new(value),
            #[cfg(loom)]
            witness: loom::cell::UnsafeCell::new(()),
        }
    }

    /// The value's address; never null.
    pub(crate) fn get(&self) -> *mut T {
        self.value.get()
    }

    /// Says that the caller has the value for itself until it leaves. Loom then finds whoever else has it meanwhile, or has
    /// had it and may not have been seen.
    pub(crate) fn enter(&self) -> Entered {
        Entered {
            #[cfg(loom)]
            witness: Some(self.witness.get_mut()),
        }
    }
}

/// Somebody has a cell's value for itself. Nothing but for loom.
pub(crate) struct Entered {
    #[cfg(loom)]
    witness: Option<loom::cell::MutPtr<()>>,
}

impl Entered {
    /// From now on somebody else may have it.
    pub(crate) fn leave(&mut self) {
        #[cfg(loom)]
        drop(self.witness.take());
    }
}

/// Runs a model under every interleaving with at most that many preemptions.
#[cfg(all(test, loom))]
pub(crate) fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::stress::rounds;

    /// Three take turns in one row, each of them waiting until it is its own.
    #[test]
    fn stress_who_waits_at_a_bell_is_woken() {
        let (turn, bell) = (Mutex::new(0), Bell::new());
        let turns = rounds(30_000);
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (turn, bell) = (&turn, &bell);
                scope.spawn(move || {
                    for mine in (number..turns).step_by(3) {
                        let mut guard = lock(turn);
                        while *guard != mine {
                            guard = bell.wait(guard, None);
                        }
                        *guard += 1;
                        drop(guard);
                        bell.ring();
                    }
                });
            }
        });
        assert_eq!(*lock(&turn), turns);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;

    /// Who waits is woken, whether it slept before the change or comes after it.
    #[test]
    fn loom_who_waits_at_a_bell_is_woken() {
        explore(3, || {
            let shared = Arc::new((Mutex::new(false), Bell::new()));
            let wait = |shared: Arc<(Mutex<bool>, Bell)>| {
                let (changed, bell) = &*shared;
                let mut guard = lock(changed);
                while !*guard {
                    guard = bell.wait(guard, None);
                }
            };
            let waiters = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || wait(shared))
            });
            *lock(&shared.0) = true;
            shared.1.ring();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!(shared.1.waiting.load(atomic::Ordering::Relaxed), 0);
        });
    }
}
