//! Lanes: the ready messages of a queue, by priority and in the order of their ids.
//!
//! Each priority has a lane of its own. What comes in order, which is nearly everything, is linked through the slots and takes no memory of its own. What
//! comes back out of order (a retry, a release, a delay that ran out, a replaced message) goes to a table beside the
//! list, sorted by id, so that it finds its old place. Suspects stand apart, because they run alone.
//!
//! Lock order: the lane, then one slot. So a slot may be linked here in a state that is not ready: whoever changed it
//! could not lock the lane. Such an entry is unlinked when it is met.

use std::collections::BTreeMap;

use super::slot::{Guard, Linked, NONE, Slots};
use crate::sync::atomic::Ordering;

/// Priorities there are: 0 to 9.
pub(crate) const PRIORITIES: usize = 10;

/// The ready messages of one queue.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// By priority.
    lanes: [Lane; PRIORITIES],
    /// The bit of a priority is set while something is linked in its lane.
    occupied: u16,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self { lanes: std::array::from_fn(|_| Lane::new()), occupied: 0 }
    }

    /// Whether nothing is linked.
    pub(crate) fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// Links a slot at its place, if it is not there already.
    pub(crate) fn link(&mut self, slots: &Slots, index: u32, guard: &mut Guard<'_>) {
        if guard.linked != Linked::Nowhere {
            let is_among_suspects = guard.linked == Linked::Suspects;
            if guard.linked != Linked::Turn
                && guard.lane == guard.priority
                && is_among_suspects == guard.is_suspect()
            {
                return;
            }
            // It was replaced, by a message of another priority or by one that is no suspect.
            self.unlink(slots, guard);
        }
        self.link_new(slots, index, guard);
    }

    /// Links a slot, which is linked nowhere, at its place.
    #[inline]
    pub(crate) fn link_new(&mut self, slots: &Slots, index: u32, guard: &mut Guard<'_>) {
        if let Some(lane) = self.lanes.get_mut(usize::from(guard.priority)) {
            lane.link(slots, index, guard);
            guard.lane = guard.priority;
            self.occupied |= 1 << guard.priority;
        }
    }

    /// Unlinks a slot, if it is linked.
    pub(crate) fn unlink(&mut self, slots: &Slots, guard: &mut Guard<'_>) {
        if let Some(lane) = self.lanes.get_mut(usize::from(guard.lane)) {
            lane.unlink(slots, guard);
            if lane.is_empty() {
                self.occupied &= !(1 << guard.lane);
            }
        }
    }

    /// The number of the first message, which may be stale, and whether it is a suspect.
    pub(crate) fn first(&self) -> Option<(u32, bool)> {
        let highest = self.occupied.checked_ilog2()?;
        self.lanes.get(highest as usize)?.first()
    }

    /// The number of the first message of a priority, which may be stale.
    pub(crate) fn first_of(&self, priority: usize) -> Option<u32> {
        self.lanes.get(priority)?.first().map(|(index, _)| index)
    }
}

/// The ready messages of one priority.
#[derive(Debug)]
struct Lane {
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
    fn new() -> Self {
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
    fn is_empty(&self) -> bool {
        self.head == NONE && self.side.is_empty() && self.suspects.is_empty()
    }

    /// Links a slot, which is linked nowhere, at its place.
    #[inline]
    fn link(&mut self, slots: &Slots, index: u32, guard: &mut Guard<'_>) {
        let id = guard.id();
        if guard.is_suspect() {
            guard.linked = Linked::Suspects;
            self.suspects.insert(id, index);
        } else if self.head != NONE && id < self.tail_id {
            guard.linked = Linked::Side;
            self.side.insert(id, index);
        } else {
            guard.linked = Linked::List;
            let slot = guard.slot();
            // Relaxed: links are guarded by the lane's lock.
            slot.previous.store(self.tail, Ordering::Relaxed);
            slot.next.store(NONE, Ordering::Relaxed);
            if self.tail == NONE {
                self.head = index;
                self.head_id = id;
            } else {
                slots.at(self.tail).next.store(index, Ordering::Relaxed);
            }
            self.tail = index;
            self.tail_id = id;
        }
    }

    /// Unlinks a slot, if it is linked.
    fn unlink(&mut self, slots: &Slots, guard: &mut Guard<'_>) {
        let id = guard.id();
        match std::mem::take(&mut guard.linked) {
            Linked::Nowhere | Linked::Turn => {}
            Linked::Side => {
                self.side.remove(&id);
            }
            Linked::Suspects => {
                self.suspects.remove(&id);
            }
            Linked::List => {
                let slot = guard.slot();
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
                    self.head_id = slots.at(next).linked_id();
                }
                if next == NONE && previous != NONE {
                    self.tail_id = slots.at(previous).linked_id();
                }
            }
        }
    }

    /// The number of the first message, which may be stale, and whether it is a suspect.
    fn first(&self) -> Option<(u32, bool)> {
        if self.side.is_empty() && self.suspects.is_empty() {
            return (self.head != NONE).then_some((self.head, false));
        }
        let list = (self.head != NONE).then_some((self.head_id, self.head, false));
        let side = self.side.first_key_value().map(|(id, index)| (*id, *index, false));
        let suspects = self.suspects.first_key_value().map(|(id, index)| (*id, *index, true));
        let (_, index, suspect) = [list, side, suspects].into_iter().flatten().min()?;
        Some((index, suspect))
    }
}
