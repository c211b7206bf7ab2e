//! Items: what is sorted in the place of rows.
//!
//! # Interface
//! [`Items::put`] takes a row and answers its item; [`Items::row`] gives the row of an item back. [`Located`] keeps the row and
//! answers an [`Entry`] that finds it.

use std::cmp::Ordering;

use super::kernel::{Entry, Item, Sort, Ties};
use super::order::{KeyScratch, RowOrder};
use super::rows::{RowStore, Scratch};
use crate::segment::{Segment, SegmentSource};

/// Rows that were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Put {
    /// How many.
    pub rows: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Bytes of the largest.
    pub largest: usize,
}

/// Rows as items that are sorted.
pub trait Items: Send + Sync + Sized {
    /// What stands for a row; its key is the first word of the row's.
    type Item: Item;
    /// The order of the rows.
    type Order: RowOrder + Clone;

    /// The order of the rows.
    fn order(&self) -> &Self::Order;

    /// The same without any rows, for segments of `segment_size` bytes.
    fn fresh(&self, segment_size: usize) -> Self;

    /// Whether items are rows in another form, and are merged as they are.
    const ARE_ROWS: bool = false;

    /// Takes rows from the start of `rows`, packed one behind the other, as many as there are items in `into`. None where the source
    /// has no segment for the first.
    fn put(
        &mut self,
        rows: &[u8],
        into: &mut [Self::Item],
        source: &dyn SegmentSource,
        scratch: &mut KeyScratch,
    ) -> Put;

    /// Makes rows of items, one behind the other, where items [are rows](Items::ARE_ROWS).
    fn write(&self, items: &[Self::Item], rows: &mut [u8]) {
        let _ = (items, rows);
        unreachable!("these items are no rows");
    }

    /// Makes items of rows, as many as both have, where items [are rows](Items::ARE_ROWS).
    fn read(&self, rows: &[u8], items: &mut [Self::Item]) {
        let _ = (rows, items);
        unreachable!("these items are no rows");
    }

    /// Whether `a` comes before `b` or is like it, where items [are rows](Items::ARE_ROWS).
    fn at_most(&self, a: &Self::Item, b: &Self::Item) -> bool {
        let _ = (a, b);
        unreachable!("these items are no rows");
    }

    /// The row of an item: where it lies, or in `scratch`.
    fn row<'a>(&'a self, item: Self::Item, scratch: &'a mut Scratch) -> &'a [u8];

    /// Says that the row of an item will be read soon.
    fn prefetch(&self, item: Self::Item) {
        let _ = item;
    }

    /// Does a piece of a sort's work, as [`Sort::step`] does.
    fn sort_step(&self, sort: &mut Sort<Self::Item>, spares: &mut Vec<Segment>, work: usize) -> bool;

    /// Segments that rows have, besides those of their items.
    fn segments(&self) -> usize;

    /// Segments of rows that came before that of an item, and that [`Items::release_before`] would give back.
    fn segments_before(&self, item: Self::Item) -> usize {
        let _ = item;
        0
    }

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

impl<O: RowOrder + Clone> Items for Located<O> {
    type Item = Entry;
    type Order = O;

    fn order(&self) -> &O {
        &self.order
    }

    fn fresh(&self, segment_size: usize) -> Self {
        Located::new(self.order.clone(), segment_size)
    }

    fn put(
        &mut self,
        rows: &[u8],
        into: &mut [Entry],
        source: &dyn SegmentSource,
        scratch: &mut KeyScratch,
    ) -> Put {
        let mut put = Put::default();
        let stride = self.order.stride();
        while put.rows < into.len() && put.bytes < rows.len() {
            let rest = &rows[put.bytes..];
            if stride == 0 {
                let row = &rest[..self.order.row_size(rest)];
                let Some(locator) = self.rows.push(row, source) else {
                    break;
                };
                let prefix = self.order.word(row, 0, scratch);
                into[put.rows] = Entry { prefix, locator };
                (put.rows, put.bytes) = (put.rows + 1, put.bytes + row.len());
                put.largest = put.largest.max(row.len());
                continue;
            }
            let most = (into.len() - put.rows).min(rest.len() / stride) * stride;
            let Some((count, first)) = self.rows.push_many(&rest[..most], source) else {
                break;
            };
            let into = &mut into[put.rows..put.rows + count];
            for ((row, entry), number) in rest.chunks_exact(stride).zip(into).zip(0u64..) {
                let prefix = self.order.word(row, 0, scratch);
                let locator = first + number * stride as u64;
                *entry = Entry { prefix, locator };
            }
            (put.rows, put.bytes) = (put.rows + count, put.bytes + count * stride);
            put.largest = stride;
        }
        put
    }

    #[inline]
    fn row<'a>(&'a self, item: Entry, scratch: &'a mut Scratch) -> &'a [u8] {
        self.rows.row(item.locator, scratch)
    }

    #[inline]
    fn prefetch(&self, item: Entry) {
        self.rows.prefetch(item.locator);
    }

    fn sort_step(&self, sort: &mut Sort<Entry>, spares: &mut Vec<Segment>, work: usize) -> bool {
        let mut ties = LocatedTies {
            items: self,
            keys: KeyScratch::default(),
            left: Scratch::default(),
            right: Scratch::default(),
        };
        sort.step(spares, &mut ties, work)
    }

    fn segments(&self) -> usize {
        self.rows.segments()
    }

    fn segments_before(&self, item: Entry) -> usize {
        self.rows.segments_before(item.locator)
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
