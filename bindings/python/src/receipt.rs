//! The receipt for an enqueue.

#![allow(unsafe_code)]

use std::hash::{DefaultHasher, Hash, Hasher};

use libmq::ReceiptStatus;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use pyo3::{ffi, intern};

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

impl Receipt {
    /// The receipts of a batch.
    ///
    /// Python's collector, which would look at each of them once a batch, is not told of them: they hold nothing.
    pub(crate) fn all(
        py: Python<'_>,
        receipts: impl ExactSizeIterator<Item = libmq::Receipt>,
    ) -> PyResult<Bound<'_, PyList>> {
        let made = receipts.map(|receipt| {
            let made = Bound::new(py, Self::from(receipt))?;
            // SAFETY: an object that is there, of a class that the collector is told of; whoever frees it may do this again.
            unsafe {
                if ffi::PyType_IS_GC(ffi::Py_TYPE(made.as_ptr())) != 0 {
                    ffi::PyObject_GC_UnTrack(made.as_ptr().cast());
                }
            }
            Ok(made)
        });
        PyList::new(py, made.collect::<PyResult<Vec<_>>>()?)
    }
}

impl From<libmq::Receipt> for Receipt {
    fn from(inner: libmq::Receipt) -> Self {
        Self { inner }
    }
}
