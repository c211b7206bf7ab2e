//! The device for kernels that refuse io_uring: `pread` and `pwrite` on a bounded pool of helper threads.
//!
//! # Interface
//! One [`Helpers`] per store, started with its first [`ThreadsDevice`] and joined when the store goes; one device
//! per handle.
//!
//! # Memory
//! Transfers bring their buffers; a helper has its stack and nothing else.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::device::{Completion, Device, Payload, Transfer, read_pieces};

/// How many helpers at most. Direct writes of 512 KiB from eight threads reach what one ring reaches here; they
/// mostly sleep in the kernel.
const HELPERS: usize = 8;

/// The helper threads of a store.
pub(crate) struct Helpers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    closed: bool,
}

struct Job {
    transfer: Transfer,
    replies: Arc<Replies>,
}

#[derive(Default)]
struct Replies {
    done: Mutex<Vec<Completion>>,
    changed: Condvar,
}

/// Transfers never panic while a lock is held; were it otherwise, the lists are whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Helpers {
    /// A pool without threads: they start one by one as transfers come.
    pub fn new() -> Arc<Helpers> {
        let queue = Mutex::new(Queue {
            jobs: VecDeque::new(),
            idle: 0,
            closed: false,
        });
        Arc::new(Helpers {
            shared: Arc::new(Shared {
                queue,
                changed: Condvar::new(),
            }),
            threads: Mutex::new(Vec::new()),
        })
    }

    fn push(&self, job: Job) {
        let mut queue = lock(&self.shared.queue);
        queue.jobs.push_back(job);
        let short = queue.jobs.len() > queue.idle;
        drop(queue);
        self.shared.changed.notify_one();
        if !short {
            return;
        }
        let mut threads = lock(&self.threads);
        if threads.len() < HELPERS {
            let shared = self.shared.clone();
            let name = format!("spill-{}", threads.len());
            match std::thread::Builder::new()
                .name(name)
                .stack_size(64 << 10)
                .spawn(move || shared.serve())
            {
                Ok(thread) => threads.push(thread),
                // With one helper, work goes on, slower; with none, the caller does it.
                Err(_) if !threads.is_empty() => {}
                Err(_) => {
                    drop(threads);
                    self.shared.serve_once();
                }
            }
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.changed.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A helper has no way to panic; if it did, its transfers are lost with the store anyway.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job.run();
                queue = lock(&self.queue);
            } else if queue.closed {
                return;
            } else {
                queue.idle += 1;
                queue = self
                    .changed
                    .wait(queue)
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                queue.idle -= 1;
            }
        }
    }

    fn serve_once(&self) {
        let job = lock(&self.queue).jobs.pop_front();
        if let Some(job) = job {
            job.run();
        }
    }
}

impl Job {
    fn run(self) {
        let Transfer {
            ticket,
            file,
            offset,
            mut payload,
        } = self.transfer;
        let result = match (file.disk(), &mut payload) {
            (None, _) => Err(io::Error::from(io::ErrorKind::Unsupported)),
            (Some(file), Payload::Write(buffer, range)) => file.write_at(&buffer[range.clone()], offset),
            (Some(file), Payload::Read(memory, range)) => {
                let pieces = memory.pieces_mut(range.clone());
                read_pieces(pieces, |piece, from| file.read_at(piece, offset + from))
            }
        };
        lock(&self.replies.done).push(Completion {
            ticket,
            payload,
            result,
        });
        self.replies.changed.notify_one();
    }
}

/// A handle's way to the helpers.
pub(crate) struct ThreadsDevice {
    helpers: Arc<Helpers>,
    replies: Arc<Replies>,
    in_flight: usize,
}

impl ThreadsDevice {
    pub fn new(helpers: Arc<Helpers>) -> Self {
        ThreadsDevice {
            helpers,
            replies: Arc::default(),
            in_flight: 0,
        }
    }
}

impl Device for ThreadsDevice {
    fn name(&self) -> &'static str {
        "threads"
    }

    fn submit(&mut self, transfer: Transfer) {
        self.in_flight += 1;
        self.helpers.push(Job {
            transfer,
            replies: self.replies.clone(),
        });
    }

    fn kick(&mut self) {}

    fn complete(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let mut ready = lock(&self.replies.done);
        while wait && ready.is_empty() && self.in_flight > 0 {
            ready = self
                .replies
                .changed
                .wait(ready)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.in_flight -= ready.len();
        done.append(&mut ready);
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for ThreadsDevice {
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.in_flight > 0 {
            self.complete(true, &mut done);
        }
    }
}
