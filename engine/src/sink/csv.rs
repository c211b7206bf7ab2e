//! CSV as file sinks write it: a header, then a line for each record, fields in quotes where they must be.

use super::file::{FileFormat, FileSink};
use crate::record::{BytesText, Record, TextColumn, text_columns};
use crate::source::{Dialect, checked_dialect};
use forebay_memory::Result;
use std::marker::PhantomData;

/// Records as CSV; see [`FileSink::csv`]. What it writes, [`source::csv`](crate::source::csv()) reads back equal, with the same
/// options.
pub struct CsvRows<R> {
    /// Delimiter and quote as given; they are checked when the job starts.
    characters: (char, char),
    has_header: bool,
    null: String,
    bytes_text: BytesText,
    dialect: Dialect,
    columns: Vec<TextColumn>,
    /// The row being written, where it is not in a batch.
    row: Vec<u8>,
    record: PhantomData<fn(R)>,
}

impl<R> Clone for CsvRows<R> {
    fn clone(&self) -> Self {
        CsvRows {
            null: self.null.clone(),
            columns: self.columns.clone(),
            row: Vec::new(),
            ..*self
        }
    }
}

impl<R: Record> CsvRows<R> {
    pub(super) fn new() -> Self {
        CsvRows {
            characters: (',', '"'),
            has_header: true,
            null: String::new(),
            bytes_text: BytesText::Hex,
            dialect: Dialect::default(),
            columns: Vec::new(),
            row: Vec::new(),
            record: PhantomData,
        }
    }

    /// Appends the field that starts at `start`, in quotes where it would not be read back as it is.
    fn quote(&self, start: usize, out: &mut Vec<u8>) {
        let Dialect { delimiter, quote } = self.dialect;
        let field = &out[start..];
        let is_special = |byte: &u8| *byte == delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
        let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        // The null text, blanks that a reader may trim, and a line that would be empty.
        let is_ambiguous = field == self.null.as_bytes()
            || is_blank(field.first())
            || is_blank(field.last())
            || field.is_empty() && self.columns.len() == 1;
        if !is_ambiguous && !field.iter().any(is_special) {
            return;
        }
        let field = out.split_off(start);
        out.push(quote);
        for byte in field {
            if byte == quote {
                out.push(quote);
            }
            out.push(byte);
        }
        out.push(quote);
    }

    fn append(&self, row: &[u8], out: &mut Vec<u8>) {
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.push(self.dialect.delimiter);
            }
            let start = out.len();
            if column.append(row, self.bytes_text, out) {
                self.quote(start, out);
            } else {
                out.extend_from_slice(self.null.as_bytes());
            }
        }
        out.push(b'\n');
    }
}

impl<R: Record> FileFormat for CsvRows<R> {
    type In = R;

    fn start(&mut self) -> Result<()> {
        self.dialect = checked_dialect(self.characters.0, self.characters.1)?;
        self.columns = text_columns(R::schema())?;
        Ok(())
    }

    fn header(&mut self, out: &mut Vec<u8>) {
        if !self.has_header {
            return;
        }
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.push(self.dialect.delimiter);
            }
            let start = out.len();
            out.extend_from_slice(column.name.as_bytes());
            self.quote(start, out);
        }
        out.push(b'\n');
    }

    fn record(&mut self, view: R::View<'_>, out: &mut Vec<u8>) {
        let mut row = std::mem::take(&mut self.row);
        row.resize(R::row_size(view), 0);
        R::write_row(view, &mut row);
        self.append(&row, out);
        self.row = row;
    }
}

impl<R: Record> FileSink<CsvRows<R>> {
    /// Files without a header.
    pub fn without_header(mut self) -> Self {
        self.format.has_header = false;
        self
    }

    /// What separates fields; a comma by default.
    pub fn delimiter(mut self, delimiter: char) -> Self {
        self.format.characters.0 = delimiter;
        self
    }

    /// What encloses fields that need it; `"` by default.
    pub fn quote(mut self, quote: char) -> Self {
        self.format.characters.1 = quote;
        self
    }

    /// What is written for null; nothing by default. A value with this text is put in quotes.
    pub fn null(mut self, text: impl Into<String>) -> Self {
        self.format.null = text.into();
        self
    }

    /// How bytes are written; in hex by default.
    pub fn bytes(mut self, format: BytesText) -> Self {
        self.format.bytes_text = format;
        self
    }
}
