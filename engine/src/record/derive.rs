//! What the code that `#[derive(Record)]` generates calls. Not for anybody else; it changes without notice.

use forebay_memory::Error;
pub use forebay_memory::Result;

pub use super::compound::{key_size, largest};
pub use super::enums::{
    EnumRecord, check_payload, enum_size, no_variant, payload_end, put_payload, put_tag, split_tag, take_tag,
    unknown_variant,
};
pub use super::field::{Field, Project};
pub use super::layout::{Layout, layout};
pub use super::plain::{PlainRecord, read_plain, write_plain};
pub use super::row::{Record, null_bit, pad, set_null_bit, slot};
pub use super::schema::DataType;
use super::schema::{EnumType, FieldInfo, RecordType};

/// A field of a record type.
pub fn field_info(name: &str, data_type: DataType, offset: usize, null_bit: Option<usize>) -> FieldInfo {
    FieldInfo {
        name: name.into(),
        data_type,
        offset,
        nullable: null_bit.is_some(),
        null_bit: null_bit.unwrap_or(0),
    }
}

/// The type of a struct or variant.
pub fn record_type(name: &str, fields: Vec<FieldInfo>) -> DataType {
    DataType::Record(Box::new(RecordType {
        name: name.into(),
        fields,
    }))
}

/// The type of an enum.
pub fn enum_type(name: &str, variants: Vec<(&str, DataType)>) -> DataType {
    let variants = variants
        .into_iter()
        .map(|(name, data_type)| (name.into(), data_type))
        .collect();
    DataType::Enum(Box::new(EnumType {
        name: name.into(),
        variants,
    }))
}

/// A field's check, its error told with the field's name.
pub fn within(name: &str, result: Result<()>) -> Result<()> {
    result.map_err(|error: Error| error.within(name))
}
