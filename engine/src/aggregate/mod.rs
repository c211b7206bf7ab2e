//! Aggregates: functions that fold the records of a key into a few 64-bit lanes, and byte strings where lanes are not enough.
//!
//! # Interface
//! [`count`], [`sum`], [`min`] and the others make [`Aggregate`]s; a tuple of aggregates is one. Operators call
//! [`Aggregate::fold`] for a record, [`Aggregate::merge`] for lanes that were folded elsewhere (and spilled, perhaps),
//! and [`Aggregate::finish`] for the result; where an aggregate has byte strings too, [`Aggregate::fold_state`] and its like
//! in their place. Users write [`StatefulAggregate`]s, of which [`stateful`] makes aggregates.
//!
//! # Invariants
//! I1. Folding records in any order, in any number of parts that are merged in any order, gives the same result (of
//!     approximate quantiles: one within the same bound). Every aggregate is put to that test in
//!     `engine/tests/aggregates.rs`.

mod number;
mod spread;
mod state;
mod functions;
mod extreme;
mod stateful;
mod lists;
mod hyperloglog;
mod quantile;

pub use extreme::{Best, Max, Min, first_by, last_by, max, max_by, min, min_by};
pub use functions::{
    Avg, AvgOf, Count, Sum, SumOf, Truth, Variance, avg, avg_of, bool_and, bool_or, count, stddev,
    stddev_population, sum, sum_of, var, var_population,
};
pub use hyperloglog::{ApproxCountDistinct, approx_count_distinct};
pub use lists::{
    CollectList, CollectListBy, CollectSet, CountDistinct, collect_list, collect_list_by, collect_set,
    count_distinct,
};
pub use number::Summand;
pub use quantile::{ApproxQuantile, approx_quantile};
pub use spread::Spread;
pub(crate) use state::{GroupState, Records, record_size, write_record};
pub use state::{State, StateBytes, StateRef};
pub(crate) use stateful::Fold;
pub use stateful::{Stateful, StatefulAggregate, stateful};

use crate::record::Record;

/// The most lanes that one operator's aggregates may have together.
pub const MOST_LANES: usize = forebay_memory::pages::MOST_LANES;

/// A function over the records of a key.
///
/// Where [`Aggregate::PARTS`] is 0 the state is lanes, and the first three functions are all that is called. Otherwise it is
/// lanes and byte strings, and the three that end in `_state` are.
pub trait Aggregate<R: Record>: Clone + Send + Sync + 'static {
    /// The type of its result.
    type Out: Record;

    /// 64-bit words of state.
    const LANES: usize;

    /// Byte strings of state.
    const PARTS: usize = 0;

    /// Whether [`Aggregate::fold`] looks at the row: where it does not, records may be folded that never become one.
    const READS_ROWS: bool = true;

    /// Folds a record's row into the lanes, which are all zero when `is_new`.
    fn fold(&self, lanes: &mut [u64], row: &[u8], is_new: bool) {
        let _ = (lanes, row, is_new);
        has_parts();
    }

    /// Folds other lanes, of at least one record, into the lanes, which are all zero when `is_new`.
    fn merge(&self, lanes: &mut [u64], other: &[u64], is_new: bool) {
        let _ = (lanes, other, is_new);
        has_parts();
    }

    /// The result for lanes of at least one record.
    fn finish(&self, lanes: &[u64]) -> Self::Out {
        let _ = lanes;
        has_parts();
    }

    /// Folds a record's row into the state, whose lanes are zero and whose byte strings are empty when `is_new`.
    #[inline(always)]
    fn fold_state(&self, state: &mut State<'_>, row: &[u8], is_new: bool) {
        self.fold(state.lanes(), row, is_new);
    }

    /// Folds another state, of at least one record, into the state, which is as for [`Aggregate::fold_state`].
    #[inline(always)]
    fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, is_new: bool) {
        self.merge(state.lanes(), other.lanes(), is_new);
    }

    /// The result for a state of at least one record.
    #[inline(always)]
    fn finish_state(&self, state: &StateRef<'_>) -> Self::Out {
        self.finish(state.lanes())
    }

    /// Makes a state of at least one record as small as it can be, where it is larger than it must be.
    fn compact_state(&self, state: &mut State<'_>) {
        let _ = state;
    }

    /// What it does, for the plan: `sum(price)`.
    fn describe(&self) -> String;
}

/// Called where an aggregate with byte strings is used as one without.
#[cold]
fn has_parts() -> ! {
    unreachable!(
        "an aggregate with byte strings is folded with them, one without says how its lanes are folded"
    )
}

macro_rules! tuple_aggregate {
    ($($name:ident $index:tt),+) => {
        impl<R: Record, $($name: Aggregate<R>),+> Aggregate<R> for ($($name,)+) {
            type Out = ($($name::Out,)+);
            const LANES: usize = 0 $(+ $name::LANES)+;
            const PARTS: usize = 0 $(+ $name::PARTS)+;
            const READS_ROWS: bool = false $(|| $name::READS_ROWS)+;

            #[inline(always)]
            fn fold(&self, lanes: &mut [u64], row: &[u8], is_new: bool) {
                let rest = lanes;
                $(
                    let (mine, rest) = rest.split_at_mut($name::LANES);
                    self.$index.fold(mine, row, is_new);
                )+
                let _ = rest;
            }

            #[inline(always)]
            fn merge(&self, lanes: &mut [u64], other: &[u64], is_new: bool) {
                let (rest, other) = (lanes, other);
                $(
                    let (mine, rest) = rest.split_at_mut($name::LANES);
                    let (theirs, other) = other.split_at($name::LANES);
                    self.$index.merge(mine, theirs, is_new);
                )+
                let _ = (rest, other);
            }

            #[inline(always)]
            fn finish(&self, lanes: &[u64]) -> Self::Out {
                let rest = lanes;
                // A tuple expression is evaluated from left to right, so each takes its own lanes.
                let mut at = 0;
                let result = ($({
                    let mine = &rest[at..at + $name::LANES];
                    at += $name::LANES;
                    self.$index.finish(mine)
                },)+);
                let _ = at;
                result
            }

            #[inline(always)]
            fn fold_state(&self, state: &mut State<'_>, row: &[u8], is_new: bool) {
                let (lane, part) = (0, 0);
                $(
                    let mut mine = state.share(lane, $name::LANES, part, $name::PARTS);
                    self.$index.fold_state(&mut mine, row, is_new);
                    let (lane, part) = (lane + $name::LANES, part + $name::PARTS);
                )+
                let _ = (lane, part);
            }

            #[inline(always)]
            fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, is_new: bool) {
                let (lane, part) = (0, 0);
                $(
                    let mut mine = state.share(lane, $name::LANES, part, $name::PARTS);
                    let theirs = other.share(lane, $name::LANES, part, $name::PARTS);
                    self.$index.merge_state(&mut mine, &theirs, is_new);
                    let (lane, part) = (lane + $name::LANES, part + $name::PARTS);
                )+
                let _ = (lane, part);
            }

            fn compact_state(&self, state: &mut State<'_>) {
                let (lane, part) = (0, 0);
                $(
                    if $name::PARTS > 0 {
                        let mut mine = state.share(lane, $name::LANES, part, $name::PARTS);
                        self.$index.compact_state(&mut mine);
                    }
                    let (lane, part) = (lane + $name::LANES, part + $name::PARTS);
                )+
                let _ = (lane, part);
            }

            #[inline(always)]
            fn finish_state(&self, state: &StateRef<'_>) -> Self::Out {
                let (mut lane, mut part) = (0, 0);
                let result = ($({
                    let mine = state.share(lane, $name::LANES, part, $name::PARTS);
                    (lane, part) = (lane + $name::LANES, part + $name::PARTS);
                    self.$index.finish_state(&mine)
                },)+);
                let _ = (lane, part);
                result
            }

            fn describe(&self) -> String {
                [$(self.$index.describe()),+].join(", ")
            }
        }
    };
}

tuple_aggregate!(A 0);
tuple_aggregate!(A 0, B 1);
tuple_aggregate!(A 0, B 1, C 2);
tuple_aggregate!(A 0, B 1, C 2, D 3);
tuple_aggregate!(A 0, B 1, C 2, D 3, E 4);
tuple_aggregate!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple_aggregate!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple_aggregate!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
