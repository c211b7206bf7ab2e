//! Finding matches: probe rows through the tables, in chunks.
//!
//! # Interface
//! [`Prober::run`] takes the rows of an [`Input`] from where it has stopped, until they are done or there is no room for
//! what they become.
//!
//! # Algorithm
//! A chunk of rows at a time: hash them all; ask for the directory lines of their slots; look at these, and ask for
//! the entries of the slots that may have a match; walk those. So no row waits alone for memory. Rows whose
//! partition has left memory go to its log. Where the output is full, the walk stops with its position.
//!
//! Where rows of both sides have one size and their keys are integers, candidates are `Found` instead, and, where each pair of equal
//! keys is all that is wanted, `Match`: made without a branch that depends on how many entries a slot has. From where these are many
//! the rows of a chunk are walked all the same: a key that many rows of both sides have would have more matches than there is memory. Rows that were put
//! aside by partition meet a table that was read ahead as a whole.
//!
//! # Cost
//! 10 M rows of 16 bytes in tables, two threads, for each row of 16 bytes and thread: about 25 ns where rows were put aside, 45 where
//! they were not.

use super::functions::{Pairing, Pairs};
use super::partitions::{Partitions, Role};
use crate::batch::{Batch, BatchWriter};
use crate::operator::Downstream;
use crate::record::{AlignedRow, IntegerColumn, KeyFields, Record, hash_rows};
use forebay_memory::join::{EntryShape, Filled};
use forebay_memory::{Result, Segment, SpillHandle};

/// Rows whose memory is asked for together.
const CHUNK: usize = 256;

/// Rows that are looked up in tables before it is said how many of them have a match.
const SAMPLE: usize = if cfg!(debug_assertions) { 64 } else { 16 << 10 };

/// Entries that are walked before it stops behind a row, though there is room for more: cancellation, and who wants memory, wait for so long.
const ENTRIES_A_RUN: usize = if cfg!(debug_assertions) {
    4 << 10
} else {
    128 << 10
};

/// Matches that are made ahead, but for those of one more row: rows that have more are walked, one entry after the other.
const MATCHES: usize = if cfg!(debug_assertions) { 64 } else { 16 * CHUNK };

/// Memory that a block is read to: a segment, or the heap for entries that are larger, and where there is no segment.
pub(super) enum ReadBuffer {
    Segment(Segment),
    Heap(Vec<u8>),
}

impl ReadBuffer {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            ReadBuffer::Segment(segment) => segment,
            ReadBuffer::Heap(bytes) => bytes,
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            ReadBuffer::Segment(segment) => segment,
            ReadBuffer::Heap(bytes) => bytes,
        }
    }
}

/// Rows on their way.
pub(super) enum Input {
    /// Rows alone.
    Batch(Batch),
    /// Entries that a block was read to.
    Block(ReadBuffer, usize),
    /// Entries that were kept.
    Kept(Filled),
    /// An entry that no segment holds.
    Large(Vec<u8>),
}

impl Input {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Input::Batch(batch) => batch.bytes(),
            Input::Block(buffer, size) => &buffer.bytes()[..*size],
            Input::Kept(filled) => filled.entries(),
            Input::Large(entry) => entry,
        }
    }

    /// How its entries lie; `None` where there are rows alone.
    pub(super) fn shape(&self, shape: EntryShape) -> Option<EntryShape> {
        match self {
            Input::Batch(_) => None,
            _ => Some(shape),
        }
    }
}

/// What is to be done with matches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) pairs: Pairs,
    /// Whether build rows are marked that have matched.
    pub(super) marks_build: bool,
    /// Whether probe rows without a match are sent.
    pub(super) keeps_probe: bool,
}

impl Rules {
    /// What a match means, of a build row that was marked or not: whether the pair is sent, and whether the probe row needs
    /// no other. `is_true` where equal keys are all of the condition.
    #[inline(always)]
    fn on_match(&self, was_marked: bool, is_true: bool) -> (bool, bool) {
        match (self.pairs, self.marks_build) {
            (Pairs::All, _) => (true, false),
            // The left row is the build row; where it was marked, so were all with its key.
            (Pairs::LeftOnce, true) => (!was_marked, was_marked && is_true),
            (Pairs::LeftOnce, false) => (true, true),
            (Pairs::None, true) => (false, was_marked && is_true),
            (Pairs::None, false) => (false, true),
        }
    }

    /// Sends a pair that matches, of a build row that was marked or not, where that is wanted; true where the probe row needs no other.
    #[inline(always)]
    fn send_match<B: Record, P: Record, X: Pairing<B, P>>(
        &self,
        was_marked: bool,
        (build, probe): (B::View<'_>, P::View<'_>),
        pairing: &mut X,
        writer: &mut BatchWriter<X::Out>,
        ready: &mut Option<Batch>,
    ) -> bool
    where
        X::Out: Record,
    {
        let (sends, is_enough) = self.on_match(was_marked, X::IS_TRUE);
        if sends {
            *ready = pairing.pair(build, probe, writer);
        }
        is_enough
    }

    /// After all entries that a probe row may match: sends it where none did and that is wanted.
    #[inline(always)]
    fn send_alone<B: Record, P: Record, X: Pairing<B, P>>(
        &self,
        has_matched: bool,
        probe: P::View<'_>,
        pairing: &mut X,
        writer: &mut BatchWriter<X::Out>,
        ready: &mut Option<Batch>,
    ) where
        X::Out: Record,
    {
        if !has_matched && self.keeps_probe {
            *ready = pairing.probe(probe, writer);
        }
    }
}

/// A probe row of the present chunk.
#[derive(Clone, Copy)]
struct Candidate {
    /// Where its row is.
    offset: u32,
    partition: u16,
    hash: u64,
    to: Destination,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Destination {
    /// Entries of the table, from a position to another.
    Entries(u64, u64),
    /// The log of its partition.
    Log,
    /// It has no match.
    Alone,
}

/// A probe row that may have matches, in the table of a partition: from a position to another.
#[derive(Clone, Copy, Default)]
struct Found {
    offset: u32,
    partition: u32,
    start: u64,
    end: u64,
}

/// A probe row and an entry of the same key.
#[derive(Clone, Copy, Default)]
struct Match {
    offset: u32,
    partition: u32,
    position: u64,
}

/// Where a walk through the entries of a candidate stands.
#[derive(Default)]
struct Walk {
    has_begun: bool,
    position: u64,
    large: usize,
    has_matched: bool,
}

/// Probe rows under way.
#[derive(Default)]
pub(super) struct Prober {
    hashes: Vec<u64>,
    rows: Vec<(u32, u32)>,
    candidates: Vec<Candidate>,
    /// Instead of these, where rows have one size and integer keys, all in tables.
    found: Vec<Found>,
    /// Instead of these, where all that is wanted are pairs of equal keys.
    matches: Vec<Match>,
    /// The candidate to go on with.
    next: usize,
    /// The partition of all rows of the input, where that is known.
    of: Option<usize>,
    /// The same where its table was read ahead as a whole.
    only: Option<usize>,
    walk: Walk,
    /// Where the next chunk begins in the input.
    offset: usize,
    /// Whether it is to stop behind the row at hand: others want the memory of its table. And whether it has.
    pauses: bool,
    has_paused: bool,
    /// Entries that were walked since it has stopped; and whether a row has met all of its own since that was last asked to be known.
    entries: usize,
    has_met: bool,
    scratch: [Vec<u8>; 2],
    aligned: [AlignedRow; 2],
    large: Vec<u8>,
    ready: Option<Batch>,
    /// Rows that were looked up in tables and filters, and how many of them may have a match.
    looked: usize,
    passed: usize,
    /// Rows that went to logs.
    logged: usize,
    /// Rows begun, for errors.
    pub(super) position: u64,
}

/// What a prober works with.
pub(super) struct Around<'a, 'd, O> {
    pub(super) partitions: &'a mut Partitions,
    pub(super) handle: &'a mut SpillHandle,
    pub(super) writer: &'a mut BatchWriter<O>,
    pub(super) down: &'a mut Downstream<'d>,
}

/// The hashes of the keys of entries or rows, and where each row begins and how many bytes it has.
pub(super) fn hash_input<R: Record, K: KeyFields<R>>(
    key: K,
    bytes: &[u8],
    shape: Option<EntryShape>,
    most: usize,
    hashes: &mut Vec<u64>,
    rows: &mut Vec<(u32, u32)>,
    scratch: &mut Vec<u8>,
) -> usize {
    hashes.clear();
    rows.clear();
    if R::STRIDE > 0 && shape.is_none_or(|shape| shape.stride() == R::STRIDE) {
        let count = (bytes.len() / R::STRIDE).min(most);
        rows.extend((0..count).map(|row| ((row * R::STRIDE) as u32, R::STRIDE as u32)));
        hashes.resize(count, 0);
        hash_rows::<R, K>(key, &bytes[..count * R::STRIDE], hashes, scratch);
        return count * R::STRIDE;
    }
    let mut offset = 0;
    while offset < bytes.len() && rows.len() < most {
        let rest = &bytes[offset..];
        let (row, size) = match shape {
            Some(shape) => shape.sizes(rest),
            None => {
                let size = R::row_size_at(rest);
                (size, size)
            }
        };
        rows.push((offset as u32, row as u32));
        if let Some(shape) = shape.filter(EntryShape::is_hashed) {
            hashes.push(shape.hash(rest));
        }
        offset += size;
    }
    if hashes.is_empty() {
        hashes.resize(rows.len(), 0);
        hash_rows::<R, K>(key, &bytes[..offset], hashes, scratch);
    }
    offset
}

/// Whether two rows have the same key, and fulfil the join's condition.
#[inline(always)]
fn is_match<B, P, KB, KP, X>(
    keys: (KB, KP),
    columns: Option<[IntegerColumn; 2]>,
    rows: [&[u8]; 2],
    build: B::View<'_>,
    probe: P::View<'_>,
    scratch: &mut [Vec<u8>; 2],
    pairing: &mut X,
) -> bool
where
    B: Record,
    P: Record,
    KB: KeyFields<B>,
    KP: KeyFields<P, Key = KB::Key>,
    X: Pairing<B, P>,
{
    // Integers are read where they lie: a field of a view is a call through a pointer.
    let have_same_key = if let Some([of_build, of_probe]) = columns {
        of_build.read(rows[0]) == of_probe.read(rows[1])
    } else if <KB::Key as Record>::SIZE == 0 {
        true
    } else {
        let [left, right] = scratch;
        keys.0.key_bytes(B::shorten(build), left) == keys.1.key_bytes(P::shorten(probe), right)
    };
    have_same_key && (X::IS_TRUE || pairing.test(build, probe))
}

impl Prober {
    /// The next input begins at an offset.
    pub(super) fn begin_at(&mut self, offset: usize) {
        self.offset = offset;
    }

    /// Rows that follow are all of one partition, whose table may have been read ahead, or of any.
    pub(super) fn expect(&mut self, partition: Option<usize>, is_read_ahead: bool) {
        self.of = partition;
        self.only = partition.filter(|_| is_read_ahead);
    }

    /// It is to stop behind the row of which some matches were sent, and not all.
    pub(super) fn pause_behind_row(&mut self) {
        self.pauses = true;
    }

    /// Whether it has stopped because it was to.
    pub(super) fn take_paused(&mut self) -> bool {
        std::mem::take(&mut self.has_paused)
    }

    /// From now on [`Prober::has_met`] is to be known.
    pub(super) fn begin_meeting(&mut self) {
        self.has_met = false;
    }

    /// Whether a row has met all entries of its key in a table, one by one.
    pub(super) fn has_met(&self) -> bool {
        self.has_met
    }

    /// Whether rows went to logs while too few were looked up to say more.
    pub(super) fn has_no_sample(&self) -> bool {
        self.looked < SAMPLE && self.logged >= 4 * SAMPLE
    }

    /// How many rows were looked up in tables and filters.
    pub(super) fn looked(&self) -> usize {
        self.looked
    }

    /// Whether rows were looked up, and more than half of them have no match; `None` where too few were. Of those without one, a
    /// fifth seems to have one.
    pub(super) fn has_misses(&self) -> Option<bool> {
        (self.looked >= SAMPLE).then_some(2 * self.passed < self.looked)
    }

    /// Goes on with the rows of an input; true where all are done, false where there was no room for more or many entries were walked.
    pub(super) fn run<B, P, KB, KP, X>(
        &mut self,
        input: &Input,
        keys: (KB, KP),
        shapes: [EntryShape; 2],
        rules: Rules,
        pairing: &mut X,
        mut around: Around<'_, '_, X::Out>,
    ) -> Result<bool>
    where
        B: Record,
        P: Record,
        KB: KeyFields<B>,
        KP: KeyFields<P, Key = KB::Key>,
        X: Pairing<B, P>,
        X::Out: Record,
    {
        let (bytes, shape) = (input.bytes(), input.shape(shapes[1]));
        around.partitions.set_walked(None);
        let is_simple = B::STRIDE > 0
            && P::STRIDE > 0
            && !KP::NULLABLE
            && !rules.marks_build
            && keys.0.as_u64_column().is_some()
            && keys.1.as_u64_column().is_some();
        let pairs_alone = match (keys.0.as_u64_column(), keys.1.as_u64_column()) {
            (Some(of_build), Some(of_probe)) if of_build.width == 8 && of_probe.width == 8 => {
                let are_all = rules.pairs == Pairs::All && !rules.keeps_probe && X::IS_TRUE;
                are_all.then_some([of_build.offset, of_probe.offset])
            }
            _ => None,
        };
        loop {
            while self.next < self.candidates.len() {
                self.candidate::<B, P, KB, KP, X>(bytes, keys, shapes[0], rules, pairing, &mut around)?;
                if self.stops(&mut around)? {
                    return Ok(false);
                }
            }
            while self.next < self.matches.len() {
                self.send_matches::<B, P, X>(bytes, pairing, &mut around)?;
                if self.stops(&mut around)? {
                    return Ok(false);
                }
            }
            if !self.matches.is_empty() {
                // The rows behind them are walked.
                self.matches.clear();
                self.next = 0;
            }
            while self.next < self.found.len() {
                self.walk_found::<B, P, KB, KP, X>(bytes, keys, rules, pairing, &mut around)?;
                if self.stops(&mut around)? {
                    return Ok(false);
                }
            }
            if self.offset == bytes.len() {
                self.offset = 0;
                return Ok(true);
            }
            self.candidates.clear();
            self.found.clear();
            self.next = 0;
            let rest = &bytes[self.offset..];
            let is_in_table = match self.of {
                Some(partition) => around.partitions.is_in_table(partition),
                None => false,
            };
            if is_simple && (is_in_table || around.partitions.are_all_in_tables()) {
                self.look::<P, KP>(rest, keys.1, rules, around.partitions);
                if let Some(columns) = pairs_alone {
                    self.compare(bytes, columns, around.partitions);
                }
            } else {
                self.chunk::<P, KP>(rest, keys.1, shape, rules, around.partitions);
            }
        }
    }

    /// Looks up the next rows.
    fn chunk<P: Record, K: KeyFields<P>>(
        &mut self,
        bytes: &[u8],
        key: K,
        shape: Option<EntryShape>,
        rules: Rules,
        partitions: &Partitions,
    ) {
        let (hashes, rows) = (&mut self.hashes, &mut self.rows);
        let used = hash_input::<P, K>(key, bytes, shape, CHUNK, hashes, rows, &mut self.scratch[0]);
        for hash in &*hashes {
            let partition = partitions.of(*hash);
            if let Some(table) = partitions.table(partition) {
                table.prefetch(*hash);
            } else if let Some(filter) = partitions.filter(partition) {
                filter.prefetch(*hash);
            }
        }
        for (hash, (offset, _)) in hashes.iter().zip(&*rows) {
            let partition = partitions.of(*hash);
            let is_null = K::NULLABLE && {
                let row = self.aligned[0].of::<P>(&bytes[*offset as usize..]);
                key.has_null(P::read_row(row))
            };
            let to = if is_null {
                Destination::Alone
            } else if partitions.is_spilled(partition) {
                let filter = partitions.filter(partition);
                let may_match = filter.is_none_or(|filter| filter.may_have(*hash));
                self.looked += usize::from(filter.is_some());
                self.passed += usize::from(filter.is_some() && may_match);
                self.logged += usize::from(may_match);
                match may_match {
                    true => Destination::Log,
                    false => Destination::Alone,
                }
            } else {
                let table = partitions.table(partition);
                let found = table.and_then(|table| table.find(*hash));
                self.looked += usize::from(table.is_some());
                self.passed += usize::from(found.is_some());
                match found {
                    Some((start, end)) => {
                        table.expect("it was just looked at").prefetch_entry(start);
                        Destination::Entries(start, end)
                    }
                    None if !partitions.large(partition).is_empty() => Destination::Entries(0, 0),
                    None => Destination::Alone,
                }
            };
            if to != Destination::Alone || rules.keeps_probe {
                self.candidates.push(Candidate {
                    offset: self.offset as u32 + offset,
                    partition: partition as u16,
                    hash: *hash,
                    to,
                });
            }
        }
        self.position += rows.len() as u64;
        self.offset += used;
    }

    /// Looks up the next rows where they have one size and integer keys and all tables are in memory: without a branch that depends
    /// on whether a row has a match, which half of the time would be guessed wrongly.
    fn look<P: Record, K: KeyFields<P>>(
        &mut self,
        bytes: &[u8],
        key: K,
        rules: Rules,
        partitions: &Partitions,
    ) {
        let count = (bytes.len() / P::STRIDE).min(CHUNK);
        self.hashes.resize(count, 0);
        let used = count * P::STRIDE;
        hash_rows::<P, K>(key, &bytes[..used], &mut self.hashes, &mut self.scratch[0]);
        self.found.resize(count, Found::default());
        // A table that was read ahead as a whole, or the only one, which is small.
        let alone = self.only.or(partitions.has_one_small_table().then_some(0));
        let mut found = 0;
        let mut add = |row: usize, partition: usize, (start, end, may_match): (u64, u64, bool)| {
            self.found[found] = Found {
                offset: (self.offset + row * P::STRIDE) as u32,
                partition: partition as u32,
                start: if may_match { start } else { end },
                end,
            };
            found += usize::from(may_match | rules.keeps_probe);
        };
        if let Some(partition) = alone {
            match partitions.table(partition) {
                Some(table) => table.look_all(&self.hashes, |row, slot| add(row, partition, slot)),
                None => (0..count).for_each(|row| add(row, partition, (0, 0, false))),
            }
        } else {
            for hash in &self.hashes {
                if let Some(table) = partitions.table(partitions.of(*hash)) {
                    table.prefetch(*hash);
                }
            }
            for (row, hash) in self.hashes.iter().enumerate() {
                let partition = partitions.of(*hash);
                match partitions.table(partition) {
                    Some(table) => add(row, partition, table.look(*hash)),
                    None => add(row, partition, (0, 0, false)),
                }
            }
        }
        self.found.truncate(found);
        self.looked += count;
        self.passed += match rules.keeps_probe {
            true => self.found.iter().filter(|found| found.start != found.end).count(),
            false => found,
        };
        if alone.is_none() {
            for found in &self.found {
                if let Some(table) = partitions.table(found.partition as usize) {
                    table.prefetch_entry(found.start);
                }
            }
        }
        self.position += count as u64;
        self.offset += used;
    }

    /// Turns rows that were found into matches, but for those from which on there are too many: of keys of eight bytes at an offset of
    /// either side's rows.
    fn compare(&mut self, bytes: &[u8], [of_build, of_probe]: [usize; 2], partitions: &Partitions) {
        let matches = &mut self.matches;
        let mut compared = 0;
        for found in &self.found {
            let table = partitions.table(found.partition as usize);
            let is_long = table.is_some_and(|table| table.is_long(found.start, found.end));
            if matches.len() >= MATCHES || is_long {
                break;
            }
            compared += 1;
            let Some(table) = table else {
                continue;
            };
            let row = &bytes[found.offset as usize + of_probe..];
            let key = u64::from_le_bytes(*row.first_chunk().expect("the row has a key"));
            table.with_key(found.start, found.end, of_build, key, |position| {
                matches.push(Match {
                    offset: found.offset,
                    partition: found.partition,
                    position,
                });
            });
        }
        self.found.drain(..compared);
    }

    /// After some rows: sends what is ready. True where there is no room for more, it was to stop, or that was enough for once.
    #[inline(always)]
    fn stops<O>(&mut self, around: &mut Around<'_, '_, O>) -> Result<bool> {
        match self.ready.is_some() || self.pauses || self.entries >= ENTRIES_A_RUN {
            true => self.send_ready(around),
            false => Ok(false),
        }
    }

    fn send_ready<O>(&mut self, around: &mut Around<'_, '_, O>) -> Result<bool> {
        let mut stops = false;
        if let Some(ready) = self.ready.take() {
            around.down.send(ready)?;
            stops = !around.down.has_room();
        }
        let walked = self.walked();
        if self.entries >= ENTRIES_A_RUN && walked.is_none() {
            self.entries = 0;
            stops = true;
        }
        if self.pauses && walked.is_none() {
            self.pauses = false;
            self.has_paused = true;
            stops = true;
        }
        if stops {
            around.partitions.set_walked(walked);
        }
        Ok(stops)
    }

    /// The partition of the row of which some matches were sent, and not all.
    fn walked(&self) -> Option<usize> {
        if self.walk.has_begun {
            let candidate = self.candidates.get(self.next);
            let partition = candidate.map(|candidate| usize::from(candidate.partition));
            return partition.or_else(|| Some(self.found.get(self.next)?.partition as usize));
        }
        let (last, next) = (
            self.matches.get(self.next.checked_sub(1)?)?,
            self.matches.get(self.next)?,
        );
        (last.offset == next.offset).then_some(next.partition as usize)
    }

    /// How many of the matches to be sent are of the first one's row.
    fn of_one_row(matches: &[Match]) -> usize {
        let is_of_row = |other: &&Match| other.offset == matches[0].offset;
        matches.iter().take_while(is_of_row).count()
    }

    /// Sends matches, until all were or a batch is full.
    fn send_matches<B, P, X>(
        &mut self,
        bytes: &[u8],
        pairing: &mut X,
        around: &mut Around<'_, '_, X::Out>,
    ) -> Result<()>
    where
        B: Record,
        P: Record,
        X: Pairing<B, P>,
        X::Out: Record,
    {
        let [build_aligned, probe_aligned] = &mut self.aligned;
        let (partitions, writer) = (&mut *around.partitions, &mut *around.writer);
        let are_all_in_tables = partitions.are_all_in_tables();
        let end = match self.pauses {
            true => self.next + Self::of_one_row(&self.matches[self.next..]),
            false => self.matches.len(),
        };
        while let Some(found) = self.matches[..end].get(self.next) {
            let row = &bytes[found.offset as usize..][..P::STRIDE];
            let partition = found.partition as usize;
            let Some(table) = partitions
                .table(partition)
                .filter(|_| are_all_in_tables || !partitions.is_spilled(partition))
            else {
                // It has left memory after the rows were looked up.
                partitions.append(Role::Probe, partition, row, 0, around.handle)?;
                self.next += Self::of_one_row(&self.matches[self.next..]);
                continue;
            };
            let build = B::read_row(build_aligned.of::<B>(&table.entry(found.position)[..B::STRIDE]));
            let probe = P::read_row(probe_aligned.of::<P>(row));
            self.next += 1;
            self.ready = pairing.pair(build, probe, writer);
            if self.ready.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Walks the entries of rows that were found, until these are done or a batch is full.
    fn walk_found<B, P, KB, KP, X>(
        &mut self,
        bytes: &[u8],
        keys: (KB, KP),
        rules: Rules,
        pairing: &mut X,
        around: &mut Around<'_, '_, X::Out>,
    ) -> Result<()>
    where
        B: Record,
        P: Record,
        KB: KeyFields<B>,
        KP: KeyFields<P, Key = KB::Key>,
        X: Pairing<B, P>,
        X::Out: Record,
    {
        let (Some(of_build), Some(of_probe)) = (keys.0.as_u64_column(), keys.1.as_u64_column()) else {
            unreachable!("keys are integers where rows are found");
        };
        let [build_aligned, probe_aligned] = &mut self.aligned;
        let (partitions, writer) = (&mut *around.partitions, &mut *around.writer);
        let are_all_in_tables = partitions.are_all_in_tables();
        let end = match self.pauses {
            true => self.next + 1,
            false => self.found.len(),
        };
        while let Some(found) = self.found[..end].get(self.next) {
            let row = &bytes[found.offset as usize..][..P::STRIDE];
            let partition = found.partition as usize;
            // It may have left memory after the rows were looked up.
            if !are_all_in_tables && partitions.is_spilled(partition) {
                self.next += 1;
                partitions.append(Role::Probe, partition, row, 0, around.handle)?;
                continue;
            }
            let key = of_probe.read(row);
            let probe = P::read_row(probe_aligned.of::<P>(row));
            let mut walk = std::mem::take(&mut self.walk);
            if !walk.has_begun {
                // What another way of finding matches has left there is of another row.
                walk = Walk {
                    position: found.start,
                    ..Walk::default()
                };
            }
            while walk.position != found.end {
                let table = partitions.table(partition);
                let table = table.expect("a walk is in a table");
                let position = table.settle(walk.position);
                let (piece, after) = table.piece(position, found.end);
                walk.position = after;
                self.entries += piece.len() / B::STRIDE;
                for (number, entry) in piece.chunks_exact(B::STRIDE).enumerate() {
                    if of_build.read(entry) != key {
                        continue;
                    }
                    let build = B::read_row(build_aligned.of::<B>(entry));
                    if !X::IS_TRUE && !pairing.test(B::shorten(build), P::shorten(probe)) {
                        continue;
                    }
                    walk.has_matched = true;
                    let rows = (build, P::shorten(probe));
                    if rules.send_match::<B, P, X>(false, rows, pairing, writer, &mut self.ready) {
                        walk.position = found.end;
                        break;
                    }
                    if self.ready.is_some() {
                        walk.position = position + number as u64 + 1;
                        break;
                    }
                }
                if self.ready.is_some() {
                    walk.has_begun = true;
                    self.walk = walk;
                    return Ok(());
                }
            }
            self.next += 1;
            self.has_met = true;
            rules.send_alone::<B, P, X>(walk.has_matched, probe, pairing, writer, &mut self.ready);
            if self.ready.is_some() || self.entries >= ENTRIES_A_RUN {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes on with a candidate until it is done or a batch is full.
    #[inline(always)]
    fn candidate<B, P, KB, KP, X>(
        &mut self,
        bytes: &[u8],
        keys: (KB, KP),
        build_shape: EntryShape,
        rules: Rules,
        pairing: &mut X,
        around: &mut Around<'_, '_, X::Out>,
    ) -> Result<()>
    where
        B: Record,
        P: Record,
        KB: KeyFields<B>,
        KP: KeyFields<P, Key = KB::Key>,
        X: Pairing<B, P>,
        X::Out: Record,
    {
        let candidate = &self.candidates[self.next];
        let (partition, hash) = (usize::from(candidate.partition), candidate.hash);
        let rest = &bytes[candidate.offset as usize..];
        let row = &rest[..P::row_size_at(rest)];
        let (start, end) = match candidate.to {
            // It may have left memory after the chunk was looked up.
            Destination::Entries(start, end) if !around.partitions.is_spilled(partition) => (start, end),
            Destination::Entries(..) | Destination::Log => {
                self.next += 1;
                return (around.partitions).append(Role::Probe, partition, row, hash, around.handle);
            }
            Destination::Alone => {
                self.next += 1;
                let row = self.aligned[1].of::<P>(row);
                self.ready = pairing.probe(P::read_row(row), around.writer);
                return Ok(());
            }
        };
        if !self.walk.has_begun {
            self.walk = Walk {
                has_begun: true,
                position: start,
                ..Walk::default()
            };
        }
        let Prober {
            walk,
            scratch,
            aligned: [build_aligned, probe_aligned],
            large,
            ready,
            entries,
            ..
        } = self;
        let probe = P::read_row(probe_aligned.of::<P>(row));
        let columns = match (keys.0.as_u64_column(), keys.1.as_u64_column()) {
            (Some(of_build), Some(of_probe)) => Some([of_build, of_probe]),
            _ => None,
        };
        let partitions = &mut *around.partitions;
        while walk.position != end {
            let table = partitions.table(partition).expect("a walk is in a table");
            let position = table.settle(walk.position);
            let entry = table.entry(position);
            let (row_size, size) = build_shape.sizes(entry);
            walk.position = table.after(position, size);
            *entries += 1;
            if build_shape.is_hashed() && build_shape.hash(entry) != hash {
                continue;
            }
            let build_row = &entry[..row_size];
            let build = B::read_row(build_aligned.of::<B>(build_row));
            let rows = [build_row, row];
            if !is_match::<B, P, KB, KP, X>(keys, columns, rows, build, P::shorten(probe), scratch, pairing) {
                continue;
            }
            walk.has_matched = true;
            let was_marked = rules.marks_build && table.is_marked(position);
            let rows = (build, P::shorten(probe));
            if rules.send_match::<B, P, X>(was_marked, rows, pairing, around.writer, ready) {
                (walk.position, walk.large) = (end, usize::MAX);
            }
            if rules.marks_build && !was_marked {
                partitions.mark(partition, position);
            }
            if ready.is_some() {
                return Ok(());
            }
        }
        while let Some(entry) = partitions.large(partition).get(walk.large) {
            let number = walk.large;
            walk.large += 1;
            *entries += 1;
            if entry.hash != hash {
                continue;
            }
            entry.copy_to(large);
            let was_marked = entry.is_marked;
            let (row_size, _) = build_shape.sizes(large);
            let build_row = &large[..row_size];
            let build = B::read_row(build_aligned.of::<B>(build_row));
            let rows = [build_row, row];
            if !is_match::<B, P, KB, KP, X>(keys, columns, rows, build, P::shorten(probe), scratch, pairing) {
                continue;
            }
            walk.has_matched = true;
            let rows = (build, P::shorten(probe));
            if rules.send_match::<B, P, X>(was_marked, rows, pairing, around.writer, ready) {
                walk.large = usize::MAX;
            }
            if rules.marks_build {
                partitions.mark_large(partition, number);
            }
            if ready.is_some() {
                return Ok(());
            }
        }
        rules.send_alone::<B, P, X>(walk.has_matched, probe, pairing, around.writer, ready);
        walk.has_begun = false;
        self.next += 1;
        self.has_met = true;
        Ok(())
    }
}
