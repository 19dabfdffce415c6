//! The items of a batch: bodies, and messages with options of their own.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::body::Body;
use crate::calling::{call, is_instance};
use crate::error::wrong_type;
use crate::message::Message;
use crate::said::Said;

static SET_ATTRIBUTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static SLICE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static ITERABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What was given for items.
#[derive(Debug)]
pub(crate) struct Items<'py>(Vec<Bound<'py, PyAny>>);

/// The items, each with its body, and the message that it is, if it is one.
#[derive(Debug)]
pub(crate) struct Parts<'a, 'py>(Vec<(Body<'a, 'py>, Option<&'a Message>)>);

impl<'py> Items<'py> {
    pub(crate) fn of(items: &Bound<'py, PyAny>) -> PyResult<Self> {
        // Each would be taken apart into what nobody meant.
        if items.is_instance_of::<PyString>()
            || items.is_instance_of::<PyBytes>()
            || items.is_instance_of::<PyByteArray>()
            || items.is_instance_of::<PyDict>()
        {
            return Err(wrong_type("items", "a list of bodies and messages", items));
        }
        let py = items.py();
        let list_of = |items: &Bound<'py, PyAny>| -> PyResult<Self> {
            let list = call(&py.get_type::<PyList>(), (items,))?.cast_into::<PyList>()?;
            Ok(Self(list.iter().collect()))
        };
        if items.is_instance_of::<PyList>() || items.is_instance_of::<PyTuple>() {
            return list_of(items);
        }
        if !is_instance(items, ITERABLE.import(py, "collections.abc", "Iterable")?)?
            && !items.hasattr("__getitem__")?
        {
            return Err(wrong_type("items", "a list of bodies and messages", items));
        }
        // Of what may have no end, no more than shows that it is too much.
        let most = libmq::limits::BATCH_MESSAGES_MAX + 1;
        list_of(&call(SLICE.import(py, "itertools", "islice")?, (items, most))?)
    }

    pub(crate) fn parts(&self, py: Python<'py>) -> PyResult<Parts<'_, 'py>> {
        let mut parts = Vec::with_capacity(self.0.len());
        for (index, item) in self.0.iter().enumerate() {
            let message = item.cast::<Message>().ok().map(Bound::get);
            let body = message.map_or(item, |message| message.body(py));
            parts.push((Body::of(body).map_err(|error| of_item(py, index, error))?, message));
        }
        Ok(Parts(parts))
    }
}

impl<'a, 'py> Parts<'a, 'py> {
    /// The messages for the core.
    pub(crate) fn messages(
        &'a self,
        py: Python<'py>,
        queue: &'a str,
    ) -> PyResult<Vec<libmq::Message<'a>>> {
        let mut messages = Vec::with_capacity(self.0.len());
        for (index, (body, message)) in self.0.iter().enumerate() {
            let said = message.map_or_else(Said::default, |message| message.said(py));
            let message = said.message(py, queue, body);
            messages.push(message.map_err(|error| of_item(py, index, error))?);
        }
        Ok(messages)
    }
}

/// Has the error of an item say which one it was.
fn of_item(py: Python<'_>, index: usize, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyValueError>(py) {
        // One that cannot take it is told as it is.
        let _ = say_which(index, error.value(py).as_any());
    }
    error
}

fn say_which(index: usize, error: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = error.py();
    let said: String = call(&py.get_type::<PyString>(), (error,))?.extract()?;
    let set = SET_ATTRIBUTE.import(py, "builtins", "setattr")?;
    call(set, (error, "args", (format!("items[{index}]: {said}"),))).map(drop)
}
