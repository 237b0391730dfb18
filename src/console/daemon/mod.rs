//! The daemon's console: what an administrator sees and sets. It asks the daemon through `control.sock`, as the commands of an
//! administrator do, and sees what goes on from inside.

mod activity;
mod overview;
mod people;
pub mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, patch, post};
use tokio::sync::Semaphore;

use super::access::Access;
use super::gate::Gate;
use super::live::STREAMS_MAX;
use super::serve::{Bound, ConsoleError, Shared, Whose};
use crate::engine::client::{ClientOptions, Target, now};
use crate::engine::error::EngineError;
use crate::engine::inside::Inside;
use crate::engine::stop::Stop;
use crate::net::packing::Compress;
use crate::net::shutdown::Shutdown;
use crate::store::console_links::{ConsoleLinks, FOLDER, Role};
use crate::store::layout::{META_NAME, OpenMode, Store, StoreError};
use crate::tree::operator;

/// What an operator decides about it.
pub struct ConsoleOptions {
    /// Its port.
    pub bound: Bound,
    /// What opens a session beside links.
    pub password: Option<String>,
    /// This machine's name, as people see it.
    pub host: String,
    /// Other names that lead to it.
    pub names: Vec<String>,
    /// What was configured.
    pub settings: Arc<dyn settings::Settings>,
}

/// The links of the daemon that serves a store, or is a relay with this state.
///
/// # Errors
/// There is none.
pub fn links_of(store: &Path) -> Result<ConsoleLinks, EngineError> {
    match Store::open(store, OpenMode::ReadOnly) {
        Ok(_) | Err(StoreError::IsRelay { .. }) => Ok(ConsoleLinks::new(
            &operator::resolve(store).unwrap_or_else(|_| store.into()).join(META_NAME).join(FOLDER),
        )),
        Err(error) => Err(error.into()),
    }
}

/// What the daemon's own routes need.
struct Daemon {
    inside: Inside,
    settings: Arc<dyn settings::Settings>,
    /// Where it listens now; in settings the port 0 is any free one.
    listen: Mutex<SocketAddr>,
    /// Held while settings change.
    turn: Mutex<()>,
}

impl Daemon {
    fn store(&self) -> PathBuf {
        self.inside.store().to_path_buf()
    }

    /// Where it listens now.
    fn listens_at(&self) -> String {
        self.listen.lock().unwrap_or_else(PoisonError::into_inner).to_string()
    }

    fn listen_at(&self, address: SocketAddr) -> Result<(), EngineError> {
        let address = self.inside.listen_at(address)?;
        *self.listen.lock().unwrap_or_else(PoisonError::into_inner) = address;
        Ok(())
    }

    fn way(&self, whose: Whose) -> ClientOptions {
        way(self.inside.store(), whose)
    }
}

/// As its administrator.
fn way(store: &Path, whose: Whose) -> ClientOptions {
    ClientOptions {
        target: Target::Admin(store.to_path_buf()),
        user: "root".to_owned(),
        of: whose,
        state_dir: PathBuf::new(),
        trust_first_use: false,
        cache_dir: PathBuf::new(),
        retry_for: Duration::ZERO,
        compress: Compress::Never,
        stop: Stop::default(),
    }
}

/// Starts the console beside a daemon that listens on `listen`; what is returned is the link that opens the first session.
///
/// # Errors
/// [`ConsoleError`].
pub fn start(
    options: ConsoleOptions,
    inside: &Inside,
    listen: SocketAddr,
    shutdown: Shutdown,
) -> Result<String, ConsoleError> {
    let ConsoleOptions { bound, password, host, mut names, settings } = options;
    // On loopback only loopback's own names lead here.
    let is_open = !bound.address().ip().is_loopback();
    if is_open {
        names.push(host.clone());
    } else {
        names.clear();
    }
    let links = ConsoleLinks::new(&inside.links_dir());
    let url = match names.first().filter(|_| is_open) {
        // What the certificate is for.
        Some(name) => format!("https://{name}:{}", bound.address().port()),
        None => bound.url(),
    };
    links.announce(&url)?;
    let access = Access::new(Some(links), password.as_deref(), "'rbbackupd console STORE' makes another link");
    let link = format!("{url}/open?token={}", access.token(Role::Admin, now().secs)?);
    let store = inside.store().to_path_buf();
    let shared = Shared {
        program: "rbbackupd",
        name: crate::json::text(store.as_os_str().as_encoded_bytes()),
        gate: Gate { is_open, names, is_secure: bound.is_secure(), port: bound.address().port() },
        host,
        access,
        ways: Box::new(move |whose| way(&store, whose)),
        watched: Arc::new(inside.clone()),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    let daemon =
        Arc::new(Daemon { inside: inside.clone(), settings, listen: Mutex::new(listen), turn: Mutex::default() });
    bound.serve(Arc::new(shared), routes(daemon), shutdown)?;
    Ok(link)
}

fn routes(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/api/v1/overview", get(overview::overview))
        .route("/api/v1/destinations", get(overview::destinations))
        .route("/api/v1/runs", get(activity::runs))
        .route("/api/v1/settings", get(settings::show).put(settings::change))
        .route("/api/v1/users", get(people::list))
        .route("/api/v1/users/{node}/{user}", patch(people::change))
        .route("/api/v1/users/{node}/{user}/revoke", post(people::revoke))
        .route("/api/v1/invitations", post(people::invite))
        .route("/api/v1/invitations/{id}", delete(people::uninvite))
        .with_state(daemon)
}
