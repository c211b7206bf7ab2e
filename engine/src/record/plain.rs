//! [`PlainRecord`]: a type whose own bytes are its row, so that a batch of rows is a slice of it; and
//! [`AlignedRow`], for rows that lie where such a type cannot be read.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::row::Record;

/// Memory for a row whose address is not aligned as [`Record::ROW_ALIGN`] wants it: rows in batches are, rows
/// beside keys in tables and spilled blocks need not be.
#[derive(Debug, Clone, Default)]
pub struct AlignedRow(Vec<u64>);

impl AlignedRow {
    /// The row, or a copy of it where it cannot be read at its address.
    #[inline(always)]
    pub fn of<'a, R: Record>(&'a mut self, row: &'a [u8]) -> &'a [u8] {
        if R::ROW_ALIGN == 1 || row.as_ptr().addr().is_multiple_of(R::ROW_ALIGN) {
            row
        } else {
            self.copy(row)
        }
    }

    fn copy(&mut self, row: &[u8]) -> &[u8] {
        self.0.resize(row.len().div_ceil(8), 0);
        let copy = &mut self.0.as_mut_bytes()[..row.len()];
        copy.copy_from_slice(row);
        copy
    }
}

/// A record derived with `#[record(plain)]`.
///
/// ```
/// use forebay::record::{PlainRecord, Record};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
/// #[repr(C)]
/// #[record(plain)]
/// struct Sale {
///     shop: u64,
///     amount: i64,
/// }
///
/// let mut memory = [0_u64; 6]; // three rows, aligned
/// let rows = Sale::rows_mut(memory.as_mut_bytes());
/// rows[1] = Sale { shop: 7, amount: -5 };
/// assert_eq!(memory[2..4], [7, -5_i64 as u64]);
/// ```
pub trait PlainRecord:
    for<'a> Record<View<'a> = &'a Self> + Copy + FromBytes + IntoBytes + Immutable + KnownLayout
{
    /// The rows in `bytes`.
    ///
    /// # Panics
    /// When `bytes` is not a whole number of rows, or not aligned for `Self`; batches are.
    #[inline(always)]
    fn rows(bytes: &[u8]) -> &[Self] {
        match <[Self]>::ref_from_bytes(bytes) {
            Ok(rows) => rows,
            Err(_) => not_rows::<Self>(bytes),
        }
    }

    /// The rows in `bytes`, to be changed.
    ///
    /// # Panics
    /// As [`PlainRecord::rows`].
    #[inline(always)]
    fn rows_mut(bytes: &mut [u8]) -> &mut [Self] {
        assert!(
            bytes.as_ptr().addr().is_multiple_of(align_of::<Self>())
                && bytes.len().is_multiple_of(size_of::<Self>()),
            "rows of a plain record are whole and aligned"
        );
        <[Self]>::mut_from_bytes(bytes).expect("whole and aligned bytes are rows")
    }

    /// The row that is all of `bytes`, to be changed.
    ///
    /// # Panics
    /// As [`PlainRecord::rows`].
    #[inline(always)]
    fn row_mut(bytes: &mut [u8]) -> &mut Self {
        match Self::mut_from_bytes(bytes) {
            Ok(row) => row,
            Err(_) => panic!("a row of a plain record is whole and aligned"),
        }
    }

    /// The row in `bytes`, wherever they lie.
    ///
    /// # Panics
    /// When `bytes` is shorter than a row.
    #[inline(always)]
    fn copy_row(bytes: &[u8]) -> Self {
        match Self::read_from_prefix(bytes) {
            Ok((row, _)) => row,
            Err(_) => not_rows::<Self>(bytes),
        }
    }
}

#[cold]
fn not_rows<R: PlainRecord>(bytes: &[u8]) -> ! {
    panic!(
        "{} B at {:p} are not rows of {}: {} B each, aligned to {}",
        bytes.len(),
        bytes,
        R::schema().name,
        size_of::<R>(),
        align_of::<R>()
    )
}

/// The plain record at `row[at..]`.
#[inline(always)]
pub fn read_plain<R: PlainRecord>(row: &[u8], at: usize) -> &R {
    let bytes = &row[at..at + size_of::<R>()];
    match R::ref_from_bytes(bytes) {
        Ok(record) => record,
        Err(_) => not_rows::<R>(bytes),
    }
}

/// Writes the plain record at `row[at..]`.
#[inline(always)]
pub fn write_plain<R: PlainRecord>(record: &R, row: &mut [u8], at: usize) {
    row[at..at + size_of::<R>()].copy_from_slice(record.as_bytes());
}
