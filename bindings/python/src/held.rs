//! What a handler and a receiver have in common: a message that they hold.
//!
//! Its fields are made when they are asked for. It stays readable when it is settled.

use std::sync::Arc;
use std::time::SystemTime;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

use crate::body::{Body, decode};
use crate::entering::entered;
use crate::said::Said;
use crate::values::{duration, text};

/// A message that is held: by a handler, or by who received it. Readable from any thread, also when settled.
#[pyclass(frozen, subclass, module = "libmq")]
pub(crate) struct Held {
    delivery: Arc<libmq::Delivery>,
    body: PyOnceLock<Py<PyAny>>,
}

impl Held {
    pub(crate) fn new(delivery: Arc<libmq::Delivery>) -> Self {
        Self { delivery, body: PyOnceLock::new() }
    }
}

#[pymethods]
impl Held {
    /// The message's id, the same in every attempt.
    #[getter]
    fn id(&self) -> u64 {
        self.delivery.id()
    }

    /// The queue it came from.
    #[getter]
    fn queue(&self) -> &str {
        self.delivery.queue()
    }

    /// The body: what JSON says, or bytes. Decoded once. Raises DecodeError.
    #[getter]
    fn body(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let body = self.body.get_or_try_init(py, || {
            decode(py, self.delivery.body(), self.delivery.content_type()).map(Bound::unbind)
        })?;
        Ok(body.clone_ref(py))
    }

    /// The body's bytes, as they were enqueued.
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.delivery.body())
    }

    /// What the body is.
    #[getter]
    fn content_type(&self) -> &str {
        self.delivery.content_type()
    }

    /// The headers; of a name that was given twice the first.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        headers(py, self.delivery.headers())
    }

    /// The id that follows the work from message to message.
    #[getter]
    fn correlation_id(&self) -> Option<&str> {
        self.delivery.correlation_id()
    }

    /// The number of this attempt, from 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.delivery.attempt()
    }

    /// How many retries there are after the first attempt.
    #[getter]
    fn max_retries(&self) -> u32 {
        self.delivery.max_retries()
    }

    /// A number that is larger for every later lease, for fencing effects outside.
    #[getter]
    fn token(&self) -> u64 {
        self.delivery.token()
    }

    /// When it was enqueued, or replaced; in UTC.
    #[getter]
    fn enqueued_at(&self) -> SystemTime {
        self.delivery.enqueued_at()
    }

    /// Until when it is held; in UTC.
    #[getter]
    fn deadline(&self) -> SystemTime {
        self.delivery.deadline()
    }

    /// Moves the deadline to this much from now, if that is later; at most 24 hours. From any thread.
    ///
    /// Raises StaleLeaseError once the lease is lost, or a stop has cancelled the attempt; InvalidError, ClosedError,
    /// ForkedError, TypeError; Error with `UNSUPPORTED` where the handler's option `lease_extension_enabled` is False.
    fn extend(&self, py: Python<'_>, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let time = duration("seconds", seconds)?;
        entered(py, &*self.delivery, || self.delivery.extend(time))
    }

    /// Enqueues a message together with this one's ack, or not at all. Options as of `Broker.enqueue`.
    ///
    /// The correlation id and the header `traceparent` are inherited unless given. Everything is checked at once, and
    /// room is taken; there is no waiting for it here.
    ///
    /// Raises FullError, TooLargeError, InvalidError, StaleLeaseError once it is settled or its lease is lost,
    /// ClosedError, ForkedError, TypeError. All of these: not enqueued.
    #[pyo3(signature = (queue, body, *, dedup_key=None, dedup=None, dedup_window=None, correlation_id=None, headers=None,
        content_type=None, delay=None, run_at=None, expires_in=None, priority=None, group=None, durability=None))]
    #[expect(clippy::too_many_arguments, reason = "the options of the contract")]
    fn enqueue<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        body: &Bound<'py, PyAny>,
        dedup_key: Option<&Bound<'py, PyAny>>,
        dedup: Option<&Bound<'py, PyAny>>,
        dedup_window: Option<&Bound<'py, PyAny>>,
        correlation_id: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        content_type: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        run_at: Option<&Bound<'py, PyAny>>,
        expires_in: Option<&Bound<'py, PyAny>>,
        priority: Option<&Bound<'py, PyAny>>,
        group: Option<&Bound<'py, PyAny>>,
        durability: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let said = Said {
            dedup_key,
            dedup,
            dedup_window,
            correlation_id,
            headers,
            content_type,
            delay,
            run_at,
            expires_in,
            priority,
            group,
            durability,
        };
        let body = Body::of(body)?;
        let message = said.message(py, text("queue", queue)?, &body)?;
        entered(py, &*self.delivery, || self.delivery.enqueue(message))
    }
}

/// Headers as Python has them.
pub(crate) fn headers<'py, 'a>(
    py: Python<'py>,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for (name, value) in headers {
        if !all.contains(name)? {
            all.set_item(name, value)?;
        }
    }
    Ok(all)
}
