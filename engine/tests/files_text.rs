//! Text sources: equal to plain reading, however files are split; and every error they answer.

mod files_support;

use files_support::{Between, Random, Scratch, environment, read};
use forebay::ErrorKind;
use forebay::source::{NotUtf8, text, text_blocks};
use std::fs;
use std::io::BufRead;
use std::path::Path;

/// Lines of all lengths, many empty, some over a segment; all kinds of characters and line ends.
fn random_text(random: &mut Random, lines: usize) -> String {
    let mut text = String::new();
    for _ in 0..lines {
        let length = match random.below(20) {
            0..5 => 0,
            5..12 => random.below(10),
            12..19 => random.below(120),
            _ => random.below(9000),
        };
        for _ in 0..length {
            text.push(match random.below(12) {
                0 => 'é',
                1 => '\u{65e5}',
                2 => '🌊',
                3 => '\r',
                _ => (b' ' + random.below(95) as u8) as char,
            });
        }
        text.push_str(["\n", "\n", "\r\n"][random.below(3)]);
    }
    if random.below(2) == 0 {
        let end = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(end);
    }
    text
}

fn lines_of(path: &Path) -> Vec<String> {
    let file = std::io::BufReader::new(fs::File::open(path).expect("the file is there"));
    file.lines().map(|line| line.expect("a line of text")).collect()
}

#[test]
fn lines_are_those_of_plain_reading_however_files_are_split() {
    for seed in 0..24 {
        let mut random = Random(seed * 1000);
        let scratch = Scratch::new("text");
        let mut expected = Vec::new();
        for file in 0..1 + random.below(4) {
            let lines = random.below(60);
            let text = random_text(&mut random, lines);
            let path = scratch.write(&format!("{file}/{file}.txt"), text);
            expected.extend(lines_of(&path));
        }
        let size = [1, 2, 3, 7, 50, 1000, 4096, 100_000][random.below(8)];
        // In order, where there is one reader.
        let source = text(scratch.pattern("**/*.txt")).split_size(size);
        let found = read(source.clone(), 1).expect("the job runs");
        assert!(found == expected, "seed {seed}, split size {size}");
        let parallelism = 2 + random.below(4);
        let mut found = read(source, parallelism).expect("the job runs");
        found.sort();
        expected.sort();
        assert!(
            found == expected,
            "seed {seed}, split size {size}, parallelism {parallelism}"
        );
    }
}

#[test]
fn blocks_are_the_text_cut_between_lines() {
    for seed in 0..16 {
        let mut random = Random(seed * 1000 + 7);
        let scratch = Scratch::new("blocks");
        let text = random_text(&mut random, 300);
        let path = scratch.write("a.txt", &text);
        let size = [1, 100, 5000, 1 << 30][random.below(4)];
        let blocks = read(text_blocks(path).split_size(size), 1).expect("the job runs");
        for block in &blocks {
            let is_line = memchr::memchr(b'\n', block.as_bytes()).is_none_or(|at| at + 1 == block.len());
            assert!(block.len() <= 4096 || is_line, "seed {seed}: {} B", block.len());
            assert!(
                block.ends_with('\n') || text.ends_with(block.as_str()),
                "seed {seed}"
            );
        }
        assert!(blocks.concat() == text, "seed {seed}, split size {size}");
        if size > 5000 {
            assert!(
                blocks.len() <= 4 + text.len() / 2000,
                "seed {seed}: {} blocks",
                blocks.len()
            );
        }
    }
}

#[test]
fn ends_of_lines_and_files_are_as_in_std() {
    let scratch = Scratch::new("ends");
    for (index, content) in [
        "",
        "\n",
        "\r\n",
        "\r",
        "a",
        "a\n",
        "a\r\n",
        "a\n\n",
        "\n\na",
        "a\rb\n",
        "a\r\r\n",
        "\u{feff}a\nb",
    ]
    .into_iter()
    .enumerate()
    {
        let path = scratch.write(&format!("{index}"), content);
        let expected: Vec<String> = content.lines().map(String::from).collect();
        for size in [1, 2, 100] {
            let found = read(text(path.as_path()).split_size(size), 1).expect("the job runs");
            assert_eq!(found, expected, "{content:?}, split size {size}");
        }
    }
}

#[test]
fn files_that_do_not_know_their_size_are_read_to_their_end() {
    let path = "/proc/sys/kernel/ostype";
    let found = read(text(path), 2).expect("the job runs");
    assert_eq!(found, lines_of(Path::new(path)));
}

#[test]
fn patterns_find_files_in_order_and_once() {
    let scratch = Scratch::new("patterns");
    for name in [
        "b.txt",
        "a.txt",
        "c.md",
        "d/e.txt",
        "d/f/g.txt",
        "d/.hidden/h.txt",
        ".i.txt",
        "j*.txt",
    ] {
        scratch.write(name, name);
    }
    std::os::unix::fs::symlink(scratch.path("a.txt"), scratch.path("link.txt")).expect("a link");
    std::os::unix::fs::symlink(scratch.path("."), scratch.path("d/circle")).expect("a link");
    let found = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|pattern| scratch.pattern(pattern)).collect();
        read(text(patterns), 1).expect("the job runs").join(" ")
    };
    assert_eq!(found(&["*.txt"]), "a.txt b.txt j*.txt a.txt");
    assert_eq!(found(&["**/*.txt"]), "a.txt b.txt d/e.txt d/f/g.txt j*.txt a.txt");
    assert_eq!(found(&["d/**"]), "d/e.txt d/f/g.txt");
    assert_eq!(
        found(&["d/circle/*.md", "**/[e-g].txt"]),
        "c.md d/e.txt d/f/g.txt"
    );
    assert_eq!(found(&["{b,a}.txt", "a.*", "*.md"]), "a.txt b.txt c.md");
    assert_eq!(found(&["j*.txt"]), "j*.txt");
    assert_eq!(found(&[".*.txt"]), ".i.txt");
}

#[test]
fn ten_thousand_small_files_are_few_splits() {
    use forebay::source::Source;
    let scratch = Scratch::new("many");
    for index in 0..2_000 {
        scratch.write(&format!("{}/{index}", index % 7), format!("line {index}"));
    }
    let source = text(scratch.pattern("**"));
    assert_eq!(source.splits(4).expect("the files are listed").len(), 8);
    let mut found = read(source, 3).expect("the job runs");
    found.sort();
    let mut expected: Vec<String> = (0..2_000).map(|index| format!("line {index}")).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn text_that_is_not_utf8_is_an_error_replaced_or_skipped() {
    let scratch = Scratch::new("utf8");
    // A bad byte, an overlong sequence, a character cut by the line's end and one by the file's.
    let content = b"one\ntw\xffo\r\n\xc0\x80\nthree \xe6\x97\nfour\xf0\x9f\x8c\x8a\nfive\xe6\x97";
    let path = scratch.write("bad.txt", content);
    let lossy: Vec<String> = content
        .split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim_end_matches('\r').into())
        .collect();
    for size in [1, 5, 1000] {
        let source = || text(path.as_path()).split_size(size);
        let replaced = read(source().not_utf8(NotUtf8::Replace), 1).expect("the job runs");
        assert_eq!(replaced, lossy, "split size {size}");
        let skipped = read(source().not_utf8(NotUtf8::Skip), 1).expect("the job runs");
        assert_eq!(skipped, ["one", "four🌊"], "split size {size}");
        let error = read(source(), 1).expect_err("the text is damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(
            scratch.mask(&error.to_string()),
            "DIR/bad.txt:2: byte 6 (0xff) is not UTF-8 text; read on with NotUtf8::Replace or NotUtf8::Skip"
        );
    }
    let blocks = |policy| read(text_blocks(path.as_path()).not_utf8(policy), 1).map(|blocks| blocks.concat());
    assert_eq!(
        blocks(NotUtf8::Replace).expect("the job runs"),
        String::from_utf8_lossy(content)
    );
    assert_eq!(blocks(NotUtf8::Skip).expect("the job runs"), "one\nfour🌊\n");
    assert!(blocks(NotUtf8::Error).is_err());
}

#[test]
fn any_bytes_are_lines_with_replacements() {
    let scratch = Scratch::new("any");
    let path = scratch.path("any.txt");
    for seed in 0..60 {
        let mut random = Random(seed * 1000);
        let bytes: Vec<u8> = (0..random.below(3000))
            .map(|_| match random.below(8) {
                0 => b'\n',
                1 => b'\r',
                2..5 => b'a',
                _ => random.next() as u8,
            })
            .collect();
        fs::write(&path, &bytes).expect("a scratch file");
        let lossy = String::from_utf8_lossy(&bytes);
        let expected: Vec<&str> = lossy.lines().collect();
        let size = [1, 10, 1000, 1 << 20][random.below(4)];
        let source = text(path.as_path()).split_size(size).not_utf8(NotUtf8::Replace);
        let found = read(source, 1).expect("nothing is refused");
        assert!(found == expected, "seed {seed}, split size {size}");
        let blocks = text_blocks(path.as_path())
            .split_size(size)
            .not_utf8(NotUtf8::Replace);
        let found = read(blocks, 1).expect("nothing is refused").concat();
        assert!(found == lossy, "seed {seed}, split size {size}, blocks");
    }
}

#[test]
fn lines_up_to_the_largest_record_pass_and_longer_ones_are_errors() {
    let scratch = Scratch::new("long");
    // As the test's plan says.
    let largest = 128 * 1024 - 16;
    let passes = scratch.write("passes", format!("a\n{}\r\nb", "x".repeat(largest - 1)));
    for size in [1000, 1 << 20] {
        let found = read(text(passes.as_path()).split_size(size), 1).expect("the job runs");
        assert_eq!(
            found.iter().map(String::len).collect::<Vec<_>>(),
            [1, largest - 1, 1]
        );
    }
    for ending in ["\n", "\nmore\n", ""] {
        let path = scratch.write("long", format!("a\nb\n{}{ending}", "x".repeat(largest + 300_000)));
        for source in [text(path.as_path()), text_blocks(path.as_path())] {
            let error = read(source, 1).expect_err("the line is too long");
            assert_eq!(error.kind(), ErrorKind::Memory);
            let message = scratch.mask(&error.to_string());
            let (start, end) = message.split_once(" bytes or more").expect("says how long");
            assert!(start.starts_with("DIR/long:3: a line of "), "{message}");
            assert_eq!(
                end, " is over record.max_size (131072 B with its row's 16 B); raise record.max_size",
                "{message}"
            );
        }
    }
}

#[test]
fn a_pattern_without_files_is_an_error_that_says_where_it_looked() {
    let scratch = Scratch::new("none");
    let directory = std::env::current_dir().expect("a working directory");
    for pattern in [
        scratch.pattern("*.txt"),
        scratch.pattern("a.txt"),
        scratch.pattern("no/**"),
    ] {
        let error = read(text(pattern.as_str()).skip_unreadable(), 1).expect_err("there are no files");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(
            error.to_string(),
            format!(
                "no file matches \"{pattern}\" (working directory \"{}\"); check the pattern: * stands for part of a \
                 name, ** for any directories",
                directory.display()
            )
        );
    }
}

#[test]
fn directories_and_dangling_links_are_errors_or_skipped() {
    let scratch = Scratch::new("unreadable");
    scratch.write("d/a.txt", "a");
    std::os::unix::fs::symlink("nowhere", scratch.path("d/z.txt")).expect("a link");
    let error = read(text(scratch.path("d")), 1).expect_err("a directory is no file");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        scratch.mask(&error.to_string()),
        "\"DIR/d\" is a directory; name its files, with DIR/d/* or DIR/d/**"
    );
    let error = read(text(scratch.pattern("d/*.txt")), 1).expect_err("the link leads nowhere");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(
        scratch.mask(&error.to_string()),
        "cannot read \"DIR/d/z.txt\": No such file or directory (os error 2)"
    );
    let patterns = [scratch.pattern("d"), scratch.pattern("d/*.txt")];
    let found = read(text(patterns).skip_unreadable(), 1).expect("the rest is read");
    assert_eq!(found, ["a"]);
}

#[test]
fn files_that_vanish_or_shrink_are_errors_or_skipped() {
    let scratch = Scratch::new("vanish");
    let content = "0123456\n".repeat(2000);
    let prepare = || {
        for name in ["a", "b", "c"] {
            scratch.write(name, &content);
        }
    };
    let vanish = {
        let path = scratch.path("b");
        move || fs::remove_file(&path).expect("the file is there")
    };
    let shrink = {
        let path = scratch.path("b");
        move || {
            let file = fs::File::options()
                .write(true)
                .open(&path)
                .expect("the file is there");
            file.set_len(100).expect("it is cut");
        }
    };
    let source = || text(scratch.pattern("*")).split_size(3000);
    prepare();
    let error = read(Between(source(), vanish.clone()), 2).expect_err("b is gone");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(
        scratch.mask(&error.to_string()),
        "cannot read \"DIR/b\": No such file or directory (os error 2)"
    );
    prepare();
    let found = read(Between(source().skip_unreadable(), vanish), 2).expect("the rest is read");
    assert_eq!(found.len(), 4000);

    prepare();
    let error = read(Between(source(), shrink.clone()), 1).expect_err("b was cut");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(
        scratch.mask(&error.to_string()),
        "\"DIR/b\" ends at byte 100, but had 16000 bytes when it was listed: it was cut while the job read it"
    );
    prepare();
    let found = read(Between(source().skip_unreadable(), shrink), 1).expect("the rest is read");
    assert!((4012..=4013).contains(&found.len()), "{}", found.len());
}

#[test]
fn what_is_appended_while_a_file_is_read_is_not_read_but_a_line_is_completed() {
    let scratch = Scratch::new("growing");
    let path = scratch.write("log", "one\ntw");
    let grow = {
        let path = path.clone();
        move || fs::write(&path, "one\ntwo\nthree\n").expect("it grows")
    };
    let found = read(Between(text(path), grow), 1).expect("the job runs");
    assert_eq!(found, ["one", "two"]);
}

#[test]
fn lines_and_blocks_have_the_same_words() {
    use forebay::operator::Collector;
    let scratch = Scratch::new("words");
    for index in 0..5 {
        scratch.write(&format!("{index}.txt"), "to be or not to be\n".repeat(300));
    }
    for source in [
        text(scratch.pattern("*.txt")),
        text_blocks(scratch.pattern("*.txt")),
    ] {
        let environment = environment(2);
        let words = environment
            .source("text", source.split_size(1000))
            .flat_map(|text: &str, words: &mut Collector<'_, String>| {
                text.split_whitespace().for_each(|word| words.push(word));
            })
            .rebalance()
            .collect();
        environment.execute("words").expect("the job runs");
        let mut words = words.take();
        words.sort();
        let expected = [("be", 3000), ("not", 1500), ("or", 1500), ("to", 3000)];
        assert_eq!(words, expected.map(|(word, count)| vec![word; count]).concat());
    }
}
