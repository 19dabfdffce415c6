//! libmq: an embedded, persistent message queue.

mod broker;
mod buffer;
mod clock;
mod codec;
mod dispatch;
mod error;
mod interrupt;
mod journal;
pub mod limits;
mod random;
#[doc(hidden)]
pub mod storage;
mod sync;
mod table;

pub use broker::{
    Backoff, Broker, ClockMode, Context, DeadLetter, DeadLetters, Dedup, Delivery, Durability,
    HandlerError, HandlerOptions, IntoBody, Lsn, Message, Metrics, OnCorruption, OnFull, Options,
    QueueMetrics, Receipt, ReceiptStatus, Recovery, Worker,
};
pub use dispatch::CancelReason;
pub use error::{Error, ErrorKind, LockOwner, Result};
pub use interrupt::Interrupt;
