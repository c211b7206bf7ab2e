//! The output: the sending side of a task's exchanges.
//!
//! # Interface
//! [`Output::send`] takes a batch whatever the state; the task gives it none while [`Output::has_room`] is false.
//! [`Output::drain`] sends what waits; [`Output::flush`] sends buffers that are not full; [`Output::end`] tells the
//! receivers that nothing more will come.
//!
//! # Algorithm
//! 1. The router says where a batch's rows go. A batch for one channel is handed over whole: its bytes change
//!    places with an empty buffer of the exchange's pool, so that each stays on its account. So is a batch for all channels:
//!    they share it. Otherwise rows are copied into the buffer of their channel.
//! 2. A full buffer is pushed if its channel has a credit, else it joins the channel's backlog.
//! 3. Where the pool is dry, the rest of the batch is parked, with the row it has reached, and goes first
//!    when a receiver gives a buffer back.
//! 4. A source that knows a record's key before the record has it written straight into the buffer of its channel
//!    ([`Output::direct`]), without a batch in between.
//!
//! # Memory
//! Least: a buffer being filled for each channel, and one more, which a copy that waits may hold. Usual: one more in each
//! backlog. The pool bounds the rest.
//!
//! # Invariants
//! I1. Rows of one channel are delivered in the order in which they were sent.
//! I2. Nothing is refused or lost: what cannot be sent is in a backlog or parked.

use super::channel::Channel;
use super::router::{ByInteger, Route, Router};
use crate::batch::{BATCH_HEADER, Batch, variable_row_size};
use crate::clock::Instant;
use crate::record::IntegerColumn;
use forebay_memory::SegmentSource;
use forebay_memory::scatter::{SegmentWriter, scatter_rows, scatter_var_rows};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long an exchange rests for each buffer that it has sent to an idle receiver before it was full. What such a buffer
/// costs, about 1 µs in sender, receiver and wake-ups, is then a small part of a thread's time however many
/// channels there are: with 16 of them and a steady trickle of rows each gets a buffer about every millisecond. A row
/// that comes after a quiet time is sent at once.
const REST_A_BUFFER: Duration = Duration::from_micros(64);

/// Whether an output can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendState {
    /// Everything was handed over.
    Clear,
    /// Something waits for a credit or a buffer; the receiver will wake the sender.
    Blocked,
}

/// One channel as its sender sees it.
struct Lane {
    channel: Arc<Channel>,
    backlog: VecDeque<Batch>,
    /// The time of rows in the buffer being filled has passed, but what is in the backlog goes before them.
    is_overdue: bool,
}

impl Lane {
    /// Hands a batch over, or queues it behind what already waits.
    fn ship(&mut self, batch: Batch) {
        if self.backlog.is_empty()
            && let Some(floating) = self.channel.take_credit()
        {
            self.channel.push(batch, floating);
        } else {
            self.backlog.push_back(batch);
        }
    }

    fn drain(&mut self) {
        while !self.backlog.is_empty() {
            let Some(floating) = self.channel.take_credit() else {
                return;
            };
            let batch = self.backlog.pop_front().expect("the backlog was not empty");
            self.channel.push(batch, floating);
        }
    }
}

/// Hands over the rows of a buffer being filled, if it has any.
fn ship_filling(lane: &mut Lane, writer: &mut SegmentWriter) {
    let (rows, end) = (writer.rows_written(), BATCH_HEADER + writer.written());
    if rows > 0
        && let Some(segment) = writer.take()
    {
        lane.ship(Batch::from_segment(segment, rows, end));
    }
}

/// A batch that could not be sent whole, and how far it got.
struct Parked {
    batch: Batch,
    /// Its memory is on the exchange's account already.
    is_own: bool,
    /// The channel whose turn it is, if the whole batch goes to one.
    lane: Option<usize>,
    row: usize,
    byte: usize,
}

/// One outgoing edge of a task: its channels, its router and its buffers.
pub struct Exchange {
    router: Box<dyn Router>,
    /// Bytes of a row, 0 where they vary.
    stride: usize,
    pool: Arc<dyn SegmentSource>,
    lanes: Vec<Lane>,
    /// The buffer being filled for each lane.
    writers: Vec<SegmentWriter>,
    parked: VecDeque<Parked>,
    /// The lane for which a direct writer found no buffer: nothing is taken until there is one.
    dry: Option<usize>,
    targets: Vec<u16>,
    most_backlog: usize,
    timeout: Option<Duration>,
    /// When the oldest row in a buffer must be sent.
    deadline: Option<Instant>,
    /// Until when idle receivers get no more buffers that are not full, and whether some wait for that.
    rests_until: Instant,
    is_resting: bool,
    holds_rows: bool,
}

impl Exchange {
    /// An exchange over `channels`, in order of the receiving subtasks, with buffers of `pool`. At most
    /// `most_backlog` batches wait for one channel; a buffer is sent `timeout` after its first row
    /// at the latest, or only when it is full where `timeout` is `None`.
    pub fn new(
        router: Box<dyn Router>,
        stride: usize,
        pool: Arc<dyn SegmentSource>,
        channels: Vec<Arc<Channel>>,
        most_backlog: usize,
        timeout: Option<Duration>,
    ) -> Exchange {
        let writers = channels.iter().map(|_| SegmentWriter::vacant(stride)).collect();
        let lanes = channels
            .into_iter()
            .map(|channel| Lane {
                channel,
                backlog: VecDeque::new(),
                is_overdue: false,
            })
            .collect();
        Exchange {
            router,
            stride,
            pool,
            lanes,
            writers,
            parked: VecDeque::new(),
            dry: None,
            targets: Vec::new(),
            most_backlog,
            timeout,
            deadline: None,
            rests_until: Instant::ZERO,
            is_resting: false,
            holds_rows: false,
        }
    }

    fn has_room(&self) -> bool {
        self.parked.is_empty()
            && self.dry.is_none()
            && self
                .lanes
                .iter()
                .all(|lane| lane.backlog.len() < self.most_backlog)
    }

    /// Sends a copy of a batch that another exchange sends too. At most one copy that waits takes a buffer of the pool: more of
    /// them would hold what is needed to send them.
    fn send_copy(&mut self, batch: &Batch) {
        let copy = match self.parked.is_empty() {
            true => batch.duplicate(&*self.pool),
            false => Batch::from_rows_on_heap(batch.bytes(), batch.len()),
        };
        self.send(copy, true);
    }

    fn send(&mut self, batch: Batch, is_own: bool) {
        let mut parked = Parked {
            batch,
            is_own,
            lane: None,
            row: 0,
            byte: 0,
        };
        if !self.parked.is_empty() || !self.advance(&mut parked) {
            self.parked.push_back(parked);
        }
        if self.timeout == Some(Duration::ZERO) {
            self.flush_due();
        }
    }

    /// Sends as much of a batch as there are buffers for; true where that is all of it.
    fn advance(&mut self, parked: &mut Parked) -> bool {
        if let Some(lane) = parked.lane {
            // To ask a rebalance again would take another channel's turn away, and with two channels always the same one's.
            return self.hand_over(lane, parked);
        }
        // A batch that was parked is routed again: routers answer the same for the rows of a batch.
        match self.router.route(&parked.batch, &mut self.targets) {
            Route::One(lane) => {
                parked.lane = Some(lane);
                self.hand_over(lane, parked)
            }
            Route::All => self.share(parked),
            Route::Each => self.scatter(parked),
        }
    }

    /// Hands a whole batch to one channel, without copying its rows.
    fn hand_over(&mut self, lane: usize, parked: &mut Parked) -> bool {
        if !self.make_own(parked) {
            return false;
        }
        let (lane, writer) = (&mut self.lanes[lane], &mut self.writers[lane]);
        ship_filling(lane, writer);
        lane.ship(std::mem::replace(&mut parked.batch, Batch::empty()));
        true
    }

    /// Hands a whole batch to every channel: one buffer, which all receivers read.
    fn share(&mut self, parked: &mut Parked) -> bool {
        if !self.make_own(parked) {
            return false;
        }
        let mut batch = std::mem::replace(&mut parked.batch, Batch::empty());
        let (last, others) = self.lanes.split_last_mut().expect("an exchange has channels");
        if !others.is_empty() {
            batch = batch.shared();
        }
        for lane in others {
            lane.ship(batch.again().expect("it is shared"));
        }
        last.ship(batch);
        true
    }

    /// Puts a batch on the exchange's account: its memory changes places with a buffer of the pool. Rows that others hold too
    /// are copied into one, so that whoever has broadcast them gets its buffer back. False where the pool is dry.
    fn make_own(&mut self, parked: &mut Parked) -> bool {
        let batch = &mut parked.batch;
        let end = BATCH_HEADER + batch.bytes().len();
        if parked.is_own || !(batch.is_segment() || batch.is_shared()) {
            return true;
        }
        if batch.is_shared() && end > self.pool.segment_size() {
            *batch = Batch::from_rows_on_heap(batch.bytes(), batch.len());
            return true;
        }
        let Some(mut segment) = self.pool.try_take() else {
            return false;
        };
        if batch.is_shared() {
            segment[BATCH_HEADER..end].copy_from_slice(batch.bytes());
            *batch = Batch::from_segment(segment, batch.len(), end);
        } else if segment.len() == batch.segment_size() {
            batch.swap_segment(&mut segment);
        }
        parked.is_own = true;
        true
    }

    /// Copies rows into the buffers of their channels.
    fn scatter(&mut self, parked: &mut Parked) -> bool {
        let bytes = parked.batch.bytes();
        let count = parked.batch.len();
        self.holds_rows = true;
        loop {
            let (rest, targets) = (&bytes[parked.byte..], &self.targets[parked.row..count]);
            let (rows, used) = if self.stride > 0 {
                let rows = scatter_rows(rest, self.stride, targets, &mut self.writers);
                (rows, rows * self.stride)
            } else {
                scatter_var_rows(rest, targets, &mut self.writers)
            };
            parked.row += rows;
            parked.byte += used;
            if parked.row == count {
                return true;
            }
            // The row's buffer has no room for it.
            let target = self.targets[parked.row] as usize;
            let (lane, writer) = (&mut self.lanes[target], &mut self.writers[target]);
            ship_filling(lane, writer);
            let row = &bytes[parked.byte..];
            let size = if self.stride > 0 {
                self.stride
            } else {
                variable_row_size(row)
            };
            if BATCH_HEADER + size > self.pool.segment_size() {
                lane.ship(Batch::from_rows_on_heap(&row[..size], 1));
                parked.row += 1;
                parked.byte += size;
                if parked.row == count {
                    return true;
                }
            } else if writer.is_vacant() {
                let Some(segment) = self.pool.try_take() else {
                    return false;
                };
                writer.put(segment);
            }
        }
    }

    fn drain(&mut self) -> SendState {
        for (lane, writer) in self.lanes.iter_mut().zip(&mut self.writers) {
            lane.drain();
            if lane.is_overdue && lane.backlog.is_empty() {
                lane.is_overdue = false;
                ship_filling(lane, writer);
            }
        }
        if !self.parked.is_empty() || self.dry.is_some() {
            // The flag goes up before the pool is tried, so that a buffer given back in between wakes us.
            for lane in &self.lanes {
                lane.channel.sender_waits();
            }
            if let Some(lane) = self.dry.take() {
                self.renew(lane);
            }
            while let Some(mut parked) = self.parked.pop_front() {
                if !self.advance(&mut parked) {
                    self.parked.push_front(parked);
                    break;
                }
            }
        }
        if self.has_room() {
            SendState::Clear
        } else {
            SendState::Blocked
        }
    }

    /// Gives a lane an empty buffer in place of its full one; false where there is none to be had.
    fn renew(&mut self, lane: usize) -> bool {
        let writer = &mut self.writers[lane];
        if writer.remaining() < self.stride {
            ship_filling(&mut self.lanes[lane], writer);
        }
        if writer.is_vacant() {
            match self.pool.try_take() {
                Some(segment) => {
                    writer.put(segment);
                }
                None => self.dry = Some(lane),
            }
        }
        self.dry.is_none()
    }

    fn flush(&mut self) {
        for (lane, writer) in self.lanes.iter_mut().zip(&mut self.writers) {
            ship_filling(lane, writer);
        }
        (self.holds_rows, self.deadline) = (false, None);
    }

    /// Hands over what is due, but for channels with a backlog: there it would only wait, and more rows may still join it.
    fn flush_due(&mut self) {
        for (lane, writer) in self.lanes.iter_mut().zip(&mut self.writers) {
            if lane.backlog.is_empty() {
                ship_filling(lane, writer);
            } else {
                lane.is_overdue = writer.rows_written() > 0;
            }
        }
        (self.holds_rows, self.deadline) = (false, None);
    }

    /// Sends the buffers whose receivers have nothing to do, unless it has done so just before.
    fn flush_to_idle(&mut self, now: Instant) {
        self.is_resting = self.holds_rows && now < self.rests_until;
        if !self.holds_rows || self.is_resting {
            return;
        }
        let mut sent = 0;
        for (lane, writer) in self.lanes.iter_mut().zip(&mut self.writers) {
            if lane.channel.is_receiver_waiting() && writer.rows_written() > 0 {
                ship_filling(lane, writer);
                sent += 1;
            }
        }
        self.rests_until = now + REST_A_BUFFER * sent;
        self.holds_rows = self.writers.iter().any(|writer| writer.rows_written() > 0);
        if !self.holds_rows {
            self.deadline = None;
        }
    }

    fn holds_sendable_rows(&self) -> bool {
        let mut lanes = self.lanes.iter().zip(&self.writers);
        lanes.any(|(lane, writer)| lane.backlog.is_empty() && writer.rows_written() > 0)
    }

    fn tick(&mut self, now: Instant) {
        if self.is_resting && now >= self.rests_until {
            self.flush_to_idle(now);
        }
        if !self.holds_rows {
            // Another flush was earlier; a deadline that stayed would keep an idle task awake.
            (self.deadline, self.is_resting) = (None, false);
            return;
        }
        match (self.deadline, self.timeout) {
            (Some(deadline), _) if now >= deadline => self.flush_due(),
            (None, Some(timeout)) if timeout.is_zero() => self.flush_due(),
            (None, Some(timeout)) => self.deadline = Some(now + timeout),
            _ => {}
        }
    }

    /// When [`Exchange::tick`] next has something to do.
    fn due(&self) -> Option<Instant> {
        let rested = self.is_resting.then_some(self.rests_until);
        self.deadline.into_iter().chain(rested).min()
    }

    fn end(&mut self) -> SendState {
        // No row will come that would need the buffer.
        self.dry = None;
        if self.drain() == SendState::Blocked {
            return SendState::Blocked;
        }
        self.flush();
        if self.lanes.iter().any(|lane| !lane.backlog.is_empty()) {
            return SendState::Blocked;
        }
        for lane in self.lanes.drain(..) {
            lane.channel.end();
        }
        SendState::Clear
    }
}

/// A way past batches: see [`Output::direct`].
pub struct Direct<'a> {
    exchange: &'a mut Exchange,
    way: ByInteger,
    written: u64,
    rows: &'a mut u64,
    bytes: &'a mut u64,
}

impl Direct<'_> {
    /// The place of the next row with this key, of `size` bytes, the exchange's stride: the caller writes all of it. `None`
    /// where its channel has no buffer; the output is blocked then.
    #[inline(always)]
    pub fn place(&mut self, key: u64, size: usize) -> Option<&mut [u8]> {
        let lane = self.way.channel(key);
        if self.exchange.writers[lane].remaining() < size {
            return self.place_in_next(lane, size);
        }
        self.written += 1;
        self.exchange.writers[lane].reserve(size)
    }

    #[cold]
    #[inline(never)]
    fn place_in_next(&mut self, lane: usize, size: usize) -> Option<&mut [u8]> {
        if !self.exchange.renew(lane) {
            return None;
        }
        self.written += 1;
        self.exchange.writers[lane].reserve(size)
    }
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        *self.rows += self.written;
        *self.bytes += self.written * self.exchange.stride as u64;
    }
}

/// The sending side of a task: an exchange for each consumer of its rows.
#[derive(Default)]
pub struct Output {
    exchanges: Vec<Exchange>,
    rows: u64,
    bytes: u64,
}

impl Output {
    /// An output over `exchanges`; without any, what is sent is dropped.
    pub fn new(exchanges: Vec<Exchange>) -> Self {
        Output {
            exchanges,
            rows: 0,
            bytes: 0,
        }
    }

    /// A way to write rows of fixed size straight into the buffers of their channels, where all of them go through one
    /// exchange by the integer at `column` and there is room. What waits goes first.
    pub fn direct(&mut self, column: IntegerColumn) -> Option<Direct<'_>> {
        let [exchange] = &mut self.exchanges[..] else {
            return None;
        };
        let way = exchange.router.by_integer().filter(|way| way.column == column)?;
        let fits = exchange.stride > 0 && BATCH_HEADER + exchange.stride <= exchange.pool.segment_size();
        // Where every row is flushed by itself, it goes as a batch.
        if !fits || !exchange.has_room() || exchange.timeout == Some(Duration::ZERO) {
            return None;
        }
        exchange.holds_rows = true;
        Some(Direct {
            exchange,
            way,
            written: 0,
            rows: &mut self.rows,
            bytes: &mut self.bytes,
        })
    }

    /// Whether the output can take a batch without parking it. A caller that cannot wait may send all the same.
    pub fn has_room(&self) -> bool {
        self.exchanges.iter().all(Exchange::has_room)
    }

    /// Sends a batch.
    pub fn send(&mut self, batch: Batch) {
        self.rows += batch.len() as u64;
        self.bytes += batch.bytes().len() as u64;
        let Some((last, others)) = self.exchanges.split_last_mut() else {
            return;
        };
        for exchange in others {
            exchange.send_copy(&batch);
        }
        last.send(batch, false);
    }

    /// Sends what waits, as far as credits and buffers go.
    pub fn drain(&mut self) -> SendState {
        let mut state = SendState::Clear;
        for exchange in &mut self.exchanges {
            if exchange.drain() == SendState::Blocked {
                state = SendState::Blocked;
            }
        }
        state
    }

    /// Sends every buffer that has rows.
    pub fn flush(&mut self) {
        self.exchanges.iter_mut().for_each(Exchange::flush);
    }

    /// Sends the buffers whose receivers have nothing to do.
    pub fn flush_to_idle(&mut self, now: Instant) {
        self.exchanges
            .iter_mut()
            .for_each(|exchange| exchange.flush_to_idle(now));
    }

    /// Sends the buffers whose time has come (`network.buffer_timeout`).
    pub fn tick(&mut self, now: Instant) {
        self.exchanges.iter_mut().for_each(|exchange| exchange.tick(now));
    }

    /// When [`Output::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.exchanges.iter().filter_map(Exchange::due).min()
    }

    /// Whether rows are held for channels in which nothing waits before them.
    pub fn holds_sendable_rows(&self) -> bool {
        self.exchanges.iter().any(Exchange::holds_sendable_rows)
    }

    /// Sends everything and ends every channel; called again until it is clear.
    pub fn end(&mut self) -> SendState {
        while let Some(exchange) = self.exchanges.last_mut() {
            if exchange.end() == SendState::Blocked {
                return SendState::Blocked;
            }
            self.exchanges.pop();
        }
        SendState::Clear
    }

    /// Rows and bytes sent so far.
    pub fn sent(&self) -> (u64, u64) {
        (self.rows, self.bytes)
    }
}
