//! Broadcasts: which joins send their small side to every subtask without being told, so that the other need not be exchanged.
//!
//! # Interface
//! [`small_sides`] of a graph, before it is lowered: `layout` makes of it how rows get to a join, and `explain` says it.
//!
//! # Algorithm
//! 1. A join is looked at whose strategy was left to the engine, that has several subtasks, and whose side in memory may be everywhere.
//! 2. Its other side has [`WORTH`] times as much for each other subtask at least; or the side is so small that it does not matter.
//! 3. Four times what the side in memory may have is within the share of one subtask. (Its table takes up to twice its bytes.)
//! 4. All of these are changed. Then each, in the order of the plan, is changed back if that costs it no exchange of its other side (because that
//!    is where its key belongs, or both come sorted), or spares another node one (because it gets rows that are where their key belongs).
//! 5. What reads a source that is one split, a compressed file say, or of which nobody knows how many there are, is perhaps one subtask, and
//!    the join behind it would be, too: rows that come so, over edges without an exchange, are dealt out to the join's subtasks.
//!
//! # Invariants
//! I1. Whatever is said of sizes, results are the same: what is chosen is a join that is right for sides of any size, in any budget;
//!     `a_side_that_is_larger_than_was_said_is_joined_all_the_same`.
//!
//! # Cost
//! Three layouts for each join whose side is small enough, when the job is planned, and its sources are listed.

use crate::graph::{Factory, Graph, IfSmall, SmallSide, SmallSides};
use crate::layout::Layout;
use crate::shares::{Share, shares};
use forebay_memory::plan::WeightsPlan;
use std::collections::{BTreeMap, BTreeSet};

/// What is sent everywhere is within this part of what a subtask may have.
const PART_OF_SHARE: u64 = 4;

/// Bytes of the other side for each byte that one more subtask has to put in its table.
const WORTH: u64 = 16;

/// Bytes that may go everywhere.
const LARGEST: u64 = 2 << 20;

/// A side of so many bytes goes everywhere whatever the other side has: to put them in a table takes less than a millisecond.
const TINY: u64 = 128 << 10;

/// What is chosen before it is asked whether the other side is spread.
const EVERYWHERE: SmallSide = SmallSide::Everywhere {
    is_other_dealt_out: false,
};

/// What a subtask may have of managed memory is known by this.
pub(crate) struct Managed<'p> {
    pub(crate) weights: &'p WeightsPlan,
    /// Segments, in all.
    pub(crate) segments: usize,
    pub(crate) segment_size: usize,
}

/// Where the small sides of a graph's joins go.
pub(crate) fn small_sides(
    graph: &Graph,
    parallelism: usize,
    is_streaming: bool,
    managed: &Managed<'_>,
) -> SmallSides {
    let mut chosen = SmallSides::new();
    if graph.nodes.iter().all(|node| node.if_small.is_none()) {
        return chosen;
    }
    let layout = Layout::of(graph, parallelism, &chosen);
    let shares = shares(graph, &layout, is_streaming, managed.weights, managed.segments);
    for (id, node) in graph.nodes.iter().enumerate() {
        let Some(if_small) = &node.if_small else {
            continue;
        };
        let subtasks = layout.parallelism[id];
        if subtasks > 1 && is_worth_it(if_small, subtasks) {
            let side = match fits(if_small, shares[id], managed.segment_size) {
                true => EVERYWHERE,
                false => SmallSide::ByKey("too large for the memory of each subtask"),
            };
            chosen.insert(id, side);
        }
    }
    let everywhere: Vec<usize> = (chosen.iter())
        .filter(|(_, side)| **side == EVERYWHERE)
        .map(|(id, _)| *id)
        .collect();
    for &id in &everywhere {
        let mut others = chosen.clone();
        others.remove(&id);
        let by_key = Layout::of(graph, parallelism, &others);
        if !may_gain(graph, &by_key, id) {
            chosen = others;
        } else if costs_an_exchange(graph, &by_key, &Layout::of(graph, parallelism, &chosen), id) {
            let why = "what follows would need an exchange by the same key";
            chosen.insert(id, SmallSide::ByKey(why));
        }
    }
    let mut sources = Sources::new();
    for id in everywhere {
        if chosen.get(&id) == Some(&EVERYWHERE) {
            let layout = Layout::of(graph, parallelism, &chosen);
            let is_other_dealt_out = !is_spread(graph, &layout, &mut sources, id);
            chosen.insert(id, SmallSide::Everywhere { is_other_dealt_out });
        }
    }
    chosen
}

/// By source, whether it keeps its subtasks busy.
type Sources = BTreeMap<usize, bool>;

/// Whether all subtasks of a join are known to have about as much of the side that is not in memory: an exchange spreads it, or the sources
/// do from which it comes without one.
fn is_spread(graph: &Graph, layout: &Layout, sources: &mut Sources, join: usize) -> bool {
    let before = |id: usize| {
        let inputs = graph.nodes[id].inputs.iter().enumerate();
        inputs.filter(move |(place, edge)| layout.is_forward(id, *place, edge))
    };
    let others = before(join).filter(|(_, edge)| edge.input > 0);
    let mut to_visit: Vec<usize> = others.map(|(_, edge)| edge.from).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = to_visit.pop() {
        if !seen.insert(id) {
            continue;
        }
        if let Factory::Source { divides_among, .. } = &graph.nodes[id].factory {
            let subtasks = layout.parallelism[id];
            if !*sources.entry(id).or_insert_with(|| divides_among(subtasks)) {
                return false;
            }
        }
        to_visit.extend(before(id).map(|(_, edge)| edge.from));
    }
    true
}

/// Whether a join has an exchange to lose.
fn may_gain(graph: &Graph, layout: &Layout, id: usize) -> bool {
    let is_merged = !layout.are_sorted[id].contains(&false);
    let inputs = graph.nodes[id].inputs.iter().zip(&layout.is_local[id]);
    let mut others = inputs.filter(|(edge, _)| edge.input > 0);
    !is_merged && others.any(|(_, is_local)| !is_local)
}

/// Whether less is done if each of so many subtasks has all of the side.
fn is_worth_it(if_small: &IfSmall, parallelism: usize) -> bool {
    let [side, other] = if_small.sizes;
    match side.most() {
        None => false,
        Some(most) if most <= TINY => true,
        Some(most) => most <= LARGEST && side.is_below(WORTH * (parallelism as u64 - 1), other),
    }
}

/// Whether the side is in the memory of each subtask, well within its share.
fn fits(if_small: &IfSmall, share: Share, segment_size: usize) -> bool {
    let bytes = share.segments.saturating_mul(segment_size) as u64;
    let [side, _] = if_small.sizes;
    side.most().is_some_and(|most| most <= bytes / PART_OF_SHARE)
}

/// Whether a node but the join has a hash exchange in one layout that is none in the other.
fn costs_an_exchange(graph: &Graph, before: &Layout, after: &Layout, join: usize) -> bool {
    let mut edges = before.hash_exchanges(graph).zip(after.hash_exchanges(graph));
    edges.any(|((id, before), (_, after))| id != join && after && !before)
}
