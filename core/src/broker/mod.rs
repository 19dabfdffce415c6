//! The public face: brokers, messages, deliveries, options.

mod backoff;
mod backup;
mod begun;
mod broker;
mod clerk;
mod dead_letters;
mod delivery;
mod enqueue;
mod ground;
mod handler;
mod handlers;
mod inbox;
#[cfg(feature = "json")]
mod json;
mod message;
mod metrics;
mod open;
mod options;
mod prometheus;
mod recovery;
mod shared;
mod stations;
#[cfg(feature = "opentelemetry")]
mod telemetry;
mod verify;
mod watch;
mod worker;

pub use backoff::Backoff;
pub use begun::Begun;
pub use broker::Broker;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use delivery::{Context, Delivery};
pub use enqueue::Enqueueing;
pub use handler::{HandlerError, HandlerOptions};
#[cfg(feature = "tokio")]
pub(crate) use handlers::in_handler;
pub use inbox::{Inbox, Left};
pub use message::{Dedup, IntoBody, Message, Receipt, ReceiptStatus};
pub use metrics::{Lsn, Metrics, QueueMetrics};
pub use options::{ClockMode, Durability, OnCorruption, OnFull, Options};
pub use recovery::Recovery;
#[cfg(all(feature = "opentelemetry", feature = "tokio"))]
pub(crate) use telemetry::end as end_span;
pub use verify::{Problem, VerifyReport, verify, verify_on};
pub use watch::Watch;
pub use worker::Worker;
