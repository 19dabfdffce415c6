//! Limits of this half.

use std::time::Duration;

/// Calls of one environment that have a thread of their own at once: `open`, `waitIdle`, `snapshot` and the like. Further
/// ones wait, but for those that others may be waiting for: `start`, `stop`, `close`, the registration of a handler.
pub(crate) const CALLS_MAX: usize = 256;
/// How long an environment that ends waits for such calls to see that.
pub(crate) const END_TIME_MAX: Duration = Duration::from_millis(250);
/// Deliveries that one look hands to the loop, and acks at once.
pub(crate) const TAKE_MAX: u32 = 256;
