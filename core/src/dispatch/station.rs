//! Stations: a queue's handler and the threads that run it.
//!
//! A worker takes a message, hands it to the handler, and comes back for the next; how the delivery ends is between
//! the handler and the engine. A message is taken under a *permit*, of which there are `max_parallelism`, and gives it
//! back when its flight is over, which may be long after its handler has returned. While there may be more workers, one
//! that has taken a message sees to it that another one looks for the next. A worker whose handler is stuck beyond its
//! grace is replaced by a substitute, at most `max_parallelism` of them; when the stuck one comes back, it leaves.
//!
//! What a worker's handler acked is written together: when there is nothing more to take, or after [`OWED_MAX`]; and
//! the keeper of the disk writes it soon, should the worker be busy in its next call.

use std::fmt;
use std::time::Duration;

use super::engine::{Engine, Retries, Taker};
use super::flight::Flight;
use crate::buffer::Queue;
use crate::error::ErrorKind;
use crate::journal::Level;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, Bell, Mutex, lock};

/// How long a worker waits before it asks again for room on the disk.
const STORAGE_FULL_PAUSE: Duration = Duration::from_secs(1);

/// Settles that a worker leaves unwritten at most.
const OWED_MAX: u32 = 64;

/// Runs a flight; answers what its end still has to have written, if it ended.
pub(crate) type Handle = dyn Fn(&Arc<Engine>, Arc<Flight>) -> Option<u64> + Send + Sync;

/// How a handler is run.
#[derive(Clone, Debug)]
pub(crate) struct HandlerSettings {
    pub(crate) max_parallelism: u32,
    pub(crate) min_parallelism: u32,
    pub(crate) timeout: Duration,
    pub(crate) retries: Arc<Retries>,
    pub(crate) cancel_grace: Duration,
    pub(crate) may_extend: bool,
}

/// A queue's handler.
pub(crate) struct Station {
    pub(crate) queue: Arc<Queue>,
    pub(crate) settings: HandlerSettings,
    handle: Mutex<Option<Arc<Handle>>>,
    crew: Mutex<Crew>,
    changed: Bell,
    /// Workers whose handler does not run: they look for a message, or wait for one. Only a hint, so relaxed: who makes
    /// it zero starts another worker under the crew's lock, and one too many does no harm.
    looking: AtomicU32,
}

#[derive(Debug, Default)]
struct Crew {
    /// Worker threads that were started and have not left.
    threads: u32,
    /// Those of them that have not decided to leave.
    serving: u32,
    /// Permits in use: flights that are not over, and workers about to take a message.
    permits: u32,
    /// Handlers that run on after their lease was lost.
    stuck: u32,
    open: bool,
}

impl Station {
    pub(crate) fn new(queue: Arc<Queue>, settings: HandlerSettings, handle: Arc<Handle>) -> Self {
        Self {
            queue,
            settings,
            handle: Mutex::new(Some(handle)),
            crew: Mutex::default(),
            changed: Bell::new(),
            looking: AtomicU32::new(0),
        }
    }

    /// Starts to take messages.
    pub(crate) fn open(self: &Arc<Self>, engine: &Arc<Engine>) {
        let mut crew = lock(&self.crew);
        crew.open = true;
        let wanted = self.settings.min_parallelism.clamp(1, self.settings.max_parallelism);
        while crew.serving < wanted + crew.stuck {
            self.hire(&mut crew, engine);
        }
    }

    /// Takes no more messages. Handlers that run, run on.
    pub(crate) fn shut(&self) {
        lock(&self.crew).open = false;
        self.changed.ring();
        self.queue.ring_all();
    }

    /// Waits until every worker has left.
    pub(crate) fn join(&self) {
        let mut crew = lock(&self.crew);
        while crew.threads > crew.stuck {
            crew = self.changed.wait(crew, None);
        }
    }

    /// Lets go of the handler.
    pub(crate) fn drop_handle(&self) {
        let handle = lock(&self.handle).take();
        drop(handle);
    }

    /// A flight of this station is over.
    pub(crate) fn flight_ended(&self) {
        self.return_permit();
    }

    /// A flight's lease was taken away: if its handler runs on, its thread gets a substitute.
    pub(crate) fn overrun(self: &Arc<Self>, engine: &Arc<Engine>, flight: &Flight) {
        {
            let mut crew = lock(&self.crew);
            if !flight.lease.note_overrun() {
                return;
            }
            crew.stuck += 1;
            self.hire_if_allowed(&mut crew, engine);
        }
        self.queue.figures.stuck.up();
        self.changed.ring();
    }

    /// Starts another worker, as far as that is allowed.
    fn hire_if_allowed(self: &Arc<Self>, crew: &mut Crew, engine: &Arc<Engine>) {
        let most = self.settings.max_parallelism + crew.stuck.min(self.settings.max_parallelism);
        if crew.open && crew.serving < most {
            self.hire(crew, engine);
        }
    }

    fn hire(self: &Arc<Self>, crew: &mut Crew, engine: &Arc<Engine>) {
        let (station, engine) = (Arc::clone(self), Arc::clone(engine));
        let name = format!("libmq-{:.8}", self.queue.name);
        let spawned = std::thread::Builder::new().name(name).spawn(move || station.work(&engine));
        debug_assert!(spawned.is_ok());
        if spawned.is_ok() {
            crew.threads += 1;
            crew.serving += 1;
            self.looking.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn work(self: Arc<Self>, engine: &Arc<Engine>) {
        let handle = lock(&self.handle).clone();
        if let Some(handle) = handle {
            self.look_for_messages(engine, &*handle);
        }
        self.looking.fetch_sub(1, Ordering::Relaxed);
        // The handler is let go of before: whoever joins may rely on its being gone.
        lock(&self.crew).threads -= 1;
        self.changed.ring();
    }

    fn look_for_messages(self: &Arc<Self>, engine: &Arc<Engine>, handle: &Handle) {
        let taker = Taker::Handler(Arc::clone(self));
        let mut owed = Owed::default();
        while self.take_permit(engine, &mut owed) {
            match engine.take(&self.queue, &taker) {
                Ok(Some(flight)) => {
                    if self.looking.fetch_sub(1, Ordering::Relaxed) == 1 {
                        self.hire_if_allowed(&mut lock(&self.crew), engine);
                    }
                    flight.lease.enter();
                    if let Some(end) = handle(engine, Arc::clone(&flight)) {
                        owed.add(engine, end);
                    }
                    self.looking.fetch_add(1, Ordering::Relaxed);
                    if flight.lease.leave() && !self.is_needed_after_all() {
                        break;
                    }
                }
                Ok(None) => {
                    self.return_permit();
                    if owed.write(engine) {
                        continue;
                    }
                    let ready = self.queue.ready();
                    if lock(&self.crew).open && !engine.buffer.state.has_ready(&ready) {
                        drop(self.queue.wait(ready, None));
                    }
                }
                Err(error) => {
                    self.return_permit();
                    if error.kind() != ErrorKind::StorageFull {
                        lock(&self.crew).serving -= 1;
                        break;
                    }
                    // Nobody rings when there is room again.
                    drop(self.queue.wait(self.queue.ready(), Some(STORAGE_FULL_PAUSE)));
                }
            }
        }
        owed.write(engine);
    }

    /// A worker that was stuck is back; answers whether there is work for it beside its substitute.
    fn is_needed_after_all(&self) -> bool {
        let mut crew = lock(&self.crew);
        crew.stuck -= 1;
        let needed = crew.serving <= self.settings.max_parallelism;
        crew.serving -= u32::from(!needed);
        needed
    }

    /// Waits until one more message may be handled; false when the station is shut, and then the worker leaves. That is
    /// decided here, under the crew's lock: a start that comes next knows whom it can count on.
    fn take_permit(&self, engine: &Engine, owed: &mut Owed) -> bool {
        let mut crew = lock(&self.crew);
        while crew.open {
            if crew.permits < self.settings.max_parallelism {
                crew.permits += 1;
                return true;
            }
            drop(crew);
            owed.write(engine);
            // This worker may have been woken for a message that it cannot take; somebody else may.
            self.queue.pass_on();
            crew = lock(&self.crew);
            if crew.open && crew.permits >= self.settings.max_parallelism {
                crew = self.changed.wait(crew, None);
            }
        }
        crew.serving -= 1;
        false
    }

    fn return_permit(&self) {
        lock(&self.crew).permits -= 1;
        self.changed.ring();
    }
}

/// Settles of one worker that are not known to be written.
#[derive(Debug, Default)]
struct Owed {
    end: u64,
    count: u32,
}

impl Owed {
    /// One more, whose records end there.
    fn add(&mut self, engine: &Engine, end: u64) {
        self.end = self.end.max(end);
        self.count += 1;
        if self.count >= OWED_MAX {
            self.write(engine);
        } else {
            engine.buffer.state.write_wish.ask(&engine.buffer.state.disk);
        }
    }

    /// Writes what is owed; answers whether there was something.
    fn write(&mut self, engine: &Engine) -> bool {
        let owed = std::mem::take(&mut self.count) > 0;
        if owed {
            // A failure poisons the journal, and everybody hears of it from there.
            let _ = engine.buffer.journal.commit(Level::Os, self.end);
        }
        owed
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Station({}, {:?})", self.queue.name, *lock(&self.crew))
    }
}
