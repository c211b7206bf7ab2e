//! Means for a job to run on: few segments, and a disk that is simulated.
//!
//! # Interface
//! [`Means::draw`] from a seed, then [`Means::runtime`]; [`Means::check_returned`] when the job is over.

use forebay::Runtime;
use forebay::simulator::Random;
use forebay_memory::spill::{Codec, SimulatedDisk, SimulatedFaults, SpillConfig};
use forebay_memory::{MemoryManager, Plan, SpillStore};

/// What a job gets, in numbers.
#[derive(Debug, Clone)]
pub struct Means {
    /// Bytes of a segment.
    pub segment_size: usize,
    /// Managed segments.
    pub managed: usize,
    /// Network segments.
    pub network: usize,
    /// The disk.
    pub faults: SimulatedFaults,
    /// The spill store.
    pub spill: SpillConfig,
    /// Of the disk.
    pub seed: u64,
}

impl Means {
    /// Means for a job with `hungry` subtasks that need `least` managed segments together: little more than that, and
    /// a disk that works, if slowly.
    pub fn draw(random: &mut Random, hungry: usize, least: usize) -> Means {
        let write_bytes = 4096 << random.below(3);
        let handles = hungry.max(1);
        let spill = SpillConfig {
            directories: (0..1 + random.below(3))
                .map(|number| format!("/simulated/{number}").into())
                .collect(),
            workspace_bytes: handles * write_bytes * (4 + random.below(3)),
            write_bytes,
            handles,
            extent_bytes: 128 << (10 + random.below(4)),
            codec: [Codec::Adaptive, Codec::None, Codec::Lz4][random.below(3)],
            ..SpillConfig::default()
        };
        let roominess = [1, 4, 40, 400][random.below(4)];
        Means {
            segment_size: 4096 << random.below(3),
            managed: least + random.below(roominess * handles) + 1,
            network: 1024,
            faults: SimulatedFaults {
                delays: random.below(2) == 0,
                short_one_in: [0, 0, 20][random.below(3)],
                ..SimulatedFaults::default()
            },
            spill,
            seed: random.next_u64(),
        }
    }

    /// Adds faults that a job cannot survive once it meets them.
    pub fn add_deadly_faults(&mut self, random: &mut Random) {
        let rate = 1 + random.below(60) as u32;
        let faults = &mut self.faults;
        match random.below(7) {
            0 => faults.write_error_one_in = rate,
            1 => faults.read_error_one_in = rate,
            2 => faults.no_space_one_in = rate,
            3 => faults.torn_one_in = rate,
            4 => faults.bit_flip_one_in = rate,
            5 => faults.capacity_bytes = Some((random.below(8) * self.spill.extent_bytes) as u64),
            _ => faults.refuse_files = true,
        }
    }

    /// A runtime with these means, and its disk.
    pub fn runtime(&self) -> (Runtime, SimulatedDisk) {
        // The plan's sizes bound a record, which says what an operator needs; what there is, the manager says.
        let record_size = 2 * self.segment_size;
        let plan =
            Plan::with_segments_for(self.managed.max(64), self.network, self.segment_size, record_size)
                .expect("the sizes drawn make a plan");
        let manager = MemoryManager::with_segments(self.managed, self.network, self.segment_size)
            .expect("the plan's memory is to be had");
        let disk = SimulatedDisk::new(self.seed, self.faults);
        let spill = SpillStore::on_simulated(&disk, &self.spill).expect("the sizes drawn are within bounds");
        (Runtime::from_parts(plan, manager, spill), disk)
    }

    /// Asserts that a job gave everything back.
    pub fn check_returned(runtime: Runtime, disk: &SimulatedDisk) {
        assert_eq!(runtime.manager().outstanding(), 0, "segments are out");
        assert_eq!(runtime.spill().used_bytes(), 0, "spill space is in use");
        assert_eq!(disk.report().in_flight, 0, "transfers are in flight");
        drop(runtime);
        assert_eq!(disk.report().open_files, 0, "spill files are left");
    }
}
