//! [`Inside`]: what a console that runs in the daemon sees without asking over a link: what goes on, and to whom.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{EngineError, ErrorKind};
use super::fan_out::board::Destination;
use super::hub::Hub;
use super::inspect_serve::behind;
use super::live::{Live, RunName};
use super::rules::Rules;
use crate::backup::relpath::RelPath;
use crate::net::listener::Mover;
use crate::store::console_links::FOLDER;
use crate::store::names::CopyName;

/// The daemon, from inside.
#[derive(Clone)]
pub struct Inside {
    hub: Arc<Hub>,
    store: PathBuf,
    mover: Mover,
}

/// A destination that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attending {
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub address: Option<String>,
    /// Since when, seconds since 1970.
    pub since_secs: i64,
}

/// A run on its way to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnItsWay {
    /// What people call it.
    pub name: String,
    /// Bytes of files that are dealt with.
    pub bytes_done: u64,
    /// Of so many, if that is known.
    pub bytes_total: Option<u64>,
}

impl Inside {
    pub(super) fn new(hub: &Arc<Hub>, store: &Path, mover: Mover) -> Self {
        Self { hub: Arc::clone(hub), store: store.to_path_buf(), mover }
    }

    /// The store's folder.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// What goes on.
    pub fn live(&self) -> &Live {
        &self.hub.live
    }

    /// It only passes on.
    pub fn is_relay(&self) -> bool {
        self.hub.is_relay()
    }

    /// Seconds since the daemon's start.
    pub fn uptime_secs(&self) -> u64 {
        self.hub.started.elapsed().as_secs()
    }

    /// The destinations that are connected, by name.
    pub fn attending(&self) -> Vec<Attending> {
        let there = self.hub.board.list().into_iter();
        there
            .map(|destination| Attending {
                name: destination.name,
                address: destination.address.map(|address| address.to_canonical().to_string()),
                since_secs: destination.since.secs,
            })
            .collect()
    }

    /// Puts other rules into force; runs and prunings that have begun go on with theirs.
    pub fn set_rules(&self, rules: Rules) {
        self.hub.rules.set(rules);
    }

    /// Listens there from now on, and no more where it did; who is connected stays. Where that is, with the port that the
    /// system chose if none was given.
    ///
    /// # Errors
    /// Nobody can listen there; then it goes on where it is.
    pub fn listen_at(&self, address: SocketAddr) -> Result<SocketAddr, EngineError> {
        self.mover.move_to(address).map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))
    }

    /// Where links to the console are left.
    pub fn links_dir(&self) -> PathBuf {
        self.hub.store.meta_path(FOLDER)
    }

    /// How many snapshots of a copy each destination that takes it lacks, by name.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn behind(&self, node: &str, user: &str) -> Result<Vec<(String, u64)>, EngineError> {
        let copy = CopyName::new(node.as_bytes(), user.as_bytes());
        let copy = copy.map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))?;
        let there = self.hub.board.list();
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let snapshots = self.hub.store.snapshots(&copy)?;
        let (roots, all) = (snapshots.roots()?, snapshots.list()?);
        let takes = there.into_iter().filter(|destination| destination.wants.admits(&copy));
        let count =
            |destination: &Destination| roots.iter().map(|root| behind(&all, &copy, &root.root, destination)).sum();
        Ok(takes.map(|destination| (destination.name.clone(), count(&destination))).collect())
    }

    /// Where a run is on its way to, by name.
    pub fn on_its_way(&self, run: &RunName) -> Vec<OnItsWay> {
        let Ok(copy) = CopyName::new(run.node.as_bytes(), run.user.as_bytes()) else { return Vec::new() };
        let Ok(root) = RelPath::from_absolute(&run.root) else { return Vec::new() };
        let there = self.hub.board.list().into_iter();
        there
            .filter_map(|destination| {
                let running = self.hub.board.running(destination.id);
                let found = running.into_iter().find(|running| running.copy == copy && running.root == root)?;
                let (bytes_done, bytes_total) = found.progress;
                Some(OnItsWay { name: destination.name, bytes_done, bytes_total })
            })
            .collect()
    }
}
