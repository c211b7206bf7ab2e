//! `sweep`: one workload over data of 0.25 to 32 times its memory, or over one memory after the other; time against a formula.
//!
//! # Algorithm
//! 1. How many records *fit*: the most with which the workload does not spill, by doubling and halving; or `--records`. Where the
//!    number of keys is fixed, no more records are tried than meet all of them: what does not spill then never does.
//! 2. Rounds over all points, so that a machine that changes meanwhile changes all of them; the disk is measured at the beginning of each
//!    round, and its best counts: a slow disk must not lower the bar.
//! 3. *Formula*: as much time a record as the largest point of at most 0.9 times what fits took, or the point of the most memory, and the
//!    bytes that were spilled over the disk's bandwidth. No term for merging, nor for caches that tables outgrow.

use crate::cli::{RunArguments, SweepArguments};
use crate::options::Choice;
use crate::places;
use crate::progress::Progress;
use crate::result::{self, RunResult, Spread};
use crate::run;
use crate::setting::Setting;
use crate::suite::{self, Row};
use crate::table::{self, Align};
use crate::workload;
use forebay::Runtime;
use forebay_memory::config::names::MANAGED_SIZE;
use forebay_memory::spill::{DiskBandwidth, SpillConfig, probe};
use forebay_memory::{ByteSize, Error, Result};

/// Each visit of a point is repeated until it has taken about so long, but no more often than [`MOST_REPEATS`]. The first visit begins
/// with one run, which tells how often that is.
const VISIT_SECONDS: f64 = 0.4;
const MOST_REPEATS: usize = 5;

/// Up to which part of what fits a point says how long a record takes in memory.
const IN_MEMORY: f64 = 0.9;

/// So many records for each of a fixed number of keys meet all but one in 3,000 of them.
const RECORDS_A_KEY: u64 = 8;

/// One setting that is visited in every round.
struct Point {
    setting: Setting,
    /// Its records by those that fit; the share of the first budget where budgets are swept.
    ratio: f64,
    /// The runs of a visit, once there was one.
    repeats: Option<usize>,
    result: Option<RunResult>,
}

/// What a point came to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    ratio: f64,
    records: f64,
    seconds: f64,
    written: f64,
    read: f64,
}

/// The best of the disk.
#[derive(Debug, Clone, Copy, Default)]
struct Disk {
    write: f64,
    read: f64,
}

impl Disk {
    fn best(self, now: &DiskBandwidth) -> Disk {
        Disk {
            write: self.write.max(now.write_bytes_per_second),
            read: self.read.max(now.read_bytes_per_second),
        }
    }

    fn seconds(self, point: &Measured) -> f64 {
        // Nothing takes no time, whatever the disk is.
        let time = |bytes: f64, rate: f64| if bytes > 0.0 { bytes / rate } else { 0.0 };
        time(point.written, self.write) + time(point.read, self.read)
    }
}

/// Sweeps what the command line asks for.
///
/// # Errors
/// Where a point cannot be run, or the workload never spills.
pub fn sweep(arguments: &SweepArguments) -> Result<()> {
    let base = base(arguments)?;
    if let Some(path) = &arguments.json {
        places::check_file("--json", path)?;
    }
    let by_budget = arguments.managed.len() > 1;
    let mut text = String::new();
    let mut results = Vec::new();
    let mut points = match by_budget {
        true => points_of_budgets(arguments, &base),
        false => {
            let fit = fit(arguments, &base)?;
            let verb = match arguments.records {
                Some(_) => "are taken to fit",
                None => "fit",
            };
            let (count, managed) = (table::count(fit as f64), arguments.managed[0]);
            text += &format!("{count} records {verb} in {managed}\n");
            points_of_ratios(arguments, &base, fit)
        }
    };
    let disk = measure(arguments, &mut points, 256 << 20)?;
    let measured: Vec<Measured> = points.iter().map(measured).collect();
    text += &format!(
        "disk: write {:.1} GB/s, read {:.1} GB/s, the best of {}; {}\n\n",
        disk.write / 1e9,
        disk.read / 1e9,
        arguments.rounds,
        in_memory(&measured, disk, by_budget)
    );
    text += &table_of(&points, &measured, disk, by_budget);
    text += &match by_budget {
        true => halvings(&measured, disk),
        false => growth(&measured, disk),
    };
    results.extend(points.into_iter().filter_map(|point| point.result));
    table::show(&text)?;
    // After the table, which is there to read where they cannot be written.
    if let Some(path) = &arguments.json {
        result::write(path, &results)?;
    }
    run::check_resident(&results)
}

/// The workload with its defaults.
fn base(arguments: &SweepArguments) -> Result<Row> {
    let says_managed = |assignment: &&String| {
        let (name, _) = assignment.split_once('=').unwrap_or_default();
        name.trim() == MANAGED_SIZE.name()
    };
    if let Some(assignment) = arguments.overrides.iter().find(says_managed) {
        return Err(Error::config(format!(
            "sweep: --set {assignment}: each point has the memory of --managed (64MiB where it is left out); say it there instead"
        )));
    }
    let mut rows = suite::rows(&RunArguments {
        workloads: vec![arguments.workload.clone()],
        managed: arguments.managed.first().copied(),
        parallelism: arguments.parallelism,
        overrides: arguments.overrides.clone(),
        keys: arguments.keys,
        ..RunArguments::default()
    })?;
    if workload::find(&arguments.workload)?.takes(Choice::Rate) {
        return Err(Error::config(format!(
            "sweep {}: it spills nothing, whatever its memory is; choose a workload that sorts, aggregates or joins",
            arguments.workload
        )));
    }
    if workload::tpch::is_query(&arguments.workload) {
        return Err(Error::config(format!(
            "sweep {0}: its data has a scale, not a number of records; choose another workload, or measure it at one size after the \
             other: run {0} --scale 0.1 --managed 64MiB",
            arguments.workload
        )));
    }
    if arguments.managed.len() > 1 && arguments.records.is_none() {
        return Err(Error::config(
            "sweep: several budgets (--managed) are swept with one number of records: say it with --records",
        ));
    }
    Ok(rows.remove(0))
}

/// The setting with so many records, and as many keys for each.
fn with_records(base: &Setting, records: u64, managed: ByteSize, keeps_keys: bool) -> Setting {
    let keys = match keeps_keys || base.keys == 0 {
        true => base.keys,
        false => ((base.keys as f64 / base.records as f64 * records as f64) as u64).max(1),
    };
    Setting {
        records,
        keys,
        managed: Some(managed.bytes()),
        ..base.clone()
    }
}

/// The most records that are not spilled, to half a per cent.
fn fit(arguments: &SweepArguments, base: &Row) -> Result<u64> {
    let managed = arguments.managed[0];
    if let Some(records) = arguments.records {
        return Ok(records);
    }
    let spills = |records: u64| -> Result<bool> {
        let row = Row {
            setting: with_records(&base.setting, records, managed, arguments.keys.is_some()),
            repeats: 1,
            warm_up: false,
        };
        let result = run::measure(&row, false, forebay::Progress::Off, None)?;
        Ok(result.spilled_bytes_written > 0)
    };
    let end = most_tried(managed, arguments.keys.filter(|_| has_even_keys(&base.setting)));
    let name = &arguments.workload;
    match most_without(managed.bytes() / 256, end, spills)? {
        Fit::Most(records) => Ok(records),
        Fit::Nothing => Err(Error::config(format!(
            "sweep {name}: a single record spills in {managed}, so that there is nothing to compare with; raise --managed{}",
            match arguments.keys {
                Some(keys) => format!(", or lower --keys {keys}"),
                None => String::new(),
            }
        ))),
        Fit::Everything => Err(Error::config(match arguments.keys {
            Some(keys) => format!(
                "sweep {name}: {keys} keys do not spill in {managed}, and have not with {end} records: there is no growth to measure; \
                 raise --keys, or lower --managed"
            ),
            None => format!(
                "sweep {name}: {end} records do not spill in {managed}: there is no growth to measure; lower --managed"
            ),
        })),
    }
}

/// Whether each key is as frequent as any other, so that a few records for each meet them all. Words never are.
fn has_even_keys(setting: &Setting) -> bool {
    setting.skew == 0.0 && setting.workload != "wordcount"
}

/// The most records with which it is tried whether they spill; `keys` are even.
fn most_tried(managed: ByteSize, keys: Option<u64>) -> u64 {
    // A record has a byte at least; and what keeps something of each key keeps no more when it has met them all.
    let all_keys = keys.map_or(u64::MAX, |keys| keys.saturating_mul(RECORDS_A_KEY));
    managed.bytes().min(all_keys)
}

/// How many records are not over a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Not even one.
    Nothing,
    /// So many.
    Most(u64),
    /// As many as were tried at most.
    Everything,
}

/// The most, to half a per cent, of which `is_over` is false: looked for from `from` on, up to `end`.
fn most_without(from: u64, end: u64, mut is_over: impl FnMut(u64) -> Result<bool>) -> Result<Fit> {
    let (mut low, mut high) = (0, from.min(end).max(1));
    while !is_over(high)? {
        if high >= end {
            return Ok(Fit::Everything);
        }
        (low, high) = (high, high.saturating_mul(2).min(end));
    }
    while high - low > (high / 200).max(1) {
        let middle = low.midpoint(high);
        match is_over(middle)? {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(match low {
        0 => Fit::Nothing,
        low => Fit::Most(low),
    })
}

fn points_of_ratios(arguments: &SweepArguments, base: &Row, fit: u64) -> Vec<Point> {
    let point = |ratio: &f64| {
        let records = ((fit as f64 * ratio) as u64).max(1);
        Point {
            setting: with_records(
                &base.setting,
                records,
                arguments.managed[0],
                arguments.keys.is_some(),
            ),
            ratio: *ratio,
            repeats: None,
            result: None,
        }
    };
    arguments.ratios.iter().map(point).collect()
}

fn points_of_budgets(arguments: &SweepArguments, base: &Row) -> Vec<Point> {
    let records = arguments.records.unwrap_or(base.setting.records);
    let mut budgets = arguments.managed.clone();
    budgets.sort_unstable_by_key(|budget| std::cmp::Reverse(budget.bytes()));
    let most = budgets[0].bytes() as f64;
    let point = |managed: ByteSize| Point {
        setting: with_records(&base.setting, records, managed, arguments.keys.is_some()),
        ratio: managed.bytes() as f64 / most,
        repeats: None,
        result: None,
    };
    budgets.into_iter().map(point).collect()
}

/// Visits all points in each round, and the disk with a file of so many bytes.
fn measure(arguments: &SweepArguments, points: &mut [Point], probed_bytes: u64) -> Result<Disk> {
    const DEPTH: usize = 8;
    let mut disk = Disk::default();
    let mut progress = Progress::new(arguments.rounds * points.len(), arguments.progress);
    for round in 0..arguments.rounds {
        let plan = workload::plan(&points[0].setting)?;
        let config = SpillConfig::from(&plan);
        // The store makes its directory, if need be.
        drop(Runtime::new(plan)?);
        disk = disk.best(&probe(
            &config.directories[0],
            config.write_bytes,
            DEPTH,
            probed_bytes,
        )?);
        for point in &mut *points {
            progress.begin(&format!("round {} {}", round + 1, point.setting.label()));
            let result = visit(point)?;
            point.result = Some(match point.result.take() {
                Some(before) => both(before, result)?,
                None => result,
            });
            progress.step();
        }
    }
    Ok(disk)
}

/// Visits a point: as often as the last visit says, or once, which is enough where that takes long; where it does not, that run has
/// warmed up those that count.
fn visit(point: &mut Point) -> Result<RunResult> {
    let setting = &point.setting;
    let run = |repeats: usize| {
        let row = Row {
            setting: setting.clone(),
            repeats,
            warm_up: repeats > 1,
        };
        run::measure(&row, false, forebay::Progress::Off, None)
    };
    let enough =
        |result: &RunResult| ((VISIT_SECONDS / result.median_seconds) as usize).clamp(1, MOST_REPEATS);
    let mut result = run(point.repeats.unwrap_or(1))?;
    if point.repeats.is_none() && enough(&result) > 1 {
        result = run(enough(&result))?;
    }
    point.repeats = Some(enough(&result));
    Ok(result)
}

/// The results of two visits of a point as one.
fn both(mut one: RunResult, other: RunResult) -> Result<RunResult> {
    if one.result_hash != other.result_hash {
        return Err(Error::corrupt(format!(
            "{}: two runs on the same input have different results, {} and {}",
            one.identity(),
            one.result_hash,
            other.result_hash
        )));
    }
    one.seconds.extend(other.seconds);
    one.repeats = one.seconds.len();
    one.median_seconds = Spread::of(&one.seconds).map_or(f64::NAN, |spread| spread.median);
    one.records_per_second = one.records as f64 / one.median_seconds;
    one.peak_rss_bytes = one.peak_rss_bytes.max(other.peak_rss_bytes);
    one.managed_peak_bytes = one.managed_peak_bytes.max(other.managed_peak_bytes);
    one.spilled_bytes_written = one.spilled_bytes_written.max(other.spilled_bytes_written);
    one.spilled_bytes_read = one.spilled_bytes_read.max(other.spilled_bytes_read);
    Ok(one)
}

fn measured(point: &Point) -> Measured {
    let result = point.result.as_ref().expect("every point is visited");
    Measured {
        ratio: point.ratio,
        records: result.records as f64,
        seconds: result.median_seconds,
        written: result.spilled_bytes_written as f64,
        read: result.spilled_bytes_read as f64,
    }
}

/// The point that says how long a record takes in memory: of budgets, the first; of ratios, the largest that fits, or the least of all
/// where none does.
fn reference(points: &[Measured], by_budget: bool) -> Option<&Measured> {
    let order = |a: &&Measured, b: &&Measured| a.ratio.total_cmp(&b.ratio);
    let fits = |point: &&Measured| point.ratio <= IN_MEMORY;
    match by_budget {
        true => points.first(),
        false => (points.iter().filter(fits).max_by(order)).or_else(|| points.iter().min_by(order)),
    }
}

/// How long a record takes in memory: as in the reference, without the disk's time there. None where that has no time left.
fn record_seconds(points: &[Measured], disk: Disk, by_budget: bool) -> Option<f64> {
    let reference = reference(points, by_budget)?;
    let seconds = (reference.seconds - disk.seconds(reference)) / reference.records;
    (seconds.is_finite() && seconds > 0.0).then_some(seconds)
}

/// What the formula takes for the time in memory, in words.
fn in_memory(points: &[Measured], disk: Disk, by_budget: bool) -> String {
    let Some(reference) = reference(points, by_budget) else {
        return "nothing was measured".into();
    };
    let (place, remedy) = match by_budget {
        true => (
            "in the largest budget".to_string(),
            "a larger budget to --managed".to_string(),
        ),
        false => (
            format!("at {} ×", reference.ratio),
            format!("a ratio of at most {IN_MEMORY} to --ratios"),
        ),
    };
    match (record_seconds(points, disk, by_budget), reference.written > 0.0) {
        (Some(_), false) => format!("a record in memory takes what it took {place}"),
        (Some(_), true) => format!(
            "a record in memory takes what it took {place}, without the disk's time for what was spilled there"
        ),
        (None, _) => format!(
            "there is no formula: {place} the disk alone should have taken longer than the run did, so that nothing says how long a \
             record takes in memory; add {remedy}"
        ),
    }
}

/// The time of each point over its formula; none where there is no formula.
fn over_formula(points: &[Measured], disk: Disk, by_budget: bool) -> Vec<Option<f64>> {
    let a_record = record_seconds(points, disk, by_budget);
    let over = |point: &Measured| {
        let over = point.seconds / (a_record? * point.records + disk.seconds(point));
        (over.is_finite() && over > 0.0).then_some(over)
    };
    points.iter().map(over).collect()
}

/// A number as `show` has it, or a dash where there is none.
fn or_dash(number: Option<f64>, show: impl Fn(f64) -> String) -> String {
    number
        .filter(|number| number.is_finite())
        .map_or("-".into(), show)
}

fn table_of(points: &[Point], measured: &[Measured], disk: Disk, by_budget: bool) -> String {
    let header = [
        (if by_budget { "managed" } else { "of what fits" }, Align::Right),
        ("records", Align::Right),
        ("median [least–most]", Align::Right),
        ("a record", Align::Right),
        ("spilled", Align::Right),
        ("time / formula", Align::Right),
        ("RSS / plan", Align::Right),
    ];
    let rows: Vec<Vec<String>> = points
        .iter()
        .zip(measured)
        .zip(over_formula(measured, disk, by_budget))
        .map(|((point, measured), over)| {
            let result = point.result.as_ref().expect("every point is visited");
            let spread = Spread::of(&result.seconds).expect("every point is visited");
            vec![
                match by_budget {
                    true => table::bytes(result.managed_bytes),
                    false => format!("{} ×", point.ratio),
                },
                table::count(measured.records),
                format!(
                    "{} [{}–{}]",
                    table::seconds(spread.median),
                    table::seconds(spread.least),
                    table::seconds(spread.most)
                ),
                or_dash(Some(measured.seconds / measured.records), |seconds| {
                    format!("{:.2} ns", seconds * 1e9)
                }),
                table::bytes(result.spilled_bytes_written),
                or_dash(over, |over| format!("{over:.2}")),
                format!(
                    "{} / {}",
                    table::bytes(result.peak_rss_bytes),
                    table::bytes(result.process_budget_bytes)
                ),
            ]
        })
        .collect();
    table::render(&header, &rows)
}

/// What a sweep of ratios comes to: the worst point, the slope, and the edge.
fn growth(points: &[Measured], disk: Disk) -> String {
    let over = over_formula(points, disk, false);
    let mut text = String::new();
    let known = || {
        points
            .iter()
            .zip(&over)
            .filter_map(|(point, over)| Some((point, (*over)?)))
    };
    let worst = known().max_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((point, over)) = worst {
        text += &format!("time / formula: {over:.2} at most, at {} ×", point.ratio);
    }
    let logs: Vec<(f64, f64)> = known()
        .filter(|(point, _)| point.ratio >= 1.0)
        .map(|(point, over)| (point.ratio.ln(), over.ln()))
        .collect();
    if let Some(slope) = slope(&logs) {
        text += &format!("; its slope from 1 × on, both as logarithms: {slope:+.2}");
    }
    let at = |ratio: f64| {
        let point = points.iter().find(|point| (point.ratio - ratio).abs() < 1e-9);
        let seconds = point.map(|point| point.seconds / point.records);
        seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0)
    };
    if let (Some(below), Some(above)) = (at(0.95), at(1.05)) {
        text += &format!(
            "{}a record at 1.05 × takes {:.2} × what it takes at 0.95 ×",
            if text.is_empty() { "" } else { "\n" },
            above / below
        );
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// What halving a budget costs, over what the formula says that it costs.
fn halvings(points: &[Measured], disk: Disk) -> String {
    let over = over_formula(points, disk, true);
    let steps = over.windows(2).filter_map(|pair| Some(pair[1]? / pair[0]?));
    match steps.max_by(f64::total_cmp) {
        Some(most) => format!("a step to the next budget costs {most:.2} × what the formula says, at most\n"),
        None => String::new(),
    }
}

/// The slope of the line that is nearest to the points, by least squares; none for fewer than two places.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let (x, y) = (x / count, y / count);
    let products = points.iter().map(|point| (point.0 - x) * (point.1 - y));
    let squares: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (squares > 0.0).then(|| products.sum::<f64>() / squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Disk = Disk {
        write: 1e9,
        read: 2e9,
    };

    /// So many nanoseconds a record in memory, and each record over 1,000 is written and read with 16 bytes, `factor` times as slowly.
    fn point(ratio: f64, factor: f64) -> Measured {
        let records = 1000.0 * ratio;
        let spilled = (records - 1000.0).max(0.0) * 16.0;
        let point = Measured {
            ratio,
            records,
            seconds: 0.0,
            written: spilled,
            read: spilled,
        };
        Measured {
            seconds: factor * (records * 10e-9 + DISK.seconds(&point)),
            ..point
        }
    }

    #[test]
    fn what_takes_as_long_as_its_formula_is_one_everywhere_and_has_no_slope() {
        let points: Vec<Measured> = [0.5, 0.9, 0.95, 1.05, 4.0, 32.0]
            .map(|ratio| point(ratio, 1.0))
            .into();
        let over = over_formula(&points, DISK, false);
        let is_one = |over: &Option<f64>| over.is_some_and(|over| (over - 1.0).abs() < 1e-9);
        assert!(over.iter().all(is_one), "{over:?}");
        let text = growth(&points, DISK);
        assert!(
            text.contains("slope from 1 × on, both as logarithms: +0.00"),
            "{text}"
        );
        // 10 ns, and 0.05 / 1.05 of 24 ns.
        assert!(text.contains("a record at 1.05 × takes 1.11 ×"), "{text}");
    }

    #[test]
    fn what_slows_down_as_it_grows_has_a_slope() {
        let points: Vec<Measured> = [0.9, 1.0, 2.0, 4.0, 8.0]
            .map(|ratio| point(ratio, ratio.max(1.0).sqrt()))
            .into();
        let text = growth(&points, DISK);
        assert!(text.contains("2.83 at most, at 8 ×"), "{text}");
        assert!(text.contains("+0.50"), "{text}");
    }

    #[test]
    fn a_step_to_the_next_budget_is_measured_against_the_formulas_step() {
        let mut points = [1.0, 0.5, 0.25].map(|share| Measured {
            ratio: share,
            records: 1000.0,
            seconds: 0.0,
            written: (1.0 - share) * 16_000.0,
            read: (1.0 - share) * 16_000.0,
        });
        for (point, factor) in points.iter_mut().zip([1.0, 1.5, 1.8]) {
            point.seconds = factor * (10e-6 + DISK.seconds(point));
        }
        let text = halvings(&points, DISK);
        assert!(text.contains("costs 1.50 × what the formula says"), "{text}");
    }

    #[test]
    fn the_most_that_fits_is_found_to_half_a_per_cent() {
        for limit in [1u64, 2, 700, 12_345, 900_000] {
            let mut asked = 0;
            let found = most_without(16, 1_000_000, |records| {
                asked += 1;
                Ok(records > limit)
            });
            let found = match found.expect("no run fails") {
                Fit::Most(found) => found,
                other => panic!("{limit}: {other:?}"),
            };
            assert!(
                found <= limit && limit - found <= (limit / 190).max(1),
                "{found} of {limit}"
            );
            assert!(asked < 40, "{asked} runs");
        }
        let found =
            |from, end, limit| most_without(from, end, |records| Ok(records > limit)).expect("no run fails");
        assert_eq!(found(16, 1000, u64::MAX), Fit::Everything);
        assert_eq!(found(16, 1000, 0), Fit::Nothing, "not even one");
        assert_eq!(found(16, 1000, 996), Fit::Most(996), "near the end");
    }

    #[test]
    fn no_more_records_are_tried_than_have_a_byte_each_or_meet_all_keys() {
        let mut tried = Vec::new();
        let end = most_tried(ByteSize(64 << 30), Some(1000));
        let found = most_without(64 << 22, end, |records| {
            tried.push(records);
            Ok(false)
        });
        assert_eq!(
            (found.expect("no run fails"), tried),
            (Fit::Everything, vec![8000])
        );
        assert_eq!(most_tried(ByteSize::mib(2), None), 2 << 20);
        assert_eq!(most_tried(ByteSize::mib(2), Some(u64::MAX)), 2 << 20);
    }

    #[test]
    fn few_keys_that_never_spill_are_refused_with_what_to_raise() {
        let arguments = SweepArguments {
            workload: "aggregate".into(),
            managed: vec![ByteSize(2 << 20)],
            keys: Some(10),
            overrides: vec!["memory.segment_size=4KiB".into()],
            ..SweepArguments::default()
        };
        let base_row = base(&arguments).expect("it exists");
        let error = fit(&arguments, &base_row).expect_err("ten keys fit").to_string();
        assert!(
            error.contains("10 keys do not spill in 2 MiB, and have not with 80 records")
                && error.contains("raise --keys"),
            "{error}"
        );
    }

    #[test]
    fn keys_of_which_few_are_frequent_do_not_bound_how_many_records_are_tried() {
        for (workload, skew, even) in [
            ("aggregate", 0.0, true),
            ("aggregate", 0.5, false),
            ("wordcount", 0.0, false),
        ] {
            let arguments = SweepArguments {
                workload: workload.into(),
                ..SweepArguments::default()
            };
            let mut setting = base(&arguments).expect("it exists").setting;
            setting.skew = skew;
            assert_eq!(has_even_keys(&setting), even, "{workload} {skew}");
        }
    }

    /// Where everything spills and the disk is slower in the probe than in the runs, no time is left for memory.
    #[test]
    fn where_there_is_no_formula_there_is_a_dash_and_no_number() {
        let all_disk = |ratio: f64| Measured {
            seconds: DISK.seconds(&point(ratio, 1.0)) * 0.9,
            ..point(ratio, 1.0)
        };
        let nothing = Measured {
            seconds: 0.0,
            ..point(0.5, 1.0)
        };
        for points in [
            vec![all_disk(4.0), all_disk(8.0)],
            vec![nothing, point(1.05, 1.0)],
            Vec::new(),
        ] {
            for by_budget in [false, true] {
                let over = over_formula(&points, DISK, by_budget);
                assert_eq!(over, vec![None; points.len()]);
                let text = match by_budget {
                    true => halvings(&points, DISK),
                    false => growth(&points, DISK),
                };
                assert_eq!(text, "");
            }
        }
        assert_eq!(or_dash(None, |number| number.to_string()), "-");
        assert_eq!(or_dash(Some(f64::INFINITY), |number| number.to_string()), "-");
        let text = in_memory(&[all_disk(4.0), all_disk(8.0)], DISK, false);
        assert!(
            text.contains("there is no formula: at 4 ×") && text.contains("at most 0.9"),
            "{text}"
        );
        // In the probe's time, and as long again in memory.
        let spilled = [point(4.0, 1.0), point(8.0, 1.0)];
        let text = in_memory(&spilled, DISK, false);
        assert!(text.contains("at 4 ×, without the disk's time"), "{text}");
    }

    #[test]
    fn a_line_needs_two_places() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(slope(&[(1.0, 2.0), (3.0, 1.0)]), Some(-0.5));
    }

    #[test]
    fn a_workload_is_swept_over_ratios_and_over_budgets() {
        let arguments = SweepArguments {
            workload: "sort-u64".into(),
            managed: vec![ByteSize(2 << 20)],
            ratios: vec![0.5, 3.0],
            overrides: vec!["memory.segment_size=4KiB".into()],
            rounds: 2,
            ..SweepArguments::default()
        };
        let base_row = base(&arguments).expect("it exists");
        let fit = fit(&arguments, &base_row).expect("it spills at some size");
        let mut points = points_of_ratios(&arguments, &base_row, fit);
        measure(&arguments, &mut points, 4 << 20).expect("it runs");
        let spilled = |point: &Point| {
            point
                .result
                .as_ref()
                .map(|result| result.spilled_bytes_written > 0)
        };
        assert_eq!(
            points.iter().map(spilled).collect::<Vec<_>>(),
            [Some(false), Some(true)]
        );
        let arguments = SweepArguments {
            managed: vec![ByteSize(2 << 20), ByteSize(8 << 20)],
            records: Some(3 * fit),
            ..arguments
        };
        let mut points = points_of_budgets(&arguments, &base_row);
        measure(&arguments, &mut points, 4 << 20).expect("it runs");
        assert_eq!(
            points.iter().map(spilled).collect::<Vec<_>>(),
            [Some(false), Some(true)],
            "the largest first"
        );
        assert_eq!(
            points[0].result.as_ref().map(|result| result.seconds.len() >= 2),
            Some(true)
        );
        let [fits, _] = &mut points[..] else {
            panic!("two budgets")
        };
        fits.repeats = Some(3);
        assert_eq!(visit(fits).expect("it runs").seconds.len(), 3);
        // A first visit tells by one run how many are enough.
        fits.repeats = None;
        let runs = visit(fits).expect("it runs").seconds.len();
        assert!(
            (1..=MOST_REPEATS).contains(&runs) && fits.repeats.is_some(),
            "{runs}"
        );
    }

    #[test]
    fn what_cannot_be_swept_is_refused_with_what_can() {
        let error = |arguments: &SweepArguments| base(arguments).expect_err("refused").to_string();
        let schedule = SweepArguments {
            workload: "exchange".into(),
            ..SweepArguments::default()
        };
        assert!(
            error(&schedule).contains("choose a workload"),
            "{}",
            error(&schedule)
        );
        let scaled = SweepArguments {
            workload: "tpch-q1".into(),
            ..SweepArguments::default()
        };
        assert!(
            error(&scaled).contains("run tpch-q1 --scale"),
            "{}",
            error(&scaled)
        );
        let budgets = SweepArguments {
            managed: vec![ByteSize::mib(64), ByteSize::mib(32)],
            ..SweepArguments::default()
        };
        assert!(error(&budgets).contains("--records"), "{}", error(&budgets));
        let twice = SweepArguments {
            overrides: vec!["memory.managed_size=256MiB".into()],
            ..SweepArguments::default()
        };
        assert!(error(&twice).contains("of --managed"), "{}", error(&twice));
    }
}
