//! The nations and regions, of which several queries want the names.

use super::tables::TableWriter;
use crate::data::TpchData;
use forebay::record::Record;
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
