//! The proved plan: every size of the process, known before the first segment is taken, adding up exactly.
//!
//! # Interface
//! [`Plan::prove`] makes one from a [`Config`] and a [`Container`], or says what contradicts what. Nothing else
//! makes one, and nothing changes one, so whoever holds a plan need not check it. Sizes are methods; what the
//! other sections of the configuration say is in fields by section: `plan.network.buffer_timeout`.
//! [`Plan::explain`] prints it.
//!
//! # Invariants
//! I1. overhead + framework + user + network + managed = process, to the byte; asserted by `Sizes::derive`.
//! I2. Network and managed memory are whole segments, at least one each besides the spill workspace.
//! I3. The process is not larger than what the container or machine has.
//!
//! # Not here
//! What one value may be: `config`. How segments are shared out among operators: `manager`.

mod explain;
mod sizes;

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::config::{Config, names::*};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::size::{ByteSize, MIB};
use sizes::Sizes;

pub use explain::{Component, Explanation};

/// Every size of a process and every setting of its jobs, proved to fit together.
///
/// # Examples
/// ```
/// use forebay_memory::{Config, Container, Plan};
///
/// let mut config = Config::default();
/// config.set("memory.managed_size=64MiB")?;
/// config.set("memory.user_size=16MiB")?;
/// let plan = Plan::prove(&config, &Container::detect()?)?;
/// assert_eq!(plan.managed_bytes(), 64 << 20);
/// assert_eq!(plan.network.buffers_per_channel, 2);
/// println!("{}", plan.explain());
/// # Ok::<(), forebay_memory::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    sizes: Sizes,
    sections: Sections,
}

/// What a plan says besides sizes, by section of the configuration; read as fields of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sections {
    /// `memory.prefault`
    pub prefault: Prefault,
    /// `memory.weights`
    pub weights: WeightsPlan,
    /// `network`
    pub network: NetworkPlan,
    /// `spill`
    pub spill: SpillPlan,
    /// `record`
    pub record: RecordPlan,
    /// `job`
    pub job: JobDefaults,
    /// `exec`
    pub exec: ExecPlan,
    /// `cancel`
    pub cancel: CancelPlan,
    /// `pressure`
    pub pressure: PressurePlan,
}

/// `memory.prefault`: when managed and network memory is touched for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefault {
    /// A little ahead of demand.
    #[default]
    Demand,
    /// All of it, from the start on, while jobs run.
    Background,
    /// All of it before the first job.
    Start,
}

/// How managed memory is shared out among the kinds of consumers that a job has. Not both are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WeightsPlan {
    /// The weight of operators that answer when their input has ended: sorts, joins, aggregates of batch jobs.
    pub operator: u64,
    /// The weight of keyed state, which answers while records come.
    pub state: u64,
}

/// Buffers and flow control of exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NetworkPlan {
    /// Buffers that belong to one channel alone, at least 1.
    pub buffers_per_channel: usize,
    /// Buffers that the channels of a gate share.
    pub floating_buffers_per_gate: usize,
    /// The most buffers that a producer queues for one channel, at least 1.
    pub max_buffers_per_channel: usize,
    /// Further buffers of a gate for what cannot be interrupted.
    pub max_overdraft_buffers_per_gate: usize,
    /// When a buffer that is not full is sent.
    pub buffer_timeout: BufferTimeout,
}

/// When a buffer that is not full is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BufferTimeout {
    /// After every record.
    EveryRecord,
    /// When its first row has waited this long.
    After(Duration),
    /// Only when an event or the end of the input asks for it.
    Off,
}

/// Spill files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpillPlan {
    /// Where they go, round robin; not empty.
    pub directories: Vec<PathBuf>,
    /// The most bytes that they take together; `None` is no bound but the disks'.
    pub max_bytes: Option<u64>,
    /// How blocks are compressed.
    pub codec: SpillCodec,
    /// How bytes travel to and from them.
    pub io: SpillIo,
    /// The size of one write or read in bytes, a power of two, where the workspace is large enough for it.
    pub block_size: usize,
    /// The part of managed memory that all spill I/O goes through, in bytes: at least two segments.
    pub workspace_bytes: usize,
}

/// `spill.codec`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpillCodec {
    /// LZ4 where it saves space, and time at the speed that the disk lately had.
    #[default]
    Adaptive,
    /// Never compressed.
    None,
    /// LZ4 wherever the result is smaller.
    Lz4,
}

/// `spill.io`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpillIo {
    /// io_uring, or helper threads where the kernel refuses it.
    #[default]
    Auto,
    /// io_uring; an error where the kernel refuses it.
    IoUring,
    /// `pread` and `pwrite` on a bounded pool of helper threads.
    Threads,
}

/// Bounds of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RecordPlan {
    /// The largest record in bytes.
    pub max_size: usize,
}

/// Defaults of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct JobDefaults {
    /// Subtasks of an operator, and worker threads; at least 1, at most `max_parallelism`.
    pub parallelism: usize,
    /// Key groups, a power of two.
    pub max_parallelism: u32,
    /// Batch or streaming.
    pub mode: Mode,
}

/// `job.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Batch where every source is bounded.
    Auto,
    /// Batch; a source without an end is refused.
    Batch,
    /// Streaming, whatever the sources are.
    Streaming,
}

/// Threads besides the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExecPlan {
    /// Threads for work that blocks, at least 1.
    pub helper_threads: usize,
}

/// Stopping a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CancelPlan {
    /// How long user functions may take to return.
    pub timeout: Duration,
}

/// Memory pressure from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PressurePlan {
    /// Whether anybody looks.
    pub enabled: bool,
    /// How often.
    pub interval: Duration,
}

impl Plan {
    /// Derives every size and proves that they fit together and into the container.
    ///
    /// # Errors
    /// Two settings that contradict each other, a section that is smaller than it can work in, a process that
    /// is larger than the container: the message has both values with their keys and origins, and the remedy.
    pub fn prove(config: &Config, container: &Container) -> Result<Plan> {
        let job = job(config, container)?;
        let weights = weights(config)?;
        let sizes = Sizes::derive(config, container)?;
        let record = record(config, &sizes)?;
        quota(config, &record, &job)?;
        let sections = Sections {
            prefault: match config.choice(PREFAULT) {
                "background" => Prefault::Background,
                "start" => Prefault::Start,
                _ => Prefault::Demand,
            },
            weights,
            network: network(config),
            spill: spill(config, container, &sizes),
            record,
            job,
            exec: ExecPlan {
                helper_threads: match config.count(HELPER_THREADS) {
                    Some(count) => count as usize,
                    None => job.parallelism.clamp(2, 16),
                },
            },
            cancel: CancelPlan {
                timeout: duration(config, CANCEL_TIMEOUT),
            },
            pressure: PressurePlan {
                enabled: config.flag(PRESSURE_ENABLED),
                interval: duration(config, PRESSURE_INTERVAL),
            },
        };
        Ok(Plan { sizes, sections })
    }

    /// The plan of this process: [`Config::load`], then [`Container::detect`], then [`Plan::prove`].
    ///
    /// # Errors
    /// As those three.
    pub fn load<S: AsRef<str>>(file: Option<&std::path::Path>, assignments: &[S]) -> Result<Plan> {
        Plan::prove(&Config::load(file, assignments)?, &Container::detect()?)
    }

    /// A plan for tests: that many segments to share out, one core, 1 GiB of user heap, a workspace of sixteen
    /// segments besides, records of up to one in 32 of the segments, but up to one. Nobody looks at memory pressure from
    /// outside: what a test gets does not depend on the machine, or on what else its process does.
    ///
    /// # Errors
    /// A segment size that is none, or no segments at all.
    pub fn with_segments(managed: usize, network: usize, segment_size: usize) -> Result<Plan> {
        let record_size = (managed / 32).max(1) * segment_size;
        Plan::with_segments_for(managed, network, segment_size, record_size.min(MIB as usize))
    }

    /// As [`Plan::with_segments`], for records of up to `record_size` bytes.
    ///
    /// # Errors
    /// As there, or a record that managed memory has no room for.
    pub fn with_segments_for(
        managed: usize,
        network: usize,
        segment_size: usize,
        record_size: usize,
    ) -> Result<Plan> {
        let workspace = 16 * segment_size;
        let mut config = Config::default();
        for (key, value) in [
            (SEGMENT_SIZE, segment_size),
            (MANAGED_SIZE, managed * segment_size + workspace),
            (SPILL_WORKSPACE_SIZE, workspace),
            (NETWORK_MIN, network * segment_size),
            (NETWORK_MAX, network * segment_size),
            (USER_SIZE, 1024 * MIB as usize),
            (RECORD_MAX_SIZE, record_size),
        ] {
            config.set_from("Plan::with_segments", &format!("{}={value}", key.name()))?;
        }
        config.set_from(
            "Plan::with_segments",
            &format!("{}=false", PRESSURE_ENABLED.name()),
        )?;
        let container = Container {
            limit: None,
            ram: Some(ByteSize::gib(1024)),
            cores: 1,
            temporary_directory: std::env::temp_dir(),
        };
        Plan::prove(&config, &container)
    }

    /// All memory of the process.
    pub fn process_bytes(&self) -> u64 {
        self.sizes.process
    }

    /// What nobody counts: code, stacks, allocator slack.
    pub fn overhead_bytes(&self) -> u64 {
        self.sizes.overhead
    }

    /// The process without its overhead: what fractions of network and managed memory are fractions of.
    pub fn engine_bytes(&self) -> u64 {
        self.sizes.process - self.sizes.overhead
    }

    /// Heap of the engine itself.
    pub fn framework_bytes(&self) -> u64 {
        self.sizes.framework
    }

    /// Heap of user functions.
    pub fn user_bytes(&self) -> u64 {
        self.sizes.user
    }

    /// What the counting allocator holds the heap to: framework and user together.
    pub fn heap_bytes(&self) -> u64 {
        self.sizes.framework + self.sizes.user
    }

    /// The size of a segment: a power of two, 4 KiB to 1 MiB.
    pub fn segment_size(&self) -> usize {
        self.sizes.segment as usize
    }

    /// All network memory: [`network_segments`](Plan::network_segments) segments.
    pub fn network_bytes(&self) -> u64 {
        self.sizes.network
    }

    /// The segments of the network pool.
    pub fn network_segments(&self) -> usize {
        (self.sizes.network / self.sizes.segment) as usize
    }

    /// All managed memory, the spill workspace included.
    pub fn managed_bytes(&self) -> u64 {
        self.sizes.managed
    }

    /// The segments that budgets share out: managed memory **without** the spill workspace.
    pub fn managed_segments(&self) -> usize {
        ((self.sizes.managed - self.sizes.workspace) / self.sizes.segment) as usize
    }

    /// The segments that one record of the largest size fills.
    pub fn record_segments(&self) -> usize {
        self.record.max_size.div_ceil(self.segment_size())
    }

    /// The most that one group takes in a spill file: a key and a row of the largest size, and an eighth for headers and ends of
    /// pages. An extent has room for one.
    pub fn spill_group_bytes(&self) -> usize {
        group_bytes(self.record.max_size)
    }

    /// The plan as a table for people, or as JSON.
    pub fn explain(&self) -> Explanation {
        Explanation::of(self)
    }
}

/// A plan's sections are its fields; there is no way to write to them.
impl Deref for Plan {
    type Target = Sections;

    fn deref(&self) -> &Sections {
        &self.sections
    }
}

fn job(config: &Config, container: &Container) -> Result<JobDefaults> {
    const MOST: u64 = 32_768;
    let parallelism = config
        .count(PARALLELISM)
        .unwrap_or(container.cores as u64)
        .clamp(1, MOST);
    let max_parallelism = config.count(MAX_PARALLELISM).unwrap_or_else(|| {
        (parallelism + parallelism.div_ceil(2))
            .next_power_of_two()
            .clamp(128, MOST)
    });
    if max_parallelism < parallelism {
        let wanted = match config.count(PARALLELISM) {
            Some(_) => config.shown(PARALLELISM),
            None => format!("job.parallelism auto ({parallelism} cores)"),
        };
        return Err(Error::config(format!(
            "{} is below {wanted}: a subtask needs a key group; raise the first or lower the second",
            config.shown(MAX_PARALLELISM)
        )));
    }
    let mode = match config.choice(MODE) {
        "batch" => Mode::Batch,
        "streaming" => Mode::Streaming,
        _ => Mode::Auto,
    };
    Ok(JobDefaults {
        parallelism: parallelism as usize,
        max_parallelism: max_parallelism as u32,
        mode,
    })
}

fn weights(config: &Config) -> Result<WeightsPlan> {
    let (operator, state) = (count(config, OPERATOR_WEIGHT), count(config, STATE_WEIGHT));
    if operator == 0 && state == 0 {
        return Err(Error::config(format!(
            "{} and {} leave managed memory to nobody; raise one",
            config.shown(OPERATOR_WEIGHT),
            config.shown(STATE_WEIGHT)
        )));
    }
    Ok(WeightsPlan { operator, state })
}

fn network(config: &Config) -> NetworkPlan {
    NetworkPlan {
        buffers_per_channel: count(config, BUFFERS_PER_CHANNEL) as usize,
        floating_buffers_per_gate: count(config, FLOATING_BUFFERS_PER_GATE) as usize,
        max_buffers_per_channel: count(config, MAX_BUFFERS_PER_CHANNEL) as usize,
        max_overdraft_buffers_per_gate: count(config, MAX_OVERDRAFT_BUFFERS_PER_GATE) as usize,
        buffer_timeout: match config.duration(BUFFER_TIMEOUT) {
            None => BufferTimeout::Off,
            Some(Duration::ZERO) => BufferTimeout::EveryRecord,
            Some(timeout) => BufferTimeout::After(timeout),
        },
    }
}

fn spill(config: &Config, container: &Container, sizes: &Sizes) -> SpillPlan {
    SpillPlan {
        directories: match config.directories(SPILL_DIRECTORIES) {
            Some(directories) => directories.to_vec(),
            None => vec![container.temporary_directory.clone()],
        },
        max_bytes: config.size(SPILL_MAX_BYTES).map(ByteSize::bytes),
        codec: match config.choice(SPILL_CODEC) {
            "none" => SpillCodec::None,
            "lz4" => SpillCodec::Lz4,
            _ => SpillCodec::Adaptive,
        },
        io: match config.choice(SPILL_IO) {
            "io_uring" => SpillIo::IoUring,
            "threads" => SpillIo::Threads,
            _ => SpillIo::Auto,
        },
        block_size: size(config, SPILL_BLOCK_SIZE) as usize,
        workspace_bytes: sizes.workspace as usize,
    }
}

fn record(config: &Config, sizes: &Sizes) -> Result<RecordPlan> {
    let max_size = size(config, RECORD_MAX_SIZE);
    let room = sizes.managed - sizes.workspace;
    if max_size > room {
        return Err(Error::config(format!(
            "{} is more than managed memory has besides the spill workspace ({}); lower it, or raise \
             memory.managed_size",
            config.shown(RECORD_MAX_SIZE),
            ByteSize(room)
        )));
    }
    Ok(RecordPlan {
        max_size: max_size as usize,
    })
}

fn group_bytes(record_size: usize) -> usize {
    (record_size * 9 / 4).next_multiple_of(256 << 10)
}

/// A quota has an extent for each subtask of an operator, or is 0: nothing may be spilled then.
fn quota(config: &Config, record: &RecordPlan, job: &JobDefaults) -> Result<()> {
    let group = group_bytes(record.max_size) as u64;
    let least = group * job.parallelism as u64;
    match config.size(SPILL_MAX_BYTES) {
        Some(ByteSize(quota)) if quota > 0 && quota < least => Err(Error::config(format!(
            "{} is less than {}, an extent for each of {} subtasks, with room for a group of two records of {}; raise it, lower \
             the other, or set it to 0 where nothing may be spilled",
            config.shown(SPILL_MAX_BYTES),
            ByteSize(least),
            job.parallelism,
            config.shown(RECORD_MAX_SIZE)
        ))),
        _ => Ok(()),
    }
}

/// The size of a key that takes no word.
fn size(config: &Config, key: crate::config::Key) -> u64 {
    config
        .size(key)
        .expect("the table gives this key no word")
        .bytes()
}

/// The count of a key that takes no word.
fn count(config: &Config, key: crate::config::Key) -> u64 {
    config.count(key).expect("the table gives this key no word")
}

/// The duration of a key that takes no word.
fn duration(config: &Config, key: crate::config::Key) -> Duration {
    config.duration(key).expect("the table gives this key no word")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> Container {
        Container {
            limit: None,
            ram: Some(ByteSize::gib(16)),
            cores: 3,
            temporary_directory: "/var/tmp".into(),
        }
    }

    fn prove(assignments: &[&str]) -> Result<Plan> {
        let mut config = Config::default();
        for assignment in assignments {
            config.set(assignment)?;
        }
        Plan::prove(&config, &container())
    }

    fn message(assignments: &[&str]) -> String {
        prove(assignments)
            .expect_err("this should be refused")
            .to_string()
    }

    #[test]
    fn sections_have_their_defaults() {
        let plan = prove(&[]).unwrap();
        assert_eq!(
            plan.network,
            NetworkPlan {
                buffers_per_channel: 2,
                floating_buffers_per_gate: 8,
                max_buffers_per_channel: 10,
                max_overdraft_buffers_per_gate: 5,
                buffer_timeout: BufferTimeout::After(Duration::from_millis(100)),
            }
        );
        assert_eq!(
            plan.spill,
            SpillPlan {
                directories: vec!["/var/tmp".into()],
                max_bytes: None,
                codec: SpillCodec::Adaptive,
                io: SpillIo::Auto,
                block_size: 512 << 10,
                workspace_bytes: 8 << 20,
            }
        );
        assert_eq!(
            plan.job,
            JobDefaults {
                parallelism: 3,
                max_parallelism: 128,
                mode: Mode::Auto
            }
        );
        assert_eq!(plan.exec.helper_threads, 3);
        assert_eq!(plan.record.max_size, 1 << 20);
        assert_eq!(plan.record_segments(), 32);
        assert_eq!(
            plan.weights,
            WeightsPlan {
                operator: 70,
                state: 70
            }
        );
        assert!(plan.pressure.enabled);
    }

    #[test]
    fn sections_say_what_is_set() {
        let plan = prove(&[
            "network.buffer_timeout=0",
            "spill.directories=/a,/b",
            "spill.max_bytes=1gb",
            "spill.codec=none",
            "spill.io=threads",
            "job.parallelism=200",
            "job.mode=batch",
            "exec.helper_threads=1",
            "cancel.timeout=1s",
            "pressure.enabled=false",
            "memory.weights.state=0",
        ])
        .unwrap();
        assert_eq!(plan.network.buffer_timeout, BufferTimeout::EveryRecord);
        assert_eq!(plan.spill.directories.len(), 2);
        assert_eq!(plan.spill.max_bytes, Some(1 << 30));
        assert_eq!(
            (plan.spill.codec, plan.spill.io),
            (SpillCodec::None, SpillIo::Threads)
        );
        assert_eq!(
            plan.job,
            JobDefaults {
                parallelism: 200,
                max_parallelism: 512,
                mode: Mode::Batch
            }
        );
        assert_eq!(plan.exec.helper_threads, 1);
        assert_eq!(plan.cancel.timeout, Duration::from_secs(1));
        assert!(!plan.pressure.enabled);
        assert_eq!(plan.weights.state, 0);
        assert_eq!(
            prove(&["network.buffer_timeout=off"])
                .unwrap()
                .network
                .buffer_timeout,
            BufferTimeout::Off
        );
        for (codec, expected) in [("lz4", SpillCodec::Lz4), ("adaptive", SpillCodec::Adaptive)] {
            assert_eq!(
                prove(&[&format!("spill.codec={codec}")]).unwrap().spill.codec,
                expected
            );
        }
        for (io, expected) in [("io_uring", SpillIo::IoUring), ("auto", SpillIo::Auto)] {
            assert_eq!(prove(&[&format!("spill.io={io}")]).unwrap().spill.io, expected);
        }
        assert_eq!(plan.prefault, Prefault::Demand);
        for (prefault, expected) in [("background", Prefault::Background), ("start", Prefault::Start)] {
            let plan = prove(&[&format!("memory.prefault={prefault}")]).unwrap();
            assert_eq!(plan.prefault, expected);
        }
        for (mode, expected) in [("streaming", Mode::Streaming), ("auto", Mode::Auto)] {
            assert_eq!(prove(&[&format!("job.mode={mode}")]).unwrap().job.mode, expected);
        }
    }

    #[test]
    fn max_parallelism_follows_parallelism() {
        for (parallelism, max) in [(1, 128), (85, 128), (86, 256), (21_845, 32_768), (32_768, 32_768)] {
            let plan = prove(&[&format!("job.parallelism={parallelism}")]).unwrap();
            assert_eq!(plan.job.max_parallelism, max, "{parallelism}");
        }
    }

    #[test]
    fn contradictions_between_sections_name_both_keys() {
        assert_eq!(
            message(&["job.max_parallelism=4", "job.parallelism=5"]),
            "job.max_parallelism 4 (--set) is below job.parallelism 5 (--set): a subtask needs a key group; raise \
             the first or lower the second"
        );
        assert_eq!(
            message(&["job.max_parallelism=2"]),
            "job.max_parallelism 2 (--set) is below job.parallelism auto (3 cores): a subtask needs a key group; \
             raise the first or lower the second"
        );
        assert_eq!(
            message(&["memory.weights.operator=0", "memory.weights.state=0"]),
            "memory.weights.operator 0 (--set) and memory.weights.state 0 (--set) leave managed memory to nobody; \
             raise one"
        );
        assert_eq!(
            message(&["record.max_size=32mb", "memory.managed_size=32mb"]),
            "record.max_size 32 MiB (--set) is more than managed memory has besides the spill workspace (28 MiB); \
             lower it, or raise memory.managed_size"
        );
    }

    #[test]
    fn plans_for_tests_have_the_segments_asked_for() {
        let plan = Plan::with_segments(8, 5, 4096).unwrap();
        assert_eq!(
            (
                plan.managed_segments(),
                plan.network_segments(),
                plan.segment_size()
            ),
            (8, 5, 4096)
        );
        assert_eq!(plan.managed_bytes(), 8 * 4096 + plan.spill.workspace_bytes as u64);
        assert_eq!(plan.job.parallelism, 1);
        assert!(!plan.pressure.enabled);
        let error = Plan::with_segments(8, 5, 5000).unwrap_err().to_string();
        assert!(
            error.starts_with("memory.segment_size: 5000 B is not a power of two"),
            "{error}"
        );
    }
}
