//! A message of a batch: a body with options of its own.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::body::Body;
use crate::error::OrRaise;
use crate::said::Said;

/// A body with the options of `Broker.enqueue`, for `enqueue_many`. Immutable, but for the body.
///
/// What is out of range in an option is an InvalidError or a TypeError here; what is wrong with the body, and a
/// `run_at` that is too far away or that `expires_in` ends before, where it is enqueued.
#[pyclass(frozen, get_all, module = "libmq")]
#[derive(Debug)]
pub(crate) struct Message {
    /// The body, as it was given.
    body: Py<PyAny>,
    /// The option, None where it was not given.
    dedup_key: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    dedup: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    dedup_window: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    correlation_id: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    headers: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    content_type: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    delay: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    run_at: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    expires_in: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    priority: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    group: Option<Py<PyAny>>,
    /// The option, None where it was not given.
    durability: Option<Py<PyAny>>,
}

#[pymethods]
impl Message {
    #[new]
    #[pyo3(signature = (body, *, dedup_key=None, dedup=None, dedup_window=None, correlation_id=None, headers=None,
        content_type=None, delay=None, run_at=None, expires_in=None, priority=None, group=None, durability=None))]
    #[expect(clippy::too_many_arguments, reason = "the options of the contract")]
    fn new(
        py: Python<'_>,
        body: Py<PyAny>,
        dedup_key: Option<Py<PyAny>>,
        dedup: Option<Py<PyAny>>,
        dedup_window: Option<Py<PyAny>>,
        correlation_id: Option<Py<PyAny>>,
        headers: Option<Py<PyAny>>,
        content_type: Option<Py<PyAny>>,
        delay: Option<Py<PyAny>>,
        run_at: Option<Py<PyAny>>,
        expires_in: Option<Py<PyAny>>,
        priority: Option<Py<PyAny>>,
        group: Option<Py<PyAny>>,
        durability: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let message = Self {
            body,
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
        // What is wrong with an option is said here, where it was given; what is wrong with the body, when it is used.
        let nothing = PyBytes::new(py, b"").into_any();
        let body = Body::of(&nothing)?;
        message.said(py).message(py, "queue", &body)?.check_options().or_raise(py)?;
        Ok(message)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let kind = self.body.bind(py).get_type().name()?.to_string();
        Ok(format!("<libmq.Message with a {kind}>"))
    }
}

impl Message {
    pub(crate) fn body<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, PyAny> {
        self.body.bind(py)
    }

    pub(crate) fn said<'a, 'py>(&'a self, py: Python<'py>) -> Said<'a, 'py> {
        let bind = |value: &'a Option<Py<PyAny>>| value.as_ref().map(|value| value.bind(py));
        Said {
            dedup_key: bind(&self.dedup_key),
            dedup: bind(&self.dedup),
            dedup_window: bind(&self.dedup_window),
            correlation_id: bind(&self.correlation_id),
            headers: bind(&self.headers),
            content_type: bind(&self.content_type),
            delay: bind(&self.delay),
            run_at: bind(&self.run_at),
            expires_in: bind(&self.expires_in),
            priority: bind(&self.priority),
            group: bind(&self.group),
            durability: bind(&self.durability),
        }
    }
}
