//! Snapshots and cleaning: what makes old segments free to go.
//!
//! A snapshot is taken while work goes on. Its *begin* is read first: every effect below it is in the slots by then.
//! Slots and dead letters are then copied one by one, each under its own lock; what changes meanwhile has a record at
//! or behind *begin* and is replayed over the copy. So nothing stands still, and nothing is missed: a message stays in
//! its slot for life, and the dead letters, which messages move to, are read after the slots.
//!
//! A segment before *begin* in which no content lives is removed. One in which little lives is freed by writing that
//! little again, so that one old message never pins the log.

use super::buffer::Buffer;
use super::entry::{DeadLetterEntry, Entry, Guarded, Kept, MessageEntry, SnapshotEntry, kind};
use super::expiries::Expiry;
use super::flags::Flag;
use super::slot::{Data, NONE, State as SlotState};
use crate::error::Result;
use crate::journal::{Bytes, Need, Record, Segment, Show, SnapshotWriter, record_space};
use crate::sync::Arc;

/// A segment is written again when less than this share of a segment's size lives in it.
const LIVE_SHARE: u64 = 2;

/// Contents of a segment that are measured to tell how much lives in it.
const SAMPLES: usize = 64;

/// What a snapshot has of a message, roughly, and what part of the full segments it may be to be called small.
const ENTRY_BYTES: u64 = 100;
const SMALL_SHARE: u64 = 8;

/// What lives in old segments: the version, and who has it.
type Owners = Vec<(u64, Owner)>;

/// Who has a content.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Slot { slot: u32, id: u64 },
    DeadLetter(u64),
}

impl Buffer {
    /// Takes a snapshot and frees the segments it makes free; answers its bytes, and what came of the freeing.
    pub(crate) fn snapshot(&self) -> Result<(u64, Result<()>)> {
        // A poisoned journal cannot be synced to the snapshot's end, so the disk is left alone.
        self.journal.check()?;
        let begin = self.journal.marks().shown;
        let mut live = Owners::new();
        let mut writer = self.journal.begin_snapshot()?;
        let bytes = match self.copy_state(&mut writer, begin, &mut live) {
            Ok(end) => self.journal.finish_snapshot(writer, begin, end)?,
            Err(error) => {
                writer.abandon();
                return Err(error);
            }
        };
        Ok((bytes, self.clean(begin, &live)))
    }

    /// Whether a snapshot is worth its while for what it may free: it is small beside the segments that are full.
    pub(crate) fn has_much_to_free(&self) -> bool {
        let old = self.journal.space().before(u64::MAX);
        let bytes: u64 = old.iter().map(|segment| segment.header.capacity).sum();
        let live = self.state.live().messages;
        match old.len() {
            0 => false,
            1 => live == 0,
            _ => live * ENTRY_BYTES <= bytes / SMALL_SHARE,
        }
    }

    fn copy_state(
        &self,
        writer: &mut SnapshotWriter<'_>,
        begin: u64,
        live: &mut Owners,
    ) -> Result<u64> {
        let state = &*self.state;
        let now = state.clock.now();
        writer.entry(|out| SnapshotEntry::encode_time(now, out))?;
        let (opening, tokens_end) = (self.journal.opening(), self.tokens.end());
        writer.entry(|out| SnapshotEntry::encode_tokens(opening, tokens_end, out))?;
        for slot in state.slots.claimed() {
            let Some((id, data, expires)) = self.copy_slot(slot) else { continue };
            if data.version < begin {
                live.push((data.version, Owner::Slot { slot, id }));
            }
            let queue = &state.queues.numbered(data.queue.into()).name;
            let key = (data.key != NONE).then(|| state.keys.text(data.key, slot)).flatten();
            let kept = Kept {
                id,
                version: data.version,
                due: data.due,
                attempts: data.attempts,
                crashes: data.crashes,
                flags: data.flags,
                priority: data.priority,
                group: data.group,
                expires: expires.as_ref().map(|expiry| expiry.moment),
                error: expires.as_ref().map_or("", |expiry| &expiry.error),
                queue,
                key: key.as_deref(),
            };
            writer.entry(|out| kept.encode(out))?;
        }
        // Behind the slots, as the dead letters: messages that are done guard their keys from before they leave theirs.
        state.keys.each_guarded(|queue, key, guarding| {
            let queue = &state.queues.numbered(queue).name;
            let guarded = Guarded { id: guarding.id, until: guarding.until, queue, key };
            writer.entry(|out| guarded.encode(out))
        })?;
        for letter in state.letters.list(None, usize::MAX, 0) {
            if letter.version < begin {
                live.push((letter.version, Owner::DeadLetter(letter.id)));
            }
            writer.entry(|out| letter.encode(out))?;
        }
        live.sort_unstable_by_key(|(version, _)| *version);
        self.journal.snapshot_end()
    }

    fn copy_slot(&self, slot: u32) -> Option<(u64, Data, Option<Expiry>)> {
        let guard = self.state.slots.find(slot)?.lock();
        let is_used = guard.state() != SlotState::Free;
        is_used.then(|| (guard.id(), *guard, self.expires(slot, &guard)))
    }

    /// How the message in a slot expires, if it does.
    fn expires(&self, slot: u32, data: &Data) -> Option<Expiry> {
        data.flags.has(Flag::Expires).then(|| self.state.expiries.of(slot)).flatten()
    }

    /// Frees the segments before `begin` that hold nothing or little of what lives.
    fn clean(&self, begin: u64, live: &[(u64, Owner)]) -> Result<()> {
        let mut inhabited = Vec::new();
        for segment in self.journal.space().before(begin) {
            let first = live.partition_point(|(version, _)| *version < segment.header.start);
            let end = live.partition_point(|(version, _)| *version < segment.end());
            let owners = live.get(first..end).unwrap_or_default();
            if owners.is_empty() {
                self.discard(&segment);
            } else {
                inhabited.push((segment, owners));
            }
        }
        // Only now: what is written again may need the room that the others have made.
        let mut emptied = Vec::new();
        for (segment, owners) in inhabited {
            if self.is_thin(owners)? && self.write_again(owners)? {
                emptied.push(segment);
            }
        }
        if !emptied.is_empty() {
            self.journal.sync()?;
        }
        emptied.iter().for_each(|segment| self.discard(segment));
        Ok(())
    }

    fn discard(&self, segment: &Arc<Segment>) {
        // What cannot be removed now is removed after the first snapshot of the next opening.
        let _ = self.journal.space().discard(segment);
    }

    /// Whether so little lives in a segment that it is written again: judged by the mean of some of its contents.
    fn is_thin(&self, owners: &[(u64, Owner)]) -> Result<bool> {
        let step = owners.len().div_ceil(SAMPLES).max(1);
        let (mut bytes, mut count) = (0, 0);
        for (version, _) in owners.iter().step_by(step) {
            bytes += record_space(self.journal.read(*version)?.1.len()) as u64;
            count += 1;
        }
        let mean = bytes / count.max(1);
        Ok(mean * owners.len() as u64 <= self.journal.segment_bytes() / LIVE_SHARE)
    }

    /// Writes contents again; answers whether nothing refers to their old places any more.
    fn write_again(&self, owners: &[(u64, Owner)]) -> Result<bool> {
        let mut all = true;
        for (version, owner) in owners {
            self.journal.relieve()?;
            let (_, content) = self.journal.read(*version)?;
            all &= match owner {
                Owner::Slot { slot, id } => self.move_message(*slot, *id, *version, &content)?,
                Owner::DeadLetter(id) => self.move_dead_letter(*id, *version, &content)?,
            };
        }
        Ok(all)
    }

    fn move_message(&self, slot: u32, id: u64, version: u64, content: &Bytes) -> Result<bool> {
        let mut guard = self.state.slots.at(slot).lock();
        match guard.state() {
            // It has left its slot: it is gone, replaced, or has become a dead letter with the same content.
            state if state == SlotState::Free || guard.version != version => {
                drop(guard);
                return self.move_dead_letter(id, version, content);
            }
            // Its record or its end is not shown yet; the next snapshot will find it settled.
            SlotState::Pending | SlotState::Settled => return Ok(false),
            _ => {}
        }
        let Some(entry) = MessageEntry::decode(content) else { return Ok(false) };
        let mut head = entry.head;
        head.id = guard.id();
        head.due = guard.due;
        head.attempts = guard.attempts;
        head.crashes = guard.crashes;
        head.flags = guard.flags;
        let head = head.encode();
        let rest = content.get(head.len()..).unwrap_or_default();
        let parts = [&head[..], rest];
        let record = Record::new(kind::MESSAGE, &parts);
        self.journal.append(Need::Settle, &[record], |position, _| guard.version = position)?;
        Ok(true)
    }

    fn move_dead_letter(&self, id: u64, version: u64, content: &Bytes) -> Result<bool> {
        let leaving = self.state.letters.turn();
        let Some(letter) = self.state.letters.get(id).filter(|letter| letter.version == version)
        else {
            return Ok(true);
        };
        if leaving.contains(&id) {
            return Ok(false);
        }
        let Some(entry) = MessageEntry::decode(content) else { return Ok(false) };
        let mut head = entry.head;
        head.id = id;
        let head = head.encode();
        let rest = content.get(head.len()..).unwrap_or_default();
        let parts = [&head[..], rest];
        let message = Record::new(kind::MESSAGE, &parts);
        // The group's second record names the position of the first, which is not known yet: it says 0 for "the
        // record before this one".
        let dead = Entry::Dead {
            id,
            version: 0,
            next: 0,
            attempts: letter.attempts,
            at: letter.at,
            reason: letter.reason.clone(),
            error: letter.error.clone(),
        };
        let mut body = Vec::new();
        dead.encode(&mut body);
        let body = [&body[..]];
        let dead = Record::new(dead.kind(), &body);
        let mut moved = DeadLetterEntry::clone(&letter);
        self.journal.append(Need::Settle, &[message, dead], |position, _| {
            moved.version = position;
            self.state.letters.replace(moved);
        })?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::buffer::Outcome;
    use crate::journal::Level;
    use crate::{Broker, Message, Options};

    /// A settle had made a message a dead letter, but was not shown yet, when the snapshot read the slots and the dead
    /// letters. It was shown while the snapshot was written; then the message was in its slot no more, its content was
    /// taken to belong to nobody, and its segment was removed. The next open found the dead letter without a content.
    #[test]
    fn a_message_that_dies_while_a_snapshot_is_written_keeps_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().segment_bytes(64 << 10);
        let broker = Broker::open(dir.path(), options.clone()).unwrap();
        let id = broker.enqueue(Message::new("dies", "content")).unwrap().id;
        let filling = vec![0; 20_000];
        for _ in 0..8 {
            broker.enqueue(Message::new("filling", &filling)).unwrap();
            broker.receive("filling", None, None).unwrap().unwrap().ack().unwrap();
        }
        let delivery = broker.receive("dies", None, None).unwrap().unwrap();
        let end = delivery.finish(Outcome::Reject { reason: "no", error: "" }).unwrap();
        broker.snapshot().unwrap();
        delivery.shared.engine.buffer.journal.commit(Level::Os, end).unwrap();
        drop(delivery);
        broker.close(Duration::from_secs(1)).unwrap();

        let broker = Broker::open(dir.path(), options).unwrap();
        let letter = broker.dead_letters().get(id).unwrap().unwrap();
        assert_eq!((letter.reason(), letter.body()), ("no", &b"content"[..]));
    }
}
