//! Aggregation of whole streams, without a key.
//!
//! # Algorithm
//! Each subtask folds what it sees into one state; one subtask merges these. For updates every record goes to that one.

use crate::aggregate::{Aggregate, count};
use crate::graph::{OperatorContext, Rows};
use crate::keyed::{emission_in, keyed_node, setting};
use crate::operator::{
    Emission, GroupedAggregate, MergeStates, OrElse, Partial, ResultOnly, Shape, Stage, StateGroups, States,
    Total, least_segments,
};
use crate::record::{Record, first};
use crate::stream::{KeyedStream, Stream, operator_node};
use std::marker::PhantomData;

impl<I: Record, R: Record, S: Stage<I, R>> Stream<I, R, S> {
    /// The aggregates of all records: in batch mode once, in streaming mode after each record. Of no record there is no result.
    ///
    /// ```
    /// # use forebay::{Environment, Result, source::generate};
    /// # fn main() -> Result<()> {
    /// # let env = Environment::from_args()?;
    /// use forebay::aggregate::{max, sum};
    /// use forebay::record::itself;
    ///
    /// let totals = env
    ///     .source("numbers", generate(101, |i| i))
    ///     .aggregate((sum(itself()), max(itself())))
    ///     .collect();
    /// env.execute("totals")?;
    /// assert_eq!(totals.take(), [(5050, 100)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn aggregate<A: Aggregate<R>>(self, aggregate: A) -> Stream<A::Out> {
        self.total(aggregate, None)
    }

    /// The aggregates of all records, once, after the last record. Of a source that does not end, never; of no record there is
    /// no result.
    pub fn aggregate_final<A: Aggregate<R>>(self, aggregate: A) -> Stream<A::Out> {
        self.total(aggregate, Some(Emission::Final))
    }

    fn total<A: Aggregate<R>>(self, aggregate: A, emission: Option<Emission>) -> Stream<A::Out> {
        const {
            assert!(A::LANES + A::PARTS > 0, "an aggregate has a state");
        }
        let (environment, inputs) = self.into_edges();
        let shape = |context: &OperatorContext| Shape {
            lanes: A::LANES,
            parts: A::PARTS,
            most: context.batches.max_row_size(),
            owner: context.name.to_string(),
        };
        let (local, detail) = (aggregate.clone(), aggregate.describe());
        let mut node = operator_node::<Partial<()>>("local aggregate", Vec::new(), inputs, move |context| {
            let is_bypassed = emission_in(context, emission) != Emission::Final;
            let batches = context.batches.clone();
            Box::new(Total::<R, A>::new(
                local.clone(),
                shape(context),
                batches,
                is_bypassed,
            ))
        });
        node.detail.clone_from(&detail);
        let partials: Stream<Partial<()>> = environment.add_stream(node);
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = partials.key_by(first::<Partial<()>>());
        let least = least_segments(0, environment.runtime().plan());
        let totals = keyed_node(
            &environment,
            ("aggregate", emission),
            inputs,
            detail,
            Rows::New,
            least,
            move |context| {
                let setting = setting(context, emission_in(context, emission))?;
                let states = || States::<R, A>::new(aggregate.clone());
                let (shape, skip_bits) = (shape(context), setting.skip_bits);
                Ok(Box::new(GroupedAggregate::new(
                    setting,
                    MergeStates(states()),
                    ResultOnly::<R, A>(aggregate.clone(), PhantomData),
                    |source| {
                        let merging = Box::new(states());
                        StateGroups::<Partial<()>, _>::new(keys, shape, merging, source, skip_bits)
                    },
                )))
            },
        );
        totals.parallelism(1)
    }

    /// The number of records: in batch mode once, in streaming mode after each record. Of no record it is 0.
    pub fn count(self) -> Stream<u64> {
        let (environment, inputs) = self.aggregate(count()).into_edges();
        let node = operator_node::<u64>("count", Vec::new(), inputs, |context| {
            Box::new(OrElse::<u64>::new(0, context.batches.clone()))
        });
        environment.add_stream(node).parallelism(1)
    }
}
