//! Keys: which message of a queue holds a deduplication key.
//!
//! A key is held by its *newest* message while that one waits or is in flight; while the newest waits behind one in
//! flight, that one is its *older*. A key's lock is held over decide and reserve of everything that concerns the key,
//! so its entry always tells what was decided last, shown or not.
//!
//! A key that nobody holds may be *guarded* by a message that is done, for the window that it was enqueued with.
//!
//! Lock order: shards in ascending order, then slots, then the journal's tail. The windows are locked last.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use super::slot::NONE;
use crate::clock::Moment;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// Few under loom, which models every lock.
const SHARD_BITS: u32 = if cfg!(loom) { 1 } else { 6 };
const SHARDS: usize = 1 << SHARD_BITS;

/// A key within its queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    queue: u32,
    key: Box<str>,
}

/// Who holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holders {
    /// The slot of the newest message.
    pub(crate) newest: u32,
    /// The slot of the message in flight that the newest waits behind, or [`NONE`].
    pub(crate) older: u32,
}

/// A message that is done and guards its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guarding {
    pub(crate) id: u64,
    pub(crate) until: Moment,
    /// The position of the record that says so, as far as it has not been synced for certain.
    pub(crate) record: u64,
}

/// All keys of a broker.
#[derive(Debug)]
pub(crate) struct Keys {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// The guarded keys, by the end of the guard and the guarding message's id.
    windows: Mutex<BTreeMap<(Moment, u64), Arc<Name>>>,
}

/// A share of the keys under one lock.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    numbers: HashMap<Arc<Name>, u32>,
    /// By number; none is free.
    entries: Vec<Option<(Arc<Name>, Holders)>>,
    free: Vec<u32>,
    guarded: HashMap<Arc<Name>, Guarding>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            windows: Mutex::default(),
        }
    }

    /// The shard a key belongs to.
    pub(crate) fn shard_of(&self, queue: u32, key: &str) -> u32 {
        let [byte, ..] = self.hasher.hash_one((queue, key)).to_le_bytes();
        u32::from(byte) % (1 << SHARD_BITS)
    }

    /// Locks shards, which are given in any order and may repeat.
    pub(crate) fn lock(&self, mut shards: Vec<u32>) -> LockedKeys<'_> {
        shards.sort_unstable();
        shards.dedup();
        let locked = shards
            .into_iter()
            .filter_map(|shard| Some((shard, lock(self.shards.get(shard as usize)?))))
            .collect();
        LockedKeys { keys: self, shards: locked }
    }

    /// The text of a key's number, if one of its holders is still this slot.
    pub(crate) fn text(&self, number: u32, slot: u32) -> Option<Box<str>> {
        let shard = lock(self.shards.get(shard_of_number(number) as usize)?);
        let (name, holders) = shard.entries.get((number >> SHARD_BITS) as usize)?.as_ref()?;
        (holders.newest == slot || holders.older == slot).then(|| name.key.clone())
    }

    /// Forgets the guards that are over; answers when the next one will be.
    pub(crate) fn forget_due(&self, now: Moment) -> Option<Moment> {
        loop {
            let ((_, id), name) = {
                let mut windows = lock(&self.windows);
                let first = windows.first_entry()?;
                if first.key().0 > now {
                    return Some(first.key().0);
                }
                first.remove_entry()
            };
            let mut shard = lock(self.shards.get(self.shard_of(name.queue, &name.key) as usize)?);
            if shard.guarded.get(&name).is_some_and(|guarding| guarding.id == id) {
                shard.guarded.remove(&name);
            }
        }
    }

    /// How many keys are guarded.
    pub(crate) fn guarded(&self) -> usize {
        lock(&self.windows).len()
    }

    /// Calls `each` with the queue and the text of every guarded key.
    pub(crate) fn each_guarded<E>(
        &self,
        mut each: impl FnMut(u32, &str, Guarding) -> Result<(), E>,
    ) -> Result<(), E> {
        for shard in &self.shards {
            let guarded: Vec<_> = lock(shard)
                .guarded
                .iter()
                .map(|(name, guard)| (Arc::clone(name), *guard))
                .collect();
            for (name, guarding) in guarded {
                each(name.queue, &name.key, guarding)?;
            }
        }
        Ok(())
    }
}

/// The shard of a key's number.
pub(crate) fn shard_of_number(number: u32) -> u32 {
    number & ((1 << SHARD_BITS) - 1)
}

/// Shards under lock.
#[derive(Debug)]
pub(crate) struct LockedKeys<'a> {
    keys: &'a Keys,
    shards: Vec<(u32, MutexGuard<'a, Shard>)>,
}

impl LockedKeys<'_> {
    /// The number and the holders of a key.
    pub(crate) fn find(&mut self, queue: u32, key: &str) -> Option<(u32, Holders)> {
        let shard_number = self.keys.shard_of(queue, key);
        let shard = self.shard(shard_number)?;
        let number = *shard.numbers.get(&Name { queue, key: key.into() })?;
        let (_, holders) = shard.entries.get(number as usize)?.as_ref()?;
        Some(((number << SHARD_BITS) + shard_number, *holders))
    }

    /// The holders of a key's number.
    pub(crate) fn holders(&mut self, number: u32) -> Option<Holders> {
        let shard = self.shard(shard_of_number(number))?;
        shard.entries.get((number >> SHARD_BITS) as usize)?.as_ref().map(|(_, holders)| *holders)
    }

    /// Gives a key that nobody holds to this slot; answers its number.
    pub(crate) fn insert(&mut self, queue: u32, key: &str, newest: u32) -> u32 {
        let shard_number = self.keys.shard_of(queue, key);
        let Some(shard) = self.shard(shard_number) else { return NONE };
        let name = Arc::new(Name { queue, key: key.into() });
        let entry = Some((Arc::clone(&name), Holders { newest, older: NONE }));
        let number = match shard.free.pop() {
            Some(number) => {
                if let Some(place) = shard.entries.get_mut(number as usize) {
                    *place = entry;
                }
                number
            }
            None => {
                shard.entries.push(entry);
                u32::try_from(shard.entries.len() - 1).unwrap_or(NONE)
            }
        };
        shard.numbers.insert(name, number);
        (number << SHARD_BITS) + shard_number
    }

    /// Changes the holders of a key.
    pub(crate) fn set(&mut self, number: u32, holders: Holders) {
        let Some(shard) = self.shard(shard_of_number(number)) else { return };
        if let Some(Some((_, place))) = shard.entries.get_mut((number >> SHARD_BITS) as usize) {
            *place = holders;
        }
    }

    /// Takes a key away from everybody.
    pub(crate) fn remove(&mut self, number: u32) {
        let Some(shard) = self.shard(shard_of_number(number)) else { return };
        let local = number >> SHARD_BITS;
        if let Some((name, _)) = shard.entries.get_mut(local as usize).and_then(Option::take) {
            shard.numbers.remove(&name);
            shard.free.push(local);
        }
    }

    /// The queue and the text of a key's number.
    pub(crate) fn name(&mut self, number: u32) -> Option<(u32, Box<str>)> {
        let shard = self.shard(shard_of_number(number))?;
        let (name, _) = shard.entries.get((number >> SHARD_BITS) as usize)?.as_ref()?;
        Some((name.queue, name.key.clone()))
    }

    /// What guards a key.
    pub(crate) fn guarding(&mut self, queue: u32, key: &str) -> Option<Guarding> {
        let shard_number = self.keys.shard_of(queue, key);
        let shard = self.shard(shard_number)?;
        // Nearly always there is none at all.
        if shard.guarded.is_empty() {
            return None;
        }
        shard.guarded.get(&Name { queue, key: key.into() }).copied()
    }

    /// Has a key guarded by this message, or by none.
    pub(crate) fn set_guarding(&mut self, queue: u32, key: &str, guarding: Option<Guarding>) {
        let name = Arc::new(Name { queue, key: key.into() });
        let shard_number = self.keys.shard_of(queue, key);
        let Some(shard) = self.shard(shard_number) else { return };
        let before = match guarding {
            Some(guarding) => shard.guarded.insert(Arc::clone(&name), guarding),
            None => shard.guarded.remove(&name),
        };
        let mut windows = lock(&self.keys.windows);
        if let Some(before) = before {
            windows.remove(&(before.until, before.id));
        }
        if let Some(guarding) = guarding {
            windows.insert((guarding.until, guarding.id), name);
        }
    }

    fn shard(&mut self, shard: u32) -> Option<&mut Shard> {
        let found = self.shards.iter_mut().find(|(number, _)| *number == shard);
        debug_assert!(found.is_some(), "shard {shard} is not locked");
        found.map(|(_, guard)| &mut **guard)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_changed_and_given_up() {
        let keys = Keys::new();
        let shard = keys.shard_of(1, "k");
        let number = {
            let mut locked = keys.lock(vec![shard, shard]);
            assert_eq!(locked.find(1, "k"), None);
            let number = locked.insert(1, "k", 10);
            assert_eq!(locked.find(1, "k"), Some((number, Holders { newest: 10, older: NONE })));
            locked.set(number, Holders { newest: 11, older: 10 });
            assert_eq!(locked.holders(number), Some(Holders { newest: 11, older: 10 }));
            number
        };
        assert_eq!(keys.text(number, 10).as_deref(), Some("k"));
        assert_eq!(keys.text(number, 12), None);
        let mut locked = keys.lock(vec![shard_of_number(number)]);
        locked.remove(number);
        assert_eq!(locked.find(1, "k"), None);
        assert_eq!(locked.holders(number), None);
    }

    #[test]
    fn the_same_key_in_two_queues_is_two_keys() {
        let keys = Keys::new();
        let shards = vec![keys.shard_of(1, "k"), keys.shard_of(2, "k")];
        let mut locked = keys.lock(shards);
        let first = locked.insert(1, "k", 10);
        let second = locked.insert(2, "k", 20);
        assert_ne!(first, second);
        assert_eq!(locked.find(2, "k").map(|(_, holders)| holders.newest), Some(20));
    }

    #[test]
    fn a_key_is_guarded_until_its_window_ends_or_it_is_taken() {
        let keys = Keys::new();
        let guarding = |id, until| Guarding { id, until: Moment(until), record: 0 };
        let lock = || keys.lock((0..1 << SHARD_BITS).collect());
        lock().set_guarding(1, "k", Some(guarding(5, 10)));
        lock().set_guarding(1, "l", Some(guarding(6, 20)));
        assert_eq!(lock().guarding(1, "k"), Some(guarding(5, 10)));
        assert_eq!(lock().guarding(2, "k"), None);
        assert_eq!(keys.guarded(), 2);
        let mut seen = Vec::new();
        let each = |queue, key: &str, guarding: Guarding| {
            seen.push((guarding.id, queue, key.to_owned()));
            Ok::<_, ()>(())
        };
        assert_eq!(keys.each_guarded(each), Ok(()));
        seen.sort();
        assert_eq!(seen, [(5, 1, "k".to_owned()), (6, 1, "l".to_owned())]);
        assert_eq!(keys.each_guarded(|_, _, _| Err("enough")), Err("enough"));
        assert_eq!(keys.forget_due(Moment(9)), Some(Moment(10)));
        assert_eq!(keys.forget_due(Moment(10)), Some(Moment(20)));
        assert_eq!(lock().guarding(1, "k"), None);
        lock().set_guarding(1, "l", None);
        assert_eq!(keys.forget_due(Moment(10)), None);
    }

    #[test]
    fn each_of_many_keys_has_its_own_number_and_they_are_spread_over_the_shards() {
        let keys = Keys::new();
        let mut locked = keys.lock((0..1 << SHARD_BITS).collect());
        let named: Vec<(u32, String)> = (0..2_000).map(|slot| (slot, format!("k{slot}"))).collect();
        let numbers: Vec<u32> =
            named.iter().map(|(slot, key)| locked.insert(1, key, *slot)).collect();
        for (number, (slot, _)) in numbers.iter().zip(&named) {
            locked.set(*number, Holders { newest: slot + 10_000, older: *slot });
        }
        let mut filled = [0; SHARDS];
        for (number, (slot, key)) in numbers.iter().zip(&named) {
            let holders = Holders { newest: slot + 10_000, older: *slot };
            assert_eq!(locked.find(1, key), Some((*number, holders)));
            assert_eq!(locked.holders(*number), Some(holders));
            assert_eq!(locked.name(*number), Some((1, key.as_str().into())));
            filled[shard_of_number(*number) as usize] += 1;
        }
        assert!(filled.iter().all(|keys| *keys > 0), "{filled:?}");
    }

    #[test]
    fn numbers_are_used_again() {
        let keys = Keys::new();
        let mut locked = keys.lock(vec![keys.shard_of(1, "k")]);
        let first = locked.insert(1, "k", 10);
        locked.remove(first);
        assert_eq!(locked.insert(1, "k", 11), first);
    }
}
