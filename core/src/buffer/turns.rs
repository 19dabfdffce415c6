//! Turns: one message of a group at a time, in the order of their ids.
//!
//! Of a group's due messages only the *head* stands in a lane; the others wait here. Whoever takes the head makes its
//! message the *holder*: while there is one, nothing else of the group is in a lane. It holds on while it waits for a
//! retry, and until the record of its end is shown; so what comes after it never starts before its end is known.
//!
//! A group is known by a number that is made of its text. Should two groups have the same number, they take turns with
//! each other, which is no harm and needs no table of names.
//!
//! Guarded by the lock of the queue's lanes. Every change of a message's state that is not made under that lock is
//! followed by one that is, which sets its place here right.

use std::collections::{BTreeMap, HashMap};

use super::slot::NONE;

/// The number of a group: FNV-1a over its text. It is in snapshots, so it never changes.
pub(crate) fn group_number(text: &str) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix).max(1)
}

/// Whose turn it is in each group of a queue.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    groups: HashMap<u64, Turn>,
}

/// Whose turn it is in one group.
#[derive(Debug)]
struct Turn {
    /// The slot of the message that was taken and is not gone.
    holder: u32,
    /// The slot and the id of the message in a lane.
    head: u32,
    head_id: u64,
    /// Due messages, by id.
    waiting: BTreeMap<u64, u32>,
}

/// What becomes of a message that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// To its lane.
    Runs,
    /// To its lane, and the message in this slot leaves its own.
    Displaces(u32),
    /// It waits.
    Waits,
    /// It waits, and the message in this slot goes to its lane.
    Yields(u32),
}

impl Turn {
    const NEW: Self = Self { holder: NONE, head: NONE, head_id: 0, waiting: BTreeMap::new() };

    /// Makes a message the head; answers the one that was.
    fn replace_head(&mut self, head: u32, id: u64) -> Option<u32> {
        let displaced = Some(self.head).filter(|old| *old != NONE && *old != head);
        if let Some(old) = displaced {
            self.waiting.insert(self.head_id, old);
        }
        (self.head, self.head_id) = (head, id);
        displaced
    }
}

impl Turns {
    /// A message is due; `holds` if it came back.
    pub(crate) fn admit(&mut self, group: u64, id: u64, slot: u32, holds: bool) -> Admission {
        let turn = self.groups.entry(group).or_insert(Turn::NEW);
        turn.waiting.remove(&id);
        if holds {
            turn.holder = slot;
        } else if turn.holder == slot {
            turn.holder = NONE;
        }
        if turn.holder == slot {
            return turn.replace_head(slot, id).map_or(Admission::Runs, Admission::Displaces);
        }
        turn.waiting.insert(id, slot);
        if turn.head == slot {
            turn.head = NONE;
        }
        let first = turn.waiting.first_key_value().map(|(id, slot)| (*id, *slot));
        let Some((first_id, first)) = first.filter(|(first, _)| {
            turn.holder == NONE && (turn.head == NONE || *first < turn.head_id)
        }) else {
            return Admission::Waits;
        };
        turn.waiting.remove(&first_id);
        let displaced = turn.replace_head(first, first_id);
        if first != slot {
            return Admission::Yields(first);
        }
        displaced.map_or(Admission::Runs, Admission::Displaces)
    }

    /// A message came back and is not due; answers the one that leaves its lane for that.
    pub(crate) fn hold(&mut self, group: u64, slot: u32) -> Option<u32> {
        let turn = self.groups.entry(group).or_insert(Turn::NEW);
        turn.holder = slot;
        if turn.head == slot {
            turn.head = NONE;
        }
        turn.replace_head(NONE, 0)
    }

    /// The head was taken.
    pub(crate) fn take(&mut self, group: u64, slot: u32) {
        let turn = self.groups.entry(group).or_insert(Turn::NEW);
        (turn.holder, turn.head) = (slot, NONE);
    }

    /// A message is not, or not any more, among those that are due; answers the next head, which goes to its lane.
    pub(crate) fn leave(&mut self, group: u64, id: u64, slot: u32) -> Option<u32> {
        let turn = self.groups.get_mut(&group)?;
        turn.waiting.remove(&id);
        for place in [&mut turn.holder, &mut turn.head] {
            if *place == slot {
                *place = NONE;
            }
        }
        if turn.holder != NONE || turn.head != NONE {
            return None;
        }
        let Some((id, next)) = turn.waiting.pop_first() else {
            self.groups.remove(&group);
            return None;
        };
        (turn.head, turn.head_id) = (next, id);
        Some(next)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const GROUP: u64 = 1;

    #[test]
    fn one_at_a_time_in_the_order_of_ids() {
        let mut turns = Turns::default();
        assert_eq!(turns.admit(GROUP, 20, 2, false), Admission::Runs);
        assert_eq!(turns.admit(GROUP, 30, 3, false), Admission::Waits);
        assert_eq!(turns.admit(GROUP, 10, 1, false), Admission::Displaces(2));
        turns.take(GROUP, 1);
        assert_eq!(turns.admit(GROUP, 5, 0, false), Admission::Waits, "one is held");
        assert_eq!(turns.leave(GROUP, 10, 1), Some(0));
        turns.take(GROUP, 0);
        assert_eq!(turns.leave(GROUP, 30, 3), None, "it only waited");
        assert_eq!(turns.leave(GROUP, 5, 0), Some(2));
        turns.take(GROUP, 2);
        assert_eq!(turns.leave(GROUP, 20, 2), None);
        assert!(turns.groups.is_empty());
    }

    #[test]
    fn what_came_back_holds_its_group() {
        let mut turns = Turns::default();
        assert_eq!(turns.admit(GROUP, 10, 1, false), Admission::Runs);
        assert_eq!(turns.hold(GROUP, 2), Some(1), "as a reopening may find it");
        assert_eq!(turns.admit(GROUP, 5, 3, false), Admission::Waits);
        assert_eq!(turns.admit(GROUP, 20, 2, true), Admission::Runs);
        turns.take(GROUP, 2);
        assert_eq!(turns.leave(GROUP, 20, 2), Some(3));
    }

    #[test]
    fn a_replaced_message_holds_no_more_and_keeps_its_place() {
        let mut turns = Turns::default();
        turns.take(GROUP, 2);
        assert_eq!(turns.hold(GROUP, 2), None);
        assert_eq!(turns.admit(GROUP, 30, 3, false), Admission::Waits);
        assert_eq!(turns.admit(GROUP, 10, 1, false), Admission::Waits);
        assert_eq!(turns.admit(GROUP, 20, 2, false), Admission::Yields(1));
        turns.take(GROUP, 1);
        assert_eq!(turns.leave(GROUP, 10, 1), Some(2));
        assert_eq!(turns.admit(GROUP, 20, 2, false), Admission::Runs, "again");
        assert_eq!(turns.leave(GROUP, 20, 2), Some(3));
    }

    #[test]
    fn groups_have_numbers_of_their_own() {
        assert_ne!(group_number("a"), group_number("b"));
        assert_eq!(group_number("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
