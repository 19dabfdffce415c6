//! Inboxes: handlers on an event loop, where nothing may wait.
//!
//! An inbox has the workers of one handler, as many as may run at once. When it is worth while to look, it rings, from any
//! thread; the loop then takes deliveries until there is none, runs the handler for each, and finishes it whenever it has
//! an answer. Nothing is held for the loop before it asks, so what a busy loop does not get round to is merely ready.
//!
//! Cancellations ring too. That an attempt was cancelled is seen at its delivery.

use std::time::Duration;

use smallvec::SmallVec;

use super::delivery::Delivery;
use super::handler::HandlerError;
use super::shared::Shared;
use crate::buffer::Doorbell;
use crate::dispatch::{Now, Progress, Station, Worker};
use crate::error::{Error, Result};
use crate::storage::forks;
use crate::sync::{Arc, Mutex, Weak, lock};

/// As many workers as mostly take messages, or come back, together; more need an allocation.
const TOGETHER: usize = 8;

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

/// What an inbox has left when it was taken from.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// As much was taken as was asked for: to be asked again.
    Perhaps,
    /// Nothing now; the inbox rings when that may have changed.
    Nothing,
    /// Nothing as long as the disk has no room; to be asked again after this time.
    NoRoom(Duration),
}

/// The workers of an inbox.
#[derive(Debug)]
pub(super) struct Crew {
    doorbell: Arc<Doorbell>,
    hands: Mutex<Hands>,
}

#[expect(clippy::vec_box, reason = "a worker is moved twice a message")]
#[derive(Debug, Default)]
struct Hands {
    idle: Vec<Box<Worker>>,
    busy: Busy,
    gone: bool,
}

/// Workers, each under the token of what it runs the handler for. Mostly few, so that looking through all tokens, which lie
/// side by side, costs less than a hash.
#[expect(clippy::vec_box, reason = "a worker is moved twice a message")]
#[derive(Debug, Default)]
struct Busy {
    tokens: Vec<u64>,
    workers: Vec<Box<Worker>>,
}

impl Inbox {
    pub(super) fn new(shared: Weak<Shared>, station: Arc<Station>, crew: Arc<Crew>) -> Self {
        Self { shared, station, crew, forks: forks() }
    }

    /// Has whoever keeps the time ask how far this loop has come with what it takes, which it enters one after another, each at
    /// the place that it was given by [`Delivery::stand_at`]. What it has not come to when its time is over is given back,
    /// uncounted; and what it entered has more time while it is busy with others. `progress` is called on any thread, and
    /// neither waits nor calls the broker.
    pub fn put_gate(&self, progress: impl Fn() -> Progress + Send + Sync + 'static) {
        self.station.put_gate(Box::new(progress));
    }

    /// Takes messages whose attempts begin with that, up to `most`, never waiting for one. It is to be asked until it answers
    /// that nothing is left.
    #[must_use]
    pub fn take(&self, most: usize, taken: &mut Vec<Delivery>) -> Left {
        let most = taken.len().saturating_add(most);
        match self.look(most, taken) {
            Left::Nothing => {
                self.crew.doorbell.listen();
                self.look(most, taken)
            }
            left => left,
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
        let ended = [(delivery.token(), end.as_ref().ok().copied().flatten())];
        self.crew.came_back(&ended);
        end.map(drop)
    }

    /// Acks deliveries, each as [`Inbox::finish`] does, and tells `told` of those that could not be.
    pub fn ack_all<'a>(
        &self,
        deliveries: impl IntoIterator<Item = &'a Delivery>,
        mut told: impl FnMut(Error),
    ) {
        let end = |delivery: &Delivery| {
            let end = delivery.conclude(Ok(())).map_err(&mut told);
            (delivery.token(), end.ok().flatten())
        };
        let ended: SmallVec<[_; TOGETHER]> = deliveries.into_iter().map(end).collect();
        self.crew.came_back(&ended);
    }

    /// The lease of this delivery was lost before its handler was entered, which will not be.
    pub fn abandon(&self, delivery: &Delivery) {
        delivery.let_lapse();
        self.crew.came_back(&[(delivery.token(), None)]);
    }

    /// Refuses everything to its broker from now on, as [`Broker::poison`](crate::Broker::poison) does.
    pub fn poison(&self, why: &str) {
        if let Some(shared) = self.shared.upgrade() {
            shared.poison(why);
        }
    }

    /// Takes nothing more, and has those leave that run no handler: whoever stops the broker waits for them. It goes on ringing
    /// for those that do. To be asked again whenever it has rung. The queue has this handler until it has another one, which may
    /// be registered on the loop when all that run have ended; `wait_idle` waits for that one.
    pub fn retire(&self) {
        if forks() != self.forks {
            return;
        }
        self.station.retire();
        self.crew.doorbell.listen();
        let idle = std::mem::take(&mut lock(&self.crew.hands).idle);
        drop(idle);
    }

    pub(super) fn station(&self) -> Arc<Station> {
        Arc::clone(&self.station)
    }

    /// Has every idle worker take a message, until there are `most` of them or there is nothing more to take.
    fn look(&self, most: usize, taken: &mut Vec<Delivery>) -> Left {
        if forks() != self.forks {
            return Left::Nothing;
        }
        while taken.len() < most {
            let mut idle = self.crew.idle(most - taken.len());
            if idle.is_empty() {
                return Left::Nothing;
            }
            let mut busy = SmallVec::<[_; TOGETHER]>::new();
            let mut left = None;
            while left.is_none()
                && let Some(mut worker) = idle.pop()
            {
                left = match worker.next_now() {
                    Now::Flight(flight) => {
                        // Without a broker the message is found again by the next open.
                        if let Some(shared) = self.shared.upgrade() {
                            busy.push((flight.taken.token, worker));
                            taken.push(Delivery::new(shared, flight));
                        }
                        continue;
                    }
                    Now::Leave => continue,
                    Now::Nothing => Some(Left::Nothing),
                    Now::NoRoom(time) => Some(Left::NoRoom(time)),
                };
                idle.push(worker);
            }
            self.crew.put(idle, busy);
            if let Some(left) = left {
                return left;
            }
        }
        Left::Perhaps
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
    fn add(&mut self, token: u64, worker: Box<Worker>) {
        self.tokens.push(token);
        self.workers.push(worker);
    }

    fn remove(&mut self, token: u64) -> Option<Box<Worker>> {
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

    /// A worker was hired.
    pub(super) fn hired(&self, worker: Worker) {
        self.put([Box::new(worker)], []);
        self.doorbell.ring();
    }

    /// Up to so many workers that run no handler.
    fn idle(&self, most: usize) -> SmallVec<[Box<Worker>; TOGETHER]> {
        let mut hands = lock(&self.hands);
        let stay = hands.idle.len().saturating_sub(most);
        hands.idle.drain(stay..).collect()
    }

    /// The handlers that run under these tokens have returned, and so much is still to be written of what they did.
    fn came_back(&self, ended: &[(u64, Option<u64>)]) {
        let mut workers = {
            let mut hands = lock(&self.hands);
            let workers =
                ended.iter().filter_map(|(token, end)| Some((hands.busy.remove(*token)?, *end)));
            workers.collect::<SmallVec<[_; TOGETHER]>>()
        };
        for (worker, end) in &mut workers {
            worker.came_back(*end);
            // The loop may have something else to do before it asks for more.
            worker.leave_to_keeper();
        }
        self.put(workers.into_iter().map(|(worker, _)| worker), []);
    }

    /// Workers that run no handler, and such that do.
    fn put(
        &self,
        idle: impl IntoIterator<Item = Box<Worker>>,
        busy: impl IntoIterator<Item = (u64, Box<Worker>)>,
    ) {
        let mut hands = lock(&self.hands);
        if !hands.gone {
            hands.idle.extend(idle);
            busy.into_iter().for_each(|(token, worker)| hands.busy.add(token, worker));
        }
    }
}
