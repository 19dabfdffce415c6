//! libmq: an embedded, persistent message queue.

mod broker;
mod buffer;
mod clock;
mod codec;
mod dispatch;
mod error;
mod events;
mod hash;
mod interrupt;
mod journal;
pub mod limits;
#[doc(hidden)]
pub mod pile;
mod random;
#[doc(hidden)]
pub mod storage;
mod sync;
mod table;
#[cfg(feature = "tokio")]
mod tasks;

pub use broker::{
    Backoff, Begun, Broker, ClockMode, Context, DeadLetter, DeadLetters, Dedup, Delivery,
    Durability, Enqueueing, HandlerError, HandlerOptions, Inbox, IntoBody, Lsn, Message, Metrics,
    Next, OnCorruption, OnFull, Options, Problem, QueueMetrics, Receipt, ReceiptStatus, Recovery,
    VerifyReport, Watch, Worker, verify, verify_on,
};
pub use dispatch::CancelReason;
pub use error::{Error, ErrorKind, LockOwner, Result};
pub use events::{Event, EventLevel, Field};
pub use interrupt::Interrupt;
#[cfg(feature = "tokio")]
pub use tasks::{
    AsyncContext, AsyncHandler, Body, FromDelivery, Json, Scope, Scoped, Scopes, State, States,
};
