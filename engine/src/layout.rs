//! The layout: where the rows of a graph's nodes are, in which order, and what follows from that for its edges.
//!
//! # Interface
//! [`Layout::of`] a graph, a default parallelism and where small sides of joins go; [`Layout::describe`] makes the serializable [`JobPlan`].
//!
//! # Algorithm
//! Nodes are looked at after those that they get rows from.
//! 1. A node that is not told its parallelism takes the default, or that of the node before it where rows come from that in order.
//! 2. Rows are *placed* by a key where they are in the subtask that a hash exchange to as many subtasks would send them to. A
//!    hash exchange by the same key is *local* then: a forward edge, which is chained where the graph allows it.
//! 3. A join whose small side goes *everywhere* (which `broadcasts` chooses) has a broadcast in the place of one hash exchange, and none in the
//!    place of the other, or one that deals its rows out.
//! 4. Rows come *in order* over an edge that keeps them in their subtask, or from one subtask alone. A node that would sort them in an order
//!    that theirs begins with need not.
//!
//! # Invariants
//! I1. What is said here of rows is true of them: an exchange that is left out changes no result, nor does a sort; asserted by the
//!     jobs of `engine/tests/layout.rs` in every parallelism, and by the simulated ones.

use crate::graph::{Edge, Graph, IfSmall, IfSorted, Rows, SmallSide, SmallSides};
use crate::operator::{SORT, SORT_WITHIN, TOP};
use crate::plan::{ExchangeKind, JobPlan, PlanEdge, PlanNode};
use crate::record::{KeyIdentity, OrderPart};
use forebay_memory::{Error, Result};

/// Where rows are.
#[derive(Clone, PartialEq, Eq)]
enum Place {
    Anywhere,
    /// Where a hash exchange has sent them, by this key if they have it.
    ByKey(Option<KeyIdentity>),
}

/// What the plan knows of a graph's nodes and edges.
pub(crate) struct Layout {
    /// Of each node.
    pub(crate) parallelism: Vec<usize>,
    /// Of each node's inputs: whether it is a hash exchange that need not be one.
    pub(crate) is_local: Vec<Vec<bool>>,
    /// By node and number of an input: whether its rows come in the order that is wanted.
    pub(crate) are_sorted: Vec<Vec<bool>>,
    /// Of each node: whether its rows come placed by the key that it says, or, where it says none, by some key.
    pub(crate) are_placed: Vec<bool>,
    /// For each node, the node that it is chained to.
    pub(crate) chained: Vec<Option<usize>>,
    small_sides: SmallSides,
}

/// How rows come over an edge.
struct Way<'g> {
    kind: ExchangeKind,
    key: Option<&'g KeyIdentity>,
    keys: &'g [String],
    has_router: bool,
}

impl Layout {
    pub(crate) fn of(graph: &Graph, default: usize, small_sides: &SmallSides) -> Layout {
        let parallelism = parallelism(graph, default);
        let count = graph.nodes.len();
        let mut places: Vec<Place> = Vec::with_capacity(count);
        let mut orders: Vec<Vec<OrderPart>> = Vec::with_capacity(count);
        let mut layout = Layout {
            parallelism,
            is_local: Vec::with_capacity(count),
            are_sorted: Vec::with_capacity(count),
            are_placed: Vec::with_capacity(count),
            chained: Vec::new(),
            small_sides: small_sides.clone(),
        };
        for (id, node) in graph.nodes.iter().enumerate() {
            let stays = |edge: &Edge| layout.parallelism[edge.from] == layout.parallelism[id];
            let is_local = |edge: &Edge| {
                let key = layout.way(id, edge).key;
                key.is_some() && stays(edge) && places[edge.from] == Place::ByKey(key.cloned())
            };
            // What comes over an edge.
            let place = |edge: &Edge| match layout.way(id, edge) {
                Way { key: Some(key), .. } => Place::ByKey(Some(key.clone())),
                way if !way.has_router && stays(edge) => places[edge.from].clone(),
                _ => Place::Anywhere,
            };
            let order = |edge: &Edge| -> &[OrderPart] {
                let is_kept = layout.parallelism[edge.from] == 1
                    || stays(edge) && (!layout.way(id, edge).has_router || is_local(edge));
                if is_kept { &orders[edge.from] } else { &[] }
            };
            let input_order = |input: usize| -> &[OrderPart] {
                let mut edges = node.inputs.iter().filter(|edge| edge.input == input);
                match (edges.next(), edges.next()) {
                    (Some(edge), None) => order(edge),
                    _ => &[],
                }
            };
            // A side that goes everywhere is nobody's.
            let own = node
                .inputs
                .iter()
                .filter(|edge| layout.way(id, edge).kind != ExchangeKind::Broadcast);
            let mut arriving = own.map(place);
            let first = arriving.next().unwrap_or(Place::Anywhere);
            let input = arriving.fold(first, |all, place| match (all, place) {
                (all, place) if all == place => all,
                (Place::ByKey(_), Place::ByKey(_)) => Place::ByKey(None),
                _ => Place::Anywhere,
            });
            let is_placed = input != Place::Anywhere;
            let if_small = node.if_small.as_ref().filter(|_| layout.is_everywhere(id));
            // Rows that another exchange has placed, before a join that has none, are nobody's behind it: what claims a key there would
            // claim it of them.
            let rows = if_small.map_or(&node.rows, |_| &Rows::New);
            let (place, is_placed) = match rows {
                Rows::New => (Place::Anywhere, false),
                Rows::Same | Rows::Mixed => (input, is_placed),
                Rows::Made if is_placed => (Place::ByKey(None), true),
                Rows::Made => (Place::Anywhere, false),
                Rows::Keyed(key) => (Place::ByKey(key.clone()), true),
                Rows::Rekeyed(key, becomes) if input == Place::ByKey(Some(key.clone())) => {
                    (Place::ByKey(Some(becomes.clone())), true)
                }
                Rows::Rekeyed(..) if is_placed => (Place::ByKey(None), false),
                Rows::Claimed(key) if is_placed => (Place::ByKey(Some(key.clone())), true),
                Rows::Rekeyed(..) | Rows::Claimed(_) => (Place::Anywhere, false),
            };
            let wants = node.wants.iter().enumerate();
            let are_sorted: Vec<bool> = wants
                .map(|(input, wanted)| {
                    // What goes everywhere is not merged.
                    let may_be = !wanted.is_empty() && if_small.is_none();
                    may_be && input_order(input).starts_with(wanted)
                })
                .collect();
            let order = match (rows, &node.if_sorted) {
                (Rows::Same | Rows::Claimed(_), _) => input_order(0).to_vec(),
                (_, Some(if_sorted)) if !are_sorted.contains(&false) => if_sorted.order.clone(),
                _ => node.order.clone(),
            };
            let locals = node.inputs.iter().map(is_local).collect();
            layout.is_local.push(locals);
            layout.are_sorted.push(are_sorted);
            layout.are_placed.push(is_placed);
            places.push(place);
            orders.push(order);
        }
        layout.chained = layout.chained_to(graph);
        layout
    }

    /// Checks that nodes which need as many subtasks as those before them have them.
    ///
    /// # Errors
    /// `Config`, naming both.
    pub(crate) fn check(&self, graph: &Graph, job: &str) -> Result<()> {
        for (id, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.is_bound) {
            for edge in &node.inputs {
                let (before, own) = (self.parallelism[edge.from], self.parallelism[id]);
                if before != own {
                    let names = graph.names();
                    return Err(Error::config(format!(
                        "job \"{job}\": \"{}\" has {own} subtasks and \"{}\", whose order it keeps, {before}: between them it would be \
                         lost; give both the same parallelism",
                        names[id], names[edge.from]
                    )));
                }
            }
        }
        Ok(())
    }

    /// Whether the small side of a join goes to every subtask.
    pub(crate) fn is_everywhere(&self, id: usize) -> bool {
        matches!(self.small_sides.get(&id), Some(SmallSide::Everywhere { .. }))
    }

    /// Whether the other side of such a join is dealt out to the subtasks.
    fn is_other_dealt_out(&self, id: usize) -> bool {
        let dealt_out = SmallSide::Everywhere {
            is_other_dealt_out: true,
        };
        self.small_sides.get(&id) == Some(&dealt_out)
    }

    /// How rows come over an edge into a node.
    fn way<'g>(&self, id: usize, edge: &'g Edge) -> Way<'g> {
        match (self.is_everywhere(id), edge.input) {
            (true, input) => {
                let (kind, has_router) = match input {
                    0 => (ExchangeKind::Broadcast, true),
                    _ if self.is_other_dealt_out(id) => (ExchangeKind::Rebalance, true),
                    _ => (ExchangeKind::Forward, false),
                };
                Way {
                    kind,
                    key: None,
                    keys: &[],
                    has_router,
                }
            }
            (false, _) => Way {
                kind: edge.kind,
                key: edge.key.as_ref(),
                keys: &edge.keys,
                has_router: edge.router.is_some(),
            },
        }
    }

    /// How rows get over input number `place` of a node.
    pub(crate) fn exchange(&self, id: usize, place: usize, edge: &Edge) -> ExchangeKind {
        match self.way(id, edge) {
            _ if self.is_forward(id, place, edge) => ExchangeKind::Forward,
            way if !way.has_router => ExchangeKind::Rebalance,
            way => way.kind,
        }
    }

    /// Of each node's inputs, whether rows go to the subtask of their key over it, and leave their own for it.
    pub(crate) fn hash_exchanges<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = (usize, bool)> + 'a {
        let nodes = graph.nodes.iter().enumerate();
        nodes.flat_map(move |(id, node)| {
            let edges = node.inputs.iter().enumerate();
            edges.map(move |(place, edge)| (id, self.exchange(id, place, edge) == ExchangeKind::Hash))
        })
    }

    /// What a node is because of the order of its inputs.
    fn if_sorted<'g>(&self, graph: &'g Graph, id: usize) -> Option<&'g IfSorted> {
        let if_sorted = graph.nodes[id].if_sorted.as_ref();
        if_sorted.filter(|_| !self.are_sorted[id].contains(&false))
    }

    /// Managed segments that a subtask of a node cannot do without: one number for each of its budgets.
    pub(crate) fn minimum_parts(&self, graph: &Graph, id: usize) -> Vec<usize> {
        let node = &graph.nodes[id];
        let parts = self
            .if_sorted(graph, id)
            .map_or(&node.minimum_parts, |if_sorted| &if_sorted.minimum_parts);
        match (&parts[..], node.minimum_segments) {
            ([], 0) => Vec::new(),
            ([], minimum) => vec![minimum],
            (parts, _) => parts.to_vec(),
        }
    }

    /// The sum of these.
    pub(crate) fn minimum_segments(&self, graph: &Graph, id: usize) -> usize {
        self.minimum_parts(graph, id).iter().sum()
    }

    /// Whether rows stay in their subtask over input number `place` of a node.
    pub(crate) fn is_forward(&self, id: usize, place: usize, edge: &Edge) -> bool {
        self.is_local[id][place]
            || !self.way(id, edge).has_router && self.parallelism[edge.from] == self.parallelism[id]
    }

    /// For each node, the node that it is chained to: its only input, forward, of the same parallelism and on the same
    /// kind of thread, with no other consumer.
    fn chained_to(&self, graph: &Graph) -> Vec<Option<usize>> {
        let mut consumers = vec![0; graph.nodes.len()];
        for edge in graph.nodes.iter().flat_map(|node| &node.inputs) {
            consumers[edge.from] += 1;
        }
        let chained = graph
            .nodes
            .iter()
            .enumerate()
            .map(|(id, node)| match &node.inputs[..] {
                [edge] if self.is_forward(id, 0, edge) && consumers[edge.from] == 1 => {
                    let is_alike = graph.nodes[edge.from].is_blocking == node.is_blocking;
                    is_alike.then_some(edge.from)
                }
                _ => None,
            });
        chained.collect()
    }

    /// The serializable plan.
    pub(crate) fn describe(&self, graph: &Graph, job: &str, mode: &str, max_parallelism: u32) -> JobPlan {
        let names = graph.names();
        let nodes = graph.nodes.iter().enumerate().map(|(id, node)| PlanNode {
            id,
            uid: node.identity(id),
            has_own_uid: node.uid.is_some(),
            name: names[id].to_string(),
            kind: node.kind.to_string(),
            detail: self.detail(graph, id),
            parallelism: self.parallelism[id],
            minimum_segments: self.minimum_segments(graph, id),
            memory_weight: node.memory_weight,
            chained_to: self.chained[id],
            output: node.output.map(|(schema, _)| schema.clone()),
        });
        let edges = graph.nodes.iter().enumerate().flat_map(|(to, node)| {
            node.inputs.iter().enumerate().map(move |(place, edge)| PlanEdge {
                from: edge.from,
                to,
                exchange: self.exchange(to, place, edge),
                keys: self.way(to, edge).keys.to_vec(),
                input: edge.input,
            })
        });
        JobPlan {
            job: job.to_string(),
            mode: mode.to_string(),
            max_parallelism,
            nodes: nodes.collect(),
            edges: edges.collect(),
        }
    }

    /// What the kind of a node does not say.
    fn detail(&self, graph: &Graph, id: usize) -> String {
        let node = &graph.nodes[id];
        let mut detail = match (self.if_sorted(graph, id), &node.if_small) {
            (Some(IfSorted { detail, .. }), _) => detail.clone(),
            (None, Some(IfSmall { detail, .. })) if self.is_everywhere(id) => detail.clone(),
            _ => node.detail.clone(),
        };
        if let Some(SmallSide::ByKey(why)) = self.small_sides.get(&id) {
            detail.push_str(&format!(" (small, but {why})"));
        }
        if self.is_other_dealt_out(id) {
            detail.push_str(", dealt out, as not every subtask may read some of it");
        }
        match &self.are_sorted[id][..] {
            // One side does a join by hash no good.
            [true, false] | [false, true] if node.if_sorted.is_some() => {}
            [true] => detail.push_str(", which they come in"),
            [true, true] => detail.push_str(", both sides come sorted"),
            [true, false] => detail.push_str(", the first side comes sorted"),
            [false, true] => detail.push_str(", the second side comes sorted"),
            _ => {}
        }
        if node.is_blocking {
            detail.push_str(" (on helper threads)");
        }
        detail.trim_start().to_string()
    }
}

/// The parallelism of each node. One that is not told takes that of the node before it where records come from that in order,
/// which another number of subtasks would lose.
fn parallelism(graph: &Graph, default: usize) -> Vec<usize> {
    // Of those whose records are in order.
    let mut ordered: Vec<Option<usize>> = Vec::with_capacity(graph.nodes.len());
    let mut all = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let before = match &node.inputs[..] {
            [edge] if edge.router.is_none() => ordered[edge.from],
            _ => None,
        };
        let parallelism = node.parallelism.or(before).unwrap_or(default);
        let is_ordered = [SORT, SORT_WITHIN, TOP].contains(&node.kind) || before == Some(parallelism);
        ordered.push(is_ordered.then_some(parallelism));
        all.push(parallelism);
    }
    all
}
