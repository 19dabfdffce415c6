//! Trays: how an event loop hears of what threads of Rust have done for it.
//!
//! Whatever there is to tell is put into a list, and the first of it makes a file descriptor readable that the loop
//! watches; when it looks, it takes all there is. So a thousand enqueues that one sync has covered wake a loop once, and
//! no foreign thread touches the loop or the interpreter. Enqueues that wait for the same sync are told of together: they are a
//! *round*, under one number.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};

use libmq::Begun;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::error::exception;
use crate::receipt::Receipt;

/// Something for the loop, under the number that it gave.
#[derive(Debug)]
pub(crate) enum News {
    /// What became of an enqueue that had not begun.
    Done(u64, libmq::Result<libmq::Receipt>),
    /// What became of a round.
    Round(u64, libmq::Result<()>),
    /// It is worth while to look at an inbox, or at a queue.
    Rung(u64),
    /// The program ends: nobody is to wait any more.
    Over,
    /// The broker is closed, or nobody has it any more.
    Gone,
}

/// What waits for the loop. Shared with those who put something in.
#[derive(Debug)]
pub(crate) struct Pile {
    state: Mutex<State>,
    /// The other end of what the loop watches. At most one byte is on its way, so that nobody ever waits to write one.
    bell: UnixStream,
}

#[derive(Debug, Default)]
struct State {
    news: Vec<News>,
    rung: bool,
    over: bool,
    gone: bool,
}

impl Pile {
    /// One thing more. Waits for nobody and calls nobody, so that it may be called under any lock.
    pub(crate) fn put(&self, news: News) {
        let mut state = self.state();
        state.news.push(news);
        if !state.rung {
            state.rung = true;
            // It is empty, so there is nothing that could go wrong.
            let _ = (&self.bell).write_all(&[1]);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Enqueues that have begun and are told of together.
#[derive(Debug)]
struct Round {
    number: u64,
    pile: Arc<Pile>,
    /// None where it has been told of, and takes nobody more.
    begun: Mutex<Option<Begun>>,
}

impl Round {
    /// One more; false where it takes nobody more.
    fn takes(&self, begun: &Begun) -> bool {
        self.begun().as_mut().map(|others| others.wait_for(begun)).is_some()
    }

    fn begun(&self) -> MutexGuard<'_, Option<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Round {
    /// Called by the thread that waits for syncs. Who has joined since its last one is waited for here.
    fn wake(self: Arc<Self>) {
        let begun = self.begun().take();
        if let Some(begun) = begun {
            self.pile.put(News::Round(self.number, begun.reach()));
        }
    }
}

/// What an event loop watches, and finds things in that were done for it.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Tray {
    pile: Arc<Pile>,
    watched: UnixStream,
    /// The last one.
    round: Mutex<Option<Arc<Round>>>,
}

impl Tray {
    pub(crate) fn pile(&self) -> Arc<Pile> {
        Arc::clone(&self.pile)
    }

    /// Has the loop told when this has reached its durability: under this number, or under that of a round which waits
    /// already. Answers which. Called on the loop, which does not look meanwhile.
    pub(crate) fn wait_for(&self, begun: Begun, number: u64) -> u64 {
        let round = self.round_of(&begun, number);
        let number = round.number;
        begun.wake(&Waker::from(round));
        number
    }

    fn round_of(&self, begun: &Begun, number: u64) -> Arc<Round> {
        let mut last = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(round) = last.as_ref().filter(|round| round.takes(begun)) {
            return Arc::clone(round);
        }
        let begun = Mutex::new(Some(begun.clone()));
        Arc::clone(last.insert(Arc::new(Round { number, pile: self.pile(), begun })))
    }
}

#[pymethods]
impl Tray {
    #[new]
    fn new() -> PyResult<Self> {
        let (bell, watched) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        watched.set_nonblocking(true)?;
        let pile = Arc::new(Pile { state: Mutex::default(), bell });
        Ok(Self { pile, watched, round: Mutex::default() })
    }

    /// The file descriptor that is readable when there is something to take.
    fn fileno(&self) -> i32 {
        self.watched.as_raw_fd()
    }

    /// All there is, each with its number: what became of an enqueue, its receipt or an exception; of a round, an exception, or
    /// None where all is well; None for what is to be looked at.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let news = {
            let mut state = self.pile.state();
            // More than one byte there never is; none, where somebody else has looked meanwhile.
            let _ = (&self.watched).read(&mut [0; 8]);
            state.rung = false;
            std::mem::take(&mut state.news)
        };
        let list = PyList::empty(py);
        for news in news {
            let (number, value) = match news {
                News::Done(number, Ok(receipt)) => {
                    (number, Receipt::from(receipt).into_bound_py_any(py)?)
                }
                News::Done(number, Err(error)) => {
                    (number, exception(py, &error).into_bound_py_any(py)?)
                }
                News::Round(number, Ok(())) => (number, py.None().into_bound(py)),
                News::Round(number, Err(error)) => {
                    (number, exception(py, &error).into_bound_py_any(py)?)
                }
                News::Rung(number) => (number, py.None().into_bound(py)),
                News::Over => {
                    self.pile.state().over = true;
                    continue;
                }
                News::Gone => {
                    self.pile.state().gone = true;
                    continue;
                }
            };
            list.append(PyTuple::new(py, [number.into_bound_py_any(py)?, value])?)?;
        }
        Ok(list)
    }

    /// The program ends; known when it was taken.
    #[getter]
    fn over(&self) -> bool {
        self.pile.state().over
    }

    /// The broker is closed, or nobody has it any more; known when it was taken.
    #[getter]
    fn gone(&self) -> bool {
        self.pile.state().gone
    }
}

/// The piles of a broker's loops, to be told of the end.
#[derive(Debug, Default)]
pub(crate) struct Piles(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    piles: Vec<Weak<Pile>>,
    over: bool,
}

impl Piles {
    /// One more, which is told at once what was told before.
    pub(crate) fn add(&self, pile: &Arc<Pile>) {
        let mut listed = self.listed();
        listed.piles.retain(|other| other.strong_count() > 0);
        listed.piles.push(Arc::downgrade(pile));
        if listed.over {
            pile.put(News::Over);
        }
    }

    /// The program ends.
    pub(crate) fn over(&self) {
        let mut listed = self.listed();
        listed.over = true;
        listed.piles.iter().filter_map(Weak::upgrade).for_each(|pile| pile.put(News::Over));
    }

    /// The broker is no more.
    pub(crate) fn gone(&self) {
        let listed = self.listed();
        listed.piles.iter().filter_map(Weak::upgrade).for_each(|pile| pile.put(News::Gone));
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// Of how many brokers this thread's event loop runs the handlers.
    static SERVED: Cell<u32> = const { Cell::new(0) };
}

/// Notes that this thread's event loop runs a broker's handlers, or does no more: it must not wait for room.
#[pyfunction]
pub(crate) fn serve(on: bool) {
    let served = SERVED.get();
    SERVED.set(if on { served.saturating_add(1) } else { served.saturating_sub(1) });
}

/// Whether this thread's event loop runs handlers.
pub(crate) fn serves() -> bool {
    SERVED.get() > 0
}
