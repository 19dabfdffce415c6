//! Trouble: a worker that is told to expect some goes on where something could not be had, and says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{Broker, Error, ErrorKind, Options};

use crate::say::say;

/// Until it is tried again.
pub const PAUSE: Duration = Duration::from_millis(3);

/// How long an open may be refused.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Set before anybody looks.
static IS_EXPECTED: AtomicBool = AtomicBool::new(false);

pub fn expect() {
    IS_EXPECTED.store(true, Ordering::Relaxed);
}

pub fn is_expected() -> bool {
    IS_EXPECTED.load(Ordering::Relaxed)
}

/// The name of an error that says that nothing was changed, if that is to be expected; else the error.
pub fn tolerated(error: Error) -> libmq::Result<&'static str> {
    match error.kind() {
        kind @ (ErrorKind::StorageFull | ErrorKind::Io) if is_expected() => Ok(kind.name()),
        _ => Err(error),
    }
}

/// Opens the directory, when it can be opened.
pub fn open(directory: &str, options: impl Fn() -> Options) -> libmq::Result<Broker> {
    let end = Instant::now() + OPEN_MAX;
    loop {
        match Broker::open(directory, options()) {
            Err(error) if Instant::now() < end => {
                say(&format!("unopened {}", tolerated(error)?));
            }
            other => return other,
        }
        thread::sleep(PAUSE);
    }
}
