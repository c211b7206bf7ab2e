//! Joins of every kind and key, in budgets from the smallest on, compared with nested loops.

mod join_support;

use forebay::record::first;
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus, from_items};
use forebay::{ErrorKind, JoinStrategy, Mode, Result};
use forebay_memory::hash::{hash_u64, unhash_u64};
use join_support::*;
use std::collections::BTreeMap;

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

#[test]
fn every_budget_from_the_smallest_on() {
    let (left, right) = (
        with_payload(&records(700, 500, 5)),
        with_payload(&records(600, 500, 6)),
    );
    for (step, segments) in (16..60).enumerate() {
        let way = Way {
            segments,
            build_left: step % 2 == 0,
            has_condition: step % 3 == 0,
            ..PLAIN
        };
        check(&left, &right, KINDS[step % KINDS.len()], way, |_| false);
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
        for (one_in, segments, has_condition) in [(2, 16, false), (1, 16, true), (1, 18, false)] {
            let skewed = |salt: u64, count: u64| -> Vec<(u64, u64)> {
                let records = records(count, 500, salt).into_iter();
                records
                    .map(|(key, id)| (if id % one_in == 0 { 7 } else { key }, id))
                    .collect()
            };
            let way = Way {
                segments,
                has_condition,
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
    for kind in [Kind::Inner, Kind::Full, Kind::Anti] {
        let (left, right) = (records(1_500, 1_000, 12), records(1_200, 1_000, 13));
        check(
            &with_keys(&left, key),
            &with_keys(&right, key),
            kind,
            PLAIN,
            |_| false,
        );
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
