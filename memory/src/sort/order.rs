//! The order of rows, as the floor above gives it: words of a normalized key, and whole comparisons.
//!
//! # Interface
//! [`RowOrder::word`] gives eight bytes of a row's normalized key as an integer; where those of two rows are equal,
//! [`RowOrder::compare`] decides. Before that the words that follow may: [`RowOrder::differ`] finds the first of two rows that is not the same. Both are given scratch memory, so that an order has no state and threads can share it.

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

    /// The same, and whether the next word is the next to look at where two rows have this one, and all before, in common: which then
    /// holds for both or for neither. Where it does not, words say no more.
    fn word_on(&self, row: &[u8], from: usize, scratch: &mut KeyScratch) -> (u64, bool) {
        let goes_on = self.key_size().is_some_and(|size| from + 8 < size);
        (self.word(row, from, scratch), goes_on)
    }

    /// Whether no different keys have all words in common: as where they are of one size.
    fn are_words_exact(&self) -> bool {
        self.key_size().is_some()
    }

    /// Where two rows differ that have `depth` words in common.
    fn differ(&self, rows: [&[u8]; 2], depth: u32, scratch: &mut KeyScratch) -> Difference {
        differ(self.are_words_exact(), depth, |depth| {
            rows.map(|row| self.word_on(row, 8 * depth as usize, scratch))
        })
    }

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

/// The most words that rows are compared by; behind them they are compared as a whole.
pub const MOST_WORDS: u32 = 32;

/// Where the words of two rows differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// How many words they have in common; [`MOST_WORDS`] where the keys are equal.
    pub common: u32,
    /// The next of each. They are the same where words say no more, and 0 where the keys are equal.
    pub words: [u64; 2],
}

/// The difference of two rows, which have `depth` words in common, as `words` gives those of one and the other. `are_exact` where no
/// different keys have all words in common.
pub fn differ(are_exact: bool, mut depth: u32, mut words: impl FnMut(u32) -> [(u64, bool); 2]) -> Difference {
    loop {
        let [first, second] = words(depth);
        let words = [first.0, second.0];
        let go_on = first.1 && second.1;
        if first.0 == second.0 && !go_on && are_exact {
            return Difference {
                common: MOST_WORDS,
                words: [0, 0],
            };
        }
        if first.0 != second.0 || !go_on || depth + 1 == MOST_WORDS {
            return Difference { common: depth, words };
        }
        depth += 1;
    }
}
