//! Normalized keys: bytes that compare as the fields they were made from, so that sorting compares bytes.
//!
//! # Interface
//! An order is a field (ascending, nulls first), a field with [`Field::descending`] or [`Order::nulls_last`],
//! or a tuple of these. [`SortFields::encode_normalized`] makes the whole key, [`SortFields::prefix`] its
//! first eight bytes as an integer.
//!
//! # Layout
//! One piece per field, one after the other, none the start of another for the same field:
//! ```text
//! nullable fields   one byte: 1 before a value; for null 0 (nulls first) or 2 (nulls last), and nothing else
//! unsigned          big-endian
//! signed, times     sign bit flipped, big-endian
//! floats            negative: all bits inverted; others: sign bit set; big-endian; every NaN as the largest
//! strings, bytes    each 0x00 followed by 0xff; 0x00 0x00 at the end
//! bool, enum tag    one byte
//! decimal           see `decimal`
//! arrays, records   their parts
//! ```
//! Descending inverts every byte of the value, and not the byte for null. Inside arrays, records and options
//! of options, nulls come first (last where the whole field is descending).
//!
//! # Invariants
//! I1. Bytes compare as values do; tested for every type in `engine/tests/record_keys.rs`.

use forebay_memory::sort::{ColumnKind, KeyColumn};
use std::fmt;

use super::field::Field;
use super::row::Record;

/// A field with a direction and a place for nulls.
pub struct Order<R: Record, T: Record> {
    field: Field<R, T>,
    descending: bool,
    nulls_last: bool,
}

impl<R: Record, T: Record> Clone for Order<R, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Record, T: Record> Copy for Order<R, T> {}

impl<R: Record, T: Record> Field<R, T> {
    /// The order by this field, smallest first, nulls first.
    pub const fn ascending(self) -> Order<R, T> {
        Order {
            field: self,
            descending: false,
            nulls_last: false,
        }
    }

    /// The order by this field, largest first, nulls first.
    pub const fn descending(self) -> Order<R, T> {
        Order {
            field: self,
            descending: true,
            nulls_last: false,
        }
    }
}

impl<R: Record, T: Record> Order<R, T> {
    /// The same order with nulls after every value.
    pub const fn nulls_last(self) -> Self {
        Order {
            nulls_last: true,
            ..self
        }
    }
}

/// Fields of `R` that give an order.
///
/// ```
/// use forebay::record::{Record, SortFields, first, second};
///
/// type Score = (String, i64);
/// let order = (second::<Score>().descending(), first::<Score>());
/// let bytes = |name, points| {
///     let mut out = Vec::new();
///     order.encode_normalized((name, points), &mut out);
///     out
/// };
/// assert!(bytes("ann", 7) < bytes("bob", 7) && bytes("bob", 7) < bytes("ann", -1));
/// ```
pub trait SortFields<R: Record>: Copy + Send + Sync + fmt::Debug + 'static {
    /// Appends the normalized key of a view.
    fn encode_normalized(&self, view: R::View<'_>, out: &mut Vec<u8>);

    /// The first eight bytes of the normalized key as an integer that compares as they do, and whether they
    /// decide: whether records whose prefixes are equal, one of them with this flag, are equal in order.
    #[inline]
    fn prefix(&self, view: R::View<'_>, scratch: &mut Vec<u8>) -> (u64, bool) {
        scratch.clear();
        self.encode_normalized(view, scratch);
        prefix_of(scratch)
    }

    /// The parts of every row that the order is by, where they are compared as they lie there: integers (or `bool`, timestamps, dates)
    /// of up to 64 bits, arrays of bytes, strings and bytes, none of which can be null.
    fn key_columns(&self) -> Option<Vec<KeyColumn>> {
        None
    }

    /// The order in words, a field each: `price descending nulls last`.
    fn describe_order(&self) -> Vec<String>;

    /// The order, a field each: of two orders one of which begins with the other, rows in the first are in the second, too.
    fn order(&self) -> Vec<OrderPart>;
}

/// A field that an order is by, among those of its record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderPart {
    /// The field's number, and where its bytes and its null bit are: a record's first field and [`itself`](super::itself) differ
    /// in the last.
    field: (usize, usize, usize),
    descending: bool,
    nulls_last: bool,
}

/// The prefix of a normalized key, as [`SortFields::prefix`] gives it.
#[inline]
pub fn prefix_of(normalized: &[u8]) -> (u64, bool) {
    match normalized.first_chunk::<8>() {
        Some(bytes) => (u64::from_be_bytes(*bytes), normalized.len() == 8),
        None => {
            // Zeros may follow a shorter key, because none is the start of another.
            let mut bytes = [0; 8];
            bytes[..normalized.len()].copy_from_slice(normalized);
            (u64::from_be_bytes(bytes), true)
        }
    }
}

impl<R: Record, T: Record> SortFields<R> for Order<R, T> {
    #[inline]
    fn encode_normalized(&self, view: R::View<'_>, out: &mut Vec<u8>) {
        let value = self.field.get(view);
        if T::NULLABLE {
            if T::is_null(value) {
                out.push(if self.nulls_last { 2 } else { 0 });
                return;
            }
            out.push(1);
        }
        let start = out.len();
        T::encode_normalized_present(value, out);
        if self.descending {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    #[inline]
    fn prefix(&self, view: R::View<'_>, scratch: &mut Vec<u8>) -> (u64, bool) {
        let Some(integer) = T::INTEGER else {
            scratch.clear();
            self.encode_normalized(view, scratch);
            return prefix_of(scratch);
        };
        // The integer's own bits to the top, its sign flipped: what its big-endian bytes would read as.
        let unused = 64 - integer.width as u32 * 8;
        let bits = T::to_u64(self.field.get(view)) << unused ^ (integer.signed as u64) << 63;
        (
            if self.descending {
                !bits >> unused << unused
            } else {
                bits
            },
            true,
        )
    }

    fn key_columns(&self) -> Option<Vec<KeyColumn>> {
        let (kind, width) = match (T::INTEGER, T::BYTE_ARRAY) {
            _ if T::NULLABLE => return None,
            (Some(integer), _) => {
                let signed = integer.signed;
                (ColumnKind::Integer { signed }, integer.width as usize)
            }
            (None, Some(size)) => (ColumnKind::Bytes, size),
            (None, None) if T::IS_BYTES => (ColumnKind::Text, 8),
            (None, None) => return None,
        };
        Some(vec![KeyColumn {
            offset: self.field.offset(),
            width,
            kind,
            descending: self.descending,
        }])
    }

    fn order(&self) -> Vec<OrderPart> {
        vec![OrderPart {
            field: self.field.place(),
            descending: self.descending,
            // Of a field that cannot be null it says nothing.
            nulls_last: self.nulls_last && T::NULLABLE,
        }]
    }

    fn describe_order(&self) -> Vec<String> {
        let direction = if self.descending { " descending" } else { "" };
        let nulls = if self.nulls_last { " nulls last" } else { "" };
        vec![format!("{}{direction}{nulls}", self.field.label())]
    }
}

impl<R: Record, T: Record> SortFields<R> for Field<R, T> {
    #[inline]
    fn encode_normalized(&self, view: R::View<'_>, out: &mut Vec<u8>) {
        self.ascending().encode_normalized(view, out);
    }

    #[inline]
    fn prefix(&self, view: R::View<'_>, scratch: &mut Vec<u8>) -> (u64, bool) {
        self.ascending().prefix(view, scratch)
    }

    fn key_columns(&self) -> Option<Vec<KeyColumn>> {
        self.ascending().key_columns()
    }

    fn describe_order(&self) -> Vec<String> {
        self.ascending().describe_order()
    }

    fn order(&self) -> Vec<OrderPart> {
        self.ascending().order()
    }
}

impl<R: Record, T: Record> fmt::Debug for Order<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", R::schema().name, self.describe_order().concat())
    }
}

macro_rules! tuple {
    ($($type:ident $index:tt),*) => {
        impl<R: Record, $($type: SortFields<R>),*> SortFields<R> for ($($type,)*) {
            #[inline]
            fn encode_normalized(&self, view: R::View<'_>, out: &mut Vec<u8>) {
                $(self.$index.encode_normalized(view, out);)*
            }

            fn key_columns(&self) -> Option<Vec<KeyColumn>> {
                let mut columns = Vec::new();
                $(columns.extend(self.$index.key_columns()?);)*
                Some(columns)
            }

            fn describe_order(&self) -> Vec<String> {
                let mut words = Vec::new();
                $(words.extend(self.$index.describe_order());)*
                words
            }

            fn order(&self) -> Vec<OrderPart> {
                let mut parts = Vec::new();
                $(parts.extend(self.$index.order());)*
                parts
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
