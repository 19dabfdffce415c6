//! The shown state: slots, queues, keys, schedule, dead letters, room.
//!
//! Whatever changes here changes for one of two reasons: a transition was decided (under a slot's guard, see
//! [`super::slot`]), or the record of one has reached its level and its [`Effect`] is shown, in the order of the log.
//! Recovery makes the same changes through the same functions.

use std::collections::{BTreeMap, BTreeSet};

use super::alarm::{Alarm, Timer, Wish};
use super::entry::DeadLetterEntry;
use super::holds::Holds;
use super::keys::Keys;
use super::queue::{Queue, Queues, Ready};
use super::room::Room;
use super::schedule::Schedule;
use super::slot::{Guard, Linked, Slots, State as SlotState};
use crate::clock::{BrokerClock, Moment};
use crate::journal::Show;
use crate::storage::Marks;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// What a record does once it has reached its level.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The message waits: in its lane, in the schedule, or behind another. Nothing if it was replaced since. Known to be
    /// due unless `delayed`.
    Show { slot: u32, version: u64, delayed: bool },
    /// The message is gone.
    Gone { slot: u32 },
    /// The message is a dead letter.
    Dead { slot: u32, letter: Box<DeadLetterEntry> },
    /// A dead letter is gone.
    Undead { id: u64 },
    /// What follows from the end of a delivery is shown.
    Followed,
}

/// The shown state of a broker.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) clock: BrokerClock,
    pub(crate) slots: Slots,
    pub(crate) queues: Queues,
    pub(crate) keys: Keys,
    pub(crate) room: Room,
    pub(crate) holds: Holds,
    schedule: Mutex<Schedule>,
    dead: Mutex<BTreeMap<u64, Arc<DeadLetterEntry>>>,
    /// Dead letters that were decided to be gone, and are not yet. Held over decide and reserve of whatever concerns
    /// dead letters.
    leaving: Mutex<BTreeSet<u64>>,
    /// A suspect is in flight; another one has to wait. Acquire on take, release on give: it guards nothing else.
    suspect: AtomicBool,
    /// Delayed messages that were attempted before.
    retries: AtomicU64,
    /// Ends of deliveries from which something follows that is not shown yet: a retry, a child, one behind.
    following: AtomicU64,
    pub(crate) timer: Timer,
    /// Rung when there is something to do about the disk, such as these two.
    pub(crate) disk: Alarm,
    /// Something is written that no sync covers.
    pub(crate) sync_wish: Wish,
    /// Something is appended that nobody waits to see written.
    pub(crate) write_wish: Wish,
    /// Rung when a queue has come to rest, which `wait_idle` may be waiting for.
    pub(crate) rest: Alarm,
}

impl State {
    pub(crate) fn new(clock: BrokerClock, marks: Arc<Marks>, capacity: usize) -> Self {
        Self {
            clock,
            slots: Slots::new(capacity),
            queues: Queues::new(),
            keys: Keys::new(),
            room: Room::new(capacity),
            holds: Holds::new(marks),
            schedule: Mutex::default(),
            dead: Mutex::default(),
            leaving: Mutex::default(),
            suspect: AtomicBool::new(false),
            retries: AtomicU64::new(0),
            following: AtomicU64::new(0),
            timer: Timer::new(),
            disk: Alarm::default(),
            sync_wish: Wish::default(),
            write_wish: Wish::default(),
            rest: Alarm::default(),
        }
    }

    /// Takes the first ready message of a queue, if there is one that may run.
    pub(crate) fn pop(&self, queue: &Queue) -> Option<(u32, Guard<'_>)> {
        let granted = std::cell::Cell::new(false);
        let popped = queue.ready().lane.pop(&self.slots, || {
            granted.set(!self.suspect.swap(true, Ordering::Acquire));
            granted.get()
        });
        let used = popped.as_ref().is_some_and(|(_, guard)| guard.is_suspect());
        if granted.get() && !used {
            self.suspect.store(false, Ordering::Release);
        }
        popped
    }

    /// Whether a queue has a message that may run now; asked under the queue's lock.
    pub(crate) fn has_ready(&self, ready: &Ready) -> bool {
        ready.lane.peek(|| !self.suspect.load(Ordering::Acquire)).is_some()
    }

    /// How long the first ready message of a queue has been ready.
    pub(crate) fn oldest_ready_age(&self, queue: &Queue) -> Option<std::time::Duration> {
        let ready = queue.ready();
        let index = ready.lane.peek(|| true)?;
        let due = self.slots.at(index).lock().due;
        Some(self.clock.now().since(due))
    }

    /// Puts a message back that was popped and not taken after all.
    pub(crate) fn unpop(&self, index: u32, guard: Guard<'_>) {
        if guard.is_suspect() {
            self.suspect_ended();
        }
        let queue = Arc::clone(self.queues.numbered(guard.queue));
        drop(guard);
        let mut ready = queue.ready();
        let mut guard = self.slots.at(index).lock();
        if guard.state() == SlotState::Ready {
            ready.lane.link(&self.slots, index, &mut guard);
            queue.ring(&mut ready);
        }
    }

    /// Lets the next suspect run.
    pub(crate) fn suspect_ended(&self) {
        self.suspect.store(false, Ordering::Release);
        for queue in self.queues.all() {
            let mut ready = queue.ready();
            if ready.lane.has_suspects() {
                queue.ring(&mut ready);
            }
        }
    }

    /// Makes what is due ready; answers when the next message is due.
    pub(crate) fn run_due(&self, now: Moment) -> Option<Moment> {
        loop {
            let (id, index) = {
                let mut schedule = lock(&self.schedule);
                match schedule.pop_due(now) {
                    Some(found) => found,
                    None => return schedule.next(),
                }
            };
            let queue = {
                let guard = self.slots.at(index).lock();
                if guard.state() != SlotState::Delayed || guard.id != id || guard.due > now {
                    continue;
                }
                Arc::clone(self.queues.numbered(guard.queue))
            };
            let mut ready = queue.ready();
            let mut guard = self.slots.at(index).lock();
            if guard.state() == SlotState::Delayed && guard.id == id && guard.due <= now {
                guard.set(SlotState::Ready);
                queue.figures.ready.up();
                self.left_schedule(&queue, guard.attempts);
                ready.lane.link(&self.slots, index, &mut guard);
                queue.ring(&mut ready);
            }
        }
    }

    /// Forgets that a message was delayed until then.
    pub(crate) fn unschedule(&self, queue: &Queue, due: Moment, id: u64, attempts: u32) {
        lock(&self.schedule).remove(due, id);
        self.left_schedule(queue, attempts);
    }

    fn left_schedule(&self, queue: &Queue, attempts: u32) {
        queue.figures.delayed.down();
        if attempts > 0 {
            self.retries.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Delayed messages that were attempted before.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn dead_letter(&self, id: u64) -> Option<Arc<DeadLetterEntry>> {
        lock(&self.dead).get(&id).cloned()
    }

    /// Up to `limit` dead letters with ids above `after`, in order.
    pub(crate) fn dead_letters(
        &self,
        queue: Option<&str>,
        limit: usize,
        after: u64,
    ) -> Vec<Arc<DeadLetterEntry>> {
        let dead = lock(&self.dead);
        let above = dead.range(after.saturating_add(1)..).map(|(_, letter)| letter);
        above
            .filter(|letter| queue.is_none_or(|queue| letter.queue == queue))
            .take(limit)
            .cloned()
            .collect()
    }

    pub(crate) fn dead_count(&self) -> usize {
        lock(&self.dead).len()
    }

    /// A message waits: in its lane, in the schedule, or behind another. Known to be due unless `delayed`.
    pub(crate) fn show_waiting(&self, index: u32, version: u64, delayed: bool) {
        // Replaced, or a slot of another message by now: the effect of that record will do it.
        let is_meant =
            |guard: &Guard<'_>| guard.state() == SlotState::Pending && guard.version == version;
        let queue = {
            let guard = self.slots.at(index).lock();
            if !is_meant(&guard) {
                return;
            }
            self.queues.numbered(guard.queue)
        };
        let mut ready = queue.ready();
        let mut schedule = delayed.then(|| lock(&self.schedule));
        let mut guard = self.slots.at(index).lock();
        if !is_meant(&guard) {
            return;
        }
        if guard.behind {
            guard.set(SlotState::Behind);
        } else if let Some(schedule) = schedule.as_mut().filter(|_| guard.due > self.clock.now()) {
            guard.set(SlotState::Delayed);
            queue.figures.delayed.up();
            if guard.attempts > 0 {
                self.retries.fetch_add(1, Ordering::Relaxed);
            }
            let due = guard.due;
            schedule.insert(due, guard.id, index);
            drop(guard);
            self.timer.due_at(due);
        } else {
            guard.set(SlotState::Ready);
            queue.figures.ready.up();
            ready.lane.link(&self.slots, index, &mut guard);
            queue.ring(&mut ready);
        }
    }

    /// Frees the slot of a message that is gone, and its place.
    pub(crate) fn free(&self, index: u32) {
        let mut guard = self.slots.at(index).lock();
        if guard.linked != Linked::Nowhere {
            // Still linked under its old state, which takes the lane's lock, and that comes first.
            let queue = self.queues.numbered(guard.queue);
            drop(guard);
            let mut ready = queue.ready();
            guard = self.slots.at(index).lock();
            ready.lane.unlink(&self.slots, index, &mut guard);
        }
        guard.set(SlotState::Free);
        drop(guard);
        self.slots.free(index);
        self.room.free(1);
    }

    /// Tells who waits for that, if a queue has come to rest: nothing is in flight.
    pub(crate) fn rested(&self, queue: &Queue) {
        if queue.figures.in_flight.value() == 0 {
            self.rest.ring_if_heard();
        }
    }

    /// Something follows from the end of a delivery, which is still counted as in flight.
    pub(crate) fn follows(&self) {
        self.following.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends of deliveries from which something follows that is not shown yet.
    pub(crate) fn following(&self) -> u64 {
        self.following.load(Ordering::SeqCst)
    }

    /// Adds a dead letter.
    pub(crate) fn bury(&self, letter: DeadLetterEntry) {
        if let Ok(queue) = self.queues.named(&letter.queue)
            && lock(&self.dead).insert(letter.id, Arc::new(letter)).is_none()
        {
            queue.figures.dead.up();
        }
    }

    /// Whose turn it is to decide about dead letters, and which of them are decided to be gone.
    pub(crate) fn dead_turn(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        lock(&self.leaving)
    }

    /// Notes that a dead letter's content is elsewhere now.
    pub(crate) fn replace_dead_letter(&self, letter: DeadLetterEntry) {
        lock(&self.dead).insert(letter.id, Arc::new(letter));
    }

    /// Removes a dead letter.
    pub(crate) fn unbury(&self, id: u64) {
        lock(&self.leaving).remove(&id);
        if let Some(letter) = lock(&self.dead).remove(&id)
            && let Ok(queue) = self.queues.named(&letter.queue)
        {
            queue.figures.dead.down();
        }
    }
}

impl Show for State {
    type Effect = Effect;

    fn show(&self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Show { slot, version, delayed } => {
                    self.show_waiting(slot, version, delayed)
                }
                Effect::Gone { slot } => self.free(slot),
                Effect::Dead { slot, letter } => {
                    self.bury(*letter);
                    self.free(slot);
                }
                Effect::Undead { id } => self.unbury(id),
                Effect::Followed => {
                    if self.following.fetch_sub(1, Ordering::SeqCst) == 1 {
                        self.rest.ring_if_heard();
                    }
                }
            }
        }
    }

    fn unsynced(&self) {
        self.sync_wish.ask(&self.disk);
    }
}
