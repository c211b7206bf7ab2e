//! Tables for joins: the rows of one hash partition, sorted by hash slot, under a directory.

mod entries;
mod table;

pub use entries::{EntryShape, Filled};
pub use table::JoinTable;
