//! Co-groups of every kind of key, and streams as sets and bags, in budgets from the smallest on, compared with plain maps.

use forebay::operator::{Collector, Group};
use forebay::record::{Record, first, itself};
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, from_items};
use forebay::{Environment, ErrorKind, JobSummary, Mode, Result, Runtime, Stream};
use forebay_memory::Plan;
use forebay_memory::hash::hash_u64;
use std::collections::BTreeMap;

fn environment(segments: usize, parallelism: usize) -> Environment {
    let plan =
        Plan::with_segments_for(segments.max(16), 512, 4096, 4096).expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
        .with_parallelism(parallelism)
        .with_mode(Mode::Batch)
}

fn check_returned(environment: &Environment) {
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
}

/// `count` records with keys below `keys`, from a place on.
fn records(count: u64, keys: u64, salt: u64) -> Vec<(u64, u64)> {
    (0..count)
        .map(|index| (hash_u64(index + salt * 7919) % keys, index))
        .collect()
}

/// The identities of a key's records on both sides.
type Ids = (Vec<u64>, Vec<u64>);

/// What a co-group sends of a key: how many records each side has, and their identities folded.
type Folded = (u64, u64, u64, u64);

fn fold(ids: &[u64], salt: u64) -> u64 {
    ids.iter().fold(salt, |sum, id| sum.wrapping_add(hash_u64(*id)))
}

fn folded((left, right): &Ids) -> Folded {
    (
        left.len() as u64,
        right.len() as u64,
        fold(left, 1),
        fold(right, 2),
    )
}

/// Compares the co-group of two sides with a map, keys being alike where `rank` says so.
fn check<K: Record + Clone, Q: Ord>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    segments: usize,
    parallelism: usize,
    rank: impl Fn(&K) -> Q,
) -> JobSummary {
    let environment = environment(segments, parallelism);
    let lefts = environment.source("left", from_items(left.to_vec()));
    let rights = environment.source("right", from_items(right.to_vec()));
    let found = lefts
        .join(rights)
        .on(first(), first())
        .co_group(
            |_,
             left: &mut Group<'_, (K, u64)>,
             right: &mut Group<'_, (K, u64)>,
             out: &mut Collector<'_, Folded>| {
                let (mut lefts, mut rights) = (Vec::new(), Vec::new());
                // In turn, so that neither side is there before the other.
                loop {
                    let more = left.next().map(|(_, id)| lefts.push(id));
                    let others = right.next().map(|(_, id)| rights.push(id));
                    if more.is_none() && others.is_none() {
                        break;
                    }
                }
                out.push(folded(&(lefts, rights)));
            },
        )
        .collect();
    let summary = environment
        .execute("co-group")
        .unwrap_or_else(|error| panic!("{segments} segments, parallelism {parallelism}: {error}"));
    check_returned(&environment);
    let mut expected: BTreeMap<Q, Ids> = BTreeMap::new();
    for (key, id) in left {
        expected.entry(rank(key)).or_default().0.push(*id);
    }
    for (key, id) in right {
        expected.entry(rank(key)).or_default().1.push(*id);
    }
    let mut expected: Vec<Folded> = expected.values().map(folded).collect();
    let mut found = found.take();
    found.sort_unstable();
    expected.sort_unstable();
    assert!(
        found == expected,
        "{segments} segments, parallelism {parallelism}: {} groups, and not {}",
        found.len(),
        expected.len()
    );
    summary
}

fn with_keys<K>(records: &[(u64, u64)], key: impl Fn(u64) -> K) -> Vec<(K, u64)> {
    records.iter().map(|(bits, id)| (key(*bits), *id)).collect()
}

#[test]
fn co_groups_of_every_kind_of_key() {
    let (left, right) = (records(1500, 400, 1), records(1100, 400, 2));
    for (segments, parallelism) in [(20, 1), (80, 3), (600, 2)] {
        check(&left, &right, segments, parallelism, |key| *key);
        let text = |bits: u64| format!("{:width$}", bits, width = (bits % 40) as usize);
        check(
            &with_keys(&left, text),
            &with_keys(&right, text),
            segments.max(24),
            parallelism,
            String::clone,
        );
        let both = |bits: u64| (bits % 20, (bits / 20).to_string());
        check(
            &with_keys(&left, both),
            &with_keys(&right, both),
            segments.max(24),
            parallelism,
            Clone::clone,
        );
        let null = |bits: u64| (!bits.is_multiple_of(5)).then_some(bits as i32 - 200);
        check(
            &with_keys(&left, null),
            &with_keys(&right, null),
            segments,
            parallelism,
            |key| *key,
        );
        // Long keys that differ at their ends alone.
        let long = |bits: u64| format!("{}{}", "k".repeat(30), bits % 50);
        check(
            &with_keys(&left, long),
            &with_keys(&right, long),
            segments.max(24),
            parallelism,
            String::clone,
        );
        let float = |bits: u64| match bits % 10 {
            0 => -0.0,
            1 => 0.0,
            2 => f64::NAN,
            3 => -f64::NAN,
            _ => bits as f64 / 3.0,
        };
        let rank = |key: &f64| match *key {
            key if key.is_nan() => u64::MAX,
            key => (key + 0.0).to_bits(),
        };
        check(
            &with_keys(&left, float),
            &with_keys(&right, float),
            segments,
            parallelism,
            rank,
        );
    }
}

#[test]
fn co_groups_in_every_budget_from_the_smallest_on() {
    let (left, right) = (records(6000, 1700, 3), records(5000, 1700, 4));
    for segments in 16..70 {
        let summary = check(&left, &right, segments, 1, |key| *key);
        assert!(segments > 30 || summary.spilled_bytes_written() > 0);
    }
}

#[test]
fn co_groups_of_sides_without_records() {
    let some = records(900, 300, 5);
    for (left, right) in [(0, 0), (0, 900), (900, 0)] {
        check(&some[..left], &some[..right], 40, 2, |key| *key);
    }
}

#[test]
fn a_key_that_half_of_both_sides_have() {
    let half = |count: u64, salt: u64| -> Vec<(u64, u64)> {
        let records = records(count, 200, salt).into_iter();
        records
            .map(|(key, id)| (if id % 2 == 0 { 7 } else { key }, id))
            .collect()
    };
    for segments in [16, 24, 600] {
        check(&half(3000, 6), &half(2600, 7), segments, 1, |key| *key);
    }
}

#[test]
fn what_a_function_leaves_of_a_group_is_skipped() {
    let environment = environment(20, 1);
    let left = environment.source("left", from_items(records(3000, 90, 8)));
    let right = environment.source("right", from_items(records(3000, 100, 9)));
    let found = left
        .join(right)
        .on(first(), first())
        .co_group(
            |key,
             left: &mut Group<'_, (u64, u64)>,
             right: &mut Group<'_, (u64, u64)>,
             out: &mut Collector<'_, u64>| {
                if key % 3 == 0 {
                    assert!(left.next().is_none_or(|left| left.0 == key));
                } else {
                    assert!(right.next().is_none_or(|right| right.0 == key));
                }
                out.push(key);
            },
        )
        .collect();
    environment.execute("co-group").expect("the job runs");
    // In the order of the keys, within a subtask.
    assert_eq!(found.take(), (0..100).collect::<Vec<u64>>());
}

#[test]
fn a_panic_in_a_function_of_groups_leaves_nothing() {
    for refused in [0, 50, 99] {
        let environment = environment(40, 2);
        let left = environment.source("left", from_items(records(4000, 100, 10)));
        let right = environment.source("right", from_items(records(4000, 100, 11)));
        left.join(right)
            .on(first(), first())
            .co_group(
                move |key,
                      left: &mut Group<'_, (u64, u64)>,
                      _: &mut Group<'_, (u64, u64)>,
                      out: &mut Collector<'_, u64>| {
                    left.next();
                    assert!(key != refused, "this key is refused");
                    out.push(key);
                },
            )
            .name("refusing")
            .blackhole();
        let error = environment.execute("co-group").expect_err("a key is refused");
        assert_eq!(error.kind(), ErrorKind::User, "{error}");
        assert!(error.to_string().contains("\"refusing\""), "{error}");
        check_returned(&environment);
    }
}

/// How often each record of two bags is in what a set operation makes of them.
type Times = fn(u64, u64) -> u64;

const OPERATIONS: [(&str, Times); 4] = [
    ("intersect", |left, right| u64::from(left > 0 && right > 0)),
    ("intersect_all", |left, right| left.min(right)),
    ("minus", |left, right| u64::from(left > 0 && right == 0)),
    ("minus_all", |left, right| left.saturating_sub(right)),
];

fn check_sets<K: Record + Clone, Q: Ord + std::fmt::Debug>(
    left: &[K],
    right: &[K],
    segments: usize,
    parallelism: usize,
    mode: Mode,
    rank: impl Fn(&K) -> Q,
) {
    for (name, times) in OPERATIONS {
        let environment = environment(segments, parallelism).with_mode(mode);
        let lefts = environment.source("left", from_items(left.to_vec()));
        let rights = environment.source("right", from_items(right.to_vec()));
        let found: Stream<K> = match name {
            "intersect" => lefts.intersect(rights),
            "intersect_all" => lefts.intersect_all(rights),
            "minus" => lefts.minus(rights),
            _ => lefts.minus_all(rights),
        };
        let found = found.collect();
        let explained = environment.explain("sets").expect("the job has a plan");
        assert!(explained.contains(name.trim_end_matches("_all")), "{explained}");
        environment.execute("sets").expect("the job runs");
        check_returned(&environment);
        let mut counts: BTreeMap<Q, (u64, u64)> = BTreeMap::new();
        left.iter()
            .for_each(|record| counts.entry(rank(record)).or_default().0 += 1);
        right
            .iter()
            .for_each(|record| counts.entry(rank(record)).or_default().1 += 1);
        let mut counted: BTreeMap<Q, u64> = BTreeMap::new();
        found
            .take()
            .iter()
            .for_each(|record| *counted.entry(rank(record)).or_default() += 1);
        counts.retain(|_, (left, right)| times(*left, *right) > 0);
        let expected: BTreeMap<Q, u64> = counts
            .into_iter()
            .map(|(key, (left, right))| (key, times(left, right)))
            .collect();
        assert!(
            counted == expected,
            "{name}, {segments} segments, parallelism {parallelism}: {} records, and not {}",
            counted.len(),
            expected.len()
        );
    }
}

#[test]
fn streams_as_sets_and_as_bags() {
    let values = |count: u64, salt: u64| -> Vec<u64> {
        records(count, 500, salt)
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    };
    let (left, right) = (values(3000, 12), values(700, 13));
    for (segments, parallelism) in [(32, 1), (120, 3), (600, 2)] {
        for mode in [Mode::Batch, Mode::Streaming] {
            check_sets(&left, &right, segments, parallelism, mode, |value| *value);
            let text = |values: &[u64]| -> Vec<(Option<String>, u8)> {
                let text = |value: u64| (!value.is_multiple_of(7)).then(|| value.to_string());
                values
                    .iter()
                    .map(|value| (text(*value), (value % 3) as u8))
                    .collect()
            };
            check_sets(
                &text(&left),
                &text(&right),
                segments,
                parallelism,
                mode,
                Clone::clone,
            );
            let float = |values: &[u64]| -> Vec<f64> {
                let odd = [0.0, -0.0, f64::NAN, -f64::NAN];
                let float = |value: u64| odd.get(value as usize % 40).copied().unwrap_or(value as f64);
                values.iter().map(|value| float(*value)).collect()
            };
            check_sets(
                &float(&left),
                &float(&right),
                segments,
                parallelism,
                mode,
                |value| {
                    if value.is_nan() {
                        u64::MAX
                    } else {
                        (value + 0.0).to_bits()
                    }
                },
            );
        }
    }
    check_sets(&left, &[], 40, 1, Mode::Batch, |value| *value);
    check_sets(&[], &right, 40, 1, Mode::Batch, |value| *value);
}

#[test]
fn a_record_with_very_many_copies_needs_no_room_for_them() {
    let environment = environment(40, 2);
    let many = environment.source("many", forebay::source::generate(3_000_000, |_| 7_u64));
    let none = environment.source("none", from_items(vec![8_u64]));
    let left = many.minus_all(none).key_by(itself()).count().collect();
    environment.execute("copies").expect("the job runs");
    assert_eq!(left.take(), [(7, 3_000_000)]);
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
fn a_side_that_does_not_end_is_refused_when_the_job_is_planned() {
    for operation in 0..3 {
        let environment = environment(64, 1).with_mode(Mode::Auto);
        let few = environment.source("few", from_items(vec![1_u64]));
        let ticks = environment.source("ticks", Endless);
        let (name, stream) = match operation {
            0 => ("intersect", few.intersect(ticks)),
            1 => ("minus", few.minus(ticks)),
            _ => {
                let grouped = few.join(ticks).on(itself(), itself()).co_group(
                    |_, _: &mut Group<'_, u64>, _: &mut Group<'_, u64>, _: &mut Collector<'_, u64>| {},
                );
                ("co_group", grouped)
            }
        };
        stream.blackhole();
        let error = environment.execute("endless").expect_err("it never ends");
        assert_eq!(error.kind(), ErrorKind::Config);
        let message = error.to_string();
        assert!(
            message.contains(name) && message.contains("\"ticks\""),
            "{message}"
        );
    }
}
