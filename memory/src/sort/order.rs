//! The order of rows, as the floor above gives it: words of a normalized key, and whole comparisons.
//!
//! # Interface
//! [`RowOrder::word`] gives eight bytes of a row's normalized key as an integer; where those of two rows are equal,
//! [`RowOrder::compare`] decides. Both are given scratch memory, so that an order has no state and threads can share it.

use std::cmp::Ordering;

/// Memory for keys that do not lie in their rows as they compare: of the longest key seen.
#[derive(Debug, Default)]
pub struct KeyScratch {
    /// For the first key of two, or the only one.
    pub left: Vec<u8>,
    /// For the second.
    pub right: Vec<u8>,
}

/// An order of rows.
pub trait RowOrder: Send + Sync {
    /// Bytes of every row; 0 where rows vary, and begin with their size (u32).
    fn stride(&self) -> usize;

    /// Bytes of every row's normalized key, where all are of one size. Then words alone decide.
    fn key_size(&self) -> Option<usize>;

    /// Eight bytes of a row's normalized key from byte `from` on, zeros behind its end, as a big-endian integer.
    fn word(&self, row: &[u8], from: usize, scratch: &mut KeyScratch) -> u64;

    /// The order of two rows by their whole keys.
    fn compare(&self, left: &[u8], right: &[u8], scratch: &mut KeyScratch) -> Ordering;

    /// The size of the row that `bytes` starts with.
    ///
    /// # Panics
    /// Where there are fewer than four bytes of a row that varies.
    #[inline(always)]
    fn row_size(&self, bytes: &[u8]) -> usize {
        match self.stride() {
            0 => {
                let size = bytes
                    .first_chunk()
                    .expect("a row that varies begins with its size");
                u32::from_le_bytes(*size) as usize
            }
            stride => stride,
        }
    }
}
