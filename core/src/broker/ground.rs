//! The ground: what an opening stands on, and where its own segment finds room.
//!
//! Where there is room, nothing is cut or removed before the opening's own segment is durable and names the end of the log before
//! it, so all this can be done again after a crash. Where there is little, all that was found becomes a snapshot first, which
//! vouches for the log as well, and what that makes needless makes room for the segment.

use crate::buffer::Replayed;
use crate::error::{ErrorKind, Result};
use crate::journal::{
    Allowance, Live, Recovered, Segment, SegmentHeader, condense, least_capacity, secure, small,
};
use crate::storage::Storage;
use crate::sync::Arc;

/// How the names of files end that are being made.
const TEMPORARY: &str = ".tmp";

/// What an opening stands on.
#[derive(Debug)]
pub(super) struct Ground {
    /// The names of the segments that lie before the snapshot, and in which nothing lives any more.
    useless: Vec<String>,
    /// Bytes of the opening's own segment.
    capacity: u64,
}

impl Ground {
    /// Sees to it that there is room for the opening's own segment, of so many bytes if it can be, where so many live. Then the
    /// segments that were recovered are those that hold something.
    ///
    /// # Errors
    /// `IO` where there is little room, and what makes some fails; the log is as it was.
    pub(super) fn prepare(
        storage: &Arc<dyn Storage>,
        allowance: &Allowance,
        ordinary: u64,
        recovered: &mut Recovered,
        replayed: &Replayed,
        live: Live,
    ) -> Result<Self> {
        // Whatever was being made is nobody's; whoever works here from now on uses these names.
        let leftovers = recovered.leftovers.extract_if(.., |name| name.ends_with(TEMPORARY));
        leftovers.for_each(|name| drop(storage.remove(&name)));
        let mut useless = part(recovered, replayed);
        let mut has_room = allowance.has_room_to_open(ordinary, live);
        if !has_room {
            // What owners that were killed did not come to remove.
            secure(&**storage, recovered)?;
            remove(&**storage, useless.drain(..));
            has_room = allowance.has_room_to_open(ordinary, live);
        }
        if !has_room {
            match condense(storage, allowance, live, recovered, |writer| replayed.write(writer)) {
                Ok(()) => {
                    remove(&**storage, part(recovered, replayed).into_iter());
                    has_room = allowance.has_room_to_open(ordinary, live);
                }
                // There may be room for the segment all the same.
                Err(full) if full.kind() == ErrorKind::StorageFull => {}
                Err(error) => return Err(error),
            }
        }
        let capacity = if has_room { ordinary } else { small(live, ordinary) };
        Ok(Self { useless, capacity })
    }

    /// Makes the segment of this opening durable, with room for so many bytes at least.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO`, `CORRUPT`: the log is as it was.
    pub(super) fn begin(
        &self,
        storage: &dyn Storage,
        recovered: &Recovered,
        opening: u64,
        bytes: u64,
    ) -> Result<Arc<Segment>> {
        let capacity = self.capacity.max(least_capacity(bytes));
        Segment::create(storage, SegmentHeader { capacity, opening, ..recovered.next })
    }

    /// Clears away what the opening does not need: its segment is there.
    pub(super) fn clear_away(self, storage: &dyn Storage, recovered: &Recovered) {
        if let Some((last, end)) = &recovered.end {
            let _ = last.file.truncate(last.offset(*end));
        }
        remove(storage, self.useless.into_iter().chain(recovered.leftovers.iter().cloned()));
    }
}

fn remove(storage: &dyn Storage, names: impl Iterator<Item = String>) {
    // What cannot be removed now is removed at the next open, or after the next snapshot.
    names.for_each(|name| drop(storage.remove(&name)));
}

/// Takes the segments out that lie before the snapshot and in which nothing lives any more, and lets go of their files: the disk
/// has their room only then. Answers their names.
fn part(recovered: &mut Recovered, replayed: &Replayed) -> Vec<String> {
    let begin = recovered.snapshot.map_or(0, |snapshot| snapshot.begin);
    let mut versions: Vec<u64> = replayed.versions().filter(|version| *version < begin).collect();
    versions.sort_unstable();
    let is_useless = |segment: &mut Arc<Segment>| {
        let first = versions.partition_point(|version| *version < segment.header.start);
        let lives = versions.get(first).is_some_and(|version| *version < segment.end());
        segment.end() <= begin && !lives
    };
    recovered.segments.extract_if(.., is_useless).map(|segment| segment.name()).collect()
}
