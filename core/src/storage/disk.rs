//! The real storage: a directory of the operating system.
//!
//! Invariants:
//! - what it makes is the owner's alone: directories 0700, files 0600; a directory that everybody may write to is refused;
//! - nothing is made, and nothing called durable, where the directory is not in its place any more, or its lock not in it;
//! - it opens regular files only, follows no symbolic link below the directory, and creates nothing over what is
//!   there;
//! - no descriptor survives an exec, and none is 0, 1 or 2, not even for a moment;
//! - a write is whole or an error; interrupted and short calls are carried on here, nothing else is tried again;
//! - no file is made or grows longer than the process may have files, so that no signal tells the host.
//!
//! The path is made absolute at once, so a later change of the working directory changes nothing. The directory
//! itself may be reached through symbolic links: that is its owner's choice.

mod lock;
mod marks;
mod new_directory;
mod reader;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Gain, Marks, Storage, StorageFile, sys};
use crate::error::{Error, Result};

pub(crate) use lock::{LOCK, LOCK_HINT_BYTES_MAX, is_lock_hint};
pub(crate) use new_directory::NewDirectory;
pub(crate) use reader::DiskReader;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const OTHERS_WRITE: u32 = 0o002;

/// A directory on disk.
#[derive(Debug)]
pub struct DiskStorage {
    path: PathBuf,
    /// The lock's file, by device and number, once it is held.
    place: OnceLock<(u64, u64)>,
}

impl DiskStorage {
    /// Names the directory; nothing is looked at or made before `prepare`.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self { path, place: OnceLock::new() }
    }
}

impl Storage for DiskStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&self) -> Result<()> {
        let refused = |cause: io::Error| refused(&self.path, &cause);
        if self.path.as_os_str().is_empty() {
            return Err(empty());
        }
        make_directory(&self.path).map_err(refused)?;
        let found = fs::metadata(&self.path).map_err(refused)?;
        if !found.is_dir() {
            return Err(not_a_directory(&self.path));
        }
        if found.mode() & OTHERS_WRITE != 0 {
            let path = self.path.display();
            let text = format!("{path} may be written to by every user of the machine");
            return Err(Error::invalid(text).at(&self.path));
        }
        sys::check_access(&self.path).map_err(refused)
    }

    fn lock(&self, timeout: Duration) -> Result<Box<dyn Send + Sync>> {
        let guard = lock::take(&self.path, timeout)?;
        self.place.get_or_init(|| guard.place);
        Ok(Box::new(guard))
    }

    fn check_place(&self) -> io::Result<()> {
        let Some(place) = self.place.get() else { return Ok(()) };
        match fs::symlink_metadata(self.path.join(LOCK)) {
            Ok(found) if self::place(&found) == *place => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Err(io::Error::other(
                "the directory was moved or replaced, or its lock removed, while it was open",
            )),
        }
    }

    fn marks(&self, count: usize) -> Result<Arc<Marks>> {
        Ok(Arc::new(marks::open(&self.path, count)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn bytes(&self) -> io::Result<u64> {
        let lengths = fs::read_dir(&self.path)?.map(|entry| match entry?.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            // It went, or got another name, since it was listed.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        });
        lengths.sum()
    }

    fn free_bytes(&self) -> Option<u64> {
        sys::free_bytes(&self.path)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
        self.check_place()?;
        let path = self.path.join(name);
        let file = open_file(&path, OpenOptions::new().create_new(true))?;
        let is_written = sys::allocate(&file, bytes).inspect_err(|_| {
            // The first error is the one to tell of.
            let _ = fs::remove_file(&path);
        })?;
        let gain = if is_written { Gain::None } else { sys::gain(&file) };
        Ok(Arc::new(DiskFile { gain, ..DiskFile::new(file)? }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = open_file(&self.path.join(name), &mut OpenOptions::new())?;
        Ok(Arc::new(DiskFile::new(file)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

/// An open file on disk.
#[derive(Debug)]
struct DiskFile {
    file: File,
    /// What it was then.
    about: sys::About,
    /// By zeros that are written ahead; none in a file that was not made by us.
    gain: Gain,
    /// Reads come from the disk itself. Relaxed: it is set before anybody shares the file.
    direct: AtomicBool,
}

impl DiskFile {
    /// A file that has all the room it is to have.
    fn new(file: File) -> io::Result<Self> {
        let about = sys::about(&file)?;
        Ok(Self { file, about, gain: Gain::None, direct: AtomicBool::new(false) })
    }
}

impl StorageFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A disk may want more of its requests, and the end of a file lies where it likes. What memory has of it goes
                // first: another thread may read meanwhile.
                Err(error) if self.is_direct() => {
                    self.drop_cached();
                    if self.set_direct(false) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(sys::data_from(&self.file, offset))
    }

    fn hole_from(&self, offset: u64) -> io::Result<u64> {
        sys::hole_from(&self.file, offset).map_or_else(|| self.len(), Ok)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        // What lies within its room was asked for when that was made.
        if end > self.about.bytes {
            sys::check_length(end)?;
        }
        // Carries on after interrupted and short writes; a write of nothing is an error of kind WriteZero.
        self.file.write_all_at(bytes, offset)
    }

    fn gain(&self) -> Gain {
        self.gain
    }

    fn make_ready(&self, offset: u64, bytes: u64) {
        let end = offset.saturating_add(bytes).min(self.about.bytes);
        if self.gain == Gain::None || offset >= end {
            return;
        }
        // Nobody is to be signalled for what need not be, where the process has got a lower limit since the file was made; and
        // nobody else's file to be overwritten, where a host closes what is not its own.
        let is_the_file = || sys::about(&self.file).is_ok_and(|it| it.place == self.about.place);
        if sys::check_length(end).is_ok() && is_the_file() {
            // Whatever came of it, there are zeros.
            let _ = sys::write_ahead(&self.file, offset..end);
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes.min(self.len()?))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        let about = sys::about(&self.file)?;
        if about.place != self.about.place {
            return Err(io::Error::other(
                "the program closed its descriptor, which is another file's by now",
            ));
        }
        if about.names == 0 {
            return Err(io::Error::other("it was removed while it was open"));
        }
        // Nobody writes to it any more when it is cut by us.
        if about.bytes < self.about.bytes {
            return Err(io::Error::other("it was cut while it was open"));
        }
        Ok(())
    }

    fn drop_cached(&self) {
        sys::drop_cached(&self.file);
    }

    fn set_direct(&self, direct: bool) -> bool {
        if direct != self.is_direct() {
            self.direct.store(sys::set_direct(&self.file, direct), Ordering::Relaxed);
        }
        self.is_direct()
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        sys::will_read(&self.file, offset, bytes);
    }

    fn read_ahead(&self, ahead: bool) {
        sys::read_ahead(&self.file, ahead);
    }
}

/// Which file it is, whatever its name.
fn place(about: &fs::Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

fn empty() -> Error {
    Error::invalid("the path is empty")
}

fn not_a_directory(path: &Path) -> Error {
    Error::invalid(format!("{} is not a directory", path.display())).at(path)
}

/// Why a path cannot be used as a directory.
fn refused(path: &Path, cause: &io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::NotADirectory => not_a_directory(path),
        io::ErrorKind::InvalidInput => {
            Error::invalid(format!("{path:?} is not a path: {cause}")).at(path)
        }
        _ => Error::io("open", path, cause),
    }
}

/// Opens a regular file for reading and writing, with what `options` adds.
fn open_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = open_regular(path, options.write(true))?;
    let mode = file.metadata()?.mode();
    if mode & FILE_MODE != FILE_MODE {
        // It was made a moment ago, under a umask that leaves its owner nothing: who opens it next is its owner, too.
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    Ok(file)
}

/// Opens a regular file for reading, with what `options` adds.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // O_NONBLOCK means nothing to a regular file, and a pipe cannot make the open wait before it is refused.
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    sys::fill_standard();
    let file = options.read(true).mode(FILE_MODE).custom_flags(flags).open(path)?;
    let file = sys::above_standard(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

/// Makes a directory and the ones above it as far as they are missing, each name durable before the next is made.
fn make_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for directory in missing.into_iter().rev() {
        match make_private(directory) {
            Ok(()) => directory.parent().map_or(Ok(()), sync_directory)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes one directory that is its owner's alone, whatever the umask.
fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
    if fs::metadata(path)?.mode() & DIRECTORY_MODE != DIRECTORY_MODE {
        fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))?;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
    sys::above_standard(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;
    use crate::error::ErrorKind;
    use crate::pages::Pages;
    use crate::storage::DIRECT_BYTES;

    fn storage() -> (TempDir, DiskStorage) {
        let dir = tempfile::tempdir().unwrap();
        let storage = DiskStorage::new(dir.path().join("mail"));
        storage.prepare().unwrap();
        (dir, storage)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn directories_and_files_are_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let storage = DiskStorage::new(dir.path().join("a/b/c"));
        storage.prepare().unwrap();
        storage.prepare().unwrap();
        storage.create("file", 10).unwrap();
        for name in ["a", "a/b", "a/b/c"] {
            assert_eq!(mode(&dir.path().join(name)), 0o700, "{name}");
        }
        assert_eq!(mode(&dir.path().join("a/b/c/file")), 0o600);
    }

    #[test]
    fn a_file_where_the_directory_should_be_is_invalid() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = DiskStorage::new(&path).prepare().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert_eq!(error.path(), Some(path.as_path()));
        }
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn what_is_no_path_is_invalid() {
        for path in ["", "nul\0in/it"] {
            let error = DiskStorage::new(path).prepare().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_io() {
        let error = DiskStorage::new("/proc/nowhere/to/be").prepare().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.os_code().is_some());
        assert!(error.to_string().starts_with("cannot open /proc/nowhere"), "{error}");
    }

    #[test]
    fn the_path_is_absolute() {
        assert!(DiskStorage::new("relative").path().is_absolute());
    }

    #[test]
    fn a_created_file_is_zero_and_allocated() {
        let (_dir, storage) = storage();
        let file = storage.create("segment", 200_000).unwrap();
        assert_eq!(file.len().unwrap(), 200_000);
        assert!(fs::metadata(storage.path().join("segment")).unwrap().blocks() * 512 >= 200_000);
        let mut bytes = vec![1; 200_000];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 200_000);
        assert!(bytes.iter().all(|byte| *byte == 0));
        file.sync().unwrap();
        storage.sync_dir().unwrap();
    }

    #[test]
    fn what_is_made_ready_ends_with_the_file() {
        let (_dir, storage) = storage();
        let file = storage.create("segment", 100_000).unwrap();
        file.write_at(b"before", 0).unwrap();
        for (offset, bytes) in [(6, 70_000), (99_999, 2), (100_000, 1), (u64::MAX, u64::MAX)] {
            file.make_ready(offset, bytes);
        }
        assert_eq!(file.len().unwrap(), 100_000);
        if file.gain() != Gain::None {
            assert!(file.hole_from(0).unwrap() >= 70_006, "nothing was written");
        }
        let mut there = vec![1; 100_000];
        file.read_at(&mut there, 0).unwrap();
        assert!(there.starts_with(b"before") && there[6..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn nothing_is_created_over_what_is_there() {
        let (_dir, storage) = storage();
        storage.create("file", 4).unwrap().write_at(b"kept", 0).unwrap();
        let error = storage.create("file", 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(storage.path().join("file")).unwrap(), b"kept");
    }

    #[test]
    fn a_file_that_cannot_be_allocated_is_removed() {
        let (_dir, storage) = storage();
        assert!(storage.create("vast", u64::MAX >> 1).is_err());
        assert!(storage.list().unwrap().is_empty());
    }

    #[test]
    fn reads_end_where_the_file_ends() {
        let (_dir, storage) = storage();
        storage.create("file", 0).unwrap().write_at(b"0123456789", 0).unwrap();
        let file = storage.open("file").unwrap();
        let mut buffer = [b'.'; 8];
        assert_eq!(file.read_at(&mut buffer, 6).unwrap(), 4);
        assert_eq!(&buffer, b"6789....");
        assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
        assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
    }

    /// Whether the file system tells or not, what was written is never passed over.
    #[test]
    fn data_is_found_behind_what_was_never_written() {
        let (_dir, storage) = storage();
        let file = storage.create("file", 8 << 20).unwrap();
        file.write_at(b"x", (5 << 20) + 77).unwrap();
        let from = file.data_from(1 << 20).unwrap().unwrap();
        assert!((1 << 20..=(5 << 20) + 77).contains(&from), "{from}");
        let last = file.data_from((5 << 20) + 77).unwrap().unwrap();
        assert_eq!(last, (5 << 20) + 77);
        assert_eq!(file.data_from(8 << 20).unwrap(), None);
        let hole = file.hole_from((5 << 20) + 77).unwrap();
        assert!(((5 << 20) + 78..=8 << 20).contains(&hole), "{hole}");
        for advice in [false, true] {
            file.read_ahead(advice);
            file.will_read(5 << 20, 1 << 20);
            let mut byte = [0];
            assert_eq!(file.read_at(&mut byte, (5 << 20) + 77).unwrap(), 1);
            assert_eq!(byte, *b"x");
        }
    }

    /// What a disk cannot be asked for is read as ever: where a file ends, and pieces that are no pages.
    #[test]
    fn what_is_read_from_the_disk_itself_is_the_same() {
        let (_dir, storage) = storage();
        let file = storage.create("file", 0).unwrap();
        let written: Vec<u8> = (1..=u8::MAX).cycle().take(3 * DIRECT_BYTES + 100).collect();
        file.write_at(&written, 0).unwrap();
        file.sync().unwrap();
        let read = |offset: usize, count: usize| {
            let mut memory =
                Pages::huge(4 * DIRECT_BYTES).or_else(|| Pages::zeros(4 * DIRECT_BYTES)).unwrap();
            let got = file.read_at(&mut memory[..count], offset as u64).unwrap();
            assert_eq!(memory[..got], written[offset..offset + got]);
            got
        };
        for (offset, count, got) in [
            (0, 2 * DIRECT_BYTES, 2 * DIRECT_BYTES),
            (DIRECT_BYTES, DIRECT_BYTES, DIRECT_BYTES),
            (0, 4 * DIRECT_BYTES, 3 * DIRECT_BYTES + 100),
            (5, 77, 77),
        ] {
            assert_eq!(file.set_direct(true), file.is_direct());
            assert_eq!(read(offset, count), got);
        }
        assert!(!file.set_direct(false) && !file.is_direct());
        assert_eq!(read(5, 77), 77);
        file.write_at(b"x", 5).unwrap();
    }

    #[test]
    fn a_file_is_cut_and_never_stretched() {
        let (_dir, storage) = storage();
        let file = storage.create("file", 1000).unwrap();
        file.truncate(10).unwrap();
        file.truncate(2000).unwrap();
        assert_eq!(file.len().unwrap(), 10);
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        let (dir, storage) = storage();
        let outside = dir.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        symlink(&outside, storage.path().join("link")).unwrap();
        symlink(dir.path().join("nothing"), storage.path().join("dangling")).unwrap();
        assert_eq!(storage.open("link").unwrap_err().raw_os_error(), Some(libc::ELOOP));
        for name in ["link", "dangling"] {
            assert_eq!(storage.create(name, 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert!(!dir.path().join("nothing").exists());
        assert_eq!(fs::read(&outside).unwrap(), b"precious");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (_dir, storage) = storage();
        let path = std::ffi::CString::new(storage.path().join("pipe").to_str().unwrap()).unwrap();
        // SAFETY: `path` is a live string that ends in NUL.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        assert_eq!(storage.open("pipe").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        fs::create_dir(storage.path().join("directory")).unwrap();
        assert!(storage.open("directory").is_err());
        assert!(storage.open("nothing").is_err());
    }

    #[test]
    fn names_are_listed_renamed_and_removed() {
        let (_dir, storage) = storage();
        storage.create("new", 0).unwrap().write_at(b"new", 0).unwrap();
        storage.create("old", 0).unwrap();
        storage.create("other", 0).unwrap();
        storage.rename("new", "old").unwrap();
        storage.remove("other").unwrap();
        storage.sync_dir().unwrap();
        assert_eq!(storage.list().unwrap(), ["old"]);
        assert_eq!(fs::read(storage.path().join("old")).unwrap(), b"new");
        assert!(storage.remove("other").is_err());
    }

    #[test]
    fn descriptors_close_on_exec() {
        let (_dir, storage) = storage();
        let file =
            open_file(&storage.path().join("file"), OpenOptions::new().create_new(true)).unwrap();
        // SAFETY: F_GETFD takes no pointer; the descriptor is open because `file` lives.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }

    /// Since Linux 6.13, who asks for a file's times has its next change be told apart from what was told: it gets a time
    /// of its own, later than what the clock gives that ticks, and so changes what the file system's journal has to say
    /// of the file. Each sync asked, and the next one took half as long again for it.
    #[test]
    fn a_sync_asks_for_no_times() {
        let (_dir, storage) = storage();
        let [file, beside] = ["file", "beside"].map(|name| storage.create(name, 1 << 16).unwrap());
        let time =
            |name: &str| fs::metadata(storage.path().join(name)).unwrap().modified().unwrap();
        let was_told_apart = || {
            // What was asked for before is told apart now; what comes behind it is not.
            file.write_at(b"first", 0).unwrap();
            beside.write_at(b"first", 0).unwrap();
            file.sync().unwrap();
            beside.write_at(b"second", 0).unwrap();
            file.write_at(b"second", 0).unwrap();
            time("file") != time("beside")
        };
        // The clock may tick between the two.
        let told_apart = (0..100).filter(|_| was_told_apart()).count();
        assert!(told_apart < 50, "{told_apart}");
    }
}
