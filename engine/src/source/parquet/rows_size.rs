//! What a footer says of the bytes of rows that vary in size, beside their fixed parts.
//!
//! # Algorithm
//! What is stored of a column is no measure of its rows: of a dictionary each value is there once, however many rows have it. So the size without
//! an encoding is taken, which writers put into the footer (`unencoded_byte_array_data_bytes`). Where they have not, a value has no more
//! bytes than the whole column has: that is the most, and what is stored the least.

use super::file::OpenFile;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::file::metadata::ColumnChunkMetaData;

/// What an element of a list may take beside its text: a number of 128 bits, or the place of a text.
const ELEMENT: u64 = 16;

/// The same of the smallest that is not seldom. (The least is an estimate that may be four times too high.)
const SMALL_ELEMENT: u64 = 4;

/// The least and the most that the texts and lists of a row group are estimated to take.
pub(super) fn varied_bytes(file: &OpenFile, group: usize) -> (u64, u64) {
    let metadata = file.metadata.metadata().row_group(group);
    file.leaves
        .iter()
        .fold((0, 0), |(least, most): (u64, u64), leaf| {
            let (column_least, column_most) = column_bytes(metadata.column(leaf.number));
            (
                least.saturating_add(column_least),
                most.saturating_add(column_most),
            )
        })
}

fn column_bytes(column: &ColumnChunkMetaData) -> (u64, u64) {
    let values = u64::try_from(column.num_values()).unwrap_or(0);
    let stored = u64::try_from(column.uncompressed_size()).unwrap_or(0);
    let (least, most) = match column.column_type() {
        PhysicalType::BYTE_ARRAY => {
            let unencoded = column.unencoded_byte_array_data_bytes();
            match unencoded.and_then(|bytes| u64::try_from(bytes).ok()) {
                Some(bytes) => (bytes, bytes),
                None if are_whole(column) => (stored, stored),
                None => (stored, values.saturating_mul(stored)),
            }
        }
        PhysicalType::FIXED_LEN_BYTE_ARRAY => {
            let width = u64::try_from(column.column_descr().type_length()).unwrap_or(0);
            (values.saturating_mul(width), values.saturating_mul(width))
        }
        // In the fixed part of their record.
        _ => (0, 0),
    };
    let levels = u64::try_from(column.column_descr().max_rep_level()).unwrap_or(0);
    let elements = |size: u64| values.saturating_mul(size * levels);
    (
        least.saturating_add(elements(SMALL_ELEMENT)),
        most.saturating_add(elements(ELEMENT)),
    )
}

/// Whether each value is stored by itself.
fn are_whole(column: &ColumnChunkMetaData) -> bool {
    column.dictionary_page_offset().is_none()
        && column.encodings().all(|encoding| !SHARING.contains(&encoding))
}

/// Encodings in which values are stored together.
const SHARING: [Encoding; 3] = [
    Encoding::PLAIN_DICTIONARY,
    Encoding::RLE_DICTIONARY,
    Encoding::DELTA_BYTE_ARRAY,
];
