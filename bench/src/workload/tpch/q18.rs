//! Query 18, large volume customers: the hundred dearest orders of more than 300 pieces.

use super::tables::{TableWriter, Tables};
use super::{Query, Value};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::sum;
use forebay::record::{Date, Decimal, Record, first};
use forebay::{Environment, JoinStrategy, Stream};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;

pub struct Q18;

const MORE_THAN: i64 = 300;
const MOST: usize = 100;

/// What is read of a customer.
#[derive(Record)]
pub struct Customer {
    key: u32,
    name: String,
}

/// What is read of an order; the price in cents.
#[derive(Record)]
pub struct Order {
    key: u64,
    total_price: i64,
    customer: u32,
    date: Date,
}

/// What is read of a line item.
#[derive(Record)]
pub struct Line {
    order: u64,
    quantity: i32,
}

/// An order and its pieces.
type Pieces = (u64, i64);

/// A row of the result.
#[derive(Debug, PartialEq, Record)]
pub struct Large {
    name: String,
    customer: u32,
    order: u64,
    date: Date,
    total_price: Decimal,
    quantity: i64,
}

impl Query for Q18 {
    const NUMBER: i32 = 18;
    const NAME: &'static str = "tpch-q18";
    const ABOUT: &'static str =
        "TPC-H 18, large volume customers: lineitem grouped by order, the large ones joined, 100 best";
    const TABLES: &'static [TpchTable] = &[TpchTable::Customer, TpchTable::Orders, TpchTable::LineItem];
    type Row = Large;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        tables.table::<Customer>(|part, rows| {
            for customer in data.customers(part) {
                rows.push(CustomerView {
                    key: customer.c_custkey as u32,
                    name: &customer.c_name.to_string(),
                });
            }
        })?;
        tables.table::<Order>(|part, rows| {
            for order in data.orders(part) {
                rows.push(OrderView {
                    key: order.o_orderkey as u64,
                    total_price: order.o_totalprice.into_inner(),
                    customer: order.o_custkey as u32,
                    date: date(order.o_orderdate),
                });
            }
        })?;
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(LineView {
                    order: line.l_orderkey as u64,
                    quantity: line.l_quantity as i32,
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Large> {
        let customers = environment.source("customer", tables.table::<Customer>(TpchTable::Customer));
        let orders = environment.source("orders", tables.table::<Order>(TpchTable::Orders));
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .group_by(Line::order)
            .aggregate_final(sum(Line::quantity))
            .filter(|(_, quantity)| quantity > MORE_THAN)
            .join(orders)
            .on(first::<Pieces>(), Order::key)
            .strategy(JoinStrategy::Broadcast)
            .build_left()
            .inner(|(order, quantity), found| Large {
                name: String::new(),
                customer: found.customer,
                order,
                date: found.date,
                total_price: Decimal::new(found.total_price.into(), 2),
                quantity,
            })
            .join(customers)
            .on(Large::customer, Customer::key)
            .strategy(JoinStrategy::Broadcast)
            .build_left()
            .inner(|large, customer| Large {
                name: customer.name.into(),
                ..Large::from_view(large)
            })
            .top(
                MOST as u64,
                (Large::total_price.descending(), Large::date, Large::order),
            )
    }

    fn plain(data: &TpchData) -> Vec<Large> {
        let whole = TablePart::WHOLE;
        let mut pieces = HashMap::<i64, i64>::new();
        for line in data.line_items(whole) {
            *pieces.entry(line.l_orderkey).or_default() += line.l_quantity;
        }
        let names: HashMap<i64, String> = data
            .customers(whole)
            .map(|customer| (customer.c_custkey, customer.c_name.to_string()))
            .collect();
        let mut rows: Vec<Large> = data
            .orders(whole)
            .filter(|order| pieces[&order.o_orderkey] > MORE_THAN)
            .map(|order| Large {
                name: names[&order.o_custkey].clone(),
                customer: order.o_custkey as u32,
                order: order.o_orderkey as u64,
                date: date(order.o_orderdate),
                total_price: Decimal::new(order.o_totalprice.into_inner().into(), 2),
                quantity: pieces[&order.o_orderkey],
            })
            .collect();
        rows.sort_by_key(|row| (Reverse(row.total_price), row.date, row.order));
        rows.truncate(MOST);
        rows
    }

    fn values(row: LargeView<'_>) -> Vec<Value> {
        vec![
            Value::Text(row.name.into()),
            Value::whole(row.customer.into()),
            Value::whole(row.order),
            Value::Text(row.date.to_string()),
            Value::Exact(row.total_price),
            Value::Exact(Decimal::new(row.quantity.into(), 0)),
        ]
    }
}
