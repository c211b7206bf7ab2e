//! [`EnumRecord`]: one of several records, and how its tag and its variant's fields lie in a row.
//!
//! # Layout
//! Where no variant varies: the tag (u8), zeros up to the largest alignment of a variant, the variant's fixed
//! part, zeros up to the size of the largest. Otherwise one u32, the tag in its lowest byte and above it the
//! offset of the variant's fixed part from the row's start in units of 8 bytes; that part is in the row's
//! variable part, at the next multiple of 8. A row alone thus takes 8 bytes more than its variant.

use forebay_memory::{Error, Result};

use super::layout::{MAX_ALIGN, MAX_ROW_SIZE, round_up};
use super::numbers::split;
use super::row::{Record, pad, put, row_part_at, take};

/// A derived enum: a record whose rows say by a tag which variant they hold.
pub trait EnumRecord: Record {
    /// The variants' names, by tag.
    const VARIANTS: &'static [&'static str];

    /// The tag of a view: its variant's number.
    fn tag(view: Self::View<'_>) -> u8;

    /// The tag of a row, without reading the rest of it.
    #[inline(always)]
    fn row_tag(row: &[u8]) -> u8 {
        row[row_part_at::<Self>()]
    }
}

/// The size of an enum's fixed part: a reference, or as much as the largest variant needs.
pub const fn enum_size(varies: bool, align: usize, variants: &[usize]) -> usize {
    if varies {
        4
    } else {
        round_up(align + super::compound::largest(variants), align)
    }
}

/// Where the variable part ends once a variant's fixed part of `size` bytes is appended to it.
#[inline(always)]
pub const fn payload_end(tail: usize, size: usize) -> usize {
    if size == 0 {
        tail
    } else {
        round_up(tail, MAX_ALIGN) + size
    }
}

/// Makes room for a variant's fixed part at the end of the variable part, and refers to it at `row[at..]`:
/// where it starts and where the variable part ends now.
#[inline(always)]
pub fn put_payload(row: &mut [u8], at: usize, tail: usize, tag: u8, size: usize) -> (usize, usize) {
    let start = if size == 0 { 0 } else { round_up(tail, MAX_ALIGN) };
    assert!(start < MAX_ROW_SIZE, "a row has at most 128 MiB");
    put(row, at, (tag as u32 | (start as u32 / 8) << 8).to_le_bytes());
    if size == 0 {
        return (tail, tail);
    }
    pad(row, tail, start);
    (start, start + size)
}

/// Writes the tag at `row[at..]` and zeros up to the variant's fixed part: where that starts.
#[inline(always)]
pub fn put_tag(row: &mut [u8], at: usize, tag: u8, payload: usize) -> usize {
    put(row, at, [tag]);
    pad(row, at + 1, at + payload);
    at + payload
}

/// The tag at `row[at..]`, and where the variant's fixed part starts.
#[inline(always)]
pub fn take_tag(row: &[u8], at: usize, varies: bool, payload: usize) -> (u8, usize) {
    if varies {
        let reference = u32::from_le_bytes(take(row, at));
        (reference as u8, (reference >> 8) as usize * 8)
    } else {
        (row[at], at + payload)
    }
}

/// Checks that a variant's fixed part is inside its row.
pub fn check_payload(row: &[u8], at: usize, size: usize, variant: &str) -> Result<()> {
    if at + size <= row.len() {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{variant}: {size} bytes at offset {at} reach out of the row of {} B",
        row.len()
    )))
}

/// A tag that no variant has, in bytes from elsewhere.
pub fn unknown_variant(name: &str, tag: u8) -> Error {
    Error::corrupt(format!("{name} has no variant with tag {tag}"))
}

/// A tag that no variant has, in a row that was written here.
#[cold]
pub fn no_variant(name: &str, tag: u8) -> ! {
    panic!("a row of {name} has the tag {tag} of no variant: it was not written by write_row")
}

/// Takes a tag off the front of a key.
#[inline(always)]
pub fn split_tag(bytes: &mut &[u8]) -> Option<u8> {
    split::<1>(bytes).map(|[tag]| tag)
}
