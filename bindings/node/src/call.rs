//! Calls that may wait for long, each on a thread of its own: to open, stop, close, or come to rest, and whatever reads
//! or writes the disk and is not an enqueue or a settle.

use std::sync::Arc;

use libmq::{Broker, Error, ErrorKind, Interrupt};

use crate::boundary::{caught, guarded};
use crate::broker::NativeBroker;
use crate::done::Value;
use crate::environment::Inner;

/// The number of no promise, for a call that nobody waits for.
pub(crate) const NO_PROMISE: f64 = 0.0;

/// What a call does on its thread.
pub(crate) type Call = Box<dyn FnOnce() + Send>;

/// Whether a call gets a thread at once, though there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// When one of those that are under way has ended.
    InTurn,
    /// At once: others may be waiting for what it does.
    AtOnce,
}

/// Runs a call on a thread, and keeps its promise.
pub(crate) fn run(
    environment: &Arc<Inner>,
    promise: f64,
    urgency: Urgency,
    work: impl FnOnce() -> libmq::Result<Value> + Send + 'static,
) {
    let inner = Arc::clone(environment);
    let call = Box::new(move || {
        let result = caught(work).and_then(|result| result);
        inner.done(promise, result);
    });
    let Some(call) = environment.call_begins(call, urgency) else { return };
    let inner = Arc::clone(environment);
    let calls = move || {
        let mut next = Some(call);
        while let Some(call) = next {
            call();
            next = inner.call_ends();
        }
    };
    let spawned = std::thread::Builder::new().name("libmq-node".into()).spawn(calls);
    if let Err(cause) = spawned {
        environment.call_fails();
        let text = format!("no thread could be started for this call: {cause}");
        environment.done(promise, Err(Error::new(ErrorKind::NoMemory, text)));
    }
}

impl NativeBroker {
    /// Runs a call of the broker, which an interrupt ends with the environment.
    pub(crate) fn call(
        &self,
        promise: f64,
        urgency: Urgency,
        work: impl FnOnce(&Broker, &Interrupt) -> libmq::Result<Value> + Send + 'static,
    ) {
        let (broker, environment) =
            (self.opened.owner.broker.clone(), Arc::clone(&self.environment));
        run(&self.environment, promise, urgency, move || {
            let (number, interrupt) = environment.interruptible(&broker);
            let result = guarded(&broker, || work(&broker, &interrupt));
            environment.forget_interrupt(number);
            result
        });
    }
}
