//! The directory that a file sink writes: hidden files while the job runs, their final names when all is written.
//!
//! # Interface
//! An [`Output`] is shared by the subtasks of a sink. [`Output::open`] checks and makes the directory, once;
//! [`Output::create`] begins a file; [`Output::finished`] takes the files of a subtask. The last subtask to finish publishes
//! all of them.
//!
//! # Invariants
//! - A file under a final name is whole: it was renamed after it was written.
//! - What was not published is removed when its writer, or the output, is dropped: after success, failure and cancellation
//!   alike. Only a killed process leaves hidden files; they end in `.in-progress`.

use forebay_memory::{Error, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// What becomes of files that a sink's directory already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Existing {
    #[default]
    Refuse,
    Replace,
    Keep,
}

/// How an output's files are named, and how safe they are.
#[derive(Debug, Clone)]
pub(super) struct OutputOptions {
    pub(super) directory: PathBuf,
    pub(super) suffix: String,
    pub(super) existing: Existing,
    pub(super) syncs: bool,
}

/// The files of one sink in one job.
pub(super) struct Output {
    options: OutputOptions,
    /// Tells the hidden files of this output from those of others.
    id: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_open: bool,
    /// Whether the directory was made for this output.
    is_made: bool,
    /// Files to be removed when the new ones are published.
    replaced: Vec<PathBuf>,
    /// The first number that files of this output have.
    first_number: u64,
    written: Vec<PartFile>,
    finished: usize,
}

/// A file under its hidden name, removed when it is dropped unless it was published.
pub(super) struct PartFile {
    hidden: PathBuf,
    name: String,
    is_published: bool,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_published {
            // It is removed as well as can be; there is nobody to tell.
            let _ = fs::remove_file(&self.hidden);
        }
    }
}

impl PartFile {
    /// The name that it will have, for errors.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Output {
    pub(super) fn new(options: OutputOptions) -> Output {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = format!(
            "{:x}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Output {
            options,
            id,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while an output's state is locked")
    }

    /// The error of an operation on `path`.
    pub(super) fn fault(&self, what: &str, path: &Path, error: io::Error) -> Error {
        Error::io(format!("file sink: cannot {what} \"{}\"", path.display()), error)
    }

    /// Makes the directory ready; the first call does it.
    pub(super) fn open(&self) -> Result<()> {
        let mut state = self.state();
        if state.is_open {
            return Ok(());
        }
        let directory = &self.options.directory;
        if !directory.exists() {
            fs::create_dir_all(directory).map_err(|error| self.fault("make directory", directory, error))?;
            (state.is_made, state.is_open) = (true, true);
            return Ok(());
        }
        let entries =
            fs::read_dir(directory).map_err(|error| self.fault("list directory", directory, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| self.fault("list directory", directory, error))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let number = part_number(&name);
            match (self.options.existing, number) {
                (Existing::Refuse, _) => {
                    return Err(Error::config(format!(
                        "file sink: directory \"{}\" is not empty: it has \"{name}\"; name another, or choose \
                         overwrite() or append()",
                        directory.display()
                    )));
                }
                (Existing::Replace, None) => {
                    return Err(Error::config(format!(
                        "file sink: directory \"{}\" has \"{name}\", which no file sink wrote, so that overwrite() does \
                         not remove it; name another directory, or move the file",
                        directory.display()
                    )));
                }
                (Existing::Replace, Some(_)) => state.replaced.push(entry.path()),
                (Existing::Keep, number) => {
                    let next = number.map_or(0, |number| number + 1);
                    state.first_number = state.first_number.max(next);
                }
            }
        }
        state.is_open = true;
        Ok(())
    }

    /// Begins file number `number` of a subtask.
    pub(super) fn create(&self, subtask: usize, number: u64) -> Result<(File, PartFile)> {
        let number = self.state().first_number + number;
        let name = format!("part-{subtask}-{number}{}", self.options.suffix);
        let hidden = self
            .options
            .directory
            .join(format!(".{name}.{}.in-progress", self.id));
        let file = File::create_new(&hidden).map_err(|error| self.fault("create", &hidden, error))?;
        let part = PartFile {
            hidden,
            name,
            is_published: false,
        };
        Ok((file, part))
    }

    /// Writes a file's content to the device, where that was asked for.
    pub(super) fn sync(&self, file: &File, part: &PartFile) -> Result<()> {
        if self.options.syncs {
            file.sync_all()
                .map_err(|error| self.fault("sync", &self.path(part), error))?;
        }
        Ok(())
    }

    /// The path that a file will have.
    pub(super) fn path(&self, part: &PartFile) -> PathBuf {
        self.options.directory.join(part.name())
    }

    /// Takes the files of a subtask that has written everything, one of `parallelism`. After the last, all get their
    /// final names.
    pub(super) fn finished(&self, parts: &mut Vec<PartFile>, parallelism: usize) -> Result<()> {
        let mut state = self.state();
        state.written.append(parts);
        state.finished += 1;
        if state.finished < parallelism {
            return Ok(());
        }
        let mut written = std::mem::take(&mut state.written);
        for index in 0..written.len() {
            let path = self.path(&written[index]);
            if let Err(error) = fs::rename(&written[index].hidden, &path) {
                // All or nothing: those before it go too.
                for part in &written[..index] {
                    let _ = fs::remove_file(self.path(part));
                }
                return Err(self.fault("rename a file to", &path, error));
            }
            written[index].is_published = true;
        }
        for path in std::mem::take(&mut state.replaced) {
            let is_new = |part: &PartFile| path.file_name() == Some(part.name().as_ref());
            if !written.iter().any(is_new) {
                fs::remove_file(&path).map_err(|error| self.fault("remove", &path, error))?;
            }
        }
        if self.options.syncs {
            File::open(&self.options.directory)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| self.fault("sync directory", &self.options.directory, error))?;
        }
        state.is_made = false;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let state = self
            .state
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        state.written.clear();
        if state.is_made {
            // Only where it is empty, and it was not there before.
            let _ = fs::remove_dir(&self.options.directory);
        }
    }
}

/// The number in a name `part-<subtask>-<number><suffix>`.
fn part_number(name: &str) -> Option<u64> {
    let (subtask, rest) = name.strip_prefix("part-")?.split_once('-')?;
    subtask.parse::<u64>().ok()?;
    let digits = rest.find(|character: char| !character.is_ascii_digit());
    rest[..digits.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::part_number;

    #[test]
    fn names_of_part_files_are_told_from_others() {
        for (name, number) in [
            ("part-0-0", Some(0)),
            ("part-12-345.csv", Some(345)),
            ("part-1-2.3", Some(2)),
            ("part-1", None),
            ("part-1-", None),
            ("part-a-1", None),
            ("data-0-0", None),
        ] {
            assert_eq!(part_number(name), number, "{name}");
        }
    }
}
