//! A record type as a tree of columns: which there are, where each lies in a row, and which Arrow type it is written as.
//!
//! # Algorithm
//! The tree is made of the type's [`Schema`]. Sizes of nested parts are computed as `record::layout` computes them, and compared with
//! the offsets that the schema has: a packed plain record, which lies otherwise, is refused.

use crate::record::layout::{self, Slot, round_up};
use crate::record::{DataType, FieldInfo, Record, Schema};
use arrow_schema::{
    DECIMAL128_MAX_PRECISION, DataType as ArrowType, Field, Fields, Schema as ArrowSchema, TimeUnit,
};
use forebay_memory::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Digits of 128-bit integers.
pub(super) const WIDE_DIGITS: u8 = 39;

/// A field of a record as a column.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The field's name.
    pub(crate) name: String,
    /// The names of the fields that lead to it, joined by dots: for messages.
    pub(crate) path: String,
    pub(crate) is_nullable: bool,
    pub(crate) shape: Shape,
    /// Where its bytes start, from the fixed part of the record that it is in; at the top from the row's start.
    pub(crate) offset: usize,
    /// Its null bit, counted in bits from there.
    pub(crate) null_bit: usize,
    /// Its bytes in the fixed part.
    pub(crate) size: usize,
}

/// What a column holds.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Bool,
    Unsigned(u16),
    Signed(u16),
    Float(u16),
    Timestamp,
    Date,
    Decimal,
    String,
    Bytes,
    FixedBytes(usize),
    Record(Vec<Node>),
    /// So many elements, the first at the node's offset, each of the node's size.
    Array(Box<Node>, usize),
    List(Box<Element>),
}

/// What a list holds: rows of one column.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    /// Where it lies in its row.
    pub(crate) node: Node,
    /// Bytes of every row, or 0 where rows vary.
    pub(crate) stride: usize,
    /// Where the variable part of its row starts.
    pub(crate) fixed: usize,
}

/// How records become columns where their type alone does not say.
#[derive(Debug, Clone, Default)]
pub struct ArrowOptions {
    scale: Option<u8>,
    scales: BTreeMap<String, u8>,
}

impl ArrowOptions {
    /// No choice made: a record with a decimal has no columns.
    pub fn new() -> Self {
        ArrowOptions::default()
    }

    /// Digits after the point of every column of decimals that has no scale of its own: a column has one, where each
    /// [`Decimal`](crate::record::Decimal) has its own.
    pub fn decimal_scale(mut self, scale: u8) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Digits after the point of the decimals of one field; of a record in a record, as `outer.inner`.
    pub fn decimal_scale_of(mut self, field: impl Into<String>, scale: u8) -> Self {
        self.scales.insert(field.into(), scale);
        self
    }

    /// The scale of a column of decimals.
    pub(super) fn scale(&self, record: &str, path: &str) -> Result<u8> {
        let scale = self.scales.get(path).copied().or(self.scale).ok_or_else(|| {
            Error::config(format!(
                "field \"{path}\" of {record} is a decimal, whose scale may differ by value; a column has one: choose it with \
                 decimal_scale(2) or decimal_scale_of(\"{path}\", 2)"
            ))
        })?;
        if scale > DECIMAL128_MAX_PRECISION {
            return Err(Error::config(format!(
                "field \"{path}\" of {record}: a decimal's scale of {scale} is over {DECIMAL128_MAX_PRECISION}, the digits that it has"
            )));
        }
        Ok(scale)
    }
}

/// The columns of a record type.
///
/// # Errors
/// `Config`, naming the field that is no column.
pub(crate) fn nodes(schema: &Schema) -> Result<Vec<Node>> {
    let nodes: Vec<Node> = schema
        .fields
        .iter()
        .map(|field| node(&schema.name, "", field))
        .collect::<Result<_>>()?;
    for (index, node) in nodes.iter().enumerate() {
        if nodes[..index].iter().any(|other| other.name == node.name) {
            return Err(Error::config(format!(
                "{} has two fields named \"{}\"; columns are found by name: rename one",
                schema.name, node.name
            )));
        }
    }
    Ok(nodes)
}

/// The Arrow schema of a record type's columns, as [`ArrowWriter`](super::ArrowWriter) makes them.
///
/// # Errors
/// `Config`, naming the field that is no column.
pub fn schema_of<R: Record>(options: &ArrowOptions) -> Result<ArrowSchema> {
    let schema = R::schema();
    let fields: Vec<Field> = nodes(schema)?
        .iter()
        .map(|node| node.field(&schema.name, options))
        .collect::<Result<_>>()?;
    Ok(ArrowSchema::new(fields))
}

fn node(record: &str, prefix: &str, field: &FieldInfo) -> Result<Node> {
    let path = format!("{prefix}{}", field.name);
    let inner = match &field.data_type {
        DataType::Option(inner) => inner,
        other => other,
    };
    let fault = |what: &str| {
        Error::config(format!(
            "field \"{path}\" of {record} is of type {}, which has no column: {what}",
            field.data_type
        ))
    };
    let shape = match inner {
        DataType::Bool => Shape::Bool,
        DataType::Unsigned(bits) => Shape::Unsigned(*bits),
        DataType::Signed(bits) => Shape::Signed(*bits),
        DataType::Float(bits) => Shape::Float(*bits),
        DataType::Timestamp => Shape::Timestamp,
        DataType::Date => Shape::Date,
        DataType::Decimal => Shape::Decimal,
        DataType::String => Shape::String,
        DataType::Bytes => Shape::Bytes,
        DataType::Array(element, count) if **element == DataType::Unsigned(8) => Shape::FixedBytes(*count),
        DataType::Record(inner) => Shape::Record(
            inner
                .fields
                .iter()
                .map(|field| node(record, &format!("{path}."), field))
                .collect::<Result<_>>()?,
        ),
        DataType::Array(element, count) => {
            let element = FieldInfo {
                name: "element".into(),
                data_type: (**element).clone(),
                offset: 0,
                nullable: matches!(**element, DataType::Option(_)),
                null_bit: 0,
            };
            Shape::Array(Box::new(node(record, &format!("{path}."), &element)?), *count)
        }
        DataType::List(element) => Shape::List(Box::new(list_element(record, &path, element)?)),
        DataType::Enum(_) => {
            return Err(fault(
                "a column's values are of one type; write each variant's records by themselves",
            ));
        }
        DataType::Option(_) => return Err(fault("a column's value is null or is not; use one Option")),
        DataType::Unit => return Err(fault("a column holds something; leave the field out")),
    };
    let size = measure(inner)
        .ok_or_else(|| {
            fault("its fields do not lie as those of other records do (it is packed, or aligned by itself); leave that out")
        })?
        .size;
    Ok(Node {
        name: field.name.clone(),
        path,
        is_nullable: field.nullable,
        shape,
        offset: field.offset,
        null_bit: field.null_bit,
        size,
    })
}

fn list_element(record: &str, path: &str, element: &DataType) -> Result<Element> {
    let measured = measure(element);
    let Measure { size, align, varies } = measured.unwrap_or(Measure {
        size: 0,
        align: 1,
        varies: false,
    });
    let part = layout::part_at(align, varies);
    let (inner, is_nullable) = match element {
        DataType::Option(inner) => (&**inner, true),
        other => (other, false),
    };
    let field = FieldInfo {
        name: "element".into(),
        data_type: element.clone(),
        offset: part,
        nullable: is_nullable,
        null_bit: (part + measure(inner).map_or(0, |inner| inner.size)) * 8,
    };
    Ok(Element {
        node: node(record, &format!("{path}."), &field)?,
        stride: layout::stride(size, varies),
        fixed: part + size,
    })
}

/// What a type takes in the fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measure {
    size: usize,
    align: usize,
    varies: bool,
}

/// The measure of a type: [`Record::SIZE`], [`Record::ALIGN`], [`Record::VARIES`]. Nothing where it does not lie as it should.
fn measure(data_type: &DataType) -> Option<Measure> {
    let fixed = |size: usize| {
        Some(Measure {
            size,
            align: size.min(layout::MAX_ALIGN),
            varies: false,
        })
    };
    match data_type {
        DataType::Unit => Some(Measure {
            size: 0,
            align: 1,
            varies: false,
        }),
        DataType::Bool => fixed(1),
        DataType::Unsigned(bits) | DataType::Signed(bits) | DataType::Float(bits) => {
            fixed(usize::from(*bits) / 8)
        }
        DataType::Timestamp => fixed(8),
        DataType::Date => fixed(4),
        DataType::Decimal => Some(Measure {
            size: 17,
            align: 1,
            varies: false,
        }),
        DataType::String | DataType::Bytes | DataType::List(_) => Some(Measure {
            size: 12,
            align: 4,
            varies: true,
        }),
        DataType::Option(inner) => {
            let inner = measure(inner)?;
            Some(Measure {
                size: round_up(inner.size + 1, inner.align),
                ..inner
            })
        }
        DataType::Array(element, count) => {
            let slot = slot(element)?;
            let nulls = if slot.nullable { count.div_ceil(8) } else { 0 };
            Some(Measure {
                size: round_up(count * slot.size + nulls, slot.align),
                align: slot.align,
                varies: measure(element)?.varies,
            })
        }
        DataType::Record(record) => {
            let (mut end, mut align, mut nulls, mut varies) = (0, 1, 0, false);
            for field in &record.fields {
                let slot = slot(&field.data_type)?;
                end = round_up(end, slot.align);
                if field.offset != end {
                    return None;
                }
                end += slot.size;
                align = align.max(slot.align);
                nulls += usize::from(slot.nullable);
                varies |= measure(&field.data_type)?.varies;
            }
            Some(Measure {
                size: round_up(end + nulls.div_ceil(8), align),
                align,
                varies,
            })
        }
        _ => None,
    }
}

fn slot(data_type: &DataType) -> Option<Slot> {
    let (inner, nullable) = match data_type {
        DataType::Option(inner) => (&**inner, true),
        other => (other, false),
    };
    let Measure { size, align, .. } = measure(inner)?;
    Some(Slot {
        size,
        align,
        nullable,
    })
}

impl Node {
    /// The fields of a record that is never null, as if they were fields of the record that it is in.
    pub(super) fn members(&self) -> Option<impl Iterator<Item = Node> + use<>> {
        let Shape::Record(members) = &self.shape else {
            return None;
        };
        let base = self.offset;
        let outer = move |member: Node| Node {
            offset: base + member.offset,
            null_bit: base * 8 + member.null_bit,
            ..member
        };
        (!self.is_nullable).then(|| members.clone().into_iter().map(outer))
    }

    /// The column as Arrow's field.
    pub(super) fn field(&self, record: &str, options: &ArrowOptions) -> Result<Field> {
        Ok(Field::new(
            &self.name,
            self.arrow_type(record, options)?,
            self.is_nullable,
        ))
    }

    fn arrow_type(&self, record: &str, options: &ArrowOptions) -> Result<ArrowType> {
        Ok(match &self.shape {
            Shape::Bool => ArrowType::Boolean,
            Shape::Unsigned(8) => ArrowType::UInt8,
            Shape::Unsigned(16) => ArrowType::UInt16,
            Shape::Unsigned(32) => ArrowType::UInt32,
            Shape::Unsigned(64) => ArrowType::UInt64,
            Shape::Signed(8) => ArrowType::Int8,
            Shape::Signed(16) => ArrowType::Int16,
            Shape::Signed(32) => ArrowType::Int32,
            Shape::Signed(64) => ArrowType::Int64,
            Shape::Unsigned(_) | Shape::Signed(_) => ArrowType::Decimal256(WIDE_DIGITS, 0),
            Shape::Float(32) => ArrowType::Float32,
            Shape::Float(_) => ArrowType::Float64,
            Shape::Timestamp => ArrowType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Shape::Date => ArrowType::Date32,
            Shape::Decimal => {
                ArrowType::Decimal128(DECIMAL128_MAX_PRECISION, options.scale(record, &self.path)? as i8)
            }
            Shape::String => ArrowType::Utf8,
            Shape::Bytes => ArrowType::Binary,
            Shape::FixedBytes(size) => ArrowType::FixedSizeBinary(*size as i32),
            Shape::Record(nodes) => {
                let fields = nodes.iter().map(|node| node.field(record, options));
                ArrowType::Struct(fields.collect::<Result<Fields>>()?)
            }
            Shape::Array(element, count) => {
                ArrowType::FixedSizeList(Arc::new(element.field(record, options)?), *count as i32)
            }
            Shape::List(element) => ArrowType::List(Arc::new(element.node.field(record, options)?)),
        })
    }

    /// The field's type in words, for messages.
    pub(crate) fn expected(&self) -> String {
        let name = match &self.shape {
            Shape::Bool => "bool".into(),
            Shape::Unsigned(bits) => format!("u{bits}"),
            Shape::Signed(bits) => format!("i{bits}"),
            Shape::Float(bits) => format!("f{bits}"),
            Shape::Timestamp => "timestamp".into(),
            Shape::Date => "date".into(),
            Shape::Decimal => "decimal".into(),
            Shape::String => "string".into(),
            Shape::Bytes => "bytes".into(),
            Shape::FixedBytes(size) => format!("[u8; {size}]"),
            Shape::Record(nodes) => {
                let fields: Vec<String> = nodes
                    .iter()
                    .map(|node| format!("{}: {}", node.name, node.expected()))
                    .collect();
                format!("record {{{}}}", fields.join(", "))
            }
            Shape::Array(element, count) => format!("[{}; {count}]", element.expected()),
            Shape::List(element) => format!("list<{}>", element.node.expected()),
        };
        match self.is_nullable {
            true => format!("option<{name}>"),
            false => name,
        }
    }
}

/// An Arrow type in the words of records, for messages.
pub(crate) fn data_type_name(found: &ArrowType) -> String {
    match found {
        ArrowType::Boolean => "bool".into(),
        ArrowType::UInt8 => "u8".into(),
        ArrowType::UInt16 => "u16".into(),
        ArrowType::UInt32 => "u32".into(),
        ArrowType::UInt64 => "u64".into(),
        ArrowType::Int8 => "i8".into(),
        ArrowType::Int16 => "i16".into(),
        ArrowType::Int32 => "i32".into(),
        ArrowType::Int64 => "i64".into(),
        ArrowType::Float16 => "f16".into(),
        ArrowType::Float32 => "f32".into(),
        ArrowType::Float64 => "f64".into(),
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => "string".into(),
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView => "bytes".into(),
        ArrowType::FixedSizeBinary(size) => format!("[u8; {size}]"),
        ArrowType::Date32 | ArrowType::Date64 => "date".into(),
        ArrowType::Timestamp(unit, _) => format!("timestamp in {unit}"),
        ArrowType::Decimal32(digits, scale)
        | ArrowType::Decimal64(digits, scale)
        | ArrowType::Decimal128(digits, scale)
        | ArrowType::Decimal256(digits, scale) => format!("decimal({digits}, {scale})"),
        ArrowType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", field.name(), data_type_name(field.data_type())))
                .collect();
            format!("record {{{}}}", fields.join(", "))
        }
        ArrowType::List(element) | ArrowType::LargeList(element) => {
            format!("list<{}>", data_type_name(element.data_type()))
        }
        ArrowType::FixedSizeList(element, count) => {
            format!("[{}; {count}]", data_type_name(element.data_type()))
        }
        ArrowType::Dictionary(_, value) => format!("dictionary of {}", data_type_name(value)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Date, Decimal, List, Timestamp};

    fn measured<R: Record>() {
        let found = measure(&R::data_type()).expect("it lies as records do");
        assert_eq!(
            (found.size, found.align, found.varies),
            (R::SIZE, R::ALIGN, R::VARIES),
            "{}",
            R::data_type()
        );
        let element = list_element("test", "list", &R::data_type()).expect("it is a column");
        assert_eq!(element.stride, R::STRIDE);
    }

    #[test]
    fn parts_are_measured_as_records_measure_themselves() {
        measured::<bool>();
        measured::<u128>();
        measured::<Option<i128>>();
        measured::<Decimal>();
        measured::<Option<Decimal>>();
        measured::<Timestamp>();
        measured::<Date>();
        measured::<String>();
        measured::<Option<Vec<u8>>>();
        measured::<[Option<u16>; 9]>();
        measured::<[Option<String>; 3]>();
        measured::<List<Option<u32>>>();
        measured::<(u8, Option<u64>, bool, Option<(u16, Decimal, [u32; 3])>)>();
        measured::<(u8, List<(u8, u64)>, Option<String>)>();
    }
}
