//! Work with the interpreter's lock given back, and the way back to it.
//!
//! An interpreter that finalizes frees what it knows of each daemon thread. One that asks for the lock just then first
//! looks whether it still may, and then at what may be freed by now, in Python's own code, up to 3.12 at least. So at the
//! very end of a program nobody is to be on the way back: who is gets in first, and who is outside stays there. That is
//! for a while, not for good, since what Python does at its exit behind libmq may wait for such a thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long nobody comes back; until then the process is gone.
const OUT_MAX: Duration = Duration::from_secs(1);

/// How long those on their way back are waited for.
const BACK_MAX: Duration = Duration::from_secs(1);

/// How often is looked whether they are back.
const LOOK: Duration = Duration::from_micros(100);

/// How many threads ask for the lock.
///
/// Sequentially consistent, as is `ENDING`: a thread counts itself and then looks at that, who ends the program says so and
/// then looks at the count, and one of the two must see the other.
static ON_THEIR_WAY: AtomicUsize = AtomicUsize::new(0);

/// How many threads are outside.
///
/// Relaxed: changed with the lock in hand, which orders it.
static OUTSIDE: AtomicUsize = AtomicUsize::new(0);

/// Whether anybody has to look at `END`.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Until when nobody comes back, but the thread that ends the program.
static END: OnceLock<(Instant, ThreadId)> = OnceLock::new();

/// Does something with the interpreter's lock given back.
pub(crate) fn outside<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> R {
    OUTSIDE.fetch_add(1, Ordering::Relaxed);
    let _inside = Inside;
    py.detach(|| {
        let _back = Back;
        work()
    })
}

/// Dropped outside, where the work is done: the way back begins.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        ON_THEIR_WAY.fetch_add(1, Ordering::SeqCst);
        while ENDING.load(Ordering::SeqCst)
            && let Some(time) = time_out()
        {
            ON_THEIR_WAY.fetch_sub(1, Ordering::SeqCst);
            thread::sleep(time);
            ON_THEIR_WAY.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Dropped with the lock in hand, behind a `Back`.
struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        OUTSIDE.fetch_sub(1, Ordering::Relaxed);
        ON_THEIR_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether this thread, which has the interpreter's lock, is the only one of the program's that is in libmq, and will be for as
/// long as it keeps the lock. Without such a lock it may be told so, and be wrong.
pub(crate) fn is_alone() -> bool {
    OUTSIDE.load(Ordering::Relaxed) == 0
}

/// How long this thread has to stay outside, if at all.
fn time_out() -> Option<Duration> {
    let (until, ends) = END.get()?;
    let left = until.saturating_duration_since(Instant::now());
    (thread::current().id() != *ends && !left.is_zero()).then_some(left)
}

/// The interpreter goes next: but for this thread, nobody comes back to it, or is on the way when this returns.
#[pyfunction]
pub(crate) fn stay_outside(py: Python<'_>) {
    let begun = Instant::now();
    END.get_or_init(|| (begun + OUT_MAX, thread::current().id()));
    ENDING.store(true, Ordering::SeqCst);
    py.detach(|| {
        while ON_THEIR_WAY.load(Ordering::SeqCst) > 0 && begun.elapsed() < BACK_MAX {
            thread::sleep(LOOK);
        }
    });
}

/// In a forked child, where there is no other thread.
#[pyfunction]
pub(crate) fn alone_again() {
    OUTSIDE.store(0, Ordering::Relaxed);
    ON_THEIR_WAY.store(0, Ordering::SeqCst);
    ENDING.store(false, Ordering::SeqCst);
}
