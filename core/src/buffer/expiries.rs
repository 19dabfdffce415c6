//! Expiries: until when messages that expire may wait, and what is said of those that have failed if they do.
//!
//! Locked last, and locks nothing itself; but for the turn, which is taken before any other lock.

use std::collections::{BTreeMap, HashMap};

use crate::clock::Moment;
use crate::sync::{Mutex, MutexGuard, lock};

/// The messages that expire, by slot and by moment.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    entries: Mutex<Entries>,
    /// Held by who takes out what has expired until that is gone: whoever comes next finds it in no table any more, and must
    /// not say before that all is done.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Entries {
    of: HashMap<u32, Expiry>,
    /// Those that the timekeeper looks at, by moment and id.
    armed: BTreeMap<(Moment, u64), u32>,
    /// Bytes of all texts.
    text_bytes: u64,
}

/// How a message expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) moment: Moment,
    /// The text of its last failure; empty where there was none.
    pub(crate) error: Box<str>,
}

impl Expiries {
    /// The message in this slot expires so.
    pub(crate) fn set(&self, slot: u32, expiry: Expiry) {
        let mut entries = lock(&self.entries);
        entries.text_bytes += expiry.error.len() as u64;
        let before = entries.of.insert(slot, expiry);
        entries.text_bytes -= before.map_or(0, |before| before.error.len() as u64);
    }

    /// The message in this slot has failed, if it expires.
    pub(crate) fn failed(&self, slot: u32, error: &str) {
        let mut entries = lock(&self.entries);
        let Entries { of, text_bytes, .. } = &mut *entries;
        if let Some(expiry) = of.get_mut(&slot) {
            *text_bytes += error.len() as u64;
            *text_bytes -= expiry.error.len() as u64;
            expiry.error = error.into();
        }
    }

    /// The message in this slot expires no more.
    pub(crate) fn remove(&self, slot: u32, id: u64) {
        let mut entries = lock(&self.entries);
        if let Some(expiry) = entries.of.remove(&slot) {
            entries.text_bytes -= expiry.error.len() as u64;
            entries.armed.remove(&(expiry.moment, id));
        }
    }

    /// Bytes of all that is said of failures.
    pub(crate) fn text_bytes(&self) -> u64 {
        lock(&self.entries).text_bytes
    }

    /// When the message in this slot expires.
    pub(crate) fn moment_of(&self, slot: u32) -> Option<Moment> {
        lock(&self.entries).of.get(&slot).map(|expiry| expiry.moment)
    }

    /// How the message in this slot expires.
    pub(crate) fn of(&self, slot: u32) -> Option<Expiry> {
        lock(&self.entries).of.get(&slot).cloned()
    }

    /// The message in this slot waits: it is found by [`Expiries::pop_due`] when its moment has come, which is answered.
    pub(crate) fn arm(&self, slot: u32, id: u64) -> Option<Moment> {
        let mut entries = lock(&self.entries);
        let moment = entries.of.get(&slot)?.moment;
        entries.armed.insert((moment, id), slot);
        Some(moment)
    }

    /// The turn to end what has expired.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// Takes out the first message whose moment has come; else answers when the next one's will.
    pub(crate) fn pop_due(&self, now: Moment) -> Result<(u64, u32), Option<Moment>> {
        let mut entries = lock(&self.entries);
        match entries.armed.first_entry() {
            Some(first) if first.key().0 <= now => {
                let ((_, id), slot) = first.remove_entry();
                Ok((id, slot))
            }
            Some(first) => Err(Some(first.key().0)),
            None => Err(None),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_found_when_its_moment_has_come() {
        let expiries = Expiries::default();
        let at = |moment| Expiry { moment: Moment(moment), error: "".into() };
        expiries.set(1, at(10));
        expiries.set(2, at(5));
        assert_eq!(expiries.pop_due(Moment(99)), Err(None), "nothing waits");
        assert_eq!(expiries.arm(1, 100), Some(Moment(10)));
        assert_eq!(expiries.arm(2, 200), Some(Moment(5)));
        assert_eq!(expiries.arm(3, 300), None);
        assert_eq!(expiries.pop_due(Moment(4)), Err(Some(Moment(5))));
        assert_eq!(expiries.pop_due(Moment(5)), Ok((200, 2)));
        assert_eq!(expiries.of(2), Some(at(5)), "it may wait again");
        expiries.remove(1, 100);
        assert_eq!(expiries.pop_due(Moment(99)), Err(None));
    }
}
