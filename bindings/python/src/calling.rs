//! Calls of code that is written in Python.
//!
//! Python code gives the interpreter's lock away and takes it back as it goes. When the interpreter is finalizing, up to
//! Python 3.13, a daemon thread that wants it back is ended by unwinding its stack. That must not pass through Rust: the
//! process would abort, or what is dropped on the way would touch objects without the lock. So such a thread stops here,
//! for as long as the process lives, which is what Python 3.14 does with it.
//!
//! PyO3 calls with an ABI that says that nothing is unwound, and then the process
//! aborts before anybody can stop the thread.

#![allow(unsafe_code)]

use std::mem;
use std::thread;

use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

static IS_INSTANCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static METHOD_CALLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

// Not `PyObject_Call`, which PyO3 declares too: one symbol has one declaration in the end.
// SAFETY: declared as Python's stable ABI has it; the module is loaded by a Python, which has the symbol.
unsafe extern "C-unwind" {
    fn PyObject_CallObject(callable: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject;
}

/// Calls something that may be written in Python.
pub(crate) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: impl IntoPyObject<
        'py,
        Target = PyTuple,
        Output = Bound<'py, PyTuple>,
        Error: Into<PyErr>,
    >,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = arguments.into_pyobject(callable.py()).map_err(Into::into)?;
    let end = EndOfThread;
    // SAFETY: the two objects are borrowed for the call by `callable` and `arguments`, the first is any object, the second
    // a tuple, as Python's manual of PyObject_CallObject wants it. `callable.py()` says that
    // this thread has the interpreter. What unwinds through this frame drops `end`, and goes no further.
    let answer = unsafe { PyObject_CallObject(callable.as_ptr(), arguments.as_ptr()) };
    mem::forget(end);
    // SAFETY: it answers a reference of our own, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), answer) }
}

/// Calls a method of something that may be written in Python, as may be what looks it up.
pub(crate) fn call_method<'py>(
    value: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let caller = METHOD_CALLER.import(value.py(), "_operator", "methodcaller")?;
    call(&call(caller, (name,))?, (value,))
}

/// Whether a value is of a class that may say so itself, as those of `collections.abc`.
pub(crate) fn is_instance(value: &Bound<'_, PyAny>, class: &Bound<'_, PyAny>) -> PyResult<bool> {
    let is_instance = IS_INSTANCE.import(value.py(), "builtins", "isinstance")?;
    call(is_instance, (value, class))?.extract()
}

/// Dropped only where the stack is unwound.
struct EndOfThread;

impl Drop for EndOfThread {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}
