//! The slab's atomics, and the places of its values, here so that loom can stand in for them.
//!
//! Slabs are statics, and loom's atomics are made while a model runs: under loom the first use makes them.

use std::mem::MaybeUninit;

#[cfg(not(loom))]
use std::cell::UnsafeCell;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(loom)]
use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::fence;

#[cfg(loom)]
pub(crate) type AtomicU32 = Late<u32, loom::sync::atomic::AtomicU32>;
#[cfg(loom)]
pub(crate) type AtomicU64 = Late<u64, loom::sync::atomic::AtomicU64>;

/// A place in which there is a value, or none: whoever has it knows.
#[derive(Debug)]
pub(crate) struct Place<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Place<T> {
    pub(crate) fn empty() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// # Safety
    /// There is no value, and nobody else does anything with the place meanwhile.
    #[inline]
    pub(crate) unsafe fn write(&self, value: T) {
        let place = self.for_writing();
        // SAFETY: it leads to memory for such a value, which is the caller's alone.
        unsafe { place.write(value) };
    }

    /// # Safety
    /// There is a value, and it stays as long as what this answers is used.
    #[inline]
    pub(crate) unsafe fn read(&self) -> &T {
        let place = self.for_reading();
        // SAFETY: it leads to a value that stays, as the caller says.
        unsafe { &*place }
    }

    /// # Safety
    /// There is a value, and nobody else does anything with the place, now or until another value is written.
    pub(crate) unsafe fn drop_in_place(&self) {
        let place = self.for_writing();
        // SAFETY: it leads to a value that is the caller's alone.
        unsafe { place.drop_in_place() };
    }

    #[cfg(not(loom))]
    #[inline]
    fn for_reading(&self) -> *const T {
        self.0.get().cast()
    }

    #[cfg(not(loom))]
    #[inline]
    fn for_writing(&self) -> *mut T {
        self.0.get().cast()
    }

    /// Has loom note that the place is read now.
    #[cfg(loom)]
    fn for_reading(&self) -> *const T {
        self.0.with(|place| place.cast())
    }

    /// Has loom note that the place is written now.
    #[cfg(loom)]
    fn for_writing(&self) -> *mut T {
        self.0.with_mut(|place| place.cast())
    }
}

/// An atomic that is made when it is first used.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct Late<N, A> {
    first: N,
    atomic: std::sync::OnceLock<A>,
}

#[cfg(loom)]
impl<N, A> Late<N, A> {
    pub(crate) const fn new(first: N) -> Self {
        Self { first, atomic: std::sync::OnceLock::new() }
    }
}

#[cfg(loom)]
impl std::ops::Deref for AtomicU32 {
    type Target = loom::sync::atomic::AtomicU32;

    fn deref(&self) -> &Self::Target {
        self.atomic.get_or_init(|| loom::sync::atomic::AtomicU32::new(self.first))
    }
}

#[cfg(loom)]
impl std::ops::Deref for AtomicU64 {
    type Target = loom::sync::atomic::AtomicU64;

    fn deref(&self) -> &Self::Target {
        self.atomic.get_or_init(|| loom::sync::atomic::AtomicU64::new(self.first))
    }
}
