//! Slots: the small part of a live message that stays in memory.
//!
//! A slot's *state word* holds its state, the number of its lease, and a busy bit. A transition is decided by one
//! compare-and-swap of that word: whoever sets the busy bit on the state it expected has won, and everybody else finds
//! the word changed. The winner holds a [`Guard`] over decide and reserve only, changes the slot's data, and gives the
//! word its new state when the guard is dropped.
//!
//! | state | what it means | who may leave it |
//! |---|---|---|
//! | free | no message | an enqueue that popped it from the free list |
//! | pending | decided and logged, not shown yet | the show of its effect; a replace |
//! | ready | shown, in its queue's lane or waiting for its group's turn | a take, a replace, a removal |
//! | delayed | shown, in the schedule | the timekeeper, a replace, a removal |
//! | behind | shown, waits behind the message in flight with its key | that one's settle, a replace, a removal |
//! | taken | leased under the lease number in the word | whoever settles under that number; the lease's end |
//! | settled | decided and logged to be gone, not shown yet | the show of its effect |
//!
//! Ordering: the swap acquires and the guard's drop releases, so the data is only ever reached by who holds the bit.
//! Inside a guard the journal's tail may be locked, or what locks nothing itself: the count in `company`, the expiries,
//! the index of ids.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use super::flags::{Flag, Flags};
use crate::clock::Moment;
use crate::journal::Level;
use crate::pages::Pages;
use crate::stock::Stock;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Arc, CachePadded, Cell, Entered, Pause};
use crate::table::Table;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

const BUSY: u64 = 1 << 7;
const STATE_MASK: u64 = 0x7f;
const LEASE_SHIFT: u32 = 8;

/// What a slot's message is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Pending,
    Ready,
    Delayed,
    Behind,
    Taken,
    Settled,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Free,
        Self::Pending,
        Self::Ready,
        Self::Delayed,
        Self::Behind,
        Self::Taken,
        Self::Settled,
    ];

    fn of(word: u64) -> Self {
        let index = usize::try_from(word & STATE_MASK).unwrap_or(0);
        Self::ALL.get(index).copied().unwrap_or(Self::Free)
    }

    fn word(self, lease: u64) -> u64 {
        lease << LEASE_SHIFT | self as u64
    }
}

/// Where a slot is linked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Linked {
    #[default]
    Nowhere,
    /// In the lane's list.
    List,
    /// In the lane's side table, because it came out of order.
    Side,
    /// Among the lane's suspects.
    Suspects,
    /// In no lane: it waits for its group's turn.
    Turn,
}

/// What a slot knows of its message, beside its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    /// The position of the record that holds its content now.
    pub(crate) version: u64,
    /// When it is or was due.
    pub(crate) due: Moment,
    /// Its group's number, or 0.
    pub(crate) group: u64,
    /// Its key's number, or [`NONE`].
    pub(crate) key: u32,
    /// Counted attempts that have ended.
    pub(crate) attempts: u32,
    /// Its queue's number.
    pub(crate) queue: u16,
    /// Times the process died in its handler.
    pub(crate) crashes: u8,
    pub(crate) priority: u8,
    pub(crate) flags: Flags,
    pub(crate) linked: Linked,
    /// The priority of the lane that it is linked in.
    pub(crate) lane: u8,
}

impl Data {
    pub(super) const EMPTY: Self = Self {
        version: 0,
        due: Moment(0),
        group: 0,
        key: NONE,
        attempts: 0,
        queue: u16::MAX,
        crashes: 0,
        priority: 0,
        flags: Flags(0),
        linked: Linked::Nowhere,
        lane: 0,
    };

    /// Whether the process died in its handler before, so that it runs alone from now on.
    pub(crate) fn is_suspect(&self) -> bool {
        self.crashes > 0
    }

    /// Whether it was ever handed out and did not come back unused.
    pub(crate) fn was_attempted(&self) -> bool {
        self.attempts > 0 || self.crashes > 0
    }

    /// The level its content was asked to reach.
    pub(crate) fn level(&self) -> Level {
        if self.flags.has(Flag::Sync) { Level::Sync } else { Level::Os }
    }
}

/// A place for one live message.
pub(crate) struct Slot {
    word: AtomicU64,
    /// The neighbours in a lane's list, guarded by the lane's lock; `next` links free slots too.
    pub(crate) previous: AtomicU32,
    pub(crate) next: AtomicU32,
    /// The message's id: the position of the record that brought it. Written by who holds the slot's guard, and never
    /// while the slot is linked, so that a lane's list can compare neighbours without locking them. Relaxed: guarded by
    /// the busy bit for who holds a guard, and by the lane's lock for the list.
    id: AtomicU64,
    data: Cell<Data>,
}

// SAFETY: `data` is reached through a `Guard` alone, and the busy bit gives out one guard at a time.
unsafe impl Sync for Slot {}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(State::Free.word(0)),
            previous: AtomicU32::new(NONE),
            next: AtomicU32::new(NONE),
            id: AtomicU64::new(0),
            data: Cell::new(Data::EMPTY),
        }
    }

    /// So many slots, in zeros that have room for them where there are such.
    fn row(count: usize, zeros: Option<Pages<u8>>) -> Pages<Self> {
        if cfg!(loom) {
            // What loom knows of an atomic is not in its bytes.
            return Pages::new(count, Self::new);
        }
        // SAFETY: the memory is zeros, and zeros are a slot, and a free one: numbers, of a state, a link and flags among them, each of
        // which has that one. What else they say is not looked at before a message comes there.
        let zeroed = unsafe {
            match zeros {
                Some(zeros) => Some(Pages::zeroed_in(zeros, count)),
                None => Pages::zeroed(count),
            }
        };
        // Without memory for them the process ends.
        zeroed.unwrap_or_else(|| Pages::new(count, Self::new))
    }

    /// The id of the message in a slot that is linked in a lane which the caller has locked.
    pub(crate) fn linked_id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// Takes the slot, whatever its state.
    pub(crate) fn lock(&self) -> Guard<'_> {
        let pause = Pause::new();
        loop {
            // Relaxed: only a guess for the swap, which acquires.
            let word = self.word.load(Ordering::Relaxed);
            if word & BUSY == 0
                && self
                    .word
                    .compare_exchange_weak(word, word | BUSY, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return Guard { slot: self, word, entered: self.data.enter() };
            }
            pause.snooze();
        }
    }

    /// Takes the slot if it is leased under this number.
    pub(crate) fn lock_lease(&self, lease: u64) -> Option<Guard<'_>> {
        let expected = State::Taken.word(lease);
        let pause = Pause::new();
        loop {
            let swap = self.word.compare_exchange_weak(
                expected,
                expected | BUSY,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match swap {
                Ok(_) => {
                    let entered = self.data.enter();
                    return Some(Guard { slot: self, word: expected, entered });
                }
                Err(found) if found & !BUSY != expected => return None,
                Err(_) => pause.snooze(),
            }
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({:?})", State::of(self.word.load(Ordering::Relaxed)))
    }
}

/// A slot that was won. Dropped, it gives the slot back in the state last set.
pub(crate) struct Guard<'a> {
    slot: &'a Slot,
    word: u64,
    entered: Entered,
}

impl Guard<'_> {
    pub(crate) fn state(&self) -> State {
        State::of(self.word)
    }

    /// The slot itself.
    pub(super) fn slot(&self) -> &Slot {
        self.slot
    }

    /// The message's id.
    pub(crate) fn id(&self) -> u64 {
        self.slot.id.load(Ordering::Relaxed)
    }

    /// Gives the slot to a new message.
    pub(crate) fn set_id(&mut self, id: u64) {
        debug_assert_eq!(self.linked, Linked::Nowhere, "a linked slot keeps its message");
        self.slot.id.store(id, Ordering::Relaxed);
    }

    /// Sets the state the slot is given back in.
    pub(crate) fn set(&mut self, state: State) {
        self.word = state.word(0);
    }

    /// Sets the slot to be given back leased under this number.
    pub(crate) fn set_taken(&mut self, lease: u64) {
        self.word = State::Taken.word(lease);
    }
}

impl Deref for Guard<'_> {
    type Target = Data;

    fn deref(&self) -> &Data {
        // SAFETY: this guard holds the busy bit, so nobody else reaches the data until it is dropped.
        unsafe { &*self.slot.data.get() }
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Data {
        // SAFETY: this guard holds the busy bit, so nobody else reaches the data until it is dropped, and `&mut self`
        // keeps the guard's own references apart.
        unsafe { &mut *self.slot.data.get() }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.entered.leave();
        self.slot.word.store(self.word, Ordering::Release);
    }
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({} {:?}, {:?})", self.id(), self.state(), **self)
    }
}

/// More slots than the capacity, for those that are settled and not shown yet.
const SLACK_SLOTS: usize = if cfg!(loom) { 4 } else { 1 << 16 };

/// Slots that are to be given back together, linked one behind the other: the first and the last of them.
#[derive(Debug, Default)]
pub(crate) struct Freed(Option<(u32, u32)>);

/// All slots of a broker. Memory follows the messages there are.
pub(crate) struct Slots {
    slots: Table<Slot>,
    /// The free list: the number of its first slot, under a count of pushes that makes each head a new one.
    free: CachePadded<AtomicU64>,
    /// Slots from here on were never used.
    fresh: CachePadded<AtomicU32>,
}

impl Slots {
    pub(crate) fn new(capacity: usize, stock: Arc<Stock>) -> Self {
        Self {
            slots: Table::of_rows(capacity.saturating_add(SLACK_SLOTS), Slot::row, stock),
            free: CachePadded::new(AtomicU64::new(u64::from(NONE))),
            fresh: CachePadded::new(AtomicU32::new(0)),
        }
    }

    /// The slot of this number, which a call of [`Slots::claim`] has answered.
    pub(crate) fn at(&self, index: u32) -> &Slot {
        match self.slots.get(index) {
            Some(slot) => slot,
            None => panic!("slot {index} was never claimed"),
        }
    }

    /// A free slot; none where all are in use.
    pub(crate) fn claim(&self) -> Option<u32> {
        self.claim_freed().or_else(|| {
            let fresh = self.take_fresh(1)?.start;
            self.slots.get_or_make(fresh).map(|_| fresh)
        })
    }

    /// So many free slots; none where there are fewer.
    pub(crate) fn claim_all(&self, count: usize) -> Option<Vec<u32>> {
        let mut claimed = Vec::with_capacity(count);
        claimed.extend((0..count).map_while(|_| self.claim_freed()));
        match self.claim_fresh(count - claimed.len()) {
            Some(fresh) => claimed.extend(fresh),
            None => {
                claimed.iter().for_each(|slot| self.free(*slot));
                return None;
            }
        }
        Some(claimed)
    }

    /// So many slots that were never used; none where there are fewer.
    pub(crate) fn claim_fresh(&self, count: usize) -> Option<Range<u32>> {
        let fresh = self.take_fresh(u32::try_from(count).ok()?)?;
        self.slots.make_all(fresh.clone()).then_some(fresh)
    }

    /// A slot that was freed.
    fn claim_freed(&self) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let index = low(head);
            if index == NONE {
                return None;
            }
            // Acquire pairs with the release of the push: its link is seen. The count in the head makes the swap fail
            // if the slot was claimed and freed meanwhile.
            let next = self.at(index).next.load(Ordering::Relaxed);
            let swap = self.free.compare_exchange_weak(
                head,
                head & !u64::from(u32::MAX) | u64::from(next),
                Ordering::Acquire,
                Ordering::Acquire,
            );
            match swap {
                Ok(_) => return Some(index),
                Err(found) => head = found,
            }
        }
    }

    /// The numbers of so many slots that were never used, and for which there may be no memory yet.
    fn take_fresh(&self, count: u32) -> Option<Range<u32>> {
        // Acquire and release: see `claimed_for_good`.
        let claim = |fresh: u32| {
            fresh.checked_add(count).filter(|end| *end as usize <= self.slots.places())
        };
        let fresh = self.fresh.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).ok()?;
        Some(fresh..fresh + count)
    }

    /// Gives a slot back; its state is free and no list links it.
    pub(crate) fn free(&self, index: u32) {
        let mut freed = Freed::default();
        self.link_freed(index, &mut freed);
        self.free_all(freed);
    }

    /// Adds a slot to those that are to be given back; its state is free and no list links it.
    pub(crate) fn link_freed(&self, index: u32, freed: &mut Freed) {
        let before = freed.0.map(|(first, _)| first);
        // Relaxed: handed on with the list.
        self.at(index).next.store(before.unwrap_or(NONE), Ordering::Relaxed);
        freed.0 = Some((index, freed.0.map_or(index, |(_, last)| last)));
    }

    /// Gives slots back.
    pub(crate) fn free_all(&self, freed: Freed) {
        let Some((first, last)) = freed.0 else { return };
        let last = self.at(last);
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            last.next.store(low(head), Ordering::Relaxed);
            let count = (head >> 32).wrapping_add(1) << 32;
            let swap = self.free.compare_exchange_weak(
                head,
                count | u64::from(first),
                Ordering::Release,
                Ordering::Relaxed,
            );
            match swap {
                Ok(_) => return,
                Err(found) => head = found,
            }
        }
    }

    /// The numbers of all slots that were ever claimed.
    pub(crate) fn claimed(&self) -> impl Iterator<Item = u32> {
        0..self.fresh.load(Ordering::Acquire)
    }

    /// The numbers of all slots that were ever claimed. Whoever claims one beyond them sees what the caller did before:
    /// each of the two changes the count, and the later one sees the earlier one's.
    pub(crate) fn claimed_for_good(&self) -> impl Iterator<Item = u32> {
        0..self.fresh.fetch_add(0, Ordering::AcqRel)
    }

    /// The slot of this number, if its block was made.
    pub(crate) fn find(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index)
    }

    /// The slot of this number, which was claimed, perhaps by somebody who is about to make its block.
    pub(crate) fn visit(&self, index: u32) -> Option<&Slot> {
        self.slots.get_or_make(index)
    }

    /// Bytes that the slots take.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.bytes()
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({} used)", self.fresh.load(Ordering::Relaxed))
    }
}

fn low(head: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the slot's number")]
    let index = head as u32;
    index
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::stress::rounds;

    #[test]
    fn a_slot_is_small() {
        // Of another size a block of them would not be a piece of the stock.
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn slots_of_zeros_are_free_and_linked_nowhere() {
        let zeros = Pages::zeros(1 << 10).unwrap();
        for row in [Slot::row(8, Some(zeros)), Slot::row(8, None)] {
            assert_eq!(row.len(), 8);
            for slot in row.iter() {
                let guard = slot.lock();
                assert_eq!(
                    (guard.state(), guard.linked, guard.id()),
                    (State::Free, Linked::Nowhere, 0)
                );
                assert_eq!((guard.flags, guard.group, guard.crashes), (Flags::default(), 0, 0));
            }
        }
    }

    #[test]
    fn one_of_many_wins_a_lease() {
        let slot = Slot::new();
        slot.lock().set_taken(7);
        let wins = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    if let Some(mut guard) = slot.lock_lease(7) {
                        wins.fetch_add(1, Ordering::SeqCst);
                        guard.set(State::Settled);
                    }
                });
            }
        });
        assert_eq!(wins.into_inner(), 1);
        assert!(slot.lock_lease(7).is_none());
    }

    #[test]
    fn another_lease_number_does_not_open_a_slot() {
        let slot = Slot::new();
        slot.lock().set_taken(7);
        assert!(slot.lock_lease(8).is_none());
        assert_eq!(slot.lock_lease(7).unwrap().state(), State::Taken);
        assert!(slot.lock_lease(7).is_some(), "a guard gives the slot back as it was");
    }

    #[test]
    fn slots_are_claimed_once_and_found_again() {
        let slots = Slots::new(10, Arc::default());
        let mut claimed: Vec<u32> = (0..3000).map(|_| slots.claim().unwrap()).collect();
        claimed.sort_unstable();
        claimed.dedup();
        assert_eq!(claimed.len(), 3000);
        slots.free(17);
        assert_eq!(slots.claim(), Some(17));
    }

    #[test]
    fn many_slots_are_claimed_at_once_or_none() {
        let slots = Slots::new(10, Arc::default());
        let places = slots.slots.places();
        let first = slots.claim_all(3).unwrap();
        first.iter().for_each(|slot| slots.free(*slot));
        let mut claimed = slots.claim_all(5).unwrap();
        assert!(first.iter().all(|slot| claimed.contains(slot)), "what was freed is used first");
        slots.free(claimed.pop().unwrap());
        assert_eq!(slots.claim_all(places), None);
        claimed.extend(slots.claim_all(places - 4).unwrap());
        claimed.sort_unstable();
        claimed.dedup();
        assert_eq!(claimed.len(), places);
        assert_eq!((slots.claim(), slots.claim_all(1)), (None, None));
        assert_eq!(slots.claim_all(0), Some(Vec::new()));
    }

    #[test]
    fn stress_many_threads_never_share_a_slot() {
        let slots = Slots::new(100, Arc::default());
        std::thread::scope(|scope| {
            for thread in 1..=4_u64 {
                let slots = &slots;
                scope.spawn(move || {
                    for round in 0..rounds(300_000) {
                        for index in slots.claim_all(1 + round as usize % 3).unwrap() {
                            let slot = slots.at(index);
                            slot.lock().version = thread;
                            assert_eq!(slot.lock().version, thread);
                            slots.free(index);
                        }
                    }
                });
            }
        });
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;
    use crate::sync::explore;

    /// Of those who want a lease at the same time one gets it, and sees what was done before.
    #[test]
    fn loom_one_of_many_wins_a_lease() {
        explore(3, || {
            let slot = Arc::new(Slot::new());
            {
                let mut guard = slot.lock();
                guard.set_taken(7);
                guard.version = 1;
            }
            let settle = |slot: Arc<Slot>| {
                let Some(mut guard) = slot.lock_lease(7) else {
                    assert_eq!(slot.lock().version, 2, "it is not seen who won");
                    return 0;
                };
                assert_eq!(guard.version, 1);
                guard.version = 2;
                guard.set(State::Settled);
                1
            };
            let others = [(); 2].map(|()| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || settle(slot))
            });
            let wins = others.map(|other| other.join().unwrap()).iter().sum::<u32>();
            // Whoever comes later finds it gone.
            assert_eq!((wins, settle(Arc::clone(&slot))), (1, 0));
            assert_eq!(slot.lock().version, 2);
        });
    }

    /// A slot that is freed and claimed at the same time by others is nobody's but one's. The heads of the free list differ
    /// though they name the same slot, so that nobody who was slow links it to where it led before.
    #[test]
    fn loom_nobody_shares_a_slot() {
        explore(3, || {
            let slots = Arc::new(Slots::new(0, Arc::default()));
            let claimed = [(); 2].map(|()| slots.claim().unwrap());
            claimed.into_iter().for_each(|slot| slots.free(slot));
            let use_one = |slots: &Slots, thread: u64| {
                let index = slots.claim().unwrap();
                slots.at(index).lock().set_id(thread);
                index
            };
            let other = {
                let slots = Arc::clone(&slots);
                thread::spawn(move || {
                    let first = use_one(&slots, 1);
                    let second = use_one(&slots, 1);
                    slots.free(first);
                    let third = use_one(&slots, 1);
                    assert_ne!(second, third);
                    assert_eq!([second, third].map(|slot| slots.at(slot).linked_id()), [1, 1]);
                })
            };
            let mine = use_one(&slots, 2);
            other.join().unwrap();
            assert_eq!(slots.at(mine).linked_id(), 2);
        });
    }
}
