//! The line: where a message that is ready stands, in its lane or behind others of its group.
//!
//! All of it happens under the lock of the queue.

use super::flags::Flag;
use super::queue::{Queue, Ready, ReadyGuard};
use super::slot::{Guard, Linked, State as SlotState};
use super::state::State;
use super::turns::Admission;

impl State {
    /// Puts a message that is ready into its lane, unless its group has another one first.
    pub(super) fn admit(
        &self,
        queue: &Queue,
        ready: &mut ReadyGuard<'_>,
        index: u32,
        mut guard: Guard<'_>,
    ) {
        let id = guard.id();
        if guard.group == 0 {
            ready.lanes.link(&self.slots, index, &mut guard);
            return queue.ring(ready);
        }
        let holds = guard.flags.has(Flag::Holds);
        match ready.turns.admit(guard.group, id, index, holds) {
            Admission::Runs => {
                ready.lanes.link(&self.slots, index, &mut guard);
                queue.ring(ready);
            }
            Admission::Displaces(head) => {
                ready.lanes.link(&self.slots, index, &mut guard);
                drop(guard);
                self.displace(ready, head);
                queue.ring(ready);
            }
            Admission::Waits => {
                ready.lanes.unlink(&self.slots, &mut guard);
                guard.linked = Linked::Turn;
            }
            Admission::Yields(next) => {
                ready.lanes.unlink(&self.slots, &mut guard);
                guard.linked = Linked::Turn;
                drop(guard);
                self.promote(queue, ready, next);
            }
        }
    }

    /// Sets the turns of its group right for a message that waits for its moment.
    pub(super) fn put_off(
        &self,
        queue: &Queue,
        ready: &mut ReadyGuard<'_>,
        index: u32,
        guard: Guard<'_>,
    ) {
        let (group, id, holds) = (guard.group, guard.id(), guard.flags.has(Flag::Holds));
        drop(guard);
        if group == 0 {
            return;
        }
        if !holds {
            self.leave_group(queue, ready, group, id, index);
        } else if let Some(head) = ready.turns.hold(group, index) {
            self.displace(ready, head);
        }
    }

    /// Takes a message out of its lane, for its group has another one first.
    fn displace(&self, ready: &mut Ready, index: u32) {
        let mut guard = self.slots.at(index).lock();
        ready.lanes.unlink(&self.slots, &mut guard);
        guard.linked = Linked::Turn;
    }

    /// A message is no more in line in this group.
    pub(super) fn leave_group(
        &self,
        queue: &Queue,
        ready: &mut ReadyGuard<'_>,
        group: u64,
        id: u64,
        index: u32,
    ) {
        if let Some(next) = ready.turns.leave(group, id, index) {
            self.promote(queue, ready, next);
        }
    }

    /// Puts the next message of a group into its lane. One that is not ready is about to be shown again or gone, and
    /// its place in the group is set right then.
    fn promote(&self, queue: &Queue, ready: &mut ReadyGuard<'_>, index: u32) {
        let mut guard = self.slots.at(index).lock();
        if guard.state() == SlotState::Ready {
            ready.lanes.link(&self.slots, index, &mut guard);
            queue.ring(ready);
        }
    }
}
