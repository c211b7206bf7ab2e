//! The bridge between records and Arrow: a record type's fields as columns, record batches to records and back.
//!
//! # Interface
//! [`ArrowReader`] reads records out of Arrow's record batches, [`ArrowWriter`] makes record batches of records. Parquet
//! sources and sinks are made of them. Columns are found by name.
//!
//! # Algorithm
//! A record type's schema becomes a tree of nodes (`shape`); what cannot be a column is refused there, before anything runs.
//! Values are moved between arrays and rows where the schema says that they lie: no owned record is made.
//!
//! | field | column that is written | columns that are read besides |
//! |---|---|---|
//! | `bool`, `f32`, `f64` | the same | `f32` into `f64` |
//! | `u8` to `u64`, `i8` to `i64` | the same | any integer whose values all fit |
//! | `i128`, `u128` | decimal(39, 0) | integers, decimals without digits after the point |
//! | [`Timestamp`](crate::record::Timestamp) | timestamp in milliseconds, UTC | other units (cut to milliseconds), without a zone (taken as UTC) |
//! | [`Date`](crate::record::Date) | date of 32 bits | date of 64 bits |
//! | [`Decimal`](crate::record::Decimal) | decimal(38, s), s chosen by the user | any decimal, any integer |
//! | `String`, `Vec<u8>` | string, binary | large ones, views; binary of fixed size; strings as bytes |
//! | `[u8; N]` | binary of N bytes | |
//! | `Option` | the column, nullable | |
//! | record in a record | struct | |
//! | `[T; N]`, [`List`](crate::record::List) | list of fixed size, list | lists of any kind |
//!
//! Dictionaries of any of these are read. Enums, `()` and an `Option` of an `Option` have no column.

mod shape;
mod cells;
mod reader;
mod leaves;
mod writer;

pub(crate) use leaves::{Leaf, leaves};
pub use reader::ArrowReader;
pub(crate) use reader::RowMisfit;
pub use shape::{ArrowOptions, schema_of};
pub use writer::ArrowWriter;

/// Arrow's crates, of the version that the bridge speaks.
pub use ::{arrow_array, arrow_schema};
