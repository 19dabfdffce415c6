//! Ids: the slots of messages, for those who only know an id.
//!
//! Nearly no broker is ever asked, so the index is made when it first is, and kept from then on.
//!
//! Ordering: whoever brings a message claims its slot first, fills it under its guard, and looks last whether there is an
//! index. Whoever makes the index says so first, and then visits all claimed slots under their guards. So for each slot
//! either the visit comes later and finds the message, or it comes first, or the slot was claimed after the visitor had
//! counted them; and then the guard, or the count, hands on what the visitor had said.

use std::collections::HashMap;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

/// An index of the live messages by id.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Relaxed: ordered by guards and by the count of slots, see above.
    kept: AtomicBool,
    /// Locked last, under a slot's guard, and locks nothing itself.
    slots: Mutex<HashMap<u64, u32>>,
    /// Whether everything has been visited.
    complete: Mutex<bool>,
}

impl Ids {
    /// The slot of a message, by the time of the answer perhaps not any more. `visit` has every message inserted.
    pub(crate) fn find(&self, id: u64, visit: impl FnOnce()) -> Option<u32> {
        let mut complete = lock(&self.complete);
        if !*complete {
            self.kept.store(true, Ordering::Relaxed);
            visit();
            *complete = true;
        }
        drop(complete);
        lock(&self.slots).get(&id).copied()
    }

    /// A message is in this slot.
    #[inline]
    pub(crate) fn insert(&self, id: u64, slot: u32) {
        if self.kept.load(Ordering::Relaxed) {
            self.index(id, slot);
        }
    }

    #[cold]
    fn index(&self, id: u64, slot: u32) {
        lock(&self.slots).insert(id, slot);
    }

    /// A message has left its slot.
    #[inline]
    pub(crate) fn remove(&self, id: u64) {
        if self.kept.load(Ordering::Relaxed) {
            lock(&self.slots).remove(&id);
        }
    }
}
