//! Query 14, promotion effect: the share that promoted parts have of a month's revenue, in percent.

use super::tables::{TableWriter, Tables};
use super::{Query, Value, day};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::sum;
use forebay::record::{Date, Record, first};
use forebay::{Environment, Stream};
use std::collections::HashSet;
use std::io;

pub struct Q14;

const PROMOTED: &str = "PROMO";
const FIRST_SHIPPED: Date = day(1995, 9, 1);
const SHIPPED_BEFORE: Date = day(1995, 10, 1);

/// What is read of a part.
#[derive(Record)]
pub struct Part {
    key: u32,
    kind: String,
}

/// What is read of a line item; the price in cents, the discount in hundredths.
#[derive(Record)]
pub struct Line {
    extended_price: i64,
    part: u32,
    discount: i32,
    shipped: Date,
}

/// The revenue of a line item, in hundredths of a cent, and what promoted parts have of it.
#[derive(Record)]
pub struct Sale {
    promoted: i64,
    revenue: i64,
}

impl Query for Q14 {
    const NUMBER: i32 = 14;
    const NAME: &'static str = "tpch-q14";
    const ABOUT: &'static str = "TPC-H 14, promotion effect: a month of lineitem joined with part, two sums";
    const TABLES: &'static [TpchTable] = &[TpchTable::Part, TpchTable::LineItem];
    type Row = (f64,);

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        tables.table::<Part>(|part, rows| {
            for part in data.parts(part) {
                rows.push(PartView {
                    key: part.p_partkey as u32,
                    kind: part.p_type,
                });
            }
        })?;
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(LineView {
                    extended_price: line.l_extendedprice.into_inner(),
                    part: line.l_partkey as u32,
                    discount: line.l_discount.into_inner() as i32,
                    shipped: date(line.l_shipdate),
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<(f64,)> {
        let parts = environment
            .source("part", tables.table::<Part>(TpchTable::Part))
            .map(|part: PartView<'_>| (part.key, part.kind.starts_with(PROMOTED)));
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .filter(|line: LineView<'_>| line.shipped >= FIRST_SHIPPED && line.shipped < SHIPPED_BEFORE)
            .join(parts)
            .on(Line::part, first::<(u32, bool)>())
            .build_left()
            .inner(|line, (_, is_promoted)| {
                let revenue = line.extended_price * i64::from(100 - line.discount);
                Sale {
                    promoted: if is_promoted { revenue } else { 0 },
                    revenue,
                }
            })
            .aggregate_final((sum(Sale::promoted), sum(Sale::revenue)))
            .map(|(promoted, revenue)| (percent(promoted, revenue),))
            .name("share")
    }

    fn plain(data: &TpchData) -> Vec<(f64,)> {
        let promoted: HashSet<i64> = data
            .parts(TablePart::WHOLE)
            .filter(|part| part.p_type.starts_with(PROMOTED))
            .map(|part| part.p_partkey)
            .collect();
        let mut sums = (0, 0);
        for line in data.line_items(TablePart::WHOLE) {
            let (year, month, _) = date(line.l_shipdate).calendar();
            if (year, month) == (1995, 9) {
                let revenue = line.l_extendedprice.into_inner() * (100 - line.l_discount.into_inner());
                sums.1 += revenue;
                if promoted.contains(&line.l_partkey) {
                    sums.0 += revenue;
                }
            }
        }
        vec![(percent(sums.0, sums.1),)]
    }

    fn values((share,): (f64,)) -> Vec<Value> {
        vec![Value::Float(share)]
    }
}

fn percent(part: i64, whole: i64) -> f64 {
    100.0 * part as f64 / whole as f64
}
