//! The row groups of one file, or the part of one, that one reader reads, and files that readers have open in common.

use super::file::{OpenFile, ParquetCounts};
use crate::record::Record;
use forebay_memory::Result;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Files whose footers are kept for the next split of the same file.
const KEPT: usize = 8;

/// Row groups of a [`ParquetSource`](super::ParquetSource), or a part of one, that one reader reads.
pub struct ParquetSplit {
    pub(super) file: Arc<ListedFile>,
    pub(super) parts: VecDeque<Part>,
    /// Bytes of the columns that are read, compressed.
    pub(super) bytes: u64,
}

/// Rows of a row group.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) group: usize,
    /// Those of the whole row group.
    pub(super) group_rows: u64,
    pub(super) rows: Range<u64>,
}

impl Part {
    /// Divides a row group of `rows` rows into `count` parts of about the same number of rows, at least one in each.
    pub(super) fn divide(group: usize, rows: u64, count: u64) -> impl Iterator<Item = Part> {
        let count = count.clamp(1, rows.max(1));
        let bound = move |part: u64| (u128::from(rows) * u128::from(part) / u128::from(count)) as u64;
        (0..count).map(move |part| Part {
            group,
            group_rows: rows,
            rows: bound(part)..bound(part + 1),
        })
    }
}

/// A file as it was when it was listed.
pub(super) struct ListedFile {
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

/// The files that were opened last. A footer is read anew where its file has left: not all footers are in memory, however many
/// files there are.
#[derive(Default)]
pub(super) struct OpenFiles(Mutex<VecDeque<(Arc<ListedFile>, Arc<OpenFile>)>>);

impl OpenFiles {
    pub(super) fn open<R: Record>(
        &self,
        listed: &Arc<ListedFile>,
        missing_are_null: bool,
        counts: &Arc<ParquetCounts>,
    ) -> Result<Arc<OpenFile>> {
        let kept = || self.0.lock().expect("nothing panics while files are looked up");
        if let Some((_, file)) = kept().iter().find(|(kept, _)| Arc::ptr_eq(kept, listed)) {
            return Ok(file.clone());
        }
        let file = Arc::new(OpenFile::open::<R>(
            &listed.path,
            listed.size,
            missing_are_null,
            counts,
        )?);
        let mut kept = kept();
        kept.push_front((listed.clone(), file.clone()));
        kept.truncate(KEPT);
        Ok(file)
    }
}
