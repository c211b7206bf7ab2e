//! Checks files of sort records as the Sort Benchmark's program `valsort` does: order, number, checksum, equal keys.
//!
//! # Algorithm
//! Each thread reads a range of the file and, before it, the record in front of it. The checksum is the sum of the records'
//! CRC-32, as `valsort` prints it: what a sort must not change.
//!
//! # Memory
//! A buffer of about 1 MB for each thread.

use super::gensort::{GENSORT_RECORD, GensortRow};
use forebay_memory::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use zerocopy::{FromZeros, IntoBytes};

/// Records read at a time.
const PIECE: u64 = 10_000;

/// What a file of sort records holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GensortCheck {
    /// Its records.
    pub records: u64,
    /// The sum of the CRC-32 of all records.
    pub checksum: u128,
    /// Records with the same key as the one before.
    pub duplicates: u64,
    /// Records with a smaller key than the one before.
    pub unordered: u64,
    /// The number of the first of those.
    pub first_unordered: Option<u64>,
}

impl GensortCheck {
    /// Reads the file at `path` on `threads` threads.
    ///
    /// # Errors
    /// `Io` where it cannot be read, `Corrupt` where it does not end with a record.
    pub fn of(path: &Path, threads: usize) -> Result<GensortCheck> {
        let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let width = GENSORT_RECORD as u64;
        if !size.is_multiple_of(width) {
            return Err(Error::corrupt(format!(
                "{}: {size} B is no whole number of records of {width} B: {} B are left over",
                path.display(),
                size % width
            )));
        }
        let (records, threads) = (size / width, threads.max(1) as u64);
        let bound = |part: u64| (u128::from(records) * u128::from(part) / u128::from(threads)) as u64;
        let mut total = GensortCheck::default();
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..threads)
                .map(|part| {
                    let (file, range) = (&file, bound(part)..bound(part + 1));
                    scope.spawn(move || GensortCheck::of_range(file, range.start, range.end))
                })
                .collect();
            parts.into_iter().try_for_each(|part| {
                total.add(&part.join().expect("reading does not panic")?);
                Ok(())
            })
        })
        .map_err(failed)?;
        Ok(total)
    }

    fn of_range(file: &File, mut next: u64, end: u64) -> std::io::Result<GensortCheck> {
        let mut check = GensortCheck::default();
        let mut rows = vec![GensortRow::new_zeroed(); PIECE as usize];
        let mut before = [0; 10];
        if next > 0 && next < end {
            file.read_exact_at(&mut before, (next - 1) * GENSORT_RECORD as u64)?;
        }
        while next < end {
            let rows = &mut rows[..(end - next).min(PIECE) as usize];
            file.read_exact_at(rows.as_mut_bytes(), next * GENSORT_RECORD as u64)?;
            for row in rows {
                check.checksum += u128::from(crc32fast::hash(row.as_bytes()));
                if row.key < before {
                    check.unordered += 1;
                    check.first_unordered.get_or_insert(next);
                }
                // Before the first record there is none.
                check.duplicates += u64::from(next > 0 && row.key == before);
                before = row.key;
                next += 1;
                check.records += 1;
            }
        }
        Ok(check)
    }

    fn add(&mut self, later: &GensortCheck) {
        self.records += later.records;
        self.checksum += later.checksum;
        self.duplicates += later.duplicates;
        self.unordered += later.unordered;
        self.first_unordered = self.first_unordered.or(later.first_unordered);
    }

    /// What `valsort` prints.
    pub fn describe(&self) -> String {
        let order = match self.first_unordered {
            None => "SUCCESS - all records are in order".to_string(),
            Some(first) => format!(
                "First unordered record is record {first}\nERROR - there are {} unordered records",
                self.unordered
            ),
        };
        format!(
            "Records: {}\nChecksum: {:x}\nDuplicate keys: {}\n{order}",
            self.records, self.checksum, self.duplicates
        )
    }

    /// Refuses what is not in order.
    ///
    /// # Errors
    /// `Corrupt`, naming the first record that is before its place.
    pub fn in_order(self, path: &Path) -> Result<GensortCheck> {
        match self.first_unordered {
            None => Ok(self),
            Some(first) => Err(Error::corrupt(format!(
                "{}: record {first} has a smaller key than the one before it; {} such of {} records",
                path.display(),
                self.unordered,
                self.records
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gensort::{GensortForm, fill_gensort};
    use super::*;

    /// Writes rows to a file of their own and checks them.
    fn check(name: &str, rows: &[GensortRow], threads: usize) -> GensortCheck {
        let path = std::env::temp_dir().join(format!("forebay-check-{name}-{}", std::process::id()));
        std::fs::write(&path, rows.as_bytes()).expect("a scratch file");
        let check = GensortCheck::of(&path, threads).expect("whole records");
        std::fs::remove_file(&path).expect("it is there");
        check
    }

    /// What `gensort 1000000` and `valsort` are published to answer.
    #[test]
    fn a_million_records_have_the_published_checksum() {
        let mut rows = vec![GensortRow::new_zeroed(); 1_000_000];
        fill_gensort(GensortForm::Binary, 0, 0, &mut rows);
        let found = check("million", &rows, 2);
        assert_eq!((found.records, found.checksum), (1_000_000, 0x7_a27e_2d0d_55de));
        assert!(found.unordered > 400_000, "{found:?}");
    }

    #[test]
    fn order_duplicates_and_disorder_are_seen_across_threads() {
        let mut rows = vec![GensortRow::new_zeroed(); 25_000];
        fill_gensort(GensortForm::Ascii, 1, 0, &mut rows);
        rows.sort_by_key(|row| row.key);
        rows[12_500].key = rows[12_499].key;
        for threads in [1, 2, 3, 8] {
            let found = check("order", &rows, threads);
            assert_eq!((found.unordered, found.duplicates), (0, 1), "{threads} threads");
            assert!(
                found
                    .describe()
                    .ends_with("Duplicate keys: 1\nSUCCESS - all records are in order")
            );
            let mut wrong = rows.clone();
            wrong.swap(12_499, 24_000);
            let wrong = check("disorder", &wrong, threads);
            assert_eq!(
                (wrong.first_unordered, wrong.checksum),
                (Some(12_500), found.checksum)
            );
            assert_eq!(wrong.unordered, 2);
            assert!(
                wrong
                    .describe()
                    .contains("First unordered record is record 12500\nERROR - there are 2")
            );
            assert!(wrong.in_order(Path::new("x")).is_err());
        }
        assert_eq!(check("none", &[], 3), GensortCheck::default());
    }
}
