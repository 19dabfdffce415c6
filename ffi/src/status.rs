//! Statuses: what a call answers.

use std::ffi::{CStr, c_char};

/// What a call answers: `LIBMQ_OK`, or a negative number that never changes its meaning.
pub type libmq_status = i32;

/// Done.
pub const LIBMQ_OK: libmq_status = 0;
/// An argument is out of its range; the message names it. Nothing was changed.
pub const LIBMQ_E_INVALID: libmq_status = -1;
/// The broker is closed.
pub const LIBMQ_E_CLOSED: libmq_status = -2;
/// There is no message, dead letter or queue of that name or id.
pub const LIBMQ_E_NOT_FOUND: libmq_status = -3;
/// The handle is NULL, was freed, is of another type, or never was one.
pub const LIBMQ_E_BAD_HANDLE: libmq_status = -4;
/// Memory for the records of this call, or for one more handle, could not be had; nothing was changed. Other memory that
/// cannot be had aborts the process.
pub const LIBMQ_E_NO_MEMORY: libmq_status = -5;
/// This build, file or situation does not support what was asked.
pub const LIBMQ_E_UNSUPPORTED: libmq_status = -6;
/// The operating system refused a file operation; `libmq_error_os_code` has its number.
pub const LIBMQ_E_IO: libmq_status = -100;
/// Bytes that were durable are damaged or missing; the files were left alone.
pub const LIBMQ_E_CORRUPT: libmq_status = -101;
/// Another broker owns the directory; the message names the owner.
pub const LIBMQ_E_LOCKED: libmq_status = -102;
/// An earlier write or sync failed, or a bug was caught: free, and open again.
pub const LIBMQ_E_POISONED: libmq_status = -103;
/// The disk has no room for the next segment; asked again, it is tried again.
pub const LIBMQ_E_STORAGE_FULL: libmq_status = -104;
/// `capacity` live messages are in the broker.
pub const LIBMQ_E_FULL: libmq_status = -200;
/// A body with its headers, or a batch's bytes, are beyond their limit.
pub const LIBMQ_E_TOO_LARGE: libmq_status = -201;
/// The time given to `stop`, `close` or `wait_idle` ran out.
pub const LIBMQ_E_TIMEOUT: libmq_status = -202;
/// The delivery's lease was lost; nothing was changed.
pub const LIBMQ_E_STALE_LEASE: libmq_status = -203;
/// Nothing came in time.
pub const LIBMQ_E_EMPTY: libmq_status = -204;
/// A bug inside libmq was caught; the broker is poisoned.
pub const LIBMQ_E_PANIC: libmq_status = -300;
/// The process was forked; a child cannot use its parent's broker.
pub const LIBMQ_E_FORKED: libmq_status = -301;
/// The call would wait for itself, as `close` in a handler.
pub const LIBMQ_E_DEADLOCK: libmq_status = -302;

/// Zero, or none, in a struct's field or a call's argument that takes 0 for its default. (In a `timeout_ms` -1 is for ever.)
pub const LIBMQ_NONE: i32 = -1;

/// The version of the library that is loaded, such as "0.1.0"; `LIBMQ_VERSION` is that of the header.
///
/// Any thread. A constant: never NULL, not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The name of a status without its prefix, such as "FULL" for `LIBMQ_E_FULL`; "UNKNOWN" for a number that is none.
///
/// Any thread. A constant: never NULL, not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_status_name(status: libmq_status) -> *const c_char {
    name(status).as_ptr()
}

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };

fn name(status: libmq_status) -> &'static CStr {
    match status {
        LIBMQ_OK => c"OK",
        LIBMQ_E_INVALID => c"INVALID",
        LIBMQ_E_CLOSED => c"CLOSED",
        LIBMQ_E_NOT_FOUND => c"NOT_FOUND",
        LIBMQ_E_BAD_HANDLE => c"BAD_HANDLE",
        LIBMQ_E_NO_MEMORY => c"NO_MEMORY",
        LIBMQ_E_UNSUPPORTED => c"UNSUPPORTED",
        LIBMQ_E_IO => c"IO",
        LIBMQ_E_CORRUPT => c"CORRUPT",
        LIBMQ_E_LOCKED => c"LOCKED",
        LIBMQ_E_POISONED => c"POISONED",
        LIBMQ_E_STORAGE_FULL => c"STORAGE_FULL",
        LIBMQ_E_FULL => c"FULL",
        LIBMQ_E_TOO_LARGE => c"TOO_LARGE",
        LIBMQ_E_TIMEOUT => c"TIMEOUT",
        LIBMQ_E_STALE_LEASE => c"STALE_LEASE",
        LIBMQ_E_EMPTY => c"EMPTY",
        LIBMQ_E_PANIC => c"PANIC",
        LIBMQ_E_FORKED => c"FORKED",
        LIBMQ_E_DEADLOCK => c"DEADLOCK",
        _ => c"UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use libmq::ErrorKind;

    use super::*;

    #[test]
    fn every_kind_of_error_has_its_status() {
        for kind in ErrorKind::ALL {
            assert_eq!(name(kind.code()).to_str().unwrap(), kind.name());
        }
        assert_eq!(name(LIBMQ_OK), c"OK");
        assert_eq!(name(1), c"UNKNOWN");
        assert_eq!(name(libmq_status::MIN), c"UNKNOWN");
    }
}
