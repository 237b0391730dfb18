//! [`Listener`]: accepts connections and gives each its own thread.
//!
//! ```text
//! accept loop --task--> TLS (HANDSHAKE_SECS) --> slot --> connection task <--link--> handler thread
//!   at most PENDING_MAX                          at most max_sessions
//! ```
//!
//! A session holds its slot until its handler has returned *and* its connection has ended. Beyond `max_sessions` a peer
//! hears `Refused(Unavailable)`; beyond [`PENDING_MAX`] connections without a session, the newest is dropped unheard: who
//! says nothing costs ten seconds of one socket.
//!
//! **Shutdown**: no connection is accepted any more; handlers are asked by whoever shares the signal with them; their
//! return is waited for until [`ListenLimits::drain`] is over.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::connection::{self, Role, Timing};
use super::connections::{ConnectionId, Connections};
use super::link::{Link, LinkCounters};
use super::message::{RefusalKind, Refused};
use super::peer::{PeerInfo, canonical};
use super::shutdown::Shutdown;
use super::socket::Socket;
use super::tls::ServerKey;
use super::{runtime, tls};
use crate::backup::bytes::Bytes;
use crate::backup::limits::{HANDSHAKE_SECS, SESSIONS_MAX};

/// Connections that may be in their handshake, or be told that there is no room.
pub const PENDING_MAX: usize = 128;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// Pause after the system refused to accept (out of file descriptors): others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nothing is listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen at {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The key does not serve for TLS.
    #[error("cannot set up TLS: {why}")]
    Tls {
        /// In words.
        why: String,
    },
    /// No threads for the network.
    #[error("cannot start the network's threads: {0}")]
    Runtime(io::Error),
}

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenLimits {
    /// Sessions at once.
    pub max_sessions: usize,
    /// After the shutdown signal, longest wait for handlers to return.
    pub drain: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self { max_sessions: SESSIONS_MAX, drain: Duration::from_secs(60) }
    }
}

/// A connection that has proved its key and said nothing yet.
pub struct Incoming {
    /// Ready to receive `Hello`.
    pub link: Link,
    /// Who it is.
    pub peer: PeerInfo,
    /// Which of its key's connections.
    pub connection: ConnectionId,
}

/// Serves one connection, in a thread of its own.
pub type Handler = Arc<dyn Fn(Incoming) + Send + Sync>;

/// A socket that listens.
pub struct Listener {
    socket: StdListener,
    local: SocketAddr,
    timing: Timing,
}

impl Listener {
    /// Listens at `addr`. `[::]` takes IPv4 too; where the system has no IPv6, it means `0.0.0.0`.
    ///
    /// # Errors
    /// [`ListenError::Bind`].
    pub fn bind(addr: SocketAddr) -> Result<Self, ListenError> {
        let bound = match listen(addr) {
            Err(rustix::io::Errno::AFNOSUPPORT) if addr.ip() == Ipv6Addr::UNSPECIFIED => {
                listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())))
            }
            bound => bound,
        };
        let socket = bound.map_err(|e| ListenError::Bind { addr, source: e.into() })?;
        let local = socket.local_addr().map_err(|source| ListenError::Bind { addr, source })?;
        Ok(Self { socket, local, timing: Timing::default() })
    }

    /// Where it listens: with the port that the system chose if none was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `shutdown`, then drains; whoever has proved his key is in `connections`. Blocks; for plain threads
    /// only. Returns how many handlers were still at work when the drain was over: 0 is a clean end.
    ///
    /// # Errors
    /// [`ListenError`], before anything was accepted.
    pub fn serve(
        self,
        key: &Arc<ServerKey>,
        limits: ListenLimits,
        connections: &Connections,
        shutdown: &Shutdown,
        handler: Handler,
    ) -> Result<usize, ListenError> {
        let runtime = runtime::handle().map_err(ListenError::Runtime)?;
        let config = tls::server_config(Arc::clone(key)).map_err(|e| ListenError::Tls { why: e.to_string() })?;
        let desk = Arc::new(Desk {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            timing: self.timing,
            sessions: Arc::new(Sessions { max: limits.max_sessions, ..Sessions::default() }),
            connections: connections.clone(),
            shutdown: shutdown.clone(),
            handler,
        });
        let listener = {
            let _guard = runtime.enter();
            TcpListener::from_std(self.socket).map_err(|source| ListenError::Bind { addr: self.local, source })?
        };
        runtime.block_on(accept_all(listener, &desk));
        Ok(desk.sessions.drain(limits.drain))
    }
}

fn listen(addr: SocketAddr) -> rustix::io::Result<StdListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(StdListener::from(socket))
}

/// What every new connection needs.
struct Desk {
    acceptor: TlsAcceptor,
    timing: Timing,
    sessions: Arc<Sessions>,
    connections: Connections,
    shutdown: Shutdown,
    handler: Handler,
}

async fn accept_all(listener: TcpListener, desk: &Arc<Desk>) {
    let pending = Arc::new(Semaphore::new(PENDING_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = desk.shutdown.triggered() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, addr)) => match pending.clone().try_acquire_owned() {
                Ok(permit) => {
                    tokio::spawn(welcome(stream, addr, desk.clone(), permit));
                }
                Err(_) => debug!(%addr, "dropped: too many connections are in their handshake"),
            },
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// From an accepted socket to a running handler. The permit is held until there is a session, or the peer is gone.
async fn welcome(stream: TcpStream, addr: SocketAddr, desk: Arc<Desk>, permit: OwnedSemaphorePermit) {
    let addr = canonical(addr);
    let handshake = async {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let counters = Arc::<LinkCounters>::default();
        let socket = Socket::new(stream, counters.clone());
        let stream = desk.acceptor.accept_with(socket, |session| session.set_buffer_limit(Some(tls::BUFFER_BYTES)));
        Ok::<_, io::Error>((stream.await?, local, counters))
    };
    let (stream, local, counters) = tokio::select! {
        () = desk.shutdown.triggered() => return,
        done = timeout(Duration::from_secs(HANDSHAKE_SECS), handshake) => match done {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return debug!(%addr, %error, "no TLS"),
            Err(_) => return debug!(%addr, "no TLS in time"),
        },
    };
    let Some(key) = tls::peer_key(stream.get_ref().1) else {
        return debug!(%addr, "no key");
    };
    let slot = Sessions::enter(&desk.sessions);
    let (link, connection, ender) = connection::spawn_endable(stream, Role::Daemon, desk.timing, counters);
    let entry = desk.connections.enter(key, ender);
    let id = entry.id;
    let Some(slot) = slot else {
        let message = Bytes::from(&b"the daemon is serving as many sessions as it may; try again later"[..]);
        let _ = link.send(Refused { kind: RefusalKind::Unavailable, message });
        drop(link);
        let _ = connection.await;
        return;
    };
    drop(permit);
    let slot = Arc::new(slot);
    let held = slot.clone();
    tokio::spawn(async move {
        let _ = connection.await;
        drop((entry, held));
    });
    let handler = desk.handler.clone();
    let serve = move || {
        let _slot = slot;
        handler(Incoming { link, peer: PeerInfo::look_up(addr, local, key), connection: id });
    };
    if let Err(error) = std::thread::Builder::new().name(format!("session {addr}")).spawn(serve) {
        warn!(%addr, %error, "no thread for a session");
    }
}

/// How many sessions there are.
#[derive(Default)]
struct Sessions {
    max: usize,
    count: Mutex<usize>,
    left: Condvar,
}

struct Slot {
    sessions: Arc<Sessions>,
}

impl Sessions {
    fn enter(sessions: &Arc<Self>) -> Option<Slot> {
        let mut count = sessions.count.lock().unwrap_or_else(PoisonError::into_inner);
        if *count >= sessions.max {
            return None;
        }
        *count += 1;
        Some(Slot { sessions: sessions.clone() })
    }

    /// Waits until all have left; says how many have not.
    fn drain(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            count = self.left.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *count
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut count = self.sessions.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        self.sessions.left.notify_all();
    }
}

#[cfg(test)]
mod tests;
