//! [`DirectFile`]: bytes that go to a file from an offset on, written behind, past the page cache where the file system lets them.
//!
//! # Interface
//! [`DirectFile::open`] a file that exists at an offset; [`DirectFile::write`] appends; [`DirectFile::finish`] writes the rest.
//! Several may write one file, each its own range of it, whatever its bounds.
//!
//! # Algorithm
//! Bytes gather in a piece that ends at a multiple of its size and goes to disk in one call. Whole pages of it go past the page
//! cache; the pages at the bounds of the range, which a neighbour may share, go through it. So no page goes both ways. Full pieces are
//! written by a thread, which starts with the first of them, while the next one fills; where as many as there may be are on their way,
//! writing waits for one. What could not be written is told by a later call, by [`DirectFile::finish`] at the latest. Where there is no
//! thread to be had, or a sink has very many writers, each piece is written by whoever fills it. Who drops the file without finishing
//! it does not want it: pieces that wait to be written are not.
//!
//! # Memory
//! [`PIECES`] pieces, 1 MiB each at most, on the user's heap; one where all there is fits in it. All writers of a sink in a process have
//! [`ALL_PIECES`] together: their pieces are smaller where they are many, but no smaller than [`SMALLEST_PIECE`] as long as one each
//! is that; beyond that (240 writers) down to a page, so that only more than 2,048 writers have more, two pages each.
//!
//! # Cost
//! One copy into the piece. On the disk at hand: 2.1 to 2.7 GB/s with one writer or more in pieces of 1 MiB, against 0.6 to 0.9 through
//! the page cache, which has to find and zero a page for each 4 KiB; pieces of 512 KiB and of 4 MiB are 10 % slower.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// What transfers past the page cache are aligned to, in the file and in memory.
const PAGE: usize = 4096;
const LARGEST_PIECE: usize = 1 << 20;
const SMALLEST_PIECE: usize = 64 << 10;
/// One that is being filled, one that is being written, and one that is to be written next.
const PIECES: usize = 3;
/// What the pieces of all writers of a sink take at most.
const ALL_PIECES: usize = 16 << 20;

/// A range of a file that is being written.
pub(super) struct DirectFile {
    files: Arc<Files>,
    piece: Piece,
    pieces: Pieces,
    writing: Writing,
    spawn: Spawn,
}

/// How many pieces a writer has, and of which size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pieces {
    count: usize,
    size: usize,
}

/// How full pieces are written.
enum Writing {
    /// There was none yet.
    NotYet,
    Behind(Behind),
    /// By whoever fills them; and whether transfers past the page cache were refused.
    InPlace(bool),
}

/// Starts a thread.
type Spawn = fn(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// The thread that writes full pieces.
struct Behind {
    full: Option<Sender<Piece>>,
    /// Gives pieces back that were written, or says why one was not, and then no more.
    written: Receiver<io::Result<Piece>>,
    /// Pieces that have not come back.
    on_their_way: usize,
    /// Nobody wants what is not written yet.
    is_cancelled: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A file, and the same for transfers past the page cache.
struct Files {
    file: File,
    direct: Option<File>,
}

/// Bytes on their way to a file.
struct Piece {
    memory: Vec<u8>,
    /// Where it starts in `memory`: at a page.
    start: usize,
    /// The offset in the file of its first byte, a multiple of a page.
    offset: u64,
    /// The bytes of it that are not this range's, at its start.
    skipped: usize,
    /// Where its bytes end.
    end: usize,
}

impl Piece {
    fn new(size: usize) -> Piece {
        let memory = vec![0; size + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        Piece {
            memory,
            start,
            offset: 0,
            skipped: 0,
            end: 0,
        }
    }

    /// Makes it empty, behind what was in it.
    fn pass(&mut self) {
        self.offset += self.end as u64;
        (self.skipped, self.end) = (0, 0);
    }

    /// Writes it, past the page cache unless that was refused before.
    fn write(&self, files: &Files, is_refused: &mut bool) -> io::Result<()> {
        let piece = &self.memory[self.start..self.start + self.end];
        // The pages that are this range's alone.
        let first = self.skipped.next_multiple_of(PAGE).min(self.end);
        let last = (self.end / PAGE * PAGE).max(first);
        files
            .file
            .write_all_at(&piece[self.skipped..first], self.offset + self.skipped as u64)?;
        write_pages(files, is_refused, &piece[first..last], self.offset + first as u64)?;
        files.file.write_all_at(&piece[last..], self.offset + last as u64)
    }
}

impl DirectFile {
    /// Begins to write the file at `path`, which exists, at `offset`, as one of `writers`.
    pub(super) fn open(path: &Path, offset: u64, writers: usize) -> io::Result<DirectFile> {
        let file = OpenOptions::new().write(true).open(path)?;
        // Refused where the file system has no such thing.
        let direct = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)
            .ok();
        Ok(DirectFile::new(
            Files { file, direct },
            offset,
            Pieces::of(writers),
            spawn,
        ))
    }

    fn new(files: Files, offset: u64, pieces: Pieces, spawn: Spawn) -> DirectFile {
        let mut piece = Piece::new(pieces.size);
        piece.skipped = (offset % PAGE as u64) as usize;
        piece.offset = offset - piece.skipped as u64;
        piece.end = piece.skipped;
        DirectFile {
            files: Arc::new(files),
            piece,
            pieces,
            writing: Writing::NotYet,
            spawn,
        }
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let piece = &mut self.piece;
            // The first piece is shorter, so that the others start at multiples of their size.
            let size = self.pieces.size;
            let room = size - (piece.offset % size as u64) as usize - piece.end;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            piece.memory[piece.start + piece.end..][..now.len()].copy_from_slice(now);
            piece.end += now.len();
            bytes = later;
            if now.len() == room {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    /// Has the piece written, and goes on with another.
    fn hand_over(&mut self) -> io::Result<()> {
        if matches!(self.writing, Writing::NotYet) {
            let behind = match self.pieces.count {
                1 => None,
                // Without a thread it takes longer.
                _ => Behind::start(self.files.clone(), self.spawn).ok(),
            };
            self.writing = behind.map_or(Writing::InPlace(false), Writing::Behind);
        }
        match &mut self.writing {
            Writing::NotYet => unreachable!("it was decided"),
            Writing::InPlace(is_refused) => {
                self.piece.write(&self.files, is_refused)?;
                self.piece.pass();
                Ok(())
            }
            Writing::Behind(behind) => {
                let mut next = match behind.on_their_way + 1 < self.pieces.count {
                    true => Piece::new(self.pieces.size),
                    false => behind.wait()?,
                };
                (next.offset, next.end) = (self.piece.offset, self.piece.end);
                next.pass();
                behind.give(std::mem::replace(&mut self.piece, next))
            }
        }
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Writing::Behind(behind) = &mut self.writing {
            while behind.on_their_way > 0 {
                behind.wait()?;
            }
        }
        self.writing = Writing::NotYet;
        self.piece.write(&self.files, &mut false)?;
        self.piece.pass();
        Ok(())
    }

    /// Writes everything to the device, once it is finished.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.files.file.sync_all()
    }
}

impl Behind {
    fn start(files: Arc<Files>, spawn: Spawn) -> io::Result<Behind> {
        let (full, pieces) = channel::<Piece>();
        let (give, written) = channel();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let is_unwanted = is_cancelled.clone();
        let write = move || {
            let mut is_refused = false;
            while let Ok(piece) = pieces.recv()
                && !is_unwanted.load(Ordering::Relaxed)
            {
                let result = piece.write(&files, &mut is_refused);
                let has_failed = result.is_err();
                if give.send(result.map(|()| piece)).is_err() || has_failed {
                    return;
                }
            }
        };
        let thread = spawn(Box::new(write))?;
        Ok(Behind {
            full: Some(full),
            written,
            on_their_way: 0,
            is_cancelled,
            thread: Some(thread),
        })
    }

    /// Has a piece written.
    fn give(&mut self, piece: Piece) -> io::Result<()> {
        let is_taken = self.full.as_ref().is_some_and(|full| full.send(piece).is_ok());
        if !is_taken {
            // The thread ends before its time only where it has failed, and says so.
            while self.on_their_way > 0 {
                self.wait()?;
            }
            return Err(io::Error::other("the thread that writes behind has ended"));
        }
        self.on_their_way += 1;
        Ok(())
    }

    /// Waits for a piece to be written.
    fn wait(&mut self) -> io::Result<Piece> {
        match self.written.recv() {
            Ok(piece) => {
                self.on_their_way -= 1;
                piece
            }
            Err(_) => Err(io::Error::other("the thread that writes behind has ended")),
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // Who wants what is on its way has waited for it.
        self.is_cancelled.store(true, Ordering::Relaxed);
        self.full = None;
        if let Some(thread) = self.thread.take() {
            // It ends with the piece that it is writing.
            let _ = thread.join();
        }
    }
}

impl Pieces {
    /// Those of one of so many writers.
    fn of(writers: usize) -> Pieces {
        // Each piece has a page besides, so that it can begin at one.
        let size = |count: usize| (ALL_PIECES / count / writers.max(1)).saturating_sub(PAGE) / PAGE * PAGE;
        match size(PIECES) {
            several @ SMALLEST_PIECE.. => Pieces {
                count: PIECES,
                size: several.min(LARGEST_PIECE),
            },
            // One that is written in place may be three times as large.
            _ => Pieces {
                count: 1,
                size: size(1).clamp(PAGE, LARGEST_PIECE),
            },
        }
    }
}

fn spawn(write: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("write-behind".into())
        .stack_size(64 << 10)
        .spawn(write)
}

fn write_pages(files: &Files, is_refused: &mut bool, mut pages: &[u8], mut offset: u64) -> io::Result<()> {
    while let Some(direct_file) = files.direct.as_ref()
        && !*is_refused
        && !pages.is_empty()
    {
        match direct_file.write_at(pages, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                pages = &pages[count..];
                // A short write, on a full disk say: what is left may start anywhere.
                if !count.is_multiple_of(PAGE) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It was opened, but wants another alignment.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => *is_refused = true,
            Err(error) => return Err(error),
        }
    }
    files.file.write_all_at(pages, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SMALL: Pieces = Pieces {
        count: PIECES,
        size: PAGE,
    };

    /// Ranges of all kinds next to each other, written in turns, in parts of all sizes.
    #[test]
    fn ranges_of_one_file_are_written_next_to_each_other() {
        let path = std::env::temp_dir().join(format!("forebay-direct-{}", std::process::id()));
        let content: Vec<u8> = (0..100_000u32).map(|index| (index % 251) as u8).collect();
        let spawns: [(usize, Spawn); 3] = [
            (PIECES, spawn),
            (1, spawn),
            (PIECES, |_| Err(io::ErrorKind::WouldBlock.into())),
        ];
        for (piece_size, (count, spawn)) in [PAGE, 4 * PAGE]
            .into_iter()
            .flat_map(|size| spawns.map(|spawn| (size, spawn)))
        {
            for is_direct in [true, false] {
                for bounds in [
                    vec![0, 100_000],
                    vec![0, 1, 4095, 4096, 4097, 12_288, 50_001, 50_001, 100_000],
                    vec![0, 8192, 16_000, 99_999, 100_000],
                ] {
                    fs::write(&path, []).expect("a scratch file");
                    let mut writers: Vec<(DirectFile, &[u8])> = bounds
                        .windows(2)
                        .map(|range| {
                            let open = |flags| {
                                let mut options = OpenOptions::new();
                                options.write(true).custom_flags(flags).open(&path)
                            };
                            let files = Files {
                                file: open(0).expect("it is there"),
                                direct: open(libc::O_DIRECT).ok().filter(|_| is_direct),
                            };
                            let pieces = Pieces {
                                count,
                                size: piece_size,
                            };
                            let writer = DirectFile::new(files, range[0] as u64, pieces, spawn);
                            (writer, &content[range[0]..range[1]])
                        })
                        .collect();
                    let mut size = 1;
                    while writers.iter().any(|(_, rest)| !rest.is_empty()) {
                        for (writer, rest) in &mut writers {
                            size = size * 7 % 9973;
                            let (now, later) = rest.split_at(size.min(rest.len()));
                            writer.write(now).expect("there is space");
                            *rest = later;
                        }
                    }
                    for (writer, _) in &mut writers {
                        writer.finish().expect("there is space");
                    }
                    assert!(
                        fs::read(&path).expect("it is there") == content,
                        "{piece_size} {bounds:?}"
                    );
                }
            }
        }
        fs::remove_file(&path).expect("it is there");
    }

    /// A file that cannot be written to: the thread's error comes back by a later call.
    #[test]
    fn what_could_not_be_written_behind_is_told_later() {
        let path = std::env::temp_dir().join(format!("forebay-direct-read-{}", std::process::id()));
        fs::write(&path, []).expect("a scratch file");
        for pieces in [1, 2, 3, 10] {
            let files = Files {
                file: File::open(&path).expect("it is there"),
                direct: None,
            };
            let mut file = DirectFile::new(files, 0, SMALL, spawn);
            let written = (0..pieces).try_for_each(|_| file.write(&[7; PAGE]));
            let error = written.and_then(|()| file.finish()).expect_err("it is read only");
            assert_eq!(
                error.raw_os_error(),
                Some(libc::EBADF),
                "{pieces} pieces: {error}"
            );
        }
        fs::remove_file(&path).expect("it is there");
    }

    /// The thread gets to run when the file has been dropped: nothing of it is written then.
    #[test]
    fn what_nobody_wants_any_more_is_not_written() {
        static IS_DROPPED: AtomicBool = AtomicBool::new(false);
        const MANY_LOOKS: u64 = 20_000_000;
        let path = std::env::temp_dir().join(format!("forebay-direct-dropped-{}", std::process::id()));
        fs::write(&path, []).expect("a scratch file");
        let files = Files {
            file: OpenOptions::new().write(true).open(&path).expect("it is there"),
            direct: None,
        };
        let mut file = DirectFile::new(files, 0, SMALL, |write| {
            Ok(std::thread::spawn(move || {
                while !IS_DROPPED.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                write();
            }))
        });
        file.write(&[7; 2 * PAGE]).expect("two pieces are on their way");
        let Writing::Behind(behind) = &file.writing else {
            panic!("there is a thread");
        };
        let is_cancelled = behind.is_cancelled.clone();
        let watch = std::thread::spawn(move || {
            // Ended some time, to fail and not to hang.
            let is_told = (0..MANY_LOOKS).any(|_| {
                std::thread::yield_now();
                is_cancelled.load(Ordering::Acquire)
            });
            IS_DROPPED.store(true, Ordering::Release);
            is_told
        });
        drop(file);
        assert!(
            watch.join().expect("it ends"),
            "the thread is not told that the file was dropped"
        );
        let written = fs::read(&path).expect("it is there").len();
        assert_eq!(written, 0, "bytes were written");
        fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn pieces_of_all_writers_are_within_their_bound() {
        for writers in 1..=2048 {
            let Pieces { count, size } = Pieces::of(writers);
            assert!(writers * count * (size + PAGE) <= ALL_PIECES, "{writers} writers");
            assert!(
                size.is_multiple_of(PAGE) && size >= PAGE,
                "{writers} writers: {size}"
            );
            assert!(
                size >= SMALLEST_PIECE || writers > 240,
                "{writers} writers: {size}"
            );
        }
        let pieces = |count, size| Pieces { count, size };
        assert_eq!(
            [1, 5, 6, 80, 81].map(Pieces::of),
            [
                pieces(3, LARGEST_PIECE),
                pieces(3, LARGEST_PIECE),
                pieces(3, 925_696),
                pieces(3, SMALLEST_PIECE),
                pieces(1, 200_704)
            ]
        );
    }
}
