//! The broker: what the package's own class is built on.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libmq::{ErrorKind, Event, Interrupt, limits};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString};

use crate::body::Body;
use crate::calling::call;
use crate::dead_letters::DeadLetters;
use crate::delivery::Delivery;
use crate::error::{OrRaise, exception, invalid, wrong_type};
use crate::hiring::{Foreman, Order};
use crate::inbox::Inbox;
use crate::leaving::Waits;
use crate::listener::{Listener, Told};
use crate::message::Message;
use crate::metrics;
use crate::options::{self, BrokerOptions};
use crate::receipt::Receipt;
use crate::said::Said;
use crate::tray::{News, Piles, Tray, serves};
use crate::values::{duration, path as path_of, text, whole};
use crate::waiting::{answered, attended, pause, waiting};
use crate::watch::Watch;

/// How soon a held directory is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(50);

/// An open broker, as far as it is not Python.
#[pyclass(frozen, subclass, weakref, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Broker {
    inner: libmq::Broker,
    /// An enqueue may wait for room.
    blocks: bool,
    waits: Arc<Waits>,
    hiring: Sender<Order>,
    foreman: Mutex<Option<Foreman>>,
    piles: Piles,
    telling: Option<Sender<Told>>,
    listener: Mutex<Option<Listener>>,
    forks: u32,
}

#[pymethods]
impl Broker {
    #[new]
    fn new(py: Python<'_>, path: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let path = path_of(path)?;
        let mut options = BrokerOptions::of(options)?;
        let (telling, listener) = options.listens.then(Listener::new).unzip();
        if let Some(telling) = telling.clone() {
            // A listener that has left is told nothing.
            let tell = move |event: &Event| _ = telling.send(Some(event.clone()));
            options.core = options.core.log(tell);
        }
        let inner = open(py, &path, &options)?;
        let (hiring, foreman) = Foreman::new();
        let foreman = Mutex::new(Some(foreman));
        Ok(Self {
            inner,
            blocks: options.blocks,
            waits: Arc::default(),
            hiring,
            foreman,
            piles: Piles::default(),
            telling,
            listener: Mutex::new(listener),
            forks: libmq::storage::forks(),
        })
    }

    /// Enqueues a message, and returns when it has reached its durability.
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
            return receipts.into_iter().next().ok_or_else(closed);
        }
        Ok(py.detach(|| self.inner.enqueue(message)).or_raise(py)?.into())
    }

    /// Enqueues bodies, or messages with options of their own: all or none, with one commit.
    fn enqueue_many(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        items: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Receipt>> {
        let queue = text("queue", queue)?;
        // A batch of nothing names a queue all the same.
        self.inner.check_queue(queue).or_raise(py)?;
        // Each would be taken apart into what nobody meant.
        if items.is_instance_of::<PyString>()
            || items.is_instance_of::<PyBytes>()
            || items.is_instance_of::<PyByteArray>()
            || items.is_instance_of::<PyDict>()
        {
            return Err(wrong_type("items", "a list of bodies and messages", items));
        }
        let items: Vec<Bound<'_, PyAny>> = call(&py.get_type::<PyList>(), (items,))?.extract()?;
        let mut parts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let (body, said) = match item.cast::<Message>() {
                Ok(message) => (message.get().body(py), message.get().said(py)),
                Err(_) => (item, Said::default()),
            };
            parts.push((Body::of(body).map_err(|error| of_item(py, index, error))?, said));
        }
        let mut messages = Vec::with_capacity(parts.len());
        for (index, (body, said)) in parts.iter().enumerate() {
            let message = said.message(py, queue, body);
            messages.push(message.map_err(|error| of_item(py, index, error))?);
        }
        self.enqueue_all(py, &messages)
    }

    /// Takes the next message of a queue, waiting for one at most for `timeout` seconds: None for ever, 0 looks once. It
    /// is held for `lease` seconds, 30 unless said otherwise, which is not renewed by itself.
    #[pyo3(signature = (queue, timeout=None, lease=None))]
    fn receive(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
        lease: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<Delivery>>> {
        self.take(py, text("queue", queue)?, 1, timeout, lease)?
            .pop()
            .map(|delivery| made(py, delivery))
            .transpose()
    }

    /// Takes up to `max` messages that are there, waiting for the first one as `receive` does.
    #[pyo3(signature = (queue, max, timeout=None, lease=None))]
    fn receive_many(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        max: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
        lease: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Delivery>>> {
        let deliveries =
            self.take(py, text("queue", queue)?, whole("max", max)?, timeout, lease)?;
        deliveries.into_iter().map(|delivery| made(py, delivery)).collect()
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
        py.detach(|| self.called(on_loop, handle)).or_raise(py)
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
        py.detach(|| self.called(on_loop, handle)).or_raise(py).map(Inbox::new)
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
        py.detach(|| self.inner.watch(queue, ring)).or_raise(py).map(Watch::new)
    }

    /// Enqueues a message without waiting for anything; the loop is told in its tray what became of it.
    fn _begin(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        message: &Message,
        tray: &Tray,
        number: u64,
        in_handler: bool,
    ) -> PyResult<()> {
        let body = Body::of(message.body(py))?;
        let message = message.said(py).message(py, text("queue", queue)?, &body)?;
        let pile = tray.pile();
        let done = move |receipt| pile.put(News::Done(number, receipt));
        let begin = || self.inner.enqueue_then(message, done);
        py.detach(|| self.called(in_handler, begin)).or_raise(py)
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
        if let Some(telling) = &self.telling {
            let _ = telling.send(None);
        }
        self.piles.gone();
    }

    /// Starts to call handlers. Started already: nothing.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.start()).or_raise(py)
    }

    /// An urgent one gives no grace once a signal ends it; with `now` nobody gets any.
    #[pyo3(signature = (timeout, urgent=false, now=false))]
    fn _stop(
        &self,
        py: Python<'_>,
        timeout: &Bound<'_, PyAny>,
        urgent: bool,
        now: bool,
    ) -> PyResult<()> {
        let timeout = duration("timeout", timeout)?;
        self.waits.stop(|interrupt| {
            let hurry = || {
                self.inner.interrupt(interrupt);
                if urgent || now {
                    self.inner.interrupt(interrupt);
                }
            };
            if now {
                hurry();
            }
            let stop = || self.inner.stop_until(timeout, interrupt);
            answered(py, &self.inner, attended(py, stop, hurry)?)
        })
    }

    fn _close(&self, py: Python<'_>, timeout: &Bound<'_, PyAny>) -> PyResult<()> {
        let timeout = duration("timeout", timeout)?;
        let closed = self.ending(py, |interrupt| self.inner.close_until(timeout, interrupt));
        // It may have closed all the same.
        if self._is_closed() {
            self._dismiss();
        }
        closed
    }

    /// Waits until nothing is in flight, nothing is ready where there is a handler, and no retry is pending; answers
    /// whether that was so within `timeout` seconds, None for ever.
    #[pyo3(signature = (timeout=None))]
    fn wait_idle(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let timeout = timeout.map(|timeout| duration("timeout", timeout)).transpose()?;
        let idle = py
            .detach(|| self.inner.wait_idle_until(timeout, &Interrupt::at_once()))
            .or_raise(py)?;
        if idle || timeout == Some(Duration::ZERO) {
            return Ok(idle);
        }
        let call = |interrupt: &Interrupt| self.inner.wait_idle_until(timeout, interrupt);
        self.wait(py, call, |idle| *idle)?.ok_or_else(|| program_ends(py))
    }

    /// Takes a snapshot now.
    fn snapshot(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.snapshot()).or_raise(py)
    }

    /// Writes a copy of the broker to a directory that is not there yet, or is empty.
    fn backup(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let path = path_of(path)?;
        py.detach(|| self.inner.backup(path)).or_raise(py)
    }

    /// Sets how many of a queue's handler run at once.
    fn scale(
        &self,
        py: Python<'_>,
        queue: &Bound<'_, PyAny>,
        n: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (queue, n) = (text("queue", queue)?, whole("n", n)?);
        if !(1..=limits::PARALLELISM_MAX).contains(&n) {
            let most = limits::PARALLELISM_MAX;
            return Err(invalid(py, format!("n is {n}, but goes from 1 to {most}")));
        }
        py.detach(|| self.inner.scale(queue, n)).or_raise(py)
    }

    /// Has nothing handed out from a queue until `resume` or the close.
    fn pause(&self, py: Python<'_>, queue: &Bound<'_, PyAny>) -> PyResult<()> {
        let queue = text("queue", queue)?;
        py.detach(|| self.inner.pause(queue)).or_raise(py)
    }

    /// Ends a pause, if there is one.
    fn resume(&self, py: Python<'_>, queue: &Bound<'_, PyAny>) -> PyResult<()> {
        let queue = text("queue", queue)?;
        py.detach(|| self.inner.resume(queue)).or_raise(py)
    }

    /// Ends a message; answers whether there was one.
    fn cancel(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<bool> {
        let id = whole("id", id)?;
        py.detach(|| self.inner.cancel(id)).or_raise(py)
    }

    /// Removes all messages of a queue that nobody holds; answers how many.
    fn purge(&self, py: Python<'_>, queue: &Bound<'_, PyAny>) -> PyResult<u64> {
        let queue = text("queue", queue)?;
        py.detach(|| self.inner.purge(queue)).or_raise(py)
    }

    /// Moves a manual clock by this many seconds, and does what is due then.
    fn advance(&self, py: Python<'_>, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let time = duration("seconds", seconds)?;
        py.detach(|| self.inner.advance(time)).or_raise(py)
    }

    fn _metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let figures = py.detach(|| self.inner.metrics()).or_raise(py)?;
        metrics::metrics(py, &figures)
    }

    /// The figures as Prometheus reads them: its text format, version 0.0.4, each queue a label.
    fn prometheus(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| self.inner.metrics().map(|figures| figures.to_prometheus())).or_raise(py)
    }

    fn _recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics::recovery(py, self.inner.recovery())
    }

    /// The dead letters.
    #[getter]
    fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.inner.clone())
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
    fn enqueue_all(
        &self,
        py: Python<'_>,
        messages: &[libmq::Message<'_>],
    ) -> PyResult<Vec<Receipt>> {
        let call = |interrupt: &Interrupt| self.inner.enqueue_batch_until(messages, interrupt);
        let at_once = py.detach(|| call(&Interrupt::at_once()));
        let receipts = match at_once {
            Err(error) if self.blocks && error.kind() == ErrorKind::Full && !serves() => {
                self.wait(py, call, |_| true)?.ok_or_else(|| exception(py, &error))?
            }
            other => other.or_raise(py)?,
        };
        Ok(receipts.into_iter().map(Receipt::from).collect())
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
        let call = |interrupt: &Interrupt| {
            self.inner.receive_batch_until(queue, max, timeout, lease, interrupt)
        };
        let there = py.detach(|| call(&Interrupt::at_once())).or_raise(py)?;
        if !there.is_empty() || timeout == Some(Duration::ZERO) {
            return Ok(there);
        }
        let came = |deliveries: &Vec<libmq::Delivery>| !deliveries.is_empty();
        self.wait(py, call, came)?.ok_or_else(|| program_ends(py))
    }

    /// Runs a call that waits, perhaps for ever; None if the program ends before anything came.
    fn wait<R: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Interrupt) -> libmq::Result<R> + Send,
        came: impl FnOnce(&R) -> bool,
    ) -> PyResult<Option<R>> {
        self.waits.wait(py, |interrupt| waiting(py, &self.inner, interrupt, call), came)
    }

    /// Runs a call that waits for handlers to end.
    fn ending<R: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Interrupt) -> libmq::Result<R> + Send,
    ) -> PyResult<R> {
        self.waits.stop(|interrupt| waiting(py, &self.inner, interrupt, call))
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

/// Has the error of an item of a batch say which one it was.
fn of_item(py: Python<'_>, index: usize, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyValueError>(py) {
        let raised = error.value(py);
        // One that cannot take it is told as it is.
        let _ = raised.setattr("args", (format!("items[{index}]: {raised}"),));
    }
    error
}

fn program_ends(py: Python<'_>) -> PyErr {
    let text = "the program is ending, so nobody waits for messages any more";
    exception(py, &libmq::Error::new(ErrorKind::Closed, text))
}

impl Drop for Broker {
    fn drop(&mut self) {
        if libmq::storage::forks() != self.forks {
            // The parent's, and so are the locks, which another of its threads may have held.
            std::mem::forget((self.inner.clone(), self.hiring.clone(), self.telling.clone()));
            std::mem::forget(std::mem::take(&mut self.piles));
            std::mem::forget(
                self.listener.get_mut().unwrap_or_else(PoisonError::into_inner).take(),
            );
            std::mem::forget(self.foreman.get_mut().unwrap_or_else(PoisonError::into_inner).take());
            return;
        }
        self._dismiss();
    }
}

/// Opens a broker, and waits for another owner to leave where it may. The kernel tells nobody that a lock is free, so
/// that is tried again and again, as in the core, but with pauses that signals end.
fn open(py: Python<'_>, path: &Path, options: &BrokerOptions) -> PyResult<libmq::Broker> {
    let end = Instant::now().checked_add(options.lock_timeout);
    let once = options.core.clone().lock_timeout(Duration::ZERO);
    let mut time = RETRY_FIRST;
    loop {
        match py.detach(|| libmq::Broker::open(path, once.clone())) {
            Err(error) if error.kind() == ErrorKind::Locked => {
                let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    return Err(exception(py, &error));
                }
                pause(py, left.map_or(time, |left| left.min(time)))?;
                time = (time * 2).min(RETRY_MAX);
            }
            other => return other.or_raise(py),
        }
    }
}

fn made(py: Python<'_>, delivery: libmq::Delivery) -> PyResult<Py<Delivery>> {
    Py::new(py, Delivery::new(Arc::new(delivery)))
}
