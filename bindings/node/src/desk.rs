//! The desk: numbers that are handed to JavaScript in memory it shares, because that costs far less than a value each.
//!
//! What a call leaves there is to be read before the next call of its kind.

use napi::bindgen_prelude::{BigUint64Array, Float64Array};
use napi::{Error, Result};

use crate::limits::TAKE_MAX;

/// What the shared memory begins with: of a take, how many deliveries it found.
const COUNT: usize = 0;
/// When to ask again though nothing rings, in milliseconds; negative where nothing needs that.
const AGAIN: usize = 1;
/// Whether something was cancelled.
const CANCELLED: usize = 2;
/// How many deliveries that were to be acked had lost their leases.
const STALE: usize = 3;
/// Whether an ack failed otherwise.
const FAILED: usize = 4;
/// The status of an enqueue's receipt.
const STATUS: usize = 5;
/// Whether a take found all there was.
const OVER: usize = 6;
/// How many calls of handlers' code are running, one within another. JavaScript's to set.
const RUNNING: usize = 7;
/// Of a take, the place of its first delivery before the gate; the others follow.
const PLACE: usize = 8;
/// From here on, two for each delivery that was taken: its number and its attempt.
const FIRST: usize = 9;
/// From here on, the numbers of deliveries that are to be acked.
const ACKED: usize = FIRST + 2 * TAKE_MAX as usize;
/// The id of an enqueue's receipt; before it, those of deliveries.
const RECEIPT: usize = TAKE_MAX as usize;

/// Shared numbers, and shared ids.
pub(crate) struct Desk {
    numbers: Float64Array,
    ids: BigUint64Array,
}

impl Desk {
    /// One of these arrays, which have to be as long as both halves of the package think.
    pub(crate) fn new(numbers: Float64Array, ids: BigUint64Array) -> Result<Self> {
        if (numbers.len(), ids.len()) != (ACKED + TAKE_MAX as usize, RECEIPT + 1) {
            return Err(Error::from_reason("the desk is laid out otherwise in the native half"));
        }
        Ok(Self { numbers, ids })
    }

    /// What a take found, beside its deliveries.
    pub(crate) fn taken(
        &mut self,
        count: usize,
        again_ms: Option<f64>,
        over: bool,
        cancelled: bool,
    ) {
        self.put(COUNT, count as f64);
        self.put(AGAIN, again_ms.unwrap_or(-1.0));
        self.put(OVER, f64::from(u8::from(over)));
        self.put(CANCELLED, f64::from(u8::from(cancelled)));
    }

    /// How many acks came too late, and whether one failed.
    pub(crate) fn ended(&mut self, stale: usize, failed: bool) {
        self.put(STALE, stale as f64);
        self.put(FAILED, f64::from(u8::from(failed)));
    }

    /// The number of a delivery that is to be acked.
    pub(crate) fn acked(&mut self, index: usize) -> Option<f64> {
        // SAFETY: as in `put`.
        unsafe { self.numbers.as_mut() }.get(ACKED + index).copied()
    }

    /// Whether a handler's code is running.
    pub(crate) fn is_in_handler(&mut self) -> bool {
        // SAFETY: as in `put`.
        unsafe { self.numbers.as_mut() }.get(RUNNING).is_some_and(|calls| *calls > 0.0)
    }

    /// The place of a take's first delivery.
    pub(crate) fn first_place(&mut self, place: u64) {
        self.put(PLACE, place as f64);
    }

    /// A delivery of a take.
    pub(crate) fn delivery(&mut self, index: usize, number: f64, id: u64, attempt: u32) {
        self.put(FIRST + 2 * index, number);
        self.put(FIRST + 2 * index + 1, f64::from(attempt));
        self.put_id(index, id);
    }

    /// The number of a delivery that was taken.
    pub(crate) fn taken_number(&self, index: usize) -> f64 {
        self.numbers.get(FIRST + 2 * index).copied().unwrap_or(-1.0)
    }

    /// A receipt.
    pub(crate) fn receipt(&mut self, id: u64, status: u8) {
        self.put(STATUS, f64::from(status));
        self.put_id(RECEIPT, id);
    }

    fn put(&mut self, place: usize, value: f64) {
        // SAFETY: the memory belongs to an array that JavaScript keeps to itself and touches on this thread alone, and
        // not while a call is under way.
        let numbers = unsafe { self.numbers.as_mut() };
        if let Some(number) = numbers.get_mut(place) {
            *number = value;
        }
    }

    fn put_id(&mut self, place: usize, value: u64) {
        // SAFETY: as above.
        let ids = unsafe { self.ids.as_mut() };
        if let Some(id) = ids.get_mut(place) {
            *id = value;
        }
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}
