//! Query 5, local supplier volume: a year's revenue, by nation of a region, of line items whose customer and supplier are
//! both of that nation.

use super::shared::{
    Nation, Order, OrderView, Party, Region, RegionView, write_customers, write_nations, write_orders,
    write_regions, write_suppliers,
};
use super::tables::{TableWriter, Tables};
use super::{Query, Value, day};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::sum;
use forebay::record::{Date, Decimal, Record, first, itself, second};
use forebay::{Environment, JoinStrategy, Stream};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;

pub struct Q5;

const REGION: &str = "ASIA";
const FIRST_ORDERED: Date = day(1994, 1, 1);
const ORDERED_BEFORE: Date = day(1995, 1, 1);

/// What is read of a line item; the price in cents, the discount in hundredths.
#[derive(Record)]
pub struct Line {
    order: u64,
    extended_price: i64,
    supplier: u32,
    discount: i32,
}

/// An order and the nation of its customer.
#[derive(Record)]
pub struct Placed {
    order: u64,
    nation: u32,
}

/// A line item, its revenue in hundredths of a cent, and the nation of its customer.
#[derive(Record)]
pub struct Sale {
    revenue: i64,
    supplier: u32,
    nation: u32,
}

/// A row of the result.
#[derive(Debug, PartialEq, Record)]
pub struct Volume {
    nation: String,
    revenue: Decimal,
}

impl Query for Q5 {
    const NUMBER: i32 = 5;
    const NAME: &'static str = "tpch-q5";
    const ABOUT: &'static str = "TPC-H 5, local supplier volume: six tables joined, 5 groups";
    const TABLES: &'static [TpchTable] = &[
        TpchTable::Region,
        TpchTable::Nation,
        TpchTable::Supplier,
        TpchTable::Customer,
        TpchTable::Orders,
        TpchTable::LineItem,
    ];
    type Row = Volume;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        write_regions(data, tables)?;
        write_nations(data, tables)?;
        write_suppliers(data, tables)?;
        write_customers(data, tables)?;
        write_orders(data, tables)?;
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(LineView {
                    order: line.l_orderkey as u64,
                    extended_price: line.l_extendedprice.into_inner(),
                    supplier: line.l_suppkey as u32,
                    discount: line.l_discount.into_inner() as i32,
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Volume> {
        let region = environment
            .source("region", tables.table::<Region>(TpchTable::Region))
            .filter(|region: RegionView<'_>| region.name == REGION)
            .map(|region| region.key);
        let (nations, names) = environment
            .source("nation", tables.table::<Nation>(TpchTable::Nation))
            .join(region)
            .on(Nation::region, itself())
            .strategy(JoinStrategy::Broadcast)
            .semi()
            .fork();
        let suppliers = environment.source("supplier", tables.table::<Party>(TpchTable::Supplier));
        let customers = environment
            .source("customer", tables.table::<Party>(TpchTable::Customer))
            .join(nations)
            .on(Party::nation, Nation::key)
            .strategy(JoinStrategy::Broadcast)
            .semi();
        let orders = environment
            .source("orders", tables.table::<Order>(TpchTable::Orders))
            .filter(|order: OrderView<'_>| order.date >= FIRST_ORDERED && order.date < ORDERED_BEFORE)
            .join(customers)
            .on(Order::customer, Party::key)
            .strategy(JoinStrategy::Broadcast)
            .inner(|order, customer| Placed {
                order: order.key,
                nation: customer.nation,
            });
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .join(orders)
            .on(Line::order, Placed::order)
            .strategy(JoinStrategy::Broadcast)
            .inner(|line, order| Sale {
                revenue: line.extended_price * i64::from(100 - line.discount),
                supplier: line.supplier,
                nation: order.nation,
            })
            .join(suppliers)
            .on((Sale::supplier, Sale::nation), (Party::key, Party::nation))
            .strategy(JoinStrategy::Broadcast)
            .inner(|sale, _| (sale.nation, sale.revenue))
            .group_by(first::<(u32, i64)>())
            .aggregate_final(sum(second::<(u32, i64)>()))
            .join(names)
            .on(first::<(u32, i64)>(), Nation::key)
            .inner(|(_, revenue), nation| Volume {
                nation: nation.name.into(),
                revenue: Decimal::new(revenue.into(), 4),
            })
            .sort_by((Volume::revenue.descending(), Volume::nation))
    }

    fn plain(data: &TpchData) -> Vec<Volume> {
        let whole = TablePart::WHOLE;
        let region = data
            .regions()
            .find(|region| region.r_name == REGION)
            .map(|region| region.r_regionkey);
        let nations: HashMap<i64, &str> = data
            .nations()
            .filter(|nation| Some(nation.n_regionkey) == region)
            .map(|nation| (nation.n_nationkey, nation.n_name))
            .collect();
        let customers: HashMap<i64, i64> = data
            .customers(whole)
            .map(|customer| (customer.c_custkey, customer.c_nationkey))
            .collect();
        let suppliers: HashMap<i64, i64> = data
            .suppliers(whole)
            .map(|supplier| (supplier.s_suppkey, supplier.s_nationkey))
            .collect();
        let orders: HashMap<i64, i64> = data
            .orders(whole)
            .filter(|order| (FIRST_ORDERED..ORDERED_BEFORE).contains(&date(order.o_orderdate)))
            .map(|order| (order.o_orderkey, customers[&order.o_custkey]))
            .collect();
        let mut revenues = HashMap::<i64, i64>::new();
        for line in data.line_items(whole) {
            let Some(nation) = orders.get(&line.l_orderkey) else {
                continue;
            };
            if nations.contains_key(nation) && suppliers[&line.l_suppkey] == *nation {
                *revenues.entry(*nation).or_default() +=
                    line.l_extendedprice.into_inner() * (100 - line.l_discount.into_inner());
            }
        }
        let mut rows: Vec<Volume> = revenues
            .into_iter()
            .map(|(nation, revenue)| Volume {
                nation: nations[&nation].into(),
                revenue: Decimal::new(revenue.into(), 4),
            })
            .collect();
        rows.sort_by(|a, b| (Reverse(a.revenue), &a.nation).cmp(&(Reverse(b.revenue), &b.nation)));
        rows
    }

    fn values(row: VolumeView<'_>) -> Vec<Value> {
        vec![Value::Text(row.nation.into()), Value::Exact(row.revenue)]
    }
}
