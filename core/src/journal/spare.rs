//! The spare: a segment that is made ahead, so that who appends need not wait for the disk.
//!
//! What grows the log waits for it, and is refused where there is no room for one; what settles takes room where it finds
//! any. The tail has it until it rolls.

use super::allowance::{self, Need, Wanted};
use super::effects::Show;
use super::log::{BACKLOG_MAX, Journal};
use super::segment::{FOOTER_BYTES, HEADER_BYTES, Segment, SegmentHeader, least_capacity};
use crate::error::{ErrorKind, Result};
use crate::sync::lock;

impl<S: Show> Journal<S> {
    /// Makes the spare segment, if there is none, with room for a group of this many bytes, and sees to it that what grows
    /// may do so; a spare that was made for what settles is for that as well then.
    ///
    /// # Errors
    /// `STORAGE_FULL` where the disk has no room for it; asked again, it is tried again.
    pub(crate) fn make_spare(&self, need: Need, group_bytes: u64) -> Result<()> {
        // One at a time. Without a spare the tail cannot roll, so the segment it is in stays the last one.
        let _turn = lock(&self.making);
        let (last, is_there) = {
            let tail = lock(&self.tail);
            tail.check()?;
            let is_there = tail.spare.is_some();
            if is_there && tail.may(need) {
                return Ok(());
            }
            (tail.segment.header, is_there)
        };
        let least = least_capacity(group_bytes);
        let (live, ordinary) = (self.show.live(), self.options.segment_bytes);
        let wanted = Wanted { need, is_there, least, ordinary, live };
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
                tail.growth_refused &= need != Need::Grow;
                tail.granted = need;
                tail.growth = allowance::growth(live.messages, ordinary);
                Ok(())
            }
            Err(error) => {
                tail.growth_refused = error.kind() == ErrorKind::StorageFull;
                if tail.growth_refused {
                    tail.granted = tail.granted.min(Need::Tell);
                }
                Err(error)
            }
        }
    }

    /// Whether an append of so many bytes need not wait for the disk: it has room in the segment, or in one that was made
    /// ahead, and little is unwritten before it. A hint: somebody else may take that room meanwhile.
    pub(crate) fn has_room_at_hand(&self, bytes: u64) -> bool {
        let tail = lock(&self.tail);
        let fits = tail.position + bytes + FOOTER_BYTES <= tail.segment.end();
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

    /// Whether there was no room to grow when that was last asked.
    pub(crate) fn lacks_room(&self) -> bool {
        let tail = lock(&self.tail);
        tail.growth_refused && !tail.closed && tail.poison.is_none()
    }
}
