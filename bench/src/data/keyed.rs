//! Keyed records: a `u64` key and an `i64` value, uniform by formula or Zipf-distributed.
//!
//! # Layout
//! In a file, 16 bytes each: key and value, little-endian. The same bytes are the record's row.
//!
//! # Algorithm
//! Record i of the uniform data has key mix(i) mod keys and value (mix(i) >> 40) & 1023; the values of the first
//! 50 M add up to 25572907284. Skewed keys are ranks of a Zipf distribution, 0 the most frequent; values the same.
//! A share of the records may be given to key 0.

use super::mix::{Modulus, mix, start_of, unit};
use super::zipf::Zipf;
use forebay::record::Record;
use std::io::{self, Write};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a record in a file.
pub const KEYED_RECORD: usize = 16;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
pub struct Keyed {
    /// What records are grouped by.
    pub key: u64,
    /// What is summed.
    pub value: i64,
}

/// A sequence of records.
#[derive(Debug, Clone, Copy)]
pub struct KeyedData {
    keys: Keys,
    start: u64,
    hot: f64,
}

#[derive(Debug, Clone, Copy)]
enum Keys {
    Uniform(Modulus),
    Skewed(Zipf),
    Distinct,
}

impl KeyedData {
    /// Records with keys in `[0, keys)`: uniform where `skew` is 0, Zipf with that exponent otherwise.
    pub fn new(keys: u64, skew: f64, seed: u64) -> Self {
        let keys = match skew {
            0.0 => Keys::Uniform(Modulus::new(keys)),
            _ => Keys::Skewed(Zipf::new(keys, skew)),
        };
        KeyedData {
            keys,
            start: start_of(seed),
            hot: 0.0,
        }
    }

    /// The same records, of which a share has key 0 instead of its own.
    pub fn with_hot(self, hot: f64) -> Self {
        KeyedData { hot, ..self }
    }

    /// Records whose keys are all different: mix is a bijection.
    pub fn distinct(seed: u64) -> Self {
        KeyedData {
            keys: Keys::Distinct,
            start: start_of(seed),
            hot: 0.0,
        }
    }

    /// The record with number `index`.
    #[inline(always)]
    pub fn at(&self, index: u64) -> Keyed {
        let random = mix(self.start.wrapping_add(index));
        let key = match &self.keys {
            _ if self.hot > 0.0 && unit(mix(!random)) < self.hot => 0,
            Keys::Uniform(modulus) => modulus.of(random),
            Keys::Skewed(zipf) => zipf.sample(mix(random)),
            Keys::Distinct => random,
        };
        Keyed {
            key,
            value: ((random >> 40) & 1023) as i64,
        }
    }

    /// Writes the first `records` records; answers their bytes.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub fn write(&self, records: u64, out: &mut impl Write) -> io::Result<u64> {
        const BATCH: u64 = 4096;
        let mut buffer = Vec::with_capacity(BATCH as usize * KEYED_RECORD);
        let mut index = 0;
        while index < records {
            let end = records.min(index + BATCH);
            buffer.clear();
            for record in (index..end).map(|index| self.at(index)) {
                buffer.extend_from_slice(&record.key.to_le_bytes());
                buffer.extend_from_slice(&record.value.to_le_bytes());
            }
            out.write_all(&buffer)?;
            index = end;
        }
        Ok(records * KEYED_RECORD as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prefix of the data whose first 50 M values add up to 25572907284, which `run keyed-sum` checks.
    #[test]
    fn values_are_the_published_ones() {
        let data = KeyedData::new(1_000_000, 0.0, 0);
        let first = data.at(0);
        assert_eq!(
            first,
            Keyed {
                key: 0xe220_a839_7b1d_cdaf % 1_000_000,
                value: (0xe220_a839_7b1d_cdaf_u64 >> 40) as i64 & 1023
            }
        );
        let sum: i64 = (0..1_000_000).map(|index| data.at(index).value).sum();
        assert_eq!(sum, 511_275_576);
    }

    #[test]
    fn files_hold_the_records() {
        let data = KeyedData::new(100, 1.0, 3);
        let mut file = Vec::new();
        assert_eq!(
            data.write(5_000, &mut file).expect("a vector takes everything"),
            80_000
        );
        for (index, bytes) in file.as_chunks::<KEYED_RECORD>().0.iter().enumerate() {
            let record = data.at(index as u64);
            assert!(record.key < 100);
            assert_eq!(bytes[..8], record.key.to_le_bytes());
            assert_eq!(bytes[8..], record.value.to_le_bytes());
        }
    }

    #[test]
    fn distinct_keys_differ() {
        let data = KeyedData::distinct(0);
        let mut keys: Vec<u64> = (0..10_000).map(|index| data.at(index).key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 10_000);
    }
}
