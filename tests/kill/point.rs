//! Named points: what a worker is seen to be doing when it is killed.
//!
//! They are seen from outside, so that what is killed is what is shipped. The kernel tells what happens to the files of the
//! directory (`inotify`), and which call each thread is in (`/proc`). The kill falls some microseconds later: at the point
//! or just behind it.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::random::Random;

/// What a worker is seen to be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// An opening has opened one more of its files to read it.
    Recovering,
    /// A segment has been begun under its temporary name.
    MakingSegment,
    /// It has got its name.
    NamingSegment,
    /// One more block of a snapshot has been written.
    WritingSnapshot,
    /// It has got its name.
    NamingSnapshot,
    /// A segment or a snapshot that nobody needs any more has been removed.
    Removing,
    /// What was written is being synced.
    Syncing,
}

pub const POINTS: [Point; 7] = [
    Point::Recovering,
    Point::MakingSegment,
    Point::NamingSegment,
    Point::WritingSnapshot,
    Point::NamingSnapshot,
    Point::Removing,
    Point::Syncing,
];

/// How often each was met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met([u64; POINTS.len()]);

impl Met {
    pub fn note(&mut self, point: Point) {
        self.0[point as usize] += 1;
    }

    pub fn all(self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that were never met.
    pub fn missing(self) -> Vec<Point> {
        POINTS.into_iter().filter(|point| self.0[*point as usize] == 0).collect()
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (point, count) in POINTS.iter().zip(self.0) {
            let comma = if *point as usize == 0 { "" } else { ", " };
            write!(f, "{comma}{point:?} {count}")?;
        }
        Ok(())
    }
}

/// Bytes of an event before its name, as `inotify(7)` has it: watch, mask, cookie, length.
const EVENT_BYTES: usize = 16;

impl Point {
    pub fn any(random: &mut Random) -> Self {
        POINTS[usize::try_from(random.below(POINTS.len() as u64)).unwrap()]
    }

    /// As how often a point comes it is met: at once where an opening makes one, and the more of them pass the more often
    /// it makes them.
    pub fn passed(self, random: &mut Random) -> u64 {
        random.below(match self {
            Self::Recovering => 6,
            Self::WritingSnapshot | Self::Syncing => 12,
            Self::MakingSegment | Self::NamingSegment | Self::NamingSnapshot | Self::Removing => 4,
        })
    }

    /// Whether this happened to a file of that name.
    fn is(self, mask: u32, name: &str) -> bool {
        let has = |bits: u32| mask & bits != 0;
        let (is_segment, is_snapshot) = (name.ends_with(".segment"), name.ends_with(".snapshot"));
        match self {
            Self::Recovering => has(libc::IN_OPEN) && (is_segment || is_snapshot),
            Self::MakingSegment => has(libc::IN_CREATE) && name.ends_with(".segment.tmp"),
            Self::NamingSegment => has(libc::IN_MOVED_TO) && is_segment,
            Self::WritingSnapshot => has(libc::IN_MODIFY) && name == "snapshot.tmp",
            Self::NamingSnapshot => has(libc::IN_MOVED_TO) && is_snapshot,
            Self::Removing => has(libc::IN_DELETE) && (is_segment || is_snapshot),
            Self::Syncing => false,
        }
    }
}

/// Watches a directory, from before a worker is started there.
#[derive(Debug)]
pub struct Lookout(File);

impl Lookout {
    pub fn new(directory: &Path) -> Self {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
        assert!(fd >= 0, "no inotify: {}", std::io::Error::last_os_error());
        let path = std::ffi::CString::new(directory.as_os_str().as_bytes()).unwrap();
        let mask =
            libc::IN_OPEN | libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_MODIFY | libc::IN_DELETE;
        // SAFETY: the descriptor was just made and is nobody else's; the path is a live string that ends in NUL.
        let (file, watch) =
            unsafe { (File::from_raw_fd(fd), libc::inotify_add_watch(fd, path.as_ptr(), mask)) };
        assert!(watch >= 0, "{} is not watched", directory.display());
        Self(file)
    }

    /// Waits until the process has passed a point so many times and is there again; answers whether it came there until
    /// `end`.
    pub fn wait(&mut self, point: Point, mut passes: u64, process: u32, end: Instant) -> bool {
        if point == Point::Syncing {
            return wait_for_sync(process, passes, end);
        }
        let mut bytes = vec![0; 64 << 10];
        while self.has_more(end.saturating_duration_since(Instant::now())) {
            let read = self.0.read(&mut bytes).unwrap();
            let mut rest = &bytes[..read];
            while rest.len() >= EVENT_BYTES {
                let number = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
                let (mask, length) = (number(4), usize::try_from(number(12)).unwrap());
                let (name, next) = rest[EVENT_BYTES..].split_at(length);
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                if point.is(mask, std::str::from_utf8(name).unwrap_or_default()) {
                    if passes == 0 {
                        return true;
                    }
                    passes -= 1;
                }
                rest = next;
            }
        }
        false
    }

    fn has_more(&self, time: Duration) -> bool {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let time = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `poll` is one live, writable pollfd of this frame.
        unsafe { libc::poll(&raw mut poll, 1, time) > 0 }
    }
}

/// Looks at the calls of all threads until one is a sync of data.
fn wait_for_sync(process: u32, mut passes: u64, end: Instant) -> bool {
    let sync = format!("{} ", libc::SYS_fdatasync);
    let mut was_syncing = false;
    while Instant::now() < end {
        let is_syncing = threads(process).any(|thread| {
            let call = fs::read_to_string(thread.join("syscall"));
            call.is_ok_and(|call| call.starts_with(&sync))
        });
        if is_syncing && !was_syncing {
            if passes == 0 {
                return true;
            }
            passes -= 1;
        }
        was_syncing = is_syncing;
        std::thread::sleep(Duration::from_micros(50));
    }
    false
}

fn threads(process: u32) -> impl Iterator<Item = std::path::PathBuf> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    threads.flatten().map(|entry| entry.path())
}

/// Whether the kernel tells which calls a process of ours is in: some systems keep that from everybody.
pub fn calls_are_told(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/syscall")).is_ok()
}
