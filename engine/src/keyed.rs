//! Keyed streams: aggregation of the records of each key.
//!
//! # Interface
//! [`KeyedStream::aggregate`] and its short forms. In batch mode the result of a key is sent once; in streaming mode
//! each time a record changes it. [`KeyedStream::aggregate_final`] and [`KeyedStream::aggregate_updates`] say which.

use crate::aggregate::{Aggregate, Count, MOST_LANES, Max, Min, Ordinal, Sum, Summand, count, max, min, sum};
use crate::environment::Environment;
use crate::graph::{Factory, Node, OperatorContext};
use crate::hashing::common_bits;
use crate::operator::{
    Emission, GroupedAggregate, KeyAndResult, LEAST_SEGMENTS, Lanes, LineGroups, Operator, Setting,
};
use crate::record::{Field, KeyFields, Record};
use crate::stream::{KeyedStream, Stream};
use forebay_memory::{Error, Result};
use std::marker::PhantomData;

impl<R: Record, K: KeyFields<R>> KeyedStream<R, K> {
    /// The aggregates of each key's records, with the key: in batch mode once, in streaming mode after each record.
    ///
    /// Works in any managed memory from 8 segments a subtask up; what exceeds it is spilled.
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

    /// The number of each key's records.
    pub fn count(self) -> Stream<(K::Key, <Count as Aggregate<R>>::Out)> {
        self.aggregate(count())
    }

    /// The sum of a field of each key's records.
    pub fn sum<T: Summand>(self, field: Field<R, T>) -> Stream<(K::Key, <Sum<R, T> as Aggregate<R>>::Out)> {
        self.aggregate(sum(field))
    }

    /// The least value of a field of each key's records.
    pub fn min<T: Ordinal>(self, field: Field<R, T>) -> Stream<(K::Key, <Min<R, T> as Aggregate<R>>::Out)> {
        self.aggregate(min(field))
    }

    /// The greatest value of a field of each key's records.
    pub fn max<T: Ordinal>(self, field: Field<R, T>) -> Stream<(K::Key, <Max<R, T> as Aggregate<R>>::Out)> {
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
        let KeyedStream {
            environment,
            inputs,
            keys,
            ..
        } = self;
        let detail = format!("{} by {}", aggregate.describe(), keys.describe().join(", "));
        keyed_node::<(K::Key, A::Out)>(&environment, "aggregate", inputs, detail, move |context| {
            let emission = emission.unwrap_or(match context.is_streaming {
                true => Emission::Updates,
                false => Emission::Final,
            });
            let setting = setting(context, emission)?;
            let folding = Lanes(aggregate.clone());
            let results = KeyAndResult {
                aggregate: aggregate.clone(),
                record: PhantomData,
            };
            match keys.as_u64_column() {
                Some(_) => {
                    let skip_bits = setting.skip_bits;
                    let groups = |source| LineGroups::<R, K>::new(keys, A::LANES, source, skip_bits);
                    Ok(Box::new(GroupedAggregate::new(setting, folding, results, groups)))
                }
                None => Err(Error::config("keys that are not one integer")),
            }
        })
    }
}

/// What an aggregation over keyed rows is made with.
fn setting(context: &OperatorContext, emission: Emission) -> Result<Setting> {
    Ok(Setting {
        emission,
        budget: context
            .budget
            .clone()
            .expect("an operator that asked for managed memory has a budget"),
        handle: context.spill.handle(&context.name)?,
        batches: context.batches.clone(),
        skip_bits: common_bits(context.subtask, context.max_parallelism),
    })
}

/// Adds an operator over keyed rows that needs managed memory.
fn keyed_node<O: Record>(
    environment: &Environment,
    kind: &'static str,
    inputs: Vec<crate::graph::Edge>,
    detail: String,
    make: impl Fn(&OperatorContext) -> Result<Box<dyn Operator>> + 'static,
) -> Stream<O> {
    environment.add_stream(Node {
        kind,
        name: None,
        uid: None,
        parallelism: None,
        inputs,
        output: Some((O::schema(), O::STRIDE)),
        minimum_segments: LEAST_SEGMENTS,
        detail,
        factory: Factory::Operator(Box::new(make)),
    })
}
