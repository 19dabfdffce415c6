//! The owner's lock: a kernel lock on the file `lock` in a broker's directory.
//!
//! Invariants:
//! - the kernel's lock alone decides; the text in the file is a hint for error messages, and may be missing, old or
//!   damaged without any harm;
//! - the file is never deleted, and never changed by who does not hold the lock;
//! - the lock ends with its guard or with the process, whichever is first, and no forked child prolongs it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{open_file, open_regular};
use crate::error::{Error, ErrorKind, LockOwner, Result};
use crate::storage::sys::{self, Unshared};

/// The file that the owner locks.
pub(crate) const LOCK: &str = "lock";
/// Bytes of the hint that are looked at.
pub(crate) const LOCK_HINT_BYTES_MAX: usize = 1024;
/// What the hint has a line of, in this order.
const HINT_NAMES: [&str; 4] = ["pid", "command", "since_ms", "instance"];
/// Characters of a command's name that are kept.
const COMMAND_CHARS_MAX: usize = 128;
/// How soon a held lock is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(50);

/// A number no other process has, to tell this process from one of the same id in another container.
static INSTANCE: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());

/// Holds a directory's lock.
#[derive(Debug)]
pub(super) struct LockGuard {
    file: Unshared,
    /// Which file it is: device and number.
    pub(super) place: (u64, u64),
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // Unlocked before it is closed: a process being forked just now may have a copy, and closing would leave the
        // lock to that. In a forked child there is no file, and the lock is the parent's.
        if let Some(file) = self.file.file() {
            let _ = file.unlock();
        }
    }
}

/// Takes the lock of a directory, waiting at most `timeout`.
pub(super) fn take(directory: &Path, timeout: Duration) -> Result<LockGuard> {
    let path = directory.join(LOCK);
    let refused = |cause: std::io::Error| Error::io("lock", &path, &cause);
    let unshared =
        Unshared::open(|| open_file(&path, OpenOptions::new().create(true))).map_err(refused)?;
    let Some(file) = unshared.file() else {
        return Err(Error::new(ErrorKind::Forked, "the process forked while it opened a broker"));
    };
    let about = file.metadata().map_err(refused)?;
    let start = Instant::now();
    let mut pause = RETRY_FIRST;
    loop {
        match file.try_lock() {
            Ok(()) => {
                // Only a hint: whoever reads half of it, or none, is merely told less. With another name the file may be
                // something else.
                if about.nlink() == 1 {
                    let hint = hint();
                    let _ = file
                        .set_len(0)
                        .and_then(|()| sys::check_length(hint.len() as u64))
                        .and_then(|()| file.write_all_at(hint.as_bytes(), 0));
                }
                return Ok(LockGuard { place: (about.dev(), about.ino()), file: unshared });
            }
            Err(TryLockError::WouldBlock) => {
                let left = timeout.saturating_sub(start.elapsed());
                if left.is_zero() {
                    return Err(locked(directory, file));
                }
                std::thread::sleep(pause.min(left));
                pause = (pause * 2).min(RETRY_MAX);
            }
            Err(TryLockError::Error(cause)) => return Err(refused(cause)),
        }
    }
}

/// Takes the lock of a directory together with others that only read there; none where there is no lock file. Neither makes
/// the file nor writes into it.
pub(super) fn share(directory: &Path) -> Result<Option<LockGuard>> {
    let path = directory.join(LOCK);
    let refused = |cause: std::io::Error| Error::io("lock", &path, &cause);
    let unshared = match Unshared::open(|| open_regular(&path, &mut OpenOptions::new())) {
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(refused)?,
    };
    let Some(file) = unshared.file() else {
        return Err(Error::new(
            ErrorKind::Forked,
            "the process forked while it locked a directory",
        ));
    };
    let about = file.metadata().map_err(refused)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(LockGuard { place: (about.dev(), about.ino()), file: unshared })),
        Err(TryLockError::WouldBlock) => Err(locked(directory, file)),
        Err(TryLockError::Error(cause)) => Err(refused(cause)),
    }
}

/// What the owner writes about itself, one `name=value` a line.
fn hint() -> String {
    let program = std::env::current_exe().ok();
    let command =
        program.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let command: String =
        command.chars().filter(|char| !char.is_control()).take(COMMAND_CHARS_MAX).collect();
    let (pid, since_ms) = (std::process::id().to_string(), now_ms().to_string());
    let values = [pid, command, since_ms, format!("{:016x}", *INSTANCE)];
    HINT_NAMES.iter().zip(values).map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Whether a lock file's text is an owner's hint, or is none yet: whoever makes the file writes it when it is locked.
pub(crate) fn is_lock_hint(text: &str) -> bool {
    let names = text.lines().map(|line| line.split_once('=').map_or("", |(name, _)| name));
    text.is_empty() || names.eq(HINT_NAMES)
}

/// The error that names the owner, as far as the hint does.
fn locked(directory: &Path, file: &File) -> Error {
    let mut bytes = [0; LOCK_HINT_BYTES_MAX];
    let read = file.read_at(&mut bytes, 0).unwrap_or_default();
    let hint = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default());
    let value = |name: &str| {
        hint.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let owner = LockOwner {
        pid: value("pid").parse().unwrap_or_default(),
        command: value("command")
            .chars()
            .filter(|char| !char.is_control())
            .take(COMMAND_CHARS_MAX)
            .collect(),
        since_ms: value("since_ms").parse().unwrap_or_default(),
    };
    let ours = owner.pid == std::process::id()
        && u64::from_str_radix(value("instance"), 16).is_ok_and(|instance| instance == *INSTANCE);

    let mut text = format!("{} is open in ", directory.display());
    // Writing to a String cannot fail.
    let _ = match (owner.pid, owner.command.as_str()) {
        _ if ours => write!(text, "this process ({})", owner.pid),
        (0, _) => write!(text, "another process"),
        (pid, "") => write!(text, "process {pid}"),
        (pid, command) => write!(text, "process {pid} ({command})"),
    };
    let seconds = now_ms().saturating_sub(owner.since_ms) / 1000;
    if owner.since_ms > 0 && seconds > 0 {
        let _ = write!(text, ", for {seconds} s now");
    }
    text.push_str("; a directory has one owner at a time");
    Error::new(ErrorKind::Locked, text).at(directory).owned_by(owner)
}

fn now_ms() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::{env, fs, io, thread};

    use super::*;

    /// Names the directory that [`a_process_of_its_own`] locks.
    const DIRECTORY: &str = "LIBMQ_TEST_LOCK_DIRECTORY";

    /// Not a test: what another process does, when [`lock_elsewhere`] runs this binary again.
    #[test]
    fn a_process_of_its_own() {
        let Some(directory) = env::var_os(DIRECTORY) else { return };
        let _guard = take(Path::new(&directory), Duration::ZERO).unwrap();
        fs::write(Path::new(&directory).join("taken"), "").unwrap();
        let mut line = String::new();
        io::stdin().read_line(&mut line).unwrap();
    }

    /// Starts a process that holds the lock until its standard input is closed.
    fn lock_elsewhere(directory: &Path) -> Child {
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::a_process_of_its_own"), "--nocapture"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !directory.join("taken").exists() {
            assert_eq!(child.try_wait().unwrap(), None, "it ended without the lock");
            thread::sleep(Duration::from_millis(5));
        }
        child
    }

    #[test]
    fn a_second_owner_in_the_process_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let guard = take(dir.path(), Duration::ZERO).unwrap();
        let error = take(dir.path(), Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.is_retryable());
        assert_eq!(error.owner().unwrap().pid, std::process::id());
        assert_eq!(error.path(), Some(dir.path()));
        assert!(error.to_string().contains("open in this process"), "{error}");
        drop(guard);
        drop(take(dir.path(), Duration::ZERO).unwrap());
        assert!(dir.path().join("lock").exists());
    }

    #[test]
    fn another_process_is_named_and_its_death_frees_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let before = now_ms();
        let mut child = lock_elsewhere(dir.path());
        let error = take(dir.path(), Duration::ZERO).unwrap_err();
        let owner = error.owner().unwrap();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert_eq!(owner.pid, child.id());
        assert!((before..=now_ms()).contains(&owner.since_ms));
        let program = env::current_exe().unwrap();
        assert_eq!(owner.command, program.file_name().unwrap().to_str().unwrap());
        let named = format!("open in process {} ({})", child.id(), owner.command);
        assert!(error.to_string().contains(&named), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        take(dir.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_lock_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let guard = take(dir.path(), Duration::ZERO).unwrap();
        let start = Instant::now();
        assert!(take(dir.path(), Duration::from_millis(120)).is_err());
        assert!(start.elapsed() >= Duration::from_millis(120));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| take(dir.path(), Duration::from_secs(60)));
            thread::sleep(Duration::from_millis(30));
            drop(guard);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn who_only_reads_shares_the_lock_with_others_who_do_and_with_no_owner() {
        let dir = tempfile::tempdir().unwrap();
        assert!(share(dir.path()).unwrap().is_none());
        assert!(!dir.path().join("lock").exists());
        let guard = take(dir.path(), Duration::ZERO).unwrap();
        assert_eq!(share(dir.path()).unwrap_err().kind(), ErrorKind::Locked);
        drop(guard);
        let before = fs::read(dir.path().join("lock")).unwrap();
        let (one, other) = (share(dir.path()).unwrap().unwrap(), share(dir.path()).unwrap());
        assert_eq!(take(dir.path(), Duration::ZERO).unwrap_err().kind(), ErrorKind::Locked);
        drop((one, other));
        assert_eq!(fs::read(dir.path().join("lock")).unwrap(), before);
        take(dir.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_missing_or_damaged_hint_only_says_less() {
        let dir = tempfile::tempdir().unwrap();
        let _guard = take(dir.path(), Duration::ZERO).unwrap();
        let nobody = LockOwner::default();
        for (hint, named, owner) in [
            (&b""[..], "another process; ", nobody.clone()),
            (b"\xff\xfe\0\0pid==\n\n=", "another process; ", nobody.clone()),
            (
                b"pid=99999999999999\ncommand=x",
                "another process; ",
                LockOwner { command: "x".into(), ..nobody.clone() },
            ),
            (b"pid=12\ninstance=zz", "process 12; ", LockOwner { pid: 12, ..nobody.clone() }),
            (&[b'7'; 5000], "another process; ", nobody.clone()),
        ] {
            fs::write(dir.path().join("lock"), hint).unwrap();
            let error = take(dir.path(), Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Locked);
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(error.owner(), Some(&owner));
        }
    }

    #[test]
    fn the_same_process_id_elsewhere_is_not_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let _guard = take(dir.path(), Duration::ZERO).unwrap();
        let pid = std::process::id();
        fs::write(dir.path().join("lock"), format!("pid={pid}\ncommand=x\ninstance=1\n")).unwrap();
        let error = take(dir.path(), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains(&format!("process {pid} (x)")), "{error}");
    }

    #[test]
    fn a_new_owner_leaves_nothing_of_the_last_hint() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "x".repeat(4000)).unwrap();
        let _guard = take(dir.path(), Duration::ZERO).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("lock")).unwrap().lines().count(), 4);
    }

    #[test]
    fn a_lock_file_that_is_no_file_is_io() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("lock")).unwrap();
        let error = take(dir.path(), Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.os_code(), Some(libc::ELOOP));
    }

    #[test]
    fn a_forked_child_neither_holds_nor_frees_its_parents_lock() {
        let dir = tempfile::tempdir().unwrap();
        let guard = take(dir.path(), Duration::ZERO).unwrap();
        let mut alive = [0; 2];
        // SAFETY: `alive` has the two places pipe(2) fills.
        assert_eq!(unsafe { libc::pipe(alive.as_mut_ptr()) }, 0);
        // SAFETY: the child reads from the pipe until the parent closes it, and leaves by _exit: system calls alone.
        // Dropping its copy of the guard, read bit by bit, does what a child that cleans up would do.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::close(alive[1]);
                drop(std::ptr::read(&raw const guard));
                let mut byte = 0_u8;
                libc::read(alive[0], (&raw mut byte).cast(), 1);
                libc::_exit(0);
            }
            child
        };
        thread::sleep(Duration::from_millis(20));
        assert!(take(dir.path(), Duration::ZERO).is_err(), "the child unlocked");
        // SAFETY: the guard is forgotten at once, so its file has one owner; dropping that closes without unlocking,
        // as a killed owner's is closed.
        let file = unsafe { std::ptr::read(&raw const guard.file) };
        std::mem::forget(guard);
        drop(file);
        let again = take(dir.path(), Duration::ZERO);
        // SAFETY: descriptors of this test, closed once; `child` is a child nobody else waits for.
        unsafe {
            libc::close(alive[1]);
            libc::close(alive[0]);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        again.unwrap();
    }
}
