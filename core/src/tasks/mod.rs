//! Handlers as tasks: futures on a tokio runtime, with what they need injected. Above the broker, and only with the
//! feature `tokio`.

mod attempt;
mod context;
mod extract;
mod handler;
mod scope;
mod serve;
mod states;

pub use context::AsyncContext;
pub use extract::{Body, FromDelivery, Json, State};
pub use handler::AsyncHandler;
pub use scope::{Scope, Scoped, Scopes};
pub use states::States;
