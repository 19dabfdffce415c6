//! What a handler's arguments may be.

use std::future::Future;
use std::ops::{Deref, DerefMut};

use serde::de::DeserializeOwned;

use super::context::AsyncContext;
use super::scope::Scopes;
use super::states::States;
use crate::broker::HandlerError;
use crate::error::Result;

/// An argument of a handler, made for each attempt: the body ([`Json`], [`Body`]), the [`AsyncContext`], what lives as long
/// as the broker ([`State`]), and what lives as long as the attempt ([`Scoped`](super::Scoped)). They are made in the order
/// of the arguments.
pub trait FromDelivery: Sized + Send {
    /// Refuses a handler that could never be called, when it is registered.
    ///
    /// # Errors
    /// `INVALID`, saying what is missing.
    fn check(states: &States) -> Result<()> {
        let _ = states;
        Ok(())
    }

    /// Makes it. A failure is the attempt's.
    fn from_delivery(
        context: &AsyncContext,
        scopes: &mut Scopes,
    ) -> impl Future<Output = std::result::Result<Self, HandlerError>> + Send;
}

impl FromDelivery for AsyncContext {
    async fn from_delivery(
        context: &AsyncContext,
        _scopes: &mut Scopes,
    ) -> std::result::Result<Self, HandlerError> {
        Ok(context.clone())
    }
}

/// The body, read as JSON. One that does not read is a dead letter `decode` at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Send> FromDelivery for Json<T> {
    async fn from_delivery(
        context: &AsyncContext,
        _scopes: &mut Scopes,
    ) -> std::result::Result<Self, HandlerError> {
        serde_json::from_slice(context.body()).map(Self).map_err(HandlerError::undecodable)
    }
}

/// The body as it was enqueued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body(pub Vec<u8>);

impl FromDelivery for Body {
    async fn from_delivery(
        context: &AsyncContext,
        _scopes: &mut Scopes,
    ) -> std::result::Result<Self, HandlerError> {
        Ok(Self(context.body().to_vec()))
    }
}

/// A clone of what [`Options::state`](crate::Options::state) was given of this type. A handler that asks for what it was not
/// given is refused when it is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromDelivery for State<T> {
    fn check(states: &States) -> Result<()> {
        states.require::<T>()
    }

    async fn from_delivery(
        context: &AsyncContext,
        _scopes: &mut Scopes,
    ) -> std::result::Result<Self, HandlerError> {
        let state = context.state().map(Self);
        state.ok_or_else(|| HandlerError::failed("the state was not given to Options::state"))
    }
}

macro_rules! deref {
    ($($type:ident)*) => {
        $(
            impl<T> Deref for $type<T> {
                type Target = T;

                fn deref(&self) -> &T {
                    &self.0
                }
            }

            impl<T> DerefMut for $type<T> {
                fn deref_mut(&mut self) -> &mut T {
                    &mut self.0
                }
            }
        )*
    };
}

deref! { Json State }
