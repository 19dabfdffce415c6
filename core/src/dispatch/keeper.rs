//! The keepers: threads for what is due, and for what is better done ahead of time.
//!
//! The timekeeper sleeps until the next message or flight is due. The keeper of the disk syncs what was written, makes
//! the next spare segment, and takes snapshots. Neither polls: each is rung when it has something to do sooner.
