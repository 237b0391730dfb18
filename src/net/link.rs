//! [`Link`]: what a session talks through. It sends and receives messages and knows nothing of sockets.
//!
//! ```text
//! session thread(s) --send--> [queue of LINK_QUEUE_MAX] --> writer \
//!                                                                   connection (one task, see `connection`) <--> TLS
//! session thread   <--recv--- [queue of LINK_QUEUE_MAX] <-- reader /
//! ```
//!
//! [`Link::pair`] is the same without a wire: the one's outgoing queue is the other's incoming one. It needs no
//! runtime, and carries `--store` and most tests.
//!
//! Always holds: both queues are bounded, so a slow peer slows the sender; what was received before the end is
//! delivered before the end is told; after the end every call says why, the same each time. All calls block and are
//! for plain threads, never for a task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::frame::{CodecError, Frame, check_message};
use super::message::Message;
use super::packing::{Compress, Packing};
use super::queue::Queue;
use super::shutdown::Shutdown;
use crate::backup::limits::LINK_QUEUE_MAX;

/// Longest that [`LinkSender::close`] waits for the peer to take what is queued.
pub const CLOSE_SECS: u64 = 10;

/// Why a link does not carry a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// One side closed it, in order. Nothing is wrong unless more was expected.
    #[error("the other side closed the connection")]
    Closed,
    /// The connection broke: try again.
    #[error("the connection was lost: {why}")]
    Lost {
        /// In words.
        why: String,
    },
    /// The peer sent what is no message: trying again will not help.
    #[error("the other side broke the protocol: {why}")]
    Protocol {
        /// In words.
        why: String,
    },
    /// The key of the peer was revoked: this side ended the connection.
    #[error("the connection was ended: the key was revoked")]
    Revoked,
    /// The message itself fits no frame: a defect of this program. The link stays as it was.
    #[error("cannot send: {0}")]
    Unsendable(CodecError),
}

/// Bytes on the wire, TLS included; an in-memory link counts none.
#[derive(Debug, Default)]
pub struct LinkCounters {
    sent: AtomicU64,
    received: AtomicU64,
}

impl LinkCounters {
    /// Bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// One end of a conversation. The halves may go to different threads; dropping both closes it.
pub struct Link {
    /// Sends; may be cloned.
    pub sender: LinkSender,
    /// Receives.
    pub receiver: LinkReceiver,
    counters: Arc<LinkCounters>,
}

/// The far ends of a link's queues, for the connection that serves it.
#[derive(Clone)]
pub(super) struct Plumbing {
    pub(super) outbox: Arc<Queue<Frame>>,
    pub(super) inbox: Arc<Queue<Message>>,
    /// Given when nothing more will be written.
    pub(super) written: Shutdown,
    /// Whether it travels packed.
    pub(super) packing: Packing,
}

impl Link {
    /// Two ends in memory.
    pub fn pair() -> (Self, Self) {
        let queue = || Arc::new(Queue::new(LINK_QUEUE_MAX, payload_bytes));
        let (there, back) = (queue(), queue());
        (Self::in_memory(there.clone(), back.clone()), Self::in_memory(back, there))
    }

    fn in_memory(out: Arc<Queue<Message>>, inbox: Arc<Queue<Message>>) -> Self {
        Self {
            sender: LinkSender { shared: Arc::new(SenderShared { outlet: Outlet::Memory(out) }) },
            receiver: LinkReceiver { inbox },
            counters: Arc::default(),
        }
    }

    /// A link that is served by a connection.
    pub(super) fn on_wire(counters: Arc<LinkCounters>) -> (Self, Plumbing) {
        let outbox = Arc::new(Queue::new(LINK_QUEUE_MAX, |frame: &Frame| frame.payload.len()));
        let inbox = Arc::new(Queue::new(LINK_QUEUE_MAX, payload_bytes));
        let (written, packing) = (Shutdown::new(), Packing::default());
        let outlet = Outlet::Wire { outbox: outbox.clone(), written: written.clone(), packing: packing.clone() };
        let link = Self {
            sender: LinkSender { shared: Arc::new(SenderShared { outlet }) },
            receiver: LinkReceiver { inbox: inbox.clone() },
            counters,
        };
        (link, Plumbing { outbox, inbox, written, packing })
    }

    /// What has travelled so far; may be kept and read later.
    pub fn counters(&self) -> Arc<LinkCounters> {
        self.counters.clone()
    }

    /// See [`LinkSender::send`].
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn send(&self, message: impl Into<Message>) -> Result<(), LinkError> {
        self.sender.send(message)
    }

    /// See [`LinkReceiver::recv`].
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn recv(&mut self) -> Result<Message, LinkError> {
        self.receiver.recv()
    }

    /// See [`LinkReceiver::recv_timeout`].
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn recv_timeout(&mut self, patience: Duration) -> Result<Option<Message>, LinkError> {
        self.receiver.recv_timeout(patience)
    }
}

/// What makes a message large.
fn payload_bytes(message: &Message) -> usize {
    message.payload().len()
}

/// The sending half. Clones share one queue; when the last is dropped, what is queued is sent and the link closed.
#[derive(Clone)]
pub struct LinkSender {
    shared: Arc<SenderShared>,
}

/// A sender that keeps no link open.
#[derive(Clone)]
pub struct WeakLinkSender {
    shared: Weak<SenderShared>,
}

impl WeakLinkSender {
    /// The sender, if the link has not ended.
    pub fn upgrade(&self) -> Option<LinkSender> {
        Some(LinkSender { shared: self.shared.upgrade()? })
    }
}

impl std::fmt::Debug for WeakLinkSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakLinkSender")
    }
}

struct SenderShared {
    outlet: Outlet,
}

enum Outlet {
    Memory(Arc<Queue<Message>>),
    Wire { outbox: Arc<Queue<Frame>>, written: Shutdown, packing: Packing },
}

impl LinkSender {
    /// Queues a message; blocks while the queue is full. `Ok` says that it is queued, not that it arrived.
    ///
    /// # Errors
    /// [`LinkError`]. After an error it may still pay to receive: the peer may have said why.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), LinkError> {
        let message = message.into();
        match &self.shared.outlet {
            Outlet::Memory(queue) => {
                // What fits no frame must fail in tests without a wire too.
                if cfg!(debug_assertions) {
                    check_message(&message).map_err(LinkError::Unsendable)?;
                }
                queue.push(message)
            }
            // Encoding is the caller's work, so that the connection only has to encrypt.
            Outlet::Wire { outbox, .. } => outbox.push(Frame::encode(message).map_err(LinkError::Unsendable)?),
        }
    }

    /// Whether bytes count on this link: what is sent is packed, because it is slow, or because the user wants it so.
    pub fn is_slow(&self) -> bool {
        self.packing().is_some_and(Packing::is_on)
    }

    /// What the user wants of what this end sends; without a wire nothing is packed.
    pub fn set_compress(&self, wish: Compress) {
        if let Some(packing) = self.packing() {
            packing.wish(wish);
        }
    }

    /// Whether the user wants nothing packed.
    pub(super) fn is_never_packed(&self) -> bool {
        self.packing().is_some_and(Packing::is_never)
    }

    /// Something that needs no thinking was answered after so long.
    pub(super) fn round_trip(&self, took: Duration) {
        if let Some(packing) = self.packing() {
            packing.round_trip(took);
        }
    }

    fn packing(&self) -> Option<&Packing> {
        match &self.shared.outlet {
            Outlet::Memory(_) => None,
            Outlet::Wire { packing, .. } => Some(packing),
        }
    }

    /// For whoever may want to close it, and must not keep it open.
    pub fn downgrade(&self) -> WeakLinkSender {
        WeakLinkSender { shared: Arc::downgrade(&self.shared) }
    }

    /// Queues a message if the queue has room, and never waits; false: it has none, and the message is dropped.
    ///
    /// # Errors
    /// As [`LinkSender::send`].
    pub fn try_send(&self, message: impl Into<Message>) -> Result<bool, LinkError> {
        let message = message.into();
        match &self.shared.outlet {
            Outlet::Memory(queue) => queue.try_push(message),
            Outlet::Wire { outbox, .. } => outbox.try_push(Frame::encode(message).map_err(LinkError::Unsendable)?),
        }
    }

    /// Ends the conversation: nothing more can be sent by any clone, what is queued is sent, then the link closes. Waits
    /// until that is done or failed, at most [`CLOSE_SECS`].
    pub fn close(&self) {
        self.shared.end();
        if let Outlet::Wire { written, .. } = &self.shared.outlet {
            written.wait_timeout(Duration::from_secs(CLOSE_SECS));
        }
    }

    /// As [`LinkSender::close`], without waiting for it to be done.
    pub fn end(&self) {
        self.shared.end();
    }
}

impl SenderShared {
    fn end(&self) {
        match &self.outlet {
            Outlet::Memory(queue) => queue.end(LinkError::Closed),
            Outlet::Wire { outbox, .. } => outbox.end(LinkError::Closed),
        }
    }
}

impl Drop for SenderShared {
    fn drop(&mut self) {
        self.end();
    }
}

/// The receiving half.
pub struct LinkReceiver {
    inbox: Arc<Queue<Message>>,
}

impl LinkReceiver {
    /// The next message; waits for it.
    ///
    /// # Errors
    /// [`LinkError`], when all that was received has been delivered.
    pub fn recv(&mut self) -> Result<Message, LinkError> {
        match self.inbox.pop(None)? {
            Some(message) => Ok(message),
            None => Err(LinkError::Closed),
        }
    }

    /// Waits in a task until there is a message; false: it ended without one. Cancel-safe.
    pub(super) async fn something(&self) -> bool {
        self.inbox.something().await
    }

    /// The next message; none when `patience` passed without one.
    ///
    /// # Errors
    /// [`LinkError`], when all that was received has been delivered.
    pub fn recv_timeout(&mut self, patience: Duration) -> Result<Option<Message>, LinkError> {
        // A patience beyond the clock's range is for ever.
        self.inbox.pop(Instant::now().checked_add(patience))
    }
}

impl Drop for LinkReceiver {
    fn drop(&mut self) {
        self.inbox.end(LinkError::Closed);
        self.inbox.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::bytes::Bytes;
    use crate::backup::limits::CONTROL_FRAME_BYTES_MAX;
    use crate::net::message::{Busy, RefusalKind, Refused};

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn what_was_sent_before_the_end_is_delivered() {
        let (a, mut b) = Link::pair();
        a.send(Busy { phase: 1 }).unwrap();
        a.sender.close();
        assert_eq!(a.send(Busy { phase: 2 }), Err(LinkError::Closed));
        assert_eq!(b.recv(), Ok(Busy { phase: 1 }.into()));
        assert_eq!(b.recv(), Err(LinkError::Closed));
        assert_eq!(b.recv_timeout(SHORT), Err(LinkError::Closed));
    }

    #[test]
    fn dropping_one_end_ends_the_other() {
        let (a, mut b) = Link::pair();
        let clone = a.sender.clone();
        drop(a);
        assert_eq!(b.send(Busy { phase: 1 }), Err(LinkError::Closed));
        clone.send(Busy { phase: 1 }).unwrap();
        drop(clone);
        assert_eq!(b.recv(), Ok(Busy { phase: 1 }.into()));
        assert_eq!(b.recv(), Err(LinkError::Closed));
    }

    #[test]
    fn a_full_queue_blocks_the_sender_until_there_is_space() {
        let (a, mut b) = Link::pair();
        let sender = a.sender.clone();
        let count = 50;
        let (told, sent) = crossbeam_channel::unbounded();
        let thread = std::thread::spawn(move || {
            for phase in 0..count {
                sender.send(Busy { phase }).unwrap();
                told.send(phase).unwrap();
            }
        });
        for _ in 0..LINK_QUEUE_MAX {
            sent.recv().unwrap();
        }
        assert!(sent.recv_timeout(SHORT).is_err(), "more was queued than the limit");
        for phase in 0..count {
            assert_eq!(b.recv(), Ok(Busy { phase }.into()));
        }
        thread.join().unwrap();
    }

    #[test]
    fn a_sender_that_waits_learns_of_the_end() {
        let (a, b) = Link::pair();
        for phase in 0..LINK_QUEUE_MAX as u8 {
            a.send(Busy { phase }).unwrap();
        }
        let thread = std::thread::spawn(move || a.send(Busy { phase: 9 }));
        drop(b);
        assert_eq!(thread.join().unwrap(), Err(LinkError::Closed));
    }

    #[test]
    fn patience_ends() {
        let (_a, mut b) = Link::pair();
        assert_eq!(b.recv_timeout(SHORT), Ok(None));
    }

    #[test]
    fn what_fits_no_frame_is_refused_without_a_wire_too() {
        let (a, _b) = Link::pair();
        let huge = Refused { kind: RefusalKind::Failed, message: Bytes(vec![0; CONTROL_FRAME_BYTES_MAX + 1]) };
        assert!(matches!(a.send(huge), Err(LinkError::Unsendable(CodecError::TooLong { .. }))));
        a.send(Busy { phase: 0 }).unwrap();
    }
}
