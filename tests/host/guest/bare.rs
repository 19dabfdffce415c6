//! The few calls of the system that the standard library has no name for.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// This thread's number.
pub fn thread() -> i32 {
    // SAFETY: gettid(2) takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Has a signal call a function, and interrupt the calls it falls into.
pub fn on_signal(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: a sigaction is plain numbers, for which zeros are good: no flags, so no SA_RESTART, and nothing blocked.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = handler as usize;
    // SAFETY: the handlers of this program touch atomics alone; `action` is a live sigaction of this frame.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
}

/// Has this thread block a signal, or take it.
pub fn block(signal: i32, is_blocked: bool) {
    let how = if is_blocked { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: the set is emptied before anything else looks at it, and is of this frame.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        assert_eq!(libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut()), 0);
    }
}

/// The signals that a thread of this process blocks, a bit each, from the lowest.
pub fn blocked(thread: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}
