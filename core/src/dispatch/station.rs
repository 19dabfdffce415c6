//! Stations: a queue's handler and how many work for it.
//!
//! A message is taken under a *permit*, of which there are `max_parallelism`, and gives it back when its flight is over,
//! which may be long after its handler has returned; where a worker on a thread of libmq's own has ended it, that keeps the
//! permit for the next one. While there may be more workers, one that has taken a message sees to it that another one looks
//! for the next. One that finds nothing to do for a while leaves, if another one goes on looking and `min_parallelism` of
//! them stay. A worker whose handler is stuck beyond its grace is replaced by a substitute, at most `max_parallelism` of
//! them; when the stuck one comes back, it leaves.
//!
//! Whose threads the workers run on is not decided here: each new [`Worker`] is handed to the station's `hire`.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use super::engine::{Engine, Retries};
use super::flight::Flight;
use super::worker::{Hire, Worker};
use crate::buffer::{Doorbell, Queue};
use crate::events::event;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Arc, Bell, Mutex, MutexGuard, lock};

/// How a handler is run.
#[derive(Clone, Debug)]
pub(crate) struct HandlerSettings {
    pub(crate) max_parallelism: u32,
    pub(crate) min_parallelism: u32,
    pub(crate) timeout: Duration,
    pub(crate) retries: Retries,
    pub(crate) cancel_grace: Duration,
    pub(crate) may_extend: bool,
}

/// Says how far a loop has come. Called on any thread, under locks of the engine.
pub(crate) type Gate = dyn Fn() -> Progress + Send + Sync;

/// How far a loop has come with what it was given, each message of which has a place, from 1.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last place whose handler was entered.
    pub entered: u64,
    /// The last place behind which the loop has had time for something else: as for what has ended by then.
    pub passed: u64,
}

/// A queue's handler.
pub(crate) struct Station {
    pub(crate) queue: Arc<Queue>,
    pub(crate) settings: HandlerSettings,
    /// Called under its lock, so that nobody uses it any more once it is taken out.
    hire: Mutex<Option<Box<Hire>>>,
    /// Of the loop that its workers are on, if they are on one.
    doorbell: Option<Arc<Doorbell>>,
    /// How far that loop has come with what it was given, if it says so.
    gate: OnceLock<Box<Gate>>,
    crew: Mutex<Crew>,
    changed: Bell,
    /// It takes no messages, or no more, and then somebody may wait for its workers.
    shut: AtomicBool,
    /// Workers whose handler does not run: they look for a message, or wait for one. Only a hint: who makes it zero starts
    /// another worker under the crew's lock, if there may be one, and one too many does no harm. Relaxed but where it hands on
    /// what is said of that.
    looking: AtomicU32,
    /// No more may serve than do. Only a hint: whoever makes room for one more takes it back under the crew's lock. Relaxed:
    /// whoever then leaves it to others to hire has changed `looking` in between, and so the last of them to look sees that. (Those
    /// who do not look whether anybody does may be seen later, as if they had come later.)
    full: AtomicBool,
    /// There are more permits in use than there may be. Changed under the crew's lock; relaxed: who does not see it yet might
    /// have taken its message before.
    crowded: AtomicBool,
}

#[derive(Debug, Default)]
struct Crew {
    /// Workers that were hired and have not left.
    workers: u32,
    /// Those of them that have not decided to leave.
    serving: u32,
    /// `max_parallelism`, as it is now.
    most: u32,
    /// Permits in use: flights that are not over, and workers about to take a message.
    permits: u32,
    /// Handlers that run on after their lease was lost.
    stuck: u32,
    /// A worker that cannot wait looked for a permit and there was none.
    permit_missed: bool,
    open: bool,
    /// It is never opened again.
    retired: bool,
}

impl Crew {
    /// How many may serve: one for each that is stuck as well, but not without an end.
    fn limit(&self) -> u32 {
        self.most + self.stuck.min(self.most)
    }
}

impl Station {
    pub(crate) fn new(
        queue: Arc<Queue>,
        settings: HandlerSettings,
        hire: Box<Hire>,
        doorbell: Option<Arc<Doorbell>>,
    ) -> Self {
        if let Some(doorbell) = &doorbell {
            queue.tell(doorbell);
        }
        let crew = Crew { most: settings.max_parallelism, ..Crew::default() };
        Self {
            queue,
            settings,
            hire: Mutex::new(Some(hire)),
            doorbell,
            gate: OnceLock::new(),
            crew: Mutex::new(crew),
            changed: Bell::new(),
            shut: AtomicBool::new(true),
            looking: AtomicU32::new(0),
            full: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
        }
    }

    /// Starts to take messages, unless it has retired.
    pub(crate) fn open(self: &Arc<Self>, engine: &Arc<Engine>) {
        let mut crew = lock(&self.crew);
        if crew.retired {
            return;
        }
        crew.open = true;
        self.shut.store(false, Ordering::SeqCst);
        self.hire_missing(crew, engine);
    }

    /// Hires for those who were lost, if messages are taken.
    pub(super) fn hire_again(self: &Arc<Self>, engine: &Arc<Engine>) {
        let crew = lock(&self.crew);
        if !crew.open {
            return;
        }
        self.hire_missing(crew, engine);
        if self.looking.load(Ordering::Relaxed) == 0 {
            self.hire_if_allowed(lock(&self.crew), engine);
        }
    }

    /// How many handlers run at once from now on. Those that run already, run on.
    pub(crate) fn scale(self: &Arc<Self>, engine: &Arc<Engine>, most: u32) {
        let mut crew = lock(&self.crew);
        crew.most = most;
        self.full.store(false, Ordering::Relaxed);
        self.crowded.store(crew.permits > most, Ordering::Relaxed);
        self.queue.figures.parallelism.set(most.into());
        let missed = std::mem::take(&mut crew.permit_missed);
        // Acquire and release, and a change: who takes a message at the same time is seen here, or sees that there is room.
        if self.looking.fetch_add(0, Ordering::AcqRel) == 0 {
            self.hire_if_allowed(crew, engine);
        } else {
            drop(crew);
        }
        self.tell_of_permits(missed);
    }

    /// Takes no more messages. Handlers that run, run on.
    pub(crate) fn shut(&self) {
        let mut crew = lock(&self.crew);
        crew.open = false;
        // Under the lock: whoever finds it shut is given no permit any more.
        self.shut.store(true, Ordering::SeqCst);
        drop(crew);
        self.changed.ring();
        self.queue.ring_all();
    }

    /// Takes no more messages, ever.
    pub(crate) fn retire(&self) {
        lock(&self.crew).retired = true;
        self.shut();
    }

    /// Whether it takes no more messages, ever, and nobody has to wait for its workers.
    pub(crate) fn has_retired(&self) -> bool {
        lock(&self.crew).retired && self.has_left()
    }

    /// Whether every worker has left, but for those that are stuck. Each rings the broker's rest when it has.
    ///
    /// One on a loop that runs no handler has left as well: it does nothing until the loop asks, and that may be never.
    pub(crate) fn has_left(&self) -> bool {
        let crew = lock(&self.crew);
        // SeqCst: see `worker_looks`.
        let idle = if self.doorbell.is_some() { self.looking.load(Ordering::SeqCst) } else { 0 };
        crew.workers <= crew.stuck + idle
    }

    /// Whether no handler's code runs, but for those that are stuck. Where it seems to run though it does not, its worker
    /// is just leaving, and rings when it has left.
    pub(crate) fn is_quiet(&self) -> bool {
        let crew = lock(&self.crew);
        crew.workers <= crew.stuck + self.looking.load(Ordering::Relaxed)
    }

    /// Lets go of the handler.
    pub(crate) fn drop_handler(&self) {
        if let Some(doorbell) = &self.doorbell {
            self.queue.forget(doorbell);
        }
        let hire = lock(&self.hire).take();
        drop(hire);
    }

    /// Its loop enters what it is given one after another, and says where it is.
    pub(crate) fn put_gate(&self, gate: Box<Gate>) {
        // The first one stays.
        let _ = self.gate.set(gate);
    }

    /// How far its loop has come; none where it does not say.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.gate.get().map(|gate| gate())
    }

    /// A flight of this station was cancelled, or its lease lost. Who waits in the flight knows already.
    pub(super) fn flight_cancelled(&self) {
        if let Some(doorbell) = &self.doorbell {
            doorbell.ring_for_cancelled();
        }
    }

    /// A flight of this station is over.
    pub(crate) fn flight_ended(&self) {
        self.return_permit();
    }

    /// Takes a flight's lease away: if its handler runs on, its worker gets a substitute.
    pub(super) fn flight_lost(self: &Arc<Self>, engine: &Arc<Engine>, flight: &Flight) {
        if !flight.is_entered() {
            flight.lease.leave();
        }
        let mut crew = lock(&self.crew);
        let count = || {
            crew.stuck += 1;
            self.full.store(false, Ordering::Relaxed);
            self.queue.figures.stuck.up();
        };
        if !flight.lease.lose(count) {
            return;
        }
        let (stuck, all) = (crew.stuck, crew.stuck == crew.limit());
        self.hire_if_allowed(crew, engine);
        self.changed.ring();
        engine.buffer.state.rest.ring_if_heard();
        let (queue, attempt) = (&*self.queue.name, u64::from(flight.taken.attempt));
        let (events, id) = (&engine.buffer.state.events, flight.taken.id);
        event!(events, Warn, "stuck", queue = queue, id = id, attempt = attempt);
        if all {
            event!(events, Error, "all_stuck", queue = queue, stuck = u64::from(stuck));
        }
    }

    /// A worker has taken a message: if nobody looks for the next one, somebody has to.
    pub(super) fn worker_took(self: &Arc<Self>, engine: &Arc<Engine>) {
        // Acquire: see `may_leave`.
        if self.looking.fetch_sub(1, Ordering::Acquire) == 1 && !self.full.load(Ordering::Relaxed) {
            self.hire_if_allowed(lock(&self.crew), engine);
        }
    }

    /// A worker is back from its handler; answers whether somebody may wait for that.
    pub(super) fn worker_looks(&self) -> bool {
        // SeqCst: whoever waits has noted so before it counted; so either it counts this one, or is seen here.
        self.looking.fetch_add(1, Ordering::SeqCst);
        let awaited = self.shut.load(Ordering::SeqCst);
        if awaited {
            // Under the lock that it counts under.
            drop(lock(&self.crew));
            self.changed.ring();
        }
        awaited
    }

    /// Whether there are more workers than stay when there is nothing to do.
    pub(super) fn has_spare_workers(&self) -> bool {
        self.is_spare(&lock(&self.crew))
    }

    fn is_spare(&self, crew: &Crew) -> bool {
        crew.serving > self.settings.min_parallelism.clamp(1, crew.most)
    }

    /// Whether a worker that found nothing to do for a while may leave, which then does not look any more.
    pub(super) fn may_leave(&self) -> bool {
        let mut crew = lock(&self.crew);
        if !self.is_spare(&crew) {
            return false;
        }
        self.full.store(false, Ordering::Relaxed);
        // Release: whoever is left to look, and takes a message, sees that there is room for another one.
        let leave = |looking: u32| (looking > 1).then(|| looking - 1);
        let left = self.looking.fetch_update(Ordering::Release, Ordering::Relaxed, leave);
        let may = left.is_ok();
        crew.serving -= u32::from(may);
        may
    }

    /// A worker leaves; `looks` if it was looking until now, `serving` unless it had been told to leave. Answers whether it
    /// is missed.
    pub(super) fn worker_leaves(&self, looks: bool, serving: bool) -> bool {
        self.looking.fetch_sub(looks.into(), Ordering::Relaxed);
        let mut crew = lock(&self.crew);
        crew.workers -= 1;
        if serving {
            self.stop_serving(&mut crew);
        }
        let missed = serving && crew.open;
        drop(crew);
        self.changed.ring();
        missed
    }

    /// Hires as many as there have to be at least.
    fn hire_missing(self: &Arc<Self>, mut crew: MutexGuard<'_, Crew>, engine: &Arc<Engine>) {
        let wanted = self.settings.min_parallelism.clamp(1, crew.most);
        let missing = (wanted + crew.stuck).min(crew.limit()).saturating_sub(crew.serving);
        let hired: Vec<Worker> = (0..missing).map(|_| self.hired(&mut crew, engine)).collect();
        drop(crew);
        hired.into_iter().for_each(|worker| self.put_to_work(worker));
    }

    /// Hires another worker, as far as that is allowed.
    fn hire_if_allowed(self: &Arc<Self>, mut crew: MutexGuard<'_, Crew>, engine: &Arc<Engine>) {
        if crew.open && crew.serving < crew.limit() {
            let worker = self.hired(&mut crew, engine);
            drop(crew);
            self.put_to_work(worker);
        } else if crew.open {
            self.full.store(true, Ordering::Relaxed);
        }
    }

    /// One more worker, counted and without a thread.
    fn hired(self: &Arc<Self>, crew: &mut Crew, engine: &Arc<Engine>) -> Worker {
        crew.workers += 1;
        crew.serving += 1;
        self.looking.fetch_add(1, Ordering::Relaxed);
        Worker::new(Arc::clone(self), Arc::clone(engine))
    }

    /// Hands a worker to whoever has threads; not under the crew's lock, which a worker takes when it leaves.
    fn put_to_work(&self, worker: Worker) {
        if let Some(hire) = &*lock(&self.hire) {
            hire(worker);
        }
    }

    /// Whether messages are taken. Whoever shuts it says so before it looks for what was taken before.
    pub(super) fn is_open(&self) -> bool {
        !self.shut.load(Ordering::SeqCst)
    }

    /// A worker that was stuck is back; answers whether there is work for it beside its substitute.
    pub(super) fn is_needed_after_all(&self) -> bool {
        let mut crew = lock(&self.crew);
        crew.stuck -= 1;
        let needed = crew.serving <= crew.most;
        if !needed {
            self.stop_serving(&mut crew);
        }
        needed
    }

    /// Waits until one more message may be handled; false when the station is shut, and then the worker leaves. That is
    /// decided here, under the crew's lock: a start that comes next knows whom it can count on. `idle` runs before a wait.
    pub(super) fn take_permit(&self, mut idle: impl FnMut()) -> bool {
        let mut crew = lock(&self.crew);
        while crew.open {
            if crew.permits < crew.most {
                crew.permits += 1;
                return true;
            }
            drop(crew);
            idle();
            // This worker may have been woken for a message that it cannot take; somebody else may.
            self.queue.pass_on();
            crew = lock(&self.crew);
            if crew.open && crew.permits >= crew.most {
                crew = self.changed.wait(crew, None);
            }
        }
        self.stop_serving(&mut crew);
        false
    }

    /// As [`Station::take_permit`], for a worker that cannot wait: its doorbell rings when there is one again.
    pub(super) fn try_permit(&self) -> Permit {
        let mut crew = lock(&self.crew);
        if !crew.open {
            self.stop_serving(&mut crew);
            return Permit::Shut;
        }
        if crew.permits >= crew.most {
            crew.permit_missed = true;
            return Permit::None;
        }
        crew.permits += 1;
        Permit::Taken
    }

    /// Whether a permit may be kept for the next message.
    pub(super) fn may_keep_permit(&self) -> bool {
        self.is_open() && !self.crowded.load(Ordering::Relaxed)
    }

    /// A worker leaves because there is nothing to be had for anybody.
    pub(super) fn worker_gives_up(&self) {
        self.stop_serving(&mut lock(&self.crew));
    }

    fn stop_serving(&self, crew: &mut Crew) {
        crew.serving -= 1;
        self.full.store(false, Ordering::Relaxed);
    }

    pub(super) fn return_permit(&self) {
        let mut crew = lock(&self.crew);
        crew.permits -= 1;
        if crew.permits <= crew.most {
            self.crowded.store(false, Ordering::Relaxed);
        }
        let missed = std::mem::take(&mut crew.permit_missed);
        drop(crew);
        self.tell_of_permits(missed);
    }

    /// Wakes those who wait for a permit; `missed` if one that cannot wait has looked for one.
    fn tell_of_permits(&self, missed: bool) {
        self.changed.ring();
        if let (true, Some(doorbell)) = (missed, &self.doorbell) {
            doorbell.ring();
        }
    }
}

/// What a worker that cannot wait is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    Taken,
    /// All are in use.
    None,
    /// The station is shut: the worker leaves.
    Shut,
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Station({}, {:?})", self.queue.name, *lock(&self.crew))
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::super::models::engine;
    use super::*;
    use crate::alarm::Alarm;
    use crate::broker::Backoff;
    use crate::buffer::Doorbell;
    use crate::buffer::models::queue;
    use crate::sync::explore;

    /// Workers that were hired, and wait for the end of the model.
    type Hired = Arc<std::sync::Mutex<Vec<Worker>>>;

    struct Model {
        engine: Arc<Engine>,
        station: Arc<Station>,
        hired: Hired,
    }

    /// An open station with so many workers of its own that look, of whom no thread is known.
    fn model(most: u32, workers: u32, doorbell: Option<Arc<Doorbell>>) -> Model {
        let (engine, hired) = (engine(), Hired::default());
        let long = Duration::from_secs(3600);
        let settings = HandlerSettings {
            max_parallelism: most,
            min_parallelism: 1,
            timeout: long,
            retries: Retries { max: 5, backoff: Backoff::fixed(long) },
            cancel_grace: long,
            may_extend: true,
        };
        let all = Arc::clone(&hired);
        let hire = Box::new(move |worker| all.lock().unwrap().push(worker));
        let queue = Arc::clone(queue(&engine.buffer));
        let station = Arc::new(Station::new(queue, settings, hire, doorbell));
        {
            let mut crew = lock(&station.crew);
            (crew.open, crew.workers, crew.serving) = (true, workers, workers);
        }
        station.shut.store(false, Ordering::SeqCst);
        station.looking.store(workers, Ordering::Relaxed);
        Model { engine, station, hired }
    }

    impl Drop for Model {
        fn drop(&mut self) {
            drop(std::mem::take(&mut *self.hired.lock().unwrap()));
        }
    }

    /// No more than may run have a permit, and one that is returned wakes who waits for it. Nobody is shut, which would wake
    /// everybody.
    #[test]
    fn loom_permits_are_as_many_as_may_run() {
        explore(2, || {
            let model = model(1, 2, None);
            let running = Arc::new(AtomicU32::new(0));
            let workers = [(); 2].map(|()| {
                let (station, running) = (Arc::clone(&model.station), Arc::clone(&running));
                thread::spawn(move || {
                    assert!(station.take_permit(|| ()));
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                    running.fetch_sub(1, Ordering::SeqCst);
                    station.return_permit();
                })
            });
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            let crew = lock(&model.station.crew);
            assert_eq!((crew.serving, crew.permits), (2, 0));
        });
    }

    /// A shut ends the wait for a permit. Nobody returns one, which would end it, too.
    #[test]
    fn loom_a_shut_ends_every_wait_for_a_permit() {
        explore(2, || {
            let model = model(1, 2, None);
            lock(&model.station.crew).permits = 1;
            let workers = [(); 2].map(|()| {
                let station = Arc::clone(&model.station);
                thread::spawn(move || station.take_permit(|| ()))
            });
            model.station.shut();
            assert!(workers.into_iter().all(|worker| !worker.join().unwrap()));
            assert_eq!(lock(&model.station.crew).serving, 0);
        });
    }

    /// Of two that look one takes a message and the other has found nothing for a while: somebody looks for the next one.
    #[test]
    fn loom_somebody_looks_for_the_next_message() {
        explore(3, || {
            let model = model(2, 2, None);
            model.station.full.store(true, Ordering::Relaxed);
            let station = Arc::clone(&model.station);
            let other = thread::spawn(move || {
                if station.may_leave() {
                    station.worker_leaves(false, false);
                }
            });
            model.station.worker_took(&model.engine);
            other.join().unwrap();
            assert!(model.station.looking.load(Ordering::Relaxed) >= 1);
            let crew = lock(&model.station.crew);
            assert!(crew.serving <= 2 && crew.workers == crew.serving, "{crew:?}");
        });
    }

    /// More are to run in the moment in which the only one that looks takes a message: somebody looks for the next one. The load
    /// with which it was seen that one looks could come before what said that there was room, and that one saw none.
    #[test]
    fn loom_somebody_looks_for_the_next_message_behind_a_scale() {
        explore(3, || {
            let model = model(1, 1, None);
            model.station.full.store(true, Ordering::Relaxed);
            let (station, engine) = (Arc::clone(&model.station), Arc::clone(&model.engine));
            let worker = thread::spawn(move || station.worker_took(&engine));
            model.station.scale(&model.engine, 2);
            worker.join().unwrap();
            assert!(model.station.looking.load(Ordering::Relaxed) >= 1);
        });
    }

    /// Whoever stops hears of a handler on a loop that returns in that moment, or counts it.
    #[test]
    fn loom_a_stop_does_not_miss_the_last_handler() {
        explore(3, || {
            let doorbell = Arc::new(Doorbell::new(|| ()));
            let model = model(1, 1, Some(doorbell));
            model.station.looking.store(0, Ordering::SeqCst);
            let (station, engine) = (Arc::clone(&model.station), Arc::clone(&model.engine));
            let worker = thread::spawn(move || {
                if station.worker_looks() {
                    engine.buffer.state.rest.ring_if_heard();
                }
            });
            model.station.shut();
            let rest = &model.engine.buffer.state.rest;
            let listener = rest.listen();
            loop {
                let seen = rest.count();
                if model.station.has_left() {
                    break;
                }
                rest.wait(seen, None);
            }
            drop(listener);
            worker.join().unwrap();
        });
    }

    /// A worker that cannot wait finds no permit while one is returned: it has it, or its doorbell rings.
    #[test]
    fn loom_a_permit_that_was_missed_is_rung_for() {
        explore(3, || {
            let loops = Arc::new(Alarm::default());
            let called = Arc::clone(&loops);
            let doorbell = Arc::new(Doorbell::new(move || called.ring()));
            let model = model(1, 1, Some(Arc::clone(&doorbell)));
            lock(&model.station.crew).permits = 1;
            let station = Arc::clone(&model.station);
            let flight = thread::spawn(move || station.flight_ended());
            loop {
                let seen = loops.count();
                doorbell.listen();
                if model.station.try_permit() == Permit::Taken {
                    break;
                }
                loops.wait(seen, None);
            }
            flight.join().unwrap();
        });
    }
}
