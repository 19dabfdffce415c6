//! Directories that an open makes: each has its name for good before there is anything in it.

use std::ffi::{CStr, c_char, c_int};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use libmq::{Broker, Options};

/// What was done to directories, in that order.
static DONE: Mutex<Vec<(&str, PathBuf)>> = Mutex::new(Vec::new());

/// Stands in for mkdir(2).
///
/// # Safety
/// As that.
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's path is text that ends in NUL.
    let made = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    // SAFETY: the arguments are the caller's.
    let answer = unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode) as c_int };
    if answer == 0 {
        DONE.lock().unwrap().push(("made", made.into()));
    }
    answer
}

/// Stands in for fsync(2).
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    // SAFETY: the call takes no pointer.
    let answer = unsafe { libc::syscall(libc::SYS_fsync, file) as c_int };
    match fs::read_link(format!("/proc/self/fd/{file}")) {
        Ok(path) if answer == 0 => DONE.lock().unwrap().push(("synced", path)),
        _ => {}
    }
    answer
}

pub fn run(place: &Path) {
    let place = fs::canonicalize(place).unwrap();
    DONE.lock().unwrap().clear();
    let directory = place.join("a/b/queue");
    let broker = Broker::open(&directory, Options::new()).unwrap();
    let done = std::mem::take(&mut *DONE.lock().unwrap());
    let mut expected = Vec::new();
    for made in ["a", "a/b", "a/b/queue"].map(|name| place.join(name)) {
        let above = made.parent().unwrap().to_owned();
        expected.extend([("made", made), ("synced", above)]);
    }
    assert_eq!(done[..expected.len().min(done.len())], expected, "{done:?}");
    // And then the names in it.
    let names = done.iter().filter(|(what, path)| *what == "synced" && *path == directory).count();
    assert!(names > 0, "{done:?}");
    broker.close(Duration::from_secs(5)).unwrap();
    println!(
        "{} directories were made, each synced above before anything was in it",
        expected.len() / 2
    );
}
