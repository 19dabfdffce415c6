//! Random numbers for salts, ids and jitter: unpredictable enough for those, and not meant for secrets.

use std::hash::{BuildHasher, RandomState};

/// A random number.
pub(crate) fn u64() -> u64 {
    // Each state is keyed by the operating system's randomness and a counter, so that no two hash alike.
    RandomState::new().hash_one(0_u8)
}

/// A random number of 32 bits.
pub(crate) fn u32() -> u32 {
    let [a, b, c, d, ..] = u64().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A random number in [0, 1).
pub(crate) fn unit() -> f64 {
    f64::from(u32()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_units_stay_below_one() {
        let drawn: std::collections::BTreeSet<u64> = (0..1000).map(|_| u64()).collect();
        assert_eq!(drawn.len(), 1000);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&unit())));
    }
}
