//! Joins under disks that fail or lie, functions that panic, and others who take the memory at any moment: the right rows or an
//! error, and nothing left behind.

mod join_support;

use forebay::record::{Record, first};
use forebay::simulator::{Random, Simulation};
use forebay::sink::Collected;
use forebay::source::from_items;
use forebay::{Environment, Error, ErrorKind, JobHandle, JobStatus, JobSummary, JoinStrategy, Runtime};
use forebay_memory::spill::{SimulatedDisk, SimulatedFaults, SpillConfig};
use forebay_memory::{MemoryManager, Plan, SegmentSource, SpillStore};
use join_support::*;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    let (left, right) = (with_payload(left), with_payload(right));
    simulated_job(
        way,
        faults,
        seed,
        format_args!("{kind:?} {way:?}"),
        |environment| join_in(environment, &left, &right, kind, way, meters),
    )
}

/// As [`simulated`], for what is made of two streams otherwise.
fn simulated_other(
    [left, right]: [&[(u64, u64)]; 2],
    other: Other,
    way: Way,
    faults: SimulatedFaults,
    seed: u64,
) -> Result<(Vec<Ids>, JobSummary), Error> {
    let (left, right) = (with_payload(left), with_payload(right));
    simulated_job(
        way,
        faults,
        seed,
        format_args!("{other:?} {way:?}"),
        |environment| {
            other_in(
                environment,
                &left,
                &right,
                other,
                way,
                |key| key.0,
                &Meter::default(),
            )
        },
    )
}

/// A simulated run of a job, and all that it may leave behind checked; what it has collected, sorted.
fn simulated_job<T: Record + Ord>(
    way: Way,
    faults: SimulatedFaults,
    seed: u64,
    what: std::fmt::Arguments<'_>,
    make: impl FnOnce(&Environment) -> Collected<T>,
) -> Result<(Vec<T>, JobSummary), Error> {
    let plan = Plan::with_segments(64, 512, way.segment_size).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(way.segments, 512, way.segment_size);
    let disk = SimulatedDisk::new(seed, faults);
    let handles = 6 * way.parallelism;
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
    let found = make(&environment);
    let simulation = Simulation {
        rivals: way.rival.is_some(),
        ..Simulation::new(seed)
    };
    let result = environment.simulate("join", &simulation);
    drop(environment);
    assert_eq!(runtime.manager().outstanding(), 0, "segments are out: {what}");
    assert_eq!(runtime.spill().used_bytes(), 0, "spill space is in use: {what}");
    assert_eq!(disk.report().in_flight, 0, "transfers are in flight: {what}");
    drop(runtime);
    assert_eq!(disk.report().open_files, 0, "spill files are left: {what}");
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

/// A disk that fails or lies in one of six ways, from some transfer on.
fn faults(which: usize, random: &mut Random) -> SimulatedFaults {
    let rate = 1 + random.below(15) as u32;
    let mut faults = SLOW;
    match which {
        0 => faults.write_error_one_in = rate,
        1 => faults.read_error_one_in = rate,
        2 => faults.no_space_one_in = rate,
        3 => faults.torn_one_in = rate,
        4 => faults.bit_flip_one_in = rate,
        _ => faults.capacity_bytes = Some((random.below(5) * (128 << 10)) as u64),
    }
    faults
}

/// What runs on such disks ended with.
#[derive(Debug, Default)]
struct Ends {
    right_rows: usize,
    io_errors: usize,
    damaged: usize,
}

impl Ends {
    /// Counts an end, which must be the right rows or an error of the disk.
    fn count(
        &mut self,
        result: Result<(Vec<Ids>, JobSummary), Error>,
        expected: impl FnOnce() -> Vec<Ids>,
        what: std::fmt::Arguments<'_>,
    ) {
        match result {
            Ok((found, _)) => {
                assert_same(found, &expected(), what);
                self.right_rows += 1;
            }
            Err(error) => match error.kind() {
                ErrorKind::Io => self.io_errors += 1,
                ErrorKind::Corrupt => self.damaged += 1,
                _ => panic!("{what}: {error}"),
            },
        }
    }
}

/// Disks that are full, fail, tear writes or flip bits, from some transfer on: each, for every kind, whatever way it goes.
#[test]
fn disks_that_fail_or_lie_give_the_right_rows_or_an_error() {
    let mut ends = Ends::default();
    let ways = &ways()[1..];
    for seed in 0..36 * ways.len() {
        let mut random = Random::new(seed as u64);
        let (way, one_in) = ways[seed / 36];
        let kind = KINDS[seed % 6];
        let way = Way {
            has_condition: random.happens(2),
            build_left: random.happens(2),
            rival: random.happens(2).then_some(Rival::Restless),
            ..way
        };
        let [left, right] = sides(seed as u64, one_in);
        let faults = faults(seed / 6 % 6, &mut random);
        let never = Meter::default();
        let result = simulated([&left, &right], kind, way, faults, seed as u64, [&never, &never]);
        ends.count(
            result,
            || expected_of_many(&left, &right, kind, way),
            format_args!("seed {seed}, {kind:?} {way:?}, {faults:?}"),
        );
    }
    assert!(
        ends.right_rows > 20 && ends.io_errors > 30 && ends.damaged > 10,
        "{ends:?}"
    );
}

#[test]
fn others_on_disks_that_fail_or_lie_give_the_right_rows_or_an_error() {
    let mut ends = Ends::default();
    for seed in 0..72 {
        let mut random = Random::new(seed as u64 ^ 0xd15c);
        let other = OTHERS[seed % 6];
        let parallelism = 1 + seed / 36;
        let way = Way {
            segments: 20 * parallelism,
            parallelism,
            has_condition: random.happens(2),
            rival: random.happens(2).then_some(Rival::Restless),
            ..PLAIN
        };
        let [left, right] = sides(seed as u64, [0, 2][random.below(2)]);
        let faults = faults(seed / 6 % 6, &mut random);
        ends.count(
            simulated_other([&left, &right], other, way, faults, seed as u64),
            || expected_of_other(&left, &right, other, way, |key| *key),
            format_args!("seed {seed}, {other:?} {way:?}, {faults:?}"),
        );
    }
    assert!(
        ends.right_rows > 5 && ends.io_errors > 10 && ends.damaged > 5,
        "{ends:?}"
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

/// The same of a few rows, which are in one table, and leave as a whole.
#[test]
fn the_one_table_of_few_rows_leaves_memory() {
    let (few, many) = (skewed(5000, 43, 0), skewed(6000, 44, 0));
    for kind in KINDS {
        for build_left in [false, true] {
            let way = Way {
                segments: 460,
                build_left,
                has_condition: true,
                ..PLAIN
            };
            let (left, right) = if build_left { (&few, &many) } else { (&many, &few) };
            let expected = expected_of_many(left, right, kind, way);
            // So many have a share that one is less than the table takes.
            run_beside_takers(left, right, kind, way, 100, &expected);
            // Entries with their hashes, of sizes of their own.
            let few = &few[..1500];
            let (left, right) = if build_left {
                (few, &many[..])
            } else {
                (&many[..], few)
            };
            let expected = expected_of_many(left, right, kind, way);
            let [left, right] = [left, right].map(|side| with_keys(side, |bits| format!("{bits:20}")));
            run_beside_takers(&left, &right, kind, way, 100, &expected);
        }
    }
}

fn run_beside_taker<K: Record + Clone>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    kind: Kind,
    way: Way,
    expected: &[Ids],
) {
    run_beside_takers(left, right, kind, way, 1, expected);
}

/// Joins while all memory is taken by so many from the 500th call of the condition on.
fn run_beside_takers<K: Record + Clone>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    kind: Kind,
    way: Way,
    takers: usize,
    expected: &[Ids],
) {
    let environment = environment(way);
    let runtime = environment.runtime().clone();
    let manager = runtime.manager().clone();
    let taker = move || {
        manager
            .budget("taker", 1, usize::MAX)
            .expect("one segment is to be had")
    };
    let budgets = Mutex::new(vec![taker()]);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let all = taken.clone();
    let asked = Meter::acting(move |call| {
        if call >= 500 && (takers == 1 || call % 50 == 0) {
            // The shares of all become less.
            let mut budgets = budgets.lock().expect("nobody panics");
            budgets.resize_with(takers, &taker);
            let mut taken = taken.lock().expect("nobody panics");
            for budget in &*budgets {
                let most = if takers == 1 {
                    usize::MAX
                } else {
                    budget.fair_share()
                };
                let has_less = |_: &usize| budget.held() < most;
                taken.extend((0..).take_while(has_less).map_while(|_| budget.try_take()));
            }
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
        let mut random = Random::new(seed as u64 ^ 0xfeed);
        let parallelism = 1 + random.below(3);
        let strategy = [
            JoinStrategy::Hash,
            JoinStrategy::Hash,
            JoinStrategy::Merge,
            JoinStrategy::Broadcast,
        ][seed / 6 % 4];
        let least = if strategy == JoinStrategy::Merge { 20 } else { 16 };
        let kind = KINDS[seed % 6];
        let way = Way {
            segments: parallelism * (least + random.below(14)),
            parallelism,
            strategy,
            has_condition: random.happens(2),
            build_left: random.happens(2),
            rival: Some(Rival::Restless),
            ..PLAIN
        };
        let one_in = [0, 0, 1, 2, 5][seed / 24 % 5];
        let [left, right] = sides(seed as u64, one_in);
        let never = Meter::default();
        let (found, summary) = simulated([&left, &right], kind, way, SLOW, seed as u64, [&never, &never])
            .unwrap_or_else(|error| panic!("seed {seed}, {kind:?} {way:?}: {error}"));
        let expected = expected_of_many(&left, &right, kind, way);
        assert_same(found, &expected, format_args!("seed {seed}, {kind:?} {way:?}"));
        spilled += u64::from(summary.spilled_bytes_written() > 0);
    }
    assert!(spilled > 100, "{spilled} of 200 spilled");
}

/// As in memory, where everything else is.
#[test]
fn others_leave_at_random_points_all_the_same() {
    let mut spilled = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed as u64 ^ 0xbeef);
        let parallelism = 1 + random.below(3);
        let other = OTHERS[seed % 6];
        let way = Way {
            segments: parallelism * (16 + random.below(14)),
            parallelism,
            has_condition: random.happens(2),
            rival: Some(Rival::Restless),
            ..PLAIN
        };
        let [left, right] = sides(seed as u64, [0, 2][random.below(2)]);
        let (found, summary) = simulated_other([&left, &right], other, way, SLOW, seed as u64)
            .unwrap_or_else(|error| panic!("seed {seed}, {other:?} {way:?}: {error}"));
        let expected = expected_of_other(&left, &right, other, way, |key| *key);
        assert_same(found, &expected, format_args!("seed {seed}, {other:?} {way:?}"));
        spilled += u64::from(summary.spilled_bytes_written() > 0);
    }
    assert!(spilled > 30, "{spilled} of 60 spilled");
}

const SEGMENTS: usize = 64;

/// A meter whose first call is told.
fn first_call() -> (Meter, Receiver<()>) {
    let (sender, receiver) = channel();
    let meter = Meter::acting(move |call| {
        if call == 1 {
            sender.send(()).expect("the test is there");
        }
    });
    (meter, receiver)
}

/// Starts a job, waits until its join has come so far, and asks for the minimum of another one: most of what the join has.
fn start_beside(environment: &Environment, reached: &Receiver<()>) -> JobHandle {
    let handle = environment.execute_async("join").expect("the job starts");
    reached.recv().expect("the join comes so far");
    let manager = environment.runtime().manager();
    let late = manager.budget_within("late", SEGMENTS - 16, SEGMENTS, Duration::from_secs(5));
    late.unwrap_or_else(|error| panic!("another job's minimum is not to be had: {error}"));
    handle
}

/// A join gives back the memory of a chunk in the middle of a pass.
#[test]
fn a_job_starts_while_a_join_is_in_a_pass() {
    for builds_left in [false, true] {
        let environment = environment(Way {
            segments: SEGMENTS,
            ..PLAIN
        });
        let [left, right] = [("left", 1), ("right", 2)]
            .map(|(name, salt)| environment.source(name, from_items(records(60_000, 1, salt))));
        let (asked, reached) = first_call();
        let join = left.join(right).on(first(), first());
        let join = if builds_left { join.build_left() } else { join };
        let join = join.matching(move |_, _| {
            asked.count();
            false
        });
        join.full_outer(|l, r| l.or(r).map_or(0, |row| row.1)).blackhole();
        let handle = start_beside(&environment, &reached);
        handle.cancel();
        let error = handle.wait().expect_err("it has 3.6 billion pairs to look at");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        assert_eq!(environment.runtime().manager().outstanding(), 0);
        assert_eq!(environment.runtime().spill().used_bytes(), 0);
    }
}

/// What leaves in the middle of a pass is joined with what has not met it, and with nothing twice.
#[test]
fn a_chunk_that_leaves_in_the_middle_of_a_pass_is_joined_all_the_same() {
    // The join's minimum is 18, and a chunk has about half of the rest.
    const LATE: usize = SEGMENTS - 18;
    const ROWS: u64 = 700;
    let (left, right) = (records(ROWS, 1, 1), records(ROWS, 1, 2));
    // Wide rows: few pairs of them are more than there is memory for.
    let [wide_left, wide_right] = [&left, &right].map(|rows| with_keys(rows, |_| "k".repeat(400)));
    let mut early = 0;
    for kind in KINDS {
        for build_left in [false, true] {
            let way = Way {
                segments: SEGMENTS,
                has_condition: true,
                build_left,
                ..PLAIN
            };
            let environment = environment(way);
            let (sender, reached) = channel();
            let asked = Meter::acting(move |call| {
                if call == 2000 {
                    // Where the join is at its end already nobody listens.
                    let _ = sender.send(());
                }
            });
            let meters = [&Meter::default(), &asked];
            let found = join_in(&environment, &wide_left, &wide_right, kind, way, meters);
            let handle = environment.execute_async("join").expect("the job starts");
            let manager = environment.runtime().manager();
            if reached.recv().is_ok() {
                let late = manager.budget_within("late", LATE, SEGMENTS, Duration::from_secs(60));
                early += usize::from(handle.status() == JobStatus::Running);
                drop(late.expect("the join gives back what it has"));
            }
            let summary = handle.wait();
            let summary = summary.unwrap_or_else(|error| panic!("{kind:?} {way:?}: {error}"));
            assert!(summary.spilled_bytes_written() > 0, "{kind:?} {way:?}");
            let mut found = found.take();
            found.sort_unstable();
            let expected = expected_of_many(&left, &right, kind, way);
            assert_same(found, &expected, format_args!("{kind:?} {way:?}"));
            assert_eq!(manager.outstanding(), 0);
            assert_eq!(environment.runtime().spill().used_bytes(), 0);
        }
    }
    assert!(early > 0, "memory came before the end of a join");
}

/// A join that sends build rows without a match gives back the memory of these, though nobody takes what it sends.
#[test]
fn a_job_starts_while_a_join_sends_rows_without_a_match() {
    for kind in [Kind::Right, Kind::Full, Kind::Anti] {
        let (few, many) = (records(10, 10, 1), records(8_000, 8_000, 2));
        let (build_left, sides) = match kind {
            Kind::Anti => (true, [many, few]),
            _ => (false, [few, many]),
        };
        let way = Way {
            segments: SEGMENTS,
            build_left,
            ..PLAIN
        };
        let environment = environment(way);
        let (taken, reached) = first_call();
        let (open, is_open) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(Vec::new())));
        let (gate, found) = (open.clone(), is_open.clone());
        let closed = open.lock().expect("nobody panics");
        let ids = stream_in(
            &environment,
            &sides[0],
            &sides[1],
            kind,
            way,
            [&Meter::default(), &Meter::default()],
        );
        let sink = ids.for_each(move |ids| {
            taken.count();
            drop(gate.lock());
            found.lock().expect("nobody panics").push(ids);
            Ok(())
        });
        sink.blocking();
        let handle = start_beside(&environment, &reached);
        drop(closed);
        let summary = handle.wait().expect("the job runs");
        assert!(
            summary.spilled_bytes_written() > 0,
            "{kind:?}: what it gave back is written"
        );
        let mut found = std::mem::take(&mut *is_open.lock().expect("nobody panics"));
        found.sort_unstable();
        let expected = expected_of_many(&sides[0], &sides[1], kind, way);
        assert_same(found, &expected, format_args!("{kind:?}"));
        assert_eq!(environment.runtime().manager().outstanding(), 0);
        assert_eq!(environment.runtime().spill().used_bytes(), 0);
    }
}

/// What other operators were promised they have, while a join sends rows without a match, or joins in passes, and go on with it. Here the
/// second join takes the rows of the first as its build side meanwhile.
#[test]
fn a_join_at_its_end_starves_no_other() {
    type Wide = ((u64, [u64; 12]), u64);
    let (mut both_spilled, mut above) = (0, 0);
    for seed in 0..32 {
        let mut random = Random::new(seed ^ 0x2_0107);
        let parallelism = 1 + random.below(2);
        let way = Way {
            segments: parallelism * (34 + random.below(20)),
            parallelism,
            rival: random.happens(2).then_some(Rival::Restless),
            ..PLAIN
        };
        let (one_in, builds_right) = ([0, 2][random.below(2)], random.happens(2));
        let count = if one_in == 0 { 700 } else { 60 };
        let (left, right) = (skewed(count, seed, one_in), skewed(700, seed + 1, one_in));
        let third = skewed(400, seed + 2, 0);
        let wide = [&left, &right, &third].map(|side| with_payload(side));
        let what = format!("seed {seed}, one in {one_in}, {way:?}");
        let result = simulated_job(way, SLOW, seed, format_args!("{what}"), |environment| {
            let [left, right, third] = [0, 1, 2].map(|number| {
                let name = ["left", "right", "third"][number];
                environment.source(name, from_items(wide[number].clone()))
            });
            let pairs = left.join(right).on(first(), first());
            let pairs = if builds_right { pairs.build_right() } else { pairs };
            let pairs = pairs.full_outer(|l, r| -> Wide {
                let key = l.or(r).expect("a pair has a record").0;
                (key, pair_id([l.map(|l| l.1), r.map(|r| r.1)]))
            });
            let joined = third.join(pairs.name("pairs")).on(first(), first()).build_right();
            let ids = joined.full_outer(|l, r| -> Ids { (l.map(|l| l.1), r.map(|r| r.1)) });
            ids.name("ids").collect()
        });
        let (found, summary) = result.unwrap_or_else(|error| panic!("{what}: {error}"));
        let pairs: Vec<(u64, u64)> = expected_of_many(&left, &right, Kind::Full, way)
            .into_iter()
            .map(|(l, r)| {
                let key = match l {
                    Some(l) => left[l as usize].0,
                    None => right[r.expect("a pair has a record") as usize].0,
                };
                (key, pair_id([l, r]))
            })
            .collect();
        let expected = expected_of_many(&third, &pairs, Kind::Full, way);
        assert_same(found, &expected, format_args!("{what}"));
        let of = |name: &str| -> Vec<(u64, u64)> {
            let operators = summary.tasks.iter().flat_map(|task| &task.operators);
            let operators = operators.filter(|operator| operator.name == name);
            operators
                .map(|operator| (operator.segments_peak, operator.spilled_bytes_written))
                .collect()
        };
        above += u64::from(of("pairs").iter().any(|(peak, _)| *peak > 16));
        let spilled = ["pairs", "ids"].map(|name| of(name).iter().any(|(_, spilled)| *spilled > 0));
        both_spilled += u64::from(spilled == [true, true]);
    }
    assert!(
        above > 4 && both_spilled > 12,
        "the first held more than its minimum in {above} of 32, both spilled in {both_spilled}"
    );
}

/// An identity for a pair of records, or one alone.
fn pair_id(ids: [Option<u64>; 2]) -> u64 {
    let [left, right] = ids.map(|id| id.map_or(0, |id| id + 1));
    left << 32 | right
}
