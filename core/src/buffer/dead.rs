//! Dead letters: replayed as new messages, or purged.

use smallvec::SmallVec;

use super::buffer::{Buffer, Enqueued};
use super::effect::Effect;
use super::entry::{Entry, kind};
use super::new_message::NewMessage;
use super::plan::{Fate, Few, Plan, records};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Level, Need, Record};

/// Dead letters that one group of records removes.
const PURGE_GROUP: usize = 1000;

impl Buffer {
    /// Enqueues a dead letter's message again, as `message` says it, and removes the dead letter, in one group; a
    /// duplicate leaves everything as it is.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FULL`.
    pub(crate) fn replay(&self, id: u64, message: &NewMessage<'_>) -> Result<Enqueued> {
        self.journal.relieve()?;
        let state = &*self.state;
        let mut leaving = state.letters.turn();
        if leaving.contains(&id) || state.letters.get(id).is_none() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}")));
        }
        let shards = message.key().map(|key| state.keys.shard_of(message.queue.number, key));
        // A parked dead letter has its place already, and gives it back when it is shown to be gone.
        let places = usize::from(state.letters.is_one_parked(&leaving));
        state.room.force(places);
        let mut plan = Plan::new(state, state.keys.lock(shards.into_iter().collect()), places);
        plan.add(message).ok_or_else(|| state.room.full(1))?;
        if let Some(Fate::Duplicate { id, version }) = plan.fates.first().copied() {
            drop((plan, leaving));
            self.journal.commit(message.level, version + 1)?;
            message.queue.figures.duplicates.up();
            return Ok(Enqueued::Duplicate(id));
        }
        let mut body = Vec::new();
        Entry::Undead { id }.encode(&mut body);
        let body = [&body[..]];
        let first = Record::new(kind::UNDEAD, &body);
        let messages = std::slice::from_ref(message);
        let bodies = plan.bodies(messages);
        let pieces = bodies.pieces();
        let all: SmallVec<[_; 2]> = std::iter::once(first).chain(records(&pieces)).collect();
        let level = plan.level().unwrap_or(Level::Os);
        let mut ids = Few::new();
        let appended = self.journal.append(Need::Grow, &all, |position, pending| {
            leaving.insert(id);
            pending.at(level, Effect::Undead { id });
            ids = plan.log(position + first.space() as u64, &bodies, pending);
        })?;
        drop((plan, leaving));
        self.journal.commit(level, appended.end)?;
        message.queue.figures.was_planned();
        let new = ids.first().map_or(0, |(id, _)| *id);
        Ok(Enqueued::Accepted(new))
    }

    /// Removes the dead letters of a queue, or all; answers how many.
    pub(crate) fn purge_dead(&self, queue: Option<&str>) -> Result<u64> {
        let mut purged = 0;
        loop {
            self.journal.relieve()?;
            let mut leaving = self.state.letters.turn();
            let letters = self.state.letters.list(queue, usize::MAX, 0);
            let ids = letters.iter().map(|letter| letter.id).filter(|id| !leaving.contains(id));
            let ids: Vec<u64> = ids.take(PURGE_GROUP).collect();
            if ids.is_empty() {
                return Ok(purged);
            }
            let bodies: Vec<[u8; 8]> = ids.iter().map(|id| id.to_le_bytes()).collect();
            let parts: Vec<[&[u8]; 1]> = bodies.iter().map(|body| [&body[..]]).collect();
            let all: Vec<_> = parts.iter().map(|parts| Record::new(kind::UNDEAD, parts)).collect();
            let appended = self.journal.append(Need::Settle, &all, |_, pending| {
                for id in &ids {
                    leaving.insert(*id);
                    pending.at(Level::Os, Effect::Undead { id: *id });
                }
            })?;
            drop(leaving);
            self.journal.commit(Level::Os, appended.end)?;
            purged += ids.len() as u64;
        }
    }
}
