//! An inbox: what an event loop asks for messages, which runs the handler for each in a task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libmq::{Delivery, HandlerError, Left, Progress};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::context::Context;
use crate::ends;
use crate::entering::{away, caught, dropped, entered};
use crate::outside::outside;

/// The messages of one handler that runs on a loop.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Inbox {
    inner: Mutex<Option<Arc<libmq::Inbox>>>,
    forks: u32,
}

impl Inbox {
    pub(crate) fn new(inner: libmq::Inbox) -> Self {
        // Each is put off until its own task has its turn: no place is ever come to by itself.
        inner.put_gate(|| Progress { entered: 0, passed: 0 });
        Self { inner: Mutex::new(Some(Arc::new(inner))), forks: libmq::storage::forks() }
    }

    fn inner(&self) -> MutexGuard<'_, Option<Arc<libmq::Inbox>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Inbox {
    /// Messages, as many as may run at once; and the seconds to ask again in, while the disk has no room.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, Option<f64>)> {
        let Some(inbox) = self.inner().clone() else { return Ok((PyList::empty(py), None)) };
        let mut taken = Vec::new();
        let left = entered(py, &*inbox, || {
            let left = inbox.take(usize::MAX, &mut taken);
            taken.iter().for_each(Delivery::put_off);
            Ok(left)
        })?;
        // Each gives its message back if the list cannot be made.
        let attempts: Vec<_> =
            taken.into_iter().map(|it| Attempt::new(&inbox, it, self.forks)).collect();
        let pause = match left {
            Left::NoRoom(time) => Some(time.as_secs_f64()),
            Left::Perhaps | Left::Nothing => None,
        };
        Ok((PyList::new(py, attempts)?, pause))
    }

    /// Whether an attempt was cancelled since this was asked last. To be asked when there is nothing to take.
    fn hear_cancelled(&self) -> bool {
        self.inner().as_ref().is_some_and(|inbox| inbox.hear_cancelled())
    }

    /// Takes nothing more; the handler is no more when what runs has ended.
    fn withdraw(&self) {
        let inbox = self.inner().take();
        dropped(inbox);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let inner = self.inner().take();
        if libmq::storage::forks() == self.forks {
            dropped(inner);
        } else {
            // The parent's, and so are the locks, which another of its threads may have held.
            std::mem::forget(inner);
        }
    }
}

/// A handler that runs for a message. Ended once; garbage before that, the message is given back.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Attempt {
    held: Mutex<Option<(Arc<libmq::Inbox>, Arc<Delivery>)>>,
    forks: u32,
}

impl Attempt {
    fn new(inbox: &Arc<libmq::Inbox>, delivery: Delivery, forks: u32) -> Self {
        Self { held: Mutex::new(Some((Arc::clone(inbox), Arc::new(delivery)))), forks }
    }

    fn held(&self) -> MutexGuard<'_, Option<(Arc<libmq::Inbox>, Arc<Delivery>)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, py: Python<'_>, end: impl FnOnce(&libmq::Inbox, &Delivery) + Send) {
        let Some((inbox, delivery)) = self.held().take() else { return };
        if libmq::storage::forks() != self.forks {
            return std::mem::forget((inbox, delivery));
        }
        outside(py, || end(&inbox, &delivery));
    }

    fn finish(&self, py: Python<'_>, result: Result<(), HandlerError>) {
        self.end(py, |inbox, delivery| finish(inbox, delivery, result));
    }
}

#[pymethods]
impl Attempt {
    /// The message as its handler sees it; RuntimeError if the attempt has ended.
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Context>> {
        let delivery = self.held().as_ref().map(|(_, delivery)| Arc::clone(delivery));
        Context::new(py, delivery.ok_or_else(|| PyRuntimeError::new_err("it has ended"))?)
    }

    /// The handler is entered, and its time begins; false if the message was given back meanwhile, and then the attempt
    /// has ended.
    fn enter(&self, py: Python<'_>) -> bool {
        let is_held = libmq::storage::forks() == self.forks
            && self.held().as_ref().is_some_and(|(_, delivery)| enter(delivery));
        if !is_held {
            self.end(py, abandon);
        }
        is_held
    }

    /// The handler returned.
    fn ack(&self, py: Python<'_>) {
        self.finish(py, Ok(()));
    }

    /// The handler failed.
    fn fail(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Err(ends::failed(error)?));
        Ok(())
    }

    /// The handler asked for a retry.
    #[pyo3(signature = (delay, error))]
    fn retry(
        &self,
        py: Python<'_>,
        delay: Option<&Bound<'_, PyAny>>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.finish(py, Err(ends::retried(delay, Some(error))?));
        Ok(())
    }

    /// The handler rejected the message, with what was the cause.
    fn reject(
        &self,
        py: Python<'_>,
        reason: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.finish(py, Err(ends::rejected(reason, Some(error))?));
        Ok(())
    }

    /// The handler gave the message back.
    fn release(&self, py: Python<'_>, delay: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Err(ends::released(Some(delay))?));
        Ok(())
    }

    /// The body is not what it says it is.
    fn undecodable(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Err(ends::undecodable(error)?));
        Ok(())
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some((inbox, delivery)) = held else { return };
        if libmq::storage::forks() == self.forks {
            away(|| finish(&inbox, &delivery, Err(HandlerError::release(Duration::ZERO))));
        } else {
            std::mem::forget((inbox, delivery));
        }
    }
}

fn enter(delivery: &Delivery) -> bool {
    caught(delivery, || Ok(delivery.enter())).unwrap_or(false)
}

/// Forgets what was given back before its handler was entered.
fn abandon(inbox: &libmq::Inbox, delivery: &Delivery) {
    let _ = caught(delivery, || {
        inbox.abandon(delivery);
        Ok(())
    });
}

/// Ends an attempt. That it came too late, or that the broker is no more, is told by the figures and by every other call.
fn finish(inbox: &libmq::Inbox, delivery: &Delivery, result: Result<(), HandlerError>) {
    let _ = caught(delivery, || inbox.finish(delivery, result));
}
