//! Records: typed values as rows of bytes, their views, fields and keys.

pub mod layout;
mod schema;
mod time;
mod row;
mod numbers;
mod decimal;
mod strings;
mod compound;
mod enums;
mod plain;
mod field;
mod key;
mod normalized;
mod hashing;
mod limit;
#[doc(hidden)]
pub mod derive;

pub use decimal::{Decimal, ParseDecimalError};
pub use enums::EnumRecord;
pub use field::{Field, IntegerColumn, TupleRecord, element, first, fourth, itself, second, third};
pub use forebay_derive::Record;
pub use hashing::hash_rows;
pub use key::KeyFields;
pub use limit::checked_row_size;
pub use normalized::{Order, SortFields, prefix_of};
pub use plain::PlainRecord;
pub use row::{Integer, Record, validate_row};
pub use schema::{DataType, EnumType, FieldInfo, RecordType, Schema};
pub use strings::Bytes;
pub use time::{Date, ParseTimeError, Timestamp};
