//! About how many distinct values a field has: HyperLogLog.
//!
//! # Algorithm
//! A value's hash says which of 2^p registers it belongs to (its first p bits) and how many zeros follow; a register keeps the
//! most that it has seen, plus one (Flajolet et al. 2007). The estimate is Ertl's improved raw estimator ("New cardinality
//! estimation algorithms for HyperLogLog sketches", 2017), which needs no tables and no switch between ranges. Its relative
//! standard error is 1.04 / √(2^p): 1.6 % with the usual 4,096 registers. Registers are merged by taking the greater, so the
//! estimate depends on the set of values alone, not on their order.
//!
//! # Layout
//! A few registers: u32 each, number × 256 + content, in order. More than a sixteenth of them: a byte for each register.

use super::extreme::with_scratch;
use super::{Aggregate, State, StateBytes, StateRef};
use crate::record::{Field, Record};
use forebay_memory::hash::{hash_bytes, hash_u64};
use std::ops::RangeInclusive;

/// Bits of the hash that say which register.
const USUAL_PRECISION: u32 = 12;
const PRECISIONS: RangeInclusive<u32> = 4..=18;

/// About how many distinct values a field has. See [`approx_count_distinct`].
pub struct ApproxCountDistinct<R: Record, T: Record> {
    field: Field<R, T>,
    precision: u32,
}

/// About how many distinct values a field has, by HyperLogLog with 4,096 registers: 68 in 100 estimates are within 1.6 %, 95 within
/// 3.3 %, nearly all within 5 %. A group's state has 4 bytes for each value up to 256 of them, then 4 KiB. The estimate depends on
/// the set of values alone.
pub fn approx_count_distinct<R: Record, T: Record>(field: Field<R, T>) -> ApproxCountDistinct<R, T> {
    ApproxCountDistinct {
        field,
        precision: USUAL_PRECISION,
    }
}

impl<R: Record, T: Record> ApproxCountDistinct<R, T> {
    /// The same with 2^`precision` registers of a byte each: a relative standard error of 1.04 / √(2^precision).
    ///
    /// # Panics
    /// Where `precision` is not 4 to 18.
    pub fn with_precision(self, precision: u32) -> Self {
        assert!(
            PRECISIONS.contains(&precision),
            "HyperLogLog's precision is 4 to 18, not {precision}"
        );
        ApproxCountDistinct { precision, ..self }
    }

    fn registers(&self) -> usize {
        1 << self.precision
    }

    /// The register of a hash, and what it is to have at least.
    #[inline(always)]
    fn of(&self, hash: u64) -> (usize, u8) {
        let number = (hash >> (64 - self.precision)) as usize;
        let rest = hash << self.precision | 1 << (self.precision - 1);
        (number, rest.leading_zeros() as u8 + 1)
    }

    #[inline]
    fn raise(&self, registers: &mut StateBytes<'_>, number: usize, content: u8) {
        if registers.len() == self.registers() {
            let register = &mut registers[number];
            *register = content.max(*register);
        } else {
            self.raise_sparse(registers, number, content);
        }
    }

    fn raise_sparse(&self, registers: &mut StateBytes<'_>, number: usize, content: u8) {
        let (few, _) = registers.as_chunks::<4>();
        let found = few.binary_search_by_key(&number, |word| u32::from_le_bytes(*word) as usize >> 8);
        let word = (number << 8 | usize::from(content)) as u32;
        match found {
            Ok(place) => {
                let kept = &mut registers[4 * place];
                *kept = content.max(*kept);
            }
            Err(place) => {
                registers.splice(4 * place..4 * place, &word.to_le_bytes());
                if 4 * registers.len() > self.registers() {
                    self.make_dense(registers);
                }
            }
        }
    }

    #[cold]
    fn make_dense(&self, registers: &mut StateBytes<'_>) {
        let mut all = vec![0; self.registers()];
        for (number, content) in sparse(registers) {
            all[number] = content;
        }
        registers.set(&all);
    }

    fn estimate(&self, registers: &[u8]) -> u64 {
        let count = self.registers();
        let most = 64 - self.precision as usize + 1;
        // How many registers have each content.
        let mut contents = [0u32; 66];
        if registers.len() == count {
            registers
                .iter()
                .for_each(|content| contents[usize::from(*content)] += 1);
        } else {
            contents[0] = count as u32;
            for (_, content) in sparse(registers) {
                contents[0] -= 1;
                contents[usize::from(content)] += 1;
            }
        }
        let m = count as f64;
        let mut z = m * tau(1.0 - f64::from(contents[most]) / m);
        for content in contents[1..most].iter().rev() {
            z = 0.5 * (z + f64::from(*content));
        }
        z += m * sigma(f64::from(contents[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }
}

/// The registers of a sparse list, with what they have.
fn sparse(registers: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    registers.as_chunks::<4>().0.iter().map(|word| {
        let word = u32::from_le_bytes(*word);
        (word as usize >> 8, word as u8)
    })
}

/// Σ x^(2^k) × 2^(k−1), and x: Ertl's σ.
fn sigma(mut x: f64) -> f64 {
    let (mut y, mut z) = (1.0, x);
    if x == 1.0 {
        return f64::INFINITY;
    }
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Ertl's τ.
fn tau(mut x: f64) -> f64 {
    let (mut y, mut z) = (1.0, 1.0 - x);
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

impl<R: Record, T: Record> Clone for ApproxCountDistinct<R, T> {
    fn clone(&self) -> Self {
        ApproxCountDistinct { ..*self }
    }
}

impl<R: Record, T: Record> Aggregate<R> for ApproxCountDistinct<R, T> {
    type Out = u64;
    const LANES: usize = 0;
    const PARTS: usize = 1;

    #[inline]
    fn fold_state(&self, state: &mut State<'_>, row: &[u8], _: bool) {
        let value = self.field.read(row);
        let hash = match T::INTEGER {
            Some(_) => hash_u64(T::to_u64(value)),
            None => with_scratch(|scratch| hash_bytes(T::key_bytes(T::shorten(value), scratch))),
        };
        let (number, content) = self.of(hash);
        self.raise(&mut state.part(0), number, content);
    }

    fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, _: bool) {
        let (mut registers, other) = (state.part(0), other.part(0));
        if other.len() != self.registers() {
            sparse(other).for_each(|(number, content)| self.raise(&mut registers, number, content));
            return;
        }
        if registers.len() != self.registers() {
            self.make_dense(&mut registers);
        }
        for (own, other) in registers.iter_mut().zip(other) {
            *own = (*own).max(*other);
        }
    }

    fn finish_state(&self, state: &StateRef<'_>) -> u64 {
        self.estimate(state.part(0))
    }

    fn describe(&self) -> String {
        format!("approx_count_distinct({})", self.field.label())
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupState;
    use super::*;
    use crate::record::itself;

    fn row(value: u64) -> [u8; 8] {
        value.to_le_bytes()
    }

    /// The root of the mean squared relative error over many sets of one size.
    fn error(precision: u32, size: u64, sets: u64) -> f64 {
        let aggregate = approx_count_distinct(itself::<u64>()).with_precision(precision);
        let mut squares = 0.0;
        for set in 0..sets {
            let mut state = GroupState::new(0, 1);
            for index in 0..size {
                aggregate.fold_state(&mut state.as_mut(), &row(set << 40 | index), index == 0);
            }
            let estimate = aggregate.finish_state(&state.as_ref()) as f64;
            squares += (estimate / size as f64 - 1.0).powi(2);
        }
        (squares / sets as f64).sqrt()
    }

    #[test]
    fn errors_are_as_documented_at_every_size() {
        for size in [1, 10, 100, 300, 1_000, 3_000, 10_000, 30_000] {
            let (found, bound) = (error(12, size, 40), 1.04 / 64.0);
            // Forty sets: their spread about the true error is below a half.
            assert!(found < 1.5 * bound, "{size} values: {found}");
        }
        for precision in [4, 8, 14] {
            let bound = 1.04 / f64::from(1 << precision).sqrt();
            let found = error(precision, 20_000, 40);
            assert!(found < 1.5 * bound, "{precision} bits: {found} and not {bound}");
        }
    }

    #[test]
    fn merged_states_are_the_state_of_all() {
        let aggregate = approx_count_distinct(itself::<u64>());
        for sizes in [[3, 5], [3, 4_000], [4_000, 3], [2_000, 5_000], [250, 250]] {
            let (mut whole, mut first, mut second) = (
                GroupState::new(0, 1),
                GroupState::new(0, 1),
                GroupState::new(0, 1),
            );
            for value in 0..sizes[0] {
                aggregate.fold_state(&mut whole.as_mut(), &row(value), value == 0);
                aggregate.fold_state(&mut first.as_mut(), &row(value), value == 0);
            }
            for value in (0..sizes[1]).map(|value| value + 100) {
                aggregate.fold_state(&mut whole.as_mut(), &row(value), false);
                aggregate.fold_state(&mut second.as_mut(), &row(value), value == 100);
            }
            aggregate.merge_state(&mut first.as_mut(), &second.as_ref(), false);
            assert_eq!(first.as_ref().part(0), whole.as_ref().part(0), "{sizes:?}");
        }
    }
}
