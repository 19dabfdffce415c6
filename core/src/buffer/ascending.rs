//! A map by numbers that mostly come in ascending order, as the ids of a log's messages do.
//!
//! What comes behind all that came before is put at the end of a list, which costs a tenth of an insert into a tree.
//! What is taken out of the list leaves a gap, and the gaps go when they are more than half of it. What comes out of
//! order, as much of a snapshot may, is kept beside the list in a tree.
//!
//! Invariants:
//! - the list is ordered, and no number is twice in it;
//! - no number that the list knows, with a value or with a gap, is in the tree.

use std::collections::BTreeMap;

/// Gaps that stay, however few values there are.
const GAPS_MIN: usize = 1024;

/// Values by number.
#[derive(Clone, Debug)]
pub(super) struct Ascending<V> {
    list: Vec<(u64, Option<V>)>,
    /// Values in the list.
    listed: usize,
    /// Where the list was found to have something last: the next is mostly asked for next.
    near: usize,
    others: BTreeMap<u64, V>,
}

impl<V> Default for Ascending<V> {
    fn default() -> Self {
        Self { list: Vec::new(), listed: 0, near: 0, others: BTreeMap::new() }
    }
}

impl<V> Ascending<V> {
    pub(super) fn len(&self) -> usize {
        self.listed + self.others.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&V> {
        match self.place(number) {
            Some(place) => self.list.get(place)?.1.as_ref(),
            None => self.others.get(&number),
        }
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        match self.place(number) {
            Some(place) => {
                self.near = place;
                self.list.get_mut(place)?.1.as_mut()
            }
            None => self.others.get_mut(&number),
        }
    }

    /// Puts a value in; one that was there under that number is gone.
    pub(super) fn insert(&mut self, number: u64, value: V) {
        if self.list.last().is_none_or(|(last, _)| *last < number) {
            if !self.others.is_empty() {
                self.others.remove(&number);
            }
            self.list.push((number, Some(value)));
            self.listed += 1;
            return;
        }
        match self.place(number).and_then(|place| self.list.get_mut(place)) {
            Some((_, listed)) => self.listed += usize::from(listed.replace(value).is_none()),
            None => {
                self.others.insert(number, value);
            }
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<V> {
        let Some(place) = self.place(number) else { return self.others.remove(&number) };
        let value = self.list.get_mut(place)?.1.take()?;
        self.near = place;
        self.listed -= 1;
        if self.list.len() - self.listed > self.listed.max(GAPS_MIN) {
            self.list.retain(|(_, value)| value.is_some());
            self.near = 0;
        }
        Some(value)
    }

    /// All of them, ordered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let list = self.list.iter();
        let list = list.filter_map(|(number, value)| Some((*number, value.as_ref()?)));
        let others = self.others.iter().map(|(number, value)| (*number, value));
        let (mut list, mut others) = (list.peekable(), others.peekable());
        std::iter::from_fn(move || match (list.peek(), others.peek()) {
            (Some((listed, _)), Some((other, _))) if other < listed => others.next(),
            (None, _) => others.next(),
            _ => list.next(),
        })
    }

    /// All values, in any order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.list.iter().filter_map(|(_, value)| value.as_ref()).chain(self.others.values())
    }

    /// All values, in any order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let list = self.list.iter_mut().filter_map(|(_, value)| value.as_mut());
        list.chain(self.others.values_mut())
    }

    /// Takes out those of which `is_it` says so.
    pub(super) fn extract(&mut self, is_it: impl Fn(u64, &V) -> bool) -> Vec<(u64, V)> {
        let those = self.iter().filter(|(number, value)| is_it(*number, value));
        let those: Vec<u64> = those.map(|(number, _)| number).collect();
        those.into_iter().filter_map(|number| Some((number, self.remove(number)?))).collect()
    }

    /// All of them, ordered.
    pub(super) fn into_ordered(mut self) -> impl Iterator<Item = (u64, V)> {
        if !self.others.is_empty() {
            self.list.extend(self.others.into_iter().map(|(number, value)| (number, Some(value))));
            // Two runs that are ordered, which this sort merges.
            self.list.sort_by_key(|(number, _)| *number);
        }
        self.list.into_iter().filter_map(|(number, value)| Some((number, value?)))
    }

    /// Where the list knows this number, with a value or with a gap.
    fn place(&self, number: u64) -> Option<usize> {
        let is_at = |place: &usize| self.list.get(*place).is_some_and(|(at, _)| *at == number);
        [self.near, self.near + 1]
            .into_iter()
            .find(is_at)
            .or_else(|| self.list.binary_search_by_key(&number, |(listed, _)| *listed).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that can be asked of it, beside a tree of the same.
    fn assert_same(map: &mut Ascending<u64>, tree: &mut BTreeMap<u64, u64>, numbers: u64) {
        assert_eq!(map.len(), tree.len());
        assert!(map.iter().eq(tree.iter().map(|(number, value)| (*number, value))));
        assert!(map.clone().into_ordered().eq(tree.clone()));
        assert_eq!(map.values().sum::<u64>(), tree.values().sum::<u64>());
        assert_eq!(map.values_mut().map(|value| *value).sum::<u64>(), tree.values().sum::<u64>());
        for number in 0..numbers {
            assert_eq!(map.get(number), tree.get(&number));
            assert_eq!(map.get_mut(number), tree.get_mut(&number));
        }
    }

    #[test]
    fn it_is_a_map() {
        const NUMBERS: u64 = 64;
        for seed in 1..=200_u64 {
            let (mut map, mut tree) = (Ascending::default(), BTreeMap::new());
            let mut random = seed;
            // Any sequence will do that has ascents and descents in it: this is a linear congruential generator.
            let mut next = |below: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
                (random >> 33) % below
            };
            for step in 0..200 {
                let ascent = (step / 4 + next(3)).min(NUMBERS - 1);
                match next(8) {
                    chance @ 0..4 => {
                        let number = if chance > 0 { ascent } else { next(NUMBERS) };
                        map.insert(number, step);
                        tree.insert(number, step);
                    }
                    4..7 => {
                        let number = next(ascent + 1);
                        assert_eq!(map.remove(number), tree.remove(&number));
                    }
                    _ => {
                        let digit = next(7);
                        let is_it = |number: u64, _: &u64| number % 7 == digit;
                        let mut extracted = map.extract(is_it);
                        extracted.sort_unstable();
                        assert!(
                            extracted
                                .into_iter()
                                .eq(tree.extract_if(.., |number, _| { number % 7 == digit }))
                        );
                    }
                }
            }
            assert_same(&mut map, &mut tree, NUMBERS);
        }
    }

    #[test]
    fn what_comes_in_order_is_in_no_tree() {
        let mut map = Ascending::default();
        (0..100).for_each(|number| map.insert(number * 2, number));
        map.remove(60);
        map.insert(60, 1000);
        assert!(map.others.is_empty());
        map.insert(61, 1001);
        assert_eq!((map.others.len(), map.len()), (1, 101));
    }

    #[test]
    fn gaps_go_when_they_are_more_than_half() {
        let mut map = Ascending::default();
        let many = 4 * GAPS_MIN as u64;
        (0..many).for_each(|number| map.insert(number, number));
        (0..many - 1).for_each(|number| assert_eq!(map.remove(number), Some(number)));
        assert_eq!(map.len(), 1);
        assert!(map.list.len() <= GAPS_MIN + 1, "{}", map.list.len());
        assert_eq!(map.get(many - 1), Some(&(many - 1)));
        assert_eq!(map.remove(0), None);
    }
}
