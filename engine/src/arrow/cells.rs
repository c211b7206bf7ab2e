//! Columns of a record batch as cells that can be put into rows, and which columns suit which fields.
//!
//! # Interface
//! [`Cells::bind`] fits an array to a node, or says why not; [`Cells::write`] puts a value into a row that is being built;
//! [`Cells::lane`] shows those that can be copied a whole column at a time.

use super::shape::{Element, Node, Shape, data_type_name};
use crate::record::layout::MAX_ROW_SIZE;
use crate::record::{RowBuilder, set_null_bit};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, i256};
use arrow_schema::{DataType as ArrowType, TimeUnit};

/// Why a value does not fit, and the column that it is in.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) path: String,
    pub(crate) what: String,
}

impl Misfit {
    #[cold]
    fn of(node: &Node, what: impl Into<String>) -> Misfit {
        Misfit {
            path: node.path.clone(),
            what: what.into(),
        }
    }

    #[cold]
    pub(super) fn null(node: &Node) -> Misfit {
        Misfit::of(
            node,
            format!(
                "null, but the field is no Option; make it Option<{}>",
                node.expected()
            ),
        )
    }
}

/// An array that suits a node.
pub(super) struct Cells {
    nulls: Option<NullBuffer>,
    /// Where the values are, for a dictionary's keys.
    keys: Option<Vec<usize>>,
    values: Values,
}

enum Values {
    /// As they lie in rows: so many bytes each.
    Lane(Buffer, usize),
    Bits(BooleanArray),
    /// Integers of another width or kind than the field's, whose values it can all have, or decimals for it.
    Integers(Integers, usize),
    /// Decimals, from integers or decimals of so many digits after the point.
    Decimals(Integers, u8),
    /// `f32` into `f64`.
    Floats(Float32Array),
    /// Timestamps, and how they become milliseconds.
    Times(Buffer, TimeUnit),
    /// Dates, in milliseconds.
    Days(Date64Array),
    Texts(Texts),
    Record(Vec<Cells>),
    Array(Lists, Box<Cells>, usize),
    List(Lists, Box<Cells>),
    Nothing,
}

enum Integers {
    I8(Int8Array),
    I16(Int16Array),
    I32(Int32Array),
    I64(Int64Array),
    U8(UInt8Array),
    U16(UInt16Array),
    U32(UInt32Array),
    U64(UInt64Array),
    I128(Decimal128Array),
    I256(Decimal256Array),
}

enum Texts {
    Small(Buffer, OffsetBuffer<i32>),
    Large(Buffer, OffsetBuffer<i64>),
    View(BinaryViewArray),
    Fixed(FixedSizeBinaryArray),
}

/// Where the elements of each list are.
enum Lists {
    Fixed(usize),
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
}

impl Cells {
    /// Whether arrays of this type suit a node; in words why not.
    pub(super) fn check(node: &Node, found: &ArrowType) -> Result<(), Misfit> {
        let unsuited = || {
            Err(Misfit::of(
                node,
                format!(
                    "it is of type {}, and the field of type {}",
                    data_type_name(found),
                    node.expected()
                ),
            ))
        };
        use ArrowType as A;
        let suits = match (&node.shape, found) {
            (_, A::Dictionary(_, value)) => return Cells::check(node, value).or_else(|_| unsuited()),
            // Nothing but nulls.
            (_, A::Null) => node.is_nullable,
            (Shape::Bool, A::Boolean) => true,
            (Shape::Unsigned(bits), found) => match integer_bits(found) {
                Some((of, signed)) => !signed && of <= *bits,
                None => *bits == 128 && is_whole_decimal(found),
            },
            (Shape::Signed(bits), found) => match integer_bits(found) {
                Some((of, signed)) => of < *bits || (signed && of == *bits),
                None => *bits == 128 && is_whole_decimal(found),
            },
            (Shape::Float(bits), A::Float32) => *bits >= 32,
            (Shape::Float(bits), A::Float64) => *bits == 64,
            (Shape::Timestamp, A::Timestamp(_, _)) => true,
            (Shape::Date, A::Date32 | A::Date64) => true,
            (Shape::Decimal, A::Decimal128(_, scale) | A::Decimal256(_, scale)) => (0..=38).contains(scale),
            (Shape::Decimal, found) => integer_bits(found).is_some(),
            (Shape::String, A::Utf8 | A::LargeUtf8 | A::Utf8View) => true,
            (
                Shape::Bytes,
                A::Utf8
                | A::LargeUtf8
                | A::Utf8View
                | A::Binary
                | A::LargeBinary
                | A::BinaryView
                | A::FixedSizeBinary(_),
            ) => true,
            (Shape::FixedBytes(size), A::FixedSizeBinary(found)) => usize::try_from(*found) == Ok(*size),
            (Shape::Record(nodes), A::Struct(fields)) => {
                for node in nodes {
                    match fields.iter().find(|field| *field.name() == node.name) {
                        Some(field) => Cells::check(node, field.data_type())?,
                        None => {
                            return Err(Misfit::of(
                                node,
                                format!("there is no such column in {}", data_type_name(found)),
                            ));
                        }
                    }
                }
                true
            }
            (Shape::Array(element, count), A::FixedSizeList(field, found))
                if usize::try_from(*found) == Ok(*count) =>
            {
                return Cells::check(element, field.data_type());
            }
            (Shape::Array(element, _), A::List(field) | A::LargeList(field)) => {
                return Cells::check(element, field.data_type());
            }
            (Shape::List(element), A::List(field) | A::LargeList(field) | A::FixedSizeList(field, _)) => {
                return Cells::check(&element.node, field.data_type());
            }
            _ => false,
        };
        match suits {
            true => Ok(()),
            false => unsuited(),
        }
    }

    /// The cells of an array whose type [`Cells::check`] has found to suit the node.
    pub(super) fn bind(node: &Node, array: &dyn Array) -> Cells {
        use ArrowType as A;
        if let A::Dictionary(_, _) = array.data_type() {
            let dictionary = array.as_any_dictionary();
            let inner = Cells::bind(node, dictionary.values());
            // Values that are null make their keys null; what a null key says is nowhere looked at.
            return Cells {
                nulls: array.logical_nulls().filter(|nulls| nulls.null_count() > 0),
                keys: match dictionary.values().is_empty() {
                    true => None,
                    false => Some(dictionary.normalized_keys()),
                },
                values: inner.values,
            };
        }
        let integers = || match array.data_type() {
            A::Int8 => Integers::I8(array.as_primitive().clone()),
            A::Int16 => Integers::I16(array.as_primitive().clone()),
            A::Int32 => Integers::I32(array.as_primitive().clone()),
            A::Int64 => Integers::I64(array.as_primitive().clone()),
            A::UInt8 => Integers::U8(array.as_primitive().clone()),
            A::UInt16 => Integers::U16(array.as_primitive().clone()),
            A::UInt32 => Integers::U32(array.as_primitive().clone()),
            A::UInt64 => Integers::U64(array.as_primitive().clone()),
            A::Decimal128(_, _) => Integers::I128(array.as_primitive().clone()),
            A::Decimal256(_, _) => Integers::I256(array.as_primitive().clone()),
            other => unreachable!("{other} was checked to be an integer or a decimal"),
        };
        let values = match (&node.shape, array.data_type()) {
            (_, A::Null) => Values::Nothing,
            (Shape::Bool, _) => Values::Bits(array.as_boolean().clone()),
            (Shape::Unsigned(bits) | Shape::Signed(bits), found) => {
                let signed = matches!(node.shape, Shape::Signed(_));
                match integer_bits(found) == Some((*bits, signed)) {
                    true => lane(array, usize::from(*bits) / 8),
                    false => Values::Integers(integers(), usize::from(*bits) / 8),
                }
            }
            (Shape::Float(64), A::Float32) => Values::Floats(array.as_primitive().clone()),
            (Shape::Float(bits), _) => lane(array, usize::from(*bits) / 8),
            (Shape::Timestamp, A::Timestamp(unit, _)) => match (unit, lane(array, 8)) {
                (TimeUnit::Millisecond, lane) => lane,
                (_, Values::Lane(buffer, _)) => Values::Times(buffer, *unit),
                _ => unreachable!("timestamps are primitive"),
            },
            (Shape::Timestamp, found) => unreachable!("{found} was checked to be a timestamp"),
            (Shape::Date, A::Date64) => Values::Days(array.as_primitive().clone()),
            (Shape::Date, _) => lane(array, 4),
            (Shape::Decimal, A::Decimal128(_, scale) | A::Decimal256(_, scale)) => {
                Values::Decimals(integers(), *scale as u8)
            }
            (Shape::Decimal, _) => Values::Decimals(integers(), 0),
            (Shape::String | Shape::Bytes, found) => Values::Texts(match found {
                A::Utf8 => small(array.as_string::<i32>()),
                A::LargeUtf8 => large(array.as_string::<i64>()),
                A::Utf8View => Texts::View(array.as_string_view().clone().to_binary_view()),
                A::Binary => small(array.as_binary::<i32>()),
                A::LargeBinary => large(array.as_binary::<i64>()),
                A::BinaryView => Texts::View(array.as_binary_view().clone()),
                _ => Texts::Fixed(array.as_fixed_size_binary().clone()),
            }),
            (Shape::FixedBytes(size), _) => lane(array, *size),
            (Shape::Record(nodes), _) => {
                let array = array.as_struct();
                let column = |node: &Node| {
                    let column = array
                        .column_by_name(&node.name)
                        .expect("it was checked to be there");
                    Cells::bind(node, column)
                };
                Values::Record(nodes.iter().map(column).collect())
            }
            (Shape::Array(element, count), _) => {
                let (lists, elements) = elements(array);
                Values::Array(lists, Box::new(Cells::bind(element, &*elements)), *count)
            }
            (Shape::List(element), _) => {
                let (lists, elements) = elements(array);
                Values::List(lists, Box::new(Cells::bind(&element.node, &*elements)))
            }
        };
        Cells {
            nulls: array.logical_nulls().filter(|nulls| nulls.null_count() > 0),
            keys: None,
            values,
        }
    }

    /// Whether every value is there.
    pub(super) fn has_nulls(&self) -> bool {
        self.nulls.is_some()
    }

    #[inline]
    pub(super) fn is_null(&self, index: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(index))
    }

    /// The values as they lie in rows, and the bytes of each, where they do.
    pub(super) fn lane(&self) -> Option<(&[u8], usize)> {
        match &self.values {
            Values::Lane(buffer, width) if self.keys.is_none() => Some((buffer.as_slice(), *width)),
            _ => None,
        }
    }

    /// The values, where they are bits.
    pub(super) fn bits(&self) -> Option<&BooleanArray> {
        match &self.values {
            Values::Bits(array) if self.keys.is_none() => Some(array),
            _ => None,
        }
    }

    /// Whether these are records of which none is null, whose columns are cells by themselves.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.values, Values::Record(_)) && self.nulls.is_none() && self.keys.is_none()
    }

    /// The columns of records.
    pub(super) fn into_members(self) -> Vec<Cells> {
        match self.values {
            Values::Record(members) => members,
            _ => unreachable!("only records have members"),
        }
    }

    /// Puts value `index` into a row as the node's: `base` is where the fixed part of the record begins that it is in, `origin`
    /// where the row begins.
    pub(super) fn write(
        &self,
        node: &Node,
        index: usize,
        row: &mut RowBuilder,
        origin: usize,
        base: usize,
    ) -> Result<(), Misfit> {
        if self.is_null(index) {
            if !node.is_nullable {
                return Err(Misfit::null(node));
            }
            set_null_bit(row.bytes(), base * 8 + node.null_bit);
            return Ok(());
        }
        self.write_value(node, index, row, origin, base + node.offset)
    }

    /// Puts value `index`, which is not null, at `at`.
    fn write_value(
        &self,
        node: &Node,
        index: usize,
        row: &mut RowBuilder,
        origin: usize,
        at: usize,
    ) -> Result<(), Misfit> {
        let index = self.keys.as_ref().map_or(index, |keys| keys[index]);
        let put =
            |row: &mut RowBuilder, bytes: &[u8]| row.bytes()[at..at + bytes.len()].copy_from_slice(bytes);
        match &self.values {
            Values::Lane(buffer, width) => put(row, &buffer[index * width..(index + 1) * width]),
            Values::Bits(array) => put(row, &[array.value(index).into()]),
            Values::Integers(array, width) => {
                let bytes = match &node.shape {
                    Shape::Unsigned(_) => array.unsigned(index).map(u128::to_le_bytes),
                    _ => array.signed(index).map(i128::to_le_bytes),
                };
                let bytes = bytes.ok_or_else(|| {
                    Misfit::of(
                        node,
                        format!("{} does not fit in {}", array.text(index), node.expected()),
                    )
                })?;
                put(row, &bytes[..*width]);
            }
            Values::Decimals(array, scale) => {
                let units = array.signed(index).ok_or_else(|| {
                    Misfit::of(
                        node,
                        format!(
                            "a decimal of {} units does not fit in 128 bits",
                            array.text(index)
                        ),
                    )
                })?;
                put(row, &units.to_le_bytes());
                row.bytes()[at + 16] = *scale;
            }
            Values::Floats(array) => put(row, &f64::from(array.value(index)).to_le_bytes()),
            Values::Times(buffer, unit) => {
                let ticks = buffer.typed_data::<i64>()[index];
                let millis = match unit {
                    TimeUnit::Second => ticks.checked_mul(1000).ok_or_else(|| {
                        Misfit::of(
                            node,
                            format!("{ticks} seconds are no timestamp in milliseconds: too many"),
                        )
                    })?,
                    TimeUnit::Millisecond => ticks,
                    TimeUnit::Microsecond => ticks.div_euclid(1000),
                    TimeUnit::Nanosecond => ticks.div_euclid(1_000_000),
                };
                put(row, &millis.to_le_bytes());
            }
            Values::Days(array) => {
                let millis = array.value(index);
                let days = i32::try_from(millis.div_euclid(86_400_000))
                    .map_err(|_| Misfit::of(node, format!("{millis} milliseconds are no date: too many")))?;
                put(row, &days.to_le_bytes());
            }
            Values::Texts(texts) => {
                let bytes = texts.get(index);
                let size = row.tail() + bytes.len();
                check_size(node, size)?;
                row.put_bytes(origin, at, bytes);
            }
            Values::Record(members) => {
                let Shape::Record(nodes) = &node.shape else {
                    unreachable!("records are bound to records");
                };
                for (node, cells) in nodes.iter().zip(members) {
                    cells.write(node, index, row, origin, at)?;
                }
            }
            Values::Array(lists, elements, count) => {
                let Shape::Array(element, _) = &node.shape else {
                    unreachable!("arrays are bound to arrays");
                };
                let (start, end) = lists.range(index);
                if end - start != *count {
                    return Err(Misfit::of(
                        node,
                        format!(
                            "a list of {}, where {} has {count}; a List has any number",
                            end - start,
                            node.expected()
                        ),
                    ));
                }
                let nulls = (at + count * element.size) * 8;
                for number in 0..*count {
                    if !elements.is_null(start + number) {
                        elements.write_value(
                            element,
                            start + number,
                            row,
                            origin,
                            at + number * element.size,
                        )?;
                    } else if element.is_nullable {
                        set_null_bit(row.bytes(), nulls + number);
                    } else {
                        return Err(Misfit::null(element));
                    }
                }
            }
            Values::List(lists, elements) => {
                let Shape::List(element) = &node.shape else {
                    unreachable!("lists are bound to lists");
                };
                let (start, end) = lists.range(index);
                elements.write_list(element, start..end, row, origin, at)?;
            }
            Values::Nothing => unreachable!("a value of a column of nulls is null"),
        }
        Ok(())
    }

    /// Appends the rows of a list's elements, and refers to them at `at`.
    fn write_list(
        &self,
        element: &Element,
        range: std::ops::Range<usize>,
        row: &mut RowBuilder,
        origin: usize,
        at: usize,
    ) -> Result<(), Misfit> {
        let length = range.len() as u32;
        row.align();
        let start = row.tail();
        for index in range {
            let own = row.tail();
            check_size(&element.node, own + element.fixed.max(element.stride))?;
            row.append_zeros(element.fixed.max(element.stride));
            self.write(&element.node, index, row, own, own)?;
            if element.stride == 0 {
                row.align();
                let size = (row.tail() - own) as u32;
                row.bytes()[own..own + 4].copy_from_slice(&size.to_le_bytes());
            }
        }
        let size = (row.tail() - start) as u32;
        let words = [(start - origin) as u32, size, length].map(u32::to_le_bytes);
        row.bytes()[at..at + 12].copy_from_slice(words.as_flattened());
        Ok(())
    }
}

fn check_size(node: &Node, size: usize) -> Result<(), Misfit> {
    match size <= MAX_ROW_SIZE - 16 {
        true => Ok(()),
        false => Err(Misfit::of(
            node,
            format!("its row gets {size} B, over 128 MiB, the most that a row has"),
        )),
    }
}

/// Bits and sign of a type of integers.
fn integer_bits(found: &ArrowType) -> Option<(u16, bool)> {
    match found {
        ArrowType::Int8 => Some((8, true)),
        ArrowType::Int16 => Some((16, true)),
        ArrowType::Int32 => Some((32, true)),
        ArrowType::Int64 => Some((64, true)),
        ArrowType::UInt8 => Some((8, false)),
        ArrowType::UInt16 => Some((16, false)),
        ArrowType::UInt32 => Some((32, false)),
        ArrowType::UInt64 => Some((64, false)),
        _ => None,
    }
}

fn is_whole_decimal(found: &ArrowType) -> bool {
    matches!(found, ArrowType::Decimal128(_, 0) | ArrowType::Decimal256(_, 0))
}

/// The values of a primitive array, whose bytes are as rows have them.
fn lane(array: &dyn Array, width: usize) -> Values {
    let data = array.to_data();
    let buffer = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
    Values::Lane(buffer, width)
}

fn small<T: ByteArrayType<Offset = i32>>(array: &GenericByteArray<T>) -> Texts {
    Texts::Small(array.values().clone(), array.offsets().clone())
}

fn large<T: ByteArrayType<Offset = i64>>(array: &GenericByteArray<T>) -> Texts {
    Texts::Large(array.values().clone(), array.offsets().clone())
}

/// Where the elements of lists are, and the elements.
fn elements(array: &dyn Array) -> (Lists, ArrayRef) {
    match array.data_type() {
        ArrowType::FixedSizeList(_, count) => (
            Lists::Fixed(*count as usize),
            array.as_fixed_size_list().values().clone(),
        ),
        ArrowType::LargeList(_) => {
            let array = array.as_list::<i64>();
            (Lists::Large(array.offsets().clone()), array.values().clone())
        }
        _ => {
            let array = array.as_list::<i32>();
            (Lists::Small(array.offsets().clone()), array.values().clone())
        }
    }
}

impl Lists {
    fn range(&self, index: usize) -> (usize, usize) {
        match self {
            Lists::Fixed(count) => (index * count, (index + 1) * count),
            Lists::Small(offsets) => (offsets[index] as usize, offsets[index + 1] as usize),
            Lists::Large(offsets) => (offsets[index] as usize, offsets[index + 1] as usize),
        }
    }
}

impl Texts {
    #[inline]
    fn get(&self, index: usize) -> &[u8] {
        match self {
            Texts::Small(bytes, offsets) => &bytes[offsets[index] as usize..offsets[index + 1] as usize],
            Texts::Large(bytes, offsets) => &bytes[offsets[index] as usize..offsets[index + 1] as usize],
            Texts::View(array) => array.value(index),
            Texts::Fixed(array) => array.value(index),
        }
    }
}

impl Integers {
    fn wide(&self, index: usize) -> Option<i256> {
        Some(match self {
            Integers::I256(array) => array.value(index),
            Integers::U64(array) => i256::from_i128(array.value(index).into()),
            _ => i256::from_i128(self.narrow(index)?),
        })
    }

    /// The value, where its type is not wider than 128 bits.
    fn narrow(&self, index: usize) -> Option<i128> {
        Some(match self {
            Integers::I8(array) => array.value(index).into(),
            Integers::I16(array) => array.value(index).into(),
            Integers::I32(array) => array.value(index).into(),
            Integers::I64(array) => array.value(index).into(),
            Integers::U8(array) => array.value(index).into(),
            Integers::U16(array) => array.value(index).into(),
            Integers::U32(array) => array.value(index).into(),
            Integers::U64(array) => array.value(index).into(),
            Integers::I128(array) => array.value(index),
            Integers::I256(_) => return None,
        })
    }

    fn signed(&self, index: usize) -> Option<i128> {
        match self {
            Integers::I256(array) => array.value(index).to_i128(),
            _ => self.narrow(index),
        }
    }

    fn unsigned(&self, index: usize) -> Option<u128> {
        match self {
            Integers::I256(array) => match array.value(index).to_parts() {
                (low, 0) => Some(low),
                _ => None,
            },
            _ => u128::try_from(self.narrow(index)?).ok(),
        }
    }

    fn text(&self, index: usize) -> String {
        self.wide(index)
            .map(|value| value.to_string())
            .unwrap_or_default()
    }
}
