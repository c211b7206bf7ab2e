//! TPC-H data: the tables that `dbgen` makes, by the generators of the crate `tpchgen`, part by part.
//!
//! # Interface
//! [`TpchData`] is the data at a scale factor; each of its iterators makes one part of a table, so that threads divide a
//! table between them. [`TpchTable::write_csv`] writes a whole table.
//!
//! # Memory
//! Comments are pieces of a text of 300 MiB, which takes a second to make. Data whose comments nobody reads has a short
//! one: the other columns have random numbers of their own and do not depend on it.

use forebay::record::Date;
use forebay_memory::{Error, Result};
use std::fmt::Display;
use std::io::Write;
use tpchgen::csv::{
    CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv,
};
use tpchgen::dates::TPCHDate;
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    Customer, CustomerGenerator, LineItem, LineItemGenerator, Nation, NationGenerator, Order, OrderGenerator,
    Part, PartGenerator, PartSupp, PartSuppGenerator, Region, RegionGenerator, Supplier, SupplierGenerator,
};
use tpchgen::text::TextPool;

/// Line items at scale factor 1, about (there are 6,001,215).
pub const LINE_ITEMS: u64 = 6_000_000;

/// The least scale factor: ten suppliers.
pub const LEAST_SCALE: f64 = 0.001;

/// The largest scale factor: a thousand gigabytes.
pub const MOST_SCALE: f64 = 1000.0;

/// The scale factor at which there are about so many line items.
pub fn scale_of(line_items: u64) -> f64 {
    line_items as f64 / LINE_ITEMS as f64
}

/// Whose comments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comments {
    /// Nobody's: the text they come from is short.
    Unread,
    /// As `dbgen` writes them; below a scale factor of 0.1, which only tests use, from a text of 4 MiB.
    Read,
    /// As `dbgen` writes them, at every scale factor.
    Exact,
}

/// One of equal parts of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TablePart {
    /// In `[0, count)`.
    pub index: usize,
    /// The number of parts.
    pub count: usize,
}

impl TablePart {
    /// The whole table.
    pub const WHOLE: TablePart = TablePart { index: 0, count: 1 };
}

/// The data at a scale factor.
pub struct TpchData {
    scale: f64,
    distributions: &'static Distributions,
    text: TextPool,
}

impl TpchData {
    /// The data at `scale`.
    ///
    /// # Errors
    /// `Config` where the scale factor is below [`LEAST_SCALE`].
    pub fn new(scale: f64, comments: Comments) -> Result<TpchData> {
        const DBGEN_TEXT: i32 = 300 << 20;
        if scale.is_nan() || scale < LEAST_SCALE {
            return Err(Error::config(format!(
                "a TPC-H scale factor of {scale} has tables without rows; the least is {LEAST_SCALE}"
            )));
        }
        let text_bytes = match comments {
            Comments::Unread => 64 << 10,
            Comments::Read if scale < 0.1 => 4 << 20,
            Comments::Read | Comments::Exact => DBGEN_TEXT,
        };
        let distributions = Distributions::static_default();
        Ok(TpchData {
            scale,
            distributions,
            text: TextPool::new(text_bytes, distributions),
        })
    }

    /// The scale factor.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Part of `lineitem`.
    pub fn line_items(&self, part: TablePart) -> impl Iterator<Item = LineItem<'_>> {
        let (index, count) = numbers(part);
        let (distributions, text) = (self.distributions, &self.text);
        LineItemGenerator::new_with_distributions_and_text_pool(self.scale, index, count, distributions, text)
            .iter()
    }

    /// Part of `orders`.
    pub fn orders(&self, part: TablePart) -> impl Iterator<Item = Order<'_>> {
        let (index, count) = numbers(part);
        let (distributions, text) = (self.distributions, &self.text);
        OrderGenerator::new_with_distributions_and_text_pool(self.scale, index, count, distributions, text)
            .iter()
    }

    /// Part of `customer`.
    pub fn customers(&self, part: TablePart) -> impl Iterator<Item = Customer<'_>> {
        let (index, count) = numbers(part);
        let (distributions, text) = (self.distributions, &self.text);
        CustomerGenerator::new_with_distributions_and_text_pool(self.scale, index, count, distributions, text)
            .iter()
    }

    /// Part of `part`.
    pub fn parts(&self, part: TablePart) -> impl Iterator<Item = Part<'_>> {
        let (index, count) = numbers(part);
        let (distributions, text) = (self.distributions, &self.text);
        PartGenerator::new_with_distributions_and_text_pool(self.scale, index, count, distributions, text)
            .iter()
    }

    /// Part of `partsupp`.
    pub fn part_supplies(&self, part: TablePart) -> impl Iterator<Item = PartSupp<'_>> {
        let (index, count) = numbers(part);
        PartSuppGenerator::new_with_text_pool(self.scale, index, count, &self.text).iter()
    }

    /// Part of `supplier`.
    pub fn suppliers(&self, part: TablePart) -> impl Iterator<Item = Supplier> + '_ {
        let (index, count) = numbers(part);
        let (distributions, text) = (self.distributions, &self.text);
        SupplierGenerator::new_with_distributions_and_text_pool(self.scale, index, count, distributions, text)
            .iter()
    }

    /// All of `nation`.
    pub fn nations(&self) -> impl Iterator<Item = Nation<'_>> {
        NationGenerator::new_with_distributions_and_text_pool(self.distributions, &self.text).iter()
    }

    /// All of `region`.
    pub fn regions(&self) -> impl Iterator<Item = Region<'_>> {
        RegionGenerator::new_with_distributions_and_text_pool(self.distributions, &self.text).iter()
    }
}

/// A part as `tpchgen` counts them, from 1.
fn numbers(part: TablePart) -> (i32, i32) {
    let number = |number: usize| i32::try_from(number).expect("a table has at most thousands of parts");
    (number(part.index + 1), number(part.count))
}

/// A generated day as a record holds it.
pub fn date(date: TPCHDate) -> Date {
    Date::from_days(date.to_unix_epoch())
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TpchTable {
    Region,
    Nation,
    Supplier,
    Customer,
    Part,
    PartSupp,
    Orders,
    LineItem,
}

impl TpchTable {
    /// Every table, smaller ones first.
    pub const ALL: [TpchTable; 8] = [
        TpchTable::Region,
        TpchTable::Nation,
        TpchTable::Supplier,
        TpchTable::Customer,
        TpchTable::Part,
        TpchTable::PartSupp,
        TpchTable::Orders,
        TpchTable::LineItem,
    ];

    /// Its name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            TpchTable::Region => "region",
            TpchTable::Nation => "nation",
            TpchTable::Supplier => "supplier",
            TpchTable::Customer => "customer",
            TpchTable::Part => "part",
            TpchTable::PartSupp => "partsupp",
            TpchTable::Orders => "orders",
            TpchTable::LineItem => "lineitem",
        }
    }

    /// Writes the whole table as CSV with a header.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub fn write_csv(self, data: &TpchData, out: &mut impl Write) -> std::io::Result<u64> {
        let whole = TablePart::WHOLE;
        match self {
            TpchTable::Region => write_rows(out, RegionCsv::header(), data.regions().map(RegionCsv::new)),
            TpchTable::Nation => write_rows(out, NationCsv::header(), data.nations().map(NationCsv::new)),
            TpchTable::Supplier => write_rows(
                out,
                SupplierCsv::header(),
                data.suppliers(whole).map(SupplierCsv::new),
            ),
            TpchTable::Customer => write_rows(
                out,
                CustomerCsv::header(),
                data.customers(whole).map(CustomerCsv::new),
            ),
            TpchTable::Part => write_rows(out, PartCsv::header(), data.parts(whole).map(PartCsv::new)),
            TpchTable::PartSupp => write_rows(
                out,
                PartSuppCsv::header(),
                data.part_supplies(whole).map(PartSuppCsv::new),
            ),
            TpchTable::Orders => write_rows(out, OrderCsv::header(), data.orders(whole).map(OrderCsv::new)),
            TpchTable::LineItem => write_rows(
                out,
                LineItemCsv::header(),
                data.line_items(whole).map(LineItemCsv::new),
            ),
        }
    }
}

/// Writes rows below their header and answers how many.
fn write_rows(
    out: &mut impl Write,
    header: &str,
    rows: impl Iterator<Item = impl Display>,
) -> std::io::Result<u64> {
    writeln!(out, "{header}")?;
    let mut count = 0;
    for row in rows {
        writeln!(out, "{row}")?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_table() {
        let data = TpchData::new(0.002, Comments::Unread).expect("large enough");
        let whole: Vec<LineItem<'_>> = data.line_items(TablePart::WHOLE).collect();
        let parts = (0..5).flat_map(|index| data.line_items(TablePart { index, count: 5 }));
        assert!(parts.eq(whole.iter().cloned()));
        assert!((11_000..13_000).contains(&whole.len()), "{}", whole.len());
    }

    #[test]
    fn columns_do_not_depend_on_the_text_of_comments() {
        let (short, long) = (
            TpchData::new(0.001, Comments::Unread).expect("large enough"),
            TpchData::new(0.001, Comments::Read).expect("large enough"),
        );
        let columns = |data: &TpchData| -> Vec<_> {
            let customers = data.customers(TablePart::WHOLE);
            customers
                .map(|row| (row.c_custkey, row.c_acctbal, row.c_mktsegment.to_string()))
                .collect()
        };
        assert_eq!(columns(&short), columns(&long));
        let comments = |data: &TpchData| -> Vec<String> {
            let orders = data.orders(TablePart::WHOLE);
            orders.map(|row| row.o_comment.to_string()).collect()
        };
        assert_ne!(comments(&short), comments(&long));
    }

    #[test]
    fn tables_are_written_as_csv() {
        let data = TpchData::new(0.001, Comments::Unread).expect("large enough");
        for table in TpchTable::ALL {
            let mut file = Vec::new();
            let rows = table.write_csv(&data, &mut file).expect("memory can be written");
            let text = String::from_utf8(file).expect("it is text");
            assert_eq!(text.lines().count() as u64, rows + 1, "{}", table.name());
        }
    }

    #[test]
    fn a_scale_without_suppliers_is_refused() {
        for scale in [0.0, 0.0009, -1.0, f64::NAN] {
            let refused = TpchData::new(scale, Comments::Unread)
                .map(|_| ())
                .expect_err("too small");
            assert!(refused.to_string().contains("0.001"), "{refused}");
        }
    }
}
