//! The benchmark harness's program: reads the command line and calls the library.

use clap::Parser;
use forebay_bench::cli::{Cli, Command};
use forebay_memory::Result;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Some(Command::Generate(arguments)) => forebay_bench::generate::generate(&arguments),
        Some(Command::Compare { first, second }) => forebay_bench::compare::compare(&first, &second),
        _ => Ok(()),
    }
}
