//! The entries of a directory, by what they are: told by their names alone.
//!
//! What has none of our names is let be, and a directory in which nothing is ours is refused before anything is made or
//! written there.

use crate::error::{Error, Result};
use crate::storage::Storage;

/// The file that the owner locks, and what it writes there.
pub(crate) const LOCK: &str = "lock";
const LOCK_LINES: [&str; 4] = ["pid=", "command=", "since_ms=", "instance="];
const LOCK_BYTES_MAX: usize = 1024;

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
            let is_ours = match name.rsplit_once('.') {
                Some((number, "segment")) if is_number(number, 10) => {
                    files.segments.push(name);
                    true
                }
                Some((end, "snapshot")) if is_number(end, 16) => {
                    files.snapshots.push(name);
                    true
                }
                Some((stem, "tmp"))
                    if matches!(stem, "snapshot" | "marks") || stem.ends_with(".segment") =>
                {
                    files.leftovers.push(name);
                    true
                }
                None if name == "marks" => true,
                _ if name == LOCK => continue,
                _ => {
                    foreign.get_or_insert(name);
                    false
                }
            };
            files.is_ours |= is_ours;
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
    let mut bytes = [0; LOCK_BYTES_MAX];
    let read = storage.open(LOCK).and_then(|file| file.read_at(&mut bytes, 0));
    let read = read.map_err(|cause| Error::io("open", &path, &cause))?;
    let text = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default());
    let mut lines = text.lines();
    let ours =
        LOCK_LINES.iter().all(|name| lines.next().is_some_and(|line| line.starts_with(name)));
    if text.is_empty() || ours && lines.next().is_none() {
        return Ok(());
    }
    let text = format!("{} is not of libmq, and it is in the way", path.display());
    Err(Error::invalid(text).at(path))
}

fn is_number(text: &str, radix: u32) -> bool {
    !text.is_empty() && text.chars().all(|character| character.is_digit(radix))
}
