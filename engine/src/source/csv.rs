//! [`CsvSource`]: records from CSV files.
//!
//! # Interface
//! [`csv`] with a record type and patterns of files; options are methods.
//!
//! # Algorithm
//! Columns are found by the header's names, or by position where there is no header. A file is read by one subtask, because a
//! line end may be inside quotes; where [`CsvSource::whole_lines`] says that none is, files are split as text is.
//!
//! # Not here
//! The grammar is in `csv_fields`, the reading in `csv_reader`, values in `record::from_text`.

use super::compression::Compression;
use super::csv_fields::Dialect;
use super::csv_reader::CsvReader;
use super::files::{FileInput, FileSplit, NotUtf8, Patterns};
use super::{RowsBytes, Source};
use crate::record::layout::{MAX_ALIGN, part_at};
use crate::record::{BytesText, Record, TextColumn, text_columns};
use forebay_memory::{Error, Plan, Result};
use std::marker::PhantomData;
use std::sync::Arc;

/// A source of records from CSV files, their columns named in each file's first line.
///
/// ```
/// use forebay::record::Record;
/// use forebay::source::csv;
///
/// #[derive(Record)]
/// struct Bid {
///     auction: u64,
///     price: i64,
///     channel: Option<String>,
/// }
///
/// let bids = csv::<Bid>("bids-*.csv").delimiter(';').null("NULL");
/// # let _ = bids;
/// ```
pub fn csv<R: Record>(patterns: impl Into<Patterns>) -> CsvSource<R> {
    CsvSource {
        input: Arc::new(FileInput::new(patterns.into()).compressed(Compression::ByName)),
        options: Arc::new(CsvOptions::default()),
        characters: (',', '"'),
        record: PhantomData,
    }
}

/// See [`csv`].
pub struct CsvSource<R> {
    input: Arc<FileInput>,
    options: Arc<CsvOptions>,
    /// Delimiter and quote as given; they are checked when the job starts.
    characters: (char, char),
    record: PhantomData<fn() -> R>,
}

/// How files are read.
#[derive(Debug, Clone)]
pub(super) struct CsvOptions {
    pub(super) dialect: Dialect,
    pub(super) has_header: bool,
    pub(super) null: String,
    pub(super) trims: bool,
    pub(super) is_line_by_line: bool,
    pub(super) ignores_extra: bool,
    pub(super) missing_are_null: bool,
    pub(super) skips_empty: bool,
    pub(super) bytes_text: BytesText,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions {
            dialect: Dialect::default(),
            has_header: true,
            null: String::new(),
            trims: false,
            is_line_by_line: false,
            ignores_extra: false,
            missing_are_null: false,
            skips_empty: false,
            bytes_text: BytesText::Hex,
        }
    }
}

impl<R: Record> CsvSource<R> {
    fn with(mut self, change: impl FnOnce(&mut CsvOptions)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }

    fn with_input(mut self, change: impl FnOnce(&mut FileInput)) -> Self {
        change(Arc::make_mut(&mut self.input));
        self
    }

    /// Files without a header: columns are the record's fields in their order.
    pub fn without_header(self) -> Self {
        self.with(|options| options.has_header = false)
    }

    /// What separates fields; a comma by default.
    pub fn delimiter(mut self, delimiter: char) -> Self {
        self.characters.0 = delimiter;
        self
    }

    /// What encloses fields; `"` by default.
    pub fn quote(mut self, quote: char) -> Self {
        self.characters.1 = quote;
        self
    }

    /// The text that stands for null in an `Option` where it is not in quotes; by default the empty text.
    pub fn null(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.with(|options| options.null = text)
    }

    /// Removes blanks around fields that are not in quotes.
    pub fn trim(self) -> Self {
        self.with(|options| options.trims = true)
    }

    /// How bytes are written; in hex by default.
    pub fn bytes(self, format: BytesText) -> Self {
        self.with(|options| options.bytes_text = format)
    }

    /// Promises that no field has a line end in quotes, so that large files are split among subtasks. A field that has one
    /// after all is an error.
    pub fn whole_lines(self) -> Self {
        self.with(|options| options.is_line_by_line = true)
    }

    /// Passes over columns that the record does not have; by default they are an error.
    pub fn ignore_extra_columns(self) -> Self {
        self.with(|options| options.ignores_extra = true)
    }

    /// Takes columns that a file does not have as null, where the field is an `Option`; by default they are an error.
    pub fn missing_columns_are_null(self) -> Self {
        self.with(|options| options.missing_are_null = true)
    }

    /// Passes over files without a byte, as some programs write them where they have no records. By default such a file is an error where a
    /// header is expected: whatever should have written it may have failed.
    pub fn skip_empty_files(self) -> Self {
        self.with(|options| options.skips_empty = true)
    }

    /// What to do with bytes that are not UTF-8 text; by default the job fails.
    pub fn not_utf8(self, policy: NotUtf8) -> Self {
        self.with_input(|input| input.not_utf8 = policy)
    }

    /// Passes over files and directories that cannot be read, or vanish, with a warning in the log; by default the job
    /// fails. A pattern that matches nothing is an error all the same.
    pub fn skip_unreadable(self) -> Self {
        self.with_input(|input| input.skips_unreadable = true)
    }

    /// How the files are compressed; by default as the ending of each one's name says (`.gz`, `.zst`). Compressed files are not divided.
    pub fn compression(self, compression: Compression) -> Self {
        self.with_input(|input| input.compression = compression)
    }

    /// Bytes that one subtask reads at a time, at least 1; by default 4 to 64 MiB, by the size of the input. A file is only
    /// divided with [`CsvSource::whole_lines`].
    pub fn split_size(self, bytes: u64) -> Self {
        self.with_input(|input| input.split_size = Some(bytes))
    }
}

impl<R: Record> Source for CsvSource<R> {
    type Out = R;
    type Split = CsvSplit;
    type Reader = CsvReader<R>;

    fn prepare(&mut self, plan: &Plan) {
        let input = Arc::make_mut(&mut self.input);
        input.max_record = plan.record.max_size;
        input.segment_size = plan.segment_size();
    }

    fn splits(&self, parallelism: usize) -> Result<Vec<CsvSplit>> {
        let (delimiter, quote) = self.characters;
        let dialect = checked_dialect(delimiter, quote)?;
        let columns: Arc<[TextColumn]> = text_columns(R::schema())?.into();
        let options = Arc::new(CsvOptions {
            dialect,
            ..(*self.options).clone()
        });
        let splits = self
            .input
            .splits(parallelism, options.is_line_by_line.then_some(1))?;
        let splits = splits.into_iter().map(|files| CsvSplit {
            files,
            options: options.clone(),
            columns: columns.clone(),
        });
        Ok(splits.collect())
    }

    fn reader(&self, split: CsvSplit) -> Result<CsvReader<R>> {
        Ok(CsvReader::new(self.input.clone(), split))
    }

    /// The least is a quarter of those of the files, because a number may be shorter in a row than as text; where columns are passed over,
    /// nothing is. The most is that of as many lines as there may be. Of compressed files the least alone is known.
    fn rows_bytes(&self) -> RowsBytes {
        let Ok(columns) = text_columns(R::schema()) else {
            return RowsBytes::UNKNOWN;
        };
        let line = shortest_line(&columns, self.options.missing_are_null);
        let row = match R::STRIDE {
            0 => (part_at(R::ALIGN, true) + R::SIZE + MAX_ALIGN) as u64,
            stride => stride as u64,
        };
        let widening = match self.input.not_utf8 {
            // A byte becomes a character of three.
            NotUtf8::Replace => 3,
            NotUtf8::Error | NotUtf8::Skip => 1,
        };
        let bytes = self.input.rows_bytes(|text| {
            // The last line may have no end.
            let rows = (text.saturating_add(1) / line).saturating_mul(row);
            let most = rows.saturating_add(text.saturating_mul(widening));
            RowsBytes::between(RowsBytes::about(text).least(), most)
        });
        match self.options.ignores_extra {
            true => bytes.of_some(),
            false => bytes,
        }
    }

    fn divides_among(&self, subtasks: usize) -> bool {
        self.input
            .divides_among(subtasks, self.options.is_line_by_line.then_some(1))
    }
}

/// Bytes of the shortest line that is a record, its end and delimiters included.
fn shortest_line(columns: &[TextColumn], missing_are_null: bool) -> u64 {
    let bytes = columns
        .iter()
        .map(|column| match (column.is_nullable, column.may_be_empty()) {
            (true, _) => u64::from(!missing_are_null),
            (false, true) => 1,
            (false, false) => 2,
        });
    bytes.sum::<u64>().max(1)
}

/// Files of a [`CsvSource`] that one reader reads.
pub struct CsvSplit {
    pub(super) files: FileSplit,
    pub(super) options: Arc<CsvOptions>,
    pub(super) columns: Arc<[TextColumn]>,
}

/// The dialect with these characters, where they can be told apart from each other and from text.
pub(crate) fn checked_dialect(delimiter: char, quote: char) -> Result<Dialect> {
    for (name, character) in [("delimiter", delimiter), ("quote", quote)] {
        if !character.is_ascii() || character.is_ascii_alphanumeric() || matches!(character, '\n' | '\r') {
            return Err(Error::config(format!(
                "CSV {name} {character:?}: use an ASCII character that is no letter, digit or line end, such as ',' \
                 for the delimiter and '\"' for the quote"
            )));
        }
    }
    if delimiter == quote {
        return Err(Error::config(format!(
            "CSV delimiter and quote are both {delimiter:?}; make them differ"
        )));
    }
    Ok(Dialect {
        delimiter: delimiter as u8,
        quote: quote as u8,
    })
}
