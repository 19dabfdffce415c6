//! The shown state: slots, queues, keys, schedule, dead letters, room.
//!
//! Whatever changes here changes for one of two reasons: a transition was decided (under a slot's guard, see
//! [`super::slot`]), or the record of one has reached its level and its [`Effect`] is shown, in the order of the log.
//! Recovery makes the same changes through the same functions.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::DeadLetterEntry;
use super::keys::Keys;
use super::queue::{Queue, Queues, Ready};
use super::room::Room;
use super::schedule::Schedule;
use super::slot::{Guard, Linked, Slots, State as SlotState};
use crate::clock::{BrokerClock, Moment};
use crate::journal::Show;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, lock};

/// What a record does once it has reached its level.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The message waits: in its lane, in the schedule, or behind another. Nothing if it was replaced since.
    Show { slot: u32, version: u64 },
    /// The message is gone.
    Gone { slot: u32 },
    /// The message is a dead letter.
    Dead { slot: u32, letter: Box<DeadLetterEntry> },
    /// A dead letter is gone.
    Undead { id: u64 },
}

/// The shown state of a broker.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) clock: BrokerClock,
    pub(crate) slots: Slots,
    pub(crate) queues: Queues,
    pub(crate) keys: Keys,
    pub(crate) room: Room,
    schedule: Mutex<Schedule>,
    dead: Mutex<BTreeMap<u64, Arc<DeadLetterEntry>>>,
    /// Dead letters that were decided to be gone, and are not yet. Held over decide and reserve of whatever concerns
    /// dead letters.
    leaving: Mutex<BTreeSet<u64>>,
    /// A suspect is in flight; another one has to wait. Acquire on take, release on give: it guards nothing else.
    suspect: AtomicBool,
    /// Delayed messages that were attempted before.
    retries: AtomicU64,
    /// Rung when something is due sooner than whatever was due next.
    pub(crate) alarm: Alarm,
    /// Rung when there is something to do about the disk.
    pub(crate) disk: Alarm,
    /// Rung whenever something ended that `wait_idle` may be waiting for.
    pub(crate) rest: Alarm,
}

/// Something that changed, for one thread that sleeps until it does.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    rung: Mutex<u64>,
    bell: Condvar,
    /// Threads that sleep, so that ringing costs nothing while nobody does.
    sleepers: AtomicU64,
}

impl Alarm {
    pub(crate) fn ring(&self) {
        *lock(&self.rung) += 1;
        self.bell.notify_all();
    }

    /// Rings if somebody sleeps. Who is about to looks once more at what it waits for after [`Alarm::count`].
    pub(crate) fn ring_if_heard(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.ring();
        }
    }

    /// Notes that the caller may sleep from now on, until the answer is dropped.
    pub(crate) fn listen(&self) -> Listener<'_> {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        Listener(self)
    }

    /// How often it was rung.
    pub(crate) fn count(&self) -> u64 {
        *lock(&self.rung)
    }

    /// Sleeps until it was rung more often than `seen`, at most for `time`.
    pub(crate) fn wait(&self, seen: u64, time: Option<std::time::Duration>) {
        let end = time.map(|time| std::time::Instant::now() + time);
        let mut rung = lock(&self.rung);
        while *rung == seen {
            rung = match end {
                None => crate::sync::wait(&self.bell, rung),
                Some(end) => {
                    let left = end.saturating_duration_since(std::time::Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    crate::sync::wait_for(&self.bell, rung, left)
                }
            };
        }
    }
}

/// Somebody who may sleep until an alarm is rung.
#[derive(Debug)]
pub(crate) struct Listener<'a>(&'a Alarm);

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.0.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl State {
    pub(crate) fn new(clock: BrokerClock, capacity: usize) -> Self {
        Self {
            clock,
            slots: Slots::new(capacity),
            queues: Queues::default(),
            keys: Keys::new(),
            room: Room::new(capacity),
            schedule: Mutex::default(),
            dead: Mutex::default(),
            leaving: Mutex::default(),
            suspect: AtomicBool::new(false),
            retries: AtomicU64::new(0),
            alarm: Alarm::default(),
            disk: Alarm::default(),
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
        let queue = self.queues.numbered(guard.queue);
        drop(guard);
        let mut ready = queue.ready();
        let mut guard = self.slots.at(index).lock();
        if guard.state() == SlotState::Ready {
            ready.lane.link(&self.slots, index, &mut guard);
            queue.ring(&ready);
        }
    }

    /// Lets the next suspect run.
    pub(crate) fn suspect_ended(&self) {
        self.suspect.store(false, Ordering::Release);
        for queue in self.queues.all() {
            let ready = queue.ready();
            if ready.lane.has_suspects() {
                queue.ring(&ready);
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
                self.queues.numbered(guard.queue)
            };
            let mut ready = queue.ready();
            let mut guard = self.slots.at(index).lock();
            if guard.state() == SlotState::Delayed && guard.id == id && guard.due <= now {
                self.left_schedule(&queue, guard.attempts);
                guard.set(SlotState::Ready);
                queue.figures.ready.up();
                ready.lane.link(&self.slots, index, &mut guard);
                queue.ring(&ready);
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

    /// A message waits: in its lane, in the schedule, or behind another.
    pub(crate) fn show_waiting(&self, index: u32, version: u64) {
        let number = {
            let guard = self.slots.at(index).lock();
            if guard.state() != SlotState::Pending || guard.version != version {
                return;
            }
            guard.queue
        };
        let queue = self.queues.numbered(number);
        let mut ready = queue.ready();
        let mut schedule = lock(&self.schedule);
        let mut guard = self.slots.at(index).lock();
        // Replaced, or a slot of another message by now: the effect of that record will do it.
        if guard.state() != SlotState::Pending || guard.version != version {
            return;
        }
        if guard.behind {
            guard.set(SlotState::Behind);
        } else if guard.due > self.clock.now() {
            guard.set(SlotState::Delayed);
            queue.figures.delayed.up();
            if guard.attempts > 0 {
                self.retries.fetch_add(1, Ordering::Relaxed);
            }
            if schedule.insert(guard.due, guard.id, index) {
                drop((guard, schedule, ready));
                self.alarm.ring();
            }
        } else {
            drop(schedule);
            guard.set(SlotState::Ready);
            queue.figures.ready.up();
            ready.lane.link(&self.slots, index, &mut guard);
            queue.ring(&ready);
        }
    }

    /// Frees the slot of a message that is gone, and its place.
    pub(crate) fn free(&self, index: u32) {
        let queue = self.queues.numbered(self.slots.at(index).lock().queue);
        {
            // Under the lane's lock, because the slot may still be linked there under its old state.
            let mut ready = queue.ready();
            let mut guard = self.slots.at(index).lock();
            if guard.linked != Linked::Nowhere {
                ready.lane.unlink(&self.slots, index, &mut guard);
            }
            guard.set(SlotState::Free);
        }
        self.slots.free(index);
        self.room.free(1);
        self.rest.ring_if_heard();
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
                Effect::Show { slot, version } => self.show_waiting(slot, version),
                Effect::Gone { slot } => self.free(slot),
                Effect::Dead { slot, letter } => {
                    self.bury(*letter);
                    self.free(slot);
                }
                Effect::Undead { id } => self.unbury(id),
            }
        }
    }

    fn unsynced(&self) {
        self.disk.ring_if_heard();
    }
}
