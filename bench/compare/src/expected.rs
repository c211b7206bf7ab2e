//! What the right answer is: computed plainly from the binary files, by nobody's engine.

use crate::dataset::Dataset;
use crate::point::{Point, Question};
use forebay_memory::{Error, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Bytes of a record to sort, of its key, and words of its fingerprint.
const RECORD: usize = 100;
const KEY: usize = 10;
const WORDS: usize = 13;

/// Result rows and sums over them, modulo 2^64.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// How many rows.
    pub rows: u64,
    /// What each workload's query sums.
    pub sums: Vec<u64>,
}

/// The answer to a point's question.
///
/// # Errors
/// Where a file cannot be read.
pub fn answer(point: &Point, directory: &Path) -> Result<Answer> {
    let first = &point.data[0];
    let mut rows = 0;
    let mut sums;
    match point.question {
        Question::Aggregate | Question::Distinct => {
            let Dataset::Keyed { records, keys, .. } = *first else {
                unreachable!("groups are made of keyed records")
            };
            let mut seen = vec![false; keys as usize];
            let (mut values, mut distinct) = (0u64, 0u64);
            each(first, directory, |record| {
                let key = word(record, 0);
                values = values.wrapping_add(word(record, 1));
                if !std::mem::replace(&mut seen[key as usize], true) {
                    rows += 1;
                    distinct = distinct.wrapping_add(key);
                }
            })?;
            sums = match point.question {
                Question::Aggregate => vec![records, values],
                _ => vec![distinct],
            };
        }
        Question::Join | Question::JoinWide => {
            let mut build = vec![None; 2 * first.records() as usize];
            each(first, directory, |record| {
                build[word(record, 0) as usize] = Some((word(record, 1), text_start(record)));
            })?;
            sums = vec![0; 2];
            let mut most = [0; 2];
            each(&point.data[1], directory, |record| {
                if let Some((value, text)) = build[word(record, 0) as usize] {
                    rows += 1;
                    sums[0] += value;
                    sums[1] += word(record, 1);
                    most = [most[0].max(text), most[1].max(text_start(record))];
                }
            })?;
            if point.question == Question::JoinWide {
                sums.extend(most);
            }
        }
        Question::SortNumbers => {
            let mut total = 0u64;
            each(first, directory, |record| {
                rows += 1;
                total = total.wrapping_add(word(record, 0));
            })?;
            sums = vec![total];
        }
        Question::SortRecords => {
            let sorted = examine(&first.binary(directory))?;
            rows = sorted.rows;
            sums = vec![sorted.fingerprint];
        }
    }
    Ok(Answer { rows, sums })
}

/// What is found in a file of records.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SortedFile {
    /// How many.
    pub rows: u64,
    /// Whether no key is less than the one before it.
    pub ordered: bool,
    /// The sum of all records' fingerprints, which does not depend on their order.
    pub fingerprint: u64,
}

/// Reads a file of records.
///
/// # Errors
/// Where it cannot be read or does not hold whole records.
pub fn examine(path: &Path) -> Result<SortedFile> {
    let mut found = SortedFile {
        rows: 0,
        ordered: true,
        fingerprint: 0,
    };
    let mut last = [0; KEY];
    each_of_width(path, RECORD, |record| {
        found.rows += 1;
        found.ordered &= last[..] <= record[..KEY];
        last.copy_from_slice(&record[..KEY]);
        found.fingerprint = found.fingerprint.wrapping_add(fingerprint(record));
    })?;
    Ok(found)
}

/// As in check_sorted.py.
fn fingerprint(record: &[u8]) -> u64 {
    let mut padded = [0; 8 * WORDS];
    padded[..RECORD].copy_from_slice(record);
    let mut mixed = 0u64;
    for place in 0..WORDS {
        let multiplier = (2 * place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = mixed.wrapping_add(word(&padded, place).wrapping_mul(multiplier));
    }
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

fn word(record: &[u8], place: usize) -> u64 {
    let bytes = &record[8 * place..8 * place + 8];
    u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
}

/// The first eight characters of a wide pair's text, in the order of texts; 0 where there is none.
fn text_start(record: &[u8]) -> u64 {
    record
        .get(16..24)
        .map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("8 bytes")))
}

fn each(dataset: &Dataset, directory: &Path, each: impl FnMut(&[u8])) -> Result<()> {
    each_of_width(&dataset.binary(directory), dataset.width() as usize, each)
}

fn each_of_width(path: &Path, width: usize, mut each: impl FnMut(&[u8])) -> Result<()> {
    let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let bytes = file.get_ref().metadata().map_err(failed)?.len();
    if !bytes.is_multiple_of(width as u64) {
        return Err(Error::corrupt(format!(
            "{}: {bytes} B is no whole number of {width}-byte records",
            path.display()
        )));
    }
    let mut record = vec![0; width];
    for _ in 0..bytes / width as u64 {
        file.read_exact(&mut record).map_err(failed)?;
        each(&record);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point;
    use std::collections::HashMap;

    /// The published join of 10 M and 50 M, a thousandth of it, against a computation by map.
    #[test]
    fn answers_are_those_of_a_map() {
        let directory = std::env::temp_dir().join(format!("forebay-compare-test-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        for point in point::all(0.001) {
            for dataset in &point.data {
                dataset.write_binary(&directory).expect("writable");
            }
            let answer = answer(&point, &directory).expect("readable");
            let mut rows: HashMap<u64, u64> = HashMap::new();
            let mut count = 0;
            each(&point.data[0], &directory, |record| {
                *rows.entry(word(record, 0)).or_default() += word(record, 1 % (record.len() / 8));
                count += 1;
            })
            .expect("readable");
            match point.question {
                Question::Aggregate => {
                    assert_eq!(answer.rows, rows.len() as u64);
                    assert_eq!(answer.sums, [count, rows.values().sum()]);
                }
                Question::Distinct => assert_eq!(answer.sums, [rows.keys().sum::<u64>()]),
                Question::Join | Question::JoinWide => {
                    let (mut pairs, mut build) = (0, 0);
                    each(&point.data[1], &directory, |record| {
                        if let Some(value) = rows.get(&word(record, 0)) {
                            pairs += 1;
                            build += value;
                        }
                    })
                    .expect("readable");
                    assert_eq!((answer.rows, answer.sums[0]), (pairs, build), "{point:?}");
                    assert!(pairs > 0, "{point:?}");
                }
                Question::SortNumbers | Question::SortRecords => assert_eq!(answer.rows, count),
            }
        }
        std::fs::remove_dir_all(&directory).expect("removable");
    }

    #[test]
    fn disorder_and_changed_records_are_found() {
        let path = std::env::temp_dir().join(format!("forebay-compare-sorted-{}", std::process::id()));
        let mut records: Vec<[u8; RECORD]> = (0..50u8).map(|n| [n + 33; RECORD]).collect();
        let examine_records = |records: &[[u8; RECORD]]| {
            std::fs::write(&path, records.concat()).expect("writable");
            examine(&path).expect("whole records")
        };
        let sorted = examine_records(&records);
        assert!(sorted.ordered && sorted.rows == 50);
        records.swap(7, 30);
        let swapped = examine_records(&records);
        assert!(!swapped.ordered);
        assert_eq!(swapped.fingerprint, sorted.fingerprint);
        // A payload that has gone to another key.
        let (a, b) = (records[1][50], records[2][50]);
        (records[1][50], records[2][50]) = (b, a);
        assert_ne!(examine_records(&records).fingerprint, sorted.fingerprint);
        std::fs::write(&path, [0; 101]).expect("writable");
        assert!(examine(&path).is_err());
        std::fs::remove_file(&path).expect("removable");
    }
}
