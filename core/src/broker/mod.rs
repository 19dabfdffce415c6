//! The public face: brokers, messages, deliveries, options.

mod backoff;
mod message;
mod options;

pub use backoff::Backoff;
pub use message::{Dedup, IntoBody, Message, Receipt, ReceiptStatus};
pub use options::{ClockMode, Durability, OnCorruption, OnFull, Options};
