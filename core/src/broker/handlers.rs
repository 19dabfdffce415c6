//! Handlers: how functions become handlers, and what their threads are in the middle of.

use std::borrow::Borrow;
use std::cell::Cell;
use std::time::Duration;

use super::broker::Broker;
use super::delivery::{Context, Delivery};
use super::handler::{HandlerError, HandlerOptions};
use super::inbox::{Crew, Inbox};
use super::message::check_queue_name;
use super::stations::{Patience, is_not_its_turn, register_station};
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Span, span};
use crate::interrupt::Interrupt;
use crate::sync::Arc;

thread_local! {
    /// This thread is running a handler.
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
}

impl Broker {
    /// Registers a queue's handler. It is called for every message of the queue once the broker is started, on threads
    /// of the broker, up to `max_parallelism` of them at once. Returning `Ok` acks; an error or a panic is a failed
    /// attempt, unless the error says otherwise. A second handler for a queue replaces the first when its calls have
    /// ended.
    ///
    /// A handler that owns a clone of the [`Broker`] keeps it open: it is dropped with the broker only by
    /// [`Broker::close`], or when another one replaces it. What a handler enqueues goes through its [`Context`].
    ///
    /// # Errors
    /// `INVALID`, `CLOSED`, `FORKED`; inside a handler `DEADLOCK` where it would replace another, or while another thread
    /// starts, stops or closes.
    pub fn handle(
        &self,
        queue: &str,
        options: HandlerOptions,
        handler: impl Fn(&Context) -> std::result::Result<(), HandlerError> + Send + Sync + 'static,
    ) -> Result<()> {
        super::stations::register(self.shared(), queue, options, move |delivery| {
            let _span = handle_span(&delivery);
            let context = Context::new(delivery);
            let result = in_span(&context, || in_handler(|| handler(&context)));
            let delivery = context.into_delivery();
            let result = result.unwrap_or_else(|panic| {
                Err(HandlerError::failed(format!("the handler panicked: {panic}")))
            });
            delivery.conclude_and_go_on(result)
        })
    }

    /// Registers a queue's handler that is given the delivery itself, and settles it now or later, on any thread.
    /// Dropped unsettled it is released; dropped in a panic it is a failed attempt.
    ///
    /// # Errors
    /// As [`Broker::handle`].
    pub fn handle_delivery(
        &self,
        queue: &str,
        options: HandlerOptions,
        handler: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<()> {
        super::stations::register(self.shared(), queue, options, move |delivery| {
            let _ = in_handler(|| handler(delivery));
            None
        })
    }

    /// Registers a queue's handler for the bindings, which hand the delivery back with the handler's answer, or what they
    /// keep it in; none where the delivery was settled, or will be, by somebody else.
    ///
    /// # Errors
    /// As [`Broker::handle`].
    #[doc(hidden)]
    pub fn handle_returning<D: Borrow<Delivery>>(
        &self,
        queue: &str,
        options: HandlerOptions,
        handler: impl Fn(Delivery) -> Option<(D, std::result::Result<(), HandlerError>)>
        + Send
        + Sync
        + 'static,
    ) -> Result<()> {
        super::stations::register(self.shared(), queue, options, move |delivery| {
            let (delivery, result) = in_handler(|| handler(delivery)).ok().flatten()?;
            delivery.borrow().conclude_and_go_on(result)
        })
    }

    /// Registers a queue's handler for the bindings whose language runs code only on its own threads. `hire` is handed a
    /// [`Worker`] whenever one more thread is needed, up to `max_parallelism` of them and substitutes for the stuck. It is
    /// called on any thread, the timekeeper's too, and must neither wait nor call the broker: it leaves the worker for a
    /// thread that asks it for messages. It is dropped when the handler is replaced or the broker closed.
    ///
    /// # Errors
    /// As [`Broker::handle`].
    #[doc(hidden)]
    pub fn handle_on_threads(
        &self,
        queue: &str,
        options: HandlerOptions,
        hire: impl Fn(Worker) + Send + Sync + 'static,
    ) -> Result<()> {
        let hire = super::worker::hire(self.shared(), hire);
        let patience = Patience::outside_of_handlers();
        let station = register_station(self.shared(), queue, options, hire, None, patience)?;
        station.map(drop).ok_or_else(|| is_not_its_turn("handle"))
    }

    /// Registers a queue's handler for the bindings whose language runs code on an event loop alone: the loop takes
    /// deliveries from the answer without ever waiting. `ring` is called when it is worth while to look, on any thread and
    /// under the broker's locks; it must neither wait nor call the broker. None where it would have to wait for its turn,
    /// since somebody registers, starts, stops or closes; then nothing has happened.
    ///
    /// # Errors
    /// As [`Broker::handle`]; `DEADLOCK` where the queue has a handler, which the loop may run, unless that has
    /// [retired](Inbox::retire) and runs no more.
    #[doc(hidden)]
    pub fn handle_on_loop(
        &self,
        queue: &str,
        options: HandlerOptions,
        ring: impl Fn() + Send + Sync + 'static,
    ) -> Result<Option<Inbox>> {
        self.handle_on(queue, options, Patience::None, ring, ())
    }

    /// Refuses what every registration of a handler would refuse: for the bindings, where one may have to wait.
    ///
    /// # Errors
    /// `INVALID`, `CLOSED`, `FORKED`.
    #[doc(hidden)]
    pub fn check_handler(&self, queue: &str, options: HandlerOptions) -> Result<()> {
        self.shared().check_open()?;
        check_queue_name(queue)?;
        options.resolve(&self.shared().options).map(drop)
    }

    /// As [`Broker::handle_on_loop`], but not called on the loop: whoever calls waits for its turn. None where that wait was
    /// ended.
    ///
    /// # Errors
    /// As [`Broker::handle_on_loop`].
    #[doc(hidden)]
    pub fn handle_on_loop_until(
        &self,
        queue: &str,
        options: HandlerOptions,
        interrupt: &Interrupt,
        ring: impl Fn() + Send + Sync + 'static,
    ) -> Result<Option<Inbox>> {
        self.handle_on(queue, options, Patience::Turn(interrupt), ring, ())
    }

    /// Ends handlers of a loop that goes, while others go on: takes nothing more for them, and waits for what they run;
    /// after `timeout`, or when that is interrupted, it is cancelled with `shutdown`, and after its grace what is still held
    /// is given back.
    ///
    /// # Errors
    /// `TIMEOUT` if it had to cancel, ended all the same.
    #[doc(hidden)]
    pub fn retire_until(
        &self,
        inboxes: &[Arc<Inbox>],
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let stations: Vec<_> = inboxes.iter().map(|inbox| inbox.station()).collect();
        super::stations::retire(self.shared(), &stations, timeout, interrupt)
    }

    /// As [`Broker::handle_on_loop`], but not called on the loop: whoever calls waits for the handler that is replaced.
    ///
    /// # Errors
    /// As [`Broker::handle`].
    #[doc(hidden)]
    pub fn handle_on_another_loop(
        &self,
        queue: &str,
        options: HandlerOptions,
        ring: impl Fn() + Send + Sync + 'static,
    ) -> Result<Inbox> {
        let inbox = self.handle_on(queue, options, Patience::outside_of_handlers(), ring, ())?;
        inbox.ok_or_else(|| is_not_its_turn("handle"))
    }

    /// Runs a call as if this thread were running a handler: for the bindings, on the thread of a loop that runs some.
    #[doc(hidden)]
    pub fn as_handler<R>(&self, call: impl FnOnce() -> R) -> R {
        let before = is_in_handler();
        set_in_handler(true);
        let answer = call();
        set_in_handler(before);
        answer
    }

    /// As [`Broker::handle_on_loop`]; whoever calls may wait for the handler that is replaced. `kept` is dropped with the
    /// handler.
    #[cfg(feature = "tokio")]
    pub(crate) fn handle_on_tasks(
        &self,
        queue: &str,
        options: HandlerOptions,
        may_wait: bool,
        ring: impl Fn() + Send + Sync + 'static,
        kept: impl Send + Sync + 'static,
    ) -> Result<Inbox> {
        let patience = if may_wait { Patience::outside_of_handlers() } else { Patience::None };
        let inbox = self.handle_on(queue, options, patience, ring, kept)?;
        inbox.ok_or_else(|| is_not_its_turn("handle"))
    }

    fn handle_on(
        &self,
        queue: &str,
        options: HandlerOptions,
        patience: Patience<'_>,
        ring: impl Fn() + Send + Sync + 'static,
        kept: impl Send + Sync + 'static,
    ) -> Result<Option<Inbox>> {
        let crew = Arc::new(Crew::new(ring));
        let (doorbell, hiring) = (crew.doorbell(), Arc::downgrade(&crew));
        let hire = Box::new(move |worker| {
            let _kept = &kept;
            if let Some(crew) = hiring.upgrade() {
                crew.hired(worker);
            }
        });
        let shared = self.shared();
        let station = register_station(shared, queue, options, hire, Some(doorbell), patience)?;
        Ok(station.map(|station| Inbox::new(Arc::downgrade(shared), station, crew)))
    }

    /// Whether a queue has a handler now.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_handler(&self, queue: &str) -> bool {
        let engine = &self.shared().engine;
        let found = engine.buffer.state.queues.find(queue);
        found.is_some_and(|found| crate::sync::lock(&engine.stations).contains_key(&found.number))
    }
}

/// Runs a handler within a span of OpenTelemetry, where there are any.
#[cfg(feature = "opentelemetry")]
fn in_span<R, E, F>(
    context: &Context,
    run: impl FnOnce() -> std::result::Result<std::result::Result<R, E>, F>,
) -> std::result::Result<std::result::Result<R, E>, F> {
    let span = context.shared.telemetry.process(context);
    let guard = span.clone().attach();
    let result = run();
    drop(guard);
    super::telemetry::end(&span, matches!(result, Ok(Ok(_))));
    result
}

#[cfg(not(feature = "opentelemetry"))]
fn in_span<R>(_context: &Context, run: impl FnOnce() -> R) -> R {
    run()
}

/// The span of an attempt.
pub(crate) fn handle_span(delivery: &Delivery) -> Span {
    let _ = delivery;
    span!("handle", queue = delivery.queue(), id = delivery.id(), attempt = delivery.attempt())
}

/// Runs a handler's code, and catches its panic.
pub(crate) fn in_handler<R>(run: impl FnOnce() -> R) -> std::result::Result<R, String> {
    let before = IN_HANDLER.replace(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    IN_HANDLER.set(before);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into())
    })
}

/// Refuses a call that waits for handlers on a thread that is running one.
pub(super) fn refuse_in_handler(call: &str) -> Result<()> {
    if is_in_handler() {
        return Err(Error::new(
            ErrorKind::Deadlock,
            format!("{call} inside a handler would wait for itself"),
        ));
    }
    Ok(())
}

/// Notes whether this thread is running a handler.
pub(super) fn set_in_handler(running: bool) {
    IN_HANDLER.set(running);
}

/// Whether this thread is running a handler.
pub(super) fn is_in_handler() -> bool {
    IN_HANDLER.get()
}
