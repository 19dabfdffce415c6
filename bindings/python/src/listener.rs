//! A listener: how what the core has to tell comes to Python's logging. The core's thread leaves it in a list, and a thread
//! of Python takes it from there. What a slow handler of logging has no room for is counted, as in the core.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use libmq::{Event, Field, limits};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::outside::outside;

/// What the core has told and nobody has heard yet.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pile: Mutex<Pile>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Pile {
    events: VecDeque<Event>,
    /// Events that there was no room for since that was said last.
    missed: u64,
    closed: bool,
}

/// What there is to hear next.
enum Next {
    Event(Event),
    Missed(u64),
    Nothing,
}

impl Told {
    /// One more. Waits for nobody.
    pub(crate) fn put(&self, event: &Event) {
        let mut pile = self.pile();
        if pile.events.len() < limits::EVENTS_MAX {
            pile.events.push_back(event.clone());
        } else {
            pile.missed += 1;
        }
        self.more.notify_one();
    }

    /// There will be no more.
    pub(crate) fn close(&self) {
        self.pile().closed = true;
        self.more.notify_one();
    }

    fn next(&self) -> Next {
        let mut pile = self.pile();
        loop {
            if let Some(event) = pile.events.pop_front() {
                return Next::Event(event);
            }
            if pile.missed > 0 {
                return Next::Missed(std::mem::take(&mut pile.missed));
            }
            if pile.closed {
                return Next::Nothing;
            }
            pile = self.more.wait(pile).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the channel that waits for what the core tells, for one thread.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Listener {
    told: Arc<Told>,
}

impl Listener {
    pub(crate) fn new(told: Arc<Told>) -> Self {
        Self { told }
    }
}

#[pymethods]
impl Listener {
    /// The level, the name and the fields of the next event; None when there will be no more.
    fn next<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<(&'static str, &'static str, Bound<'py, PyDict>)>> {
        let fields = PyDict::new(py);
        match outside(py, || self.told.next()) {
            Next::Event(event) => {
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
            Next::Missed(count) => {
                fields.set_item("count", count)?;
                Ok(Some(("warn", "events_missed", fields)))
            }
            Next::Nothing => Ok(None),
        }
    }
}
