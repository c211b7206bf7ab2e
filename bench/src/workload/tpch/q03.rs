//! Query 3, shipping priority: the ten orders of a market segment that had not been shipped by a day and have the largest
//! revenue.

use super::tables::{TableWriter, Tables};
use super::{Query, Value, day};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::{min, sum};
use forebay::record::{Date, Decimal, Record, itself};
use forebay::{Environment, JoinStrategy, Stream};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io;

pub struct Q3;

const SEGMENT: &str = "BUILDING";
/// Orders are from before this day, and line items of them were shipped after it.
const DAY: Date = day(1995, 3, 15);
const MOST: usize = 10;

/// What is read of a customer.
#[derive(Record)]
pub struct Customer {
    key: u32,
    segment: String,
}

/// What is read of an order.
#[derive(Record)]
pub struct Order {
    key: u64,
    customer: u32,
    date: Date,
    ship_priority: i32,
}

/// What is read of a line item; the price in cents, the discount in hundredths.
#[derive(Record)]
pub struct Line {
    order: u64,
    extended_price: i64,
    discount: i32,
    shipped: Date,
}

/// A line item of such an order; its revenue in hundredths of a cent.
#[derive(Record)]
pub struct Sale {
    order: u64,
    revenue: i64,
    date: Date,
    ship_priority: i32,
}

/// A row of the result.
#[derive(Debug, PartialEq, Record)]
pub struct Unshipped {
    order: u64,
    revenue: Decimal,
    date: Date,
    ship_priority: i32,
}

impl Query for Q3 {
    const NUMBER: i32 = 3;
    const NAME: &'static str = "tpch-q3";
    const ABOUT: &'static str =
        "TPC-H 3, shipping priority: customer, orders and lineitem joined, grouped by order, 10 best";
    const TABLES: &'static [TpchTable] = &[TpchTable::Customer, TpchTable::Orders, TpchTable::LineItem];
    type Row = Unshipped;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        tables.table::<Customer>(|part, rows| {
            for customer in data.customers(part) {
                rows.push(CustomerView {
                    key: customer.c_custkey as u32,
                    segment: customer.c_mktsegment,
                });
            }
        })?;
        tables.table::<Order>(|part, rows| {
            for order in data.orders(part) {
                rows.push(OrderView {
                    key: order.o_orderkey as u64,
                    customer: order.o_custkey as u32,
                    date: date(order.o_orderdate),
                    ship_priority: order.o_shippriority,
                });
            }
        })?;
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(LineView {
                    order: line.l_orderkey as u64,
                    extended_price: line.l_extendedprice.into_inner(),
                    discount: line.l_discount.into_inner() as i32,
                    shipped: date(line.l_shipdate),
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Unshipped> {
        let customers = environment
            .source("customer", tables.table::<Customer>(TpchTable::Customer))
            .filter(|customer: CustomerView<'_>| customer.segment == SEGMENT)
            .map(|customer| customer.key);
        let orders = environment
            .source("orders", tables.table::<Order>(TpchTable::Orders))
            .filter(|order: OrderView<'_>| order.date < DAY)
            .join(customers)
            .on(Order::customer, itself())
            .strategy(JoinStrategy::Broadcast)
            .semi();
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .filter(|line: LineView<'_>| line.shipped > DAY)
            .join(orders)
            .on(Line::order, Order::key)
            .inner(|line, order| Sale {
                order: line.order,
                revenue: line.extended_price * i64::from(100 - line.discount),
                date: order.date,
                ship_priority: order.ship_priority,
            })
            // An order has one date and one priority.
            .still_keyed_by(Sale::order)
            .aggregate_final((sum(Sale::revenue), min(Sale::date), min(Sale::ship_priority)))
            .map(|(order, (revenue, date, ship_priority))| Unshipped {
                order,
                revenue: Decimal::new(revenue.into(), 4),
                date,
                ship_priority,
            })
            .top(
                MOST as u64,
                (Unshipped::revenue.descending(), Unshipped::date, Unshipped::order),
            )
    }

    fn plain(data: &TpchData) -> Vec<Unshipped> {
        let whole = TablePart::WHOLE;
        let customers: HashSet<i64> = data
            .customers(whole)
            .filter(|customer| customer.c_mktsegment == SEGMENT)
            .map(|customer| customer.c_custkey)
            .collect();
        let mut orders: HashMap<i64, (Date, i32, i64)> = data
            .orders(whole)
            .filter(|order| date(order.o_orderdate) < DAY && customers.contains(&order.o_custkey))
            .map(|order| {
                (
                    order.o_orderkey,
                    (date(order.o_orderdate), order.o_shippriority, 0),
                )
            })
            .collect();
        for line in data.line_items(whole).filter(|line| date(line.l_shipdate) > DAY) {
            if let Some((_, _, revenue)) = orders.get_mut(&line.l_orderkey) {
                *revenue += line.l_extendedprice.into_inner() * (100 - line.l_discount.into_inner());
            }
        }
        // A line item costs something, so an order without revenue has none that counts.
        let mut rows: Vec<Unshipped> = orders
            .into_iter()
            .filter(|(_, (_, _, revenue))| *revenue > 0)
            .map(|(order, (date, ship_priority, revenue))| Unshipped {
                order: order as u64,
                revenue: Decimal::new(revenue.into(), 4),
                date,
                ship_priority,
            })
            .collect();
        rows.sort_by_key(|row| (Reverse(row.revenue), row.date, row.order));
        rows.truncate(MOST);
        rows
    }

    fn values(row: UnshippedView<'_>) -> Vec<Value> {
        vec![
            Value::whole(row.order),
            Value::Exact(row.revenue),
            Value::Text(row.date.to_string()),
            Value::Exact(Decimal::new(row.ship_priority.into(), 0)),
        ]
    }
}
