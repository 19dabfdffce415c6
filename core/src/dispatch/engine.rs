//! The engine: takes messages for those who want them, and ends their flights.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::flight::{CancelReason, Flight};
use super::station::Station;
use crate::broker::Backoff;
use crate::buffer::{Buffer, Limits, Outcome, Queue, Settled};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Level;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// Bits of a token that number the lease; the rest number the opening.
const TOKEN_LEASE_BITS: u32 = 40;

/// What the engine needs of the broker's options.
#[derive(Clone, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) default_max_retries: u32,
    pub(crate) default_backoff: Backoff,
    pub(crate) max_crashes: u32,
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
    /// By when something is due, then by lease number.
    flights: Mutex<BTreeMap<(Moment, u64), Arc<Flight>>>,
    pub(crate) stations: Mutex<HashMap<u32, Arc<Station>>>,
    pub(crate) running: AtomicBool,
    pub(crate) closed: AtomicBool,
}

impl Engine {
    pub(crate) fn new(buffer: Buffer, options: EngineOptions) -> Self {
        Self {
            buffer,
            options,
            flights: Mutex::default(),
            stations: Mutex::default(),
            running: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn now(&self) -> Moment {
        self.buffer.state.clock.now()
    }

    /// Takes the next message of a queue, if there is one. What was settled before and is not written yet (`owed`) is
    /// written together with the attempt.
    pub(crate) fn take(
        &self,
        queue: &Arc<Queue>,
        taker: &Taker,
        owed: &mut Option<u64>,
    ) -> Result<Option<Arc<Flight>>> {
        let settings = match taker {
            Taker::Handler(station) => Some(Arc::clone(station)),
            Taker::Pull(_) => lock(&self.stations).get(&queue.number).cloned(),
        };
        let options = &self.options;
        let max_retries =
            settings.as_ref().map_or(options.default_max_retries, |s| s.settings.max_retries);
        let limits = Limits { max_retries, max_crashes: options.max_crashes };
        let Some(taken) = self.buffer.take(queue, limits)? else { return Ok(None) };
        let end = taken.end.max(owed.take().unwrap_or(0));
        self.buffer.journal.commit(Level::Os, end)?;
        let (_, content) = self.buffer.journal.read(taken.version).inspect_err(|damage| {
            // A message whose bytes are gone can be neither handed out nor dropped.
            self.buffer.journal.poison(damage.clone());
        })?;
        let (time, may_extend) = match taker {
            Taker::Handler(station) => (station.settings.timeout, station.settings.may_extend),
            Taker::Pull(lease) => (*lease, true),
        };
        let backoff = settings
            .as_ref()
            .map_or_else(|| options.default_backoff.clone(), |s| s.settings.backoff.clone());
        let token = self.buffer.journal.opens() << TOKEN_LEASE_BITS | taken.lease;
        let station = match taker {
            Taker::Handler(station) => Some(Arc::clone(station)),
            Taker::Pull(_) => None,
        };
        let deadline = self.now().after(time);
        let flight = Arc::new(Flight::new(
            taken,
            Arc::clone(queue),
            station,
            token,
            max_retries,
            backoff,
            may_extend,
            content,
            deadline,
        ));
        self.register(&flight, deadline);
        Ok(Some(flight))
    }

    /// Takes up to `max` messages, waiting for the first one at most until `end`.
    pub(crate) fn receive(
        &self,
        queue: &Arc<Queue>,
        max: usize,
        end: Option<Instant>,
        lease: Duration,
    ) -> Result<Vec<Arc<Flight>>> {
        let taker = Taker::Pull(lease);
        let mut flights = Vec::new();
        loop {
            while flights.len() < max {
                if self.closed.load(Ordering::Acquire) {
                    return if flights.is_empty() { Err(Error::closed()) } else { Ok(flights) };
                }
                match self.take(queue, &taker, &mut None) {
                    Ok(Some(flight)) => flights.push(flight),
                    Ok(None) => break,
                    Err(error) if flights.is_empty() => return Err(error),
                    // Those that were taken are handed out; the error will be there for the next call.
                    Err(_) => return Ok(flights),
                }
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if !flights.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return Ok(flights);
            }
            let ready = queue.ready();
            if !self.buffer.state.has_ready(&ready) && !self.closed.load(Ordering::Acquire) {
                drop(queue.wait(ready, left));
            }
        }
    }

    /// Ends a flight; the caller commits the answer's `end`, at once or with its next message.
    ///
    /// # Errors
    /// `STALE_LEASE`.
    pub(crate) fn settle(&self, flight: &Flight, outcome: Outcome<'_>) -> Result<Settled> {
        let settled = self.buffer.settle(&flight.queue, &flight.taken, outcome)?;
        self.ended(flight, None);
        if settled.awaits_sync {
            self.buffer.state.disk.ring_if_heard();
        }
        Ok(settled)
    }

    /// How a failed attempt of this flight ends.
    pub(crate) fn failure<'a>(
        &self,
        flight: &Flight,
        delay: Option<Duration>,
        error: &'a str,
    ) -> Outcome<'a> {
        let failures = flight.taken.attempt;
        let delay = delay.unwrap_or_else(|| flight.backoff.delay(failures, crate::random::unit()));
        let due = self.due_after(delay);
        Outcome::Fail { due, max_retries: flight.max_retries, error }
    }

    /// When something is due that is to wait this long.
    pub(crate) fn due_after(&self, delay: Duration) -> Moment {
        self.now().after(delay)
    }

    /// Moves a flight's deadline out.
    ///
    /// # Errors
    /// `STALE_LEASE` once the lease is lost, `UNSUPPORTED` where the handler does not allow it.
    pub(crate) fn extend(&self, flight: &Arc<Flight>, time: Duration) -> Result<()> {
        if time > crate::limits::EXTEND_MAX {
            return Err(Error::invalid("extend takes at most 24 hours"));
        }
        if !flight.may_extend {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "lease_extension_enabled is off for this handler",
            ));
        }
        let deadline = self.now().after(time);
        let mut flights = lock(&self.flights);
        let moved = flight.update(|held| {
            if held.over {
                return None;
            }
            let before = held.due();
            held.deadline = held.deadline.max(deadline);
            Some((before, held.due()))
        });
        let Some((before, after)) = moved else {
            return Err(Error::new(
                ErrorKind::StaleLease,
                "the delivery was settled before, or its lease was lost",
            ));
        };
        if let Some(flight) = flights.remove(&(before, flight.taken.lease)) {
            flights.insert((after, flight.taken.lease), flight);
        }
        Ok(())
    }

    /// Does what is due; answers when something is due next.
    pub(crate) fn run_due(self: &Arc<Self>) -> Option<Moment> {
        let now = self.now();
        let delayed = self.buffer.state.run_due(now);
        loop {
            let due = {
                let mut flights = lock(&self.flights);
                match flights.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    Some(first) => {
                        return Some(
                            delayed.map_or(first.key().0, |delayed| delayed.min(first.key().0)),
                        );
                    }
                    None => return delayed,
                }
            };
            self.flight_due(&due, now);
        }
    }

    /// Flights of handlers that are under way.
    pub(crate) fn handler_flights(&self) -> Vec<Arc<Flight>> {
        lock(&self.flights).values().filter(|flight| flight.station.is_some()).cloned().collect()
    }

    /// All flights.
    pub(crate) fn all_flights(&self) -> Vec<Arc<Flight>> {
        lock(&self.flights).values().cloned().collect()
    }

    /// Cancels a flight and sets the end of its grace.
    pub(crate) fn cancel(&self, flight: &Arc<Flight>, reason: CancelReason) {
        let grace =
            flight.station.as_ref().map_or(Duration::ZERO, |station| station.settings.cancel_grace);
        let mut flights = lock(&self.flights);
        let before = flight.held().due();
        let grace_ends = self.now().after(grace);
        if flight.cancel(reason, grace_ends) {
            flights.remove(&(before, flight.taken.lease));
            flights.insert((grace_ends, flight.taken.lease), Arc::clone(flight));
            drop(flights);
            self.buffer.state.alarm.ring();
        }
    }

    /// Takes a flight's lease away: given back uncounted, or failed.
    pub(crate) fn lose(&self, flight: &Arc<Flight>, outcome: Outcome<'_>) -> bool {
        let lost = match self.buffer.settle(&flight.queue, &flight.taken, outcome) {
            Ok(settled) => self.buffer.journal.commit(Level::Os, settled.end).is_ok(),
            Err(_) => false,
        };
        if lost {
            self.ended(flight, Some(CancelReason::LeaseLost));
        }
        lost
    }

    /// Whether nothing is in flight, nothing ready where a handler is, and no retry pending.
    pub(crate) fn is_idle(&self) -> bool {
        let stations = lock(&self.stations);
        self.buffer.state.retries() == 0
            && self.buffer.state.queues.all().iter().all(|queue| {
                let figures = &queue.figures;
                figures.in_flight.value() == 0
                    && (figures.ready.value() == 0 || !stations.contains_key(&queue.number))
            })
    }

    fn register(&self, flight: &Arc<Flight>, due: Moment) {
        let first = {
            let mut flights = lock(&self.flights);
            flights.insert((due, flight.taken.lease), Arc::clone(flight));
            flights.first_key_value().is_some_and(|((first, _), _)| *first == due)
        };
        if first {
            self.buffer.state.alarm.ring_if_heard();
        }
    }

    fn ended(&self, flight: &Flight, reason: Option<CancelReason>) {
        let mut flights = lock(&self.flights);
        flights.remove(&(flight.held().due(), flight.taken.lease));
        drop(flights);
        flight.end(reason);
        if let Some(station) = &flight.station {
            station.flight_ended();
        }
        self.buffer.state.rest.ring_if_heard();
    }

    fn flight_due(self: &Arc<Self>, flight: &Arc<Flight>, now: Moment) {
        let held = flight.held();
        if held.over {
            return;
        }
        match (&flight.station, held.reason) {
            (None, _) => {
                let outcome = self.failure(flight, Some(Duration::ZERO), "the lease ran out");
                self.lose(flight, outcome);
            }
            (Some(station), None) => {
                flight.queue.figures.timeouts.up();
                let grace_ends = now.after(station.settings.cancel_grace);
                flight.cancel(CancelReason::Timeout, grace_ends);
                self.register(flight, grace_ends);
            }
            (Some(station), Some(reason)) => {
                let outcome = match reason {
                    CancelReason::Shutdown => Outcome::Release { due: Moment::default() },
                    _ => self.failure(
                        flight,
                        None,
                        "the handler ran beyond its timeout and its grace",
                    ),
                };
                if self.lose(flight, outcome)
                    && flight.update(|held| {
                        held.stuck = held.running;
                        held.stuck
                    })
                {
                    flight.queue.figures.stuck.up();
                    station.stuck(self);
                }
            }
        }
    }
}
