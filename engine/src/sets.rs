//! Streams as sets and as bags: what two of them have in common, and what one has and the other has not.
//!
//! # Interface
//! [`Stream::intersect`] and [`Stream::minus`] of sets, [`Stream::intersect_all`] and [`Stream::minus_all`] of bags;
//! [`Stream::union`] is one of bags, and a set with [`Stream::distinct`] behind it.
//!
//! # Algorithm
//! Copies are counted on both sides by an aggregation whose key is the whole record: most of them are folded before they are sent
//! anywhere. What the counts say is sent after the last record.

use crate::aggregate::sum;
use crate::graph::Rows;
use crate::operator::{Counts, INTERSECT, MINUS, Repeat, Stage};
use crate::record::{KeyFields, Record, first, itself, second, third};
use crate::stream::{Stream, operator_node};

/// A record that one side has, and how often (once) each side has it.
type Counted<O> = (O, u8, u8);

impl<I: Record, O: Record, S: Stage<I, O>> Stream<I, O, S> {
    /// The records that both streams have, each once. Records are the same where their fields are: a null is like another null, a NaN
    /// like another NaN, and −0.0 is 0.0. A stream that does not end is refused when the job is planned.
    ///
    /// ```
    /// use forebay::source::from_items;
    /// # fn main() -> forebay::Result<()> {
    /// let env = forebay::Environment::from_args()?;
    /// let some = || env.source("some", from_items(vec![1_u64, 2, 2, 2]));
    /// let others = || env.source("others", from_items(vec![2_u64, 2, 3]));
    /// let in_both = some().intersect(others()).collect();
    /// let in_both_as_often = some().intersect_all(others()).collect();
    /// let in_some_alone = some().minus(others()).collect();
    /// let left_over = some().minus_all(others()).collect();
    /// env.execute("sets")?;
    /// assert_eq!(in_both.take(), [2]);
    /// assert_eq!(in_both_as_often.take(), [2, 2]);
    /// assert_eq!(in_some_alone.take(), [1]);
    /// let mut left_over = left_over.take();
    /// left_over.sort();
    /// assert_eq!(left_over, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn intersect<J: Record, T: Stage<J, O>>(self, other: Stream<J, O, T>) -> Stream<O> {
        self.counted(other, INTERSECT, "each once", |left, right| {
            u64::from(left > 0 && right > 0)
        })
    }

    /// The records that both streams have, each as often as the one that has it less often.
    pub fn intersect_all<J: Record, T: Stage<J, O>>(self, other: Stream<J, O, T>) -> Stream<O> {
        self.counted(other, INTERSECT, "as often as both have it", u64::min)
    }

    /// The records that this stream has and the other does not, each once. Which records are the same, [`Stream::intersect`] says.
    pub fn minus<J: Record, T: Stage<J, O>>(self, other: Stream<J, O, T>) -> Stream<O> {
        self.counted(other, MINUS, "each once", |left, right| {
            u64::from(left > 0 && right == 0)
        })
    }

    /// The records of this stream, each less often by as many as the other has of it.
    pub fn minus_all<J: Record, T: Stage<J, O>>(self, other: Stream<J, O, T>) -> Stream<O> {
        self.counted(
            other,
            MINUS,
            "as often as the other lacks it",
            u64::saturating_sub,
        )
    }

    /// Each record as often as `times` says of how often each side has it.
    fn counted<J: Record, T: Stage<J, O>>(
        self,
        other: Stream<J, O, T>,
        kind: &'static str,
        detail: &str,
        times: impl Fn(u64, u64) -> u64 + Clone + Send + 'static,
    ) -> Stream<O> {
        let left = self.map(|view: O::View<'_>| (O::from_view(view), 1_u8, 0_u8));
        let right = other.map(|view: O::View<'_>| (O::from_view(view), 0_u8, 1_u8));
        let counts: Stream<Counts<O>> = left
            .union(right)
            .group_by(first::<Counted<O>>())
            .aggregate_final((sum(second::<Counted<O>>()), sum(third::<Counted<O>>())));
        let (environment, inputs) = counts.into_edges();
        let mut node = operator_node::<O>(kind, Vec::new(), inputs, move |context| {
            Box::new(Repeat::<O, _>::new(times.clone(), context.batches.clone()))
        });
        node.detail = detail.to_string();
        let (counted, itself) = (first::<Counts<O>>(), itself::<O>());
        node.rows = Rows::Rekeyed(counted.identity(), itself.identity());
        environment.add_stream(node)
    }
}
