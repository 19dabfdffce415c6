//! Interrupts: how a wait on a thread beside an event loop is ended by the loop.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::broker::Broker;
use crate::error::OrRaise;
use crate::values::duration;

/// For one call that waits, on a thread of its own.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    inner: Arc<libmq::Interrupt>,
}

#[pymethods]
impl Interrupt {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ends the call: a wait at once, a stop's time for its handlers; the second time, their grace.
    fn set(&self, py: Python<'_>, broker: &Broker) {
        py.detach(|| broker.inner().interrupt(&self.inner));
    }

    /// Stops the broker.
    fn stop(&self, py: Python<'_>, broker: &Broker, timeout: &Bound<'_, PyAny>) -> PyResult<()> {
        let timeout = duration("timeout", timeout)?;
        let stop = || {
            let stop = || broker.inner().stop_until(timeout, &self.inner);
            broker.waits().stop_with(&self.inner, stop)
        };
        py.detach(stop).or_raise(py)
    }

    /// Waits until there is nothing to do.
    fn wait_idle(&self, py: Python<'_>, broker: &Broker) -> PyResult<bool> {
        py.detach(|| broker.inner().wait_idle_until(None, &self.inner)).or_raise(py)
    }
}
