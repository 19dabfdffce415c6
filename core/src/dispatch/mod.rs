//! Floor 3: who gets a message, for how long, and what happens when that time is over.

mod engine;
mod flight;
mod flights;
mod keeper;
mod lease;
mod station;

pub(crate) use engine::{Engine, EngineOptions, Retries};
pub(crate) use flight::Flight;
pub(crate) use keeper::{KeeperOptions, Snapshots, dismiss, start};
pub use lease::CancelReason;
pub(crate) use station::{HandlerSettings, Station};
