//! Inboxes: handlers on an event loop, where nothing may wait.
//!
//! An inbox has the workers of one handler, as many as may run at once. When it is worth while to look, it rings, from any
//! thread; the loop then takes deliveries until there is none, runs the handler for each, and finishes it whenever it has
//! an answer. Nothing is held for the loop before it asks, so what a busy loop does not get round to is merely ready.
//!
//! Cancellations ring too. That an attempt was cancelled is seen at its delivery.

use std::time::Duration;

use super::delivery::Delivery;
use super::handler::HandlerError;
use super::shared::Shared;
use crate::buffer::Doorbell;
use crate::dispatch::{Now, Station, Worker};
use crate::error::Result;
use crate::storage::forks;
use crate::sync::{Arc, Mutex, Weak, lock};

/// What an event loop takes a queue's messages from. Dropped, it gives the handler up: nothing more is taken for it.
/// Deliveries that were not finished are whoever's that has them.
#[doc(hidden)]
#[derive(Debug)]
pub struct Inbox {
    shared: Weak<Shared>,
    station: Arc<Station>,
    crew: Arc<Crew>,
    forks: u32,
}

/// What an inbox answers.
#[doc(hidden)]
#[derive(Debug)]
pub enum Next {
    /// A message whose attempt has begun.
    Delivery(Delivery),
    /// None now; the inbox rings when that may have changed.
    Nothing,
    /// None as long as the disk has no room; to be asked again after this time.
    After(Duration),
}

/// The workers of an inbox.
#[derive(Debug)]
pub(super) struct Crew {
    doorbell: Arc<Doorbell>,
    hands: Mutex<Hands>,
}

#[derive(Debug, Default)]
struct Hands {
    idle: Vec<Worker>,
    busy: Busy,
    gone: bool,
}

/// Workers, each under the token of what it runs the handler for. Mostly few, so that looking through all tokens, which lie
/// side by side, costs less than a hash.
#[derive(Debug, Default)]
struct Busy {
    tokens: Vec<u64>,
    workers: Vec<Worker>,
}

impl Inbox {
    pub(super) fn new(shared: Weak<Shared>, station: Arc<Station>, crew: Arc<Crew>) -> Self {
        Self { shared, station, crew, forks: forks() }
    }

    /// The next message, never waiting for one. It is to be asked until it answers that there is none.
    #[must_use]
    pub fn take(&self) -> Next {
        match self.look() {
            Next::Nothing => {
                self.crew.doorbell.listen();
                self.look()
            }
            next => next,
        }
    }

    /// Whether an attempt was cancelled since this was asked last. To be asked when there is nothing more to take.
    #[must_use]
    pub fn hear_cancelled(&self) -> bool {
        self.crew.doorbell.hear_cancelled()
    }

    /// Ends the delivery as the handler says. What it says is written soon, together with what comes next; where the disk
    /// has no room for it, as soon as there is.
    ///
    /// # Errors
    /// `STALE_LEASE`, as a settle, and nothing has changed.
    pub fn finish(
        &self,
        delivery: &Delivery,
        result: std::result::Result<(), HandlerError>,
    ) -> Result<()> {
        let end = delivery.conclude(result);
        let worker = lock(&self.crew.hands).busy.remove(delivery.token());
        if let Some(mut worker) = worker {
            worker.came_back(end.as_ref().ok().copied().flatten());
            self.crew.add(worker);
        }
        end.map(drop)
    }

    /// Refuses everything to its broker from now on, as [`Broker::poison`](crate::Broker::poison) does.
    pub fn poison(&self, why: &str) {
        if let Some(shared) = self.shared.upgrade() {
            shared.poison(why);
        }
    }

    /// Takes nothing more, and has those leave that run no handler: whoever stops the broker waits for them. It goes on ringing
    /// for those that do. To be asked again whenever it has rung.
    pub fn retire(&self) {
        if forks() != self.forks {
            return;
        }
        self.station.shut();
        self.crew.doorbell.listen();
        let idle = std::mem::take(&mut lock(&self.crew.hands).idle);
        drop(idle);
    }

    pub(super) fn station(&self) -> Arc<Station> {
        Arc::clone(&self.station)
    }

    fn look(&self) -> Next {
        if forks() != self.forks {
            return Next::Nothing;
        }
        loop {
            let worker = lock(&self.crew.hands).idle.pop();
            let Some(mut worker) = worker else { return Next::Nothing };
            match worker.next_now() {
                // Without a broker the message is found again by the next open.
                Now::Flight(flight) => {
                    let Some(shared) = self.shared.upgrade() else { continue };
                    lock(&self.crew.hands).busy.add(flight.taken.token, worker);
                    return Next::Delivery(Delivery::new(shared, flight));
                }
                Now::Nothing => {
                    self.crew.add(worker);
                    return Next::Nothing;
                }
                Now::NoRoom(time) => {
                    self.crew.add(worker);
                    return Next::After(time);
                }
                Now::Leave => drop(worker),
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut hands = lock(&self.crew.hands);
        hands.gone = true;
        let (idle, busy) = (std::mem::take(&mut hands.idle), std::mem::take(&mut hands.busy));
        drop(hands);
        if forks() != self.forks {
            // The parent's, and so are the locks, which another of its threads may have held.
            return std::mem::forget((idle, busy));
        }
        if let Some(shared) = self.shared.upgrade() {
            super::stations::withdraw(&shared, &self.station);
        }
    }
}

impl Busy {
    fn add(&mut self, token: u64, worker: Worker) {
        self.tokens.push(token);
        self.workers.push(worker);
    }

    fn remove(&mut self, token: u64) -> Option<Worker> {
        let place = self.tokens.iter().position(|found| *found == token)?;
        self.tokens.swap_remove(place);
        Some(self.workers.swap_remove(place))
    }
}

impl Crew {
    pub(super) fn new(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self { doorbell: Arc::new(Doorbell::new(ring)), hands: Mutex::default() }
    }

    pub(super) fn doorbell(&self) -> Arc<Doorbell> {
        Arc::clone(&self.doorbell)
    }

    /// One more worker, that has come back or was hired.
    pub(super) fn add(&self, worker: Worker) {
        let mut hands = lock(&self.hands);
        if !hands.gone {
            hands.idle.push(worker);
        }
    }

    /// A worker was hired.
    pub(super) fn hired(&self, worker: Worker) {
        self.add(worker);
        self.doorbell.ring();
    }
}
