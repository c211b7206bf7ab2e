//! Scratch files: input written before anything is measured, that no crash can leave behind.
//!
//! The file is unlinked as soon as it is created; this process and its children open it again through
//! `/proc/<id>/fd/<n>` until the [`Scratch`] is dropped.

use forebay_memory::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file without a name.
pub struct Scratch {
    _file: File,
    path: PathBuf,
    bytes: u64,
}

impl Scratch {
    /// A file in the temporary directory (`TMPDIR`) that holds what `write` writes; `write` answers how many bytes.
    ///
    /// # Errors
    /// Where it cannot be created or written.
    pub fn write(write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<u64>) -> Result<Scratch> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("forebay-bench-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
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
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        Ok(Scratch {
            _file: file,
            path,
            bytes,
        })
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
}
