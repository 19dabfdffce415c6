//! What opening a broker found.

use std::time::Duration;

/// The recovery report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Live messages.
    pub messages: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Messages that were being handled when the process died; they run one at a time from now on.
    pub suspects: u64,
    /// Records that were replayed.
    pub records: u64,
    /// Bytes at the end of the log that were never promised to anybody, and are gone.
    pub dropped_bytes: u64,
    /// Where the snapshot begins that the log was replayed on, if there was one.
    pub snapshot: Option<u64>,
    /// How long it took.
    pub duration: Duration,
}
