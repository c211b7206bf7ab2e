//! A source of segments for tests: from the heap, with a limit, that can run dry at random, and that knows how
//! many segments are out.

#![allow(dead_code)]

use forebay_memory::segment::{BLOCK_ALIGNMENT, Block, SegmentHome, SegmentId};
use forebay_memory::{Segment, SegmentSource};
use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

pub struct TestSource {
    home: Arc<Home>,
    size: usize,
    limit: AtomicUsize,
    /// Refuse one request in so many; 0 refuses none.
    refuse: AtomicU64,
    random: AtomicU64,
}

struct Home {
    layout: Layout,
    out: AtomicUsize,
}

impl TestSource {
    pub fn new(size: usize, limit: usize) -> Arc<TestSource> {
        let layout = Layout::from_size_align(size, BLOCK_ALIGNMENT).unwrap();
        Arc::new(TestSource {
            home: Arc::new(Home {
                layout,
                out: AtomicUsize::new(0),
            }),
            size,
            limit: AtomicUsize::new(limit),
            refuse: AtomicU64::new(0),
            random: AtomicU64::new(1),
        })
    }

    pub fn refusing(size: usize, limit: usize, one_in: u64, seed: u64) -> Arc<TestSource> {
        let source = TestSource::new(size, limit);
        source.refuse.store(one_in, Relaxed);
        source.random.store(seed, Relaxed);
        source
    }

    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// Segments that have not come back.
    pub fn out(&self) -> usize {
        self.home.out.load(Relaxed)
    }
}

impl SegmentSource for TestSource {
    fn segment_size(&self) -> usize {
        self.size
    }

    fn try_take(&self) -> Option<Segment> {
        let refuse = self.refuse.load(Relaxed);
        let draw = mix(self.random.fetch_add(1, Relaxed));
        if self.out() >= self.limit.load(Relaxed) || (refuse > 0 && draw.is_multiple_of(refuse)) {
            return None;
        }
        self.home.out.fetch_add(1, Relaxed);
        // SAFETY: the layout has a size.
        let start = NonNull::new(unsafe { alloc(self.home.layout) }).expect("the heap has a segment");
        // SAFETY: the memory is new, of this size and alignment; the pattern makes what a table reads before
        // it writes show up.
        let block = unsafe {
            start.as_ptr().write_bytes(0xa5, self.size);
            Block::from_raw(start, self.size as u32, SegmentId(0))
        };
        // SAFETY: the home frees the block's memory when it takes it back, not before.
        Some(unsafe { Segment::from_block(block, self.home.clone()) })
    }
}

impl SegmentHome for Home {
    fn release(&self, block: Block) {
        self.out.fetch_sub(1, Relaxed);
        // SAFETY: the block was allocated with this layout and nobody else has it.
        unsafe { dealloc(block.as_ptr(), self.layout) };
    }
}

/// The output function of splitmix64.
pub fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Seeded random numbers.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
