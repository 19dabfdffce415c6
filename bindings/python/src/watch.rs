//! A watch: how a loop hears that a queue may have got a message.

use pyo3::prelude::*;

/// Rings a tray when its queue may have got a message, until it is garbage.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Watch {
    inner: Option<libmq::Watch>,
    forks: u32,
}

impl Watch {
    pub(crate) fn new(inner: libmq::Watch) -> Self {
        Self { inner: Some(inner), forks: libmq::storage::forks() }
    }
}

#[pymethods]
impl Watch {
    /// From now on it rings for what comes. Whoever listens looks afterwards.
    fn listen(&self) {
        if let Some(watch) = &self.inner {
            watch.listen();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if libmq::storage::forks() != self.forks {
            // The parent's, and so are the locks, which another of its threads may have held.
            std::mem::forget(self.inner.take());
        }
    }
}
