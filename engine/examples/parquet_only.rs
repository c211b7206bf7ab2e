//! How long a Parquet file of line items (`generate tpch --parquet`) takes with predicates that few, some, and most rows satisfy.
//!
//! ```text
//! cargo run --release -p forebay --features parquet --example parquet_only -- DIR/lineitem.parquet
//! ```

use forebay::record::{Date, Record};
use forebay::source::{Predicate, parquet};
use forebay::{Environment, Runtime};
use forebay_memory::Plan;
use std::error::Error;

#[derive(Record)]
struct Line {
    order: u64,
    part: u32,
    quantity: i32,
    extended_price: i64,
    discount: i32,
    shipped: Date,
    instruction: String,
    comment: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name a file of line items")?;
    let day = |year| Date::from_calendar(year, 1, 1).expect("a day of the calendar");
    let wanted: [(&str, Predicate<Line>); 4] = [
        ("one row in 200,000", Line::part.eq(7)),
        (
            "2 %",
            (Line::shipped.ge(day(1994)).and(Line::shipped.lt(day(1995))))
                .and(Line::discount.ge(5).and(Line::discount.le(7)))
                .and(Line::quantity.lt(24)),
        ),
        (
            "a year, 15 %",
            Line::shipped.ge(day(1994)).and(Line::shipped.lt(day(1995))),
        ),
        ("98 %", Line::shipped.lt(day(1998))),
    ];
    let assignments: &[&str] = &["memory.managed_size=64MiB", "memory.user_size=256MiB"];
    for (name, wanted) in wanted {
        let environment = Environment::new(Runtime::new(Plan::load(None, assignments)?)?);
        let source = parquet::<Line>(&*path).only(wanted);
        let counts = source.counts();
        let total = environment
            .source("line items", source)
            .map(|line: LineView<'_>| line.order + line.comment.len() as u64)
            .count()
            .collect();
        let summary = environment.execute(name)?;
        println!(
            "{name:20} {:?} rows, {:.3} s, {} MB read, {} rows sifted",
            total.take(),
            summary.elapsed.as_secs_f64(),
            counts.bytes_read() / 1_000_000,
            counts.rows_sifted()
        );
    }
    Ok(())
}
