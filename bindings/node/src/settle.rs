//! What JavaScript does with a delivery: looks at it, extends it, enqueues with it, ends it.

use libmq::{ErrorKind, HandlerError};
use napi::bindgen_prelude::{Array, BigInt, BufferSlice, Object};
use napi::{Env, Result};
use napi_derive::napi;

use crate::boundary::{duration, epoch_ms, thrown};
use crate::enqueue::{Body, Extra, message};
use crate::environment::{Environment, lock};

#[napi]
impl Environment {
    /// Ends a handler's delivery as its answer says, and forgets it; false if its lease was lost, or its broker closed, and
    /// nothing has changed.
    #[napi(catch_unwind)]
    pub fn finish(&self, number: f64, outcome: String, text: String, delay: f64) -> Result<bool> {
        self.end(number, answer(&outcome, text, delay)).map_err(thrown)
    }

    /// Settles a pulled delivery and forgets it, unless that has to be tried again; it is written when this returns, which
    /// waits for no sync.
    #[napi(catch_unwind)]
    pub fn settle(&self, number: f64, outcome: String, text: String, delay: f64) -> Result<()> {
        let mut runs = lock(&self.inner.runs);
        let run = runs.of(number).map_err(thrown)?;
        let (broker, result) = (run.broker, answer(&outcome, text, delay));
        let settled = self.guard(broker, || run.delivery.settle(result));
        if settled.as_ref().err().is_none_or(|error| is_over(error.kind())) {
            runs.take(number).map_err(thrown)?;
        }
        settled.map_err(thrown)
    }

    /// Nobody has a pulled delivery any more: its lease runs out.
    #[napi(catch_unwind)]
    pub fn lapse(&self, number: f64) {
        if let Ok(run) = lock(&self.inner.runs).take(number) {
            run.delivery.let_lapse();
        }
    }

    /// Gives back what was pulled from a broker that this environment leaves.
    #[napi(catch_unwind)]
    pub fn give_back(&self, broker: u32) {
        let mut runs = lock(&self.inner.runs);
        for number in runs.numbers(|run| run.broker == broker) {
            drop(runs.take(number));
        }
    }

    /// What is known of a delivery beside its number, id, attempt and body.
    #[napi(catch_unwind)]
    pub fn describe<'env>(&self, env: &'env Env, number: f64) -> Result<Object<'env>> {
        let mut runs = lock(&self.inner.runs);
        let delivery = &runs.of(number).map_err(thrown)?.delivery;
        let mut object = Object::new(env)?;
        object.set("queue", delivery.queue())?;
        object.set("maxRetries", delivery.max_retries())?;
        object.set("token", BigInt::from(delivery.token()))?;
        object.set("contentType", delivery.content_type())?;
        object.set("correlationId", delivery.correlation_id())?;
        object.set("enqueuedAt", epoch_ms(delivery.enqueued_at()))?;
        object.set("headers", flat(env, delivery.headers())?)?;
        Ok(object)
    }

    /// The body as it was enqueued.
    #[napi(catch_unwind)]
    pub fn raw<'env>(&self, env: &'env Env, number: f64) -> Result<BufferSlice<'env>> {
        let mut runs = lock(&self.inner.runs);
        let delivery = &runs.of(number).map_err(thrown)?.delivery;
        BufferSlice::copy_from(env, delivery.body())
    }

    /// Until when a delivery is held, in milliseconds since the epoch.
    #[napi(catch_unwind)]
    pub fn deadline(&self, number: f64) -> Result<f64> {
        let mut runs = lock(&self.inner.runs);
        Ok(epoch_ms(runs.of(number).map_err(thrown)?.delivery.deadline()))
    }

    /// Why an attempt was cancelled, if it was.
    #[napi(catch_unwind)]
    pub fn cancel_reason(&self, number: f64) -> Result<Option<String>> {
        let mut runs = lock(&self.inner.runs);
        let reason = runs.of(number).map_err(thrown)?.delivery.cancel_reason();
        Ok(reason.map(|reason| reason.name().into()))
    }

    /// Moves the deadline of a delivery out.
    #[napi(catch_unwind)]
    pub fn extend(&self, number: f64, time: f64) -> Result<()> {
        let mut runs = lock(&self.inner.runs);
        let run = runs.of(number).map_err(thrown)?;
        self.guard(run.broker, || run.delivery.extend(duration(time))).map_err(thrown)
    }

    /// Enqueues a message with the ack of a delivery.
    #[napi(catch_unwind)]
    pub fn enqueue_with(
        &self,
        number: f64,
        queue: String,
        body: Body<'_>,
        extra: Option<Extra>,
    ) -> Result<()> {
        let message = message(&queue, &body, extra.as_ref());
        let mut runs = lock(&self.inner.runs);
        let run = runs.of(number).map_err(thrown)?;
        self.guard(run.broker, || run.delivery.enqueue(message)).map_err(thrown)
    }
}

impl Environment {
    /// Ends a handler's delivery; false if its lease was lost, or its broker closed.
    pub(crate) fn end(
        &self,
        number: f64,
        result: std::result::Result<(), HandlerError>,
    ) -> libmq::Result<bool> {
        let Ok(run) = lock(&self.inner.runs).take(number) else { return Ok(false) };
        let inbox = run.inbox.and_then(|ear| lock(&self.inner.ears).inbox(ear));
        let ended = self.guard(run.broker, || match inbox {
            Some((inbox, _)) => inbox.finish(&run.delivery, result),
            // Its handler was replaced, or its broker closed.
            None => run.delivery.settle(result),
        });
        match ended {
            Ok(()) => Ok(true),
            Err(error) if is_too_late(error.kind()) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a delivery had left who ended it, as far as they know: its lease was lost, or its broker closed.
pub(crate) fn is_too_late(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StaleLease | ErrorKind::Closed)
}

/// Whether a delivery whose settling failed so is in nobody's hands any more; else it is held as before.
fn is_over(kind: ErrorKind) -> bool {
    is_too_late(kind) || matches!(kind, ErrorKind::Poisoned | ErrorKind::Panic)
}

/// Names and values as a flat list.
pub(crate) fn flat<'env, 'a>(
    env: &'env Env,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Array<'env>> {
    let mut list = env.create_array(0)?;
    for (name, value) in headers {
        list.insert(name)?;
        list.insert(value)?;
    }
    Ok(list)
}

/// What a handler, or who settles, asks for; a negative delay is none.
fn answer(outcome: &str, text: String, delay: f64) -> std::result::Result<(), HandlerError> {
    let delay = (delay >= 0.0).then(|| duration(delay));
    match outcome {
        "" => Ok(()),
        "retry" => Err(HandlerError::retry_because(delay, text)),
        "reject" => Err(HandlerError::reject(text)),
        "release" => Err(HandlerError::release(delay.unwrap_or_default())),
        "decode" => Err(HandlerError::undecodable(text)),
        _ => Err(HandlerError::failed(text)),
    }
}
