//! Effects: what records do once they have reached their level.

use std::iter::Peekable;

use super::entry::DeadLetterEntry;
use super::envelope::Envelope;
use super::flags::Flag;
use super::queue::{Queue, ReadyGuard};
use super::schedule::Schedule;
use super::slot::{Data, Freed, Guard, Linked, State as SlotState};
use super::state::State;
use crate::error::{Error, ErrorKind};
use crate::events::event;
use crate::journal::{Live, Show};
use crate::stock::Stock;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, MutexGuard, lock};

/// Messages of one queue that are shown before others get at it.
const SHOWN_AT_ONCE: usize = 64;

/// What a record does once it has reached its level.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The message waits.
    Show(Waiting),
    /// The message was replaced by one that is not of this group.
    LeftGroup { slot: u32, queue: u32, group: u64 },
    /// The message is gone.
    Gone { slot: u32 },
    /// These messages are gone.
    AllGone { slots: Vec<u32> },
    /// The message is a dead letter.
    Dead { slot: u32, letter: Box<DeadLetterEntry> },
    /// A dead letter is gone.
    Undead { id: u64 },
}

/// A message waits: in its lane, in the schedule, or behind another. Nothing if it was replaced since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) slot: u32,
    pub(crate) queue: u32,
    pub(crate) version: u64,
    /// Else it is known to be due.
    pub(crate) delayed: bool,
}

/// What messages have left behind that are gone, to be given back together.
#[derive(Debug, Default)]
struct Gone {
    slots: Freed,
    places: usize,
}

impl State {
    /// Shows a message that an opening has found, and for which this slot was claimed. Of its figures only what it is counts.
    pub(super) fn show_found(
        &self,
        queue: &Queue,
        ready: &mut ReadyGuard<'_>,
        slot: u32,
        id: u64,
        data: Data,
        is_due: bool,
    ) {
        let schedule = (!is_due).then(|| lock(&self.schedule));
        let mut guard = self.slots.at(slot).lock();
        guard.set_id(id);
        *guard = data;
        self.line_up(queue, ready, schedule, slot, guard);
    }

    /// Shows a message that waits, and those of the same queue that come right behind it.
    fn show_run(&self, first: Waiting, effects: &mut Peekable<impl Iterator<Item = Effect>>) {
        let queue = self.queues.numbered(first.queue);
        let mut ready = queue.ready();
        self.show_in(queue, &mut ready, first);
        let is_next =
            |effect: &Effect| matches!(effect, Effect::Show(next) if next.queue == first.queue);
        for _ in 1..SHOWN_AT_ONCE {
            let Some(Effect::Show(next)) = effects.next_if(is_next) else { return };
            self.show_in(queue, &mut ready, next);
        }
    }

    /// Shows a new message without a key, for which this slot was claimed, and whose record stands at `position`.
    pub(super) fn show_new(&self, envelope: &Envelope<'_>, slot: u32, position: u64) {
        self.show_new_in(&mut envelope.queue.ready(), envelope, slot, position);
    }

    /// Shows many such messages that have this envelope, each with its slot and its position.
    pub(super) fn show_all_new(&self, envelope: &Envelope<'_>, slots: &[u32], positions: &[u64]) {
        let mut new = slots.iter().zip(positions);
        while new.len() > 0 {
            let mut ready = envelope.queue.ready();
            for (slot, position) in new.by_ref().take(SHOWN_AT_ONCE) {
                self.show_new_in(&mut ready, envelope, *slot, *position);
            }
        }
    }

    // In its two places: a call for each of a batch costs a fifth of what it does.
    #[inline(always)]
    fn show_new_in(
        &self,
        ready: &mut ReadyGuard<'_>,
        envelope: &Envelope<'_>,
        slot: u32,
        position: u64,
    ) {
        let queue = envelope.queue;
        queue.figures.was_shown(ready);
        let schedule = envelope.is_delayed().then(|| lock(&self.schedule));
        let mut guard = self.slots.at(slot).lock();
        envelope.move_in(self, slot, &mut guard, position);
        if envelope.is_plain() {
            guard.set(SlotState::Ready);
            queue.figures.came(ready);
            ready.lanes.link_new(&self.slots, slot, &mut guard);
            return queue.ring(ready);
        }
        self.line_up(queue, ready, schedule, slot, guard);
    }

    /// Shows that the message in this slot is gone.
    pub(super) fn show_gone(&self, slot: u32) {
        self.show_all_gone(std::iter::once(slot));
    }

    /// Shows that the messages in these slots are gone.
    pub(super) fn show_all_gone(&self, slots: impl Iterator<Item = u32>) {
        let mut gone = Gone::default();
        slots.for_each(|slot| self.free(slot, &mut gone));
        self.give_back(gone);
    }

    /// Shows a message that waits in this queue.
    fn show_in(&self, queue: &Queue, ready: &mut ReadyGuard<'_>, waiting: Waiting) {
        let Waiting { slot: index, version, delayed, .. } = waiting;
        let schedule = delayed.then(|| lock(&self.schedule));
        let guard = self.slots.at(index).lock();
        if guard.state() != SlotState::Pending || guard.version != version {
            // Replaced, or a slot of another message by now: the effect of that record will do it.
            return;
        }
        self.line_up(queue, ready, schedule, index, guard);
    }

    /// Puts a message that waits where it does so. `schedule` is locked unless it is known to be due.
    #[inline]
    fn line_up(
        &self,
        queue: &Queue,
        ready: &mut ReadyGuard<'_>,
        mut schedule: Option<MutexGuard<'_, Schedule>>,
        index: u32,
        mut guard: Guard<'_>,
    ) {
        if guard.flags.has(Flag::Expires)
            && let Some(moment) = self.expiries.arm(index, guard.id())
        {
            // A manual clock, which stands still, may stand at that moment or beyond.
            if moment <= self.clock.now() {
                self.timer.due_now();
            } else {
                self.timer.due_at(moment);
            }
        }
        if guard.flags.has(Flag::Behind) {
            guard.set(SlotState::Behind);
        } else if let Some(schedule) = schedule.as_mut().filter(|_| guard.due > self.clock.now()) {
            guard.set(SlotState::Delayed);
            queue.figures.delayed.up();
            if guard.attempts > 0 {
                self.retries.fetch_add(1, Ordering::Relaxed);
            }
            let due = guard.due;
            schedule.insert(due, guard.id(), index);
            self.put_off(queue, ready, index, guard);
            self.timer.due_at(due);
        } else {
            guard.set(SlotState::Ready);
            queue.figures.came(ready);
            self.admit(queue, ready, index, guard);
        }
    }

    /// A message was replaced by one that is not of this group.
    fn show_left_group(&self, index: u32, queue: u32, group: u64) {
        let queue = self.queues.numbered(queue);
        let mut ready = queue.ready();
        let id = {
            let mut guard = self.slots.at(index).lock();
            if guard.linked == Linked::Turn {
                guard.linked = Linked::Nowhere;
            }
            guard.id()
        };
        self.leave_group(queue, &mut ready, group, id, index);
    }

    /// Frees the slot of a message that is gone, but for giving it and its place back.
    fn free(&self, index: u32, gone: &mut Gone) {
        let mut guard = self.slots.at(index).lock();
        if guard.linked != Linked::Nowhere || guard.group != 0 {
            // Still linked under its old state, or in its group's line: that takes the lock of the lanes, which comes
            // first.
            let queue = self.queues.numbered(guard.queue.into());
            drop(guard);
            let mut ready = queue.ready();
            guard = self.slots.at(index).lock();
            let (id, group) = (guard.id(), guard.group);
            ready.lanes.unlink(&self.slots, &mut guard);
            if group != 0 {
                drop(guard);
                self.leave_group(queue, &mut ready, group, id, index);
                guard = self.slots.at(index).lock();
            }
        }
        if guard.flags.has(Flag::Expires) {
            self.expiries.remove(index, guard.id());
        }
        self.ids.remove(guard.id());
        guard.set(SlotState::Free);
        drop(guard);
        self.slots.link_freed(index, &mut gone.slots);
        gone.places += 1;
    }

    /// Gives back what messages have left behind that are gone.
    fn give_back(&self, gone: Gone) {
        self.slots.free_all(gone.slots);
        if gone.places > 0 {
            self.room.free(gone.places);
        }
    }
}

impl Show for State {
    fn live(&self) -> Live {
        Live {
            messages: self.room.taken() as u64 + self.letters.count() as u64,
            guards: self.keys.guarded() as u64,
            text_bytes: self.letters.text_bytes() + self.expiries.text_bytes(),
            name_bytes_max: self.name_bytes_max.load(Ordering::Relaxed),
        }
    }

    fn stock(&self) -> Arc<Stock> {
        Arc::clone(&self.stock)
    }

    type Effect = Effect;

    fn show(&self, effects: impl Iterator<Item = Effect>) {
        let mut effects = effects.peekable();
        let mut gone = Gone::default();
        while let Some(effect) = effects.next() {
            match effect {
                Effect::Show(first) => self.show_run(first, &mut effects),
                Effect::LeftGroup { slot, queue, group } => {
                    self.show_left_group(slot, queue, group);
                }
                Effect::Gone { slot } => self.free(slot, &mut gone),
                Effect::AllGone { slots } => {
                    slots.into_iter().for_each(|slot| self.free(slot, &mut gone));
                }
                Effect::Dead { slot, letter } => {
                    let is_parked = self.bury(*letter);
                    self.free(slot, &mut gone);
                    gone.places -= usize::from(is_parked);
                }
                Effect::Undead { id } => self.unbury(id),
            }
        }
        self.give_back(gone);
    }

    fn shown(&self) {
        self.rest.ring_if_heard();
    }

    fn unsynced(&self) {
        self.sync_wish.ask(&self.disk);
    }

    fn runs_low(&self) {
        self.supplies.ring();
    }

    fn room_changed(&self) {
        // Whose keeper tells of that.
        self.disk.ring();
    }

    fn poisoned(&self, cause: &Error) {
        if cause.kind() != ErrorKind::Closed {
            event!(self.events, Error, "poisoned", error = cause.to_string().as_str());
        }
        self.ring_everywhere();
        self.rest.ring();
        self.room.poison();
    }
}
