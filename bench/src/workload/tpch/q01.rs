//! Query 1, the pricing summary report: sums and averages of the line items shipped by a day, by return flag and line
//! status.

use super::tables::{TableWriter, Tables};
use super::{Query, Value, day, mean_of_hundredths};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::{count, sum, sum_of};
use forebay::record::{Date, Decimal, Record};
use forebay::{Environment, Stream};
use std::collections::BTreeMap;
use std::io;

pub struct Q1;

/// The last day of shipment: 1998-12-01 less 90 days.
const LAST_SHIPPED: Date = day(1998, 9, 2);

/// What is read of a line item; prices in cents, rates in hundredths.
#[derive(Record)]
pub struct Line {
    extended_price: i64,
    quantity: i32,
    discount: i32,
    tax: i32,
    shipped: Date,
    return_flag: u8,
    status: u8,
}

/// A row of the result.
#[derive(Debug, PartialEq, Record)]
pub struct Summary {
    return_flag: String,
    status: String,
    quantity: u64,
    base_price: Decimal,
    discounted_price: Decimal,
    charge: Decimal,
    mean_quantity: f64,
    mean_price: f64,
    mean_discount: f64,
    count: u64,
}

/// The sums of a group: quantity, discount, base price, discounted price, charge, and the number of line items.
type Sums = (i64, i64, i64, i64, i128, u64);

impl Query for Q1 {
    const NUMBER: i32 = 1;
    const NAME: &'static str = "tpch-q1";
    const ABOUT: &'static str = "TPC-H 1, pricing summary: 98 % of lineitem to 4 groups with 8 aggregates";
    const TABLES: &'static [TpchTable] = &[TpchTable::LineItem];
    type Row = Summary;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(
                    Line {
                        extended_price: line.l_extendedprice.into_inner(),
                        quantity: line.l_quantity as i32,
                        discount: line.l_discount.into_inner() as i32,
                        tax: line.l_tax.into_inner() as i32,
                        shipped: date(line.l_shipdate),
                        return_flag: line.l_returnflag.as_bytes()[0],
                        status: line.l_linestatus.as_bytes()[0],
                    }
                    .view(),
                );
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Summary> {
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .filter(|line: LineView<'_>| line.shipped <= LAST_SHIPPED)
            .group_by((Line::return_flag, Line::status))
            .aggregate_final((
                sum(Line::quantity),
                sum(Line::discount),
                sum(Line::extended_price),
                sum_of(|line: LineView<'_>| discounted(&line)),
                // In ten-thousandths of a cent: the sum of 80 M line items would overflow 64 bits.
                sum_of(|line: LineView<'_>| i128::from(discounted(&line)) * i128::from(100 + line.tax)),
                count(),
            ))
            .map(|(group, sums)| summary(group, sums))
            .sort_by((Summary::return_flag, Summary::status))
    }

    fn plain(data: &TpchData) -> Vec<Summary> {
        let mut groups = BTreeMap::<(u8, u8), Sums>::new();
        for line in data.line_items(TablePart::WHOLE) {
            if date(line.l_shipdate) > LAST_SHIPPED {
                continue;
            }
            let group = (line.l_returnflag.as_bytes()[0], line.l_linestatus.as_bytes()[0]);
            let (price, discount) = (line.l_extendedprice.into_inner(), line.l_discount.into_inner());
            let sums = groups.entry(group).or_default();
            sums.0 += line.l_quantity;
            sums.1 += discount;
            sums.2 += price;
            sums.3 += price * (100 - discount);
            sums.4 += i128::from(price * (100 - discount) * (100 + line.l_tax.into_inner()));
            sums.5 += 1;
        }
        groups
            .into_iter()
            .map(|(group, sums)| summary(group, sums))
            .collect()
    }

    fn values(row: SummaryView<'_>) -> Vec<Value> {
        vec![
            Value::Text(row.return_flag.into()),
            Value::Text(row.status.into()),
            Value::whole(row.quantity),
            Value::Exact(row.base_price),
            Value::Exact(row.discounted_price),
            Value::Exact(row.charge),
            Value::Float(row.mean_quantity),
            Value::Float(row.mean_price),
            Value::Float(row.mean_discount),
            Value::whole(row.count),
        ]
    }
}

/// In hundredths of a cent.
fn discounted(line: &LineView<'_>) -> i64 {
    line.extended_price * i64::from(100 - line.discount)
}

fn summary(
    (return_flag, status): (u8, u8),
    (quantity, discount, price, discounted, charge, count): Sums,
) -> Summary {
    Summary {
        return_flag: char::from(return_flag).into(),
        status: char::from(status).into(),
        quantity: quantity as u64,
        base_price: Decimal::new(price.into(), 2),
        discounted_price: Decimal::new(discounted.into(), 4),
        charge: Decimal::new(charge, 6),
        mean_quantity: quantity as f64 / count as f64,
        mean_price: mean_of_hundredths(price, count),
        mean_discount: mean_of_hundredths(discount, count),
        count,
    }
}
