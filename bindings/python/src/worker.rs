//! A worker: what one thread of Python asks for messages, and tells how they ended.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use libmq::HandlerError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::context::Context;
use crate::leaving::this_thread_handles;
use crate::values::{any_text, bounded};

/// Belongs to the thread that asks it.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Worker {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    worker: libmq::Worker,
    /// What its handler is running for.
    held: Option<Arc<libmq::Delivery>>,
    forks: u32,
}

impl Worker {
    pub(crate) fn new(worker: libmq::Worker) -> Self {
        Self { state: Mutex::new(State { worker, held: None, forks: libmq::storage::forks() }) }
    }

    /// Only its own thread asks it, so that nobody ever waits here.
    fn state(&self) -> PyResult<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("a worker belongs to one thread"))
            }
        }
    }

    fn finish(&self, py: Python<'_>, error: HandlerError) -> PyResult<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        py.detach(|| state.finish(Err(error)));
        Ok(())
    }
}

impl State {
    /// Ends what is held, if anything. That it came too late, or that the broker is no more, is told by the figures and
    /// by every other call.
    fn finish(&mut self, result: Result<(), HandlerError>) {
        let Some(held) = self.held.take() else { return };
        if libmq::storage::forks() == self.forks {
            let _ = self.worker.finish(&held, result);
        } else {
            std::mem::forget(held);
        }
    }
}

#[pymethods]
impl Worker {
    /// Acks the message that is held, if one is, and waits for the next; None when the thread is to end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Context>>> {
        this_thread_handles();
        let mut guard = self.state()?;
        let state = &mut *guard;
        let next = py.detach(|| {
            state.finish(Ok(()));
            let next = state.worker.take().map(Arc::new);
            state.held.clone_from(&next);
            next
        });
        next.map(|delivery| Context::new(py, delivery)).transpose()
    }

    /// The handler failed.
    fn fail(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, HandlerError::failed(any_text("error", error)?))
    }

    /// The handler asked for a retry.
    #[pyo3(signature = (delay, error))]
    fn retry(
        &self,
        py: Python<'_>,
        delay: Option<&Bound<'_, PyAny>>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let delay = delay.map(|delay| bounded("delay", delay)).transpose()?;
        self.finish(py, HandlerError::retry_because(delay, any_text("error", error)?))
    }

    /// The handler rejected the message.
    fn reject(&self, py: Python<'_>, reason: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, HandlerError::reject(any_text("reason", reason)?))
    }

    /// The handler gave the message back.
    fn release(&self, py: Python<'_>, delay: &Bound<'_, PyAny>) -> PyResult<()> {
        let delay: Duration = bounded("delay", delay)?;
        self.finish(py, HandlerError::release(delay))
    }

    /// The body is not what it says it is.
    fn undecodable(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, HandlerError::undecodable(any_text("error", error)?))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(held) = self.held.take()
            && libmq::storage::forks() != self.forks
        {
            std::mem::forget(held);
        }
    }
}
