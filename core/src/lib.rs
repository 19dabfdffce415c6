//! libmq: an embedded, persistent message queue. One directory is a broker; no server, no database.
//!
//! A [`Broker`] is opened, is given handlers with [`Broker::handle`], and is started; [`Broker::enqueue`] answers when the
//! message is durable, and libmq calls the handler, tries again what failed, and keeps what fails for good as a
//! [`DeadLetter`]. What a handler enqueues with [`Delivery::enqueue`] comes with its ack, or not at all. Who would rather pull
//! has [`Broker::receive`]; async programs have [`Broker::enqueue_async`] and, on tokio, `Broker::handle_async`.
//!
//! Every public call is for any thread, unless it says otherwise. An [`Error`] says by its [`ErrorKind`] what went wrong, and
//! by its text what to do; what is refused has changed nothing. What may be relied on is said state by state in
//! `docs/guarantees.md` of the repository, and what to watch in `docs/operations.md`.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `json` (default) | `Broker::handle_json`: the body read by serde |
//! | `tracing` (default) | events and spans of `tracing`, under the target `libmq` |
//! | `tokio` | `Broker::handle_async`, and what its handlers ask for: `Json`, `State`, `Scoped` |
//! | `opentelemetry` | spans from producer to consumer, and `Broker::observe` |

mod alarm;
mod broker;
mod buffer;
mod clock;
mod codec;
mod dispatch;
mod error;
mod events;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod interrupt;
mod journal;
mod latch;
pub mod limits;
mod memory;
mod pages;
mod patience;
#[doc(hidden)]
pub mod pile;
mod random;
mod stock;
#[doc(hidden)]
pub mod storage;
#[cfg(all(test, not(loom)))]
mod stress;
mod sync;
mod table;
#[cfg(feature = "tokio")]
mod tasks;
mod thread;

pub use broker::{
    Backoff, Begun, Broker, ClockMode, Context, DeadLetter, DeadLetters, Dedup, Delivery,
    Durability, Enqueueing, HandlerError, HandlerOptions, Inbox, IntoBody, Left, Lsn, Message,
    Metrics, OnCorruption, OnFull, Options, Problem, QueueMetrics, Receipt, ReceiptStatus,
    Recovery, VerifyReport, Watch, Worker, verify, verify_on,
};
pub use dispatch::CancelReason;
#[doc(hidden)]
pub use dispatch::Progress;
pub use error::{Error, ErrorKind, LockOwner, Result};
pub use events::{Event, EventLevel, Field};
pub use interrupt::Interrupt;
#[cfg(feature = "tokio")]
pub use tasks::{
    AsyncContext, AsyncHandler, Body, FromDelivery, Json, Scope, Scoped, Scopes, State, States,
};
