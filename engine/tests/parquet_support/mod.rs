//! What the tests of Parquet files share: files whose pages, row groups and statistics are as a test wants them.

use forebay::arrow::{ArrowOptions, ArrowWriter};
use forebay::record::Record;
use parquet::arrow::ArrowWriter as FileWriter;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::Path;

/// Writes a file of records, as the Parquet library does with `properties`.
pub fn write<R: Record>(path: &Path, records: &[R], properties: WriterProperties) {
    let mut rows = ArrowWriter::<R>::new(&ArrowOptions::default()).expect("every field has a column");
    let file = File::create(path).expect("it can be created");
    let mut writer =
        FileWriter::try_new(file, rows.schema().clone(), Some(properties)).expect("it can be written");
    for chunk in records.chunks(100) {
        (chunk.iter())
            .try_for_each(|record| rows.push(record.view()))
            .expect("the records have a place");
        writer
            .write(&rows.take().expect("a batch"))
            .expect("it can be written");
    }
    writer.close().expect("it can be written");
}
