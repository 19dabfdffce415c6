//! A journal's first segment, for tests.

use super::segment::{Segment, SegmentHeader};
use crate::storage::Storage;
use crate::sync::Arc;

/// Makes the first segment of a log, of so many bytes.
pub(super) fn first_segment(storage: &dyn Storage, capacity: u64) -> Arc<Segment> {
    let header = SegmentHeader {
        salt: 7,
        broker: [1; 16],
        number: 1,
        start: 0,
        capacity,
        opening: 1,
        previous: 0,
        previous_end: None,
        previous_salt: 0,
    };
    Segment::create(storage, header).unwrap()
}
