//! The segment: one fixed-size block of managed memory, owned, and given back when it is dropped.
//!
//! # Interface
//! A [`SegmentSource`] hands out [`Segment`]s; dropping one returns its [`Block`] to its [`SegmentHome`].
//! [`Segment::freeze`] makes it a counted read-only [`SharedSegment`]; [`Segment::rehome`] moves it to
//! another account.
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
}

/// An owned block of memory. Its bytes are initialized; what they hold when it is taken is unspecified.
pub struct Segment {
    block: ManuallyDrop<Block>,
    home: ManuallyDrop<Arc<dyn SegmentHome>>,
}

impl Segment {
    /// A segment over `block` that goes back to `home`.
    pub fn new(block: Block, home: Arc<dyn SegmentHome>) -> Self {
        Segment {
            block: ManuallyDrop::new(block),
            home: ManuallyDrop::new(home),
        }
    }

    /// The segment's number in its arena.
    pub fn id(&self) -> SegmentId {
        self.block.id
    }

    /// The same bytes, which will go back to `home`. The caller keeps both accounts' counts true.
    pub fn rehome(self, home: Arc<dyn SegmentHome>) -> Segment {
        Segment::new(self.into_block(), home)
    }

    /// Exchanges the bytes of two segments without copying them: each keeps its account.
    pub fn swap_blocks(&mut self, other: &mut Segment) {
        std::mem::swap(&mut self.block, &mut other.block);
    }

    /// The block alone, for a home that keeps it; nothing is released.
    pub fn into_block(self) -> Block {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so both fields are taken out exactly once.
        unsafe {
            ManuallyDrop::drop(&mut this.home);
            ManuallyDrop::take(&mut this.block)
        }
    }

    /// A read-only segment that several may hold; the last holder gives it back.
    pub fn freeze(self) -> SharedSegment {
        SharedSegment(Arc::new(self))
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
        // SAFETY: drop runs once, and `into_block` forgets the segment, so each field is taken once.
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

/// A read-only segment with several holders.
#[derive(Clone, Debug)]
pub struct SharedSegment(Arc<Segment>);

impl SharedSegment {
    /// The segment again, writable, where this is its only holder; itself otherwise.
    pub fn try_unfreeze(self) -> Result<Segment, SharedSegment> {
        Arc::try_unwrap(self.0).map_err(SharedSegment)
    }
}

impl Deref for SharedSegment {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
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
    fn a_segment_that_moved_goes_to_its_new_home_with_its_bytes() {
        let (arena, first, second) = homes();
        let mut segment = Segment::new(arena.take().unwrap(), first.clone());
        let id = segment.id();
        segment.fill(7);
        let segment = segment.rehome(second.clone());
        assert!(segment.id() == id && segment.iter().all(|&byte| byte == 7));
        drop(segment);
        assert_eq!((first.1.load(SeqCst), second.1.load(SeqCst)), (0, 1));
        assert_eq!(Arc::strong_count(&first), 1, "the old home is let go");
    }

    #[test]
    fn a_shared_segment_goes_home_with_its_last_holder() {
        let (arena, home, _) = homes();
        let mut segment = Segment::new(arena.take().unwrap(), home.clone());
        segment.fill(7);
        let shared = segment.freeze();
        let copy = shared.clone();
        let shared = shared.try_unfreeze().expect_err("it has another holder");
        drop(copy);
        assert_eq!((home.1.load(SeqCst), shared[4095]), (0, 7));
        let mut segment = shared.try_unfreeze().expect("it has no other holder");
        segment[0] = 8;
        drop(segment);
        assert_eq!(home.1.load(SeqCst), 1);
    }

    #[test]
    fn a_block_taken_out_is_not_released() {
        let (arena, home, _) = homes();
        let block = Segment::new(arena.take().unwrap(), home.clone()).into_block();
        assert_eq!(
            (home.1.load(SeqCst), Arc::strong_count(&home), block.size()),
            (0, 1, 4096)
        );
        arena.give_back(block);
    }
}
