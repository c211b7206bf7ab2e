//! What leaves an aggregation's memory, and what stays: the second half of [`GroupedAggregate`].
//!
//! # Interface
//! [`GroupedAggregate::divert`] takes rows of spilled partitions out of a chunk; [`GroupedAggregate::make_room`] makes something leave
//! where a segment is needed; [`GroupedAggregate::judge_deferral`] says after each batch whether rows are put aside.

use super::folding::{Folding, Results};
use super::grouped::{GroupedAggregate, Phase, Work};
use super::groups::{Groups, Key};
use super::hot_keys::HotKeys;
use super::partitions::{Kept, Log, Partitions};
use crate::record::{KeyFields, Record};
use forebay_memory::{Result, SegmentSource};
use std::cmp::Reverse;
use std::sync::atomic::Ordering;

/// The most bits that one level of partitions takes: 64 partitions.
const MOST_BITS: u32 = 6;

/// Bits of the hash that partitions may use up: the tables need the others.
const LAST_BIT: u32 = 47;

/// A table of this many bytes is larger than any cache that it has to itself, and worth partitioning first where 7 of 8 rows have new keys.
const LARGE_TABLE: usize = 16 << 20;

/// One that fills a second-level cache is, where so few keys have come again that they will not be more in a large one.
const CACHED_TABLE: usize = 2 << 20;

/// Bits of the hash by which rows of new keys are put aside: partitions that fit in cache, without more tails of logs
/// than a second-level TLB has entries.
const MOST_DEFERRED_BITS: u32 = 9;
const LEAST_DEFERRED_BITS: u32 = 2;

/// One in 2^6 partitions stays in the table, to see whether keys are still new.
const SAMPLED_BITS: u32 = 6;

/// Rows between two looks at how many keys are new: of all, and of the sample.
const JUDGED_ROWS: usize = 2 << 10;
const JUDGED_SAMPLE: usize = 512;

/// Rows between two looks at how many of them go to logs. From one in so many on it is looked for hot keys among these: what that takes of the
/// memory has further partitions leave, which costs more than it saves where one in 64 has left (decision 023).
const DIVERTED_ROWS: usize = 512;
const HOT_FROM_ONE_IN: usize = 8;

/// Segments that an aggregation must have for hot keys to have some of them, and the share that they get.
const LEAST_FOR_HOT: usize = 16;
const HOT_SHARE: usize = 4;

/// Whether rows of new keys are put aside unaggregated, by hash partition, to be aggregated in cache at the end.
pub(super) enum Deferral {
    /// Not before the table is large and most rows have new keys.
    NotYet,
    /// All partitions but a sample have logs.
    On,
    /// Keys came again: partitions whose logs are in memory return to the table, one with each batch.
    Ending,
    /// Never again while this input lasts.
    Over,
}

/// Whether rows of spilled partitions are looked at for keys that come often.
pub(super) enum Hot {
    /// Nothing has been spilled.
    NotYet,
    /// They are.
    Counted(HotKeys),
    /// There is no memory for it, or each row is owed an answer in order.
    Never,
}

/// Rows, and those of them that were of spilled partitions, since a time.
#[derive(Default)]
pub(super) struct Diverted {
    rows: usize,
    spilled: usize,
}

/// Rows folded into the table, and groups that it had, since a time.
#[derive(Default)]
pub(super) struct Window {
    pub(super) rows: usize,
    pub(super) groups: usize,
}

impl<R, K, F, G, O> GroupedAggregate<R, K, F, G, O>
where
    R: Record,
    K: KeyFields<R>,
    F: Folding<R, G::State>,
    G: Groups<R, K>,
    O: Results<K::Key, G::State>,
{
    /// Appends the keys of the chunk, from place `from` on, whose partitions have left memory to their logs; the others
    /// stay in the chunk, and so do those that are hot, of which it answers the number.
    pub(super) fn divert(
        &mut self,
        from: usize,
        log: Log,
        fold: &mut impl FnMut(&mut F, usize, &mut G::State, bool),
    ) -> Result<usize> {
        // Rows that are put aside have new keys, and there is memory for them, while there is a sample.
        // While they return to the table, a partition with each batch, hot groups would have to be taken out for each.
        let is_put_aside = match self.deferral {
            Deferral::On => !self.partitions.as_ref().is_some_and(Partitions::are_all_spilled),
            Deferral::Ending => true,
            Deferral::NotYet | Deferral::Over => false,
        };
        if matches!(self.hot, Hot::NotYet) && !is_put_aside {
            self.look_for_hot_keys()?;
        }
        let mut chunk = std::mem::take(self.groups.chunk());
        let mut spilled = std::mem::take(&mut self.spilled);
        let partitions = self.partitions.as_mut().expect("rows are diverted to partitions");
        chunk.divide(from, &mut spilled, |hash| {
            partitions.is_spilled(partitions.of(hash))
        });
        self.diverted.rows += chunk.hashes.len() + spilled.len();
        self.diverted.spilled += spilled.len();
        let (mut hot_rows, mut writes_hot) = (0, false);
        if let Hot::Counted(hot) = &mut self.hot {
            let (was_on, rows) = (hot.is_on(), spilled.len());
            if hot.watches() {
                let hits = hot.touch_all(&mut spilled, &mut chunk, F::IS_ORDERED);
                hot.judge(rows, hits);
                writes_hot = hot.has_old_groups() || was_on && !hot.is_on();
            }
            if F::IS_ORDERED && hot.was_on() {
                // What comes after rows that were folded must be folded, too.
                spilled.retain(|key| {
                    let stays = self.groups.has(key.number as usize, key.hash);
                    if stays {
                        chunk.push(*key);
                    }
                    !stays
                });
            }
            hot_rows = rows - spilled.len();
        }
        *self.groups.chunk() = chunk;
        self.groups.chunk_changed();
        let (folding, entry, handle) = (&mut self.folding, &mut self.entry, &mut self.handle);
        for &Key { hash, number } in &spilled {
            let number = number as usize;
            self.groups
                .entry(number, hash, |state| fold(folding, number, state, true), entry);
            partitions.append(partitions.of(hash), log, entry, handle)?;
        }
        self.spilled = spilled;
        if writes_hot {
            self.write_hot_groups()?;
        }
        Ok(hot_rows)
    }

    /// Begins to count the keys of spilled partitions where many rows are of these.
    #[inline]
    fn look_for_hot_keys(&mut self) -> Result<()> {
        let Diverted { rows, spilled } = self.diverted;
        if rows < DIVERTED_ROWS {
            return Ok(());
        }
        self.diverted = Diverted::default();
        if HOT_FROM_ONE_IN * spilled < rows {
            return Ok(());
        }
        self.count_hot_keys();
        while matches!(self.hot, Hot::NotYet) {
            // There was no memory for it.
            if !self.write_kept()? {
                match &mut self.partitions {
                    Some(partitions) if !partitions.are_all_spilled() => self.make_room()?,
                    Some(partitions) if partitions.has_buffers() => {
                        partitions.give_up_buffers(&mut self.handle)?;
                    }
                    _ => {
                        self.source.budget.withdraw();
                        self.hot = Hot::Never;
                        return Ok(());
                    }
                }
            }
            self.count_hot_keys();
        }
        Ok(())
    }

    /// Begins to count the keys of spilled partitions, if there is memory for it.
    #[cold]
    fn count_hot_keys(&mut self) {
        let memory = self.memory();
        // What was spilled by another level is of groups, not of rows.
        if memory < LEAST_FOR_HOT || !matches!(self.phase, Phase::Folding) {
            self.hot = Hot::Never;
            self.source.budget.withdraw();
            return;
        }
        let bytes = self.groups.segments() * self.source.segment_size();
        let of_group = (bytes / self.groups.len().max(1)).max(32);
        let groups = memory / HOT_SHARE * self.source.segment_size() / of_group;
        if let Some(hot) = HotKeys::new(&*self.source, memory, groups) {
            self.hot = Hot::Counted(hot);
        }
    }

    /// Appends the groups of spilled partitions that are in the table to their logs.
    #[cold]
    pub(super) fn write_hot_groups(&mut self) -> Result<()> {
        let Hot::Counted(hot) = &mut self.hot else {
            return Ok(());
        };
        hot.forget_groups();
        let Some(partitions) = &mut self.partitions else {
            return Ok(());
        };
        let (bits, handle, mut result) = (partitions.bits(), &mut self.handle, Ok(()));
        for partition in 0..1usize << bits {
            if !partitions.is_spilled(partition) {
                continue;
            }
            self.groups.drain(partition as u64, bits, |entry| {
                if result.is_ok() {
                    result = partitions.append(partition, Log::States, entry, handle);
                }
            });
        }
        result
    }

    /// Makes what will be needed last leave memory: a log that was kept, or the partition of the table that holds most
    /// segments.
    #[cold]
    pub(super) fn make_room(&mut self) -> Result<()> {
        if self.write_kept()? {
            self.source.budget.withdraw();
            return Ok(());
        }
        let are_all_spilled = self.partitions.as_ref().is_some_and(Partitions::are_all_spilled);
        if are_all_spilled && let Hot::Counted(hot) = &mut self.hot {
            // What is in the table are hot keys alone: they are too many, or all there is are the buffers of logs.
            let goes_on = match (self.groups.is_empty(), &mut self.partitions) {
                (true, Some(partitions)) => {
                    partitions.give_up_buffers(&mut self.handle)?;
                    hot.is_denied()
                }
                _ => hot.halve(),
            };
            self.write_hot_groups()?;
            if !goes_on {
                self.hot = Hot::Never;
            }
            self.source.budget.withdraw();
            return Ok(());
        }
        if self.partitions.as_ref().is_none_or(Partitions::are_all_spilled) {
            let pages = self.groups.segments().max(2);
            let bits = (pages / 2).ilog2().clamp(1, MOST_BITS);
            if self.partitions.is_some() || self.skip_bits + bits > LAST_BIT {
                // Nothing can leave any more: keys without a place wait for another pass.
                self.source.is_closed.store(true, Ordering::Relaxed);
                let mut overflow = Partitions::new(self.skip_bits, 0, self.source.clone());
                overflow.open(0, self.reserve.take());
                self.overflow = Some(overflow);
                self.source.budget.withdraw();
                return Ok(());
            }
            self.partitions = Some(Partitions::new(self.skip_bits, bits, self.source.clone()));
        }
        let partitions = self.partitions.as_mut().expect("partitions were made above");
        let bits = partitions.bits();
        let (groups, loading) = (&self.groups, self.loading);
        let segments = |partition: &usize| groups.segments_in(*partition as u64, bits);
        let resident = (0..1usize << bits).filter(|partition| !partitions.is_spilled(*partition));
        let others = resident.clone().filter(|partition| Some(*partition) != loading);
        // What was read back takes its turn with the others; the first to leave are the largest.
        let largest = others
            .clone()
            .filter(|partition| segments(partition) > 0)
            .min_by_key(|partition| (partitions.read_back(*partition), Reverse(segments(partition))))
            .or_else(|| others.max())
            .or_else(|| resident.max())
            .expect("a partition is in memory");
        partitions.open(largest, self.reserve.take());
        let mut result = Ok(());
        let handle = &mut self.handle;
        self.groups.drain(largest as u64, bits, |entry| {
            if result.is_ok() {
                result = partitions.append(largest, Log::States, entry, handle);
            }
        });
        if matches!((&self.hot, &self.deferral), (Hot::NotYet, Deferral::On)) {
            // Logs are written at once from now on, and this is a part of the sample that tells whether keys are new.
            self.count_hot_keys();
        }
        self.reserve = self.source.try_take();
        // What was denied is not needed any more, now that there is room.
        self.source.budget.withdraw();
        result
    }

    /// Writes some log that is in memory; false where none is.
    pub(super) fn write_kept(&mut self) -> Result<bool> {
        if let Some(partitions) = &mut self.partitions
            && partitions.write_longest(&mut self.handle)?
        {
            return Ok(true);
        }
        if let Some(Work { spilled, .. }) = self.work.iter_mut().find(|work| !work.spilled.kept.is_empty()) {
            spilled.write_kept(&mut self.handle)?;
            return Ok(true);
        }
        let is_kept = !self.kept.is_empty();
        for Kept { segment, filled } in self.kept.drain(..) {
            self.rewritten.push(self.handle.write(&[&segment[..filled]])?);
        }
        Ok(is_kept)
    }

    /// Looks at the rows since the last look: whether to put rows aside from now on, or no longer.
    pub(super) fn judge_deferral(&mut self) -> Result<()> {
        match self.deferral {
            Deferral::NotYet if self.window.rows >= JUDGED_ROWS => {
                let new = self.groups.len().saturating_sub(self.window.groups);
                if self.partitions.is_some() {
                    // Too late: it did not all fit.
                    self.deferral = Deferral::Over;
                } else if self.keys_are_new(new) {
                    self.defer()?;
                }
            }
            Deferral::On if self.partitions.as_ref().is_some_and(Partitions::is_uneven) => {
                self.deferral = Deferral::Ending;
            }
            Deferral::On if self.window.rows >= JUDGED_SAMPLE => {
                let new = self.groups.len().saturating_sub(self.window.groups);
                if 2 * new < self.window.rows {
                    self.deferral = Deferral::Ending;
                }
            }
            Deferral::Ending => {
                // What is read back is older than what hot keys have in memory.
                self.write_hot_groups()?;
                let partitions = self
                    .partitions
                    .as_mut()
                    .expect("rows are put aside in partitions");
                match partitions.take_kept(&mut self.handle)? {
                    Some(spilled) => {
                        let mut reading = self.begin_reading(spilled)?;
                        while self.read_block(&mut reading)? {}
                    }
                    None => {
                        partitions.keep_logs(false);
                        self.deferral = Deferral::Over;
                        if partitions.are_all_resident() {
                            // Rows are not asked for their partition any more.
                            self.partitions = None;
                        }
                    }
                }
            }
            _ => return Ok(()),
        }
        self.window = Window {
            rows: 0,
            groups: self.groups.len(),
        };
        Ok(())
    }

    /// Whether the table is worth partitioning, with so many new keys among the rows since the last look: a part of the rows has keys
    /// that came before, which grows with the table; where it is a large one, it is to be an eighth at most.
    fn keys_are_new(&self, new: usize) -> bool {
        let (segment, segments) = (self.source.segment_size(), self.groups.segments());
        // Each partition has a segment to be filled: not more than an eighth of the memory.
        let few = self.memory() / 4;
        let large = few.min(LARGE_TABLE / segment);
        let old = self.window.rows.saturating_sub(new);
        few >= 4 << LEAST_DEFERRED_BITS
            && segments >= large.min(CACHED_TABLE / segment)
            && 8 * old * large <= self.window.rows * segments.min(large)
    }

    /// The segments that it may count on.
    fn memory(&self) -> usize {
        let budget = &self.source.budget;
        budget.fair_share().min(budget.maximum())
    }

    /// Puts the groups of most partitions in logs that stay in memory, to be followed by their rows.
    #[cold]
    fn defer(&mut self) -> Result<()> {
        let bits = (self.memory() / 8)
            .ilog2()
            .clamp(LEAST_DEFERRED_BITS, MOST_DEFERRED_BITS);
        if self.skip_bits + bits > LAST_BIT {
            self.deferral = Deferral::Over;
            return Ok(());
        }
        let mut partitions = Partitions::new(self.skip_bits, bits, self.source.clone());
        partitions.keep_logs(true);
        let sample = (1 << bits >> SAMPLED_BITS).max(1);
        for partition in sample..1 << bits {
            partitions.open(partition, None);
        }
        let mut result = Ok(());
        let handle = &mut self.handle;
        for partition in sample..1usize << bits {
            self.groups.drain(partition as u64, bits, |entry| {
                if result.is_ok() {
                    result = partitions.append(partition, Log::States, entry, handle);
                }
            });
        }
        self.partitions = Some(partitions);
        self.deferral = Deferral::On;
        result
    }
}
