//! The command line.

use crate::confine::ConfineWish;
use crate::engine::Engine;
use clap::{Args, Parser, Subcommand};
use forebay_bench::setting::parse_count;
use forebay_memory::ByteSize;
use std::path::PathBuf;

/// Forebay and other engines on the same data, in turn.
#[derive(Debug, Parser)]
#[command(name = "forebay-compare", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sort, aggregate and join bounded data; prints one table.
    Batch(BatchArguments),
    /// List what `batch` measures with the same options, without measuring.
    List(BatchArguments),
    /// Make the Python environment and the data for `batch` with the same options and --keep-data, without measuring.
    Prepare(BatchArguments),
}

/// A budget: managed memory, or as much as is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// No limit for others; 8 GiB managed for ours.
    Unlimited,
    /// This much managed memory; others get what the process may use.
    Managed(ByteSize),
}

/// Options of `batch`.
#[derive(Debug, Clone, Args)]
pub struct BatchArguments {
    /// Only points whose name contains one of these: "join", "aggregate 1M"; see `list`. Default: all.
    pub points: Vec<String>,
    /// Engines to run beside ours; may be repeated. Default: all that the point is for.
    #[arg(long = "engine", value_enum, value_name = "ENGINE")]
    pub engines: Vec<Engine>,
    /// Managed memory of ours ("256MiB", or "unlimited"); may be repeated. Default: each point's own.
    #[arg(long = "managed", value_parser = parse_budget, value_name = "SIZE")]
    pub managed: Vec<Budget>,
    /// How often all take their turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Threads of every engine.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Records and keys are this many times those of the published points.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = parse_scale)]
    pub scale: f64,
    /// How the memory of every process is bounded.
    #[arg(long, value_enum, default_value = "auto")]
    pub confine: ConfineWish,
    /// Seconds after which a process is killed.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
    /// Where data, spilled data and the Python environment are. Default: a directory of that name under TMPDIR.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Keep generated data for the next run.
    #[arg(long)]
    pub keep_data: bool,
    /// Write the results as JSON, in the harness's format.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A Python with the module venv, at least 3.10.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: PathBuf,
    /// The harness's program. Default: built by cargo, with --release.
    #[arg(long, value_name = "FILE")]
    pub forebay_bench: Option<PathBuf>,
    /// Run the others only.
    #[arg(long)]
    pub without_ours: bool,
    /// A command to put before everything that is measured: "taskset -c 0,1".
    #[arg(long, value_name = "COMMAND", default_value = "")]
    pub prefix: String,
    /// Points with more input than this are left out.
    #[arg(long, value_name = "BYTES", value_parser = parse_count, default_value = "100G")]
    pub most_bytes: u64,
}

fn parse_budget(text: &str) -> Result<Budget, String> {
    if text == "unlimited" {
        return Ok(Budget::Unlimited);
    }
    text.parse()
        .map(Budget::Managed)
        .map_err(|error: forebay_memory::Error| error.to_string())
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 100.0 => Ok(scale),
        _ => Err("a factor is a number above 0, at most 100".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        let line =
            "forebay-compare batch join --engine polars --managed unlimited --managed 64MiB --scale 0.01";
        let Command::Batch(arguments) = Cli::parse_from(line.split(' ')).command else {
            panic!("{line}")
        };
        assert_eq!(arguments.engines, [Engine::Polars]);
        assert_eq!(
            arguments.managed,
            [Budget::Unlimited, Budget::Managed(ByteSize::mib(64))]
        );
        for wrong in ["--scale 0", "--managed much", "--rounds 0", "--engine spark"] {
            let line = format!("forebay-compare batch {wrong}");
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{wrong}");
        }
    }
}
