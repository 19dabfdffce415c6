//! Deliveries: messages in somebody's hands.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::handler::{Failure, HandlerError};
use super::message::{Message, TRACEPARENT};
use super::shared::Shared;
use crate::buffer::{Outcome, State, Write};
use crate::clock::Moment;
use crate::dispatch::{CancelReason, Flight};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Level;
use crate::latch::Latch;
use crate::limits;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What a message without one is said to be.
const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";

/// A message that is held: by a handler, or by who received it. Settled exactly once.
///
/// Dropped unsettled it is released; dropped while its thread panics it is a failed attempt. Any thread may use it.
pub struct Delivery {
    pub(crate) shared: Arc<Shared>,
    pub(crate) flight: Arc<Flight>,
    children: Latch<Children>,
    /// Whether somebody has seen to its end. Relaxed: what is settled, and how, is decided in the message's slot.
    settled: AtomicBool,
}

/// What is enqueued with the ack.
#[derive(Debug, Default)]
struct Children {
    messages: Vec<Message<'static>>,
    /// Of their bodies and headers.
    bytes: usize,
    /// Places taken for them, beside the message's own.
    places: usize,
    /// There was no room for one.
    refused: bool,
    /// The delivery was settled: no more of them.
    over: bool,
}

/// Why a message is not enqueued with the ack.
enum Refusal {
    Settled,
    Many,
    /// They would be so many bytes.
    Large(usize),
    Full,
    /// Its queue would be one too many.
    Queue(Error),
}

impl Children {
    /// Adds one, of at most `most` bytes together.
    fn add(
        &mut self,
        message: Message<'static>,
        most: usize,
        state: &State,
    ) -> std::result::Result<(), Refusal> {
        if self.over {
            return Err(Refusal::Settled);
        }
        if self.messages.len() >= limits::BATCH_MESSAGES_MAX {
            return Err(Refusal::Many);
        }
        let bytes = self.bytes.saturating_add(message.size());
        if !self.messages.is_empty() {
            if bytes > most {
                return Err(Refusal::Large(bytes));
            }
            // The first child takes the message's own place.
            if !state.room.take(1) {
                self.refused = true;
                return Err(Refusal::Full);
            }
            self.places += 1;
        }
        // Too many queues are found now and not with the ack.
        state.queues.named(&message.queue).map_err(Refusal::Queue)?;
        self.bytes = bytes;
        self.messages.push(message);
        Ok(())
    }
}

impl Delivery {
    pub(crate) fn new(shared: Arc<Shared>, flight: Arc<Flight>) -> Self {
        Self { shared, flight, children: Latch::default(), settled: AtomicBool::new(false) }
    }

    /// The message's id: its position in the log.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.flight.taken.id
    }

    /// The queue it came from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.flight.queue().name
    }

    /// The body, as it was enqueued.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.flight.body()
    }

    /// What the body is; `application/octet-stream` unless said otherwise.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.flight.content_type().unwrap_or(DEFAULT_CONTENT_TYPE)
    }

    /// The id that follows the work from message to message.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.flight.entry().and_then(|entry| entry.correlation_id)
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The headers, in the order they were given.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.flight.entry().into_iter().flat_map(|entry| entry.headers())
    }

    /// The number of this attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.flight.taken.attempt
    }

    /// Retries after the first attempt.
    #[must_use]
    pub fn max_retries(&self) -> u32 {
        self.flight.max_retries()
    }

    /// A number that is larger for every later lease, for fencing outside effects.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.flight.taken.token
    }

    /// When it was enqueued, or replaced.
    #[must_use]
    pub fn enqueued_at(&self) -> SystemTime {
        self.flight.entry().map_or(Moment::default(), |entry| entry.head.enqueued_at).to_system()
    }

    /// Until when it is held.
    #[must_use]
    pub fn deadline(&self) -> SystemTime {
        self.flight.lease.term().deadline.to_system()
    }

    /// Whether the attempt was cancelled.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.cancel_reason().is_some()
    }

    /// Why the attempt was cancelled, if it was.
    #[must_use]
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.flight.lease.term().reason
    }

    /// Sleeps until cancelled, at most for `time`; answers whether it is.
    #[must_use]
    pub fn wait_cancelled(&self, time: Duration) -> bool {
        self.flight.lease.wait_cancelled(time)
    }

    /// Moves the deadline to `time` from now, if that is later; at most 24 hours.
    ///
    /// # Errors
    /// `STALE_LEASE` once the lease is lost, or the attempt was cancelled with [`CancelReason::Shutdown`]; `UNSUPPORTED`
    /// where the handler does not allow it, `INVALID`, `CLOSED`, `FORKED`.
    pub fn extend(&self, time: Duration) -> Result<()> {
        self.shared.check_open()?;
        self.shared.engine.extend(&self.flight, time)
    }

    /// Enqueues a message together with this one's ack, or not at all. It inherits the correlation id and the header
    /// `traceparent` unless it has its own.
    ///
    /// # Errors
    /// What [`Broker::enqueue_batch`](crate::Broker::enqueue_batch) answers for all of them together, at once; `FULL` does
    /// not wait for room here. `STALE_LEASE` once the delivery was settled or its lease was lost.
    pub fn enqueue(&self, message: Message<'_>) -> Result<()> {
        self.shared.check_open()?;
        self.shared.check_message(&message)?;
        let mut message = message.into_owned();
        let has_own = message.rare.as_ref().is_some_and(|rare| rare.correlation_id.is_some());
        if let Some(id) = self.correlation_id().filter(|_| !has_own) {
            message = message.correlation_id(id.to_owned());
        }
        if let Some(parent) =
            current_trace().or_else(|| self.header(TRACEPARENT).map(str::to_owned))
            && !message.is_traced()
        {
            message = message.header(TRACEPARENT, parent);
        }
        if !self.flight.lease.is_held() {
            return Err(Error::stale_lease());
        }
        let (most, state) = (self.shared.options.max_batch_bytes, &self.shared.engine.buffer.state);
        self.shared.engine.buffer.make_room(1);
        let added = self.children.take().add(message, most, state);
        added.map_err(|refusal| match refusal {
            Refusal::Settled => Error::stale_lease(),
            Refusal::Many => Error::invalid("a delivery enqueues at most 10000 messages"),
            Refusal::Large(bytes) => Error::new(
                ErrorKind::TooLarge,
                format!(
                    "what is enqueued with the ack is {bytes} bytes, but max_batch_bytes is {most}"
                ),
            ),
            Refusal::Full => state.room.full(1),
            Refusal::Queue(error) => error,
        })
    }

    /// Refuses everything to its broker from now on, as [`Broker::poison`](crate::Broker::poison) does.
    #[doc(hidden)]
    pub fn poison(&self, why: &str) {
        self.shared.poison(why);
    }

    /// As [`Delivery::poison`], for who has not got the delivery any more by then.
    #[doc(hidden)]
    pub fn poisoner(&self) -> impl FnOnce(&str) + use<> {
        let shared = Arc::clone(&self.shared);
        move |why| shared.poison(why)
    }

    /// Done. What was enqueued with the delivery is enqueued by the same record.
    ///
    /// # Errors
    /// `STALE_LEASE`: settled before, or the lease was lost; nothing changed. `STORAGE_FULL`, `NO_MEMORY`, `IO`: there is no
    /// place for the record, on the disk, in memory or for want of a file; the message is given back, uncounted, as soon as
    /// there is. `CLOSED`, `FORKED`; `POISONED`: unknown.
    pub fn ack(self) -> Result<()> {
        let end = self.finish_ack(Write::Now)?;
        self.shared.engine.buffer.journal.commit(Level::Os, end)
    }

    /// Failed: tried again after `delay`, up to ten years, or after the backoff.
    ///
    /// # Errors
    /// As [`Delivery::ack`]; `INVALID` for a longer delay, and the message is given back, uncounted.
    pub fn retry(self, delay: impl Into<Option<Duration>>) -> Result<()> {
        self.retry_because(delay, "")
    }

    /// Failed, with a text of which 4 KiB are kept with a dead letter.
    ///
    /// # Errors
    /// As [`Delivery::retry`].
    pub fn retry_because(self, delay: impl Into<Option<Duration>>, error: &str) -> Result<()> {
        let delay = delay.into();
        check_delay(delay.unwrap_or_default())?;
        let end = self.finish_failed(delay, error)?;
        self.shared.engine.buffer.journal.commit(Level::Os, end)
    }

    /// A failed attempt that counts as the handler's error: for the bindings, whose handlers settle from outside.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    #[doc(hidden)]
    pub fn fail(self, error: &str) -> Result<()> {
        self.settle(Err(HandlerError::failed(error)))
    }

    /// To the dead letters, for this reason, of which 4 KiB are kept.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn reject(self, reason: &str) -> Result<()> {
        let end = self.finish_rejected(reason, "")?;
        self.shared.engine.buffer.journal.commit(Level::Os, end)
    }

    /// Settles as a handler's answer does, and stays readable: for the bindings, whose objects outlive the settling.
    ///
    /// # Errors
    /// As [`Delivery::ack`], but after `STORAGE_FULL` it is held as before; `INVALID` for a delay.
    #[doc(hidden)]
    pub fn settle(&self, result: std::result::Result<(), HandlerError>) -> Result<()> {
        if let Err(HandlerError(failure)) = &result {
            check_delay(failure.delay().unwrap_or_default())?;
            self.count_error(failure);
        }
        let end = self.finish_with(&result, Write::Now)?;
        self.shared.engine.buffer.journal.commit(Level::Os, end)
    }

    /// The handler has failed by itself: counted before anybody can see that its attempt has ended. Of one that was cancelled
    /// that is the cause.
    fn count_error(&self, failure: &Failure) {
        let is_its_own = matches!(failure, Failure::Failed { asked: false, .. });
        if is_its_own && self.cancel_reason().is_none() {
            self.flight.queue().figures.handler_errors.up();
        }
    }

    /// As [`Delivery::conclude`], by the worker that runs the handler, and takes the next message: where it answers something,
    /// the worker has kept its permit.
    pub(crate) fn conclude_and_go_on(
        &self,
        result: std::result::Result<(), HandlerError>,
    ) -> Option<u64> {
        self.flight.keep_permit(true);
        self.conclude(result).ok().flatten()
    }

    /// Ends the attempt as its handler says; answers what has still to be written. None where the disk has no room for
    /// that now: it is kept, and tried again until there is.
    pub(crate) fn conclude(
        &self,
        result: std::result::Result<(), HandlerError>,
    ) -> Result<Option<u64>> {
        if let Err(HandlerError(failure)) = &result {
            self.count_error(failure);
        }
        match self.finish_with(&result, Write::Later) {
            Err(error) if error.has_logged_nothing() => {
                self.flight.keep_permit(false);
                let held = self.successor();
                let end = Box::new(move || held.finish_with(&result, Write::Later));
                self.shared.engine.owe(&self.flight, end);
                Ok(None)
            }
            end => end.map(Some),
        }
    }

    /// Ends the attempt as its handler says; answers what has still to be written.
    fn finish_with(
        &self,
        result: &std::result::Result<(), HandlerError>,
        write: Write,
    ) -> Result<u64> {
        let failure = match result {
            Ok(()) => return self.finish_ack(write),
            Err(HandlerError(failure)) => failure,
        };
        match failure {
            Failure::Failed { delay, error, .. } => self.finish_failed(*delay, error),
            Failure::Rejected { reason, error } => self.finish_rejected(reason, error),
            Failure::Released { delay } => self.finish_release(*delay),
        }
    }

    /// Neither settled nor given back: it is held until its lease runs out. For the bindings, in whose languages nobody
    /// says when something is dropped.
    #[doc(hidden)]
    pub fn let_lapse(&self) {
        self.settled.store(true, Ordering::Relaxed);
        self.give_up(self.take_children());
    }

    /// Where it stands among what its loop has taken, from 1; see [`Inbox::put_gate`](super::inbox::Inbox::put_gate).
    #[doc(hidden)]
    pub fn stand_at(&self, place: u64) {
        self.flight.stand_at(place);
    }

    /// Its loop turns to something else before it enters this one's handler.
    #[doc(hidden)]
    pub fn put_off(&self) {
        self.flight.put_off();
    }

    /// Its handler is entered now, and its time begins; false where it was given back meanwhile.
    #[doc(hidden)]
    #[must_use]
    pub fn enter(&self) -> bool {
        self.shared.engine.enter(&self.flight)
    }

    /// Given back, and ready again after `delay`, up to ten years; not counted as an attempt. Without a delay it is handed
    /// out again at once, as fast as the machine goes: give one where something is not there yet.
    ///
    /// # Errors
    /// As [`Delivery::retry`].
    pub fn release(self, delay: Duration) -> Result<()> {
        check_delay(delay)?;
        let end = self.finish_release(delay)?;
        self.shared.engine.buffer.journal.commit(Level::Os, end)
    }

    /// Acks; answers what has still to be written.
    fn finish_ack(&self, write: Write) -> Result<u64> {
        self.settled.store(true, Ordering::Relaxed);
        let children = self.take_children();
        let mut places = children.places;
        let window = self.flight.dedup_window();
        let open = self.shared.check_open();
        let result = open.and_then(|()| {
            self.shared.with_new_messages(&children.messages, None, None, |messages| {
                let given = std::mem::take(&mut places);
                self.shared.engine.settle(
                    &self.flight,
                    Outcome::Ack { children: messages, places: given, window },
                    write,
                )
            })
        });
        let room = &self.shared.engine.buffer.state.room;
        match result {
            Err(error) if error.has_logged_nothing() => {
                // What was given was given back.
                room.force(children.places - places);
                self.unsettle(children);
                return Err(error);
            }
            _ if places > 0 => room.free(places),
            _ => {}
        }
        Ok(result?.end)
    }

    /// Fails the attempt, as the reason of its cancellation says; answers what has still to be written.
    pub(crate) fn finish_failed(&self, delay: Option<Duration>, error: &str) -> Result<u64> {
        match self.cancel_reason() {
            Some(CancelReason::Shutdown) => return self.finish_release(Duration::ZERO),
            None if self.children.take().refused => {
                let backoff = || self.shared.engine.backoff(&self.flight);
                return self.finish_release(delay.unwrap_or_else(backoff));
            }
            _ => {}
        }
        let outcome = self.shared.engine.failure(&self.flight, delay, cut(error));
        self.finish(outcome)
    }

    /// To the dead letters, unless a stop is why it ends; answers what has still to be written.
    fn finish_rejected(&self, reason: &str, error: &str) -> Result<u64> {
        if self.cancel_reason() == Some(CancelReason::Shutdown) {
            return self.finish_failed(None, reason);
        }
        self.finish(Outcome::Reject { reason: cut(reason), error: cut(error) })
    }

    pub(crate) fn finish_release(&self, delay: Duration) -> Result<u64> {
        let due = self.shared.engine.due_after(delay);
        self.finish(Outcome::Release { due })
    }

    /// Settles without the children, whose places are given back.
    pub(crate) fn finish(&self, outcome: Outcome<'_>) -> Result<u64> {
        self.settled.store(true, Ordering::Relaxed);
        let children = self.take_children();
        let open = self.shared.check_open();
        match open.and_then(|()| self.shared.engine.settle(&self.flight, outcome, Write::Later)) {
            Err(error) if error.has_logged_nothing() => {
                self.unsettle(children);
                Err(error)
            }
            settled => {
                self.give_up(children);
                Ok(settled?.end)
            }
        }
    }

    /// As it was before it was settled: the disk had no room for that.
    fn unsettle(&self, children: Children) {
        *self.children.take() = children;
        self.settled.store(false, Ordering::Relaxed);
    }

    /// Another one in its place, with what is to be enqueued with the ack. This one ends nothing any more.
    fn successor(&self) -> Self {
        self.settled.store(true, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
            flight: Arc::clone(&self.flight),
            children: Latch::new(self.take_children()),
            settled: AtomicBool::new(true),
        }
    }

    /// Forgets what was to be enqueued with the ack.
    fn give_up(&self, children: Children) {
        if children.places > 0 {
            self.shared.engine.buffer.state.room.free(children.places);
        }
    }

    /// What was to be enqueued with the ack; from now on nothing is.
    fn take_children(&self) -> Children {
        let over = Children { over: true, ..Children::default() };
        std::mem::replace(&mut *self.children.take(), over)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.settled.load(Ordering::Relaxed) {
            return;
        }
        // There is nobody to tell: what cannot be settled now is settled by the end of its lease, or by the next open.
        let end = self.conclude(Err(if std::thread::panicking() {
            HandlerError::retry_because(None, "the delivery was dropped in a panic")
        } else {
            HandlerError::release(Duration::ZERO)
        }));
        if let Ok(Some(end)) = end {
            let _ = self.shared.engine.buffer.journal.commit(Level::Os, end);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({} of {}, attempt {})", self.id(), self.queue(), self.attempt())
    }
}

/// A delivery as its handler sees it: everything but the settling, which is the handler's return.
#[derive(Debug)]
pub struct Context {
    delivery: Delivery,
}

impl Context {
    pub(crate) fn new(delivery: Delivery) -> Self {
        Self { delivery }
    }

    pub(crate) fn into_delivery(self) -> Delivery {
        self.delivery
    }
}

impl std::ops::Deref for Context {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.delivery
    }
}

/// The trace of what this thread is doing, where OpenTelemetry knows.
fn current_trace() -> Option<String> {
    #[cfg(feature = "opentelemetry")]
    return super::telemetry::traceparent(&opentelemetry::Context::current());
    #[cfg(not(feature = "opentelemetry"))]
    None
}

fn check_delay(delay: Duration) -> Result<()> {
    if delay > limits::DURATION_MAX {
        return Err(Error::invalid("delay is above ten years"));
    }
    Ok(())
}

/// Cuts a text to what is kept of it.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(limits::ERROR_TEXT_BYTES_MAX)).unwrap_or_default()
}
