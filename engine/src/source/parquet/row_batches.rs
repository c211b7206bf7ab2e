//! [`RowBatches`]: columns of some rows of a row group, a record batch at a time.
//!
//! # Algorithm
//! Columns are decoded in step, page by page, to record batches of about [`BATCH`] bytes. Pages without a row that is read are passed over by
//! their headers: the footer that the decoder gets has no page index (`page_index` says why).

use super::file::{Chunks, OpenFile, guarded};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use forebay_memory::Result;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy,
};
use parquet::errors::ParquetError;
use std::ops::Range;
use std::path::Path;

/// Bytes of a record batch: a few network buffers, which fit into the second-level cache.
const BATCH: u64 = 256 << 10;
const MOST_ROWS: u64 = 8192;

/// Decodes columns of a row group.
pub(super) struct RowBatches {
    group: usize,
    batches: ParquetRecordBatchReader,
}

impl RowBatches {
    /// The columns `mask` of the rows `wanted` of row group `group`, about `width` bytes each.
    ///
    /// # Errors
    /// Where the row group is damaged, or cannot be read.
    pub(super) fn open(
        file: &OpenFile,
        path: &Path,
        group: usize,
        mask: ProjectionMask,
        width: u64,
        wanted: &[Range<u64>],
    ) -> Result<RowBatches> {
        let rows = file.group_rows(group);
        let builder = ParquetRecordBatchReaderBuilder::<Chunks>::new_with_metadata(
            file.chunks.clone(),
            file.metadata.clone(),
        );
        let mut builder = builder
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size((BATCH / width.max(1)).clamp(1, MOST_ROWS) as usize);
        if wanted.iter().map(|rows| rows.end - rows.start).sum::<u64>() < rows {
            let ranges = wanted.iter().map(|rows| rows.start as usize..rows.end as usize);
            let selection = RowSelection::from_consecutive_ranges(ranges, rows as usize);
            builder = builder
                .with_row_selection(selection)
                .with_row_selection_policy(RowSelectionPolicy::Selectors);
        }
        let batches =
            guarded(path, || builder.build()).map_err(|error| error.within(format!("row group {group}")))?;
        Ok(RowBatches { group, batches })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        RecordBatchReader::schema(&self.batches)
    }

    /// Decodes the next batch: none after the last.
    ///
    /// # Errors
    /// As [`RowBatches::open`].
    pub(super) fn next(&mut self, path: &Path) -> Result<Option<RecordBatch>> {
        let decoded = guarded(path, || self.batches.next().transpose().map_err(parquet_error));
        decoded.map_err(|error| error.within(format!("row group {}", self.group)))
    }
}

/// What a decoder answers, as other parts of its library do.
fn parquet_error(error: ArrowError) -> ParquetError {
    match error {
        ArrowError::ParquetError(what) => ParquetError::General(what),
        ArrowError::ExternalError(error) => ParquetError::External(error),
        other => ParquetError::General(other.to_string()),
    }
}
