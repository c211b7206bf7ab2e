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

mod parquet_tables;
pub mod tables;
mod published;
mod shared;
mod q01;
mod q03;
mod q04;
mod q05;
mod q06;
mod q09;
mod q10;
mod q12;
mod q13;
mod q14;
mod q18;

use super::input::hash_of;
use super::{Answer, Bare, Outcome, Workload, output};
use crate::data::tpch::{Comments, LINE_ITEMS, TpchData, TpchTable, scale_of};
use crate::limits::{MachineLimits, best_rate};
use crate::options::Choice;
use crate::scratch::Scratch;
use crate::setting::Setting;
use forebay::record::{Date, Decimal, Record};
use forebay::{Environment, Result, Stream};
use forebay_memory::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use tables::{TableWriter, Tables, write_tables};

/// See [`q01`].
pub const Q1: Workload = workload::<q01::Q1>();
/// See [`q03`].
pub const Q3: Workload = workload::<q03::Q3>();
/// See [`q04`].
pub const Q4: Workload = workload::<q04::Q4>();
/// See [`q05`].
pub const Q5: Workload = workload::<q05::Q5>();
/// See [`q06`].
pub const Q6: Workload = workload::<q06::Q6>();
/// See [`q09`].
pub const Q9: Workload = workload::<q09::Q9>();
/// See [`q10`].
pub const Q10: Workload = workload::<q10::Q10>();
/// See [`q12`].
pub const Q12: Workload = workload::<q12::Q12>();
/// See [`q13`].
pub const Q13: Workload = workload::<q13::Q13>();
/// See [`q14`].
pub const Q14: Workload = workload::<q14::Q14>();
/// See [`q18`].
pub const Q18: Workload = workload::<q18::Q18>();

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

    /// The tables that it reads, each once.
    const TABLES: &'static [TpchTable];

    /// Writes the columns that it reads, table by table.
    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()>;
    /// The job: its result in order.
    fn job(environment: &Environment, tables: &Tables) -> Stream<Self::Row>;
    /// The result, computed plainly.
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
               The columns that the query reads are written to a scratch file beforehand; --input DIR reads the files of\n\
               generate tpch --parquet of the same scale instead. Parameters are those of the specification's validation run,\n\
               and at --scale 1 every result is compared with the published answer.",
        records: LINE_ITEMS,
        keys: 0,
        takes: &[Choice::Scale, Choice::Input, Choice::Output],
        takes_of_files: &[Choice::Records, Choice::Scale, Choice::Output],
        prepare: prepare::<Q>,
        run: run::<Q>,
        oracle: oracle::<Q>,
        bare: bare::<Q>,
        stall: None,
        read_back: None,
    }
}

fn prepare<Q: Query>(setting: &mut Setting) -> Result<Option<Scratch>> {
    if let [directory] = &setting.input[..]
        && Path::new(directory).is_dir()
    {
        return Tables::open(Path::new(directory), Q::TABLES).map(|_| None);
    }
    if !setting.input.is_empty() {
        return Err(Error::config(format!(
            "--input: {} reads one directory, of Parquet files that generate tpch --parquet has written; without it, tables of \
             --scale are generated",
            Q::NAME
        )));
    }
    let data = TpchData::new(scale(setting), Q::COMMENTS)?;
    let scratch = write_tables(|tables| Q::write(&data, tables))?;
    setting.input = vec![scratch.path().display().to_string()];
    Ok(Some(scratch))
}

fn tables_of<Q: Query>(setting: &Setting) -> Result<Tables> {
    Tables::open(Path::new(input_of(setting)), Q::TABLES)
}

fn input_of(setting: &Setting) -> &str {
    let input = setting.input.first();
    input.expect("tables are written before they are read")
}

fn run<Q: Query>(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let tables = tables_of::<Q>(setting)?;
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
    let comments = match Q::COMMENTS {
        // Files have those that were generated.
        Comments::Read if Path::new(input_of(setting)).is_dir() => Comments::Exact,
        comments => comments,
    };
    let rows = Q::plain(&TpchData::new(scale(setting), comments)?);
    if scale(setting) == 1.0 {
        published::check(Q::NUMBER, rows.iter().map(|row| Q::values(row.view())))?;
    }
    Ok(answer(rows))
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
fn bare<Q: Query>(setting: &Setting, limits: &MachineLimits) -> Result<Bare> {
    let tables = tables_of::<Q>(setting)?;
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
            is_limit: true,
            rate,
            name: "file read".into(),
            what: "each thread reads its part of the file of tables, and nothing else".into(),
        }),
    }
}

/// Whether a text has one word and another behind it, as `like '%one%another%'` asks.
fn has_in_order(text: &str, [one, another]: [&str; 2]) -> bool {
    text.find(one)
        .is_some_and(|at| text[at + one.len()..].contains(another))
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
    use super::super::{WORKLOADS, environment};
    use super::*;
    use crate::setting::Mode;
    use forebay::Runtime;
    use forebay_memory::Plan;

    fn queries() -> impl Iterator<Item = &'static Workload> {
        WORKLOADS.iter().filter(|workload| is_query(workload.name))
    }

    #[test]
    fn every_query_equals_its_oracle_in_any_memory() {
        let mut spilled = 0;
        for workload in queries() {
            let mut setting = super::super::tests::setting(workload.name);
            let _input = (workload.prepare)(&mut setting).expect(workload.name);
            let expected = (workload.oracle)(&setting).expect(workload.name);
            assert!(expected.records > 0, "{} finds something", workload.name);
            for mode in [Mode::Batch, Mode::Streaming] {
                let setting = Setting {
                    mode,
                    ..setting.clone()
                };
                // The least of these that all of its operators have their minimum in, and plenty.
                let mut is_least = true;
                for managed in (16..512).step_by(8).chain([512, 16_384]) {
                    if !is_least && managed < 512 {
                        continue;
                    }
                    let plan = Plan::with_segments(managed, 512, 4096).expect("a plan for tests");
                    let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
                    let case = format!("{} {mode:?} {managed} segments", workload.name);
                    match (workload.run)(&environment(&runtime, &setting), &setting) {
                        Ok(outcome) => {
                            assert_eq!(outcome.answer, expected, "{case}");
                            if is_least {
                                spilled += outcome.summary.spilled_bytes_written();
                            }
                            is_least = false;
                        }
                        Err(error) => {
                            assert!(
                                error.to_string().contains("memory.managed_size"),
                                "{case}: {error}"
                            );
                            assert!(is_least, "{case}: {error}");
                        }
                    }
                    assert_eq!(runtime.manager().outstanding(), 0, "{case}");
                }
                assert!(!is_least, "{} runs in some memory", workload.name);
            }
        }
        assert!(spilled > 0, "the least memory is less than some query wants");
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn every_query_finds_the_same_in_parquet_files() {
        let directory = Scratch::name("tpch");
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let mut setting = super::super::tests::setting("tpch-q1");
        let data = TpchData::new(scale(&setting), Comments::Exact).expect("large enough");
        for table in TpchTable::ALL {
            let path = directory.join(format!("{}.parquet", table.name()));
            crate::data::parquet_files::write_tpch(table, &data, &path).expect("writable");
        }
        for workload in queries() {
            setting.workload = workload.name.into();
            setting.input = vec![directory.display().to_string()];
            let input = (workload.prepare)(&mut setting).expect(workload.name);
            assert!(input.is_none(), "nothing is generated");
            let expected = (workload.oracle)(&setting).expect(workload.name);
            assert!(expected.records > 0, "{} finds something", workload.name);
            let runtime = Runtime::new(super::super::plan(&setting).expect("a plan")).expect("memory");
            let outcome = (workload.run)(&environment(&runtime, &setting), &setting).expect(workload.name);
            assert_eq!(outcome.answer, expected, "{}", workload.name);
            assert!(outcome.records > 0 && outcome.bytes > 0);
        }
        std::fs::remove_file(directory.join("lineitem.parquet")).expect("it is there");
        let q6 = queries()
            .find(|workload| workload.name == "tpch-q6")
            .expect("a query");
        setting.input = vec![directory.display().to_string()];
        let error = (q6.prepare)(&mut setting)
            .map(|_| ())
            .expect_err("a table is missing");
        assert!(error.to_string().contains("lineitem.parquet"), "{error}");
        std::fs::remove_dir_all(&directory).expect("removable");
    }

    #[test]
    fn words_are_found_in_order_only() {
        let words = ["special", "requests"];
        assert!(has_in_order("a special, requests", words) && has_in_order("specialrequests", words));
        assert!(!has_in_order("requests are special", words) && !has_in_order("special request", words));
    }

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
