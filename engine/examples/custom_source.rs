//! A source written outside the crate: readings of 16 bytes each from a binary file.
//!
//! ```text
//! cargo run --release -p forebay --example custom_source -- readings.bin
//! ```
//!
//! A source answers three questions. Which parts has the data, so that several subtasks can read it? That is
//! [`Source::splits`]. How is a part opened? [`Source::reader`]. What comes next? [`SourceReader::poll`], which emits records
//! until a batch is full and then returns, because the worker has other tasks to poll.

use forebay::aggregate::{avg, count, max};
use forebay::record::Record;
use forebay::source::{Source, SourceOutput, SourceReader, SourceStatus};
use forebay::{Environment, Error, Result, Runtime};
use forebay_memory::Plan;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a sensor said.
#[derive(Record)]
pub struct Reading {
    /// Which one.
    pub sensor: u64,
    /// What it measured.
    pub value: f64,
}

const SIZE: u64 = 16;

/// The readings of a file, each a sensor (u64) and a value (f64), little-endian.
pub struct Readings {
    path: PathBuf,
}

impl Readings {
    /// The readings in the file at `path`.
    pub fn of(path: impl Into<PathBuf>) -> Readings {
        Readings { path: path.into() }
    }

    fn error(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot read \"{}\"", self.path.display()), error)
    }
}

impl Source for Readings {
    type Out = Reading;
    /// The readings of a part, by their numbers.
    type Split = Range<u64>;
    type Reader = ReadingsReader;

    fn splits(&self, parallelism: usize) -> Result<Vec<Range<u64>>> {
        let size = std::fs::metadata(&self.path)
            .map_err(|error| self.error(error))?
            .len();
        if size % SIZE != 0 {
            return Err(Error::corrupt(format!(
                "\"{}\" has {size} bytes, which is no multiple of {SIZE}, the size of a reading",
                self.path.display()
            )));
        }
        // Several parts for each subtask: whoever is done first takes another.
        let count = size / SIZE;
        let part = count.div_ceil(4 * parallelism as u64).max(1);
        Ok((0..count.div_ceil(part))
            .map(|index| index * part..((index + 1) * part).min(count))
            .collect())
    }

    fn reader(&self, split: Range<u64>) -> Result<ReadingsReader> {
        let open = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(split.start * SIZE))?;
            Ok(BufReader::with_capacity(64 << 10, file))
        };
        Ok(ReadingsReader {
            file: open().map_err(|error| self.error(error))?,
            left: split.end - split.start,
        })
    }
}

/// Reads a part of [`Readings`].
pub struct ReadingsReader {
    file: BufReader<File>,
    left: u64,
}

impl SourceReader for ReadingsReader {
    type Out = Reading;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, Reading>) -> Result<SourceStatus> {
        while !out.is_full() {
            if self.left == 0 {
                return Ok(SourceStatus::Done);
            }
            let mut bytes = [0; SIZE as usize];
            self.file
                .read_exact(&mut bytes)
                .map_err(|error| Error::io("the readings ended early", error))?;
            let (sensor, value) = bytes.split_at(8);
            out.push(ReadingView {
                sensor: u64::from_le_bytes(sensor.try_into().expect("eight bytes")),
                value: f64::from_le_bytes(value.try_into().expect("eight bytes")),
            });
            self.left -= 1;
        }
        Ok(SourceStatus::More)
    }
}

/// What is known of a sensor: its number, how many readings, the largest, their average.
pub type SensorSummary = (u64, (u64, f64, f64));

/// Sums up each sensor of a file.
pub fn sum_up(environment: &Environment, path: &Path) -> Result<Vec<SensorSummary>> {
    let summaries = environment
        .source("readings", Readings::of(path))
        .key_by(Reading::sensor)
        .aggregate((count(), max(Reading::value), avg(Reading::value)))
        .collect();
    environment.execute("sensors")?;
    let mut summaries = summaries.take();
    summaries.sort_by_key(|summary| summary.0);
    Ok(summaries)
}

fn main() -> Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: custom_source FILE");
        std::process::exit(2);
    };
    let environment = Environment::new(Runtime::new(Plan::load(None, &[""; 0])?)?);
    for (sensor, (count, largest, average)) in sum_up(&environment, Path::new(&path))? {
        println!("sensor {sensor}: {count} readings, at most {largest}, {average} on average");
    }
    Ok(())
}
