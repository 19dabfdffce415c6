//! Callbacks: what a thread is in the middle of while it runs C's code.

use std::cell::Cell;

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
    let result = code();
    RUNNING.set(before);
    result
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
