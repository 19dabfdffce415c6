//! How long a message waits before it is tried again.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::invalid;
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
        Ok(Self { inner: libmq::Backoff::exponential(base, factor, cap, jitter), shown })
    }

    /// Always the same wait, without jitter.
    #[staticmethod]
    fn fixed(delay: &Bound<'_, PyAny>) -> PyResult<Self> {
        let delay = duration("delay", delay)?;
        let shown = format!("fixed({})", delay.as_secs_f64());
        Ok(Self { inner: libmq::Backoff::fixed(delay), shown })
    }

    /// One wait after another, and after the last, the last; without jitter.
    #[staticmethod]
    #[pyo3(signature = (*delays))]
    fn steps(delays: &Bound<'_, PyTuple>) -> PyResult<Self> {
        if delays.is_empty() {
            return Err(invalid(delays.py(), "steps takes at least one delay"));
        }
        let delays: Vec<_> =
            delays.iter().map(|delay| duration("delay", &delay)).collect::<PyResult<_>>()?;
        let shown: Vec<String> =
            delays.iter().map(|delay| delay.as_secs_f64().to_string()).collect();
        Ok(Self {
            inner: libmq::Backoff::steps(delays),
            shown: format!("steps({})", shown.join(", ")),
        })
    }

    fn __repr__(&self) -> String {
        format!("Backoff.{}", self.shown)
    }
}

impl Backoff {
    pub(crate) fn inner(&self) -> libmq::Backoff {
        self.inner.clone()
    }
}
