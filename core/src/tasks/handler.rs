//! Functions that are handlers.

use std::future::Future;

use super::context::AsyncContext;
use super::extract::FromDelivery;
use super::scope::Scopes;
use super::states::States;
use crate::broker::HandlerError;
use crate::error::Result;

/// A handler that is a task: any async function of up to eight arguments that are [`FromDelivery`].
pub trait AsyncHandler<Arguments>: Send + Sync + 'static {
    /// Refuses one that could never be called.
    ///
    /// # Errors
    /// `INVALID`, saying what is missing.
    fn check(states: &States) -> Result<()>;

    /// Makes the arguments and calls it.
    fn call(
        &self,
        context: &AsyncContext,
        scopes: &mut Scopes,
    ) -> impl Future<Output = std::result::Result<(), HandlerError>> + Send;
}

macro_rules! functions {
    ($($argument:ident)*) => {
        impl<F, R, $($argument),*> AsyncHandler<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R + Send + Sync + 'static,
            R: Future<Output = std::result::Result<(), HandlerError>> + Send,
            $($argument: FromDelivery,)*
        {
            fn check(states: &States) -> Result<()> {
                let _ = states;
                $($argument::check(states)?;)*
                Ok(())
            }

            #[allow(non_snake_case, reason = "an argument is named after its type")]
            #[allow(unused_variables, reason = "a function of nothing is a handler too")]
            async fn call(
                &self,
                context: &AsyncContext,
                scopes: &mut Scopes,
            ) -> std::result::Result<(), HandlerError> {
                $(let $argument = $argument::from_delivery(context, scopes).await?;)*
                self($($argument),*).await
            }
        }
    };
}

functions! {}
functions! { A }
functions! { A B }
functions! { A B C }
functions! { A B C D }
functions! { A B C D E }
functions! { A B C D E G }
functions! { A B C D E G H }
functions! { A B C D E G H I }
