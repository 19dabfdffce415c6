//! A table of numbered places whose memory follows use: a block of them is made when the first of it is needed.

use std::fmt;
use std::sync::OnceLock;

use crate::storage::populate;

/// Places in a block; few under loom, which models every atomic in them.
const BLOCK: usize = if cfg!(loom) { 4 } else { 1 << 11 };

/// A table that grows up to a fixed number of places and never moves one.
pub(crate) struct Table<T> {
    blocks: Box<[OnceLock<Box<[T]>>]>,
    empty: fn() -> T,
}

impl<T> Table<T> {
    /// A table of at least `places` places, each of which begins as `empty` makes it.
    pub(crate) fn new(places: usize, empty: fn() -> T) -> Self {
        Self { blocks: (0..places.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect(), empty }
    }

    /// Places there can be.
    pub(crate) fn places(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// The place of this number, if its block was made.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.blocks.get(number / BLOCK)?.get()?.get(number % BLOCK)
    }

    /// The place of this number, whose block is made if need be; none beyond the table's end.
    pub(crate) fn get_or_make(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.blocks.get(number / BLOCK)?.get_or_init(|| self.block()).get(number % BLOCK)
    }

    fn block(&self) -> Box<[T]> {
        let mut block = Vec::with_capacity(BLOCK);
        // All of it is written right now, a page at a time.
        populate(block.spare_capacity_mut());
        block.resize_with(BLOCK, self.empty);
        block.into_boxed_slice()
    }

    /// Bytes that the blocks take.
    pub(crate) fn bytes(&self) -> usize {
        let made = self.blocks.iter().filter(|block| block.get().is_some()).count();
        made * BLOCK * size_of::<T>()
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.blocks.iter().filter(|block| block.get().is_some()).count();
        write!(f, "Table({made} of {} blocks)", self.blocks.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn places_are_made_in_blocks_and_stay() {
        let table: Table<std::cell::Cell<u8>> = Table::new(5000, std::cell::Cell::default);
        assert_eq!((table.places(), table.bytes()), (6144, 0));
        assert!(table.get(3000).is_none());
        table.get_or_make(3000).unwrap().set(7);
        assert_eq!(table.get(3000).unwrap().get(), 7);
        assert_eq!(table.bytes(), 2048);
        assert!(table.get_or_make(6144).is_none());
    }
}
