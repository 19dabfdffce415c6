//! The native part of libmq's Python package.
//!
//! Small on purpose: what is public is Python source over this. What always holds here:
//! - whatever may wait, or touch the disk, does so with the interpreter's lock given back (`outside`), and a panic in the core
//!   poisons the broker (`entering`); a drop that may have to wait too (`apart`);
//! - no thread but Python's own ever enters the interpreter: workers reach Python through a channel (`hiring`), what an
//!   event loop waits for and what is logged through a list (`tray`, `listener`);
//! - code that is written in Python is called through `calling` alone. What Python runs by itself is not: the handlers of
//!   signals, on the main thread, and what objects do when they are dropped;
//! - no lock of this crate is held while the interpreter's is waited for, but a worker's, which is its thread's own;
//! - every class is frozen, so that any thread may use any object.

#![deny(unsafe_code)]

mod apart;
mod backoff;
mod bell;
mod body;
mod broker;
mod calling;
mod context;
mod dead_letters;
mod delivery;
mod ends;
mod entering;
mod error;
mod held;
mod hiring;
mod inbox;
mod interpreter;
mod interrupt;
mod items;
mod leaving;
mod listener;
mod message;
mod metrics;
mod opening;
mod options;
mod outside;
mod receipt;
mod said;
mod tray;
mod values;
mod verify;
mod waiting;
mod watch;
mod worker;

/// What the package is made of.
#[pyo3::pymodule]
mod _native {
    /// The version of the package, and of the core that it brings.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::backoff::Backoff;
    #[pymodule_export]
    use super::bell::Bell;
    #[pymodule_export]
    use super::broker::Broker;
    #[pymodule_export]
    use super::context::Context;
    #[pymodule_export]
    use super::dead_letters::{DeadLetter, DeadLetters};
    #[pymodule_export]
    use super::delivery::Delivery;
    #[pymodule_export]
    use super::held::Held;
    #[pymodule_export]
    use super::hiring::Foreman;
    #[pymodule_export]
    use super::inbox::{Attempt, Inbox};
    #[pymodule_export]
    use super::interpreter::is_main_interpreter;
    #[pymodule_export]
    use super::interrupt::Interrupt;
    #[pymodule_export]
    use super::leaving::{handles, leave};
    #[pymodule_export]
    use super::listener::Listener;
    #[pymodule_export]
    use super::message::Message;
    #[pymodule_export]
    use super::outside::{alone_again, stay_outside};
    #[pymodule_export]
    use super::receipt::Receipt;
    #[pymodule_export]
    use super::tray::{Tray, serve};
    #[pymodule_export]
    use super::values::check_duration;
    #[pymodule_export]
    use super::verify::verify;
    #[pymodule_export]
    use super::watch::Watch;
    #[pymodule_export]
    use super::worker::Worker;
}
