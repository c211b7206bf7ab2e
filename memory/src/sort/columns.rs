//! Orders by columns: integers, bytes of fixed size and texts, compared where they lie in the row.
//!
//! # Interface
//! [`ColumnOrder::new`] from the columns that decide, first to last. Its normalized key is that of the engine's `SortFields`; only
//! where a text has zeros, words are of a shorter part of it, which compares the same as far as it goes.
//!
//! # Cost
//! A word of an integer or of eight bytes is one load; no key is built.

use std::cmp::Ordering;

use super::order::{KeyScratch, RowOrder};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// An integer of 1, 2, 4 or 8 bytes, little-endian.
    Integer {
        /// Whether it is signed.
        signed: bool,
    },
    /// Bytes of a fixed number.
    Bytes,
    /// Two words (u32): where in the row bytes begin, and how many they are.
    Text,
}

/// A part of every row that an order is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its offset from the row's start.
    pub offset: usize,
    /// Its bytes in the fixed part.
    pub width: usize,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl KeyColumn {
    /// What an integer's bits, at the top of a word, are combined with to be normalized, and back.
    pub(super) fn mask(self) -> u64 {
        let unused = 64 - 8 * self.width as u32;
        let inverted = if self.descending { !0 << unused } else { 0 };
        let signed = matches!(self.kind, ColumnKind::Integer { signed: true });
        inverted ^ (u64::from(signed) << 63)
    }

    /// Its bytes in a row.
    #[inline(always)]
    fn bytes(self, row: &[u8]) -> &[u8] {
        let place = &row[self.offset..self.offset + self.width];
        match self.kind {
            ColumnKind::Text => {
                let word = u64::from_le_bytes(*place.first_chunk().expect("a text has two words"));
                let (start, size) = (word as u32 as usize, (word >> 32) as usize);
                &row[start..start + size]
            }
            _ => place,
        }
    }

    /// The normalized bits of its integer, at the top of a word.
    #[inline(always)]
    fn integer(self, row: &[u8]) -> u64 {
        (little_endian(&row[self.offset..self.offset + self.width]) << (64 - 8 * self.width as u32))
            ^ self.mask()
    }

    /// How it compares in two rows.
    #[inline(always)]
    fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        let order = match self.kind {
            ColumnKind::Integer { .. } => return self.integer(left).cmp(&self.integer(right)),
            ColumnKind::Bytes | ColumnKind::Text => self.bytes(left).cmp(self.bytes(right)),
        };
        match self.descending {
            true => order.reverse(),
            false => order,
        }
    }
}

/// The number that up to eight bytes are.
#[inline(always)]
fn little_endian(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        }
    }
}

/// The first eight of some bytes as a big-endian number, zeros behind them.
#[inline(always)]
fn big_endian(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(word) => u64::from_be_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(word)
        }
    }
}

/// The order of rows by columns.
#[derive(Debug, Clone)]
pub struct ColumnOrder {
    stride: usize,
    columns: Vec<KeyColumn>,
    key_size: Option<usize>,
}

impl ColumnOrder {
    /// The order of rows of `stride` bytes (0 where they begin with their size) by columns, the first of which decides first.
    pub fn new(stride: usize, columns: Vec<KeyColumn>) -> Self {
        let is_fixed = columns.iter().all(|column| column.kind != ColumnKind::Text);
        let size = columns.iter().map(|column| column.width).sum();
        ColumnOrder {
            stride,
            columns,
            key_size: is_fixed.then_some(size),
        }
    }

    /// A word that begins in several columns, or behind the start of one; and whether it has eight bytes of the key: no text ends in
    /// it, or has a zero there.
    #[inline(never)]
    fn pieced(&self, row: &[u8], from: usize) -> (u64, bool) {
        // Bytes of the key before the word, and bits of it that are there.
        let (mut skipped, mut filled, mut word) = (from, 0u32, 0u64);
        for column in &self.columns {
            let (piece, size, ends) = match column.kind {
                ColumnKind::Integer { .. } if skipped >= column.width => {
                    skipped -= column.width;
                    continue;
                }
                ColumnKind::Integer { .. } => {
                    let piece = column.integer(row) << (8 * skipped as u32);
                    (piece, column.width - skipped, false)
                }
                ColumnKind::Bytes | ColumnKind::Text => {
                    let bytes = column.bytes(row);
                    let is_text = column.kind == ColumnKind::Text;
                    if !is_text && skipped >= bytes.len() {
                        skipped -= bytes.len();
                        continue;
                    }
                    let rest = bytes.get(skipped..).unwrap_or(&[]);
                    // What comes behind a text does not come at the same place in every row; nor does what comes behind a zero in it.
                    let rest = match rest.iter().take(8).position(|byte| *byte == 0) {
                        Some(zero) if is_text => &rest[..zero],
                        _ => rest,
                    };
                    let size = rest.len().min(8);
                    let mut piece = big_endian(rest);
                    if column.descending {
                        piece ^= match size {
                            8 => !0,
                            // A text that ends is larger than any that goes on.
                            _ if is_text => !0,
                            size => !(!0 >> (8 * size as u32)),
                        };
                    }
                    (piece, size, is_text && size < 8)
                }
            };
            word |= piece >> filled;
            filled += 8 * size as u32;
            skipped = 0;
            if ends || filled >= 64 {
                return (word, filled >= 64);
            }
        }
        (word, false)
    }
}

impl RowOrder for ColumnOrder {
    #[inline(always)]
    fn stride(&self) -> usize {
        self.stride
    }

    #[inline(always)]
    fn key_size(&self) -> Option<usize> {
        self.key_size
    }

    #[inline]
    fn word(&self, row: &[u8], from: usize, _: &mut KeyScratch) -> u64 {
        let first = &self.columns[0];
        match first.kind {
            ColumnKind::Integer { .. } if first.width == 8 && from == 0 => first.integer(row),
            ColumnKind::Bytes if !first.descending && from + 8 <= first.width => {
                big_endian(&row[first.offset + from..])
            }
            _ => self.pieced(row, from).0,
        }
    }

    #[inline]
    fn word_on(&self, row: &[u8], from: usize, scratch: &mut KeyScratch) -> (u64, bool) {
        match self.key_size {
            Some(size) => (self.word(row, from, scratch), from + 8 < size),
            None => self.pieced(row, from),
        }
    }

    #[inline]
    fn compare(&self, left: &[u8], right: &[u8], _: &mut KeyScratch) -> Ordering {
        for column in &self.columns {
            let order = column.compare(left, right);
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    }
}
