//! What was done to a simulated disk, call by call.

use std::fmt;
use std::sync::Arc;

use libmq::storage::Mark;

/// A file, whatever its names are.
pub type Inode = usize;

/// A call that changed a disk, or made a change durable.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    /// A new file of that many zeros.
    Create { name: String, inode: Inode, bytes: u64 },
    /// Bytes at an offset.
    Write { inode: Inode, offset: u64, bytes: Arc<[u8]> },
    /// The file was cut to this length.
    Truncate { inode: Inode, bytes: u64 },
    /// The file's contents became durable.
    Sync { inode: Inode },
    /// What was changed since the last sync will never become durable, and is read all the same.
    Forget { inode: Inode },
    /// What is read of the file is what is durable, but for what can still become so.
    Drop { inode: Inode },
    /// A file got another name.
    Rename { from: String, to: String, inode: Inode },
    /// A name was removed.
    Remove { name: String },
    /// All names became durable.
    SyncDir,
    /// These messages were being handled from then on: not a call, and never durable for sure.
    Marks(Vec<Mark>),
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name, inode, bytes } => write!(f, "create {name} #{inode} of {bytes}"),
            Self::Write { inode, offset, bytes } => {
                write!(f, "write #{inode} {offset}+{}", bytes.len())
            }
            Self::Truncate { inode, bytes } => write!(f, "truncate #{inode} to {bytes}"),
            Self::Sync { inode } => write!(f, "sync #{inode}"),
            Self::Forget { inode } => write!(f, "forget #{inode}"),
            Self::Drop { inode } => write!(f, "drop what is kept of #{inode}"),
            Self::Rename { from, to, inode } => write!(f, "rename {from} #{inode} to {to}"),
            Self::Remove { name } => write!(f, "remove {name}"),
            Self::SyncDir => write!(f, "sync the directory"),
            Self::Marks(marks) => {
                let ids: Vec<u64> = marks.iter().map(|mark| mark.id).collect();
                write!(f, "mark {ids:?}")
            }
        }
    }
}

/// The calls a disk takes, those that change nothing included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named after the call")]
pub enum Call {
    List,
    Create,
    Open,
    Rename,
    Remove,
    SyncDir,
    Len,
    Read,
    Write,
    Truncate,
    Sync,
}
