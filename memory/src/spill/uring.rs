//! The device on Linux's io_uring: one ring per handle, batched submissions, registered memory and files.
//!
//! # Interface
//! [`UringDevice::open`] fails where the kernel refuses rings (old kernels, container profiles); everything else that is
//! refused (locked memory, registration) is done without, silently: it only costs a few microseconds a transfer.
//!
//! # Memory
//! The workspace is registered once per store, with a ring that does no I/O ([`Registration`]); the others
//! clone that registration, so that its pages count once against `RLIMIT_MEMLOCK`.
//!
//! # Not here
//! IOPOLL (virtio disks have no poll queue), SQPOLL (it would take a core), SINGLE_ISSUER and DEFER_TASKRUN (a
//! handle may move between threads).

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::device::{Completion, Device, Memory, Payload, Transfer};
use super::workspace::Workspace;

/// Transfers in flight in one ring; more wait in line.
const ENTRIES: u32 = 64;

/// The workspace as one kernel holds it for all rings of a store.
#[derive(Default)]
pub(crate) struct Registration {
    ring: Option<IoUring>,
    refused: bool,
}

impl Registration {
    /// Makes the workspace known to `ring` as its buffer 0, where permitted.
    fn share_with(&mut self, ring: &IoUring, workspace: &Workspace) -> bool {
        if self.refused {
            return false;
        }
        if self.ring.is_none() {
            self.ring = Registration::register(workspace).ok();
        }
        let shared = self
            .ring
            .as_ref()
            .is_some_and(|first| ring.submitter().register_buffers_clone(first.as_raw_fd()).is_ok());
        // Before Linux 6.12 nothing can be cloned: each ring registers for itself, as long as it may.
        let known = shared || register_workspace(ring, workspace).is_ok();
        self.refused = !known;
        known
    }

    fn register(workspace: &Workspace) -> io::Result<IoUring> {
        let ring = IoUring::new(1)?;
        register_workspace(&ring, workspace)?;
        Ok(ring)
    }
}

fn register_workspace(ring: &IoUring, workspace: &Workspace) -> io::Result<()> {
    let (base, bytes) = workspace.region();
    let region = libc::iovec {
        iov_base: base.cast(),
        iov_len: bytes,
    };
    // SAFETY: the region is mapped; the kernel holds its pages itself, and moves bytes only for transfers, which
    // own the buffers they name.
    unsafe { ring.submitter().register_buffers(&[region]) }
}

/// Addresses and lengths of segments, for the kernel.
struct Vectors(Vec<libc::iovec>);

// SAFETY: the addresses are never used here; they are those of a transfer beside them, which owns what is there.
unsafe impl Send for Vectors {}

/// A handle's ring.
pub(crate) struct UringDevice {
    ring: IoUring,
    /// Transfers the kernel knows, by the index that is their `user_data`.
    running: Vec<Option<Transfer>>,
    /// By the same index: where the segments of one are.
    vectors: Vec<Vectors>,
    free: Vec<usize>,
    /// Transfers beyond what the ring holds.
    waiting: VecDeque<Transfer>,
    /// Entries pushed and not yet entered.
    pushed: usize,
    fixed_buffer: bool,
    /// By directory: whether its file is registered; empty where files cannot be.
    fixed_files: Vec<bool>,
    /// Keeps the memory that is registered.
    _workspace: Arc<Workspace>,
}

impl UringDevice {
    /// A ring for the given workspace and number of spill directories.
    ///
    /// # Errors
    /// What `io_uring_setup` answered.
    pub fn open(
        workspace: &Arc<Workspace>,
        directories: usize,
        registration: &mut Registration,
    ) -> io::Result<UringDevice> {
        let ring = IoUring::new(ENTRIES)?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Read::CODE) || !probe.is_supported(opcode::Write::CODE) {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        let fixed_buffer = registration.share_with(&ring, workspace);
        let fixed_files = match ring.submitter().register_files_sparse(directories as u32) {
            Ok(()) => vec![false; directories],
            Err(_) => Vec::new(),
        };
        Ok(UringDevice {
            ring,
            running: (0..ENTRIES).map(|_| None).collect(),
            vectors: (0..ENTRIES).map(|_| Vectors(Vec::new())).collect(),
            free: (0..ENTRIES as usize).rev().collect(),
            waiting: VecDeque::new(),
            pushed: 0,
            fixed_buffer,
            fixed_files,
            _workspace: workspace.clone(),
        })
    }

    /// Moves waiting transfers into the submission queue as far as there is room.
    fn push(&mut self) {
        while let Some(transfer) = self.waiting.pop_front() {
            let Some(slot) = self.free.pop() else {
                self.waiting.push_front(transfer);
                return;
            };
            let transfer = self.running[slot].insert(transfer);
            let vectors = &mut self.vectors[slot].0;
            let entry = entry(
                &self.ring,
                &mut self.fixed_files,
                self.fixed_buffer,
                transfer,
                vectors,
            );
            // SAFETY: the entry's memory belongs to the transfer's buffer or segments, which stay in `running` until its
            // completion was seen; so do the file, and the vectors, which nobody touches before the slot is free.
            let pushed = unsafe { self.ring.submission().push(&entry.user_data(slot as u64)) };
            pushed.expect("the submission queue has an entry for every slot");
            self.pushed += 1;
        }
    }

    /// Enters the kernel: starts what was pushed, and waits for `wait` completions.
    fn enter(&mut self, wait: usize) -> io::Result<()> {
        loop {
            match self.ring.submitter().submit_and_wait(wait) {
                Ok(started) => {
                    self.pushed = self.pushed.saturating_sub(started);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Short of memory, or of room for completions: those that are there make room.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) -> usize {
        let before = done.len();
        let completions: cqueue::CompletionQueue<'_> = self.ring.completion();
        for completion in completions {
            let slot = completion.user_data() as usize;
            let transfer = self.running[slot]
                .take()
                .expect("every completion belongs to a running transfer");
            self.free.push(slot);
            let result = match completion.result() {
                moved if moved >= 0 => Ok(moved as usize),
                error => Err(io::Error::from_raw_os_error(-error)),
            };
            done.push(Completion {
                ticket: transfer.ticket,
                payload: transfer.payload,
                result,
            });
        }
        done.len() - before
    }
}

fn entry(
    ring: &IoUring,
    fixed_files: &mut [bool],
    fixed_buffer: bool,
    transfer: &mut Transfer,
    vectors: &mut Vec<libc::iovec>,
) -> squeue::Entry {
    let index = transfer.file.index;
    let file = transfer
        .file
        .disk()
        .map(AsRawFd::as_raw_fd)
        .expect("a ring is only used on disks");
    let fixed_file = match fixed_files.get_mut(index) {
        Some(true) => true,
        Some(known) => {
            *known = ring
                .submitter()
                .register_files_update(index as u32, &[file])
                .is_ok();
            *known
        }
        None => false,
    };
    let offset = transfer.offset;
    macro_rules! with_file {
        ($opcode:path, $($argument:expr),*) => {
            match fixed_file {
                true => <$opcode>::new(types::Fixed(index as u32), $($argument),*).offset(offset).build(),
                false => <$opcode>::new(types::Fd(file), $($argument),*).offset(offset).build(),
            }
        };
    }
    match &mut transfer.payload {
        Payload::Write(buffer, range) => {
            let bytes = &buffer[range.clone()];
            match fixed_buffer {
                true => with_file!(opcode::WriteFixed, bytes.as_ptr(), bytes.len() as u32, 0),
                false => with_file!(opcode::Write, bytes.as_ptr(), bytes.len() as u32),
            }
        }
        Payload::Read(Memory::Buffer(buffer), range) => {
            let bytes = &mut buffer[range.clone()];
            match fixed_buffer {
                true => with_file!(opcode::ReadFixed, bytes.as_mut_ptr(), bytes.len() as u32, 0),
                false => with_file!(opcode::Read, bytes.as_mut_ptr(), bytes.len() as u32),
            }
        }
        Payload::Read(Memory::Segments(segments), range) => {
            vectors.clear();
            vectors.extend(segments.pieces_mut(range.clone()).map(|piece| libc::iovec {
                iov_base: piece.as_mut_ptr().cast(),
                iov_len: piece.len(),
            }));
            with_file!(opcode::Readv, vectors.as_ptr(), vectors.len() as u32)
        }
    }
}

impl Device for UringDevice {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn submit(&mut self, transfer: Transfer) {
        self.waiting.push_back(transfer);
    }

    fn kick(&mut self) {
        self.push();
        if self.pushed > 0 {
            // What fails here fails again, and is reported, in `complete`.
            let _ = self.enter(0);
        }
    }

    fn complete(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.kick();
        if self.reap(done) > 0 || !wait {
            return;
        }
        while self.in_flight() > 0 {
            self.push();
            let entered = self.enter(1);
            if self.reap(done) > 0 {
                return;
            }
            entered.expect("io_uring_enter on an open ring with room for completions");
        }
    }

    fn in_flight(&self) -> usize {
        self.running.len() - self.free.len() + self.waiting.len()
    }
}

impl Drop for UringDevice {
    fn drop(&mut self) {
        self.waiting.clear();
        let mut done = Vec::new();
        while self.running.len() > self.free.len() {
            if self.enter(1).is_err() && self.reap(&mut done) == 0 {
                // The kernel may still write to these buffers: they are never given back.
                for transfer in self.running.drain(..) {
                    let _ = ManuallyDrop::new(transfer);
                }
                let _ = ManuallyDrop::new(std::mem::take(&mut self.vectors));
                return;
            }
            self.reap(&mut done);
        }
        // A closed ring lets go of its files some time later; the space of spill files is wanted back soon.
        if self.fixed_files.contains(&true) {
            let _ = self.ring.submitter().unregister_files();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::SpillConfig;
    use crate::spill::file::SpillFile;

    fn round_trip(device: &mut UringDevice, workspace: &Arc<Workspace>, file: &Arc<SpillFile>) {
        let mut buffer = workspace.try_lend(8192).unwrap();
        buffer.fill(7);
        let payload = Payload::Write(Arc::new(buffer), 0..8192);
        device.submit(Transfer {
            ticket: 1,
            file: file.clone(),
            offset: 4096,
            payload,
        });
        let mut done = Vec::new();
        device.complete(true, &mut done);
        assert_eq!(done.pop().unwrap().result.unwrap(), 8192);
        let payload = Payload::Read(Memory::Buffer(workspace.try_lend(8192).unwrap()), 4096..8192);
        device.submit(Transfer {
            ticket: 2,
            file: file.clone(),
            offset: 8192,
            payload,
        });
        device.complete(true, &mut done);
        let Payload::Read(Memory::Buffer(buffer), range) = done.pop().unwrap().payload else {
            panic!("a read comes back")
        };
        assert!(buffer[range].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn registered_and_unregistered_rings_move_the_same_bytes() {
        let geometry = SpillConfig::default().geometry().unwrap();
        let workspace = Workspace::new(&geometry).unwrap();
        let mut registration = Registration::default();
        let Ok(mut first) = UringDevice::open(&workspace, 1, &mut registration) else {
            println!("skipped: the kernel refuses io_uring here");
            return;
        };
        let file = Arc::new(SpillFile::create(0, &std::env::temp_dir()).unwrap());
        file.grow(0, 1 << 20).unwrap();
        round_trip(&mut first, &workspace, &file);
        let mut second = UringDevice::open(&workspace, 1, &mut registration).unwrap();
        round_trip(&mut second, &workspace, &file);
        // What a low RLIMIT_MEMLOCK leads to.
        let mut refused = Registration {
            ring: None,
            refused: true,
        };
        let mut third = UringDevice::open(&workspace, 0, &mut refused).unwrap();
        assert!(!third.fixed_buffer && third.fixed_files.is_empty());
        round_trip(&mut third, &workspace, &file);
        // More than the ring holds, dropped while it is under way.
        for ticket in 0..500 {
            let Some(buffer) = workspace.try_lend(4096) else {
                break;
            };
            let payload = Payload::Write(Arc::new(buffer), 0..4096);
            first.submit(Transfer {
                ticket,
                file: file.clone(),
                offset: ticket * 4096 % (1 << 20),
                payload,
            });
        }
        first.kick();
        drop((first, second, third));
        assert_eq!(workspace.free_bytes(), geometry.workspace_bytes);
    }
}
