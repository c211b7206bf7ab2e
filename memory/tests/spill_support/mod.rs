//! What the tests of the spill store share: seeded randomness, directories of their own.
#![allow(
    dead_code,
    missing_docs,
    reason = "every test binary uses its own share of this"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_memory::spill::{IoChoice, SpillConfig, SpillStore};

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A payload of up to `largest` bytes, sizes spread over all magnitudes; noise, zeros, or something between.
    pub fn payload(&mut self, largest: usize) -> Vec<u8> {
        let magnitude = self.below(largest + 1);
        let bytes = match self.below(8) {
            0 => [0, 1, 4032, 4096, 32 << 10, largest][self.below(6)].min(largest),
            1 => largest - self.below(64).min(largest),
            _ => self.below(magnitude + 1),
        };
        let kind = self.below(3);
        let mut word = self.next();
        (0..bytes)
            .map(|at| {
                if at % 8 == 0 && kind == 0 {
                    word = self.next();
                }
                match kind {
                    0 => (word >> (at % 8 * 8)) as u8,
                    1 => (at / 50) as u8,
                    _ => word as u8,
                }
            })
            .collect()
    }

    /// A key of the map: the same for the same seed, whatever the map's order.
    pub fn pick<V>(&mut self, map: &HashMap<u32, V>) -> Option<u32> {
        let mut keys: Vec<u32> = map.keys().copied().collect();
        keys.sort_unstable();
        (!keys.is_empty()).then(|| keys[self.below(keys.len())])
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// A directory that goes with its test.
pub struct TestDirectory(PathBuf);

impl TestDirectory {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-spill-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TestDirectory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether this kernel, and this container, permit io_uring.
pub fn io_uring_works() -> bool {
    let config = SpillConfig {
        io: IoChoice::IoUring,
        ..SpillConfig::default()
    };
    let store = SpillStore::open(&config).unwrap();
    store.handle("probe").unwrap().write(&[b"x"]).is_ok()
}
