//! Operators: objects that take batches and send batches, chained by direct calls.

mod downstream;
mod ranks;
mod fused;
mod repeat;
mod still_keyed;
mod aggregate;
mod sort;
mod materialize;
mod join;

pub(crate) use aggregate::{
    ByteGroups, Emission, GroupedAggregate, HandedGroups, Handover, KeyAndResult, KeyOnly, LEAST_SEGMENTS,
    Lanes, LineGroups, LocalAggregate, LocalLines, LocalStates, MOST_LOCAL_SEGMENTS, MergePartials,
    MergeStates, OrElse, Own, Partial, Reduced, ResultOnly, RowGroups, Setting, Shape, StateGroups, StateRow,
    States, Total, least_segments,
};
pub use downstream::{Chain, ChainLink, Downstream, Finish, Operator, ViewTaker};
pub use fused::{Collector, Emit, Filter, FlatMap, Fused, FusedFlatMap, Identity, Inspect, Map, Stage};
pub(crate) use join::{
    Always, Anti, Full, HashJoin, Inner, JoinFunctions, JoinSetting, LEAST_LOG_SEGMENTS, LeftOuter,
    MergeJoin, MergeSetting, Residual, RightOuter, Semi, Where, least_segments as least_join_segments,
};
pub(crate) use materialize::{LEAST_SEGMENTS as LEAST_MATERIALIZE_SEGMENTS, Materialize};
pub use ranks::FirstRanks;
pub(crate) use repeat::{Counts, Repeat};
pub use sort::Group;
pub(crate) use sort::{
    CO_GROUP, CoGroups, FieldOrder, LocalSort, Meeting, REDUCE_GROUP, SORT, SORT_WITHIN, Share, SortedGroups,
    Sorting, TOP, local_sort,
};
pub(crate) use still_keyed::StillKeyed;

/// The kind, in plans, of the operator that sends what two streams have in common. It needs their ends, as a sort does.
pub(crate) const INTERSECT: &str = "intersect";

/// The kind of the operator that sends what one stream has and the other has not, likewise.
pub(crate) const MINUS: &str = "minus";
