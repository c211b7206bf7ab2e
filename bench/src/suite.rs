//! Which settings a command line means: the rows of a suite, or the named workloads with the given options.

use crate::cli::{RunArguments, SuiteName};
use crate::data::tpch::{LEAST_SCALE, LINE_ITEMS};
use crate::options::Choice;
use crate::setting::{Emit, JoinOptions, Mode, Setting};
use crate::workload::{self, LEAST_ROW, WORKLOADS, Workload, tpch};
use forebay_memory::config::names::{MANAGED_SIZE, MODE, PARALLELISM};
use forebay_memory::size::MIB;
use forebay_memory::{Config, Error, Result};

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
/// Where a workload is unknown, does not take an option, or an option makes no sense.
pub fn rows(arguments: &RunArguments) -> Result<Vec<Row>> {
    if arguments.keys == Some(0) {
        return Err(Error::config("--keys 0: data has at least one key"));
    }
    if let Some(bytes) = arguments.row_bytes
        && !(LEAST_ROW..=64 << 10).contains(&bytes)
    {
        return Err(Error::config(format!(
            "--row-bytes: {bytes} is not a size that a wide record may have; use {LEAST_ROW} to 65536"
        )));
    }
    let both = |(one, other): &(Choice, Choice)| one.is_given(arguments) && other.is_given(arguments);
    if let Some((one, other)) = Choice::CONTRADICTIONS.iter().find(|pair| both(pair)) {
        return Err(Error::config(format!(
            "{} and {}: no workload takes both; leave one of them out",
            one.name(),
            other.name()
        )));
    }
    let arguments = &with_configuration(arguments)?;
    let mut rows = Vec::new();
    for name in &arguments.workloads {
        check(workload::find(name)?, arguments)?;
        rows.push(row(name, arguments));
    }
    if arguments.workloads.is_empty() {
        rows = suite(arguments)?;
    }
    if let Some(output) = arguments.output.as_ref().filter(|_| rows.len() > 1) {
        return Err(Error::config(format!(
            "--output {}: each of {} rows would replace what the one before has written; name one workload",
            output.display(),
            rows.len()
        )));
    }
    let least = (LEAST_SCALE * LINE_ITEMS as f64).ceil() as u64;
    let is_too_small = |row: &&Row| tpch::is_query(&row.setting.workload) && row.setting.records < least;
    if let Some(row) = rows.iter().find(is_too_small) {
        return Err(Error::config(format!(
            "--records {}: {} has {least} line items at least (--scale {LEAST_SCALE}), for tables without rows have no answer; raise it",
            row.setting.records, row.setting.workload
        )));
    }
    Ok(rows)
}

/// The options with what the configuration says of the same things, where the command line does not.
fn with_configuration(arguments: &RunArguments) -> Result<RunArguments> {
    for (option, is_given, key) in [
        ("--managed", arguments.managed.is_some(), MANAGED_SIZE),
        ("--parallelism", arguments.parallelism.is_some(), PARALLELISM),
        ("--mode", arguments.mode.is_some(), MODE),
    ] {
        let is_of_key = |assignment: &&String| {
            let (name, _) = assignment.split_once('=').unwrap_or_default();
            name.trim() == key.name()
        };
        if let Some(assignment) = arguments.overrides.iter().find(is_of_key).filter(|_| is_given) {
            return Err(Error::config(format!(
                "{option} and --set {assignment} both say what {} is: leave one of them out",
                key.name()
            )));
        }
    }
    let config = Config::load(arguments.config.as_deref(), &arguments.overrides)?;
    let mode = match config.choice(MODE) {
        "batch" => Some(Mode::Batch),
        "streaming" => Some(Mode::Streaming),
        _ => None,
    };
    let parallelism = config.count(PARALLELISM).map(|count| count as usize);
    Ok(RunArguments {
        parallelism: arguments.parallelism.or(parallelism),
        mode: arguments.mode.or(mode),
        ..arguments.clone()
    })
}

/// Refuses options that a workload does not take.
fn check(workload: &Workload, arguments: &RunArguments) -> Result<()> {
    for choice in Choice::given(arguments) {
        let (option, name) = (choice.name(), workload.name);
        if !workload.takes(choice) {
            return Err(Error::config(format!(
                "{option}: the workload {name} does not take it; leave it out, or choose one that does: {}",
                takers(choice)
            )));
        }
        let is_of_files = choice == Choice::Input || workload.takes_of_files.contains(&choice);
        if Choice::Input.is_given(arguments) && !is_of_files {
            return Err(Error::config(format!(
                "{option}: with --input, {name} takes its records as they are in the files; leave one of the two out"
            )));
        }
    }
    Ok(())
}

/// The names of the workloads that take an option.
fn takers(choice: Choice) -> String {
    let takes = |workload: &&Workload| workload.takes(choice);
    let (queries, others): (Vec<&Workload>, Vec<&Workload>) = WORKLOADS
        .iter()
        .filter(takes)
        .partition(|workload| tpch::is_query(workload.name));
    let mut names: Vec<&str> = others.iter().map(|workload| workload.name).collect();
    if !queries.is_empty() {
        names.push("TPC-H queries");
    }
    names.join(", ")
}

/// The rows of a suite: each has the options that its workload takes.
fn suite(arguments: &RunArguments) -> Result<Vec<Row>> {
    let name = match arguments.suite {
        SuiteName::Quick => "quick",
        SuiteName::Full => "full",
        SuiteName::Tpch => "tpch",
    };
    if Choice::Input.is_given(arguments) && arguments.suite != SuiteName::Tpch {
        return Err(Error::config(format!(
            "--input: the workloads of the suite {name} do not read the same files; name one workload"
        )));
    }
    let rows = match arguments.suite {
        SuiteName::Quick => quick(arguments),
        SuiteName::Full => full(arguments),
        SuiteName::Tpch => queries(arguments),
    };
    let is_taken = |choice: &Choice| {
        let mut workloads = rows.iter().map(|row| workload_called(&row.setting.workload));
        workloads.any(|workload| workload.takes(*choice))
    };
    match Choice::given(arguments).find(|choice| !is_taken(choice)) {
        Some(choice) => Err(Error::config(format!(
            "{}: no workload of the suite {name} takes it; leave it out, or name one that does: {}",
            choice.name(),
            takers(choice)
        ))),
        None => Ok(rows),
    }
}

/// The workload of that name.
fn workload_called(name: &str) -> &'static Workload {
    WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .expect("suites name workloads that exist")
}

/// A workload with its defaults and the options given.
fn row(name: &str, arguments: &RunArguments) -> Row {
    let workload = workload_called(name);
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
            emit: arguments.emit.unwrap_or(if workload.takes(Choice::Emit) {
                emit
            } else {
                Emit::Final
            }),
            seed: arguments.seed.unwrap_or(0),
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

/// Builds the rows of a suite. Options apply to every row whose workload takes them, but for those that the row sets itself; a size that
/// is asked for applies to all.
struct Builder<'a> {
    arguments: &'a RunArguments,
    rows: Vec<Row>,
}

impl Builder<'_> {
    fn add(&mut self, workload: &str, change: impl FnOnce(&mut RunArguments)) {
        let mut arguments = RunArguments {
            workloads: Vec::new(),
            ..self.arguments.clone()
        };
        change(&mut arguments);
        let asked = self.arguments;
        if asked.records.or(asked.scale.map(|_| 0)).is_some() {
            (arguments.records, arguments.scale) = (asked.records.or(arguments.records), asked.scale);
        }
        let of_workload = workload_called(workload);
        for choice in Choice::ALL.iter().filter(|choice| !of_workload.takes(**choice)) {
            choice.leave_out(&mut arguments);
        }
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
    use crate::options;

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
        assert!(
            refused
                .to_string()
                .ends_with("choose one that does: TPC-H queries"),
            "{refused}"
        );
    }

    fn named(workload: &str) -> RunArguments {
        RunArguments {
            workloads: vec![workload.into()],
            ..RunArguments::default()
        }
    }

    fn refused(arguments: &RunArguments) -> String {
        rows(arguments)
            .map(|_| ())
            .expect_err("it is refused")
            .to_string()
    }

    /// A command line with one option, and the workload.
    fn with_choice(workload: &str, choice: Choice) -> RunArguments {
        let mut arguments = RunArguments {
            workloads: vec![workload.into()],
            ..options::everything()
        };
        for other in Choice::ALL.iter().filter(|other| **other != choice) {
            other.leave_out(&mut arguments);
        }
        arguments
    }

    #[test]
    fn a_workload_refuses_what_it_does_not_take_and_its_setting_has_what_it_takes() {
        for workload in WORKLOADS {
            let plain = rows(&named(workload.name)).expect("it has defaults").remove(0);
            for choice in Choice::ALL {
                let arguments = with_choice(workload.name, choice);
                let case = format!("{} {}", workload.name, choice.name());
                if !workload.takes(choice) {
                    let error = refused(&arguments);
                    let thing = format!("{}: the workload {} does", choice.name(), workload.name);
                    assert!(error.starts_with(&thing), "{case}: {error}");
                    continue;
                }
                if tpch::is_query(workload.name) && choice == Choice::Records {
                    assert!(refused(&arguments).contains("6000 line items at least"), "{case}");
                    continue;
                }
                let row = rows(&arguments).expect(&case).remove(0);
                assert_ne!(row.setting, plain.setting, "{case} changes nothing");
            }
        }
        let error = refused(&with_choice("distinct", Choice::Emit));
        assert!(
            error.ends_with("choose one that does: wordcount, keyed-sum"),
            "{error}"
        );
        let error = refused(&with_choice("sort-u64", Choice::Input));
        assert!(error.contains("join, sort-gensort, TPC-H queries"), "{error}");
    }

    #[test]
    fn files_say_what_records_are() {
        let of_files = |workload: &str, choice| RunArguments {
            input: vec!["data".into()],
            ..with_choice(workload, choice)
        };
        for (workload, choice) in [
            ("keyed-sum", Choice::Records),
            ("keyed-sum", Choice::Skew),
            ("keyed-sum", Choice::Seed),
            ("aggregate", Choice::RowBytes),
            ("distinct", Choice::FromFile),
            ("wordcount", Choice::Keys),
            ("join", Choice::Wide),
            ("sort-gensort", Choice::Records),
        ] {
            let error = refused(&of_files(workload, choice));
            assert!(
                error.starts_with(choice.name())
                    && error.contains(&format!("with --input, {workload} takes")),
                "{error}"
            );
        }
        for (workload, choice) in [
            ("keyed-sum", Choice::Emit),
            ("join", Choice::Keys),
            ("join", Choice::Selectivity),
            ("tpch-q1", Choice::Scale),
            ("wordcount", Choice::Output),
        ] {
            assert!(
                rows(&of_files(workload, choice)).is_ok(),
                "{workload} {}",
                choice.name()
            );
        }
        for (one, other) in Choice::CONTRADICTIONS {
            let mut arguments = with_choice("aggregate", one);
            let both = options::everything();
            match other {
                Choice::Output => arguments.output = both.output,
                _ => arguments.from_file = true,
            }
            assert!(
                refused(&arguments).contains("no workload takes both"),
                "{} {}",
                one.name(),
                other.name()
            );
        }
    }

    #[test]
    fn rows_of_a_suite_have_the_options_that_are_theirs() {
        let suite = |suite, choice| RunArguments {
            suite,
            workloads: Vec::new(),
            ..with_choice("", choice)
        };
        for choice in [Choice::Join, Choice::Emit, Choice::Hot, Choice::Seed] {
            for row in rows(&suite(SuiteName::Quick, choice)).expect("some take it") {
                let workload = workload_called(&row.setting.workload);
                let has_it = match choice {
                    Choice::Join => row.setting.join.kind == crate::setting::JoinKind::Left,
                    Choice::Emit => row.setting.emit == Emit::Updates,
                    Choice::Hot => row.setting.join.hot == 0.5,
                    _ => row.setting.seed == 7,
                };
                assert_eq!(
                    has_it,
                    workload.takes(choice),
                    "{} {}",
                    workload.name,
                    choice.name()
                );
            }
        }
        let error = refused(&suite(SuiteName::Tpch, Choice::Rate));
        assert!(
            error.contains("no workload of the suite tpch takes it") && error.ends_with("exchange"),
            "{error}"
        );
        let error = refused(&suite(SuiteName::Quick, Choice::Input));
        assert!(error.contains("do not read the same files"), "{error}");
        let queries = rows(&suite(SuiteName::Tpch, Choice::Input)).expect("they read one directory");
        assert!(queries.iter().all(|row| row.setting.input == ["data"]));
        let error = refused(&suite(SuiteName::Quick, Choice::Output));
        assert!(error.contains("name one workload"), "{error}");
        let mut two = with_choice("distinct", Choice::Output);
        two.workloads.push("aggregate".into());
        assert!(refused(&two).contains("each of 2 rows"));
    }

    #[test]
    fn a_size_that_is_asked_for_is_that_of_all_rows_of_a_suite() {
        for suite in [SuiteName::Quick, SuiteName::Full] {
            let all = |arguments: &RunArguments| -> Vec<(String, u64)> {
                let rows = rows(&RunArguments {
                    suite,
                    ..arguments.clone()
                })
                .expect("a size");
                rows.into_iter()
                    .map(|row| (row.setting.workload, row.setting.records))
                    .collect()
            };
            let records = RunArguments {
                records: Some(50_000),
                ..RunArguments::default()
            };
            assert!(
                all(&records).iter().all(|(_, records)| *records == 50_000),
                "{suite:?}"
            );
        }
        let scaled = RunArguments {
            scale: Some(0.01),
            ..RunArguments::default()
        };
        for (row, plain) in rows(&scaled)
            .expect("a scale")
            .iter()
            .zip(quick(&RunArguments::default()))
        {
            let expected = match tpch::is_query(&row.setting.workload) {
                true => 60_000,
                false => plain.setting.records,
            };
            assert_eq!(row.setting.records, expected, "{}", row.setting.workload);
        }
        let tiny = RunArguments {
            records: Some(10),
            ..RunArguments::default()
        };
        assert!(refused(&tiny).contains("--records 10: tpch-q1 has 6000 line items at least"));
    }

    #[test]
    fn what_the_configuration_says_of_parallelism_and_mode_is_used() {
        let configured = RunArguments {
            overrides: vec!["job.parallelism=3".into(), "job.mode = streaming".into()],
            ..named("keyed-sum")
        };
        let row = rows(&configured).expect("both are known").remove(0);
        assert_eq!(
            (row.setting.parallelism, row.setting.mode, row.setting.emit),
            (3, Mode::Streaming, Emit::Updates)
        );
        for (arguments, option) in [
            (
                RunArguments {
                    parallelism: Some(2),
                    ..configured.clone()
                },
                "--parallelism and --set job.parallelism=3",
            ),
            (
                RunArguments {
                    mode: Some(Mode::Batch),
                    ..configured.clone()
                },
                "--mode and --set job.mode = streaming",
            ),
        ] {
            let error = refused(&arguments);
            assert!(
                error.starts_with(option) && error.contains("leave one of them out"),
                "{error}"
            );
        }
        let unknown = RunArguments {
            overrides: vec!["job.paralelism=3".into()],
            ..named("keyed-sum")
        };
        assert!(refused(&unknown).contains("the nearest is job.parallelism"));
    }

    #[test]
    fn named_workloads_take_the_options() {
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
