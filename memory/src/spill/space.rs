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
    /// Free extents, last freed on top.
    free: Vec<u32>,
    next_directory: usize,
}

#[derive(Default)]
struct Directory {
    file: Option<Arc<SpillFile>>,
    bytes: u64,
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
        let number = match inner.free.pop() {
            Some(number) => number,
            None => self.grow(&mut inner, medium)?,
        };
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
        let Inner { extents, free, .. } = &mut *inner;
        for (number, extent) in extents.iter_mut().enumerate() {
            if extent.used && extent.owner == owner {
                debug_assert_eq!(extent.pins, 0, "a handle waits for its writes first");
                (extent.live, extent.used) = (0, false);
                free.push(number as u32);
            }
        }
    }

    /// Bytes of all files, and bytes of extents in use.
    pub fn bytes(&self) -> (u64, u64) {
        let inner = self.lock();
        let all = inner.extents.len() as u64 * self.extent_bytes as u64;
        (all, all - inner.free.len() as u64 * self.extent_bytes as u64)
    }

    fn change(&self, number: u32, change: impl FnOnce(&mut Extent)) {
        let mut inner = self.lock();
        let Some(extent) = inner.extents.get_mut(number as usize) else {
            return;
        };
        change(extent);
        if extent.used && extent.sealed && extent.live == 0 && extent.pins == 0 {
            extent.used = false;
            inner.free.push(number);
        }
    }

    fn grow(&self, inner: &mut Inner, medium: &Medium) -> Result<u32> {
        let bytes = self.extent_bytes as u64;
        let allocated = inner.extents.len() as u64 * bytes;
        if let Some(max_bytes) = self.max_bytes.filter(|max_bytes| allocated + bytes > *max_bytes) {
            return Err(Error::memory(format!(
                "spill.max_bytes: {allocated} B are in use and {bytes} B more are needed, the quota is \
                 {max_bytes} B; raise spill.max_bytes or memory.managed_size"
            )));
        }
        let mut refusal = None;
        for _ in 0..self.directories.len() {
            let directory = inner.next_directory;
            inner.next_directory = (directory + 1) % self.directories.len();
            match self.grow_in(inner, medium, directory) {
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

    fn grow_in(&self, inner: &mut Inner, medium: &Medium, directory: usize) -> io::Result<u32> {
        let Directory { file, bytes } = &mut inner.files[directory];
        let file = match file {
            Some(file) => file,
            None => file.insert(Arc::new(medium.create(directory, &self.directories[directory])?)),
        };
        file.grow(*bytes, self.extent_bytes as u64)?;
        let extent = Extent {
            directory,
            start: *bytes,
            owner: 0,
            live: 0,
            pins: 0,
            sealed: false,
            used: false,
        };
        *bytes += self.extent_bytes as u64;
        inner.extents.push(extent);
        Ok(inner.extents.len() as u32 - 1)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic may interrupt here leaves the tables whole.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
