//! How an attempt ends that was not acked, as Python says it.

use libmq::HandlerError;
use pyo3::prelude::*;

use crate::values::{any_text, duration};

type Given<'a, 'py> = &'a Bound<'py, PyAny>;

/// The handler failed.
pub(crate) fn failed(error: Given<'_, '_>) -> PyResult<HandlerError> {
    Ok(HandlerError::failed(any_text("error", error)?))
}

/// It is to be tried again, after a delay or the backoff.
pub(crate) fn retried(
    delay: Option<Given<'_, '_>>,
    error: Option<Given<'_, '_>>,
) -> PyResult<HandlerError> {
    let delay = delay.map(|delay| duration("delay", delay)).transpose()?;
    let error = error.map_or(Ok(String::new()), |error| any_text("error", error))?;
    Ok(HandlerError::retry_because(delay, error))
}

/// To the dead letters, perhaps with what was the cause.
pub(crate) fn rejected(
    reason: Given<'_, '_>,
    error: Option<Given<'_, '_>>,
) -> PyResult<HandlerError> {
    let error = error.map_or(Ok(String::new()), |error| any_text("error", error))?;
    Ok(HandlerError::reject_because(any_text("reason", reason)?, error))
}

/// Given back.
pub(crate) fn released(delay: Option<Given<'_, '_>>) -> PyResult<HandlerError> {
    Ok(HandlerError::release(
        delay.map_or(Ok(Default::default()), |delay| duration("delay", delay))?,
    ))
}

/// The body is not what it says it is.
pub(crate) fn undecodable(error: Given<'_, '_>) -> PyResult<HandlerError> {
    Ok(HandlerError::undecodable(any_text("error", error)?))
}
