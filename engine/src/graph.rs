//! The graph: a job as the stream API builds it, before it is lowered to tasks.
//!
//! # Interface
//! The API adds [`Node`]s; `layout` says where their subtasks' rows are, and `job` lowers the graph.

use crate::batch::Batches;
use crate::exchange::{HashRouter, Router, Wake};
use crate::operator::{
    CO_GROUP, FirstRanks, INTERSECT, MINUS, Operator, REDUCE_GROUP, SORT, SORT_WITHIN, TOP,
};
use crate::plan::ExchangeKind;
use crate::record::{KeyFields, KeyIdentity, OrderPart, Record, Schema};
use crate::source::{RowsBytes, Subtask};
use crate::task::SourceDriver;
use forebay_memory::{Budget, Error, Result, SpillStore};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an operator's factory is given.
pub struct OperatorContext {
    /// The operator's name, unique in the job.
    pub name: Arc<str>,
    /// Which subtask the operator is for.
    pub subtask: Subtask,
    /// The number of key groups.
    pub max_parallelism: u32,
    /// Where output batches come from.
    pub batches: Batches,
    /// Managed memory, for operators that asked for it; the first of several budgets.
    pub budget: Option<Budget>,
    /// The other budgets.
    pub more_budgets: Vec<Budget>,
    /// By input, whether its rows come in the order that the node wants ([`Node::wants`]).
    pub are_sorted: Vec<bool>,
    /// Whether rows come to the subtask that an exchange has sent them to by some key.
    pub are_placed: bool,
    /// Whether the first input comes to every subtask, because it is small.
    pub is_everywhere: bool,
    /// Where operators spill.
    pub spill: SpillStore,
    /// Whether the job runs in streaming mode.
    pub is_streaming: bool,
    /// Wakes the operator's task: for other subtasks that it waits for ([`Finish::Waiting`](crate::operator::Finish)).
    pub wake: Arc<dyn Wake>,
}

/// Makes a subtask's source from the source of its batches.
pub(crate) type SubtaskSourceFactory = Box<dyn Fn(Batches) -> Box<dyn SourceDriver>>;
/// Lists a source's splits for a parallelism.
pub(crate) type SourceFactory = Box<dyn Fn(usize) -> Result<SubtaskSourceFactory>>;
/// Makes a subtask's operator.
pub(crate) type OperatorFactory = Box<dyn Fn(&OperatorContext) -> Result<Box<dyn Operator>>>;
/// Makes a sending subtask's router: its index, the number of receivers, the number of key groups.
pub(crate) type RouterFactory = Box<dyn Fn(usize, usize, u32) -> Box<dyn Router>>;

pub(crate) enum Factory {
    Source {
        splits: SourceFactory,
        is_bounded: bool,
        /// Whether it is known to give so many subtasks about as much to read.
        divides_among: Box<dyn Fn(usize) -> bool>,
    },
    Operator(OperatorFactory),
}

/// An edge into a node.
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) kind: ExchangeKind,
    pub(crate) keys: Vec<String>,
    /// Of a hash exchange: which key. Rows that are where it sends them already stay there.
    pub(crate) key: Option<KeyIdentity>,
    /// `None` for a forward edge, which is chained where the graph allows it.
    pub(crate) router: Option<RouterFactory>,
    /// Which input of the node it leads to: 0 but for operators with several.
    pub(crate) input: usize,
}

impl Edge {
    pub(crate) fn forward(from: usize) -> Edge {
        Edge {
            from,
            kind: ExchangeKind::Forward,
            keys: Vec::new(),
            key: None,
            router: None,
            input: 0,
        }
    }

    /// Rows to the subtask of their key.
    pub(crate) fn hash<R: Record, K: KeyFields<R>>(from: usize, keys: K) -> Edge {
        Edge {
            from,
            kind: ExchangeKind::Hash,
            keys: keys.describe(),
            key: Some(keys.identity()),
            router: Some(Box::new(move |_, receivers, max_parallelism| {
                Box::new(HashRouter::<R, K>::new(keys, max_parallelism, receivers as u32))
            })),
            input: 0,
        }
    }

    /// The same edge into another input.
    pub(crate) fn into_input(self, input: usize) -> Edge {
        Edge { input, ..self }
    }
}

/// What a node's rows are to those that it gets: what is known of where and in which order these are then holds for them, too.
#[derive(Clone, Default)]
pub(crate) enum Rows {
    /// Others, anywhere.
    #[default]
    New,
    /// Some of them, or all, as they come.
    Same,
    /// Some of them, or all, in any order.
    Mixed,
    /// Made of those that the same subtask gets.
    Made,
    /// Made of those that a hash exchange has sent to the subtask, and still with the key if there is one.
    Keyed(Option<KeyIdentity>),
    /// Made of those that the same subtask gets; where these were sent by the first key, they have it as the second.
    Rekeyed(KeyIdentity, KeyIdentity),
    /// Those that it gets, as they come; where these were sent by some key, it is this one.
    Claimed(KeyIdentity),
}

/// What a node's managed memory is for: the kinds of `memory.weights`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consumer {
    /// Work on what is there: the memory is free again when the input has ended.
    Operator,
    /// What is kept of each key while records come and are answered.
    State,
    /// State in streaming mode, otherwise an operator's.
    StateOfStreams,
}

/// An operator or source.
pub(crate) struct Node {
    pub(crate) kind: &'static str,
    pub(crate) name: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) parallelism: Option<usize>,
    /// Whether its functions may block, so that it runs on helper threads.
    pub(crate) is_blocking: bool,
    pub(crate) inputs: Vec<Edge>,
    /// The schema of its output and the stride of its rows; `None` for a sink.
    pub(crate) output: Option<(&'static Schema, usize)>,
    /// Managed segments that a subtask cannot do without.
    pub(crate) minimum_segments: usize,
    /// The same by part, where the node has several budgets: each gets as much of the whole.
    pub(crate) minimum_parts: Vec<usize>,
    /// Managed segments that more of would not help a subtask.
    pub(crate) maximum_segments: usize,
    /// What that memory is for.
    pub(crate) consumer: Consumer,
    /// Its weight among the nodes of that kind; 1 unless it was told.
    pub(crate) memory_weight: u32,
    /// Whether it takes the rows of all inputs as they come, and sends nothing before all have ended.
    pub(crate) takes_all: bool,
    /// Whether it needs as many subtasks as the node that it gets rows from.
    pub(crate) is_bound: bool,
    /// Where its rows are, and in which order.
    pub(crate) rows: Rows,
    /// How many bytes of them there are.
    pub(crate) size: Size,
    /// The order of its rows within each subtask.
    pub(crate) order: Vec<OrderPart>,
    /// By input, the order that saves it a sort.
    pub(crate) wants: Vec<Vec<OrderPart>>,
    /// What else it is where all inputs come as it wants them.
    pub(crate) if_sorted: Option<IfSorted>,
    /// What else it is where one side is small.
    pub(crate) if_small: Option<IfSmall>,
    /// Extra words for the plan.
    pub(crate) detail: String,
    pub(crate) factory: Factory,
}

/// What is known of the bytes that a node sends before it runs.
pub(crate) enum Size {
    Unknown,
    /// What a source says. It is asked once, when somebody wants to know.
    Asked(Box<LazyCell<RowsBytes, Box<dyn FnOnce() -> RowsBytes>>>),
    /// A row for each of its inputs, or for some of them.
    OfInputs {
        are_all: bool,
    },
}

impl Size {
    /// What a source says.
    pub(crate) fn asked(ask: impl FnOnce() -> RowsBytes + 'static) -> Size {
        Size::Asked(Box::new(LazyCell::new(Box::new(ask))))
    }
}

/// What a node is where its inputs come in order, in the place of what it says otherwise.
pub(crate) struct IfSorted {
    /// As [`Node::minimum_parts`].
    pub(crate) minimum_parts: Vec<usize>,
    /// As [`Node::order`].
    pub(crate) order: Vec<OrderPart>,
    /// As [`Node::detail`].
    pub(crate) detail: String,
}

/// What a join is where the side of input 0, which it keeps in memory, goes to every subtask, because it is small, and the other stays
/// where it is, in the place of what it says otherwise.
pub(crate) struct IfSmall {
    /// Of the side of input 0, and of the other.
    pub(crate) sizes: [RowsBytes; 2],
    /// As [`Node::detail`].
    pub(crate) detail: String,
}

/// Where the small side of a join goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SmallSide {
    /// To every subtask ([`IfSmall`]).
    Everywhere {
        /// Whether the other side's rows, which would stay where they are, are dealt out to all subtasks, as not all may have some.
        is_other_dealt_out: bool,
    },
    /// To the subtask of its key, though it is small: why.
    ByKey(&'static str),
}

/// By node, where small sides of joins go; those of joins that are not here are not small.
pub(crate) type SmallSides = BTreeMap<usize, SmallSide>;

impl Node {
    /// A node without inputs and managed memory that sends nothing, to be changed.
    pub(crate) fn new(kind: &'static str, factory: Factory) -> Node {
        Node {
            kind,
            name: None,
            uid: None,
            parallelism: None,
            is_blocking: false,
            inputs: Vec::new(),
            output: None,
            minimum_segments: 0,
            minimum_parts: Vec::new(),
            maximum_segments: 0,
            consumer: Consumer::Operator,
            memory_weight: 1,
            takes_all: false,
            is_bound: false,
            rows: Rows::New,
            size: Size::Unknown,
            order: Vec::new(),
            wants: Vec::new(),
            if_sorted: None,
            if_small: None,
            detail: String::new(),
            factory,
        }
    }

    /// Whether it keeps what it has made of its records for as long as the job runs. (What is bounded sends it on.)
    pub(crate) fn is_stateful(&self) -> bool {
        self.minimum_segments > 0 && self.maximum_segments == usize::MAX
    }

    /// What identifies the node, number `id`, across versions of the job: its uid, or one made of its kind and place.
    pub(crate) fn identity(&self, id: usize) -> String {
        self.uid.clone().unwrap_or_else(|| format!("{}-{id}", self.kind))
    }
}

/// Kinds of nodes that send nothing before their inputs end.
const NEED_AN_END: [&str; 7] = [SORT, SORT_WITHIN, TOP, REDUCE_GROUP, CO_GROUP, INTERSECT, MINUS];

/// A job being built.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// Of nodes that sort: where their subtasks' records begin.
    pub(crate) ranks: BTreeMap<usize, FirstRanks>,
}

impl Graph {
    /// What is known of the bytes that come by some edges. Each node that it follows from is looked at once, however many ways lead there.
    pub(crate) fn known_size(&self, edges: &[Edge]) -> RowsBytes {
        let mut to_visit: Vec<usize> = edges.iter().map(|edge| edge.from).collect();
        let mut needed = BTreeSet::new();
        while let Some(id) = to_visit.pop() {
            let node = &self.nodes[id];
            if needed.insert(id) && matches!(node.size, Size::OfInputs { .. }) {
                to_visit.extend(node.inputs.iter().map(|edge| edge.from));
            }
        }
        // Inputs come before their consumers.
        let mut sizes = BTreeMap::new();
        for id in needed {
            let size = self.size_of(&self.nodes[id], &sizes);
            sizes.insert(id, size);
        }
        size_by(edges, &sizes)
    }

    /// What is known of the bytes that a node sends, by those of the nodes that it gets rows from.
    fn size_of(&self, node: &Node, sizes: &BTreeMap<usize, RowsBytes>) -> RowsBytes {
        match &node.size {
            Size::Unknown => RowsBytes::UNKNOWN,
            Size::Asked(asked) => **asked.as_ref(),
            Size::OfInputs { are_all } => {
                let of_inputs = size_by(&node.inputs, sizes);
                let stride = |node: &Node| node.output.map_or(0, |(_, stride)| stride as u64);
                let first = node.inputs.first();
                let before = first.map_or(0, |edge| stride(&self.nodes[edge.from]));
                let bytes = match node.rows {
                    Rows::Same => of_inputs,
                    _ => of_inputs.of_rows(before, stride(node)),
                };
                if *are_all { bytes } else { bytes.of_some() }
            }
        }
    }

    pub(crate) fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Checks that no two nodes are identified by the same uid.
    ///
    /// # Errors
    /// `Config`, naming the uid and both nodes.
    pub(crate) fn check_uids(&self, job: &str) -> Result<()> {
        let names = self.names();
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let uid = node.identity(id);
            if uid.trim().is_empty() {
                return Err(Error::config(format!(
                    "job \"{job}\": the uid of \"{}\" is empty; give it one that says what it is",
                    names[id]
                )));
            }
            if let Some(other) = owners.insert(uid.clone(), id) {
                return Err(Error::config(format!(
                    "job \"{job}\": two operators have the uid \"{uid}\", \"{}\" and \"{}\"; their state is found by it, so \
                     give each its own",
                    names[other], names[id]
                )));
            }
        }
        Ok(())
    }

    /// Checks that only nodes that share managed memory out have a weight in it.
    ///
    /// # Errors
    /// `Config`, naming the node.
    pub(crate) fn check_weights(&self, job: &str) -> Result<()> {
        let weighed = |node: &Node| node.memory_weight != 1 && node.maximum_segments == 0;
        match self.nodes.iter().position(weighed) {
            None => Ok(()),
            Some(id) => Err(Error::config(format!(
                "job \"{job}\": \"{}\" has a memory weight of {} and takes no managed memory; give the weight to an aggregate, \
                 a sort or a join",
                self.names()[id],
                self.nodes[id].memory_weight
            ))),
        }
    }

    /// Checks that no node needs the end of a stream that has none.
    ///
    /// # Errors
    /// `Config`, naming the node and the source.
    pub(crate) fn check_ends(&self, job: &str) -> Result<()> {
        // Inputs come before their consumers.
        let mut endless: Vec<Option<usize>> = Vec::with_capacity(self.nodes.len());
        for (id, node) in self.nodes.iter().enumerate() {
            let source = match node.factory {
                Factory::Source { is_bounded, .. } => (!is_bounded).then_some(id),
                Factory::Operator(_) => node.inputs.iter().find_map(|edge| endless[edge.from]),
            };
            if let Some(source) = source.filter(|_| NEED_AN_END.contains(&node.kind)) {
                let names = self.names();
                return Err(Error::config(format!(
                    "job \"{job}\": \"{}\" sends nothing before its input ends, and source \"{}\" does not; bound the source",
                    names[id], names[source]
                )));
            }
            if let Some(source) = source.filter(|_| node.inputs.iter().any(|edge| edge.input > 0)) {
                let names = self.names();
                return Err(Error::config(format!(
                    "job \"{job}\": \"{}\" joins what comes of source \"{}\", which does not end: neither would its matches, nor \
                     the memory for them; bound the source",
                    names[id], names[source]
                )));
            }
            endless.push(source);
        }
        Ok(())
    }

    /// Whether every source ends.
    pub(crate) fn is_bounded(&self) -> bool {
        self.nodes.iter().all(|node| {
            !matches!(
                node.factory,
                Factory::Source {
                    is_bounded: false,
                    ..
                }
            )
        })
    }

    /// Names of the nodes, unique: a repeated one gets a number.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let mut taken = BTreeSet::new();
        self.nodes
            .iter()
            .map(|node| {
                let base = node.name.clone().unwrap_or_else(|| node.kind.to_string());
                let mut name = base.clone();
                let mut number = 2;
                while !taken.insert(name.clone()) {
                    name = format!("{base} {number}");
                    number += 1;
                }
                Arc::from(name)
            })
            .collect()
    }

    /// For each node whether its gate may hold back its later inputs until the earlier ones have ended: the producers of
    /// what is held back stand still meanwhile, and with them whatever else they feed, which must not be what an earlier
    /// input waits for. Two inputs from one node (a diamond) are the shortest such circle; others go through several
    /// operators with several inputs.
    pub(crate) fn holds_back(&self) -> Vec<bool> {
        let several: Vec<usize> = (0..self.nodes.len())
            .filter(|id| !self.nodes[*id].takes_all)
            .filter(|id| self.nodes[*id].inputs.iter().any(|edge| edge.input > 0))
            .collect();
        // What must come to its end before a later input is read, and what may stand still until then.
        let last = |id: usize| self.nodes[id].inputs.iter().map(|edge| edge.input).max();
        let awaited: Vec<BTreeSet<usize>> = several
            .iter()
            .map(|id| self.upstream(*id, |input| Some(input) < last(*id)))
            .collect();
        let held: Vec<BTreeSet<usize>> = several
            .iter()
            .map(|id| self.upstream(*id, |input| input > 0))
            .collect();
        let mut holds_back = vec![false; self.nodes.len()];
        let mut holders: Vec<usize> = Vec::new();
        for (place, id) in several.iter().enumerate() {
            // Whether it waits, over others that hold back, for itself.
            let mut reached: BTreeSet<usize> = BTreeSet::from([place]);
            let mut to_visit = vec![place];
            let mut is_circle = false;
            while let Some(waiting) = to_visit.pop() {
                is_circle |= !awaited[waiting].is_disjoint(&held[place]);
                for &next in &holders {
                    if !awaited[waiting].is_disjoint(&held[next]) && reached.insert(next) {
                        to_visit.push(next);
                    }
                }
            }
            if !is_circle {
                holds_back[*id] = true;
                holders.push(place);
            }
        }
        holds_back
    }

    /// The nodes upstream of those inputs of a node that `is_meant` is true for.
    fn upstream(&self, id: usize, is_meant: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let inputs = self.nodes[id].inputs.iter();
        let mut to_visit: Vec<usize> = inputs
            .filter(|edge| is_meant(edge.input))
            .map(|edge| edge.from)
            .collect();
        let mut found = BTreeSet::new();
        while let Some(node) = to_visit.pop() {
            if found.insert(node) {
                to_visit.extend(self.nodes[node].inputs.iter().map(|edge| edge.from));
            }
        }
        found
    }
}

/// What comes by some edges, by what the nodes send that they come from.
fn size_by(edges: &[Edge], sizes: &BTreeMap<usize, RowsBytes>) -> RowsBytes {
    let sizes = edges.iter().map(|edge| match edge.kind {
        // As often as there are subtasks.
        ExchangeKind::Broadcast => RowsBytes::at_least(sizes[&edge.from].least()),
        _ => sizes[&edge.from],
    });
    sizes.fold(RowsBytes::exactly(0), |all, size| all + size)
}
