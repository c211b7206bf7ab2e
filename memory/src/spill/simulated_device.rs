//! The device of the simulated disk: transfers happen when they complete, in an order drawn from the seed.

use std::io;

use super::device::{Completion, Device, Payload, Transfer, read_pieces};
use super::file::Storage;
use super::simulated_disk::SimulatedDisk;

/// A handle's way to the simulated disk.
pub(crate) struct SimulatedDevice {
    disk: SimulatedDisk,
    queue: Vec<Transfer>,
}

impl SimulatedDevice {
    pub fn new(disk: SimulatedDisk) -> Self {
        SimulatedDevice {
            disk,
            queue: Vec::new(),
        }
    }
}

impl Device for SimulatedDevice {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn has_clock(&self) -> bool {
        false
    }

    fn submit(&mut self, transfer: Transfer) {
        *self.disk.lock().in_flight() += 1;
        self.queue.push(transfer);
    }

    fn kick(&mut self) {}

    fn complete(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let mut state = self.disk.lock();
        let mut finish = match state.delays() {
            false => self.queue.len(),
            // At least one where the caller waits; otherwise perhaps none.
            true => state
                .below(self.queue.len() + 1)
                .max(usize::from(wait))
                .min(self.queue.len()),
        };
        while finish > 0 {
            finish -= 1;
            let at = match state.delays() {
                true => state.below(self.queue.len()),
                false => 0,
            };
            let Transfer {
                ticket,
                file,
                offset,
                mut payload,
            } = self.queue.remove(at);
            let result = match (&file.storage, &mut payload) {
                (Storage::Disk(_), _) => Err(io::Error::from(io::ErrorKind::Unsupported)),
                (Storage::Simulated(file), Payload::Write(buffer, range)) => {
                    state.write(file.number, offset, &buffer[range.clone()])
                }
                (Storage::Simulated(file), Payload::Read(memory, range)) => {
                    let pieces = memory.pieces_mut(range.clone());
                    read_pieces(pieces, |piece, from| {
                        state.read(file.number, offset + from, piece)
                    })
                }
            };
            *state.in_flight() -= 1;
            done.push(Completion {
                ticket,
                payload,
                result,
            });
            // The last reference to a file locks the disk to remove itself: not while the lock is held.
            if let Some(last) = std::sync::Arc::into_inner(file) {
                drop(state);
                drop(last);
                state = self.disk.lock();
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }
}

impl Drop for SimulatedDevice {
    fn drop(&mut self) {
        let left = self.queue.len();
        self.queue.clear();
        *self.disk.lock().in_flight() -= left;
    }
}
