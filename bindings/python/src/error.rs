//! Errors on their way to Python, where their classes are.

use std::path::Path;

use libmq::{Error, ErrorKind};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyAny;

use crate::calling::call;

/// The function of the package that makes an exception.
static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception for an error of the core.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    match make(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        // The package is being torn down, or memory has run out: that is what there is to tell.
        Err(other) => other,
    }
}

fn make<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let owner = error.owner().map(|owner| (owner.pid, owner.command.as_str(), owner.since_ms));
    // Not as a path, of which Python would make one in code of its own.
    let path = error.path().map(Path::as_os_str);
    let arguments = (error.kind().name(), error.to_string(), error.is_retryable(), path, owner);
    call(MAKE.import(py, "libmq._errors", "from_native")?, arguments)
}

/// What a call of the core answers, as Python sees it.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for libmq::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}

/// An argument that is out of its range.
pub(crate) fn invalid(py: Python<'_>, message: impl Into<String>) -> PyErr {
    exception(py, &Error::new(ErrorKind::Invalid, message))
}

/// An argument of another type than it should have.
pub(crate) fn wrong_type(name: &str, should: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let is =
        value.get_type().name().map_or_else(|_| "something else".into(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} must be {should}, not {is}"))
}
