//! How numbers are summed in lanes.
//!
//! # Algorithm
//! Integers are summed with wrap-around, as Flink and Java do: the result does not depend on the order, whatever
//! overflows on the way. Floats are summed as an unevaluated sum of two (Dekker's two-sum; Shewchuk 1997), which carries
//! about 106 bits: the error before the one final rounding is below 2^-100 of the sum of the absolute values, so
//! the order of folding shows only where cancellation has eaten almost all of 106 bits, and where a partial sum of finite
//! terms overflows: it is infinite from there on, and another order may not pass through it. Terms that are infinite
//! or NaN themselves give the same in every order.

use crate::record::Record;

/// A number that can be summed.
pub trait Summand: Record {
    /// The type of sums.
    type Sum: Record;
    /// Words of state.
    const LANES: usize;

    /// Adds a value to a state, which is all zero at first.
    fn add(lanes: &mut [u64], value: Self::View<'_>);
    /// Adds a state to another.
    fn add_state(lanes: &mut [u64], other: &[u64]);
    /// The sum of a state.
    fn sum(lanes: &[u64]) -> Self::Sum;
    /// Adds a value to a state of two lanes for the mean, in which no integer overflows.
    fn add_wide(lanes: &mut [u64], value: Self::View<'_>);
    /// Adds such a state to another.
    fn add_wide_state(lanes: &mut [u64], other: &[u64]);
    /// The sum of such a state divided by a count that is not zero.
    fn mean(lanes: &[u64], count: u64) -> f64;
}

macro_rules! small_integers {
    ($sum:ty: $($type:ty),+) => {$(
        impl Summand for $type {
            type Sum = $sum;
            const LANES: usize = 1;

            #[inline(always)]
            fn add(lanes: &mut [u64], value: $type) {
                lanes[0] = lanes[0].wrapping_add(value as $sum as u64);
            }
            #[inline(always)]
            fn add_state(lanes: &mut [u64], other: &[u64]) {
                lanes[0] = lanes[0].wrapping_add(other[0]);
            }
            #[inline(always)]
            fn sum(lanes: &[u64]) -> $sum {
                lanes[0] as $sum
            }
            fn add_wide(lanes: &mut [u64], value: $type) {
                i128::add(lanes, i128::from(value));
            }
            fn add_wide_state(lanes: &mut [u64], other: &[u64]) {
                i128::add_state(lanes, other);
            }
            fn mean(lanes: &[u64], count: u64) -> f64 {
                i128::mean(lanes, count)
            }
        }
    )+};
}

small_integers!(i64: i8, i16, i32, i64);
small_integers!(u64: u8, u16, u32, u64);

macro_rules! large_integers {
    ($($type:ty),+) => {$(
        impl Summand for $type {
            type Sum = $type;
            const LANES: usize = 2;

            fn add(lanes: &mut [u64], value: $type) {
                let sum = Self::sum(lanes).wrapping_add(value);
                (lanes[0], lanes[1]) = (sum as u64, (sum >> 64) as u64);
            }
            fn add_state(lanes: &mut [u64], other: &[u64]) {
                Self::add(lanes, Self::sum(other));
            }
            fn sum(lanes: &[u64]) -> $type {
                (lanes[0] as $type) | ((lanes[1] as $type) << 64)
            }
            fn add_wide(lanes: &mut [u64], value: $type) {
                Self::add(lanes, value);
            }
            fn add_wide_state(lanes: &mut [u64], other: &[u64]) {
                Self::add_state(lanes, other);
            }
            fn mean(lanes: &[u64], count: u64) -> f64 {
                Self::sum(lanes) as f64 / count as f64
            }
        }
    )+};
}

large_integers!(i128, u128);

/// `a + b` as the nearest float and what it leaves out.
#[inline(always)]
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let a_part = sum - b_part;
    (sum, (a - a_part) + (b - b_part))
}

/// Adds an unevaluated sum of two to another, in two lanes.
pub(super) fn add_pair(lanes: &mut [u64], high: f64, low: f64) {
    let (own_high, own_low) = (f64::from_bits(lanes[0]), f64::from_bits(lanes[1]));
    let (sum, error) = two_sum(own_high, high);
    if !sum.is_finite() {
        // Infinities and NaN: the error terms mean nothing.
        (lanes[0], lanes[1]) = (sum.to_bits(), 0);
        return;
    }
    let (low, rest) = two_sum(own_low, low);
    let (sum, error) = two_sum(sum, error + low);
    let (sum, error) = two_sum(sum, error + rest);
    (lanes[0], lanes[1]) = (sum.to_bits(), error.to_bits());
}

macro_rules! floats {
    ($($type:ty),+) => {$(
        impl Summand for $type {
            type Sum = f64;
            const LANES: usize = 2;

            fn add(lanes: &mut [u64], value: $type) {
                add_pair(lanes, f64::from(value), 0.0);
            }
            fn add_state(lanes: &mut [u64], other: &[u64]) {
                add_pair(lanes, f64::from_bits(other[0]), f64::from_bits(other[1]));
            }
            fn sum(lanes: &[u64]) -> f64 {
                f64::from_bits(lanes[0]) + f64::from_bits(lanes[1])
            }
            fn add_wide(lanes: &mut [u64], value: $type) {
                Self::add(lanes, value);
            }
            fn add_wide_state(lanes: &mut [u64], other: &[u64]) {
                Self::add_state(lanes, other);
            }
            fn mean(lanes: &[u64], count: u64) -> f64 {
                Self::sum(lanes) / count as f64
            }
        }
    )+};
}

floats!(f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(values: &[f64], parts: usize) -> f64 {
        let mut total = [0u64; 2];
        for part in values.chunks(values.len().div_ceil(parts)) {
            let mut lanes = [0u64; 2];
            part.iter().for_each(|value| f64::add(&mut lanes, *value));
            f64::add_state(&mut total, &lanes);
        }
        f64::sum(&total)
    }

    #[test]
    fn infinite_terms_do_not_depend_on_order_and_overflow_does() {
        let (infinity, nan) = (f64::INFINITY, f64::NAN);
        for parts in 1..=3 {
            assert_eq!(sum_of(&[infinity, 1.0, -1e308], parts), infinity);
            assert_eq!(sum_of(&[-1e308, 1.0, infinity], parts), infinity);
            assert!(sum_of(&[infinity, 1.0, -infinity], parts).is_nan());
            assert!(sum_of(&[-infinity, infinity, 1.0], parts).is_nan());
            assert!(sum_of(&[1.0, nan, infinity], parts).is_nan());
        }
        // As documented.
        assert_eq!(sum_of(&[1e308, 1e308, -1e308], 1), infinity);
        assert_eq!(sum_of(&[1e308, -1e308, 1e308], 1), 1e308);
    }

    #[test]
    fn float_sums_do_not_depend_on_order() {
        let mut values = Vec::new();
        let mut state = 7u64;
        for _ in 0..5_000 {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let exponent = (state >> 58) as i32 - 32;
            values.push((state as i32 as f64) * f64::powi(2.0, exponent));
        }
        let forward = sum_of(&values, 1);
        values.reverse();
        assert_eq!(forward, sum_of(&values, 7));
        values.sort_by(f64::total_cmp);
        assert_eq!(forward, sum_of(&values, 13));
    }

    #[test]
    fn small_terms_survive_large_ones() {
        assert_eq!(sum_of(&[1e16, 1.0, -1e16], 1), 1.0);
        assert!(sum_of(&[f64::INFINITY, 1.0], 2).is_infinite());
        assert!(sum_of(&[f64::INFINITY, f64::NEG_INFINITY], 2).is_nan());
    }
}
