//! Parquet sources and sinks: what is written is what is read; files of other implementations; only what is wanted is read; and every
//! error.

mod files_support;
mod record_samples;

use files_support::{Between, Scratch, environment, names, read};
use forebay::ErrorKind;
use forebay::record::{Date, Decimal, List, Record, Timestamp, itself};
use forebay::sink::{FileSink, ParquetCodec, ParquetSink};
use forebay::source::{ParquetSource, RowsBytes, Source, from_items, generate, parquet};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData};
use record_samples::{Bid, Couple, Random, Sale, Sample};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A record of everything that has a column.
#[derive(Debug, Clone, PartialEq, Record)]
struct Mixed {
    number: u32,
    small: (u8, i8, u16, i16),
    wide: (u128, Option<i128>),
    flag: Option<bool>,
    weight: f32,
    day: Option<Date>,
    amount: Decimal,
    bid: Bid,
    maybe_bid: Option<Bid>,
    maybe_sale: Option<Sale>,
    codes: [[u8; 3]; 2],
    maybe: [Option<String>; 3],
    list: Option<List<Option<u32>>>,
    deep: List<(u8, List<String>, Vec<u8>)>,
    couple: Couple,
}

impl<T: Record + Sample> Sample for List<T> {
    fn sample(random: &mut Random) -> Self {
        let length = random.one_of(&[0, 0, 1, 2, 5]);
        (0..length).map(|_| T::sample(random)).collect()
    }
}

impl Sample for Mixed {
    fn sample(random: &mut Random) -> Self {
        Mixed {
            number: 0,
            small: Sample::sample(random),
            wide: Sample::sample(random),
            flag: Sample::sample(random),
            weight: random.below(5) as f32,
            day: Sample::sample(random),
            amount: Decimal::new(random.below(10_000) as i128 - 5000, 2),
            bid: Sample::sample(random),
            maybe_bid: Sample::sample(random),
            maybe_sale: Option::<Sale>::sample(random).map(|sale| Sale { weight: -0.5, ..sale }),
            codes: Sample::sample(random),
            maybe: Sample::sample(random),
            list: Sample::sample(random),
            deep: Sample::sample(random),
            couple: Sample::sample(random),
        }
    }
}

fn mixed(seed: u64, count: u32) -> Vec<Mixed> {
    let mut random = Random(seed);
    (0..count)
        .map(|number| Mixed {
            number,
            ..Mixed::sample(&mut random)
        })
        .collect()
}

/// Writes records with a sink, at some parallelism.
fn write<R: Record + Clone>(records: &[R], sink: ParquetSink<R>, parallelism: usize) -> forebay::Result<()> {
    let environment = environment(parallelism);
    environment
        .source("records", from_items(records.to_vec()))
        .rebalance()
        .sink("parquet", sink);
    let result = environment.execute("write");
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    result.map(|_| ())
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/parquet_files")
        .join(name)
}

#[test]
fn what_is_written_is_read_back_whatever_its_codec_groups_and_parallelism() {
    let codecs = [
        ParquetCodec::None,
        ParquetCodec::Snappy,
        ParquetCodec::Lz4,
        ParquetCodec::Gzip,
        #[cfg(feature = "parquet-zstd")]
        ParquetCodec::Zstd,
    ];
    for (seed, count, group_rows) in [(1, 0, 10), (2, 1, 1), (3, 700, 64), (4, 700, 100_000)] {
        let records = mixed(seed, count);
        for (index, codec) in codecs.into_iter().enumerate() {
            let scratch = Scratch::new("parquet");
            let parallelism = 1 + index % 3;
            let sink = FileSink::parquet(scratch.path("out")).decimal_scale(2);
            write(
                &records,
                sink.codec(codec).row_group_rows(group_rows),
                parallelism,
            )
            .expect("the job runs");
            let written = names(&scratch.path("out"));
            assert!(
                written
                    .iter()
                    .all(|name| name.starts_with("part-") && name.ends_with(".parquet")),
                "{written:?}"
            );
            if records.is_empty() {
                assert!(written.is_empty());
                continue;
            }
            for (readers, split_size) in [(1, 1), (3, 1), (2, 1 << 20)] {
                // A directory stands for its files.
                let source = parquet::<Mixed>(scratch.path("out")).split_size(split_size);
                assert_eq!(source.records().expect("the footers say"), u64::from(count));
                let mut found = read(source, readers).expect("the job runs");
                found.sort_by_key(|record| record.number);
                assert!(found == records, "seed {seed}, {codec:?}, {readers} readers");
            }
        }
    }
}

/// Rows without a variable part are made in place.
#[test]
fn records_of_fixed_size_are_read_back() {
    type Fixed = (u64, Option<u16>, Option<bool>, [u8; 3], (bool, Option<i128>), u8);
    let scratch = Scratch::new("parquet");
    let mut random = Random(9);
    let records: Vec<Fixed> = (0..3000)
        .map(|number| {
            let mut row = Fixed::sample(&mut random);
            row.0 = number;
            row
        })
        .collect();
    // One with a column that is not copied whole, and one without.
    let plain: Vec<(u64, Option<u16>, Option<bool>, [u8; 3])> =
        records.iter().map(|row| (row.0, row.1, row.2, row.3)).collect();
    write(
        &records,
        ParquetSink::file(scratch.path("all.parquet")).row_group_rows(700),
        1,
    )
    .expect("the job runs");
    write(
        &plain,
        ParquetSink::file(scratch.path("plain.parquet")).row_group_rows(700),
        1,
    )
    .expect("the job runs");
    for readers in [1, 3] {
        let mut found = read(
            parquet::<Fixed>(scratch.path("all.parquet")).split_size(1),
            readers,
        )
        .expect("the job runs");
        found.sort_by_key(|row| row.0);
        assert!(found == records);
        let source = parquet::<(u64, Option<u16>, Option<bool>, [u8; 3])>(scratch.path("plain.parquet"));
        let mut found = read(source.split_size(1), readers).expect("the job runs");
        found.sort_by_key(|row| row.0);
        assert!(found == plain);
    }
}

#[test]
fn one_file_is_in_the_order_of_its_stream_and_may_be_empty() {
    for count in [0, 1, 5000] {
        let scratch = Scratch::new("parquet");
        let path = scratch.path("one.parquet");
        let records: Vec<(u64, String)> = (0..count).map(|n| (n, format!("record {n}"))).collect();
        write(&records, ParquetSink::file(&path).row_group_rows(1000).sync(), 1).expect("the job runs");
        assert_eq!(scratch.names("."), ["one.parquet"]);
        let source = parquet::<(u64, String)>(&*path).split_size(1);
        let counts = source.counts();
        assert_eq!(read(source, 1).expect("the job runs"), records);
        assert_eq!(counts.row_groups_read(), count.div_ceil(1000));
    }
}

#[derive(Debug, Clone, Copy, Record)]
struct Keyed {
    key: u64,
    value: i64,
}

#[derive(Record)]
struct KeyAlone {
    key: u64,
}

/// What a source says of its size is what the footers say, and asking leaves no trace.
#[test]
fn footers_say_how_much_there_is() {
    let scratch = Scratch::new("parquet");
    let events: Vec<Keyed> = (0..100).map(|key| Keyed { key, value: 1 }).collect();
    fs::create_dir_all(scratch.path("events")).expect("the scratch directory is writable");
    for number in 0..20 {
        let sink = ParquetSink::file(scratch.path(&format!("events/{number}.parquet"))).row_group_rows(50);
        write(&events, sink, 1).expect("the job runs");
    }
    let one = scratch.path("events/7.parquet");
    let source = parquet::<Keyed>(&*one);
    assert_eq!(source.rows_bytes(), RowsBytes::exactly(1600));
    assert_eq!(source.counts().bytes_read(), 0);
    assert_eq!(parquet::<KeyAlone>(&*one).rows_bytes(), RowsBytes::exactly(800));
    // Row groups that are not wanted have no rows; those of the others may not be wanted.
    for (below, expected) in [(20, 800), (50, 800), (51, 1600)] {
        let some = parquet::<Keyed>(&*one).only(Keyed::key.lt(below));
        assert_eq!(some.rows_bytes(), RowsBytes::at_most(expected), "{below}");
    }
    // Not all footers of many files are read.
    let said = parquet::<Keyed>(scratch.path("events")).rows_bytes();
    assert_eq!(said.least(), RowsBytes::about(20 * 1600).least());
    let most = said.most().expect("footers bound it");
    assert!((4 * 20 * 1600..20 * 20 * 1600).contains(&most), "{said}");
    let texts: Vec<(u64, String)> = (0..3000).map(|n| (n, format!("record {n}"))).collect();
    write(&texts, ParquetSink::file(scratch.path("texts.parquet")), 1).expect("the job runs");
    let said = parquet::<(u64, String)>(scratch.path("texts.parquet")).rows_bytes();
    let sizes = texts
        .iter()
        .map(|text| <(u64, String)>::row_size(text.view()) as u64);
    let bytes: u64 = sizes.sum();
    assert!(
        said.least() <= bytes && said.most().is_some_and(|most| bytes <= most),
        "{said} of {bytes} B"
    );
    assert!(said.least() > 0);

    // What cannot be read says nothing, and fails the job as it does without a join.
    let whole = fs::read(&one).expect("it was written");
    let cut = scratch.write("cut.parquet", &whole[..whole.len() - 9]);
    for path in [
        cut,
        scratch.path("none.parquet"),
        file("pyarrow_brotli.parquet"),
        scratch.path("texts.parquet"),
    ] {
        assert_eq!(
            parquet::<Keyed>(&*path).rows_bytes(),
            RowsBytes::UNKNOWN,
            "{path:?}"
        );
        let fail = |joins: bool| {
            let environment = environment(2);
            let events = environment.source("events", parquet::<Keyed>(&*path));
            match joins {
                false => drop(events.blackhole()),
                true => {
                    let numbers = environment.source("numbers", generate(10, |n| n));
                    numbers.join(events).on(itself(), Keyed::key).semi().blackhole();
                }
            }
            let error = environment
                .execute("read")
                .expect_err("there is nothing to be read");
            (error.kind(), error.to_string())
        };
        assert_eq!(fail(true), fail(false));
    }
}

/// What `parquet_files/make.py` writes.
#[derive(Debug, Clone, PartialEq, Record)]
struct Made {
    tiny: i8,
    wide: u64,
    flag: Option<bool>,
    level: Option<f64>,
    word: Option<String>,
    day: Date,
    price: Decimal,
    list: Option<List<i32>>,
    pair: Option<(i64, Option<String>)>,
}

/// The same, with the struct's fields by their names, and what one of the writers does not have.
#[derive(Debug, Clone, PartialEq, Record)]
struct MadePair {
    right: Option<String>,
    left: i64,
}

#[derive(Debug, Clone, PartialEq, Record)]
struct Named {
    pair: Option<MadePair>,
    word: Option<String>,
    tiny: i64,
    level: Option<f64>,
    day: Date,
    price: Decimal,
    list: Option<List<Option<i64>>>,
    wide: u64,
    flag: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Record)]
struct Rest {
    blob: Vec<u8>,
    code: [u8; 3],
    at: Option<Timestamp>,
    nothing: Option<i64>,
}

fn some<T>(n: i32, value: T) -> Option<T> {
    (n % 7 != 3).then_some(value)
}

fn named(n: i32) -> Named {
    Named {
        pair: some(
            n,
            MadePair {
                right: some(n + 1, n.to_string()),
                left: n.into(),
            },
        ),
        word: some(n, format!("word {}", n % 10)),
        tiny: i64::from(n % 256 - 128),
        level: some(n, f64::from(n) / 8.0),
        day: Date::from_days(n - 500),
        price: Decimal::new(i128::from(n - 500), 2),
        list: some(n, (0..n % 4).map(|element| Some(element.into())).collect()),
        wide: u64::MAX - n as u64,
        flag: some(n, n % 2 == 0),
    }
}

#[test]
fn files_of_other_implementations_are_read() {
    let expected: Vec<Named> = (0..300).map(named).collect();
    for name in ["pyarrow.parquet", "duckdb.parquet"] {
        let found = read(parquet::<Named>(file(name)), 1).expect("the job runs");
        assert_eq!(found, expected, "{name}");
    }
    let rest = read(parquet::<Rest>(file("pyarrow.parquet")), 1).expect("the job runs");
    for (n, found) in rest.into_iter().enumerate() {
        let expected = Rest {
            blob: vec![n as u8; n % 5],
            code: [0, (n >> 8) as u8, n as u8],
            at: some(n as i32, Timestamp::from_millis(n as i64 * 86_400_123)),
            nothing: None,
        };
        assert_eq!(found, expected, "row {n}");
    }
    type Few = (i8, Option<String>);
    #[derive(Debug, Clone, PartialEq, Record)]
    struct Old {
        tiny: i8,
        word: Option<String>,
        at: Option<Timestamp>,
    }
    let old = read(parquet::<Old>(file("pyarrow_old.parquet")), 1).expect("the job runs");
    let few = |n: i32| -> Few { (named(n).tiny as i8, named(n).word) };
    assert_eq!(old.len(), 100);
    for (n, found) in (0..).zip(old) {
        assert_eq!((found.tiny, found.word), few(n));
        assert_eq!(
            found.at,
            some(n, Timestamp::from_millis(i64::from(n) * 86_400_123))
        );
    }
    #[derive(Debug, Clone, PartialEq, Record)]
    struct Words {
        tiny: i8,
        word: Option<String>,
    }
    let words = read(parquet::<Words>(file("polars.parquet")), 1).expect("the job runs");
    let words: Vec<Few> = words.into_iter().map(|found| (found.tiny, found.word)).collect();
    assert_eq!(words, (0..100).map(few).collect::<Vec<_>>());
    assert_eq!(
        read(parquet::<Words>(file("pyarrow_empty.parquet")), 2).expect("the job runs"),
        []
    );
    for (name, codec, remedy) in [
        (
            "polars_zstd.parquet",
            "ZSTD",
            "build with the feature parquet-zstd",
        ),
        ("pyarrow_brotli.parquet", "BROTLI", "write it with snappy"),
    ] {
        let result = read(parquet::<Words>(file(name)), 1);
        if cfg!(feature = "parquet-zstd") && codec == "ZSTD" {
            assert_eq!(result.expect("the job runs").len(), 100);
            continue;
        }
        let error = result.expect_err("it cannot be read");
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains(codec) && text.contains(remedy),
            "{text}"
        );
    }
}

/// The message of the error that reading `R` from a file answers, the file's directory left out.
fn refusal<R: Record + std::fmt::Debug>(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let error = read(parquet::<R>(path), 1).expect_err("it cannot be read");
    let directory = path.parent().expect("it is in a directory").display().to_string();
    format!(
        "{:?}: {}",
        error.kind(),
        error.to_string().replace(&directory, "DIR")
    )
}

#[test]
fn what_does_not_suit_is_refused_when_the_job_is_planned() {
    #[derive(Debug, Record)]
    struct Missing {
        tiny: i8,
        height: f64,
    }
    #[derive(Debug, Record)]
    struct Narrow {
        wide: i64,
    }
    #[derive(Debug, Record)]
    struct Required {
        word: String,
    }
    #[derive(Debug, Record)]
    struct Deep {
        pair: Option<(i64,)>,
    }
    let made = file("duckdb.parquet");
    let text = refusal::<Missing>(&made);
    assert!(
        text.starts_with("Config: \"DIR/duckdb.parquet\": there is no column \"height\" of Missing, only \"tiny\", \"wide\"")
            && text.ends_with("rename the field, or leave it out"),
        "{text}"
    );
    assert_eq!(
        refusal::<Narrow>(&made),
        "Config: \"DIR/duckdb.parquet\": column \"wide\" does not suit Narrow: it is of type u64, and the field of type i64; change the \
         field's type, or leave it out"
    );
    assert_eq!(
        refusal::<Required>(&made),
        "Config: \"DIR/duckdb.parquet\": column \"word\" has 43 nulls in row group 0 (of 1), but the field of Required is no Option; \
         make it one"
    );
    let text = refusal::<Deep>(&made);
    assert!(text.contains("column \"pair.0\" does not suit Deep: there is no such column in record {left: i64, right: string}"), "{text}");
    let result = read(parquet::<(u8, forebay::record::List<()>)>(&*made), 1);
    assert!(
        result
            .expect_err("there is no such column")
            .to_string()
            .contains("\"1.element\"")
    );
    // Columns that need not be there.
    #[derive(Debug, PartialEq, Record)]
    struct Maybe {
        height: Option<f64>,
        tiny: i8,
        name: Option<String>,
    }
    assert!(refusal::<Maybe>(&made).contains("no column \"height\""));
    let found = read(parquet::<Maybe>(made).missing_columns_are_null(), 1).expect("the job runs");
    assert_eq!(
        found[299],
        Maybe {
            height: None,
            tiny: (299 % 256 - 128) as i8,
            name: None
        }
    );
}

#[test]
fn nulls_that_nothing_tells_of_are_found_where_they_are() {
    // A list's nulls are in no statistics of their own.
    let scratch = Scratch::new("parquet");
    let path = scratch.path("lists.parquet");
    let records: Vec<(List<Option<u32>>, u8)> = (0..100)
        .map(|n| {
            (
                (0..3)
                    .map(|element| (n != 70 || element != 1).then_some(element))
                    .collect(),
                n as u8,
            )
        })
        .collect();
    write(&records, ParquetSink::file(&path).row_group_rows(30), 1).expect("the job runs");
    assert_eq!(
        refusal::<(List<u32>, u8)>(&path),
        "Corrupt: \"DIR/lists.parquet\", row group 2, row 10, column \"0.element\": null, but the field is no Option; \
         make it Option<u32>"
    );
    assert_eq!(
        read(parquet::<(List<Option<u32>>, u8)>(path), 1).expect("the job runs"),
        records
    );
}

#[test]
fn only_the_columns_of_the_record_are_read() {
    #[derive(Debug, Clone, Record)]
    struct Wide {
        key: u64,
        text: String,
        inner: (u64, String),
    }
    #[derive(Debug, PartialEq, Record)]
    struct Key {
        key: u64,
    }
    #[derive(Debug, PartialEq, Record)]
    struct Inner {
        inner: InnerKey,
    }
    #[derive(Debug, PartialEq, Record)]
    struct InnerKey(u64);
    let scratch = Scratch::new("parquet");
    let path = scratch.path("wide.parquet");
    let mut random = Random(1);
    let mut text = || {
        (0..100)
            .map(|_| random.one_of(&['a', 'b', 'c', 'd']))
            .collect::<String>()
    };
    let records: Vec<Wide> = (0..2000)
        .map(|key| Wide {
            key,
            text: text(),
            inner: (key, text()),
        })
        .collect();
    write(
        &records,
        ParquetSink::file(&path)
            .codec(ParquetCodec::None)
            .row_group_rows(500),
        1,
    )
    .expect("the job runs");
    let size = fs::metadata(&path).expect("it is there").len();
    assert!(size > 400_000, "{size}");
    fn bytes<R: Record>(source: ParquetSource<R>) -> (u64, Vec<R>) {
        let counts = source.counts();
        let found = read(source, 2).expect("the job runs");
        (counts.bytes_read(), found)
    }
    let (read_bytes, mut keys) = bytes(parquet::<Key>(&*path).split_size(1));
    keys.sort_by_key(|record| record.key);
    assert_eq!(keys, (0..2000).map(|key| Key { key }).collect::<Vec<_>>());
    // 16 kB of keys, the footer, and headers of pages.
    assert!((16_000..40_000).contains(&read_bytes), "{read_bytes} of {size}");
    let (read_bytes, inner) = bytes(parquet::<Inner>(&*path).split_size(1));
    assert_eq!(inner.len(), 2000);
    assert!((16_000..40_000).contains(&read_bytes), "{read_bytes} of {size}");
    let (read_bytes, all) = bytes(parquet::<Wide>(&*path).split_size(1));
    assert_eq!(all.len(), 2000);
    assert!(read_bytes > 400_000, "{read_bytes} of {size}");
}

#[derive(Debug, Clone, PartialEq, Record)]
struct Event {
    number: u64,
    level: f64,
    name: String,
    day: Date,
    at: Option<Timestamp>,
    amount: Decimal,
    flag: Option<bool>,
}

/// Row groups of 100 records: their numbers are apart; the levels of every third group are NaN in part.
fn events() -> Vec<Event> {
    (0..1000_u64)
        .map(|number| Event {
            number,
            level: match number % 300 {
                7 => f64::NAN,
                _ => number as f64 / 100.0 - 5.0,
            },
            name: format!("name {:04}", number / 2),
            day: Date::from_days(number as i32 / 10),
            at: (number < 400).then(|| Timestamp::from_millis(number as i64)),
            amount: Decimal::new(i128::from(number) - 500, 2),
            flag: (!(200..300).contains(&number)).then_some(number % 2 == 0),
        })
        .collect()
}

#[test]
fn row_groups_without_wanted_records_are_not_read() {
    let scratch = Scratch::new("parquet");
    let path = scratch.path("events.parquet");
    let events = events();
    let sink = ParquetSink::file(&path).row_group_rows(100).decimal_scale(2);
    write(&events, sink, 1).expect("the job runs");
    let millis = Timestamp::from_millis;
    let cases = [
        (Event::number.ge(850), 2),
        (Event::number.gt(899), 1),
        (Event::number.lt(100), 1),
        (Event::number.le(100), 2),
        (Event::number.eq(555), 1),
        (Event::number.eq(1000), 0),
        (Event::level.ge(4.0), 1),
        (Event::level.lt(-4.5), 1),
        (Event::level.gt(f64::NAN), 0),
        (Event::level.ge(f64::NEG_INFINITY), 10),
        (Event::name.eq("name 0299".into()), 1),
        (Event::name.ge("name 04".into()), 2),
        (Event::day.le(Date::from_days(9)), 1),
        (Event::at.is_null(), 6),
        (Event::at.is_present(), 4),
        (Event::at.ge(Some(millis(350))), 1),
        (Event::at.eq(None), 0),
        (Event::amount.lt("-4.00".parse().expect("a decimal")), 1),
        (Event::flag.eq(Some(true)), 9),
        (Event::flag.is_null().and(Event::number.ge(250)), 1),
        (Event::number.lt(50).or(Event::number.ge(950)), 2),
        (Event::number.lt(50).and(Event::number.ge(950)), 0),
    ];
    for (predicate, groups) in cases {
        let text = format!("{predicate:?}");
        let expected: Vec<u64> = events
            .iter()
            .filter(|event| predicate.holds(event.view()))
            .map(|event| event.number)
            .collect();
        let source = parquet::<Event>(&*path).only(predicate).split_size(1);
        let counts = source.counts();
        let found: Vec<u64> = (read(source, 1).expect("the job runs").iter())
            .map(|event| event.number)
            .collect();
        assert_eq!(found, expected, "{text}");
        assert_eq!(
            (counts.row_groups_read(), counts.row_groups_skipped()),
            (groups, 10 - groups),
            "{text}"
        );
    }
    // Files of others, whose predicates are on columns of other types than the fields'.
    for name in ["pyarrow.parquet", "duckdb.parquet"] {
        let source = parquet::<Named>(file(name)).only(Named::wide.lt(u64::MAX - 290));
        let found = read(source, 1).expect("the job runs");
        assert_eq!(found, (291..300).map(named).collect::<Vec<_>>(), "{name}");
        let source = parquet::<Named>(file(name)).only(Named::tiny.ge(1000));
        let counts = source.counts();
        assert_eq!(read(source, 1).expect("the job runs"), []);
        assert_eq!(counts.row_groups_read(), 0);
    }
    // Two calls of it are both.
    let source = parquet::<Event>(path)
        .only(Event::number.ge(10))
        .only(Event::number.lt(12));
    assert_eq!(read(source, 2).expect("the job runs").len(), 2);
}

#[test]
fn a_predicate_that_nothing_fulfils_ends_in_time() {
    let scratch = Scratch::new("parquet");
    let path = scratch.path("many.parquet");
    let records: Vec<(u64, u64)> = (0..100_000).map(|n| (n % 1000 * 2, n)).collect();
    write(&records, ParquetSink::file(&path), 1).expect("the job runs");
    // Within the bounds, and in no record.
    let source = parquet::<(u64, u64)>(path).only(forebay::record::first().eq(77));
    assert_eq!(read(source, 1).expect("the job runs"), []);
}

#[test]
fn columns_of_nulls_and_of_few_values_are_read() {
    let scratch = Scratch::new("parquet");
    let path = scratch.path("few.parquet");
    type Row = (Option<String>, Option<u64>, String, Option<bool>);
    let records: Vec<Row> = (0..20_000)
        .map(|n| {
            (
                None,
                None,
                ["red", "green", "a colour with a long name"][n / 3 % 3].into(),
                None,
            )
        })
        .collect();
    write(&records, ParquetSink::file(&path), 1).expect("the job runs");
    let size = fs::metadata(&path).expect("it is there").len();
    assert!(size < 20_000, "dictionaries are small: {size}");
    assert_eq!(read(parquet::<Row>(path), 2).expect("the job runs"), records);
}

#[test]
fn damaged_files_are_errors_and_never_a_panic() {
    let scratch = Scratch::new("parquet");
    scratch.write("empty.parquet", b"");
    assert_eq!(
        refusal::<Named>(scratch.path("empty.parquet")),
        "Corrupt: \"DIR/empty.parquet\": 0 B are no Parquet file, which has at least 12 B; it was cut, or holds something else"
    );
    scratch.write(
        "text.parquet",
        "not columns, but a text of some length\n".repeat(3),
    );
    let text = refusal::<Named>(scratch.path("text.parquet"));
    assert!(
        text.starts_with("Corrupt: \"DIR/text.parquet\": ")
            && text.ends_with("the file is damaged, or no Parquet file"),
        "{text}"
    );
    let whole = fs::read(file("pyarrow.parquet")).expect("it is there");
    for cut in (0..whole.len())
        .step_by(173)
        .chain([whole.len() - 1, whole.len() - 8])
    {
        let path = scratch.write("cut.parquet", &whole[..cut]);
        let text = refusal::<Named>(&path);
        assert!(
            text.starts_with("Corrupt: ") && text.contains("DIR/cut.parquet"),
            "{cut}: {text}"
        );
    }
    let mut random = Random(7);
    let (mut refused, mut read_anyway) = (0, 0);
    for name in ["pyarrow.parquet", "duckdb.parquet", "pyarrow_old.parquet"] {
        let whole = fs::read(file(name)).expect("it is there");
        for _ in 0..150 {
            let mut damaged = whole.clone();
            for _ in 0..=random.below(3) {
                // Half of them in the footer.
                let at = match random.below(2) {
                    0 => random.below(damaged.len()),
                    _ => damaged.len() - 1 - random.below(damaged.len().min(2000)),
                };
                damaged[at] ^= 1 << random.below(8);
            }
            let path = scratch.write("damaged.parquet", &damaged);
            let result = match name {
                "pyarrow_old.parquet" => read(parquet::<Old>(path), 1).map(|_| ()),
                _ => read(parquet::<Named>(path), 1).map(|_| ()),
            };
            match result {
                Ok(()) => read_anyway += 1,
                Err(error) => {
                    refused += 1;
                    let text = error.to_string();
                    assert!(
                        text.contains("damaged.parquet") && !text.contains("panic"),
                        "{text}"
                    );
                }
            }
        }
    }
    assert!(refused > 100 && read_anyway > 20, "{refused} {read_anyway}");
}

/// The file `whole` with another footer; in it `-i64::MAX` stands for `i64::MAX`.
fn with_footer(whole: &[u8], change: impl FnOnce(&mut Vec<RowGroupMetaData>)) -> Vec<u8> {
    let bytes = bytes::Bytes::from(whole.to_vec());
    let read = ParquetMetaDataReader::new().parse_and_finish(&bytes);
    let mut footer = read.expect("the file has a footer").into_builder();
    let mut groups = footer.take_row_groups();
    change(&mut groups);
    let length = u32::from_le_bytes(
        whole[whole.len() - 8..whole.len() - 4]
            .try_into()
            .expect("4 bytes"),
    );
    let mut changed = whole[..whole.len() - 8 - length as usize].to_vec();
    ParquetMetaDataWriter::new(&mut changed, &footer.set_row_groups(groups).build())
        .finish()
        .expect("a footer can be written");
    // The library adds up rows as it writes them, and cannot write more than there can be.
    let encoded = |last: u8| [&[last][..], &[0xff; 8], &[1]].concat();
    let (least, most) = (encoded(0xfd), encoded(0xfe));
    while let Some(at) = changed.windows(least.len()).position(|bytes| bytes == least) {
        changed[at..at + most.len()].copy_from_slice(&most);
    }
    changed
}

/// What is not among the footers that were read is not taken for nothing: wanted records, files with more rows than others, and files where
/// others have no rows at all.
#[test]
fn what_no_footer_was_read_of_may_be_there() {
    let scratch = Scratch::new("parquet");
    let make = |directory: &str, number: u64, keys: std::ops::Range<u64>| {
        let directory = scratch.path(directory);
        fs::create_dir_all(&directory).expect("the scratch directory is writable");
        let events: Vec<Keyed> = keys
            .map(|key| Keyed {
                key,
                value: key as i64,
            })
            .collect();
        let name = directory.join(format!("{number:02}.parquet"));
        write(&events, ParquetSink::file(name), 1).expect("the job runs");
    };
    for number in 0..20 {
        make("clustered", number, number * 1000..(number + 1) * 1000);
        make("mostly_empty", number, 0..if number % 2 == 0 { 0 } else { 5000 });
        make("mostly_small", number, 0..if number % 2 == 0 { 1 } else { 5000 });
    }
    // Each second footer is read; a file's rows are those of 1,000 or of 5,000 keys, of 16 B.
    for number in 0..20 {
        let (first, end) = (number * 1000, (number + 1) * 1000);
        let wanted = Keyed::key.ge(first).and(Keyed::key.lt(end));
        let some = parquet::<Keyed>(scratch.path("clustered")).only(wanted.clone());
        let said = some.rows_bytes();
        assert_eq!(said.least(), 0);
        assert!(said.most().is_none_or(|most| most >= 16_000), "{number}: {said}");
        assert!(!some.divides_among(2), "{number}: one file has all of it");
        let file = parquet::<Keyed>(scratch.path(&format!("clustered/{number:02}.parquet")));
        assert_eq!(file.only(wanted).rows_bytes(), RowsBytes::at_most(16_000));
    }
    for directory in ["mostly_empty", "mostly_small"] {
        let source = parquet::<Keyed>(scratch.path(directory));
        let bytes = 16 * source.records().expect("footers are read");
        let said = source.rows_bytes();
        assert!(said.least() <= bytes, "{directory}: {said} of {bytes} B");
        assert!(
            said.most().is_none_or(|most| most >= bytes),
            "{directory}: {said} of {bytes} B"
        );
    }
}

/// What a source says of the bytes of its rows is true of them, and what is stored once for many rows is no measure.
fn check_bounds<R: Record + Clone>(records: &[R], what: &str, is_bounded: bool) {
    let scratch = Scratch::new("parquet");
    let written = scratch.path("written.parquet");
    let sink = ParquetSink::file(&written).row_group_rows(1000);
    let has_decimals = what == "everything";
    let sink = if has_decimals { sink.decimal_scale(2) } else { sink };
    write(records, sink, 1).expect("the job runs");
    let silent = scratch.path("silent.parquet");
    let whole = fs::read(&written).expect("it was written");
    let without_sizes = with_footer(&whole, |groups| {
        for column in groups.iter_mut().flat_map(RowGroupMetaData::columns_mut) {
            let builder = column.clone().into_builder();
            let builder = builder.set_unencoded_byte_array_data_bytes(None);
            *column = builder.build().expect("it was one before");
        }
    });
    fs::write(&silent, without_sizes).expect("it can be written");
    let bytes: u64 = (records.iter())
        .map(|record| R::row_size(record.view()) as u64)
        .sum();
    for path in [written, silent] {
        let said = parquet::<R>(&*path).rows_bytes();
        let is_silent = path.ends_with("silent.parquet");
        assert!(said.least() <= bytes, "{what}, {path:?}: {said} of {bytes} B");
        assert!(said.least() > 0, "{what}, {path:?}: {said} of {bytes} B");
        let most = said.most().expect("no footer says that there may be any number");
        assert!(bytes <= most, "{what}, {path:?}: {said} of {bytes} B");
        if is_bounded && !is_silent {
            assert!(most < 20 * bytes, "{what}, {path:?}: {said} of {bytes} B");
        }
    }
}

#[test]
fn what_is_stored_once_counts_for_each_row_that_has_it() {
    let long = "long ".repeat(200);
    let same: Vec<(u64, String)> = (0..3000).map(|n| (n, long.clone())).collect();
    check_bounds(&same, "one text", true);
    let few: Vec<(u64, String)> = (0..3000).map(|n| (n, format!("{}{long}", n % 7))).collect();
    check_bounds(&few, "seven texts", true);
    let short: Vec<(u64, String)> = (0..3000).map(|n| (n, format!("{}", n % 7))).collect();
    check_bounds(&short, "short texts", true);
    let bytes: Vec<(u8, Vec<u8>)> = (0..3000).map(|_| (1, vec![7; 300])).collect();
    check_bounds(&bytes, "bytes", true);
    let lists: Vec<(u8, List<u64>)> = (0..3000).map(|_| (1, (0..100).map(|_| 5).collect())).collect();
    check_bounds(&lists, "lists of one number", true);
    let small: Vec<List<u8>> = (0..300).map(|_| (0..100).map(|_| 5).collect()).collect();
    let small: Vec<(u8, List<u8>)> = small.into_iter().map(|list| (1, list)).collect();
    check_bounds(&small, "lists of one byte", false);
    let texts = |_| (0..50).map(|_| long.clone()).collect();
    let texts: Vec<(u8, List<String>)> = (0..300).map(|n| (n as u8, texts(n))).collect();
    check_bounds(&texts, "lists of one text", true);
    check_bounds(&mixed(3, 2000), "everything", false);
}

#[test]
fn row_groups_say_whether_all_subtasks_have_some_of_them_to_read() {
    let scratch = Scratch::new("parquet");
    let events: Vec<Keyed> = (0..1000).map(|key| Keyed { key, value: 1 }).collect();
    for (name, rows) in [("groups", 250), ("group", 1000)] {
        let sink = ParquetSink::file(scratch.path(name)).row_group_rows(rows);
        write(&events, sink, 1).expect("the job runs");
    }
    let source = |name: &str| parquet::<Keyed>(scratch.path(name));
    // In splits of 4 MiB, or of a row group each, or of a part of one.
    assert!(!source("groups").divides_among(2) && source("groups").divides_among(1));
    let cut = |name: &str| source(name).split_size(1);
    assert!(
        cut("groups").divides_among(2) && cut("groups").divides_among(4) && cut("group").divides_among(8)
    );
    assert!(cut("groups").only(Keyed::key.lt(500)).divides_among(2));
    assert!(
        !cut("groups")
            .split_size(1 << 20)
            .only(Keyed::key.lt(500))
            .divides_among(2)
    );
    assert!(!cut("groups").only(Keyed::key.gt(5000)).divides_among(2));
    // The pages of lists are not divided.
    let lists: Vec<(u64, List<u64>)> = (0..1000).map(|n| (n, [n].into_iter().collect())).collect();
    write(&lists, ParquetSink::file(scratch.path("lists")), 1).expect("the job runs");
    let lists = parquet::<(u64, List<u64>)>(scratch.path("lists")).split_size(1);
    assert!(!lists.divides_among(2));
    // Each file is a split; not all footers of many are read.
    fs::create_dir_all(scratch.path("events")).expect("the scratch directory is writable");
    for number in 0..40 {
        let sink = ParquetSink::file(scratch.path(&format!("events/{number}.parquet")));
        write(&events[..50], sink, 1).expect("the job runs");
    }
    assert!(source("events").divides_among(2) && source("events").divides_among(40));
    assert!(!source("events").divides_among(41) && !source("none").divides_among(1));
    assert_eq!(source("events").counts().bytes_read(), 0);
    for number in 31..40 {
        fs::remove_file(scratch.path(&format!("events/{number}.parquet"))).expect("it was written");
    }
    assert!(source("events").divides_among(31) && !source("events").divides_among(32));
    assert!(source("events").only(Keyed::key.lt(50)).divides_among(31));
}

#[test]
fn sizes_that_overflow_or_cannot_be_are_damage() {
    type Pair = (u64, String);
    let scratch = Scratch::new("parquet");
    let records: Vec<Pair> = (0..300).map(|n| (n, format!("text {n}"))).collect();
    let whole = scratch.path("whole.parquet");
    write(&records, ParquetSink::file(&whole).row_group_rows(100), 1).expect("the job runs");
    let whole = fs::read(whole).expect("it was written");
    let path = scratch.path("changed.parquet");
    let put = |change: &dyn Fn(&mut Vec<RowGroupMetaData>)| {
        fs::write(&path, with_footer(&whole, change)).expect("it can be written");
    };
    put(&|_| {});
    assert_eq!(read(parquet::<Pair>(&*path), 1).expect("the job runs"), records);
    let rows = |groups: &mut [RowGroupMetaData], rows: i64| {
        for group in groups {
            *group = (group.clone().into_builder().set_num_rows(rows).build()).expect("it was one before");
        }
    };
    let bytes = |groups: &mut [RowGroupMetaData], compressed: Option<i64>, plain: Option<i64>| {
        for column in groups.iter_mut().flat_map(RowGroupMetaData::columns_mut) {
            let mut builder = column.clone().into_builder();
            if let Some(size) = compressed {
                builder = builder.set_total_compressed_size(size);
            }
            if let Some(size) = plain {
                builder = builder.set_total_uncompressed_size(size);
            }
            *column = builder.build().expect("it was one before");
        }
    };
    type Change<'a> = &'a dyn Fn(&mut Vec<RowGroupMetaData>);
    let cases: [(Change<'_>, &str); 7] = [
        (
            &|groups| {
                rows(groups, i64::MAX);
                rows(&mut groups[1..2], -i64::MAX);
            },
            "row group 2 (of 3) has 9223372036854775807 rows by the footer",
        ),
        (
            &|groups| rows(&mut groups[..1], -1),
            "row group 0 (of 3) has -1 rows by the footer",
        ),
        (
            &|groups| bytes(groups, None, Some(i64::MAX)),
            "row group 1 (of 3) has 9223372036854775807 bytes of column \"0\" by the footer",
        ),
        (
            &|groups| bytes(groups, Some(1 << 40), None),
            "row group 0 (of 3) has 1099511627776 compressed bytes of column \"0\" by the footer",
        ),
        (
            &|groups| bytes(groups, Some(-5), None),
            "has -5 compressed bytes of column \"0\"",
        ),
        (
            &|groups| bytes(groups, None, Some(i64::MIN)),
            "has -9223372036854775808 bytes of column \"0\"",
        ),
        // More than there are, and no sum of them is too large.
        (&|groups| rows(groups, 101), "it ends after 100 of 101 rows"),
    ];
    for (change, expected) in cases {
        put(change);
        let text = refusal::<Pair>(&path);
        assert!(
            text.starts_with("Corrupt: \"DIR/changed.parquet\"")
                && text.contains(expected)
                && text.contains("damaged"),
            "{text}"
        );
    }
    // Each file has as many as there may be; all together have not.
    put(&|groups| rows(&mut groups[..1], i64::MAX - 1000));
    for number in 0..3 {
        fs::copy(&path, scratch.path(&format!("of-many-{number}.parquet"))).expect("it can be copied");
    }
    let error = parquet::<Pair>(scratch.pattern("of-many-*.parquet")).records();
    let error = error.expect_err("they cannot be counted");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error
            .to_string()
            .contains("of-many-2.parquet\": 9223372036854775007 records"),
        "{error}"
    );
}

#[derive(Debug, Clone, PartialEq, Record)]
struct Old {
    tiny: i8,
    word: Option<String>,
    at: Option<Timestamp>,
}

#[test]
fn files_that_vanish_or_are_cut_are_errors_or_passed_over() {
    let scratch = Scratch::new("parquet");
    for number in 0..12 {
        let records: Vec<(u64,)> = (0..10).map(|n| (number * 10 + n,)).collect();
        write(
            &records,
            ParquetSink::file(scratch.path(&format!("{number:02}.parquet"))),
            1,
        )
        .expect("the job runs");
    }
    let source = || parquet::<(u64,)>(scratch.pattern("*.parquet")).split_size(1);
    assert_eq!(read(source(), 2).expect("the job runs").len(), 120);
    // More files than are kept open: the first is opened again.
    let path = scratch.path("00.parquet");
    let (kept, vanish) = (fs::read(&path).expect("it is there"), path.clone());
    let remove = || {
        Between(source(), {
            let vanish = vanish.clone();
            move || fs::remove_file(&vanish).expect("it is there")
        })
    };
    let error = read(remove(), 1).expect_err("a file has vanished");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("00.parquet"), "{error}");
    fs::write(&path, &kept).expect("it can be written");
    let Between(inner, between) = remove();
    let found = read(Between(inner.skip_unreadable(), between), 1).expect("it is passed over");
    assert_eq!(found.len(), 110);
    fs::write(&path, &kept).expect("it can be written");
    let (cut, rest) = (path.clone(), kept[..kept.len() - 1].to_vec());
    let error = read(
        Between(source(), move || {
            fs::write(&cut, &rest).expect("it can be written")
        }),
        1,
    )
    .expect_err("it was cut");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.to_string().contains("it was cut while the job read it"),
        "{error}"
    );
    let error = read(parquet::<(u64,)>(scratch.pattern("none*.parquet")), 1).expect_err("nothing matches");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn files_that_are_replaced_while_they_are_read_are_errors() {
    let scratch = Scratch::new("parquet-replaced");
    let put = move |path: &Path, rows: u64, of_group: usize| {
        let rows: Vec<(u64,)> = (0..rows).map(|row| (row * 0x9e37_79b9,)).collect();
        let sink = ParquetSink::file(path).row_group_rows(of_group).overwrite();
        write(&rows, sink, 1).expect("the file is written");
    };
    let paths: Vec<PathBuf> = (10..22)
        .map(|number| scratch.path(&format!("{number}.parquet")))
        .collect();
    for (least, expected) in [
        (0, "row group 0 has 5000 rows, and had 100"),
        (100 * 0x9e37_79b9, "row group 1 is gone, there are 1"),
    ] {
        paths.iter().for_each(|path| put(path, 300, 100));
        let environment = environment(1);
        let wanted = forebay::record::first::<(u64,)>().ge(least);
        let source = parquet::<(u64,)>(scratch.pattern("*.parquet"));
        let source = source.split_size(1).only(wanted);
        let (is_first, others) = (AtomicBool::new(true), paths[1..].to_vec());
        let (is_first, others) = (Arc::new(is_first), Arc::new(others));
        let numbers = environment.source("numbers", source).inspect(move |_| {
            if is_first.swap(false, Ordering::Relaxed) {
                others.iter().for_each(|path| put(path, 5000, 10_000));
            }
        });
        let _ = numbers.collect();
        let error = environment.execute("replaced").expect_err("the files are others");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn files_appear_whole_or_not_at_all() {
    let scratch = Scratch::new("parquet");
    let records = |digits: u8| -> Vec<(u64, Decimal)> {
        (0..3000)
            .map(|n| (n, Decimal::new(n.into(), if n == 2501 { digits } else { 2 })))
            .collect()
    };
    let sink = || {
        FileSink::parquet(scratch.path("out"))
            .decimal_scale(2)
            .row_group_rows(100)
    };
    let error = write(&records(3), sink(), 2).expect_err("a decimal has too many digits");
    assert_eq!(error.kind(), ErrorKind::User);
    let text = error.to_string();
    assert!(
        text.contains("operator \"parquet\"") && text.contains("field \"1\": 2.501 has no place"),
        "{text}"
    );
    assert!(!scratch.path("out").exists(), "{:?}", scratch.names("out"));
    write(&records(2), sink(), 2).expect("the job runs");
    let before = scratch.names("out");
    assert_eq!(before.len(), 2);
    let error = write(&records(2), sink(), 1).expect_err("it is not empty");
    assert_eq!(error.kind(), ErrorKind::Config);
    write(&records(3), sink().overwrite(), 2).expect_err("a decimal has too many digits");
    assert_eq!(scratch.names("out"), before);
    write(&records(2)[..10], sink().append(), 1).expect("the job runs");
    assert_eq!(
        read(parquet::<(u64, Decimal)>(scratch.path("out")), 2)
            .expect("the job runs")
            .len(),
        3010
    );
    write(&records(2)[..10], sink().overwrite(), 1).expect("the job runs");
    assert_eq!(
        read(parquet::<(u64, Decimal)>(scratch.path("out")), 2)
            .expect("the job runs")
            .len(),
        10
    );
    // One file.
    let path = scratch.path("one.parquet");
    let one = || ParquetSink::file(&path).decimal_scale(2);
    let error = write(&records(2), one(), 2).expect_err("in which order?");
    assert!(
        error
            .to_string()
            .contains("cannot be written by 2 subtasks: the row groups of several"),
        "{error}"
    );
    write(&records(3), one(), 1).expect_err("a decimal has too many digits");
    assert_eq!(scratch.names("."), ["out"]);
    write(&records(2), one(), 1).expect("the job runs");
    let error = write(&records(2), one(), 1).expect_err("it is there");
    assert!(error.to_string().contains("exists; name another file"), "{error}");
    write(&records(2)[..1], one().overwrite(), 1).expect("the job runs");
    assert_eq!(
        read(parquet::<(u64, Decimal)>(path), 1)
            .expect("the job runs")
            .len(),
        1
    );
}

#[test]
fn records_larger_than_a_segment_are_written_and_read() {
    let scratch = Scratch::new("parquet");
    let size = |n: u64| [0, 1, 3000, 9000, 100_000][n as usize % 5];
    let environment = environment(2);
    environment
        .source("large", generate(200, move |n| (n, "x".repeat(size(n)))))
        .sink("parquet", FileSink::parquet(scratch.path("out")));
    environment.execute("write").expect("the job runs");
    let mut found = read(parquet::<(u64, String)>(scratch.path("out")), 2).expect("the job runs");
    found.sort();
    assert_eq!(found.len(), 200);
    for (n, (number, text)) in found.into_iter().enumerate() {
        assert_eq!((n as u64, size(number)), (number, text.len()));
    }
}
