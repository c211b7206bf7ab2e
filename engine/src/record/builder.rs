//! [`RowBuilder`]: a row that is put together field by field, by whoever knows its type from a schema alone.
//!
//! # Interface
//! [`RowBuilder::start`] begins a row of zeros; fixed fields are written into [`RowBuilder::bytes`] where the schema says that
//! they lie; [`RowBuilder::append`] and [`RowBuilder::put_bytes`] add to the variable part; [`RowBuilder::view`] reads it.

use super::layout::{MAX_ALIGN, MAX_ROW_SIZE, round_up};
use super::row::{Record, put, row_part_at};
use zerocopy::IntoBytes;

/// Builds rows, one after the other, in the same memory.
pub(crate) struct RowBuilder {
    /// The row, aligned as plain records need it.
    words: Vec<u64>,
    /// Where the variable part ends.
    tail: usize,
    /// Where the variable part of a row starts.
    fixed: usize,
    /// Words of a row without a variable part.
    least: usize,
}

impl RowBuilder {
    /// A builder of rows of `R`.
    pub(crate) fn of<R: Record>() -> Self {
        let fixed = row_part_at::<R>() + R::SIZE;
        let least = fixed.max(R::STRIDE).div_ceil(8);
        RowBuilder {
            words: vec![0; least],
            tail: fixed,
            fixed,
            least,
        }
    }

    /// Starts a row: all zeros.
    #[inline]
    pub(crate) fn start(&mut self) {
        self.words[..self.least].fill(0);
        self.tail = self.fixed;
    }

    /// The row as far as it goes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.words.as_mut_bytes()
    }

    /// Where the variable part ends.
    #[cfg(feature = "parquet")]
    pub(crate) fn tail(&self) -> usize {
        self.tail
    }

    /// Makes room for `length` bytes at the end of the variable part, their content unspecified: where they start.
    #[inline]
    pub(crate) fn append(&mut self, length: usize) -> usize {
        let (start, end) = (self.tail, self.tail + length);
        assert!(end <= MAX_ROW_SIZE, "a row has at most 128 MiB");
        if self.words.len() * 8 < round_up(end, MAX_ALIGN) {
            self.words.resize(round_up(end, MAX_ALIGN) / 8 * 2, 0);
        }
        self.tail = end;
        start
    }

    /// [`RowBuilder::append`] of zeros.
    #[cfg(feature = "parquet")]
    pub(crate) fn append_zeros(&mut self, length: usize) -> usize {
        let start = self.append(length);
        self.bytes()[start..start + length].fill(0);
        start
    }

    /// Appends zeros up to a multiple of 8.
    #[cfg(feature = "parquet")]
    pub(crate) fn align(&mut self) {
        self.append_zeros(round_up(self.tail, MAX_ALIGN) - self.tail);
    }

    /// Appends a string or bytes, and refers to them at `at`, as they lie in rows that start at `origin`.
    #[inline]
    pub(crate) fn put_bytes(&mut self, origin: usize, at: usize, bytes: &[u8]) {
        let start = self.append(bytes.len());
        let row = self.bytes();
        row[start..start + bytes.len()].copy_from_slice(bytes);
        let mut prefix = [0; 4];
        let known = bytes.len().min(4);
        prefix[..known].copy_from_slice(&bytes[..known]);
        put(row, at, ((start - origin) as u32).to_le_bytes());
        put(row, at + 4, (bytes.len() as u32).to_le_bytes());
        put(row, at + 8, prefix);
    }

    /// The record that was built, of the type that the builder was made for.
    #[inline]
    pub(crate) fn view<R: Record>(&mut self) -> R::View<'_> {
        let mut size = R::STRIDE;
        if R::VARIES {
            size = round_up(self.tail, MAX_ALIGN);
            let tail = self.tail;
            let row = self.bytes();
            row[tail..size].fill(0);
            put(row, 0, (size as u32).to_le_bytes());
        }
        R::read_row(&self.words.as_bytes()[..size])
    }
}
