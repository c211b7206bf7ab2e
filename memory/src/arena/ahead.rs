//! How far ahead of demand slabs are faulted in, and whether it is worth it.
//!
//! # Algorithm
//! 1. A helper thread keeps [`Ahead::wanted`] slabs ready: 2 at first, twice as many, up to 16, each time a taker found none;
//!    never more than a quarter of the slabs in use, but 2.
//! 2. A taker that finds none goes on with small pages, a segment at a time, which it commits itself.
//! 3. Both say how long that took. Where the machine is slow ([`SLOW_NANOS_A_KIB`]) the helper rests: a huge page takes as long
//!    as its small ones do, and a helper that is at it for milliseconds takes a core from those that it works for.
//!
//! # Cost
//! On the virtual machine that this was measured on, 2 MiB that the guest has had before are zeroed in 0.25 ms. Those that the
//! host has to find take 5.9 ms, as one huge page or 4 KiB at a time. See decision 015.

use std::time::Duration;

/// Slabs to keep ready: at first, and at most (32 MiB).
const AHEAD: (usize, usize) = (2, 16);

/// From here on memory comes slowly: 1 GB/s. Zeroing runs at 3.5 GB/s on small pages and 8 on huge ones; what the host has to
/// find first at 0.36 to 0.41.
const SLOW_NANOS_A_KIB: f64 = 1000.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Ahead {
    target: usize,
    /// Whether every slab is to be ready, for as long as the kernel has not been given memory back.
    eager: bool,
    /// What a KiB lately took.
    nanos_a_kib: f64,
}

impl Ahead {
    pub(super) fn new(eager: bool) -> Ahead {
        Ahead {
            target: AHEAD.0,
            eager,
            nanos_a_kib: 0.0,
        }
    }

    /// How many slabs are to be ready where `in_use` are carved.
    pub(super) fn wanted(&self, in_use: usize) -> usize {
        match () {
            () if self.eager => usize::MAX,
            () if self.is_slow() => 0,
            () => self.target.min(in_use / 4).max(AHEAD.0),
        }
    }

    fn is_slow(&self) -> bool {
        self.nanos_a_kib > SLOW_NANOS_A_KIB
    }

    /// Notes how long it took to commit `bytes`; the last eight times count most.
    pub(super) fn learn(&mut self, bytes: usize, took: Duration) {
        let nanos = took.as_nanos() as f64 / (bytes as f64 / 1024.0);
        self.nanos_a_kib += (nanos - self.nanos_a_kib) / 8.0;
    }

    /// Notes that a taker found no slab ready.
    pub(super) fn missed(&mut self) {
        self.target = (self.target * 2).min(AHEAD.1);
    }

    /// Notes that memory was given back: no more is wanted than demand asks for.
    pub(super) fn relax(&mut self) {
        self.target = AHEAD.0;
        self.eager = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLAB: usize = 2 << 20;

    #[test]
    fn a_part_of_what_is_in_use_is_wanted_ahead() {
        let mut ahead = Ahead::new(false);
        assert_eq!([0, 8, 100].map(|in_use| ahead.wanted(in_use)), [2, 2, 2]);
        (0..9).for_each(|_| ahead.missed());
        assert_eq!([0, 8, 40, 100].map(|in_use| ahead.wanted(in_use)), [2, 2, 10, 16]);
        ahead.relax();
        assert_eq!(ahead.wanted(100), 2);
    }

    #[test]
    fn nothing_is_wanted_ahead_while_memory_comes_slowly() {
        let mut ahead = Ahead::new(false);
        let (quick, slow) = (Duration::from_micros(250), Duration::from_micros(5900));
        ahead.learn(SLAB, quick);
        assert_eq!(ahead.wanted(8), 2);
        (0..8).for_each(|_| ahead.learn(SLAB, slow));
        assert_eq!(ahead.wanted(8), 0);
        (0..16).for_each(|_| ahead.learn(SLAB / 64, quick / 32));
        assert_eq!(ahead.wanted(8), 2, "small pages come quickly again");
        ahead.learn(SLAB, slow);
        assert_eq!(ahead.wanted(8), 2, "one hiccup is none");
    }

    #[test]
    fn who_wants_all_of_it_does_until_memory_is_given_back() {
        let mut ahead = Ahead::new(true);
        (0..8).for_each(|_| ahead.learn(SLAB, Duration::from_millis(6)));
        assert_eq!(ahead.wanted(8), usize::MAX);
        ahead.relax();
        assert_eq!(ahead.wanted(8), 0);
    }
}
