//! `batch`: makes the data, has the engines take turns, and checks every answer.
//!
//! # Algorithm
//! For each point: write its files, and compute the right answer. For each budget: find settings with which each engine gets
//! through, which is its first round; then, in each round, every engine that does, each followed by ours: A B A B.
//! Before each process its input is read once, outside of its bound, so that it is in the page cache and nobody's memory; what
//! the process before it has written is on disk.

use crate::cli::{BatchArguments, Budget};
use crate::confine::Confinement;
use crate::engine::{self, Attempt, Engine, Places};
use crate::expected::{self, Answer};
use crate::ours::{self, Harness};
use crate::point::{self, Point, Question};
use crate::process::{Failure, Launcher};
use crate::python::{Python, succeed};
use crate::report::{self, Measured, Row};
use clap::ValueEnum;
use forebay_memory::{Error, Result};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Prints the points that the options ask for.
pub fn list(arguments: &BatchArguments) {
    for point in point::chosen(arguments) {
        let budgets: Vec<String> = point
            .budgets
            .iter()
            .map(|budget| match budget {
                Budget::Unlimited => "unlimited".into(),
                Budget::Managed(size) => size.to_string(),
            })
            .collect();
        println!(
            "{:<40} {:>6.1} GB; managed {}",
            point.name(),
            point.bytes() as f64 / 1e9,
            budgets.join(", ")
        );
    }
}

/// Makes the Python environment and all data.
///
/// # Errors
/// Where either cannot be made.
pub fn prepare(arguments: &BatchArguments) -> Result<()> {
    let session = Session::prepare(arguments)?;
    point::chosen(arguments)
        .iter()
        .try_for_each(|point| session.write(point))
}

/// Measures all that the options ask for.
///
/// # Errors
/// Where something outside of the engines fails; an engine that does is a row of the table.
pub fn run(arguments: &BatchArguments) -> Result<()> {
    let points = point::chosen(arguments);
    if points.is_empty() {
        return Err(Error::config(format!(
            "no point is called {:?}; see: forebay-compare list",
            arguments.points
        )));
    }
    let mut session = Session::prepare(arguments)?;
    let mut measured = Vec::new();
    let outcome = points.iter().try_for_each(|point| {
        session.measure(point, &mut measured)?;
        if !arguments.keep_data {
            session.remove(point)?;
        }
        Ok(())
    });
    println!(
        "{} threads; rounds {}; memory of limited processes bounded by {}; {}\n",
        arguments.threads,
        arguments.rounds,
        session.confinement.name(),
        machine(),
    );
    print!("{}", report::markdown(&measured));
    outcome
}

/// What stays the same from point to point.
struct Session<'a> {
    arguments: &'a BatchArguments,
    launcher: Launcher,
    confinement: Confinement,
    harness: Option<Harness>,
    places: Places,
}

/// What the results of a point are compared with.
struct Right {
    answer: Answer,
    /// The hash that the harness makes of its rows, where it has the workload.
    right_hash: Option<String>,
}

/// An engine's turn: how it gets through, and what it has measured.
struct Player {
    engine: Engine,
    attempt: Attempt,
    row: Row,
}

impl<'a> Session<'a> {
    fn prepare(arguments: &'a BatchArguments) -> Result<Session<'a>> {
        let directory = match &arguments.data {
            Some(directory) => directory.clone(),
            None => std::env::temp_dir().join("forebay-compare"),
        };
        let places = Places {
            data: directory.join("data"),
            spill: directory.join("spill"),
        };
        for directory in [&places.data, &places.spill] {
            fs::create_dir_all(directory)
                .map_err(|error| Error::io(format!("cannot make {}", directory.display()), error))?;
        }
        let harness = match arguments.without_ours {
            true => None,
            false => Some(Harness::prepare(arguments.forebay_bench.as_deref())?),
        };
        Ok(Session {
            arguments,
            launcher: Launcher {
                python: Python::prepare(&arguments.python, &directory)?,
                prefix: arguments.prefix.split_whitespace().map(String::from).collect(),
                timeout: arguments.timeout,
                directory,
            },
            confinement: Confinement::choose(arguments.confine)?,
            harness,
            places,
        })
    }

    /// Writes a point's files where they are not there yet.
    fn write(&self, point: &Point) -> Result<()> {
        eprintln!("{}: data", point.name());
        for dataset in &point.data {
            dataset.write_binary(&self.places.data)?;
            let [binary, parquet] = [
                dataset.binary(&self.places.data),
                dataset.parquet(&self.places.data),
            ]
            .map(|path| path.display().to_string());
            if !Path::new(&parquet).exists() {
                self.launcher
                    .python
                    .run("make_parquet.py", &[&binary, &parquet, dataset.columns()])?;
            }
        }
        Ok(())
    }

    /// Measures a point in all its budgets, and writes what is measured so far.
    fn measure(&mut self, point: &Point, measured: &mut Vec<Measured>) -> Result<()> {
        self.write(point)?;
        let answer = expected::answer(point, &self.places.data)?;
        let right_hash = match &self.harness {
            Some(harness) if harness.lacks(point.question).is_none() => {
                eprintln!("{}: the harness's own check", point.name());
                Some(harness.right_hash(point, self.arguments.threads, &self.places, &self.json())?)
            }
            _ => None,
        };
        let right = Right { answer, right_hash };
        for budget in &point.budgets {
            measured.push(self.measure_in(point, *budget, &right)?);
            if let Some(path) = &self.arguments.json {
                forebay_bench::result::write(path, &report::results(measured, self.arguments.threads))?;
            }
        }
        Ok(())
    }

    fn measure_in(&self, point: &Point, budget: Budget, right: &Right) -> Result<Measured> {
        let process_bytes = ours::process_bytes(budget)?;
        let name = format!("{}, {}", point.name(), report::budget_name(budget, process_bytes));
        let mut ours = Row {
            engine: "forebay".into(),
            seconds: Vec::new(),
            peak_rss_bytes: 0,
            cpu_seconds: 0.0,
            notes: point
                .question
                .made_by_ours()
                .map(String::from)
                .into_iter()
                .collect(),
            failure: self
                .harness
                .as_ref()
                .and_then(|harness| harness.lacks(point.question))
                .map(String::from),
            verified: false,
            ours: None,
        };
        let engines: Vec<Engine> = Engine::value_variants()
            .iter()
            .copied()
            .filter(|engine| engine.answers(point.question))
            .filter(|engine| self.arguments.engines.is_empty() || self.arguments.engines.contains(engine))
            .collect();
        let mut rows = Vec::new();
        let mut players = Vec::new();
        for engine in engines {
            eprintln!("{name}: {}", engine.name());
            match self.first(engine, point, process_bytes, &right.answer)? {
                Ok(player) => {
                    players.push(player);
                    self.turn_of_ours(point, budget, process_bytes, right, &mut ours)?;
                }
                Err(row) => rows.push(row),
            }
        }
        for round in 1..self.arguments.rounds {
            for player in &mut players {
                if player.row.failure.is_some() {
                    continue;
                }
                eprintln!("{name}: {}, round {}", player.engine.name(), round + 1);
                self.turn(player, point, process_bytes, &right.answer)?;
                self.turn_of_ours(point, budget, process_bytes, right, &mut ours)?;
            }
        }
        if players.is_empty() {
            for _ in 0..self.arguments.rounds {
                self.turn_of_ours(point, budget, process_bytes, right, &mut ours)?;
            }
        }
        rows.extend(players.into_iter().map(|player| player.row));
        if self.harness.is_some() {
            rows.push(ours);
        }
        Ok(Measured {
            point: point.clone(),
            budget,
            process_bytes,
            confined_by: self.confinement.name(),
            answer: right.answer.clone(),
            rows,
        })
    }

    /// Finds settings with which an engine gets through; where there are none, a row that says why.
    fn first(
        &self,
        engine: Engine,
        point: &Point,
        process_bytes: Option<u64>,
        answer: &Answer,
    ) -> Result<std::result::Result<Player, Row>> {
        let mut attempts = engine.attempts(point.question, process_bytes);
        let mut failures: Vec<String> = Vec::new();
        while !attempts.is_empty() {
            let attempt = attempts.remove(0);
            let mut player = Player {
                engine,
                row: Row {
                    engine: engine.name().into(),
                    seconds: Vec::new(),
                    peak_rss_bytes: 0,
                    cpu_seconds: 0.0,
                    notes: Vec::new(),
                    failure: None,
                    verified: false,
                    ours: None,
                },
                attempt,
            };
            match self.turn(&mut player, point, process_bytes, answer)? {
                None => {
                    player
                        .row
                        .notes
                        .extend((!player.attempt.label().is_empty()).then(|| player.attempt.label()));
                    if process_bytes.is_some() && !player.attempt.bounded {
                        player.row.notes.push("process NOT bounded".into());
                        player.row.notes.extend(failures);
                    }
                    return Ok(Ok(player));
                }
                Some(failure) => {
                    eprintln!(
                        "  {} ({}): {}",
                        engine.name(),
                        player.attempt.label(),
                        failure.name()
                    );
                    let words = failure.name();
                    if !failures.iter().any(|known| known.starts_with(&words)) {
                        let bounded = if player.attempt.bounded {
                            "bounded"
                        } else {
                            "not bounded"
                        };
                        failures.push(format!("{words} {bounded} with {}", player.attempt.label()));
                    }
                    let denied = player.attempt.bounded && self.confinement == Confinement::Data;
                    engine::after(&player.attempt, &failure, denied, &mut attempts);
                    if attempts.is_empty() {
                        player.row.failure = Some(failure.name());
                        player.row.seconds.clear();
                        player.row.notes.extend(failures);
                        return Ok(Err(player.row));
                    }
                }
            }
        }
        unreachable!("every engine has at least one attempt")
    }

    /// One process of another engine.
    fn turn(
        &self,
        player: &mut Player,
        point: &Point,
        process_bytes: Option<u64>,
        answer: &Answer,
    ) -> Result<Option<Failure>> {
        let engine = player.engine;
        self.clear(point, engine.reads_parquet())?;
        let invocation = engine.invocation(
            &self.launcher.python,
            point,
            &player.attempt,
            self.arguments.threads,
            &self.places,
        )?;
        let bytes = process_bytes.filter(|_| player.attempt.bounded);
        let ended = self.launcher.run(&invocation, &self.confinement, bytes)?;
        let row = &mut player.row;
        row.peak_rss_bytes = row.peak_rss_bytes.max(ended.peak_rss_bytes);
        row.cpu_seconds = ended.cpu_seconds;
        if let Some(failure) = ended.failure {
            row.failure = Some(failure.name());
            return Ok(Some(failure));
        }
        let reported = engine.reported(&ended)?;
        row.engine = format!("{} {}", engine.name(), reported.version);
        let wrong = match reported.answer {
            Some(given) => differs(&given, answer),
            None if row.verified => None,
            None => {
                let found =
                    engine.examine(&self.launcher.python, &self.places.output(engine.reads_parquet()))?;
                unsorted(&found, answer)
            }
        };
        if let Some(wrong) = wrong {
            row.failure = Some(wrong.clone());
            row.seconds.clear();
            return Ok(Some(Failure::Other(wrong)));
        }
        row.verified = true;
        row.seconds.extend(reported.seconds);
        Ok(None)
    }

    /// One process of ours.
    fn turn_of_ours(
        &self,
        point: &Point,
        budget: Budget,
        process_bytes: Option<u64>,
        right: &Right,
        row: &mut Row,
    ) -> Result<()> {
        let Some(harness) = self.harness.as_ref().filter(|_| row.failure.is_none()) else {
            return Ok(());
        };
        self.clear(point, false)?;
        let json = self.json();
        let invocation = harness.invocation(point, budget, self.arguments.threads, &self.places, &json);
        let ended = self.launcher.run(&invocation, &self.confinement, process_bytes)?;
        row.peak_rss_bytes = row.peak_rss_bytes.max(ended.peak_rss_bytes);
        row.cpu_seconds = ended.cpu_seconds;
        if let Some(failure) = ended.failure {
            row.failure = Some(failure.name());
            row.seconds.clear();
            return Ok(());
        }
        let result = harness.result(&json)?;
        let mut wrong = (result.result_records != right.answer.rows)
            .then(|| format!("wrong: {} rows for {}", result.result_records, right.answer.rows));
        if right.right_hash.as_ref() != Some(&result.result_hash) {
            wrong.get_or_insert("wrong: not the rows of the plain computation".into());
        }
        if wrong.is_none() && point.question == Question::SortRecords && row.seconds.is_empty() {
            wrong = unsorted(&expected::examine(&self.places.output(false))?, &right.answer);
        }
        if let Some(wrong) = wrong {
            row.failure = Some(wrong);
            row.seconds.clear();
            return Ok(());
        }
        row.verified = true;
        row.seconds.extend(&result.seconds);
        row.ours = Some(result);
        Ok(())
    }

    /// Where the harness writes its results.
    fn json(&self) -> PathBuf {
        self.launcher.directory.join("ours.json")
    }

    /// Puts the machine into the state in which every process finds it.
    fn clear(&self, point: &Point, parquet: bool) -> Result<()> {
        let failed = |path: &Path, error| Error::io(format!("cannot use {}", path.display()), error);
        for output in [false, true].map(|parquet| self.places.output(parquet)) {
            if output.exists() {
                fs::remove_file(&output).map_err(|error| failed(&output, error))?;
            }
        }
        // What a killed engine has left.
        let spill = &self.places.spill;
        fs::remove_dir_all(spill)
            .and_then(|()| fs::create_dir_all(spill))
            .map_err(|error| failed(spill, error))?;
        succeed(&mut Command::new("sync"))?;
        for dataset in &point.data {
            let path = match parquet {
                true => dataset.parquet(&self.places.data),
                false => dataset.binary(&self.places.data),
            };
            read_through(&path).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }

    fn remove(&self, point: &Point) -> Result<()> {
        for dataset in &point.data {
            for path in [
                dataset.binary(&self.places.data),
                dataset.parquet(&self.places.data),
            ] {
                fs::remove_file(&path)
                    .map_err(|error| Error::io(format!("cannot remove {}", path.display()), error))?;
            }
        }
        Ok(())
    }
}

fn differs(given: &Answer, right: &Answer) -> Option<String> {
    (given != right).then(|| format!("wrong: {given:?} for {right:?}"))
}

fn unsorted(found: &expected::SortedFile, answer: &Answer) -> Option<String> {
    if !found.ordered {
        return Some("wrong: not in order".into());
    }
    let given = Answer {
        rows: found.rows,
        sums: vec![found.fingerprint],
    };
    differs(&given, answer)
}

fn read_through(path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Processors, memory and kernel, in a few words.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let names = || {
        processors
            .lines()
            .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
    };
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    format!(
        "{} × {}, {} GiB, Linux {}",
        names().count(),
        names().next().map_or("processor", |(_, name)| name),
        (kib + (1 << 19)) >> 20,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expected::SortedFile;

    #[test]
    fn wrong_answers_are_said_to_be() {
        let right = Answer {
            rows: 2,
            sums: vec![3],
        };
        assert_eq!(differs(&right.clone(), &right), None);
        let found = SortedFile {
            rows: 2,
            ordered: true,
            fingerprint: 3,
        };
        assert_eq!(unsorted(&found, &right), None);
        let disordered = SortedFile {
            ordered: false,
            ..found.clone()
        };
        assert!(unsorted(&disordered, &right).is_some_and(|words| words.contains("order")));
        let changed = SortedFile {
            fingerprint: 4,
            ..found
        };
        assert!(unsorted(&changed, &right).is_some_and(|words| words.starts_with("wrong")));
    }
}
