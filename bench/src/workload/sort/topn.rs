//! `topn`: the first records of an order.

use super::numbers::random;
use super::ranked::RankedHash;
use crate::data::Keyed;
use crate::options::Choice;
use crate::setting::Setting;
use crate::workload::{Answer, Outcome, Workload, keyed_outcome, nothing_to_prepare};
use forebay::source::generate_rows;
use forebay::{Environment, Result};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "topn",
    about: "the --keys largest of 16-byte records, in descending order",
    help: "Record i is (mix(i), i); the first of them by their first number, downwards, are wanted: --keys says how many. The result's\n\
           hash takes each with its rank. --managed SIZE below 16 bytes a wanted record spills.",
    records: 20_000_000,
    keys: 100_000,
    takes: &[Choice::Keys, Choice::Seed],
    takes_of_files: &[],
    prepare: nothing_to_prepare,
    run,
    oracle,
    bare: super::bare,
    stall: None,
    read_back: None,
};

fn record(seed: u64, index: u64) -> Keyed {
    Keyed {
        key: random(seed, index),
        value: index as i64,
    }
}

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let seed = setting.seed;
    let source = generate_rows(setting.records, move |first, rows: &mut [Keyed]| {
        for (index, row) in (first..).zip(rows) {
            *row = record(seed, index);
        }
    });
    let (sink, total) = RankedHash::<Keyed>::new();
    environment
        .source("generate", source)
        .top(setting.keys, Keyed::key.descending())
        .sink("hash by rank", sink)
        .parallelism(1);
    let summary = environment.execute(&setting.workload)?;
    let total = *total.lock().expect("adding does not panic");
    Ok(keyed_outcome(setting.records, total.answer, summary))
}

fn oracle(setting: &Setting) -> Result<Answer> {
    let mut records: Vec<Keyed> = (0..setting.records)
        .map(|index| record(setting.seed, index))
        .collect();
    records.sort_unstable_by_key(|record| std::cmp::Reverse(record.key));
    records.truncate(usize::try_from(setting.keys).unwrap_or(usize::MAX));
    Ok(super::answer_of(&records))
}
