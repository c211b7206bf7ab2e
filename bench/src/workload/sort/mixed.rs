//! `sort-mixed`: records of varying size by a nullable float downwards, a text and a number.

use super::ranked::RankedHash;
use crate::data::mix;
use crate::data::mix::start_of;
use crate::options::Choice;
use crate::setting::Setting;
use crate::workload::{Answer, Outcome, Workload, nothing_to_prepare};
use forebay::record::Record;
use forebay::source::generate;
use forebay::{Environment, Result};
use std::cmp::Reverse;

/// An item of a list of goods.
#[derive(Debug, Clone, Record)]
struct Item {
    price: Option<f64>,
    name: String,
    number: u64,
    note: String,
}

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "sort-mixed",
    about: "records of 64 to 300 bytes by a nullable price downwards (nulls last), a name and a number",
    help: "One price in 8 is null, the others are of 1000 values; one name in 4 begins with the same 16 bytes as others; notes have 0 to\n\
           200 bytes. The result's hash takes each record with its rank.",
    records: 3_000_000,
    keys: 0,
    takes: &[Choice::Seed],
    takes_of_files: &[],
    prepare: nothing_to_prepare,
    run,
    oracle,
    bare: super::bare,
    stall: None,
    read_back: None,
};

fn item(seed: u64, index: u64) -> Item {
    let random = mix(start_of(seed).wrapping_add(index));
    let name = match random % 4 {
        0 => format!("the same sixteen bytes {}", random >> 50),
        _ => format!("{:x}", (random >> 8) % 100_000_007),
    };
    Item {
        price: (!random.is_multiple_of(8)).then_some(((random >> 20) % 1000) as f64 / 4.0 - 100.0),
        name,
        number: index,
        note: "note ".repeat((random >> 40) as usize % 41),
    }
}

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let seed = setting.seed;
    let (sink, total) = RankedHash::<Item>::new();
    environment
        .source(
            "generate",
            generate(setting.records, move |index| item(seed, index)),
        )
        .sort_by((Item::price.descending().nulls_last(), Item::name, Item::number))
        .sink("hash by rank", sink);
    let summary = environment.execute(&setting.workload)?;
    let total = *total.lock().expect("adding does not panic");
    Ok(Outcome {
        records: setting.records,
        bytes: total.bytes,
        answer: total.answer,
        summary,
        latency: None,
    })
}

fn oracle(setting: &Setting) -> Result<Answer> {
    let mut items: Vec<Item> = (0..setting.records)
        .map(|index| item(setting.seed, index))
        .collect();
    // Prices are whole numbers of quarters.
    items.sort_by_cached_key(|item| {
        let price = item.price.map(|price| (price * 4.0) as i64);
        (price.is_none(), Reverse(price), item.name.clone(), item.number)
    });
    Ok(super::answer_of(&items))
}
