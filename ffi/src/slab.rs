//! Slabs: where handles lead. A handle is a number made of a type, a slot and a generation.
//!
//! ```text
//! 63    60 59                    28 27              0
//! [ type ][      generation       ][     slot       ]
//! ```
//!
//! Invariants:
//! - a number is given once: a slot's generation goes up with each use, and a slot that has used up its generations
//!   is not used again;
//! - two copies of this library in one process, as a static and a shared one, give different numbers: the generation stands in
//!   them under a mask that is the copy's own;
//! - no number is an address on any machine this is built for, since their highest bits are neither all zero nor all
//!   one: whoever follows one by mistake fails at once, and at the place of the mistake;
//! - there is no lock: of a forked child no call waits for what a thread of its parent was in the middle of. The worst that
//!   such a thread leaves there is a slot that is never used again;
//! - a value lies in its slot, so that a handle costs no allocation once its page is there. Slots do not move and are never
//!   freed; a value goes when its handle was taken and the last call that had found it has ended;
//! - brokers and deliveries belong to one process: in a forked child they are answered `FORKED`.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

use libmq::storage::forks;
use libmq::{Error, ErrorKind, Result};

use crate::sync::{AtomicU32, AtomicU64, Place, fence};

/// Bits of a handle that number the slot.
const SLOT_BITS: u32 = 28;
/// Bits of a handle that number the use of the slot.
const GENERATION_BITS: u32 = 32;

/// Two copies of the library share no page of memory, of so many bits of an address.
const PAGE_BITS: u32 = 12;

/// Slots of the first page; each further page has twice as many as the one before. Few under loom, which models each.
const FIRST_PAGE: u32 = if cfg!(loom) { 2 } else { 64 };
/// Pages for all slots that can be numbered.
const PAGES: usize = (SLOT_BITS - FIRST_PAGE.ilog2()) as usize;
/// Handles of one type that can be there at once.
const SLOTS_MAX: u32 = (FIRST_PAGE << PAGES) - FIRST_PAGE;

const _: () = assert!(SLOTS_MAX < 1 << SLOT_BITS);

/// Handles of one type, and what they stand for.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    /// The type's number, 1 to 14.
    kind: u8,
    /// What a handle of the type stands for, in an error.
    name: &'static str,
    /// Whether a forked child may use what it inherits.
    inherited: bool,
    /// Null until the first slot of a page is used. Stored with release, loaded with acquire.
    pages: [AtomicPtr<Slot<T>>; PAGES],
    /// Slots that were ever used. Relaxed: a number is all that it gives.
    used: AtomicU32,
    /// The last slot that was freed: its number plus one, 0 for none, under a count that makes each value unique.
    free: AtomicU64,
}

/// A value in its slot.
///
/// | generation of `state` | users of `state` | value | |
/// |---|---|---|---|
/// | odd | 1 and more | there | a handle of this generation is out, and is one of the users |
/// | even | 1 and more | there | the handle was taken; the last user drops the value |
/// | even | 0 | none | free |
///
/// Whoever adds a user acquires what stored the odd generation, which released the value. Users that go release what they
/// did, and the last one acquires that before the value is dropped. `forks` is stored before the odd generation is, too.
#[derive(Debug)]
struct Slot<T> {
    state: AtomicU64,
    number: u32,
    forks: AtomicU32,
    next_free: AtomicU32,
    value: Place<T>,
}

// SAFETY: a value is sent to whoever drops it, and shared with all who found it; both is asked of it here. The rest of a slot
// is atomics.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}
// SAFETY: as for Sync.
unsafe impl<T: Send + Sync> Send for Slot<T> {}

/// A value that is used: it stays until this is dropped.
#[derive(Debug)]
pub(crate) struct Found<'s, T> {
    slab: &'s Slab<T>,
    slot: &'s Slot<T>,
}

impl<T> Slab<T> {
    /// A slab of things that belong to the process that made them.
    pub(crate) const fn new(kind: u8, name: &'static str) -> Self {
        assert!(kind >= 1 && kind <= 14);
        Self {
            kind,
            name,
            inherited: false,
            pages: [const { AtomicPtr::new(ptr::null_mut()) }; PAGES],
            used: AtomicU32::new(0),
            free: AtomicU64::new(0),
        }
    }

    /// A slab of things that a forked child has copies of, as of all memory.
    pub(crate) const fn inherited(kind: u8, name: &'static str) -> Self {
        let mut slab = Self::new(kind, name);
        slab.inherited = true;
        slab
    }

    /// Puts a value in; answers its handle.
    ///
    /// # Errors
    /// `NO_MEMORY` when all numbers are given.
    pub(crate) fn insert(&self, value: T) -> Result<usize> {
        let number = match self.pop_free() {
            Some(number) => number,
            None => self.unused()?,
        };
        let Some(slot) = self.slot_or_page(number) else { return Err(self.no_memory()) };
        // SAFETY: the slot is free, and it was given to this call alone: no handle leads to it, and nobody uses it.
        unsafe { slot.value.write(value) };
        slot.forks.store(forks(), Ordering::Relaxed);
        let generation = generation_of(slot.state.load(Ordering::Relaxed)).wrapping_add(1);
        slot.state.store(state_of(generation, 1), Ordering::Release);
        Ok(self.handle(number, generation))
    }

    /// What a handle stands for; none where [`Slab::why_not`] says why.
    #[inline]
    pub(crate) fn find(&self, handle: usize) -> Option<Found<'_, T>> {
        self.change(handle, |state| state + 1)
    }

    /// Ends a handle, and answers what it stood for, which others may be using still. Of two that take the same, one gets it.
    #[inline]
    pub(crate) fn take(&self, handle: usize) -> Option<Found<'_, T>> {
        // The handle's own user is from now on the caller.
        self.change(handle, |state| state_of(generation_of(state).wrapping_add(1), users_of(state)))
    }

    /// How many handles are out that this process has made.
    pub(crate) fn live(&self) -> usize {
        let used = self.used.load(Ordering::Relaxed);
        let here = forks();
        let slots = (0..used).filter_map(|number| self.slot(number));
        slots
            .filter(|slot| {
                let is_out = !generation_of(slot.state.load(Ordering::Acquire)).is_multiple_of(2);
                is_out && slot.forks.load(Ordering::Relaxed) == here
            })
            .count()
    }

    /// Changes the state of a handle's slot from one in which it is out.
    #[inline(always)]
    fn change(&self, handle: usize, change: impl Fn(u64) -> u64) -> Option<Found<'_, T>> {
        let generation = generation_in(handle);
        let is_possible = handle >> (SLOT_BITS + GENERATION_BITS) == usize::from(self.kind)
            && !generation.is_multiple_of(2);
        let slot = if is_possible { self.slot(self.number(handle))? } else { return None };
        let mut state = slot.state.load(Ordering::Acquire);
        loop {
            if generation_of(state) != generation || self.is_foreign(slot) {
                return None;
            }
            match slot.state.compare_exchange_weak(
                state,
                change(state),
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(Found { slab: self, slot }),
                Err(now) => state = now,
            }
        }
    }

    fn handle(&self, number: u32, generation: u32) -> usize {
        usize::from(self.kind) << (SLOT_BITS + GENERATION_BITS)
            | ((generation ^ copy()) as usize) << SLOT_BITS
            | number as usize
    }

    fn number(&self, handle: usize) -> u32 {
        low_bits(handle) & ((1 << SLOT_BITS) - 1)
    }

    fn slot(&self, number: u32) -> Option<&Slot<T>> {
        let (page, place) = place_of(number)?;
        self.page(page)?.get(place)
    }

    fn page(&self, page: usize) -> Option<&[Slot<T>]> {
        let first = self.pages.get(page)?.load(Ordering::Acquire);
        if first.is_null() {
            return None;
        }
        // SAFETY: what is not null was stored by `make_page`: the first of so many slots, which are freed with the slab only.
        Some(unsafe { slice::from_raw_parts(first, slots_of(page)) })
    }

    /// The slot, on a page that is made if it is the first one there.
    fn slot_or_page(&self, number: u32) -> Option<&Slot<T>> {
        let (page, place) = place_of(number)?;
        if self.page(page).is_none() {
            self.make_page(page);
        }
        self.page(page)?.get(place)
    }

    /// Makes a page, unless another thread has, whose page it is then. Nobody waits for who makes one: in a forked child
    /// that may be nobody.
    #[cold]
    fn make_page(&self, page: usize) {
        let Some(place) = self.pages.get(page) else { return };
        let before = slots_of(page) - FIRST_PAGE as usize;
        let numbers = (before..).map_while(|number| u32::try_from(number).ok());
        let slots: Box<[Slot<T>]> = numbers.take(slots_of(page)).map(Slot::new).collect();
        let first: *mut Slot<T> = Box::into_raw(slots).cast();
        let (set, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        if place.compare_exchange(ptr::null_mut(), first, set, failed).is_err() {
            free_page(page, first);
        }
    }

    fn unused(&self) -> Result<u32> {
        let next = |used| (used < SLOTS_MAX).then_some(used + 1);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.map_err(|_| self.no_memory())
    }

    fn pop_free(&self) -> Option<u32> {
        let mut free = self.free.load(Ordering::Acquire);
        loop {
            let number = low_bits_of(free).checked_sub(1)?;
            let next = self.slot(number)?.next_free.load(Ordering::Relaxed);
            let changed = counted(free, next);
            // Acquire: `next_free` of the slot that is the last one now was stored before.
            match self.free.compare_exchange_weak(
                free,
                changed,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(number),
                Err(now) => free = now,
            }
        }
    }

    fn push_free(&self, slot: &Slot<T>) {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            slot.next_free.store(low_bits_of(free), Ordering::Relaxed);
            let changed = counted(free, slot.number + 1);
            match self.free.compare_exchange_weak(
                free,
                changed,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => free = now,
            }
        }
    }

    /// Why a handle stands for nothing here: `BAD_HANDLE`, or `FORKED`.
    #[cold]
    pub(crate) fn why_not(&self, handle: usize) -> Error {
        let generation = generation_in(handle);
        let is_there =
            |slot: &&Slot<T>| generation_of(slot.state.load(Ordering::Acquire)) == generation;
        let slot = self.slot(self.number(handle)).filter(is_there);
        if self.handle(self.number(handle), generation) == handle
            && slot.is_some_and(|slot| self.is_foreign(slot))
        {
            let name = self.name;
            let text =
                format!("this handle of {name} is of the process that this one was forked from");
            return Error::new(ErrorKind::Forked, text);
        }
        let why = match handle {
            0 => "it is NULL",
            _ => "it was freed or settled, is of another type, or was made up",
        };
        Error::new(ErrorKind::BadHandle, format!("this is no handle of {}: {why}", self.name))
    }

    /// Whether what the slot has belongs to the process that this one was forked from.
    #[inline]
    fn is_foreign(&self, slot: &Slot<T>) -> bool {
        !self.inherited && slot.forks.load(Ordering::Relaxed) != forks()
    }

    #[cold]
    fn no_memory(&self) -> Error {
        Error::new(ErrorKind::NoMemory, format!("there are {SLOTS_MAX} handles of {}", self.name))
    }
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        for (page, place) in self.pages.iter().enumerate() {
            let first = place.load(Ordering::Relaxed);
            if !first.is_null() {
                free_page(page, first);
            }
        }
    }
}

impl<T> Slot<T> {
    fn new(number: u32) -> Self {
        Self {
            state: AtomicU64::new(0),
            number,
            forks: AtomicU32::new(0),
            next_free: AtomicU32::new(0),
            value: Place::empty(),
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if users_of(self.state.load(Ordering::Relaxed)) > 0 {
            // SAFETY: a slot with users has a value, and nobody else has the slot any more.
            unsafe { self.value.drop_in_place() };
        }
    }
}

impl<T> Deref for Found<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value is there as long as there is a user, and this is one.
        unsafe { self.slot.value.read() }
    }
}

impl<T> Drop for Found<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let before = self.slot.state.fetch_sub(1, Ordering::Release);
        if users_of(before) == 1 {
            self.end(generation_of(before));
        }
    }
}

impl<T> Found<'_, T> {
    /// Drops the value, which ends a broker or gives a delivery back, and frees the slot. Where that panics the slot is left
    /// alone.
    #[inline(never)]
    fn end(&self, generation: u32) {
        fence(Ordering::Acquire);
        // SAFETY: this was the last user, and no handle leads here to make another one.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { self.slot.value.drop_in_place() }));
        // After its last generation a slot stays empty for ever: its numbers would come again.
        if dropped.is_ok() && generation != 0 {
            self.slab.push_free(self.slot);
        }
    }
}

/// Whether a number is, was or could be a handle, and so is no address.
pub(crate) fn is_handle(number: usize) -> bool {
    (1..=14).contains(&(number >> (SLOT_BITS + GENERATION_BITS)))
}

/// The generation that a number would have as a handle.
fn generation_in(handle: usize) -> u32 {
    low_bits(handle >> SLOT_BITS) ^ copy()
}

/// The mask of this copy of the library, from where it was loaded. Even, since a generation in use is odd.
fn copy() -> u32 {
    static HERE: u8 = 0;
    low_bits((&raw const HERE).addr() >> PAGE_BITS) << 1
}

fn state_of(generation: u32, users: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(users)
}

fn generation_of(state: u64) -> u32 {
    low_bits_of(state >> 32)
}

fn users_of(state: u64) -> u32 {
    low_bits_of(state)
}

fn slots_of(page: usize) -> usize {
    (FIRST_PAGE as usize) << page
}

fn free_page<T>(page: usize, first: *mut Slot<T>) {
    // SAFETY: such a page was made as a box of so many slots, and nobody else has it.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first, slots_of(page))) });
}

/// The page of a slot, and its place there.
fn place_of(number: u32) -> Option<(usize, usize)> {
    let from_first = number.checked_add(FIRST_PAGE)?;
    let page = from_first.ilog2() - FIRST_PAGE.ilog2();
    let place = from_first - (FIRST_PAGE << page);
    Some((page as usize, place as usize))
}

/// The next value of the chain of free slots: its count goes up, so that no value comes twice.
fn counted(free: u64, last: u32) -> u64 {
    ((free >> 32).wrapping_add(1) << 32) | u64::from(last)
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
fn low_bits(word: usize) -> u32 {
    word as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
fn low_bits_of(word: u64) -> u32 {
    word as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// So many rounds, or as many times that as was asked for.
    fn rounds(few: usize) -> usize {
        let given = std::env::var("LIBMQ_STRESS").ok().and_then(|times| times.parse().ok());
        few * given.unwrap_or(1)
    }

    #[test]
    fn a_handle_leads_to_its_value_until_it_is_taken() {
        let slab = Slab::new(1, "a thing");
        let handle = slab.insert(7).unwrap();
        assert_eq!(*slab.find(handle).unwrap(), 7);
        assert_eq!(*slab.take(handle).unwrap(), 7);
        assert!(slab.find(handle).is_none() && slab.take(handle).is_none());
        assert_eq!(slab.why_not(handle).kind(), ErrorKind::BadHandle);
    }

    #[test]
    fn a_used_slot_gives_another_handle() {
        let slab = Slab::new(1, "a thing");
        let first = slab.insert(1).unwrap();
        slab.take(first).unwrap();
        let second = slab.insert(2).unwrap();
        assert_eq!(slab.number(first), slab.number(second));
        assert_ne!(first, second);
        assert!(slab.find(first).is_none());
        assert_eq!(*slab.find(second).unwrap(), 2);
    }

    #[test]
    fn made_up_and_foreign_handles_are_refused() {
        let slab = Slab::new(1, "a thing");
        let other = Slab::new(2, "another");
        let handle = slab.insert(1).unwrap();
        other.insert(1).unwrap();
        let odd = [0, 1, usize::MAX, usize::MAX / 2, handle ^ 1, handle ^ (1 << SLOT_BITS)];
        for handle in odd.into_iter().chain((0..64).map(|bit| handle ^ (1 << bit))) {
            assert!(slab.find(handle).is_none(), "{handle:x}");
            assert_eq!(slab.why_not(handle).kind(), ErrorKind::BadHandle);
        }
        assert!(other.find(handle).is_none());
        assert!(slab.find(handle).is_some());
    }

    #[test]
    fn a_handle_is_no_address() {
        for kind in [1, 14] {
            let handle = Slab::new(kind, "a thing").insert(()).unwrap();
            assert!(!matches!(handle >> 60, 0 | 15) && is_handle(handle));
        }
    }

    #[test]
    fn many_values_keep_their_handles() {
        let slab = Slab::new(3, "a thing");
        let handles: Vec<usize> = (0..10_000).map(|i| slab.insert(i).unwrap()).collect();
        for (i, handle) in handles.iter().enumerate() {
            assert_eq!(*slab.find(*handle).unwrap(), i);
        }
        handles.iter().for_each(|handle| drop(slab.take(*handle).unwrap()));
        let again: HashSet<usize> = (0..10_000).map(|i| slab.insert(i).unwrap()).collect();
        assert_eq!(slab.used.load(Ordering::Relaxed), 10_000);
        assert!(handles.iter().all(|handle| !again.contains(handle)));
    }

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        assert_eq!(place_of(0), Some((0, 0)));
        assert_eq!(place_of(FIRST_PAGE - 1), Some((0, 63)));
        assert_eq!(place_of(FIRST_PAGE), Some((1, 0)));
        let (page, place) = place_of(SLOTS_MAX - 1).unwrap();
        assert_eq!((page, place), (PAGES - 1, (FIRST_PAGE as usize) << page).min((page, place)));
        assert!(place_of(u32::MAX).is_none());
    }

    #[test]
    fn a_slot_is_not_used_beyond_its_last_generation() {
        let slab = Slab::new(1, "a thing");
        let handle = slab.insert(1).unwrap();
        slab.take(handle).unwrap();
        let number = slab.number(handle);
        slab.slot(number).unwrap().state.store(state_of(u32::MAX - 1, 0), Ordering::Relaxed);
        let last = slab.insert(2).unwrap();
        assert_eq!(slab.number(last), number);
        slab.take(last).unwrap();
        assert_ne!(slab.number(slab.insert(3).unwrap()), number);
        assert!(slab.find(last).is_none() && slab.find(handle).is_none());
    }

    #[test]
    fn values_go_with_their_slab() {
        let value = Arc::new(5);
        let slab = Slab::new(1, "a thing");
        slab.insert(Arc::clone(&value)).unwrap();
        slab.take(slab.insert(Arc::clone(&value)).unwrap()).unwrap();
        drop(slab);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_slot_whose_value_is_used_is_given_to_nobody_else() {
        let slab = Slab::new(1, "a thing");
        let first = slab.insert(1).unwrap();
        let used = slab.find(first).unwrap();
        drop(slab.take(first).unwrap());
        let second = slab.insert(2).unwrap();
        assert_ne!(slab.number(first), slab.number(second));
        assert_eq!(*used, 1);
        drop(used);
        assert_eq!(slab.number(slab.insert(3).unwrap()), slab.number(first));
    }

    #[test]
    fn a_value_that_panics_when_it_goes_takes_its_slot_along() {
        struct Value {
            panics: bool,
        }
        impl Drop for Value {
            fn drop(&mut self) {
                assert!(!self.panics, "as a bug would");
            }
        }
        let slab = Slab::new(1, "a thing");
        let first = slab.insert(Value { panics: true }).unwrap();
        drop(slab.take(first).unwrap());
        let second = slab.insert(Value { panics: false }).unwrap();
        assert_ne!(slab.number(first), slab.number(second));
    }

    #[test]
    fn live_handles_are_counted() {
        let slab = Slab::new(1, "a thing");
        let handles = [(); 100].map(|()| slab.insert(()).unwrap());
        assert_eq!(slab.live(), 100);
        handles.into_iter().skip(1).for_each(|handle| drop(slab.take(handle).unwrap()));
        assert_eq!(slab.live(), 1);
    }

    #[test]
    fn values_go_when_they_are_taken_and_no_longer_used() {
        let slab = Slab::new(1, "a thing");
        let value = Arc::new(5);
        let handle = slab.insert(Arc::clone(&value)).unwrap();
        let used = slab.find(handle).unwrap();
        drop(slab.take(handle).unwrap());
        assert_eq!(Arc::strong_count(&value), 2);
        drop(used);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn stress_threads_share_a_slab() {
        let slab = Slab::new(1, "a thing");
        let shared = slab.insert(usize::MAX).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let slab = &slab;
                scope.spawn(move || {
                    let mut old = Vec::new();
                    for i in 0..rounds(20_000) {
                        let value = thread * 1_000_000 + i;
                        let handle = slab.insert(value).unwrap();
                        assert_eq!(*slab.find(handle).unwrap(), value);
                        assert_eq!(*slab.find(shared).unwrap(), usize::MAX);
                        assert_eq!(*slab.take(handle).unwrap(), value);
                        if i % 1000 == 0 {
                            old.push(handle);
                        }
                        assert!(old.iter().all(|handle| slab.find(*handle).is_none()));
                    }
                });
            }
        });
        assert!(slab.used.load(Ordering::Relaxed) <= 16);
    }

    #[test]
    fn stress_of_many_takers_one_gets_it() {
        let slab = Slab::new(1, "a thing");
        for _ in 0..rounds(500) {
            let handle = slab.insert(()).unwrap();
            let got = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        got.fetch_add(usize::from(slab.take(handle).is_some()), Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(got.into_inner(), 1);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn explore(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    /// Two take a handle while a third finds it: one of them gets the value, and who finds it finds that one, though its slot is
    /// used for another at once.
    #[test]
    fn loom_of_two_takers_one_gets_it() {
        explore(|| {
            let slab = Arc::new(Slab::new(1, "a thing"));
            let handle = slab.insert(7).unwrap();
            let takers = [(); 2].map(|()| {
                let slab = Arc::clone(&slab);
                thread::spawn(move || {
                    let Some(taken) = slab.take(handle) else { return 0 };
                    assert_eq!(*taken, 7);
                    slab.insert(8).unwrap();
                    1
                })
            });
            assert!(slab.find(handle).is_none_or(|value| *value == 7));
            let got: u32 = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
            assert_eq!(got, 1);
            assert!(slab.find(handle).is_none());
        });
    }

    /// Slots are freed and used again by two at once: no two things have one, and none is lost. The chain's heads differ
    /// though they name the same slot, so that who was slow does not link what is in use.
    #[test]
    fn loom_no_two_things_have_one_slot() {
        explore(|| {
            let slab = Arc::new(Slab::new(1, "a thing"));
            let old = [1, 2].map(|value| slab.insert(value).unwrap());
            old.into_iter().for_each(|handle| drop(slab.take(handle).unwrap()));
            let other = {
                let slab = Arc::clone(&slab);
                thread::spawn(move || {
                    let [first, second] = [3, 4].map(|value| slab.insert(value).unwrap());
                    assert_eq!(*slab.take(first).unwrap(), 3);
                    let third = slab.insert(5).unwrap();
                    assert_eq!((*slab.find(second).unwrap(), *slab.find(third).unwrap()), (4, 5));
                })
            };
            let mine = slab.insert(6).unwrap();
            assert_eq!(*slab.find(mine).unwrap(), 6);
            other.join().unwrap();
            assert_eq!(*slab.find(mine).unwrap(), 6);
            assert!(old.into_iter().all(|handle| slab.find(handle).is_none()));
        });
    }
}
