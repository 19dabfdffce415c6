//! A message that was received, and is to be settled by whoever has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libmq::HandlerError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::calling::call;
use crate::error::OrRaise;
use crate::held::Held;
use crate::values::{any_text, duration};

static SETTLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A message that was received. Settled once; garbage before that, it is held until its lease runs out.
#[pyclass(frozen, extends = Held, module = "libmq")]
#[derive(Debug)]
pub(crate) struct Delivery {
    delivery: Arc<libmq::Delivery>,
    /// It was settled by this object. Relaxed: what is settled, and how, is decided in the core.
    settled: AtomicBool,
    forks: u32,
}

impl Delivery {
    pub(crate) fn new(delivery: Arc<libmq::Delivery>) -> PyClassInitializer<Self> {
        let held = PyClassInitializer::from(Held::new(Arc::clone(&delivery)));
        held.add_subclass(Self {
            delivery,
            settled: AtomicBool::new(false),
            forks: libmq::storage::forks(),
        })
    }

    fn settle(&self, py: Python<'_>, result: Result<(), HandlerError>) -> PyResult<()> {
        py.detach(|| self.delivery.settle(result)).or_raise(py)?;
        self.settled.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[pymethods]
impl Delivery {
    /// Done. What was enqueued with it is enqueued by the same record.
    fn ack(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, Ok(()))
    }

    /// Failed: tried again after `delay` seconds, or after the backoff. `error` is kept with a dead letter.
    #[pyo3(signature = (delay=None, error=None))]
    fn retry(
        &self,
        py: Python<'_>,
        delay: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let delay = delay.map(|delay| duration("delay", delay)).transpose()?;
        let error = error.map_or(Ok(String::new()), |error| any_text("error", error))?;
        self.settle(py, Err(HandlerError::retry_because(delay, error)))
    }

    /// To the dead letters, for this reason.
    fn reject(&self, py: Python<'_>, reason: &Bound<'_, PyAny>) -> PyResult<()> {
        let reason = any_text("reason", reason)?;
        self.settle(py, Err(HandlerError::reject(reason)))
    }

    /// Given back, and ready again after `delay` seconds; not counted as an attempt.
    #[pyo3(signature = (delay=None))]
    fn release(&self, py: Python<'_>, delay: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let delay = delay.map_or(Ok(Duration::ZERO), |delay| duration("delay", delay))?;
        self.settle(py, Err(HandlerError::release(delay)))
    }

    #[getter]
    fn _settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    /// Acks if nothing was raised, and otherwise settles as a handler that raised it.
    fn __exit__(
        this: &Bound<'_, Self>,
        _class: &Bound<'_, PyAny>,
        raised: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let settle = SETTLE.import(this.py(), "libmq.settling", "settle_delivery")?;
        call(settle, (this, raised)).map(drop)
    }

    /// To the dead letters, because its body is not what it says it is.
    fn _undecodable(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = any_text("error", error)?;
        self.settle(py, Err(HandlerError::undecodable(error)))
    }

    fn __repr__(&self) -> String {
        let (delivery, attempt) = (&self.delivery, self.delivery.attempt());
        format!("<libmq.Delivery of {} in {}, attempt {attempt}>", delivery.id(), delivery.queue())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if libmq::storage::forks() == self.forks {
            self.delivery.let_lapse();
        } else {
            // The parent's, and so are the locks, which another of its threads may have held.
            std::mem::forget(Arc::clone(&self.delivery));
        }
    }
}
