//! Numbers for messages, and the bodies that carry them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::random::Random;

/// Numbers that one start of a worker may give.
const NUMBERS: u64 = 1_000_000;

/// Gives every message a number that no other has, in this start or any other.
pub struct Numbers {
    seed: u64,
    next: AtomicU64,
}

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(1) }
    }

    /// `count` numbers in a row; answers the first.
    pub fn take(&self, count: u64) -> u64 {
        let next = self.next.fetch_add(count, Ordering::Relaxed);
        assert!(next + count <= NUMBERS, "a start has no more numbers to give");
        self.seed * NUMBERS + next
    }

    /// Choices for one thread, or for one attempt.
    pub fn random(&self, of: u64) -> Random {
        Random::new(self.seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(of))
    }
}

/// A body of about this many bytes.
pub fn body(number: u64, bytes: u64) -> Vec<u8> {
    let mut body = format!("{number} ").into_bytes();
    body.resize(body.len() + usize::try_from(bytes).unwrap(), b'.');
    body
}

/// The number that a body carries; none for the killer.
pub fn number(body: &[u8]) -> Option<u64> {
    let word = body.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Whether the message is to be acked at once.
pub fn is_innocent(body: &[u8]) -> bool {
    body.ends_with(b" innocent")
}
