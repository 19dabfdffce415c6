//! Time: one never-back clock a broker, counted in microseconds since the epoch.
//!
//! Inside a run it follows the boot-time clock, so a step of the wall clock changes nothing and suspended time counts. A
//! moment of the calendar is as far away as the wall clock says when it is named.
//! Across runs it starts at the wall clock, but never before the last moment the journal has seen. A manual clock
//! starts there too and then moves by `advance` alone.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::storage::{boot_time, tick};

/// A moment, in microseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// This moment and `time` later; time without end where the sum has no number.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }

    /// As [`Moment::after`], and never before that: what is left of a microsecond counts as one.
    fn not_before(self, time: Duration) -> Self {
        self.after(time.saturating_add(Duration::from_nanos(999)))
    }

    /// This moment and `time` earlier; the epoch where that lies before it.
    fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this moment; none if it is the other way round.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn to_system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.0)
    }

    /// The moment of a wall clock's time; what lies before the epoch is the epoch.
    pub(crate) fn from_system(time: SystemTime) -> Self {
        Self::default().after(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// What a broker's clock says, and the wall's right before that: told from the two, nothing is due too early, however long it took
/// to look at them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    wall: SystemTime,
    elapsed: Duration,
    /// The moment of the look, rounded down as ever: what is due by then is due at once.
    pub(crate) now: Moment,
}

/// Where time comes from.
pub(crate) trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock, read at open, and where somebody names a moment of the calendar.
    fn wall(&self) -> SystemTime;

    /// Whether the wall goes by this clock, too.
    fn is_wall(&self) -> bool {
        false
    }

    /// Time since some fixed point, never going back while the process lives.
    fn elapsed(&self) -> Duration;

    /// A count that moves every few milliseconds, and costs a fifth of a look at the clock.
    fn tick(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn elapsed(&self) -> Duration {
        boot_time()
    }

    fn tick(&self) -> u64 {
        tick()
    }
}

/// A clock that stands still until it is advanced.
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    elapsed_us: AtomicU64,
}

impl ManualClock {
    pub(crate) fn advance(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // Relaxed: who advances hands the new time on through the locks that the due work is found under.
        let _ = self
            .elapsed_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_add(us)));
    }
}

impl Clock for std::sync::Arc<ManualClock> {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us.load(Ordering::Relaxed))
    }

    fn is_wall(&self) -> bool {
        true
    }

    fn tick(&self) -> u64 {
        self.elapsed_us.load(Ordering::Relaxed)
    }
}

/// The broker's clock: a [`Clock`] set to a starting moment.
#[derive(Debug)]
pub(crate) struct BrokerClock {
    source: Box<dyn Clock>,
    start: Moment,
    elapsed_at_start: Duration,
    /// The last tick that somebody looked at the clock in, and the moment it was then. Stored one after the other, so
    /// that a tick is never seen with a moment before it; a later moment of the same tick is as good.
    tick: AtomicU64,
    moment: AtomicU64,
}

impl BrokerClock {
    /// Starts at the wall clock, or at `last_seen` where the wall clock is behind it.
    pub(crate) fn start(source: Box<dyn Clock>, last_seen: Moment) -> Self {
        let start = Moment::from_system(source.wall()).max(last_seen);
        Self::start_at(source, start)
    }

    /// Starts at exactly this moment: for a manual clock, which no wall clock moves.
    pub(crate) fn start_at(source: Box<dyn Clock>, start: Moment) -> Self {
        let elapsed_at_start = source.elapsed();
        let (tick, moment) = (AtomicU64::new(u64::MAX), AtomicU64::new(start.0));
        Self { source, start, elapsed_at_start, tick, moment }
    }

    pub(crate) fn now(&self) -> Moment {
        self.start.after(self.elapsed())
    }

    /// A look at both clocks.
    pub(crate) fn look(&self) -> Look {
        let (wall, elapsed) = (self.source.wall(), self.elapsed());
        Look { wall, elapsed, now: self.start.after(elapsed) }
    }

    /// The moment that the wall clock calls so, as it goes at that look: it may have been set since the start.
    pub(crate) fn moment_of(&self, time: SystemTime, look: Look) -> Moment {
        if self.source.is_wall() {
            return Moment::from_system(time);
        }
        match time.duration_since(look.wall) {
            Ok(left) => self.start.not_before(look.elapsed.saturating_add(left)),
            Err(ago) => look.now.before(ago.duration()),
        }
    }

    fn elapsed(&self) -> Duration {
        self.source.elapsed().saturating_sub(self.elapsed_at_start)
    }

    /// A moment that is at most a few milliseconds ago, and cheap: for what is noted, not for what is due.
    pub(crate) fn recent(&self) -> Moment {
        let tick = self.source.tick();
        if self.tick.load(Ordering::Acquire) == tick {
            return Moment(self.moment.load(Ordering::Relaxed));
        }
        let now = self.now();
        self.moment.fetch_max(now.0, Ordering::Relaxed);
        self.tick.store(tick, Ordering::Release);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;

    /// A clock on a wall, which somebody sets.
    #[derive(Debug)]
    struct Wall(Arc<AtomicU64>);

    impl Clock for Wall {
        fn wall(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        fn tick(&self) -> u64 {
            0
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A message for half an hour later was handed out at once where the clock had been put back by an hour, and could not be
    /// enqueued where the machine had started in 1970.
    #[test]
    fn a_moment_of_the_calendar_is_as_far_away_as_the_wall_says_when_it_is_named() {
        let seconds = Arc::new(AtomicU64::new(10_000));
        let clock = BrokerClock::start(Box::new(Wall(Arc::clone(&seconds))), Moment::default());
        let start = clock.now();
        assert_eq!(clock.moment_of(at(10_030), clock.look()), start.after(Duration::from_secs(30)));
        for wall in [6_400, 13_600, 1_800_000_000] {
            seconds.store(wall, Ordering::Relaxed);
            assert_eq!(clock.now(), start);
            let look = clock.look();
            assert_eq!(clock.moment_of(at(wall + 30), look), start.after(Duration::from_secs(30)));
            assert_eq!(clock.moment_of(at(wall - 30), look), start.before(Duration::from_secs(30)));
        }
        assert_eq!(clock.moment_of(UNIX_EPOCH, clock.look()), Moment::default());
    }

    /// Clocks of one machine, on which each look takes some time.
    #[derive(Debug)]
    struct Slow(AtomicU64);

    impl Slow {
        fn pass(&self) -> Duration {
            Duration::from_nanos(self.0.fetch_add(10_300, Ordering::Relaxed))
        }
    }

    impl Clock for Slow {
        fn wall(&self) -> SystemTime {
            UNIX_EPOCH + self.pass()
        }

        fn elapsed(&self) -> Duration {
            self.pass()
        }

        fn tick(&self) -> u64 {
            0
        }
    }

    /// The broker's clock was looked at first, and a message was handed out early by as long as it took until the wall's was: by up
    /// to a tenth of a millisecond where the thread had lost its processor in between.
    #[test]
    fn nothing_is_due_too_early_however_long_a_look_takes() {
        let clock = BrokerClock::start_at(Box::new(Slow(AtomicU64::new(0))), Moment::default());
        for nanos in (0..5_000).step_by(100) {
            let time = UNIX_EPOCH + Duration::from_nanos(1_000_000_000 + nanos);
            let due = clock.moment_of(time, clock.look());
            assert!(due.to_system() >= time, "{due:?} for {time:?}");
            assert!(due.to_system() <= time + Duration::from_micros(13), "{due:?} for {time:?}");
        }
    }

    #[test]
    fn a_manual_clock_is_the_wall_as_well() {
        let manual = Arc::new(ManualClock::default());
        let clock = BrokerClock::start(Box::new(Arc::clone(&manual)), Moment::default());
        manual.advance(Duration::from_secs(3_600));
        let in_a_minute = clock.now().after(Duration::from_secs(60));
        assert_eq!(clock.moment_of(in_a_minute.to_system(), clock.look()), in_a_minute);
    }
}
