//! The segment: one fixed-size block of managed memory, owned, and given back when it is dropped.
//!
//! # Interface
//! A [`SegmentSource`] hands out [`Segment`]s; dropping one returns its [`Block`] to its [`SegmentHome`].
//! [`Segment::swap_blocks`] moves its bytes to another account; [`Segment::freeze`] makes it a [`SharedSegment`].
//!
//! # Invariants
//! I1. A block is in exactly one place: in a segment, or with its home. The types forbid a second release:
//!     a `Block` can be neither copied nor cloned, and only `Segment::drop` gives one to a home.
//! I2. Every byte of a block is initialized: blocks come from zeroed mappings.
//!
//! # Not here
//! Where blocks come from (`arena`), who may have how many (`manager`).

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// The number of a segment in its arena: with an offset, a locator, which replaces pointers in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u32);

/// The alignment of every block in bytes: a cache line, so that lines of a page never straddle two.
pub const BLOCK_ALIGNMENT: usize = 64;

/// A block of memory without an owner's rights: what a home keeps. Neither `Copy` nor `Clone`.
pub struct Block {
    start: NonNull<u8>,
    len: u32,
    id: SegmentId,
}

// SAFETY: a Block is the unique handle of its bytes (I1), so sending it sends the bytes' ownership.
unsafe impl Send for Block {}
// SAFETY: a shared Block gives no access to its bytes.
unsafe impl Sync for Block {}

impl Block {
    /// A block over `len` bytes at `start`.
    ///
    /// # Safety
    /// `start` is aligned to [`BLOCK_ALIGNMENT`]; the `len` bytes are initialized, writable, referred to by
    /// no other block or reference, and stay mapped for as long as the block's home lives.
    pub unsafe fn from_raw(start: NonNull<u8>, len: u32, id: SegmentId) -> Self {
        debug_assert!((start.as_ptr() as usize).is_multiple_of(BLOCK_ALIGNMENT));
        Block { start, len, id }
    }

    /// The block's number in its arena.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// The block's size in bytes.
    pub fn size(&self) -> usize {
        self.len as usize
    }

    /// Where the block starts.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The block's bytes, for the arena that keeps it.
    ///
    /// # Safety
    /// The mapping that the block was cut from is still there.
    #[cfg(debug_assertions)]
    pub(crate) unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: initialized (I2), reachable through this block alone (I1), mapped as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len as usize) }
    }
}

/// The account that a segment's block goes back to.
pub trait SegmentHome: Send + Sync {
    /// Takes a block back. Called once for each block that was made a segment with this home.
    fn release(&self, block: Block);
}

/// Where segments come from: a budget, a pool, or a test's heap.
pub trait SegmentSource: Send + Sync {
    /// The size of every segment in bytes.
    fn segment_size(&self) -> usize;

    /// A segment, its bytes initialized but unspecified, or `None` where the source has none to give now.
    fn try_take(&self) -> Option<Segment>;

    /// A segment beyond what the source usually gives, for what cannot be interrupted; `None` where it has no such rule.
    fn try_take_overdraft(&self) -> Option<Segment> {
        None
    }
}

/// An owned block of memory. Its bytes are initialized; what they hold when it is taken is unspecified.
pub struct Segment {
    block: ManuallyDrop<Block>,
    home: ManuallyDrop<Arc<dyn SegmentHome>>,
}

impl Segment {
    /// A segment over `block` that goes back to `home`.
    ///
    /// # Safety
    /// `home` is the home that the block was made for: it keeps the block's memory mapped as long as it lives.
    pub unsafe fn from_block(block: Block, home: Arc<dyn SegmentHome>) -> Self {
        Segment::new(block, home)
    }

    /// As [`Segment::from_block`], whose promise every caller in this crate keeps: its homes hold the arena.
    pub(crate) fn new(block: Block, home: Arc<dyn SegmentHome>) -> Self {
        Segment {
            block: ManuallyDrop::new(block),
            home: ManuallyDrop::new(home),
        }
    }

    /// The segment's number in its arena.
    pub fn id(&self) -> SegmentId {
        self.block.id
    }

    /// Exchanges the bytes of two segments without copying them: each keeps its account.
    ///
    /// # Panics
    /// Where the two are not of one arena: a block goes home to the arena that it is from.
    pub fn swap_blocks(&mut self, other: &mut Segment) {
        let base = |block: &Block| {
            (
                block
                    .start
                    .addr()
                    .get()
                    .wrapping_sub(block.id.0 as usize * block.len as usize),
                block.len,
            )
        };
        assert_eq!(
            base(&self.block),
            base(&other.block),
            "segments of one arena change places"
        );
        std::mem::swap(&mut self.block, &mut other.block);
    }
}

impl Segment {
    /// The segment as one that several may hold, and nobody writes to.
    pub fn freeze(self) -> SharedSegment {
        SharedSegment(Arc::new(self))
    }
}

/// A filled segment that several hold: counted, read-only, and given back when the last of them drops it.
///
/// # Examples
/// ```
/// use forebay_memory::{MemoryManager, SegmentSource};
///
/// let manager = MemoryManager::with_segments(1, 0, 4096)?;
/// let budget = manager.budget("broadcast", 1, 1)?;
/// let mut segment = budget.try_take().expect("there is one");
/// segment[0] = 7;
/// let one = segment.freeze();
/// let other = one.clone();
/// drop(one);
/// assert_eq!((other[0], manager.outstanding()), (7, 1));
/// drop(other);
/// assert_eq!(manager.outstanding(), 0);
/// # Ok::<(), forebay_memory::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SharedSegment(Arc<Segment>);

impl Deref for SharedSegment {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Segment {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the block's bytes are initialized (I2), mapped while `home` lives, and only reachable
        // through this segment (I1), which is borrowed for the slice's life.
        unsafe { std::slice::from_raw_parts(self.block.start.as_ptr(), self.block.len as usize) }
    }
}

impl DerefMut for Segment {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the segment is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.block.start.as_ptr(), self.block.len as usize) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: drop runs once, so each field is taken once.
        let (block, home) = unsafe {
            (
                ManuallyDrop::take(&mut self.block),
                ManuallyDrop::take(&mut self.home),
            )
        };
        home.release(block);
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({}, {} B)", self.block.id.0, self.block.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// A home that gives blocks back to an arena, and counts them.
    struct Counted(Arc<Arena>, AtomicUsize);

    impl SegmentHome for Counted {
        fn release(&self, block: Block) {
            self.0.give_back(block);
            self.1.fetch_add(1, SeqCst);
        }
    }

    fn homes() -> (Arc<Arena>, Arc<Counted>, Arc<Counted>) {
        let arena = Arc::new(Arena::new(8, 4096).unwrap());
        let home = || Arc::new(Counted(arena.clone(), AtomicUsize::new(0)));
        (arena.clone(), home(), home())
    }

    #[test]
    fn a_segment_goes_home_once() {
        let (arena, home, _) = homes();
        let mut segment = Segment::new(arena.take().unwrap(), home.clone());
        segment.fill(7);
        assert!(segment.len() == 4096 && segment.iter().all(|&byte| byte == 7));
        drop(segment);
        assert_eq!((home.1.load(SeqCst), arena.out().0), (1, 0));
    }

    #[test]
    fn a_shared_segment_goes_home_with_its_last_holder() {
        let (arena, home, _) = homes();
        for _ in 0..50 {
            let before = home.1.load(SeqCst);
            let mut segment = Segment::new(arena.take().unwrap(), home.clone());
            segment.fill(7);
            let shared = segment.freeze();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let held = shared.clone();
                    scope.spawn(move || assert!(held.iter().all(|&byte| byte == 7)));
                }
            });
            let other = shared.clone();
            drop(shared);
            assert_eq!(home.1.load(SeqCst), before, "another one holds it");
            drop(other);
            assert_eq!((home.1.load(SeqCst), arena.out().0), (before + 1, 0));
        }
    }

    #[test]
    fn segments_of_one_arena_change_places_and_keep_their_homes() {
        let (arena, first, second) = homes();
        let mut left = Segment::new(arena.take().unwrap(), first.clone());
        let mut right = Segment::new(arena.take().unwrap(), second.clone());
        let ids = (left.id(), right.id());
        left.fill(7);
        left.swap_blocks(&mut right);
        assert!((right.id(), left.id()) == ids && right.iter().all(|&byte| byte == 7));
        drop(right);
        assert_eq!((first.1.load(SeqCst), second.1.load(SeqCst)), (0, 1));
    }

    #[test]
    #[should_panic(expected = "segments of one arena change places")]
    fn segments_of_two_arenas_do_not_change_places() {
        let (one, home, _) = homes();
        let (other, other_home, _) = homes();
        let mut left = Segment::new(one.take().unwrap(), home);
        let mut right = Segment::new(other.take().unwrap(), other_home);
        left.swap_blocks(&mut right);
    }
}
