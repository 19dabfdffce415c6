//! What of a disk is durable, and what is not yet.
//!
//! Each file has the contents of its last sync and the changes since, the directory has the names of its last sync and
//! the changes since. A power failure keeps what is durable and any part of the rest, in any combination; see
//! [`images`](super::images) for those that are tried. The marks of what is being handled survive the death of a process,
//! and may or may not survive anything else.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use libmq::storage::Mark;

use super::trace::{Inode, Op};

/// The contents of a file: bytes up to the last one ever written, then zeros up to the length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    bytes: Vec<u8>,
    len: u64,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Makes the file at least this long.
    pub(crate) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let start = offset as usize;
        let end = start + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
        self.extend(end as u64);
    }

    pub(crate) fn truncate(&mut self, len: u64) {
        self.len = self.len.min(len);
        self.bytes.truncate(len as usize);
    }

    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = buffer.len().min(self.len.saturating_sub(offset) as usize);
        let there = self.bytes.get(offset as usize..).unwrap_or_default();
        let there = &there[..there.len().min(count)];
        buffer[..there.len()].copy_from_slice(there);
        buffer[there.len()..count].fill(0);
        count
    }

    /// The bytes that are not zeros at the end.
    pub(crate) fn used(&self) -> &[u8] {
        let end = self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        &self.bytes[..end]
    }
}

/// A change of a file that no sync covers yet.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Extend(u64),
    Write(u64, Arc<[u8]>),
    Truncate(u64),
}

impl Change {
    pub(crate) fn apply(&self, content: &mut Content) {
        match self {
            Self::Extend(len) => content.extend(*len),
            Self::Write(offset, bytes) => content.write(*offset, bytes),
            Self::Truncate(len) => content.truncate(*len),
        }
    }
}

/// A change of the directory that no sync covers yet.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    Add(String, Inode),
    Move(String, String, Inode),
    Remove(String),
}

impl NameChange {
    pub(crate) fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Move(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

pub type Names = BTreeMap<String, Inode>;

/// A file: what is durable of it, and what came since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) durable: Arc<Content>,
    pub(crate) pending: Vec<Change>,
    /// What is read in place of the durable contents: a sync has failed, and the kernel keeps what it could not write, calls
    /// it clean, and will never write it.
    pub(crate) kept: Option<Arc<Content>>,
}

impl Stored {
    pub(crate) fn new(durable: Arc<Content>, pending: Vec<Change>) -> Self {
        Self { durable, pending, kept: None }
    }

    /// The contents with all changes, as they are read.
    pub(crate) fn all(&self) -> Arc<Content> {
        let Some(kept) = &self.kept else { return self.with(&self.pending) };
        let mut content = Content::clone(kept);
        self.pending.iter().for_each(|change| change.apply(&mut content));
        Arc::new(content)
    }

    /// The durable contents with these changes.
    pub(crate) fn with<'a>(&self, changes: impl IntoIterator<Item = &'a Change>) -> Arc<Content> {
        let mut changes = changes.into_iter().peekable();
        if changes.peek().is_none() {
            return Arc::clone(&self.durable);
        }
        let mut content = Content::clone(&self.durable);
        changes.for_each(|change| change.apply(&mut content));
        Arc::new(content)
    }
}

/// A disk at one moment: what is durable, and what is not yet.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    pub(crate) files: BTreeMap<Inode, Stored>,
    pub(crate) names: Names,
    pub(crate) pending_names: Vec<NameChange>,
    pub(crate) marks: Vec<Mark>,
    /// The marks that there were before these.
    pub(crate) past_marks: Vec<Mark>,
}

impl Platter {
    /// A disk on which all of this is durable.
    pub(crate) fn durable(
        names: Names,
        files: impl IntoIterator<Item = (Inode, Arc<Content>)>,
    ) -> Self {
        let mut files: BTreeMap<_, _> = files
            .into_iter()
            .map(|(inode, durable)| (inode, Stored::new(durable, Vec::new())))
            .collect();
        // A file without a name is gone.
        files.retain(|inode, _| names.values().any(|named| named == inode));
        Self { files, names, ..Self::default() }
    }

    /// Takes one more call in.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { name, inode, bytes } => {
                let pending = vec![Change::Extend(*bytes)];
                self.files.insert(*inode, Stored::new(Arc::default(), pending));
                self.pending_names.push(NameChange::Add(name.clone(), *inode));
            }
            Op::Write { inode, offset, bytes } => {
                self.change(*inode, Change::Write(*offset, Arc::clone(bytes)));
            }
            Op::Truncate { inode, bytes } => self.change(*inode, Change::Truncate(*bytes)),
            Op::Sync { inode } => {
                if let Some(file) = self.files.get_mut(inode) {
                    let all = file.all();
                    file.durable = file.with(&file.pending);
                    file.pending.clear();
                    file.kept = file.kept.take().map(|_| all);
                }
            }
            Op::Forget { inode } => {
                if let Some(file) = self.files.get_mut(inode) {
                    file.kept = Some(file.all());
                    file.pending.clear();
                }
            }
            Op::Drop { inode } => {
                if let Some(file) = self.files.get_mut(inode) {
                    file.kept = None;
                }
            }
            Op::Rename { from, to, inode } => {
                self.pending_names.push(NameChange::Move(from.clone(), to.clone(), *inode));
            }
            Op::Remove { name } => self.pending_names.push(NameChange::Remove(name.clone())),
            Op::Marks(marks) => {
                self.past_marks = std::mem::replace(&mut self.marks, marks.clone());
            }
            Op::SyncDir => {
                self.names = self.all_names();
                self.pending_names.clear();
                self.forget_nameless();
            }
        }
    }

    /// The marks there are, and those from before that may be there instead.
    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().chain(&self.past_marks)
    }

    /// The names with all changes.
    #[must_use]
    pub fn all_names(&self) -> Names {
        let mut names = self.names.clone();
        self.pending_names.iter().for_each(|change| change.apply(&mut names));
        names
    }

    /// The files that have a name, by name, with all changes: name and contents up to the last byte that is not zero.
    #[must_use]
    pub fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let content =
            |inode| self.files.get(inode).map_or_else(Vec::new, |file| file.all().used().to_vec());
        self.all_names().iter().map(|(name, inode)| (name.clone(), content(inode))).collect()
    }

    /// The same disk with all of it durable and one file's bytes changed by `damage`, which is given them up to the
    /// file's length.
    #[must_use]
    pub fn damaged(&self, name: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Self {
        let names = self.all_names();
        let mut files: BTreeMap<Inode, Arc<Content>> =
            self.files.iter().map(|(inode, file)| (*inode, file.all())).collect();
        if let Some(content) = names.get(name).and_then(|inode| files.get_mut(inode)) {
            let mut bytes = content.bytes.clone();
            bytes.resize(content.len as usize, 0);
            damage(&mut bytes);
            *content = Arc::new(Content { len: bytes.len() as u64, bytes });
        }
        Self::durable(names, files)
    }

    /// The same disk with all of it durable and without one of its files.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut platter = self.damaged(name, |_| {});
        platter.apply(&Op::Remove { name: name.to_owned() });
        platter.apply(&Op::SyncDir);
        platter
    }

    /// A number that two disks with the same names, contents and marks share.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        // The standard library's hasher was a fifth and more of the time of all images.
        let mut hasher = foldhash::quality::FixedState::default().build_hasher();
        for (name, inode) in self.all_names() {
            name.hash(&mut hasher);
            let Some(file) = self.files.get(&inode) else { continue };
            let content = file.all();
            (content.len, content.used()).hash(&mut hasher);
        }
        for mark in &self.marks {
            mark.token.hash(&mut hasher);
        }
        hasher.finish()
    }

    fn change(&mut self, inode: Inode, change: Change) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.pending.push(change);
        }
    }

    /// Lets go of files that no power failure can bring back.
    fn forget_nameless(&mut self) {
        let names = &self.names;
        self.files.retain(|inode, _| names.values().any(|named| named == inode));
    }
}
