//! The order of rows by fields of their records.

use crate::record::{Record, SortFields, prefix_of};
use forebay_memory::sort::{Difference, KeyScratch, RowOrder, differ};
use std::cmp::Ordering;
use std::marker::PhantomData;

/// Rows of `R` in the order of fields.
pub(crate) struct FieldOrder<R, F> {
    fields: F,
    record: PhantomData<fn(R)>,
}

impl<R: Record, F: SortFields<R>> FieldOrder<R, F> {
    pub(crate) fn new(fields: F) -> Self {
        FieldOrder {
            fields,
            record: PhantomData,
        }
    }

    fn encode(&self, row: &[u8], out: &mut Vec<u8>) {
        out.clear();
        self.fields.encode_normalized(R::read_row(row), out);
    }
}

impl<R, F: Copy> Clone for FieldOrder<R, F> {
    fn clone(&self) -> Self {
        FieldOrder { ..*self }
    }
}

impl<R: Record, F: SortFields<R>> RowOrder for FieldOrder<R, F> {
    #[inline(always)]
    fn stride(&self) -> usize {
        R::STRIDE
    }

    fn key_size(&self) -> Option<usize> {
        None
    }

    fn are_words_exact(&self) -> bool {
        true
    }

    #[inline]
    fn word(&self, row: &[u8], from: usize, scratch: &mut KeyScratch) -> u64 {
        if from == 0 {
            return self.fields.prefix(R::read_row(row), &mut scratch.left).0;
        }
        self.encode(row, &mut scratch.left);
        scratch.left.get(from..).map_or(0, |rest| prefix_of(rest).0)
    }

    fn word_on(&self, row: &[u8], from: usize, scratch: &mut KeyScratch) -> (u64, bool) {
        self.encode(row, &mut scratch.left);
        word_of(&scratch.left, from)
    }

    fn differ(&self, [first, second]: [&[u8]; 2], depth: u32, scratch: &mut KeyScratch) -> Difference {
        self.encode(first, &mut scratch.left);
        self.encode(second, &mut scratch.right);
        differ(true, depth, |depth| {
            let from = 8 * depth as usize;
            [&scratch.left, &scratch.right].map(|key| word_of(key, from))
        })
    }

    fn compare(&self, left: &[u8], right: &[u8], scratch: &mut KeyScratch) -> Ordering {
        self.encode(left, &mut scratch.left);
        self.encode(right, &mut scratch.right);
        scratch.left.cmp(&scratch.right)
    }
}

/// A word of a normalized key, and whether the key has eight bytes there. No key is the beginning of another, so where two words are the
/// same it holds for both or for neither.
fn word_of(key: &[u8], from: usize) -> (u64, bool) {
    let rest = key.get(from..).unwrap_or(&[]);
    (prefix_of(rest).0, rest.len() >= 8)
}
