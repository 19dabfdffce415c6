//! Patience: how whoever waits for something that comes soon looks for it, before it sleeps.
//!
//! A look is not free. Processors share memory by the line: to look at a mark takes its line away from who is about to move it, and
//! whoever finds what it has waited for takes all those lines, too, that the way of a message goes through. Between two
//! processors that lie far apart one line takes a third of a microsecond, longer than an enqueue in memory that nobody
//! disturbs. So there is a while before each look.

use std::time::{Duration, Instant};

use crate::sync::yield_now;

/// So long who works is left alone at most.
const LONG: Duration = Duration::from_micros(12);

/// When to look, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    looks: u32,
    /// The while before the first look. Each one after it is twice as long, up to the longest.
    first: Duration,
    longest: Duration,
    /// Whoever runs on this processor may be the one that is waited for, so each while begins with leaving it to others. They may be
    /// other programs, and keep it for milliseconds.
    gives_way: bool,
}

impl Patience {
    /// Of who sleeps at once: a sync takes far longer than to be woken.
    pub(crate) const NONE: Self = Self::new(0, Duration::ZERO, Duration::ZERO);
    /// Of who waits for others to write to a file, which takes about a microsecond, or to show what is there. Soon over, and then
    /// one write is for all who came meanwhile.
    pub(crate) const OF_A_WRITE: Self = Self::new(8, Duration::from_nanos(800), LONG).giving_way();
    /// The same where a write is a copy in memory. There is nothing to be had by writing together: who writes is better left alone
    /// for as many messages as it has.
    pub(crate) const OF_A_COPY: Self = Self::new(4, LONG, LONG).giving_way();
    /// Of who waits for a message, and is woken for one that comes later. It does not give way: as long as another program has the
    /// processor it would count as awake, and nobody would wake it. So it does not stay for long either.
    pub(crate) const OF_A_MESSAGE: Self =
        Self::new(4, Duration::from_nanos(200), Duration::from_nanos(800));
    /// A model checks every value that each look may see, and one look shows all of them.
    const fn new(looks: u32, first: Duration, longest: Duration) -> Self {
        let looks = if cfg!(loom) && looks > 0 { 1 } else { looks };
        Self { looks, first, longest, gives_way: false }
    }

    const fn giving_way(self) -> Self {
        Self { gives_way: true, ..self }
    }

    /// Lets a while pass before each look in turn, and looks then; answers whether one of them has found what it was for.
    pub(crate) fn finds(self, mut look: impl FnMut() -> bool) -> bool {
        let mut pause = self.first;
        for _ in 0..self.looks {
            let began = Instant::now();
            if self.gives_way || cfg!(loom) {
                yield_now();
            }
            while !cfg!(loom) && began.elapsed() < pause {
                std::hint::spin_loop();
            }
            if look() {
                return true;
            }
            pause = self.longest.min(pause * 2);
        }
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A worker gave way once, as who waits for a write does. Beside two programs that never rest a message came to its handler after
    /// a millisecond then.
    #[test]
    fn who_has_patience_looks_so_often_and_not_before_its_time() {
        for (patience, looks, time, gives_way) in [
            (Patience::NONE, 0, 0.0, false),
            (Patience::OF_A_WRITE, 8, 0.8 + 1.6 + 3.2 + 6.4 + 4.0 * 12.0, true),
            (Patience::OF_A_COPY, 4, 4.0 * 12.0, true),
            (Patience::OF_A_MESSAGE, 4, 0.2 + 0.4 + 0.8 + 0.8, false),
        ] {
            assert_eq!(patience.gives_way, gives_way, "{patience:?}");
            let (began, mut looked) = (Instant::now(), 0);
            let found = patience.finds(|| {
                looked += 1;
                false
            });
            assert!(!found && looked == looks, "{patience:?} looks {looked} times");
            assert!(began.elapsed().as_secs_f64() * 1e6 >= time, "{patience:?}");
        }
    }

    #[test]
    fn who_has_found_it_looks_no_more() {
        let mut looked = 0;
        let found = Patience::OF_A_WRITE.finds(|| {
            looked += 1;
            looked == 3
        });
        assert!(found);
        assert_eq!(looked, 3);
    }
}
