//! A disk in memory that records every call, fails when told to, and can be turned off at any moment.
//!
//! The disk as its user sees it has everything that was written. Its [`trace`](SimDisk::trace) of calls, replayed on
//! the [`Platter`] it began with, tells what of that was durable at any moment, and so what a power failure there would
//! have left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libmq::storage::{Gain, Mark, Marks, Storage, StorageFile};
use libmq::{Error, ErrorKind, Result};

use super::platter::{Content, Names, Platter};
use super::trace::{Call, Inode, Op};

/// The path that errors name.
const PATH: &str = "/sim";

/// Messages that may be handled at once.
const MARKS: usize = 1 << 16;

/// Nobody is held longer, so that a test that fails ends.
const HELD_MAX: Duration = Duration::from_secs(30);

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// One call fails.
    Once,
    /// From that call on, all fail that fail so on a real disk, until it is mended.
    ForEver,
}

/// What a kernel does with the pages that a sync could not write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// They wait for the next sync.
    #[default]
    Wait,
    /// It keeps them and calls them clean: they can be read, and are never written. So do ext4 and XFS.
    Keep,
    /// It drops them: what the disk holds is read. So does btrfs.
    Drop,
}

/// A call that failed because it was told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faulted {
    /// What was called.
    pub call: Call,
    /// The file's name at that moment, where it had one.
    pub name: Option<String>,
}

/// A simulated disk with one directory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    disk: Mutex<Disk>,
    unlocked: Condvar,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Disk {
    began: Platter,
    files: BTreeMap<Inode, Content>,
    names: Names,
    next: Inode,
    trace: Vec<Op>,
    marks: Option<Arc<Marks>>,
    /// The marks as the trace knows them; absent where it is not to.
    noted: Option<Vec<Mark>>,
    locked: bool,
    calls: u64,
    fault: Option<Fault>,
    faulted: Vec<Faulted>,
    /// What becomes of pages that a sync has failed for.
    pages: Pages,
    /// Files that are read otherwise than the disk has them.
    kept: BTreeSet<Inode>,
    /// Calls of this kind, on a name with this end, take until somebody says otherwise.
    holds: Option<(Call, &'static str)>,
    held: usize,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    at: u64,
    code: i32,
    times: Times,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new(Platter::default())
    }
}

impl SimDisk {
    /// A disk that begins as this.
    #[must_use]
    pub fn new(began: Platter) -> Self {
        let files: BTreeMap<Inode, Content> =
            began.files.iter().map(|(inode, file)| (*inode, Content::clone(&file.all()))).collect();
        let next = files.keys().next_back().map_or(0, |last| last + 1);
        let kept = began.files.iter().filter(|(_, file)| file.kept.is_some());
        let kept = kept.map(|(inode, _)| *inode).collect();
        let disk = Disk { names: began.all_names(), files, next, kept, began, ..Disk::default() };
        Self { shared: Arc::new(Shared { disk: Mutex::new(disk), ..Shared::default() }) }
    }

    /// The disk as a storage.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// The disk as it began.
    #[must_use]
    pub fn began(&self) -> Platter {
        self.disk().began.clone()
    }

    /// The disk as it is, with what is durable of it.
    #[must_use]
    pub fn platter(&self) -> Platter {
        self.disk().platter()
    }

    /// The files there are: name and contents, up to the last byte that is not zero.
    #[must_use]
    pub fn contents(&self) -> Vec<(String, Vec<u8>)> {
        self.platter().contents()
    }

    /// Everything that changed the disk so far.
    #[must_use]
    pub fn trace(&self) -> Vec<Op> {
        self.disk().trace.clone()
    }

    /// Has the trace tell which messages were being handled, before every call and whenever it is asked for.
    pub fn note_marks(&self) {
        let mut disk = self.disk();
        let began = disk.began.marks.clone();
        disk.noted.get_or_insert(began);
        disk.note();
    }

    /// Has the trace tell no more of them.
    pub fn ignore_marks(&self) {
        self.disk().noted = None;
    }

    /// How many calls have changed the disk so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.disk().trace.len()
    }

    /// Whether anything was changed. What was there already may have become durable, or be read as the disk has it.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        let harmless =
            |op: &Op| matches!(op, Op::Sync { .. } | Op::SyncDir | Op::Drop { .. } | Op::Marks(_));
        !self.disk().trace.iter().all(harmless)
    }

    /// How many calls there were, those that change nothing included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Makes the call of this number fail with this error of the operating system.
    pub fn fail_at(&self, call: u64, code: i32, times: Times) {
        self.disk().fault = Some(Fault { at: call, code, times });
    }

    /// Says what becomes of what a failing sync does not write.
    pub fn set_pages(&self, pages: Pages) {
        self.disk().pages = pages;
    }

    /// Ends all faults.
    pub fn mend(&self) {
        self.disk().fault = None;
    }

    /// Which calls have failed because they were to.
    #[must_use]
    pub fn faulted(&self) -> Vec<Faulted> {
        self.disk().faulted.clone()
    }

    /// Makes creations of files whose name ends so, or renames to such a name, take until [`SimDisk::release`].
    pub fn hold(&self, call: Call, end: &'static str) {
        self.disk().holds = Some((call, end));
    }

    /// How many threads are in such a call, and held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.disk().held
    }

    /// Lets those go on that are held, and those to come.
    pub fn release(&self) {
        self.disk().holds = None;
        self.shared.released.notify_all();
    }

    /// The disk, once calls of this kind are not held any more.
    fn wait(&self, call: Call, name: &str) -> MutexGuard<'_, Disk> {
        let mut disk = self.disk();
        let held = |disk: &mut Disk| {
            disk.holds.is_some_and(|(held, end)| held == call && name.ends_with(end))
        };
        if !held(&mut disk) {
            return disk;
        }
        disk.held += 1;
        let released = self.shared.released.wait_timeout_while(disk, HELD_MAX, held);
        let (mut disk, _) = released.unwrap_or_else(PoisonError::into_inner);
        disk.held -= 1;
        disk
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Counts a call, and fails it if it is to fail.
    fn call(&mut self, call: Call, name: Option<&str>, grows: bool) -> io::Result<()> {
        let number = self.calls;
        self.calls += 1;
        let Some(fault) = self.fault else { return Ok(()) };
        let hit = match fault.times {
            Times::Once => number == fault.at,
            Times::ForEver => number >= fault.at && lasts(call, fault.code, grows),
        };
        if !hit {
            return Ok(());
        }
        self.faulted.push(Faulted { call, name: name.map(str::to_owned) });
        Err(io::Error::from_raw_os_error(fault.code))
    }

    fn push(&mut self, op: Op) {
        self.note();
        self.trace.push(op);
    }

    /// Notes the marks if they have changed.
    fn note(&mut self) {
        let (Some(noted), Some(marks)) = (&mut self.noted, &self.marks) else { return };
        let now = marks.all();
        if *noted != now {
            noted.clone_from(&now);
            self.trace.push(Op::Marks(now));
        }
    }

    fn platter(&self) -> Platter {
        let mut platter = self.began.clone();
        self.trace.iter().for_each(|op| platter.apply(op));
        platter
    }

    /// A sync of this file has failed.
    fn sync_failed(&mut self, inode: Inode) {
        if self.pages != Pages::Wait {
            self.push(Op::Forget { inode });
            self.kept.insert(inode);
        }
        if self.pages == Pages::Drop {
            self.drop_kept(inode);
        }
    }

    /// Has the file read as the disk has it.
    fn drop_kept(&mut self, inode: Inode) {
        if !self.kept.remove(&inode) {
            return;
        }
        self.push(Op::Drop { inode });
        let content = self.platter().files.get(&inode).map(|file| Content::clone(&file.all()));
        self.files.insert(inode, content.unwrap_or_default());
    }

    fn named(&self, inode: Inode) -> Option<String> {
        let mut names = self.names.iter();
        names.find(|(_, named)| **named == inode).map(|(name, _)| name.clone())
    }

    fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) {
        self.push(Op::Write { inode, offset, bytes: bytes.into() });
        self.files.entry(inode).or_default().write(offset, bytes);
    }
}

/// Whether a lasting fault of this kind meets this call: a read-only disk can be read, a full one can also be written where
/// it has space allocated, and a process that has no more files can use those that it has.
fn lasts(call: Call, code: i32, grows: bool) -> bool {
    match code {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => grows,
        libc::EMFILE => matches!(call, Call::List | Call::Create | Call::Open),
        libc::EROFS => !matches!(call, Call::List | Call::Open | Call::Len | Call::Read),
        _ => true,
    }
}

impl Storage for SimDisk {
    fn path(&self) -> &Path {
        Path::new(PATH)
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn lock(&self, timeout: Duration) -> Result<Box<dyn Send + Sync>> {
        let disk = self.disk();
        let (mut disk, _) = self
            .shared
            .unlocked
            .wait_timeout_while(disk, timeout, |disk| disk.locked)
            .unwrap_or_else(PoisonError::into_inner);
        if disk.locked {
            return Err(Error::new(ErrorKind::Locked, "the simulated disk is in use"));
        }
        disk.locked = true;
        Ok(Box::new(Lock(Arc::clone(&self.shared))))
    }

    fn marks(&self, _: usize) -> Result<Arc<Marks>> {
        let mut disk = self.disk();
        if let Some(marks) = &disk.marks {
            return Ok(Arc::clone(marks));
        }
        let failed = |cause: io::Error| Error::new(ErrorKind::NoMemory, cause.to_string());
        let marks = Arc::new(Marks::in_memory(MARKS).map_err(failed)?);
        for (number, mark) in (0..).zip(&disk.began.marks) {
            marks.set(number, *mark).map_err(failed)?;
        }
        disk.marks = Some(Arc::clone(&marks));
        Ok(marks)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.call(Call::List, None, false)?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.wait(Call::Create, name);
        disk.call(Call::Create, Some(name), true)?;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.next;
        disk.next += 1;
        disk.names.insert(name.to_owned(), inode);
        disk.files.entry(inode).or_default().extend(bytes);
        disk.push(Op::Create { name: name.to_owned(), inode, bytes });
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk();
        disk.call(Call::Open, Some(name), false)?;
        let inode = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.wait(Call::Rename, to);
        disk.call(Call::Rename, Some(to), false)?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), inode);
        disk.push(Op::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.call(Call::Remove, Some(name), false)?;
        disk.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        disk.push(Op::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.call(Call::SyncDir, None, false)?;
        disk.push(Op::SyncDir);
        Ok(())
    }
}

/// Gives the directory up when dropped.
#[derive(Debug)]
struct Lock(Arc<Shared>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.disk.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
        self.0.unlocked.notify_one();
    }
}

/// An open file of the disk; lives on without a name.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: Inode,
}

impl SimFile {
    /// `end` is up to where the call writes.
    fn call(&self, call: Call, end: u64) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk.disk();
        let name = disk.fault.and_then(|_| disk.named(self.inode));
        let grows = end > disk.files.get(&self.inode).map_or(0, Content::len);
        disk.call(call, name.as_deref(), grows)?;
        Ok(disk)
    }
}

impl StorageFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.call(Call::Len, 0)?.files.get(&self.inode).map_or(0, Content::len))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.call(Call::Read, 0)?;
        Ok(disk.files.get(&self.inode).map_or(0, |content| content.read(buffer, offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.call(Call::Write, offset + bytes.len() as u64) {
            Ok(mut disk) => {
                disk.write(self.inode, offset, bytes);
                Ok(())
            }
            Err(error) => {
                // A disk that fails half way has the first half, unless nothing can be written at all.
                if error.raw_os_error() != Some(libc::EROFS) && bytes.len() > 1 {
                    self.disk.disk().write(self.inode, offset, &bytes[..bytes.len() / 2]);
                }
                Err(error)
            }
        }
    }

    fn gain(&self) -> Gain {
        Gain::All
    }

    /// Zeros on zeros, which no trace need tell.
    fn make_ready(&self, offset: u64, bytes: u64) {
        let mut there = vec![0; bytes as usize];
        if let Some(content) = self.disk.disk().files.get(&self.inode) {
            content.read(&mut there, offset);
        }
        assert!(there.iter().all(|byte| *byte == 0), "something was written there");
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.call(Call::Truncate, 0)?;
        disk.files.entry(self.inode).or_default().truncate(bytes);
        disk.push(Op::Truncate { inode: self.inode, bytes });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.call(Call::Sync, 0) {
            Ok(mut disk) => {
                disk.push(Op::Sync { inode: self.inode });
                Ok(())
            }
            Err(error) => {
                self.disk.disk().sync_failed(self.inode);
                Err(error)
            }
        }
    }

    fn drop_cached(&self) {
        self.disk.disk().drop_kept(self.inode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_traced() {
        let disk = SimDisk::default();
        let file = disk.create("a", 100).unwrap();
        file.write_at(b"hello", 10).unwrap();
        let mut bytes = [9; 20];
        assert_eq!(file.read_at(&mut bytes, 8).unwrap(), 20);
        assert_eq!(&bytes[..8], b"\0\0hello\0");
        assert_eq!(file.read_at(&mut bytes, 95).unwrap(), 5);
        file.truncate(12).unwrap();
        assert_eq!(file.len().unwrap(), 12);
        file.sync().unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_dir().unwrap();
        disk.remove("b").unwrap();
        assert!(disk.open("b").is_err());
        let trace: Vec<String> = disk.trace().iter().map(|op| format!("{op:?}")).collect();
        let expected = [
            "create a #0 of 100",
            "write #0 10+5",
            "truncate #0 to 12",
            "sync #0",
            "rename a #0 to b",
            "sync the directory",
            "remove b",
        ];
        assert_eq!(trace, expected);
        assert_eq!(disk.platter().contents(), []);
    }

    #[test]
    fn a_disk_goes_on_from_what_another_left() {
        let disk = SimDisk::default();
        disk.create("a", 100).unwrap().write_at(b"hello", 0).unwrap();
        let next = SimDisk::new(disk.platter());
        let mut bytes = [0; 5];
        next.open("a").unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"hello");
        let other = next.create("b", 1).unwrap();
        other.write_at(b"x", 0).unwrap();
        assert_eq!(
            next.platter().contents(),
            [("a".into(), b"hello".to_vec()), ("b".into(), b"x".to_vec())]
        );
    }

    #[test]
    fn calls_fail_by_number_and_a_failed_write_may_be_half_there() {
        let disk = SimDisk::default();
        let file = disk.create("a", 100).unwrap();
        disk.fail_at(1, libc::EIO, Times::Once);
        assert_eq!(file.write_at(b"12345678", 0).unwrap_err().raw_os_error(), Some(libc::EIO));
        file.sync().unwrap();
        assert_eq!(disk.platter().contents(), [("a".into(), b"1234".to_vec())]);
        assert_eq!(disk.faulted(), [Faulted { call: Call::Write, name: Some("a".into()) }]);

        disk.fail_at(disk.calls(), libc::ENOSPC, Times::ForEver);
        assert!(disk.create("b", 1).is_err());
        assert!(disk.create("b", 1).is_err());
        file.sync().unwrap();
        disk.open("a").unwrap();
        disk.mend();
        disk.create("b", 1).unwrap();
    }

    #[test]
    fn the_lock_has_one_owner() {
        let disk = SimDisk::default();
        let lock = disk.lock(Duration::ZERO).unwrap();
        assert_eq!(disk.lock(Duration::ZERO).err().unwrap().kind(), ErrorKind::Locked);
        drop(lock);
        disk.lock(Duration::ZERO).unwrap();
    }
}
