//! The long-running daemon: opens the store, listens, serves, drains.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::error::{EngineError, ErrorKind};
use super::fan_out::heal;
use super::hub::{Hub, HubOptions};
use super::inside::Inside;
use super::prune::Retention;
use super::room::SpaceLimits;
use super::rules::Rules;
use super::verify::{self, VerifyOptions};
use super::{session, upkeep};
use crate::net::control;
use crate::net::listener::{Handler, ListenLimits, Listener};
use crate::net::shutdown::Shutdown;
use crate::store::console_links::ConsoleLinks;

/// How long sessions may go on after the signal to stop; commits under way are finished.
const DRAIN: Duration = Duration::from_secs(25);

/// What the daemon is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonOptions {
    /// The store's folder; a relay's state.
    pub store: PathBuf,
    /// Keep nothing, only pass on.
    pub relay: bool,
    /// Where to listen; `[::]` accepts IPv4 too.
    pub listen: SocketAddr,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Accept a first contact from any address.
    pub trust_first_use: bool,
    /// How much of the past is kept.
    pub retention: Retention,
    /// How it verifies by itself.
    pub verify: VerifyOptions,
    /// How much may be stored.
    pub space: SpaceLimits,
    /// Sessions, and connections that are not welcome yet, of one address (IPv6: of one /64).
    pub address_connections: usize,
    /// Sessions of one identity.
    pub identity_sessions: usize,
}

/// What is started once the store is open and the port is bound, before anybody is served.
pub type Beside = Box<dyn FnOnce(&Inside, SocketAddr) -> Result<(), EngineError>>;

/// Serves until `shutdown` is triggered, then drains. A commit that is still under way when the drain ends is finished
/// by the next start.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
#[allow(clippy::needless_pass_by_value)]
pub fn run(options: DaemonOptions, shutdown: Shutdown, beside: Beside) -> Result<(), EngineError> {
    let DaemonOptions { trust_first_use, retention, relay, space, .. } = options;
    let hub_options = HubOptions { trust_first_use, relay, rules: Rules { retention, space }, ..HubOptions::default() };
    let hub = Arc::new(Hub::open(&options.store, hub_options)?);
    let failed = |message: String| EngineError::new(ErrorKind::Failed, message);
    let key = hub.keys.show(&hub.store)?;
    let mut listener = Listener::bind(options.listen).map_err(|e| failed(e.to_string()))?;
    if hub.options.trust_first_use {
        tracing::warn!("--trust-first-use: whoever reaches this port first under a name gets its directory");
    }
    let control: control::Handler = {
        let hub = Arc::clone(&hub);
        Arc::new(move |link| session::serve_admin(&hub, link))
    };
    if let Err(error) = control::serve(&hub.store.meta_path(""), &shutdown, control) {
        tracing::warn!("commands of an administrator cannot reach this daemon: {error}");
    }
    let inside = Inside::new(&hub, &options.store, listener.mover());
    let links = ConsoleLinks::new(&inside.links_dir());
    // Of a daemon that was killed.
    links.withdraw();
    beside(&inside, listener.local_addr())?;
    tracing::info!(
        "rbbackupd {} serves {}{} on {}, key {}",
        env!("CARGO_PKG_VERSION"),
        if relay { "as a relay, which keeps nothing but its state in " } else { "" },
        hub.store.root().display(),
        listener.local_addr(),
        hub.keys.public(&hub.store)?.fingerprint(),
    );
    let _ending = end_board(&hub, &shutdown)?;
    if !relay {
        verify::start(&hub, &shutdown, options.verify);
    }
    // A relay has nothing to look after.
    let upkeep = (!relay).then(|| upkeep::start(&hub, &shutdown)).flatten();
    let healing = (!relay).then(|| heal::start(&hub, &shutdown)).flatten();
    let limits = ListenLimits {
        max_sessions: options.max_sessions,
        of_address: options.address_connections,
        of_key: options.identity_sessions,
        drain: DRAIN,
    };
    let handler: Handler = {
        let hub = Arc::clone(&hub);
        Arc::new(move |incoming| session::serve(&hub, incoming))
    };
    let served = listener.serve(&key, limits, &hub.connections, &shutdown, handler);
    links.withdraw();
    let left = served.map_err(|e| failed(e.to_string()))?;
    if left > 0 {
        tracing::warn!("cut off: {left} {}", if left == 1 { "session" } else { "sessions" });
    }
    hub.bell.ring();
    hub.healing.ring();
    if healing.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("bringing destinations up to date stopped in the middle; the next start goes on");
    }
    if upkeep.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("upkeep stopped in the middle; the next start goes on");
    }
    let _ = hub.catalog.checkpoint();
    Ok(())
}

/// Destinations stay as long as nobody tells them to go: they do not hold up the drain.
fn end_board(hub: &Arc<Hub>, shutdown: &Shutdown) -> Result<JoinHandle<()>, EngineError> {
    let (board, shutdown) = (hub.board.clone(), shutdown.clone());
    let end = move || {
        shutdown.wait();
        board.end();
    };
    let thread = thread::Builder::new().name("board".to_owned()).spawn(end);
    thread.map_err(|e| EngineError::new(ErrorKind::Failed, format!("cannot start a thread: {e}")))
}
