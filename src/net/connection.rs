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
//! **Packed** is what a slow link carries ([`super::packing`] says when): frames go through zstd on their way, and everything
//! above is as it was.
//!
//! **Before the welcome** a peer may send `HANDSHAKE_FRAME_BYTES_MAX` bytes in all: frames are bounded by it here, none is packed, and a
//! listener's [`Socket`](super::socket::Socket) counts every byte. The limit falls when the daemon sends `Welcome`, at the
//! client when it receives it: never by a word of an unknown client.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::link::{CLOSE_SECS, Link, LinkCounters, LinkError, Plumbing};
use super::probation::Probation;
use super::shutdown::Shutdown;
use crate::backup::limits::{COMMIT_SECS, HANDSHAKE_SECS, KEEPALIVE_SECS, SILENCE_SECS};

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
    let welcomed = Welcomed { said: AtomicBool::new(false), asked: OnceLock::new(), probation };
    let mut read = std::pin::pin!(incoming::read_loop(reader, plumbing, role, timing.silence, &welcomed));
    let reason = {
        let mut write = std::pin::pin!(outgoing::write_loop(&mut writer, plumbing, role, timing, &welcomed));
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

/// Whether `Welcome` has been said: asked at every frame.
struct Welcomed<'a> {
    said: AtomicBool,
    /// When the client had sent its first words.
    asked: OnceLock<Instant>,
    probation: &'a Probation,
}

impl Welcomed<'_> {
    fn say(&self) {
        self.said.store(true, Ordering::Release);
        self.probation.end();
    }

    fn asked(&self) {
        let _ = self.asked.set(Instant::now());
    }

    fn since_asked(&self) -> Duration {
        self.asked.get().map(Instant::elapsed).unwrap_or_default()
    }

    fn is_said(&self) -> bool {
        self.said.load(Ordering::Acquire)
    }
}

/// A broken stream. TLS that says its bytes were tampered with is lost as well: a new connection is the remedy.
fn lost(error: &io::Error) -> LinkError {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it was cut off".into(),
        _ => error.to_string(),
    };
    LinkError::Lost { why }
}

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;
