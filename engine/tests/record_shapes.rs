//! Records of many forms through jobs in little memory: sorted, grouped, told apart, joined, and written to Parquet files and read again; each
//! compared with what `std` makes of them.
//!
//! Records are compared by their normalized keys, which `record_keys.rs` compares with equality and order by definition.

#[cfg(feature = "parquet")]
mod files_support;
mod record_samples;

use forebay::aggregate::{count, sum};
use forebay::record::{Date, Decimal, List, Record, SortFields, Timestamp, first, second};
use forebay::source::from_items;
use forebay::{Environment, Runtime};
use forebay_memory::Plan;
use record_samples::{Couple, Nested, Random, Reading, Sample, Shape};
use std::collections::BTreeMap;
#[cfg(feature = "parquet")]
use std::collections::BTreeSet;

const SEGMENT: usize = 4096;

impl<T: Record + Sample> Sample for List<T> {
    fn sample(random: &mut Random) -> Self {
        (0..random.below(4)).map(|_| T::sample(random)).collect()
    }
}

/// Lists of all sorts.
#[derive(Debug, Clone, PartialEq, Record)]
struct Listed {
    numbers: List<u16>,
    day: Option<Date>,
    texts: List<String>,
    pairs: List<(u8, Option<String>)>,
    maybe: Option<List<i64>>,
    lists: List<List<u8>>,
}

impl Sample for Listed {
    fn sample(random: &mut Random) -> Self {
        Listed {
            numbers: List::sample(random),
            day: Option::sample(random),
            texts: List::sample(random),
            pairs: List::sample(random),
            maybe: Option::sample(random),
            lists: List::sample(random),
        }
    }
}

/// Members that leave holes, and a few that may be null.
#[derive(Debug, Clone, PartialEq, Record)]
struct Uneven {
    small: u8,
    wide: u64,
    flag: bool,
    maybe: Option<(u16, String)>,
    amount: Option<Decimal>,
    bytes: [u8; 3],
    at: Timestamp,
    level: f32,
}

impl Sample for Uneven {
    fn sample(random: &mut Random) -> Self {
        Uneven {
            small: u8::sample(random),
            wide: u64::sample(random),
            flag: bool::sample(random),
            maybe: Option::sample(random),
            amount: Option::sample(random),
            bytes: Sample::sample(random),
            at: Timestamp::sample(random),
            level: f32::sample(random),
        }
    }
}

fn normalized<T: Record>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    T::encode_normalized(record.view(), &mut bytes);
    bytes
}

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

/// Runs a job on rows, as many segments as it takes at least and a few more; what it collects, and whether rows left memory.
fn run<T: Record>(
    what: &str,
    make: impl FnOnce(&Environment) -> forebay::sink::Collected<T>,
) -> (Vec<T>, bool) {
    let plan = Plan::with_segments_for(44, 512, SEGMENT, 2 * SEGMENT).expect("the test's sizes make a plan");
    let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
    let environment = Environment::new(runtime.clone()).with_parallelism(1);
    let found = make(&environment);
    let summary = environment.execute("shapes");
    let summary = summary.unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(environment);
    assert_eq!(runtime.manager().outstanding(), 0, "{what}");
    assert_eq!(runtime.spill().used_bytes(), 0, "{what}");
    (found.take(), summary.spilled_bytes_written() > 0)
}

/// All that is done with records of a type; how many of the jobs had rows leave.
fn check<R: Record + Sample + Clone>(seed: u64) -> usize {
    let name = format!("{}, seed {seed}", std::any::type_name::<R>());
    // About 200 KiB.
    let size = 16
        + rows::<R>(seed, 50)
            .iter()
            .map(|row| normalized(row).len())
            .sum::<usize>()
            / 50;
    let rows = rows::<R>(seed, (200_000 / size).clamp(300, 6000) as u64);
    let mut spilled = 0;
    let mut same =
        |what: &str, (mut found, has_spilled): (Vec<Vec<u8>>, bool), mut expected: Vec<Vec<u8>>| {
            found.sort();
            expected.sort();
            assert!(found == expected, "{name}: {what}");
            spilled += usize::from(has_spilled);
        };
    for descending in [false, true] {
        let field = first::<(R, u64)>();
        let order = if descending {
            field.descending()
        } else {
            field.ascending()
        };
        // Nulls come first in either direction.
        let fields = (order, second::<(R, u64)>().ascending());
        let sorted = run(&name, |environment| {
            let rows = environment.source("rows", from_items(rows.clone()));
            rows.sort_by(fields).collect()
        });
        let key = |row: &(R, u64)| {
            let mut bytes = Vec::new();
            fields.encode_normalized(row.view(), &mut bytes);
            bytes
        };
        assert!(
            sorted.0.is_sorted_by_key(key),
            "{name}: sorted, descending: {descending}"
        );
        let found = sorted.0.iter().map(normalized).collect();
        same("sorted", (found, sorted.1), rows.iter().map(normalized).collect());
    }

    let mut groups: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    for (key, number) in &rows {
        let group = groups.entry(normalized(key)).or_default();
        *group = (group.0 + 1, group.1 + number);
    }
    let grouped = run(&name, |environment| {
        let rows = environment.source("rows", from_items(rows.clone()));
        rows.key_by(first::<(R, u64)>())
            .aggregate((count(), sum(second())))
            .collect()
    });
    let told = |(key, totals): (Vec<u8>, (u64, u64))| [key, normalized(&totals)].concat();
    let found = grouped
        .0
        .iter()
        .map(|(key, totals)| told((normalized(key), *totals)));
    same(
        "groups",
        (found.collect(), grouped.1),
        groups.clone().into_iter().map(told).collect(),
    );

    let distinct = run(&name, |environment| {
        let rows = environment.source("rows", from_items(rows.clone()));
        rows.key_by(first::<(R, u64)>()).distinct().collect()
    });
    let found = distinct.0.iter().map(normalized).collect();
    same("distinct", (found, distinct.1), groups.into_keys().collect());

    // A third of the rows with the others: those whose keys are null match none.
    let (left, right) = rows.split_at(rows.len() / 3);
    let mut by_key: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
    for (key, number) in left {
        if !R::is_null(key.view()) {
            by_key.entry(normalized(key)).or_default().push(*number);
        }
    }
    let mut pairs = Vec::new();
    // What few keys have is enough.
    let right: Vec<(R, u64)> = right.iter().take(600).cloned().collect();
    let left: Vec<(R, u64)> = left.iter().take(1500).cloned().collect();
    by_key
        .values_mut()
        .for_each(|numbers| numbers.retain(|number| *number < 1500));
    for (key, number) in &right {
        let numbers = by_key.get(&normalized(key)).into_iter().flatten();
        pairs.extend(numbers.map(|left| normalized(&(*left, *number))));
    }
    let joined = run(&name, |environment| {
        let left = environment.source("left", from_items(left));
        let right = environment.source("right", from_items(right));
        left.join(right)
            .on(first(), first())
            .inner(|left, right| (left.1, right.1))
            .collect()
    });
    same(
        "joined",
        (joined.0.iter().map(normalized).collect(), joined.1),
        pairs,
    );
    spilled
}

#[test]
fn records_of_many_forms_through_every_operator() {
    let mut spilled = 0;
    let mut jobs = 0;
    macro_rules! check_all {
        ($($type:ty),*) => {{ $(spilled += check::<$type>(3); jobs += 5;)* }};
    }
    check_all!(
        Listed,
        Uneven,
        Nested,
        Reading,
        Couple,
        List<Option<String>>,
        Option<Shape>,
        Vec<u8>,
        Decimal
    );
    assert!(spilled > jobs / 3, "{spilled} of {jobs} jobs spilled");
}

/// What a Parquet file has a column for comes back as it was; the rest is refused when the job is planned.
#[cfg(feature = "parquet")]
#[test]
fn records_of_many_forms_in_parquet_files() {
    use files_support::Scratch;
    use forebay::sink::ParquetSink;
    use forebay::source::parquet;
    use record_samples::Bid;

    fn check<R: Record + Sample + Clone>(stored: &mut BTreeSet<&'static str>) {
        let name = std::any::type_name::<R>();
        let scratch = Scratch::new("shapes");
        let path = scratch.path("rows.parquet");
        let rows = rows::<R>(5, 700);
        let plan = || {
            let plan = Plan::with_segments_for(44, 512, SEGMENT, 2 * SEGMENT);
            Environment::new(Runtime::new(plan.expect("a plan")).expect("its memory")).with_parallelism(1)
        };
        let environment = plan();
        environment
            .source("rows", from_items(rows.clone()))
            .sink("file", ParquetSink::file(&path).row_group_rows(150));
        if let Err(error) = environment.execute("write") {
            assert_eq!(error.kind(), forebay::ErrorKind::Config, "{name}: {error}");
            return;
        }
        let environment = plan();
        let found = environment
            .source("file", parquet::<(R, u64)>(&*path).split_size(1))
            .collect();
        if let Err(error) = environment.execute("read") {
            panic!("{name}: {error}");
        }
        let found = found.take();
        assert_eq!(found.len(), rows.len(), "{name}");
        for (found, row) in found.iter().zip(&rows) {
            assert!(normalized(found) == normalized(row), "{name}: row {}", row.1);
        }
        stored.insert(name);
    }
    let mut stored = BTreeSet::new();
    macro_rules! check_all {
        ($($type:ty),* $(,)?) => {{ $(check::<$type>(&mut stored);)* }};
    }
    check_all!(
        Listed,
        Uneven,
        Nested,
        Reading,
        Couple,
        List<Option<String>>,
        Option<Shape>,
        Vec<u8>,
        Decimal,
        Option<String>,
        Bid,
        u128
    );
    assert!(stored.len() > 6, "{} types are stored: {stored:?}", stored.len());
}
