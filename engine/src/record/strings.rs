//! How `String` and bytes (`Vec<u8>`) lie in rows and keys.
//!
//! # Layout
//! Twelve bytes in the fixed part: offset from the row's start (u32), length (u32), the first four bytes or
//! as many as there are, then zeros. The bytes themselves are in the variable part, unpadded.
//! In keys: the length (u32) and the bytes, the bytes alone where nothing follows.
//! In normalized keys: the bytes, each 0x00 followed by 0xFF, and 0x00 0x00 at the end.

use forebay_memory::text::checked_str;
use forebay_memory::{Error, Result};

use super::layout::MAX_ROW_SIZE;
use super::numbers::split;
use super::row::{Record, put, take};
use super::schema::DataType;

/// Bytes in a record. A name for `Vec<u8>`, which is a record; its view is `&[u8]`.
pub type Bytes = Vec<u8>;

const SIZE: usize = 12;

#[inline(always)]
fn write(bytes: &[u8], row: &mut [u8], at: usize, tail: usize) -> usize {
    let end = tail + bytes.len();
    assert!(end <= MAX_ROW_SIZE, "a row has at most 128 MiB");
    put(row, at, (tail as u32).to_le_bytes());
    put(row, at + 4, (bytes.len() as u32).to_le_bytes());
    let prefix = match bytes.first_chunk::<4>() {
        Some(prefix) => *prefix,
        None => few(bytes),
    };
    put(row, at + 8, prefix);
    copy(&mut row[tail..end], bytes);
    end
}

/// Up to three bytes, and zeros behind them.
#[inline(always)]
fn few(bytes: &[u8]) -> [u8; 4] {
    match *bytes {
        [] => [0; 4],
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c, ..] => [a, b, c, 0],
    }
}

/// Copies bytes, short ones by two stores that may overlap: a call costs more than they do.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
        let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else {
            return false;
        };
        if let Some(to) = to.first_chunk_mut::<N>() {
            *to = *first;
        }
        if let Some(to) = to.last_chunk_mut::<N>() {
            *to = *last;
        }
        true
    }
    assert_eq!(to.len(), from.len(), "bytes are copied to as many");
    match from.len() {
        17.. => to.copy_from_slice(from),
        8.. => _ = ends::<8>(to, from),
        4.. => _ = ends::<4>(to, from),
        2.. => _ = ends::<2>(to, from),
        _ => _ = ends::<1>(to, from),
    }
}

#[inline(always)]
fn read(row: &[u8], at: usize) -> &[u8] {
    let offset = u32::from_le_bytes(take(row, at)) as usize;
    let length = u32::from_le_bytes(take(row, at + 4)) as usize;
    &row[offset..offset + length]
}

fn validate(row: &[u8], at: usize) -> Result<&[u8]> {
    let offset = u32::from_le_bytes(take(row, at)) as usize;
    let length = u32::from_le_bytes(take(row, at + 4)) as usize;
    let bytes = offset
        .checked_add(length)
        .and_then(|end| row.get(offset..end))
        .ok_or_else(|| {
            Error::corrupt(format!(
                "byte {at}: {length} bytes at offset {offset} reach out of the row of {} B",
                row.len()
            ))
        })?;
    let known = length.min(4);
    let prefix = take::<4>(row, at + 8);
    if prefix[..known] != bytes[..known] || prefix[known..].iter().any(|byte| *byte != 0) {
        return Err(Error::corrupt(format!(
            "byte {at}: the prefix {prefix:02x?} is not that of its bytes"
        )));
    }
    Ok(bytes)
}

#[inline]
fn encode_key(bytes: &[u8], last: bool, out: &mut Vec<u8>) {
    if !last {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    out.extend_from_slice(bytes);
}

#[inline]
fn decode_key<'a>(bytes: &mut &'a [u8], last: bool) -> Option<&'a [u8]> {
    if last {
        return Some(std::mem::take(bytes));
    }
    let length = u32::from_le_bytes(split(bytes)?) as usize;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

#[inline]
fn encode_normalized(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(0, rest) {
        out.extend_from_slice(&rest[..=at]);
        out.push(0xff);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 0]);
}

impl Record for String {
    type View<'a> = &'a str;
    const SIZE: usize = SIZE;
    const ALIGN: usize = 4;
    const VARIES: bool = true;
    const IS_BYTES: bool = true;

    fn data_type() -> DataType {
        DataType::String
    }

    #[inline(always)]
    fn view(&self) -> &str {
        self
    }

    fn from_view(view: &str) -> Self {
        view.into()
    }

    #[inline(always)]
    fn shorten<'long: 'short, 'short>(view: &'long str) -> &'short str {
        view
    }

    #[inline(always)]
    fn tail_after(view: &str, tail: usize) -> usize {
        tail + view.len()
    }

    #[inline(always)]
    fn write_part(view: &str, row: &mut [u8], at: usize, tail: usize) -> usize {
        write(view.as_bytes(), row, at, tail)
    }

    #[inline(always)]
    fn read_part(row: &[u8], at: usize) -> &str {
        checked_str(read(row, at)).expect("a row's strings are UTF-8: they were written from &str")
    }

    fn validate_part(row: &[u8], at: usize) -> Result<()> {
        match std::str::from_utf8(validate(row, at)?) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::corrupt(format!(
                "byte {at}: a string is not UTF-8: {error}"
            ))),
        }
    }

    #[inline(always)]
    fn key_bytes<'a>(view: &'a str, _scratch: &'a mut Vec<u8>) -> &'a [u8] {
        view.as_bytes()
    }

    #[inline]
    fn encode_key(view: &str, last: bool, out: &mut Vec<u8>) {
        encode_key(view.as_bytes(), last, out);
    }

    fn decode_key(bytes: &mut &[u8], last: bool) -> Option<Self> {
        Self::decode_key_view(bytes, last).map(String::from)
    }

    #[inline]
    fn decode_key_view<'a>(bytes: &mut &'a [u8], last: bool) -> Option<&'a str> {
        checked_str(decode_key(bytes, last)?)
    }

    #[inline]
    fn encode_normalized(view: &str, out: &mut Vec<u8>) {
        encode_normalized(view.as_bytes(), out);
    }
}

impl Record for Vec<u8> {
    type View<'a> = &'a [u8];
    const SIZE: usize = SIZE;
    const ALIGN: usize = 4;
    const VARIES: bool = true;
    const IS_BYTES: bool = true;

    fn data_type() -> DataType {
        DataType::Bytes
    }

    #[inline(always)]
    fn view(&self) -> &[u8] {
        self
    }

    fn from_view(view: &[u8]) -> Self {
        view.into()
    }

    #[inline(always)]
    fn shorten<'long: 'short, 'short>(view: &'long [u8]) -> &'short [u8] {
        view
    }

    #[inline(always)]
    fn tail_after(view: &[u8], tail: usize) -> usize {
        tail + view.len()
    }

    #[inline(always)]
    fn write_part(view: &[u8], row: &mut [u8], at: usize, tail: usize) -> usize {
        write(view, row, at, tail)
    }

    #[inline(always)]
    fn read_part(row: &[u8], at: usize) -> &[u8] {
        read(row, at)
    }

    fn validate_part(row: &[u8], at: usize) -> Result<()> {
        validate(row, at).map(|_| ())
    }

    #[inline(always)]
    fn key_bytes<'a>(view: &'a [u8], _scratch: &'a mut Vec<u8>) -> &'a [u8] {
        view
    }

    #[inline]
    fn encode_key(view: &[u8], last: bool, out: &mut Vec<u8>) {
        encode_key(view, last, out);
    }

    fn decode_key(bytes: &mut &[u8], last: bool) -> Option<Self> {
        decode_key(bytes, last).map(Vec::from)
    }

    #[inline]
    fn decode_key_view<'a>(bytes: &mut &'a [u8], last: bool) -> Option<&'a [u8]> {
        decode_key(bytes, last)
    }

    #[inline]
    fn encode_normalized(view: &[u8], out: &mut Vec<u8>) {
        encode_normalized(view, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_are_copied_whole() {
        for length in 0..40usize {
            let from: Vec<u8> = (1..=length as u8).collect();
            let mut to = vec![0; length];
            copy(&mut to, &from);
            assert_eq!(to, from);
            let known = length.min(3);
            assert_eq!(few(&from[..known])[..known], from[..known]);
            assert!(few(&from[..known])[known..].iter().all(|byte| *byte == 0));
        }
    }
}
