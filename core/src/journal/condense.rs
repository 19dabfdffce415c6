//! Condensing: a snapshot of what recovery found, before the log goes on.
//!
//! Nothing but the snapshot's room is needed for it, and what it leaves of the log is the segments in which something lives, and
//! the one in which it ends. So an owner that finds no room makes some, whatever those before it have left behind.

use super::allowance::{Allowance, Live};
use super::recovery::Recovered;
use super::snapshot::{self, SnapshotHeader, SnapshotWriter};
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::sync::Arc;

/// Makes what was `recovered` durable, as far as it is not, and removes the snapshots that are older than the one it begins with.
///
/// # Errors
/// `IO`.
pub(crate) fn secure(storage: &dyn Storage, recovered: &Recovered) -> Result<()> {
    for segment in &recovered.segments {
        let path = || storage.path().join(segment.name());
        segment.file.sync().map_err(|cause| Error::io("sync", path(), &cause))?;
    }
    storage.sync_dir().map_err(|cause| Error::io("sync", storage.path(), &cause))?;
    if let Some(newest) = recovered.snapshot {
        snapshot::remove_before(storage, newest.end);
    }
    Ok(())
}

/// Writes a snapshot of all that was `recovered`, in which so many live, where there is a log; `entries` writes what the journal
/// does not know. Then there is nothing to be replayed any more, and older snapshots are gone. What was recovered has to be
/// [secure]: the snapshot says so.
///
/// # Errors
/// `STORAGE_FULL`, `IO`: what was recovered is as it was, and so is the directory.
pub(crate) fn condense(
    storage: &Arc<dyn Storage>,
    allowance: &Allowance,
    live: Live,
    recovered: &mut Recovered,
    entries: impl FnOnce(&mut SnapshotWriter<'_>) -> Result<()>,
) -> Result<()> {
    let Some(end) = recovered.end.as_ref().map(|(_, end)| *end) else { return Ok(()) };
    // Before the record that closes the log: behind it there may be no room for a snapshot to begin in.
    let end = recovered.closed.unwrap_or(end);
    let header = SnapshotHeader { broker: recovered.next.broker, begin: end, end };
    if recovered.snapshot == Some(header) {
        return Ok(());
    }
    let mut writer = SnapshotWriter::create(storage, allowance, live)?;
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
