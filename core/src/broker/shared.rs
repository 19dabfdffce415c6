//! What all handles of an open broker share.

use std::path::PathBuf;
use std::time::SystemTime;

use super::clerk::{Clerk, refuse_in_callback};
use super::message::{Dedup, Message, Rare, TRACEPARENT, check_queue_name};
use super::options::{Durability, Options};
use super::recovery::Recovery;
use crate::buffer::{Envelope, NewMessage, NewRare, Queue, put_header};
use crate::clock::{Look, ManualClock, Moment};
use crate::dispatch::{Engine, Snapshots, dismiss};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Level;
use crate::limits;
use crate::storage::forks;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Mutex, lock};

/// An open broker.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) options: Options,
    pub(crate) path: PathBuf,
    pub(crate) recovery: Recovery,
    pub(crate) manual_clock: Option<Arc<ManualClock>>,
    /// How many forks lay between the process that opened the broker and the one that loaded the library.
    pub(crate) forks: u32,
    pub(crate) owner_lock: Mutex<Option<Box<dyn Send + Sync>>>,
    pub(crate) keepers: Mutex<Vec<std::thread::JoinHandle<()>>>,
    /// Held by whoever starts, stops or closes.
    pub(crate) turn: Mutex<()>,
    pub(crate) clerk: Clerk,
    #[cfg(feature = "opentelemetry")]
    pub(crate) telemetry: super::telemetry::Telemetry,
}

impl Shared {
    /// Refuses a closed broker, and one that belongs to the process this one was forked from.
    pub(crate) fn check_open(&self) -> Result<()> {
        if forks() != self.forks {
            return Err(Error::new(
                ErrorKind::Forked,
                "this process was forked from the one that opened the broker: open one of its own",
            ));
        }
        if self.engine.is_closed() { Err(Error::closed()) } else { Ok(()) }
    }

    /// Refuses everything from now on.
    pub(crate) fn poison(&self, why: &str) {
        self.engine.buffer.journal.poison(Error::new(ErrorKind::Poisoned, why));
    }

    /// Refuses a message that is out of range. Answers its queue, unless it is the first one to name that.
    pub(crate) fn check_message(&self, message: &Message<'_>) -> Result<Option<&Arc<Queue>>> {
        let queue = self.engine.buffer.state.queues.find(&message.queue);
        if queue.is_none() {
            check_queue_name(&message.queue)?;
        }
        message.check(self.options.max_message_bytes)?;
        if let Some(rare) = message.rare.as_ref().filter(|rare| rare.is_timed()) {
            self.check_times(rare)?;
        }
        Ok(queue)
    }

    /// Refuses moments that are out of range.
    fn check_times(&self, rare: &Rare<'_>) -> Result<()> {
        let look = self.look();
        if let Some(moment) = rare.run_at
            && self.moment_of(moment, look) > look.now.after(limits::DURATION_MAX)
        {
            return Err(Error::invalid("run_at is more than ten years from now"));
        }
        rare.check_expiry(look.now, self.due(rare, look))
    }

    /// When a message is due that is enqueued at that look.
    fn due(&self, rare: &Rare<'_>, look: Look) -> Moment {
        match (rare.delay, rare.run_at) {
            (Some(delay), _) => look.now.after(delay),
            (None, Some(moment)) => self.moment_of(moment, look).max(look.now),
            (None, None) => look.now,
        }
    }

    fn look(&self) -> Look {
        self.engine.buffer.state.clock.look()
    }

    fn moment_of(&self, time: SystemTime, look: Look) -> Moment {
        self.engine.buffer.state.clock.moment_of(time, look)
    }

    /// Runs `work` with the messages in the words of the buffer. They were checked; `first` is the queue of the first one where that
    /// is at hand. `trace` is the header of those that have none of their own.
    pub(crate) fn with_new_messages<R>(
        &self,
        messages: &[Message<'_>],
        first: Option<&Arc<Queue>>,
        trace: Option<&str>,
        work: impl FnOnce(&[NewMessage<'_>]) -> Result<R>,
    ) -> Result<R> {
        if let [message] = messages {
            return self.with_new_message(message, first, trace, |new| work(&[*new]));
        }
        let now = self.engine.buffer.state.clock.recent();
        let mut first = first;
        let mut runs = Vec::new();
        for alike in messages.chunk_by(|before, message| message.is_like(before)) {
            let Some(message) = alike.first() else { continue };
            let envelope = self.envelope(message, first.take(), trace, now)?;
            runs.push((envelope, alike));
        }
        let mut new = Vec::with_capacity(messages.len());
        for (envelope, alike) in &runs {
            new.extend(alike.iter().map(|message| NewMessage { envelope, body: &message.body }));
        }
        work(&new)
    }

    /// As [`Shared::with_new_messages`], of one.
    pub(crate) fn with_new_message<R>(
        &self,
        message: &Message<'_>,
        queue: Option<&Arc<Queue>>,
        trace: Option<&str>,
        work: impl FnOnce(&NewMessage<'_>) -> Result<R>,
    ) -> Result<R> {
        let now = self.engine.buffer.state.clock.recent();
        let envelope = self.envelope(message, queue, trace, now)?;
        work(&NewMessage { envelope: &envelope, body: &message.body })
    }

    /// What is to be said of a message, and of all that are like it; `queue` is its queue where that is at hand.
    #[inline]
    fn envelope<'m>(
        &'m self,
        message: &'m Message<'_>,
        queue: Option<&'m Arc<Queue>>,
        trace: Option<&str>,
        now: Moment,
    ) -> Result<Envelope<'m>> {
        let queue = match queue {
            Some(queue) => queue,
            None => self.engine.buffer.state.queues.named(&message.queue)?,
        };
        let (due, rare) = if message.rare.is_some() || trace.is_some() {
            self.new_rare(message, trace, now)
        } else {
            (now, None)
        };
        // At once and whole: a processor waits where it is to read together what was written in parts a moment ago.
        Ok(Envelope {
            queue,
            content_type: message.content_type.as_deref(),
            priority: message.priority,
            enqueued_at: now,
            due,
            level: self.level(message.durability),
            rare,
        })
    }

    /// When a message is due that few are like, and what it has that few have.
    fn new_rare<'m>(
        &self,
        message: &'m Message<'_>,
        trace: Option<&str>,
        now: Moment,
    ) -> (Moment, Option<Box<NewRare<'m>>>) {
        let (mut due, mut new) = (now, None);
        if let Some(rare) = message.rare.as_deref() {
            // Both times of a message are told from one look: what expires behind its start never starts too late.
            let look = rare.is_timed().then(|| self.look());
            due = look.map_or(now, |look| self.due(rare, look));
            new = Some(self.rare_of(rare, look));
        }
        if let Some(trace) = trace.filter(|_| !message.is_traced()) {
            put_header(&mut new.get_or_insert_default().headers, TRACEPARENT, trace);
        }
        (due, new)
    }

    fn rare_of<'m>(&self, rare: &'m Rare<'_>, look: Option<Look>) -> Box<NewRare<'m>> {
        let mut headers = Vec::new();
        for (name, value) in &rare.headers {
            put_header(&mut headers, name, value);
        }
        Box::new(NewRare {
            key: rare.dedup_key.as_deref(),
            keep: rare.dedup == Dedup::Keep,
            correlation_id: rare.correlation_id.as_deref(),
            group: rare.group.as_deref(),
            expires: look.zip(rare.expires_in).map(|(look, time)| look.now.after(time)),
            window: rare.dedup_window,
            headers,
        })
    }

    /// The level that a message reaches.
    pub(crate) fn level(&self, asked: Option<Durability>) -> Level {
        match (self.options.durability, asked) {
            (Durability::Memory, _) => Level::Os,
            (_, Some(Durability::Sync)) | (Durability::Sync, None) => Level::Sync,
            _ => Level::Os,
        }
    }

    /// Ends everything as a crash would: nothing more is written, and the directory is given up.
    pub(crate) fn abandon(&self) {
        if forks() != self.forks {
            // The files and the lock are the parent's. The copy of the lock was closed when the process was forked.
            std::mem::forget(lock(&self.owner_lock).take());
            return;
        }
        self.engine.closed.store(true, Ordering::Release);
        self.engine.buffer.state.room.close();
        self.engine.buffer.journal.poison(Error::closed());
        self.engine.forget_owed();
        let stations = std::mem::take(&mut *lock(&self.engine.stations));
        for station in stations.values() {
            station.shut();
            station.drop_handler();
        }
        for queue in self.engine.buffer.state.queues.all() {
            queue.ring_all();
        }
        dismiss(&self.engine, &self.snapshots);
        self.clerk.dismiss();
        self.engine.buffer.state.events.dismiss();
        self.leave();
        self.tell_the_rest();
    }

    /// Returns when everybody has been told of what there was to tell. A callback that ends the broker does not wait for
    /// itself, nor for other callbacks of enqueues, one of which may be ending its own.
    pub(crate) fn tell_the_rest(&self) {
        if refuse_in_callback("close").is_ok() {
            self.clerk.join();
        }
        self.engine.buffer.state.events.join();
    }

    /// Gives the directory up, when nobody does anything there any more, whether on the broker's own threads or in a
    /// call: whoever opens it next begins a file of the number that the next spare would have had, and its snapshots have
    /// the temporary name of ours. The journal refuses everything by now.
    pub(crate) fn leave(&self) {
        for keeper in lock(&self.keepers).drain(..) {
            let _ = keeper.join();
        }
        self.snapshots.rest();
        self.engine.buffer.journal.rest();
        self.engine.buffer.journal.let_go();
        self.engine.buffer.state.holds.let_go();
        self.engine.buffer.state.stock.let_go();
        lock(&self.owner_lock).take();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broker({})", self.path.display())
    }
}
