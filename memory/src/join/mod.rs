//! Tables for joins: the rows of one hash partition, sorted by hash slot, under a directory; and filters of what is not in memory.

mod entries;
mod table;
mod filter;

pub use entries::{EntryShape, Filled};
pub use filter::JoinFilter;
pub use table::JoinTable;
