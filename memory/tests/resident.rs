//! The arena's resident memory: committed as it is used, never above its size, given back when it is idle.
//!
//! One test in a process of its own: other tests' memory would be counted too.

use forebay_memory::account::resident_bytes;
use forebay_memory::{MemoryManager, Segment, SegmentSource};

const MIB: usize = 1 << 20;
const SIZE: usize = 128 * MIB;
const SEGMENT_SIZE: usize = 32 << 10;

/// What the process may grow by beside the arena: stacks, page tables, the allocator.
const SLACK: usize = 8 * MIB;

#[test]
fn resident_memory_follows_what_is_used() {
    let before = resident_bytes().expect("/proc is mounted");
    let grown = || resident_bytes().expect("/proc is mounted").saturating_sub(before);
    let manager = MemoryManager::with_segments(SIZE / SEGMENT_SIZE, 0, SEGMENT_SIZE).unwrap();
    assert!(
        grown() < SLACK,
        "an arena is committed as it is used: {} B",
        grown()
    );

    let budget = manager.budget("test", 0, SIZE / SEGMENT_SIZE).unwrap();
    for round in 0..3 {
        let mut segments: Vec<Segment> = std::iter::from_fn(|| budget.try_take()).collect();
        segments.iter_mut().for_each(|segment| segment.fill(round));
        assert_eq!(segments.len() * SEGMENT_SIZE, SIZE);
        assert!(
            grown() > SIZE - SLACK,
            "round {round}: every segment is in use: {} B",
            grown()
        );
        assert!(grown() < SIZE + SLACK, "round {round}: {} B", grown());
        // Half of it is still in use, whole slabs of it: only the idle half goes back.
        segments.sort_by_key(Segment::id);
        segments.truncate(segments.len() / 2);
        assert_eq!(manager.trim(), SIZE / 2);
        assert!(grown() < SIZE / 2 + SLACK, "round {round}: {} B", grown());
        assert!(
            segments
                .iter()
                .all(|segment| segment.iter().all(|&byte| byte == round))
        );
        drop(segments);
        manager.trim();
        assert!(
            grown() < SLACK,
            "round {round}: idle slabs go back to the kernel: {} B",
            grown()
        );
    }
}
