//! The Sort Benchmark's records: 100 bytes with a random key in the first ten.
//!
//! # Layout
//! ```text
//! bytes   ASCII form                     binary form
//!  0..10  random key, ' ' to '~'         random key
//! 10..12  two spaces                     00 11
//! 12..44  record number, 32 hex digits   record number, 32 hex digits
//! 44..    two spaces (to 46)             88 99 aa bb (to 48)
//!         13 random hex digits, each 4×  12 random hex digits, each 4×
//! ..100   CR LF (from 98)                cc dd ee ff (from 96)
//! ```
//! The random bytes are [`mix`]'s, not those of the benchmark's own generator: records are valid input of every
//! program for this format, but not the same bytes.

use super::mix::{mix, start_of};

/// Bytes of a record.
pub const GENSORT_RECORD: usize = 100;

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GensortForm {
    /// Printable, one record a line.
    Ascii,
    /// Keys of any byte.
    Binary,
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The record with number `index` of the sequence of `seed`.
pub fn gensort_record(form: GensortForm, seed: u64, index: u64) -> [u8; GENSORT_RECORD] {
    let mut record = [b' '; GENSORT_RECORD];
    let base = mix(start_of(seed).wrapping_add(index));
    let (first, second, filler) = (mix(base ^ 1), mix(base ^ 2), mix(base ^ 3));
    let mut key = [0; 10];
    match form {
        GensortForm::Binary => {
            key[..8].copy_from_slice(&first.to_be_bytes());
            key[8..].copy_from_slice(&second.to_be_bytes()[..2]);
        }
        GensortForm::Ascii => {
            // Five of 95 characters to each number: 95^5 is far below 2^64, so the bias is under 1e-9.
            for (five, mut random) in key.chunks_mut(5).zip([first, second]) {
                for byte in five {
                    *byte = b' ' + (random % 95) as u8;
                    random /= 95;
                }
            }
        }
    }
    record[..10].copy_from_slice(&key);
    // Record numbers have 128 bits in the format; ours stay in the lower 64.
    for (place, digit) in record[12..44].iter_mut().rev().enumerate() {
        let nibble = if place < 16 {
            (index >> (4 * place)) & 15
        } else {
            0
        };
        *digit = HEX[nibble as usize];
    }
    let (from, groups) = match form {
        GensortForm::Ascii => (46, 13),
        GensortForm::Binary => (48, 12),
    };
    for group in 0..groups {
        let digit = HEX[(filler >> (4 * group)) as usize & 15];
        record[from + 4 * group..from + 4 * group + 4].fill(digit);
    }
    match form {
        GensortForm::Ascii => record[98..].copy_from_slice(b"\r\n"),
        GensortForm::Binary => {
            record[10..12].copy_from_slice(&[0x00, 0x11]);
            record[44..48].copy_from_slice(&[0x88, 0x99, 0xaa, 0xbb]);
            record[96..].copy_from_slice(&[0xcc, 0xdd, 0xee, 0xff]);
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_records_are_printable_lines() {
        for index in 0..100 {
            let record = gensort_record(GensortForm::Ascii, 0, index);
            assert!(record[..98].iter().all(|byte| (b' '..=b'~').contains(byte)));
            assert_eq!(&record[98..], b"\r\n");
            assert_eq!(&record[10..12], b"  ");
            let number = std::str::from_utf8(&record[12..44]).expect("hex digits");
            assert_eq!(u128::from_str_radix(number, 16), Ok(u128::from(index)));
        }
    }

    #[test]
    fn binary_records_have_their_marks() {
        let record = gensort_record(GensortForm::Binary, 0, 0xabc);
        assert_eq!(record[10..12], [0x00, 0x11]);
        assert_eq!(&record[12..44], b"00000000000000000000000000000ABC");
        assert_eq!(record[44..48], [0x88, 0x99, 0xaa, 0xbb]);
        assert_eq!(record[96..], [0xcc, 0xdd, 0xee, 0xff]);
        assert_ne!(
            record,
            gensort_record(GensortForm::Binary, 1, 0xabc),
            "the seed matters"
        );
    }
}
