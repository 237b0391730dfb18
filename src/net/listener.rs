//! [`Listener`]: accepts connections and gives each that has something to say its own thread.
//!
//! ```text
//! accept --task--> place -> TLS -> first word -> slot, thread: handler -> admit -> Welcome -> session
//!                  \______________ HANDSHAKE_SECS, 64 KiB: a guest _____________________/
//! ```
//!
//! **Guests.** Until `Welcome` has been sent, everything that a connection costs is bounded whatever it does: time and
//! bytes (`Probation`), places for all and for each neighbourhood (`Guests`), threads. No thread is used for one that
//! says nothing. Its place goes to another when there are too many.
//!
//! **Sessions.** A handler that knows who it is with asks to be admitted ([`Entrance`]): beyond a limit the peer hears
//! `Refused(Unavailable)`. A slot is held until the handler has returned *and* the connection has ended.
//!
//! **Shutdown**: no connection is accepted any more, guests go; handlers are asked by whoever shares the signal with them;
//! their return is waited for until [`ListenLimits::drain`] is over.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::connection::{self, Role, Timing};
use super::connections::{ConnectionId, Connections};
use super::guests::{Guests, Place};
use super::identity::PublicKey;
use super::link::{Link, LinkCounters, LinkError};
use super::message::Refused;
use super::peer::{Neighbourhood, PeerInfo, canonical};
use super::peer_uid::Ends;
use super::probation::Probation;
use super::sessions::{SessionLimits, Sessions, Slot};
use super::shutdown::Shutdown;
use super::socket::Socket;
use super::tls::ServerKey;
use super::{runtime, tls};
use crate::backup::limits::{ADDRESS_CONNECTIONS_MAX, HANDSHAKES_MAX, IDENTITY_SESSIONS_MAX, SESSIONS_MAX};

/// Sockets of guests that may be open: those that have a place, and those that have lost it and not heard of it yet.
const GUEST_SOCKETS_MAX: usize = 2 * HANDSHAKES_MAX;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// Pause after the system refused to accept (out of file descriptors): others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest that anybody waits for a listener to move.
const MOVE_PATIENCE: Duration = Duration::from_secs(10);

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
    /// Of one address (IPv6: of one /64), and as many guests.
    pub of_address: usize,
    /// Sessions of one key.
    pub of_key: usize,
    /// After the shutdown signal, longest wait for handlers to return.
    pub drain: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            max_sessions: SESSIONS_MAX,
            of_address: ADDRESS_CONNECTIONS_MAX,
            of_key: IDENTITY_SESSIONS_MAX,
            drain: Duration::from_secs(60),
        }
    }
}

/// A connection that has proved its key and said something.
pub struct Incoming {
    /// Ready to receive `Hello`.
    pub link: Link,
    /// Who it is.
    pub peer: PeerInfo,
    /// Which of its key's connections.
    pub connection: ConnectionId,
    /// To be asked before it is welcome.
    pub entrance: Entrance,
}

/// Where a peer becomes a session.
pub struct Entrance {
    slot: Arc<Slot>,
}

impl Entrance {
    /// To be asked once it is known who the peer is, before `Welcome`. Whoever is trusted has no limit of its own.
    ///
    /// # Errors
    /// What to say to the peer: there are as many sessions as there may be.
    pub fn admit(&self, is_trusted: bool) -> Result<(), Refused> {
        self.slot.admit(is_trusted)
    }
}

/// Serves one connection, in a thread of its own.
pub type Handler = Arc<dyn Fn(Incoming) + Send + Sync>;

/// A socket that listens.
pub struct Listener {
    socket: StdListener,
    local: SocketAddr,
    timing: Timing,
    moves: Option<UnboundedReceiver<Move>>,
}

/// Moves a listener elsewhere while it serves. Clones move the same one.
#[derive(Clone)]
pub struct Mover(UnboundedSender<Move>);

/// Where to, and who is told.
struct Move {
    addr: SocketAddr,
    /// Nobody waits for it any longer: it is not carried out then.
    until: Instant,
    answer: Sender<Result<SocketAddr, ListenError>>,
}

impl Mover {
    /// Listens there from now on. Blocks; for plain threads only.
    ///
    /// # Errors
    /// [`ListenError::Bind`]: it goes on where it was.
    pub fn move_to(&self, addr: SocketAddr) -> Result<SocketAddr, ListenError> {
        let failed = |why| ListenError::Bind { addr, source: io::Error::other(why) };
        let (answer, answered) = crossbeam_channel::bounded(1);
        let until = Instant::now() + MOVE_PATIENCE;
        self.0.send(Move { addr, until, answer }).map_err(|_| failed("the daemon is stopping"))?;
        answered
            .recv_timeout(MOVE_PATIENCE)
            .map_err(|_| failed("the daemon is busy with the move before; try again"))?
    }
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
        Ok(Self { socket, local, timing: Timing::default(), moves: None })
    }

    /// What moves it while it serves.
    pub fn mover(&mut self) -> Mover {
        let (sender, moves) = unbounded_channel();
        self.moves = Some(moves);
        Mover(sender)
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
            guests: Guests::new(limits.of_address),
            threads: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            sessions: Sessions::new(SessionLimits {
                all: limits.max_sessions,
                of_address: limits.of_address,
                of_key: limits.of_key,
            }),
            connections: connections.clone(),
            shutdown: shutdown.clone(),
            handler,
        });
        let listener = {
            let _guard = runtime.enter();
            TcpListener::from_std(self.socket).map_err(|source| ListenError::Bind { addr: self.local, source })?
        };
        let moves = self.moves.unwrap_or_else(|| unbounded_channel().1);
        runtime.block_on(accept_all(listener, moves, &desk));
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
    guests: Arc<Guests>,
    /// For handlers of guests.
    threads: Arc<Semaphore>,
    sessions: Arc<Sessions>,
    connections: Connections,
    shutdown: Shutdown,
    handler: Handler,
}

async fn accept_all(mut listener: TcpListener, mut moves: UnboundedReceiver<Move>, desk: &Arc<Desk>) {
    let sockets = Arc::new(Semaphore::new(GUEST_SOCKETS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = desk.shutdown.triggered() => return,
            Some(asked) = moves.recv() => {
                if Instant::now() >= asked.until {
                    continue;
                }
                listener = relocate(listener, asked, &desk.shutdown).await;
                continue;
            }
            accepted = accept(&listener, &sockets) => accepted,
        };
        match accepted {
            Ok((stream, addr, socket)) => {
                let addr = canonical(addr);
                let from = Neighbourhood::of(addr.ip());
                let (place, until) = (desk.guests.enter(from), Instant::now() + desk.timing.handshake);
                let guest = Guest { desk: desk.clone(), addr, from, place, _socket: socket, until };
                tokio::spawn(guest.come_in(stream));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn bind_here(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let Listener { socket, local, .. } = Listener::bind(addr)?;
    let listener = TcpListener::from_std(socket).map_err(|source| ListenError::Bind { addr, source })?;
    Ok((listener, local))
}

/// Listens elsewhere, or goes on where it was. Another address of the same port is free only once this one is given up; whoever
/// asked is told before anything else is tried.
async fn relocate(listener: TcpListener, asked: Move, shutdown: &Shutdown) -> TcpListener {
    let tell = |outcome: Result<SocketAddr, ListenError>| {
        if let Ok(local) = &outcome {
            tracing::info!("listens on {local} from now on");
        }
        // Who asked may have gone.
        let _ = asked.answer.send(outcome);
    };
    if listener.local_addr().is_ok_and(|here| here == asked.addr) {
        tell(Ok(asked.addr));
        return listener;
    }
    let error = match bind_here(asked.addr) {
        Ok((new, local)) => {
            tell(Ok(local));
            return new;
        }
        Err(error) => error,
    };
    let before =
        listener.local_addr().ok().filter(|before| before.port() == asked.addr.port() && *before != asked.addr);
    let is_ours = matches!(&error, ListenError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
    let Some(before) = before.filter(|_| is_ours) else {
        tell(Err(error));
        return listener;
    };
    drop(listener);
    match bind_here(asked.addr) {
        Ok((new, local)) => {
            tell(Ok(local));
            new
        }
        Err(error) => {
            tell(Err(error));
            back_to(before, shutdown).await
        }
    }
}

/// Listens where it did a moment ago. At the daemon's end any place will do.
async fn back_to(addr: SocketAddr, shutdown: &Shutdown) -> TcpListener {
    loop {
        let wanted = if shutdown.is_triggered() { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) } else { addr };
        match bind_here(wanted) {
            Ok((listener, _)) => return listener,
            Err(error) => warn!("{error}; trying again"),
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// The next connection, once there is room for its socket: sockets of guests who lost their place are closed at once.
async fn accept(
    listener: &TcpListener,
    sockets: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = sockets.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, addr) = listener.accept().await?;
    Ok((stream, addr, permit))
}

/// A connection that is not welcome yet.
struct Guest {
    desk: Arc<Desk>,
    addr: SocketAddr,
    from: Neighbourhood,
    place: Place,
    _socket: OwnedSemaphorePermit,
    until: Instant,
}

/// A guest that has proved its key.
struct Known {
    stream: TlsStream<Socket<TcpStream>>,
    key: PublicKey,
    ends: Ends,
    counters: Arc<LinkCounters>,
}

impl Guest {
    /// From an accepted socket to the end of the session.
    async fn come_in(self, stream: TcpStream) {
        let (addr, probation) = (self.addr, Probation::new());
        let known = tokio::select! {
            biased;
            why = self.must_go() => return debug!(%addr, "no TLS: {why}"),
            known = self.handshake(stream, &probation) => match known {
                Ok(known) => known,
                Err(error) => return debug!(%addr, %error, "no TLS"),
            },
        };
        let Known { stream, key, ends, counters } = known;
        let desk = &self.desk;
        let (link, mut connection, ender) =
            connection::spawn_on_probation(stream, Role::Daemon, desk.timing, counters, &probation);
        let entry = desk.connections.enter(key, ender.clone());
        let thread = tokio::select! {
            biased;
            why = self.must_go() => {
                debug!(%addr, "it said nothing: {why}");
                return ender.end(LinkError::Lost { why });
            }
            thread = first_word(&link, &desk.threads) => thread,
        };
        let Some(thread) = thread else { return };
        let slot = Arc::new(desk.sessions.slot(self.from, key, thread));
        let (held, id, handler) = (slot.clone(), entry.id, desk.handler.clone());
        let serve = move || {
            let entrance = Entrance { slot };
            handler(Incoming { link, peer: PeerInfo::look_up(&ends, key), connection: id, entrance });
        };
        if let Err(error) = std::thread::Builder::new().name(format!("session {addr}")).spawn(serve) {
            warn!(%addr, %error, "no thread for a session");
        }
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = probation.over() => {}
            why = self.must_go() => {
                debug!(%addr, "not welcome: {why}");
                ender.end(LinkError::Lost { why });
            }
        }
        // A session is no guest any more.
        drop(self);
        let _ = connection.await;
        drop((entry, held));
    }

    async fn handshake(&self, stream: TcpStream, probation: &Probation) -> io::Result<Known> {
        stream.set_nodelay(true)?;
        let ends = Ends::of(&stream)?;
        let counters = Arc::<LinkCounters>::default();
        let socket = Socket::guest(stream, counters.clone(), probation.clone());
        let accept = self.desk.acceptor.accept_with(socket, |tls| tls.set_buffer_limit(Some(tls::BUFFER_BYTES)));
        let stream = accept.await?;
        let key = tls::peer_key(stream.get_ref().1).ok_or_else(|| io::Error::other("it showed no key"))?;
        Ok(Known { stream, key, ends, counters })
    }

    /// Waits until the guest may stay no longer; says why. Cancel-safe.
    async fn must_go(&self) -> String {
        tokio::select! {
            () = self.desk.shutdown.triggered() => "the server stops".to_owned(),
            () = self.place.lost() => "others came, and there were too many".to_owned(),
            () = sleep_until(self.until) => {
                format!("it was not welcome within {} s", self.desk.timing.handshake.as_secs())
            }
        }
    }
}

/// Waits until the peer has said something and a thread may look at it; none: it went without a word.
async fn first_word(link: &Link, threads: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if !link.receiver.something().await {
        return None;
    }
    threads.clone().acquire_owned().await.ok()
}

#[cfg(test)]
mod tests;
