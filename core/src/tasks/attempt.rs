//! Attempts: one task for each message that is being handled.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_util::sync::CancellationToken;

use super::context::AsyncContext;
use super::handler::AsyncHandler;
use super::scope::Scopes;
use super::states::States;
use crate::Delivery;
use crate::broker::{HandlerError, Inbox, in_handler};
use crate::dispatch::CancelReason;

type Result = std::result::Result<(), HandlerError>;

/// A message that a task handles.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) delivery: Delivery,
    pub(super) states: Arc<States>,
    pub(super) cancellation: CancellationToken,
    /// Cancelled when the lease is lost: nobody waits for the handler any more.
    lost: CancellationToken,
}

impl Attempt {
    pub(super) fn new(delivery: Delivery, states: Arc<States>) -> Self {
        let (cancellation, lost) = (CancellationToken::new(), CancellationToken::new());
        Self { delivery, states, cancellation, lost }
    }

    /// Tells the handler, if the attempt was cancelled.
    pub(super) fn look(&self) {
        match self.delivery.cancel_reason() {
            None => {}
            Some(CancelReason::LeaseLost) => {
                self.cancellation.cancel();
                self.lost.cancel();
            }
            Some(_) => self.cancellation.cancel(),
        }
    }

    /// Calls the handler, closes what was opened for it, and ends the delivery.
    pub(super) async fn run<A>(
        self: Arc<Self>,
        inbox: Arc<Inbox>,
        handler: Arc<impl AsyncHandler<A>>,
    ) {
        let context = AsyncContext::new(Arc::clone(&self));
        let mut scopes = Scopes::default();
        let trace = Trace::begin(&self.delivery);
        let result = {
            let mut call = pin!(handler.call(&context, &mut scopes));
            let mut lost = pin!(self.lost.cancelled());
            std::future::poll_fn(|task| match trace.poll(call.as_mut(), task) {
                Poll::Pending => lost.as_mut().poll(task).map(|()| {
                    Err(HandlerError::failed("the handler ran beyond its timeout and its grace"))
                }),
                ended => ended,
            })
            .await
        };
        let mut finish = pin!(scopes.finish(result));
        let result = std::future::poll_fn(|task| trace.poll(finish.as_mut(), task)).await;
        trace.end(result.is_ok());
        // It is nobody's loss where it was settled or lost before.
        let _ = inbox.finish(&self.delivery, result);
    }
}

/// The span of an attempt, where there are any of OpenTelemetry.
struct Trace(#[cfg(feature = "opentelemetry")] opentelemetry::Context);

impl Trace {
    fn begin(delivery: &Delivery) -> Self {
        let _ = delivery;
        Self(
            #[cfg(feature = "opentelemetry")]
            delivery.shared.telemetry.process(delivery),
        )
    }

    fn end(&self, succeeded: bool) {
        let _ = succeeded;
        #[cfg(feature = "opentelemetry")]
        crate::broker::end_span(&self.0, succeeded);
    }

    /// Polls a handler's code: what it panics of is a failure, and calls that would wait for it are refused.
    fn poll(
        &self,
        code: Pin<&mut impl Future<Output = Result>>,
        task: &mut Context<'_>,
    ) -> Poll<Result> {
        #[cfg(feature = "opentelemetry")]
        let _guard = self.0.clone().attach();
        in_handler(|| code.poll(task)).unwrap_or_else(|panic| {
            Poll::Ready(Err(HandlerError::failed(format!("the handler panicked: {panic}"))))
        })
    }
}
