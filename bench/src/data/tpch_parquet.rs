//! TPC-H tables as Parquet files: every column of the specification, under the names that the queries here know.
//!
//! # Layout
//! `<directory>/<table>.parquet`. Money is in cents and rates are in hundredths, both whole numbers; flags and states of one letter
//! are its code. A column is what the specification calls it without the table's letters, in words: `l_extendedprice` is
//! `extended_price`, `o_orderkey` is `key` in `orders` and `order` elsewhere.

use super::tpch::{TablePart, TpchData, TpchTable, date};
use forebay::record::{Date, Record};
use forebay::sink::{ParquetSink, Sink, SinkWriter};
use forebay::source::Subtask;
use forebay_memory::Result;
use std::path::Path;

#[derive(Record)]
struct Region {
    key: u32,
    name: String,
    comment: String,
}

#[derive(Record)]
struct Nation {
    key: u32,
    name: String,
    region: u32,
    comment: String,
}

#[derive(Record)]
struct Supplier {
    key: u32,
    name: String,
    address: String,
    nation: u32,
    phone: String,
    balance: i64,
    comment: String,
}

#[derive(Record)]
struct Customer {
    key: u32,
    name: String,
    address: String,
    nation: u32,
    phone: String,
    balance: i64,
    segment: String,
    comment: String,
}

#[derive(Record)]
struct Part {
    key: u32,
    name: String,
    manufacturer: String,
    brand: String,
    kind: String,
    size: i32,
    container: String,
    retail_price: i64,
    comment: String,
}

#[derive(Record)]
struct Supply {
    part: u32,
    supplier: u32,
    available: i32,
    cost: i64,
    comment: String,
}

#[derive(Record)]
struct Order {
    key: u64,
    customer: u32,
    status: String,
    total_price: i64,
    date: Date,
    priority: String,
    clerk: String,
    ship_priority: i32,
    comment: String,
}

#[derive(Record)]
struct Line {
    order: u64,
    part: u32,
    supplier: u32,
    number: i32,
    quantity: i32,
    extended_price: i64,
    discount: i32,
    tax: i32,
    return_flag: u8,
    status: u8,
    shipped: Date,
    committed: Date,
    received: Date,
    instruction: String,
    mode: String,
    comment: String,
}

/// Writes `rows` to a file, which has its name when it is whole.
fn write<R: Record>(path: &Path, rows: impl Iterator<Item = R>) -> Result<u64> {
    let subtask = Subtask {
        index: 0,
        parallelism: 1,
    };
    let mut writer = ParquetSink::<R>::file(path).overwrite().writer(subtask)?;
    let mut count = 0;
    for row in rows {
        writer.write(row.view())?;
        count += 1;
    }
    writer.finish()?;
    Ok(count)
}

/// The one letter of a flag.
fn letter(text: &str) -> u8 {
    text.as_bytes()[0]
}

/// Writes a whole table; answers its rows.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_table(table: TpchTable, data: &TpchData, path: &Path) -> Result<u64> {
    let whole = TablePart::WHOLE;
    match table {
        TpchTable::Region => {
            let rows = data.regions().map(|row| Region {
                key: row.r_regionkey as u32,
                name: row.r_name.into(),
                comment: row.r_comment.into(),
            });
            write(path, rows)
        }
        TpchTable::Nation => {
            let rows = data.nations().map(|row| Nation {
                key: row.n_nationkey as u32,
                name: row.n_name.into(),
                region: row.n_regionkey as u32,
                comment: row.n_comment.into(),
            });
            write(path, rows)
        }
        TpchTable::Supplier => {
            let rows = data.suppliers(whole).map(|row| Supplier {
                key: row.s_suppkey as u32,
                name: row.s_name.to_string(),
                address: row.s_address.to_string(),
                nation: row.s_nationkey as u32,
                phone: row.s_phone.to_string(),
                balance: row.s_acctbal.into_inner(),
                comment: row.s_comment,
            });
            write(path, rows)
        }
        TpchTable::Customer => {
            let rows = data.customers(whole).map(|row| Customer {
                key: row.c_custkey as u32,
                name: row.c_name.to_string(),
                address: row.c_address.to_string(),
                nation: row.c_nationkey as u32,
                phone: row.c_phone.to_string(),
                balance: row.c_acctbal.into_inner(),
                segment: row.c_mktsegment.into(),
                comment: row.c_comment.into(),
            });
            write(path, rows)
        }
        TpchTable::Part => {
            let rows = data.parts(whole).map(|row| Part {
                key: row.p_partkey as u32,
                name: row.p_name.to_string(),
                manufacturer: row.p_mfgr.to_string(),
                brand: row.p_brand.to_string(),
                kind: row.p_type.into(),
                size: row.p_size,
                container: row.p_container.into(),
                retail_price: row.p_retailprice.into_inner(),
                comment: row.p_comment.into(),
            });
            write(path, rows)
        }
        TpchTable::PartSupp => {
            let rows = data.part_supplies(whole).map(|row| Supply {
                part: row.ps_partkey as u32,
                supplier: row.ps_suppkey as u32,
                available: row.ps_availqty,
                cost: row.ps_supplycost.into_inner(),
                comment: row.ps_comment.into(),
            });
            write(path, rows)
        }
        TpchTable::Orders => {
            let rows = data.orders(whole).map(|row| Order {
                key: row.o_orderkey as u64,
                customer: row.o_custkey as u32,
                status: row.o_orderstatus.to_string(),
                total_price: row.o_totalprice.into_inner(),
                date: date(row.o_orderdate),
                priority: row.o_orderpriority.into(),
                clerk: row.o_clerk.to_string(),
                ship_priority: row.o_shippriority,
                comment: row.o_comment.into(),
            });
            write(path, rows)
        }
        TpchTable::LineItem => {
            let rows = data.line_items(whole).map(|row| Line {
                order: row.l_orderkey as u64,
                part: row.l_partkey as u32,
                supplier: row.l_suppkey as u32,
                number: row.l_linenumber,
                quantity: row.l_quantity as i32,
                extended_price: row.l_extendedprice.into_inner(),
                discount: row.l_discount.into_inner() as i32,
                tax: row.l_tax.into_inner() as i32,
                return_flag: letter(row.l_returnflag),
                status: letter(row.l_linestatus),
                shipped: date(row.l_shipdate),
                committed: date(row.l_commitdate),
                received: date(row.l_receiptdate),
                instruction: row.l_shipinstruct.into(),
                mode: row.l_shipmode.into(),
                comment: row.l_comment.into(),
            });
            write(path, rows)
        }
    }
}
