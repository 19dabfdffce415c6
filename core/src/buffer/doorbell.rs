//! Doorbells: how somebody is told of a change who cannot wait for it, as an event loop.
//!
//! A doorbell rings once and is then silent until its owner has said that it listens again. Who listens, looks
//! afterwards: a change before that look is seen by it, a change after it rings. So no change is missed, and while the
//! owner is busy with what it was rung for, another change costs a load.

use std::fmt;

use crate::sync::atomic::{AtomicBool, Ordering};

/// Calls somebody to have a look.
pub(crate) struct Doorbell {
    /// Called on any thread and under locks of the buffer.
    call: Box<dyn Fn() + Send + Sync>,
    /// It has been rung and nobody listens yet. SeqCst: with what the owner looks at, which may lie under several locks.
    rung: AtomicBool,
    /// Among what changed is that somebody's attempt was cancelled.
    cancelled: AtomicBool,
}

impl Doorbell {
    /// `call` must neither wait nor call the broker.
    pub(crate) fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            call: Box::new(call),
            rung: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Something has changed.
    pub(crate) fn ring(&self) {
        if !self.rung.load(Ordering::SeqCst) && !self.rung.swap(true, Ordering::SeqCst) {
            (self.call)();
        }
    }

    /// Somebody's attempt was cancelled.
    pub(crate) fn ring_for_cancelled(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// The owner is about to look for the last time before it turns to something else.
    pub(crate) fn listen(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }

    /// Whether an attempt was cancelled since this was asked last. Asked after listening, it misses none.
    pub(crate) fn hear_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst) && self.cancelled.swap(false, Ordering::SeqCst)
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doorbell(rung: {})", self.rung.load(Ordering::SeqCst))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::alarm::Alarm;
    use crate::stress::rounds;
    use crate::sync::Arc;
    use crate::sync::atomic::AtomicU32;

    #[test]
    fn a_doorbell_rings_once_until_its_owner_listens() {
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let bell = Doorbell::new(move || _ = count.fetch_add(1, Ordering::SeqCst));
        bell.ring();
        bell.ring_for_cancelled();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        bell.listen();
        assert!(bell.hear_cancelled() && !bell.hear_cancelled());
        bell.ring();
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    /// An owner that sleeps until it is rung for sees all that many change, and that somebody was cancelled last.
    #[test]
    fn stress_an_owner_that_listens_misses_nothing() {
        let loops = Arc::new(Alarm::default());
        let called = Arc::clone(&loops);
        let bell = Doorbell::new(move || called.ring());
        let (changes, all) = (AtomicU32::new(0), rounds(300_000));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..all {
                        changes.fetch_add(1, Ordering::SeqCst);
                        bell.ring();
                    }
                    bell.ring_for_cancelled();
                });
            }
            let mut cancelled = false;
            loop {
                let seen = loops.count();
                bell.listen();
                cancelled |= bell.hear_cancelled();
                if cancelled && changes.load(Ordering::SeqCst) == 2 * all {
                    break;
                }
                loops.wait(seen, None);
            }
        });
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::alarm::Alarm;
    use crate::sync::{Arc, Mutex, explore, lock};

    /// An owner that listens and looks once more before it turns to something else misses nothing, whoever rings: neither a
    /// change nor a cancellation.
    #[test]
    fn loom_an_owner_that_listens_misses_nothing() {
        explore(3, || {
            let loops = Arc::new(Alarm::default());
            let called = Arc::clone(&loops);
            let bell = Arc::new(Doorbell::new(move || called.ring()));
            // Loom orders sequentially consistent stores alone, so what was there first has to be one.
            bell.rung.store(false, Ordering::SeqCst);
            bell.cancelled.store(false, Ordering::SeqCst);
            let changes = Arc::new(Mutex::new(0));
            let change = {
                let (bell, changes) = (Arc::clone(&bell), Arc::clone(&changes));
                thread::spawn(move || {
                    *lock(&changes) += 1;
                    bell.ring();
                })
            };
            let cancel = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || bell.ring_for_cancelled())
            };
            let mut cancelled = false;
            loop {
                let seen = loops.count();
                bell.listen();
                cancelled |= bell.hear_cancelled();
                if cancelled && *lock(&changes) == 1 {
                    break;
                }
                loops.wait(seen, None);
            }
            change.join().unwrap();
            cancel.join().unwrap();
        });
    }
}
