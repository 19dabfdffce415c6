//! How long a message waits before it is tried again.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::OrRaise;
use crate::values::{duration, number};

/// The wait before a retry, made by `exponential`, `fixed` or `steps`.
#[pyclass(frozen, eq, module = "libmq")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backoff {
    inner: libmq::Backoff,
    shown: String,
}

#[pymethods]
impl Backoff {
    /// `base * factor ** n` seconds for the n-th retry, at most `cap`.
    #[staticmethod]
    #[pyo3(signature = (base=None, factor=None, cap=None, jitter=None))]
    fn exponential(
        py: Python<'_>,
        base: Option<&Bound<'_, PyAny>>,
        factor: Option<&Bound<'_, PyAny>>,
        cap: Option<&Bound<'_, PyAny>>,
        jitter: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let seconds = |name: &str, value: Option<&Bound<'_, PyAny>>, default| {
            value.map_or(Ok(std::time::Duration::from_secs(default)), |value| duration(name, value))
        };
        let (base, cap) = (seconds("base", base, 1)?, seconds("cap", cap, 600)?);
        let factor = factor.map_or(Ok(2.0), |value| number("factor", value))?;
        let jitter = jitter.map_or(Ok(1.0), |value| number("jitter", value))?;
        let shown = format!(
            "exponential(base={}, factor={factor}, cap={}, jitter={jitter})",
            base.as_secs_f64(),
            cap.as_secs_f64()
        );
        Self::checked(py, libmq::Backoff::exponential(base, factor, cap, jitter), shown)
    }

    /// Always the same wait, without jitter.
    #[staticmethod]
    fn fixed(delay: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = delay.py();
        let delay = duration("delay", delay)?;
        let shown = format!("fixed({})", delay.as_secs_f64());
        Self::checked(py, libmq::Backoff::fixed(delay), shown)
    }

    /// One wait after another, and after the last, the last; without jitter.
    #[staticmethod]
    #[pyo3(signature = (*delays))]
    fn steps(delays: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let py = delays.py();
        let delays: Vec<_> =
            delays.iter().map(|delay| duration("delay", &delay)).collect::<PyResult<_>>()?;
        let shown: Vec<String> =
            delays.iter().map(|delay| delay.as_secs_f64().to_string()).collect();
        Self::checked(py, libmq::Backoff::steps(delays), format!("steps({})", shown.join(", ")))
    }

    fn __repr__(&self) -> String {
        format!("Backoff.{}", self.shown)
    }
}

impl Backoff {
    /// What is wrong with it is said here, where it was given.
    fn checked(py: Python<'_>, inner: libmq::Backoff, shown: String) -> PyResult<Self> {
        inner.check("Backoff").or_raise(py)?;
        Ok(Self { inner, shown })
    }

    pub(crate) fn inner(&self) -> libmq::Backoff {
        self.inner.clone()
    }
}
