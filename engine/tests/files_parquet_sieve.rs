//! Parquet files whose predicate's columns are read before the others: the records are those of a plain filter over all rows, and the
//! other columns are read of few rows.

mod files_support;
mod parquet_support;

use files_support::{Random, Scratch, environment, read};
use forebay::ErrorKind;
use forebay::record::{Date, List, Record};
use forebay::source::{ParquetCounts, Predicate, parquet};
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet_support::write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Record)]
struct Visit {
    number: u64,
    /// One of 100, at random.
    kind: i32,
    score: Option<f64>,
    city: Option<String>,
    day: Option<Date>,
    text: String,
    parts: List<u16>,
    pair: (u8, Option<String>),
}

/// Other files' visits have no score.
#[derive(Debug, Clone, PartialEq, Record)]
struct Short {
    number: u64,
    kind: i32,
    text: String,
}

fn visits(random: &mut Random, count: u64) -> Vec<Visit> {
    (0..count)
        .map(|number| Visit {
            number,
            kind: random.below(100) as i32,
            score: match random.below(10) {
                0 => None,
                1 => Some(f64::NAN),
                2 => Some(-0.0),
                _ => Some(random.below(1000) as f64 / 10.0 - 50.0),
            },
            city: (random.below(5) > 0).then(|| format!("city {}", random.below(30))),
            day: (number % 300 >= 100).then(|| Date::from_days(number as i32 / 40)),
            text: "t".repeat(random.below(40)),
            parts: (0..random.below(4)).map(|_| random.below(100) as u16).collect(),
            pair: (number as u8, (random.below(2) == 0).then(|| number.to_string())),
        })
        .collect()
}

/// Writes without any statistics: only the values tell what is wanted.
fn properties(rows_of_a_group: usize) -> parquet::file::properties::WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_data_page_row_count_limit(200)
        .set_write_batch_size(50)
        .set_max_row_group_row_count(Some(rows_of_a_group))
}

/// Reads what a predicate wants, compares it with a filter over all, and answers what was counted.
fn check<R: Record + std::fmt::Debug>(
    path: &Path,
    all: &[R],
    wanted: &Predicate<R>,
    parallelism: usize,
    number: impl Fn(&R) -> u64,
) -> Arc<ParquetCounts> {
    let source = parquet::<R>(path)
        .missing_columns_are_null()
        .split_size(1)
        .only(wanted.clone());
    let counts = source.counts();
    let mut found = read(source, parallelism).unwrap_or_else(|error| panic!("{wanted:?}: {error}"));
    if parallelism > 1 {
        found.sort_by_key(&number);
    }
    let expected: Vec<&R> = all.iter().filter(|record| wanted.holds(record.view())).collect();
    let numbers = |records: &[&R]| records.iter().map(|record| number(record)).collect::<Vec<_>>();
    let found: Vec<&R> = found.iter().collect();
    assert_eq!(
        numbers(&found),
        numbers(&expected),
        "{wanted:?}, {parallelism} readers"
    );
    // NaN is not equal to itself.
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{wanted:?}");
    counts
}

fn predicate(random: &mut Random, depth: usize) -> Predicate<Visit> {
    let kind = random.below(100) as i32;
    let score = Some(random.below(1000) as f64 / 10.0 - 50.0);
    let city = Some(format!("city {}", random.below(30)));
    let day = Some(Date::from_days(random.below(100) as i32));
    match random.below(if depth == 0 { 12 } else { 16 }) {
        0 => Visit::kind.eq(kind),
        1 => Visit::kind.lt(kind / 10),
        2 => Visit::kind.ge(kind),
        3 => Visit::score.gt(score),
        4 => Visit::score.eq(Some(0.0)),
        5 => Visit::score.is_null(),
        6 => Visit::city.eq(city),
        7 => Visit::city.is_present(),
        8 => Visit::day.le(day),
        9 => Visit::day.is_null(),
        10 => Visit::pair.lt((kind as u8, None)),
        11 => Visit::parts.eq(List::default()),
        12 | 13 => predicate(random, depth - 1).or(predicate(random, depth - 1)),
        _ => predicate(random, depth - 1).and(predicate(random, depth - 1)),
    }
}

#[test]
fn what_a_predicates_columns_leave_out_is_what_a_filter_over_all_rows_does() {
    let mut sifted = 0;
    for seed in 1..=25 {
        let mut random = Random(seed);
        let count = [0, 1, 100, 3000][random.below(4)];
        let visits = visits(&mut random, count);
        let properties = properties([70, 900, 10_000][random.below(3)])
            .set_dictionary_enabled(random.below(2) == 0)
            .set_compression([Compression::UNCOMPRESSED, Compression::SNAPPY][random.below(2)])
            .set_writer_version([WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0][random.below(2)]);
        let scratch = Scratch::new("parquet-sieve");
        let path = scratch.path("visits.parquet");
        write(&path, &visits, properties.build());
        for _ in 0..6 {
            let wanted = predicate(&mut random, 2);
            let counts = check(&path, &visits, &wanted, 1 + random.below(3), |visit| visit.number);
            sifted += counts.rows_sifted();
        }
    }
    assert!(sifted > 20_000, "{sifted}");
}

/// The bytes of a file that are read, and rows of which only the predicate's columns were.
fn cost(path: &Path, visits: &[Visit], wanted: Predicate<Visit>) -> (u64, u64) {
    let counts = check(path, visits, &wanted, 1, |visit| visit.number);
    (counts.bytes_read(), counts.rows_sifted())
}

#[test]
fn other_columns_are_read_of_rows_that_are_wanted() {
    let scratch = Scratch::new("parquet-sieve");
    let path = scratch.path("visits.parquet");
    let mut visits = visits(&mut Random(3), 20_000);
    for visit in &mut visits {
        visit.text = format!("{:060}", visit.number);
    }
    let plain = properties(5000)
        .set_dictionary_enabled(false)
        .set_compression(Compression::UNCOMPRESSED);
    write(&path, &visits, plain.build());
    let size = fs::metadata(&path).expect("it is there").len();
    let (nothing, sifted) = cost(&path, &visits, Visit::kind.lt(0));
    assert_eq!(sifted, 20_000);
    // 4 B a row, of about 120 B.
    assert!(nothing < size / 10, "{nothing} of {size}");
    // Rows that are next to each other: pages of other columns are passed over by their headers.
    let (few, sifted) = cost(&path, &visits, Visit::number.ge(7000).and(Visit::number.lt(7300)));
    assert_eq!(sifted, 19_700);
    assert!(few < size / 4, "{few} of {size}");
    // After one batch of a split no more is looked at; here each row group is a split, and a batch.
    let source = parquet::<Visit>(&*path);
    let counts = source.counts();
    assert_eq!(read(source, 1).expect("the job runs").len(), 20_000);
    let whole = counts.bytes_read();
    let (all, sifted) = cost(&path, &visits, Visit::kind.ge(0));
    assert_eq!(sifted, 0);
    assert!(all < whole + whole / 16, "{all} of {whole}");
    // Wanted rows that are far from each other; those near to one are read with it.
    let (_, sifted) = cost(&path, &visits, Visit::kind.eq(7));
    assert!((10_000..20_000).contains(&sifted), "{sifted}");
}

/// Row groups of several batches, of which the first says that most rows are wanted; and many row groups that one reader goes through.
#[test]
fn rows_that_were_not_looked_at_are_read() {
    let scratch = Scratch::new("parquet-sieve");
    let path = scratch.path("visits.parquet");
    let visits = visits(&mut Random(5), 30_000);
    let unwanted = 6000..20_000;
    let wanted = Visit::number
        .lt(unwanted.start)
        .or(Visit::number.ge(unwanted.end));
    write(&path, &visits, properties(30_000).build());
    let (_, sifted) = cost(&path, &visits, wanted.clone());
    assert!(
        (1..4000).contains(&sifted),
        "it has given up after a batch: {sifted}"
    );
    for rows_of_a_group in [700, 9000] {
        write(&path, &visits, properties(rows_of_a_group).build());
        let source = parquet::<Visit>(&*path).split_size(1 << 30).only(wanted.clone());
        let found = read(source, 1).expect("the job runs");
        let numbers: Vec<u64> = found.iter().map(|visit| visit.number).collect();
        let expected = (0..30_000).filter(|number| !unwanted.contains(number));
        assert!(numbers.iter().copied().eq(expected), "{} rows", numbers.len());
    }
}

#[test]
fn a_predicate_of_all_columns_and_of_columns_that_are_missing() {
    let scratch = Scratch::new("parquet-sieve");
    let path = scratch.path("short.parquet");
    let visits = visits(&mut Random(4), 3000);
    let short: Vec<Short> = visits
        .iter()
        .map(|visit| Short {
            number: visit.number,
            kind: visit.kind,
            text: visit.text.clone(),
        })
        .collect();
    write(&path, &short, properties(1000).build());
    // There is nothing that could be read later.
    let every = Short::number
        .lt(2500)
        .and(Short::kind.eq(3))
        .and(Short::text.ge("ttt".into()));
    let counts = check(&path, &short, &every, 1, |short| short.number);
    assert_eq!(counts.rows_sifted(), 0);

    #[derive(Debug, Clone, PartialEq, Record)]
    struct More {
        number: u64,
        kind: i32,
        text: String,
        score: Option<f64>,
    }
    let more: Vec<More> = short
        .iter()
        .map(|short| More {
            number: short.number,
            kind: short.kind,
            text: short.text.clone(),
            score: None,
        })
        .collect();
    for wanted in [
        More::score.is_null().and(More::kind.eq(3)),
        More::score.gt(Some(0.0)).or(More::kind.eq(3)),
        More::score.gt(Some(0.0)).and(More::kind.eq(3)),
        More::score.is_present(),
    ] {
        check(&path, &more, &wanted, 1, |more| more.number);
    }
}

#[test]
fn values_that_do_not_suit_are_named_where_they_may_be_wanted() {
    let scratch = Scratch::new("parquet-sieve");
    let path = scratch.path("nulls.parquet");
    let records: Vec<(u64, Option<i64>, String)> = (0..3000)
        .map(|number| {
            (
                number,
                (number != 2107).then_some(number as i64),
                number.to_string(),
            )
        })
        .collect();
    write(&path, &records, properties(1000).build());
    type Row = (u64, i64, String);
    let second = forebay::record::second::<Row>;
    let error = read(parquet::<Row>(&*path).only(second().lt(5)), 1).expect_err("there is a null");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error.to_string().contains("row group 2, row 107, column \"1\""),
        "{error}"
    );
    // 300 does not fit into a byte, and is no byte that is wanted.
    type Narrow = (u64, Option<i8>, String);
    let narrow = forebay::record::second::<Narrow>;
    let error = read(parquet::<Narrow>(&*path).only(narrow().is_null()), 1).expect_err("it is too large");
    assert!(error.to_string().contains("column \"1\""), "{error}");
}

/// Pages have no checksum that the writer would have to keep: damage is an error, or other values, and never a panic.
#[test]
fn damaged_pages_are_errors_or_other_values_and_never_a_panic() {
    let scratch = Scratch::new("parquet-sieve");
    let path = scratch.path("visits.parquet");
    let visits = visits(&mut Random(6), 2000);
    write(
        &path,
        &visits,
        properties(700).set_compression(Compression::SNAPPY).build(),
    );
    let whole = fs::read(&path).expect("it was written");
    let mut random = Random(7);
    let (mut refused, mut read_anyway) = (0, 0);
    for _ in 0..150 {
        let mut damaged = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(damaged.len());
            damaged[at] ^= 1 << random.below(8);
        }
        fs::write(&path, &damaged).expect("it can be written");
        let wanted = Visit::kind.lt(3).and(Visit::city.is_present());
        match read(parquet::<Visit>(&*path).only(wanted.clone()), 1) {
            Ok(found) => {
                assert!(found.iter().all(|visit| wanted.holds(visit.view())));
                read_anyway += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("visits.parquet"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20 && read_anyway > 20, "{refused} {read_anyway}");
    assert_eq!(environment(1).runtime().manager().outstanding(), 0);
}
