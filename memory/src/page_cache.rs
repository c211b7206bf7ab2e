//! What of files the kernel keeps in memory: whether reading them past its cache would read what is there already.
//!
//! # Interface
//! [`holds`] a byte of a file.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Whether a byte of a file is in the page cache; `None` where the file system does not tell, and behind the file's end. It does not wait
/// for the disk; but since Linux 5.9 a page that is not there is read, so that it is there when it is asked for again.
pub fn holds(file: &File, offset: u64) -> Option<bool> {
    let mut byte = 0u8;
    let part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let offset = i64::try_from(offset).ok()?;
    // SAFETY: one part, which is one byte of a variable that outlives the call; the descriptor is kept open by `file`.
    let count = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_NOWAIT) };
    match count {
        1 => Some(true),
        0 => None,
        _ => {
            let error = std::io::Error::last_os_error();
            (error.raw_os_error() == Some(libc::EAGAIN)).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// Where the kernel says that a byte is there it is; what was just written and read is, where file systems tell.
    #[test]
    fn what_was_just_read_is_held_and_nothing_behind_the_end_is() {
        let path = std::env::temp_dir().join(format!("forebay-page-cache-{}", std::process::id()));
        let mut file = File::create_new(&path).expect("a scratch file");
        file.write_all(&[7; 10_000]).expect("it can be written");
        let file = File::open(&path).expect("it is there");
        (&file).read_to_end(&mut Vec::new()).expect("it can be read");
        std::fs::remove_file(&path).expect("it is there");
        for offset in [0, 1, 4095, 4096, 9_999] {
            assert_ne!(holds(&file, offset), Some(false), "byte {offset}");
        }
        for offset in [10_000, 1 << 40, u64::MAX] {
            assert_ne!(holds(&file, offset), Some(true), "byte {offset}");
        }
    }
}
