//! Forebay and other engines on the same data, with the same threads and memory, in turn.
//!
//! A module uses only those above it:
//!
//! - `confine`: how memory is bounded
//! - `dataset`: the data
//! - `cli`, `point`: what is compared
//! - `expected`: the right answers
//! - `python`, `process`: where the other engines' wheels are, and how a process is run
//! - `engine`, `ours`: the engines
//! - `report`, `batch`: the table, and the turns

mod confine;
mod dataset;
mod cli;
mod point;
mod expected;
mod python;
mod process;
mod engine;
mod ours;
mod report;
mod batch;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match cli::Cli::parse().command {
        cli::Command::Batch(arguments) => batch::run(&arguments),
        cli::Command::Prepare(arguments) => batch::prepare(&arguments),
        cli::Command::List(arguments) => {
            batch::list(&arguments);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
