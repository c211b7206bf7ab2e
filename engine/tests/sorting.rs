//! Sorted streams against `std`'s sort: orders, budgets, parallelism, records of all sizes, faults.

use forebay::record::{Record, SortFields, first, fourth, itself, second, third};
use forebay::simulator::Random;
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, from_items};
use forebay::{Environment, ErrorKind, Mode, Result, Runtime};
use forebay_memory::{Plan, SegmentSource};
use std::cmp::Reverse;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn environment(managed: usize, record_size: usize) -> Environment {
    let plan =
        Plan::with_segments_for(managed, 512, 4096, record_size).expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
}

fn check_returned(environment: &Environment) {
    assert_eq!(
        environment.runtime().manager().outstanding(),
        0,
        "segments are out"
    );
    assert_eq!(
        environment.runtime().spill().used_bytes(),
        0,
        "spill space is in use"
    );
}

/// Sorts records by fields, and compares with `std`'s stable sort by `key`, which must be of the same order and decide it.
fn check<R, F, K>(
    records: Vec<R>,
    fields: F,
    key: impl Fn(&R) -> K,
    parallelism: usize,
    managed: usize,
) -> u64
where
    R: Record + Clone + PartialEq + Debug,
    F: SortFields<R>,
    K: Ord,
{
    let environment = environment(managed, 2 * 4096).with_parallelism(parallelism);
    let sorted = environment
        .source("records", from_items(records.clone()))
        .rebalance()
        .sort_by(fields)
        .collect();
    let summary = environment.execute("sort").expect("the job runs");
    let mut expected = records;
    expected.sort_by_key(key);
    let sorted = sorted.take();
    assert_eq!(sorted.len(), expected.len());
    let differs = sorted
        .iter()
        .zip(&expected)
        .position(|(left, right)| left != right);
    if let Some(at) = differs {
        panic!("record {at} is {:?}, and not {:?}", sorted[at], expected[at]);
    }
    check_returned(&environment);
    summary.spilled_bytes_written()
}

fn pairs(count: u64, keys: u64) -> Vec<(u64, i64)> {
    let mut random = Random::new(count ^ keys);
    (0..count)
        .map(|_| (random.next_u64() % keys, random.next_u64() as i64 % 1000))
        .collect()
}

#[test]
fn pairs_come_in_order_in_any_budget_and_parallelism() {
    for parallelism in [1, 2, 3, 5] {
        for managed in [8, 9, 12, 20, 400] {
            let records = pairs(20_000, 1 << 40);
            let managed = managed * parallelism;
            let spilled = check(records, (first(), second()), |pair| *pair, parallelism, managed);
            // Rows are 79 segments, and are their own items. In each subtask there may be one that is filled in part, one to write runs
            // with, some to sort with, and more rows than in another: whether so many are there depends on who comes first.
            let (rows, others) = (79, 8 * parallelism);
            if managed < rows || managed >= rows + others {
                assert_eq!(
                    spilled > 0,
                    managed < rows,
                    "{managed} segments, parallelism {parallelism}"
                );
            }
        }
    }
}

/// Numbers in no order are shared out by their highest bits where these divide them; where they do not, parts are of one size all the same.
#[test]
fn numbers_in_memory_are_shared_out_in_parts_of_about_one_size() {
    for parallelism in [2, 3, 4] {
        for shape in 0..6 {
            let mut random = Random::new(shape);
            let records: Vec<u64> = (0..60_000u64)
                .map(|number| {
                    let value = random.next_u64();
                    match shape {
                        0 => value,
                        1 => value >> 40 | 1 << 50,
                        // Nearly all in one bucket.
                        2 if number % 1000 > 0 => value >> 50,
                        3 => value % 5,
                        // Half of them in one.
                        4 if number % 2 > 0 => value >> 20,
                        5 => number,
                        _ => value,
                    }
                })
                .collect();
            // With and without memory to distribute them.
            for managed in [200 * parallelism, 400 * parallelism] {
                let environment = environment(managed, 4096).with_parallelism(parallelism);
                let sorted = environment
                    .source("numbers", from_items(records.clone()))
                    .rebalance()
                    .sort_by(itself())
                    .collect();
                let summary = environment.execute("sort").expect("the job runs");
                let mut expected = records.clone();
                expected.sort_unstable();
                let case = format!("shape {shape}, parallelism {parallelism}, {managed} segments");
                assert!(sorted.take() == expected, "{case}");
                assert_eq!(summary.spilled_bytes_written(), 0, "{case}");
                let sent: Vec<u64> = summary
                    .tasks
                    .iter()
                    .flat_map(|task| task.operators.iter().find(|operator| operator.name == "collect"))
                    .map(|operator| operator.records_in)
                    .collect();
                let average = 60_000 / parallelism as u64;
                let most = average + average / 7;
                assert!(sent.iter().all(|sent| *sent <= most), "{case}: {sent:?}");
                // Runs that are merged are divided at rows, into parts of all but one size; what is shared out, at the ends of buckets.
                let is_merged = sent.iter().all(|sent| sent.abs_diff(average) < 10);
                if shape < 4 {
                    assert_eq!(is_merged, shape >= 2, "{case}: {sent:?}");
                }
                check_returned(&environment);
            }
        }
    }
}

/// Where some have left memory, what has not is shared out still, and merged with the runs; `numbers_are_shared_out_where_some_have_left`
/// in `memory/tests/sort_spilled.rs` sees that it is.
#[test]
fn numbers_of_which_some_are_spilled_come_in_order() {
    for (parallelism, records) in [(2, 270_000), (2, 300_000), (4, 300_000)] {
        let mut random = Random::new(records);
        let records: Vec<u64> = (0..records).map(|_| random.next_u64()).collect();
        let spilled = check(records, itself(), |number| *number, parallelism, 500);
        assert!(spilled > 0, "rows are over 527 segments");
    }
}

#[test]
fn records_of_few_keys_or_one_are_divided_among_subtasks() {
    for keys in [1, 2, 10] {
        for managed in [32, 1000] {
            let environment = environment(managed, 4096).with_parallelism(4);
            let tagged = environment
                .source("pairs", from_items(pairs(20_000, keys)))
                .rebalance()
                .sort_by(first())
                .collect();
            let summary = environment.execute("sort").expect("the job runs");
            let sorted = tagged.take();
            assert!(sorted.is_sorted_by_key(|pair| pair.0));
            let (mut sorted, mut expected) = (sorted, pairs(20_000, keys));
            sorted.sort();
            expected.sort();
            assert!(
                sorted == expected,
                "{keys} keys, {managed} segments: records differ"
            );
            let sent: Vec<u64> = summary
                .tasks
                .iter()
                .flat_map(|task| task.operators.iter().find(|operator| operator.name == "collect"))
                .map(|operator| operator.records_in)
                .collect();
            assert_eq!(sent.iter().sum::<u64>(), 20_000);
            assert!(
                sent.iter().all(|sent| (4_000..6_000).contains(sent)),
                "{keys} keys, {managed} segments: {sent:?}"
            );
            check_returned(&environment);
        }
    }
}

#[test]
fn narrow_rows_are_sorted_as_what_they_are() {
    let mut random = Random::new(11);
    let words: Vec<u64> = (0..10_000)
        .map(|_| random.next_u64() >> random.below(60))
        .collect();
    fn of<T>(words: &[u64], make: impl Fn(u64) -> T) -> Vec<T> {
        words.iter().map(|word| make(*word)).collect()
    }
    for (parallelism, managed) in [(1, 8), (2, 24), (3, 300)] {
        let at = (parallelism, managed);
        check(of(&words, |word| word), itself(), |word| *word, at.0, at.1);
        let signed = of(&words, |word| word as i64);
        check(
            signed.clone(),
            itself::<i64>().descending(),
            |word| Reverse(*word),
            at.0,
            at.1,
        );
        check(signed, itself(), |word| *word, at.0, at.1);
        check(of(&words, |word| word as u32), itself(), |word| *word, at.0, at.1);
        let small = of(&words, |word| word as i16);
        check(
            small,
            itself::<i16>().descending(),
            |word| Reverse(*word),
            at.0,
            at.1,
        );
        check(of(&words, |word| word as i8), itself(), |word| *word, at.0, at.1);
        check(
            of(&words, |word| word % 3 == 0),
            itself(),
            |word| *word,
            at.0,
            at.1,
        );
        // A key and what is left of the row.
        let halves = of(&words, |word| (word as i32, (word >> 5) as u32));
        let key = |half: &(i32, u32)| (half.1, half.0);
        check(halves, (second(), first()), key, at.0, at.1);
        let pairs = of(&words, |word| (word % 1000, -(word as i64)));
        let key = |pair: &(u64, i64)| (Reverse(pair.1), pair.0);
        check(
            pairs.clone(),
            (second::<(u64, i64)>().descending(), first()),
            key,
            at.0,
            at.1,
        );
        check(pairs.clone(), (first(), second()), |pair| *pair, at.0, at.1);
        // Equal keys: the multiset is what counts, and the order of the keys.
        let environment = environment(at.1, 8192).with_parallelism(at.0);
        let sorted = environment
            .source("pairs", from_items(pairs.clone()))
            .sort_by(first())
            .collect();
        environment.execute("sort").expect("the job runs");
        let mut sorted = sorted.take();
        assert!(sorted.is_sorted_by_key(|pair| pair.0));
        let mut expected = pairs;
        sorted.sort();
        expected.sort();
        assert!(sorted == expected);
    }
}

#[test]
fn rows_are_compared_where_they_lie() {
    let mut random = Random::new(12);
    let bytes = |random: &mut Random, most: usize| -> Vec<u8> {
        let letters = [0, 1, b'a', b'b', 255];
        let size = random.below(most + 1);
        (0..size).map(|_| letters[random.below(letters.len())]).collect()
    };
    let texts: Vec<(Vec<u8>, u32, Vec<u8>)> = (0..6000)
        .map(|number| (bytes(&mut random, 12), number % 7, bytes(&mut random, 3)))
        .collect();
    type Text = (Vec<u8>, u32, Vec<u8>);
    let arrays: Vec<([u8; 10], u64, [u8; 3])> = (0..6000u64)
        .map(|number| {
            let mut key = [b'k'; 10];
            key[random.below(10)] = random.below(256) as u8;
            (key, number % 50, [random.below(3) as u8, 7, (number % 256) as u8])
        })
        .collect();
    type Array = ([u8; 10], u64, [u8; 3]);
    for (parallelism, managed) in [(1, 14), (2, 60), (2, 1000)] {
        let at = (parallelism, managed);
        let fields = (first::<Text>(), third(), second());
        let key = |row: &Text| (row.0.clone(), row.2.clone(), row.1);
        check(texts.clone(), fields, key, at.0, at.1);
        let fields = (
            first::<Text>().descending(),
            second::<Text>().descending(),
            third(),
        );
        let key = |row: &Text| (Reverse(row.0.clone()), Reverse(row.1), row.2.clone());
        check(texts.clone(), fields, key, at.0, at.1);
        let fields = (second::<Text>(), third::<Text>().descending(), first());
        let key = |row: &Text| (row.1, Reverse(row.2.clone()), row.0.clone());
        check(texts.clone(), fields, key, at.0, at.1);
        check(
            arrays.clone(),
            (first::<Array>(), second(), third()),
            |row| *row,
            at.0,
            at.1,
        );
        let fields = (
            third::<Array>().descending(),
            first::<Array>().descending(),
            second(),
        );
        let key = |row: &Array| (Reverse(row.2), Reverse(row.0), row.1);
        check(arrays.clone(), fields, key, at.0, at.1);
    }
}

#[test]
fn the_first_records_are_those_of_the_whole_order() {
    for parallelism in [1, 3] {
        for (count, managed) in [
            (0, 40),
            (1, 40),
            (100, 150),
            (3000, 60),
            (15_000, 60),
            (50_000, 60),
        ] {
            let environment = environment(managed * parallelism, 8192).with_parallelism(parallelism);
            let records = pairs(20_000, 5000);
            let source = environment
                .source("pairs", from_items(records.clone()))
                .rebalance();
            let (numbers, texts) = source.fork();
            let top = numbers
                .top(count, (second::<(u64, i64)>().descending(), first()))
                .collect();
            let texts = texts
                .map(|pair| (format!("{:>300}", pair.1), pair.0))
                .top(count.min(3000), (first(), second()))
                .collect();
            let summary = environment.execute("top").expect("the job runs");
            let mut expected = records.clone();
            expected.sort_by_key(|pair| (Reverse(pair.1), pair.0));
            expected.truncate(count as usize);
            assert!(top.take() == expected, "the first {count}, {managed} segments");
            let mut expected: Vec<_> = records
                .iter()
                .map(|pair| (format!("{:>300}", pair.1), pair.0))
                .collect();
            expected.sort();
            expected.truncate(count.min(3000) as usize);
            let texts = texts.take();
            if let Some(at) = (0..expected.len()).find(|at| texts.get(*at) != expected.get(*at)) {
                panic!(
                    "the first {count} texts, {managed} segments, parallelism {parallelism}: {} of {}, {at}: {:?} for {:?}\n{summary}",
                    texts.len(),
                    expected.len(),
                    texts.get(at),
                    expected[at]
                );
            }
            assert_eq!(texts.len(), expected.len());
            if count <= 100 {
                assert_eq!(
                    summary.spilled_bytes_written(),
                    0,
                    "the first {count}, {managed} segments, parallelism {parallelism}: what is not kept is not spilled\n{summary}"
                );
            }
            check_returned(&environment);
        }
    }
}

/// A record with everything that orders have trouble with.
type Mixed = (Option<f64>, Option<String>, i32, bool);

fn mixed(count: usize) -> Vec<Mixed> {
    let mut random = Random::new(7);
    let number = |random: &mut Random| match random.below(8) {
        0 => None,
        1 => Some(f64::NAN),
        2 => Some(-0.0),
        3 => Some(0.0),
        4 => Some(f64::NEG_INFINITY),
        _ => Some(random.below(20) as f64 - 10.0),
    };
    let text = |random: &mut Random| match random.below(6) {
        0 => None,
        1 => Some(String::new()),
        2 => Some("the same sixteen bytes".to_string() + &"\0".repeat(random.below(3))),
        3 => Some("\0".repeat(random.below(3))),
        _ => Some(format!("the same sixteen bytes{}", random.below(50))),
    };
    (0..count)
        .map(|index| {
            (
                number(&mut random),
                text(&mut random),
                index as i32 - 5000,
                random.happens(2),
            )
        })
        .collect()
}

/// A float as an integer of its order: every NaN after every number, and zeros alike.
fn rank(number: f64) -> i64 {
    match number {
        number if number.is_nan() => i64::MAX,
        0.0 => 0,
        number => {
            let bits = number.to_bits() as i64;
            if bits < 0 {
                i64::MIN.wrapping_sub(bits)
            } else {
                bits
            }
        }
    }
}

/// A record as text: NaN is not equal to itself.
fn check_mixed<F, K>(fields: F, key: impl Fn(&Mixed) -> K, managed: usize)
where
    F: SortFields<Mixed>,
    K: Ord,
{
    let records = mixed(6000);
    let environment = environment(managed, 8192).with_parallelism(2);
    let sorted = environment
        .source("records", from_items(records.clone()))
        .rebalance()
        .sort_by(fields)
        .collect();
    environment.execute("sort").expect("the job runs");
    let mut expected = records;
    expected.sort_by_key(key);
    let (sorted, text) = (sorted.take(), |records: &[Mixed]| format!("{records:?}"));
    assert!(text(&sorted) == text(&expected), "{fields:?}, {managed} segments");
}

#[test]
fn nulls_nans_zeros_and_directions_mix() {
    let (number, text, index, flag) = (
        first::<Mixed>(),
        second::<Mixed>(),
        third::<Mixed>(),
        fourth::<Mixed>(),
    );
    for managed in [40, 2000] {
        let rank_of = |record: &Mixed| record.0.map(rank);
        check_mixed((number, index), |record| (rank_of(record), record.2), managed);
        check_mixed(
            (number.descending().nulls_last(), index.descending()),
            |record| (record.0.is_none(), Reverse(rank_of(record)), Reverse(record.2)),
            managed,
        );
        check_mixed(
            (flag.descending(), text, index),
            |record| (!record.3, record.1.clone(), record.2),
            managed,
        );
        check_mixed(
            (text.descending(), number.ascending().nulls_last(), index),
            |record| {
                let text = record.1.clone().map(Reverse);
                (text, record.0.is_none(), rank_of(record), record.2)
            },
            managed,
        );
    }
}

#[test]
fn records_from_one_byte_to_many_segments_come_in_order() {
    let mut random = Random::new(3);
    let sizes = [1, 10, 100, 1000, 4000, 5000, 9000, 20_000];
    let records: Vec<(String, u64)> = (0..600)
        .map(|index| {
            let size = sizes[random.below(sizes.len())];
            let letter = char::from(b'a' + random.below(3) as u8);
            (letter.to_string().repeat(size), index)
        })
        .collect();
    for (parallelism, managed) in [(1, 30), (1, 40), (2, 64), (3, 100), (2, 3000)] {
        let environment = environment(managed, 24 << 10).with_parallelism(parallelism);
        let sorted = environment
            .source("records", from_items(records.clone()))
            .rebalance()
            .sort_by((first(), second()))
            .collect();
        let summary = environment.execute("sort").expect("the job runs");
        let mut expected = records.clone();
        expected.sort();
        assert!(
            sorted.take() == expected,
            "{managed} segments, parallelism {parallelism}"
        );
        assert_eq!(summary.spilled_bytes_written() > 0, managed < 3000);
        check_returned(&environment);
    }
}

#[test]
fn a_function_gives_the_key_and_streaming_mode_the_same() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let environment = environment(64, 4096).with_parallelism(2).with_mode(mode);
        let sorted = environment
            .source("pairs", from_items(pairs(5000, 1000)))
            .sort_by_key_fn(|pair| (pair.1.unsigned_abs() % 100, pair.0, pair.1))
            .collect();
        environment.execute("sort").expect("the job runs");
        let mut expected = pairs(5000, 1000);
        expected.sort_by_key(|pair| (pair.1.unsigned_abs() % 100, pair.0, pair.1));
        assert!(sorted.take() == expected, "{mode:?}");
    }
}

/// A source that has nothing, for ever.
struct Endless;

impl Source for Endless {
    type Out = u64;
    type Split = ();
    type Reader = Endless;

    fn splits(&self, _: usize) -> Result<Vec<()>> {
        Ok(vec![()])
    }

    fn reader(&self, _: ()) -> Result<Endless> {
        Ok(Endless)
    }

    fn is_bounded(&self) -> bool {
        false
    }
}

impl SourceReader for Endless {
    type Out = u64;

    fn poll(&mut self, _: &mut SourceOutput<'_, '_, u64>) -> Result<SourceStatus> {
        Ok(SourceStatus::Idle(None))
    }
}

#[test]
fn a_stream_that_does_not_end_is_refused_when_the_job_is_planned() {
    let environment = environment(64, 4096);
    let numbers = environment.source("few", from_items(vec![1u64]));
    environment
        .source("ticks", Endless)
        .map(|tick| tick + 1)
        .name("later")
        .union(numbers)
        .sort_by(itself())
        .name("by value")
        .blackhole();
    let error = environment.execute("sort").expect_err("it never ends");
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(
        message.contains("\"by value\"") && message.contains("\"ticks\""),
        "{message}"
    );
}

#[test]
fn a_panic_in_a_key_function_leaves_nothing() {
    let environment = environment(64, 4096).with_parallelism(2);
    environment
        .source("pairs", from_items(pairs(20_000, 1 << 30)))
        .sort_by_key_fn(|pair| {
            assert!(pair.0 % 5003 != 17, "this key is refused");
            pair.1
        })
        .blackhole();
    let error = environment.execute("sort").expect_err("a key is refused");
    assert_eq!(error.kind(), ErrorKind::User, "{error}");
    check_returned(&environment);
}

#[test]
fn memory_that_others_take_and_give_back_while_runs_are_merged_does_not_fail_the_job() {
    let records = pairs(40_000, 1 << 40);
    for round in 0..8 {
        let environment = environment(120, 2 * 4096).with_parallelism(4);
        let sorted = environment
            .source("records", from_items(records.clone()))
            .rebalance()
            .sort_by((first(), second()))
            .collect();
        let rival = environment.runtime().manager().budget("rival", 1, 110);
        let rival = rival.expect("one segment is to be had");
        let is_over = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let taken: Vec<_> = std::iter::from_fn(|| rival.try_take()).collect();
                    rival.withdraw();
                    drop(taken);
                }
            });
            let result = environment.execute("sort");
            is_over.store(true, Ordering::Relaxed);
            result
        });
        result.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(sorted.take().is_sorted(), "round {round}");
        drop(rival);
        check_returned(&environment);
    }
}

#[test]
fn runs_are_merged_with_the_minimum_where_others_keep_the_rest() {
    let records = pairs(40_000, 1 << 40);
    let environment = environment(2000, 2 * 4096).with_parallelism(2);
    let sorted = environment
        .source("records", from_items(records.clone()))
        .rebalance()
        .sort_by((first(), second()))
        .collect();
    let rival = environment.runtime().manager().budget("rival", 1, 2000);
    let rival = rival.expect("one segment is to be had");
    let is_over = AtomicBool::new(false);
    let mut taken: Vec<_> = std::iter::from_fn(|| rival.try_take()).take(1900).collect();
    let manager = environment.runtime().manager().clone();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            // What it takes before the sort has its budgets, the job would have to wait for in vain.
            while manager.budget_stats().len() < 3 && !is_over.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            while !is_over.load(Ordering::Relaxed) {
                taken.extend(rival.try_take());
                rival.withdraw();
            }
        });
        let result = environment.execute("sort");
        is_over.store(true, Ordering::Relaxed);
        result
    });
    result.expect("its minimum is enough");
    let sorted = sorted.take();
    assert!(sorted.len() == records.len() && sorted.is_sorted());
    drop((taken, rival));
    check_returned(&environment);
}

/// Two splits, each read by a subtask of its own: nobody has rows before both were begun.
#[derive(Clone)]
struct Skewed {
    splits: [Vec<(u64, i64)>; 2],
    begun: Arc<AtomicUsize>,
}

struct SkewedReader {
    rows: std::vec::IntoIter<(u64, i64)>,
    begun: Arc<AtomicUsize>,
}

impl Source for Skewed {
    type Out = (u64, i64);
    type Split = usize;
    type Reader = SkewedReader;

    fn splits(&self, _: usize) -> Result<Vec<usize>> {
        Ok(vec![0, 1])
    }

    fn reader(&self, split: usize) -> Result<SkewedReader> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(SkewedReader {
            rows: self.splits[split].clone().into_iter(),
            begun: self.begun.clone(),
        })
    }
}

impl SourceReader for SkewedReader {
    type Out = (u64, i64);

    fn poll(&mut self, output: &mut SourceOutput<'_, '_, (u64, i64)>) -> Result<SourceStatus> {
        if self.begun.load(Ordering::Relaxed) < 2 {
            return Ok(SourceStatus::More);
        }
        for (key, value) in self.rows.by_ref().take(100) {
            output.push((key, value));
        }
        Ok(match self.rows.len() {
            0 => SourceStatus::Done,
            _ => SourceStatus::More,
        })
    }
}

/// Before subtasks merge, those that hold more than their share let rows leave: no more than are missing in all, where one has most of the
/// rows, and where others have a share of the memory that they do not use. The subtasks have 120 segments at most, and keep 7 of these
/// for merging; 256 rows are in a segment.
#[test]
fn rows_of_uneven_subtasks_leave_only_where_memory_is_missing() {
    for (segments, rival, most_spilled) in [
        // The first has some more than there is room for: a sixteenth of them leaves at a time, twice as many the second time.
        ([118, 20], false, 28),
        ([118, 90], false, 28),
        ([118, 20], true, 28),
        ([118, 90], true, 28),
        ([90, 118], true, 28),
        // Nothing leaves but for that.
        ([80, 90], true, 0),
    ] {
        let case = format!("{segments:?} segments of rows, rival {rival}");
        let rows = pairs(256 * (segments[0] + segments[1]), 1 << 60);
        let (first_rows, second_rows) = rows.split_at(256 * segments[0] as usize);
        let source = Skewed {
            splits: [first_rows.to_vec(), second_rows.to_vec()],
            begun: Arc::default(),
        };
        let environment = environment(240, 2 * 4096).with_parallelism(2);
        let sorted = environment
            .source("records", source)
            .sort_by((first(), second()))
            .collect();
        // A third of the memory is its share.
        let rival = rival.then(|| {
            let rival = environment.runtime().manager().budget("rival", 1, 240);
            rival.expect("one segment is to be had")
        });
        let summary = environment
            .execute("sort")
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let spilled = summary.spilled_bytes_written();
        assert!(
            spilled.div_ceil(4096) <= most_spilled && (spilled > 0) == (most_spilled > 0),
            "{case}: {spilled} bytes were spilled"
        );
        let mut expected = rows;
        expected.sort_unstable();
        assert!(sorted.take() == expected, "{case}");
        drop(rival);
        check_returned(&environment);
    }
}
