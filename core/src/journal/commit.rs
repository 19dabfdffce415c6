//! The commit gate: whoever needs a level and finds nobody committing commits for everyone.
//!
//! A gate guards one mark that only grows: "written up to here", "synced up to here", or "shown up to here". A caller that needs
//! the mark at a position either *leads*, doing the work for all that is there, or waits for who leads. There is no thread and
//! no timer: a batch is what arrived while the last one was under way.
//!
//! Who arrives while a round is under way is either covered by it or belongs to the next one. The two wait apart, so
//! that the end of a round wakes those it covered, and one of the others, which leads the next round.
//!
//! | `lead` | | an arrival | the end of the round |
//! |---|---|---|---|
//! | 0 | idle | leads, without a lock | |
//! | `LED` | a round is under way | asks for attention and waits | gives the lead back, without a lock |
//! | `LED`, `ATTENTION` | and somebody waits, or it covers only part of what comes | waits | wakes who waited, under the lock |
//! | `ATTENTION` | idle, and somebody still sleeps, or the gate has failed | leads, under the lock | |
//!
//! Bits are set under the lock or by the leader. Acquire where the lead is taken, release where it is given back: who
//! leads sees what the last leader did. While a round covers a known part, an arrival at or below it waits with this
//! round, else with the next. Before that is known it waits with this one: the leader will see it, or has just looked; then
//! it is woken with the round, finds that it was not covered, and leads or waits again.
//!
//! A round that fails, fails the gate for good: everyone waiting and everyone to come gets its error.
//!
//! What a leader needs, and leaves for the next one, lies behind the gate. This is one of the few places with `unsafe`: that
//! one at a time leads is what the borrow checker cannot see.

use crate::error::{Error, Result};
use crate::patience::Patience;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Cell, Condvar, Entered, Mutex, lock, wait};

/// Somebody leads a round.
const LED: u32 = 1;
/// What follows has to be done under the lock.
const ATTENTION: u32 = 2;

/// A growing mark, the callers that wait for it, and what is of use to whoever leads.
#[derive(Debug)]
pub(crate) struct Gate<L> {
    /// The mark. Release on store, acquire on load: who sees the mark sees what was done to reach it.
    reached: AtomicU64,
    lead: AtomicU32,
    state: Mutex<State>,
    turns: [Condvar; 2],
    patience: Patience,
    leader: Cell<L>,
}

// SAFETY: `leader` is reached through a `Round` alone, and `LED` gives out one round at a time.
unsafe impl<L: Send> Sync for Gate<L> {}

#[derive(Debug, Default)]
struct State {
    covered: Option<u64>,
    /// Which of `turns` the round under way, or the next one if idle, wakes whole.
    round: usize,
    waiting: [usize; 2],
    failure: Option<Error>,
}

impl<L> Gate<L> {
    pub(crate) fn new(reached: u64, patience: Patience, leader: L) -> Self {
        Self {
            reached: AtomicU64::new(reached),
            lead: AtomicU32::new(0),
            state: Mutex::new(State::default()),
            turns: [Condvar::new(), Condvar::new()],
            patience,
            leader: Cell::new(leader),
        }
    }

    pub(crate) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    /// Returns when the mark is at `target` or beyond. `work` does what moves the mark for everything there is, and
    /// answers how far that was; it may call [`Gate::cover`] once it knows.
    pub(crate) fn reach(
        &self,
        target: u64,
        work: impl FnOnce(&mut L) -> Result<u64>,
    ) -> Result<()> {
        if self.reached() >= target {
            return Ok(());
        }
        let round = match self.lead() {
            Some(round) => round,
            None => match self.wait_to_lead(target)? {
                Some(round) => round,
                None => return Ok(()),
            },
        };
        // The mark may have been moved there between the look and the lead.
        let reached = self.reached();
        round.run(|leader| if reached >= target { Ok(reached) } else { work(leader) })
    }

    /// Leads, if nobody does or waits to.
    pub(crate) fn lead(&self) -> Option<Round<'_, L>> {
        let lead = self.lead.compare_exchange(0, LED, Ordering::Acquire, Ordering::Relaxed);
        lead.ok().map(|_| Round::new(self))
    }

    /// Waits until the mark is at `target`, or leads.
    fn wait_to_lead(&self, target: u64) -> Result<Option<Round<'_, L>>> {
        let is_idle = || self.lead.load(Ordering::Relaxed) & LED == 0;
        self.patience.finds(|| self.reached() >= target || is_idle());
        if self.reached() >= target {
            return Ok(None);
        }
        let mut state = lock(&self.state);
        loop {
            // First: what was reached before a failure was reached.
            if self.reached() >= target {
                return Ok(None);
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if self.lead.fetch_or(LED | ATTENTION, Ordering::Acquire) & LED == 0 {
                return Ok(Some(Round::new(self)));
            }
            let this_round = state.covered.is_none_or(|covered| target <= covered);
            let turn = if this_round { state.round } else { state.round ^ 1 };
            state = self.sleep(state, turn);
        }
    }

    /// Tells arrivals that the round under way covers everything up to here, and nothing beyond. Called by who leads.
    pub(crate) fn cover(&self, position: u64) {
        let mut state = lock(&self.state);
        state.covered = Some(position);
        self.lead.fetch_or(ATTENTION, Ordering::Relaxed);
    }

    /// Fails the gate for good.
    pub(crate) fn fail(&self, failure: Error) {
        let mut state = lock(&self.state);
        state.failure.get_or_insert(failure);
        self.lead.fetch_or(ATTENTION, Ordering::Relaxed);
        self.turns.iter().for_each(Condvar::notify_all);
    }

    /// Returns when no round is under way, and what lies behind the gate has been dealt with so.
    pub(crate) fn rest(&self, deal: impl FnOnce(&mut L)) {
        let mut state = lock(&self.state);
        while self.lead.fetch_or(LED | ATTENTION, Ordering::Acquire) & LED != 0 {
            let turn = state.round;
            state = self.sleep(state, turn);
        }
        drop(state);
        let reached = self.reached();
        let _ = Round::new(self).run(|leader| {
            deal(leader);
            Ok(reached)
        });
    }

    fn sleep<'a>(
        &self,
        mut state: crate::sync::MutexGuard<'a, State>,
        turn: usize,
    ) -> crate::sync::MutexGuard<'a, State> {
        if let (Some(condvar), Some(count)) = (self.turns.get(turn), state.waiting.get_mut(turn)) {
            *count += 1;
            state = wait(condvar, state);
            if let Some(count) = state.waiting.get_mut(turn) {
                *count -= 1;
            }
        }
        state
    }
}

/// A round under way; ends as failed if its leader panics.
pub(crate) struct Round<'a, L> {
    gate: &'a Gate<L>,
    entered: Entered,
}

impl<'a, L> Round<'a, L> {
    /// Of who has just set `LED`, which it had not been.
    fn new(gate: &'a Gate<L>) -> Self {
        Self { gate, entered: gate.leader.enter() }
    }

    /// What lies behind the gate.
    pub(crate) fn leader(&mut self) -> &mut L {
        // SAFETY: this round is the only one until it ends, which it does when it is dropped, and `&mut self` keeps its own
        // references apart.
        unsafe { &mut *self.gate.leader.get() }
    }

    /// Does the work of the round, and ends it: see [`Gate::reach`].
    pub(crate) fn run(mut self, work: impl FnOnce(&mut L) -> Result<u64>) -> Result<()> {
        let result = work(self.leader());
        let outcome = self.finish(result);
        std::mem::forget(self);
        outcome
    }

    fn finish(&mut self, result: Result<u64>) -> Result<()> {
        self.entered.leave();
        let gate = self.gate;
        if let Ok(reached) = &result {
            gate.reached.store(*reached, Ordering::Release);
            let given =
                gate.lead.compare_exchange(LED, 0, Ordering::Release, Ordering::Relaxed).is_ok();
            if given {
                return Ok(());
            }
        }
        let mut state = lock(&gate.state);
        state.covered = None;
        let covered = state.round;
        state.round ^= 1;
        let outcome = match result {
            Ok(_) => Ok(()),
            Err(failure) => Err(state.failure.get_or_insert(failure).clone()),
        };
        let all = outcome.is_err();
        let attention = state.failure.is_some() || state.waiting != [0, 0];
        gate.lead.store(if attention { ATTENTION } else { 0 }, Ordering::Release);
        let waiting = state.waiting;
        // They need it to go on.
        drop(state);
        // First who leads next: behind those that were covered it would wait for a processor, and the disk for it.
        for turn in [covered ^ 1, covered] {
            let waiting = waiting.get(turn).copied().unwrap_or(0);
            let Some(condvar) = gate.turns.get(turn).filter(|_| waiting > 0) else { continue };
            if turn == covered || all {
                condvar.notify_all();
            } else {
                condvar.notify_one();
            }
        }
        outcome
    }
}

impl<L> Drop for Round<'_, L> {
    fn drop(&mut self) {
        let failure = Error::new(crate::error::ErrorKind::Panic, "a commit panicked");
        let _ = self.finish(Err(failure));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::error::ErrorKind;
    use crate::stress::rounds;

    #[test]
    fn whoever_comes_alone_leads() {
        let gate = Gate::new(0, Patience::NONE, ());
        gate.reach(5, |_| Ok(7)).unwrap();
        assert_eq!(gate.reached(), 7);
        gate.reach(7, |_| unreachable!("the mark is there")).unwrap();
    }

    #[test]
    fn a_failure_is_for_good_and_for_all() {
        let gate = Gate::new(0, Patience::NONE, ());
        let failure = Error::new(ErrorKind::Poisoned, "the disk is gone");
        assert!(gate.reach(5, |_| Err(failure)).is_err());
        let error = gate.reach(5, |_| Ok(9)).unwrap_err();
        assert_eq!(error.to_string(), "the disk is gone");
    }

    #[test]
    fn a_panic_fails_the_gate_instead_of_hanging_it() {
        let gate = Gate::new(0, Patience::NONE, ());
        let lead = std::panic::AssertUnwindSafe(|| gate.reach(5, |_| panic!("a bug")));
        assert!(std::panic::catch_unwind(lead).is_err());
        assert_eq!(gate.reach(5, |_| Ok(9)).unwrap_err().kind(), ErrorKind::Panic);
    }

    /// Whoever slept until a round was over, and woke only after the gate had been failed too, as by a close right after
    /// the last sync, was told of the failure: `CLOSED`, which means "not enqueued", though it was.
    #[test]
    fn what_was_reached_before_a_failure_was_reached() {
        let gate = Gate::new(0, Patience::NONE, ());
        gate.reach(5, |_| Ok(5)).unwrap();
        gate.fail(Error::closed());
        assert!(gate.wait_to_lead(5).unwrap().is_none(), "as who is woken after both looks again");
        assert_eq!(gate.wait_to_lead(6).err().unwrap().kind(), ErrorKind::Closed);
    }

    #[test]
    fn stress_many_share_a_round() {
        let gate = Gate::new(0, Patience::NONE, ());
        let tail = AtomicU64::new(0);
        let (led, each) = (AtomicUsize::new(0), rounds(600));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..each {
                        let target = tail.fetch_add(1, Ordering::SeqCst) + 1;
                        gate.reach(target, |()| {
                            led.fetch_add(1, Ordering::SeqCst);
                            let covered = tail.load(Ordering::SeqCst);
                            gate.cover(covered);
                            std::thread::sleep(std::time::Duration::from_micros(50));
                            Ok(covered)
                        })
                        .unwrap();
                        assert!(gate.reached() >= target);
                    }
                });
            }
        });
        assert_eq!(gate.reached(), u64::from(16 * each));
        assert!(led.load(Ordering::SeqCst) < 16 * each as usize);
    }
}

/// "No arrival is left asleep, and none returns before its position is reached": three callers, every interleaving. One
/// of them covers a known part when it leads, the others whatever there is.
#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::sync::Arc;

    #[test]
    fn loom_group_commit_hands_over() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let gate = Arc::new(Gate::new(0, Patience::NONE, ()));
            let tail = Arc::new(AtomicU64::new(0));
            let call = |gate: Arc<Gate<()>>, tail: Arc<AtomicU64>, covers: bool| {
                let target = tail.fetch_add(1, Ordering::SeqCst) + 1;
                gate.reach(target, |()| {
                    let covered = tail.load(Ordering::SeqCst);
                    if covers {
                        gate.cover(covered);
                    }
                    Ok(covered)
                })
                .unwrap();
                assert!(gate.reached() >= target);
            };
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (gate, tail) = (Arc::clone(&gate), Arc::clone(&tail));
                    thread::spawn(move || call(gate, tail, false))
                })
                .collect();
            call(Arc::clone(&gate), Arc::clone(&tail), true);
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(gate.reached(), 3);
        });
    }

    /// Who fails the gate and then waits for it to rest finds nobody at work, and nobody begins; those who wait hear of the
    /// failure, or were in time.
    #[test]
    fn loom_a_gate_that_has_failed_comes_to_rest() {
        crate::sync::explore(3, || {
            let gate = Arc::new(Gate::new(0, Patience::NONE, ()));
            // At work, and whether that is over.
            let work = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
            let others = [1, 2].map(|target| {
                let (gate, work) = (Arc::clone(&gate), Arc::clone(&work));
                thread::spawn(move || {
                    let reached = gate.reach(target, |()| {
                        work.0.fetch_add(1, Ordering::SeqCst);
                        gate.cover(target);
                        assert_eq!(work.1.load(Ordering::SeqCst), 0, "it was at rest");
                        work.0.fetch_sub(1, Ordering::SeqCst);
                        Ok(target)
                    });
                    assert!(reached.is_err() || gate.reached() >= target);
                })
            });
            gate.fail(Error::closed());
            gate.rest(|()| ());
            assert_eq!(work.0.load(Ordering::SeqCst), 0, "somebody is at work");
            work.1.store(1, Ordering::SeqCst);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }
}
