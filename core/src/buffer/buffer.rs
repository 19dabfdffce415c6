//! The buffer: decide, log, show.
//!
//! Every operation decides first (under a slot's guard, and the locks of the keys it concerns), then logs what it
//! decided, and leaves the effect to be shown when the record has reached its level. A decision whose record could not
//! be logged is taken back.

use std::time::Duration;

use super::batch::Batch;
use super::effect::Effect;
use super::entry::Entry;
use super::envelope::Envelope;
use super::new_message::NewMessage;
use super::plan::{Fate, Few, Plan, records};
use super::queue::Queue;
use super::reason;
use super::settle::{Outcome, Write, stale};
use super::slot::{NONE, State as SlotState};
use super::state::{Popped, State};
use super::token::Tokens;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::journal::{Appended, Bytes, Journal, Level, Need, Pending, Record};
use crate::storage::Mark;
use crate::sync::atomic::AtomicBool;
use crate::sync::{Arc, Mutex, lock};

/// What became of an enqueued message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enqueued {
    Accepted(u64),
    Replaced(u64),
    Duplicate(u64),
}

/// What was enqueued, and what has still to be reached before its caller may be told.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) enqueued: Few<Enqueued>,
    pub(crate) owed: Owed,
}

/// Positions that have still to reach a level: below each, everything has to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) written: u64,
    pub(crate) synced: u64,
}

impl Owed {
    /// One more.
    pub(super) fn add(&mut self, level: Level, end: u64) {
        let mark = match level {
            Level::Os => &mut self.written,
            Level::Sync => &mut self.synced,
        };
        *mark = end.max(*mark);
    }

    /// Another's, too.
    pub(crate) fn add_all(&mut self, other: Self) {
        self.written = self.written.max(other.written);
        self.synced = self.synced.max(other.synced);
    }
}

/// A message that was taken: leased, and its attempt marked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) slot: u32,
    /// Where its content was then.
    version: u64,
    pub(crate) lease: u64,
    pub(crate) token: u64,
    pub(crate) key: u32,
    pub(crate) id: u64,
    /// The number of this attempt, from 1.
    pub(crate) attempt: u32,
    /// Its number among what is held.
    pub(crate) hold: u32,
}

impl Taken {
    pub(crate) fn has_key(&self) -> bool {
        self.key != NONE
    }
}

/// When a message whose attempts or crashes are used up is taken, it is a dead letter instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_retries: u32,
    pub(crate) max_crashes: u32,
}

/// Messages over a journal.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) state: Arc<State>,
    pub(crate) journal: Journal<State>,
    pub(super) tokens: Tokens,
    /// The queues of which handlers have acked something that may not be logged.
    pub(super) acked: Mutex<Vec<u32>>,
    /// The log had no room for acks of handlers. Relaxed: whoever sets it rings the keeper of the disk.
    pub(super) owes_acks: AtomicBool,
}

impl Buffer {
    pub(crate) fn new(state: Arc<State>, journal: Journal<State>) -> Self {
        let tokens = Tokens::new(journal.opening());
        let (acked, owes_acks) = (Mutex::default(), AtomicBool::new(false));
        Self { state, journal, tokens, acked, owes_acks }
    }

    /// Logs that the broker was opened, and what was being handled when its last owner died.
    pub(crate) fn log_open(&self, held: Vec<u64>) -> Result<()> {
        let (opening, at) = (self.journal.opening(), self.state.clock.now());
        self.log(&Entry::Open { opening, at, held }, Level::Os)
    }

    /// Logs the time, which a manual clock would else forget.
    pub(crate) fn log_time(&self) -> Result<()> {
        self.log(&Entry::Time { at: self.state.clock.now() }, Level::Os)
    }

    /// Reserves more tokens, if nobody else has meanwhile.
    fn reserve_tokens(&self) -> Result<()> {
        let _turn = lock(&self.tokens.reserving);
        if self.tokens.run_low() {
            let end = self.tokens.next_end();
            self.log(&Entry::Tokens { end }, Level::Sync)?;
            self.tokens.reserved(end);
        }
        Ok(())
    }

    fn log(&self, entry: &Entry, level: Level) -> Result<()> {
        let mut body = Vec::new();
        entry.encode(&mut body);
        let body = [&body[..]];
        let record = Record::new(entry.kind(), &body);
        let appended = self.journal.append(Need::Settle, &[record], |_, _| {})?;
        self.journal.commit(level, appended.end)
    }

    /// Enqueues messages of one call: all or none, answered when all have reached their level. `wait` is how long to
    /// wait for room.
    pub(crate) fn enqueue(
        &self,
        messages: &[NewMessage<'_>],
        wait: Duration,
        interrupt: &Interrupt,
    ) -> Result<Few<Enqueued>> {
        self.journal.relieve()?;
        let begun = match Batch::claim(&self.state, messages) {
            Some(batch) if batch.is_to_be_written() => return self.write_batch(batch),
            Some(batch) => self.begin_batch(batch)?,
            None => self.begin(messages, wait, interrupt)?,
        };
        self.reach(begun.owed)?;
        Ok(begun.enqueued)
    }

    /// As [`Buffer::enqueue`], of one; `wait` is asked where there is no room, or might be none.
    pub(crate) fn enqueue_one(
        &self,
        message: &NewMessage<'_>,
        wait: impl FnOnce() -> Duration,
        interrupt: &Interrupt,
    ) -> Result<Enqueued> {
        if message.key().is_none() {
            self.journal.relieve()?;
            if let Some(slot) = self.state.claim() {
                let appended = match message.level {
                    Level::Os => self.write_new(message, slot)?,
                    Level::Sync => {
                        let appended = self.begin_new(message, slot)?;
                        self.journal.sync_to(appended.end)?;
                        appended
                    }
                };
                return Ok(Enqueued::Accepted(appended.start));
            }
        }
        let enqueued = self.enqueue(std::slice::from_ref(message), wait(), interrupt)?;
        enqueued.first().copied().ok_or_else(Error::closed)
    }

    /// Whether that much is reached without a sync: by a write at most, and by showing what is synced.
    pub(crate) fn needs_no_sync(&self, owed: Owed) -> bool {
        owed.synced <= self.journal.durable()
    }

    /// Returns when this much is synced, if it has to be. What waited for that is still to be shown, by a [`Buffer::reach`].
    pub(crate) fn make_durable(&self, owed: Owed) -> Result<()> {
        self.journal.make_durable(owed.synced)
    }

    /// Returns when this much is written and synced, and shown, unless the journal has ended meanwhile.
    pub(crate) fn reach(&self, owed: Owed) -> Result<()> {
        if owed.synced > 0 {
            self.journal.sync_to(owed.synced)?;
        }
        if owed.written > 0 {
            self.journal.commit(Level::Os, owed.written)?;
        }
        Ok(())
    }

    /// Enqueues messages as [`Buffer::enqueue`] does, and leaves it to the caller to see to it that they reach their
    /// level, and to tell nobody before.
    pub(crate) fn begin(
        &self,
        messages: &[NewMessage<'_>],
        wait: Duration,
        interrupt: &Interrupt,
    ) -> Result<Begun> {
        self.journal.relieve()?;
        if let [message] = messages
            && message.key().is_none()
            && let Some(slot) = self.state.claim()
        {
            let appended = self.begin_new(message, slot)?;
            let mut owed = Owed::default();
            owed.add(message.level, appended.end);
            return Ok(Begun {
                enqueued: Few::from_buf([Enqueued::Accepted(appended.start)]),
                owed,
            });
        }
        if let Some(batch) = Batch::claim(&self.state, messages) {
            return self.begin_batch(batch);
        }
        self.make_room(messages.len());
        let mut places = 0;
        loop {
            let keys =
                messages.iter().filter_map(|message| Some((message.queue.number, message.key()?)));
            let shards = keys.map(|(queue, key)| self.state.keys.shard_of(queue, key)).collect();
            let given = std::mem::take(&mut places);
            let mut plan = Plan::new(&self.state, self.state.keys.lock(shards), given);
            if messages.iter().try_for_each(|message| plan.add(message)).is_some() {
                return self.log_plan(plan, messages);
            }
            // It has places for some of them.
            drop(plan);
            let room = &self.state.room;
            if wait.is_zero() {
                return Err(room.full(messages.len()));
            }
            // Each message may need a place; those it turns out not to need are given back at once.
            if !room.wait(messages.len(), wait, interrupt) {
                if room.is_closed() {
                    return Err(Error::closed());
                }
                self.journal.check()?;
                return Err(room.full(messages.len()));
            }
            places = messages.len();
        }
    }

    /// Where there is no room for so many messages, gives back at once the places of those that were acked already: but not where the
    /// log has none for that, which whoever keeps the disk looks after.
    pub(crate) fn make_room(&self, messages: usize) {
        if self.state.room.lacks(messages) && !self.owes_acks() {
            let _ = self.write();
        }
    }

    /// Takes the next message of a queue, if there is one that may run now. Whoever took it gives its hold back when it
    /// is settled.
    pub(crate) fn take(&self, queue: &Queue, limits: Limits) -> Result<Option<Taken>> {
        // Its end could not be logged, so it would be handled once more after the next open.
        self.journal.check()?;
        let state = &*self.state;
        loop {
            if self.tokens.run_low() {
                self.reserve_tokens()?;
            }
            let (slot, mut guard) = match state.pop(queue) {
                Some(Popped::Message(slot, guard)) => (slot, guard),
                Some(Popped::Expired { slot, id }) => {
                    self.expire(slot, id)?;
                    continue;
                }
                None => return Ok(None),
            };
            let (lease, token) = self.tokens.next();
            let (id, attempt) = (guard.id(), guard.attempts.saturating_add(1));
            let spent = spent(guard.attempts, guard.crashes, limits);
            let hold = match spent {
                Some(_) => NONE,
                None => match state.holds.take(Mark { token, id, attempt }) {
                    Ok(hold) => hold,
                    Err(error) => {
                        state.unpop(slot, guard);
                        return Err(error);
                    }
                },
            };
            guard.set_taken(lease);
            let (version, key) = (guard.version, guard.key);
            let taken = Taken { slot, version, lease, token, key, id, attempt, hold };
            drop(guard);
            match spent {
                // Leased for a moment, so that it is settled like any other; and written, so that whoever is told that
                // nothing came finds the dead letter.
                Some((reason, error)) => {
                    let settled = self
                        .settle(
                            queue,
                            &taken,
                            Outcome::Spent { reason, error },
                            Write::Later,
                            || (),
                        )
                        .inspect_err(|_| self.give_back(&taken))?;
                    self.journal.commit(Level::Os, settled.end)?;
                }
                None => return Ok(Some(taken)),
            }
        }
    }

    /// Makes a message ready again that was taken and not handed out, as if nobody had taken it.
    pub(crate) fn put_back(&self, taken: &Taken) {
        self.give_back(taken);
        self.state.holds.give(taken.hold);
    }

    /// Makes a message ready again whose end could not be logged.
    fn give_back(&self, taken: &Taken) {
        if let Some(mut guard) = self.state.slots.at(taken.slot).lock_lease(taken.lease) {
            guard.set(SlotState::Ready);
            self.state.unpop(taken.slot, guard);
        }
    }

    /// The content of a message that was taken.
    ///
    /// # Errors
    /// `CORRUPT`, `IO`: what is on disk cannot be read any more; `STALE_LEASE`.
    pub(crate) fn content(&self, taken: &Taken) -> Result<Bytes> {
        let mut place = taken.version;
        loop {
            match self.journal.read(place) {
                Ok((_, content)) => return Ok(content),
                // Since it was taken it may have been written again, and its old segment removed.
                Err(error) => {
                    let slot = self.state.slots.at(taken.slot);
                    let now = slot.lock_lease(taken.lease).map(|slot| slot.version);
                    match now.ok_or_else(|| stale(taken))? {
                        moved if moved != place => place = moved,
                        _ => return Err(error),
                    }
                }
            }
        }
    }

    /// Enqueues one message without a key, which concerns nothing that is there, in this slot: there is nothing to plan.
    fn begin_new(&self, message: &NewMessage<'_>, slot: u32) -> Result<Appended> {
        let appended = message.with_record(|record| {
            self.journal.append(Need::Grow, std::slice::from_ref(record), |position, pending| {
                self.fill_new(message, slot, position, pending);
            })
        });
        appended.inspect_err(|_| self.state.unclaim(slot))
    }

    /// As [`Buffer::begin_new`], and writes it.
    fn write_new(&self, message: &NewMessage<'_>, slot: u32) -> Result<Appended> {
        let finish = |position, pending: &mut Pending<'_, Effect>, is_alone: bool| {
            if !is_alone {
                self.fill_new(message, slot, position, pending);
            }
        };
        let led = message.with_record(|record| {
            self.journal.append_and_lead(Need::Grow, std::slice::from_ref(record), finish)
        });
        let led = led.inspect_err(|_| self.state.unclaim(slot))?;
        let (appended, is_alone) = (led.appended, led.is_alone());
        let shown = self.journal.follow(led, || self.state.show_new(message, slot, appended.start));
        shown.inspect_err(|_| {
            // Else others may have shown it.
            if is_alone {
                self.state.unclaim(slot);
            }
        })?;
        Ok(appended)
    }

    /// Makes a slot that was claimed a new message's, whose record stands at `position`.
    pub(super) fn fill_new(
        &self,
        envelope: &Envelope<'_>,
        slot: u32,
        position: u64,
        pending: &mut Pending<'_, Effect>,
    ) {
        let state = &*self.state;
        envelope.queue.figures.was_appended(pending);
        envelope.move_in(state, slot, &mut state.slots.at(slot).lock(), position);
        pending.at(envelope.level, envelope.shown(slot, position));
    }

    /// Logs a plan; what is owed is its level, and that of the messages it found to be duplicates of.
    fn log_plan(&self, mut plan: Plan<'_>, messages: &[NewMessage<'_>]) -> Result<Begun> {
        let asked = messages.iter().map(|message| message.level).max().unwrap_or(Level::Os);
        let mut owed = Owed::default();
        let mut commit = plan.level().map(|level| (level, 0));
        let mut ids = Few::new();
        if let Some((_, end)) = &mut commit {
            let bodies = plan.bodies(messages);
            let pieces = bodies.pieces();
            let records: Few<_> = records(&pieces).collect();
            let appended = self.journal.append(Need::Grow, &records, |position, pending| {
                ids = plan.log(position, &bodies, pending);
            })?;
            *end = appended.end;
        }
        let fates = std::mem::take(&mut plan.fates);
        drop(plan);
        if let Some((level, end)) = commit {
            owed.add(level, end);
        }
        let id = |item: usize| ids.get(item).map_or(0, |(id, _)| *id);
        let enqueued = fates
            .into_iter()
            .zip(messages)
            .map(|(fate, message)| {
                let enqueued = match fate {
                    Fate::Accepted(item) => Enqueued::Accepted(id(item)),
                    Fate::Replaced(item) => Enqueued::Replaced(id(item)),
                    Fate::DuplicateOf(item) => {
                        if let Some((_, end)) = commit {
                            owed.add(message.level, end);
                        }
                        Enqueued::Duplicate(id(item))
                    }
                    Fate::Duplicate { id, version } => {
                        // The caller is told "it is there" only when it is as safe as the caller asked for.
                        owed.add(asked, version + 1);
                        Enqueued::Duplicate(id)
                    }
                };
                fate.count(message.queue);
                enqueued
            })
            .collect();
        Ok(Begun { enqueued, owed })
    }
}

/// Why a message must not be tried again, if so: the reason, and the error's text.
fn spent(attempts: u32, crashes: u8, limits: Limits) -> Option<(&'static str, &'static str)> {
    if u32::from(crashes) >= limits.max_crashes {
        Some((reason::CRASHED, "the process died in its handler"))
    } else if attempts > limits.max_retries {
        Some((reason::MAX_RETRIES, "its attempts were used up"))
    } else {
        None
    }
}
