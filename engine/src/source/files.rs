//! The files of a source: which they are, how they are divided into splits, and what is done with bad ones.
//!
//! # Interface
//! [`FileInput`] holds what text and CSV sources have in common; [`FileInput::splits`] lists the files and divides them;
//! each [`FileSplit`] is read part by part.
//!
//! # Algorithm
//! A file larger than a split is cut by byte ranges; a range stands for the records that start in it. Smaller files are
//! grouped, so that ten thousand of them cost as many opens and not as many splits.

use super::ahead_file::{are_cached, memory_bytes, piece_size_for};
use super::compression::Compression;
use super::{RowsBytes, glob};
use forebay_memory::{Error, Result};
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Splits a source makes for each subtask, where files are large: the last to finish then costs little.
const SPLITS_A_SUBTASK: u64 = 16;
const SMALLEST_SPLIT: u64 = 4 << 20;
const LARGEST_SPLIT: u64 = 64 << 20;
/// What opening a file costs, in bytes read at the same time: about 10 µs.
const COST_OF_A_FILE: u64 = 16 << 10;

/// Names of files, or patterns of names: `*` and `?` within a name, `[a-z]`, `{a,b}`, and `**` for any number of
/// directories. A name that exists is taken as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl From<&str> for Patterns {
    fn from(pattern: &str) -> Self {
        Patterns(vec![pattern.into()])
    }
}

impl From<String> for Patterns {
    fn from(pattern: String) -> Self {
        Patterns(vec![pattern])
    }
}

impl From<&Path> for Patterns {
    fn from(path: &Path) -> Self {
        Patterns(vec![path.to_string_lossy().into()])
    }
}

impl From<PathBuf> for Patterns {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

impl<T: Into<String>> From<Vec<T>> for Patterns {
    fn from(patterns: Vec<T>) -> Self {
        Patterns(patterns.into_iter().map(T::into).collect())
    }
}

impl<T: AsRef<str>> From<&[T]> for Patterns {
    fn from(patterns: &[T]) -> Self {
        Patterns(patterns.iter().map(|pattern| pattern.as_ref().into()).collect())
    }
}

impl<T: Into<String>, const N: usize> From<[T; N]> for Patterns {
    fn from(patterns: [T; N]) -> Self {
        Patterns(patterns.into_iter().map(T::into).collect())
    }
}

impl Patterns {
    /// The files that a source of these patterns would read, in order of their names.
    ///
    /// # Errors
    /// Where a pattern matches nothing, a directory cannot be listed, or a name is a directory's.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let files = FileInput::new(self.clone()).list()?;
        Ok(files.into_iter().map(|file| file.path).collect())
    }
}

/// What a source does with bytes that are not UTF-8 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotUtf8 {
    /// The job fails; the error names file, line and byte.
    #[default]
    Error,
    /// Each malformed sequence becomes U+FFFD.
    Replace,
    /// The line is left out; in CSV, the record.
    Skip,
}

/// What file sources have in common.
#[derive(Debug, Clone)]
pub(super) struct FileInput {
    patterns: Vec<String>,
    pub(super) skips_unreadable: bool,
    pub(super) not_utf8: NotUtf8,
    pub(super) split_size: Option<u64>,
    /// Whether files are read past the page cache, where somebody has said so.
    pub(super) is_past_cache: Option<bool>,
    pub(super) compression: Compression,
    /// The largest row, in bytes.
    pub(super) max_record: usize,
    pub(super) segment_size: usize,
}

/// A file to read.
#[derive(Debug)]
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    /// Its size when it was listed; 0 where that says nothing, as for a pipe.
    pub(super) size: u64,
    /// Whether it is what has a size. (In /proc, that may be 0 all the same.)
    is_regular: bool,
    pub(super) compression: Compression,
}

/// Files of a source, or a part of one, that one reader reads.
pub struct FileSplit {
    files: Arc<[InputFile]>,
    /// Files to read, as indexes.
    next: Range<usize>,
    /// The bytes in which records start, where the split is a part of one file.
    range: Option<Range<u64>>,
    /// Bytes of a piece, where it is read ahead.
    ahead: Option<usize>,
}

impl FileInput {
    pub(super) fn new(patterns: Patterns) -> FileInput {
        FileInput {
            patterns: patterns.0,
            skips_unreadable: false,
            not_utf8: NotUtf8::Error,
            split_size: None,
            is_past_cache: None,
            compression: Compression::None,
            max_record: 1 << 20,
            segment_size: 32 << 10,
        }
    }

    pub(super) fn compressed(self, compression: Compression) -> FileInput {
        FileInput { compression, ..self }
    }

    /// Lists the files and divides them, as [`FileInput::divide`].
    pub(super) fn splits(&self, parallelism: usize, unit: Option<u64>) -> Result<Vec<FileSplit>> {
        Ok(self.divide(self.list()?, parallelism, unit))
    }

    /// Divides files among about `parallelism` readers. They are cut at multiples of `unit` bytes, and not at all where there is
    /// none.
    pub(super) fn divide(
        &self,
        files: Vec<InputFile>,
        parallelism: usize,
        unit: Option<u64>,
    ) -> Vec<FileSplit> {
        let files: Arc<[InputFile]> = files.into();
        let total: u64 = files.iter().map(|file| file.size).sum();
        divide(&files, self.split_size(total, parallelism), unit)
    }

    /// Says of splits of the same files whether these are read ahead.
    pub(super) fn choose_ahead(&self, splits: &mut [FileSplit], parallelism: usize) {
        let Some(files) = splits.first().map(|split| split.files.clone()) else {
            return;
        };
        let total = files.iter().map(|file| file.size).sum();
        let seed = RandomState::new().hash_one(());
        let are_cached = || are_cached(files.iter().map(|file| (&*file.path, file.size)), seed);
        let ahead = piece_size_for(total, parallelism, self.is_past_cache, memory_bytes(), are_cached);
        splits.iter_mut().for_each(|split| split.ahead = ahead);
    }

    /// Bytes of a split, where there are `total`.
    pub(super) fn split_size(&self, total: u64, parallelism: usize) -> u64 {
        self.split_size
            .unwrap_or((total / (parallelism as u64 * SPLITS_A_SUBTASK)).clamp(SMALLEST_SPLIT, LARGEST_SPLIT))
    }

    /// The same, with each pattern replaced.
    #[cfg(feature = "parquet")]
    pub(super) fn with_patterns(&self, replace: impl FnMut(&String) -> String) -> FileInput {
        FileInput {
            patterns: self.patterns.iter().map(replace).collect(),
            ..self.clone()
        }
    }

    /// The files, in order of their names.
    pub(super) fn list(&self) -> Result<Vec<InputFile>> {
        self.list_but(&|error| self.unreadable(error))
    }

    /// The same for an estimate, which says nothing of what is passed over: the job that reads the files lists them again, because they
    /// may be others by then, and says it.
    pub(super) fn list_quietly(&self) -> Result<Vec<InputFile>> {
        self.list_but(&|error| if self.skips_unreadable { Ok(()) } else { Err(error) })
    }

    /// The files but those that `unreadable` passes over.
    fn list_but(&self, unreadable: &dyn Fn(Error) -> Result<()>) -> Result<Vec<InputFile>> {
        let mut paths = Vec::new();
        for pattern in &self.patterns {
            let mut unlisted = |path: &Path, error: std::io::Error| {
                unreadable(Error::io(
                    format!("cannot list directory \"{}\"", path.display()),
                    error,
                ))
            };
            let found = glob::expand(pattern, &mut unlisted)?;
            if found.is_empty() {
                let directory = std::env::current_dir()
                    .map(|path| format!(" (working directory \"{}\")", path.display()))
                    .unwrap_or_default();
                return Err(Error::config(format!(
                    "no file matches \"{pattern}\"{directory}; check the pattern: * stands for part of a name, ** for \
                     any directories"
                )));
            }
            paths.extend(found);
        }
        paths.sort_unstable();
        paths.dedup();
        let found = look_at(&paths);
        let mut files = Vec::with_capacity(paths.len());
        for (path, found) in paths.into_iter().zip(found) {
            match found {
                Ok(Found::Directory) => unreadable(Error::config(format!(
                    "\"{}\" is a directory; name its files, with {0}/* or {0}/**",
                    path.display()
                )))?,
                Ok(Found::File { size, is_regular }) => files.push(InputFile {
                    compression: self.compression.of(&path),
                    path,
                    size,
                    is_regular,
                }),
                Err(error) => unreadable(cannot_read(&path, error))?,
            }
        }
        Ok(files)
    }

    /// What the files' sizes say of the rows that they hold; `of_file` is that of one which is not compressed. Files that are not there
    /// (yet), and those without a size, as pipes, say nothing; nor do files that are all empty.
    pub(super) fn rows_bytes(&self, of_file: impl Fn(u64) -> RowsBytes) -> RowsBytes {
        let Ok(files) = self.list_quietly() else {
            return RowsBytes::UNKNOWN;
        };
        if !are_sized(&files) {
            return RowsBytes::UNKNOWN;
        }
        let sizes = files.iter().map(|file| match (file.compression, file.size) {
            (_, 0) => RowsBytes::exactly(0),
            (Compression::None, size) => of_file(size),
            // Nobody knows how much is in it; hardly less than that.
            (_, size) => RowsBytes::at_least(of_file(size).least()),
        });
        sizes.fold(RowsBytes::exactly(0), |all, size| all + size)
    }

    /// Whether files that are cut at multiples of `unit` bytes, or not at all, give so many subtasks about as much to read. Of those without a
    /// size, as pipes, and of those that are all empty, nobody knows.
    pub(super) fn divides_among(&self, subtasks: usize, unit: Option<u64>) -> bool {
        let files = self.list_quietly().unwrap_or_default();
        let are_sized = are_sized(&files);
        let splits = self.divide(files, subtasks, unit);
        are_sized && are_even(splits.iter().map(FileSplit::size), subtasks)
    }

    /// Passes over a file that cannot be read, where that was asked for.
    pub(super) fn unreadable(&self, error: Error) -> Result<()> {
        if self.skips_unreadable {
            tracing::warn!("left out: {error}");
            return Ok(());
        }
        Err(error)
    }
}

/// Whether the sizes of files say how much is in them. What is empty beside others is an empty part, or a writer's mark; alone, it may be of
/// those that are written while they are read, as in /proc.
fn are_sized(files: &[InputFile]) -> bool {
    files.iter().all(|file| file.is_regular) && files.iter().any(|file| file.size > 0)
}

/// Whether so many subtasks that take splits of these sizes have about as much to do: the largest is half as much again as a share at most.
pub(super) fn are_even(sizes: impl Iterator<Item = u64>, subtasks: usize) -> bool {
    let (mut count, mut total, mut largest) = (0, 0_u128, 0);
    for size in sizes {
        (count, total, largest) = (count + 1, total + u128::from(size), size.max(largest));
    }
    count >= subtasks && 2 * u128::from(largest) * subtasks as u128 <= 3 * total
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Found {
    Directory,
    /// Its size is 0 if it is no regular file.
    File {
        size: u64,
        is_regular: bool,
    },
}

/// What each path leads to. Tens of thousands of looks take longer than starting threads, and nothing else can be done
/// before they are known.
fn look_at(paths: &[PathBuf]) -> Vec<std::io::Result<Found>> {
    const PATHS_A_THREAD: usize = 2048;
    const MOST_THREADS: usize = 8;
    let look = |paths: &[PathBuf]| -> Vec<_> {
        let found = |path| {
            std::fs::metadata(path).map(|data| match (data.is_dir(), data.is_file()) {
                (true, _) => Found::Directory,
                (false, is_regular) => Found::File {
                    size: if is_regular { data.len() } else { 0 },
                    is_regular,
                },
            })
        };
        paths.iter().map(found).collect()
    };
    let most = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(MOST_THREADS));
    let part = paths.len().div_ceil(most).max(PATHS_A_THREAD);
    if paths.len() <= part {
        return look(paths);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = paths
            .chunks(part)
            .map(|part| scope.spawn(move || look(part)))
            .collect();
        let looked = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("looking at files does not panic"));
        looked.collect()
    })
}

pub(super) fn cannot_read(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot read \"{}\"", path.display()), error)
}

/// The error of a file of `size` bytes that ends at `reached`.
pub(super) fn ends_early(path: &Path, reached: u64, size: u64) -> Error {
    Error::new(
        forebay_memory::ErrorKind::Io,
        format!(
            "\"{}\" ends at byte {reached}, but had {size} bytes when it was listed: it was cut while the job read it",
            path.display(),
        ),
    )
}

fn divide(files: &Arc<[InputFile]>, split_size: u64, unit: Option<u64>) -> Vec<FileSplit> {
    let split_size = split_size.max(unit.unwrap_or(1));
    let split = |next: Range<usize>, range| FileSplit {
        files: files.clone(),
        next,
        range,
        ahead: None,
    };
    let mut splits = Vec::new();
    let mut group = 0..0;
    let mut cost = 0;
    for (index, file) in files.iter().enumerate() {
        let is_whole = file.size <= split_size || file.compression != Compression::None;
        if let Some(unit) = unit.filter(|_| !is_whole) {
            if !group.is_empty() {
                splits.push(split(group, None));
            }
            let units = file.size / unit;
            let parts = file.size.div_ceil(split_size).clamp(1, units.max(1));
            // The last part has what is over.
            let bound = |part: u64| match part == parts {
                true => file.size,
                false => (u128::from(units) * u128::from(part) / u128::from(parts)) as u64 * unit,
            };
            splits.extend((0..parts).map(|part| split(index..index + 1, Some(bound(part)..bound(part + 1)))));
            (group, cost) = (index + 1..index + 1, 0);
            continue;
        }
        let file_cost = file.size.saturating_add(COST_OF_A_FILE.min(split_size));
        if !group.is_empty() && file_cost.saturating_add(cost) > split_size {
            splits.push(split(group, None));
            (group, cost) = (index..index, 0);
        }
        group.end = index + 1;
        cost = cost.saturating_add(file_cost);
    }
    if !group.is_empty() {
        splits.push(split(group, None));
    }
    splits
}

impl FileSplit {
    /// Goes to the next file or part of one: the range in which the records start that are to be read.
    pub(super) fn next_part(&mut self) -> Option<Range<u64>> {
        let file = &self.files[self.next.next()?];
        Some(self.range.clone().unwrap_or(match file.size {
            // What the size of a pipe, of a file in /proc or of a compressed one does not say, its end does.
            _ if file.compression != Compression::None => 0..u64::MAX,
            0 => 0..u64::MAX,
            size => 0..size,
        }))
    }

    /// About how many bytes the split has.
    pub(super) fn size(&self) -> u64 {
        match &self.range {
            Some(range) => range.end - range.start,
            None => self.files[self.next.clone()]
                .iter()
                .fold(0, |sum, file| sum.saturating_add(file.size)),
        }
    }

    /// Bytes of a piece, where files are read ahead, past the page cache.
    pub(super) fn ahead(&self) -> Option<usize> {
        self.ahead
    }

    /// The file whose part was asked for last.
    pub(super) fn current(&self) -> &InputFile {
        &self.files[self.next.start - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sizes: &[u64], split_size: u64, unit: Option<u64>) -> Vec<Vec<(usize, Range<u64>)>> {
        let files: Vec<InputFile> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| InputFile {
                path: index.to_string().into(),
                size: *size,
                is_regular: true,
                compression: Compression::None,
            })
            .collect();
        divide(&files.into(), split_size, unit)
            .into_iter()
            .map(|mut split| {
                let mut parts = Vec::new();
                while let Some(range) = split.next_part() {
                    let index = split.current().path.display().to_string();
                    parts.push((index.parse().expect("an index"), range));
                }
                parts
            })
            .collect()
    }

    #[test]
    fn every_byte_is_in_one_split() {
        for split_size in [1, 3, 10, 1 << 20] {
            for unit in [Some(1), Some(5), None] {
                let sizes = [5, 0, 100, 1, 7, 30];
                let mut next = vec![0; sizes.len()];
                for (index, range) in parts(&sizes, split_size, unit).into_iter().flatten() {
                    assert_eq!(range.start, next[index], "split size {split_size}");
                    assert!(
                        !range.is_empty() && unit.map_or(range.start == 0, |unit| range.start % unit == 0)
                    );
                    next[index] = range.end;
                }
                assert_eq!(next, [5, u64::MAX, 100, 1, 7, 30]);
            }
        }
    }

    #[test]
    fn compressed_files_are_whole() {
        let file = |name: &str, compression| InputFile {
            path: name.into(),
            size: 100,
            is_regular: true,
            compression,
        };
        let files = [
            file("0", Compression::Gzip),
            file("1", Compression::Zstd),
            file("2", Compression::None),
        ];
        let files: Arc<[InputFile]> = Vec::from(files).into();
        let parts: Vec<Range<u64>> = divide(&files, 50, Some(1))
            .iter_mut()
            .flat_map(|split| std::iter::from_fn(|| split.next_part()).collect::<Vec<_>>())
            .collect();
        assert_eq!(parts, [0..u64::MAX, 0..u64::MAX, 0..50, 50..100]);
    }

    #[test]
    fn small_files_share_splits() {
        let sizes = vec![2000; 60_000];
        let splits = parts(&sizes, 4 << 20, Some(1));
        assert!(splits.len() < 300, "{}", splits.len());
        assert!(splits.len() > 100, "{}", splits.len());
    }
}
