//! [`Socket`]: a stream below TLS that counts what travels and reads ahead.
//!
//! rustls asks for 4 KiB at a time, four or five system calls a record; a buffer under it makes that one call for many
//! records. A peer that is not welcome yet has a small buffer, and no more bytes than its `Probation` allows.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::link::LinkCounters;
use super::probation::Probation;

/// Bytes read ahead at most.
const AHEAD_BYTES: usize = 128 * 1024;
/// Of a peer that is not welcome yet.
const GUEST_AHEAD_BYTES: usize = 4 * 1024;

/// A stream that counts into [`LinkCounters`]; reads are buffered, writes are not.
pub struct Socket<S> {
    stream: S,
    counters: Arc<LinkCounters>,
    ahead: Box<[u8]>,
    /// `ahead[from..to]` has been read and not been taken.
    from: usize,
    to: usize,
    /// Until the peer is welcome.
    probation: Option<Probation>,
}

impl<S> Socket<S> {
    /// Wraps `stream`.
    pub fn new(stream: S, counters: Arc<LinkCounters>) -> Self {
        let ahead = vec![0; AHEAD_BYTES].into_boxed_slice();
        Self { stream, counters, ahead, from: 0, to: 0, probation: None }
    }

    /// Wraps the stream of a peer that is on probation.
    pub(super) fn guest(stream: S, counters: Arc<LinkCounters>, probation: Probation) -> Self {
        let ahead = vec![0; GUEST_AHEAD_BYTES].into_boxed_slice();
        Self { stream, counters, ahead, from: 0, to: 0, probation: Some(probation) }
    }

    /// How many bytes the next read may take, never none. All that was read before has been taken.
    fn room(&mut self) -> io::Result<usize> {
        if self.probation.as_ref().is_some_and(Probation::is_over) {
            self.probation = None;
            self.ahead = vec![0; AHEAD_BYTES].into_boxed_slice();
        }
        match &self.probation {
            Some(probation) => Ok(probation.bytes_left()?.min(self.ahead.len())),
            None => Ok(self.ahead.len()),
        }
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.from == this.to {
            let bytes_max = this.room()?;
            let mut ahead = ReadBuf::new(this.ahead.get_mut(..bytes_max).unwrap_or_default());
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut ahead))?;
            (this.from, this.to) = (0, ahead.filled().len());
            this.counters.add_received(this.to);
            if let Some(probation) = &this.probation {
                probation.heard(this.to);
            }
        }
        let left = this.ahead.get(this.from..this.to).unwrap_or_default();
        let taken = left.get(..buf.remaining()).unwrap_or(left);
        buf.put_slice(taken);
        this.from += taken.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.counters.add_sent(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.counters.add_sent(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
