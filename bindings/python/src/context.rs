//! A message as its handler sees it: everything but the settling, which is the handler's return.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::calling::call;
use crate::held::Held;
use crate::values::duration;

static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The message that a handler was called with.
#[pyclass(frozen, extends = Held, module = "libmq")]
#[derive(Debug)]
pub(crate) struct Context {
    delivery: Arc<libmq::Delivery>,
    /// Taken away when the attempt has ended, so that the two do not keep each other.
    scope: Mutex<Option<Py<PyAny>>>,
}

impl Context {
    fn scope(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.scope.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new(py: Python<'_>, delivery: Arc<libmq::Delivery>) -> PyResult<Bound<'_, Self>> {
        let held = PyClassInitializer::from(Held::new(Arc::clone(&delivery)));
        Bound::new(py, held.add_subclass(Self { delivery, scope: Mutex::default() }))
    }
}

#[pymethods]
impl Context {
    /// Whether the attempt was cancelled.
    #[getter]
    fn cancelled(&self) -> bool {
        self.delivery.cancelled()
    }

    /// Why the attempt was cancelled: "timeout", "shutdown", "cancelled" or "lease_lost"; None if it was not.
    #[getter]
    fn cancel_reason(&self) -> Option<&'static str> {
        self.delivery.cancel_reason().map(libmq::CancelReason::name)
    }

    /// Sleeps until the attempt is cancelled, at most for this many seconds; answers whether it is.
    #[pyo3(signature = (seconds=None))]
    fn wait_cancelled(&self, py: Python<'_>, seconds: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let time = seconds.map_or(Ok(Duration::MAX), |seconds| duration("seconds", seconds))?;
        Ok(py.detach(|| self.delivery.wait_cancelled(time)))
    }

    /// Raises Cancelled if the attempt was cancelled.
    fn raise_if_cancelled(&self, py: Python<'_>) -> PyResult<()> {
        let Some(reason) = self.cancel_reason() else { return Ok(()) };
        let cancelled = call(CANCELLED.import(py, "libmq.outcomes", "Cancelled")?, (reason,))?;
        Err(PyErr::from_value(cancelled))
    }

    /// What the scope of the attempt has made, None without one.
    #[getter(scope)]
    fn scope_value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.scope().as_ref().map(|scope| scope.clone_ref(py))
    }

    fn _set_scope(&self, scope: Option<Py<PyAny>>) {
        // What it was before may be dropped by code of Python, which may ask for it.
        let before = std::mem::replace(&mut *self.scope(), scope);
        drop(before);
    }

    fn __repr__(&self) -> String {
        let (delivery, attempt) = (&self.delivery, self.delivery.attempt());
        format!("<libmq.Context of {} in {}, attempt {attempt}>", delivery.id(), delivery.queue())
    }
}
