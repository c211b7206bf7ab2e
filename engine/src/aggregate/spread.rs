//! How variances are kept in lanes.
//!
//! # Algorithm
//! Count, sum and sum of squares. Of integers all three are exact, in as many bits as they can need (the squares of 2^64
//! records of 64 bits take 192), and so is n × Σx² − (Σx)², in 256 bits: the result is what its last three roundings make
//! of it, whatever the order of folding. Of floats both sums are unevaluated sums of two, as in [`number`](super::number);
//! a square is split exactly (Veltkamp and Dekker). Each sum is then off by no more than 2^-100 of the sum of its absolute terms,
//! the variance by no more than 2^-96 × (mean² + variance): where the mean is up to 2^20 times the deviation, by
//! less than one rounding.
//! Values over 1e140 in absolute value may overflow; the result is NaN then, as where a value is infinite or NaN.

use super::number::{add_pair, two_sum};
use crate::record::{Date, Record, Timestamp};

/// A number whose variance can be computed.
pub trait Spread: Record {
    /// Words of state.
    const LANES: usize;

    /// Adds a value to a state, which is all zero at first.
    fn add_spread(lanes: &mut [u64], value: Self::View<'_>);
    /// Adds a state to another.
    fn add_spread_state(lanes: &mut [u64], other: &[u64]);
    /// The sum of squared deviations from the mean, divided by the count less `less`; NaN where that is 0.
    fn variance(lanes: &[u64], less: u64) -> f64;
}

fn i128_of(lanes: &[u64]) -> i128 {
    (u128::from(lanes[0]) | u128::from(lanes[1]) << 64) as i128
}

fn add_i128(lanes: &mut [u64], value: i128) {
    let sum = i128_of(lanes).wrapping_add(value);
    (lanes[0], lanes[1]) = (sum as u64, (sum >> 64) as u64);
}

/// Adds limbs, least first, to as many limbs or more.
fn add_limbs(to: &mut [u64], limbs: &[u64]) {
    let mut carry = false;
    for (index, limb) in to.iter_mut().enumerate() {
        let (sum, first) = limb.overflowing_add(limbs.get(index).copied().unwrap_or(0));
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        *limb = sum;
        carry = first | second;
    }
}

/// The product of limbs, least first, modulo 2^256.
fn product(left: &[u64], right: &[u64]) -> [u64; 4] {
    let mut result = [0; 4];
    for (i, a) in left.iter().enumerate() {
        for (j, b) in right.iter().enumerate() {
            if i + j < 4 {
                let term = u128::from(*a) * u128::from(*b);
                add_limbs(&mut result[i + j..], &[term as u64, (term >> 64) as u64]);
            }
        }
    }
    result
}

/// The nearest float to limbs, least first (but for ties that only bits beyond the first 64 would decide).
fn float_of(limbs: [u64; 4]) -> f64 {
    let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else {
        return 0.0;
    };
    let below = if top > 0 { limbs[top - 1] } else { 0 };
    let high = u128::from(limbs[top]) << 64 | u128::from(below);
    high as f64 * f64::powi(2.0, 64 * (top as i32 - 1))
}

/// n × Σx² − (Σx)², divided by n and by n − `less`.
fn exact_variance(count: u64, sum: i128, squares: &[u64], less: u64) -> f64 {
    if count <= less {
        return f64::NAN;
    }
    let sum = sum.unsigned_abs();
    let sum = [sum as u64, (sum >> 64) as u64];
    let mut difference = product(&[count], squares);
    let negated = product(&sum, &sum).map(|limb| !limb);
    add_limbs(&mut difference, &negated);
    add_limbs(&mut difference, &[1]);
    float_of(difference) / count as f64 / (count - less) as f64
}

macro_rules! integers {
    ($squares:literal, $square:expr; $($type:ty),+) => {$(
        impl Spread for $type {
            const LANES: usize = 3 + $squares;

            #[inline(always)]
            fn add_spread(lanes: &mut [u64], value: $type) {
                lanes[0] += 1;
                add_i128(&mut lanes[1..3], i128::from(value));
                let square: u128 = $square(i128::from(value));
                add_limbs(&mut lanes[3..3 + $squares], &[square as u64, (square >> 64) as u64]);
            }

            #[inline(always)]
            fn add_spread_state(lanes: &mut [u64], other: &[u64]) {
                lanes[0] += other[0];
                add_i128(&mut lanes[1..3], i128_of(&other[1..3]));
                add_limbs(&mut lanes[3..3 + $squares], &other[3..3 + $squares]);
            }

            fn variance(lanes: &[u64], less: u64) -> f64 {
                exact_variance(lanes[0], i128_of(&lanes[1..3]), &lanes[3..3 + $squares], less)
            }
        }
    )+};
}

integers!(2, |value: i128| (value * value) as u128; i8, i16, i32, u8, u16, u32);
integers!(3, |value: i128| value.unsigned_abs() * value.unsigned_abs(); i64, u64);

macro_rules! newtypes {
    ($($type:ty: $inner:ty),+) => {$(
        impl Spread for $type {
            const LANES: usize = <$inner as Spread>::LANES;

            fn add_spread(lanes: &mut [u64], value: $type) {
                <$inner>::add_spread(lanes, <$type as Record>::to_u64(value) as $inner);
            }

            fn add_spread_state(lanes: &mut [u64], other: &[u64]) {
                <$inner>::add_spread_state(lanes, other);
            }

            fn variance(lanes: &[u64], less: u64) -> f64 {
                <$inner>::variance(lanes, less)
            }
        }
    )+};
}

newtypes!(Timestamp: i64, Date: i32);

/// A float as the sum of two of 26 bits each.
fn halves(value: f64) -> (f64, f64) {
    let scaled = value * 134_217_729.0;
    let high = scaled - (scaled - value);
    (high, value - high)
}

/// `a × b` as the nearest float and what it leaves out.
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    let ((a_high, a_low), (b_high, b_low)) = (halves(a), halves(b));
    let error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
    (product, error)
}

fn pair_of(lanes: &[u64]) -> (f64, f64) {
    (f64::from_bits(lanes[0]), f64::from_bits(lanes[1]))
}

/// Sum of two unevaluated sums.
fn pair_sum(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let (sum, error) = two_sum(a.0, b.0);
    let (low, rest) = two_sum(a.1, b.1);
    let (sum, error) = two_sum(sum, error + low);
    two_sum(sum, error + rest)
}

/// Product of two unevaluated sums.
fn pair_product(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let (product, error) = two_product(a.0, b.0);
    two_sum(product, error + (a.0 * b.1 + a.1 * b.0))
}

impl Spread for f64 {
    const LANES: usize = 5;

    fn add_spread(lanes: &mut [u64], value: f64) {
        lanes[0] += 1;
        add_pair(&mut lanes[1..3], value, 0.0);
        let (square, error) = two_product(value, value);
        let error = if error.is_finite() { error } else { 0.0 };
        add_pair(&mut lanes[3..5], square, error);
    }

    fn add_spread_state(lanes: &mut [u64], other: &[u64]) {
        lanes[0] += other[0];
        for at in [1, 3] {
            let (high, low) = pair_of(&other[at..]);
            add_pair(&mut lanes[at..at + 2], high, low);
        }
    }

    fn variance(lanes: &[u64], less: u64) -> f64 {
        let count = lanes[0];
        if count <= less {
            return f64::NAN;
        }
        let (sum, squares) = (pair_of(&lanes[1..3]), pair_of(&lanes[3..5]));
        let scaled = pair_product((count as f64, 0.0), squares);
        let (high, low) = pair_product(sum, sum);
        let difference = pair_sum(scaled, (-high, -low));
        // Not below zero but by rounding; NaN stays.
        let difference = match difference.0 + difference.1 {
            negative if negative < 0.0 => 0.0,
            difference => difference,
        };
        difference / count as f64 / (count - less) as f64
    }
}

impl Spread for f32 {
    const LANES: usize = 5;

    fn add_spread(lanes: &mut [u64], value: f32) {
        f64::add_spread(lanes, f64::from(value));
    }

    fn add_spread_state(lanes: &mut [u64], other: &[u64]) {
        f64::add_spread_state(lanes, other);
    }

    fn variance(lanes: &[u64], less: u64) -> f64 {
        f64::variance(lanes, less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_memory::hash::hash_u64;

    fn spread_of<T: Spread + Copy>(values: &[T], parts: usize, less: u64) -> f64 {
        let mut total = vec![0; T::LANES];
        for part in values.chunks(values.len().div_ceil(parts)) {
            let mut lanes = vec![0; T::LANES];
            part.iter()
                .for_each(|value| T::add_spread(&mut lanes, value.view()));
            T::add_spread_state(&mut total, &lanes);
        }
        T::variance(&total, less)
    }

    /// By the definition, with the mean as it is.
    fn plainly(values: &[f64], less: u64) -> f64 {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        squares / (values.len() as u64 - less) as f64
    }

    fn assert_near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= expected.abs() * 1e-12,
            "{found:e}, and not {expected:e}"
        );
    }

    #[test]
    fn integers_are_exact_where_floats_are_not() {
        for less in [0, 1] {
            // Large, and close to each other: the naive formula in floats has nothing left of the variance.
            let values: Vec<i64> = (0..1000).map(|i| i64::MAX - i % 7).collect();
            let small: Vec<f64> = (0..1000).map(|i| f64::from(i % 7)).collect();
            let expected = plainly(&small, less);
            for parts in [1, 2, 13] {
                assert_near(spread_of(&values, parts, less), expected);
            }
            let values: Vec<u64> = (0..1000).map(|i| u64::MAX - i % 7).collect();
            assert_near(spread_of(&values, 3, less), expected);
            let values: Vec<i32> = (0..1000).map(|i| i32::MIN + i % 7).collect();
            assert_near(spread_of(&values, 3, less), expected);
        }
        let extremes = [i64::MIN, i64::MAX];
        assert_near(spread_of(&extremes, 2, 0), 2f64.powi(126));
        assert_near(spread_of(&[u64::MAX, 0], 1, 0), 2f64.powi(126));
        assert_eq!(spread_of(&[i64::MIN; 5], 2, 0), 0.0);
    }

    #[test]
    fn one_record_has_no_sample_variance() {
        assert_eq!(spread_of(&[7u8], 1, 0), 0.0);
        assert!(spread_of(&[7u8], 1, 1).is_nan());
        assert_eq!(spread_of(&[7.5f64], 1, 0), 0.0);
        assert!(spread_of(&[7.5f32], 1, 1).is_nan());
    }

    #[test]
    fn floats_do_not_depend_on_order() {
        let mut values: Vec<f64> = (0..5_000u64)
            .map(|i| {
                let draw = hash_u64(i);
                1e6 + (draw as i32 as f64) * f64::powi(2.0, (draw >> 60) as i32 - 40)
            })
            .collect();
        let expected = spread_of(&values, 1, 1);
        assert_near(
            expected,
            plainly(&values.iter().map(|v| v - 1e6).collect::<Vec<_>>(), 1),
        );
        values.reverse();
        assert_eq!(spread_of(&values, 7, 1), expected);
        values.sort_by(f64::total_cmp);
        assert_eq!(spread_of(&values, 13, 1), expected);
    }

    #[test]
    fn what_is_not_finite_gives_nan() {
        for odd in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e200] {
            for parts in [1, 2, 3] {
                assert!(spread_of(&[1.0, odd, 2.0], parts, 0).is_nan(), "{odd}");
            }
        }
    }
}
