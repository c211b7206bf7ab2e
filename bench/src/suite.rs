//! Which settings a command line means: the rows of a suite, or the named workloads with the given options.

use crate::cli::{RunArguments, SuiteName};
use crate::data::tpch::LINE_ITEMS;
use crate::setting::{Emit, JoinOptions, Mode, Setting};
use crate::workload::{self, LEAST_ROW, WORKLOADS, tpch};
use forebay_memory::size::MIB;
use forebay_memory::{Error, Result};

/// A setting and how often it is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What is measured.
    pub setting: Setting,
    /// How often.
    pub repeats: usize,
    /// Whether an unmeasured run comes first.
    pub warm_up: bool,
}

/// The rows that the options ask for.
///
/// # Errors
/// Where a workload is unknown or an option makes no sense.
pub fn rows(arguments: &RunArguments) -> Result<Vec<Row>> {
    if arguments.keys == Some(0) {
        return Err(Error::config("--keys 0: data has at least one key"));
    }
    if let Some(managed) = arguments.managed
        && let Some(other) =
            (arguments.overrides.iter()).find(|other| other.starts_with("memory.managed_size="))
    {
        return Err(Error::config(format!(
            "--managed {managed} and --set {other} both say how much memory is managed: leave one of them out"
        )));
    }
    let mut rows = Vec::new();
    for name in &arguments.workloads {
        let workload = workload::find(name)?;
        if let Some(bytes) = arguments.row_bytes {
            if name != "aggregate" || !arguments.input.is_empty() || arguments.from_file {
                return Err(Error::config(format!(
                    "--row-bytes: wide records are made for the workload aggregate, not read from files, and not for {name}"
                )));
            }
            if !(LEAST_ROW..=64 << 10).contains(&bytes) {
                return Err(Error::config(format!(
                    "--row-bytes: {bytes} is not a size that a wide record may have; use {LEAST_ROW} to 65536"
                )));
            }
        }
        if arguments.rate.is_some() && !workload.has_schedule {
            return Err(Error::config(format!(
                "--rate: {name} takes its records as fast as it can; exchange is the workload with a schedule"
            )));
        }
        if arguments.scale.is_some() && !tpch::is_query(name) {
            return Err(Error::config(format!(
                "--scale: {name} is no TPC-H query; choose the size of its input by --records"
            )));
        }
        rows.push(row(name, arguments));
    }
    if arguments.workloads.is_empty() {
        rows = match arguments.suite {
            SuiteName::Quick => quick(arguments),
            SuiteName::Full => full(arguments),
            SuiteName::Tpch => queries(arguments),
        };
    }
    Ok(rows)
}

/// A workload with its defaults and the options given.
fn row(name: &str, arguments: &RunArguments) -> Row {
    let workload = WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .expect("suites name workloads that exist");
    let mode = arguments.mode.unwrap_or(match arguments.emit {
        Some(Emit::Updates) => Mode::Streaming,
        _ => Mode::Batch,
    });
    let of_scale = |scale: f64| (scale * LINE_ITEMS as f64).round() as u64;
    let records = match (arguments.records, arguments.scale) {
        (None, Some(scale)) if tpch::is_query(name) => of_scale(scale),
        (records, _) => records.unwrap_or(workload.records),
    };
    let emit = match mode {
        Mode::Streaming => Emit::Updates,
        Mode::Batch => Emit::Final,
    };
    let keys = match workload.keys {
        0 => 0,
        // Every key new stays so when other records are asked for.
        keys if keys == workload.records => records,
        keys => keys,
    };
    let repeats = arguments.repeat.unwrap_or(3);
    Row {
        setting: Setting {
            workload: name.to_string(),
            records,
            keys: arguments.keys.unwrap_or(keys),
            skew: arguments.skew.unwrap_or(0.0),
            managed: arguments.managed.map(|size| size.bytes()),
            parallelism: arguments.parallelism.unwrap_or_else(cores),
            mode,
            emit: arguments
                .emit
                .unwrap_or(if workload.emits_updates { emit } else { Emit::Final }),
            seed: arguments.seed,
            config: arguments.config.clone(),
            overrides: arguments.overrides.clone(),
            input: arguments.input.clone(),
            from_file: arguments.from_file,
            row_bytes: arguments.row_bytes.unwrap_or(0),
            output: arguments.output.clone(),
            rate: arguments.rate.unwrap_or(0),
            checked: false,
            join: JoinOptions {
                kind: arguments.join.unwrap_or(JoinOptions::default().kind),
                selectivity: arguments
                    .selectivity
                    .unwrap_or(JoinOptions::default().selectivity),
                hot: arguments.hot.unwrap_or(0.0),
                wide: arguments.wide,
                strategy: arguments.strategy.unwrap_or_default(),
            },
        },
        repeats,
        warm_up: repeats > 1,
    }
}

/// One core, one slot.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Builds the rows of a suite: options that the row does not set itself apply to every row.
struct Builder<'a> {
    arguments: &'a RunArguments,
    rows: Vec<Row>,
}

impl Builder<'_> {
    fn add(&mut self, workload: &str, change: impl FnOnce(&mut RunArguments)) {
        let mut arguments = RunArguments {
            workloads: Vec::new(),
            input: Vec::new(),
            ..self.arguments.clone()
        };
        change(&mut arguments);
        let mut row = row(workload, &arguments);
        if row.setting.rate > 0 {
            // Its length is fixed by its schedule, and its first records are not measured.
            (row.repeats, row.warm_up) = (1, false);
        }
        self.rows.push(row);
    }
}

fn quick(arguments: &RunArguments) -> Vec<Row> {
    let mut suite = Builder {
        arguments,
        rows: Vec::new(),
    };
    let size = |bytes| Some(forebay_memory::ByteSize(bytes));
    for mode in [Mode::Batch, Mode::Streaming] {
        suite.add("wordcount", |options| {
            (options.mode, options.records) = (Some(mode), Some(5_000_000))
        });
    }
    suite.add("wordcount", |options| {
        (options.managed, options.keys, options.records) = (size(24 * MIB), Some(2_000_000), Some(3_000_000));
    });
    for mode in [Mode::Batch, Mode::Streaming] {
        suite.add("keyed-sum", |options| {
            (options.mode, options.records) = (Some(mode), Some(20_000_000));
        });
    }
    suite.add("keyed-sum", |options| {
        (options.skew, options.records) = (Some(1.0), Some(10_000_000))
    });
    suite.add("aggregate", |options| options.records = Some(4_000_000));
    for mode in [Mode::Batch, Mode::Streaming] {
        suite.add("aggregate", |options| {
            (options.mode, options.managed, options.records) = (Some(mode), size(64 * MIB), Some(4_000_000));
        });
    }
    suite.add("keyed-sum", |options| {
        options.mode = Some(Mode::Streaming);
        (options.managed, options.records, options.keys) = (size(24 * MIB), Some(4_000_000), Some(2_000_000));
    });
    suite.add("distinct", |_| ());
    suite.add("join", |_| ());
    suite.add("join", |options| options.managed = size(24 * MIB));
    suite.add("exchange", |_| ());
    suite.add("exchange", |options| {
        options.mode = Some(Mode::Streaming);
        (options.rate, options.records) = (Some(1_000_000), Some(2_000_000));
        options.overrides.push("network.buffer_timeout=1ms".into());
    });
    suite.add("sort-u64", |_| ());
    suite.add("sort-u64", |options| options.managed = size(64 * MIB));
    suite.add("topn", |_| ());
    suite.add("sort-presorted", |_| ());
    suite.add("sort-mixed", |options| {
        (options.managed, options.records) = (size(64 * MIB), Some(1_000_000));
    });
    suite.add("sort-gensort", |options| {
        // What others write are directories.
        options.output = None;
        (options.managed, options.records) = (size(64 * MIB), Some(2_000_000));
    });
    for query in ["tpch-q1", "tpch-q3"] {
        suite.add(query, |options| options.scale = Some(0.1));
    }
    suite.rows
}

fn queries(arguments: &RunArguments) -> Vec<Row> {
    let mut suite = Builder {
        arguments,
        rows: Vec::new(),
    };
    for workload in WORKLOADS.iter().filter(|workload| tpch::is_query(workload.name)) {
        suite.add(workload.name, |_| ());
    }
    suite.rows
}

fn full(arguments: &RunArguments) -> Vec<Row> {
    let mut suite = Builder {
        arguments,
        rows: Vec::new(),
    };
    let size = |bytes| Some(forebay_memory::ByteSize(bytes));
    for mode in [Mode::Batch, Mode::Streaming] {
        suite.add("keyed-sum", |options| {
            (options.mode, options.records) = (Some(mode), Some(50_000_000))
        });
    }
    for skew in [0.0, 1.0] {
        suite.add("keyed-sum", |options| {
            (options.skew, options.from_file, options.records) = (Some(skew), true, Some(50_000_000));
        });
    }
    suite.add("aggregate", |options| options.records = Some(100_000_000));
    suite.add("aggregate", |options| {
        (options.records, options.managed) = (Some(100_000_000), size(256 * MIB));
    });
    suite.add("distinct", |options| {
        (options.records, options.keys) = (Some(50_000_000), Some(20_000_000))
    });
    for managed in [None, size(256 * MIB), size(64 * MIB), size(16 * MIB)] {
        suite.add("join", |options| {
            (options.records, options.keys) = (Some(50_000_000), Some(10_000_000));
            options.managed = managed;
        });
    }
    suite.add("wordcount", |options| options.records = Some(100_000_000));
    for managed in [None, size(256 * MIB)] {
        suite.add("sort-u64", |options| {
            (options.records, options.managed) = (Some(100_000_000), managed);
        });
        suite.add("sort-mixed", |options| {
            (options.records, options.managed) = (Some(5_000_000), managed);
        });
    }
    for managed in [64 * MIB, 256 * MIB] {
        suite.add("sort-gensort", |options| {
            options.output = None;
            (options.managed, options.records) = (size(managed), Some(20_000_000));
        });
    }
    suite.add("exchange", |options| options.records = Some(100_000_000));
    for timeout in ["1ms", "100ms"] {
        suite.add("exchange", |options| {
            (options.mode, options.parallelism) = (Some(Mode::Streaming), Some(16));
            (options.rate, options.records) = (Some(1_000_000), Some(10_000_000));
            options
                .overrides
                .push(format!("network.buffer_timeout={timeout}"));
        });
    }
    suite.rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_suite_spills_in_both_modes_and_has_every_workload() {
        let rows = rows(&RunArguments::default()).expect("no options");
        for mode in [Mode::Batch, Mode::Streaming] {
            assert!(
                rows.iter()
                    .any(|row| row.setting.mode == mode && row.setting.managed.is_some())
            );
        }
        for workload in WORKLOADS {
            // Of the queries a few are enough.
            let is_there = |row: &Row| match tpch::is_query(workload.name) {
                true => tpch::is_query(&row.setting.workload),
                false => row.setting.workload == workload.name,
            };
            assert!(rows.iter().any(is_there), "{}", workload.name);
        }
    }

    #[test]
    fn queries_take_a_scale() {
        let suite = RunArguments {
            suite: SuiteName::Tpch,
            scale: Some(0.01),
            ..RunArguments::default()
        };
        let rows = rows(&suite).expect("queries have a scale");
        assert!(rows.iter().all(|row| row.setting.records == 60_000));
        assert!(rows.iter().any(|row| row.setting.workload == "tpch-q6"));
        let refused = super::rows(&RunArguments {
            workloads: vec!["aggregate".into()],
            ..suite
        });
        let refused = refused.map(|_| ()).expect_err("it has records");
        assert!(refused.to_string().contains("--records"), "{refused}");
    }

    #[test]
    fn named_workloads_take_the_options() {
        let named = |workload: &str| RunArguments {
            workloads: vec![workload.into()],
            ..RunArguments::default()
        };
        let arguments = RunArguments {
            records: Some(7),
            emit: Some(Emit::Updates),
            ..named("keyed-sum")
        };
        let row = &rows(&arguments).expect("it exists")[0];
        assert_eq!(
            (row.setting.records, row.setting.mode, row.setting.keys),
            (7, Mode::Streaming, 1_000_000)
        );
        let arguments = RunArguments {
            records: Some(7),
            mode: Some(Mode::Streaming),
            ..named("aggregate")
        };
        let row = &rows(&arguments).expect("it exists")[0];
        assert_eq!((row.setting.keys, row.setting.emit), (7, Emit::Final));
        assert!(rows(&named("nothing")).is_err());
        let scheduled = |workload| RunArguments {
            rate: Some(3),
            ..named(workload)
        };
        assert!(rows(&scheduled("exchange")).is_ok());
        let refused = rows(&scheduled("aggregate"))
            .map(|_| ())
            .expect_err("it has no schedule");
        assert!(refused.to_string().contains("--rate"), "{refused}");
        let refused = rows(&RunArguments {
            managed: Some(forebay_memory::ByteSize(64 * MIB)),
            overrides: vec!["memory.managed_size=32MiB".into()],
            ..named("aggregate")
        });
        let refused = refused.map(|_| ()).expect_err("two sizes contradict each other");
        assert!(refused.to_string().contains("leave one"), "{refused}");
        assert!(
            rows(&RunArguments {
                keys: Some(0),
                ..named("aggregate")
            })
            .is_err()
        );
    }
}
