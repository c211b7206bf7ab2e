//! [`CsvReader`]: finds the records of a split, and builds rows from their fields.
//!
//! # Algorithm
//! For each file, the header says which field is which column; a part in the middle of a file reads the header first. For each
//! record: find its fields, check that it is text, parse each column's value into the row being built.

use super::compression::Compression;
use super::csv::{CsvOptions, CsvSplit};
use super::csv_fields::{Field, Malformed};
use super::files::FileInput;
use super::part_reader::PartReader;
use super::read_buffer::ReadBuffer;
use super::text_reader::mended;
use super::{SourceOutput, SourceReader, SourceStatus};
use crate::record::{Record, RowBuilder, TextColumn};
use forebay_memory::{Error, ErrorKind, Result};
use memchr::memchr;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::str;
use std::sync::Arc;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads the records of a [`CsvSplit`].
pub struct CsvReader<R> {
    part: PartReader,
    options: Arc<CsvOptions>,
    columns: Arc<[TextColumn]>,
    /// The field of each column in the file being read; none where it is missing.
    places: Vec<Option<usize>>,
    /// Fields that each record of the file has.
    width: usize,
    fields: Vec<Field>,
    /// The last header seen: files of one source usually have the same.
    header: Vec<u8>,
    row: RowBuilder,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> CsvReader<R> {
    pub(super) fn new(input: Arc<FileInput>, split: CsvSplit) -> CsvReader<R> {
        let CsvSplit {
            files,
            options,
            columns,
        } = split;
        CsvReader {
            part: PartReader::new(input, files),
            places: (0..columns.len()).map(Some).collect(),
            width: columns.len(),
            fields: Vec::new(),
            header: Vec::new(),
            row: RowBuilder::of::<R>(),
            record: PhantomData,
            options,
            columns,
        }
    }

    /// Emits a record, or reads more.
    fn advance(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<()> {
        if self.part.is_new {
            return self.start_part();
        }
        if !self.part.find_start()? {
            return Ok(());
        }
        let Some(length) = self.next_record()? else {
            return self.part.read_on();
        };
        if !is_blank(&self.part.buffer.unread()[..length]) {
            self.emit(length, out)?;
        }
        self.part.buffer.consume(length);
        Ok(())
    }

    /// Finds the fields of the record at the front of the buffer: its length, or nothing where more must be read.
    fn next_record(&mut self) -> Result<Option<usize>> {
        let buffer = &self.part.buffer;
        let unread = buffer.unread();
        if unread.is_empty() {
            return Ok(None);
        }
        let dialect = self.options.dialect;
        let parsed = if self.options.is_line_by_line {
            match memchr(b'\n', unread) {
                Some(end) => dialect.parse(&unread[..=end], true, &mut self.fields),
                None if buffer.is_at_end() => dialect.parse(unread, true, &mut self.fields),
                None => Ok(None),
            }
        } else {
            dialect.parse(unread, buffer.is_at_end(), &mut self.fields)
        };
        let fault = match parsed {
            Ok(Some(length)) if length > self.part.input.max_record => length,
            Ok(None) if unread.len() > self.part.input.max_record => unread.len(),
            Ok(length) => return Ok(length),
            Err(Malformed::Unclosed) if self.options.is_line_by_line => {
                return Err(self.corrupt(
                    "a quoted field does not end in its line; if fields may have line ends, leave out whole_lines()",
                ));
            }
            Err(Malformed::Unclosed) => return Err(self.corrupt("a quoted field does not end in its file")),
            Err(Malformed::AfterQuote) => {
                return Err(self.corrupt(
                    "text follows a closing quote; a quote inside a quoted field is doubled, and only a delimiter or \
                     line end follows the field",
                ));
            }
        };
        Err(Error::memory(format!(
            "{}: a record of {fault} bytes or more is over record.max_size ({} B); close its quotes, or raise \
             record.max_size",
            self.part.place(),
            self.part.input.max_record
        )))
    }

    #[cold]
    fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Corrupt, format!("{}: {what}", self.part.place()))
    }

    /// Emits the record in the first `length` bytes of the buffer.
    fn emit(&mut self, length: usize, out: &mut SourceOutput<'_, '_, R>) -> Result<()> {
        let buffer = &self.part.buffer;
        let bytes = &buffer.unread()[..length];
        let record = match str::from_utf8(bytes) {
            Ok(record) => Cow::Borrowed(record),
            Err(_) => {
                let policy = self.part.input.not_utf8;
                let Some(record) = mended(bytes, policy, buffer.offset(), self.part.path())? else {
                    return Ok(());
                };
                // Characters put in for bytes move the fields; what separates them is untouched.
                let _ = self
                    .options
                    .dialect
                    .parse(record.as_bytes(), true, &mut self.fields);
                record
            }
        };
        let found = self.fields.len();
        let is_short = self.options.missing_are_null && !self.options.has_header && found < self.width;
        let is_long = self.options.ignores_extra && !self.options.has_header && found > self.width;
        if found != self.width && !is_short && !is_long {
            let whole = if self.options.has_header {
                "the header"
            } else {
                &R::schema().name
            };
            return Err(self.corrupt(format_args!(
                "{found} field{} where {whole} has {}",
                if found == 1 { "" } else { "s" },
                self.width
            )));
        }
        self.row.start();
        for (column, place) in self.columns.iter().zip(&self.places) {
            let Some(field) = place.and_then(|place| self.fields.get(place)) else {
                if !column.is_nullable {
                    return Err(self.corrupt(format_args!(
                        "column \"{}\" is missing, and is not an Option",
                        column.name
                    )));
                }
                column.set_null(&mut self.row);
                continue;
            };
            let text = self.options.dialect.text(*field, &record);
            let mut text = &*text;
            if !field.is_quoted {
                if self.options.trims {
                    text = text.trim_matches([' ', '\t']);
                }
                if text == self.options.null {
                    if column.is_nullable {
                        column.set_null(&mut self.row);
                        continue;
                    }
                    if !column.may_be_empty() {
                        return Err(self.corrupt(format_args!(
                            "column \"{}\": \"{text}\" is null, but {} is no Option; expected {}",
                            column.name,
                            column.name,
                            column.expected(self.options.bytes_text)
                        )));
                    }
                }
            }
            if !column.parse(text, self.options.bytes_text, &mut self.row) {
                let shown: String = text.chars().take(60).collect();
                return Err(self.corrupt(format_args!(
                    "column \"{}\": \"{shown}\"{} is not {}",
                    column.name,
                    if shown.len() < text.len() { "..." } else { "" },
                    column.expected(self.options.bytes_text)
                )));
            }
        }
        out.push(self.row.view::<R>());
        Ok(())
    }

    /// Looks at the start of a part: passes over a byte order mark, and reads the header.
    #[cold]
    fn start_part(&mut self) -> Result<()> {
        if self.part.is_inside_line {
            self.part.is_new = false;
            if self.options.has_header
                && let Err(error) = self.header_from_start()
            {
                self.part.buffer.close();
                return match error.kind() {
                    ErrorKind::Io => self.part.input.unreadable(error),
                    _ => Err(error),
                };
            }
            return Ok(());
        }
        let PartReader { buffer, limit, .. } = &mut self.part;
        if buffer.unread().len() < BYTE_ORDER_MARK.len() && !buffer.is_at_end() {
            return self.part.read_on();
        }
        if buffer.offset() == 0 && buffer.unread().starts_with(BYTE_ORDER_MARK) {
            buffer.consume(BYTE_ORDER_MARK.len());
            // The first line still starts in this part.
            *limit = (*limit).max(buffer.offset() + 1);
        }
        let is_empty = buffer.unread().is_empty() && buffer.is_at_end();
        if self.options.has_header && is_empty && !self.options.skips_empty {
            return Err(self.no_header());
        }
        if self.options.has_header && !is_empty {
            let Some(length) = self.next_record()? else {
                return self.part.read_on();
            };
            let header = self.part.buffer.unread()[..length].to_vec();
            self.set_header(&header)?;
            self.part.buffer.consume(length);
        }
        self.part.is_new = false;
        Ok(())
    }

    /// The error of an empty file.
    fn no_header(&self) -> Error {
        let names: Vec<_> = (self.columns.iter())
            .map(|column| format!("\"{}\"", column.name))
            .collect();
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "{}: the file is empty, where a header with the columns of {}, {}, is expected; write the header, pass over such files with \
                 skip_empty_files(), or say without_header() where files have none",
                self.part.path().display(),
                R::schema().name,
                names.join(", ")
            ),
        )
    }

    /// Reads the header of a file of which a later part is open.
    fn header_from_start(&mut self) -> Result<()> {
        let path = self.part.path().to_path_buf();
        let mut buffer = ReadBuffer::new(0);
        buffer.open(&path, Compression::None, 0, 0)?;
        loop {
            buffer.fill(&path)?;
            let unread = buffer.unread();
            let unread = unread.strip_prefix(BYTE_ORDER_MARK).unwrap_or(unread);
            // A header that is malformed or too long is told of by the part that it is in.
            let is_last = buffer.is_at_end() || unread.len() > self.part.input.max_record;
            match self.options.dialect.parse(unread, is_last, &mut self.fields) {
                Ok(Some(length)) => {
                    let header = unread[..length].to_vec();
                    return self.set_header(&header);
                }
                Ok(None) => {}
                Err(_) => {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!("{}:1: the header's quotes are malformed", path.display()),
                    ));
                }
            }
        }
    }

    /// Finds the columns in a header, whose fields have been found.
    fn set_header(&mut self, header: &[u8]) -> Result<()> {
        if self.header == header {
            return Ok(());
        }
        let path = self.part.path().display();
        let corrupt = |what: String| Err(Error::new(ErrorKind::Corrupt, format!("{path}: {what}")));
        let Ok(text) = str::from_utf8(header) else {
            return corrupt("the header is not UTF-8 text".into());
        };
        let names: Vec<String> = self
            .fields
            .iter()
            .map(|field| {
                let name = self.options.dialect.text(*field, text);
                let name = if self.options.trims { name.trim() } else { &name };
                name.to_string()
            })
            .collect();
        let record = &R::schema().name;
        let quoted = |names: &mut dyn Iterator<Item = &String>| -> String {
            names
                .map(|name| format!("\"{name}\""))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let extra = names
            .iter()
            .find(|name| self.columns.iter().all(|column| column.name != **name));
        if let Some(extra) = extra
            && !self.options.ignores_extra
        {
            let other = [';', '\t', '|', ',']
                .into_iter()
                .find(|other| extra.contains(*other));
            let remedy = match other {
                Some(other) if names.len() == 1 => {
                    format!("where {other:?} is between the columns, say so with delimiter({other:?})")
                }
                _ if self.columns.iter().any(|column| column.name == extra.trim()) => {
                    "take spaces away with trim()".to_string()
                }
                _ => "pass over such columns with ignore_extra_columns()".to_string(),
            };
            return corrupt(format!(
                "column \"{extra}\" is not in {record}, which has {}; {remedy}",
                quoted(&mut self.columns.iter().map(|column| &column.name))
            ));
        }
        let mut places = Vec::with_capacity(self.columns.len());
        for column in self.columns.iter() {
            let mut found = (0..names.len()).filter(|index| names[*index] == column.name);
            let place = found.next();
            if found.next().is_some() {
                return corrupt(format!("two columns are named \"{}\"", column.name));
            }
            if place.is_none() && !(self.options.missing_are_null && column.is_nullable) {
                let remedy = if column.is_nullable {
                    "; take missing columns as null with missing_columns_are_null()"
                } else {
                    ""
                };
                return corrupt(format!(
                    "there is no column \"{}\" of {record}; the header has {}{remedy}",
                    column.name,
                    quoted(&mut names.iter())
                ));
            }
            places.push(place);
        }
        self.width = names.len();
        self.places = places;
        self.header = header.to_vec();
        Ok(())
    }
}

impl<R: Record> SourceReader for CsvReader<R> {
    type Out = R;

    fn poll(&mut self, out: &mut SourceOutput<'_, '_, R>) -> Result<SourceStatus> {
        while !out.is_full() {
            if !self.part.is_open()? {
                return Ok(SourceStatus::Done);
            }
            self.advance(out)?;
        }
        Ok(SourceStatus::More)
    }
}

fn is_blank(record: &[u8]) -> bool {
    matches!(record, b"\n" | b"\r\n")
}
