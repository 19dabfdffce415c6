//! Reasons: why a message became a dead letter, where the engine says so. A handler that rejects one gives a reason of its own.

/// It failed as often as it may.
pub(crate) const MAX_RETRIES: &str = "max_retries";
/// The process died too often while it was handled.
pub(crate) const CRASHED: &str = "crashed";
/// It was not handled in time.
pub(crate) const EXPIRED: &str = "expired";
/// Its body does not decode.
pub(crate) const DECODE: &str = "decode";

/// A reason as it may be told: nothing of a handler's own.
pub(super) fn told(reason: &str) -> &str {
    match reason {
        MAX_RETRIES | CRASHED | EXPIRED | DECODE => reason,
        _ => "rejected",
    }
}
