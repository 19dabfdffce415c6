//! The entries of a directory, by what they are: told by their names alone.
//!
//! What has none of our names is let be, and a directory in which nothing is ours is refused before anything is made or
//! written there.

use std::io;

use super::{segment, snapshot};
use crate::error::{Error, Result};
use crate::storage::{LOCK, LOCK_HINT_BYTES_MAX, Storage, StorageFile, is_lock_hint};
use crate::sync::Arc;

/// The entries of a directory, by what they are.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Something is ours beside the lock.
    is_ours: bool,
    pub(super) segments: Vec<String>,
    /// Oldest first: their names sort by their ends.
    pub(super) snapshots: Vec<String>,
    pub(super) leftovers: Vec<String>,
}

impl Files {
    pub(super) fn sort(storage: &dyn Storage, names: Vec<String>) -> Result<Self> {
        let mut files = Self::default();
        let mut foreign = None;
        for name in names {
            if name == LOCK {
                continue;
            }
            let is_temporary = name
                .strip_suffix(".tmp")
                .is_some_and(|stem| matches!(stem, "snapshot" | "marks") || is_segment(stem));
            if is_segment(&name) {
                files.segments.push(name);
            } else if is_snapshot(&name) {
                files.snapshots.push(name);
            } else if is_temporary {
                files.leftovers.push(name);
            } else if name != "marks" {
                foreign.get_or_insert(name);
                continue;
            }
            files.is_ours = true;
        }
        files.segments.sort_by_key(|name| (name.len(), name.clone()));
        files.snapshots.sort();
        match foreign {
            Some(name) if !files.is_ours => Err(Error::invalid(format!(
                "{} is not a libmq directory: it holds {name:?} and nothing of libmq",
                storage.path().display()
            ))
            .at(storage.path())),
            _ => Ok(files),
        }
    }
}

/// Refuses a directory of somebody else, before anything is made or written there.
///
/// # Errors
/// `INVALID`, `IO`.
pub(crate) fn refuse_foreign(storage: &dyn Storage) -> Result<()> {
    let names = storage.list().map_err(|cause| Error::io("list", storage.path(), &cause))?;
    let has_lock = names.iter().any(|name| name == LOCK);
    let files = Files::sort(storage, names)?;
    if files.is_ours || !has_lock {
        return Ok(());
    }
    // Nothing but that. Whoever makes it, writes its lines only when it is locked.
    let path = storage.path().join(LOCK);
    let mut bytes = [0; LOCK_HINT_BYTES_MAX];
    let read = storage.open(LOCK).and_then(|file| file.read_at(&mut bytes, 0));
    let read = read.map_err(|cause| Error::io("open", &path, &cause))?;
    if is_lock_hint(&String::from_utf8_lossy(bytes.get(..read).unwrap_or_default())) {
        return Ok(());
    }
    let text = format!("{} is not of libmq, and it is in the way", path.display());
    Err(Error::invalid(text).at(path))
}

/// Makes a file under a temporary name. What an earlier one has left there is removed.
pub(super) fn create_temporary(
    storage: &dyn Storage,
    name: &str,
    bytes: u64,
) -> io::Result<Arc<dyn StorageFile>> {
    match storage.create(name, bytes) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(name)?;
            storage.create(name, bytes)
        }
        other => other,
    }
}

/// Whether a file is a segment, by its name.
pub(crate) fn is_segment(name: &str) -> bool {
    let number = name.strip_suffix(".segment").and_then(|number| number.parse().ok());
    number.is_some_and(|number| segment::file_name(number) == name)
}

/// Whether a file is a snapshot, by its name.
pub(super) fn is_snapshot(name: &str) -> bool {
    let end = name.strip_suffix(".snapshot").and_then(|end| u64::from_str_radix(end, 16).ok());
    end.is_some_and(|end| snapshot::file_name(end) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_has_a_name_as_we_give_it() {
        for number in [1, 99_999_999, 100_000_000, u64::MAX] {
            assert!(is_segment(&segment::file_name(number)), "{number}");
            assert!(is_snapshot(&snapshot::file_name(number)), "{number}");
        }
        for name in
            ["1.segment", "+0000001.segment", "000000001.segment", "notes.segment", ".segment"]
        {
            assert!(!is_segment(name), "{name}");
        }
        for name in ["cafe.snapshot", "000000000000CAFE.snapshot", "notes.snapshot", ".snapshot"] {
            assert!(!is_snapshot(name), "{name}");
        }
    }
}
