//! Interrupts: how a wait is ended by somebody else than a signal whose handler raises: by one whose handler returns, or by
//! an event loop.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::broker::Broker;
use crate::entering::entered;

/// For one call that waits. An urgent one ends a stop's time for its handlers and their grace together.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    inner: Arc<libmq::Interrupt>,
    urgent: bool,
}

#[pymethods]
impl Interrupt {
    /// An urgent one ends a stop's time for its handlers and their grace together.
    #[new]
    #[pyo3(signature = (urgent=false))]
    fn new(urgent: bool) -> Self {
        Self { inner: Arc::default(), urgent }
    }

    /// Ends the call, also one that has not begun: a wait at once, a stop's time for its handlers; the second time,
    /// their grace.
    fn set(&self, py: Python<'_>, broker: &Broker) -> PyResult<()> {
        entered(py, broker.inner(), || {
            self.hurry(broker.inner());
            Ok(())
        })
    }
}

impl Interrupt {
    pub(crate) fn inner(&self) -> &Arc<libmq::Interrupt> {
        &self.inner
    }

    pub(crate) fn hurry(&self, broker: &libmq::Broker) {
        broker.interrupt(&self.inner);
        if self.urgent {
            broker.interrupt(&self.inner);
        }
    }
}
