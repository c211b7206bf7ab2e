//! Who has which piece of which spill file: extents, given out, counted and recycled.
//!
//! # Interface
//! A handle [`take`](Space::take)s an extent, [`add_block`](Space::add_block)s to it, [`seal`](Space::seal)s it when
//! it is full; [`free_block`](Space::free_block) may come from any handle. [`pin`](Space::pin) and
//! [`unpin`](Space::unpin) bracket every write. [`release`](Space::release) frees all that a handle still has.
//!
//! # Invariants
//! I1. An extent is recycled only when it is sealed, none of its blocks is live, and no write to it is in flight.
//! I2. The sizes of all extents add up to what counts against the quota. Files never shrink: recycling is
//!     cheaper than giving space back to a file system that discards.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::file::SpillFile;
use super::medium::Medium;
use crate::error::{Error, Result};

/// A file grows by this part of itself, so that a large one grows in few steps…
const GROW_SHARE: u64 = 4;
/// …of at most this: allocating 64 MiB at a time, first writes were 20 % faster than with 4 MiB, and with more no
/// faster.
const GROW_MOST: u64 = 64 << 20;

/// All extents of a store.
pub(crate) struct Space {
    directories: Vec<PathBuf>,
    max_bytes: Option<u64>,
    extent_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    files: Vec<Directory>,
    extents: Vec<Extent>,
    next_directory: usize,
}

#[derive(Default)]
struct Directory {
    file: Option<Arc<SpillFile>>,
    bytes: u64,
    /// Its free extents, last freed on top.
    free: Vec<u32>,
}

struct Extent {
    directory: usize,
    start: u64,
    owner: u64,
    live: u32,
    pins: u32,
    sealed: bool,
    used: bool,
}

impl Space {
    pub fn new(directories: Vec<PathBuf>, max_bytes: Option<u64>, extent_bytes: usize) -> Self {
        let files = directories.iter().map(|_| Directory::default()).collect();
        let inner = Mutex::new(Inner {
            files,
            ..Inner::default()
        });
        Space {
            directories,
            max_bytes,
            extent_bytes,
            inner,
        }
    }

    /// An extent for `owner` to write to: a recycled one, or a new one in the next directory that has room.
    ///
    /// # Errors
    /// The quota is used up, or no directory has room.
    pub fn take(&self, medium: &Medium, owner: u64) -> Result<u32> {
        let mut inner = self.lock();
        let number = self.next(&mut inner, medium)?;
        let extent = &mut inner.extents[number as usize];
        debug_assert!(!extent.used && extent.live == 0 && extent.pins == 0, "I1");
        (extent.owner, extent.sealed, extent.used) = (owner, false, true);
        Ok(number)
    }

    /// The file that holds an extent, and where in it.
    pub fn place(&self, extent: u32) -> Option<(Arc<SpillFile>, u64)> {
        let inner = self.lock();
        let extent = inner.extents.get(extent as usize)?;
        let file = inner.files[extent.directory].file.clone()?;
        Some((file, extent.start))
    }

    /// Counts a block into an extent.
    pub fn add_block(&self, extent: u32) {
        self.change(extent, |extent| extent.live += 1);
    }

    /// Counts a block of an extent as gone.
    pub fn free_block(&self, extent: u32) {
        self.change(extent, |extent| extent.live = extent.live.saturating_sub(1));
    }

    /// No more blocks will be added to an extent.
    pub fn seal(&self, extent: u32) {
        self.change(extent, |extent| extent.sealed = true);
    }

    /// A write to the extent starts.
    pub fn pin(&self, extent: u32) {
        self.change(extent, |extent| extent.pins += 1);
    }

    /// A write to the extent is over.
    pub fn unpin(&self, extent: u32) {
        self.change(extent, |extent| extent.pins -= 1);
    }

    /// Frees every extent of an owner that has nothing in flight any more.
    pub fn release(&self, owner: u64) {
        let mut inner = self.lock();
        let Inner { extents, files, .. } = &mut *inner;
        for (number, extent) in extents.iter_mut().enumerate() {
            if extent.used && extent.owner == owner {
                debug_assert_eq!(extent.pins, 0, "a handle waits for its writes first");
                (extent.live, extent.used) = (0, false);
                files[extent.directory].free.push(number as u32);
            }
        }
    }

    /// Bytes of all files, and bytes of extents in use.
    pub fn bytes(&self) -> (u64, u64) {
        let inner = self.lock();
        let free: usize = inner.files.iter().map(|directory| directory.free.len()).sum();
        let bytes = |extents: usize| extents as u64 * self.extent_bytes as u64;
        (bytes(inner.extents.len()), bytes(inner.extents.len() - free))
    }

    fn change(&self, number: u32, change: impl FnOnce(&mut Extent)) {
        let mut inner = self.lock();
        let Some(extent) = inner.extents.get_mut(number as usize) else {
            return;
        };
        change(extent);
        if extent.used && extent.sealed && extent.live == 0 && extent.pins == 0 {
            extent.used = false;
            let directory = extent.directory;
            inner.files[directory].free.push(number);
        }
    }

    /// An extent that nobody uses: a recycled one of the next directory, or a new one.
    ///
    /// A directory whose file is smaller than another's grows before that one's free extents are used, so that
    /// all disks take part.
    fn next(&self, inner: &mut Inner, medium: &Medium) -> Result<u32> {
        let left = self.extents_left(inner);
        let largest = inner
            .files
            .iter()
            .map(|directory| directory.bytes)
            .max()
            .unwrap_or(0);
        for _ in 0..self.directories.len() {
            let directory = inner.rotate();
            if let Some(number) = inner.files[directory].free.pop() {
                return Ok(number);
            }
            if inner.files[directory].bytes < largest
                && let Ok(number) = self.grow(inner, medium, directory, left)
            {
                return Ok(number);
            }
        }
        if let Some(number) = inner.files.iter_mut().find_map(|directory| directory.free.pop()) {
            return Ok(number);
        }
        if let Some(max_bytes) = self.max_bytes.filter(|_| left == 0) {
            let bytes = self.extent_bytes;
            let allocated = inner.extents.len() * bytes;
            return Err(Error::memory(format!(
                "spill.max_bytes: {allocated} B are in use and {bytes} B more are needed, the quota is \
                 {max_bytes} B; raise spill.max_bytes or memory.managed_size"
            )));
        }
        let mut refusal = None;
        for _ in 0..self.directories.len() {
            let directory = inner.rotate();
            match self.grow(inner, medium, directory, left) {
                Ok(number) => return Ok(number),
                Err(error) => refusal = Some((directory, error)),
            }
        }
        let (directory, error) = refusal.expect("there is at least one directory");
        Err(disk_error(
            "cannot take more space in",
            &self.directories[directory],
            error,
        ))
    }

    /// How many more extents the quota allows.
    fn extents_left(&self, inner: &Inner) -> u64 {
        let Some(max_bytes) = self.max_bytes else {
            return u64::MAX;
        };
        (max_bytes / self.extent_bytes as u64).saturating_sub(inner.extents.len() as u64)
    }

    /// A new extent of a directory, and some more for later where its file is large already; `left` at most.
    fn grow(&self, inner: &mut Inner, medium: &Medium, directory: usize, left: u64) -> io::Result<u32> {
        if left == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let ahead = (inner.files[directory].bytes / GROW_SHARE).min(GROW_MOST) / self.extent_bytes as u64;
        // Where there is no room for several, there may be for one.
        let grown = self.grow_by(inner, medium, directory, ahead.clamp(1, left));
        grown.or_else(|_| self.grow_by(inner, medium, directory, 1))
    }

    /// Grows a directory's file by `count` extents; returns the first, the others become free.
    fn grow_by(&self, inner: &mut Inner, medium: &Medium, directory: usize, count: u64) -> io::Result<u32> {
        let extent_bytes = self.extent_bytes as u64;
        let Directory { file, bytes, free } = &mut inner.files[directory];
        let file = match file {
            Some(file) => file,
            None => file.insert(Arc::new(medium.create(directory, &self.directories[directory])?)),
        };
        file.grow(*bytes, count * extent_bytes)?;
        let first = inner.extents.len() as u32;
        for number in 0..count {
            let start = *bytes + number * extent_bytes;
            let extent = Extent {
                directory,
                start,
                owner: 0,
                live: 0,
                pins: 0,
                sealed: false,
                used: false,
            };
            inner.extents.push(extent);
        }
        *bytes += count * extent_bytes;
        free.extend((first + 1..first + count as u32).rev());
        Ok(first)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic may interrupt here leaves the tables whole.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// The directory whose turn it is.
    fn rotate(&mut self) -> usize {
        let directory = self.next_directory;
        self.next_directory = (directory + 1) % self.files.len();
        directory
    }
}

/// An I/O error of a spill directory, with what to do about it.
pub(crate) fn disk_error(what: &str, directory: &std::path::Path, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero => {
            "free space there, name another directory in spill.directories, or raise memory.managed_size"
        }
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a writable directory in spill.directories"
        }
        _ => "check the disk, or name another directory in spill.directories",
    };
    Error::io(
        format!("spill directory {}: {what} it; {remedy}", directory.display()),
        error,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::{SimulatedDisk, SimulatedFaults};

    #[test]
    fn extents_go_round_the_directories_and_come_back() {
        let disk = SimulatedDisk::new(1, SimulatedFaults::default());
        let medium = Medium::Simulated(disk.clone());
        let directories: Vec<PathBuf> = (0..3).map(|number| format!("/disk{number}").into()).collect();
        let space = Space::new(directories, Some(100 << 20), 1 << 20);
        let mut used = vec![0; 3];
        let mut places = std::collections::HashSet::new();
        for _ in 0..100 {
            let extent = space.take(&medium, 1).unwrap();
            let (file, offset) = space.place(extent).unwrap();
            used[file.index] += 1;
            assert!(
                places.insert((file.index, offset)),
                "an extent was given out twice"
            );
        }
        assert!(space.take(&medium, 1).is_err(), "the quota is used up");
        assert!(used.iter().all(|count| (20..=50).contains(count)), "{used:?}");
        assert_eq!(disk.report().file_bytes, 100 << 20);
        space.release(1);
        assert_eq!(space.bytes(), (100 << 20, 0));
        for _ in 0..100 {
            space.take(&medium, 2).unwrap();
        }
        assert_eq!(disk.report().file_bytes, 100 << 20);
    }
}
