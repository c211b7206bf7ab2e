//! Hashes of the keys of a whole batch of rows, equal to [`KeyFields::hash`] of each.
//!
//! # Cost
//! An integer column of fixed rows: about 1 ns a row, without reading anything else of it. Other keys: their
//! canonical bytes are made and hashed one by one.

use forebay_memory::hash::hash_u64;
use forebay_memory::scatter;

use super::field::IntegerColumn;
use super::key::KeyFields;
use super::row::Record;

/// Writes the hash of the key of each row of `rows` to `hashes`; `scratch` is room for one key.
///
/// ```
/// use forebay::record::{KeyFields, Record, hash_rows, second};
///
/// type Pair = (u64, i32);
/// let mut rows = [0; 2 * Pair::STRIDE];
/// Pair::write_row((1, -7), &mut rows[..Pair::STRIDE]);
/// Pair::write_row((2, 9), &mut rows[Pair::STRIDE..]);
/// let mut hashes = [0; 2];
/// hash_rows::<Pair, _>(second(), &rows, &mut hashes, &mut Vec::new());
/// assert_eq!(hashes[1], second::<Pair>().hash((5, 9), &mut Vec::new()));
/// ```
///
/// # Panics
/// When `rows` are not as many rows of `R` as `hashes` has places.
pub fn hash_rows<R: Record, K: KeyFields<R>>(key: K, rows: &[u8], hashes: &mut [u64], scratch: &mut Vec<u8>) {
    match key.as_u64_column() {
        Some(column) if R::STRIDE > 0 => {
            assert_eq!(
                rows.len(),
                hashes.len() * R::STRIDE,
                "there is a place for the hash of every row"
            );
            hash_column(column, rows, R::STRIDE, hashes);
        }
        Some(column) => for_each_row::<R>(rows, hashes, |row| hash_u64(column.read(row))),
        None => for_each_row::<R>(rows, hashes, |row| key.hash(R::read_row(row), scratch)),
    }
}

/// Hashes the integers of a column of fixed rows.
fn hash_column(column: IntegerColumn, rows: &[u8], stride: usize, hashes: &mut [u64]) {
    let hash = match (column.width, column.signed) {
        (8, false) => scatter::hash_column_u64,
        (8, true) => scatter::hash_column_i64,
        (4, false) => scatter::hash_column_u32,
        (4, true) => scatter::hash_column_i32,
        (2, false) => scatter::hash_column_u16,
        (2, true) => scatter::hash_column_i16,
        (_, false) => scatter::hash_column_u8,
        (_, true) => scatter::hash_column_i8,
    };
    hash(rows, stride, column.offset, hashes);
}

#[inline(always)]
fn for_each_row<R: Record>(rows: &[u8], hashes: &mut [u64], mut hash: impl FnMut(&[u8]) -> u64) {
    let mut rest = rows;
    for place in hashes {
        let (row, after) = rest.split_at(R::row_size_at(rest));
        *place = hash(row);
        rest = after;
    }
    assert!(rest.is_empty(), "there is a place for the hash of every row");
}
