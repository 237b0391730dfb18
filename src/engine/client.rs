//! What every client command needs: the way to the store, and who we are there.
//!
//! What we keep about a server stands in `trust::known`. On first contact a server on this machine is believed if its
//! socket belongs to uid 0 or to us; one elsewhere has to be joined, unless the user says that whoever answers is the one.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, HubOptions};
use super::stop::Stop;
use super::trust::known::Known;
use super::trust::{follow, rekey};
use super::{admin, session, upkeep};
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::backup::fingerprint::Timestamp;
use crate::net::client::{ConnectError, ConnectOptions, Connected, connect};
use crate::net::handshake::{HandshakeError, client_hello};
use crate::net::identity::{Identity, PublicKey};
use crate::net::link::Link;
use crate::net::message::{Of, Welcome};
use crate::net::packing::Compress;
use crate::net::peer::PeerInfo;

/// Time for TCP and TLS.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A daemon.
    Server {
        /// `HOST[:PORT]`.
        server: String,
        /// Local address to connect from.
        bind: Option<SocketAddr>,
    },
    /// No daemon: the store engine runs inside this process.
    Store(PathBuf),
    /// Whoever serves this store, or a relay with this state, as its administrator.
    Admin(PathBuf),
}

/// What all client commands share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Where the store is.
    pub target: Target,
    /// User name under which this node backs up.
    pub user: String,
    /// Whose copy is read: node and user; none: one's own.
    pub of: Option<(String, String)>,
    /// Keys and known daemons.
    pub state_dir: PathBuf,
    /// Believe a server elsewhere that is not known yet.
    pub trust_first_use: bool,
    /// Hash caches; losing it costs a re-read.
    pub cache_dir: PathBuf,
    /// How long a lost connection is tried again.
    pub retry_for: Duration,
    /// Whether what travels is packed.
    pub compress: Compress,
    /// Ends a command that runs with these options.
    pub stop: Stop,
}

#[cfg(test)]
impl ClientOptions {
    /// For tests: user `u` of a store that is opened directly; keys and caches below `home`.
    pub(crate) fn of_store(store: &std::path::Path, home: &std::path::Path) -> Self {
        Self {
            target: Target::Store(store.to_path_buf()),
            user: "u".into(),
            of: None,
            state_dir: home.join("state"),
            trust_first_use: false,
            cache_dir: home.join("cache"),
            retry_for: Duration::ZERO,
            compress: Compress::Auto,
            stop: Stop::default(),
        }
    }
}

/// An open way to a store, past the handshake.
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) welcome: Welcome,
    /// The store engine in this process, with `--store`.
    pub(crate) guest: Option<Guest>,
    /// Fingerprints of the daemon's key and of ours.
    pub(crate) keys: Option<(String, String)>,
}

/// A store engine in this process.
pub(crate) struct Guest(JoinHandle<()>);

impl Guest {
    /// Starts it.
    pub(crate) fn spawn(serve: impl FnOnce() + Send + 'static) -> Result<Self, EngineError> {
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(serve);
        let thread = thread.map_err(|e| EngineError::new(ErrorKind::Failed, format!("cannot start a thread: {e}")))?;
        Ok(Self(thread))
    }

    /// Waits until it has put everything away; the link must be closed before.
    pub(crate) fn finish(self) {
        let _ = self.0.join();
    }
}

/// The program's name and version, as peers see it.
pub(crate) fn software() -> String {
    concat!("rbbackup ", env!("CARGO_PKG_VERSION")).to_owned()
}

/// This moment.
pub(crate) fn now() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp { secs: since.as_secs().cast_signed(), nanos: since.subsec_nanos() },
        Err(before) => Timestamp { secs: -before.duration().as_secs().cast_signed(), nanos: 0 },
    }
}

/// 128 random bits.
pub(crate) fn random_run_id() -> Result<RunId, EngineError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|e| EngineError::new(ErrorKind::Failed, format!("the system gives no random numbers: {e}")))?;
    Ok(RunId(id))
}

/// Reaches the store and says hello.
///
/// # Errors
/// Not reachable (10), not allowed (12), a store that cannot be opened (1).
pub(crate) fn open(options: &ClientOptions) -> Result<Session, EngineError> {
    match &options.target {
        Target::Server { server, bind } => open_server(options, server, *bind),
        Target::Store(store) => open_store(options, Hub::open(store, HubOptions::in_process())?),
        Target::Admin(store) => admin::open_any(store, &options.stop),
    }
    .map_err(|error| options.stop.or(error))
}

/// The same to ask and to read only: with `--store` this needs no lock, and goes on beside a daemon.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_to_read(options: &ClientOptions) -> Result<Session, EngineError> {
    let session = match &options.target {
        Target::Server { .. } | Target::Admin(_) => open(options),
        Target::Store(store) => open_store(options, Hub::open_to_read(store)?),
    }?;
    about_another(options, session)
}

/// As [`open`], to change the copy that `--of` names.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_of(options: &ClientOptions) -> Result<Session, EngineError> {
    about_another(options, open(options)?)
}

fn about_another(options: &ClientOptions, session: Session) -> Result<Session, EngineError> {
    if let Some((node, user)) = &options.of {
        session.link.send(Of { node: node.as_bytes().into(), user: user.as_bytes().into() })?;
    }
    Ok(session)
}

fn open_store(options: &ClientOptions, hub: Hub) -> Result<Session, EngineError> {
    let hub = Arc::new(hub);
    let (mut ours, theirs) = Link::pair();
    let user = options.user.clone();
    let stop = options.stop.clone();
    let guest = Guest::spawn(move || {
        session::serve_local(&hub, theirs);
        if !hub.is_read_only() {
            upkeep::once(&hub, &|| !stop.is_asked());
        }
    })?;
    options.stop.begin(&ours.sender)?;
    let welcome = client_hello(&mut ours, user.as_bytes(), &software()).map_err(handshake_error)?;
    Ok(Session { link: ours, welcome, guest: Some(guest), keys: None })
}

/// The way to a server, with a key.
pub(super) fn dial<'a>(
    server: &str,
    bind: Option<SocketAddr>,
    identity: &'a Identity,
    expected: Option<PublicKey>,
) -> ConnectOptions<'a> {
    ConnectOptions { server: server.to_owned(), bind, identity, expected, timeout: CONNECT_PATIENCE }
}

fn open_server(options: &ClientOptions, server: &str, bind: Option<SocketAddr>) -> Result<Session, EngineError> {
    let known = Known::new(&options.state_dir, server, &options.user);
    let mut identity = known.identity()?;
    let connected = reach(&known, server, bind, &identity)?;
    let (mut link, peer) = (connected.link, connected.peer);
    let is_new = known.pin()?.is_none();
    if is_new {
        check_first_contact(options, server, &peer)?;
    }
    options.stop.begin(&link.sender)?;
    let user = options.user.as_bytes();
    link.sender.set_compress(options.compress);
    let mut welcomed = client_hello(&mut link, user, &software()).map_err(handshake_error);
    if matches!(&welcomed, Err(error) if error.kind == ErrorKind::NotAllowed)
        && rekey::settle(options, &known, peer.key)?
    {
        identity = known.identity()?;
        link = reach(&known, server, bind, &identity)?.link;
        options.stop.begin(&link.sender)?;
        link.sender.set_compress(options.compress);
        welcomed = client_hello(&mut link, user, &software()).map_err(handshake_error);
    }
    let mut welcome = welcomed?;
    if !is_this_machine(peer.addr) {
        welcome.store_place = (0, 0);
    }
    if is_new {
        known.keep_pin(&peer.key)?;
        tracing::info!("first contact with {server}: its key {} is kept", peer.key.fingerprint());
    }
    Ok(Session { link, welcome, guest: None, keys: Some((peer.key.fingerprint(), identity.public().fingerprint())) })
}

/// Connects to the server whose key is pinned, or which that key was signed over to.
fn reach(known: &Known, server: &str, bind: Option<SocketAddr>, identity: &Identity) -> Result<Connected, EngineError> {
    let pinned = known.pin()?;
    let error = match connect(&dial(server, bind, identity, pinned)) {
        Ok(connected) => return Ok(connected),
        Err(error) => error,
    };
    if let ConnectError::WrongKey { expected, found, .. } = &error
        && follow::is_the_same(&dial(server, bind, identity, pinned), *expected, *found)?
    {
        known.keep_pin(found)?;
        tracing::warn!("the server at {server} has another key: {found}; the one that was known signed it over");
        return connect(&dial(server, bind, identity, Some(*found))).map_err(|error| connect_error(known, error, ""));
    }
    Err(connect_error(known, error, ""))
}

/// Whether a server that we do not know is believed to be who it says; nothing was said to it yet.
fn check_first_contact(options: &ClientOptions, server: &str, peer: &PeerInfo) -> Result<(), EngineError> {
    if !peer.addr.ip().is_loopback() {
        if options.trust_first_use {
            return Ok(());
        }
        let message = format!(
            "the server at {server} is not known here. Its administrator makes an invitation with 'rbbackupd invite {}', which \
             'rbbackup join {server} TOKEN' redeems; or, if its key is {}, say --trust-first-use. Nothing was sent",
            options.user,
            peer.key.fingerprint()
        );
        return Err(EngineError::new(ErrorKind::NotAllowed, message));
    }
    let ours = rustix::process::geteuid().as_raw();
    // The kernel tells whose the other end is as long as somebody has it: a server that was just killed is nobody's.
    let Some(uid) = peer.uid else {
        let message = format!(
            "the server at {server} was gone before it could be told whose it is; it is not trusted on first contact"
        );
        return Err(EngineError::new(ErrorKind::Unreachable, message));
    };
    if uid != 0 && uid != ours {
        let message = format!(
            "the server at {server} runs as another user of this machine (uid {uid}); it is not trusted on first contact"
        );
        return Err(EngineError::new(ErrorKind::NotAllowed, message));
    }
    Ok(())
}

/// Whether an address is one of this machine's own: then what a server says of its disk is true of ours.
fn is_this_machine(addr: SocketAddr) -> bool {
    let mut own = addr;
    own.set_port(0);
    addr.ip().is_loopback() || UdpSocket::bind(own).is_ok()
}

/// `who`: who else may answer there, in words; empty: it is not what was pinned.
pub(super) fn connect_error(known: &Known, error: ConnectError, who: &str) -> EngineError {
    match &error {
        ConnectError::WrongKey { .. } if who.is_empty() => EngineError::new(
            ErrorKind::NotAllowed,
            format!(
                "{error}. If the daemon was set up anew on purpose, join it with a new invitation, or remove '{}' and run \
                 this again",
                escape(known.pin_path().as_os_str().as_bytes())
            ),
        ),
        ConnectError::WrongKey { .. } => EngineError::new(ErrorKind::NotAllowed, format!("{error}: it is {who}")),
        ConnectError::BadName { .. } => EngineError::new(ErrorKind::Usage, error.to_string()),
        // Some say already what to start.
        ConnectError::Unreachable { why, .. } if !why.contains("rbbackupd") => EngineError::new(
            ErrorKind::Unreachable,
            format!("{error}; is the daemon running there? Start it with: rbbackupd STORE"),
        ),
        _ => EngineError::new(ErrorKind::Unreachable, error.to_string()),
    }
}

pub(super) fn handshake_error(error: HandshakeError) -> EngineError {
    match error {
        HandshakeError::Refused(refused) => refused.into(),
        HandshakeError::Link(error) => error.into(),
        HandshakeError::Silent { .. } => EngineError::new(ErrorKind::Unreachable, error.to_string()),
        other => EngineError::new(ErrorKind::Failed, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_those_that_can_be_bound() {
        let is_own = |addr: &str| is_this_machine(addr.parse().unwrap());
        assert!(is_own("127.0.0.1:8730") && is_own("127.9.9.9:1") && is_own("[::1]:8730"));
        // RFC 5737 keeps it from ever being anybody's.
        assert!(!is_own("192.0.2.1:8730"));
    }
}
