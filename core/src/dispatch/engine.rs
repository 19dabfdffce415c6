//! The engine: takes messages for those who want them, and ends their flights.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::flight::{Flight, Holder, Standing};
use super::flights::Flights;
use super::lease::{CancelReason, Lease};
use super::owed::{End, Owed};
use super::station::Station;
use crate::alarm::Wish;
use crate::broker::Backoff;
use crate::buffer::{Buffer, Few, Limits, Outcome, Queue, Removed, Settled, Write, earliest};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{detail, event};
use crate::interrupt::Interrupt;
use crate::journal::Level;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, Pause, lock};

/// How long until what is due is tried again that could not be done for want of room on the disk.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What the engine needs of the broker's options.
#[derive(Clone, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) capacity: usize,
    pub(crate) default_retries: Retries,
    pub(crate) max_crashes: u32,
}

/// How often a failed message is tried again, and when.
#[derive(Clone, Debug)]
pub(crate) struct Retries {
    pub(crate) max: u32,
    pub(crate) backoff: Backoff,
}

impl Retries {
    /// How long the message of a flight waits before it is tried again.
    fn delay(&self, flight: &Flight) -> Duration {
        self.backoff.delay(flight.taken.attempt, crate::random::unit())
    }
}

/// Who has a message handed out.
#[derive(Clone, Debug)]
pub(crate) enum Taker {
    Handler(Arc<Station>),
    /// A receive, which holds the message for this long.
    Pull(Duration),
}

/// Messages, and those who hold them.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) buffer: Buffer,
    pub(crate) options: EngineOptions,
    flights: Flights,
    owed: Owed,
    pub(crate) stations: Mutex<HashMap<u32, Arc<Station>>>,
    /// Somebody's worker was lost, and another one is to be hired when that may be possible.
    pub(super) hire_wish: Wish,
    pub(crate) running: AtomicBool,
    pub(crate) closed: AtomicBool,
    /// Calls of stop and close whose time ran out while somebody else had the turn, who is to come to an end for them.
    pub(crate) hurried: AtomicU32,
    /// How often handlers were cut off. Changed and read by who has the turn, or waits for it: the turn orders it.
    pub(crate) cut_offs: AtomicU64,
}

impl Engine {
    pub(crate) fn new(buffer: Buffer, options: EngineOptions) -> Self {
        Self {
            flights: Flights::new(options.capacity),
            owed: Owed::default(),
            buffer,
            options,
            stations: Mutex::default(),
            hire_wish: Wish::default(),
            running: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            hurried: AtomicU32::new(0),
            cut_offs: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn now(&self) -> Moment {
        self.buffer.state.clock.now()
    }

    /// Takes the next message of a queue, if there is one; says `found` before it reads its body, for which a disk may take some
    /// time. The memory of `before`, which the same taker had, is used again if nobody else has it.
    pub(crate) fn take(
        &self,
        queue: &Arc<Queue>,
        taker: &Taker,
        before: Option<Arc<Flight>>,
        found: impl FnOnce(),
    ) -> Result<Option<Arc<Flight>>> {
        let (max_retries, time) = match taker {
            Taker::Handler(station) => (station.settings.retries.max, station.settings.timeout),
            Taker::Pull(lease) => {
                (queue.max_retries().unwrap_or(self.options.default_retries.max), *lease)
            }
        };
        let limits = Limits { max_retries, max_crashes: self.options.max_crashes };
        let Some(taken) = self.buffer.take(queue, limits)? else { return Ok(None) };
        found();
        let content = self.buffer.content(&taken).inspect_err(|error| {
            if error.kind() == ErrorKind::NoMemory {
                self.buffer.put_back(&taken);
                return;
            }
            // A message whose bytes are gone can be neither handed out nor dropped.
            self.buffer.journal.poison(error.clone().with_kind(ErrorKind::Poisoned));
            if self.is_closed() {
                // It was closed meanwhile, and let go of its files; maybe before this was marked.
                self.buffer.state.holds.unmark(taken.hold);
            }
        })?;
        queue.figures.delivered.up();
        let deadline = self.now().after(time);
        let lease = Lease::until(deadline, matches!(taker, Taker::Handler(_)));
        let flight = Flight::new(before, taken, lease, content, || match taker {
            Taker::Handler(station) => Holder::Handler(Arc::clone(station)),
            Taker::Pull(_) => Holder::Puller { queue: Arc::clone(queue), max_retries },
        });
        detail!(
            "deliver",
            queue = &*queue.name,
            id = flight.taken.id,
            attempt = flight.taken.attempt
        );
        self.flights.insert(&flight);
        self.buffer.state.timer.due_at(deadline);
        Ok(Some(flight))
    }

    /// Takes up to `max` messages, waiting for the first one at most for `timeout`.
    pub(crate) fn receive(
        self: &Arc<Self>,
        queue: &Arc<Queue>,
        max: usize,
        timeout: Option<Duration>,
        lease: Duration,
        interrupt: &Interrupt,
    ) -> Result<Few<Arc<Flight>>> {
        let taker = Taker::Pull(lease);
        let mut flights = Few::new();
        // A look at the clock costs as much as half of all else, and mostly there is no need to wait.
        let mut end = None;
        loop {
            while flights.len() < max {
                if self.closed.load(Ordering::Acquire) {
                    return if flights.is_empty() { Err(Error::closed()) } else { Ok(flights) };
                }
                match self.take(queue, &taker, None, || {}) {
                    // Whoever closed it may have looked for flights before this one was there.
                    Ok(Some(flight)) if self.is_closed() => self.take_back(&flight),
                    Ok(Some(flight)) => flights.push(flight),
                    Ok(None) => break,
                    Err(error) if flights.is_empty() => return Err(error),
                    // Those that were taken are handed out; the error will be there for the next call.
                    Err(_) => return Ok(flights),
                }
            }
            if !flights.is_empty() || interrupt.is_set() || timeout == Some(Duration::ZERO) {
                return Ok(flights);
            }
            let now = Instant::now();
            let end = *end.get_or_insert_with(|| timeout.and_then(|time| now.checked_add(time)));
            let left = end.map(|end| end.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(flights);
            }
            let ready = queue.ready();
            if !interrupt.is_set()
                && !self.buffer.state.has_ready(&ready)
                && !self.closed.load(Ordering::Acquire)
            {
                drop(queue.wait(ready, left));
            }
        }
    }

    /// Ends a flight; the caller commits the answer's `end`, at once or, if it is written later, with its next message.
    ///
    /// # Errors
    /// `STALE_LEASE`.
    pub(crate) fn settle(
        self: &Arc<Self>,
        flight: &Flight,
        outcome: Outcome<'_>,
        write: Write,
    ) -> Result<Settled> {
        let ended = || self.ended(flight, false);
        let settled = self.buffer.settle(flight.queue(), &flight.taken, outcome, write, ended);
        let settled = settled.inspect_err(|error| match error.kind() {
            ErrorKind::StaleLease => flight.queue().figures.stale_settles.up(),
            ErrorKind::Poisoned => self.give_up(flight),
            _ => {}
        })?;
        detail!(
            "settle",
            queue = &*flight.queue().name,
            id = flight.taken.id,
            attempt = flight.taken.attempt,
            outcome = outcome.name()
        );
        if settled.awaits_sync {
            let state = &self.buffer.state;
            state.sync_now_wish.ask(&state.disk);
        }
        Ok(settled)
    }

    /// Keeps the end of a flight that the disk has no room for, until it has.
    pub(crate) fn owe(&self, flight: &Flight, end: End) {
        flight.lease.conclude();
        // Held, but in nobody's hands: should the process die now, it was not of this message.
        self.buffer.state.holds.unmark(flight.taken.hold);
        self.owed.add(end);
        self.buffer.state.disk.ring();
        if self.is_closed() {
            // Whoever closed it may have forgotten what was owed before this was.
            self.owed.clear();
        }
    }

    /// Whether there are ends that the disk had no room for.
    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty() || self.buffer.owes_acks()
    }

    /// Tries again what the disk had no room for.
    pub(crate) fn settle_owed(&self) {
        // First what is decided: it takes little room, and has it before what is not. A failure poisons the journal, and everybody
        // hears of it from there.
        let _ = self.buffer.write();
        if self.owed.settle() {
            let _ = self.buffer.write();
        }
    }

    /// Forgets what is owed; the broker was closed.
    pub(crate) fn forget_owed(&self) {
        self.owed.clear();
    }

    /// How a failed attempt of this flight ends.
    pub(crate) fn failure<'a>(
        &self,
        flight: &Flight,
        delay: Option<Duration>,
        error: &'a str,
    ) -> Outcome<'a> {
        self.with_retries(flight, |retries| {
            let due = self.due_after(delay.unwrap_or_else(|| retries.delay(flight)));
            Outcome::Fail { due, max_retries: retries.max, error }
        })
    }

    /// How long the message of a flight waits before it is tried again.
    pub(crate) fn backoff(&self, flight: &Flight) -> Duration {
        self.with_retries(flight, |retries| retries.delay(flight))
    }

    /// How the message of a flight is tried again: as the handler of its queue says, if it has one.
    fn with_retries<R>(&self, flight: &Flight, work: impl FnOnce(&Retries) -> R) -> R {
        if let Some(station) = flight.station() {
            return work(&station.settings.retries);
        }
        let stations = lock(&self.stations);
        let station = stations.get(&flight.queue().number);
        work(station.map_or(&self.options.default_retries, |station| &station.settings.retries))
    }

    /// When something is due that is to wait this long.
    pub(crate) fn due_after(&self, delay: Duration) -> Moment {
        self.now().after(delay)
    }

    /// Moves a flight's deadline out.
    ///
    /// # Errors
    /// `STALE_LEASE` once the lease is lost or the broker stops, `UNSUPPORTED` where the handler does not allow it.
    pub(crate) fn extend(&self, flight: &Arc<Flight>, time: Duration) -> Result<()> {
        if time > crate::limits::EXTEND_MAX {
            return Err(Error::invalid("extend takes at most 24 hours"));
        }
        if !flight.may_extend() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "lease_extension_enabled is off for this handler",
            ));
        }
        let deadline = self.now().after(time);
        if flight.lease.extend(deadline) { Ok(()) } else { Err(Error::stale_lease()) }
    }

    /// The handler of a flight that its loop has had to wait is entered, and its time begins; false if it was given back
    /// meanwhile.
    pub(crate) fn enter(&self, flight: &Flight) -> bool {
        let time = flight.station().map_or(Duration::ZERO, |station| station.settings.timeout);
        flight.enter(self.now().after(time))
    }

    /// Does what is due; answers when something is due next.
    pub(crate) fn run_due(self: &Arc<Self>) -> Option<Moment> {
        let now = self.now();
        let delayed = self.buffer.state.run_due(now);
        let expiry = self.buffer.run_expired(now).unwrap_or_else(|_| Some(now.after(TRY_AGAIN)));
        let waiting = earliest(delayed, expiry);
        loop {
            let (due, next) = self.flights.due(self.buffer.state.holds.given(), now);
            if due.is_empty() {
                return earliest(waiting, next);
            }
            for flight in due {
                self.flight_due(&flight, now);
            }
        }
    }

    /// Hires again where workers were lost.
    pub(super) fn hire_again(self: &Arc<Self>) {
        let stations: Vec<Arc<Station>> = lock(&self.stations).values().cloned().collect();
        for station in stations {
            station.hire_again(self);
        }
    }

    /// Flights of handlers that are under way.
    pub(crate) fn handler_flights(&self) -> Vec<Arc<Flight>> {
        let mut flights = self.all_flights();
        flights.retain(|flight| flight.station().is_some() && !flight.lease.is_over());
        flights
    }

    /// All flights.
    pub(crate) fn all_flights(&self) -> Vec<Arc<Flight>> {
        self.flights.all(self.buffer.state.holds.given())
    }

    /// Cancels a flight and sets the end of its grace.
    pub(crate) fn cancel(&self, flight: &Arc<Flight>, reason: CancelReason) {
        let grace_ends = match flight.station() {
            Some(station) => self.now().after(station.settings.cancel_grace),
            // Whoever pulled it is not told, and may ack as long as the lease was given for.
            None if reason == CancelReason::Cancelled => flight.lease.term().deadline,
            None => self.now(),
        };
        if flight.lease.cancel(reason, grace_ends) {
            self.buffer.state.timer.due_at(grace_ends);
            if let Some(station) = flight.station() {
                station.flight_cancelled();
            }
        }
    }

    /// Gives a message back, uncounted, that was taken and never handed out.
    pub(crate) fn take_back(self: &Arc<Self>, flight: &Arc<Flight>) {
        flight.lease.leave();
        // Should that not succeed at once, its end is due, and is none that counts.
        self.cancel(flight, CancelReason::Shutdown);
        let given_back = self.lose(flight, Outcome::Release { due: self.now() });
        if !given_back && self.is_closed() {
            self.buffer.state.holds.unmark(flight.taken.hold);
        }
    }

    /// Ends a message: one that waits is gone, one that somebody holds is cancelled. Answers whether there is one.
    ///
    /// # Errors
    /// What the log answers.
    pub(crate) fn cancel_message(&self, id: u64) -> Result<bool> {
        let (mut was_held, pause) = (false, Pause::new());
        loop {
            match self.buffer.cancel(id)? {
                Removed::Gone(_) => return Ok(true),
                // Who held it may have ended it since.
                Removed::Nothing | Removed::Pending => return Ok(was_held),
                Removed::InFlight => was_held = true,
            }
            let flights = self.all_flights();
            if let Some(flight) = flights.iter().find(|flight| flight.taken.id == id) {
                self.cancel(flight, CancelReason::Cancelled);
                return Ok(true);
            }
            // It was taken a moment ago, and its flight is about to be there; or it has just ended.
            pause.snooze();
        }
    }

    /// Takes a flight's lease away: given back uncounted, or failed. Answers whether it did; not if the message was
    /// settled first.
    pub(crate) fn lose(self: &Arc<Self>, flight: &Flight, outcome: Outcome<'_>) -> bool {
        let ended = || self.ended(flight, true);
        let (queue, write) = (flight.queue(), Write::Later);
        match self.buffer.settle(queue, &flight.taken, outcome, write, ended) {
            Ok(settled) => {
                // A failure poisons the journal, and everybody hears of it from there.
                let _ = self.buffer.journal.commit(Level::Os, settled.end);
                true
            }
            Err(error) => {
                match error.kind() {
                    ErrorKind::StaleLease => flight.lease.end(),
                    _ => {
                        let again = self.now().after(TRY_AGAIN);
                        flight.lease.postpone(again);
                        self.buffer.state.timer.due_at(again);
                    }
                }
                false
            }
        }
    }

    /// Whether nothing is in flight, nothing ready where a handler is, no retry pending, and nothing decided that is
    /// not shown yet.
    ///
    /// A message goes from the schedule to its lane to somebody's hands to the acks that are noted, and is counted in the new place
    /// before it leaves the old one, so it is not missed by who looks in that order. What is settled leaves with a record, and what
    /// was taken may be put back; so where none was added meanwhile, nothing put back, and the effects of all before were shown,
    /// nothing was missed.
    pub(crate) fn is_idle(&self) -> bool {
        let stations = lock(&self.stations);
        let queues = &self.buffer.state.queues;
        let put_back = || queues.all().map(|queue| queue.figures.was_put_back()).sum::<u64>();
        loop {
            let (marks, before) = (self.buffer.journal.marks(), put_back());
            let all_rest = marks.shown == marks.reserved
                && self.buffer.state.retries() == 0
                && queues.all().all(|queue| {
                    queue.figures.ready() == 0 || !stations.contains_key(&queue.number)
                })
                && queues.all().all(|queue| queue.figures.in_flight() == 0)
                && queues.all().all(|queue| queue.acks.is_empty());
            let is_still = || self.buffer.journal.marks().reserved == marks.reserved;
            if !all_rest || is_still() && put_back() == before {
                return all_rest;
            }
        }
    }

    /// The end of a flight was refused, as every other will be: for its holder it is over, and its message is found by the next
    /// open.
    fn give_up(&self, flight: &Flight) {
        flight.lease.end();
        self.tell_who_stops();
    }

    /// A flight is over; `lost` if its lease was taken away.
    fn ended(self: &Arc<Self>, flight: &Flight, lost: bool) {
        self.flights.remove(flight);
        self.buffer.state.holds.give(flight.taken.hold);
        match flight.station() {
            // Who hears that the lease is lost finds its handler counted, should it run on.
            Some(station) if lost => {
                station.flight_lost(self, flight);
                station.flight_ended();
                station.flight_cancelled();
            }
            Some(station) => {
                flight.lease.end();
                if !flight.permit_stays() {
                    station.flight_ended();
                }
            }
            // Nobody who stops waits for who received it.
            None => {
                if lost {
                    flight.lease.lose(|| ());
                } else {
                    flight.lease.end();
                }
                return;
            }
        }
        self.tell_who_stops();
    }

    /// Who stops the broker waits for its handlers.
    fn tell_who_stops(&self) {
        if !self.running.load(Ordering::Acquire) {
            self.buffer.state.rest.ring_if_heard();
        }
    }

    fn flight_due(self: &Arc<Self>, flight: &Flight, now: Moment) {
        let reason = flight.lease.term().reason;
        let standing = flight.standing();
        if reason.is_none() && standing == Standing::Passed && flight.sees_progress() {
            // It may have ended long ago, and the loop be busy with others since.
            let time = flight.station().map_or(Duration::ZERO, |station| station.settings.timeout);
            flight.lease.renew(now.after(time));
            return;
        }
        // Its loop is busy with what it was given before: no fault of its own.
        let waits = standing == Standing::Waits;
        match flight.station() {
            Some(station) if reason.is_none() && !waits => {
                let grace_ends = now.after(station.settings.cancel_grace);
                if flight.lease.time_out(now, grace_ends) {
                    flight.queue().figures.timeouts.up();
                    let (id, attempt) = (flight.taken.id, u64::from(flight.taken.attempt));
                    let (events, queue) = (&self.buffer.state.events, &*flight.queue().name);
                    event!(events, Warn, "timeout", queue = queue, id = id, attempt = attempt);
                    station.flight_cancelled();
                }
            }
            // Extended or settled between the look and now.
            _ if !flight.lease.expire(now) => {}
            Some(_) => {
                let text = "the handler ran beyond its timeout and its grace";
                let outcome = match reason {
                    _ if waits => Outcome::Release { due: now },
                    Some(CancelReason::Shutdown) => Outcome::Release { due: now },
                    _ => self.failure(flight, None, text),
                };
                self.lose(flight, outcome);
            }
            None => {
                let outcome = self.failure(flight, Some(Duration::ZERO), "the lease ran out");
                self.lose(flight, outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use crate::buffer::Limits;
    use crate::{Broker, Durability, HandlerError, HandlerOptions, Message, Options};

    const LONG: Duration = Duration::from_secs(20);

    /// What an ack enqueues, and a failure's retry, are shown when the record is written, or synced. Until then nothing
    /// was in flight and nothing was ready, so the broker was said to be idle though there was more to do.
    #[test]
    fn a_broker_is_not_idle_while_the_end_of_a_delivery_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(dir.path(), Options::new()).unwrap();
        let entered = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&entered);
        broker
            .handle("first", HandlerOptions::new(), move |context| {
                if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
                    return Err(HandlerError::retry(Duration::ZERO));
                }
                context.enqueue(Message::new("second", "").durability(Durability::Sync))?;
                Ok(())
            })
            .unwrap();
        let count = Arc::clone(&entered);
        broker
            .handle("second", HandlerOptions::new(), move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        broker.start().unwrap();
        for message in 1..=50 {
            broker.enqueue(Message::new("first", "").durability(Durability::Os)).unwrap();
            assert!(broker.wait_idle(LONG).unwrap());
            assert_eq!(entered.load(Ordering::SeqCst), message * 3);
        }
    }

    /// A message that was taken and could not be handed out was put back, and nobody who waited for that heard of it.
    #[test]
    fn a_queue_without_a_handler_comes_to_rest_when_a_message_is_put_back() {
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        broker.enqueue(Message::new("pulled", "first")).unwrap();
        broker.enqueue(Message::new("pulled", "second")).unwrap();
        let held = broker.receive("pulled", LONG, None).unwrap().unwrap();
        let engine = Arc::clone(&held.shared.engine);
        let limits = Limits { max_retries: 5, max_crashes: 3 };
        let queue = engine.buffer.state.queues.find("pulled").unwrap();
        let taken = engine.buffer.take(queue, limits).unwrap().unwrap();
        held.ack().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let began = Instant::now();
                (broker.wait_idle(LONG).unwrap(), began.elapsed())
            });
            std::thread::sleep(Duration::from_millis(50));
            engine.buffer.put_back(&taken);
            let (idle, took) = waiting.join().unwrap();
            assert!(idle && took < LONG / 2, "{took:?}");
        });
    }

    /// The ring for those who wait was spared where a queue had more messages, though without a handler those keep
    /// nobody from being idle.
    #[test]
    fn a_queue_without_a_handler_comes_to_rest_with_messages_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(dir.path(), Options::new()).unwrap();
        broker.enqueue(Message::new("pulled", "held")).unwrap();
        broker.enqueue(Message::new("pulled", "left")).unwrap();
        broker.start().unwrap();
        let held = broker.receive("pulled", LONG, None).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let began = Instant::now();
                (broker.wait_idle(LONG).unwrap(), began.elapsed())
            });
            std::thread::sleep(Duration::from_millis(50));
            held.ack().unwrap();
            let (idle, took) = waiting.join().unwrap();
            assert!(idle && took < LONG / 2, "{took:?}");
        });
    }
}
