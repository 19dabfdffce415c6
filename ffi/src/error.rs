//! Errors: why a call failed, in a form that can be kept.

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use libmq::Error;

use crate::boundary;
use crate::handles::{Handle, ReportedError, libmq_error};
use crate::status::{LIBMQ_E_BAD_HANDLE, libmq_status};

/// The status that the failed call answered; `LIBMQ_E_BAD_HANDLE` if this is no error.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_error_code(error: *const libmq_error) -> libmq_status {
    boundary::value(error, LIBMQ_E_BAD_HANDLE, |reported| Some(reported.error.kind().code()))
}

/// What happened and what to do about it, in lowercase, without bodies, keys or headers. NULL if this is no error.
///
/// Any thread. Valid until the error is freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_error_message(error: *const libmq_error) -> *const c_char {
    boundary::value(error, ptr::null(), |reported| Some(reported.message.as_ptr()))
}

/// The file or directory concerned. NULL if there is none, or if this is no error.
///
/// Any thread. Valid until the error is freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_error_path(error: *const libmq_error) -> *const c_char {
    boundary::value(error, ptr::null(), |reported| reported.path.as_ref().map(|path| path.as_ptr()))
}

/// The operating system's number (`errno`). 0 if it was not asked, or if this is no error.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_error_os_code(error: *const libmq_error) -> i32 {
    boundary::value(error, 0, |reported| reported.error.os_code())
}

/// Whether the same call can succeed later without anything being mended. Not after `LIBMQ_E_TIMEOUT`: a stop or close is
/// done all the same, and of `libmq_broker_wait_idle` it is the answer. False if this is no error.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_error_is_retryable(error: *const libmq_error) -> bool {
    boundary::value(error, false, |reported| Some(reported.error.is_retryable()))
}

/// Whether the broker is beyond use and has to be opened again. False if this is no error.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_error_is_fatal(error: *const libmq_error) -> bool {
    boundary::value(error, false, |reported| Some(reported.error.is_fatal()))
}

/// Frees an error. Does nothing for NULL, or for what was freed before.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_error_free(error: *mut libmq_error) {
    boundary::free(error);
}

/// Gives an error a handle; null if none can be had.
pub(crate) fn report(error: Error) -> *mut libmq_error {
    let without_nul = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        CString::new(bytes.get(..end).unwrap_or_default()).unwrap_or_default()
    };
    let message = without_nul(error.to_string().as_bytes());
    let path = error.path().map(|path| without_nul(path.as_os_str().as_bytes()));
    libmq_error::give(ReportedError { error, message, path }).unwrap_or(ptr::null_mut())
}
