//! Lasting bytes: some that were filled and never change again, so that nobody needs a copy of them.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::pages::Pages;

/// Bytes in memory that others share, beside which more may be filled.
pub struct Lasting<'a> {
    memory: &'a Arc<Pages<u8>>,
    places: Range<usize>,
}

impl<'a> Lasting<'a> {
    /// The bytes at these places.
    ///
    /// # Safety
    /// They were filled before, and nobody writes there as long as there is this memory.
    pub(crate) unsafe fn new(memory: &'a Arc<Pages<u8>>, places: Range<usize>) -> Self {
        Self { memory, places }
    }

    /// Whether their memory goes back to the system when nobody has it any more. An allocator would keep what lies between others.
    pub(super) fn may_be_lent(&self) -> bool {
        self.memory.is_mapped()
    }

    /// The same bytes, for as long as somebody likes.
    pub(super) fn lend(&self) -> Lent {
        Lent { memory: Arc::clone(self.memory), places: self.places.clone() }
    }
}

impl Deref for Lasting<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: nobody writes there, as `new` was told.
        unsafe { self.memory.part(self.places.clone()).as_ref() }
    }
}

impl fmt::Debug for Lasting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lasting({} bytes)", self.len())
    }
}

/// Lasting bytes that are somebody's own, together with whoever else has them.
pub(super) struct Lent {
    memory: Arc<Pages<u8>>,
    places: Range<usize>,
}

impl Lent {
    /// Takes in what lies right behind it in the same memory; answers whether it did.
    pub(super) fn join(&mut self, next: &Lasting<'_>) -> bool {
        let is_next =
            Arc::ptr_eq(&self.memory, next.memory) && self.places.end == next.places.start;
        if is_next {
            self.places.end = next.places.end;
        }
        is_next
    }

    /// Whether most of the memory that it keeps is of no use to it.
    pub(super) fn is_wasteful(&self) -> bool {
        2 * self.len() < self.memory.as_raw().len()
    }

    /// Keeps so many bytes of it, all if it has less.
    pub(super) fn truncate(&mut self, bytes: usize) {
        self.places.end = self.places.end.min(self.places.start + bytes);
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: each of these bytes was lasting, and is so as long as there is this memory.
        unsafe { self.memory.part(self.places.clone()).as_ref() }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lent({} bytes)", self.len())
    }
}
