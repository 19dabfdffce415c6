//! Stations: a queue's handler and the threads that run it.
//!
//! A worker takes a message, hands it to the handler, and comes back for the next; how the delivery ends is between
//! the handler and the engine. A worker whose handler is stuck beyond its grace is replaced by a substitute, at most
//! `max_parallelism` of them; when the stuck one comes back, it leaves.

use std::fmt;
use std::time::Duration;

use super::engine::{Engine, Taker};
use super::flight::Flight;
use crate::broker::Backoff;
use crate::buffer::Queue;
use crate::error::ErrorKind;
use crate::sync::{Arc, Condvar, Mutex, lock, wait};

/// How long a worker waits before it asks again for room on the disk.
const STORAGE_FULL_PAUSE: Duration = Duration::from_secs(1);

/// Runs a flight; answers what its end still has to have written, if it ended.
pub(crate) type Handle = dyn Fn(&Arc<Engine>, Arc<Flight>) -> Option<u64> + Send + Sync;

/// How a handler is run.
#[derive(Clone, Debug)]
pub(crate) struct HandlerSettings {
    pub(crate) max_parallelism: u32,
    pub(crate) min_parallelism: u32,
    pub(crate) timeout: Duration,
    pub(crate) max_retries: u32,
    pub(crate) backoff: Backoff,
    pub(crate) cancel_grace: Duration,
    pub(crate) may_extend: bool,
}

/// A queue's handler.
pub(crate) struct Station {
    pub(crate) queue: Arc<Queue>,
    pub(crate) settings: HandlerSettings,
    handle: Mutex<Option<Arc<Handle>>>,
    crew: Mutex<Crew>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Crew {
    /// Worker threads that were started and have not left.
    threads: u32,
    /// Flights that are not over.
    flights: u32,
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
            changed: Condvar::new(),
        }
    }

    /// Starts to take messages.
    pub(crate) fn open(self: &Arc<Self>, engine: &Arc<Engine>) {
        let mut crew = lock(&self.crew);
        crew.open = true;
        self.queue.figures.parallelism.set(self.settings.max_parallelism.into());
        let wanted = self.settings.min_parallelism.clamp(1, self.settings.max_parallelism);
        while crew.threads < wanted + crew.stuck {
            crew.threads += 1;
            self.spawn(engine);
        }
    }

    /// Takes no more messages. Handlers that run, run on.
    pub(crate) fn shut(&self) {
        lock(&self.crew).open = false;
        self.queue.ring_all();
        self.changed.notify_all();
    }

    /// Waits until every worker has left.
    pub(crate) fn join(&self) {
        let mut crew = lock(&self.crew);
        while crew.threads > crew.stuck {
            crew = wait(&self.changed, crew);
        }
    }

    /// Lets go of the handler.
    pub(crate) fn drop_handle(&self) {
        let handle = lock(&self.handle).take();
        drop(handle);
    }

    /// A flight of this station is over.
    pub(crate) fn flight_ended(&self) {
        lock(&self.crew).flights -= 1;
        self.changed.notify_all();
    }

    /// A handler of this station runs on though its lease was lost: its thread gets a substitute.
    pub(crate) fn stuck(self: &Arc<Self>, engine: &Arc<Engine>) {
        lock(&self.crew).stuck += 1;
        self.changed.notify_all();
        self.grow(engine);
    }

    fn spawn(self: &Arc<Self>, engine: &Arc<Engine>) {
        let (station, engine) = (Arc::clone(self), Arc::clone(engine));
        let name = format!("libmq-{:.8}", self.queue.name);
        let spawned = std::thread::Builder::new().name(name).spawn(move || station.work(&engine));
        debug_assert!(spawned.is_ok());
    }

    fn work(self: Arc<Self>, engine: &Arc<Engine>) {
        let Some(handle) = lock(&self.handle).clone() else { return };
        let taker = Taker::Handler(Arc::clone(&self));
        let mut owed = None;
        while self.admit(engine, &mut owed) {
            match engine.take(&self.queue, &taker, &mut owed) {
                Ok(Some(flight)) => {
                    lock(&self.crew).flights += 1;
                    self.grow(engine);
                    flight.update(|held| held.running = true);
                    owed = handle(engine, Arc::clone(&flight));
                    let was_stuck = flight.update(|held| {
                        held.running = false;
                        held.stuck
                    });
                    if was_stuck && !self.is_needed_after_all() {
                        break;
                    }
                }
                Ok(None) => {
                    if let Some(end) = owed.take() {
                        let _ = engine.buffer.journal.commit(crate::journal::Level::Os, end);
                        continue;
                    }
                    let ready = self.queue.ready();
                    if lock(&self.crew).open && !engine.buffer.state.has_ready(&ready) {
                        drop(self.queue.wait(ready, None));
                    }
                }
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    // Nothing can be handed out before its attempt is logged, and nobody rings when there is room.
                    drop(self.queue.wait(self.queue.ready(), Some(STORAGE_FULL_PAUSE)));
                }
                Err(_) => break,
            }
        }
        if let Some(end) = owed {
            let _ = engine.buffer.journal.commit(crate::journal::Level::Os, end);
        }
        lock(&self.crew).threads -= 1;
        self.changed.notify_all();
    }

    /// A worker that was stuck is back; answers whether there is work for it beside its substitute.
    fn is_needed_after_all(&self) -> bool {
        let mut crew = lock(&self.crew);
        crew.stuck -= 1;
        crew.threads <= self.settings.max_parallelism
    }

    /// Waits until one more message may be handled; false when the station is shut.
    fn admit(&self, engine: &Arc<Engine>, owed: &mut Option<u64>) -> bool {
        let mut crew = lock(&self.crew);
        loop {
            if !crew.open {
                return false;
            }
            if crew.flights < self.settings.max_parallelism {
                return true;
            }
            if let Some(end) = owed.take() {
                drop(crew);
                let _ = engine.buffer.journal.commit(crate::journal::Level::Os, end);
                crew = lock(&self.crew);
                continue;
            }
            crew = wait(&self.changed, crew);
        }
    }

    /// Starts another worker where there is more to do than there are workers, as far as that is allowed.
    fn grow(self: &Arc<Self>, engine: &Arc<Engine>) {
        if self.queue.figures.ready.value() == 0 {
            return;
        }
        let mut crew = lock(&self.crew);
        let most = self.settings.max_parallelism + crew.stuck.min(self.settings.max_parallelism);
        if crew.open && crew.threads < most {
            crew.threads += 1;
            self.spawn(engine);
        }
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Station({}, {:?})", self.queue.name, *lock(&self.crew))
    }
}
