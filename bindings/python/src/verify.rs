//! Verifying a directory that nobody has open.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::entering::{Nobody, entered};
use crate::metrics::report;
use crate::values;

/// The fields of a `VerifyReport`.
#[pyfunction]
pub(crate) fn verify<'py>(
    py: Python<'py>,
    path: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let path = values::path(path)?;
    let found = entered(py, &Nobody, || libmq::verify(path))?;
    report(py, &found)
}
