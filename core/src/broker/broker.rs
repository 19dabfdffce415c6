//! The broker: an open directory.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::begun::Begun;
use super::clerk::{Done, refuse_in_callback};
use super::dead_letters::DeadLetters;
use super::delivery::Delivery;
use super::enqueue::{Beginning, Enqueueing};
use super::handlers::refuse_in_handler;
use super::message::{Message, Receipt, check_queue_name};
use super::metrics::Metrics;
use super::options::{Durability, Options};
use super::recovery::Recovery;
use super::shared::Shared;
use super::watch::Watch;
use crate::buffer::Queue;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::limits;
use crate::storage::{DiskStorage, MemoryStorage, Storage};
use crate::sync::Arc;

/// The path of a broker without files.
pub(super) const MEMORY_PATH: &str = ":memory:";

/// How long a pulled delivery is held unless said otherwise.
const LEASE: Duration = Duration::from_secs(30);

/// How long who waits for all to come to rest listens to nothing after a step that did not bring it: one part in so many of how
/// long it has waited, and at most that; a system does not sleep for less than the least.
const DEAF_SHARE: u32 = 16;
const DEAF_MIN: Duration = Duration::from_micros(100);
const DEAF_MAX: Duration = Duration::from_millis(1);

/// An open broker. Cloning it makes another handle of the same broker; any thread may use any handle.
///
/// Dropping the last handle without [`Broker::close`] is a crash, on purpose: what is written is recovered at the next
/// open, and nothing else is.
#[derive(Clone, Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    _handle: Arc<Handle>,
}

/// Ends the broker as a crash would when the last handle is gone; deliveries do not keep it open.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.0.engine.is_closed() {
            self.0.abandon();
        }
    }
}

impl Broker {
    /// Opens the broker in a directory, and makes the directory where there is none. `:memory:` is a broker without
    /// files.
    ///
    /// # Errors
    /// `INVALID` for an option out of range or a directory of somebody else, `LOCKED` naming the owner, `CORRUPT`
    /// naming file and offset, `UNSUPPORTED` for another version, `STORAGE_FULL`, `IO`.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref();
        if path == Path::new(MEMORY_PATH) || options.durability == Durability::Memory {
            let options = options.durability(Durability::Memory);
            return Self::open_on(Arc::new(MemoryStorage::new()), options);
        }
        Self::open_on(Arc::new(DiskStorage::new(path)), options)
    }

    /// Opens the broker on a storage.
    #[doc(hidden)]
    pub fn open_on(storage: Arc<dyn Storage>, options: Options) -> Result<Self> {
        let shared = super::open::open(storage, options)?;
        Ok(Self { _handle: Arc::new(Handle(Arc::clone(&shared))), shared })
    }

    /// Enqueues a message, and returns when it has reached its durability.
    ///
    /// # Errors
    /// `INVALID`, `TOO_LARGE`, `UNSUPPORTED`, `FULL`, `STORAGE_FULL`, `IO`, `NO_MEMORY`, `CLOSED`, `FORKED`: not enqueued.
    /// `POISONED`: unknown.
    pub fn enqueue(&self, message: Message<'_>) -> Result<Receipt> {
        self.enqueue_until(&message, &Interrupt::new())
    }

    /// As [`Broker::enqueue`], with a wait for room that can be ended.
    ///
    /// # Errors
    /// As [`Broker::enqueue`]; `FULL` when it was ended.
    #[doc(hidden)]
    pub fn enqueue_until(&self, message: &Message<'_>, interrupt: &Interrupt) -> Result<Receipt> {
        self.shared.enqueue_one(message, interrupt).map(Receipt::from)
    }

    /// Enqueues messages of one queue or several: all or none, with one commit. Receipts are in the order of the
    /// messages.
    ///
    /// # Errors
    /// As [`Broker::enqueue`]; of all messages the first bad one is named, by its place from 0 on. More of them than
    /// `capacity` wait for no room, whatever `on_full` says.
    pub fn enqueue_batch(&self, messages: &[Message<'_>]) -> Result<Vec<Receipt>> {
        self.enqueue_batch_until(messages, &Interrupt::new())
    }

    /// As [`Broker::enqueue_batch`], with a wait for room that can be ended.
    ///
    /// # Errors
    /// As [`Broker::enqueue`]; `FULL` when it was ended.
    #[doc(hidden)]
    pub fn enqueue_batch_until(
        &self,
        messages: &[Message<'_>],
        interrupt: &Interrupt,
    ) -> Result<Vec<Receipt>> {
        let enqueued = self.shared.enqueue(messages, interrupt)?;
        Ok(enqueued.iter().copied().map(Receipt::from).collect())
    }

    /// Enqueues a message as [`Broker::enqueue`] does, for the bindings on an event loop: it has its place in the log when
    /// this returns, and has reached its durability when [`Begun::reach`] has. None where even that would have to wait, for
    /// room or for the disk, and where it `waits`, behind others that do; then it has only been checked.
    ///
    /// # Errors
    /// As [`Broker::enqueue`].
    #[doc(hidden)]
    pub fn begin_enqueue(&self, message: &Message<'_>, waits: bool) -> Result<Option<Begun>> {
        let begun = self.shared.begin_one(message, waits)?;
        Ok(begun.map(|begun| Begun::new(Arc::clone(&self.shared), begun)))
    }

    /// As [`Broker::begin_enqueue`], of a batch.
    ///
    /// # Errors
    /// As [`Broker::enqueue_batch`].
    #[doc(hidden)]
    pub fn begin_enqueue_batch(
        &self,
        messages: &[Message<'_>],
        waits: bool,
    ) -> Result<Option<Begun>> {
        let begun = self.shared.begin_all(messages, waits)?;
        Ok(begun.map(|begun| Begun::new(Arc::clone(&self.shared), begun)))
    }

    /// Has messages begin that were checked by [`Broker::begin_enqueue`] or [`Broker::begin_enqueue_batch`] and could not begin at
    /// once: waits for the disk, and for room, with the time for that running since they were `asked` for. Before it waits for
    /// room, which may take long, `first` is done.
    ///
    /// # Errors
    /// As [`Broker::enqueue`]; `FULL` when its wait for room was ended.
    #[doc(hidden)]
    pub fn begin_enqueue_asked(
        &self,
        messages: &[Message<'_>],
        asked: Instant,
        interrupt: &Interrupt,
        first: impl FnOnce(),
    ) -> Result<Begun> {
        let begun = self.shared.begin_asked(messages, asked, interrupt, first)?;
        Ok(Begun::new(Arc::clone(&self.shared), begun))
    }

    /// Enqueues a message without ever making the caller's thread wait for a sync or for room: a plain future, which any
    /// executor may poll. It begins when it is first polled, and is done when the message has reached its durability; a
    /// thousand in flight share a sync. Dropped before it is done, the message may or may not have been enqueued.
    ///
    /// # Errors
    /// As [`Broker::enqueue`].
    pub fn enqueue_async<'a>(&self, message: Message<'a>) -> Enqueueing<'a> {
        Enqueueing::new(self.clone(), message)
    }

    /// Enqueues a message as [`Broker::enqueue_async`] does, and calls `done` on the thread `libmq-callback` with what
    /// became of it, in the order of the calls: for the C API. `done` may call anything but close.
    ///
    /// # Errors
    /// What is wrong with the call itself: `INVALID`, `TOO_LARGE`, `FULL`, `STORAGE_FULL`, `IO`, `NO_MEMORY`, `CLOSED`,
    /// `FORKED`; then `done` is dropped.
    #[doc(hidden)]
    pub fn enqueue_then(
        &self,
        message: Message<'_>,
        done: impl FnOnce(Result<Receipt>) + Send + 'static,
    ) -> Result<()> {
        let (shared, done) = (&self.shared, Done::Call(Box::new(done)));
        match super::enqueue::begin(shared, message)? {
            Beginning::Begun(begun) => shared.clerk.reach(shared, begun, done),
            Beginning::Not(message) => shared.clerk.enqueue(shared, message, done),
        }
        Ok(())
    }

    /// As [`Broker::enqueue_then`], but what has begun is left to the caller, and `done` is dropped: for bindings on an event
    /// loop.
    ///
    /// # Errors
    /// As [`Broker::enqueue_then`].
    #[doc(hidden)]
    pub fn enqueue_now(
        &self,
        message: Message<'_>,
        done: impl FnOnce(Result<Receipt>) + Send + 'static,
    ) -> Result<Option<Begun>> {
        let shared = &self.shared;
        match super::enqueue::begin(shared, message)? {
            Beginning::Begun(begun) => Ok(Some(Begun::new(Arc::clone(shared), begun))),
            Beginning::Not(message) => {
                shared.clerk.enqueue(shared, message, Done::Call(Box::new(done)));
                Ok(None)
            }
        }
    }

    /// Has no enqueue wait for room any more that does not hold up its caller: it is `FULL` then. For the bindings, whose
    /// language is about to end.
    #[doc(hidden)]
    pub fn end_waits_for_room(&self) {
        self.interrupt(self.shared.clerk.interrupt());
    }

    /// Has `ring` called when a queue may have got a message, or the broker was closed, for those who cannot wait; as in
    /// [`Broker::handle_on_loop`].
    ///
    /// # Errors
    /// `INVALID`, `CLOSED`, `FORKED`.
    #[doc(hidden)]
    pub fn watch(&self, queue: &str, ring: impl Fn() + Send + Sync + 'static) -> Result<Watch> {
        self.shared.check_open()?;
        check_queue_name(queue)?;
        let queue = self.shared.engine.buffer.state.queues.named(queue)?;
        Ok(Watch::new(Arc::clone(queue), ring))
    }

    /// Starts to call handlers. Started already: nothing.
    ///
    /// # Errors
    /// `CLOSED`, `FORKED`; `DEADLOCK` inside a handler while another thread starts, stops or closes.
    pub fn start(&self) -> Result<()> {
        self.shared.check_open()?;
        super::stations::start(&self.shared)
    }

    /// Stops calling handlers and waits for those that run; after `timeout` they are cancelled with `shutdown`, and
    /// after their grace what they hold is given back. [`Broker::start`] may follow. The time runs from the call on, also
    /// while another thread replaces a handler, stops or closes: that comes to its end then, as this does.
    ///
    /// # Errors
    /// `TIMEOUT` if it had to cancel, stopped all the same; `DEADLOCK` inside a handler; `CLOSED`, `FORKED`.
    pub fn stop(&self, timeout: Duration) -> Result<()> {
        self.stop_until(timeout, &Interrupt::new())
    }

    /// As [`Broker::stop`], whose `timeout` is over at once when it is interrupted.
    ///
    /// # Errors
    /// As [`Broker::stop`].
    #[doc(hidden)]
    pub fn stop_until(&self, timeout: Duration, interrupt: &Interrupt) -> Result<()> {
        self.shared.check_open()?;
        refuse_in_handler("stop")?;
        super::stations::stop(&self.shared, timeout, interrupt)
    }

    /// Writes what handlers were answered, which else is written soon: for the bindings, whose language is about to end.
    #[doc(hidden)]
    pub fn write_settled(&self) {
        if self.shared.check_open().is_ok() {
            // A failure poisons the journal, and everybody hears of it from there.
            let _ = self.shared.engine.buffer.write();
        }
    }

    /// Stops, gives pulled deliveries back, syncs, and gives the directory up. Closed already: nothing.
    ///
    /// # Errors
    /// `TIMEOUT` if handlers had to be cancelled, closed all the same; `POISONED` if the last sync failed, or an earlier
    /// write or sync, closed all the same; `DEADLOCK` inside a handler or a callback; `FORKED`.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        self.close_until(timeout, &Interrupt::new())
    }

    /// As [`Broker::close`], whose `timeout` is over at once when it is interrupted.
    ///
    /// # Errors
    /// As [`Broker::close`].
    #[doc(hidden)]
    pub fn close_until(&self, timeout: Duration, interrupt: &Interrupt) -> Result<()> {
        if crate::storage::forks() != self.shared.forks {
            return self.shared.check_open();
        }
        refuse_in_handler("close")?;
        refuse_in_callback("close")?;
        let closed = super::stations::close(&self.shared, timeout, interrupt);
        // Not in one's turn: a callback may be waiting for that.
        self.shared.tell_the_rest();
        closed
    }

    /// Waits until nothing is in flight, nothing is ready where there is a handler, and no retry is pending; answers
    /// whether that was so within `timeout`, absent for ever. What is ready for a handler that is paused, stopped or not
    /// started is waited for, too.
    ///
    /// # Errors
    /// `CLOSED`, `FORKED`; `POISONED` where it is not idle and never will be; `DEADLOCK` inside a handler.
    pub fn wait_idle(&self, timeout: impl Into<Option<Duration>>) -> Result<bool> {
        self.wait_idle_until(timeout, &Interrupt::new())
    }

    /// As [`Broker::wait_idle`], with a wait that can be ended.
    ///
    /// # Errors
    /// As [`Broker::wait_idle`].
    #[doc(hidden)]
    pub fn wait_idle_until(
        &self,
        timeout: impl Into<Option<Duration>>,
        interrupt: &Interrupt,
    ) -> Result<bool> {
        self.shared.check_open()?;
        refuse_in_handler("wait_idle")?;
        let began = Instant::now();
        let end = timeout.into().and_then(|timeout| began.checked_add(timeout));
        let rest = &self.shared.engine.buffer.state.rest;
        loop {
            let listener = rest.listen();
            let seen = rest.count();
            self.shared.check_open()?;
            if self.shared.engine.is_idle() {
                return Ok(true);
            }
            self.shared.engine.buffer.journal.check()?;
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if interrupt.is_set() || left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            rest.wait(seen, left);
            // Each step would be told, and cost who works more than it costs to come a little late.
            drop(listener);
            let deaf = (began.elapsed() / DEAF_SHARE).min(DEAF_MAX);
            let is_in_time = end.is_none_or(|end| Instant::now() + deaf < end);
            if deaf >= DEAF_MIN
                && is_in_time
                && !interrupt.is_set()
                && !self.shared.engine.is_idle()
            {
                thread::sleep(deaf);
            }
        }
    }

    /// Takes the next message of a queue, waiting for one at most for `timeout`: absent for ever, zero looks once. It
    /// is held for `lease`, absent 30 s, which is not renewed by itself.
    ///
    /// # Errors
    /// `INVALID`, `CLOSED`, `FORKED`, `POISONED`; `STORAGE_FULL` where the disk has no room to note one more message in
    /// flight; `CORRUPT` or `IO` where its bytes cannot be read any more.
    pub fn receive(
        &self,
        queue: &str,
        timeout: impl Into<Option<Duration>>,
        lease: impl Into<Option<Duration>>,
    ) -> Result<Option<Delivery>> {
        self.receive_until(queue, timeout, lease, &Interrupt::new())
    }

    /// As [`Broker::receive`], with a wait that can be ended.
    ///
    /// # Errors
    /// As [`Broker::receive`].
    #[doc(hidden)]
    pub fn receive_until(
        &self,
        queue: &str,
        timeout: impl Into<Option<Duration>>,
        lease: impl Into<Option<Duration>>,
        interrupt: &Interrupt,
    ) -> Result<Option<Delivery>> {
        Ok(self.received(queue, 1, timeout.into(), lease.into(), interrupt)?.next())
    }

    /// Takes up to `max` messages that are there, waiting for the first one as [`Broker::receive`] does.
    ///
    /// # Errors
    /// As [`Broker::receive`].
    pub fn receive_batch(
        &self,
        queue: &str,
        max: usize,
        timeout: impl Into<Option<Duration>>,
        lease: impl Into<Option<Duration>>,
    ) -> Result<Vec<Delivery>> {
        self.receive_batch_until(queue, max, timeout, lease, &Interrupt::new())
    }

    /// As [`Broker::receive_batch`], with a wait that can be ended.
    ///
    /// # Errors
    /// As [`Broker::receive`].
    #[doc(hidden)]
    pub fn receive_batch_until(
        &self,
        queue: &str,
        max: usize,
        timeout: impl Into<Option<Duration>>,
        lease: impl Into<Option<Duration>>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Delivery>> {
        Ok(self.received(queue, max, timeout.into(), lease.into(), interrupt)?.collect())
    }

    fn received(
        &self,
        queue: &str,
        max: usize,
        timeout: Option<Duration>,
        lease: Option<Duration>,
        interrupt: &Interrupt,
    ) -> Result<impl Iterator<Item = Delivery>> {
        let lease = lease.unwrap_or(LEASE);
        self.check_receive(queue, max, lease)?;
        let engine = &self.shared.engine;
        let queue = engine.buffer.state.queues.named(queue)?;
        let flights = engine.receive(queue, max, timeout, lease, interrupt)?;
        Ok(flights.into_iter().map(|flight| Delivery::new(Arc::clone(&self.shared), flight)))
    }

    /// Refuses what [`Broker::receive_batch`] would refuse, without taking anything: for the bindings, where a receive may
    /// have to wait before it asks.
    ///
    /// # Errors
    /// `INVALID`, `CLOSED`, `FORKED`.
    #[doc(hidden)]
    pub fn check_receive(
        &self,
        queue: &str,
        max: usize,
        lease: impl Into<Option<Duration>>,
    ) -> Result<()> {
        self.shared.check_open()?;
        if self.shared.engine.buffer.state.queues.last_named(queue).is_none() {
            check_queue_name(queue)?;
        }
        if !(1..=limits::RECEIVE_MAX).contains(&max) {
            return Err(Error::invalid(format!(
                "max is {max}, but goes from 1 to {}",
                limits::RECEIVE_MAX
            )));
        }
        let lease = lease.into().unwrap_or(LEASE);
        if lease.is_zero() || lease > limits::DURATION_MAX {
            return Err(Error::invalid("lease takes more than zero, up to ten years"));
        }
        Ok(())
    }

    /// Ends the wait of the call that was given `interrupt`, now or when it comes to that.
    #[doc(hidden)]
    pub fn interrupt(&self, interrupt: &Interrupt) {
        interrupt.set();
        let state = &self.shared.engine.buffer.state;
        state.queues.all().for_each(|queue| queue.ring_all());
        state.room.ring();
        state.rest.ring();
    }

    /// Sets how many of a queue's handler run at once, 1 to 1024, until its next registration. Those that run already,
    /// run on.
    ///
    /// # Errors
    /// `INVALID` out of range, `NOT_FOUND` for a queue without a handler, `CLOSED`, `FORKED`.
    pub fn scale(&self, queue: &str, max_parallelism: u32) -> Result<()> {
        self.shared.check_open()?;
        check_queue_name(queue)?;
        super::stations::scale(&self.shared, queue, max_parallelism)
    }

    /// Has nothing handed out from a queue, to its handler or to a receive, until [`Broker::resume`] or the close. What is
    /// in flight is not touched; an enqueue goes on.
    ///
    /// # Errors
    /// `INVALID` for a name that is none, `NOT_FOUND` for a queue that there is not, `CLOSED`, `FORKED`.
    pub fn pause(&self, queue: &str) -> Result<()> {
        self.existing_queue(queue).map(|queue| queue.pause(true))
    }

    /// Ends a pause, if there is one.
    ///
    /// # Errors
    /// As [`Broker::pause`].
    pub fn resume(&self, queue: &str) -> Result<()> {
        self.existing_queue(queue).map(|queue| queue.pause(false))
    }

    fn existing_queue(&self, queue: &str) -> Result<&Arc<Queue>> {
        self.shared.check_open()?;
        check_queue_name(queue)?;
        self.shared
            .engine
            .buffer
            .state
            .queues
            .find(queue)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no queue {queue}")))
    }

    /// Ends a message: one that waits is gone, one that somebody holds is cancelled with
    /// [`CancelReason::Cancelled`](crate::CancelReason) and does not come back, unless it is acked all the same. Answers
    /// whether there was such a message; dead letters are none.
    ///
    /// # Errors
    /// `CLOSED`, `FORKED`, `POISONED`, `STORAGE_FULL`.
    pub fn cancel(&self, id: u64) -> Result<bool> {
        self.shared.check_open()?;
        self.shared.engine.cancel_message(id)
    }

    /// Removes all messages of a queue that nobody holds; answers how many. Dead letters stay.
    ///
    /// # Errors
    /// `INVALID` for a name that is none, `CLOSED`, `FORKED`, `POISONED`, `STORAGE_FULL`.
    pub fn purge(&self, queue: &str) -> Result<u64> {
        self.shared.check_open()?;
        check_queue_name(queue)?;
        let buffer = &self.shared.engine.buffer;
        match buffer.state.queues.find(queue) {
            Some(queue) => buffer.purge(queue),
            None => Ok(0),
        }
    }

    /// Takes a snapshot now, and frees the segments that it makes free.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO`, `POISONED`, `CLOSED`, `FORKED`; `CORRUPT` where a content that was to be moved out of an old
    /// segment is damaged, with the snapshot taken all the same.
    pub fn snapshot(&self) -> Result<()> {
        self.shared.check_open()?;
        self.shared.snapshots.take(&self.shared.engine)
    }

    /// Writes a copy of the broker to a directory that is not there yet, or is empty, while work goes on. The copy is
    /// complete with everything that was answered before the call, whole to one moment not before it, and can be opened
    /// like any directory, also beside this one: as after a close at that moment, but that what was in flight is ready
    /// again, uncounted. Of a broker without files it is an ordinary directory.
    ///
    /// The directory above `to` has to be there. What fails leaves nothing behind. A close meanwhile ends it.
    ///
    /// # Errors
    /// `INVALID` for a `to` that is empty, is something else than an empty directory, lies in the broker's own, or is
    /// `":memory:"`; `STORAGE_FULL` and `IO`, naming the path; `CORRUPT` where the broker's own files have lost bytes;
    /// `POISONED`, `CLOSED`, `FORKED`.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<()> {
        super::backup::write(&self.shared, to.as_ref())
    }

    /// As [`Broker::backup`], to a storage that is empty.
    ///
    /// # Errors
    /// As [`Broker::backup`]. What fails leaves what it has written.
    #[doc(hidden)]
    pub fn backup_on(&self, target: &dyn Storage) -> Result<()> {
        super::backup::write_on(&self.shared, target)
    }

    /// Moves a manual clock, and does what is due then.
    ///
    /// # Errors
    /// `INVALID` on a system clock, or above ten years; `CLOSED`, `FORKED`. `STORAGE_FULL`, `IO`, `POISONED` where it
    /// cannot be written that the clock has moved: it has, and what is due then waits for the next call.
    pub fn advance(&self, time: Duration) -> Result<()> {
        self.shared.check_open()?;
        let Some(clock) = &self.shared.manual_clock else {
            return Err(Error::invalid(
                "advance moves a manual clock, and this broker has clock system",
            ));
        };
        if time > limits::DURATION_MAX {
            return Err(Error::invalid("advance takes up to ten years"));
        }
        clock.advance(time);
        self.shared.engine.buffer.log_time()?;
        self.shared.engine.run_due();
        Ok(())
    }

    /// The figures of the broker and its queues.
    ///
    /// # Errors
    /// `CLOSED`, `FORKED`.
    pub fn metrics(&self) -> Result<Metrics> {
        self.shared.check_open()?;
        Ok(Metrics::read(&self.shared))
    }

    /// The dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters<'_> {
        DeadLetters { shared: &self.shared }
    }

    /// What opening found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn into_shared(self) -> Arc<Shared> {
        self.shared
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Refuses a closed broker, and one of the process this one was forked from: for the bindings, before what they
    /// answer themselves.
    #[doc(hidden)]
    pub fn check_open(&self) -> Result<()> {
        self.shared.check_open()
    }

    /// As [`Broker::check_open`], and refuses a queue's name that is none: for the bindings, where a call names a queue and
    /// nothing that is in one.
    #[doc(hidden)]
    pub fn check_queue(&self, queue: &str) -> Result<()> {
        self.shared.check_open()?;
        check_queue_name(queue)
    }

    /// Refuses everything from now on: a bug was caught that may have left things half done.
    #[doc(hidden)]
    pub fn poison(&self, why: &str) {
        self.shared.poison(why);
    }
}
