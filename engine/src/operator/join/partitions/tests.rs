//! Tests of [`Partitions`](super::Partitions): when all of them become one.

use super::*;
use forebay_memory::hash::hash_u64;
use forebay_memory::spill::SimulatedFaults;
use forebay_memory::{MemoryManager, SpillStore};

const SEGMENT: usize = 4096;
const SEGMENTS: usize = 256;
const BITS: u32 = 4;

/// Few build rows are in one table, with all rows; not where there is no room for it, where a probe row came before, or where there are many.
#[test]
fn few_build_rows_become_one_partition() {
    let shape = EntryShape::new(16, 8, false);
    let store = SpillStore::simulated(1, SimulatedFaults::default());
    for (rows, early, taken, becomes_one) in [
        (1, 0, 0, true),
        (5_000, 0, 0, true),
        (5_000, 1, 0, false),
        (5_000, 0, 200, false),
        (7_000, 0, 0, false),
    ] {
        let mut handle = store.handle("join").expect("the store has handles");
        let manager = MemoryManager::with_segments(SEGMENTS, 0, SEGMENT).expect("a pool");
        let other = manager.budget("other", 0, SEGMENTS).expect("none is needed");
        let held: Vec<Segment> = (0..taken).map_while(|_| other.try_take()).collect();
        assert_eq!(held.len(), taken);
        let budget = manager.budget("join", 16, SEGMENTS).expect("segments");
        let mut partitions = Partitions::new(0, BITS, [shape; 2], Marks::None, budget);
        for (role, count) in [(Role::Build, rows), (Role::Probe, early)] {
            let bytes: Vec<u8> = (0..count)
                .flat_map(|key: u64| [key, key].map(u64::to_le_bytes))
                .flatten()
                .collect();
            let hashes: Vec<u64> = (0..count).map(hash_u64).collect();
            let mut targets = Vec::new();
            partitions.targets(&hashes, &mut targets);
            let appended = partitions.append_plain(role, &bytes, &targets, &mut handle);
            appended.expect("the disk works");
        }
        partitions.merge_small(SEGMENTS);
        assert_eq!(
            partitions.len() == 1,
            becomes_one,
            "{rows} rows, {early} early, {taken} taken"
        );
        let hash = |entry: &[u8]| hash_u64(u64::from_le_bytes(*entry.first_chunk().expect("a key")));
        for partition in 0..partitions.len() {
            let finished = partitions.finish_build(partition, &mut handle, hash);
            finished.expect("the disk works");
        }
        assert_eq!(partitions.has_one_small_table(), becomes_one);
        assert_eq!(partitions.build_rows(), rows as usize);
        let are_found = (0..rows).all(|key| {
            let table = partitions.table(partitions.of(hash_u64(key)));
            table.is_none_or(|table| table.find(hash_u64(key)).is_some())
        });
        assert!(are_found, "{rows} rows");
    }
}
