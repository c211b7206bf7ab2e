//! The Sort Benchmark's records: 100 bytes with a random key in the first ten, equal to those of its program `gensort`.
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
//!
//! # Algorithm
//! Random numbers of 128 bits: r(0) = C, r(i) = A · r(i − 1) + C. That is an affine map, and 2^k of them one after the other are another,
//! so that any index is reached in at most 128 steps. Seed 0 is the sequence of `gensort`; other seeds start far away in it.

use forebay::record::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a record.
pub const GENSORT_RECORD: usize = 100;

/// One record of either form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
pub struct GensortRow {
    /// What records are sorted by.
    pub key: [u8; 10],
    /// Everything else.
    pub payload: [u8; 90],
}

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GensortForm {
    /// Printable, one record a line.
    Ascii,
    /// Keys of any byte.
    Binary,
}

const A: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
const C: u128 = 0x4a69_6d47_7261_7952_4950_2020_2020_2001;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The random number `steps` after 0.
fn random_after(steps: u128) -> u128 {
    // The map for 2^k steps, and the composition of those that are in `steps`, applied to 0.
    let (mut multiplier, mut increment, mut random) = (A, C, 0u128);
    for bit in 0..u128::BITS - steps.leading_zeros() {
        if steps & (1 << bit) != 0 {
            random = random.wrapping_mul(multiplier).wrapping_add(increment);
        }
        increment = increment.wrapping_mul(multiplier).wrapping_add(increment);
        multiplier = multiplier.wrapping_mul(multiplier);
    }
    random
}

/// Makes `rows` the records with numbers from `first` on of the sequence of `seed`.
pub fn fill_gensort(form: GensortForm, seed: u64, first: u64, rows: &mut [GensortRow]) {
    let start = (u128::from(seed) << 64) + u128::from(first);
    let mut random = random_after(start + 1);
    for (index, row) in (first..).zip(rows) {
        let bytes: &mut [u8; GENSORT_RECORD] = zerocopy::transmute_mut!(row);
        write_record(form, random, index, bytes);
        random = random.wrapping_mul(A).wrapping_add(C);
    }
}

/// The record with number `index` of the sequence of `seed`, by itself.
pub fn gensort_record(form: GensortForm, seed: u64, index: u64) -> [u8; GENSORT_RECORD] {
    let mut record = [0; GENSORT_RECORD];
    let start = (u128::from(seed) << 64) + u128::from(index);
    write_record(form, random_after(start + 1), index, &mut record);
    record
}

#[inline]
fn write_record(form: GensortForm, random: u128, index: u64, record: &mut [u8; GENSORT_RECORD]) {
    let (high, low) = ((random >> 64) as u64, random as u64);
    // Record numbers have 128 bits in the format; ours stay in the lower 64.
    record[12..28].fill(b'0');
    for (place, digit) in record[28..44].iter_mut().rev().enumerate() {
        *digit = HEX[(index >> (4 * place)) as usize & 15];
    }
    match form {
        GensortForm::Ascii => {
            let (mut first, mut second) = (high, low);
            for byte in &mut record[..8] {
                *byte = b' ' + (first % 95) as u8;
                first /= 95;
            }
            for byte in &mut record[8..10] {
                *byte = b' ' + (second % 95) as u8;
                second /= 95;
            }
            record[10..12].fill(b' ');
            record[44..46].fill(b' ');
            fill_digits(&mut record[46..98], low);
            record[98..].copy_from_slice(b"\r\n");
        }
        GensortForm::Binary => {
            record[..8].copy_from_slice(&high.to_be_bytes());
            record[8..10].copy_from_slice(&low.to_be_bytes()[..2]);
            record[10..12].copy_from_slice(&[0x00, 0x11]);
            record[44..48].copy_from_slice(&[0x88, 0x99, 0xaa, 0xbb]);
            fill_digits(&mut record[48..96], low);
            record[96..].copy_from_slice(&[0xcc, 0xdd, 0xee, 0xff]);
        }
    }
}

/// Each hex digit of the last of `random` four times.
fn fill_digits(filler: &mut [u8], random: u64) {
    for (place, four) in filler.rchunks_exact_mut(4).enumerate() {
        four.fill(HEX[(random >> (4 * place)) as usize & 15]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(form: GensortForm, seed: u64, first: u64, count: usize) -> Vec<GensortRow> {
        let mut rows = vec![
            GensortRow {
                key: [0; 10],
                payload: [0; 90]
            };
            count
        ];
        fill_gensort(form, seed, first, &mut rows);
        rows
    }

    /// The first record that `gensort -a` writes, as its documentation shows it.
    #[test]
    fn the_first_ascii_record_is_that_of_gensort() {
        let record = records(GensortForm::Ascii, 0, 0, 1);
        let text = std::str::from_utf8(record.as_bytes()).expect("printable characters");
        assert_eq!(
            text,
            "AsfAGHM5om  00000000000000000000000000000000  0000222200002222000022220000222200002222000000001111\r\n"
        );
    }

    #[test]
    fn ascii_records_are_printable_lines() {
        for (index, record) in records(GensortForm::Ascii, 7, 5, 100).iter().enumerate() {
            let record = record.as_bytes();
            assert!(record[..98].iter().all(|byte| (b' '..=b'~').contains(byte)));
            assert_eq!(&record[98..], b"\r\n");
            let number = std::str::from_utf8(&record[12..44]).expect("hex digits");
            assert_eq!(u128::from_str_radix(number, 16), Ok(5 + index as u128));
        }
    }

    #[test]
    fn binary_records_have_their_marks() {
        let record = records(GensortForm::Binary, 0, 0xabc, 1)[0];
        let bytes = record.as_bytes();
        assert_eq!(bytes[10..12], [0x00, 0x11]);
        assert_eq!(&bytes[12..44], b"00000000000000000000000000000ABC");
        assert_eq!(bytes[44..48], [0x88, 0x99, 0xaa, 0xbb]);
        assert_eq!(bytes[96..], [0xcc, 0xdd, 0xee, 0xff]);
        assert_ne!(
            record.key,
            records(GensortForm::Binary, 1, 0xabc, 1)[0].key,
            "the seed matters"
        );
    }

    #[test]
    fn any_part_can_be_made_by_itself() {
        for form in [GensortForm::Ascii, GensortForm::Binary] {
            let all = records(form, 3, 0, 300);
            for first in [0, 1, 2, 127, 128, 299] {
                assert_eq!(
                    records(form, 3, first, 300 - first as usize),
                    all[first as usize..]
                );
            }
        }
    }
}
