//! Narrow rows: those of up to 16 bytes that are their own items, sorted without anything that finds them.
//!
//! # Interface
//! [`NarrowRow::of`] says which rows are narrow; [`Narrow`] keeps them as items.
//!
//! # Layout
//! ```text
//! one integer                        u64   the integer to the top, as its normalized key
//! 16 bytes, an integer of 8 is key   Pair  its normalized key; the other 8 bytes
//! 16 bytes, both integers are key    Pair  the normalized key of each
//! up to 8 bytes, an integer is key   Pair  its normalized key; the row
//! ```
//! The normalized key of an integer is its bits, to the top, with the sign flipped, all inverted where it is descending: an
//! exclusive or with a mask, either way.
//!
//! # Cost
//! 8 or 16 bytes a row in memory, where rows with entries take 24 or 32; no row is looked at again while it is sorted.

use super::columns::{ColumnKind, KeyColumn};
use super::items::{Items, Put};
use super::kernel::{ByRest, Item, Pair, Sort};
use super::order::{KeyScratch, RowOrder};
use super::rows::Scratch;
use crate::segment::{Segment, SegmentSource};

/// How a narrow row becomes an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NarrowRow {
    /// One integer.
    Number(NumberRow),
    /// A key and what goes with it.
    Pair(PairRow),
}

impl NarrowRow {
    /// How rows of `stride` bytes with these columns as their key become items, where they are narrow.
    pub fn of(stride: usize, key: &[KeyColumn]) -> Option<NarrowRow> {
        if key
            .iter()
            .any(|column| !matches!(column.kind, ColumnKind::Integer { .. }))
        {
            return None;
        }
        match *key {
            [column] if column.width == stride => Some(NarrowRow::Number(NumberRow {
                unused: 64 - 8 * column.width as u32,
                mask: column.mask(),
            })),
            // A stride of 0 is that of rows that vary in size.
            [column] if (1..=8).contains(&stride) => Some(NarrowRow::Pair(PairRow::Short { stride, column })),
            [column] if stride == 16 && column.width == 8 && column.offset.is_multiple_of(8) => {
                Some(NarrowRow::Pair(PairRow::Two {
                    first: column.offset,
                    masks: [column.mask(), 0],
                }))
            }
            [column, other]
                if stride == 16
                    && [column, other]
                        .iter()
                        .all(|column| column.width == 8 && column.offset.is_multiple_of(8))
                    && column.offset != other.offset =>
            {
                Some(NarrowRow::Pair(PairRow::Two {
                    first: column.offset,
                    masks: [column.mask(), other.mask()],
                }))
            }
            _ => None,
        }
    }
}

/// Rows that are one integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberRow {
    unused: u32,
    mask: u64,
}

/// Rows that are a key and something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairRow {
    /// The whole row is the payload.
    Short {
        /// Bytes of a row.
        stride: usize,
        /// Its key.
        column: KeyColumn,
    },
    /// Two words.
    Two {
        /// The offset of the first word of the key, 0 or 8.
        first: usize,
        /// What the words are combined with.
        masks: [u64; 2],
    },
}

/// A way between rows and items of one kind.
pub trait NarrowForm: Send + Sync + Copy {
    /// The items.
    type Item: Item;

    /// Makes items of rows, as many as both have.
    fn read(self, rows: &[u8], items: &mut [Self::Item]);

    /// Makes rows of items, as many as both have.
    fn write(self, items: &[Self::Item], rows: &mut [u8]);

    /// Whether `a` comes before `b` or is like it.
    fn at_most(a: &Self::Item, b: &Self::Item) -> bool;
}

fn read_words<const WIDTH: usize>(rows: &[u8], items: &mut [u64], unused: u32, mask: u64) {
    let (rows, _) = rows.as_chunks::<WIDTH>();
    for (row, item) in rows.iter().zip(items) {
        let mut word = [0; 8];
        word[..WIDTH].copy_from_slice(row);
        *item = (u64::from_le_bytes(word) << unused) ^ mask;
    }
}

fn write_words<const WIDTH: usize>(items: &[u64], rows: &mut [u8], unused: u32, mask: u64) {
    let (rows, _) = rows.as_chunks_mut::<WIDTH>();
    for (item, row) in items.iter().zip(rows) {
        let word = ((item ^ mask) >> unused).to_le_bytes();
        row.copy_from_slice(&word[..WIDTH]);
    }
}

impl NarrowForm for NumberRow {
    type Item = u64;

    #[inline]
    fn read(self, rows: &[u8], items: &mut [u64]) {
        let NumberRow { unused, mask } = self;
        match unused {
            0 => read_words::<8>(rows, items, 0, mask),
            32 => read_words::<4>(rows, items, 32, mask),
            48 => read_words::<2>(rows, items, 48, mask),
            _ => read_words::<1>(rows, items, 56, mask),
        }
    }

    #[inline]
    fn write(self, items: &[u64], rows: &mut [u8]) {
        let NumberRow { unused, mask } = self;
        match unused {
            0 => write_words::<8>(items, rows, 0, mask),
            32 => write_words::<4>(items, rows, 32, mask),
            48 => write_words::<2>(items, rows, 48, mask),
            _ => write_words::<1>(items, rows, 56, mask),
        }
    }

    #[inline(always)]
    fn at_most(a: &u64, b: &u64) -> bool {
        a <= b
    }
}

/// The word of up to eight bytes.
#[inline(always)]
fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

impl NarrowForm for PairRow {
    type Item = Pair;

    #[inline]
    fn read(self, rows: &[u8], items: &mut [Pair]) {
        match self {
            PairRow::Short { stride, column } => {
                let (unused, mask) = (64 - 8 * column.width as u32, column.mask());
                for (row, item) in rows.chunks_exact(stride).zip(items) {
                    let key = word_of(&row[column.offset..][..column.width]);
                    *item = Pair {
                        key: (key << unused) ^ mask,
                        payload: word_of(row),
                    };
                }
            }
            PairRow::Two { first, masks } => {
                let (rows, _) = rows.as_chunks::<16>();
                for (row, item) in rows.iter().zip(items) {
                    let words = [word_of(&row[..8]), word_of(&row[8..])];
                    *item = match first {
                        0 => Pair {
                            key: words[0] ^ masks[0],
                            payload: words[1] ^ masks[1],
                        },
                        _ => Pair {
                            key: words[1] ^ masks[0],
                            payload: words[0] ^ masks[1],
                        },
                    };
                }
            }
        }
    }

    #[inline]
    fn write(self, items: &[Pair], rows: &mut [u8]) {
        match self {
            PairRow::Short { stride, .. } => {
                for (item, row) in items.iter().zip(rows.chunks_exact_mut(stride)) {
                    row.copy_from_slice(&item.payload.to_le_bytes()[..stride]);
                }
            }
            PairRow::Two { first, masks } => {
                let (rows, _) = rows.as_chunks_mut::<16>();
                for (item, row) in items.iter().zip(rows) {
                    let words = [item.key ^ masks[0], item.payload ^ masks[1]];
                    let places = match first {
                        0 => words,
                        _ => [words[1], words[0]],
                    };
                    row[..8].copy_from_slice(&places[0].to_le_bytes());
                    row[8..].copy_from_slice(&places[1].to_le_bytes());
                }
            }
        }
    }

    #[inline(always)]
    fn at_most(a: &Pair, b: &Pair) -> bool {
        // As one number: without a branch on whether keys are equal.
        let whole = |pair: &Pair| u128::from(pair.key) << 64 | u128::from(pair.payload);
        whole(a) <= whole(b)
    }
}

/// Rows as items of a form.
pub struct Narrow<O, F> {
    order: O,
    form: F,
    stride: usize,
}

impl<O: RowOrder, F: NarrowForm> Narrow<O, F> {
    /// Rows in an order that `form` knows the key of.
    pub fn new(order: O, form: F) -> Self {
        let stride = order.stride();
        Narrow { order, form, stride }
    }
}

impl<O: RowOrder + Clone, F: NarrowForm> Items for Narrow<O, F> {
    type Item = F::Item;
    type Order = O;

    const ARE_ROWS: bool = true;

    fn order(&self) -> &O {
        &self.order
    }

    fn fresh(&self, _: usize) -> Self {
        Narrow::new(self.order.clone(), self.form)
    }

    #[inline]
    fn put(&mut self, rows: &[u8], into: &mut [F::Item], _: &dyn SegmentSource, _: &mut KeyScratch) -> Put {
        let count = (rows.len() / self.stride).min(into.len());
        let bytes = count * self.stride;
        self.form.read(&rows[..bytes], &mut into[..count]);
        Put {
            rows: count,
            bytes,
            largest: self.stride,
        }
    }

    #[inline]
    fn row<'a>(&'a self, item: F::Item, scratch: &'a mut Scratch) -> &'a [u8] {
        let row = scratch.bytes(self.stride);
        self.form.write(&[item], row);
        row
    }

    fn write(&self, items: &[F::Item], rows: &mut [u8]) {
        self.form.write(items, rows);
    }

    fn read(&self, rows: &[u8], items: &mut [F::Item]) {
        self.form.read(rows, items);
    }

    #[inline(always)]
    fn at_most(&self, a: &F::Item, b: &F::Item) -> bool {
        F::at_most(a, b)
    }

    fn sort_step(&self, sort: &mut Sort<F::Item>, spares: &mut Vec<Segment>, work: usize) -> bool {
        sort.step(spares, &mut ByRest, work)
    }

    fn segments(&self) -> usize {
        0
    }

    fn release_before(&mut self, _: Option<F::Item>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that vary in size are no items by themselves, however narrow their key is.
    #[test]
    fn rows_that_vary_in_size_are_not_narrow() {
        for width in [1, 2, 4, 8] {
            let column = KeyColumn {
                offset: 4,
                width,
                kind: ColumnKind::Integer { signed: true },
                descending: false,
            };
            assert!(NarrowRow::of(0, &[column]).is_none());
            assert!(NarrowRow::of(0, &[column, column]).is_none());
            assert!(NarrowRow::of(8, &[column]).is_some());
        }
    }
}
