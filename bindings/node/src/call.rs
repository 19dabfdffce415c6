//! Calls that may wait for long, each on a thread of its own: to open, stop, close, or come to rest, and whatever reads
//! or writes the disk and is not an enqueue or a settle.

use std::sync::Arc;

use libmq::{Broker, Error, ErrorKind, Interrupt};

use crate::boundary::{caught, guarded};
use crate::done::Value;
use crate::environment::Inner;

/// The number of no promise, for a call that nobody waits for.
pub(crate) const NO_PROMISE: f64 = 0.0;

/// Runs a call of a broker on a thread, and keeps its promise.
pub(crate) fn spawn(
    environment: &Arc<Inner>,
    broker: &Broker,
    promise: f64,
    work: impl FnOnce(&Broker, &Interrupt) -> libmq::Result<Value> + Send + 'static,
) {
    let (number, interrupt) = environment.interruptible(broker);
    let (broker, waiting) = (broker.clone(), Arc::clone(environment));
    run(environment, promise, move || {
        let result = guarded(&broker, || work(&broker, &interrupt));
        waiting.forget_interrupt(number);
        result
    });
}

/// Runs a call on a thread, and keeps its promise.
pub(crate) fn run(
    environment: &Arc<Inner>,
    promise: f64,
    work: impl FnOnce() -> libmq::Result<Value> + Send + 'static,
) {
    if let Err(error) = environment.call_begins() {
        return environment.done(promise, Err(error));
    }
    let inner = Arc::clone(environment);
    let call = move || {
        let result = caught(work).and_then(|result| result);
        inner.done(promise, result);
        inner.call_ends();
    };
    let spawned = std::thread::Builder::new().name("libmq-node".into()).spawn(call);
    if let Err(cause) = spawned {
        environment.call_ends();
        let text = format!("no thread could be started for this call: {cause}");
        environment.done(promise, Err(Error::new(ErrorKind::NoMemory, text)));
    }
}
