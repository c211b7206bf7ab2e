//! Aggregates: functions that fold the records of a key into a few 64-bit lanes.
//!
//! # Interface
//! [`count`], [`sum`], [`min`], [`max`] and [`avg`] make [`Aggregate`]s; a tuple of aggregates is one. Operators call
//! [`Aggregate::fold`] for a record, [`Aggregate::merge`] for lanes that were folded elsewhere (and spilled, perhaps),
//! and [`Aggregate::finish`] for the result.
//!
//! # Invariants
//! I1. Folding records in any order, in any number of parts that are merged in any order, gives the same result.

mod functions;
mod number;

pub use functions::{Avg, Count, Max, Min, Sum, avg, count, max, min, sum};
pub use number::{Ordinal, Summand};

use crate::record::Record;

/// The most lanes that one operator's aggregates may have together.
pub const MOST_LANES: usize = forebay_memory::pages::MOST_LANES;

/// A function over the records of a key.
pub trait Aggregate<R: Record>: Clone + Send + Sync + 'static {
    /// The type of its result.
    type Out: Record;

    /// 64-bit words of state.
    const LANES: usize;

    /// Whether [`Aggregate::fold`] looks at the row: where it does not, records may be folded that never become one.
    const READS_ROWS: bool = true;

    /// Folds a record's row into the lanes, which are all zero when `is_new`.
    fn fold(&self, lanes: &mut [u64], row: &[u8], is_new: bool);

    /// Folds other lanes, of at least one record, into the lanes, which are all zero when `is_new`.
    fn merge(&self, lanes: &mut [u64], other: &[u64], is_new: bool);

    /// The result for lanes of at least one record.
    fn finish(&self, lanes: &[u64]) -> Self::Out;

    /// What it does, for the plan: `sum(price)`.
    fn describe(&self) -> String;
}

macro_rules! tuple_aggregate {
    ($($name:ident $index:tt),+) => {
        impl<R: Record, $($name: Aggregate<R>),+> Aggregate<R> for ($($name,)+) {
            type Out = ($($name::Out,)+);
            const LANES: usize = 0 $(+ $name::LANES)+;
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
