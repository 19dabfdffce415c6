//! The receipt for an enqueue.

use std::hash::{DefaultHasher, Hash, Hasher};

use libmq::ReceiptStatus;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// What became of an enqueue. Immutable, and good for `match`.
#[pyclass(frozen, eq, module = "libmq")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Receipt {
    inner: libmq::Receipt,
}

#[pymethods]
impl Receipt {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    fn match_args(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, ["id", "status"])
    }

    /// The message's id: of the new message, or of the one that was replaced or kept.
    #[getter]
    fn id(&self) -> u64 {
        self.inner.id
    }

    /// A new message; a waiting one that has this body now; or one that is there already.
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        match self.inner.status {
            ReceiptStatus::Accepted => intern!(py, "accepted").clone(),
            other => PyString::new(py, other.name()),
        }
    }

    fn __repr__(&self) -> String {
        format!("Receipt(id={}, status='{}')", self.inner.id, self.inner.status.name())
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.inner.id, self.inner.status).hash(&mut hasher);
        hasher.finish()
    }
}

impl From<libmq::Receipt> for Receipt {
    fn from(inner: libmq::Receipt) -> Self {
        Self { inner }
    }
}
