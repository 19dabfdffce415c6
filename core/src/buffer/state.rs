//! The shown state: slots, queues, keys, schedule, dead letters, room.
//!
//! Whatever changes here changes for one of two reasons: a transition was decided (under a slot's guard, see
//! [`super::slot`]), or the record of one has reached its level and its [effect](super::effect::Effect) is shown, in the
//! order of the log. Recovery makes the same changes through the same functions.

use super::company::Company;
use super::entry::DeadLetterEntry;
use super::expiries::Expiries;
use super::flags::Flag;
use super::holds::Holds;
use super::ids::Ids;
use super::keys::Keys;
use super::lane::PRIORITIES;
use super::letters::{Gone, Letters};
use super::queue::{Queue, Queues, Ready};
use super::reason;
use super::room::Room;
use super::schedule::Schedule;
use super::slot::{Guard, Slots, State as SlotState};
use crate::alarm::{Alarm, Timer, Wish};
use crate::clock::{BrokerClock, Moment};
use crate::events::{Events, event};
use crate::stock::Stock;
use crate::storage::Marks;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Slots: enough for the messages that opening found, whatever the capacity is now.
    pub(crate) slots: usize,
    pub(crate) capacity: usize,
    pub(crate) max_dead_letters: usize,
}

/// What is first in a queue.
#[derive(Debug)]
pub(crate) enum Popped<'a> {
    /// A message, which is in nobody else's reach now.
    Message(u32, Guard<'a>),
    /// One that has expired.
    Expired { slot: u32, id: u64 },
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
    pub(crate) expiries: Expiries,
    pub(crate) ids: Ids,
    pub(super) schedule: Mutex<Schedule>,
    pub(crate) letters: Letters,
    pub(crate) company: Company,
    /// Delayed messages that were attempted before.
    pub(super) retries: AtomicU64,
    /// The most bytes that a queue's name and a key take together, of what came since the last snapshot.
    pub(super) name_bytes_max: AtomicU64,
    pub(crate) timer: Timer,
    /// Rung when there is something to do about the disk, such as these.
    pub(crate) disk: Alarm,
    /// Rung when something is to be made ahead of time.
    pub(crate) supplies: Arc<Alarm>,
    /// Memory for what is to come.
    pub(crate) stock: Arc<Stock>,
    /// Something is written that no sync covers.
    pub(crate) sync_wish: Wish,
    /// Something waits for a sync that nobody else has made.
    pub(crate) sync_now_wish: Wish,
    /// Something is appended that nobody waits to see written.
    pub(crate) write_wish: Wish,
    /// Rung when something was shown, came due or ended, which `wait_idle` may be waiting for.
    pub(crate) rest: Alarm,
    pub(crate) events: Events,
}

impl State {
    pub(crate) fn new(
        clock: BrokerClock,
        marks: Arc<Marks>,
        bounds: Bounds,
        events: Events,
    ) -> Self {
        let supplies = Arc::new(Alarm::default());
        let stock = Arc::new(Stock::new(Arc::clone(&supplies)));
        Self {
            clock,
            slots: Slots::new(bounds.slots, Arc::clone(&stock)),
            queues: Queues::new(),
            keys: Keys::new(),
            room: Room::new(bounds.capacity),
            holds: Holds::new(marks),
            expiries: Expiries::default(),
            ids: Ids::default(),
            schedule: Mutex::default(),
            letters: Letters::new(bounds.max_dead_letters),
            company: Company::default(),
            retries: AtomicU64::new(0),
            name_bytes_max: AtomicU64::new(0),
            timer: Timer::new(),
            disk: Alarm::default(),
            supplies,
            stock,
            sync_wish: Wish::default(),
            sync_now_wish: Wish::default(),
            write_wish: Wish::default(),
            rest: Alarm::default(),
            events,
        }
    }

    /// Notes that something came whose queue's name and key take so many bytes together: a snapshot has them.
    pub(crate) fn note_names(&self, bytes: u64) {
        // Nearly always there was a longer one.
        if bytes > self.name_bytes_max.load(Ordering::Relaxed) {
            self.name_bytes_max.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// A snapshot begins, which knows all names: answers the longest, to be noted again should nothing come of it.
    pub(crate) fn take_names(&self) -> u64 {
        self.name_bytes_max.swap(0, Ordering::Relaxed)
    }

    /// Tells of a dead letter. A reason that a handler gave is its own affair.
    pub(crate) fn tell_of_dead_letter(&self, queue: &Queue, id: u64, attempts: u32, reason: &str) {
        let reason = reason::told(reason);
        let (queue, attempts) = (&*queue.name, u64::from(attempts));
        event!(
            self.events,
            Warn,
            "dead_letter",
            queue = queue,
            id = id,
            attempts = attempts,
            reason = reason
        );
    }

    /// Takes the first ready message of a queue, if there is one and it may run. Whoever took it says so when it is in
    /// flight no more, see [`State::landed`]. One that has expired stays where it is, and is to end first.
    pub(crate) fn pop(&self, queue: &Queue) -> Option<Popped<'_>> {
        let mut ready = queue.ready();
        if ready.paused {
            return None;
        }
        loop {
            let (index, suspect) = ready.lanes.first()?;
            let mut guard = self.slots.at(index).lock();
            let is_ready = guard.state() == SlotState::Ready;
            if is_ready && guard.flags.has(Flag::Expires) && self.has_expired(index) {
                return Some(Popped::Expired { slot: index, id: guard.id() });
            }
            if is_ready && !self.company.enter(suspect) {
                return None;
            }
            ready.lanes.unlink(&self.slots, &mut guard);
            if is_ready {
                if guard.group != 0 {
                    ready.turns.take(guard.group, index);
                }
                queue.figures.took(&ready);
                return Some(Popped::Message(index, guard));
            }
        }
    }

    /// Whether a queue has a message that may run now; asked under the queue's lock.
    pub(crate) fn has_ready(&self, ready: &Ready) -> bool {
        !ready.paused
            && ready.lanes.first().is_some_and(|(_, suspect)| self.company.admits(suspect))
    }

    /// A message is in flight no more; `stays` if it will be tried again.
    pub(crate) fn landed(&self, suspect: bool, stays: bool) {
        let others_waited = self.company.leave(suspect);
        if suspect && !stays {
            self.company.suspect_gone();
        }
        if others_waited {
            self.ring_everywhere();
        }
    }

    /// A waiting suspect was replaced by a message that is none.
    pub(crate) fn cleared(&self) {
        if self.company.suspect_gone() {
            self.ring_everywhere();
        }
    }

    pub(super) fn ring_everywhere(&self) {
        for queue in self.queues.all() {
            queue.ring_all();
        }
    }

    /// How long the first ready message of a queue has been ready.
    pub(crate) fn oldest_ready_age(&self, queue: &Queue) -> Option<std::time::Duration> {
        let mut ready = queue.ready();
        let mut oldest = None;
        for priority in 0..PRIORITIES {
            while let Some(index) = ready.lanes.first_of(priority) {
                let mut guard = self.slots.at(index).lock();
                if guard.state() == SlotState::Ready {
                    oldest = earliest(oldest, Some(guard.due));
                    break;
                }
                ready.lanes.unlink(&self.slots, &mut guard);
            }
        }
        Some(self.clock.now().since(oldest?))
    }

    /// Whether the moment of a message that expires has come.
    pub(crate) fn has_expired(&self, index: u32) -> bool {
        self.expiries.moment_of(index).is_some_and(|moment| moment <= self.clock.now())
    }

    /// The slot of a live message, by the time of the answer perhaps not any more.
    pub(crate) fn find(&self, id: u64) -> Option<u32> {
        self.ids.find(id, || {
            for index in self.slots.claimed_for_good() {
                let Some(slot) = self.slots.visit(index) else { continue };
                let guard = slot.lock();
                if guard.state() != SlotState::Free {
                    self.ids.insert(guard.id(), index);
                }
            }
        })
    }

    /// Puts a message back that was popped and not taken after all.
    pub(crate) fn unpop(&self, index: u32, guard: Guard<'_>) {
        let queue = Arc::clone(self.queues.numbered(guard.queue.into()));
        let (id, suspect) = (guard.id(), guard.is_suspect());
        queue.figures.put_back();
        drop(guard);
        {
            let mut ready = queue.ready();
            let guard = self.slots.at(index).lock();
            // Meanwhile it may have expired, and the slot be another message's, of whatever queue.
            if guard.state() == SlotState::Ready && guard.id() == id {
                self.admit(&queue, &mut ready, index, guard);
            }
        }
        self.landed(suspect, true);
        // Without a handler the queue may be at rest by that.
        self.rest.ring_if_heard();
    }

    /// Makes what is due ready, and forgets guards that are over; answers when the next of all that is due.
    pub(crate) fn run_due(&self, now: Moment) -> Option<Moment> {
        loop {
            let (id, index) = {
                let mut schedule = lock(&self.schedule);
                match schedule.pop_due(now) {
                    Some(found) => found,
                    None => return earliest(schedule.next(), self.keys.forget_due(now)),
                }
            };
            let queue = {
                let guard = self.slots.at(index).lock();
                if guard.state() != SlotState::Delayed || guard.id() != id || guard.due > now {
                    continue;
                }
                Arc::clone(self.queues.numbered(guard.queue.into()))
            };
            let mut ready = queue.ready();
            let mut guard = self.slots.at(index).lock();
            if guard.state() == SlotState::Delayed && guard.id() == id && guard.due <= now {
                guard.set(SlotState::Ready);
                queue.figures.came(&ready);
                self.left_schedule(&queue, guard.attempts);
                self.rest.ring_if_heard();
                self.admit(&queue, &mut ready, index, guard);
            }
        }
    }

    /// Counts a message that waits no more: when what becomes of it is logged, so that whoever is shown that finds it counted
    /// once.
    pub(super) fn uncount(&self, queue: &Queue, waiting: &Guard<'_>) {
        match waiting.state() {
            SlotState::Ready => queue.figures.left(),
            SlotState::Delayed => self.left_schedule(queue, waiting.attempts),
            _ => {}
        }
    }

    /// Forgets that a message was delayed until then, before it was replaced or removed.
    pub(crate) fn unschedule(&self, index: u32, due: Moment, id: u64) {
        {
            let mut schedule = lock(&self.schedule);
            let guard = self.slots.at(index).lock();
            // What replaced it may be shown already, and due at the same moment: then the entry is its own.
            if guard.state() != SlotState::Delayed || guard.id() != id || guard.due != due {
                schedule.remove(due, id);
            }
        }
        self.rest.ring_if_heard();
    }

    fn left_schedule(&self, queue: &Queue, attempts: u32) {
        queue.figures.delayed.down();
        if attempts > 0 {
            self.retries.fetch_sub(1, Ordering::Release);
        }
    }

    /// Delayed messages that were attempted before. Acquire, so that one which left them for its lane is counted there.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Acquire)
    }

    /// A slot for a new message, and room for it; none where there is no room.
    pub(crate) fn claim(&self) -> Option<u32> {
        if self.room.take(1) { self.claim_in_place() } else { None }
    }

    /// Slots for so many new messages, and room for them; none where there is not enough.
    pub(crate) fn claim_all(&self, count: usize) -> Option<Vec<u32>> {
        if !self.room.take(count) {
            return None;
        }
        let slots = self.slots.claim_all(count);
        if slots.is_none() {
            self.room.free(count);
        }
        slots
    }

    /// A slot for a new message, whose place was taken already; that is given back where there is none.
    pub(crate) fn claim_in_place(&self) -> Option<u32> {
        let slot = self.slots.claim();
        if slot.is_none() {
            self.room.free(1);
        }
        slot
    }

    /// Gives a slot back that was claimed and not used, and its place.
    pub(crate) fn unclaim(&self, index: u32) {
        self.slots.free(index);
        self.room.free(1);
    }

    /// Adds a dead letter; answers whether it is parked, and needs a place.
    pub(crate) fn bury(&self, letter: DeadLetterEntry) -> bool {
        let Ok(queue) = self.queues.named(&letter.queue) else { return false };
        let Some(is_parked) = self.letters.add(letter) else { return false };
        queue.figures.dead.up();
        is_parked
    }

    /// Removes a dead letter.
    pub(crate) fn unbury(&self, id: u64) {
        let Some(Gone { letter, was_one_parked }) = self.letters.remove(id) else { return };
        if was_one_parked {
            self.room.free(1);
        }
        if let Ok(queue) = self.queues.named(&letter.queue) {
            queue.figures.dead.down();
        }
    }
}

/// The earlier of two moments that may not come.
pub(crate) fn earliest(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    [one, other].into_iter().flatten().min()
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Broker, Message, Options};

    /// Opens a broker with two suspects in the queue `suspects`.
    fn with_suspects(dir: &std::path::Path) -> Broker {
        let broker = Broker::open(dir, Options::new()).unwrap();
        broker.enqueue(Message::new("suspects", "first").dedup_key("k")).unwrap();
        broker.enqueue(Message::new("suspects", "second")).unwrap();
        let held = broker.receive_batch("suspects", 2, None, None).unwrap();
        assert_eq!(held.len(), 2);
        drop(broker);
        drop(held);
        let broker = Broker::open(dir, Options::new()).unwrap();
        assert_eq!(broker.recovery().suspects, 2);
        broker
    }

    /// The state behind a broker, by way of a delivery.
    fn state_of(broker: &Broker) -> Arc<State> {
        broker.enqueue(Message::new("aside", "")).unwrap();
        let delivery = broker.receive("aside", None, None).unwrap().unwrap();
        let state = Arc::clone(&delivery.shared.engine.buffer.state);
        delivery.ack().unwrap();
        state
    }

    /// A message that had been replaced was met in its lane, and counted as in flight until that was seen. A suspect that
    /// was asked for in that moment had to wait, and nobody told it that the moment was over.
    #[test]
    fn a_suspect_does_not_wait_for_a_message_which_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let broker = with_suspects(dir.path());
        let state = state_of(&broker);
        broker.enqueue(Message::new("ordinary", "")).unwrap();
        let index = state.queues.named("ordinary").unwrap().ready().lanes.first().unwrap().0;
        let mut guard = state.slots.at(index).lock();
        std::thread::scope(|scope| {
            let ordinary = scope.spawn(|| broker.receive("ordinary", Duration::ZERO, None));
            std::thread::sleep(Duration::from_millis(50));
            let suspect = broker.receive("suspects", Duration::ZERO, None).unwrap();
            assert!(suspect.is_some(), "it waits for what is none");
            // As a replace leaves it until it is shown.
            guard.set(SlotState::Pending);
            drop(guard);
            assert!(ordinary.join().unwrap().unwrap().is_none());
        });
    }

    /// A suspect that was replaced kept its place among the suspects. Met there, it held up everything else in the broker
    /// until it was seen to be none; and beside others it was not handed out itself, nor were they from then on.
    #[test]
    fn what_is_a_suspect_no_more_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let broker = with_suspects(dir.path());
        let state = state_of(&broker);
        broker.enqueue(Message::new("ordinary", "")).unwrap();
        broker.enqueue(Message::new("suspects", "new").dedup_key("k")).unwrap();
        let index = state.queues.named("suspects").unwrap().ready().lanes.first().unwrap().0;
        let guard = state.slots.at(index).lock();
        std::thread::scope(|scope| {
            let replaced = scope.spawn(|| broker.receive("suspects", Duration::ZERO, None));
            std::thread::sleep(Duration::from_millis(50));
            let ordinary = broker.receive("ordinary", Duration::ZERO, None).unwrap();
            assert!(ordinary.is_some(), "held up");
            drop(guard);
            let replaced = replaced.join().unwrap().unwrap();
            assert_eq!(replaced.unwrap().body(), b"new");
        });
    }
}
