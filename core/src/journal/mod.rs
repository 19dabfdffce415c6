//! Floor 1: the append-only log. It knows records, segments and syncs, and no queues.

mod chunk;
mod commit;
mod log;
mod prepared;
mod record;
mod recovery;
mod segment;
mod snapshot;
mod space;

pub(crate) use chunk::Bytes;
pub(crate) use log::{Journal, JournalOptions, Level, Need, Pending, Show};
pub(crate) use record::{KIND_USER_MIN, Record, space as record_space};
pub(crate) use recovery::{Recovered, Replay, recover};
pub(crate) use segment::{Segment, SegmentHeader};
pub(crate) use snapshot::{SnapshotHeader, SnapshotWriter};
