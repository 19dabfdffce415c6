//! What was said about a message when it was enqueued: its options, as Python gave them.

use libmq::{Dedup, Durability, Message};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use crate::body::{Body, JSON, Plain};
use crate::calling::{call, call_method, is_instance};
use crate::error::wrong_type;
use crate::values::{duration, moment, text, whole, word};

const DEDUPS: &[(&str, Dedup)] = &[("replace", Dedup::Replace), ("keep", Dedup::Keep)];

/// A message has no durability of its own that keeps nothing.
const DURABILITIES: &[(&str, Durability)] = &[("sync", Durability::Sync), ("os", Durability::Os)];

static MAPPING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

type Value<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// The options of a message, none where the default is meant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said<'a, 'py> {
    pub(crate) dedup_key: Value<'a, 'py>,
    pub(crate) dedup: Value<'a, 'py>,
    pub(crate) dedup_window: Value<'a, 'py>,
    pub(crate) correlation_id: Value<'a, 'py>,
    pub(crate) headers: Value<'a, 'py>,
    pub(crate) content_type: Value<'a, 'py>,
    pub(crate) delay: Value<'a, 'py>,
    pub(crate) run_at: Value<'a, 'py>,
    pub(crate) expires_in: Value<'a, 'py>,
    pub(crate) priority: Value<'a, 'py>,
    pub(crate) group: Value<'a, 'py>,
    pub(crate) durability: Value<'a, 'py>,
}

impl<'a> Said<'a, '_> {
    /// The message for the core. Its texts and its body are borrowed from Python's, its headers are copied.
    pub(crate) fn message(
        &self,
        py: Python<'_>,
        queue: &'a str,
        body: &'a Body<'_, '_>,
    ) -> PyResult<Message<'a>> {
        let mut message = Message::new(queue, Plain(body.bytes(py)?));
        if let Some(value) = self.content_type {
            message = message.content_type(text("content_type", value)?);
        } else if body.is_json() {
            message = message.content_type(JSON);
        }
        if let Some(value) = self.dedup_key {
            message = message.dedup_key(text("dedup_key", value)?);
        }
        if let Some(value) = self.dedup {
            message = message.dedup(word("dedup", value, DEDUPS)?);
        }
        if let Some(value) = self.dedup_window {
            message = message.dedup_window(duration("dedup_window", value)?);
        }
        if let Some(value) = self.correlation_id {
            message = message.correlation_id(text("correlation_id", value)?);
        }
        if let Some(value) = self.headers {
            message = with_headers(message, value)?;
        }
        if let Some(value) = self.delay {
            message = message.delay(duration("delay", value)?);
        }
        if let Some(value) = self.run_at {
            message = message.run_at(moment("run_at", value)?);
        }
        if let Some(value) = self.expires_in {
            message = message.expires_in(duration("expires_in", value)?);
        }
        if let Some(value) = self.priority {
            message = message.priority(whole("priority", value, 0..=9)?);
        }
        if let Some(value) = self.group {
            message = message.group(text("group", value)?);
        }
        if let Some(value) = self.durability {
            message = message.durability(word("durability", value, DURABILITIES)?);
        }
        Ok(message)
    }
}

fn with_headers<'a>(mut message: Message<'a>, value: &Bound<'_, PyAny>) -> PyResult<Message<'a>> {
    let mapping = || wrong_type("headers", "a mapping of str to str", value);
    if let Ok(headers) = value.cast::<PyDict>() {
        for (name, value) in headers {
            message = with_header(message, &name, &value)?;
        }
        return Ok(message);
    }
    if !is_instance(value, MAPPING.import(value.py(), "collections.abc", "Mapping")?)? {
        return Err(mapping());
    }
    let items = call_method(value, "items")?;
    let items: Vec<Bound<'_, PyAny>> =
        call(&value.py().get_type::<PyList>(), (items,))?.extract()?;
    for item in &items {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) =
            item.extract().map_err(|_| mapping())?;
        message = with_header(message, &name, &value)?;
    }
    Ok(message)
}

fn with_header<'a>(
    message: Message<'a>,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<Message<'a>> {
    let (name, value) = (text("a header's name", name)?, text("a header's value", value)?);
    Ok(message.header(name.to_owned(), value.to_owned()))
}
