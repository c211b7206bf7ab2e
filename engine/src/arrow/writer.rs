//! [`ArrowWriter`]: record batches of records.
//!
//! # Algorithm
//! A record is written as a row, and each node takes its bytes from where the schema says that they lie.
//!
//! # Memory
//! The batch, on the heap.

use super::shape::{ArrowOptions, Node, Shape, WIDE_DIGITS, nodes, schema_of};
use crate::record::{Decimal, Record, null_bit};
use arrow_array::types::{Decimal128Type, Decimal256Type};
use arrow_array::*;
use arrow_buffer::{
    BooleanBufferBuilder, Buffer, MutableBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer, i256,
};
use arrow_schema::{DECIMAL128_MAX_PRECISION, DataType as ArrowType, FieldRef, Schema as ArrowSchema};
use forebay_memory::{Error, Result};
use std::marker::PhantomData;
use std::sync::Arc;

/// The largest value of a decimal column: 38 nines.
const MOST_UNITS: u128 = 10_u128.pow(DECIMAL128_MAX_PRECISION as u32) - 1;

/// The bytes that the strings of one column of a batch may have: offsets are 32 bits.
const MOST_TEXT: usize = i32::MAX as usize;

/// Makes record batches of records of `R`. See [`ArrowReader`](super::ArrowReader) for an example.
pub struct ArrowWriter<R> {
    schema: Arc<ArrowSchema>,
    columns: Vec<Column>,
    rows: usize,
    /// The row being written.
    row: Vec<u8>,
    record: PhantomData<fn(R)>,
}

/// A column being made.
struct Column {
    node: Node,
    field: FieldRef,
    nulls: NullBufferBuilder,
    length: usize,
    values: Values,
}

enum Values {
    Lane(MutableBuffer, usize),
    Bits(BooleanBufferBuilder),
    Wide(Vec<i256>),
    Decimals(Vec<i128>, u8),
    Texts(Vec<i32>, Vec<u8>),
    Record(Vec<Column>),
    Array(Box<Column>, usize),
    List(Vec<i32>, Box<Column>),
}

impl<R: Record> ArrowWriter<R> {
    /// A writer of batches whose schema is [`schema_of`](super::schema_of) of the same options.
    ///
    /// # Errors
    /// `Config`, naming the field that is no column.
    pub fn new(options: &ArrowOptions) -> Result<Self> {
        let schema = Arc::new(schema_of::<R>(options)?);
        let columns = nodes(R::schema())?
            .into_iter()
            .zip(schema.fields())
            .map(|(node, field)| Column::new(node, field.clone()))
            .collect();
        Ok(ArrowWriter {
            schema,
            columns,
            rows: 0,
            row: Vec::new(),
            record: PhantomData,
        })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> &Arc<ArrowSchema> {
        &self.schema
    }

    /// Records that the next batch has so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether the next batch has no record so far.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a record to the next batch.
    ///
    /// # Errors
    /// `User` where a decimal does not fit into its column, or the batch gets over 2 GiB of one column's strings. The batch is then
    /// lost: the writer starts anew.
    pub fn push(&mut self, view: R::View<'_>) -> Result<()> {
        let mut row = std::mem::take(&mut self.row);
        row.resize(R::row_size(view), 0);
        R::write_row(view, &mut row);
        let pushed = self.push_row(&row);
        self.row = row;
        pushed
    }

    /// [`ArrowWriter::push`] of a record's row.
    pub(crate) fn push_row(&mut self, row: &[u8]) -> Result<()> {
        self.rows += 1;
        for column in &mut self.columns {
            if let Err(error) = column.push(row, 0, 0) {
                self.reset();
                return Err(error);
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.rows = 0;
        for column in &mut self.columns {
            *column = Column::new(column.node.clone(), column.field.clone());
        }
    }

    /// The batch, and starts the next.
    ///
    /// # Errors
    /// None, unless Arrow finds fault with what was made.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let arrays = self.columns.iter_mut().map(Column::take).collect();
        self.rows = 0;
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| Error::user(format!("a record batch of {}: {error}", R::schema().name)))
    }
}

impl Column {
    fn new(node: Node, field: FieldRef) -> Column {
        let values = match (&node.shape, field.data_type()) {
            (Shape::Bool, _) => Values::Bits(BooleanBufferBuilder::new(0)),
            (Shape::Unsigned(128) | Shape::Signed(128), _) => Values::Wide(Vec::new()),
            (Shape::Decimal, ArrowType::Decimal128(_, scale)) => Values::Decimals(Vec::new(), *scale as u8),
            (Shape::String | Shape::Bytes, _) => Values::Texts(vec![0], Vec::new()),
            (Shape::Record(members), ArrowType::Struct(fields)) => Values::Record(
                members
                    .iter()
                    .zip(fields)
                    .map(|(member, field)| Column::new(member.clone(), field.clone()))
                    .collect(),
            ),
            (Shape::Array(element, count), ArrowType::FixedSizeList(field, _)) => {
                Values::Array(Box::new(Column::new((**element).clone(), field.clone())), *count)
            }
            (Shape::List(element), ArrowType::List(field)) => Values::List(
                vec![0],
                Box::new(Column::new(element.node.clone(), field.clone())),
            ),
            _ => Values::Lane(MutableBuffer::new(0), node.size),
        };
        Column {
            node,
            field,
            nulls: NullBufferBuilder::new(0),
            length: 0,
            values,
        }
    }

    /// Adds the value of a row that starts at `origin`, in the record whose fixed part is at `base`.
    fn push(&mut self, row: &[u8], origin: usize, base: usize) -> Result<()> {
        if self.node.is_nullable && null_bit(row, base * 8 + self.node.null_bit) {
            self.push_nothing(true);
            return Ok(());
        }
        self.push_value(row, origin, base + self.node.offset)
    }

    /// Adds the value at `at`.
    fn push_value(&mut self, row: &[u8], origin: usize, at: usize) -> Result<()> {
        self.nulls.append_non_null();
        self.length += 1;
        let word = |at: usize| {
            u32::from_le_bytes(*row[at..].first_chunk().expect("a row holds its fixed part")) as usize
        };
        match &mut self.values {
            Values::Lane(buffer, width) => buffer.extend_from_slice(&row[at..at + *width]),
            Values::Bits(bits) => bits.append(row[at] != 0),
            Values::Wide(values) => {
                let low = u128::read_part(row, at);
                let high = match self.node.shape {
                    Shape::Signed(_) => (low as i128) >> 127,
                    _ => 0,
                };
                values.push(i256::from_parts(low, high));
            }
            Values::Decimals(values, scale) => {
                let value = Decimal::read_part(row, at);
                let units = value
                    .rescaled(*scale)
                    .map(Decimal::units)
                    .filter(|units| units.unsigned_abs() <= MOST_UNITS);
                values.push(units.ok_or_else(|| {
                    Error::user(format!(
                        "field \"{}\": {value} has no place in a column of decimal({DECIMAL128_MAX_PRECISION}, {scale}); choose another \
                         scale with decimal_scale_of(\"{0}\", …), or round the value",
                        self.node.path
                    ))
                })?);
            }
            Values::Texts(offsets, bytes) => {
                let (start, length) = (origin + word(at), word(at + 4));
                bytes.extend_from_slice(&row[start..start + length]);
                offsets.push(offset(&self.node, bytes.len())?);
            }
            Values::Record(members) => {
                for member in members {
                    member.push(row, origin, at)?;
                }
            }
            Values::Array(element, count) => {
                let nulls = (at + *count * element.node.size) * 8;
                for number in 0..*count {
                    match element.node.is_nullable && null_bit(row, nulls + number) {
                        true => element.push_nothing(true),
                        false => element.push_value(row, origin, at + number * element.node.size)?,
                    }
                }
            }
            Values::List(offsets, element) => {
                let Shape::List(shape) = &self.node.shape else {
                    unreachable!("lists are made of lists");
                };
                let (mut own, length) = (origin + word(at), word(at + 8));
                for _ in 0..length {
                    element.push(row, own, own)?;
                    own += match shape.stride {
                        0 => word(own),
                        stride => stride,
                    };
                }
                offsets.push(offset(&self.node, element.length)?);
            }
        }
        Ok(())
    }

    /// Adds null, or, in what is null itself, a value that nobody looks at.
    fn push_nothing(&mut self, is_null: bool) {
        self.nulls.append(!(is_null && self.node.is_nullable));
        self.length += 1;
        match &mut self.values {
            Values::Lane(buffer, width) => buffer.extend_zeros(*width),
            Values::Bits(bits) => bits.append(false),
            Values::Wide(values) => values.push(i256::ZERO),
            Values::Decimals(values, _) => values.push(0),
            Values::Texts(offsets, bytes) => offsets.push(bytes.len() as i32),
            Values::Record(members) => members.iter_mut().for_each(|member| member.push_nothing(is_null)),
            Values::Array(element, count) => (0..*count).for_each(|_| element.push_nothing(is_null)),
            Values::List(offsets, element) => offsets.push(element.length as i32),
        }
    }

    /// The array, and starts the next.
    fn take(&mut self) -> ArrayRef {
        let length = std::mem::take(&mut self.length);
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Lane(buffer, _) => {
                let buffer: Buffer = std::mem::replace(buffer, MutableBuffer::new(0)).into();
                lane(self.field.data_type(), buffer, length, nulls)
            }
            Values::Bits(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::Wide(values) => Arc::new(
                PrimitiveArray::<Decimal256Type>::new(std::mem::take(values).into(), nulls)
                    .with_data_type(ArrowType::Decimal256(WIDE_DIGITS, 0)),
            ),
            Values::Decimals(values, scale) => Arc::new(
                PrimitiveArray::<Decimal128Type>::new(std::mem::take(values).into(), nulls)
                    .with_data_type(ArrowType::Decimal128(DECIMAL128_MAX_PRECISION, *scale as i8)),
            ),
            Values::Texts(offsets, bytes) => {
                let offsets = taken(offsets);
                let bytes = Buffer::from_vec(std::mem::take(bytes));
                match self.node.shape {
                    Shape::String => Arc::new(
                        StringArray::try_new(offsets, bytes, nulls)
                            .expect("a row's strings are UTF-8: they were written from &str"),
                    ),
                    _ => Arc::new(BinaryArray::new(offsets, bytes, nulls)),
                }
            }
            Values::Record(members) => {
                let ArrowType::Struct(fields) = self.field.data_type() else {
                    unreachable!("records are structs");
                };
                let arrays = members.iter_mut().map(Column::take).collect();
                Arc::new(
                    StructArray::try_new_with_length(fields.clone(), arrays, nulls, length)
                        .expect("the columns of a record have one length and their types"),
                )
            }
            Values::Array(element, count) => {
                let (field, array) = (element.field.clone(), element.take());
                Arc::new(
                    FixedSizeListArray::try_new_with_length(field, *count as i32, array, nulls, length)
                        .expect("arrays have as many elements as they say"),
                )
            }
            Values::List(offsets, element) => {
                let (field, array) = (element.field.clone(), element.take());
                Arc::new(
                    ListArray::try_new(field, taken(offsets), array, nulls)
                        .expect("lists have as many elements as they say"),
                )
            }
        }
    }
}

fn offset(node: &Node, end: usize) -> Result<i32> {
    match end <= MOST_TEXT {
        true => Ok(end as i32),
        false => Err(Error::user(format!(
            "field \"{}\": a record batch has {end} bytes or elements of it, over 2 GiB; take batches more often",
            node.path
        ))),
    }
}

fn taken(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])))
}

/// The array of values that lie as in rows.
fn lane(
    data_type: &ArrowType,
    buffer: Buffer,
    length: usize,
    nulls: Option<arrow_buffer::NullBuffer>,
) -> ArrayRef {
    use arrow_array::types::*;
    fn primitive<T: ArrowPrimitiveType>(
        data_type: &ArrowType,
        buffer: Buffer,
        length: usize,
        nulls: Option<arrow_buffer::NullBuffer>,
    ) -> ArrayRef {
        let values = ScalarBuffer::<T::Native>::new(buffer, 0, length);
        Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(data_type.clone()))
    }
    let make = match data_type {
        ArrowType::UInt8 => primitive::<UInt8Type>,
        ArrowType::UInt16 => primitive::<UInt16Type>,
        ArrowType::UInt32 => primitive::<UInt32Type>,
        ArrowType::UInt64 => primitive::<UInt64Type>,
        ArrowType::Int8 => primitive::<Int8Type>,
        ArrowType::Int16 => primitive::<Int16Type>,
        ArrowType::Int32 => primitive::<Int32Type>,
        ArrowType::Int64 => primitive::<Int64Type>,
        ArrowType::Float32 => primitive::<Float32Type>,
        ArrowType::Float64 => primitive::<Float64Type>,
        ArrowType::Timestamp(_, _) => primitive::<TimestampMillisecondType>,
        ArrowType::Date32 => primitive::<Date32Type>,
        ArrowType::FixedSizeBinary(size) => {
            let array = FixedSizeBinaryArray::try_new_with_len(*size, buffer, nulls, length);
            return Arc::new(array.expect("arrays of bytes have as many as they say"));
        }
        other => unreachable!("{other} does not lie as in rows"),
    };
    make(data_type, buffer, length, nulls)
}
