//! Values of Python as the core takes them, each refused by the name of its option.
//!
//! A value of a wrong type is a TypeError, one out of its range an InvalidError. Nothing is rounded, and no bool passes
//! for a number.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libmq::limits;
use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDateTime, PyDelta, PyFloat, PyInt, PyString};

use crate::calling::call;
use crate::error::{invalid, wrong_type};

/// A text. Borrowed: a str of Python never changes.
pub(crate) fn text<'a>(name: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    let text = value.cast::<PyString>().map_err(|_| wrong_type(name, "a str", value))?;
    text.to_str().map_err(|_| {
        invalid(value.py(), format!("{name} has a lone surrogate, which is not UTF-8"))
    })
}

/// A path: a str, or what has one. Bytes that are not UTF-8 stand in it as Python writes them, as surrogates.
pub(crate) fn path(value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let py = value.py();
    value.extract::<PathBuf>().map_err(|error| {
        if error.is_instance_of::<PyUnicodeEncodeError>(py) {
            return invalid(
                py,
                "path has a lone surrogate that stands for no byte of a file's name",
            );
        }
        error
    })
}

/// A text that may be anything, for errors and reasons: what is not UTF-8 in it is replaced.
pub(crate) fn any_text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = value.cast::<PyString>().map_err(|_| wrong_type(name, "a str", value))?;
    Ok(text.to_string_lossy().into_owned())
}

/// A whole number that is not negative.
pub(crate) fn whole<N: TryFrom<u64>>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<N> {
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(wrong_type(name, "an int", value));
    }
    let number = value.extract::<u64>().ok().and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| {
        let is_negative = value.lt(0).unwrap_or_default();
        let why = if is_negative { "but cannot be negative" } else { "which is out of range" };
        invalid(value.py(), format!("{name} is {}, {why}", shown(value)))
    })
}

/// A bool, and nothing that is merely true or false in an if.
pub(crate) fn truth(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value
        .cast::<PyBool>()
        .map(|value| value.is_true())
        .map_err(|_| wrong_type(name, "a bool", value))
}

/// A number with a fraction.
pub(crate) fn number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    let is_number = value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>();
    if value.is_instance_of::<PyBool>() || !is_number {
        return Err(wrong_type(name, "an int or a float", value));
    }
    value.extract().map_err(|_| {
        invalid(value.py(), format!("{name} is {}, which is out of range", shown(value)))
    })
}

/// A duration: seconds, or a timedelta.
pub(crate) fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = if value.is_instance_of::<PyDelta>() {
        value.call_method0("total_seconds")?.extract()?
    } else if value.is_instance_of::<PyBool>()
        || !(value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>())
    {
        return Err(wrong_type(name, "seconds or a timedelta", value));
    } else {
        number(name, value)?
    };
    if seconds.is_nan() || seconds < 0.0 {
        return Err(invalid(
            value.py(),
            format!("{name} is {seconds}, but takes zero or more seconds"),
        ));
    }
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| invalid(value.py(), format!("{name} is {seconds}, which is above ten years")))
}

/// A moment: a datetime that knows its time zone. What is before 1970 is long past.
pub(crate) fn moment(name: &str, value: &Bound<'_, PyAny>) -> PyResult<SystemTime> {
    if !value.is_instance_of::<PyDateTime>() {
        return Err(wrong_type(name, "a datetime", value));
    }
    if call(&value.getattr("utcoffset")?, ())?.is_none() {
        return Err(invalid(value.py(), format!("{name} is a datetime without a time zone")));
    }
    let seconds: f64 = call(&value.getattr("timestamp")?, ())?.extract()?;
    let since = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    Ok(UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH))
}

/// One of a few words.
pub(crate) fn word<T: Copy>(
    name: &str,
    value: &Bound<'_, PyAny>,
    words: &[(&str, T)],
) -> PyResult<T> {
    let said = text(name, value)?;
    let found = words.iter().find(|(word, _)| *word == said).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        invalid(value.py(), format!("{name} takes {}", known.join(" or ")))
    })
}

/// Whether a value is a duration that libmq takes: seconds or a timedelta, from zero to ten years. Answers its seconds.
#[pyfunction]
pub(crate) fn check_duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(bounded(name, value)?.as_secs_f64())
}

/// A duration of at most ten years, where the core is not asked.
pub(crate) fn bounded(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let duration = duration(name, value)?;
    if duration > limits::DURATION_MAX {
        return Err(invalid(value.py(), format!("{name} is above ten years")));
    }
    Ok(duration)
}

/// A number as it was written, unless it is a long one.
fn shown(value: &Bound<'_, PyAny>) -> String {
    let text = value.repr().map(|text| text.to_string()).unwrap_or_default();
    if (1..=32).contains(&text.len()) { text } else { "a number of many digits".into() }
}
