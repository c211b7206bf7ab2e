//! What a store's files and devices are made of: real disks, reached the configured way, or the simulated one.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::config::IoChoice;
use super::device::Device;
use super::file::{SpillFile, Storage};
use super::simulated_device::SimulatedDevice;
use super::simulated_disk::SimulatedDisk;
use super::threads::{Helpers, ThreadsDevice};
use super::uring::{Registration, UringDevice};
use super::workspace::Workspace;
use crate::error::{Error, Result};

/// Makes files and devices.
pub(crate) enum Medium {
    /// Real disks.
    Disk(Box<Disk>),
    /// Memory that behaves like a disk, faults included.
    Simulated(SimulatedDisk),
}

impl Medium {
    /// A new file in `directory`.
    ///
    /// # Errors
    /// What the operating system, or the simulated one, answered.
    pub fn create(&self, index: usize, directory: &Path) -> io::Result<SpillFile> {
        match self {
            Medium::Disk(_) => SpillFile::create(index, directory),
            Medium::Simulated(disk) => Ok(SpillFile {
                index,
                directory: directory.to_owned(),
                storage: Storage::Simulated(disk.create()?),
            }),
        }
    }

    /// A device for one handle.
    ///
    /// # Errors
    /// Where `spill.io` asks for io_uring and the kernel refuses it.
    pub fn device(&self, workspace: &Arc<Workspace>, directories: usize) -> Result<Box<dyn Device>> {
        match self {
            Medium::Disk(disk) => disk.device(|registration| {
                UringDevice::open(workspace, directories, registration)
                    .map(|device| Box::new(device) as Box<dyn Device>)
            }),
            Medium::Simulated(disk) => Ok(Box::new(SimulatedDevice::new(disk.clone()))),
        }
    }
}

/// The real side: how it was configured, and what its devices share.
pub(crate) struct Disk {
    io: IoChoice,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    helpers: Option<Arc<Helpers>>,
    /// io_uring was refused once: it is not asked again.
    refused: bool,
    registration: Registration,
}

impl Disk {
    pub fn new(io: IoChoice) -> Self {
        Disk {
            io,
            shared: Mutex::default(),
        }
    }

    /// A device, by way of `open_ring` unless helper threads were asked for or the kernel refuses rings.
    fn device(
        &self,
        open_ring: impl FnOnce(&mut Registration) -> io::Result<Box<dyn Device>>,
    ) -> Result<Box<dyn Device>> {
        let mut shared = self
            .shared
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.io != IoChoice::Threads && !shared.refused {
            match open_ring(&mut shared.registration) {
                Ok(device) => return Ok(device),
                Err(error) if self.io == IoChoice::IoUring => {
                    let message = "spill.io: the kernel refuses io_uring; use auto or threads";
                    return Err(Error::io(message, error));
                }
                Err(error) => {
                    tracing::info!(%error, "io_uring is refused; spilling through helper threads");
                    // Out of descriptors or memory is a state, not a refusal: ask again next time.
                    shared.refused = !matches!(
                        error.raw_os_error(),
                        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN)
                    );
                }
            }
        }
        let helpers = shared.helpers.get_or_insert_with(Helpers::new).clone();
        Ok(Box::new(ThreadsDevice::new(helpers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// What a container profile without io_uring answers.
    fn refuse(_: &mut Registration) -> io::Result<Box<dyn Device>> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    #[test]
    fn a_refused_ring_means_threads_unless_it_was_demanded() {
        let disk = Disk::new(IoChoice::Auto);
        assert_eq!(disk.device(refuse).unwrap().name(), "threads");
        assert_eq!(disk.device(|_| panic!("asked again")).unwrap().name(), "threads");
        let error = Disk::new(IoChoice::IoUring).device(refuse).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("spill.io"), "{error}");
        assert_eq!(
            Disk::new(IoChoice::Threads)
                .device(|_| panic!("asked"))
                .unwrap()
                .name(),
            "threads"
        );
    }
}
