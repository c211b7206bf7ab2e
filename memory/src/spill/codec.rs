//! Whether a fragment is worth compressing, and its compression.
//!
//! # Algorithm
//! `lz4` keeps whatever is smaller. `adaptive` keeps what saves 4 KiB or 12 %, and bypasses compression while it
//! does not pay: it estimates, from decaying averages over compressed fragments,
//! - the share saved and the nanoseconds per byte that LZ4 took here (reading back costs about a quarter of it);
//! - the nanoseconds per byte the disk lately took, which a saved byte saves twice, written and read.
//!
//! While bypassing, every 32nd fragment is compressed anyway, so that a change is noticed. Where there is no
//! clock (the simulated disk), only the share saved decides.

use std::time::{Duration, Instant};

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use super::config::Codec;

/// A fragment is kept compressed where it saves this much…
const WORTH_BYTES: usize = 4096;
/// …or this share of itself.
const WORTH_SHARE: f64 = 0.12;
/// While bypassing, one fragment in this many is compressed to see whether that has changed: at 700 MB/s, and
/// 3 GB/s for the rest, this costs at most a tenth of the time.
const SAMPLE_EVERY: u32 = 32;
/// The disk's speed before anything was measured: what PERFORMANCE §1 calls usual.
const USUAL_NANOS_PER_BYTE: f64 = 0.5;
/// The weight of the newest fragment in an average.
const NEWEST: f64 = 0.125;

/// A handle's compressor: its scratch memory (136 KiB, allocated at first use) and its averages.
pub(crate) struct Compressor {
    codec: Codec,
    clock: bool,
    scratch: Vec<u8>,
    table: Option<CompressTable>,
    saved_share: f64,
    cpu_nanos_per_byte: f64,
    disk_nanos_per_byte: f64,
    bypassed: u32,
    bypassing: bool,
}

impl Compressor {
    pub fn new(codec: Codec, clock: bool) -> Self {
        Compressor {
            codec,
            clock,
            scratch: Vec::new(),
            table: None,
            saved_share: 0.5,
            cpu_nanos_per_byte: 1.4,
            disk_nanos_per_byte: USUAL_NANOS_PER_BYTE,
            bypassed: 0,
            bypassing: false,
        }
    }

    /// Whether the next fragment is to be compressed, or bypassed; to be asked once for each.
    pub fn wants_next(&mut self) -> bool {
        match self.codec {
            Codec::None => false,
            Codec::Lz4 => true,
            Codec::Adaptive if self.bypassing && self.bypassed < SAMPLE_EVERY => {
                self.bypassed += 1;
                false
            }
            Codec::Adaptive => {
                self.bypassed = 0;
                true
            }
        }
    }

    /// The compressed form of `raw`, where it is worth storing.
    pub fn compress(&mut self, raw: &[u8]) -> Option<&[u8]> {
        let room = get_maximum_output_size(raw.len());
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        let table = self.table.get_or_insert_with(CompressTable::small);
        let start = (self.clock && self.codec == Codec::Adaptive).then(Instant::now);
        let stored = compress_into_with_table(raw, &mut self.scratch, table).ok()?;
        let took = start.map(|start| start.elapsed());
        let saved = raw.len().saturating_sub(stored);
        let worth = match self.codec {
            Codec::Adaptive => {
                self.learn(raw.len(), saved, took);
                saved >= WORTH_BYTES || saved as f64 >= WORTH_SHARE * raw.len() as f64
            }
            _ => true,
        };
        (worth && saved > 0).then(|| &self.scratch[..stored])
    }

    /// Notes that the disk, kept busy, moved `bytes` in `took`; zero where nobody had to wait for it.
    ///
    /// That nobody waits while fragments are compressed does not say that nobody would without.
    pub fn disk_took(&mut self, bytes: usize, took: Duration) {
        if bytes > 0 && (self.bypassing || took > Duration::ZERO) {
            let nanos = took.as_nanos() as f64 / bytes as f64;
            self.disk_nanos_per_byte += NEWEST * (nanos - self.disk_nanos_per_byte);
        }
    }

    fn learn(&mut self, raw: usize, saved: usize, took: Option<Duration>) {
        if raw == 0 {
            return;
        }
        let share = saved as f64 / raw as f64;
        self.saved_share += NEWEST * (share - self.saved_share);
        let pays = match took {
            None => self.saved_share >= WORTH_SHARE,
            Some(took) => {
                let nanos = took.as_nanos() as f64 / raw as f64;
                self.cpu_nanos_per_byte += NEWEST * (nanos - self.cpu_nanos_per_byte);
                let cost = 1.25 * self.cpu_nanos_per_byte;
                self.saved_share >= WORTH_SHARE && self.saved_share * 2.0 * self.disk_nanos_per_byte > cost
            }
        };
        self.bypassing = !pays;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(compressor: &mut Compressor, raw: &[u8]) -> bool {
        compressor.wants_next() && compressor.compress(raw).is_some()
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn adaptive_learns_to_bypass_and_to_return() {
        let mut compressor = Compressor::new(Codec::Adaptive, false);
        let (noise, zeros) = (noise(32 << 10), vec![0; 32 << 10]);
        assert!(feed(&mut compressor, &zeros));
        for _ in 0..50 {
            assert!(compressor.compress(&noise).is_none());
        }
        assert!(compressor.bypassing);
        let kept = (0..50 * SAMPLE_EVERY)
            .filter(|_| feed(&mut compressor, &zeros))
            .count();
        assert!(!compressor.bypassing && kept > 100, "{kept}");
    }

    #[test]
    fn adaptive_compresses_for_a_slow_disk_only() {
        let text: Vec<u8> = (0..32 << 10)
            .map(|i: u32| (i / 100) as u8 ^ (i % 7) as u8)
            .collect();
        let mut compressor = Compressor::new(Codec::Adaptive, true);
        for _ in 0..200 {
            compressor.disk_took(1 << 20, Duration::from_secs(1));
            compressor.compress(&text);
        }
        assert!(!compressor.bypassing, "at 1 MB/s everything pays");
        for _ in 0..2000 {
            compressor.disk_took(1 << 30, Duration::from_micros(1));
            compressor.compress(&text);
        }
        assert!(compressor.bypassing, "at 1 PB/s nothing pays");
    }

    #[test]
    fn lz4_keeps_what_is_smaller() {
        let mut compressor = Compressor::new(Codec::Lz4, true);
        assert!(compressor.compress(&noise(1000)).is_none());
        assert!(feed(&mut compressor, &[0; 100]));
        assert!(compressor.compress(&[]).is_none());
    }
}
