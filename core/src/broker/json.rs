//! Handlers of JSON.

use serde::de::DeserializeOwned;

use super::broker::Broker;
use super::delivery::Context;
use super::handler::{HandlerError, HandlerOptions};
use crate::error::Result;

impl Broker {
    /// Registers a queue's handler as [`Broker::handle`] does, and hands it the body read as JSON. A body that does not read
    /// is a dead letter `decode` at once.
    ///
    /// # Errors
    /// As [`Broker::handle`].
    pub fn handle_json<T, F>(&self, queue: &str, options: HandlerOptions, handler: F) -> Result<()>
    where
        T: DeserializeOwned,
        F: Fn(T, &Context) -> std::result::Result<(), HandlerError> + Send + Sync + 'static,
    {
        self.handle(queue, options, move |context| {
            let body = serde_json::from_slice(context.body()).map_err(HandlerError::undecodable)?;
            handler(body, context)
        })
    }
}
