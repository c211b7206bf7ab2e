//! The `forebay` command: what a configuration makes, without running a job.
//!
//! Results go to stdout, errors to stderr. Exit status: 0 done, 1 refused (the message says why and what to do),
//! 2 wrong usage.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use forebay_memory::{ByteSize, Plan, Result, config};

/// Looks at plans and configurations of the Forebay engine.
#[derive(Parser)]
#[command(name = "forebay", version, arg_required_else_help = true)]
struct Command {
    #[command(subcommand)]
    topic: Topic,
}

#[derive(Subcommand)]
enum Topic {
    /// The memory plan that a configuration makes
    #[command(subcommand)]
    Memory(Memory),
    /// The keys of the configuration
    #[command(subcommand)]
    Config(Configuration),
}

#[derive(Subcommand)]
enum Memory {
    /// Prints the plan: every part of the process with its size and what decided it
    Explain(Settings),
    /// Says whether the configuration makes a plan, and if not, why
    Check(Settings),
}

#[derive(Subcommand)]
enum Configuration {
    /// Prints docs/CONFIG.md: all keys with their values, defaults and meanings
    Reference,
}

#[derive(Args)]
struct Settings {
    /// The configuration file [default: forebay.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets a key, over the file and the environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Settings {
    fn plan(&self) -> Result<Plan> {
        Plan::load(self.config.as_deref(), &self.set)
    }
}

fn main() -> ExitCode {
    let printed = match Command::parse().topic {
        Topic::Memory(Memory::Explain(settings)) => explain(&settings),
        Topic::Memory(Memory::Check(settings)) => check(&settings),
        Topic::Config(Configuration::Reference) => print(&config::reference()).map(|()| ExitCode::SUCCESS),
    };
    match printed {
        Ok(status) => status,
        // Who reads our output may stop early: `forebay config reference | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay: cannot write to stdout: {error}");
            ExitCode::FAILURE
        }
    }
}

fn explain(settings: &Settings) -> io::Result<ExitCode> {
    match settings.plan() {
        Ok(plan) => {
            let explanation = plan.explain();
            print(&if settings.json {
                explanation.to_json()
            } else {
                explanation.to_string()
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(refused(&error)),
    }
}

fn check(settings: &Settings) -> io::Result<ExitCode> {
    let plan = settings.plan();
    if settings.json {
        print(&match &plan {
            Ok(plan) => serde_json::json!({ "ok": true, "process_bytes": plan.process_bytes() }).to_string(),
            Err(error) => serde_json::json!({ "ok": false, "error": error.to_string() }).to_string(),
        })?;
    }
    match plan {
        Ok(plan) if !settings.json => {
            print(&format!(
                "the configuration makes a plan: a process of {}, {} of it managed",
                ByteSize(plan.process_bytes()),
                ByteSize(plan.managed_bytes())
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => Ok(refused(&error)),
    }
}

fn refused(error: &forebay_memory::Error) -> ExitCode {
    eprintln!("forebay: {error}");
    ExitCode::FAILURE
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}
