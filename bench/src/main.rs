//! The benchmark harness's program: reads the command line and calls the library.

use clap::Parser;
use forebay_bench::cli::{Cli, Command, RunArguments};
use forebay_bench::{compare, generate, oracle, run, sweep};
use forebay_memory::{CountingAllocator, Result};
use std::process::ExitCode;

/// Counts the user's heap, as the plan promises.
#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            forebay::interrupted().map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn execute(cli: Cli) -> Result<()> {
    match cli.command {
        None => run::run(&RunArguments::default()),
        Some(Command::Run(arguments)) => run::run(&arguments),
        Some(Command::Sweep(arguments)) => sweep::sweep(&arguments),
        Some(Command::List) => run::list(),
        Some(Command::Generate(arguments)) => generate::generate(&arguments),
        Some(Command::Validate { files }) => generate::validate(&files),
        Some(Command::Compare { first, second }) => compare::compare(&first, &second),
        Some(Command::Oracle) => oracle::print_answer(std::io::stdin()),
        Some(Command::Bare { limits }) => oracle::print_bare(std::io::stdin(), &limits),
        Some(Command::Start) => run::start(),
    }
}
