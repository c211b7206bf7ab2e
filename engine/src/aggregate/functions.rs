//! The built-in aggregates.

use super::{Aggregate, Ordinal, Summand};
use crate::record::{Field, Record};

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
                format!(concat!(stringify!($function), "({})"), self.field.name())
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
over_field! {
    /// The least value of a field.
    Min, min
}
over_field! {
    /// The greatest value of a field; NaN is greater than every number.
    Max, max
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

macro_rules! extreme {
    ($name:ident, $best:path) => {
        impl<R: Record, T: Ordinal> Aggregate<R> for $name<R, T> {
            type Out = T;
            const LANES: usize = 1;

            #[inline(always)]
            fn fold(&self, lanes: &mut [u64], row: &[u8], is_new: bool) {
                self.merge(lanes, &[T::to_ordinal(self.field.read(row))], is_new);
            }

            #[inline(always)]
            fn merge(&self, lanes: &mut [u64], other: &[u64], is_new: bool) {
                lanes[0] = if is_new {
                    other[0]
                } else {
                    $best(lanes[0], other[0])
                };
            }

            fn finish(&self, lanes: &[u64]) -> T {
                T::from_ordinal(lanes[0])
            }

            fn describe(&self) -> String {
                self.name()
            }
        }
    };
}

extreme!(Min, u64::min);
extreme!(Max, u64::max);
