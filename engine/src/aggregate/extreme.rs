//! Least and greatest values, and the values of the records that have them in another field.
//!
//! # Algorithm
//! A value with an order in 64 bits ([`Record::ORDINAL`]) is a lane. Any other is kept as the bytes that order it
//! (normalized, or the bytes of a string as they are) with its row, in a byte string; a record is compared by making its
//! ordering bytes, and nothing is copied unless it is better.
//!
//! # Layout
//! A byte string: size of the ordering bytes (u32), these, the value's row. Of the least or greatest string: its bytes and a byte
//! more, so that the empty one is not nothing.

use super::{Aggregate, State, StateBytes, StateRef};
use crate::record::{AlignedRow, Field, Record};
use std::cell::Cell;
use std::cmp::Ordering;
use zerocopy::IntoBytes;

/// Calls `then` with memory for bytes that order a value.
pub(super) fn with_scratch<T>(then: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut scratch = SCRATCH.take();
    let result = then(&mut scratch);
    SCRATCH.set(scratch);
    result
}

/// How two values compare.
fn compare<T: Record>(left: T::View<'_>, right: T::View<'_>) -> Ordering {
    if T::ORDINAL {
        return T::to_ordinal(left).cmp(&T::to_ordinal(right));
    }
    with_scratch(|scratch| {
        scratch.clear();
        T::encode_normalized(left, scratch);
        let middle = scratch.len();
        T::encode_normalized(right, scratch);
        let (left, right) = scratch.split_at(middle);
        left.cmp(right)
    })
}

/// Whether something that compares so takes the place of what was there.
#[inline(always)]
fn is_better(compared: Ordering, is_max: bool) -> bool {
    compared == if is_max { Ordering::Greater } else { Ordering::Less }
}

/// The ordering bytes and the row in a byte string.
fn split(best: &[u8]) -> (&[u8], &[u8]) {
    let (size, rest) = best
        .split_first_chunk::<4>()
        .expect("what is kept begins with the size of its order");
    rest.split_at(u32::from_le_bytes(*size) as usize)
}

/// Keeps ordering bytes and a row.
fn put<T: Record>(best: &mut StateBytes<'_>, order: &[u8], value: T::View<'_>) {
    let row = T::row_size(value);
    best.truncate(0);
    let place = best.grow(4 + order.len() + row);
    let (size, rest) = place.split_at_mut(4);
    size.copy_from_slice(&(order.len() as u32).to_le_bytes());
    let (to, row) = rest.split_at_mut(order.len());
    to.copy_from_slice(order);
    T::write_row(value, row);
}

macro_rules! extreme {
    ($(#[$doc:meta])* $name:ident, $function:ident, $is_max:literal) => {
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

        impl<R: Record, T: Record> Aggregate<R> for $name<R, T> {
            type Out = T;
            const LANES: usize = T::ORDINAL as usize;
            const PARTS: usize = !T::ORDINAL as usize;

            #[inline(always)]
            fn fold(&self, lanes: &mut [u64], row: &[u8], is_new: bool) {
                self.merge(lanes, &[T::to_ordinal(self.field.read(row))], is_new);
            }

            #[inline(always)]
            fn merge(&self, lanes: &mut [u64], other: &[u64], is_new: bool) {
                let is_kept = !is_new && ($is_max == (lanes[0] > other[0]));
                lanes[0] = if is_kept { lanes[0] } else { other[0] };
            }

            #[inline(always)]
            fn finish(&self, lanes: &[u64]) -> T {
                T::from_ordinal(lanes[0])
            }

            #[inline(always)]
            fn fold_state(&self, state: &mut State<'_>, row: &[u8], is_new: bool) {
                if T::ORDINAL {
                    self.fold(state.lanes(), row, is_new);
                } else {
                    fold_value::<T>(&mut state.part(0), self.field.read(row), $is_max);
                }
            }

            #[inline(always)]
            fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, is_new: bool) {
                if T::ORDINAL {
                    self.merge(state.lanes(), other.lanes(), is_new);
                } else {
                    merge_value::<T>(&mut state.part(0), other.part(0), $is_max);
                }
            }

            #[inline(always)]
            fn finish_state(&self, state: &StateRef<'_>) -> T {
                match T::ORDINAL {
                    true => self.finish(state.lanes()),
                    false => finish_value(state.part(0)),
                }
            }

            fn describe(&self) -> String {
                format!(concat!(stringify!($function), "({})"), self.field.label())
            }
        }
    };
}

extreme! {
    /// The least value of a field, of any type: strings by their bytes, nulls before other values, records field by field.
    Min, min, false
}
extreme! {
    /// The greatest value of a field, of any type: NaN is greater than every number, strings by their bytes.
    Max, max, true
}

fn fold_value<T: Record>(best: &mut StateBytes<'_>, value: T::View<'_>, is_max: bool) {
    with_scratch(|scratch| {
        if T::IS_BYTES {
            let bytes = T::key_bytes(T::shorten(value), scratch);
            let is_first = best.is_empty();
            if is_first || is_better(bytes.cmp(&best[1..]), is_max) {
                best.truncate(0);
                let place = best.grow(1 + bytes.len());
                place[1..].copy_from_slice(bytes);
            }
            return;
        }
        scratch.clear();
        T::encode_normalized(T::shorten(value), scratch);
        if best.is_empty() || is_better(scratch.as_slice().cmp(split(best).0), is_max) {
            put::<T>(best, scratch, value);
        }
    });
}

fn merge_value<T: Record>(best: &mut StateBytes<'_>, other: &[u8], is_max: bool) {
    let order = |bytes| if T::IS_BYTES { bytes } else { split(bytes).0 };
    if best.is_empty() || is_better(order(other).cmp(order(best)), is_max) {
        best.set(other);
    }
}

fn finish_value<T: Record>(best: &[u8]) -> T {
    if T::IS_BYTES {
        return T::decode_key(&mut &best[1..], true).expect("the bytes are those of a value");
    }
    T::from_view(T::read_row(AlignedRow::default().of::<T>(split(best).1)))
}

/// Words of the largest value that is kept in lanes.
const MOST_WORDS: usize = 8;

/// The value of a field in the record whose other field is least or greatest.
pub struct Best<R: Record, T: Record, O: Record> {
    field: Field<R, T>,
    by: Field<R, O>,
    is_max: bool,
    name: &'static str,
}

impl<R: Record, T: Record, O: Record> Clone for Best<R, T, O> {
    fn clone(&self) -> Self {
        Best { ..*self }
    }
}

/// The value of a field in the record where `by` is least; where several are, the least of their values.
pub fn min_by<R: Record, T: Record, O: Record>(field: Field<R, T>, by: Field<R, O>) -> Best<R, T, O> {
    Best {
        field,
        by,
        is_max: false,
        name: "min_by",
    }
}

/// The value of a field in the record where `by` is greatest; where several are, the greatest of their values.
pub fn max_by<R: Record, T: Record, O: Record>(field: Field<R, T>, by: Field<R, O>) -> Best<R, T, O> {
    Best {
        field,
        by,
        is_max: true,
        name: "max_by",
    }
}

/// The value of a field in the first record in the order of `by`; of several that are first, the least value.
pub fn first_by<R: Record, T: Record, O: Record>(field: Field<R, T>, by: Field<R, O>) -> Best<R, T, O> {
    Best {
        name: "first_by",
        ..min_by(field, by)
    }
}

/// The value of a field in the last record in the order of `by`; of several that are last, the greatest value.
pub fn last_by<R: Record, T: Record, O: Record>(field: Field<R, T>, by: Field<R, O>) -> Best<R, T, O> {
    Best {
        name: "last_by",
        ..max_by(field, by)
    }
}

impl<R: Record, T: Record, O: Record> Best<R, T, O> {
    const IN_LANES: bool = O::ORDINAL && !T::VARIES && T::STRIDE <= 8 * MOST_WORDS;

    /// Puts a value with its ordinal into lanes, where it is better than what is there.
    #[inline(always)]
    fn offer(&self, lanes: &mut [u64], ordinal: u64, value: impl Fn(&mut [u8]), is_new: bool) {
        let (best, kept) = lanes.split_first_mut().expect("the first lane is the ordinal");
        if is_new || is_better(ordinal.cmp(best), self.is_max) {
            *best = ordinal;
            value(&mut kept.as_mut_bytes()[..T::STRIDE]);
        } else if ordinal == *best {
            let mut words = [0u64; MOST_WORDS];
            let other = &mut words[..kept.len()];
            value(&mut other.as_mut_bytes()[..T::STRIDE]);
            if other != kept {
                let view = |words: &[u64]| T::from_view(T::read_row(&words.as_bytes()[..T::STRIDE]));
                let compared = compare::<T>(view(other).view(), view(kept).view());
                if is_better(compared, self.is_max) {
                    kept.copy_from_slice(other);
                }
            }
        }
    }
}

impl<R: Record, T: Record, O: Record> Aggregate<R> for Best<R, T, O> {
    type Out = T;
    const LANES: usize = if Self::IN_LANES {
        1 + T::STRIDE.div_ceil(8)
    } else {
        0
    };
    const PARTS: usize = !Self::IN_LANES as usize;

    #[inline(always)]
    fn fold(&self, lanes: &mut [u64], row: &[u8], is_new: bool) {
        let ordinal = O::to_ordinal(self.by.read(row));
        let write = |place: &mut [u8]| T::write_row(self.field.read(row), place);
        self.offer(lanes, ordinal, write, is_new);
    }

    #[inline(always)]
    fn merge(&self, lanes: &mut [u64], other: &[u64], is_new: bool) {
        let write = |place: &mut [u8]| place.copy_from_slice(&other[1..].as_bytes()[..T::STRIDE]);
        self.offer(lanes, other[0], write, is_new);
    }

    fn finish(&self, lanes: &[u64]) -> T {
        T::from_view(T::read_row(&lanes[1..].as_bytes()[..T::STRIDE]))
    }

    fn fold_state(&self, state: &mut State<'_>, row: &[u8], is_new: bool) {
        if Self::IN_LANES {
            return self.fold(state.lanes(), row, is_new);
        }
        let mut best = state.part(0);
        with_scratch(|scratch| {
            scratch.clear();
            O::encode_normalized(self.by.read(row), scratch);
            let is_taken = best.is_empty() || {
                let (order, value) = split(&best);
                match scratch.as_slice().cmp(order) {
                    Ordering::Equal => {
                        let mut aligned = AlignedRow::default();
                        let kept = T::read_row(aligned.of::<T>(value));
                        is_better(compare::<T>(self.field.read(row), kept), self.is_max)
                    }
                    compared => is_better(compared, self.is_max),
                }
            };
            if is_taken {
                put::<T>(&mut best, scratch, self.field.read(row));
            }
        });
    }

    fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, is_new: bool) {
        if Self::IN_LANES {
            return self.merge(state.lanes(), other.lanes(), is_new);
        }
        let (mut best, other) = (state.part(0), other.part(0));
        let is_taken = best.is_empty() || {
            let ((order, value), (other, of_other)) = (split(&best), split(other));
            match other.cmp(order) {
                Ordering::Equal => {
                    let mut aligned = [AlignedRow::default(), AlignedRow::default()];
                    let [left, right] = &mut aligned;
                    let compared = compare::<T>(
                        T::read_row(left.of::<T>(of_other)),
                        T::read_row(right.of::<T>(value)),
                    );
                    is_better(compared, self.is_max)
                }
                compared => is_better(compared, self.is_max),
            }
        };
        if is_taken {
            best.set(other);
        }
    }

    fn finish_state(&self, state: &StateRef<'_>) -> T {
        if Self::IN_LANES {
            return self.finish(state.lanes());
        }
        T::from_view(T::read_row(AlignedRow::default().of::<T>(split(state.part(0)).1)))
    }

    fn describe(&self) -> String {
        format!("{}({}, {})", self.name, self.field.label(), self.by.label())
    }
}
