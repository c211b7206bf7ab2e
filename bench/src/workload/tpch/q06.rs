//! Query 6, the forecast of a change of revenue: the sum of the discounts of a year's line items with a given discount and
//! small quantity.

use super::tables::{TableWriter, Tables};
use super::{Query, Value, day};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::sum_of;
use forebay::record::{Date, Decimal, Record};
use forebay::{Environment, Stream};
use std::io;

pub struct Q6;

const FIRST_SHIPPED: Date = day(1994, 1, 1);
const SHIPPED_BEFORE: Date = day(1995, 1, 1);
const DISCOUNTS: std::ops::RangeInclusive<i32> = 5..=7;
const QUANTITY_BELOW: i32 = 24;

/// What is read of a line item; the price in cents, the discount in hundredths.
#[derive(Record)]
pub struct Line {
    extended_price: i64,
    quantity: i32,
    discount: i32,
    shipped: Date,
}

impl Query for Q6 {
    const NUMBER: i32 = 6;
    const NAME: &'static str = "tpch-q6";
    const ABOUT: &'static str = "TPC-H 6, revenue change: 2 % of lineitem to one sum";
    const TABLES: &'static [TpchTable] = &[TpchTable::LineItem];
    type Row = (Decimal,);

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(
                    Line {
                        extended_price: line.l_extendedprice.into_inner(),
                        quantity: line.l_quantity as i32,
                        discount: line.l_discount.into_inner() as i32,
                        shipped: date(line.l_shipdate),
                    }
                    .view(),
                );
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<(Decimal,)> {
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .filter(|line: LineView<'_>| {
                line.shipped >= FIRST_SHIPPED
                    && line.shipped < SHIPPED_BEFORE
                    && DISCOUNTS.contains(&line.discount)
                    && line.quantity < QUANTITY_BELOW
            })
            .aggregate_final(sum_of(|line: LineView<'_>| {
                line.extended_price * i64::from(line.discount)
            }))
            .map(|sum| (Decimal::new(sum.into(), 4),))
            .name("revenue")
    }

    fn plain(data: &TpchData) -> Vec<(Decimal,)> {
        let sum: i64 = data
            .line_items(TablePart::WHOLE)
            .filter(|line| (FIRST_SHIPPED..SHIPPED_BEFORE).contains(&date(line.l_shipdate)))
            .filter(|line| (5..=7).contains(&line.l_discount.into_inner()) && line.l_quantity < 24)
            .map(|line| line.l_extendedprice.into_inner() * line.l_discount.into_inner())
            .sum();
        vec![(Decimal::new(sum.into(), 4),)]
    }

    fn values((revenue,): (Decimal,)) -> Vec<Value> {
        vec![Value::Exact(revenue)]
    }
}
