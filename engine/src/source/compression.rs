//! [`Compression`] of text files, and the decoder between a compressed file and a read buffer.
//!
//! # Interface
//! [`Compression::of`] a name; [`FileBytes::open`] a file, compressed or not; [`FileBytes::read`] its text.
//!
//! # Algorithm
//! Gzip files may have several members and zstd files several frames, one after the other, as `cat` and parallel compressors
//! make them: their texts follow each other. Frames to be skipped are. Checksums are compared where the file has them (gzip always does).
//!
//! # Memory
//! A file being read has, on the user's heap: a buffer of 64 KiB; for gzip about 48 KiB; for zstd twice the window that the
//! frame asks for (8 MiB at the levels up to 19), refused over [`LARGEST_WINDOW`].
//!
//! # Not here
//! Compressed files cannot be divided: a split has whole ones (`files`).

use flate2::bufread::MultiGzDecoder;
use forebay_memory::{ByteSize, Error, ErrorKind, Result};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

const BUFFER: usize = 64 << 10;

/// The largest window of a zstd frame.
const LARGEST_WINDOW: u64 = 32 << 20;

const ZSTD_FRAME: u32 = 0xfd2f_b528;
/// The lowest of the 16 numbers that frames to be skipped begin with.
const ZSTD_SKIPPED: u32 = 0x184d_2a50;

/// How text files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As a file's name says: gzip where it ends in `.gz` or `.gzip`, zstd where it ends in `.zst` or `.zstd`, not at all otherwise.
    #[default]
    ByName,
    /// Not at all, whatever names say.
    None,
    /// All with gzip.
    Gzip,
    /// All with zstd.
    Zstd,
}

impl Compression {
    /// That of the file at `path`; never [`Compression::ByName`].
    pub(super) fn of(self, path: &Path) -> Compression {
        if self != Compression::ByName {
            return self;
        }
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        match ending.to_ascii_lowercase().as_str() {
            "gz" | "gzip" => Compression::Gzip,
            "zst" | "zstd" => Compression::Zstd,
            _ => Compression::None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::None | Compression::ByName => "no",
        }
    }
}

/// The bytes of a file, decompressed.
pub(super) enum FileBytes {
    Plain(File),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(Box<ZstdReader>),
}

impl FileBytes {
    /// Opens a file; `offset` is that of the first byte to be read, and 0 where it is compressed.
    pub(super) fn open(path: &Path, compression: Compression, offset: u64) -> io::Result<FileBytes> {
        let mut file = File::open(path)?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        let buffered = |file| BufReader::with_capacity(BUFFER, file);
        Ok(match compression.of(path) {
            Compression::Gzip => FileBytes::Gzip(Box::new(MultiGzDecoder::new(buffered(file)))),
            Compression::Zstd => FileBytes::Zstd(Box::new(ZstdReader::new(buffered(file)))),
            Compression::None | Compression::ByName => FileBytes::Plain(file),
        })
    }

    /// Opens a file as its first bytes say it is compressed: none of these can begin a text.
    pub(super) fn sniff(path: &Path) -> io::Result<FileBytes> {
        let mut start = Vec::new();
        File::open(path)?.take(4).read_to_end(&mut start)?;
        let compression = match start[..] {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
            _ => Compression::None,
        };
        FileBytes::open(path, compression, 0)
    }

    /// Reads some bytes; none at the end. `reached` is how many have been read before.
    ///
    /// # Errors
    /// `Io` of the file, without saying which; `Corrupt` where it is damaged or cut, with the place in it; `Memory` where its window is too
    /// large.
    pub(super) fn read(&mut self, bytes: &mut [u8], path: &Path, reached: u64) -> Result<usize> {
        loop {
            let read = match self {
                FileBytes::Plain(file) => file.read(bytes),
                FileBytes::Gzip(decoder) => decoder.read(bytes),
                FileBytes::Zstd(decoder) => decoder.read(bytes),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fault(error, path, reached)),
                Ok(count) => return Ok(count),
            }
        }
    }

    #[cold]
    fn fault(&mut self, error: io::Error, path: &Path, reached: u64) -> Error {
        let (compression, file) = match self {
            FileBytes::Gzip(decoder) => (Compression::Gzip, decoder.get_mut()),
            FileBytes::Zstd(decoder) => (Compression::Zstd, &mut decoder.file),
            FileBytes::Plain(_) => return super::files::cannot_read(path, error),
        };
        // What the operating system says is not the data's fault.
        if error.raw_os_error().is_some() {
            return super::files::cannot_read(path, error);
        }
        let (name, path) = (compression.name(), path.display());
        if let Some(window) = error
            .get_ref()
            .and_then(|error| error.downcast_ref::<WindowTooLarge>())
        {
            return Error::memory(format!(
                "\"{path}\" needs a window of {} to be decompressed, at most {} are allowed; compress it without --long and \
                 --ultra",
                ByteSize(window.0),
                ByteSize(LARGEST_WINDOW)
            ));
        }
        let place = file.stream_position().unwrap_or(0);
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("ends in the middle of its {name} data"),
            _ => format!("has damaged {name} data ({error})"),
        };
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "\"{path}\" {what} at or before byte {place}, after {reached} bytes of text; restore it, or leave it out"
            ),
        )
    }
}

/// A frame's window that is over [`LARGEST_WINDOW`].
#[derive(Debug)]
struct WindowTooLarge(u64);

impl std::fmt::Display for WindowTooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "window of {} B", self.0)
    }
}

impl std::error::Error for WindowTooLarge {}

/// The texts of a zstd file's frames.
pub(super) struct ZstdReader {
    file: BufReader<File>,
    decoder: FrameDecoder,
    is_in_frame: bool,
    /// Whether a frame has begun: an empty file is none.
    is_begun: bool,
}

impl ZstdReader {
    fn new(file: BufReader<File>) -> ZstdReader {
        ZstdReader {
            file,
            decoder: FrameDecoder::new(),
            is_in_frame: false,
            is_begun: false,
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_in_frame {
                if self.is_begun && self.file.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.begin_frame()?;
                continue;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(bytes);
            }
            if self.decoder.is_finished() {
                self.check_frame()?;
                self.is_in_frame = false;
                continue;
            }
            let strategy = BlockDecodingStrategy::UptoBytes(bytes.len().max(1));
            self.decoder
                .decode_blocks(&mut self.file, strategy)
                .map_err(damaged)?;
        }
    }

    /// Begins the next frame, or skips it.
    fn begin_frame(&mut self) -> io::Result<()> {
        self.is_begun = true;
        let mut header = [0; 6];
        self.file.read_exact(&mut header[..4])?;
        let magic = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if magic & !15 == ZSTD_SKIPPED {
            let mut size = [0; 4];
            self.file.read_exact(&mut size)?;
            let size = u64::from(u32::from_le_bytes(size));
            let skipped = io::copy(&mut (&mut self.file).take(size), &mut io::sink())?;
            return match skipped == size {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        if magic != ZSTD_FRAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{magic:#010x} begins no frame"),
            ));
        }
        self.file.read_exact(&mut header[4..])?;
        if let Some(window) = window_of(header[4], header[5]).filter(|window| *window > LARGEST_WINDOW) {
            return Err(io::Error::other(WindowTooLarge(window)));
        }
        self.decoder
            .init((&header[..]).chain(&mut self.file))
            .map_err(damaged)?;
        // Frames without a window of their own have that of their content.
        let content = self.decoder.content_size();
        if header[4] & SINGLE_SEGMENT != 0 && content > LARGEST_WINDOW {
            return Err(io::Error::other(WindowTooLarge(content)));
        }
        self.is_in_frame = true;
        Ok(())
    }

    fn check_frame(&self) -> io::Result<()> {
        match (
            self.decoder.get_checksum_from_data(),
            self.decoder.get_calculated_checksum(),
        ) {
            (Some(stored), Some(computed)) if stored != computed => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("checksum {stored:08x} is not {computed:08x}"),
            )),
            _ => Ok(()),
        }
    }
}

/// In a frame's first byte: that it has no window.
const SINGLE_SEGMENT: u8 = 1 << 5;

/// The window of a frame whose header begins with these bytes behind its magic number.
fn window_of(descriptor: u8, window: u8) -> Option<u64> {
    let base = 1u64 << (10 + (window >> 3));
    (descriptor & SINGLE_SEGMENT == 0).then_some(base + base / 8 * u64::from(window & 7))
}

fn damaged(error: ruzstd::decoding::errors::FrameDecoderError) -> io::Error {
    // The decoder's own errors hide that the file has ended.
    let text = error.to_string();
    let kind = match text.contains("UnexpectedEof") || text.contains("failed to fill whole buffer") {
        true => io::ErrorKind::UnexpectedEof,
        false => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_told_by_the_name() {
        for (name, found) in [
            ("a.txt", Compression::None),
            ("a.gz", Compression::Gzip),
            ("b/a.txt.GZ", Compression::Gzip),
            ("a.csv.zst", Compression::Zstd),
            ("a.zstd", Compression::Zstd),
            ("gz", Compression::None),
        ] {
            assert_eq!(Compression::ByName.of(Path::new(name)), found, "{name}");
            assert_eq!(Compression::None.of(Path::new(name)), Compression::None);
        }
    }

    #[test]
    fn windows_are_those_of_the_format() {
        assert_eq!(window_of(0, 0), Some(1 << 10));
        assert_eq!(window_of(0, 13 << 3), Some(8 << 20));
        assert_eq!(window_of(4, (13 << 3) | 4), Some(12 << 20));
        assert_eq!(window_of(SINGLE_SEGMENT, 0), None);
    }
}
