//! Fencing tokens: larger for every later lease, and never given twice.
//!
//! An opening begins beyond every token that was given before it, and at the wall clock at least: so they grow also where
//! the directory was replaced by an old copy, which knows nothing of what was given since. Tokens are reserved by blocks.
//! The first block is as durable as the opening's first segment; a record reserves each further one, long before it is
//! needed.

use std::time::SystemTime;

use crate::clock::Moment;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{CachePadded, Mutex};

/// Tokens that are reserved at once. Half of that is more than there are threads which may have looked and not yet leased.
const BLOCK: u64 = 1 << 20;

/// Bits of a token below a microsecond of the clock: as many blocks a second may be used up, by leases or by openings, before
/// the clock falls behind.
const CLOCK_SHIFT: u32 = 8;

/// A wall clock is believed up to here, which is hundreds of years away: one that is wrong for once uses up no more.
const CLOCK_MAX: u64 = 1 << 61;

/// None of before an opening is larger, so that there are tokens left for it, and sums have no overflow.
const TOKEN_MAX: u64 = (1 << 62) - (1 << 40);

/// Whether an opening may begin with this token, or such be reserved. A checksum is no secret, and what follows counts with
/// these numbers.
pub(crate) fn is_possible(token: u64) -> bool {
    token <= TOKEN_MAX
}

/// The first token of the next opening, by the first of the last one and by what was reserved. It numbers the opening, too.
pub(crate) fn next_opening(last: u64, reserved: u64, wall: SystemTime) -> u64 {
    let clock = Moment::from_system(wall).0.saturating_mul(1 << CLOCK_SHIFT).min(CLOCK_MAX);
    let after_last = if last == 0 { 1 } else { end_of_first_block(last) };
    after_last.max(reserved).max(clock)
}

/// Where the tokens end that an opening need not reserve.
pub(crate) fn end_of_first_block(opening: u64) -> u64 {
    opening.saturating_add(BLOCK)
}

/// The tokens of one opening.
#[derive(Debug)]
pub(crate) struct Tokens {
    opening: u64,
    leases: CachePadded<AtomicU64>,
    /// The end of what is reserved. Relaxed: it only grows, and who sees it too small reserves once more.
    end: AtomicU64,
    /// Held by who reserves.
    pub(super) reserving: Mutex<()>,
}

impl Tokens {
    pub(crate) fn new(opening: u64) -> Self {
        Self {
            opening,
            leases: CachePadded::new(AtomicU64::new(1)),
            end: AtomicU64::new(end_of_first_block(opening)),
            reserving: Mutex::new(()),
        }
    }

    /// The number of one more lease, and its token.
    pub(crate) fn next(&self) -> (u64, u64) {
        let lease = self.leases.fetch_add(1, Ordering::Relaxed);
        (lease, self.opening + lease)
    }

    /// Whether it is time to reserve.
    pub(crate) fn run_low(&self) -> bool {
        let next = self.opening + self.leases.load(Ordering::Relaxed);
        next + BLOCK / 2 > self.end()
    }

    /// The end of what is reserved.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// The end of what is reserved with one more block.
    pub(crate) fn next_end(&self) -> u64 {
        self.end() + BLOCK
    }

    /// Everything below is reserved, durably.
    pub(crate) fn reserved(&self, end: u64) {
        self.end.fetch_max(end, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Broker, Message, Options};

    /// Tokens began with a count of openings in 24 bits: after 16,777,216 of them they began anew, and no mark was believed
    /// any more, so that who kills the process was never found.
    #[test]
    fn an_opening_begins_beyond_all_that_was_given() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(next_opening(0, 0, epoch), 1);
        assert_eq!(next_opening(1, 0, epoch), 1 + BLOCK);
        assert_eq!(next_opening(1, 5 * BLOCK, epoch), 5 * BLOCK);
        let mut last = next_opening(0, 0, epoch);
        for _ in 0..1 << 25 {
            let next = next_opening(last, 0, epoch);
            assert!(next >= last + BLOCK);
            last = next;
        }
        assert!(last < CLOCK_MAX);
    }

    /// As many as may be asked for behind the largest, before what stores them says no.
    #[test]
    fn behind_the_largest_there_are_tokens_left() {
        assert!(is_possible(0) && is_possible(CLOCK_MAX));
        assert!(is_possible(TOKEN_MAX) && !is_possible(TOKEN_MAX + 1) && !is_possible(u64::MAX));
        assert_eq!((1 << 62) - TOKEN_MAX, BLOCK << 20);
    }

    #[test]
    fn a_clock_that_goes_on_takes_tokens_along_and_a_wrong_one_ends_nothing() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let now = 1_800_000_000;
        let first = next_opening(0, 0, at(now));
        // What an old copy knows is the first opening alone.
        let before_copy = next_opening(first, 0, at(now + 1));
        assert!(next_opening(first, 0, at(now + 2)) > before_copy + 100 * BLOCK);
        let far = next_opening(0, 0, at(u32::MAX.into()) + Duration::from_secs(1 << 40));
        assert_eq!(far, CLOCK_MAX);
        assert_eq!(next_opening(far, 0, at(now)), far + BLOCK);
    }

    #[test]
    fn a_block_is_reserved_while_half_of_the_last_one_is_left() {
        let tokens = Tokens::new(7);
        assert_eq!(tokens.next(), (1, 8));
        tokens.leases.store(BLOCK / 2, Ordering::Relaxed);
        assert!(!tokens.run_low());
        tokens.next();
        assert!(tokens.run_low());
        tokens.reserved(tokens.next_end());
        assert!(!tokens.run_low() && tokens.end() == 7 + 2 * BLOCK);
    }

    /// What is reserved behind the first block is known to the log alone, and then to a snapshot alone.
    #[test]
    fn tokens_grow_over_openings_whatever_was_reserved() {
        let far = Duration::from_secs(3600);
        for snapshot in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let options = Options::new().segment_bytes(64 << 10).snapshot_interval(far);
            let broker = Broker::open(dir.path(), options.clone()).unwrap();
            broker.enqueue(Message::new("jobs", "one")).unwrap();
            let aside = broker.receive("jobs", None, None).unwrap().unwrap();
            let tokens = &aside.shared.engine.buffer.tokens;
            // As many as no clock comes to.
            tokens.leases.store(CLOCK_MAX, Ordering::Relaxed);
            tokens.reserved(tokens.opening + CLOCK_MAX);
            broker.enqueue(Message::new("jobs", "two")).unwrap();
            let last = broker.receive("jobs", None, None).unwrap().unwrap();
            assert!(last.token() >= CLOCK_MAX);
            if snapshot {
                for _ in 0..2 {
                    // The segment with the record goes.
                    broker.enqueue(Message::new("jobs", vec![7; 60_000])).unwrap();
                    broker.receive("jobs", None, None).unwrap().unwrap().ack().unwrap();
                    broker.snapshot().unwrap();
                }
            }
            let last = last.token();
            drop(aside);
            broker.close(far).unwrap();
            let broker = Broker::open(dir.path(), options).unwrap();
            let next = broker.receive("jobs", None, None).unwrap().unwrap().token();
            assert!(next > last, "{next} after {last}, snapshot: {snapshot}");
        }
    }
}
