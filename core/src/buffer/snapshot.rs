//! Snapshots: what makes old segments free to go.
//!
//! A snapshot is taken while work goes on. Its *begin* is read first: every effect below it is in the slots by then.
//! Slots and dead letters are then copied one by one, each under its own lock; what changes meanwhile has a record at
//! or behind *begin* and is replayed over the copy. So nothing stands still, and nothing is missed: a message stays in
//! its slot for life, and the dead letters, which messages move to, are read after the slots.

use super::buffer::Buffer;
use super::entry::{Guarded, SnapshotEntry};
use super::expiries::Expiry;
use super::flags::Flag;
use super::inhabitants::{Inhabitants, Owner};
use super::kept::{Before, Kept};
use super::slot::{Data, NONE, State as SlotState};
use crate::error::Result;
use crate::journal::{Show, SnapshotWriter};

/// What a message costs a snapshot, roughly, in bytes that might be written in the same time and more; and what part of the full
/// segments that may be for one to be called small.
const ENTRY_BYTES: u64 = 100;
const SMALL_SHARE: u64 = 8;

impl Buffer {
    /// Takes a snapshot and frees the segments it makes free; answers its bytes, and what came of the freeing.
    pub(crate) fn snapshot(&self) -> Result<(u64, Result<()>)> {
        // A poisoned journal cannot be synced to the snapshot's end, so the disk is left alone.
        self.journal.check()?;
        // Else it would have messages that are gone already.
        self.write()?;
        let begin = self.journal.marks().shown;
        let mut live = Inhabitants::of(self.journal.space().before(begin));
        let mut writer = self.journal.begin_snapshot()?;
        let names = self.state.take_names();
        let written = match self.copy_state(&mut writer, &mut live) {
            Ok(end) => self.journal.finish_snapshot(writer, begin, end),
            Err(error) => {
                writer.abandon();
                Err(error)
            }
        };
        let bytes = written.inspect_err(|_| self.state.note_names(names))?;
        Ok((bytes, self.clean(live)))
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

    fn copy_state(&self, writer: &mut SnapshotWriter<'_>, live: &mut Inhabitants) -> Result<u64> {
        let state = &*self.state;
        let now = state.clock.now();
        writer.entry(|out| SnapshotEntry::encode_time(now, out))?;
        let (opening, tokens_end) = (self.journal.opening(), self.tokens.end());
        writer.entry(|out| SnapshotEntry::encode_tokens(opening, tokens_end, out))?;
        let mut before = Before::default();
        for slot in state.slots.claimed() {
            let Some((id, data, expires)) = self.copy_slot(slot) else { continue };
            live.add(data.version, Owner::Slot { slot, id });
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
            writer.entry(|out| SnapshotEntry::encode_kept(&kept, before, out))?;
            before = kept.before();
        }
        // Behind the slots, as the dead letters: messages that are done guard their keys from before they leave theirs.
        state.keys.each_guarded(|queue, key, guarding| {
            let queue = &state.queues.numbered(queue).name;
            let guarded = Guarded { id: guarding.id, until: guarding.until, queue, key };
            writer.entry(|out| guarded.encode(out))
        })?;
        for letter in state.letters.list(None, usize::MAX, 0) {
            live.add(letter.version, Owner::DeadLetter(letter.id));
            writer.entry(|out| letter.encode(out))?;
        }
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

    /// A queue was named where that changed, by an entry of its own: where messages of two queues stood beside each other in turns
    /// there were twice as many entries, and much more in them. The room that is kept for the next snapshot goes by what an entry
    /// took in the last one; so it was half of what was needed, and a full directory could take no snapshots any more.
    #[test]
    fn what_a_message_takes_does_not_depend_on_its_neighbours() {
        const MESSAGES: u64 = 1000;
        let bytes_of = |queue_of: &dyn Fn(u64) -> u64| {
            let dir = tempfile::tempdir().unwrap();
            let broker = Broker::open(dir.path(), Options::new().segment_bytes(1 << 20)).unwrap();
            let queues = ["a", "b"].map(|name| name.repeat(128));
            for number in 0..MESSAGES {
                let queue = &queues[usize::try_from(queue_of(number)).unwrap()];
                broker.enqueue(Message::new(queue, "")).unwrap();
            }
            broker.snapshot().unwrap();
            let metrics = broker.metrics().unwrap();
            metrics.journal_bytes - metrics.segments * (1 << 20)
        };
        let apart = bytes_of(&|number| number * 2 / MESSAGES);
        let in_turns = bytes_of(&|number| number % 2);
        assert!(apart.abs_diff(in_turns) < 4 * MESSAGES, "{apart} and {in_turns} bytes");
    }
}
