//! How long a message waits before it is tried again.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::OrRaise;
use crate::values::{duration, number};

/// How long a message waits before it is tried again, made by `exponential`, `fixed` or `steps`. Immutable.
#[pyclass(frozen, eq, module = "libmq")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backoff {
    inner: libmq::Backoff,
    shown: String,
}

#[pymethods]
impl Backoff {
    /// `base * factor ** n` for the n-th retry, at most `cap`.
    ///
    /// `factor` goes from 1 to 1,000. `jitter` j makes a wait of d uniform from `(1 - j) * d` to d, and goes from 0 to
    /// 1.
    ///
    /// Raises InvalidError out of range, TypeError.
    #[staticmethod]
    #[pyo3(
        signature = (base=None, factor=None, cap=None, jitter=None),
        text_signature = "(base=1, factor=2, cap=600, jitter=1)"
    )]
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
        let factor = factor.map_or(Ok(2.0), |value| number("factor", value, 1.0..=1000.0))?;
        let jitter = jitter.map_or(Ok(1.0), |value| number("jitter", value, 0.0..=1.0))?;
        let shown = format!(
            "exponential(base={}, factor={factor}, cap={}, jitter={jitter})",
            base.as_secs_f64(),
            cap.as_secs_f64()
        );
        Self::checked(py, libmq::Backoff::exponential(base, factor, cap, jitter), shown)
    }

    /// Always the same wait, without jitter. Raises InvalidError above ten years, TypeError.
    #[staticmethod]
    fn fixed(delay: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = delay.py();
        let delay = duration("delay", delay)?;
        let shown = format!("fixed({})", delay.as_secs_f64());
        Self::checked(py, libmq::Backoff::fixed(delay), shown)
    }

    /// One wait after another, and after the last, the last; without jitter. 1 to 1,000 of them.
    ///
    /// Raises InvalidError out of range, TypeError.
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
