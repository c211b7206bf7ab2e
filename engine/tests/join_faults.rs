//! Joins under disks that fail or lie, functions that panic, and others who take the memory at any moment: the right rows or an
//! error, and nothing left behind.

mod join_support;

use forebay::record::Record;
use forebay::simulator::{Random, Simulation};
use forebay::{Environment, Error, ErrorKind, JobSummary, JoinStrategy, Runtime};
use forebay_memory::spill::{SimulatedDisk, SimulatedFaults, SpillConfig};
use forebay_memory::{MemoryManager, Plan, SegmentSource, SpillStore};
use join_support::*;
use std::sync::{Arc, Mutex};

/// A healthy disk whose transfers complete in any order.
const SLOW: SimulatedFaults = SimulatedFaults {
    short_one_in: 0,
    write_error_one_in: 0,
    read_error_one_in: 0,
    no_space_one_in: 0,
    torn_one_in: 0,
    bit_flip_one_in: 0,
    delays: true,
    capacity_bytes: None,
    refuse_files: false,
};

/// A simulated run of a join of wide rows, and all that it may leave behind checked.
fn simulated(
    [left, right]: [&[(u64, u64)]; 2],
    kind: Kind,
    way: Way,
    faults: SimulatedFaults,
    seed: u64,
    meters: [&Meter; 2],
) -> Result<(Vec<Ids>, JobSummary), Error> {
    let plan = Plan::with_segments(64, 512, way.segment_size).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(way.segments, 512, way.segment_size);
    let disk = SimulatedDisk::new(seed, faults);
    let handles = 3 * way.parallelism;
    let config = SpillConfig {
        workspace_bytes: handles * 4 * (8 << 10),
        write_bytes: 8 << 10,
        handles,
        extent_bytes: 128 << 10,
        ..SpillConfig::default()
    };
    let spill = SpillStore::on_simulated(&disk, &config).expect("a store on a simulated disk");
    let runtime = Runtime::from_parts(plan, manager.expect("it is little memory"), spill);
    let environment = Environment::new(runtime.clone()).with_parallelism(way.parallelism);
    let (left, right) = (with_payload(left), with_payload(right));
    let found = join_in(&environment, &left, &right, kind, way, meters);
    let simulation = Simulation {
        rivals: way.rival.is_some(),
        ..Simulation::new(seed)
    };
    let result = environment.simulate("join", &simulation);
    drop(environment);
    assert_eq!(
        runtime.manager().outstanding(),
        0,
        "segments are out: {kind:?} {way:?}"
    );
    assert_eq!(
        runtime.spill().used_bytes(),
        0,
        "spill space is in use: {kind:?} {way:?}"
    );
    assert_eq!(
        disk.report().in_flight,
        0,
        "transfers are in flight: {kind:?} {way:?}"
    );
    drop(runtime);
    assert_eq!(
        disk.report().open_files,
        0,
        "spill files are left: {kind:?} {way:?}"
    );
    let report = result?;
    let mut found = found.take();
    found.sort_unstable();
    Ok((found, report.summary))
}

/// Ways of joining that meet every phase: in memory, spilled by several levels, in passes, by merging, everywhere.
fn ways() -> Vec<(Way, u64)> {
    let way = |strategy, segments, parallelism| Way {
        strategy,
        segments,
        parallelism,
        ..PLAIN
    };
    // With one key on one in so many records, of both sides.
    vec![
        (way(JoinStrategy::Hash, 400, 1), 0),
        (way(JoinStrategy::Hash, 16, 1), 0),
        (way(JoinStrategy::Hash, 40, 2), 0),
        (way(JoinStrategy::Hash, 16, 1), 1),
        (way(JoinStrategy::Hash, 18, 1), 2),
        (way(JoinStrategy::Merge, 20, 1), 0),
        (way(JoinStrategy::Merge, 20, 1), 2),
        (way(JoinStrategy::Broadcast, 40, 2), 0),
    ]
}

/// Records for sides of which one in so many has one key, where that is not 0: fewer where there are many pairs.
fn sides(salt: u64, one_in: u64) -> [Vec<(u64, u64)>; 2] {
    let counts = match one_in {
        0 => [1200, 1000],
        1 => [150, 120],
        _ => [400, 350],
    };
    [0, 1].map(|side| skewed(counts[side], salt + side as u64, one_in))
}

/// Records of which one in so many has one key, where that is not 0.
fn skewed(count: u64, salt: u64, one_in: u64) -> Vec<(u64, u64)> {
    let records = records(count, 500, salt).into_iter();
    records
        .map(|(key, id)| match one_in > 0 && id % one_in == 0 {
            true => (7, id),
            false => (key, id),
        })
        .collect()
}

/// A panic in any call of a function of a join, be it the first, the last or one between them.
#[test]
fn a_panic_in_any_phase_leaves_nothing() {
    let mut panics = 0;
    for (turn, (way, one_in)) in ways().into_iter().enumerate() {
        for (number, kind) in KINDS.into_iter().enumerate() {
            let way = Way {
                has_condition: (turn + number) % 2 == 0,
                build_left: number % 2 == 0,
                ..way
            };
            let [left, right] = sides(1, one_in);
            let run = |meters: [&Meter; 2]| simulated([&left, &right], kind, way, SLOW, 9, meters);
            let [made, asked] = [Meter::default(), Meter::default()];
            let (found, _) = run([&made, &asked]).expect("nothing fails");
            assert_same(
                found,
                &expected_of_many(&left, &right, kind, way),
                format_args!("{kind:?} {way:?}"),
            );
            for (which, calls) in [made.calls(), asked.calls()].into_iter().enumerate() {
                let mut places: Vec<u64> = (0..=4)
                    .map(|place| 1 + calls.saturating_sub(1) * place / 4)
                    .collect();
                places.dedup();
                for place in places.into_iter().filter(|_| calls > 0) {
                    let mut meters = [Meter::default(), Meter::default()];
                    meters[which] = Meter::failing_at(place);
                    let error = run([&meters[0], &meters[1]]).expect_err("a call is refused");
                    assert_eq!(error.kind(), ErrorKind::User, "{error}");
                    assert!(
                        error.to_string().contains(&format!("call {place} is refused")),
                        "{error}"
                    );
                    panics += 1;
                }
            }
        }
    }
    assert!(panics > 200, "only {panics} calls were refused");
}

/// Disks that are full, fail, tear writes or flip bits, from some transfer on.
#[test]
fn disks_that_fail_or_lie_give_the_right_rows_or_an_error() {
    let (mut right_rows, mut errors) = (0, [0; 2]);
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let ways = ways();
        let (way, one_in) = ways[1 + random.below(ways.len() - 1)];
        let kind = KINDS[random.below(KINDS.len())];
        let way = Way {
            has_condition: random.happens(2),
            build_left: random.happens(2),
            rival: random.happens(2).then_some(Rival::Restless),
            ..way
        };
        let [left, right] = sides(seed, one_in);
        let rate = 1 + random.below(15) as u32;
        let mut faults = SLOW;
        match seed % 6 {
            0 => faults.write_error_one_in = rate,
            1 => faults.read_error_one_in = rate,
            2 => faults.no_space_one_in = rate,
            3 => faults.torn_one_in = rate,
            4 => faults.bit_flip_one_in = rate,
            _ => faults.capacity_bytes = Some((random.below(5) * (128 << 10)) as u64),
        }
        let never = Meter::default();
        match simulated([&left, &right], kind, way, faults, seed, [&never, &never]) {
            Ok((found, _)) => {
                let expected = expected_of_many(&left, &right, kind, way);
                assert_same(found, &expected, format_args!("seed {seed}, {kind:?} {way:?}"));
                right_rows += 1;
            }
            Err(error) => match error.kind() {
                ErrorKind::Io => errors[0] += 1,
                ErrorKind::Corrupt => errors[1] += 1,
                _ => panic!("seed {seed}, {faults:?}: {error}"),
            },
        }
    }
    assert!(
        right_rows > 20 && errors[0] > 30 && errors[1] > 10,
        "{right_rows} had the right rows, {errors:?} failed"
    );
}

/// Somebody takes all memory in the middle of probing: tables leave of which some rows have matched, those larger than a segment, too.
#[test]
fn tables_whose_rows_have_matched_leave_memory() {
    let (left, right) = (skewed(2400, 41, 0), skewed(2000, 42, 0));
    let text = |bits: u64| match bits % 9 {
        0 => "x".repeat(5_000 + bits as usize),
        _ => format!("{bits:60}"),
    };
    for kind in KINDS {
        for build_left in [false, true] {
            // A little more than the tables take, so that they are more than their share.
            let way = |segments| Way {
                segments,
                record_size: 16 << 10,
                build_left,
                has_condition: true,
                ..PLAIN
            };
            let expected = expected_of_many(&left, &right, kind, way(0));
            let wide = [with_payload(&left), with_payload(&right)];
            run_beside_taker(&wide[0], &wide[1], kind, way(80), &expected);
            let texts = [with_keys(&left, text), with_keys(&right, text)];
            run_beside_taker(&texts[0], &texts[1], kind, way(600), &expected);
        }
    }
}

/// Joins while all memory is taken from the 500th call of the condition on.
fn run_beside_taker<K: Record + Clone>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    kind: Kind,
    way: Way,
    expected: &[Ids],
) {
    let environment = environment(way);
    let runtime = environment.runtime().clone();
    let budget = runtime.manager().budget("taker", 1, usize::MAX);
    let budget = budget.expect("one segment is to be had");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let all = taken.clone();
    let asked = Meter::acting(move |call| {
        if call >= 500 {
            let mut taken = taken.lock().expect("nobody panics");
            taken.extend(std::iter::from_fn(|| budget.try_take()));
        }
    });
    let found = join_in(&environment, left, right, kind, way, [&Meter::default(), &asked]);
    let summary = environment.execute("join");
    let summary = summary.unwrap_or_else(|error| panic!("{kind:?} {way:?}: {error}"));
    assert!(summary.spilled_bytes_written() > 0, "{kind:?} {way:?}");
    let mut found = found.take();
    found.sort_unstable();
    assert_same(found, expected, format_args!("{kind:?} {way:?}"));
    all.lock().expect("nobody panics").clear();
    assert_eq!(runtime.manager().outstanding(), 0);
    assert_eq!(runtime.spill().used_bytes(), 0);
}

/// Others who take the memory and give it back at any moment: what leaves, leaves at random points.
#[test]
fn what_leaves_at_random_points_is_joined_all_the_same() {
    let mut spilled = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed ^ 0xfeed);
        let parallelism = 1 + random.below(3);
        let strategy = [
            JoinStrategy::Hash,
            JoinStrategy::Hash,
            JoinStrategy::Merge,
            JoinStrategy::Broadcast,
        ][random.below(4)];
        let least = if strategy == JoinStrategy::Merge { 20 } else { 16 };
        let kind = KINDS[random.below(KINDS.len())];
        let way = Way {
            segments: parallelism * (least + random.below(14)),
            parallelism,
            strategy,
            has_condition: random.happens(2),
            build_left: random.happens(2),
            rival: Some(Rival::Restless),
            ..PLAIN
        };
        let one_in = [0, 0, 1, 2, 5][random.below(5)];
        let [left, right] = sides(seed, one_in);
        let never = Meter::default();
        let (found, summary) = simulated([&left, &right], kind, way, SLOW, seed, [&never, &never])
            .unwrap_or_else(|error| panic!("seed {seed}, {kind:?} {way:?}: {error}"));
        let expected = expected_of_many(&left, &right, kind, way);
        assert_same(found, &expected, format_args!("seed {seed}, {kind:?} {way:?}"));
        spilled += u64::from(summary.spilled_bytes_written() > 0);
    }
    assert!(spilled > 100, "{spilled} of 200 spilled");
}
