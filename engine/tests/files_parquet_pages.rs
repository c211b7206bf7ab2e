//! Parquet files, page by page: what the page index excludes is not read, row groups are divided among subtasks, and the records are
//! those that reading everything finds.

mod files_support;
mod parquet_support;
mod record_samples;

use files_support::{Scratch, environment, read};
use forebay::ErrorKind;
use forebay::record::{Date, List, Record};
use forebay::source::{Predicate, Source, parquet};
use parquet::basic::Compression;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;
use parquet_support::write;
use record_samples::Random;
use std::fs;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Record)]
struct Event {
    number: u64,
    level: f64,
    name: String,
    day: Option<Date>,
    tags: List<u32>,
    pair: (i32, Option<String>),
}

/// An event without its list: row groups with lists are not divided.
#[derive(Debug, Clone, PartialEq, Record)]
struct Flat {
    number: u64,
    level: f64,
    name: String,
    day: Option<Date>,
    pair: (i32, Option<String>),
}

impl Flat {
    fn of(event: &Event) -> Flat {
        let Event {
            number,
            level,
            name,
            day,
            pair,
            ..
        } = event.clone();
        Flat {
            number,
            level,
            name,
            day,
            pair,
        }
    }
}

/// Numbers ascend; days do, but for nulls, of which some stretches are full; levels and names are of any order.
fn events(random: &mut Random, count: u64) -> Vec<Event> {
    (0..count)
        .map(|number| Event {
            number,
            level: match random.below(20) {
                0 => f64::NAN,
                _ => random.below(1000) as f64 / 10.0 - 50.0,
            },
            name: format!("{:03}{}", random.below(500), "x".repeat(random.below(30))),
            day: (number % 200 >= 50 && random.below(4) > 0).then(|| Date::from_days(number as i32 / 7)),
            tags: (0..random.below(4)).map(|_| random.below(100) as u32).collect(),
            pair: (
                number as i32 - 300,
                (random.below(2) == 0).then(|| number.to_string()),
            ),
        })
        .collect()
}

/// Pages of about `page` bytes, which begin at other rows in each column, or of `rows` rows.
fn small_pages(page: usize, rows: usize) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_data_page_size_limit(page)
        .set_data_page_row_count_limit(rows)
        .set_write_batch_size(7)
}

macro_rules! predicates {
    ($name:ident, $record:ident) => {
        fn $name(random: &mut Random, depth: usize) -> Predicate<$record> {
            let number = random.below(700) as u64;
            let level = random.below(1000) as f64 / 10.0 - 50.0;
            let name = format!("{:03}", random.below(500));
            let day = Some(Date::from_days(random.below(100) as i32));
            match random.below(if depth == 0 { 11 } else { 15 }) {
                0 => $record::number.lt(number),
                1 => $record::number.ge(number),
                2 => $record::number.eq(number),
                3 => $record::level.gt(level.abs()),
                4 => $record::level.le(-level.abs()),
                5 => $record::name.eq(name),
                6 => $record::name.ge(name),
                7 => $record::day.eq(day),
                8 => $record::day.gt(day),
                9 => $record::day.is_null(),
                10 => $record::day.is_present(),
                11 | 12 => $name(random, depth - 1).or($name(random, depth - 1)),
                _ => $name(random, depth - 1).and($name(random, depth - 1)),
            }
        }
    };
}

predicates!(predicate, Event);
predicates!(flat_predicate, Flat);

#[test]
fn what_pages_exclude_is_what_reading_everything_excludes() {
    let (mut skipped, mut divided) = (0, 0);
    for seed in 1..=40 {
        let mut random = Random(seed);
        let count = [0, 1, 200, 700][random.below(4)];
        let events = events(&mut random, count);
        let (page, rows) = (
            [60, 300, 100_000][random.below(3)],
            [10, 64, 5000][random.below(3)],
        );
        let has_index = random.below(3) > 0;
        let mut properties = small_pages(page, rows)
            .set_max_row_group_row_count(Some([100, 10_000][random.below(2)]))
            .set_dictionary_enabled(random.below(2) == 0)
            .set_compression([Compression::UNCOMPRESSED, Compression::SNAPPY][random.below(2)])
            .set_writer_version([WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0][random.below(2)])
            .set_column_data_page_row_count_limit(ColumnPath::from("name"), 33);
        if !has_index {
            properties = properties
                .set_statistics_enabled(EnabledStatistics::Chunk)
                .set_offset_index_disabled(true);
        }
        let scratch = Scratch::new("parquet-pages");
        let path = scratch.path("events.parquet");
        write(&path, &events, properties.build());
        for _ in 0..6 {
            let seed_of_predicate = random.next();
            let wanted = predicate(&mut Random(seed_of_predicate), 2);
            let parallelism = 1 + random.below(4);
            let text = format!("seed {seed}, {parallelism} readers: {wanted:?}");
            let mut source = parquet::<Event>(&*path).split_size([1, 1 << 20][random.below(2)]);
            let mut flat = parquet::<Flat>(&*path).split_size([1, 1 << 20][random.below(2)]);
            let expected: Vec<&Event> = match random.below(4) {
                0 => events.iter().collect(),
                _ => {
                    source = source.only(wanted.clone());
                    flat = flat.only(flat_predicate(&mut Random(seed_of_predicate), 2));
                    events.iter().filter(|event| wanted.holds(event.view())).collect()
                }
            };
            divided += usize::from(flat.clone().splits(parallelism).expect("it is listed").len() > 7);
            let mut found = read(flat, parallelism).unwrap_or_else(|error| panic!("{text}: {error}"));
            if parallelism > 1 {
                found.sort_by_key(|event| event.number);
            }
            let flat: Vec<Flat> = expected.iter().map(|event| Flat::of(event)).collect();
            assert_eq!(format!("{found:?}"), format!("{flat:?}"), "{text}");
            let counts = source.counts();
            let mut found = read(source, parallelism).unwrap_or_else(|error| panic!("{text}: {error}"));
            if parallelism > 1 {
                found.sort_by_key(|event| event.number);
            }
            // NaN is not equal to itself.
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{text}");
            if has_index {
                skipped += counts.rows_skipped();
            } else {
                assert_eq!(counts.rows_skipped(), 0, "{text}");
            }
        }
    }
    assert!(
        skipped > 1000 && divided > 5,
        "{skipped} rows skipped, {divided} divided"
    );
}

#[test]
fn pages_that_are_not_wanted_are_not_read() {
    let scratch = Scratch::new("parquet-pages");
    let path = scratch.path("events.parquet");
    let mut random = Random(5);
    let records: Vec<(u64, String)> = (0..20_000)
        .map(|number| (number, format!("{:020}", random.next())))
        .collect();
    let properties = small_pages(1 << 20, 500)
        .set_dictionary_enabled(false)
        .set_compression(Compression::UNCOMPRESSED);
    write(&path, &records, properties.build());
    let bytes = |predicate: Option<Predicate<(u64, String)>>, expected: &[(u64, String)]| {
        let mut source = parquet::<(u64, String)>(&*path);
        if let Some(predicate) = predicate {
            source = source.only(predicate);
        }
        let counts = source.counts();
        assert_eq!(read(source, 1).expect("the job runs"), expected);
        (counts.bytes_read(), counts.rows_skipped())
    };
    let size = fs::metadata(&path).expect("it is there").len();
    let (all, skipped) = bytes(None, &records);
    assert!(all > 640_000 && skipped == 0, "{all} of {size}");
    let number = || forebay::record::first::<(u64, String)>();
    // Two pages of each column, 18 kB, the footer, what there is of an index, and the headers of other pages, of which half a
    // kilobyte is read: 39 kB. The predicate's column is read before the other, and once more with it: 28 kB.
    let wanted = number().ge(7400).and(number().lt(7600));
    let (few, skipped) = bytes(Some(wanted), &records[7400..7600]);
    assert!(
        few < 105_000 && skipped == 19_000,
        "{few} of {size}, {skipped} rows"
    );
    let wanted = number().lt(1).or(number().gt(19_998));
    let ends = [records[0].clone(), records[19_999].clone()];
    let (few, skipped) = bytes(Some(wanted), &ends);
    assert!(
        few < 105_000 && skipped == 19_000,
        "{few} of {size}, {skipped} rows"
    );
    // Within the bounds of a page, and in no record.
    let name = forebay::record::second::<(u64, String)>().eq(records[77].1.clone() + "0");
    let (many, _) = bytes(Some(name), &[]);
    assert!(many < all + 10_000, "{many} of {all}");
}

#[test]
fn a_row_group_is_divided_among_subtasks() {
    let scratch = Scratch::new("parquet-pages");
    let path = scratch.path("one.parquet");
    let events = events(&mut Random(3), 5000);
    let one_group = || small_pages(2000, 500);
    write(&path, &events, one_group().build());
    let splits = |parallelism: usize, size: u64| {
        let source = parquet::<Flat>(&*path).split_size(size);
        source.splits(parallelism).expect("it is listed").len()
    };
    let no_index = one_group()
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true);
    for properties in [one_group(), no_index] {
        write(&path, &events, properties.build());
        assert_eq!([1, 2, 3].map(|parallelism| splits(parallelism, 1)), [1, 4, 6]);
        // Not into smaller parts than was said, and by default not where it is small.
        assert_eq!(splits(3, 1 << 30), 1);
        assert_eq!(parquet::<Flat>(&*path).splits(3).expect("it is listed").len(), 1);
        let expected: Vec<Flat> = events.iter().map(Flat::of).collect();
        for parallelism in 1..5 {
            let source = parquet::<Flat>(&*path).split_size(1);
            let counts = source.counts();
            let mut found = read(source, parallelism).expect("the job runs");
            found.sort_by_key(|event| event.number);
            assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            assert_eq!((counts.row_groups_read(), counts.rows_skipped()), (1, 0));
        }
        // Pages of lists need not say how many rows they have: only whole row groups are read.
        let lists = parquet::<Event>(&*path).split_size(1);
        assert_eq!(lists.splits(3).expect("it is listed").len(), 1);
    }
}

#[test]
fn a_value_that_does_not_suit_is_named_by_its_row_in_the_group() {
    let scratch = Scratch::new("parquet-pages");
    let path = scratch.path("nulls.parquet");
    let records: Vec<(u64, List<Option<u32>>)> = (0..1000)
        .map(|number| {
            (
                number,
                [Some(1), (number != 870).then_some(2)].into_iter().collect(),
            )
        })
        .collect();
    write(&path, &records, small_pages(1 << 20, 50).build());
    let wanted = forebay::record::first::<(u64, List<u32>)>();
    let source = parquet::<(u64, List<u32>)>(&*path).only(wanted.lt(60).or(wanted.ge(850)));
    let error = read(source, 1).expect_err("there is a null");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error
            .to_string()
            .contains("row group 0, row 870, column \"1.element\""),
        "{error}"
    );
}

/// An index has no checksum: what is damaged in it may exclude what it should not, and is never a panic, nor a record that is none:
/// pages of different columns that begin at other rows than the index says do not get out of step.
#[test]
fn a_damaged_index_is_an_error_or_not_used_and_never_a_panic() {
    let scratch = Scratch::new("parquet-pages");
    let path = scratch.path("events.parquet");
    let events = events(&mut Random(8), 700);
    // In both versions of pages, of which one says how many rows it has.
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        write(
            &path,
            &events,
            small_pages(300, 64).set_writer_version(version).build(),
        );
        damage_the_index(&path, &events);
    }
    assert_eq!(environment(1).runtime().manager().outstanding(), 0);
}

fn damage_the_index(path: &Path, events: &[Event]) {
    let whole = fs::read(path).expect("it was written");
    let footer = u32::from_le_bytes(
        whole[whole.len() - 8..whole.len() - 4]
            .try_into()
            .expect("4 bytes"),
    );
    let footer_start = whole.len() - 8 - footer as usize;
    // What is between the last page and the footer.
    let pages = {
        let bytes = bytes::Bytes::from(whole.clone());
        let footer = parquet::file::metadata::ParquetMetaDataReader::new()
            .parse_and_finish(&bytes)
            .expect("it is a Parquet file");
        let columns = footer.row_groups().iter().flat_map(|group| group.columns());
        columns
            .map(|column| column.byte_range())
            .map(|(start, length)| start + length)
            .max()
            .expect("it has columns")
    };
    let index = pages as usize..footer_start;
    assert!(index.len() > 1000, "{index:?}");
    let source = || {
        parquet::<Event>(path)
            .split_size(1)
            .only(Event::number.ge(300).and(Event::day.is_present()))
    };
    let expected = read(source(), 1).expect("the job runs").len();
    assert!(expected > 100);
    let mut random = Random(9);
    let known: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
    let (mut refused, mut equal) = (0, 0);
    for _ in 0..300 {
        let mut damaged = whole.clone();
        for _ in 0..=random.below(3) {
            let at = index.start + random.below(index.len());
            damaged[at] = [damaged[at] ^ (1 << random.below(8)), 0xff, 0][random.below(3)];
        }
        fs::write(path, &damaged).expect("it can be written");
        match read(source(), 1 + random.below(3)) {
            Ok(found) => {
                equal += usize::from(found.len() == expected);
                for event in found {
                    assert_eq!(format!("{event:?}"), known[event.number as usize]);
                }
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("events.parquet"), "{error}");
            }
        }
    }
    println!("{refused} refused, {equal} equal");
    assert!(equal > 50, "{refused} {equal}");
}
