//! The end of the program, for brokers that nobody closed.
//!
//! Waits that would hold it up end at once. Handlers are cancelled, have their grace, but only so much of it, and then
//! what they hold is given back. That is done on threads that know nothing of Python: whatever they wait for, the one
//! that ends the program does not.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libmq::Interrupt;
use pyo3::prelude::*;

use crate::broker::Broker;
use crate::entering::caught;
use crate::values::duration;
use crate::waiting::{Thread, attended};

/// How long anybody waits for what handlers hold to be given back, once their grace is over.
const GIVING_BACK_MAX: Duration = Duration::from_secs(2);

thread_local! {
    /// This thread runs handlers.
    static HANDLES: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this thread runs handlers, so that the end of the program waits for it a while though it is a daemon.
pub(crate) fn this_thread_handles() {
    HANDLES.set(true);
}

/// Whether this thread runs handlers: what waits for a handler to end would wait for itself.
#[pyfunction]
pub(crate) fn handles() -> bool {
    HANDLES.get()
}

/// Whether the end of the program would wait for what this thread waits for. Not so on the main thread, which has not
/// ended; and daemons are left where they are.
fn holds_up_the_end(py: Python<'_>) -> PyResult<bool> {
    Ok(HANDLES.get() || Thread::this(py)? == Thread::Waited)
}

/// The calls of a broker that wait and would hold up the end of the program.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    over: bool,
    /// For messages, for room, for rest.
    waits: Vec<Arc<Interrupt>>,
    /// For handlers that come to their end.
    stops: Vec<Arc<Interrupt>>,
}

impl Waits {
    /// Runs a call that waits. None if it may not any more, or came back with nothing because of that.
    pub(crate) fn wait<R>(
        &self,
        py: Python<'_>,
        interrupt: &Arc<Interrupt>,
        call: impl FnOnce() -> PyResult<R>,
        came: impl FnOnce(&R) -> bool,
    ) -> PyResult<Option<R>> {
        if !holds_up_the_end(py)? {
            return call().map(Some);
        }
        {
            let mut state = self.state();
            if state.over {
                return Ok(None);
            }
            state.waits.push(Arc::clone(interrupt));
        }
        let answer = call();
        let mut state = self.state();
        state.waits.retain(|other| !Arc::ptr_eq(other, interrupt));
        let may = !state.over;
        drop(state);
        answer.map(|answer| (may || came(&answer)).then_some(answer))
    }

    /// Runs a stop or a close that ends with this interrupt.
    pub(crate) fn stop<R>(&self, interrupt: &Arc<Interrupt>, call: impl FnOnce() -> R) -> R {
        self.state().stops.push(Arc::clone(interrupt));
        let answer = call();
        self.state().stops.retain(|other| !Arc::ptr_eq(other, interrupt));
        answer
    }

    /// Nobody is to wait any more; answers who does.
    fn end(&self) -> Vec<Arc<Interrupt>> {
        let mut state = self.state();
        state.over = true;
        state.waits.clone()
    }

    fn stops(&self) -> Vec<Arc<Interrupt>> {
        self.state().stops.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The program ends: waits end at once, and handlers within their grace, at most this one.
#[pyfunction]
pub(crate) fn leave(
    py: Python<'_>,
    brokers: Vec<Py<Broker>>,
    grace_max: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let grace_max = duration("grace_max", grace_max)?;
    let brokers: Vec<&Broker> = brokers.iter().map(Py::get).collect();
    let (told, ended) = channel();
    let mut count = 0;
    for broker in &brokers {
        let (inner, waits) = (broker.inner().clone(), Arc::clone(broker.waits()));
        waits.end().iter().for_each(|interrupt| inner.interrupt(interrupt));
        inner.end_waits_for_room();
        broker.piles().over();
        let told = told.clone();
        let stop = move || {
            // It answers that it had to cancel, or that it is closed.
            let interrupt = Arc::default();
            let stop = || inner.stop_until(Duration::ZERO, &interrupt);
            let _ = waits.stop(&interrupt, || caught(&inner, stop));
            let _ = told.send(());
        };
        // Without a thread for it, its messages come back as after a crash.
        count += u32::from(thread::Builder::new().name("libmq-leave".into()).spawn(stop).is_ok());
    }
    let grace_is_over = || {
        for broker in &brokers {
            for interrupt in broker.waits().stops() {
                // The first time it is late, the second time it is urgent.
                broker.inner().interrupt(&interrupt);
                broker.inner().interrupt(&interrupt);
            }
        }
    };
    let over = &grace_is_over;
    let wait = move || {
        let left = told_in_time(&ended, count, grace_max);
        if left > 0 {
            over();
            told_in_time(&ended, left, GIVING_BACK_MAX);
        }
    };
    attended(py, wait, over)
}

/// Waits for so many to tell; answers how many have not.
fn told_in_time(told: &Receiver<()>, mut count: u32, time: Duration) -> u32 {
    let end = Instant::now() + time;
    while count > 0 && told.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {
        count -= 1;
    }
    count
}
