//! The ground: what an opening stands on, and where its own segment finds room.
//!
//! Nothing is cut, and nothing of the log removed, before the opening's own segment is durable and names the end of the log
//! before it, so all this can be done again after a crash. Where there is little room the way is longer: all that was found
//! becomes a snapshot first, and what that makes needless makes room for the segment.

use crate::buffer::Replayed;
use crate::error::{ErrorKind, Result};
use crate::journal::{Allowance, Recovered, Segment, SegmentHeader, condense, small};
use crate::storage::Storage;
use crate::sync::Arc;

/// How the names of files end that are being made.
const TEMPORARY: &str = ".tmp";

/// What an opening stands on.
#[derive(Debug)]
pub(super) struct Ground {
    /// The segments that hold something.
    pub(super) needed: Vec<Arc<Segment>>,
    /// The names of those that lie before the snapshot, and in which nothing lives any more.
    useless: Vec<String>,
    /// Bytes of the opening's own segment, and those that do where it cannot have them.
    capacity: u64,
    small: u64,
}

impl Ground {
    /// Sees to it that there is room for the opening's own segment, of so many bytes if it can be.
    ///
    /// # Errors
    /// `IO` where there is little room, and what makes some fails; the log is as it was.
    pub(super) fn prepare(
        storage: &Arc<dyn Storage>,
        allowance: &Allowance,
        ordinary: u64,
        recovered: &mut Recovered,
        replayed: &Replayed,
    ) -> Result<Self> {
        // Whatever was being made is nobody's; whoever works here from now on uses these names.
        let leftovers = recovered.leftovers.extract_if(.., |name| name.ends_with(TEMPORARY));
        leftovers.for_each(|name| drop(storage.remove(&name)));
        let live = replayed.live();
        let small = small(live, ordinary);
        let mut has_room = allowance.has_room_to_open(ordinary, live);
        if !has_room {
            match condense(storage, allowance, recovered, |writer| replayed.write(writer)) {
                Ok(()) => {
                    let (_, useless) = part(recovered, replayed);
                    useless.iter().for_each(|name| drop(storage.remove(name)));
                    has_room = allowance.has_room_to_open(ordinary, live);
                }
                // There may be room for the segment all the same.
                Err(full) if full.kind() == ErrorKind::StorageFull => {}
                Err(error) => return Err(error),
            }
        }
        let (needed, useless) = part(recovered, replayed);
        let capacity = if has_room { ordinary } else { small };
        Ok(Self { needed, useless, capacity, small })
    }

    /// Makes the segment of this opening durable.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO`, `CORRUPT`: the log is as it was.
    pub(super) fn begin(
        &self,
        storage: &dyn Storage,
        recovered: &Recovered,
        opening: u64,
    ) -> Result<Arc<Segment>> {
        let make = |capacity: u64| {
            Segment::create(storage, SegmentHeader { capacity, opening, ..recovered.next })
        };
        match make(self.capacity) {
            // There was room when it was looked for; or nobody knows how much there is.
            Err(full) if full.kind() == ErrorKind::StorageFull && self.small < self.capacity => {
                make(self.small)
            }
            made => made,
        }
    }

    /// Clears away what the opening does not need: its segment is there.
    pub(super) fn clear_away(&self, storage: &dyn Storage, recovered: &Recovered) {
        if let Some((last, end)) = &recovered.end {
            let _ = last.file.truncate(last.offset(*end));
        }
        for name in recovered.leftovers.iter().chain(&self.useless) {
            let _ = storage.remove(name);
        }
    }
}

/// Parts the segments into those that hold something, and the names of those that lie before the snapshot and in which
/// nothing lives any more.
fn part(recovered: &Recovered, replayed: &Replayed) -> (Vec<Arc<Segment>>, Vec<String>) {
    let begin = recovered.snapshot.map_or(0, |snapshot| snapshot.begin);
    let mut versions: Vec<u64> = replayed.versions().filter(|version| *version < begin).collect();
    versions.sort_unstable();
    let is_needed = |segment: &Arc<Segment>| {
        let first = versions.partition_point(|version| *version < segment.header.start);
        segment.end() > begin || versions.get(first).is_some_and(|version| *version < segment.end())
    };
    let (needed, useless): (Vec<_>, Vec<_>) =
        recovered.segments.iter().cloned().partition(is_needed);
    (needed, useless.iter().map(|segment| segment.name()).collect())
}
