//! [`Probation`]: what a peer may say until it is welcome. The socket counts its bytes, TLS and all; the connection ends it
//! when `Welcome` is sent.
//!
//! Bytes are counted below TLS, where they come from the kernel: a peer that sends its handshake byte by byte, records
//! without content or one huge message uses up the same allowance, and what TLS keeps of it cannot be more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::shutdown::Shutdown;
use crate::backup::limits::HANDSHAKE_FRAME_BYTES_MAX;

/// Of one connection; clones are the same.
#[derive(Clone)]
pub struct Probation {
    bytes_left: Arc<AtomicUsize>,
    welcome: Shutdown,
}

impl Probation {
    /// For a connection that has just been accepted.
    pub(super) fn new() -> Self {
        Self { bytes_left: Arc::new(AtomicUsize::new(HANDSHAKE_FRAME_BYTES_MAX)), welcome: Shutdown::new() }
    }

    /// The peer is welcome: what it says is bounded by the frames' limits from now on.
    pub(super) fn end(&self) {
        self.welcome.trigger();
    }

    /// Whether it is welcome.
    pub(super) fn is_over(&self) -> bool {
        self.welcome.is_triggered()
    }

    /// Waits until it is welcome. Cancel-safe.
    pub(super) async fn over(&self) {
        self.welcome.triggered().await;
    }

    /// How many bytes may be read, which is never none.
    ///
    /// # Errors
    /// The peer has said all that it may, and is not welcome.
    pub(super) fn bytes_left(&self) -> io::Result<usize> {
        match self.bytes_left.load(Ordering::Relaxed) {
            0 => Err(io::Error::other(format!(
                "it said more than {} KiB before it was welcome",
                HANDSHAKE_FRAME_BYTES_MAX >> 10
            ))),
            left => Ok(left),
        }
    }

    /// Bytes that were read, no more than [`Probation::bytes_left`].
    pub(super) fn heard(&self, bytes: usize) {
        // Only the socket writes it.
        let left = self.bytes_left.load(Ordering::Relaxed);
        self.bytes_left.store(left.saturating_sub(bytes), Ordering::Relaxed);
    }
}
