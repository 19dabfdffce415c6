//! A table of numbered places whose memory follows use: a block of them is made when the first of it is needed.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use crate::pages::{Pages, Spread};
use crate::stock::Stock;
use crate::sync::Arc;

/// Places of its blocks; few under loom, which models every atomic in them.
const SPREAD: Spread = if cfg!(loom) {
    Spread { small: 4, large: 16 }
} else {
    Spread { small: 1 << 11, large: 1 << 15 }
};

/// A table that grows up to a fixed number of places and never moves one.
pub(crate) struct Table<T> {
    blocks: Box<[OnceLock<Pages<T>>]>,
    places: usize,
    row: Row<T>,
    stock: Arc<Stock>,
}

/// Makes a block of so many places: in this memory, which is zeros and has room for them, where there is such.
type Row<T> = fn(usize, Option<Pages<u8>>) -> Pages<T>;

impl<T: Default> Table<T> {
    /// A table of at least `places` places.
    pub(crate) fn new(places: usize) -> Self {
        Self::of_rows(places, |count, _| Pages::new(count, T::default), Arc::default())
    }
}

impl<T> Table<T> {
    /// A table of at least `places` places, whose blocks `row` makes.
    pub(crate) fn of_rows(places: usize, row: Row<T>, stock: Arc<Stock>) -> Self {
        let blocks = SPREAD.blocks(places);
        Self {
            blocks: (0..blocks).map(|_| OnceLock::new()).collect(),
            places: (0..blocks).map(|block| SPREAD.size(block)).sum(),
            row,
            stock,
        }
    }

    /// Places there can be.
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// The place of this number, if its block was made.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let (block, place) = SPREAD.find(number as usize);
        self.blocks.get(block)?.get()?.get(place)
    }

    /// The place of this number, whose block is made if need be; none beyond the table's end.
    pub(crate) fn get_or_make(&self, number: u32) -> Option<&T> {
        let (block, place) = SPREAD.find(number as usize);
        self.blocks.get(block)?.get_or_init(|| self.make(block)).get(place)
    }

    /// Makes the blocks of these places, if need be; answers whether all are within the table.
    pub(crate) fn make_all(&self, numbers: Range<u32>) -> bool {
        let Some(last) = numbers.clone().next_back() else { return true };
        // No block has fewer places than a step.
        numbers.step_by(SPREAD.small).chain([last]).all(|number| self.get_or_make(number).is_some())
    }

    fn make(&self, block: usize) -> Pages<T> {
        let count = SPREAD.size(block);
        (self.row)(count, self.stock.take(count * size_of::<T>()))
    }

    /// Bytes that the blocks take.
    pub(crate) fn bytes(&self) -> usize {
        let made = self.blocks.iter().filter_map(OnceLock::get);
        made.map(|block| size_of_val::<[T]>(block)).sum()
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
        let table: Table<std::cell::Cell<u8>> = Table::new(5000);
        assert_eq!((table.places(), table.bytes()), (6144, 0));
        assert!(table.get(3000).is_none());
        table.get_or_make(3000).unwrap().set(7);
        assert_eq!(table.get(3000).unwrap().get(), 7);
        assert_eq!(table.bytes(), 2048);
        assert!(table.get_or_make(6144).is_none());
        let table: Table<u8> = Table::new(32_769);
        assert_eq!(table.places(), 65_536);
        assert!(table.get_or_make(65_535).is_some());
        assert_eq!(table.bytes(), 32_768);
        assert!(table.get_or_make(65_536).is_none());
    }
}
