//! Batches: many new messages without keys, which concern nothing that is there, so that there is nothing to plan.
//!
//! They are logged as one group. Where nobody else writes and nothing else is to be shown, they come into their slots when they are
//! shown, behind the write, as one that is written alone does; else when they get their positions, under the log's tail.

use super::buffer::{Begun, Buffer, Enqueued, Owed};
use super::effect::Effect;
use super::new_message::NewMessage;
use super::plan::Few;
use super::state::State;
use crate::error::Result;
use crate::journal::{Group, Level, Pending};

/// New messages without keys, for each of which a slot was claimed.
#[derive(Debug)]
pub(super) struct Batch<'m> {
    messages: &'m [NewMessage<'m>],
    slots: Vec<u32>,
    /// Where the record of each stands; behind the first one's, until they have their places.
    positions: Vec<u64>,
}

impl<'m> Batch<'m> {
    /// These messages; none where they are no batch, or there is no room for all.
    pub(super) fn claim(state: &State, messages: &'m [NewMessage<'m>]) -> Option<Self> {
        let is_batch = messages.len() > 1 && messages.iter().all(|message| message.key().is_none());
        let slots = is_batch.then(|| state.claim_all(messages.len())).flatten()?;
        Some(Self { messages, slots, positions: Vec::with_capacity(messages.len()) })
    }

    fn unclaim(&self, state: &State) {
        self.slots.iter().for_each(|slot| state.unclaim(*slot));
    }

    /// Whether none of it waits for a sync.
    pub(super) fn is_to_be_written(&self) -> bool {
        self.messages.iter().all(|message| message.level == Level::Os)
    }

    /// Copies its records.
    fn group(&mut self) -> Result<Group> {
        let mut group = Group::with_room(self.messages.iter().map(NewMessage::space).sum())?;
        for alike in self.messages.chunk_by(NewMessage::is_like) {
            let Some((first, others)) = alike.split_first() else { continue };
            self.positions.push(group.space());
            first.with_record(|record| group.push(record));
            let mut before = first;
            for message in others {
                self.positions.push(group.space());
                group.push_alike(message.body, before.body.len());
                before = message;
            }
        }
        Ok(group)
    }

    /// Its first record has got this position.
    fn stands_at(&mut self, start: u64) {
        self.positions.iter_mut().for_each(|position| *position += start);
    }

    /// Its messages, each with its slot and the position of its record.
    fn placed(&self) -> impl Iterator<Item = (&'m NewMessage<'m>, u32, u64)> {
        let places = self.slots.iter().zip(&self.positions);
        self.messages.iter().zip(places).map(|(message, (slot, place))| (message, *slot, *place))
    }

    fn fill(&self, buffer: &Buffer, pending: &mut Pending<'_, Effect>) {
        for (message, slot, position) in self.placed() {
            buffer.fill_new(message, slot, position, pending);
        }
    }

    fn owed(&self, end: u64) -> Owed {
        let mut owed = Owed::default();
        self.messages.iter().for_each(|message| owed.add(message.level, end));
        owed
    }

    fn enqueued(self) -> Few<Enqueued> {
        self.positions.into_iter().map(Enqueued::Accepted).collect()
    }
}

impl Buffer {
    /// Logs a batch, and leaves it to the caller to have it reach its level.
    pub(super) fn begin_batch(&self, mut batch: Batch<'_>) -> Result<Begun> {
        let appended = batch.group().and_then(|group| {
            self.journal.append_group(group, |start, pending| {
                batch.stands_at(start);
                batch.fill(self, pending);
            })
        });
        let appended = appended.inspect_err(|_| batch.unclaim(&self.state))?;
        let owed = batch.owed(appended.end);
        Ok(Begun { enqueued: batch.enqueued(), owed })
    }

    /// Logs a batch that is to be written, and writes and shows it.
    pub(super) fn write_batch(&self, mut batch: Batch<'_>) -> Result<Few<Enqueued>> {
        let led = batch.group().and_then(|group| {
            self.journal.append_group_and_lead(group, |start, pending, is_alone| {
                batch.stands_at(start);
                if !is_alone {
                    batch.fill(self, pending);
                }
            })
        });
        let led = led.inspect_err(|_| batch.unclaim(&self.state))?;
        let is_alone = led.is_alone();
        let shown = self.journal.follow(led, || self.state.show_all_new(batch.placed()));
        shown.inspect_err(|_| {
            // Else others may have shown it.
            if is_alone {
                batch.unclaim(&self.state);
            }
        })?;
        Ok(batch.enqueued())
    }
}
