//! The arena: the one mapping that every segment of a memory manager is cut from.
//!
//! # Interface
//! [`Arena::new`], or [`Arena::with_prefault`] to say when memory is touched; [`Arena::take`] and [`Arena::give_back`];
//! [`Arena::trim`] returns idle slabs to the kernel; [`Arena::address`] turns a segment's number into its place.
//!
//! # Algorithm
//! 1. The mapping is reserved whole and committed as it is touched. It is cut in slabs of 2 MiB, the size of a
//!    huge page, and slabs are cut in segments.
//! 2. Free segments are on one stack: the last one given back, whose lines are still in a cache, goes out first.
//! 3. When the stack is empty a warm slab is carved, one that a helper thread has faulted in as a huge page. Where there is
//!    none, a cold slab is opened: its segments are handed out one by one, each on small pages that its taker commits.
//!    So nobody waits for a whole slab, and one is on small pages only where the helper has fallen behind.
//! 4. The helper keeps a few slabs warm ahead of demand, as long as memory comes quickly (`ahead`). It starts with the second
//!    slab of an arena of at least [`HELPER_MIN_SLABS`]. Takers in smaller arenas fault a slab in as a whole.
//! 5. `trim` takes slabs whose segments are all free off the stack and lets the kernel have their pages.
//!
//! # Invariants
//! I1. A segment's number is on the stack, in a slab that is not carved, or in exactly one `Block`. Only `take`
//!     makes blocks, and `give_back` consumes them (asserted in debug builds by the slab's count of free segments).
//! I2. In debug builds a free segment holds zeros or poison; `take` asserts it, which catches writes after release.
//!
//! # Cost
//! `take` and `give_back` hold a mutex for a push or a pop: about 20 ns each, at most some 200 k/s of them per
//! worker. A fresh huge page costs 0.25 to 6 ms, a segment on small pages 9 to 100 µs; tables on small pages are 8 to 17 %
//! slower.
//!
//! # Not here
//! Who may take how many (`ledger`). The spill workspace, which must never be given back to the kernel.

mod ahead;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use crate::error::{Error, Result};
use crate::plan::Prefault;
use crate::segment::{Block, SegmentId};
use ahead::Ahead;

/// The size of a slab in bytes: one huge page.
pub const SLAB_SIZE: usize = 2 << 20;

/// The smallest segment in bytes: a page of the kernel.
pub const MIN_SEGMENT_SIZE: usize = 4 << 10;

/// The largest segment in bytes.
pub const MAX_SEGMENT_SIZE: usize = 1 << 20;

/// Arenas of fewer slabs than this (32 MiB) have no helper: a thread is not worth what it would save.
const HELPER_MIN_SLABS: usize = 16;

/// What released bytes are overwritten with in debug builds.
#[cfg(debug_assertions)]
const POISON: u8 = 0xdb;

/// One anonymous mapping, cut in segments.
pub struct Arena {
    shared: Arc<Shared>,
    helper: Mutex<Option<JoinHandle<()>>>,
}

/// What the takers and the helper share.
struct Shared {
    mapping: MmapRaw,
    /// Offset of the first segment in the mapping; a multiple of [`SLAB_SIZE`] in address where slabs are whole.
    start: usize,
    segment_size: usize,
    segment_count: usize,
    /// Whether the helper makes huge pages of cold slabs, which are on small ones; else all slabs are on huge ones.
    has_small: bool,
    state: Mutex<State>,
    /// Signalled when slabs that were in transit have arrived.
    arrived: Condvar,
    /// Signalled when the helper has something to do.
    demand: Condvar,
}

struct State {
    /// Numbers of free segments of carved slabs; the last is the warmest.
    free: Vec<u32>,
    /// Free segments of each slab; all of them where the slab is not carved.
    slab_free: Vec<u16>,
    /// Slabs that are faulted in and not carved.
    warm: Vec<u32>,
    /// Slabs without memory, the next one last.
    cold: Vec<u32>,
    /// The segments of the open slab that were never out.
    open: std::ops::Range<u32>,
    /// Slabs that are being faulted in, or being given back, with the lock released.
    in_transit: usize,
    ahead: Ahead,
    helper_started: bool,
    out: usize,
    out_peak: usize,
    stop: bool,
}

impl Arena {
    /// An arena of `segment_count` segments of `segment_size` bytes each; nothing is committed yet.
    ///
    /// # Errors
    /// `Config` where the segment size is not a power of two from 4 KiB to 1 MiB, or there are no or too many
    /// segments; `Io` where the kernel refuses the mapping.
    pub fn new(segment_count: usize, segment_size: usize) -> Result<Arena> {
        Arena::with_prefault(segment_count, segment_size, Prefault::Demand)
    }

    /// As [`Arena::new`]; `prefault` says when memory is touched. With [`Prefault::Start`] all of it is before this returns.
    ///
    /// # Errors
    /// As [`Arena::new`]; `Io` also where the kernel does not give the memory that is to be touched at the start.
    pub fn with_prefault(segment_count: usize, segment_size: usize, prefault: Prefault) -> Result<Arena> {
        if !segment_size.is_power_of_two() || !(MIN_SEGMENT_SIZE..=MAX_SEGMENT_SIZE).contains(&segment_size) {
            return Err(Error::config(format!(
                "memory.segment_size: {segment_size} B is not a power of two from 4 KiB to 1 MiB; \
                 the default is 32 KiB"
            )));
        }
        if segment_count == 0 || segment_count > u32::MAX as usize {
            return Err(Error::config(format!(
                "memory: {segment_count} segments of {segment_size} B; an arena has 1 to {}, \
                 change memory.managed_size or memory.segment_size",
                u32::MAX
            )));
        }
        let size = segment_count
            .checked_mul(segment_size)
            .and_then(|size| size.checked_add(SLAB_SIZE))
            .ok_or_else(|| {
                Error::config(format!(
                    "memory: {segment_count} segments of {segment_size} B exceed the address space; \
                     lower memory.process_size"
                ))
            })?
            - SLAB_SIZE;
        let whole_slabs = size / SLAB_SIZE;
        let slack = if whole_slabs > 0 { SLAB_SIZE } else { 0 };
        let mapping = MmapOptions::new()
            .len(size + slack)
            .no_reserve_swap()
            .map_anon()
            .map_err(|error| {
                Error::io(
                    format!("memory: cannot reserve {size} B of address space; lower memory.process_size"),
                    error,
                )
            })?;
        let mapping = MmapRaw::from(mapping);
        let start = match slack {
            0 => 0,
            _ => (mapping.as_mut_ptr() as usize).next_multiple_of(SLAB_SIZE) - mapping.as_mut_ptr() as usize,
        };
        let per_slab = SLAB_SIZE / segment_size;
        let slabs = segment_count.div_ceil(per_slab);
        let has_small = slabs >= HELPER_MIN_SLABS && prefault != Prefault::Start;
        if whole_slabs > 0 {
            // The last, partial slab stays on small pages, so that no more is committed than was asked for.
            // A kernel without huge pages refuses this; the arena works all the same.
            let pages = match has_small {
                true => Advice::NoHugePage,
                false => Advice::HugePage,
            };
            let _ = mapping.advise_range(pages, start, whole_slabs * SLAB_SIZE);
        }
        let slab_free = (0..slabs)
            .map(|slab| per_slab.min(segment_count - slab * per_slab) as u16)
            .collect();
        let state = State {
            free: Vec::with_capacity(segment_count),
            slab_free,
            warm: Vec::new(),
            cold: (0..slabs as u32).rev().collect(),
            open: 0..0,
            in_transit: 0,
            ahead: Ahead::new(prefault == Prefault::Background),
            helper_started: false,
            out: 0,
            out_peak: 0,
            stop: false,
        };
        let arena = Arena {
            shared: Arc::new(Shared {
                mapping,
                start,
                segment_size,
                segment_count,
                has_small,
                state: Mutex::new(state),
                arrived: Condvar::new(),
                demand: Condvar::new(),
            }),
            helper: Mutex::default(),
        };
        match prefault {
            Prefault::Demand => {}
            Prefault::Background => arena.start_helper(&mut arena.shared.lock()),
            Prefault::Start => arena.shared.fault_in_all()?,
        }
        Ok(arena)
    }

    /// The size of every segment in bytes.
    pub fn segment_size(&self) -> usize {
        self.shared.segment_size
    }

    /// How many segments the arena has.
    pub fn segment_count(&self) -> usize {
        self.shared.segment_count
    }

    /// A free block, or `None` where all are out. Its bytes are initialized but unspecified.
    pub(crate) fn take(&self) -> Option<Block> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let mut is_fresh = false;
        let index = loop {
            if let Some(index) = state.free.pop() {
                break index;
            }
            if let Some(slab) = state.warm.pop() {
                shared.carve(&mut state, slab);
            } else if let Some(index) = state.open.next() {
                is_fresh = true;
                break index;
            } else if let Some(slab) = state.cold.pop() {
                if shared.has_small {
                    state.open = shared.segments_of(slab);
                    state.ahead.missed();
                } else {
                    state = shared.fault_in_unlocked(state, slab);
                    shared.carve(&mut state, slab);
                }
            } else if state.in_transit > 0 {
                // The helper has the last one in hand: waiting costs what faulting it in here would.
                state = shared.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            } else {
                return None;
            }
            self.call_helper(&mut state);
        };
        state.slab_free[shared.slab_of(index)] -= 1;
        state.out += 1;
        state.out_peak = state.out_peak.max(state.out);
        drop(state);
        if is_fresh {
            shared.commit(index);
        }
        // SAFETY: the address is inside the mapping, which zeroes its pages and lives as long as the arena;
        // it is aligned to the segment's size; the index was off the stack, so no other block has it (I1).
        let block = unsafe {
            Block::from_raw(
                shared.address(index),
                shared.segment_size as u32,
                SegmentId(index),
            )
        };
        #[cfg(debug_assertions)]
        let block = assert_untouched(block);
        Some(block)
    }

    /// Takes a block of this arena back.
    pub(crate) fn give_back(&self, block: Block) {
        let shared = &*self.shared;
        let index = block.id().0;
        assert_eq!(
            block.as_ptr(),
            shared.address(index).as_ptr(),
            "the block is from another arena"
        );
        retire(block);
        let mut state = shared.lock();
        let slab = shared.slab_of(index);
        state.slab_free[slab] += 1;
        debug_assert!(
            usize::from(state.slab_free[slab]) <= shared.slab_len(slab),
            "a block came back twice"
        );
        state.out -= 1;
        state.free.push(index);
    }

    /// Gives the memory of idle slabs back to the kernel; answers how many bytes that were.
    pub fn trim(&self) -> usize {
        let shared = &*self.shared;
        let mut state = shared.lock();
        // Only the segments of carved slabs are on the stack, so cold slabs and those in transit are left alone.
        let mut on_stack = vec![0; state.slab_free.len()];
        state
            .free
            .iter()
            .for_each(|&index| on_stack[shared.slab_of(index)] += 1);
        let mut slabs: Vec<u32> = (0..on_stack.len())
            .filter(|&slab| on_stack[slab] == shared.slab_len(slab))
            .map(|slab| slab as u32)
            .collect();
        state
            .free
            .retain(|&index| slabs.binary_search(&(shared.slab_of(index) as u32)).is_err());
        slabs.append(&mut state.warm);
        state.in_transit += slabs.len();
        state.ahead.relax();
        drop(state);

        let mut bytes = 0;
        for &slab in &slabs {
            let (offset, len) = shared.slab_range(slab);
            // SAFETY: every segment of the slab was free and is off the stack, so no block refers to these
            // bytes; the kernel's zeros that replace them are initialized.
            let _ = unsafe {
                shared
                    .mapping
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len)
            };
            if shared.has_small && len == SLAB_SIZE {
                let _ = shared.mapping.advise_range(Advice::NoHugePage, offset, len);
            }
            bytes += len;
        }

        let mut state = shared.lock();
        state.in_transit -= slabs.len();
        state.cold.append(&mut slabs);
        shared.arrived.notify_all();
        bytes
    }

    /// The address of a segment, from its number.
    ///
    /// # Panics
    /// Where the arena has no such segment.
    pub fn address(&self, id: SegmentId) -> *mut u8 {
        self.shared.address(id.0).as_ptr()
    }

    /// How many segments are out, and how many were out at most.
    pub fn out(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.out, state.out_peak)
    }

    /// How many bytes may be committed: every slab that is carved or warm.
    pub fn committed_bytes(&self) -> usize {
        let state = self.shared.lock();
        let cold: usize = state
            .cold
            .iter()
            .map(|&slab| self.shared.slab_range(slab).1)
            .sum();
        self.shared.segment_count * self.shared.segment_size - cold
    }

    /// Wakes the helper where it has work, and starts it where it is time to.
    fn call_helper(&self, state: &mut State) {
        let wanted = state.ahead.wanted(state.in_use());
        if state.cold.is_empty() || state.warm.len() >= wanted {
            return;
        }
        if state.helper_started {
            self.shared.demand.notify_one();
        } else if self.shared.has_small && state.in_use() >= 2 {
            self.start_helper(state);
        }
    }

    fn start_helper(&self, state: &mut State) {
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new()
            .name("forebay-prefault".into())
            .stack_size(64 << 10)
            .spawn(move || shared.fault_ahead());
        // Without a helper the takers fault pages in themselves.
        if let Ok(handle) = spawned {
            state.helper_started = true;
            *self.helper.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.demand.notify_all();
        let out = state.out;
        drop(state);
        let helper = self.helper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(helper) = helper.take() {
            let _ = helper.join();
        }
        debug_assert!(
            out == 0 || std::thread::panicking(),
            "{out} segments are lost: their blocks were forgotten"
        );
    }
}

impl State {
    /// Slabs that are carved.
    fn in_use(&self) -> usize {
        self.slab_free.len() - self.warm.len() - self.cold.len() - self.in_transit
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slab_of(&self, index: u32) -> usize {
        index as usize / (SLAB_SIZE / self.segment_size)
    }

    /// How many segments a slab has; the last slab may have fewer.
    fn slab_len(&self, slab: usize) -> usize {
        let per_slab = SLAB_SIZE / self.segment_size;
        per_slab.min(self.segment_count - slab * per_slab)
    }

    /// Offset and length of a slab in the mapping, in bytes.
    fn slab_range(&self, slab: u32) -> (usize, usize) {
        (
            self.start + slab as usize * SLAB_SIZE,
            self.slab_len(slab as usize) * self.segment_size,
        )
    }

    fn address(&self, index: u32) -> NonNull<u8> {
        assert!(
            (index as usize) < self.segment_count,
            "the arena has no segment {index}"
        );
        let start = self
            .mapping
            .as_mut_ptr()
            .wrapping_add(self.start + index as usize * self.segment_size);
        NonNull::new(start).expect("a mapping does not start at address 0")
    }

    /// Puts a slab's segments on the stack, the first one on top.
    fn carve(&self, state: &mut State, slab: u32) {
        state.free.extend(self.segments_of(slab).rev());
    }

    /// The numbers of a slab's segments.
    fn segments_of(&self, slab: u32) -> std::ops::Range<u32> {
        let first = slab * (SLAB_SIZE / self.segment_size) as u32;
        first..first + self.slab_len(slab as usize) as u32
    }

    /// Commits a segment of the open slab, which its taker alone has.
    fn commit(&self, index: u32) {
        let start = Instant::now();
        let offset = self.start + index as usize * self.segment_size;
        // Refused, it is left to the first touches.
        let _ = self.populate(offset, self.segment_size);
        let took = start.elapsed();
        self.lock().ahead.learn(self.segment_size, took);
    }

    /// The helper's life: keeps slabs warm until the arena is dropped.
    fn fault_ahead(&self) {
        let mut state = self.lock();
        while !state.stop {
            let wanted = state.ahead.wanted(state.in_use());
            let slab = match state.warm.len() < wanted {
                true => state.cold.pop(),
                false => None,
            };
            let Some(slab) = slab else {
                state = self.demand.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let start = Instant::now();
            state = self.fault_in_unlocked(state, slab);
            state.ahead.learn(self.slab_range(slab).1, start.elapsed());
            state.warm.push(slab);
        }
    }

    /// Faults in a slab that is on no list, with the lock released: by the thread that needs it, as a whole. Left to
    /// the first touches, two threads with segments of one slab would both zero a huge page, and one be thrown away.
    fn fault_in_unlocked<'a>(&'a self, mut state: MutexGuard<'a, State>, slab: u32) -> MutexGuard<'a, State> {
        state.in_transit += 1;
        drop(state);
        // Refused, it is left to the first touches.
        let _ = self.fault_in(slab);
        let mut state = self.lock();
        state.in_transit -= 1;
        self.arrived.notify_all();
        state
    }

    /// Faults in every slab, by as many threads as there are cores.
    fn fault_in_all(&self) -> Result<()> {
        let mut state = self.lock();
        let slabs = std::mem::take(&mut state.cold);
        let next = AtomicUsize::new(0);
        let work = || -> std::io::Result<()> {
            while let Some(&slab) = slabs.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.fault_in(slab)?;
            }
            Ok(())
        };
        let threads = cores().min(slabs.len());
        let all = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for other in others {
                all = all.and(other.join().expect("faulting in does not panic"));
            }
            all
        });
        all.map_err(|error| {
            Error::io(
                format!(
                    "memory.prefault start: the kernel does not give {} B; lower memory.process_size, or set \
                     memory.prefault to demand",
                    self.segment_count * self.segment_size
                ),
                error,
            )
        })?;
        state.warm = slabs;
        Ok(())
    }

    /// Commits the pages of a slab that nobody else has, a huge one where the kernel gives it.
    fn fault_in(&self, slab: u32) -> std::io::Result<()> {
        let (offset, len) = self.slab_range(slab);
        if self.has_small && len == SLAB_SIZE {
            let _ = self.mapping.advise_range(Advice::HugePage, offset, len);
        }
        self.populate(offset, len)
    }

    /// Commits pages that nobody else has: by one call, or by touching them before Linux 5.14.
    fn populate(&self, offset: usize, len: usize) -> std::io::Result<()> {
        match self.mapping.advise_range(Advice::PopulateWrite, offset, len) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => self.touch(offset, len),
            answer => return answer,
        }
        Ok(())
    }

    fn touch(&self, offset: usize, len: usize) {
        for page in (offset..offset + len).step_by(MIN_SEGMENT_SIZE) {
            // SAFETY: inside the mapping, in a slab that is in this thread's hands alone: off the lists, not carved.
            unsafe { self.mapping.as_mut_ptr().add(page).write_volatile(0) };
        }
    }
}

/// The machine's cores; asked for once, since the answer is in files of the control group.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, |cores| cores.get()))
}

/// Marks a block as released: poisons its bytes in debug builds.
pub(crate) fn retire(block: Block) -> Block {
    #[cfg(debug_assertions)]
    let block = {
        let mut block = block;
        // SAFETY: the arena, which gave the block out, is alive: it is called by the block's home.
        unsafe { block.bytes_mut() }.fill(POISON);
        block
    };
    block
}

/// Asserts I2: a free segment holds one value throughout, zero or poison.
#[cfg(debug_assertions)]
fn assert_untouched(mut block: Block) -> Block {
    // SAFETY: the arena, which gives the block out, is alive.
    let bytes = unsafe { block.bytes_mut() };
    let untouched = (bytes[0] == 0 || bytes[0] == POISON) && bytes[1..] == bytes[..bytes.len() - 1];
    assert!(
        untouched,
        "segment {} was written to after its release",
        block.id().0
    );
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_every_segment_once_and_the_last_returned_first() {
        let arena = Arena::new(8, 4096).unwrap();
        let mut blocks: Vec<Block> = std::iter::from_fn(|| arena.take()).collect();
        let mut ids: Vec<u32> = blocks.iter().map(|block| block.id().0).collect();
        ids.sort();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(
            blocks
                .iter()
                .all(|block| arena.address(block.id()) == block.as_ptr())
        );
        let last = blocks.remove(3);
        let id = last.id();
        arena.give_back(last);
        let again = arena.take().unwrap();
        assert_eq!(again.id(), id);
        arena.give_back(again);
        blocks.into_iter().for_each(|block| arena.give_back(block));
        assert_eq!(arena.out(), (0, 8));
    }

    #[test]
    fn refuses_sizes_that_make_no_sense() {
        for (count, size) in [
            (8, 3000),
            (8, 2048),
            (8, 2 << 20),
            (0, 4096),
            (usize::MAX / 4096, 4096),
        ] {
            assert!(Arena::new(count, size).is_err(), "{count} segments of {size} B");
        }
    }

    #[test]
    fn slabs_are_aligned_and_the_last_may_be_partial() {
        let arena = Arena::new(70, 32 << 10).unwrap();
        assert_eq!(arena.address(SegmentId(0)) as usize % SLAB_SIZE, 0);
        let blocks: Vec<Block> = std::iter::from_fn(|| arena.take()).collect();
        assert_eq!(blocks.len(), 70);
        assert_eq!(arena.committed_bytes(), 70 * (32 << 10));
        blocks.into_iter().for_each(|block| arena.give_back(block));
    }

    #[test]
    fn trim_gives_idle_slabs_back_and_they_come_again() {
        let arena = Arena::new(256, 32 << 10).unwrap();
        let mut blocks: Vec<Block> = (0..200).filter_map(|_| arena.take()).collect();
        assert_eq!(arena.committed_bytes(), 4 * SLAB_SIZE);
        assert_eq!(arena.trim(), 0, "no slab is idle");
        // Segments 0 to 63 stay out: slabs 1 to 3 are idle.
        blocks.drain(64..).for_each(|block| arena.give_back(block));
        assert_eq!(arena.trim(), 3 * SLAB_SIZE);
        assert_eq!(arena.committed_bytes(), SLAB_SIZE);
        blocks.extend(std::iter::from_fn(|| arena.take()));
        let mut ids: Vec<u32> = blocks.iter().map(|block| block.id().0).collect();
        ids.sort();
        assert!(ids.into_iter().eq(0..256));
        blocks.into_iter().for_each(|block| arena.give_back(block));
    }

    /// What the helper does where the kernel cannot fault a range in by one call.
    #[test]
    fn touching_commits_a_slab() {
        let arena = Arena::new(64, 32 << 10).unwrap();
        let (offset, len) = arena.shared.slab_range(0);
        arena.shared.touch(offset, len);
        let block = arena.take().unwrap();
        arena.give_back(block);
    }

    #[test]
    fn the_helper_never_hides_a_segment_and_stops_with_the_arena() {
        for _ in 0..5 {
            let count = (HELPER_MIN_SLABS + 4) * (SLAB_SIZE / MAX_SEGMENT_SIZE);
            let arena = Arena::new(count, MAX_SEGMENT_SIZE).unwrap();
            let blocks: Vec<Block> = (0..count).map(|_| arena.take().expect("one is left")).collect();
            assert!(arena.take().is_none());
            assert!(arena.helper.lock().unwrap().is_some());
            blocks.into_iter().for_each(|block| arena.give_back(block));
        }
    }

    fn take_all(arena: &Arena, count: usize) -> Vec<Block> {
        let blocks: Vec<Block> = std::iter::from_fn(|| arena.take()).collect();
        let mut ids: Vec<u32> = blocks.iter().map(|block| block.id().0).collect();
        ids.sort();
        assert!(
            ids.into_iter().eq(0..count as u32),
            "each of {count} segments once"
        );
        blocks
    }

    #[test]
    fn takers_without_a_warm_slab_go_on_segment_by_segment() {
        let per_slab = SLAB_SIZE / MAX_SEGMENT_SIZE;
        let count = (HELPER_MIN_SLABS + 4) * per_slab;
        let arena = Arena::new(count, MAX_SEGMENT_SIZE).unwrap();
        let first = arena.take().unwrap();
        assert_eq!(arena.shared.lock().open.len(), per_slab - 1);
        arena.give_back(first);
        // Memory comes slowly, so that the helper rests: no slab is ever warm.
        let slow = std::time::Duration::from_secs(10);
        (0..8).for_each(|_| arena.shared.lock().ahead.learn(SLAB_SIZE, slow));
        let blocks = take_all(&arena, count);
        assert!(arena.shared.lock().warm.is_empty());
        blocks.into_iter().for_each(|block| arena.give_back(block));
        assert_eq!(arena.trim(), count * MAX_SEGMENT_SIZE);
        assert_eq!(arena.committed_bytes(), 0);
        let blocks = take_all(&arena, count);
        blocks.into_iter().for_each(|block| arena.give_back(block));
    }

    #[test]
    fn memory_that_is_touched_at_the_start_is_there() {
        let (count, size) = (3 * 64 + 5, 32 << 10);
        let arena = Arena::with_prefault(count, size, Prefault::Start).unwrap();
        assert_eq!(arena.committed_bytes(), count * size);
        assert!(resident(&arena) >= count * size, "the kernel says so too");
        let blocks = take_all(&arena, count);
        blocks.into_iter().for_each(|block| arena.give_back(block));
    }

    #[test]
    fn memory_that_is_touched_in_the_background_comes_without_demand() {
        let count = (HELPER_MIN_SLABS + 4) * (SLAB_SIZE / MAX_SEGMENT_SIZE) + 1;
        let arena = Arena::with_prefault(count, MAX_SEGMENT_SIZE, Prefault::Background).unwrap();
        let mut state = arena.shared.lock();
        while !state.cold.is_empty() || state.in_transit > 0 {
            state = arena.shared.arrived.wait(state).unwrap();
        }
        drop(state);
        assert_eq!(arena.committed_bytes(), count * MAX_SEGMENT_SIZE);
        assert!(resident(&arena) >= count * MAX_SEGMENT_SIZE);
        let blocks = take_all(&arena, count);
        blocks.into_iter().for_each(|block| arena.give_back(block));
    }

    /// The resident bytes of an arena's mapping, as `/proc/self/smaps` has them.
    fn resident(arena: &Arena) -> usize {
        let mapping = &arena.shared.mapping;
        let (from, to) = (
            mapping.as_ptr() as usize,
            mapping.as_ptr() as usize + mapping.len(),
        );
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut inside, mut sum) = (false, 0);
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((start, end)) = range
                && let (Ok(start), Ok(end)) =
                    (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
            {
                // Neighbouring mappings may have been merged with this one.
                inside = start < to && end > from;
            } else if let Some(kib) = line.strip_prefix("Rss:").filter(|_| inside) {
                let kib: usize = kib.trim().trim_end_matches(" kB").parse().unwrap();
                sum += kib << 10;
            }
        }
        sum
    }

    #[test]
    #[cfg(debug_assertions)]
    fn released_bytes_are_poisoned() {
        let arena = Arena::new(8, 4096).unwrap();
        let block = arena.take().unwrap();
        arena.give_back(block);
        let mut block = arena.take().unwrap();
        // SAFETY: the arena is alive.
        assert!(unsafe { block.bytes_mut() }.iter().all(|&byte| byte == POISON));
        arena.give_back(block);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "written to after its release")]
    fn a_write_after_release_is_found() {
        let arena = Arena::new(8, 4096).unwrap();
        let block = arena.take().unwrap();
        let stale = block.as_ptr();
        arena.give_back(block);
        // SAFETY: inside the mapping, which is alive; that no one should do this is what is tested.
        unsafe { stale.add(100).write(1) };
        let _ = arena.take();
    }
}
