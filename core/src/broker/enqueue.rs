//! Enqueueing: by callers that wait, and by those that cannot.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::begun::Begun;
use super::broker::Broker;
use super::clerk::{Answer, Done};
use super::handlers::is_in_handler;
use super::message::{Message, Receipt};
use super::options::OnFull;
use super::shared::Shared;
use crate::buffer::{self, Enqueued, Few, NewMessage, Queue};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Span, detail, span};
use crate::interrupt::Interrupt;
use crate::limits;
use crate::sync::{Arc, Mutex};

/// An enqueue under way: the future of [`Broker::enqueue_async`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Enqueueing<'a>(Stage<'a>);

#[derive(Debug)]
enum Stage<'a> {
    New(Broker, Message<'a>),
    Begun(Reaching),
    Waits(Arc<Mutex<Answer>>),
    Over,
}

/// An enqueue that has begun, and waits for its durability.
#[derive(Debug)]
struct Reaching {
    begun: Begun,
    /// Who will be woken for it.
    waker: Option<Waker>,
}

/// How far an enqueue has come without waiting.
#[derive(Debug)]
pub(super) enum Beginning {
    Begun(buffer::Begun),
    /// Not at all, and nothing has happened.
    Not(Message<'static>),
}

impl<'a> Enqueueing<'a> {
    pub(super) fn new(broker: Broker, message: Message<'a>) -> Self {
        Self(Stage::New(broker, message))
    }
}

impl Future for Enqueueing<'_> {
    type Output = Result<Receipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // In its place: to move it out and back for each look has its price where a thousand are under way.
        let stage = &mut self.get_mut().0;
        if matches!(stage, Stage::New(..))
            && let Stage::New(broker, message) = std::mem::replace(stage, Stage::Over)
        {
            *stage = start(broker, message)?;
        }
        let outcome = match stage {
            Stage::Begun(reaching) => reaching.poll(context),
            Stage::Waits(answer) => Answer::poll(answer, context),
            Stage::New(..) | Stage::Over => {
                let text = "the future of an enqueue was polled after it was done";
                return Poll::Ready(Err(Error::invalid(text)));
            }
        };
        if outcome.is_ready() {
            *stage = Stage::Over;
        }
        outcome
    }
}

impl Reaching {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Receipt>> {
        let Some(outcome) = self.begun.outcome() else {
            self.wake(context.waker());
            return Poll::Pending;
        };
        let receipt = || self.begun.receipts().next().ok_or_else(Error::closed);
        Poll::Ready(outcome.and_then(|()| receipt()))
    }

    /// Has this one woken when it is known what has become of it.
    fn wake(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|before| before.will_wake(waker)) {
            self.waker = Some(waker.clone());
            self.begun.wake(waker);
        }
    }
}

/// Begins an enqueue.
fn start<'a>(broker: Broker, message: Message<'_>) -> Result<Stage<'a>> {
    let shared = broker.shared();
    Ok(match begin(shared, message)? {
        Beginning::Begun(begun) => {
            let begun = Begun::new(broker.into_shared(), begun);
            Stage::Begun(Reaching { begun, waker: None })
        }
        Beginning::Not(message) => {
            let answer = Arc::new(Mutex::new(Answer::default()));
            shared.clerk.enqueue(shared, message, Done::Answer(Arc::clone(&answer)));
            Stage::Waits(answer)
        }
    })
}

/// Begins an enqueue as far as that goes without waiting.
pub(super) fn begin(shared: &Arc<Shared>, message: Message<'_>) -> Result<Beginning> {
    // Those that have not begun may wait for room, which a handler must not, nor behind them.
    let waits = shared.clerk.has_unbegun() && !is_in_handler();
    Ok(match shared.begin_one(&message, waits)? {
        Some(begun) => Beginning::Begun(begun),
        None => Beginning::Not(message.into_owned()),
    })
}

impl Shared {
    /// Enqueues messages: all or none, answered when all have reached their durability.
    pub(super) fn enqueue(
        &self,
        messages: &[Message<'_>],
        interrupt: &Interrupt,
    ) -> Result<Few<Enqueued>> {
        let queue = self.check_batch(messages)?;
        if messages.is_empty() {
            return Ok(Few::new());
        }
        let wait = self.time_for_room(None, interrupt);
        let _span = enqueue_span(messages);
        let enqueued = self.traced(messages, |trace| {
            self.with_new_messages(messages, queue, trace, |messages| {
                self.engine.buffer.enqueue(messages, wait, interrupt)
            })
        })?;
        tell_of(messages, &enqueued);
        Ok(enqueued)
    }

    /// As [`Shared::enqueue`], of one.
    pub(super) fn enqueue_one(
        &self,
        message: &Message<'_>,
        interrupt: &Interrupt,
    ) -> Result<Enqueued> {
        let queue = self.check_one(message)?;
        let messages = std::slice::from_ref(message);
        let _span = enqueue_span(messages);
        let enqueued = self.traced(messages, |trace| {
            self.with_new_message(message, queue, trace, |message| {
                let wait = || self.time_for_room(None, interrupt);
                self.engine.buffer.enqueue_one(message, wait, interrupt)
            })
        })?;
        tell_of(messages, &[enqueued]);
        Ok(enqueued)
    }

    /// Enqueues a message as far as that goes without waiting; not at all where even beginning would have to wait, for room, for
    /// the disk, or, where it `waits`, for others. Then it has only been checked.
    pub(super) fn begin_one(
        &self,
        message: &Message<'_>,
        waits: bool,
    ) -> Result<Option<buffer::Begun>> {
        let queue = self.check_one(message)?;
        if waits { Ok(None) } else { self.begin(std::slice::from_ref(message), queue) }
    }

    /// As [`Shared::begin_one`], of all messages or none.
    pub(super) fn begin_all(
        &self,
        messages: &[Message<'_>],
        waits: bool,
    ) -> Result<Option<buffer::Begun>> {
        let queue = self.check_batch(messages)?;
        if waits { Ok(None) } else { self.begin(messages, queue) }
    }

    /// Has messages begin that were checked, if that needs no wait.
    fn begin(
        &self,
        messages: &[Message<'_>],
        queue: Option<&Arc<Queue>>,
    ) -> Result<Option<buffer::Begun>> {
        let bytes: usize = messages.iter().map(Message::size).sum();
        let spread = messages.len().saturating_mul(limits::MESSAGE_OVERHEAD_BYTES_MAX);
        if !self.engine.buffer.journal.has_room_at_hand(bytes.saturating_add(spread) as u64) {
            return Ok(None);
        }
        match self.begin_within(messages, queue, || Duration::ZERO, &Interrupt::new()) {
            Ok(begun) => Ok(Some(begun)),
            Err(error) if error.kind() == ErrorKind::Full && self.waits_for_room() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has messages begin whose turn has come some time after they were asked for, waiting for the disk where that is needed,
    /// and for room. Before that, which may take long, `first` is done.
    pub(super) fn begin_asked(
        &self,
        messages: &[Message<'_>],
        asked: Instant,
        interrupt: &Interrupt,
        first: impl FnOnce(),
    ) -> Result<buffer::Begun> {
        self.check_open()?;
        let for_room = || {
            let time = self.time_for_room(Some(asked), interrupt);
            if !time.is_zero() {
                first();
            }
            time
        };
        self.begin_within(messages, None, for_room, interrupt)
    }

    /// Has messages begin that were checked, waiting for the disk where that is needed; for room as long as `for_room` says,
    /// which is asked where there is none. `queue` is that of the first one where it is at hand.
    fn begin_within(
        &self,
        messages: &[Message<'_>],
        queue: Option<&Arc<Queue>>,
        for_room: impl FnOnce() -> Duration,
        interrupt: &Interrupt,
    ) -> Result<buffer::Begun> {
        let buffer = &self.engine.buffer;
        let _span = enqueue_span(messages);
        let begin =
            |messages: &[NewMessage<'_>]| match buffer.begin(messages, Duration::ZERO, interrupt) {
                Err(full) if full.kind() == ErrorKind::Full => match for_room() {
                    Duration::ZERO => Err(full),
                    wait => buffer.begin(messages, wait, interrupt),
                },
                begun => begun,
            };
        let begun =
            self.traced(messages, |trace| self.with_new_messages(messages, queue, trace, begin))?;
        tell_of(messages, &begun.enqueued);
        Ok(begun)
    }

    /// How long messages may still wait for room that were asked for a while ago, or now.
    fn time_for_room(&self, asked: Option<Instant>, interrupt: &Interrupt) -> Duration {
        if !self.waits_for_room() || interrupt.is_set() {
            return Duration::ZERO;
        }
        let waited = asked.map_or(Duration::ZERO, |asked| asked.elapsed());
        self.options.block_timeout.saturating_sub(waited)
    }

    /// Has messages enqueued by `work`, within a span where there are any; it is told the header by which that is known.
    fn traced<R>(
        &self,
        messages: &[Message<'_>],
        work: impl FnOnce(Option<&str>) -> Result<R>,
    ) -> Result<R> {
        #[cfg(feature = "opentelemetry")]
        {
            use super::telemetry::{end, traceparent};
            let span = self.telemetry.send(messages);
            let result = work(traceparent(&span).as_deref());
            end(&span, result.is_ok());
            result
        }
        #[cfg(not(feature = "opentelemetry"))]
        {
            let _ = messages;
            work(None)
        }
    }

    fn waits_for_room(&self) -> bool {
        self.options.on_full == OnFull::Block && !is_in_handler()
    }

    /// Refuses a closed broker, and a message that is out of range. Answers its queue, if there is one of that name.
    #[inline]
    fn check_one(&self, message: &Message<'_>) -> Result<Option<&Arc<Queue>>> {
        self.check_open()?;
        let queue = self.check_message(message)?;
        if queue.is_none() {
            self.engine.buffer.state.queues.check_new(1)?;
            self.check_room(std::slice::from_ref(message), 1)?;
        }
        Ok(queue)
    }

    /// Refuses a closed broker, and messages that are out of range. Answers the queue of the first one, if there is one of that
    /// name.
    fn check_batch(&self, messages: &[Message<'_>]) -> Result<Option<&Arc<Queue>>> {
        self.check_open()?;
        if messages.len() > limits::BATCH_MESSAGES_MAX {
            return Err(Error::invalid(format!(
                "a batch has {} messages, but at most {}",
                messages.len(),
                limits::BATCH_MESSAGES_MAX
            )));
        }
        let (mut before, mut first, mut new) = (None::<&Message<'_>>, None, HashSet::new());
        for (index, message) in messages.iter().enumerate() {
            let is_like = before.replace(message).is_some_and(|before| message.is_like(before));
            let checked = if is_like {
                message.check_size(self.options.max_message_bytes)
            } else {
                self.check_message(message).and_then(|queue| {
                    if index == 0 {
                        first = queue;
                    }
                    if queue.is_none() && new.insert(&*message.queue) {
                        self.engine.buffer.state.queues.check_new(new.len())?;
                    }
                    Ok(())
                })
            };
            checked.map_err(|error| error.within(format_args!("items[{index}]")))?;
        }
        let bytes: usize = messages.iter().map(Message::size).sum();
        if bytes > self.options.max_batch_bytes {
            let most = self.options.max_batch_bytes;
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the batch is {bytes} bytes, but max_batch_bytes is {most}"),
            ));
        }
        if !new.is_empty() {
            self.check_room(messages, new.len())?;
        }
        Ok(first)
    }

    /// Refuses messages of which so many are the first of their queues where there is no room for all: else those queues would
    /// be there for nothing, and stay.
    fn check_room(&self, messages: &[Message<'_>], new: usize) -> Result<()> {
        // What has a key may take no place of its own.
        let places = messages.iter().filter(|message| !message.has_key()).count().max(new);
        let (buffer, room) = (&self.engine.buffer, &self.engine.buffer.state.room);
        if !room.is_less_than(places) {
            if self.waits_for_room() {
                return Ok(());
            }
            buffer.make_room(places);
            if !room.lacks(places) {
                return Ok(());
            }
        }
        buffer.journal.check()?;
        Err(room.full(messages.len()))
    }
}

fn enqueue_span(messages: &[Message<'_>]) -> Span {
    let _ = messages;
    span!(
        "enqueue",
        queue = messages.first().map(|message| &*message.queue),
        messages = messages.len()
    )
}

fn tell_of(messages: &[Message<'_>], enqueued: &[Enqueued]) {
    for (message, enqueued) in messages.iter().zip(enqueued) {
        let receipt = Receipt::from(*enqueued);
        let _ = (message, receipt);
        detail!(
            "enqueue",
            queue = &*message.queue,
            id = receipt.id,
            status = receipt.status.name()
        );
    }
}
