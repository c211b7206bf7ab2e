//! Joins of two streams.
//!
//! # Interface
//! [`Stream::join`] begins one, [`Join::on`] says the keys, and the methods of [`JoinKeys`] which rows are sent.
//! [`Stream::cross`] joins every record with every other.
//!
//! # Algorithm
//! Both sides are sent to the subtask of their key's key group; or the side that rows are looked up in goes to all subtasks and
//! the other stays where it is: because it was told, or chosen by their sizes (`broadcasts`). What then happens is in `operator::join`.

use crate::environment::Environment;
use crate::exchange::Broadcast;
use crate::graph::{Edge, Factory, IfSmall, IfSorted, Node, OperatorContext, Rows};
use crate::keyed::{budget_of, common_bits};
use crate::operator::{
    Always, Anti, CO_GROUP, CoGroups, Collector, Full, Group, HashJoin, Inner, JoinFunctions, JoinSetting,
    LEAST_LOG_SEGMENTS, LeftOuter, LocalSort, MergeJoin, MergeSetting, Operator, Residual, RightOuter, Semi,
    Stage, Where, least_join_segments, least_segments, local_sort,
};
use crate::plan::ExchangeKind;
use crate::record::{KeyFields, NoKey, Record};
use crate::source::RowsBytes;
use crate::stream::Stream;
use forebay_memory::Result;
use std::marker::PhantomData;

/// How a join finds matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JoinStrategy {
    /// As [`JoinStrategy::Merge`] where both sides come in the order of their keys; as [`JoinStrategy::Broadcast`] where the side in memory may
    /// go everywhere and is known to be small ([`Source::rows_bytes`](crate::source::Source::rows_bytes)), and nothing that follows needs the
    /// records of a key together; otherwise as [`JoinStrategy::Hash`].
    #[default]
    Automatic,
    /// Both sides by the hash of their key, the right side in tables unless said otherwise, or the left side is known to be much smaller.
    Hash,
    /// Both sides by the hash of their key to the subtasks, which sort each side by it and walk through both. Of sides that come in order neither
    /// is sorted again; each needs 8 segments of managed memory a subtask at least, and 4 more are needed.
    Merge,
    /// The right side to every subtask, the left side where it is: for a right side that is small. Where right records without
    /// a match are sent, the left side goes everywhere instead; where those of both are, this is [`JoinStrategy::Hash`].
    Broadcast,
}

/// Two streams to be joined.
#[must_use = "a join does nothing until its keys and kind are said"]
pub struct Join<L, R> {
    environment: Environment,
    inputs: [Vec<Edge>; 2],
    records: PhantomData<fn(L, R)>,
}

/// Two streams to be joined by keys, and under a condition.
#[must_use = "a join does nothing until its kind is said"]
pub struct JoinKeys<L, R, KL, KR, W = Always> {
    environment: Environment,
    inputs: [Vec<Edge>; 2],
    keys: (KL, KR),
    residual: W,
    strategy: JoinStrategy,
    build_is_left: Option<bool>,
    records: PhantomData<fn(L, R)>,
}

impl<I: Record, L: Record, S: Stage<I, L>> Stream<I, L, S> {
    /// Joins the records of this stream, the left side, with those of another. Both must end.
    ///
    /// ```
    /// use forebay::record::first;
    /// use forebay::source::from_items;
    /// # fn main() -> forebay::Result<()> {
    /// let env = forebay::Environment::from_args()?;
    /// let prices = env.source("prices", from_items(vec![(1_u64, 10_u64), (2, 20)]));
    /// let orders = env.source("orders", from_items(vec![(2_u64, 3_u64), (2, 4), (5, 6)]));
    /// let costs = orders
    ///     .join(prices)
    ///     .on(first(), first())
    ///     .inner(|order, price| order.1 * price.1)
    ///     .collect();
    /// env.execute("costs")?;
    /// let mut costs = costs.take();
    /// costs.sort();
    /// assert_eq!(costs, [60, 80]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn join<J: Record, R: Record, T: Stage<J, R>>(self, other: Stream<J, R, T>) -> Join<L, R> {
        let (environment, left) = self.into_forward_edges();
        let (_, right) = other.into_forward_edges();
        Join {
            environment,
            inputs: [left, right],
            records: PhantomData,
        }
    }

    /// What `function` makes of every pair of records of this stream and another. The other side goes to every subtask, and
    /// should be the smaller one.
    pub fn cross<J, R, T, O, F>(self, other: Stream<J, R, T>, function: F) -> Stream<O>
    where
        J: Record,
        R: Record,
        T: Stage<J, R>,
        O: Record,
        F: for<'a, 'b> FnMut(L::View<'a>, R::View<'b>) -> O + Clone + Send + 'static,
    {
        self.join(other).on_nothing().inner(function)
    }
}

impl<L: Record, R: Record> Join<L, R> {
    /// Pairs have equal keys: a field of each, or tuples of as many fields, of the same types. A null is equal to nothing, not to
    /// another null either; a NaN is equal to a NaN, and −0.0 to 0.0.
    pub fn on<KL, KR>(self, left: KL, right: KR) -> JoinKeys<L, R, KL, KR>
    where
        KL: KeyFields<L>,
        KR: KeyFields<R, Key = KL::Key>,
    {
        self.keyed(left, right, JoinStrategy::Automatic)
    }

    /// Every record of one side with every record of the other, where [`JoinKeys::matching`] does not say otherwise.
    pub fn on_nothing(self) -> JoinKeys<L, R, impl KeyFields<L, Key = ()>, impl KeyFields<R, Key = ()>> {
        self.keyed(NoKey, NoKey, JoinStrategy::Broadcast)
    }

    fn keyed<KL, KR>(self, left: KL, right: KR, strategy: JoinStrategy) -> JoinKeys<L, R, KL, KR> {
        JoinKeys {
            environment: self.environment,
            inputs: self.inputs,
            keys: (left, right),
            residual: Always,
            strategy,
            build_is_left: None,
            records: PhantomData,
        }
    }
}

impl<L, R, KL, KR, W> JoinKeys<L, R, KL, KR, W>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
    W: Residual<L, R>,
{
    /// Only pairs for which `condition` is true match. It may be asked several times about a pair.
    pub fn matching<F>(self, condition: F) -> JoinKeys<L, R, KL, KR, Where<F>>
    where
        F: for<'a, 'b> FnMut(L::View<'a>, R::View<'b>) -> bool + Clone + Send + 'static,
    {
        JoinKeys {
            environment: self.environment,
            inputs: self.inputs,
            keys: self.keys,
            residual: Where(condition),
            strategy: self.strategy,
            build_is_left: self.build_is_left,
            records: PhantomData,
        }
    }

    /// How matches are found.
    pub fn strategy(self, strategy: JoinStrategy) -> Self {
        JoinKeys { strategy, ..self }
    }

    /// Keeps the left side in memory and looks its records up for those of the right side: for a left side that is the
    /// smaller one. Without this, and without [`JoinKeys::build_right`], that is done where the left side is known to have less than half
    /// the bytes of the right one ([`Source::rows_bytes`](crate::source::Source::rows_bytes)); where no more is known the right side is kept.
    pub fn build_left(self) -> Self {
        JoinKeys {
            build_is_left: Some(true),
            ..self
        }
    }

    /// Keeps the right side in memory, whatever is known of the sizes of both.
    pub fn build_right(self) -> Self {
        JoinKeys {
            build_is_left: Some(false),
            ..self
        }
    }

    /// What `function` makes of each pair.
    pub fn inner<O, F>(self, function: F) -> Stream<O>
    where
        O: Record,
        F: for<'a, 'b> FnMut(L::View<'a>, R::View<'b>) -> O + Clone + Send + 'static,
    {
        self.joined("inner join", Inner::new(function))
    }

    /// What `function` makes of each pair, and of left records without a match.
    pub fn left_outer<O, F>(self, function: F) -> Stream<O>
    where
        O: Record,
        F: for<'a, 'b> FnMut(L::View<'a>, Option<R::View<'b>>) -> O + Clone + Send + 'static,
    {
        self.joined("left outer join", LeftOuter::new(function))
    }

    /// What `function` makes of each pair, and of right records without a match.
    pub fn right_outer<O, F>(self, function: F) -> Stream<O>
    where
        O: Record,
        F: for<'a, 'b> FnMut(Option<L::View<'a>>, R::View<'b>) -> O + Clone + Send + 'static,
    {
        self.joined("right outer join", RightOuter::new(function))
    }

    /// What `function` makes of each pair, and of the records of either side without a match.
    pub fn full_outer<O, F>(self, function: F) -> Stream<O>
    where
        O: Record,
        F: for<'a, 'b> FnMut(Option<L::View<'a>>, Option<R::View<'b>>) -> O + Clone + Send + 'static,
    {
        self.joined("full outer join", Full::new(function))
    }

    /// The left records that have a match, each once.
    pub fn semi(self) -> Stream<L> {
        self.joined("semi join", Semi)
    }

    /// The left records that have none.
    pub fn anti(self) -> Stream<L> {
        self.joined("anti join", Anti)
    }

    fn joined<F: JoinFunctions<L, R>>(self, kind: &'static str, functions: F) -> Stream<F::Out> {
        let JoinKeys {
            environment,
            inputs: [left, right],
            keys,
            residual,
            strategy,
            build_is_left,
            ..
        } = self;
        let keeps = (F::KIND.keeps_left, F::KIND.keeps_right);
        let has_key = <KL::Key as Record>::SIZE > 0;
        let is_told = strategy == JoinStrategy::Hash && build_is_left.is_some();
        let sizes = match strategy {
            JoinStrategy::Automatic | JoinStrategy::Hash if !is_told => {
                [&left, &right].map(|edges| environment.known_size(edges))
            }
            _ => [RowsBytes::UNKNOWN; 2],
        };
        let build_is_left =
            build_is_left.or_else(|| sizes[0].is_below(TIMES_SMALLER, sizes[1]).then_some(true));
        // A record that goes everywhere must not be sent everywhere because it has no match.
        let (build_is_left, is_broadcast) = match (strategy, keeps) {
            (JoinStrategy::Broadcast, (true, true)) => (build_is_left.unwrap_or(false), false),
            (JoinStrategy::Broadcast, (false, false)) if F::KIND.sends_pairs() => {
                (build_is_left.unwrap_or(false), true)
            }
            (JoinStrategy::Broadcast, (_, keeps_right)) => (keeps_right, true),
            (_, _) => (build_is_left.unwrap_or(false), false),
        };
        let side = |edges: Vec<Edge>, input: usize, is_left: bool| -> Vec<Edge> {
            let is_everywhere = is_broadcast && is_left == build_is_left;
            let edges = edges.into_iter().map(|edge| match (is_everywhere, is_broadcast) {
                (true, _) => Edge {
                    kind: ExchangeKind::Broadcast,
                    router: Some(Box::new(|_, _, _| Box::new(Broadcast))),
                    ..Edge::forward(edge.from)
                },
                (false, true) => Edge::forward(edge.from),
                (false, false) if is_left => Edge::hash::<L, KL>(edge.from, keys.0),
                (false, false) => Edge::hash::<R, KR>(edge.from, keys.1),
            });
            edges.map(|edge| edge.into_input(input)).collect()
        };
        let (left_input, right_input) = if build_is_left { (0, 1) } else { (1, 0) };
        let mut inputs = side(left, left_input, true);
        inputs.extend(side(right, right_input, false));
        let what = format!(
            "{}{}",
            on::<L, R, KL, KR>(keys),
            if W::IS_TRUE { "" } else { ", under a condition" },
        );
        let kept = format!(
            "{what}, {} side in memory",
            if build_is_left { "left" } else { "right" }
        );
        let everywhere = format!("{kept} of every subtask");
        let detail = match strategy {
            JoinStrategy::Merge => format!("{what}, by merging"),
            _ if is_broadcast => everywhere.clone(),
            _ => kept,
        };
        // What of the side that is kept is sent without a match, or once, would be by every subtask.
        let is_sent_alone = match build_is_left {
            true => F::KIND.keeps_left || !F::KIND.sends_pairs(),
            false => F::KIND.keeps_right,
        };
        let if_small = (strategy == JoinStrategy::Automatic && has_key && !is_sent_alone).then(|| {
            let [left, right] = sizes;
            let sizes = if build_is_left {
                [left, right]
            } else {
                [right, left]
            };
            IfSmall {
                sizes,
                detail: format!("{everywhere}: it has {}, the other {}", sizes[0], sizes[1]),
            }
        });
        let plan = environment.runtime().plan();
        let merge_parts = vec![
            least_segments(L::STRIDE, plan),
            least_segments(R::STRIDE, plan),
            LEAST_LOG_SEGMENTS,
        ];
        let least = match strategy {
            JoinStrategy::Merge => merge_parts.iter().sum(),
            _ => least_join_segments([L::STRIDE, R::STRIDE], plan),
        };
        let make = move |context: &OperatorContext| -> Result<Box<dyn Operator>> {
            let is_broadcast = is_broadcast || context.is_everywhere;
            let is_merged = match strategy {
                JoinStrategy::Merge => true,
                JoinStrategy::Automatic => has_key && !context.are_sorted.contains(&false),
                JoinStrategy::Hash | JoinStrategy::Broadcast => false,
            };
            if is_merged {
                let logs = context.more_budgets.get(1).cloned();
                let setting = MergeSetting {
                    sorts: sorts::<L, R, KL, KR>(keys, left_input, context)?,
                    left_input,
                    budget: logs.expect("an operator that asked for three budgets has them"),
                    handle: context.spill.handle(&context.name)?,
                    batches: context.batches.clone(),
                };
                return Ok(Box::new(MergeJoin::<L, R, KL, KR, F, W>::new(
                    setting,
                    keys,
                    functions.clone(),
                    residual.clone(),
                )));
            }
            let setting = JoinSetting {
                budget: budget_of(context),
                handle: context.spill.handle(&context.name)?,
                batches: context.batches.clone(),
                skip_bits: match is_broadcast || !has_key {
                    true => 0,
                    false => common_bits(context.subtask, context.max_parallelism),
                },
                build_is_left,
            };
            Ok(Box::new(HashJoin::<L, R, KL, KR, F, W>::new(
                setting,
                keys,
                functions.clone(),
                residual.clone(),
            )))
        };
        let mut wants = vec![keys.0.order(), keys.1.order()];
        if left_input == 1 {
            wants.reverse();
        }
        // Left records come out as they are sorted.
        let order = match F::KIND.sends_pairs() {
            true => Vec::new(),
            false => keys.0.order(),
        };
        let node = Node {
            inputs,
            output: Some((F::Out::schema(), F::Out::STRIDE)),
            minimum_segments: least,
            maximum_segments: usize::MAX,
            rows: match (F::KIND.sends_pairs(), is_broadcast) {
                (true, true) => Rows::Made,
                (true, false) => Rows::Keyed(None),
                // Left records, as they are.
                (false, true) => Rows::Mixed,
                (false, false) => Rows::Keyed(Some(keys.0.identity())),
            },
            detail,
            if_small,
            ..Node::new(kind, Factory::Operator(Box::new(make)))
        };
        environment.add_stream(match strategy {
            JoinStrategy::Merge => Node {
                minimum_parts: merge_parts,
                takes_all: true,
                order,
                wants,
                ..node
            },
            JoinStrategy::Automatic if has_key => Node {
                wants,
                if_sorted: Some(IfSorted {
                    minimum_parts: merge_parts,
                    order,
                    detail: format!("{what}, by merging"),
                }),
                ..node
            },
            _ => node,
        })
    }
}

/// A side that has so many times fewer bytes than the other is kept in memory: a row that is kept with a mark costs more than one that
/// is looked up.
const TIMES_SMALLER: u64 = 2;

impl<L, R, KL, KR> JoinKeys<L, R, KL, KR>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
{
    /// What `function` makes of each key's records of both sides: it gets the key, the left records one after the other, the right
    /// records, and a collector for any number of results. It is called once for each key that either side has, in the order of the keys
    /// within a subtask; the side that does not have it has no records. Here a null is a key as others are.
    ///
    /// Both sides are sorted by key in any budget from 16 segments a subtask up (where records vary in size, twice those of the largest
    /// record of each side more), and streamed from there: a key may have more records than memory. A stream that does not
    /// end is refused. Results of one call wait in memory until it is over.
    ///
    /// ```
    /// use forebay::operator::{Collector, Group};
    /// use forebay::record::first;
    /// use forebay::source::from_items;
    /// # fn main() -> forebay::Result<()> {
    /// let env = forebay::Environment::from_args()?;
    /// let ordered = env.source("ordered", from_items(vec![(1_u64, 5_i64), (2, 7), (1, 4)]));
    /// let delivered = env.source("delivered", from_items(vec![(1_u64, 9_i64), (3, 1)]));
    /// // What each article still lacks.
    /// let lacking = ordered
    ///     .join(delivered)
    ///     .on(first(), first())
    ///     .co_group(
    ///         |article, ordered: &mut Group<'_, (u64, i64)>, delivered: &mut Group<'_, (u64, i64)>, out: &mut Collector<'_, (u64, i64)>| {
    ///             let mut lacking = 0;
    ///             ordered.for_each(|order| lacking += order.1);
    ///             delivered.for_each(|delivery| lacking -= delivery.1);
    ///             out.push((article, lacking));
    ///         },
    ///     )
    ///     .collect();
    /// env.execute("lacking")?;
    /// let mut lacking = lacking.take();
    /// lacking.sort();
    /// assert_eq!(lacking, [(1, 0), (2, 7), (3, -1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn co_group<P, F>(self, function: F) -> Stream<P>
    where
        P: Record,
        F: for<'a, 'b, 'g, 'c, 'h, 'd, 'e> FnMut(
                <KL::Key as Record>::View<'a>,
                &'b mut Group<'g, L>,
                &'c mut Group<'h, R>,
                &'d mut Collector<'e, P>,
            ) + Clone
            + Send
            + 'static,
    {
        let JoinKeys {
            environment,
            inputs: [left, right],
            keys,
            ..
        } = self;
        let mut inputs: Vec<Edge> = left
            .into_iter()
            .map(|edge| Edge::hash::<L, KL>(edge.from, keys.0))
            .collect();
        inputs.extend(
            right
                .into_iter()
                .map(|edge| Edge::hash::<R, KR>(edge.from, keys.1).into_input(1)),
        );
        let plan = environment.runtime().plan();
        let parts = vec![least_segments(L::STRIDE, plan), least_segments(R::STRIDE, plan)];
        let make = move |context: &OperatorContext| -> Result<Box<dyn Operator>> {
            Ok(Box::new(CoGroups::new(
                keys,
                function.clone(),
                sorts::<L, R, KL, KR>(keys, 0, context)?,
                context.batches.clone(),
            )))
        };
        environment.add_stream(Node {
            inputs,
            output: Some((P::schema(), P::STRIDE)),
            minimum_segments: parts.iter().sum(),
            minimum_parts: parts,
            maximum_segments: usize::MAX,
            takes_all: true,
            rows: Rows::Keyed(None),
            wants: vec![keys.0.order(), keys.1.order()],
            detail: on::<L, R, KL, KR>(keys),
            ..Node::new(CO_GROUP, Factory::Operator(Box::new(make)))
        })
    }
}

/// What is joined, in words.
fn on<L: Record, R: Record, KL: KeyFields<L>, KR: KeyFields<R>>(keys: (KL, KR)) -> String {
    let (left, right) = (keys.0.describe(), keys.1.describe());
    match left.is_empty() {
        false => format!("{} = {}", left.join(", "), right.join(", ")),
        true => "every pair".to_string(),
    }
}

/// The sorts of both sides by their keys, in the first two budgets.
fn sorts<L, R, KL, KR>(
    keys: (KL, KR),
    left_input: usize,
    context: &OperatorContext,
) -> Result<[Box<dyn LocalSort>; 2]>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R>,
{
    let right = context.more_budgets.first().cloned();
    let right = right.expect("an operator that asked for several budgets has them");
    let (left_sorted, right_sorted) = (context.are_sorted[left_input], context.are_sorted[1 - left_input]);
    let handle = || context.spill.handle(&context.name);
    Ok([
        local_sort::<L, KL>(keys.0, budget_of(context), handle()?, left_sorted),
        local_sort::<R, KR>(keys.1, right, handle()?, right_sorted),
    ])
}
