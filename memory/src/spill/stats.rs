//! What a spill store has done: counted per handle, summed per store.

use std::sync::Mutex;
use std::time::Duration;

/// Counts of a handle's, or of a whole store's, spill I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpillStats {
    /// Bytes sent to disk, headers and padding included.
    pub bytes_written: u64,
    /// Bytes that came from disk, headers, padding and read-ahead included.
    pub bytes_read: u64,
    /// Payload bytes of all blocks written, before compression.
    pub raw_bytes_written: u64,
    /// Payload bytes of all blocks read, after decompression.
    pub raw_bytes_read: u64,
    /// Blocks written.
    pub blocks_written: u64,
    /// Blocks read, from disk or from a buffer not yet written.
    pub blocks_read: u64,
    /// Payload bytes that went through compression and were kept compressed.
    pub compressed_raw_bytes: u64,
    /// What those bytes became.
    pub compressed_stored_bytes: u64,
    /// How long callers waited for the disk.
    pub waited: Duration,
    /// Which way bytes travel: `"io_uring"`, `"threads"`, `"simulated"`, or `"none"` before the first write.
    pub io: &'static str,
}

impl SpillStats {
    /// Adds what `now` has counted beyond `before`.
    fn add(&mut self, now: &SpillStats, before: &SpillStats) {
        self.bytes_written += now.bytes_written - before.bytes_written;
        self.bytes_read += now.bytes_read - before.bytes_read;
        self.raw_bytes_written += now.raw_bytes_written - before.raw_bytes_written;
        self.raw_bytes_read += now.raw_bytes_read - before.raw_bytes_read;
        self.blocks_written += now.blocks_written - before.blocks_written;
        self.blocks_read += now.blocks_read - before.blocks_read;
        self.compressed_raw_bytes += now.compressed_raw_bytes - before.compressed_raw_bytes;
        self.compressed_stored_bytes += now.compressed_stored_bytes - before.compressed_stored_bytes;
        self.waited += now.waited - before.waited;
        if !now.io.is_empty() {
            self.io = now.io;
        }
    }
}

/// A store's sums; handles add to it once per large transfer, not once per block.
#[derive(Debug, Default)]
pub(crate) struct Totals(Mutex<SpillStats>);

impl Totals {
    /// Adds what `now` has counted beyond `published`, and remembers that.
    pub fn publish(&self, now: &SpillStats, published: &mut SpillStats) {
        if now != published {
            self.0
                .lock()
                .expect("no code panics while it holds the totals")
                .add(now, published);
            *published = *now;
        }
    }

    /// The sums so far.
    pub fn snapshot(&self) -> SpillStats {
        let mut stats = *self.0.lock().expect("no code panics while it holds the totals");
        if stats.io.is_empty() {
            stats.io = "none";
        }
        stats
    }
}
