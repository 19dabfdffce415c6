//! Workers for handlers that run on threads of somebody else: of another language, in which only its own threads are at
//! home.
//!
//! Such a thread asks for a message, runs the handler, hands the delivery back with the handler's answer, and asks again.
//! All else is as for a handler in Rust: how many there are, timeouts, substitutes for those that are stuck.

use std::thread::ThreadId;

use super::delivery::Delivery;
use super::handler::HandlerError;
use super::handlers::set_in_handler;
use super::shared::Shared;
use crate::dispatch;
use crate::storage::forks;
use crate::sync::{Arc, Weak};

/// One that handles a queue's messages, on one thread. It is to be asked until it has no message any more; dropped
/// earlier, it has left, and another one is hired when there is need.
#[doc(hidden)]
#[derive(Debug)]
pub struct Worker {
    /// Weak: a broker that nobody holds any more must not be kept alive by its own handlers.
    shared: Weak<Shared>,
    /// None once it has left.
    inner: Option<dispatch::Worker>,
    /// The thread that runs the handler.
    thread: Option<ThreadId>,
    forks: u32,
}

impl Worker {
    pub(super) fn new(shared: Weak<Shared>, inner: dispatch::Worker) -> Self {
        Self { shared, inner: Some(inner), thread: None, forks: forks() }
    }

    /// Waits for the next message; none when the thread is to end. Until it is called again, and as long as the delivery
    /// was not handed to [`Worker::finish`], this thread is running the handler.
    pub fn take(&mut self) -> Option<Delivery> {
        self.leave_handler();
        if forks() != self.forks {
            return None;
        }
        loop {
            let Some(flight) = self.inner.as_mut()?.next() else {
                // Whoever stops the broker waits until its workers have left, and need not wait for their threads.
                self.inner = None;
                return None;
            };
            // Without a broker the message is found again by the next open.
            if let Some(shared) = self.shared.upgrade() {
                set_in_handler(true);
                self.thread = Some(std::thread::current().id());
                return Some(Delivery::new(shared, flight));
            }
        }
    }

    /// Ends the delivery as the handler says. What it says is written soon, together with what comes next; where the disk
    /// has no room for it, as soon as there is.
    ///
    /// # Errors
    /// `STALE_LEASE`, as a settle, and nothing has changed.
    pub fn finish(
        &mut self,
        delivery: &Delivery,
        result: std::result::Result<(), HandlerError>,
    ) -> crate::Result<()> {
        let end = delivery.conclude(result);
        self.leave_handler();
        match end {
            Ok(end) => {
                self.came_back(end);
                Ok(())
            }
            Err(error) => {
                self.came_back(None);
                Err(error)
            }
        }
    }

    /// Refuses everything to its broker from now on, as [`Broker::poison`](crate::Broker::poison) does.
    pub fn poison(&self, why: &str) {
        if let Some(shared) = self.shared.upgrade() {
            shared.poison(why);
        }
    }

    /// This thread runs no handler any more; unless the worker ran on another one.
    fn leave_handler(&mut self) {
        if self.thread.take() == Some(std::thread::current().id()) {
            set_in_handler(false);
        }
    }

    fn came_back(&mut self, end: Option<u64>) {
        if let Some(inner) = &mut self.inner {
            inner.came_back(end);
            // Its thread may have something else to do before it asks for the next one.
            inner.leave_to_keeper();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.leave_handler();
        if forks() != self.forks {
            // The parent's, and so are the locks, which another of its threads may have held.
            std::mem::forget(self.inner.take());
        }
    }
}

/// Wraps what a binding does about a new worker.
pub(super) fn hire(
    shared: &Arc<Shared>,
    hire: impl Fn(Worker) + Send + Sync + 'static,
) -> Box<dispatch::Hire> {
    let shared = Arc::downgrade(shared);
    Box::new(move |inner| hire(Worker::new(Weak::clone(&shared), inner)))
}
