//! Which interpreter this is: threads and brokers are the main one's.

#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;

/// Whether this is the main interpreter of the process, and not one within it.
#[pyfunction]
pub(crate) fn is_main_interpreter() -> bool {
    // SAFETY: whoever calls a function of a module has an interpreter, which is all that both calls ask for.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) == 0 }
}
