//! The spill store: what all handles of a process share.
//!
//! # Interface
//! [`SpillStore::open`], then [`SpillStore::handle`] for every task that may spill. Opening costs nothing but a
//! reservation of address space: files, rings and memory come with the first write.
//!
//! # Memory
//! The workspace (`spill.workspace_size`), see its file; and up to 136 KiB of compression scratch for every handle that
//! has compressed something.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::config::{Geometry, SpillConfig};
use super::device::Device;
use super::handle::SpillHandle;
use super::medium::{Disk, Medium};
use super::simulated_disk::{SimulatedDisk, SimulatedFaults};
use super::space::Space;
use super::stats::{SpillStats, Totals};
use super::workspace::Workspace;
use crate::error::{Error, Result};

/// How many devices of dropped handles are kept for the next ones: a ring costs some 100 µs to make.
const IDLE_DEVICES: usize = 8;

/// Where tasks spill to. Cheap to clone; files and workspace go when the last clone and handle are gone.
#[derive(Clone)]
pub struct SpillStore {
    shared: Arc<Shared>,
}

/// What handles see of their store.
pub(crate) struct Shared {
    // Devices first: they are dropped before the workspace that is registered with them.
    idle: Mutex<Vec<Box<dyn Device>>>,
    pub medium: Medium,
    pub workspace: Arc<Workspace>,
    pub space: Space,
    pub geometry: Geometry,
    pub config: SpillConfig,
    pub totals: Totals,
    /// Handles that have done any I/O and are not dropped.
    pub active: AtomicUsize,
    next_handle: AtomicU64,
    next_sequence: AtomicU32,
}

impl SpillStore {
    /// A store on real disks.
    ///
    /// # Errors
    /// A size out of bounds, or a directory that is not there.
    pub fn open(config: &SpillConfig) -> Result<SpillStore> {
        let geometry = config.geometry()?;
        for directory in &config.directories {
            if !directory.is_dir() {
                return Err(Error::config(format!(
                    "spill.directories: {} is not a directory; make it or name another",
                    directory.display()
                )));
            }
        }
        SpillStore::on(Medium::Disk(Box::new(Disk::new(config.io))), geometry, config)
    }

    /// A store on a new simulated disk, for tests: in memory, and the same for the same seed and calls.
    pub fn simulated(seed: u64, faults: SimulatedFaults) -> SpillStore {
        let config = SpillConfig {
            directories: vec!["/simulated".into()],
            workspace_bytes: 256 << 10,
            write_bytes: 16 << 10,
            extent_bytes: 2 << 20,
            ..SpillConfig::default()
        };
        SpillStore::on_simulated(&SimulatedDisk::new(seed, faults), &config)
            .expect("the sizes above are within bounds")
    }

    /// A store on a simulated disk that the caller keeps, to see what was leaked.
    ///
    /// # Errors
    /// A size out of bounds.
    pub fn on_simulated(disk: &SimulatedDisk, config: &SpillConfig) -> Result<SpillStore> {
        SpillStore::on(Medium::Simulated(disk.clone()), config.geometry()?, config)
    }

    fn on(medium: Medium, geometry: Geometry, config: &SpillConfig) -> Result<SpillStore> {
        let shared = Shared {
            idle: Mutex::default(),
            medium,
            workspace: Workspace::new(&geometry)?,
            space: Space::new(
                config.directories.clone(),
                config.max_bytes,
                geometry.extent_bytes,
            ),
            geometry,
            config: config.clone(),
            totals: Totals::default(),
            active: AtomicUsize::new(0),
            next_handle: AtomicU64::new(1),
            next_sequence: AtomicU32::new(0),
        };
        Ok(SpillStore {
            shared: Arc::new(shared),
        })
    }

    /// A handle for one task; `owner` names its operator in messages.
    ///
    /// Any number may be open: one that finds no slots left in the workspace works through the common one, slowly.
    ///
    /// # Errors
    /// None yet; the signature leaves room for a bound on handles.
    pub fn handle(&self, owner: &str) -> Result<SpillHandle> {
        let id = self.shared.next_handle.fetch_add(1, Ordering::Relaxed);
        Ok(SpillHandle::new(
            self.shared.clone(),
            id,
            owner,
            self.shared.workspace.seat(),
        ))
    }

    /// The largest payload of one block.
    pub fn max_block_bytes(&self) -> usize {
        self.shared.geometry.max_block_bytes()
    }

    /// What all handles have done so far.
    pub fn stats(&self) -> SpillStats {
        self.shared.totals.snapshot()
    }

    /// Bytes that spill files take on disk now, recycled space included.
    pub fn allocated_bytes(&self) -> u64 {
        self.shared.space.bytes().0
    }

    /// Bytes of the extents that blocks, or handles, use now.
    pub fn used_bytes(&self) -> u64 {
        self.shared.space.bytes().1
    }

    /// Bytes of the workspace that no handle has now.
    pub fn free_workspace_bytes(&self) -> usize {
        self.shared.workspace.free_bytes()
    }
}

impl std::fmt::Debug for SpillStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (allocated, used) = self.shared.space.bytes();
        write!(f, "SpillStore({allocated} B on disk, {used} B in use)")
    }
}

impl Shared {
    /// A device: one that another handle is done with, or a new one.
    pub fn device(&self) -> Result<Box<dyn Device>> {
        if let Some(device) = self.idle().pop() {
            return Ok(device);
        }
        self.workspace.commit();
        self.medium.device(&self.workspace, self.config.directories.len())
    }

    /// Keeps a device, with nothing in flight, for the next handle.
    pub fn keep(&self, device: Box<dyn Device>) {
        debug_assert_eq!(device.in_flight(), 0);
        let mut idle = self.idle();
        if idle.len() < IDLE_DEVICES {
            idle.push(device);
        }
    }

    /// The next block's number.
    pub fn sequence(&self) -> u32 {
        self.next_sequence.fetch_add(1, Ordering::Relaxed)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Device>>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
