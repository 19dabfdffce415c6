//! A message that was received, and is to be settled by whoever has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libmq::HandlerError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::broker::Broker;
use crate::calling::call;
use crate::ends;
use crate::entering::entered;
use crate::held::Held;

static SETTLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static ENTER_ASYNC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static EXIT_ASYNC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A message that was received, to be settled once, from any thread. It keeps its broker.
///
/// In a `with`, it is acked at the end, or settled as a handler that raised the same. One that is garbage before it is
/// settled is held until its lease runs out.
///
/// Each settle raises StaleLeaseError if it was settled before or its lease is lost, StorageFullError, or Error with
/// `NO_MEMORY` or `IO`, where the record has no room, ClosedError, and ForkedError: with these nothing has changed, and
/// what was held is held as before. PoisonedError: unknown; the next open tells.
#[pyclass(frozen, extends = Held, module = "libmq")]
#[derive(Debug)]
pub(crate) struct Delivery {
    delivery: Arc<libmq::Delivery>,
    /// It was settled by this object. Relaxed: what is settled, and how, is decided in the core.
    settled: AtomicBool,
    /// Python's own: what is held of a broker that is garbage can be settled no more.
    _broker: Py<Broker>,
    forks: u32,
}

impl Delivery {
    pub(crate) fn new(
        delivery: Arc<libmq::Delivery>,
        broker: Py<Broker>,
    ) -> PyClassInitializer<Self> {
        let held = PyClassInitializer::from(Held::new(Arc::clone(&delivery)));
        held.add_subclass(Self {
            delivery,
            settled: AtomicBool::new(false),
            _broker: broker,
            forks: libmq::storage::forks(),
        })
    }

    fn settle(&self, py: Python<'_>, result: Result<(), HandlerError>) -> PyResult<()> {
        entered(py, &*self.delivery, || self.delivery.settle(result))?;
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

    /// Failed: tried again after `delay`, or after the backoff. `error` is kept with a dead letter, up to 4 KiB.
    ///
    /// Also raises InvalidError above ten years, TypeError.
    #[pyo3(signature = (delay=None, error=None))]
    fn retry(
        &self,
        py: Python<'_>,
        delay: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.settle(py, Err(ends::retried(delay, error)?))
    }

    /// To the dead letters, for this reason, of which up to 4 KiB are kept.
    fn reject(&self, py: Python<'_>, reason: &Bound<'_, PyAny>) -> PyResult<()> {
        self.settle(py, Err(ends::rejected(reason, None)?))
    }

    /// Given back, and ready again after `delay`; not counted as an attempt.
    ///
    /// Also raises InvalidError above ten years, TypeError.
    #[pyo3(signature = (delay=None), text_signature = "($self, delay=0)")]
    fn release(&self, py: Python<'_>, delay: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.settle(py, Err(ends::released(delay)?))
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
        let settle = SETTLE.import(this.py(), "libmq._settling", "settle_delivery")?;
        call(settle, (this, raised)).map(drop)
    }

    fn __aenter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        call(ENTER_ASYNC.import(this.py(), "libmq._settling", "enter_delivery")?, (this,))
    }

    /// As `__exit__`: a settle waits for no sync.
    fn __aexit__<'py>(
        this: &Bound<'py, Self>,
        _class: &Bound<'py, PyAny>,
        raised: &Bound<'py, PyAny>,
        _traceback: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call(EXIT_ASYNC.import(this.py(), "libmq._settling", "exit_delivery")?, (this, raised))
    }

    /// To the dead letters, with what was the cause.
    fn _reject(
        &self,
        py: Python<'_>,
        reason: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.settle(py, Err(ends::rejected(reason, Some(error))?))
    }

    /// To the dead letters, because its body is not what it says it is.
    fn _undecodable(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.settle(py, Err(ends::undecodable(error)?))
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
