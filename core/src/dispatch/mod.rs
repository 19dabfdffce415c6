//! Floor 3: who gets a message, for how long, and what happens when that time is over.

mod engine;
mod flight;
mod keeper;
mod station;

pub(crate) use engine::{Engine, EngineOptions};
pub use flight::CancelReason;
pub(crate) use flight::Flight;
pub(crate) use keeper::{KeeperOptions, Snapshots, dismiss, start};
pub(crate) use station::{HandlerSettings, Station};
