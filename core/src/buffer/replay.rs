//! Replay: the state that a log and its snapshot describe.
//!
//! Every entry overwrites what it names, so it does not matter that a snapshot has some of the log's effects already.
//! What was being handled when a process died is known to the marks; the next opening logs it, see
//! [`Replayed::reopen`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use super::ascending::Ascending;
use super::entry::{DeadLetterEntry, Entry, Guarded, MessageEntry, SnapshotEntry, kind};
use super::expiries::Expiry;
use super::flags::{Flag, Flags};
use super::kept::{Before, Kept};
use super::keys::{Guarding, Holders};
use super::queue::ReadyGuard;
use super::slot::{Data, NONE};
use super::state::{Bounds, State};
use super::token;
use super::turns::group_number;
use crate::clock::{BrokerClock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::journal::{Live, Replay, SnapshotWriter};
use crate::limits;
use crate::storage::{Mark, Marks};
use crate::sync::Arc;

/// A message, as far as the log tells.
#[derive(Clone, Debug)]
struct Message {
    version: u64,
    due: Moment,
    queue: u32,
    key: Option<Box<str>>,
    attempts: u32,
    crashes: u8,
    flags: Flags,
    priority: u8,
    /// Its group's number, or 0.
    group: u64,
    /// Few do, and all are in memory at once.
    expiry: Option<Box<Expiry>>,
    /// It was being handled when the last opening ended.
    crashed: bool,
}

impl Message {
    /// The text of its last failure, if it expires.
    fn error(&self) -> &str {
        self.expiry.as_ref().map_or("", |expiry| &expiry.error)
    }
}

/// What replay has come to.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    messages: Ascending<Message>,
    dead: BTreeMap<u64, DeadLetterEntry>,
    /// The keys that messages guard which are done: the id, and until when.
    guarded: HashMap<(u32, Box<str>), (u64, Moment)>,
    queues: Vec<Box<str>>,
    queue_numbers: HashMap<Box<str>, u32>,
    /// The queue that was named last, which nearly always is named again.
    last_queue: u32,
    /// The snapshot's last message.
    kept_before: Before,
    /// The most bytes that a queue's name and a key take together, of the log's messages.
    name_bytes_max: u64,
    /// What some message ever was: to look at all of them takes a tenth of an opening.
    was: Ever,
    /// The latest moment seen.
    last_seen: Moment,
    /// The last opening that was logged, by its first token.
    opening: u64,
    /// The end of the tokens that may have been given.
    tokens_end: u64,
    /// The queues of the messages that the last opening found superseded, and whether each was being handled.
    superseded: Vec<(u32, bool)>,
}

/// What some message ever was since it was last seen to be none.
#[derive(Clone, Copy, Debug, Default)]
struct Ever {
    behind: bool,
    crashed: bool,
    failed: bool,
}

/// What an opening found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) messages: u64,
    pub(crate) dead_letters: u64,
    pub(crate) suspects: u64,
}

impl Replayed {
    /// The latest moment that the log has seen.
    pub(crate) fn last_seen(&self) -> Moment {
        self.last_seen
    }

    /// The opening that comes after all that is known, whose last is this.
    pub(crate) fn next_opening(&self, last: u64) -> u64 {
        token::next_opening(last.max(self.opening), self.tokens_end, SystemTime::now())
    }

    /// Messages that are no dead letters.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// What lives. The names are those of all that the log has brought since the newest snapshot.
    pub(crate) fn live(&self) -> Live {
        let of_letters: u64 = self.dead.values().map(DeadLetterEntry::text_bytes).sum();
        let failed = self.messages.values().take_while(|_| self.was.failed);
        let of_messages: u64 = failed.map(|message| message.error().len() as u64).sum();
        Live {
            messages: self.messages.len() as u64 + self.dead.len() as u64,
            guards: self.guarded.len() as u64,
            text_bytes: of_letters + of_messages,
            name_bytes_max: self.name_bytes_max,
        }
    }

    /// Writes all of it to a snapshot.
    pub(crate) fn write(&self, writer: &mut SnapshotWriter<'_>) -> Result<()> {
        let queue = |number: u32| self.queues.get(number as usize).map_or("", |name| name);
        writer.entry(|out| SnapshotEntry::encode_time(self.last_seen, out))?;
        writer.entry(|out| SnapshotEntry::encode_tokens(self.opening, self.tokens_end, out))?;
        let mut before = Before::default();
        for (id, message) in self.messages.iter() {
            let kept = Kept {
                id,
                version: message.version,
                due: message.due,
                attempts: message.attempts,
                crashes: message.crashes,
                flags: message.flags,
                priority: message.priority,
                group: message.group,
                expires: message.expiry.as_ref().map(|expiry| expiry.moment),
                error: message.error(),
                queue: queue(message.queue),
                key: message.key.as_deref(),
            };
            writer.entry(|out| SnapshotEntry::encode_kept(&kept, before, out))?;
            before = kept.before();
        }
        for ((number, key), (id, until)) in &self.guarded {
            let guarded = Guarded { id: *id, until: *until, queue: queue(*number), key };
            writer.entry(|out| guarded.encode(out))?;
        }
        self.dead.values().try_for_each(|letter| writer.entry(|out| letter.encode(out)))
    }

    /// The positions of all contents that something still refers to.
    pub(crate) fn versions(&self) -> impl Iterator<Item = u64> {
        let messages = self.messages.values().map(|message| message.version);
        messages.chain(self.dead.values().map(|letter| letter.version))
    }

    /// The ids of the messages that were being handled when the last owner died, as its marks say. Marks of an opening
    /// before the last one that is known of are old news, and an attempt that has ended since is over.
    pub(crate) fn held(&self, marks: &[Mark]) -> Vec<u64> {
        let is_held = |mark: &&Mark| {
            mark.token >= self.opening
                && self.messages.get(mark.id).is_some_and(|message| message.attempts < mark.attempt)
        };
        let mut held: Vec<u64> = marks.iter().filter(is_held).map(|mark| mark.id).collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    /// What follows from the fact that whoever had the broker open is gone: those messages were being handled when the
    /// process died, and what another message waits behind is superseded.
    pub(crate) fn reopen(&mut self, held: &[u64]) {
        self.superseded = if self.was.behind { self.supersede(held) } else { Vec::new() };
        if self.was.behind || self.was.crashed {
            for message in self.messages.values_mut() {
                message.flags.set(Flag::Behind, false);
                message.crashed = false;
            }
        }
        (self.was.behind, self.was.crashed) = (false, !held.is_empty());
        for id in held {
            if let Some(message) = self.messages.get_mut(*id) {
                message.crashed = true;
                message.flags.set(Flag::Holds, true);
                message.crashes = message.crashes.saturating_add(1);
            }
        }
    }

    /// Takes away what another message waits behind.
    fn supersede(&mut self, held: &[u64]) -> Vec<(u32, bool)> {
        let mut behind: HashMap<(u32, Box<str>), u64> = HashMap::new();
        for (id, message) in self.messages.iter() {
            if let (true, Some(key)) = (message.flags.has(Flag::Behind), &message.key) {
                behind.insert((message.queue, key.clone()), id);
            }
        }
        let superseded = self.messages.extract(|id, message| {
            let holder =
                message.key.as_ref().and_then(|key| behind.get(&(message.queue, key.clone())));
            holder.is_some_and(|newest| *newest != id)
        });
        let superseded = superseded.into_iter();
        superseded.map(|(id, message)| (message.queue, held.contains(&id))).collect()
    }

    /// What there is, once it was reopened.
    pub(crate) fn found(&self) -> Found {
        Found {
            messages: self.messages.len() as u64,
            dead_letters: self.dead.len() as u64,
            suspects: self.crashed().count() as u64,
        }
    }

    fn crashed(&self) -> impl Iterator<Item = &Message> {
        let all = self.messages.values().take_while(|_| self.was.crashed);
        all.filter(|message| message.crashed)
    }

    /// Makes a state of it.
    ///
    /// # Errors
    /// `INVALID` where the directory holds more messages than there can be slots.
    pub(crate) fn into_state(
        self,
        clock: BrokerClock,
        marks: Arc<Marks>,
        bounds: Bounds,
        events: Events,
    ) -> Result<(State, Found)> {
        let found = self.found();
        let state = State::new(clock, marks, bounds, events);
        for name in &self.queues {
            state.queues.named(name)?;
        }
        let slots = state.slots.claim_fresh(self.messages.len()).ok_or_else(|| {
            let text = "capacity is far below the messages in the directory";
            Error::new(ErrorKind::Invalid, text)
        })?;
        state.room.force(self.messages.len());
        let (now, mut held_groups) = (state.clock.now(), HashSet::new());
        // The queue of the message before, locked: mostly it is that of the next one, too.
        let mut locked: Option<(u32, ReadyGuard<'_>)> = None;
        for (slot, (id, mut message)) in slots.zip(self.messages.into_ordered()) {
            // A mark may outlive the records before it. Then more than one message of a group came back; the first is it.
            if message.group != 0
                && message.flags.has(Flag::Holds)
                && !held_groups.insert((message.queue, message.group))
            {
                message.flags.set(Flag::Holds, false);
            }
            let number = message.queue;
            let queue = state.queues.numbered(number);
            if message.crashes > 0 {
                state.company.suspect_found();
            }
            if message.crashed {
                queue.figures.crashes.up();
            }
            let key = message.key.map_or(NONE, |key| {
                // The locks of keys come first.
                locked = None;
                let mut keys = state.keys.lock(vec![state.keys.shard_of(number, &key)]);
                match keys.find(number, &key) {
                    Some((number, _)) => {
                        keys.set(number, Holders { newest: slot, older: NONE });
                        number
                    }
                    None => keys.insert(number, &key, slot),
                }
            });
            if let Some(expiry) = message.expiry {
                state.expiries.set(slot, *expiry);
            }
            let data = Data {
                version: message.version,
                due: message.due,
                group: message.group,
                key,
                attempts: message.attempts,
                queue: u16::try_from(number).unwrap_or(u16::MAX),
                crashes: message.crashes,
                priority: message.priority,
                flags: message.flags,
                ..Data::EMPTY
            };
            if locked.as_ref().is_some_and(|(other, _)| *other != number) {
                locked = None;
            }
            let (_, ready) = locked.get_or_insert_with(|| (number, queue.ready()));
            state.show_found(queue, ready, slot, id, data, message.due <= now);
        }
        drop(locked);
        for ((queue, key), (id, until)) in self.guarded {
            if until > state.clock.now() {
                let mut keys = state.keys.lock(vec![state.keys.shard_of(queue, &key)]);
                keys.set_guarding(queue, &key, Some(Guarding { id, until, record: 0 }));
            }
        }
        for (queue, was_held) in self.superseded {
            let figures = &state.queues.numbered(queue).figures;
            figures.replaced.up();
            if was_held {
                figures.crashes.up();
            }
        }
        for (_, letter) in self.dead {
            if state.bury(letter) {
                state.room.force(1);
            }
        }
        Ok((state, found))
    }

    /// The number of a queue; none for what is no name of one. A checksum is no secret, and names come to logs, to metrics
    /// and to handlers, who rely on what is in them.
    fn queue(&mut self, name: &[u8]) -> Option<u32> {
        let last = self.queues.get(self.last_queue as usize);
        if last.is_some_and(|last| last.as_bytes() == name) {
            return Some(self.last_queue);
        }
        let name = std::str::from_utf8(name).ok()?;
        if let Some(number) = self.queue_numbers.get(name) {
            self.last_queue = *number;
            return Some(*number);
        }
        if !limits::is_queue_name(name) {
            return None;
        }
        let number = u32::try_from(self.queues.len()).ok()?;
        self.queues.push(name.into());
        self.queue_numbers.insert(name.into(), number);
        Some(number)
    }

    fn message(&mut self, position: u64, body: &[u8]) -> Option<()> {
        let entry = MessageEntry::decode(body)?;
        let head = entry.head;
        // What brought it came before what was written again.
        (head.id < position).then_some(())?;
        let id = if head.id == 0 { position } else { head.id };
        let queue = self.queue(entry.queue).filter(|_| head.priority <= limits::PRIORITY_MAX)?;
        self.see(head.enqueued_at);
        let names = entry.queue.len() + entry.key.map_or(0, str::len);
        self.name_bytes_max = self.name_bytes_max.max(names as u64);
        self.was.behind |= head.flags.has(Flag::Behind);
        if !self.dead.is_empty() {
            self.dead.remove(&id);
        }
        // A new one; what was written again may be on its way back to the dead letters.
        if let (0, Some(key)) = (head.id, entry.key) {
            self.guarded.remove(&(queue, key.into()));
        }
        // What was written again is what it was.
        let before = (head.id != 0).then(|| self.messages.remove(id)).flatten();
        self.messages.insert(
            id,
            Message {
                version: position,
                due: head.due,
                queue,
                key: entry.key.map(Into::into),
                attempts: head.attempts,
                crashes: head.crashes,
                flags: head.flags,
                priority: head.priority,
                group: entry.group.map_or(0, group_number),
                expiry: head.expires.map(|moment| {
                    let error = before.and_then(|before| before.expiry).map(|expiry| expiry.error);
                    Box::new(Expiry { moment, error: error.unwrap_or_default() })
                }),
                crashed: false,
            },
        );
        Some(())
    }

    /// None where there are no such tokens.
    fn opened(&mut self, opening: u64, tokens_end: u64) -> Option<()> {
        self.opening = self.opening.max(opening);
        self.tokens_end = self.tokens_end.max(tokens_end);
        token::is_possible(opening.max(tokens_end)).then_some(())
    }

    fn entry(&mut self, entry: Entry) -> Option<()> {
        match entry {
            Entry::Open { opening, at, held } => {
                self.see(at);
                self.opened(opening, token::end_of_first_block(opening))?;
                self.reopen(&held);
            }
            Entry::Wait { id, version, attempts, due, at, error } => {
                self.see(at);
                if let Some(message) = self.version(id, version) {
                    message.attempts = attempts;
                    message.due = due;
                    message.flags.set(Flag::Holds, true);
                    if let Some(expiry) = message.expiry.as_mut().filter(|_| !error.is_empty()) {
                        expiry.error = error.into();
                        self.was.failed = true;
                    }
                }
            }
            Entry::Gone { id, version, next, at } => {
                self.see(at);
                self.freed(next);
                if self.version(id, version).is_some() {
                    self.messages.remove(id);
                }
            }
            Entry::Dead { id, version, next, attempts, at, reason, error } => {
                self.see(at);
                self.freed(next);
                // A dead letter that was written again follows its message in one group, and names no version.
                let Some(message) = self.messages.get(id) else { return Some(()) };
                if version != 0 && message.version != version {
                    return Some(());
                }
                let (queue, version) = (message.queue, message.version);
                self.messages.remove(id);
                let queue = self.queues.get(queue as usize).cloned().unwrap_or_default().into();
                let letter = DeadLetterEntry { id, version, queue, attempts, at, reason, error };
                self.dead.insert(id, letter);
            }
            Entry::Undead { id } => {
                self.dead.remove(&id);
            }
            Entry::Time { at } => self.see(at),
            Entry::Tokens { end } => self.opened(0, end)?,
            Entry::Acked { at, ids } => {
                self.see(at);
                for id in ids {
                    self.messages.remove(id);
                }
            }
            Entry::Done { id, version, until, at } => {
                self.see(at);
                if self.version(id, version).is_some()
                    && let Some(Message { queue, key: Some(key), .. }) = self.messages.remove(id)
                {
                    self.guarded.insert((queue, key), (id, until));
                }
            }
        }
        Some(())
    }

    fn version(&mut self, id: u64, version: u64) -> Option<&mut Message> {
        self.messages.get_mut(id).filter(|message| message.version == version)
    }

    fn freed(&mut self, next: u64) {
        if let Some(message) = self.messages.get_mut(next) {
            message.flags.set(Flag::Behind, false);
        }
    }

    fn see(&mut self, at: Moment) {
        self.last_seen = self.last_seen.max(at);
    }
}

impl Replay for Replayed {
    fn entry(&mut self, entry: &[u8]) -> Option<()> {
        match SnapshotEntry::decode(entry, self.kept_before)? {
            SnapshotEntry::Time(at) => self.see(at),
            SnapshotEntry::Tokens { opening, end } => self.opened(opening, end)?,
            SnapshotEntry::Kept(kept) => {
                let is_possible = kept.priority <= limits::PRIORITY_MAX && kept.id <= kept.version;
                let queue =
                    self.queue(kept.queue.as_bytes()).filter(|_| is_possible && kept.id != 0)?;
                self.kept_before = kept.before();
                self.was.behind |= kept.flags.has(Flag::Behind);
                self.was.failed |= !kept.error.is_empty();
                self.messages.insert(
                    kept.id,
                    Message {
                        version: kept.version,
                        due: kept.due,
                        queue,
                        key: kept.key.map(Into::into),
                        attempts: kept.attempts,
                        crashes: kept.crashes,
                        flags: kept.flags,
                        priority: kept.priority,
                        group: kept.group,
                        expiry: kept
                            .expires
                            .map(|moment| Box::new(Expiry { moment, error: kept.error.into() })),
                        crashed: false,
                    },
                );
            }
            SnapshotEntry::Guarded(guarded) => {
                let queue = self.queue(guarded.queue.as_bytes())?;
                self.guarded.insert((queue, guarded.key.into()), (guarded.id, guarded.until));
            }
            SnapshotEntry::Dead(letter) => {
                let is_possible = letter.id != 0 && letter.id <= letter.version;
                (is_possible && limits::is_queue_name(&letter.queue)).then_some(())?;
                self.dead.insert(letter.id, letter);
            }
        }
        Some(())
    }

    fn record(&mut self, position: u64, kind: u8, body: &[u8]) -> Option<()> {
        match kind {
            kind::MESSAGE => self.message(position, body),
            _ => self.entry(Entry::decode(kind, body)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::MessageHead;
    use super::*;

    fn message(queue: &[u8], priority: u8) -> Vec<u8> {
        let queue_len = queue.len().try_into().unwrap();
        let head = MessageHead { queue_len, priority, ..MessageHead::default() };
        [&head.encode()[..], queue].concat()
    }

    /// A queue's name with a line break in it wrote a line of its own among the metrics, and a message of priority 255 was
    /// ready for ever.
    #[test]
    fn what_no_broker_logs_makes_no_sense() {
        let record = |body: &[u8]| Replayed::default().record(4096, kind::MESSAGE, body);
        assert_eq!(record(&message(b"orders", 9)), Some(()));
        for name in ["", "x\"} 1\nevil{a=\"", "a b", &"q".repeat(129)] {
            assert_eq!(record(&message(name.as_bytes(), 0)), None, "{name:?}");
        }
        assert_eq!(record(&message(b"orders\xff", 0)), None);
        assert_eq!(record(&message(b"orders", 10)), None);
    }

    /// That it is the record's own is said by leaving it out, so that there is one way to write a message.
    #[test]
    fn a_message_says_its_id_only_if_another_record_brought_it() {
        let record = |id: u64| {
            let head = MessageHead { id, queue_len: 4, ..MessageHead::default() };
            let body = [&head.encode()[..], b"jobs"].concat();
            Replayed::default().record(4096, kind::MESSAGE, &body)
        };
        assert_eq!((record(0), record(4088)), (Some(()), Some(())));
        assert_eq!((record(4096), record(4104)), (None, None));
    }
}
