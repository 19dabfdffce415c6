//! The door for the fuzz targets of the repository, under a feature of its own. Nothing here is for use, nor kept.

pub use crate::buffer::fuzzing::{record_body, snapshot_entry};
pub use crate::journal::fuzzing::{Snapshot, record_header, segment_header, snapshot};
