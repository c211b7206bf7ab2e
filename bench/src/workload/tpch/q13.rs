//! Query 13, customer distribution: how many customers have how many orders whose comment does not speak of special
//! requests.

use super::tables::{TableWriter, Tables};
use super::{Query, Value, has_in_order};
use crate::data::tpch::{Comments, TablePart, TpchData, TpchTable};
use forebay::aggregate::count;
use forebay::record::{Record, first, itself, second};
use forebay::{Environment, Stream};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;

pub struct Q13;

const WORDS: [&str; 2] = ["special", "requests"];

/// What is read of a customer.
#[derive(Record)]
pub struct Customer {
    key: u32,
}

/// What is read of an order.
#[derive(Record)]
pub struct Order {
    customer: u32,
    comment: String,
}

/// A number of orders, and how many customers have it.
type Counted = (u64, u64);

impl Query for Q13 {
    const NUMBER: i32 = 13;
    const NAME: &'static str = "tpch-q13";
    const ABOUT: &'static str =
        "TPC-H 13, customer distribution: orders by customer, left join, grouped by their number";
    const COMMENTS: Comments = Comments::Read;
    const TABLES: &'static [TpchTable] = &[TpchTable::Customer, TpchTable::Orders];
    type Row = Counted;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        tables.table::<Customer>(|part, rows| {
            data.customers(part).for_each(|customer| {
                rows.push(CustomerView {
                    key: customer.c_custkey as u32,
                })
            });
        })?;
        tables.table::<Order>(|part, rows| {
            for order in data.orders(part) {
                rows.push(OrderView {
                    customer: order.o_custkey as u32,
                    comment: order.o_comment,
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Counted> {
        // A customer's orders are counted before the join: it has one row of each customer, not one of each order.
        let counts = environment
            .source("orders", tables.table::<Order>(TpchTable::Orders))
            .filter(|order: OrderView<'_>| !has_in_order(order.comment, WORDS))
            .group_by(Order::customer)
            .aggregate_final(count());
        environment
            .source("customer", tables.table::<Customer>(TpchTable::Customer))
            .join(counts)
            .on(Customer::key, first::<(u32, u64)>())
            .left_outer(|_, counted| counted.map_or(0, |(_, orders)| orders))
            .group_by(itself::<u64>())
            .aggregate_final(count())
            .sort_by((second::<Counted>().descending(), first::<Counted>().descending()))
    }

    fn plain(data: &TpchData) -> Vec<Counted> {
        let mut orders: HashMap<i64, u64> = data
            .customers(TablePart::WHOLE)
            .map(|customer| (customer.c_custkey, 0))
            .collect();
        for order in data.orders(TablePart::WHOLE) {
            // As `%special%requests%` says it: split at the first word, and look behind it for the second.
            let is_special =
                (order.o_comment.split_once(WORDS[0])).is_some_and(|(_, rest)| rest.contains(WORDS[1]));
            if !is_special {
                *orders.get_mut(&order.o_custkey).expect("orders have a customer") += 1;
            }
        }
        let mut customers = HashMap::<u64, u64>::new();
        for orders in orders.into_values() {
            *customers.entry(orders).or_default() += 1;
        }
        let mut rows: Vec<Counted> = customers.into_iter().collect();
        rows.sort_by_key(|(orders, customers)| Reverse((*customers, *orders)));
        rows
    }

    fn values((orders, customers): (u64, u64)) -> Vec<Value> {
        vec![Value::whole(orders), Value::whole(customers)]
    }
}
