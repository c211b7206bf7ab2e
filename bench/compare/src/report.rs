//! The table, as Markdown, and the results as the harness writes them.

use crate::cli::Budget;
use crate::expected::Answer;
use crate::point::Point;
use forebay_bench::result::{RunResult, Spread};
use forebay_bench::table;

/// What came of one engine at one point in one budget.
#[derive(Debug, Clone)]
pub struct Row {
    /// The engine, with its version.
    pub engine: String,
    /// The time of each measured run.
    pub seconds: Vec<f64>,
    /// The most resident memory of any process.
    pub peak_rss_bytes: u64,
    /// Processor time of one process, with reading, warming up and checking.
    pub cpu_seconds: f64,
    /// The engine's own settings, and where its process was not bounded, that.
    pub notes: Vec<String>,
    /// Why there are no times.
    pub failure: Option<String>,
    /// Whether its result was compared and right.
    pub verified: bool,
    /// What the harness reports of ours.
    pub ours: Option<RunResult>,
}

/// Everything that was measured at one point in one budget.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The point.
    pub point: Point,
    /// The budget.
    pub budget: Budget,
    /// Bytes that each process may use.
    pub process_bytes: Option<u64>,
    /// How that was enforced.
    pub confined_by: &'static str,
    /// The right answer.
    pub answer: Answer,
    /// A row for each engine, ours last.
    pub rows: Vec<Row>,
}

/// The budget as it is written: "256 MiB (process 562 MiB)".
pub fn budget_name(budget: Budget, process_bytes: Option<u64>) -> String {
    match (budget, process_bytes) {
        (Budget::Managed(size), Some(process)) => {
            format!("{} / {}", table::bytes(size.bytes()), table::bytes(process))
        }
        _ => "unlimited".into(),
    }
}

/// The table.
pub fn markdown(measured: &[Measured]) -> String {
    let mut text = String::from(
        "| point | budget: managed / process | engine | median [least–most] × runs | ours is | peak RSS | notes |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for at in measured {
        let ours = at.rows.iter().find(|row| row.ours.is_some());
        for row in &at.rows {
            let spread = Spread::of(&row.seconds);
            let time = match (spread, &row.failure) {
                (Some(spread), _) => format!(
                    "{} [{}–{}] × {}",
                    table::seconds(spread.median),
                    table::seconds(spread.least),
                    table::seconds(spread.most),
                    row.seconds.len()
                ),
                (None, Some(failure)) => failure.replace('|', "/"),
                (None, None) => "–".into(),
            };
            let ratio = match (
                ours.filter(|ours| ours.ours.is_some() && row.ours.is_none()),
                spread,
            ) {
                (Some(ours), Some(theirs)) => {
                    Spread::of(&ours.seconds).map_or(String::new(), |ours| verdict(ours, theirs))
                }
                _ => String::new(),
            };
            let rss = match row.peak_rss_bytes {
                0 => "–".into(),
                bytes => table::bytes(bytes),
            };
            let mut notes = row.notes.clone();
            if let Some(spilled) = row.ours.as_ref().map(|ours| ours.spilled_bytes_written)
                && spilled > 0
            {
                notes.push(format!("{} spilled", table::bytes(spilled)));
            }
            if spread.is_some() && !row.verified {
                notes.push("result not compared".into());
            }
            text += &format!(
                "| {} | {} | {} | {time} | {ratio} | {rss} | {} |\n",
                at.point.name(),
                budget_name(at.budget, at.process_bytes),
                row.engine,
                notes.join("; "),
            );
        }
    }
    text
}

/// "2.1 × as fast", or that the ranges overlap.
fn verdict(ours: Spread, theirs: Spread) -> String {
    let ratio = theirs.median / ours.median;
    if ours.overlaps(theirs) {
        format!("{ratio:.2} × (ranges overlap)")
    } else {
        format!("{ratio:.2} × as fast")
    }
}

/// The results in the harness's format.
pub fn results(measured: &[Measured], threads: u32) -> Vec<RunResult> {
    let mut results = Vec::new();
    for at in measured {
        for row in &at.rows {
            let mut setting = format!("{}, {}", at.point.label, budget_name(at.budget, at.process_bytes));
            if at.process_bytes.is_some() {
                setting += &format!(", bounded by {}", at.confined_by);
            }
            for note in &row.notes {
                setting += &format!(", {note}");
            }
            let median = Spread::of(&row.seconds).map_or(0.0, |spread| spread.median);
            let records = at.point.records();
            let base = row.ours.clone().unwrap_or_default();
            results.push(RunResult {
                workload: at.point.question.workload().into(),
                engine: row.engine.clone(),
                mode: "batch".into(),
                parallelism: threads as usize,
                records,
                bytes: at.point.bytes(),
                managed_bytes: match at.budget {
                    Budget::Managed(size) => size.bytes(),
                    Budget::Unlimited => base.managed_bytes,
                },
                repeats: row.seconds.len(),
                seconds: row.seconds.clone(),
                median_seconds: median,
                records_per_second: if median > 0.0 {
                    records as f64 / median
                } else {
                    0.0
                },
                peak_rss_bytes: row.peak_rss_bytes,
                process_budget_bytes: at.process_bytes.unwrap_or(base.process_budget_bytes),
                result_records: at.answer.rows,
                verified: row.verified.then_some(true),
                setting,
                cpu_seconds: Some(row.cpu_seconds),
                failure: row.failure.clone(),
                ..base
            });
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point;
    use forebay_memory::ByteSize;

    fn measured() -> Measured {
        let row = |engine: &str, seconds: &[f64]| Row {
            engine: engine.into(),
            seconds: seconds.to_vec(),
            peak_rss_bytes: 0,
            cpu_seconds: 1.0,
            notes: vec!["own limit 450 MiB".into()],
            failure: None,
            verified: true,
            ours: None,
        };
        Measured {
            point: point::all(1.0).remove(0),
            budget: Budget::Managed(ByteSize::mib(256)),
            process_bytes: Some(562 << 20),
            confined_by: "cgroup v1",
            answer: Answer {
                rows: 5,
                sums: Vec::new(),
            },
            rows: vec![
                row("A 1", &[2.0, 2.2, 2.1]),
                row("B 2", &[0.9, 1.0, 1.1]),
                Row {
                    failure: Some("out of memory".into()),
                    ..row("C 3", &[])
                },
                Row {
                    ours: Some(RunResult::default()),
                    ..row("forebay", &[1.0, 1.05])
                },
            ],
        }
    }

    #[test]
    fn the_table_says_ratios_overlaps_and_failures() {
        let text = markdown(&[measured()]);
        for part in [
            "| A 1 | 2.10 s [2.00 s–2.20 s] × 3 | 2.05 × as fast | – | own limit 450 MiB |",
            "0.98 × (ranges overlap)",
            "| C 3 | out of memory |",
            "256 MiB / 562 MiB",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn results_are_read_by_the_harness() {
        let path = std::env::temp_dir().join(format!("forebay-compare-json-{}", std::process::id()));
        let results = results(&[measured()], 2);
        forebay_bench::result::write(&path, &results).expect("writable");
        let read = forebay_bench::result::read(&path).expect("the harness's format");
        std::fs::remove_file(&path).expect("removable");
        let what = |result: &RunResult| (result.identity(), result.engine.clone(), result.seconds.clone());
        assert!(read.iter().map(what).eq(results.iter().map(what)), "{read:?}");
        assert_eq!(read[2].failure.as_deref(), Some("out of memory"));
        assert_eq!(read[0].process_budget_bytes, 562 << 20);
    }
}
