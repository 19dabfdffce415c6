//! The cleaner: frees segments, behind each snapshot.
//!
//! A segment before the snapshot's *begin* in which no content lives is removed. One in which little lives is freed by
//! writing that little again, so that one old message never pins the log. How little that is depends on how much somebody
//! wants the room.

use super::buffer::Buffer;
use super::entry::{DeadLetterEntry, Entry, MessageEntry, kind};
use super::head::MessageHead;
use super::inhabitants::{Inhabitants, Owner, Owners};
use super::slot::{Guard, State as SlotState};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Bytes, Need, Record, Segment, record_space, room_in};
use crate::sync::Arc;

/// While there is room, a segment is written again when no more than one part in so many of an ordinary one is to be written.
const LIVE_SHARE: u64 = 2;

/// While there is none to grow, or for what comes in the place of something, it has to give back one part in so many of
/// itself. Not less: what lives is judged by samples, and would be written again and again.
const GAIN_SHARE_TO_GROW: u64 = 8;
const GAIN_SHARE_TO_REPLACE: u64 = 16;

/// Contents of a segment that are measured to tell how much lives in it; more of them where a small gain counts.
const SAMPLES: usize = 64;
const SAMPLES_TO_REPLACE: usize = 1024;

/// While there is no room, no more segments than that are filled at a time: the next snapshot waits for it, and what only
/// settles for that.
const FILLED_MAX: u64 = 8;

/// What a dead letter takes that is written again, beside its content and its texts.
const LETTER_BYTES: u64 = 128;

/// What it takes to write again what lives in a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    count: u64,
    bytes: u64,
    /// The largest of them.
    largest: u64,
}

impl Load {
    /// What they take of the room in segments of that size, the end of each of which may have none for another one.
    fn room_in(self, segment_bytes: u64) -> u64 {
        let Self { count, bytes, largest } = self;
        let room = room_in(segment_bytes);
        // As if all were as large, and as if each segment were left as soon as one of those does not fit.
        let alike = count * room.max(largest) / (room / largest.max(1)).max(1);
        let mixed = bytes.saturating_mul(room) / room.saturating_sub(largest).max(1);
        alike.min(mixed)
    }
}

/// Why something could not be read: the first of it.
#[derive(Debug, Default)]
struct Unread(Option<Error>);

impl Unread {
    /// None where something could not be read, which is that segment's affair alone.
    fn unless<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => match error.kind() {
                ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::NoMemory => {
                    self.0.get_or_insert(error);
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }
}

impl Buffer {
    /// Frees those of the segments in which nothing or little lives. What there is no room for is left to the next time, and so is
    /// a segment of which something cannot be read: the others are freed all the same.
    ///
    /// # Errors
    /// What was wrong with the first of those; else whatever ends all work, as `POISONED`.
    pub(super) fn clean(&self, live: Inhabitants) -> Result<()> {
        let mut inhabited = Vec::new();
        for (segment, owners) in live.into_segments() {
            if owners.is_empty() {
                self.discard(&segment);
            } else {
                inhabited.push((segment, owners));
            }
        }
        // Only now: what is written again may need the room that the others have made.
        let (mut thin, mut unread) = (Vec::new(), Unread::default());
        for (segment, owners) in inhabited {
            let Some(load) = unread.unless(self.load(&owners))? else { continue };
            if self.is_thin(&segment, load) {
                thin.push((load.bytes, segment, owners));
            }
        }
        // Those that take least make room for the others.
        thin.sort_by_key(|(bytes, ..)| *bytes);
        let mut left = match self.journal.refused() {
            None => u64::MAX,
            Some(_) => FILLED_MAX * self.journal.segment_bytes(),
        };
        let mut emptied = Vec::new();
        for (bytes, segment, owners) in thin {
            // All of them or none: else there would be two segments with something in it.
            let mut room = self.journal.make_room(Need::Clean, bytes);
            if is_full(&room) && !emptied.is_empty() {
                self.discard_all(&mut emptied)?;
                room = self.journal.make_room(Need::Clean, bytes);
            }
            let written = room.and_then(|()| self.write_again(owners));
            if is_full(&written) {
                break;
            }
            if unread.unless(written)?.unwrap_or(false) {
                emptied.push(segment);
            }
            left = left.saturating_sub(bytes);
            if left == 0 {
                break;
            }
        }
        self.discard_all(&mut emptied)?;
        unread.0.map_or(Ok(()), Err)
    }

    /// Removes segments, what lived in which was written again.
    fn discard_all(&self, emptied: &mut Vec<Arc<Segment>>) -> Result<()> {
        if !emptied.is_empty() {
            self.journal.sync()?;
        }
        emptied.drain(..).for_each(|segment| self.discard(&segment));
        Ok(())
    }

    fn discard(&self, segment: &Arc<Segment>) {
        // What cannot be removed now is removed after the first snapshot of the next opening.
        let _ = self.journal.space().discard(segment);
    }

    /// Whether it pays to write again what lives in a segment.
    fn is_thin(&self, segment: &Segment, load: Load) -> bool {
        let (ordinary, room) = (self.journal.segment_bytes(), room_in(segment.header.capacity));
        let gain = room.saturating_sub(load.room_in(ordinary));
        match self.journal.refused() {
            None => gain > 0 && load.bytes <= ordinary / LIVE_SHARE,
            Some(Need::Grow) => gain >= room / GAIN_SHARE_TO_GROW,
            Some(_) => gain >= room / GAIN_SHARE_TO_REPLACE,
        }
    }

    /// What it takes to write these again: judged by some of them.
    fn load(&self, owners: &[(u64, Owner)]) -> Result<Load> {
        let samples = match self.journal.refused() {
            None | Some(Need::Grow) => SAMPLES,
            Some(_) => SAMPLES_TO_REPLACE,
        };
        let step = owners.len().div_ceil(samples).max(1);
        let mut load = Load { count: owners.len() as u64, ..Load::default() };
        let mut count = 0;
        for (version, owner) in owners.iter().step_by(step) {
            let (_, content) = self.journal.read(*version)?;
            // As it will be written, which is longer than it was: what was brought by its own record says of whom it is then.
            let Some(entry) = MessageEntry::decode(&content) else { continue };
            let (head, letter) = match owner {
                Owner::Slot { slot, .. } => {
                    (head_in(&entry, &self.state.slots.at(*slot).lock()), None)
                }
                Owner::DeadLetter(id) => (head_of(&entry, *id), self.state.letters.get(*id)),
            };
            let bytes = record_space(head.len() + entry.behind_head.len()) as u64
                + letter.map_or(0, |letter| LETTER_BYTES + letter.text_bytes());
            load.bytes += bytes;
            load.largest = load.largest.max(bytes);
            count += 1;
        }
        load.bytes = load.bytes / count.max(1) * load.count;
        Ok(load)
    }

    /// Writes contents again, in the order of the log; answers whether nothing refers to their old places any more.
    fn write_again(&self, mut owners: Owners) -> Result<bool> {
        owners.sort_unstable_by_key(|(version, _)| *version);
        let mut all = true;
        for (version, owner) in owners {
            self.journal.relieve()?;
            let (_, content) = self.journal.read(version)?;
            all &= match owner {
                Owner::Slot { slot, id } => self.move_message(slot, id, version, &content)?,
                Owner::DeadLetter(id) => self.move_dead_letter(id, version, &content)?,
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
        let parts = [&head_in(&entry, &guard).encode()[..], entry.behind_head];
        let record = Record::new(kind::MESSAGE, &parts);
        self.journal.append(Need::Clean, &[record], |position, _| guard.version = position)?;
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
        let parts = [&head_of(&entry, id).encode()[..], entry.behind_head];
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
        self.journal.append(Need::Clean, &[message, dead], |position, _| {
            moved.version = position;
            self.state.letters.replace(moved);
        })?;
        Ok(true)
    }
}

/// The head of a message's record that is written again, as it is in its slot.
fn head_in(entry: &MessageEntry<'_>, guard: &Guard<'_>) -> MessageHead {
    MessageHead {
        due: guard.due,
        attempts: guard.attempts,
        crashes: guard.crashes,
        flags: guard.flags,
        ..head_of(entry, guard.id())
    }
}

/// The head of a message's record that is written again, as it was.
fn head_of(entry: &MessageEntry<'_>, id: u64) -> MessageHead {
    MessageHead { id, ..entry.head }
}

fn is_full<T>(outcome: &Result<T>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Broker, Durability, Message, Options};

    const KIB: u64 = 1 << 10;

    /// What so many of that size take of a segment of 64 KiB: as many parts in a hundred of its room.
    fn percents(count: u64, kib: u64) -> u64 {
        let load = Load { count, bytes: count * kib * KIB, largest: kib * KIB };
        load.room_in(64 * KIB) * 100 / room_in(64 * KIB)
    }

    #[test]
    fn what_is_written_again_takes_its_share_of_segments() {
        assert_eq!(percents(0, 0), 0);
        // Fifty-five of them have room in one beside its header and footer.
        assert_eq!((percents(11, 1), percents(55, 1)), (20, 100));
        // Two have, and then one.
        assert_eq!((percents(1, 27), percents(2, 27)), (50, 100));
        assert_eq!((percents(1, 28), percents(1, 55)), (100, 100));
        // A segment of its own, which is larger than an ordinary one.
        assert_eq!(percents(1, 112), 200);
        // One large one among small ones.
        let mixed = Load { count: 20, bytes: 20 * KIB, largest: 10 * KIB };
        let room = room_in(64 * KIB);
        assert_eq!(mixed.room_in(64 * KIB), 20 * KIB * room / (room - 10 * KIB));
    }

    /// The record of a message that is written again says of whom it is, and when it is due if it was tried: that was not asked for,
    /// while whoever asks has to know that all of it fits.
    #[test]
    fn what_is_written_again_takes_what_was_asked_for() {
        for (is_retried, bytes) in [(false, 4), (true, 4), (false, 300), (true, 300)] {
            let dir = tempfile::tempdir().unwrap();
            let options = Options::new().durability(Durability::Os).segment_bytes(1 << 20);
            let broker = Broker::open(dir.path(), options).unwrap();
            for _ in 0..100 {
                broker.enqueue(Message::new("jobs", vec![7; bytes])).unwrap();
                if is_retried {
                    let job = broker.receive("jobs", None, None).unwrap().unwrap();
                    job.retry(Duration::from_secs(3600)).unwrap();
                }
            }
            broker.enqueue(Message::new("aside", "")).unwrap();
            let held = broker.receive("aside", None, None).unwrap().unwrap();
            let buffer = &held.shared.engine.buffer;
            let owner = |slot: u32| {
                let guard = buffer.state.slots.at(slot).lock();
                (guard.version, Owner::Slot { slot, id: guard.id() })
            };
            let owners: Owners = (0..100).map(owner).collect();
            let asked = buffer.load(&owners).unwrap().bytes;
            let before = buffer.journal.marks().reserved;
            assert!(buffer.write_again(owners).unwrap());
            let took = buffer.journal.marks().reserved - before;
            assert_eq!(took, asked, "{bytes} bytes, retried: {is_retried}");
        }
    }
}
