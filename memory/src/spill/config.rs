//! What a spill store is told when it is opened, and the sizes that follow from it.

use std::path::PathBuf;

use super::block::HEADER_BYTES;
use crate::error::{Error, Result};
use crate::plan::Plan;
pub use crate::plan::{SpillCodec as Codec, SpillIo as IoChoice};

/// Offsets and lengths of direct I/O are multiples of this, whatever the disk's own sector size.
pub(crate) const PAGE: usize = 4096;

/// What a spill store is told when it is opened.
#[derive(Debug, Clone)]
pub struct SpillConfig {
    /// Where spill files go, round robin by extent. At least one.
    pub directories: Vec<PathBuf>,
    /// The most bytes all spill files together may take; `None` is no bound but the disks'.
    pub max_bytes: Option<u64>,
    /// How blocks are compressed.
    pub codec: Codec,
    /// Which way bytes travel.
    pub io: IoChoice,
    /// The memory that all I/O goes through: fixed, committed at the first write, never given back before the
    /// store is dropped.
    pub workspace_bytes: usize,
    /// The size of one large write; smaller where the workspace does not give every handle four of them.
    pub write_bytes: usize,
    /// How many handles the workspace is laid out for. More may be open: slower where memory is short.
    pub handles: usize,
    /// The unit in which disk space is taken and recycled; also bounds a block ([`SpillConfig::max_block_bytes`]).
    pub extent_bytes: usize,
    /// What has to fit in one extent, however small the quota makes extents: a group of the largest records.
    pub group_bytes: usize,
}

impl Default for SpillConfig {
    fn default() -> Self {
        SpillConfig {
            directories: vec![std::env::temp_dir()],
            max_bytes: None,
            codec: Codec::Adaptive,
            io: IoChoice::Auto,
            workspace_bytes: 8 << 20,
            write_bytes: 512 << 10,
            handles: 4,
            extent_bytes: 4 << 20,
            group_bytes: 0,
        }
    }
}

/// What a plan says, laid out for at least as many handles as a job has subtasks.
impl From<&Plan> for SpillConfig {
    fn from(plan: &Plan) -> Self {
        let default = SpillConfig::default();
        SpillConfig {
            directories: plan.spill.directories.clone(),
            max_bytes: plan.spill.max_bytes,
            codec: plan.spill.codec,
            io: plan.spill.io,
            workspace_bytes: plan.spill.workspace_bytes,
            write_bytes: plan.spill.block_size,
            handles: plan.job.parallelism.max(default.handles),
            extent_bytes: default.extent_bytes.max(plan.spill_group_bytes()),
            group_bytes: plan.spill_group_bytes(),
        }
    }
}

impl SpillConfig {
    /// The largest payload that one block can hold with this configuration.
    pub fn max_block_bytes(&self) -> usize {
        self.geometry()
            .map(|geometry| geometry.max_block_bytes())
            .unwrap_or(0)
    }

    /// The sizes that follow, or what is wrong.
    pub(crate) fn geometry(&self) -> Result<Geometry> {
        if self.directories.is_empty() {
            return Err(Error::config(
                "spill.directories: the list is empty; name at least one directory",
            ));
        }
        let workspace_bytes = self.workspace_bytes & !(PAGE - 1);
        if workspace_bytes < 2 * PAGE {
            return Err(Error::config(format!(
                "spill.workspace_size: {} B is too small; use 8 KiB or more (default 8 MiB)",
                self.workspace_bytes
            )));
        }
        if workspace_bytes > 1 << 30 {
            return Err(Error::config(format!(
                "spill.workspace_size: {} B is too large; use 1 GiB or less (default 8 MiB)",
                self.workspace_bytes
            )));
        }
        let handles = self.handles.max(1);
        let buffer_bytes = (workspace_bytes / (4 * handles))
            .min(self.write_bytes)
            .clamp(PAGE, 1 << 20)
            & !(PAGE - 1);
        let slots = (2 * handles).min(workspace_bytes / buffer_bytes - 1);
        // A small quota is not used up by the few extents that handles have open; what has to fit in one still does.
        let least = self.group_bytes.max(1280 << 10) as u64;
        let most = self
            .max_bytes
            .map_or(usize::MAX, |quota| (quota / 16).max(least) as usize);
        let extent_bytes = self.extent_bytes.min(most) & !(PAGE - 1);
        if !(4 * PAGE..=1 << 30).contains(&extent_bytes) {
            return Err(Error::config(format!(
                "spill.extent: {} B is out of bounds; use 16 KiB to 1 GiB (default 4 MiB)",
                self.extent_bytes
            )));
        }
        Ok(Geometry {
            workspace_bytes,
            buffer_bytes: buffer_bytes.min(extent_bytes),
            slots,
            slots_per_handle: if slots >= 2 * handles { 2 } else { 1 },
            extent_bytes,
        })
    }
}

/// The sizes a store works with, derived from its configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// All memory for I/O, in bytes: whole pages.
    pub workspace_bytes: usize,
    /// One large write, in bytes: whole pages.
    pub buffer_bytes: usize,
    /// How many buffers are set aside for handles, besides a common one; the rest of the workspace is lent.
    pub slots: usize,
    /// How many of them a handle gets: 2, or 1 where there are not enough.
    pub slots_per_handle: usize,
    /// One extent, in bytes: whole pages.
    pub extent_bytes: usize,
}

impl Geometry {
    /// The largest part of a payload that one fragment holds.
    ///
    /// A fragment and its header fill whole pages, and never straddle a buffer. 64 KiB is the distance that LZ4
    /// looks back, bounds the scratch memory of a handle, and lets large blocks fill buffers to the end.
    pub fn fragment_bytes(&self) -> usize {
        self.buffer_bytes.min(64 << 10) - HEADER_BYTES
    }

    /// The most bytes that a payload takes in an extent, from any 64-byte boundary on.
    pub fn worst_span(&self, raw: usize) -> usize {
        let fragment = self.fragment_bytes();
        let (full, last) = (raw / fragment, raw % fragment);
        // The first fragment may be moved to the next page, where a new buffer starts.
        PAGE + full * (fragment + HEADER_BYTES).next_multiple_of(PAGE)
            + (last + HEADER_BYTES).next_multiple_of(PAGE)
    }

    /// The largest payload of one block.
    pub fn max_block_bytes(&self) -> usize {
        let per_fragment = self.fragment_bytes() + HEADER_BYTES;
        ((self.extent_bytes - 2 * PAGE) / per_fragment).min(u16::MAX as usize) * self.fragment_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_the_largest_records_fits_in_a_block() {
        for record_size in [1 << 10, 1 << 20, 16 << 20, 128 << 20] {
            let plan = Plan::with_segments_for(8192, 8, 32 << 10, record_size).expect("a plan");
            let most = SpillConfig::from(&plan).max_block_bytes();
            assert!(most >= 2 * record_size + 1024, "{record_size}: {most}");
        }
    }

    #[test]
    fn a_group_of_the_largest_records_fits_in_a_block_of_the_least_quota() {
        for record_size in ["1 KiB", "1 MiB", "100 MiB"] {
            let mut config = crate::Config::default();
            config.set(&format!("record.max_size={record_size}")).unwrap();
            let container = crate::Container {
                limit: None,
                ram: Some(crate::ByteSize::gib(16)),
                cores: 2,
                temporary_directory: "/tmp".into(),
            };
            let plan = Plan::prove(&config, &container).unwrap();
            let least = 2 * plan.spill_group_bytes();
            config.set(&format!("spill.max_bytes={least}")).unwrap();
            let plan = Plan::prove(&config, &container).expect("two subtasks can spill");
            let spill = SpillConfig::from(&plan);
            assert!(spill.max_block_bytes() >= 2 * plan.record.max_size + 1024);
            assert!(2 * spill.geometry().unwrap().extent_bytes as u64 <= least.max(2560 << 10) as u64);
            config.set(&format!("spill.max_bytes={}", least - 1)).unwrap();
            let error = Plan::prove(&config, &container).unwrap_err().to_string();
            assert!(
                error.starts_with("spill.max_bytes") && error.contains("record.max_size"),
                "{error}"
            );
            config.set("spill.max_bytes=0").unwrap();
            Plan::prove(&config, &container).expect("who wants no spilling may say so");
        }
    }

    #[test]
    fn a_plan_says_all_that_it_knows() {
        let plan = Plan::with_segments(64, 8, 32 << 10).expect("a plan of 64 segments");
        let config = SpillConfig::from(&plan);
        assert_eq!(config.workspace_bytes, plan.spill.workspace_bytes);
        assert_eq!(config.write_bytes, 512 << 10);
        assert_eq!(config.directories, plan.spill.directories);
        assert_eq!(config.handles, 4);
        let geometry = config.geometry().expect("a proved workspace is large enough");
        assert_eq!(geometry.buffer_bytes, 32 << 10);
    }
}
