//! Dead letters, as objects.

use libmq::DeadLetter;
use napi::bindgen_prelude::{BigInt, BufferSlice, Object};
use napi::{Env, Result};
use napi_derive::napi;

use crate::boundary::{epoch_ms, whole_size};
use crate::broker::NativeBroker;
use crate::call::Urgency;
use crate::done::Value;
use crate::settle::flat;

#[napi]
impl NativeBroker {
    /// Lists dead letters.
    #[napi(catch_unwind)]
    pub fn letters(&self, promise: f64, queue: Option<String>, limit: f64, after: Option<BigInt>) {
        let after = after.map(|id| id.get_u64().1);
        self.call(promise, Urgency::InTurn, move |broker, _| {
            let letters = broker.dead_letters().list(queue.as_deref(), whole_size(limit), after)?;
            Ok(Value::Letters(letters))
        });
    }

    /// The dead letter of an id, or none.
    #[napi(catch_unwind)]
    pub fn letter(&self, promise: f64, id: BigInt) {
        let id = id.get_u64().1;
        self.call(promise, Urgency::InTurn, move |broker, _| {
            Ok(Value::Letter(broker.dead_letters().get(id)?))
        });
    }

    /// Replays one.
    #[napi(catch_unwind)]
    pub fn replay(&self, promise: f64, id: BigInt) {
        let id = id.get_u64().1;
        self.call(promise, Urgency::InTurn, move |broker, _| {
            Ok(Value::Receipts(vec![broker.dead_letters().replay(id)?]))
        });
    }

    /// Replays all of a queue, or all.
    #[napi(catch_unwind)]
    pub fn replay_all(&self, promise: f64, queue: Option<String>) {
        self.call(promise, Urgency::InTurn, move |broker, _| {
            Ok(Value::Count(broker.dead_letters().replay_all(queue.as_deref())?))
        });
    }

    /// Removes all of a queue, or all.
    #[napi(catch_unwind)]
    pub fn purge_letters(&self, promise: f64, queue: Option<String>) {
        self.call(promise, Urgency::InTurn, move |broker, _| {
            Ok(Value::Count(broker.dead_letters().purge(queue.as_deref())?))
        });
    }

    /// Counts them.
    #[napi(catch_unwind)]
    pub fn count_letters(&self, promise: f64) {
        self.call(promise, Urgency::InTurn, |broker, _| {
            Ok(Value::Count(broker.dead_letters().count()?))
        });
    }
}

/// A dead letter as an object.
pub(crate) fn letter_object<'env>(env: &'env Env, letter: &DeadLetter) -> Result<Object<'env>> {
    let mut object = Object::new(env)?;
    object.set("id", BigInt::from(letter.id()))?;
    object.set("queue", letter.queue())?;
    object.set("reason", letter.reason())?;
    object.set("error", letter.error())?;
    object.set("attempts", letter.attempts())?;
    object.set("failedAt", epoch_ms(letter.failed_at()))?;
    object.set("raw", BufferSlice::copy_from(env, letter.body())?)?;
    object.set("contentType", letter.content_type())?;
    object.set("correlationId", letter.correlation_id())?;
    object.set("headers", flat(env, letter.headers())?)?;
    Ok(object)
}
