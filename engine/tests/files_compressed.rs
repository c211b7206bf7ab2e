//! Compressed text and CSV: read as the text that was compressed, in any number of members and frames; and what damaged files answer.

mod files_support;

use files_support::{Between, Random, Scratch, read};
use flate2::write::GzEncoder;
use forebay::record::Record;
use forebay::source::{Compression, NotUtf8, Source, csv, text};
use forebay::{Error, ErrorKind};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::fs;
use std::io::Write;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(text.as_bytes())
        .expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

fn zstd(text: &str) -> Vec<u8> {
    compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
}

/// Lines that compress, and some that do not.
fn lines(random: &mut Random, count: usize) -> Vec<String> {
    let line = |_| match random.below(3) {
        0 => String::new(),
        1 => "the same line again and again".repeat(random.below(10)),
        _ => format!("{:x} {}", random.next(), random.next()),
    };
    (0..count).map(line).collect()
}

#[test]
fn text_is_what_was_compressed() {
    for seed in 0..10 {
        let mut random = Random(seed * 1000);
        let scratch = Scratch::new("compressed");
        let mut expected = Vec::new();
        for file in 0..1 + random.below(5) {
            // Members and frames end anywhere, also within a line; some are empty.
            let count = random.below(4000);
            let all = lines(&mut random, count);
            let text: String = all.iter().map(|line| format!("{line}\n")).collect();
            expected.extend(all);
            let cut = random.below(text.len() + 1);
            let (encode, ending) = [(gzip as fn(&str) -> Vec<u8>, "gz"), (zstd, "zst")][random.below(2)];
            let parts = [encode(&text[..cut]), encode(""), encode(&text[cut..])];
            scratch.write(&format!("{file}.txt.{ending}"), parts.concat());
        }
        let source = text(scratch.pattern("*")).split_size([1, 5000, 1 << 20][random.below(3)]);
        assert!(
            read(source.clone(), 1).expect("the job runs") == expected,
            "seed {seed}"
        );
        expected.sort();
        for parallelism in [2, 8] {
            let mut found = read(source.clone(), parallelism).expect("the job runs");
            found.sort();
            assert!(found == expected, "seed {seed}, parallelism {parallelism}");
        }
    }
}

#[test]
fn csv_of_any_compression_is_read() {
    #[derive(Debug, Clone, PartialEq, Record)]
    struct Reading {
        station: String,
        celsius: Option<f64>,
    }
    let scratch = Scratch::new("compressed");
    let content = "station,celsius\n\"Aare, Bern\",11.5\nRhone,\n";
    scratch.write("1.csv.gz", gzip(content));
    scratch.write("2.csv.zst", zstd(content));
    scratch.write("3.csv", content);
    scratch.write("4.csv.gz", gzip("station,celsius\n"));
    let found = read(
        csv::<Reading>(scratch.pattern("*")).whole_lines().split_size(3),
        2,
    )
    .expect("the job runs");
    assert_eq!(found.len(), 6);
    assert_eq!(
        found
            .iter()
            .filter(|reading| reading.celsius == Some(11.5))
            .count(),
        3
    );
}

#[test]
fn the_option_goes_before_the_name() {
    let scratch = Scratch::new("compressed");
    let file = scratch.write("a.txt", gzip("one\ntwo\n"));
    let found = read(text(&*file).compression(Compression::Gzip), 1).expect("it is gzip");
    assert_eq!(found, ["one", "two"]);
    let file = scratch.write("b.gz", "one\n");
    assert_eq!(
        read(text(&*file).compression(Compression::None), 1).expect("it is text"),
        ["one"]
    );
    let error = read(text(&*file), 1).expect_err("it is not gzip");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

fn fault(scratch: &Scratch, name: &str, content: &[u8]) -> Error {
    let file = scratch.write(name, content);
    let error = read(text(&*file), 1).expect_err(name);
    // Not even where unreadable files are passed over.
    assert!(read(text(&*file).skip_unreadable(), 1).is_err(), "{name}");
    error
}

#[test]
fn files_that_are_cut_or_damaged_are_named_with_the_place() {
    let scratch = Scratch::new("compressed");
    let mut random = Random(3);
    let content = lines(&mut random, 3000).join("\n");
    for (name, whole) in [("a.gz", gzip(&content)), ("a.zst", zstd(&content))] {
        for cut in [0, 1, 3, 5, 9, 11, whole.len() / 2, whole.len() - 1] {
            let error = fault(&scratch, name, &whole[..cut]);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} cut at {cut}: {error}");
            let message = scratch.mask(&error.to_string());
            assert!(message.contains(&format!("\"DIR/{name}\" ")), "{message}");
            assert!(message.contains("at or before byte"), "{message}");
        }
        // Any damage is found, or does not matter: in a header's time stamp, say.
        let mut found = 0;
        for _ in 0..60 {
            let mut damaged = whole.clone();
            damaged[random.below(whole.len())] ^= 1 << random.below(8);
            let file = scratch.write("damaged", &damaged);
            let compression = match name {
                "a.gz" => Compression::Gzip,
                _ => Compression::Zstd,
            };
            match read(text(&*file).compression(compression), 1) {
                Ok(lines) => assert!(lines.join("\n") == content.trim_end_matches('\n') || name == "a.zst"),
                Err(error) => {
                    assert!(
                        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Memory),
                        "{error}"
                    );
                    found += 1;
                }
            }
        }
        assert!(found > 20, "{name}: {found}");
    }
    let error = fault(
        &scratch,
        "b.gz",
        &[&gzip("one\n")[..], b"more than a header"].concat(),
    );
    assert!(error.to_string().contains("has damaged gzip data"), "{error}");
}

#[test]
fn frames_are_skipped_and_windows_are_bounded() {
    let scratch = Scratch::new("compressed");
    let skipped = [&0x184d_2a53_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"hello"].concat();
    let file = scratch.write("a.zst", [&skipped[..], &zstd("one\ntwo\n"), &skipped].concat());
    assert_eq!(
        read(text(&*file), 1).expect("two frames are no text"),
        ["one", "two"]
    );
    // A window of 2 GiB: 2^(10 + 21).
    let error = fault(&scratch, "b.zst", &[0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0]);
    assert_eq!(error.kind(), ErrorKind::Memory);
    let message = scratch.mask(&error.to_string());
    assert!(
        message.contains("\"DIR/b.zst\" needs a window of 2 GiB to be decompressed"),
        "{message}"
    );
}

#[test]
fn lines_of_compressed_files_are_counted_for_messages() {
    let scratch = Scratch::new("compressed");
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(b"one\ntwo\n\xff\n")
        .expect("a vector takes everything");
    let file = scratch.write("a.gz", encoder.finish().expect("a vector takes everything"));
    let error = read(text(&*file), 1).expect_err("it is no text");
    assert!(scratch.mask(&error.to_string()).contains("DIR/a.gz:3"), "{error}");
}

#[test]
fn a_compressed_file_is_not_divided() {
    let scratch = Scratch::new("compressed");
    let content = "a line of some length\n".repeat(1000);
    scratch.write("a.gz", gzip(&content));
    scratch.write("a.zst", zstd(&content));
    scratch.write("a.txt", &content);
    let splits = |name: &str| {
        let source = text(scratch.path(name)).split_size(10);
        source.splits(4).expect("the file is there").len()
    };
    assert_eq!([splits("a.gz"), splits("a.zst")], [1, 1]);
    assert!(splits("a.txt") > 1000);
    // Each of several is one: subtasks share files.
    let both = text(scratch.pattern("a.*z*")).split_size(10);
    assert_eq!(both.splits(4).expect("the files are there").len(), 2);
    assert_eq!(read(both, 4).expect("the job runs").len(), 2000);
}

#[test]
fn compressed_files_that_vanish_or_are_cut_are_errors_or_passed_over() {
    let scratch = Scratch::new("compressed");
    for (compress, ending) in [(gzip as fn(&str) -> Vec<u8>, "gz"), (zstd, "zst")] {
        let (kept, gone) = (format!("1.{ending}"), format!("2.{ending}"));
        scratch.write(&kept, compress("one\n"));
        let whole = compress(&"two\n".repeat(100));
        let path = scratch.write(&gone, &whole);
        let source = || text(scratch.pattern(&format!("*.{ending}"))).split_size(1);
        let removing = |source| {
            let path = path.clone();
            Between(source, move || fs::remove_file(&path).expect("it is there"))
        };
        let error = read(removing(source()), 1).expect_err("a file has vanished");
        assert_eq!(error.kind(), ErrorKind::Io);
        let message = scratch.mask(&error.to_string());
        assert!(message.contains(&format!("\"DIR/{gone}\"")), "{message}");
        scratch.write(&gone, &whole);
        let found = read(removing(source().skip_unreadable()), 1).expect("it is passed over");
        assert_eq!(found, ["one"]);
        // A cut file is damaged, whenever it was cut.
        scratch.write(&gone, &whole);
        let (cut, rest) = (path.clone(), whole[..whole.len() - 5].to_vec());
        let between = move || fs::write(&cut, &rest).expect("it can be written");
        let error = read(Between(source().skip_unreadable(), between), 1).expect_err("it was cut");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(&gone), "{error}");
        fs::remove_file(&path).expect("it is there");
        fs::remove_file(scratch.path(&kept)).expect("it is there");
    }
}

/// The policy is asked for what a file's text is, however it was compressed.
#[test]
fn compressed_text_that_is_not_utf8_is_an_error_replaced_or_skipped() {
    #[derive(Debug, Clone, PartialEq, Record)]
    struct Named {
        id: u64,
        name: String,
    }
    let scratch = Scratch::new("compressed");
    let compress = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("a vector takes everything");
        [
            (encoder.finish().expect("a vector takes everything"), "gz"),
            (compress_to_vec(bytes, CompressionLevel::Fastest), "zst"),
        ]
    };
    for (bytes, ending) in compress(b"good\nb\xffd\nlast\n") {
        let file = scratch.write(&format!("lines.{ending}"), bytes);
        let error = read(text(&*file), 1).expect_err("it is no text");
        assert!(
            error.to_string().contains(&format!("lines.{ending}:2")),
            "{error}"
        );
        let found = |policy| read(text(&*file).not_utf8(policy), 1).expect("the job runs");
        assert_eq!(found(NotUtf8::Replace), ["good", "b\u{fffd}d", "last"]);
        assert_eq!(found(NotUtf8::Skip), ["good", "last"]);
    }
    for (bytes, ending) in compress(b"id,name\n1,good\n2,b\xffd\n3,last\n") {
        let file = scratch.write(&format!("rows.csv.{ending}"), bytes);
        let error = read(csv::<Named>(&*file), 1).expect_err("it is no text");
        assert!(
            error.to_string().contains(&format!("rows.csv.{ending}:3")),
            "{error}"
        );
        let found = |policy| -> Vec<String> {
            let rows = read(csv::<Named>(&*file).not_utf8(policy), 1).expect("the job runs");
            rows.into_iter().map(|row| row.name).collect()
        };
        assert_eq!(found(NotUtf8::Replace), ["good", "b\u{fffd}d", "last"]);
        assert_eq!(found(NotUtf8::Skip), ["good", "last"]);
    }
}
