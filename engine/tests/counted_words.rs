//! Strings counted by key: what a `flat_map` emits is counted before it is a row where that is possible, and the results are
//! those of a map, whatever the words are.

use forebay::aggregate::{count, sum};
use forebay::operator::Collector;
use forebay::record::{first, itself, second};
use forebay::source::generate;
use forebay::{Environment, JobSummary, Mode, Runtime};
use forebay_memory::Plan;
use forebay_memory::hash::hash_u64;
use std::collections::BTreeMap;

fn environment(managed: usize, mode: Mode, parallelism: usize) -> Environment {
    let plan = Plan::with_segments(managed, 256, 4096).expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
        .with_mode(mode)
        .with_parallelism(parallelism)
}

/// A word of up to 40 bytes: some often, most rarely, some that differ in zeros at their ends alone, some that are not ASCII.
fn word(index: u64) -> String {
    let draw = hash_u64(index + 1);
    let number = match draw % 4 {
        0 => draw >> 8 & 0xfff,
        _ => draw >> 8 & 0x1f,
    };
    let size = (number % 41) as usize;
    match number % 5 {
        0 => "\0".repeat(size),
        1 => "é".repeat(size / 2),
        _ => format!("{number:x}{number:0<40}")[..size].into(),
    }
}

const WORDS_A_LINE: u64 = 100;

/// A job that counts the words of so many lines, and what it has been given, by operator.
fn counted(
    environment: &Environment,
    lines: u64,
    word: fn(u64) -> String,
) -> (Vec<(String, u64)>, JobSummary) {
    let counts = environment
        .source("lines", generate(lines, |line| line))
        .flat_map(move |line: u64, out: &mut Collector<'_, String>| {
            for index in line * WORDS_A_LINE..(line + 1) * WORDS_A_LINE {
                out.push(&word(index));
            }
        })
        .key_by(itself())
        .count()
        .collect();
    let summary = environment.execute("words").expect("the job runs");
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    (counts.take(), summary)
}

fn expected(lines: u64, word: fn(u64) -> String) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    (0..lines * WORDS_A_LINE).for_each(|index| *counts.entry(word(index)).or_default() += 1);
    counts
}

fn given(summary: &JobSummary, kind: &str) -> u64 {
    let operators = summary.tasks.iter().flat_map(|task| &task.operators);
    operators
        .filter(|operator| operator.name.starts_with(kind))
        .map(|operator| operator.records_in)
        .sum()
}

#[test]
fn words_of_every_length_are_counted() {
    let expected = expected(300, word);
    for (mode, parallelism, managed) in [
        (Mode::Batch, 1, 64),
        (Mode::Batch, 2, 200),
        (Mode::Batch, 3, 64),
        (Mode::Streaming, 2, 64),
    ] {
        let (counts, summary) = counted(&environment(managed, mode, parallelism), 300, word);
        assert_eq!(given(&summary, "local"), 300 * WORDS_A_LINE, "{summary}");
        let answers = counts.len() as u64;
        // Updates of a word come in order, so the last one is its count.
        let counts: BTreeMap<String, u64> = counts.into_iter().collect();
        assert!(counts == expected, "{mode:?}, {parallelism} subtasks");
        match mode {
            Mode::Streaming => assert_eq!(answers, 300 * WORDS_A_LINE),
            _ => assert_eq!(answers, expected.len() as u64),
        }
    }
}

/// Past the sample the tables step aside, in the middle of what one batch becomes.
#[test]
fn words_that_do_not_come_again_are_counted_too() {
    let new = |index: u64| format!("{index}");
    let lines = 5_010;
    let (counts, summary) = counted(&environment(2_000, Mode::Batch, 1), lines, new);
    assert_eq!(given(&summary, "local"), lines * WORDS_A_LINE);
    let counts: BTreeMap<String, u64> = counts.into_iter().collect();
    assert!(counts == expected(lines, new));
}

/// More than is kept while views are taken.
#[test]
fn one_call_may_emit_many_words() {
    let environment = environment(64, Mode::Batch, 2);
    let counts = environment
        .source("one", generate(1, |one| one))
        .flat_map(|_: u64, out: &mut Collector<'_, String>| {
            for index in 0..50_000u64 {
                out.push(&format!("{}", index % 20_000));
            }
        })
        .key_by(itself())
        .count()
        .collect();
    environment.execute("words").expect("the job runs");
    let counts = counts.take();
    assert_eq!(counts.len(), 20_000);
    for (word, count) in counts {
        let number: u64 = word.parse().expect("words are numbers");
        assert_eq!(count, if number < 10_000 { 3 } else { 2 }, "{word}");
    }
}

#[test]
fn aggregates_that_read_rows_get_them() {
    let environment = environment(64, Mode::Batch, 2);
    let sums = environment
        .source("numbers", generate(10_000, |number| number))
        .flat_map(|number: u64, out: &mut Collector<'_, (String, i64)>| {
            out.push((&format!("word {}", number % 7), number as i64));
        })
        .key_by(first())
        .aggregate((count(), sum(second())))
        .collect();
    environment.execute("sums").expect("the job runs");
    let mut expected: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for number in 0..10_000 {
        let entry = expected.entry(format!("word {}", number % 7)).or_default();
        *entry = (entry.0 + 1, entry.1 + number);
    }
    assert_eq!(sums.take().into_iter().collect::<BTreeMap<_, _>>(), expected);
}

/// Keys of several fields, and records of which the key is a part.
#[test]
fn keys_that_are_not_one_string_are_counted() {
    let environment = environment(64, Mode::Batch, 2);
    let counts = environment
        .source("numbers", generate(10_000, |number| number))
        .flat_map(|number: u64, out: &mut Collector<'_, (u32, (u16, String))>| {
            out.push((number as u32 % 50, (number as u16 % 3, "unread")));
        })
        .map(|(number, (rest, text))| (number, rest, String::from(text)))
        .key_by((first(), second()))
        .count()
        .collect();
    environment.execute("counts").expect("the job runs");
    let mut expected: BTreeMap<(u32, u16), u64> = BTreeMap::new();
    (0..10_000u32).for_each(|number| *expected.entry((number % 50, number as u16 % 3)).or_default() += 1);
    assert_eq!(counts.take().into_iter().collect::<BTreeMap<_, _>>(), expected);
}

/// A message names the record, also where others before it never were rows.
#[test]
fn a_row_that_is_too_large_is_named_by_its_number() {
    let environment = environment(64, Mode::Batch, 1);
    environment
        .source("one", generate(1, |one| one))
        .flat_map(|_: u64, out: &mut Collector<'_, String>| {
            (0..10).for_each(|_| out.push("short"));
            out.push(&"long".repeat(1 << 20));
        })
        .key_by(itself())
        .count()
        .blackhole();
    let error = environment.execute("words").expect_err("the row is refused");
    assert!(error.to_string().contains("position 11"), "{error}");
}
