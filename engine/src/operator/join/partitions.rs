//! The rows of a join by hash partition: buffers, rows in memory, tables, and blocks in the spill store.
//!
//! # Interface
//! [`Partitions::append`] takes rows of either side. After the last row of the build side,
//! [`Partitions::finish_build`] makes the table of each partition that is in memory; [`Partitions::table`] has it.
//! Rows of the probe side whose partition has left memory are appended, too. [`Partitions::close`] hands over what was
//! spilled.
//!
//! # Algorithm
//! Where a segment is needed and there is none, what holds most segments leaves memory: the build side of a partition,
//! whose later rows then go to its log, or probe rows that came before the build side had ended. Where nothing is left
//! but buffers, the fullest of them is written, and serves.
//!
//! Where build rows are marked that have matched, those that are leave by themselves: to a log of their own, from which their
//! table has them marked again, or to nowhere where a row that has matched once is of no further use.
//!
//! # Memory
//! A segment for each partition that has rows, and side; the rows; the tables, each with its partition's rows
//! twice while it is made. References to blocks and segments are on the heap: 16 to 40 bytes for each segment of rows.
//!
//! # Invariants
//! I1. Every entry is in one place: a buffer, a kept segment, a table, a large entry's segments, or a block.

use forebay_memory::join::{EntryShape, Filled, JoinFilter, JoinTable};
use forebay_memory::scatter::{SEGMENT_HEADER_SIZE, SegmentWriter, scatter_rows};
use forebay_memory::spill::BlockRef;
use forebay_memory::{Budget, Error, Result, Segment, SegmentSource, SpillHandle};

/// A target that no row goes to.
pub(super) const NOWHERE: u16 = u16::MAX;

/// Segments of tables from which on probe rows are put aside: below it, 4 MiB, they are in a cache anyway. Tests, of small data, put
/// rows aside, too.
const LEAST_TABLES: usize = if cfg!(debug_assertions) { 2 } else { 128 };

/// Bytes up to which all tables are one, in a cache anyway, and the part of the share: where memory is wanted back it leaves as a
/// whole. Tests have tables that are asked to leave.
const MOST_IN_ONE: usize = if cfg!(debug_assertions) {
    128 << 10
} else {
    4 << 20
};
const PART_IN_ONE: usize = 8;

/// The largest probe rows that are: copying larger ones costs more than waiting for their entries.
const LARGEST_ASIDE: usize = 64;

/// Free segments for each partition that it takes, and the part of all: with fewer its table leaves the cache again before it has served.
const LEAST_ASIDE: usize = if cfg!(debug_assertions) { 1 } else { 2 };
const LEAST_PART_ASIDE: usize = 16;

/// What rows of a side do while a table is made of one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// They are in tables.
    Build,
    /// They look for matches.
    Probe,
    /// They are in tables, too, and have had a match before they left memory.
    Matched,
}

const ROLES: [Role; 3] = [Role::Build, Role::Probe, Role::Matched];

/// Whether build rows are marked that have matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    None,
    /// They are, and are of no further use then.
    Once,
    /// They are, and have matches all the same.
    Kept,
}

/// An entry that no segment holds.
pub(super) struct Large {
    segments: Vec<Segment>,
    size: usize,
    pub(super) hash: u64,
    pub(super) is_marked: bool,
}

impl Large {
    /// The entry in one piece.
    pub(super) fn copy_to(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        for segment in &self.segments {
            let rest = self.size - bytes.len();
            bytes.extend_from_slice(&segment[..rest.min(segment.len())]);
        }
    }

    fn write(&self, handle: &mut SpillHandle) -> Result<BlockRef> {
        let mut rest = self.size;
        let parts: Vec<&[u8]> = self
            .segments
            .iter()
            .map(|segment| {
                let part = &segment[..rest.min(segment.len())];
                rest -= part.len();
                part
            })
            .collect();
        handle.write(&parts)
    }
}

/// The entries of one side of a partition, but for those in its buffer.
#[derive(Default)]
struct Side {
    blocks: Vec<BlockRef>,
    kept: Vec<Filled>,
    large: Vec<Large>,
    /// Entries, and bytes of them, in all of these and in the table.
    rows: usize,
    bytes: usize,
}

impl Side {
    fn segments(&self) -> usize {
        let large: usize = self.large.iter().map(|large| large.segments.len()).sum();
        self.kept.len() + large
    }

    /// Writes what is in memory, and gives its segments back.
    fn write(&mut self, handle: &mut SpillHandle) -> Result<()> {
        for filled in self.kept.drain(..) {
            self.blocks.push(handle.write(&[filled.entries()])?);
        }
        for large in self.large.drain(..) {
            self.blocks.push(large.write(handle)?);
        }
        Ok(())
    }

    /// Counts entries that it gets from another side, or, where that has no use for them, does not.
    fn count(&mut self, rows: usize, bytes: usize) {
        self.rows += rows;
        self.bytes += bytes;
    }

    fn discount(&mut self, rows: usize, bytes: usize) {
        self.rows -= rows;
        self.bytes -= bytes;
    }
}

#[derive(Default)]
struct Partition {
    /// Its large entries may have matched.
    build: Side,
    probe: Side,
    /// Build rows that have matched, before there is a table, and in the spill store.
    matched: Side,
    table: Option<JoinTable>,
    /// Whether the build side has left memory.
    is_spilled: bool,
    /// Says of a probe row that it has no match in the build side that has left memory.
    filter: Option<JoinFilter>,
}

impl Partition {
    fn side(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Build => &mut self.build,
            Role::Probe => &mut self.probe,
            Role::Matched => &mut self.matched,
        }
    }

    /// Writes the build side, and gives its segments back.
    fn leave(&mut self, marks: Marks, handle: &mut SpillHandle) -> Result<()> {
        if let Some(table) = self.table.take() {
            if marks == Marks::None {
                for piece in table.pieces() {
                    self.build.blocks.push(handle.write(&[piece])?);
                }
            } else {
                for (parts, rows) in table.pieces_marked(true) {
                    let bytes = parts.iter().map(|part| part.len()).sum();
                    self.build.discount(rows, bytes);
                    if rows > 0 && marks == Marks::Kept {
                        self.matched.blocks.push(handle.write(&parts)?);
                        self.matched.count(rows, bytes);
                    }
                }
                for (parts, rows) in table.pieces_marked(false) {
                    if rows > 0 {
                        self.build.blocks.push(handle.write(&parts)?);
                    }
                }
            }
        }
        let (matched, large) = std::mem::take(&mut self.build.large)
            .into_iter()
            .partition(|large| large.is_marked);
        self.build.large = large;
        for large in matched {
            let large: Large = large;
            self.build.discount(1, large.size);
            if marks == Marks::Kept {
                self.matched.blocks.push(large.write(handle)?);
                self.matched.count(1, large.size);
            }
        }
        self.build.write(handle)?;
        self.matched.write(handle)
    }
}

/// Entries that a partition has left in the spill store.
#[derive(Default)]
pub(super) struct Spilled {
    pub(super) blocks: Vec<BlockRef>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Spilled {
    fn of(side: Side) -> Spilled {
        Spilled {
            blocks: side.blocks,
            rows: side.rows,
            bytes: side.bytes,
        }
    }
}

/// What a partition has left there.
pub(super) struct Left {
    pub(super) build: Spilled,
    /// Build rows that have matched.
    pub(super) matched: Spilled,
    pub(super) probe: Spilled,
}

/// The hash partitions of both sides.
pub(super) struct Partitions {
    skip_bits: u32,
    bits: u32,
    shapes: [EntryShape; 2],
    list: Vec<Partition>,
    writers: [Vec<SegmentWriter>; 3],
    budget: Budget,
    marks: Marks,
    /// Whether nothing has left memory since, and no entry is large.
    are_all_in_tables: bool,
    /// The partition whose table is being walked: it stays.
    walked: Option<usize>,
    /// Segments that probe rows may have which are put aside.
    aside_limit: usize,
}

impl Partitions {
    /// `2^bits` partitions by the bits of the hash after the first `skip_bits`, for entries of these shapes: of the build
    /// side and of the probe side.
    pub(super) fn new(
        skip_bits: u32,
        bits: u32,
        shapes: [EntryShape; 2],
        marks: Marks,
        budget: Budget,
    ) -> Self {
        let count = 1usize << bits;
        let writers = |shape: EntryShape| {
            (0..count)
                .map(|_| SegmentWriter::vacant(shape.stride()))
                .collect()
        };
        Partitions {
            skip_bits,
            bits,
            shapes,
            list: (0..count).map(|_| Partition::default()).collect(),
            writers: [writers(shapes[0]), writers(shapes[1]), writers(shapes[0])],
            budget,
            marks,
            are_all_in_tables: false,
            walked: None,
            aside_limit: 0,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The bits of the hash that the entries of a partition share.
    pub(super) fn used_bits(&self) -> u32 {
        self.skip_bits + self.bits
    }

    /// The partition of a hash.
    #[inline(always)]
    pub(super) fn of(&self, hash: u64) -> usize {
        if self.bits == 0 {
            0
        } else {
            ((hash << self.skip_bits) >> (64 - self.bits)) as usize
        }
    }

    /// The partitions of hashes.
    pub(super) fn targets(&self, hashes: &[u64], targets: &mut Vec<u16>) {
        targets.clear();
        if self.bits == 0 {
            targets.resize(hashes.len(), 0);
            return;
        }
        let (skip, shift) = (self.skip_bits, 64 - self.bits);
        targets.extend(hashes.iter().map(|hash| ((hash << skip) >> shift) as u16));
    }

    fn shape(&self, role: Role) -> EntryShape {
        match role {
            Role::Build | Role::Matched => self.shapes[0],
            Role::Probe => self.shapes[1],
        }
    }

    /// The largest entry that lies in a segment.
    fn payload(&self) -> usize {
        // A table's segments have marks where a buffer has its header.
        let segment = self.budget.segment_size();
        match self.marks {
            Marks::None => segment - SEGMENT_HEADER_SIZE,
            Marks::Once | Marks::Kept => segment - SEGMENT_HEADER_SIZE - segment / 64,
        }
    }

    /// Adds rows of fixed size, whose entries are the rows alone, to their partitions.
    pub(super) fn append_plain(
        &mut self,
        role: Role,
        rows: &[u8],
        targets: &[u16],
        handle: &mut SpillHandle,
    ) -> Result<()> {
        let shape = self.shape(role);
        let stride = shape.stride();
        debug_assert!(stride > 0 && !shape.is_hashed());
        let mut row = 0;
        while row < targets.len() {
            let writers = &mut self.writers[role as usize];
            row += scatter_rows(&rows[row * stride..], stride, &targets[row..], writers);
            if row < targets.len() {
                self.make_space(role, targets[row] as usize, handle)?;
            }
        }
        Ok(())
    }

    /// Adds a row to its partition.
    #[inline]
    pub(super) fn append(
        &mut self,
        role: Role,
        partition: usize,
        row: &[u8],
        hash: u64,
        handle: &mut SpillHandle,
    ) -> Result<()> {
        let shape = self.shape(role);
        let size = shape.with_hash(row.len());
        if size > self.payload() {
            return self.append_large(role, partition, row, hash, handle);
        }
        loop {
            if let Some(entry) = self.writers[role as usize][partition].reserve(size) {
                shape.write(row, hash, entry);
                return Ok(());
            }
            self.make_space(role, partition, handle)?;
        }
    }

    /// Whether entries of one side are larger than a segment, all of them.
    pub(super) fn are_large(&self, role: Role) -> bool {
        self.shape(role).stride() > self.payload()
    }

    /// Adds an entry that no segment holds: to segments of its own, or as a block of its own.
    #[cold]
    fn append_large(
        &mut self,
        role: Role,
        partition: usize,
        row: &[u8],
        hash: u64,
        handle: &mut SpillHandle,
    ) -> Result<()> {
        let shape = self.shape(role);
        let mut entry = vec![0; shape.with_hash(row.len())];
        shape.write(row, hash, &mut entry);
        let mut segments = Vec::new();
        for part in entry.chunks(self.budget.segment_size()) {
            if self.list[partition].is_spilled {
                break;
            }
            let Some(mut segment) = self.obtain(handle)? else {
                break;
            };
            segment[..part.len()].copy_from_slice(part);
            segments.push(segment);
        }
        let has_all = segments.len() * self.budget.segment_size() >= entry.len();
        if has_all && !self.list[partition].is_spilled {
            let side = match role {
                Role::Probe => &mut self.list[partition].probe,
                Role::Build | Role::Matched => &mut self.list[partition].build,
            };
            side.count(1, entry.len());
            side.large.push(Large {
                segments,
                size: entry.len(),
                hash,
                is_marked: role == Role::Matched,
            });
            return Ok(());
        }
        drop(segments);
        if role != Role::Probe && !self.list[partition].is_spilled {
            self.spill(partition, handle)?;
        }
        let block = handle.write(&[&entry])?;
        let side = self.list[partition].side(role);
        side.count(1, entry.len());
        side.blocks.push(block);
        Ok(())
    }

    /// Puts an empty buffer in the place of a full one, or where there is none.
    #[cold]
    fn make_space(&mut self, role: Role, partition: usize, handle: &mut SpillHandle) -> Result<()> {
        let is_spilled = self.list[partition].is_spilled;
        let writer = &mut self.writers[role as usize][partition];
        if is_spilled && writer.rows_written() > 0 {
            let segment = self.write_buffer(role, partition, handle)?;
            self.writers[role as usize][partition].put(segment);
            return Ok(());
        }
        self.keep_buffer(role, partition);
        let segment = match self.obtain(handle)? {
            Some(segment) => segment,
            None => self.steal(handle)?,
        };
        self.writers[role as usize][partition].put(segment);
        Ok(())
    }

    /// Writes what is in a buffer; answers the buffer.
    fn write_buffer(&mut self, role: Role, partition: usize, handle: &mut SpillHandle) -> Result<Segment> {
        let writer = &mut self.writers[role as usize][partition];
        let (rows, bytes) = (writer.rows_written(), writer.written());
        let side = self.list[partition].side(role);
        if rows > 0 {
            side.blocks.push(handle.write(&[writer.rows()])?);
            side.count(rows, bytes);
        }
        Ok(writer.take().expect("a buffer that is written is there"))
    }

    /// Keeps a buffer with rows, and gives an empty one back.
    fn keep_buffer(&mut self, role: Role, partition: usize) {
        let writer = &mut self.writers[role as usize][partition];
        let (rows, bytes) = (writer.rows_written(), writer.written());
        let Some(segment) = writer.take() else {
            return;
        };
        if rows > 0 {
            let side = self.list[partition].side(role);
            side.kept.push(Filled { segment, bytes });
            side.count(rows, bytes);
        }
    }

    /// A segment; what holds most leaves memory until there is one, or nothing but buffers is left.
    fn obtain(&mut self, handle: &mut SpillHandle) -> Result<Option<Segment>> {
        loop {
            if let Some(segment) = self.budget.try_take() {
                return Ok(Some(segment));
            }
            if !self.shed(handle)? {
                return Ok(None);
            }
        }
    }

    /// Lets what holds most segments leave memory; false where there is nothing but buffers.
    fn shed(&mut self, handle: &mut SpillHandle) -> Result<bool> {
        let most = (0..self.list.len())
            .flat_map(|partition| [(partition, Role::Build), (partition, Role::Probe)])
            .map(|(partition, role)| (self.sheddable(partition, role), partition, role))
            .max_by_key(|(segments, ..)| *segments);
        match most {
            Some((segments, partition, role)) if segments > 0 => {
                match role {
                    Role::Probe => self.list[partition].probe.write(handle)?,
                    Role::Build | Role::Matched => self.spill(partition, handle)?,
                }
                Ok(true)
            }
            // A filter saves work, and is missed by nobody.
            _ => Ok(self.drop_filter()),
        }
    }

    /// Gives back the segments of all filters.
    pub(super) fn drop_filters(&mut self) {
        while self.drop_filter() {}
    }

    /// Gives back the segments of a filter, if there is one.
    fn drop_filter(&mut self) -> bool {
        let mut filters = self.list.iter_mut().filter_map(|here| here.filter.take());
        filters.next().is_some()
    }

    /// The filter for the build side of a partition that has left memory, empty, and its blocks; `None` where it has one, or one
    /// would be of no use. `share` are the segments that all may have; tables leave for it.
    pub(super) fn make_filter(
        &mut self,
        partition: usize,
        share: usize,
        handle: &mut SpillHandle,
    ) -> Result<Option<(JoinFilter, Vec<BlockRef>)>> {
        let here = &self.list[partition];
        let rows = here.build.rows + here.matched.rows;
        if !here.is_spilled || here.filter.is_some() || rows == 0 {
            return Ok(None);
        }
        let spilled = self.list.iter().filter(|here| here.is_spilled).count();
        let most = share / 2 / spilled;
        let Some(count) = JoinFilter::segments_for(rows, most, self.budget.segment_size()) else {
            return Ok(None);
        };
        let mut segments = Vec::with_capacity(count);
        while segments.len() < count {
            match self.budget.try_take() {
                Some(segment) => segments.push(segment),
                None if self.has_sheddable() => {
                    self.shed(handle)?;
                }
                None => return Ok(None),
            }
        }
        let here = &self.list[partition];
        let blocks = [&here.build.blocks[..], &here.matched.blocks[..]].concat();
        Ok(Some((JoinFilter::new(segments, self.used_bits()), blocks)))
    }

    fn has_sheddable(&self) -> bool {
        (0..self.list.len()).any(|partition| self.sheddable(partition, Role::Build) > 0)
    }

    /// Probe rows of a partition pass a filter from now on.
    pub(super) fn set_filter(&mut self, partition: usize, filter: JoinFilter) {
        self.list[partition].filter = Some(filter);
    }

    /// The filter of a partition, if it has one.
    #[inline(always)]
    pub(super) fn filter(&self, partition: usize) -> Option<&JoinFilter> {
        self.list[partition].filter.as_ref()
    }

    /// How many segments would come back if one side of a partition left memory.
    fn sheddable(&self, partition: usize, role: Role) -> usize {
        let here = &self.list[partition];
        match role {
            Role::Probe => here.probe.segments(),
            Role::Build | Role::Matched if self.walked == Some(partition) => 0,
            Role::Build | Role::Matched => {
                let table = here.table.as_ref().map_or(0, JoinTable::segments);
                here.build.segments() + here.matched.segments() + table
            }
        }
    }

    /// Writes the build side of a partition: it has left memory, but for its buffer.
    fn spill(&mut self, partition: usize, handle: &mut SpillHandle) -> Result<()> {
        self.are_all_in_tables = false;
        let here = &mut self.list[partition];
        here.is_spilled = true;
        here.leave(self.marks, handle)
    }

    /// The fullest buffer, its rows written.
    #[cold]
    fn steal(&mut self, handle: &mut SpillHandle) -> Result<Segment> {
        let fullest = (0..self.list.len())
            .flat_map(|partition| ROLES.map(|role| (partition, role)))
            .filter(|(partition, role)| !self.writers[*role as usize][*partition].is_vacant())
            .max_by_key(|(partition, role)| self.writers[*role as usize][*partition].written());
        let Some((partition, role)) = fullest else {
            return Err(self.too_small());
        };
        if role != Role::Probe && !self.list[partition].is_spilled {
            self.spill(partition, handle)?;
        }
        self.write_buffer(role, partition, handle)
    }

    #[cold]
    fn too_small(&self) -> Error {
        Error::memory(format!(
            "{}: has no segment left to put a row in, of the {} that its budget may have; raise memory.managed_size",
            self.budget.owner(),
            self.budget.maximum()
        ))
    }

    /// Gives back segments until `target` are held, as far as that is possible.
    pub(super) fn shrink(&mut self, target: usize, handle: &mut SpillHandle) -> Result<()> {
        while self.budget.held() > target && self.shed(handle)? {}
        while self.budget.held() > target && self.writers.iter().flatten().any(|writer| !writer.is_vacant()) {
            self.steal(handle)?;
        }
        Ok(())
    }

    /// After the last row of the build side: makes one partition of all where its rows are few, all in memory, and there is room for the table.
    /// To look in one table costs less than to find for each row the one to look in. `share` are the segments that all may have.
    pub(super) fn merge_small(&mut self, share: usize) {
        let are_plain = |here: &Partition| {
            !here.is_spilled && here.build.large.is_empty() && here.matched.rows + here.probe.rows == 0
        };
        let segment_size = self.budget.segment_size();
        let buffers = |role: Role| self.writers[role as usize].iter();
        let bytes = self.build_bytes() + buffers(Role::Build).map(SegmentWriter::written).sum::<usize>();
        let rows = self.build_rows()
            + buffers(Role::Build)
                .map(SegmentWriter::rows_written)
                .sum::<usize>();
        // The table has a directory.
        let needed = (bytes + 4 * rows).div_ceil(segment_size) + 2;
        let most = (MOST_IN_ONE / segment_size).min(share / PART_IN_ONE);
        // Rows that came before it would be taken out at once, and could not leave any more.
        let has_early = buffers(Role::Probe)
            .chain(buffers(Role::Matched))
            .any(|writer| !writer.is_vacant());
        let is_small = needed <= most.min(self.budget.available());
        if self.bits == 0 || !is_small || has_early || !self.list.iter().all(are_plain) {
            return;
        }
        let shape = self.shape(Role::Build);
        let mut one = Partitions::new(self.skip_bits, 0, self.shapes, self.marks, self.budget.clone());
        for partition in 0..self.list.len() {
            self.keep_buffer(Role::Build, partition);
            let mut here = std::mem::take(&mut self.list[partition]);
            // Half-full buffers become full ones: the table needs the memory.
            let all = &mut one.list[0].build.kept;
            for mut filled in here.build.kept.drain(..) {
                if let Some(last) = all.last_mut() {
                    last.take_from(&mut filled, shape);
                }
                if filled.bytes > 0 {
                    all.push(filled);
                }
            }
            one.list[0].build.count(here.build.rows, here.build.bytes);
        }
        *self = one;
    }

    /// Whether there is one partition alone, whose table is in a cache anyway.
    pub(super) fn has_one_small_table(&self) -> bool {
        let is_small = |table: &JoinTable| table.segments() * self.budget.segment_size() <= MOST_IN_ONE;
        self.list.len() == 1 && self.list[0].table.as_ref().is_some_and(is_small)
    }

    /// After the last row of the build side: makes the table of a partition, or writes the rest of its log.
    pub(super) fn finish_build(
        &mut self,
        partition: usize,
        handle: &mut SpillHandle,
        hash: impl Fn(&[u8]) -> u64,
    ) -> Result<()> {
        if self.list[partition].is_spilled {
            for role in [Role::Build, Role::Matched] {
                if !self.writers[role as usize][partition].is_vacant() {
                    self.write_buffer(role, partition, handle)?;
                }
            }
            return Ok(());
        }
        self.keep_buffer(Role::Build, partition);
        self.keep_buffer(Role::Matched, partition);
        let (shape, skip_bits) = (self.shape(Role::Build), self.used_bits());
        loop {
            let here = &mut self.list[partition];
            let mut kept = std::mem::take(&mut here.build.kept);
            let unmarked = kept.len();
            kept.append(&mut here.matched.kept);
            if kept.is_empty() {
                return Ok(());
            }
            let rows = here.build.rows - here.build.large.len() + here.matched.rows;
            let marks = (self.marks != Marks::None).then(|| kept.len() - unmarked);
            match JoinTable::build(shape, kept, rows, skip_bits, marks, &self.budget, &hash) {
                Ok(table) => {
                    // They are with the others now, and leave as these do.
                    let matched = std::mem::take(&mut here.matched);
                    here.build.count(matched.rows, matched.bytes);
                    here.table = Some(table);
                    return Ok(());
                }
                Err(mut kept) => {
                    here.matched.kept = kept.split_off(unmarked);
                    here.build.kept = kept;
                }
            }
            // What leaves may be this partition: then it has nothing kept.
            self.shed(handle)?;
        }
    }

    /// Notes that all tables are there: from now on rows look for matches.
    pub(super) fn set_built(&mut self) {
        let mut list = self.list.iter();
        self.are_all_in_tables = list.all(|here| !here.is_spilled && here.build.large.is_empty());
    }

    /// Whether probe rows are to be put aside by partition before they look for matches: where all tables are in memory and
    /// much larger than a cache, and there is memory for it.
    pub(super) fn set_aside_limit(&mut self, share: usize) {
        let free = share.saturating_sub(self.budget.held());
        let is_gain = self.are_all_in_tables && self.is_worth_aside() && free >= self.least_aside(share);
        self.aside_limit = if is_gain { free } else { 0 };
    }

    /// Free segments without which rows are not put aside.
    fn least_aside(&self, share: usize) -> usize {
        (LEAST_ASIDE * self.list.len()).max(share / LEAST_PART_ASIDE)
    }

    /// Whether tables, more than one, are much larger than a cache, and probe rows small.
    fn is_worth_aside(&self) -> bool {
        let tables = self.list.iter().filter_map(|here| here.table.as_ref());
        let segments: usize = tables.map(JoinTable::segments).sum();
        let shape = self.shape(Role::Probe);
        let is_small = (1..=LARGEST_ASIDE).contains(&shape.stride()) && !shape.is_hashed();
        is_small && self.list.len() > 1 && segments >= LEAST_TABLES
    }

    /// Puts rows aside where no filters are to be asked, if the tables in memory are much larger than a cache. Where there is no memory
    /// for it, one of them leaves, and it is to be called again: that costs less than to look for each row where it may be.
    /// True where there is nothing more to be done for it.
    ///
    /// # Errors
    /// Those of the spill store.
    pub(super) fn begin_aside(&mut self, share: usize, handle: &mut SpillHandle) -> Result<bool> {
        let least = self.least_aside(share);
        // Tables that were worth it and room for rows may not go together.
        let has_room = share >= least + LEAST_TABLES + self.aside();
        if !has_room || !self.is_worth_aside() || self.list.iter().any(|here| here.filter.is_some()) {
            return Ok(true);
        }
        let free = share.saturating_sub(self.budget.held());
        if free >= least {
            self.aside_limit = free + self.aside();
            return Ok(true);
        }
        Ok(!self.shed(handle)?)
    }

    /// Whether probe rows are put aside.
    pub(super) fn puts_aside(&self) -> bool {
        self.aside_limit > 0
    }

    /// From now on rows look for matches at once.
    pub(super) fn put_no_more_aside(&mut self) {
        self.aside_limit = 0;
    }

    /// Puts probe rows aside, from a row on; answers the row for which there was no memory, or how many rows there are. Those whose
    /// partition has left memory follow it.
    ///
    /// # Errors
    /// Those of the spill store.
    pub(super) fn put_aside(
        &mut self,
        rows: &[u8],
        targets: &[u16],
        from: usize,
        handle: &mut SpillHandle,
    ) -> Result<usize> {
        let stride = self.shape(Role::Probe).stride();
        let mut row = from;
        loop {
            let writers = &mut self.writers[Role::Probe as usize];
            row += scatter_rows(&rows[row * stride..], stride, &targets[row..], writers);
            if row == targets.len() {
                return Ok(row);
            }
            let partition = targets[row] as usize;
            if self.is_spilled(partition) && self.writers[Role::Probe as usize][partition].rows_written() > 0
            {
                let segment = self.write_buffer(Role::Probe, partition, handle)?;
                self.writers[Role::Probe as usize][partition].put(segment);
                continue;
            }
            if self.aside() >= self.aside_limit {
                return Ok(row);
            }
            let Some(segment) = self.budget.try_take() else {
                return Ok(row);
            };
            self.keep_buffer(Role::Probe, partition);
            self.writers[Role::Probe as usize][partition].put(segment);
        }
    }

    /// Bytes of a row of the probe side, 0 where they vary.
    pub(super) fn probe_stride(&self) -> usize {
        self.shape(Role::Probe).stride()
    }

    /// Segments of rows that are aside.
    fn aside(&self) -> usize {
        let writers = self.writers[Role::Probe as usize].iter();
        let in_use = writers.filter(|writer| !writer.is_vacant()).count();
        in_use + self.list.iter().map(|here| here.probe.kept.len()).sum::<usize>()
    }

    /// The partition that has most rows aside, if there are any.
    pub(super) fn most_aside(&self) -> Option<usize> {
        let writers = &self.writers[Role::Probe as usize];
        let bytes = |partition: usize| self.list[partition].probe.bytes + writers[partition].written();
        let most = (0..self.list.len())
            .filter(|partition| !self.is_spilled(*partition))
            .max_by_key(|partition| bytes(*partition));
        most.filter(|partition| bytes(*partition) > 0)
    }

    /// Whether the build side of a partition has left memory.
    #[inline(always)]
    pub(super) fn is_spilled(&self, partition: usize) -> bool {
        self.list[partition].is_spilled
    }

    /// Whether the build side is in tables alone, but for partitions without rows.
    #[inline]
    pub(super) fn are_all_in_tables(&self) -> bool {
        self.are_all_in_tables
    }

    /// Whether the build side of a partition is in its table alone.
    pub(super) fn is_in_table(&self, partition: usize) -> bool {
        let here = &self.list[partition];
        here.table.is_some() && !here.is_spilled && here.build.large.is_empty()
    }

    /// The table of a partition, if it has one.
    #[inline(always)]
    pub(super) fn table(&self, partition: usize) -> Option<&JoinTable> {
        self.list[partition].table.as_ref()
    }

    /// The same, for its entries to be marked.
    pub(super) fn table_mut(&mut self, partition: usize) -> Option<&mut JoinTable> {
        self.list[partition].table.as_mut()
    }

    /// Marks an entry of a table; answers whether it was.
    #[inline(always)]
    pub(super) fn mark(&mut self, partition: usize, position: u64) -> bool {
        let table = self.list[partition].table.as_mut();
        table.expect("what is marked is in a table").mark(position)
    }

    /// The build side's entries that no segment holds.
    #[inline(always)]
    pub(super) fn large(&self, partition: usize) -> &[Large] {
        &self.list[partition].build.large
    }

    /// Marks such an entry; answers whether it was.
    pub(super) fn mark_large(&mut self, partition: usize, number: usize) -> bool {
        std::mem::replace(&mut self.list[partition].build.large[number].is_marked, true)
    }

    /// Says whose table is being walked.
    #[inline(always)]
    pub(super) fn set_walked(&mut self, partition: Option<usize>) {
        self.walked = partition;
    }

    /// Whether a table is.
    pub(super) fn is_walked(&self) -> bool {
        self.walked.is_some()
    }

    /// Takes out the probe rows of a partition that came before its table was there, as far as they are in memory.
    pub(super) fn take_early(&mut self, partition: usize) -> (Vec<Filled>, Vec<Large>, Spilled) {
        self.keep_buffer(Role::Probe, partition);
        let probe = std::mem::take(&mut self.list[partition].probe);
        let spilled = Spilled {
            blocks: probe.blocks,
            rows: probe.rows,
            bytes: probe.bytes,
        };
        (probe.kept, probe.large, spilled)
    }

    /// How many entries the build side has that are not in buffers.
    pub(super) fn build_rows(&self) -> usize {
        let sides = self.list.iter().flat_map(|here| [&here.build, &here.matched]);
        sides.map(|side| side.rows).sum()
    }

    /// Bytes of the entries of the build side that are not in buffers.
    pub(super) fn build_bytes(&self) -> usize {
        let sides = self.list.iter().flat_map(|here| [&here.build, &here.matched]);
        sides.map(|side| side.bytes).sum()
    }

    /// From now on build rows without a match are sent: those that have matched are of no further use.
    pub(super) fn begin_draining(&mut self) {
        self.marks = Marks::Once;
    }

    /// Gives back the memory of a partition of which nothing is wanted any more, unless it was spilled.
    pub(super) fn drop_drained(&mut self, partition: usize) {
        if !self.list[partition].is_spilled {
            debug_assert_eq!(self.list[partition].probe.rows, 0, "rows are to look for matches");
            self.list[partition] = Partition::default();
        }
    }

    /// Hands over what was spilled, and gives everything else back. Everything is written then.
    pub(super) fn close(&mut self, handle: &mut SpillHandle) -> Result<Vec<Left>> {
        let mut all = Vec::new();
        for partition in 0..self.list.len() {
            if !self.list[partition].is_spilled {
                continue;
            }
            for role in ROLES {
                if !self.writers[role as usize][partition].is_vacant() {
                    self.write_buffer(role, partition, handle)?;
                }
                self.list[partition].side(role).write(handle)?;
            }
            let here = std::mem::take(&mut self.list[partition]);
            all.push(Left {
                build: Spilled::of(here.build),
                matched: Spilled::of(here.matched),
                probe: Spilled::of(here.probe),
            });
        }
        self.list.clear();
        self.writers = Default::default();
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
