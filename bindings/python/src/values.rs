//! Values of Python as the core takes them, each refused by the name of its option.
//!
//! A value of a wrong type is a TypeError, one out of its range an InvalidError that says the range. Nothing is rounded,
//! and no bool passes for a number. What a class says of its own values is asked through `calling`, if at all.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libmq::limits;
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyOverflowError, PyUnicodeEncodeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDateTime, PyDelta, PyFloat, PyInt, PyString};

use crate::calling::{call, call_method};
use crate::error::{invalid, wrong_type};

static FSPATH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Any position in the log.
pub(crate) const IDS: RangeInclusive<u64> = 0..=u64::MAX;

/// Whether a value is of a class, by its type alone.
fn is<T: PyTypeInfo>(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.get_type().is_subclass_of::<T>()
}

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
    let path = call(FSPATH.import(py, "os", "fspath")?, (value,))?;
    if !path.is_instance_of::<PyString>() {
        return Err(wrong_type("path", "a str, or what has one for a path", &path));
    }
    path.extract::<PathBuf>().map_err(|error| {
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

/// A whole number in its range.
pub(crate) fn whole<N: TryFrom<u64> + PartialOrd + Display>(
    name: &str,
    value: &Bound<'_, PyAny>,
    range: RangeInclusive<N>,
) -> PyResult<N> {
    if is::<PyBool>(value)? || !is::<PyInt>(value)? {
        return Err(wrong_type(name, "an int", value));
    }
    let number = value.extract::<u64>().ok().and_then(|number| N::try_from(number).ok());
    number.filter(|number| range.contains(number)).ok_or_else(|| out_of(name, value, &range))
}

/// A bool, and nothing that is merely true or false in an if.
pub(crate) fn truth(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value
        .cast::<PyBool>()
        .map(|value| value.is_true())
        .map_err(|_| wrong_type(name, "a bool", value))
}

/// A number with a fraction in its range.
pub(crate) fn number(
    name: &str,
    value: &Bound<'_, PyAny>,
    range: RangeInclusive<f64>,
) -> PyResult<f64> {
    let number = float(value)?.ok_or_else(|| wrong_type(name, "an int or a float", value))?;
    if range.contains(&number) { Ok(number) } else { Err(out_of(name, value, &range)) }
}

/// A duration of at most ten years: seconds, or a timedelta.
pub(crate) fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = if is::<PyDelta>(value)? {
        call_method(value, "total_seconds")?.extract()?
    } else {
        float(value)?.ok_or_else(|| wrong_type(name, "seconds or a timedelta", value))?
    };
    let refused = |why| invalid(value.py(), format!("{name} is {}, {why}", shown(value)));
    if seconds.is_nan() {
        return Err(refused("which is no number of seconds"));
    }
    if seconds < 0.0 {
        return Err(refused("which is below zero"));
    }
    let duration = Duration::try_from_secs_f64(seconds).ok();
    duration
        .filter(|duration| *duration <= limits::DURATION_MAX)
        .ok_or_else(|| refused("which is above ten years"))
}

/// A moment: a datetime that knows its time zone. What is before 1970 is long past.
pub(crate) fn moment(name: &str, value: &Bound<'_, PyAny>) -> PyResult<SystemTime> {
    if !is::<PyDateTime>(value)? {
        return Err(wrong_type(name, "a datetime", value));
    }
    if call_method(value, "utcoffset")?.is_none() {
        return Err(invalid(value.py(), format!("{name} is a datetime without a time zone")));
    }
    let seconds: f64 = call_method(value, "timestamp")?.extract()?;
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

/// The seconds of a duration that libmq takes: from zero to ten years.
#[pyfunction]
pub(crate) fn check_duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(duration(name, value)?.as_secs_f64())
}

/// A number, which is infinite where a float cannot hold it; none if it is no number.
fn float(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    let py = value.py();
    if is::<PyFloat>(value)? {
        return value.extract().map(Some);
    }
    if is::<PyBool>(value)? || !is::<PyInt>(value)? {
        return Ok(None);
    }
    match call(&py.get_type::<PyFloat>(), (value,)) {
        Ok(number) => number.extract().map(Some),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
            let sign = if is_negative(value)? { -1.0 } else { 1.0 };
            Ok(Some(f64::INFINITY.copysign(sign)))
        }
        Err(error) => Err(error),
    }
}

fn is_negative(int: &Bound<'_, PyAny>) -> PyResult<bool> {
    let is_less = int.py().get_type::<PyInt>().getattr("__lt__")?;
    call(&is_less, (int, 0))?.extract()
}

fn out_of<N: Display>(name: &str, value: &Bound<'_, PyAny>, range: &RangeInclusive<N>) -> PyErr {
    let (least, most, shown) = (range.start(), range.end(), shown(value));
    invalid(value.py(), format!("{name} is {shown}, but goes from {least} to {most}"))
}

/// A value as it was written, unless it is a long one.
fn shown(value: &Bound<'_, PyAny>) -> String {
    let text = call_method(value, "__repr__").map(|text| text.extract::<String>());
    let text = text.and_then(|text| text).unwrap_or_default();
    if (1..=32).contains(&text.len()) { text } else { "a number of many digits".into() }
}
