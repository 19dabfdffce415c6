//! The slab's lock and atomics, in one place so that loom can stand in for them.
//!
//! Slabs are statics, and loom's atomics are made while a model runs: under loom the first use makes them.

#[cfg(not(loom))]
pub(crate) use std::sync::Mutex;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(loom)]
pub(crate) use loom::sync::Mutex;

#[cfg(loom)]
pub(crate) type AtomicU32 = Late<u32, loom::sync::atomic::AtomicU32>;
#[cfg(loom)]
pub(crate) type AtomicU64 = Late<u64, loom::sync::atomic::AtomicU64>;

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
