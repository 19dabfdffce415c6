//! Verifying a directory that nobody has open.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::OrRaise;
use crate::metrics::report;
use crate::values;

/// Reads and checks all of a directory; answers the fields of the report.
#[pyfunction]
pub(crate) fn verify<'py>(
    py: Python<'py>,
    path: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let path = values::path(path)?;
    let found = py.detach(|| libmq::verify(path)).or_raise(py)?;
    report(py, &found)
}
