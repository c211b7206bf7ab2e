//! The grammar of CSV (RFC 4180): where the fields of a record are in bytes.
//!
//! # Algorithm
//! A field that starts with a quote ends at the next quote that is not doubled, and only a delimiter or a line's end may
//! follow; delimiters and line ends inside it are its text. Any other field ends at the next delimiter or line end; a quote in it
//! is its text. Lines end in `\n` or `\r\n`.

use memchr::{memchr, memchr2};
use std::borrow::Cow;

/// The characters that have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    pub(crate) quote: u8,
}

impl Default for Dialect {
    fn default() -> Self {
        Dialect {
            delimiter: b',',
            quote: b'"',
        }
    }
}

/// Where a field's text is, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    start: usize,
    end: usize,
    /// Whether the field is in quotes: then it is never null.
    pub(super) is_quoted: bool,
    has_doubled_quotes: bool,
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A quoted field does not end.
    Unclosed,
    /// Something other than a delimiter or line end follows a closing quote.
    AfterQuote,
}

impl Dialect {
    /// Finds the fields of the record at the start of `bytes`: how many bytes it has with its line end, or nothing where
    /// more must be read to know. `is_whole` says that nothing follows `bytes`.
    #[inline]
    pub(super) fn parse(
        self,
        bytes: &[u8],
        is_whole: bool,
        fields: &mut Vec<Field>,
    ) -> Result<Option<usize>, Malformed> {
        fields.clear();
        let mut start = 0;
        loop {
            let (field, end) = if bytes.get(start) == Some(&self.quote) {
                match self.quoted(bytes, start, is_whole)? {
                    Some(found) => found,
                    None => return Ok(None),
                }
            } else {
                let end = match memchr2(self.delimiter, b'\n', &bytes[start..]) {
                    Some(length) => start + length,
                    None if is_whole => bytes.len(),
                    None => return Ok(None),
                };
                let mut text_end = end;
                if bytes.get(end) == Some(&b'\n') && end > start && bytes[end - 1] == b'\r' {
                    text_end -= 1;
                }
                let field = Field {
                    start,
                    end: text_end,
                    is_quoted: false,
                    has_doubled_quotes: false,
                };
                (field, end)
            };
            fields.push(field);
            match bytes.get(end) {
                Some(byte) if *byte == self.delimiter => start = end + 1,
                Some(_) => return Ok(Some(end + 1)),
                None => return Ok(Some(end)),
            }
        }
    }

    /// The quoted field at `start`, and where what follows it is: a delimiter, `\n` or the end.
    fn quoted(self, bytes: &[u8], start: usize, is_whole: bool) -> Result<Option<(Field, usize)>, Malformed> {
        let mut field = Field {
            start: start + 1,
            end: start + 1,
            is_quoted: true,
            has_doubled_quotes: false,
        };
        loop {
            let Some(length) = memchr(self.quote, &bytes[field.end..]) else {
                return if is_whole {
                    Err(Malformed::Unclosed)
                } else {
                    Ok(None)
                };
            };
            field.end += length;
            let after = field.end + 1;
            match bytes.get(after) {
                Some(byte) if *byte == self.quote => {
                    field.has_doubled_quotes = true;
                    field.end += 2;
                }
                Some(byte) if *byte == self.delimiter || *byte == b'\n' => return Ok(Some((field, after))),
                Some(b'\r') => match bytes.get(after + 1) {
                    Some(b'\n') => return Ok(Some((field, after + 1))),
                    None if !is_whole => return Ok(None),
                    _ => return Err(Malformed::AfterQuote),
                },
                Some(_) => return Err(Malformed::AfterQuote),
                None if is_whole => return Ok(Some((field, after))),
                None => return Ok(None),
            }
        }
    }

    /// The field's text in the record that it was found in.
    #[inline]
    pub(super) fn text(self, field: Field, record: &str) -> Cow<'_, str> {
        let text = &record[field.start..field.end];
        if field.has_doubled_quotes {
            let quote = self.quote as char;
            return text
                .replace(&String::from_iter([quote, quote]), &quote.to_string())
                .into();
        }
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(bytes: &str) -> Result<(Vec<String>, usize), Malformed> {
        let mut fields = Vec::new();
        let dialect = Dialect::default();
        let length = dialect
            .parse(bytes.as_bytes(), true, &mut fields)?
            .expect("the text is whole");
        // Whatever is cut off the end, the rest is never taken for another record.
        for cut in 0..bytes.len() {
            let mut again = Vec::new();
            if let Ok(Some(found)) = dialect.parse(&bytes.as_bytes()[..cut], false, &mut again) {
                assert_eq!((found, &again), (length, &fields), "{bytes:?} cut at {cut}");
            }
        }
        let texts = fields
            .iter()
            .map(|field| dialect.text(*field, bytes).into_owned());
        Ok((texts.collect(), length))
    }

    #[test]
    fn records_are_those_of_the_rfc() {
        for (text, fields, length) in [
            ("a,b,c\nd", &["a", "b", "c"][..], 6),
            ("a,,\r\nd", &["a", "", ""], 5),
            ("a,b", &["a", "b"], 3),
            ("\na", &[""], 1),
            ("\r\n", &[""], 2),
            ("", &[""], 0),
            ("\"a,b\",\"c\nd\"\n", &["a,b", "c\nd"], 12),
            ("\"a\"\"b\",\"\"\"\"\r\n", &["a\"b", "\""], 13),
            ("\"\",\"\"", &["", ""], 5),
            ("a\"b,5\" pipe\n", &["a\"b", "5\" pipe"], 12),
            (" \"a\n", &[" \"a"], 4),
            ("a\rb,c\r\n", &["a\rb", "c"], 7),
            ("é,日本\n", &["é", "日本"], 10),
        ] {
            let fields: Vec<String> = fields.iter().map(|field| field.to_string()).collect();
            assert_eq!(parsed(text), Ok((fields, length)), "{text:?}");
        }
    }

    #[test]
    fn malformed_quotes_are_told() {
        assert_eq!(parsed("a,\"b\nc"), Err(Malformed::Unclosed));
        assert_eq!(parsed("\"a\"\""), Err(Malformed::Unclosed));
        assert_eq!(parsed("\"a\"b,c\n"), Err(Malformed::AfterQuote));
        assert_eq!(parsed("\"a\" ,c\n"), Err(Malformed::AfterQuote));
        assert_eq!(parsed("\"a\"\rb"), Err(Malformed::AfterQuote));
        assert_eq!(parsed("\"a\"\r"), Err(Malformed::AfterQuote));
    }
}
