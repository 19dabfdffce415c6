//! A message as its handler sees it: everything but the settling, which is the handler's return.

use std::sync::Arc;
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
}

impl Context {
    pub(crate) fn new(py: Python<'_>, delivery: Arc<libmq::Delivery>) -> PyResult<Bound<'_, Self>> {
        let held = PyClassInitializer::from(Held::new(Arc::clone(&delivery)));
        Bound::new(py, held.add_subclass(Self { delivery }))
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

    fn __repr__(&self) -> String {
        let (delivery, attempt) = (&self.delivery, self.delivery.attempt());
        format!("<libmq.Context of {} in {}, attempt {attempt}>", delivery.id(), delivery.queue())
    }
}
