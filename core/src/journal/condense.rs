//! Condensing: a snapshot of what recovery found, before the log goes on.
//!
//! Nothing but the snapshot's room is needed for it, and what it leaves is the segments in which something lives, and the one
//! in which the log ends. So an owner that finds no room makes some, whatever those before it have left behind.

use super::allowance::Allowance;
use super::recovery::Recovered;
use super::snapshot::{self, SnapshotHeader, SnapshotWriter};
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::sync::Arc;

/// Writes a snapshot of all that was `recovered`, where there is a log; `entries` writes what the journal does not know. Then
/// there is nothing to be replayed any more, and older snapshots are gone.
///
/// # Errors
/// `STORAGE_FULL`, `IO`: what was recovered is as it was, and so is the directory.
pub(crate) fn condense(
    storage: &Arc<dyn Storage>,
    allowance: &Allowance,
    recovered: &mut Recovered,
    entries: impl FnOnce(&mut SnapshotWriter<'_>) -> Result<()>,
) -> Result<()> {
    let Some(end) = recovered.end.as_ref().map(|(_, end)| *end) else { return Ok(()) };
    let header = SnapshotHeader { broker: recovered.next.broker, begin: end, end };
    if recovered.snapshot == Some(header) {
        return Ok(());
    }
    // Who does not serve what is durable has not synced it yet, and a snapshot vouches for all up to its end.
    for segment in &recovered.segments {
        let path = || storage.path().join(segment.name());
        segment.file.sync().map_err(|cause| Error::io("sync", path(), &cause))?;
    }
    let mut writer = SnapshotWriter::create(storage, allowance)?;
    let segments = &recovered.segments;
    let written = entries(&mut writer)
        .and_then(|()| segments.iter().try_for_each(|segment| writer.segment(&segment.header)));
    if let Err(error) = written {
        writer.abandon();
        return Err(error);
    }
    recovered.snapshot_size = writer.finish(header)?;
    recovered.snapshot = Some(header);
    recovered.replayed_bytes = 0;
    snapshot::remove_before(&**storage, end);
    Ok(())
}
