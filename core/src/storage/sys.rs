//! The system calls the standard library has no name for: all `unsafe` code under storage but that of lasting bytes.
//!
//! Each function is a safe wrapper around one call, with the loops and fallbacks the call needs. [`fork`] adds what a
//! forked process has to know.

mod fork;
mod map;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

#[cfg(target_os = "linux")]
use super::DIRECT_BYTES;
use super::Gain;
use super::ahead::PIECE_BYTES;
pub(super) use fork::Unshared;
pub use fork::forks;
pub(super) use map::Mapping;

/// Bytes of one write where space has to be made with zeros. Larger writes make larger extents on the disk, and those are
/// cheaper to write into later.
const ZEROS_BYTES: usize = 1 << 20;

/// What is written of zeros ahead of others at once.
static PIECE: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// Time since the machine started, suspended time included; never goes back.
#[cfg(target_os = "linux")]
pub(crate) fn boot_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live, writable timespec of this frame, which is all clock_gettime(2) asks for. It cannot
    // fail with a clock that every Linux since 2.6.39 has; if it did, `time` would still be the zeros above.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// Time since the first call; never goes back.
#[cfg(not(target_os = "linux"))]
pub(crate) fn boot_time() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Bytes that the file system of this path has left for its users; none where it does not say.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a statvfs is plain numbers, for which zeros are good.
    let mut about = unsafe { std::mem::zeroed::<libc::statvfs>() };
    // SAFETY: the path ends in a zero, and `about` is a live, writable statvfs of this frame.
    let answer = unsafe { libc::statvfs(path.as_ptr(), &raw mut about) };
    (answer == 0 && about.f_blocks > 0)
        .then(|| (about.f_bavail as u64).saturating_mul(about.f_frsize as u64))
}

/// A count that moves every few milliseconds.
#[cfg(target_os = "linux")]
pub(crate) fn tick() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as in `boot_time`; this clock is as old as Linux 2.6.32.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds << 32 | u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// A count that moves every millisecond.
#[cfg(not(target_os = "linux"))]
pub(crate) fn tick() -> u64 {
    u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX)
}

/// What tells whether an open file is still the one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About {
    /// Which file it is: device and number.
    pub(super) place: (u64, u64),
    /// How many names it has.
    pub(super) names: u64,
    pub(super) bytes: u64,
}

/// What an open file is. Asks for nothing else: who asks for a file's times since Linux 6.13 has its next change told apart
/// from all before it, and the next sync write that to the file system's journal, which makes it half as slow again.
#[cfg(target_os = "linux")]
pub(super) fn about(file: &File) -> io::Result<About> {
    let Some(about) = statx(file, libc::STATX_INO | libc::STATX_NLINK | libc::STATX_SIZE) else {
        // A kernel or a sandbox that does not know the call.
        return about_at_length(file);
    };
    Ok(About {
        place: (libc::makedev(about.stx_dev_major, about.stx_dev_minor), about.stx_ino),
        names: about.stx_nlink.into(),
        bytes: about.stx_size,
    })
}

/// What is `wanted` of a file; none where the kernel does not tell all of it.
#[cfg(target_os = "linux")]
fn statx(file: &File, wanted: u32) -> Option<libc::statx> {
    // SAFETY: a statx is plain numbers, for which zeros are good.
    let mut about = unsafe { std::mem::zeroed::<libc::statx>() };
    // SAFETY: the path is a live, empty string, which means the descriptor itself, and `about` a live, writable statx of
    // this frame.
    let answer = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, wanted, &raw mut about)
    };
    (answer == 0 && about.stx_mask & wanted == wanted).then_some(about)
}

/// What an open file is.
#[cfg(not(target_os = "linux"))]
pub(super) fn about(file: &File) -> io::Result<About> {
    about_at_length(file)
}

fn about_at_length(file: &File) -> io::Result<About> {
    let about = file.metadata()?;
    Ok(About { place: (about.dev(), about.ino()), names: about.nlink(), bytes: about.len() })
}

/// Makes an empty file `bytes` long, all zero, its space taken from the disk now, so that a later write inside it
/// cannot run out of space. Answers whether all of it was written for that.
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<bool> {
    if bytes == 0 {
        return Ok(false);
    }
    check_length(bytes)?;
    match reserve(file, 0, bytes) {
        // Some file systems (NFS before 4.2, ZFS, many in user space) cannot reserve; written zeros take space
        // everywhere.
        Err(error) if cannot_reserve(&error) => write_zeros(file, bytes).map(|()| true),
        outcome => outcome.map(|()| false),
    }
}

/// Makes sure that a file has `bytes` bytes from `offset` on, their space taken from the disk. What is there already
/// stays as it is.
pub(super) fn extend(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    check_length(offset.saturating_add(bytes))?;
    match reserve(file, offset, bytes) {
        Err(error) if cannot_reserve(&error) => {
            let end = offset + bytes;
            if file.metadata()?.len() < end { file.set_len(end) } else { Ok(()) }
        }
        outcome => outcome,
    }
}

/// From where on, at `offset` or behind it, the file may hold bytes that are not zero; none up to its end. A file system that
/// does not tell what was never written says that everything was.
#[cfg(target_os = "linux")]
pub(super) fn data_from(file: &File, offset: u64) -> Option<u64> {
    let Ok(from) = libc::off_t::try_from(offset) else { return Some(offset) };
    // SAFETY: lseek(2) takes no pointer; the descriptor is open because `file` is borrowed, and nobody uses its place.
    let found = unsafe { libc::lseek(file.as_raw_fd(), from, libc::SEEK_DATA) };
    match u64::try_from(found) {
        Ok(found) => Some(found.max(offset)),
        Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO) => None,
        Err(_) => Some(offset),
    }
}

/// Everything may hold bytes that are not zero.
#[cfg(not(target_os = "linux"))]
pub(super) fn data_from(_: &File, offset: u64) -> Option<u64> {
    Some(offset)
}

/// Where the bytes from `offset` on end that may not be zero, or the file; none where the file system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn hole_from(file: &File, offset: u64) -> Option<u64> {
    let from = libc::off_t::try_from(offset).ok()?;
    // SAFETY: as in `data_from`.
    u64::try_from(unsafe { libc::lseek(file.as_raw_fd(), from, libc::SEEK_HOLE) }).ok()
}

/// It does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn hole_from(_: &File, _: u64) -> Option<u64> {
    None
}

/// Whether the kernel is to read more than it is asked for. Only advice.
#[cfg(target_os = "linux")]
pub(super) fn read_ahead(file: &File, ahead: bool) {
    let advice = if ahead { libc::POSIX_FADV_NORMAL } else { libc::POSIX_FADV_RANDOM };
    // SAFETY: as in `drop_cached`.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, advice) };
}

/// There is no way to say that.
#[cfg(not(target_os = "linux"))]
pub(super) fn read_ahead(_: &File, _: bool) {}

/// Has reads come from the disk itself, or no more; answers whether they do. Some file systems take the flag and read by way of
/// memory all the same, so it is set only where the kernel says of this file how it can be read directly (since Linux 6.1).
#[cfg(target_os = "linux")]
pub(super) fn set_direct(file: &File, direct: bool) -> bool {
    if direct && !can_be_direct(file) {
        return false;
    }
    // SAFETY: fcntl(2) with these takes no pointer; the descriptor is open because `file` is borrowed.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    let wanted = if direct { flags | libc::O_DIRECT } else { flags & !libc::O_DIRECT };
    // SAFETY: as above.
    let is_set = flags >= 0 && unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, wanted) } == 0;
    if is_set { direct } else { !direct }
}

/// Whether a file is read directly in pieces of [`DIRECT_BYTES`].
#[cfg(target_os = "linux")]
fn can_be_direct(file: &File) -> bool {
    let suits = |align: u32| (1..=DIRECT_BYTES).contains(&(align as usize));
    statx(file, libc::STATX_DIOALIGN)
        .is_some_and(|about| suits(about.stx_dio_mem_align) && suits(about.stx_dio_offset_align))
}

/// There is no way to have that.
#[cfg(not(target_os = "linux"))]
pub(super) fn set_direct(_: &File, _: bool) -> bool {
    false
}

/// Has the kernel begin to read these bytes.
#[cfg(target_os = "linux")]
pub(super) fn will_read(file: &File, offset: u64, bytes: u64) {
    let (Ok(offset), Ok(bytes)) = (offset.try_into(), bytes.try_into()) else { return };
    // SAFETY: as in `drop_cached`.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, bytes, libc::POSIX_FADV_WILLNEED) };
}

/// There is no way to say that.
#[cfg(not(target_os = "linux"))]
pub(super) fn will_read(_: &File, _: u64, _: u64) {}

/// Has the kernel forget what it has of a file in memory and need not write. Only advice: what it does not forget, as where
/// all the file is in memory, is read from there as before.
#[cfg(target_os = "linux")]
pub(super) fn drop_cached(file: &File) {
    // SAFETY: posix_fadvise(2) takes no pointer; the descriptor is open because `file` is borrowed.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// There is no way to say that.
#[cfg(not(target_os = "linux"))]
pub(super) fn drop_cached(_: &File) {}

/// Refuses a file of this length where the process may not have one that long. To try it all the same would send the host a
/// signal, `SIGXFSZ`, which ends a process that does not ignore it.
pub(super) fn check_length(bytes: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a live, writable rlimit of this frame. Where the call fails, which it has no reason to, that is
    // still the one above: no limit.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    if bytes > limit.rlim_cur { Err(io::Error::from_raw_os_error(libc::EFBIG)) } else { Ok(()) }
}

fn cannot_reserve(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let length = |bytes: u64| {
        libc::off_t::try_from(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a file cannot be that long"))
    };
    let (offset, bytes) = (length(offset)?, length(bytes)?);
    loop {
        // SAFETY: fallocate(2) takes no pointer; the descriptor is open because `file` is borrowed.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, bytes) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &File, _offset: u64, _bytes: u64) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let left = usize::try_from(bytes - offset).unwrap_or(usize::MAX);
        let part = zeros.get(..left).unwrap_or(&zeros);
        file.write_all_at(part, offset)?;
        offset += part.len() as u64;
    }
    Ok(())
}

/// Writes zeros where nothing was written: in pieces that lie as memory does.
pub(super) fn write_ahead(file: &File, range: Range<u64>) -> io::Result<()> {
    let Range { mut start, end } = range;
    while start < end {
        let left = usize::try_from(end - start).unwrap_or(PIECE_BYTES);
        let within = usize::try_from(start % PIECE_BYTES as u64).unwrap_or_default();
        let piece = PIECE.get(within..).unwrap_or_default();
        let piece = piece.get(..left).unwrap_or(piece);
        file.write_all_at(piece, start)?;
        start += piece.len() as u64;
    }
    Ok(())
}

/// What writes gain in a part of this file that zeros were written to, where the first write to a block is told to the file
/// system's journal, and what is written again stays in its place. What an overlay lies over cannot be seen. On XFS large writes
/// without a sync lose.
#[cfg(target_os = "linux")]
pub(super) fn gain(file: &File) -> Gain {
    const EXT4: i128 = 0xef53;
    const XFS: i128 = 0x5846_5342;

    match file_system(file) {
        Some(EXT4) => Gain::All,
        Some(XFS) => Gain::Synced,
        _ => Gain::None,
    }
}

/// What kind of file system a file lies in, by the kernel's number, whose width is each C library's own; none where it is not told.
#[cfg(target_os = "linux")]
fn file_system(file: &File) -> Option<i128> {
    // SAFETY: a statfs is plain numbers, for which zeros are good.
    let mut about = unsafe { std::mem::zeroed::<libc::statfs>() };
    // SAFETY: the descriptor is open because `file` is borrowed, and `about` a live, writable statfs of this frame.
    let answer = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut about) };
    (answer == 0).then(|| about.f_type.into())
}

/// Not known.
#[cfg(not(target_os = "linux"))]
pub(super) fn gain(_: &File) -> Gain {
    Gain::None
}

/// The first descriptor that is none of a process's standard files.
const ABOVE_STANDARD: libc::c_int = 3;

/// Puts `/dev/null` in the place of standard files that the process has closed, so that no file opened after this gets
/// their numbers: somebody's `printf` would otherwise end up in a journal. It stays there, and takes no more than was
/// taken before, because it is open for reading only.
pub(super) fn fill_standard() {
    // SAFETY: F_GETFD takes no pointer and changes nothing, whether the descriptor is open or not.
    let closed = |fd: &libc::c_int| unsafe { libc::fcntl(*fd, libc::F_GETFD) } == -1;
    for _ in (0..ABOVE_STANDARD).filter(closed) {
        // Where there is no such device, [`above_standard`] has to do.
        if let Ok(nothing) = File::open("/dev/null")
            && nothing.as_raw_fd() < ABOVE_STANDARD
        {
            let _ = nothing.into_raw_fd();
        }
    }
}

/// Moves an open file off the descriptors 0 to 2, which it has got if the process closed one just now.
pub(super) fn above_standard(file: File) -> io::Result<File> {
    if file.as_raw_fd() >= ABOVE_STANDARD {
        return Ok(file);
    }
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer; the descriptor is open because `file` is owned here.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE_STANDARD) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl(2) has just returned this descriptor as a new one, so nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Whether this process may list, enter and change a directory.
pub(super) fn check_access(directory: &Path) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    let mode = libc::R_OK | libc::W_OK | libc::X_OK;
    // SAFETY: `path` is a live string that ends in NUL, and the call keeps no pointer to it.
    let outcome = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_is_is_told_alike_by_both_calls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        let file = File::open(&path).unwrap();
        std::fs::hard_link(&path, dir.path().join("link")).unwrap();
        let told = about(&file).unwrap();
        assert_eq!((told.names, told.bytes), (2, 5));
        assert_eq!(told, about_at_length(&file).unwrap());
    }

    #[test]
    fn boot_time_goes_forward() {
        let before = boot_time();
        std::thread::sleep(Duration::from_millis(5));
        assert!(boot_time() - before >= Duration::from_millis(5));
    }

    #[test]
    fn allocated_space_is_taken_and_reads_zero() {
        let file = tempfile::tempfile().unwrap();
        allocate(&file, 3 << 20).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 3 << 20);
        assert!(metadata.blocks() * 512 >= 3 << 20);
        allocate(&tempfile::tempfile().unwrap(), 0).unwrap();
    }

    #[test]
    fn written_zeros_reach_the_exact_length() {
        let file = tempfile::tempfile().unwrap();
        let bytes = (2 << 20) + 17;
        write_zeros(&file, bytes).unwrap();
        assert_eq!(file.metadata().unwrap().len(), bytes);
        assert!(file.metadata().unwrap().blocks() * 512 >= bytes);
    }

    /// Bytes of the file that are in memory.
    #[cfg(target_os = "linux")]
    fn resident(file: &File, bytes: usize) -> usize {
        let page = 4096;
        let mut pages = vec![0_u8; bytes / page];
        // SAFETY: a new mapping of as many bytes as the file has; nobody reads through it, and it is unmapped here; `pages`
        // has a byte for each of its pages.
        let told = unsafe {
            let (none, fd) = (std::ptr::null_mut(), file.as_raw_fd());
            let map = libc::mmap(none, bytes, libc::PROT_READ, libc::MAP_SHARED, fd, 0);
            assert_ne!(map, libc::MAP_FAILED);
            let told = libc::mincore(map, bytes, pages.as_mut_ptr());
            libc::munmap(map, bytes);
            told
        };
        assert_eq!(told, 0);
        pages.iter().filter(|page| **page & 1 == 1).count() * page
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn zeros_are_written_ahead_where_that_is_known_to_help() {
        let processes = File::open("/proc/self/stat").unwrap();
        assert_eq!((file_system(&processes), gain(&processes)), (Some(0x9fa0), Gain::None));
    }

    /// Not one byte beside them is another one afterwards, wherever the pieces lie.
    #[test]
    fn zeros_that_are_written_ahead_stay_in_their_range() {
        let file = tempfile::tempfile().unwrap();
        const AROUND: usize = 5;
        for (start, bytes) in
            [(0, 1), (PIECE_BYTES - 1, 2), (3, PIECE_BYTES), (77, 3 * PIECE_BYTES), (9, 0)]
        {
            let mut there = vec![7; bytes + 2 * AROUND];
            file.write_all_at(&there, start as u64).unwrap();
            let from = (start + AROUND) as u64;
            write_ahead(&file, from..from + bytes as u64).unwrap();
            file.read_exact_at(&mut there, start as u64).unwrap();
            let (before, rest) = there.split_at(AROUND);
            let (within, behind) = rest.split_at(bytes);
            assert!(within.iter().all(|byte| *byte == 0), "{start}+{bytes}");
            assert!(before.iter().chain(behind).all(|byte| *byte == 7), "{start}+{bytes}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_dropped_from_memory_is_not_there() {
        const TMPFS: i128 = 0x0102_1994;

        let file = tempfile::tempfile().unwrap();
        let bytes = 1 << 20;
        file.write_all_at(&vec![7; bytes], 0).unwrap();
        file.sync_data().unwrap();
        assert!(resident(&file, bytes) >= bytes / 2);
        drop_cached(&file);
        if file_system(&file) != Some(TMPFS) {
            assert_eq!(resident(&file, bytes), 0);
        }
        let mut read = vec![0; bytes];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn no_file_is_longer_than_an_offset() {
        let error = allocate(&tempfile::tempfile().unwrap(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn files_lie_above_the_standard_descriptors() {
        let file = above_standard(tempfile::tempfile().unwrap()).unwrap();
        assert!(file.as_raw_fd() >= 3);

        // Descriptor 0 is closed for a moment in a child of its own: the only safe place for it.
        let path = CString::new("/dev/null").unwrap();
        // SAFETY: the child makes async-signal-safe calls alone and leaves by _exit; `path` was made before the fork.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::close(0);
                let low = libc::open(path.as_ptr(), libc::O_RDONLY);
                let moved = above_standard(File::from_raw_fd(low)).map(|file| file.as_raw_fd());
                let right = low == 0
                    && matches!(moved, Ok(fd) if fd >= 3)
                    && libc::fcntl(0, libc::F_GETFD) == -1;
                libc::_exit(i32::from(!right));
            }
            child
        };
        let mut status = -1;
        // SAFETY: `status` is a live integer of this frame; `child` is a child nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    #[test]
    fn access_to_nothing_is_an_error() {
        check_access(tempfile::tempdir().unwrap().path()).unwrap();
        let error = check_access(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
