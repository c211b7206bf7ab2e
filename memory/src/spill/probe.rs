//! How fast a directory's disk is when nothing but large direct transfers is asked of it: the limit that results are
//! stated as a share of.
//!
//! # Algorithm
//! A file like the store's own, allocated first; written from start to end, read from start to end, and then read
//! and written alternately, each with `depth` transfers in flight through the store's own device. What the disk
//! does in a burst is not what it does all day: give it as many bytes as the run to be judged.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::config::{Geometry, IoChoice, PAGE};
use super::device::{Completion, Memory, Payload, Transfer};
use super::file::SpillFile;
use super::medium::{Disk, Medium};
use super::space::disk_error;
use super::workspace::{Buffer, Workspace};
use crate::error::{Error, Result};

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskBandwidth {
    /// Sequential writes alone.
    pub write_bytes_per_second: f64,
    /// Sequential reads alone.
    pub read_bytes_per_second: f64,
    /// Reads and writes in turn, both counted.
    pub mixed_bytes_per_second: f64,
    /// Which way bytes travelled.
    pub io: &'static str,
}

/// Measures `directory`'s disk with transfers of `block_bytes`, `depth` of them in flight, over a file of
/// `bytes`, which is written once, read once, and half read and half written once more.
///
/// # Errors
/// Sizes out of bounds, or what the disk answered.
pub fn probe(directory: &Path, block_bytes: usize, depth: usize, bytes: u64) -> Result<DiskBandwidth> {
    let block_bytes = block_bytes.next_multiple_of(PAGE);
    let depth = depth.max(1);
    if block_bytes.saturating_mul(depth) > 1 << 30 {
        return Err(Error::config(format!(
            "disk probe: {depth} blocks of {block_bytes} B are over 1 GiB; use fewer or smaller ones"
        )));
    }
    let geometry = Geometry {
        workspace_bytes: block_bytes * (depth + 1),
        buffer_bytes: block_bytes,
        slots: 0,
        slots_per_handle: 0,
        extent_bytes: block_bytes,
    };
    let workspace = Workspace::new(&geometry)?;
    workspace.commit();
    let file =
        Arc::new(SpillFile::create(0, directory).map_err(|e| disk_error("cannot probe", directory, e))?);
    let blocks = (bytes / block_bytes as u64).max(depth as u64);
    file.grow(0, blocks * block_bytes as u64)
        .map_err(|e| disk_error("cannot probe", directory, e))?;
    let medium = Medium::Disk(Box::new(Disk::new(IoChoice::Auto)));
    let mut probe = Probe {
        device: medium.device(&workspace, 1)?,
        workspace,
        file,
        block_bytes,
        blocks,
    };
    let io = probe.device.name();
    Ok(DiskBandwidth {
        write_bytes_per_second: probe.run(|_| true)?,
        read_bytes_per_second: probe.run(|_| false)?,
        mixed_bytes_per_second: probe.run(|block| block % 2 == 0)?,
        io,
    })
}

struct Probe {
    device: Box<dyn super::device::Device>,
    workspace: Arc<Workspace>,
    file: Arc<SpillFile>,
    block_bytes: usize,
    blocks: u64,
}

impl Probe {
    /// Moves every block once, written or read as `writes` says; returns bytes per second.
    fn run(&mut self, writes: impl Fn(u64) -> bool) -> Result<f64> {
        let mut free: VecDeque<Buffer> = VecDeque::new();
        while let Some(mut buffer) = self.workspace.try_lend(self.block_bytes) {
            // Noise, so that no disk below compresses or leaves out what is written.
            let mut state = 1u64;
            for word in buffer.as_chunks_mut::<8>().0 {
                state = state
                    .wrapping_mul(0x5851_f42d_4c95_7f2d)
                    .wrapping_add(0x1405_7b7e_f767_814f);
                *word = state.to_le_bytes();
            }
            free.push_back(buffer);
        }
        let start = Instant::now();
        let (mut next, mut over) = (0, 0);
        let mut done = Vec::new();
        while over < self.blocks {
            while next < self.blocks
                && let Some(buffer) = free.pop_front()
            {
                let range = 0..self.block_bytes;
                let payload = match writes(next) {
                    true => Payload::Write(Arc::new(buffer), range),
                    false => Payload::Read(Memory::Buffer(buffer), range),
                };
                let offset = next * self.block_bytes as u64;
                self.device.submit(Transfer {
                    ticket: next,
                    file: self.file.clone(),
                    offset,
                    payload,
                });
                next += 1;
            }
            self.device.complete(true, &mut done);
            for Completion { payload, result, .. } in done.drain(..) {
                result.map_err(|error| disk_error("cannot probe", &self.file.directory, error))?;
                over += 1;
                free.push_back(match payload {
                    Payload::Write(buffer, _) => Arc::into_inner(buffer).expect("only the device shared it"),
                    Payload::Read(Memory::Buffer(buffer), _) => buffer,
                    Payload::Read(Memory::Segments(_), _) => unreachable!("the probe reads into buffers"),
                });
            }
        }
        Ok((self.blocks * self.block_bytes as u64) as f64 / start.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_measures_and_leaves_nothing() {
        let directory = std::env::temp_dir().join(format!("forebay-spill-probe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let found = probe(&directory, 64 << 10, 4, 1 << 20).unwrap();
        assert!(
            found.write_bytes_per_second > 0.0 && found.read_bytes_per_second > 0.0,
            "{found:?}"
        );
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::remove_dir(&directory).unwrap();
        assert!(probe(Path::new("/nonexistent"), 4096, 1, 4096).is_err());
    }
}
