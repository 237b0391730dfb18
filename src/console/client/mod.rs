//! The client's console: what a person sets, starts and watches on their own machine, on loopback only.

mod jobs;
mod machine;
pub mod profile;
mod server;
mod timer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post, put};
use tokio::sync::Semaphore;

use self::jobs::{Jobs, host_name};
use self::profile::{Profile, Profiles};
use self::timer::Units;
use super::access::Access;
use super::gate::Gate;
use super::live::STREAMS_MAX;
use super::serve::{Bound, ConsoleError, Shared};
use crate::engine::client::{ClientOptions, Target, now};
use crate::engine::prune::Retention;
use crate::engine::push::PushOptions;
use crate::engine::stop::Stop;
use crate::engine::verify::VerifyOptions;
use crate::net::shutdown::Shutdown;
use crate::store::console_links::Role;

/// How long jobs have to end in order.
const LEAVING: Duration = Duration::from_secs(3);

/// What it is told.
pub struct ConsoleOptions {
    /// Its port.
    pub bound: Bound,
    /// What the configuration says of the way to the server.
    pub client: ClientOptions,
    /// What it says of backups.
    pub push: PushOptions,
    /// How much of the past a destination keeps, and how it verifies by itself.
    pub keeping: Keeping,
    /// The login name.
    pub login: Option<String>,
    /// The person's folder.
    pub home: PathBuf,
    /// The folder of configurations, of all programs.
    pub home_config: PathBuf,
    /// This program.
    pub program: PathBuf,
}

/// What the configuration of a store says: a destination is one.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    /// How much of the past is kept.
    pub retention: Retention,
    /// How it is verified.
    pub verify: VerifyOptions,
}

/// What the client's own routes need.
struct Client {
    base: ClientOptions,
    push: PushOptions,
    keeping: Keeping,
    /// The server that is browsed, and under which user name: those that were used last.
    asked: Mutex<Option<(String, Option<String>)>>,
    login: Option<String>,
    home: PathBuf,
    program: PathBuf,
    profiles: Profiles,
    units: Units,
    /// Held while profiles and timers change.
    changing: Mutex<()>,
    jobs: Jobs,
}

impl Client {
    /// One change of profiles and timers at a time: each is read, changed and kept.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to a server, under a name that was said, or the usual one there.
    fn way_to(&self, server: Option<String>, user: Option<String>) -> ClientOptions {
        Profile { server, user, ..Profile::default() }.client(&self.base)
    }

    /// The way to what is browsed.
    fn way(&self) -> ClientOptions {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (server, user) = asked.map_or((None, None), |(server, user)| (Some(server), user));
        self.way_to(server, user)
    }

    /// This is browsed from now on.
    fn uses(&self, server: Option<String>, user: Option<String>) {
        let server = server.or_else(|| self.named_server());
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = server.map(|server| (server, user));
    }

    /// What the configuration names.
    fn named_server(&self) -> Option<String> {
        match &self.base.target {
            Target::Server { server, .. } => Some(server.clone()),
            Target::Store(_) | Target::Admin(_) => None,
        }
    }
}

/// A console that runs.
pub struct Running {
    jobs: Jobs,
    /// What opens the first session.
    pub link: String,
}

impl Running {
    /// Ends what was started, in order.
    pub fn end(&self) {
        self.jobs.stop_all(LEAVING);
    }
}

/// Starts it.
///
/// # Errors
/// [`ConsoleError`].
pub fn start(options: ConsoleOptions, shutdown: Shutdown) -> Result<Running, ConsoleError> {
    let ConsoleOptions { bound, client, push, keeping, login, home, home_config, program } = options;
    let access = Access::new(None, None, "'rbbackup console' makes another link");
    let link = format!("{}/open?token={}", bound.url(), access.token(Role::Admin, now().secs)?);
    let jobs = Jobs::default();
    let name = client.user.clone();
    let client = Arc::new(Client {
        profiles: Profiles::new(&client.state_dir),
        base: ClientOptions { stop: Stop::default(), ..client },
        push,
        keeping,
        asked: Mutex::default(),
        login,
        home,
        program,
        units: Units::new(&home_config),
        changing: Mutex::default(),
        jobs: jobs.clone(),
    });
    let asked = Arc::clone(&client);
    let shared = Shared {
        program: "rbbackup",
        name,
        host: host_name(),
        access,
        gate: Gate { port: bound.address().port(), ..Gate::default() },
        ways: Box::new(move |whose| ClientOptions { of: whose, ..asked.way() }),
        watched: Arc::new(jobs.clone()),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    bound.serve(Arc::new(shared), routes(client), shutdown)?;
    Ok(Running { jobs, link })
}

fn routes(client: Arc<Client>) -> Router {
    Router::new()
        .route("/api/v1/client", get(machine::client))
        .route("/api/v1/folders", get(machine::folders))
        .route("/api/v1/check", post(server::check))
        .route("/api/v1/join", post(server::join))
        .route("/api/v1/profiles", get(machine::profiles))
        .route("/api/v1/profiles/{name}", put(machine::keep).delete(machine::remove))
        .route("/api/v1/profiles/{name}/timer", put(machine::install).delete(machine::uninstall))
        .route("/api/v1/jobs", post(server::start))
        .route("/api/v1/jobs/{id}", delete(server::stop))
        .route("/api/v1/restores", post(server::restore))
        .with_state(client)
}
