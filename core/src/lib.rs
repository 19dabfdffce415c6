//! libmq: an embedded, persistent message queue.

mod broker;
mod buffer;
mod clock;
mod codec;
mod error;
mod journal;
pub mod limits;
mod random;
#[doc(hidden)]
pub mod storage;
mod sync;

pub use broker::{
    Backoff, ClockMode, Dedup, Durability, IntoBody, Message, OnCorruption, OnFull, Options,
    Receipt, ReceiptStatus,
};
pub use error::{Error, ErrorKind, LockOwner, Result};
