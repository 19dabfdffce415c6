//! The tally: what producers were told and consumers did, and whether it adds up.
//!
//! A *number* is a content, given once. An id is a message, which a replace gives another number.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The bit of a number that came with the ack of the number without it.
pub(crate) const CHILD: u64 = 1 << 60;

/// What a consumer was told of how it ended a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Acked,
    /// Acked, with a child.
    AckedWith,
    /// Tried again, or given back.
    Back,
    Rejected,
    /// It was too late: nothing has happened.
    Stale,
}

/// A delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub(crate) id: u64,
    pub(crate) number: u64,
    pub(crate) token: u64,
    /// When it was asked for, if that is known.
    pub(crate) asked: Option<u64>,
    pub(crate) end: End,
}

/// What one thread knows.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Numbers under their ids, with their keys.
    pub(crate) enqueued: Vec<(u64, u64, Option<u8>)>,
    /// Numbers that were refused, or that another message stands for.
    pub(crate) refused: Vec<u64>,
    pub(crate) delivered: Vec<Delivered>,
    /// Ids that were cancelled, and when that was answered.
    pub(crate) cancelled: Vec<(u64, u64)>,
    /// Calls of whatever kind.
    pub(crate) calls: u64,
}

/// What it came to.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) calls: u64,
    pub(crate) messages: usize,
    pub(crate) acked: usize,
    pub(crate) dead: usize,
    pub(crate) cancelled: usize,
    pub(crate) superseded: usize,
    /// Deliveries that ended, and counted for nothing.
    pub(crate) stale: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.enqueued.extend(other.enqueued);
        self.refused.extend(other.refused);
        self.delivered.extend(other.delivered);
        self.cancelled.extend(other.cancelled);
        self.calls += other.calls;
    }

    /// Adds it all up, with the ids of the dead letters that there are at the end, when nothing lives any more. `was_closed`
    /// where the broker was closed while all this was going on.
    ///
    /// # Errors
    /// What does not add up.
    pub(crate) fn sum(&self, dead: &[u64], was_closed: bool) -> Result<Sum, String> {
        let mut numbers: HashMap<u64, HashSet<u64>> = HashMap::new();
        let mut keys: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
        let mut keyed = HashMap::new();
        for (id, number, key) in &self.enqueued {
            numbers.entry(*id).or_default().insert(*number);
            if let Some(key) = key {
                keys.entry(*key).or_default().insert(*id);
                keyed.insert(*id, *key);
            }
        }
        // Each child comes with one ack, and has an id that is known from its deliveries alone.
        let mut missing: HashSet<u64> = HashSet::new();
        for delivered in self.delivered.iter().filter(|it| it.end == End::AckedWith) {
            let child = delivered.number | CHILD;
            if !missing.insert(child) {
                return Err(format!("{delivered:?}: its number was acked before"));
            }
        }
        let children = missing.clone();
        let mut deliveries: HashMap<u64, Vec<&Delivered>> = HashMap::new();
        let mut tokens = HashSet::new();
        for delivered in &self.delivered {
            let Delivered { id, number, token, .. } = delivered;
            if !tokens.insert(token) {
                return Err(format!("{delivered:?}: the token was given before"));
            }
            if number & CHILD != 0 {
                missing.remove(number);
                numbers.entry(*id).or_default().insert(*number);
            }
            let is_known = numbers.get(id).is_some_and(|all| all.contains(number));
            if !is_known || number & CHILD != 0 && !children.contains(number) {
                return Err(format!("{delivered:?}: nobody has enqueued it"));
            }
            deliveries.entry(*id).or_default().push(delivered);
        }
        if let Some(number) = missing.iter().next() {
            return Err(format!("{number:x} came with an ack and was lost"));
        }
        let there: HashSet<u64> = numbers.values().flatten().copied().collect();
        if let Some(refused) = self.refused.iter().find(|number| there.contains(number)) {
            return Err(format!("{refused:x} was refused, and is there"));
        }
        let cancelled: HashMap<u64, u64> = self.cancelled.iter().copied().collect();
        let dead: HashSet<u64> = dead.iter().copied().collect();
        let mut sum = Sum { calls: self.calls, messages: numbers.len(), ..Sum::default() };
        for (id, all) in &numbers {
            if all.iter().any(|number| number & CHILD != 0) && all.len() > 1 {
                return Err(format!("{id} is two messages: {all:x?}"));
            }
            let mut own = deliveries.remove(id).unwrap_or_default();
            own.sort_unstable_by_key(|delivered| delivered.token);
            sum.stale += own.iter().filter(|delivered| delivered.end == End::Stale).count();
            let over = |it: &&&Delivered| matches!(it.end, End::Acked | End::AckedWith);
            let acks = own.iter().filter(over).count();
            let rejects = own.iter().filter(|it| it.end == End::Rejected).count();
            let is_dead = dead.contains(id);
            let told = || format!("{id}, {own:?}, dead: {is_dead}, {:?}", cancelled.get(id));
            // The end is the last of its deliveries that came to something.
            let last = own.iter().rfind(|it| it.end != End::Stale);
            if acks > 1 || acks == 1 && (is_dead || !last.as_ref().is_some_and(over)) {
                return Err(format!("it had more than one end: {}", told()));
            }
            if let Some(answered) = cancelled.get(id)
                && own.iter().any(|it| it.asked.is_some_and(|asked| asked > *answered))
            {
                return Err(format!("it was handed out after it was cancelled: {}", told()));
            }
            let later = keyed.get(id).and_then(|key| keys.get(key)?.range(id + 1..).next());
            if acks == 1 {
                sum.acked += 1;
            } else if is_dead {
                sum.dead += 1;
            } else if cancelled.contains_key(id) {
                sum.cancelled += 1;
            } else if rejects == 0 && later.is_some() && (!own.is_empty() || was_closed) {
                // It came back, and another one was waiting behind it. A close gives back what is held, and what has not
                // even been handed out yet.
                sum.superseded += 1;
            } else {
                return Err(format!("it was lost: {}", told()));
            }
        }
        match dead.iter().find(|id| !numbers.contains_key(id)) {
            Some(id) => Err(format!("nobody has enqueued the dead letter {id}")),
            None => Ok(sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(id: u64, token: u64, end: End) -> Delivered {
        Delivered { id, number: id + 100, token, asked: Some(token), end }
    }

    fn of(delivered: &[Delivered]) -> Tally {
        let enqueued = vec![(1, 101, Some(7)), (2, 102, Some(7))];
        Tally { enqueued, delivered: delivered.to_vec(), ..Tally::default() }
    }

    #[test]
    fn what_adds_up_is_told_in_numbers() {
        let back = [delivered(1, 1, End::Back), delivered(2, 2, End::Acked)];
        let sum = of(&back).sum(&[], false).unwrap();
        assert_eq!((sum.messages, sum.acked, sum.superseded), (2, 1, 1));
        let closed = [delivered(1, 1, End::Stale), delivered(2, 2, End::Acked)];
        assert_eq!(of(&closed).sum(&[], false).unwrap().superseded, 1);
        assert_eq!(of(&closed[1..]).sum(&[], true).unwrap().superseded, 1);
        let late = [delivered(1, 1, End::Stale), delivered(1, 3, End::Acked)];
        let sum = of(&late).sum(&[2], false).unwrap();
        assert_eq!((sum.acked, sum.dead, sum.stale), (1, 1, 1));
    }

    #[test]
    fn what_is_lost_doubled_or_made_up_is_found() {
        let ack = |id: u64, token: u64| delivered(id, token, End::Acked);
        let wrong: [(&[Delivered], &[u64], &str); 6] = [
            (&[ack(2, 1)], &[], "was lost"),
            (&[ack(1, 1), delivered(2, 2, End::Back)], &[], "was lost"),
            (&[ack(1, 1), ack(1, 2), ack(2, 3)], &[], "more than one end"),
            (&[ack(1, 1), ack(2, 2)], &[2], "more than one end"),
            (&[ack(1, 1), ack(2, 1)], &[], "token was given before"),
            (&[ack(1, 1), ack(2, 2), ack(3, 3)], &[], "nobody has enqueued it"),
        ];
        for (delivered, dead, why) in wrong {
            let found = of(delivered).sum(dead, false).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        let mut tally = of(&[ack(1, 1), delivered(2, 2, End::AckedWith)]);
        assert!(tally.sum(&[], false).unwrap_err().contains("came with an ack and was lost"));
        tally.delivered.push(Delivered { number: 102 | CHILD, ..ack(3, 3) });
        assert_eq!(tally.sum(&[], false).unwrap().messages, 3);
        tally.cancelled.push((3, 2));
        assert!(tally.sum(&[], false).unwrap_err().contains("after it was cancelled"));
        tally = of(&[ack(1, 1), ack(2, 2)]);
        tally.refused.push(101);
        assert!(tally.sum(&[], false).unwrap_err().contains("was refused"));
    }
}
