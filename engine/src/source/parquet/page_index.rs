//! [`PageIndex`]: between which values the pages of a row group are, so that those that a predicate excludes need not be read.
//!
//! # Interface
//! [`PageIndex::read`] a row group's; [`PageIndex::wanted_rows`] by a predicate.
//!
//! # Algorithm
//! 1. Of the index only what is needed is read: the columns that a predicate looks at.
//! 2. Pages of different columns begin at different rows. Between two rows at which any of them begins, each column has the
//!    bounds of one page; where these exclude the predicate, the rows between are not wanted.
//!
//! # Memory
//! On the user's heap, while a row group is opened: about 50 bytes, and two values, for each page of those columns.
//!
//! # Not here
//! The decoder does not get the index. It has no checksum, and a decoder that passes over pages by it would put values of one row
//! beside those of another where a first row is damaged: it passes over pages by what their own headers say they have.
//!
//! An index that does not fit its row group is no error: it is not used, which the log says. The data can be read without it.

use super::file::{OpenFile, guarded};
use super::predicate::{Bounds, FieldTest, Predicate};
use super::pruning::{group_bounds, leaf_of};
use crate::record::Record;
use forebay_memory::{ErrorKind, Result};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::metadata::page_index::PageIndexProvider;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::index_reader::{decode_column_index, decode_offset_index};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::reader::ChunkReader;
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Bytes of a column's index that are read at most: more than half a million pages.
const LARGEST_INDEX: u64 = 16 << 20;

/// What the page index says of one row group: of the leaves that a predicate looks at, by their numbers.
#[derive(Debug, Default)]
pub(super) struct PageIndex {
    places: BTreeMap<usize, OffsetIndexMetaData>,
    bounds: BTreeMap<usize, ColumnIndexMetaData>,
}

impl PageIndex {
    /// Reads where the pages of the columns of a row group begin that `predicate` looks at, and what bounds they have.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub(super) fn read<R: Record>(
        file: &OpenFile,
        path: &Path,
        group: usize,
        predicate: &Predicate<R>,
    ) -> Result<PageIndex> {
        let mut looked_at = Vec::new();
        predicate.each_test(&mut |test| looked_at.extend(leaf_of(file, test).map(|leaf| leaf.number)));
        looked_at.sort_unstable();
        looked_at.dedup();
        let group = file.metadata.metadata().row_group(group);
        let rows = group.num_rows() as u64;
        let mut index = PageIndex::default();
        for number in looked_at {
            let column = group.column(number);
            let places = load(file, path, column.offset_index_range(), |bytes| {
                let places = decode_places(bytes)?;
                match fits(&places, column, rows) {
                    true => Ok(places),
                    false => Err(ParquetError::General(
                        "pages are not where their column is".into(),
                    )),
                }
            })?;
            let Some(places) = places else { continue };
            let bounds = load(file, path, column.column_index_range(), |bytes| {
                let bounds = decode_column_index(bytes, column.column_type())?;
                match bounds.num_pages() == places.page_locations().len() as u64 {
                    true => Ok(bounds),
                    false => Err(ParquetError::General(
                        "there are not as many bounds as pages".into(),
                    )),
                }
            })?;
            let Some(bounds) = bounds else { continue };
            index.places.insert(number, places);
            index.bounds.insert(number, bounds);
        }
        Ok(index)
    }

    /// The rows of row group `group` that `predicate` may want, those within `part`: in order, with rows between any two.
    pub(super) fn wanted_rows<R: Record>(
        &self,
        file: &OpenFile,
        path: &Path,
        group: usize,
        predicate: &Predicate<R>,
        part: Range<u64>,
    ) -> Vec<Range<u64>> {
        let mut columns: BTreeMap<&'static str, Pages> = BTreeMap::new();
        predicate.each_test(&mut |test| {
            if !columns.contains_key(test.name()) {
                columns.extend(
                    self.pages(file, path, group, test)
                        .map(|pages| (test.name(), pages)),
                );
            }
        });
        let mut starts: Vec<u64> = columns
            .values()
            .flat_map(|pages| &pages.starts)
            .copied()
            .filter(|start| part.contains(start))
            .chain([part.start, part.end])
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let mut wanted: Vec<Range<u64>> = Vec::new();
        for between in starts.windows(2) {
            let (start, end) = (between[0], between[1]);
            let may_hold = predicate.may_hold(&mut |test| match columns.get(test.name()) {
                Some(pages) => pages.at(start).clone(),
                None => group_bounds(file, group, test),
            });
            match wanted.last_mut() {
                _ if !may_hold => {}
                Some(last) if last.end == start => last.end = end,
                _ => wanted.push(start..end),
            }
        }
        wanted
    }

    /// The pages of a field, where their bounds are known.
    fn pages<R: Record>(
        &self,
        file: &OpenFile,
        path: &Path,
        group: usize,
        test: &dyn FieldTest<R>,
    ) -> Option<Pages> {
        let leaf = leaf_of(file, test)?;
        let (places, bounds) = (self.places.get(&leaf.number)?, self.bounds.get(&leaf.number)?);
        let footer = file.metadata.metadata();
        // Without an order that the file names, only signed numbers have one.
        let is_ordered = leaf.is_signed || footer.file_metadata().column_orders().is_some();
        let field = file.metadata.schema().field_with_name(test.name()).ok()?;
        let schema = file.metadata.parquet_schema();
        let values = guarded(path, || {
            let converter = StatisticsConverter::from_column_index(leaf.number, field, schema)?;
            let least = test.normalized(&converter.data_page_mins(self, [&0])?);
            let most = test.normalized(&converter.data_page_maxes(self, [&0])?);
            Ok((least, most))
        });
        let starts: Vec<u64> = places
            .page_locations()
            .iter()
            .map(|page| page.first_row_index as u64)
            .collect();
        let (mut least, mut most) = values.unwrap_or_default();
        if !is_ordered || least.len() != starts.len() || most.len() != starts.len() {
            (least, most) = (vec![None; starts.len()], vec![None; starts.len()]);
        }
        let ends = starts.iter().skip(1).copied().chain([file.group_rows(group)]);
        let bounds = (starts
            .iter()
            .zip(ends)
            .zip(least.into_iter().zip(most))
            .enumerate())
        .map(|(page, ((start, end), (least, most)))| {
            let rows = end - start;
            let nulls = bounds
                .null_count(page)
                .and_then(|nulls| u64::try_from(nulls).ok());
            Bounds {
                least,
                most,
                nulls: if bounds.is_null_page(page) {
                    Some(rows)
                } else {
                    nulls
                },
                rows,
            }
        })
        .collect();
        Some(Pages { starts, bounds })
    }
}

/// The pages of a column: the row with which each begins, and its bounds.
struct Pages {
    starts: Vec<u64>,
    bounds: Vec<Bounds>,
}

impl Pages {
    /// The bounds of the page that has `row`: the first begins with row 0.
    fn at(&self, row: u64) -> &Bounds {
        &self.bounds[self.starts.partition_point(|start| *start <= row) - 1]
    }
}

/// Reads and decodes an index, where there is one that can be used.
fn load<T>(
    file: &OpenFile,
    path: &Path,
    range: Option<Range<u64>>,
    decode: impl FnOnce(&[u8]) -> parquet::errors::Result<T>,
) -> Result<Option<T>> {
    let Some(range) = range.filter(|range| (1..=LARGEST_INDEX).contains(&(range.end - range.start))) else {
        return Ok(None);
    };
    let length = (range.end - range.start) as usize;
    let index = guarded(path, || decode(&file.chunks.get_bytes(range.start, length)?));
    match index {
        Ok(index) => Ok(Some(index)),
        Err(error) if error.kind() == ErrorKind::Io => Err(error),
        Err(error) => {
            tracing::warn!("a page index is not used: {error}");
            Ok(None)
        }
    }
}

/// Decodes where pages are.
fn decode_places(bytes: &[u8]) -> parquet::errors::Result<OffsetIndexMetaData> {
    // The library takes memory for as many as the list says before it has seen one: more than there are bytes, there are not.
    let declared = match bytes {
        [_, length, rest @ ..] if length >> 4 == 15 => {
            let bits = rest.iter().take(10).enumerate();
            let mut count = 0_u64;
            for (at, byte) in bits {
                count |= u64::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            count
        }
        _ => 0,
    };
    if declared > bytes.len() as u64 {
        return Err(ParquetError::General(format!(
            "{} B of an index have no room for {declared} pages",
            bytes.len()
        )));
    }
    decode_offset_index(bytes)
}

/// Whether these can be the places of a column's pages: in order, within the column, each with rows.
fn fits(places: &OffsetIndexMetaData, column: &ColumnChunkMetaData, rows: u64) -> bool {
    let (start, length) = column.byte_range();
    let Some(end) = start.checked_add(length) else {
        return false;
    };
    let (mut next_byte, mut next_row) = (start, 0);
    let pages = places.page_locations();
    for (index, page) in pages.iter().enumerate() {
        let (Ok(offset), Ok(size), Ok(first_row)) = (
            u64::try_from(page.offset),
            u64::try_from(page.compressed_page_size),
            u64::try_from(page.first_row_index),
        ) else {
            return false;
        };
        let is_next = match index {
            0 => first_row == 0,
            _ => first_row > next_row,
        };
        if offset < next_byte || size == 0 || !is_next || first_row >= rows {
            return false;
        }
        (next_byte, next_row) = (offset + size, first_row);
    }
    !pages.is_empty() && next_byte <= end
}

impl PageIndexProvider for PageIndex {
    fn has_offset_indexes(&self) -> bool {
        !self.places.is_empty()
    }

    fn has_column_indexes(&self) -> bool {
        !self.bounds.is_empty()
    }

    // There is one row group.
    fn column_index(&self, _: usize, column: usize) -> Option<&ColumnIndexMetaData> {
        self.bounds.get(&column)
    }

    fn offset_index(&self, _: usize, column: usize) -> Option<&OffsetIndexMetaData> {
        self.places.get(&column)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_longer_than_its_bytes_is_refused_before_memory_is_taken() {
        let endless = [0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
        let error = decode_places(&endless).expect_err("there is no room for them");
        assert!(
            error.to_string().contains("no room for 2147483647 pages"),
            "{error}"
        );
        let one = [0x19, 0x1c, 0x16, 8, 0x15, 4, 0x16, 0, 0, 0];
        let places = decode_places(&one).expect("it is an index");
        let page = &places.page_locations()[0];
        assert_eq!(
            (page.offset, page.compressed_page_size, page.first_row_index),
            (4, 2, 0)
        );
    }
}
