//! `aggregate`: count and sum of each key's values, by default with every key new.

use super::input::{hash_of, keyed_stream, prepare_keyed};
use super::{Answer, Outcome, Workload, keyed_sum};
use crate::data::Keyed;
use crate::data::keyed::KEYED_RECORD;
use crate::setting::Setting;
use forebay::aggregate::{count, sum};
use forebay::sink::HashSink;
use forebay::{Environment, Result};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "aggregate",
    about: "count and sum of (u64 key, i64 value) records by key; every key is new where --keys is at least --records",
    help: "The records of keyed-sum, but with --keys not below --records each record has a key of its own, mix(i).\n\
           Results are (key, (count, sum)), once, in both modes. --managed SIZE below about 45 bytes a key spills.",
    records: 5_000_000,
    keys: 5_000_000,
    prepare: prepare_keyed,
    run,
    oracle,
    bare: keyed_sum::bare,
};

/// Results: a key, the number of its records, the sum of their values.
type Aggregated = (u64, (u64, i64));

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let (stream, records) = keyed_stream(environment, setting)?;
    let (sink, total) = HashSink::<Aggregated>::new();
    stream
        .key_by(Keyed::key)
        .aggregate_final((count(), sum(Keyed::value)))
        .sink("hash", sink);
    let summary = environment.execute("aggregate")?;
    let answer = super::folded(&total);
    Ok(Outcome {
        records,
        bytes: records * KEYED_RECORD as u64,
        answer,
        summary,
        latency: None,
    })
}

fn oracle(setting: &Setting) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut row = Vec::new();
    super::fold_sorted(setting, |key, values| {
        let total: i64 = values.iter().map(|(_, value)| value).sum();
        let aggregated: Aggregated = (key, (values.len() as u64, total));
        answer.records += 1;
        answer.hash = answer.hash.wrapping_add(hash_of(&aggregated, &mut row));
    })?;
    Ok(answer)
}
