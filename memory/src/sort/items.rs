//! Items: what is sorted in the place of rows.
//!
//! # Interface
//! [`Items::put`] takes a row and answers its item; [`Items::row`] gives the row of an item back. [`Located`] keeps the row and
//! answers an [`Entry`] that finds it.

use std::cmp::Ordering;

use super::kernel::{Chunks, Entry, Item, Ties, sort_entries};
use super::order::{KeyScratch, RowOrder};
use super::rows::{RowStore, Scratch};
use crate::segment::{Segment, SegmentSource};

/// Rows as items that are sorted.
pub trait Items: Send + Sync {
    /// What stands for a row; its key is the first word of the row's.
    type Item: Item;
    /// The order of the rows.
    type Order: RowOrder;

    /// The order of the rows.
    fn order(&self) -> &Self::Order;

    /// Takes a row; its item, or nothing where the source has no segment for it.
    fn put(&mut self, row: &[u8], source: &dyn SegmentSource, scratch: &mut KeyScratch)
    -> Option<Self::Item>;

    /// The row of an item: where it lies, or in `scratch`.
    fn row<'a>(&'a self, item: Self::Item, scratch: &'a mut Scratch) -> &'a [u8];

    /// Says that the row of an item will be read soon.
    fn prefetch(&self, item: Self::Item) {
        let _ = item;
    }

    /// Sorts items.
    fn sort(&self, chunks: &mut Chunks<Self::Item>, spares: &mut Vec<Segment>);

    /// Segments that rows have, besides those of their items.
    fn segments(&self) -> usize;

    /// Gives back segments of rows that came before that of an item; all where it is `None`.
    fn release_before(&mut self, item: Option<Self::Item>);
}

/// Rows kept as they are, and entries with their first words.
pub struct Located<O> {
    order: O,
    rows: RowStore,
}

impl<O: RowOrder> Located<O> {
    /// No rows, in segments of `segment_size` bytes.
    pub fn new(order: O, segment_size: usize) -> Self {
        let rows = RowStore::new(order.stride(), segment_size);
        Located { order, rows }
    }
}

impl<O: RowOrder> Items for Located<O> {
    type Item = Entry;
    type Order = O;

    fn order(&self) -> &O {
        &self.order
    }

    #[inline]
    fn put(&mut self, row: &[u8], source: &dyn SegmentSource, scratch: &mut KeyScratch) -> Option<Entry> {
        let locator = self.rows.push(row, source)?;
        let prefix = self.order.word(row, 0, scratch);
        Some(Entry { prefix, locator })
    }

    #[inline]
    fn row<'a>(&'a self, item: Entry, scratch: &'a mut Scratch) -> &'a [u8] {
        self.rows.row(item.locator, scratch)
    }

    #[inline]
    fn prefetch(&self, item: Entry) {
        self.rows.prefetch(item.locator);
    }

    fn sort(&self, chunks: &mut Chunks<Entry>, spares: &mut Vec<Segment>) {
        let mut ties = LocatedTies {
            items: self,
            keys: KeyScratch::default(),
            left: Scratch::default(),
            right: Scratch::default(),
        };
        sort_entries(chunks, spares, &mut ties);
    }

    fn segments(&self) -> usize {
        self.rows.segments()
    }

    fn release_before(&mut self, item: Option<Entry>) {
        self.rows.release_before(item.map(|entry| entry.locator));
    }
}

/// Looks at rows where first words are equal.
struct LocatedTies<'a, O> {
    items: &'a Located<O>,
    keys: KeyScratch,
    left: Scratch,
    right: Scratch,
}

impl<O: RowOrder> Ties for LocatedTies<'_, O> {
    fn words(&self) -> usize {
        match self.items.order.key_size() {
            Some(size) => size.div_ceil(8).max(1),
            None => 1,
        }
    }

    fn word(&mut self, locator: u64, depth: usize) -> u64 {
        let row = self.items.rows.row(locator, &mut self.left);
        self.items.order.word(row, 8 * depth, &mut self.keys)
    }

    fn compare(&mut self, left: u64, right: u64) -> Ordering {
        let left = self.items.rows.row(left, &mut self.left);
        let right = self.items.rows.row(right, &mut self.right);
        self.items.order.compare(left, right, &mut self.keys)
    }

    fn may_differ(&self) -> bool {
        self.items.order.key_size().is_none()
    }
}
