//! [`Record`]: a type whose values lie in rows, the bytes that segments, files and the network carry.
//!
//! # Interface
//! Everybody: [`Record::view`], [`Record::row_size`], [`Record::write_row`], [`Record::read_row`],
//! [`Record::schema`]. The other items say how a type lies inside a row, so that rows nest; the derive
//! writes them, and nobody else calls them.
//!
//! # Layout
//! A record has a fixed part of [`Record::SIZE`] bytes, laid out by [`layout`](super::layout), and, where it
//! [varies](Record::VARIES), bytes in the row's variable part that offsets in the fixed part point at.
//! ```text
//! fixed row                       row that varies
//!   0  fixed part (STRIDE bytes)    0  total size: u32, a multiple of 8
//!                                   4  or 8 (by alignment): fixed part (SIZE bytes)
//!                                      variable part: strings and bytes unpadded, enum variants aligned
//!                                      zeros up to a multiple of 8
//! ```
//! Everything is little-endian. Offsets count from the row's start, so a row may be copied anywhere. Every
//! byte is written, padding as zeros: equal records have equal rows (but for floats).
//!
//! # Cost
//! Reading a fixed field is one load at an offset known at compile time, after one check of the row's length
//! which the compiler drops where it sees the length. A string costs its check for UTF-8.

use std::any::TypeId;

use forebay_memory::{Error, Result};

use super::layout::{self, MAX_ALIGN, Slot, round_up};
use super::schema::{DataType, Schema, interned};

#[cfg(target_endian = "big")]
compile_error!("forebay's rows are little-endian: big-endian targets are not supported");

/// A type whose values lie in rows. Derive it: `#[derive(Record)]`.
///
/// Numbers, `bool`, [`String`], `Vec<u8>` (bytes), [`Timestamp`](super::Timestamp), [`Date`](super::Date),
/// [`Decimal`](super::Decimal), `Option`, arrays and tuples of records are records; structs and enums of them
/// are derived.
///
/// ```
/// use forebay::record::Record;
///
/// type Pair = (u64, String);
///
/// let pair: Pair = (7, "seven".into());
/// let mut row = vec![0; Pair::row_size(pair.view())];
/// Pair::write_row(pair.view(), &mut row);
/// assert_eq!(Pair::read_row(&row), (7, "seven"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a record",
    label = "not a record",
    note = "a record is an integer from `u8` to `u128` and `i8` to `i128`, `f32`, `f64`, `bool`, `String`, `Vec<u8>`, `Timestamp`, `Date`, `Decimal`, or an `Option`, an array or a tuple of records",
    note = "put `#[derive(Record)]` on a struct or enum of your own"
)]
pub trait Record: Sized + Send + Sync + 'static {
    /// What user functions see of a row: the value itself for numbers, `&str` for strings, a struct of
    /// borrowed fields for derived records, `&Self` for plain ones, a tuple of views for tuples.
    type View<'a>: Copy;

    /// Bytes of every row where rows are of fixed size; 0 where they vary.
    const STRIDE: usize = layout::stride(Self::SIZE, Self::VARIES);

    /// Bytes of the fixed part, a multiple of [`Self::ALIGN`].
    const SIZE: usize;

    /// Alignment of the fixed part in its row: 1, 2, 4 or 8.
    const ALIGN: usize;

    /// Whether rows may have a variable part.
    const VARIES: bool;

    /// The alignment that a row's address must have for [`Record::read_row`]: 1, but more where a plain
    /// record is read in place.
    const ROW_ALIGN: usize = 1;

    /// Whether a record that holds this one keeps a null bit for it.
    const NULLABLE: bool = false;

    /// Bytes that a record holding this one keeps for it, the null bit apart.
    const SLOT_SIZE: usize = Self::SIZE;

    /// The kind of integer whose little-endian bytes are the whole fixed part, if it is one of up to 64 bits.
    const INTEGER: Option<Integer> = None;

    /// How many bytes the fixed part has, where it is an array of bytes and nothing else.
    const BYTE_ARRAY: Option<usize> = None;

    /// Whether the fixed part starts with offset and length (u32 each) of bytes that are the value's canonical bytes.
    const IS_BYTES: bool = false;

    /// The type as the schema names it.
    fn data_type() -> DataType;

    /// The schema of the type's rows.
    fn schema() -> &'static Schema {
        interned(TypeId::of::<Self>(), || {
            Schema::new(
                Self::data_type(),
                row_part_at::<Self>(),
                Self::SLOT_SIZE * 8,
                Self::STRIDE,
            )
        })
    }

    /// The value as user functions see it.
    fn view(&self) -> Self::View<'_>;

    /// The owned value of a view.
    fn from_view(view: Self::View<'_>) -> Self;

    /// The same view for a shorter time. (The compiler cannot see by itself that this is sound.)
    fn shorten<'long: 'short, 'short>(view: Self::View<'long>) -> Self::View<'short>;

    /// Bytes of the view's row, padding included; [`Self::STRIDE`] where rows are of fixed size.
    #[inline]
    fn row_size(view: Self::View<'_>) -> usize {
        if Self::VARIES {
            round_up(
                Self::tail_after(view, row_part_at::<Self>() + Self::SIZE),
                MAX_ALIGN,
            )
        } else {
            Self::STRIDE
        }
    }

    /// Writes the view's row: every byte of `row`, whose length is [`Record::row_size`].
    ///
    /// # Panics
    /// When `row` has another length, or the row is over [`MAX_ROW_SIZE`](layout::MAX_ROW_SIZE).
    #[inline]
    fn write_row(view: Self::View<'_>, row: &mut [u8]) {
        if Self::VARIES {
            let part = row_part_at::<Self>();
            let size = row.len();
            assert!(
                size >= part + Self::SIZE && (MAX_ALIGN..=layout::MAX_ROW_SIZE).contains(&size),
                "a row is written into as many bytes as row_size says, at most 128 MiB"
            );
            // The padding at the row's end, with what is written over it: one store, where the exact bytes are a call.
            put(row, size - MAX_ALIGN, [0; MAX_ALIGN]);
            put(row, 0, (size as u32).to_le_bytes());
            pad(row, 4, part);
            let end = Self::write_part(view, row, part, part + Self::SIZE);
            assert!(
                end <= size && size - end < MAX_ALIGN,
                "row_size and write_row agree"
            );
        } else {
            assert!(
                row.len() == Self::STRIDE,
                "a fixed row is written into STRIDE bytes"
            );
            let end = Self::write_part(view, row, 0, Self::SIZE);
            debug_assert_eq!(end, Self::SIZE);
            pad(row, Self::SIZE, Self::STRIDE);
        }
    }

    /// The view of a row that [`Record::write_row`] wrote. Bytes after the row are not looked at.
    ///
    /// # Panics
    /// When the bytes are not such a row. [`validate_row`] decides that for bytes from elsewhere.
    #[inline(always)]
    fn read_row(row: &[u8]) -> Self::View<'_> {
        let part = row_part_at::<Self>();
        assert!(
            row.len() >= part + Self::SIZE,
            "a row is at least as long as its fixed part"
        );
        Self::read_part(row, part)
    }

    /// Bytes of the row that `bytes` starts with.
    ///
    /// # Panics
    /// When `bytes` is too short to hold a row.
    #[inline(always)]
    fn row_size_at(bytes: &[u8]) -> usize {
        if Self::VARIES {
            u32::from_le_bytes(take(bytes, 0)) as usize
        } else {
            Self::STRIDE
        }
    }

    /// Where the variable part ends once the view's bytes are appended to it, when it ended at `tail`.
    #[inline(always)]
    fn tail_after(view: Self::View<'_>, tail: usize) -> usize {
        let _ = view;
        tail
    }

    /// Writes the fixed part at `row[at..]` and appends to the variable part at `tail`: answers its new end.
    fn write_part(view: Self::View<'_>, row: &mut [u8], at: usize, tail: usize) -> usize;

    /// Reads the value whose fixed part is at `row[at..]`.
    fn read_part(row: &[u8], at: usize) -> Self::View<'_>;

    /// Checks that [`Record::read_part`] will not panic.
    ///
    /// # Errors
    /// `Corrupt`, saying what is wrong.
    fn validate_part(row: &[u8], at: usize) -> Result<()>;

    /// Whether the view is null.
    #[inline(always)]
    fn is_null(view: Self::View<'_>) -> bool {
        let _ = view;
        false
    }

    /// [`Record::write_part`] without the null bit, which the record that holds this one writes.
    #[inline(always)]
    fn write_slot(view: Self::View<'_>, row: &mut [u8], at: usize, tail: usize) -> usize {
        Self::write_part(view, row, at, tail)
    }

    /// [`Record::read_part`] without the null bit, which the record that holds this one has read.
    #[inline(always)]
    fn read_slot(row: &[u8], at: usize, null: bool) -> Self::View<'_> {
        let _ = null;
        Self::read_part(row, at)
    }

    /// [`Record::validate_part`] without the null bit.
    ///
    /// # Errors
    /// `Corrupt`, saying what is wrong.
    fn validate_slot(row: &[u8], at: usize, null: bool) -> Result<()> {
        let _ = null;
        Self::validate_part(row, at)
    }

    /// The 64 bits of a value whose type has an [`Record::INTEGER`]: extended by its sign if it is signed.
    ///
    /// # Panics
    /// When the type has none.
    #[inline(always)]
    fn to_u64(view: Self::View<'_>) -> u64 {
        let _ = view;
        unreachable!("only integers of up to 64 bits are 64 bits")
    }

    /// The value whose 64 bits these are, where the type has an [`Record::INTEGER`].
    ///
    /// # Panics
    /// When the type has none.
    #[inline(always)]
    fn from_u64(bits: u64) -> Self {
        let _ = bits;
        unreachable!("only integers of up to 64 bits are 64 bits")
    }

    /// Whether values have an order in 64 bits: [`Record::to_ordinal`] and back.
    const ORDINAL: bool = Self::INTEGER.is_some();

    /// The value as an unsigned integer that compares as [`Record::encode_normalized`]'s bytes do.
    ///
    /// # Panics
    /// When the type is not [`Record::ORDINAL`].
    #[inline(always)]
    fn to_ordinal(view: Self::View<'_>) -> u64 {
        Self::to_u64(view) ^ sign_of::<Self>()
    }

    /// The value whose [`Record::to_ordinal`] this is: −0.0 has become 0.0, and every NaN the same.
    ///
    /// # Panics
    /// When the type is not [`Record::ORDINAL`].
    #[inline(always)]
    fn from_ordinal(ordinal: u64) -> Self {
        Self::from_u64(ordinal ^ sign_of::<Self>())
    }

    /// Bytes of every key's canonical bytes, if they are of fixed size.
    const KEY_SIZE: Option<usize> = None;

    /// Appends the view's canonical bytes: equal keys have equal bytes and others do not (−0.0 equals 0.0,
    /// every NaN every other; decimals are equal by value). `last` says that nothing follows in the key, so that
    /// a string need not say its length; without it no key's bytes are the start of another's.
    fn encode_key(view: Self::View<'_>, last: bool, out: &mut Vec<u8>);

    /// The view's canonical bytes as a whole key: in `scratch`, or where they are if they lie in one piece.
    #[inline(always)]
    fn key_bytes<'a>(view: Self::View<'a>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        scratch.clear();
        Self::encode_key(view, true, scratch);
        scratch
    }

    /// Takes a key off the front of `bytes`; nothing where they are no canonical bytes.
    fn decode_key(bytes: &mut &[u8], last: bool) -> Option<Self>;

    /// Whether [`Record::decode_key_view`] works: not where a view is a reference to a plain record.
    const KEY_VIEWS: bool = true;

    /// As [`Record::decode_key`], borrowing from the bytes.
    fn decode_key_view<'a>(bytes: &mut &'a [u8], last: bool) -> Option<Self::View<'a>>;

    /// Appends bytes that order as the values do, ascending, and of which none is the start of another's.
    /// Nulls come first, NaN after every number, and −0.0 equals 0.0.
    fn encode_normalized(view: Self::View<'_>, out: &mut Vec<u8>);

    /// [`Record::encode_normalized`] of a view that is not null, without what tells it from null.
    fn encode_normalized_present(view: Self::View<'_>, out: &mut Vec<u8>) {
        Self::encode_normalized(view, out);
    }
}

/// An integer of at most 64 bits as its bytes lie in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Integer {
    /// Its bytes: 1, 2, 4 or 8.
    pub width: u8,
    /// Whether it is signed.
    pub signed: bool,
}

/// The bit that makes signed integers of `R` compare as unsigned ones, where they are signed.
#[inline(always)]
fn sign_of<R: Record>() -> u64 {
    match R::INTEGER {
        Some(integer) if integer.signed => 1 << 63,
        _ => 0,
    }
}

/// Checks bytes that were not written here: whether they are exactly one row of `R`, so that
/// [`Record::read_row`] will not panic on them.
///
/// # Errors
/// `Corrupt`, saying what is wrong.
pub fn validate_row<R: Record>(bytes: &[u8]) -> Result<()> {
    let part = row_part_at::<R>();
    let least = if R::VARIES {
        round_up(part + R::SIZE, MAX_ALIGN)
    } else {
        R::STRIDE
    };
    let fault = |what: String| Err(Error::corrupt(what).within(format!("row of {}", R::schema().name)));
    if bytes.len() < least {
        return fault(format!(
            "{} B is shorter than {least} B, the least a row has",
            bytes.len()
        ));
    }
    if R::VARIES {
        let size = u32::from_le_bytes(take(bytes, 0)) as usize;
        if size != bytes.len() || !size.is_multiple_of(MAX_ALIGN) || size > layout::MAX_ROW_SIZE {
            return fault(format!(
                "says it has {size} B where there are {}; sizes are multiples of 8 up to 128 MiB",
                bytes.len()
            ));
        }
    } else if bytes.len() != R::STRIDE {
        return fault(format!(
            "{} B is not {} B, the size of every row",
            bytes.len(),
            R::STRIDE
        ));
    }
    if !bytes.as_ptr().addr().is_multiple_of(R::ROW_ALIGN) {
        return fault(format!(
            "starts at an address that is no multiple of {}",
            R::ROW_ALIGN
        ));
    }
    R::validate_part(bytes, part).map_err(|error| error.within(format!("row of {}", R::schema().name)))
}

/// Where the fixed part starts in a row of `R`.
#[inline(always)]
pub const fn row_part_at<R: Record>() -> usize {
    layout::part_at(R::ALIGN, R::VARIES)
}

/// What a field of type `T` takes in the record that holds it.
pub const fn slot<T: Record>() -> Slot {
    Slot {
        size: T::SLOT_SIZE,
        align: T::ALIGN,
        nullable: T::NULLABLE,
    }
}

/// The `N` bytes at `row[at..]`.
#[inline(always)]
pub(crate) fn take<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    *row[at..]
        .first_chunk::<N>()
        .expect("a row holds its whole fixed part")
}

/// Writes `bytes` at `row[at..]`.
#[inline(always)]
pub(crate) fn put<const N: usize>(row: &mut [u8], at: usize, bytes: [u8; N]) {
    *row[at..]
        .first_chunk_mut::<N>()
        .expect("a row has room for its whole fixed part") = bytes;
}

/// Writes zeros from `start` up to `end`.
#[inline(always)]
pub fn pad(row: &mut [u8], start: usize, end: usize) {
    if start < end {
        row[start..end].fill(0);
    }
}

/// Whether bit `bit` of the row, counted from its start, is set.
#[inline(always)]
pub fn null_bit(row: &[u8], bit: usize) -> bool {
    row[bit / 8] & (1 << (bit % 8)) != 0
}

/// Sets bit `bit` of the row.
#[inline(always)]
pub fn set_null_bit(row: &mut [u8], bit: usize) {
    row[bit / 8] |= 1 << (bit % 8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<R: Record + PartialEq + std::fmt::Debug>(value: R) -> Vec<u8> {
        // Unaligned on purpose, and dirty, so that a byte that is not written shows.
        let size = R::row_size(value.view());
        let mut bytes = vec![0xaa; size + 1];
        R::write_row(value.view(), &mut bytes[1..]);
        assert_eq!(R::row_size_at(&bytes[1..]), size);
        assert_eq!(R::from_view(R::read_row(&bytes[1..])), value);
        validate_row::<R>(&bytes[1..]).expect("a written row is valid");
        let mut again = vec![0x55; size];
        R::write_row(value.view(), &mut again);
        assert_eq!(again, bytes[1..], "every byte is written");
        again
    }

    #[test]
    fn rows_round_trip() {
        assert_eq!(round_trip(0x0102_u16), [2, 1]);
        assert_eq!(round_trip(()), [0]);
        assert_eq!(round_trip(Some(7_u32)), [7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(round_trip(None::<u32>), [0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(round_trip((1_u64, 2_u8)).len(), 16);
        round_trip((true, -1_i128, 0.5_f64, [1_u16, 2, 3]));
        round_trip([Some(1_u8), None, Some(3)]);
        round_trip((
            None::<String>,
            String::new(),
            Some(String::from("naïve")),
            vec![0_u8; 300],
        ));
        round_trip((
            vec![1_u8],
            (String::from("inner"), Some((1_u64, String::from("deep")))),
        ));
    }

    #[test]
    fn a_string_row_lies_as_documented() {
        let row = round_trip((7_u64, String::from("seven")));
        assert_eq!(row.len(), 40);
        assert_eq!(row[..4], 40_u32.to_le_bytes());
        assert_eq!(row[8..16], 7_u64.to_le_bytes());
        assert_eq!(row[16..28], *b"\x20\0\0\0\x05\0\0\0seve");
        assert_eq!(row[32..37], *b"seven");
    }

    #[test]
    fn schemas_say_where_fields_lie() {
        let schema = <(u64, Option<String>)>::schema();
        assert_eq!(
            (schema.name.as_str(), schema.stride),
            ("(u64, option<string>)", 0)
        );
        assert_eq!((schema.fields[0].offset, schema.fields[1].offset), (8, 16));
        assert_eq!(
            (schema.fields[1].nullable, schema.fields[1].null_bit),
            (true, 28 * 8)
        );
        assert!(std::ptr::eq(schema, <(u64, Option<String>)>::schema()));
        assert_eq!(Option::<u32>::schema().fields[0].null_bit, 32);
    }
}
