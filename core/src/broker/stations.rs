//! Handlers coming and going: register, start, stop, close.

use std::time::{Duration, Instant};

use super::delivery::Delivery;
use super::handler::HandlerOptions;
use super::handlers::is_in_handler;
use super::message::check_queue_name;
use super::shared::Shared;
use crate::buffer::{Doorbell, Outcome};
use crate::dispatch::{CancelReason, Handle, Hire, Station, dismiss, on_own_threads};
use crate::error::{Error, ErrorKind, Result};
use crate::events::event;
use crate::interrupt::Interrupt;
use crate::limits;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, MutexGuard, lock, try_lock};

/// How long a stop waits for an end that was decided to be noted by whoever decided it.
const ENDING_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a stop waits at least for workers that have nothing more to do.
const LEAVING_TIME_MAX: Duration = Duration::from_secs(5);

/// For what a registration waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience<'a> {
    /// For nothing: in a handler, or on a loop.
    None,
    /// For its turn, until it is interrupted.
    Turn(&'a Interrupt),
    /// For its turn, and for the handler that it replaces.
    Long,
}

impl Patience<'_> {
    /// That of a call which may wait, but not in a handler.
    pub(crate) fn outside_of_handlers() -> Self {
        if is_in_handler() { Self::None } else { Self::Long }
    }
}

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
    let hire = on_own_threads(queue, handle);
    let patience = Patience::outside_of_handlers();
    let station = register_station(shared, queue, options, hire, None, patience)?;
    station.map(drop).ok_or_else(|| is_not_its_turn("handle"))
}

/// Registers a queue's handler, whose workers are handed to `hire`; `doorbell` is of the loop that they are on, if so. None
/// where it is not its turn and it does not wait for that. One that would be replaced and is not waited for is `DEADLOCK`.
pub(crate) fn register_station(
    shared: &Arc<Shared>,
    queue: &str,
    options: HandlerOptions,
    hire: Box<Hire>,
    doorbell: Option<Arc<Doorbell>>,
    patience: Patience<'_>,
) -> Result<Option<Arc<Station>>> {
    shared.check_open()?;
    check_queue_name(queue)?;
    let settings = options.resolve(&shared.options)?;
    let queue = Arc::clone(shared.engine.buffer.state.queues.named(queue)?);
    let turn = match patience {
        Patience::None => Turn::now(shared),
        Patience::Turn(interrupt) => Turn::by(shared, None, interrupt),
        Patience::Long => Some(Turn::wait(shared)),
    };
    let Some(_turn) = turn else { return Ok(None) };
    shared.check_open()?;
    let replaces = matches!(patience, Patience::Long);
    let would_wait = || {
        let stations = lock(&shared.engine.stations);
        stations.get(&queue.number).is_some_and(|before| !before.has_retired())
    };
    if !replaces && would_wait() {
        return Err(Error::new(
            ErrorKind::Deadlock,
            format!(
                "queue {} has a handler, and replacing it inside a handler, or on a loop, would wait for itself",
                queue.name
            ),
        ));
    }
    let station = Arc::new(Station::new(Arc::clone(&queue), settings, hire, doorbell));
    let before = {
        // Under the lock that others take it out under.
        let mut stations = lock(&shared.engine.stations);
        queue.figures.parallelism.set(station.settings.max_parallelism.into());
        queue.set_max_retries(Some(station.settings.retries.max));
        queue.acks.make_room();
        stations.insert(queue.number, Arc::clone(&station))
    };
    if let Some(before) = before {
        before.shut();
        if !wait_until(shared, None, || is_hurried(shared), || before.has_left()) {
            let all = !shared.engine.running.load(Ordering::Acquire);
            cut_off(shared, std::slice::from_ref(&before), all, &Interrupt::new());
        }
        before.drop_handler();
    }
    if shared.engine.running.load(Ordering::Acquire) && !is_hurried(shared) {
        station.open(&shared.engine);
    }
    shared.engine.buffer.state.rest.ring_if_heard();
    Ok(Some(station))
}

/// Takes a handler away whose loop has ended: nothing more is taken for it, and the queue is without a handler, unless it
/// has another one by now.
pub(crate) fn withdraw(shared: &Shared, station: &Arc<Station>) {
    take_out(shared, station);
    station.drop_handler();
    shared.engine.buffer.state.rest.ring_if_heard();
}

/// Takes handlers away whose loop goes, and waits for what they run as a stop does.
pub(crate) fn retire(
    shared: &Shared,
    leaving: &[Arc<Station>],
    timeout: Duration,
    interrupt: &Interrupt,
) -> Result<()> {
    let end = Instant::now().checked_add(timeout);
    leaving.iter().for_each(|station| take_out(shared, station));
    let is_over = || interrupt.is_set() || is_hurried(shared);
    let have_left = || leaving.iter().all(|station| station.has_left());
    let in_time = wait_until(shared, end, is_over, have_left);
    if !in_time {
        cut_off(shared, leaving, false, interrupt);
    }
    leaving.iter().for_each(|station| withdraw(shared, station));
    if in_time { Ok(()) } else { Err(had_to_cancel("closed")) }
}

/// Has nothing more taken for a handler that is its queue's no more; no start will open it again.
fn take_out(shared: &Shared, station: &Arc<Station>) {
    let number = station.queue.number;
    let mut stations = lock(&shared.engine.stations);
    if stations.get(&number).is_some_and(|current| Arc::ptr_eq(current, station)) {
        stations.remove(&number);
        station.queue.figures.parallelism.set(0);
        station.queue.set_max_retries(None);
    }
    drop(stations);
    station.shut();
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
    let turn = if is_in_handler() { Turn::now(shared) } else { Some(Turn::wait(shared)) };
    let _turn = turn.ok_or_else(|| is_not_its_turn("start"))?;
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
    let end = Instant::now().checked_add(timeout);
    let (_turn, mut in_time) = turn_by(shared, end, interrupt);
    in_time &= stop_in_turn(shared, end, interrupt);
    if in_time { Ok(()) } else { Err(had_to_cancel("stopped")) }
}

/// Answers whether the handlers came to an end by themselves.
fn stop_in_turn(shared: &Shared, end: Option<Instant>, interrupt: &Interrupt) -> bool {
    let engine = &shared.engine;
    if !engine.running.swap(false, Ordering::AcqRel) {
        return true;
    }
    let stations = stations(shared);
    stations.iter().for_each(|station| station.shut());
    engine.settle_owed();
    let is_over = || interrupt.is_set() || is_hurried(shared);
    let is_quiet =
        || engine.handler_flights().is_empty() && stations.iter().all(|station| station.is_quiet());
    if !wait_until(shared, end, is_over, is_quiet) {
        cut_off(shared, &stations, true, interrupt);
        return false;
    }
    // They have only to leave. One whose thread still does something else, as a log does, is not waited for without a bound.
    let least = Instant::now().checked_add(LEAVING_TIME_MAX);
    let end = end.and_then(|end| Some(end.max(least?)));
    let have_left = || stations.iter().all(|station| station.has_left());
    wait_until(shared, end, || interrupt.is_urgent(), have_left)
}

/// Cancels what handlers run, and takes what they still hold when their grace is over. With `all` that of those, too, that
/// were replaced and have deferred their deliveries: whoever replaces one waits for no more than its calls, and cancels
/// no other's. An interrupt that is urgent ends the grace.
fn cut_off(shared: &Shared, stations: &[Arc<Station>], all: bool, interrupt: &Interrupt) {
    let engine = &shared.engine;
    engine.cut_offs.fetch_add(1, Ordering::Relaxed);
    let flights = || {
        let mut flights = engine.handler_flights();
        flights.retain(|flight| {
            let of_these = |station| stations.iter().any(|these| Arc::ptr_eq(these, station));
            all || flight.station().is_some_and(of_these)
        });
        flights
    };
    for flight in flights() {
        engine.cancel(&flight, CancelReason::Shutdown);
    }
    let grace = stations.iter().map(|station| station.settings.cancel_grace).max();
    let grace_ends = Instant::now().checked_add(grace.unwrap_or_default());
    wait_until(shared, grace_ends, || interrupt.is_urgent(), || flights().is_empty());
    engine.settle_owed();
    for flight in flights() {
        engine.lose(&flight, Outcome::Release { due: engine.now() });
    }
    // What somebody else was ending at the same moment has ended when this returns, too.
    if engine.buffer.write().is_ok() {
        let end = Instant::now().checked_add(ENDING_TIME_MAX);
        wait_until(shared, end, || false, || flights().is_empty());
    }
}

fn had_to_cancel(done: &str) -> Error {
    let text = format!("handlers had to be cancelled; the broker is {done} all the same");
    Error::new(ErrorKind::Timeout, text)
}

/// Closes the broker.
pub(crate) fn close(shared: &Shared, timeout: Duration, interrupt: &Interrupt) -> Result<()> {
    let end = Instant::now().checked_add(timeout);
    let (_turn, mut in_time) = turn_by(shared, end, interrupt);
    let engine = &shared.engine;
    let answer = |in_time| if in_time { Ok(()) } else { Err(had_to_cancel("closed")) };
    if engine.is_closed() {
        return answer(in_time);
    }
    in_time &= stop_in_turn(shared, end, interrupt);
    // Who was not told to wait was told that it would be seen to.
    let is_over = || interrupt.is_set() || is_hurried(shared);
    wait_until(shared, end, is_over, || !shared.clerk.is_beginning());
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
    // What they have ended does not live on.
    let _ = engine.buffer.write();
    if engine.buffer.has_much_to_free() {
        // Else a program that comes and goes would leave one segment more each time. Without room for it, so be it.
        let _ = shared.snapshots.take(engine);
    }
    // Those that there was no room for before.
    let _ = engine.buffer.write();
    let ended = engine.buffer.journal.close();
    engine.buffer.journal.poison(Error::closed());
    // What the journal could not be told to have been given back is in nobody's hands all the same.
    engine.buffer.state.holds.unmark_all();
    engine.buffer.state.rest.ring();
    shared.clerk.dismiss();
    shared.leave();
    event!(engine.buffer.state.events, Info, "close", path = &*shared.path.to_string_lossy());
    engine.buffer.state.events.dismiss();
    ended.and(answer(in_time))
}

/// What a handler is answered that does not wait for its turn: whoever has it may be waiting for the handler to end.
pub(crate) fn is_not_its_turn(call: &str) -> Error {
    Error::new(
        ErrorKind::Deadlock,
        format!("{call} inside a handler would wait for a stop that may be waiting for it"),
    )
}

/// Waits for one's turn to stop handlers. When the time for that is over before it has come, they are cancelled all the
/// same, and whoever has the turn does not wait for them any longer than for their grace. Answers whether nobody had to be
/// cancelled.
fn turn_by<'a>(
    shared: &'a Shared,
    end: Option<Instant>,
    interrupt: &Interrupt,
) -> (Turn<'a>, bool) {
    let engine = &shared.engine;
    if let Some(turn) = Turn::by(shared, end, interrupt) {
        return (turn, true);
    }
    let cut_offs = engine.cut_offs.load(Ordering::Relaxed);
    engine.hurried.fetch_add(1, Ordering::SeqCst);
    engine.buffer.state.rest.ring();
    stations(shared).iter().for_each(|station| station.shut());
    let flights = engine.handler_flights();
    flights.iter().for_each(|flight| engine.cancel(flight, CancelReason::Shutdown));
    let turn = Turn::wait(shared);
    engine.hurried.fetch_sub(1, Ordering::SeqCst);
    (turn, flights.is_empty() && engine.cut_offs.load(Ordering::Relaxed) == cut_offs)
}

/// Whether somebody whose time is over waits for the turn.
fn is_hurried(shared: &Shared) -> bool {
    shared.engine.hurried.load(Ordering::SeqCst) > 0
}

/// The turn of whoever starts, stops or closes, or registers a handler.
struct Turn<'a> {
    shared: &'a Shared,
    guard: Option<MutexGuard<'a, ()>>,
}

impl<'a> Turn<'a> {
    fn wait(shared: &'a Shared) -> Self {
        Self { shared, guard: Some(lock(&shared.turn)) }
    }

    fn now(shared: &'a Shared) -> Option<Self> {
        Some(Self { shared, guard: Some(try_lock(&shared.turn)?) })
    }

    /// Waits for it until then, or until that is interrupted.
    fn by(shared: &'a Shared, end: Option<Instant>, interrupt: &Interrupt) -> Option<Self> {
        let mut turn = None;
        let is_over = || interrupt.is_set();
        wait_until(shared, end, is_over, || {
            turn = Self::now(shared);
            turn.is_some()
        });
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        self.shared.engine.buffer.state.rest.ring_if_heard();
    }
}

fn stations(shared: &Shared) -> Vec<Arc<Station>> {
    lock(&shared.engine.stations).values().cloned().collect()
}

/// Waits until `done`, which is asked again when a worker leaves, a handler's message ends during a stop, or a turn is
/// over; answers whether that was so in time, and before what else ends the wait.
fn wait_until(
    shared: &Shared,
    end: Option<Instant>,
    is_over: impl Fn() -> bool,
    mut done: impl FnMut() -> bool,
) -> bool {
    let rest = &shared.engine.buffer.state.rest;
    let _listener = rest.listen();
    loop {
        let seen = rest.count();
        if done() {
            return true;
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if is_over() || left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        rest.wait(seen, left);
    }
}
