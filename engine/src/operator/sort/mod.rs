//! Sorting, in any budget, over all subtasks: bytes are sorted by `forebay_memory::sort`.
//!
//! [`order`] says how rows compare, [`shared`] is where the subtasks of one operator meet, [`sorting`] is the operator.
//! [`local`] sorts for operators that pull rows: [`groups`] streams them to a function, key by key, and [`sides`] those of two inputs.

mod order;
mod shared;
mod sorting;
mod local;
mod groups;
mod sides;

pub use groups::Group;
pub(crate) use groups::{ROWS_A_STEP, SortedGroups};
pub(crate) use local::{LocalSort, local_sort};
pub(crate) use order::FieldOrder;
pub(crate) use shared::{Meeting, Share};
pub(crate) use sides::{CoGroups, Sides};
pub(crate) use sorting::Sorting;

/// The kind of the operator in plans. It needs an end of its input: the graph refuses it where there is none.
pub(crate) const SORT: &str = "sort";

/// The kind of the operator that sorts each subtask's rows by themselves, likewise.
pub(crate) const SORT_WITHIN: &str = "sort_within";

/// The kind of the operator that sends the first rows only, likewise.
pub(crate) const TOP: &str = "top";

/// The kind of the operator that sorts for a function of groups; as [`SORT`].
pub(crate) const REDUCE_GROUP: &str = "reduce_group";

/// The kind of the operator that does so with two inputs.
pub(crate) const CO_GROUP: &str = "co_group";
