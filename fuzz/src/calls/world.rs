//! What a program has come by: handles of every kind, those it has freed too, and ids.

use std::ffi::{CStr, c_char};
use std::ptr;

use mq::{
    LIBMQ_E_DEADLOCK, LIBMQ_E_PANIC, LIBMQ_OK, libmq_broker_free, libmq_dead_letters_free,
    libmq_delivery_free, libmq_error, libmq_error_code, libmq_error_free, libmq_error_is_fatal,
    libmq_error_is_retryable, libmq_error_message, libmq_error_os_code, libmq_error_path,
    libmq_options_free, libmq_status, libmq_status_name,
};

use crate::input::Input;

/// What a handle is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Broker,
    Delivery,
    Error,
    Options,
    Letters,
}

/// A program's variables.
#[derive(Debug, Default)]
pub(super) struct World {
    handles: Vec<(Kind, usize)>,
    ids: Vec<u64>,
    /// Brokers that were opened: each has threads, so that there are not many.
    pub(super) opened: usize,
}

impl World {
    /// Remembers a handle that a call gave, if it did.
    pub(super) fn gave<T>(&mut self, kind: Kind, handle: *const T) {
        if !handle.is_null() {
            self.handles.push((kind, handle.addr()));
        }
    }

    pub(super) fn gave_id(&mut self, id: u64) {
        self.ids.push(id);
    }

    /// An address that is given for a handle: most often of this kind, live or stale; else of any kind, null, or made up.
    pub(super) fn handle<T>(&self, input: &mut Input<'_>, kind: Kind) -> *mut T {
        let number = usize::from(input.u8());
        let address = match number {
            0xff => input.u64() as usize,
            0xfe => 0,
            0xf0..0xfe => {
                self.handles.get(usize::from(input.u8())).map_or(1, |(_, handle)| *handle)
            }
            _ => {
                let of_kind: Vec<usize> = self
                    .handles
                    .iter()
                    .filter(|(is, _)| *is == kind)
                    .map(|(_, handle)| *handle)
                    .collect();
                // Counted from the newest.
                let place = of_kind.len().checked_sub(1 + number % of_kind.len().max(1));
                place.and_then(|place| of_kind.get(place)).copied().unwrap_or(0)
            }
        };
        ptr::without_provenance_mut(address)
    }

    pub(super) fn id(&self, input: &mut Input<'_>) -> u64 {
        let number = usize::from(input.u8());
        match self.ids.len() {
            0 => number as u64,
            _ if number == 0xff => input.u64(),
            count => self.ids[number % count],
        }
    }

    /// Makes a call, with a place for its error or without; holds what it answers against what every call answers.
    pub(super) fn call(
        &mut self,
        input: &mut Input<'_>,
        call: impl FnOnce(*mut *mut libmq_error) -> libmq_status,
    ) -> libmq_status {
        let mut error: *mut libmq_error = ptr::without_provenance_mut(1);
        let wants = input.u8() < 200;
        let status = call(if wants { &raw mut error } else { ptr::null_mut() });
        // SAFETY: a status has a name that stays.
        let name = unsafe { CStr::from_ptr(libmq_status_name(status)) };
        assert!((LIBMQ_E_DEADLOCK..=LIBMQ_OK).contains(&status) && name != c"UNKNOWN", "{status}");
        assert_ne!(status, LIBMQ_E_PANIC);
        if wants {
            assert_eq!(error.is_null(), status == LIBMQ_OK);
            if !error.is_null() {
                assert_eq!(libmq_error_code(error), status);
                text(libmq_error_message(error)).expect("an error says what it is");
            }
            self.gave(Kind::Error, error);
        }
        status
    }

    /// Reads all of what is said to be an error.
    pub(super) fn read_error(&self, input: &mut Input<'_>) {
        let error: *const libmq_error = self.handle::<libmq_error>(input, Kind::Error);
        let known = libmq_error_message(error);
        assert_eq!(text(known).is_some(), !known.is_null());
        text(libmq_error_path(error));
        let fatal = libmq_error_is_fatal(error) && libmq_error_is_retryable(error);
        assert!(!fatal, "what is fatal is not tried again");
        libmq_error_os_code(error);
    }

    /// Frees everything, in the order in which it came; for what was freed before that does nothing.
    pub(super) fn free(self) {
        for (kind, handle) in self.handles {
            free(kind, handle);
        }
    }
}

/// Frees what is said to be a handle of this kind.
pub(super) fn free(kind: Kind, handle: usize) {
    match kind {
        Kind::Broker => libmq_broker_free(ptr::without_provenance_mut(handle)),
        Kind::Delivery => libmq_delivery_free(ptr::without_provenance_mut(handle)),
        Kind::Error => libmq_error_free(ptr::without_provenance_mut(handle)),
        Kind::Options => libmq_options_free(ptr::without_provenance_mut(handle)),
        Kind::Letters => libmq_dead_letters_free(ptr::without_provenance_mut(handle)),
    }
}

/// A text that the library gave, if it did: read to its end, and UTF-8.
pub(super) fn text(text: *const c_char) -> Option<&'static str> {
    // SAFETY: not null, and from the library: it stays until the handle is freed, which nobody does meanwhile.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().expect("texts are UTF-8"))
}
