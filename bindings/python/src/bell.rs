//! A bell: what a thread waits for that another one rings, or a signal.
//!
//! Python's own locks miss a signal that comes at the moment before they sleep, and only the next one wakes them. So who
//! waits for nothing but signals waits here.

use std::sync::{Condvar, Mutex, PoisonError};

use pyo3::prelude::*;

use crate::waiting::attended;

/// Rung once, and for all who wait.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    wakes: Condvar,
}

#[pymethods]
impl Bell {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ends all waits, and those to come.
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wakes.notify_all();
    }

    /// Waits until it is rung, or a signal's handler raises.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let until_rung = || {
            let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.wakes.wait_while(rung, |rung| !*rung));
        };
        attended(py, until_rung, || self.ring())
    }
}
