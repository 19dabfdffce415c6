//! Leases: until when a message is held, and whether its attempt was cancelled.
//!
//! A lease only knows what to tell whoever holds the message. Whether a settle or the lease's end comes first is decided
//! in the message's slot, under the lease's number.

use std::time::{Duration, Instant};

use crate::clock::Moment;
use crate::sync::{Bell, Mutex, lock};

/// Why an attempt was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// It ran longer than its handler's timeout.
    Timeout,
    /// The broker is stopping.
    Shutdown,
    /// The message was cancelled.
    Cancelled,
    /// The lease ran out.
    LeaseLost,
}

impl CancelReason {
    /// The name used in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
            Self::Cancelled => "cancelled",
            Self::LeaseLost => "lease_lost",
        }
    }
}

/// The time for which a message is held.
#[derive(Debug)]
pub(crate) struct Lease {
    term: Mutex<Term>,
    cancelled: Bell,
}

/// What is known of a lease at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) deadline: Moment,
    pub(crate) reason: Option<CancelReason>,
    /// When the lease is lost, once the attempt was cancelled.
    grace_ends: Option<Moment>,
    /// It is being taken away, and cannot be extended any more.
    expired: bool,
    /// Its end is decided, and has only to find room on the disk.
    concluded: bool,
    over: bool,
    /// Its handler's code is running.
    running: bool,
    /// Its handler's code ran on after the lease was taken away.
    overrun: bool,
}

impl Term {
    /// When something is due next; none once it is over.
    pub(crate) fn due(&self) -> Option<Moment> {
        (!self.over && !self.concluded).then(|| self.grace_ends.unwrap_or(self.deadline))
    }

    fn is_held(&self) -> bool {
        !self.over && !self.expired
    }
}

impl Lease {
    /// `running` where a handler's code is about to run.
    pub(crate) fn until(deadline: Moment, running: bool) -> Self {
        let term = Term {
            deadline,
            reason: None,
            grace_ends: None,
            expired: false,
            concluded: false,
            over: false,
            running,
            overrun: false,
        };
        Self { term: Mutex::new(term), cancelled: Bell::new() }
    }

    pub(crate) fn term(&self) -> Term {
        *lock(&self.term)
    }

    /// Whether it is not lost, and not being taken away.
    pub(crate) fn is_held(&self) -> bool {
        self.term().is_held()
    }

    /// Whether the message is held no more.
    pub(crate) fn is_over(&self) -> bool {
        self.term().over
    }

    /// Moves the deadline out, if that is later; false once the lease is lost, or is to be lost because the broker stops.
    /// What was cancelled stays so, and is held until then as well.
    pub(crate) fn extend(&self, deadline: Moment) -> bool {
        let mut term = lock(&self.term);
        let may = term.is_held() && term.reason != Some(CancelReason::Shutdown);
        if may {
            term.deadline = term.deadline.max(deadline);
            term.grace_ends = term.grace_ends.map(|ends| ends.max(deadline));
        }
        may
    }

    /// Its time begins only now; false once it is lost. What was cancelled has no more time for that.
    pub(crate) fn renew(&self, deadline: Moment) -> bool {
        let mut term = lock(&self.term);
        let is_held = term.is_held();
        if is_held && term.reason.is_none() {
            term.deadline = term.deadline.max(deadline);
        }
        is_held
    }

    /// Cancels the attempt, if it was not cancelled before; answers whether this did it.
    pub(crate) fn cancel(&self, reason: CancelReason, grace_ends: Moment) -> bool {
        self.cancel_if(reason, grace_ends, |_| true)
    }

    /// Cancels the attempt if its deadline has passed.
    pub(crate) fn time_out(&self, now: Moment, grace_ends: Moment) -> bool {
        self.cancel_if(CancelReason::Timeout, grace_ends, |term| term.deadline <= now)
    }

    /// Ends the time in which it can be extended, if something is due.
    pub(crate) fn expire(&self, now: Moment) -> bool {
        let mut term = lock(&self.term);
        let due = term.due().is_some_and(|due| due <= now);
        term.expired |= due;
        due
    }

    /// Could not be taken away now: tried again then.
    pub(crate) fn postpone(&self, moment: Moment) {
        lock(&self.term).grace_ends = Some(moment);
    }

    /// Its end is decided, and has only to find room on the disk: from now on nothing is due, and nothing is cancelled.
    pub(crate) fn conclude(&self) {
        lock(&self.term).concluded = true;
    }

    /// Notes that the message is held no more; whoever still sleeps in it wakes.
    pub(crate) fn end(&self) {
        lock(&self.term).over = true;
        self.cancelled.ring();
    }

    /// Notes that the message was taken away; answers whether its handler's code runs on. If so, `count` is called before
    /// anybody can hear of it, and before that code can have ended.
    pub(crate) fn lose(&self, count: impl FnOnce()) -> bool {
        let mut term = lock(&self.term);
        term.over = true;
        term.reason = Some(CancelReason::LeaseLost);
        term.overrun = term.running;
        if term.overrun {
            count();
        }
        self.cancelled.ring();
        term.overrun
    }

    /// Its handler's code has ended; answers whether it was noted to run on after the lease was taken away.
    pub(crate) fn leave(&self) -> bool {
        let mut term = lock(&self.term);
        term.running = false;
        term.overrun
    }

    /// Sleeps until cancelled or over, at most for `time`; answers whether it is cancelled.
    pub(crate) fn wait_cancelled(&self, time: Duration) -> bool {
        let end = Instant::now().checked_add(time);
        let mut term = lock(&self.term);
        while term.reason.is_none() && !term.over {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            term = self.cancelled.wait(term, left);
        }
        term.reason.is_some()
    }

    fn cancel_if(
        &self,
        reason: CancelReason,
        grace_ends: Moment,
        wanted: impl FnOnce(&Term) -> bool,
    ) -> bool {
        let mut term = lock(&self.term);
        let cancels = !term.over && !term.concluded && term.reason.is_none() && wanted(&term);
        if cancels {
            term.reason = Some(reason);
            term.grace_ends = Some(grace_ends);
            self.cancelled.ring();
        }
        cancels
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::stress::rounds;

    fn at(us: u64) -> Moment {
        Moment(us)
    }

    #[test]
    fn a_lease_is_extended_until_it_expires() {
        let lease = Lease::until(at(10), false);
        assert!(lease.extend(at(20)));
        assert!(lease.extend(at(15)), "never moved back");
        assert_eq!(lease.term().due(), Some(at(20)));
        assert!(!lease.expire(at(19)));
        assert!(lease.expire(at(20)));
        assert!(!lease.extend(at(30)));
    }

    #[test]
    fn a_lease_begins_anew_unless_it_was_cancelled_or_is_lost() {
        let lease = Lease::until(at(10), true);
        assert!(lease.renew(at(20)) && lease.term().due() == Some(at(20)));
        assert!(lease.renew(at(15)) && lease.term().due() == Some(at(20)), "never moved back");
        assert!(lease.cancel(CancelReason::Shutdown, at(25)));
        assert!(lease.renew(at(30)) && lease.term().due() == Some(at(25)));
        assert_eq!(lease.term().deadline, at(20), "cancelled, it has no time of its own any more");
        assert!(lease.expire(at(25)) && !lease.renew(at(40)));
    }

    #[test]
    fn nothing_is_due_where_the_end_is_decided_or_over() {
        let lease = Lease::until(at(10), false);
        lease.postpone(at(30));
        assert_eq!(lease.term().due(), Some(at(30)), "it could not be taken away");
        lease.conclude();
        assert_eq!(lease.term().due(), None);
        assert!(!lease.expire(at(99)) && !lease.cancel(CancelReason::Timeout, at(99)));
        let lease = Lease::until(at(10), false);
        assert!(lease.is_held() && !lease.is_over());
        lease.end();
        assert_eq!(lease.term().due(), None);
        assert!(!lease.is_held() && lease.is_over());
    }

    #[test]
    fn the_reasons_have_the_names_of_every_language() {
        let reasons = [
            CancelReason::Timeout,
            CancelReason::Shutdown,
            CancelReason::Cancelled,
            CancelReason::LeaseLost,
        ];
        let names = reasons.map(CancelReason::name);
        assert_eq!(names, ["timeout", "shutdown", "cancelled", "lease_lost"]);
    }

    #[test]
    fn a_cancellation_comes_once_and_starts_the_grace() {
        let lease = Lease::until(at(10), false);
        assert!(!lease.time_out(at(9), at(14)), "not due");
        assert!(lease.time_out(at(10), at(15)));
        assert!(!lease.cancel(CancelReason::Shutdown, at(99)));
        assert_eq!(lease.term().reason, Some(CancelReason::Timeout));
        assert_eq!(lease.term().due(), Some(at(15)));
    }

    /// An extension in the grace was answered as if it had been given, and the lease was lost at the end of the grace.
    #[test]
    fn what_was_cancelled_is_extended_unless_the_broker_stops() {
        let lease = Lease::until(at(10), false);
        assert!(lease.time_out(at(10), at(15)));
        assert!(lease.extend(at(30)));
        let term = lease.term();
        assert_eq!(
            (term.deadline, term.due(), term.reason),
            (at(30), Some(at(30)), Some(CancelReason::Timeout))
        );
        assert!(lease.extend(at(20)) && lease.term().due() == Some(at(30)), "never moved back");
        assert!(lease.expire(at(30)) && !lease.extend(at(40)));
        let lease = Lease::until(at(10), false);
        assert!(lease.cancel(CancelReason::Shutdown, at(15)));
        assert!(!lease.extend(at(30)));
        assert_eq!((lease.term().deadline, lease.term().due()), (at(10), Some(at(15))));
        assert!(lease.is_held(), "until the grace is over");
    }

    #[test]
    fn who_sleeps_in_a_lease_wakes_when_it_is_cancelled_or_over() {
        let lost = |lease: &Lease| _ = lease.lose(|| ());
        let cancelled = |lease: &Lease| _ = lease.cancel(CancelReason::Cancelled, at(20));
        // Who slept in one that was settled slept on.
        let settled = |lease: &Lease| lease.end();
        let ends = [(&lost as &dyn Fn(&Lease), true), (&cancelled, true), (&settled, false)];
        for (end, is_cancelled) in ends {
            let lease = Lease::until(at(10), false);
            let began = Instant::now();
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| lease.wait_cancelled(Duration::from_secs(20)));
                end(&lease);
                assert_eq!(sleeper.join().unwrap(), is_cancelled);
            });
            assert!(began.elapsed() < Duration::from_secs(20));
        }
        assert!(!Lease::until(at(10), false).wait_cancelled(Duration::ZERO));
    }

    #[test]
    fn stress_a_handler_runs_on_for_both_or_for_neither() {
        for _ in 0..rounds(1_000) {
            let lease = Lease::until(at(10), true);
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| lease.wait_cancelled(Duration::from_secs(60)));
                let handler = scope.spawn(|| lease.leave());
                let mut counted = false;
                let runs_on = lease.lose(|| counted = true);
                assert_eq!((handler.join().unwrap(), counted), (runs_on, runs_on));
                assert!(sleeper.join().unwrap());
            });
        }
    }

    #[test]
    fn a_handler_that_runs_on_is_noticed_from_both_sides() {
        let lease = Lease::until(at(10), true);
        assert!(lease.expire(at(10)));
        assert!(lease.lose(|| ()));
        assert!(lease.leave());
        let lease = Lease::until(at(10), true);
        assert!(!lease.leave());
        assert!(!lease.lose(|| ()), "it has left already");
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::sync::atomic::{AtomicU32, Ordering};
    use crate::sync::{Arc, explore};

    /// A handler that returns while its lease is taken away is noted to run on by both or by neither, and counted before
    /// anybody can hear of it. Who sleeps in the lease wakes.
    #[test]
    fn loom_a_handler_runs_on_for_both_or_for_neither() {
        explore(3, || {
            let lease = Arc::new(Lease::until(Moment(10), true));
            let counted = Arc::new(AtomicU32::new(0));
            let handler = {
                let (lease, counted) = (Arc::clone(&lease), Arc::clone(&counted));
                thread::spawn(move || {
                    let overran = lease.leave();
                    assert!(!overran || counted.load(Ordering::Relaxed) == 1);
                    overran
                })
            };
            let sleeper = {
                let lease = Arc::clone(&lease);
                thread::spawn(move || lease.wait_cancelled(Duration::from_secs(3600)))
            };
            let runs_on = lease.lose(|| _ = counted.fetch_add(1, Ordering::Relaxed));
            assert_eq!(handler.join().unwrap(), runs_on);
            assert_eq!(counted.load(Ordering::Relaxed), u32::from(runs_on));
            assert!(sleeper.join().unwrap());
        });
    }

    /// A lease is extended or expires, and whoever extended it in time has it until then.
    #[test]
    fn loom_a_lease_is_extended_or_expires() {
        explore(3, || {
            let lease = Arc::new(Lease::until(Moment(10), false));
            let other = {
                let lease = Arc::clone(&lease);
                thread::spawn(move || lease.extend(Moment(20)))
            };
            let expired = lease.expire(Moment(10));
            assert!(other.join().unwrap() != expired, "one of the two");
            assert_eq!(lease.is_held(), !expired);
        });
    }
}
