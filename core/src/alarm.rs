//! Alarms: how the threads that keep time and disk sleep, and are woken for something, once.

use std::time::{Duration, Instant};

use crate::clock::Moment;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::{Bell, Mutex, lock};

/// Something that changed, for threads that sleep until it does.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    rung: Mutex<u64>,
    bell: Bell,
    /// Threads that may sleep, so that ringing costs a load while there are none.
    listeners: AtomicU64,
}

impl Alarm {
    pub(crate) fn ring(&self) {
        *lock(&self.rung) += 1;
        self.bell.ring();
    }

    /// Rings if somebody listens. Who is about to sleep looks at what it waits for after [`Alarm::count`].
    pub(crate) fn ring_if_heard(&self) {
        // With the one in `listen`: either this sees the listener, or its look sees what was changed before, if only by a store.
        fence(Ordering::SeqCst);
        if self.listeners.load(Ordering::Relaxed) > 0 {
            self.ring();
        }
    }

    /// Notes that the caller may sleep from now on, until the answer is dropped.
    pub(crate) fn listen(&self) -> Listener<'_> {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Listener(self)
    }

    /// How often it was rung.
    pub(crate) fn count(&self) -> u64 {
        *lock(&self.rung)
    }

    /// Sleeps until it was rung more often than `seen`, at most for `time`.
    pub(crate) fn wait(&self, seen: u64, time: Option<Duration>) {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        let mut rung = lock(&self.rung);
        while *rung == seen {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            rung = self.bell.wait(rung, left);
        }
    }
}

/// Somebody who may sleep until an alarm is rung.
#[derive(Debug)]
pub(crate) struct Listener<'a>(&'a Alarm);

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes the timekeeper for what is due sooner than the moment it sleeps until, and for nothing else.
///
/// `wakes_at` is that moment, and the end of time while the timekeeper is awake: then everything rings, because it may
/// have looked already. Whoever adds something due does so under a lock that the timekeeper's look takes too, and reads
/// `wakes_at` afterwards; so it is seen by the look, or reads what was stored before the look or later.
#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) alarm: Alarm,
    wakes_at: AtomicU64,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { alarm: Alarm::default(), wakes_at: AtomicU64::new(u64::MAX) }
    }

    /// Something is due at `moment`, and where the timekeeper looks for it.
    pub(crate) fn due_at(&self, moment: Moment) {
        // Acquire: pairs with the store of the end of time, through the lock described above.
        if moment.0 < self.wakes_at.load(Ordering::Acquire) {
            self.alarm.ring();
        }
    }

    /// Something is due now.
    pub(crate) fn due_now(&self) {
        self.alarm.ring();
    }

    /// The timekeeper is awake, and is about to look.
    pub(crate) fn awake(&self) {
        self.wakes_at.store(u64::MAX, Ordering::Release);
    }

    /// The timekeeper sleeps until `moment`; until it is rung where there is none.
    pub(crate) fn asleep_until(&self, moment: Option<Moment>) {
        self.wakes_at.store(moment.map_or(u64::MAX, |moment| moment.0), Ordering::Release);
    }

    /// Nothing needs to ring: time does not move by itself.
    pub(crate) fn stand_still(&self) {
        self.wakes_at.store(0, Ordering::Release);
    }
}

/// A wish that many have and one thread fulfils: only the first to ask rings.
///
/// Who asks has done before what the wish is about; who hears takes the wish back before it looks. So either the look
/// sees it, or the next to ask rings again.
#[derive(Debug, Default)]
pub(crate) struct Wish(AtomicBool);

impl Wish {
    pub(crate) fn ask(&self, alarm: &Alarm) {
        // SeqCst: the order of this load and of what was done before it, against the swap below and the look after it.
        if !self.0.load(Ordering::SeqCst) && !self.0.swap(true, Ordering::SeqCst) {
            alarm.ring();
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn hear(&self) {
        self.0.swap(false, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::stress::rounds;

    const THREADS: u32 = 3;

    /// Has `ring` called for each of many changes, by a few threads, while `look` sleeps until it has seen all of them.
    fn race(ring: impl Fn() + Sync, look: impl FnOnce(u32)) {
        let all = rounds(60_000) / THREADS;
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for change in 0..all {
                        ring();
                        if change % 64 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            look(all * THREADS);
        });
    }

    #[test]
    fn stress_who_listens_is_rung_for() {
        let (changes, alarm) = (Mutex::new(0), Alarm::default());
        let ring = || {
            *lock(&changes) += 1;
            alarm.ring_if_heard();
        };
        race(ring, |all| {
            loop {
                let listener = alarm.listen();
                let seen = alarm.count();
                if *lock(&changes) == all {
                    break;
                }
                alarm.wait(seen, None);
                drop(listener);
            }
        });
    }

    #[test]
    fn stress_what_is_due_sooner_wakes_the_timekeeper() {
        let (due, timer) = (Mutex::new((0_u32, Vec::new())), Timer::new());
        let ring = || {
            let moment = {
                let mut due = lock(&due);
                due.0 += 1;
                let moment = u64::from(u32::MAX - due.0);
                due.1.push(moment);
                moment
            };
            timer.due_at(Moment(moment));
        };
        race(ring, |all| {
            loop {
                let seen = timer.alarm.count();
                timer.awake();
                let next = {
                    let mut due = lock(&due);
                    if due.0 == all {
                        break;
                    }
                    let next = due.1.iter().copied().min();
                    due.1 = next.into_iter().collect();
                    next
                };
                timer.asleep_until(next.map(Moment));
                timer.alarm.wait(seen, None);
            }
        });
    }

    #[test]
    fn stress_no_wish_is_missed() {
        let (work, wish, alarm) = (Mutex::new(0), Wish::default(), Alarm::default());
        let ask = || {
            *lock(&work) += 1;
            wish.ask(&alarm);
        };
        race(ask, |all| {
            let mut done = 0;
            while done < all {
                let seen = alarm.count();
                if wish.is_asked() {
                    wish.hear();
                    done = *lock(&work);
                } else {
                    alarm.wait(seen, None);
                }
            }
        });
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::sync::{Arc, explore};

    /// Who is about to sleep has either seen the change, or is heard and rung for.
    #[test]
    fn loom_who_listens_is_rung_for() {
        explore(3, || {
            let shared = Arc::new((Mutex::new(0), Alarm::default()));
            let others = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    *lock(&shared.0) += 1;
                    shared.1.ring_if_heard();
                })
            });
            let (changes, alarm) = &*shared;
            let listener = alarm.listen();
            loop {
                let seen = alarm.count();
                if *lock(changes) == 2 {
                    break;
                }
                alarm.wait(seen, None);
            }
            drop(listener);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }

    /// The same of a change that is a store and nothing more, as that effects are shown is; and by who listens anew for each step.
    /// The store was seen later than that nobody listens: who waited for a broker to come to rest saw what was before it, slept,
    /// and was never rung for.
    #[test]
    fn loom_who_listens_is_rung_for_where_the_change_is_a_store() {
        explore(3, || {
            let shared = Arc::new((AtomicU64::new(0), Alarm::default()));
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for change in [1, 2] {
                        shared.0.store(change, Ordering::Release);
                        shared.1.ring_if_heard();
                    }
                })
            };
            let (change, alarm) = &*shared;
            loop {
                let listener = alarm.listen();
                let seen = alarm.count();
                if change.load(Ordering::Acquire) == 2 {
                    break;
                }
                alarm.wait(seen, None);
                drop(listener);
            }
            other.join().unwrap();
        });
    }

    /// What comes to be due is found by the look of who keeps time, or wakes it: also where it last slept until a moment
    /// before that.
    #[test]
    fn loom_what_is_due_sooner_wakes_the_timekeeper() {
        explore(3, || {
            let schedule = Arc::new((Mutex::new(Vec::new()), Timer::new()));
            schedule.1.asleep_until(Some(Moment(10)));
            let other = {
                let schedule = Arc::clone(&schedule);
                thread::spawn(move || {
                    for due in [20, 15] {
                        lock(&schedule.0).push(due);
                        schedule.1.due_at(Moment(due));
                    }
                })
            };
            let (due, timer) = &*schedule;
            loop {
                let seen = timer.alarm.count();
                timer.awake();
                let next = lock(due).iter().copied().min();
                if next == Some(15) {
                    break;
                }
                timer.asleep_until(next.map(Moment));
                timer.alarm.wait(seen, None);
            }
            other.join().unwrap();
        });
    }

    /// Of many who wish for the same only the first rings, and what each of them has done before is seen.
    #[test]
    fn loom_no_wish_is_missed() {
        explore(3, || {
            let shared = Arc::new((Mutex::new(0), Wish::default(), Alarm::default()));
            let others = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    *lock(&shared.0) += 1;
                    shared.1.ask(&shared.2);
                })
            });
            let (work, wish, alarm) = &*shared;
            let mut done = 0;
            while done < 2 {
                let seen = alarm.count();
                if wish.is_asked() {
                    wish.hear();
                    done = *lock(work);
                } else {
                    alarm.wait(seen, None);
                }
            }
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }
}
