//! Enqueues: begun on the loop, brought to their durability by the loop where that is a write, else by the clerk.

use std::ops::Deref;
use std::time::{Duration, Instant, UNIX_EPOCH};

use libmq::{Begun, Broker, Dedup, Message, ReceiptStatus};
use napi::bindgen_prelude::{Array, Either, ToNapiValue, Uint8ArraySlice, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::bodies::JSON;
use crate::boundary::{duration, guarded, thrown, whole};
use crate::broker::NativeBroker;
use crate::done::receipt_list;
use crate::options::level;

/// A body: text, which JavaScript made of what it was given, or bytes.
pub(crate) type Body<'a> = Either<String, Uint8ArraySlice<'a>>;

/// What an enqueue answers beside the number of a promise, which is positive.
const HANDED_ON: f64 = -1.0;
const REACHED: f64 = 0.0;
const UNWRITTEN: f64 = -2.0;

/// A message's options; times in milliseconds.
#[napi(object)]
#[derive(Clone, Debug, Default)]
pub struct Extra {
    pub content_type: Option<String>,
    pub dedup_key: Option<String>,
    pub dedup: Option<String>,
    pub dedup_window: Option<f64>,
    pub correlation_id: Option<String>,
    /// Names and values in turn.
    pub headers: Option<Vec<String>>,
    pub delay: Option<f64>,
    pub run_at: Option<f64>,
    pub expires_in: Option<f64>,
    pub priority: Option<f64>,
    pub group: Option<String>,
    pub durability: Option<String>,
}

/// A message with everything its own.
#[derive(Debug)]
struct Owned {
    queue: String,
    body: Either<String, Vec<u8>>,
    extra: Option<Extra>,
}

#[napi]
impl NativeBroker {
    /// The function `enqueue(promise, queue, body, extra, gathers)`. It enqueues a message. [`REACHED`]: its receipt lies on
    /// the desk, and that is all. [`UNWRITTEN`], where it `gathers` what only has to be written: the receipt lies there, and
    /// [`NativeBroker::write`] is to be called. The number of a promise: the receipt lies there, and the promise, which
    /// others may wait for, too, is kept when the message has reached its durability. [`HANDED_ON`]: the promise that was given
    /// will bring the receipt.
    ///
    /// A function of its own, as [`Environment::taker`](crate::environment::Environment::taker)'s.
    #[napi(catch_unwind)]
    pub fn enqueuer<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let broker = self.clone();
        let enqueue = env.create_function_from_closure::<(), _, _>("enqueue", move |call| {
            let body: Body<'_> = call.get(2)?;
            broker.enqueue(call.get(0)?, call.get(1)?, &body, call.get(3)?, call.get(4)?)
        });
        enqueue?.into_unknown(env)
    }

    /// Writes what was gathered.
    #[napi(catch_unwind)]
    pub fn write(&self) -> Result<()> {
        let Some(begun) = self.gathered.take() else { return Ok(()) };
        guarded(&self.opened.owner.broker, || begun.reach()).map_err(thrown)
    }

    /// Enqueues a batch, whose messages' parts are in two lists. Answers the receipts as a flat list of id and
    /// status, and last what [`NativeBroker::enqueuer`]'s function does; nothing, where the promise will bring them.
    #[napi(catch_unwind)]
    pub fn enqueue_many<'env>(
        &self,
        env: &'env Env,
        promise: f64,
        queue: String,
        bodies: Vec<Body<'env>>,
        extras: Vec<Option<Extra>>,
        gathers: bool,
    ) -> Result<Array<'env>> {
        let parts = || bodies.iter().zip(&extras);
        let messages: Vec<Message<'_>> =
            parts().map(|(body, extra)| message(&queue, body, extra.as_ref())).collect();
        let begun = self.begin(|broker, waits| {
            // A batch of nothing names a queue all the same.
            broker.check_queue(&queue)?;
            broker.begin_enqueue_batch(&messages, waits)
        });
        let Some(begun) = begun? else {
            let owned = parts().map(|(body, extra)| Owned::new(queue.clone(), body, extra.clone()));
            self.hand_to_clerk(owned.collect(), promise);
            return env.create_array(0);
        };
        let mut answer = receipt_list(env, begun.receipts())?;
        answer.insert(self.reach(begun, promise, gathers)?)?;
        Ok(answer)
    }
}

impl NativeBroker {
    /// As [`NativeBroker::enqueuer`] says.
    fn enqueue(
        &self,
        promise: f64,
        queue: String,
        body: &Body<'_>,
        extra: Option<Extra>,
        gathers: bool,
    ) -> Result<f64> {
        let begun = self.begin(|broker, waits| {
            broker.begin_enqueue(&message(&queue, body, extra.as_ref()), waits)
        });
        let Some(begun) = begun? else {
            self.hand_to_clerk(vec![Owned::new(queue, body, extra)], promise);
            return Ok(HANDED_ON);
        };
        if let Some(receipt) = begun.receipts().next() {
            self.desk.borrow_mut().receipt(receipt.id, status_number(receipt.status));
        }
        self.reach(begun, promise, gathers)
    }

    /// Gives messages their places, unless that has to wait, for room or for others that do. A handler waits for neither:
    /// its ack may be what would make room.
    fn begin(
        &self,
        begin: impl FnOnce(&Broker, bool) -> libmq::Result<Option<Begun>>,
    ) -> Result<Option<Begun>> {
        let broker = &self.opened.owner.broker;
        let begun = if self.desk.borrow_mut().is_in_handler() {
            guarded(broker, || broker.as_handler(|| begin(broker, false)))
        } else {
            guarded(broker, || begin(broker, self.opened.clerk.has_unbegun()))
        };
        begun.map_err(thrown)
    }

    /// Has what has begun reach its durability, or gathers it; answers as [`NativeBroker::enqueuer`] says.
    fn reach(&self, begun: Begun, promise: f64, gathers: bool) -> Result<f64> {
        if !begun.needs_no_sync() {
            return Ok(self.opened.clerk.reach(&self.environment, begun, promise));
        }
        if gathers {
            let mut gathered = self.gathered.borrow_mut();
            match &mut *gathered {
                Some(others) => others.wait_for(&begun),
                None => *gathered = Some(begun),
            }
            return Ok(UNWRITTEN);
        }
        guarded(&self.opened.owner.broker, || begun.reach()).map_err(thrown)?;
        Ok(REACHED)
    }

    fn hand_to_clerk(&self, owned: Vec<Owned>, promise: f64) {
        let (in_handler, asked) = (self.desk.borrow_mut().is_in_handler(), Instant::now());
        let begin =
            move |broker: &Broker, interrupt: &libmq::Interrupt, first: &mut dyn FnMut()| {
                let messages: Vec<Message<'_>> = owned.iter().map(Owned::message).collect();
                let begin = || broker.begin_enqueue_asked(&messages, asked, interrupt, first);
                if in_handler { broker.as_handler(begin) } else { begin() }
            };
        self.opened.clerk.begin(&self.environment, Box::new(begin), promise);
    }
}

impl Owned {
    fn new(queue: String, body: &Body<'_>, extra: Option<Extra>) -> Self {
        let body = match body {
            Either::A(text) => Either::A(text.clone()),
            Either::B(bytes) => Either::B(bytes.to_vec()),
        };
        Self { queue, body, extra }
    }

    fn message(&self) -> Message<'_> {
        message(&self.queue, &self.body, self.extra.as_ref())
    }
}

/// What a receipt's status is on the desk.
fn status_number(status: ReceiptStatus) -> u8 {
    match status {
        ReceiptStatus::Accepted => 0,
        ReceiptStatus::Replaced => 1,
        _ => 2,
    }
}

/// A message of its parts. Text is JSON, unless it is said to be something else.
pub(crate) fn message<'a, Bytes: Deref<Target = [u8]>>(
    queue: &'a str,
    body: &'a Either<String, Bytes>,
    extra: Option<&'a Extra>,
) -> Message<'a> {
    let mut message = match body {
        Either::A(text) => Message::new(queue, text.as_bytes()).content_type(JSON),
        Either::B(bytes) => Message::new(queue, &**bytes),
    };
    let Some(extra) = extra else { return message };
    if let Some(content_type) = &extra.content_type {
        message = message.content_type(content_type);
    }
    if let Some(key) = &extra.dedup_key {
        message = message.dedup_key(key);
    }
    if extra.dedup.as_deref() == Some("keep") {
        message = message.dedup(Dedup::Keep);
    }
    if let Some(window) = extra.dedup_window {
        message = message.dedup_window(duration(window));
    }
    if let Some(id) = &extra.correlation_id {
        message = message.correlation_id(id);
    }
    for pair in extra.headers.as_deref().unwrap_or_default().chunks_exact(2) {
        if let [name, value] = pair {
            message = message.header(name, value);
        }
    }
    if let Some(delay) = extra.delay {
        message = message.delay(duration(delay));
    }
    if let Some(moment) = extra.run_at {
        // Before the epoch is as much now as any other moment that has passed.
        let since = duration(moment.max(0.0)).min(Duration::from_secs(u64::from(u32::MAX) * 64));
        message = message.run_at(UNIX_EPOCH + since);
    }
    if let Some(time) = extra.expires_in {
        message = message.expires_in(duration(time));
    }
    if let Some(priority) = extra.priority {
        message = message.priority(u8::try_from(whole(priority)).unwrap_or(u8::MAX));
    }
    if let Some(group) = &extra.group {
        message = message.group(group);
    }
    if let Some(name) = &extra.durability {
        message = message.durability(level(name));
    }
    message
}
