//! Records: typed values as rows of bytes, their views, fields and keys.

pub mod layout;
mod schema;
mod time;
mod decimal;
mod row;
mod numbers;
mod strings;
mod compound;
mod field;
mod key;

pub use compound::key_size;
pub use decimal::{Decimal, ParseDecimalError};
pub use field::{Field, IntegerColumn, TupleRecord, element, first, fourth, itself, second, third};
pub use key::KeyFields;
pub use row::{Integer, Record, null_bit, pad, row_part_at, set_null_bit, slot, validate_row};
pub use schema::{DataType, EnumType, FieldInfo, RecordType, Schema};
pub use strings::Bytes;
pub use time::{Date, ParseTimeError, Timestamp};
