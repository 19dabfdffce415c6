//! Inhabitants: what lives in the segments that a snapshot may free, apart for each of them.

use crate::journal::Segment;
use crate::sync::Arc;

/// Who has a content.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Slot { slot: u32, id: u64 },
    DeadLetter(u64),
}

/// The contents that live in a segment: the version of each, and who has it.
pub(super) type Owners = Vec<(u64, Owner)>;

/// Segments, oldest first, and what lives in each.
#[derive(Debug)]
pub(super) struct Inhabitants {
    segments: Vec<(Arc<Segment>, Owners)>,
    /// The segment that was last added to: messages come by their slots, which are mostly in the order of the log.
    last: usize,
}

impl Inhabitants {
    /// Nobody so far, in segments that are in order.
    pub(super) fn of(segments: Vec<Arc<Segment>>) -> Self {
        let segments = segments.into_iter().map(|segment| (segment, Owners::new())).collect();
        Self { segments, last: 0 }
    }

    /// Adds a content, if it is in one of them.
    pub(super) fn add(&mut self, version: u64, owner: Owner) {
        let is_in = |segment: &Segment| (segment.header.start..segment.end()).contains(&version);
        if !self.segments.get(self.last).is_some_and(|(segment, _)| is_in(segment)) {
            let ends_before = |(segment, _): &(Arc<Segment>, Owners)| segment.end() <= version;
            self.last = self.segments.partition_point(ends_before);
        }
        if let Some((segment, owners)) = self.segments.get_mut(self.last)
            && is_in(segment)
        {
            owners.push((version, owner));
        }
    }

    /// The segments and what lives in each.
    pub(super) fn into_segments(self) -> Vec<(Arc<Segment>, Owners)> {
        self.segments
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::journal::by_hand::{first_segment, following};
    use crate::storage::MemoryStorage;

    const BYTES: u64 = 64 << 10;

    #[test]
    fn a_content_is_in_the_segment_that_has_its_position() {
        let storage = MemoryStorage::new();
        let first = first_segment(&storage, BYTES);
        let second = Segment::create(&storage, following(&first.header)).unwrap();
        let third = Segment::create(&storage, following(&second.header)).unwrap();
        // The first one was freed, and the log goes on behind the third.
        let mut inhabitants = Inhabitants::of(vec![second, third]);
        let versions = [
            2 * BYTES,
            BYTES - 1,
            BYTES,
            3 * BYTES,
            3 * BYTES - 1,
            2 * BYTES - 1,
            2 * BYTES - 2,
            9 * BYTES,
        ];
        for version in versions {
            inhabitants.add(version, Owner::DeadLetter(version));
        }
        let found: Vec<Vec<u64>> = inhabitants
            .into_segments()
            .into_iter()
            .map(|(_, owners)| owners.into_iter().map(|(version, _)| version).collect())
            .collect();
        let expected = [vec![BYTES, 2 * BYTES - 1, 2 * BYTES - 2], vec![2 * BYTES, 3 * BYTES - 1]];
        assert_eq!(found, expected);
    }
}
