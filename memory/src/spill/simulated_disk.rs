//! A disk in memory that fails as disks do, by a seed: no threads, no clock, no other randomness.
//!
//! # Interface
//! [`SimulatedDisk::new`], a store on it ([`SpillStore::on_simulated`](super::SpillStore::on_simulated)), and
//! [`SimulatedDisk::report`] when the store is gone: what was left, and which faults happened.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::config::PAGE;

/// Which faults a simulated disk has. Rates are "one in so many transfers"; 0 is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimulatedFaults {
    /// Fewer bytes are written, or read, than asked.
    pub short_one_in: u32,
    /// A write fails with `EIO`.
    pub write_error_one_in: u32,
    /// A read fails with `EIO`.
    pub read_error_one_in: u32,
    /// A write fails with `ENOSPC`.
    pub no_space_one_in: u32,
    /// Only the first pages of a write arrive, and all of it is reported written.
    pub torn_one_in: u32,
    /// One bit of a write is flipped.
    pub bit_flip_one_in: u32,
    /// Transfers may complete in any order, and later than they could.
    pub delays: bool,
    /// The size of the disk: files cannot grow beyond it (`ENOSPC`).
    pub capacity_bytes: Option<u64>,
    /// No file can be made.
    pub refuse_files: bool,
}

/// What has happened on a simulated disk, and what is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimulatedReport {
    /// Files that are open now. After the store and all handles are gone, more than 0 is a leak.
    pub open_files: usize,
    /// Bytes those files have.
    pub file_bytes: u64,
    /// Transfers submitted and not completed.
    pub in_flight: usize,
    /// Transfers that moved fewer bytes than asked.
    pub shorts: u64,
    /// Transfers that failed.
    pub errors: u64,
    /// Writes that were torn.
    pub torn: u64,
    /// Writes with a flipped bit.
    pub bit_flips: u64,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    faults: SimulatedFaults,
    random: u64,
    files: HashMap<u64, Contents>,
    next_file: u64,
    report: SimulatedReport,
}

#[derive(Default)]
struct Contents {
    bytes: u64,
    pages: HashMap<u64, Box<[u8; PAGE]>>,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new(seed: u64, faults: SimulatedFaults) -> Self {
        let state = State {
            faults,
            random: seed,
            files: HashMap::new(),
            next_file: 0,
            report: SimulatedReport::default(),
        };
        SimulatedDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// From now on the disk has these faults.
    pub fn set_faults(&self, faults: SimulatedFaults) {
        self.lock().faults = faults;
    }

    /// What has happened, and what is there now.
    pub fn report(&self) -> SimulatedReport {
        let state = self.lock();
        SimulatedReport {
            open_files: state.files.len(),
            file_bytes: state.files.values().map(|contents| contents.bytes).sum(),
            ..state.report
        }
    }

    pub(crate) fn create(&self) -> io::Result<SimulatedFile> {
        let mut state = self.lock();
        if state.faults.refuse_files {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let number = state.next_file;
        state.next_file += 1;
        state.files.insert(number, Contents::default());
        Ok(SimulatedFile {
            disk: self.clone(),
            number,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An open file of a simulated disk; its bytes go when it is dropped.
pub(crate) struct SimulatedFile {
    disk: SimulatedDisk,
    pub number: u64,
}

impl SimulatedFile {
    pub fn grow(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let total: u64 = state.files.values().map(|contents| contents.bytes).sum();
        if state
            .faults
            .capacity_bytes
            .is_some_and(|capacity| total + bytes > capacity)
        {
            state.report.errors += 1;
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        state
            .files
            .get_mut(&self.number)
            .expect("an open file is on its disk")
            .bytes += bytes;
        Ok(())
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.disk.lock().files.remove(&self.number);
    }
}

impl State {
    /// A number below `bound`, from the seed (splitmix64).
    pub fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.random;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound.max(1) as u64) as usize
    }

    /// Whether transfers may be held back.
    pub fn delays(&self) -> bool {
        self.faults.delays
    }

    /// Counts transfers that begin and end.
    pub fn in_flight(&mut self) -> &mut usize {
        &mut self.report.in_flight
    }

    fn happens(&mut self, one_in: u32) -> bool {
        one_in > 0 && self.below(one_in as usize) == 0
    }

    fn fail(&mut self, errno: i32) -> io::Result<usize> {
        self.report.errors += 1;
        Err(io::Error::from_raw_os_error(errno))
    }

    /// Writes to a file, perhaps with a fault.
    pub fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        assert!(
            offset.is_multiple_of(PAGE as u64) && bytes.len().is_multiple_of(PAGE),
            "a direct write must be aligned"
        );
        let faults = self.faults;
        if self.happens(faults.write_error_one_in) {
            return self.fail(libc::EIO);
        }
        if self.happens(faults.no_space_one_in) {
            return self.fail(libc::ENOSPC);
        }
        let (mut arrives, mut reported) = (bytes.len(), bytes.len());
        if self.happens(faults.short_one_in) {
            // Sectors of 512 bytes: a short write need not end at a page.
            reported = self.below(bytes.len() / 512) * 512;
            arrives = reported;
            self.report.shorts += 1;
        } else if self.happens(faults.torn_one_in) {
            arrives = self.below(bytes.len() / PAGE) * PAGE;
            self.report.torn += 1;
        }
        let flip = match arrives > 0 && self.happens(faults.bit_flip_one_in) {
            true => {
                self.report.bit_flips += 1;
                Some(self.below(arrives * 8))
            }
            false => None,
        };
        let contents = self.files.get_mut(&file).expect("an open file is on its disk");
        assert!(
            offset + bytes.len() as u64 <= contents.bytes,
            "a write must stay inside its extents"
        );
        for (number, page) in bytes[..arrives].chunks(PAGE).enumerate() {
            let place = contents
                .pages
                .entry(offset / PAGE as u64 + number as u64)
                .or_insert_with(|| Box::new([0; PAGE]));
            place[..page.len()].copy_from_slice(page);
            if let Some(bit) = flip.filter(|bit| bit / 8 / PAGE == number) {
                place[bit / 8 % PAGE] ^= 1 << (bit % 8);
            }
        }
        Ok(reported)
    }

    /// Reads from a file, perhaps with a fault.
    pub fn read(&mut self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        assert!(
            offset.is_multiple_of(PAGE as u64) && into.len().is_multiple_of(PAGE),
            "a direct read must be aligned"
        );
        let faults = self.faults;
        if self.happens(faults.read_error_one_in) {
            return self.fail(libc::EIO);
        }
        let contents = &self.files[&file];
        let mut length = into.len().min(contents.bytes.saturating_sub(offset) as usize);
        for (number, page) in into[..length].chunks_mut(PAGE).enumerate() {
            match contents.pages.get(&(offset / PAGE as u64 + number as u64)) {
                Some(stored) => page.copy_from_slice(&stored[..page.len()]),
                None => page.fill(0),
            }
        }
        if length > 0 && self.happens(faults.short_one_in) {
            length = self.below(length / 512) * 512;
            self.report.shorts += 1;
        }
        Ok(length)
    }
}
