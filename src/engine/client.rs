//! What every client command needs: the way to the store, and who we are there.
//!
//! `STATE_DIR/servers/<server>/<user>.key` is the key that we show to one server under one user name;
//! `STATE_DIR/servers/<server>/pin` is that server's key, kept from the first contact. On first contact a server on this
//! machine is believed if its socket belongs to uid 0 or to us; one elsewhere is pinned as it shows itself, and the log
//! says so (until invitations carry its fingerprint).

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, HubOptions};
use super::stop::Stop;
use super::{session, upkeep};
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::backup::fingerprint::Timestamp;
use crate::net::client::{ConnectError, ConnectOptions, connect};
use crate::net::handshake::{HandshakeError, client_hello};
use crate::net::identity::{Identity, PublicKey};
use crate::net::link::Link;
use crate::net::message::{Of, Welcome};

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
    /// Hash caches; losing it costs a re-read.
    pub cache_dir: PathBuf,
    /// How long a lost connection is tried again.
    pub retry_for: Duration,
    /// Ends a command that runs with these options.
    pub stop: Stop,
}

#[cfg(test)]
impl ClientOptions {
    /// For tests: user `u` of a store that is opened directly; keys and caches below `home`.
    pub(crate) fn of_store(store: &Path, home: &Path) -> Self {
        Self {
            target: Target::Store(store.to_path_buf()),
            user: "u".into(),
            of: None,
            state_dir: home.join("state"),
            cache_dir: home.join("cache"),
            retry_for: Duration::ZERO,
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
    }
    .map_err(|error| options.stop.or(error))
}

/// The same to ask and to read only: with `--store` this needs no lock, and goes on beside a daemon.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_to_read(options: &ClientOptions) -> Result<Session, EngineError> {
    let session = match &options.target {
        Target::Server { .. } => open(options),
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

fn open_server(options: &ClientOptions, server: &str, bind: Option<SocketAddr>) -> Result<Session, EngineError> {
    let known = Known::new(&options.state_dir, server, &options.user)?;
    let (identity, expected) = (known.identity()?, known.pin()?);
    let connected = connect(&ConnectOptions {
        server: server.to_owned(),
        bind,
        identity: &identity,
        expected,
        timeout: CONNECT_PATIENCE,
    })
    .map_err(|error| connect_error(&known, error))?;
    let peer = connected.peer;
    if expected.is_none() && peer.addr.ip().is_loopback() {
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
    }
    let mut link = connected.link;
    options.stop.begin(&link.sender)?;
    let user = options.user.as_bytes();
    let mut welcome = client_hello(&mut link, user, &software()).map_err(handshake_error)?;
    if !is_this_machine(peer.addr) {
        welcome.store_place = (0, 0);
    }
    if expected.is_none() {
        known.keep_pin(&peer.key)?;
        tracing::info!("first contact with {server}: its key {} is kept", peer.key.fingerprint());
    }
    Ok(Session { link, welcome, guest: None, keys: Some((peer.key.fingerprint(), identity.public().fingerprint())) })
}

/// Whether an address is one of this machine's own: then what a server says of its disk is true of ours.
fn is_this_machine(addr: SocketAddr) -> bool {
    let mut own = addr;
    own.set_port(0);
    addr.ip().is_loopback() || UdpSocket::bind(own).is_ok()
}

fn connect_error(known: &Known, error: ConnectError) -> EngineError {
    match &error {
        ConnectError::WrongKey { .. } => EngineError::new(
            ErrorKind::NotAllowed,
            format!(
                "{error}. If the daemon was set up anew on purpose, remove '{}' and run this again",
                escape(known.pin_path().as_os_str().as_bytes())
            ),
        ),
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

/// What we keep about one server.
struct Known {
    dir: PathBuf,
    user: String,
}

impl Known {
    fn new(state_dir: &Path, server: &str, user: &str) -> Result<Self, EngineError> {
        let dir = state_dir.join("servers").join(file_name(server));
        fs::create_dir_all(&dir).map_err(|e| {
            EngineError::new(ErrorKind::Failed, format!("cannot create the state folder '{}': {e}", dir.display()))
        })?;
        Ok(Self { dir, user: user.to_owned() })
    }

    fn identity(&self) -> Result<Identity, EngineError> {
        let path = self.dir.join(format!("{}.key", file_name(&self.user)));
        Identity::load_or_create(&path).map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))
    }

    fn pin_path(&self) -> PathBuf {
        self.dir.join("pin")
    }

    fn pin(&self) -> Result<Option<PublicKey>, EngineError> {
        let path = self.pin_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                let message = format!("cannot read the server's pinned key '{}': {e}", path.display());
                return Err(EngineError::new(ErrorKind::Failed, message));
            }
        };
        match PublicKey::from_hex(text.trim()) {
            Some(key) => Ok(Some(key)),
            None => {
                let message = format!("the server's pinned key '{}' is damaged", path.display());
                Err(EngineError::new(ErrorKind::Failed, message))
            }
        }
    }

    fn keep_pin(&self, key: &PublicKey) -> Result<(), EngineError> {
        let (path, temporary) = (self.pin_path(), self.dir.join(format!("pin.{}", std::process::id())));
        fs::write(&temporary, format!("{}\n", key.to_hex()))
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|e| EngineError::new(ErrorKind::Failed, format!("cannot write '{}': {e}", path.display())))
    }
}

/// A text as one file name: what is not a letter, digit, dot, colon or dash becomes `_` and its code.
fn file_name(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let mut out: String =
        text.chars().map(|c| if plain(c) { c.to_string() } else { format!("_{:x}_", c as u32) }).collect();
    if out.starts_with('.') {
        out.insert(0, '_');
    }
    escape(out.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_and_users_cannot_leave_the_state_folder() {
        assert_eq!(file_name("127.0.0.1:8730"), "127.0.0.1:8730");
        assert_eq!(file_name("../x"), "_.._2f_x");
        assert_ne!(file_name("a/b"), file_name("a_b"));
    }

    #[test]
    fn own_addresses_are_those_that_can_be_bound() {
        let is_own = |addr: &str| is_this_machine(addr.parse().unwrap());
        assert!(is_own("127.0.0.1:8730") && is_own("127.9.9.9:1") && is_own("[::1]:8730"));
        // RFC 5737 keeps it from ever being anybody's.
        assert!(!is_own("192.0.2.1:8730"));
    }
}
