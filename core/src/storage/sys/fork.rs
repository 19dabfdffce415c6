//! Forks: noticed without a system call, and kept from holding their parent's locks.
//!
//! A forked process has a copy of everything: handles that are not its own, and descriptors that keep its parent's
//! lock alive after the parent's death. So forks are counted, and descriptors of locks are closed in the child.
//!
//! Invariants:
//! - [`forks`] gives two processes on one line of descent different numbers, if it was called before the fork;
//! - a fork is noticed by a page that the kernel wipes in the child (Linux), which sees a raw `clone` as well, and by
//!   a handler of `pthread_atfork` everywhere; whichever is first counts, and it counts once;
//! - a descriptor is closed in the child, never unlocked: unlocking would take the lock from the parent;
//! - what runs in the child is atomics and close(2), so it is safe after the fork of a process with threads.
//!
//! A child of a raw `clone` closes the descriptors when it first uses libmq, not before. A child that shares its
//! parent's memory (`vfork`, `posix_spawn`) is no fork; descriptors close in it when it runs its program.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};

use crate::limits::LOCKS_MAX;

/// How often a file is opened anew because a fork may have copied it too early.
const OPEN_TRIES_MAX: u32 = 64;

/// No descriptor.
const NONE: i32 = -1;

/// What is wiped to zero by a fork.
///
/// | `number` | `claimed` | |
/// |---|---|---|
/// | n + 1 | true | this process is n forks away from the first |
/// | 0 | false | forked, noticed by nobody |
/// | 0 | true | forked, somebody is counting |
///
/// `number` is stored with release after the count and the closing, and loaded with acquire.
struct Mark {
    number: AtomicU32,
    claimed: AtomicBool,
}

impl Mark {
    const fn first() -> Self {
        Self { number: AtomicU32::new(1), claimed: AtomicBool::new(true) }
    }
}

/// The mark in use: null until the first call.
static MARK: AtomicPtr<Mark> = AtomicPtr::new(ptr::null_mut());
/// Used where the kernel wipes no page; the handler in the child wipes it.
static BY_HAND: Mark = Mark::first();
/// Forks from the first process to this one.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// Forks begun, and forks ended, in this process: equal while none is on its way.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static ENDED: AtomicU32 = AtomicU32::new(0);
/// The descriptors a child has to close.
static LOCKS: [AtomicI32; LOCKS_MAX] = [const { AtomicI32::new(NONE) }; LOCKS_MAX];

/// How many forks lie between this process and the one that first asked. Two loads.
#[inline]
pub fn forks() -> u32 {
    // Acquire: the mark's first values were stored before its address was.
    let mark = MARK.load(Ordering::Acquire);
    // SAFETY: the pointer is null or was stored by `watch`, which gives a static or a page that is never unmapped; a
    // Mark is all atomics, so sharing it is sound, and all zeros, which the kernel may make of it, is a valid one.
    let mark = unsafe { mark.as_ref() }.unwrap_or_else(watch);
    match mark.number.load(Ordering::Acquire) {
        0 => count(mark),
        number => number - 1,
    }
}

/// A file that no forked child keeps open.
#[derive(Debug)]
pub(in crate::storage) struct Unshared {
    /// Taken only by `drop`.
    file: Option<File>,
    place: &'static AtomicI32,
    forks: u32,
}

impl Unshared {
    /// Opens a file with `open`, which may be called more than once, and puts it under watch.
    pub(in crate::storage) fn open(open: impl Fn() -> io::Result<File>) -> io::Result<Self> {
        let forks = forks();
        let mut tries = 0;
        loop {
            let ended = ENDED.load(Ordering::SeqCst);
            let file = open()?;
            let unshared = Self { place: watched(file.as_raw_fd())?, file: Some(file), forks };
            tries += 1;
            // No fork on its way when this began, and none begun until the file was watched: no copy got away.
            if BEGUN.load(Ordering::SeqCst) == ended || tries == OPEN_TRIES_MAX {
                return Ok(unshared);
            }
            drop(unshared);
            std::thread::yield_now();
        }
    }

    /// The file; none in a forked child, where it is closed and its number may be another file's.
    pub(in crate::storage) fn file(&self) -> Option<&File> {
        self.file.as_ref().filter(|_| forks() == self.forks)
    }
}

impl Drop for Unshared {
    fn drop(&mut self) {
        let ours = self.file().is_some();
        let Some(file) = self.file.take() else { return };
        if ours {
            // First out of the table, then closed: else a child could close another file of the same number.
            self.place.store(NONE, Ordering::SeqCst);
        } else {
            let _closed_already = file.into_raw_fd();
        }
    }
}

fn watched(fd: i32) -> io::Result<&'static AtomicI32> {
    LOCKS
        .iter()
        .find(|place| place.compare_exchange(NONE, fd, Ordering::SeqCst, Ordering::Relaxed).is_ok())
        .ok_or_else(|| io::Error::other(format!("{LOCKS_MAX} brokers are open in this process")))
}

/// Chooses the mark and registers the handlers, once.
#[cold]
fn watch() -> &'static Mark {
    let mark = wiped_page().unwrap_or(&BY_HAND);
    let chosen = MARK.compare_exchange(
        ptr::null_mut(),
        ptr::from_ref(mark).cast_mut(),
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    match chosen {
        Ok(_) => {
            // Without memory for the handlers the page still notices.
            // SAFETY: the three are functions without arguments, as the call asks, and live as long as this library.
            unsafe { libc::pthread_atfork(Some(fork_begins), Some(fork_ended), Some(forked)) };
            mark
        }
        // SAFETY: another thread stored it, just as above. Our page is left mapped and unused: 4 KiB, at most once
        // for each thread that raced.
        Err(other) => unsafe { &*other },
    }
}

/// A mark on a page of its own, which the kernel wipes in a forked child.
#[cfg(target_os = "linux")]
fn wiped_page() -> Option<&'static Mark> {
    // SAFETY: a new private mapping at an address of the kernel's choice touches no memory of ours.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<Mark>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the range is the mapping made above, which nobody else knows.
    if unsafe { libc::madvise(page, size_of::<Mark>(), libc::MADV_WIPEONFORK) } != 0 {
        // SAFETY: as above, and nothing points into it.
        unsafe { libc::munmap(page, size_of::<Mark>()) };
        return None;
    }
    let mark: *mut Mark = page.cast();
    // SAFETY: the mapping is writable, page-aligned, at least as large as a Mark, and never unmapped from here on.
    unsafe {
        mark.write(Mark::first());
        mark.as_ref()
    }
}

#[cfg(not(target_os = "linux"))]
fn wiped_page() -> Option<&'static Mark> {
    None
}

/// Counts the fork that made this process and closes what its parent locked; once, whoever comes first.
#[cold]
fn count(mark: &Mark) -> u32 {
    if mark.claimed.swap(true, Ordering::AcqRel) {
        loop {
            match mark.number.load(Ordering::Acquire) {
                0 => std::thread::yield_now(),
                number => return number - 1,
            }
        }
    }
    for place in &LOCKS {
        let fd = place.swap(NONE, Ordering::SeqCst);
        if fd != NONE {
            // SAFETY: the number was put there by `watched` and taken out before its file was closed, so in the
            // process we are a copy of it was a lock's; its owner there, `Unshared`, never closes it here.
            unsafe { libc::close(fd) };
        }
    }
    let forks = FORKS.fetch_add(1, Ordering::Relaxed) + 1;
    mark.number.store(forks + 1, Ordering::Release);
    forks
}

extern "C" fn fork_begins() {
    BEGUN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn fork_ended() {
    ENDED.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn forked() {
    // Forks that other threads of the parent had begun do not end here.
    ENDED.store(BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
    BY_HAND.number.store(0, Ordering::Relaxed);
    BY_HAND.claimed.store(false, Ordering::Relaxed);
    forks();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `child` in a forked process, by libc's fork or by the bare system call, and tells whether it said yes.
    fn in_fork(raw: bool, child: impl Fn() -> bool) -> bool {
        // SAFETY: the callers' closures do atomics and single system calls only, and the child leaves by _exit.
        let pid = unsafe {
            let pid = if raw {
                let pid = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
                libc::pid_t::try_from(pid).unwrap_or(-1)
            } else {
                libc::fork()
            };
            if pid == 0 {
                libc::_exit(i32::from(!child()));
            }
            pid
        };
        assert!(pid > 0);
        let mut status = -1;
        // SAFETY: `status` is a live integer of this frame; `pid` is a child nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        status == 0
    }

    fn is_open(fd: i32) -> bool {
        // SAFETY: F_GETFD takes no pointer and changes nothing.
        unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
    }

    #[test]
    fn each_fork_counts_once() {
        let here = forks();
        for raw in [false, true] {
            assert!(in_fork(raw, || forks() == here + 1 && forks() == here + 1));
            assert_eq!(forks(), here);
        }
    }

    #[test]
    fn a_fork_of_a_fork_counts_twice() {
        let here = forks();
        assert!(in_fork(false, || forks() == here + 1 && in_fork(false, || forks() == here + 2)));
        assert!(in_fork(true, || forks() == here + 1 && in_fork(true, || forks() == here + 2)));
        assert!(in_fork(false, || in_fork(true, || forks() > here)));
    }

    #[test]
    fn without_a_wiped_page_the_handler_notices() {
        forks();
        let before = BY_HAND.number.load(Ordering::Relaxed);
        assert_eq!(before, 1);
        assert!(in_fork(false, || {
            // What `forks` would do, had the page been refused.
            BY_HAND.number.load(Ordering::Relaxed) == 0 && {
                let counted = FORKS.load(Ordering::Relaxed);
                count(&BY_HAND) == counted + 1
                    && BY_HAND.number.load(Ordering::Relaxed) == counted + 2
            }
        }));
    }

    #[test]
    fn a_child_has_no_copy_of_a_watched_file() {
        let file = Unshared::open(tempfile::tempfile).unwrap();
        let fd = file.file().unwrap().as_raw_fd();
        assert!(is_open(fd));
        assert!(in_fork(false, || !is_open(fd) && file.file().is_none()));
        assert!(in_fork(true, || {
            forks();
            !is_open(fd) && file.file().is_none()
        }));
        assert!(is_open(fd));
    }

    #[test]
    fn a_child_that_drops_a_watched_file_closes_nobody_elses() {
        let file = Unshared::open(tempfile::tempfile).unwrap();
        let other = tempfile::tempfile().unwrap();
        let (fd, other) = (file.file().unwrap().as_raw_fd(), other.as_raw_fd());
        // In the child the number belongs to another file by the time the copy is dropped.
        assert!(in_fork(false, || {
            // SAFETY: dup2 takes no pointer, and the child's copy of `fd` is closed. The bits of `file` are read once
            // more in a process that never runs the first one's destructor.
            unsafe {
                libc::dup2(other, fd);
                drop(ptr::read(&raw const file));
            }
            is_open(fd)
        }));
    }

    #[test]
    fn files_opened_while_other_threads_fork_do_not_leak() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(in_fork(false, || {
                        LOCKS.iter().all(|place| place.load(Ordering::SeqCst) == NONE)
                            && BEGUN.load(Ordering::SeqCst) == ENDED.load(Ordering::SeqCst)
                    }));
                }
            });
            for _ in 0..200 {
                let file = Unshared::open(tempfile::tempfile).unwrap();
                assert!(file.file().is_some());
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn asking_costs_no_system_call() {
        let batch = || {
            let start = std::time::Instant::now();
            (0..100_000).for_each(|_| assert_ne!(std::hint::black_box(forks()), u32::MAX));
            start.elapsed()
        };
        // The best of many batches, since others use the machine too. A system call takes 100 ns and more.
        let best = (0..50).map(|_| batch()).min().unwrap();
        assert!(best < std::time::Duration::from_millis(5), "{best:?}");
    }
}
