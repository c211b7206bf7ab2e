//! Joins of every kind and key, in budgets from the smallest on, compared with nested loops.

mod join_support;

use forebay::record::{Record, first, itself};
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, binary, from_items, generate};
use forebay::{Environment, ErrorKind, JoinStrategy, Mode, Result};
use forebay_memory::hash::{hash_bytes, hash_u64, unhash_u64};
use join_support::*;
use std::collections::BTreeMap;
use std::path::Path;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[test]
fn every_kind_in_memory_and_spilled() {
    let (left, right) = (
        with_payload(&records(900, 800, 1)),
        with_payload(&records(700, 800, 2)),
    );
    for kind in KINDS {
        for (segments, build_left, has_condition) in [
            (400, false, false),
            (16, false, false),
            (16, true, true),
            (20, false, true),
            (26, true, false),
        ] {
            let way = Way {
                segments,
                build_left,
                has_condition,
                ..PLAIN
            };
            let summary = check(&left, &right, kind, way, |_| false);
            assert_eq!(
                summary.spilled_bytes_written() > 0,
                segments < 100,
                "{kind:?} {way:?}"
            );
        }
    }
}

/// Rows that are put aside by partition until there is no more memory for them, rows for which there is none, and rows of tables that
/// have left memory.
#[test]
fn many_rows_in_more_and_less_memory_than_they_take() {
    let (left, right) = (records(60_000, 30_000, 21), records(20_000, 30_000, 22));
    for kind in KINDS {
        for (segments, build_left, has_condition) in [
            (2_000, false, false),
            (160, false, true),
            (120, false, false),
            (80, false, false),
            (400, true, true),
            (200, true, false),
        ] {
            let way = Way {
                segments,
                build_left,
                has_condition,
                ..PLAIN
            };
            let (found, summary) = joined(&left, &right, kind, way);
            let expected = expected_of_many(&left, &right, kind, way);
            assert!(found == expected, "{kind:?} {way:?}");
            match segments {
                2_000 | 400 => assert_eq!(summary.spilled_bytes_written(), 0, "{kind:?} {way:?}"),
                80 | 200 => assert!(summary.spilled_bytes_written() > 0, "{kind:?} {way:?}"),
                // About what the tables take.
                _ => {}
            }
        }
    }
}

/// Where many rows have no match, those whose partition has left memory do not pass its filter, and are not spilled.
#[test]
fn rows_without_a_match_are_not_spilled() {
    let right = records(12_000, 8_000, 41);
    let left = |one_in: u64| -> Vec<(u64, u64)> {
        let records = records(40_000, 8_000, 42).into_iter();
        records
            .map(|(key, id)| match id % one_in {
                0 => (key, id),
                _ => (1 << 40 | key, id),
            })
            .collect()
    };
    let (all, few) = (left(1), left(10));
    for kind in KINDS {
        for build_left in [false, true] {
            let way = Way {
                segments: 40,
                build_left,
                ..PLAIN
            };
            let spilled = [&all, &few].map(|left| {
                // The left side is the one that is probed, whichever it is.
                let (left, right) = if build_left {
                    (&right, left)
                } else {
                    (left, &right)
                };
                let (found, summary) = joined(left, right, kind, way);
                let expected = expected_of_many(left, right, kind, way);
                assert_same(found, &expected, format_args!("{kind:?} {way:?}"));
                summary.spilled_bytes_written()
            });
            assert!(
                spilled[1] * 3 < spilled[0] * 2,
                "{kind:?} {way:?}: {spilled:?} bytes"
            );
        }
    }
}

#[test]
fn every_kind_of_key() {
    let (left, right) = (records(900, 400, 3), records(700, 400, 4));
    for kind in KINDS {
        for (segments, parallelism) in [(18, 1), (64, 3)] {
            let way = Way {
                segments,
                parallelism,
                ..PLAIN
            };
            let text = |bits: u64| format!("{:width$}", bits, width = (bits % 40) as usize);
            check(
                &with_keys(&left, text),
                &with_keys(&right, text),
                kind,
                way,
                |_| false,
            );
            let both = |bits: u64| (bits % 20, (bits / 20).to_string());
            check(
                &with_keys(&left, both),
                &with_keys(&right, both),
                kind,
                way,
                |_| false,
            );
            let null = |bits: u64| (!bits.is_multiple_of(5)).then_some(bits as u32);
            check(
                &with_keys(&left, null),
                &with_keys(&right, null),
                kind,
                way,
                Option::is_none,
            );
            let narrow = |bits: u64| bits as u8;
            check(
                &with_keys(&left, narrow),
                &with_keys(&right, narrow),
                kind,
                way,
                |_| false,
            );
            let float = |bits: u64| match bits % 10 {
                0 => -0.0,
                1 => 0.0,
                _ => bits as f64 / 3.0,
            };
            check(
                &with_keys(&left, float),
                &with_keys(&right, float),
                kind,
                way,
                |_| false,
            );
        }
    }
}

#[test]
fn a_nan_is_a_key_like_any_other() {
    let nan = [(f64::NAN, 1)];
    let (found, _) = joined(&nan, &nan, Kind::Inner, PLAIN);
    assert_eq!(found, [(Some(1), Some(1))]);
}

/// Budgets from the smallest on: each that is near it, and one in five of those in which more and more stays in memory.
fn budgets(least: usize) -> impl Iterator<Item = usize> {
    (least..least + 4).chain((least + 4..least + 30).step_by(5))
}

#[test]
fn every_budget_from_the_smallest_on() {
    let (left, right) = (records(700, 500, 5), records(600, 500, 6));
    let wide = [with_payload(&left), with_payload(&right)];
    for strategy in [JoinStrategy::Hash, JoinStrategy::Broadcast] {
        for kind in KINDS {
            let expected = [false, true].map(|has_condition| {
                let way = Way {
                    has_condition,
                    ..PLAIN
                };
                expected_of_many(&left, &right, kind, way)
            });
            let mut spilled = 0;
            for (step, segments) in budgets(16).enumerate() {
                let way = Way {
                    segments,
                    build_left: step % 2 == 0,
                    has_condition: step % 3 == 0,
                    strategy,
                    ..PLAIN
                };
                let (found, summary) = joined(&wide[0], &wide[1], kind, way);
                let expected = &expected[usize::from(way.has_condition)];
                assert_same(found, expected, format_args!("{kind:?} {way:?}"));
                spilled += u64::from(summary.spilled_bytes_written() > 0);
            }
            assert!(
                spilled > 3,
                "{kind:?}, {strategy:?}: {spilled} budgets were too small"
            );
        }
    }
}

#[test]
fn others_in_every_budget_from_the_smallest_on() {
    let (left, right) = (records(700, 500, 5), records(600, 500, 6));
    let wide = [with_payload(&left), with_payload(&right)];
    for other in OTHERS {
        let mut spilled = 0;
        for segments in budgets(16) {
            let way = Way { segments, ..PLAIN };
            let summary = check_other(&wide[0], &wide[1], other, way, |key| key.0);
            spilled += u64::from(summary.spilled_bytes_written() > 0);
        }
        assert!(spilled > 0, "{other:?}: no budget was too small");
    }
}

#[test]
fn others_of_sides_without_records_and_with_one_key_on_half_of_them() {
    let some = records(500, 300, 7);
    let half = |count: u64, salt: u64| -> Vec<(u64, u64)> {
        let records = records(count, 200, salt).into_iter();
        records
            .map(|(key, id)| (if id % 2 == 0 { 7 } else { key }, id))
            .collect()
    };
    let halves = [half(600, 35), half(500, 36)];
    let wide = [with_payload(&halves[0]), with_payload(&halves[1])];
    for other in OTHERS {
        for (left, right) in [(0, 0), (0, 500), (500, 0)] {
            let way = Way {
                parallelism: 2,
                segments: 40,
                ..PLAIN
            };
            check_other(&some[..left], &some[..right], other, way, |key| *key);
        }
        for segments in [16, 24, 400] {
            let way = Way { segments, ..PLAIN };
            check_other(&wide[0], &wide[1], other, way, |key| key.0);
        }
    }
}

#[test]
fn sides_without_records() {
    let some = records(500, 300, 7);
    for kind in KINDS {
        for (left, right) in [(0, 0), (0, 500), (500, 0)] {
            for strategy in [JoinStrategy::Hash, JoinStrategy::Broadcast] {
                let way = Way {
                    parallelism: 2,
                    segments: 32,
                    strategy,
                    ..PLAIN
                };
                check(&some[..left], &some[..right], kind, way, |_| false);
            }
        }
    }
}

#[test]
fn a_side_goes_everywhere() {
    let (left, right) = (records(2_000, 300, 8), records(150, 300, 9));
    for kind in KINDS {
        for segments in [48, 400] {
            let way = Way {
                parallelism: 3,
                segments,
                strategy: JoinStrategy::Broadcast,
                has_condition: segments == 48,
                ..PLAIN
            };
            check(&left, &right, kind, way, |_| false);
        }
    }
}

/// One key on half of both sides, or on all of them: pairs that no bits divide.
#[test]
fn one_key_on_many_records_of_both_sides() {
    for kind in KINDS {
        for (one_in, segments, has_condition, strategy) in [
            (2, 16, false, JoinStrategy::Hash),
            (1, 16, true, JoinStrategy::Hash),
            (1, 18, false, JoinStrategy::Hash),
            (2, 17, true, JoinStrategy::Broadcast),
        ] {
            let skewed = |salt: u64, count: u64| -> Vec<(u64, u64)> {
                let records = records(count, 500, salt).into_iter();
                records
                    .map(|(key, id)| (if id % one_in == 0 { 7 } else { key }, id))
                    .collect()
            };
            let way = Way {
                segments,
                has_condition,
                strategy,
                ..PLAIN
            };
            let (left, right) = (skewed(10, 600), skewed(11, 500));
            check(&with_payload(&left), &with_payload(&right), kind, way, |_| false);
        }
    }
}

/// A segment has two of these rows, and a third of it is left over.
#[test]
fn one_key_on_rows_that_fill_segments_badly() {
    let wide = |count: u64| -> Vec<((u64, [u64; 170]), u64)> {
        let key = (7, std::array::from_fn(|lane| hash_u64(lane as u64)));
        (0..count).map(|id| (key, id)).collect()
    };
    for kind in KINDS {
        for segments in [18, 19, 23] {
            let way = Way {
                segments,
                has_condition: true,
                ..PLAIN
            };
            check(&wide(50), &wide(40), kind, way, |_| false);
        }
    }
}

/// Keys whose hashes agree in all the bits that partitions look at, and in those that slots do.
#[test]
fn keys_whose_hashes_agree() {
    let key = |bits: u64| unhash_u64(0x1234_5678_9abc_0000 | bits);
    let (left, right) = (records(900, 600, 12), records(700, 600, 13));
    let alike = [with_keys(&left, key), with_keys(&right, key)];
    for kind in KINDS {
        let expected = expected_of_many(&left, &right, kind, PLAIN);
        for (strategy, segments) in [
            (JoinStrategy::Hash, 16),
            (JoinStrategy::Hash, 400),
            (JoinStrategy::Broadcast, 16),
            (JoinStrategy::Merge, 20),
        ] {
            let way = Way {
                strategy,
                segments,
                ..PLAIN
            };
            let (found, _) = joined(&alike[0], &alike[1], kind, way);
            assert_same(found, &expected, format_args!("{kind:?} {way:?}"));
        }
    }
    for other in OTHERS {
        check_other(&alike[0], &alike[1], other, PLAIN, |key| *key);
    }
}

/// XXH3 multiplies the words of a key of 17 to 32 bytes with each other: where one of them is the first word of its secret, which is
/// subtracted from it, the next one is of no consequence. Keys like that all have one hash, of all 64 bits.
fn one_hash(bits: u64) -> [u64; 4] {
    const SECRET: [u8; 8] = [0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe];
    [u64::from_le_bytes(SECRET), bits, 1, 2]
}

#[test]
fn keys_that_all_have_one_hash() {
    let bytes = |key: [u64; 4]| key.map(u64::to_le_bytes).concat();
    let hashes = [1, 2, 77].map(|bits| hash_bytes(&bytes(one_hash(bits))));
    assert_eq!(hashes, [hashes[0]; 3], "the keys are what they are meant to be");
    let (left, right) = (records(500, 300, 37), records(400, 300, 38));
    let alike = [with_keys(&left, one_hash), with_keys(&right, one_hash)];
    for kind in KINDS {
        for (strategy, segments, parallelism) in [
            (JoinStrategy::Hash, 16, 1),
            (JoinStrategy::Hash, 400, 2),
            (JoinStrategy::Broadcast, 32, 2),
            (JoinStrategy::Merge, 20, 1),
        ] {
            let way = Way {
                strategy,
                segments,
                parallelism,
                has_condition: segments == 400,
                ..PLAIN
            };
            let expected = expected_of_many(&left, &right, kind, way);
            let (found, _) = joined(&alike[0], &alike[1], kind, way);
            assert_same(found, &expected, format_args!("{kind:?} {way:?}"));
        }
    }
    for other in OTHERS {
        for segments in [16, 400] {
            let way = Way { segments, ..PLAIN };
            check_other(&alike[0], &alike[1], other, way, |key| key[1]);
        }
    }
}

#[test]
fn records_larger_than_a_segment_on_both_sides() {
    let text = |bits: u64| {
        "x".repeat(match bits % 7 {
            0 => 9_000 + bits as usize,
            1 => 4_000,
            _ => bits as usize % 50,
        })
    };
    for (turn, kind) in KINDS.into_iter().enumerate() {
        for segments in [16 + 8, 200] {
            let way = Way {
                segments,
                record_size: 16 << 10,
                build_left: turn % 2 == 0,
                has_condition: turn % 3 == 0,
                ..PLAIN
            };
            let (left, right) = (records(150, 100, 14), records(120, 100, 15));
            check(
                &with_keys(&left, text),
                &with_keys(&right, text),
                kind,
                way,
                |_| false,
            );
        }
    }
}

#[test]
fn streaming_mode_gives_the_same() {
    let (left, right) = (records(1_000, 500, 16), records(1_000, 500, 17));
    for kind in KINDS {
        let way = Way {
            mode: Mode::Streaming,
            parallelism: 2,
            segments: 32,
            ..PLAIN
        };
        check(&left, &right, kind, way, |_| false);
    }
}

#[test]
fn crosses_and_conditions_alone() {
    for (segments, parallelism) in [(32, 1), (100, 2)] {
        let way = Way {
            segments,
            parallelism,
            ..PLAIN
        };
        let environment = environment(way);
        let left = environment.source("left", from_items((0..700_u64).collect::<Vec<_>>()));
        let right = environment.source(
            "right",
            from_items((0..400_u64).map(|n| (n, [n; 20])).collect::<Vec<_>>()),
        );
        let (left, again) = left.fork();
        let all = left.cross(right, |l, r| l * 1000 + r.0).collect();
        let right = environment.source("few", from_items(vec![3_u64, 699, 800]));
        let less = again
            .join(right)
            .on_nothing()
            .matching(|l, r| l > r)
            .full_outer(|l, r| (l, r))
            .collect();
        environment.execute("cross").expect("the job runs");
        let mut all = all.take();
        all.sort_unstable();
        let expected: Vec<u64> = (0..700)
            .flat_map(|l| (0..400).map(move |r| l * 1000 + r))
            .collect();
        assert!(all == expected, "{} pairs", all.len());
        let mut less = less.take();
        less.sort_unstable();
        let mut expected: Vec<(Option<u64>, Option<u64>)> = (4..700).map(|l| (Some(l), Some(3))).collect();
        expected.extend((0..4).map(|l| (Some(l), None)));
        expected.extend([(None, Some(699)), (None, Some(800))]);
        expected.sort_unstable();
        assert_eq!(less, expected);
    }
}

/// What binary files have.
#[derive(Clone, Copy, Record, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[record(plain)]
struct Number {
    value: u64,
}

/// Which side is kept in memory depends on what is known of both; what was told comes first.
#[test]
fn the_side_that_is_known_to_be_much_smaller_is_kept() {
    let directory = std::env::temp_dir().join(format!("forebay-joins-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the test");
    let file = |name: &str, count: u64| {
        let path = directory.join(name);
        std::fs::write(&path, vec![0_u8; count as usize * 8]).expect("a file for the test");
        path
    };
    let (short, long) = (file("short", 100), file("long", 1000));
    let items = |environment: &Environment, count: u64| {
        environment.source("items", from_items((0..count).collect::<Vec<u64>>()))
    };
    let texts = |environment: &Environment, count: u64| {
        let texts: Vec<String> = (0..count).map(|_| "x".repeat(40)).collect();
        environment.source("texts", from_items(texts))
    };
    let made = |environment: &Environment, count: u64| environment.source("made", generate(count, |n| n));
    let read = |environment: &Environment, path: &Path| {
        let path = path.to_str().expect("it is a name in UTF-8");
        environment
            .source("read", binary::<Number>(path))
            .map(|number| number.value)
    };
    let kept = |make: &dyn Fn(&Environment)| {
        let environment = environment(PLAIN);
        make(&environment);
        let plan = environment.explain("join").expect("the job has a plan");
        let sides = ["left side in memory", "right side in memory"].map(|side| plan.contains(side));
        assert!(sides[0] != sides[1], "{plan}");
        if sides[0] { "left" } else { "right" }
    };
    macro_rules! kept_of {
        ($environment:ident: $left:expr, $right:expr $(, $hint:ident($($value:expr)?))*) => {
            kept(&|$environment| {
                let join = $left.join($right).on(itself(), itself());
                join$(.$hint($($value)?))*.semi().blackhole();
            })
        };
    }
    // Of every source that says how much it has; less than half is less.
    assert_eq!(kept_of!(e: items(e, 100), items(e, 1000)), "left");
    assert_eq!(kept_of!(e: items(e, 1000), items(e, 100)), "right");
    assert_eq!(kept_of!(e: items(e, 600), items(e, 1000)), "right");
    assert_eq!(kept_of!(e: made(e, 100), read(e, &long)), "left");
    assert_eq!(kept_of!(e: read(e, &short), made(e, 1000)), "left");
    assert_eq!(kept_of!(e: read(e, &long), read(e, &short)), "right");
    assert_eq!(kept_of!(e: texts(e, 100), texts(e, 1000)), "left");
    assert_eq!(
        kept_of!(e: items(e, 100).union(made(e, 100)), items(e, 1000)),
        "left"
    );
    // By bytes, behind what makes a row of a row, too.
    let wide = |e: &Environment| made(e, 1000).map(|n| (n, [n; 20])).map(|pair| pair.0 + pair.1[3]);
    assert_eq!(kept_of!(e: wide(e), made(e, 3000)), "left");
    assert_eq!(
        kept(&|e| {
            let wide = made(e, 1000).map(|n| (n, [n; 20])).name("wide");
            wide.join(made(e, 3000)).on(first(), itself()).semi().blackhole();
        }),
        "right"
    );
    // A filter leaves less of the left side; how much it leaves of the right one nobody knows.
    assert_eq!(
        kept_of!(e: made(e, 100).filter(|n| n % 2 == 0), made(e, 1000)),
        "left"
    );
    assert_eq!(
        kept_of!(e: made(e, 100), made(e, 1000).filter(|n| n % 2 == 0)),
        "right"
    );
    let many = |e: &Environment| made(e, 100).flat_map(|n, out| out.push(n));
    assert_eq!(kept_of!(e: many(e), made(e, 1000)), "right");
    assert_eq!(
        kept_of!(e: read(e, &directory.join("none")), made(e, 1000)),
        "right"
    );
    // What was told comes first.
    assert_eq!(kept_of!(e: made(e, 100), made(e, 1000), build_right()), "right");
    assert_eq!(kept_of!(e: made(e, 1000), made(e, 100), build_left()), "left");
    let everywhere = JoinStrategy::Broadcast;
    assert_eq!(
        kept_of!(e: made(e, 100), made(e, 1000), strategy(everywhere)),
        "right"
    );
    std::fs::remove_dir_all(&directory).expect("the directory is the test's own");

    // The side that fits is the one that is kept.
    let (few, lots) = (records(300, 200, 39), records(6_000, 200, 40));
    for kind in KINDS {
        let spilled = [(&few, &lots), (&lots, &few)].map(|(left, right)| {
            let way = Way {
                segments: 40,
                ..PLAIN
            };
            let (found, summary) = joined(left, right, kind, way);
            let expected = expected_of_many(left, right, kind, way);
            assert_same(found, &expected, format_args!("{kind:?} {way:?}"));
            summary.spilled_bytes_written()
        });
        assert_eq!(spilled, [0, 0], "{kind:?}");
    }
}

/// Both sides from one source, and joins that wait for each other's inputs: nothing may hold the other up.
#[test]
fn diamonds_self_joins_and_circles() {
    for (segments, parallelism) in [(48, 1), (200, 2)] {
        let way = Way {
            segments,
            parallelism,
            ..PLAIN
        };
        let environment = environment(way);
        let data = records(8_000, 2_000, 18);
        let (one, other) = environment.source("one", from_items(data.clone())).fork();
        let (one, third) = one.fork();
        let same = one
            .filter(|pair| pair.1 % 2 == 0)
            .join(other.filter(|pair| pair.1 % 3 == 0))
            .on(first(), first())
            .inner(|l, r| (l.1, r.1))
            .collect();
        // Each waits for what the other holds back.
        let data_b = records(8_000, 2_000, 19);
        let (a, a_again) = third.fork();
        let (b, b_again) = environment.source("b", from_items(data_b.clone())).fork();
        let forth = a.join(b).on(first(), first()).semi();
        let back = b_again.join(a_again).on(first(), first()).anti();
        let both = forth.union(back).collect();
        environment.execute("diamonds").expect("the job runs");
        let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        data.iter()
            .for_each(|(key, id)| by_key.entry(*key).or_default().push(*id));
        let mut expected: Vec<(u64, u64)> = Vec::new();
        for ids in by_key.values() {
            for l in ids.iter().filter(|id| **id % 2 == 0) {
                expected.extend(ids.iter().filter(|id| **id % 3 == 0).map(|r| (*l, *r)));
            }
        }
        let sorted = |mut pairs: Vec<(u64, u64)>| {
            pairs.sort_unstable();
            pairs
        };
        assert!(sorted(same.take()) == sorted(expected), "a stream with itself");
        let keys_b: std::collections::BTreeSet<u64> = data_b.iter().map(|pair| pair.0).collect();
        let mut expected: Vec<(u64, u64)> = data
            .iter()
            .filter(|pair| keys_b.contains(&pair.0))
            .copied()
            .collect();
        expected.extend(data_b.iter().filter(|pair| !by_key.contains_key(&pair.0)));
        assert!(
            sorted(both.take()) == sorted(expected),
            "joins that wait for each other"
        );
    }
}

/// A source that does not end, and has nothing.
struct Endless;

impl Source for Endless {
    type Out = (u64, u64);
    type Split = ();
    type Reader = Endless;

    fn splits(&self, _: usize) -> Result<Vec<()>> {
        Ok(vec![()])
    }

    fn reader(&self, (): ()) -> Result<Endless> {
        Ok(Endless)
    }

    fn is_bounded(&self) -> bool {
        false
    }
}

impl SourceReader for Endless {
    type Out = (u64, u64);

    fn poll(&mut self, _: &mut SourceOutput<'_, '_, (u64, u64)>) -> Result<SourceStatus> {
        Ok(SourceStatus::Idle(None))
    }
}

#[test]
fn a_side_that_does_not_end_is_refused() {
    let environment = environment(PLAIN).with_mode(Mode::Streaming);
    let bids = environment.source("bids", Endless);
    let some = environment.source("some", from_items(vec![(1_u64, 1_u64)]));
    some.join(bids.map(|pair| pair))
        .on(first(), first())
        .semi()
        .blackhole();
    let error = environment.execute("endless").expect_err("it would not end");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        "job \"endless\": \"semi join\" joins what comes of source \"bids\", which does not end: neither would its matches, nor \
         the memory for them; bound the source"
    );
}

/// As other ways to join, by merging sorted sides.
const MERGED: Way = Way {
    strategy: JoinStrategy::Merge,
    segments: 20,
    ..PLAIN
};

#[test]
fn merged_every_kind_in_every_budget_from_the_smallest_on() {
    let (left, right) = (
        with_payload(&records(900, 800, 21)),
        with_payload(&records(700, 800, 22)),
    );
    for (step, segments) in (20..60).chain([400]).enumerate() {
        for (turn, kind) in KINDS.into_iter().enumerate() {
            if segments > 22 && (step + turn) % 6 != 0 {
                continue;
            }
            let way = Way {
                segments,
                has_condition: (step + turn) % 2 == 0,
                build_left: step % 3 == 0,
                ..MERGED
            };
            let summary = check(&left, &right, kind, way, |_| false);
            assert_eq!(
                summary.spilled_bytes_written() > 0,
                segments < 100,
                "{kind:?} {way:?}"
            );
        }
    }
}

#[test]
fn merged_every_kind_of_key() {
    let (left, right) = (records(900, 400, 23), records(700, 400, 24));
    for kind in KINDS {
        for (segments, parallelism, has_condition) in [(24, 1, true), (90, 3, false)] {
            let way = Way {
                segments,
                parallelism,
                has_condition,
                ..MERGED
            };
            let text = |bits: u64| format!("{:width$}", bits, width = (bits % 40) as usize);
            check(
                &with_keys(&left, text),
                &with_keys(&right, text),
                kind,
                way,
                |_| false,
            );
            let both = |bits: u64| (bits % 20, (bits / 20).to_string());
            check(
                &with_keys(&left, both),
                &with_keys(&right, both),
                kind,
                way,
                |_| false,
            );
            let null = |bits: u64| (!bits.is_multiple_of(5)).then_some(bits as u32);
            check(
                &with_keys(&left, null),
                &with_keys(&right, null),
                kind,
                way,
                Option::is_none,
            );
            let signed = |bits: u64| bits as i32 - 200;
            check(
                &with_keys(&left, signed),
                &with_keys(&right, signed),
                kind,
                way,
                |_| false,
            );
            let float = |bits: u64| match bits % 10 {
                0 => -0.0,
                1 => 0.0,
                _ => bits as f64 / 3.0 - 50.0,
            };
            check(
                &with_keys(&left, float),
                &with_keys(&right, float),
                kind,
                way,
                |_| false,
            );
        }
    }
    let nan = [(f64::NAN, 1), (-f64::NAN, 2)];
    let (found, _) = joined(&nan, &nan, Kind::Inner, MERGED);
    let pair = |left, right| (Some(left), Some(right));
    assert_eq!(found, [pair(1, 1), pair(1, 2), pair(2, 1), pair(2, 2)]);
}

#[test]
fn merged_sides_without_records_and_with_one_key_on_half_of_them() {
    let some = records(500, 300, 25);
    let skewed = |count: u64, salt: u64, one_in: u64| -> Vec<(u64, u64)> {
        let records = records(count, 500, salt).into_iter();
        records
            .map(|(key, id)| (if id % one_in == 0 { 7 } else { key }, id))
            .collect()
    };
    for kind in KINDS {
        for (left, right) in [(0, 0), (0, 500), (500, 0)] {
            let way = Way {
                parallelism: 2,
                segments: 40,
                ..MERGED
            };
            check(&some[..left], &some[..right], kind, way, |_| false);
        }
        for (one_in, segments, has_condition) in
            [(2, 20, false), (2, 20, true), (1, 24, true), (1, 400, false)]
        {
            let way = Way {
                segments,
                has_condition,
                ..MERGED
            };
            let (left, right) = (skewed(600, 26, one_in), skewed(500, 27, one_in));
            check(&with_payload(&left), &with_payload(&right), kind, way, |_| false);
        }
    }
}

#[test]
fn merged_records_larger_than_a_segment() {
    let text = |bits: u64| {
        "x".repeat(match bits % 7 {
            0 => 9_000 + bits as usize,
            1 => 4_000,
            _ => bits as usize % 50,
        })
    };
    for (turn, kind) in KINDS.into_iter().enumerate() {
        for segments in [36, 300] {
            let way = Way {
                segments,
                record_size: 16 << 10,
                has_condition: turn % 2 == 0,
                ..MERGED
            };
            let (left, right) = (records(150, 60, 28), records(120, 60, 29));
            check(
                &with_keys(&left, text),
                &with_keys(&right, text),
                kind,
                way,
                |_| false,
            );
        }
    }
}

#[test]
fn merged_diamonds_and_panics_leave_nothing() {
    for refused in [None, Some(150)] {
        let environment = environment(Way {
            segments: 100,
            parallelism: 2,
            ..MERGED
        });
        let (one, other) = environment
            .source("one", from_items(records(3_000, 300, 30)))
            .fork();
        let pairs = one
            .join(other)
            .on(first(), first())
            .strategy(JoinStrategy::Merge)
            .inner(move |left, right| {
                assert!(Some(left.0) != refused, "this key is refused");
                (left.1, right.1)
            })
            .name("merged")
            .collect();
        let result = environment.execute("diamond");
        assert_eq!(environment.runtime().manager().outstanding(), 0);
        assert_eq!(environment.runtime().spill().used_bytes(), 0);
        match refused {
            None => {
                result.expect("the job runs");
                let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
                records(3_000, 300, 30)
                    .iter()
                    .for_each(|(key, _)| *counts.entry(*key).or_default() += 1);
                assert_eq!(
                    pairs.take().len(),
                    counts.values().map(|count| count * count).sum::<usize>()
                );
            }
            Some(_) => {
                let error = result.expect_err("a key is refused");
                assert_eq!(error.kind(), ErrorKind::User, "{error}");
                assert!(error.to_string().contains("\"merged\""), "{error}");
            }
        }
    }
}

#[test]
fn every_kind_while_others_take_the_memory() {
    let (mut left, mut right) = (records(3_000, 1_500, 31), records(2_500, 1_500, 32));
    left.extend((0..150).map(|id| (7, 10_000 + id)));
    right.extend((0..120).map(|id| (7, 20_000 + id)));
    let texts = |records: &[(u64, u64)]| with_keys(records, |bits| format!("{bits:40}"));
    for rival in [Rival::Restless, Rival::Greedy] {
        for strategy in [JoinStrategy::Hash, JoinStrategy::Merge] {
            for kind in KINDS {
                for (has_condition, parallelism) in [(false, 2), (true, 3)] {
                    let way = Way {
                        segments: 200,
                        parallelism,
                        strategy,
                        has_condition,
                        rival: Some(rival),
                        ..PLAIN
                    };
                    let expected = expected_of_many(&left, &right, kind, way);
                    let (found, _) = joined(&left, &right, kind, way);
                    assert!(found == expected, "{kind:?} {way:?}");
                    let (found, _) = joined(&texts(&left), &texts(&right), kind, way);
                    assert!(found == expected, "{kind:?} {way:?}, texts");
                }
            }
        }
    }
}
