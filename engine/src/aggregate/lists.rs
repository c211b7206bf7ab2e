//! Lists and sets of the values of a group, and the exact number of its distinct values.
//!
//! # Algorithm
//! A list is the rows of its values, one behind the other as they come; they are put in order when the group is finished. A
//! set is the same with an ordered part at its start: what comes is appended, and when as much has come as there was, all of
//! it is put in order and doubles go. Each value so takes part in a logarithmic number of sorts.
//!
//! # Layout
//! List: the values' rows. List by an order: for each value the size of its ordering bytes (u32), these, its row. Set: bytes
//! of the ordered part (u32), zeros (u32), rows.

use super::{Aggregate, State, StateBytes, StateRef};
use crate::record::{AlignedRow, Field, List, Record, SortFields};
use std::marker::PhantomData;
use std::ops::Range;

/// Appends the row of a value.
#[inline]
fn push<T: Record>(list: &mut StateBytes<'_>, value: T::View<'_>) {
    T::write_row(value, list.grow(T::row_size(value)));
}

/// Values with the bytes that order them, to be sorted.
#[derive(Default)]
struct Sorter {
    /// Ordering bytes.
    orders: Vec<u8>,
    /// Of each value, where its ordering bytes and its row are.
    entries: Vec<(Range<usize>, Range<usize>)>,
    aligned: AlignedRow,
}

impl Sorter {
    /// Adds the value whose row is `rows[row]`, with `order` before its own bytes.
    fn add<T: Record>(&mut self, order: &[u8], rows: &[u8], row: Range<usize>) {
        let start = self.orders.len();
        self.orders.extend_from_slice(order);
        let value = T::read_row(self.aligned.of::<T>(&rows[row.clone()]));
        T::encode_normalized(value, &mut self.orders);
        self.entries.push((start..self.orders.len(), row));
    }

    /// Adds all of the rows.
    fn add_rows<T: Record>(&mut self, rows: &[u8], mut at: usize) {
        while at < rows.len() {
            let end = at + T::row_size_at(&rows[at..]);
            self.add::<T>(&[], rows, at..end);
            at = end;
        }
    }

    /// Puts the values in order. Values that are equal may have different rows (−0.0 and 0.0): these decide then.
    fn sort(&mut self, rows: &[u8]) {
        let orders = &self.orders;
        self.entries.sort_unstable_by(|left, right| {
            let compared = orders[left.0.clone()].cmp(&orders[right.0.clone()]);
            compared.then_with(|| rows[left.1.clone()].cmp(&rows[right.1.clone()]))
        });
    }

    /// Puts the values in order, and drops those that equal the one before.
    fn sort_distinct(&mut self, rows: &[u8]) {
        self.sort(rows);
        let orders = &self.orders;
        self.entries
            .dedup_by(|(left, _), (right, _)| orders[left.clone()] == orders[right.clone()]);
    }

    /// The values as a list.
    fn list<T: Record>(&mut self, rows: &[u8]) -> List<T> {
        let mut list = List::new();
        for (_, row) in &self.entries {
            list.push(T::read_row(self.aligned.of::<T>(&rows[row.clone()])));
        }
        list
    }
}

macro_rules! over_values {
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
    };
}

over_values! {
    /// All values of a field, in ascending order. A group's list has at most `record.max_size` bytes.
    CollectList, collect_list
}
over_values! {
    /// The distinct values of a field, in ascending order. A group's set has at most `record.max_size` bytes.
    CollectSet, collect_set
}
over_values! {
    /// The exact number of distinct values of a field. Those of a group have at most `record.max_size` bytes;
    /// [`KeyedStream::count_distinct`](crate::KeyedStream::count_distinct) has no such bound.
    CountDistinct, count_distinct
}

impl<R: Record, T: Record> Aggregate<R> for CollectList<R, T> {
    type Out = List<T>;
    const LANES: usize = 0;
    const PARTS: usize = 1;

    fn fold_state(&self, state: &mut State<'_>, row: &[u8], _: bool) {
        push::<T>(&mut state.part(0), self.field.read(row));
    }

    fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, _: bool) {
        state.part(0).extend_from_slice(other.part(0));
    }

    fn finish_state(&self, state: &StateRef<'_>) -> List<T> {
        let rows = state.part(0);
        let mut sorter = Sorter::default();
        sorter.add_rows::<T>(rows, 0);
        sorter.sort(rows);
        sorter.list(rows)
    }

    fn describe(&self) -> String {
        format!("collect_list({})", self.field.label())
    }
}

/// All values of a field, in an order of their records.
pub struct CollectListBy<R: Record, T: Record, S> {
    field: Field<R, T>,
    by: S,
    record: PhantomData<fn(R)>,
}

/// All values of a field in the order of their records by `by`; where that is equal, in ascending order. A group's list
/// and its ordering bytes have at most `record.max_size` bytes.
pub fn collect_list_by<R: Record, T: Record, S: SortFields<R>>(
    field: Field<R, T>,
    by: S,
) -> CollectListBy<R, T, S> {
    CollectListBy {
        field,
        by,
        record: PhantomData,
    }
}

impl<R: Record, T: Record, S: Copy> Clone for CollectListBy<R, T, S> {
    fn clone(&self) -> Self {
        CollectListBy { ..*self }
    }
}

impl<R: Record, T: Record, S: SortFields<R>> Aggregate<R> for CollectListBy<R, T, S> {
    type Out = List<T>;
    const LANES: usize = 0;
    const PARTS: usize = 1;

    fn fold_state(&self, state: &mut State<'_>, row: &[u8], _: bool) {
        let mut order = Vec::new();
        self.by.encode_normalized(R::read_row(row), &mut order);
        let mut list = state.part(0);
        list.extend_from_slice(&(order.len() as u32).to_le_bytes());
        list.extend_from_slice(&order);
        push::<T>(&mut list, self.field.read(row));
    }

    fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, _: bool) {
        state.part(0).extend_from_slice(other.part(0));
    }

    fn finish_state(&self, state: &StateRef<'_>) -> List<T> {
        let rows = state.part(0);
        let (mut sorter, mut at) = (Sorter::default(), 0);
        while let Some(size) = rows[at..].first_chunk::<4>() {
            let order = at + 4..at + 4 + u32::from_le_bytes(*size) as usize;
            at = order.end + T::row_size_at(&rows[order.end..]);
            sorter.add::<T>(&rows[order.clone()], rows, order.end..at);
        }
        sorter.sort(rows);
        sorter.list(rows)
    }

    fn describe(&self) -> String {
        let by = self.by.describe_order().join(", ");
        format!("collect_list_by({}, {by})", self.field.label())
    }
}

/// Bytes before the rows of a set.
const SET_HEADER: usize = 8;

/// Bytes of rows that come before a small set is put in order.
const LEAST_TAIL: usize = 512;

/// The bytes of a set's ordered part.
fn ordered_bytes(set: &[u8]) -> usize {
    let bytes = set.first_chunk::<4>();
    u32::from_le_bytes(*bytes.expect("a set begins with the size of its ordered part")) as usize
}

fn add_to_set(set: &mut StateBytes<'_>) {
    if set.is_empty() {
        set.grow(SET_HEADER);
    }
}

/// Puts a set in order where as much has come as there was.
fn tidy<T: Record>(set: &mut StateBytes<'_>) {
    let ordered = ordered_bytes(set);
    if set.len() - SET_HEADER - ordered >= ordered.max(LEAST_TAIL) {
        put_in_order::<T>(set);
    }
}

#[cold]
fn put_in_order<T: Record>(set: &mut StateBytes<'_>) {
    let mut sorter = Sorter::default();
    sorter.add_rows::<T>(set, SET_HEADER);
    sorter.sort_distinct(set);
    let mut rows = Vec::with_capacity(set.len());
    rows.resize(SET_HEADER, 0);
    for (_, row) in &sorter.entries {
        rows.extend_from_slice(&set[row.clone()]);
    }
    let ordered = (rows.len() - SET_HEADER) as u32;
    rows[..4].copy_from_slice(&ordered.to_le_bytes());
    set.set(&rows);
}

/// Adds the rows of a set to another.
fn merge_sets<T: Record>(set: &mut StateBytes<'_>, other: &[u8]) {
    if set.is_empty() {
        set.set(other);
        return;
    }
    set.extend_from_slice(&other[SET_HEADER..]);
    tidy::<T>(set);
}

macro_rules! set_aggregate {
    ($name:ident, $function:ident, $out:ty, $finish:expr) => {
        impl<R: Record, T: Record> Aggregate<R> for $name<R, T> {
            type Out = $out;
            const LANES: usize = 0;
            const PARTS: usize = 1;

            fn fold_state(&self, state: &mut State<'_>, row: &[u8], _: bool) {
                let mut set = state.part(0);
                add_to_set(&mut set);
                push::<T>(&mut set, self.field.read(row));
                tidy::<T>(&mut set);
            }

            fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, _: bool) {
                merge_sets::<T>(&mut state.part(0), other.part(0));
            }

            fn compact_state(&self, state: &mut State<'_>) {
                put_in_order::<T>(&mut state.part(0));
            }

            fn finish_state(&self, state: &StateRef<'_>) -> $out {
                let set = state.part(0);
                let mut sorter = Sorter::default();
                sorter.add_rows::<T>(set, SET_HEADER);
                sorter.sort_distinct(set);
                let finish: fn(Sorter, &[u8]) -> $out = $finish;
                finish(sorter, set)
            }

            fn describe(&self) -> String {
                format!(concat!(stringify!($function), "({})"), self.field.label())
            }
        }
    };
}

set_aggregate!(CollectSet, collect_set, List<T>, |mut sorter, set| sorter
    .list(set));
set_aggregate!(
    CountDistinct,
    count_distinct,
    u64,
    |sorter, _| sorter.entries.len() as u64
);
