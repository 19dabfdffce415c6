//! Leaks: what handles are left when a program exits, for those who look for what they never freed.

use crate::handles::{BROKERS, DEAD_LETTERS, DELIVERIES, ERRORS, OPTIONS};

/// Asks for the report, if it is in the environment.
const ASKED: &str = "LIBMQ_LEAKS";

/// Has the report made when this library has its end, with the process or before. That is behind what a program does at its
/// exit by itself, in functions of `atexit` and destructors of its objects, which may free handles.
// SAFETY: the section is one of addresses of functions such as this one.
#[used]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_term_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".fini_array"))]
static AT_END: extern "C" fn() = report;

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
