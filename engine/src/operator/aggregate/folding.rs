//! What is folded and what is sent: the strategies that the aggregation operator is generic over.
//!
//! # Interface
//! A [`Folding`] folds rows, and states that were spilled, into a group's state; a [`Results`] makes a row of a key and its
//! state. [`Lanes`] folds aggregates into 64-bit lanes; [`Reduced`] keeps one row and joins others to it.

use crate::aggregate::{Aggregate, GroupState, Records};
use crate::batch::{Batch, BatchWriter};
use crate::record::{AlignedRow, Field, Record, second};
use std::marker::PhantomData;

/// How rows become a group's state of type `S`.
pub(crate) trait Folding<R: Record, S: ?Sized>: Send + 'static {
    /// Whether a key's rows must be folded in the order in which they come.
    const IS_ORDERED: bool = false;

    /// Folds a row.
    fn fold_row(&mut self, state: &mut S, row: &[u8], is_new: bool);

    /// Folds a state that was spilled, in the bytes that the groups gave it.
    fn fold_state(&mut self, state: &mut S, other: &[u8], is_new: bool);
}

/// What is sent for a key and its state.
pub(crate) trait Results<K: Record, S: ?Sized>: Send + 'static {
    /// The rows sent.
    type Out: Record;

    /// Writes the row; hands back the batch that is full.
    fn write(&mut self, key: K::View<'_>, state: &S, writer: &mut BatchWriter<Self::Out>) -> Option<Batch>;
}

/// Aggregates in lanes.
#[derive(Clone)]
pub(crate) struct Lanes<A>(pub(crate) A);

impl<R: Record, A: Aggregate<R>> Folding<R, [u64]> for Lanes<A> {
    #[inline(always)]
    fn fold_row(&mut self, state: &mut [u64], row: &[u8], is_new: bool) {
        self.0.fold(state, row, is_new);
    }

    #[inline(always)]
    fn fold_state(&mut self, state: &mut [u64], other: &[u8], is_new: bool) {
        let mut lanes = [0u64; crate::aggregate::MOST_LANES];
        for (lane, bytes) in lanes.iter_mut().zip(other.as_chunks::<8>().0) {
            *lane = u64::from_le_bytes(*bytes);
        }
        self.0.merge(state, &lanes[..A::LANES], is_new);
    }
}

/// The key with the aggregates' results.
pub(crate) struct KeyAndResult<R, A> {
    pub(crate) aggregate: A,
    pub(crate) record: PhantomData<fn(R)>,
}

impl<R, A> KeyAndResult<R, A> {
    /// The results of `aggregate`.
    pub(crate) fn new(aggregate: A) -> Self {
        KeyAndResult {
            aggregate,
            record: PhantomData,
        }
    }
}

impl<R: Record, K: Record, A: Aggregate<R>> Results<K, [u64]> for KeyAndResult<R, A> {
    type Out = (K, A::Out);

    #[inline(always)]
    fn write(
        &mut self,
        key: K::View<'_>,
        state: &[u64],
        writer: &mut BatchWriter<(K, A::Out)>,
    ) -> Option<Batch> {
        let result = self.aggregate.finish(state);
        writer.push((K::shorten(key), A::Out::shorten(result.view())))
    }
}

/// What merges states without knowing how they are folded.
pub(crate) trait Merging: Send {
    /// Merges a state's bytes, at any address, into a state of at least one record.
    fn merge(&mut self, state: &mut GroupState, other: &[u8]);

    /// Makes a state as small as it can be.
    fn compact(&mut self, state: &mut GroupState);
}

/// Aggregates whose state has byte strings.
pub(crate) struct States<R, A> {
    aggregate: A,
    /// A state that is merged: they are read at addresses that are multiples of 8.
    other: GroupState,
    record: PhantomData<fn(R)>,
}

impl<R: Record, A: Aggregate<R>> States<R, A> {
    /// Folds as `aggregate` does.
    pub(crate) fn new(aggregate: A) -> Self {
        States {
            aggregate,
            other: GroupState::new(A::LANES, A::PARTS),
            record: PhantomData,
        }
    }

    /// Merges the states of records.
    #[inline]
    fn merge_records(&mut self, state: &mut GroupState, records: &[u8], mut is_new: bool) {
        for other in Records::of(records) {
            if is_new {
                state.load(other);
            } else {
                self.merge(state, other);
            }
            is_new = false;
        }
    }
}

impl<R: Record, A: Aggregate<R>> Merging for States<R, A> {
    #[inline]
    fn merge(&mut self, state: &mut GroupState, other: &[u8]) {
        self.other.load(other);
        self.aggregate
            .merge_state(&mut state.as_mut(), &self.other.as_ref(), false);
    }

    fn compact(&mut self, state: &mut GroupState) {
        self.aggregate.compact_state(&mut state.as_mut());
    }
}

impl<R: Record, A: Aggregate<R>> Folding<R, GroupState> for States<R, A> {
    #[inline(always)]
    fn fold_row(&mut self, state: &mut GroupState, row: &[u8], is_new: bool) {
        self.aggregate.fold_state(&mut state.as_mut(), row, is_new);
    }

    #[inline]
    fn fold_state(&mut self, state: &mut GroupState, other: &[u8], is_new: bool) {
        self.merge_records(state, other, is_new);
    }
}

/// Merges states that were folded before the exchange.
pub(crate) struct MergeStates<R, A>(pub(crate) States<R, A>);

impl<R: Record, K: Record, A: Aggregate<R>> Folding<(K, Vec<u8>), GroupState> for MergeStates<R, A> {
    #[inline]
    fn fold_row(&mut self, state: &mut GroupState, row: &[u8], is_new: bool) {
        let records: Field<(K, Vec<u8>), Vec<u8>> = second();
        self.0.merge_records(state, records.read(row), is_new);
    }

    #[inline]
    fn fold_state(&mut self, state: &mut GroupState, other: &[u8], is_new: bool) {
        self.0.merge_records(state, other, is_new);
    }
}

impl<R: Record, K: Record, A: Aggregate<R>> Results<K, GroupState> for KeyAndResult<R, A> {
    type Out = (K, A::Out);

    #[inline]
    fn write(
        &mut self,
        key: K::View<'_>,
        state: &GroupState,
        writer: &mut BatchWriter<(K, A::Out)>,
    ) -> Option<Batch> {
        let result = self.aggregate.finish_state(&state.as_ref());
        writer.push((K::shorten(key), A::Out::shorten(result.view())))
    }
}

/// The key alone.
pub(crate) struct KeyOnly;

impl<K: Record, S: ?Sized> Results<K, S> for KeyOnly {
    type Out = K;

    #[inline(always)]
    fn write(&mut self, key: K::View<'_>, _: &S, writer: &mut BatchWriter<K>) -> Option<Batch> {
        writer.push(key)
    }
}

/// The aggregates' results alone.
pub(crate) struct ResultOnly<R, A>(pub(crate) A, pub(crate) PhantomData<fn(R)>);

impl<R: Record, K: Record, A: Aggregate<R>> Results<K, GroupState> for ResultOnly<R, A> {
    type Out = A::Out;

    fn write(
        &mut self,
        _: K::View<'_>,
        state: &GroupState,
        writer: &mut BatchWriter<A::Out>,
    ) -> Option<Batch> {
        writer.push(self.0.finish_state(&state.as_ref()).view())
    }
}

/// One row, which a function joins others to.
#[derive(Clone)]
pub(crate) struct Reduced<R, F> {
    pub(crate) function: F,
    pub(crate) record: PhantomData<fn(R)>,
    /// For rows of plain records, which beside their keys lie at any address.
    pub(crate) aligned: [AlignedRow; 2],
}

impl<R, F> Folding<R, Vec<u8>> for Reduced<R, F>
where
    R: Record,
    F: for<'a, 'b> FnMut(R::View<'a>, R::View<'b>) -> R + Clone + Send + 'static,
{
    const IS_ORDERED: bool = true;

    fn fold_row(&mut self, state: &mut Vec<u8>, row: &[u8], is_new: bool) {
        if is_new {
            state.clear();
            state.extend_from_slice(row);
        } else {
            let [left, right] = &mut self.aligned;
            let joined = (self.function)(R::read_row(left.of::<R>(state)), R::read_row(right.of::<R>(row)));
            let view = joined.view();
            state.resize(R::row_size(view), 0);
            R::write_row(view, state);
        }
    }

    fn fold_state(&mut self, state: &mut Vec<u8>, other: &[u8], is_new: bool) {
        self.fold_row(state, other, is_new);
    }
}

/// The row that is a group's state.
pub(crate) struct StateRow<R>(pub(crate) PhantomData<fn(R)>);

impl<R: Record, K: Record> Results<K, Vec<u8>> for StateRow<R> {
    type Out = R;

    fn write(&mut self, _: K::View<'_>, state: &Vec<u8>, writer: &mut BatchWriter<R>) -> Option<Batch> {
        writer.push(R::read_row(AlignedRow::default().of::<R>(state)))
    }
}
