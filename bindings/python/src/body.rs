//! Bodies: bytes travel as they are, anything else as JSON.

use std::borrow::Cow;

use libmq::IntoBody;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

use crate::calling::call;
use crate::error::invalid;

/// What JSON is said to be.
pub(crate) const JSON: &str = "application/json";

static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A body of Python, as bytes that stay where they are.
#[derive(Debug)]
pub(crate) enum Body<'a, 'py> {
    /// Bytes of Python never change.
    Bytes(&'a Bound<'py, PyBytes>),
    /// What somebody else might change meanwhile was copied.
    Copied(Vec<u8>),
    Json(Bound<'py, PyString>),
}

impl<'a, 'py> Body<'a, 'py> {
    pub(crate) fn of(value: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Self::Bytes(bytes));
        }
        if let Ok(bytes) = value.cast::<PyByteArray>() {
            return Ok(Self::Copied(bytes.to_vec()));
        }
        if value.is_instance_of::<PyMemoryView>() {
            let bytes = value.call_method0("tobytes")?;
            return Ok(Self::Copied(bytes.cast_into::<PyBytes>()?.as_bytes().to_vec()));
        }
        let py = value.py();
        let json = call(ENCODE.import(py, "libmq._json_body", "encode")?, (value,))?;
        Ok(Self::Json(json.cast_into::<PyString>()?))
    }

    pub(crate) fn is_json(&self) -> bool {
        matches!(self, Self::Json(_))
    }

    /// The bytes themselves.
    pub(crate) fn bytes(&self, py: Python<'_>) -> PyResult<&[u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.as_bytes()),
            Self::Copied(bytes) => Ok(bytes),
            Self::Json(text) => {
                let surrogate =
                    |_| invalid(py, "the body has a lone surrogate, which is not UTF-8");
                Ok(text.to_str().map_err(surrogate)?.as_bytes())
            }
        }
    }
}

/// Bytes that are a body as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a>(pub(crate) &'a [u8]);

impl<'a> IntoBody<'a> for Plain<'a> {
    fn into_body(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.0)
    }
}

/// What a body means: JSON is parsed, all else stays bytes.
pub(crate) fn decode<'py>(
    py: Python<'py>,
    bytes: &[u8],
    content_type: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let decode = |text: Bound<'py, PyAny>| {
        let decode = DECODE.import(py, "libmq._json_body", "decode")?;
        call(decode, (text, may_overflow(bytes)))
    };
    if !is_json(content_type) {
        return Ok(PyBytes::new(py, bytes).into_any());
    }
    match str::from_utf8(bytes) {
        Ok(text) => decode(PyString::new(py, text).into_any()),
        // It is for the package to say what is wrong with it.
        Err(_) => decode(PyBytes::new(py, bytes).into_any()),
    }
}

/// Whether JSON may have a number that no float can hold: one with an exponent, or with as many digits as it takes.
/// What looks like one in a text may be taken for it.
fn may_overflow(json: &[u8]) -> bool {
    let mut digits = 0;
    for byte in json {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'e' | b'E' if digits > 0 => return true,
            _ => digits = 0,
        }
        if digits > f64::MAX_10_EXP {
            return true;
        }
    }
    false
}

/// Whether a content type says JSON, whatever its parameters: by itself, or as what something of an application is
/// written in.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == JSON || (essence.starts_with("application/") && essence.ends_with("+json"))
}
