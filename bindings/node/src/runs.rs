//! Runs: deliveries that JavaScript knows by a number.
//!
//! A number is given once, so that what outlives its delivery finds nothing, and never another one's.

use libmq::{Delivery, Error, ErrorKind};

/// Bits of a number that say where in the table it is; the others say which of those that were there.
const PLACE_BITS: u32 = 21;

/// A delivery in JavaScript's hands.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) delivery: Delivery,
    /// The broker it is of, as this environment numbers them.
    pub(crate) broker: u32,
    /// The inbox it was taken from; none if it was pulled.
    pub(crate) inbox: Option<u32>,
    /// Its handler was told that it is cancelled.
    pub(crate) told: bool,
}

/// All of them, of one environment.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    turn: u32,
    run: Option<Run>,
}

impl Runs {
    /// The number of one more; itself if there are too many.
    pub(crate) fn add(&mut self, run: Run) -> std::result::Result<f64, Run> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => match u32::try_from(self.places.len()) {
                Ok(place) if place < 1 << PLACE_BITS => {
                    self.places.push(Place { turn: 0, run: None });
                    place
                }
                _ => return Err(run),
            },
        };
        let Some(slot) = self.places.get_mut(place as usize) else { return Err(run) };
        slot.run = Some(run);
        Ok(f64::from(slot.turn) * f64::from(1u32 << PLACE_BITS) + f64::from(place))
    }

    /// The delivery of a number.
    ///
    /// # Errors
    /// `STALE_LEASE`: it has left.
    pub(crate) fn of(&mut self, number: f64) -> libmq::Result<&mut Run> {
        let (turn, place) = split(number);
        let slot = self.places.get_mut(place as usize).filter(|slot| slot.turn == turn);
        slot.and_then(|slot| slot.run.as_mut()).ok_or_else(gone)
    }

    /// Takes the delivery of a number out.
    ///
    /// # Errors
    /// As [`Runs::of`].
    pub(crate) fn take(&mut self, number: f64) -> libmq::Result<Run> {
        let (turn, place) = split(number);
        let slot = self.places.get_mut(place as usize).filter(|slot| slot.turn == turn);
        let slot = slot.ok_or_else(gone)?;
        let run = slot.run.take().ok_or_else(gone)?;
        slot.turn = slot.turn.wrapping_add(1);
        self.free.push(place);
        Ok(run)
    }

    /// The numbers of those for which something is so.
    pub(crate) fn numbers(&mut self, is_so: impl Fn(&mut Run) -> bool) -> Vec<f64> {
        let mut numbers = Vec::new();
        for (place, slot) in (0u32..).zip(&mut self.places) {
            if slot.run.as_mut().is_some_and(&is_so) {
                numbers
                    .push(f64::from(slot.turn) * f64::from(1u32 << PLACE_BITS) + f64::from(place));
            }
        }
        numbers
    }

    /// Gives all of them back, uncounted.
    pub(crate) fn give_back(self) {
        // A delivery that is dropped is released.
        drop(self.places);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "masked, and a number is never negative"
)]
fn split(number: f64) -> (u32, u32) {
    let number = number as u64;
    ((number >> PLACE_BITS) as u32, (number & ((1 << PLACE_BITS) - 1)) as u32)
}

fn gone() -> Error {
    Error::new(ErrorKind::StaleLease, "the delivery was settled before, or its handler has ended")
}
