//! Query 9, product type profit: the profit on parts whose name has a word, by nation of the supplier and year of the order.

use super::shared::{Nation, Party, write_nations, write_suppliers};
use super::tables::{TableWriter, Tables};
use super::{Query, Value};
use crate::data::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::aggregate::sum;
use forebay::record::{Date, Decimal, Record, itself};
use forebay::{Environment, JoinStrategy, Stream};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

pub struct Q9;

const WORD: &str = "green";

/// What is read of a part.
#[derive(Record)]
pub struct Part {
    key: u32,
    name: String,
}

/// What is read of a part's supply; the cost in cents.
#[derive(Record)]
pub struct Supply {
    part: u32,
    supplier: u32,
    cost: i64,
}

/// What is read of a line item; the price in cents, the discount in hundredths.
#[derive(Record)]
pub struct Line {
    order: u64,
    extended_price: i64,
    part: u32,
    supplier: u32,
    quantity: i32,
    discount: i32,
}

/// What is read of an order.
#[derive(Record)]
pub struct Order {
    key: u64,
    date: Date,
}

/// A line item of such a part with its profit, in hundredths of a cent.
#[derive(Record)]
pub struct Sale {
    order: u64,
    profit: i64,
    supplier: u32,
}

/// A profit, the year in which it was made, and the supplier.
#[derive(Record)]
pub struct Dated {
    profit: i64,
    supplier: u32,
    year: i32,
}

/// A profit, the year, and the nation of the supplier.
#[derive(Record)]
pub struct Gain {
    profit: i64,
    nation: u32,
    year: i32,
}

/// A row of the result.
#[derive(Debug, PartialEq, Record)]
pub struct Profit {
    nation: String,
    year: i32,
    profit: Decimal,
}

impl Query for Q9 {
    const NUMBER: i32 = 9;
    const NAME: &'static str = "tpch-q9";
    const ABOUT: &'static str = "TPC-H 9, product type profit: six tables joined, 175 groups";
    const TABLES: &'static [TpchTable] = &[
        TpchTable::Nation,
        TpchTable::Part,
        TpchTable::Supplier,
        TpchTable::PartSupp,
        TpchTable::LineItem,
        TpchTable::Orders,
    ];
    type Row = Profit;

    fn write(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
        write_nations(data, tables)?;
        tables.table::<Part>(|part, rows| {
            for part in data.parts(part) {
                rows.push(PartView {
                    key: part.p_partkey as u32,
                    name: &part.p_name.to_string(),
                });
            }
        })?;
        write_suppliers(data, tables)?;
        tables.table::<Supply>(|part, rows| {
            for supply in data.part_supplies(part) {
                rows.push(SupplyView {
                    part: supply.ps_partkey as u32,
                    supplier: supply.ps_suppkey as u32,
                    cost: supply.ps_supplycost.into_inner(),
                });
            }
        })?;
        tables.table::<Line>(|part, rows| {
            for line in data.line_items(part) {
                rows.push(LineView {
                    order: line.l_orderkey as u64,
                    extended_price: line.l_extendedprice.into_inner(),
                    part: line.l_partkey as u32,
                    supplier: line.l_suppkey as u32,
                    quantity: line.l_quantity as i32,
                    discount: line.l_discount.into_inner() as i32,
                });
            }
        })?;
        tables.table::<Order>(|part, rows| {
            for order in data.orders(part) {
                rows.push(OrderView {
                    key: order.o_orderkey as u64,
                    date: date(order.o_orderdate),
                });
            }
        })
    }

    fn job(environment: &Environment, tables: &Tables) -> Stream<Profit> {
        let nations = environment.source("nation", tables.table::<Nation>(TpchTable::Nation));
        let parts = environment
            .source("part", tables.table::<Part>(TpchTable::Part))
            .filter(|part: PartView<'_>| part.name.contains(WORD))
            .map(|part| part.key);
        let suppliers = environment.source("supplier", tables.table::<Party>(TpchTable::Supplier));
        let supplies = environment
            .source("partsupp", tables.table::<Supply>(TpchTable::PartSupp))
            .join(parts)
            .on(Supply::part, itself())
            .strategy(JoinStrategy::Broadcast)
            .semi();
        environment
            .source("lineitem", tables.table::<Line>(TpchTable::LineItem))
            .join(supplies)
            .on((Line::part, Line::supplier), (Supply::part, Supply::supplier))
            .strategy(JoinStrategy::Broadcast)
            .inner(|line, supply| Sale {
                order: line.order,
                profit: line.extended_price * i64::from(100 - line.discount)
                    - supply.cost * i64::from(100 * line.quantity),
                supplier: line.supplier,
            })
            .join(environment.source("orders", tables.table::<Order>(TpchTable::Orders)))
            .on(Sale::order, Order::key)
            .build_left()
            .inner(|sale, order| Dated {
                profit: sale.profit,
                supplier: sale.supplier,
                year: order.date.calendar().0,
            })
            .join(suppliers)
            .on(Dated::supplier, Party::key)
            .strategy(JoinStrategy::Broadcast)
            .inner(|sale, supplier| Gain {
                profit: sale.profit,
                nation: supplier.nation,
                year: sale.year,
            })
            .group_by((Gain::nation, Gain::year))
            .aggregate_final(sum(Gain::profit))
            .map(|((nation, year), profit)| Gain { profit, nation, year })
            .join(nations)
            .on(Gain::nation, Nation::key)
            .strategy(JoinStrategy::Broadcast)
            .inner(|gain, nation| Profit {
                nation: nation.name.into(),
                year: gain.year,
                profit: Decimal::new(gain.profit.into(), 4),
            })
            .sort_by((Profit::nation, Profit::year.descending()))
    }

    fn plain(data: &TpchData) -> Vec<Profit> {
        let whole = TablePart::WHOLE;
        let parts: HashSet<i64> = data
            .parts(whole)
            .filter(|part| part.p_name.to_string().split(' ').any(|word| word.contains(WORD)))
            .map(|part| part.p_partkey)
            .collect();
        let nations: Vec<String> = data.nations().map(|nation| nation.n_name.to_string()).collect();
        let suppliers: HashMap<i64, usize> = data
            .suppliers(whole)
            .map(|supplier| (supplier.s_suppkey, supplier.s_nationkey as usize))
            .collect();
        // Where there are few suppliers, a part may have one twice.
        let mut costs = HashMap::<(i64, i64), Vec<i64>>::new();
        for supply in data
            .part_supplies(whole)
            .filter(|supply| parts.contains(&supply.ps_partkey))
        {
            let key = (supply.ps_partkey, supply.ps_suppkey);
            costs
                .entry(key)
                .or_default()
                .push(supply.ps_supplycost.into_inner());
        }
        let years: HashMap<i64, i32> = data
            .orders(whole)
            .map(|order| (order.o_orderkey, date(order.o_orderdate).calendar().0))
            .collect();
        let mut profits = BTreeMap::<(&str, Reverse<i32>), i64>::new();
        for line in data
            .line_items(whole)
            .filter(|line| parts.contains(&line.l_partkey))
        {
            let nation = &nations[suppliers[&line.l_suppkey]];
            let revenue = line.l_extendedprice.into_inner() * (100 - line.l_discount.into_inner());
            let profit = profits
                .entry((nation, Reverse(years[&line.l_orderkey])))
                .or_default();
            for cost in &costs[&(line.l_partkey, line.l_suppkey)] {
                *profit += revenue - 100 * cost * line.l_quantity;
            }
        }
        let rows = profits
            .into_iter()
            .map(|((nation, Reverse(year)), profit)| Profit {
                nation: nation.into(),
                year,
                profit: Decimal::new(profit.into(), 4),
            });
        rows.collect()
    }

    fn values(row: ProfitView<'_>) -> Vec<Value> {
        vec![
            Value::Text(row.nation.into()),
            Value::Exact(Decimal::new(row.year.into(), 0)),
            Value::Exact(row.profit),
        ]
    }
}
