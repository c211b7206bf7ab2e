//! Aggregation by key, in any budget.
//!
//! [`groups`] keeps the groups of one key type in hash pages, [`partitions`] what left memory, and [`grouped`] is the
//! operator over both.

mod folding;
mod groups;
mod byte_groups;
mod state_groups;
mod partitions;
mod hot_keys;
mod handover;
mod grouped;
mod leaving;
mod short_groups;
mod short_front;
mod local;
mod local_lines;
mod local_states;
mod total;

use forebay_memory::Plan;

pub(crate) use byte_groups::{ByteGroups, RowGroups};
pub(crate) use folding::{KeyAndResult, KeyOnly, Lanes, MergeStates, Reduced, ResultOnly, StateRow, States};
pub(crate) use grouped::{Emission, GroupedAggregate, Setting};
pub(crate) use groups::LineGroups;
pub(crate) use handover::{HandedGroups, Handover, Own};
pub(crate) use local::{LocalAggregate, MOST_SEGMENTS as MOST_LOCAL_SEGMENTS, MergePartials, Partial};
pub(crate) use local_lines::LocalLines;
pub(crate) use local_states::LocalStates;
pub(crate) use state_groups::{Shape, StateGroups};
pub(crate) use total::{OrElse, Total};

/// Managed segments that an aggregation of small groups cannot do without (DESIGN §5): pages and directory, the buffer of a
/// hash partition that leaves, and one to read back into.
pub(crate) const LEAST_SEGMENTS: usize = 8;

/// Managed segments that an aggregation cannot do without whose keys and states are parts of records of `stride` bytes, or
/// of any size where that is 0: a group of the largest size and what takes its place must be in memory at once.
pub(crate) fn least_segments(stride: usize, plan: &Plan) -> usize {
    let segment = plan.segment_size();
    let large = match stride {
        0 => plan.record_segments(),
        // Eight of them share a page.
        _ if stride <= segment / 8 => 0,
        _ => stride.div_ceil(segment),
    };
    LEAST_SEGMENTS + 2 * large
}
