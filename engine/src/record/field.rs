//! [`Field`]: a field of a record type as a value, so that keys, orders and aggregates can be named and read
//! straight from rows.
//!
//! # Interface
//! The derive makes one constant per field, `Bid::auction`. Tuples have [`first`], [`second`], [`third`],
//! [`fourth`] and [`element`]; a record that is all key is [`itself`].

use std::fmt;
use std::marker::PhantomData;

use super::compound::TupleLayout;
use super::row::{Record, null_bit, row_part_at, take};

/// The field of `R` that holds a `T`.
pub struct Field<R: Record, T: Record> {
    name: &'static str,
    index: usize,
    offset: usize,
    null_bit: usize,
    get: Getter<R, T>,
}

/// Reads a field from a view. The second argument is there to bind the lifetime.
type Getter<R, T> = for<'a> fn(<R as Record>::View<'a>, PhantomData<&'a ()>) -> <T as Record>::View<'a>;

/// How a field's view is taken from its record's view. (A trait and not a function, because the compiler does
/// not see that functions on views are of the one type that [`Field`] keeps.)
pub trait Project<R: Record, T: Record> {
    /// The field of a view.
    fn project<'a>(view: R::View<'a>) -> T::View<'a>;
}

impl<R: Record, T: Record> Clone for Field<R, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Record, T: Record> Copy for Field<R, T> {}

impl<R: Record, T: Record> Field<R, T> {
    /// The field named `name`, number `index`, whose bytes and null bit (in bits) are at these offsets from
    /// the start of the fixed part of `R`. The derive calls this.
    pub const fn new<P: Project<R, T>>(
        name: &'static str,
        index: usize,
        offset: usize,
        null_bit: usize,
    ) -> Self {
        fn get<'a, R: Record, T: Record, P: Project<R, T>>(
            view: R::View<'a>,
            _: PhantomData<&'a ()>,
        ) -> T::View<'a> {
            P::project(view)
        }
        let part = row_part_at::<R>();
        Field {
            name,
            index,
            offset: part + offset,
            null_bit: part * 8 + null_bit,
            get: get::<R, T, P>,
        }
    }

    /// The field's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The name as plans and messages say it: elements of tuples as `.0`, `.1`, so that they are no numbers.
    pub(crate) fn label(&self) -> String {
        match self.name.starts_with(|first: char| first.is_ascii_digit()) {
            true => format!(".{}", self.name),
            false => self.name.to_string(),
        }
    }

    /// The field's number in the schema.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Where its bytes start in a row.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Its number, and where its bytes and its null bit are: what tells it from other fields of `R`.
    pub(super) const fn place(&self) -> (usize, usize, usize) {
        (self.index, self.offset, self.null_bit)
    }

    /// The field of a view.
    #[inline(always)]
    pub fn get<'a>(&self, view: R::View<'a>) -> T::View<'a> {
        (self.get)(view, PhantomData)
    }

    /// The field of a row, without reading the rest of it.
    #[inline(always)]
    pub fn read<'a>(&self, row: &'a [u8]) -> T::View<'a> {
        T::read_slot(row, self.offset, T::NULLABLE && null_bit(row, self.null_bit))
    }

    /// Where its integer lies in every row, if it is an integer (or `bool`, timestamp, date) of up to 64 bits
    /// that cannot be null. Rows that vary in size have it at the same offset.
    pub const fn integer_layout(&self) -> Option<IntegerColumn> {
        match T::INTEGER {
            Some(integer) => Some(IntegerColumn {
                offset: self.offset,
                width: integer.width,
                signed: integer.signed,
            }),
            None => None,
        }
    }

    /// Where the place of its bytes lies in every row, if it is a string or bytes that cannot be null.
    pub const fn bytes_layout(&self) -> Option<BytesColumn> {
        if T::IS_BYTES {
            Some(BytesColumn { offset: self.offset })
        } else {
            None
        }
    }
}

impl<R: Record, T: Record> fmt::Debug for Field<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", R::schema().name, self.name)
    }
}

/// Where an integer of up to 64 bits lies in every row of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IntegerColumn {
    /// Its offset from the row's start.
    pub offset: usize,
    /// Its bytes: 1, 2, 4 or 8.
    pub width: u8,
    /// Whether it is signed.
    pub signed: bool,
}

impl IntegerColumn {
    /// Writes the integer of a row: the low bytes of `bits`.
    ///
    /// # Panics
    /// When the row ends before it.
    #[inline(always)]
    pub fn write(self, row: &mut [u8], bits: u64) {
        let bytes = bits.to_le_bytes();
        let at = &mut row[self.offset..];
        match self.width {
            8 => at[..8].copy_from_slice(&bytes),
            4 => at[..4].copy_from_slice(&bytes[..4]),
            2 => at[..2].copy_from_slice(&bytes[..2]),
            _ => at[0] = bytes[0],
        }
    }

    /// The integer of a row, extended to 64 bits by its sign if it is signed.
    ///
    /// # Panics
    /// When the row ends before it.
    #[inline(always)]
    pub fn read(self, row: &[u8]) -> u64 {
        let at = self.offset;
        match (self.width, self.signed) {
            (8, _) => u64::from_le_bytes(take(row, at)),
            (4, false) => u32::from_le_bytes(take(row, at)) as u64,
            (4, true) => i32::from_le_bytes(take(row, at)) as u64,
            (2, false) => u16::from_le_bytes(take(row, at)) as u64,
            (2, true) => i16::from_le_bytes(take(row, at)) as u64,
            (_, false) => row[at] as u64,
            (_, true) => row[at] as i8 as u64,
        }
    }
}

/// Where a string or bytes say, in every row of a type, which part of the row they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BytesColumn {
    /// The offset, from the row's start, of the two words that say it.
    pub offset: usize,
}

impl BytesColumn {
    /// Where the bytes start in a row and how many they are, without looking at them.
    ///
    /// # Panics
    /// When the row ends before it says that.
    #[inline(always)]
    pub fn place(self, row: &[u8]) -> (usize, usize) {
        let word = u64::from_le_bytes(take(row, self.offset));
        (word as u32 as usize, (word >> 32) as usize)
    }
}

/// The record itself as its only field: for streams of numbers or strings, and for `distinct`.
pub const fn itself<R: Record>() -> Field<R, R> {
    struct Itself;
    impl<R: Record> Project<R, R> for Itself {
        #[inline(always)]
        fn project<'a>(view: R::View<'a>) -> R::View<'a> {
            view
        }
    }
    Field::new::<Itself>("value", 0, 0, R::SLOT_SIZE * 8)
}

/// A tuple with an element number `INDEX`.
pub trait TupleRecord<const INDEX: usize>: Record {
    /// The type of that element.
    type Element: Record;

    /// The element's name, and where its bytes and its null bit are in the fixed part.
    const PLACE: (&'static str, usize, usize);

    /// That element of a view.
    fn element<'a>(view: Self::View<'a>) -> <Self::Element as Record>::View<'a>;
}

/// Element number `INDEX` of a tuple as a field: `element::<4, _>()`.
pub const fn element<const INDEX: usize, R: TupleRecord<INDEX>>() -> Field<R, R::Element> {
    struct Element<const INDEX: usize>;
    impl<const INDEX: usize, R: TupleRecord<INDEX>> Project<R, R::Element> for Element<INDEX> {
        #[inline(always)]
        fn project<'a>(view: R::View<'a>) -> <R::Element as Record>::View<'a> {
            R::element(view)
        }
    }
    let (name, offset, null_bit) = R::PLACE;
    Field::new::<Element<INDEX>>(name, INDEX, offset, null_bit)
}

/// The first element of a tuple as a field.
///
/// ```
/// use forebay::record::{KeyFields, Record, first, second};
///
/// // As `key_by` of a stream does, which knows its records' type:
/// fn key_of<R: Record, K: KeyFields<R>>(record: R, key: K) -> K::Key {
///     key.key(record.view())
/// }
///
/// assert_eq!(key_of((7_u64, String::from("seven")), first()), 7);
/// assert_eq!(key_of((7_u64, String::from("seven")), (second(), first())), ("seven".to_string(), 7));
/// ```
pub const fn first<R: TupleRecord<0>>() -> Field<R, R::Element> {
    element::<0, R>()
}

/// The second element of a tuple as a field.
pub const fn second<R: TupleRecord<1>>() -> Field<R, R::Element> {
    element::<1, R>()
}

/// The third element of a tuple as a field.
pub const fn third<R: TupleRecord<2>>() -> Field<R, R::Element> {
    element::<2, R>()
}

/// The fourth element of a tuple as a field.
pub const fn fourth<R: TupleRecord<3>>() -> Field<R, R::Element> {
    element::<3, R>()
}

macro_rules! element {
    ($index:tt $element:ident of $($type:ident)*) => {
        impl<$($type: Record),*> TupleRecord<$index> for ($($type,)*) {
            type Element = $element;
            const PLACE: (&'static str, usize, usize) = {
                let layout = TupleLayout::<Self>::LAYOUT;
                (stringify!($index), layout.offsets[$index], layout.null_bits[$index])
            };

            #[inline(always)]
            fn element<'a>(view: Self::View<'a>) -> $element::View<'a> {
                view.$index
            }
        }
    };
}

macro_rules! elements {
    ($($index:tt $type:ident)*) => {
        elements!(@each [$($index $type)*] [$($type)*]);
    };
    (@each [$($index:tt $type:ident)*] $all:tt) => {
        $(elements!(@one $index $type $all);)*
    };
    (@one $index:tt $element:ident [$($type:ident)*]) => {
        element!($index $element of $($type)*);
    };
}

elements!(0 A);
elements!(0 A 1 B);
elements!(0 A 1 B 2 C);
elements!(0 A 1 B 2 C 3 D);
elements!(0 A 1 B 2 C 3 D 4 E);
elements!(0 A 1 B 2 C 3 D 4 E 5 F);
elements!(0 A 1 B 2 C 3 D 4 E 5 F 6 G);
elements!(0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H);

#[cfg(test)]
mod tests {
    use super::*;

    type Mixed = (u8, i32, Option<String>, bool);

    fn row(value: &Mixed) -> Vec<u8> {
        let mut row = vec![0; Mixed::row_size(value.view())];
        Mixed::write_row(value.view(), &mut row);
        row
    }

    #[test]
    fn fields_read_views_and_rows_alike() {
        for text in [None, Some("x".to_string())] {
            let value: Mixed = (9, -5, text, true);
            let row = row(&value);
            assert_eq!(second::<Mixed>().get(value.view()), -5);
            assert_eq!(second::<Mixed>().read(&row), -5);
            assert_eq!(third::<Mixed>().read(&row), value.2.as_deref());
            assert!(element::<3, Mixed>().read(&row));
            assert_eq!(itself::<Mixed>().read(&row), value.view());
        }
    }

    #[test]
    fn integer_columns_extend_by_their_sign() {
        let row = row(&(200, -5, None, true));
        let column = |layout: Option<IntegerColumn>| layout.expect("an integer").read(&row);
        assert_eq!(column(first::<Mixed>().integer_layout()), 200);
        assert_eq!(column(second::<Mixed>().integer_layout()), -5_i64 as u64);
        assert_eq!(column(fourth::<Mixed>().integer_layout()), 1);
        assert_eq!(third::<Mixed>().integer_layout(), None);
        let narrow = IntegerColumn {
            offset: 0,
            width: 1,
            signed: true,
        };
        assert_eq!(narrow.read(&[0xff]), u64::MAX);
        assert_eq!(
            IntegerColumn { width: 2, ..narrow }.read(&[0xfe, 0xff]),
            -2_i64 as u64
        );
    }

    #[test]
    fn a_nullable_record_is_its_own_field() {
        for value in [None, Some(3_u64)] {
            let mut row = [0xff; 16];
            Option::<u64>::write_row(value, &mut row);
            assert_eq!(itself::<Option<u64>>().read(&row), value);
        }
    }
}
