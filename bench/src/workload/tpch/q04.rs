//! Query 4, order priority checking: how many orders of a quarter, by priority, have a line item that came late.

use super::tables::{TableWriter, Tables};
use super::{Query, Value, day};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::count;
use forebay::record::{Date, Record, first, itself};
use forebay::{Environment, Stream};
use std::collections::{BTreeMap, HashSet};
use std::io;

pub struct Q4;

const FIRST_ORDERED: Date = day(1993, 7, 1);
const ORDERED_BEFORE: Date = day(1993, 10, 1);

/// What is read of an order.
#[derive(Record)]
pub struct Order {
    key: u64,
    date: Date,
    priority: String,
}

/// What is read of a line item.
#[derive(Record)]
pub struct Line {
    order: u64,
    committed: Date,
    received: Date,
}

/// A priority and the number of its orders.
type Counted = (String, u64);

impl Query for Q4 {
    const NUMBER: i32 = 4;
    const NAME: &'static str = "tpch-q4";
    const ABOUT: &'static str =
        "TPC-H 4, order priorities: orders with a late line item (semi join) to 5 groups";
    const TABLES: &'static [TpchTable] = &[TpchTable::Orders, TpchTable::LineItem];
    type Row = Counted;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        tables.table::<Order>(|part, rows| {
            for order in data.orders(part) {
                rows.push(OrderView {
                    key: order.o_orderkey as u64,
                    date: date(order.o_orderdate),
                    priority: order.o_orderpriority,
                });
            }
        })?;
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(LineView {
                    order: line.l_orderkey as u64,
                    committed: date(line.l_commitdate),
                    received: date(line.l_receiptdate),
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Counted> {
        let late = environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .filter(|line: LineView<'_>| line.committed < line.received)
            .map(|line| line.order);
        environment
            .source("orders", tables.table::<Order>(TpchTable::Orders))
            .filter(|order: OrderView<'_>| order.date >= FIRST_ORDERED && order.date < ORDERED_BEFORE)
            .join(late)
            .on(Order::key, itself())
            .build_left()
            .semi()
            .group_by(Order::priority)
            .aggregate_final(count())
            .sort_by(first::<Counted>())
    }

    fn plain(data: &TpchData) -> Vec<Counted> {
        let late: HashSet<i64> = data
            .line_items(TablePart::WHOLE)
            .filter(|line| line.l_commitdate < line.l_receiptdate)
            .map(|line| line.l_orderkey)
            .collect();
        let mut counts = BTreeMap::new();
        for order in data.orders(TablePart::WHOLE) {
            let is_meant = (FIRST_ORDERED..ORDERED_BEFORE).contains(&date(order.o_orderdate));
            if is_meant && late.contains(&order.o_orderkey) {
                *counts.entry(order.o_orderpriority.to_string()).or_default() += 1;
            }
        }
        counts.into_iter().collect()
    }

    fn values((priority, count): (&str, u64)) -> Vec<Value> {
        vec![Value::Text(priority.into()), Value::whole(count)]
    }
}
