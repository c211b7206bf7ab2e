//! `distinct`: each key once.

use super::input::{keyed_stream, prepare_keyed};
use super::{Answer, Outcome, Workload, keyed_sum};
use crate::data::Keyed;
use crate::options::Choice;
use crate::setting::Setting;
use forebay::{Environment, Result};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "distinct",
    about: "the distinct keys of (u64 key, i64 value) records",
    help: "The records of keyed-sum, with fewer records a key. Results are keys, each once.",
    records: 10_000_000,
    keys: 4_000_000,
    takes: &[
        Choice::Keys,
        Choice::Skew,
        Choice::Hot,
        Choice::Seed,
        Choice::Input,
        Choice::FromFile,
        Choice::Output,
    ],
    takes_of_files: &[Choice::Keys, Choice::Output],
    prepare: prepare_keyed,
    run,
    oracle,
    bare: keyed_sum::bare,
    stall: None,
    read_back: None,
};

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let (stream, records) = keyed_stream(environment, setting)?;
    let keys = stream.key_by(Keyed::key).distinct();
    super::run_keyed::<u64, _>(environment, setting, records, keys, |key, line| {
        line.push_str(&key.to_string());
    })
}

fn oracle(setting: &Setting) -> Result<Answer> {
    super::answer_by_key::<u64>(setting, |key, _| key)
}
