//! The spare: a segment that is made ahead, so that who appends need not wait for the disk.
//!
//! What grows the log waits for it, and is refused where there is no room for one; what settles takes room where it finds
//! any. The tail has it until it rolls.

use super::allowance::{self, Need, Wanted};
use super::effects::Show;
use super::log::{BACKLOG_MAX, Journal};
use super::segment::{FOOTER_BYTES, HEADER_BYTES, Segment, SegmentHeader, least_capacity, room_in};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::lock;

impl<S: Show> Journal<S> {
    /// Makes the spare segment, if there is none, and sees to it that a group of so many bytes may be appended for what needs
    /// it; a spare that was made for what needs less is for that as well then.
    ///
    /// # Errors
    /// `STORAGE_FULL` where the disk has no room for it; asked again, it is tried again.
    pub(crate) fn make_spare(&self, need: Need, group_bytes: u64) -> Result<()> {
        // One at a time. Without a spare the tail cannot roll, so the segment it is in stays the last one.
        let _turn = lock(&self.making);
        let (last, is_there, fits) = {
            let tail = lock(&self.tail);
            tail.check()?;
            let has_spare = tail.spare.is_some();
            if has_spare && tail.may(need) {
                return Ok(());
            }
            // What does not grow the log for good is content with the segment that it is in.
            let is_content = matches!(need, Need::Clean | Need::Replace);
            let fits = tail.fits(group_bytes);
            let is_there = has_spare || is_content && fits && !tail.is_nearly_full(group_bytes);
            (tail.segment.header, is_there, fits)
        };
        // A spare that the group does not fit into would be used up by it for nothing.
        let least = least_capacity(if fits { 0 } else { group_bytes });
        let wanted = self.wanted(need, is_there, least);
        let made = self.allowance.segment(wanted, |capacity| {
            let header = SegmentHeader {
                salt: crate::random::u32(),
                number: last.number + 1,
                start: last.start + last.capacity,
                capacity,
                previous: last.number,
                previous_end: None,
                previous_salt: last.salt,
                ..last
            };
            (!is_there).then(|| Segment::create(&*self.storage, header)).transpose()
        });
        let mut tail = lock(&self.tail);
        match made {
            Ok(segment) => {
                tail.spare = segment.or_else(|| tail.spare.take());
                // There is room for that, and perhaps for no more.
                tail.refused = tail.refused.filter(|_| need < Need::Grow);
                tail.refused =
                    tail.refused.map(|refused| if refused > need { refused } else { Need::Grow });
                tail.granted = need;
                tail.growth = allowance::growth(wanted.live.messages, wanted.ordinary);
                Ok(())
            }
            Err(error) => {
                tail.was_refused(need, &error);
                Err(error)
            }
        }
    }

    /// Sees to it that there is room for one more segment, which a group of so many bytes fits into, without making it.
    ///
    /// # Errors
    /// As [`Journal::make_spare`].
    pub(super) fn ask_for_room(&self, need: Need, group_bytes: u64) -> Result<()> {
        let wanted = self.wanted(need, false, least_capacity(group_bytes));
        let asked = self.allowance.segment(wanted, |_| Ok(()));
        asked.inspect_err(|error| {
            let mut tail = lock(&self.tail);
            tail.was_refused(need, error);
            // Left by the log, a segment that was made for such a group goes with the next snapshot.
            let capacity = tail.segment.header.capacity;
            if tail.check().is_ok()
                && let Some(next) = tail.spare.take_if(|spare| spare.header.capacity < capacity)
            {
                self.roll(&mut tail, next);
            }
        })
    }

    fn wanted(&self, need: Need, is_there: bool, least: u64) -> Wanted {
        let (live, ordinary) = (self.show.live(), self.options.segment_bytes);
        Wanted { need, is_there, least, ordinary, log: self.space().bytes(), live }
    }

    /// Sees to it that so many bytes may be appended in small groups, all of them: in the segment, in the spare, or in one that
    /// is made for them.
    ///
    /// # Errors
    /// `STORAGE_FULL` where there is no room for all of it; `POISONED`, `CLOSED`.
    pub(crate) fn make_room(&self, need: Need, bytes: u64) -> Result<()> {
        let tail = lock(&self.tail);
        let rest = (tail.segment.end() - tail.position).saturating_sub(FOOTER_BYTES);
        let spare = tail.spare.as_ref().map(|spare| rest + room_in(spare.header.capacity));
        drop(tail);
        if let Some(room) = spare.filter(|room| *room < bytes) {
            // Whoever settles goes on in the spare, and then there is room for another one.
            let text =
                format!("{bytes} bytes are to be written again, and there is room for {room}");
            return Err(Error::new(ErrorKind::StorageFull, text));
        }
        self.make_spare(need, bytes)
    }

    /// Whether an append of so many bytes need not wait for the disk: it has room in the segment, or in one that was made
    /// ahead, and little is unwritten before it. A hint: somebody else may take that room meanwhile.
    pub(crate) fn has_room_at_hand(&self, bytes: u64) -> bool {
        let tail = lock(&self.tail);
        let fits = tail.fits(bytes);
        let at_hand = match &tail.spare {
            Some(spare) => fits || HEADER_BYTES + bytes + FOOTER_BYTES <= spare.header.capacity,
            None => fits && !tail.is_nearly_full(bytes),
        };
        at_hand
            && tail.may(Need::Grow)
            && tail.position.saturating_sub(self.written.reached()) <= BACKLOG_MAX
    }

    /// Whether there is no spare for what grows.
    pub(crate) fn lacks_spare(&self) -> bool {
        let tail = lock(&self.tail);
        (tail.spare.is_none() || !tail.may(Need::Grow)) && !tail.closed && tail.poison.is_none()
    }

    /// Whether there was no room for something when it was last asked for.
    pub(crate) fn lacks_room(&self) -> bool {
        self.refused().is_some()
    }

    /// What there was no room for when it was last asked for: the least of that.
    pub(crate) fn refused(&self) -> Option<Need> {
        let tail = lock(&self.tail);
        tail.refused.filter(|_| !tail.closed && tail.poison.is_none())
    }
}
