//! Which row groups may have records that a predicate wants, by the statistics that files keep.
//!
//! # Algorithm
//! The least and greatest value of a column become values of the field's type as the column's own values do, and normalized keys.
//! Bounds that were written in an order of their own (deprecated ones of anything but signed numbers) are not looked at.

use super::file::OpenFile;
use super::predicate::{Bounds, FieldTest, Predicate};
use crate::arrow::Leaf;
use crate::record::Record;
use arrow_array::ArrayRef;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

/// The row groups of a file that may have records for which `predicate` holds.
pub(super) fn wanted_groups<R: Record>(file: &OpenFile, predicate: &Predicate<R>) -> Vec<usize> {
    (0..file.metadata.metadata().num_row_groups())
        .filter(|group| predicate.may_hold(&mut |test| group_bounds(file, *group, test)))
        .collect()
}

/// The leaf that a field is, where it is one.
pub(super) fn leaf_of<'f, R: Record>(file: &'f OpenFile, test: &dyn FieldTest<R>) -> Option<&'f Leaf> {
    let mut leaves = file.leaves.iter();
    leaves.find(|leaf| leaf.is_top && leaf.path == test.name())
}

/// What is known of a field in a row group.
pub(super) fn group_bounds<R: Record>(file: &OpenFile, group: usize, test: &dyn FieldTest<R>) -> Bounds {
    let group = file.metadata.metadata().row_group(group);
    let rows = group.num_rows().max(0) as u64;
    let unknown = Bounds {
        rows,
        ..Bounds::default()
    };
    let Some(leaf) = leaf_of(file, test) else {
        // A column that is missing is null; one that is no leaf has no bounds.
        let is_there = file.leaves.iter().any(|leaf| leaf.root == test.name());
        return Bounds {
            nulls: (!is_there).then_some(rows),
            ..unknown
        };
    };
    let Some(statistics) = group.column(leaf.number).statistics() else {
        return unknown;
    };
    let nulls = statistics.null_count_opt();
    if statistics.is_min_max_deprecated() && !leaf.is_signed {
        return Bounds { nulls, ..unknown };
    }
    let Ok(field) = file.metadata.schema().field_with_name(test.name()) else {
        return unknown;
    };
    let converter =
        StatisticsConverter::from_column_index(leaf.number, field, file.metadata.parquet_schema());
    let value = |column: parquet::errors::Result<ArrayRef>| {
        let values = test.normalized(&column.ok()?);
        values.into_iter().next().flatten()
    };
    match converter {
        Ok(converter) => Bounds {
            least: value(converter.row_group_mins([group])),
            most: value(converter.row_group_maxes([group])),
            nulls,
            rows,
        },
        Err(_) => Bounds { nulls, ..unknown },
    }
}
