//! Ordered streams: sorting by fields or by a function.
//!
//! # Interface
//! [`Stream::sort_by`], [`Stream::sort_by_key_fn`].

use crate::graph::{Factory, Node};
use crate::operator::{FieldOrder, FirstRanks, Meeting, SORT, Share, Sorting, Stage, least_segments};
use crate::record::{Record, SortFields, first};
use crate::stream::Stream;
use forebay_memory::SegmentSource;
use forebay_memory::sort::Located;

impl<I: Record, O: Record, S: Stage<I, O>> Stream<I, O, S> {
    /// The records in the order of fields: a field, one with a direction ([`Field::descending`](crate::record::Field::descending),
    /// [`Order::nulls_last`](crate::record::Order::nulls_last)), or a tuple of these. The records of each subtask are in order and
    /// come after all those of the subtask before it, in parts of about equal size, however many records have the same
    /// key; a sink that keeps its subtasks apart, as `collect` and files do, has them in order as a whole. In which order equal
    /// records come is not said.
    ///
    /// Works in any managed memory from 8 segments a subtask up (where records vary in size, twice those of the largest record
    /// more); what exceeds it is spilled. Nothing is sent before the last record has come: a stream that does not end is refused
    /// when the job is planned.
    ///
    /// ```
    /// use forebay::record::{first, second};
    /// use forebay::source::from_items;
    /// use forebay::{Environment, Result};
    ///
    /// # fn main() -> Result<()> {
    /// let environment = Environment::from_args()?;
    /// let scores = [("ann", 7), ("bob", 9), ("eve", 7)].map(|(name, score)| (name.to_string(), score));
    /// let ranked = environment
    ///     .source("scores", from_items(scores))
    ///     .sort_by((second::<(String, i64)>().descending(), first()))
    ///     .map(|(name, _)| name.to_string())
    ///     .collect();
    /// environment.execute("ranking")?;
    /// assert_eq!(ranked.take(), ["bob", "ann", "eve"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sort_by<F: SortFields<O>>(self, fields: F) -> Stream<O> {
        let (environment, inputs) = self.into_edges();
        let least = least_segments(O::STRIDE, environment.runtime().plan());
        let ranks = FirstRanks::default();
        let meeting = Meeting::new(ranks.clone());
        let node = environment.add(Node {
            kind: SORT,
            name: None,
            uid: None,
            parallelism: None,
            is_blocking: false,
            inputs,
            output: Some((O::schema(), O::STRIDE)),
            minimum_segments: least,
            maximum_segments: usize::MAX,
            detail: format!("by {}", fields.describe_order().join(", ")),
            factory: Factory::Operator(Box::new(move |context| {
                let budget = context.budget.clone();
                let budget = budget.expect("an operator that asked for managed memory has a budget");
                let items = Located::new(FieldOrder::<O, F>::new(fields), budget.segment_size());
                let share = Share {
                    index: context.subtask.index,
                    parallelism: context.subtask.parallelism,
                };
                let shared = meeting.of(share);
                shared.join(context.wake.clone());
                let handle = context.spill.handle(&context.name)?;
                let batches = context.batches.clone();
                Ok(Box::new(Sorting::<O, _>::new(
                    items, budget, handle, batches, share, shared,
                )))
            })),
        });
        environment.set_ranks(node, ranks);
        Stream::from_node(environment, node)
    }

    /// The records in the order of a key that `function` computes, once for each; otherwise as [`Stream::sort_by`].
    pub fn sort_by_key_fn<Q, F>(self, mut function: F) -> Stream<(Q, O), O, impl Stage<(Q, O), O>>
    where
        Q: Record,
        F: for<'a> FnMut(O::View<'a>) -> Q + Clone + Send + 'static,
    {
        self.map(move |view: O::View<'_>| {
            let key = function(O::shorten(view));
            (key, O::from_view(view))
        })
        .sort_by(first::<(Q, O)>())
        .map(|(_, record)| O::from_view(record))
    }
}
