//! Effects: what records do once they have reached their level.
//!
//! An effect is queued under the tail's lock, with the position of its append, and shown in order: by whoever leads the round
//! that reaches level os, or a round behind the one that reaches level sync. Where the first is whoever appends it, and there is
//! no other, it comes to no queue. At any moment it is known to the tail's lock where the oldest one is that is not shown.

use super::allowance::Live;
use crate::error::Error;
use crate::stock::Stock;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

/// How far a record has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Its bytes are in the kernel.
    Os,
    /// A sync covers it.
    Sync,
}

/// Makes the effects of records visible.
pub(crate) trait Show: Send + Sync {
    /// What a record does once it has reached its level.
    type Effect: Send;

    /// Shows these effects, in order. Never called by two threads for one level at once.
    fn show(&self, effects: impl Iterator<Item = Self::Effect>);

    /// Something was shown, and the mark tells so.
    fn shown(&self);

    /// Something was written that no sync covers.
    fn unsynced(&self);

    /// The spare segment is used up, the segment is filled so fast that two are wanted, or little is left of the room that was
    /// granted to what grows: who makes one or asks for more now does so before anybody has to wait for it. May be called under the
    /// tail's lock.
    fn runs_low(&self) {}

    /// There was no room for something that was asked for, for the first time, or there is some again. Called under the tail's lock.
    fn room_changed(&self) {}

    /// What lives, and would be in a snapshot of now.
    fn live(&self) -> Live;

    /// Memory for what is to come.
    fn stock(&self) -> Arc<Stock> {
        Arc::default()
    }

    /// Nothing will be shown any more. Told once.
    fn poisoned(&self, cause: &Error);
}

/// Collects the effects of an append.
#[derive(Debug)]
pub(crate) struct Pending<'a, E> {
    pub(super) os: &'a mut Queue<E>,
    pub(super) sync: &'a mut Queue<E>,
    pub(super) operations: &'a mut u64,
    pub(super) position: u64,
}

impl<E> Pending<'_, E> {
    /// Shows this when the append has reached the level.
    pub(crate) fn at(&mut self, level: Level, effect: E) {
        let queue = match level {
            Level::Os => &mut self.os,
            Level::Sync => &mut self.sync,
        };
        queue.effects.push((self.position, effect));
    }

    /// The append says what so many more records would.
    pub(crate) fn says_more(&mut self, operations: u64) {
        *self.operations += operations;
    }
}

/// Effects that wait for a level, each with the position of its append.
#[derive(Debug)]
pub(super) struct Queue<E> {
    effects: Vec<(u64, E)>,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { effects: Vec::new() }
    }

    /// Moves out the effects of records below `end`.
    pub(super) fn take_below(&mut self, end: u64, showing: &mut Showing<E>) {
        let Some(oldest) = self.oldest().filter(|oldest| *oldest < end) else { return };
        showing.from.store(oldest, Ordering::Release);
        if self.effects.last().is_none_or(|(position, _)| *position < end) {
            std::mem::swap(&mut self.effects, &mut showing.effects);
            return;
        }
        let below = self.effects.partition_point(|(position, _)| *position < end);
        showing.effects.extend(self.effects.drain(..below));
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.effects.first().map(|(position, _)| *position)
    }
}

/// The position of no effect.
const NOTHING: u64 = u64::MAX;

/// Effects that are being shown by who leads a round, and the position of the oldest. It is set under the tail's lock,
/// before they leave their queue, or instead of coming to one, and cleared when they are shown: so whoever has that lock knows
/// of each in one of the two places.
#[derive(Debug)]
pub(super) struct Showing<E> {
    /// None while nothing is being shown.
    effects: Vec<(u64, E)>,
    pub(super) from: Arc<AtomicU64>,
}

impl<E> Showing<E> {
    pub(super) fn new() -> Self {
        Self { effects: Vec::new(), from: Arc::new(AtomicU64::new(NOTHING)) }
    }

    pub(super) fn show<S: Show<Effect = E>>(&mut self, show: &S) {
        match self.effects.len() {
            0 => return,
            // Mostly there is one, and to look for more has its price.
            1 => show.show(self.effects.pop().into_iter().map(|(_, effect)| effect)),
            _ => show.show(self.effects.drain(..).map(|(_, effect)| effect)),
        }
        self.end(show);
    }

    /// Whoever leads is about to show something from this position on that comes to no list. Under the tail's lock.
    pub(super) fn begin(&self, position: u64) {
        self.from.store(position, Ordering::Release);
    }

    /// All is shown.
    pub(super) fn end<S: Show<Effect = E>>(&self, show: &S) {
        self.from.store(NOTHING, Ordering::Release);
        show.shown();
    }
}
