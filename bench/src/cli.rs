//! The command line.

use crate::data::tpch::{LEAST_SCALE, MOST_SCALE};
use crate::setting::{Emit, JoinKind, Mode, Strategy, parse_count};
use clap::{Args, Parser, Subcommand, ValueEnum};
use forebay_memory::ByteSize;
use std::path::PathBuf;

/// Forebay's benchmark harness. Without arguments: run --suite quick.
#[derive(Debug, Parser)]
#[command(name = "forebay-bench", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the workloads, what each measures, and how to reproduce its result.
    List,
    /// Run workloads, or a suite of them, and print one table.
    Run(RunArguments),
    /// Run one workload over data of 0.25 to 32 times what fits in its memory, or in one budget after the other, and print time against
    /// the formula: time in memory, and spilled bytes over the disk's bandwidth.
    Sweep(SweepArguments),
    /// Write input data to a file.
    Generate(GenerateArguments),
    /// Check files of the Sort Benchmark's records as its valsort does: order, number, checksum, equal keys.
    Validate {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Compare the results in two files.
    Compare {
        /// Results written with --json.
        first: PathBuf,
        /// Results written with --json.
        second: PathBuf,
    },
    /// Compute the result of a setting, read as JSON, plainly and print it: what --verify runs in a process of its own.
    #[command(hide = true)]
    Oracle,
    /// Run a setting's steps without an engine and print the rate: a process of its own, as for the oracle.
    #[command(hide = true)]
    Bare {
        /// The machine's limits, as JSON.
        limits: String,
    },
    /// Prove the default plan, start an environment, and exit: what the time to start is measured with.
    #[command(hide = true)]
    Start,
}

/// Which rows a suite has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SuiteName {
    /// Everything once, small: about half a minute.
    Quick,
    /// The sizes that published figures are for: several minutes.
    Full,
    /// TPC-H queries, at scale factor 1 where no other is asked for.
    Tpch,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// A bar and a line that are drawn again and again, on a terminal; nothing elsewhere.
    Auto,
    /// A line a second, wherever standard error goes.
    Lines,
    /// Nothing.
    Off,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What went wrong.
    Error,
    /// What a user should know of.
    Warn,
    /// Plans of jobs and memory too.
    Info,
    /// What else there is.
    Debug,
}

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Workloads to run, as listed by: forebay-bench list. None: the suite.
    pub workloads: Vec<String>,
    /// The suite to run where no workload is named. Options apply to its rows whose workloads take them; its rows keep the mode, memory,
    /// parallelism, keys, skew and rate that make them what they are.
    #[arg(long, value_enum, default_value = "quick", conflicts_with = "workloads")]
    pub suite: SuiteName,
    /// Input records (50000000, 50M).
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub records: Option<u64>,
    /// Scale factor of TPC-H data: 1 has 6 M line items.
    #[arg(long, value_name = "S", value_parser = parse_scale, conflicts_with = "records")]
    pub scale: Option<f64>,
    /// Distinct keys in generated data.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub keys: Option<u64>,
    /// Zipf exponent of the keys; 0 is uniform.
    #[arg(long, value_name = "S", value_parser = parse_skew)]
    pub skew: Option<f64>,
    /// Managed memory (256MiB); the process size follows from it.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub managed: Option<ByteSize>,
    /// Worker threads, and subtasks of each operator (default: one per core).
    #[arg(long, value_name = "N", value_parser = parse_parallelism)]
    pub parallelism: Option<usize>,
    /// Batch or streaming (default: batch).
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Configuration file (default: forebay.toml where there is one).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set a configuration key; may be repeated.
    #[arg(long = "set", value_name = "K=V")]
    pub overrides: Vec<String>,
    /// Seed of the generated data (default: 0).
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Measured runs of each row; the median is reported.
    #[arg(long, value_name = "N", value_parser = parse_repeat)]
    pub repeat: Option<usize>,
    /// Files or globs to read instead of generated data: text for wordcount; 16-byte records, or `.parquet` files of them (key, value),
    /// for keyed-sum, aggregate, distinct and the probe side of join; 100-byte records for sort-gensort; for TPC-H queries one
    /// directory of files that generate tpch --parquet has written. Parquet needs a build with `--features parquet`.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub input: Vec<String>,
    /// Write generated records to a file beforehand and read them from there.
    #[arg(long)]
    pub from_file: bool,
    /// Bytes of each record (aggregate): with 48 or more, records have a text besides, and each group keeps that of its last record.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub row_bytes: Option<u64>,
    /// Where results go, which are not kept otherwise. Of sort-gensort this is one file, in a directory that exists, and writing it is
    /// measured; of wordcount, keyed-sum, aggregate, distinct and TPC-H queries it is a directory, made if need be, of part files with a
    /// line for each result, written in a further run that is not measured. What an earlier run wrote there is replaced when all
    /// else has succeeded.
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Measure no limits of this machine: for runs whose time or memory is somebody else's, as in comparisons.
    #[arg(long)]
    pub no_limits: bool,
    /// Compare every result with a plain computation in a process of its own, and resident memory with the plan.
    #[arg(long)]
    pub verify: bool,
    /// Write the results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What running sums emit.
    #[arg(long, value_enum)]
    pub emit: Option<Emit>,
    /// Which rows a join sends (default: inner).
    #[arg(long, value_enum, value_name = "KIND")]
    pub join: Option<JoinKind>,
    /// The share of a join's probe records that have a match (default: 0.5).
    #[arg(long, value_name = "S", value_parser = parse_selectivity)]
    pub selectivity: Option<f64>,
    /// The share of the records that one key has: of both sides of a join, or of keyed data.
    #[arg(long, value_name = "S", value_parser = parse_share)]
    pub hot: Option<f64>,
    /// Joins records of 104 bytes, not 16.
    #[arg(long)]
    pub wide: bool,
    /// How a join finds matches (default: as the engine chooses).
    #[arg(long, value_enum, value_name = "HOW")]
    pub strategy: Option<Strategy>,
    /// Records scheduled a second, where latency is measured (exchange); 0 is as fast as possible.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub rate: Option<u64>,
    /// How progress is shown on standard error while rows are measured.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressForm,
    /// What the engine logs on standard error: plans at info, polls that took long at warn.
    #[arg(long, value_enum, default_value = "off")]
    pub log: LogLevel,
    /// No progress, only the table.
    #[arg(long, conflicts_with = "progress")]
    pub quiet: bool,
}

impl RunArguments {
    /// How progress is shown.
    pub fn progress(&self) -> ProgressForm {
        if self.quiet {
            ProgressForm::Off
        } else {
            self.progress
        }
    }
}

impl Default for RunArguments {
    fn default() -> Self {
        let cli = Cli::parse_from(["forebay-bench", "run"]);
        match cli.command {
            Some(Command::Run(arguments)) => arguments,
            _ => unreachable!("the command was run"),
        }
    }
}

/// Options of `sweep`.
#[derive(Debug, Clone, Args)]
pub struct SweepArguments {
    /// The workload, as listed by: forebay-bench list.
    pub workload: String,
    /// Managed memory; several, parted by commas, are swept with one number of records.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, value_delimiter = ',', default_value = "64MiB")]
    pub managed: Vec<ByteSize>,
    /// Data, as times what fits.
    #[arg(long, value_name = "R", value_parser = parse_ratio, value_delimiter = ',',
          default_value = "0.25,0.5,0.9,0.95,1.05,1.5,2,4,8,16,32")]
    pub ratios: Vec<f64>,
    /// Records that are taken to fit, instead of looking for how many do; or those that all budgets get.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub records: Option<u64>,
    /// Distinct keys at every point (default: as many for each record as the workload has).
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub keys: Option<u64>,
    /// Worker threads, and subtasks of each operator (default: one per core).
    #[arg(long, value_name = "N", value_parser = parse_parallelism)]
    pub parallelism: Option<usize>,
    /// Set a configuration key; may be repeated.
    #[arg(long = "set", value_name = "K=V")]
    pub overrides: Vec<String>,
    /// Visits of each point, one to five runs each.
    #[arg(long, value_name = "N", value_parser = parse_repeat, default_value = "3")]
    pub rounds: usize,
    /// Write the points as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// How progress is shown on standard error.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressForm,
}

impl Default for SweepArguments {
    fn default() -> Self {
        let cli = Cli::parse_from(["forebay-bench", "sweep", "sort-u64"]);
        match cli.command {
            Some(Command::Sweep(arguments)) => arguments,
            _ => unreachable!("the command was sweep"),
        }
    }
}

/// The kinds of data that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataKind {
    /// The Sort Benchmark's 100-byte records.
    Gensort,
    /// Lines of Zipf-distributed words.
    Text,
    /// 16-byte records: u64 key, i64 value, little-endian.
    Keyed,
    /// The eight tables of TPC-H, as CSV files with headers in the directory --output.
    Tpch,
}

/// Options of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// What to write.
    #[arg(value_enum)]
    pub kind: DataKind,
    /// Records, or lines of text, or about so many TPC-H line items.
    #[arg(long, value_name = "N", value_parser = parse_count, required_unless_present = "scale")]
    pub records: Option<u64>,
    /// Scale factor of TPC-H data: 1 has 6 M line items and a gigabyte in all.
    #[arg(long, value_name = "S", value_parser = parse_scale, conflicts_with = "records")]
    pub scale: Option<f64>,
    /// The file to write, or the directory.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Seed of the data.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Distinct keys of keyed data, or words in the vocabulary of text.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub keys: Option<u64>,
    /// Zipf exponent of keys (default 0, uniform) or words (default 1).
    #[arg(long, value_name = "S", value_parser = parse_skew)]
    pub skew: Option<f64>,
    /// Gensort records as printable lines, for programs that sort lines.
    #[arg(long)]
    pub ascii: bool,
    /// TPC-H tables as Parquet files, which queries read with --input DIRECTORY; as CSV without it.
    #[arg(long)]
    pub parquet: bool,
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse()
        .map_err(|error: forebay_memory::Error| error.to_string())
}

fn parse_skew(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(skew) if skew.is_finite() && (0.0..=10.0).contains(&skew) => Ok(skew),
        _ => Err("a Zipf exponent is a number from 0 to 10".into()),
    }
}

fn parse_selectivity(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (1e-6..=1.0).contains(&share) => Ok(share),
        _ => Err("a selectivity is a number from 0.000001 to 1".into()),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".into()),
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.001..=1000.0).contains(&ratio) => Ok(ratio),
        _ => Err("a ratio is a number from 0.001 to 1000".into()),
    }
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if (LEAST_SCALE..=MOST_SCALE).contains(&scale) => Ok(scale),
        _ => Err(format!(
            "a scale factor is a number from {LEAST_SCALE} to {MOST_SCALE}"
        )),
    }
}

fn parse_parallelism(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(parallelism) if (1..=1024).contains(&parallelism) => Ok(parallelism),
        _ => Err("parallelism is a whole number from 1 to 1024".into()),
    }
}

fn parse_repeat(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(repeat) if (1..=1000).contains(&repeat) => Ok(repeat),
        _ => Err("runs are a whole number from 1 to 1000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        assert_eq!(RunArguments::default().suite, SuiteName::Quick);
    }

    #[test]
    fn options_parse() {
        let line = "forebay-bench run keyed-sum --records 50M --keys 1M --skew 1.0 --managed 256MiB --parallelism 2 \
                    --mode streaming --set memory.segment_size=4KiB --set a.b=c --seed 7 --repeat 5 --emit updates \
                    --input a b --verify --quiet --json out.json";
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("all options are known");
        let Some(Command::Run(run)) = cli.command else {
            panic!("{cli:?}")
        };
        assert_eq!(
            (run.records, run.managed),
            (Some(50_000_000), Some(ByteSize::mib(256)))
        );
        assert_eq!(
            (run.overrides.len(), run.input.len(), run.emit),
            (2, 2, Some(Emit::Updates))
        );
        for wrong in [
            "--records ten",
            "--skew -1",
            "--managed 1parsec",
            "--parallelism 0",
            "--repeat 0",
            "--mode both",
        ] {
            let line = format!("forebay-bench run {wrong}");
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{wrong}");
        }
    }
}
