//! What a record type looks like to those who do not know the type: names, types, offsets, null bits.
//!
//! # Interface
//! [`Schema`] is built once per record type and lives for ever; it is part of the plan, so it serializes.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, OnceLock};

use serde::{Deserialize, Serialize};

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DataType {
    /// No value: no bytes.
    Unit,
    /// `bool`, one byte, 0 or 1.
    Bool,
    /// An unsigned integer of that many bits.
    Unsigned(u16),
    /// A signed integer of that many bits.
    Signed(u16),
    /// A floating point number of that many bits.
    Float(u16),
    /// Milliseconds since 1970, 64 bits.
    Timestamp,
    /// Days since 1970, 32 bits.
    Date,
    /// A 128-bit integer and a decimal scale.
    Decimal,
    /// UTF-8 text.
    String,
    /// Bytes.
    Bytes,
    /// A value or null.
    Option(Box<DataType>),
    /// A fixed number of values of one type.
    Array(Box<DataType>, usize),
    /// Any number of values of one type.
    List(Box<DataType>),
    /// A record inside a record.
    Record(Box<RecordType>),
    /// One of several records, by tag.
    Enum(Box<EnumType>),
}

/// A record's name and fields; offsets count from the start of its fixed part.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordType {
    /// The record's name.
    pub name: String,
    /// Its fields in declared order.
    pub fields: Vec<FieldInfo>,
}

/// An enum's name and variants; a variant's tag is its index.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnumType {
    /// The enum's name.
    pub name: String,
    /// Each variant's name and what it holds.
    pub variants: Vec<(String, DataType)>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FieldInfo {
    /// The field's name; in tuples its index.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Where its bytes start: from the row's start in a [`Schema`], from the fixed part in a [`RecordType`].
    pub offset: usize,
    /// Whether it may be null.
    pub nullable: bool,
    /// Its null bit, counted in bits from where `offset` counts; 0 where it has none.
    pub null_bit: usize,
}

/// The rows of a record type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schema {
    /// The record's name.
    pub name: String,
    /// Its fields in declared order. A type that is not a struct or tuple has one field named `value`.
    pub fields: Vec<FieldInfo>,
    /// Bytes of every row, or 0 where rows vary.
    pub stride: usize,
}

impl Schema {
    /// The schema of rows whose fixed part starts at `part_at` and holds `data_type`, whose own null bit, if
    /// it has one, is bit `null_bit` of the fixed part.
    pub(crate) fn new(data_type: DataType, part_at: usize, null_bit: usize, stride: usize) -> Self {
        let (name, mut fields) = match data_type {
            DataType::Record(record) => (record.name, record.fields),
            DataType::Unit => ("unit".into(), Vec::new()),
            other => {
                let nullable = matches!(other, DataType::Option(_));
                (
                    other.to_string(),
                    vec![FieldInfo {
                        name: "value".into(),
                        data_type: other,
                        offset: 0,
                        nullable,
                        null_bit,
                    }],
                )
            }
        };
        for field in &mut fields {
            field.offset += part_at;
            if field.nullable {
                field.null_bit += part_at * 8;
            }
        }
        Schema { name, fields, stride }
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&FieldInfo> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// The schema of the type `id`, built by `build` when it is first asked for.
pub(crate) fn interned(id: TypeId, build: impl FnOnce() -> Schema) -> &'static Schema {
    static SCHEMAS: OnceLock<Mutex<HashMap<TypeId, &'static Schema>>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(Default::default);
    let lock = || schemas.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(schema) = lock().get(&id) {
        return schema;
    }
    let schema = build();
    lock().entry(id).or_insert_with(|| Box::leak(Box::new(schema)))
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Unit => f.write_str("unit"),
            DataType::Bool => f.write_str("bool"),
            DataType::Unsigned(bits) => write!(f, "u{bits}"),
            DataType::Signed(bits) => write!(f, "i{bits}"),
            DataType::Float(bits) => write!(f, "f{bits}"),
            DataType::Timestamp => f.write_str("timestamp"),
            DataType::Date => f.write_str("date"),
            DataType::Decimal => f.write_str("decimal"),
            DataType::String => f.write_str("string"),
            DataType::Bytes => f.write_str("bytes"),
            DataType::Option(inner) => write!(f, "option<{inner}>"),
            DataType::Array(inner, length) => write!(f, "[{inner}; {length}]"),
            DataType::List(inner) => write!(f, "list<{inner}>"),
            DataType::Record(record) => f.write_str(&record.name),
            DataType::Enum(found) => f.write_str(&found.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_survives_json() {
        let inner = RecordType {
            name: "Inner".into(),
            fields: vec![FieldInfo {
                name: "at".into(),
                data_type: DataType::Option(Box::new(DataType::Timestamp)),
                offset: 0,
                nullable: true,
                null_bit: 64,
            }],
        };
        let schema = Schema::new(DataType::Record(Box::new(inner)), 8, 0, 0);
        assert_eq!((schema.fields[0].offset, schema.fields[0].null_bit), (8, 128));
        let text = serde_json::to_string(&schema).expect("schemas serialize");
        assert_eq!(
            serde_json::from_str::<Schema>(&text).expect("schemas deserialize"),
            schema
        );
    }
}
