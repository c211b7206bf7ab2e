//! What sources know of their sizes before they are read, and which joins send their small side to every subtask because of it: the plan
//! says which, and results are the same.

mod files_support;
mod join_support;

use files_support::Scratch;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use forebay::operator::Collector;
use forebay::plan::{ExchangeKind, JobPlan, PlanNode};
use forebay::record::{Record, first, itself, second};
use forebay::source::{
    Compression, FromItems, Generate, RowsBytes, Source, binary, csv, from_items, generate, text, text_blocks,
};
use forebay::{Environment, JoinStrategy, Result, Stream};
use forebay_memory::hash::hash_u64;
use join_support::*;
use std::io::Write;
use std::ops::Range;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

type Pair = (u64, u64);

#[derive(Clone, Copy, Record, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[record(plain)]
struct Number {
    value: u64,
}

#[derive(Record)]
struct Named {
    number: u64,
    name: String,
}

#[test]
fn files_say_about_how_much_they_have() {
    let scratch = Scratch::new("sizes");
    let lines = "number,name\n1,one\n2,two\n".repeat(100);
    scratch.write("a.csv", &lines);
    scratch.write("b.csv", &lines);
    scratch.write("empty.csv", "");
    scratch.write("numbers.bin", [0; 800]);
    let mut packed = GzEncoder::new(Vec::new(), Level::default());
    packed
        .write_all(lines.as_bytes())
        .expect("memory takes everything");
    let packed = packed.finish().expect("memory takes everything");
    scratch.write("c.csv.gz", &packed);
    let size = lines.len() as u64;
    let pattern = |name: &str| scratch.pattern(name);

    assert_eq!(text(pattern("a.csv")).rows_bytes(), RowsBytes::about(size));
    assert_eq!(
        text_blocks(pattern("?.csv")).rows_bytes(),
        RowsBytes::about(2 * size)
    );
    // A record of both columns has three bytes at least: a digit, a comma and a line end. Its row has 40 with what it is filled up with.
    let most = (size + 1) / 3 * 40 + size;
    let of_both = csv::<Named>(pattern("?.csv")).rows_bytes();
    assert_eq!(
        (of_both.least(), of_both.most()),
        (2 * (size / 4), Some(2 * most))
    );
    let passing_over = csv::<Named>(pattern("a.csv")).ignore_extra_columns();
    assert_eq!(passing_over.rows_bytes(), RowsBytes::at_most(most));
    // How much is in a compressed file nobody knows.
    let of_packed = RowsBytes::at_least(packed.len() as u64 / 4);
    assert_eq!(text(pattern("c.csv.gz")).rows_bytes(), of_packed);
    assert_eq!(csv::<Named>(pattern("c.csv.gz")).rows_bytes(), of_packed);
    assert_eq!(
        text([pattern("a.csv"), pattern("c.csv.gz")]).rows_bytes(),
        RowsBytes::at_least(size / 4 + packed.len() as u64 / 4)
    );
    let plain = text(pattern("c.csv.gz")).compression(Compression::None);
    assert_eq!(plain.rows_bytes(), RowsBytes::about(packed.len() as u64));
    // An empty file adds nothing; where there is nothing else, it may be one of those whose size says nothing, as in /proc.
    assert_eq!(
        text([pattern("a.csv"), pattern("empty.csv")]).rows_bytes(),
        RowsBytes::about(size)
    );
    assert_eq!(
        csv::<Named>(pattern("empty.csv")).rows_bytes(),
        RowsBytes::UNKNOWN
    );
    assert_eq!(
        text([&*pattern("a.csv"), "/dev/null"]).rows_bytes(),
        RowsBytes::UNKNOWN
    );
    assert_eq!(text(pattern("none")).rows_bytes(), RowsBytes::UNKNOWN);
    assert_eq!(
        binary::<Number>(pattern("numbers.bin")).rows_bytes(),
        RowsBytes::exactly(800)
    );
    assert_eq!(binary::<Number>(pattern("none")).rows_bytes(), RowsBytes::UNKNOWN);
    let texts = generate(10, |number| number.to_string());
    assert_eq!(texts.rows_bytes(), RowsBytes::at_least(10 * String::SIZE as u64));
}

fn environment_of(segments: usize, parallelism: usize) -> Environment {
    environment(Way {
        segments,
        parallelism,
        ..PLAIN
    })
}

/// As large as it says that it is, or not.
struct Saying(FromItems<Pair>, RowsBytes);

impl Source for Saying {
    type Out = Pair;
    type Split = <FromItems<Pair> as Source>::Split;
    type Reader = <FromItems<Pair> as Source>::Reader;

    fn splits(&self, parallelism: usize) -> Result<Vec<Self::Split>> {
        self.0.splits(parallelism)
    }

    fn reader(&self, split: Self::Split) -> Result<Self::Reader> {
        self.0.reader(split)
    }

    fn rows_bytes(&self) -> RowsBytes {
        self.1
    }
}

/// Is one part, and says nothing of it.
struct Undivided(u64);

impl Source for Undivided {
    type Out = Pair;
    type Split = Range<u64>;
    type Reader = <Generate<fn(u64) -> Pair> as Source>::Reader;

    fn splits(&self, _: usize) -> Result<Vec<Range<u64>>> {
        Ok(std::iter::once(0..self.0).collect())
    }

    fn reader(&self, split: Range<u64>) -> Result<Self::Reader> {
        let pair: fn(u64) -> Pair = |number| (hash_u64(number) % 300, number);
        generate(self.0, pair).reader(split)
    }
}

/// Adds a join of two streams to their environment.
fn add_join(left: Stream<Pair>, right: Stream<Pair>, kind: Kind, strategy: JoinStrategy) -> Stream<Ids> {
    let join = left.join(right).on(first(), first()).strategy(strategy);
    match kind {
        Kind::Inner => join.inner(|l, r| (Some(l.1), Some(r.1))),
        Kind::Left => join.left_outer(|l, r| (Some(l.1), r.map(|r| r.1))),
        Kind::Right => join.right_outer(|l, r| (l.map(|l| l.1), Some(r.1))),
        Kind::Full => join.full_outer(|l, r| (l.map(|l| l.1), r.map(|r| r.1))),
        Kind::Semi => join.semi().map(|l| (Some(l.1), None)).name("ids"),
        Kind::Anti => join.anti().map(|l| (Some(l.1), None)).name("ids"),
    }
}

fn join_node(plan: &JobPlan) -> &PlanNode {
    let mut joins = plan.nodes.iter().filter(|node| node.kind.ends_with("join"));
    let node = joins.next().expect("there is a join");
    assert!(joins.next().is_none(), "{}", plan.explain());
    node
}

/// The side that goes everywhere, by the plan's edges and by its words.
fn everywhere(environment: &Environment) -> Option<&'static str> {
    let plan = environment.plan("join").expect("the job has a plan");
    let join = join_node(&plan);
    let mut kinds = plan
        .edges
        .iter()
        .filter(|edge| edge.to == join.id)
        .map(|edge| edge.exchange);
    let is_broadcast = kinds.any(|kind| kind == ExchangeKind::Broadcast);
    assert_eq!(
        is_broadcast,
        join.detail.contains("in memory of every subtask"),
        "{}",
        plan.explain()
    );
    is_broadcast.then(|| match join.detail.contains("left side in memory") {
        true => "left",
        false => "right",
    })
}

const AUTOMATIC: JoinStrategy = JoinStrategy::Automatic;

#[test]
fn the_small_side_of_each_kind_of_join_goes_everywhere_where_it_may() {
    for kind in KINDS {
        for (few_are_left, expected) in [
            // What is sent without a match, or once, by the subtask that keeps it must be with one subtask.
            (true, matches!(kind, Kind::Inner | Kind::Right).then_some("left")),
            (
                false,
                (!matches!(kind, Kind::Right | Kind::Full)).then_some("right"),
            ),
        ] {
            for parallelism in [1, 2, 3] {
                for strategy in [AUTOMATIC, JoinStrategy::Hash, JoinStrategy::Merge] {
                    let environment = environment_of(400, parallelism);
                    let few = environment.source("few", generate(100, |n| (n, n)));
                    let many = environment.source("many", generate(100_000, |n| (n % 300, n)));
                    let (left, right) = if few_are_left { (few, many) } else { (many, few) };
                    add_join(left, right, kind, strategy).blackhole();
                    let is_chosen = parallelism > 1 && strategy == AUTOMATIC;
                    assert_eq!(
                        everywhere(&environment),
                        expected.filter(|_| is_chosen),
                        "{kind:?} {few_are_left} {parallelism} {strategy:?}"
                    );
                }
            }
        }
    }
}

/// What the plan says of a join of `left` and `right`.
macro_rules! chosen {
    ($environment:ident: $left:expr, $right:expr $(, $hint:ident($($value:expr)?))*) => {{
        let $environment = environment_of(4_000, 2);
        let join = $left.join($right).on(first(), first());
        join$(.$hint($($value)?))*.inner(|l, r| (l.1, r.1)).blackhole();
        everywhere(&$environment)
    }};
}

#[test]
fn a_side_goes_everywhere_only_where_it_is_known_to_be_small() {
    let made = |e: &Environment, count: u64| e.source("made", generate(count, |n| (n, n)));
    let saying =
        |e: &Environment, bytes: RowsBytes| e.source("saying", Saying(from_items(Vec::new()), bytes));
    // A side of some size, if the other has so many times more. (4,000 segments of 4 KiB, of which each subtask has half.)
    let (side, other) = (20_000_u64, 20_000 * 16);
    assert_eq!(chosen!(e: made(&e, other + 1), made(&e, side)), Some("right"));
    assert_eq!(chosen!(e: made(&e, other), made(&e, side)), None);
    assert_eq!(chosen!(e: made(&e, side), made(&e, other + 1)), Some("left"));
    // Of what a filter leaves of the other one nothing is known, nor of what a function makes of a record.
    assert_eq!(
        chosen!(e: made(&e, other * 9).filter(|pair| pair.0 > 3), made(&e, side)),
        None
    );
    let several = |e: &Environment, count| {
        made(e, count).flat_map(|pair, out: &mut Collector<'_, Pair>| out.push(pair))
    };
    assert_eq!(chosen!(e: several(&e, other * 9), made(&e, side)), None);
    assert_eq!(chosen!(e: made(&e, other * 9), several(&e, 10)), None);
    // A filter leaves less of the side.
    assert_eq!(
        chosen!(e: made(&e, other * 9), made(&e, side).filter(|pair| pair.0 > 3)),
        Some("right")
    );
    // The smallest go wherever the other is.
    assert_eq!(chosen!(e: several(&e, 10), made(&e, 10)), Some("right"));
    assert_eq!(chosen!(e: made(&e, 10), made(&e, 10)), Some("right"));
    // Bounds are what counts.
    let mib = |count: u64| count << 20;
    for (bytes, expected) in [
        (RowsBytes::at_most(mib(1) / 2), Some("right")),
        (RowsBytes::about(mib(1) / 8), Some("right")),
        (RowsBytes::about(mib(1)), None),
        (RowsBytes::at_least(10), None),
        (RowsBytes::UNKNOWN, None),
    ] {
        assert_eq!(
            chosen!(e: saying(&e, RowsBytes::at_least(mib(900))), saying(&e, bytes)),
            expected,
            "{bytes}"
        );
    }
    assert_eq!(
        chosen!(e: saying(&e, RowsBytes::at_most(mib(900))), saying(&e, RowsBytes::exactly(mib(1) / 2))),
        None
    );
    // Records that go everywhere are as many as there are subtasks.
    assert_eq!(chosen!(e: made(&e, other + 1), made(&e, side).broadcast()), None);
    // What was told comes first.
    assert_eq!(
        chosen!(e: made(&e, other * 2), made(&e, side), build_right()),
        Some("right")
    );
    assert_eq!(
        chosen!(e: made(&e, other * 2), made(&e, side), build_left()),
        None
    );
    assert_eq!(
        chosen!(e: made(&e, side), made(&e, other * 2), build_left()),
        Some("left")
    );
    assert_eq!(
        chosen!(e: made(&e, side), made(&e, other * 2), build_right()),
        None
    );
    let hash = JoinStrategy::Hash;
    assert_eq!(
        chosen!(e: made(&e, other * 2), made(&e, side), strategy(hash)),
        None
    );
    let broadcast = JoinStrategy::Broadcast;
    assert_eq!(
        chosen!(e: made(&e, side), made(&e, other * 2), strategy(broadcast)),
        Some("right")
    );
}

#[test]
fn a_side_that_each_subtask_has_no_memory_for_is_divided() {
    // A quarter of half of 60 segments of 4 KiB has room for 1,920 records.
    for (segments, count, expected) in [
        (60, 1_800, Some("right")),
        (60, 2_000, None),
        (120, 2_000, Some("right")),
    ] {
        let environment = environment_of(segments, 2);
        let few = environment.source("few", generate(count, |n| (n, n)));
        let many = environment.source("many", generate(100_000, |n| (n, n)));
        add_join(many, few, Kind::Inner, AUTOMATIC).blackhole();
        let explained = environment.explain("join").expect("the job has a plan");
        assert_eq!(everywhere(&environment), expected, "{explained}");
        assert_eq!(
            explained.contains("(small, but too large for the memory of each subtask)"),
            expected.is_none(),
            "{explained}"
        );
    }
}

/// A job with its data, and what the plan says.
fn sources(environment: &Environment) -> [Stream<Pair>; 2] {
    let few = environment.source("few", generate(100, |n| (n, n)));
    let many = environment.source("many", generate(10_000, |n| (hash_u64(n) % 300, n)));
    [many, few]
}

#[test]
fn a_join_keeps_its_exchange_where_what_follows_would_need_one() {
    let is_chosen = |make: &dyn Fn(&Environment, Stream<Pair>, Stream<Pair>)| {
        let environment = environment_of(800, 2);
        let [many, few] = sources(&environment);
        make(&environment, many, few);
        let explained = environment.explain("join").expect("the job has a plan");
        let is_chosen = everywhere(&environment).is_some();
        if !is_chosen && explained.contains("small, but") {
            assert!(
                explained.contains("what follows would need an exchange by the same key"),
                "{explained}"
            );
        }
        environment.execute("join").expect("the job runs");
        is_chosen
    };
    // By the same key.
    assert!(!is_chosen(&|_, many, few| {
        many.join(few)
            .on(first(), first())
            .semi()
            .key_by(first())
            .sum(second())
            .blackhole();
    }));
    assert!(!is_chosen(&|_, many, few| {
        let pairs = many.join(few).on(first(), first()).inner(|l, r| (l.0, r.1));
        pairs.still_keyed_by(first()).sum(second()).blackhole();
    }));
    assert!(!is_chosen(&|_, many, few| {
        let left = many
            .join(few)
            .on(first(), first())
            .anti()
            .filter(|pair| pair.1 > 7)
            .name("some");
        left.key_by(first()).sum(second()).blackhole();
    }));
    // Records that an exchange has sent by another key before.
    assert!(!is_chosen(&|_, many, few| {
        let placed = many.key_by(second()).sum(first());
        let pairs = placed
            .join(few)
            .on(second(), first())
            .inner(|l, r| (l.0.wrapping_add(r.1), l.1));
        pairs.still_keyed_by(second()).sum(first()).blackhole();
    }));
    assert!(!is_chosen(&|_, many, few| {
        let placed = many.key_by(second()).sum(first());
        let left = placed.join(few).on(second(), first()).semi().map(|sum| sum);
        left.still_keyed_by(second()).sum(first()).blackhole();
    }));
    // By another, or by nobody knows which, or by as many subtasks as there are otherwise.
    assert!(is_chosen(&|_, many, few| {
        many.join(few)
            .on(first(), first())
            .semi()
            .key_by(second())
            .sum(first())
            .blackhole();
    }));
    assert!(is_chosen(&|_, many, few| {
        let pairs = many.join(few).on(first(), first()).inner(|l, r| (l.0, r.1));
        pairs.key_by(first()).sum(second()).blackhole();
    }));
    assert!(is_chosen(&|_, many, few| {
        let kept = many.join(few).on(first(), first()).semi();
        kept.key_by(first()).sum(second()).parallelism(3).blackhole();
    }));
    // Where the other side is where its key belongs there is nothing to be gained.
    assert!(!is_chosen(&|_, many, few| {
        let sums = many.key_by(first()).sum(second());
        sums.join(few)
            .on(first(), first())
            .inner(|l, r| (l.1, r.1))
            .blackhole();
    }));
    // Sides that come sorted are merged.
    assert!(!is_chosen(&|_, many, few| {
        let [many, few] = [many, few].map(|side| side.key_by(first()).sort_within(first()));
        many.join(few)
            .on(first(), first())
            .inner(|l, r| (l.1, r.1))
            .blackhole();
    }));
    // One subtask has nothing to exchange.
    assert!(!is_chosen(&|_, many, few| {
        many.join(few)
            .on(first(), first())
            .inner(|l, r| (l.1, r.1))
            .parallelism(1)
            .blackhole();
    }));
}

/// One join after the other: each choice is made with those before it.
#[test]
fn joins_with_several_small_sides_have_no_exchange_at_all() {
    let environment = environment_of(2_000, 3);
    let side = |name: &str, salt: u64| environment.source(name, from_items(records(50, 40, salt)));
    let facts = environment.source("facts", from_items(records(5_000, 40, 1)));
    let found = facts
        .join(side("one", 2))
        .on(first(), first())
        .inner(|l, r| (l.0, l.1 * 100 + r.1))
        .join(side("two", 3))
        .on(first(), first())
        .semi()
        .join(side("three", 4))
        .on(first(), first())
        .inner(|l, r| (l.1, r.1))
        .collect();
    let plan = environment.plan("joins").expect("the job has a plan");
    let count = |kind| plan.edges.iter().filter(|edge| edge.exchange == kind).count();
    assert_eq!(
        (count(ExchangeKind::Hash), count(ExchangeKind::Broadcast)),
        (0, 3),
        "{}",
        plan.explain()
    );
    environment.execute("joins").expect("the job runs");
    let [one, two, three] = [2, 3, 4].map(|salt| records(50, 40, salt));
    let mut expected = Vec::new();
    for (key, id) in records(5_000, 40, 1) {
        if two.iter().any(|pair| pair.0 == key) {
            for (_, one) in one.iter().filter(|pair| pair.0 == key) {
                let third = three.iter().filter(|pair| pair.0 == key);
                expected.extend(third.map(|three| (id * 100 + one, three.1)));
            }
        }
    }
    let mut found = found.take();
    found.sort_unstable();
    expected.sort_unstable();
    assert!(found == expected, "{} and {} pairs", found.len(), expected.len());
}

/// Runs a join of sides that say what they have, and compares it with what a map makes of them.
fn check_saying(
    [left, right]: [&[Pair]; 2],
    said: [RowsBytes; 2],
    kind: Kind,
    way: Way,
) -> (Option<&'static str>, u64) {
    let environment = environment(way);
    let source =
        |name: &str, items: &[Pair], said| environment.source(name, Saying(from_items(items.to_vec()), said));
    let found = add_join(
        source("left", left, said[0]),
        source("right", right, said[1]),
        kind,
        way.strategy,
    );
    let found = found.collect();
    let chosen = everywhere(&environment);
    let summary = environment.execute("join");
    let summary = summary.unwrap_or_else(|error| panic!("{kind:?} {way:?}: {error}"));
    let mut found = found.take();
    found.sort_unstable();
    let expected = expected_of_many(left, right, kind, way);
    assert_same(found, &expected, format_args!("{kind:?} {way:?} {chosen:?}"));
    assert_eq!(environment.runtime().manager().outstanding(), 0);
    assert_eq!(environment.runtime().spill().used_bytes(), 0);
    (chosen, summary.spilled_bytes_written())
}

#[test]
fn what_goes_everywhere_and_what_is_divided_give_the_same() {
    let (few, many) = (records(5_000, 4_000, 51), records(9_000, 8_000, 52));
    let exactly = |pairs: &[Pair]| RowsBytes::exactly(16 * pairs.len() as u64);
    for kind in KINDS {
        for sides in [[&few[..], &many[..]], [&many[..], &few[..]]] {
            for (segments, parallelism) in [(600, 2), (40, 2), (54, 3)] {
                let mut chosen = Vec::new();
                for strategy in [AUTOMATIC, JoinStrategy::Hash, JoinStrategy::Broadcast] {
                    let way = Way {
                        segments,
                        parallelism,
                        strategy,
                        ..PLAIN
                    };
                    let said = sides.map(exactly);
                    let (side, spilled) = check_saying(sides, said, kind, way);
                    chosen.push(side);
                    // (A full join is divided whatever it is told.)
                    let is_everywhere = strategy == JoinStrategy::Broadcast && kind != Kind::Full;
                    assert!(
                        segments > 100 || spilled > 0 || !is_everywhere,
                        "{kind:?} {way:?}"
                    );
                    assert!(segments < 100 || spilled == 0, "{kind:?} {way:?}");
                }
                assert_eq!(chosen[1], None);
                // In little memory it is divided.
                assert!(
                    segments > 100 || chosen[0].is_none(),
                    "{kind:?} {segments}: {chosen:?}"
                );
            }
        }
    }
}

#[test]
fn a_side_that_is_larger_than_was_said_is_joined_all_the_same() {
    let (left, right) = (records(10_000, 6_000, 53), records(10_000, 6_000, 54));
    let little = RowsBytes::exactly(160);
    let much = RowsBytes::exactly(1 << 30);
    for kind in KINDS {
        for said in [[much, little], [little, much]] {
            for (segments, parallelism) in [(34, 2), (50, 2), (60, 3)] {
                let way = Way {
                    segments,
                    parallelism,
                    strategy: AUTOMATIC,
                    ..PLAIN
                };
                let (chosen, spilled) = check_saying([&left, &right], said, kind, way);
                let expected = match (kind, said[0] == little) {
                    (Kind::Inner | Kind::Right, true) => Some("left"),
                    (Kind::Inner | Kind::Left | Kind::Semi | Kind::Anti, false) => Some("right"),
                    _ => None,
                };
                assert_eq!(chosen, expected, "{kind:?} {way:?}");
                assert!(spilled > 0, "{kind:?} {way:?}");
            }
        }
    }
}

/// Nothing that is asked of sizes fails a job that would not fail without it, nor otherwise.
#[test]
fn what_cannot_be_read_fails_as_it_does_where_nobody_asks() {
    let scratch = Scratch::new("sizes");
    let (missing, wrong) = (scratch.pattern("none.csv"), scratch.pattern("wrong.csv"));
    scratch.write("wrong.csv", "number,name\nnone,x\n");
    for path in [missing, wrong] {
        let fail = |joins: bool| {
            let environment = environment_of(200, 2);
            let named = environment.source("named", csv::<Named>(&*path));
            match joins {
                false => drop(named.blackhole()),
                true => {
                    let numbers = environment.source("numbers", generate(10, |n| n));
                    let join = numbers.join(named).on(itself(), Named::number);
                    join.semi().blackhole();
                }
            }
            let error = environment
                .execute("read")
                .expect_err("there is nothing to be read");
            (error.kind(), scratch.mask(&error.to_string()))
        };
        assert_eq!(fail(true), fail(false));
    }
}

/// What reads alone does not join alone: the subtasks of a join whose small side is everywhere have about as much of the other one.
#[test]
fn a_join_is_spread_over_its_subtasks_whatever_reads_the_other_side() {
    const COUNT: u64 = 40_000;
    type Make = fn(&Environment, &Scratch) -> Stream<Pair>;
    let ways: [(&str, Make, ExchangeKind); 7] = [
        (
            "a source that says nothing",
            |e, _| e.source("many", Undivided(COUNT)),
            ExchangeKind::Rebalance,
        ),
        (
            "behind maps and filters",
            |e, _| {
                let many = e
                    .source("many", Undivided(COUNT))
                    .filter(|pair| pair.1 < COUNT)
                    .name("all");
                many.map(|pair| (pair.0, pair.1 + 1)).name("map")
            },
            ExchangeKind::Rebalance,
        ),
        (
            "a packed file",
            |e, s| {
                let many = e.source("many", csv::<Named>(s.pattern("many.csv.gz")));
                many.map(|named| (named.number, 1)).name("map")
            },
            ExchangeKind::Rebalance,
        ),
        (
            "a file in whose quotes may be line ends",
            |e, s| {
                let many = e.source("many", csv::<Named>(s.pattern("many.csv")).split_size(10_000));
                many.map(|named| (named.number, 1)).name("map")
            },
            ExchangeKind::Rebalance,
        ),
        (
            "a file that is cut",
            |e, s| {
                let many = csv::<Named>(s.pattern("many.csv"))
                    .split_size(10_000)
                    .whole_lines();
                e.source("many", many).map(|named| (named.number, 1)).name("map")
            },
            ExchangeKind::Forward,
        ),
        (
            "one subtask",
            |e, _| {
                let many = generate(COUNT, |n| (hash_u64(n) % 300, n));
                e.source("many", many).parallelism(1)
            },
            ExchangeKind::Rebalance,
        ),
        (
            "what an exchange has spread",
            |e, _| {
                let many = e.source("many", Undivided(COUNT)).rebalance();
                many.map(|pair| pair).name("map")
            },
            ExchangeKind::Forward,
        ),
    ];
    let scratch = Scratch::new("sizes");
    let lines = (0..COUNT).map(|number| format!("{},some\n", hash_u64(number) % 300));
    let lines = format!("number,name\n{}", lines.collect::<String>());
    let mut packed = GzEncoder::new(Vec::new(), Level::default());
    packed
        .write_all(lines.as_bytes())
        .expect("memory takes everything");
    scratch.write("many.csv", &lines);
    scratch.write("many.csv.gz", packed.finish().expect("memory takes everything"));
    for (what, make, expected) in ways {
        let environment = environment_of(800, 2);
        let few = environment.source("few", generate(100, |n| (n, n)));
        let join = make(&environment, &scratch).join(few).on(first(), first());
        let count = join.inner(|l, r| l.0 + r.1).name("joined").count().collect();
        let plan = environment.plan("join").expect("the job has a plan");
        assert_eq!(
            everywhere(&environment),
            Some("right"),
            "{what}: {}",
            plan.explain()
        );
        let join = join_node(&plan);
        let edge = plan
            .edges
            .iter()
            .find(|edge| edge.to == join.id && edge.input == 1);
        assert_eq!(
            edge.map(|edge| edge.exchange),
            Some(expected),
            "{what}: {}",
            plan.explain()
        );
        let says = join
            .detail
            .contains("dealt out, as not every subtask may read some of it");
        let is_told = expected == ExchangeKind::Rebalance && what != "one subtask";
        assert_eq!(says, is_told, "{what}: {}", plan.explain());
        let summary = environment.execute("join").expect("the job runs");
        let expected = (0..COUNT).filter(|number| hash_u64(*number) % 300 < 100).count() as u64;
        assert_eq!(count.take(), [expected], "{what}");
        let tasks = summary
            .tasks
            .iter()
            .filter(|task| task.task.starts_with("joined"));
        let shares: Vec<u64> = tasks.map(|task| task.records_in).collect();
        assert_eq!(shares.len(), 2, "{what}");
        // (Who reads which splits of a file that is cut is a matter of luck.)
        if what != "a file that is cut" {
            assert!(
                shares.iter().all(|share| *share > COUNT / 4),
                "{what}: {shares:?}"
            );
        }
    }
}

#[test]
fn one_part_among_many_sources_has_all_of_them_dealt_out() {
    let dealt_out = |make: &dyn Fn(&Environment) -> Stream<Pair>| {
        let environment = environment_of(800, 2);
        let few = environment.source("few", generate(100, |n| (n, n)));
        let join = make(&environment).join(few).on(first(), first());
        join.inner(|l, r| (l.1, r.1)).blackhole();
        let plan = environment.plan("join").expect("the job has a plan");
        assert_eq!(everywhere(&environment), Some("right"), "{}", plan.explain());
        join_node(&plan).detail.contains("dealt out")
    };
    let many = |e: &Environment| e.source("many", generate(10_000, |n| (n % 300, n)));
    assert!(!dealt_out(&|e| many(e).union(many(e))));
    assert!(dealt_out(&|e| many(e).union(e.source("one", Undivided(10)))));
    assert!(dealt_out(&|e| many(e)
        .union(e.source("one", Undivided(10)))
        .name("both")));
    // What a sort or an aggregate sends is spread by the exchange before it.
    assert!(!dealt_out(&|e| {
        let sums = e.source("one", Undivided(10)).key_by(second()).sum(first());
        sums.map(|sum| (sum.1, sum.0)).name("turned")
    }));
    // Of two joins the first one spreads.
    let environment = environment_of(2_000, 2);
    let few = |name: &str| environment.source(name, generate(100, |n| (n, n)));
    let one = environment.source("one", Undivided(10_000));
    let first_join = one.join(few("few")).on(first(), first()).inner(|l, r| (l.0, r.1));
    let second_join = first_join
        .name("first")
        .join(few("more"))
        .on(first(), first())
        .semi();
    second_join.name("second").blackhole();
    let plan = environment.plan("joins").expect("the job has a plan");
    let kinds = |name: &str| {
        let node = plan
            .nodes
            .iter()
            .find(|node| node.name == name)
            .expect("it is there");
        let edges = plan.edges.iter().filter(|edge| edge.to == node.id);
        edges.map(|edge| edge.exchange).collect::<Vec<_>>()
    };
    let (all, some, none) = (
        ExchangeKind::Broadcast,
        ExchangeKind::Rebalance,
        ExchangeKind::Forward,
    );
    assert_eq!(kinds("first"), [some, all], "{}", plan.explain());
    assert_eq!(kinds("second"), [none, all], "{}", plan.explain());
}

#[test]
fn sources_say_whether_all_subtasks_have_some_of_them_to_read() {
    let scratch = Scratch::new("sizes");
    for (name, size) in [
        ("one.txt", 10),
        ("two.txt", 12),
        ("large.txt", 90),
        ("none.txt", 0),
        ("x.txt.gz", 90),
    ] {
        scratch.write(name, "a\n".repeat(size / 2));
    }
    let pattern = |name: &str| scratch.pattern(name);
    let divides =
        |patterns: &[&str], size: u64, subtasks| text(patterns).split_size(size).divides_among(subtasks);
    let [one, two, large, none, packed] =
        ["one.txt", "two.txt", "large.txt", "none.txt", "x.txt.gz"].map(pattern);
    let [one, two, large, none, packed] = [&*one, &*two, &*large, &*none, &*packed];
    assert!(divides(&[large], 10, 2) && divides(&[large], 10, 9));
    assert!(!divides(&[large], 10, 10));
    assert!(!divides(&[large], 90, 2) && divides(&[large], 90, 1));
    // Three quarters for one of two are too much.
    assert!(divides(&[one, two], 1, 2));
    assert!(!divides(&[one, two, packed], 1, 2));
    // There is nothing in an empty file, whatever in what has no size, as a pipe, and nothing in what is not there.
    assert!(divides(&[large, none], 10, 2) && !divides(&[none], 10, 1));
    assert!(!divides(&[large, "/dev/null"], 10, 2));
    assert!(!divides(&[&*pattern("missing.txt")], 10, 1));
    let csv = |path: &str| csv::<Named>(path).split_size(10);
    assert!(!csv(large).divides_among(2) && csv(large).whole_lines().divides_among(2));
    let numbers = |size| binary::<Number>(&*scratch.pattern("numbers.bin")).split_size(size);
    scratch.write("numbers.bin", [0; 80]);
    assert!(numbers(8).divides_among(10) && !numbers(8).divides_among(11) && !numbers(80).divides_among(2));
    assert!(generate(2, |n| n).divides_among(2) && !generate(2, |n| n).divides_among(3));
    assert!(from_items(vec![1_u64; 2]).divides_among(2) && !from_items(vec![1_u64; 2]).divides_among(3));
    assert!(!Undivided(9).divides_among(2));
}

/// Streams that part and meet again, time after time, are looked at once.
#[test]
fn sizes_are_found_where_many_ways_lead_to_a_source() {
    let environment = environment_of(400, 2);
    let few = environment.source("few", generate(100, |n| (n, n)));
    let mut many = environment.source("many", generate(1, |n| (n, n)));
    for _ in 0..100 {
        let (one, other) = many.fork();
        many = one.union(other.filter(|_| true)).map(|pair| pair).name("map");
    }
    add_join(many, few, Kind::Inner, AUTOMATIC).blackhole();
    assert_eq!(everywhere(&environment), Some("right"));
}

#[test]
fn the_plan_says_why() {
    let environment = environment_of(400, 2);
    let [many, few] = sources(&environment);
    add_join(many, few, Kind::Inner, AUTOMATIC).blackhole();
    let plan = environment.plan("join").expect("the job has a plan");
    assert_eq!(
        join_node(&plan).detail,
        ".0 = .0, right side in memory of every subtask: it has 1600 B, the other 160000 B"
    );
    assert_eq!(JobPlan::from_json(&plan.to_json()).expect("it is a plan"), plan);
}
