//! [`AheadFile`]: a range of a file that a thread of its own reads ahead, past the page cache where the file system lets it.
//!
//! # Interface
//! [`AheadFile::open`] a range of a file; [`AheadFile::read`] gives its bytes in order, and none where the file ends.
//! [`piece_size_for`] says whether that is worth while, and how much is read at once; [`are_cached`] whether files are in memory already.
//!
//! # Algorithm
//! The thread reads pieces into buffers and sends them; the reader copies out of them and sends the buffers back. A piece starts
//! at a page, so the first and the last have bytes that are not of the range. What cannot be read past the page cache, because the file system
//! refuses it or the file does not end with a page, is read through it.
//!
//! # Memory
//! [`PIECES`] pieces of up to 1 MiB, on the counted heap: for all readers of a source together at most [`ALL_PIECES`] and one part in
//! [`HELD_PART`] of the memory, but for 64 KiB each.
//!
//! # Cost
//! One copy, as from the page cache. That has to find a page for each 4 KiB of a file that it does not have, and to take it from another file
//! when memory is full: a sort of 10 GB that read through it had one core of two in the kernel, and read 540 MB/s; past it, a tenth of that, and
//! 640 MB/s.

use forebay_memory::hash::hash_u64;
use forebay_memory::{ByteSize, Container, page_cache};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// What transfers past the page cache are aligned to, in the file and in memory.
const PAGE: usize = 4096;
const LARGEST_PIECE: usize = 1 << 20;
/// Less than this is not read ahead: a thread costs more.
pub(super) const SMALLEST_PIECE: usize = 64 << 10;
/// One that is being used, one that is there, and one that is being read.
const PIECES: usize = 3;
const ALL_PIECES: usize = 16 << 20;
const HELD_PART: u64 = 64;
/// Files that together have more than one part in so many of the memory are not expected to stay in the page cache.
const CACHED_PART: u64 = 4;
/// Places of files that are looked at to see whether these are there.
const PLACES: u64 = 64;

/// Bytes of memory that the machine has, or the container that the process is in; where that is known.
pub(super) fn memory_bytes() -> Option<u64> {
    let container = Container::detect().ok()?;
    container.available().map(|(ByteSize(bytes), _)| bytes)
}

/// Bytes of a piece where `total` are read by so many readers, with so much memory; none where they are left to the page cache. `is_past`
/// says which, where somebody has said; otherwise `are_cached` tells whether they are there already.
pub(super) fn piece_size_for(
    total: u64,
    readers: usize,
    is_past: Option<bool>,
    memory: Option<u64>,
    are_cached: impl FnOnce() -> bool,
) -> Option<usize> {
    let is_large = memory.is_some_and(|bytes| total > bytes / CACHED_PART);
    is_past.unwrap_or_else(|| is_large && !are_cached()).then(|| {
        let held = memory.and_then(|bytes| usize::try_from(bytes / HELD_PART).ok());
        let share = held.unwrap_or(ALL_PIECES).min(ALL_PIECES) / PIECES / readers.max(1);
        (share / PAGE * PAGE).clamp(SMALLEST_PIECE, LARGEST_PIECE)
    })
}

/// Whether most of some files, each with its size, is in the page cache, as far as a few places tell. `seed` says which: looking at a place
/// may bring its page there, so that the next job is to look elsewhere.
pub(super) fn are_cached<'a>(files: impl Iterator<Item = (&'a Path, u64)> + Clone, seed: u64) -> bool {
    let total = files.clone().map(|(_, size)| size).sum();
    let mut places = places(total, seed).peekable();
    let (mut begin, mut held, mut seen) = (0, 0, 0);
    for (path, size) in files {
        let mut file = None;
        while let Some(place) = places.next_if(|place| *place < begin + size) {
            let file = file.get_or_insert_with(|| File::open(path));
            seen += 1;
            held += u64::from(
                file.as_ref()
                    .is_ok_and(|file| page_cache::holds(file, place - begin) == Some(true)),
            );
        }
        begin += size;
    }
    2 * held > seen
}

/// Places in so many bytes, in order: one in each of up to [`PLACES`] pieces.
fn places(total: u64, seed: u64) -> impl Iterator<Item = u64> {
    let step = total.div_ceil(PLACES).max(1);
    (0..total.div_ceil(step)).map(move |piece| {
        let start = piece * step;
        start + hash_u64(seed ^ piece) % step.min(total - start)
    })
}

/// A range of a file that is being read.
pub(super) struct AheadFile {
    /// Pieces that were read. None comes after the last, nor after an error.
    pieces: Option<Receiver<io::Result<Piece>>>,
    /// Takes buffers back.
    free: Option<Sender<Buffer>>,
    current: Option<Piece>,
    thread: Option<JoinHandle<()>>,
}

/// Memory that starts at a page.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

/// Bytes that were read, and of them those that are still to be given out.
struct Piece {
    buffer: Buffer,
    left: Range<usize>,
}

impl Buffer {
    fn new(size: usize) -> Buffer {
        let memory = vec![0; size + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        Buffer { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }
}

impl AheadFile {
    /// Begins to read `range` of the file at `path`, in pieces of at most `piece_size`, whole pages.
    pub(super) fn open(path: &Path, range: Range<u64>, piece_size: usize) -> io::Result<AheadFile> {
        let most = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let piece_size = most.clamp(1, piece_size).next_multiple_of(PAGE);
        let file = File::open(path)?;
        // Refused where the file system has no such thing.
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)
            .ok()
            // Another may have got the name in between.
            .filter(|direct| identity(direct).is_some_and(|found| Some(found) == identity(&file)));
        AheadFile::start(Files { file, direct }, range, piece_size)
    }

    fn start(files: Files, range: Range<u64>, piece_size: usize) -> io::Result<AheadFile> {
        AheadFile::start_holding(files, range, piece_size, ())
    }

    /// The same; the thread has `held` until it ends.
    fn start_holding(
        mut files: Files,
        range: Range<u64>,
        piece_size: usize,
        held: impl Send + 'static,
    ) -> io::Result<AheadFile> {
        let (give, pieces) = channel();
        let (free, buffers) = channel();
        for _ in 0..PIECES {
            // The thread has not started: nobody can have gone.
            let _ = free.send(Buffer::new(piece_size));
        }
        let read = move || {
            let _held = held;
            let mut next = range.start;
            while next < range.end {
                // Without buffers or somebody who takes them the reader is gone.
                let Ok(buffer) = buffers.recv() else { return };
                let read = files.read_piece(buffer, next, range.end, piece_size);
                let is_last = match &read {
                    Ok(piece) => {
                        next += piece.left.len() as u64;
                        piece.left.is_empty()
                    }
                    Err(_) => true,
                };
                if give.send(read).is_err() || is_last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("read-ahead".into())
            .stack_size(64 << 10)
            .spawn(read)?;
        Ok(AheadFile {
            pieces: Some(pieces),
            free: Some(free),
            current: None,
            thread: Some(thread),
        })
    }

    /// Reads some bytes; none where the file or the range ends.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(piece) = &mut self.current {
                let count = piece.left.len().min(into.len());
                if count > 0 || into.is_empty() {
                    let from = piece.left.start;
                    into[..count].copy_from_slice(&piece.buffer.bytes()[from..from + count]);
                    piece.left.start += count;
                    return Ok(count);
                }
            }
            if let (Some(used), Some(free)) = (self.current.take(), &self.free) {
                // After the last piece the thread needs no more.
                let _ = free.send(used.buffer);
            }
            match self.pieces.as_ref().map(Receiver::recv) {
                Some(Ok(piece)) => self.current = Some(piece?),
                _ => return self.ended(),
            }
            if self.current.as_ref().is_some_and(|piece| piece.left.is_empty()) {
                return Ok(0);
            }
        }
    }
}

impl AheadFile {
    /// No bytes, or an error where there are none because the thread has panicked.
    fn ended(&mut self) -> io::Result<usize> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("the thread that reads ahead has panicked")),
            _ => Ok(0),
        }
    }
}

impl Drop for AheadFile {
    fn drop(&mut self) {
        (self.pieces, self.free) = (None, None);
        if let Some(thread) = self.thread.take() {
            // It ends with the read that it is in.
            let _ = thread.join();
        }
    }
}

/// What tells a file from all others.
fn identity(file: &File) -> Option<(u64, u64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A file, and the same for transfers past the page cache.
struct Files {
    file: File,
    direct: Option<File>,
}

impl Files {
    /// Reads up to a piece from `next` on, as far as `end` and the file go.
    fn read_piece(&mut self, mut buffer: Buffer, next: u64, end: u64, size: usize) -> io::Result<Piece> {
        let skipped = (next % PAGE as u64) as usize;
        let from = next - skipped as u64;
        // Pieces but the first start at multiples of their size.
        let size = size - (from % size as u64) as usize;
        let wanted = usize::try_from(end - from).unwrap_or(usize::MAX).min(size);
        let bytes = &mut buffer.bytes_mut()[..wanted.next_multiple_of(PAGE).min(size)];
        let mut filled = 0;
        while filled < wanted {
            let is_direct = self.direct.is_some() && filled.is_multiple_of(PAGE);
            let file = match &self.direct {
                Some(direct) if is_direct => direct,
                _ => &self.file,
            };
            match file.read_at(&mut bytes[filled..], from + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It was opened, but the file system wants another alignment, or has an error of its own for that.
                Err(_) if is_direct => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        let filled = filled.min(wanted);
        Ok(Piece {
            buffer,
            left: skipped.min(filled)..filled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A file that is removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, content: &[u8]) -> Scratch {
            let path = std::env::temp_dir().join(format!("forebay-ahead-{name}-{}", std::process::id()));
            fs::write(&path, content).expect("a scratch file");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn content(size: u32) -> Vec<u8> {
        (0..size).map(|index| (index % 251) as u8).collect()
    }

    /// All that is left, in reads of `step` bytes.
    fn rest(file: &mut AheadFile, step: usize) -> io::Result<Vec<u8>> {
        let (mut all, mut bytes) = (Vec::new(), vec![0; step]);
        loop {
            match file.read(&mut bytes)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&bytes[..count]),
            }
        }
    }

    #[test]
    fn any_range_is_read_whether_past_the_page_cache_or_not() {
        let content = content(100_000);
        let scratch = Scratch::new("ranges", &content);
        for is_direct in [true, false] {
            for piece_size in [PAGE, 4 * PAGE, 64 * PAGE] {
                for (from, to) in [
                    (0, 100_000),
                    (0, 0),
                    (1, 4096),
                    (4095, 4097),
                    (4096, 12_288),
                    (50_001, 99_999),
                    (99_999, 100_000),
                    (8192, 8192),
                ] {
                    let files = Files {
                        file: File::open(&scratch.0).expect("it is there"),
                        direct: OpenOptions::new()
                            .read(true)
                            .custom_flags(libc::O_DIRECT)
                            .open(&scratch.0)
                            .ok()
                            .filter(|_| is_direct),
                    };
                    let mut file =
                        AheadFile::start(files, from as u64..to as u64, piece_size).expect("a thread");
                    let found = rest(&mut file, 1000).expect("it can be read");
                    assert!(
                        found == content[from..to],
                        "{from}..{to} in pieces of {piece_size}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_ends_early() {
        let content = content(100_000);
        let scratch = Scratch::new("cut", &content);
        let mut file = AheadFile::open(&scratch.0, 10..100_000, PAGE).expect("it is there");
        let mut first = vec![0; 100];
        assert_eq!(file.read(&mut first).expect("it can be read"), 100);
        OpenOptions::new()
            .write(true)
            .open(&scratch.0)
            .and_then(|file| file.set_len(50_000))
            .expect("it can be cut");
        let found = rest(&mut file, 777).expect("what is there can be read");
        assert!(found == content[110..50_000], "{} bytes", found.len());
        assert_eq!(file.read(&mut first).expect("it has ended"), 0);
    }

    /// A range that is said to go on behind the end of the file, or to begin there.
    #[test]
    fn a_file_that_is_shorter_than_it_was_said_ends_early() {
        let content = content(10_000);
        let scratch = Scratch::new("short", &content);
        for from in [0, 5000, 9999, 10_000, 12_000, 40_000] {
            let mut file = AheadFile::open(&scratch.0, from..50_000, 2 * PAGE).expect("it is there");
            let found = rest(&mut file, 1 << 20).expect("what is there can be read");
            assert!(found == content[(from as usize).min(10_000)..], "from {from}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_the_end() {
        let directory = std::env::temp_dir();
        let mut file = AheadFile::open(&directory, 0..10_000, PAGE).expect("a directory can be opened");
        let error = file
            .read(&mut [0; 10])
            .expect_err("a directory is not read like a file");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert_eq!(file.read(&mut [0; 10]).expect("nothing comes after it"), 0);
    }

    #[test]
    fn whoever_stops_reading_waits_for_no_more_than_a_piece() {
        let scratch = Scratch::new("dropped", &content(1_000_000));
        for taken in [0, 1, 5000] {
            let file = File::open(&scratch.0).expect("it is there");
            // A handle of the file that the thread has, and only it: others see its end.
            let (kept, given) = (std::sync::Arc::new(()), Files { file, direct: None });
            let held = std::sync::Arc::downgrade(&kept);
            let mut file = AheadFile::start_holding(given, 0..1_000_000, PAGE, kept).expect("a thread");
            file.read(&mut vec![0; taken]).expect("it can be read");
            assert_eq!(held.strong_count(), 1, "the thread waits for a buffer");
            drop(file);
            assert_eq!(held.strong_count(), 0, "the thread has ended");
        }
    }

    #[test]
    fn files_are_looked_at_in_places_all_over() {
        let scratch = Scratch::new("cached", &content(200_000));
        let files = |sizes: &'static [u64]| sizes.iter().map(|size| (&*scratch.0, *size));
        fs::read(&scratch.0).expect("it is there");
        let tells = File::open(&scratch.0).is_ok_and(|file| page_cache::holds(&file, 0).is_some());
        for seed in 0..100 {
            assert_eq!(are_cached(files(&[200_000]), seed), tells);
            assert_eq!(are_cached(files(&[0, 7, 200_000, 1, 0, 150_000]), seed), tells);
            assert_eq!(are_cached(files(&[1]), seed), tells);
            assert!(!are_cached(files(&[]), seed));
            assert!(!are_cached(files(&[0, 0]), seed));
            // Two thirds of the places are behind its end.
            assert!(!are_cached(files(&[600_000]), seed));
            assert!(!are_cached([(Path::new("/missing"), 1000)].into_iter(), seed));
        }
    }

    /// The kernel reads what it is asked for: what is looked at once is in the page cache for whoever looks there again.
    #[test]
    fn looking_at_files_does_not_make_them_cached() {
        const SIZE: u64 = 8 << 20;
        let scratch = Scratch::new("looked-at", &[]);
        let past = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&scratch.0);
        let zeros = Buffer::new(SIZE as usize);
        let written = past.and_then(|file| file.write_all_at(&zeros.bytes()[..SIZE as usize], 0));
        let file = File::open(&scratch.0).expect("it is there");
        if written.is_err() || page_cache::holds(&file, SIZE / 2) != Some(false) {
            // The file system keeps all in memory, or does not tell.
            return;
        }
        for seed in 0..4 {
            let are_cached = || are_cached([(&*scratch.0, SIZE)].into_iter(), seed);
            assert!(!are_cached(), "looked at in other places {seed} times");
            // What the kernel begins where it is asked.
            for place in places(SIZE, seed) {
                file.read_exact_at(&mut [0], place).expect("it is there");
            }
            assert!(are_cached(), "in the same places");
        }
    }

    #[test]
    fn pieces_of_all_readers_are_bounded() {
        let much = Some(24 << 30);
        let unknown = || unreachable!("it is not asked for");
        let no = || false;
        assert_eq!(
            piece_size_for(1, 2, Some(true), None, unknown),
            Some(LARGEST_PIECE)
        );
        assert_eq!(piece_size_for(u64::MAX, 2, Some(false), much, unknown), None);
        assert_eq!(piece_size_for(u64::MAX, 2, None, None, unknown), None);
        assert_eq!(piece_size_for(6 << 30, 2, None, much, unknown), None);
        assert_eq!(
            piece_size_for((6 << 30) + 1, 2, None, much, no),
            Some(LARGEST_PIECE)
        );
        assert_eq!(piece_size_for((6 << 30) + 1, 2, None, much, || true), None);
        let size = piece_size_for(u64::MAX, 64, None, much, no).expect("it is worth while");
        assert!(size.is_multiple_of(PAGE) && 64 * PIECES * size <= ALL_PIECES);
        // A 64th of 256 MiB, for three pieces of four readers.
        let size = piece_size_for(u64::MAX, 4, None, Some(256 << 20), no).expect("it is worth while");
        assert_eq!(size, (4 << 20) / 12 / PAGE * PAGE);
        assert_eq!(
            piece_size_for(u64::MAX, 100_000, None, much, no),
            Some(SMALLEST_PIECE)
        );
    }
}
