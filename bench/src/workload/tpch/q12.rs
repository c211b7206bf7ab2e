//! Query 12, shipping modes and order priority: how many line items of two modes came late in a year though they had been
//! shipped in time, by whether their order was urgent.

use super::tables::{TableWriter, Tables};
use super::{Query, Value, day};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::sum;
use forebay::record::{Date, Record, first};
use forebay::{Environment, JoinStrategy, Stream};
use std::collections::{BTreeMap, HashMap};
use std::io;

pub struct Q12;

const MODES: [&str; 2] = ["MAIL", "SHIP"];
const URGENT: [&str; 2] = ["1-URGENT", "2-HIGH"];
const FIRST_RECEIVED: Date = day(1994, 1, 1);
const RECEIVED_BEFORE: Date = day(1995, 1, 1);

/// What is read of an order.
#[derive(Record)]
pub struct Order {
    key: u64,
    priority: String,
}

/// What is read of a line item.
#[derive(Record)]
pub struct Line {
    order: u64,
    shipped: Date,
    committed: Date,
    received: Date,
    mode: String,
}

/// A late line item.
#[derive(Record)]
pub struct Late {
    mode: String,
    is_urgent: u8,
    is_other: u8,
}

/// A mode, and how many line items of urgent and of other orders.
type Counted = (String, (u64, u64));

impl Query for Q12 {
    const NUMBER: i32 = 12;
    const NAME: &'static str = "tpch-q12";
    const ABOUT: &'static str = "TPC-H 12, shipping modes: lineitem and orders joined, 2 groups";
    const TABLES: &'static [TpchTable] = &[TpchTable::Orders, TpchTable::LineItem];
    type Row = Counted;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        tables.table::<Order>(|part, rows| {
            for order in data.orders(part) {
                rows.push(OrderView {
                    key: order.o_orderkey as u64,
                    priority: order.o_orderpriority,
                });
            }
        })?;
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(LineView {
                    order: line.l_orderkey as u64,
                    shipped: date(line.l_shipdate),
                    committed: date(line.l_commitdate),
                    received: date(line.l_receiptdate),
                    mode: line.l_shipmode,
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Counted> {
        let orders = environment.source("orders", tables.table::<Order>(TpchTable::Orders));
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .filter(|line: LineView<'_>| {
                line.received >= FIRST_RECEIVED
                    && line.received < RECEIVED_BEFORE
                    && line.committed < line.received
                    && line.shipped < line.committed
                    && MODES.contains(&line.mode)
            })
            .join(orders)
            .on(Line::order, Order::key)
            .strategy(JoinStrategy::Broadcast)
            .build_left()
            .inner(|line, order| {
                let is_urgent = URGENT.contains(&order.priority);
                Late {
                    mode: line.mode.into(),
                    is_urgent: is_urgent.into(),
                    is_other: (!is_urgent).into(),
                }
            })
            .group_by(Late::mode)
            .aggregate_final((sum(Late::is_urgent), sum(Late::is_other)))
            .sort_by(first::<Counted>())
    }

    fn plain(data: &TpchData) -> Vec<Counted> {
        let urgent: HashMap<i64, bool> = data
            .orders(TablePart::WHOLE)
            .map(|order| (order.o_orderkey, URGENT.contains(&order.o_orderpriority)))
            .collect();
        let mut counts = BTreeMap::<String, (u64, u64)>::new();
        for line in data.line_items(TablePart::WHOLE) {
            let is_late = line.l_shipdate < line.l_commitdate && line.l_commitdate < line.l_receiptdate;
            let is_of_year = date(line.l_receiptdate).calendar().0 == 1994;
            if is_late && is_of_year && MODES.contains(&line.l_shipmode) {
                let counts = counts.entry(line.l_shipmode.into()).or_default();
                match urgent[&line.l_orderkey] {
                    true => counts.0 += 1,
                    false => counts.1 += 1,
                }
            }
        }
        counts.into_iter().collect()
    }

    fn values((mode, (urgent, other)): (&str, (u64, u64))) -> Vec<Value> {
        vec![
            Value::Text(mode.into()),
            Value::whole(urgent),
            Value::whole(other),
        ]
    }
}
