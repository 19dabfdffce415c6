//! The C interface of libmq: `libmq.so`, `libmq.a`, and what `include/libmq.h` declares.
//!
//! One file a noun, and one section of the header for each public one: the text above an item is what a C programmer
//! reads. Everything is built on the public face of the crate `libmq`.
//!
//! Invariants:
//! - every function goes through `boundary`, which checks the handle, catches a panic and answers a status;
//! - a handle is a number of a `slab`, never an address, so that none a program can make up is followed;
//! - what C passes by address is read and written in `from_c` alone.

// The types carry the names that C knows them by.
#![allow(non_camel_case_types)]
// What every function asks of its caller is said once, at the head of the header.
#![allow(clippy::missing_safety_doc)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("libmq's handles are numbers of 64 bits: it is built for machines of 64 bits alone");

mod boundary;
mod callback;
mod from_c;
mod leaks;
mod names;
mod settings;
mod slab;
mod sync;
mod texts;

mod admin;
mod broker;
mod dead_letters;
mod delivery;
mod enqueue;
mod error;
mod handler;
mod handles;
mod message;
mod metrics;
mod options;
mod receive;
mod report;
mod settle;
mod status;
mod wakeup;

pub use admin::*;
pub use broker::*;
pub use dead_letters::*;
pub use delivery::*;
pub use enqueue::*;
pub use error::*;
pub use handler::*;
pub use handles::*;
pub use message::*;
pub use metrics::*;
pub use options::*;
pub use receive::*;
pub use settle::*;
pub use status::*;
pub use wakeup::*;
