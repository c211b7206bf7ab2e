//! Shares: how a job's managed memory is divided among its operators.
//!
//! # Interface
//! [`shares`] of a graph's nodes. A share bounds what a subtask may have, and weighs what it may count on while other
//! jobs want memory too.
//!
//! # Algorithm
//! 1. Nodes that can use only so many segments (local aggregation) get those, or a small part of all.
//! 2. The rest is divided among the kinds of consumers that the job has by `memory.weights`, and inside a kind by the
//!    nodes' weights, each counted for every subtask.
//! 3. Nobody has less than its minimum.
//! 4. Nodes that need none (local aggregation of integers) may use a small part of what others leave: it is nobody else's loss.
//!
//! # Invariants
//! I1. Where no share is raised to its minimum, and without those of nodes that need none, a job's shares are at most all there is.
//! I2. Budgets of one job weigh [`Budget::USUAL_WEIGHT`] each on the average, so that weights shift memory inside the job
//!     and not away from other jobs.

use crate::graph::{Consumer, Graph};
use crate::layout::Layout;
use forebay_memory::Budget;
use forebay_memory::plan::WeightsPlan;

/// What a subtask of a node may have of managed memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// At most.
    pub(crate) segments: usize,
    /// What it weighs where jobs together want more than there is.
    pub(crate) weight: u32,
}

impl Share {
    /// The part of it that is `part` of `all`.
    pub(crate) fn part(self, part: usize, all: usize) -> Share {
        Share {
            segments: self.segments * part / all,
            weight: ((u64::from(self.weight) * part as u64 / all as u64) as u32).max(1),
        }
    }
}

/// The share of a subtask of each node, of `total` managed segments.
pub(crate) fn shares(
    graph: &Graph,
    layout: &Layout,
    is_streaming: bool,
    weights: &WeightsPlan,
    total: usize,
) -> Vec<Share> {
    let ids = || (0..graph.nodes.len()).filter(|id| layout.minimum_segments(graph, *id) > 0);
    let is_capped = |id: usize| graph.nodes[id].maximum_segments < usize::MAX;
    let subtasks = |id: usize| layout.parallelism[id];
    let kind = |id: usize| match graph.nodes[id].consumer {
        Consumer::State => Kind::State,
        Consumer::StateOfStreams if is_streaming => Kind::State,
        Consumer::StateOfStreams | Consumer::Operator => Kind::Operator,
    };
    let weight_of = |kind: Kind| match kind {
        Kind::Operator => weights.operator,
        Kind::State => weights.state,
    };

    let capped: usize = ids().filter(|id| is_capped(*id)).map(subtasks).sum();
    let small_part = total / (8 * capped.max(1));
    let cap = |id: usize| {
        let minimum = layout.minimum_segments(graph, id);
        graph.nodes[id].maximum_segments.min(small_part).max(minimum)
    };
    let used: usize = ids()
        .filter(|id| is_capped(*id))
        .map(|id| cap(id) * subtasks(id))
        .sum();
    let rest = total.saturating_sub(used) as u128;
    let borrows =
        |id: &usize| layout.minimum_segments(graph, *id) == 0 && graph.nodes[*id].maximum_segments > 0;
    let borrowing: usize = (0..graph.nodes.len()).filter(borrows).map(subtasks).sum();
    let borrowed = total / (16 * borrowing.max(1));

    let uncapped: usize = ids().filter(|id| !is_capped(*id)).map(subtasks).sum();
    let is_there = |wanted: Kind| ids().any(|id| !is_capped(id) && kind(id) == wanted);
    let of_all: u64 = [Kind::Operator, Kind::State]
        .into_iter()
        .filter(|kind| is_there(*kind))
        .map(weight_of)
        .sum();
    let of_kind = |wanted: Kind| -> u128 {
        ids()
            .filter(|id| !is_capped(*id) && kind(*id) == wanted)
            .map(|id| u128::from(graph.nodes[id].memory_weight) * subtasks(id) as u128)
            .sum()
    };
    // A subtask's part of `whole`.
    let part = |id: usize, whole: u128| {
        // Of a job whose only kind weighs nothing that kind has all.
        let (weight, all) = match of_all {
            0 => (1, 1),
            _ => (u128::from(weight_of(kind(id))), u128::from(of_all)),
        };
        whole * weight * u128::from(graph.nodes[id].memory_weight) / (all * of_kind(kind(id)))
    };

    let share = |id: usize| {
        let minimum = layout.minimum_segments(graph, id);
        if minimum == 0 {
            return Share {
                segments: graph.nodes[id].maximum_segments.min(borrowed),
                weight: 1,
            };
        }
        if is_capped(id) {
            return Share {
                segments: cap(id),
                weight: Budget::USUAL_WEIGHT,
            };
        }
        let weight = part(id, uncapped as u128 * u128::from(Budget::USUAL_WEIGHT));
        Share {
            segments: usize::try_from(part(id, rest)).map_or(usize::MAX, |segments| segments.max(minimum)),
            weight: u32::try_from(weight).unwrap_or(u32::MAX).max(1),
        }
    };
    (0..graph.nodes.len()).map(share).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Operator,
    State,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Factory, Node};

    fn node(consumer: Consumer, weight: u32, parallelism: usize) -> Node {
        let factory = Factory::Source {
            splits: Box::new(|_| unreachable!("nothing is run")),
            is_bounded: true,
            divides_among: Box::new(|_| true),
        };
        Node {
            minimum_segments: 8,
            maximum_segments: usize::MAX,
            consumer,
            memory_weight: weight,
            parallelism: Some(parallelism),
            ..Node::new("node", factory)
        }
    }

    fn of(nodes: Vec<Node>, is_streaming: bool, operator: u64, state: u64) -> Vec<(usize, u32)> {
        let graph = Graph {
            nodes,
            ..Graph::default()
        };
        let layout = Layout::of(&graph, 1, &Default::default());
        let shares = shares(
            &graph,
            &layout,
            is_streaming,
            &WeightsPlan { operator, state },
            1200,
        );
        shares
            .into_iter()
            .map(|share| (share.segments, share.weight))
            .collect()
    }

    #[test]
    fn without_weights_subtasks_share_equally() {
        let nodes = vec![
            node(Consumer::Operator, 1, 1),
            node(Consumer::StateOfStreams, 1, 2),
        ];
        assert_eq!(of(nodes, false, 70, 70), [(400, 1000), (400, 1000)]);
    }

    #[test]
    fn kinds_share_by_their_weights_and_nodes_inside_a_kind_by_theirs() {
        let nodes = || {
            vec![
                node(Consumer::Operator, 1, 2),
                node(Consumer::Operator, 3, 2),
                node(Consumer::State, 1, 1),
                node(Consumer::StateOfStreams, 1, 1),
            ]
        };
        // 900 of operators, 300 of state.
        assert_eq!(
            of(nodes(), true, 30, 10),
            [(112, 562), (337, 1687), (150, 750), (150, 750)]
        );
        // In batch mode what streams keep is an operator's.
        assert_eq!(
            of(nodes(), false, 30, 10),
            [(100, 500), (300, 1500), (300, 1500), (100, 500)]
        );
    }

    #[test]
    fn only_kinds_that_a_job_has_are_counted_and_minimums_stay() {
        assert_eq!(
            of(vec![node(Consumer::Operator, 1, 2)], true, 0, 70),
            [(600, 1000)]
        );
        let nodes = vec![
            node(Consumer::Operator, 1, 1),
            node(Consumer::State, 1, 1),
            Node {
                minimum_segments: 0,
                maximum_segments: 0,
                ..node(Consumer::Operator, 1, 1)
            },
            Node {
                maximum_segments: 16,
                ..node(Consumer::Operator, 1, 1)
            },
        ];
        assert_eq!(of(nodes, true, 0, 5), [(8, 1), (1184, 2000), (0, 1), (16, 1000)]);
    }

    #[test]
    fn what_is_borrowed_takes_nothing_from_the_shares_of_others() {
        let borrowing = |maximum_segments| Node {
            minimum_segments: 0,
            maximum_segments,
            ..node(Consumer::Operator, 1, 2)
        };
        let nodes = vec![borrowing(64), borrowing(5), node(Consumer::Operator, 1, 2)];
        assert_eq!(of(nodes, false, 70, 70), [(18, 1), (5, 1), (600, 1000)]);
    }
}
