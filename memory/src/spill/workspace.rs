//! The memory that all spill I/O goes through: one fixed region, cut into buffers.
//!
//! # Interface
//! [`Workspace::seat`] sets buffers aside for a handle; [`Workspace::try_lend`] lends from what is left;
//! [`Workspace::common`] is for handles that came when nothing was left. Dropping a [`Buffer`] gives it back,
//! wherever that happens.
//!
//! # Memory
//! One anonymous mapping of the configured size, reserved when it is made, committed by [`Workspace::commit`] at the
//! first write, unmapped when the last buffer and the store are gone. Half of it, as a rule, is cut in
//! equal *slots*, two for every handle it is laid out for; the other half is lent in ranges of whole pages.
//! A handle keeps its slots, so it can always write and read, whatever others have borrowed. One more slot is common:
//! a handle without slots takes it for the length of one call, so that it can always go on too, slowly. Nobody
//! keeps it between two calls, so waiting for it ends.
//!
//! # Invariants
//! I1. Every page of the region is in exactly one place: a free slot, a free range, or one buffer. So a buffer is
//!     the only way to its bytes, like a segment. Asserted by the pool's arithmetic in `Drop for Buffer`.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once};

use memmap2::{Advice, MmapMut};

use super::config::{Geometry, PAGE};
use crate::error::{Error, Result};

/// The fixed region and what of it is free.
pub(crate) struct Workspace {
    /// Owns the mapping; its bytes are only reached through `base`.
    mapping: MmapMut,
    base: *mut u8,
    slot_bytes: usize,
    slots_per_handle: usize,
    /// Where slots end and lent ranges begin.
    lent_from: usize,
    committed: Once,
    free: Mutex<Free>,
    common_is_back: Condvar,
}

struct Free {
    /// Whether the common slot, the first of the region, is there.
    common: bool,
    /// Starts of free slots.
    slots: Vec<usize>,
    /// Free ranges outside the slots: start and length, in order, never touching each other.
    ranges: Vec<(usize, usize)>,
}

// SAFETY: `base` points into `mapping`, which lives as long as this; the bytes are only reached through
// buffers, of which at most one holds any page (I1).
unsafe impl Send for Workspace {}
// SAFETY: as above; what is shared is behind a mutex.
unsafe impl Sync for Workspace {}

impl Workspace {
    /// Reserves the region; nothing is committed yet.
    ///
    /// # Errors
    /// Where the kernel refuses the mapping.
    pub fn new(geometry: &Geometry) -> Result<Arc<Workspace>> {
        let bytes = geometry.workspace_bytes;
        let mut mapping = MmapMut::map_anon(bytes).map_err(|error| {
            Error::io(
                format!("spill.workspace_size: cannot map {bytes} B; lower it"),
                error,
            )
        })?;
        let base = mapping.as_mut_ptr();
        let slot_bytes = geometry.buffer_bytes;
        let lent_from = (geometry.slots + 1) * slot_bytes;
        let ranges = match bytes - lent_from {
            0 => Vec::new(),
            rest => vec![(lent_from, rest)],
        };
        // Handed out from the back: lowest first.
        let slots = (1..=geometry.slots).rev().map(|slot| slot * slot_bytes).collect();
        Ok(Arc::new(Workspace {
            mapping,
            base,
            slot_bytes,
            slots_per_handle: geometry.slots_per_handle,
            lent_from,
            committed: Once::new(),
            free: Mutex::new(Free {
                common: true,
                slots,
                ranges,
            }),
            common_is_back: Condvar::new(),
        }))
    }

    /// Commits the region's memory, once; later calls cost nothing.
    pub fn commit(&self) {
        self.committed.call_once(|| {
            // Both are advice: without them the pages come one by one, at first use.
            let _ = self.mapping.advise(Advice::HugePage);
            let _ = self.mapping.advise(Advice::PopulateWrite);
        });
    }

    /// Where the region starts, and its size in bytes: for registering it with the kernel.
    pub fn region(&self) -> (*mut u8, usize) {
        (self.base, self.mapping.len())
    }

    /// The size of a slot in bytes.
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// The slots of one handle, as many as there are for it; none where others have them all.
    pub fn seat(self: &Arc<Self>) -> Vec<Buffer> {
        let mut free = self.lock();
        let keep = free.slots.len().saturating_sub(self.slots_per_handle);
        let starts = free.slots.split_off(keep);
        drop(free);
        starts
            .into_iter()
            .map(|start| self.buffer(start, self.slot_bytes))
            .collect()
    }

    /// A buffer of `bytes`, a multiple of the page size, from the first free range that holds it.
    pub fn try_lend(self: &Arc<Self>, bytes: usize) -> Option<Buffer> {
        debug_assert!(bytes > 0 && bytes.is_multiple_of(PAGE));
        let mut free = self.lock();
        let at = free.ranges.iter().position(|range| range.1 >= bytes)?;
        let (start, rest) = free.ranges[at];
        match rest == bytes {
            true => {
                free.ranges.remove(at);
            }
            false => free.ranges[at] = (start + bytes, rest - bytes),
        }
        drop(free);
        Some(self.buffer(start, bytes))
    }

    /// The common slot, waiting until whoever has it is done with its call.
    pub fn common(self: &Arc<Self>) -> Buffer {
        let free = self.lock();
        let waited = self.common_is_back.wait_while(free, |free| !free.common);
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).common = false;
        self.buffer(0, self.slot_bytes)
    }

    fn buffer(self: &Arc<Self>, start: usize, bytes: usize) -> Buffer {
        Buffer {
            workspace: self.clone(),
            start,
            bytes,
        }
    }

    /// Free bytes, slots and ranges together.
    pub fn free_bytes(&self) -> usize {
        let free = self.lock();
        (free.slots.len() + usize::from(free.common)) * self.slot_bytes
            + free.ranges.iter().map(|range| range.1).sum::<usize>()
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // A panic while the lock is held leaves the lists whole: each change is one step.
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn give_back(&self, start: usize, bytes: usize) {
        let mut free = self.lock();
        if start < self.lent_from {
            assert_eq!(bytes, self.slot_bytes, "I1: a slot comes back whole");
            if start > 0 {
                free.slots.push(start);
            } else {
                free.common = true;
                self.common_is_back.notify_one();
            }
            return;
        }
        let ranges = &mut free.ranges;
        let at = ranges.partition_point(|range| range.0 < start);
        let joins_before = at > 0 && ranges[at - 1].0 + ranges[at - 1].1 == start;
        let joins_after = at < ranges.len() && start + bytes == ranges[at].0;
        match (joins_before, joins_after) {
            (true, true) => {
                ranges[at - 1].1 += bytes + ranges[at].1;
                ranges.remove(at);
            }
            (true, false) => ranges[at - 1].1 += bytes,
            (false, true) => ranges[at] = (start, bytes + ranges[at].1),
            (false, false) => ranges.insert(at, (start, bytes)),
        }
    }
}

/// A piece of the workspace, owned: page aligned, whole pages.
pub(crate) struct Buffer {
    workspace: Arc<Workspace>,
    start: usize,
    bytes: usize,
}

impl Buffer {
    /// Whether a handle keeps this buffer for its life.
    pub fn is_slot(&self) -> bool {
        (1..self.workspace.lent_from).contains(&self.start)
    }

    /// Whether this is the common slot, which nobody keeps between two calls.
    pub fn is_common(&self) -> bool {
        self.start == 0
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` and `bytes` are a range of the mapping, which `workspace` keeps; its bytes are
        // initialized (anonymous mappings are zeroed), and only this buffer reaches them (I1).
        unsafe { std::slice::from_raw_parts(self.workspace.base.add(self.start), self.bytes) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the buffer is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.workspace.base.add(self.start), self.bytes) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.workspace.give_back(self.start, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::SpillConfig;

    #[test]
    fn everything_comes_back_and_joins() {
        let config = SpillConfig {
            workspace_bytes: 64 << 10,
            handles: 2,
            ..SpillConfig::default()
        };
        let geometry = config.geometry().unwrap();
        assert_eq!((geometry.buffer_bytes, geometry.slots), (8 << 10, 4));
        let workspace = Workspace::new(&geometry).unwrap();
        let mut state = 7u64;
        let mut held = Vec::new();
        for _ in 0..2000 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
            let pick = (state >> 33) as usize;
            if pick.is_multiple_of(3) && !held.is_empty() {
                held.swap_remove(pick % held.len());
            } else if let Some(buffer) = workspace.try_lend((pick % 4 + 1) * PAGE) {
                held.push(vec![buffer]);
            } else if pick.is_multiple_of(5) && !held.iter().flatten().any(Buffer::is_common) {
                held.push(vec![workspace.common()]);
            } else {
                held.push(workspace.seat());
            }
            for (number, buffer) in held.iter_mut().flatten().enumerate() {
                buffer.fill(number as u8);
            }
            for (number, buffer) in held.iter().flatten().enumerate() {
                assert!(
                    buffer.iter().all(|byte| *byte == number as u8),
                    "two buffers share bytes"
                );
            }
        }
        drop(held);
        assert_eq!(workspace.free_bytes(), 64 << 10);
        assert_eq!(workspace.lock().ranges, [(40 << 10, 24 << 10)]);
    }
}
