//! A message as its handler sees it: everything but the settling, which is the handler's return.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::calling::call;
use crate::entering::entered;
use crate::held::Held;
use crate::values::duration;

static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A message as its handler sees it: everything but the settling, which is the handler's return.
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
    /// Whether the attempt was cancelled. An async handler's task is cancelled, too; nothing else is interrupted: a
    /// handler that runs long looks here.
    #[getter]
    fn cancelled(&self) -> bool {
        self.delivery.cancelled()
    }

    /// Why the attempt was cancelled, if it was.
    #[getter]
    fn cancel_reason(&self) -> Option<&'static str> {
        self.delivery.cancel_reason().map(libmq::CancelReason::name)
    }

    /// Sleeps until the attempt is cancelled, at most for this long, None for ever; answers whether it is.
    ///
    /// Raises InvalidError above ten years, TypeError.
    #[pyo3(signature = (seconds=None))]
    fn wait_cancelled(&self, py: Python<'_>, seconds: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let time = seconds.map_or(Ok(Duration::MAX), |seconds| duration("seconds", seconds))?;
        entered(py, &*self.delivery, || Ok(self.delivery.wait_cancelled(time)))
    }

    /// Raises Cancelled if the attempt was cancelled.
    fn raise_if_cancelled(&self, py: Python<'_>) -> PyResult<()> {
        let Some(reason) = self.cancel_reason() else { return Ok(()) };
        let cancelled = call(CANCELLED.import(py, "libmq._outcomes", "Cancelled")?, (reason,))?;
        Err(PyErr::from_value(cancelled))
    }

    /// What the scope of the attempt has made, as long as it is open; None without one.
    #[getter(scope)]
    fn scope_value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.scope().as_ref().map(|scope| scope.clone_ref(py))
    }

    /// Answers what it was before: it may be dropped by code of Python, which may ask for it.
    fn _set_scope(&self, scope: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        std::mem::replace(&mut *self.scope(), scope)
    }

    fn __repr__(&self) -> String {
        let (delivery, attempt) = (&self.delivery, self.delivery.attempt());
        format!("<libmq.Context of {} in {}, attempt {attempt}>", delivery.id(), delivery.queue())
    }
}
