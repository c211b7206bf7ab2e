//! The data that all engines are given: binary files whose records are functions of their number, and Parquet files with the
//! same rows.
//!
//! # Layout
//! Little-endian. Keyed and pairs: k (u64), v (64 bits). Wide pairs: k, v, p (88 characters). Numbers: k (u64). Records: the
//! Sort Benchmark's ASCII records.
//!
//! # Algorithm
//! Keyed: the harness's. Build: k = (i · 7919 mod n) · 2, v = mix(i) & 0xffffff; probe: k = mix(i + 77) mod 2 n, or a rank of a
//! Zipf distribution over 2 n, v = mix(i + 99) & 0xffffff: half of the uniform ones have a partner.

use forebay_bench::data::{GensortForm, KeyedData, Zipf, gensort_record, mix};
use forebay_memory::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Characters of the text in a wide pair.
const TEXT: usize = 88;

/// One file of data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dataset {
    /// Keys to group by, uniform where the exponent is 0.
    Keyed {
        /// How many records.
        records: u64,
        /// How many keys.
        keys: u64,
        /// The Zipf exponent.
        skew: f64,
    },
    /// The smaller side of a join: each key once.
    Build {
        /// How many records, which is how many keys.
        records: u64,
        /// Whether each has a text.
        wide: bool,
    },
    /// The larger side of a join.
    Probe {
        /// How many records.
        records: u64,
        /// How many records the build side has.
        build: u64,
        /// The Zipf exponent.
        skew: f64,
        /// Whether each has a text.
        wide: bool,
    },
    /// Numbers to sort.
    Numbers {
        /// How many.
        records: u64,
    },
    /// Records to sort.
    Records {
        /// How many.
        records: u64,
    },
}

impl Dataset {
    /// How many records there are.
    pub fn records(&self) -> u64 {
        match *self {
            Dataset::Keyed { records, .. }
            | Dataset::Build { records, .. }
            | Dataset::Probe { records, .. }
            | Dataset::Numbers { records }
            | Dataset::Records { records } => records,
        }
    }

    /// Bytes of a record in the binary file.
    pub fn width(&self) -> u64 {
        match self {
            Dataset::Numbers { .. } => 8,
            Dataset::Records { .. } => 100,
            Dataset::Build { wide: true, .. } | Dataset::Probe { wide: true, .. } => 16 + TEXT as u64,
            _ => 16,
        }
    }

    /// Names and types of the columns, for the script that writes Parquet: JSON.
    pub fn columns(&self) -> &'static str {
        match self {
            Dataset::Numbers { .. } => r#"[["k", "<u8"]]"#,
            Dataset::Records { .. } => r#"[["k", "S10"], ["p", "S88"], ["", "S2"]]"#,
            Dataset::Build { wide: true, .. } | Dataset::Probe { wide: true, .. } => {
                r#"[["k", "<u8"], ["v", "<i8"], ["p", "S88"]]"#
            }
            _ => r#"[["k", "<u8"], ["v", "<i8"]]"#,
        }
    }

    /// The file's name without an ending: different data have different names.
    pub fn name(&self) -> String {
        let wide = |wide: bool| if wide { "-wide" } else { "" };
        match *self {
            Dataset::Keyed { records, keys, skew } => format!("keyed-{records}-{keys}-{skew}"),
            Dataset::Build { records, wide: text } => format!("build-{records}{}", wide(text)),
            Dataset::Probe {
                records,
                build,
                skew,
                wide: text,
            } => format!("probe-{records}-{build}-{skew}{}", wide(text)),
            Dataset::Numbers { records } => format!("numbers-{records}"),
            Dataset::Records { records } => format!("records-{records}"),
        }
    }

    /// The binary file.
    pub fn binary(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.bin", self.name()))
    }

    /// The Parquet file.
    pub fn parquet(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.parquet", self.name()))
    }

    /// Writes the binary file where it is not there yet.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_binary(&self, directory: &Path) -> Result<()> {
        let path = self.binary(directory);
        if path.exists() {
            return Ok(());
        }
        let temporary = path.with_extension("tmp");
        File::create(&temporary)
            .and_then(|file| {
                let mut out = BufWriter::with_capacity(1 << 20, file);
                self.write(&mut out)?;
                out.flush()
            })
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        match *self {
            Dataset::Keyed { records, keys, skew } => {
                KeyedData::new(keys, skew, 0).write(records, out)?;
            }
            Dataset::Build { records, wide } => {
                for index in 0..records {
                    let key = (index * 7919 % records) * 2;
                    write_pair(out, key, mix(index) & 0xff_ffff, wide.then_some(index))?;
                }
            }
            Dataset::Probe {
                records,
                build,
                skew,
                wide,
            } => {
                let zipf = Zipf::new(2 * build, skew);
                for index in 0..records {
                    let random = mix(index + 77);
                    let key = if skew == 0.0 {
                        random % (2 * build)
                    } else {
                        zipf.sample(mix(random))
                    };
                    write_pair(out, key, mix(index + 99) & 0xff_ffff, wide.then_some(index + 55))?;
                }
            }
            Dataset::Numbers { records } => {
                for index in 0..records {
                    out.write_all(&mix(index).to_le_bytes())?;
                }
            }
            Dataset::Records { records } => {
                for index in 0..records {
                    out.write_all(&gensort_record(GensortForm::Ascii, 0, index))?;
                }
            }
        }
        Ok(())
    }
}

fn write_pair(out: &mut impl Write, key: u64, value: u64, text: Option<u64>) -> std::io::Result<()> {
    out.write_all(&key.to_le_bytes())?;
    out.write_all(&value.to_le_bytes())?;
    if let Some(index) = text {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut characters = [0; TEXT];
        for (part, sixteen) in characters.chunks_mut(16).enumerate() {
            let random = mix(mix(index) ^ part as u64);
            for (place, character) in sixteen.iter_mut().enumerate() {
                *character = HEX[(random >> (4 * place)) as usize & 15];
            }
        }
        out.write_all(&characters)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(dataset: Dataset) -> Vec<u8> {
        let mut bytes = Vec::new();
        dataset.write(&mut bytes).expect("a vector takes everything");
        assert_eq!(bytes.len() as u64, dataset.records() * dataset.width());
        bytes
    }

    #[test]
    fn every_kind_has_the_size_that_it_says_and_columns_of_that_width() {
        let (records, build) = (100, 10);
        for wide in [false, true] {
            bytes_of(Dataset::Build { records, wide });
            for skew in [0.0, 1.0] {
                bytes_of(Dataset::Probe {
                    records,
                    build,
                    skew,
                    wide,
                });
            }
        }
        for dataset in [
            Dataset::Keyed {
                records,
                keys: 7,
                skew: 1.0,
            },
            Dataset::Numbers { records },
            Dataset::Records { records },
            Dataset::Build { records, wide: true },
        ] {
            bytes_of(dataset);
            let columns: Vec<(String, String)> = serde_json::from_str(dataset.columns()).expect("JSON");
            let width = |(_, kind): &(String, String)| match kind.strip_prefix('S') {
                Some(digits) => digits.parse().expect("a width"),
                None => 8,
            };
            assert_eq!(
                columns.iter().map(width).sum::<u64>(),
                dataset.width(),
                "{dataset:?}"
            );
        }
    }

    #[test]
    fn a_build_side_has_each_key_once() {
        let bytes = bytes_of(Dataset::Build {
            records: 1000,
            wide: false,
        });
        let mut keys: Vec<u64> = bytes
            .chunks_exact(16)
            .map(|pair| u64::from_le_bytes(pair[..8].try_into().expect("8 bytes")))
            .collect();
        keys.sort_unstable();
        assert!(keys.iter().zip(0..).all(|(key, index)| *key == 2 * index));
    }
}
