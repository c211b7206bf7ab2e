//! Scratch files: input written before anything is measured, that no crash can leave behind.
//!
//! The file is unlinked as soon as it is created; this process and its children open it again through
//! `/proc/<id>/fd/<n>` until the [`Scratch`] is dropped.

use forebay_memory::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file without a name, and perhaps one that is removed.
#[derive(Default)]
pub struct Scratch {
    _file: Option<File>,
    path: PathBuf,
    bytes: u64,
    removed: Option<PathBuf>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.removed {
            // It need not have been written.
            let _ = fs::remove_file(path);
        }
    }
}

impl Scratch {
    /// A file in the temporary directory (`TMPDIR`) that holds what `write` writes; `write` answers how many bytes.
    ///
    /// # Errors
    /// Where it cannot be created or written.
    pub fn write(write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<u64>) -> Result<Scratch> {
        let path = Scratch::name("data");
        let failed = |error| {
            Error::io(
                format!(
                    "cannot write scratch file {}; set TMPDIR to another directory",
                    path.display()
                ),
                error,
            )
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(failed)?;
        fs::remove_file(&path).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(256 << 10, file);
        let bytes = write(&mut writer)
            .and_then(|bytes| writer.flush().map(|()| bytes))
            .map_err(failed)?;
        let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(Scratch::of(file, bytes))
    }

    fn of(file: File, bytes: u64) -> Scratch {
        Scratch {
            path: PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())),
            _file: Some(file),
            bytes,
            removed: None,
        }
    }

    /// A path in the temporary directory that no other has.
    pub fn name(what: &str) -> PathBuf {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("forebay-bench-{}-{number}.{what}", std::process::id()))
    }

    /// A file that `write` makes at the path it is given; it loses its name when it is written. `write` answers its bytes.
    ///
    /// # Errors
    /// Those of `write`, and where the file cannot be opened.
    pub fn written(what: &str, write: impl FnOnce(&Path) -> Result<u64>) -> Result<Scratch> {
        let path = Scratch::name(what);
        let bytes = write(&path)?;
        let file = File::open(&path).and_then(|file| fs::remove_file(&path).map(|()| file));
        let file =
            file.map_err(|error| Error::io(format!("cannot read scratch file {}", path.display()), error))?;
        Ok(Scratch::of(file, bytes))
    }

    /// The same, and removes the file at `path`, if there is one, when it is dropped.
    pub fn removing(mut self, path: PathBuf) -> Scratch {
        self.removed = Some(path);
        self
    }

    /// Where to open it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What is to replace a file: under a hidden name beside it until [`Successor::publish`] says that all went well, and removed otherwise. Until
/// then the file that it replaces is as it was, however this process ends.
#[must_use]
pub struct Successor {
    path: PathBuf,
    hidden: PathBuf,
}

impl Successor {
    /// The successor of the file at `path`, if there is one; it is yet to be written.
    pub fn of(path: &Path) -> Successor {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.new", std::process::id()));
        Successor {
            path: path.to_path_buf(),
            hidden: path.with_file_name(name),
        }
    }

    /// Where to write it.
    pub fn hidden(&self) -> &Path {
        &self.hidden
    }

    /// Gives it its name, in one step.
    ///
    /// # Errors
    /// Where it cannot be renamed, or was not written.
    pub fn publish(self) -> Result<()> {
        fs::rename(&self.hidden, &self.path).map_err(|error| {
            let what = format!(
                "cannot rename {} to {}",
                self.hidden.display(),
                self.path.display()
            );
            Error::io(what, error)
        })
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // It has another name by now, or need not have been written.
        let _ = fs::remove_file(&self.hidden);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_file_is_read_by_its_path_until_it_is_dropped() {
        let scratch = Scratch::write(|file| file.write_all(b"content").map(|()| 7)).expect("writable");
        assert_eq!(fs::read(scratch.path()).expect("readable"), b"content");
        assert_eq!(fs::metadata(scratch.path()).expect("there").len(), 7);
        let path = scratch.path().to_path_buf();
        drop(scratch);
        assert_ne!(fs::read(path).ok().as_deref(), Some(&b"content"[..]));
    }

    #[test]
    fn what_was_there_stays_until_its_successor_is_published() {
        let directory = std::env::temp_dir().join(format!("forebay-successor-{}", std::process::id()));
        fs::create_dir(&directory).expect("a temporary directory");
        let path = directory.join("out.dat");
        let (before, after): (&[u8], &[u8]) = (b"before", b"after");
        for there in [false, true] {
            for writes in [false, true] {
                for publishes in [false, true] {
                    let case = format!("there {there}, writes {writes}, publishes {publishes}");
                    if there {
                        fs::write(&path, before).expect("writable");
                    }
                    let successor = Successor::of(&path);
                    if writes {
                        fs::write(successor.hidden(), after).expect("writable");
                    }
                    assert_eq!(fs::read(&path).ok().as_deref(), there.then_some(before), "{case}");
                    match publishes {
                        true => assert_eq!(successor.publish().is_ok(), writes, "{case}"),
                        false => drop(successor),
                    }
                    let expected = match (writes && publishes, there) {
                        (true, _) => Some(after),
                        (false, true) => Some(before),
                        (false, false) => None,
                    };
                    assert_eq!(fs::read(&path).ok().as_deref(), expected, "{case}");
                    let left = fs::read_dir(&directory).expect("readable").count();
                    assert_eq!(left, usize::from(expected.is_some()), "{case}");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        fs::remove_dir_all(&directory).expect("removable");
    }
}
