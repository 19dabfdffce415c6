//! A worker: what one thread of Python asks for messages, and tells how they ended.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use libmq::HandlerError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::context::Context;
use crate::ends;
use crate::entering::{CAUGHT, Nobody, caught};
use crate::error::OrRaise;
use crate::leaving::this_thread_handles;
use crate::outside::outside;

/// What one thread asks for messages, and tells how they ended.
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
        outside(py, || state.finish(Err(error)));
        Ok(())
    }
}

impl State {
    fn take(&mut self) -> libmq::Result<Option<Arc<libmq::Delivery>>> {
        let worker = &mut self.worker;
        let next = caught(&Nobody, || Ok(worker.take().map(Arc::new)))
            .inspect_err(|_| self.worker.poison(CAUGHT))?;
        self.held.clone_from(&next);
        Ok(next)
    }

    /// Ends what is held, if anything. That it came too late, or that the broker is no more, is told by the figures and
    /// by every other call.
    fn finish(&mut self, result: Result<(), HandlerError>) {
        let Some(held) = self.held.take() else { return };
        if libmq::storage::forks() == self.forks {
            let _ = caught(&*held, || self.worker.finish(&held, result));
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
        let next = outside(py, || {
            state.finish(Ok(()));
            state.take()
        });
        next.or_raise(py)?.map(|delivery| Context::new(py, delivery)).transpose()
    }

    /// The handler failed.
    fn fail(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, ends::failed(error)?)
    }

    /// The handler asked for a retry.
    #[pyo3(signature = (delay, error))]
    fn retry(
        &self,
        py: Python<'_>,
        delay: Option<&Bound<'_, PyAny>>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.finish(py, ends::retried(delay, Some(error))?)
    }

    /// The handler rejected the message, with what was the cause.
    fn reject(
        &self,
        py: Python<'_>,
        reason: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.finish(py, ends::rejected(reason, Some(error))?)
    }

    /// The handler gave the message back.
    fn release(&self, py: Python<'_>, delay: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, ends::released(Some(delay))?)
    }

    /// The body is not what it says it is.
    fn undecodable(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, ends::undecodable(error)?)
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
