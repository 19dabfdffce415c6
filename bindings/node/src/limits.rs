//! Limits of this half.

use std::time::Duration;

/// Calls of one environment that have a thread of their own at once: `open`, `close`, `waitIdle` and the like.
pub(crate) const CALLS_MAX: usize = 256;
/// How long an environment that ends waits for such calls to see that.
pub(crate) const END_TIME_MAX: Duration = Duration::from_millis(250);
/// Events that wait for a log hook; further ones are counted and not told.
pub(crate) const EVENTS_MAX: usize = 1024;
/// Deliveries that one look hands to the loop, and acks at once.
pub(crate) const TAKE_MAX: u32 = 256;
