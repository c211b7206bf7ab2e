//! Records: typed values as rows of bytes, their views, fields and keys.
//!
//! ```
//! #![deny(missing_docs, unsafe_code)]
//! //! A crate with a record.
//! use forebay::record::{KeyFields, Record, Timestamp};
//!
//! /// A bid in an auction.
//! #[derive(Record)]
//! pub struct Bid { auction: u64, bidder: u64, price: i64, channel: String, at: Timestamp }
//!
//! # fn main() {
//! let bid = Bid { auction: 7, bidder: 1, price: 250, channel: "apple".into(), at: Timestamp::MIN };
//! let mut row = vec![0; Bid::row_size(bid.view())];
//! Bid::write_row(bid.view(), &mut row); // once, at the source
//!
//! let bid = Bid::read_row(&row); // a `BidView`, which borrows from the row
//! assert!(bid.price > 100 && bid.channel == "apple");
//! assert_eq!((Bid::auction, Bid::channel).key(bid), (7, "apple".to_string()));
//! assert_eq!(Bid::bidder.read(&row), 1); // nothing else of the row is read
//! # }
//! ```
//!
//! A plain record is its own row, also where `unsafe` is forbidden:
//! ```
//! #![forbid(unsafe_code)]
//! use forebay::record::{PlainRecord, Record};
//! use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
//!
//! #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
//! #[repr(C)]
//! #[record(plain)]
//! struct Sale { shop: u64, amount: i64 }
//!
//! # fn main() {
//! let batch = [1_u64, 5, 2, 7]; // two rows
//! let total: i64 = Sale::rows(batch.as_bytes()).iter().map(|sale| sale.amount).sum();
//! assert_eq!(total, 12);
//! # }
//! ```
//!
//! Errors of the derive name the field: a `Vec` of anything but bytes is refused, for one.
//! ```compile_fail
//! #[derive(forebay::record::Record)]
//! struct Post { words: Vec<String> }
//! ```

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
mod list;
mod field;
mod normalized;
mod key;
mod builder;
mod from_text;
mod hashing;
mod limit;
#[doc(hidden)]
pub mod derive;

pub(crate) use builder::RowBuilder;
pub use decimal::{Decimal, ParseDecimalError};
pub use enums::EnumRecord;
pub use field::{
    BytesColumn, Field, IntegerColumn, TupleRecord, element, first, fourth, itself, second, third,
};
pub use forebay_derive::Record;
pub use from_text::BytesText;
pub(crate) use from_text::{TextColumn, text_columns};
pub use hashing::hash_rows;
pub(crate) use key::NoKey;
pub use key::{KeyFields, KeyIdentity};
pub use limit::checked_row_size;
pub use list::{List, ListIter, ListView};
pub use normalized::{Order, OrderPart, SortFields, prefix_of};
pub use plain::{AlignedRow, PlainRecord};
pub use row::{Integer, Record, validate_row};
#[cfg(feature = "parquet")]
pub(crate) use row::{null_bit, set_null_bit};

pub use schema::{DataType, EnumType, FieldInfo, RecordType, Schema};
pub use strings::Bytes;
pub use time::{Date, ParseTimeError, Timestamp};
