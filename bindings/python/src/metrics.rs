//! Figures and reports, as dicts of which the package makes its own classes.

use libmq::{Metrics, QueueMetrics, Recovery, VerifyReport};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Puts fields into a dict under their own names.
macro_rules! dict_of {
    ($py:expr, $from:expr; $($name:ident),* $(,)?) => {{
        let dict = PyDict::new($py);
        $(dict.set_item(stringify!($name), $from.$name)?;)*
        dict
    }};
}

fn queue<'py>(py: Python<'py>, figures: &QueueMetrics) -> PyResult<Bound<'py, PyDict>> {
    let dict = dict_of!(py, figures;
        ready, in_flight, delayed, dead, parallelism, enqueued, delivered, acked, retried, released, rejected,
        dead_lettered, replaced, duplicates, expired, cancelled, stale_settles, handler_errors, timeouts, crashes, stuck);
    dict.set_item("oldest_ready_age", figures.oldest_ready_age.map(|age| age.as_secs_f64()))?;
    Ok(dict)
}

/// The figures of a broker: its own, each queue's, and the marks of its log.
pub(crate) fn metrics<'py>(py: Python<'py>, figures: &Metrics) -> PyResult<Bound<'py, PyDict>> {
    let dict = queue(py, &figures.broker)?;
    let own = dict_of!(py, figures; journal_bytes, segments, snapshots, syncs, memory_bytes);
    dict.update(own.as_mapping())?;
    dict.set_item("lsn", dict_of!(py, figures.lsn; reserved, written, durable, shown))?;
    let queues = PyDict::new(py);
    for (name, figures) in &figures.queues {
        queues.set_item(name, queue(py, figures)?)?;
    }
    dict.set_item("queues", queues)?;
    Ok(dict)
}

/// What opening found.
pub(crate) fn recovery<'py>(py: Python<'py>, found: &Recovery) -> PyResult<Bound<'py, PyDict>> {
    let dict =
        dict_of!(py, found; messages, dead_letters, suspects, records, dropped_bytes, snapshot);
    dict.set_item("duration", found.duration.as_secs_f64())?;
    Ok(dict)
}

/// What verifying a directory found.
pub(crate) fn report<'py>(py: Python<'py>, report: &VerifyReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = dict_of!(py, report;
        messages, dead_letters, suspects, records, dropped_bytes, segments, bytes, snapshot, closed);
    let problems = report.problems.iter().map(|problem| {
        let dict = PyDict::new(py);
        dict.set_item("kind", problem.kind.name())?;
        dict.set_item("path", problem.path.as_os_str())?;
        dict.set_item("offset", problem.offset)?;
        dict.set_item("text", &problem.text)?;
        Ok(dict)
    });
    dict.set_item("problems", problems.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}
