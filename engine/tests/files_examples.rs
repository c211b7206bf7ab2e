//! The examples do what they say, at a small size.
#![allow(dead_code, reason = "the examples' main functions are not called")]

mod files_support;

#[path = "../examples/custom_sink.rs"]
mod custom_sink;
#[path = "../examples/custom_source.rs"]
mod custom_source;
#[path = "../examples/wordcount.rs"]
mod wordcount;

use files_support::{Scratch, environment, read};
use forebay::source::csv;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[test]
fn wordcount_counts_words() {
    let scratch = Scratch::new("wordcount");
    let text = "the quick brown fox\njumps over the lazy dog\n\tthe  end\u{a0}of naïve text\n".repeat(500);
    scratch.write("in/a.txt", &text);
    scratch.write("in/b/c.txt", &text);
    let environment = environment(2);
    let (files, out) = (scratch.pattern("in/**/*.txt"), scratch.pattern("out"));
    let summary = wordcount::count_words(&environment, &files, &out).expect("the job runs");
    assert!(summary.to_string().contains("wordcount"), "{summary}");
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for word in text.split_whitespace() {
        *expected.entry(word.into()).or_default() += 2;
    }
    let found: Vec<(String, u64)> = read(csv(scratch.pattern("out/*")), 1).expect("the counts are read");
    assert_eq!(found.len(), expected.len());
    assert_eq!(BTreeMap::from_iter(found), expected);
}

#[test]
fn the_custom_source_reads_its_file_in_parts() {
    let scratch = Scratch::new("readings");
    let mut bytes = Vec::new();
    for index in 0..1000_u64 {
        bytes.extend((index % 3).to_le_bytes());
        bytes.extend((index as f64).to_le_bytes());
    }
    let path = scratch.write("readings.bin", &bytes);
    let found = custom_source::sum_up(&environment(3), &path).expect("the job runs");
    let expected = [
        (0, (334, 999.0, 499.5)),
        (1, (333, 997.0, 499.0)),
        (2, (333, 998.0, 500.0)),
    ];
    assert_eq!(found, expected);

    scratch.write("readings.bin", &bytes[..100]);
    let error = custom_source::sum_up(&environment(3), &path).expect_err("a reading is cut");
    assert_eq!(
        scratch.mask(&error.to_string()),
        "\"DIR/readings.bin\" has 100 bytes, which is no multiple of 16, the size of a reading"
    );
}

#[test]
fn the_custom_sink_writes_whole_lines() {
    let to = Arc::new(Mutex::new(Vec::new()));
    custom_sink::write_orders(&environment(3), 3000, to.clone()).expect("the job runs");
    let text = String::from_utf8(to.lock().expect("nobody panicked").clone()).expect("text");
    let mut ids = Vec::new();
    for line in text.lines() {
        let order: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let id = order["id"].as_u64().expect("a number");
        assert_eq!(
            order["count"].as_u64(),
            (!id.is_multiple_of(4)).then_some(id % 4),
            "{line}"
        );
        assert_eq!(
            order["item"],
            ["bread", "\"good\" cheese", "wine"][id as usize % 3]
        );
        ids.push(id);
    }
    ids.sort();
    assert_eq!(ids, (0..3000).collect::<Vec<_>>());
}
