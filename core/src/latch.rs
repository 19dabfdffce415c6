//! Latches: locks that are held for a few instructions.
//!
//! To give a lock back that others may sleep for, a processor has to look for them in the same moment, which costs as much as
//! to take it. Nobody is woken for a latch: who finds it taken looks again, and lets others have the processor meanwhile. So
//! to give it back is a store. Whoever has it calls nothing that may take long, and locks nothing else.
//!
//! Loom knows no end of looking again, so in its models a latch is a lock like any other.

#[cfg(loom)]
pub(crate) use in_models::Latch;
#[cfg(not(loom))]
pub(crate) use spinning::Latch;

#[cfg(not(loom))]
mod spinning {
    use std::cell::UnsafeCell;
    use std::fmt;
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::sync::Pause;

    /// A value that one thread at a time may reach, for a moment.
    #[derive(Default)]
    pub(crate) struct Latch<T> {
        taken: AtomicBool,
        value: UnsafeCell<T>,
    }

    // SAFETY: the value is reached through a `Latched` alone, and `taken` gives out one at a time, on whichever thread.
    unsafe impl<T: Send> Sync for Latch<T> {}

    impl<T> Latch<T> {
        pub(crate) fn new(value: T) -> Self {
            Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
        }

        /// Takes it, as soon as nobody else has it.
        pub(crate) fn take(&self) -> Latched<'_, T> {
            let pause = Pause::new();
            // Acquire pairs with the release of who had it before: what that one did is seen.
            let swap = || {
                self.taken
                    .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            };
            while !swap() {
                pause.snooze();
            }
            Latched { latch: self, value: PhantomData }
        }
    }

    impl<T> fmt::Debug for Latch<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Latch")
        }
    }

    /// A latch that was taken. Dropped, it is given back.
    pub(crate) struct Latched<'a, T> {
        latch: &'a Latch<T>,
        /// It goes to other threads as the value does that it reaches.
        value: PhantomData<&'a mut T>,
    }

    impl<T> Deref for Latched<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            // SAFETY: who has the latch is the only one to reach the value until this is dropped.
            unsafe { &*self.latch.value.get() }
        }
    }

    impl<T> DerefMut for Latched<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: who has the latch is the only one to reach the value until this is dropped, and `&mut self` keeps
            // its own references apart.
            unsafe { &mut *self.latch.value.get() }
        }
    }

    impl<T> Drop for Latched<'_, T> {
        fn drop(&mut self) {
            self.latch.taken.store(false, Ordering::Release);
        }
    }
}

#[cfg(loom)]
mod in_models {
    use crate::sync::{Mutex, MutexGuard, lock};

    #[derive(Debug, Default)]
    pub(crate) struct Latch<T>(Mutex<T>);

    impl<T> Latch<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn take(&self) -> MutexGuard<'_, T> {
            lock(&self.0)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::stress::rounds;

    #[test]
    fn stress_one_at_a_time_has_a_latch() {
        let latch = Latch::new((0, 0));
        let all = rounds(200_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..all {
                        let mut value = latch.take();
                        assert_eq!(value.0, value.1);
                        value.0 += 1;
                        value.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*latch.take(), (4 * all, 4 * all));
    }

    #[test]
    fn a_latch_is_given_back_in_a_panic() {
        let latch = Latch::new(7);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _value = latch.take();
            panic!("a bug")
        }));
        assert!(panic.is_err());
        assert_eq!(*latch.take(), 7);
    }
}
