//! A spill file on a real disk: unlinked from birth, direct where the file system allows it, grown by extents.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::PAGE;
use super::simulated_disk::SimulatedFile;

/// Where the bytes of a spill file are.
pub(crate) enum Storage {
    /// A file without a name: the kernel frees it with its last descriptor, however the process ends.
    Disk(File),
    /// A file of the simulated disk.
    Simulated(SimulatedFile),
}

/// One spill file of a directory.
pub(crate) struct SpillFile {
    /// The directory's index in the configuration; also the file's index for devices that register files.
    pub index: usize,
    /// The directory, for messages.
    pub directory: PathBuf,
    pub storage: Storage,
}

impl SpillFile {
    /// A new file in `directory`, which has no name there, or has lost it when this returns.
    ///
    /// # Errors
    /// What the operating system answered when every way was tried.
    pub fn create(index: usize, directory: &Path) -> io::Result<SpillFile> {
        let file = create_unnamed(directory)?;
        Ok(SpillFile {
            index,
            directory: directory.to_owned(),
            storage: Storage::Disk(file),
        })
    }

    /// The open file, where it is on a disk.
    pub fn disk(&self) -> Option<&File> {
        match &self.storage {
            Storage::Disk(file) => Some(file),
            Storage::Simulated(_) => None,
        }
    }

    /// Gives the file `bytes` more room from `from`, its present size, on: allocated, so that writes there do not
    /// run out of space later.
    ///
    /// # Errors
    /// What the operating system answered; the file is as before, or has room that is not used.
    pub fn grow(&self, from: u64, bytes: u64) -> io::Result<()> {
        let file = match &self.storage {
            Storage::Disk(file) => file,
            Storage::Simulated(file) => return file.grow(bytes),
        };
        // SAFETY: a plain system call on a descriptor that `file` keeps open; no memory is passed.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, from as i64, bytes as i64) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // The file system cannot allocate ahead: running out of space then shows when data is written.
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => file.set_len(from + bytes),
            error => Err(error),
        }
    }
}

/// `O_TMPFILE`, or created and unlinked at once; `O_DIRECT`, or buffered: the first that works.
fn create_unnamed(directory: &Path) -> io::Result<File> {
    let mut refusal = None;
    for direct in [libc::O_DIRECT, 0] {
        let unnamed = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE | libc::O_EXCL | direct)
            .open(directory);
        match unnamed {
            Ok(file) => match usable(&file, direct != 0) {
                Ok(()) => return Ok(file),
                Err(error) => refusal = Some(error),
            },
            Err(error) => refusal = Some(error),
        }
    }
    let refusal = refusal.expect("both ways were tried");
    // EISDIR: a kernel or file system without O_TMPFILE; EINVAL: one that knows neither flag.
    if !matches!(
        refusal.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
    ) {
        return Err(refusal);
    }
    create_and_unlink(directory, libc::O_DIRECT).or_else(|_| create_and_unlink(directory, 0))
}

fn create_and_unlink(directory: &Path, direct: i32) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!(".forebay-spill-{}-{number}", std::process::id()));
    // A leftover of a killed process with the same number, killed between the next two calls.
    let _ = std::fs::remove_file(&path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(direct)
        .open(&path);
    let _ = std::fs::remove_file(&path);
    let file = file?;
    usable(&file, direct != 0)?;
    Ok(file)
}

/// Some file systems accept `O_DIRECT` and then want more than page alignment; a read at the end tells.
fn usable(file: &File, direct: bool) -> io::Result<()> {
    if !direct {
        return Ok(());
    }
    #[repr(align(4096))]
    struct Page([u8; PAGE]);
    let mut page = Page([0; PAGE]);
    std::os::unix::fs::FileExt::read_at(file, &mut page.0, 0).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_left_by_either_way() {
        let directory = std::env::temp_dir().join(format!("forebay-spill-file-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let first = SpillFile::create(0, &directory).unwrap();
        first.grow(0, 1 << 20).unwrap();
        let second = create_and_unlink(&directory, 0).unwrap();
        assert_eq!(first.disk().unwrap().metadata().unwrap().len(), 1 << 20);
        assert_eq!(second.metadata().unwrap().len(), 0);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn a_missing_directory_is_named_by_its_error() {
        assert_eq!(
            SpillFile::create(0, Path::new("/nonexistent/forebay"))
                .err()
                .unwrap()
                .kind(),
            io::ErrorKind::NotFound
        );
    }
}
