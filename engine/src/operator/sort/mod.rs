//! Sorting, in any budget, over all subtasks: bytes are sorted by `forebay_memory::sort`.
//!
//! [`order`] says how rows compare, [`shared`] is where the subtasks of one operator meet, [`sorting`] is the operator.

mod order;
mod shared;
mod sorting;

pub(crate) use order::FieldOrder;
pub(crate) use shared::{Meeting, Share};
pub(crate) use sorting::Sorting;

/// The kind of the operator in plans. It needs an end of its input: the graph refuses it where there is none.
pub(crate) const SORT: &str = "sort";

/// The kind of the operator that sends the first rows only, likewise.
pub(crate) const TOP: &str = "top";
