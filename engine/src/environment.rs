//! The environment: where a job is built and executed.
//!
//! # Interface
//! [`Environment::new`] with a [`Runtime`]; [`Environment::source`]; [`Environment::execute`] or
//! [`Environment::execute_async`]; [`Environment::explain`].

use crate::broadcasts::{Managed, small_sides};
use crate::exchange::ChannelLimits;
use crate::graph::{Edge, Graph, Node};
use crate::interrupt;
use crate::job::{JobHandle, JobOptions, launch};
use crate::layout::Layout;
use crate::operator::FirstRanks;
use crate::plan::JobPlan;
use crate::progress::Progress;
use crate::runtime::Runtime;
use crate::simulator::{Simulation, SimulationReport, simulate};
use crate::source::RowsBytes;
use crate::summary::JobSummary;
use forebay_memory::plan::{BufferTimeout, Mode};
use forebay_memory::{Error, Plan, Result};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// How long a job that starts waits for other jobs to give back memory: some spills, or the end of a short job.
const START_PATIENCE: Duration = Duration::from_secs(5);

struct Inner {
    runtime: Runtime,
    graph: RefCell<Graph>,
    mode: Cell<Mode>,
    parallelism: Cell<usize>,
    is_interruptible: Cell<bool>,
    progress: Cell<Progress>,
}

/// A job being built. Clones are the same job.
#[derive(Clone)]
pub struct Environment {
    inner: Rc<Inner>,
}

impl Environment {
    /// An environment whose jobs run on `runtime`.
    pub fn new(runtime: Runtime) -> Environment {
        let plan = runtime.plan();
        let inner = Inner {
            graph: RefCell::default(),
            mode: Cell::new(plan.job.mode),
            parallelism: Cell::new(plan.job.parallelism),
            is_interruptible: Cell::new(false),
            progress: Cell::new(Progress::Off),
            runtime,
        };
        Environment {
            inner: Rc::new(inner),
        }
    }

    /// An environment of this process: its plan is that of `forebay.toml` (or the file of `--config FILE`), the variables
    /// `FOREBAY_…`, and `--set KEY=VALUE` on the command line, in order of precedence from the last. Other arguments are
    /// the program's own.
    ///
    /// # Errors
    /// `Config` for a setting that is wrong, an option without its value, or settings that contradict each other; `Io`
    /// for a file that cannot be read.
    pub fn from_args() -> Result<Environment> {
        let (file, assignments) = settings_of(std::env::args().skip(1))?;
        let plan = Plan::load(file.as_deref().map(Path::new), &assignments)?;
        Ok(Environment::new(Runtime::new(plan)?))
    }

    /// The same environment in another mode.
    pub fn with_mode(self, mode: Mode) -> Self {
        self.inner.mode.set(mode);
        self
    }

    /// The same environment with another default parallelism; 0 is taken as 1.
    pub fn with_parallelism(self, parallelism: usize) -> Self {
        self.inner.parallelism.set(parallelism.max(1));
        self
    }

    /// The same environment with jobs that Ctrl-C cancels, and SIGTERM. Their [`wait`](JobHandle::wait) answers `Cancelled` when
    /// they have given back everything, and [`interrupted`](crate::interrupted) says how the program is to exit; a second signal
    /// meanwhile ends the process at once, with exit code 130 (143 for SIGTERM). While none of them runs, a
    /// signal ends the process, as it does where nobody handles it.
    ///
    /// This installs handlers for the whole process, which stay, also where signals were ignored before; a handler that the
    /// program has already is called first, and does not keep the process from ending. Without this call the engine installs none: a program with
    /// handlers of its own calls [`JobHandle::canceller`] from them.
    ///
    /// # Errors
    /// `Io` where the operating system refuses a handler.
    pub fn cancel_on_interrupt(self) -> Result<Self> {
        interrupt::watch()?;
        self.inner.is_interruptible.set(true);
        Ok(self)
    }

    /// The same environment with jobs that show their progress on standard error while they run.
    pub fn with_progress(self, progress: Progress) -> Self {
        self.inner.progress.set(progress);
        self
    }

    /// What the jobs run on.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    pub(crate) fn add(&self, node: Node) -> usize {
        self.inner.graph.borrow_mut().add(node)
    }

    pub(crate) fn change(&self, node: usize, change: impl FnOnce(&mut Node)) {
        change(&mut self.inner.graph.borrow_mut().nodes[node]);
    }

    /// What is known of the bytes that come by some edges.
    pub(crate) fn known_size(&self, edges: &[Edge]) -> RowsBytes {
        self.inner.graph.borrow().known_size(edges)
    }

    /// The parallelism that a node was given.
    pub(crate) fn parallelism_of(&self, node: usize) -> Option<usize> {
        self.inner.graph.borrow().nodes[node].parallelism
    }

    /// Says where the records of each subtask of a node, a sort, begin in the order of all.
    pub(crate) fn set_ranks(&self, node: usize, ranks: FirstRanks) {
        self.inner.graph.borrow_mut().ranks.insert(node, ranks);
    }

    /// See [`Environment::set_ranks`].
    pub(crate) fn ranks(&self, node: usize) -> Option<FirstRanks> {
        self.inner.graph.borrow().ranks.get(&node).cloned()
    }

    fn options(&self, graph: &Graph, name: &str) -> Result<JobOptions> {
        let plan = self.inner.runtime.plan();
        let is_streaming = match self.inner.mode.get() {
            Mode::Auto => !graph.is_bounded(),
            Mode::Streaming => true,
            Mode::Batch if graph.is_bounded() => false,
            Mode::Batch => {
                return Err(Error::config(format!(
                    "job \"{name}\": job.mode is batch, but a source of it does not end; use auto or streaming"
                )));
            }
        };
        let parallelism = self.inner.parallelism.get();
        let managed = Managed {
            weights: &plan.weights,
            segments: self.inner.runtime.manager().stats().managed_total,
            segment_size: plan.segment_size(),
        };
        let small_sides = small_sides(graph, parallelism, is_streaming, &managed);
        let layout = Layout::of(graph, parallelism, &small_sides);
        let widest = layout.parallelism.iter().copied().max().unwrap_or(1);
        let max_parallelism = plan.job.max_parallelism;
        if widest > max_parallelism as usize {
            return Err(Error::config(format!(
                "job \"{name}\": parallelism {widest} is over job.max_parallelism ({max_parallelism}), the number of key \
                 groups; lower the one or raise the other"
            )));
        }
        graph.check_uids(name)?;
        graph.check_weights(name)?;
        graph.check_ends(name)?;
        layout.check(graph, name)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(JobOptions {
            name: name.to_string(),
            parallelism,
            max_parallelism,
            is_streaming,
            small_sides,
            slots: widest.min(cores.max(plan.job.parallelism)),
            helpers: plan.exec.helper_threads.min(widest),
            limits: ChannelLimits {
                exclusive: plan.network.buffers_per_channel,
                floating: plan.network.floating_buffers_per_gate,
            },
            most_backlog: plan.network.max_buffers_per_channel,
            overdraft: plan.network.max_overdraft_buffers_per_gate,
            buffer_timeout: match plan.network.buffer_timeout {
                BufferTimeout::EveryRecord => Some(Duration::ZERO),
                BufferTimeout::After(timeout) => Some(timeout),
                BufferTimeout::Off => None,
            },
            cancel_timeout: plan.cancel.timeout,
            patience: START_PATIENCE,
            is_interruptible: self.inner.is_interruptible.get(),
            progress: self.inner.progress.get(),
        })
    }

    fn describe(&self, graph: &Graph, options: &JobOptions) -> JobPlan {
        let mode = if options.is_streaming {
            "streaming"
        } else {
            "batch"
        };
        let layout = Layout::of(graph, options.parallelism, &options.small_sides);
        layout.describe(graph, &options.name, mode, options.max_parallelism)
    }

    /// The plan of the job built so far.
    ///
    /// # Errors
    /// Where the job contradicts itself.
    pub fn plan(&self, name: &str) -> Result<JobPlan> {
        let graph = self.inner.graph.borrow();
        Ok(self.describe(&graph, &self.options(&graph, name)?))
    }

    /// The plan of the job built so far, as text.
    ///
    /// # Errors
    /// As [`Environment::plan`].
    pub fn explain(&self, name: &str) -> Result<String> {
        Ok(self.plan(name)?.explain())
    }

    /// Runs the job to its end. The environment is empty after it.
    ///
    /// # Errors
    /// `Config` and `Memory` before anything runs; see [`JobHandle::wait`] for the rest.
    pub fn execute(&self, name: &str) -> Result<JobSummary> {
        self.execute_async(name)?.wait()
    }

    /// Starts the job. The environment is empty after it, and can build another.
    ///
    /// # Errors
    /// `Config` where the job contradicts itself, `Memory` where its minimums cannot be had.
    pub fn execute_async(&self, name: &str) -> Result<JobHandle> {
        let graph = self.inner.graph.take();
        let options = self.options(&graph, name)?;
        if graph.nodes.is_empty() {
            return Err(Error::config(format!(
                "job \"{name}\" has no source; add one with Environment::source"
            )));
        }
        let plan = self.describe(&graph, &options);
        warn_about_uids(&graph, &options);
        tracing::info!(job = name, "{}", plan.explain());
        tracing::info!(job = name, "memory plan\n{}", self.inner.runtime.plan().explain());
        launch(&graph, options, plan, self.inner.runtime.clone())
    }

    /// Runs the job to its end as [`Environment::execute`] does, but on this thread, in an order that the seed decides, and
    /// in simulated time: for tests. See [`simulator`](crate::simulator).
    ///
    /// # Errors
    /// As [`Environment::execute`].
    ///
    /// # Panics
    /// Where every task waits and nothing will come, or where the job does not end: with the state of every task.
    pub fn simulate(&self, name: &str, simulation: &Simulation) -> Result<SimulationReport> {
        let graph = self.inner.graph.take();
        let options = self.options(&graph, name)?;
        let plan = self.describe(&graph, &options);
        simulate(&graph, options, &plan, &self.inner.runtime, simulation)
    }
}

/// Warns, once for the job, about operators whose state would not be found again after a change of the job. Batch jobs keep
/// none beyond their end.
fn warn_about_uids(graph: &Graph, options: &JobOptions) {
    let names = graph.names();
    let nameless: Vec<&str> = (graph.nodes.iter().zip(&names))
        .filter(|(node, _)| options.is_streaming && node.is_stateful() && node.uid.is_none())
        .map(|(_, name)| &**name)
        .collect();
    if !nameless.is_empty() {
        tracing::warn!(
            job = options.name,
            operators = nameless.join(", "),
            "operators with state have no uid: what identifies them changes with the job's shape; give each one with .uid()"
        );
    }
}

/// The file of `--config` and the assignments of `--set` among a program's arguments.
fn settings_of(mut arguments: impl Iterator<Item = String>) -> Result<(Option<String>, Vec<String>)> {
    let (mut file, mut assignments) = (None, Vec::new());
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option @ ("--config" | "--set"), value)) => (option, Some(value.to_string())),
            _ => (argument.as_str(), None),
        };
        if option != "--config" && option != "--set" {
            continue;
        }
        let form = if option == "--config" {
            "a file"
        } else {
            "KEY=VALUE"
        };
        let value = value
            .or_else(|| arguments.next())
            .ok_or_else(|| Error::config(format!("{option} needs {form} after it")))?;
        match option {
            "--config" => file = Some(value),
            _ => assignments.push(value),
        }
    }
    Ok((file, assignments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{first, itself};
    use crate::source::{from_items, generate, text};
    use std::fmt::{Debug, Write};
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};

    /// Keeps the fields of warnings, a line each.
    struct Warnings(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, "{}={value:?} ", field.name()).expect("a string takes everything");
        }
    }

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().expect("keeping lines does not panic").push(line.0);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    fn warnings(mode: Mode, uid: Option<&str>) -> Vec<String> {
        let plan = Plan::with_segments(64, 128, 4096).expect("the test's sizes make a plan");
        let environment = Environment::new(Runtime::new(plan).expect("it is little memory"))
            .with_mode(mode)
            .with_parallelism(1);
        let pairs = environment.source("pairs", generate(10, |index| (index.to_string(), index)));
        let counts = pairs.key_by(first()).count().name("counts");
        let counts = match uid {
            Some(uid) => counts.uid(uid),
            None => counts,
        };
        counts.distinct().uid("distinct counts").blackhole();
        let lines = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Warnings(lines.clone()), || {
            environment.execute("counting").expect("the job runs");
        });
        std::mem::take(&mut *lines.lock().expect("keeping lines does not panic"))
    }

    #[test]
    fn a_streaming_job_is_warned_once_about_state_without_a_uid() {
        let lines = warnings(Mode::Streaming, None);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("operators=\"counts\""), "{lines:?}");
        assert_eq!(warnings(Mode::Streaming, Some("a")), Vec::<String>::new());
        assert_eq!(warnings(Mode::Batch, None), Vec::<String>::new());
    }

    /// A join asks its sources how much they have before anything is read.
    #[test]
    fn what_a_source_passes_over_is_warned_of_once() {
        let directory = std::env::temp_dir().join(format!("forebay-passed-over-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a scratch directory");
        std::os::unix::fs::symlink("nowhere", directory.join("broken.txt")).expect("a scratch link");
        std::fs::write(directory.join("lines.txt"), "one\ntwo\n").expect("a scratch file");
        let plan = Plan::with_segments(256, 400, 4096).expect("the test's sizes make a plan");
        let environment = Environment::new(Runtime::new(plan).expect("it is little memory"));
        let environment = environment.with_parallelism(2);
        let lines = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Warnings(lines.clone()), || {
            let named = text(directory.join("*.txt")).skip_unreadable();
            let few = environment.source("few", from_items(vec!["one".to_string()]));
            let join = environment.source("lines", named).join(few);
            let count = join.on(itself(), itself()).semi().count().collect();
            let explained = environment.explain("joining").expect("the job has a plan");
            assert!(explained.contains("dealt out"), "{explained}");
            environment.execute("joining").expect("the job runs");
            assert_eq!(count.take(), [1]);
        });
        std::fs::remove_dir_all(&directory).expect("it is there");
        let lines = lines.lock().expect("keeping lines does not panic");
        let passed_over = lines.iter().filter(|line| line.contains("broken.txt"));
        assert_eq!(passed_over.count(), 1, "{lines:?}");
    }

    #[test]
    fn settings_are_found_among_other_arguments() {
        let arguments = [
            "in.txt",
            "--set",
            "a=1",
            "-v",
            "--config=f.toml",
            "--set=b.c=2 MiB",
            "out",
        ];
        let (file, assignments) =
            settings_of(arguments.into_iter().map(String::from)).expect("the arguments are well-formed");
        assert_eq!(file.as_deref(), Some("f.toml"));
        assert_eq!(assignments, ["a=1", "b.c=2 MiB"]);
        let error = settings_of(["--set".to_string()].into_iter()).expect_err("the value is missing");
        assert_eq!(error.to_string(), "--set needs KEY=VALUE after it");
    }
}
