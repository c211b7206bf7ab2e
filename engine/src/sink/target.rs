//! Where the files of a sink go: a directory of part files, or one file.
//!
//! # Interface
//! A sink keeps a [`Place`], whose options are its own; [`Place::open`] makes the [`Target`] that its subtasks share. A subtask begins
//! a file with [`Target::begin`], and says with [`Target::finished`] that it has written everything.

use super::file_output::{Existing, Output, OutputOptions, PartFile};
use super::single_file::SingleFile;
use crate::source::Subtask;
use forebay_memory::{Error, Result};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Where a sink writes, and what becomes of what is there.
pub(super) struct Place {
    pub(super) options: OutputOptions,
    /// The one file, where there is one.
    file: Option<PathBuf>,
    target: OnceLock<Target>,
}

/// What the subtasks of a sink write, together.
#[derive(Clone)]
pub(super) enum Target {
    Directory(Arc<Output>),
    File(Arc<SingleFile>),
}

impl Place {
    pub(super) fn directory(directory: PathBuf, suffix: &str) -> Place {
        Place::new(directory, None, suffix)
    }

    pub(super) fn file(path: PathBuf) -> Place {
        Place::new(PathBuf::new(), Some(path), "")
    }

    fn new(directory: PathBuf, file: Option<PathBuf>, suffix: &str) -> Place {
        Place {
            options: OutputOptions::of(directory, suffix),
            file,
            target: OnceLock::new(),
        }
    }

    /// Whether it is one file.
    pub(super) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Makes the directory or the file ready; the first call does it. One file at parallelism above 1 is for those who know where
    /// each subtask's records belong: `order` says what is to be done where that `is_known` is false.
    pub(super) fn open(&self, subtask: Subtask, is_known: bool, order: &str) -> Result<Target> {
        let target = self.target.get_or_init(|| match &self.file {
            Some(path) => Target::File(Arc::new(SingleFile::new(
                path.clone(),
                self.options.existing == Existing::Replace,
                self.options.syncs,
            ))),
            None => Target::Directory(Arc::new(Output::new(self.options.clone()))),
        });
        match target {
            Target::Directory(output) => output.open()?,
            Target::File(file) if self.options.existing == Existing::Keep => {
                return Err(Error::config(format!(
                    "file sink: \"{}\": one file is not appended to; choose overwrite(), or write part files into a directory",
                    file.name().display()
                )));
            }
            Target::File(file) if subtask.parallelism > 1 && !is_known => {
                return Err(Error::config(format!(
                    "file sink: \"{}\" cannot be written by {} subtasks: {order}",
                    file.name().display(),
                    subtask.parallelism
                )));
            }
            Target::File(file) => {
                file.open()?;
            }
        }
        Ok(target.clone())
    }
}

impl Target {
    /// Begins what a subtask writes: the file under its hidden name, and the part that it becomes, in a directory.
    pub(super) fn begin(&self, subtask: Subtask) -> Result<(PathBuf, Option<PartFile>)> {
        match self {
            Target::Directory(output) => {
                let (_, part) = output.create(subtask.index, 0)?;
                Ok((part.hidden().to_path_buf(), Some(part)))
            }
            Target::File(file) => Ok((file.open()?, None)),
        }
    }

    /// The error of an operation on what was begun.
    pub(super) fn fault(&self, what: &str, part: Option<&PartFile>, error: io::Error) -> Error {
        match (self, part) {
            (Target::Directory(output), Some(part)) => output.fault(what, &output.path(part), error),
            (Target::Directory(_), None) => Error::io(format!("file sink: cannot {what}"), error),
            (Target::File(file), _) => file.fault(what, error),
        }
    }

    /// Whether files are written to the device before they get their names.
    pub(super) fn syncs(&self) -> bool {
        match self {
            Target::Directory(output) => output.syncs(),
            Target::File(file) => file.syncs(),
        }
    }

    /// Takes what a subtask has written, one of `parallelism`. After the last, files get their names.
    pub(super) fn finished(&self, part: Option<PartFile>, parallelism: usize) -> Result<()> {
        match self {
            Target::Directory(output) => output.finished(&mut part.into_iter().collect(), parallelism),
            Target::File(file) => file.finished(parallelism),
        }
    }
}
