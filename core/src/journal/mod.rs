//! Floor 1: the append-only log. It knows records, segments and syncs, and no queues.

mod allowance;
mod append;
#[cfg(test)]
pub(crate) mod by_hand;
mod checksum;
mod chunk;
mod commit;
mod condense;
mod effects;
mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod group;
mod image;
mod log;
#[cfg(all(test, loom))]
mod models;
mod readback;
mod reader;
mod record;
mod recovery;
mod segment;
mod snapshot;
mod space;
mod spare;
#[cfg(all(test, not(loom)))]
mod stress;
mod stretch;
mod tail;
mod walk;
mod window;
mod writing;

pub(crate) use allowance::{Allowance, Live, Need, SHORT_TEXT_BYTES_MAX, small};
pub(crate) use append::Appended;
pub(crate) use chunk::Bytes;
pub(crate) use condense::{condense, secure};
pub(crate) use effects::{Level, Pending, Show};
pub(crate) use files::{is_segment, refuse_foreign};
pub(crate) use group::Group;
pub(crate) use image::Image;
pub(crate) use log::{Journal, JournalOptions};
pub(crate) use readback::read_record;
pub(crate) use record::{KIND_USER_MIN, Record, space as record_space};
pub(crate) use recovery::{Recovered, recover, recover_what_is_sound};
pub(crate) use segment::{Segment, SegmentHeader, least_capacity, room_in};
pub(crate) use snapshot::SnapshotWriter;
pub(crate) use walk::Replay;
