//! Floor 3: who gets a message, for how long, and what happens when that time is over.

mod engine;
mod flight;
mod flights;
mod keeper;
mod lease;
#[cfg(all(test, loom))]
pub(crate) mod models;
mod owed;
mod station;
mod worker;

pub(crate) use engine::{Engine, EngineOptions, Retries};
pub(crate) use flight::Flight;
pub(crate) use keeper::{KeeperOptions, Snapshots, dismiss, start};
pub use lease::CancelReason;
pub use station::Progress;
pub(crate) use station::{HandlerSettings, Station};
pub(crate) use worker::{Handle, Hire, Now, Worker, on_own_threads};
