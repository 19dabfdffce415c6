//! Batches: many new messages without keys, which concern nothing that is there, so that there is nothing to plan.
//!
//! They are logged as one group. Where nobody else writes and nothing else is to be shown, they come into their slots when they are
//! shown, behind the write, as one that is written alone does; else when they get their positions, under the log's tail.

use super::buffer::{Begun, Buffer, Enqueued, Owed};
use super::effect::Effect;
use super::envelope::Envelope;
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

    /// Its messages as far as each is like the one before: what they have in common, their slots, and where their records stand.
    fn runs(&self) -> impl Iterator<Item = (&'m Envelope<'m>, &[u32], &[u64])> {
        let (mut slots, mut positions) = (&self.slots[..], &self.positions[..]);
        self.messages.chunk_by(NewMessage::is_like).filter_map(move |alike| {
            let (of_these, others) = slots.split_at_checked(alike.len())?;
            slots = others;
            let (places, others) = positions.split_at_checked(alike.len())?;
            positions = others;
            Some((alike.first()?.envelope, of_these, places))
        })
    }

    fn fill(&self, buffer: &Buffer, pending: &mut Pending<'_, Effect>) {
        for (envelope, slots, positions) in self.runs() {
            for (slot, position) in slots.iter().zip(positions) {
                buffer.fill_new(envelope, *slot, *position, pending);
            }
        }
    }

    fn show(&self, state: &State) {
        for (envelope, slots, positions) in self.runs() {
            state.show_all_new(envelope, slots, positions);
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
        let shown = self.journal.follow(led, || batch.show(&self.state));
        shown.inspect_err(|_| {
            // Else others may have shown it.
            if is_alone {
                batch.unclaim(&self.state);
            }
        })?;
        Ok(batch.enqueued())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use crate::{Broker, Message, Options};

    /// Messages of a batch are copied from one another as far as they are alike: each has what is its own, in the first life and
    /// in the second.
    #[test]
    fn each_of_a_batch_has_what_is_its_own() {
        let (a_type, other_type) = ("text/plain".to_owned(), "text/plain".to_owned());
        let jobs = |body: &'static str| Message::new("jobs", body);
        let batch = [
            jobs("first"),
            jobs(""),
            jobs("a longer one"),
            jobs("urgent").priority(9),
            jobs("urgent, too").priority(9),
            jobs("typed").content_type(&a_type),
            jobs("typed, too").content_type(&a_type),
            jobs("of the same type").content_type(&other_type),
            jobs("of no type"),
            Message::new("others", "elsewhere"),
            jobs("grouped").group("g"),
            jobs("after it").group("g"),
            jobs("later").delay(Duration::from_secs(3600)),
            jobs("last"),
        ];
        let directory = tempfile::tempdir().unwrap();
        for is_first in [true, false] {
            let broker = Broker::open(directory.path(), Options::new()).unwrap();
            if is_first {
                let receipts = broker.enqueue_batch(&batch).unwrap();
                assert!(receipts.windows(2).all(|two| two[0].id < two[1].id));
                broker.close(Duration::ZERO).unwrap();
                continue;
            }
            let mut taken = Vec::new();
            while let Some(job) = broker.receive("jobs", Duration::ZERO, None).unwrap() {
                let body = String::from_utf8(job.body().to_vec()).unwrap();
                taken.push((body, job.content_type().to_owned()));
                job.ack().unwrap();
            }
            let plain = "application/octet-stream";
            let expected = [
                ("urgent", plain),
                ("urgent, too", plain),
                ("first", plain),
                ("", plain),
                ("a longer one", plain),
                ("typed", "text/plain"),
                ("typed, too", "text/plain"),
                ("of the same type", "text/plain"),
                ("of no type", plain),
                ("grouped", plain),
                ("after it", plain),
                ("last", plain),
            ];
            assert_eq!(taken, expected.map(|(body, of)| (body.to_owned(), of.to_owned())));
            let other = broker.receive("others", Duration::ZERO, None).unwrap().unwrap();
            assert_eq!(other.body(), b"elsewhere");
            assert_eq!(broker.metrics().unwrap().queues["jobs"].delayed, 1);
        }
    }
}
