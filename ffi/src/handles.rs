//! Handles: what a program holds, and is never an address.

use std::sync::OnceLock;

use libmq::{Broker, DeadLetter, Delivery, Error, Interrupt, Result};

use crate::settings::{BackoffParts, Settings, Versions};
use crate::slab::{Found, Slab};
use crate::texts::Texts;
use crate::wakeup::Wakeups;

/// Why a call failed. Made by the call, freed with `libmq_error_free`.
#[derive(Debug)]
pub struct libmq_error {
    _private: [u8; 0],
}

/// Options that brokers are opened with. Made by `libmq_options_new`, freed with `libmq_options_free`.
#[derive(Debug)]
pub struct libmq_options {
    _private: [u8; 0],
}

/// An open broker. Made by `libmq_broker_open`, freed with `libmq_broker_free`.
#[derive(Debug)]
pub struct libmq_broker {
    _private: [u8; 0],
}

/// A message that is held. Given by a receive, or to a handler for the time of its call; settling consumes it.
#[derive(Debug)]
pub struct libmq_delivery {
    _private: [u8; 0],
}

/// A list of dead letters. Made by `libmq_dead_letters_list` and `_get`, freed with `libmq_dead_letters_free`.
#[derive(Debug)]
pub struct libmq_dead_letters {
    _private: [u8; 0],
}

pub(crate) static BROKERS: Slab<OpenBroker> = Slab::new(1, "a broker");
pub(crate) static DELIVERIES: Slab<HeldDelivery> = Slab::new(2, "a delivery");
pub(crate) static ERRORS: Slab<ReportedError> = Slab::inherited(3, "an error");
pub(crate) static OPTIONS: Slab<Versions> = Slab::inherited(4, "options");
pub(crate) static DEAD_LETTERS: Slab<Vec<ListedLetter>> =
    Slab::inherited(5, "a list of dead letters");
/// What options are at a time; no handle of it is given to C.
pub(crate) static SETTINGS: Slab<Settings> = Slab::inherited(6, "settings");

/// What a broker's handle stands for.
#[derive(Debug)]
pub(crate) struct OpenBroker {
    pub(crate) broker: Broker,
    /// Set when the handle is freed: ends the waits of calls that are under way.
    pub(crate) freed: Interrupt,
    /// What a handler takes where it names a part of a backoff alone.
    pub(crate) backoff: BackoffParts,
    pub(crate) wakeups: Wakeups,
}

/// What a delivery's handle stands for.
#[derive(Debug)]
pub(crate) struct HeldDelivery {
    pub(crate) delivery: Delivery,
    /// Made when the first is asked for.
    pub(crate) texts: OnceLock<Texts>,
}

/// What an error's handle stands for.
#[derive(Debug)]
pub(crate) struct ReportedError {
    pub(crate) error: Error,
    pub(crate) message: std::ffi::CString,
    pub(crate) path: Option<std::ffi::CString>,
}

/// A dead letter in a list.
#[derive(Debug)]
pub(crate) struct ListedLetter {
    pub(crate) letter: DeadLetter,
    /// Made with the list, which a forked child may read: of what is made later it could find a half.
    pub(crate) texts: Texts,
}

/// A type that C knows by a handle.
pub(crate) trait Handle: Sized + 'static {
    /// What the handle stands for.
    type Value;

    fn slab() -> &'static Slab<Self::Value>;

    /// Gives a value a handle.
    fn give(value: Self::Value) -> Result<*mut Self> {
        let number = Self::slab().insert(value)?;
        Ok(std::ptr::without_provenance_mut(number))
    }

    #[inline]
    fn find(handle: *const Self) -> Result<Found<'static, Self::Value>> {
        Self::slab().find(handle.addr()).ok_or_else(|| Self::slab().why_not(handle.addr()))
    }

    fn take(handle: *const Self) -> Result<Found<'static, Self::Value>> {
        Self::slab().take(handle.addr()).ok_or_else(|| Self::slab().why_not(handle.addr()))
    }
}

macro_rules! handles {
    ($($name:ty: $value:ty = $slab:ident;)*) => {
        $(impl Handle for $name {
            type Value = $value;

            fn slab() -> &'static Slab<$value> {
                &$slab
            }
        })*
    };
}

handles! {
    libmq_error: ReportedError = ERRORS;
    libmq_options: Versions = OPTIONS;
    libmq_broker: OpenBroker = BROKERS;
    libmq_delivery: HeldDelivery = DELIVERIES;
    libmq_dead_letters: Vec<ListedLetter> = DEAD_LETTERS;
}
