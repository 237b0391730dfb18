//! STUB, to be replaced: what every client command needs to know about the other side.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Keys and known daemons.
    pub state_dir: PathBuf,
    /// Hash caches; losing it costs a re-read.
    pub cache_dir: PathBuf,
    /// How long a lost connection is tried again.
    pub retry_for: Duration,
}
