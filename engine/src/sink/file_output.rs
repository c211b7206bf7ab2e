//! The directory that a file sink writes: hidden files while the job runs, their final names when all is written.
//!
//! # Interface
//! An [`Output`] is shared by the subtasks of a sink. [`Output::open`] checks and makes the directory, once;
//! [`Output::create`] begins a file; [`Output::finished`] takes the files of a subtask. The last subtask to finish publishes
//! all of them.
//!
//! # Invariants
//! - A file under a final name is whole: it was renamed after it was written.
//! - All files are published or none: where one cannot have its name, those before it go, and what they replaced comes back.
//! - What was not published is removed when its writer, or the output, is dropped: after success, failure and cancellation
//!   alike. Only a killed process leaves hidden files, and the next sink in the directory settles them (`file_writers`).
//!
//! # Algorithm
//! To publish: (1) old files that are to be replaced get hidden names, (2) a file is made that says *committed*, (3) new files get
//! their names, (4) old files and that file are removed. Up to (2) everything can be undone; after it, completed.

use super::file_writers::{Writer, remove};
use forebay_memory::{Error, Result};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
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

impl OutputOptions {
    pub(super) fn of(directory: PathBuf, suffix: &str) -> OutputOptions {
        OutputOptions {
            directory,
            suffix: suffix.into(),
            existing: Existing::default(),
            syncs: false,
        }
    }
}

/// The methods of a file sink that set its [`OutputOptions`], which `$options` leads to.
macro_rules! output_option_methods {
    ($($options:ident).+) => {
        /// Writes everything to the device before it gets its name, so that it survives a loss of power. The sink then runs on
        /// helper threads.
        pub fn sync(mut self) -> Self {
            self.$($options).+.syncs = true;
            self
        }

        /// Replaces part files that the directory has, or the one file, when the new ones are complete. Other files in the directory
        /// are an error.
        pub fn overwrite(mut self) -> Self {
            self.$($options).+.existing = $crate::sink::file_output::Existing::Replace;
            self
        }

        /// Keeps what the directory has; the new files are numbered behind those that are there. One file is not appended to.
        pub fn append(mut self) -> Self {
            self.$($options).+.existing = $crate::sink::file_output::Existing::Keep;
            self
        }

        /// What names of part files end in: by default `.csv` for CSV, `.parquet` for Parquet, nothing otherwise.
        pub fn suffix(mut self, suffix: impl Into<String>) -> Self {
            self.$($options).+.suffix = suffix.into();
            self
        }
    };
}
pub(super) use output_option_methods;

/// The files of one sink in one job.
pub(super) struct Output {
    options: OutputOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The output as others in the directory see it, once it is open.
    writer: Option<Writer>,
    /// Whether something is left that the next writer in the directory has to settle.
    is_unsettled: bool,
    /// Whether the directory was made for this output.
    is_made: bool,
    /// Names of files to be removed when the new ones are published.
    replaced: Vec<String>,
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
    /// Where it is before it has its name.
    pub(super) fn hidden(&self) -> &Path {
        &self.hidden
    }

    /// The name that it will have, for errors.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Output {
    pub(super) fn new(options: OutputOptions) -> Output {
        Output {
            options,
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
        if state.writer.is_some() {
            return Ok(());
        }
        let directory = &self.options.directory;
        if !directory.exists() {
            fs::create_dir_all(directory).map_err(|error| self.fault("make directory", directory, error))?;
            state.is_made = true;
        }
        let entered =
            Writer::enter(directory).map_err(|error| self.fault("enter directory", directory, error))?;
        state.writer = Some(entered);
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
                (Existing::Replace, Some(_)) => state.replaced.push(name.into_owned()),
                (Existing::Keep, number) => {
                    let next = number.map_or(0, |number| number + 1);
                    state.first_number = state.first_number.max(next);
                }
            }
        }
        Ok(())
    }

    /// Begins file number `number` of a subtask.
    pub(super) fn create(&self, subtask: usize, number: u64) -> Result<(File, PartFile)> {
        let state = self.state();
        let number = state.first_number + number;
        let name = format!("part-{subtask}-{number}{}", self.options.suffix);
        let writer = state.writer.as_ref().expect("files are created after open");
        let hidden = writer.hidden(&name);
        let file = File::create_new(&hidden).map_err(|error| self.fault("create", &hidden, error))?;
        let part = PartFile {
            hidden,
            name,
            is_published: false,
        };
        Ok((file, part))
    }

    /// Whether files are written to the device before they get their names.
    pub(super) fn syncs(&self) -> bool {
        self.options.syncs
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
        self.publish(&mut state)
    }

    /// Gives all files their names, or none.
    fn publish(&self, state: &mut State) -> Result<()> {
        let directory = &self.options.directory;
        let mut written = std::mem::take(&mut state.written);
        let replaced = std::mem::take(&mut state.replaced);
        let writer = state.writer.as_ref().expect("files are created after open");
        let _alone = writer
            .alone()
            .map_err(|error| self.fault("enter directory", directory, error))?;
        self.check_names(&written, &replaced)?;
        let moved = self.publish_files(writer, &mut written, &replaced);
        if let Err(error) = moved {
            if undo(directory, writer, &mut written, &replaced).is_err() {
                state.is_unsettled = true;
            }
            return Err(error);
        }
        // All is in place; what cannot be cleaned up is left to the next writer in the directory.
        let cleaned = (replaced.iter().map(|name| writer.replaced(name)))
            .chain([writer.committed()])
            .try_for_each(|path| remove(&path));
        if let Err(error) = cleaned {
            tracing::warn!(directory = %directory.display(), "file sink: cannot remove replaced files: {error}");
            state.is_unsettled = true;
        }
        state.is_made = false;
        Ok(())
    }

    /// Refuses to take the place of files that were not there when the output was opened.
    fn check_names(&self, written: &[PartFile], replaced: &[String]) -> Result<()> {
        let replaced: HashSet<&String> = replaced.iter().collect();
        for part in written.iter().filter(|part| !replaced.contains(&part.name)) {
            let path = self.path(part);
            // A directory is refused when the file is renamed.
            if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
                return Err(Error::config(format!(
                    "file sink: \"{}\" was written by somebody else meanwhile; let one job at a time write the directory, or \
                     give each its own",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    fn publish_files(&self, writer: &Writer, written: &mut [PartFile], replaced: &[String]) -> Result<()> {
        let directory = &self.options.directory;
        for name in replaced {
            let old = directory.join(name);
            match fs::rename(&old, writer.replaced(name)) {
                // Somebody else has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved.map_err(|error| self.fault("move away", &old, error))?,
            }
        }
        let committed = writer.committed();
        File::create_new(&committed)
            .and_then(|_| self.sync_directory())
            .map_err(|error| self.fault("create", &committed, error))?;
        for part in written {
            let path = directory.join(&part.name);
            fs::rename(&part.hidden, &path).map_err(|error| self.fault("rename a file to", &path, error))?;
            part.is_published = true;
        }
        self.sync_directory()
            .map_err(|error| self.fault("sync directory", directory, error))
    }

    /// Writes the directory's names to the device, where that was asked for.
    fn sync_directory(&self) -> io::Result<()> {
        match self.options.syncs {
            true => File::open(&self.options.directory)?.sync_all(),
            false => Ok(()),
        }
    }
}

/// Takes back what [`Output::publish_files`] has done so far: new files lose their names, old ones have theirs again.
fn undo(directory: &Path, writer: &Writer, written: &mut [PartFile], replaced: &[String]) -> io::Result<()> {
    if let Err(error) = remove(&writer.committed()) {
        // Whoever settles the directory will find it committed, and needs every file.
        written.iter_mut().for_each(|part| part.is_published = true);
        return Err(error);
    }
    for part in written.iter_mut().filter(|part| part.is_published) {
        fs::rename(directory.join(&part.name), &part.hidden)?;
        part.is_published = false;
    }
    for name in replaced {
        match fs::rename(writer.replaced(name), directory.join(name)) {
            // It was not moved away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            restored => restored?,
        }
    }
    Ok(())
}

impl Drop for Output {
    fn drop(&mut self) {
        let state = self
            .state
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        state.written.clear();
        if let Some(writer) = state.writer.as_ref().filter(|_| !state.is_unsettled) {
            writer.leave();
        }
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
