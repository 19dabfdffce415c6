//! Handlers coming and going: register, start, stop, close.

use std::sync::TryLockError;
use std::time::{Duration, Instant};

use super::broker::is_in_handler;
use super::delivery::Delivery;
use super::handler::HandlerOptions;
use super::message::check_queue_name;
use super::shared::Shared;
use crate::buffer::{Doorbell, Outcome};
use crate::dispatch::{CancelReason, Handle, Hire, Station, dismiss, on_own_threads};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::limits;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, MutexGuard, lock};

/// How long a stop waits for an end that was decided to be noted by whoever decided it.
const ENDING_TIME_MAX: Duration = Duration::from_secs(1);

/// Registers a queue's handler that runs on our own threads; `run` settles the delivery, or sees to it, and answers what
/// has still to be written.
pub(crate) fn register(
    shared: &Arc<Shared>,
    queue: &str,
    options: HandlerOptions,
    run: impl Fn(Delivery) -> Option<u64> + Send + Sync + 'static,
) -> Result<()> {
    // Weak: a broker that nobody holds any more must not be kept alive by its own handlers.
    let broker = Arc::downgrade(shared);
    let handle: Arc<Handle> = Arc::new(move |flight| match broker.upgrade() {
        Some(shared) => run(Delivery::new(shared, flight)),
        None => None,
    });
    register_station(shared, queue, options, on_own_threads(queue, handle), None).map(drop)
}

/// Registers a queue's handler, whose workers are handed to `hire`; `doorbell` is of the loop that they are on, if so.
pub(crate) fn register_station(
    shared: &Arc<Shared>,
    queue: &str,
    options: HandlerOptions,
    hire: Box<Hire>,
    doorbell: Option<Arc<Doorbell>>,
) -> Result<Arc<Station>> {
    shared.check_open()?;
    check_queue_name(queue)?;
    let settings = options.settle(&shared.options)?;
    let queue = Arc::clone(shared.engine.buffer.state.queues.named(queue)?);
    let may_wait = doorbell.is_none() && !is_in_handler();
    let _turn = turn(shared, "handle", may_wait)?;
    shared.check_open()?;
    if !may_wait && lock(&shared.engine.stations).contains_key(&queue.number) {
        return Err(Error::new(
            ErrorKind::Deadlock,
            "replacing a handler inside one, or on a loop, would wait for itself",
        ));
    }
    let station = Arc::new(Station::new(Arc::clone(&queue), settings, hire, doorbell));
    queue.figures.parallelism.set(station.settings.max_parallelism.into());
    let before = lock(&shared.engine.stations).insert(queue.number, Arc::clone(&station));
    if let Some(before) = before {
        before.shut();
        before.join();
        before.drop_handler();
    }
    if shared.engine.running.load(Ordering::Acquire) {
        station.open(&shared.engine);
    }
    shared.engine.buffer.state.rest.ring_if_heard();
    Ok(station)
}

/// Takes a handler away whose loop has ended: nothing more is taken for it, and the queue is without a handler, unless it
/// has another one by now.
pub(crate) fn withdraw(shared: &Shared, station: &Arc<Station>) {
    let number = station.queue.number;
    let mut stations = lock(&shared.engine.stations);
    if stations.get(&number).is_some_and(|current| Arc::ptr_eq(current, station)) {
        stations.remove(&number);
        station.queue.figures.parallelism.set(0);
    }
    drop(stations);
    station.shut();
    station.drop_handler();
    shared.engine.buffer.state.rest.ring_if_heard();
}

/// Sets how many of a queue's handler run at once.
pub(crate) fn scale(shared: &Shared, queue: &str, most: u32) -> Result<()> {
    if !(1..=limits::PARALLELISM_MAX).contains(&most) {
        return Err(Error::invalid(format!(
            "max_parallelism is {most}, but goes from 1 to {}",
            limits::PARALLELISM_MAX
        )));
    }
    let found = shared.engine.buffer.state.queues.find(queue);
    let station = found.and_then(|found| lock(&shared.engine.stations).get(&found.number).cloned());
    let Some(station) = station else {
        return Err(Error::new(ErrorKind::NotFound, format!("queue {queue} has no handler")));
    };
    station.scale(&shared.engine, most);
    Ok(())
}

/// Starts all handlers.
pub(crate) fn start(shared: &Arc<Shared>) -> Result<()> {
    let _turn = turn(shared, "start", !is_in_handler())?;
    shared.check_open()?;
    if !shared.engine.running.swap(true, Ordering::AcqRel) {
        for station in stations(shared) {
            station.open(&shared.engine);
        }
    }
    Ok(())
}

/// Stops all handlers.
pub(crate) fn stop(shared: &Shared, timeout: Duration, interrupt: &Interrupt) -> Result<()> {
    let _turn = lock(&shared.turn);
    stop_in_turn(shared, timeout, interrupt)
}

/// Takes no more messages, and writes what was settled.
pub(crate) fn shut(shared: &Shared) {
    stations(shared).iter().for_each(|station| station.shut());
    // A failure poisons the journal, and everybody hears of it from there.
    let _ = shared.engine.buffer.journal.write();
}

fn stop_in_turn(shared: &Shared, timeout: Duration, interrupt: &Interrupt) -> Result<()> {
    let engine = &shared.engine;
    if !engine.running.swap(false, Ordering::AcqRel) {
        return Ok(());
    }
    let stations = stations(shared);
    stations.iter().for_each(|station| station.shut());
    engine.settle_owed();
    let end = Instant::now().checked_add(timeout);
    let is_quiet = || stations.iter().all(|station| station.is_quiet());
    let in_time = wait_for_handlers(shared, end, interrupt, is_quiet);
    if !in_time {
        for flight in engine.handler_flights() {
            engine.cancel(&flight, CancelReason::Shutdown);
        }
        let grace = stations.iter().map(|station| station.settings.cancel_grace).max();
        let grace_ends = Instant::now().checked_add(grace.unwrap_or_default());
        wait_for_handlers(shared, grace_ends, &Interrupt::new(), || true);
        engine.settle_owed();
        for flight in engine.handler_flights() {
            let lost = engine.lose(&flight, Outcome::Release { due: engine.now() });
            if let (true, Some(station)) = (lost, &flight.station) {
                station.overrun(engine, &flight);
            }
        }
        // What somebody else was ending at the same moment has ended when this returns, too.
        if engine.buffer.journal.write().is_ok() {
            let end = Instant::now().checked_add(ENDING_TIME_MAX);
            wait_for_handlers(shared, end, &Interrupt::new(), || true);
        }
        return Err(Error::new(
            ErrorKind::Timeout,
            "handlers had to be cancelled; the broker is stopped all the same",
        ));
    }
    stations.iter().for_each(|station| station.join());
    Ok(())
}

/// Closes the broker.
pub(crate) fn close(shared: &Shared, timeout: Duration, interrupt: &Interrupt) -> Result<()> {
    let _turn = lock(&shared.turn);
    let engine = &shared.engine;
    if engine.is_closed() {
        return Ok(());
    }
    let stopped = stop_in_turn(shared, timeout, interrupt);
    engine.closed.store(true, Ordering::Release);
    engine.buffer.state.room.close();
    for queue in engine.buffer.state.queues.all() {
        queue.ring_all();
    }
    engine.settle_owed();
    engine.forget_owed();
    for flight in engine.all_flights() {
        engine.lose(&flight, Outcome::Release { due: engine.now() });
    }
    let stations = std::mem::take(&mut *lock(&engine.stations));
    stations.values().for_each(|station| station.drop_handler());
    dismiss(engine, &shared.snapshots);
    for keeper in lock(&shared.keepers).drain(..) {
        let _ = keeper.join();
    }
    if engine.buffer.has_much_to_free() {
        // Else a program that comes and goes would leave one segment more each time. Without room for it, so be it.
        let _ = shared.snapshots.take(engine);
    }
    let ended = engine.buffer.journal.close();
    engine.buffer.journal.poison(Error::closed());
    // What the journal could not be told to have been given back is in nobody's hands all the same.
    engine.buffer.state.holds.unmark_all();
    engine.buffer.state.rest.ring();
    shared.leave();
    ended.and(stopped)
}

/// Waits for one's turn; a handler, and a loop that runs them, does not: whoever has the turn may be waiting for it to end.
fn turn<'a>(shared: &'a Shared, call: &str, may_wait: bool) -> Result<MutexGuard<'a, ()>> {
    if may_wait {
        return Ok(lock(&shared.turn));
    }
    match shared.turn.try_lock() {
        Ok(turn) => Ok(turn),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Deadlock,
            format!("{call} inside a handler would wait for a stop that may be waiting for it"),
        )),
    }
}

fn stations(shared: &Shared) -> Vec<Arc<Station>> {
    lock(&shared.engine.stations).values().cloned().collect()
}

/// Waits until no handler holds a message and `done` says so too, which is asked again when a worker leaves; answers
/// whether that was so in time, and before an interrupt.
fn wait_for_handlers(
    shared: &Shared,
    end: Option<Instant>,
    interrupt: &Interrupt,
    done: impl Fn() -> bool,
) -> bool {
    let rest = &shared.engine.buffer.state.rest;
    let _listener = rest.listen();
    loop {
        let seen = rest.count();
        if shared.engine.handler_flights().is_empty() && done() {
            return true;
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if interrupt.is_set() || left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        rest.wait(seen, left);
    }
}
