//! The workloads: what each does, its defaults, its job, its oracle, and the same steps without an engine.
//!
//! # Interface
//! [`WORKLOADS`] is the table; everything that runs, lists or checks workloads goes through it. A new workload is a
//! module and a line here.

mod input;
mod updates;
mod output;
mod wordcount;
mod keyed_sum;
mod wide;
mod aggregate;
mod distinct;
mod join;
mod exchange;
mod sort;
pub mod tpch;

pub use output::{behind_links, is_same_file, refuse_own_input};
pub use wide::LEAST_ROW;

use crate::data::keyed::KEYED_RECORD;
use crate::limits::MachineLimits;
use crate::options::Choice;
use crate::result::{Latency, Stalls};
use crate::scratch::Scratch;
use crate::setting::{Mode, Setting};
use forebay::record::Record;
use forebay::sink::HashSink;
use forebay::{Environment, JobSummary, Runtime, Stream};
use forebay_memory::config::edits;
use forebay_memory::{ByteSize, Config, Container, Error, Plan, Result};
use serde::{Deserialize, Serialize};

/// Every workload, in the order in which they are listed.
pub const WORKLOADS: &[Workload] = &[
    wordcount::WORKLOAD,
    keyed_sum::WORKLOAD,
    aggregate::WORKLOAD,
    distinct::WORKLOAD,
    join::WORKLOAD,
    exchange::WORKLOAD,
    sort::RANDOM,
    sort::PRESORTED,
    sort::MIXED,
    sort::TOPN,
    sort::GENSORT,
    tpch::Q1,
    tpch::Q3,
    tpch::Q4,
    tpch::Q5,
    tpch::Q6,
    tpch::Q9,
    tpch::Q10,
    tpch::Q12,
    tpch::Q13,
    tpch::Q14,
    tpch::Q18,
];

/// One workload.
pub struct Workload {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Its input, its options and how to reproduce its result; lines of text.
    pub help: &'static str,
    /// Input records where none are asked for.
    pub records: u64,
    /// Keys where none are asked for; 0 where the workload has none.
    pub keys: u64,
    /// The options that it takes, besides `--records` and those that say how it is run. One that takes `--emit` sends updates in
    /// streaming mode, one that takes `--rate` can send its records at times that are fixed beforehand.
    pub takes: &'static [Choice],
    /// Those of them that it takes with `--input`, which says by itself what the records are.
    pub takes_of_files: &'static [Choice],
    /// Writes input that has to be there before anything is measured, and names it in the setting.
    pub prepare: fn(&mut Setting) -> Result<Option<Scratch>>,
    /// Builds the job in the environment, executes it, and answers what came of it.
    pub run: fn(&Environment, &Setting) -> Result<Outcome>,
    /// The result, computed plainly.
    pub oracle: fn(&Setting) -> Result<Answer>,
    /// The most records a second that the steps take without an engine.
    pub bare: fn(&Setting, &MachineLimits) -> Result<Bare>,
    /// The longest time in milliseconds that a batch of insertions into the workload's table takes while it grows: in memory
    /// that may never have been touched, and in memory that has.
    pub stall: Option<fn(&Runtime, &Setting) -> Result<Stalls>>,
    /// Where the file of results (`--output`) is part of what is measured: what it holds, read after the runs.
    pub read_back: Option<fn(&Setting) -> Result<Answer>>,
}

impl Workload {
    /// Whether it takes an option.
    pub fn takes(&self, choice: Choice) -> bool {
        choice == Choice::Records || self.takes.contains(&choice)
    }
}

/// What came of a run.
pub struct Outcome {
    /// Input records.
    pub records: u64,
    /// Input bytes.
    pub bytes: u64,
    /// Output records and their hash.
    pub answer: Answer,
    /// What the job reports of itself.
    pub summary: JobSummary,
    /// Latency, where it is measured.
    pub latency: Option<Latency>,
}

/// A result as it is compared: where records are in order the hash is that of the order, otherwise it does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Output records.
    pub records: u64,
    /// The wrapping sum of the hashes of their rows; of sorted ones, each times an odd number of its rank.
    pub hash: u64,
}

/// What the machine does without an engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bare {
    /// Whether a run cannot take less; otherwise it is only compared with it.
    pub is_limit: bool,
    /// Records a second.
    pub rate: f64,
    /// What it is called in a table.
    pub name: String,
    /// What was measured.
    pub what: String,
}

/// The workload called `name`.
///
/// # Errors
/// `Config` where there is none, naming those there are.
pub fn find(name: &str) -> Result<&'static Workload> {
    WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
            let nearest = match nearest(name, &names) {
                Some(nearest) => format!("the nearest is {nearest}; "),
                None => String::new(),
            };
            Error::config(format!(
                "there is no workload \"{name}\"; {nearest}there are {}",
                names.join(", ")
            ))
        })
}

/// The name that looks most like `unknown`, or has it as a part; none where more than two of five letters are wrong.
fn nearest<'a>(unknown: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| match unknown.len() >= 3 && name.contains(unknown) {
        true => 1,
        false => edits(unknown, name),
    };
    let nearest = names.iter().copied().min_by_key(|name| distance(name));
    nearest.filter(|name| 5 * distance(name) <= 2 * unknown.len())
}

/// The plan that a setting asks for: a given managed size means bottom up, with 128 MiB of user heap where no other is given.
///
/// # Errors
/// Where the configuration contradicts itself or does not fit; of a managed size that is too small, the least that is not.
pub fn plan(setting: &Setting) -> Result<Plan> {
    let Some(managed) = setting.managed else {
        return Plan::load(setting.config.as_deref(), &setting.overrides);
    };
    plan_of(setting, managed).map_err(|error| match least_managed(setting, managed) {
        Some(least) => Error::config(format!(
            "--managed {} is too small, the least here is --managed {least}MiB: {error}",
            ByteSize(managed)
        )),
        None => error,
    })
}

fn plan_of(setting: &Setting, managed: u64) -> Result<Plan> {
    let mut config = Config::load::<&str>(setting.config.as_deref(), &[])?;
    config.set_from("--managed", "memory.user_size=128MiB")?;
    // The last of a key counts.
    for assignment in &setting.overrides {
        config.set(assignment)?;
    }
    config.set_from("--managed", &format!("memory.managed_size={managed}"))?;
    Plan::prove(&config, &Container::detect()?)
}

/// The fewest MiB, over a size for which there is no plan, for which there is one; none where more memory is of no use.
fn least_managed(setting: &Setting, managed: u64) -> Option<u64> {
    const MOST: u64 = 1 << 20;
    let is_enough = |mib: &u64| plan_of(setting, mib << 20).is_ok();
    let first = managed.div_ceil(1 << 20).max(1);
    let doubled = std::iter::successors(Some(first), |mib| Some(2 * mib)).take_while(|mib| *mib <= MOST);
    let mut enough = doubled.into_iter().find(is_enough)?;
    let mut too_few = first - 1;
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        match is_enough(&middle) {
            true => enough = middle,
            false => too_few = middle,
        }
    }
    Some(enough)
}

/// An environment for the setting's jobs.
pub fn environment(runtime: &Runtime, setting: &Setting) -> Environment {
    let mode = match setting.mode {
        Mode::Batch => forebay::Mode::Batch,
        Mode::Streaming => forebay::Mode::Streaming,
    };
    Environment::new(runtime.clone())
        .with_mode(mode)
        .with_parallelism(setting.parallelism)
}

/// The prepare of workloads whose input is computed.
fn nothing_to_prepare(_: &mut Setting) -> Result<Option<Scratch>> {
    Ok(None)
}

/// The fold of a hash sink as an answer.
fn folded(total: &std::sync::Mutex<forebay::sink::SinkHash>) -> Answer {
    let total = total.lock().expect("folding does not panic");
    Answer {
        records: total.records,
        hash: total.hash,
    }
}

/// Ends a job over keyed records: hashes its results or, where the setting keeps them, writes each as a line of a file.
fn run_keyed<R: Record, F>(
    environment: &Environment,
    setting: &Setting,
    records: u64,
    results: Stream<R>,
    line: F,
) -> Result<Outcome>
where
    F: for<'a> FnMut(R::View<'a>, &mut String) + Clone + Send + 'static,
{
    let (sink, total) = HashSink::new();
    if setting.output.is_some() {
        results.sink("files", output::output::<R, _>(setting, line));
    } else {
        results.sink("hash", sink);
    }
    let summary = environment.execute(&setting.workload)?;
    Ok(keyed_outcome(records, folded(&total), summary))
}

/// What came of a job over keyed records.
fn keyed_outcome(records: u64, answer: Answer, summary: JobSummary) -> Outcome {
    Outcome {
        records,
        bytes: records * KEYED_RECORD as u64,
        answer,
        summary,
        latency: None,
    }
}

/// The answer of a workload that makes one result of each key and its values. Sorts the records, as oracles do where jobs
/// hash.
fn answer_by_key<R: Record>(setting: &Setting, result: impl Fn(u64, &[(u64, i64)]) -> R) -> Result<Answer> {
    let mut records = Vec::new();
    input::for_each_keyed(setting, 0, 1, u64::MAX, |record| {
        records.push((record.key, record.value))
    })?;
    records.sort_unstable();
    let (mut answer, mut row) = (Answer::default(), Vec::new());
    for group in records.chunk_by(|a, b| a.0 == b.0) {
        let result = result(group[0].0, group);
        answer.records += 1;
        answer.hash = answer.hash.wrapping_add(input::hash_of(&result, &mut row));
    }
    Ok(answer)
}

/// The sum of the values of records.
fn total_of(records: &[(u64, i64)]) -> i64 {
    records.iter().map(|(_, value)| value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::{Emit, JoinOptions};

    /// A small setting of a workload.
    pub fn setting(name: &str) -> Setting {
        let workload = find(name).expect("a workload of that name");
        Setting {
            workload: name.into(),
            records: 20_000,
            keys: if workload.keys == 0 { 0 } else { 1_000 },
            skew: 0.0,
            managed: None,
            parallelism: 2,
            mode: Mode::Batch,
            emit: Emit::Final,
            seed: 7,
            config: None,
            overrides: Vec::new(),
            input: Vec::new(),
            from_file: false,
            row_bytes: 0,
            output: None,
            rate: 0,
            checked: false,
            join: JoinOptions::default(),
        }
    }

    /// A plan so small that a thousand keys spill.
    fn small_plan() -> Plan {
        Plan::with_segments(40, 128, 4096).expect("a plan for tests")
    }

    #[test]
    fn every_workload_equals_its_oracle_in_both_modes_spilled_or_not() {
        // Queries join more tables than so small a plan has room for: `tpch` has a test of its own.
        for workload in WORKLOADS.iter().filter(|workload| !tpch::is_query(workload.name)) {
            for mode in [Mode::Batch, Mode::Streaming] {
                for (small, keys) in [(false, 1_000), (true, 1_000), (true, 20_000)] {
                    let mut setting = Setting {
                        mode,
                        keys,
                        ..setting(workload.name)
                    };
                    let _input = (workload.prepare)(&mut setting).expect(workload.name);
                    let plan = if small {
                        small_plan()
                    } else {
                        plan(&setting).expect("the default plan")
                    };
                    let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
                    let outcome =
                        (workload.run)(&environment(&runtime, &setting), &setting).expect(workload.name);
                    let expected = (workload.oracle)(&setting).expect(workload.name);
                    let case = format!("{} {mode:?} small {small} keys {keys}", workload.name);
                    let answer = match workload.read_back {
                        Some(read_back) => read_back(&setting).expect(workload.name),
                        None => outcome.answer,
                    };
                    assert_eq!(answer, expected, "{case}");
                    assert_eq!(runtime.manager().outstanding(), 0, "{case}");
                    if small && keys == 20_000 && workload.keys > 0 {
                        assert!(outcome.summary.spilled_bytes_written() > 0, "{case} spills");
                    }
                }
            }
        }
    }

    /// Few groups over many wide rows leave nothing to spill; many do.
    #[test]
    fn wide_rows_equal_their_oracle_and_few_groups_of_them_stay_in_memory() {
        for (keys, spills) in [(50, false), (20_000, true)] {
            let setting = Setting {
                keys,
                row_bytes: 300,
                ..setting("aggregate")
            };
            let plan = Plan::with_segments(400, 256, 4096).expect("a plan for tests");
            let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
            let workload = find("aggregate").expect("it is there");
            let outcome = (workload.run)(&environment(&runtime, &setting), &setting).expect("it runs");
            assert_eq!(
                outcome.answer,
                (workload.oracle)(&setting).expect("plain"),
                "{keys} keys"
            );
            assert_eq!(outcome.summary.spilled_bytes_written() > 0, spills, "{keys} keys");
            assert_eq!(runtime.manager().outstanding(), 0);
        }
    }

    #[test]
    fn updates_end_in_the_oracles_results() {
        for (name, small) in [
            ("keyed-sum", false),
            ("keyed-sum", true),
            ("wordcount", false),
            ("wordcount", true),
        ] {
            let workload = find(name).expect("it is there");
            let mut setting = Setting {
                emit: Emit::Updates,
                checked: true,
                mode: Mode::Streaming,
                ..setting(name)
            };
            let _input = (workload.prepare)(&mut setting).expect(name);
            let plan = if small {
                small_plan()
            } else {
                plan(&setting).expect("the default plan")
            };
            let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
            let outcome = (workload.run)(&environment(&runtime, &setting), &setting).expect(name);
            assert_eq!(
                outcome.answer,
                (workload.oracle)(&setting).expect("plain"),
                "{name} small {small}"
            );
        }
    }

    #[test]
    fn bare_loops_run() {
        let limits = crate::limits::Rates { one: 1.0, all: 1.0 };
        let limits = MachineLimits {
            threads: 2,
            read: limits,
            copy: limits,
            random_loads: limits,
            bytes: 0,
        };
        for workload in WORKLOADS.iter().filter(|workload| workload.name != "exchange") {
            let mut setting = setting(workload.name);
            let _input = (workload.prepare)(&mut setting).expect(workload.name);
            let bare = (workload.bare)(&setting, &limits).expect(workload.name);
            assert!(bare.rate > 0.0);
        }
    }

    #[test]
    fn scheduled_records_have_a_latency() {
        let setting = Setting {
            rate: 1_000_000,
            mode: Mode::Streaming,
            ..setting("exchange")
        };
        let runtime = Runtime::new(plan(&setting).expect("the default plan")).expect("memory");
        let workload = find("exchange").expect("it is there");
        let outcome = (workload.run)(&environment(&runtime, &setting), &setting).expect("it runs");
        let latency = outcome.latency.expect("there is a schedule");
        assert!(latency.p50_us > 0.0 && latency.p99_us <= latency.max_us);
        assert_eq!(outcome.answer, (workload.oracle)(&setting).expect("plain"));
    }

    #[test]
    fn unknown_workloads_are_named() {
        let message = find("wordcont").err().expect("no such workload").to_string();
        assert!(
            message.contains("wordcont") && message.contains("keyed-sum"),
            "{message}"
        );
        for (unknown, meant) in [
            ("wordcont", Some("wordcount")),
            ("gensort", Some("sort-gensort")),
            ("key-sum", Some("keyed-sum")),
            ("tpch-q2", Some("tpch-q1")),
            ("windows", None),
            ("x", None),
        ] {
            let message = find(unknown).err().expect("no such workload").to_string();
            let expected = meant.map(|meant| format!("the nearest is {meant};"));
            assert_eq!(
                message.contains("the nearest is"),
                expected.is_some(),
                "{message}"
            );
            assert!(
                expected.is_none_or(|expected| message.contains(&expected)),
                "{message}"
            );
        }
    }

    #[test]
    fn a_managed_size_that_is_too_small_is_refused_with_the_least() {
        let of = |managed: u64, overrides: &[&str]| Setting {
            managed: Some(managed),
            overrides: overrides.iter().map(ToString::to_string).collect(),
            ..setting("distinct")
        };
        let message = |setting: &Setting| plan(setting).err().map(|error| error.to_string());
        let error = message(&of(1 << 10, &[])).expect("1 KiB is too small");
        let rest = error
            .strip_prefix("--managed 1 KiB is too small, the least here is --managed ")
            .expect(&error);
        let (least, _) = rest.split_once("MiB: ").expect(&error);
        let least: u64 = least.parse().expect(&error);
        assert_eq!(message(&of(least << 20, &[])), None, "the least is enough");
        assert!(message(&of((least - 1) << 20, &[])).is_some(), "less is not");
        // No size helps where something else is wrong.
        let error = message(&of(64 << 20, &["memory.manged_size=1"])).expect("there is no such key");
        assert!(
            !error.contains("too small") && error.contains("the nearest is memory.managed_size"),
            "{error}"
        );
        // What the command line says of other memory holds.
        let heap = |overrides: &[&str]| plan(&of(64 << 20, overrides)).expect("it fits").process_bytes();
        assert!(heap(&["memory.user_size=256MiB"]) >= heap(&[]) + (100 << 20));
    }
}
