//! Plans: what a call that brings messages decides, before anything is logged.
//!
//! A plan is made under the locks of all keys it concerns and holds the guards of the messages it replaces. It changes
//! keys as it goes, so that a later message of the same call sees what an earlier one did, and notes how to undo that.
//! Logged, its changes stand; dropped, everything is as it was.

use smallvec::SmallVec;

use super::effect::{Effect, Waiting};
use super::entry::kind;
use super::flags::Flag;
use super::head::HeadBytes;
use super::keys::{Guarding, Holders, LockedKeys};
use super::new_message::{NewMessage, Pieces};
use super::queue::Queue;
use super::slot::{Guard, NONE, State as SlotState};
use super::state::State;
use crate::clock::Moment;
use crate::journal::{Level, Pending, Record};

/// A list that takes no memory of its own while it has one entry, as nearly all have.
pub(crate) type Few<T> = SmallVec<[T; 1]>;

/// What becomes of one message of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is this item of the plan.
    Accepted(usize),
    /// It is this item of the plan, under the id of the message it replaces.
    Replaced(usize),
    /// This item of the plan holds the key.
    DuplicateOf(usize),
    /// A message that was there holds the key.
    Duplicate { id: u64, version: u64 },
}

impl Fate {
    /// Counts this fate of a message of the queue.
    pub(crate) fn count(self, queue: &Queue) {
        let figures = &queue.figures;
        match self {
            Self::Accepted(_) => figures.was_planned(),
            Self::Replaced(_) => {
                figures.was_planned();
                figures.replaced.up();
            }
            Self::DuplicateOf(_) | Self::Duplicate { .. } => figures.duplicates.up(),
        }
    }
}

/// A record the plan will write.
#[derive(Debug)]
struct Item {
    /// Which of the call's messages.
    message: usize,
    slot: u32,
    /// Where its guard is held, if its message is replaced; else the slot is new.
    held: Option<usize>,
    key: u32,
    behind: bool,
    level: Level,
}

/// A message that left the schedule because it was replaced.
#[derive(Debug)]
struct Unscheduled {
    slot: u32,
    due: Moment,
    id: u64,
}

#[derive(Debug)]
enum Undo {
    Insert(u32),
    Set(u32, Holders),
    Guard(u32, Box<str>, Option<Guarding>),
}

/// What a call decides.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    state: &'a State,
    keys: LockedKeys<'a>,
    items: Few<Item>,
    pub(crate) fates: Few<Fate>,
    held: Few<(u32, Guard<'a>)>,
    undo: Vec<Undo>,
    unscheduled: Vec<Unscheduled>,
    /// A key that nobody held for a while.
    vacated: Option<u32>,
    /// Suspects that were replaced by messages that are none.
    cleared: u32,
    /// The slot of a message that is behind no other any more; its guard is held.
    freed: Option<u32>,
    /// Places that are taken already and not used yet.
    places: usize,
    logged: bool,
}

impl<'a> Plan<'a> {
    /// An empty plan under these keys' locks, with places that were taken for it.
    pub(crate) fn new(state: &'a State, keys: LockedKeys<'a>, places: usize) -> Self {
        Self {
            state,
            keys,
            items: Few::new(),
            fates: Few::new(),
            held: Few::new(),
            undo: Vec::new(),
            unscheduled: Vec::new(),
            vacated: None,
            cleared: 0,
            freed: None,
            places,
            logged: false,
        }
    }

    /// Decides what becomes of the next message of the call; nothing, where there is no room for it.
    pub(crate) fn add(&mut self, message: &NewMessage<'_>) -> Option<()> {
        let number = self.fates.len();
        let fate = match message.key() {
            None => self.accept(number, message, NONE, false)?,
            Some(key) => match self.keys.find(message.queue.number, key) {
                Some((key, holders)) if holders.newest != NONE => {
                    self.add_held(number, message, key, holders)?
                }
                _ if let Some(fate) = self.guarded(message, key) => fate,
                None => {
                    let fate = self.accept(number, message, NONE, false)?;
                    let slot = self.items.last().map_or(NONE, |item| item.slot);
                    let key = self.keys.insert(message.queue.number, key, slot);
                    self.undo.push(Undo::Insert(key));
                    if let Some(item) = self.items.last_mut() {
                        item.key = key;
                    }
                    fate
                }
                Some((key, holders)) => {
                    let fate = self.accept(number, message, key, false)?;
                    let newest = self.items.last().map_or(NONE, |item| item.slot);
                    self.set_holders(key, holders, Holders { newest, older: NONE });
                    fate
                }
            },
        };
        self.fates.push(fate);
        Some(())
    }

    /// What a guard of its key makes of a message that nobody else keeps from it; a guard that stops it not, ends.
    fn guarded(&mut self, message: &NewMessage<'_>, key: &str) -> Option<Fate> {
        let queue = message.queue.number;
        let guarding = self.keys.guarding(queue, key)?;
        if message.keeps() && guarding.until > self.state.clock.now() {
            return Some(Fate::Duplicate { id: guarding.id, version: guarding.record });
        }
        self.set_guarding(queue, key, Some(guarding), None);
        None
    }

    /// Has a key, which nobody holds any more, guarded by a message that is done.
    pub(crate) fn guard_key(&mut self, key: u32, guarding: Guarding) {
        if let Some((queue, key)) = self.keys.name(key) {
            self.set_guarding(queue, &key, None, Some(guarding));
        }
    }

    /// Notes where the record stands that says who guards a key, unless a child has taken it away again.
    pub(crate) fn guard_is_logged(&mut self, key: u32, id: u64, record: u64) {
        let Some((queue, key)) = self.keys.name(key) else { return };
        if let Some(guarding) = self.keys.guarding(queue, &key).filter(|guard| guard.id == id) {
            self.keys.set_guarding(queue, &key, Some(Guarding { record, ..guarding }));
        }
    }

    fn set_guarding(
        &mut self,
        queue: u32,
        key: &str,
        from: Option<Guarding>,
        to: Option<Guarding>,
    ) {
        self.undo.push(Undo::Guard(queue, key.into(), from));
        self.keys.set_guarding(queue, key, to);
    }

    /// Whether another message waits behind this one, which holds this key.
    pub(crate) fn has_behind(&mut self, key: u32, slot: u32) -> bool {
        self.keys.holders(key).is_some_and(|holders| holders.older == slot)
    }

    /// Takes a message off its key; answers the id of the one behind it, which is no longer.
    pub(crate) fn leave(&mut self, key: u32, slot: u32) -> Option<u64> {
        let holders = self.keys.holders(key)?;
        if holders.older != slot {
            self.set_holders(key, holders, Holders { newest: holders.older, older: NONE });
            self.vacated = Some(key).filter(|_| holders.older == NONE);
            return None;
        }
        self.set_holders(key, holders, Holders { newest: holders.newest, older: NONE });
        let guard = self.state.slots.at(holders.newest).lock();
        let id = guard.id();
        self.held.push((holders.newest, guard));
        self.freed = Some(holders.newest);
        Some(id)
    }

    /// The level the whole plan has to reach.
    pub(crate) fn level(&self) -> Option<Level> {
        self.items.iter().map(|item| item.level).max()
    }

    /// The records' bodies, to be gathered by [`records`].
    pub(crate) fn bodies<'m>(&self, messages: &'m [NewMessage<'m>]) -> Bodies<'m> {
        let body = |item: &Item| {
            let message = messages.get(item.message)?;
            let id = match item.held {
                None => 0,
                Some(index) => self.held.get(index)?.1.id(),
            };
            Some((message.head(id, item.behind, item.level), message))
        };
        Bodies { bodies: self.items.iter().filter_map(body).collect() }
    }

    /// Makes the plan true, now that its first record stands at `position`. Runs under the tail's lock.
    pub(crate) fn log(
        &mut self,
        mut position: u64,
        bodies: &Bodies<'_>,
        pending: &mut Pending<'_, Effect>,
    ) -> Few<(u64, u64)> {
        let mut ids = Few::new();
        for (item, (head, message)) in self.items.iter().zip(&bodies.bodies) {
            let mut fresh;
            let replaces = item.held.is_some();
            let guard = match item.held {
                None => {
                    fresh = self.state.slots.at(item.slot).lock();
                    fresh.set_id(position);
                    fresh.key = item.key;
                    self.state.ids.insert(position, item.slot);
                    &mut fresh
                }
                Some(index) => match self.held.get_mut(index) {
                    Some((_, guard)) => guard,
                    None => continue,
                },
            };
            self.state.uncount(message.queue, guard);
            self.cleared += u32::from(replaces && guard.is_suspect());
            let group = if replaces { guard.group } else { 0 };
            message.fill(self.state, item.slot, guard, position, item.behind, item.level);
            if group != 0 && group != guard.group {
                let (slot, queue) = (item.slot, message.queue.number);
                pending.at(item.level, Effect::LeftGroup { slot, queue, group });
            }
            ids.push((guard.id(), position));
            pending.at(item.level, message.shown(item.slot, position));
            position += message.space_with(head.len()) as u64;
        }
        if let Some(slot) = self.freed
            && let Some((_, guard)) = self.held.iter_mut().find(|(held, _)| *held == slot)
        {
            guard.flags.set(Flag::Behind, false);
            if guard.state() == SlotState::Behind {
                guard.set(SlotState::Pending);
                let (queue, version) = (guard.queue.into(), guard.version);
                let waiting = Waiting { slot, queue, version, delayed: true };
                pending.at(Level::Os, Effect::Show(waiting));
            }
        }
        self.held.clear();
        self.logged = true;
        ids
    }

    fn set_holders(&mut self, key: u32, from: Holders, to: Holders) {
        self.undo.push(Undo::Set(key, from));
        self.keys.set(key, to);
    }

    fn add_held(
        &mut self,
        number: usize,
        message: &NewMessage<'_>,
        key: u32,
        holders: Holders,
    ) -> Option<Fate> {
        let newest = holders.newest;
        if let Some(index) = self.items.iter().position(|item| item.slot == newest) {
            if message.keeps() {
                return Some(Fate::DuplicateOf(index));
            }
            if let Some(item) = self.items.get_mut(index) {
                item.message = number;
                item.level = item.level.max(message.level);
            }
            return Some(Fate::Replaced(index));
        }
        if self.freed == Some(newest) {
            // Its guard is held already: it was behind the message that is being settled.
            let held = self.held.iter().position(|(slot, _)| *slot == newest);
            let Some((_, guard)) = held.and_then(|held| self.held.get(held)) else {
                return Some(Fate::DuplicateOf(0));
            };
            if message.keeps() {
                return Some(Fate::Duplicate { id: guard.id(), version: guard.version });
            }
            let level = guard.level().max(message.level);
            self.items.push(Item {
                message: number,
                slot: newest,
                held,
                key,
                behind: false,
                level,
            });
            return Some(Fate::Replaced(self.items.len() - 1));
        }
        let guard = self.state.slots.at(newest).lock();
        if message.keeps() {
            return Some(Fate::Duplicate { id: guard.id(), version: guard.version });
        }
        if guard.state() == SlotState::Taken {
            drop(guard);
            let fate = self.accept(number, message, key, true)?;
            let slot = self.items.last().map_or(NONE, |item| item.slot);
            self.set_holders(key, holders, Holders { newest: slot, older: newest });
            return Some(fate);
        }
        if guard.state() == SlotState::Delayed {
            let (due, id) = (guard.due, guard.id());
            self.unscheduled.push(Unscheduled { slot: newest, due, id });
        }
        self.items.push(Item {
            message: number,
            slot: newest,
            held: Some(self.held.len()),
            key,
            behind: guard.flags.has(Flag::Behind),
            level: guard.level().max(message.level),
        });
        self.held.push((newest, guard));
        Some(Fate::Replaced(self.items.len() - 1))
    }

    fn accept(
        &mut self,
        number: usize,
        message: &NewMessage<'_>,
        key: u32,
        behind: bool,
    ) -> Option<Fate> {
        let slot = if self.places > 0 {
            self.places -= 1;
            self.state.claim_in_place()?
        } else {
            self.state.claim()?
        };
        self.items.push(Item {
            message: number,
            slot,
            held: None,
            key,
            behind,
            level: message.level,
        });
        Some(Fate::Accepted(self.items.len() - 1))
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        self.held.clear();
        if self.places > 0 {
            self.state.room.free(self.places);
        }
        if self.logged {
            if let Some(key) = self.vacated
                && self.keys.holders(key).is_some_and(|holders| holders.newest == NONE)
            {
                self.keys.remove(key);
            }
            for gone in self.unscheduled.drain(..) {
                self.state.unschedule(gone.slot, gone.due, gone.id);
            }
            (0..self.cleared).for_each(|_| self.state.cleared());
            return;
        }
        for undo in self.undo.drain(..).rev() {
            match undo {
                Undo::Insert(key) => self.keys.remove(key),
                Undo::Set(key, holders) => self.keys.set(key, holders),
                Undo::Guard(queue, key, guarding) => self.keys.set_guarding(queue, &key, guarding),
            }
        }
        for item in self.items.iter().filter(|item| item.held.is_none()) {
            self.state.unclaim(item.slot);
        }
    }
}

/// The bodies of a plan's records, in pieces that are gathered only in the journal.
#[derive(Debug)]
pub(crate) struct Bodies<'m> {
    bodies: Few<(HeadBytes, &'m NewMessage<'m>)>,
}

impl Bodies<'_> {
    /// The pieces of every body, in order.
    pub(crate) fn pieces(&self) -> Few<Pieces<'_>> {
        self.bodies.iter().map(|(head, message)| message.pieces(head)).collect()
    }
}

/// The records over these pieces.
pub(crate) fn records<'p>(pieces: &'p [Pieces<'p>]) -> impl Iterator<Item = Record<'p>> {
    pieces.iter().map(|parts| Record::new(kind::MESSAGE, parts))
}
