//! [`connect`]: from a server's name to a link, TCP and TLS only. What is said on it is the caller's.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::{self, Role, Timing};
use super::identity::{Identity, PublicKey};
use super::link::{Link, LinkCounters};
use super::peer::PeerInfo;
use super::peer_uid::Ends;
use super::socket::Socket;
use super::{runtime, tls};
use crate::backup::limits::PORT;

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct ConnectOptions<'a> {
    /// `HOST[:PORT]`; an IPv6 address with a port stands in brackets.
    pub server: String,
    /// Local address to connect from.
    pub bind: Option<SocketAddr>,
    /// Who we are.
    pub identity: &'a Identity,
    /// The daemon's key; none: take any and report it, the caller decides.
    pub expected: Option<PublicKey>,
    /// Longest for all of it.
    pub timeout: Duration,
}

/// A connection that is ready for `Hello`.
pub struct Connected {
    /// The link.
    pub link: Link,
    /// The daemon.
    pub peer: PeerInfo,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The server's name cannot be read: fix the input.
    #[error("'{server}' is no server: write HOST, HOST:PORT or [IPv6]:PORT")]
    BadName {
        /// As given.
        server: String,
    },
    /// Nobody answers, or the connection broke at once: try again, or start the daemon.
    #[error("no connection to {server}: {why}")]
    Unreachable {
        /// As given.
        server: String,
        /// In words, with what to do.
        why: String,
    },
    /// It is not the daemon that it was.
    #[error(
        "{server} shows the key {found}, but {expected} is expected: another daemon answers there. \
         Nothing was sent"
    )]
    WrongKey {
        /// As given.
        server: String,
        /// The key that is known.
        expected: PublicKey,
        /// The key that it showed.
        found: PublicKey,
    },
    /// What answers does not speak our TLS: trying again will not help.
    #[error("{server} answers, but not as rbbackupd does: {why}")]
    Tls {
        /// As given.
        server: String,
        /// In words.
        why: String,
    },
}

/// Connects. Blocks; for plain threads only.
///
/// # Errors
/// [`ConnectError`].
pub fn connect(options: &ConnectOptions<'_>) -> Result<Connected, ConnectError> {
    let runtime = runtime::handle().map_err(|e| unreachable(options, &format!("no threads: {e}")))?;
    let (stream, counters, round_trip) = runtime.block_on(open(options))?;
    let (socket, session) = stream.get_ref();
    let key = tls::peer_key(session).ok_or_else(|| tls_error(options, "it showed no key"))?;
    let ends = Ends::of(socket.stream()).map_err(|e| unreachable(options, &e.to_string()))?;
    let peer = PeerInfo::look_up(&ends, key);
    let _guard = runtime.enter();
    let (link, _) = connection::spawn(stream, Role::Client, Timing::default(), counters);
    link.sender.round_trip(round_trip);
    Ok(Connected { link, peer })
}

/// The last is how long TLS took: one round trip and little more.
type Opened = (TlsStream<Socket<TcpStream>>, Arc<LinkCounters>, Duration);

async fn open(options: &ConnectOptions<'_>) -> Result<Opened, ConnectError> {
    let deadline = Instant::now() + options.timeout;
    let tcp = open_tcp(options, deadline).await?;
    let seen = tls::SeenKey::default();
    let config = tls::client_config(options.identity, options.expected, seen.clone())
        .map_err(|e| tls_error(options, &e.to_string()))?;
    let counters = Arc::<LinkCounters>::default();
    let began = Instant::now();
    let handshake = TlsConnector::from(Arc::new(config)).connect_with(
        tls::server_name(),
        Socket::new(tcp, counters.clone()),
        |session| session.set_buffer_limit(Some(tls::BUFFER_BYTES)),
    );
    match timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => Ok((stream, counters, began.elapsed())),
        Ok(Err(error)) => {
            let seen = *seen.lock().unwrap_or_else(PoisonError::into_inner);
            Err(handshake_error(options, seen, &error))
        }
        Err(_) => Err(unreachable(options, "it accepts connections and says nothing")),
    }
}

fn handshake_error(options: &ConnectOptions<'_>, seen: Option<PublicKey>, error: &io::Error) -> ConnectError {
    match (options.expected, seen) {
        (Some(expected), Some(found)) if expected != found => {
            ConnectError::WrongKey { server: options.server.clone(), expected, found }
        }
        _ if error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).is_some() => {
            tls_error(options, &error.to_string())
        }
        _ => unreachable(options, &format!("it was cut off at once ({error})")),
    }
}

/// Tries the server's addresses in the resolver's order, each with its share of the time that is left.
async fn open_tcp(options: &ConnectOptions<'_>, deadline: Instant) -> Result<TcpStream, ConnectError> {
    let (host, port) =
        split_server(&options.server).ok_or_else(|| ConnectError::BadName { server: options.server.clone() })?;
    let found = match timeout_at(deadline, lookup_host((host, port))).await {
        Ok(found) => found.map_err(|e| unreachable(options, &format!("its name is not known ({e})")))?,
        Err(_) => return Err(unreachable(options, "its name could not be looked up in time")),
    };
    let usable = |addr: &SocketAddr| options.bind.is_none_or(|bind| bind.is_ipv4() == addr.is_ipv4());
    let addresses: Vec<SocketAddr> = found.filter(usable).collect();
    let mut why = match options.bind {
        Some(bind) => format!("it has no address that can be reached from {}", bind.ip()),
        None => "its name has no address".to_owned(),
    };
    for (tried, addr) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match timeout(share, open_address(*addr, options.bind)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = in_words(&error, *addr),
            Err(_) => why = format!("{addr} does not answer; is the machine on, and the port open?"),
        }
    }
    Err(unreachable(options, &why))
}

async fn open_address(addr: SocketAddr, bind: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bind) = bind {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot connect from {}: {e}", bind.ip()));
        socket.bind(bind).map_err(named)?;
    }
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn in_words(error: &io::Error, addr: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("nothing listens at {addr}; start `rbbackupd STORE` there, or name another server with --server")
        }
        _ => error.to_string(),
    }
}

fn unreachable(options: &ConnectOptions<'_>, why: &str) -> ConnectError {
    ConnectError::Unreachable { server: options.server.clone(), why: why.to_owned() }
}

fn tls_error(options: &ConnectOptions<'_>, why: &str) -> ConnectError {
    ConnectError::Tls { server: options.server.clone(), why: why.to_owned() }
}

/// Host and port of `HOST`, `HOST:PORT`, `[IPv6]`, `[IPv6]:PORT` or a bare IPv6 address; none: it is none of these.
pub fn split_server(server: &str) -> Option<(&str, u16)> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            match after {
                "" => (host, None),
                _ => (host, Some(after.strip_prefix(':')?)),
            }
        }
        None => match server.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (server, None),
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => PORT,
    };
    if host.is_empty() { None } else { Some((host, port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_written_as_people_write_it() {
        assert_eq!(split_server("nas"), Some(("nas", PORT)));
        assert_eq!(split_server("nas:99"), Some(("nas", 99)));
        assert_eq!(split_server("10.0.0.1:99"), Some(("10.0.0.1", 99)));
        assert_eq!(split_server("::1"), Some(("::1", PORT)));
        assert_eq!(split_server("[::1]"), Some(("::1", PORT)));
        assert_eq!(split_server("[::1]:99"), Some(("::1", 99)));
        for bad in ["", ":99", "nas:", "nas:x", "nas:0", "nas:70000", "[::1", "[::1]99", "[]:99"] {
            assert_eq!(split_server(bad), None, "{bad}");
        }
    }
}
