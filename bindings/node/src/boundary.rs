//! The boundary: what goes wrong becomes a JavaScript error, and a panic ends a broker instead of the program.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use libmq::{Broker, Error, ErrorKind};
use napi_derive::napi;

/// Between the parts of an error's text, where the other half of the package takes it apart.
const SEPARATOR: char = '\u{1}';

/// An error as text: its code, the path it names, and the message.
pub(crate) fn text_of(error: &Error) -> String {
    let path = error.path().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{}{SEPARATOR}{path}{SEPARATOR}{error}", error.kind().name())
}

/// An error for JavaScript.
pub(crate) fn thrown(error: Error) -> napi::Error {
    napi::Error::from_reason(text_of(&error))
}

/// Runs what may panic; that poisons the broker, which may have been left with something half done.
pub(crate) fn guarded<T>(
    broker: &Broker,
    work: impl FnOnce() -> libmq::Result<T>,
) -> libmq::Result<T> {
    caught(work).unwrap_or_else(|panic| Err(poisoned(broker, &panic)))
}

/// Poisons a broker after a panic; answers the error that says so.
pub(crate) fn poisoned(broker: &Broker, panic: &Error) -> Error {
    broker.poison("a bug in libmq was caught");
    Error::new(panic.kind(), format!("{panic}; the broker is poisoned"))
}

/// Runs what may panic; answers an error for it.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> libmq::Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| Error::new(ErrorKind::Panic, "a bug in libmq was caught"))
}

/// A time that JavaScript gave in milliseconds; beyond every limit where it is no time, so that the core refuses it.
pub(crate) fn duration(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::MAX)
}

/// A time in milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A moment in milliseconds since the epoch.
pub(crate) fn epoch_ms(moment: std::time::SystemTime) -> f64 {
    moment.duration_since(std::time::UNIX_EPOCH).map_or(0.0, ms)
}

/// A whole number that JavaScript checked to be one and not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and the core has its limits"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// As [`whole`], for what is counted in 32 bits.
pub(crate) fn whole32(number: f64) -> u32 {
    u32::try_from(whole(number)).unwrap_or(u32::MAX)
}

/// As [`whole`], for what is counted in memory.
pub(crate) fn whole_size(number: f64) -> usize {
    usize::try_from(whole(number)).unwrap_or(usize::MAX)
}

/// Every error code, each followed by `retryable` where the same call can succeed later.
#[napi(catch_unwind)]
pub fn error_kinds() -> Vec<String> {
    ErrorKind::ALL
        .iter()
        .map(|kind| {
            let retryable = Error::new(*kind, "").is_retryable();
            format!("{}{}", kind.name(), if retryable { " retryable" } else { "" })
        })
        .collect()
}
