//! `aggregate --row-bytes`: the keyed records with a text in each, and aggregates that keep one: groups are as wide as records.

use super::input::hash_of;
use super::{Answer, Outcome, folded, input};
use crate::setting::Setting;
use forebay::aggregate::{count, last_by, sum};
use forebay::record::Record;
use forebay::sink::HashSink;
use forebay::source::generate;
use forebay::{Environment, Result};
use std::collections::HashMap;

/// Bytes of a record's row without its text.
pub const LEAST_ROW: u64 = 48;

/// A wide record.
#[derive(Debug, Clone, Record)]
struct Wide {
    key: u64,
    value: i64,
    index: u64,
    text: Vec<u8>,
}

/// Results: a key, the number of its records, the sum of their values, the text of the last.
type Widest = (u64, (u64, i64, Vec<u8>));

/// The text of a record: its number, mixed, again and again.
fn text_of(index: u64, setting: &Setting) -> Vec<u8> {
    let word = forebay_memory::hash::hash_u64(index + 1).to_le_bytes();
    let size = (setting.row_bytes - LEAST_ROW) as usize;
    word.iter().copied().cycle().take(size).collect()
}

/// Runs the job.
pub fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let (data, own) = (input::keyed_data(setting), setting.clone());
    let records = environment.source(
        "generate",
        generate(setting.records, move |index| {
            let keyed = data.at(index);
            Wide {
                key: keyed.key,
                value: keyed.value,
                index,
                text: text_of(index, &own),
            }
        }),
    );
    let results = records.key_by(Wide::key).aggregate_final((
        count(),
        sum(Wide::value),
        last_by(Wide::text, Wide::index),
    ));
    let (sink, total) = HashSink::<Widest>::new();
    results.sink("hash", sink);
    let summary = environment.execute(&setting.workload)?;
    Ok(Outcome {
        records: setting.records,
        bytes: setting.records * setting.row_bytes,
        answer: folded(&total),
        summary,
        latency: None,
    })
}

/// The result, computed plainly.
pub fn oracle(setting: &Setting) -> Answer {
    let data = input::keyed_data(setting);
    let mut groups: HashMap<u64, (u64, i64, u64)> = HashMap::new();
    for index in 0..setting.records {
        let keyed = data.at(index);
        let group = groups.entry(keyed.key).or_default();
        *group = (group.0 + 1, group.1 + keyed.value, index);
    }
    let (mut answer, mut row) = (Answer::default(), Vec::new());
    for (key, (count, sum, last)) in groups {
        let result: Widest = (key, (count, sum, text_of(last, setting)));
        answer.records += 1;
        answer.hash = answer.hash.wrapping_add(hash_of(&result, &mut row));
    }
    answer
}
