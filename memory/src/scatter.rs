//! The inner loops of the exchange: hash a column of rows, choose targets, write rows to their targets' segments.
//!
//! # Interface
//! 1. [`hash_column_u64`] and its kin read one integer field of each fixed row and hash it.
//! 2. [`targets_of`] turns hashes into subtasks, equal to [`key_group`](crate::hash::key_group)
//!    and [`subtask_of`](crate::hash::subtask_of).
//! 3. [`scatter_rows`] or [`scatter_var_rows`] append each row to the [`SegmentWriter`] of its target, and stop
//!    at the first row whose writer is full; the caller hands that segment over, puts a fresh one in, goes on.
//!
//! # Layout
//! The first 64 bytes of a segment are a header that the writer leaves alone; rows follow, packed.
//!
//! # Cost
//! About 1 ns for each row of 16 bytes with 2 targets, 2.5 ns with 16 to 256.

use crate::hash::hash_u64;
use crate::segment::Segment;
use std::ptr::NonNull;
use std::{mem, ptr, slice};

/// The bytes at the start of a segment that rows do not use.
pub const SEGMENT_HEADER_SIZE: usize = 64;

/// A segment being filled with rows, or a place for one.
pub struct SegmentWriter {
    segment: Option<Segment>,
    /// Where the segment, the free bytes, and the bytes after those begin; without a segment all the same,
    /// and not null: no bytes from there on are a slice.
    start: *mut u8,
    next: *mut u8,
    end: *mut u8,
    stride: u32,
    /// Rows written, counted only where rows vary in size.
    rows: u32,
}

// SAFETY: the addresses are in the segment that the writer owns, and segments are `Send`.
unsafe impl Send for SegmentWriter {}
// SAFETY: a shared writer only reads its segment.
unsafe impl Sync for SegmentWriter {}

impl SegmentWriter {
    /// A writer without a segment, for rows of `stride` bytes, or of their own sizes where that is 0.
    pub fn vacant(stride: usize) -> Self {
        let nowhere = NonNull::dangling().as_ptr();
        let stride = u32::try_from(stride).expect("a row is smaller than 4 GiB");
        SegmentWriter {
            segment: None,
            start: nowhere,
            next: nowhere,
            end: nowhere,
            stride,
            rows: 0,
        }
    }

    /// A writer that fills `segment`.
    pub fn new(segment: Segment, stride: usize) -> Self {
        let mut writer = SegmentWriter::vacant(stride);
        writer.put(segment);
        writer
    }

    /// Gives the writer a fresh segment to fill; answers the one it had.
    pub fn put(&mut self, mut segment: Segment) -> Option<Segment> {
        let before = self.take();
        let size = segment.len();
        assert!(size >= SEGMENT_HEADER_SIZE, "a segment is larger than its header");
        self.start = segment.as_mut_ptr();
        // SAFETY: every segment is larger than its header, and `size` is its end.
        unsafe {
            self.next = self.start.add(SEGMENT_HEADER_SIZE);
            self.end = self.start.add(size);
        }
        self.segment = Some(segment);
        before
    }

    /// Takes the segment out and leaves the writer vacant. Ask for [`Self::written`] first.
    pub fn take(&mut self) -> Option<Segment> {
        let vacant = SegmentWriter::vacant(self.stride as usize);
        mem::replace(self, vacant).segment
    }

    /// Whether there is no segment.
    pub fn is_vacant(&self) -> bool {
        self.segment.is_none()
    }

    /// The rows written to the present segment.
    pub fn rows_written(&self) -> usize {
        if self.stride == 0 {
            self.rows as usize
        } else {
            self.written() / self.stride as usize
        }
    }

    /// The bytes of rows written to the present segment.
    pub fn written(&self) -> usize {
        match self.segment {
            Some(_) => self.next as usize - self.start as usize - SEGMENT_HEADER_SIZE,
            None => 0,
        }
    }

    /// The bytes that are still free.
    #[inline(always)]
    pub fn remaining(&self) -> usize {
        self.end as usize - self.next as usize
    }

    /// The rows written to the present segment, one after the other.
    pub fn rows(&self) -> &[u8] {
        match self.segment {
            // SAFETY: the bytes from the header to `next` are in the segment, which is borrowed with `self`.
            Some(_) => unsafe { slice::from_raw_parts(self.start.add(SEGMENT_HEADER_SIZE), self.written()) },
            None => &[],
        }
    }

    /// The header of the present segment, to fill in before it is handed over; empty without a segment.
    pub fn header_mut(&mut self) -> &mut [u8] {
        match self.segment {
            // SAFETY: the header is in the segment, which is borrowed with `self`.
            Some(_) => unsafe { slice::from_raw_parts_mut(self.start, SEGMENT_HEADER_SIZE) },
            None => &mut [],
        }
    }

    /// Appends a row; false where it does not fit.
    #[inline(always)]
    pub fn push(&mut self, row: &[u8]) -> bool {
        match self.reserve(row.len()) {
            Some(space) => {
                space.copy_from_slice(row);
                true
            }
            None => false,
        }
    }

    /// The next `size` bytes, which do not count as written before they are [reserved](Self::reserve).
    ///
    /// # Panics
    /// Where they do not fit.
    pub fn room(&mut self, size: usize) -> &mut [u8] {
        assert!(size <= self.remaining(), "{size} bytes in {}", self.remaining());
        if size == 0 {
            return &mut [];
        }
        // SAFETY: `size` bytes from `next` on are in the segment (checked above), which is borrowed with `self`;
        // its bytes are initialized.
        unsafe { slice::from_raw_parts_mut(self.next, size) }
    }

    /// The place of the next row, of `size` bytes, which counts as written: for rows that are built in place. Of rows of
    /// fixed size, several.
    /// Its bytes are unspecified until the caller writes them. `None` where they do not fit.
    #[inline(always)]
    pub fn reserve(&mut self, size: usize) -> Option<&mut [u8]> {
        if size > self.remaining() {
            return None;
        }
        debug_assert!(
            self.stride == 0 || size.is_multiple_of(self.stride as usize),
            "fixed rows have the stride's size"
        );
        let row = self.next;
        if self.stride == 0 {
            self.rows += 1;
        }
        // SAFETY: `size` bytes from `next` on are in the segment (checked above), which is borrowed with
        // `self`; its bytes are initialized.
        unsafe {
            self.next = row.add(size);
            Some(slice::from_raw_parts_mut(row, size))
        }
    }
}

/// Appends row i to `writers[targets[i]]`, and stops at the first row whose writer is full or vacant; answers
/// how many rows were appended. There are as many rows of `stride` bytes as targets, or more.
///
/// # Panics
/// Where `rows` is too short, `stride` is 0, or a target has no writer.
pub fn scatter_rows(rows: &[u8], stride: usize, targets: &[u16], writers: &mut [SegmentWriter]) -> usize {
    assert!(
        stride > 0,
        "fixed rows have a stride; rows of varying size go through scatter_var_rows"
    );
    assert!(
        rows.len() / stride >= targets.len(),
        "{} targets for {} bytes",
        targets.len(),
        rows.len()
    );
    // SAFETY: `rows` has `targets.len()` rows of `stride` bytes.
    unsafe {
        match stride {
            8 => scatter_kernel(rows, Fixed::<8>, targets, writers),
            16 => scatter_kernel(rows, Fixed::<16>, targets, writers),
            24 => scatter_kernel(rows, Fixed::<24>, targets, writers),
            32 => scatter_kernel(rows, Fixed::<32>, targets, writers),
            100 => scatter_kernel(rows, Fixed::<100>, targets, writers),
            _ => scatter_kernel(rows, Any(stride), targets, writers),
        }
    }
}

/// Appends rows that begin with their own size (four bytes, little endian) to their targets' writers, and
/// stops at the first row that does not fit; answers how many rows, and how many bytes of `rows`, were
/// appended. A row larger than a whole segment never fits: the caller sends it in pieces.
///
/// # Panics
/// Where `rows` ends within a row, a row's size is below 4, or a target has no writer.
pub fn scatter_var_rows(rows: &[u8], targets: &[u16], writers: &mut [SegmentWriter]) -> (usize, usize) {
    let mut offset = 0;
    for (row, &target) in targets.iter().enumerate() {
        let rest = &rows[offset..];
        let size = u32::from_le_bytes(*rest.first_chunk().expect("a row begins with its size")) as usize;
        assert!(
            size >= 4 && size <= rest.len(),
            "a row of {size} bytes in {} bytes",
            rest.len()
        );
        if !writers[target as usize].push(&rest[..size]) {
            return (row, offset);
        }
        offset += size;
    }
    (targets.len(), offset)
}

/// The size of a row, known when the kernel is compiled or not.
trait Stride: Copy {
    fn size(self) -> usize;
}

#[derive(Clone, Copy)]
struct Fixed<const SIZE: usize>;

impl<const SIZE: usize> Stride for Fixed<SIZE> {
    #[inline(always)]
    fn size(self) -> usize {
        SIZE
    }
}

#[derive(Clone, Copy)]
struct Any(usize);

impl Stride for Any {
    #[inline(always)]
    fn size(self) -> usize {
        self.0
    }
}

/// # Safety
/// `rows` has at least `targets.len()` rows of the stride.
#[inline(always)]
unsafe fn scatter_kernel(
    rows: &[u8],
    stride: impl Stride,
    targets: &[u16],
    writers: &mut [SegmentWriter],
) -> usize {
    let size = stride.size();
    let mut row = rows.as_ptr();
    let mut before = 0;
    if let [first, second] = writers {
        // SAFETY: as the caller promises.
        before = unsafe { scatter_to_two(rows, stride, targets, first, second) };
        row = row.wrapping_add(before * size);
    }
    for (done, &target) in targets[before..].iter().enumerate() {
        let writer = &mut writers[target as usize];
        if writer.remaining() < size {
            return before + done;
        }
        // SAFETY: the row is in `rows`, as the caller promises; `size` bytes from `next` on are in the
        // writer's segment, which no other reference covers.
        unsafe {
            ptr::copy_nonoverlapping(row, writer.next, size);
            writer.next = writer.next.add(size);
            row = row.add(size);
        }
    }
    targets.len()
}

/// For two targets, as many rows as surely fit: both ends stay in registers, where writers in memory cost a
/// store and a load of the end for each row, one after the other (0.7 against 1.5 ns for 16 bytes).
///
/// # Safety
/// `rows` has at least `targets.len()` rows of the stride.
#[inline(always)]
unsafe fn scatter_to_two(
    rows: &[u8],
    stride: impl Stride,
    targets: &[u16],
    first: &mut SegmentWriter,
    second: &mut SegmentWriter,
) -> usize {
    let size = stride.size();
    assert!(
        targets.iter().fold(0, |seen, target| seen | target) < 2,
        "a target has no writer"
    );
    let mut done = 0;
    loop {
        let surely = (first.remaining().min(second.remaining()) / size).min(targets.len() - done);
        if surely < 8 {
            return done;
        }
        let (mut zero, mut one) = (first.next, second.next);
        for &target in &targets[done..done + surely] {
            let to_one = usize::from(target) * size;
            let next = if target == 0 { zero } else { one };
            // SAFETY: the row is in `rows`, as the caller promises; each segment has room for `surely` rows.
            unsafe {
                ptr::copy_nonoverlapping(rows.as_ptr().add(done * size), next, size);
                zero = zero.add(size - to_one);
                one = one.add(to_one);
            }
            done += 1;
        }
        (first.next, second.next) = (zero, one);
    }
}

/// The subtask of each hash, in `[0, parallelism)`: [`subtask_of`](crate::hash::subtask_of) of its
/// [`key_group`](crate::hash::key_group), without a division for each row.
///
/// # Panics
/// Where `out` is shorter than `hashes`, `max_parallelism` is not a power of two up to 32,768, or
/// `parallelism` exceeds it.
pub fn targets_of(hashes: &[u64], max_parallelism: u32, parallelism: u32, out: &mut [u16]) {
    let out = &mut out[..hashes.len()];
    assert!(
        max_parallelism.is_power_of_two() && max_parallelism <= 1 << 15 && parallelism <= max_parallelism,
        "parallelism {parallelism} of {max_parallelism}: the latter is a power of two up to 32768"
    );
    if max_parallelism == 1 || parallelism == 1 {
        out.fill(0);
        return;
    }
    let bits = max_parallelism.ilog2();
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { targets_avx2(hashes, bits, parallelism, out) };
        return;
    }
    targets_kernel(hashes, bits, parallelism, out);
}

#[inline(always)]
fn targets_kernel(hashes: &[u64], bits: u32, parallelism: u32, out: &mut [u16]) {
    let shift = 64 - bits;
    for (target, &hash) in out.iter_mut().zip(hashes) {
        let group = (hash >> shift) as u32;
        *target = ((group * parallelism) >> bits) as u16;
    }
}

/// The same loop with wider registers and a 32-bit multiplication, which SSE2 lacks: 0.2 instead of 0.6 ns a row.
///
/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn targets_avx2(hashes: &[u64], bits: u32, parallelism: u32, out: &mut [u16]) {
    targets_kernel(hashes, bits, parallelism, out);
}

/// An integer field, as the number that is hashed.
trait Field: Copy {
    const SIZE: usize;
    /// # Safety
    /// `SIZE` bytes from `bytes` on can be read.
    unsafe fn widened(bytes: *const u8) -> u64;
}

macro_rules! fields {
    ($($integer:ty as $wide:ty),*) => { $(
        impl Field for $integer {
            const SIZE: usize = size_of::<$integer>();
            #[inline(always)]
            unsafe fn widened(bytes: *const u8) -> u64 {
                // SAFETY: as the caller promises; the read need not be aligned.
                <$integer>::from_le(unsafe { bytes.cast::<$integer>().read_unaligned() }) as $wide as u64
            }
        }
    )* };
}

fields! { u64 as u64, u32 as u64, u16 as u64, u8 as u64, i64 as i64, i32 as i64, i16 as i64, i8 as i64 }

fn hash_column<F: Field>(rows: &[u8], stride: usize, offset: usize, out: &mut [u64]) {
    let size = F::SIZE;
    assert!(
        stride >= size && offset <= stride - size,
        "a field at {offset} in {stride} bytes"
    );
    assert!(
        rows.len() / stride >= out.len(),
        "{} rows in {} bytes",
        out.len(),
        rows.len()
    );
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
        // SAFETY: the processor has both; rows and field have been checked.
        unsafe { hash_avx512::<F>(rows, stride, offset, out) };
        return;
    }
    // SAFETY: rows and field have been checked.
    unsafe { hash_kernel::<F>(rows, Any(stride), offset, out) };
}

/// # Safety
/// `rows` has a row of the stride for each place in `out`, and the field is inside a row.
#[inline(always)]
unsafe fn hash_kernel<F: Field>(rows: &[u8], stride: impl Stride, offset: usize, out: &mut [u64]) {
    let first = rows.as_ptr().wrapping_add(offset);
    for (row, hash) in out.iter_mut().enumerate() {
        // SAFETY: the field is in the row, and the row in `rows`, as the caller promises.
        *hash = hash_u64(unsafe { F::widened(first.add(row * stride.size())) });
    }
}

/// The same loop with the multiplication of eight 64-bit numbers that AVX-512 has, for rows of 16 bytes 0.43 instead of
/// 0.72 ns each.
///
/// # Safety
/// The processor has AVX-512 DQ and VL; otherwise as [`hash_kernel`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
unsafe fn hash_avx512<F: Field>(rows: &[u8], stride: usize, offset: usize, out: &mut [u64]) {
    // SAFETY: as the caller promises.
    unsafe {
        match stride {
            8 => hash_kernel::<F>(rows, Fixed::<8>, offset, out),
            16 => hash_kernel::<F>(rows, Fixed::<16>, offset, out),
            _ => hash_kernel::<F>(rows, Any(stride), offset, out),
        }
    }
}

macro_rules! hash_columns {
    ($($name:ident, $integer:ty, $how:literal;)*) => { $(
        #[doc = concat!("Hashes the `", stringify!($integer), "` at `offset` of each row of `stride` bytes", $how, ".")]
        ///
        /// # Panics
        /// Where there are less rows than places in `out`, or the field is not inside a row.
        pub fn $name(rows: &[u8], stride: usize, offset: usize, out: &mut [u64]) {
            hash_column::<$integer>(rows, stride, offset, out);
        }
    )* };
}

hash_columns! {
    hash_column_u64, u64, "";
    hash_column_u32, u32, ", zero-extended";
    hash_column_u16, u16, ", zero-extended";
    hash_column_u8, u8, ", zero-extended";
    hash_column_i64, i64, ", its bits as they are";
    hash_column_i32, i32, ", sign-extended";
    hash_column_i16, i16, ", sign-extended";
    hash_column_i8, i8, ", sign-extended";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{key_group, subtask_of};
    use crate::segment::{Block, SegmentHome, SegmentId};
    use std::sync::Arc;

    #[repr(align(64))]
    struct Memory(#[allow(dead_code)] [u8; SEGMENT]);

    const SEGMENT: usize = 4096;

    struct Heap;

    impl SegmentHome for Heap {
        fn release(&self, block: Block) {
            // SAFETY: `segment` made the block from a box of this type, and nobody else has it.
            drop(unsafe { Box::from_raw(block.as_ptr().cast::<Memory>()) });
        }
    }

    fn segment(home: &Arc<Heap>) -> Segment {
        let memory = Box::leak(Box::new(Memory([0xee; SEGMENT])));
        // SAFETY: the box is aligned, initialized, of this size, and freed by its home alone.
        let block = unsafe { Block::from_raw(NonNull::from(memory).cast(), SEGMENT as u32, SegmentId(0)) };
        Segment::new(block, home.clone())
    }

    fn random_bytes(count: usize, seed: u64) -> Vec<u8> {
        (0..count as u64)
            .map(|index| hash_u64(index + 1 + seed * 1_000_003) as u8)
            .collect()
    }

    fn random_targets(count: usize, targets: usize, seed: u64) -> Vec<u16> {
        (0..count as u64)
            .map(|index| ((hash_u64(index + 7 + seed) >> 20) % targets as u64) as u16)
            .collect()
    }

    /// What a target has received: segments that were full, then the rest.
    fn drain(writers: &mut [SegmentWriter], full: &mut [Vec<u8>]) {
        for (writer, full) in writers.iter_mut().zip(full) {
            full.extend_from_slice(writer.rows());
            let taken = writer.take().expect("the writer had a segment");
            assert!(
                taken[..SEGMENT_HEADER_SIZE].iter().all(|&byte| byte == 0xee),
                "headers are left alone"
            );
        }
    }

    /// The safe twin: rows appended to one vector for each target.
    #[test]
    fn fixed_rows_reach_their_targets_in_order() {
        let home = Arc::new(Heap);
        for (seed, stride) in [1, 8, 12, 16, 24, 32, 40, 100, 1000, 4032]
            .into_iter()
            .enumerate()
        {
            for count in [1, 2, 17] {
                let rows = random_bytes(700 * stride, seed as u64);
                let targets = random_targets(700, count, seed as u64);
                let mut expected = vec![Vec::new(); count];
                for (row, &target) in rows.chunks(stride).zip(&targets) {
                    expected[target as usize].extend_from_slice(row);
                }
                let mut received = vec![Vec::new(); count];
                let mut writers: Vec<_> = (0..count)
                    .map(|_| SegmentWriter::new(segment(&home), stride))
                    .collect();
                let mut done = 0;
                while done < targets.len() {
                    done += scatter_rows(&rows[done * stride..], stride, &targets[done..], &mut writers);
                    if let Some(&target) = targets.get(done) {
                        let writer = &mut writers[target as usize];
                        assert!(writer.remaining() < stride);
                        assert_eq!(writer.rows_written(), (SEGMENT - SEGMENT_HEADER_SIZE) / stride);
                        received[target as usize].extend_from_slice(writer.rows());
                        writer.put(segment(&home)).expect("the full segment comes out");
                    }
                }
                drain(&mut writers, &mut received);
                assert_eq!(received, expected, "stride {stride}, {count} targets");
            }
        }
    }

    #[test]
    fn rows_of_their_own_size_reach_their_targets_in_order() {
        let home = Arc::new(Heap);
        let mut rows = Vec::new();
        let targets = random_targets(900, 5, 3);
        let mut expected = vec![Vec::new(); 5];
        for (index, &target) in targets.iter().enumerate() {
            let size = 8 + 8 * (hash_u64(index as u64 + 1) % 60) as usize;
            let mut row = random_bytes(size, index as u64);
            row[..4].copy_from_slice(&(size as u32).to_le_bytes());
            expected[target as usize].extend_from_slice(&row);
            rows.extend_from_slice(&row);
        }
        let mut received = vec![Vec::new(); 5];
        let mut writers: Vec<_> = (0..5).map(|_| SegmentWriter::new(segment(&home), 0)).collect();
        let (mut done, mut offset, mut counted) = (0, 0, 0);
        while done < targets.len() {
            let (count, bytes) = scatter_var_rows(&rows[offset..], &targets[done..], &mut writers);
            (done, offset) = (done + count, offset + bytes);
            if let Some(&target) = targets.get(done) {
                let writer = &mut writers[target as usize];
                counted += writer.rows_written();
                received[target as usize].extend_from_slice(writer.rows());
                writer.put(segment(&home)).expect("the full segment comes out");
            }
        }
        counted += writers.iter().map(SegmentWriter::rows_written).sum::<usize>();
        drain(&mut writers, &mut received);
        assert_eq!(received, expected);
        assert_eq!((offset, counted), (rows.len(), targets.len()));
    }

    #[test]
    fn room_is_written_before_it_is_reserved() {
        let home = Arc::new(Heap);
        let mut writer = SegmentWriter::new(segment(&home), 8);
        for rows in [3, 0, 1, 500] {
            let before = writer.rows_written();
            writer.room(rows * 8).fill(before as u8);
            assert_eq!(writer.rows_written(), before);
            if rows > 0 {
                assert!(writer.reserve(rows * 8).is_some());
            }
            assert_eq!(writer.rows_written(), before + rows);
            assert!(
                writer.rows()[before * 8..]
                    .iter()
                    .all(|&byte| byte == before as u8)
            );
        }
        assert_eq!((writer.remaining(), writer.room(0).len()), (0, 0));
        assert!(writer.reserve(8).is_none());
        assert!(SegmentWriter::vacant(8).room(0).is_empty());
    }

    #[test]
    fn a_vacant_writer_takes_nothing() {
        let mut writers = [SegmentWriter::vacant(8), SegmentWriter::vacant(8)];
        assert_eq!(scatter_rows(&[0; 16], 8, &[0, 1], &mut writers), 0);
        assert_eq!(
            scatter_var_rows(&[8, 0, 0, 0, 1, 2, 3, 4], &[1], &mut writers),
            (0, 0)
        );
        assert!(writers[0].is_vacant() && writers[0].rows().is_empty() && writers[0].written() == 0);
        // A slice of no bytes at address 0 would be undefined behaviour, which debug builds abort for.
        assert!(writers[0].reserve(0).is_some_and(|row| row.is_empty()));
    }

    #[test]
    fn targets_equal_the_formula() {
        let mut hashes: Vec<u64> = (0..2000).map(hash_u64).collect();
        hashes.extend([0, u64::MAX, 1 << 63, (1 << 63) - 1]);
        let mut targets = vec![0; hashes.len()];
        for max_parallelism in [1, 2, 128, 32768] {
            for parallelism in [1, 2, 3, 7, 64, 127, 128, 1000, 32768] {
                if parallelism > max_parallelism {
                    continue;
                }
                targets_of(&hashes, max_parallelism, parallelism, &mut targets);
                if max_parallelism > 1 {
                    let mut plainly = vec![0; hashes.len()];
                    targets_kernel(&hashes, max_parallelism.ilog2(), parallelism, &mut plainly);
                    assert_eq!(plainly, targets, "{parallelism}/{max_parallelism}");
                }
                for (&hash, &target) in hashes.iter().zip(&targets) {
                    let group = key_group(hash, max_parallelism);
                    let expected = subtask_of(group, max_parallelism, parallelism);
                    assert_eq!(
                        u32::from(target),
                        expected,
                        "{hash:x} {parallelism}/{max_parallelism}"
                    );
                }
            }
        }
    }

    #[test]
    fn columns_hash_as_their_values() {
        let rows = random_bytes(24 * 50, 9);
        let mut out = [0; 50];
        let mut check = |column: fn(&[u8], usize, usize, &mut [u64]), value: &dyn Fn(&[u8]) -> u64| {
            for offset in [0, 3, 8] {
                column(&rows, 24, offset, &mut out);
                for (row, &hash) in rows.chunks(24).zip(&out) {
                    assert_eq!(hash, hash_u64(value(&row[offset..])));
                }
            }
        };
        check(hash_column_u64, &|row| {
            u64::from_le_bytes(*row.first_chunk().unwrap())
        });
        check(hash_column_u32, &|row| {
            u32::from_le_bytes(*row.first_chunk().unwrap()).into()
        });
        check(hash_column_u16, &|row| {
            u16::from_le_bytes(*row.first_chunk().unwrap()).into()
        });
        check(hash_column_u8, &|row| row[0].into());
        check(hash_column_i64, &|row| {
            i64::from_le_bytes(*row.first_chunk().unwrap()) as u64
        });
        check(hash_column_i32, &|row| {
            i64::from(i32::from_le_bytes(*row.first_chunk().unwrap())) as u64
        });
        check(hash_column_i16, &|row| {
            i64::from(i16::from_le_bytes(*row.first_chunk().unwrap())) as u64
        });
        check(hash_column_i8, &|row| i64::from(row[0] as i8) as u64);
    }
}
