//! `tpch-q1` and its kin: TPC-H queries as typed jobs.
//!
//! # Interface
//! A query is a type with [`Query`], made a workload here; [`scale`] is the scale factor of a setting.
//!
//! # Algorithm
//! Before anything is measured, the columns that a query reads are written to a scratch file, a table after the other, in the
//! engine's rows. A job reads them, and its result is collected in order. At scale factor 1 it is compared with the
//! published answer in every run; at any scale `--verify` compares it with a plain computation over vectors and maps.
//!
//! # Layout
//! Money is a whole number of cents, or of their fractions once it was multiplied by a rate in hundredths, in 64 bits;
//! results have it as `Decimal`.

pub mod tables;
mod published;
mod q01;
mod q06;

use super::input::hash_of;
use super::{Answer, Bare, Outcome, Workload, output};
use crate::data::tpch::{Comments, LINE_ITEMS, TpchData, scale_of};
use crate::limits::{MachineLimits, best_rate};
use crate::scratch::Scratch;
use crate::setting::Setting;
use forebay::record::{Date, Decimal, Record};
use forebay::{Environment, Result, Stream};
use forebay_memory::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use tables::{TableFile, TableWriter, write_tables};

/// See [`q01`].
pub const Q1: Workload = workload::<q01::Q1>();
/// See [`q06`].
pub const Q6: Workload = workload::<q06::Q6>();

/// A query.
trait Query: 'static {
    /// Its number in the specification.
    const NUMBER: i32;
    /// What it is called on the command line.
    const NAME: &'static str;
    /// What it asks, in a line.
    const ABOUT: &'static str;
    /// Whether it reads comments.
    const COMMENTS: Comments = Comments::Unread;
    /// A row of its result.
    type Row: Record;

    /// Writes the columns that it reads.
    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()>;
    /// The job: its result, in one subtask.
    fn job(environment: &Environment, tables: &TableFile) -> Stream<Self::Row>;
    /// Puts the rows of the job in order.
    fn order(_: &mut [Self::Row]) {}
    /// The result in order, computed plainly.
    fn plain(data: &TpchData) -> Vec<Self::Row>;
    /// The values of a row, as the specification has them.
    fn values(row: <Self::Row as Record>::View<'_>) -> Vec<Value>;
}

/// A value of a result.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// Text, or a day as text.
    Text(String),
    /// A whole or decimal number.
    Exact(Decimal),
    /// A quotient.
    Float(f64),
}

impl Value {
    fn whole(number: u64) -> Value {
        Value::Exact(Decimal::new(number.into(), 0))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Exact(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number}"),
        }
    }
}

/// Whether the workload called `name` is a query.
pub fn is_query(name: &str) -> bool {
    name.starts_with("tpch-")
}

/// The scale factor of a setting.
pub fn scale(setting: &Setting) -> f64 {
    scale_of(setting.records)
}

/// Whether a result of the setting was compared with a published answer.
pub fn is_published(setting: &Setting) -> bool {
    is_query(&setting.workload) && scale(setting) == 1.0
}

const fn workload<Q: Query>() -> Workload {
    Workload {
        name: Q::NAME,
        about: Q::ABOUT,
        help: "TPC-H data of the crate tpchgen, which equals dbgen's; --scale S is the scale factor (1: 6 M line items).\n\
               The columns that the query reads are written to a scratch file beforehand. Parameters are those of the\n\
               specification's validation run, and at --scale 1 every result is compared with the published answer.",
        records: LINE_ITEMS,
        keys: 0,
        emits_updates: false,
        has_schedule: false,
        prepare: prepare::<Q>,
        run: run::<Q>,
        oracle: oracle::<Q>,
        bare,
        stall: None,
        read_back: None,
    }
}

fn prepare<Q: Query>(setting: &mut Setting) -> Result<Option<Scratch>> {
    if !setting.input.is_empty() {
        return Err(Error::config(format!(
            "--input: {} generates its tables; choose their size by --scale",
            Q::NAME
        )));
    }
    let data = TpchData::new(scale(setting), Q::COMMENTS)?;
    let scratch = write_tables(|tables| Q::write(&data, tables))?;
    setting.input = vec![scratch.path().display().to_string()];
    Ok(Some(scratch))
}

fn tables_of(setting: &Setting) -> Result<TableFile> {
    let path = setting
        .input
        .first()
        .expect("tables are written before they are read");
    TableFile::open(Path::new(path))
}

fn run<Q: Query>(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let tables = tables_of(setting)?;
    let results = Q::job(environment, &tables);
    let (mut rows, summary);
    if setting.output.is_some() {
        let sink = output::output::<Q::Row, _>(setting, |row, line| {
            let values = Q::values(row).into_iter().map(|value| value.to_string());
            line.push_str(&values.collect::<Vec<_>>().join("|"));
        });
        results.sink("files", sink);
        summary = environment.execute(Q::NAME)?;
        rows = Vec::new();
    } else {
        let collected = results.collect();
        summary = environment.execute(Q::NAME)?;
        rows = collected.take();
        Q::order(&mut rows);
        if scale(setting) == 1.0 {
            published::check(Q::NUMBER, rows.iter().map(|row| Q::values(row.view())))?;
        }
    }
    Ok(Outcome {
        records: tables.rows(),
        bytes: tables.bytes(),
        answer: answer(std::mem::take(&mut rows)),
        summary,
        latency: None,
    })
}

fn oracle<Q: Query>(setting: &Setting) -> Result<Answer> {
    Ok(answer(Q::plain(&TpchData::new(scale(setting), Q::COMMENTS)?)))
}

/// Rows in order as an answer: each is hashed with its place.
fn answer<R: Record>(rows: Vec<R>) -> Answer {
    let mut bytes = Vec::new();
    let mut answer = Answer::default();
    for row in (0u64..).zip(rows) {
        answer.records += 1;
        answer.hash = answer.hash.wrapping_add(hash_of(&row, &mut bytes));
    }
    answer
}

/// All threads read the tables, and do nothing else.
fn bare(setting: &Setting, limits: &MachineLimits) -> Result<Bare> {
    let tables = tables_of(setting)?;
    let threads = setting.parallelism.min(limits.threads);
    let failure = Mutex::new(None);
    let rate = best_rate(
        threads,
        |_| Vec::new(),
        |thread, buffer| {
            tables.read_part(thread, threads, buffer).unwrap_or_else(|error| {
                *failure.lock().expect("storing does not panic") = Some(error);
                0
            })
        },
    );
    match failure.into_inner().expect("storing does not panic") {
        Some(error) => Err(error),
        None => Ok(Bare {
            rate,
            name: "file read".into(),
            what: "each thread reads its part of the file of tables, and nothing else".into(),
        }),
    }
}

/// A day of the calendar.
const fn day(year: i32, month: u32, day: u32) -> Date {
    // Days before the year, then before the month: Date::from_calendar is no constant function.
    let before = year - 1;
    let days = before * 365 + before / 4 - before / 100 + before / 400;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let of_year = months[month as usize - 1] + if leap && month > 2 { 1 } else { 0 } + day as i32 - 1;
    Date::from_days(days + of_year - 719_162)
}

/// The average of `count` whole numbers that are hundredths.
fn mean_of_hundredths(sum: i64, count: u64) -> f64 {
    sum as f64 / (100 * count) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (year, month, number) in [
            (1970, 1, 1),
            (1992, 2, 29),
            (1995, 3, 15),
            (1998, 12, 31),
            (2000, 3, 1),
        ] {
            assert_eq!(
                Some(day(year, month, number)),
                Date::from_calendar(year, month, number)
            );
        }
    }
}
