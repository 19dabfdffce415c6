//! Lanes: the ready messages of a queue, in the order of their ids.
//!
//! What comes in order, which is nearly everything, is linked through the slots and takes no memory of its own. What
//! comes back out of order (a retry, a release, a delay that ran out, a replaced message) goes to a table beside the
//! list, sorted by id, so that it finds its old place. Suspects stand apart, because they run alone.
//!
//! Lock order: the lane, then one slot. So a slot may be linked here in a state that is not ready: whoever changed it
//! could not lock the lane. Such an entry is unlinked when it is met.

use std::collections::BTreeMap;

use super::slot::{Data, Linked, NONE, Slots};
use crate::sync::atomic::Ordering;

/// The ready messages of one queue.
#[derive(Debug)]
pub(crate) struct Lane {
    head: u32,
    tail: u32,
    /// The id of the list's first message.
    head_id: u64,
    /// The id of the list's last message, kept when the list runs empty.
    tail_id: u64,
    side: BTreeMap<u64, u32>,
    suspects: BTreeMap<u64, u32>,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self {
            head: NONE,
            tail: NONE,
            head_id: 0,
            tail_id: 0,
            side: BTreeMap::new(),
            suspects: BTreeMap::new(),
        }
    }

    /// Whether nothing is linked.
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE && self.side.is_empty() && self.suspects.is_empty()
    }

    /// Links a slot at its place, if it is not linked already.
    pub(crate) fn link(&mut self, slots: &Slots, index: u32, data: &mut Data) {
        if data.linked != Linked::Nowhere {
            return;
        }
        if data.is_suspect() {
            data.linked = Linked::Suspects;
            self.suspects.insert(data.id, index);
        } else if self.head != NONE && data.id < self.tail_id {
            data.linked = Linked::Side;
            self.side.insert(data.id, index);
        } else {
            data.linked = Linked::List;
            let slot = slots.at(index);
            // Relaxed: links are guarded by the lane's lock.
            slot.previous.store(self.tail, Ordering::Relaxed);
            slot.next.store(NONE, Ordering::Relaxed);
            slot.place.store(data.id, Ordering::Relaxed);
            if self.tail == NONE {
                self.head = index;
                self.head_id = data.id;
            } else {
                slots.at(self.tail).next.store(index, Ordering::Relaxed);
            }
            self.tail = index;
            self.tail_id = data.id;
        }
    }

    /// Unlinks a slot, if it is linked.
    pub(crate) fn unlink(&mut self, slots: &Slots, index: u32, data: &mut Data) {
        match std::mem::take(&mut data.linked) {
            Linked::Nowhere => {}
            Linked::Side => {
                self.side.remove(&data.id);
            }
            Linked::Suspects => {
                self.suspects.remove(&data.id);
            }
            Linked::List => {
                let slot = slots.at(index);
                let previous = slot.previous.load(Ordering::Relaxed);
                let next = slot.next.load(Ordering::Relaxed);
                match previous {
                    NONE => self.head = next,
                    _ => slots.at(previous).next.store(next, Ordering::Relaxed),
                }
                match next {
                    NONE => self.tail = previous,
                    _ => slots.at(next).previous.store(previous, Ordering::Relaxed),
                }
                if previous == NONE && next != NONE {
                    self.head_id = slots.at(next).place.load(Ordering::Relaxed);
                }
                if next == NONE && previous != NONE {
                    self.tail_id = slots.at(previous).place.load(Ordering::Relaxed);
                }
            }
        }
    }

    /// The number of the first message, which may be stale, and whether it is a suspect.
    pub(crate) fn first(&self) -> Option<(u32, bool)> {
        let list = (self.head != NONE).then_some((self.head_id, self.head, false));
        let side = self.side.first_key_value().map(|(id, index)| (*id, *index, false));
        let suspects = self.suspects.first_key_value().map(|(id, index)| (*id, *index, true));
        let (_, index, suspect) = [list, side, suspects].into_iter().flatten().min()?;
        Some((index, suspect))
    }
}
