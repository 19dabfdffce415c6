//! Waiting for what other threads do.

use std::time::{Duration, Instant};

/// Waits for what other threads do at once, and never for ever.
pub(crate) fn wait_until(done: impl Fn() -> bool) {
    assert!(comes(done), "it did not come");
}

/// As [`wait_until`]; answers whether it came.
pub(crate) fn comes(done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
    true
}
