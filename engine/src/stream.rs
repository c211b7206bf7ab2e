//! The stream API: typed streams, whose calls build the job's graph.
//!
//! # Interface
//! [`Environment::source`](crate::Environment::source) starts a [`Stream`]; its methods transform it;
//! [`Stream::sink`] and its kin end it. Nothing runs before [`Environment::execute`](crate::Environment::execute).
//!
//! # Algorithm
//! A stream is the node it comes from and a [`Stage`], the closures applied since. The compiler fuses the stage's
//! closures to one loop; it becomes a node when something needs its rows: an exchange, a name, a sink.

use crate::environment::Environment;
use crate::exchange::{Broadcast, HashRouter, Rebalance};
use crate::graph::{Edge, Factory, Node, Rows, Size};
use crate::operator::{
    Collector, Filter, FlatMap, Fused, FusedFlatMap, Identity, Inspect, LEAST_MATERIALIZE_SEGMENTS, Map,
    Materialize, Operator, Stage, StillKeyed,
};
use crate::plan::ExchangeKind;
use crate::record::{Field, KeyFields, Record, first};
use crate::sink::{Blackhole, Collect, Collected, ForEach, Print, Sink, SinkOperator};
use crate::source::{Source, SourceTask};
use crossbeam_queue::SegQueue;
use forebay_memory::Result;
use std::marker::PhantomData;
use std::sync::Arc;

impl Environment {
    /// A stream of a source's records.
    pub fn source<S: Source>(&self, name: impl Into<String>, mut source: S) -> Stream<S::Out> {
        source.prepare(self.runtime().plan());
        let is_bounded = source.is_bounded();
        let source = Arc::new(source);
        let (asked, divided) = (source.clone(), source.clone());
        let factory = Factory::Source {
            is_bounded,
            divides_among: Box::new(move |subtasks| divided.divides_among(subtasks)),
            splits: Box::new(move |parallelism| {
                let queue = SegQueue::new();
                for split in source.splits(parallelism)? {
                    queue.push(split);
                }
                let (source, queue) = (source.clone(), Arc::new(queue));
                Ok(Box::new(move |batches| {
                    Box::new(SourceTask::new(source.clone(), queue.clone(), batches))
                }))
            }),
        };
        self.add_stream(Node {
            name: Some(name.into()),
            output: Some((S::Out::schema(), S::Out::STRIDE)),
            size: Size::asked(move || asked.rows_bytes()),
            ..Node::new("source", factory)
        })
    }

    pub(crate) fn add_stream<R: Record>(&self, node: Node) -> Stream<R> {
        let node = self.add(node);
        Stream::from_edges(self.clone(), vec![Edge::forward(node)])
    }
}

/// A stream of records of type `O`, made of rows of type `I` by a stage `S`.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct Stream<I: Record, O: Record = I, S = Identity> {
    environment: Environment,
    inputs: Vec<Edge>,
    stage: S,
    label: Vec<&'static str>,
    types: PhantomData<fn(I) -> O>,
}

impl<R: Record> Stream<R> {
    pub(crate) fn from_node(environment: Environment, node: usize) -> Self {
        Stream::from_edges(environment, vec![Edge::forward(node)])
    }

    pub(crate) fn from_edges(environment: Environment, inputs: Vec<Edge>) -> Self {
        Stream {
            environment,
            inputs,
            stage: Identity,
            label: Vec::new(),
            types: PhantomData,
        }
    }
}

impl<I: Record, O: Record, S: Stage<I, O>> Stream<I, O, S> {
    fn then<P: Record, T: Stage<I, P>>(
        self,
        label: &'static str,
        stage: impl FnOnce(S) -> T,
    ) -> Stream<I, P, T> {
        let mut labels = self.label;
        labels.push(label);
        Stream {
            environment: self.environment,
            inputs: self.inputs,
            stage: stage(self.stage),
            label: labels,
            types: PhantomData,
        }
    }

    /// Each record turned into another.
    pub fn map<P, F>(self, mut function: F) -> Stream<I, P, impl Stage<I, P>>
    where
        P: Record,
        F: for<'a> FnMut(O::View<'a>) -> P + Clone + Send + 'static,
    {
        self.then("map", move |stage| Map::<_, _, O> {
            stage,
            function: move |view: O::View<'_>| Ok(function(view)),
            middle: PhantomData,
        })
    }

    /// Each record turned into another, or into the error that the job fails with; see
    /// [`Error::user`](forebay_memory::Error::user). The message gets the operator's name and the record's position.
    pub fn try_map<P, F>(self, function: F) -> Stream<I, P, impl Stage<I, P>>
    where
        P: Record,
        F: for<'a> FnMut(O::View<'a>) -> Result<P> + Clone + Send + 'static,
    {
        self.then("try_map", move |stage| Map::<_, _, O> {
            stage,
            function,
            middle: PhantomData,
        })
    }

    /// The records for which `predicate` is true.
    pub fn filter<F>(self, predicate: F) -> Stream<I, O, impl Stage<I, O>>
    where
        F: for<'a> FnMut(O::View<'a>) -> bool + Clone + Send + 'static,
    {
        self.then("filter", move |stage| Filter { stage, predicate })
    }

    /// The same records, each shown to `function`.
    pub fn inspect<F>(self, function: F) -> Stream<I, O, impl Stage<I, O>>
    where
        F: for<'a> FnMut(O::View<'a>) + Clone + Send + 'static,
    {
        self.then("inspect", move |stage| Inspect { stage, function })
    }

    /// Each record turned into any number of others, which `function` pushes into the collector.
    pub fn flat_map<P, F>(self, mut function: F) -> Stream<P>
    where
        P: Record,
        F: for<'a, 'b, 'c> FnMut(O::View<'a>, &'b mut Collector<'c, P>) + Clone + Send + 'static,
    {
        self.expand(
            "flat_map",
            move |view: O::View<'_>, out: &mut Collector<'_, P>| {
                function(view, out);
                Ok(())
            },
        )
    }

    /// As [`Stream::flat_map`], by a function that may answer the error that the job fails with, as in [`Stream::try_map`].
    pub fn try_flat_map<P, F>(self, function: F) -> Stream<P>
    where
        P: Record,
        F: for<'a, 'b, 'c> FnMut(O::View<'a>, &'b mut Collector<'c, P>) -> Result<()>
            + Clone
            + Send
            + 'static,
    {
        self.expand("try_flat_map", function)
    }

    fn expand<P: Record, F: FlatMap<O, P>>(mut self, kind: &'static str, function: F) -> Stream<P> {
        self.label.push(kind);
        let Stream {
            environment,
            inputs,
            stage,
            label,
            ..
        } = self;
        let node = operator_node::<P>(kind, label, inputs, move |context| {
            let (stage, function) = (stage.clone(), function.clone());
            Box::new(FusedFlatMap::<I, O, P, S, F>::new(
                stage,
                function,
                context.batches.clone(),
            ))
        });
        environment.add_stream(node)
    }

    /// The edges that carry the stream's rows, its stage being a node of its own.
    pub(crate) fn into_edges(self) -> (Environment, Vec<Edge>) {
        if S::IS_IDENTITY {
            return (self.environment, self.inputs);
        }
        let Stream {
            environment,
            inputs,
            stage,
            label,
            ..
        } = self;
        let kind = label.last().copied().unwrap_or("map");
        let is_same = label.iter().all(|label| ["filter", "inspect"].contains(label));
        let is_counted = (label.iter()).all(|label| ["map", "try_map", "filter", "inspect"].contains(label));
        let are_all = !label.contains(&"filter");
        let mut node = operator_node::<O>(kind, label, inputs, move |context| {
            Box::new(Fused::<I, O, S>::new(stage.clone(), context.batches.clone()))
        });
        if is_same {
            node.rows = Rows::Same;
        }
        if is_counted {
            node.size = Size::OfInputs { are_all };
        }
        let node = environment.add(node);
        (environment, vec![Edge::forward(node)])
    }

    /// The edges, all forward: where an exchange was asked for before, a node stands between the two.
    pub(crate) fn into_forward_edges(self) -> (Environment, Vec<Edge>) {
        let (environment, edges) = self.into_edges();
        if edges.iter().all(|edge| edge.router.is_none()) {
            return (environment, edges);
        }
        let node = environment.add(pass_node::<O>("pass", edges));
        (environment, vec![Edge::forward(node)])
    }

    /// Changes the last node, which the stream's stage becomes.
    pub(crate) fn with_node(self, change: impl FnOnce(&mut Node)) -> Stream<O> {
        let (environment, edges) = self.into_forward_edges();
        let node = match &edges[..] {
            [edge] => edge.from,
            _ => environment.add(pass_node::<O>("union", edges)),
        };
        environment.change(node, change);
        Stream::from_node(environment, node)
    }

    /// Names the last operator: in plans, summaries and messages. It is no longer fused with what follows.
    pub fn name(self, name: impl Into<String>) -> Stream<O> {
        let name = name.into();
        self.with_node(|node| node.name = Some(name))
    }

    /// Identifies the last operator across versions of the job: its state is found by it.
    pub fn uid(self, uid: impl Into<String>) -> Stream<O> {
        let uid = uid.into();
        self.with_node(|node| node.uid = Some(uid))
    }

    /// Sets the number of the last operator's subtasks; 0 is taken as 1.
    pub fn parallelism(self, parallelism: usize) -> Stream<O> {
        self.with_node(|node| node.parallelism = Some(parallelism.max(1)))
    }

    /// Runs the last operator, or source, on helper threads (`exec.helper_threads`): its functions may block, on a file or a
    /// remote service, without holding up the tasks of a slot.
    pub fn blocking(self) -> Stream<O> {
        self.with_node(|node| node.is_blocking = true)
    }

    /// Weighs the last operator, an aggregate, sort or join: among those of its kind it has so many times the share of managed memory
    /// of one that is not weighed; 0 is taken as 1. `memory.weights` says what a kind has.
    pub fn memory_weight(self, weight: u32) -> Stream<O> {
        self.with_node(|node| node.memory_weight = weight.max(1))
    }

    /// Records of both streams.
    pub fn union<J: Record, T: Stage<J, O>>(self, other: Stream<J, O, T>) -> Stream<O> {
        let (environment, mut edges) = self.into_forward_edges();
        edges.extend(other.into_forward_edges().1);
        Stream::from_edges(environment, edges)
    }

    /// Two streams of the same records.
    pub fn fork(self) -> (Stream<O>, Stream<O>) {
        let (environment, edges) = self.into_forward_edges();
        let again = edges.iter().map(|edge| Edge::forward(edge.from)).collect();
        (
            Stream::from_edges(environment.clone(), edges),
            Stream::from_edges(environment, again),
        )
    }

    /// Spreads the records evenly over the subtasks of what follows.
    pub fn rebalance(self) -> Stream<O> {
        self.exchange(ExchangeKind::Rebalance, |sender, receivers, _| {
            Box::new(Rebalance::new(sender, receivers))
        })
    }

    /// Gives every record to every subtask of what follows.
    pub fn broadcast(self) -> Stream<O> {
        self.exchange(ExchangeKind::Broadcast, |_, _, _| Box::new(Broadcast))
    }

    /// Keeps the records in managed memory, and what exceeds it in the spill store, until all are there, and sends them on then:
    /// what makes them is done before what uses them starts. Of a source that does not end, never.
    pub fn materialize(self) -> Stream<O> {
        let (environment, inputs) = self.into_forward_edges();
        let factory = Factory::Operator(Box::new(|context| {
            let budget = context.budget.clone();
            Ok(Box::new(Materialize::<O>::new(
                budget.expect("an operator that asked for managed memory has a budget"),
                context.spill.handle(&context.name)?,
                context.wake.clone(),
            )))
        }));
        environment.add_stream(Node {
            inputs,
            output: Some((O::schema(), O::STRIDE)),
            minimum_segments: LEAST_MATERIALIZE_SEGMENTS,
            maximum_segments: usize::MAX,
            rows: Rows::Same,
            ..Node::new("materialize", factory)
        })
    }

    fn exchange(
        self,
        kind: ExchangeKind,
        router: impl Fn(usize, usize, u32) -> Box<dyn crate::exchange::Router> + Clone + 'static,
    ) -> Stream<O> {
        let (environment, edges) = self.into_forward_edges();
        let edges = edges.into_iter().map(|edge| Edge {
            kind,
            router: Some(Box::new(router.clone())),
            ..Edge::forward(edge.from)
        });
        Stream::from_edges(environment, edges.collect())
    }

    /// Groups the records by a key: a field, or a tuple of fields.
    pub fn key_by<K: KeyFields<O>>(self, keys: K) -> KeyedStream<O, K> {
        let (environment, edges) = self.into_forward_edges();
        let edges = edges.into_iter().map(|edge| Edge::hash::<O, K>(edge.from, keys));
        KeyedStream {
            environment,
            inputs: edges.collect(),
            keys,
            record: PhantomData,
        }
    }

    /// Groups the records by a key that `function` computes; the records get it as their first part.
    pub fn key_by_fn<Q, F>(self, mut function: F) -> KeyedStream<(Q, O), Field<(Q, O), Q>>
    where
        Q: Record,
        F: for<'a> FnMut(O::View<'a>) -> Q + Clone + Send + 'static,
    {
        self.map(move |view: O::View<'_>| {
            let key = function(O::shorten(view));
            (key, O::from_view(view))
        })
        .key_by(first())
    }

    /// As [`Stream::key_by`], for records that are made of records of the same key, and have that key still: those of a join or of a
    /// function over a key's records. They stay in the subtask that they are in, without another exchange, where what follows has
    /// as many; a record that does not belong there fails the job. (Where the engine knows by itself that records are where their key
    /// sends them, behind aggregates, filters and semi joins, `key_by` leaves them there.)
    ///
    /// ```
    /// # use forebay::{Environment, Result, record::{first, third}, source::from_items};
    /// # fn main() -> Result<()> {
    /// # let env = Environment::from_args()?;
    /// # let orders = env.source("orders", from_items(vec![(1_u64, 7_u64), (2, 8)]));
    /// # let lines = env.source("lines", from_items(vec![(1_u64, 5_i64), (2, 6), (1, 4)]));
    /// let revenue = lines
    ///     .join(orders)
    ///     .on(first(), first())
    ///     .inner(|line, order| (order.0, order.1, line.1))
    ///     .still_keyed_by(first())
    ///     .sum(third())
    ///     .collect();
    /// # env.execute("revenue")?;
    /// # let mut revenue = revenue.take();
    /// # revenue.sort();
    /// # assert_eq!(revenue, [(1, 9), (2, 6)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn still_keyed_by<K: KeyFields<O>>(self, keys: K) -> KeyedStream<O, K> {
        let (environment, inputs) = self.into_forward_edges();
        let node = operator_node::<O>("still keyed", Vec::new(), inputs, move |context| {
            let subtask = context.subtask;
            let router = HashRouter::<O, K>::new(keys, context.max_parallelism, subtask.parallelism as u32);
            // Where rows are not placed an exchange follows.
            let router = context.are_placed.then_some(router);
            Box::new(StillKeyed::<O, K>::new(router, subtask.index, keys))
        });
        environment
            .add_stream::<O>(Node {
                rows: Rows::Claimed(keys.identity()),
                detail: format!("by {}", keys.describe().join(", ")),
                ..node
            })
            .key_by(keys)
    }

    /// As [`Stream::key_by`], in the words of batch jobs.
    pub fn group_by<K: KeyFields<O>>(self, keys: K) -> KeyedStream<O, K> {
        self.key_by(keys)
    }

    /// Ends the stream in a sink.
    pub fn sink<T: Sink<In = O>>(self, name: impl Into<String>, mut sink: T) -> StreamEnd {
        let (environment, inputs) = self.into_edges();
        sink.prepare(environment.runtime().plan());
        // Only the records of one node are in order.
        if let [edge] = &inputs[..]
            && let Some(ranks) = environment.ranks(edge.from)
        {
            sink.take_ranks(&ranks);
        }
        let (is_blocking, is_bound) = (sink.is_blocking(), sink.needs_ranks());
        let factory = Factory::Operator(Box::new(move |context| {
            Ok(Box::new(SinkOperator::new(sink.writer(context.subtask)?)))
        }));
        let node = environment.add(Node {
            name: Some(name.into()),
            is_blocking,
            is_bound,
            inputs,
            ..Node::new("sink", factory)
        });
        StreamEnd { environment, node }
    }

    /// Ends the stream in a vector, which is complete when the job is over. For small results: it is on the user's heap.
    pub fn collect(self) -> Collected<O> {
        let (sink, collected) = Collect::new();
        self.sink("collect", sink);
        collected
    }

    /// Ends the stream by printing what `format` makes of each record, a line each.
    pub fn print<F>(self, format: F) -> StreamEnd
    where
        F: for<'a> Fn(O::View<'a>) -> String + Clone + Send + 'static,
    {
        self.sink("print", Print::new(format))
    }

    /// Ends the stream by dropping it.
    pub fn blackhole(self) -> StreamEnd {
        self.sink("blackhole", Blackhole::new())
    }

    /// Ends the stream in a function, a clone of it in each subtask.
    pub fn for_each<F>(self, function: F) -> StreamEnd
    where
        F: for<'a> FnMut(O::View<'a>) -> Result<()> + Clone + Send + 'static,
    {
        self.sink("for_each", ForEach::new(function))
    }
}

/// The sink that a stream ends in, a node of the job like any other. It is there whether or not anything is set.
pub struct StreamEnd {
    environment: Environment,
    node: usize,
}

impl StreamEnd {
    /// Names the sink: in plans, summaries and messages.
    pub fn name(self, name: impl Into<String>) -> StreamEnd {
        let name = name.into();
        self.with_node(|node| node.name = Some(name))
    }

    /// Identifies the sink across versions of the job: its state is found by it.
    pub fn uid(self, uid: impl Into<String>) -> StreamEnd {
        let uid = uid.into();
        self.with_node(|node| node.uid = Some(uid))
    }

    /// Sets the number of the sink's subtasks. Where the stream has another number, its records are spread evenly over them.
    pub fn parallelism(self, parallelism: usize) -> StreamEnd {
        self.with_node(|node| node.parallelism = Some(parallelism.max(1)))
    }

    /// Runs the sink on helper threads (`exec.helper_threads`), where it may block.
    pub fn blocking(self) -> StreamEnd {
        self.with_node(|node| node.is_blocking = true)
    }

    fn with_node(self, change: impl FnOnce(&mut Node)) -> StreamEnd {
        self.environment.change(self.node, change);
        self
    }
}

/// An operator without managed memory that sends rows of `O`, made of those that it gets.
pub(crate) fn operator_node<O: Record>(
    kind: &'static str,
    label: Vec<&'static str>,
    inputs: Vec<Edge>,
    make: impl Fn(&crate::graph::OperatorContext) -> Box<dyn Operator> + 'static,
) -> Node {
    Node {
        name: (!label.is_empty()).then(|| label.join("+")),
        inputs,
        output: Some((O::schema(), O::STRIDE)),
        rows: Rows::Made,
        ..Node::new(
            kind,
            Factory::Operator(Box::new(move |context| Ok(make(context)))),
        )
    }
}

/// An operator that sends the rows of all its inputs as they are.
fn pass_node<O: Record>(kind: &'static str, inputs: Vec<Edge>) -> Node {
    Node {
        rows: Rows::Same,
        size: Size::OfInputs { are_all: true },
        ..operator_node::<O>(kind, Vec::new(), inputs, |context| {
            Box::new(Fused::<O, O, Identity>::new(Identity, context.batches.clone()))
        })
    }
}

/// A stream whose records of one key meet in one subtask.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct KeyedStream<R, K> {
    pub(crate) environment: Environment,
    pub(crate) inputs: Vec<Edge>,
    pub(crate) keys: K,
    record: PhantomData<fn() -> R>,
}

impl<R: Record, K: KeyFields<R>> KeyedStream<R, K> {
    /// The same records, grouped by other keys instead.
    pub(crate) fn regroup<J: KeyFields<R>>(self, keys: J) -> KeyedStream<R, J> {
        let inputs = self.inputs.into_iter().map(|edge| Edge::forward(edge.from));
        Stream::from_edges(self.environment, inputs.collect()).key_by(keys)
    }

    /// The records as a plain stream, still where their keys put them.
    pub fn ungroup(self) -> Stream<R> {
        Stream::from_edges(self.environment, self.inputs)
    }
}

#[cfg(test)]
mod shape {
    //! A stream's closures must infer their argument types from the record alone.
    use super::*;

    #[allow(dead_code, reason = "compiled, not run")]
    fn infers(stream: Stream<(u64, String)>) {
        let _ = stream
            .filter(|pair| pair.0 > 3)
            .map(|pair| pair.1.len() as u64)
            .flat_map(|length, out: &mut Collector<'_, u64>| out.push(length));
    }
}
