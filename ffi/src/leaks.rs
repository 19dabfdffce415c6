//! Leaks: what handles are left when a program exits, for those who look for what they never freed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::handles::{BROKERS, DEAD_LETTERS, DELIVERIES, ERRORS, OPTIONS};

/// Asks for the report, if it is in the environment.
const ASKED: &str = "LIBMQ_LEAKS";

/// Has the report made at the exit of the process, once.
pub(crate) fn watch() {
    // Relaxed: whoever is first registers, and nothing else hangs on it.
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.swap(true, Ordering::Relaxed) {
        // SAFETY: the function has no arguments, as the call asks, and lives as long as this library; where the library goes
        // before the process does, it is called then.
        unsafe { libc::atexit(report) };
    }
}

/// Handles that this process has made and not freed. Of an exit by `_exit` or a signal nobody is told.
extern "C" fn report() {
    if std::env::var_os(ASKED).is_none() {
        return;
    }
    let text = format!(
        "libmq: not freed: brokers {}, deliveries {}, errors {}, options {}, lists of dead letters {}\n",
        BROKERS.live(),
        DELIVERIES.live(),
        ERRORS.live(),
        OPTIONS.live(),
        DEAD_LETTERS.live(),
    );
    // SAFETY: so many bytes are there; where they cannot be written there is nobody to tell.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}
