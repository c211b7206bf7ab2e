//! Whole jobs over every exchange and mode, compared with plain computations.

use forebay::aggregate::{avg, count, max, min, sum};
use forebay::metrics::TaskSnapshot;
use forebay::operator::{Collector, Group};
use forebay::record::{first, itself, second};
use forebay::source::{from_items, generate};
use forebay::{Environment, ErrorKind, JobStatus, Mode, Runtime};
use forebay_memory::Plan;
use std::collections::BTreeMap;

fn environment(managed: usize, segment_size: usize) -> Environment {
    let plan = Plan::with_segments(managed, 256, segment_size).expect("the test's sizes make a plan");
    environment_of(plan)
}

/// One whose records may have `record_size` bytes.
fn environment_for(managed: usize, record_size: usize) -> Environment {
    let plan =
        Plan::with_segments_for(managed, 256, 4096, record_size).expect("the test's sizes make a plan");
    environment_of(plan)
}

fn environment_of(plan: Plan) -> Environment {
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
}

fn pair(index: u64) -> (u64, i64) {
    let hash = forebay_memory::hash::hash_u64(index + 1);
    (hash % 1000, (hash >> 40) as i64 & 1023)
}

#[test]
fn maps_filters_and_collects() {
    let environment = environment(64, 4096).with_parallelism(2);
    let even = environment
        .source("numbers", generate(10_000, |index| index))
        .filter(|number| number % 2 == 0)
        .map(|number| number * 10)
        .collect();
    environment.execute("even").expect("the job runs");
    let mut even = even.take();
    even.sort();
    assert_eq!(
        even,
        (0..10_000)
            .filter(|n| n % 2 == 0)
            .map(|n| n * 10)
            .collect::<Vec<_>>()
    );
}

#[test]
fn sums_by_key_in_both_modes() {
    for (mode, parallelism) in [
        (Mode::Batch, 1),
        (Mode::Batch, 2),
        (Mode::Streaming, 2),
        (Mode::Batch, 3),
    ] {
        let environment = environment(64, 4096)
            .with_parallelism(parallelism)
            .with_mode(mode);
        let sums = environment
            .source("pairs", generate(50_000, pair))
            .key_by(first())
            .aggregate((
                count(),
                sum(second()),
                min(second()),
                max(second()),
                avg(second()),
            ))
            .collect();
        environment.execute("sums").expect("the job runs");
        let mut expected: BTreeMap<u64, (u64, i64, i64, i64)> = BTreeMap::new();
        for (key, value) in (0..50_000).map(pair) {
            let entry = expected.entry(key).or_insert((0, 0, i64::MAX, i64::MIN));
            *entry = (
                entry.0 + 1,
                entry.1 + value,
                entry.2.min(value),
                entry.3.max(value),
            );
        }
        let mut results = BTreeMap::new();
        let mut updates = 0;
        // Updates of a key come in order: the last one is the final result.
        for (key, (count, sum, min, max, avg)) in sums.take() {
            updates += 1;
            assert_eq!(avg, sum as f64 / count as f64);
            let last = results.insert(key, (count, sum, min, max));
            assert!(last.is_none_or(|last: (u64, i64, i64, i64)| last.0 < count));
        }
        assert_eq!(results, expected, "{mode:?}, parallelism {parallelism}");
        assert_eq!(updates, if mode == Mode::Streaming { 50_000 } else { 1000 });
    }
}

#[test]
fn a_small_budget_spills_and_gives_the_same() {
    for (mode, managed) in [
        (Mode::Batch, 16),
        (Mode::Streaming, 16),
        (Mode::Batch, 40),
        (Mode::Streaming, 100),
    ] {
        let environment = environment(managed, 4096).with_parallelism(2).with_mode(mode);
        let count = 60_000u64;
        let sums = environment
            .source("pairs", generate(count, |index| (index % 20_011, index as i64)))
            .key_by(first())
            .sum(second())
            .collect();
        let summary = environment.execute("sums").expect("the job runs");
        assert!(summary.spilled_bytes_written() > 0, "{summary}");
        let mut expected: BTreeMap<u64, i64> = BTreeMap::new();
        (0..count).for_each(|index| *expected.entry(index % 20_011).or_default() += index as i64);
        let results: BTreeMap<u64, i64> = sums.take().into_iter().collect();
        assert!(results == expected, "{mode:?}, {managed} segments");
        assert_eq!(environment.runtime().manager().outstanding(), 0);
        assert_eq!(environment.runtime().spill().used_bytes(), 0);
    }
}

#[test]
fn unions_forks_broadcasts_and_rebalances() {
    let environment = environment(64, 4096).with_parallelism(2);
    let (left, right) = environment
        .source("numbers", generate(1000, |index| index))
        .fork();
    let all = left
        .union(right.map(|number| number + 1000))
        .rebalance()
        .map(|n| n)
        .name("shift")
        .parallelism(3);
    let everywhere = all
        .broadcast()
        .map(|n| n)
        .name("everywhere")
        .parallelism(2)
        .collect();
    environment.execute("shapes").expect("the job runs");
    let mut everywhere = everywhere.take();
    everywhere.sort();
    assert_eq!(everywhere, (0..2000).flat_map(|n| [n, n]).collect::<Vec<_>>());
}

#[test]
fn strings_and_flat_maps() {
    let environment = environment(64, 4096).with_parallelism(2);
    let lines: Vec<String> = (0..500)
        .map(|n| format!("line {n} of text {}", "x".repeat(n % 50)))
        .collect();
    let words = environment
        .source("lines", from_items(lines.clone()))
        .flat_map(|line: &str, out: &mut forebay::operator::Collector<'_, String>| {
            line.split(' ').for_each(|word| out.push(word));
        })
        .rebalance()
        .collect();
    environment.execute("words").expect("the job runs");
    let mut words = words.take();
    words.sort();
    let mut expected: Vec<String> = lines
        .iter()
        .flat_map(|line| line.split(' '))
        .map(String::from)
        .collect();
    expected.sort();
    assert_eq!(words, expected);
}

#[test]
fn records_larger_than_a_segment_pass_every_exchange() {
    let environment = environment_for(64, 64 << 10).with_parallelism(2);
    let lengths = environment
        .source(
            "texts",
            generate(50, |index| (index, "y".repeat(index as usize * 997))),
        )
        .key_by(first())
        .ungroup()
        .map(|(index, text)| (index, text.len() as u64))
        .collect();
    environment.execute("large").expect("the job runs");
    let mut lengths = lengths.take();
    lengths.sort();
    assert_eq!(
        lengths,
        (0..50).map(|index| (index, index * 997)).collect::<Vec<_>>()
    );
}

#[test]
fn a_panic_fails_the_job_with_operator_and_position() {
    let environment = environment(64, 4096).with_parallelism(1);
    environment
        .source("numbers", generate(10_000, |index| index))
        .map(|number| {
            if number == 6_000 {
                panic!("six thousand")
            } else {
                number
            }
        })
        .name("picky")
        .blackhole();
    let error = environment.execute("panics").expect_err("the function panics");
    assert_eq!(error.kind(), ErrorKind::User);
    let message = error.to_string();
    assert!(message.contains("operator \"picky\", record 6001"), "{message}");
    assert!(message.contains("six thousand"), "{message}");
    assert_eq!(environment.runtime().manager().outstanding(), 0);
}

/// Words of a text with few distinct and many rare ones, some of them long.
fn words() -> Vec<(String, u32)> {
    (0..30_000u64)
        .map(|index| {
            let hash = forebay_memory::hash::hash_u64(index + 1);
            let rank = (hash % 3000) * (hash >> 40 & 1);
            (
                format!("word-{rank}{}", "z".repeat((rank % 97) as usize)),
                (hash % 5) as u32,
            )
        })
        .collect()
}

#[test]
fn string_and_composite_keys_in_any_budget() {
    let words = words();
    let mut by_word: BTreeMap<String, u64> = BTreeMap::new();
    let mut by_both: BTreeMap<(String, u32), (u64, i64)> = BTreeMap::new();
    for (word, number) in &words {
        *by_word.entry(word.clone()).or_default() += 1;
        let both = by_both.entry((word.clone(), *number)).or_default();
        *both = (both.0 + 1, both.1.max(i64::from(*number)));
    }
    for (mode, managed, spills) in [
        (Mode::Batch, 4000, false),
        (Mode::Batch, 36, true),
        (Mode::Streaming, 4000, false),
        (Mode::Streaming, 36, true),
    ] {
        let environment = environment(managed, 4096).with_parallelism(2).with_mode(mode);
        let (left, right) = environment.source("words", from_items(words.clone())).fork();
        let counted = left.group_by(first()).count().collect();
        let summary = environment.execute("by word").expect("the job runs");
        assert_eq!(summary.spilled_bytes_written() > 0, spills, "{summary}");
        let counted: BTreeMap<String, u64> = counted.take().into_iter().collect();
        assert!(counted == by_word, "{mode:?} {managed}");
        drop(right);

        let both = environment
            .source("words", from_items(words.clone()))
            .group_by((first(), second()))
            .aggregate((count(), max(second())))
            .collect();
        environment.execute("by both").expect("the job runs");
        let both: BTreeMap<(String, u32), (u64, i64)> = both
            .take()
            .into_iter()
            .map(|(key, (count, max))| (key, (count, i64::from(max))))
            .collect();
        assert!(both == by_both, "{mode:?} {managed}");
        assert_eq!(environment.runtime().manager().outstanding(), 0);
    }
}

#[test]
fn reduces_and_distinct_in_any_budget() {
    let words = words();
    for (mode, managed) in [
        (Mode::Batch, 4000),
        (Mode::Batch, 88),
        (Mode::Streaming, 4000),
        (Mode::Streaming, 88),
    ] {
        let environment = environment(managed, 4096).with_parallelism(2).with_mode(mode);
        // Rows that vary in size: the shorter word of each number and length class survives, then the smaller one.
        let shortest = environment
            .source("words", from_items(words.clone()))
            .key_by(second())
            .reduce(|left, right| {
                let least = if (left.0.len(), left.0) <= (right.0.len(), right.0) {
                    left
                } else {
                    right
                };
                (least.0.to_string(), least.1)
            })
            .collect();
        let totals = environment
            .source("numbers", generate(40_000, |index| (index % 7919, index)))
            .key_by(first())
            .reduce(|left, right| (left.0, left.1 + right.1))
            .collect();
        let distinct = environment
            .source("again", from_items(words.clone()))
            .key_by(first())
            .distinct()
            .collect();
        let numbers = environment
            .source("more", generate(40_000, |index| index % 9973))
            .distinct()
            .collect();
        environment.execute("reduce").expect("the job runs");

        let mut expected: BTreeMap<u32, String> = BTreeMap::new();
        for (word, number) in &words {
            let least = expected.entry(*number).or_insert_with(|| word.clone());
            if (word.len(), word) < (least.len(), least) {
                *least = word.clone();
            }
        }
        let shortest: BTreeMap<u32, String> = shortest
            .take()
            .into_iter()
            .map(|(word, number)| (number, word))
            .collect();
        assert!(shortest == expected, "{mode:?} {managed}");
        let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
        (0..40_000).for_each(|index| *expected.entry(index % 7919).or_default() += index);
        assert!(
            totals.take().into_iter().collect::<BTreeMap<_, _>>() == expected,
            "{mode:?} {managed}"
        );
        let mut distinct = distinct.take();
        distinct.sort();
        let mut expected: Vec<String> = words.iter().map(|(word, _)| word.clone()).collect();
        expected.sort();
        expected.dedup();
        assert!(distinct == expected, "{mode:?} {managed}");
        let mut numbers = numbers.take();
        numbers.sort();
        assert!(numbers == (0..9973).collect::<Vec<_>>(), "{mode:?} {managed}");
        assert_eq!(environment.runtime().manager().outstanding(), 0);
    }
}

#[test]
fn keys_whose_hashes_agree_in_too_many_bits_take_several_passes() {
    use forebay_memory::hash::unhash_u64;
    for mode in [Mode::Batch, Mode::Streaming] {
        let environment = environment(8, 4096).with_parallelism(1).with_mode(mode);
        // 10,000 keys, 160 KB of entries, in 32 KiB: the first 48 bits of their hashes are the same.
        let sums = environment
            .source(
                "pairs",
                generate(30_000, |index| {
                    (unhash_u64((0xabcd << 48) | (index % 10_000)), index as i64)
                }),
            )
            .key_by(first())
            .sum(second())
            .collect();
        environment.execute("collisions").expect("the job runs");
        let sums: BTreeMap<u64, i64> = sums.take().into_iter().collect();
        let mut expected: BTreeMap<u64, i64> = BTreeMap::new();
        (0..30_000u64).for_each(|index| {
            *expected
                .entry(unhash_u64((0xabcd << 48) | (index % 10_000)))
                .or_default() += index as i64
        });
        assert!(sums == expected, "{mode:?}");
    }
}

#[test]
fn a_record_over_the_largest_size_is_refused_with_its_place() {
    let environment = environment(64, 4096).with_parallelism(1);
    let most = environment.runtime().plan().record.max_size as u64;
    environment
        .source("numbers", generate(100, |index| index))
        .map(move |index| "x".repeat(if index == 41 { most as usize } else { 10 }))
        .name("inflate")
        .blackhole();
    let error = environment.execute("large").expect_err("the record is too large");
    assert_eq!(error.kind(), ErrorKind::User);
    let message = error.to_string();
    assert!(
        message.starts_with("operator \"inflate\": record \"string\" at position 42: "),
        "{message}"
    );
    assert!(message.contains("is over record.max_size"), "{message}");
    assert_eq!(environment.runtime().manager().outstanding(), 0);
}

#[test]
fn blocking_operators_run_on_helper_threads() {
    let environment = environment(64, 4096).with_parallelism(2);
    let threads = environment
        .source("numbers", generate(1_000, |index| index))
        .map(|number| {
            let thread = std::thread::current();
            (
                number,
                thread.name().unwrap_or_default().starts_with("forebay-helper-"),
            )
        })
        .name("slow")
        .blocking()
        .map(|(number, helped)| {
            let thread = std::thread::current();
            (
                number,
                helped,
                thread.name().unwrap_or_default().starts_with("forebay-slot-"),
            )
        })
        .collect();
    environment.execute("blocking").expect("the job runs");
    let mut threads = threads.take();
    threads.sort();
    assert_eq!(
        threads,
        (0..1_000).map(|number| (number, true, true)).collect::<Vec<_>>()
    );
}

#[test]
fn computed_keys() {
    let environment = environment(64, 4096).with_parallelism(2);
    let counts = environment
        .source("numbers", generate(1_000, |index| index))
        .key_by_fn(|number| format!("{}", number % 7))
        .count()
        .collect();
    environment.execute("computed").expect("the job runs");
    let counts: BTreeMap<String, u64> = counts.take().into_iter().collect();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    (0..1_000).for_each(|number| *expected.entry(format!("{}", number % 7)).or_default() += 1);
    assert_eq!(counts, expected);
}

#[test]
fn a_group_larger_than_its_budget_is_refused_when_the_job_is_planned() {
    // Keys of 300 KB: more than the table before the exchange may have, and less than half of the managed memory.
    let keys = || (0..3).map(|more| "x".repeat(300_000 + more)).collect::<Vec<_>>();
    let count = |parallelism: usize| {
        let environment = environment_for(256, 310_000).with_parallelism(parallelism);
        let counts = environment
            .source("long", from_items(keys()))
            .key_by(itself())
            .count()
            .collect();
        let result = environment.execute("long keys");
        assert_eq!(environment.runtime().manager().outstanding(), 0);
        assert_eq!(environment.runtime().spill().used_bytes(), 0);
        result.map(|_| counts.take().len())
    };
    assert_eq!(count(1).expect("one subtask has room for a key"), 3);
    let error = count(2).expect_err("two subtasks need 2 x 2 x 76 segments and more");
    assert_eq!(error.kind(), ErrorKind::Memory);
    let message = error.to_string();
    assert!(
        message.starts_with("aggregate \"aggregate\", subtask ")
            && message.contains(" of 2: needs 160 segments, "),
        "{message}"
    );
    assert!(message.contains("raise memory.managed_size"), "{message}");
}

#[test]
fn a_uid_is_one_operators() {
    let refusal = |build: fn(forebay::Stream<u64>)| {
        let environment = environment(64, 4096);
        let numbers = environment.source("numbers", generate(10, |index| index));
        build(numbers.uid("a"));
        let error = environment.plan("twins").expect_err("the uid is wrong");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let twice = "job \"twins\": two operators have the uid \"a\", \"numbers\" and";
    let operators = refusal(|numbers| drop(numbers.map(|number| number).uid("a").blackhole()));
    assert!(operators.starts_with(&format!("{twice} \"map\"")), "{operators}");
    let sink = refusal(|numbers| drop(numbers.blackhole().name("nothing").uid("a")));
    assert!(sink.starts_with(&format!("{twice} \"nothing\"")), "{sink}");
    // What an operator without one is called may not be another's.
    let automatic = refusal(|numbers| drop(numbers.map(|number| number).name("m").blackhole().uid("map-1")));
    assert!(
        automatic.contains("uid \"map-1\", \"m\" and \"blackhole\""),
        "{automatic}"
    );
    let empty = refusal(|numbers| drop(numbers.blackhole().uid("")));
    assert!(empty.contains("the uid of \"blackhole\" is empty"), "{empty}");
}

#[test]
fn a_sink_has_a_name_a_uid_and_a_parallelism() {
    let environment = environment(64, 4096).with_parallelism(1);
    let (sink, collected) = forebay::sink::Collect::new();
    environment
        .source("numbers", generate(10_000, |index| index))
        .sink("collect", sink)
        .name("all")
        .uid("everything")
        .parallelism(3)
        .blocking();
    let plan = environment.plan("named").expect("the job is one");
    let node = plan.nodes.last().expect("the sink is the last");
    assert_eq!(
        (
            &*node.name,
            &*node.uid,
            node.has_own_uid,
            node.parallelism,
            node.chained_to
        ),
        ("all", "everything", true, 3, None)
    );
    assert!(node.detail.contains("helper threads"), "{}", node.detail);
    let summary = environment.execute("named").expect("the job runs");
    let subtasks = summary
        .tasks
        .iter()
        .filter(|task| task.task == "all" && task.records_in > 0);
    assert_eq!(subtasks.count(), 3, "records are spread over all");
    let mut numbers = collected.take();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10_000).collect::<Vec<_>>());
}

#[test]
fn a_job_that_runs_and_one_that_fails_tell_what_they_spilled() {
    let job = |records: u64, last: fn((u64, u64)) -> (u64, u64)| {
        let environment = environment(8, 4096).with_parallelism(1);
        environment
            .source("pairs", generate(records, |index| (index % 150_000, index)))
            .map(last)
            .key_by(first())
            .count()
            .blackhole();
        environment.execute_async("spills").expect("the job starts")
    };
    let spilled = |job: &forebay::JobHandle| -> u64 {
        let tasks = job.metrics();
        tasks
            .iter()
            .flat_map(|task| &task.operators)
            .map(|operator| operator.spilled_bytes_written)
            .sum()
    };
    let running = job(u64::MAX, |pair| pair);
    while spilled(&running) == 0 {
        assert_eq!(running.status(), JobStatus::Running);
        std::thread::yield_now();
    }
    drop(running);
    let failing = job(150_000, |pair| match pair.0 {
        149_999 => panic!("the last one"),
        _ => pair,
    });
    while failing.status() != JobStatus::Over {
        std::thread::yield_now();
    }
    // The aggregation did not fail itself: it tells what it did when its task is dropped.
    assert!(spilled(&failing) > 0, "{:?}", failing.metrics());
    let (summary, result) = failing.end();
    assert_eq!(result.expect_err("a function panics").kind(), ErrorKind::User);
    assert!(summary.spilled_bytes_written() > 0);
    assert!(summary.managed_peak_bytes() >= 4096);
    assert!(summary.peak_resident_bytes.is_some_and(|bytes| bytes > 1 << 20));
    let text = summary.to_string();
    assert!(
        text.contains("failed after")
            && text.contains("the last one")
            && text.contains("peaks: managed memory"),
        "{text}"
    );
}

#[test]
fn a_group_that_outgrows_its_budget_fails_the_job_and_is_never_split() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let environment = environment(8, 4096).with_parallelism(1).with_mode(mode);
        let joined = environment
            .source("parts", generate(600, |_| (7u64, "x".repeat(100))))
            .key_by(first())
            .reduce(|left, right| (left.0, format!("{}{}", left.1, right.1)))
            .collect();
        let error = environment
            .execute("grows")
            .expect_err("60 KB do not fit in 32 KiB");
        assert_eq!(error.kind(), ErrorKind::Memory);
        assert!(error.to_string().contains("raise memory.managed_size"), "{error}");
        drop(joined);
        assert_eq!(environment.runtime().manager().outstanding(), 0);
    }
}

#[test]
fn the_mean_of_large_integers_does_not_overflow() {
    let environment = environment(64, 4096).with_parallelism(1);
    let means = environment
        .source("pairs", generate(4, |_| (1u64, i64::MAX)))
        .key_by(first())
        .aggregate(avg(second()))
        .collect();
    environment.execute("means").expect("the job runs");
    assert_eq!(means.take(), [(1, i64::MAX as f64)]);
}

/// Groups are streamed in order, whatever the budget; what a function leaves of one is not the next one's.
#[test]
fn groups_are_reduced_in_order_in_any_budget() {
    type Visit = (String, i64, Vec<u8>);
    let visit = |index: u64| -> Visit {
        let hash = forebay_memory::hash::hash_u64(index);
        // One key has half of the records: far more than there is memory for.
        let key = if index.is_multiple_of(2) { 0 } else { hash % 300 };
        (
            format!("key {key}"),
            (hash >> 32) as i64 % 1000,
            vec![1; (hash >> 50) as usize % 60],
        )
    };
    for (managed, parallelism, mode) in [
        (40, 1, Mode::Batch),
        (80, 2, Mode::Batch),
        (200, 3, Mode::Streaming),
        (4000, 1, Mode::Batch),
    ] {
        let environment = environment_for(managed, 8192)
            .with_parallelism(parallelism)
            .with_mode(mode);
        let source = |name: &str| environment.source(name, generate(8_000, visit));
        let all = source("all")
            .group_by(first::<Visit>())
            .reduce_group_by(
                second::<Visit>().descending(),
                |key, visits: &mut Group<'_, Visit>, out: &mut Collector<'_, (String, Vec<u8>, u64)>| {
                    let (mut last, mut bytes, mut count) = (i64::MAX, 0, 0u64);
                    while let Some((own, at, text)) = visits.next() {
                        assert_eq!(own, key);
                        assert!(at <= last, "in descending order");
                        (last, bytes, count) = (at, bytes + text.len() as u64, count + 1);
                    }
                    assert!(visits.next().is_none(), "it has ended");
                    out.push((key, &last.to_le_bytes(), count << 32 | bytes));
                },
            )
            .collect();
        // The first of each group: the others are skipped.
        let some = source("some")
            .group_by((first::<Visit>(), second()))
            .reduce_group(
                |(key, at), visits: &mut Group<'_, Visit>, out: &mut Collector<'_, (String, i64)>| {
                    if at % 2 == 0 {
                        assert_eq!(visits.next().map(|visit| (visit.0, visit.1)), Some((key, at)));
                    }
                    for _ in 0..at % 3 {
                        out.push((key, at));
                    }
                },
            )
            .collect();
        let summary = environment.execute("groups").expect("the job runs");
        let case = format!("{managed} segments, {mode:?}");
        assert_eq!(summary.spilled_bytes_written() > 0, managed < 4000, "{case}");
        let mut expected: BTreeMap<String, (i64, u64, u64)> = BTreeMap::new();
        let mut pairs: BTreeMap<(String, i64), u64> = BTreeMap::new();
        for (key, at, text) in (0..8_000).map(visit) {
            let entry = expected.entry(key.clone()).or_insert((i64::MAX, 0, 0));
            *entry = (entry.0.min(at), entry.1 + text.len() as u64, entry.2 + 1);
            if at % 3 > 0 {
                pairs.insert((key, at), at as u64 % 3);
            }
        }
        let found: BTreeMap<String, _> = all
            .take()
            .into_iter()
            .map(|(key, last, sum)| {
                let last = i64::from_le_bytes(last.try_into().expect("eight bytes"));
                (key, (last, sum & 0xffff_ffff, sum >> 32))
            })
            .collect();
        assert!(found == expected, "{case}");
        let mut counted: BTreeMap<(String, i64), u64> = BTreeMap::new();
        for pair in some.take() {
            *counted.entry(pair).or_default() += 1;
        }
        assert!(counted == pairs, "{case}");
        assert_eq!(environment.runtime().manager().outstanding(), 0, "{case}");
        assert_eq!(environment.runtime().spill().used_bytes(), 0, "{case}");
    }
}

#[test]
fn a_panic_in_a_groups_function_names_it_and_leaks_nothing() {
    let environment = environment(60, 4096).with_parallelism(2);
    environment
        .source("pairs", generate(20_000, pair))
        .group_by(first())
        .reduce_group(
            |key, rows: &mut Group<'_, (u64, i64)>, out: &mut Collector<'_, u64>| {
                assert!(rows.next().is_some() && key != 500, "a user's panic");
                out.push(key);
            },
        )
        .name("fragile")
        .blackhole();
    let error = environment.execute("fragile").expect_err("it panics");
    assert_eq!(error.kind(), ErrorKind::User);
    let message = error.to_string();
    assert!(
        message.contains("fragile") && message.contains("a user's panic"),
        "{message}"
    );
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
}

/// Integer keys are folded before the exchange for as long as that reduces; what passes and what was folded make one result.
#[test]
fn integer_keys_are_folded_before_the_exchange() {
    use forebay_memory::hash::hash_u64;
    type Key = fn(u64) -> u64;
    const ROWS: u64 = 60_000;
    let (few, new): (Key, Key) = (|index| hash_u64(index + 1) % 50, |index| hash_u64(index));
    // The first keys fill the table, and come again among others; at last there are others alone.
    let mixed: Key = |index| match index {
        0..20_000 => hash_u64(index + 1) % 4_000,
        20_000..40_000 if index % 3 > 0 => hash_u64(index + 1) % 1_000,
        _ => hash_u64(index),
    };
    for (managed, parallelism) in [(3000, 1), (3000, 2), (3000, 3), (52, 3), (24, 1)] {
        for (key, most_sent) in [(few, Some(0)), (new, None), (mixed, None)] {
            let environment = environment(managed, 4096).with_parallelism(parallelism);
            let row = move |index| (key(index), format!("{index}"), index as i64);
            type Row = (u64, String, i64);
            let value = forebay::record::third::<Row>();
            let of_texts = environment
                .source("texts", generate(ROWS, row))
                .key_by(first())
                .aggregate((count(), sum(value)))
                .collect();
            let sums = environment
                .source("pairs", generate(ROWS, move |index| (key(index), index as i64)))
                .key_by(first())
                .aggregate_final((count(), sum(second())))
                .collect();
            let summary = environment.execute("folded").expect("the job runs");
            let mut expected: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
            for index in 0..ROWS {
                let group = expected.entry(key(index)).or_default();
                *group = (group.0 + 1, group.1 + index as i64);
            }
            for mut found in [of_texts.take(), sums.take()] {
                found.sort_unstable();
                assert!(
                    found.into_iter().eq(expected.clone()),
                    "{managed} segments, {parallelism} subtasks"
                );
            }
            let operators = || summary.tasks.iter().flat_map(|task| &task.operators);
            let folding = operators().filter(|operator| operator.name.starts_with("local aggregate"));
            assert_eq!(
                folding.clone().map(|operator| operator.records_in).sum::<u64>(),
                2 * ROWS
            );
            let behind = operators().filter(|operator| operator.name.starts_with("aggregate"));
            let sent: u64 = behind.map(|operator| operator.records_in).sum();
            // What one task sends another is given, groups that are handed over in their tables among it.
            let tasks = |is_before: bool| {
                let tasks = summary.tasks.iter();
                tasks.filter(move |task| task.task.contains("local aggregate") == is_before)
            };
            let of = |task: &TaskSnapshot| (task.records_out, task.bytes_out);
            let (records, bytes) =
                (tasks(true).map(of)).fold((0, 0), |all, task| (all.0 + task.0, all.1 + task.1));
            let given = tasks(false).map(|task| task.records_in).sum::<u64>();
            assert_eq!((records, given), (sent, sent));
            let handed = || operators().map(|operator| operator.groups_handed_over);
            assert_eq!(
                handed().sum::<u64>(),
                operators()
                    .map(|operator| operator.groups_taken_over)
                    .sum::<u64>()
            );
            assert!(managed < 3000 || handed().sum::<u64>() > 0);
            assert!(bytes >= 24 * handed().sum::<u64>() && bytes >= 16 * records);
            if let Some(most) = most_sent.filter(|_| managed == 3000) {
                let passed = sent - handed().sum::<u64>();
                assert!(passed <= most, "{passed} rows passed");
            }
            assert_eq!(environment.runtime().manager().outstanding(), 0);
        }
    }
}

/// What was folded before the exchange is given back where a function of the aggregate panics, wherever it is called from.
#[test]
fn a_panic_in_a_function_of_an_aggregate_leaves_nothing_behind() {
    for (managed, keys) in [(3000, 50), (3000, 40_000), (24, 40_000)] {
        for (parallelism, fails_at) in [(1, 10), (2, 30_000), (3, 59_999)] {
            let environment = environment(managed, 4096).with_parallelism(parallelism);
            environment
                .source(
                    "pairs",
                    generate(60_000, move |index| (index * 7919 % keys, index as i64)),
                )
                .key_by(first())
                .aggregate(forebay::aggregate::sum_of(move |(_, value): (u64, i64)| {
                    assert!(value != fails_at, "the value {value} is not to be added");
                    value
                }))
                .blackhole();
            let error = environment.execute("panics").expect_err("the job fails");
            assert!(error.to_string().contains("is not to be added"), "{error}");
            assert_eq!(environment.runtime().manager().outstanding(), 0);
            assert_eq!(environment.runtime().spill().used_bytes(), 0);
        }
    }
}
