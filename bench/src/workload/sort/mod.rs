//! The sorts: of numbers, in random order and in order already, and of records with everything that orders have trouble with.

mod ranked;
mod numbers;
mod mixed;
mod topn;
mod gensort;

pub use gensort::WORKLOAD as GENSORT;
pub use mixed::WORKLOAD as MIXED;
pub use numbers::{PRESORTED, RANDOM};
pub use topn::WORKLOAD as TOPN;

use super::{Answer, Bare};
use crate::limits::{MachineLimits, best_rate};
use crate::setting::Setting;
use forebay::record::Record;
use forebay_memory::Result;
use ranked::ranked_hash;
use std::hint::black_box;

/// The answer of records in their order.
fn answer_of<R: Record>(sorted: &[R]) -> Answer {
    let mut row = Vec::new();
    let mut answer = Answer::default();
    for record in sorted {
        row.clear();
        row.resize(R::row_size(record.view()), 0);
        R::write_row(record.view(), &mut row);
        answer.hash = answer.hash.wrapping_add(ranked_hash::<R>(&row, answer.records));
        answer.records += 1;
    }
    answer
}

/// Numbers of a part of the records for each thread, made and sorted by `std`, in memory: no merge, no engine. No limit: sorts that do not
/// compare take less.
fn bare(setting: &Setting, _: &MachineLimits) -> Result<Bare> {
    const MOST_RECORDS: u64 = 20_000_000;
    let (threads, count) = (setting.parallelism, setting.records.min(MOST_RECORDS));
    let part = count / threads as u64;
    let rate = best_rate(
        threads,
        |_| Vec::<u64>::with_capacity(part as usize),
        |thread, keys| {
            let first = thread as u64 * part;
            keys.extend((first..first + part).map(|index| numbers::random(setting.seed, index)));
            keys.sort_unstable();
            black_box(&keys);
            part
        },
    );
    Ok(Bare {
        is_limit: false,
        rate,
        name: "std sort".into(),
        what: "each thread makes its part of as many random u64 and sorts it with sort_unstable: no merge, no engine".into(),
    })
}
