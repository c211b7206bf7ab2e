//! Who writes a directory: a lock for each file sink that does, and what is done about the files of those that died.
//!
//! # Interface
//! [`Writer::enter`] puts a lock into the directory, and settles what dead writers have left. The hidden files of a writer
//! bear its id: [`Writer::hidden`], [`Writer::replaced`], [`Writer::committed`]. [`Writer::leave`] takes the lock away.
//!
//! # Algorithm
//! 1. A writer holds an advisory lock on `.<id>.lock`, which the kernel releases when the process ends, however it ends. Only a
//!    writer whose lock can be had is dead: neither ids of processes nor times are looked at, so that processes in
//!    other containers count, too.
//! 2. Entering is under a lock on the directory itself, so that nobody sees a lock file that is not locked yet. Publishing is, too
//!    ([`Writer::alone`]), so that of two writers that give files the same names the second one sees those of the first.
//! 3. A dead writer that had committed (there is `.<id>.committed`) had written everything: its other files get their names, and
//!    what they replace goes. Of one that had not, its files go, and what they were to replace comes back.
//! 4. Hidden files without a lock file are nobody's business. Where the file system has no locks, nothing is settled. Network
//!    file systems are among those: NFS locks only files that are open for writing, which a directory never is.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const LOCK: &str = ".lock";
const IN_PROGRESS: &str = ".in-progress";
const REPLACED: &str = ".replaced";
const COMMITTED: &str = ".committed";

/// One file sink in one job, as the directory knows it.
pub(super) struct Writer {
    directory: PathBuf,
    id: String,
    /// Held while the sink is at work; `None` where the file system has no locks.
    _lock: Option<File>,
}

impl Writer {
    /// Enters the directory, which is there, and settles what dead writers have left in it.
    pub(super) fn enter(directory: &Path) -> io::Result<Writer> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let entrance = alone_in(directory)?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut writer = Writer {
                directory: directory.to_path_buf(),
                id: format!("{:x}-{number}", std::process::id()),
                _lock: None,
            };
            if entrance.is_none() {
                return Ok(writer);
            }
            match File::create_new(writer.lock()) {
                Ok(file) => {
                    match file.lock() {
                        Ok(()) => writer._lock = Some(file),
                        // Others would take the lock file for that of a dead writer.
                        Err(error) if has_no_locks(&error) => remove(&writer.lock())?,
                        Err(error) => return Err(error),
                    }
                    return Ok(writer);
                }
                // A process in another container has the same id.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Has the directory to itself until what it answers is dropped: nobody enters, settles or publishes meanwhile. What dead
    /// writers have left is settled, so that every name that is taken can be seen. `None` where the file system has no
    /// locks.
    pub(super) fn alone(&self) -> io::Result<Option<File>> {
        alone_in(&self.directory)
    }

    /// Takes the lock away: nothing of this writer is left to be settled.
    pub(super) fn leave(&self) {
        // Who enters next would take it away, too.
        let _ = fs::remove_file(self.lock());
    }

    fn lock(&self) -> PathBuf {
        self.directory.join(format!(".{}{LOCK}", self.id))
    }

    /// Where the file that will be called `name` is while it is written.
    pub(super) fn hidden(&self, name: &str) -> PathBuf {
        self.directory.join(format!(".{name}.{}{IN_PROGRESS}", self.id))
    }

    /// Where the file that was called `name` is until the new ones are in place.
    pub(super) fn replaced(&self, name: &str) -> PathBuf {
        self.directory.join(format!(".{name}.{}{REPLACED}", self.id))
    }

    /// The file whose being there says that every new file is complete, and every old one out of the way.
    pub(super) fn committed(&self) -> PathBuf {
        self.directory.join(format!(".{}{COMMITTED}", self.id))
    }
}

/// See [`Writer::alone`].
fn alone_in(directory: &Path) -> io::Result<Option<File>> {
    let entrance = File::open(directory)?;
    match entrance.lock() {
        Ok(()) => {}
        Err(error) if has_no_locks(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    settle(directory)?;
    Ok(Some(entrance))
}

/// Whether locking failed because the file system has no locks, at least none on directories: NFS answers `EBADF` for a
/// file that is not open for writing, and `ENOLCK` where nobody keeps its locks.
fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOLCK))
}

/// Brings what dead writers had begun to its end, or back to its start.
fn settle(directory: &Path) -> io::Result<()> {
    for lock in &names_in(directory)? {
        let Some(id) = lock.strip_prefix('.').and_then(|name| name.strip_suffix(LOCK)) else {
            continue;
        };
        if !is_id(id) {
            continue;
        }
        let path = directory.join(lock);
        let file = match File::open(&path) {
            Ok(file) => file,
            // Its writer has left meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {
                // Before its lock could be had it may have committed, or left.
                settle_writer(directory, id, &names_in(directory)?)?;
                remove(&path)?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

fn settle_writer(directory: &Path, id: &str, names: &[String]) -> io::Result<()> {
    let committed = format!(".{id}{COMMITTED}");
    let was_committed = names.contains(&committed);
    for hidden in names {
        // `.<name>.<id>.in-progress`, `.<name>.<id>.replaced`
        let of = |suffix: &str| {
            hidden
                .strip_prefix('.')?
                .strip_suffix(suffix)?
                .strip_suffix(id)?
                .strip_suffix('.')
        };
        let path = directory.join(hidden);
        match (of(IN_PROGRESS), of(REPLACED)) {
            (Some(name), _) if was_committed => fs::rename(&path, directory.join(name))?,
            (_, Some(name)) if !was_committed => fs::rename(&path, directory.join(name))?,
            (Some(_), _) | (_, Some(_)) => remove(&path)?,
            (None, None) => {}
        }
    }
    if was_committed {
        remove(&directory.join(committed))?;
    }
    Ok(())
}

/// Whether a lock's name is one that [`Writer::enter`] gives.
fn is_id(text: &str) -> bool {
    let is_number = |part: &str, radix| u64::from_str_radix(part, radix).is_ok();
    (text.split_once('-')).is_some_and(|(process, number)| is_number(process, 16) && is_number(number, 10))
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed with all it holds.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("forebay-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a scratch directory");
            Directory(path)
        }

        fn write(&self, name: &str, content: &str) {
            fs::write(self.0.join(name), content).expect("a scratch file");
        }

        /// Names and contents, sorted.
        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("it is there");
            let mut files: Vec<String> = entries
                .map(|entry| {
                    let entry = entry.expect("an entry");
                    let content = fs::read_to_string(entry.path()).expect("a text");
                    format!("{}={content}", entry.file_name().to_string_lossy())
                })
                .collect();
            files.sort();
            files
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_writer_that_died_before_its_commit_is_undone() {
        let directory = Directory::new("undone");
        for (name, content) in [
            (".1f-7.lock", ""),
            (".part-0-0.csv.1f-7.in-progress", "new"),
            (".part-0-1.csv.1f-7.in-progress", "new"),
            (".part-0-0.csv.1f-7.replaced", "old"),
            ("part-1-0.csv", "old"),
            // Of writers without a lock, and of others than writers.
            (".part-0-0.csv.11f-7.in-progress", "other"),
            (".mine.lock", ""),
        ] {
            directory.write(name, content);
        }
        let writer = Writer::enter(&directory.0).expect("the directory is writable");
        writer.leave();
        assert_eq!(
            directory.files(),
            [
                ".mine.lock=",
                ".part-0-0.csv.11f-7.in-progress=other",
                "part-0-0.csv=old",
                "part-1-0.csv=old"
            ]
        );
    }

    #[test]
    fn a_writer_that_died_after_its_commit_is_completed() {
        let directory = Directory::new("completed");
        for (name, content) in [
            (".1f-7.lock", ""),
            (".1f-7.committed", ""),
            ("part-0-0", "new"),
            (".part-0-1.1f-7.in-progress", "new"),
            (".part-0-0.1f-7.replaced", "old"),
            (".part-1-0.1f-7.replaced", "old"),
        ] {
            directory.write(name, content);
        }
        Writer::enter(&directory.0)
            .expect("the directory is writable")
            .leave();
        assert_eq!(directory.files(), ["part-0-0=new", "part-0-1=new"]);
    }

    #[test]
    fn file_systems_without_locks_on_directories_are_known_by_their_errors() {
        for code in [libc::EOPNOTSUPP, libc::ENOSYS, libc::EBADF, libc::ENOLCK] {
            assert!(has_no_locks(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [libc::EIO, libc::EINTR, libc::ENOENT, libc::ENOSPC] {
            assert!(!has_no_locks(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }

    #[test]
    fn a_living_writer_is_left_alone() {
        let directory = Directory::new("living");
        let living = Writer::enter(&directory.0).expect("the directory is writable");
        fs::write(living.hidden("part-0-0"), "new").expect("the directory is writable");
        Writer::enter(&directory.0).expect("it has room for two").leave();
        assert_eq!(directory.files().len(), 2, "{:?}", directory.files());
        // It dies: what it has is not its own any more.
        drop(living);
        Writer::enter(&directory.0)
            .expect("the directory is writable")
            .leave();
        assert_eq!(directory.files(), Vec::<String>::new());
    }
}
