//! What a message that was answered survives, in the words of the report.

pub(super) const NOTHING: &str = "nothing";
pub(super) const KILL: &str = "a kill";
pub(super) const POWER: &str = "a power cut";
/// Of those that sync now and then. Redis answers what it has not written while it syncs in the background, for up to 2 s.
pub(super) const ALL_BUT_A_SECOND: &str = "a kill, power but 1 to 2 s";
pub(super) const ALL_BUT_50_MS: &str = "a kill, power but 50 ms";
pub(super) const ALL_BUT_2_MIN: &str = "a kill, power but 2 min";
pub(super) const ALL_BUT_250: &str = "a kill but 250 acks";
/// libmq at `os`: a handler's end is written after 64 of them, or 5 ms.
pub(super) const ALL_BUT_64: &str = "a kill but 64 ends, power but 50 ms";
/// A commit is synced, but not the end of its rollback journal.
pub(super) const ALL_BUT_ONE: &str = "power but the last";
