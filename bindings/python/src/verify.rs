//! Verifying a directory that nobody has open.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::OrRaise;
use crate::metrics::report;

/// Reads and checks all of a directory; answers the fields of the report.
#[pyfunction]
pub(crate) fn verify(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let found = py.detach(|| libmq::verify(path)).or_raise(py)?;
    report(py, &found)
}
