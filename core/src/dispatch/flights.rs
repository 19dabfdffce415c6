//! Flights under their numbers: who is held, and what of that is due.
//!
//! A flight's number is that of its hold, so a place is used by one flight at a time and nobody searches. What is due is
//! found by looking at all of them, which the timekeeper does only when the first of them can be due.

use super::flight::Flight;
use crate::clock::Moment;
use crate::latch::Latch;
use crate::sync::Arc;
use crate::table::Table;

/// All flights that are under way.
#[derive(Debug)]
pub(crate) struct Flights {
    places: Table<Latch<Option<Arc<Flight>>>>,
}

impl Flights {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { places: Table::new(capacity) }
    }

    pub(crate) fn insert(&self, flight: &Arc<Flight>) {
        if let Some(place) = self.places.get_or_make(flight.taken.hold) {
            let flight = Arc::clone(flight);
            *place.take() = Some(flight);
        }
    }

    pub(crate) fn remove(&self, flight: &Flight) {
        if let Some(place) = self.places.get(flight.taken.hold) {
            // Not under the latch, whatever it lets go of.
            let gone = place.take().take();
            drop(gone);
        }
    }

    /// The flights of these numbers.
    pub(crate) fn all(&self, numbers: std::ops::Range<u32>) -> Vec<Arc<Flight>> {
        self.each(numbers).collect()
    }

    /// The flights of these numbers that are due, and when the next one will be.
    pub(crate) fn due(
        &self,
        numbers: std::ops::Range<u32>,
        now: Moment,
    ) -> (Vec<Arc<Flight>>, Option<Moment>) {
        let mut next: Option<Moment> = None;
        let mut is_due = |flight: &Arc<Flight>| {
            let due = flight.lease.term().due();
            let later = due.filter(|due| *due > now);
            next = [next, later].into_iter().flatten().min();
            due.is_some() && later.is_none()
        };
        let due = self.each(numbers).filter(|flight| is_due(flight)).collect();
        (due, next)
    }

    fn each(&self, numbers: std::ops::Range<u32>) -> impl Iterator<Item = Arc<Flight>> {
        numbers.filter_map(|number| self.places.get(number)?.take().clone())
    }
}
