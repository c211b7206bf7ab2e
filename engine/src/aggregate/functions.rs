//! Aggregates that are lanes alone.

use super::{Aggregate, Spread, Summand};
use crate::record::{Field, Record};
use std::marker::PhantomData;

/// The number of records.
#[derive(Debug, Clone, Copy)]
pub struct Count;

/// The number of records.
pub fn count() -> Count {
    Count
}

impl<R: Record> Aggregate<R> for Count {
    type Out = u64;
    const LANES: usize = 1;
    const READS_ROWS: bool = false;

    #[inline(always)]
    fn fold(&self, lanes: &mut [u64], _: &[u8], _: bool) {
        lanes[0] += 1;
    }

    #[inline(always)]
    fn merge(&self, lanes: &mut [u64], other: &[u64], _: bool) {
        lanes[0] += other[0];
    }

    #[inline(always)]
    fn finish(&self, lanes: &[u64]) -> u64 {
        lanes[0]
    }

    fn describe(&self) -> String {
        "count".into()
    }
}

macro_rules! over_field {
    ($(#[$doc:meta])* $name:ident, $function:ident) => {
        $(#[$doc])*
        pub struct $name<R: Record, T: Record> {
            field: Field<R, T>,
        }

        $(#[$doc])*
        pub fn $function<R: Record, T: Record>(field: Field<R, T>) -> $name<R, T> {
            $name { field }
        }

        impl<R: Record, T: Record> Clone for $name<R, T> {
            fn clone(&self) -> Self {
                $name { field: self.field }
            }
        }

        impl<R: Record, T: Record> $name<R, T> {
            fn name(&self) -> String {
                format!(concat!(stringify!($function), "({})"), self.field.label())
            }
        }
    };
}

over_field! {
    /// The sum of a field; of integers with wrap-around at 64 bits (128 for 128-bit fields), of floats compensated:
    /// their order shows only where almost all of 106 bits cancel, or a partial sum of finite terms overflows to infinity.
    Sum, sum
}
over_field! {
    /// The mean of a field; of integers without overflow.
    Avg, avg
}
impl<R: Record, T: Summand> Aggregate<R> for Sum<R, T> {
    type Out = T::Sum;
    const LANES: usize = T::LANES;

    #[inline(always)]
    fn fold(&self, lanes: &mut [u64], row: &[u8], _: bool) {
        T::add(lanes, self.field.read(row));
    }

    #[inline(always)]
    fn merge(&self, lanes: &mut [u64], other: &[u64], _: bool) {
        T::add_state(lanes, other);
    }

    #[inline(always)]
    fn finish(&self, lanes: &[u64]) -> T::Sum {
        T::sum(lanes)
    }

    fn describe(&self) -> String {
        self.name()
    }
}

impl<R: Record, T: Summand> Aggregate<R> for Avg<R, T> {
    type Out = f64;
    const LANES: usize = 3;

    #[inline(always)]
    fn fold(&self, lanes: &mut [u64], row: &[u8], _: bool) {
        let (count, sum) = lanes.split_at_mut(1);
        count[0] += 1;
        T::add_wide(sum, self.field.read(row));
    }

    #[inline(always)]
    fn merge(&self, lanes: &mut [u64], other: &[u64], _: bool) {
        let (count, sum) = lanes.split_at_mut(1);
        count[0] += other[0];
        T::add_wide_state(sum, &other[1..]);
    }

    fn finish(&self, lanes: &[u64]) -> f64 {
        T::mean(&lanes[1..], lanes[0])
    }

    fn describe(&self) -> String {
        self.name()
    }
}

/// The sum of what a function makes of each record.
pub struct SumOf<R, F, T> {
    function: F,
    types: PhantomData<fn(R) -> T>,
}

/// The mean of what a function makes of each record.
pub struct AvgOf<R, F, T>(SumOf<R, F, T>);

/// The sum of what `function` makes of each record, as [`sum`] adds fields up. It is called once for each record, where the record
/// is: nothing is made for it but the number.
///
/// ```
/// # use forebay::{Environment, Result, aggregate::sum_of, record::first, source::from_items};
/// # fn main() -> Result<()> {
/// # let env = Environment::from_args()?;
/// let totals = env
///     .source("lines", from_items(vec![(1, 10, 3), (2, 5, 1), (1, 2, 4)]))
///     .group_by(first::<(u64, i64, i64)>())
///     .aggregate(sum_of(|(_, price, units): (u64, i64, i64)| price * units))
///     .collect();
/// env.execute("totals")?;
/// let mut totals = totals.take();
/// totals.sort();
/// assert_eq!(totals, [(1, 38), (2, 5)]);
/// # Ok(())
/// # }
/// ```
pub fn sum_of<R, F, T>(function: F) -> SumOf<R, F, T>
where
    R: Record,
    F: for<'a> Fn(R::View<'a>) -> T + Clone + Send + Sync + 'static,
    T: Summand,
{
    SumOf {
        function,
        types: PhantomData,
    }
}

/// The mean of what `function` makes of each record, as [`avg`] of a field and [`sum_of`] are.
pub fn avg_of<R, F, T>(function: F) -> AvgOf<R, F, T>
where
    R: Record,
    F: for<'a> Fn(R::View<'a>) -> T + Clone + Send + Sync + 'static,
    T: Summand,
{
    AvgOf(sum_of(function))
}

impl<R, F: Clone, T> Clone for SumOf<R, F, T> {
    fn clone(&self) -> Self {
        SumOf {
            function: self.function.clone(),
            types: PhantomData,
        }
    }
}

impl<R, F: Clone, T> Clone for AvgOf<R, F, T> {
    fn clone(&self) -> Self {
        AvgOf(self.0.clone())
    }
}

impl<R, F, T> Aggregate<R> for SumOf<R, F, T>
where
    R: Record,
    F: for<'a> Fn(R::View<'a>) -> T + Clone + Send + Sync + 'static,
    T: Summand,
{
    type Out = T::Sum;
    const LANES: usize = T::LANES;

    #[inline(always)]
    fn fold(&self, lanes: &mut [u64], row: &[u8], _: bool) {
        T::add(lanes, (self.function)(R::read_row(row)).view());
    }

    #[inline(always)]
    fn merge(&self, lanes: &mut [u64], other: &[u64], _: bool) {
        T::add_state(lanes, other);
    }

    #[inline(always)]
    fn finish(&self, lanes: &[u64]) -> T::Sum {
        T::sum(lanes)
    }

    fn describe(&self) -> String {
        "sum of a function".into()
    }
}

impl<R, F, T> Aggregate<R> for AvgOf<R, F, T>
where
    R: Record,
    F: for<'a> Fn(R::View<'a>) -> T + Clone + Send + Sync + 'static,
    T: Summand,
{
    type Out = f64;
    const LANES: usize = 3;

    #[inline(always)]
    fn fold(&self, lanes: &mut [u64], row: &[u8], _: bool) {
        let (count, sum) = lanes.split_at_mut(1);
        count[0] += 1;
        T::add_wide(sum, (self.0.function)(R::read_row(row)).view());
    }

    #[inline(always)]
    fn merge(&self, lanes: &mut [u64], other: &[u64], _: bool) {
        let (count, sum) = lanes.split_at_mut(1);
        count[0] += other[0];
        T::add_wide_state(sum, &other[1..]);
    }

    fn finish(&self, lanes: &[u64]) -> f64 {
        T::mean(&lanes[1..], lanes[0])
    }

    fn describe(&self) -> String {
        "avg of a function".into()
    }
}

/// The variance of a field or its root, the standard deviation: of the records as all there are, or as a sample of more.
pub struct Variance<R: Record, T: Record> {
    field: Field<R, T>,
    is_sample: bool,
    is_root: bool,
}

impl<R: Record, T: Record> Clone for Variance<R, T> {
    fn clone(&self) -> Self {
        Variance { ..*self }
    }
}

/// The sample variance of a field (divided by one less than the count; NaN of one record). Of integers exact but for the last
/// roundings, of floats in 106 bits: the order of the records does not show, as long as the mean is no more than 2^20 times the
/// deviation.
pub fn var<R: Record, T: Spread>(field: Field<R, T>) -> Variance<R, T> {
    Variance {
        field,
        is_sample: true,
        is_root: false,
    }
}

/// The variance of a field over all there are (divided by the count). As exact as [`var`].
pub fn var_population<R: Record, T: Spread>(field: Field<R, T>) -> Variance<R, T> {
    Variance {
        is_sample: false,
        ..var(field)
    }
}

/// The sample standard deviation of a field: the root of [`var`].
pub fn stddev<R: Record, T: Spread>(field: Field<R, T>) -> Variance<R, T> {
    Variance {
        is_root: true,
        ..var(field)
    }
}

/// The standard deviation of a field over all there are: the root of [`var_population`].
pub fn stddev_population<R: Record, T: Spread>(field: Field<R, T>) -> Variance<R, T> {
    Variance {
        is_sample: false,
        ..stddev(field)
    }
}

impl<R: Record, T: Spread> Aggregate<R> for Variance<R, T> {
    type Out = f64;
    const LANES: usize = T::LANES;

    #[inline(always)]
    fn fold(&self, lanes: &mut [u64], row: &[u8], _: bool) {
        T::add_spread(lanes, self.field.read(row));
    }

    #[inline(always)]
    fn merge(&self, lanes: &mut [u64], other: &[u64], _: bool) {
        T::add_spread_state(lanes, other);
    }

    fn finish(&self, lanes: &[u64]) -> f64 {
        let variance = T::variance(lanes, u64::from(self.is_sample));
        if self.is_root { variance.sqrt() } else { variance }
    }

    fn describe(&self) -> String {
        let name = if self.is_root { "stddev" } else { "var" };
        let kind = if self.is_sample { "" } else { "_population" };
        format!("{name}{kind}({})", self.field.label())
    }
}

/// Whether a field is true in every record, or in any.
pub struct Truth<R: Record> {
    field: Field<R, bool>,
    of_all: bool,
}

impl<R: Record> Clone for Truth<R> {
    fn clone(&self) -> Self {
        Truth { ..*self }
    }
}

/// Whether a field is true in every record.
pub fn bool_and<R: Record>(field: Field<R, bool>) -> Truth<R> {
    Truth { field, of_all: true }
}

/// Whether a field is true in some record.
pub fn bool_or<R: Record>(field: Field<R, bool>) -> Truth<R> {
    Truth { field, of_all: false }
}

impl<R: Record> Aggregate<R> for Truth<R> {
    type Out = bool;
    const LANES: usize = 1;

    #[inline(always)]
    fn fold(&self, lanes: &mut [u64], row: &[u8], _: bool) {
        // Whether some record is otherwise than the answer without it: zero lanes are the answer of no record.
        lanes[0] |= u64::from(self.field.read(row) != self.of_all);
    }

    #[inline(always)]
    fn merge(&self, lanes: &mut [u64], other: &[u64], _: bool) {
        lanes[0] |= other[0];
    }

    fn finish(&self, lanes: &[u64]) -> bool {
        (lanes[0] != 0) != self.of_all
    }

    fn describe(&self) -> String {
        let name = if self.of_all { "bool_and" } else { "bool_or" };
        format!("{name}({})", self.field.label())
    }
}
