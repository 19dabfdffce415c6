//! The schedule: delayed messages by the moment they are due.
//!
//! Lock order: the schedule, then one slot. An entry whose message is not delayed until that moment any more is stale
//! and dropped when it is met.

use std::collections::BTreeMap;

use crate::clock::Moment;

/// Delayed messages, by due moment and id.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    entries: BTreeMap<(Moment, u64), u32>,
}

impl Schedule {
    pub(crate) fn insert(&mut self, due: Moment, id: u64, index: u32) {
        self.entries.insert((due, id), index);
    }

    pub(crate) fn remove(&mut self, due: Moment, id: u64) {
        self.entries.remove(&(due, id));
    }

    /// Takes out the first message that is due.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<(u64, u32)> {
        let first = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, id), index) = first.remove_entry();
        Some((id, index))
    }

    /// When the next message is due.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.entries.first_key_value().map(|((due, _), _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_by_due_moment_then_id() {
        let mut schedule = Schedule::default();
        for (due, id, index) in [(20, 1, 11), (10, 3, 13), (10, 2, 12), (30, 4, 14)] {
            schedule.insert(Moment(due), id, index);
        }
        schedule.remove(Moment(30), 4);
        assert_eq!(schedule.next(), Some(Moment(10)));
        assert_eq!(schedule.pop_due(Moment(9)), None);
        assert_eq!(schedule.pop_due(Moment(20)), Some((2, 12)));
        assert_eq!(schedule.pop_due(Moment(20)), Some((3, 13)));
        assert_eq!(schedule.pop_due(Moment(20)), Some((1, 11)));
        assert_eq!(schedule.next(), None);
    }
}
