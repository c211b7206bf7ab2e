//! `distinct`: each key once.

use super::input::{hash_of, keyed_stream, prepare_keyed};
use super::output::output;
use super::{Answer, Outcome, Workload, keyed_sum};
use crate::data::Keyed;
use crate::data::keyed::KEYED_RECORD;
use crate::setting::Setting;
use forebay::sink::HashSink;
use forebay::{Environment, Result};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "distinct",
    about: "the distinct keys of (u64 key, i64 value) records",
    help: "The records of keyed-sum, with fewer records a key. Results are keys, each once.",
    records: 10_000_000,
    keys: 4_000_000,
    emits_updates: false,
    prepare: prepare_keyed,
    run,
    oracle,
    bare: keyed_sum::bare,
    stall: None,
};

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let (stream, records) = keyed_stream(environment, setting)?;
    let (sink, total) = HashSink::<u64>::new();
    let keys = stream.key_by(Keyed::key).distinct();
    if setting.output.is_some() {
        let lines = |key: u64, line: &mut String| line.push_str(&key.to_string());
        keys.sink("files", output::<u64, _>(setting, lines));
    } else {
        keys.sink("hash", sink);
    }
    let summary = environment.execute("distinct")?;
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
    super::fold_sorted(setting, |key, _| {
        answer.records += 1;
        answer.hash = answer.hash.wrapping_add(hash_of(&key, &mut row));
    })?;
    Ok(answer)
}
