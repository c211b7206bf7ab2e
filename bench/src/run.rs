//! `run`: measures each row, compares results with the oracle and times with what the machine can do, and prints one
//! table.
//!
//! # Algorithm
//! For each row: write its input; make a runtime of its plan; run once unmeasured, then as often as asked for, with the
//! peak of resident memory reset before; then, outside of every figure, the oracle and the loops that give the limits.

use crate::cli::{LogLevel, ProgressForm, RunArguments};
use crate::limits::MachineLimits;
use crate::options::Choice;
use crate::oracle;
use crate::places;
use crate::process;
use crate::progress::Progress;
use crate::result::{self, Limit, RunResult, Spread, Stalls};
use crate::scratch::Successor;
use crate::setting::{Emit, Setting};
use crate::suite::{self, Row};
use crate::table::{self, Align};
use crate::workload::{self, Answer, Bare, Outcome};
use forebay::Runtime;
use forebay_memory::spill::{DiskBandwidth, SpillConfig, probe};
use forebay_memory::{Error, Plan, Result, account};
use std::path::Path;
use std::time::Instant;
use tracing_subscriber::filter::LevelFilter;

/// Runs what the command line asks for.
///
/// # Errors
/// Where a row cannot be run, or, after the table, where a result is not the oracle's.
pub fn run(arguments: &RunArguments) -> Result<()> {
    let rows = suite::rows(arguments)?;
    for row in &rows {
        workload::plan(&row.setting)?;
        places::check_output(&row.setting)?;
    }
    if let Some(path) = &arguments.json {
        places::check_json(path, rows.iter().map(|row| &row.setting))?;
    }
    log_to_standard_error(arguments.log);
    let start = Instant::now();
    let mut progress = Progress::new(rows.len() + 1, arguments.progress());
    progress.begin("measuring this machine");
    let mut machine = match arguments.no_limits {
        true => None,
        false => Some(Machine::measure(&rows)?),
    };
    let shown = match arguments.progress() {
        ProgressForm::Auto => forebay::Progress::Terminal,
        ProgressForm::Lines => forebay::Progress::Lines,
        ProgressForm::Off => forebay::Progress::Off,
    };
    progress.step();
    let (results, written) = measure_all(&rows, arguments.json.as_deref(), |row| {
        progress.begin(&title(&row.setting));
        let result = measure(row, arguments.verify, shown, machine.as_mut());
        progress.step();
        result
    })?;
    drop(progress);
    let mut text = machine.as_ref().map(Machine::describe).unwrap_or_default();
    text += &table_of(&results);
    text += &format!(
        "{} {} in {}\n",
        results.len(),
        if results.len() == 1 { "row" } else { "rows" },
        table::seconds(start.elapsed().as_secs_f64())
    );
    if let Err(error) = &written {
        text += &format!("{error}\n");
    }
    table::show(&text)?;
    check(&results, arguments.verify).and(written)
}

/// The results of all rows, and whether the file `json` has them: one that cannot be written is no reason to lose the table.
fn measure_all(
    rows: &[Row],
    json: Option<&Path>,
    mut measure: impl FnMut(&Row) -> Result<RunResult>,
) -> Result<(Vec<RunResult>, Result<()>)> {
    let (mut results, mut written) = (Vec::new(), Ok(()));
    for row in rows {
        results.push(measure(row)?);
        // After every row, so that an interrupted suite has left what it measured.
        if let Some(path) = json {
            written = result::write(path, &results);
        }
    }
    Ok((results, written))
}

/// Has the engine's log written to standard error, from that level on.
fn log_to_standard_error(level: LogLevel) {
    let level = match level {
        LogLevel::Off => return,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    // A program that has set another log before keeps it.
    let _ = log.with_target(false).without_time().try_init();
}

/// Fails where a result is not the oracle's and, where everything is to be verified, where memory was not what the plan says.
fn check(results: &[RunResult], verify: bool) -> Result<()> {
    if let Some(wrong) = results.iter().find(|result| result.verified == Some(false)) {
        return Err(Error::corrupt(format!(
            "{}: the result is not the oracle's",
            wrong.identity()
        )));
    }
    match verify {
        true => check_resident(results),
        false => Ok(()),
    }
}

/// Fails where more memory was resident than the plan says.
pub(crate) fn check_resident(results: &[RunResult]) -> Result<()> {
    let over = |result: &&RunResult| result.peak_rss_bytes > result.process_budget_bytes;
    match results.iter().find(over) {
        Some(over) => Err(Error::memory(format!(
            "{}: {} were resident, the plan gives the process {}",
            over.identity(),
            table::bytes(over.peak_rss_bytes),
            table::bytes(over.process_budget_bytes)
        ))),
        None => Ok(()),
    }
}

/// Prints the table of workloads.
///
/// # Errors
/// As [`table::show`].
pub fn list() -> Result<()> {
    let names = workload::WORKLOADS.iter().map(|workload| workload.name.len());
    let width = names.max().unwrap_or(0) + 2;
    let mut text = String::new();
    for workload in workload::WORKLOADS {
        text += &format!("{:<width$}{}\n", workload.name, workload.about);
        for line in workload.help.lines() {
            text += &format!("{:<width$}  {line}\n", "");
        }
        let takes = workload.takes.iter().map(|choice| choice.name());
        let takes = [Choice::Records.name()]
            .into_iter()
            .chain(takes)
            .collect::<Vec<_>>();
        text += &format!("{:<width$}  Takes {}\n", "", takes.join(", "));
    }
    table::show(&text)
}

/// What `start` does: everything that a job's process does before its first job.
///
/// # Errors
/// Where the default plan cannot be proved, or its memory not be had.
pub fn start() -> Result<()> {
    let row = suite::rows(&RunArguments {
        workloads: vec!["keyed-sum".into()],
        ..RunArguments::default()
    })?;
    Runtime::new(workload::plan(&row[0].setting)?).map(|_| ())
}

fn title(setting: &Setting) -> String {
    format!("{} {} {}", setting.workload, setting.mode.name(), setting.label())
}

/// The machine's limits; the disk's are measured when a row has spilled.
pub(crate) struct Machine {
    /// How the steps without an engine are measured: in a process of their own, but in tests.
    ask_bare: fn(&Setting, &MachineLimits) -> Result<Bare>,
    limits: MachineLimits,
    disk: Option<Disk>,
    start_ms: f64,
    small_job_ms: f64,
}

struct Disk {
    block_bytes: usize,
    bandwidth: DiskBandwidth,
}

impl Machine {
    fn measure(rows: &[Row]) -> Result<Machine> {
        let threads = rows
            .iter()
            .map(|row| row.setting.parallelism)
            .max()
            .unwrap_or(1)
            .min(suite::cores());
        let median = |mut once: Box<dyn FnMut() -> Result<f64>>| -> Result<f64> {
            let series = (0..5).map(|_| once()).collect::<Result<Vec<f64>>>()?;
            Ok(Spread::of(&series).map_or(0.0, |spread| spread.median * 1e3))
        };
        let start_ms = median(Box::new(|| Ok(process::time_of_child(&["start"])?.as_secs_f64())))?;
        let small_job_ms = median(Box::new(small_job))?;
        Ok(Machine {
            ask_bare: oracle::ask_bare,
            limits: MachineLimits::measure(threads)?,
            disk: None,
            start_ms,
            small_job_ms,
        })
    }

    fn bare(&self, setting: &Setting) -> Result<Bare> {
        (self.ask_bare)(setting, &self.limits)
    }

    /// The disk's bandwidth in large transfers, as the spill store makes them.
    fn disk(&mut self, plan: &Plan) -> Result<&Disk> {
        const DEPTH: usize = 8;
        const BYTES: u64 = 256 << 20;
        if self.disk.is_none() {
            let config = SpillConfig::from(plan);
            let bandwidth = probe(&config.directories[0], config.write_bytes, DEPTH, BYTES)?;
            self.disk = Some(Disk {
                block_bytes: config.write_bytes,
                bandwidth,
            });
        }
        Ok(self.disk.as_ref().expect("it was measured above"))
    }

    fn describe(&self) -> String {
        let gb = |rate: f64| format!("{:.1}", rate / 1e9);
        let limits = &self.limits;
        let mut text = format!(
            "memory, 1 / {} threads: read {} / {} GB/s, copy {} / {} GB/s (bytes counted twice), random 8-byte loads \
             over {} {:.0} / {:.0} M/s\n",
            limits.threads,
            gb(limits.read.one),
            gb(limits.read.all),
            gb(limits.copy.one),
            gb(limits.copy.all),
            table::bytes(limits.bytes),
            limits.random_loads.one / 1e6,
            limits.random_loads.all / 1e6,
        );
        if let Some(Disk {
            block_bytes,
            bandwidth,
        }) = &self.disk
        {
            text += &format!(
                "disk, {} blocks, 8 in flight, {}: write {} GB/s, read {} GB/s, mixed {} GB/s\n",
                table::bytes(*block_bytes as u64),
                bandwidth.io,
                gb(bandwidth.write_bytes_per_second),
                gb(bandwidth.read_bytes_per_second),
                gb(bandwidth.mixed_bytes_per_second),
            );
        }
        text + &format!(
            "start of a process at the default plan {:.1} ms; a job of 10 records {:.2} ms\n\n",
            self.start_ms, self.small_job_ms
        )
    }
}

/// The time of a job of 10 records on a runtime of its own, in seconds.
fn small_job() -> Result<f64> {
    let plan = Plan::load::<&str>(None, &[])?;
    let environment = forebay::Environment::new(Runtime::new(plan)?);
    let start = Instant::now();
    let collected = environment
        .source("ten", forebay::source::generate(10, |index| index))
        .collect();
    environment.execute("ten records")?;
    let elapsed = start.elapsed().as_secs_f64();
    assert_eq!(collected.take().len(), 10, "ten records went in");
    Ok(elapsed)
}

/// Measures a row; without its limits where there is no machine to compare with.
pub(crate) fn measure(
    row: &Row,
    verify: bool,
    shown: forebay::Progress,
    machine: Option<&mut Machine>,
) -> Result<RunResult> {
    let workload = workload::find(&row.setting.workload)?;
    // Results are written in a run that is not measured, but where that is what the workload is about.
    let mut setting = Setting {
        output: row
            .setting
            .output
            .clone()
            .filter(|_| workload.read_back.is_some()),
        ..row.setting.clone()
    };
    let _input = (workload.prepare)(&mut setting)?;
    // A file of nobody's is removed with the input.
    let replaced = setting.output.as_deref().filter(|_| row.setting.output.is_some());
    let successor = replaced.map(Successor::of);
    if let Some(successor) = &successor {
        setting.output = Some(successor.hidden().to_path_buf());
    }
    let plan = workload::plan(&setting)?;
    let runtime = Runtime::new(plan.clone())?;
    let once = |setting: &Setting| -> Result<Outcome> {
        let environment = workload::environment(&runtime, setting)
            .with_progress(shown)
            .cancel_on_interrupt()?;
        (workload.run)(&environment, setting)
    };
    if row.warm_up {
        once(&setting)?;
    }
    account::reset_peak_resident();
    let mut measured = Measured::default();
    for _ in 0..row.repeats {
        if let Some(path) = setting.output.as_ref().filter(|path| path.is_file()) {
            // The disk takes its time to free gigabytes: not part of what is measured. It is what an earlier run of this row wrote.
            std::fs::remove_file(path)
                .map_err(|error| Error::io(format!("cannot remove {}", path.display()), error))?;
        }
        let (cpu, start) = (process::cpu_time(), Instant::now());
        let outcome = once(&setting)?;
        measured.add(
            start.elapsed().as_secs_f64(),
            (process::cpu_time() - cpu).as_secs_f64(),
            outcome,
        )?;
    }
    let peak_rss = account::peak_resident_bytes().unwrap_or(0) as u64;

    let last = measured.last.as_ref().expect("a row is measured at least once");
    let (records, mut answer) = (last.records, last.answer);
    if let Some(read_back) = workload.read_back {
        answer = read_back(&setting)?;
    }
    let verified = match (verify, setting.emit) {
        // A result that is not the published one has failed the run.
        (false, _) => workload::tpch::is_published(&setting).then_some(true),
        (true, Emit::Final) => Some(oracle::ask(&setting)? == answer),
        // Updates depend on the order in which records met; the last of each key do not.
        (true, Emit::Updates) => {
            let checked = once(&Setting {
                checked: true,
                ..setting.clone()
            })?;
            Some(oracle::ask(&setting)? == checked.answer && answer.records == records)
        }
    };
    let median = Spread::of(&measured.seconds).map_or(f64::NAN, |spread| spread.median);
    let stalls = match workload.stall {
        Some(stall) if machine.is_some() && last.summary.spilled_bytes_written() == 0 => {
            Some(stall(&runtime, &setting)?)
        }
        _ => None,
    };
    let bounds = machine
        .map(|machine| bounds_of(&setting, last, &measured, machine, &plan, median))
        .transpose()?;
    let (limit, comparison) = match bounds {
        Some((limit, comparison)) => (Some(limit), comparison),
        None => (None, None),
    };
    // The last thing that can fail: what was there before is replaced by results that are right, or not at all.
    match (successor, verified) {
        (_, Some(false)) => {}
        (Some(successor), _) => successor.publish()?,
        (None, _) if row.setting.output.is_some() => {
            // Its sink replaces the files of a directory together, when all are written.
            once(&Setting {
                output: row.setting.output.clone(),
                ..setting.clone()
            })?;
        }
        (None, _) => {}
    }
    Ok(RunResult {
        workload: setting.workload.clone(),
        engine: "forebay".into(),
        mode: setting.mode.name().into(),
        parallelism: setting.parallelism,
        records,
        bytes: last.bytes,
        managed_bytes: plan.managed_bytes(),
        seed: setting.seed,
        repeats: row.repeats,
        median_seconds: median,
        records_per_second: records as f64 / median,
        peak_rss_bytes: peak_rss,
        process_budget_bytes: plan.process_bytes(),
        managed_peak_bytes: (last.summary.memory.managed_peak * plan.segment_size()) as u64,
        spilled_bytes_written: measured.written,
        spilled_bytes_read: measured.read,
        result_hash: format!("{:016x}", answer.hash),
        result_records: answer.records,
        verified,
        setting: row.setting.label(),
        keys: (setting.keys > 0).then_some(setting.keys),
        limit,
        comparison,
        latency: last.latency.clone(),
        stalls,
        cpu_seconds: Spread::of(&measured.cpu).map(|spread| spread.median),
        failure: None,
        seconds: measured.seconds,
    })
}

/// What the runs of a row came to.
#[derive(Default)]
struct Measured {
    seconds: Vec<f64>,
    cpu: Vec<f64>,
    written: u64,
    read: u64,
    last: Option<Outcome>,
}

impl Measured {
    fn add(&mut self, seconds: f64, cpu: f64, outcome: Outcome) -> Result<()> {
        let before: Option<Answer> = self.last.as_ref().map(|last| last.answer);
        if before.is_some_and(|before| before != outcome.answer) {
            return Err(Error::corrupt(format!(
                "job \"{}\": two runs on the same input have different results, {before:?} and {:?}",
                outcome.summary.job, outcome.answer
            )));
        }
        self.seconds.push(seconds);
        self.cpu.push(cpu);
        self.written = self.written.max(outcome.summary.spilled_bytes_written());
        self.read = self.read.max(outcome.summary.spilled_bytes_read());
        self.last = Some(outcome);
        Ok(())
    }
}

/// The limit that binds: of all that the run could not have been faster than, the slowest. And what it is compared with, if that is no
/// limit.
fn bounds_of(
    setting: &Setting,
    outcome: &Outcome,
    measured: &Measured,
    machine: &mut Machine,
    plan: &Plan,
    median: f64,
) -> Result<(Limit, Option<Limit>)> {
    let bare = machine.bare(setting)?;
    let records = outcome.records as f64;
    let without_engine = (
        bare.name.to_string(),
        format!(
            "{} records / {}/s; {}",
            outcome.records,
            table::count(bare.rate),
            bare.what
        ),
        records / bare.rate,
    );
    let mut limits = vec![(
        "memory read".to_string(),
        format!(
            "{} input bytes / {:.1} GB/s",
            outcome.bytes,
            machine.limits.read.all / 1e9
        ),
        outcome.bytes as f64 / machine.limits.read.all,
    )];
    let mut comparison = None;
    match bare.is_limit {
        true => limits.push(without_engine),
        false => comparison = Some(without_engine),
    }
    if setting.rate > 0 {
        let seconds = records / setting.rate as f64;
        limits.push((
            "schedule".into(),
            format!("{} records / {}/s", outcome.records, setting.rate),
            seconds,
        ));
    }
    let files = files_of(setting)?;
    if measured.written + files > 0 {
        let Disk { bandwidth, .. } = machine.disk(plan)?;
        // Input and output are of one size, where they count.
        let (written, read) = (measured.written + files, measured.read + files);
        limits.push((
            "disk".into(),
            format!(
                "{} B / {:.2} GB/s written + {} B / {:.2} GB/s read",
                written,
                bandwidth.write_bytes_per_second / 1e9,
                read,
                bandwidth.read_bytes_per_second / 1e9
            ),
            written as f64 / bandwidth.write_bytes_per_second + read as f64 / bandwidth.read_bytes_per_second,
        ));
    }
    // What took no time, or did nothing in its time, limits nothing.
    limits.retain(|(_, _, seconds)| seconds.is_finite());
    let binding = limits.into_iter().max_by(|a, b| a.2.total_cmp(&b.2));
    let of_median = |(name, formula, seconds): (String, String, f64)| Limit {
        name,
        formula,
        seconds,
        share: seconds / median,
    };
    let comparison = comparison.filter(|(_, _, seconds)| seconds.is_finite());
    Ok((
        of_median(binding.expect("memory is read")),
        comparison.map(of_median),
    ))
}

/// The bytes that a run from file to file has written besides what it spilled; it has read as many.
fn files_of(setting: &Setting) -> Result<u64> {
    if workload::find(&setting.workload)?.read_back.is_none() {
        return Ok(0);
    }
    let output = setting
        .output
        .as_ref()
        .expect("a workload that is read back has written");
    let found = std::fs::metadata(output);
    found
        .map(|data| data.len())
        .map_err(|error| Error::io(format!("cannot read {}", output.display()), error))
}

/// The results as one table, with notes below it.
fn table_of(results: &[RunResult]) -> String {
    let header = [
        ("workload", Align::Left),
        ("mode", Align::Left),
        ("setting", Align::Left),
        ("records", Align::Right),
        ("median [least–most]", Align::Right),
        ("records/s", Align::Right),
        ("bytes/s", Align::Right),
        ("spilled", Align::Right),
        ("RSS / plan", Align::Right),
        ("of limit", Align::Left),
        ("result", Align::Left),
    ];
    let mut notes = Vec::new();
    let mut limits: Vec<(&str, &str)> = Vec::new();
    let mut comparisons: Vec<(&Limit, Vec<String>)> = Vec::new();
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|result| {
            let spread = Spread::of(&result.seconds).expect("a row is measured at least once");
            if let Some(latency) = &result.latency {
                notes.push(format!(
                    "{} at {} records/s: latency p50 {:.0} µs, p90 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, most {:.0} µs; \
                     {:.2} s of processor time",
                    result.setting,
                    table::count(latency.rate),
                    latency.p50_us,
                    latency.p90_us,
                    latency.p99_us,
                    latency.p999_us,
                    latency.max_us,
                    result.cpu_seconds.unwrap_or(0.0),
                ));
            }
            if let Some(Stalls { fresh, again, pause }) = &result.stalls {
                notes.push(format!(
                    "{}: longest batch of 2048 insertions into a growing table {again}; {fresh} where its memory is touched for the \
                     first time; longest pause of a thread that does nothing {pause}",
                    result.workload
                ));
            }
            if result.peak_rss_bytes > result.process_budget_bytes {
                notes.push(format!(
                    "{}: resident memory {} is over the plan's process size {}",
                    result.identity(),
                    table::bytes(result.peak_rss_bytes),
                    table::bytes(result.process_budget_bytes)
                ));
            }
            if let Some(limit) = &result.limit
                && !limits.iter().any(|(name, _)| *name == limit.name)
            {
                limits.push((&limit.name, &limit.formula));
            }
            if let Some(comparison) = &result.comparison {
                let times = format!("{} {:.2} ×", title_of(result), 1.0 / comparison.share);
                match comparisons.iter_mut().find(|(first, _)| first.name == comparison.name) {
                    Some((_, rows)) => rows.push(times),
                    None => comparisons.push((comparison, vec![times])),
                }
            }
            vec![
                result.workload.clone(),
                result.mode.clone(),
                result.setting.clone(),
                table::count(result.records as f64),
                format!(
                    "{} [{}–{}]",
                    table::seconds(spread.median),
                    table::seconds(spread.least),
                    table::seconds(spread.most)
                ),
                format!("{}/s", table::count(result.records_per_second)),
                format!("{}/s", table::bytes((result.bytes as f64 / result.median_seconds) as u64)),
                table::bytes(result.spilled_bytes_written),
                format!(
                    "{} / {}",
                    table::bytes(result.peak_rss_bytes),
                    table::bytes(result.process_budget_bytes)
                ),
                result.limit.as_ref().map_or("not measured".into(), |limit| {
                    format!("{:.0} % {}", limit.share * 100.0, limit.name)
                }),
                match result.verified {
                    None => result.result_hash.clone(),
                    Some(true) => format!("{} = oracle", result.result_hash),
                    Some(false) => format!("{} ≠ ORACLE", result.result_hash),
                },
            ]
        })
        .collect();
    let mut text = table::render(&header, &rows);
    for note in notes {
        text += &note;
        text.push('\n');
    }
    if !limits.is_empty() {
        text += "Limits, the least times by what was measured in this run, each for the first row that it binds:\n";
    }
    for (name, formula) in limits {
        text += &format!("  {name}: {formula}\n");
    }
    if !comparisons.is_empty() {
        text += "Comparisons, which are no limits, each with its formula for the first row; rows take so many times as long:\n";
    }
    for (comparison, rows) in comparisons {
        text += &format!(
            "  {}: {}\n    {}\n",
            comparison.name,
            comparison.formula,
            rows.join(", ")
        );
    }
    text
}

/// A row of the table in a few words.
fn title_of(result: &RunResult) -> String {
    match result.setting.is_empty() {
        true => result.workload.clone(),
        false => format!("{} {}", result.workload, result.setting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In this process: a test's program is not the harness.
    fn rows_workload_bare(setting: &Setting, limits: &MachineLimits) -> Result<Bare> {
        (workload::find(&setting.workload)?.bare)(setting, limits)
    }

    #[test]
    fn a_row_becomes_a_result() {
        let arguments = RunArguments {
            workloads: vec!["keyed-sum".into()],
            records: Some(10_000),
            keys: Some(100),
            repeat: Some(2),
            ..RunArguments::default()
        };
        let rows = suite::rows(&arguments).expect("it exists");
        let mut machine = machine(rows_workload_bare);
        let result = measure(&rows[0], false, forebay::Progress::Off, Some(&mut machine)).expect("it runs");
        assert_eq!(
            (result.records, result.result_records, result.seconds.len()),
            (10_000, 100, 2)
        );
        assert!(result.limit.as_ref().is_some_and(|limit| limit.share > 0.0));
        let bare = measure(&rows[0], false, forebay::Progress::Off, None).expect("it runs");
        assert_eq!((bare.limit, bare.result_hash), (None, result.result_hash.clone()));
        let table = table_of(&[result]);
        assert!(table.contains("keyed-sum") && table.contains("10.0 K"), "{table}");
    }

    /// A machine that costs nothing to measure, whose steps without an engine are those of `ask_bare`.
    fn machine(ask_bare: fn(&Setting, &MachineLimits) -> Result<Bare>) -> Machine {
        let rates = crate::limits::Rates { one: 1e9, all: 1e9 };
        let limits = MachineLimits {
            threads: 2,
            read: rates,
            copy: rates,
            random_loads: rates,
            bytes: 0,
        };
        Machine {
            ask_bare,
            limits,
            // A probe takes a second.
            disk: Some(Disk {
                block_bytes: 1,
                bandwidth: DiskBandwidth {
                    io: "test",
                    write_bytes_per_second: 1e9,
                    read_bytes_per_second: 1e9,
                    mixed_bytes_per_second: 1e9,
                },
            }),
            start_ms: 0.0,
            small_job_ms: 0.0,
        }
    }

    #[test]
    fn a_row_that_fails_leaves_the_output_that_was_there() {
        let directory = std::env::temp_dir().join(format!("forebay-bench-output-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("a temporary directory");
        for name in ["sort-gensort", "distinct"] {
            let output = directory.join(name);
            let rows = suite::rows(&RunArguments {
                workloads: vec![name.into()],
                records: Some(1000),
                repeat: Some(1),
                output: Some(output.clone()),
                ..RunArguments::default()
            });
            let row = rows.expect("it is known").remove(0);
            let content = |path: &std::path::Path| match path.is_dir() {
                true => std::fs::read_dir(path).expect("readable").count() as u64,
                false => path.metadata().map_or(0, |data| data.len()),
            };
            let fails = |_: &Setting, _: &MachineLimits| Err(Error::config("no bare loop today"));
            let measure = |machine: &mut Machine| measure(&row, false, forebay::Progress::Off, Some(machine));
            // The first that fails leaves nothing, the next the output that the second wrote.
            measure(&mut machine(fails)).expect_err("its limit cannot be measured");
            assert!(!output.exists(), "{name}");
            measure(&mut machine(rows_workload_bare)).expect("it runs");
            let written = content(&output);
            assert!(written > 0, "{name}");
            let modified = || {
                output
                    .metadata()
                    .and_then(|data| data.modified())
                    .expect("it is there")
            };
            let before = modified();
            measure(&mut machine(fails)).expect_err("its limit cannot be measured");
            assert_eq!((content(&output), modified()), (written, before), "{name}");
        }
        assert_eq!(
            std::fs::read_dir(&directory).expect("readable").count(),
            2,
            "nothing is left beside them"
        );
        std::fs::remove_dir_all(&directory).expect("removable");
    }

    /// So that a process that is killed then leaves it, too.
    #[test]
    fn an_output_is_as_it_was_while_its_successor_is_measured() {
        let output = std::env::temp_dir().join(format!("forebay-bench-killed-{}", std::process::id()));
        std::fs::write(&output, b"before").expect("writable");
        let rows = suite::rows(&RunArguments {
            workloads: vec!["sort-gensort".into()],
            records: Some(1000),
            repeat: Some(1),
            output: Some(output.clone()),
            ..RunArguments::default()
        });
        let row = rows.expect("it is known").remove(0);
        let looks = |setting: &Setting, _: &MachineLimits| {
            let name = format!("forebay-bench-killed-{}", std::process::id());
            let new = setting.output.as_ref().expect("it writes a file");
            assert_eq!(new.metadata().expect("it is written").len(), 100_000);
            assert_eq!(
                std::fs::read(new.with_file_name(name)).expect("it is there"),
                b"before"
            );
            Ok(Bare {
                is_limit: true,
                rate: 1.0,
                name: "look".into(),
                what: "nothing".into(),
            })
        };
        measure(&row, false, forebay::Progress::Off, Some(&mut machine(looks))).expect("it runs");
        assert_eq!(output.metadata().expect("it is there").len(), 100_000);
        std::fs::remove_file(&output).expect("removable");
    }

    #[test]
    fn a_result_that_json_cannot_have_does_not_end_the_suite() {
        let row = |workload: &str| {
            let rows = suite::rows(&RunArguments {
                workloads: vec![workload.into()],
                ..RunArguments::default()
            });
            rows.expect("it is known").remove(0)
        };
        let json = std::env::temp_dir().join(format!("forebay-bench-infinite-{}.json", std::process::id()));
        let measured = measure_all(&[row("distinct"), row("topn"), row("join")], Some(&json), |row| {
            Ok(RunResult {
                workload: row.setting.workload.clone(),
                median_seconds: if row.setting.workload == "topn" {
                    f64::INFINITY
                } else {
                    1.0
                },
                seconds: vec![1.0],
                ..RunResult::default()
            })
        });
        let (results, written) = measured.expect("every row is measured");
        let names: Vec<&str> = results.iter().map(|result| &*result.workload).collect();
        assert_eq!(names, ["distinct", "topn", "join"]);
        let error = written.expect_err("one is infinite").to_string();
        assert!(error.contains("median_seconds is no finite number"), "{error}");
        assert_eq!(result::read(&json).expect("as before that row").len(), 1);
        std::fs::remove_file(&json).expect("removable");
    }

    #[test]
    fn a_loop_that_did_nothing_limits_nothing() {
        let rows = suite::rows(&RunArguments {
            workloads: vec!["sort-u64".into()],
            records: Some(1),
            repeat: Some(1),
            parallelism: Some(2),
            ..RunArguments::default()
        });
        let row = rows.expect("it is known").remove(0);
        let idle = |_: &Setting, _: &MachineLimits| {
            Ok(Bare {
                is_limit: true,
                rate: 0.0,
                name: "idle".into(),
                what: "nothing".into(),
            })
        };
        let result = measure(&row, false, forebay::Progress::Off, Some(&mut machine(idle))).expect("it runs");
        let limit = result.limit.expect("memory is read");
        assert!(
            limit.share.is_finite() && limit.name == "memory read",
            "{limit:?}"
        );
    }

    #[test]
    fn a_sort_is_compared_with_another_sort_and_bound_by_none() {
        let rows = suite::rows(&RunArguments {
            workloads: vec!["sort-u64".into()],
            records: Some(1000),
            repeat: Some(1),
            ..RunArguments::default()
        });
        let row = rows.expect("it is known").remove(0);
        let mut machine = machine(rows_workload_bare);
        let result = measure(&row, false, forebay::Progress::Off, Some(&mut machine)).expect("it runs");
        let comparison = result.comparison.clone().expect("std sorts, too");
        assert_eq!(comparison.name, "std sort");
        assert_eq!(result.limit.as_ref().expect("memory is read").name, "memory read");
        let table = table_of(&[result]);
        let (limits, comparisons) = table
            .split_once("Comparisons, which are no limits")
            .expect(&table);
        assert!(
            !limits.contains("std sort") && comparisons.contains("\n    sort-u64 "),
            "{table}"
        );
    }

    /// Every name that a row's limit can have is in the document's table, and no comparison is.
    #[test]
    fn limits_are_in_the_document() {
        let document = include_str!("../../docs/PERFORMANCE.md");
        let rates = crate::limits::Rates { one: 1e9, all: 1e9 };
        let limits = MachineLimits {
            threads: 1,
            read: rates,
            copy: rates,
            random_loads: rates,
            bytes: 0,
        };
        let mut names = vec!["memory read".to_string(), "disk".into(), "schedule".into()];
        for workload in workload::WORKLOADS {
            let rows = suite::rows(&RunArguments {
                workloads: vec![workload.name.into()],
                parallelism: Some(1),
                ..RunArguments::default()
            });
            let mut setting = rows.expect("it has defaults").remove(0).setting;
            setting.records = 6000;
            let _input = (workload.prepare)(&mut setting).expect(workload.name);
            let bare = (workload.bare)(&setting, &limits).expect(workload.name);
            let is_there = document.contains(&format!("\n| {} | ", bare.name));
            assert_eq!(is_there, bare.is_limit, "{}: {}", workload.name, bare.name);
            names.push(bare.name);
        }
        let (_, table) = document
            .split_once("| limit | the least time |\n|---|---|\n")
            .expect("it has a table");
        for line in table.lines().take_while(|line| line.starts_with('|')) {
            let name = line.split('|').nth(1).expect("a first column").trim();
            // Where keys are many it is another loop than with few.
            assert!(
                names.iter().any(|known| known == name) || name == "plain array",
                "{name}"
            );
        }
    }

    #[test]
    fn verified_runs_fail_over_a_wrong_result_or_too_much_memory() {
        let result = |verified, peak_rss_bytes| RunResult {
            workload: "sum".into(),
            verified,
            peak_rss_bytes,
            process_budget_bytes: 100,
            ..RunResult::default()
        };
        let check = |result, verify| check(&[result], verify).map_err(|error| error.to_string());
        assert_eq!(check(result(Some(true), 100), true), Ok(()));
        assert_eq!(check(result(None, 101), false), Ok(()), "the table has a note");
        let wrong = check(result(Some(false), 1), false).expect_err("it is wrong");
        assert!(wrong.contains("not the oracle's"), "{wrong}");
        let over = check(result(Some(true), 101), true).expect_err("it is over the plan");
        assert!(over.contains("101 B were resident"), "{over}");
    }

    #[test]
    fn a_job_of_ten_records_runs_on_the_default_plan() {
        assert!(small_job().expect("it runs").is_finite());
    }
}
