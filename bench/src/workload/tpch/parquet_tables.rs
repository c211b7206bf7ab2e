//! Tables in a directory of Parquet files, as `generate tpch --parquet` writes them. Without the feature `parquet`, what says how
//! to have it.

#[cfg(feature = "parquet")]
pub use with_parquet::{ParquetTables, TableColumns};

#[cfg(not(feature = "parquet"))]
pub use without_parquet::{ParquetTables, TableColumns};

#[cfg(feature = "parquet")]
mod with_parquet {
    use crate::data::tpch::TpchTable;
    use forebay::record::Record;
    use forebay::source::{ParquetSource, parquet};
    use forebay_memory::{Error, Result};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    /// The columns of a table that a query reads.
    pub type TableColumns<R> = ParquetSource<R>;

    /// Some tables of a directory.
    pub struct ParquetTables {
        directory: PathBuf,
        tables: &'static [TpchTable],
        rows: u64,
        bytes: u64,
    }

    impl ParquetTables {
        /// These tables of `directory`.
        ///
        /// # Errors
        /// Where one is not there, or is no Parquet file.
        pub fn open(directory: &Path, tables: &'static [TpchTable]) -> Result<ParquetTables> {
            let mut opened = ParquetTables {
                directory: directory.to_path_buf(),
                tables,
                rows: 0,
                bytes: 0,
            };
            for table in tables {
                let path = opened.path(*table);
                let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
                let file = File::open(&path).map_err(failed)?;
                opened.bytes += file.metadata().map_err(failed)?.len();
                let footer = ParquetRecordBatchReaderBuilder::try_new(file)
                    .map_err(|error| Error::corrupt(format!("cannot read {}: {error}", path.display())))?;
                opened.rows += footer.metadata().file_metadata().num_rows().max(0) as u64;
            }
            Ok(opened)
        }

        fn path(&self, table: TpchTable) -> PathBuf {
            self.directory.join(format!("{}.parquet", table.name()))
        }

        /// Rows of all tables.
        pub fn rows(&self) -> u64 {
            self.rows
        }

        /// Bytes of their files, columns that are not read included.
        pub fn bytes(&self) -> u64 {
            self.bytes
        }

        /// A source of the columns of `table` that `R` has.
        pub fn table<R: Record>(&self, table: TpchTable) -> TableColumns<R> {
            parquet::<R>(self.path(table))
        }

        /// Reads `thread`'s part of `threads` of each file; answers the rows that it stands for.
        ///
        /// # Errors
        /// Where a file cannot be read.
        pub fn read_part(&self, thread: usize, threads: usize, buffer: &mut Vec<u8>) -> Result<u64> {
            let bound = |all: u64, thread: usize| all * thread as u64 / threads as u64;
            for table in self.tables {
                let path = self.path(*table);
                let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
                let file = File::open(&path).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                let (mut at, end) = (bound(size, thread), bound(size, thread + 1));
                while at < end {
                    buffer.resize((end - at).min(64 << 10) as usize, 0);
                    file.read_exact_at(buffer, at).map_err(failed)?;
                    at += buffer.len() as u64;
                }
            }
            Ok(bound(self.rows, thread + 1) - bound(self.rows, thread))
        }
    }
}

#[cfg(not(feature = "parquet"))]
mod without_parquet {
    use super::super::tables::TableSource;
    use crate::data::parquet_files::refused;
    use crate::data::tpch::TpchTable;
    use forebay::record::Record;
    use forebay_memory::Result;
    use std::convert::Infallible;
    use std::path::Path;

    /// The columns of a table that a query reads.
    pub type TableColumns<R> = TableSource<R>;

    /// Some tables of a directory: there are none.
    pub struct ParquetTables(Infallible);

    impl ParquetTables {
        /// An error that says how to have them.
        ///
        /// # Errors
        /// Always.
        pub fn open(_: &Path, _: &'static [TpchTable]) -> Result<ParquetTables> {
            refused()
        }

        /// Rows of all tables.
        pub fn rows(&self) -> u64 {
            match self.0 {}
        }

        /// Bytes of their files.
        pub fn bytes(&self) -> u64 {
            match self.0 {}
        }

        /// A source of a table.
        pub fn table<R: Record>(&self, _: TpchTable) -> TableColumns<R> {
            match self.0 {}
        }

        /// Reads a part of them.
        ///
        /// # Errors
        /// None.
        pub fn read_part(&self, _: usize, _: usize, _: &mut Vec<u8>) -> Result<u64> {
            match self.0 {}
        }
    }
}
