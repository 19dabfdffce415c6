//! Ends that the disk had no room for.
//!
//! What a handler has answered is not forgotten because its record finds no room, and its message does not run again. It
//! stays held, with its permit and without a timeout, and its end is kept here. The keeper of the disk tries it again
//! every second.

use std::collections::VecDeque;
use std::fmt;

use crate::error::Result;
use crate::sync::{Mutex, lock};

/// Ends a delivery; answers what has still to be written. Called again as long as nothing
/// could be logged.
pub(crate) type End = Box<dyn Fn() -> Result<u64> + Send>;

/// The ends that are owed, oldest first.
#[derive(Default)]
pub(crate) struct Owed {
    ends: Mutex<VecDeque<End>>,
}

impl Owed {
    pub(super) fn add(&self, end: End) {
        lock(&self.ends).push_back(end);
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.ends).is_empty()
    }

    /// Tries them again while there is room; answers whether something came of that, which is to be written.
    pub(super) fn settle(&self) -> bool {
        let mut has_ended = false;
        loop {
            // Not under the lock: an end wakes others, and a delivery that is let go of may owe its own.
            let next = lock(&self.ends).pop_front();
            let Some(end) = next else { return has_ended };
            match end() {
                Ok(_) => has_ended = true,
                Err(error) if error.has_logged_nothing() => {
                    lock(&self.ends).push_front(end);
                    return has_ended;
                }
                // It was settled by somebody else, or the broker is beyond use: there is nobody to tell.
                Err(_) => {}
            }
        }
    }

    /// Forgets them: the broker is closed.
    pub(super) fn clear(&self) {
        let ends = std::mem::take(&mut *lock(&self.ends));
        drop(ends);
    }
}

impl fmt::Debug for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owed({} ends)", lock(&self.ends).len())
    }
}
