//! Records as columns of text: which columns a record type has, rows built from fields of text, fields of rows as text.
//!
//! # Interface
//! [`text_columns`] lists the columns of a record type by its schema; [`TextColumn::parse`] puts a column's text into a row that is
//! being built; [`TextColumn::append`] is the way back. CSV sources and sinks are made of these.
//!
//! # Algorithm
//! A value is parsed and put where the schema says that its bytes lie, so that no owned record is made. Fields of a
//! record inside a record are columns named `outer.inner`. Enums, arrays and nullable records are no columns.

use super::builder::RowBuilder;
use super::row::{Record, null_bit, put, set_null_bit, take};
use super::schema::{DataType, FieldInfo, Schema};
use super::{Date, Decimal, Timestamp};
use forebay_memory::{Error, Result};
use std::fmt::Write;
use std::str::FromStr;

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BytesText {
    /// Two digits a byte: `00ff`. Upper case is read too.
    #[default]
    Hex,
    /// RFC 4648 with `+`, `/` and padding, which need not be there.
    Base64,
}

/// A column of a record type.
#[derive(Debug, Clone)]
pub(crate) struct TextColumn {
    /// The field's name, after those of the records that it is in.
    pub(crate) name: String,
    /// Whether the field is an `Option`.
    pub(crate) is_nullable: bool,
    kind: Kind,
    offset: usize,
    null_bit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Unsigned(u16),
    Signed(u16),
    Float(u16),
    Timestamp,
    Date,
    Decimal,
    String,
    Bytes,
}

/// The columns of a record type.
///
/// # Errors
/// `Config`, naming the field that is no column.
pub(crate) fn text_columns(schema: &Schema) -> Result<Vec<TextColumn>> {
    let mut columns = Vec::new();
    add_columns(&schema.name, "", 0, &schema.fields, &mut columns)?;
    Ok(columns)
}

fn add_columns(
    record: &str,
    prefix: &str,
    base: usize,
    fields: &[FieldInfo],
    columns: &mut Vec<TextColumn>,
) -> Result<()> {
    for field in fields {
        let name = format!("{prefix}{}", field.name);
        let (data_type, is_nullable) = match &field.data_type {
            DataType::Option(inner) => (&**inner, true),
            other => (other, false),
        };
        let kind = match data_type {
            DataType::Bool => Kind::Bool,
            DataType::Unsigned(bits) => Kind::Unsigned(*bits),
            DataType::Signed(bits) => Kind::Signed(*bits),
            DataType::Float(bits) => Kind::Float(*bits),
            DataType::Timestamp => Kind::Timestamp,
            DataType::Date => Kind::Date,
            DataType::Decimal => Kind::Decimal,
            DataType::String => Kind::String,
            DataType::Bytes => Kind::Bytes,
            DataType::Record(inner) if !is_nullable => {
                let base = base + field.offset;
                add_columns(record, &format!("{name}."), base, &inner.fields, columns)?;
                continue;
            }
            _ => {
                return Err(Error::config(format!(
                    "field \"{name}\" of {record} is of type {}, which is no column of text; a column is a number, bool, \
                     timestamp, date, decimal, string or bytes, or an Option of one",
                    field.data_type
                )));
            }
        };
        columns.push(TextColumn {
            name,
            is_nullable,
            kind,
            offset: base + field.offset,
            null_bit: base * 8 + field.null_bit,
        });
    }
    Ok(())
}

impl TextColumn {
    /// Makes a nullable column of the row null.
    pub(crate) fn set_null(&self, row: &mut RowBuilder) {
        debug_assert!(self.is_nullable);
        set_null_bit(row.bytes(), self.null_bit);
    }

    /// Parses `text` as the column's value. False where it is none; [`TextColumn::expected`] says what would be.
    #[inline]
    pub(crate) fn parse(&self, text: &str, bytes_text: BytesText, row: &mut RowBuilder) -> bool {
        let at = self.offset;
        if self.kind == Kind::String {
            row.put_bytes(0, at, text.as_bytes());
            return true;
        }
        if self.kind == Kind::Bytes {
            let Some(bytes) = decode_bytes(text, bytes_text) else {
                return false;
            };
            row.put_bytes(0, at, &bytes);
            return true;
        }
        let row = row.bytes();
        fn store<T: FromStr + Record>(text: &str, row: &mut [u8], at: usize) -> bool {
            let value = text.parse::<T>();
            if let Ok(value) = &value {
                T::write_part(value.view(), row, at, 0);
            }
            value.is_ok()
        }
        match self.kind {
            Kind::Bool => match parse_bool(text) {
                Some(value) => {
                    row[at] = value.into();
                    true
                }
                None => false,
            },
            Kind::Unsigned(8) => store::<u8>(text, row, at),
            Kind::Unsigned(16) => store::<u16>(text, row, at),
            Kind::Unsigned(32) => store::<u32>(text, row, at),
            Kind::Unsigned(64) => store::<u64>(text, row, at),
            Kind::Unsigned(_) => store::<u128>(text, row, at),
            Kind::Signed(8) => store::<i8>(text, row, at),
            Kind::Signed(16) => store::<i16>(text, row, at),
            Kind::Signed(32) => store::<i32>(text, row, at),
            Kind::Signed(64) => store::<i64>(text, row, at),
            Kind::Signed(_) => store::<i128>(text, row, at),
            Kind::Float(32) => store::<f32>(text, row, at),
            Kind::Float(_) => store::<f64>(text, row, at),
            Kind::Timestamp => match usual_timestamp(text).or_else(|| text.parse().ok()) {
                Some(millis) => {
                    put(row, at, millis.to_le_bytes());
                    true
                }
                None => store::<Timestamp>(text, row, at),
            },
            Kind::Date => store::<Date>(text, row, at),
            Kind::Decimal => store::<Decimal>(text, row, at),
            Kind::String | Kind::Bytes => unreachable!("strings and bytes were stored above"),
        }
    }

    /// What the column's text must be, with its article.
    pub(crate) fn expected(&self, bytes_text: BytesText) -> String {
        match self.kind {
            Kind::Bool => "a bool: true or false, 1 or 0".into(),
            Kind::Unsigned(bits) => format!("a u{bits}"),
            Kind::Signed(bits) => format!("an i{bits}"),
            Kind::Float(bits) => format!("an f{bits}"),
            Kind::Timestamp => {
                "a timestamp such as 2026-11-22T10:31:41.500Z, or milliseconds since 1970".into()
            }
            Kind::Date => "a date such as 2026-11-22".into(),
            Kind::Decimal => "a decimal number such as -12.50, of at most 38 digits".into(),
            Kind::String => "text".into(),
            Kind::Bytes if bytes_text == BytesText::Hex => "bytes in hex, such as 00ff".into(),
            Kind::Bytes => "bytes in base64, such as AP8=".into(),
        }
    }

    /// Whether the empty text is a value of the column.
    pub(crate) fn may_be_empty(&self) -> bool {
        matches!(self.kind, Kind::String | Kind::Bytes)
    }

    /// Appends the column's value in `row` as text. False where it is null: nothing is appended.
    pub(crate) fn append(&self, row: &[u8], bytes_text: BytesText, out: &mut Vec<u8>) -> bool {
        if self.is_nullable && null_bit(row, self.null_bit) {
            return false;
        }
        let at = self.offset;
        let mut text = Appender(out);
        let written = match self.kind {
            Kind::Bool => write!(text, "{}", row[at] != 0),
            Kind::Unsigned(8) => text.integer(row[at].into(), false),
            Kind::Unsigned(16) => text.integer(u16::from_le_bytes(take(row, at)).into(), false),
            Kind::Unsigned(32) => text.integer(u32::from_le_bytes(take(row, at)).into(), false),
            Kind::Unsigned(64) => text.integer(u64::from_le_bytes(take(row, at)), false),
            Kind::Unsigned(_) => write!(text, "{}", u128::from_le_bytes(take(row, at))),
            Kind::Signed(8) => text.signed((row[at] as i8).into()),
            Kind::Signed(16) => text.signed(i16::from_le_bytes(take(row, at)).into()),
            Kind::Signed(32) => text.signed(i32::from_le_bytes(take(row, at)).into()),
            Kind::Signed(64) => text.signed(i64::from_le_bytes(take(row, at))),
            Kind::Signed(_) => write!(text, "{}", i128::from_le_bytes(take(row, at))),
            // Debug is the shortest text that reads back as the same number, with an exponent where it is large.
            Kind::Float(32) => write!(text, "{:?}", f32::from_le_bytes(take(row, at))),
            Kind::Float(_) => write!(text, "{:?}", f64::from_le_bytes(take(row, at))),
            Kind::Timestamp => write!(text, "{}", Timestamp::read_part(row, at)),
            Kind::Date => write!(text, "{}", Date::read_part(row, at)),
            Kind::Decimal => write!(text, "{}", Decimal::read_part(row, at)),
            Kind::String => {
                out.extend_from_slice(Vec::<u8>::read_part(row, at));
                Ok(())
            }
            Kind::Bytes => {
                encode_bytes(Vec::<u8>::read_part(row, at), bytes_text, out);
                Ok(())
            }
        };
        written.expect("writing to a vector does not fail");
        true
    }
}

/// Formats into bytes.
struct Appender<'a>(&'a mut Vec<u8>);

impl Write for Appender<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Appender<'_> {
    /// The digits of an integer, without the machinery of `fmt`, which costs several times as much.
    fn integer(&mut self, mut value: u64, is_negative: bool) -> std::fmt::Result {
        let mut digits = [0; 21];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        if is_negative {
            at -= 1;
            digits[at] = b'-';
        }
        self.0.extend_from_slice(&digits[at..]);
        Ok(())
    }

    fn signed(&mut self, value: i64) -> std::fmt::Result {
        self.integer(value.unsigned_abs(), value < 0)
    }
}

/// The milliseconds of a timestamp in the form that is usual, `2026-11-22T10:31:41.500Z`, with or without the fraction and
/// the `Z`, at a fifth of the cost of all forms.
fn usual_timestamp(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let bytes = bytes.strip_suffix(b"Z").unwrap_or(bytes);
    let (head, fraction) = bytes.split_first_chunk::<19>()?;
    let number = |at: usize, digits: usize| {
        head[at..at + digits].iter().try_fold(0, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + u32::from(digit - b'0'))
        })
    };
    let millis = match fraction {
        [] => 0,
        [b'.', hundreds, tens, ones] if fraction[1..].iter().all(u8::is_ascii_digit) => {
            [hundreds, tens, ones]
                .iter()
                .fold(0, |number, digit| number * 10 + i64::from(**digit - b'0'))
        }
        _ => return None,
    };
    if [head[4], head[7], head[13], head[16]] != *b"--::" || !matches!(head[10], b'T' | b' ') {
        return None;
    }
    let date = Date::from_calendar(number(0, 4)? as i32, number(5, 2)?, number(8, 2)?)?;
    let (hours, minutes, seconds) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = i64::from((hours * 60 + minutes) * 60 + seconds);
    Some((i64::from(date.days()) * 86_400 + seconds) * 1000 + millis)
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn decode_bytes(text: &str, format: BytesText) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    match format {
        BytesText::Hex => {
            let (pairs, rest) = text.as_chunks::<2>();
            let digit = |byte: u8| (byte as char).to_digit(16);
            let bytes = pairs
                .iter()
                .map(|[high, low]| Some(((digit(*high)? << 4) | digit(*low)?) as u8));
            rest.is_empty().then(|| bytes.collect())?
        }
        BytesText::Base64 => {
            let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
            let digits = &text[..text.len() - padding];
            if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) || digits.len() % 4 == 1 {
                return None;
            }
            let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
            let (mut bits, mut count) = (0u32, 0);
            for digit in digits {
                let value = match digit {
                    b'A'..=b'Z' => digit - b'A',
                    b'a'..=b'z' => digit - b'a' + 26,
                    b'0'..=b'9' => digit - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    _ => return None,
                };
                bits = (bits << 6) | u32::from(value);
                count += 6;
                if count >= 8 {
                    count -= 8;
                    bytes.push((bits >> count) as u8);
                    bits &= (1 << count) - 1;
                }
            }
            (bits == 0).then_some(bytes)
        }
    }
}

fn encode_bytes(bytes: &[u8], format: BytesText, out: &mut Vec<u8>) {
    match format {
        BytesText::Hex => {
            let digit = |value: u8| b"0123456789abcdef"[value as usize];
            out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
        }
        BytesText::Base64 => {
            for chunk in bytes.chunks(3) {
                let mut three = [0; 3];
                three[..chunk.len()].copy_from_slice(chunk);
                let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
                let digit = |index: u32| BASE64[((bits >> (18 - 6 * index)) & 63) as usize];
                for index in 0..4 {
                    out.push(if index as usize <= chunk.len() {
                        digit(index)
                    } else {
                        b'='
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Inner = (i8, Option<String>);
    type Wide = (
        Option<u128>,
        i128,
        (Inner, f32),
        String,
        Vec<u8>,
        Option<bool>,
        Decimal,
        Timestamp,
    );

    fn wide(text: &str) -> Wide {
        (
            Some(u128::MAX),
            i128::MIN,
            ((-128, None), 0.1),
            text.into(),
            vec![0, 255, 3],
            Some(false),
            "-1.50".parse().expect("a decimal"),
            Timestamp::from_millis(-1),
        )
    }

    #[test]
    fn rows_become_text_and_text_rows() {
        let columns = text_columns(Wide::schema()).expect("all are columns");
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(
            names,
            ["0", "1", "2.0.0", "2.0.1", "2.1", "3", "4", "5", "6", "7"]
        );
        for format in [BytesText::Hex, BytesText::Base64] {
            let mut builder = RowBuilder::of::<Wide>();
            // A short text after a long one: nothing of the row before is left.
            for text in ["", "a text longer than a word 🌊", "b"] {
                let record = wide(text);
                let mut row = vec![0; Wide::row_size(record.view())];
                Wide::write_row(record.view(), &mut row);
                builder.start();
                for column in &columns {
                    let mut out = Vec::new();
                    if column.append(&row, format, &mut out) {
                        let out = String::from_utf8(out).expect("text");
                        assert!(column.parse(&out, format, &mut builder), "{}: {out}", column.name);
                    } else {
                        column.set_null(&mut builder);
                    }
                }
                assert_eq!(builder.view::<Wide>(), record.view());
            }
        }
    }

    #[test]
    fn values_are_parsed_whole_or_not_at_all() {
        type All = (bool, u8, i64, f64, Timestamp, Date, Decimal, Vec<u8>);
        let columns = text_columns(All::schema()).expect("all are columns");
        let mut builder = RowBuilder::of::<All>();
        let bad = [
            "yes",
            "256",
            "12x",
            "1,5",
            "1970-13-01T00:00:00Z",
            "1970-02-30",
            "1e3",
            "0g",
        ];
        for (column, text) in columns.iter().zip(bad) {
            assert!(!column.parse(text, BytesText::Hex, &mut builder), "{text}");
            assert!(
                !column.parse("x", BytesText::Hex, &mut builder),
                "{}",
                column.name
            );
        }
        builder.start();
        let good = ["TRUE", "255", "-12", "-inf", "1500", "1970-01-02", "1.00", "00Ff"];
        for (column, text) in columns.iter().zip(good) {
            assert!(column.parse(text, BytesText::Hex, &mut builder), "{text}");
        }
        assert_eq!(
            builder.view::<All>(),
            (
                true,
                255,
                -12,
                f64::NEG_INFINITY,
                Timestamp::from_millis(1500),
                Date::from_days(1),
                Decimal::new(1, 0),
                &[0, 255][..]
            )
        );
    }

    #[test]
    fn the_usual_timestamps_are_those_of_the_full_parser() {
        let mut usual = 0;
        for text in [
            "2026-11-22T10:31:41.500Z",
            "2026-11-22 10:31:41.5",
            "0000-02-29T00:00:00",
            "9999-12-31T23:59:59.999",
            "1969-12-31T23:59:59.001Z",
            "2026-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:60:00Z",
            "2026-11-22T10:00:60Z",
            "2026-11-22T10:31:41.50xZ",
            "2026-11-22T10:31:41+01:00",
            "2026-11-22T10:31:4Z",
            "2026/11/22T10:31:41Z",
            "+026-11-22T10:31:41Z",
            "2026-11-22T10:31:41.500é",
            "",
        ] {
            let full = text.parse::<Timestamp>().ok().map(Timestamp::millis);
            if let Some(millis) = usual_timestamp(text) {
                assert_eq!(Some(millis), full, "{text}");
                usual += 1;
            }
        }
        assert_eq!(usual, 4);
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            let mut out = Vec::new();
            encode_bytes(bytes.as_bytes(), BytesText::Base64, &mut out);
            assert_eq!(out, text.as_bytes());
            let read = |text: &str| decode_bytes(text, BytesText::Base64);
            assert_eq!(read(text).as_deref(), Some(bytes.as_bytes()));
            assert_eq!(
                read(text.trim_end_matches('=')).as_deref(),
                Some(bytes.as_bytes())
            );
        }
        for text in ["Z", "Zg=", "Zh==", "Z===", "====", "Zm8$", "=Zm8"] {
            assert_eq!(decode_bytes(text, BytesText::Base64), None, "{text}");
        }
    }

    #[test]
    fn fields_that_are_no_columns_are_named() {
        let error = text_columns(<(u8, (u8, [u16; 2]))>::schema()).expect_err("an array is no column");
        assert_eq!(
            error.to_string(),
            "field \"1.1\" of (u8, (u8, [u16; 2])) is of type [u16; 2], which is no column of text; a column is a \
             number, bool, timestamp, date, decimal, string or bytes, or an Option of one"
        );
    }
}
