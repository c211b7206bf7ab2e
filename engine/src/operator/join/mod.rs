//! Joins, in any budget.
//!
//! [`functions`] says what becomes of rows that match and of rows that do not, [`partitions`] keeps the rows of both sides in
//! memory and in the spill store, [`probing`] finds matches, [`feed`] reads back what was kept
//! or spilled, [`passes`] joins what the bits of a hash do not divide, and [`hash`] is the operator over them.
//! [`merge`] is the one over sorted sides, and [`row_log`] where it keeps the rows of a key.

mod functions;
mod partitions;
mod probing;
mod feed;
mod passes;
mod hash;
mod row_log;
mod merge;

use forebay_memory::Plan;

pub(crate) use functions::{
    Always, Anti, Full, Inner, JoinFunctions, LeftOuter, Residual, RightOuter, Semi, Where,
};
pub(crate) use hash::{HashJoin, JoinSetting};
pub(crate) use merge::{LEAST_LOG_SEGMENTS, MergeJoin, MergeSetting};

/// Managed segments that a join of small rows cannot do without (DESIGN §5): a buffer for each of a few hash partitions of
/// both sides, a table, and a block to read back into.
pub(crate) const LEAST_SEGMENTS: usize = 16;

/// Managed segments that a join cannot do without whose rows are of these strides, 0 where they vary: a row of the largest
/// size of each side.
pub(crate) fn least_segments(strides: [usize; 2], plan: &Plan) -> usize {
    let segment = plan.segment_size();
    let large = strides.map(|stride| match stride {
        0 => plan.record_segments(),
        _ if stride <= segment / 8 => 0,
        _ => stride.div_ceil(segment),
    });
    LEAST_SEGMENTS + 2 * large[0].max(large[1])
}
