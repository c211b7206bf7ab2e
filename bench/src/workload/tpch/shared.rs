//! Tables that several queries read the same columns of.

use super::tables::TableWriter;
use crate::data::tpch::{TpchData, date};
use forebay::record::{Date, Record};
use std::io;

/// A nation.
#[derive(Record)]
pub struct Nation {
    pub key: u32,
    pub region: u32,
    pub name: String,
}

/// A region.
#[derive(Record)]
pub struct Region {
    pub key: u32,
    pub name: String,
}

/// Adds the table of nations.
pub fn write_nations(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
    tables.small_table::<Nation>(|rows| {
        for nation in data.nations() {
            rows.push(NationView {
                key: nation.n_nationkey as u32,
                region: nation.n_regionkey as u32,
                name: nation.n_name,
            });
        }
    })
}

/// Adds the table of regions.
pub fn write_regions(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
    tables.small_table::<Region>(|rows| {
        for region in data.regions() {
            rows.push(RegionView {
                key: region.r_regionkey as u32,
                name: region.r_name,
            });
        }
    })
}

/// A customer or a supplier, and its nation.
#[derive(Record)]
pub struct Party {
    pub key: u32,
    pub nation: u32,
}

/// An order, and whose and when it was.
#[derive(Record)]
pub struct Order {
    pub key: u64,
    pub customer: u32,
    pub date: Date,
}

/// Adds the table of suppliers.
pub fn write_suppliers(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
    tables.table::<Party>(|part, rows| {
        for supplier in data.suppliers(part) {
            rows.push(PartyView {
                key: supplier.s_suppkey as u32,
                nation: supplier.s_nationkey as u32,
            });
        }
    })
}

/// Adds the table of customers.
pub fn write_customers(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
    tables.table::<Party>(|part, rows| {
        for customer in data.customers(part) {
            rows.push(PartyView {
                key: customer.c_custkey as u32,
                nation: customer.c_nationkey as u32,
            });
        }
    })
}

/// Adds the table of orders.
pub fn write_orders(data: &TpchData, tables: &mut TableWriter<'_>) -> io::Result<()> {
    tables.table::<Order>(|part, rows| {
        for order in data.orders(part) {
            rows.push(OrderView {
                key: order.o_orderkey as u64,
                customer: order.o_custkey as u32,
                date: date(order.o_orderdate),
            });
        }
    })
}
