//! The broker: what the package's own class is built on.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libmq::{ErrorKind, Event, limits};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::apart::Apart;
use crate::body::Body;
use crate::dead_letters::DeadLetters;
use crate::delivery::Delivery;
use crate::entering::{caught, entered};
use crate::error::{OrRaise, exception};
use crate::hiring::{Foreman, Order};
use crate::inbox::Inbox;
use crate::interrupt::Interrupt;
use crate::items::Items;
use crate::leaving::Waits;
use crate::listener::{Listener, Told};
use crate::metrics;
use crate::opening::open;
use crate::options::{self, BrokerOptions};
use crate::outside::{is_alone, outside};
use crate::receipt::Receipt;
use crate::said::Said;
use crate::tray::{News, Piles, Tray, serves};
use crate::values::{IDS, duration, path as path_of, text, whole};
use crate::waiting::waiting;
use crate::watch::Watch;

/// The longest message that is copied with the interpreter's lock in hand.
const INSIDE_BYTES_MAX: usize = 16 << 10;

/// What `libmq.Broker` is built on.
#[pyclass(frozen, subclass, weakref, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Broker {
    inner: Apart<libmq::Broker>,
    /// An enqueue may wait for room.
    blocks: bool,
    /// An enqueue has no file to write to.
    is_in_memory: bool,
    waits: Arc<Waits>,
    hiring: Sender<Order>,
    foreman: Mutex<Option<Foreman>>,
    piles: Piles,
    told: Option<Arc<Told>>,
    listener: Mutex<Option<Listener>>,
    forks: u32,
}

#[pymethods]
impl Broker {
    #[new]
    fn new(py: Python<'_>, path: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let path = path_of(path)?;
        let mut options = BrokerOptions::of(options)?;
        let told = options.listens.then(Arc::<Told>::default);
        if let Some(told) = told.clone() {
            options.core = options.core.log(move |event: &Event| told.put(event));
        }
        let listener = Mutex::new(told.clone().map(Listener::new));
        let inner = Apart::new(open(py, &path, &options)?);
        // Whatever it was opened by, it goes by this path then.
        let is_in_memory = inner.path() == Path::new(":memory:");
        let (hiring, foreman) = Foreman::new();
        let foreman = Mutex::new(Some(foreman));
        Ok(Self {
            inner,
            blocks: options.blocks,
            is_in_memory,
            waits: Arc::default(),
            hiring,
            foreman,
            piles: Piles::default(),
            told,
            listener,
            forks: libmq::storage::forks(),
        })
    }

    /// Enqueues a message, and returns when it has reached its durability.
    ///
    /// Durations are seconds or timedeltas, up to ten years. None is the default.
    ///
    /// Args:
    ///     queue: 1 to 128 of `A-Z a-z 0-9 . _ -`. It exists from its first use.
    ///     body: Bytes travel as they are; anything else as JSON: dataclasses and classes of pydantic and msgspec as
    ///         objects, moments, UUIDs, decimals and paths as texts, sets as arrays, Enums as their value.
    ///     dedup_key: Makes the message one of its kind in its queue; 1 to 256 bytes of UTF-8, no control characters,
    ///         as every text here.
    ///     dedup: What happens when the key is taken: "replace" (default) the waiting message, or "keep" it.
    ///     dedup_window: How long after its ack the message still guards its key against "keep". Default 0.
    ///     correlation_id: Follows the work from message to message; `ctx.enqueue` inherits it.
    ///     headers: At most 64; names of 1 to 64 `A-Z a-z 0-9 . _ -`, values up to 4 KiB without NUL, CR and LF.
    ///     content_type: Default `application/octet-stream` for bytes, `application/json` for anything else.
    ///     delay: Not before this much time has passed. Excludes `run_at`.
    ///     run_at: Not before this moment, a datetime with a time zone; in the past means now.
    ///     expires_in: No attempt begins after this time: never attempted it is dropped, else it is a dead letter
    ///         `expired`. Beyond `delay` or `run_at`. Default never.
    ///     priority: 0 to 9, higher first. Default 0.
    ///     group: One message of a group at a time, in order; 1 to 256 bytes. Default none.
    ///     durability: "sync" or "os" for this message. Default the broker's.
    ///
    /// Raises:
    ///     FullError: `capacity` messages are live; with `on_full="block"` only after `block_timeout`.
    ///     TooLargeError: Body and headers are beyond `max_message_bytes`.
    ///     StorageFullError: The disk has no room.
    ///     InvalidError, ClosedError, ForkedError, TypeError; Error with `UNSUPPORTED`. All of these: not enqueued.
    ///     PoisonedError: Unknown; the next open tells. So it is after a KeyboardInterrupt.
    #[pyo3(signature = (queue, body, *, dedup_key=None, dedup=None, dedup_window=None, correlation_id=None, headers=None,
        content_type=None, delay=None, run_at=None, expires_in=None, priority=None, group=None, durability=None))]
    #[expect(clippy::too_many_arguments, reason = "the options of the contract")]
    fn enqueue<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        body: &Bound<'py, PyAny>,
        dedup_key: Option<&Bound<'py, PyAny>>,
        dedup: Option<&Bound<'py, PyAny>>,
        dedup_window: Option<&Bound<'py, PyAny>>,
        correlation_id: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        content_type: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        run_at: Option<&Bound<'py, PyAny>>,
        expires_in: Option<&Bound<'py, PyAny>>,
        priority: Option<&Bound<'py, PyAny>>,
        group: Option<&Bound<'py, PyAny>>,
        durability: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Receipt> {
        let said = Said {
            dedup_key,
            dedup,
            dedup_window,
            correlation_id,
            headers,
            content_type,
            delay,
            run_at,
            expires_in,
            priority,
            group,
            durability,
        };
        let body = Body::of(body)?;
        let message = said.message(py, text("queue", queue)?, &body)?;
        if self.blocks {
            let receipts = self.enqueue_all(py, std::slice::from_ref(&message))?;
            let closed =
                || exception(py, &libmq::Error::new(ErrorKind::Closed, "the broker is closed"));
            return receipts.into_iter().next().map(Receipt::from).ok_or_else(closed);
        }
        Ok(self.put(py, message.size(), || self.inner.enqueue(message))?.into())
    }

    /// Enqueues bodies, or `Message`s with options of their own: all or none, with one commit.
    ///
    /// At most 10,000, and `max_batch_bytes`. Receipts are in the order of the items. Raises as `enqueue`, and
    /// says which item was bad. More items than `capacity` wait for no room, also with `on_full="block"`.
    fn enqueue_many<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let queue = text("queue", queue)?;
        // A batch of nothing names a queue all the same.
        self.inner.check_queue(queue).or_raise(py)?;
        let items = Items::of(items)?;
        let parts = items.parts(py)?;
        let messages = parts.messages(py, queue)?;
        Receipt::all(py, self.enqueue_all(py, &messages)?.into_iter())
    }

    /// Takes the next message of a queue, waiting for one at most for `timeout`: None for ever, 0 looks once.
    ///
    /// It is held for `lease`, default 30 s, which is not renewed by itself. None if nothing came. Works before
    /// `start`.
    ///
    /// Raises InvalidError out of range, as above ten years; ClosedError, also for a thread that waits when the program
    /// ends; ForkedError, PoisonedError, TypeError; StorageFullError where there is no room to note what is in flight;
    /// CorruptError, or Error with `IO`, where the message cannot be read. All of these: nothing was taken.
    #[pyo3(signature = (queue, timeout=None, lease=None))]
    fn receive(
        this: &Bound<'_, Self>,
        queue: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
        lease: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<Delivery>>> {
        this.get()
            .take(this.py(), text("queue", queue)?, 1, timeout, lease)?
            .pop()
            .map(|delivery| made(this, delivery))
            .transpose()
    }

    /// Takes up to `max` (1 to 10,000) messages that are there, waiting for the first one as `receive` does.
    ///
    /// Empty if nothing came. Raises as `receive`.
    #[pyo3(signature = (queue, max, timeout=None, lease=None))]
    fn receive_many(
        this: &Bound<'_, Self>,
        queue: &Bound<'_, PyAny>,
        max: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
        lease: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Delivery>>> {
        let deliveries = this.get().take(
            this.py(),
            text("queue", queue)?,
            whole("max", max, 1..=limits::RECEIVE_MAX)?,
            timeout,
            lease,
        )?;
        deliveries.into_iter().map(|delivery| made(this, delivery)).collect()
    }

    /// Refuses what no handler can be registered with.
    fn _check_handler(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        self.inner.check_queue(text("queue", queue)?).or_raise(py)?;
        options::handler(options).map(drop)
    }

    /// Has the queue's messages handled by threads that the foreman starts for the handler of this number.
    fn _handle(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        number: u64,
        options: &Bound<'_, PyDict>,
        on_loop: bool,
    ) -> PyResult<()> {
        let (queue, options) = (text("queue", queue)?, options::handler(options)?);
        let hiring = self.hiring.clone();
        let hire = move |worker| {
            // A worker for whom nobody is there any more has left.
            let _ = hiring.send(Order::Hire(number, worker));
        };
        let handle = || self.inner.handle_on_threads(queue, options, hire);
        entered(py, &*self.inner, || self.called(on_loop, handle))
    }

    /// Has the queue's messages handled by a loop, which is told in its tray when there is something to take.
    fn _handle_on_loop(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        tray: &Tray,
        number: u64,
        options: &Bound<'_, PyDict>,
        on_loop: bool,
    ) -> PyResult<Inbox> {
        let (queue, options) = (text("queue", queue)?, options::handler(options)?);
        let pile = tray.pile();
        let ring = move || pile.put(News::Rung(number));
        let handle = || self.inner.handle_on_another_loop(queue, options, ring);
        entered(py, &*self.inner, || self.called(on_loop, handle)).map(Inbox::new)
    }

    /// Tells the loop in its tray when the queue may have got a message.
    fn _watch(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        tray: &Tray,
        number: u64,
    ) -> PyResult<Watch> {
        let queue = text("queue", queue)?;
        let pile = tray.pile();
        let ring = move || pile.put(News::Rung(number));
        entered(py, &*self.inner, || self.inner.watch(queue, ring)).map(Watch::new)
    }

    /// Enqueues a message without waiting for a sync or for room. Answers its receipt, and a number under which the tray tells
    /// when it has reached its durability; 0 if it has. Where even to begin would have to wait, there is no receipt yet, and
    /// the tray brings it under the number that was given.
    #[expect(clippy::too_many_arguments, reason = "the options of the contract")]
    fn _begin<'py>(
        &self,
        py: Python<'py>,
        queue: &Bound<'py, PyAny>,
        body: &Bound<'py, PyAny>,
        dedup_key: Option<&Bound<'py, PyAny>>,
        dedup: Option<&Bound<'py, PyAny>>,
        dedup_window: Option<&Bound<'py, PyAny>>,
        correlation_id: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        content_type: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        run_at: Option<&Bound<'py, PyAny>>,
        expires_in: Option<&Bound<'py, PyAny>>,
        priority: Option<&Bound<'py, PyAny>>,
        group: Option<&Bound<'py, PyAny>>,
        durability: Option<&Bound<'py, PyAny>>,
        tray: &Tray,
        number: u64,
        in_handler: bool,
    ) -> PyResult<(Option<Receipt>, u64)> {
        let said = Said {
            dedup_key,
            dedup,
            dedup_window,
            correlation_id,
            headers,
            content_type,
            delay,
            run_at,
            expires_in,
            priority,
            group,
            durability,
        };
        let body = Body::of(body)?;
        let message = said.message(py, text("queue", queue)?, &body)?;
        let (pile, bytes) = (tray.pile(), message.size());
        let done = move |receipt| pile.put(News::Done(number, receipt));
        let begin = || {
            let Some(begun) = self.inner.enqueue_now(message, done)? else {
                return Ok((None, number));
            };
            let receipt = begun.receipts().next().map(Receipt::from);
            if begun.needs_no_sync() {
                begun.reach()?;
                return Ok((receipt, 0));
            }
            Ok((receipt, tray.wait_for(begun, number)))
        };
        self.put(py, bytes, || self.called(in_handler, begin))
    }

    /// Has a tray told when the broker is closed, or the program ends.
    fn _tell_of_end(&self, tray: &Tray) {
        self.piles.add(&tray.pile());
    }

    /// What the core tells; once, and only if it was asked for.
    fn _listener(&self) -> Option<Listener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The end of the channel that waits for workers; once.
    fn _foreman(&self) -> Option<Foreman> {
        self.foreman.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// There is nobody left who would start threads for workers, and nothing left to tell.
    fn _dismiss(&self) {
        let _ = self.hiring.send(Order::Leave);
        if let Some(told) = &self.told {
            told.close();
        }
        self.piles.gone();
    }

    /// Starts to call handlers. Started already: nothing.
    ///
    /// Raises ClosedError, ForkedError; Error with `DEADLOCK` in a handler while another thread starts, stops or
    /// closes.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        entered(py, &*self.inner, || self.inner.start())
    }

    /// Stops; its time is over when it is interrupted, and the second time their grace.
    fn _stop(
        &self,
        py: Python<'_>,
        timeout: &Bound<'_, PyAny>,
        interrupt: &Interrupt,
    ) -> PyResult<()> {
        let timeout = duration("timeout", timeout)?;
        self.ending(py, interrupt, |interrupt| self.inner.stop_until(timeout, interrupt))
    }

    /// Closes; interrupted as `_stop`.
    fn _close(
        &self,
        py: Python<'_>,
        timeout: &Bound<'_, PyAny>,
        interrupt: &Interrupt,
    ) -> PyResult<()> {
        let timeout = duration("timeout", timeout)?;
        let close = |interrupt: &_| self.inner.close_until(timeout, interrupt);
        let closed = self.ending(py, interrupt, close);
        // It may have closed all the same.
        if self._is_closed() {
            self._dismiss();
        }
        closed
    }

    /// Waits until nothing is in flight, nothing is ready where there is a handler, and no retry is pending.
    ///
    /// Answers whether that was so within `timeout`, None for ever. Raises InvalidError above ten years, ClosedError,
    /// ForkedError, TypeError; PoisonedError where it never will be; Error with `DEADLOCK` in a handler.
    #[pyo3(signature = (timeout=None))]
    fn wait_idle(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let timeout = timeout.map(|timeout| duration("timeout", timeout)).transpose()?;
        self.rest(py, timeout, &Arc::default())
    }

    /// Waits until there is nothing to do, or it is interrupted.
    fn _wait_idle(&self, py: Python<'_>, interrupt: &Interrupt) -> PyResult<bool> {
        self.rest(py, None, interrupt.inner())
    }

    /// Takes a snapshot now, and returns when it is durable. Ctrl-C is heard then.
    ///
    /// Raises StorageFullError, PoisonedError, ClosedError, ForkedError; Error with `IO`.
    fn snapshot(&self, py: Python<'_>) -> PyResult<()> {
        entered(py, &*self.inner, || self.inner.snapshot())
    }

    /// Writes a copy of the broker to a directory that is not there yet, or is empty, while work goes on.
    ///
    /// The copy is complete with everything that was answered before the call, whole to one moment not before it, and
    /// can be opened like any directory, also beside this one: as after a close at that moment, but that what was in
    /// flight is ready again, uncounted. Of a broker without files it is an ordinary directory.
    ///
    /// The directory above has to be there. What fails leaves nothing behind. A close meanwhile ends it; Ctrl-C is
    /// heard when it has ended. Other threads run meanwhile.
    ///
    /// Raises InvalidError for what is something else than an empty directory, or lies in the broker's own,
    /// StorageFullError, CorruptError where the broker's own files have lost bytes, PoisonedError, ClosedError,
    /// ForkedError, TypeError; Error with `IO`, naming the path.
    fn backup(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let path = path_of(path)?;
        entered(py, &*self.inner, || self.inner.backup(path))
    }

    /// Sets how many of a queue's handler run at once, 1 to 1024, until its next registration.
    ///
    /// Those that run already, run on. Raises InvalidError out of range, NotFoundError for a queue without a handler,
    /// ClosedError, ForkedError, TypeError.
    fn scale(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        n: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (queue, n) = (text("queue", queue)?, whole("n", n, 1..=limits::PARALLELISM_MAX)?);
        entered(py, &*self.inner, || self.inner.scale(queue, n))
    }

    /// Has nothing handed out from a queue, to its handler or to a receive, until `resume` or the close.
    ///
    /// What is in flight is not touched; an enqueue goes on. Raises NotFoundError for a queue that there is not,
    /// InvalidError for a name that is none, ClosedError, ForkedError, TypeError.
    fn pause(&self, py: Python<'_>, queue: &Bound<'_, PyAny>) -> PyResult<()> {
        let queue = text("queue", queue)?;
        entered(py, &*self.inner, || self.inner.pause(queue))
    }

    /// Ends a pause, if there is one. Raises as `pause`.
    fn resume(&self, py: Python<'_>, queue: &Bound<'_, PyAny>) -> PyResult<()> {
        let queue = text("queue", queue)?;
        entered(py, &*self.inner, || self.inner.resume(queue))
    }

    /// Ends a message: one that waits is gone, one that somebody holds is cancelled.
    ///
    /// A cancelled attempt does not come back, unless it is acked all the same. Answers whether there was such a
    /// message; dead letters are none.
    ///
    /// Raises InvalidError for what is no id, ClosedError, ForkedError, PoisonedError, StorageFullError, TypeError.
    fn cancel(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<bool> {
        let id = whole("id", id, IDS)?;
        entered(py, &*self.inner, || self.inner.cancel(id))
    }

    /// Removes all messages of a queue that nobody holds; answers how many. Dead letters stay.
    ///
    /// Raises InvalidError for a name that is none, ClosedError, ForkedError, PoisonedError, StorageFullError,
    /// TypeError.
    fn purge(&self, py: Python<'_>, queue: &Bound<'_, PyAny>) -> PyResult<u64> {
        let queue = text("queue", queue)?;
        entered(py, &*self.inner, || self.inner.purge(queue))
    }

    /// Moves a manual clock, and does what is due then.
    ///
    /// Raises InvalidError on a system clock, or above ten years; ClosedError, ForkedError, TypeError.
    fn advance(&self, py: Python<'_>, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let time = duration("seconds", seconds)?;
        entered(py, &*self.inner, || self.inner.advance(time))
    }

    fn _metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let figures = entered(py, &*self.inner, || self.inner.metrics())?;
        metrics::metrics(py, &figures)
    }

    /// The figures as Prometheus reads them: its text format, version 0.0.4, each queue a label.
    ///
    /// Raises ClosedError, ForkedError.
    fn prometheus(&self, py: Python<'_>) -> PyResult<String> {
        let figures = entered(py, &*self.inner, || self.inner.metrics())?;
        Ok(figures.to_prometheus())
    }

    fn _recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics::recovery(py, self.inner.recovery())
    }

    /// The dead letters.
    #[getter]
    fn dead_letters(this: Py<Self>) -> DeadLetters {
        DeadLetters::new(this)
    }

    /// The directory.
    #[getter]
    fn path(&self) -> &OsStr {
        self.inner.path().as_os_str()
    }

    /// Refuses a closed broker, and a parent's.
    fn _check_open(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.check_open().or_raise(py)
    }

    fn _is_closed(&self) -> bool {
        self.inner.check_open().is_err_and(|error| error.kind() == ErrorKind::Closed)
    }

    fn __repr__(&self) -> String {
        format!("<libmq.Broker in {}>", self.inner.path().display())
    }
}

impl Broker {
    /// Runs an enqueue of one message of this size. With no file to write to, no room to wait for, and nobody in libmq who may
    /// have more to do there, it takes hardly longer than to give the interpreter's lock back and take it again; nobody in the
    /// core waits for that lock.
    fn put<R: Send>(
        &self,
        py: Python<'_>,
        bytes: usize,
        call: impl FnOnce() -> libmq::Result<R> + Send,
    ) -> PyResult<R> {
        if self.is_in_memory && !self.blocks && bytes <= INSIDE_BYTES_MAX && is_alone() {
            return caught(&*self.inner, call).or_raise(py);
        }
        entered(py, &*self.inner, call)
    }

    fn enqueue_all(
        &self,
        py: Python<'_>,
        messages: &[libmq::Message<'_>],
    ) -> PyResult<Vec<libmq::Receipt>> {
        let call = |interrupt: &_| self.inner.enqueue_batch_until(messages, interrupt);
        let at_once = outside(py, || caught(&*self.inner, || call(&libmq::Interrupt::at_once())));
        match at_once {
            Err(error) if self.blocks && error.kind() == ErrorKind::Full && !serves() => {
                self.wait(py, &Arc::default(), call, |_| true)?.ok_or_else(|| exception(py, &error))
            }
            other => other.or_raise(py),
        }
    }

    fn take(
        &self,
        py: Python<'_>,
        queue: &str,
        max: usize,
        timeout: Option<&Bound<'_, PyAny>>,
        lease: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<libmq::Delivery>> {
        let timeout = timeout.map(|timeout| duration("timeout", timeout)).transpose()?;
        let lease = lease.map(|lease| duration("lease", lease)).transpose()?;
        let call =
            |interrupt: &_| self.inner.receive_batch_until(queue, max, timeout, lease, interrupt);
        let there = entered(py, &*self.inner, || call(&libmq::Interrupt::at_once()))?;
        if !there.is_empty() || timeout == Some(Duration::ZERO) {
            return Ok(there);
        }
        let came = |deliveries: &Vec<libmq::Delivery>| !deliveries.is_empty();
        self.wait(py, &Arc::default(), call, came)?.ok_or_else(|| program_ends(py))
    }

    /// Waits until there is nothing to do.
    fn rest(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        interrupt: &Arc<libmq::Interrupt>,
    ) -> PyResult<bool> {
        let call = |interrupt: &_| self.inner.wait_idle_until(timeout, interrupt);
        let idle = entered(py, &*self.inner, || call(&libmq::Interrupt::at_once()))?;
        if idle || timeout == Some(Duration::ZERO) {
            return Ok(idle);
        }
        self.wait(py, interrupt, call, |idle| *idle)?.ok_or_else(|| program_ends(py))
    }

    /// Runs a call that waits, perhaps for ever; None if the program ends before anything came.
    fn wait<R: Send>(
        &self,
        py: Python<'_>,
        interrupt: &Arc<libmq::Interrupt>,
        call: impl FnOnce(&libmq::Interrupt) -> libmq::Result<R> + Send,
        came: impl FnOnce(&R) -> bool,
    ) -> PyResult<Option<R>> {
        let wait =
            || waiting(py, &self.inner, || call(interrupt), || self.inner.interrupt(interrupt));
        self.waits.wait(py, interrupt, wait, came)
    }

    /// Runs a call that waits for handlers to end.
    fn ending<R: Send>(
        &self,
        py: Python<'_>,
        interrupt: &Interrupt,
        call: impl FnOnce(&libmq::Interrupt) -> libmq::Result<R> + Send,
    ) -> PyResult<R> {
        let end = || {
            waiting(py, &self.inner, || call(interrupt.inner()), || interrupt.hurry(&self.inner))
        };
        self.waits.stop(interrupt.inner(), end)
    }

    pub(crate) fn inner(&self) -> &libmq::Broker {
        &self.inner
    }

    /// Runs a call of the broker, as one of a handler if it is.
    fn called<R>(&self, in_handler: bool, call: impl FnOnce() -> R) -> R {
        if in_handler { self.inner.as_handler(call) } else { call() }
    }

    pub(crate) fn piles(&self) -> &Piles {
        &self.piles
    }

    pub(crate) fn waits(&self) -> &Arc<Waits> {
        &self.waits
    }
}

fn program_ends(py: Python<'_>) -> PyErr {
    let text = "the program is ending, so nobody waits for messages any more";
    exception(py, &libmq::Error::new(ErrorKind::Closed, text))
}

impl Drop for Broker {
    fn drop(&mut self) {
        if libmq::storage::forks() != self.forks {
            // The parent's, and so are the locks, which another of its threads may have held.
            std::mem::forget((libmq::Broker::clone(&self.inner), self.hiring.clone()));
            std::mem::forget(std::mem::take(&mut self.piles));
            std::mem::forget(self.foreman.get_mut().unwrap_or_else(PoisonError::into_inner).take());
            return;
        }
        self._dismiss();
    }
}

fn made(broker: &Bound<'_, Broker>, delivery: libmq::Delivery) -> PyResult<Py<Delivery>> {
    Py::new(broker.py(), Delivery::new(Arc::new(delivery), broker.clone().unbind()))
}
