//! Keyed streams: aggregation of the records of each key.
//!
//! # Interface
//! [`KeyedStream::aggregate`] and its short forms. In batch mode the result of a key is sent once; in streaming mode
//! each time a record changes it. [`KeyedStream::aggregate_final`] and [`KeyedStream::aggregate_updates`] say which.

use crate::aggregate::{
    Aggregate, Count, Fold, MOST_LANES, Max, Min, Sum, Summand, count, max, min, stateful, sum,
};
use crate::environment::Environment;
use crate::graph::{Consumer, Edge, Factory, Node, OperatorContext, Rows};
use crate::operator::{
    ByteGroups, Emission, GroupedAggregate, HandedGroups, Handover, KeyAndResult, KeyOnly, LEAST_SEGMENTS,
    Lanes, LineGroups, LocalAggregate, LocalLines, LocalStates, MOST_LOCAL_SEGMENTS, MergePartials,
    MergeStates, Operator, Own, Partial, Reduced, RowGroups, Setting, Shape, Stage, StateGroups, StateRow,
    States, least_segments,
};
use crate::record::{Field, KeyFields, Record, first, itself};
use crate::source::Subtask;
use crate::stream::{KeyedStream, Stream};
use forebay_memory::{Budget, Result};
use std::marker::PhantomData;
use std::sync::Arc;

impl<R: Record, K: KeyFields<R>> KeyedStream<R, K> {
    /// The aggregates of each key's records, with the key: in batch mode once, in streaming mode after each record.
    ///
    /// Works in any managed memory from 8 segments a subtask up (where keys vary in size, two records of the largest size
    /// more); what exceeds it is spilled.
    pub fn aggregate<A: Aggregate<R>>(self, aggregate: A) -> Stream<(K::Key, A::Out)> {
        self.aggregated(aggregate, None)
    }

    /// The aggregates of each key's records, once, after the last record. Of a source that does not end, never.
    pub fn aggregate_final<A: Aggregate<R>>(self, aggregate: A) -> Stream<(K::Key, A::Out)> {
        self.aggregated(aggregate, Some(Emission::Final))
    }

    /// The aggregates of each key's records so far, after each record. Where state has been spilled, records of
    /// spilled keys wait for their state: their updates come later, in the same order by key.
    pub fn aggregate_updates<A: Aggregate<R>>(self, aggregate: A) -> Stream<(K::Key, A::Out)> {
        self.aggregated(aggregate, Some(Emission::Updates))
    }

    /// Each key's records folded into a state, a record itself, and what `finish` makes of it: in batch mode once, in
    /// streaming mode after each record. `merge` joins states of the same key, in any order and any groups; `create` makes the
    /// state that changes nothing. The state is read from its row and written again for each record:
    /// [`StatefulAggregate`](crate::aggregate::StatefulAggregate) is for those that are large.
    ///
    /// ```
    /// # use forebay::{Environment, Result, record::first, source::from_items};
    /// # fn main() -> Result<()> {
    /// # let env = Environment::from_args()?;
    /// // The range of each key's values.
    /// let ranges = env
    ///     .source("pairs", from_items(vec![(1, 7), (2, 5), (1, 4)]))
    ///     .group_by(first::<(u64, i64)>())
    ///     .fold(
    ///         || (i64::MAX, i64::MIN),
    ///         |range, (_, value)| *range = (range.0.min(value), range.1.max(value)),
    ///         |range, other| *range = (range.0.min(other.0), range.1.max(other.1)),
    ///         |range| range.1 - range.0,
    ///     )
    ///     .collect();
    /// env.execute("ranges")?;
    /// let mut ranges = ranges.take();
    /// ranges.sort();
    /// assert_eq!(ranges, [(1, 3), (2, 0)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fold<S, O>(
        self,
        create: impl Fn() -> S + Clone + Send + Sync + 'static,
        add: impl for<'a> Fn(&mut S, R::View<'a>) + Clone + Send + Sync + 'static,
        merge: impl Fn(&mut S, S) + Clone + Send + Sync + 'static,
        finish: impl Fn(S) -> O + Clone + Send + Sync + 'static,
    ) -> Stream<(K::Key, O)>
    where
        S: Record,
        O: Record,
    {
        self.aggregate(stateful(Fold {
            create,
            add,
            merge,
            finish,
        }))
    }

    /// The exact number of distinct values of a field among each key's records, in any budget: the records are grouped by key
    /// and value first. In streaming mode a key's number is sent each time it grows.
    pub fn count_distinct<T: Record>(self, field: Field<R, T>) -> Stream<(K::Key, u64)> {
        let keys = self.keys;
        self.regroup((keys, field))
            .distinct()
            .key_by(first::<(K::Key, T)>())
            .count()
    }

    /// The number of each key's records.
    pub fn count(self) -> Stream<(K::Key, <Count as Aggregate<R>>::Out)> {
        self.aggregate(count())
    }

    /// The sum of a field of each key's records.
    pub fn sum<T: Summand>(self, field: Field<R, T>) -> Stream<(K::Key, <Sum<R, T> as Aggregate<R>>::Out)> {
        self.aggregate(sum(field))
    }

    /// The least value of a field of each key's records.
    pub fn min<T: Record>(self, field: Field<R, T>) -> Stream<(K::Key, <Min<R, T> as Aggregate<R>>::Out)> {
        self.aggregate(min(field))
    }

    /// The greatest value of a field of each key's records.
    pub fn max<T: Record>(self, field: Field<R, T>) -> Stream<(K::Key, <Max<R, T> as Aggregate<R>>::Out)> {
        self.aggregate(max(field))
    }

    fn aggregated<A: Aggregate<R>>(
        self,
        aggregate: A,
        emission: Option<Emission>,
    ) -> Stream<(K::Key, A::Out)> {
        const {
            assert!(
                A::LANES <= MOST_LANES,
                "the aggregates of one operator have at most 16 lanes together"
            );
        }
        if A::PARTS > 0 {
            return self.aggregated_states(aggregate, emission);
        }
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = self;
        let detail = format!("{} by {}", aggregate.describe(), keys.describe().join(", "));
        if keys.as_u64_column().is_some() {
            let handover = Arc::new(Handover::default());
            let local = (aggregate.clone(), handover.clone());
            let folds = |inputs| {
                local_lines_node::<R, K>(&environment, inputs, &detail, keys, move |context| {
                    let (aggregate, handover) = local.clone();
                    Box::new(LocalLines::<R, K, A>::new(
                        keys,
                        aggregate,
                        budget_of(context),
                        handover,
                        emission_in(context, emission) != Emission::Final || context.are_placed,
                    ))
                })
            };
            let inputs = match emission {
                Some(Emission::Updates) => inputs,
                _ => folds(inputs),
            };
            let least = LEAST_SEGMENTS;
            let rows = keyed_by_first::<K::Key, A::Out>();
            return keyed_node(
                &environment,
                ("aggregate", emission),
                inputs,
                detail,
                rows,
                least,
                move |context| {
                    let mut setting = setting(context, emission_in(context, emission))?;
                    let own = Own {
                        index: context.subtask.index,
                        parallelism: context.subtask.parallelism,
                        max_parallelism: context.max_parallelism,
                    };
                    setting.handed = Some(HandedGroups::new(handover.clone(), own));
                    let (folding, results) = (Lanes(aggregate.clone()), KeyAndResult::new(aggregate.clone()));
                    let skip_bits = setting.skip_bits;
                    let groups = |source| LineGroups::<R, K>::new(keys, A::LANES, source, skip_bits);
                    Ok(Box::new(GroupedAggregate::<R, K, _, _, _>::new(
                        setting, folding, results, groups,
                    )))
                },
            );
        }
        // Keys that are not small integers cost most on the way, so they are aggregated before it, too.
        let local = aggregate.clone();
        let partials = local_node::<R, K>(&environment, inputs, detail.clone(), keys, move |context| {
            Ok(Box::new(LocalAggregate::<R, K, A>::new(
                keys,
                local.clone(),
                budget_of(context),
                context.batches.clone(),
                // Updates are one for each record: there is nothing to fold before. Nor is there before no exchange.
                emission_in(context, emission) != Emission::Final || context.are_placed,
            )))
        });
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = partials.key_by(first::<Partial<K::Key>>());
        let least = least_segments(<K::Key as Record>::STRIDE, environment.runtime().plan());
        let rows = keyed_by_first::<K::Key, A::Out>();
        keyed_node(
            &environment,
            ("aggregate", emission),
            inputs,
            detail,
            rows,
            least,
            move |context| {
                let setting = setting(context, emission_in(context, emission))?;
                let folding = MergePartials::<R, A>::new(aggregate.clone());
                let results = KeyAndResult::<R, A>::new(aggregate.clone());
                let skip_bits = setting.skip_bits;
                let groups =
                    |source| ByteGroups::<Partial<K::Key>, _>::new(keys, A::LANES, source, skip_bits);
                Ok(Box::new(GroupedAggregate::new(setting, folding, results, groups)))
            },
        )
    }

    /// As `aggregated`, for aggregates whose states have byte strings.
    fn aggregated_states<A: Aggregate<R>>(
        self,
        aggregate: A,
        emission: Option<Emission>,
    ) -> Stream<(K::Key, A::Out)> {
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = self;
        let detail = format!("{} by {}", aggregate.describe(), keys.describe().join(", "));
        let shape = |context: &OperatorContext| Shape {
            lanes: A::LANES,
            parts: A::PARTS,
            most: context.batches.max_row_size(),
            owner: context.name.to_string(),
        };
        let local = aggregate.clone();
        let partials = local_node::<R, K>(&environment, inputs, detail.clone(), keys, move |context| {
            Ok(Box::new(LocalStates::<R, K, A>::new(
                keys,
                local.clone(),
                shape(context),
                budget_of(context),
                context.batches.clone(),
                emission_in(context, emission) != Emission::Final || context.are_placed,
            )))
        });
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = partials.key_by(first::<Partial<K::Key>>());
        let least = least_segments(0, environment.runtime().plan());
        let rows = keyed_by_first::<K::Key, A::Out>();
        keyed_node(
            &environment,
            ("aggregate", emission),
            inputs,
            detail,
            rows,
            least,
            move |context| {
                let setting = setting(context, emission_in(context, emission))?;
                let states = || States::<R, A>::new(aggregate.clone());
                let results = KeyAndResult::<R, A>::new(aggregate.clone());
                let (shape, skip_bits) = (shape(context), setting.skip_bits);
                let groups = |source| {
                    let merging = Box::new(states());
                    StateGroups::<Partial<K::Key>, _>::new(keys, shape, merging, source, skip_bits)
                };
                Ok(Box::new(GroupedAggregate::new(
                    setting,
                    MergeStates(states()),
                    results,
                    groups,
                )))
            },
        )
    }
}

impl<R: Record, K: KeyFields<R>> KeyedStream<R, K> {
    /// The records of each key joined to one by `function`, which must be associative: in batch mode sent once, in
    /// streaming mode after each record. The result must have the key of its parts.
    pub fn reduce<F>(self, function: F) -> Stream<R>
    where
        F: for<'a, 'b> FnMut(R::View<'a>, R::View<'b>) -> R + Clone + Send + 'static,
    {
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = self;
        let detail = format!("by {}", keys.describe().join(", "));
        let least = least_segments(R::STRIDE, environment.runtime().plan());
        let rows = Rows::Keyed(Some(keys.identity()));
        keyed_node(
            &environment,
            ("reduce", None),
            inputs,
            detail,
            rows,
            least,
            move |context| {
                let setting = setting(context, emission_in(context, None))?;
                let skip_bits = setting.skip_bits;
                let folding = Reduced {
                    function: function.clone(),
                    record: PhantomData,
                    aligned: Default::default(),
                };
                let groups = |source| RowGroups::<R, K>::new(keys, source, skip_bits);
                Ok(Box::new(GroupedAggregate::new(
                    setting,
                    folding,
                    StateRow::<R>(PhantomData),
                    groups,
                )))
            },
        )
    }

    /// Each key once: in streaming mode when its first record comes (later where its group has been spilled), in batch mode when all have.
    pub fn distinct(self) -> Stream<K::Key> {
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = self;
        let detail = keys.describe().join(", ");
        let least = match keys.as_u64_column() {
            Some(_) => LEAST_SEGMENTS,
            None => least_segments(K::Key::STRIDE, environment.runtime().plan()),
        };
        let rows = Rows::Keyed(Some(itself::<K::Key>().identity()));
        keyed_node(
            &environment,
            ("distinct", Some(Emission::New)),
            inputs,
            detail,
            rows,
            least,
            move |context| {
                // At the end of the input keys can wait in memory and in logs for their turn: a third of the time where they spill.
                let emission = match context.is_streaming {
                    true => Emission::New,
                    false => Emission::Final,
                };
                let setting = setting(context, emission)?;
                let skip_bits = setting.skip_bits;
                let lanes = <Count as Aggregate<R>>::LANES;
                Ok(match keys.as_u64_column() {
                    Some(_) => {
                        let groups = |source| LineGroups::<R, K>::new(keys, lanes, source, skip_bits);
                        Box::new(GroupedAggregate::new(setting, Lanes(count()), KeyOnly, groups))
                    }
                    None => {
                        let groups = |source| ByteGroups::<R, K>::new(keys, lanes, source, skip_bits);
                        Box::new(GroupedAggregate::new(setting, Lanes(count()), KeyOnly, groups))
                    }
                })
            },
        )
    }
}

impl<I: Record, R: Record, S: Stage<I, R>> Stream<I, R, S> {
    /// Each record once, as [`KeyedStream::distinct`] says. Records are the same where their canonical bytes are: −0.0 is 0.0.
    pub fn distinct(self) -> Stream<R> {
        self.key_by(itself::<R>()).distinct()
    }
}

/// When results are sent in a job: as asked for, or as its mode says.
pub(crate) fn emission_in(context: &OperatorContext, emission: Option<Emission>) -> Emission {
    emission.unwrap_or(match context.is_streaming {
        true => Emission::Updates,
        false => Emission::Final,
    })
}

/// What the memory of an aggregation is for.
pub(crate) fn consumer_of(emission: Option<Emission>) -> Consumer {
    match emission {
        Some(Emission::Final) => Consumer::Operator,
        Some(Emission::Updates) => Consumer::State,
        // As the job's mode says; distinct answers while records come, and keeps its keys for as long as they do.
        None | Some(Emission::New) => Consumer::StateOfStreams,
    }
}

pub(crate) fn budget_of(context: &OperatorContext) -> Budget {
    context
        .budget
        .clone()
        .expect("an operator that asked for managed memory has a budget")
}

/// What an aggregation over keyed rows is made with.
pub(crate) fn setting(context: &OperatorContext, emission: Emission) -> Result<Setting> {
    Ok(Setting {
        emission,
        budget: budget_of(context),
        handle: context.spill.handle(&context.name)?,
        batches: context.batches.clone(),
        skip_bits: common_bits(context.subtask, context.max_parallelism),
        handed: None,
    })
}

/// Adds an operator that aggregates rows where they are, before they are sent to the subtasks of their keys.
fn local_node<R: Record, K: KeyFields<R>>(
    environment: &Environment,
    inputs: Vec<Edge>,
    detail: String,
    keys: K,
    make: impl Fn(&OperatorContext) -> Result<Box<dyn Operator>> + 'static,
) -> Stream<Partial<K::Key>> {
    environment.add_stream(Node {
        inputs: inputs.into_iter().map(|edge| Edge::forward(edge.from)).collect(),
        output: Some((Partial::<K::Key>::schema(), Partial::<K::Key>::STRIDE)),
        minimum_segments: LEAST_SEGMENTS,
        maximum_segments: MOST_LOCAL_SEGMENTS,
        rows: Rows::Rekeyed(keys.identity(), first::<Partial<K::Key>>().identity()),
        detail,
        ..Node::new("local aggregate", Factory::Operator(Box::new(make)))
    })
}

/// Adds an operator that folds rows by integer keys before they are sent to the subtasks of their keys, and answers the way to these.
/// Where there are several inputs it would be a step between them and the exchange: then there is none.
fn local_lines_node<R: Record, K: KeyFields<R>>(
    environment: &Environment,
    inputs: Vec<Edge>,
    detail: &str,
    keys: K,
    make: impl Fn(&OperatorContext) -> Box<dyn Operator> + 'static,
) -> Vec<Edge> {
    let [input] = &inputs[..] else {
        return inputs;
    };
    let stream: Stream<R> = environment.add_stream(Node {
        parallelism: environment.parallelism_of(input.from),
        inputs: vec![Edge::forward(input.from)],
        output: Some((R::schema(), R::STRIDE)),
        maximum_segments: MOST_LOCAL_SEGMENTS,
        rows: Rows::Same,
        detail: detail.to_string(),
        ..Node::new(
            "local aggregate",
            Factory::Operator(Box::new(move |context| Ok(make(context)))),
        )
    });
    stream.key_by(keys).inputs
}

/// Pairs of a key and something else, where the key has sent them.
fn keyed_by_first<K: Record, O: Record>() -> Rows {
    Rows::Keyed(Some(first::<(K, O)>().identity()))
}

/// Adds an operator over keyed rows that needs managed memory.
pub(crate) fn keyed_node<O: Record>(
    environment: &Environment,
    (kind, emission): (&'static str, Option<Emission>),
    inputs: Vec<Edge>,
    detail: String,
    rows: Rows,
    minimum_segments: usize,
    make: impl Fn(&OperatorContext) -> Result<Box<dyn Operator>> + 'static,
) -> Stream<O> {
    environment.add_stream(Node {
        inputs,
        output: Some((O::schema(), O::STRIDE)),
        minimum_segments,
        maximum_segments: usize::MAX,
        consumer: consumer_of(emission),
        rows,
        detail,
        ..Node::new(kind, Factory::Operator(Box::new(make)))
    })
}

/// How many first bits the hashes of all keys of a subtask share.
pub(crate) fn common_bits(subtask: Subtask, max_parallelism: u32) -> u32 {
    let (groups, parallelism) = (u64::from(max_parallelism), subtask.parallelism as u64);
    // The first key group of subtask i is the least g with g × parallelism / groups >= i.
    let first_group = |index: u64| (index * groups).div_ceil(parallelism);
    let first = u128::from(first_group(subtask.index as u64)) << 64;
    let end = u128::from(first_group(subtask.index as u64 + 1)) << 64;
    let (first, last) = (
        (first / u128::from(groups)) as u64,
        (end / u128::from(groups) - 1) as u64,
    );
    (first ^ last).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_memory::hash::{key_group, subtask_of};

    #[test]
    fn common_bits_are_those_of_the_subtasks_range() {
        for parallelism in [1, 2, 3, 4, 5, 7, 8, 128] {
            for index in 0..parallelism {
                let bits = common_bits(Subtask { index, parallelism }, 128);
                let mut seen: Option<u64> = None;
                for group in 0..128u64 {
                    let hash = group << 57;
                    assert_eq!(key_group(hash, 128) as u64, group);
                    if subtask_of(group as u32, 128, parallelism as u32) as usize == index {
                        for hash in [hash, hash | ((1 << 57) - 1)] {
                            let prefix = hash.checked_shr(64 - bits).unwrap_or(0);
                            assert_eq!(*seen.get_or_insert(prefix), prefix);
                        }
                    }
                }
                assert!(!parallelism.is_power_of_two() || bits == parallelism.trailing_zeros());
            }
        }
    }
}
