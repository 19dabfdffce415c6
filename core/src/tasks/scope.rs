//! Scopes: what is opened once an attempt, and closed before its ack.

use std::any::type_name;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use super::context::AsyncContext;
use super::extract::FromDelivery;
use super::states::States;
use crate::broker::HandlerError;
use crate::error::Result;

/// Something with the lifetime of an attempt, as a transaction or a session. A handler asks for it as [`Scoped`].
pub trait Scope: Sized + Send + 'static {
    /// Refuses a handler that could never be called, when it is registered: as by [`States::require`].
    ///
    /// # Errors
    /// `INVALID`, saying what is missing.
    fn check(states: &States) -> Result<()> {
        let _ = states;
        Ok(())
    }

    /// Opens it, before the handler is called. A failure is the attempt's.
    fn begin(
        context: &AsyncContext,
    ) -> impl Future<Output = std::result::Result<Self, HandlerError>> + Send;

    /// Closes it, when the handler has ended and before the message is acked; `succeeded` says whether that is to come. A
    /// failure then fails the attempt.
    fn finish(
        self,
        succeeded: bool,
    ) -> impl Future<Output = std::result::Result<(), HandlerError>> + Send;
}

/// A handler's argument that is opened for its attempt alone. Dropped, it goes back to be closed: last opened, first closed.
/// A handler that lets it live on, in a task of its own, fails.
#[derive(Debug)]
pub struct Scoped<T: Scope> {
    /// There until it is dropped.
    value: Option<T>,
    place: Place<T>,
}

type Place<T> = Arc<Mutex<Option<T>>>;

type Finishing<'a> =
    Pin<Box<dyn Future<Output = std::result::Result<(), HandlerError>> + Send + 'a>>;

/// What was opened for an attempt.
#[derive(Default)]
pub struct Scopes(Vec<Box<dyn Finish>>);

/// A scope that is to be closed.
trait Finish: Send {
    fn finish(self: Box<Self>, succeeded: bool) -> Finishing<'static>;
}

impl<T: Scope> FromDelivery for Scoped<T> {
    fn check(states: &States) -> Result<()> {
        T::check(states)
    }

    async fn from_delivery(
        context: &AsyncContext,
        scopes: &mut Scopes,
    ) -> std::result::Result<Self, HandlerError> {
        let value = T::begin(context).await?;
        let place = Place::default();
        scopes.0.push(Box::new(Opened(Arc::clone(&place))));
        Ok(Self { value: Some(value), place })
    }
}

impl<T: Scope> Drop for Scoped<T> {
    fn drop(&mut self) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = self.value.take();
    }
}

impl<T: Scope> Deref for Scoped<T> {
    type Target = T;

    #[expect(clippy::expect_used, reason = "only its drop takes the value")]
    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Scope> DerefMut for Scoped<T> {
    #[expect(clippy::expect_used, reason = "as above")]
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until it is dropped")
    }
}

struct Opened<T>(Place<T>);

impl<T: Scope> Finish for Opened<T> {
    fn finish(self: Box<Self>, succeeded: bool) -> Finishing<'static> {
        Box::pin(async move {
            let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            match value {
                Some(value) => value.finish(succeeded).await,
                None => Err(HandlerError::failed(format!(
                    "{} has outlived its attempt",
                    type_name::<T>()
                ))),
            }
        })
    }
}

impl Scopes {
    /// Closes all, the last first; the first failure is the attempt's, if that had none.
    pub(super) async fn finish(
        self,
        mut result: std::result::Result<(), HandlerError>,
    ) -> std::result::Result<(), HandlerError> {
        for scope in self.0.into_iter().rev() {
            let finished = scope.finish(result.is_ok()).await;
            if result.is_ok() {
                result = finished;
            }
        }
        result
    }
}

impl std::fmt::Debug for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scopes({})", self.0.len())
    }
}
