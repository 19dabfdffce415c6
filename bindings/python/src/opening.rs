//! Opening a broker: the wait for another owner to leave.

use std::path::Path;
use std::time::{Duration, Instant};

use libmq::ErrorKind;
use pyo3::prelude::*;

use crate::entering::{Nobody, caught};
use crate::error::{OrRaise, exception};
use crate::options::BrokerOptions;
use crate::outside::outside;
use crate::waiting::pause;

/// How soon a held directory is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(50);

/// Opens a broker, and waits for another owner to leave where it may. The kernel tells nobody that a lock is free, so
/// that is tried again and again, as in the core, but with pauses that signals end.
pub(crate) fn open(
    py: Python<'_>,
    path: &Path,
    options: &BrokerOptions,
) -> PyResult<libmq::Broker> {
    let end = Instant::now().checked_add(options.lock_timeout);
    let once = options.core.clone().lock_timeout(Duration::ZERO);
    let mut time = RETRY_FIRST;
    loop {
        match outside(py, || caught(&Nobody, || libmq::Broker::open(path, once.clone()))) {
            Err(error) if error.kind() == ErrorKind::Locked => {
                let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    return Err(exception(py, &error));
                }
                pause(py, left.map_or(time, |left| left.min(time)))?;
                time = (time * 2).min(RETRY_MAX);
            }
            other => return other.or_raise(py),
        }
    }
}
