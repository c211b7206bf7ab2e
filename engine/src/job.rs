//! Lowering: from a graph to tasks in slots, and the running job.
//!
//! # Interface
//! [`lower`] makes the tasks; [`launch`] runs them on worker threads and gives a [`JobHandle`].
//!
//! # Memory
//! For each task, on the network pool: a batch for every operator and two more, and for every exchange the buffers of
//! its channels. For each operator subtask with managed memory: its minimum, guaranteed, and its share of the pool.
//! A job that cannot have its minimums fails here, before anything runs.

use crate::batch::{Batches, HeapArea};
use crate::clock::{Clock, RealClock};
use crate::exchange::{Broadcast, ChannelLimits, Exchange, Forward, Gate, Output, Rebalance, Router, Wake};
use crate::graph::{Factory, Graph, Node, OperatorContext, SmallSides, SubtaskSourceFactory};
use crate::interrupt;
use crate::layout::Layout;
use crate::metrics::{TaskMetrics, TaskSnapshot};
use crate::operator::{Chain, ChainLink};
use crate::plan::{ExchangeKind, JobPlan};
use crate::pressure_watch::PressureWatch;
use crate::progress::{Progress, ProgressLine};
use crate::runtime::Runtime;
use crate::shares::{Share, shares};
use crate::source::Subtask;
use crate::summary::JobSummary;
use crate::task::{JobControl, Parker, Task, TaskInput, TaskStatus, Worker, caught};
use forebay_memory::{LocalPool, NetworkPool, Result};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What a job needs to know besides its graph.
#[derive(Debug, Clone)]
pub(crate) struct JobOptions {
    pub(crate) name: String,
    pub(crate) parallelism: usize,
    pub(crate) max_parallelism: u32,
    pub(crate) is_streaming: bool,
    /// Where small sides of joins go.
    pub(crate) small_sides: SmallSides,
    pub(crate) slots: usize,
    /// Threads for nodes whose functions may block; they are numbered after the slots.
    pub(crate) helpers: usize,
    pub(crate) limits: ChannelLimits,
    pub(crate) most_backlog: usize,
    /// Network buffers that an operator may take above its pool's size (`network.max_overdraft_buffers_per_gate`).
    pub(crate) overdraft: usize,
    pub(crate) buffer_timeout: Option<Duration>,
    pub(crate) cancel_timeout: Duration,
    /// How long the job waits, before it starts, for other jobs to give back what its minimums were lent to them.
    pub(crate) patience: Duration,
    /// Whether SIGINT and SIGTERM cancel it; their handlers are installed.
    pub(crate) is_interruptible: bool,
    pub(crate) progress: Progress,
}

impl JobOptions {
    /// How many threads the job's tasks run on: slots, and helpers where a node may block.
    pub(crate) fn threads(&self, graph: &Graph) -> usize {
        let blocks = graph.nodes.iter().any(|node| node.is_blocking);
        self.slots + if blocks { self.helpers } else { 0 }
    }
}

/// A task, where it runs, and what is known of it from outside.
pub(crate) struct Placed {
    pub(crate) slot: usize,
    pub(crate) task: Task,
    pub(crate) status: Arc<TaskStatus>,
}

/// Makes the tasks of a job; `wake` gives the waker of a slot.
pub(crate) fn lower(
    graph: &Graph,
    options: &JobOptions,
    runtime: &Runtime,
    clock: &Arc<dyn Clock>,
    wake: &dyn Fn(usize) -> Arc<dyn Wake>,
) -> Result<Vec<Placed>> {
    let names = graph.names();
    let layout = Layout::of(graph, options.parallelism, &options.small_sides);
    let (parallelism, chained) = (&layout.parallelism, &layout.chained);
    let slot = |node: usize, subtask: usize| match graph.nodes[node].is_blocking {
        false => subtask % options.slots,
        true => options.slots + subtask % options.helpers,
    };
    let network = runtime.manager().network();

    // Gates and exchanges of the edges that are not chained.
    let count = graph.nodes.len();
    let holds_back = graph.holds_back();
    let mut gates: Vec<Vec<Gate>> = (0..count)
        .map(|id| match (chained[id], graph.nodes[id].inputs.is_empty()) {
            (None, false) => (0..parallelism[id])
                .map(|subtask| {
                    Gate::new(options.limits, wake(slot(id, subtask))).holding_back(holds_back[id])
                })
                .collect(),
            _ => Vec::new(),
        })
        .collect();
    let mut exchanges: Vec<Vec<Vec<Exchange>>> = (0..count)
        .map(|id| (0..parallelism[id]).map(|_| Vec::new()).collect())
        .collect();
    for (id, node) in graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(id, _)| chained[*id].is_none())
    {
        for (place, edge) in node.inputs.iter().enumerate() {
            let receivers = parallelism[id];
            let (_, stride) = graph.nodes[edge.from]
                .output
                .expect("a node with consumers has rows");
            for (sender, sent) in exchanges[edge.from].iter_mut().enumerate() {
                let own = || {
                    let router = edge
                        .router
                        .as_ref()
                        .expect("only rows that are sent on have no router");
                    router(sender, receivers, options.max_parallelism)
                };
                let (router, targets): (Box<dyn Router>, _) = match layout.exchange(id, place, edge) {
                    ExchangeKind::Forward => (Box::new(Forward(0)), sender..sender + 1),
                    ExchangeKind::Rebalance if edge.router.is_none() || layout.is_everywhere(id) => {
                        (Box::new(Rebalance::new(sender, receivers)), 0..receivers)
                    }
                    ExchangeKind::Broadcast if layout.is_everywhere(id) => {
                        (Box::new(Broadcast), 0..receivers)
                    }
                    _ => (own(), 0..receivers),
                };
                let channels: Vec<_> = targets
                    .map(|target| gates[id][target].connect_to(edge.input, wake(slot(edge.from, sender))))
                    .collect();
                let most = channels.len() * (1 + options.limits.exclusive) + options.limits.floating;
                let owner = format!("exchange from \"{}\" to \"{}\"", names[edge.from], names[id]);
                let pool = local_pool(network, options, &owner, channels.len() + 1, most)?;
                wake_when_buffers_return(&pool, wake(slot(edge.from, sender)));
                sent.push(Exchange::new(
                    router,
                    stride,
                    Arc::new(pool),
                    channels,
                    options.most_backlog,
                    options.buffer_timeout,
                ));
            }
        }
    }

    let heap = usize::try_from(runtime.plan().heap_bytes()).unwrap_or(usize::MAX);
    let area = HeapArea::new(heap);
    let managed = runtime.manager().stats().managed_total;
    let weights = &runtime.plan().weights;
    let shares = shares(graph, &layout, options.is_streaming, weights, managed);

    let mut placed = Vec::new();
    for head in (0..count).filter(|id| chained[*id].is_none()) {
        let mut members = vec![head];
        while let Some(next) = (0..count).find(|id| chained[*id] == members.last().copied()) {
            members.push(next);
        }
        let tail = members[members.len() - 1];
        let title: Arc<str> = members
            .iter()
            .map(|id| &*names[*id])
            .collect::<Vec<_>>()
            .join(" -> ")
            .into();
        let node = &graph.nodes[head];
        let source: Option<SubtaskSourceFactory> = match &node.factory {
            Factory::Source { splits, .. } => Some(caught(
                || format!("source \"{}\", its splits", names[head]),
                || splits(parallelism[head]),
            )?),
            Factory::Operator(_) => None,
        };
        let mut readers = std::mem::take(&mut gates[head])
            .into_iter()
            .map(Gate::into_reader);
        let mut outputs = std::mem::take(&mut exchanges[tail]).into_iter();
        for index in 0..parallelism[head] {
            let subtask = Subtask {
                index,
                parallelism: parallelism[head],
            };
            let required = members.len() + 2;
            let owner = format!("task \"{title}\", subtask {index}");
            let pool = local_pool(network, options, &owner, required, 2 * required)?;
            let batches = Batches::new(Arc::new(pool), runtime.plan().record.max_size)
                .within(area.clone())
                .singly(options.buffer_timeout == Some(Duration::ZERO));
            let input = match &source {
                Some(source) => TaskInput::Source(source(batches.clone())),
                None => TaskInput::Gate(readers.next().expect("an operator's subtask has a gate")),
            };
            let mut links = Vec::new();
            for id in &members {
                let node = &graph.nodes[*id];
                let Factory::Operator(factory) = &node.factory else {
                    continue;
                };
                let owner = format!(
                    "{} \"{}\", subtask {index} of {}",
                    node.kind, names[*id], subtask.parallelism
                );
                let mut budgets = Vec::new();
                for (minimum, share) in budget_parts(node, layout.minimum_parts(graph, *id), shares[*id]) {
                    let budget =
                        runtime
                            .manager()
                            .budget_within(&owner, minimum, share.segments, options.patience)?;
                    budget.set_weight(share.weight);
                    let bell = wake(slot(head, index));
                    budget.set_when_asked(Some(Arc::new(move || bell.wake())));
                    budgets.push(budget);
                }
                let mut budgets = budgets.into_iter();
                let context = OperatorContext {
                    name: names[*id].clone(),
                    subtask,
                    max_parallelism: options.max_parallelism,
                    batches: batches.clone(),
                    budget: budgets.next(),
                    more_budgets: budgets.collect(),
                    are_sorted: layout.are_sorted[*id].clone(),
                    are_placed: layout.are_placed[*id],
                    is_everywhere: layout.is_everywhere(*id),
                    spill: runtime.spill().clone(),
                    is_streaming: options.is_streaming,
                    wake: wake(slot(head, index)),
                };
                let place = || format!("operator \"{}\", subtask {index}", names[*id]);
                links.push(ChainLink::new(
                    names[*id].clone(),
                    caught(place, || factory(&context))?,
                ));
            }
            let operators = links.iter().map(|link| link.name.clone()).collect();
            let heap_growth = links.iter().map(ChainLink::heap_growth).collect();
            let chain = Chain::new(links, Output::new(outputs.next().unwrap_or_default()));
            let metrics = TaskMetrics::new(title.clone(), index);
            let status = Arc::new(TaskStatus {
                name: title.clone(),
                subtask: index,
                source: source.is_some().then(|| names[head].clone()),
                operators,
                heap_growth,
                active: chain.activity(),
                metrics: metrics.clone(),
            });
            let (name, timeout) = (names[head].clone(), options.buffer_timeout);
            let task = Task::new(name, input, chain, clock.clone(), metrics, timeout)
                .may_block(graph.nodes[head].is_blocking);
            placed.push(Placed {
                slot: slot(head, index),
                task,
                status,
            });
        }
    }
    Ok(placed)
}

/// The budgets of a subtask that has `share`, by their minimums: the least of each, and its part of the share. A node that has a share
/// without a minimum has one budget.
fn budget_parts(node: &Node, minimums: Vec<usize>, share: Share) -> impl Iterator<Item = (usize, Share)> {
    let all: usize = minimums.iter().sum();
    let borrowed = (all == 0 && node.maximum_segments > 0).then_some((0, share));
    let parts = (minimums.into_iter()).map(move |minimum| (minimum, share.part(minimum, all)));
    parts.chain(borrowed)
}

/// Network buffers for one side of an exchange.
fn local_pool(
    network: &NetworkPool,
    options: &JobOptions,
    owner: &str,
    required: usize,
    most: usize,
) -> Result<LocalPool> {
    network.local_with(owner, required, most, options.overdraft, options.patience)
}

/// Has the sender that found its exchange's pool dry look again when a buffer is back. The receiver wakes it too, but when
/// it has used a batch, which is earlier where it has passed the buffer on: to an output that waits itself.
fn wake_when_buffers_return(pool: &LocalPool, sender: Arc<dyn Wake>) {
    pool.set_wake(Some(Arc::new(move || sender.wake())));
}

/// Runs a job's tasks, each slot on its own thread.
pub(crate) fn launch(
    graph: &Graph,
    options: JobOptions,
    plan: JobPlan,
    runtime: Runtime,
) -> Result<JobHandle> {
    let clock = RealClock::start();
    let watch = runtime.watch_pressure()?;
    let threads_in_all = options.threads(graph);
    let parkers: Vec<Arc<Parker>> = (0..threads_in_all).map(|_| Parker::new()).collect();
    let placed = lower(graph, &options, &runtime, &clock, &|slot| parkers[slot].clone())?;
    let statuses = placed.iter().map(|placed| placed.status.clone()).collect();
    let control = JobControl::new(parkers.clone(), statuses);
    let mut slots: Vec<Vec<(usize, Task)>> = (0..threads_in_all).map(|_| Vec::new()).collect();
    for (number, placed) in placed.into_iter().enumerate() {
        slots[placed.slot].push((number, placed.task));
    }
    let mut threads = Vec::new();
    for (slot, tasks) in slots.into_iter().enumerate() {
        let worker = Worker {
            tasks,
            control: control.clone(),
            parker: parkers[slot].clone(),
            clock: clock.clone(),
            heap_limit: runtime.plan().heap_bytes(),
        };
        let name = match slot.checked_sub(options.slots) {
            None => format!("forebay-slot-{slot}"),
            Some(helper) => format!("forebay-helper-{helper}"),
        };
        let builder = std::thread::Builder::new().name(name);
        match builder.spawn(move || worker.run()) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                // The workers that did start see the failure and leave; those that did not count as gone.
                control.fail(forebay_memory::Error::io(
                    format!("slot {slot}: cannot start its thread"),
                    error,
                ));
                for _ in slot..threads_in_all {
                    control.worker_left();
                }
                break;
            }
        }
    }
    let interrupts = options.is_interruptible.then(|| {
        let (control, job) = (control.clone(), options.name.clone());
        interrupt::Guard::new(move |signal| {
            control.cancel(&format!("job \"{job}\" was interrupted by {signal}"))
        })
    });
    let progress = ProgressLine::start(&options.name, options.progress, control.clone(), clock.clone());
    Ok(JobHandle {
        progress,
        interrupts,
        control,
        threads,
        clock,
        runtime,
        plan,
        cancel_timeout: options.cancel_timeout,
        _watch: watch,
    })
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    /// Its tasks are being polled.
    Running,
    /// It failed or was cancelled, and its tasks are being dropped.
    Stopping,
    /// Every task is gone.
    Over,
}

/// A running job.
///
/// Dropping the handle cancels the job and waits for it.
pub struct JobHandle {
    progress: Option<ProgressLine>,
    interrupts: Option<interrupt::Guard>,
    control: Arc<JobControl>,
    threads: Vec<JoinHandle<()>>,
    clock: Arc<dyn Clock>,
    runtime: Runtime,
    plan: JobPlan,
    cancel_timeout: Duration,
    /// Ends with the last job that has it.
    _watch: Option<Arc<PressureWatch>>,
}

impl JobHandle {
    /// What the job is doing.
    pub fn status(&self) -> JobStatus {
        match () {
            () if self.control.is_over() => JobStatus::Over,
            () if self.control.is_stopping() => JobStatus::Stopping,
            () => JobStatus::Running,
        }
    }

    /// The counters of every subtask, now.
    pub fn metrics(&self) -> Vec<TaskSnapshot> {
        self.control
            .tasks
            .iter()
            .map(|task| task.metrics.snapshot())
            .collect()
    }

    /// Asks the job to stop; [`JobHandle::wait`] then answers with a `Cancelled` error, unless the job was over before.
    pub fn cancel(&self) {
        self.control
            .cancel(&format!("job \"{}\" was cancelled", self.plan.job));
    }

    /// Something that cancels the job from elsewhere, a signal handler say.
    pub fn canceller(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let control = self.control.clone();
        let reason = format!("job \"{}\" was cancelled", self.plan.job);
        move || control.cancel(&reason)
    }

    /// Waits for the job's end.
    ///
    /// # Errors
    /// What the job failed with: `User` for a user's function, naming operator and record; `Cancelled`; `Io`, `Corrupt` and
    /// `Memory` from the engine. A function that does not return within `cancel.timeout` after the job has
    /// failed or was cancelled is named; its thread and memory are left alone.
    pub fn wait(self) -> Result<JobSummary> {
        let (summary, result) = self.end();
        result.map(|()| summary)
    }

    /// Waits for the job's end as [`JobHandle::wait`] does, and answers what it did also where it has failed.
    pub fn end(mut self) -> (JobSummary, Result<()>) {
        let result = self.finish();
        let summary = JobSummary::of(
            &self.plan,
            self.clock.now(),
            self.metrics(),
            &self.runtime,
            result.as_ref().err(),
        );
        (summary, result)
    }

    fn finish(&mut self) -> Result<()> {
        let result = self.control.wait(self.cancel_timeout);
        if self.control.is_over() {
            for thread in self.threads.drain(..) {
                // A worker catches its tasks' panics and reports them.
                let _ = thread.join();
            }
        }
        // The thread of a function that does not return is left alone: it has been waited for.
        self.threads.clear();
        self.progress = None;
        self.interrupts = None;
        result
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            if !self.control.is_over() {
                self.cancel();
            }
            let _ = self.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BATCH_HEADER, Batch};
    use crate::exchange::{GateRead, SendState};
    use forebay_memory::{MemoryManager, SegmentSource};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sender_is_woken_by_a_buffer_that_comes_back_after_its_credit() {
        let manager = MemoryManager::with_segments(1, 8, 4096).expect("it is small");
        let network = manager.network();
        let own = network.local("task", 3, 3).expect("there are 8");
        let pool = network.local("exchange", 2, 2).expect("there are 8");
        let sender = Arc::new(Bell::default());
        wake_when_buffers_return(&pool, sender.clone());
        let limits = ChannelLimits {
            exclusive: 4,
            floating: 0,
        };
        let mut gate = Gate::new(limits, Arc::new(Bell::default()));
        let channel = gate.connect(Arc::new(Bell::default()));
        let mut gate = gate.into_reader();
        let mut output = Output::new(vec![Exchange::new(
            Box::new(Forward(0)),
            8,
            Arc::new(pool),
            vec![channel],
            4,
            None,
        )]);
        for _ in 0..3 {
            let segment = own.try_take().expect("there are three");
            output.send(Batch::from_segment(segment, 1, BATCH_HEADER + 8));
        }
        let mut passed_on = Vec::new();
        while let GateRead::Batch(batch, credit) = gate.read() {
            passed_on.push(batch);
            gate.used(credit);
        }
        assert_eq!(passed_on.len(), 2);
        assert_eq!(
            output.drain(),
            SendState::Blocked,
            "there are credits, but no buffer"
        );
        assert_eq!(sender.0.load(Ordering::Relaxed), 0);
        passed_on.pop();
        assert_eq!(sender.0.load(Ordering::Relaxed), 1);
        assert_eq!(output.drain(), SendState::Clear);
    }
}
