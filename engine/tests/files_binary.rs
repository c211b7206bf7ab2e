//! Binary sources and sinks: what is written is what is read, however files are split; and every error they answer.

mod files_support;

use files_support::{Between, Random, Scratch, read};
use forebay::ErrorKind;
use forebay::record::Record;
use forebay::source::binary;
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
            let count = [0, 1, 252, 253, 1000][random.below(5)];
            let records = keyed(&mut random, count);
            scratch.write(&format!("{file}.bin"), records.as_bytes());
            let bytes = vec![file as u8; 7 * count];
            scratch.write(&format!("{file}.odd"), &bytes);
            odd.extend(<[Odd]>::ref_from_bytes(&bytes).expect("whole records"));
            expected.extend(records);
        }
        let size = [1, 16, 17, 100, 4096, 1 << 20][random.below(6)];
        let source = binary::<Keyed>(scratch.pattern("*.bin")).split_size(size);
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
    let scratch = Scratch::new("binary");
    let error = read(binary::<Keyed>(scratch.pattern("*.bin")), 1).expect_err("nothing matches");
    assert_eq!(error.kind(), ErrorKind::Config);

    let mut random = Random(1);
    let records = keyed(&mut random, 1000);
    let first = scratch.write("1.bin", records.as_bytes());
    scratch.write("2.bin", records.as_bytes());
    let source = binary::<Keyed>(scratch.pattern("*.bin")).split_size(16_000);
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
        text.contains("\"DIR/1.bin\" ends at byte 8000, but had 16000 bytes"),
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
