//! Appending: records get their positions, and are copied behind what there is.

use super::allowance::{self, Need};
use super::commit::Round;
use super::effects::{Level, Pending, Show};
use super::group::Group;
use super::log::Journal;
use super::record::Record;
use super::segment::Segment;
use super::tail::Tail;
use super::writing::Writing;
use crate::error::Result;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, lock};

/// Records together larger than this, or more than so many, are copied and checksummed before the tail is locked.
const COPY_INSIDE_MAX: usize = 2 << 10;
const COPY_INSIDE_RECORDS_MAX: usize = 4;

/// Where an append ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The position of its first record.
    pub(crate) start: u64,
    /// The position behind its last record.
    pub(crate) end: u64,
}

/// What an append takes.
#[derive(Clone, Copy, Debug)]
struct Size {
    bytes: u64,
    records: u64,
    /// Entries that come to live.
    entries: u64,
}

/// What was appended, and is to be written next: by whoever appended it, unless somebody else is about to write. To be handed to
/// [`Journal::follow`]: dropped by who leads, it fails the log. Until then others who write wait, so nothing may be done meanwhile
/// that appends, commits, or waits for somebody who may be doing so.
#[must_use]
pub(crate) struct Led<'a, E> {
    pub(crate) appended: Appended,
    lead: Option<Lead<'a, E>>,
}

/// Who has appended leads the write, too.
struct Lead<'a, E> {
    round: Round<'a, Writing<E>>,
    /// How far it writes.
    end: u64,
    /// What was appended is all there is to show, and came to no list.
    is_alone: bool,
}

impl<E> Led<'_, E> {
    /// Whether what was appended is shown by whoever appended it, and by nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.is_alone)
    }
}

impl<S: Show> Journal<S> {
    /// Gives the records their positions and copies them; several are one group. `finish` learns the first position,
    /// under the tail's lock. Shows nothing, so it may be called under any lock but the tail's and an alarm's.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `NO_MEMORY`, `POISONED`, `CLOSED`: then nothing was appended and `finish` did not run.
    pub(crate) fn append(
        &self,
        need: Need,
        records: &[Record<'_>],
        finish: impl FnOnce(u64, &mut Pending<'_, S::Effect>),
    ) -> Result<Appended> {
        self.append_then(need, records, |tail, start| finish(start, &mut tail.pending(start)))
    }

    /// As [`Journal::append`], of what is to be written next. Where nobody else writes, the caller leads, and it is seen under the
    /// same lock what there is to write. Where nothing else is to be shown either, what was appended is alone, which `finish`
    /// learns: then it leaves no effect, and whoever follows shows it.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn append_and_lead(
        &self,
        need: Need,
        records: &[Record<'_>],
        finish: impl FnOnce(u64, &mut Pending<'_, S::Effect>, bool),
    ) -> Result<Led<'_, S::Effect>> {
        let mut lead = None;
        let appended = self.append_then(need, records, |tail, start| {
            lead = self.lead(tail, start, finish);
        })?;
        Ok(Led { appended, lead })
    }

    /// Takes the lead of a write, if nobody has it, under the tail's lock and right behind an append.
    fn lead(
        &self,
        tail: &mut Tail<S::Effect>,
        start: u64,
        finish: impl FnOnce(u64, &mut Pending<'_, S::Effect>, bool),
    ) -> Option<Lead<'_, S::Effect>> {
        let Some(mut round) = self.written.lead() else {
            finish(start, &mut tail.pending(start), false);
            return None;
        };
        let is_alone = tail.os.oldest().is_none();
        if is_alone {
            round.leader().showing.begin(start);
        }
        finish(start, &mut tail.pending(start), is_alone);
        let end = tail.unwritten(self.written.reached(), round.leader());
        Some(Lead { round, end, is_alone })
    }

    /// Returns when what was appended is written, by whoever leads, and shown: by `show` where it is alone.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub(crate) fn follow(&self, led: Led<'_, S::Effect>, show: impl FnOnce()) -> Result<()> {
        let Led { appended, lead } = led;
        let Some(Lead { round, end, is_alone }) = lead else {
            return self.commit(Level::Os, appended.end);
        };
        self.heed(round.run(|writing| {
            if is_alone {
                self.write_out(writing, Level::Os)?;
                show();
                writing.showing.end(&*self.show);
                self.show.unsynced();
            } else {
                self.write_and_show(writing, Level::Os)?;
            }
            Ok(end)
        }))
    }

    /// Appends, and does `finish` under the same lock.
    fn append_then(
        &self,
        need: Need,
        records: &[Record<'_>],
        finish: impl FnOnce(&mut Tail<S::Effect>, u64),
    ) -> Result<Appended> {
        let bytes: usize = records.iter().map(Record::space).sum();
        let entries = match need {
            Need::Settle | Need::Clean => 0,
            Need::Replace => allowance::entries_of(records),
            Need::Grow => records.len() as u64,
        };
        if bytes > COPY_INSIDE_MAX || records.len() > COPY_INSIDE_RECORDS_MAX {
            let mut group = Group::with_room(bytes)?;
            records.iter().for_each(|record| group.push(record));
            return self.append_prepared(need, entries, group, finish);
        }
        let size = Size { bytes: bytes as u64, records: records.len() as u64, entries };
        let put = |tail: &mut Tail<_>, durable| tail.copy(records, durable, self.space());
        self.append_by(need, size, put, finish)
    }

    /// As [`Journal::append`], of messages that are new.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn append_group(
        &self,
        group: Group,
        finish: impl FnOnce(u64, &mut Pending<'_, S::Effect>),
    ) -> Result<Appended> {
        self.append_prepared(Need::Grow, group.records(), group, |tail, start| {
            finish(start, &mut tail.pending(start));
        })
    }

    /// As [`Journal::append_and_lead`], of messages that are new.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn append_group_and_lead(
        &self,
        group: Group,
        finish: impl FnOnce(u64, &mut Pending<'_, S::Effect>, bool),
    ) -> Result<Led<'_, S::Effect>> {
        let mut lead = None;
        let entries = group.records();
        let appended = self.append_prepared(Need::Grow, entries, group, |tail, start| {
            lead = self.lead(tail, start, finish);
        })?;
        Ok(Led { appended, lead })
    }

    fn append_prepared(
        &self,
        need: Need,
        entries: u64,
        mut group: Group,
        finish: impl FnOnce(&mut Tail<S::Effect>, u64),
    ) -> Result<Appended> {
        group.sum();
        let size = Size { bytes: group.space(), records: group.records(), entries };
        let put = |tail: &mut Tail<_>, durable| tail.place(group, durable, self.space());
        self.append_by(need, size, put, finish)
    }

    /// Finds a place for so much, and has `put` put it there; `finish` comes last, and learns where that is.
    fn append_by(
        &self,
        need: Need,
        size: Size,
        put: impl FnOnce(&mut Tail<S::Effect>, u64),
        finish: impl FnOnce(&mut Tail<S::Effect>, u64),
    ) -> Result<Appended> {
        let Size { bytes, records, entries } = size;
        loop {
            let mut tail = lock(&self.tail);
            tail.check()?;
            if need > Need::Settle
                && (!tail.may(need) || tail.spares.is_empty() && tail.is_nearly_full(bytes))
            {
                drop(tail);
                self.make_spare(need, bytes)?;
                continue;
            }
            if tail.fits(bytes) {
                let start = tail.position;
                put(&mut tail, self.durable.reached());
                tail.operations += records;
                let is_low = tail.grow(entries) | tail.note_pace();
                self.reserved.store(start + bytes, Ordering::Release);
                finish(&mut tail, start);
                drop(tail);
                if is_low {
                    self.show.runs_low();
                }
                return Ok(Appended { start, end: start + bytes });
            }
            if tail.has_small_spare(bytes) {
                drop(tail);
                self.make_larger_spare(need, bytes)?;
                continue;
            }
            match tail.spares.pop_front() {
                Some(next) => self.roll(&mut tail, next),
                None => {
                    drop(tail);
                    self.make_spare(need, bytes)?;
                }
            }
        }
    }

    /// Has the log go on in the next segment.
    pub(super) fn roll(&self, tail: &mut Tail<S::Effect>, next: Arc<Segment>) {
        tail.roll(next, self.durable.reached(), self.space());
        // Should nothing be appended after all, the roll is to be written all the same.
        self.reserved.store(tail.position, Ordering::Release);
        // The spare is used up.
        self.show.runs_low();
    }
}
