//! Files of tables: rows as the engine lays them out, and a source that reads them.
//!
//! # Interface
//! [`write_tables`] makes a scratch file of what is pushed into its [`TableWriter`]; [`Tables::open`] and [`Tables::table`] give the
//! source of a table, of the record type that it was written with, or whose columns a Parquet file has.
//!
//! # Algorithm
//! A table is generated in [`PARTS`] parts, whatever the number of threads; each part is a sequence of chunks of about
//! 64 KiB, which threads write where the file ends at that moment. The directory names chunks in the order of parts, so the
//! same data is read in the same order wherever its chunks lie.
//!
//! # Layout
//! ```text
//! chunks                    rows, one behind the other; those that vary begin with their size
//! directory                 JSON: a list of chunks {offset, bytes, rows} for each table
//! u64                       bytes of the directory, little-endian
//! ```

use super::parquet_tables::{ParquetTables, TableColumns};
use crate::data::tpch::{TablePart, TpchTable};
use crate::scratch::Scratch;
use forebay::record::Record;
use forebay::source::{RowsBytes, Source, SourceOutput, SourceReader, SourceStatus};
use forebay_memory::{Error, Plan, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Parts in which a table is generated.
pub const PARTS: usize = 32;

/// Bytes of a chunk, about: large enough for a system call to cost nothing, small enough to stay in a cache.
const CHUNK: usize = 64 << 10;

/// Chunks that one reader reads, at most.
const CHUNKS_A_SPLIT: usize = 16;

/// Where some of a table's rows lie.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Chunk {
    offset: u64,
    bytes: u32,
    rows: u32,
}

/// A scratch file of the tables that `write` writes.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_tables(write: impl FnOnce(&mut TableWriter<'_>) -> io::Result<()>) -> Result<Scratch> {
    Scratch::write(|out| {
        let mut writer = TableWriter {
            file: out.get_ref(),
            end: AtomicU64::new(0),
            tables: Vec::new(),
        };
        write(&mut writer)?;
        let (end, tables) = (writer.end.into_inner(), writer.tables);
        let mut directory = serde_json::to_vec(&tables).expect("numbers are plain data");
        let size = directory.len() as u64;
        directory.extend_from_slice(&size.to_le_bytes());
        out.get_ref().write_all_at(&directory, end)?;
        out.flush()?;
        Ok(end + directory.len() as u64)
    })
}

/// Writes tables, one after the other.
pub struct TableWriter<'f> {
    file: &'f File,
    end: AtomicU64,
    tables: Vec<Vec<Chunk>>,
}

impl TableWriter<'_> {
    /// Adds a table of the rows that `rows` pushes for each part, on all cores.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn table<R: Record>(
        &mut self,
        rows: impl Fn(TablePart, &mut RowWriter<'_, R>) + Sync,
    ) -> io::Result<()> {
        self.table_in_parts(PARTS, rows)
    }

    /// Adds a table that is too small to be divided.
    ///
    /// # Errors
    /// As [`TableWriter::table`].
    pub fn small_table<R: Record>(&mut self, rows: impl Fn(&mut RowWriter<'_, R>) + Sync) -> io::Result<()> {
        self.table_in_parts(1, |_, out| rows(out))
    }

    fn table_in_parts<R: Record>(
        &mut self,
        count: usize,
        rows: impl Fn(TablePart, &mut RowWriter<'_, R>) + Sync,
    ) -> io::Result<()> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || -> io::Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(());
                }
                let mut out = RowWriter {
                    file: self.file,
                    end: &self.end,
                    bytes: Vec::with_capacity(CHUNK + CHUNK / 4),
                    rows: 0,
                    chunks: Vec::new(),
                    failure: None,
                    record: PhantomData,
                };
                rows(TablePart { index, count }, &mut out);
                let chunks = out.finish()?;
                done.lock().expect("adding does not panic").push((index, chunks));
            }
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(count);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            others
                .into_iter()
                .map(|thread| thread.join().expect("generators do not panic"))
                .fold(own, |first, result| first.and(result))
        })?;
        let mut parts = done.into_inner().expect("adding does not panic");
        parts.sort_unstable_by_key(|(index, _)| *index);
        let chunks = parts.into_iter().flat_map(|(_, chunks)| chunks);
        self.tables.push(chunks.collect());
        Ok(())
    }
}

/// Where a part's rows go.
pub struct RowWriter<'f, R> {
    file: &'f File,
    end: &'f AtomicU64,
    bytes: Vec<u8>,
    rows: u32,
    chunks: Vec<Chunk>,
    failure: Option<io::Error>,
    record: PhantomData<fn(R)>,
}

impl<R: Record> RowWriter<'_, R> {
    /// Adds a row.
    pub fn push(&mut self, row: R::View<'_>) {
        let (at, size) = (self.bytes.len(), R::row_size(R::shorten(row)));
        self.bytes.resize(at + size, 0);
        R::write_row(row, &mut self.bytes[at..]);
        self.rows += 1;
        if self.bytes.len() >= CHUNK {
            self.write_chunk();
        }
    }

    fn write_chunk(&mut self) {
        if self.failure.is_none() && !self.bytes.is_empty() {
            let bytes = u32::try_from(self.bytes.len()).expect("a chunk is a few rows over 64 KiB");
            // Rows of fixed size are read where they lie, so they begin at a multiple of 8.
            let room = u64::from(bytes).next_multiple_of(8);
            let offset = self.end.fetch_add(room, Ordering::Relaxed);
            self.failure = self.file.write_all_at(&self.bytes, offset).err();
            self.chunks.push(Chunk {
                offset,
                bytes,
                rows: self.rows,
            });
        }
        self.bytes.clear();
        self.rows = 0;
    }

    fn finish(mut self) -> io::Result<Vec<Chunk>> {
        self.write_chunk();
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.chunks),
        }
    }
}

/// A file of tables.
pub struct TableFile {
    path: PathBuf,
    tables: Vec<Vec<Chunk>>,
}

impl TableFile {
    /// The tables in the file at `path`.
    ///
    /// # Errors
    /// Where it cannot be read, or has no directory.
    pub fn open(path: &Path) -> Result<TableFile> {
        let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let wrong = |what: String| Error::corrupt(format!("{}: {what}", path.display()));
        let mut length = [0; 8];
        let end = size
            .checked_sub(8)
            .ok_or_else(|| wrong(format!("{size} B are no file of tables")))?;
        file.read_exact_at(&mut length, end).map_err(failed)?;
        let length = u64::from_le_bytes(length);
        let start = end.checked_sub(length).ok_or_else(|| {
            wrong(format!(
                "its directory has {length} B, which is more than the file"
            ))
        })?;
        let mut directory = vec![0; length as usize];
        file.read_exact_at(&mut directory, start).map_err(failed)?;
        let tables: Vec<Vec<Chunk>> = serde_json::from_slice(&directory)
            .map_err(|error| wrong(format!("its directory is none: {error}")))?;
        for chunk in tables.iter().flatten() {
            if chunk.offset.saturating_add(u64::from(chunk.bytes)) > start {
                return Err(wrong(format!("a chunk at {} is behind its end", chunk.offset)));
            }
        }
        Ok(TableFile {
            path: path.to_path_buf(),
            tables,
        })
    }

    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables
            .iter()
            .flatten()
            .map(|chunk| u64::from(chunk.rows))
            .sum()
    }

    /// Bytes of the rows of all tables.
    pub fn bytes(&self) -> u64 {
        self.tables
            .iter()
            .flatten()
            .map(|chunk| u64::from(chunk.bytes))
            .sum()
    }

    /// A source of the table at `index`, in the order in which they were written, with rows of type `R`.
    ///
    /// # Panics
    /// Where there is no such table.
    pub fn table<R: Record>(&self, index: usize) -> TableSource<R> {
        TableSource {
            path: self.path.clone(),
            chunks: self.tables[index].clone(),
            record: PhantomData,
        }
    }

    /// Reads the chunks of all tables that are `thread`'s of `threads`, to their last byte; answers their rows.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read_part(&self, thread: usize, threads: usize, buffer: &mut Vec<u8>) -> Result<u64> {
        let failed = |error| Error::io(format!("cannot read {}", self.path.display()), error);
        let file = File::open(&self.path).map_err(failed)?;
        let mut rows = 0;
        for chunk in self.tables.iter().flatten().skip(thread).step_by(threads) {
            buffer.resize(chunk.bytes as usize, 0);
            file.read_exact_at(buffer, chunk.offset).map_err(failed)?;
            rows += u64::from(chunk.rows);
        }
        Ok(rows)
    }
}

/// The tables of a query: in the engine's rows, or in Parquet files.
pub enum Tables {
    /// A file of them, and which they are.
    Rows(TableFile, &'static [TpchTable]),
    /// A directory.
    Parquet(ParquetTables),
}

impl Tables {
    /// Opens `tables` at `path`: a directory has Parquet files.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn open(path: &Path, tables: &'static [TpchTable]) -> Result<Tables> {
        match path.is_dir() {
            true => ParquetTables::open(path, tables).map(Tables::Parquet),
            false => TableFile::open(path).map(|file| Tables::Rows(file, tables)),
        }
    }

    /// A source of the columns of a table that the query reads.
    ///
    /// # Panics
    /// Where it is none of the query's.
    pub fn table<R: Record>(&self, table: TpchTable) -> QuerySource<R> {
        match self {
            Tables::Rows(file, tables) => {
                let index = tables.iter().position(|known| *known == table);
                QuerySource::Rows(file.table(index.expect("a query reads the tables that it names")))
            }
            Tables::Parquet(tables) => QuerySource::Parquet(tables.table(table)),
        }
    }

    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        match self {
            Tables::Rows(file, _) => file.rows(),
            Tables::Parquet(tables) => tables.rows(),
        }
    }

    /// Bytes of all tables.
    pub fn bytes(&self) -> u64 {
        match self {
            Tables::Rows(file, _) => file.bytes(),
            Tables::Parquet(tables) => tables.bytes(),
        }
    }

    /// Reads what is `thread`'s of `threads`; answers its rows.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn read_part(&self, thread: usize, threads: usize, buffer: &mut Vec<u8>) -> Result<u64> {
        match self {
            Tables::Rows(file, _) => file.read_part(thread, threads, buffer),
            Tables::Parquet(tables) => tables.read_part(thread, threads, buffer),
        }
    }
}

/// A source of a table.
pub enum QuerySource<R: Record> {
    /// From a file of tables.
    Rows(TableSource<R>),
    /// From a Parquet file.
    Parquet(TableColumns<R>),
}

/// A part of a table.
pub enum QuerySplit<R: Record> {
    /// Of a file of tables.
    Rows(<TableSource<R> as Source>::Split),
    /// Of a Parquet file.
    Parquet(<TableColumns<R> as Source>::Split),
}

/// Reads a part of a table.
pub enum QueryReader<R: Record> {
    /// Of a file of tables.
    Rows(TableReader<R>),
    /// Of a Parquet file.
    Parquet(Box<<TableColumns<R> as Source>::Reader>),
}

impl<R: Record> Source for QuerySource<R> {
    type Out = R;
    type Split = QuerySplit<R>;
    type Reader = QueryReader<R>;

    fn prepare(&mut self, plan: &Plan) {
        match self {
            QuerySource::Rows(source) => source.prepare(plan),
            QuerySource::Parquet(source) => source.prepare(plan),
        }
    }

    fn splits(&self, parallelism: usize) -> Result<Vec<Self::Split>> {
        Ok(match self {
            QuerySource::Rows(source) => {
                let splits = source.splits(parallelism)?;
                splits.into_iter().map(QuerySplit::Rows).collect()
            }
            QuerySource::Parquet(source) => {
                let splits = source.splits(parallelism)?;
                splits.into_iter().map(QuerySplit::Parquet).collect()
            }
        })
    }

    fn reader(&self, split: Self::Split) -> Result<Self::Reader> {
        match (self, split) {
            (QuerySource::Rows(source), QuerySplit::Rows(split)) => {
                source.reader(split).map(QueryReader::Rows)
            }
            (QuerySource::Parquet(source), QuerySplit::Parquet(split)) => {
                source.reader(split).map(Box::new).map(QueryReader::Parquet)
            }
            _ => unreachable!("a source reads its own splits"),
        }
    }

    fn rows_bytes(&self) -> RowsBytes {
        match self {
            QuerySource::Rows(source) => source.rows_bytes(),
            QuerySource::Parquet(source) => source.rows_bytes(),
        }
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        match self {
            QuerySource::Rows(source) => source.divides_among(subtasks),
            QuerySource::Parquet(source) => source.divides_among(subtasks),
        }
    }
}

impl<R: Record> SourceReader for QueryReader<R> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        match self {
            QueryReader::Rows(reader) => reader.poll(out),
            QueryReader::Parquet(reader) => reader.poll(out),
        }
    }
}

/// A source of the rows of a table.
pub struct TableSource<R> {
    path: PathBuf,
    chunks: Vec<Chunk>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Source for TableSource<R> {
    type Out = R;
    type Split = Vec<Chunk>;
    type Reader = TableReader<R>;

    fn splits(&self, parallelism: usize) -> Result<Vec<Self::Split>> {
        // Several for each subtask, so that a fast one takes over from a slow one.
        let chunks = self
            .chunks
            .len()
            .div_ceil(4 * parallelism)
            .clamp(1, CHUNKS_A_SPLIT);
        Ok(self.chunks.chunks(chunks).map(<[Chunk]>::to_vec).collect())
    }

    fn reader(&self, split: Self::Split) -> Result<TableReader<R>> {
        let file = File::open(&self.path)
            .map_err(|error| Error::io(format!("cannot read {}", self.path.display()), error))?;
        Ok(TableReader {
            file,
            path: self.path.clone(),
            chunks: split.into_iter(),
            bytes: Vec::new(),
            at: 0,
            record: PhantomData,
        })
    }

    fn rows_bytes(&self) -> RowsBytes {
        RowsBytes::exactly(bytes_of(&self.chunks))
    }

    /// As the engine's own sources: no split is more than half as much again as a share.
    fn divides_among(&self, subtasks: usize) -> bool {
        let splits = self.splits(subtasks).unwrap_or_default();
        let largest = splits.iter().map(|split| bytes_of(split)).max().unwrap_or(0);
        splits.len() >= subtasks && 2 * largest * subtasks as u64 <= 3 * bytes_of(&self.chunks)
    }
}

fn bytes_of(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum()
}

/// Reads some chunks of a table.
pub struct TableReader<R> {
    file: File,
    path: PathBuf,
    chunks: std::vec::IntoIter<Chunk>,
    bytes: Vec<u8>,
    at: usize,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> SourceReader for TableReader<R> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        while !out.is_full() {
            if self.at == self.bytes.len() {
                let Some(chunk) = self.chunks.next() else {
                    return Ok(SourceStatus::Done);
                };
                self.bytes.resize(chunk.bytes as usize, 0);
                self.at = 0;
                self.file
                    .read_exact_at(&mut self.bytes, chunk.offset)
                    .map_err(|error| {
                        Error::io(
                            format!("cannot read {} at {}", self.path.display(), chunk.offset),
                            error,
                        )
                    })?;
            }
            let row = &self.bytes[self.at..];
            let size = R::row_size_at(row);
            out.push(R::read_row(&row[..size]));
            self.at += size;
        }
        Ok(SourceStatus::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay::{Environment, Runtime};

    type Named = (u64, String);

    fn numbers(part: TablePart) -> std::ops::Range<u64> {
        let bound = |index: usize| 50_000 * index as u64 / part.count as u64;
        bound(part.index)..bound(part.index + 1)
    }

    fn written() -> Scratch {
        let written = write_tables(|tables| {
            tables.table::<Named>(|part, rows| {
                numbers(part)
                    .for_each(|number| rows.push((number, "x".repeat(number as usize % 7).as_str())));
            })?;
            tables.small_table::<u8>(|rows| (0..5).for_each(|number| rows.push(number)))?;
            tables.small_table::<u64>(|_| ())
        });
        written.expect("the temporary directory is writable")
    }

    #[test]
    fn tables_are_read_as_they_were_written() {
        let scratch = written();
        let tables = TableFile::open(scratch.path()).expect("it was written");
        assert_eq!(tables.rows(), 50_005);
        let plan = Plan::with_segments(16, 128, 4096).expect("a plan for tests");
        let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
        let environment = Environment::new(runtime).with_parallelism(1);
        let named = environment.source("named", tables.table::<Named>(0)).collect();
        let bytes = environment.source("bytes", tables.table::<u8>(1)).collect();
        let none = environment.source("none", tables.table::<u64>(2)).collect();
        environment.execute("tables").expect("the job runs");
        let named = named.take();
        assert_eq!(named.len(), 50_000);
        for (number, (found, text)) in (0..).zip(&named) {
            assert_eq!((number, number as usize % 7), (*found, text.len()));
        }
        assert_eq!((bytes.take(), none.take()), ((0..5).collect(), vec![]));
    }

    #[test]
    fn tables_say_how_large_they_are_and_whether_all_subtasks_read_some() {
        let scratch = written();
        let file = TableFile::open(scratch.path()).expect("it was written");
        let named = QuerySource::Rows(file.table::<Named>(0));
        let texts: Vec<String> = (0..7).map(|length| "x".repeat(length)).collect();
        let size = |number: u64| Named::row_size((number, texts[number as usize % 7].as_str())) as u64;
        let sum = (0..50_000).map(size).sum();
        assert_eq!(named.rows_bytes(), RowsBytes::exactly(sum));
        assert!(named.divides_among(2) && !named.divides_among(1000));
        let bytes = QuerySource::Rows(file.table::<u8>(1));
        assert_eq!(bytes.rows_bytes(), RowsBytes::exactly(5));
        assert!(bytes.divides_among(1) && !bytes.divides_among(2));
        let none = QuerySource::Rows(file.table::<u64>(2));
        assert!(none.rows_bytes() == RowsBytes::exactly(0) && !none.divides_among(1));
    }

    #[test]
    fn parts_of_a_file_are_all_of_it() {
        let scratch = written();
        let tables = TableFile::open(scratch.path()).expect("it was written");
        let mut buffer = Vec::new();
        let rows: u64 = (0..3)
            .map(|thread| tables.read_part(thread, 3, &mut buffer).expect("readable"))
            .sum();
        assert_eq!(rows, tables.rows());
    }

    #[test]
    fn what_is_no_file_of_tables_is_refused() {
        for bytes in [&b"short"[..], &[255; 64], b"no directory\x05\0\0\0\0\0\0\0"] {
            let scratch = Scratch::write(|file| file.write_all(bytes).map(|()| bytes.len() as u64));
            let scratch = scratch.expect("writable");
            assert!(TableFile::open(scratch.path()).is_err(), "{bytes:?}");
        }
    }
}
