//! How `Option`, arrays and tuples of records lie in rows and keys.
//!
//! # Layout
//! A tuple lies as a struct with the same fields. An array's elements lie one after the other, then a null
//! bit for each where they are nullable. An `Option` alone is a struct of one nullable field; null is zeros.
//! In keys and normalized keys a byte tells null (0) from a value (1, followed by it).

use std::array;

use forebay_memory::{Error, Result};

use super::layout::{Layout, layout, round_up};
use super::numbers::split;
use super::row::{Record, null_bit, pad, set_null_bit, slot};
use super::schema::{DataType, FieldInfo, RecordType};

impl<T: Record> Record for Option<T> {
    type View<'a> = Option<T::View<'a>>;
    const SIZE: usize = round_up(T::SIZE + 1, T::ALIGN);
    const ALIGN: usize = T::ALIGN;
    const VARIES: bool = T::VARIES;
    const ROW_ALIGN: usize = T::ROW_ALIGN;
    const NULLABLE: bool = true;
    const SLOT_SIZE: usize = T::SIZE;
    const KEY_VIEWS: bool = T::KEY_VIEWS;

    fn data_type() -> DataType {
        DataType::Option(Box::new(T::data_type()))
    }

    #[inline(always)]
    fn view(&self) -> Option<T::View<'_>> {
        self.as_ref().map(T::view)
    }

    #[inline]
    fn from_view(view: Option<T::View<'_>>) -> Self {
        view.map(T::from_view)
    }

    #[inline(always)]
    fn shorten<'long: 'short, 'short>(view: Option<T::View<'long>>) -> Option<T::View<'short>> {
        view.map(T::shorten)
    }

    #[inline(always)]
    fn tail_after(view: Option<T::View<'_>>, tail: usize) -> usize {
        match view {
            Some(value) => T::tail_after(value, tail),
            None => tail,
        }
    }

    #[inline(always)]
    fn write_part(view: Option<T::View<'_>>, row: &mut [u8], at: usize, tail: usize) -> usize {
        pad(row, at + T::SIZE, at + Self::SIZE);
        if view.is_none() {
            set_null_bit(row, (at + T::SIZE) * 8);
        }
        Self::write_slot(view, row, at, tail)
    }

    #[inline(always)]
    fn read_part(row: &[u8], at: usize) -> Option<T::View<'_>> {
        Self::read_slot(row, at, null_bit(row, (at + T::SIZE) * 8))
    }

    fn validate_part(row: &[u8], at: usize) -> Result<()> {
        Self::validate_slot(row, at, null_bit(row, (at + T::SIZE) * 8))
    }

    #[inline(always)]
    fn is_null(view: Option<T::View<'_>>) -> bool {
        view.is_none()
    }

    #[inline(always)]
    fn write_slot(view: Option<T::View<'_>>, row: &mut [u8], at: usize, tail: usize) -> usize {
        match view {
            Some(value) => T::write_part(value, row, at, tail),
            None => {
                pad(row, at, at + T::SIZE);
                tail
            }
        }
    }

    #[inline(always)]
    fn read_slot(row: &[u8], at: usize, null: bool) -> Option<T::View<'_>> {
        if null { None } else { Some(T::read_part(row, at)) }
    }

    fn validate_slot(row: &[u8], at: usize, null: bool) -> Result<()> {
        if null { Ok(()) } else { T::validate_part(row, at) }
    }

    #[inline]
    fn encode_key(view: Option<T::View<'_>>, last: bool, out: &mut Vec<u8>) {
        out.push(view.is_some() as u8);
        if let Some(value) = view {
            T::encode_key(value, last, out);
        }
    }

    #[inline]
    fn decode_key(bytes: &mut &[u8], last: bool) -> Option<Self> {
        match split(bytes)? {
            [0] => Some(None),
            [1] => T::decode_key(bytes, last).map(Some),
            _ => None,
        }
    }

    #[inline]
    fn decode_key_view<'a>(bytes: &mut &'a [u8], last: bool) -> Option<Option<T::View<'a>>> {
        match split(bytes)? {
            [0] => Some(None),
            [1] => T::decode_key_view(bytes, last).map(Some),
            _ => None,
        }
    }

    #[inline]
    fn encode_normalized(view: Option<T::View<'_>>, out: &mut Vec<u8>) {
        out.push(view.is_some() as u8);
        if let Some(value) = view {
            T::encode_normalized(value, out);
        }
    }

    #[inline]
    fn encode_normalized_present(view: Option<T::View<'_>>, out: &mut Vec<u8>) {
        if let Some(value) = view {
            T::encode_normalized(value, out);
        }
    }
}

impl<T: Record, const N: usize> Record for [T; N] {
    type View<'a> = [T::View<'a>; N];
    const SIZE: usize = round_up(
        N * T::SLOT_SIZE + if T::NULLABLE { N.div_ceil(8) } else { 0 },
        T::ALIGN,
    );
    const ALIGN: usize = T::ALIGN;
    const VARIES: bool = T::VARIES;
    const ROW_ALIGN: usize = T::ROW_ALIGN;
    const KEY_VIEWS: bool = T::KEY_VIEWS;
    const KEY_SIZE: Option<usize> = match T::KEY_SIZE {
        Some(size) => Some(N * size),
        None => None,
    };
    const BYTE_ARRAY: Option<usize> = match T::INTEGER {
        Some(integer) if integer.width == 1 && !integer.signed && !T::NULLABLE => Some(N),
        _ => None,
    };

    fn data_type() -> DataType {
        DataType::Array(Box::new(T::data_type()), N)
    }

    #[inline(always)]
    fn view(&self) -> Self::View<'_> {
        array::from_fn(|index| self[index].view())
    }

    #[inline]
    fn from_view(view: Self::View<'_>) -> Self {
        view.map(T::from_view)
    }

    #[inline(always)]
    fn shorten<'long: 'short, 'short>(view: Self::View<'long>) -> Self::View<'short> {
        view.map(T::shorten)
    }

    #[inline(always)]
    fn tail_after(view: Self::View<'_>, tail: usize) -> usize {
        view.into_iter()
            .fold(tail, |tail, value| T::tail_after(value, tail))
    }

    #[inline(always)]
    fn write_part(view: Self::View<'_>, row: &mut [u8], at: usize, mut tail: usize) -> usize {
        let nulls = at + N * T::SLOT_SIZE;
        pad(row, nulls, at + Self::SIZE);
        for (index, value) in view.into_iter().enumerate() {
            tail = T::write_slot(value, row, at + index * T::SLOT_SIZE, tail);
            if T::NULLABLE && T::is_null(value) {
                set_null_bit(row, nulls * 8 + index);
            }
        }
        tail
    }

    #[inline(always)]
    fn read_part(row: &[u8], at: usize) -> Self::View<'_> {
        array::from_fn(|index| {
            let null = T::NULLABLE && null_bit(row, (at + N * T::SLOT_SIZE) * 8 + index);
            T::read_slot(row, at + index * T::SLOT_SIZE, null)
        })
    }

    fn validate_part(row: &[u8], at: usize) -> Result<()> {
        (0..N).try_for_each(|index| {
            let null = T::NULLABLE && null_bit(row, (at + N * T::SLOT_SIZE) * 8 + index);
            T::validate_slot(row, at + index * T::SLOT_SIZE, null)
        })
    }

    #[inline]
    fn encode_key(view: Self::View<'_>, last: bool, out: &mut Vec<u8>) {
        for (index, value) in view.into_iter().enumerate() {
            T::encode_key(value, last && index + 1 == N, out);
        }
    }

    #[inline]
    fn decode_key(bytes: &mut &[u8], last: bool) -> Option<Self> {
        let mut found = [const { None }; N];
        for (index, place) in found.iter_mut().enumerate() {
            *place = Some(T::decode_key(bytes, last && index + 1 == N)?);
        }
        Some(found.map(|value| value.expect("every element was decoded")))
    }

    #[inline]
    fn decode_key_view<'a>(bytes: &mut &'a [u8], last: bool) -> Option<Self::View<'a>> {
        let mut found = [const { None }; N];
        for (index, place) in found.iter_mut().enumerate() {
            *place = Some(T::decode_key_view(bytes, last && index + 1 == N)?);
        }
        Some(found.map(|value| value.expect("every element was decoded")))
    }

    #[inline]
    fn encode_normalized(view: Self::View<'_>, out: &mut Vec<u8>) {
        for value in view {
            T::encode_normalized(value, out);
        }
    }
}

/// The size of keys made of parts of these sizes, if it is fixed.
pub const fn key_size(parts: &[Option<usize>]) -> Option<usize> {
    let mut size = 0;
    let mut index = 0;
    while index < parts.len() {
        match parts[index] {
            Some(part) => size += part,
            None => return None,
        }
        index += 1;
    }
    Some(size)
}

/// The largest of `values`, 0 where there are none.
pub const fn largest(values: &[usize]) -> usize {
    let mut found = 0;
    let mut index = 0;
    while index < values.len() {
        if values[index] > found {
            found = values[index];
        }
        index += 1;
    }
    found
}

/// Carries the layout of a tuple, which a trait's constants cannot.
pub(crate) struct TupleLayout<T>(std::marker::PhantomData<T>);

macro_rules! tuple {
    ($count:literal: $($type:ident $index:tt),*) => {
        impl<$($type: Record),*> TupleLayout<($($type,)*)> {
            pub(crate) const LAYOUT: Layout<$count> = layout([$(slot::<$type>()),*]);
        }

        impl<$($type: Record),*> Record for ($($type,)*) {
            type View<'a> = ($($type::View<'a>,)*);
            const SIZE: usize = TupleLayout::<Self>::LAYOUT.size;
            const ALIGN: usize = TupleLayout::<Self>::LAYOUT.align;
            const VARIES: bool = false $(|| $type::VARIES)*;
            const ROW_ALIGN: usize = largest(&[$($type::ROW_ALIGN),*]);
            const KEY_VIEWS: bool = true $(&& $type::KEY_VIEWS)*;
            const KEY_SIZE: Option<usize> = key_size(&[$($type::KEY_SIZE),*]);

            fn data_type() -> DataType {
                let layout = TupleLayout::<Self>::LAYOUT;
                let fields = vec![$(FieldInfo {
                    name: stringify!($index).into(),
                    data_type: $type::data_type(),
                    offset: layout.offsets[$index],
                    nullable: $type::NULLABLE,
                    null_bit: layout.null_bits[$index],
                }),*];
                let names: Vec<_> = fields.iter().map(|field| field.data_type.to_string()).collect();
                DataType::Record(Box::new(RecordType { name: format!("({})", names.join(", ")), fields }))
            }

            #[inline(always)]
            fn view(&self) -> Self::View<'_> {
                ($(self.$index.view(),)*)
            }

            #[inline]
            fn from_view(view: Self::View<'_>) -> Self {
                ($($type::from_view(view.$index),)*)
            }

            #[inline(always)]
            fn shorten<'long: 'short, 'short>(view: Self::View<'long>) -> Self::View<'short> {
                ($($type::shorten(view.$index),)*)
            }

            #[inline(always)]
            fn tail_after(view: Self::View<'_>, tail: usize) -> usize {
                $(let tail = $type::tail_after(view.$index, tail);)*
                tail
            }

            #[inline(always)]
            fn write_part(view: Self::View<'_>, row: &mut [u8], at: usize, tail: usize) -> usize {
                let layout = const { TupleLayout::<Self>::LAYOUT };
                let end = 0;
                $(
                    pad(row, at + end, at + layout.offsets[$index]);
                    let tail = $type::write_slot(view.$index, row, at + layout.offsets[$index], tail);
                    let end = layout.offsets[$index] + $type::SLOT_SIZE;
                )*
                pad(row, at + end, at + layout.size);
                $(if $type::NULLABLE && $type::is_null(view.$index) {
                    set_null_bit(row, at * 8 + layout.null_bits[$index]);
                })*
                tail
            }

            #[inline(always)]
            fn read_part(row: &[u8], at: usize) -> Self::View<'_> {
                let layout = const { TupleLayout::<Self>::LAYOUT };
                ($($type::read_slot(
                    row,
                    at + layout.offsets[$index],
                    $type::NULLABLE && null_bit(row, at * 8 + layout.null_bits[$index]),
                ),)*)
            }

            fn validate_part(row: &[u8], at: usize) -> Result<()> {
                let layout = const { TupleLayout::<Self>::LAYOUT };
                $($type::validate_slot(
                    row,
                    at + layout.offsets[$index],
                    $type::NULLABLE && null_bit(row, at * 8 + layout.null_bits[$index]),
                ).map_err(|error: Error| error.within(stringify!($index)))?;)*
                Ok(())
            }

            #[inline]
            fn encode_key(view: Self::View<'_>, last: bool, out: &mut Vec<u8>) {
                $($type::encode_key(view.$index, last && $index + 1 == $count, out);)*
            }

            #[inline]
            fn decode_key(bytes: &mut &[u8], last: bool) -> Option<Self> {
                Some(($($type::decode_key(bytes, last && $index + 1 == $count)?,)*))
            }

            #[inline]
            fn decode_key_view<'a>(bytes: &mut &'a [u8], last: bool) -> Option<Self::View<'a>> {
                Some(($($type::decode_key_view(bytes, last && $index + 1 == $count)?,)*))
            }

            #[inline]
            fn encode_normalized(view: Self::View<'_>, out: &mut Vec<u8>) {
                $($type::encode_normalized(view.$index, out);)*
            }
        }
    };
}

tuple!(1: A 0);
tuple!(2: A 0, B 1);
tuple!(3: A 0, B 1, C 2);
tuple!(4: A 0, B 1, C 2, D 3);
tuple!(5: A 0, B 1, C 2, D 3, E 4);
tuple!(6: A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
