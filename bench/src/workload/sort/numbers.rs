//! `sort-u64` and `sort-presorted`: numbers of 64 bits, in random order or in order already.

use super::ranked::RankedHash;
use crate::data::mix;
use crate::data::mix::start_of;
use crate::options::Choice;
use crate::setting::Setting;
use crate::workload::{Answer, Outcome, Workload, nothing_to_prepare};
use forebay::record::Record;
use forebay::source::generate_rows;
use forebay::{Environment, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
struct Number {
    value: u64,
}

/// Numbers in random order.
pub const RANDOM: Workload = Workload {
    name: "sort-u64",
    about: "random u64 in ascending order",
    help: "Number i is mix(i). The result's hash takes each record with its rank, so it is that of the order, too.\n\
           --managed SIZE below 8 bytes a record spills.",
    records: 20_000_000,
    keys: 0,
    takes: &[Choice::Seed],
    takes_of_files: &[],
    prepare: nothing_to_prepare,
    run: |environment, setting| run(environment, setting, random),
    oracle: |setting| oracle(setting, random),
    bare: super::bare,
    stall: None,
    read_back: None,
};

/// Numbers in order.
pub const PRESORTED: Workload = Workload {
    name: "sort-presorted",
    about: "u64 that are in ascending order already",
    help: "Number i is i times 0x10001. Otherwise as sort-u64.",
    run: |environment, setting| run(environment, setting, ascending),
    oracle: |setting| oracle(setting, ascending),
    ..RANDOM
};

/// The random number at an index.
#[inline(always)]
pub fn random(seed: u64, index: u64) -> u64 {
    mix(start_of(seed).wrapping_add(index))
}

fn ascending(seed: u64, index: u64) -> u64 {
    (index + seed).wrapping_mul(0x10001)
}

fn run(
    environment: &Environment,
    setting: &Setting,
    number: impl Fn(u64, u64) -> u64 + Copy + Send + Sync + 'static,
) -> Result<Outcome> {
    let seed = setting.seed;
    let source = generate_rows(setting.records, move |first, rows: &mut [Number]| {
        for (index, row) in (first..).zip(rows) {
            row.value = number(seed, index);
        }
    });
    let (sink, total) = RankedHash::<Number>::new();
    environment
        .source("generate", source)
        .sort_by(Number::value)
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

fn oracle(setting: &Setting, number: impl Fn(u64, u64) -> u64) -> Result<Answer> {
    let numbers = (0..setting.records).map(|index| Number {
        value: number(setting.seed, index),
    });
    let mut numbers: Vec<Number> = numbers.collect();
    numbers.sort_unstable_by_key(|number| number.value);
    Ok(super::answer_of(&numbers))
}
