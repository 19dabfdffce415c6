//! Callbacks: what a thread is in the middle of while it runs C's code.
//!
//! A process that was forked in a callback has that one thread alone. Coming back from there it would wait for ever for what
//! its parent's threads do, so it is ended: it should have ended by `_exit` or another program before.

use std::cell::Cell;

use libmq::storage::forks;
use libmq::{Error, ErrorKind, Result};

thread_local! {
    static RUNNING: Cell<Running> = const { Cell::new(Running::Nothing) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    Nothing,
    /// A handler, with the delivery of this handle.
    Handler(usize),
    /// A context is being dropped.
    Drop,
}

/// Runs C's code.
pub(crate) fn run<R>(what: Running, code: impl FnOnce() -> R) -> R {
    let before = RUNNING.replace(what);
    let result = in_parent(code);
    RUNNING.set(before);
    result
}

/// Runs C's code, from which no forked child comes back.
pub(crate) fn in_parent<R>(code: impl FnOnce() -> R) -> R {
    let before = forks();
    let result = code();
    if forks() != before {
        end_child();
    }
    result
}

#[cold]
fn end_child() -> ! {
    const TEXT: &[u8] =
        b"libmq: a process forked in a callback came back from it, but has to end in there by _exit or exec\n";
    // SAFETY: so many bytes are there, and whether they are written is all the same.
    unsafe { libc::write(libc::STDERR_FILENO, TEXT.as_ptr().cast(), TEXT.len()) };
    std::process::abort()
}

/// Whether this thread is running the handler of this delivery.
pub(crate) fn is_handling(delivery: usize) -> bool {
    RUNNING.get() == Running::Handler(delivery)
}

/// Refuses a call that would wait for the callback it is in. For handlers the broker does so itself.
pub(crate) fn refuse_in_drop(call: &str) -> Result<()> {
    if RUNNING.get() == Running::Drop {
        let text = format!("{call} while a context is dropped would wait for itself");
        return Err(Error::new(ErrorKind::Deadlock, text));
    }
    Ok(())
}
