//! Records of several forms through jobs whose key is a field of that type: sorted as `std` sorts them, in both directions and with nulls on
//! either side, and grouped as a map groups them; in so little memory that rows leave it.
//!
//! The order that is expected is that of normalized keys, which `record_keys.rs` compares with the order by definition.

mod record_samples;

use forebay::aggregate::{count, sum};
use forebay::record::{Record, SortFields, element, first, second};
use forebay::source::from_items;
use forebay::{Environment, Runtime};
use forebay_memory::Plan;
use record_samples::{Event, Nested, Random, Sale, Sample};
use std::collections::BTreeMap;

const SEGMENT: usize = 4096;

/// Rows of few and many different keys, numbered.
fn rows<R: Sample>(seed: u64, count: u64) -> Vec<(R, u64)> {
    let mut random = Random(seed);
    let mut row = |number| {
        let key = match random.below(2) {
            0 => R::sample(&mut random),
            // The same few states of the generator come again.
            _ => R::sample(&mut Random(random.below(30) as u64)),
        };
        (key, number)
    };
    (0..count).map(&mut row).collect()
}

fn environment(segments: usize, parallelism: usize) -> Environment {
    let plan =
        Plan::with_segments_for(segments, 512, SEGMENT, 4 * SEGMENT).expect("the test's sizes make a plan");
    let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
    Environment::new(runtime).with_parallelism(parallelism)
}

fn check_returned(environment: &Environment) {
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
}

/// Sorts rows in a job and by `std`, and compares their numbers. Answers whether some were spilled.
fn check_sorted<T: Record + Clone>(
    rows: &[T],
    fields: impl SortFields<T>,
    number: impl Fn(&T) -> u64,
    parallelism: usize,
    what: &str,
) -> bool {
    let mut expected: Vec<(Vec<u8>, u64)> = rows
        .iter()
        .map(|row| {
            let mut bytes = Vec::new();
            fields.encode_normalized(row.view(), &mut bytes);
            (bytes, number(row))
        })
        .collect();
    expected.sort();
    let environment = environment(40 * parallelism, parallelism);
    let sorted = environment
        .source("rows", from_items(rows.to_vec()))
        .sort_by(fields)
        .collect();
    let summary = environment.execute("sort").expect("the job runs");
    check_returned(&environment);
    let sorted = sorted.take();
    assert!(
        sorted
            .iter()
            .map(number)
            .eq(expected.iter().map(|(_, number)| *number)),
        "{what}: sorted by {fields:?}"
    );
    summary.spilled_bytes_written() > 0
}

fn sorts_and_groups<R: Record + Sample + Clone>(seed: u64) -> usize {
    let name = std::any::type_name::<R>();
    let rows = rows::<R>(seed, 12_000);
    let mut spilled = 0;
    for draw in 0..2 {
        let parallelism = 1 + draw;
        let mut random = Random(seed * 31 + draw as u64);
        let (descending, nulls_last) = (random.below(2) == 0, random.below(2) == 0);
        let field = first::<(R, u64)>();
        let mut order = if descending {
            field.descending()
        } else {
            field.ascending()
        };
        if nulls_last {
            order = order.nulls_last();
        }
        let fields = (order, second::<(R, u64)>().descending());
        let has_spilled = check_sorted(&rows, fields, |row| row.1, parallelism, name);
        spilled += usize::from(has_spilled);
    }

    let mut groups: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    for (key, number) in &rows {
        let mut bytes = Vec::new();
        R::encode_normalized(key.view(), &mut bytes);
        let group = groups.entry(bytes).or_default();
        *group = (group.0 + 1, group.1 + number);
    }
    let environment = environment(60, 2);
    let found = environment
        .source("rows", from_items(rows.clone()))
        .key_by(first::<(R, u64)>())
        .aggregate((count(), sum(second())))
        .collect();
    let summary = environment.execute("groups").expect("the job runs");
    check_returned(&environment);
    let found: Vec<(R, (u64, u64))> = found.take();
    assert_eq!(found.len(), groups.len(), "{name}, seed {seed}: groups");
    for (key, totals) in &found {
        let mut bytes = Vec::new();
        R::encode_normalized(key.view(), &mut bytes);
        assert_eq!(groups.get(&bytes), Some(totals), "{name}, seed {seed}");
    }
    spilled + usize::from(summary.spilled_bytes_written() > 0)
}

#[test]
fn records_of_several_forms_are_sorted_and_grouped() {
    let mut spilled = 0;
    spilled += sorts_and_groups::<Option<String>>(7);
    spilled += sorts_and_groups::<f64>(7);
    spilled += sorts_and_groups::<(u8, u64)>(7);
    spilled += sorts_and_groups::<Event>(7);
    spilled += sorts_and_groups::<Sale>(7);
    assert!(spilled > 2, "{spilled} jobs spilled");
}

/// Keys of several fields, one of each sort that rows have, in random order and directions.
#[test]
fn keys_of_several_fields_are_sorted_in_any_directions() {
    type Row = (Option<String>, f64, [u8; 10], Nested, u64);
    let mut random = Random(11);
    let rows: Vec<Row> = (0..800)
        .map(|number| {
            let text = Option::sample(&mut Random(random.below(9) as u64));
            let float = f64::sample(&mut Random(random.below(9) as u64));
            let nested = Nested::sample(&mut Random(random.below(9) as u64));
            (
                text,
                float,
                Sample::sample(&mut Random(random.below(3) as u64)),
                nested,
                number,
            )
        })
        .collect();
    for seed in 0..6 {
        let mut random = Random(seed);
        macro_rules! order {
            ($index:literal) => {{
                let field = element::<$index, Row>();
                let (descending, nulls_last) = (random.below(2) == 0, random.below(2) == 0);
                let order = if descending {
                    field.descending()
                } else {
                    field.ascending()
                };
                if nulls_last {
                    order.nulls_last()
                } else {
                    order
                }
            }};
        }
        let fields = (order!(0), order!(2), order!(1), order!(3), order!(4));
        check_sorted(&rows, fields, |row| row.4, 2, "several fields");
    }
}
