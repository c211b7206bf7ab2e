//! A handle's transfers: its buffers, what is being written behind and read ahead, and what has failed.
//!
//! # Algorithm
//! 1. Writes are handed to the device as they fill, and looked at when something else is wanted. Until a write
//!    is over its buffer can be read ([`Pipeline::pending`]).
//! 2. A *window* is a range of an extent in a buffer, or on its way there. Readers ahead ask for windows while
//!    memory is to be had; the newest are taken back first when it is needed.
//! 3. Wanting a buffer never fails: its order is lent memory, the handle's own slots, windows not yet used, and
//!    then waiting for this handle's own transfers. Only a handle without slots waits for others: for the common
//!    slot, which nobody keeps between two calls.
//!
//! # Invariants
//! I1. A slot of this handle is in exactly one of: `spare`, a write, a window, the hands of a caller on this
//!     thread's stack. So once nothing is in flight and no window is left, a slot is spare, or being filled.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::config::PAGE;
use super::device::{Completion, Device, Memory, Payload, Transfer};
use super::file::SpillFile;
use super::scattered::Scattered;
use super::space::disk_error;
use super::stats::SpillStats;
use super::store::Shared;
use super::workspace::Buffer;
use crate::error::{Error, ErrorKind, Result};

/// Writes behind at most; 8 of 512 KiB reach the disk's limit (PERFORMANCE §1).
const WRITES_BEHIND: usize = 8;
/// How often in a row a transfer may make no progress before that is an error.
const STALLS: u32 = 32;

/// A wait shorter than this did not wait for the disk: what was asked for was there.
const BLOCKED: Duration = Duration::from_micros(20);

/// What a handle and its readers share: how many there are, and the windows that dropped ones asked for.
#[derive(Default)]
pub(crate) struct Readers {
    pub count: AtomicUsize,
    pub abandoned: Mutex<Vec<u64>>,
}

/// The transfers of one handle.
pub(crate) struct Pipeline {
    pub shared: Arc<Shared>,
    device: Option<Box<dyn Device>>,
    spare: Vec<Buffer>,
    /// Whether this handle has slots of its own.
    seated: bool,
    writes: VecDeque<Write>,
    windows: Vec<Window>,
    next_ticket: u64,
    done: Vec<Completion>,
    failed: Option<(ErrorKind, String)>,
    pub readers: Arc<Readers>,
    pub stats: SpillStats,
    published: SpillStats,
    /// Since when the device has been busy without a pause, and what it moved since then.
    busy: Option<(Instant, usize)>,
    /// What the device moved in how long while somebody waited for it, not yet asked for.
    speed: Option<(usize, Duration)>,
}

struct Write {
    ticket: u64,
    place: Place,
    buffer: Arc<Buffer>,
}

struct Window {
    place: Place,
    ticket: u64,
    /// Whether it goes to segments of who has asked, and not to the workspace.
    is_in_segments: bool,
    state: WindowState,
}

enum WindowState {
    Coming,
    Here(Memory),
    Failed(Error),
}

/// A range of an extent on its way, and how far it has come.
struct Place {
    extent: u32,
    start: usize,
    bytes: usize,
    file: Arc<SpillFile>,
    file_offset: u64,
    moved: usize,
    stalls: u32,
}

impl Place {
    /// Notes what a transfer of the rest answered: whether all is done now, or what is wrong.
    fn advance(&mut self, result: io::Result<usize>) -> io::Result<bool> {
        let moved = match result {
            Ok(moved) => moved,
            Err(error) if is_transient(&error) => 0,
            Err(error) => return Err(error),
        };
        // A direct transfer goes on at a page; part of a page is done again.
        let progress = if self.moved + moved >= self.bytes {
            moved
        } else {
            moved & !(PAGE - 1)
        };
        self.moved += progress;
        self.stalls = if progress == 0 { self.stalls + 1 } else { 0 };
        if self.stalls > STALLS {
            let nothing = io::Error::new(io::ErrorKind::WriteZero, "the transfer makes no progress");
            return Err(nothing);
        }
        Ok(self.moved >= self.bytes)
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    ) || error.raw_os_error() == Some(libc::ECANCELED)
}

impl Pipeline {
    pub fn new(shared: Arc<Shared>, seat: Vec<Buffer>) -> Self {
        Pipeline {
            shared,
            device: None,
            seated: !seat.is_empty(),
            spare: seat,
            writes: VecDeque::new(),
            windows: Vec::new(),
            next_ticket: 1,
            done: Vec::new(),
            failed: None,
            readers: Arc::default(),
            stats: SpillStats::default(),
            published: SpillStats::default(),
            busy: None,
            speed: None,
        }
    }

    /// Opens the device, if it is not open yet; returns whether it has a clock.
    pub fn open(&mut self) -> Result<bool> {
        if self.device.is_none() {
            let device = self.shared.device()?;
            self.stats.io = device.name();
            self.device = Some(device);
            self.shared.active.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.device().has_clock())
    }

    /// The error of a write behind, for every call after it: what it should have written is lost.
    pub fn check(&self) -> Result<()> {
        match &self.failed {
            None => Ok(()),
            Some((kind, message)) => Err(Error::new(*kind, message.clone())),
        }
    }

    /// What was measured of the disk since the last call.
    pub fn take_speed(&mut self) -> Option<(usize, Duration)> {
        self.speed.take()
    }

    /// Adds this handle's counts to the store's.
    pub fn publish(&mut self) {
        self.shared.totals.publish(&self.stats, &mut self.published);
    }

    /// A buffer of slot size to fill, waiting for own writes where there is no other way.
    pub fn buffer_to_fill(&mut self) -> Buffer {
        self.poll(false);
        loop {
            if self.writes.len() < WRITES_BEHIND {
                if let Some(buffer) = self.spare.pop() {
                    return buffer;
                }
                if let Some(buffer) = self.shared.workspace.try_lend(self.shared.workspace.slot_bytes()) {
                    return buffer;
                }
            }
            if self.writes.is_empty() && self.drop_newest_window() {
                continue;
            }
            if self.in_flight() == 0 {
                // I1: with a slot of its own, this handle would have found it above.
                return self.shared.workspace.common();
            }
            self.poll(true);
        }
    }

    /// A buffer of at least `bytes` to read into, or `None` where only the one being filled is left.
    fn buffer_to_read(&mut self, bytes: usize) -> Option<Buffer> {
        loop {
            if let Some(buffer) = self.shared.workspace.try_lend(bytes) {
                return Some(buffer);
            }
            if let Some(buffer) = self.spare.pop() {
                return Some(buffer);
            }
            if self.drop_newest_window() {
                continue;
            }
            if self.in_flight() == 0 {
                return (!self.seated).then(|| self.shared.workspace.common());
            }
            self.poll(true);
        }
    }

    /// Writes `bytes` of `buffer`, whole pages, behind, to `start` of an extent.
    pub fn write(&mut self, buffer: Buffer, extent: u32, start: usize, bytes: usize) -> Result<()> {
        debug_assert!(start.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE));
        let ticket = self.ticket();
        let place = self.place(extent, start, bytes)?;
        let buffer = Arc::new(buffer);
        self.shared.space.pin(extent);
        let payload = Payload::Write(buffer.clone(), 0..bytes);
        let transfer = Transfer {
            ticket,
            file: place.file.clone(),
            offset: place.file_offset,
            payload,
        };
        self.writes.push_back(Write {
            ticket,
            place,
            buffer,
        });
        self.device().submit(transfer);
        self.device().kick();
        Ok(())
    }

    /// The bytes from `position` of an extent on that are still being written, if they are.
    pub fn pending(&self, extent: u32, position: usize) -> Option<&[u8]> {
        let holds = |place: &Place| {
            place.extent == extent && (place.start..place.start + place.bytes).contains(&position)
        };
        let write = self.writes.iter().find(|write| holds(&write.place))?;
        Some(&write.buffer[position - write.place.start..write.place.bytes])
    }

    /// Where the first write that is under way in a range of an extent starts.
    pub fn first_pending(&self, extent: u32, range: Range<usize>) -> Option<usize> {
        let places = self.writes.iter().map(|write| &write.place);
        let overlapping = places.filter(|place| {
            place.extent == extent && place.start < range.end && range.start < place.start + place.bytes
        });
        overlapping.map(|place| place.start).min()
    }

    /// Reads a range of an extent now, into a buffer that the caller gives back with [`Pipeline::recycle`].
    ///
    /// `None` where only the buffer being filled could take it: write that out, and call again.
    pub fn fetch(&mut self, extent: u32, start: usize, bytes: usize) -> Result<Option<Buffer>> {
        let Some(buffer) = self.buffer_to_read(bytes) else {
            return Ok(None);
        };
        let ticket = self.ask(Memory::Buffer(buffer), extent, start, bytes)?;
        let window = self
            .wait_for(ticket)
            .expect("nothing drops a window that is on its way")?;
        match window {
            Memory::Buffer(buffer) => Ok(Some(buffer)),
            Memory::Segments(_) => unreachable!("a buffer was read into"),
        }
    }

    /// This handle's share of what the workspace lends: it goes round among the handles that have done any I/O.
    pub fn lent_share(&self) -> usize {
        let geometry = &self.shared.geometry;
        let lent = geometry.workspace_bytes - (geometry.slots + 1) * geometry.buffer_bytes;
        lent / self.shared.active.load(Ordering::Relaxed).max(1)
    }

    /// Starts to read a range of an extent ahead; `None` where there is no memory to spare.
    pub fn fetch_ahead(&mut self, extent: u32, start: usize, bytes: usize) -> Result<Option<u64>> {
        self.forget_abandoned();
        let lent = self.windows.iter().filter(|window| !window.is_in_segments);
        let ahead: usize = lent.map(|window| window.place.bytes).sum();
        if ahead > 0 && ahead + bytes > self.lent_share() {
            return Ok(None);
        }
        let buffer = match self.shared.workspace.try_lend(bytes) {
            Some(buffer) => buffer,
            None if self.spare.len() > 1 => self.spare.pop().expect("more than one is there"),
            None => return Ok(None),
        };
        self.ask(Memory::Buffer(buffer), extent, start, bytes).map(Some)
    }

    /// The buffer of a window that was asked for, waiting for it; `None` where it was taken back.
    pub fn wait_for(&mut self, ticket: u64) -> Option<Result<Memory>> {
        let at = self.arrived(ticket)?;
        match self.windows.swap_remove(at).state {
            WindowState::Here(memory) => Some(Ok(memory)),
            WindowState::Failed(error) => Some(Err(error)),
            WindowState::Coming => unreachable!("it has arrived"),
        }
    }

    /// The bytes of a window that was asked for, waiting for it; it stays. `None` where it was taken back.
    pub fn window(&mut self, ticket: u64) -> Option<Result<&[u8]>> {
        let at = self.arrived(ticket)?;
        if matches!(self.windows[at].state, WindowState::Failed(_)) {
            return self.wait_for(ticket).map(|failed| failed.map(|_| &[] as &[u8]));
        }
        match &self.windows[at] {
            Window {
                state: WindowState::Here(Memory::Buffer(buffer)),
                place,
                ..
            } => Some(Ok(&buffer[..place.bytes])),
            _ => unreachable!("it has arrived, not failed, and is no segments'"),
        }
    }

    /// Where in the list a window is, once it has come or failed; `None` where it was taken back.
    fn arrived(&mut self, ticket: u64) -> Option<usize> {
        loop {
            let at = self.windows.iter().position(|window| window.ticket == ticket)?;
            if !matches!(self.windows[at].state, WindowState::Coming) {
                return Some(at);
            }
            self.poll(true);
        }
    }

    /// Forgets a window, whether it is here or still coming.
    pub fn forget(&mut self, ticket: u64) {
        let Some(at) = self.windows.iter().position(|window| window.ticket == ticket) else {
            return;
        };
        let window = self.windows.swap_remove(at);
        // One that is coming is recycled when it arrives and nobody knows it.
        if let WindowState::Here(Memory::Buffer(buffer)) = window.state {
            self.recycle(buffer);
        }
    }

    /// Starts what was asked for ahead.
    pub fn kick(&mut self) {
        if let Some(device) = &mut self.device {
            device.kick();
        }
    }

    /// Gives a buffer back: slots stay with the handle, the rest goes to the workspace.
    pub fn recycle(&mut self, buffer: Buffer) {
        if buffer.is_slot() {
            self.spare.push(buffer);
        }
    }

    /// The same of any memory: segments go back to who they are from.
    fn recycle_memory(&mut self, memory: Memory) {
        if let Memory::Buffer(buffer) = memory {
            self.recycle(buffer);
        }
    }

    /// Whether a write is under way, as far as is known.
    pub fn is_writing(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Waits until the common slot is not in a write of this handle.
    pub fn release_common(&mut self) {
        while self.writes.iter().any(|write| write.buffer.is_common()) {
            self.poll(true);
        }
    }

    /// Waits until no write is under way.
    ///
    /// # Errors
    /// What a write behind failed with.
    pub fn finish_writes(&mut self) -> Result<()> {
        while !self.writes.is_empty() {
            self.poll(true);
        }
        self.check()
    }

    /// Waits for everything, and parts with device and buffers. For a handle's end.
    pub fn close(&mut self) {
        while self.in_flight() > 0 {
            self.poll(true);
        }
        self.windows.clear();
        self.spare.clear();
        if let Some(device) = self.device.take() {
            self.shared.active.fetch_sub(1, Ordering::Relaxed);
            self.shared.keep(device);
        }
        self.publish();
    }

    /// Starts to read a range of an extent into segments, for [`Pipeline::wait_for`].
    pub fn fetch_into(
        &mut self,
        segments: Scattered,
        extent: u32,
        start: usize,
        bytes: usize,
    ) -> Result<u64> {
        self.forget_abandoned();
        self.ask(Memory::Segments(segments), extent, start, bytes)
    }

    fn ask(&mut self, memory: Memory, extent: u32, start: usize, bytes: usize) -> Result<u64> {
        debug_assert!(start.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE) && bytes <= memory.len());
        let ticket = self.ticket();
        let place = self.place(extent, start, bytes)?;
        self.open()?;
        let is_in_segments = matches!(memory, Memory::Segments(_));
        let payload = Payload::Read(memory, 0..bytes);
        let transfer = Transfer {
            ticket,
            file: place.file.clone(),
            offset: place.file_offset,
            payload,
        };
        self.windows.push(Window {
            place,
            ticket,
            is_in_segments,
            state: WindowState::Coming,
        });
        self.device().submit(transfer);
        Ok(ticket)
    }

    /// Takes what the device has completed; with `wait`, blocks for at least one completion.
    pub fn poll(&mut self, wait: bool) {
        self.forget_abandoned();
        let Some(device) = &mut self.device else { return };
        if device.in_flight() == 0 {
            return;
        }
        let mut done = std::mem::take(&mut self.done);
        let clock = device.has_clock();
        let start = (wait && clock).then(Instant::now);
        device.complete(wait, &mut done);
        let moved = done
            .iter()
            .filter_map(|completion| completion.result.as_ref().ok())
            .sum();
        let still_busy = device.in_flight() > 0;
        if let Some(start) = start {
            self.measure(start, moved, still_busy);
        } else if let Some(busy) = &mut self.busy {
            busy.1 += moved;
            if !still_busy {
                self.busy = None;
            }
        }
        for completion in done.drain(..) {
            self.complete(completion);
        }
        self.done = done;
        self.publish();
    }

    /// Waiting for the disk is the one moment when its speed shows: it has been busy since the last wait, and has
    /// moved so much meanwhile. Who finds everything done already learns only that the disk keeps up.
    fn measure(&mut self, start: Instant, moved: usize, still_busy: bool) {
        let now = Instant::now();
        self.stats.waited += now - start;
        let (since, total) = self.busy.unwrap_or((now, 0));
        let total = total + moved;
        self.busy = Some((since, total));
        if now - start < BLOCKED {
            self.speed = Some((moved, Duration::ZERO));
            self.busy = Some((now, 0));
        } else if total >= 1 << 20 && since < now {
            self.speed = Some((total, now - since));
            self.busy = Some((now, 0));
        }
        if !still_busy {
            self.busy = None;
        }
    }

    fn forget_abandoned(&mut self) {
        let tickets = match self.readers.abandoned.lock() {
            Ok(mut tickets) if !tickets.is_empty() => std::mem::take(&mut *tickets),
            _ => return,
        };
        for ticket in tickets {
            self.forget(ticket);
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Completion {
            ticket,
            payload,
            result,
        } = completion;
        match payload {
            Payload::Write(buffer, _) => self.complete_write(ticket, buffer, result),
            Payload::Read(memory, _) => self.complete_read(ticket, memory, result),
        }
    }

    fn complete_write(&mut self, ticket: u64, buffer: Arc<Buffer>, result: io::Result<usize>) {
        let at = self.writes.iter().position(|write| write.ticket == ticket);
        let at = at.expect("a completed write was submitted");
        let place = &mut self.writes[at].place;
        match place.advance(result) {
            Ok(false) => {
                let payload = Payload::Write(buffer, place.moved..place.bytes);
                let offset = place.file_offset + place.moved as u64;
                let transfer = Transfer {
                    ticket,
                    file: place.file.clone(),
                    offset,
                    payload,
                };
                self.device().submit(transfer);
                self.device().kick();
                return;
            }
            Ok(true) => self.stats.bytes_written += place.bytes as u64,
            Err(error) => {
                let error = disk_error("cannot write to", &place.file.directory, error);
                if self.failed.is_none() {
                    self.failed = Some((error.kind(), error.to_string()));
                }
            }
        }
        drop(buffer);
        let write = self.writes.remove(at).expect("the position was found above");
        self.shared.space.unpin(write.place.extent);
        let buffer = Arc::into_inner(write.buffer).expect("only the device shared it");
        self.recycle(buffer);
    }

    fn complete_read(&mut self, ticket: u64, memory: Memory, result: io::Result<usize>) {
        let Some(window) = self.windows.iter_mut().find(|window| window.ticket == ticket) else {
            return self.recycle_memory(memory);
        };
        let place = &mut window.place;
        match place.advance(result) {
            Ok(false) => {
                let payload = Payload::Read(memory, place.moved..place.bytes);
                let offset = place.file_offset + place.moved as u64;
                let transfer = Transfer {
                    ticket,
                    file: place.file.clone(),
                    offset,
                    payload,
                };
                self.device().submit(transfer);
                self.device().kick();
            }
            Ok(true) => {
                self.stats.bytes_read += place.bytes as u64;
                window.state = WindowState::Here(memory);
            }
            Err(error) => {
                let error = disk_error("cannot read from", &place.file.directory, error);
                window.state = WindowState::Failed(error);
                self.recycle_memory(memory);
            }
        }
    }

    fn place(&self, extent: u32, start: usize, bytes: usize) -> Result<Place> {
        let Some((file, extent_start)) = self.shared.space.place(extent) else {
            return Err(Error::corrupt(format!(
                "spill extent {extent}: there is none with this number"
            )));
        };
        let file_offset = extent_start + start as u64;
        Ok(Place {
            extent,
            start,
            bytes,
            file,
            file_offset,
            moved: 0,
            stalls: 0,
        })
    }

    fn drop_newest_window(&mut self) -> bool {
        let here = self
            .windows
            .iter()
            .filter(|window| matches!(window.state, WindowState::Here(Memory::Buffer(_))));
        match here.map(|window| window.ticket).max() {
            Some(ticket) => {
                self.forget(ticket);
                true
            }
            None => false,
        }
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn in_flight(&self) -> usize {
        self.device.as_ref().map_or(0, |device| device.in_flight())
    }

    fn device(&mut self) -> &mut dyn Device {
        self.device
            .as_deref_mut()
            .expect("the device is opened before the first transfer")
    }
}
