//! Company: suspects run alone.
//!
//! A suspect is a message that the process died with. It is handed out only when nothing else is in flight in the whole
//! broker, and nothing else is handed out beside it; so if the process dies again, it is known which message did it.
//! Suspects are found at open and only there, so their number only falls, and once it is zero nothing here costs more
//! than one load. While there are some, what is in flight is counted.
//!
//! A suspect that could not run because of others is *awaited*: nothing more is handed out until they have ended. Then
//! whoever comes first goes on, so that a suspect which nobody asks for any more stops nobody.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// Who may be in flight beside whom.
#[derive(Debug, Default)]
pub(crate) struct Company {
    /// Live suspects. Sequentially consistent: read on its own, before the lock.
    suspects: AtomicU64,
    air: Mutex<Air>,
}

/// What is in flight while there are suspects.
#[derive(Debug, Default)]
struct Air {
    ordinary: u64,
    /// A suspect is in flight.
    alone: bool,
    /// A suspect waits for the ordinary ones to end.
    awaited: bool,
}

impl Air {
    fn admits(&self, suspect: bool) -> bool {
        !self.alone && if suspect { self.ordinary == 0 } else { !self.awaited }
    }
}

impl Company {
    /// One more suspect, found at open.
    pub(crate) fn suspect_found(&self) {
        self.suspects.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether such a message may be handed out now.
    pub(crate) fn admits(&self, suspect: bool) -> bool {
        self.is_unneeded() || lock(&self.air).admits(suspect)
    }

    /// Counts such a message as in flight, if it may be; each call that answers true is followed by [`Company::leave`].
    pub(crate) fn enter(&self, suspect: bool) -> bool {
        if self.is_unneeded() {
            return true;
        }
        let mut air = lock(&self.air);
        let admitted = air.admits(suspect);
        match (admitted, suspect) {
            (true, true) => (air.alone, air.awaited) = (true, false),
            (true, false) => air.ordinary += 1,
            (false, true) => air.awaited = !air.alone,
            (false, false) => {}
        }
        admitted
    }

    /// Such a message is in flight no more; answers whether others may have waited for that.
    pub(crate) fn leave(&self, suspect: bool) -> bool {
        if self.is_unneeded() {
            return false;
        }
        let mut air = lock(&self.air);
        if suspect {
            return std::mem::take(&mut air.alone);
        }
        air.ordinary = air.ordinary.saturating_sub(1);
        air.ordinary == 0 && std::mem::take(&mut air.awaited)
    }

    /// A suspect is gone, or was replaced by a message that is none; answers whether it was the last one.
    pub(crate) fn suspect_gone(&self) -> bool {
        self.suspects.fetch_sub(1, Ordering::SeqCst) == 1
    }

    fn is_unneeded(&self) -> bool {
        self.suspects.load(Ordering::SeqCst) == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::stress::rounds;

    #[test]
    fn a_suspect_is_alone_and_stops_others_only_while_it_may() {
        let company = Company::default();
        assert!(company.enter(false), "without suspects everything goes");
        let company = Company::default();
        company.suspect_found();
        company.suspect_found();
        assert!(company.enter(false) && company.enter(false));
        assert!(!company.enter(true));
        assert!(!company.enter(false), "one is awaited");
        assert!(!company.leave(false));
        assert!(company.leave(false), "who waits may go on");
        assert!(company.enter(true));
        assert!(!company.admits(false) && !company.admits(true));
        assert!(!company.enter(true) && !company.enter(false));
        assert!(company.leave(true));
        assert!(!company.suspect_gone());
        assert!(company.enter(false));
        assert!(!company.leave(false), "nobody waited");
        assert!(company.suspect_gone());
        assert!(company.enter(false) && company.admits(true));
    }

    #[test]
    fn stress_a_suspect_is_in_flight_beside_nobody() {
        let (company, air) = (Company::default(), AtomicU64::new(0));
        (0..=rounds(50_000)).for_each(|_| company.suspect_found());
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (company, air) = (&company, &air);
                scope.spawn(move || {
                    let suspect = number == 0;
                    for _ in 0..rounds(50_000) {
                        while !company.enter(suspect) {
                            std::thread::yield_now();
                        }
                        // A suspect counts for more than all others can come to.
                        let weight = if suspect { 10 } else { 1 };
                        let sum = air.fetch_add(weight, Ordering::SeqCst) + weight;
                        assert!(sum == 10 || sum < 10 && !suspect, "{sum}");
                        air.fetch_sub(weight, Ordering::SeqCst);
                        company.leave(suspect);
                        if suspect {
                            assert!(!company.suspect_gone());
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_suspect_that_nobody_asks_for_any_more_stops_nobody() {
        let company = Company::default();
        company.suspect_found();
        assert!(company.enter(false));
        assert!(!company.enter(true));
        assert!(company.leave(false));
        assert!(company.enter(false));
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::sync::{Arc, explore};

    /// A suspect is in flight beside nobody, also while it stops being one.
    #[test]
    fn loom_a_suspect_is_in_flight_beside_nobody() {
        explore(3, || {
            let (company, flying) = (Arc::new(Company::default()), Arc::new(AtomicU64::new(0)));
            company.suspect_found();
            company.suspect_found();
            let others = [true, false].map(|suspect| {
                let (company, flying) = (Arc::clone(&company), Arc::clone(&flying));
                thread::spawn(move || {
                    if company.enter(suspect) {
                        let beside = flying.fetch_add(1, Ordering::SeqCst);
                        assert!(beside == 0, "a suspect and another one");
                        flying.fetch_sub(1, Ordering::SeqCst);
                        company.leave(suspect);
                        if suspect {
                            company.suspect_gone();
                        }
                    }
                })
            });
            if company.enter(true) {
                assert_eq!(flying.fetch_add(1, Ordering::SeqCst), 0);
                flying.fetch_sub(1, Ordering::SeqCst);
                company.leave(true);
            }
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }
}
