//! Binary sources and sinks: what is written is what is read, however files are split; and every error they answer.

mod files_support;

use files_support::{Between, Random, Scratch, environment, read};
use forebay::operator::FirstRanks;
use forebay::record::Record;
use forebay::sink::{BinarySink, FileSink, Sink, SinkWriter};
use forebay::source::{Subtask, binary, from_items, generate};
use forebay::{Error, ErrorKind};
use std::fs;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Record,
)]
#[repr(C)]
#[record(plain)]
struct Keyed {
    key: u64,
    value: i64,
}

/// A record whose width is no divisor of anything.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Record,
)]
#[repr(C)]
#[record(plain)]
struct Odd {
    bytes: [u8; 7],
}

fn keyed(random: &mut Random, count: usize) -> Vec<Keyed> {
    (0..count)
        .map(|_| Keyed {
            key: random.next(),
            value: random.next() as i64,
        })
        .collect()
}

#[test]
fn records_are_those_of_the_files_however_they_are_split() {
    for seed in 0..24 {
        let mut random = Random(seed * 1000);
        let scratch = Scratch::new("binary");
        let (mut expected, mut odd) = (Vec::new(), Vec::new());
        for file in 0..1 + random.below(4) {
            let count = [0, 1, 252, 253, 1000, 9000][random.below(6)];
            let records = keyed(&mut random, count);
            scratch.write(&format!("{file}.bin"), records.as_bytes());
            let bytes = vec![file as u8; 7 * count];
            scratch.write(&format!("{file}.odd"), &bytes);
            odd.extend(<[Odd]>::ref_from_bytes(&bytes).expect("whole records"));
            expected.extend(records);
        }
        let size = [1, 16, 17, 100, 4096, 1 << 20][random.below(6)];
        let source = binary::<Keyed>(scratch.pattern("*.bin")).split_size(size);
        let source = source.past_page_cache(seed % 2 == 1);
        assert_eq!(source.records().expect("whole records"), expected.len() as u64);
        // In order, where there is one reader.
        let found = read(source.clone(), 1).expect("the job runs");
        assert!(found == expected, "seed {seed}, split size {size}");
        let source_of_odd = binary::<Odd>(scratch.pattern("*.odd")).split_size(size);
        assert!(
            read(source_of_odd, 1).expect("the job runs") == odd,
            "seed {seed}"
        );
        expected.sort();
        for parallelism in [2, 3, 8] {
            let mut found = read(source.clone(), parallelism).expect("the job runs");
            found.sort();
            assert!(
                found == expected,
                "seed {seed}, split size {size}, parallelism {parallelism}"
            );
        }
    }
}

#[test]
fn a_file_that_does_not_end_with_a_record_is_named_with_its_size_and_the_width() {
    let scratch = Scratch::new("binary");
    scratch.write("good.bin", [0; 32]);
    let path = scratch.write("torn.bin", [0; 33]);
    let error = read(binary::<Keyed>(scratch.pattern("*.bin")), 2).expect_err("33 bytes are no records");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = scratch.mask(&error.to_string());
    assert!(
        text.contains("\"DIR/torn.bin\": 33 B is no whole number of records of Keyed, which have 16 B: 1 B are left over"),
        "{text}"
    );
    assert!(binary::<Keyed>(&*path).records().is_err());
    // Not even where unreadable files are passed over: it can be read.
    assert!(read(binary::<Keyed>(&*path).skip_unreadable(), 1).is_err());
}

#[test]
fn files_that_are_missing_vanish_or_are_cut_are_errors_or_passed_over() {
    for is_past in [false, true] {
        check_faults(is_past);
    }
}

fn check_faults(is_past: bool) {
    let scratch = Scratch::new("binary");
    let error = read(binary::<Keyed>(scratch.pattern("*.bin")), 1).expect_err("nothing matches");
    assert_eq!(error.kind(), ErrorKind::Config);

    let mut random = Random(1);
    // 144,000 B.
    let records = keyed(&mut random, 9000);
    let first = scratch.write("1.bin", records.as_bytes());
    scratch.write("2.bin", records.as_bytes());
    let source = binary::<Keyed>(scratch.pattern("*.bin")).split_size(144_000);
    let source = source.past_page_cache(is_past);
    let vanish = first.clone();
    let between = Between(source.clone(), move || {
        fs::remove_file(&vanish).expect("it is there")
    });
    let error = read(between, 1).expect_err("a file has vanished");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("1.bin"), "{error}");

    fs::write(&first, records.as_bytes()).expect("it can be written");
    let vanish = first.clone();
    let between = Between(source.clone().skip_unreadable(), move || {
        fs::remove_file(&vanish).expect("it is there")
    });
    assert!(read(between, 1).expect("the other file is read") == records);

    fs::write(&first, records.as_bytes()).expect("it can be written");
    let cut = first.clone();
    let between = Between(source, move || {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&cut)
            .expect("it is there");
        file.set_len(8000).expect("it can be cut");
    });
    let error = read(between, 1).expect_err("half a file is gone");
    assert_eq!(error.kind(), ErrorKind::Io);
    let text = scratch.mask(&error.to_string());
    assert!(
        text.contains("\"DIR/1.bin\" ends at byte 8000, but had 144000 bytes"),
        "{text}"
    );
}

#[test]
fn what_has_no_size_is_read_to_its_end() {
    // A file of the kernel, whose size is 0 when it is listed.
    let path = std::path::Path::new("/proc/sys/kernel/ostype");
    let text = fs::read(path).expect("a Linux system");
    assert_eq!(text, b"Linux\n");
    let error = read(binary::<Odd>(path), 2).expect_err("six bytes are no record of seven");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("6 B is no whole number"), "{error}");
    #[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
    #[repr(C)]
    #[record(plain)]
    struct Three {
        bytes: [u8; 3],
    }
    let found = read(binary::<Three>(path), 2).expect("two records of three bytes");
    assert_eq!(found, [Three { bytes: *b"Lin" }, Three { bytes: *b"ux\n" }]);
}

fn all(scratch: &Scratch, pattern: &str) -> Vec<Keyed> {
    read(binary::<Keyed>(scratch.pattern(pattern)), 1).expect("what was written is read")
}

/// Records that say where they are.
fn numbered(range: std::ops::Range<u64>) -> Vec<Keyed> {
    range
        .map(|key| Keyed {
            key,
            value: !(key as i64),
        })
        .collect()
}

#[test]
fn part_files_hold_what_was_sent() {
    for parallelism in [1, 2, 3, 8] {
        let scratch = Scratch::new("binary-sink");
        let environment = environment(parallelism);
        let source = generate(100_000, |key| Keyed {
            key,
            value: !(key as i64),
        });
        environment.source("numbers", source).rebalance().sink(
            "files",
            FileSink::binary::<Keyed>(scratch.path("out")).suffix(".bin"),
        );
        environment.execute("write").expect("the directory is new");
        assert_eq!(environment.runtime().manager().outstanding(), 0);
        assert!(
            scratch.names("out").len() <= parallelism,
            "{:?}",
            scratch.names("out")
        );
        let mut found = all(&scratch, "out/*.bin");
        found.sort();
        assert!(found == numbered(0..100_000), "parallelism {parallelism}");
    }
}

#[test]
fn no_records_are_no_part_files_and_an_empty_file() {
    let scratch = Scratch::new("binary-sink");
    let environment = environment(1);
    let none = || environment.source("nothing", generate(0, |key| Keyed { key, value: 0 }));
    none().sink("files", FileSink::binary::<Keyed>(scratch.path("out")));
    none().sink("file", BinarySink::<Keyed>::file(scratch.path("one")));
    environment.execute("write").expect("both are new");
    assert_eq!(scratch.names("out"), Vec::<String>::new());
    assert_eq!(scratch.names(""), ["one", "out"]);
    assert_eq!(fs::read(scratch.path("one")).expect("it is there"), b"");
    assert_eq!(all(&scratch, "one"), []);
}

/// Runs a job that writes `count` records into one file, with one subtask.
fn write_one(
    scratch: &Scratch,
    count: u64,
    change: fn(BinarySink<Keyed>) -> BinarySink<Keyed>,
) -> Result<(), Error> {
    let environment = environment(2);
    environment
        .source(
            "numbers",
            generate(count, |key| Keyed {
                key,
                value: !(key as i64),
            }),
        )
        .sink("file", change(BinarySink::file(scratch.path("one"))))
        .parallelism(1);
    environment.execute("write").map(drop)
}

#[test]
fn one_file_is_replaced_only_where_that_is_said() {
    let scratch = Scratch::new("binary-sink");
    write_one(&scratch, 100_000, |sink| sink.sync()).expect("it is new");
    let mut found = all(&scratch, "one");
    found.sort();
    assert!(found == numbered(0..100_000));
    let error = write_one(&scratch, 10, |sink| sink).expect_err("it is there");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        scratch
            .mask(&error.to_string())
            .contains("\"DIR/one\" exists; name another file, or choose overwrite()")
    );
    let error = write_one(&scratch, 10, |sink| sink.append()).expect_err("it cannot");
    assert!(
        error.to_string().contains("one file is not appended to"),
        "{error}"
    );
    assert_eq!(all(&scratch, "one").len(), 100_000);
    write_one(&scratch, 10, |sink| sink.overwrite()).expect("it is replaced");
    assert_eq!(all(&scratch, "one").len(), 10);
    assert_eq!(scratch.names(""), ["one"], "nothing hidden is left");
}

#[test]
fn a_job_that_fails_leaves_no_file() {
    let scratch = Scratch::new("binary-sink");
    let environment = environment(2);
    environment
        .source("numbers", generate(500_000, |key| Keyed { key, value: 0 }))
        .try_map(|row: &Keyed| match row.key {
            499_999 => Err(Error::user("enough")),
            _ => Ok(*row),
        })
        .sink("file", BinarySink::file(scratch.path("one")))
        .parallelism(1);
    assert!(environment.execute("write").is_err());
    assert_eq!(scratch.names(""), Vec::<String>::new());
}

#[test]
fn several_subtasks_need_a_sorted_stream_for_one_file() {
    let scratch = Scratch::new("binary-sink");
    let environment = environment(2);
    environment
        .source("numbers", generate(10, |key| Keyed { key, value: 0 }))
        .sink("file", BinarySink::file(scratch.path("one")));
    let error = environment.execute("write").expect_err("it has no order");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        scratch
            .mask(&error.to_string())
            .contains("\"DIR/one\" cannot be written by 2 subtasks"),
        "{error}"
    );
    assert_eq!(scratch.names(""), Vec::<String>::new());
}

/// What subtasks of a sort are given to do, in any order of turns.
#[test]
fn subtasks_with_ranks_write_one_file_in_order() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let scratch = Scratch::new("binary-sink");
        let parallelism = 1 + random.below(8);
        let mut bounds: Vec<u64> = (0..parallelism - 1)
            .map(|_| random.below(20_000) as u64)
            .collect();
        bounds.extend([0, 20_000]);
        bounds.sort();
        let ranks = FirstRanks::default();
        let mut sink = BinarySink::<Keyed>::file(scratch.path("one"));
        sink.take_ranks(&ranks);
        let mut parts: Vec<_> = (0..parallelism)
            .map(|index| {
                let writer = sink.writer(Subtask { index, parallelism }).expect("it is new");
                (writer, numbered(bounds[index]..bounds[index + 1]))
            })
            .collect();
        ranks.publish(&bounds);
        while !parts.is_empty() {
            let at = random.below(parts.len());
            let (writer, rest) = &mut parts[at];
            for row in rest.drain(..random.below(900).min(rest.len())) {
                writer.write(&row).expect("there is space");
            }
            if rest.is_empty() {
                writer.finish().expect("there is space");
                parts.remove(at);
            }
        }
        drop(sink);
        assert!(all(&scratch, "one") == numbered(0..20_000), "seed {seed}");
        assert_eq!(scratch.names(""), ["one"]);
    }
}

#[test]
fn a_sink_of_another_parallelism_than_the_sort_is_refused() {
    let scratch = Scratch::new("binary-sink");
    let ranks = FirstRanks::default();
    let mut sink = BinarySink::<Keyed>::file(scratch.path("one"));
    sink.take_ranks(&ranks);
    let mut writer = sink
        .writer(Subtask {
            index: 0,
            parallelism: 1,
        })
        .expect("it is new");
    ranks.publish(&[0, 5, 10]);
    let error = writer
        .write(&Keyed { key: 0, value: 0 })
        .expect_err("records of two subtasks would be mixed");
    assert!(
        error
            .to_string()
            .contains("written by 1 subtasks, but the stream was sorted by 2"),
        "{error}"
    );
}

#[test]
fn a_job_whose_sink_has_another_parallelism_than_the_sort_is_refused_when_it_is_planned() {
    for (sort, sink, is_refused) in [(2, 1, true), (2, 3, true), (1, 2, true), (2, 2, false)] {
        let scratch = Scratch::new("binary-planned");
        let environment = environment(2);
        environment
            .source("records", from_items(numbered(0..1000)))
            .rebalance()
            .sort_by(Keyed::key)
            .parallelism(sort)
            .name("by key")
            .sink("file", BinarySink::<Keyed>::file(scratch.path("one")))
            .parallelism(sink);
        let planned = environment.plan("sorted").map(|_| ());
        assert_eq!(planned.is_err(), is_refused, "{sort} and {sink}: {planned:?}");
        if let Err(error) = planned {
            assert_eq!(error.kind(), ErrorKind::Config);
            let message = error.to_string();
            assert!(
                message.contains("\"by key\"") && message.contains("give both the same parallelism"),
                "{message}"
            );
        }
    }
}
