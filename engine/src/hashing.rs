//! Hashes of the keys of a batch, as exchanges and tables use them.
//!
//! # Interface
//! [`hash_column`] for keys that are one integer, [`hash_keys`] for any.

use crate::batch::{Rows, variable_row_size};
use crate::record::{IntegerColumn, KeyFields, Record};
use crate::source::Subtask;
use forebay_memory::{hash, scatter};

/// The hash of an integer in each of the rows of `stride` bytes; `hashes` has a place for each row.
pub(crate) fn hash_column(column: IntegerColumn, rows: &[u8], stride: usize, hashes: &mut [u64]) {
    let hash = match (column.width, column.signed) {
        (8, _) => scatter::hash_column_u64,
        (4, false) => scatter::hash_column_u32,
        (4, true) => scatter::hash_column_i32,
        (2, false) => scatter::hash_column_u16,
        (2, true) => scatter::hash_column_i16,
        (_, false) => scatter::hash_column_u8,
        (_, true) => scatter::hash_column_i8,
    };
    hash(rows, stride, column.offset, hashes);
}

/// The hash of the key of each of the `count` rows in `bytes`.
pub(crate) fn hash_keys<R: Record, K: KeyFields<R>>(
    keys: &K,
    bytes: &[u8],
    count: usize,
    scratch: &mut Vec<u8>,
    hashes: &mut Vec<u64>,
) {
    hashes.clear();
    match keys.as_u64_column() {
        Some(column) if R::STRIDE > 0 => {
            hashes.resize(count, 0);
            hash_column(column, bytes, R::STRIDE, hashes);
        }
        Some(column) => {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (row, after) = rest.split_at(variable_row_size(rest));
                hashes.push(hash::hash_u64(column.read(row)));
                rest = after;
            }
        }
        None => hashes.extend(Rows::<R>::of(bytes).map(|view| {
            scratch.clear();
            keys.hash(view, scratch)
        })),
    }
    debug_assert_eq!(hashes.len(), count);
}

/// How many first bits the hashes of all keys of a subtask share.
pub(crate) fn common_bits(subtask: Subtask, max_parallelism: u32) -> u32 {
    let (groups, parallelism) = (u64::from(max_parallelism), subtask.parallelism as u64);
    // The first key group of subtask i is the least g with g × parallelism / groups >= i.
    let first_group = |index: u64| (index * groups).div_ceil(parallelism);
    let first = u128::from(first_group(subtask.index as u64)) << 64;
    let end = u128::from(first_group(subtask.index as u64 + 1)) << 64;
    let (first, last) = (
        (first / u128::from(groups)) as u64,
        (end / u128::from(groups) - 1) as u64,
    );
    (first ^ last).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_memory::hash::{key_group, subtask_of};

    #[test]
    fn common_bits_are_those_of_the_subtasks_range() {
        for parallelism in [1, 2, 3, 4, 5, 7, 8, 128] {
            for index in 0..parallelism {
                let bits = common_bits(Subtask { index, parallelism }, 128);
                let mut seen: Option<u64> = None;
                for group in 0..128u64 {
                    let hash = group << 57;
                    assert_eq!(key_group(hash, 128) as u64, group);
                    if subtask_of(group as u32, 128, parallelism as u32) as usize == index {
                        for hash in [hash, hash | (1 << 57) - 1] {
                            let prefix = hash.checked_shr(64 - bits).unwrap_or(0);
                            assert_eq!(*seen.get_or_insert(prefix), prefix);
                        }
                    }
                }
                assert!(!parallelism.is_power_of_two() || bits == parallelism.trailing_zeros());
            }
        }
    }
}
