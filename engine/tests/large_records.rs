//! Records from one byte to 4 MiB mixed, in joins and aggregations, with keys of many sizes: in budgets that hold little of them, compared
//! with plain computations.

use forebay::aggregate::{collect_list_by, count, first_by, max, min_by};
use forebay::record::{List, Record, first, itself, second, third};
use forebay::source::from_items;
use forebay::{Environment, JobSummary, JoinStrategy, Runtime};
use forebay_memory::Plan;
use forebay_memory::hash::{hash_bytes, hash_u64};
use std::collections::BTreeMap;

const SEGMENT: usize = 32 << 10;
const MIB: usize = 1 << 20;

/// The largest record, and the largest state of a group: a payload of 4 MiB, its key, and smaller ones beside it.
const RECORD_SIZE: usize = 6 * MIB;

/// Key, number, payload.
type Item = (String, u64, Vec<u8>);

fn environment(segments: usize, parallelism: usize) -> Environment {
    let plan = Plan::with_segments_for(segments, 64, SEGMENT, RECORD_SIZE).expect("a plan for the test");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
        .with_parallelism(parallelism)
}

fn run(environment: &Environment, what: &str) -> JobSummary {
    let summary = environment.execute("large");
    let summary = summary.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(environment.runtime().manager().outstanding(), 0, "{what}");
    assert_eq!(environment.runtime().spill().used_bytes(), 0, "{what}");
    summary
}

/// A key of its own for each number: from one byte to more than a segment.
fn key(number: u64) -> String {
    let size = [0, 0, 3, 40, 900, 5_000, 33_000, 70_000][number as usize % 8];
    format!("{number}{}", "k".repeat(size))
}

/// `count` records of `keys` keys. One in so many has a payload of 4 MiB, others any of less.
fn items(count: u64, keys: u64, salt: u64) -> Vec<Item> {
    let item = |index: u64| {
        let draw = hash_u64(index + salt * 7919);
        let size = match index {
            3 | 17 | 40 => 4 * MIB,
            25 => 4 * MIB - 1,
            31 => MIB + 5,
            _ => [0, 1, 10, 100, 1_000, 4_000, 32_000, 40_000, 150_000][(draw >> 40) as usize % 9],
        };
        // Not to be compressed to nothing.
        let words = (0..size.div_ceil(8) as u64).map(|word| hash_u64(draw ^ word).to_le_bytes());
        let mut payload: Vec<u8> = words.flatten().collect();
        payload.truncate(size);
        (key(draw % keys), index, payload)
    };
    (0..count).map(item).collect()
}

fn digest(payload: &[u8]) -> u64 {
    hash_bytes(payload) | 1
}

/// Numbers and digests of a pair, 0 where a side has no match: (left, digest, right, digest).
type Pair = (u64, u64, u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
    Semi,
    Anti,
}

fn expected(left: &[Item], right: &[Item], kind: Kind) -> Vec<Pair> {
    let left: Vec<_> = left
        .iter()
        .map(|item| (&item.0, item.1, digest(&item.2)))
        .collect();
    let right: Vec<_> = right
        .iter()
        .map(|item| (&item.0, item.1, digest(&item.2)))
        .collect();
    let mut pairs = Vec::new();
    let mut right_matched = vec![false; right.len()];
    for (key, number, digest) in left {
        let mut has_match = false;
        for (place, other) in right.iter().enumerate().filter(|(_, other)| other.0 == key) {
            (has_match, right_matched[place]) = (true, true);
            if !matches!(kind, Kind::Semi | Kind::Anti) {
                pairs.push((number, digest, other.1, other.2));
            }
        }
        let is_alone = match kind {
            Kind::Left | Kind::Full | Kind::Anti => !has_match,
            Kind::Semi => has_match,
            Kind::Inner | Kind::Right => false,
        };
        if is_alone {
            pairs.push((number, digest, 0, 0));
        }
    }
    if matches!(kind, Kind::Right | Kind::Full) {
        let alone = right.iter().zip(right_matched).filter(|(_, matched)| !matched);
        pairs.extend(alone.map(|(other, _)| (0, 0, other.1, other.2)));
    }
    pairs.sort_unstable();
    pairs
}

#[test]
fn records_from_one_byte_to_four_mebibytes_are_joined() {
    let (left, right) = (items(60, 24, 1), items(50, 30, 2));
    for kind in [
        Kind::Inner,
        Kind::Left,
        Kind::Right,
        Kind::Full,
        Kind::Semi,
        Kind::Anti,
    ] {
        let expected = expected(&left, &right, kind);
        for (segments, parallelism, strategy, builds_left) in [
            (430, 1, JoinStrategy::Hash, false),
            (430, 1, JoinStrategy::Hash, true),
            (900, 2, JoinStrategy::Broadcast, false),
            (1700, 2, JoinStrategy::Merge, false),
        ] {
            let what = format!("{kind:?} {segments} {parallelism} {strategy:?} {builds_left}");
            let environment = environment(segments, parallelism);
            let source = |name: &str, items: &[Item]| environment.source(name, from_items(items.to_vec()));
            let join = source("left", &left).join(source("right", &right));
            let join = join.on(first(), first()).strategy(strategy);
            let join = if builds_left { join.build_left() } else { join };
            let one = |item: (&str, u64, &[u8])| (item.1, digest(item.2));
            let pair = move |left: Option<(&str, u64, &[u8])>, right: Option<(&str, u64, &[u8])>| -> Pair {
                let (left, right) = (left.map_or((0, 0), one), right.map_or((0, 0), one));
                (left.0, left.1, right.0, right.1)
            };
            let found = match kind {
                Kind::Inner => join.inner(move |l, r| pair(Some(l), Some(r))),
                Kind::Left => join.left_outer(move |l, r| pair(Some(l), r)),
                Kind::Right => join.right_outer(move |l, r| pair(l, Some(r))),
                Kind::Full => join.full_outer(pair),
                Kind::Semi => join.semi().map(move |l| pair(Some(l), None)).name("pairs"),
                Kind::Anti => join.anti().map(move |l| pair(Some(l), None)).name("pairs"),
            };
            let found = found.collect();
            let summary = run(&environment, &what);
            let mut found = found.take();
            found.sort_unstable();
            assert!(
                found == expected,
                "{what}: {} and {} pairs",
                found.len(),
                expected.len()
            );
            assert!(summary.spilled_bytes_written() > 0 || parallelism > 1, "{what}");
        }
    }
}

/// What an aggregate is of each group, by plain code.
fn check<T: PartialEq>(
    what: &str,
    items: &[Item],
    found: Vec<(String, T)>,
    expected: impl Fn(&[&Item]) -> T,
) {
    let mut groups: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in items {
        groups.entry(&item.0).or_default().push(item);
    }
    assert_eq!(found.len(), groups.len(), "{what}");
    let mut seen = BTreeMap::new();
    for (key, value) in found {
        let group = groups
            .get(&*key)
            .unwrap_or_else(|| panic!("{what}: nobody has key {key:.20}"));
        assert!(value == expected(group), "{what}: key {key:.20}");
        assert!(seen.insert(key, ()).is_none(), "{what}: a key comes twice");
    }
}

#[test]
fn records_from_one_byte_to_four_mebibytes_are_aggregated() {
    // At most one payload of 4 MiB a key, so that lists have room in a state.
    let all = items(120, 40, 5);
    for (segments, parallelism) in [(460, 1), (1_000, 2)] {
        let job = |what: &str| {
            let environment = environment(segments, parallelism);
            let stream = environment.source("items", from_items(all.clone())).rebalance();
            (
                environment,
                stream.group_by(first()),
                format!("{what} {segments} {parallelism}"),
            )
        };
        macro_rules! check_aggregate {
            ($what:expr, $aggregate:expr, $of:expr) => {{
                let (environment, groups, what) = job($what);
                let found = groups.aggregate_final($aggregate).collect();
                let summary = run(&environment, &what);
                assert!(
                    summary.spilled_bytes_written() > 0 || parallelism > 1,
                    "{what}"
                );
                check(&what, &all, found.take(), $of);
            }};
        }
        check_aggregate!(
            "list",
            collect_list_by(third::<Item>(), second()),
            |group: &[&Item]| { group.iter().map(|item| item.2.clone()).collect::<List<Vec<u8>>>() }
        );
        check_aggregate!(
            "first",
            first_by(third::<Item>(), second()),
            |group: &[&Item]| { group[0].2.clone() }
        );
        check_aggregate!("least", min_by(second::<Item>(), third()), |group: &[&Item]| {
            group
                .iter()
                .min_by_key(|item| (&item.2, item.1))
                .expect("a group has an item")
                .1
        });
        check_aggregate!("greatest", max(third::<Item>()), |group: &[&Item]| {
            group
                .iter()
                .map(|item| item.2.clone())
                .max()
                .expect("a group has an item")
        });
        check_aggregate!(
            "count",
            (count(), min_by(third::<Item>(), second())),
            |group: &[&Item]| { (group.len() as u64, group[0].2.clone()) }
        );

        let (environment, groups, what) = job("reduced");
        let found = groups.reduce(|one, other| {
            let is_longer = (one.2.len(), one.1) >= (other.2.len(), other.1);
            Item::from_view(if is_longer { one } else { other })
        });
        let found = found.collect();
        run(&environment, &what);
        let found = found.take().into_iter().map(|item| (item.0.clone(), item));
        check(&what, &all, found.collect(), |group| {
            let longest = group.iter().max_by_key(|item| (item.2.len(), item.1));
            (*longest.expect("a group has an item")).clone()
        });
    }
}

#[test]
fn copies_of_records_from_one_byte_to_four_mebibytes_are_told_apart() {
    let mut payloads: Vec<Vec<u8>> = items(60, 24, 7).into_iter().map(|item| item.2).collect();
    let again: Vec<Vec<u8>> = payloads.iter().step_by(3).cloned().collect();
    payloads.extend(again);
    for (segments, parallelism) in [(900, 1), (1_900, 2)] {
        let environment = environment(segments, parallelism);
        let distinct = environment
            .source("payloads", from_items(payloads.clone()))
            .rebalance()
            .distinct();
        let found = distinct.map(digest).collect();
        let counted = environment
            .source("payloads again", from_items(payloads.clone()))
            .group_by(itself())
            .count();
        let counts = counted.map(|(payload, count)| (digest(payload), count)).collect();
        run(&environment, "distinct");
        let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
        payloads
            .iter()
            .for_each(|payload| *expected.entry(digest(payload)).or_default() += 1);
        let mut found = found.take();
        found.sort_unstable();
        assert!(found.iter().eq(expected.keys()));
        let mut counts = counts.take();
        counts.sort_unstable();
        assert!(counts.into_iter().eq(expected));
    }
}
