//! Query 10, returned items: the twenty customers whose returned orders of a quarter cost most.

use super::shared::{Nation, Order, OrderView, write_nations, write_orders};
use super::tables::{TableWriter, Tables};
use super::{Query, Value, day};
use crate::data::tpch::{Comments, TablePart, TpchData, TpchTable, date};
use forebay::aggregate::sum;
use forebay::record::{Date, Decimal, Record, first, second};
use forebay::{Environment, JoinStrategy, Stream};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;

pub struct Q10;

const FIRST_ORDERED: Date = day(1993, 10, 1);
const ORDERED_BEFORE: Date = day(1994, 1, 1);
const RETURNED: u8 = b'R';
const MOST: usize = 20;

/// What is read of a customer; the balance in cents.
#[derive(Record)]
pub struct Customer {
    key: u32,
    nation: u32,
    balance: i64,
    name: String,
    address: String,
    phone: String,
    comment: String,
}

/// What is read of a line item; the price in cents, the discount in hundredths.
#[derive(Record)]
pub struct Line {
    order: u64,
    extended_price: i64,
    discount: i32,
    return_flag: u8,
}

/// A row of the result.
#[derive(Debug, PartialEq, Record)]
pub struct Returned {
    customer: u32,
    name: String,
    revenue: Decimal,
    balance: Decimal,
    nation: String,
    address: String,
    phone: String,
    comment: String,
}

/// A customer and the revenue that was lost, in hundredths of a cent.
type Lost = (u32, i64);

/// The key of a nation, and a row without its name.
type Unnamed = (u32, Returned);

impl Query for Q10 {
    const NUMBER: i32 = 10;
    const NAME: &'static str = "tpch-q10";
    const ABOUT: &'static str = "TPC-H 10, returned items: four tables joined, grouped by customer, 20 best";
    const COMMENTS: Comments = Comments::Read;
    const TABLES: &'static [TpchTable] = &[
        TpchTable::Nation,
        TpchTable::Customer,
        TpchTable::Orders,
        TpchTable::LineItem,
    ];
    type Row = Returned;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        write_nations(data, tables)?;
        tables.table::<Customer>(|part, rows| {
            for customer in data.customers(part) {
                rows.push(CustomerView {
                    key: customer.c_custkey as u32,
                    nation: customer.c_nationkey as u32,
                    balance: customer.c_acctbal.into_inner(),
                    name: &customer.c_name.to_string(),
                    address: &customer.c_address.to_string(),
                    phone: &customer.c_phone.to_string(),
                    comment: customer.c_comment,
                });
            }
        })?;
        write_orders(data, tables)?;
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(LineView {
                    order: line.l_orderkey as u64,
                    extended_price: line.l_extendedprice.into_inner(),
                    discount: line.l_discount.into_inner() as i32,
                    return_flag: line.l_returnflag.as_bytes()[0],
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Returned> {
        let nations = environment.source("nation", tables.table::<Nation>(TpchTable::Nation));
        let customers = environment.source("customer", tables.table::<Customer>(TpchTable::Customer));
        let orders = environment
            .source("orders", tables.table::<Order>(TpchTable::Orders))
            .filter(|order: OrderView<'_>| order.date >= FIRST_ORDERED && order.date < ORDERED_BEFORE);
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .filter(|line: LineView<'_>| line.return_flag == RETURNED)
            .join(orders)
            .on(Line::order, Order::key)
            .strategy(JoinStrategy::Broadcast)
            .inner(|line, order| {
                (
                    order.customer,
                    line.extended_price * i64::from(100 - line.discount),
                )
            })
            .group_by(first::<Lost>())
            .aggregate_final(sum(second::<Lost>()))
            // What is said of a customer depends on its key alone: of twenty only it need be looked up.
            .top(MOST as u64, (second::<Lost>().descending(), first::<Lost>()))
            .join(customers)
            .on(first::<Lost>(), Customer::key)
            .strategy(JoinStrategy::Broadcast)
            .build_left()
            .inner(|(_, revenue), customer| {
                let returned = Returned {
                    customer: customer.key,
                    name: customer.name.into(),
                    revenue: Decimal::new(revenue.into(), 4),
                    balance: Decimal::new(customer.balance.into(), 2),
                    nation: String::new(),
                    address: customer.address.into(),
                    phone: customer.phone.into(),
                    comment: customer.comment.into(),
                };
                (customer.nation, returned)
            })
            .join(nations)
            .on(first::<Unnamed>(), Nation::key)
            .strategy(JoinStrategy::Broadcast)
            .inner(|(_, returned), nation| Returned {
                nation: nation.name.into(),
                ..Returned::from_view(returned)
            })
            .sort_by((Returned::revenue.descending(), Returned::customer))
    }

    fn plain(data: &TpchData) -> Vec<Returned> {
        let whole = TablePart::WHOLE;
        let orders: HashMap<i64, i64> = data
            .orders(whole)
            .filter(|order| (FIRST_ORDERED..ORDERED_BEFORE).contains(&date(order.o_orderdate)))
            .map(|order| (order.o_orderkey, order.o_custkey))
            .collect();
        let mut lost = HashMap::<i64, i64>::new();
        for line in data.line_items(whole).filter(|line| line.l_returnflag == "R") {
            if let Some(customer) = orders.get(&line.l_orderkey) {
                *lost.entry(*customer).or_default() +=
                    line.l_extendedprice.into_inner() * (100 - line.l_discount.into_inner());
            }
        }
        let nations: Vec<String> = data.nations().map(|nation| nation.n_name.to_string()).collect();
        let mut rows: Vec<Returned> = data
            .customers(whole)
            .filter_map(|customer| {
                let revenue = *lost.get(&customer.c_custkey)?;
                Some(Returned {
                    customer: customer.c_custkey as u32,
                    name: customer.c_name.to_string(),
                    revenue: Decimal::new(revenue.into(), 4),
                    balance: Decimal::new(customer.c_acctbal.into_inner().into(), 2),
                    nation: nations[customer.c_nationkey as usize].clone(),
                    address: customer.c_address.to_string(),
                    phone: customer.c_phone.to_string(),
                    comment: customer.c_comment.into(),
                })
            })
            .collect();
        rows.sort_by_key(|row| (Reverse(row.revenue), row.customer));
        rows.truncate(MOST);
        rows
    }

    fn values(row: ReturnedView<'_>) -> Vec<Value> {
        vec![
            Value::whole(row.customer.into()),
            Value::Text(row.name.into()),
            Value::Exact(row.revenue),
            Value::Exact(row.balance),
            Value::Text(row.nation.into()),
            Value::Text(row.address.into()),
            Value::Text(row.phone.into()),
            Value::Text(row.comment.into()),
        ]
    }
}
