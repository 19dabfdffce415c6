//! A listener: how what the core has to tell comes to Python's logging. The core leaves it in a channel, and a thread of
//! Python waits at its other end.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use libmq::{Event, Field};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What the listener is told: an event, or nothing when there will be no more.
pub(crate) type Told = Option<Event>;

/// The end of the channel that waits. For one thread of Python.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Listener {
    told: Mutex<Receiver<Told>>,
}

impl Listener {
    pub(crate) fn new() -> (Sender<Told>, Self) {
        let (sender, told) = channel();
        (sender, Self { told: Mutex::new(told) })
    }
}

#[pymethods]
impl Listener {
    /// Waits for the next event; answers its level, its name and its fields, or None when there will be no more.
    fn next<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<(&'static str, &'static str, Bound<'py, PyDict>)>> {
        let told = py.detach(|| {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.recv()
        });
        let Ok(Some(event)) = told else { return Ok(None) };
        let fields = PyDict::new(py);
        for (name, field) in &event.fields {
            match field {
                Field::Number(number) => fields.set_item(name, number)?,
                Field::Text(text) => fields.set_item(name, text)?,
                // What a later core has is not known here.
                _ => {}
            }
        }
        Ok(Some((event.level.name(), event.name, fields)))
    }
}
