//! Reading runs ahead of their merge, in the order in which it will want them.
//!
//! # Interface
//! [`ReadAhead::new`] over the spilled pieces of a merge, numbered as they come; [`Disk::read`] gives their blocks, each piece's in
//! order.
//!
//! # Algorithm
//! 1. A *window* is neighbouring blocks of a piece that one read fetches. As soon as there is memory for one, the next window is
//!    asked for of the piece of which the first row in it comes first in the order (Knuth, volume 3, 5.4.6: forecasting): the index has
//!    first words. Where these are equal, of the one that has least windows ahead.
//! 2. A block that was read changes places with the segment of the block before it, which is free then: memory comes back block by block.
//! 3. First windows are of all sizes, so that later ones do not end all at once.
//! 4. A block that was not asked for when its turn comes is read by itself, through the workspace: slower, never wrong. A piece whose
//!    next block cannot be asked for, because it is still being written, is passed over until the next of its blocks was read.
//!
//! # Memory
//! What it is given. Half a window for each piece is in use on the average, so some more than that ([`windows_ahead`]) keep the disk busy.
//!
//! # Cost
//! A look at each piece's next word, side by side in memory, for each window.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::items::Items;
use super::run::{Piece, Run, SpilledRun};
use crate::error::Result;
use crate::segment::Segment;
use crate::spill::{Fetched, SpillHandle};

/// The largest window in bytes.
const WINDOW: usize = 512 << 10;

/// The fewest windows that are on their way, besides those that are being merged.
const AHEAD: usize = 8;

/// Windows that are on their way on the average. What is left of those of n pieces that are being merged varies by √(n/12) windows: by
/// twice as many, so that the disk seldom has nothing to do.
fn windows_ahead(pieces: usize) -> usize {
    AHEAD + (pieces / 3).isqrt()
}

/// Segments of a size that reading so many pieces ahead makes good use of.
pub(super) fn segments_for(pieces: usize, segment_size: usize) -> usize {
    (pieces.div_ceil(2) + windows_ahead(pieces)) * (WINDOW / segment_size).max(1)
}

/// The spilled pieces of a merge, and what was asked for of them.
pub(super) struct ReadAhead {
    inputs: Vec<Input>,
    /// Of each input, the first word of the next block to be asked for; none where there is none.
    next: Vec<Option<u64>>,
    /// Free memory.
    pool: Vec<Segment>,
    /// Segments of a window.
    window: usize,
}

struct Input {
    run: Arc<SpilledRun>,
    /// Blocks that were not asked for.
    blocks: Range<usize>,
    windows: VecDeque<Window>,
    /// The most segments of its next window.
    most: usize,
}

impl Input {
    /// The first word of the next block to be asked for.
    fn word(&self) -> Option<u64> {
        (!self.blocks.is_empty()).then(|| self.run.blocks[self.blocks.start].word)
    }
}

struct Window {
    /// The block after its last.
    end: usize,
    fetched: Fetched,
}

/// How the cursors of a merge get blocks.
pub(super) struct Disk<'a> {
    /// The way to the spill store.
    pub handle: &'a mut SpillHandle,
    /// What was asked for.
    pub ahead: &'a mut ReadAhead,
}

impl Disk<'_> {
    /// Reads block `block` of input `number`, the one after that which was read before it; where in `into`, which may have become
    /// another segment, its rows are.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn read(&mut self, number: usize, block: usize, into: &mut Segment) -> Result<Range<usize>> {
        let ahead = &mut *self.ahead;
        let input = &mut ahead.inputs[number];
        let reference = input.run.blocks[block].reference;
        let payload = match input.windows.front_mut() {
            Some(window) => {
                let next = (block + 1 < window.end).then(|| &input.run.blocks[block + 1].reference);
                let fetched = &mut window.fetched;
                let pool = &mut ahead.pool;
                let payload = self.handle.take_fetched(fetched, &reference, next, into, pool)?;
                if next.is_none() {
                    input.windows.pop_front();
                }
                payload
            }
            None => {
                input.blocks.start = block + 1;
                0..self.handle.read(&reference, into)?
            }
        };
        // What was still being written when it was to be asked for may be on disk by now.
        ahead.next[number] = input.word();
        ahead.plan(self.handle)?;
        Ok(payload)
    }
}

impl ReadAhead {
    /// Nothing asked for yet of the spilled ones among `pieces`, with `pool` as memory.
    pub fn new<'a, I: Items + 'a>(pieces: impl Iterator<Item = &'a Piece<I>>, pool: Vec<Segment>) -> Self {
        let spilled = pieces.filter_map(|piece| match &piece.run {
            Run::Memory(_) => None,
            Run::Spilled(run) => Some((run.clone(), run.blocks_of(piece.from, piece.to))),
        });
        let mut inputs: Vec<Input> = spilled
            .map(|(run, blocks)| Input {
                run,
                blocks,
                windows: VecDeque::new(),
                most: 0,
            })
            .collect();
        let count = inputs.len();
        let largest = pool.first().map_or(1, |segment| WINDOW.div_ceil(segment.len()));
        // A piece that is being merged has a segment besides, which is the first of its window once that is reached.
        let half = count.div_ceil(2);
        let window = ((pool.len() + half) / (half + windows_ahead(count))).clamp(2, largest.max(2));
        for (number, input) in inputs.iter_mut().enumerate() {
            input.most = (window * (number + 1)).div_ceil(count).max(2);
        }
        let next = inputs.iter().map(Input::word).collect();
        ReadAhead {
            inputs,
            next,
            pool,
            window,
        }
    }

    /// Asks for windows as long as there is memory.
    ///
    /// # Errors
    /// Those of the spill store.
    pub fn plan(&mut self, handle: &mut SpillHandle) -> Result<()> {
        let mut has_asked = false;
        while self.pool.len() >= self.window
            && let Some(number) = self.next()
        {
            let segment_size = self.pool[0].len();
            let input = &mut self.inputs[number];
            let blocks = &input.run.blocks[input.blocks.clone()];
            let references = blocks.iter().map(|block| block.reference);
            let (count, bytes) = handle.neighbours(references, input.most * segment_size);
            if count == 0 {
                // It cannot be asked for before it is read.
                self.next[number] = None;
                continue;
            }
            let segments = self
                .pool
                .split_off(self.pool.len() - bytes.div_ceil(segment_size));
            let fetched = handle.fetch(&blocks[0].reference, bytes, segments)?;
            input.blocks.start += count;
            input.most = self.window;
            self.next[number] = input.word();
            let end = input.blocks.start;
            input.windows.push_back(Window { end, fetched });
            has_asked = true;
        }
        if has_asked {
            handle.start_fetches();
        }
        Ok(())
    }

    /// The input of which the next window is wanted first.
    fn next(&self) -> Option<usize> {
        let mut first: Option<(u64, usize)> = None;
        for (number, word) in self.next.iter().enumerate() {
            let Some(word) = *word else { continue };
            let is_first = first.is_none_or(|(least, other)| match word == least {
                false => word < least,
                true => self.inputs[number].windows.len() < self.inputs[other].windows.len(),
            });
            if is_first {
                first = Some((word, number));
            }
        }
        first.map(|(_, number)| number)
    }

    /// The memory, when all was read.
    pub fn into_segments(self) -> impl Iterator<Item = Segment> {
        self.pool.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::{ColumnKind, ColumnOrder, KeyColumn};
    use super::super::narrow::{Narrow, NarrowRow, NumberRow};
    use super::super::run::RunWriter;
    use super::*;
    use crate::manager::MemoryManager;
    use crate::segment::SegmentSource;
    use crate::spill::{SimulatedDisk, SimulatedFaults, SpillConfig, SpillStore};

    const SEGMENT: usize = 4096;

    fn numbers() -> Narrow<ColumnOrder, NumberRow> {
        let key = KeyColumn {
            offset: 0,
            width: 8,
            kind: ColumnKind::Integer { signed: false },
            descending: false,
        };
        let Some(NarrowRow::Number(form)) = NarrowRow::of(8, &[key]) else {
            unreachable!("a number is narrow");
        };
        Narrow::new(ColumnOrder::new(8, vec![key]), form)
    }

    /// An input whose last blocks were still in the buffer that is being filled when it was asked for is asked for again with its next
    /// block, not only when all that had come of it is used up.
    #[test]
    fn blocks_that_were_being_written_are_asked_for_when_they_are_on_disk() {
        let disk = SimulatedDisk::new(5, SimulatedFaults::default());
        let config = SpillConfig {
            workspace_bytes: 64 << 10,
            handles: 1,
            extent_bytes: 256 << 10,
            ..SpillConfig::default()
        };
        let store = SpillStore::on_simulated(&disk, &config).expect("a store on a simulated disk");
        let manager = MemoryManager::with_segments(64, 8, SEGMENT).expect("there is memory");
        let budget = manager.budget("sort", 8, 64).expect("there is memory");
        let take = || budget.try_take().expect("there is memory");
        let mut handle = store.handle("sort").expect("there is room for one");

        let form = numbers();
        let mut writer = RunWriter::new(take(), true);
        // In no pattern, so that nothing is compressed: 20 blocks.
        let mut random = 1u64;
        let mut numbers: Vec<u64> = (0..10_000)
            .map(|_| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
                random ^ random >> 29
            })
            .collect();
        numbers.sort_unstable();
        writer
            .push_items(&form, &numbers, &mut handle)
            .expect("the disk works");
        let (run, mut into) = writer.finish(&mut handle).expect("the disk works");
        let run = Arc::new(run);
        let blocks = run.blocks.len();
        let piece: Piece<Narrow<ColumnOrder, NumberRow>> = Run::Spilled(run).whole();
        let pool: Vec<Segment> = (0..48).map(|_| take()).collect();
        let mut ahead = ReadAhead::new(std::iter::once(&piece), pool);
        ahead.plan(&mut handle).expect("the disk works");
        let asked = ahead.inputs[0].blocks.start;
        assert!(
            (2..blocks).contains(&asked) && ahead.next[0].is_none(),
            "{asked} of {blocks} blocks were asked for, others are being written"
        );
        handle.flush().expect("the disk works");

        let mut found = Vec::new();
        for block in 0..blocks {
            let disk = &mut Disk {
                handle: &mut handle,
                ahead: &mut ahead,
            };
            let rows = disk.read(0, block, &mut into).expect("the disk works");
            let mut items = vec![0; rows.len() / 8];
            form.read(&into[rows], &mut items);
            found.extend(items);
            assert!(
                ahead.inputs[0].blocks.is_empty(),
                "there is memory for all {blocks} blocks, and only {} were asked for after block {block}",
                ahead.inputs[0].blocks.start
            );
        }
        assert!(found == numbers, "all blocks come in order");
        drop((ahead, into, handle));
        assert_eq!(manager.outstanding(), 0, "segments are out");
    }
}
