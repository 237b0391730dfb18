//! One task that carries a [`Link`] over a stream: a writer and a reader, side by side.
//!
//! ```text
//! [outbox] -> write_loop -> stream      one task owns both halves; `run` decides who stops whom:
//! [inbox]  <- read_loop  <- stream
//!
//! outbox ended by us      write what is queued, say goodbye (close_notify), read on until the peer does so too
//! goodbye from the peer   deliver what came before, answer the goodbye, end both queues: Closed
//! silence, error, cut     end both queues: Lost
//! bytes that are no frame end both queues: Protocol
//! a write fails           end the outbox: Lost; read on, for the peer may have said why
//! an Ender                end both queues and throw away what is in them; drop the stream
//! ```
//!
//! **Backpressure.** The reader takes the next frame from the stream only after the inbox took the last one. While it
//! waits for the inbox it does not listen, so that is no silence of the peer. Memory of a connection: the two queues,
//! one frame in each loop, and the buffers of TLS.
//!
//! **Keepalive.** An idle writer sends one every [`Timing::keepalive`]; any byte ends a silence, so a long frame on a
//! slow line is none. A writer whose peer takes nothing for [`Timing::stall`] gives up.
//!
//! **Before the welcome** a peer may send [`HANDSHAKE_FRAME_BYTES_MAX`] bytes in all: frames are bounded by it here, and a
//! listener's [`Socket`](super::socket::Socket) counts every byte. The limit falls when the daemon sends `Welcome`, at the
//! client when it receives it: never by a word of an unknown client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, timeout};

use super::frame::{BULK_HEAD_BYTES, CodecError, FRAME_HEAD_BYTES, Frame, FrameHead, KEEPALIVE_FRAME, KEEPALIVE_KIND};
use super::link::{CLOSE_SECS, Link, LinkCounters, LinkError, Plumbing};
use super::message::Message;
use super::probation::Probation;
use super::queue::Queue;
use super::shutdown::Shutdown;
use crate::backup::limits::{
    BULK_FRAME_BYTES_MAX, COMMIT_SECS, HANDSHAKE_FRAME_BYTES_MAX, HANDSHAKE_SECS, KEEPALIVE_SECS, SILENCE_SECS,
};

/// Frames are gathered up to this much before they are written; longer payloads are written as they are.
const GATHER_BYTES: usize = 64 * 1024;
/// Longest wait for the goodbye of a peer that was never welcome.
const STRANGER_LINGER: Duration = Duration::from_secs(1);
/// The kind of the message that ends the handshake.
const WELCOME_KIND: u8 = 2;

/// Which side of the protocol this end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Says `Hello`.
    Client,
    /// Says `Welcome`.
    Daemon,
}

/// Deadlines of a connection. Tests shorten them; nobody else does.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// An idle writer sends a keepalive this often.
    pub keepalive: Duration,
    /// This long without a byte, while listening, is a dead peer.
    pub silence: Duration,
    /// This long without taking a byte, while we write, is a dead peer too.
    pub stall: Duration,
    /// Longest wait for the peer's goodbye after ours.
    pub linger: Duration,
    /// At a listener: from the accepted connection to `Welcome`.
    pub handshake: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            keepalive: Duration::from_secs(KEEPALIVE_SECS),
            silence: Duration::from_secs(SILENCE_SECS),
            stall: Duration::from_secs(COMMIT_SECS),
            linger: Duration::from_secs(CLOSE_SECS),
            handshake: Duration::from_secs(HANDSHAKE_SECS),
        }
    }
}

/// Starts a task on the current runtime that serves the link it returns. `stream` must say goodbye on shutdown and
/// report a missing goodbye as an error, as TLS does.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn<S>(stream: S, role: Role, timing: Timing, counters: Arc<LinkCounters>) -> (Link, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (link, task, _) = spawn_on_probation(stream, role, timing, counters, &Probation::new());
    (link, task)
}

/// As [`spawn`], with a handle that ends the connection from outside; the probation is over when the peer is welcome.
pub(super) fn spawn_on_probation<S>(
    stream: S,
    role: Role,
    timing: Timing,
    counters: Arc<LinkCounters>,
    probation: &Probation,
) -> (Link, JoinHandle<()>, Ender)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (link, plumbing) = Link::on_wire(counters);
    let ender = Ender { plumbing: plumbing.clone(), ended: Shutdown::new() };
    let (ended, probation) = (ender.ended.clone(), probation.clone());
    let task = tokio::spawn(async move {
        // Whatever happens to the task, nobody waits for it in vain.
        let plumbing = EndOnDrop(plumbing);
        tokio::select! {
            biased;
            () = ended.triggered() => {}
            () = run(stream, role, timing, &plumbing.0, &probation) => {}
        }
    });
    (link, task, ender)
}

/// Ends a connection at once, whatever it is doing. Keeps no link open.
#[derive(Clone)]
pub(super) struct Ender {
    plumbing: Plumbing,
    ended: Shutdown,
}

impl Ender {
    /// When it returns, nothing more is delivered or queued, and whoever uses the link hears `why`. The socket is closed a
    /// moment later.
    pub(super) fn end(&self, why: LinkError) {
        let Plumbing { inbox, outbox, .. } = &self.plumbing;
        inbox.cut(why.clone());
        outbox.cut(why);
        self.ended.trigger();
    }
}

struct EndOnDrop(Plumbing);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let why = LinkError::Lost { why: "the program is stopping".into() };
        self.0.inbox.end(why.clone());
        self.0.outbox.end(why);
        self.0.outbox.clear();
        self.0.written.trigger();
    }
}

async fn run<S: AsyncRead + AsyncWrite>(
    stream: S,
    role: Role,
    timing: Timing,
    plumbing: &Plumbing,
    probation: &Probation,
) {
    let (reader, mut writer) = tokio::io::split(stream);
    let welcomed = Welcomed { said: AtomicBool::new(false), probation };
    let mut read = std::pin::pin!(read_loop(reader, plumbing, role, timing.silence, &welcomed));
    let reason = {
        let mut write = std::pin::pin!(write_loop(&mut writer, &plumbing.outbox, role, timing, &welcomed));
        tokio::select! {
            reason = &mut read => Err(reason),
            written = &mut write => Ok(written),
        }
    };
    let reason = match reason {
        Ok(Ok(())) => {
            // We close. Read on, or bytes on their way here would make the kernel cut off what we have just written.
            plumbing.written.trigger();
            let linger = if welcomed.is_said() { timing.linger } else { timing.linger.min(STRANGER_LINGER) };
            timeout(linger, &mut read).await.unwrap_or(LinkError::Closed)
        }
        Ok(Err(lost)) => {
            plumbing.outbox.end(lost);
            plumbing.outbox.clear();
            plumbing.written.trigger();
            read.await
        }
        Err(reason) => {
            plumbing.outbox.end(reason.clone());
            if reason == LinkError::Closed {
                let _ = timeout(timing.linger, writer.shutdown()).await;
            }
            reason
        }
    };
    plumbing.inbox.end(reason.clone());
    plumbing.outbox.end(reason);
}

/// Writes until the outbox ends, then says goodbye.
async fn write_loop<S: AsyncRead + AsyncWrite>(
    writer: &mut WriteHalf<S>,
    outbox: &Queue<Frame>,
    role: Role,
    timing: Timing,
    welcomed: &Welcomed<'_>,
) -> Result<(), LinkError> {
    let mut out = Outgoing { writer, gathered: Vec::new(), stall: timing.stall };
    loop {
        let next = match outbox.try_pop() {
            Ok(None) => {
                out.flush().await?;
                outbox.pop_async(timing.keepalive).await
            }
            next => next,
        };
        match next {
            Ok(Some(frame)) => {
                if role == Role::Daemon && frame.kind == WELCOME_KIND {
                    welcomed.say();
                }
                out.frame(frame).await?;
            }
            Ok(None) => out.gathered.extend_from_slice(&KEEPALIVE_FRAME),
            Err(_) => break,
        }
    }
    out.flush().await?;
    let stall = out.stall;
    unless_stalled(stall, writer.shutdown()).await
}

/// Whether `Welcome` has been said: asked at every frame.
struct Welcomed<'a> {
    said: AtomicBool,
    probation: &'a Probation,
}

impl Welcomed<'_> {
    fn say(&self) {
        self.said.store(true, Ordering::Release);
        self.probation.end();
    }

    fn is_said(&self) -> bool {
        self.said.load(Ordering::Acquire)
    }
}

struct Outgoing<'a, S> {
    writer: &'a mut WriteHalf<S>,
    gathered: Vec<u8>,
    stall: Duration,
}

impl<S: AsyncRead + AsyncWrite> Outgoing<'_, S> {
    async fn frame(&mut self, frame: Frame) -> Result<(), LinkError> {
        self.gathered.extend_from_slice(&frame.head);
        if frame.payload.len() < GATHER_BYTES {
            self.gathered.extend_from_slice(&frame.payload);
            if self.gathered.len() >= GATHER_BYTES {
                self.write_gathered().await?;
            }
            return Ok(());
        }
        self.write_gathered().await?;
        self.write(&frame.payload).await
    }

    async fn write_gathered(&mut self) -> Result<(), LinkError> {
        let mut gathered = std::mem::take(&mut self.gathered);
        self.write(&gathered).await?;
        gathered.clear();
        gathered.shrink_to(2 * GATHER_BYTES);
        self.gathered = gathered;
        Ok(())
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            // One deadline a piece: progress is what counts, not the whole.
            let piece = bytes.get(..4 * GATHER_BYTES).unwrap_or(bytes);
            unless_stalled(self.stall, self.writer.write_all(piece)).await?;
            bytes = bytes.get(piece.len()..).unwrap_or_default();
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        self.write_gathered().await?;
        unless_stalled(self.stall, self.writer.flush()).await
    }
}

async fn unless_stalled(stall: Duration, write: impl Future<Output = io::Result<()>>) -> Result<(), LinkError> {
    match timeout(stall, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(LinkError::Lost { why: format!("the other side took nothing for {} s", stall.as_secs()) }),
    }
}

/// Reads until the end; says why it ended.
async fn read_loop<S: AsyncRead + AsyncWrite>(
    reader: ReadHalf<S>,
    plumbing: &Plumbing,
    role: Role,
    silence: Duration,
    welcomed: &Welcomed<'_>,
) -> LinkError {
    let patience = std::pin::pin!(tokio::time::sleep(silence));
    let mut incoming = Incoming { reader, silence, patience, allowance: HANDSHAKE_FRAME_BYTES_MAX };
    loop {
        let message = match incoming.frame(welcomed).await {
            Ok(None) => continue,
            Ok(Some(message)) => message,
            Err(reason) => return reason,
        };
        if role == Role::Client && matches!(message, Message::Welcome(_)) {
            welcomed.say();
        }
        // An inbox that has ended has no receiver any more: what still comes is read and thrown away, so that the
        // peer can go on until it sees our goodbye.
        if plumbing.inbox.push_async(message).await == Ok(true) {
            incoming.reset_patience();
        }
    }
}

struct Incoming<'a, S> {
    reader: ReadHalf<S>,
    silence: Duration,
    patience: Pin<&'a mut Sleep>,
    /// Bytes of bodies that may still come before the welcome.
    allowance: usize,
}

impl<S: AsyncRead + AsyncWrite> Incoming<'_, S> {
    /// The next message; none for a keepalive.
    async fn frame(&mut self, welcomed: &Welcomed<'_>) -> Result<Option<Message>, LinkError> {
        let mut first = [0; FRAME_HEAD_BYTES];
        if !self.fill(&mut first).await? {
            return Err(LinkError::Closed);
        }
        let body_bytes_max = if welcomed.is_said() { BULK_FRAME_BYTES_MAX } else { self.allowance };
        let head = FrameHead::parse(first, body_bytes_max).map_err(protocol)?;
        self.allowance = self.allowance.saturating_sub(FRAME_HEAD_BYTES + head.body_bytes);
        if head.kind == KEEPALIVE_KIND {
            return Ok(None);
        }
        let (head_bytes, payload_bytes) = if head.bulk {
            let mut length = [0; BULK_HEAD_BYTES];
            self.whole(&mut length).await?;
            head.split_bulk(length).map_err(protocol)?
        } else {
            (head.body_bytes, 0)
        };
        let body = self.take(head_bytes).await?;
        let payload = self.take(payload_bytes).await?;
        Message::decode(head.kind, &body, payload).map(Some).map_err(protocol)
    }

    /// Fills `buf`; false when the stream ended in order before its first byte.
    async fn fill(&mut self, buf: &mut [u8]) -> Result<bool, LinkError> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let count = listen(&mut self.patience, self.silence, self.reader.read(rest)).await?;
            if count == 0 {
                return if filled == 0 { Ok(false) } else { Err(cut()) };
            }
            filled += count;
        }
        Ok(true)
    }

    async fn whole(&mut self, buf: &mut [u8]) -> Result<(), LinkError> {
        if self.fill(buf).await? { Ok(()) } else { Err(cut()) }
    }

    /// The next `count` bytes, which have been checked against a limit.
    async fn take(&mut self, count: usize) -> Result<Vec<u8>, LinkError> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let mut rest = (&mut self.reader).take((count - bytes.len()) as u64);
            if listen(&mut self.patience, self.silence, rest.read_buf(&mut bytes)).await? == 0 {
                return Err(cut());
            }
        }
        Ok(bytes)
    }

    fn reset_patience(&mut self) {
        self.patience.as_mut().reset(Instant::now() + self.silence);
    }
}

/// One read, unless the silence gets too long; what arrives ends the silence.
async fn listen(
    patience: &mut Pin<&mut Sleep>,
    silence: Duration,
    read: impl Future<Output = io::Result<usize>>,
) -> Result<usize, LinkError> {
    let count = tokio::select! {
        biased;
        count = read => count.map_err(|e| lost(&e))?,
        () = patience.as_mut() => {
            return Err(LinkError::Lost { why: format!("nothing was heard for {} s", silence.as_secs()) });
        }
    };
    patience.as_mut().reset(Instant::now() + silence);
    Ok(count)
}

fn protocol(error: CodecError) -> LinkError {
    LinkError::Protocol { why: error.to_string() }
}

fn cut() -> LinkError {
    LinkError::Lost { why: "it ended in the middle of a message".into() }
}

/// A broken stream. TLS that says its bytes were tampered with is lost as well: a new connection is the remedy.
fn lost(error: &io::Error) -> LinkError {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it was cut off".into(),
        _ => error.to_string(),
    };
    LinkError::Lost { why }
}

#[cfg(test)]
mod tests;
