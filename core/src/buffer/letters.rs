//! Letters: the dead ones, by their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::entry::DeadLetterEntry;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// The dead letters of a broker.
#[derive(Debug)]
pub(crate) struct Letters {
    letters: Mutex<Found>,
    /// Beyond that many each further one is parked: it keeps its place among the live messages.
    max: usize,
    /// Those that were decided to be gone, and are not yet. Held over decide and reserve of whatever concerns dead letters,
    /// and never taken under the lock of the letters.
    leaving: Mutex<BTreeSet<u64>>,
}

#[derive(Debug, Default)]
struct Found {
    by_id: BTreeMap<u64, Arc<DeadLetterEntry>>,
    /// Bytes of all their texts.
    text_bytes: u64,
}

impl Found {
    fn insert(&mut self, letter: DeadLetterEntry) -> Option<Arc<DeadLetterEntry>> {
        self.text_bytes += letter.text_bytes();
        let before = self.by_id.insert(letter.id, Arc::new(letter));
        self.forget(before)
    }

    fn remove(&mut self, id: u64) -> Option<Arc<DeadLetterEntry>> {
        let before = self.by_id.remove(&id);
        self.forget(before)
    }

    fn forget(&mut self, letter: Option<Arc<DeadLetterEntry>>) -> Option<Arc<DeadLetterEntry>> {
        self.text_bytes -= letter.as_ref().map_or(0, |letter| letter.text_bytes());
        letter
    }
}

/// A dead letter that has gone.
pub(super) struct Gone {
    pub(super) letter: Arc<DeadLetterEntry>,
    /// It, or another one in its stead, gives a place back.
    pub(super) was_one_parked: bool,
}

impl Letters {
    pub(super) fn new(max: usize) -> Self {
        Self { letters: Mutex::default(), max, leaving: Mutex::default() }
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<DeadLetterEntry>> {
        lock(&self.letters).by_id.get(&id).cloned()
    }

    /// Up to `limit` of a queue, or of all, with ids above `after`, in order.
    pub(crate) fn list(
        &self,
        queue: Option<&str>,
        limit: usize,
        after: u64,
    ) -> Vec<Arc<DeadLetterEntry>> {
        let letters = lock(&self.letters);
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let above = letters.by_id.range(range).map(|(_, letter)| letter);
        above
            .filter(|letter| queue.is_none_or(|queue| letter.queue == queue))
            .take(limit)
            .cloned()
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.letters).by_id.len()
    }

    /// Bytes of all that is said in them.
    pub(crate) fn text_bytes(&self) -> u64 {
        lock(&self.letters).text_bytes
    }

    /// Whose turn it is to decide about dead letters, and which of them are decided to be gone.
    pub(crate) fn turn(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        lock(&self.leaving)
    }

    /// Whether the next one that goes gives a place back, beside those that are leaving already.
    pub(crate) fn is_one_parked(&self, leaving: &BTreeSet<u64>) -> bool {
        self.count().saturating_sub(leaving.len()) > self.max
    }

    /// One more; answers whether it is parked, and needs a place. None if it is there already.
    pub(super) fn add(&self, letter: DeadLetterEntry) -> Option<bool> {
        let mut letters = lock(&self.letters);
        let is_new = letters.insert(letter).is_none();
        is_new.then(|| letters.by_id.len() > self.max)
    }

    /// The content of one is elsewhere now.
    pub(super) fn replace(&self, letter: DeadLetterEntry) {
        lock(&self.letters).insert(letter);
    }

    /// Takes one away that was leaving.
    pub(super) fn remove(&self, id: u64) -> Option<Gone> {
        let mut leaving = lock(&self.leaving);
        let mut letters = lock(&self.letters);
        leaving.remove(&id);
        let was_one_parked = letters.by_id.len() > self.max;
        Some(Gone { letter: letters.remove(id)?, was_one_parked })
    }
}
