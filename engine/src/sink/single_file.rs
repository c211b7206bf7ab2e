//! One file that the subtasks of a sink write together: under a hidden name while the job runs, its own when all is written.
//!
//! # Interface
//! [`SingleFile::open`] makes the file, once; [`SingleFile::path`] is where it is; [`SingleFile::finished`] counts subtasks,
//! and after the last the file has its name.
//!
//! # Invariants
//! As of `file_output`: a file under its name is whole; what was not published is removed, by the drop, or, where the process
//! was killed, by the next file sink in the directory.

use super::file_writers::Writer;
use forebay_memory::{Error, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// The file of one sink in one job.
pub(super) struct SingleFile {
    path: PathBuf,
    replaces: bool,
    syncs: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    writer: Option<Writer>,
    hidden: Option<PathBuf>,
    finished: usize,
}

impl SingleFile {
    /// The file at `path`, which may be there only where it `replaces` it, and survives a loss of power where it `syncs`.
    pub(super) fn new(path: PathBuf, replaces: bool, syncs: bool) -> SingleFile {
        SingleFile {
            path,
            replaces,
            syncs,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while an output's state is locked")
    }

    pub(super) fn fault(&self, what: &str, error: io::Error) -> Error {
        Error::io(
            format!("file sink: cannot {what} \"{}\"", self.path.display()),
            error,
        )
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// The name that it will have.
    pub(super) fn name(&self) -> &Path {
        &self.path
    }

    /// Makes the file, empty; the first call does it. Answers where it is.
    pub(super) fn open(&self) -> Result<PathBuf> {
        let mut state = self.state();
        if let Some(hidden) = &state.hidden {
            return Ok(hidden.clone());
        }
        self.check()?;
        let Some(name) = self.path.file_name() else {
            return Err(Error::config(format!(
                "file sink: \"{}\" is no name of a file; name one",
                self.path.display()
            )));
        };
        let writer = Writer::enter(self.directory()).map_err(|error| self.fault("create", error))?;
        let hidden = writer.hidden(&name.to_string_lossy());
        state.writer = Some(writer);
        File::create_new(&hidden).map_err(|error| self.fault("create", error))?;
        state.hidden = Some(hidden.clone());
        Ok(hidden)
    }

    /// Refuses to replace what is there, unless that was asked for and it is a file.
    fn check(&self) -> Result<()> {
        let path = self.path.display();
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_dir() => Err(Error::config(format!(
                "file sink: \"{path}\" is a directory; name a file in it"
            ))),
            Ok(_) if !self.replaces => Err(Error::config(format!(
                "file sink: \"{path}\" exists; name another file, or choose overwrite()"
            ))),
            _ => Ok(()),
        }
    }

    /// Counts a subtask that has written everything, one of `parallelism`. After the last, the file gets its name.
    pub(super) fn finished(&self, parallelism: usize) -> Result<()> {
        let mut state = self.state();
        state.finished += 1;
        if state.finished < parallelism {
            return Ok(());
        }
        let writer = state
            .writer
            .as_ref()
            .expect("a file is finished after it was opened");
        let _alone = writer.alone().map_err(|error| self.fault("create", error))?;
        self.check()?;
        let hidden = state.hidden.take().expect("a file is finished once");
        if let Err(error) = fs::rename(&hidden, &self.path) {
            state.hidden = Some(hidden);
            return Err(self.fault("create", error));
        }
        if self.syncs {
            File::open(self.directory())
                .and_then(|directory| directory.sync_all())
                .map_err(|error| self.fault("sync the directory of", error))?;
        }
        Ok(())
    }

    /// Whether it is written to the device before it has its name.
    pub(super) fn syncs(&self) -> bool {
        self.syncs
    }
}

impl Drop for SingleFile {
    fn drop(&mut self) {
        let state = self
            .state
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(hidden) = &state.hidden {
            // It is removed as well as can be; there is nobody to tell.
            let _ = fs::remove_file(hidden);
        }
        if let Some(writer) = &state.writer {
            writer.leave();
        }
    }
}
