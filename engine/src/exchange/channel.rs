//! A channel: one sender–receiver pair, its queue of batches, and its credits.
//!
//! # Interface
//! The sender takes a credit ([`Channel::take_credit`]) and then pushes; the receiver pops, uses the batch, and
//! gives the credit back ([`Channel::give_back`]). Each wakes the other's worker where it waits.
//!
//! # Algorithm
//! Flink's credit-based flow control within one process: a credit is the right to have one batch in flight.
//! A channel has `exclusive` credits of its own; above them it borrows from its gate's floating credits,
//! which is what lets one busy channel use what idle ones leave, without one slow channel stopping another.
//! Events (end of input) need no credit: the queue has places for them beyond every credit.
//!
//! # Invariants
//! I1. Batches in a queue + batches being used by the receiver = credits taken ≤ exclusive + floating.

use crate::batch::Batch;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Places in a queue for events, which need no credit.
const EVENT_PLACES: usize = 4;

/// Something that waits for a channel and can be told to look again.
pub trait Wake: Send + Sync {
    /// Makes the waiter look again. Cheap where it is not waiting.
    fn wake(&self);
}

/// What travels through a channel.
pub enum Message {
    /// Rows, and whether their credit was borrowed from the gate.
    Data {
        /// The rows.
        batch: Batch,
        /// Whether the credit was one of the gate's floating ones.
        floating: bool,
    },
    /// The sender has nothing more to send.
    End,
}

/// How many batches may be in flight.
#[derive(Debug, Clone, Copy)]
pub struct ChannelLimits {
    /// Credits of each channel (`network.buffers_per_channel`).
    pub exclusive: usize,
    /// Credits that a gate's channels share (`network.floating_buffers_per_gate`).
    pub floating: usize,
}

/// The credits that a gate's channels share.
pub(super) struct FloatingCredits(pub(super) CachePadded<AtomicUsize>);

/// One sender–receiver pair.
pub struct Channel {
    queue: ArrayQueue<Message>,
    exclusive: CachePadded<AtomicUsize>,
    floating: Arc<FloatingCredits>,
    /// Set by a sender that found no credit or no buffer; cleared by the receiver alone, which then wakes it.
    sender_waits: CachePadded<AtomicBool>,
    /// Set by a receiver that found nothing; a hint to the sender to flush what it has.
    receiver_waits: CachePadded<AtomicBool>,
    sender: Arc<dyn Wake>,
    receiver: Arc<dyn Wake>,
}

fn take_one(credits: &AtomicUsize) -> bool {
    credits
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |credits| {
            credits.checked_sub(1)
        })
        .is_ok()
}

impl Channel {
    pub(super) fn new(
        limits: ChannelLimits,
        floating: Arc<FloatingCredits>,
        sender: Arc<dyn Wake>,
        receiver: Arc<dyn Wake>,
    ) -> Arc<Channel> {
        Arc::new(Channel {
            queue: ArrayQueue::new(limits.exclusive + limits.floating + EVENT_PLACES),
            exclusive: CachePadded::new(AtomicUsize::new(limits.exclusive)),
            floating,
            sender_waits: CachePadded::new(AtomicBool::new(false)),
            receiver_waits: CachePadded::new(AtomicBool::new(false)),
            sender,
            receiver,
        })
    }

    /// A credit to send one batch, and whether it is a floating one; `None` where the sender must wait: the
    /// receiver will wake it.
    pub fn take_credit(&self) -> Option<bool> {
        if let Some(floating) = self.try_credit() {
            return Some(floating);
        }
        self.sender_waits.store(true, Ordering::SeqCst);
        // A credit given back just before the flag was set would wake nobody: look again. Flag and credits are written
        // and read in one order (`SeqCst`), so that either this sees the credit, or the receiver sees the flag.
        // It stays up even where there is a credit now: the sender may have raised it for a buffer, too, and the next one
        // to come back may be that of the batch which leaves with this credit.
        self.try_credit()
    }

    fn try_credit(&self) -> Option<bool> {
        if take_one(&self.exclusive) {
            Some(false)
        } else if take_one(&self.floating.0) {
            Some(true)
        } else {
            None
        }
    }

    /// Hands a batch over; its credit was taken before.
    pub fn push(&self, batch: Batch, floating: bool) {
        self.enqueue(Message::Data { batch, floating });
    }

    /// Tells the receiver that nothing more will come.
    pub fn end(&self) {
        self.enqueue(Message::End);
    }

    fn enqueue(&self, message: Message) {
        let full = self.queue.push(message).is_err();
        assert!(!full, "a queue has a place for every credit and event");
        self.receiver_waits.store(false, Ordering::Relaxed);
        self.receiver.wake();
    }

    /// The next message.
    pub fn pop(&self) -> Option<Message> {
        self.queue.pop()
    }

    /// Returns the credit of a batch that the receiver has used, and wakes a sender that waits for it.
    pub fn give_back(&self, floating: bool) {
        if floating {
            self.floating.0.fetch_add(1, Ordering::SeqCst);
        } else {
            self.exclusive.fetch_add(1, Ordering::SeqCst);
        }
        self.wake_sender();
    }

    /// Wakes the sender if it waits for a credit or for a buffer.
    pub fn wake_sender(&self) {
        if self.sender_waits.load(Ordering::SeqCst) && self.sender_waits.swap(false, Ordering::SeqCst) {
            self.sender.wake();
        }
    }

    /// Notes that the sender waits: for a buffer, which comes back when the receiver has used one.
    pub fn sender_waits(&self) {
        self.sender_waits.store(true, Ordering::SeqCst);
    }

    /// Notes that the receiver has nothing to do.
    pub fn receiver_waits(&self) {
        self.receiver_waits.store(true, Ordering::Relaxed);
    }

    /// Whether the receiver had nothing to do when it last looked.
    pub fn is_receiver_waiting(&self) -> bool {
        self.receiver_waits.load(Ordering::Relaxed)
    }

    /// The number of messages that wait for the receiver.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}
