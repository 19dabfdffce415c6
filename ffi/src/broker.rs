//! Brokers: opening a directory, starting and stopping its handlers, and giving it up.

use std::ffi::c_char;
use std::ptr;
use std::time::Duration;

use libmq::{Broker, Error, ErrorKind, Interrupt, Result};

use crate::boundary;
use crate::callback::refuse_in_drop;
use crate::from_c::{from_c, invalid};
use crate::handles::{Handle, OpenBroker, libmq_broker, libmq_error, libmq_options};
use crate::settings::{BackoffParts, Settings};
use crate::status::{LIBMQ_NONE, libmq_status};
use crate::wakeup::Wakeups;

/// Bytes of a path.
pub(crate) const PATH_BYTES_MAX: usize = 4095;

/// Opens the broker in a directory, and makes the directory where there is none, with those that it is to lie in. The path
/// ":memory:" is a broker without files. `options` may be NULL, and may be used for other opens, and freed, afterwards.
///
/// Any thread. The caller frees the broker. A directory has one owner at a time, in the same process too. Answers
/// `LIBMQ_E_INVALID` for an option out of range, naming it, a file, or a directory with other things in it; `LIBMQ_E_LOCKED`
/// naming the owner; `LIBMQ_E_CORRUPT` naming file and offset; `LIBMQ_E_UNSUPPORTED` for another format;
/// `LIBMQ_E_STORAGE_FULL`; `LIBMQ_E_IO`. On failure `*out` is NULL.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_broker_open(
    path: *const c_char,
    options: *const libmq_options,
    out: *mut *mut libmq_broker,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.emptied("out", out, ptr::null_mut());
    boundary::plain(&c, err, || {
        let settings = if options.is_null() {
            Settings::default()
        } else {
            libmq_options::find(options)?.read()?.clone()
        };
        let out = out?;
        let path = c.required_text("path", path, PATH_BYTES_MAX)?;
        let broker = Broker::open(path, settings.to_options()?)?;
        out.write(libmq_broker::give(OpenBroker::new(broker, settings.backoff))?);
        Ok(())
    })
}

/// Starts to call handlers. Started already: nothing.
///
/// Any thread. Answers `LIBMQ_E_CLOSED`; in a callback `LIBMQ_E_DEADLOCK` while another thread starts, stops or closes.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_broker_start(
    broker: *mut libmq_broker,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::broker(&from_c!(), broker, err, |open| {
        refuse_in_drop("start")?;
        open.broker.start()
    })
}

/// Stops calling handlers and waits for those that run, and for deliveries they deferred. After `timeout_ms` (-1: never)
/// they are cancelled with "shutdown", and after their grace what they hold is given back. `libmq_broker_start` may follow.
/// The time runs from the call on, also while this waits for its turn, since another thread replaces a handler, stops or
/// closes: when it is over, what that other one waits for is cancelled, too.
///
/// Any thread, not in a handler or its `drop`: that is `LIBMQ_E_DEADLOCK`. Answers `LIBMQ_E_TIMEOUT` if it had to cancel,
/// stopped all the same; `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_broker_stop(
    broker: *mut libmq_broker,
    timeout_ms: i64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::broker(&from_c!(), broker, err, |open| {
        refuse_in_drop("stop")?;
        open.broker.stop(waiting("timeout_ms", timeout_ms)?.unwrap_or(Duration::MAX))
    })
}

/// Stops as `libmq_broker_stop` does, gives received deliveries back uncounted, syncs, and gives the directory up. Closed
/// already: nothing. Every later call but this one, `libmq_wakeup_close` and `libmq_broker_free` answers `LIBMQ_E_CLOSED`.
///
/// The time is for handlers: callbacks of `libmq_enqueue_async` and of the log that are under way are waited for beside it.
///
/// Any thread, not in a callback, of whichever broker: that is `LIBMQ_E_DEADLOCK`. Answers `LIBMQ_E_TIMEOUT` if handlers had
/// to be cancelled, closed all the same; `LIBMQ_E_POISONED` or `LIBMQ_E_IO` if the last sync failed, closed all the same.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_broker_close(
    broker: *mut libmq_broker,
    timeout_ms: i64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::broker(&from_c!(), broker, err, |open| {
        refuse_in_drop("close")?;
        open.broker.close(waiting("timeout_ms", timeout_ms)?.unwrap_or(Duration::MAX))
    })
}

/// Waits until nothing is in flight, nothing is ready where there is a handler, and no retry is pending, at most for
/// `timeout_ms` (-1: for ever).
///
/// Any thread, not in a handler or its `drop`: that is `LIBMQ_E_DEADLOCK`. Answers `LIBMQ_E_TIMEOUT`, `LIBMQ_E_CLOSED`, and
/// `LIBMQ_E_POISONED` where it is not idle and never will be.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_broker_wait_idle(
    broker: *mut libmq_broker,
    timeout_ms: i64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::broker(&from_c!(), broker, err, |open| {
        refuse_in_drop("wait_idle")?;
        let timeout = waiting("timeout_ms", timeout_ms)?;
        if open.broker.wait_idle_until(timeout, &open.freed)? {
            return Ok(());
        }
        open.check_not_freed()?;
        let text = format!("the broker was not idle within {timeout_ms} ms");
        Err(Error::new(ErrorKind::Timeout, text))
    })
}

/// Frees a broker. Without a close before it this is a crash, on purpose: what is durable is recovered by the next open.
/// What it gave (deliveries, errors, lists) stays valid and is freed apart. Does nothing for NULL, or for what was freed
/// before.
///
/// Any thread. Calls of other threads that are under way end first: those that wait for a message, for room or for idleness
/// end at once with `LIBMQ_E_CLOSED`; a stop or close comes to its end. The last of them gives the directory up, and until it
/// has returned the log hook may be called.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_broker_free(broker: *mut libmq_broker) {
    if let Some(open) = libmq_broker::slab().find(broker.addr()) {
        let ended = || {
            open.broker.interrupt(&open.freed);
            Ok(())
        };
        let _ = boundary::guarded(ended, || {});
    }
    boundary::free(broker);
}

impl OpenBroker {
    pub(crate) fn new(broker: Broker, backoff: BackoffParts) -> Self {
        Self { broker, freed: Interrupt::new(), backoff, wakeups: Wakeups::default() }
    }

    /// Says that the broker was freed, to a call whose wait that has ended.
    pub(crate) fn check_not_freed(&self) -> Result<()> {
        if !self.freed.is_set() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Closed, "the broker was freed while this call was waiting"))
    }

    /// As [`OpenBroker::check_not_freed`], of a call that found no room.
    pub(crate) fn unless_freed(&self, error: Error) -> Error {
        match self.check_not_freed() {
            Err(freed) if error.kind() == ErrorKind::Full => freed,
            _ => error,
        }
    }
}

/// How long a call waits: none for ever.
pub(crate) fn waiting(name: &str, ms: i64) -> Result<Option<Duration>> {
    if ms == i64::from(LIBMQ_NONE) {
        return Ok(None);
    }
    match u64::try_from(ms) {
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) => Err(invalid(format!("{name} is {ms}, but goes from -1, which is for ever"))),
    }
}
