//! What the tests of joins share: kinds and ways of joining, what nested loops make of two sides, and the job that does it; and the
//! same for what else is made of two streams.
#![allow(dead_code, reason = "each test uses a part")]

use forebay::operator::{Collector, Group};
use forebay::record::{Record, first};
use forebay::sink::Collected;
use forebay::source::from_items;
use forebay::{Environment, JobSummary, JoinStrategy, Mode, Result, Runtime, Stream};
use forebay_memory::hash::hash_u64;
use forebay_memory::{Plan, SegmentSource};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The identities of a pair's records; of one alone, or of a left record that is sent as it is.
pub type Ids = (Option<u64>, Option<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Inner,
    Left,
    Right,
    Full,
    Semi,
    Anti,
}

pub const KINDS: [Kind; 6] = [
    Kind::Inner,
    Kind::Left,
    Kind::Right,
    Kind::Full,
    Kind::Semi,
    Kind::Anti,
];

/// How a join is run.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub segments: usize,
    pub segment_size: usize,
    pub record_size: usize,
    pub parallelism: usize,
    pub build_left: bool,
    pub strategy: JoinStrategy,
    pub mode: Mode,
    pub has_condition: bool,
    pub rival: Option<Rival>,
}

/// Who takes all memory that is to be had while the job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// And gives it back at once.
    Restless,
    /// And keeps it.
    Greedy,
}

pub const PLAIN: Way = Way {
    segments: 16,
    segment_size: 4096,
    record_size: 4096,
    parallelism: 1,
    build_left: false,
    strategy: JoinStrategy::Hash,
    mode: Mode::Batch,
    has_condition: false,
    rival: None,
};

/// A condition on a pair of records, by their identities.
pub fn condition(left: u64, right: u64) -> bool {
    !(left ^ right).is_multiple_of(3)
}

pub fn environment(way: Way) -> Environment {
    let plan = Plan::with_segments_for(way.segments.max(16), 512, way.segment_size, way.record_size)
        .expect("the test's sizes make a plan");
    Environment::new(Runtime::new(plan).expect("the plan's memory is to be had"))
        .with_parallelism(way.parallelism)
        .with_mode(way.mode)
}

/// What nested loops make of it.
pub fn expected<K: PartialEq>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    kind: Kind,
    way: Way,
    is_null: impl Fn(&K) -> bool,
) -> Vec<Ids> {
    let mut ids = Vec::new();
    let mut right_matched = vec![false; right.len()];
    for (key, l) in left {
        let mut has_match = false;
        for (place, (other, r)) in right.iter().enumerate() {
            if key == other && !is_null(key) && (!way.has_condition || condition(*l, *r)) {
                has_match = true;
                right_matched[place] = true;
                if matches!(kind, Kind::Inner | Kind::Left | Kind::Right | Kind::Full) {
                    ids.push((Some(*l), Some(*r)));
                }
            }
        }
        let alone = match kind {
            Kind::Left | Kind::Full | Kind::Anti => !has_match,
            Kind::Semi => has_match,
            Kind::Inner | Kind::Right => false,
        };
        if alone {
            ids.push((Some(*l), None));
        }
    }
    if matches!(kind, Kind::Right | Kind::Full) {
        let alone = right.iter().zip(right_matched).filter(|(_, matched)| !matched);
        ids.extend(alone.map(|((_, r), _)| (None, Some(*r))));
    }
    ids.sort_unstable();
    ids
}

/// Counts the calls of a join's functions, and panics in one of them, or does something in each.
#[derive(Clone, Default)]
pub struct Meter {
    calls: Arc<AtomicU64>,
    /// The call that fails, from 1 on; 0 where none does.
    fails_at: u64,
    action: Option<Arc<dyn Fn(u64) + Send + Sync>>,
}

impl Meter {
    pub fn failing_at(call: u64) -> Meter {
        Meter {
            fails_at: call,
            ..Meter::default()
        }
    }

    /// Calls a function with the number of each call.
    pub fn acting(action: impl Fn(u64) + Send + Sync + 'static) -> Meter {
        Meter {
            action: Some(Arc::new(action)),
            ..Meter::default()
        }
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn count(&self) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(call != self.fails_at, "call {call} is refused");
        if let Some(action) = &self.action {
            action(call);
        }
    }
}

/// Adds a join to an environment, its functions counted by meters: those that make results, and the condition.
pub fn join_in<K: Record + Clone>(
    environment: &Environment,
    left: &[(K, u64)],
    right: &[(K, u64)],
    kind: Kind,
    way: Way,
    meters: [&Meter; 2],
) -> Collected<Ids> {
    stream_in(environment, left, right, kind, way, meters).collect()
}

/// The same, for what follows to be chosen.
pub fn stream_in<K: Record + Clone>(
    environment: &Environment,
    left: &[(K, u64)],
    right: &[(K, u64)],
    kind: Kind,
    way: Way,
    [made, asked]: [&Meter; 2],
) -> Stream<Ids> {
    let left = environment.source("left", from_items(left.to_vec()));
    let right = environment.source("right", from_items(right.to_vec()));
    let join = left.join(right).on(first(), first()).strategy(way.strategy);
    let join = match (way.build_left, way.strategy) {
        (true, _) => join.build_left(),
        // Not the side that is known to be smaller.
        (false, JoinStrategy::Hash) => join.build_right(),
        (false, _) => join,
    };
    let (made, asked) = (made.clone(), asked.clone());
    let ids = move |left: Option<u64>, right: Option<u64>| {
        made.count();
        (left, right)
    };
    macro_rules! run {
        ($join:expr) => {{
            let join = $join;
            match kind {
                Kind::Inner => join.inner(move |l, r| ids(Some(l.1), Some(r.1))),
                Kind::Left => join.left_outer(move |l, r| ids(Some(l.1), r.map(|r| r.1))),
                Kind::Right => join.right_outer(move |l, r| ids(l.map(|l| l.1), Some(r.1))),
                Kind::Full => join.full_outer(move |l, r| ids(l.map(|l| l.1), r.map(|r| r.1))),
                Kind::Semi => join.semi().map(move |l| ids(Some(l.1), None)).name("ids"),
                Kind::Anti => join.anti().map(move |l| ids(Some(l.1), None)).name("ids"),
            }
        }};
    }
    match way.has_condition {
        false => run!(join),
        true => run!(join.matching(move |l, r| {
            asked.count();
            condition(l.1, r.1)
        })),
    }
}

/// Joins on a runtime of its own, and checks that it gives everything back.
pub fn joined<K: Record + Clone>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    kind: Kind,
    way: Way,
) -> (Vec<Ids>, JobSummary) {
    let environment = environment(way);
    let never = Meter::default();
    let found = join_in(&environment, left, right, kind, way, [&never, &never]);
    let result = match way.rival {
        None => environment.execute("join"),
        Some(rival) => {
            // With `Merge`, a budget for each side and one for logs.
            let budgets = if way.strategy == JoinStrategy::Merge { 3 } else { 1 };
            execute_beside(&environment, rival, budgets * way.parallelism)
        }
    };
    let summary = result.unwrap_or_else(|error| panic!("{kind:?} {way:?}: {error}"));
    let mut found = found.take();
    found.sort_unstable();
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
    (found, summary)
}

/// Runs a job of so many budgets beside a rival.
fn execute_beside(environment: &Environment, rival: Rival, budgets: usize) -> Result<JobSummary> {
    let manager = environment.runtime().manager();
    let budget = manager.budget("rival", 1, usize::MAX)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut taken = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                // Not before the job has its minimums.
                if manager.budget_stats().len() > budgets {
                    taken.extend(std::iter::from_fn(|| budget.try_take()));
                    budget.withdraw();
                }
                if rival == Rival::Restless {
                    taken.clear();
                }
            }
        });
        let result = environment.execute("join");
        is_over.store(true, Ordering::Relaxed);
        result
    })
}

pub fn check<K: Record + Clone + PartialEq>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    kind: Kind,
    way: Way,
    is_null: impl Fn(&K) -> bool,
) -> JobSummary {
    let (found, summary) = joined(left, right, kind, way);
    assert_same(
        found,
        &expected(left, right, kind, way, is_null),
        format_args!("{kind:?} {way:?}"),
    );
    summary
}

/// Asserts that sorted results are what is expected, with few words where they are not.
pub fn assert_same(found: Vec<Ids>, expected: &[Ids], what: std::fmt::Arguments<'_>) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(one, other)| one != other);
        let at = at.unwrap_or(found.len().min(expected.len()));
        panic!(
            "{what}: {} pairs, and not {}; pair {at} is {:?}, and not {:?}",
            found.len(),
            expected.len(),
            found.get(at),
            expected.get(at)
        );
    }
}

/// `count` records with keys below `keys`, from a place on.
pub fn records(count: u64, keys: u64, salt: u64) -> Vec<(u64, u64)> {
    (0..count)
        .map(|index| (hash_u64(index + salt * 7919) % keys, index))
        .collect()
}

pub fn with_keys<K>(records: &[(u64, u64)], key: impl Fn(u64) -> K) -> Vec<(K, u64)> {
    records.iter().map(|(bits, id)| (key(*bits), *id)).collect()
}

/// What a map makes of many pairs of integer keys, where nested loops take too long.
pub fn expected_of_many(left: &[(u64, u64)], right: &[(u64, u64)], kind: Kind, way: Way) -> Vec<Ids> {
    type Side = Vec<(u64, u64)>;
    let mut by_key: BTreeMap<u64, (Side, Side)> = BTreeMap::new();
    for pair in left {
        by_key.entry(pair.0).or_default().0.push(*pair);
    }
    for pair in right {
        by_key.entry(pair.0).or_default().1.push(*pair);
    }
    let ids = by_key
        .values()
        .flat_map(|(left, right)| expected(left, right, kind, way, |_| false));
    let mut ids: Vec<Ids> = ids.collect();
    ids.sort_unstable();
    ids
}

/// The same records with keys that make them wide, and hard to compress.
pub fn with_payload(records: &[(u64, u64)]) -> Vec<((u64, [u64; 12]), u64)> {
    with_keys(records, |bits| {
        (
            bits,
            std::array::from_fn(|lane| hash_u64(12 * bits + lane as u64)),
        )
    })
}

/// What is made of two streams otherwise than by a join with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    Cross,
    Intersect,
    IntersectAll,
    Minus,
    MinusAll,
    CoGroup,
}

pub const OTHERS: [Other; 6] = [
    Other::Cross,
    Other::Intersect,
    Other::IntersectAll,
    Other::Minus,
    Other::MinusAll,
    Other::CoGroup,
];

/// Left records that a cross has: each is in as many pairs as there are right ones.
const CROSSED: usize = 40;

/// How often a key is in a result that both sides have so often.
fn times(other: Other, left: u64, right: u64) -> u64 {
    match other {
        Other::Intersect => u64::from(left > 0 && right > 0),
        Other::IntersectAll => left.min(right),
        Other::Minus => u64::from(left > 0 && right == 0),
        Other::MinusAll => left.saturating_sub(right),
        Other::Cross | Other::CoGroup => unreachable!("it is no operation on sets"),
    }
}

/// What a co-group says of a key's records, whatever their order: how many there are, and a sum of their hashes.
fn folded(ids: impl Iterator<Item = u64>) -> u64 {
    ids.fold(0, |sum, id| sum.wrapping_add(hash_u64(id) | 1))
}

/// What plain maps and loops make of it; `name` is what stands for a key in results.
pub fn expected_of_other<K: Ord>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    other: Other,
    way: Way,
    name: fn(&K) -> u64,
) -> Vec<Ids> {
    let mut ids: Vec<Ids> = Vec::new();
    if other == Other::Cross {
        for (_, l) in &left[..CROSSED.min(left.len())] {
            let pairs = right.iter().map(|(_, r)| (*l, *r));
            let pairs = pairs.filter(|(l, r)| !way.has_condition || condition(*l, *r));
            ids.extend(pairs.map(|(l, r)| (Some(l), Some(r))));
        }
    } else {
        let mut by_key: BTreeMap<&K, [Vec<u64>; 2]> = BTreeMap::new();
        for (number, side) in [left, right].into_iter().enumerate() {
            for (key, id) in side {
                by_key.entry(key).or_default()[number].push(*id);
            }
        }
        for (key, [left, right]) in by_key {
            if other == Other::CoGroup {
                let [left, right] = [left, right].map(|ids| folded(ids.into_iter()));
                ids.push((Some(name(key).wrapping_add(left)), Some(right)));
            } else {
                let count = times(other, left.len() as u64, right.len() as u64);
                ids.extend((0..count).map(|_| (Some(name(key)), None)));
            }
        }
    }
    ids.sort_unstable();
    ids
}

/// Adds to an environment what is made of two streams; its function, where it has one, is counted by a meter.
pub fn other_in<K: Record + Clone>(
    environment: &Environment,
    left: &[(K, u64)],
    right: &[(K, u64)],
    other: Other,
    way: Way,
    name: fn(&K) -> u64,
    meter: &Meter,
) -> Collected<Ids> {
    let meter = meter.clone();
    let records = |side: &str, records: &[(K, u64)]| environment.source(side, from_items(records.to_vec()));
    let keys = |side: &str, records: &[(K, u64)]| {
        let keys: Vec<K> = records.iter().map(|(key, _)| key.clone()).collect();
        environment.source(side, from_items(keys))
    };
    let name_alone = {
        let meter = meter.clone();
        move |key: K::View<'_>| -> Ids {
            meter.count();
            (Some(name(&K::from_view(key))), None)
        }
    };
    match other {
        Other::Cross => {
            let left = records("left", &left[..CROSSED.min(left.len())]);
            let pair = move |l: u64, r: u64| {
                meter.count();
                (Some(l), Some(r))
            };
            match way.has_condition {
                false => left.cross(records("right", right), move |l, r| pair(l.1, r.1)),
                true => left
                    .join(records("right", right))
                    .on_nothing()
                    .matching(|l, r| condition(l.1, r.1))
                    .inner(move |l, r| pair(l.1, r.1)),
            }
            .collect()
        }
        Other::CoGroup => {
            let groups = records("left", left)
                .join(records("right", right))
                .on(first(), first());
            let groups = groups.co_group(
                move |key: K::View<'_>,
                      left: &mut Group<'_, (K, u64)>,
                      right: &mut Group<'_, (K, u64)>,
                      out: &mut Collector<'_, Ids>| {
                    meter.count();
                    let mut sums = [0_u64; 2];
                    left.for_each(|(_, id)| sums[0] = sums[0].wrapping_add(hash_u64(id) | 1));
                    right.for_each(|(_, id)| sums[1] = sums[1].wrapping_add(hash_u64(id) | 1));
                    out.push((
                        Some(name(&K::from_view(key)).wrapping_add(sums[0])),
                        Some(sums[1]),
                    ));
                },
            );
            groups.collect()
        }
        Other::Intersect => (keys("left", left).intersect(keys("right", right)).map(name_alone)).collect(),
        Other::IntersectAll => (keys("left", left)
            .intersect_all(keys("right", right))
            .map(name_alone))
        .collect(),
        Other::Minus => (keys("left", left).minus(keys("right", right)).map(name_alone)).collect(),
        Other::MinusAll => (keys("left", left).minus_all(keys("right", right)).map(name_alone)).collect(),
    }
}

/// Compares what is made of two streams, on a runtime of its own, with what maps and loops make of them.
pub fn check_other<K: Record + Clone + Ord>(
    left: &[(K, u64)],
    right: &[(K, u64)],
    other: Other,
    way: Way,
    name: fn(&K) -> u64,
) -> JobSummary {
    let environment = environment(way);
    let found = other_in(&environment, left, right, other, way, name, &Meter::default());
    let summary = environment.execute("other");
    let summary = summary.unwrap_or_else(|error| panic!("{other:?} {way:?}: {error}"));
    let mut found = found.take();
    found.sort_unstable();
    let expected = expected_of_other(left, right, other, way, name);
    assert_same(found, &expected, format_args!("{other:?} {way:?}"));
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
    summary
}
