//! Ordered streams: sorting by fields or by a function, the first records of an order, and groups that are streamed in order.
//!
//! # Interface
//! [`Stream::sort_by`], [`Stream::sort_by_key_fn`], [`Stream::top`]; [`KeyedStream::sort_within`], [`KeyedStream::reduce_group`],
//! [`KeyedStream::reduce_group_by`].

use crate::graph::{Edge, Factory, Node, Rows};
use crate::keyed::budget_of;
use crate::operator::{
    Collector, FieldOrder, FirstRanks, Group, Meeting, REDUCE_GROUP, SORT, SORT_WITHIN, Share, SortedGroups,
    Sorting, Stage, TOP, least_segments, local_sort,
};
use crate::record::{KeyFields, Record, SortFields, first};
use crate::stream::{KeyedStream, Stream};
use forebay_memory::SegmentSource;
use forebay_memory::sort::{ColumnOrder, Items, Located, Narrow, NarrowRow};

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
        let factory = sort_factory::<O, F>(fields, Which::All(ranks.clone()));
        let node = environment.add(Node {
            inputs,
            output: Some((O::schema(), O::STRIDE)),
            minimum_segments: least,
            maximum_segments: usize::MAX,
            detail: format!("by {}", fields.describe_order().join(", ")),
            order: fields.order(),
            wants: vec![fields.order()],
            ..Node::new(SORT, factory)
        });
        environment.set_ranks(node, ranks);
        Stream::from_node(environment, node)
    }

    /// The first `count` records in the order of fields, as [`Stream::sort_by`] says it, from one subtask: each subtask of the
    /// stream keeps its first ones, and those are put together. What is kept is in managed memory, and spilled where there is not
    /// enough of it.
    ///
    /// ```
    /// use forebay::record::itself;
    /// use forebay::source::generate;
    /// use forebay::{Environment, Result};
    ///
    /// # fn main() -> Result<()> {
    /// let environment = Environment::from_args()?;
    /// let least = environment
    ///     .source("numbers", generate(100_000, |index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    ///     .top(3, itself())
    ///     .collect();
    /// environment.execute("least")?;
    /// let mut all: Vec<u64> = (0..100_000u64).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    /// all.sort();
    /// assert_eq!(least.take(), all[..3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn top<F: SortFields<O>>(self, count: u64, fields: F) -> Stream<O> {
        let (environment, inputs) = self.into_edges();
        let least = least_segments(O::STRIDE, environment.runtime().plan());
        let node = |kind: &'static str, parallelism, inputs| Node {
            parallelism,
            inputs,
            output: Some((O::schema(), O::STRIDE)),
            minimum_segments: least,
            maximum_segments: usize::MAX,
            detail: format!("{count} by {}", fields.describe_order().join(", ")),
            order: fields.order(),
            wants: vec![fields.order()],
            ..Node::new(kind, sort_factory::<O, F>(fields, Which::First(count)))
        };
        let local = environment.add(node("local top", None, inputs));
        let top = environment.add(node(TOP, Some(1), vec![Edge::forward(local)]));
        Stream::from_node(environment, top)
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

/// Which rows a sort sends.
#[derive(Clone)]
enum Which {
    /// Those of its subtask.
    Own,
    /// All of them; subtasks divide them among each other, and ranks say how.
    All(FirstRanks),
    /// The first of each subtask's.
    First(u64),
}

/// Makes the sorts of a node: of rows that are their own items, of rows that are compared where they lie, or of others.
fn sort_factory<R: Record, F: SortFields<R>>(fields: F, which: Which) -> Factory {
    let Some(columns) = fields.key_columns() else {
        let order = FieldOrder::<R, F>::new(fields);
        return factory::<R, _>(which, move |size| Located::new(order.clone(), size));
    };
    let narrow = NarrowRow::of(R::STRIDE, &columns);
    let order = ColumnOrder::new(R::STRIDE, columns);
    match narrow {
        None => factory::<R, _>(which, move |size| Located::new(order.clone(), size)),
        Some(NarrowRow::Number(form)) => factory::<R, _>(which, move |_| Narrow::new(order.clone(), form)),
        Some(NarrowRow::Pair(form)) => factory::<R, _>(which, move |_| Narrow::new(order.clone(), form)),
    }
}

/// Makes the sorts of a node, over items that `items` makes for segments of a size.
fn factory<R: Record, I: Items + 'static>(which: Which, items: impl Fn(usize) -> I + 'static) -> Factory {
    let ranks = match &which {
        Which::All(ranks) => ranks.clone(),
        Which::Own | Which::First(_) => FirstRanks::default(),
    };
    let meeting = Meeting::new(ranks);
    Factory::Operator(Box::new(move |context| {
        let budget = context.budget.clone();
        let budget = budget.expect("an operator that asked for managed memory has a budget");
        let share = match which {
            Which::All(_) => Share {
                index: context.subtask.index,
                parallelism: context.subtask.parallelism,
            },
            // Each by itself.
            Which::Own | Which::First(_) => Share {
                index: 0,
                parallelism: 1,
            },
        };
        let shared = meeting.of(share);
        shared.join(context.wake.clone());
        let sorting = Sorting::<R, I>::new(
            items(budget.segment_size()),
            budget,
            context.spill.handle(&context.name)?,
            context.batches.clone(),
            share,
            shared,
        );
        let sorting = match context.are_sorted[0] {
            true => sorting.of_sorted(),
            false => sorting,
        };
        Ok(Box::new(match which {
            Which::All(_) | Which::Own => sorting,
            Which::First(limit) => sorting.with_limit(limit),
        }))
    }))
}

impl<R: Record, K: KeyFields<R>> KeyedStream<R, K> {
    /// The records where their keys put them, and within each subtask in the order of fields, as [`Stream::sort_by`] says it. What
    /// follows by the same key, and in an order that this one begins with, need not exchange and sort them again: several
    /// functions over groups, co-groups, joins.
    pub fn sort_within<F: SortFields<R>>(self, fields: F) -> Stream<R> {
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = self;
        let least = least_segments(R::STRIDE, environment.runtime().plan());
        environment.add_stream(Node {
            inputs,
            output: Some((R::schema(), R::STRIDE)),
            minimum_segments: least,
            maximum_segments: usize::MAX,
            rows: Rows::Keyed(Some(keys.identity())),
            order: fields.order(),
            wants: vec![fields.order()],
            detail: format!("by {}", fields.describe_order().join(", ")),
            ..Node::new(SORT_WITHIN, sort_factory::<R, F>(fields, Which::Own))
        })
    }

    /// What `function` makes of each key's records: it gets the key, the records one after the other, and a collector for any
    /// number of results. It is called once for each key, in the order of the keys within a subtask, after the last record: a
    /// stream that does not end is refused. The records are sorted by key in any budget, and streamed from there: a key may have more of
    /// them than memory. In which order they come is not said; see [`KeyedStream::reduce_group_by`]. Results of one call
    /// wait in memory until it is over.
    ///
    /// ```
    /// use forebay::operator::{Collector, Group};
    /// use forebay::record::{first, second};
    /// use forebay::source::from_items;
    /// use forebay::{Environment, Result};
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::from_args()?;
    /// // Visits of a user that are less than 30 apart are one session: its begin, and how many visits it has.
    /// let sessions = env
    ///     .source("visits", from_items(vec![(7, 100), (8, 5), (7, 20), (7, 45), (7, 110)]))
    ///     .group_by(first::<(u64, i64)>())
    ///     .reduce_group_by(second(), |user, visits: &mut Group<'_, (u64, i64)>, out: &mut Collector<'_, (u64, i64, u64)>| {
    ///         let (mut begin, mut last, mut count) = (0, 0, 0);
    ///         while let Some((_, at)) = visits.next() {
    ///             if count > 0 && at - last >= 30 {
    ///                 out.push((user, begin, count));
    ///                 count = 0;
    ///             }
    ///             if count == 0 {
    ///                 begin = at;
    ///             }
    ///             (last, count) = (at, count + 1);
    ///         }
    ///         out.push((user, begin, count));
    ///     })
    ///     .collect();
    /// env.execute("sessions")?;
    /// let mut sessions = sessions.take();
    /// sessions.sort();
    /// assert_eq!(sessions, [(7, 20, 2), (7, 100, 2), (8, 5, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reduce_group<P, F>(self, function: F) -> Stream<P>
    where
        P: Record,
        F: for<'a, 'b, 'g, 'c, 'd> FnMut(
                <K::Key as Record>::View<'a>,
                &'b mut Group<'g, R>,
                &'c mut Collector<'d, P>,
            ) + Clone
            + Send
            + 'static,
    {
        let order = self.keys;
        self.grouped_in_order(order, function)
    }

    /// As [`KeyedStream::reduce_group`], with the records of each key in an order: a field, one with a direction, or a tuple
    /// of these.
    pub fn reduce_group_by<S, P, F>(self, order: S, function: F) -> Stream<P>
    where
        S: SortFields<R>,
        P: Record,
        F: for<'a, 'b, 'g, 'c, 'd> FnMut(
                <K::Key as Record>::View<'a>,
                &'b mut Group<'g, R>,
                &'c mut Collector<'d, P>,
            ) + Clone
            + Send
            + 'static,
    {
        let order = (self.keys, order);
        self.grouped_in_order(order, function)
    }

    fn grouped_in_order<S, P, F>(self, order: S, function: F) -> Stream<P>
    where
        S: SortFields<R>,
        P: Record,
        F: for<'a, 'b, 'g, 'c, 'd> FnMut(
                <K::Key as Record>::View<'a>,
                &'b mut Group<'g, R>,
                &'c mut Collector<'d, P>,
            ) + Clone
            + Send
            + 'static,
    {
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = self;
        let detail = format!(
            "by {}, in the order of {}",
            keys.describe().join(", "),
            order.describe_order().join(", ")
        );
        let least = least_segments(R::STRIDE, environment.runtime().plan());
        let factory = Factory::Operator(Box::new(move |context| {
            let (handle, are_sorted) = (context.spill.handle(&context.name)?, context.are_sorted[0]);
            Ok(Box::new(SortedGroups::<R, K, P, F>::new(
                keys,
                function.clone(),
                local_sort::<R, S>(order, budget_of(context), handle, are_sorted),
                context.batches.clone(),
            )))
        }));
        environment.add_stream(Node {
            inputs,
            output: Some((P::schema(), P::STRIDE)),
            minimum_segments: least,
            maximum_segments: usize::MAX,
            rows: Rows::Keyed(None),
            wants: vec![order.order()],
            detail,
            ..Node::new(REDUCE_GROUP, factory)
        })
    }
}
