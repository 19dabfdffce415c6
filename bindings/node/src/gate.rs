//! The gate: how far a loop has come with what it has taken.
//!
//! A loop takes several messages at once and enters their handlers one after another. The place of each is written where
//! any thread can read it, before its handler is entered: that costs nothing, and whoever keeps the time then knows whom a
//! handler that holds the loop up keeps waiting.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use libmq::Progress;
use napi::bindgen_prelude::Float64Array;
use napi::{Error, Result};

use crate::environment::lock;

/// What is answered of a loop that has ended: everything that it had is in other hands.
const ALL: u64 = u64::MAX - 1;

/// The place whose handler was entered last, the last one behind which the loop had time for something else, and whether
/// somebody has asked for them: then what the loop has not entered may be in other hands.
type Places = [AtomicU64; 3];

/// Numbers of JavaScript's, as long as its loop is there.
pub(crate) struct Gate {
    /// Relaxed: they say whom to blame, and order nothing.
    places: Mutex<Option<NonNull<Places>>>,
}

// SAFETY: what is pointed to is touched under the lock alone, as an atomic.
unsafe impl Send for Gate {}
// SAFETY: as above.
unsafe impl Sync for Gate {}

impl Gate {
    /// The gate that JavaScript moves in this array, which it keeps as long as its loop is there.
    pub(crate) fn new(mut array: Float64Array) -> Result<Self> {
        let length = array.len();
        // SAFETY: this thread is the only one that has it as yet.
        let places = match (length, NonNull::new(unsafe { array.as_mut() }.as_mut_ptr())) {
            (3, Some(places)) => places.cast(),
            _ => return Err(Error::from_reason("the gate is made otherwise in the native half")),
        };
        Ok(Self { places: Mutex::new(Some(places)) })
    }

    /// How far the loop has come.
    pub(crate) fn progress(&self) -> Progress {
        let places = lock(&self.places);
        let Some(places) = *places else { return Progress { entered: ALL, passed: ALL } };
        // SAFETY: until the gate is closed the memory is there, and it is aligned for an f64 and so for this. JavaScript reads
        // and writes all 64 bits of a number at once, as every machine does that libmq is for.
        let [entered, passed, asked] = unsafe { places.as_ref() };
        asked.store(1f64.to_bits(), Ordering::SeqCst);
        Progress { entered: place(entered), passed: place(passed) }
    }

    /// The loop ends, and takes its memory with it.
    pub(crate) fn close(&self) {
        lock(&self.places).take();
    }
}

/// A number as JavaScript has it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places are whole, and never negative"
)]
fn place(number: &AtomicU64) -> u64 {
    f64::from_bits(number.load(Ordering::Relaxed)) as u64
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}
