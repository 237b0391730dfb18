//! `rbbackup receive DIR`: a destination (DESIGN 9). It keeps a full store in DIR, fed by a daemon that it dials itself.
//!
//! ```text
//! control.rs   one connection for as long as we live: Attend (what we hold) out, Summon in; lost: dialled again, for ever
//!   └─ Summon ─▶ data.rs   a thread and a connection of its own: Join, then the daemon is the client,
//!                          and receive::serve answers it as in any store
//! ```
//!
//! The store is one like a daemon's: the same hub, packing, pruning, verifying, `control.sock`; it only listens nowhere.
//!
//! **Who stops whom.** The shutdown signal closes all connections, so that every session ends: a run that is not yet
//! committing is cut, and goes on from staging when it comes again; a commit is finished. Data connections outlive a control
//! connection that is lost: each ends with its own link.

mod control;
mod data;
#[cfg(test)]
mod fake_daemon;
mod links;
pub mod observer;
mod said;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use self::links::Links;
use self::observer::Receiving;
use super::client::{ClientOptions, Target};
use super::error::{EngineError, ErrorKind};
use super::fan_out::board::Wants;
use super::hub::{Hub, HubOptions};
use super::prune::Retention;
use super::rules::Rules;
use super::verify::{self, VerifyOptions};
use super::{session, upkeep};
use crate::backup::bytes::escape;
use crate::net::control as control_socket;
use crate::net::shutdown::Shutdown;

/// What a destination is told.
#[derive(Clone, Debug)]
pub struct ReceiveOptions {
    /// The way to the daemon, which must be a server.
    pub client: ClientOptions,
    /// The store's folder; made when it is not there.
    pub store: PathBuf,
    /// What people call this destination.
    pub name: String,
    /// Whose runs it wants, node and user; without a user all of the node; none at all: everybody's.
    pub from: Vec<(String, Option<String>)>,
    /// How much of the past is kept.
    pub retention: Retention,
    /// How it verifies by itself.
    pub verify: VerifyOptions,
}

/// What the connections of one destination share.
struct Place {
    hub: Arc<Hub>,
    client: ClientOptions,
    name: String,
    wants: Wants,
    receiving: Arc<dyn Receiving>,
    links: Links,
    /// Rung when something was committed: it is time to say so.
    news: (Sender<()>, Receiver<()>),
}

/// Receives until `shutdown` is triggered. A daemon that is not there, or is lost, is dialled for ever.
///
/// # Errors
/// The store cannot be used, or the daemon will never take us. [`EngineError`], whose kind is the exit code.
pub fn run(options: ReceiveOptions, receiving: Arc<dyn Receiving>, shutdown: &Shutdown) -> Result<(), EngineError> {
    if !matches!(options.client.target, Target::Server { .. }) {
        return Err(EngineError::new(ErrorKind::Usage, "a destination needs a server"));
    }
    let hub_options =
        HubOptions { rules: Rules { retention: options.retention, ..Rules::default() }, ..HubOptions::default() };
    let hub = Arc::new(Hub::open(&options.store, hub_options)?);
    tracing::info!("'{}' receives to {}", options.name, escape(hub.store.root().as_os_str().as_bytes()));
    let admin: control_socket::Handler = {
        let hub = Arc::clone(&hub);
        Arc::new(move |link| session::serve_admin(&hub, link))
    };
    if let Err(error) = control_socket::serve(&hub.store.meta_path(""), shutdown, admin) {
        tracing::warn!("commands of an administrator cannot reach this store: {error}");
    }
    verify::start(&hub, shutdown, options.verify);
    let upkeep = upkeep::start(&hub, shutdown);
    let place = Arc::new(Place {
        hub: Arc::clone(&hub),
        client: options.client,
        name: options.name,
        wants: Wants(options.from),
        receiving,
        links: Links::default(),
        news: bounded(1),
    });
    let closing = {
        let (place, shutdown) = (Arc::clone(&place), shutdown.clone());
        let close = move || {
            shutdown.wait();
            place.links.close();
            place.client.stop.ask();
        };
        let thread = thread::Builder::new().name("closing".to_owned()).spawn(close);
        thread.map_err(|e| EngineError::new(ErrorKind::Failed, format!("cannot start a thread: {e}")))?
    };
    let outcome = control::run(&place, shutdown);
    shutdown.trigger();
    place.links.wait();
    let _ = closing.join();
    hub.bell.ring();
    if upkeep.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("upkeep stopped in the middle; the next start goes on");
    }
    let _ = hub.catalog.checkpoint();
    outcome
}

#[cfg(test)]
mod tests;
